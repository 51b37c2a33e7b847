"""
The reports on demand of one job, with those that earlier runs submitted.
"""

from contextlib import suppress
from datetime import datetime

from attrs import define, field

from penstock._plan.accounts import account_of
from penstock._plan.read_job import ReadJob
from penstock._read.context import SliceContext
from penstock._read.on_demand import ReportClaims, ReportsOnDemand, poll_times
from penstock._run_report.log import RunLog
from penstock._util.clock import Clock
from penstock.connector import Stream
from penstock.errors import PenstockError
from penstock.ledger_interface import Ledger, PendingReport


@define(eq=False, repr=False)
class ReportAdoption:
    """
    The reports on demand of one job: those that earlier runs submitted, and that the provider is making, are adopted,
    and none is read for two submissions. ``ledger``: it keeps the reports; None: nothing does, as in a run from a
    recording.
    """

    job: ReadJob
    ledger: Ledger | None
    clock: Clock
    log: RunLog
    _adoptable: dict[str, dict[str, PendingReport]] = field(factory=dict, init=False)  # by stream and request
    _claims: ReportClaims = field(factory=ReportClaims, init=False)

    def load_adoptable(self, stream: Stream) -> None:
        """Look up the reports of a stream that earlier runs submitted. A full run adopts none: it reads all anew."""
        if stream.poller is None or self.ledger is None or self.job.full:
            return
        pending = self.ledger.pending(self.job.source.name, stream.name)
        of_this_job = [report for report in pending if self.job.is_in_shard(stream, account_of(stream, report))]
        self._adoptable.setdefault(stream.name, {report.request: report for report in of_this_job})

    def reports_for(self, context: SliceContext) -> ReportsOnDemand:
        """The reports that a slice is read from, of a stream with a poller."""
        planned, components = context.planned, context.components
        assert components.poller is not None
        return ReportsOnDemand(
            source=self.job.source,
            planned=planned,
            poller=components.poller,
            decoder=components.decoder,
            ledger=self.ledger if planned.to_deliver else None,
            clock=self.clock,
            adoptable=self._adoptable.get(planned.stream.name, {}),
            claims=self._claims,
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
