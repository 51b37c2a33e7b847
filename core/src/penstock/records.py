"""
Declarations of records: attrs classes whose attributes are the columns.

::

    @record(members="camel")
    class Click:
        click_date: datetime                       # the provider's clickDate
        price: str
        price_amount: Decimal | None = derived(of="price", scale=-2, unit="USD", additive=True)
        ip: str | None = personal()
        offer: Json = None                         # nested: kept as it is

A column's type is one of ``str``, ``int``, ``Decimal``, ``bool``, ``date``, ``datetime``, ``Json``, each with or
without ``| None``. Without ``| None`` the provider must send it: a record that lacks it is rejected.
"""

import re
import types
import typing
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, TypeVar, dataclass_transform, get_args, get_origin

import attrs
from attrs import field, frozen

from penstock.names import as_names

Json = Any
"""A nested object or array (or a member of changing type), kept as the provider sent it."""

ColumnType = Literal["text", "integer", "decimal", "boolean", "date", "datetime", "json"]

_TYPE_OF_ANNOTATION: dict[Any, ColumnType] = {
    str: "text",
    int: "integer",
    Decimal: "decimal",
    bool: "boolean",
    date: "date",
    datetime: "datetime",
    Any: "json",
}

Zone = Literal["aware", "naive"]

_METADATA = "penstock"


@frozen(kw_only=True)
class Column:
    """
    One column, as declared. ``member`` is the provider's name for it; None for a column that penstock adds.
    """

    name: str
    type: ColumnType
    nullable: bool = True
    member: str | None = None
    description: str = ""
    unit: str = ""  # "USD", "s", "kB"; for money the currency
    additive: bool = False  # may be summed over records: clicks, spend; never CPC or CPA
    personal: bool = False
    secret: bool = False  # read, so that it is no unknown member, and never delivered
    zone: Zone = "aware"  # of a datetime: whether the provider states one
    format: str = ""  # of a date or time: how the provider writes it (see column()); one in ISO form is read too
    path: tuple[str, ...] = ()  # of a nested value: the members that lead to it; ``member`` is then their dotted form
    # texts that mean null, besides a blank one
    null: tuple[str, ...] = field(default=(), converter=as_names)
    # texts that mean true or false, in any case, besides "true", "false", "1", "0"
    true: tuple[str, ...] = field(default=(), converter=as_names)
    false: tuple[str, ...] = field(default=(), converter=as_names)
    number: str = ""  # how the provider writes numbers in text: one of NUMBER_FORMATS
    unit_of: str = ""  # the column that holds the unit of this one, row by row (the currency of an amount)
    derived_of: str | None = None  # the column whose number this one holds, shifted by ``scale`` decimal places
    scale: int = 0
    whole: str = ""  # the unit that ``derived_of`` counts in whole numbers ("cents"); "": fractions are accepted
    expected: bool = False  # whether a null or blank ``derived_of`` counts as a value that was not read
    hash_of: tuple[str, ...] = ()  # the columns a row key is made of
    # nested paths ("advertiser.email", "*.value") that are never delivered
    hidden: tuple[str, ...] = field(default=(), converter=as_names)
    # nested paths left out when include_personal is false
    hidden_personal: tuple[str, ...] = field(default=(), converter=as_names)
    decimal_scale: int | None = None  # of a decimal: digits after the point where a format fixes them (Arrow, Parquet)

    @property
    def added(self) -> bool:
        """Whether penstock adds the column; no member of the provider fills it."""
        return self.member is None

    @property
    def top_member(self) -> str | None:
        """The member of the record itself that the value is in; None for an added column."""
        return self.path[0] if self.path else self.member


NUMBER_FORMATS = ("1,234.5", "1.234,5", "1 234,5", "1'234.5", "1234,5")
"""
How numbers are written in text, by example. Each takes currency signs, a sign in front or behind, brackets for a
negative number, and numbers without separators of thousands.
"""


