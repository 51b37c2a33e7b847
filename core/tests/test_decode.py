"""
Pages become typed rows: values, forms of a page, derived streams, sums.
"""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from decoding import (
    SENSITIVE,
    Lead,
    LeadData,
    an_array,
    compiled,
    compiled_stream,
    decode_one,
    reasons,
    split_by_day,
    sums,
    written,
)
from penstock.connector import Derived, Stream
from penstock.model import Items
from penstock.records import column, derived, money, record


def test_every_declared_column_is_in_every_row_in_order() -> None:
    """
    Rows have the partition's columns, then the declared ones in their order, null where absent; ``_extra`` only if
    there is something in it.
    """
    shape = compiled(account="advertiser_id", day="report_date")

    decoded = decode_one(shape, an_array({"clickId": "c"}), {"advertiser_id": 7, "report_date": "2026-03-01"})

    expected = ["advertiser_id", "report_date", "click_id", "clicked_at", "job_id", "price", "price_amount", "spend"]
    assert list(written(decoded)[0]) == [*expected, "valid", "day", "offer"]
    assert [one.name for one in shape.layout.columns] == [*expected, "valid", "day", "offer", "_extra"]
    assert shape.layout.partition_columns == ("advertiser_id", "report_date")
    assert written(decoded)[0] == {
        **dict.fromkeys(written(decoded)[0]),
        "advertiser_id": "7",
        "report_date": "2026-03-01",
        "click_id": "c",
    }
    assert decoded.batch.rows[0].report_date == date(2026, 3, 1)


def test_values_are_typed_and_exact() -> None:
    """
    Money keeps the provider's digits, never through a float, and nested parts are kept as they came.
    """
    raw = (
        b'[{"clickId":"a","clickedAt":"2026-03-01 10:00:00","jobId":12345678901234567890123,"price":"45",'
        b'"spend":0.10,"valid":true,"day":"2026-03-01","offer":{"cpc": 1.10}}]'
    )

    (row,) = decode_one(compiled(), Items(raw=memoryview(raw))).batch.rows

    assert (row.clicked_at, row.job_id) == (datetime(2026, 3, 1, 10), 12345678901234567890123)  # noqa: DTZ001
    assert (str(row.price_amount), str(row.spend), row.valid, row.day) == ("0.45", "0.10", True, date(2026, 3, 1))
    assert bytes(row.offer) == b'{"cpc": 1.10}'


@pytest.mark.parametrize(
    ("items", "ids"),
    [
        pytest.param(Items(raw=b'{"clickId": "a"}', format="object"), ["a"], id="object"),
        pytest.param(Items(raw=b'{"clickId": "a"}\n\n{"clickId": "b"}\r\n', format="lines"), ["a", "b"], id="lines"),
        pytest.param(Items(raw=b"[ ]"), [], id="empty"),
    ],
)
def test_forms(items: Items, ids: list[str]) -> None:
    """
    A single object, lines, and nothing at all are read as well as an array.
    """
    assert [row.click_id for row in decode_one(compiled(), items).batch.rows] == ids


def test_csv_is_texts() -> None:
    """
    CSV's texts take the columns' types, and empty fields are null.
    """
    raw = b'a,"12","5",true,2026-03-01 00:00:00\n"b ""x""\ny",,,,\n'
    header = ("clickId", "jobId", "price", "valid", "clickedAt")

    decoded = decode_one(compiled(), Items(raw=raw, format="csv", header=header, texts=True))

    a, b = decoded.batch.rows
    assert (a.job_id, a.price_amount, a.valid, a.clicked_at) == (12, Decimal("0.05"), True, datetime(2026, 3, 1))  # noqa: DTZ001
    assert (b.click_id, b.job_id, b.price, b.valid, b.clicked_at) == ('b "x"\ny', None, None, None, None)


