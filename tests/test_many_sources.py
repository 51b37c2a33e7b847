"""
A run of more sources than targets may be open at once.
"""

import gc
import json
import threading
import weakref
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import penstock_plugins
import pytest
from attrs import define, evolve, field
from penstock import (
    Connector,
    Envelope,
    LedgerEntry,
    LockHeldError,
    LockShare,
    OutputClosedError,
    Parent,
    Request,
    SandboxRequest,
    SandboxResponse,
    SinkError,
    Slice,
    SourceSettings,
    StoppedError,
    Stream,
    hookimpl,
    record,
)
from penstock._config.source import ConfiguredSource
from penstock._plan.division import Division
from penstock._plan.read_job import ReadJob
from penstock._plugins.registry import Registry
from penstock._run import runner
from penstock._run.context import new_run
from penstock._run.divided.coordinator import run_divided
from penstock._run.divided.messages import ShardResult, message_of
from penstock._run_report.report import RunReport
from penstock.engines import Assignment, Coordinator, Trial, Work
from penstock.ledger import SqliteLedger
from penstock.sandbox.server import serve
from penstock.testing.clock import ShiftedClock
from penstock.testing.memory import MemorySink, MemoryTarget
from providers import then

pytestmark = pytest.mark.slow

MOST = 3
SOURCES = [f"shop-{number:02}" for number in range(10)]


@record(key="id")
class Thing:
    """A thing of a shop."""

    id: int


@record(key="id")
class Detail:
    """A detail of a thing."""

    id: int


def _listing(settings: SourceSettings, _: object) -> list[Request]:
    return [Request(url=f"{settings.base_url}/things")]


def _details(settings: SourceSettings, slice_: Slice) -> list[Request]:
    return [Request(url=f"{settings.base_url}/details?thing={parent['id']}") for parent in slice_.parents]


class Shops:
    """A connector with a stream and its child."""

    @hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        yield Connector(name="shops", summary="shops", settings=SourceSettings)

    @hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        envelope = Envelope(items="data", total="total")
        things = Stream(
            name="things", summary="things", record=Thing, kind="snapshot", requests=_listing, envelope=envelope
        )
        details = Stream(
            name="details",
            summary="details",
            record=Detail,
            kind="snapshot",
            requests=_details,
            envelope=envelope,
            parent=Parent(stream="things", columns=("id",)),
        )
        return [things, details] if source == "shops" else []


@define(eq=False)
class CountingSink(MemorySink):
    """
    Counts its open targets. ``fails``: a source whose target cannot be opened; ``fails_later``, and ``held``, which
    another run holds: one whose target cannot be opened again; ``stops_later``: at whose second opening the user stops
    the run; ``closes``: the sources at whose end the output is closed.
    """

    ledger_path: Path | None = None
    opened: list[str] = field(factory=list)
    open_now: int = 0
    most: int = 0
    fails: str = ""
    fails_later: str = ""
    held: str = ""
    stops_later: str = ""
    stop: threading.Event = field(factory=threading.Event)
    closes: Sequence[str] = ()

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> MemoryTarget:
        if source == self.fails or (source == self.fails_later and source in self.opened):
            raise SinkError("the disk is gone")
        if source == self.held and source in self.opened:
            raise LockHeldError("another run has it")
        if source == self.stops_later and source in self.opened:
            self.stop.set()
            raise StoppedError("stopped while the target was waited for")
        self.opened.append(source)
        self.open_now += 1
        self.most = max(self.most, self.open_now)
        ledger = SqliteLedger(self.ledger_path) if self.ledger_path is not None else None
        return ClosedTarget(self, None) if source in self.closes else CountedTarget(self, ledger)


class CountedTarget(MemoryTarget):
    def close(self) -> None:
        assert isinstance(self.sink, CountingSink)
        self.sink.open_now -= 1
        super().close()


