"""
Decimals on their way into a binary COPY: whether each is formatted anew or remembered, the same digits arrive.
"""

from collections.abc import Sequence
from decimal import Decimal

import psycopg
import pytest
from penstock import Batch, Secret
from penstock.testing.sinks import CLICKS, SOURCE, a_day, an_entry, click, rows_of
from penstock_plugins.postgres import rows as of_rows
from penstock_plugins.postgres.sink import PostgresSink
from pg_server import server

FEW = ["0.10", "0.1", "1E+3", "-0", "0", "123456789.123456789"]
MANY = [f"{number}.50" for number in range(60)]


def arrived(numbers: Sequence[str | None], batch: int) -> list[str | None]:
    """The numbers as Postgres shows them, in order, after they came in batches of this size."""
    given = [click(place, price=None if number is None else Decimal(number)) for place, number in enumerate(numbers)]
    with server().database() as dsn:
        target = PostgresSink(dsn=Secret(dsn)).open(SOURCE, "r1")
        writer = target.begin([CLICKS], a_day())
        for start in range(0, len(given), batch):
            writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, given[start : start + batch])))
        writer.commit(an_entry(target.ledger, a_day(), rows=len(given)))
        target.close()
        with psycopg.connect(dsn) as connection:
            shown = connection.execute('select click_id, price::text from "acme"."clicks"').fetchall()
    by_key = dict(shown)
    return [by_key[str(one["click_id"])] for one in given]


@pytest.mark.parametrize("batch", [1000, 7], ids=["a few different ones", "nearly all different"])
def test_numbers_keep_their_digits(batch: int) -> None:
    """
    Equal numbers that look different stay so, nulls stay null, in batches that repeat their numbers and in others.
    """
    numbers: list[str | None] = [*FEW, None] * 12

    assert arrived(numbers, batch) == ["0.10", "0.1", "1000", "0", "0", "123456789.123456789", None] * 12


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A column that shows other numbers in every batch does not fill the memory, and loses none.
    """
    monkeypatch.setattr(of_rows, "NUMBERS_REMEMBERED", 10)
    numbers = [number for number in MANY for _ in range(8)]

    assert arrived(numbers, 80) == numbers
