"""
The runner: joins finished parts into one chain per source, runs them, and commits what is complete.
"""

import secrets
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from types import FunctionType
from typing import Any, Literal

from attrs import define, evolve, field

from penstock.checkpoint import checkpoint
from penstock.clock import Clock
from penstock.declare import Stream
from penstock.decode import Compiled, compile_stream
from penstock.engine import Engine, Reading, Task
from penstock.errors import (
    AuthenticationError,
    DeadlineReachedError,
    OutputClosedError,
    PenstockError,
    PluginError,
    ProviderError,
    StoppedError,
)
from penstock.lane import Emit, SourceLane
from penstock.model import Batch, Partition
from penstock.parts import Named, SinglePage
from penstock.plan import (
    ConfiguredSource,
    Fetch,
    Job,
    Planner,
    days_per_request,
    fingerprint,
    open_until,
    ordered,
)
from penstock.reading import Reader, StreamParts, poll_deadline_s
from penstock.redact import mask
from penstock.registry import Registry
from penstock.report import RunReport
from penstock.retry import Budget
from penstock.sink import Entry, RunRecord, Target


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
    on_event = told_to(on_event, [job.source.registry for job in jobs])
    started = time.monotonic()
    report = RunReport(run_id=run_id(clock.now()), strict=strict)
    deadline = None if deadline_s is None else clock.monotonic() + deadline_s
    engine = Engine(clock, deadline)
    budget = Budget(clock, deadline)
    running: list[SourceRun] = []
    lanes: dict[str, SourceLane] = {}  # two jobs of one source share its pace
    try:
        for job in jobs:
            one = SourceRun(job, clock=clock, engine=engine, lanes=lanes, budget=budget, report=report, emit=on_event)
            running.append(one)
            one.open()
        on_event({"event": "run_started", "run_id": report.run_id, "sources": [job.source.name for job in jobs]})
        for one in running:
            one.begin()
        over = engine.run()
        report.deadline = report.deadline or isinstance(over, DeadlineReachedError)
        report.output_closed = any(one.output_closed for one in running)
        report.interrupted = isinstance(over, StoppedError) and not report.output_closed
        for one in running:
            one.finish()
    finally:
        report.seconds = time.monotonic() - started
        for lane in lanes.values():
            lane.close()
        for one in running:
            one.close()
    on_event({"event": "run_finished", **report.as_dict()})
    return report


def told_to(on_event: Emit, registries: Sequence[Registry]) -> Emit:
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


Key = tuple[str, str | None]  # stream, account