class ClosedTarget(CountedTarget):
    """A target that writes groups, to an output that is closed."""

    def commit_group(self, commits: Sequence[tuple[Any, LedgerEntry]]) -> Sequence[LedgerEntry | Exception]:
        return [OutputClosedError("the reader is gone")] * len(commits)


class DivisibleSink(CountingSink):
    """It can be opened by the shards of a run."""

    one_machine = True

    def open(
        self, source: str, run_id: str, streams: Sequence[str] = (), *, lock_share: LockShare | None = None
    ) -> MemoryTarget:
        return super().open(source, run_id, streams)


class EndingEngine:
    """Two workers, that end before they read anything: the first has a report, the second was killed."""

    workers, carries_secrets, is_local = 2, False, True

    def check(self, trial: Trial) -> None: ...

    def run(self, assignments: Sequence[Assignment], work: Work, coordinator: Coordinator) -> None:
        coordinator.done(1, message_of(ShardResult(report=RunReport(run_id="r").as_data())))
        coordinator.lost(2, "it was killed")

    def close(self) -> None: ...


def read(sink: CountingSink, ids: Sequence[int] = (1, 2), **options: Any) -> tuple[RunReport, list[SandboxRequest]]:
    """A run of all sources into the sink; each answer has rows with these ids."""

    def app(request: SandboxRequest) -> SandboxResponse:
        return SandboxResponse(body=json.dumps({"data": [{"id": id_} for id_ in ids], "total": len(ids)}).encode())

    with serve(app) as server:
        settings = SourceSettings(base_url=server.base_url, retries=0)
        source = ConfiguredSource.of(Registry([Shops(), penstock_plugins]), "shops", settings)
        jobs = [ReadJob(source=evolve(source, name=name), streams=("things", "details"), sink=sink) for name in SOURCES]
        return runner.run_jobs(new_run(jobs, clock=ShiftedClock(then().now(), sink.stop), **options)), server.requests


@pytest.fixture(autouse=True)
def few_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "OPEN_TARGETS", MOST)


def test_a_bounded_number_of_targets_is_open_at_once() -> None:
    """
    Every source is read with its children, and no more targets than allowed are open. One more is while they are tried.
    """
    sink = CountingSink()

    report, requests = read(sink)

    assert report.exit_code == 0, report.errors
    assert {source for source, _ in report.streams} == set(SOURCES)
    assert all(counts.delivered == 1 for counts in report.streams.values())
    assert len(requests) == 3 * len(SOURCES)
    assert sink.most == MOST + 1
    assert sink.open_now == 0


def test_a_source_that_was_read_is_not_kept_in_memory() -> None:
    """
    Memory grows with the sources that are open at once, not with all of the run.
    """
    targets: list[weakref.ref[MemoryTarget]] = []
    in_memory: list[int] = []

    class WatchedSink(CountingSink):
        def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> MemoryTarget:
            gc.collect()
            in_memory.append(sum(target() is not None for target in targets))
            target = super().open(source, run_id, streams)
            targets.append(weakref.ref(target))
            return target

    report, _ = read(WatchedSink())

    assert report.exit_code == 0, report.errors
    assert max(in_memory) <= MOST + 1