@pytest.mark.parametrize("form", ["csv", "json", "json one by one"])
def test_money_in_text_is_plain_or_nothing(form: str) -> None:
    """
    On every road a text is a number by the rules of JSON, and not by those of Python, which guess.
    """
    texts = ["1.50", "1_000", "٣", "-2e2", ".5"]
    if form == "csv":
        raw = "".join(f"{number},{text}\n" for number, text in enumerate(texts)).encode()
        items = Items(raw=raw, format="csv", header=("clickId", "spend"), texts=True)
    else:
        odd = ["no object"] if form == "json one by one" else []
        items = an_array(*({"clickId": str(number), "spend": text} for number, text in enumerate(texts)), *odd)

    decoded = decode_one(compiled(), items)

    assert [row.spend for row in decoded.batch.rows] == [Decimal("1.50"), None, None, Decimal("-2e2"), Decimal(".5")]
    assert (decoded.unread_values, decoded.unread_example) == (2, ("$[1].spend", "expected a number, got '1_000'"))


@record()
class Priced:
    id: str
    price: str
    amount: Decimal | None = derived(of="price", scale=-2, whole="cents")
    fee: str | None
    fee_amount: Decimal | None = derived(of="fee", scale=-2)


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        ("12.50", "expected a whole number of cents, got '12.50'"),
        ("12.00", "expected a whole number of cents, got '12.00'"),
        ("1e3", "expected a whole number of cents, got '1e3'"),
        ("1_000", "expected a number, got '1_000'"),
        ("١٢", "expected a number, got '١٢'"),
        ("free", "expected a number, got 'free'"),
        ("", "it is blank"),
        (" ", "it is blank"),
    ],
)
def test_a_price_that_is_no_number_of_cents_has_no_amount(price: str, reason: str) -> None:
    """
    A point means another unit than the declared one: a hundredth would be invoiced. The record is delivered with
    the price as it came; its amount is null where it may be, and counted, else the record is rejected.
    """

    @record()
    class Billed(Priced):
        amount: Decimal = derived(of="price", scale=-2, whole="cents")

    page = an_array({"id": "a", "price": "12"}, {"id": "b", "price": price}, {"id": "c", "price": "-7"})

    decoded = decode_one(compiled(Priced, key="id"), page)
    strict = decode_one(compiled(Billed, key="id"), page)

    assert [row.amount for row in decoded.batch.rows] == [Decimal("0.12"), None, Decimal("-0.07")]
    assert [row.price for row in decoded.batch.rows] == ["12", price, "-7"]
    assert (decoded.unread_values, decoded.unread_example) == (1, ("$[1].price", reason))
    assert [row.amount for row in strict.batch.rows] == [Decimal("0.12"), Decimal("-0.07")]
    assert (reasons(strict), strict.batch.rejected[0].column) == ([("$[1]", reason)], "amount")


@pytest.mark.parametrize("others", [[], [{"id": "c", "price": None}]], ids=["numbers only", "with a null"])
def test_a_number_with_a_point_is_no_number_of_cents(others: list[dict[str, object]]) -> None:
    """
    So of a price that is sent as a number, too, whatever the other records of the page have.
    """

    @record()
    class Numbered:
        id: str
        price: Decimal | None
        amount: Decimal | None = derived(of="price", scale=-2, whole="cents")

    page = an_array({"id": "a", "price": 12}, {"id": "b", "price": 12.5}, *others)

    decoded = decode_one(compiled(Numbered, key="id"), page)

    assert [row.amount for row in decoded.batch.rows][:2] == [Decimal("0.12"), None]
    assert decoded.unread_values == 1
    assert "a whole number of cents" in decoded.unread_example[1]


def test_an_amount_that_is_left_out_rejects_nothing() -> None:
    """
    Who knows that the prices are of another unit leaves out the amount, and has them as they are sent.
    """
    shape = compiled(Priced, key="id", exclude=["amount"])

    (row,) = written(decode_one(shape, an_array({"id": "a", "price": "12.50"})))

    assert row["price"] == "12.50"
    assert "amount" not in row


