"""
The runner: one job per source and target, whose fetches the scheduler reads side by side.
"""

import secrets
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._fetch.client import Emit, SourceClient
from penstock._fetch.retry import Budget
from penstock._fetch.scheduler import Reading, Scheduler, Task
from penstock._plan.dependencies import Dependencies, Key, key_of
from penstock._plan.planner import Fetch, Job, Planner, ordered
from penstock._plugins.registry import Registry
from penstock._read.components import Components, components_of
from penstock._read.loader import Loader
from penstock._read.reader import Reader
from penstock._read.reports import Reports, poll_times
from penstock._run.commit import Delivery
from penstock._util.clock import Clock
from penstock.connector import Stream
from penstock.errors import AuthenticationError, DeadlineReachedError, ProviderError, StoppedError
from penstock.report import RunReport
from penstock.sinks import Checks, Target


def run(
    jobs: Sequence[Job],
    *,
    clock: Clock,
    deadline_s: float | None = None,
    strict: bool = False,
    on_event: Emit = lambda event: None,
) -> RunReport:
    """
    Run the jobs side by side and report. Errors of the configuration or the targets are raised before any request;
    after that everything that fails is in the report.
    """
    on_event = heard_by_all(on_event, [job.source.registry for job in jobs])
    started = time.monotonic()
    report = RunReport(run_id=run_id(clock.now()), strict=strict)
    deadline = None if deadline_s is None else clock.monotonic() + deadline_s
    scheduler = Scheduler(clock, deadline)
    budget = Budget(clock, deadline)
    running: list[SourceRun] = []
    clients: dict[str, SourceClient] = {}  # two jobs of one source share its pace
    try:
        for job in jobs:
            one = SourceRun(
                job, clock=clock, scheduler=scheduler, clients=clients, budget=budget, report=report, emit=on_event
            )
            running.append(one)
            one.open()
        on_event({"event": "run_started", "run_id": report.run_id, "sources": [job.source.name for job in jobs]})
        for one in running:
            one.begin()
        over = scheduler.run()
        report.deadline = report.deadline or isinstance(over, DeadlineReachedError)
        report.output_closed = any(one.output_closed for one in running)
        report.interrupted = isinstance(over, StoppedError) and not report.output_closed
        for one in running:
            one.finish()
    finally:
        report.seconds = time.monotonic() - started
        for client in clients.values():
            client.close()
        for one in running:
            one.close()
    on_event({"event": "run_finished", **report.as_dict()})
    return report


def heard_by_all(on_event: Emit, registries: Sequence[Registry]) -> Emit:
    """One listener for an event, whichever thread it comes from: the caller's, and every plugin's."""
    lock = threading.Lock()
    plugins = {id(registry): registry for registry in registries if registry is not None}

    def emit(event: Mapping[str, Any]) -> None:
        with lock:
            on_event(event)
            for registry in plugins.values():
                registry.event(event)

    return emit


