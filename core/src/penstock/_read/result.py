"""
The result of one reading of a planned slice, filled page by page.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import define, field

from penstock._plan.plan import PlannedSlice
from penstock._read.on_demand import Reports
from penstock._read.reconcile import PartitionCounts
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
    ``skipped``: why a request found no record; "": each found one. ``undated``: records that were set aside and have no
    requested day that can be read. Where there are any, the partitions stay open. ``unknown``: members that the record
    class does not have, in order.
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
    _absent: frozenset[str] | None = None  # None: no record yet

    @property
    def read_at(self) -> datetime:
        """When the rows were those of the provider at the latest: a cache may be old, and a clock behind ours."""
        return self.began_at - self.clock_lag

    @property
    def absent(self) -> frozenset[str]:
        """The measures that no record has, though all pages have ``unknown`` members."""
        return self._absent or frozenset()

    def add_page(self, *, absent: frozenset[str], unknown: Sequence[str]) -> None:
        """Note the measures that no record of a page has, and the page's unknown members."""
        self._absent = absent if self._absent is None else self._absent & absent
        self.unknown = sorted({*self.unknown, *unknown})