def column(
    *,
    member: str | None = None,
    path: str | None = None,
    description: str = "",
    unit: str = "",
    additive: bool = False,
    zone: Zone = "aware",
    format: str = "",
    null: tuple[str, ...] = (),
    true: tuple[str, ...] = (),
    false: tuple[str, ...] = (),
    number: str = "",
    hidden: tuple[str, ...] = (),
    hidden_personal: tuple[str, ...] = (),
    personal: bool = False,
    secret: bool = False,
    decimal_scale: int | None = None,
    default: Any = None,
) -> Any:
    """
    A column with options beyond its name and type.

    ``member``: the provider's name where the rule of the class does not give it. ``path``: the dotted members of a
    nested value ("amount.value"). Other members of the outer object are kept in ``_extra``, unless columns read them.

    ``format``: of a date or time that is not in ISO form (2026-01-31, 2026-01-31T10:00:00Z), the form for ``strptime``
    ("%m/%d/%Y"). A time may also have "epoch_s" and "epoch_ms" for seconds and milliseconds since 1970, or "epoch" for
    whichever of them a number must be (below 10^11 it is seconds). A form without "%z" needs ``zone="naive"``.

    ``null``: texts that mean null ("--", "N/A", "0000-00-00"). ``true``, ``false``: words for a boolean ("Y", "no").
    ``number``: how numbers are written in text, one of ``NUMBER_FORMATS`` ("1,234.5", "1.234,5", ...).

    ``hidden``: paths inside a nested value that hold secrets, dotted, ``*`` for every member or element,
    ``[name=leadHash]`` for the objects with that member.

    ``decimal_scale``: the most digits after the point of a decimal that the provider sends. Arrow and Parquet store
    each decimal column with a fixed scale: this one, else 9. A value with more digits is never rounded: it is an error.
    """
    return _declared(default, locals())


def money(path: str = "", *, currency: str = "", additive: bool = True, default: Any = None, **more: Any) -> Any:
    """
    An amount whose currency is in another member of the record, so that the unit may differ from row to row. Sums are
    kept per currency.

    ``money()`` and ``money("cost")`` read an object such as ``{"value": "12.50", "currency": "EUR"}``, in the member of
    the column's name or of that path. Where the members have other names or places, ``path`` is the amount's and
    ``currency`` the currency's, both dotted: ``money("price", currency="currencyCode")``.

    The column that reads the currency's member holds the currency; where the class has none, ``<name>_currency`` is
    added behind the amount. Words that mean null (``null``) do so in both. An amount
    without a currency is delivered, and counts as a value that could not be read.
    """
    more["money"] = {"path": path, "currency": currency}
    return _declared(default, {**more, "additive": additive})


def personal(*, default: Any = None, **more: Any) -> Any:
    """A column with personal data. A source with ``include_personal = false`` leaves it out."""
    return column(personal=True, default=default, **more)


def secret(*, default: Any = None, **more: Any) -> Any:
    """A member that is a credential: it is in no delivered column and in no rejected record."""
    return column(secret=True, default=default, **more)


def derived(
    *,
    of: str,
    scale: int = 0,
    whole: str = "",
    expected: bool = False,
    unit: str = "",
    additive: bool = False,
    description: str = "",
    decimal_scale: int | None = None,
) -> Any:
    """
    An added exact number: the number in column ``of``, times ten to the power ``scale``. Null where that is null or
    blank. A text that is no plain decimal number is a value that does not fit. Of a :func:`money` column, and without
    a ``unit``, it has the currency of that column in each row.

    ``whole``: the unit that ``of`` counts in whole numbers, such as "cents". A value with a decimal point is in another
    unit, and would be invoiced at a hundredth: it does not fit. ``expected``: null and blank do not fit either, so that
    a missing price is counted. ``decimal_scale``: see :func:`column`.
    """
    options = {"scale": scale, "whole": whole, "expected": expected, "unit": unit, "additive": additive}
    options |= {"description": description, "decimal_scale": decimal_scale}
    return _declared(None, {"derived_of": of, "added": True, **options})


def added(*, description: str = "", personal: bool = False, unit: str = "") -> Any:
    """A column stamped from the request or the envelope: an account, a parent's key, the report day."""
    return _declared(None, {"added": True, "description": description, "personal": personal, "unit": unit})


def row_key(*of: str) -> Any:
    """
    A key for records that have none: a hash of the columns ``of`` and, for equal ones, the occurrence number within
    the partition (in the provider's order).
    """
    if not of:
        raise TypeError('row_key() names no column; write those that identify a record: row_key("title", "clicks")')
    described = f"hash of {', '.join(of)} and the number of its occurrence in the partition"
    return _declared(None, {"hash_of": of, "added": True, "description": described})


class _Declared:
    """A column as a record class declares it, until :func:`record` makes an attrs field of it."""

    def __init__(self, field: Any) -> None:
        self.field = field

    def __or__(self, other: object) -> Any:
        raise TypeError(SHADOWED)


SHADOWED = (
    "a column has the name of the type in its annotation (date: date | None = column(...)), so Python takes that name "
    "for the column itself. Name the column otherwise, and its member as it is sent: "
    "day: date | None = column(member='date'); or import the type under another name: from datetime import date as Date"
)


def _declared(default: Any, options: Mapping[str, Any]) -> Any:
    return _Declared(
        attrs.field(default=default, metadata={_METADATA: {k: v for k, v in options.items() if k != "default"}})
    )


