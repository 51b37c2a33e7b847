"""
What a run promises as a whole: it ends on a signal, keeps what is complete, and keeps to limits and to one writer.
"""

import json
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import penstock_plugins
import pytest
from attrs import define, field, frozen
from command_in_subprocess import command, configure
from connector_run import RunReport, configured, plan, read, read_into
from penstock import (
    Connector,
    Envelope,
    Limits,
    Parent,
    Partition,
    Request,
    SandboxRequest,
    SandboxResponse,
    SinkError,
    Slice,
    SourceSettings,
    Stream,
    hookimpl,
    named,
    record,
)
from penstock.ledger import SqliteLedger
from penstock.sandbox.server import serve
from penstock.testing.memory import MemorySink, MemoryTarget
from providers import CONVERTR, TALROO, TODAY, bag, then
from waits import eventually

pytestmark = pytest.mark.slow

# --- ends: signals, deadline, lock ----------------------------------------------------------------------------------


@define(eq=False)
class Stalling:
    """An imitation that leaves some requests without an answer, until it is released."""

    app: Any
    stalls: Callable[[SandboxRequest], bool]
    going_on: threading.Event = field(factory=threading.Event)
    stalled: threading.Event = field(factory=threading.Event)
    requested: list[SandboxRequest] = field(factory=list)

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        self.requested.append(request)
        if self.stalls(request) and not self.going_on.is_set():
            self.stalled.set()
            self.going_on.wait(60)
        answer: SandboxResponse = self.app(request)
        return answer


@define(eq=False)
class Bench:
    app: Stalling
    folder: Path
    words: tuple[str, ...]

    def start(self, *more: str) -> Any:
        return command(self.folder, *self.words, *more)

    def delivered(self) -> set[str]:
        out = self.folder / "out"
        return {str(path.relative_to(out)) for path in out.rglob("data.jsonl")}


@pytest.fixture
def talroo(tmp_path: Path) -> Iterator[Bench]:
    """Talroo, of which one advertiser's reports never come."""
    today = TODAY
    with serve() as server:
        inner = TALROO.make(server.base_url, today)
        inner.empty_days = False  # the tests count files, on whatever day they run
        stalling = Stalling(inner, lambda request: "advertiser_id=2113" in request.query)
        server.app = stalling
        configure(tmp_path, TALROO, server.base_url, timeout_s=60.0)
        window = ("--since", str(today - timedelta(days=3)), "--until", str(today - timedelta(days=1)))
        yield Bench(stalling, tmp_path, ("run", "talroo", "--to", "jsonl:out", "--report", "report.json", *window))
        stalling.going_on.set()


def days_merged_later(out: Path) -> int:
    """The days of changes streams that the ledger has as staged."""
    with closing(sqlite3.connect(f"file:{out}/.penstock/ledger.sqlite?mode=ro", uri=True)) as ledger:
        (found,) = ledger.execute("select count(*) from partitions where state = 'staged'").fetchone()
    return int(found)


# A run that waits for its sockets takes timeout_s, 60 seconds. On a loaded machine the promised ten may not suffice.
BEFORE_TIMEOUT_S = 45


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_signal_ends_a_run_that_hangs(talroo: Bench, number: signal.Signals) -> None:
    """
    While sockets stall, a signal ends the run within 10 s with 130; what was complete is delivered and stays, and the
    next run reads the rest.
    """
    process = talroo.start()
    eventually(lambda: len(talroo.delivered()) == 3)
    process.send_signal(number)
    _, output = process.communicate(timeout=BEFORE_TIMEOUT_S)

    assert process.returncode == 130, output
    assert b"Traceback" not in output
    report = json.loads((talroo.folder / "report.json").read_text())
    assert (report["exit_code"], report["status"]) == (130, "interrupted")
    assert all("advertiser_id=2112" in path for path in talroo.delivered())

    before = len(talroo.app.requested)
    talroo.app.going_on.set()
    process = talroo.start()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert len(talroo.delivered()) == 6
    assert len(talroo.app.requested) > before


