"""
What a column may declare of how its values are written, and what is read of them.
"""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from decoding import DecodedChunk, MisfitError, RowBuilder, coerce, compiled_stream, sums
from penstock.connector import Stream
from penstock.errors import ConfigError
from penstock.model import Items
from penstock.records import NUMBER_FORMATS, Column, Json, column, columns_of, derived, money, record, row_key


def compiled(cls: type, **expected: Any) -> RowBuilder:
    return compiled_stream(Stream(name="x", summary="", record=cls, kind="snapshot", key="id"), **expected)


def read(cls: type, *elements: Any, **expected: Any) -> DecodedChunk:
    (decoded,) = compiled(cls, **expected).build([Items(raw=json.dumps(elements).encode())])
    return decoded


def extras(decoded: DecodedChunk) -> list[Any]:
    """Of each row, what is in ``_extra``."""
    lines = msgspec.json.Encoder(decimal_format="number").encode_lines(decoded.batch.rows).splitlines()
    return [json.loads(line).get("_extra") for line in lines]


@record()
class Sale:
    """Written as reporting APIs do."""

    id: str
    validated: date | None = column(null=("0000-00-00",))
    active: bool | None = column(true=("Y", "yes"), false=("N", "no"))
    at: datetime | None = column(format="epoch")
    amount: Decimal | None = money()


def test_values_of_reporting_apis_are_read_as_declared() -> None:
    """
    A zero date is null, words are booleans, times are seconds or milliseconds, and an amount has its row's currency.
    """
    decoded = read(
        Sale,
        {
            "id": "1",
            "validated": "0000-00-00",
            "active": "Y",
            "at": 1762128000000,
            "amount": {"value": "12.50", "currency": "EUR"},
        },
        {
            "id": "2",
            "validated": "2026-11-03",
            "active": "no",
            "at": "1762128000",
            "amount": {"value": -3.10, "currency": "USD"},
        },
        {"id": "3", "amount": None},
    )

    moment = datetime(2025, 11, 3, tzinfo=UTC)
    assert [(row.validated, row.active, row.at, row.amount, row.amount_currency) for row in decoded.batch.rows] == [
        (None, True, moment, Decimal("12.50"), "EUR"),
        (date(2026, 11, 3), False, moment, Decimal("-3.1"), "USD"),
        (None, None, None, None, None),
    ]
    assert (decoded.unread_values, decoded.batch.unknown, extras(decoded)) == (0, (), [None, None, None])
    assert sums(decoded.batch) == {"amount[EUR]": Decimal("12.50"), "amount[USD]": Decimal("-3.1"), "amount[]": 0}


def test_words_for_no_amount_are_no_currency_either() -> None:
    """
    A report that writes ``--`` for an amount writes it for its currency, too.
    """

    @record(null=("--",), number="1.234,5")
    class Cost:
        cost: Decimal | None = money("cost", currency="unit")
        fee: Decimal | None = money("fee", currency="fee_unit", null=("n/a",))

    assert [(one.name, one.null) for one in columns_of(Cost)] == [
        ("cost", ("--",)),
        ("cost_currency", ("--",)),
        ("fee", ("n/a",)),
        ("fee_currency", ("n/a",)),
    ]


def test_money_uses_the_column_that_reads_its_currency() -> None:
    """
    Where the class reads the currency's member itself, no column is added; other names and places are declared.
    """

    @record()
    class Cost:
        id: str
        currency: str | None = column(member="currencyCode")
        price: Decimal | None = money(currency="currencyCode")
        fee: Decimal | None = money("cost.fee.units", currency="cost.unit")

    assert [(one.name, one.member, one.unit_of) for one in columns_of(Cost)] == [
        ("id", "id", ""),
        ("currency", "currencyCode", ""),
        ("price", "price", "currency"),
        ("fee", "cost.fee.units", "fee_currency"),
        ("fee_currency", "cost.unit", ""),
    ]
    decoded = read(Cost, {"id": "1", "currencyCode": "EUR", "price": 1.5, "cost": {"fee": {"units": 2}, "unit": "SEK"}})
    assert sums(decoded.batch) == {"price[EUR]": Decimal("1.5"), "fee[SEK]": Decimal(2)}
    with pytest.raises(ConfigError, match="currency cannot be left out"):
        compiled(Cost, exclude=["currency"])


