"""
What ``penstock plan`` and ``penstock run`` do, apart from the other methods of a project: a run starts sooner.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from attrs import evolve

from penstock._config import ConfiguredSink
from penstock._config.pipeline import Notification
from penstock._config.source import ConfiguredSource
from penstock._fetch.client import Tape
from penstock._plan.planner import Job, Plan, plan
from penstock._run import runner
from penstock._util.clock import Clock, StandingClock
from penstock.errors import LockHeldError, PenstockError, SinkError, TargetError, UsageError
from penstock.project.jobs import Selection, jobs_for, requests_this_month, sharded, with_shards
from penstock.project.notify import notify
from penstock.project.run_result import PlanResult, RunResult
from penstock.project.setup import Notice, Setup, blamed
from penstock.run_report import Allowance, RunReport
from penstock.sinks import Sink

if TYPE_CHECKING:
    from penstock._fetch.replay import Recording

Event = Mapping[str, Any]
OnEvent = Callable[[Event], None]
Clocks = Callable[[threading.Event | None], Clock]


def ignore(event: Event) -> None:
    """The callback that ignores events."""


class Running:
    """Plans and runs of a project; see :class:`penstock.Project`."""

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
    def of(cls, setup: Setup) -> Self:
        """The object of a setup that the command line has made."""
        made = cls()
        made._setup = setup
        return made

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
        notices, notice = collected()
        now = self._clock(None).now()
        used = [] if to is not None or name in self._setup.config.pipelines else self._setup.history.targets([name])
        left: dict[str, str] = {}
        candidates: list[str | None] = [*used] or [to]
        for candidate in candidates:
            selection = _selection(candidate, streams, exclude_streams, accounts, since, until, full)
            jobs, sink = jobs_for(self._setup, name, selection, now, notice, planning=True)
            try:
                plans = [_planned(job, now) for job in jobs]
                break
            except (TargetError, SinkError, LockHeldError) as error:
                if sink is None or len(left) + 1 >= len(candidates):
                    raise
                left[sink.shown] = str(error)
                notice(f"the target {sink.shown} cannot be read: {error}")
        if sink is None:
            notice("no target was used for this yet and none is given with --to: everything counts as missing")
        elif left:
            notice(f"this is the plan for the target {sink.shown}")
        for one in plans:
            for text in one.notices:
                notice(text)
        partitions = tuple(part for one in plans for part in one.partitions)
        return PlanResult(
            partitions=partitions if shards is None else with_shards(jobs, partitions, shards),
            waiting=tuple(
                f"{job.source.name}.{text}" for job, one in zip(jobs, plans, strict=True) for text in one.waiting
            ),
            final=sum(sum(one.final.values()) for one in plans),
            exact=all(one.exact for one in plans),
            pace={job.source.name: pace for job in jobs if (pace := _pace(job.source)) is not None},
            used={
                job.source.name: (requests_this_month(job.sink, job.source.name, now), allowed)
                for job in jobs
                if (allowed := job.source.settings.requests_per_month) is not None
            },
            target=sink.shown if sink is not None else None,
            notices=tuple(notices),
            exit_code=int(bool(left)),
        )

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
        from the threads of the run, one call at a time. ``allow_rejected``: how many records may be set aside without
        exit code 5: True, a number, or a share such as "1%"; None: as the pipeline states. ``shard``: ``"3/16"`` reads
        the third of sixteen shards of the accounts and days. ``workers``: divide the run among so many processes of
        this machine, or of the ``engine`` (``"dask:HOST:PORT"``); None: as the pipeline states. A script that calls
        this with workers keeps its own code below ``if __name__ == "__main__":``. ``stop``: when it is set, the run
        ends cleanly.

        ``record``: a new directory for every exchange, with secrets and all that may be personal masked;
        ``record_full``: the same with credentials masked only. ``replay``: a recording that answers the requests, at
        the time of the recorded run; what this call leaves out (streams, accounts, days) is as it was there. A masked
        one is refused for a target with a ledger.

        Failed partitions, and a lock that another run holds, are in the result.
        """
        notices, notice = collected(on_event)
        setup, recording, clock = self._setup, None, self._clock(stop)
        selection = _selection(to, streams, exclude_streams, accounts, since, until, full)
        if replay is not None:
            recording = _recording(replay, record, record_full, notice)
            setup, clock = setup.with_recorded(recording), StandingClock(recording.started_at, stop)
            selection = _as_recorded(selection, recording)
        if allow_rejected is not None:
            try:
                selection = selection._replace(allowed=Allowance.parse(allow_rejected))
            except ValueError as error:
                raise UsageError(f"allow_rejected: {error}") from None
        receivers = self._receivers(name, to) if replay is None else ()
        try:
            jobs, sink = jobs_for(setup, name, selection, clock.now(), notice)
            if recording is not None:
                _refuse_masked(recording, jobs, sink)
            else:
                for job in jobs:
                    job.source.refuse_unusable_credentials()
            tape = recording or _recorder(record, record_full, selection)
            if shard is not None:
                jobs = sharded(jobs, shard, notice)
            perform = self._divided(
                name, selection, jobs, clock, workers=workers, engine=engine, shard=shard, recorded=tape is not None
            )
            result = self._performed(
                perform, jobs, sink, clock, notice, on_event, deadline_s=deadline_s, strict=strict, tape=tape
            )
        except PenstockError as error:
            notify(receivers, name, RunResult.not_started(error), notice)
            raise
        if receivers:
            notify(receivers, name, result, notice)
        return evolve(result, notices=tuple(dict.fromkeys((*notices, *result.notices))))

    def _receivers(self, name: str, to: str | Sink | None) -> tuple[Notification, ...]:
        """The receivers of the pipeline that ``name`` means; none for a source."""
        config = self._setup.config
        if name not in config.pipelines or (to is not None and name in config.sources):
            return ()
        return config.notifications(name, self._setup.registry)

    def _divided(
        self,
        name: str,
        selection: Selection,
        jobs: Sequence[Job],
        clock: Clock,
        *,
        workers: int | None,
        engine: str | None,
        shard: str | None,
        recorded: bool,
    ) -> Callable[..., RunReport]:
        """The function that runs these jobs: in this process, or by the workers of an engine."""
        pipeline = self._setup.config.pipelines.get(name)
        if pipeline is not None and workers is None and engine is None and shard is None and not recorded:
            workers, engine = pipeline.workers, pipeline.engine
        if (workers is None or workers == 1) and engine is None:
            return partial(runner.run, jobs)
        if shard is not None or recorded:
            what = "--shard divides a run without workers" if shard is not None else "a recording is of one process"
            raise UsageError(f"{what}; leave out --workers and --engine")
        from penstock.project.workers import divided, engine_of, run_by  # a run of one process starts without it

        chosen = engine_of(self._setup, engine, workers)
        found = divided(self._setup, name, selection, jobs, chosen, clock.now())
        return partial(runner.run, jobs) if found is None else partial(run_by, chosen, jobs, *found)

    def _performed(
        self,
        perform: Callable[..., RunReport],
        jobs: Sequence[Job],
        sink: ConfiguredSink | None,
        clock: Clock,
        notice: Notice,
        on_event: OnEvent,
        *,
        deadline_s: float | None,
        strict: bool,
        tape: Tape | None,
    ) -> RunResult:
        def heard(event: Event) -> None:
            if event["event"] == "run_started":  # only a target that could be opened is remembered
                self._remember(sink, jobs, clock, notice)
            on_event(event)

        try:
            own = {} if tape is None else {"tape": tape}  # workers take none
            report = perform(clock=clock, deadline_s=deadline_s, strict=strict, on_event=heard, **own)
        except UsageError:
            raise
        except PenstockError as error:
            return RunResult.not_started(error)
        return RunResult.of(report)

    def _remember(self, sink: ConfiguredSink | None, jobs: Sequence[Job], clock: Clock, notice: Notice) -> None:
        """Remember the target for later calls. A failure to do so is reported and ignored."""
        if sink is None or sink.remembered is None:
            return
        try:
            self._setup.history.remember(sink.remembered, [job.source.name for job in jobs], clock.now())
        except OSError as error:
            notice(
                f"the target cannot be remembered in {self._setup.config.folder / '.penstock'} ({error.strerror}); "
                "plan, status and rejected will need --to"
            )