def test_signal_keeps_the_days_of_changes_that_are_complete(tmp_path: Path) -> None:
    """
    The days of a changes stream before the one that stalls are merged into the file when the run is ended.
    """
    today = TODAY
    days = CONVERTR.window(today)
    with serve() as server:
        inner = CONVERTR.make(server.base_url, today)
        stalling = Stalling(inner, lambda request: f"strictly_before%5D={today}" in request.query)
        server.app = stalling
        configure(tmp_path, CONVERTR, server.base_url, timeout_s=60.0)
        words = ("run", "convertr", "--to", "jsonl:out", "--streams", "leads", "--report", "report.json")
        process = command(tmp_path, *words, "--since", str(days[0]), "--until", str(days[-1]), "-v")
        assert stalling.stalled.wait(20)
        eventually(lambda: days_merged_later(tmp_path / "out") == len(days) - 1)
        process.terminate()
        _, output = process.communicate(timeout=15)
        stalling.going_on.set()
        truth = CONVERTR.expected(inner, days[:-1])

    assert process.returncode == 130, output
    lines = (tmp_path / "out" / "convertr" / "leads" / "data.jsonl").read_text().splitlines()
    rows = {json.dumps(row, default=str): row for key, found in truth.items() if key[0] == "leads" for row in found}
    assert len(lines) == len(rows) > 50


def test_deadline_leaves_the_rest_for_the_next_run(talroo: Bench) -> None:
    """
    At the deadline a run ends with 4, though sockets stall; what it had is kept, and the next run goes on.
    """
    process = talroo.start("--deadline", "2s")
    _, output = process.communicate(timeout=BEFORE_TIMEOUT_S)

    assert process.returncode == 4, output
    assert f"{len(talroo.app.requested)} requests".encode() in output  # those that hang are counted, too
    assert len(talroo.delivered()) == 3
    talroo.app.going_on.set()
    process = talroo.start()
    _, output = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert len(talroo.delivered()) == 6


def test_one_run_writes_a_source_at_a_time(talroo: Bench) -> None:
    """
    A second run of the source into the same target ends with 6 and makes no request; once the first one is killed,
    the next starts at once.
    """
    first = talroo.start()
    assert talroo.app.stalled.wait(20)
    eventually(lambda: len(talroo.delivered()) == 3 and len(talroo.app.requested) == 6)
    requested = len(talroo.app.requested)

    second = talroo.start()
    _, output = second.communicate(timeout=20)

    assert second.returncode == 6, output
    assert b"another run" in output
    assert len(talroo.app.requested) == requested
    first.kill()
    first.communicate(timeout=20)
    talroo.app.going_on.set()
    third = talroo.start()
    _, output = third.communicate(timeout=20)
    assert third.returncode == 0, output
    assert len(talroo.delivered()) == 6


# --- limits -----------------------------------------------------------------------------------------------------------


@define(eq=False)
class Counting:
    """An imitation that notes when requests come, and how many are under way at once."""

    app: Any
    came: list[float] = field(factory=list)
    most: int = 0
    _now: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        with self._lock:
            self.came.append(time.monotonic())
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.03)
        try:
            answer: SandboxResponse = self.app(request)
            return answer
        finally:
            with self._lock:
                self._now -= 1


def test_two_jobs_of_a_source_share_its_limits(tmp_path: Path) -> None:
    """
    Two targets filled from one source in one run: together no more requests per second, and at once, than allowed.
    """
    with serve() as server:
        counting = Counting(TALROO.make(server.base_url, date(2026, 3, 20)))
        server.app = counting
        source = TALROO.source(server.base_url, requests_per_second=20.0, concurrency=2)
        days = TALROO.window()
        sinks = [MemorySink(tmp_path / name / "ledger.sqlite") for name in ("one", "two")]
        report = read_into(source, sinks, "clicks", clock=then(), since=days[0], until=days[-1])

    assert report.exit_code == 0, report.errors
    assert len(counting.came) == 12
    assert counting.most <= 2
    within_half_a_second = [sum(start <= moment < start + 0.5 for moment in counting.came) for start in counting.came]
    assert max(within_half_a_second) <= 11
    assert counting.came[-1] - counting.came[0] >= 11 / 20 * 0.9


# --- a connector of the test's own -----------------------------------------------------------------------------------


@record()
class Thing:
    """A thing."""

    id: int
    name: str | None = None


