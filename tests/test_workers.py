"""
Runs that are divided among processes: rows, limits, tokens, report and exit code of one run; and what a kill leaves.
"""

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import market
import penstock_plugins
import pytest
import thread_engine
from attrs import define, frozen
from divided_market_runs import DividedRuns, base_url, counts, is_running, linux, worker_pids
from market import SHOPS, Market
from penstock import (
    PluginError,
    Project,
    Registration,
    SandboxRequest,
    SandboxResponse,
    Secret,
    SinkKind,
    UsageError,
    hookimpl,
)
from penstock.engines import Assignment, Coordinator, Message, Work
from penstock.errors import ServerError
from penstock.sandbox.server import serve
from penstock.sinks import Sink
from penstock.testing.memory import MemorySink
from penstock_plugins.engines.processes import Processes
from penstock_plugins.files.jsonl import JsonLines
from penstock_plugins.files.sink import FileSink
from postgres_server import server as postgres
from waits import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(params=["jsonl", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DividedRuns]:
    with serve(app := Market()) as server, postgres().database() as dsn:
        made = DividedRuns(app, tmp_path, f"jsonl:{tmp_path / 'out'}" if request.param == "jsonl" else dsn)
        made.configure(server.base_url, concurrency=4, shops=list(SHOPS))
        yield made
        assert server.errors == []


@pytest.fixture
def files(tmp_path: Path) -> Iterator[DividedRuns]:
    with serve(app := Market()) as server:
        made = DividedRuns(app, tmp_path, f"jsonl:{tmp_path / 'out'}")
        made.configure(server.base_url, concurrency=4, shops=list(SHOPS))
        yield made
        assert server.errors == []


# Runs by several processes take seconds of start-up: into the other kind of target with make test-all.
jsonl_first = pytest.mark.parametrize(
    "world", ["jsonl", pytest.param("postgres", marks=pytest.mark.large)], indirect=True
)
postgres_first = pytest.mark.parametrize(
    "world", ["postgres", pytest.param("jsonl", marks=pytest.mark.large)], indirect=True
)


@jsonl_first
def test_two_workers_do_the_work_of_one_run(world: DividedRuns, tmp_path: Path) -> None:
    """
    The rows, the counts, the exit code and the one run in the ledger are those of a run by one process; all workers
    use one token, and no report is requested twice.
    """
    world.app.one_token = True
    world.app.slow_s = 0.005
    code, report = world.run()

    assert code == 0, report
    world.assert_true()
    assert world.app.counts["login"] == 1
    assert world.app.at_once <= 4
    assert len(set(world.app.submitted)) == len(world.app.submitted)
    alone = DividedRuns(world.app, tmp_path / "alone", f"jsonl:{tmp_path / 'alone' / 'out'}")
    alone.folder.mkdir()
    alone.configure(base_url(world), concurrency=4, shops=list(SHOPS))
    _, single = alone.run_here(engine=None, workers=1)
    assert counts(report) == counts(single)
    runs = (
        Project(world.folder / "penstock.toml", plugins=[market, penstock_plugins]).runs("market", to=world.target).runs
    )
    assert [one.run_id for one in runs] == [report["run_id"]]

    code, second = world.run(workers=1)
    assert code == 0
    assert second["sources"]["market"]["streams"]["sales"]["partitions"]["skipped"] == len(SHOPS) * market.DAYS


def test_listed_accounts_are_divided(files: DividedRuns) -> None:
    """
    Accounts that the provider lists are read once each, also those that no run knew before.
    """
    files.configure(base_url(files), concurrency=4)

    code, report = files.run_here()

    assert code == 0, report
    files.assert_true()
    assert len(set(files.app.submitted)) == len(files.app.submitted)
    assert report["sources"]["market"]["streams"]["shops"]["partitions"]["delivered"] == 1


def test_the_days_of_one_account_are_divided(files: DividedRuns) -> None:
    """
    The days of a report of a single account are read by several workers, each day once.
    """
    files.app.shops = ("shop1",)
    files.configure(base_url(files), concurrency=4, shops=["shop1"])
    events: list[Mapping[str, Any]] = []

    code, report = files.run_here(streams=["sales"], on_event=events.append)

    assert code == 0, report
    assert files.rows("sales") == files.app.expected("sales")
    assert files.app.counts["sales"] == market.DAYS
    assert sum(one["event"] == "stream_started" for one in events) == 2  # by each worker
    assert [one["partitions"] for one in events if one["event"] == "planned"] == [market.DAYS]
    code, report = files.run_here(streams=["sales"])
    assert (code, report["sources"]["market"]["streams"]["sales"]["partitions"]["skipped"]) == (0, market.DAYS)


def test_the_pace_holds_over_all_workers(files: DividedRuns) -> None:
    """
    The workers together start no more requests in a second than the source allows.
    """
    files.configure(base_url(files), concurrency=4, requests_per_second=10.0, shops=list(SHOPS))

    code, report = files.run_here(workers=3, streams=["sales", "items"])

    assert code == 0, report
    times = sorted(files.app.times)
    # Over the whole run, since a loaded machine lets requests arrive in bunches. Workers that did not share the pace
    # would take a third of the time.
    assert len(times) >= 30
    assert len(times) <= 1.25 * 10.0 * (times[-1] - times[0]) + 3


def test_a_quota_parks_all_workers(files: DividedRuns) -> None:
    """
    Once the provider states a wait of an hour to one worker, none of them goes on requesting: exit code 4.
    """
    first: list[float] = []

    def throttled(request: SandboxRequest) -> SandboxResponse | None:
        if not first and "shop1" in request.target:
            first.append(time.monotonic())
        if first:
            return SandboxResponse(status=429, headers={"retry-after": "3600"})
        return None

    files.app.throttled = throttled
    files.app.slow_s = 0.05
    files.configure(base_url(files), concurrency=2, shops=list(SHOPS))
    code, report = files.run_here(streams=["sales"])

    assert code == 4, report
    assert report["parked"].keys() == {"market"}
    assert sum(one > first[0] for one in files.app.times) <= 2  # one of each worker was on its way, or two


def test_a_login_that_is_to_wait_parks_all_workers(files: DividedRuns) -> None:
    """
    A login to which the provider states a wait of a day is sent once for all workers: exit code 4, as of one process.
    """
    files.app.login_answer = SandboxResponse(status=429, headers={"retry-after": "86400"})

    code, report = files.run_here(workers=3, streams=["sales"])

    assert code == 4, report
    assert (report["parked"].keys(), report["errors"]) == ({"market"}, [])
    assert report["parked"]["market"].count("Request: ") == 1
    assert files.app.counts == {"login": 1}


@pytest.mark.parametrize("changing", [False, True], ids=["one password", "a new password each time"])
def test_a_token_that_ended_is_granted_again_once(files: DividedRuns, changing: bool) -> None:
    """
    Workers whose token ends at the same moment get one new token, granted once, also where a login ends the token
    before it, or the password that it took.
    """
    files.configure(base_url(files), concurrency=4, shops=list(SHOPS), changing=changing)
    files.app.one_token = True
    files.app.changing = changing
    files.app.token_uses = 20
    files.app.slow_s = 0.01

    code, report = files.run_here(workers=3)

    assert code == 0, report
    files.assert_true()
    requests = sum(files.app.counts.values()) - files.app.counts["login"]
    assert files.app.counts["login"] == (requests - files.app.refused) // 20 + 1
    assert files.app.refused <= 4 * files.app.counts["login"]  # those that were on their way


def test_a_failure_is_reported_as_ever(files: DividedRuns) -> None:
    """
    Partitions that fail in a worker are errors of the run: exit code 1, all others are delivered.
    """
    files.app.throttled = lambda request: SandboxResponse(status=404) if "shop2" in request.target else None

    code, report = files.run_here(streams=["sales"])

    assert code == 1, report["errors"]
    assert {one["partition"]["shop"] for one in report["errors"]} == {"shop2"}
    assert report["sources"]["market"]["streams"]["sales"]["partitions"]["delivered"] == 5 * market.DAYS


def test_a_source_that_cannot_be_used_leaves_the_others_to_the_workers(files: DividedRuns) -> None:
    """
    Workers read the sources that the process that started the run can use; the other one is an error of the run.
    """
    toml = files.folder / "penstock.toml"
    other = toml.read_text().replace("[source.market]", '[source.mall]\nconnector = "market"')
    other = other.replace('"sesame"', '{ file = "absent" }')
    toml.write_text(
        toml.read_text()
        + other
        + f'[sink.files]\nkind = "jsonl"\npath = "{files.folder / "out"}"\n'
        + '[pipeline.both]\nsource = ["mall", "market"]\nsink = "files"\n'
    )
    project = Project(toml, plugins=[market, penstock_plugins, thread_engine])

    days = dict(zip(("since", "until"), market.WINDOW, strict=True))
    result = project.run("both", streams=["market.sales", "mall.sales"], **days, engine="threads", workers=2)

    assert (result.exit_code, [one["source"] for one in result.errors]) == (1, ["mall"]), result.errors
    assert "the file" in result.errors[0]["reason"]
    assert result.report["sources"]["market"]["streams"]["sales"]["partitions"]["delivered"] == 6 * market.DAYS


def test_refused_credentials_are_exit_code_3(files: DividedRuns) -> None:
    """
    A login that the provider refuses is tried once for all workers.
    """
    toml = files.folder / "penstock.toml"
    toml.write_text(toml.read_text().replace("sesame", "wrong password"))

    code, report = files.run_here(streams=["sales"])

    assert code == 3, report
    assert files.app.counts["login"] == 1


@pytest.mark.parametrize(("forbidden", "expected"), [("shop2", 1), ("shop", 3)], ids=["one account", "all accounts"])
def test_a_403_of_all_that_a_worker_reads_is_none_of_the_run(files: DividedRuns, forbidden: str, expected: int) -> None:
    """
    Credentials are refused only if no worker's request was accepted: the exit code is that of one process.
    """
    files.configure(base_url(files), shops=["shop1", "shop2"])
    files.app.throttled = lambda request: SandboxResponse(status=403) if forbidden in request.target else None

    code, report = files.run_here(streams=["sales"])

    assert code == expected, report


def test_three_forbidden_accounts_of_a_worker_do_not_end_its_others(files: DividedRuns) -> None:
    """
    Three accounts of a worker with 403 end its others only if no request of the run was accepted, as in one process.
    """
    shops = tuple(f"shop{number:02}" for number in range(40))  # the two workers read every other one
    forbidden = shops[:6:2]
    files.app.shops = shops
    files.configure(base_url(files), shops=list(shops), concurrency=2)
    accepted = threading.Semaphore(0)

    def answer(request: SandboxRequest) -> SandboxResponse | None:
        if not request.target.endswith(forbidden):
            accepted.release()
            return None
        for _ in range(3):  # the second worker makes its requests one after the other
            assert accepted.acquire(timeout=10)
        accepted.release(3)
        return SandboxResponse(status=403)

    files.app.throttled = answer

    code, report = files.run_here(streams=["items"])

    assert code == 1, report["errors"]
    assert {one["partition"]["shop"] for one in report["errors"]} == {*forbidden}
    assert report["sources"]["market"]["streams"]["items"]["partitions"]["delivered"] == 37


def test_the_error_of_a_login_has_one_place(files: DividedRuns) -> None:
    """
    The coordinator logs in, and a worker reports the error: its request is that of the login, and its reason has none.
    """
    files.configure(base_url(files), shops=["shop1"], retries=0)
    files.app.login_answer = SandboxResponse(status=503)

    code, report = files.run_here(streams=["sales"])

    assert code == 1, report
    assert {error["request"] for error in report["errors"]} == {f"POST {base_url(files)}/login"}
    assert not any("Request: " in error["reason"] for error in report["errors"])


def test_a_failed_worker_shows_no_secret_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    """
    The reason of a failed worker is masked before it leaves the process, and no traceback is printed.
    """
    lost: list[str] = []

    class Office:
        over = False

        def lost(self, number: int, reason: str) -> None:
            lost.append(reason)

    only = Assignment(number=0, run_id="r", sources=(), task=None)
    Processes(1).run([only], market.fail, cast("Any", Office()))

    assert lost == ["KeyError: 'token=***'"]
    assert capfd.readouterr().err == ""


@define(eq=False)
class ScriptedEngine:
    """An engine, and the plugin that offers it. ``carry_out`` stands for its workers, ``begin`` for their start."""

    carry_out: Callable[[Assignment, Work, Coordinator], None]
    begin: Callable[[], None] = lambda: None
    is_local: bool = True
    workers: int = 2
    carries_secrets: bool = True

    def check(self, trial: Callable[[], None]) -> None:
        self.begin()
        trial()

    def run(self, assignments: Sequence[Assignment], work: Work, coordinator: Coordinator) -> None:
        for one in assignments:
            self.carry_out(one, work, coordinator)

    def close(self) -> None:
        """There is nothing to release."""

    @hookimpl
    def penstock_engines(self) -> Iterable[Registration]:
        yield Registration(name="scripted", factory=lambda address, workers: self, summary="what the test states")


@define(eq=False)
class Lake:
    """A plugin with the sink ``lake``. ``sink``: what it is from now on."""

    sink: Sink

    @hookimpl
    def penstock_sinks(self) -> Iterable[SinkKind]:
        yield SinkKind(
            name="lake",
            summary="",
            promise="",
            scheme="lake",
            settings=LakeSettings,
            parse=lambda text: LakeSettings(),
            open=lambda settings: self.sink,
        )


@frozen
class LakeSettings:
    """There is nothing to set."""


@pytest.fixture
def module_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], ModuleType]:
    """A module with the hooks of an object: workers import their plugins by name."""

    def made(plugin: Any) -> ModuleType:
        module = ModuleType(type(plugin).__name__)
        hooks = {name: getattr(plugin, name) for name in dir(plugin) if name.startswith("penstock_")}
        vars(module).update(hooks)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return module

    return made


