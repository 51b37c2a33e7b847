"""
One job of a run, from the opening of its target to the record of the run: what is read after what, and what follows the
end of a read.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._fetch.call import Steps
from penstock._fetch.client import SourceClient
from penstock._fetch.scheduler import Task
from penstock._plan.dependencies import Dependencies
from penstock._plan.plan import PlannedSlice
from penstock._plan.planner import Planner, StreamPlan
from penstock._plan.read_job import ReadJob
from penstock._plugins.plugin_errors import sink_errors
from penstock._plugins.sink_calls import open_target
from penstock._read.report_adoption import ReportAdoption
from penstock._run.commit import Committer
from penstock._run.context import RunContext
from penstock._run.listed_accounts import AccountFailure, AccountRows, compare_accounts
from penstock._run.reader_factory import ReaderFactory
from penstock._run.refusals import Refusals
from penstock._run_report.lines import replaced_notices
from penstock._run_report.log import RunLog
from penstock.connector import Stream
from penstock.errors import PenstockError, PluginError, ProviderError
from penstock.ledger_interface import RunRecord
from penstock.sinks import Divisible, Staging, Target

ERRORS_RECORDED = 50  # of a source, in the record of a run


class EndOfReads(NamedTuple):
    """The end of all reads of a stream's account, after which the tasks of its child streams start."""

    job_run: "JobRun"  # the jobs of a run share its scheduler, and two of them may read one source
    stream: str
    account: str | None


