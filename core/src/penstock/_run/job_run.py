"""
One job of a run, from the opening of its target to the record of the run.
"""

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._fetch.client import SourceClient
from penstock._plan.dependencies import Dependencies
from penstock._plan.plan import Job
from penstock._plan.planner import Planner
from penstock._read.run_log import RunLog
from penstock._run.commit import Committer
from penstock._run.context import RunContext
from penstock._run.listed_accounts import ListedAccounts
from penstock._run.pending_reports import PendingReports
from penstock._run.readers import Readers
from penstock._run.refusals import Refusals
from penstock._run.run_record import record_run
from penstock._run.slice_tasks import SliceTasks
from penstock.errors import PenstockError
from penstock.sinks import Interruptible, Preparing, Target


@define(eq=False, repr=False)
class JobRun:
    """
    One job of a run, its target open: prepared and finished by the runner. ``number``: of the job in the run.
    ``tasks``: its slices, for the scheduler.
    """

    job: Job
    number: int
    context: RunContext
    client: SourceClient
    target: Target
    log: RunLog = field(init=False)
    committer: Committer = field(init=False)
    _planner: Planner = field(init=False)
    tasks: SliceTasks = field(init=False)

    def __attrs_post_init__(self) -> None:
        job, context, ledger = self.job, self.context, self.target.ledger
        self.log = RunLog(self.source.name, context.report, context.emit)
        self.committer = Committer(self.source, self.target, self.log, context)
        this_run = context.report.run_id if context.peers is not None else None
        self._planner = Planner(job, context.started_at, self.target, this_run)
        dependencies = Dependencies(self.source, self._planner.families.chosen)
        # The reports of a recording are not at the provider any more.
        reports = PendingReports(job, ledger if context.recorded_until is None else None, context.clock, self.log)
        self.tasks = SliceTasks(
            job=job,
            job_number=self.number,
            context=context,
            client=self.client,
            committer=self.committer,
            planner=self._planner,
            dependencies=dependencies,
            listed=ListedAccounts(
                job=job,
                log=self.log,
                accounts=self._planner.accounts,
                notices=self._planner.notices,
                dependencies=dependencies,
                ledger=ledger,
            ),
            readers=Readers(self.target, context.clock, self.log, dependencies, reports),
            refusals=Refusals(self.source, self.client),
        )

    @classmethod
    def open(cls, job: Job, number: int, context: RunContext) -> "JobRun":
        """The job, its target opened to write the streams. Raises as :meth:`penstock.sinks.Sink.open` does."""
        streams = [each for stream in job.chosen for each in (stream, *job.source.derived_from(stream.name))]
        names = [stream.name for stream in streams]
        client = context.client(job.source)
        return cls(job, number, context, client, job.open(context.report.run_id, names))

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
                self._planner.days.check(stream, self._planner.accounts.of_stream(stream) or ())
        try:
            if isinstance(self.target, Preparing):
                components_of = self.tasks.readers.components_of
                layouts = [layout for stream in chosen for layout in components_of(stream, self.source).decoder.layouts]
                self.target.prepare(layouts)
            elif callable(getattr(self.target, "check", None)):
                self.context.report.notices.append(
                    f"{type(self.target).__name__} has a method check(layouts), which is not called: its author must "
                    "rename it to prepare(layouts). Until then, what the target cannot hold is refused late"
                )
        finally:
            self.context.report.notices.extend(self.target.notices)

    def finish(self) -> None:
        """After the last read: let the target complete its streams, and record the run."""
        self.committer.finish()
        self.tasks.finish()
        self.context.report.notices.extend(dict.fromkeys(self._planner.notices))
        if self.context.peers is None:
            self.record_run()

    def record_run(self) -> None:
        """Record the run in the ledger, if the target has one."""
        if self.target.ledger is not None:
            ended_at = self.tasks.ended_at or self.context.clock.now()
            record_run(self.context, self.source.name, self.target.ledger, ended_at)

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