@define(eq=False)
class SourceRun:
    """
    One job of a run: its target, its streams in the order in which they depend on each other, and its commits.
    """

    job: Job
    clock: Clock
    engine: Engine
    lanes: dict[str, SourceLane]
    budget: Budget
    report: RunReport
    emit: Emit
    output_closed: bool = field(default=False, init=False)
    _target: Target | None = field(default=None, init=False)
    _lane: SourceLane | None = field(default=None, init=False)
    _planner: Planner = field(init=False)
    _shapes: dict[str, Compiled] = field(factory=dict, init=False)
    _parts: dict[str, StreamParts] = field(factory=dict, init=False)
    _refused: AuthenticationError | None = field(default=None, init=False)
    _rows: dict[Key, dict[Partition, list[Mapping[str, Any]]]] = field(factory=dict, init=False)  # of parents, by fetch
    _wanted_columns: dict[str, set[str]] = field(factory=dict, init=False)  # parent stream -> columns
    _over: dict[Key, bool] = field(factory=dict, init=False)  # all its fetches ended: all well or not
    _under_way: dict[Key, int] = field(factory=dict, init=False)  # its fetches that did not end yet
    _unwell: set[Key] = field(factory=set, init=False)  # a fetch of it failed
    _order: dict[Key, list[Fetch]] = field(factory=dict, init=False)  # changes: days yet to be committed, in order
    _complete: dict[Fetch, Reader] = field(factory=dict, init=False)  # read, waiting for an earlier day
    _dependents: dict[str, list[Stream]] = field(factory=dict, init=False)  # listing stream -> divided by its accounts
    _chosen: set[str] = field(factory=set, init=False)
    _delivered: set[str] = field(factory=set, init=False)
    _began: dict[str, float] = field(factory=dict, init=False)  # stream -> when its first reading started
    _started_at: datetime = field(init=False)

    @property
    def source(self) -> ConfiguredSource:
        return self.job.source

    def open(self) -> None:
        """Take the target; plan what can be planned, so that a window nobody serves is an error before any request."""
        self._started_at = self.clock.now()
        streams = [stream for stream in ordered(self.source, self.job.streams) if stream.derived is None]
        names = [name for one in streams for name in (one.name, *(d.name for d in self.source.derived_from(one.name)))]
        self._target = self.job.sink.open(self.source.name, self.report.run_id, names)
        self._planner = Planner(self.job, self._started_at, self._target)
        for stream in ordered(self.source, self.job.streams):
            if stream.kind != "snapshot" and stream.derived is None:
                self._planner.window(stream)

    def begin(self) -> None:
        """Give the engine everything that can be read now; the rest follows what it waits for."""
        name = self.source.name
        if name not in self.lanes:
            self.lanes[name] = SourceLane(
                self.source, clock=self.clock, budget=self.budget, report=self.report, emit=self.emit
            )
        self._lane = self.lanes[name]
        chosen = [stream for stream in ordered(self.source, self.job.streams) if stream.derived is None]
        self._chosen = {stream.name for stream in chosen}
        now: list[Stream] = []
        for stream in [*self._hidden(chosen), *chosen]:
            if stream.accounts_from is not None and self._listed(stream):
                self._dependents.setdefault(stream.accounts_from[0], []).append(stream)
            else:
                now.append(stream)
        for stream in now:
            self._add(stream, self._planner.accounts(stream) or ())

    def finish(self) -> None:
        """After the last reading: let the target complete its streams, and remember the run."""
        assert self._target is not None
        for name in sorted(self._delivered):
            counts = self.report.stream(self.source.name, name)
            if getattr(self._target, "whole", False) and counts.delivered < counts.planned:
                self.report.notices.append(
                    f"{self.source.name}.{name}: only {counts.delivered} of {counts.planned} partitions were read, and "
                    f"a target that remembers nothing is written whole or not at all: it was left as it was"
                )
                continue
            try:
                self._target.finish(name)
            except PenstockError as error:
                self._failed_stream(name, error)
        self.report.notices.extend(dict.fromkeys(self._planner.notices))
        if self._target.ledger is not None:
            try:
                self._target.ledger.record_run(
                    RunRecord(
                        run_id=self.report.run_id,
                        source=self.source.name,
                        started_at=self._started_at,
                        finished_at=self.clock.now(),
                        exit_code=self.report.exit_code,
                        report=self.report.as_dict()["sources"].get(self.source.name, {}),
                    )
                )
            except PenstockError as error:
                self.report.notices.append(f"{self.source.name}: this run is not in the ledger: {error}")

    def close(self) -> None:
        if self._target is not None:
            self._target.close()

    # --- what is read, and after what -------------------------------------------------------------------------------

    def _listed(self, stream: Stream) -> bool:
        """Whether the stream's accounts come from the provider, not from the configuration."""
        return stream.accounts is None or stream.accounts(self.source.settings) is None

    def _hidden(self, chosen: Sequence[Stream]) -> list[Stream]:
        """Streams that are read for others only: parents, and those that list accounts; parents first."""
        needed: dict[str, Stream] = {}

        def need(stream: Stream) -> None:
            if stream.accounts_from is not None and self._listed(stream):
                visit(self.source.stream(stream.accounts_from[0]))
            if stream.parent is not None:
                columns = self._wanted_columns.setdefault(stream.parent.stream, set())
                columns.update(stream.parent.columns)
                visit(self.source.stream(stream.parent.stream))

        def visit(stream: Stream) -> None:
            need(stream)
            needed[stream.name] = stream

        for stream in chosen:
            need(stream)
        names = {stream.name for stream in chosen}
        return [stream for stream in needed.values() if stream.name not in names]

    def _add(self, stream: Stream, accounts: Iterable[str | None]) -> None:
        """Plan a stream's fetches and give them to the engine."""
        hidden = stream.name not in self._chosen
        self._drop_stale_reports(stream)
        fetches = self._planner.fetches(stream, accounts)
        if not hidden:
            counts = self.report.stream(self.source.name, stream.name)
            counts.planned += sum(len(fetch.partitions) for fetch in fetches)
            counts.skipped = self._planner.final.get(stream.name, 0)
            self.emit(
                {
                    "event": "planned",
                    "source": self.source.name,
                    "stream": stream.name,
                    "partitions": counts.planned,
                    "final": counts.skipped,
                }
            )
        for fetch in fetches:
            key = (stream.name, fetch.account)
            self._under_way[key] = self._under_way.get(key, 0) + 1
            if stream.kind == "changes":
                self._order.setdefault((stream.name, fetch.account), []).append(fetch)
        self.engine.add(self._task(fetch, hidden) for fetch in fetches)

    def _drop_stale_reports(self, stream: Stream) -> None:
        """Reports under way that are too old to be adopted, and whose days may not be wanted again."""
        ledger = self._target.ledger if self._target is not None else None
        if ledger is None or stream.poller is None:
            return
        oldest = self.clock.now() - timedelta(seconds=poll_deadline_s(self.source.settings, stream))
        for report in ledger.pending(self.source.name, stream.name):
            if report.submitted_at <= oldest:
                ledger.drop(report)

    def _task(self, fetch: Fetch, hidden: bool) -> Task:
        assert self._lane is not None
        stream, key = fetch.stream, (fetch.stream.name, fetch.account)
        parent: Key | None = (stream.parent.stream, fetch.account) if stream.parent is not None else None
        reader = self._reader(fetch, hidden, parent)

        def start() -> Reading:
            if self._refused is not None:
                raise self._refused
            if parent is not None and not self._over.get(parent, False):
                raise ProviderError(f"{stream.name} was not read: its parent {parent[0]} failed or was not read")
            self._began.setdefault(stream.name, time.monotonic())
            yield from reader.steps()

        return Task(
            self._lane,
            start,
            ready=lambda: parent is None or parent in self._over,
            ended=partial(self._ended, fetch, reader, hidden, key),
        )

    def _reader(self, fetch: Fetch, hidden: bool, parent: Key | None) -> Reader:
        stream, key = fetch.stream, (fetch.stream.name, fetch.account)
        wanted = sorted(self._wanted_columns.get(stream.name, ()))
        listing = self._account_column(stream)
        if listing is not None and listing not in wanted:
            wanted.append(listing)
        see: Callable[[Batch], None] | None = None
        if wanted:
            columns = tuple(wanted)

            def see(batch: Batch) -> None:
                rows = self._rows.setdefault(key, {}).setdefault(fetch.partitions[0], [])
                rows.extend({column: plain(getattr(row, column)) for column in columns} for row in batch)

        return Reader(
            source=self.source,
            fetch=fetch,
            parts=self._parts_of(stream),
            shape=self._shape_of(stream),
            target=None if hidden else self._target,
            clock=self.clock,
            fingerprint=fingerprint(self.source.settings, stream),
            parents=lambda: self._rows_of(parent) if parent is not None else (),
            hooks=self.source.registry.batch_hooks(),
            see=see,
            forget_seen=lambda: self._rows.get(key, {}).pop(fetch.partitions[0], None),
            on_unknown=self._unknown,
            on_note=self._note,
        )

    def _rows_of(self, key: Key) -> list[Mapping[str, Any]]:
        """What was seen of a stream's account, its days in order."""
        return [row for _, rows in sorted(self._rows.get(key, {}).items()) for row in rows]

    def _account_column(self, stream: Stream) -> str | None:
        """The column that holds the accounts of others, where this stream lists them in this run."""
        dependents = self._dependents.get(stream.name)
        return dependents[0].accounts_from[1] if dependents and dependents[0].accounts_from else None

    # --- what becomes of it -----------------------------------------------------------------------------------------

    def _ended(self, fetch: Fetch, reader: Reader, hidden: bool, key: Key, error: BaseException | None) -> None:
        if fetch.stream.name in self._began:
            seconds = time.monotonic() - self._began[fetch.stream.name]
            self.report.stream(self.source.name, fetch.stream.name).seconds = seconds
        if isinstance(error, AuthenticationError):
            self._refused = error
            self.report.refused = True
        if error is not None:
            self._failed(fetch, hidden, error)
        elif not hidden:
            self._complete[fetch] = reader
        self._commit_ready(fetch, failed=error is not None)
        self._under_way[key] -= 1
        if error is not None:
            self._unwell.add(key)
        if not self._under_way[key]:
            self._over[key] = key not in self._unwell
        dependents = self._dependents.pop(fetch.stream.name, None)
        if dependents:
            self._accounts_listed(fetch.stream, key, dependents, failed=error is not None)
        if fetch.stream.name not in self._wanted_columns:
            self._rows.pop(key, None)

    def _accounts_listed(self, stream: Stream, key: Key, dependents: list[Stream], *, failed: bool) -> None:
        """The accounts are known: remember them, and read what is divided by them."""
        ledger = self._target.ledger if self._target is not None else None
        if not failed:
            column = dependents[0].accounts_from[1] if dependents[0].accounts_from else ""
            accounts = tuple(dict.fromkeys(str(row[column]) for row in self._rows_of(key)))
            if ledger is not None:
                ledger.remember_accounts(self.source.name, stream.name, accounts)
        else:
            accounts = ledger.accounts(self.source.name, stream.name) if ledger is not None else ()
        for one in dependents:
            self._add(one, accounts)

    def _commit_ready(self, fetch: Fetch, *, failed: bool) -> None:
        """
        Commit what is complete. The days of a ``changes`` stream are committed in order, since a row read with an
        older day must not overwrite the same row read with a newer one.
        """
        if fetch.stream.kind != "changes":
            if reader := self._complete.pop(fetch, None):
                self._commit(fetch, reader)
            return
        queue = self._order.get((fetch.stream.name, fetch.account), [])
        if failed and fetch in queue:
            queue.remove(fetch)
        while queue and queue[0] in self._complete:
            first = queue.pop(0)
            self._commit(first, self._complete.pop(first))

    def _commit(self, fetch: Fetch, reader: Reader) -> None:
        stream, settings = fetch.stream, self.source.settings
        counts = self.report.stream(self.source.name, stream.name)
        delivered = 0
        for partition in fetch.partitions:
            tally, former = reader.tallies[partition], fetch.entries.get(partition)
            entry = Entry(
                source=self.source.name,
                partition=partition,
                state="delivered",
                run_id=self.report.run_id,
                read_at=reader.read_at or self._started_at,
                open_until=open_until(stream, settings, partition, self.source.zone),
                fingerprint=reader.fingerprint,
                rows=tally.rows,
                promised=tally.promised,
                rejected=len(tally.rejected),
                repeated=tally.repeated,
                truncated=reader.truncated,
                sums=tally.sums,
                derived_rows=tally.derived_rows,
                version=former.version if former is not None else 0,
                rejected_records=(*tally.rejected, *tally.derived_rejected),
            )
            try:
                entry = reader.writers.pop(partition).commit(entry)
            except Exception as error:  # the next partitions may still be delivered
                self._failed(fetch, False, error, only=partition)
                continue
            checkpoint("partition.delivered")
            delivered += 1
            self._delivered.add(stream.name)
            counts.delivered += 1
            counts.records += entry.rows
            counts.rejected += entry.rejected
            counts.repeated += entry.repeated
            counts.truncated += reader.truncated
            if tally.promised is not None:
                counts.promised = (counts.promised or 0) + tally.promised
            for name, rows in entry.derived_rows.items():
                derived = self.report.stream(self.source.name, name)
                derived.records += rows
                derived.planned += 1
                derived.delivered += 1
            change = restatement(partition, former, entry)
            if change is not None:
                counts.restated.append(change)
            self.emit(
                {
                    "event": "partition_delivered",
                    "source": self.source.name,
                    "stream": stream.name,
                    "partition": partition.as_dict(),
                    "records": entry.rows,
                    "rejected": entry.rejected,
                    **({"restated": change} if change else {}),
                }
            )
        if not delivered:
            return  # the next run adopts the report
        if self._target is not None and self._target.ledger is not None:
            for report in reader.reports:
                self._target.ledger.drop(report)

    def _failed(self, fetch: Fetch, hidden: bool, error: BaseException, *, only: Partition | None = None) -> None:
        """Report a failure and put it into the ledger, unless the run itself was ended."""
        if isinstance(error, OutputClosedError):
            self.output_closed = True
            self.clock.stop.set()
            return
        if isinstance(error, (StoppedError, GeneratorExit)):
            return
        if isinstance(error, DeadlineReachedError):
            self.report.deadline = True
            return
        if not isinstance(error, PenstockError):
            error = self._defect(error)
        partitions = (only,) if only is not None else fetch.partitions
        if not hidden:
            self.report.count(self.source.name, fetch.stream.name, failed=len(partitions))
        for partition in partitions:
            if not hidden and self._target is not None and self._target.ledger is not None:
                try:
                    self._target.ledger.fail(self.source.name, partition, str(error), self.report.run_id)
                except PenstockError as lost:  # a target that is gone can note nothing; the report does
                    self._note(f"{partition}: the failure is not in the ledger: {lost}")
            self.report.error(self.source.name, fetch.stream.name, partition.as_dict(), error)
            self.emit(
                {
                    "event": "partition_failed",
                    "source": self.source.name,
                    "stream": fetch.stream.name,
                    "partition": partition.as_dict(),
                    "error": type(error).__name__,
                    "message": str(error),
                }
            )

    def _defect(self, error: BaseException) -> PenstockError:
        """An error that nobody foresaw: the connector's or ours. The partition fails; its trace goes to the log."""
        if not isinstance(error, Exception):
            raise error
        trace = mask("".join(traceback.format_exception(error)))
        self.emit({"event": "defect", "source": self.source.name, "message": str(error), "trace": trace})
        return PluginError(
            f"{type(error).__name__}: {error}. This is a defect of the connector {self.source.connector.name} or of "
            f"penstock, not of your configuration; --debug shows where."
        )

    def _failed_stream(self, name: str, error: PenstockError) -> None:
        self.report.error(self.source.name, name, None, error)
        self.report.count(self.source.name, name, failed=1)

    def _unknown(self, stream: str, names: tuple[str, ...]) -> None:
        known = self.report.stream(self.source.name, stream).unknown_members
        fresh = set(names) - known
        if fresh:
            known.update(fresh)
            self._note(f"{stream}: the provider sends members that are not declared: {', '.join(sorted(fresh))}")

    def _note(self, text: str) -> None:
        self.emit({"event": "note", "source": self.source.name, "message": mask(text)})

    # --- parts ------------------------------------------------------------------------------------------------------

    def _parts_of(self, stream: Stream) -> StreamParts:
        if stream.name not in self._parts:
            self._parts[stream.name] = stream_parts(self.source, stream)
        return self._parts[stream.name]

    def _shape_of(self, stream: Stream) -> Compiled:
        if stream.name not in self._shapes:
            source, settings = self.source, self.source.settings
            needed = set(self._wanted_columns.get(stream.name, ()))
            if listing := self._account_column(stream):
                needed.add(listing)
            self._shapes[stream.name] = compile_stream(
                source.name,
                evolve(
                    stream,
                    day_of=self._parts_of(stream).day_of,
                    days_per_request=days_per_request(stream, settings),
                ),
                columns=stream.more_columns(settings) if stream.more_columns is not None else (),
                derived=source.derived_from(stream.name),
                exclude=settings.exclude,
                include_personal=settings.include_personal,
                needed=needed,
                nested="plain" if source.registry.batch_hooks() else "raw",
                zone=source.zone,
            )
        return self._shapes[stream.name]