def run_id(now: datetime) -> str:
    """Sortable by time, distinct between two runs of one second."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


@define(eq=False)
class SourceRun:
    """
    One job of a run: its target, and its streams in the order in which they depend on each other.
    """

    job: Job
    clock: Clock
    scheduler: Scheduler
    clients: dict[str, SourceClient]
    budget: Budget
    report: RunReport
    emit: Emit
    _delivery: Delivery | None = field(default=None, init=False)
    _planner: Planner = field(init=False)
    _dependencies: Dependencies = field(init=False)
    _chosen: list[Stream] = field(init=False)
    _first: list[Stream] = field(init=False)  # what can be read at once, parents first
    _client: SourceClient = field(init=False)
    _parts: dict[str, Components] = field(factory=dict, init=False)
    _refused: AuthenticationError | None = field(default=None, init=False)
    _began: dict[str, float] = field(factory=dict, init=False)  # stream -> when its first reading started

    @property
    def source(self) -> ConfiguredSource:
        return self.job.source

    @property
    def delivery(self) -> Delivery:
        assert self._delivery is not None, "open() comes first"
        return self._delivery

    @property
    def output_closed(self) -> bool:
        return self.delivery.output_closed

    def open(self) -> None:
        """
        Take the target; look whether it can take the streams, and plan what can be planned: a target that cannot be
        used, and a window nobody serves, are errors before any request.
        """
        started_at = self.clock.now()
        self._chosen = [stream for stream in ordered(self.source, self.job.streams) if stream.derived is None]
        derived = {stream.name: self.source.derived_from(stream.name) for stream in self._chosen}
        names = [name for own, others in derived.items() for name in (own, *(other.name for other in others))]
        target = self.job.sink.open(self.source.name, self.report.run_id, names)
        self._delivery = Delivery(self.source, target, self.clock, self.report, self.emit, started_at)
        self._planner = Planner(self.job, started_at, target)
        for stream in self._chosen:
            if stream.kind != "snapshot":
                self._planner.window(stream)
        self._dependencies = Dependencies(self.source)
        self._first = self._dependencies.start_with(self._chosen)
        if isinstance(target, Checks):
            target.check([layout for stream in self._chosen for layout in self._parts_of(stream).shape.layouts])

    def begin(self) -> None:
        """Give the scheduler everything that can be read now; the rest follows what it waits for."""
        name = self.source.name
        if name not in self.clients:
            self.clients[name] = SourceClient(
                self.source, clock=self.clock, budget=self.budget, report=self.report, emit=self.emit
            )
        self._client = self.clients[name]
        for stream in self._first:
            self._add(stream, self._planner.accounts(stream) or ())

    def finish(self) -> None:
        """After the last reading: let the target complete its streams, and remember the run."""
        self.delivery.finish()
        self.report.notices.extend(dict.fromkeys(self._planner.notices))
        self.delivery.record_run()

    def close(self) -> None:
        """Give the target's lock back, however far the job came."""
        if self._delivery is not None:
            self._delivery.target.close()

    # --- what is read, and after what -------------------------------------------------------------------------------

    def _add(self, stream: Stream, accounts: Iterable[str | None]) -> None:
        """Plan a stream's fetches and give them to the scheduler."""
        self._drop_stale_reports(stream)
        fetches = self._planner.fetches(stream, accounts)
        hidden = stream not in self._chosen
        if not hidden:
            self._tell_planned(stream, fetches)
        for fetch in fetches:
            self._dependencies.begun(fetch)
            if not hidden:
                self.delivery.expect(fetch)
        self.scheduler.add(self._task(fetch, hidden) for fetch in fetches)

    def _tell_planned(self, stream: Stream, fetches: Iterable[Fetch]) -> None:
        counts = self.report.stream(self.source.name, stream.name)
        counts.planned += sum(len(fetch.partitions) for fetch in fetches)
        counts.final = self._planner.final.get(stream.name, 0)
        self.emit(
            {
                "event": "planned",
                "source": self.source.name,
                "stream": stream.name,
                "partitions": counts.planned,
                "final": counts.final,
            }
        )

    def _drop_stale_reports(self, stream: Stream) -> None:
        """Reports under way that are too old to be adopted, and whose days may not be wanted again."""
        ledger = self.delivery.target.ledger
        if ledger is None or stream.poller is None:
            return
        oldest = self.clock.now() - timedelta(seconds=poll_times(self.source.settings, stream).deadline_s)
        for pending in ledger.pending(self.source.name, stream.name):
            if pending.submitted_at <= oldest:
                ledger.drop(pending)

    def _task(self, fetch: Fetch, hidden: bool) -> Task:
        stream, dependencies = fetch.stream, self._dependencies
        parent: Key | None = (stream.parent.stream, fetch.account) if stream.parent is not None else None
        reader = self._reader(fetch, hidden, parent)

        def start() -> Reading:
            if self._refused is not None:
                raise self._refused
            if parent is not None and not dependencies.is_well(parent):
                raise ProviderError(f"{stream.name} was not read: its parent {parent[0]} failed or was not read")
            self._began.setdefault(stream.name, time.monotonic())
            yield from reader.steps()

        return Task(
            self._client,
            start,
            ready=lambda: parent is None or dependencies.is_over(parent),
            ended=partial(self._ended, fetch, reader, hidden),
        )

    def _reader(self, fetch: Fetch, hidden: bool, parent: Key | None) -> Reader:
        parts, target = self._parts_of(fetch.stream), None if hidden else self.delivery.target
        return Reader(
            source=self.source,
            fetch=fetch,
            parts=parts,
            loader=self._intake(fetch, parts, target),
            reports=self._reports(fetch, parts, target),
            clock=self.clock,
            parents=lambda: self._dependencies.rows(parent) if parent is not None else (),
            on_note=self.delivery.note,
        )

    def _parts_of(self, stream: Stream) -> Components:
        """The stream's parts and decoder, made when they are first asked for."""
        if stream.name not in self._parts:
            self._parts[stream.name] = components_of(self.source, stream, self._dependencies.columns(stream))
        return self._parts[stream.name]

    def _intake(self, fetch: Fetch, parts: Components, target: Target | None) -> Loader:
        return Loader(
            fetch=fetch,
            shape=parts.shape,
            zone=self.source.zone,
            day_of=parts.day_of,
            target=target,
            hooks=self.source.registry.batch_hooks(),
            see=self._dependencies.see(fetch),
            forget_seen=partial(self._dependencies.forget, fetch),
            on_unknown=self.delivery.unknown,
        )

    def _reports(self, fetch: Fetch, parts: Components, target: Target | None) -> Reports | None:
        if parts.poller is None:
            return None
        return Reports(
            source=self.source,
            fetch=fetch,
            poller=parts.poller,
            read=parts.read,
            ledger=target.ledger if target is not None else None,
            clock=self.clock,
            on_note=self.delivery.note,
        )

    # --- what becomes of it -----------------------------------------------------------------------------------------

    def _ended(self, fetch: Fetch, reader: Reader, hidden: bool, error: BaseException | None) -> None:
        stream = fetch.stream
        if stream.name in self._began:
            seconds = time.monotonic() - self._began[stream.name]
            self.report.stream(self.source.name, stream.name).seconds = seconds
        if isinstance(error, AuthenticationError):
            self._refused = error
            self.report.refused = True
        if error is not None:
            self.delivery.fail(fetch, error, hidden=hidden)
        elif not hidden:
            self.delivery.complete(fetch, reader)
        self._dependencies.ended(fetch, well=error is None)
        if dependents := self._dependencies.dependents.pop(stream.name, None):
            self._accounts_listed(fetch, dependents, failed=error is not None)
        self._dependencies.drop(fetch)

    def _accounts_listed(self, fetch: Fetch, dependents: list[Stream], *, failed: bool) -> None:
        """The accounts are known: remember them, and read what is divided by them."""
        name, ledger = fetch.stream.name, self.delivery.target.ledger
        if not failed:
            column = dependents[0].accounts_from[1] if dependents[0].accounts_from else ""
            accounts = tuple(dict.fromkeys(str(row[column]) for row in self._dependencies.rows(key_of(fetch))))
            if ledger is not None:
                ledger.remember_accounts(self.source.name, name, accounts)
        else:
            accounts = ledger.accounts(self.source.name, name) if ledger is not None else ()
        for one in dependents:
            self._add(one, accounts)