def test_an_amount_derived_from_money_has_its_currency() -> None:
    """
    Minor units with a currency in each record: pounds and euros are never in one sum. A stated unit is kept.
    """

    @record()
    class Spend:
        id: str
        minor: Decimal | None = money("minor", currency="unit", additive=False)
        spend: Decimal | None = derived(of="minor", scale=-2, whole="minor units", additive=True)
        dollars: Decimal | None = derived(of="minor", scale=-2, unit="USD")

    assert {one.name: one.unit_of for one in columns_of(Spend) if one.type == "decimal"} == {
        "minor": "minor_currency",
        "spend": "minor_currency",
        "dollars": "",
    }
    decoded = read(Spend, {"id": "1", "minor": "1834", "unit": "GBP"}, {"id": "2", "minor": "450", "unit": "EUR"})
    assert sums(decoded.batch) == {"spend[GBP]": Decimal("18.34"), "spend[EUR]": Decimal("4.50")}


@record()
class Order:
    id: str
    city: str | None = column(path="buyer.address.city")
    zip_code: int | None = column(path="buyer.address.zip")
    first: str = column(path="buyer.name")


def test_the_rest_of_an_outer_member_is_kept() -> None:
    """
    A column may be read from inside of a member; the rest of that member is unknown, and in ``_extra``.
    """
    buyer = {"name": "Ann", "vip": True, "address": {"city": "Leeds", "zip": "0123", "street": "High St"}}

    decoded = read(Order, {"id": "1", "buyer": buyer}, {"id": "2", "buyer": {"name": "Bob", "address": None}})

    rows = [(row.first, row.city, row.zip_code) for row in decoded.batch.rows]
    assert rows == [("Ann", "Leeds", 123), ("Bob", None, None)]
    assert extras(decoded) == [{"buyer": {"vip": True, "address": {"street": "High St"}}}, None]
    assert decoded.batch.unknown == ("buyer.address", "buyer.vip")
    kept = read(Order, {"id": "1", "buyer": buyer}, include_personal=False)
    assert (extras(kept), kept.batch.unknown) == ([None], ("buyer.address", "buyer.vip"))


@pytest.mark.parametrize("odd", [[], [1]], ids=["all fit", "one by one"])
def test_an_outer_member_that_is_no_object(odd: list[Any]) -> None:
    """
    A text where an object was expected is not read; a record that needs what is inside is rejected.
    """
    decoded = read(
        Order,
        {"id": "1", "buyer": {"name": "Ann", "address": "Leeds"}},
        {"id": "2", "buyer": "Bob"},
        {"id": "3"},
        *odd,
    )

    assert [row.city for row in decoded.batch.rows] == [None]
    assert extras(decoded) == [{"buyer.address.city": "Leeds", "buyer.address.zip": "Leeds"}]
    assert decoded.unread_example == (
        "$[0].buyer.address.city",
        "expected an object with the member 'city', got text",
    )
    assert [(one.path, one.column) for one in decoded.batch.rejected][:2] == [
        ("$[1].buyer.name", "first"),
        ("$[2].buyer.name", "first"),
    ]


def test_a_member_may_be_read_whole_and_inside() -> None:
    """
    A json column keeps the outer member; nothing of it is unknown then.
    """

    @record()
    class Both:
        id: str
        buyer: Json = None
        name: str | None = column(path="buyer.name")

    for nested in ("raw", "plain"):
        decoded = read(Both, {"id": "1", "buyer": {"name": "Ann", "vip": True}}, nested=nested)

        assert (decoded.batch.rows[0].name, extras(decoded)) == ("Ann", [None])