@frozen
class CutChannel(thread_engine.ThreadChannel):  # type: ignore[misc, name-defined]
    """A channel that is cut when its worker requests the state of the run. ``cut`` is set then."""

    cut: threading.Event

    def request(self, message: Message) -> Message:
        if message["kind"] == "state":
            self.cut.set()
            raise OSError("the channel is cut")
        return cast("Message", super().request(message))


def test_a_shard_whose_channel_is_cut_is_lost(files: DividedRuns, module_of: Callable[[Any], ModuleType]) -> None:
    """
    A shard that gets no reply from the coordinator stops, which is an error of the run: exit code 1, not that of an
    interruption. The next run reads the rest.
    """

    cut = threading.Event()

    def carry_out(one: Assignment, work: Work, coordinator: Coordinator) -> None:
        channel = thread_engine.ThreadChannel(one.number, coordinator)
        if one.number == 2:
            channel = CutChannel(one.number, coordinator, cut)
            files.app.throttled = lambda request: None if cut.wait(60) else SandboxResponse(status=500)
        coordinator.done(one.number, work(one, channel))

    code, report = files.run_here(module_of(ScriptedEngine(carry_out)), engine="scripted")

    assert code == 1, report
    assert [one["error"] for one in report["errors"]] == ["WorkerLostError"]
    assert "worker 2 of this run ended before its work was done: it had no reply" in report["errors"][0]["message"]
    assert files.run_here()[0] == 0
    files.assert_true()


