"""
Structs made from the columns of a stream: the types to which the elements of a chunk are decoded. A column inside of
another member is read from that outer member, which is a field of the Struct.
"""

import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
from msgspec import UNSET, Raw

from penstock._decode.conversion import NoObject, is_converted
from penstock._decode.elements import Decoders, decoders
from penstock.model import PLAIN_JSON
from penstock.records import Column, ColumnType
from penstock.sinks import EXTRA

Nested = Literal["raw", "plain"]

# In the name of a member, msgspec makes no field of a Struct for it.
_ESCAPED_IN_JSON = re.compile(r'["\\\x00-\x1f]')

DECODED_TYPES: dict[ColumnType, Any] = {"text": str, "integer": int, "boolean": bool, "date": date}


class OuterMembers(NamedTuple):
    """
    The outer members from which nested columns are read. Each is kept in an attribute of the row until they are filled.

    A member that a json column delivers whole needs no attribute, and has no unknown members.
    """

    columns: tuple[Column, ...]
    attributes: Mapping[str, str]  # attribute -> member
    holders: Mapping[str, str]  # member -> the attribute or json column that holds it
    claims: Mapping[str, Any]  # member -> tree of the names that columns read inside of it

    @classmethod
    def of(cls, columns: Iterable[Column]) -> "OuterMembers":
        columns = tuple(columns)
        nested = tuple(column for column in columns if column.path)
        direct = {
            str(column.member): column.name for column in columns if column.member is not None and not column.path
        }
        claims: dict[str, Any] = {}
        for column in nested:
            inner = claims
            for step in column.path:
                inner = inner.setdefault(step, {})
        attributes = {f"_outer_{number}": member for number, member in enumerate(claims) if member not in direct}
        holders = {**direct, **{member: attribute for attribute, member in attributes.items()}}
        return cls(nested, attributes, holders, claims)

    def path_of(self, column: Column) -> tuple[str, tuple[str, ...]]:
        """The attribute that a column's value is in, and the members that lead to it."""
        return self.holders[column.path[0]], column.path[1:]


def value_at(value: Any, steps: Sequence[str]) -> Any:
    """The value at the end of ``steps``; None if a member is missing or null, NoObject where an object is expected."""
    if isinstance(value, Raw):
        value = PLAIN_JSON.decode(value)
    for step in steps:
        if value is None or value is UNSET:
            return None
        if not isinstance(value, dict):
            return NoObject(value)
        value = value.get(step)
    return value


def unknown_in(value: Any, claims: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an object that no column reads."""
    unknown: dict[str, Any] = {}
    for name, inner_value in value.items() if isinstance(value, dict) else ():
        if name not in claims:
            unknown[name] = inner_value
        elif claims[name] and (inner := unknown_in(inner_value, claims[name])):
            unknown[name] = inner
    return unknown


class Shape(NamedTuple):
    """
    Structs of one memory layout, so that assigning ``__class__`` turns rows of one into rows of another.
    ``row_type`` has the names of the columns; ``element_type`` has the provider's, and ignores unknown members. The
    decoders ``strict`` refuse these, ``loose`` make an ``element_type``.
    """

    strict: Decoders
    loose: Decoders
    element_type: type
    row_type: type

    @classmethod
    def of(cls, columns: Mapping[str, Column], raw: Collection[str], outer: OuterMembers, *, texts: bool) -> "Shape":
        """``raw``: the json columns that stay bytes. ``texts``: all values come as text (CSV)."""
        # A column that penstock adds, or that is read from inside another member, has a place in the Struct. Its name
        # there is random, so that no member sets it. A field for a member that no Struct can have is required, too: so
        # no element fits, and each is read member by member.
        token = secrets.token_hex(16)
        fields: list[Any] = []
        rename = {}
        for column in columns.values():
            required = is_sent(column) and (not column.nullable or _is_unreadable(column.member))
            fields.append((column.name, _annotation(column, raw), *([] if required else [None])))
            readable = is_sent(column) and not _is_unreadable(column.member)
            rename[column.name] = str(column.member) if readable else f"{token} {column.name}"
        for attribute, member in outer.attributes.items():
            unreadable = _is_unreadable(member)
            fields.append((attribute, Any, *([] if unreadable else [UNSET])))
            rename[attribute] = f"{token} {attribute}" if unreadable else member
        fields.append((EXTRA, Any, UNSET))
        rename[EXTRA] = f"{token} {EXTRA}"
        strict, loose = (
            msgspec.defstruct("Record", fields, rename=rename, kw_only=True, gc=False, forbid_unknown_fields=forbid)
            for forbid in (True, False)
        )
        row_type = msgspec.defstruct(
            "Row", [(name, Any, UNSET) for name in rename], kw_only=True, gc=False, module=__name__
        )
        return cls(
            strict=decoders(strict, texts=texts),
            loose=decoders(loose, texts=texts),
            element_type=loose,
            row_type=row_type,
        )


def is_sent(column: Column) -> bool:
    """Whether the column is a member of the element itself."""
    return not column.added and not column.path


def _is_unreadable(member: str | None) -> bool:
    """Whether no field of a Struct can have the name of the member."""
    return _ESCAPED_IN_JSON.search(member or "") is not None


def _annotation(column: Column, raw: Collection[str]) -> Any:
    if column.added or is_converted(column):
        return Any
    if column.type == "json":
        return Raw if column.name in raw else Any
    return DECODED_TYPES[column.type] | None if column.nullable else DECODED_TYPES[column.type]


@lru_cache(maxsize=64)
def unknown_members(names: tuple[str, ...], nested: Nested) -> Decoders:
    """Decoders of dictionaries that contain, of the members with these names, those that are present."""
    members = dict.fromkeys(names, Raw if nested == "raw" else Any)
    return decoders(TypedDict("Extra", members, total=False))  # type: ignore[operator]