def test_a_price_that_may_be_missing_has_a_null_amount() -> None:
    """
    Null and blank of a nullable column are no amount; a fraction is as good where nothing whole is declared.
    """
    shape = compiled(Priced, key="id")
    fees = [None, "", " ", "12.5"]

    decoded = decode_one(shape, an_array(*({"id": str(n), "price": "1", "fee": fee} for n, fee in enumerate(fees))))

    assert [row.fee_amount for row in decoded.batch.rows] == [None, None, None, Decimal("0.125")]
    assert reasons(decoded) == []


def test_csv_that_does_not_fit() -> None:
    """
    A row of another length is rejected by itself, and digits are no Unix time.
    """
    raw = b"a,2026-03-01 00:00\nb\nc,1700000000\nd,2026-03-01,x\n"

    decoded = decode_one(compiled(), Items(raw=raw, format="csv", header=("clickId", "clickedAt"), texts=True))

    assert [row.clicked_at for row in decoded.batch.rows] == [datetime(2026, 3, 1), None]  # noqa: DTZ001
    assert [path for path, _ in reasons(decoded)] == ["$[1]", "$[3]"]
    assert decoded.unread_example == (
        "$[2].clickedAt",
        'expected a date and time, got \'1700000000\'; if it counts from 1970, declare format="epoch_ms", or "epoch_s"',
    )
    assert decoded.count == 4


@record()
class Quoted:
    id: str
    size: int | None = column(member='size "l"')
    cost: Decimal | None = column(member="Cost\n(USD)")
    drive: str | None = column(path="c:\\.name")
    amount: Decimal | None = money('net "a"')
    rest: str | None = column(member="")
    exact: Decimal | None = derived(of="size", scale=-2)


def test_a_member_whose_name_json_must_escape_is_read() -> None:
    """
    Quotes, backslashes and line ends in a name change nothing: values are typed, unknown members are kept, and a value
    that does not fit is null.
    """
    drive = {"name": "d", "other": 1}
    elements = [
        {"id": "a", 'size "l"': 7, "Cost\n(USD)": 1.5, "c:\\": drive, "": "r"}
        | {'net "a"': {"value": "2.50", "currency": "EUR"}},
        {"id": "b", 'size "l"': "many", 'new "x"': 1},
        {"id": "c"},
        {'size "l"': 1},
    ]

    decoded = decode_one(compiled(Quoted, key="id"), an_array(*elements))

    columns = ("size", "cost", "drive", "amount", "amount_currency", "rest", "exact")
    assert [tuple(row[name] for name in columns) for row in written(decoded)] == [
        (7, Decimal("1.5"), "d", Decimal("2.50"), "EUR", "r", Decimal("0.07")),
        (None,) * 7,
        (None,) * 7,
    ]
    extras = [row.get("_extra") for row in written(decoded)]
    assert extras == [{"c:\\": {"other": 1}}, {'new "x"': 1, 'size "l"': "many"}, None]
    assert [path for path, _ in reasons(decoded)] == ["$[3].id"]


def test_a_header_whose_name_json_must_escape_is_read() -> None:
    """
    A report's header may have line ends and quotes.
    """
    items = Items(raw=b'a,"7",1.5,x\n', format="csv", header=("id", 'size "l"', "Cost\n(USD)", 'new "x"'), texts=True)

    (row,) = written(decode_one(compiled(Quoted, key="id"), items))

    assert (row["id"], row["size"], row["cost"], row["_extra"]) == ("a", 7, Decimal("1.5"), {'new "x"': "x"})