@define(eq=False, repr=False, kw_only=True)
class JobRun:
    """
    One job of a run, its target open. The runner prepares, starts and finishes it; the scheduler runs its tasks, one
    per slice: :meth:`_read_and_commit` is what each of them does.
    """

    job: ReadJob
    context: RunContext
    client: SourceClient
    target: Target
    log: RunLog = field(init=False)
    committer: Committer = field(init=False)
    _planner: Planner = field(init=False)
    _dependencies: Dependencies = field(init=False)
    _report_adoption: ReportAdoption = field(init=False)
    _reader_factory: ReaderFactory = field(init=False)
    _refusals: Refusals = field(init=False)
    _ended_at: datetime | None = field(default=None, init=False)  # when the last task ended
    # By stream, the begin of its first read and the end of its last one, on the monotonic clock.
    _first_began: dict[str, float] = field(factory=dict, init=False)
    _last_ended: dict[str, float] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        job, context, target = self.job, self.context, self.target
        self.log = RunLog(job.source.name, context.run_report, context.emit)
        self.committer = Committer(job.source, target, self.log, context)
        run_id = context.run_report.run_id if context.peers.is_divided else None
        self._planner = Planner(job, context.started_at, target, run_id)
        self._dependencies = Dependencies(job.source, self._planner.families.chosen)
        # The reports of a recording are not at the provider any more.
        ledger_of_reports = target.ledger if context.recorded_until is None else None
        self._report_adoption = ReportAdoption(job, ledger_of_reports, context.clock, self.log)
        self._reader_factory = ReaderFactory(target, context.clock, self.log, self._dependencies, self._report_adoption)
        self._refusals = Refusals(job.source, self.client)

    @property
    def source(self) -> ConfiguredSource:
        return self.job.source

    def prepare(self) -> None:
        """
        Check the requested window, and that the target can hold the streams. A target that cannot be used, and a window
        that the provider does not serve, raise before any request.
        """
        chosen = self.job.chosen
        for stream in chosen:
            if stream.kind != "snapshot":
                self._planner.requested_days.check(stream, self._planner.accounts.known(stream) or ())
        try:
            components_of = self._reader_factory.components_of
            layouts = [layout for stream in chosen for layout in components_of(stream, self.source).row_builder.layouts]
            with sink_errors(type(self.target).__name__):
                self.target.prepare(layouts)
        finally:
            self.context.run_report.add_target_notices(*self.target.notices)

    def start(self) -> None:
        """Add the slices that can be read now. Others follow when the streams that they need are read."""
        for stream in self._dependencies.first:
            self._add(stream, self._planner.accounts.known(stream) or ())

    def interrupt(self, reason: PenstockError) -> None:
        """End a wait of the target; called from another thread."""
        self.target.interrupt(reason)

    # --- one task per slice -------------------------------------------------------------------------------------------

    def _add(self, stream: Stream, accounts: Collection[str | None]) -> None:
        """Plan the slices of a stream and give them to the scheduler."""
        plan = self._planner.plan_stream(stream, accounts)
        if stream in self._planner.families.chosen:
            self._report_adoption.load_adoptable(stream)
            self._count_planned(stream, plan)
        self._dependencies.begin(plan.slices)
        self.committer.expect([planned for planned in plan.slices if planned.to_deliver])
        self.context.scheduler.add(map(self._task, plan.slices))

    def _count_planned(self, stream: Stream, plan: StreamPlan) -> None:
        counts = self.log.stream(stream.name)
        counts.planned += sum([len(planned.partitions) for planned in plan.slices])
        counts.final += plan.final
        self.committer.count_of_other_worker(plan.delivered_by_run)
        self.log.emit(
            {
                "event": "planned",
                "source": self.source.name,
                "stream": stream.name,
                "partitions": counts.planned,
                "final": counts.final,
            }
        )

    def _task(self, planned: PlannedSlice) -> Task:
        has_parent = planned.stream.parent is not None
        return Task(
            self.client,
            start=partial(self._read_and_commit, planned),
            after=EndOfReads(self, *planned.parent_account) if has_parent else None,
            on_end=partial(self._after_task, planned),
        )

    def _read_and_commit(self, planned: PlannedSlice) -> Steps[None]:
        """One task: read a slice, then commit its partitions, if the stream is to be delivered."""
        self._check_readable(planned)
        if planned.stream.name not in self._first_began:
            self._first_began[planned.stream.name] = time.monotonic()
            self.log.emit({"event": "stream_started", "source": self.source.name, "stream": planned.stream.name})
        result = yield from self._reader_factory.reader_of(planned).read()
        for partition in result.replacement_errors:
            self._dependencies.refuse(partition)
        if planned.to_deliver:
            self.committer.commit(result)
        elif self.job.counts_rejected_of(planned):
            self.committer.count_rejected(result)

    def _check_readable(self, planned: PlannedSlice) -> None:
        """Raises the error that makes a request for this slice pointless."""
        self._refusals.check(planned)
        self.client.parking.check()
        parent = planned.stream.parent
        if parent is not None and not self._dependencies.succeeded(planned.parent_account, planned.slice.days):
            raise ProviderError(f"it was not read: its parent {parent.stream} failed or was not read")

    def _after_task(self, planned: PlannedSlice, error: BaseException | None) -> None:
        """Record the end of a task, then start what waited for it."""
        self._last_ended[planned.stream.name] = time.monotonic()
        if error is not None:
            self._refusals.add(planned, error)
            self.committer.fail(planned, error)
        end = self._dependencies.end(planned, succeeded=error is None)
        if end.account_ended:  # the last task of all ends an account
            self._ended_at = self.context.clock.now()
            self.context.scheduler.release(EndOfReads(self, *planned.stream_account))
        if end.dependents:
            self._add_dependents(planned, end.dependents, end.rows)

    # --- streams with listed accounts ---------------------------------------------------------------------------------

    def _add_dependents(
        self, planned: PlannedSlice, dependents: Sequence[Stream], listed_rows: Sequence[Mapping[str, Any]] | None
    ) -> None:
        """
        Add the streams that have the accounts of this slice, which has ended: those that it lists, or after a failure
        those that the ledger remembers.
        """
        if listed_rows is None:
            for stream in dependents:
                self._add(stream, self._planner.accounts.known(stream) or ())
            return
        rows = AccountRows.of(planned, dependents, listed_rows)
        listed = compare_accounts(self.job, rows, self.target.ledger)
        self._planner.notices += listed.notices
        for failure in listed.failures:
            self._fail_unplanned(failure)
        self._planner.accounts.zones.update(listed.zones)
        if self.target.ledger is not None:
            for name, texts in listed.to_remember.items():
                self.target.ledger.remember_accounts(self.source.name, name, texts)
        for stream, accounts in listed.by_stream:
            self._add(stream, accounts)

    def _fail_unplanned(self, failure: AccountFailure) -> None:
        """Fail a stream, or an account of it, that has no partitions, since accounts or days are not known."""
        stream, account = failure.stream, failure.account
        partition = None if account is None else {stream.account or "account": account}
        self.log.count(stream.name, planned=1, failed=1)
        self.log.fail(stream.name, partition, ProviderError(failure.text))

    # --- the end ------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """
        After the last read: let the target complete its streams; report refused credentials; drop stale reports; and
        record the run.
        """
        run_report = self.context.run_report
        for stream, began in self._first_began.items():
            self.log.stream(stream).seconds = self._last_ended.get(stream, began) - began
        self.committer.finish()
        self._refusals.add_credentials_to(run_report)
        if not run_report.interrupted and not run_report.deadline:
            self._report_adoption.drop_stale(self.context.clock.now())
        run_report.add_notices(*self._planner.notices)
        if not self.context.peers.is_divided:
            self.record_run()

    def record_run(self) -> None:
        """
        Record the run in the ledger, if the target has one, for ``penstock status`` and ``penstock runs``. A notice
        states why it could not be recorded. Others are about keys that may not identify a record.
        """
        name, source_report = self.source.name, self.context.run_report.of_source(self.source.name)
        self.context.run_report.add_notices(*replaced_notices(source_report))
        if self.target.ledger is None:
            return
        report_dict = source_report.as_dict()
        errors = {"errors": report_dict["errors"][:ERRORS_RECORDED]}
        parked = {"parked": report_dict["parked"]} if source_report.parked else {}
        record = RunRecord(
            run_id=self.context.run_report.run_id,
            source=name,
            started_at=self.context.started_at,
            finished_at=self._ended_at or self.context.clock.now(),
            exit_code=source_report.exit_code,
            report={**report_dict["sources"].get(name, {}), **errors, **parked},
        )
        try:
            with sink_errors(type(self.target.ledger).__name__):
                self.target.ledger.record_run(record)
        except PenstockError as error:
            self.context.run_report.add_notices(f"{name}: this run is not in the ledger: {error}")

    def close(self) -> None:
        """Release the target's lock, whatever the state of the job. What was delivered stays, if that fails."""
        try:
            with sink_errors(type(self.target).__name__):
                self.target.close()
        except PenstockError as error:
            self.log.fail(None, None, error)


