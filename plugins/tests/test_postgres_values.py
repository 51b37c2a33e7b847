"""
Values on their way into a table: by COPY, and as a parameter, they arrive as they were.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
from attrs import evolve
from msgspec import UNSET, Raw
from penstock import Column, Layout, LedgerEntry, SinkError
from penstock.testing.sinks import CLICKS, SOURCE, a_day, click
from postgres_runs import changed, delivered, query
from postgres_statements import PostgresStatements

pytestmark = pytest.mark.slow

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
LATEST = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))  # in UTC, a year that Python does not know
INCOMPRESSIBLE = "".join(hashlib.sha512(str(number).encode()).hexdigest() for number in range(100))


def deliver_things(dsn: str, rows: Sequence[dict[str, Any]], layout: Layout = THINGS) -> LedgerEntry:
    """One partition, of one batch."""
    return delivered(dsn, [{**OWN, "place": place, **row} for place, row in enumerate(rows)], layout)


def stored(dsn: str, column: str) -> list[str | None]:
    """The values of a column as Postgres shows them, in their order."""
    with psycopg.connect(dsn, options="-c timezone=UTC") as connection:
        return [text for (text,) in connection.execute(f'select {column}::text from "acme"."clicks" order by place')]


LATE = timezone(timedelta(hours=-5))
OLD_AMSTERDAM = timezone(timedelta(minutes=19, seconds=32))
AS_SENT = ["", "null", "NULL", r"\N", r"\.", "a\n\\.\nb", '"', '""', "\\", r"\n", r"\u0041", "\\\\\n", "a\rb", "\r\n"]
AS_SENT += [",", "\t", "\x01\x08\x0b\x0c\x1b\x1f\x7f", "Köln 東京 \U0001f600\u2028", "]\n[", "{}", "'"]
MANY_DIGITS = "12345678901234567890123456789012345678"


@pytest.mark.usefixtures("small_or_copied")
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
        "texts",
        "numbers",
        "no finite numbers",
        "integers",
        "booleans",
        "days",
        "naive times",
        "aware times",
        "offsets with seconds",
        "nested values",
        "nested nulls",
    ],
)
def test_a_value_arrives_as_it_was(dsn: str, column: str, values: list[Any], shown: list[str | None]) -> None:
    """
    Every sign and digit, whatever a format could take for a null, an end or an escape; a null beside it stays null.
    """
    entry = deliver_things(dsn, [{column: value} for value in [*values, None]])

    assert (entry.rows, entry.rejected) == (len(values) + 1, 0)
    assert stored(dsn, column) == [*shown, None]


@pytest.mark.usefixtures("small_or_copied")
def test_a_day_in_a_column_that_was_a_time_before_is_its_midnight(dsn: str) -> None:
    """
    A column keeps its type in the table when a narrower one is declared.
    """
    deliver_things(dsn, [{"naive": datetime(2026, 3, 1, 10)}])  # noqa: DTZ001
    columns = [Column(name="naive", type="date") if one.name == "naive" else one for one in THINGS.columns]
    deliver_things(dsn, [{"naive": date(2026, 3, 2)}], evolve(THINGS, columns=tuple(columns)))

    assert stored(dsn, "naive") == ["2026-03-02 00:00:00"]


@pytest.mark.usefixtures("small_or_copied")
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
    A value of another type, such as a plugin's hook may leave, is rejected with its column, whatever Postgres would
    take it for.
    """
    entry = deliver_things(dsn, [{}, {column: value}])

    assert (entry.rows, entry.rejected) == (1, 1)
    assert entry.rejected_records[0].path.endswith(f".{column}")
    assert stored(dsn, "place") == ["0"]


@pytest.mark.usefixtures("small_or_copied")
@pytest.mark.parametrize("place", range(4))
def test_a_refused_row_is_found_among_texts_of_several_lines(dsn: str, place: int) -> None:
    """
    The server counts lines, and its number is that of another row; all values of the right one are rejected.
    """
    rows: list[dict[str, Any]] = [
        {"text": text, "number": Decimal("0.10")} for text in ("\n" * 9, "\r\r", "\r\n", "a\nb")
    ]
    rows[place]["nested"] = Raw(b'["\\ud800"]')
    entry = deliver_things(dsn, rows)

    assert (entry.rows, entry.rejected) == (3, 1)
    assert stored(dsn, "place") == [str(number) for number in range(4) if number != place]
    (rejected,) = entry.rejected_records
    assert rejected.path.endswith(f"place=={place})].nested")
    assert msgspec.json.encode(rows[place]["text"]).decode() + ',"number":0.10' in rejected.raw


@pytest.mark.usefixtures("small_or_copied")
@pytest.mark.parametrize("refused", [{"text": 1}, {"nested": Raw(b'["\\ud800"]')}], ids=["by type", "by the server"])
def test_a_number_that_is_not_finite_is_a_text_in_a_rejected_record(dsn: str, refused: dict[str, Any]) -> None:
    """
    JSON has no such number; the record is rejected for its other value all the same.
    """
    entry = deliver_things(dsn, [{}, {"number": Decimal("NaN"), **refused}])

    assert (entry.rows, entry.rejected) == (1, 1)
    assert '"number":"NaN"' in entry.rejected_records[0].raw


@pytest.mark.usefixtures("no_small_partitions")
def test_refused_rows_are_found_by_halving(dsn: str, postgres_statements: PostgresStatements) -> None:
    """
    A hundred refused rows of a thousand cost a few times the bytes of all rows, not a hundred times.
    """
    entry = deliver_things(
        dsn, [{"nested": Raw(b'["\\ud800"]' if place % 10 == 7 else b"[1]")} for place in range(1000)]
    )

    assert (entry.rows, entry.rejected) == (900, 100)
    assert [one.path for one in entry.rejected_records[:2]] == ["$[?(@.place==7)].nested", "$[?(@.place==17)].nested"]
    sent = [one.copied_bytes for one in postgres_statements.of("copy ") if one.copied_bytes]
    assert sum(sent) < 12 * sent[0]


