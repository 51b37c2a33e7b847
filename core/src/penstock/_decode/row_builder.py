"""
The row builder of one stream: the steps from the items of an answer to batches of typed rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from attrs import define, frozen
from msgspec import UNSET

from penstock._decode.chunk import DecodingChunk, UnreadValue, nested_elements, set_column
from penstock._decode.columns import NOTHING_REQUESTED, ColumnRules, Requested
from penstock._decode.elements import Elements, chunks_of, grouped
from penstock._decode.keys import KeyRules
from penstock._decode.record_parser import RecordParser
from penstock._decode.rejects import Rejects
from penstock._decode.row_comparison import BY_DIGEST, ByReadingAgain, RowComparison
from penstock._decode.slice_keys import SliceKeys
from penstock._decode.totals import Measures, Totals, UnmarkedTotal
from penstock.errors import BoundExceededError, BrokenBodyError, PenstockError
from penstock.model import Batch, Items
from penstock.records import Column
from penstock.sinks import Layout

INVALID_JSON = (RecursionError, msgspec.DecodeError, UnicodeDecodeError)


@frozen(kw_only=True, eq=False, repr=False)
class DecodedChunk:
    """
    The result of decoding a chunk: ``count`` = rows + rejected + ``repeated``.

    ``repeated``: rows that were dropped: those equal to an earlier row of the slice, and those outside of the requested
    span; also rejected elements of an earlier page. ``out_of_bounds``: the dropped rows outside of the span, except
    those up to one second after its end. ``fresh``: elements whose key was not on an earlier page of the listing.

    ``superseded``: for ``changes``, rows of earlier chunks that rows of this one replace. They count as repeated, so
    the target has ``superseded`` rows fewer than were delivered. ``replaced``: these, and the rows of this chunk that
    later ones of it replace; ``replaced_example``: the key of the first.

    ``unread_values``: values of ``rows`` that did not fit a nullable column, became null and are kept in ``_extra``;
    ``unread_example``: path and reason of the first.
    ``derived``: the batches of the derived streams, in their order. ``absent``: the measures that no element has, where
    some elements have unknown members instead.
    """

    batch: Batch
    count: int
    fresh: int
    repeated: int = 0
    out_of_bounds: int = 0
    superseded: int = 0
    replaced: int = 0
    replaced_example: str = ""
    unread_values: int = 0
    unread_example: tuple[str, str] | None = None
    derived: tuple[Batch, ...] = ()
    absent: frozenset[str] = frozenset()


class ChunkRules(NamedTuple):
    """
    What the chunks of an answer have in common. ``totals``: the sums of the file that the chunk is of, to be compared
    with its rows of totals. ``unmarked`` finds a row of totals that nothing marks. ``comparison``: of
    rows with the same key.
    """

    totals: Totals | None = None
    unmarked: UnmarkedTotal | None = None
    comparison: RowComparison = BY_DIGEST


NO_RULES = ChunkRules()


@frozen(eq=False, repr=False, kw_only=True)
class RowBuilder:
    """
    Builds the typed rows of one stream, chunk by chunk. :func:`penstock._decode.compile.compile_stream` makes it.

    ``layout``: what is delivered. ``parser``, ``column_rules``, ``measures`` and ``key_rules`` do the steps
    of :meth:`build_chunk`; ``derived`` are the streams cut from this one, in their order.
    """

    layout: Layout
    parser: RecordParser
    column_rules: ColumnRules
    measures: Measures
    key_rules: KeyRules
    derived: tuple["DerivedRowBuilder", ...]

    @property
    def columns(self) -> Mapping[str, Column]:
        """Every column, hidden ones too."""
        return self.column_rules.columns

    @property
    def day_of(self) -> str | None:
        """The column from which a row's day is read, if there is one."""
        return self.column_rules.day_of

    def column_of_day(self, default: str | None = None) -> Column | None:
        """The column from which a row's day is read, else the column ``default``; None if there is neither."""
        name = self.column_rules.day_of or default
        return self.column_rules.columns.get(name) if name is not None else None

    @property
    def rejects(self) -> Rejects:
        return self.column_rules.rejects

    @cached_property
    def streams(self) -> "tuple[RowBuilder, ...]":
        """The stream itself, then those derived from it."""
        return (self, *(derived.row_builder for derived in self.derived))

    @cached_property
    def layouts(self) -> tuple[Layout, ...]:
        """The layout of the stream, then those of the streams derived from it."""
        return tuple(stream.layout for stream in self.streams)

    def build(
        self, items: Iterable[Items], requested: Requested = NOTHING_REQUESTED, slice_keys: SliceKeys | None = None
    ) -> Iterator[DecodedChunk]:
        """
        The typed rows of all items of an answer. Small runs are joined into one batch. Large arrays and files are
        decoded in chunks, each when the caller requests it.

        Stamps are converted to the column's type; those of ``items`` override those of ``requested``. If the provider
        sends a stamped column too, the stamp fills its nulls, and a row with another value is rejected, since it
        belongs to another partition or parent. ``slice_keys``: of the pages of the slice before this one.

        Raises PluginError for a stamp without a column, or of another type; BrokenBodyError and BoundExceededError
        for files of lines, which the envelope does not check.
        """
        slice_keys = SliceKeys() if slice_keys is None else slice_keys
        slice_keys.next_page()
        comparison: RowComparison = BY_DIGEST
        if slice_keys.only_page and isinstance(items, tuple) and len(items) == 1 and items[0].format == "array":
            comparison = ByReadingAgain(partial(self._read_again, requested))
        files: dict[str, _File] = {}  # by path: a file comes in blocks
        unmarked = UnmarkedTotal(self.measures) if self.measures.dimensions else None
        for runs in grouped(items):
            first = runs[0]
            if first.path not in files:
                files[first.path] = _File(Totals(self.measures) if first.totals else None)
                if first.format == "csv":
                    self.parser.check_header(first.header)
                    if not first.raw:
                        continue
            file = files[first.path]
            rules = ChunkRules(file.totals, unmarked, comparison)
            try:
                for elements in chunks_of(runs, file.elements):
                    decoded = self.build_chunk(DecodingChunk(elements), requested, slice_keys, rules)
                    file.elements += decoded.count
                    yield decoded
                    del elements, decoded  # else the rows of two chunks are in memory
            except INVALID_JSON as error:
                raise self._invalid_json(error) from None
        if unmarked is not None:
            unmarked.check()

    def build_chunk(
        self, chunk: DecodingChunk, requested: Requested, slice_keys: SliceKeys, rules: ChunkRules = NO_RULES
    ) -> DecodedChunk:
        """Decode a chunk, in seven steps."""
        row_type = self.parser.parse(chunk)  # 1. Bytes to rows; elements that do not fit are rejected.
        self.column_rules.apply(chunk, requested)  # 2. Stamps, amounts and days.
        if rules.totals is not None:
            rules.totals.compare(chunk)  # 3. Rows of totals in a report: marked ones, and others.
        if rules.unmarked is not None:
            rules.unmarked.reject(chunk, self.rejects)
        # 4. What came before is dropped.
        fresh = self.key_rules.drop_repeats(chunk, slice_keys, rules.comparison, requested.stamps)
        derived = [child.build(chunk) for child in self.derived] if self.derived else ()  # 5. Derived streams' rows.
        absent = self.measures.absent(chunk) if chunk.unknown else frozenset[str]()  # 6. Measures that no element has.
        for name in self.column_rules.rejects.hidden:  # 7. Columns that are not delivered.
            set_column(chunk.rows, name, UNSET)
        set_column(chunk.rows, "__class__", row_type)  # of one memory layout, see structs.Shape
        return _decoded(self.layout, chunk, derived, fresh, absent)

    def _read_again(self, requested: Requested, elements: Elements, indices: Iterable[int]) -> list[Any]:
        """The rows of some elements of the whole array, as the first two steps of :meth:`build_chunk` made them."""
        again = DecodingChunk(elements.of_array(indices))
        self.parser.parse(again)
        self.column_rules.apply(again, requested)
        return again.rows

    def _invalid_json(self, error: Exception) -> PenstockError:
        """An error of reading JSON (``INVALID_JSON``) as the provider's."""
        if isinstance(error, RecursionError):
            return BoundExceededError("an element is nested too deeply to be read safely.")
        return BrokenBodyError(f"the response is no JSON: {error}.")


