"""
The coordinator of a divided run: it opens the targets first, receives what the workers send, and makes one report of
theirs.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import cast

import msgspec
from attrs import define, evolve, field

from penstock._config.source import ConfiguredSource
from penstock._plan.division import Division, block_days, unit_of_partition
from penstock._plan.read_job import ReadJob
from penstock._run.context import RunContext
from penstock._run.divided.messages import (
    CooledDown,
    CredentialsWorked,
    GrantReply,
    GrantRequest,
    OpenRequest,
    Parked,
    RunEvent,
    RunState,
    ShardResult,
    StateRequest,
    TargetRequest,
    WorkingCredentialsReply,
    WorkingCredentialsRequest,
    message_of,
    requested_of,
    sent_of,
)
from penstock._run.divided.shared_targets import SharedTargets
from penstock._run.divided.worker import WorkerTask, lock_share_of, try_worker, work
from penstock._run.job_run import JobRun
from penstock._run.runner import open_jobs
from penstock._run_report.report import Credentials, RunReport
from penstock.engines import Assignment, Engine, Message
from penstock.engines.calls import Failure
from penstock.errors import (
    ParkedError,
    PenstockError,
    WorkerLostError,
    sentences,
)
from penstock.events import Event
from penstock.sinks import Coordinating, Sink, Staging


def run_divided(
    context: RunContext,
    division: Division,
    engine: Engine,
    read_jobs: Callable[[], Sequence[ReadJob]],
    versions: Mapping[str, str],
) -> RunReport:
    """
    Run the jobs by the workers of an engine; see :func:`penstock._run.runner.run_jobs`. ``read_jobs`` and
    ``versions``: for each worker, see :class:`WorkerTask`.
    """
    run_report = context.run_report
    lock_share = lock_share_of(run_report.run_id, None)
    jobs = [job if workers_stage(job.sink, engine) else evolve(job, lock_share=lock_share) for job in context.jobs]
    # The coordinator commits to the targets for which workers stage.
    with open_jobs(jobs, context, all_at_once=any(workers_stage(job.sink, engine) for job in jobs)) as opened:
        shared = {
            job_run.source.name: cast(Coordinating, job_run.target)
            for job_run in opened.job_runs
            if workers_stage(job_run.job.sink, engine)
        }
        task = WorkerTask(
            read_jobs=read_jobs,
            versions=versions,
            division=division,
            shared_tokens=engine.carries_secrets,
            may_be_replaced=not engine.is_local,
            started_at=context.started_at,
            deadline_at=context.deadline.time_of_day,
            marks={name: target.mark() for name, target in shared.items()},
        )
        engine.check(partial(try_worker, task))
        with closing(SharedTargets(shared)) as targets:
            sources = {source.name: source for source in opened.sources}
            coordinator = RunCoordinator(context=context, division=division, sources=sources, targets=targets)
            context.announce(list(sources), opened.unusable)
            assignments = [
                Assignment(number=number, run_id=run_report.run_id, sources=names, task=task)
                for number, names in coordinator.sources_by_shard.items()
            ]
            engine.run(assignments, work, coordinator)
        coordinator.make_report()
        coordinator.record(opened.job_runs)
        while opened.later:
            for job, error in opened.open_next():
                run_report.add_notices(f"{job.source.name}: this run is not in the ledger: {error}")
            coordinator.record(opened.job_runs)
    context.emit({"event": "run_finished", **run_report.as_dict()})
    return run_report


def workers_stage(sink: Sink, engine: Engine) -> bool:
    """Whether the workers of an engine stage rows for this sink, and the coordinator commits them."""
    return isinstance(sink, Staging) and not engine.is_local


@define(eq=False, repr=False, kw_only=True)
class RunCoordinator:
    """See :class:`penstock.engines.Coordinator`."""

    context: RunContext
    division: Division
    sources: Mapping[str, ConfiguredSource]  # by name; their targets could be opened
    targets: SharedTargets
    sources_by_shard: Mapping[int, tuple[str, ...]] = field(init=False)
    _results: dict[int, ShardResult] = field(factory=dict, init=False)
    _lost_workers: dict[int, str] = field(factory=dict, init=False)
    _lost_shards: Mapping[int, str] = field(init=False)  # those without a report, when all workers have ended; reasons
    _planned: dict[tuple[str, str], dict[int, tuple[int, int]]] = field(factory=dict, init=False)
    _cooling_down: dict[str, float] = field(factory=dict, init=False)  # source -> until when, on the monotonic clock
    _parked: dict[str, Parked] = field(factory=dict, init=False)
    _working_credentials: set[Credentials] = field(factory=set, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    @sources_by_shard.default
    def _default_sources_by_shard(self) -> dict[int, tuple[str, ...]]:
        shards = self.division.shards_by_source
        sources = {
            number: tuple(name for name in self.sources if number in shards[name])
            for number in range(1, self.division.shard_count + 1)
        }
        return {number: names for number, names in sources.items() if names}

    @property
    def over(self) -> bool:
        return self.context.deadline.run_is_ending

    # --- what workers send --------------------------------------------------------------------------------------------

    def received(self, number: int, message: Message) -> None:
        match sent_of(message):
            case RunEvent(event=event):
                self._event(number, cast(Event, event))
            case CooledDown(source=source, seconds=seconds):
                with self._lock:
                    until = self.context.clock.monotonic() + seconds
                    self._cooling_down[source] = max(until, self._cooling_down.get(source, 0.0))
            case Parked() as parked:
                with self._lock:
                    self._parked.setdefault(parked.source, parked)
            case CredentialsWorked(source=source, owner=owner):
                self._working_credentials.add((source, owner))

    def _event(self, number: int, event: Event) -> None:
        if event["event"] in ("run_started", "run_finished"):
            return
        if event["event"] == "planned":  # each shard counts its own
            with self._lock:
                counts = self._planned.setdefault((event["source"], event["stream"]), {})
                counts[number] = (event["partitions"], event["final"])
                event["partitions"] = sum(planned for planned, _ in counts.values())
                event["final"] = sum(final for _, final in counts.values())
            source = self.sources[event["source"]]
            stream = source.stream(event["stream"])
            of_all_shards = stream.account is not None or block_days(source, stream)
            if of_all_shards and len(counts) < len(self.division.shards_by_source[source.name]):
                return  # once, when all have planned
        self.context.emit(event)

    def reply(self, number: int, message: Message) -> Message:
        match requested_of(message):
            case StateRequest():
                return message_of(self._state())
            case OpenRequest(source=source):
                return message_of(self.targets.open(number, source))
            case TargetRequest() as request:
                return message_of(self.targets.reply(request))
            case GrantRequest() as request:
                return message_of(self._grant(request))
            case WorkingCredentialsRequest(source=source, owner=owner):
                return message_of(WorkingCredentialsReply((source, owner) in self._working_credentials))

    def _state(self) -> RunState:
        with self._lock:
            now = self.context.clock.monotonic()
            cooling_down = {source: until - now for source, until in self._cooling_down.items() if until > now}
            return RunState(self.context.clock.stop.is_set(), cooling_down, dict(self._parked))

    def _grant(self, request: GrantRequest) -> GrantReply:
        """A token for a worker. Every worker has the same: the provider may end each former one with a new one."""
        with self._lock:
            parked = self._parked.get(request.source)
        if parked is not None:
            return GrantReply(parked=parked)
        try:
            client = self.context.client(self.sources[request.source])
            grant = client.signer(request.account).lend(request.used)
        except ParkedError as error:
            with self._lock:
                parked = self._parked.setdefault(request.source, Parked.of(request.source, error))
            return GrantReply(parked=parked)
        except PenstockError as error:
            return GrantReply(failure=Failure.of(error))
        return GrantReply(grant.token.reveal(), grant.life_s)

    def done(self, number: int, result: Message) -> None:
        self._results[number] = msgspec.convert(result, ShardResult)

    def lost(self, number: int, reason: str) -> None:
        self._lost_workers[number] = reason
        self.targets.end(number)

    # --- the end ------------------------------------------------------------------------------------------------------

    def make_report(self) -> None:
        """Make one report of all shards. The workers have ended, or are not heard any more."""
        run_report = self.context.run_report
        for _, result in sorted(self._results.items()):
            if result.report is not None:
                run_report.merge(result.report)
        self._lost_shards = self._without_report()
        if self._lost_shards and self.over:  # they ended, or were not begun, before they could send a report
            run_report.deadline |= not self.context.clock.stop.is_set()
            self._lost_shards = {}
        run_report.stopped |= self.context.clock.stop.is_set() and len(self._results) < len(self.sources_by_shard)
        for number, reason in self._lost_shards.items():
            for name in self.sources_by_shard[number]:
                run_report.record_error(name, None, None, _worker_lost_error(number, reason))

    def record(self, job_runs: Iterable[JobRun]) -> None:
        """Complete the streams of these jobs, which are open, and record the run in their ledgers."""
        for job_run in job_runs:
            name = job_run.source.name
            for stream in job_run.job.chosen if name in self.targets.targets else ():
                job_run.committer.complete(stream.name)
            for number in self._lost_shards:
                if name in self.sources_by_shard[number]:
                    self._count_lost_shard(number, job_run)
            job_run.record_run()

    def _without_report(self) -> dict[int, str]:
        """The numbers of the shards without a report, and the reasons."""
        results = {number: self._results.get(number, ShardResult()) for number in sorted(self.sources_by_shard)}
        return {
            number: result.failed or self._lost_workers.get(number, "it sent no result")
            for number, result in results.items()
            if result.report is None
        }

    def _count_lost_shard(self, number: int, job_run: JobRun) -> None:
        """Count what a shard without a report has delivered of a source: the ledger has it."""
        name, ledger = job_run.source.name, job_run.target.ledger
        for stream in job_run.job.chosen:
            planned, final = self._planned.get((name, stream.name), {}).get(number, (0, 0))
            self.context.run_report.count(name, stream.name, planned=planned, final=final)
            since, until = job_run.job.window_of_any_zone()
            entries = ledger.entries(name, stream.name, since=since, until=until) if ledger else {}
            job_run.committer.count_of_other_worker(
                [
                    entry
                    for partition, entry in entries.items()
                    if entry.delivered
                    and entry.run_id == self.context.run_report.run_id
                    and self.division.shard_of_unit(unit_of_partition(job_run.source, partition)) == number
                ],
                count_as_planned=not planned,
            )


def _worker_lost_error(number: int, reason: str) -> WorkerLostError:
    return WorkerLostError(
        sentences(
            f"worker {number} of this run ended before its work was done: {reason}",
            "What it had committed stays; the next run reads the rest.",
        )
    )
