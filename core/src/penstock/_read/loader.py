"""
Load the pages of one planned slice: decode them, and pass their chunks on to be written or held.
"""

from datetime import date, datetime
from typing import Any

from attrs import define, evolve, field

from penstock._decode import DecodedChunk, Requested, SliceKeys
from penstock._fetch.call import Answered
from penstock._plugins.plugin_errors import FAILURES, raise_sink_error
from penstock._read.chunk_writer import ChunkWriter, HeldChunks
from penstock._read.context import SliceContext
from penstock._read.listing import LoadedPage
from penstock._read.result import LoadedPartition
from penstock._read.slice_counts import SliceCounts
from penstock.errors import BrokenPageError, wrong_return
from penstock.model import Answer, Partition, Request, Slice


@define(eq=False, repr=False)
class Loader:
    """
    Loads the pages of one reading of a planned slice into the writers of its partitions, and adds to its ``counts``.
    The writers are committed later.
    """

    context: SliceContext
    counts: SliceCounts
    days: frozenset[date] | None = field(init=False)  # requested, where rows have one: a row of another day is rejected
    slice_keys: SliceKeys = field(factory=SliceKeys, init=False)
    output: ChunkWriter | HeldChunks = field(init=False)  # the writer, or what holds the chunks before it
    _writer: ChunkWriter = field(init=False)

    def __attrs_post_init__(self) -> None:
        planned = self.context.planned
        has_days = planned.stream.kind == "report" and planned.stream.day
        self.days = frozenset(planned.slice.days) if has_days else None
        by_day: dict[date, Partition] = {}
        if len(planned.partitions) > 1:
            by_day = dict(zip(planned.slice.days, planned.partitions, strict=True))
        loaded = [LoadedPartition() for _ in planned.partitions]
        self.counts.partitions.update(zip(planned.partitions, loaded, strict=True))
        self.output = self._writer = ChunkWriter(self.context, self.counts, by_day, loaded[0])

    def begin(self) -> None:
        """Open the writer of every partition."""
        target, layouts = self.context.target, self.context.components.row_builder.layouts
        if target is None:
            return
        for partition, loaded in self.counts.partitions.items():
            try:
                loaded.writer = target.begin(layouts, partition)
            except FAILURES as error:  # no context manager: it would cost each partition some ten calls
                raise_sink_error(error, type(target).__name__)
            if loaded.writer is None:
                raise wrong_return(target.begin, None, "the writer of the partition")

    def abort(self) -> None:
        """Drop everything that was loaded. A failure is noted only: the error that ended the read is reported."""
        for partition in self.counts.partitions.values():
            if (error := partition.abort(type(self.context.target).__name__)) is not None:
                self.context.note(str(error))
        self.context.dependencies.drop_rows(self.context.planned)

    def hold(self) -> HeldChunks:
        """Hold loaded rows in memory from now on, until :meth:`release`, :meth:`discard` or until they are too many."""
        self.slice_keys.savepoint()
        held = self.output = HeldChunks(self._writer)
        return held

    def release(self, held: HeldChunks) -> None:
        """Write the held rows."""
        self.output = self._writer
        held.release()

    def discard(self, held: HeldChunks) -> bool:
        """Drop the held rows. False if there were too many to hold, so that they were written."""
        self.output = self._writer
        if held.holds_all:
            self.slice_keys.rollback()
        return held.holds_all

    # --- pages --------------------------------------------------------------------------------------------------------

    def load(self, slice_: Slice, result: Answered, *, repeat: bool) -> LoadedPage:
        """
        Decode a page of this slice, the planned one or a part of it, and write its rows.

        ``repeat``: the page equals an earlier one of the listing; its elements are counted as repeated and not written.
        Raises BrokenBodyError for a page that cannot be decoded, BrokenPageError for one of days that were not
        requested, and the errors of hooks and writers.
        """
        request = result.call.request
        self._check_envelope_days(request, result.answer)
        span = self._span(slice_) if self.context.planned.stream.inexact_bounds else None
        requested = Requested({**self._stamps(), **request.columns}, self.days, span)
        count = fresh = 0
        for decoded in self.context.components.row_builder.build(result.answer.items, requested, self.slice_keys):
            loaded = _as_repeated(decoded) if repeat else decoded
            count += loaded.count
            fresh += loaded.fresh
            self.counts.has_out_of_bounds |= bool(loaded.out_of_bounds)
            self.counts.has_mixed_derived |= bool(loaded.superseded and loaded.derived)
            self.output.write(loaded)
            del decoded, loaded  # else their rows wait for those of the next chunk
        return LoadedPage(count=count, fresh=fresh)

    # --- days ---------------------------------------------------------------------------------------------------------

    def _span(self, slice_: Slice) -> tuple[datetime, datetime] | None:
        """The time that rows must be in, where the provider may return others (``Stream.inexact_bounds``)."""
        column = self.context.components.row_builder.column_of_day()
        if column is None or column.type != "datetime":
            return None
        return None if slice_.start is None or slice_.end is None else (slice_.start, slice_.end)

    def _stamps(self) -> dict[str, Any]:
        """
        The values of the partition's columns for every row. A day that the rows contain is not stamped; of ``changes``,
        whose rows may be of a day before, also not where the provider sends the column.
        """
        planned = self.context.planned
        stream, account, days = planned.stream, planned.slice.account, planned.slice.days
        stamps: dict[str, Any] = {}
        if stream.account is not None and account is not None:
            stamps[stream.account] = account
        row_builder = self.context.components.row_builder
        if stream.day is None or row_builder.day_of is not None or len(days) != 1:
            return stamps
        if stream.kind == "report" or row_builder.columns[stream.day].added:
            stamps[stream.day] = days[0]
        return stamps

    def _check_envelope_days(self, request: Request, answer: Answer) -> None:
        """Raises BrokenPageError if the envelope states the days of its records, and none of them was requested."""
        column = self.context.planned.stream.day
        if self.days is None or not isinstance(answer.items, tuple):
            return  # a file that is read as a stream has no envelope
        days_stated = {str(items.columns[column]) for items in answer.items if column and column in items.columns}
        if not days_stated or days_stated & {str(day) for day in self.days}:
            return
        raise BrokenPageError(f"the response is of {', '.join(sorted(days_stated)[:3])}, not of the requested days").at(
            request=request
        )


def _as_repeated(decoded: DecodedChunk) -> DecodedChunk:
    """A chunk of a page that equals an earlier one: its elements count as repeated, and none is written."""
    nothing = evolve(decoded.batch, rows=[], rejected=(), unknown=())
    return DecodedChunk(batch=nothing, count=decoded.count, fresh=0, repeated=decoded.count)