def same(name: str) -> str:
    """The member has the column's name."""
    return name


def camel(name: str) -> str:
    """``click_date`` is ``clickDate`` on the wire."""
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def snake(member: str) -> str:
    """
    The column of a provider's member: ``clickDate`` -> ``click_date``, ``@id`` -> ``at_id``. Whitespace and punctuation
    become ``_``. The provider's spelling is kept, mistakes included.
    """
    text = member.replace("@", "at_").strip()
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    text = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_").lower()
    return text if text and not text[0].isdigit() else f"n_{text}".rstrip("_")


_RULES: dict[str, Callable[[str], str]] = {"same": same, "camel": camel}

T = TypeVar("T", bound=type)


@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    field_specifiers=(column, personal, secret, derived, added, row_key, money),
)
def record(
    *,
    members: Literal["same", "camel"] = "same",
    kind: str | None = None,
    key: str | tuple[str, ...] | None = None,
    account: str | None = None,
    day: str | None = None,
    null: tuple[str, ...] = (),
    number: str = "",
) -> Callable[[T], T]:
    """
    Declare a record class. ``members``: how a column's name becomes the provider's member name. ``null`` and
    ``number`` are the defaults of its columns (see :func:`column`): ``null`` of all but text and nested ones.

    ``kind``, ``key``, ``account``, ``day``: the defaults of a :class:`~penstock.connector.Stream` of this record.
    Every column gets a default, so that a class may list nullable and required ones in the provider's order.
    """
    defaults = {"kind": kind, "key": key, "account": account, "day": day}
    if members not in _RULES:
        raise TypeError(f"@record(members={members!r}): write {' or '.join(map(repr, _RULES))}")

    def declare(cls: T) -> T:
        for name, annotation in cls.__annotations__.items():
            if annotation is None or isinstance(annotation, _Declared):
                raise TypeError(SHADOWED)
            if isinstance(declared := getattr(cls, name, None), _Declared):
                setattr(cls, name, declared.field)
            elif not hasattr(cls, name) and _nullable(annotation):
                setattr(cls, name, None)
        declared = frozen(cls, kw_only=True, eq=False, repr=False)  # rows are no instances of it
        declared.__penstock_columns__ = _columns(declared, _RULES[members], null, number)  # type: ignore[attr-defined]
        declared.__penstock_stream__ = defaults  # type: ignore[attr-defined]
        return declared

    return declare


def columns_of(cls: type) -> tuple[Column, ...]:
    """The columns of a record class, in the order of its declaration."""
    try:
        return typing.cast(tuple[Column, ...], cls.__penstock_columns__)  # type: ignore[attr-defined]
    except AttributeError:
        raise TypeError(f"{cls.__name__} is no record class: put @record() above it") from None


def _columns(cls: type, rule: Callable[[str], str], null: tuple[str, ...], number: str) -> tuple[Column, ...]:
    try:
        hints = typing.get_type_hints(cls)
    except TypeError as error:
        shadowing = {"date", "datetime", "Decimal"} & {attribute.name for attribute in attrs.fields(cls)}
        raise TypeError(f"{cls.__name__}: {SHADOWED if shadowing else error}") from None
    columns: list[Column] = []
    currencies: dict[str, str] = {}
    for attribute in attrs.fields(cls):
        label, options = f"{cls.__name__}.{attribute.name}", dict(attribute.metadata.get(_METADATA, {}))
        amount = options.pop("money", None)
        if amount is not None:
            options["path"], currencies[attribute.name] = _of_money(_member(attribute.name, options, rule), amount)
        column = _column(label, attribute.name, hints[attribute.name], options, rule)
        if defaults := _defaults(column, null, number):
            column = attrs.evolve(column, **defaults)
        if mistake := _contradiction(column):
            raise TypeError(f"{label}: {mistake}")
        columns.append(column)
    for name, currency in currencies.items():
        _join_currency(columns, name, currency)
    units = {column.name: column.unit_of for column in columns}
    columns = [
        attrs.evolve(column, unit_of=units.get(column.derived_of, ""))
        if column.derived_of and not column.unit
        else column
        for column in columns
    ]
    return _check_columns(cls, columns)


