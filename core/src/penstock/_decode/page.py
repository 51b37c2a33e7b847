"""
A page while it is decoded, and the operations on all of its rows at once: column by column, never row by row.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import repeat
from operator import attrgetter, is_
from typing import Any

import msgspec
from attrs import define, field
from msgspec import Raw

from penstock._decode.codecs import RAWS, Decoders, array_of
from penstock.model import Rejected


@define(eq=False, repr=False)
class Elements:
    """
    The elements of a page as they were received. ``data`` is an array of them. ``whole_array``: the elements of the
    array that this is a chunk of.
    """

    data: bytes
    texts: bool = False
    common_stamps: Mapping[str, Any] = field(factory=dict)  # stamps of all elements
    stamps: Mapping[str, list[Any]] = field(factory=dict)  # a stamp for each element
    starts: list[int] = field(factory=lambda: [0])  # of the runs of elements that were joined
    path: Callable[[int], str] = lambda run: "$"  # path of a run in the body
    names: int = 0  # number of columns of CSV
    totals: list[dict[str, str]] = field(factory=list)  # rows of totals
    whole_array: Sequence[Raw] = ()
    _raw: list[Raw] | None = None

    def decode(self, decoders: Decoders) -> list[Any]:
        """All elements, as the type of the decoders."""
        elements: list[Any] = decoders.many.decode(self.data)
        return elements

    def raw(self) -> list[Raw]:
        """The bytes of each element."""
        if self._raw is None:
            self._raw = self.decode(RAWS)
        return self._raw

    def compact(self) -> None:
        """
        Remove line ends: nested values are copied unchanged, and a line end would break a file of lines.
        """
        if b"\n" in self.data or b"\r" in self.data:
            self.data, self._raw = msgspec.json.format(self.data, indent=-1), None

    def locate(self, position: int) -> tuple[str, int]:
        """(path, index) of an element in the body."""
        run = bisect_right(self.starts, position) - 1
        return self.path(run), position - self.starts[run]

    def of_array(self, indices: Iterable[int]) -> "Elements":
        """The elements with these indices of the whole array."""
        data = array_of(self.whole_array[index] for index in indices)
        return Elements(data=data, texts=self.texts, common_stamps=self.common_stamps)


@define(eq=False, repr=False)
class RawPage:
    """
    A page while it is decoded: its rows, and what was counted of its other elements. ``positions`` are the indices of
    the rows among the elements.
    """

    elements: Elements
    rows: list[Any] = field(factory=list)
    positions: Sequence[int] = ()
    rejected: list[tuple[int, Rejected]] = field(factory=list)  # with their positions
    unknown: set[str] = field(factory=set)
    members: set[str] = field(factory=set)  # all that the elements have; filled where some of them are unknown
    unread: list[tuple[str, str]] = field(factory=list)  # path and reason of values that became null
    uniform: dict[str, Any] = field(factory=dict)  # added columns that have one value in all rows
    count: int = 0  # elements, once they are read
    repeated: int = 0  # rows dropped: equal to an earlier row of the slice, or of another slice by their time
    superseded: int = 0  # rows delivered before, with an earlier chunk or page, and replaced by rows of this one
    overrun: int = 0  # of those dropped, the ones beyond the slice that are not within a second behind its end

    def row_indices(self) -> list[int]:
        """The indices of the rows among the elements of the whole array."""
        return list(map((-self.elements.starts[0]).__add__, self.positions))

    def at_rows(self, values: list[Any]) -> list[Any]:
        """The values of the rows, from one value per element."""
        return values if len(self.positions) == len(values) else [values[position] for position in self.positions]

    def drop(self, indices: Collection[int]) -> None:
        """Remove these rows."""
        self.rows = [row for index, row in enumerate(self.rows) if index not in indices]
        self.positions = [position for index, position in enumerate(self.positions) if index not in indices]


# --- columns --------------------------------------------------------------------------------------------------------


def values_of(rows: list[Any], name: str) -> list[Any]:
    return list(map(attrgetter(name), rows))


def fill(rows: list[Any], name: str, value: Any) -> None:
    """One value for every row."""
    deque(map(setattr, rows, repeat(name), repeat(value)), maxlen=0)


def fill_each(rows: list[Any], name: str, values: Iterable[Any]) -> None:
    """A value for each row."""
    deque(map(setattr, rows, repeat(name), values), maxlen=0)


def nulls(values: list[Any]) -> list[int]:
    """The indices of the nulls."""
    # "None in values" would compare, and a Decimal takes a Python call to find out that it is not None.
    return [index for index, value in enumerate(values) if value is None] if any(map(is_, values, repeat(None))) else []
