"""
Load the pages of one planned slice: decode them, write each row with its partition, count everything.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from attrs import define, evolve, field

from penstock._decode import DecodedChunk, Requested, SliceKeys, split_by_day, sums
from penstock._decode.chunk import get_column
from penstock._decode.conversion import coerce, days_of
from penstock._fetch.call import CallResult
from penstock._plugins.plugin_errors import FAILURES, raise_sink_error, sink_errors
from penstock._read.context import SliceContext
from penstock._read.counts import PartitionCounts, check_rejected
from penstock._read.listing import Listing, LoadedPage, broken_page
from penstock._read.result import LoadedPartition
from penstock._read.slice_counts import SliceCounts
from penstock.errors import BrokenBodyError, BrokenPageError, PenstockError
from penstock.model import Answer, Batch, Partition, Rejected, Request, Slice
from penstock.protocols import check_returned
from penstock.records import Column
from penstock.sinks import Target, Writer

MAX_HELD_RECORDS = 20_000
"""The most records of a slice that are held in memory until its last page shows whether it reached a ceiling."""


@define(eq=False, repr=False)
class HeldPages:
    """
    Decoded pages of a slice that are not written yet. ``promised``: what the provider states for their listings; None:
    nothing.
    """

    pages: list[DecodedChunk] = field(factory=list)
    records: int = 0
    promised: int | None = None

    def add(self, page: DecodedChunk) -> None:
        self.pages.append(page)
        self.records += page.count


@define(eq=False, repr=False)
class Loader:
    """
    Loads the pages of one reading of a planned slice into the writers of its partitions, which wait for the commit
    then, and adds to its ``counts``.
    """

    context: SliceContext
    counts: SliceCounts

    days: frozenset[date] | None = field(init=False)  # requested, where rows have one: a row of another day is rejected
    keys: SliceKeys = field(factory=SliceKeys, init=False)
    _held: HeldPages | None = field(default=None, init=False)  # None: each page is written at once
    # Repeated records, and derived ones that are rejected, have no day and count on it.
    _first_partition: LoadedPartition = field(init=False)

    def begin(self) -> None:
        """Open a writer and start the counts of every partition."""
        stream = self.context.planned.stream
        self.days = frozenset(self.context.planned.slice.days) if stream.kind == "report" and stream.day else None
        for partition in self.context.planned.partitions:
            writer = self._begin_writer(self.context.target, partition) if self.context.target is not None else None
            self.counts.partitions[partition] = LoadedPartition(PartitionCounts(), writer)
        self._first_partition = next(iter(self.counts.partitions.values()))

    def _begin_writer(self, target: Target, partition: Partition) -> Writer:
        try:
            writer = target.begin(self.context.components.row_builder.layouts, partition)
        except FAILURES as error:  # no context manager: it would cost each partition some ten calls
            raise_sink_error(error, type(target).__name__)
        if writer is None:
            check_returned(target.begin, None, (), "the writer of the partition")
        return writer

    def abort(self) -> None:
        """Drop everything that was loaded. A failure is noted only: the error that ended the read is reported."""
        for partition in self.counts.partitions.values():
            try:
                if partition.writer is not None:
                    with sink_errors(type(self.context.target).__name__):
                        partition.writer.abort()
            except PenstockError as error:
                self.context.note(str(error))
        self.context.dependencies.drop_rows(self.context.planned)

    def hold(self) -> None:
        """Hold loaded rows in memory from now on, until :meth:`release`, :meth:`discard` or until they are too many."""
        self._held = HeldPages()
        self.keys.savepoint()

    def release(self) -> None:
        """Write the held rows."""
        held, self._held = self._held, None
        if held is not None:
            for decoded in held.pages:
                self._write_decoded(decoded)
            if held.promised is not None:
                self.promise(held.promised)

    def discard(self) -> bool:
        """Drop the held rows. False if there were too many to hold, so that they were written."""
        if self._held is None:
            return False
        self._held = None
        self.keys.rollback()
        return True

    def promise(self, total: int) -> None:
        """Add the number of records that the provider states for a listing; not where it is for several partitions."""
        if self._held is not None:
            self._held.promised = (self._held.promised or 0) + total
        elif len(self.counts.partitions) == 1:
            counts = self._first_partition.counts
            counts.promised = (counts.promised or 0) + total

    # --- pages --------------------------------------------------------------------------------------------------------

    def load(self, listing: Listing, result: CallResult, *, repeat: bool) -> LoadedPage:
        """
        Decode a page and write its rows.

        ``repeat``: the page equals an earlier one of the listing; its elements are counted as repeated and not written.
        Raises BrokenPageError for a page that cannot be decoded or is of days that were not requested, and the errors
        of hooks and writers.
        """
        request = result.call.request
        self._check_envelope_days(request, result.answer)
        span = self._span(listing.slice) if self.context.planned.stream.inexact_bounds else None
        requested = Requested({**self._stamps(), **request.columns}, self.days, span)
        count = fresh = 0
        try:
            for decoded in self.context.components.row_builder.build(result.answer.items, requested, self.keys):
                loaded = _as_repeated(decoded) if repeat else decoded
                count += loaded.count
                fresh += loaded.fresh
                self._write_or_hold(loaded)
                del decoded, loaded  # else their rows wait for those of the next chunk
        except BrokenBodyError as error:
            raise broken_page(error) from None
        return LoadedPage(count=count, fresh=fresh)

    def _write_or_hold(self, decoded: DecodedChunk) -> None:
        self.counts.has_out_of_bounds |= bool(decoded.out_of_bounds)
        self.counts.has_mixed_derived |= bool(decoded.superseded and decoded.derived)
        if self._held is None:
            self._write_decoded(decoded)
            return
        self._held.add(decoded)
        if self._held.records > MAX_HELD_RECORDS:
            self.release()

    # --- days ---------------------------------------------------------------------------------------------------------

    def _span(self, slice_: Slice) -> tuple[datetime, datetime] | None:
        """The time that rows must be in, where the provider may return others (``Stream.inexact_bounds``)."""
        column = self.context.components.row_builder.columns.get(self.context.components.row_builder.day_of or "")
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

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _write_decoded(self, decoded: DecodedChunk) -> None:
        """Write a decoded page: each row with its partition, derived rows with that of their parent's row."""
        self._observe(decoded)
        counts = self._first_partition.counts
        if decoded.superseded:
            counts.supersede(decoded.superseded)
        if decoded.repeated:
            counts.add_repeated(decoded.repeated)
        counts.unread_values += decoded.unread_values
        if decoded.batch.rejected:
            self._count_rejected(decoded.batch.rejected)
        for partition, batch in self._by_partition(decoded.batch):
            self._write(partition, batch)
        for derived in decoded.derived:
            counts.derived_rejected.extend(derived.rejected)
            for partition, batch in self._by_partition(derived):
                self._write_derived(partition, batch)

    def _observe(self, decoded: DecodedChunk) -> None:
        """Note what the provider sends that is not as declared: absent measures, unknown members, unread values."""
        stream, unknown = self.context.planned.stream.name, decoded.batch.unknown
        if decoded.count:
            absent = self.counts.absent
            self.counts.absent = decoded.absent if absent is None else absent & decoded.absent
            self.counts.unknown.update(unknown)
        if unknown:
            self.context.log.note_unknown(stream, unknown)
        if decoded.unread_example is not None:
            self.context.log.note_misfit(stream, decoded.unread_example)

    def _by_partition(self, batch: Batch) -> Iterable[tuple[Partition, Batch]]:
        """
        The rows of each partition. In a slice of several days each row holds its day. A row of a report of a day that
        was not requested was rejected before; of ``changes`` it goes to the nearest day, since it is merged by key.
        """
        partitions, day_column = self.context.planned.partitions, self.context.planned.stream.day
        if len(partitions) == 1:
            return [(partitions[0], batch)]
        assert day_column is not None
        days = self.context.planned.slice.days
        by_day = dict(zip(days, partitions, strict=True))
        return [
            (by_day[min(max(day, days[0]), days[-1])], rows)
            for day, rows in split_by_day(batch, day_column, self.context.planned.source.zone).items()
        ]

    def _write_derived(self, partition: Partition, batch: Batch) -> None:
        loaded, name = self.counts.partitions[partition], batch.layout.stream
        loaded.counts.derived_rows[name] = loaded.counts.derived_rows.get(name, 0) + len(batch)
        if len(batch) and loaded.writer is not None:
            _write_rows(loaded.writer, self._changed_by_plugins(batch))

    def _count_rejected(self, rejected: Sequence[Rejected]) -> None:
        """Count each rejected record with its partition, or as ``undated``."""
        if len(self.counts.partitions) == 1:
            self._first_partition.counts.reject(rejected)
            return
        by_day = dict(zip(self.context.planned.slice.days, self.context.planned.partitions, strict=True))
        for record in rejected:
            day = self._day_of_rejected(record)
            if day in by_day:
                self.counts.partitions[by_day[day]].counts.reject([record])
            else:
                self.counts.undated.append(record)
        check_rejected(self.counts.undated)

    def _day_of_rejected(self, rejected: Rejected) -> date | None:
        """The day of a rejected record, where it can be read all the same."""
        name = self.context.components.row_builder.day_of or self.context.planned.stream.day
        column = self.context.components.row_builder.columns.get(name) if name is not None else None
        if column is None or column.member is None:
            return None
        try:
            record = json.loads(rejected.raw, parse_float=Decimal)
            value = coerce(column, record[column.member])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return days_of([value], self.context.planned.source.zone)[0]

    def _write(self, partition: Partition, batch: Batch) -> None:
        loaded = self.counts.partitions[partition]
        if self.context.components.batch_hooks:
            batch = self._changed_by_plugins(batch)
        totals = sums(batch) if batch.layout.measures or batch.layout.priced else {}
        loaded.counts.add_rows(len(batch.rows), totals)
        for column in batch.layout.priced:
            if totals.get(f"{column.name}[]"):
                self._count_without_currency(loaded, batch, column)
        if self.context.components.needed:
            self.context.dependencies.add_rows(self.context.planned, partition, self.context.components.needed, batch)
        if loaded.writer is not None and batch.rows:
            _write_rows(loaded.writer, batch)

    def _count_without_currency(self, loaded: LoadedPartition, batch: Batch, amount: Column) -> None:
        """Count the amounts without a currency as values that could not be read: no invoice can contain them."""
        pairs = zip(get_column(batch.rows, amount.name), get_column(batch.rows, amount.unit_of), strict=True)
        loaded.counts.unread_values += sum(1 for value, unit in pairs if value and not unit)
        member = next((column.member for column in batch.layout.columns if column.name == amount.unit_of), None)
        reason = f"it is missing or null, and {amount.name} has an amount"
        self.context.log.note_misfit(self.context.planned.stream.name, (f"{member or amount.unit_of}", reason))

    def _changed_by_plugins(self, batch: Batch) -> Batch:
        for hook in self.context.components.batch_hooks:
            batch = hook(batch) or batch
        return batch


def _write_rows(writer: Writer, batch: Batch) -> None:
    try:
        writer.write(batch)
    except FAILURES as error:
        raise_sink_error(error, type(writer).__name__)


def _as_repeated(decoded: DecodedChunk) -> DecodedChunk:
    """A page that equals an earlier one: its elements count as repeated, and none is written."""
    nothing = evolve(decoded.batch, rows=[], rejected=(), unknown=())
    return DecodedChunk(batch=nothing, count=decoded.count, fresh=0, repeated=decoded.count)
