"""
One job of a run: its target, and its streams in the order in which they depend on each other.
"""

import time
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from functools import partial

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._fetch.call import Reading
from penstock._fetch.client import SourceClient
from penstock._fetch.client_queue import Task
from penstock._plan.accounts import account_of
from penstock._plan.dependencies import Dependencies, Key, key_of
from penstock._plan.plan import Job, PlannedSlice
from penstock._plan.planner import Planner, StreamPlan
from penstock._read.components import Components, components_of
from penstock._read.on_demand import Handles, Reports, poll_times
from penstock._read.reader import Reader
from penstock._read.reconcile import StreamReads
from penstock._read.run_log import RunLog
from penstock._run.accounts import ListedAccounts
from penstock._run.commit import Committer
from penstock._run.context import RunContext
from penstock._run.refusals import Refusals
from penstock._run.run_record import record_run
from penstock.connector import Stream
from penstock.errors import PenstockError, ProviderError
from penstock.ledger_interface import Ledger, PendingReport
from penstock.sinks import Interruptible, Preparing, Target


@define(eq=False, repr=False)
class JobRun:
    """
    One job of a run, its target open: prepared, begun and finished by the runner.
    """

    job: Job
    context: RunContext
    client: SourceClient
    target: Target
    log: RunLog = field(init=False)
    committer: Committer = field(init=False)
    _ended_at: datetime | None = field(default=None, init=False)  # when the last slice ended
    _planner: Planner = field(init=False)
    _dependencies: Dependencies = field(init=False)
    _listed: ListedAccounts = field(init=False)
    _refusals: Refusals = field(init=False)
    _components: dict[tuple[str, int], Components] = field(factory=dict, init=False)
    _adoptable: dict[str, dict[str, PendingReport]] = field(factory=dict, init=False)  # by stream and request
    _handles: Handles = field(factory=Handles, init=False)
    _reads: dict[str, StreamReads] = field(factory=partial(defaultdict, StreamReads), init=False)  # by stream
    _began: dict[str, float] = field(factory=dict, init=False)  # stream -> when its first reading started

    def __attrs_post_init__(self) -> None:
        self.log = RunLog(self.source.name, self.context.report, self.context.emit)
        self.committer = Committer(self.source, self.target, self.log, self.context)
        this_run = self.context.report.run_id if self.context.peers is not None else None
        self._planner = Planner(self.job, self.context.started_at, self.target, this_run)
        self._dependencies = Dependencies(self.source, self._planner.families.chosen)
        self._listed = ListedAccounts(
            job=self.job,
            log=self.log,
            accounts=self._planner.accounts,
            notices=self._planner.notices,
            dependencies=self._dependencies,
            ledger=self.target.ledger,
        )
        self._refusals = Refusals(self.source, self.client)

    @classmethod
    def open(cls, job: Job, context: RunContext) -> "JobRun":
        """The job, its target opened to write the streams. Raises as :meth:`penstock.sinks.Sink.open` does."""
        streams = [each for stream in job.chosen for each in (stream, *job.source.derived_from(stream.name))]
        names = [stream.name for stream in streams]
        client = context.client(job.source)
        return cls(job, context, client, job.open(context.report.run_id, names))

    @property
    def source(self) -> ConfiguredSource:
        return self.job.source

    @property
    def _ledger_of_reports(self) -> Ledger | None:
        """The ledger that keeps the reports under way; those of a recording are not at the provider any more."""
        return self.target.ledger if self.context.recorded_until is None else None

    def prepare(self) -> None:
        """
        Check the requested window, and that the target can hold the streams. A target that cannot be used, and a window
        that the provider does not serve, raise before any request.
        """
        chosen = self.job.chosen
        for stream in chosen:
            if stream.kind != "snapshot":
                self._planner.days.check(stream, self._planner.accounts.of_stream(stream) or ())
        try:
            if isinstance(self.target, Preparing):
                layouts = [layout for stream in chosen for layout in self._components_of(stream).decoder.layouts]
                self.target.prepare(layouts)
            elif callable(getattr(self.target, "check", None)):
                self.context.report.notices.append(
                    f"{type(self.target).__name__} has a method check(layouts), which is not called: its author must "
                    "rename it to prepare(layouts). Until then, what the target cannot hold is refused late"
                )
        finally:
            self.context.report.notices.extend(self.target.notices)

    def begin(self) -> None:
        """Give the scheduler the slices that can be read now. Others follow when the streams they need are read."""
        for stream in self._dependencies.first:
            self._add(stream, self._planner.accounts.of_stream(stream) or ())

    def finish(self) -> None:
        """After the last read: let the target complete its streams, and record the run."""
        self.context.report.refused |= self._refusals.of_credentials
        self.committer.finish()
        if not self.context.report.interrupted and not self.context.report.deadline:
            self._listed.fail_unlisted()
            self._drop_stale_reports()
        self.context.report.notices.extend(dict.fromkeys(self._planner.notices))
        if self.context.peers is None:
            self.record_run()

    def record_run(self) -> None:
        """Record the run in the ledger, if the target has one."""
        if self.target.ledger is not None:
            record_run(self.context, self.source.name, self.target.ledger, self._ended_at or self.context.clock.now())

    def interrupt(self, reason: PenstockError) -> None:
        """End a wait of the target; called from another thread."""
        if isinstance(self.target, Interruptible):
            self.target.interrupt(reason)

    def close(self) -> None:
        """Release the target's lock, whatever the state of the job. What was delivered stays, if that fails."""
        try:
            self.target.close()
        except PenstockError as error:
            self.log.fail(None, None, error)

    # --- what is read, and after what ---------------------------------------------------------------------------------

    def _add(self, stream: Stream, accounts: Collection[str | None]) -> None:
        """Plan a stream's slices and give them to the scheduler."""
        plan = self._planner.plan_stream(stream, accounts)
        if stream in self._planner.families.chosen:
            self._find_adoptable(stream)
            self._count_planned(stream, plan)
        for planned in plan.slices:
            self._dependencies.begun(planned)
            if planned.to_deliver:
                self.committer.expect(planned)
        self.context.scheduler.add(map(self._task, plan.slices))

    def _find_adoptable(self, stream: Stream) -> None:
        """Look up the reports that earlier runs submitted."""
        if stream.poller is None or self._ledger_of_reports is None:
            return
        pending = self._ledger_of_reports.pending(self.source.name, stream.name)
        of_this_job = [report for report in pending if self.job.has(stream, account_of(stream, report))]
        self._adoptable.setdefault(stream.name, {report.request: report for report in of_this_job})

    def _count_planned(self, stream: Stream, plan: StreamPlan) -> None:
        counts = self.log.stream(stream.name)
        counts.planned += sum(len(planned.partitions) for planned in plan.slices)
        counts.final += plan.final
        self.committer.recount(plan.done)
        self.log.event("planned", stream=stream.name, partitions=counts.planned, final=counts.final)

    def _drop_stale_reports(self) -> None:
        """After a run that was not ended early: drop reports that are past their deadline and belong to no slice."""
        ledger, now = self.target.ledger, self.context.clock.now()
        for name, reports in self._adoptable.items():
            deadline_s = poll_times(self.source.settings, self.source.stream(name)).deadline_s
            for report in reports.values():
                if ledger is not None and (now - report.submitted_at).total_seconds() >= deadline_s:
                    with suppress(PenstockError):  # the target is lost; the next run drops the report
                        ledger.drop(report)

    def _task(self, planned: PlannedSlice) -> Task:
        parent = self._parent_of(planned)
        return Task(
            self.client,
            start=partial(self._read_and_commit, planned),
            after=(id(self), parent) if parent is not None else None,
            on_end=partial(self._after_task, planned),
        )

    def _read_and_commit(self, planned: PlannedSlice) -> Reading:
        """One task: read a slice, then commit its partitions, if the stream is to be delivered."""
        self._refusals.check(planned)
        self.client.check_not_parked()
        parent = self._parent_of(planned)
        if parent is not None and not self._dependencies.succeeded(parent, planned.slice.days):
            raise ProviderError(f"{planned.stream.name} was not read: its parent {parent[0]} failed or was not read")
        if planned.stream.name not in self._began:
            self._began[planned.stream.name] = time.monotonic()
            self.log.event("stream_started", stream=planned.stream.name)
        result = yield from self._reader(planned).read()
        for partition in result.replacement_errors:
            self._dependencies.refuse(partition)
        if planned.to_deliver:
            self.committer.commit(result)
        elif planned.stream.name not in self.job.streams and self.job.has(planned.stream, planned.account):
            self.committer.count_rejected(result)  # once, where several workers read it

    @staticmethod
    def _parent_of(planned: PlannedSlice) -> Key | None:
        parent = planned.stream.parent
        return (parent.stream, planned.account) if parent is not None else None

    def _reader(self, planned: PlannedSlice) -> Reader:
        components = self._components_of(planned.stream, planned.source)
        return Reader(
            planned=planned,
            components=components,
            target=self.target if planned.to_deliver else None,
            reports=self._reports(planned, components),
            clock=self.context.clock,
            dependencies=self._dependencies,
            stream_reads=self._reads[planned.stream.name],
            log=self.log,
        )

    def _components_of(self, stream: Stream, source: ConfiguredSource | None = None) -> Components:
        """The stream's components, made when they are first needed. ``source``: as an account sees it."""
        source = source or self.source
        key = (stream.name, id(source))  # one object per account, see Accounts.source_of
        if key not in self._components:
            self._components[key] = components_of(source, stream, self._dependencies.columns(stream))
        return self._components[key]

    def _reports(self, planned: PlannedSlice, components: Components) -> Reports | None:
        if components.poller is None:
            return None
        return Reports(
            source=self.source,
            planned=planned,
            poller=components.poller,
            envelope=components.envelope,
            ledger=self._ledger_of_reports if planned.to_deliver else None,
            clock=self.context.clock,
            adoptable=self._adoptable.get(planned.stream.name, {}),
            handles=self._handles,
            log=self.log,
        )

    # --- after a task -------------------------------------------------------------------------------------------------

    def _after_task(self, planned: PlannedSlice, error: BaseException | None) -> None:
        """Handle the end of a task: report its failure, and release the tasks that waited for it."""
        stream = planned.stream
        self._ended_at = self.context.clock.now()
        if stream.name in self._began:
            self.log.stream(stream.name).seconds = time.monotonic() - self._began[stream.name]
        self._refusals.add(planned, error)
        if error is not None:
            self.committer.fail(planned, error)
        self._dependencies.note_end(planned, succeeded=error is None)
        if self._dependencies.has_ended(key_of(planned)):
            self.context.scheduler.release((id(self), key_of(planned)))
        for dependent, accounts in self._listed.take_dependents_of(planned):
            self._add(dependent, accounts)
        self._dependencies.drop(planned)