def open_job(job: ReadJob, context: RunContext) -> JobRun:
    """The job, its target opened to write its streams. Raises as :meth:`penstock.sinks.Sink.open` does."""
    client = context.client(job.source)
    return JobRun(job=job, context=context, client=client, target=_open_target(job, context.run_report.run_id))


def _open_target(job: ReadJob, run_id: str) -> Target:
    """The target of a job, of a whole run or of a shard of one."""
    name = job.source.name
    streams = [
        own_or_derived.name
        for stream in job.chosen
        for own_or_derived in (stream, *job.source.derived_from(stream.name))
    ]
    if job.to_coordinator is not None:
        assert isinstance(job.sink, Staging), "a worker checks its sinks first"
        return open_target(job.sink, job.sink.open_staging, name, run_id, job.to_coordinator)
    if job.lock_share is None:
        return open_target(job.sink, job.sink.open, name, run_id, streams)
    if not isinstance(job.sink, Divisible):
        raise other_version(job)
    return open_target(job.sink, job.sink.open, name, run_id, streams, lock_share=job.lock_share)


def other_version(job: ReadJob) -> PluginError:
    """The error of a worker whose sink cannot do what that of the process that started the run can."""
    return PluginError(
        f"{job.sink_name}: the plugin with {type(job.sink).__name__} has another version in this worker than where the "
        "run was started. Install the same version on both."
    )