@pytest.mark.parametrize("is_local", [True, False], ids=["this machine", "other machines"])
def test_a_sink_of_another_version_in_a_worker_is_named(
    files: DividedRuns, module_of: Callable[[Any], ModuleType], is_local: bool
) -> None:
    """
    A sink whose class in a worker, of another version, cannot share a target with other processes is named.
    """
    lake = Lake(FileSink(directory=files.folder / "lake", codec=JsonLines()))

    def begin() -> None:
        lake.sink = MemorySink(files.folder / "other.sqlite")

    def carry_out(one: Assignment, work: Work, coordinator: Coordinator) -> None:
        coordinator.done(one.number, work(one, thread_engine.ThreadChannel(one.number, coordinator)))

    engine = ScriptedEngine(carry_out, begin, is_local)
    plugins = module_of(lake), module_of(engine)
    error = "lake:there: the plugin with MemorySink has another version in this worker"

    if is_local:
        code, report = files.run_here(*plugins, engine="scripted", to="lake:there")
        assert code == 1
        assert [error in one["message"] for one in report["errors"]] == [True, True]
    else:
        with pytest.raises(PluginError, match=error):
            files.run_here(*plugins, engine="scripted", to="lake:there")


def test_an_error_that_leaves_a_worker_is_masked(files: DividedRuns, module_of: Callable[[Any], ModuleType]) -> None:
    """
    An error that leaves a worker is masked in its arguments and attributes, since another process does not know the
    secrets of this one.
    """
    Secret("only-in-the-worker")
    raised: list[Exception] = []

    class BrokenChannel:
        def send(self, message: Message) -> None:
            """Nothing is sent."""

        def request(self, message: Message) -> Message:
            advice, request = "Ask for only-in-the-worker.", "only-in-the-worker"
            raise ServerError("down: only-in-the-worker", advice).at(request=request)

    def carry_out(one: Assignment, work: Work, coordinator: Coordinator) -> None:
        try:
            work(one, BrokenChannel())
        except ServerError as error:
            raised.append(pickle.loads(pickle.dumps(error)))
            coordinator.lost(one.number, str(error))

    engine = module_of(ScriptedEngine(carry_out, is_local=False, workers=1))
    code, _ = files.run_here(engine, engine="scripted", workers=1)

    assert code == 1
    (received,) = raised
    assert received.args == ("down: ***. Ask for ***.",)
    assert isinstance(received, ServerError)
    assert (received.seen, received.advice, received.request) == ("down: ***", "Ask for ***.", "***")


