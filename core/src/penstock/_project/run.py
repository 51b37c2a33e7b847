"""
``run``: fetch what is not final and deliver it.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from attrs import evolve

from penstock._config.config import ConfiguredSink
from penstock._config.pipeline import Notification
from penstock._plan.division import shard_of
from penstock._plan.read_job import ReadJob
from penstock._project.recordings import RecordingOptions, as_recorded, check_unmasked, recorder_of, recording_of
from penstock._project.run_result import RunResult
from penstock._project.selected_jobs import Selection, pipeline_of, usable_jobs_for
from penstock._project.setup import Notice, Notices, Setup
from penstock._run.context import RunContext, new_run
from penstock._run.runner import run_jobs
from penstock._util.clock import Clock, StandingClock
from penstock.errors import PenstockError, UsageError, one_error
from penstock.events import OnEvent
from penstock.names import counted
from penstock.sinks import LockShare, Sink


class DivisionOptions(NamedTuple):
    """
    How a run is divided. ``shard``: the one that this process reads (``"3/16"``). ``workers``: the number of processes
    to start, on this machine or, with ``engine``, there.
    """

    shard: str | None = None
    workers: int | None = None
    engine: str | None = None

    @property
    def has_workers(self) -> bool:
        """Whether the run is divided among workers."""
        return self.engine is not None or self.workers not in (None, 1)


def run(
    setup: Setup,
    name: str,
    selection: Selection,
    division: DivisionOptions,
    recordings: RecordingOptions,
    *,
    clock: Clock,
    deadline_s: float | None,
    on_event: OnEvent,
) -> RunResult:
    """See :meth:`penstock.Project.run`."""
    notices, setup_of_run = Notices(on_event), setup
    replayed = recording_of(recordings, notices.add)
    if replayed is not None:
        setup_of_run, clock = setup.with_recorded(replayed), StandingClock(replayed.started_at, clock.stop)
        selection = as_recorded(selection, replayed)
    receivers = _receivers(setup, name, selection.to) if replayed is None else ()
    try:
        jobs, sink, unusable = usable_jobs_for(setup_of_run, name, selection, clock.now(), notices.add)
        for fault in setup.registry.not_loaded:  # it may be one that is to mask values
            notices.add(f"{fault.plugin} is broken and is not used: {fault.reason}")
        if replayed is not None:
            check_unmasked(replayed, jobs, sink)
        else:
            jobs = _with_credentials(jobs, unusable)
        recording = replayed or recorder_of(recordings, selection)
        if division.shard is not None:
            jobs = _sharded(jobs, division.shard, notices.add)
        actual_division = _division_of(setup, name, division, recorded=recording is not None)
        remember = partial(_remember, setup, sink, [job.source.name for job in jobs], clock, notices.add)
        context = new_run(
            jobs,
            clock=clock,
            deadline_s=deadline_s,
            unusable=unusable,
            on_start=remember,
            on_event=on_event,
            recording=recording,
        )
        result = _execute(setup_of_run, name, selection, context, actual_division)
    except PenstockError as error:
        notices.add(*_notify(receivers, name, RunResult.not_started(error)))
        raise
    unsent = _notify(receivers, name, result)
    notices.add(*unsent)
    return evolve(result, notices=tuple(dict.fromkeys((*notices.texts, *result.notices))), unsent=tuple(unsent))


def _notify(receivers: Sequence[Notification], name: str, result: RunResult) -> list[str]:
    """Send the result to the receivers; a message for each that did not take it."""
    if not receivers:
        return []
    from penstock._project.notify import notify

    return notify(receivers, name, result)


def _receivers(setup: Setup, name: str, to: str | Sink | None) -> tuple[Notification, ...]:
    """The receivers of the pipeline that ``name`` means; none for a source."""
    config = setup.config
    if pipeline_of(config, name, to) is None:
        return ()
    return config.notifications(name, setup.registry)


def _division_of(setup: Setup, name: str, division: DivisionOptions, *, recorded: bool) -> DivisionOptions:
    """The division of the call; where it names neither workers nor an engine, with those of the pipeline."""
    if division.shard is None and not recorded:
        pipeline = setup.config.pipelines.get(name)
        if pipeline is not None and division.workers is None and division.engine is None:
            return division._replace(workers=pipeline.workers, engine=pipeline.engine)
    elif division.has_workers:
        what = (
            "--shard divides a run without workers" if division.shard is not None else "a recording is of one process"
        )
        raise UsageError(f"{what}; leave out --workers and --engine")
    return division


def _remember(setup: Setup, sink: ConfiguredSink | None, sources: Sequence[str], clock: Clock, notice: Notice) -> None:
    """Remember the target for later calls. A failure to do so is reported and ignored."""
    if sink is None or sink.remembered is None:
        return
    try:
        setup.used_targets.remember(sink.remembered, sources, clock.now())
    except OSError as error:
        notice(
            f"the target cannot be remembered in {setup.config.folder / '.penstock'} ({error.strerror}); "
            "plan, status and rejected will need --to"
        )


def _with_credentials(jobs: Sequence[ReadJob], unusable: dict[str, PenstockError]) -> list[ReadJob]:
    """The jobs whose credentials can be used; the errors of the others are added. Raises UsageError without any."""
    for job in jobs:
        try:
            job.source.check_credentials()
        except UsageError as error:
            unusable[job.source.name] = error
    usable_jobs = [job for job in jobs if job.source.name not in unusable]
    if not usable_jobs:
        raise one_error(unusable.values())
    return usable_jobs


def _execute(
    setup: Setup, name: str, selection: Selection, context: RunContext, division: DivisionOptions
) -> RunResult:
    """Run the jobs. The result is also that of a run that another run's lock, or a target, prevents from starting."""
    try:
        if not division.has_workers:
            return RunResult.of(run_jobs(context))
        from penstock._project.workers import run_by_workers  # a run of one process starts without it

        return RunResult.of(run_by_workers(setup, name, selection, context, division.engine, division.workers))
    except UsageError:
        raise
    except PenstockError as error:
        return RunResult.not_started(error)


def _sharded(jobs: Sequence[ReadJob], shard: str, notice: Notice) -> list[ReadJob]:
    """The jobs of one shard, ``"3/16"``: its accounts and days, with its share of each source's limits."""
    from penstock._run.divided.divisible import check_divisible  # a whole run starts without it

    check_divisible(jobs)
    this_shard = shard_of(shard, [job.source for job in jobs])
    shard_jobs = []
    for job in jobs:
        name, shard_count = job.source.name, this_shard.division.shard_count
        readers = len(this_shard.division.shards_by_source[name])
        if not this_shard.reads(name):
            allowed = counted(readers, "request")
            notice(f"{name} allows {allowed} at once, so {readers} of {shard_count} shards read it; not this one")
            continue
        lock_share = LockShare(
            division=f"{shard_count} shards by days, {readers} for this source",
            name=f"shard {this_shard.number} of {shard_count}",
        )
        shard_jobs.append(
            evolve(job, source=this_shard.with_share_of_limits(job.source), shard=this_shard, lock_share=lock_share)
        )
    return shard_jobs
