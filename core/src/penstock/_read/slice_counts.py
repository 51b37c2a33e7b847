"""
What one reading of a planned slice counts, page by page, and the checks at its end.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from attrs import define, field

from penstock._fetch.auth import TOLERATED_PROVIDER_SKEW
from penstock._plan.dependencies import ParentReading
from penstock._plan.plan import PlannedSlice
from penstock._read.counts import StreamCounters
from penstock._read.on_demand import ReportsOnDemand
from penstock._read.result import LoadedPartition, ReadResult
from penstock.errors import BrokenBodyError, PagingError, ProviderError
from penstock.model import Partition, Rejected

MAX_REQUESTS_WITHOUT_RECORD = 3  # requests of a stream (a 404 of a detail read) while none finds any


@define(eq=False, repr=False, kw_only=True)
class SliceCounts:
    """
    What one reading of a slice has counted so far. The fields without a comment are those of :class:`ReadResult`.
    """

    planned: PlannedSlice
    rows_as_of: datetime  # of reports on demand: when the first submission was sent
    clock_lag: timedelta = timedelta(0)  # the most by which a response was older than our clock
    partitions: dict[Partition, LoadedPartition] = field(factory=dict)
    truncated: bool = False
    provisional: str = ""  # why the provider calls its own numbers provisional
    no_record_reason: str = ""  # why a request found no record; "": each found one
    uncounted: int = 0  # listings whose number of records is not stated
    undated: list[Rejected] = field(factory=list)
    has_out_of_bounds: bool = False  # a record was dropped as outside of its slice
    has_mixed_derived: bool = False  # a record that came again replaced one whose derived rows are written
    absent: frozenset[str] | None = None  # None: no page yet
    unknown: set[str] = field(factory=set)

    def result(self, on_demand: ReportsOnDemand | None, parents: Collection[ParentReading] = ()) -> ReadResult:
        """The result of the reading, after its last page. ``parents``: the readings by whose rows it was requested."""
        errors: dict[Partition, BrokenBodyError] = {}
        imperfect, stays_open = bool(self.undated), bool(self.undated or self.provisional)
        tolerated_lag = self.clock_lag if self.clock_lag <= TOLERATED_PROVIDER_SKEW else timedelta(0)
        read_at = self._read_at(self.clock_lag - tolerated_lag)
        for parent in parents:
            read_at = min(read_at, parent.read_at)
            imperfect, stays_open = imperfect or parent.is_imperfect, stays_open or parent.stays_open
        for partition, loaded in self.partitions.items():
            imperfect = imperfect or loaded.counts.is_imperfect
            if not loaded.counts.rows and (error := self._replacement_error(partition)) is not None:
                errors[partition] = error
        return ReadResult(
            planned=self.planned,
            read_at=read_at,
            tolerated_lag=tolerated_lag,
            on_demand=on_demand,
            partitions=self.partitions,
            is_imperfect=imperfect,
            truncated=self.truncated,
            stays_open=stays_open,
            undated=self.undated,
            absent=self.absent or frozenset(),
            unknown=sorted(self.unknown),
            replacement_errors=errors,
        )

    def _read_at(self, lag: timedelta) -> datetime:
        """
        See :class:`ReadResult`. A cache may be old, and a clock behind ours. A day of ``changes`` that was not over
        when the run was planned is requested up to then only: it is not whole where the run reads it after midnight.
        """
        read_at, stream, slice_ = self.rows_as_of - lag, self.planned.stream, self.planned.slice
        if stream.kind != "changes" or slice_.end is None:
            return read_at
        # Not "==": a moment in an hour that the clock repeats equals none of another zone.
        return min(read_at, slice_.now) if slice_.end >= slice_.now - stream.lag else read_at

    def _replacement_error(self, partition: Partition) -> BrokenBodyError | None:
        """
        The error of a read without a row of a partition that must not replace it; None if it may. Either every record
        of it was rejected; or it has no record, there were rows before, and the undated records, whose day cannot be
        read, may belong to it.
        """
        counts, former = self.partitions[partition].counts, self.planned.entries.get(partition)
        before = former.rows if former is not None and former.delivered else 0
        rejected = counts.rejected or (self.undated if before else ())
        if not rejected:
            return None
        first, number = rejected[0], len(rejected)
        cause = f"all {number} records" if counts.rejected else f"no record was found, and {number} without a day"
        former_rows = f"The {before} rows delivered before stay; nothing" if before else "Nothing"
        return BrokenBodyError(
            f"{cause} were rejected, the first because {first.path}: {first.reason}. {former_rows} was replaced."
        )

    def check(self, stream_counters: StreamCounters, *, is_first_reading: bool) -> None:
        """
        Raises after the last page where what came, together, cannot be what the provider has: BrokenBodyError,
        ProviderError, and PagingError in the first read.
        """
        if not any(loaded.counts.rows or loaded.counts.rejected for loaded in self.partitions.values()):
            self._check_days()
        if self.no_record_reason:
            self._check_found(stream_counters)
        elif is_first_reading and self.uncounted and self.planned.had_rows:
            self._check_emptied()
        if is_first_reading and self.has_mixed_derived:  # the rows derived from its former values are written
            raise PagingError("a record came again with other values")

    def _check_days(self) -> None:
        """
        Raises BrokenBodyError where no record is of the requested days, although some came: replacing the partitions by
        nothing would lose them all. Either one request covers several days, and no record has a day that can be read:
        the days are in another member or format. Or all were dropped as outside of the slice.
        """
        if self.has_out_of_bounds:
            raise BrokenBodyError(
                "records came, and none of them is of the requested days. The provider answered for "
                "other days. Nothing was replaced; the next run tries again."
            )
        if not self.undated or any(loaded.counts.repeated for loaded in self.partitions.values()):
            return
        number, first = len(self.undated), self.undated[0]
        raise BrokenBodyError(
            f"none of {number} records has a day that was requested, the first because "
            f"{first.path}: {first.reason}. The days are in another member or format: correct the column of the "
            "day in the connector. Nothing was replaced."
        )

    def _check_found(self, counters: StreamCounters) -> None:
        """Raises ProviderError where several requests of the stream found no record in this run, and none found any."""
        if not counters.found_any and counters.without_record >= MAX_REQUESTS_WITHOUT_RECORD:
            raise ProviderError(
                f"none of {counters.without_record} requests of {self.planned.stream.name} found a record, "
                f"the last because {self.no_record_reason}. One may be gone, but hardly all: the provider fails, or "
                "serves them elsewhere. Nothing was replaced."
            )

    def _check_emptied(self) -> None:
        """
        Raises PagingError for a slice without any record, where there were rows before and no answer states a number of
        records: an empty answer may be a failure.
        """
        if not self.undated and not any(loaded.counts.fetched for loaded in self.partitions.values()):
            raise PagingError(
                "the provider returned no records, and rows were delivered before. Only a second "
                "empty reading replaces them"
            )
