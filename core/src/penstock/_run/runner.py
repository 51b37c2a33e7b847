"""
The runner: one job per source and target. The scheduler reads their slices concurrently.
"""

import secrets
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

from attrs import define, field, frozen

from penstock._config.source import ConfiguredSource
from penstock._fetch.client import Emit, Others, SourceClient, Tape
from penstock._fetch.retry import Budget
from penstock._fetch.scheduler import Reading, Scheduler, Task
from penstock._plan.dependencies import Dependencies, Key, key_of
from penstock._plan.planner import Job, PlannedSlice, Planner, account_of, zone_memory, zone_text
from penstock._plugins.registry import Registry
from penstock._read.components import Components, components_of
from penstock._read.loader import Loader
from penstock._read.on_demand import Reports, poll_times
from penstock._read.reader import Reader
from penstock._read.reconcile import PageSizes
from penstock._run.commit import Delivery
from penstock._util.clock import Clock
from penstock.connector import Stream, zone_exists
from penstock.errors import (
    AuthenticationError,
    DeadlineReachedError,
    ForbiddenError,
    LockHeldError,
    PenstockError,
    ProviderError,
    StoppedError,
)
from penstock.run_report import NONE_ALLOWED, RunReport
from penstock.sinks import Checks, Interruptible, Ledger, PendingReport, Target

INTERRUPT_EVERY_S = 1.0


@frozen(kw_only=True)
class Member:
    """
    The place of this process in a divided run. ``started_at``: when the run began, for all its parts. ``clients``: the
    sources' clients, filled by the run, for what the other processes report.
    """

    run_id: str
    started_at: datetime
    others: Others
    clients: dict[str, SourceClient] = field(factory=dict)


def run(
    jobs: Sequence[Job],
    *,
    clock: Clock,
    deadline_s: float | None = None,
    strict: bool = False,
    on_event: Emit = lambda event: None,
    tape: Tape | None = None,
    member: Member | None = None,
) -> RunReport:
    """
    Run the jobs concurrently and report. Errors of the configuration or the targets are raised before any request;
    all later failures are in the report. ``strict``: unknown members give exit code 5. ``tape``: records the exchanges,
    or answers the requests.

    ``member``: these are the jobs of one part of a divided run. The coordinator reports events to plugins, and records
    the run.
    """
    started = time.monotonic()
    started_at = clock.now() if member is None else member.started_at
    this_run = run_id(started_at) if member is None else member.run_id
    if member is None:
        on_event = heard_by_all(on_event, [job.source.registry for job in jobs], this_run)
    report = RunReport(run_id=this_run, strict=strict, allowed=jobs[0].allowed if jobs else NONE_ALLOWED)
    deadline = None if deadline_s is None else clock.monotonic() + deadline_s
    running: list[SourceRun] = []

    def flush() -> None:
        for one in running:
            one.delivery.flush()

    scheduler = Scheduler(clock, deadline, idle=flush)
    budget = Budget(clock, deadline)
    held: list[LockHeldError] = []
    clients = {} if member is None else member.clients  # two jobs of one source share its pace
    over_now = threading.Event()
    watch = threading.Thread(target=_interrupt_targets, args=(clock, deadline, running, over_now), daemon=True)
    watch.start()
    try:
        for job in jobs:
            one = SourceRun(
                job,
                clock=clock,
                started_at=started_at,
                scheduler=scheduler,
                clients=clients,
                budget=budget,
                report=report,
                emit=on_event,
                tape=tape,
                member=member,
            )
            running.append(one)
            if (lock := one.open_or_leave()) is not None:
                held.append(lock)
                running.remove(one)
        if held and not running:
            raise held[0]
        if tape is not None:
            tape.begin(started_at, [one.source for one in running])
        on_event({"event": "run_started", "run_id": report.run_id, "sources": [one.source.name for one in running]})
        for one in running:
            one.begin()
        over = scheduler.run()
        report.deadline = report.deadline or isinstance(over, DeadlineReachedError)
        report.output_closed = any(one.output_closed for one in running)
        report.interrupted = isinstance(over, StoppedError) and not report.output_closed
        for one in running:
            one.finish()
        if tape is not None:
            _finish(tape, report, running[0].source.name)
    finally:
        report.seconds = time.monotonic() - started
        over_now.set()
        watch.join()
        for client in clients.values():
            client.close()
        for one in running:
            one.close()
    on_event({"event": "run_finished", **report.as_dict()})
    return report


