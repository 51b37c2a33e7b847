"""
A chunk while it is decoded, and the operations on all of its rows at once: column by column, never row by row.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate, chain, repeat
from operator import attrgetter, is_
from typing import Any, NamedTuple

from attrs import define, field
from msgspec import Raw, ValidationError

from penstock._decode.elements import DICTS, LISTS, NO_ELEMENTS, NULL, RAWS, Elements, array_of
from penstock.model import EXACT_JSON, Rejected
from penstock.records import Column


class RejectedElement(NamedTuple):
    """An element that is no row. ``position``: its index among the elements of its chunk."""

    position: int
    rejected: Rejected


class UnreadValue(NamedTuple):
    """A value that did not fit its nullable column, and became null. ``position``: of its element in the chunk."""

    position: int
    path: str
    reason: str


@define(eq=False, repr=False)
class DecodingChunk:
    """
    A chunk while it is decoded: its rows, and what was counted of its other elements. ``positions`` are the indices of
    the rows among the elements.
    """

    elements: Elements
    rows: list[Any] = field(factory=list)
    positions: Sequence[int] = ()
    rejected: list[RejectedElement] = field(factory=list)
    unknown: set[str] = field(factory=set)
    members: set[str] = field(factory=set)  # all that the elements have; filled where some of them are unknown
    unread: list[UnreadValue] = field(factory=list)
    uniform: dict[str, Any] = field(factory=dict)  # added columns that have one value in all rows
    count: int = 0  # elements, once they are read
    repeated: int = 0  # rows dropped: equal to an earlier row of the slice, or of another slice by their time
    superseded: int = 0  # rows delivered before, with an earlier chunk or page, and replaced by rows of this one
    replaced: int = 0  # these, and rows of this chunk that a later one of it replaces: same key, other values
    replaced_example: str = ""  # the key of the first
    out_of_bounds: int = 0  # of those dropped, the ones beyond the slice that are not within a second behind its end

    def at_rows(self, values: list[Any]) -> list[Any]:
        """The values of the rows, from one value per element."""
        return values if len(self.positions) == len(values) else [values[position] for position in self.positions]

    def drop(self, indices: Collection[int]) -> None:
        """Remove these rows."""
        self.rows = [row for index, row in enumerate(self.rows) if index not in indices]
        self.positions = [position for index, position in enumerate(self.positions) if index not in indices]


# --- columns --------------------------------------------------------------------------------------------------------


def get_column(rows: list[Any], name: str) -> list[Any]:
    return list(map(attrgetter(name), rows))


def set_column(rows: list[Any], name: str, value: Any) -> None:
    """One value for every row."""
    deque(map(setattr, rows, repeat(name), repeat(value)), maxlen=0)


def set_column_each(rows: list[Any], name: str, values: Iterable[Any]) -> None:
    """A value for each row."""
    deque(map(setattr, rows, repeat(name), values), maxlen=0)


def nulls(values: list[Any]) -> list[int]:
    """The indices of the nulls."""
    # "None in values" would compare, and a Decimal takes a Python call to find out that it is not None.
    return [index for index, value in enumerate(values) if value is None] if any(map(is_, values, repeat(None))) else []


# --- derived streams ------------------------------------------------------------------------------------------------


def nested_elements(chunk: DecodingChunk, column: Column, stamps: Mapping[str, str]) -> Elements:
    """The elements of the column over all rows of ``chunk``, with their paths in the body."""
    values = get_column(chunk.rows, column.name)
    if not set(map(type, values)) <= {Raw}:
        values = [
            value if isinstance(value, Raw) else NO_ELEMENTS if value is None else Raw(EXACT_JSON.encode(value))
            for value in values
        ]
    try:
        lists = LISTS.decode(array_of(values))
    except ValidationError:
        lists = list(map(_as_list, values))
    lengths = list(map(len, lists))

    def path(index: int) -> str:
        outer, number = chunk.elements.locate(chunk.positions[index])
        return f"{outer}[{number}].{column.member or column.name}"

    return Elements(
        data=array_of(chain.from_iterable(lists)),
        starts=list(accumulate(lengths, initial=0)),
        path=path,
        stamps={
            name: list(chain.from_iterable(map(repeat, get_column(chunk.rows, parent_column), lengths)))
            for name, parent_column in stamps.items()
        },
    )


def _as_list(value: Raw) -> list[Raw]:
    """
    The elements of a value that should be an array. Null and ``{}`` have none. An object of objects is an array with
    indices, as PHP prints one. Any other value is a single element, which is rejected if it is no object.
    """
    first = bytes(memoryview(value)[:1])
    if first == b"[":
        return list(RAWS.many.decode(value))
    if value == NULL:
        return []
    if first == b"{":
        members = list(DICTS.one.decode(value).values())
        if all(bytes(memoryview(member)[:1]) == b"{" for member in members):
            return members
    return [value]
