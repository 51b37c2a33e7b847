"""
The result of one reading of a planned slice.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from attrs import define, field

from penstock._plan.plan import PlannedSlice
from penstock._plugins.plugin_errors import sink_errors
from penstock._read.counts import PartitionCounts
from penstock._read.on_demand import ReportsOnDemand
from penstock.errors import BrokenBodyError, PenstockError
from penstock.model import Partition, Rejected
from penstock.sinks import Writer


@define(eq=False, repr=False)
class LoadedPartition:
    """One partition that is being read: its counts, and its writer (None where nothing is written)."""

    counts: PartitionCounts = field(factory=PartitionCounts)
    writer: Writer | None = None

    def abort(self, sink: str) -> PenstockError | None:
        """
        Drop what was passed to the writer. Returns the error of the ``sink`` that cannot, to be noted only: the reason
        to drop it is the one to report.
        """
        if self.writer is None:
            return None
        try:
            with sink_errors(sink):
                self.writer.abort()
        except PenstockError as error:
            return error
        return None


class ReadResult(NamedTuple):
    """The writer of each partition, ready to be committed, and what was counted."""

    planned: PlannedSlice
    read_at: datetime  # the latest moment at which the rows were those of the provider
    tolerated_lag: timedelta  # by which it may be too late: clocks differ by so much
    on_demand: ReportsOnDemand | None  # the reports that the rows are from
    partitions: Mapping[Partition, LoadedPartition]
    is_imperfect: bool  # a record was rejected, or a value not read; or one of the parent's
    truncated: bool  # the provider cut a response at its ceiling: there may be more records
    stays_open: bool  # there are undated records, or the provider calls its own numbers provisional; or the parent's
    undated: Sequence[Rejected]  # records without a requested day that can be read
    absent: frozenset[str]  # measures that no record has, though all pages have ``unknown`` members
    unknown: Sequence[str]  # members that the record class does not have
    replacement_errors: Mapping[Partition, BrokenBodyError]  # of the partitions that these rows must not replace
    missing: frozenset[str] = frozenset()  # of ``absent``, those that earlier readings have; known before the commit

    def read_at_within(self, closes: datetime | None) -> datetime:
        """When the rows were read, by the provider's clock where ours makes the difference to when they are final."""
        by_provider = self.read_at - self.tolerated_lag
        return by_provider if closes is not None and by_provider < closes <= self.read_at else self.read_at


class PartitionResult(NamedTuple):
    """One partition of a read, to be committed."""

    read_result: ReadResult
    partition: Partition
    loaded: LoadedPartition