def _column(label: str, name: str, hint: Any, options: dict[str, Any], rule: Callable[[str], str]) -> Column:
    """The column of an attribute with this annotation. ``label``: the attribute, for messages."""
    bare = _bare(hint)
    if bare not in _TYPE_OF_ANNOTATION:
        better = {float: "Decimal, which is exact", dict: "Json", list: "Json"}.get(get_origin(bare) or bare)
        names = "str, int, Decimal, bool, date, datetime and Json, each also with | None"
        stated = bare.__name__ if isinstance(bare, type) else bare
        raise TypeError(f"{label}: {stated} is no column type; write {better or f'one of {names}'}")
    is_added = options.pop("added", False)
    member, path = _member(name, options, rule), options.pop("path", None)
    return Column(
        name=name,
        type=_TYPE_OF_ANNOTATION[bare],
        nullable=bare is Any or _nullable(hint),
        member=None if is_added else path or member,
        path=_steps(path),
        **options,
    )


def _member(name: str, options: dict[str, Any], rule: Callable[[str], str]) -> str:
    """The member of a column, taken from its options; it may be named "". Else that of the rule of its class."""
    member = options.pop("member", None)
    return rule(name) if member is None else str(member)


def _defaults(column: Column, null: tuple[str, ...], number: str) -> dict[str, Any]:
    """The options of the record class for columns that the provider sends and that declare none themselves."""
    defaults: dict[str, Any] = {}
    if null and column.type not in ("text", "json") and not column.added and not column.null:
        defaults["null"] = null
    if number and column.type in ("integer", "decimal") and not column.added and not column.number:
        defaults["number"] = number
    return defaults


def _steps(path: str | None) -> tuple[str, ...]:
    return tuple(path.split(".")) if path and "." in path else ()


def _of_money(member: str, amount: Mapping[str, str]) -> tuple[str, str]:
    """The paths of an amount and of its currency."""
    path = amount["path"] or member
    return (path, amount["currency"]) if amount["currency"] else (f"{path}.value", f"{path}.currency")


def _join_currency(columns: list[Column], name: str, currency: str) -> None:
    """Name the column that holds the currency of the amount ``name``. If no column reads it, add one behind."""
    index = [column.name for column in columns].index(name)
    holder = next((column.name for column in columns if column.member == currency), None)
    if holder is None:
        holder = f"{name}_currency"
        described = f"the currency of {name}"
        columns.insert(
            index + 1,
            Column(
                name=holder,
                type="text",
                member=currency,
                path=_steps(currency),
                description=described,
                null=columns[index].null,
            ),
        )
    columns[index] = attrs.evolve(columns[index], unit_of=holder)


_FORMATTED = ("date", "datetime")
EPOCHS = ("epoch", "epoch_s", "epoch_ms")


def _contradiction(column: Column) -> str:
    """The contradiction between the column's options; empty if there is none."""
    if column.format and column.type not in _FORMATTED:
        return "only a date or a time has a format"
    if column.format in EPOCHS and (column.type != "datetime" or column.zone != "aware"):
        return f"the format {column.format!r} is of a datetime, which is aware: without zone='naive'"
    written = column.type == "datetime" and column.format and column.format not in EPOCHS
    if written and ("%z" in column.format) != (column.zone == "aware"):
        return "a time whose format has no %z states no zone: write zone='naive' (and only then)"
    if column.number and column.number not in NUMBER_FORMATS:
        return f"the number format {column.number!r} is none of {', '.join(map(repr, NUMBER_FORMATS))}"
    if column.number and column.type not in ("integer", "decimal"):
        return "only an int or a Decimal has a number format"
    if (column.true or column.false) and column.type != "boolean":
        return "only a bool has words for true and false"
    if column.decimal_scale is not None and (column.type != "decimal" or not 0 <= column.decimal_scale <= 38):
        return "decimal_scale is of a Decimal, and from 0 to 38"
    return ""


def _check_columns(cls: type, columns: list[Column]) -> tuple[Column, ...]:
    taken: dict[str, str] = {}
    for column in columns:
        if column.member is not None and taken.setdefault(column.member, column.name) != column.name:
            raise TypeError(
                f"{cls.__name__}: {taken[column.member]} and {column.name} both claim the member {column.member!r}"
            )
    names = [column.name for column in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TypeError(f"{cls.__name__}: there are two columns {twice[0]}")
    direct = {column.member: column for column in columns if not column.path}
    for column in columns:
        outer = direct.get(column.top_member) if column.path else None
        if outer is not None and outer.type != "json":
            raise TypeError(
                f"{cls.__name__}: {column.name} reads inside of {column.top_member!r}, which {outer.name} reads whole"
            )
    return tuple(columns)


def _bare(annotation: Any) -> Any:
    if get_origin(annotation) in (types.UnionType, typing.Union):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return members[0] if len(members) == 1 else annotation
    return annotation


def _nullable(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return "None" in annotation or annotation in ("Json", "Any")
    return annotation is Any or type(None) in get_args(annotation)