def test_the_reason_why_a_worker_was_lost_is_a_sentence(
    files: DividedRuns, module_of: Callable[[Any], ModuleType]
) -> None:
    """
    The reason why a worker was lost ends with one full stop, whether or not it has one already.
    """
    reasons = ["it had no reply", "it had no reply."]

    def carry_out(one: Assignment, work: Work, coordinator: Coordinator) -> None:
        coordinator.lost(one.number, reasons.pop())

    code, report = files.run_here(module_of(ScriptedEngine(carry_out)), engine="scripted")

    assert (code, reasons) == (1, [])
    assert len(report["errors"]) == 2
    for error in report["errors"]:
        assert "was done: it had no reply. What it had committed stays" in error["message"]


@linux
@postgres_first
def test_a_killed_worker_is_reported(world: DividedRuns) -> None:
    """
    kill -9 of a worker: the run reports it and exits 1, and counts what the worker had committed. The next run, started
    at once, leaves exactly the provider's rows and requests no report again whose handle was read.
    """
    world.app.slow_s = 0.02
    process = world.start()
    eventually(lambda: sum(world.app.counts[name] for name in ("sales", "items", "events")) > 8)
    os.kill(worker_pids(process.pid)[0], signal.SIGKILL)
    code, report = world.ended(process)

    assert code == 1, report
    assert [one["error"] for one in report["errors"]] == ["WorkerLostError"]
    assert "SIGKILL" in report["errors"][0]["message"]
    # A day of changes beside files counts as delivered when it is merged, which the next run does.
    delivered = {
        name: one["partitions"]["delivered"]
        for name, one in report["sources"]["market"]["streams"].items()
        if name != "events"
    }
    project = Project(world.folder / "penstock.toml", plugins=[market, penstock_plugins])
    rows = project.partitions("market", to=world.target).partitions
    ledger = [one for one in rows if one.run_id == report["run_id"] and one.stream != "events"]
    if "jsonl" not in world.target:  # beside files the ledger also has intents, which the next run completes
        assert sum(delivered.values()) == len(ledger)
    assert sum(delivered.values()) <= len(ledger)

    code, report = world.run()
    assert code == 0, report
    world.assert_true()
    assert len(world.app.submitted) - len(set(world.app.submitted)) <= 2  # on their way when the worker was killed


