"""
The runner: one job per source and target. The scheduler reads their slices concurrently.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._plan.read_job import ReadJob
from penstock._run.context import RunContext
from penstock._run.job_run import JobRun
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


def run_jobs(context: RunContext) -> RunReport:
    """
    Run the jobs concurrently and report. What prevents all of them is raised before any request; other failures are in
    the report.
    """
    run_report, recording = context.run_report, context.recording
    with open_jobs(context.jobs, context) as jobs:
        if recording is not None:
            recording.begin(context.started_at, jobs.sources)
        context.start([source.name for source in jobs.sources])
        jobs.start()
        ended_by = context.scheduler.run(idle=jobs.flush)
        if ended_by is not None:
            run_report.end_by(ended_by)
        jobs.finish()
        if recording is not None:
            try:
                run_report.notice(*recording.finish())
            except PenstockError as error:
                RunLog(context.jobs[0].source.name, run_report, context.emit).fail(None, None, error)
    context.emit({"event": "run_finished", **run_report.as_dict()})
    return run_report


@contextmanager
def open_jobs(jobs: Sequence[ReadJob], context: RunContext, *, all_at_once: bool = False) -> Iterator["OpenJobs"]:
    """
    Open the jobs, without those whose source another run holds, or whose target cannot be used; close them and their
    clients at the end. Meanwhile a target that waits for a lock is interrupted when the run is to end.
    ``all_at_once``: more than ``OPEN_TARGETS`` may be open. Raises the reason if none is left.
    """
    began = time.monotonic()
    opened = OpenJobs(context, math.inf if all_at_once else OPEN_TARGETS)
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
        for client in context.clients.values():
            client.close()
        for job_run in opened.job_runs:
            job_run.close()


@define(eq=False, repr=False)
class OpenJobs:
    """
    The jobs of a run whose targets are open. Jobs beyond ``max_open`` wait: they were opened, prepared and closed, and
    are opened again when a job before them has ended. ``sources``: those of all jobs.
    """

    context: RunContext
    max_open: float
    job_runs: list[JobRun] = field(factory=list, init=False)
    sources: list[ConfiguredSource] = field(factory=list, init=False)
    _waiting: deque[tuple[int, ReadJob]] = field(factory=deque, init=False)  # with their numbers in the run

    def open(self, jobs: Sequence[ReadJob]) -> None:
        """
        Open and prepare all jobs. Other runs may hold the sources of some, and the targets of some may be unusable.
        Raises the reason if there is one for all.
        """
        reasons: list[PenstockError] = []
        all_configured = not self.context.unusable
        for number, job in enumerate(jobs):
            try:
                job_run = self._open(number, job)
            except LockHeldError as error:
                reasons.append(error)
                continue
            except (TargetError, SinkError, PluginError) as error:
                same_reason = not self.job_runs and str(error) in map(str, reasons)
                reasons.append(error)
                if same_reason:  # it is of the target itself, and each further source would wait for it again
                    self.context.unusable |= {unread_job.source.name: error for unread_job in jobs[number:]}
                    break
                self.context.unusable[job.source.name] = error
                continue
            self.sources.append(job.source)
            if len(self.job_runs) > self.max_open:
                self._waiting.append((number, job))
                self._close(job_run)
        if self.job_runs or not reasons:
            return
        if all_configured and len({type(reason) for reason in reasons}) == 1:
            raise reasons[0]
        if not any(isinstance(reason, LockHeldError) for reason in reasons):
            raise one_error(self.context.unusable.values())

    def _open(self, number: int, job: ReadJob) -> JobRun:
        """Open and prepare a job. Raises PenstockError; the report names a source that another run holds."""
        job_run = None
        try:
            job_run = JobRun.open(job, number, self.context, self._start_waiting)
            self.job_runs.append(job_run)
            job_run.prepare()
        except PenstockError as error:
            if job_run is not None:
                self._close(job_run)
            if isinstance(error, LockHeldError):
                self.context.run_report.locked[job.source.name] = str(error)
                self.context.run_report.notice(f"{job.source.name} was not read: {error}")
            raise
        return job_run

    def start(self) -> None:
        """Start the jobs that are open. Others follow when they have ended."""
        for job_run in list(self.job_runs):
            job_run.start()
            if job_run.has_ended:
                self._start_waiting(job_run)

    def flush(self) -> None:
        """Commit what waits for other partitions."""
        for job_run in self.job_runs:
            job_run.committer.flush()

    def finish(self) -> None:
        """After the last read: finish the jobs that are still open."""
        if self._waiting:
            names = ", ".join(job.source.name for _, job in self._waiting)
            self.context.run_report.notice(f"the run ended before it came to {clip(names, 200)}")
        for job_run in self.job_runs:
            job_run.finish()

    # --- jobs that wait -----------------------------------------------------------------------------------------------

    def each_opened(self) -> Iterator[JobRun]:
        """Each job, open. Jobs that wait are opened one at a time; a notice names each that cannot be opened again."""
        yield from list(self.job_runs)
        while self._waiting:
            number, job = self._waiting.popleft()
            try:
                job_run = JobRun.open(job, number, self.context, self._start_waiting)
            except PenstockError as error:
                self.context.run_report.notice(f"{job.source.name}: this run is not in the ledger: {error}")
                continue
            self.job_runs.append(job_run)
            yield job_run
            self._close(job_run)

    def _start_waiting(self, ended: JobRun) -> None:
        """If a job waits, close this one, which has ended, and start the first of those that wait."""
        while self._waiting and ended.has_ended and not self.context.deadline.run_is_ending:
            if ended in self.job_runs:
                ended.finish()
                self._close(ended)
            number, job = self._waiting.popleft()
            try:
                ended = self._open(number, job)
                ended.start()
            except LockHeldError:
                continue  # the report has it
            except (StoppedError, DeadlineReachedError):  # the scheduler notices it by itself
                self._waiting.appendleft((number, job))
                return
            except PenstockError as error:
                RunLog(job.source.name, self.context.run_report, self.context.emit).fail(None, None, error)

    def _close(self, job_run: JobRun) -> None:
        """Close a job, and the client of its source if no other job needs it."""
        self.job_runs.remove(job_run)
        job_run.close()
        remaining_jobs = [*(job_run.job for job_run in self.job_runs), *(job for _, job in self._waiting)]
        if job_run.source.name not in {job.source.name for job in remaining_jobs}:
            self.context.close_client(job_run.source)

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
