"""
``Project.plan`` and ``Project.run``. A module of their own, so that a run does not import the other methods.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from attrs import evolve

from penstock._config import ConfiguredSink
from penstock._config.pipeline import Notification
from penstock._plan.plan import Job, Plan
from penstock._project.jobs import jobs_for, pipeline_of, plan_of, sharded, with_shards
from penstock._project.notify import notify
from penstock._project.recorded import as_recorded, recorder_of, recording_of, refuse_masked
from penstock._project.run_result import PlanResult, RunResult
from penstock._project.selection import Selection, names_in
from penstock._project.setup import Notice, Notices, Setup, unfailing
from penstock._run import runner
from penstock._run.context import new_run
from penstock._run_report.report import RunReport
from penstock._util.clock import Clock, StandingClock
from penstock.errors import LockHeldError, PenstockError, SinkError, TargetError, UsageError
from penstock.events import Event, OnEvent, ignore
from penstock.sinks import Sink

if TYPE_CHECKING:
    from penstock._recording.replay import Recording

Clocks = Callable[[threading.Event | None], Clock]


class Running:
    """
    Plans and runs of a project; see :class:`penstock.Project`, which has the other methods.

    A class of its own, since ``penstock run`` starts with this module alone: the results, the ledger's queries and the
    schemas that the other methods name in their signatures would be imported, too.
    """

    def __init__(
        self,
        config: "str | os.PathLike[str] | Mapping[str, Any] | None" = None,
        *,
        sets: Sequence[str] = (),
        plugins: Iterable[object] | None = None,
        environ: Mapping[str, str] | None = None,
        strict_plugins: bool = False,
        clock: Clocks = Clock,
    ) -> None:
        self._setup = Setup(
            file=config,
            sets=tuple(sets),
            plugins=plugins if plugins is None else tuple(plugins),
            environ=os.environ if environ is None else environ,
            strict_plugins=strict_plugins,
        )
        self._clock = clock

    @classmethod
    def of(cls, setup: Setup, clock: Clocks = Clock) -> Self:
        """The object of a setup that is there already."""
        project = cls.__new__(cls)
        project._setup, project._clock = setup, clock
        return project

    def plan(
        self,
        name: str,
        *,
        to: str | None = None,
        streams: Sequence[str] | None = None,
        exclude_streams: Sequence[str] | None = None,
        accounts: Sequence[str] | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        full: bool = False,
        shards: int | None = None,
    ) -> PlanResult:
        """
        The partitions that a run of this pipeline or source would fetch, each with its reason. Makes no request.

        Without ``to``, the target that was used last for the source decides what is final; if that one cannot be read,
        the one before it, with exit code 1. ``shards``: each partition also has the number of the shard, of so many,
        that reads it.
        """
        notices = Notices()
        now = self._clock(None).now()
        selection = Selection(
            to=to,
            streams=names_in("streams", streams),
            exclude_streams=names_in("exclude_streams", exclude_streams),
            accounts=names_in("accounts", accounts),
            since=since,
            until=until,
            full=full,
        )
        jobs, sink, plans, is_first = self._plans(name, selection, now, notices.add)
        if sink is None:
            notices.add("no target was used for this yet and none is given with --to: everything counts as missing")
        elif not is_first:
            notices.add(f"this is the plan for the target {sink.shown}")
        for text in (text for plan in plans for text in plan.notices):
            notices.add(text)
        partitions = tuple(partition for plan in plans for partition in plan.partitions)
        return PlanResult(
            partitions=partitions if shards is None else with_shards(jobs, partitions, shards),
            waiting=tuple(
                f"{job.source.name}.{text}" for job, plan in zip(jobs, plans, strict=True) for text in plan.waiting
            ),
            final=sum(sum(plan.final.values()) for plan in plans),
            exact=all(plan.exact for plan in plans),
            pace={job.source.name: rate for job in jobs if (rate := job.source.requests_per_second) is not None},
            target=sink.shown if sink is not None else None,
            notices=tuple(notices.texts),
            exit_code=int(not is_first),
        )

    def _plans(
        self, name: str, selection: Selection, now: datetime, notice: Notice
    ) -> tuple[list[Job], ConfiguredSink | None, list[Plan], bool]:
        """
        The jobs of a selection, their sink and their plans; and whether that is the target that was used last. One that
        cannot be read is left out, with a notice, unless it is the only one.
        """
        is_source = name not in self._setup.config.pipelines
        history = self._setup.targets_used([name], notice) if selection.to is None and is_source else ()
        candidates: list[str | None] = [*history] or [None]
        for used in candidates:
            jobs, sink = jobs_for(self._setup, name, selection, now, notice, planning=True, used=used)
            try:
                return jobs, sink, [plan_of(job, now) for job in jobs], used == candidates[0]
            except (TargetError, SinkError, LockHeldError) as error:
                if sink is None or used == candidates[-1]:
                    raise
                notice(f"the target {sink.shown} cannot be read: {error}")
        raise AssertionError("the last candidate returns or raises")

    def run(
        self,
        name: str,
        *,
        to: str | Sink | None = None,
        streams: Sequence[str] | None = None,
        exclude_streams: Sequence[str] | None = None,
        accounts: Sequence[str] | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        full: bool = False,
        strict: bool = False,
        allow_rejected: bool | int | str | None = None,
        deadline_s: float | None = None,
        shard: str | None = None,
        workers: int | None = None,
        engine: str | None = None,
        record: "str | os.PathLike[str] | None" = None,
        record_full: "str | os.PathLike[str] | None" = None,
        replay: "str | os.PathLike[str] | None" = None,
        on_event: OnEvent = ignore,
        stop: threading.Event | None = None,
    ) -> RunResult:
        """
        Fetch what is not final yet and deliver it, as ``penstock run`` does.

        ``name``: a pipeline, or a source with ``to``: a sink's name or place, or a sink that the caller made, which is
        not remembered for ``plan`` and ``status``. ``since``, ``until``: days, both included, or a text such as
        ``"-3d"``, ``"2026-10"`` or ``"last-month"``, in the source's time zone. ``on_event``: called with each event,
        from the threads of the run, one call at a time; its exceptions are logged. ``allow_rejected``: how many
        records may be rejected without exit code 5: True, a number, or a share such as "1%"; None: as the pipeline
        states. ``shard``: ``"3/16"`` reads the third of sixteen shards of the accounts and days. ``workers``: divide
        the run among so many processes of this machine, or of the ``engine`` (``"dask:HOST:PORT"``); None: as the
        pipeline states. A script that calls this with workers keeps its own code below
        ``if __name__ == "__main__":``. ``stop``: when it is set, the run ends cleanly.

        ``record``: a new directory for every exchange, with secrets and all that may be personal masked;
        ``record_full``: the same with credentials masked only. ``replay``: a recording that replaces the provider, at
        the time of the recorded run; what this call leaves out (streams, accounts, days) is as it was there. A masked
        one is refused for a target with a ledger.

        Failed partitions, and a lock that another run holds, are in the result.
        """
        on_event = unfailing(on_event)
        notices = Notices(on_event)
        setup, recording, clock = self._setup, None, self._clock(stop)
        selection = Selection(
            to=to,
            streams=names_in("streams", streams),
            exclude_streams=names_in("exclude_streams", exclude_streams),
            accounts=names_in("accounts", accounts),
            since=since,
            until=until,
            full=full,
            strict=strict,
            allow_rejected=allow_rejected,
        )
        if replay is not None:
            recording = recording_of(replay, record, record_full, notices.add)
            setup, clock = setup.with_recorded(recording), StandingClock(recording.started_at, stop)
            selection = as_recorded(selection, recording)
        receivers = self._receivers(name, to) if replay is None else ()
        try:
            jobs, sink = jobs_for(setup, name, selection, clock.now(), notices.add)
            _refuse_unusable(jobs, sink, recording)
            exchange_log = recording or recorder_of(record, record_full, selection)
            if shard is not None:
                jobs = sharded(jobs, shard, notices.add)
            workers, engine = self._division(name, workers, engine, shard=shard, recorded=exchange_log is not None)
            remember = partial(self._remember, sink, [job.source.name for job in jobs], clock, notices.add)
            context = new_run(
                jobs,
                clock=clock,
                deadline_s=deadline_s,
                on_event=partial(_follow, on_event, remember),
                exchange_log=exchange_log,
            )
            if engine is None and workers in (None, 1):
                result = _result_of(partial(runner.run, context))
            else:
                from penstock._project.workers import run_by_workers  # a run of one process starts without it

                result = _result_of(partial(run_by_workers, setup, name, selection, context, engine, workers))
        except PenstockError as error:
            notices.add_all(notify(receivers, name, RunResult.not_started(error)))
            raise
        unsent = notify(receivers, name, result) if receivers else []
        notices.add_all(unsent)
        return evolve(result, notices=tuple(dict.fromkeys((*notices.texts, *result.notices))), unsent=tuple(unsent))

    def _receivers(self, name: str, to: str | Sink | None) -> tuple[Notification, ...]:
        """The receivers of the pipeline that ``name`` means; none for a source."""
        config = self._setup.config
        if pipeline_of(config, name, to) is None:
            return ()
        return config.notifications(name, self._setup.registry)

    def _division(
        self, name: str, workers: int | None, engine: str | None, *, shard: str | None, recorded: bool
    ) -> tuple[int | None, str | None]:
        """The workers and the engine that divide a run: those of the call, else those of the pipeline."""
        if shard is None and not recorded:
            pipeline = self._setup.config.pipelines.get(name)
            if pipeline is not None and workers is None and engine is None:
                return pipeline.workers, pipeline.engine
        elif engine is not None or workers not in (None, 1):
            what = "--shard divides a run without workers" if shard is not None else "a recording is of one process"
            raise UsageError(f"{what}; leave out --workers and --engine")
        return workers, engine

    def _remember(self, sink: ConfiguredSink | None, sources: Sequence[str], clock: Clock, notice: Notice) -> None:
        """Remember the target for later calls. A failure to do so is reported and ignored."""
        if sink is None or sink.remembered is None:
            return
        try:
            self._setup.used_targets.remember(sink.remembered, sources, clock.now())
        except OSError as error:
            notice(
                f"the target cannot be remembered in {self._setup.config.folder / '.penstock'} ({error.strerror}); "
                "plan, status and rejected will need --to"
            )


def _refuse_unusable(jobs: Sequence[Job], sink: ConfiguredSink | None, recording: "Recording | None") -> None:
    """Raise UsageError for credentials that cannot be used, or for a recording that the target must not have."""
    if recording is not None:
        refuse_masked(recording, jobs, sink)
        return
    for job in jobs:
        job.source.refuse_unusable_credentials()


def _follow(on_event: OnEvent, remember: Callable[[], None], event: Event) -> None:
    """Pass an event on; remember the target when it has been opened."""
    if event["event"] == "run_started":
        remember()
    on_event(event)


def _result_of(run: Callable[[], RunReport]) -> RunResult:
    """The result of a run, also where another run's lock, or a target, prevents it from starting."""
    try:
        return RunResult.of(run())
    except UsageError:
        raise
    except PenstockError as error:
        return RunResult.not_started(error)
