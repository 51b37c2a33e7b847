"""
The reports on demand of one job that are under way: those that earlier runs submitted, and those of this run.
"""

from contextlib import suppress
from datetime import datetime

from attrs import define, field

from penstock._plan.account_views import account_of
from penstock._plan.plan import Job, PlannedSlice
from penstock._read.components import Components
from penstock._read.handles import Handles
from penstock._read.on_demand import Reports, poll_times
from penstock._read.run_log import RunLog
from penstock._util.clock import Clock
from penstock.connector import Stream
from penstock.errors import PenstockError
from penstock.ledger_interface import Ledger, PendingReport


@define(eq=False, repr=False)
class PendingReports:
    """``ledger``: it keeps the reports; None: nothing does, as in a run from a recording."""

    job: Job
    ledger: Ledger | None
    clock: Clock
    log: RunLog
    _adoptable: dict[str, dict[str, PendingReport]] = field(factory=dict, init=False)  # by stream and request
    _handles: Handles = field(factory=Handles, init=False)

    def find(self, stream: Stream) -> None:
        """Look up the reports of a stream that earlier runs submitted."""
        if stream.poller is None or self.ledger is None:
            return
        pending = self.ledger.pending(self.job.source.name, stream.name)
        of_this_job = [report for report in pending if self.job.has(stream, account_of(stream, report))]
        self._adoptable.setdefault(stream.name, {report.request: report for report in of_this_job})

    def of_slice(self, planned: PlannedSlice, components: Components) -> Reports | None:
        """The reports that a slice is read from; None: its stream has no poller."""
        if components.poller is None:
            return None
        return Reports(
            source=self.job.source,
            planned=planned,
            poller=components.poller,
            envelope=components.envelope,
            ledger=self.ledger if planned.to_deliver else None,
            clock=self.clock,
            adoptable=self._adoptable.get(planned.stream.name, {}),
            handles=self._handles,
            log=self.log,
        )

    def drop_stale(self, now: datetime) -> None:
        """After a run that was not ended early: drop reports that are past their deadline and belong to no slice."""
        for name, reports in self._adoptable.items():
            deadline_s = poll_times(self.job.source.settings, self.job.source.stream(name)).deadline_s
            for report in reports.values():
                if self.ledger is not None and (now - report.submitted_at).total_seconds() >= deadline_s:
                    with suppress(PenstockError):  # the target is lost; the next run drops the report
                        self.ledger.drop(report)
