"""
Values and records that do not fit their columns, and unknown members: kept, counted or rejected.
"""

import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from attrs import evolve
from decoding import (
    Lead,
    MisfitError,
    a_stream,
    an_array,
    coerce,
    compiled,
    compiled_stream,
    decode_one,
    reasons,
    written,
)
from hypothesis import given, settings, strategies as st
from penstock.connector import Stream
from penstock.errors import ConfigError
from penstock.model import Items
from penstock.records import Column, column, personal, record, secret, snake


@pytest.mark.parametrize("many", [1, 50], ids=["alone", "among others"])
@pytest.mark.parametrize(
    ("member", "sent", "column_name", "value"),
    [
        pytest.param("price", "7", "price", "7", id="an integer in a text column"),
        pytest.param("price", "0.10", "price", "0.10", id="a number's digits in a text column"),
        pytest.param("price", "0.0000001", "price", "0.0000001", id="a small number's digits in a text column"),
        pytest.param("price", "1e3", "price", "1000", id="a number with an exponent in a text column"),
        pytest.param("jobId", '"12"', "job_id", 12, id="digits in an integer column"),
        pytest.param("jobId", "12.0", "job_id", 12, id="a whole number with a point"),
        pytest.param("jobId", '" "', "job_id", None, id="a blank in an integer column"),
        pytest.param("spend", '"1.50"', "spend", Decimal("1.50"), id="a decimal in text"),
        pytest.param("spend", '""', "spend", None, id="an empty text in a decimal column"),
        pytest.param("valid", '"false"', "valid", False, id="a boolean in text"),
        pytest.param("valid", '""', "valid", None, id="an empty text in a boolean column"),
        pytest.param("clickedAt", '""', "clicked_at", None, id="an empty text in a time column"),
        pytest.param("valid", "1", "valid", True, id="a boolean as 1"),
        pytest.param("day", '"2026-03-01T00:00:00Z"', "day", date(2026, 3, 1), id="midnight in a date column"),
        pytest.param("day", '""', "day", None, id="an empty text in a date column"),
        pytest.param("clickedAt", '"2026-03-01 10:00"', "clicked_at", datetime(2026, 3, 1, 10), id="no seconds"),  # noqa: DTZ001
        pytest.param("clickedAt", '"2026-03-01"', "clicked_at", datetime(2026, 3, 1), id="a day in a naive time"),  # noqa: DTZ001
        pytest.param("offer", "null", "offer", None, id="null in a nested column"),
        pytest.param("clickId", "12345678901234567890123", "click_id", "12345678901234567890123", id="a number as key"),
    ],
)
def test_values_of_another_type_that_lose_nothing_are_taken(
    member: str, sent: str, column_name: str, value: Any, many: int
) -> None:
    """
    A value of another type that holds the same is taken to the column's type, exactly; an empty text is null. Neither
    counts as a value not read.
    """
    others = b"".join(b',{"clickId":"other %d"}' % n for n in range(many - 1))
    first = f'{{"clickId":"x","{member}":{sent}}}'.encode()

    decoded = decode_one(compiled(), Items(raw=b"[" + first + others + b"]"))

    assert (reasons(decoded), decoded.unread_values) == ([], 0)
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
def test_a_record_without_a_key_is_rejected_with_path_and_reason(element: str, path: str, reason: str) -> None:
    """
    One bad record does not stop its neighbours, and is kept with its place and the reason.
    """
    decoded = decode_one(compiled(), Items(raw=f'[{{"clickId": "a"}}, {element}, {{"clickId": "b"}}]'.encode()))

    assert [row.click_id for row in decoded.batch.rows] == ["a", "b"]
    ((found, output),) = reasons(decoded)
    assert (found, reason in output) == (path, True), output
    assert (decoded.count, decoded.batch.rejected[0].raw) == (3, element)


@record()
class Sold:
    id: str
    amount: Decimal = column(path="payout.value")