@record()
class Part:
    """A part of a thing."""

    id: int


@frozen(kw_only=True)
class ShopSettings(SourceSettings):
    base_url: str


def things(settings: Any, slice_: Slice) -> Iterable[Request]:
    yield Request(url=f"{settings.base_url}/things/{slice_.account}")


def parts(settings: Any, slice_: Slice) -> Iterable[Request]:
    yield Request(url=f"{settings.base_url}/parts/{slice_.account}/{slice_.parent['id']}")


LISTED = Envelope(items="data", total="total")

STREAMS = (
    Stream(
        name="things",
        summary="things",
        record=Thing,
        kind="snapshot",
        key="id",
        account="shop",
        accounts=lambda settings: ("a", "b", "c"),
        requests=things,
        envelope=LISTED,
        paginator=named("page_number", size=2, ceiling=6),
    ),
    Stream(
        name="parts",
        summary="parts of things",
        record=Part,
        kind="snapshot",
        key="id",
        account="shop",
        accounts=lambda settings: ("a", "b", "c"),
        requests=parts,
        envelope=Envelope(items="data"),
        parent=Parent(stream="things", columns=("id",)),
    ),
)


class Shop:
    """The plugin."""

    @hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        return [Connector(name="shop", summary="a shop", settings=ShopSettings, limits=Limits(concurrency=3))]

    @hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        return STREAMS if source == "shop" else ()


Answers = Mapping[str, Any]


def shopping(
    folder: Path,
    answers: Answers,
    streams: tuple[str, ...] = ("things",),
    *,
    strict: bool = False,
    sink: MemorySink | None = None,
    listener: object | None = None,
) -> tuple[RunReport, MemorySink, list[str]]:
    """A run against answers by path and query; every other path is an empty listing."""
    plugins = [Shop(), penstock_plugins, *([] if listener is None else [listener])]
    sink = sink or MemorySink(folder / "ledger.sqlite")

    def app(request: SandboxRequest) -> SandboxResponse:
        output = answers.get(request.target, answers.get(request.path, {"data": [], "total": 0}))
        if isinstance(output, int):
            return SandboxResponse(status=output)
        return SandboxResponse(body=json.dumps(output).encode())

    with serve(app) as server:
        settings = ShopSettings(base_url=server.base_url, retries=1, retry_first_s=0.01, retry_max_s=0.02)
        source = configured("shop", settings, plugins=plugins)
        report = read(source, sink, *streams, clock=then(), strict=strict)
        return report, sink, [request.target for request in server.requests]


def a_page(*ids: int, total: int | None = None, **more: Any) -> dict[str, Any]:
    rows = [{"id": one, "name": f"n{one}", **more} for one in ids]
    return {"data": rows, "total": len(ids) if total is None else total}


def test_a_partition_that_fails_affects_no_other(tmp_path: Path) -> None:
    """
    One account's answer stays broken: it fails by name and is in the ledger as failed; the others are delivered.
    """
    report, sink, _ = shopping(tmp_path, {"/things/a": a_page(1), "/things/b": 500, "/things/c": a_page(2)})

    assert report.exit_code == 1
    assert [(error["error"], error["partition"]) for error in report.errors] == [("ServerError", {"shop": "b"})]
    assert sorted(partition.as_dict()["shop"] for partition in sink.rows["things"]) == ["a", "c"]
    target = sink.open_readonly("shop")
    assert target is not None
    entries = {
        partition.as_dict()["shop"]: entry for partition, entry in target.ledger.entries("shop", "things").items()
    }
    assert (entries["b"].state, entries["b"].attempts) == ("failed", 1)
    assert "500" in str(entries["b"].error)
    target.close()


class Gone(SqliteLedger):
    """A ledger that can be read and notes no failure."""

    def fail_all(self, source: str, failures: Sequence[tuple[Partition, str]], run_id: str) -> None:
        raise SinkError("the connection is lost")


class GoneSink(MemorySink):
    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> MemoryTarget:
        return MemoryTarget(self, Gone(self.ledger_path))