def _finish(tape: Tape, report: RunReport, source: str) -> None:
    try:
        report.notices.extend(tape.finish())
    except PenstockError as error:
        report.error(source, None, None, error)


def _interrupt_targets(
    clock: Clock, deadline: float | None, running: "Sequence[SourceRun]", over: threading.Event
) -> None:
    """Interrupt targets that wait for a lock when the run is to end. Runs in a thread until the run is over."""
    while not over.wait(INTERRUPT_EVERY_S):
        reason: PenstockError
        if clock.stop.is_set():
            reason = StoppedError("stopped while the target was waited for; the next run goes on from what it has")
        elif deadline is not None and clock.monotonic() >= deadline:
            reason = DeadlineReachedError("the deadline was reached while the target was waited for")
        else:
            continue
        for one in running:
            one.interrupt(reason)


def heard_by_all(on_event: Emit, registries: Sequence[Registry], run_id: str) -> Emit:
    """One thread-safe listener that adds the run's id to an event, and passes it to the caller's and every plugin's."""
    lock = threading.Lock()
    plugins = {id(registry): registry for registry in registries if registry is not None}

    def emit(event: Mapping[str, Any]) -> None:
        event = {**event, "run_id": run_id}
        with lock:
            on_event(event)
            for registry in plugins.values():
                registry.event(event)

    return emit


# After 403 for so many accounts, and an answer for none, the credentials are refused and nothing more is requested.
FORBIDDEN = 3


