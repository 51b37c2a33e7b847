"""
What all readings of one planned slice share.
"""

from attrs import frozen

from penstock._plan.dependencies import Dependencies
from penstock._plan.plan import PlannedSlice
from penstock._read.components import Components
from penstock._read.counts import StreamCounters
from penstock._run_report.log import RunLog
from penstock._util.clock import Clock
from penstock.sinks import Target


@frozen(eq=False, repr=False, kw_only=True)
class SliceContext:
    """
    One planned slice, and what it is read with. ``target`` None: nothing is written, the rows are only kept for
    ``dependencies`` (accounts, parents).
    """

    planned: PlannedSlice
    components: Components
    target: Target | None
    dependencies: Dependencies
    stream_counters: StreamCounters
    log: RunLog
    clock: Clock

    def note(self, text: str) -> None:
        """Add a note about the slice to the log of the run."""
        self.log.note(f"{self.planned}: {text}")
