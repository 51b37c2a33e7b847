"""
The result of one reading of a planned slice, filled page by page.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from attrs import define, field

from penstock._plan.plan import PlannedSlice
from penstock._read.on_demand import Reports
from penstock._read.reconcile import PartitionCounts
from penstock.errors import BrokenBodyError
from penstock.model import Partition, Rejected
from penstock.sinks import Writer


@define(eq=False, repr=False)
class LoadedPartition:
    """One partition that is being read: its counts, and its writer (None where nothing is written)."""

    counts: PartitionCounts
    writer: Writer | None


@define(eq=False, repr=False, kw_only=True)
class ReadResult:
    """
    The writer of each partition, ready to be committed when the reading has ended, and its counts.

    ``began_at``: of reports on demand, when the first was submitted; ``clock_lag``: how much older than our clock its
    responses are. ``reports``: those that the rows are from. ``truncated``: the provider cut a response at its ceiling,
    and there may be more records. ``provisional``: why the provider calls its own numbers provisional; "": it does not.
    ``skipped``: why a request found no record; "": each found one. ``undated``: rejected records without a
    requested day that can be read. Where there are any, the partitions stay open. ``unknown``: members that the record
    class does not have, in order. ``lost``: the measures that disappeared, see
    :meth:`penstock._run.lost_measures.Measures.disappeared`; the committer adds them.
    """

    planned: PlannedSlice
    began_at: datetime
    clock_lag: timedelta = timedelta(0)
    reports: Reports | None = None
    partitions: dict[Partition, LoadedPartition] = field(factory=dict)
    truncated: bool = False
    provisional: str = ""
    skipped: str = ""
    undated: list[Rejected] = field(factory=list)
    unknown: Sequence[str] = ()
    lost: frozenset[str] = frozenset()
    _absent: frozenset[str] | None = None  # None: no record yet
    _replacement_errors: dict[Partition, BrokenBodyError] | None = None  # None: not computed yet

    @property
    def read_at(self) -> datetime:
        """When the rows were those of the provider at the latest: a cache may be old, and a clock behind ours."""
        return self.began_at - self.clock_lag

    @property
    def absent(self) -> frozenset[str]:
        """The measures that no record has, though all pages have ``unknown`` members."""
        return self._absent or frozenset()

    @property
    def replacement_errors(self) -> Mapping[Partition, BrokenBodyError]:
        """When the reading has ended: the errors of the partitions that its rows must not replace."""
        if self._replacement_errors is None:
            errors = {partition: _replacement_error(self, partition) for partition in self.partitions}
            self._replacement_errors = {partition: error for partition, error in errors.items() if error is not None}
        return self._replacement_errors

    def add_page(self, *, absent: frozenset[str], unknown: Sequence[str]) -> None:
        """Note the measures that no record of a page has, and the page's unknown members."""
        self._absent = absent if self._absent is None else self._absent & absent
        self.unknown = sorted({*self.unknown, *unknown})


def _replacement_error(result: ReadResult, partition: Partition) -> BrokenBodyError | None:
    """
    The error of a read that must not replace a partition; None if it may. Either every record of it was rejected; or it
    has no record, there were rows before, and the undated records, whose day cannot be read, may belong to it.
    """
    counts, former = result.partitions[partition].counts, result.planned.entries.get(partition)
    before = former.rows if former is not None and former.delivered else 0
    rejected = counts.rejected or (result.undated if before else ())
    if counts.rows or not rejected:
        return None
    first, number = rejected[0], len(rejected)
    what = f"all {number} records were" if counts.rejected else f"no record was found, and {number} without a day were"
    former_rows = f"The {before} rows delivered before stay; nothing" if before else "Nothing"
    return BrokenBodyError(
        f"{what} rejected, the first because {first.path}: {first.reason}. {former_rows} was replaced."
    )
