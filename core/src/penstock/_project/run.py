"""
``run``: fetch what is not final and deliver it.
"""

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from attrs import evolve

from penstock._config.config import ConfiguredSink
from penstock._config.pipeline import Notification
from penstock._fetch.exchange_recording import ExchangeRecording
from penstock._plan.division import parse_shard
from penstock._plan.read_job import ReadJob
from penstock._project.recordings import RecordingOptions, as_recorded, check_unmasked, recorder_of, recording_of
from penstock._project.run_result import RunResult
from penstock._project.selected_jobs import Selection, receivers_of, usable_jobs_for
from penstock._project.setup import AddNotice, Notices, Setup
from penstock._run.context import new_run
from penstock._run.runner import run_jobs
from penstock._util.clock import Clock, StandingClock
from penstock.errors import PenstockError, UsageError, one_error
from penstock.events import OnEvent
from penstock.names import counted
from penstock.sinks import LockShare

if TYPE_CHECKING:
    from penstock._recording.replay import Recording


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


class PreparedRun(NamedTuple):
    """
    A run of a provider, or from a recording. ``unusable``: by name, why the configuration of a source cannot be used.
    ``recording``: the one that the run writes or reads.
    """

    setup: Setup
    name: str
    selection: Selection
    clock: Clock
    jobs: Sequence[ReadJob]
    sink: ConfiguredSink | None
    unusable: Mapping[str, PenstockError]
    recording: ExchangeRecording | None


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
    notices = Notices(on_event)
    replayed = recording_of(recordings, notices.add)
    receivers = receivers_of(setup, name, selection.to) if replayed is None else ()
    try:
        if replayed is None:
            prepared = _prepare_live(setup, name, selection, recordings, clock, notices.add)
        else:
            prepared = _prepare_replay(setup, name, selection, replayed, clock.stop, notices.add)
        result = _execute(prepared, division, deadline_s, on_event, notices.add)
    except PenstockError as error:
        notices.add(*_notify(receivers, name, RunResult.not_started(error)))
        raise
    undelivered = tuple(_notify(receivers, name, result))
    notices.add(*undelivered, *result.notices)
    return evolve(result, notices=tuple(notices.texts), undelivered_notifications=undelivered)


def _prepare_live(
    setup: Setup, name: str, selection: Selection, recordings: RecordingOptions, clock: Clock, add_notice: AddNotice
) -> PreparedRun:
    """A run of the provider. Raises UsageError where no source has credentials that can be used."""
    jobs, sink, unusable = usable_jobs_for(setup, name, selection, clock.now(), add_notice)
    _notice_broken_plugins(setup, add_notice)
    jobs_to_read = _with_credentials(jobs, unusable)
    return PreparedRun(setup, name, selection, clock, jobs_to_read, sink, unusable, recorder_of(recordings, selection))


def _prepare_replay(
    setup: Setup, name: str, selection: Selection, recording: "Recording", stop: threading.Event, add_notice: AddNotice
) -> PreparedRun:
    """A run from a recording, at its time. ``stop``: ends the run. Raises UsageError for a masked one and a ledger."""
    setup_of_run, selection_of_run = setup.with_recorded(recording), as_recorded(selection, recording)
    clock = StandingClock(recording.started_at, stop)
    jobs, sink, unusable = usable_jobs_for(setup_of_run, name, selection_of_run, clock.now(), add_notice)
    _notice_broken_plugins(setup, add_notice)
    check_unmasked(recording, jobs, sink)
    return PreparedRun(setup_of_run, name, selection_of_run, clock, jobs, sink, unusable, recording)


def _notice_broken_plugins(setup: Setup, add_notice: AddNotice) -> None:
    for fault in setup.registry.not_loaded:  # it may be one that is to mask values
        add_notice(f"{fault.plugin} is broken and is not used: {fault.reason}")


def _notify(receivers: Sequence[Notification], name: str, result: RunResult) -> list[str]:
    """Send the result to the receivers; a message for each that did not take it."""
    if not receivers:
        return []
    from penstock._project.notify import notify

    return notify(receivers, name, result)


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


def _remember(
    setup: Setup, sink: ConfiguredSink | None, sources: Sequence[str], clock: Clock, add_notice: AddNotice
) -> None:
    """Remember the target for later calls. A failure to do so is reported and ignored."""
    if sink is None or sink.remembered is None:
        return
    try:
        setup.used_targets.remember(sink.remembered, sources, clock.now())
    except OSError as error:
        add_notice(
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
    prepared: PreparedRun, division: DivisionOptions, deadline_s: float | None, on_event: OnEvent, add_notice: AddNotice
) -> RunResult:
    """Run the jobs. The result is also that of a run that another run's lock, or a target, prevents from starting."""
    setup, name, jobs = prepared.setup, prepared.name, prepared.jobs
    division = _division_of(setup, name, division, recorded=prepared.recording is not None)
    if division.shard is not None:
        jobs = _sharded(jobs, division.shard, add_notice)
    context = new_run(
        jobs,
        clock=prepared.clock,
        deadline_s=deadline_s,
        unusable=prepared.unusable,
        on_start=partial(
            _remember, setup, prepared.sink, [job.source.name for job in jobs], prepared.clock, add_notice
        ),
        on_event=on_event,
        recording=prepared.recording,
    )
    try:
        if not division.has_workers:
            return RunResult.of(run_jobs(context))
        from penstock._project.workers import run_by_workers  # a run of one process starts without it

        by_workers = run_by_workers(setup, name, prepared.selection, context, division.engine, division.workers)
        return RunResult.of(by_workers)
    except UsageError:
        raise
    except PenstockError as error:
        return RunResult.not_started(error)


def _sharded(jobs: Sequence[ReadJob], shard: str, add_notice: AddNotice) -> list[ReadJob]:
    """The jobs of one shard, ``"3/16"``: its accounts and days, with its share of each source's limits."""
    from penstock._run.divided.divisible import check_divisible  # a whole run starts without it

    check_divisible(jobs)
    this_shard = parse_shard(shard, [job.source for job in jobs])
    shard_jobs = []
    for job in jobs:
        name, shard_count = job.source.name, this_shard.division.shard_count
        readers = len(this_shard.division.shards_by_source[name])
        if not this_shard.reads_source(name):
            allowed = counted(readers, "request")
            add_notice(f"{name} allows {allowed} at once, so {readers} of {shard_count} shards read it; not this one")
            continue
        lock_share = LockShare(
            division=f"{shard_count} shards by days, {readers} for this source",
            name=f"shard {this_shard.number} of {shard_count}",
        )
        shard_jobs.append(
            evolve(job, source=this_shard.with_share_of_limits(job.source), shard=this_shard, lock_share=lock_share)
        )
    return shard_jobs