def _pace(source: ConfiguredSource) -> float | None:
    """The requests per second that a source makes at most."""
    own: float | None = source.settings.requests_per_second
    return own or source.connector.limits.requests_per_second


def _selection(
    to: str | Sink | None,
    streams: Sequence[str] | None,
    exclude_streams: Sequence[str] | None,
    accounts: Sequence[str] | None,
    since: date | str | None,
    until: date | str | None,
    full: bool,
) -> Selection:
    for name, value in (("streams", streams), ("exclude_streams", exclude_streams), ("accounts", accounts)):
        if isinstance(value, str):
            raise UsageError(f"{name}: found the text {value!r}, expected a list of names")
    return Selection(
        to=to,
        streams=tuple(streams or ()),
        exclude_streams=tuple(exclude_streams or ()),
        accounts=tuple(accounts or ()),
        since=since,
        until=until,
        full=full,
    )


_Folder = str | os.PathLike[str] | None


def _recording(replay: _Folder, record: _Folder, record_full: _Folder, notice: Notice) -> "Recording":
    """The recording to run from. Raises UsageError."""
    from penstock._fetch.replay import Recording

    if record is not None or record_full is not None:
        raise UsageError("a run from a recording makes no exchange that could be recorded: leave out --record")
    assert replay is not None
    found = Recording.open(Path(replay))
    if not found.finished:
        notice(f"--replay {found.folder}: the recorded run was killed; requests may lack their answer")
    return found


