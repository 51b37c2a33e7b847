"""
Columns inside of other members: the outer members from which they are read, their values, and what no column reads.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET, Raw

from penstock._decode.codecs import PLAIN
from penstock._decode.coerce import NoObject
from penstock.records import Column


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
        value = PLAIN.decode(value)
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
    for name, item in value.items() if isinstance(value, dict) else ():
        if name not in claims:
            unknown[name] = item
        elif claims[name] and (inner := unknown_in(item, claims[name])):
            unknown[name] = inner
    return unknown