@pytest.mark.parametrize("payout", ['{"amount": "1.50"}', '{"value": null}', "null"])
def test_a_nested_value_that_is_required_is_missing_or_null(payout: str) -> None:
    """
    The reason claims no null that the provider did not send.
    """
    decoded = decode_one(compiled(Sold), Items(raw=f'[{{"id": "a", "payout": {payout}}}]'.encode()))

    assert reasons(decoded) == [("$[0].payout.value", "it is missing or null")]


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize("many", [1, 50], ids=["alone", "among others"])
@pytest.mark.parametrize(
    ("element", "path", "reason"),
    [
        pytest.param('{"clickId": "x", "jobId": 1.5}', "$[1].jobId", "expected a whole number, got '1.5'", id="half"),
        pytest.param('{"clickId": "x", "jobId": true}', "$[1].jobId", "expected a number, got a boolean", id="bool"),
        pytest.param(
            '{"clickId": "x", "spend": "NaN"}', "$[1].spend", "expected a number, got 'NaN'", id="not a number"
        ),
        pytest.param(
            '{"clickId": "x", "spend": "-Infinity"}', "$[1].spend", "expected a number, got '-Infinity'", id="infinity"
        ),
        pytest.param('{"clickId": "x", "spend": 1e999999}', "$[1].spend", "308 digits", id="a bomb of a number"),
        pytest.param(
            '{"clickId": "x", "spend": "1,5"}', "$[1].spend", "expected a number, got '1,5'", id="decimal comma"
        ),
        pytest.param(
            '{"clickId": "x", "spend": "1_000"}', "$[1].spend", "expected a number, got '1_000'", id="underscore"
        ),
        pytest.param(
            '{"clickId": "x", "spend": "١٢"}', "$[1].spend", "expected a number, got '١٢'", id="another script's digits"
        ),
        pytest.param(
            r'{"clickId": "x", "spend": "\uff11"}', "$[1].spend", "expected a number", id="wide digits, escaped"
        ),
        pytest.param(
            '{"clickId": "x", "jobId": "1_0"}', "$[1].jobId", "expected a number, got '1_0'", id="underscore, integer"
        ),
        pytest.param(
            '{"clickId": "x", "price": "1_000"}',
            "$[1].price",
            "expected a number, got '1_000'",
            id="derived, underscore",
        ),
        pytest.param(
            '{"clickId": "x", "price": "１２"}',
            "$[1].price",
            "expected a number, got '１２'",
            id="derived, wide digits",
        ),
        pytest.param(
            '{"clickId": "x", "price": "n/a"}', "$[1].price", "expected a number, got 'n/a'", id="derived of no number"
        ),
        pytest.param(
            '{"clickId": "x", "price": "NaN"}', "$[1].price", "expected a number, got 'NaN'", id="derived of NaN"
        ),
        pytest.param('{"clickId": "x", "valid": "yes"}', "$[1].valid", "expected true or false, got 'yes'", id="yes"),
        pytest.param('{"clickId": "x", "day": "2026-02-30"}', "$[1].day", "expected a valid date", id="no such day"),
        pytest.param('{"clickId": "x", "day": "2026-03-01T10:00:00"}', "$[1].day", "without a time", id="time of day"),
        pytest.param(
            '{"clickId": "x", "clickedAt": "2026-03-01T10:00:00Z"}', "$[1].clickedAt", "without a zone", id="zone"
        ),
        pytest.param('{"clickId": "x", "clickedAt": 1700000000}', "$[1].clickedAt", "a date and time", id="Unix time"),
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
def test_unreadable_values_of_columns_left_out_are_nowhere(form: str) -> None:
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

    shape = compiled_stream(
        Stream(name="x", summary="", record=Person, kind="snapshot", key="id"), include_personal=False
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
    assert (decoded.unread_values, decoded.unread_example) == (1, ("$[1].seen", "expected a date and time, got 'soon'"))
    assert reasons(decoded)[0] == ("$[2].code", "its value does not fit a integer column")
    shown = repr(decoded.batch.rejected) + repr(decoded.unread_example)
    assert [text for text in ("the 5th", "p1n", "c0de") if text in shown] == []


def test_columns_that_a_row_cannot_do_without_reject_it() -> None:
    """
    Key, partition, a row's day, and what other streams are read by: their record is rejected, nullable or not, and the
    rejection carries the column.
    """
    shape = compiled(
        key=("click_id", "job_id"), account="price", day="day", day_of="clicked_at", needed_columns=["valid"]
    )

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
    ("form", "lost", "unread"),
    [
        ("array", [], []),
        ("lines", [], []),
        ("csv", [], []),
        (
            "array",
            [{"id": 4, "day": "13/05/2026", "due": "2026-05-06"}],
            [("$[3].day", "expected a day %m/%d/%Y, got '13/05/2026'")],
        ),
        ("array", [17], [("$[3]", "it is no object")]),
        (
            "array",
            [{"id": 4, "day": ["06/05/2026"], "due": "2026-05-06"}],
            [("$[3].day", "expected a day %m/%d/%Y, got an array")],
        ),
    ],
    ids=["array", "lines", "csv", "one does not fit", "one is no object", "one is an array"],
)
def test_days_of_another_form_are_read_as_declared(form: str, lost: list[Any], unread: list[tuple[str, str]]) -> None:
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
    assert [*reasons(decoded), *filter(None, [decoded.unread_example])] == unread


def test_only_dates_have_a_form() -> None:
    """
    A form that nobody would read by is a mistake of the record class.
    """
    with pytest.raises(TypeError, match="only a date or a time has a format"):

        @record()
        class Wrong:
            day: str = column(format="%m/%d/%Y")


def test_the_configuration_may_state_the_form_of_a_declared_day() -> None:
    """
    A configured column that is a declared one but for its member and form takes its place; any other is refused.
    """
    stream = a_stream(key="click_id")
    day = next(one for one in stream.columns if one.name == "day")

    shaped = compiled_stream(stream, columns=(evolve(day, format="%d.%m.%Y", member="Day"),))

    assert list(shaped.columns) == [one.name for one in stream.columns]
    assert (shaped.columns["day"].format, shaped.columns["day"].member) == ("%d.%m.%Y", "Day")
    with pytest.raises(ConfigError, match="has a column day already"):
        compiled_stream(stream, columns=(evolve(day, format="%d.%m.%Y", nullable=not day.nullable),))


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
    assert "expected a time with a zone" in str(decoded.unread_example)


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
    The rows and rejected records of any page are those of a decoder that takes one element at a time.
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