@pytest.mark.parametrize("fails_later", ["", SOURCES[5]], ids=["all can be opened again", "one cannot"])
def test_a_coordinator_has_a_bounded_number_of_targets_open(tmp_path: Path, fails_later: str) -> None:
    """
    A divided run is in the ledger of every source, and the sources of a lost worker are named, though their targets
    were closed meanwhile. A target that cannot be opened again is named, too.
    """
    sink = DivisibleSink(ledger_path=tmp_path / "ledger.sqlite", fails_later=fails_later)
    settings = SourceSettings(base_url="http://127.0.0.1:1")
    source = ConfiguredSource.of(Registry([Shops(), penstock_plugins]), "shops", settings)
    jobs = [ReadJob(source=evolve(source, name=name), streams=("things",), sink=sink) for name in SOURCES]
    parts = {name: (1 + number % 2,) for number, name in enumerate(SOURCES)}

    report = run_divided(
        new_run(jobs, clock=ShiftedClock(then().now())),
        Division(shard_count=2, shards_by_source=parts),
        EndingEngine(),
        lambda: jobs,
        {},
    )

    assert sink.most == MOST + 1
    assert sink.open_now == 0
    assert [error["source"] for error in report.errors] == SOURCES[1::2]
    with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as ledger:
        exit_codes = [run.exit_code for name in SOURCES for run in ledger.runs(name)]
    assert exit_codes == ([0, 1] * 5 if not fails_later else [0, 1, 0, 1, 0, 0, 1, 0, 1])
    assert [text.partition(":")[0] for text in report.notices] == ([fails_later] if fails_later else [])


def test_a_source_that_waited_is_read_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A source without things ends without a request for details, at once. The next one reads its things before details.
    """
    monkeypatch.setattr(runner, "OPEN_TARGETS", 1)

    report, requests = read(CountingSink(), ids=())

    assert report.exit_code == 0, report.errors
    assert all(counts.delivered == 1 for counts in report.streams.values())
    assert len(requests) == len(SOURCES)


def test_the_target_of_a_source_that_waits_is_tried_before_any_request() -> None:
    """
    A target that cannot be used fails its source at the start, also where it would be needed last.
    """
    sink = CountingSink(fails=SOURCES[-1])

    report, _ = read(sink)

    assert report.exit_code == 1
    assert [(error["source"], error["reason"]) for error in report.errors] == [(SOURCES[-1], "the disk is gone")]
    assert {source for source, _ in report.streams} == {*SOURCES[:-1]}
    assert sink.open_now == 0


def test_a_source_that_another_run_took_while_it_waited_is_left_out() -> None:
    """
    Another run may hold a source that waited: the others are read, and the exit code is that of a lock.
    """
    sink = CountingSink(held=SOURCES[5])

    report, _ = read(sink)

    assert report.exit_code == 6
    assert list(report.locked) == [SOURCES[5]]
    assert {source for source, _ in report.streams} == {*SOURCES} - {SOURCES[5]}


def test_a_target_that_cannot_be_opened_again_fails_its_source_only() -> None:
    """
    A target that cannot be opened again is an error of its source, and the others are read.
    """
    sink = CountingSink(fails_later=SOURCES[5])

    report, _ = read(sink)

    assert report.exit_code == 1
    (error,) = report.errors
    assert error["source"] == SOURCES[5]
    assert "the disk is gone" in error["message"]
    assert {source for source, _ in report.streams} == {*SOURCES} - {SOURCES[5]}
    assert sink.open_now == 0


def test_a_run_that_ends_early_names_the_sources_not_read() -> None:
    """
    After the deadline no further target is opened.
    """
    sink = CountingSink()

    report, requests = read(sink, deadline_s=0.0)

    assert report.exit_code == 4
    assert requests == []
    assert len(sink.opened) == len(SOURCES)
    assert f"the run ended before it came to {', '.join(SOURCES[MOST:])}" in report.notices


def test_a_stop_while_a_target_is_opened_names_its_source() -> None:
    """
    The notice names the source at whose target the user stopped the run, too.
    """
    sink = CountingSink(stops_later=SOURCES[5])

    report, _ = read(sink)

    assert report.exit_code == 130
    assert f"the run ended before it came to {', '.join(SOURCES[5:])}" in report.notices
    assert sink.open_now == 0


def test_an_output_closed_at_the_end_is_no_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The target that noticed it is closed already when the run ends.
    """
    monkeypatch.setattr(runner, "OPEN_TARGETS", 1)
    sink = CountingSink(closes=SOURCES[:1])

    report, _ = read(sink)

    assert (report.exit_code, report.output_closed, report.interrupted) == (0, True, False)
    assert sink.open_now == 0
