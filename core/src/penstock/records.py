"""
How a record is declared: an attrs class whose attributes are the columns.

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
from attrs import frozen

Json = Any
"""A nested object or array (or a member of changing type), kept as the provider sent it."""

ColumnType = Literal["text", "integer", "decimal", "boolean", "date", "datetime", "json"]

_TYPES: dict[Any, ColumnType] = {
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
    secret: bool = False  # read, so that it is known, and never let out
    zone: Zone = "aware"  # of a datetime: whether the provider states one
    format: str = ""  # of a date: how the provider spells it, for strptime; one in ISO form is read too
    derived_of: str | None = None  # the column whose number this one holds, shifted by ``scale`` decimal places
    scale: int = 0
    whole: str = ""  # what ``derived_of`` counts in whole numbers ("cents"); "": a fraction is as good
    expected: bool = False  # whether a null or blank ``derived_of`` counts as a value that was not read
    hash_of: tuple[str, ...] = ()  # the columns a row key is made of
    hidden: tuple[str, ...] = ()  # nested paths ("advertiser.email", "*.value") never let out
    hidden_personal: tuple[str, ...] = ()  # nested paths left out when include_personal is false

    @property
    def added(self) -> bool:
        """Whether penstock adds it, and no member of the provider fills it."""
        return self.member is None


def column(
    *,
    member: str | None = None,
    description: str = "",
    unit: str = "",
    additive: bool = False,
    zone: Zone = "aware",
    format: str = "",
    hidden: tuple[str, ...] = (),
    hidden_personal: tuple[str, ...] = (),
    personal: bool = False,
    secret: bool = False,
    default: Any = None,
) -> Any:
    """
    A column with more to say than its name and type.

    ``member``: the provider's name where the rule of the class does not give it. ``format``: of a date that is not
    spelled as 2026-01-31, how it is ("%m/%d/%Y"). ``hidden``: paths inside a nested
    value that hold secrets, dotted, ``*`` for every member or element, ``[name=leadHash]`` for the elements of an
    array with that member.
    """
    return _field(default, locals())


def personal(*, default: Any = None, **more: Any) -> Any:
    """A column with personal data: left out when the source says ``include_personal = false``."""
    return column(personal=True, default=default, **more)


def secret(*, default: Any = None, **more: Any) -> Any:
    """A member that grants something to whoever reads it: never leaves, in no column, no rejected record."""
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
) -> Any:
    """
    An added exact number: the number in column ``of``, times ten to the power ``scale``. Null where that is null or
    blank. A text that is no plain decimal number is a value that does not fit.

    ``whole``: what ``of`` counts in whole numbers, such as "cents". A decimal point in it means another unit, and a
    hundredth of the price would be invoiced: such a value does not fit. ``expected``: neither does null or blank, so
    that a price that is missing is counted.
    """
    more = _only(locals(), "scale", "whole", "expected", "unit", "additive", "description")
    return _field(None, {"derived_of": of, "added": True, **more})


def added(*, description: str = "", personal: bool = False, unit: str = "") -> Any:
    """A column stamped from the request or the envelope: an account, a parent's key, the report day."""
    return _field(None, {"added": True, **_only(locals(), "description", "personal", "unit")})


def row_key(*of: str) -> Any:
    """
    A key for records that have none: a hash of the columns ``of`` and, for equal ones, the occurrence number within
    the partition (in the provider's order).
    """
    described = f"hash of {', '.join(of)} and the number of its occurrence in the partition"
    return _field(None, {"hash_of": of, "added": True, "description": described})


def _only(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names}


def _field(default: Any, said: Mapping[str, Any]) -> Any:
    return attrs.field(default=default, metadata={_METADATA: {k: v for k, v in said.items() if k != "default"}})


def same(name: str) -> str:
    """The member has the column's name."""
    return name


def camel(name: str) -> str:
    """``click_date`` is ``clickDate`` on the wire."""
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def snake(member: str) -> str:
    """
    The column of a provider's member: ``clickDate`` -> ``click_date``, ``@id`` -> ``at_id``, blanks and other signs
    to ``_``; spelling is kept, mistakes included.
    """
    text = member.replace("@", "at_").strip()
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    text = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_").lower()
    return text if text and not text[0].isdigit() else f"n_{text}".rstrip("_")


_RULES: dict[str, Callable[[str], str]] = {"same": same, "camel": camel}

T = TypeVar("T", bound=type)


@dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(column, personal, secret, derived, added, row_key)
)
def record(
    *,
    members: Literal["same", "camel"] = "same",
    kind: str | None = None,
    key: str | tuple[str, ...] | None = None,
    account: str | None = None,
    day: str | None = None,
) -> Callable[[T], T]:
    """
    Declare a record class. ``members``: how a column's name becomes the provider's member name.

    ``kind``, ``key``, ``account``, ``day``: the defaults of a :class:`~penstock.connector.Stream` of this record.
    Every column gets a default, so that a class may list nullable and required ones in the provider's order.
    """
    defaults = {"kind": kind, "key": key, "account": account, "day": day}

    def declare(cls: T) -> T:
        for name, annotation in cls.__annotations__.items():
            if not hasattr(cls, name) and _nullable(annotation):
                setattr(cls, name, None)
        made = frozen(cls, kw_only=True)
        made.__penstock_columns__ = _columns(made, _RULES[members])  # type: ignore[attr-defined]
        made.__penstock_stream__ = defaults  # type: ignore[attr-defined]
        return made

    return declare


def columns_of(cls: type) -> tuple[Column, ...]:
    """The columns of a record class, in the order of its declaration."""
    try:
        return typing.cast(tuple[Column, ...], cls.__penstock_columns__)  # type: ignore[attr-defined]
    except AttributeError:
        raise TypeError(f"{cls.__name__} is no record class: put @record() above it") from None


def _columns(cls: type, rule: Callable[[str], str]) -> tuple[Column, ...]:
    hints = typing.get_type_hints(cls)
    made: list[Column] = []
    for attribute in attrs.fields(cls):
        said = dict(attribute.metadata.get(_METADATA, {}))
        is_added = said.pop("added", False)
        member = said.pop("member", None) or rule(attribute.name)
        bare = _bare(hints[attribute.name])
        if bare not in _TYPES:
            raise TypeError(f"{cls.__name__}.{attribute.name}: {hints[attribute.name]!r} is no column type")
        if said.get("format") and bare is not date:
            raise TypeError(f"{cls.__name__}.{attribute.name}: only a date has a form")
        nullable = bare is Any or _nullable(hints[attribute.name])
        made.append(
            Column(
                name=attribute.name, type=_TYPES[bare], nullable=nullable, member=None if is_added else member, **said
            )
        )
    taken: dict[str, str] = {}
    for one in made:
        if one.member is not None and taken.setdefault(one.member, one.name) != one.name:
            raise TypeError(f"{cls.__name__}: {taken[one.member]} and {one.name} both claim the member {one.member!r}")
    return tuple(made)


def _bare(annotation: Any) -> Any:
    if get_origin(annotation) in (types.UnionType, typing.Union):
        (only,) = (part for part in get_args(annotation) if part is not type(None))
        return only
    return annotation


def _nullable(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return "None" in annotation or annotation in ("Json", "Any")
    return annotation is Any or type(None) in get_args(annotation)