def test_line_ends_inside_nested_parts_do_not_break_lines() -> None:
    """
    A nested part of a pretty-printed answer, or an unknown one, is on one line when written; texts keep theirs.
    """
    raw = b'[\n {\n  "clickId": "a\\nb",\n  "offer": {\n   "x": [1.10,\r\n 2]\n  }, "new": [\n1]\n }\n]'

    decoded = decode_one(compiled(), Items(raw=raw))

    (line,) = msgspec.json.Encoder(decimal_format="number").encode_lines(decoded.batch.rows).splitlines()
    assert json.loads(line)["click_id"] == "a\nb"
    assert b'"offer":{"x":[1.10,2]}' in line
    assert b'"_extra":{"new":[1]}' in line


def test_lines_that_are_not_one_line_each() -> None:
    """
    Objects that follow one another over several lines are read, and written on one line each.
    """
    raw = b'{"clickId": "a", "offer": {\n"x": 1}}\n{"clickId": "b"}\n'

    decoded = decode_one(compiled(), Items(raw=raw, format="lines"))

    assert [row["offer"] for row in written(decoded)] == [{"x": 1}, None]


@pytest.mark.parametrize("nested", ["raw", "plain"])
def test_a_derived_stream_is_cut_from_its_parents_page(nested: Any) -> None:
    """
    The elements of the nested column become rows with their parent's stamps; secrets are gone before, and what does
    not fit is rejected under its path.
    """
    child = Stream(
        name="lead_data",
        summary="",
        record=LeadData,
        kind="changes",
        key=("lead_id", "name"),
        derived=Derived(stream="leads", column="data", stamps={"lead_id": "id"}),
    )
    shape = compiled(Lead, account="enterprise", derived=[child], nested=nested, exclude=["clicks.data"])
    page = an_array(
        SENSITIVE,
        {"id": None, "data": [{"name": "lost"}]},
        {"id": "b", "data": None},
        {"id": "c", "data": {"0": {"name": "phone", "value": 5}}},
        {"id": "d", "data": [{"value": "?"}]},
    )

    decoded = decode_one(shape, page, {"enterprise": "e"})

    (cut,) = decoded.derived
    rows = [(row.enterprise, row.lead_id, row.name, row.value) for row in cut.rows]
    assert rows == [("e", "a", "city", "Leeds"), ("e", "c", "phone", "5")]
    assert [one.path for one in cut.rejected] == ["$[4].data[0].name"]
    assert cut.layout.partition_columns == ("enterprise",)
    assert cut.layout.derived_by == ("lead_id",)
    assert [one.name for one in cut.layout.columns] == ["enterprise", "lead_id", "name", "value", "_extra"]
    assert cut.unknown == ()


def test_sums_are_exact() -> None:
    """
    Measures are summed as decimals, nulls skipped; what is no measure is not summed.
    """
    decoded = decode_one(
        compiled(),
        an_array({"clickId": "a", "price": "10", "spend": "0.1"}, {"clickId": "b", "spend": "0.2"}, {"clickId": "c"}),
    )

    assert {name: str(total) for name, total in sums(decoded.batch).items()} == {"price_amount": "0.10", "spend": "0.3"}


def test_utc_is_the_zone_of_days_unless_configured() -> None:
    """
    A time is taken to UTC where the source names no zone.
    """
    decoded = decode_one(compiled(Lead), an_array({"id": "a", "saved": "2026-03-01T23:30:00-01:00"}))

    assert list(split_by_day(decoded.batch, "saved")) == [datetime(2026, 3, 2, tzinfo=UTC).date()]


def test_a_member_that_reads_like_a_message() -> None:
    """
    Names are the provider's: one that looks like the decoder's own words changes nothing.
    """

    @record()
    class Odd:
        id: str
        count: int | None = column(member="unknown field")

    shape = compiled_stream(Stream(name="x", summary="", record=Odd, kind="snapshot", key="id"))

    decoded = decode_one(
        shape, an_array({"id": "a", "unknown field": "x", 'odd "name"': 1}, {"id": "b", "unknown field": "5"})
    )

    assert [(row.id, row.count) for row in decoded.batch.rows] == [("a", None), ("b", 5)]
    assert decoded.unread_example == ("$[0].unknown field", "expected a number, got 'x'")
