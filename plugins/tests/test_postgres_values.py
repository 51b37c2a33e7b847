"""
Values on their way into a table: by COPY, and as a parameter, they arrive as they were.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
from attrs import evolve
from msgspec import UNSET, Raw
from penstock import Batch, Column, Layout, LedgerEntry, Secret
from penstock.testing.sinks import SOURCE, a_day, an_entry, rows_of
from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.sink import PostgresSink

TYPES: dict[str, Any] = {
    "text": "text",
    "number": "decimal",
    "whole": "integer",
    "flag": "boolean",
    "day": "date",
    "moment": "datetime",
    "nested": "json",
}
THINGS = Layout(
    source=SOURCE,
    stream="clicks",
    kind="report",
    key=("place",),
    partition_columns=("advertiser_id", "report_date"),
    columns=(
        Column(name="advertiser_id", type="text"),
        Column(name="report_date", type="date"),
        Column(name="place", type="integer"),
        *(Column(name=name, type=type_) for name, type_ in TYPES.items()),
        Column(name="naive", type="datetime", zone="naive"),
        Column(name="_extra", type="json"),
    ),
)
OWN = {"advertiser_id": "2112", "report_date": date(2026, 3, 1)}


@pytest.fixture(params=[500, -1], ids=["small", "copied"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock_plugins.postgres.rows.SMALL_ROWS", request.param)


def deliver(dsn: str, rows: Sequence[dict[str, Any]], layout: Layout = THINGS) -> LedgerEntry:
    """One partition, of one batch."""
    target = PostgresSink(dsn=Secret(dsn)).open(SOURCE, "r1")
    try:
        writer = target.begin([layout], a_day())
        given = [{**OWN, "place": place, **row} for place, row in enumerate(rows)]
        writer.write(Batch(layout=layout, rows=rows_of(layout, given)))
        return writer.commit(an_entry(target.ledger, a_day(), rows=len(rows)))
    finally:
        target.close()


def stored(dsn: str, column: str) -> list[str | None]:
    """The values of a column as Postgres shows them, in their order."""
    with psycopg.connect(dsn, options="-c timezone=UTC") as connection:
        return [text for (text,) in connection.execute(f'select {column}::text from "acme"."clicks" order by place')]


LATE = timezone(timedelta(hours=-5))
OLD_AMSTERDAM = timezone(timedelta(minutes=19, seconds=32))
AS_SENT = ["", "null", "NULL", r"\N", r"\.", "a\n\\.\nb", '"', '""', "\\", r"\n", r"\u0041", "\\\\\n", "a\rb", "\r\n"]
AS_SENT += [",", "\t", "\x01\x08\x0b\x0c\x1b\x1f\x7f", "Köln 東京 \U0001f600\u2028", "]\n[", "{}", "'"]
MANY_DIGITS = "12345678901234567890123456789012345678"


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("column", "values", "shown"),
    [
        ("text", AS_SENT, AS_SENT),
        (
            "number",
            [Decimal(text) for text in ("0.10", "0.1", "1E+3", "-0", "1E-20", MANY_DIGITS, f"-0.{MANY_DIGITS}")] + [7],
            ["0.10", "0.1", "1000", "0", "0.00000000000000000001", MANY_DIGITS, f"-0.{MANY_DIGITS}", "7"],
        ),
        (
            "number",
            [Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"), Decimal("0.10"), 2**70],
            ["NaN", "Infinity", "-Infinity", "0.10", str(2**70)],
        ),
        ("whole", [2**63 - 1, -(2**63), 0], [str(2**63 - 1), str(-(2**63)), "0"]),
        ("flag", [True, False], ["true", "false"]),
        ("day", [date(1, 1, 1), date(9999, 12, 31)], ["0001-01-01", "9999-12-31"]),
        (
            "naive",
            [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)],  # noqa: DTZ001
            ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"],
        ),
        (
            "moment",
            [
                datetime(2026, 3, 1, 1, 2, 3, 1, timezone(timedelta(hours=5, minutes=30))),
                datetime(9999, 12, 31, 23, tzinfo=LATE),
                datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))),
                datetime(1, 1, 1, tzinfo=UTC),
            ],
            [
                "2026-02-28 19:32:03.000001+00",
                "10000-01-01 04:00:00+00",
                "0001-12-31 22:00:00+00 BC",
                "0001-01-01 00:00:00+00",
            ],
        ),
        (
            "moment",
            [datetime(1900, 1, 1, tzinfo=OLD_AMSTERDAM), datetime(2026, 3, 1, tzinfo=UTC)],
            ["1899-12-31 23:40:28+00", "2026-03-01 00:00:00+00"],
        ),
        (
            "nested",
            [{"a": 'q"\\\n\x01', "b": [Decimal("1.10"), None]}, [], "text", "null", 0, Raw(b'{\n"n": 1.10}')],
            [r'{"a": "q\"\\\n\u0001", "b": [1.10, null]}', "[]", '"text"', '"null"', "0", '{"n": 1.10}'],
        ),
        ("nested", [UNSET, Raw(b"null"), {"a": 1}], [None, None, '{"a": 1}']),
    ],
    ids=[
        *("texts", "numbers", "no finite numbers", "integers", "booleans", "days", "naive times", "aware times"),
        *("offsets with seconds", "nested values", "nested nulls"),
    ],
)
def test_a_value_arrives_as_it_was(dsn: str, column: str, values: list[Any], shown: list[str | None]) -> None:
    """
    Every sign and digit, whatever a format could take for a null, an end or an escape; a null beside it stays null.
    """
    entry = deliver(dsn, [{column: value} for value in [*values, None]])

    assert (entry.rows, entry.rejected) == (len(values) + 1, 0)
    assert stored(dsn, column) == [*shown, None]


@pytest.mark.usefixtures("way")
def test_a_day_in_a_column_that_was_a_time_before_is_its_midnight(dsn: str) -> None:
    """
    A column keeps its type in the table when a narrower one is declared.
    """
    deliver(dsn, [{"naive": datetime(2026, 3, 1, 10)}])  # noqa: DTZ001
    columns = [Column(name="naive", type="date") if one.name == "naive" else one for one in THINGS.columns]
    deliver(dsn, [{"naive": date(2026, 3, 2)}], evolve(THINGS, columns=tuple(columns)))

    assert stored(dsn, "naive") == ["2026-03-02 00:00:00"]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("flag", "yes"),
        ("flag", 1),
        ("whole", True),
        ("day", datetime(2026, 3, 1, tzinfo=UTC)),
        ("number", "1"),
        ("text", 1),
    ],
)
def test_a_value_of_another_type_is_not_made_to_fit(dsn: str, column: str, value: Any) -> None:
    """
    Such as a plugin's hook may leave: it is rejected with its column, whatever Postgres would take it for.
    """
    entry = deliver(dsn, [{}, {column: value}])

    assert (entry.rows, entry.rejected) == (1, 1)
    assert entry.rejected_records[0].path.endswith(f".{column}")
    assert stored(dsn, "place") == ["0"]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("place", range(4))
def test_a_refused_row_is_found_among_texts_of_several_lines(dsn: str, place: int) -> None:
    """
    The server counts lines, and its number is that of another row; all values of the right one are rejected.
    """
    rows: list[dict[str, Any]] = [
        {"text": text, "number": Decimal("0.10")} for text in ("\n" * 9, "\r\r", "\r\n", "a\nb")
    ]
    rows[place]["nested"] = Raw(b'["\\ud800"]')
    entry = deliver(dsn, rows)

    assert (entry.rows, entry.rejected) == (3, 1)
    assert stored(dsn, "place") == [str(number) for number in range(4) if number != place]
    (rejected,) = entry.rejected_records
    assert rejected.path.endswith(f"place=={place})].nested")
    assert msgspec.json.encode(rows[place]["text"]).decode() + ',"number":0.10' in rejected.raw


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("refused", [{"text": 1}, {"nested": Raw(b'["\\ud800"]')}], ids=["by type", "by the server"])
def test_a_number_that_is_not_finite_is_a_text_in_a_rejected_record(dsn: str, refused: dict[str, Any]) -> None:
    """
    JSON has no such number; the record is rejected for its other value all the same.
    """
    entry = deliver(dsn, [{}, {"number": Decimal("NaN"), **refused}])

    assert (entry.rows, entry.rejected) == (1, 1)
    assert '"number":"NaN"' in entry.rejected_records[0].raw


def test_refused_rows_are_found_by_halving(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A hundred refused rows of a thousand cost a few times the bytes of all rows, not a hundred times.
    """
    monkeypatch.setattr("penstock_plugins.postgres.rows.SMALL_ROWS", -1)
    sent: list[int] = []
    copy = Database.copy

    def counted(self: Database, statement: str, blocks: Any) -> int:
        every = list(blocks)
        sent.append(sum(map(len, every)))
        return copy(self, statement, every)

    monkeypatch.setattr(Database, "copy", counted)
    entry = deliver(dsn, [{"nested": Raw(b'["\\ud800"]' if place % 10 == 7 else b"[1]")} for place in range(1000)])

    assert (entry.rows, entry.rejected) == (900, 100)
    assert [one.path for one in entry.rejected_records[:2]] == ["$[?(@.place==7)].nested", "$[?(@.place==17)].nested"]
    assert sum(sent) < 12 * sent[0]