@pytest.mark.parametrize(
    ("form", "text", "number"),
    [
        ("1,234.5", "1,840.25", "1840.25"),
        ("1,234.5", "12,34,567", "1234567"),
        ("1,234.5", "$2.50", "2.50"),
        ("1,234.5", "(1.00)", "-1.00"),
        ("1,234.5", "($1,000)", "-1000"),
        ("1,234.5", "4.0", "4.0"),
        ("1,234.5", "-£5", "-5"),
        ("1,234.5", "7.5-", "-7.5"),
        ("1,234.5", "1,2", None),
        ("1,234.5", "1.234,5", None),
        ("1,234.5", "(-1)", None),
        ("1,234.5", "12 EUR", None),
        ("1,234.5", "1_000", None),
        ("1.234,5", "1.840,25", "1840.25"),
        ("1.234,5", "1.200", "1200"),
        ("1.234,5", "0,75", "0.75"),
        ("1.234,5", "1,840.25", None),
        ("1 234,5", "1\u202f840,25 €", "1840.25"),
        ("1 234,5", "1 840", "1840"),
        ("1'234.5", "1'840.25", "1840.25"),
        ("1234,5", "1840,25", "1840.25"),
        ("1234,5", "1.840,25", None),
        ("1234,5", "", None),
    ],
)
def test_numbers_in_text_are_read_by_their_format(form: str, text: str, number: str | None) -> None:
    """
    Separators, currency signs and brackets are read as declared; what is written otherwise is never guessed.
    """
    assert form in NUMBER_FORMATS
    one = Column(name="spend", type="decimal", number=form)
    if number is not None:
        assert str(coerce(one, text)) == number
    elif text:
        with pytest.raises(MisfitError, match="expected a number such as"):
            coerce(one, text)
    else:
        assert coerce(one, text) is None


def test_whole_numbers_are_never_a_thousandth_of_the_sent_one() -> None:
    """
    ``1.200`` is no 1, and no 1200 either, unless the format states so; nor is ``1.000`` one.
    """
    plain, german = Column(name="n", type="integer"), Column(name="n", type="integer", number="1.234,5")

    assert [coerce(german, text) for text in ("1.200", "1.000", "7")] == [1200, 1000, 7]
    assert coerce(plain, "4.0") == 4
    for text in ("1.200", "1.000"):
        with pytest.raises(MisfitError, match="declare the column's number format"):
            coerce(plain, text)