@linux
@jsonl_first
@pytest.mark.parametrize("at", ["early", "late"])
@pytest.mark.large
def test_workers_end_with_their_parent(world: DividedRuns, at: str) -> None:
    """
    kill -9 of the parent ends its workers at once; the next run starts at once and leaves the provider's rows.
    """
    world.app.slow_s = 0.02
    process = world.start()
    eventually(lambda: sum(world.app.counts.values()) > (6 if at == "early" else 40))
    workers = worker_pids(process.pid)
    process.kill()
    process.communicate()

    code, report = world.run()

    assert code == 0, report
    world.assert_true()
    assert len(workers) == 2
    assert not [pid for pid in workers if is_running(pid)]


def test_a_stop_reaches_all_workers(files: DividedRuns) -> None:
    """
    A run that is stopped ends all workers: exit code 130, what is complete stays, the next run reads the rest.
    """
    stop = threading.Event()
    files.app.slow_s = 0.02
    files.app.throttled = lambda request: stop.set() if sum(files.app.counts.values()) > 20 else None

    code, report = files.run_here(stop=stop)

    assert code == 130, report
    files.app.slow_s, files.app.throttled = 0.0, lambda request: None
    code, report = files.run_here()
    assert code == 0, report["errors"][:2]
    files.assert_true()


