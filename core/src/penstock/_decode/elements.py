"""
From the items of an answer to the elements of chunks: small runs are joined, large arrays are split, CSV becomes JSON
objects.
"""

import csv
import io
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate, chain, repeat
from typing import Any, NamedTuple

import msgspec
from attrs import define, evolve, field
from msgspec import Raw

from penstock.errors import BrokenBodyError
from penstock.model import EXACT_JSON, Items
from penstock.report_files import MAX_RECORD_BYTES


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
LISTS = msgspec.json.Decoder(list[list[Raw]])
NULL = Raw(b"null")
NO_ELEMENTS = Raw(b"[]")


def array_of(elements: Iterable[Any]) -> bytes:
    return b"[" + b",".join(elements) + b"]"


@define(eq=False, repr=False)
class Elements:
    """
    The elements of a chunk as they were received. ``data`` is an array of them. ``whole_array``: the elements of the
    array that this is a part of.
    """

    data: bytes
    texts: bool = False
    common_stamps: Mapping[str, Any] = field(factory=dict)  # stamps of all elements
    stamps: Mapping[str, list[Any]] = field(factory=dict)  # a stamp for each element
    starts: list[int] = field(factory=lambda: [0])  # of the runs of elements that were joined
    path: Callable[[int], str] = lambda run: "$"  # path of a run in the body
    header_length: int = 0  # number of columns of CSV
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


CHUNK_BYTES = 2**19

JOINED_BYTES = 2**20  # runs of elements are joined into chunks of about this size


def grouped(items: Iterable[Items]) -> Iterator[Sequence[Items]]:
    """The runs that are decoded together: small ones joined, each large array and each block of a file alone."""
    small: list[Items] = []
    size = 0
    for run in items:
        length = memoryview(run.raw).nbytes
        alone = run.format in ("lines", "csv") or run.texts or length > 2 * CHUNK_BYTES
        if small and (alone or size + length > JOINED_BYTES):
            yield small
            small, size = [], 0
        if alone:
            yield [run]
        else:
            small.append(run)
            size += length
    if small:
        yield small


def chunks_of(runs: Sequence[Items], position: int) -> Iterator[Elements]:
    """
    The chunks of runs that are decoded together. ``position``: the number of elements of the file before this block.

    A large array becomes chunks of about ``CHUNK_BYTES`` each, made on demand. Their rows need less memory and fit into
    the processor's caches.
    """
    run = runs[0]
    size = memoryview(run.raw).nbytes
    if len(runs) > 1:
        yield _joined(runs)
    elif run.format in ("lines", "csv"):
        yield _chunk(evolve(run, first=position))
    elif run.format == "object" or size <= 2 * CHUNK_BYTES:
        yield _chunk(run)
    else:
        yield from _split(run, size)


def _split(run: Items, size: int) -> Iterator[Elements]:
    elements = RAWS.many.decode(run.raw)
    step = max(1, len(elements) * CHUNK_BYTES // size)
    for start in range(0, len(elements), step):
        yield Elements(
            data=array_of(elements[start : start + step]),
            texts=run.texts,
            common_stamps=run.columns,
            starts=[-run.first - start],
            path=lambda _: run.path,
            whole_array=elements,
        )


def _chunk(items: Items) -> Elements:
    data = items.raw if isinstance(items.raw, bytes) else bytes(items.raw)
    if items.format == "csv":
        return _csv_chunk(items, data)
    if items.format == "object":
        data = b"[" + data + b"]"
    if items.format == "lines":
        data = array_of(RAWS.one.decode_lines(data))
    return Elements(
        data=data,
        texts=items.texts,
        common_stamps=items.columns,
        starts=[-items.first],  # the indices in paths are those of the whole array
        path=lambda run: items.path,
    )


def _joined(runs: Sequence[Items]) -> Elements:
    """Runs of elements as one chunk; columns that only some of them stamp are null for the others."""
    lists = LISTS.decode(array_of(run.raw if run.format == "array" else b"[" + bytes(run.raw) + b"]" for run in runs))
    lengths = list(map(len, lists))
    names = dict.fromkeys(chain.from_iterable(run.columns for run in runs))
    return Elements(
        data=array_of(chain.from_iterable(lists)),
        starts=list(accumulate(lengths, initial=0)),
        path=lambda run: runs[run].path,
        stamps={
            name: list(chain.from_iterable(map(repeat, [run.columns.get(name) for run in runs], lengths)))
            for name in names
        },
    )


def _csv_chunk(items: Items, data: bytes) -> Elements:
    """
    Rows of CSV as JSON objects of texts, empty fields as null; footers and totals are no elements. A row of another
    length than the header becomes an array, which is no record, so that this row alone is rejected.
    """
    header = items.header
    csv.field_size_limit(MAX_RECORD_BYTES)  # of the process; else a cell is at most 128 KiB
    try:
        reader = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=items.delimiter, strict=True)
        rows = list(filter(any, reader))
    except csv.Error as error:
        raise BrokenBodyError(f"the report is no valid CSV: {error}.") from None
    totals: list[list[str]] = []
    if items.footer or items.totals:
        totals = [row for row in rows if _begins(row, items.totals)]
        rows = [row for row in rows if not _begins(row, (*items.footer, *items.totals))]
    return Elements(
        # Inside a text every quote is escaped, so this is an empty text after a member's name, and nothing else.
        data=EXACT_JSON.encode(_named(rows, header)).replace(b':""', b":null"),
        texts=True,
        common_stamps=items.columns,
        starts=[-items.first],
        path=lambda run: items.path,
        header_length=len(header),
        totals=[dict(zip(header, row, strict=False)) for row in totals],
    )


def _named(rows: list[list[str]], header: Sequence[str]) -> list[Any]:
    """The rows as objects by the names of the header; those of another length as they are."""
    if not set(map(len, rows)) <= {len(header)}:
        # Empty fields behind the last column, as of a header with commas at its end, are none.
        rows = [row[: len(header)] if not any(row[len(header) :]) else row for row in rows]
    if set(map(len, rows)) <= {len(header)}:
        return list(map(dict, map(zip, repeat(header), rows)))
    return [dict(zip(header, row, strict=True)) if len(row) == len(header) else row for row in rows]


def _begins(row: list[str], texts: tuple[str, ...]) -> bool:
    """Whether the first cell with a value begins with one of these texts, as whole words: Summe is not in Summer."""
    cell = next(filter(None, map(str.strip, row)), "")
    return bool(texts) and _words(texts).match(cell) is not None


@lru_cache
def _words(texts: tuple[str, ...]) -> "re.Pattern[str]":
    return re.compile(rf"(?:{'|'.join(map(re.escape, texts))})(?!(?<=\w)\w)", re.IGNORECASE)