@pytest.mark.parametrize(
    ("form", "zone", "value", "moment"),
    [
        ("epoch_s", "aware", 1762128000, datetime(2025, 11, 3, tzinfo=UTC)),
        ("epoch_s", "aware", "1762128000.9999999", datetime(2025, 11, 3, 0, 0, 0, 999999, tzinfo=UTC)),
        ("epoch_ms", "aware", 1762128000000, datetime(2025, 11, 3, tzinfo=UTC)),
        ("epoch_ms", "aware", -1, datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
        ("%d/%m/%Y %H:%M", "naive", "03/11/2026 10:30", datetime(2026, 11, 3, 10, 30)),  # noqa: DTZ001
        ("%d/%m/%Y %H:%M %z", "aware", "03/11/2026 10:30 +0000", datetime(2026, 11, 3, 10, 30, tzinfo=UTC)),
        ("%d/%m/%Y %H:%M", "naive", "2026-11-03T10:30:00", datetime(2026, 11, 3, 10, 30)),  # noqa: DTZ001
    ],
)
def test_times_are_read_by_their_format(form: str, zone: Any, value: Any, moment: datetime) -> None:
    """
    Seconds and milliseconds since 1970 and any form of ``strptime``; the ISO form is read too; the finest is cut.
    """
    assert coerce(Column(name="at", type="datetime", zone=zone, format=form), value) == moment


def test_a_record_class_may_declare_defaults_of_its_columns() -> None:
    """
    ``null`` and ``number`` of the class are the defaults of its columns; words for null do not touch texts.
    """

    @record(null=("--", "N/A"), number="1,234.5")
    class Spend:
        id: str
        name: str | None
        spend: Decimal | None
        clicks: int | None = column(null=("none",))

    decoded = read(
        Spend,
        {"id": "1", "name": "N/A", "spend": "--", "clicks": "none"},
        {"id": "2", "name": "x", "spend": "N/A", "clicks": "1,200"},
        {"id": "3", "name": "y", "spend": "(1.00)", "clicks": "--"},
    )

    assert [(row.name, row.spend, row.clicks) for row in decoded.batch.rows] == [
        ("N/A", None, None),
        ("x", None, 1200),
        ("y", Decimal("-1.00"), None),
    ]
    assert decoded.unread_example == ("$[2].clicks", "expected a number such as 1,234.5, got '--'")


@pytest.mark.parametrize(
    ("annotation", "options", "problem"),
    [
        (str, {"format": "%m/%d/%Y"}, "only a date or a time has a format"),
        (date, {"format": "epoch"}, "the format 'epoch' is of a datetime"),
        (datetime, {"format": "epoch", "zone": "naive"}, "without zone='naive'"),
        (datetime, {"format": "%m/%d/%Y %H:%M"}, "write zone='naive'"),
        (Decimal, {"number": "1.234.5"}, "is none of '1,234.5', "),
        (str, {"number": "1,234.5"}, "only an int or a Decimal has a number format"),
        (int, {"true": ("Y",)}, "only a bool has words"),
    ],
)
def test_options_that_do_not_fit_are_refused(annotation: Any, options: Any, problem: str) -> None:
    """
    A column whose options do not give its type is a mistake of the record class, and the message names it.
    """
    made = type("Wrong", (), {"__annotations__": {"odd": annotation}, "odd": column(**options)})

    with pytest.raises(TypeError, match=r"Wrong\.odd: .*" + problem):
        record()(made)


@pytest.mark.parametrize(
    ("annotation", "remedy"),
    [
        (float, "float is no column type; write Decimal, which is exact"),
        (list[str] | None, r"list\[str\] is no column type; write Json"),
        (int | str, r"int \| str is no column type; write one of str, int, Decimal"),
    ],
)
def test_a_type_that_is_none_of_a_column_is_refused_with_the_remedy(annotation: Any, remedy: str) -> None:
    """
    A float would lose digits of money, and a union has no one form.
    """
    with pytest.raises(TypeError, match=rf"Wrong\.odd: {remedy}"):
        record()(type("Wrong", (), {"__annotations__": {"odd": annotation}}))


def test_a_column_named_as_the_type_of_its_annotation() -> None:
    """
    Python takes the name for the column itself; the message names the shadowing and both remedies.
    """
    for body in ("date: date | None = column()", "date: date = column()"):
        names: dict[str, Any] = {"date": date, "column": column, "record": record, "__name__": __name__}
        with pytest.raises(TypeError, match=r"Name the column otherwise.*column\(member='date'\).*import date as Date"):
            exec(f"@record()\nclass Odd:\n    {body}\n", names)  # as an author writes it


def test_a_rule_of_names_that_does_not_exist_is_refused() -> None:
    """
    A rule of names that does not exist is refused with those that do.
    """
    with pytest.raises(TypeError, match=r"@record\(members='exact'\): write 'same' or 'camel'"):
        record(members="exact")  # type: ignore[arg-type]


def test_one_text_in_place_of_several_is_that_text() -> None:
    """
    One text in place of several is that text and not its letters: ``N`` and ``A`` are no nulls, and the path is hidden.
    """

    @record(null="N/A")
    class Lead:
        id: str
        size: int | None
        active: bool | None = column(true="Y", false="no", null="--")
        data: Json = column(hidden="token")

    decoded = read(
        Lead,
        {"id": "a", "size": "N/A", "active": "no", "data": {"token": "t", "o": 1}},
        {"id": "b", "size": "N", "active": "-"},
    )

    assert [(row.size, row.active) for row in decoded.batch.rows] == [(None, False), (None, None)]
    assert json.loads(msgspec.json.encode(decoded.batch.rows[0].data)) == {"o": 1}
    assert extras(decoded) == [None, {"size": "N", "active": "-"}]


def test_a_row_key_of_no_column_is_refused() -> None:
    """
    A row key of no column is refused: it would be null in every row, and no row would be delivered.
    """
    with pytest.raises(TypeError, match=r"row_key\(\) names no column"):
        row_key()