def _as_recorded(selection: Selection, recording: "Recording") -> Selection:
    """The selection, with that of the recorded run where it makes none."""
    options = recording.options
    return selection._replace(
        streams=selection.streams or tuple(options["streams"]),
        exclude_streams=selection.exclude_streams or tuple(options["exclude_streams"]),
        accounts=selection.accounts or tuple(options["accounts"]),
        since=selection.since or options["since"],
        until=selection.until or options["until"],
    )


def _refuse_masked(recording: "Recording", jobs: Sequence[Job], sink: ConfiguredSink | None) -> None:
    """Raise UsageError for a masked recording and a target with a ledger."""
    if recording.masked and any(getattr(job.sink, "keeps_ledger", True) for job in jobs):
        raise UsageError(
            f"--replay {recording.folder}: its rows are not those of the provider ({recording.masked}), and "
            f"{sink.shown if sink else 'the sink'} has a ledger, which would count them as delivered. Print them with "
            "--to -, write one file such as --to jsonl:rows.jsonl, or make the recording with --record-full."
        )


def _recorder(record: _Folder, record_full: _Folder, selection: Selection) -> Tape | None:
    """The tape of a run that is recorded. Raises UsageError."""
    if record is not None and record_full is not None:
        raise UsageError("--record and --record-full: choose one")
    if (folder := record if record is not None else record_full) is None:
        return None
    from penstock._fetch.recording import Recorder

    options = {
        "streams": selection.streams,
        "exclude_streams": selection.exclude_streams,
        "accounts": selection.accounts,
        "since": str(selection.since) if selection.since is not None else None,
        "until": str(selection.until) if selection.until is not None else None,
    }
    return Recorder(Path(folder), full=record_full is not None, options=options)


def _planned(job: Job, now: datetime) -> Plan:
    with blamed(job.source.connector):
        return plan(job, now)


def collected(on_event: OnEvent = ignore) -> tuple[list[str], Notice]:
    """A list of notices, each once, and the function that adds one and reports it as an event."""
    found: list[str] = []

    def notice(text: str) -> None:
        if text not in found:
            found.append(text)
            on_event({"event": "notice", "message": text})

    return found, notice