class Notes:
    """A plugin that keeps what a run notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @hookimpl
    def penstock_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "note":
            self.texts.append(event["message"])


def test_a_ledger_that_is_gone_is_reported_once(tmp_path: Path) -> None:
    """
    The failure to record failed partitions is one note, however many there are; the report has each of them.
    """
    notes = Notes()
    broken = {f"/things/{shop}": 500 for shop in "abc"}
    report, _, _ = shopping(tmp_path, broken, sink=GoneSink(tmp_path / "ledger.sqlite"), listener=notes)

    assert len(report.errors) == 3
    (reported,) = (text for text in notes.texts if "not recorded in the ledger" in text)
    assert reported.endswith("the connection is lost")


class Closing(MemoryTarget):
    def close(self) -> None:
        super().close()
        raise SinkError("datapackage.json: no space left")


class ClosingSink(MemorySink):
    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> MemoryTarget:
        return Closing(self, SqliteLedger(self.ledger_path))


def test_a_target_that_fails_when_it_is_closed(tmp_path: Path) -> None:
    """
    Delivered rows stay so: the error is one of the run, and its exit code is 1.
    """

    report, _, _ = shopping(tmp_path, {"/things/a": a_page(1)}, sink=ClosingSink(tmp_path / "ledger.sqlite"))

    assert report.exit_code == 1
    assert report.total("delivered") > 0
    assert report.total("failed") == 0
    assert "no space left" in report.errors[-1]["message"]


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"/things/a": a_page(1, total=3)}, "CountMismatchError"),
        ({"/things/a": a_page(1, 2, total=4), "/things/a?page=2": a_page(1, 2, total=4)}, "PagingError"),
        ({"/things/a": a_page(1, 2, total=4), "/things/a?page=2": a_page(3, 4, total=5)}, "CountMismatchError"),
        ({"/things/a": {"data": None}}, "WrongFormatError"),
        ({"/things/a": {"message": "all is well"}}, "WrongFormatError"),
        ({"/things/a": []}, "WrongFormatError"),
    ],
    ids=["fewer than promised", "page repeated", "total changes", "no items", "another body", "bare array"],
)
def test_a_listing_whose_counts_differ_is_not_delivered(answers: Answers, error: str, tmp_path: Path) -> None:
    """
    Fewer records than promised, a page twice, a total that changes, a 200 without items: an error, and no partition is
    replaced.
    """
    rest = {f"/things/a?page={number}": {"data": [], "total": 3} for number in (2, 3)}

    report, sink, _ = shopping(tmp_path, {**rest, **answers})

    assert report.exit_code == 1
    assert [one["error"] for one in report.errors] == [error]
    assert "a" not in [partition.as_dict()["shop"] for partition in sink.rows["things"]]


def test_a_child_of_a_failed_parent_is_not_read(tmp_path: Path) -> None:
    """
    Where the parent's rows are not known, the child fails too: its former rows are not replaced by fewer.
    """
    good = {"/things/a": a_page(1), "/parts/a/1": {"data": [{"id": 7}]}}
    report, sink, _ = shopping(tmp_path, good, ("things", "parts"))
    assert report.exit_code == 0, report.errors

    bad, _, requested = shopping(tmp_path, {"/things/a": 500}, ("things", "parts"), sink=sink)

    assert bad.exit_code == 1
    assert {(one["stream"], one["partition"]["shop"]) for one in bad.errors} == {("things", "a"), ("parts", "a")}
    assert not [target for target in requested if target.startswith("/parts/a")]
    assert [row["id"] for row in sink.all("parts")] == [7]


def test_a_child_waits_for_the_parent_of_its_own_job(tmp_path: Path) -> None:
    """
    Two targets filled from one source in one run: the end of a parent in one job starts no child in the other.
    """
    answers = {"/things/a": a_page(1), "/parts/a/1": {"data": [{"id": 7}]}}
    sinks = [MemorySink(tmp_path / name / "ledger.sqlite") for name in ("one", "two")]

    def app(request: SandboxRequest) -> SandboxResponse:
        return SandboxResponse(body=json.dumps(answers.get(request.path, {"data": [], "total": 0})).encode())

    with serve(app) as server:
        settings = ShopSettings(base_url=server.base_url, concurrency=1)
        source = configured("shop", settings, plugins=[Shop(), penstock_plugins])
        report = read_into(source, sinks, "things", "parts", clock=then())

    assert report.exit_code == 0, report.errors
    assert [[row["id"] for row in sink.all("parts")] for sink in sinks] == [[7], [7]]


def test_a_ceiling_is_delivered_and_counts_as_failed(tmp_path: Path) -> None:
    """
    The provider's most records are there, marked truncated, and the exit code states that there may be more.
    """
    pages = {
        "/things/a": a_page(1, 2, total=6),
        "/things/a?page=2": a_page(3, 4, total=6),
        "/things/a?page=3": a_page(5, 6, total=6),
    }

    report, sink, _ = shopping(tmp_path, pages)

    assert report.exit_code == 1
    assert report.total("truncated") == 1
    assert sorted(row["id"] for row in sink.all("things")) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("what", "strict", "code"),
    [("rejected", False, 5), ("rejected", True, 5), ("unknown", False, 0), ("unknown", True, 5)],
)
def test_rejected_records_are_exit_code_5(what: str, strict: bool, code: int, tmp_path: Path) -> None:
    """
    All the rest is delivered. A record that cannot be shaped gives 5; an undeclared member only with --strict.
    """
    page = a_page(1, 2, colour="red") if what == "unknown" else {"data": [{"id": 1}, {"id": "x"}], "total": 2}

    report, sink, _ = shopping(tmp_path, {"/things/a": page}, strict=strict)

    assert report.exit_code == code
    assert [row["id"] for row in sink.all("things")] == ([1, 2] if what == "unknown" else [1])
    assert report.total("rejected") == int(what == "rejected")


@pytest.mark.parametrize(
    ("happened", "code"),
    [
        ({"stopped": True, "refused": {("shop", None)}, "deadline": True}, 130),
        ({"refused": {("shop", None)}, "deadline": True, "errors": [{}]}, 3),
        ({"errors": [{}], "deadline": True}, 1),
        ({"deadline": True}, 4),
        ({}, 0),
    ],
    ids=["130", "3", "1", "4", "0"],
)
def test_the_first_outcome_decides_the_exit_code(happened: Mapping[str, Any], code: int) -> None:
    """
    The exit code is that of the first of these outcomes that the run has: interrupted, refused, failed, deadline.
    """
    assert RunReport(run_id="x", **happened).exit_code == code


def test_a_run_requests_exactly_the_partitions_of_its_plan(tmp_path: Path) -> None:
    """
    The plan makes no request, and the run that follows reads exactly its partitions.
    """
    with serve() as server:
        app = TALROO.make(server.base_url, date(2026, 3, 20))
        server.app = app
        sink, days = MemorySink(tmp_path / "ledger.sqlite"), TALROO.window()
        source = TALROO.source(server.base_url)
        window = {"since": days[0] - timedelta(days=4), "until": days[-1]}
        read(source, sink, "clicks", clock=then(), **window)
        server.requests.clear()
        planned = plan(source, sink, "clicks", now=then().now(), **window)
        assert server.requests == []

        read(source, sink, "clicks", clock=then(), **window)

    requested = {(one["advertiser_id"], one["start"]) for one in list(app.params)[-len(server.requests) :]}
    assert {part.partition.values[0][1:] + part.partition.values[1][1:] for part in planned.partitions} == requested
    assert planned.final == {"clicks": 2 * 7 - len(requested)}
    assert {part.reason for part in planned.partitions} == {"open"}


def test_restated_days_are_replaced_and_reported(tmp_path: Path) -> None:
    """
    Rows that changed, vanished or came are there after the next run, and the report has their number by day.
    """
    with serve() as server:
        app = server.app = TALROO.make(server.base_url, date(2026, 3, 20))
        sink = MemorySink(tmp_path / "ledger.sqlite")
        TALROO.run(server.base_url, sink)
        app.restate(TALROO.window()[-1])

        report = TALROO.run(server.base_url, sink)

        truth = TALROO.expected(app)
    reported = report.stream("talroo", "clicks").restated
    assert {one["partition"]["report_date"] for one in reported} == {str(TALROO.window()[-1])}
    assert all(one["rows"][0] != one["rows"][1] or one["sums"] for one in reported)
    assert bag(sink.all("clicks")) == bag(row for rows in truth.values() for row in rows)
