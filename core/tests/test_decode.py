"""
How pages become typed rows: what is delivered, what is set aside, and at what cost.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from attrs import evolve
from hypothesis import given, settings, strategies as st
from penstock._decode import (
    ColumnOptions,
    Decoded,
    Occurrences,
    Requested,
    SeenKeys,
    StreamDecoder,
    compile_stream,
    split_by_day,
    sums,
)
from penstock._decode.coerce import MisfitError, coerce
from penstock._decode.nested import cleaner
from penstock.connector import Derived, Stream
from penstock.errors import BrokenBodyError, ConfigError, PluginError
from penstock.model import Items
from penstock.records import Column, added, column, columns_of, derived, personal, record, row_key, secret, snake
from penstock.redact import Secret


@record(members="camel")
class Click:
    click_id: str
    clicked_at: datetime | None = column(zone="naive")
    job_id: int | None
    price: str | None
    price_amount: Decimal | None = derived(of="price", scale=-2, unit="USD", additive=True)
    spend: Decimal | None = column(additive=True)
    valid: bool | None
    day: date | None
    offer: Any = None


@record()
class Lead:
    id: str
    email: str | None = personal()
    token: str | None = secret()
    data: Any = column(hidden=("[name=hash]", "*.secret"), hidden_personal=("*.value",))
    saved: datetime | None


@record()
class LeadData:
    name: str
    value: str | None


@record()
class Row:
    title: str
    clicks: int | None
    key: str = row_key("title", "clicks")


def decode_one(shape: StreamDecoder, items: Items, columns: Mapping[str, Any] | None = None, **more: Any) -> Decoded:
    """The one batch of a run of elements."""
    seen = more.pop("seen", None)
    (decoded,) = shape.decode((items,), Requested(columns or {}, **more), seen)
    return decoded


def a_stream(cls: type = Click, **output: Any) -> Stream:
    given: dict[str, Any] = {"name": "clicks", "summary": "", "record": cls, "kind": "report", **output}
    given.setdefault("key", {Click: "click_id", Lead: "id", Row: "key", LeadData: ()}.get(cls, ()))
    return Stream(**given)


def compiled(cls: type = Click, **more: Any) -> StreamDecoder:
    output = {name: more.pop(name) for name in ("key", "account", "day", "day_of", "days_per_request") if name in more}
    besides = {name: more.pop(name) for name in ("columns", "derived") if name in more}
    return compile_stream("source", a_stream(cls, **output), ColumnOptions(**more), **besides)


def an_array(*elements: Any, **more: Any) -> Items:
    return Items(raw=json.dumps(elements).encode(), **more)


def written(decoded: Decoded) -> list[dict[str, Any]]:
    """The rows as a file of lines has them, numbers exact."""
    lines = msgspec.json.Encoder(decimal_format="number").encode_lines(decoded.batch.rows)
    return [json.loads(line, parse_float=Decimal) for line in lines.splitlines()]


def reasons(decoded: Decoded) -> list[tuple[str, str]]:
    return [(one.path, one.reason) for one in decoded.batch.rejected]


# --- the usual road -------------------------------------------------------------------------------------------------


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
    assert (decoded.unread_values, decoded.unread_example) == (2, ("$[1].spend", "'1_000' is no number"))


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
        ("12.50", "'12.50' is no whole number of cents"),
        ("12.00", "'12.00' is no whole number of cents"),
        ("1e3", "'1e3' is no whole number of cents"),
        ("1_000", "'1_000' is no number"),
        ("١٢", "'١٢' is no number"),
        ("free", "'free' is no number"),
        ("", "it is blank"),
        (" ", "it is blank"),
    ],
)
def test_a_price_that_is_no_number_of_cents_has_no_amount(price: str, reason: str) -> None:
    """
    A point means another unit than the declared one: a hundredth would be invoiced. The record is delivered with
    the price as it came; its amount is null where it may be, and counted, else the record is set aside.
    """

    @record()
    class Billed(Priced):
        amount: Decimal = derived(of="price", scale=-2, whole="cents")

    page = an_array({"id": "a", "price": "12"}, {"id": "b", "price": price}, {"id": "c", "price": "-7"})

    decoded = decode_one(compile_stream("x", a_stream(Priced, key="id")), page)
    strict = decode_one(compile_stream("x", a_stream(Billed, key="id")), page)

    assert [row.amount for row in decoded.batch.rows] == [Decimal("0.12"), None, Decimal("-0.07")]
    assert [row.price for row in decoded.batch.rows] == ["12", price, "-7"]
    assert (decoded.unread_values, decoded.unread_example) == (1, ("$[1].price", reason))
    assert [row.amount for row in strict.batch.rows] == [Decimal("0.12"), Decimal("-0.07")]
    assert (reasons(strict), strict.batch.rejected[0].column) == ([("$[1]", reason)], "amount")


def test_an_amount_that_is_left_out_rejects_nothing() -> None:
    """
    Who knows that the prices are of another unit leaves out the amount, and has them as they are sent.
    """
    shape = compile_stream("x", a_stream(Priced, key="id"), ColumnOptions(exclude=["amount"]))

    (row,) = written(decode_one(shape, an_array({"id": "a", "price": "12.50"})))

    assert row["price"] == "12.50"
    assert "amount" not in row


def test_a_price_that_may_be_missing_has_a_null_amount() -> None:
    """
    Null and blank of a nullable column are no amount; a fraction is as good where nothing whole is declared.
    """
    shape = compile_stream("x", a_stream(Priced, key="id"))
    fees = [None, "", " ", "12.5"]

    decoded = decode_one(shape, an_array(*({"id": str(n), "price": "1", "fee": fee} for n, fee in enumerate(fees))))

    assert [row.fee_amount for row in decoded.batch.rows] == [None, None, None, Decimal("0.125")]
    assert reasons(decoded) == []


def test_csv_that_does_not_fit() -> None:
    """
    A row of another length is set aside by itself, and digits are no Unix time.
    """
    raw = b"a,2026-03-01 00:00\nb\nc,1700000000\nd,2026-03-01,x\n"

    decoded = decode_one(compiled(), Items(raw=raw, format="csv", header=("clickId", "clickedAt"), texts=True))

    assert [row.clicked_at for row in decoded.batch.rows] == [datetime(2026, 3, 1), None]  # noqa: DTZ001
    assert [path for path, _ in reasons(decoded)] == ["$[1]", "$[3]"]
    assert decoded.unread_example == (
        "$[2].clickedAt",
        '\'1700000000\' is no date and time; if it counts from 1970, declare format="epoch_ms", or "epoch_s"',
    )
    assert decoded.count == 4


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


# --- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [1, 50], ids=["alone", "among others"])
@pytest.mark.parametrize(
    ("member", "sent", "column_name", "value"),
    [
        pytest.param("price", "7", "price", "7", id="an integer in a text column"),
        pytest.param("price", "0.10", "price", "0.10", id="a number's digits in a text column"),
        pytest.param("jobId", '"12"', "job_id", 12, id="digits in an integer column"),
        pytest.param("jobId", "12.0", "job_id", 12, id="a whole number with a point"),
        pytest.param("jobId", '" "', "job_id", None, id="a blank in an integer column"),
        pytest.param("spend", '"1.50"', "spend", Decimal("1.50"), id="a decimal in text"),
        pytest.param("spend", '""', "spend", None, id="an empty text in a decimal column"),
        pytest.param("valid", '"false"', "valid", False, id="a boolean in text"),
        pytest.param("valid", "1", "valid", True, id="a boolean as 1"),
        pytest.param("day", '"2026-03-01T00:00:00Z"', "day", date(2026, 3, 1), id="midnight in a date column"),
        pytest.param("day", '""', "day", None, id="an empty text in a date column"),
        pytest.param("clickedAt", '"2026-03-01 10:00"', "clicked_at", datetime(2026, 3, 1, 10), id="no seconds"),  # noqa: DTZ001
        pytest.param("clickedAt", '"2026-03-01"', "clicked_at", datetime(2026, 3, 1), id="a day in a naive time"),  # noqa: DTZ001
        pytest.param("offer", "null", "offer", None, id="null in a nested column"),
        pytest.param("clickId", "12345678901234567890123", "click_id", "12345678901234567890123", id="a number as key"),
    ],
)
def test_what_loses_nothing_is_taken(member: str, sent: str, column_name: str, value: Any, many: int) -> None:
    """
    A value of another type that holds the same is taken to the column's type, exactly.
    """
    others = b"".join(b',{"clickId":"other %d"}' % n for n in range(many - 1))
    first = f'{{"clickId":"x","{member}":{sent}}}'.encode()

    decoded = decode_one(compiled(), Items(raw=b"[" + first + others + b"]"))

    assert reasons(decoded) == []
    got = getattr(decoded.batch.rows[0], column_name)
    assert (got, type(got), str(got)) == (value, type(value), str(value))


@pytest.mark.parametrize(
    ("element", "path", "reason"),
    [
        pytest.param('{"jobId": 1}', "$[1].clickId", "the member 'clickId' is missing", id="no key"),
        pytest.param('{"clickId": null}', "$[1].clickId", "it is null", id="null key"),
        pytest.param('{"clickId": true}', "$[1].clickId", "expected text, got a boolean", id="boolean as text"),
        pytest.param('{"clickId": {"a": 1}}', "$[1].clickId", "expected text, got an object", id="object as text"),
        pytest.param('[{"clickId": "x"}]', "$[1]", "it is no object", id="an array"),
        pytest.param("null", "$[1]", "it is no object", id="null"),
    ],
)
def test_a_record_without_a_key_is_set_aside_with_path_and_reason(element: str, path: str, reason: str) -> None:
    """
    One bad record does not stop its neighbours, and is kept with its place and the reason.
    """
    decoded = decode_one(compiled(), Items(raw=f'[{{"clickId": "a"}}, {element}, {{"clickId": "b"}}]'.encode()))

    assert [row.click_id for row in decoded.batch.rows] == ["a", "b"]
    ((found, output),) = reasons(decoded)
    assert (found, reason in output) == (path, True), output
    assert (decoded.count, decoded.batch.rejected[0].raw) == (3, element)


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize("many", [1, 50], ids=["alone", "among others"])
@pytest.mark.parametrize(
    ("element", "path", "reason"),
    [
        pytest.param('{"clickId": "x", "jobId": 1.5}', "$[1].jobId", "'1.5' is no whole number", id="half"),
        pytest.param('{"clickId": "x", "jobId": true}', "$[1].jobId", "expected a number, got a boolean", id="bool"),
        pytest.param('{"clickId": "x", "spend": "NaN"}', "$[1].spend", "'NaN' is no number", id="not a number"),
        pytest.param('{"clickId": "x", "spend": "-Infinity"}', "$[1].spend", "'-Infinity' is no number", id="infinity"),
        pytest.param('{"clickId": "x", "spend": 1e999999}', "$[1].spend", "308 digits", id="a bomb of a number"),
        pytest.param('{"clickId": "x", "spend": "1,5"}', "$[1].spend", "'1,5' is no number", id="decimal comma"),
        pytest.param('{"clickId": "x", "spend": "1_000"}', "$[1].spend", "'1_000' is no number", id="underscore"),
        pytest.param(
            '{"clickId": "x", "spend": "١٢"}', "$[1].spend", "'١٢' is no number", id="another script's digits"
        ),
        pytest.param(r'{"clickId": "x", "spend": "\uff11"}', "$[1].spend", "is no number", id="wide digits, escaped"),
        pytest.param('{"clickId": "x", "jobId": "1_0"}', "$[1].jobId", "'1_0' is no number", id="underscore, integer"),
        pytest.param(
            '{"clickId": "x", "price": "1_000"}', "$[1].price", "'1_000' is no number", id="derived, underscore"
        ),
        pytest.param(
            '{"clickId": "x", "price": "１２"}', "$[1].price", "'１２' is no number", id="derived, wide digits"
        ),
        pytest.param('{"clickId": "x", "price": "n/a"}', "$[1].price", "'n/a' is no number", id="derived of no number"),
        pytest.param('{"clickId": "x", "price": "NaN"}', "$[1].price", "'NaN' is no number", id="derived of NaN"),
        pytest.param('{"clickId": "x", "valid": "yes"}', "$[1].valid", "neither true nor false", id="yes"),
        pytest.param('{"clickId": "x", "day": "2026-02-30"}', "$[1].day", "is no date", id="no such day"),
        pytest.param('{"clickId": "x", "day": "2026-03-01T10:00:00"}', "$[1].day", "it has a time", id="time of day"),
        pytest.param(
            '{"clickId": "x", "clickedAt": "2026-03-01T10:00:00Z"}', "$[1].clickedAt", "has a zone", id="zone"
        ),
        pytest.param('{"clickId": "x", "clickedAt": 1700000000}', "$[1].clickedAt", "no date and time", id="Unix time"),
        pytest.param(
            '{"clickId": "x", "jobId": %s}' % ("9" * 5000), "$[1].jobId", "beyond all bounds", id="5000 digits"
        ),
    ],
)
def test_an_unreadable_value_costs_the_value_and_not_the_row(
    element: str, path: str, reason: str, many: int, nested: Any
) -> None:
    """
    A nullable column whose value does not fit is null, on every road. The value as it came is in ``_extra`` under its
    member's name, unless it is in a column already; it is counted, with path and reason of the first.
    """
    others = "".join(f', {{"clickId": "b{n}"}}' for n in range(many))
    decoded = decode_one(compiled(nested=nested), Items(raw=f'[{{"clickId": "a"}}, {element}{others}]'.encode()))

    row = written(decoded)[1]
    member = path.rpartition(".")[2]
    assert (len(decoded.batch), reasons(decoded), decoded.unread_values) == (many + 2, [], 1)
    assert decoded.unread_example is not None
    assert (decoded.unread_example[0], reason in decoded.unread_example[1]) == (path, True)
    if member == "price":
        assert (row["price"], row["price_amount"]) == (json.loads(element)["price"], None)
        assert "_extra" not in row
    else:
        assert row[snake(member)] is None
        assert set(row["_extra"]) == {member}
        sent = json.loads(element, parse_int=str, parse_float=Decimal)[member]
        assert str(row["_extra"][member]) == str(sent)


@pytest.mark.parametrize("form", ["csv", "json", "json one by one"])
def test_unreadable_values_of_columns_that_are_left_out_are_neither_kept_nor_counted(form: str) -> None:
    """
    A value of a column that the settings leave out, or of a secret one, is nowhere: not in ``_extra``, not in a reason.
    """

    @record()
    class Person:
        id: str
        born: date | None = personal()
        pin: int | None = secret()
        seen: datetime | None
        code: int = secret(default=0)

    shape = compile_stream(
        "s",
        Stream(name="x", summary="", record=Person, kind="snapshot", key="id"),
        ColumnOptions(include_personal=False),
    )
    people = [["1", "the 5th", "p1n", "", "5"], ["2", "", "", "soon", "5"], ["3", "", "", "", "c0de"]]
    header = ("id", "born", "pin", "seen", "code")
    if form == "csv":
        raw = "\n".join(map(",".join, people)).encode()
        items = Items(raw=raw, format="csv", header=header, texts=True)
    else:
        items = an_array(
            *({name: value or None for name, value in zip(header, one, strict=True)} for one in people),
            *([1] if form == "json one by one" else []),
        )

    decoded = decode_one(shape, items)

    assert [list(row) for row in written(decoded)] == [["id", "seen"], ["id", "seen", "_extra"]]
    assert written(decoded)[1]["_extra"] == {"seen": "soon"}
    assert (decoded.unread_values, decoded.unread_example) == (1, ("$[1].seen", "'soon' is no date and time"))
    assert reasons(decoded)[0] == ("$[2].code", "its value does not fit a integer column")
    shown = repr(decoded.batch.rejected) + repr(decoded.unread_example)
    assert [text for text in ("the 5th", "p1n", "c0de") if text in shown] == []


def test_columns_that_a_row_cannot_do_without_set_it_aside() -> None:
    """
    Key, partition, a row's day, and what other streams are read by: their record is set aside, nullable or not, and the
    rejection carries the column.
    """
    shape = compiled(key=("click_id", "job_id"), account="price", day="day", day_of="clicked_at", needed=["valid"])

    decoded = decode_one(
        shape,
        an_array(
            *(
                {"clickId": "x", "jobId": 1, "price": "7", "clickedAt": "2026-03-01 00:00:00", **bad}
                for bad in ({"jobId": "one"}, {"price": []}, {"clickedAt": "soon"}, {"valid": "so"}, {"spend": "much"})
            )
        ),
    )

    assert [one.column for one in decoded.batch.rejected] == ["job_id", "price", "clicked_at", "valid"]
    assert (len(decoded.batch), decoded.unread_values) == (1, 1)


@record()
class Spelled:
    id: int
    day: date | None = column(format="%m/%d/%Y")
    due: date = column(format="%Y-%d-%m")


@pytest.mark.parametrize(
    ("form", "lost", "wanted"),
    [
        ("array", [], []),
        ("lines", [], []),
        ("csv", [], []),
        (
            "array",
            [{"id": 4, "day": "13/05/2026", "due": "2026-05-06"}],
            [("$[3].day", "'13/05/2026' is no day %m/%d/%Y")],
        ),
        ("array", [17], [("$[3]", "it is no object")]),
        (
            "array",
            [{"id": 4, "day": ["06/05/2026"], "due": "2026-05-06"}],
            [("$[3].day", "an array is no day %m/%d/%Y")],
        ),
    ],
    ids=["array", "lines", "csv", "one does not fit", "one is no object", "one is an array"],
)
def test_days_of_another_form_are_read_as_declared(form: str, lost: list[Any], wanted: list[tuple[str, str]]) -> None:
    """
    On every road: month first or day first is never guessed, an ISO day that the form does not read is taken, and a
    value of neither is not read.
    """
    sent: list[dict[str, Any]] = [
        {"id": 1, "day": "06/05/2026", "due": "2026-05-06"},
        {"id": 2, "day": "2026-06-05", "due": "2026-13-06"},
        {"id": 3, "day": None, "due": "2026-05-31"},
    ]
    items = Items(raw=json.dumps([*sent, *lost]).encode())
    if form == "lines":
        items = Items(raw=b"\n".join(json.dumps(one).encode() for one in sent), format="lines")
    if form == "csv":
        rows = "".join(f"{one['id']},{one['day'] or ''},{one['due']}\n" for one in sent)
        items = Items(raw=rows.encode(), format="csv", texts=True, header=("id", "day", "due"))

    decoded = decode_one(compiled(Spelled, key="id"), items)

    assert [(row.id, row.day, row.due) for row in decoded.batch][:3] == [
        (1, date(2026, 6, 5), date(2026, 6, 5)),
        (2, date(2026, 6, 5), date(2026, 6, 13)),
        (3, None, date(2026, 5, 31)),
    ]
    assert [*reasons(decoded), *filter(None, [decoded.unread_example])] == wanted


def test_only_dates_have_a_form() -> None:
    """
    A form that nobody would read by is a mistake of the record class.
    """
    with pytest.raises(TypeError, match="only a date or a time has a format"):

        @record()
        class Wrong:
            day: str = column(format="%m/%d/%Y")


def test_the_configuration_may_say_the_form_of_a_declared_day() -> None:
    """
    A configured column that is a declared one but for its form takes its place; any other is refused.
    """
    stream = a_stream(key="click_id")
    day = next(one for one in stream.columns if one.name == "day")

    shaped = compile_stream("shop", stream, columns=(evolve(day, format="%d.%m.%Y"),))

    assert list(shaped.columns) == [one.name for one in stream.columns]
    assert shaped.columns["day"].format == "%d.%m.%Y"
    with pytest.raises(ConfigError, match="has a column day already"):
        compile_stream("shop", stream, columns=(evolve(day, format="%d.%m.%Y", member="other"),))


def test_aware_times_need_a_zone() -> None:
    """
    A column whose provider states a zone does not read a time without one, and keeps the offset of the others.
    """
    decoded = decode_one(
        compiled(Lead),
        an_array({"id": "a", "saved": "2026-03-01T10:00:00+02:00"}, {"id": "b", "saved": "2026-03-01 10:00"}),
    )

    row, zoneless = decoded.batch.rows
    assert row.saved == datetime(2026, 3, 1, 10, tzinfo=timezone(timedelta(hours=2)))
    assert written(decoded)[0]["saved"].endswith("+02:00")
    assert zoneless.saved is None
    assert "has no zone" in str(decoded.unread_example)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.decimals(-1000, 1000, places=2).map(lambda number: Decimal(str(number))),
    st.sampled_from(["", " ", "x", "5", " 6 ", "1.50", "true", "0", "NaN", "2026-03-01", "2026-03-01 00:00:00"]),
    st.sampled_from(["2026-03-01T10:00:00Z", "2026-13-01", [], {}, [1], {"a": [1]}]),
)
MEMBERS = ("clickId", "clickedAt", "jobId", "price", "spend", "valid", "day", "offer", "new", 'odd "name"')
GOOD = {"clickId": "c", "clickedAt": "2026-03-01 00:00:00", "jobId": 1, "price": "1", "spend": Decimal("1.5")}
ELEMENTS = st.lists(
    st.one_of(
        JUNK,
        st.dictionaries(st.sampled_from(MEMBERS), JUNK),
        st.dictionaries(st.sampled_from(MEMBERS), JUNK, max_size=2).map(lambda some: {**GOOD, **some}),
    ),
    max_size=8,
)


def reference(element: Any, columns: Sequence[Column]) -> dict[str, Any]:
    """What one element becomes, in plain Python; raises MisfitError."""
    if not isinstance(element, dict):
        raise MisfitError("no object")
    left = dict(element)
    row: dict[str, Any] = {}
    for one in columns:
        if one.member is not None:
            sent = left.pop(one.member, None)
            try:
                row[one.name] = coerce(one, sent)
            except MisfitError:
                if not one.nullable:
                    raise
                row[one.name], left[one.member] = None, sent
            if row[one.name] is None and not one.nullable:
                raise MisfitError("null")
    text = (row["price"] or "").strip()
    amount = Column(name="amount", type="decimal")
    try:
        row["price_amount"] = None if not text else coerce(amount, coerce(amount, text) * Decimal("0.01"))
    except MisfitError:
        row["price_amount"] = None
    return {**row, "_extra": left or None}


@given(elements=ELEMENTS, nested=st.sampled_from(["raw", "plain"]), form=st.sampled_from(["array", "lines"]))
@settings(max_examples=300, deadline=None)
def test_every_road_leads_to_the_same_rows(elements: list[Any], nested: Any, form: Any) -> None:
    """
    Whatever a page holds, its rows and what it sets aside are those of a decoder that takes one element at a time.
    """
    shape = compiled(key=(), nested=nested)
    encoder = msgspec.json.Encoder(decimal_format="number")
    raw = encoder.encode(elements) if form == "array" else encoder.encode_lines(elements)
    expected, bad = [], []
    for place, element in enumerate(elements):
        try:
            expected.append(reference(element, shape.layout.columns))
        except MisfitError:
            bad.append(place)

    decoded = decode_one(shape, Items(raw=raw, format=form))

    columns = [one.name for one in shape.layout.columns]
    plain = [{name: comparable(getattr(row, name)) for name in columns} for row in decoded.batch.rows]
    assert plain == expected
    assert sorted(one.path.partition("]")[0] for one in decoded.batch.rejected) == sorted(f"$[{n}" for n in bad)
    assert decoded.count == len(elements)
    known = {one.member for one in shape.layout.columns}
    assert set(decoded.batch.unknown) >= {name for row in expected for name in row["_extra"] or ()} - known


def comparable(value: Any) -> Any:
    """A cell as a plain value."""
    if value is msgspec.UNSET:
        return None
    if isinstance(value, msgspec.Raw):
        return msgspec.json.Decoder(float_hook=Decimal).decode(value)
    return {name: comparable(item) for name, item in value.items()} if isinstance(value, dict) else value


# --- unknown members ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize("names", [["new"], ['odd "name"', "x"], [f"m{n}" for n in range(100)]])
def test_unknown_members_are_kept_and_named(names: list[str], nested: Any) -> None:
    """
    Members that nobody declared are in ``_extra`` of their record only, however many there are and whatever their
    names, and are named once per page.
    """
    shape = compiled(nested=nested)
    page = an_array({"clickId": "a", **dict.fromkeys(names, 1.5)}, {"clickId": "b"})

    for _ in range(2):
        decoded = decode_one(shape, page)

        assert decoded.batch.unknown == tuple(sorted(names))
        assert [row.get("_extra") for row in written(decoded)] == [dict.fromkeys(names, Decimal("1.5")), None]
    assert decode_one(shape, an_array({"clickId": "c"})).batch.unknown == ()


def test_a_provider_cannot_set_a_stamped_column() -> None:
    """
    A member named like a column that penstock adds is unknown, and does not become that column.
    """
    decoded = decode_one(
        compiled(account="advertiser_id"),
        an_array({"clickId": "a", "advertiser_id": "evil", "_extra": 1, "price_amount": 9}),
        {"advertiser_id": "7"},
    )

    (row,) = written(decoded)
    assert (row["advertiser_id"], row["price_amount"]) == ("7", None)
    assert row["_extra"] == {"advertiser_id": "evil", "_extra": 1, "price_amount": 9}


# --- stamps ---------------------------------------------------------------------------------------------------------


def test_runs_of_one_answer_are_joined_and_keep_their_stamps() -> None:
    """
    Small runs make one batch; each record has its run's stamps, and a rejected one its path in the body.
    """
    runs = [
        an_array({"clickId": "a"}, columns={"report_date": "2026-03-01"}, path="$.r.2026-03-01"),
        Items(raw=b'{"clickId": "b"}', format="object", columns={"report_date": "2026-03-02"}, path="$.r.2026-03-02"),
        an_array({"clickId": "c"}, {}, columns={"report_date": "2026-03-03"}, path="$.r.2026-03-03"),
    ]

    (decoded,) = compiled(day="report_date").decode(runs)

    assert [(row.click_id, row.report_date.day) for row in decoded.batch.rows] == [("a", 1), ("b", 2), ("c", 3)]
    assert [path for path, _ in reasons(decoded)] == ["$.r.2026-03-03[1].clickId"]


def test_money_may_come_as_text_on_one_page_and_as_a_number_on_the_next() -> None:
    """
    What was seen of a column on one page changes nothing on the next, whatever comes there.
    """
    shape = compiled()
    pages: list[list[Any]] = [["0.10", "1.5", None], [2, 0.25, None], ["3.00", 4, "1_000"], [True, "7"], ["1e2"]]

    read = [
        decode_one(shape, an_array(*({"clickId": str(n), "spend": one} for n, one in enumerate(page))))
        for page in pages
    ]

    assert [[str(row.spend) for row in one.batch.rows] for one in read] == [
        ["0.10", "1.5", "None"],
        ["2", "0.25", "None"],
        ["3.00", "4", "None"],
        ["None", "7"],
        ["1E+2"],
    ]
    assert [one.unread_example[0] for one in read if one.unread_example] == ["$[2].spend", "$[0].spend"]


def test_a_large_array_comes_in_parts() -> None:
    """
    A large body is decoded in parts, in order, with its stamps and with paths into the whole.
    """
    elements: list[Any] = [{"clickId": str(n), "offer": "x" * 1000} for n in range(4000)]
    elements[3000] = {"clickId": None}
    shape = compiled(account="advertiser_id")

    parts = list(shape.decode([an_array(*elements, columns={"advertiser_id": "7"})]))

    rows = [row for part in parts for row in part.batch.rows]
    assert [row.click_id for row in rows] == [str(n) for n in range(4000) if n != 3000]
    assert {row.advertiser_id for row in rows} == {"7"}
    assert len(parts) == 8  # of half a mebibyte
    assert sum(part.count for part in parts) == 4000
    assert [path for part in parts for path, _ in reasons(part)] == ["$[3000].clickId"]


def test_the_parts_of_an_array_are_one_page() -> None:
    """
    A row that an earlier part had is repeated on its page; with other values it is set aside. What the page before had
    is repeated, too, and not fresh.
    """
    seen = SeenKeys()
    shape = compiled()
    decode_one(shape, an_array({"clickId": "before"}), seen=seen)
    elements: list[Any] = [{"clickId": str(n), "offer": "x" * 1000, "jobId": n} for n in range(4000)]
    elements += [elements[1], {**elements[2], "jobId": 3}, {"clickId": "before"}]

    parts = list(shape.decode([an_array(*elements)], seen=seen))

    assert sum(len(part.batch) for part in parts) == 4000
    assert [sum(one) for one in zip(*[(p.repeated, p.fresh) for p in parts], strict=True)] == [2, 4002]
    assert [output for part in parts for output in reasons(part)] == [
        ("$[4001].clickId", "the key click_id 2 came before on this page, with other values")
    ]


@pytest.mark.parametrize("kind", ["report", "changes"])
@pytest.mark.parametrize("size", [10, 4000], ids=["small", "in chunks"])
@pytest.mark.parametrize("bound", [100_000, 100], ids=["in memory", "in a file"])
@pytest.mark.parametrize("space", ["", "\n"], ids=["compact", "with line ends"])
def test_repeats_on_the_only_page_are_those_of_any_page(kind: Any, size: int, bound: int, space: str) -> None:
    """
    On the only page of a listing values are compared where a key repeats, by reading both elements again: with the same
    results as by fingerprints of all rows. Members in another order, and numbers spelled as text, are no other values.
    """
    elements: list[Any] = [
        {"clickId": str(n), "price": "1", "offer": {"of": "x" * 1000, "n": [1, 2]}, "jobId": n} for n in range(size)
    ]
    elements[5] = {"clickId": None}
    elements += [
        elements[1],
        {**elements[2], "jobId": 3},
        dict(reversed(elements[3].items())),
        {**elements[4], "price": "1", "jobId": 4},
        {**elements[2], "jobId": 3},
        elements[2],
        {**elements[0], "new": "member"},
        {"clickId": "last", "price": "1"},
        elements[1],
    ]
    raw = json.dumps(elements, indent=None).replace('"n": ', f'"n":{space} ').encode()
    shape = compile_stream("s", a_stream(kind=kind))

    both = [
        list(shape.decode((Items(raw=raw),), seen=SeenKeys(bound=bound, one_page=one_page)))
        for one_page in (True, False)
    ]

    found = [
        (
            [(one.count, one.fresh, one.repeated, one.superseded) for one in parts],
            [msgspec.json.encode(row) for one in parts for row in one.batch.rows],
            [output for one in parts for output in reasons(one)],
        )
        for parts in both
    ]
    assert found[0] == found[1]
    assert sum(one.repeated for one in both[0]) >= 3
    assert any(one.superseded for one in both[0]) if kind == "changes" and size > 10 else bool(found[0][2])


def test_rows_without_a_key_that_come_again_in_another_part_are_fresh() -> None:
    """
    Equal rows without a key of their own are two records, wherever in their page they are.
    """
    elements = [{"title": f"{n} {'x' * 1000}"} for n in range(4000)]

    parts = list(compiled(Row).decode([an_array(*elements, elements[0])]))

    assert sum(part.fresh for part in parts) == 4001
    assert len({row.key for part in parts for row in part.batch.rows}) == 4001


@pytest.mark.parametrize(
    "inside",
    [
        [{"a": 1}, {"b": [{}, {}]}] * 50,
        "},{" * 300,
        '"},{"' * 200,
        {"a": [[{}, {}], [{}, {}]] * 50},
        "\\" * 300 + '"},{',
    ],
    ids=["nested objects", "a text", "a text with quotes", "arrays in arrays", "escapes"],
)
@pytest.mark.large
def test_a_large_array_is_never_cut_inside_an_element(inside: Any) -> None:
    """
    What looks like the end of an element and is none does not change what is read, nor is anything read twice.
    """
    elements: list[Any] = [{"clickId": str(n), "offer": inside} for n in range(3600)]
    elements[2500] = {"clickId": None}
    shape = compiled()

    parts = list(shape.decode([an_array(*elements)]))

    assert len(parts) > 1
    alone = [decode_one(shape, an_array(*elements[start : start + 100])) for start in range(0, len(elements), 100)]
    assert [line for part in parts for line in written(part)] == [line for part in alone for line in written(part)]
    assert [path for part in parts for path, _ in reasons(part)] == ["$[2500].clickId"]
    assert {part.repeated for part in parts} == {0}


def test_a_large_array_that_is_cut_is_no_json() -> None:
    """
    A large body that ends too soon is an error, not fewer records.
    """
    raw = an_array(*({"clickId": str(n), "offer": "x" * 1000} for n in range(4000))).raw

    with pytest.raises(BrokenBodyError):
        list(compiled().decode([Items(raw=raw[:-1])]))


def test_a_stamp_that_the_provider_sends_too_must_agree() -> None:
    """
    A row of another account than the one requested belongs elsewhere; a null one is filled.
    """
    decoded = decode_one(
        compiled(account="job_id"),
        an_array({"clickId": "a", "jobId": 7}, {"clickId": "b"}, {"clickId": "c", "jobId": 8}),
        {"job_id": "7"},
    )

    assert [(row.click_id, row.job_id) for row in decoded.batch.rows] == [("a", 7), ("b", 7)]
    assert reasons(decoded) == [("$[2].jobId", "job_id is 8, and 7 was requested")]


def test_stamps_that_do_not_fit() -> None:
    """
    A request's stamp that is no column, or no value of it, is the connector's fault; the answer's own, the record's.
    """
    shape = compiled(day="report_date")

    with pytest.raises(PluginError, match="nowhere"):
        decode_one(shape, an_array({"clickId": "a"}), {"nowhere": 1})
    with pytest.raises(PluginError, match="report_date"):
        decode_one(shape, an_array({"clickId": "a"}), {"report_date": "soon"})
    decoded = decode_one(shape, an_array({"clickId": "a"}, columns={"report_date": "total"}))
    assert reasons(decoded) == [("$[0]", "'total' is no date and time")]


def test_an_added_column_that_must_have_a_value() -> None:
    """
    A record whose required stamp is null is rejected; that nothing stamps any is the connector's fault.
    """

    @record()
    class Stamped:
        id: str
        parent: str = added()

    shape = compile_stream("s", Stream(name="x", summary="", record=Stamped, kind="snapshot", key="id"))

    assert reasons(decode_one(shape, an_array({"id": "a"}), {"parent": None})) == [("$[0]", "parent has no value")]
    with pytest.raises(PluginError, match="the column parent is declared as added, and nothing fills it"):
        decode_one(shape, an_array({"id": "a"}))
    assert len(decode_one(shape, an_array({"id": "a"}), {"parent": "p"}).batch) == 1


def test_days_are_cut_in_the_sources_zone() -> None:
    """
    The day of a record is that of its time in the zone; rows of days that were not requested are set aside.
    """
    shape = compiled(Lead, day="report_date", day_of="saved", days_per_request=3, zone=ZoneInfo("America/New_York"))
    page = an_array(
        {"id": "a", "saved": "2026-03-02T04:59:00Z"},
        {"id": "b", "saved": "2026-03-02T05:00:00Z"},
        {"id": "c", "saved": "2026-03-05T00:00:00Z"},
        {"id": "d"},
    )

    decoded = decode_one(shape, page, days={date(2026, 3, 1), date(2026, 3, 2)})

    parts = split_by_day(decoded.batch, "report_date")
    assert {day.day: [row.id for row in part.rows] for day, part in parts.items()} == {1: ["a"], 2: ["b"]}
    assert parts == split_by_day(decoded.batch, "saved", ZoneInfo("America/New_York"))
    assert [path for path, _ in reasons(decoded)] == ["$[2].saved", "$[3].saved"]


def test_what_is_of_another_ask_is_dropped() -> None:
    """
    Where the provider may include the end of a period, rows of that moment are dropped and counted as repeated, and so
    is what is earlier or later but still of the days requested; a row of any other day is set aside.
    """
    shape = compiled(Lead, day="report_date", day_of="saved")
    page = an_array(
        {"id": "a", "saved": "2026-03-02T11:59:59Z"},
        {"id": "b", "saved": "2026-03-02T12:00:00Z"},
        {"id": "c", "saved": "2026-03-02T23:00:00Z"},
        {"id": "d", "saved": "2026-03-05T00:00:00Z"},
    )
    first, noon = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 2, 12, tzinfo=UTC)
    last = datetime(2026, 3, 5, tzinfo=UTC)

    half = decode_one(shape, page, span=(first, noon), days={date(2026, 3, 2)})
    rest = decode_one(shape, page, span=(noon, last), days={date(2026, 3, 2)})
    whole = decode_one(shape, page, span=(first, last), days={date(2026, 3, 2)})

    assert [row.id for row in half.batch.rows] == ["a"]
    assert [path for path, _ in reasons(half)] == ["$[3].saved"]
    assert (half.count, half.repeated) == (4, 2)
    assert [row.id for row in rest.batch.rows] == ["b", "c"]
    assert (rest.count, rest.repeated, rest.batch.rejected) == (4, 2, ())
    assert [row.id for row in whole.batch.rows] == ["a", "b", "c"]
    assert (whole.count, whole.repeated, whole.batch.rejected) == (4, 1, ())


# --- keys -----------------------------------------------------------------------------------------------------------


def test_equal_keys() -> None:
    """
    The same row twice is delivered once and counted; another row of the same key is set aside.
    """
    decoded = decode_one(
        compiled(), an_array({"clickId": "a", "jobId": 1}, {"clickId": "a", "jobId": 1}, {"clickId": "a", "jobId": 2})
    )

    assert (len(decoded.batch), decoded.repeated, decoded.count) == (1, 1, 3)
    assert reasons(decoded) == [("$[2].clickId", "the key click_id a came before on this page, with other values")]


def test_keys_of_earlier_pages() -> None:
    """
    Rows whose key an earlier page of the chain had are dropped and counted apart; another chain knows nothing of it.
    """
    shape, seen = compiled(), SeenKeys()
    decode_one(shape, an_array({"clickId": "a"}, {"clickId": "b"}), seen=seen)

    decoded = decode_one(shape, an_array({"clickId": "b"}, {"clickId": "c"}), seen=seen)

    assert [row.click_id for row in decoded.batch.rows] == ["c"]
    assert (decoded.repeated, decoded.fresh, decoded.count) == (1, 1, 2)
    assert decode_one(shape, an_array({"clickId": "b"})).repeated == 0


def test_keys_beyond_the_bound_of_memory_are_still_known() -> None:
    """
    Of a listing with more keys than memory may hold, none is forgotten: not of earlier pages, nor of a large one.
    """
    shape, seen = compiled(key=("click_id", "job_id")), SeenKeys(bound=4)

    def page(*numbers: int) -> Decoded:
        return decode_one(
            shape, an_array(*({"clickId": str(n), "jobId": n, "price": str(n)} for n in numbers)), seen=seen
        )

    pages = [page(1, 2, 3), page(4, 5, 6), page(*range(7, 20)), page(1, 4, 7, 20), page(20, 20)]

    assert [(len(one.batch), one.fresh, one.repeated) for one in pages] == [
        *((3, 3, 0), (3, 3, 0), (13, 13, 0), (1, 1, 3), (0, 0, 2))
    ]


def test_composite_keys_have_no_null() -> None:
    """
    A record with a null in its key is rejected; keys are compared as a whole.
    """
    decoded = decode_one(
        compiled(key=("click_id", "job_id")),
        an_array({"clickId": "a", "jobId": 1}, {"clickId": "a", "jobId": 2}, {"clickId": "a"}),
    )

    assert (len(decoded.batch), reasons(decoded)) == (2, [("$[2].jobId", "the key job_id is null")])


def test_rows_without_a_key_get_one_that_another_reading_gives_again() -> None:
    """
    A row key depends on the row's values and how often they occurred in the partition, not on the page.
    """
    rows = [{"title": "x", "clicks": 1}, {"title": "x", "clicks": 1}, {"title": "y"}]
    together = decode_one(compiled(Row), an_array(*rows))
    seen = SeenKeys()
    apart = [decode_one(compiled(Row), an_array(row), seen=seen) for row in rows]

    keys = [row.key for row in together.batch.rows]
    assert len(set(keys)) == 3
    assert keys == [one.batch.rows[0].key for one in apart]
    assert [one.fresh for one in apart] == [1, 0, 1]
    assert sum(one.repeated for one in apart) == 0


@pytest.mark.parametrize("together", [True, False], ids=["on one page", "on two pages"])
@pytest.mark.parametrize("kind", ["report", "changes"])
def test_the_same_key_with_other_values(kind: Any, together: bool) -> None:
    """
    It is set aside with its reason, on the same page and on a later one. In ``changes`` the last one read wins: before
    it is delivered it takes the place of the former, afterwards it is delivered too and counted as superseding.
    """
    shape = compile_stream("s", a_stream(kind=kind))
    seen = SeenKeys()
    sale, other = {"clickId": "7", "price": "20"}, {"clickId": "8"}
    pages = [[sale, other], [{**sale, "price": "-20"}, other, {**sale, "price": "-20"}]]
    runs = [an_array(*pages[0], *pages[1])] if together else [an_array(*one) for one in pages]

    decoded = [decode_one(shape, one, seen=seen) for one in runs]

    rows = [(row.click_id, row.price) for one in decoded for row in one.batch.rows]
    assert sum(one.count for one in decoded) == 5
    if kind == "report":
        place, where = (2, "this page") if together else (0, "an earlier page")
        assert rows == [("7", "20"), ("8", None)]
        assert [output for one in decoded for output in reasons(one)] == [
            (f"$[{place}].clickId", f"the key click_id 7 came before on {where}, with other values"),
            (f"$[{place + 2}].clickId", f"the key click_id 7 came before on {where}, with other values"),
        ]
    else:
        assert rows == ([("8", None), ("7", "-20")] if together else [("7", "20"), ("8", None), ("7", "-20")])
        assert [reasons(one) for one in decoded] == [[] for _ in decoded]
        assert sum(one.superseded for one in decoded) == (0 if together else 1)
    assert sum(len(one.batch) + len(one.batch.rejected) + one.repeated for one in decoded) == 5


def test_the_last_values_of_a_key_are_known_beyond_the_bound_of_memory() -> None:
    """
    In changes, a row is compared with the latest values of its key, not with those that these replaced.
    """
    shape, seen = compile_stream("s", a_stream(kind="changes")), SeenKeys(bound=3)
    rows = [*({"clickId": str(n), "price": "1"} for n in range(4)), {"clickId": "0", "price": "2"}]
    for one in rows:
        decode_one(shape, an_array(one), seen=seen)

    same, back = (decode_one(shape, an_array({"clickId": "0", "price": price}), seen=seen) for price in ("2", "1"))

    assert (len(same.batch), same.repeated, same.superseded) == (0, 1, 0)
    assert (len(back.batch), back.repeated, back.superseded) == (1, 0, 1)


def test_a_fraction_finer_than_a_microsecond_is_cut() -> None:
    """
    Nothing is rounded up into the next day, by every road.
    """
    fine = ["2026-11-03T23:59:59.9999999Z", "2026-11-03T23:59:59.999999999+00:00", "2026-11-04T00:00:00.0000001Z"]
    rows = [{"id": str(n), "saved": text} for n, text in enumerate(fine)]
    csv_rows = "".join(f"{one['id']},{one['saved']}\n" for one in rows).encode()
    runs = [
        an_array(*rows),
        an_array(*rows, 1),
        Items(raw=csv_rows, format="csv", texts=True, header=("id", "saved")),
    ]
    shape = compiled(Lead, day="report_date", day_of="saved", days_per_request=2)

    for run in runs:
        decoded = decode_one(shape, run, days={date(2026, 11, 3), date(2026, 11, 4)})
        assert [row.report_date.day for row in decoded.batch.rows] == [3, 3, 4]
        assert [row.saved.microsecond for row in decoded.batch.rows] == [999999, 999999, 0]


@pytest.mark.parametrize("value", [["a"], {"slug": "a"}], ids=["array", "object"])
def test_a_stamp_of_the_answer_that_is_no_scalar_sets_its_records_aside(value: Any) -> None:
    """
    A list where a slug was expected is the fault of its records, alone or joined with others.
    """
    shape = compiled(account="slug")
    bad, good = an_array({"clickId": "a"}, columns={"slug": value}), an_array({"clickId": "b"}, columns={"slug": "s"})

    alone, together = list(shape.decode([bad])), list(shape.decode([bad, good]))

    assert [len(one.batch) for one in (*alone, *together)] == [0, 1]
    assert [one.column for one in together[0].batch.rejected] == ["slug"]
    assert "expected text, got" in reasons(alone[0])[0][1]


@pytest.mark.parametrize("bound", [100, 2], ids=["in memory", "on file"])
def test_occurrences_are_numbered_however_many_there_are(bound: int) -> None:
    """
    Beyond the bound of memory they are in a file; what was counted since a mark can be undone.
    """
    occurrences = Occurrences(bound)

    assert occurrences.number([b"a", b"b", b"a"]) == [1, 1, 2]
    assert occurrences.number([b"c", b"d", b"a"]) == [1, 1, 3]
    occurrences.savepoint()
    assert occurrences.number([b"a", b"e"]) == [4, 1]
    occurrences.rollback()
    assert occurrences.number([b"a", b"e", b"b"]) == [4, 1, 2]


# --- what does not leave --------------------------------------------------------------------------------------------

SENSITIVE = {
    "id": "a",
    "email": "ann@example.org",
    "token": "t0ken",
    "data": [{"name": "hash", "value": "h4sh"}, {"name": "city", "value": "Leeds", "secret": "s3cret"}],
}


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize(
    ("include_personal", "gone", "kept"),
    [(True, ["t0ken", "h4sh", "s3cret"], ["ann@", "Leeds"]), (False, ["t0ken", "h4sh", "s3cret", "ann@", "Leeds"], [])],
    ids=["with personal data", "without"],
)
@pytest.mark.parametrize("fits", [True, False], ids=["delivered", "rejected"])
def test_secrets_and_personal_data_do_not_leave(
    fits: bool, include_personal: bool, gone: list[str], kept: list[str], nested: Any
) -> None:
    """
    A secret, alone or inside a nested part, leaves in no column and no rejected record; personal data by choice.
    """
    shape = compiled(Lead, include_personal=include_personal, nested=nested)
    decoded = decode_one(shape, an_array(SENSITIVE if fits else {**SENSITIVE, "id": None}))

    seen = json.dumps(written(decoded), default=str) if fits else decoded.batch.rejected[0].raw
    assert len(decoded.batch) == fits
    assert [text for text in gone if text in seen] == []
    assert [text for text in kept if text in seen] == kept
    assert "token" not in {one.name for one in shape.layout.columns}


@pytest.mark.parametrize(
    "element",
    [
        {"id": None, "data": [[{"name": "hash", "value": "h4sh"}]]},
        {"id": None, "data": {"0": [{"name": "hash", "value": "h4sh", "more": "h4sh"}]}},
        {"id": None, "data": {"hash": "h4sh"}},
        {"id": None, "more": [{"deep": {"name": "hash", "value": "h4sh"}}]},
        {"id": None, "more": {"token": "h4sh", "secret": {"x": "h4sh"}}},
        [[{"name": "hash", "value": "h4sh"}, {"id": "a", "token": "h4sh"}]],
        {"id": None, "data": [{"key": "hash", "val": "h4sh"}]},
        {"id": None, "more": [{"label": "token", "content": ["h4sh"]}]},
        {"id": None, "data": [["hash", "h4sh"]]},
        {"id": None, "data": {"Hash": "h4sh", "TOKEN": "h4sh"}},
        {"id": None, "data": '[{"name": "hash", "value": "h4sh"}]'},
        '{"id": "a", "token": "h4sh"}',
    ],
    ids=[
        "one more array",
        "a map",
        "by its name",
        "in another member",
        "secret members elsewhere",
        "in no object",
        "by another label",
        "a secret column by a label",
        "pairs as arrays",
        "in another case",
        "JSON in a text",
        "JSON in place of the element",
    ],
)
def test_secrets_are_masked_at_every_depth_of_what_is_set_aside(element: Any) -> None:
    """
    By member name and by name and value pairs, whatever the shape of the element.
    """
    (rejected,) = decode_one(compiled(Lead), an_array(element)).batch.rejected

    assert "h4sh" not in rejected.raw


@record()
class Linked:
    id: str
    link_hash: str | None = secret(member="linkHash")


@record()
class Open:
    """Without a secret of its own."""

    id: str
    data: Any
    free: Any


@record()
class Granted:
    id: str
    grant: str | None = column(path="auth.id")
    token: str | None = secret(path="auth.token")
    email: str | None = personal(path="auth.email")


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize("include_personal", [True, False], ids=["with personal data", "without"])
@pytest.mark.parametrize(
    "auth",
    [
        [{"id": "g", "token": "t0ken", "email": "ann@"}],
        {"id": {"token": "t0ken", "email": "ann@", "id": "g"}},
        json.dumps({"id": "g", "token": "t0ken", "email": "ann@"}),
    ],
    ids=["an array", "one object more", "JSON in a text"],
)
def test_secrets_are_masked_in_a_value_that_is_kept_because_it_does_not_fit(
    auth: Any, include_personal: bool, nested: Any
) -> None:
    """
    Where columns are read inside of an object and something else came, ``_extra`` holds it without its secrets.
    """
    shape = compiled(Granted, key="id", include_personal=include_personal, nested=nested)
    decoded = decode_one(shape, an_array({"id": "a", "auth": auth}))

    seen = json.dumps(written(decoded), default=str)
    assert decoded.unread_values > 0
    assert "g" in str(written(decoded)[0]["_extra"]["auth.id"])
    assert "t0ken" not in seen
    assert ("ann@" in seen) == include_personal


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize("fits", [True, False], ids=["a page that fits", "a page read one by one"])
@pytest.mark.parametrize(
    "more",
    [
        {"wrap": {"token": "t0ken"}},
        {"Token": "t0ken"},
        {"fields": [{"name": "token", "value": "t0ken"}]},
        {"wrap": '{"token": "t0ken"}'},
        {"wrap": [[{"name": "hash", "value": "t0ken"}]]},
    ],
    ids=["inside of another", "in another case", "a pair", "JSON in a text", "a selected pair"],
)
def test_secrets_are_masked_in_unknown_members(more: Any, fits: bool, nested: Any) -> None:
    """
    A secret that the provider moves into a member that nobody declared does not leave in ``_extra``.
    """
    page = an_array({"id": "a", "saved": None if fits else "?", "size": 1.10, **more}, {"id": "b"}, {"id": "c", "u": 1})
    rows = written(decode_one(compiled(Lead, nested=nested), page))

    assert "t0ken" not in json.dumps(rows, default=str)
    assert rows[0]["_extra"].keys() >= {"size", *more}
    assert "_extra" not in rows[1]
    assert rows[2]["_extra"] == {"u": 1}


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize("fits", [True, False], ids=["a page that fits", "a page read one by one"])
@pytest.mark.parametrize(
    "more", [{"token": "{}"}, {"u": {"w": ["x {}"]}}, {"size": "{}"}], ids=["whole", "deep", "unfit"]
)
def test_a_secret_of_the_configuration_is_masked_in_what_extra_keeps(more: Any, fits: bool, nested: Any) -> None:
    """
    A provider that adds the account's token to its records: under any name, since its value is known.
    """

    @record(kind="snapshot", key="id")
    class Plain:
        id: str
        size: int | None = None
        saved: date | None = None

    known = Secret('a "token" of the account')
    escaped = json.dumps(known.reveal())[1:-1]
    page = json.dumps([{"id": "a", "saved": None if fits else "?", **more}, {"id": "b", "u": 1}]).replace("{}", escaped)

    rows = written(decode_one(compiled(Plain, nested=nested), an_array(*json.loads(page))))

    assert known.reveal() not in str([str(row) for row in rows])
    assert escaped not in json.dumps(rows, default=str)
    assert rows[0]["_extra"].keys() >= more.keys()
    assert rows[1]["_extra"] == {"u": 1}


@pytest.mark.parametrize("nested", ["raw", "plain"])
def test_a_selected_secret_is_removed_at_every_depth(nested: Any) -> None:
    """
    Of what is delivered, too: one more array around the declared one hides nothing.
    """
    decoded = decode_one(
        compiled(Lead, nested=nested),
        an_array({"id": "a", "data": [[{"name": "hash", "value": "h4sh"}, {"name": "city", "value": "Leeds"}]]}),
    )

    assert written(decoded)[0]["data"] == [[{"name": "city", "value": "Leeds"}]]


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize(
    "data",
    [
        {"hash": "h4sh"},
        {"name": "hash", "value": "h4sh"},
        [{"name": "Hash", "value": "h4sh"}],
        '[{"name": "hash", "value": "h4sh"}]',
        {"of": {"TOKEN": "h4sh", "link_hash": "h4sh", "LinkHash": ["h4sh"]}},
        [{"t\\u006fken": "h4sh"}],
    ],
    ids=["a map", "one object", "another case", "JSON in a text", "secrets of columns, also of others", "escaped"],
)
def test_secrets_are_masked_in_json_columns_of_any_shape(data: Any, nested: Any) -> None:
    """
    Neither another shape nor another place than the declared one delivers a secret, be it of another stream.
    """
    columns = columns_of(Linked)
    raw = json.dumps({"id": "a", "data": data, "more": data, "free": data}).replace("\\\\u", "\\u")
    page = Items(raw=b"[" + raw.encode() + b"]", format="array")

    rows = written(decode_one(compiled(Open, key="id", nested=nested, secrets=[*columns, *columns_of(Lead)]), page))

    assert "h4sh" not in json.dumps(rows, default=str)
    assert rows[0].keys() >= {"data", "free", "_extra"}


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ([{"name": "city", "value": "Leeds"}], [{"name": "city"}]),
        ({"0": {"name": "city", "value": "Leeds"}}, {"0": {"name": "city"}}),
        (
            [{"name": "city", "Value": "Leeds", "more": {"value": "Leeds"}}],
            [{"name": "city", "Value": "***", "more": {"value": "***"}}],
        ),
        ({"city": "Leeds"}, "***"),
        ({"name": "city", "value": "Leeds"}, "***"),
        (["Leeds"], "***"),
        ([["city", "Leeds"]], "***"),
        ('[{"value": "Leeds"}]', "***"),
        (None, None),
    ],
    ids=["declared", "a map", "moved", "by its name", "one object", "texts", "pairs", "JSON in a text", "null"],
)
def test_personal_members_do_not_leave_in_another_shape(data: Any, kept: Any, nested: Any) -> None:
    """
    Without personal data, what has another shape than the declared one is masked, by name or whole.
    """
    shape = compiled(Lead, include_personal=False, nested=nested)

    rows = written(decode_one(shape, an_array({"id": "a", "data": data})))

    assert rows[0].get("data") == kept


@pytest.mark.parametrize("nested", ["raw", "plain"])
def test_a_row_that_is_called_as_a_secret_column_is_kept(nested: Any) -> None:
    """
    A name labels others only where a declared path selects it: a form field may be called "token".
    """
    data = [{"name": "token", "value": "1.10"}, {"id": "token", "more": {"b\u00e9": 11}}]

    rows = written(
        decode_one(
            compiled(Open, key="id", nested=nested, secrets=columns_of(Lead)), an_array({"id": "a", "data": data})
        )
    )

    assert rows[0]["data"] == data


@pytest.mark.parametrize(
    ("more", "kept"),
    [({}, True), ({"include_personal": False}, False), ({"include_personal": False, "extra": True}, True)],
    ids=["by default", "without personal data", "without, but extra"],
)
def test_unknown_members_may_be_personal(more: Any, kept: bool) -> None:
    """
    Without personal data, unknown members are named and not kept, delivered or rejected; ``extra`` keeps them.
    """
    page = an_array({"id": "a", "phone": "555"}, {"id": None, "phone": "555"}, ["555"])

    decoded = decode_one(compiled(Lead, **more), page)

    assert decoded.batch.unknown == ("phone",)
    assert ("_extra" in written(decoded)[0]) == kept
    assert ["555" in one.raw for one in decoded.batch.rejected] == [kept, False]  # without names, it might be a token


def test_the_column_of_unknown_members_may_be_left_out() -> None:
    """
    ``_extra`` may be excluded like any other column; what is unread is counted all the same.
    """
    shape = compiled(exclude=["_extra"])

    decoded = decode_one(shape, an_array({"clickId": "a", "jobId": "x", "new": 1}))

    assert "_extra" not in {one.name for one in shape.layout.columns} | written(decoded)[0].keys()
    assert (decoded.unread_values, decoded.batch.unknown) == (1, ("new",))


def test_excluded_columns_are_neither_delivered_nor_unknown() -> None:
    """
    A column left out by the configuration is gone from layout and rows, and money derived from it stays.
    """
    shape = compiled(exclude=("price", "clicks.offer", "other.spend"))

    decoded = decode_one(shape, an_array({"clickId": "a", "price": "100", "offer": {}, "spend": 1}))

    (row,) = written(decoded)
    assert {"price", "offer"} & (row.keys() | {one.name for one in shape.layout.columns}) == set()
    assert (row["price_amount"], row["spend"], decoded.batch.unknown) == (1, 1, ())


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: compiled(exclude=["click_id"]), id="the key"),
        pytest.param(lambda: compiled(account="advertiser_id", exclude=["advertiser_id"]), id="the account"),
        pytest.param(lambda: compiled(Lead, exclude=["saved"], needed=["saved"]), id="what a child is requested by"),
        pytest.param(lambda: compiled(Lead, key="email", include_personal=False), id="a personal key"),
        pytest.param(lambda: compiled(columns=[Column(name="price", type="text", member="p")]), id="declared twice"),
    ],
)
def test_what_cannot_be_missed_cannot_be_left_out(make: Callable[[], StreamDecoder]) -> None:
    """
    A configuration that takes a key or partition column, or declares a column again, is refused.
    """
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("b", {"a": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]}),
        ("a.v", {"a": [{"n": "x"}, {"n": "y"}], "b": {"c": 1}}),
        ("a.*.v", {"a": [{"n": "x"}, {"n": "y"}], "b": {"c": 1}}),
        ("a.[n=x]", {"a": [{"n": "y", "v": 2}], "b": {"c": 1}}),
        ("a[n=y].v", {"a": [{"n": "x", "v": 1}, {"n": "y"}], "b": {"c": 1}}),
        ("*.c", {"a": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "b": {}}),
        ("gone.c", {"a": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "b": {"c": 1}}),
    ],
)
def test_paths_into_nested_values(path: str, left: Any) -> None:
    """
    A path takes out a member, every one, or the elements that it selects; what is not there is no error.
    """
    value = {"a": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "b": {"c": 1}}

    assert cleaner([path])(value) == left


# --- derived streams, sums ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", ["raw", "plain"])
def test_a_derived_stream_is_cut_from_its_parents_page(nested: Any) -> None:
    """
    The elements of the nested column become rows with their parent's stamps; secrets are gone before, and what does
    not fit is set aside under its path.
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

    shape = compile_stream("s", Stream(name="x", summary="", record=Odd, kind="snapshot", key="id"))

    decoded = decode_one(
        shape, an_array({"id": "a", "unknown field": "x", 'odd "name"': 1}, {"id": "b", "unknown field": "5"})
    )

    assert [(row.id, row.count) for row in decoded.batch.rows] == [("a", None), ("b", 5)]
    assert decoded.unread_example == ("$[0].unknown field", "'x' is no number")