@pytest.mark.large
def test_sigterm_reaches_all_workers(files: DividedRuns) -> None:
    """
    SIGTERM ends all workers cleanly: exit code 130, what is complete stays, the next run reads the rest.
    """
    files.app.slow_s = 0.05
    process = files.start()
    eventually(lambda: sum(files.app.counts.values()) > 10)
    process.send_signal(signal.SIGTERM)
    code, report = files.ended(process)

    assert code == 130, report
    files.app.slow_s = 0.0
    code, report = files.run_here()
    assert code == 0, report["errors"][:2]
    files.assert_true()


@pytest.mark.large
def test_a_deadline_reaches_all_workers(files: DividedRuns) -> None:
    """
    The deadline of a run is that of each worker: exit code 4.
    """
    files.app.slow_s = 0.3

    code, report = files.run_here(deadline_s=2.0)

    assert code == 4, report
    assert report["seconds"] < 10


def test_the_lock_excludes_other_runs(files: DividedRuns) -> None:
    """
    Another run of the source ends with 6 while workers write it.
    """
    files.app.slow_s = 0.05
    process = files.start()
    eventually(lambda: sum(files.app.counts.values()) > 5)

    code, _ = files.run_here(engine=None, workers=1)

    assert code == 6
    assert files.ended(process)[0] == 0


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"workers": 0}, "number from 1"),
        ({"workers": 2, "shard": "1/2"}, "--shard"),
        ({"engine": "nothing:there"}, "nothing"),
        ({"engine": "processes:there"}, "no address"),
    ],
    ids=lambda value: str(value),
)
def test_runs_that_cannot_be_divided_are_refused(files: DividedRuns, more: dict[str, Any], reason: str) -> None:
    """
    A mistake is refused before anything is requested.
    """
    project = Project(files.folder / "penstock.toml", plugins=[market, penstock_plugins])

    with pytest.raises(UsageError, match=reason):
        project.run("market", to=files.target, **more)
    assert not files.app.counts


def test_a_configuration_in_memory_stays_in_its_process(tmp_path: Path) -> None:
    """
    Workers read secrets by themselves: a configuration that is no file is refused, and so is a sink with one writer.
    """
    settings = {"base_url": "http://127.0.0.1:1", "password": "sesame", "shops": ["shop1", "shop2"]}
    project = Project({"source": {"market": settings}}, plugins=[market, penstock_plugins])
    with pytest.raises(UsageError, match="give a file"):
        project.run("market", to=f"jsonl:{tmp_path}", workers=2)
    (tmp_path / "penstock.toml").write_text('[source.market]\nbase_url = "http://127.0.0.1:1"\npassword = "sesame"\n')
    with pytest.raises(UsageError, match="several processes"):
        Project(tmp_path / "penstock.toml", plugins=[market, penstock_plugins]).run(
            "market", to=f"jsonl:{tmp_path}/one.jsonl", streams=["sales"], workers=2
        )
