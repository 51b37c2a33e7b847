"""
Makes the reader of each slice of one job, with what the reads of one stream share and the reports that are under way.
"""

from collections import defaultdict
from contextlib import suppress
from datetime import datetime
from functools import partial

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._plan.accounts import account_of
from penstock._plan.dependencies import Dependencies
from penstock._plan.plan import PlannedSlice
from penstock._plan.read_job import ReadJob
from penstock._read.components import Components, components_of
from penstock._read.context import SliceContext
from penstock._read.counts import StreamHistory
from penstock._read.on_demand import ReportClaims, ReportsOnDemand, poll_times
from penstock._read.reader import Reader
from penstock._run_report.log import RunLog
from penstock._util.clock import Clock
from penstock.connector import Stream
from penstock.errors import PenstockError
from penstock.ledger_interface import Ledger, PendingReport
from penstock.sinks import Target


@define(eq=False, repr=False)
class PendingReports:
    """
    The reports on demand of one job that the provider is making: those that earlier runs submitted are adopted, and
    none is read for two submissions. ``ledger``: it keeps the reports; None: nothing does, as in a run from a
    recording.
    """

    job: ReadJob
    ledger: Ledger | None
    clock: Clock
    log: RunLog
    _adoptable: dict[str, dict[str, PendingReport]] = field(factory=dict, init=False)  # by stream and request
    _claims: ReportClaims = field(factory=ReportClaims, init=False)

    def find(self, stream: Stream) -> None:
        """Look up the reports of a stream that earlier runs submitted. A full run adopts none: it reads all anew."""
        if stream.poller is None or self.ledger is None or self.job.full:
            return
        pending = self.ledger.pending(self.job.source.name, stream.name)
        of_this_job = [report for report in pending if self.job.has(stream, account_of(stream, report))]
        self._adoptable.setdefault(stream.name, {report.request: report for report in of_this_job})

    def of_slice(self, context: SliceContext) -> ReportsOnDemand:
        """The reports that a slice is read from, of a stream with a poller."""
        planned, components = context.planned, context.components
        assert components.poller is not None
        return ReportsOnDemand(
            source=self.job.source,
            planned=planned,
            poller=components.poller,
            envelope=components.envelope,
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


@define(eq=False, repr=False)
class ReaderFactory:
    """Makes the reader of a slice."""

    target: Target
    clock: Clock
    log: RunLog
    dependencies: Dependencies
    pending_reports: PendingReports
    _components: dict[tuple[str, int], Components] = field(factory=dict, init=False)  # by stream and source
    _stream_reads: dict[str, StreamHistory] = field(factory=partial(defaultdict, StreamHistory), init=False)

    def reader_of(self, planned: PlannedSlice) -> Reader:
        """The reader of a slice."""
        components = self.components_of(planned.stream, planned.source)
        context = SliceContext(
            planned=planned,
            components=components,
            target=self.target if planned.to_deliver else None,
            dependencies=self.dependencies,
            stream_history=self._stream_reads[planned.stream.name],
            log=self.log,
            clock=self.clock,
        )
        return Reader(context, None if components.poller is None else self.pending_reports.of_slice(context))

    def components_of(self, stream: Stream, source: ConfiguredSource) -> Components:
        """The components of a stream, made when they are first needed. ``source``: as an account sees it."""
        key = (stream.name, id(source))  # one object per account, see Accounts.source_of
        if key not in self._components:
            self._components[key] = components_of(source, stream, self.dependencies.columns(stream))
        return self._components[key]