def stream_parts(source: ConfiguredSource, stream: Stream) -> StreamParts:
    """A stream's parts, looked up and made for this source's settings."""
    from penstock.envelope import Envelope

    def part(kind: Literal["paginator", "poller", "decoder"], said: Any, default: Any) -> Any:
        # A body decoder is callable too, so it is a plain function that marks a factory taking the settings.
        if isinstance(said, FunctionType):
            said = said(source.settings)
        if isinstance(said, Named):
            return source.registry.part(kind, said)
        return default if said is None else said

    read = part("decoder", stream.envelope, Envelope())
    day_of = stream.day_of(source.settings) if callable(stream.day_of) else stream.day_of
    return StreamParts(
        paginator=part("paginator", stream.paginator, SinglePage()),
        poller=part("poller", stream.poller, None),
        read=read,
        downloads=part("decoder", stream.downloads, read),
        day_of=day_of,
    )


def restatement(partition: Partition, former: Entry | None, entry: Entry) -> dict[str, Any] | None:
    """
    What a new reading changed in a partition that was delivered before: rows and sums, before and after, and, where
    the target can tell, how many rows came, went and changed.
    """
    if former is None or not former.delivered or partition.values == ():
        return None
    sums = {
        column: [str(former.sums[column]), str(total)]
        for column, total in entry.sums.items()
        if column in former.sums and former.sums[column] != total
    }
    changes = entry.changes or {}
    if former.rows == entry.rows and not sums and not any(changes.values()):
        return None
    return {"partition": partition.as_dict(), "rows": [former.rows, entry.rows], "sums": sums, **changes}


def plain(value: Any) -> Any:
    """A column's value as plain data: a raw nested part is decoded."""
    import msgspec

    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