# --- records that do not fit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_bytes", [0, 2**25], ids=["staged", "direct"])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param({"url": "a\0b"}, "NUL character", id="NUL in a text"),
        pytest.param({"offer": {"a": "x\0"}}, "NUL character", id="NUL in a nested text"),
        pytest.param({"_extra": {"a": "\0"}}, "NUL character", id="NUL in an unknown member"),
        pytest.param({"job_id": -(2**63) - 1}, "beyond the 64 bits", id="integer below bigint"),
        pytest.param({"offer": msgspec.Raw(b'{"n": 1e999999}')}, "numeric", id="nested number out of range"),
        pytest.param({"offer": msgspec.Raw(b'["\\ud800"]')}, "json", id="half a surrogate pair"),
        pytest.param({"click_id": INCOMPRESSIBLE}, "index row", id="key too long for an index"),
        pytest.param({"click_id": INCOMPRESSIBLE, "seen_at": LATEST}, "index row", id="beyond the year 9999"),
        pytest.param({"url": "a\0b", "seen_at": LATEST}, "NUL character", id="beyond 9999, with NUL"),
        pytest.param({"paid": "not a boolean at all", "job_id": "7"}, "bigint", id="another type"),
    ],
)
def test_a_value_that_a_column_cannot_hold_is_rejected(
    dsn: str, values: dict[str, Any], reason: str, memory_bytes: int
):
    """
    The record is rejected with its reason, its neighbours are delivered, and the counts agree.
    """
    rows = [click(1), click(2, **values), click(3), click(4, url=r"a literal \u0000", offer={"a": r"\u0000"})]
    entry = delivered(dsn, rows, sums={"price": Decimal("0.40")}, memory_bytes=memory_bytes)
    again = delivered(dsn, rows, run_id="r2", sums={"price": Decimal("0.40")}, memory_bytes=memory_bytes)

    assert query(dsn, "select click_id from acme.clicks order by 1") == [("c1",), ("c3",), ("c4",)]
    assert (entry.rows, entry.rejected, entry.sums) == (3, 1, {"price": Decimal("0.30")})
    assert (again.rows, again.rejected) == (3, 1)
    (rejected,) = entry.rejected_records
    assert reason in rejected.reason
    assert query(dsn, "select rows, promised, rejected from penstock.partitions") == [(3, None, 1)]
    assert query(dsn, "select reason from penstock.rejected") == [(rejected.reason.replace("\0", "\ufffd"),)]
    assert values.get("seen_at") is None or re.search(
        "10000-01-01T04:00:00[+]00:00|9999-12-31T23:00:00-05:00", rejected.raw
    )


def test_a_constraint_that_refuses_every_row_empties_no_day(dsn: str):
    """
    The partition fails, and keeps its rows and its row in the ledger; so does a day without rows, which is not empty.
    """
    delivered(dsn, [click(1), click(2)])
    query(dsn, "alter table acme.clicks add constraint none check (price > 1000) not valid")

    with pytest.raises(SinkError, match=r'refuses all 2 records of clicks.*"none".*Nothing was replaced'):
        delivered(dsn, [click(3), click(2, url="other")], run_id="r2")

    assert query(dsn, "select click_id, _run_id from acme.clicks order by 1") == [("c1", "r1"), ("c2", "r1")]
    assert query(dsn, "select rows, run_id from penstock.partitions") == [(2, "r1")]
    with pytest.raises(SinkError, match=r'refuses all 1 records of clicks.*"none"'):
        delivered(dsn, [click(1)], run_id="r3", partition=a_day(2))
    assert query(dsn, "select rows, run_id from penstock.partitions") == [(2, "r1")]


def test_a_key_that_comes_twice_is_kept_once(dsn: str):
    """
    The first row of a key stays in a report, as on a page, and the others count as repeated.
    """
    entry = delivered(
        dsn, [click(1), click(2), click(1, url="later", price=Decimal(5))], sums={"price": Decimal("5.2")}
    )

    assert query(dsn, "select click_id, url from acme.clicks order by 1") == [
        ("c1", "https://jobs.example/1"),
        ("c2", "https://jobs.example/2"),
    ]
    assert (entry.rows, entry.repeated, entry.sums) == (2, 1, {"price": Decimal("0.20")})


def test_a_key_that_comes_twice_leaves_the_sums_of_each_currency(dsn: str):
    """
    The sums of each currency are without the amounts of the rows that count as repeated.
    """
    columns = (evolve(column, unit_of="url") if column.name == "price" else column for column in CLICKS.columns)
    rows = [click(1, url="EUR"), click(2, url="USD"), click(1, url="EUR", price=Decimal(5))]
    entry = delivered(
        dsn,
        rows,
        evolve(CLICKS, columns=tuple(columns)),
        sums={"price[EUR]": Decimal("5.1"), "price[USD]": Decimal("0.1")},
    )

    assert entry.sums == {"price[EUR]": Decimal("0.10"), "price[USD]": Decimal("0.10")}


def test_sums_leave_out_a_long_number_exactly(dsn: str):
    """
    A number that is rejected, however long, takes no digit from the sum of those that were delivered.
    """
    layout = changed(CLICKS, Column(name="job_id", type="integer", additive=True))
    rows = [click(1, job_id=2**63 - 1), click(2, job_id=10**300)]
    entry = delivered(dsn, rows, layout, sums={"job_id": Decimal(10**300 + 2**63 - 1)})

    assert entry.sums == {"job_id": Decimal(2**63 - 1)}
