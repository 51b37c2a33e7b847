"""
A divided run: the coordinator, which holds the lock, hears the workers and makes one report of theirs; and a worker's
side of the line between them.

Messages are JSON-like data. A worker sends the events of its run, and reports a source that throttles or states a long
wait. It requests the state of the run (whether to stop, which sources rest) several times a second, and a token when it
needs one.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from attrs import define, evolve, field

from penstock import errors
from penstock._config.source import ConfiguredSource
from penstock._fetch.auth import RENEWED_AT, SignedExchange
from penstock._fetch.client import Emit, SourceClient
from penstock._fetch.retry import Budget
from penstock._fetch.scheduler import Scheduler
from penstock._plan.division import Division, Unit, unit_of
from penstock._plan.planner import Job, Plan
from penstock._run.runner import Member, SourceRun, heard_by_all, run, run_id
from penstock._util.clock import Clock
from penstock.engines import Assignment, Engine, Line, Message, Work
from penstock.errors import (
    AuthenticationError,
    LockHeldError,
    ParkedError,
    PenstockError,
    StoppedError,
    WorkerLostError,
)
from penstock.model import Partition
from penstock.protocols import Grant
from penstock.redact import Secret
from penstock.run_report import RunReport
from penstock.sinks import Part

STATE_EVERY_S = 0.2


def weights_of(jobs: Sequence[Job], plans: Sequence[Plan]) -> tuple[dict[Unit, int], list[str]]:
    """The planned partitions of each unit, and the sources whose accounts a run lists anew."""
    weights: dict[Unit, int] = {}
    for job, plan in zip(jobs, plans, strict=True):
        for planned in plan.partitions:
            unit = _unit(job.source, planned.partition)
            weights[unit] = weights.get(unit, 0) + 1
    listed = [job.source.name for job in jobs if any(job.source.accounts_from(stream) for stream in job.chosen)]
    return weights, listed


# --- the coordinator --------------------------------------------------------------------------------------------------


def run_divided(
    jobs: Sequence[Job],
    division: Division,
    engine: Engine,
    work: Work,
    assign: Callable[[str, datetime, int, Sequence[str]], Assignment],
    *,
    clock: Clock,
    deadline_s: float | None = None,
    strict: bool = False,
    on_event: Emit = lambda event: None,
) -> RunReport:
    """
    As :func:`penstock._run.runner.run`, by the workers of an engine. ``assign`` makes the assignment of a part: from
    the run's id, its start, the part's number and the names of the sources that are free.
    """
    started, now = time.monotonic(), clock.now()
    report = RunReport(run_id=run_id(now), strict=strict, allowed=jobs[0].allowed)
    emit = heard_by_all(on_event, [job.source.registry for job in jobs], report.run_id)
    deadline = None if deadline_s is None else clock.monotonic() + deadline_s
    budget = Budget(clock, deadline)
    coordinator = RunCoordinator(
        clock=clock, deadline=deadline, budget=budget, report=report, emit=emit, holders=division.holders
    )
    held: list[LockHeldError] = []
    try:
        for job in jobs:
            part = part_of(report.run_id, None)
            one = SourceRun(
                evolve(job, part=part),
                clock=clock,
                started_at=now,
                scheduler=Scheduler(clock, deadline),
                clients={},
                budget=budget,
                report=report,
                emit=emit,
            )
            coordinator.sources[job.source.name] = one
            if (lock := one.open_or_leave()) is not None:
                held.append(lock)
                del coordinator.sources[job.source.name]
        if held and not coordinator.sources:
            raise held[0]
        emit({"event": "run_started", "run_id": report.run_id, "sources": list(coordinator.sources)})
        assignments = []
        for number in range(1, division.parts + 1):
            names = [name for name in coordinator.sources if number in division.holders[name]]
            if names:
                coordinator.parts[number] = tuple(names)
                assignments.append(assign(report.run_id, now, number, names))
        engine.run(assignments, work, coordinator)
        coordinator.finish(division)
        report.seconds = time.monotonic() - started
    finally:
        coordinator.close()
    emit({"event": "run_finished", **report.as_dict()})
    return report


def part_of(run: str, number: int | None) -> Part:
    """The place of a worker, or of the coordinator (None), among the processes that share the lock of a run."""
    return Part(division=f"the workers of run {run}", name="coordinator" if number is None else f"worker {number}")


@define(eq=False, repr=False, kw_only=True)
class RunCoordinator:
    """See :class:`penstock.engines.Coordinator`."""

    clock: Clock
    deadline: float | None
    budget: Budget
    report: RunReport
    emit: Emit
    holders: Mapping[str, tuple[int, ...]]  # source -> its parts
    sources: dict[str, SourceRun] = field(factory=dict, init=False)  # opened, and so locked
    parts: dict[int, tuple[str, ...]] = field(factory=dict, init=False)  # part -> its sources
    _results: dict[int, Message] = field(factory=dict, init=False)
    _lost: dict[int, str] = field(factory=dict, init=False)
    _planned: dict[tuple[str, str], dict[int, tuple[int, int]]] = field(factory=dict, init=False)
    _resting: dict[str, float] = field(factory=dict, init=False)  # source -> until when, on the monotonic clock
    _parked: dict[str, Message] = field(factory=dict, init=False)
    _clients: dict[str, SourceClient] = field(factory=dict, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    @property
    def over(self) -> bool:
        return self.clock.stop.is_set() or self._is_late

    @property
    def _is_late(self) -> bool:
        return self.deadline is not None and self.clock.monotonic() >= self.deadline

    # --- what workers send --------------------------------------------------------------------------------------------

    def heard(self, number: int, message: Message) -> None:
        match message["kind"]:
            case "event":
                self._event(number, dict(message["event"]))
            case "cool_down":
                with self._lock:
                    until = self.clock.monotonic() + message["seconds"]
                    self._resting[message["source"]] = max(until, self._resting.get(message["source"], 0.0))
            case "parked":
                with self._lock:
                    self._parked.setdefault(message["source"], message)

    def _event(self, number: int, event: dict[str, Any]) -> None:
        if event["event"] in ("run_started", "run_finished"):
            return
        if event["event"] == "planned":  # each part counts its own
            with self._lock:
                counts = self._planned.setdefault((event["source"], event["stream"]), {})
                counts[number] = (event["partitions"], event["final"])
                event["partitions"] = sum(planned for planned, _ in counts.values())
                event["final"] = sum(final for _, final in counts.values())
            source = self.sources[event["source"]].source
            if source.stream(event["stream"]).account is not None and len(counts) < len(self.holders[source.name]):
                return  # once, when all have planned
        self.emit(event)

    def answer(self, number: int, message: Message) -> Message:
        return self._state() if message["kind"] == "state" else self._grant(message)

    def _state(self) -> Message:
        with self._lock:
            now = self.clock.monotonic()
            resting = {source: until - now for source, until in self._resting.items() if until > now}
            return {"stop": self.clock.stop.is_set(), "resting": resting, "parked": dict(self._parked)}

    def _grant(self, message: Message) -> Message:
        """A token for a worker. Every worker has the same: the provider may end each former one with a new one."""
        try:
            exchange = self._exchange(message["source"], message["account"])
            current = exchange.current
            if current is not None and message["used"] == current.token.reveal():
                exchange.renew(current)
            grant = exchange.grant()
            assert grant is not None, "a worker requests a grant only if the authenticator of the account needs one"
        except PenstockError as error:
            return {"error": type(error).__name__, "message": str(error)}
        renews_in_s = exchange.renews_in_s
        life_s = None if renews_in_s is None else max(0.0, renews_in_s) / RENEWED_AT
        return {"token": grant.token.reveal(), "life_s": life_s}

    def _exchange(self, name: str, account: str | None) -> SignedExchange:
        with self._lock:
            if name not in self._clients:
                source: ConfiguredSource = self.sources[name].source
                self._clients[name] = SourceClient(
                    source, clock=self.clock, budget=self.budget, report=self.report, emit=self.emit
                )
            return self._clients[name].exchange_for(account)

    def done(self, number: int, result: Message) -> None:
        self._results[number] = result

    def lost(self, number: int, reason: str) -> None:
        self._lost[number] = reason

    # --- the end ------------------------------------------------------------------------------------------------------

    def finish(self, division: Division) -> None:
        """Make one report of all parts, and record the run."""
        for _, result in sorted(self._results.items()):
            if "report" in result:
                self.report.add_part(result["report"])
        for number, names in sorted(self.parts.items()):
            result = self._results.get(number, {})
            if "report" not in result:
                reason = result.get("failed") or self._lost.get(number, "it sent no result")
                self._count_lost(division, number, names, str(reason))
        self.report.interrupted = self.report.interrupted or (
            self.clock.stop.is_set() and len(self._results) < len(self.parts)
        )
        for one in self.sources.values():
            one.delivery.record_run()

    def _count_lost(self, division: Division, number: int, names: Sequence[str], reason: str) -> None:
        """Report a worker that has no result: what it delivered is in the ledger."""
        if self.over:  # it ended, or was not begun, before it could send one
            self.report.deadline = self.report.deadline or not self.clock.stop.is_set()
            return
        for name in names:
            one = self.sources[name]
            error = WorkerLostError(
                f"worker {number} of this run ended before its work was done: {reason}. What it had committed stays; "
                "the next run reads the rest."
            )
            self.report.error(name, None, None, error)
            for stream in one.job.chosen:
                planned, final = self._planned.get((name, stream.name), {}).get(number, (0, 0))
                self.report.count(name, stream.name, planned=planned, final=final)
                ledger = one.delivery.target.ledger
                entries = ledger.entries(name, stream.name, since=one.job.since, until=one.job.until) if ledger else {}
                one.delivery.recount(
                    [
                        entry
                        for partition, entry in entries.items()
                        if entry.delivered
                        and entry.run_id == self.report.run_id
                        and division.part_of(_unit(one.source, partition)) == number
                    ],
                    planned=not planned,
                )

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        for one in self.sources.values():
            one.close()


def _unit(source: ConfiguredSource, partition: Partition) -> Unit:
    stream = source.stream(partition.stream)
    account = partition.as_dict().get(stream.account) if stream.account is not None else None
    return unit_of(source, stream, account)


# --- a worker ---------------------------------------------------------------------------------------------------------


def run_part(
    jobs: Sequence[Job],
    assignment: Assignment,
    line: Line,
    *,
    started_at: datetime,
    clock: Clock,
    deadline_s: float | None,
    strict: bool,
    shared_tokens: bool,
) -> RunReport:
    """The part of a divided run that these jobs are, in a worker."""
    others = LineToOthers(line=line, shares_tokens=shared_tokens)
    member = Member(run_id=assignment.run_id, started_at=started_at, others=others)

    def heard(event: Mapping[str, Any]) -> None:
        with suppress(OSError):  # the thread below notices a line that is cut, too, and ends the run
            line.send({"kind": "event", "event": dict(event)})

    with _following(line, clock, member.clients):
        return run(jobs, clock=clock, deadline_s=deadline_s, strict=strict, on_event=heard, member=member)


@define(eq=False, repr=False, kw_only=True)
class LineToOthers:
    """See :class:`penstock._fetch.client.Others`."""

    line: Line
    shares_tokens: bool

    def grant(self, source: str, account: str | None, used: Grant | None) -> Grant:
        token = used.token.reveal() if used is not None else None
        answer = self._ask({"kind": "grant", "source": source, "account": account, "used": token})
        if "error" in answer:
            kind = getattr(errors, answer["error"], AuthenticationError)
            raise (AuthenticationError if kind is ParkedError else kind)(answer["message"])
        return Grant(token=Secret(answer["token"]), life_s=answer["life_s"])

    def cooled_down(self, source: str, seconds: float) -> None:
        with suppress(OSError):
            self.line.send({"kind": "cool_down", "source": source, "seconds": seconds})

    def parked(self, source: str, error: ParkedError) -> None:
        with suppress(OSError):
            self.line.send(
                {"kind": "parked", "source": source, "message": str(error), "until": error.until.isoformat()}
            )

    def _ask(self, message: Message) -> Message:
        try:
            return self.line.ask(message)
        except OSError:
            raise StoppedError("the coordinator of this run is gone; the next run goes on from what it has") from None


@contextmanager
def _following(line: Line, clock: Clock, clients: Mapping[str, SourceClient]) -> Iterator[None]:
    """Request the state of the run until the end of the context, and do what it demands."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(STATE_EVERY_S):
            try:
                state = line.ask({"kind": "state"})
            except OSError:
                clock.stop.set()
                return
            if state["stop"]:
                clock.stop.set()
            for name, client in list(clients.items()):
                if name in state["resting"]:
                    client.rate_limit.hold(state["resting"][name])
                if (parked := state["parked"].get(name)) is not None:
                    client.park(ParkedError(parked["message"], datetime.fromisoformat(parked["until"])))

    thread = threading.Thread(target=follow, name="state of the run", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5.0)
