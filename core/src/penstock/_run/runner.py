"""
The runner: one job per source and target. The scheduler reads their slices concurrently.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._plan.read_job import ReadJob
from penstock._run.context import RunContext
from penstock._run.job_run import JobRun, open_job
from penstock._run_report.log import RunLog
from penstock._run_report.report import RunReport
from penstock.errors import (
    DeadlineReachedError,
    LockHeldError,
    PenstockError,
    PluginError,
    SinkError,
    StoppedError,
    TargetError,
    one_error,
)
from penstock.redact import clip

# A target has connections or open files. No more reads than this are under way at once, see _fetch.scheduler.
OPEN_TARGETS = 64
INTERRUPT_EVERY_S = 1.0

UnopenedJob = tuple[ReadJob, PenstockError]  # a job, and why it cannot be opened


def run_jobs(context: RunContext) -> RunReport:
    """
    Run the jobs concurrently, ``OPEN_TARGETS`` of them at most, and report. What prevents all of them is raised before
    any request; other failures are in the report.
    """
    run_report, recording = context.run_report, context.recording
    with open_jobs(context.jobs, context) as opened:
        sources = opened.sources
        if recording is not None:
            recording.begin(context.started_at, sources)
        context.announce([source.name for source in sources], opened.unusable)
        not_begun = list[ReadJob]()
        while _run_open(opened.job_runs, context) and opened.later:
            not_begun += _open_next(opened, context)
        if not_begun := [*not_begun, *opened.later]:
            names = ", ".join(job.source.name for job in not_begun)
            run_report.add_notices(f"the run ended before it came to {clip(names, 200)}")
        if recording is not None:
            try:
                run_report.add_notices(*recording.finish())
            except PenstockError as error:
                RunLog(context.jobs[0].source.name, run_report, context.emit).fail(None, None, error)
    context.emit({"event": "run_finished", **run_report.as_dict()})
    return run_report


def _run_open(job_runs: Sequence[JobRun], context: RunContext) -> bool:
    """Read and finish the jobs that are open. False: the run is to end."""

    def flush() -> None:
        for job_run in job_runs:
            job_run.committer.flush()

    for job_run in job_runs:
        job_run.start()
    ended_by = context.scheduler.run(idle=flush)
    if ended_by is not None:
        context.run_report.end_by(ended_by)
    for job_run in job_runs:
        job_run.finish()
    return ended_by is None


def _open_next(opened: "OpenJobs", context: RunContext) -> list[ReadJob]:
    """Open the next jobs. Report those that cannot be opened again; return those for which the run ends too early."""
    not_begun = list[ReadJob]()
    for job, error in opened.open_next():
        if isinstance(error, (StoppedError, DeadlineReachedError)):  # the scheduler notices it by itself
            not_begun.append(job)
        elif isinstance(error, LockHeldError):
            _report_lock(job, error, context)
        else:
            RunLog(job.source.name, context.run_report, context.emit).fail(None, None, error)
    return not_begun


@contextmanager
def open_jobs(jobs: Sequence[ReadJob], context: RunContext, *, all_at_once: bool = False) -> Iterator["OpenJobs"]:
    """
    Open the jobs, without those whose source another run holds, or whose target cannot be used; close them and their
    clients at the end. Meanwhile a target that waits for a lock is interrupted when the run is to end.
    ``all_at_once``: more than ``OPEN_TARGETS`` may be open. Raises the reason if none is left.
    """
    began = time.monotonic()
    opened = OpenJobs(context, len(jobs) if all_at_once else OPEN_TARGETS)
    run_ended = threading.Event()
    watch = threading.Thread(target=opened.interrupt, args=(run_ended,), daemon=True)
    watch.start()
    try:
        opened.open(jobs)
        yield opened
    finally:
        context.run_report.seconds = time.monotonic() - began
        run_ended.set()
        watch.join()
        opened.close()


@define(eq=False, repr=False)
class OpenJobs:
    """
    The jobs of a run whose targets are open, at most ``max_open`` of them. The ``later`` ones were opened and prepared,
    and closed again. ``unusable``: by name, why a source is not read.
    """

    context: RunContext
    max_open: int
    job_runs: list[JobRun] = field(factory=list, init=False)
    later: list[ReadJob] = field(factory=list, init=False)
    unusable: Mapping[str, PenstockError] = field(init=False)

    @property
    def sources(self) -> list[ConfiguredSource]:
        """The sources of the jobs that are open, and of the later ones."""
        return [job.source for job in (*[job_run.job for job_run in self.job_runs], *self.later)]

    def open(self, jobs: Sequence[ReadJob]) -> None:
        """
        Open and prepare all jobs. Other runs may hold the sources of some, and the targets of some may be unusable.
        Raises the reason if there is one for all.
        """
        unopened: list[UnopenedJob] = []
        for job in jobs:
            error = None if self.job_runs else _error_of_target(unopened)
            if error is None and (error := self._try_open(job)) is None:
                if len(self.job_runs) > self.max_open:
                    self.job_runs.pop().close()
                    self.later.append(job)
                continue
            if not isinstance(error, (LockHeldError, TargetError, SinkError, PluginError)):
                raise error
            unopened.append((job, error))
        for job, error in unopened:
            if isinstance(error, LockHeldError):
                _report_lock(job, error, self.context)
        errors = {job.source.name: error for job, error in unopened if not isinstance(error, LockHeldError)}
        self.unusable = {**self.context.unusable, **errors}
        if unopened and not self.job_runs and (reason := _reason_for_all(unopened, self.context.unusable)) is not None:
            raise reason

    def open_next(self) -> list[UnopenedJob]:
        """Close the jobs that are open, and open the next ones. Returns those that cannot be opened again."""
        self.close()
        group, self.later = self.later[: self.max_open], self.later[self.max_open :]
        return [(job, error) for job in group if (error := self._try_open(job)) is not None]

    def _try_open(self, job: ReadJob) -> PenstockError | None:
        """Open and prepare a job. Returns the error that prevents it."""
        job_run = None
        try:
            job_run = open_job(job, self.context)
            self.job_runs.append(job_run)  # from now on it is interrupted when the run is to end
            job_run.prepare()
        except PenstockError as error:
            if job_run is not None:
                self.job_runs.remove(job_run)
                job_run.close()
            return error
        return None

    def close(self) -> None:
        """Close the jobs that are open, and the clients of their sources."""
        job_runs, self.job_runs[:] = list(self.job_runs), ()
        self.context.close_clients()
        for job_run in job_runs:
            job_run.close()

    def interrupt(self, run_ended: threading.Event) -> None:
        """Interrupt targets that wait for a lock when the run is to end. Runs in a thread until the run has ended."""
        while not run_ended.wait(INTERRUPT_EVERY_S):
            if not self.context.deadline.run_is_ending:
                continue
            reason: PenstockError = self.context.deadline.error("was reached while the target was waited for")
            if self.context.clock.stop.is_set():
                reason = StoppedError("stopped while the target was waited for; the next run goes on from what it has")
            for job_run in list(self.job_runs):
                job_run.interrupt(reason)


def _error_of_target(unopened: Sequence[UnopenedJob]) -> PenstockError | None:
    """The error of the target itself, where the first jobs have the same: each further one would wait for it again."""
    errors = [error for _, error in unopened if not isinstance(error, LockHeldError)]
    return errors[-1] if len(set(map(str, errors))) < len(errors) else None


def _reason_for_all(unopened: Sequence[UnopenedJob], unusable: Mapping[str, PenstockError]) -> PenstockError | None:
    """
    What prevents a run of which no job can be opened. None: other runs hold some of the sources, and its report names
    all. ``unusable``: the sources whose configuration cannot be used.
    """
    errors = [error for _, error in unopened]
    if not unusable and len(set(map(type, errors))) == 1:
        return errors[0]
    if any(isinstance(error, LockHeldError) for error in errors):
        return None
    return one_error([*unusable.values(), *errors])


def _report_lock(job: ReadJob, error: LockHeldError, context: RunContext) -> None:
    """The report names a source that another run holds."""
    context.run_report.locked[job.source.name] = str(error)
    context.run_report.add_notices(f"{job.source.name} was not read: {error}")