def run_id(now: datetime) -> str:
    """An id that sorts by time, and differs for two runs in one second."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


@define(eq=False, repr=False)
class SourceRun:
    """
    One job of a run: its target, and its streams in the order in which they depend on each other.
    """

    job: Job
    clock: Clock
    started_at: datetime  # of the run
    scheduler: Scheduler
    clients: dict[str, SourceClient]
    budget: Budget
    report: RunReport
    emit: Emit
    tape: Tape | None = None
    member: Member | None = None
    _delivery: Delivery | None = field(default=None, init=False)
    _planner: Planner = field(init=False)
    _dependencies: Dependencies = field(init=False)
    _chosen: list[Stream] = field(init=False)
    _first: list[Stream] = field(init=False)  # streams that can be read at once, parents first
    _client: SourceClient = field(init=False)
    _components: dict[tuple[str, int], Components] = field(factory=dict, init=False)
    _adoptable: dict[str, dict[str, PendingReport]] = field(factory=dict, init=False)  # by stream and request
    _refused: dict[str | None, AuthenticationError] = field(factory=dict, init=False)  # by whose credentials
    _forbidden: dict[Key, ForbiddenError] = field(factory=dict, init=False)  # accounts of streams that were refused
    _page_sizes: dict[str, PageSizes] = field(factory=dict, init=False)  # by stream
    _searched: dict[str, int] = field(factory=dict, init=False)  # by stream, see Reader.searched
    _began: dict[str, float] = field(factory=dict, init=False)  # stream -> when its first reading started

    @property
    def source(self) -> ConfiguredSource:
        return self.job.source

    @property
    def delivery(self) -> Delivery:
        assert self._delivery is not None, "open() comes first"
        return self._delivery

    @property
    def _ledger_of_reports(self) -> Ledger | None:
        """The ledger that keeps the reports under way; those of a recording are not at the provider any more."""
        return self.delivery.target.ledger if self.tape is None or self.tape.until is None else None

    @property
    def output_closed(self) -> bool:
        return self.delivery.output_closed

    def open_or_leave(self) -> LockHeldError | None:
        """Open the source. One that another run holds is reported as not read, and the others are read."""
        try:
            self.open()
        except LockHeldError as error:
            self.report.locked = True
            self.report.notices.append(f"{self.source.name} was not read: {error}")
            return error
        return None

    def open(self) -> None:
        """
        Open the target, check that it can hold the streams, and plan the streams that can be planned. A target that
        cannot be used, and a window that the provider does not serve, raise before any request.
        """
        self._chosen = self.job.chosen
        derived = {stream.name: self.source.derived_from(stream.name) for stream in self._chosen}
        names = [name for own, others in derived.items() for name in (own, *(other.name for other in others))]
        target = self.job.open(self.report.run_id, names)
        until = self.tape.until if self.tape is not None else None
        self._delivery = Delivery(
            self.source, target, self.clock, self.report, self.emit, self.started_at, recorded_until=until
        )
        this_run = self.member.run_id if self.member is not None else None
        self._planner = Planner(self.job, self.started_at, target, this_run)
        for stream in self._chosen:
            if stream.kind != "snapshot":
                self._planner.check_window(stream, self._planner.accounts(stream) or ())
        self._dependencies = Dependencies(self.source)
        self._first = self._dependencies.start_with(self._chosen)
        if isinstance(target, Checks):
            target.check([layout for stream in self._chosen for layout in self._components_of(stream).shape.layouts])

    def begin(self) -> None:
        """Give the scheduler the slices that can be read now. Others follow when the streams they need are read."""
        name = self.source.name
        if name not in self.clients:
            self.clients[name] = SourceClient(
                self.source,
                clock=self.clock,
                budget=self.budget,
                report=self.report,
                emit=self.emit,
                tape=self.tape,
                others=self.member.others if self.member is not None else None,
            )
        self._client = self.clients[name]
        for stream in self._first:
            self._add(stream, self._planner.accounts(stream) or ())

    def finish(self) -> None:
        """After the last read: let the target complete its streams, and record the run."""
        holders = {self.source.credentials_of(account) for _, account in self._forbidden}
        if self._refused or not all(map(self._client.was_answered, holders)):
            self.report.refused = True
        self.delivery.finish()
        if not self.report.interrupted and not self.report.deadline:
            self._drop_stale_reports()
        self.report.notices.extend(dict.fromkeys(self._planner.notices))
        if self.member is None:
            self.delivery.record_run()

    def interrupt(self, reason: PenstockError) -> None:
        """End a wait of the target; called from another thread."""
        if self._delivery is not None and isinstance(self._delivery.target, Interruptible):
            self._delivery.target.interrupt(reason)

    def close(self) -> None:
        """Release the target's lock, whatever the state of the job."""
        if self._delivery is not None:
            self._delivery.target.close()

    # --- what is read, and after what ---------------------------------------------------------------------------------

    def _add(self, stream: Stream, accounts: Iterable[str | None]) -> None:
        """Plan a stream's slices and give them to the scheduler."""
        slices = self._planner.slices(stream, accounts)
        hidden = stream not in self._chosen
        ledger = self._ledger_of_reports
        if not hidden and stream.poller is not None and ledger is not None:
            pending = ledger.pending(self.source.name, stream.name)
            own = [report for report in pending if self.job.has(stream, account_of(stream, report))]
            self._adoptable.setdefault(stream.name, {report.request: report for report in own})
        if not hidden:
            self._count_planned(stream, slices)
        for planned in slices:
            self._dependencies.begun(planned)
            if not hidden:
                self.delivery.expect(planned)
        self.scheduler.add(self._task(planned, hidden) for planned in slices)

    def _count_planned(self, stream: Stream, slices: Iterable[PlannedSlice]) -> None:
        counts = self.report.stream(self.source.name, stream.name)
        counts.planned += sum(len(planned.partitions) for planned in slices)
        counts.final = self._planner.final.get(stream.name, 0)
        self.delivery.recount(self._planner.done.pop(stream.name, ()))
        self.emit(
            {
                "event": "planned",
                "source": self.source.name,
                "stream": stream.name,
                "partitions": counts.planned,
                "final": counts.final,
            }
        )

    def _drop_stale_reports(self) -> None:
        """After a run that was not ended early: drop reports that are past their deadline and belong to no slice."""
        ledger = self.delivery.target.ledger
        for name, reports in self._adoptable.items():
            deadline_s = poll_times(self.source.settings, self.source.stream(name)).deadline_s
            for report in reports.values():
                if ledger is not None and (self.clock.now() - report.submitted_at).total_seconds() >= deadline_s:
                    with suppress(PenstockError):  # the target is lost; the next run drops the report
                        ledger.drop(report)

    def _task(self, planned: PlannedSlice, hidden: bool) -> Task:
        parent = self._parent_of(planned)
        return Task(
            self._client,
            start=partial(self._read_and_commit, planned, hidden),
            after=(id(self), parent) if parent is not None else None,
            ended=partial(self._ended, planned, hidden),
        )

    def _read_and_commit(self, planned: PlannedSlice, hidden: bool) -> Reading:
        """One task: read a slice, then commit its partitions. A hidden stream is read for others, not written."""
        if refused := self._refused.get(self.source.credentials_of(planned.account)):
            raise refused
        if forbidden := self._forbidden.get(key_of(planned)):
            raise forbidden
        self._client.check_not_parked()
        parent = self._parent_of(planned)
        if parent is not None and not self._dependencies.is_well(parent, planned.slice.days):
            raise ProviderError(f"{planned.stream.name} was not read: its parent {parent[0]} failed or was not read")
        if planned.stream.name not in self._began:
            self._began[planned.stream.name] = time.monotonic()
            self.emit({"event": "stream_started", "source": self.source.name, "stream": planned.stream.name})
        result = yield from self._reader(planned, hidden).read()
        if not hidden:
            self.delivery.commit(result)

    @staticmethod
    def _parent_of(planned: PlannedSlice) -> Key | None:
        parent = planned.stream.parent
        return (parent.stream, planned.account) if parent is not None else None

    def _reader(self, planned: PlannedSlice, hidden: bool) -> Reader:
        source, components = planned.source, self._components_of(planned.stream, planned.source)
        target = None if hidden else self.delivery.target
        loader = Loader(
            planned=planned,
            shape=components.shape,
            zone=source.zone,
            day_of=components.day_of,
            target=target,
            dependencies=self._dependencies,
            hooks=source.registry.batch_hooks(),
            on_unread=self.delivery.unread,
            on_unknown=self.delivery.unknown,
        )
        return Reader(
            source=source,
            planned=planned,
            components=components,
            loader=loader,
            reports=self._reports(planned, components, target),
            clock=self.clock,
            dependencies=self._dependencies,
            sizes=self._page_sizes.setdefault(planned.stream.name, PageSizes()),
            searched=self._searched,
            on_note=self.delivery.note,
        )

    def _components_of(self, stream: Stream, source: ConfiguredSource | None = None) -> Components:
        """The stream's components, made when they are first needed. ``source``: as an account sees it."""
        source = source or self.source
        key = (stream.name, id(source))  # the planner keeps the sources that it made
        if key not in self._components:
            self._components[key] = components_of(source, stream, self._dependencies.columns(stream))
        return self._components[key]

    def _reports(self, planned: PlannedSlice, components: Components, target: Target | None) -> Reports | None:
        if components.poller is None:
            return None
        return Reports(
            source=self.source,
            planned=planned,
            poller=components.poller,
            read=components.read,
            ledger=self._ledger_of_reports if target is not None else None,
            clock=self.clock,
            adoptable=self._adoptable.get(planned.stream.name, {}),
            on_note=self.delivery.note,
            emit=self.emit,
        )

    # --- after a task -------------------------------------------------------------------------------------------------

    def _ended(self, planned: PlannedSlice, hidden: bool, error: BaseException | None) -> None:
        """Handle the end of a task: report its failure, and release the tasks that waited for it."""
        stream = planned.stream
        self.delivery.ended_at = self.clock.now()
        if stream.name in self._began:
            seconds = time.monotonic() - self._began[stream.name]
            self.report.stream(self.source.name, stream.name).seconds = seconds
        if isinstance(error, ForbiddenError):
            self._forbid(planned, error)
        elif isinstance(error, AuthenticationError):
            self._refused[self.source.credentials_of(planned.account)] = error
        if error is not None:
            self.delivery.fail(planned, error, hidden=hidden)
        self._dependencies.ended(planned, well=error is None)
        if self._dependencies.is_over(key_of(planned)):
            self.scheduler.release((id(self), key_of(planned)))
        if dependents := self._dependencies.dependents.pop(stream.name, None):
            self._accounts_listed(planned, dependents, failed=error is not None)
        self._dependencies.drop(planned)

    def _forbid(self, planned: PlannedSlice, error: ForbiddenError) -> None:
        """Fail the account; all with its credentials, where nothing was answered with them so far."""
        self._forbidden[key_of(planned)] = error
        holder = self.source.credentials_of(planned.account)
        forbidden = [key for key in self._forbidden if self.source.credentials_of(key[1]) == holder]
        if len(forbidden) >= FORBIDDEN and not self._client.was_answered(holder):
            self._refused[holder] = error

    def _accounts_listed(self, planned: PlannedSlice, dependents: list[Stream], *, failed: bool) -> None:
        """Store the listed accounts in the ledger, and read the streams that are divided by them."""
        name, ledger = planned.stream.name, self.delivery.target.ledger
        if failed:
            for one in dependents:
                self._add(one, self._planner.accounts(one) or ())
            return
        rows = self._dependencies.rows(key_of(planned))
        column = dependents[0].accounts_from[1] if dependents[0].accounts_from else ""
        accounts = tuple(dict.fromkeys(str(row[column]) for row in rows))
        if ledger is not None and self.job.has(planned.stream, planned.account):
            ledger.remember_accounts(self.source.name, name, accounts)
        for one in dependents:
            self._add(one, accounts if one.zone_from is None else self._with_zones(one, accounts, rows))

    def _with_zones(self, stream: Stream, accounts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """
        The accounts whose listed zone is known or absent, and the ledger's memory of the zones. An account with a zone
        that does not exist fails: days in another zone would be other rows.
        """
        assert stream.accounts_from is not None
        assert stream.zone_from is not None
        lister, column = stream.accounts_from
        zones = {str(row[column]): str(row[stream.zone_from]) for row in rows if row[stream.zone_from]}
        wrong = {account: zone for account, zone in zones.items() if not zone_exists(zone)}
        for account, zone in wrong.items():
            error = ProviderError(
                f"{stream.name}: {lister}.{stream.zone_from} of the account {account} is {zone!r}, which is no IANA "
                f"name of a time zone; its days cannot be cut. Write timezone in [source.{self.source.name}.accounts."
                f"{account}]."
            )
            tables = self.source.settings.account_tables
            if "timezone" not in tables.get(account, {}) and self.job.has(stream, account):
                self.report.count(self.source.name, stream.name, planned=1, failed=1)
                self.report.error(self.source.name, stream.name, {stream.account or "account": account}, error)
                accounts = [one for one in accounts if one != account]
            del zones[account]
        self._planner.zones.update({(lister, account): zone for account, zone in zones.items()})
        ledger = self.delivery.target.ledger
        if ledger is not None and self.job.has(self.source.stream(lister), None):
            texts = [zone_text(account, zone) for account, zone in zones.items()]
            ledger.remember_accounts(self.source.name, zone_memory(stream), texts)
        return list(accounts)
