"""
A page while it is decoded, and the operations on all of its rows at once: column by column, never row by row.
"""

import csv
import io
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate, chain, repeat
from operator import attrgetter, is_
from typing import Any, NamedTuple

import msgspec
from attrs import define, field
from msgspec import Raw

from penstock.errors import BrokenBodyError
from penstock.model import EXACT_JSON, Items, Rejected

# --- codecs ---------------------------------------------------------------------------------------------------------


class Decoders(NamedTuple):
    """The decoders of an array of elements of one type, and of one element."""

    many: "msgspec.json.Decoder[Any]"
    one: "msgspec.json.Decoder[Any]"


def decoders(type_: Any, *, texts: bool = False) -> Decoders:
    """The decoders for this type; ``texts``: numbers and booleans come as text (CSV)."""
    return Decoders(
        msgspec.json.Decoder(list[type_], strict=not texts, float_hook=Decimal),
        msgspec.json.Decoder(type_, strict=not texts, float_hook=Decimal),
    )


RAWS = decoders(Raw)
DICTS = decoders(dict[str, Raw])
PLAIN: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder(float_hook=Decimal)
LISTS = msgspec.json.Decoder(list[list[Raw]])
NULL = Raw(b"null")
NO_ELEMENTS = Raw(b"[]")


def array_of(elements: Iterable[Any]) -> bytes:
    return b"[" + b",".join(elements) + b"]"


CHUNK_BYTES = 2**19


# --- pages ----------------------------------------------------------------------------------------------------------


@define(eq=False, repr=False)
class RawPage:
    """
    A page while it is decoded. ``data`` is an array of its elements. ``positions`` are the indices of the rows among
    them. ``all_elements``: those of the array that this is a chunk of.
    """

    data: bytes
    texts: bool = False
    constants: Mapping[str, Any] = field(factory=dict)  # stamps of all elements
    stamps: Mapping[str, list[Any]] = field(factory=dict)  # stamps element by element
    starts: list[int] = field(factory=lambda: [0])  # of the runs of elements that were joined
    path: Callable[[int], str] = lambda run: "$"  # path of a run in the body
    rows: list[Any] = field(factory=list)
    positions: Sequence[int] = ()
    rejected: list[tuple[int, Rejected]] = field(factory=list)  # with their positions
    unknown: set[str] = field(factory=set)
    members: set[str] = field(factory=set)  # all that the elements have; filled where some of them are unknown
    unread: list[tuple[str, str]] = field(factory=list)  # path and reason of values that became null
    same: dict[str, Any] = field(factory=dict)  # added columns that have one value in all rows
    count: int = 0  # elements, once they are read
    repeated: int = 0  # rows dropped: equal to an earlier row of the slice, or of another slice by their time
    superseded: int = 0  # rows delivered before, with an earlier chunk or page, and replaced by rows of this one
    overrun: int = 0  # of those dropped, the ones beyond the slice that are not within a second behind its end
    names: int = 0  # number of columns of CSV
    totals: list[dict[str, str]] = field(factory=list)  # rows of totals
    all_elements: Sequence[Raw] = ()
    _elements: list[Raw] | None = None

    def read(self, decoders: Decoders) -> list[Any]:
        """All elements of the page."""
        elements: list[Any] = decoders.many.decode(self.data)
        return elements

    def elements(self) -> list[Raw]:
        if self._elements is None:
            self._elements = self.read(RAWS)
        return self._elements

    def compact(self) -> None:
        """
        Remove line ends: nested values are copied unchanged, and a line end would break a file of lines.
        """
        if b"\n" in self.data or b"\r" in self.data:
            self.data, self._elements = msgspec.json.format(self.data, indent=-1), None

    def locate(self, position: int) -> tuple[str, int]:
        """(path, index) of an element in the body."""
        run = bisect_right(self.starts, position) - 1
        return self.path(run), position - self.starts[run]

    def row_indices(self) -> list[int]:
        """The indices of the rows among the elements of the whole array."""
        return list(map((-self.starts[0]).__add__, self.positions))

    def again(self, indices: Iterable[int]) -> "RawPage":
        """A page of elements of the whole array, to be decoded again."""
        data = array_of(self.all_elements[index] for index in indices)
        return RawPage(data=data, texts=self.texts, constants=self.constants)

    def at_rows(self, values: list[Any]) -> list[Any]:
        """The values of the rows, from one value per element."""
        return values if len(self.positions) == len(values) else [values[position] for position in self.positions]

    def drop(self, indices: Collection[int]) -> None:
        self.rows = [row for index, row in enumerate(self.rows) if index not in indices]
        self.positions = [position for index, position in enumerate(self.positions) if index not in indices]


