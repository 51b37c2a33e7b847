"""
The runner: one job per source and target. The scheduler reads their slices concurrently.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from penstock._plan.plan import Job
from penstock._run.context import RunContext
from penstock._run.job_run import JobRun
from penstock._run_report.report import RunReport
from penstock.errors import DeadlineReachedError, LockHeldError, PenstockError, StoppedError

INTERRUPT_EVERY_S = 1.0


def run(context: RunContext) -> RunReport:
    """
    Run the jobs concurrently and report. Errors of the configuration or the targets are raised before any request; all
    later failures are in the report.
    """
    report, exchange_log = context.report, context.exchange_log
    with open_jobs(context.jobs, context) as job_runs:
        if exchange_log is not None:
            exchange_log.begin(context.started_at, [job_run.source for job_run in job_runs])
        context.emit(
            {"event": "run_started", "run_id": report.run_id, "sources": [job_run.source.name for job_run in job_runs]}
        )
        for job_run in job_runs:
            job_run.start()
        ended_by = context.scheduler.run(idle=partial(_flush, job_runs))
        report.deadline |= isinstance(ended_by, DeadlineReachedError)
        report.interrupted |= isinstance(ended_by, StoppedError)
        _note_closed_output(report, job_runs)
        for job_run in job_runs:
            job_run.finish()
        _note_closed_output(report, job_runs)
        if exchange_log is not None:
            try:
                report.notices.extend(exchange_log.finish())
            except PenstockError as error:
                job_runs[0].log.fail(None, None, error)
    context.emit({"event": "run_finished", **report.as_dict()})
    return report


@contextmanager
def open_jobs(jobs: Sequence[Job], context: RunContext) -> Iterator[list[JobRun]]:
    """
    Open the jobs, without those whose source another run holds; close them and their clients at the end. Meanwhile
    a target that waits for a lock is interrupted when the run is to end. Raises LockHeldError if none is left.
    """
    began = time.monotonic()
    job_runs: list[JobRun] = []
    held: list[LockHeldError] = []
    run_ended = threading.Event()
    watch = threading.Thread(target=_interrupt_targets, args=(context, job_runs, run_ended), daemon=True)
    watch.start()
    try:
        for number, job in enumerate(jobs):
            job_run = None
            try:
                job_run = JobRun.open(job, number, context)
                job_runs.append(job_run)
                job_run.prepare()
            except LockHeldError as error:
                held.append(error)
                if job_run is not None:  # its target lost the lock meanwhile
                    job_runs.remove(job_run)
                    job_run.close()
                context.report.locked[job.source.name] = str(error)
                context.report.notices.append(f"{job.source.name} was not read: {error}")
        if held and not job_runs:
            raise held[0]
        yield job_runs
    finally:
        context.report.seconds = time.monotonic() - began
        run_ended.set()
        watch.join()
        for client in context.clients.values():
            client.close()
        for job_run in job_runs:
            job_run.close()


def _note_closed_output(report: RunReport, job_runs: Sequence[JobRun]) -> None:
    """A run whose output is closed stops itself: that is no interruption. A target may notice it at its end only."""
    report.output_closed = any(job_run.committer.failures.output_closed for job_run in job_runs)
    report.interrupted &= not report.output_closed


def _flush(job_runs: Sequence[JobRun]) -> None:
    for job_run in job_runs:
        job_run.committer.flush()


def _interrupt_targets(context: RunContext, job_runs: Sequence[JobRun], run_ended: threading.Event) -> None:
    """Interrupt targets that wait for a lock when the run is to end. Runs in a thread until the run has ended."""
    while not run_ended.wait(INTERRUPT_EVERY_S):
        reason: PenstockError
        if context.clock.stop.is_set():
            reason = StoppedError("stopped while the target was waited for; the next run goes on from what it has")
        elif context.is_late:
            reason = DeadlineReachedError(
                "the deadline was reached while the target was waited for; the next run goes on with what is left"
            )
        else:
            continue
        for job_run in list(job_runs):
            job_run.interrupt(reason)