@define(eq=False, repr=False)
class _File:
    """What was read of a file: the number of its elements, and the sums to be compared with its rows of totals."""

    totals: Totals | None
    elements: int = 0


class DerivedRowBuilder(NamedTuple):
    """A derived stream: the column that it is cut from, and the columns that its rows are stamped with."""

    row_builder: RowBuilder
    column: Column
    stamps: Mapping[str, str]

    def build(self, parent: DecodingChunk) -> DecodedChunk:
        """The rows in the parent's rows."""
        chunk = DecodingChunk(nested_elements(parent, self.column, self.stamps))
        return self.row_builder.build_chunk(chunk, NOTHING_REQUESTED, SliceKeys())


def _decoded(
    layout: Layout, chunk: DecodingChunk, derived: Sequence[DecodedChunk], fresh: int, absent: frozenset[str]
) -> DecodedChunk:
    """The result of a chunk after its last step."""
    unread: list[UnreadValue] = []
    if chunk.unread:
        delivered = set(chunk.positions)
        unread = [value for value in chunk.unread if value.position in delivered]
    unread_values, unread_example = len(unread), (unread[0].path, unread[0].reason) if unread else None
    for child in derived:
        unread_values += child.unread_values
        unread_example = unread_example or child.unread_example
    rejected = sorted(chunk.rejected, key=attrgetter("position"))
    return DecodedChunk(
        batch=Batch(
            layout=layout,
            rows=chunk.rows,
            rejected=tuple([element.rejected for element in rejected]) if rejected else (),
            unknown=tuple(sorted(chunk.unknown)),
        ),
        count=chunk.count,
        fresh=fresh,
        repeated=chunk.repeated,
        out_of_bounds=chunk.out_of_bounds,
        superseded=chunk.superseded,
        replaced=chunk.replaced,
        replaced_example=chunk.replaced_example,
        unread_values=unread_values,
        unread_example=unread_example,
        derived=tuple([child.batch for child in derived]) if derived else (),
        absent=absent,
    )
