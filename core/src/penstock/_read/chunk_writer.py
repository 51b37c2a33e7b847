"""
Write decoded chunks to the writers of their partitions and count them, at once or when their slice is complete.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal

from attrs import define, field

from penstock._decode import DecodedChunk, split_by_day, sums
from penstock._decode.chunk import get_column
from penstock._decode.conversion import coerce, days_of
from penstock._decode.structs import value_at
from penstock._plugins.plugin_errors import FAILURES, raise_sink_error
from penstock._read.context import SliceContext
from penstock._read.counts import check_rejected
from penstock._read.result import LoadedPartition
from penstock._read.slice_counts import SliceCounts
from penstock.model import Batch, Partition, Rejected
from penstock.records import Column
from penstock.sinks import Writer

MAX_HELD_RECORDS = 20_000
"""The most records of a slice that are held in memory until its last page shows whether it reached a ceiling."""


@define(eq=False, repr=False)
class ChunkWriter:
    """
    Writes chunks: each row with its partition, derived rows with that of their parent's row. Adds to ``counts``.
    ``by_day``: the partitions by their days; empty where there is one partition.
    """

    context: SliceContext
    counts: SliceCounts
    by_day: dict[date, Partition]
    # Repeated records, and derived ones that are rejected, have no day and count on it.
    first_partition: LoadedPartition

    def promise(self, total: int) -> None:
        """Add the number of records that the provider states for a listing; not where it is for several partitions."""
        if not self.by_day:
            counts = self.first_partition.counts
            counts.promised = (counts.promised or 0) + total

    def write(self, decoded: DecodedChunk) -> None:
        """Write a chunk: its rows, then those of its derived streams."""
        self._observe(decoded)
        counts = self.first_partition.counts
        if decoded.superseded:
            counts.supersede(decoded.superseded)
        if decoded.replaced:
            counts.replaced += decoded.replaced
            counts.replaced_example = counts.replaced_example or decoded.replaced_example
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
        planned = self.context.planned
        if not self.by_day:
            return [(planned.partitions[0], batch)]
        assert planned.stream.day is not None
        days = planned.slice.days
        rows_by_day = split_by_day(batch, planned.stream.day, planned.source.zone)
        return [(self.by_day[min(max(day, days[0]), days[-1])], rows) for day, rows in rows_by_day.items()]

    def _write_derived(self, partition: Partition, batch: Batch) -> None:
        loaded, name = self.counts.partitions[partition], batch.layout.stream
        loaded.counts.derived_rows[name] = loaded.counts.derived_rows.get(name, 0) + len(batch)
        if len(batch) and loaded.writer is not None:
            _write_rows(loaded.writer, self._changed_by_plugins(batch))

    def _count_rejected(self, rejected: Sequence[Rejected]) -> None:
        """Count each rejected record with its partition, or as ``undated``."""
        if not self.by_day:
            self.first_partition.counts.reject(rejected)
            return
        for record in rejected:
            day = self._day_of_rejected(record)
            if day in self.by_day:
                self.counts.partitions[self.by_day[day]].counts.reject([record])
            else:
                self.counts.undated.append(record)
        check_rejected(self.counts.undated)

    def _day_of_rejected(self, rejected: Rejected) -> date | None:
        """The day of a rejected record, where it can be read all the same."""
        column = self.context.components.row_builder.column_of_day(default=self.context.planned.stream.day)
        if column is None or column.member is None:
            return None
        try:
            record = json.loads(rejected.raw, parse_float=Decimal)
            value = coerce(column, value_at(record, column.path or (column.member,)))
        except (ValueError, TypeError, RecursionError):
            return None
        return days_of([value], self.context.planned.source.zone)[0]

    def _write(self, partition: Partition, batch: Batch) -> None:
        loaded = self.counts.partitions[partition]
        if self.context.components.needed_columns:  # as the provider sent them: it knows no value of a plugin
            self.context.dependencies.add_rows(
                self.context.planned, partition, self.context.components.needed_columns, batch
            )
        if self.context.components.batch_hooks:
            batch = self._changed_by_plugins(batch)
        totals = sums(batch) if batch.layout.measures or batch.layout.priced else {}
        loaded.counts.add_rows(len(batch.rows), totals)
        for column in batch.layout.priced:
            if totals.get(f"{column.name}[]"):
                self._count_without_currency(loaded, batch, column)
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


@define(eq=False, repr=False)
class HeldChunks:
    """
    Holds chunks in memory until the slice is complete; passes them on to ``writer`` when they are too many.
    """

    writer: ChunkWriter
    _chunks: list[DecodedChunk] = field(factory=list, init=False)
    _records: int = field(default=0, init=False)  # those passed on, too
    _promised: int | None = field(default=None, init=False)

    @property
    def holds_all(self) -> bool:
        """Whether no chunk was passed on."""
        return self._records <= MAX_HELD_RECORDS

    def write(self, decoded: DecodedChunk) -> None:
        """Hold a chunk."""
        self._chunks.append(decoded)
        self._records += decoded.count
        if not self.holds_all:
            self.release()

    def promise(self, total: int) -> None:
        """See :meth:`ChunkWriter.promise`."""
        self._promised = (self._promised or 0) + total

    def release(self) -> None:
        """Pass on what is held."""
        for decoded in self._chunks:
            self.writer.write(decoded)
        self._chunks.clear()
        if self._promised is not None:
            self.writer.promise(self._promised)
            self._promised = None