def page_of(items: Items) -> RawPage:
    data = items.raw if isinstance(items.raw, bytes) else bytes(items.raw)
    if items.format == "csv":
        return _csv_page(items, data)
    if items.format == "object":
        data = b"[" + data + b"]"
    if items.format == "lines":
        data = array_of(RAWS.one.decode_lines(data))
    return RawPage(
        data=data,
        texts=items.texts,
        constants=items.columns,
        starts=[-items.first],  # the indices in paths are those of the whole array
        path=lambda run: items.path,
    )


def pages_of(run: Items) -> Iterator[RawPage]:
    """
    A run of elements as one page; a large array as pages of about ``CHUNK_BYTES`` each, made on demand. Their rows need
    less memory and fit into the processor's caches.
    """
    size = memoryview(run.raw).nbytes
    if run.format != "array" or size <= 2 * CHUNK_BYTES:
        yield page_of(run)
        return
    elements = RAWS.many.decode(run.raw)
    step = max(1, len(elements) * CHUNK_BYTES // size)
    for start in range(0, len(elements), step):
        yield RawPage(
            data=array_of(elements[start : start + step]),
            texts=run.texts,
            constants=run.columns,
            starts=[-run.first - start],
            path=lambda _: run.path,
            all_elements=elements,
        )


def joined(runs: Sequence[Items]) -> RawPage:
    """Runs of elements as one page; columns that only some of them stamp are null for the others."""
    if len(runs) == 1:
        return page_of(runs[0])
    lists = LISTS.decode(array_of(run.raw if run.format == "array" else b"[" + bytes(run.raw) + b"]" for run in runs))
    lengths = list(map(len, lists))
    names = dict.fromkeys(chain.from_iterable(run.columns for run in runs))
    return RawPage(
        data=array_of(chain.from_iterable(lists)),
        starts=list(accumulate(lengths, initial=0)),
        path=lambda run: runs[run].path,
        stamps={
            name: list(chain.from_iterable(map(repeat, [run.columns.get(name) for run in runs], lengths)))
            for name in names
        },
    )


def _csv_page(items: Items, data: bytes) -> RawPage:
    """
    Rows of CSV as JSON objects of texts, empty fields as null; footers and totals are no elements. A row of another
    length than the header becomes an array, which is no record, so that this row alone is rejected.
    """
    header = items.header
    try:
        reader = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=items.delimiter, strict=True)
        rows = list(filter(any, reader))
    except csv.Error as error:
        raise BrokenBodyError(f"The report is no valid CSV: {error}.") from None
    totals: list[list[str]] = []
    if items.footer or items.totals:
        marked = [row for row in rows if _begins(row, (*items.footer, *items.totals))]
        rows = [row for row in rows if not _begins(row, (*items.footer, *items.totals))]
        totals = [row for row in marked if _begins(row, items.totals)]
    if not set(map(len, rows)) <= {len(header)}:
        # Empty fields behind the last column, as of a header with commas at its end, are none.
        rows = [row[: len(header)] if not any(row[len(header) :]) else row for row in rows]
    if set(map(len, rows)) <= {len(header)}:
        named: list[Any] = list(map(dict, map(zip, repeat(header), rows)))
    else:
        named = [dict(zip(header, row, strict=True)) if len(row) == len(header) else row for row in rows]
    return RawPage(
        # Inside a text every quote is escaped, so this is an empty text after a member's name, and nothing else.
        data=EXACT_JSON.encode(named).replace(b':""', b":null"),
        texts=True,
        constants=items.columns,
        starts=[-items.first],
        path=lambda run: items.path,
        names=len(header),
        totals=[dict(zip(header, row, strict=False)) for row in totals],
    )


def _begins(row: list[str], texts: tuple[str, ...]) -> bool:
    """Whether the first cell with a value begins with one of these texts, as whole words: Summe is not in Summer."""
    cell = next(filter(None, map(str.strip, row)), "")
    return bool(texts) and _words(texts).match(cell) is not None


@lru_cache
def _words(texts: tuple[str, ...]) -> "re.Pattern[str]":
    return re.compile(rf"(?:{'|'.join(map(re.escape, texts))})(?!(?<=\w)\w)", re.IGNORECASE)


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
    # "None in values" would compare, and a Decimal takes a Python call to find out that it is not None.
    return [index for index, value in enumerate(values) if value is None] if any(map(is_, values, repeat(None))) else []
