"""
The Python API: each method against an imitated provider, from threads, and what it raises.
"""

import asyncio
import json
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import penstock
import penstock_plugins
import pytest
from attrs import evolve, exceptions, frozen
from penstock import (
    AuthenticationError,
    ConfigError,
    Connector,
    CountMismatchError,
    Envelope,
    Json,
    OpenFor,
    Project,
    RejectedRecordsError,
    Request,
    SandboxRequest,
    SandboxResponse,
    Secret,
    Slice,
    SourceSettings,
    Stream,
    TargetError,
    UsageError,
    added,
    derived,
    record,
    setting,
)
from penstock._config.pipeline import Occasion
from penstock._util.clock import Clock
from penstock._util.text import without_place
from penstock.connector import ConnectorPlugin
from penstock.ledger import SqliteLedger
from penstock.ledger_interface import RunRecord
from penstock.project.notify import OCCASIONS
from penstock.project.run_result import RunResult
from penstock.project.targets import Viewed, ledgers
from penstock.run_report import RunReport
from penstock.sandbox.server import Server, serve
from penstock.testing.memory import MemorySink, MemoryTarget
from penstock_plugins.files.sink import FileSink, FileTarget

NOW = datetime(2026, 3, 10, 8, tzinfo=UTC)
FIRST, LAST = date(2026, 3, 7), date(2026, 3, 9)


class Stopped(Clock):
    """The time of day never moves."""

    def now(self) -> datetime:
        return NOW


class AnHourLater(Clock):
    def now(self) -> datetime:
        return NOW + timedelta(hours=1)


@record()
class Sale:
    shop_id: str = added()
    day: date = added()
    id: str
    price: str
    price_amount: Decimal | None = derived(of="price", scale=-2, unit="USD", additive=True)
    lines: Json | None = None


@record()
class Line:
    sale_id: str = added()
    sku: str


@frozen(kw_only=True)
class Settings(SourceSettings):
    base_url: str = setting("https://shop.example", help="where the shop answers")
    key: Secret = setting(help="the key")
    shop_ids: tuple[str, ...] = setting(("7", "8"), help="the shops")


def requests(settings: Settings, slice_: Slice) -> Iterable[Request]:
    yield Request(url=f"{settings.base_url}/sales", params=(("shop", slice_.account or ""), ("day", str(slice_.since))))


SALES = Stream(
    name="sales",
    summary="What was sold",
    record=Sale,
    kind="report",
    key="id",
    account="shop_id",
    accounts=lambda settings: settings.shop_ids,
    day="day",
    requests=requests,
    envelope=Envelope(items="sales", total="total"),
    open_for=OpenFor(30),
)


class Shop:
    """Two sales a day and shop; ``change`` alters an answer by shop and day before it is sent."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.change: Any = lambda shop, day, answer: answer

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        query = dict(pair.split("=") for pair in request.query.split("&"))
        shop, day = query["shop"], query["day"]
        self.asked.append(f"{shop} {day}")
        sales = [{"id": f"{shop}-{day}-{n}", "price": "150", "lines": [{"sku": "a", "tax": 0.10}]} for n in (1, 2)]
        answer = self.change(shop, day, {"sales": sales, "total": 2})
        if isinstance(answer, SandboxResponse):
            return answer
        return SandboxResponse(body=json.dumps(answer).encode())


def without_id(shop: str, day: str, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer whose first record cannot be decoded."""
    first, second = answer["sales"]
    return {"sales": [{**first, "id": None}, second], "total": 2}


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def server(shop: Shop) -> Iterator[Server]:
    with serve(shop) as running:
        yield running


PLUGINS = (
    ConnectorPlugin(
        Connector(
            name="shop",
            summary="Sales of a shop",
            settings=Settings,
            streams=[SALES],
            check=lambda settings, slice_: Request(
                url=f"{settings.base_url}/sales", params=(("shop", "7"), ("day", "x"))
            ),
        )
    ),
    penstock_plugins,
)


def config(server: Server, folder: Path) -> dict[str, Any]:
    return {
        "source": {
            "shop": {"base_url": server.base_url, "key": Secret("sesame-open"), "retries": 0, "retry_first_s": 0.01}
        },
        "sink": {"files": {"kind": "jsonl", "path": str(folder / "data")}},
        "pipeline": {"daily": {"source": "shop", "sink": "files"}},
    }


@pytest.fixture
def project(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)


DAYS: dict[str, Any] = {"since": FIRST, "until": LAST}

# --- run, plan, check -------------------------------------------------------------------------------------------------


def test_a_run_is_a_frozen_result(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Exit code, report and errors as values; nothing is printed, nothing but the target is written.
    """
    result = project.run("daily", **DAYS)

    assert (result.exit_code, result.status, result.errors, result.reason) == (0, "delivered", (), None)
    assert result.report["sources"]["shop"]["streams"]["sales"]["records"] == 12
    assert result.run_id == result.report["run_id"]
    with pytest.raises(exceptions.FrozenInstanceError):
        result.exit_code = 1  # type: ignore[misc]
    assert capsys.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_sink_may_be_the_callers_own(project: Project, tmp_path: Path) -> None:
    """
    A run into a sink that the caller made; ``plan`` does not remember it. A pipeline's streams go there, too.
    """
    sink = MemorySink(tmp_path / "ledger.sqlite")

    assert project.run("shop", to=sink, **DAYS).exit_code == 0
    assert len(sink.all("sales")) == 12
    assert project.plan("shop", **DAYS).target is None
    assert project.run("daily", to=sink, **DAYS).report["sources"]["shop"]["streams"]["sales"]["records"] == 12
    assert not (tmp_path / "data").exists()


def test_the_columns_of_a_source_are_values(project: Project) -> None:
    """
    Layouts need no request; a stream that does not exist is refused.
    """
    (sales,) = project.layouts("shop")

    assert (sales.stream, sales.kind, sales.key, sales.partition_columns) == (
        "sales",
        "report",
        ("id",),
        ("shop_id", "day"),
    )
    assert [column.name for column in sales.columns][-1] == "_extra"
    assert project.layouts("shop", ["*"]) == (sales,)
    with pytest.raises(UsageError, match="sails"):
        project.layouts("shop", ["sails"])


def test_keys_of_a_source_may_come_from_elsewhere(project: Project, shop: Shop) -> None:
    """
    They replace those of the configuration, a text is parsed as the type of its key, None changes nothing, and the
    project that they are put over stays as it is. Further columns are left out besides the configured ones.
    """
    other = project.with_source("shop", {"shop_ids": "8,9", "start": "2026-03-09", "key": None, "exclude": ["price"]})
    other = other.with_source("shop", {}, exclude=["lines"])

    rows = list(other.read("shop", "sales", until=LAST).rows())
    assert {row.shop_id for row in rows} == {"8", "9"}
    assert {row.day for row in rows} == {LAST}
    assert {column.name for column in other.layouts("shop")[0].columns}.isdisjoint({"price", "lines"})
    assert {row.shop_id for row in project.read("shop", "sales", **DAYS).rows()} == {"7", "8"}
    with pytest.raises(ConfigError, match=r"keys\.json: source\.shop\.timeout_s: found \"soon\""):
        project.with_source("shop", {"timeout_s": "soon"}, where="keys.json").layouts("shop")
    with pytest.raises(ConfigError, match="unknown key"):
        project.with_source("shop", {"colour": "red"}).layouts("shop")


def test_the_keys_of_a_source_have_a_schema(project: Project) -> None:
    """
    A JSON Schema of the connector's keys: a key without a default is required, a secret is marked.
    """
    schema = project.settings_schema("shop")

    assert schema["required"] == ["key"]
    assert schema["properties"]["key"] == {"type": "string", "description": "the key", "writeOnly": True}
    assert schema["properties"]["shop_ids"]["type"] == "array"


def test_events_reach_the_callback(project: Project) -> None:
    """
    In order, from the start of the run to its end.
    """
    events: list[Mapping[str, Any]] = []

    project.run("daily", **DAYS, on_event=events.append)

    assert [events[0]["event"], events[-1]["event"]] == ["run_started", "run_finished"]
    assert sum(event["event"] == "partition_delivered" for event in events) == 6


def test_a_callback_that_raises_changes_nothing(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    """
    At whichever event: the run and the read deliver all, and one warning names the callback and its line.
    """

    def broken(event: Mapping[str, Any]) -> None:
        raise LookupError(event["event"])

    run = project.run("daily", **DAYS, on_event=broken)
    rows = list(project.read("shop", "sales", **DAYS, on_event=broken).rows())

    assert (run.exit_code, run.errors, len(rows)) == (0, (), 12)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [text.partition(", line")[0] for text in warnings] == [
        "on_event failed at run_started: LookupError: run_started (test_project.py"
    ] * 2


def test_what_fails_during_a_run_is_in_its_result(project: Project, shop: Shop) -> None:
    """
    A provider's failure raises nothing: the partition is in the errors, the rest is delivered.
    """
    shop.change = lambda shop, day, answer: SandboxResponse(status=404) if shop == "8" else answer

    result = project.run("daily", **DAYS)

    assert result.exit_code == 1
    assert {error["partition"]["shop_id"] for error in result.errors} == {"8"}
    assert project.status().targets[0].sources[0].streams[0].rows == 6


def test_a_lock_that_is_held_is_a_result(project: Project, shop: Shop, server: Server, tmp_path: Path) -> None:
    """
    Another run of the same source and target: exit code 6 and its error, not an exception.
    """
    other = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)
    results = []

    def meanwhile(event: Mapping[str, Any]) -> None:
        if event["event"] == "run_started":
            results.append(other.run("daily", **DAYS))

    assert project.run("daily", **DAYS, on_event=meanwhile).exit_code == 0
    assert results[0].exit_code == 6
    assert results[0].errors[0]["error"] == "LockHeldError"
    assert isinstance(results[0].reason, penstock.LockHeldError)


def test_a_locked_source_is_left_to_the_other_run(server: Server, tmp_path: Path) -> None:
    """
    The other sources of the pipeline are read; exit code 6, and a notice that names the locked one.
    """
    values = config(server, tmp_path)
    values["source"]["mall"] = values["source"]["shop"]
    values["pipeline"]["both"] = {"source": ["shop", "mall"], "sink": "files"}
    project = Project(values, plugins=TWO, environ={}, clock=Stopped)
    results = []

    def meanwhile(event: Mapping[str, Any]) -> None:
        if event["event"] == "run_started":
            results.append(Project(values, plugins=TWO, environ={}, clock=Stopped).run("both", **DAYS))

    project.run("daily", **DAYS, on_event=meanwhile)

    (both,) = results
    assert (both.exit_code, both.status, list(both.report["sources"]), both.errors) == (6, "locked", ["mall"], ())
    assert any(text.startswith("shop was not read: ") for text in both.notices)
    assert "another run writes shop" in both.report["locked"]["shop"]


def test_a_run_ends_when_its_event_is_set(project: Project) -> None:
    """
    From any thread: what is complete stays delivered, the result has exit code 130.
    """
    stop = threading.Event()

    result = project.run("daily", **DAYS, stop=stop, on_event=lambda event: stop.set())

    assert result.exit_code == 130


def test_the_plan_is_what_a_run_fetches(project: Project, shop: Shop) -> None:
    """
    No request; after the run it holds the days that are still open; accounts may be patterns.
    """
    before = project.plan("daily", **DAYS)
    assert (len(before.partitions), before.requests, shop.asked) == (6, 6, [])
    assert len(project.plan("daily", accounts=["8*"], **DAYS).partitions) == 3

    project.run("daily", **DAYS, accounts=["8"])

    assert {one.partition.values[0][1]: one.reason for one in project.plan("daily", **DAYS).partitions} == {
        "7": "missing",
        "8": "open",
    }


def test_check_reports_what_was_seen(project: Project, shop: Shop) -> None:
    """
    Refused credentials are a result with exit code 3.
    """
    assert project.check("shop").exit_code == 0
    shop.change = lambda shop, day, answer: SandboxResponse(status=401)

    (checked,) = project.check("shop").checked

    assert (checked.name, checked.kind, checked.exit_code) == ("shop", "source", 3)


def test_check_tries_everything_side_by_side(server: Server, tmp_path: Path) -> None:
    """
    Every source and sink of the configuration, or those of a pipeline; what is wrong with one does not hide the others.
    """
    values = config(server, tmp_path)
    values["source"]["broken"] = {"connector": "shop", "base_url": server.base_url}
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)

    everything, daily = project.check(), project.check("daily")

    assert [(one.name, one.kind, one.exit_code) for one in everything.checked] == [
        ("shop", "source", 0),
        ("broken", "source", 2),
        ("files", "target", 0),
    ]
    assert everything.exit_code == 2
    assert "source.broken.key is missing" in everything.checked[1].message
    assert [one.name for one in daily.checked] == ["shop", "files"]
    with pytest.raises(ConfigError, match="key is missing"):
        project.check("broken")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"streams": ["salse"]}, "pipeline.daily: shop has no stream 'salse'"),
        ({"exclude_streams": ["shop.x*"]}, "no stream of shop matches 'shop.x*'"),
        ({"notify": [{"url": {"env": "HOOK"}}]}, "the environment variable HOOK is not set"),
    ],
)
def test_check_reports_what_a_run_of_the_pipeline_would_refuse(
    server: Server, tmp_path: Path, wrong: dict[str, Any], named: str
) -> None:
    """
    Of the pipeline that is named, or of all; a pipeline without a fault has no line.
    """
    values = config(server, tmp_path)
    values["pipeline"]["daily"] |= wrong
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)

    for result in (project.check("daily"), project.check()):
        assert [(one.kind, one.exit_code) for one in result.checked] == [("source", 0), ("target", 0), ("pipeline", 2)]
        assert named in result.checked[-1].message
        assert result.exit_code == 2


TWO = (
    *PLUGINS[:1],
    ConnectorPlugin(
        Connector(
            name="mall",
            summary="",
            settings=Settings,
            streams=[SALES, evolve(SALES, name="visits"), evolve(SALES, name="later", on_by_default=False)],
        )
    ),
    penstock_plugins,
)


@pytest.mark.parametrize(
    ("pipeline", "options", "selected"),
    [
        pytest.param({}, {}, {"shop.sales", "mall.sales", "mall.visits"}, id="default"),
        pytest.param(
            {"streams": ["shop.sales", "mall.*"]},
            {},
            {"shop.sales", "mall.sales", "mall.visits", "mall.later"},
            id="patterns",
        ),
        pytest.param(
            {"streams": ["sales", "visits"]}, {}, {"shop.sales", "mall.sales", "mall.visits"}, id="not in all"
        ),
        pytest.param({"exclude_streams": ["mall.v*"]}, {}, {"shop.sales", "mall.sales"}, id="without"),
        pytest.param({"streams": ["*"]}, {"streams": ["mall.visits"]}, {"mall.visits"}, id="call"),
        pytest.param({}, {"exclude_streams": ["sales"]}, {"mall.visits"}, id="call without"),
    ],
)
def test_streams_are_chosen_by_source_and_pattern(
    server: Server, tmp_path: Path, pipeline: dict[str, Any], options: dict[str, Any], selected: set[str]
) -> None:
    """
    A pipeline's and a call's selection, with names of streams that only some of the sources have.
    """
    values = config(server, tmp_path)
    values["source"]["mall"] = values["source"]["shop"]
    values["pipeline"]["daily"] |= {"source": ["shop", "mall"], **pipeline}
    project = Project(values, plugins=TWO, environ={}, clock=Stopped)

    plan = project.plan("daily", **DAYS, **options)

    assert {f"{one.source}.{one.partition.stream}" for one in plan.partitions} == selected


@pytest.mark.parametrize(
    ("pipeline", "text"),
    [
        pytest.param(
            {"streams": ["shop.sale", "mall.*"]},
            "no stream of shop, mall matches 'shop.sale'. Did you mean \"shop.sales\"?",
            id="slip",
        ),
        pytest.param(
            {"streams": ["visits"]}, "no stream of shop is selected; add shop.STREAM to streams", id="source left out"
        ),
        pytest.param({"exclude_streams": ["clicks"]}, "matches 'clicks'", id="nothing to leave out"),
        pytest.param({"exclude_streams": ["m*l"]}, "matches 'm*l'. Did you mean \"m*l.*\"?", id="pattern of a source"),
        pytest.param({"streams": ["mall"]}, "matches 'mall'. Did you mean \"mall.*\"?", id="name of a source"),
    ],
)
def test_a_selection_that_misses_is_refused(
    server: Server, tmp_path: Path, pipeline: dict[str, Any], text: str
) -> None:
    """
    A pipeline's name of no stream, or a source that it would never read.
    """
    values = config(server, tmp_path)
    values["source"]["mall"] = values["source"]["shop"]
    values["pipeline"]["daily"] |= {"source": ["shop", "mall"], **pipeline}

    with pytest.raises(UsageError) as raised:
        Project(values, plugins=TWO, environ={}).plan("daily")

    assert text in str(raised.value)


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        ("2026-03-08", None, (date(2026, 3, 8), date(2026, 3, 9))),
        ("yesterday", "yesterday", (date(2026, 3, 9),) * 2),
        ("-3d", "-2d", (date(2026, 3, 7), date(2026, 3, 8))),
        ("2026-02", None, (date(2026, 2, 1), date(2026, 2, 28))),
        ("last-month", "2026-03-02", (date(2026, 2, 1), date(2026, 3, 2))),
        ("2026-01", "2026-02", (date(2026, 1, 1), date(2026, 2, 28))),
    ],
)
def test_days_have_names(project: Project, since: str, until: str | None, days: tuple[date, date]) -> None:
    """
    Relative to today in the source's zone; a month as the first day alone is the whole month.
    """
    planned = {one.partition.values[-1][1] for one in project.plan("daily", since=since, until=until).partitions}

    assert (min(planned), max(planned)) == tuple(map(str, days))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        pytest.param(lambda project: project.run("dayly"), ConfigError, 'Did you mean "daily"?', id="name"),
        pytest.param(lambda project: project.run("shop"), UsageError, "name its sink", id="no sink"),
        pytest.param(lambda project: project.read("shop", "sale"), UsageError, 'Did you mean "sales"?', id="stream"),
        pytest.param(lambda project: project.status("shopp", to="files"), UsageError, "", id="status of nothing"),
        pytest.param(lambda project: project.run("daily", streams="sales"), UsageError, "expected a list", id="text"),
        pytest.param(
            lambda project: project.plan("daily", since="yesterday", until="tomorow"), UsageError, "'tomorow'", id="day"
        ),
        pytest.param(lambda project: project.plan("daily", since="9999-12"), UsageError, "'9999-12'", id="last month"),
    ],
)
def test_usage_and_configuration_raise(project: Project, call: Any, error: type[Exception], text: str) -> None:
    """
    What cannot be done is an exception with the message of the command line.
    """
    if text:
        with pytest.raises(error, match=text.replace("?", r"\?")):
            call(project)
    else:
        assert call(project).targets[0].sources == ()


def test_a_broken_file_is_named_when_it_is_needed(tmp_path: Path) -> None:
    """
    As the command line names it, by the first method that needs it.
    """
    file = tmp_path / "penstock.toml"
    file.write_text("[source.shop\n")

    with pytest.raises(ConfigError, match="is not TOML"):
        Project(file, plugins=PLUGINS).plan("shop")


def test_threads_and_tasks_share_a_project(project: Project, tmp_path: Path) -> None:
    """
    Two runs of one project side by side, under asyncio, into different targets; signal handlers stay as they were.
    """
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]

    async def both() -> list[Any]:
        runs = (asyncio.to_thread(project.run, "shop", to=f"jsonl:{tmp_path / name}", **DAYS) for name in "ab")
        return await asyncio.gather(*runs)

    assert [one.exit_code for one in asyncio.run(both())] == [0, 0]
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_threads_meet_a_new_project(server: Server, tmp_path: Path) -> None:
    """
    Plugins and configuration are read once, whichever of several threads needs them first.
    """
    for _ in range(5):
        project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)
        together = threading.Barrier(8)

        def plan(_: int, project: Project = project, together: threading.Barrier = together) -> int:
            together.wait()
            return len(project.plan("daily", **DAYS).partitions)

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(plan, range(8))) == [6] * 8


def test_the_same_from_a_file(server: Server, tmp_path: Path) -> None:
    """
    A file's project remembers its target beside the file, as the command line does, and finds it again.
    """
    file = tmp_path / "penstock.toml"
    file.write_text(f'[source.shop]\nbase_url = "{server.base_url}"\nkey = {{ env = "KEY" }}\n')
    environ = {"KEY": "sesame-open"}

    first = Project(file, plugins=PLUGINS, environ=environ, clock=Stopped)
    assert first.run("shop", to=f"jsonl:{tmp_path / 'data'}", **DAYS).exit_code == 0

    again = Project(file, plugins=PLUGINS, environ=environ, clock=Stopped)
    assert again.status("shop").targets[0].sources[0].streams[0].rows == 6


# --- what was delivered -----------------------------------------------------------------------------------------------


def test_forget_makes_days_missing(project: Project) -> None:
    """
    Of some accounts only, if they are named.
    """
    project.run("daily", **DAYS)

    forgotten = project.forget("shop", "sales", **DAYS, accounts=["7"])

    assert [(one.target, one.partitions) for one in forgotten.targets] == [("files", 3)]
    reasons = {one.partition.values[0][1]: one.reason for one in project.plan("daily", **DAYS).partitions}
    assert reasons == {"7": "missing", "8": "open"}


def test_verify_reads_a_history_some_days_at_a_time(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    All partitions are compared, each once, and the ledger's rows of all days are never in memory together.
    """
    project.run("daily", **DAYS)
    held: list[int] = []
    entries = SqliteLedger.entries

    def counted(*arguments: Any, **options: Any) -> Any:
        found = entries(*arguments, **options)
        held.append(len(found))
        return found

    monkeypatch.setattr(SqliteLedger, "entries", counted)
    monkeypatch.setattr("penstock.project.verify.ROWS_AT_ONCE", 1)

    found = project.verify("daily")

    assert (found.partitions, found.differences) == (6, ())
    assert sum(held) == 6
    assert max(held) == 2  # a day of both accounts


def test_what_differs_from_the_ledger_is_found_and_read_again(project: Project, tmp_path: Path) -> None:
    """
    An edited file of the same size and one that is gone differ, and a repair makes exactly their days missing.
    """
    project.run("daily", **DAYS)
    assert (project.verify("daily").partitions, project.verify("daily").exit_code) == (6, 0)
    edited, gone, *_ = sorted(path for path in tmp_path.rglob("data.jsonl"))
    text = edited.read_text()
    edited.write_text(text[:-2].swapcase() + text[-2:])
    gone.unlink()

    found = project.verify("daily")
    repaired = project.verify("daily", repair=True)

    assert found.exit_code == repaired.exit_code == 1
    assert ["another content" in one.what for one in found.differences] == [True, False]
    assert "is gone" in found.differences[1].what
    assert {one.repair for one in found.differences} == {"possible"}
    assert {one.repair for one in repaired.differences} == {"marked"}
    missing = [one.partition.as_dict() for one in project.plan("daily", **DAYS).partitions if one.reason == "missing"]
    assert missing == [dict(one.partition) for one in found.differences]
    project.run("daily", **DAYS)
    assert edited.read_text() == text
    assert project.verify("daily").exit_code == 0


def test_what_the_ledger_does_not_count_is_named(project: Project, tmp_path: Path) -> None:
    """
    Files of a forgotten day, and a copy that somebody made: readers of the directory read them. None is marked.
    """
    project.run("daily", **DAYS)
    project.forget("shop", "sales", since=DAYS["since"], until=DAYS["since"], accounts=["7"])
    copied = next(path for path in sorted(tmp_path.rglob("data.jsonl")) if str(DAYS["until"]) in str(path))
    (copied.parent / "data (copy).jsonl").write_bytes(copied.read_bytes())
    of_no_day = copied.parent.with_name("by_day=2026-02-30")
    of_no_day.mkdir()
    (of_no_day / "data.jsonl").write_bytes(copied.read_bytes())

    found = project.verify("daily", repair=True)

    assert (found.partitions, found.exit_code) == (5, 1)
    assert {(one.repair, one.partition["day"]) for one in found.differences} == {
        ("uncounted", str(DAYS["since"])),
        ("uncounted", str(DAYS["until"])),
        ("uncounted", "2026-02-30"),
    }
    shutil.rmtree(of_no_day)
    assert len(project.verify("daily", since=DAYS["until"]).differences) == 1
    (copied.parent / "data (copy).jsonl").unlink()
    project.run("daily", **DAYS)
    assert project.verify("daily").exit_code == 0


def test_a_stream_that_cannot_be_looked_at_is_named(project: Project, tmp_path: Path) -> None:
    """
    It is no reason to compare nothing; the exit code is 1, and the next comparison is of all.
    """
    project.run("daily", **DAYS)
    path = min(tmp_path.rglob("data.jsonl"))
    kept = path.read_bytes()
    path.unlink()
    path.symlink_to(path.name)

    found = project.verify("daily", repair=True)

    assert (found.exit_code, found.differences) == (1, ())
    assert any(text.startswith("shop.sales was not compared: ") for text in found.notices)
    path.unlink()
    path.write_bytes(kept)
    assert project.verify("daily").exit_code == 0


def test_a_partition_whose_commit_was_interrupted_is_named_and_not_compared(project: Project, tmp_path: Path) -> None:
    """
    The ledger has its intent only; the next run settles it.
    """
    project.run("daily", **DAYS)
    (ledger,) = tmp_path.rglob("*.sqlite")
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("update partitions set state = 'intended' where rowid = (select min(rowid) from partitions)")

    found = project.verify("daily")

    assert (found.partitions, found.exit_code) == (5, 0)
    (notice,) = found.notices
    assert notice.startswith("shop.sales: 1 partition not compared: a run ended while it wrote them")


def test_deleted_days_are_named_and_not_marked(project: Project) -> None:
    """
    A day whose rows forget deleted is no difference, and a repair leaves it; once it is read again, it is compared.
    """
    project.run("daily", **DAYS)
    project.forget("shop", "sales", since=DAYS["since"], until=DAYS["since"], rows=True)

    found = project.verify("daily", repair=True)

    assert (found.exit_code, found.differences) == (0, ())
    assert {str(DAYS["since"]) in one.partition.values() for one in found.deleted} == {True}
    assert all(one.rows > 0 for one in found.deleted)
    assert project.verify("daily", since=DAYS["until"]).deleted == ()
    project.run("daily", **DAYS)
    assert project.verify("daily").deleted == ()


def test_a_sink_older_than_a_bound_is_asked_without_it(
    project: Project, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A target whose verify takes no days, and a ledger whose restatements cannot be bounded, give the same result.
    """
    verify, restated = FileTarget.verify, SqliteLedger.restated
    monkeypatch.setattr(FileTarget, "verify", lambda self, stream, entries: verify(self, stream, entries))
    monkeypatch.setattr(SqliteLedger, "restated", lambda self, source=None, *, since=None: restated(self, source))
    project.run("daily", **DAYS)
    shop.change = lambda shop, day, answer: {"sales": answer["sales"][:1], "total": 1}
    project.run("daily", **DAYS)
    assert project.changes(since=FIRST).changes
    project.forget("shop", "sales", since=LAST, until=LAST)
    counted = project.forget("shop", "sales", since=FIRST, until=FIRST, accounts=["7"], rows=True)

    found = project.verify("daily")

    assert [one.partitions for one in counted.targets] == [1]
    assert [one.partition for one in found.deleted] == [{"shop_id": "7", "day": str(FIRST)}]
    assert {one.partition["day"] for one in found.differences} == {str(LAST)}


def test_days_deleted_by_other_means_are_lost_until_they_are_forgotten(project: Project, tmp_path: Path) -> None:
    """
    Nothing says who deleted them: they differ, and a repair would mark them. After forget they are compared no more.
    """
    project.run("daily", **DAYS)
    gone = next(path for path in sorted(tmp_path.rglob("data.jsonl")) if str(DAYS["since"]) in str(path))
    gone.unlink()
    assert [one.repair for one in project.verify("daily").differences] == ["possible"]

    account = gone.parents[1].name.removeprefix("by_shop_id=")
    project.forget("shop", "sales", since=DAYS["since"], until=DAYS["since"], accounts=[account])

    found = project.verify("daily", repair=True)
    assert (found.exit_code, found.differences) == (0, ())


def test_rejected_records_are_values(project: Project, shop: Shop) -> None:
    """
    With stream, partition, path, reason and the record.
    """
    shop.change = lambda shop, day, answer: {
        "sales": [{**answer["sales"][0], "id": None}, answer["sales"][1]],
        "total": 2,
    }
    project.run("daily", since=LAST, until=LAST, accounts=["7"])

    (one,) = project.rejected("shop").rejected

    assert (one.stream, one.partition, one.path) == ("sales", {"shop_id": "7", "day": "2026-03-09"}, "$.sales[0].id")
    assert json.loads(one.raw)["price"] == "150"


def test_changes_sum_up_the_runs_since_a_day(project: Project, shop: Shop) -> None:
    """
    Rows and sums before the first change and after the last; a day that is back where it began is left out. The
    target stamps changes with its own clock.
    """
    project.run("daily", **DAYS)
    prices = {"2026-03-07": "175", "2026-03-08": "160"}

    def restate(shop: str, day: str, answer: dict[str, Any]) -> dict[str, Any]:
        if shop == "7" and day in prices:
            answer["sales"][0]["price"] = prices[day]
        if shop == "8" and day == "2026-03-09":
            return {"sales": answer["sales"][:1], "total": 1}
        return answer

    shop.change = restate
    project.run("daily", **DAYS)
    prices["2026-03-07"], prices["2026-03-08"] = "200", "150"
    project.run("daily", **DAYS)

    first, last = project.changes("shop", since=date(2000, 1, 1)).changes

    assert (first.account, first.day, first.rows_before, first.rows_after) == ({"shop_id": "7"}, FIRST, 2, 2)
    assert first.sums == {"price_amount": (Decimal("3.00"), Decimal("3.50"))}
    assert len(first.runs) == 2
    assert (last.account, last.rows_before, last.rows_after) == ({"shop_id": "8"}, 2, 1)
    assert project.changes("shop", since=date(2999, 1, 1)).changes == ()
    each = project.changes("shop", since=date(2000, 1, 1), merged=False).changes
    assert [(one.day, *one.sums["price_amount"]) for one in each if one.account == {"shop_id": "7"}] == [
        (FIRST, Decimal("3.00"), Decimal("3.25")),
        (FIRST, Decimal("3.25"), Decimal("3.50")),
        (FIRST + timedelta(days=1), Decimal("3.00"), Decimal("3.10")),
        (FIRST + timedelta(days=1), Decimal("3.10"), Decimal("3.00")),
    ]


def test_a_month_that_is_over_and_changed_is_a_problem(project: Project, shop: Shop) -> None:
    """
    By stream and month, with what moved: it may have been invoiced. A change of this month is none, and neither is one
    that leaves rows and sums as they were.
    """
    february = {"since": date(2026, 2, 26), "until": LAST}
    project.run("daily", **february)
    assert project.status("daily").targets[0].problems == ()

    def restate(shop: str, day: str, answer: dict[str, Any]) -> dict[str, Any]:
        if day in ("2026-02-27", "2026-02-28", "2026-03-01"):
            answer["sales"][0]["price"] = "175"
        if day == "2026-02-26":
            answer["sales"][0]["lines"] = []
        return answer

    shop.change = restate
    project.run("daily", **february)

    (problem,) = project.status("daily").targets[0].problems

    assert (problem.kind, problem.stream, problem.count) == ("restated", "sales", 4)
    assert (problem.first_day, problem.last_day) == (date(2026, 2, 27), date(2026, 2, 28))
    assert problem.reason == "2026-02 is over, and the provider restated it: 2 accounts, price_amount 12.00 -> 13.00"


def test_the_problems_of_accounts_are_theirs(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    Of a source that has none of the accounts, nothing is shown; a pause concerns each of its accounts, a restated month
    and a new member those only that have them.
    """
    project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)
    february = {"since": date(2026, 2, 27), "until": date(2026, 2, 28)}
    project.run("daily", **february)

    def restate(shop: str, day: str, answer: dict[str, Any]) -> Any:
        if shop == "8":
            return SandboxResponse(status=429, headers={"Retry-After": "36000"})
        answer["sales"][0] |= {"price": "175", "colour": "red"}
        return answer

    shop.change = restate
    later = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=AnHourLater)
    later.run("daily", **february)

    def kinds(*accounts: str) -> set[str]:
        (target,) = later.status("daily", accounts=accounts).targets
        return {one.kind for one in target.problems}

    assert kinds() == kinds("7") == {"parked", "restated", "new"}
    assert kinds("8") == {"parked", "new"}
    assert kinds("9") == set()
    assert later.status("daily", accounts=["9"]).targets[0].sources == ()


def test_status_has_the_requests_of_this_months_runs(project: Project) -> None:
    """
    Of all runs of the source into the target that started in this calendar month.
    """
    project.run("daily", **DAYS)
    project.run("daily", **DAYS)

    (source,) = project.status("daily").targets[0].sources
    assert source.requests_this_month == 12


def test_a_member_without_a_column_is_a_problem_while_it_is_new(project: Project, shop: Shop) -> None:
    """
    For a week: afterwards it is known, though each run reports it.
    """

    def grown(shop: str, day: str, answer: dict[str, Any]) -> dict[str, Any]:
        answer["sales"][0]["colour"] = "red"
        return answer

    class Later(Clock):
        def now(self) -> datetime:
            return NOW + timedelta(days=8)

    shop.change = grown
    project.run("daily", since=LAST, until=LAST)

    (problem,) = project.status("daily").targets[0].problems

    assert (problem.kind, problem.stream, problem.count) == ("new", "sales", 1)
    assert problem.reason == "no column holds the member colour"
    project._clock = Later
    project.run("daily", since=LAST, until=LAST)
    assert project.status("daily").targets[0].problems == ()


def test_runs_are_listed_newest_first(project: Project) -> None:
    """
    With the report of each.
    """
    first, second = project.run("daily", **DAYS), project.run("daily", **DAYS)

    runs = project.runs("shop").runs

    assert {one.run_id for one in runs} == {first.run_id, second.run_id}
    assert [one.records for one in runs] == [12, 12]
    assert runs[0].report["streams"]["sales"]["partitions"]["delivered"] == 6


def test_a_runs_record_is_its_sources_own(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    Of a run of two sources, the one that failed is recorded with exit code 1 and its errors, the other with 0.
    """
    values = config(server, tmp_path)
    values["source"]["mall"] = {**values["source"]["shop"], "shop_ids": ["9"]}
    values["pipeline"]["daily"]["source"] = ["shop", "mall"]
    shop.change = lambda shop, day, answer: SandboxResponse(status=404) if shop == "9" else answer
    project = Project(values, plugins=TWO, environ={}, clock=Stopped)
    assert project.run("daily", **DAYS, streams=["sales"]).exit_code == 1

    by_source = {one.source: one for one in project.runs().runs}

    assert {name: one.exit_code for name, one in by_source.items()} == {"shop": 0, "mall": 1}
    assert by_source["shop"].report["errors"] == []
    assert (by_source["mall"].failed, by_source["mall"].requests) == (3, 3)
    assert by_source["mall"].report["errors"][0]["error"] == "RefusedError"


def test_status_names_what_needs_attention(project: Project, shop: Shop, server: Server, tmp_path: Path) -> None:
    """
    Failed days by reason, gaps, records set aside, accounts that were not read; with days and the last good reading.
    """
    project.run("daily", **DAYS)
    shop.change = lambda shop, day, answer: (
        SandboxResponse(status=404) if shop == "8" else without_id(shop, day, answer)
    )
    project.run("daily", since=LAST, until=LAST)
    project.run("daily", since=date(2026, 3, 1), until=date(2026, 3, 1), accounts=["7"])

    (target,) = project.status().targets
    found = {(one.account["shop_id"], one.kind): one for one in target.problems}

    assert set(found) == {("7", "missing"), ("7", "set aside"), ("8", "failed")}
    failed = found["8", "failed"]
    assert (failed.count, failed.first_day, failed.last_day, failed.last_read) == (1, LAST, LAST, NOW)
    assert "8" not in failed.reason.replace("HTTP", "")
    assert (found["7", "set aside"].count, found["7", "missing"].count) == (2, 5)


def test_status_counts_what_another_reader_set_aside(project: Project, shop: Shop, tmp_path: Path) -> None:
    """
    A day with records that an older record class or connector version set aside is read again: status says how many.
    """
    shop.change = without_id
    project.run("daily", since=LAST, until=LAST)
    before = project.status().targets[0].sources[0].changed
    (path,) = tmp_path.rglob("ledger.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("update partitions set read_by = 'an older one' where rejected > 0")
    connection.close()

    assert before == {}
    assert project.status().targets[0].sources[0].changed == {"sales": 2}
    assert {one.reason for one in project.plan("daily", since=LAST, until=LAST).partitions} == {"changed"}


def test_status_names_truncated_days(project: Project, tmp_path: Path) -> None:
    """
    A day that a ceiling of the provider cut stays visible when it is final: there may be more records.
    """
    project.run("daily", since=FIRST, until=LAST)
    (path,) = tmp_path.rglob("ledger.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("update partitions set truncated = 1 where account = '7' and day = ?", (str(LAST),))
    connection.close()

    (target,) = project.status().targets

    assert {one.account["shop_id"]: one.truncated for one in target.sources[0].streams} == {"7": 1, "8": 0}
    assert [(one.kind, one.count, one.first_day) for one in target.problems] == [("truncated", 1, LAST)]


def test_an_account_that_left_the_configuration_does_not_age(server: Server, tmp_path: Path) -> None:
    """
    It is marked, and the exit code for old data is that of the others.
    """
    values = config(server, tmp_path)
    Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", **DAYS)
    values["source"]["shop"]["shop_ids"] = ["7"]

    class Tomorrow(Clock):
        def now(self) -> datetime:
            return NOW + timedelta(days=1)

    project = Project(values, plugins=PLUGINS, environ={}, clock=Tomorrow)
    late = project.status(max_age_s=3600)

    accounts = {one.account["shop_id"]: one for one in late.targets[0].sources[0].streams}
    assert {name: (one.configured, one.overdue) for name, one in accounts.items()} == {
        "7": (True, True),
        "8": (False, False),
    }
    assert (late.exit_code, project.status(max_age_s=2 * 86400).exit_code) == (1, 0)
    assert [one.kind for one in late.targets[0].problems] == ["overdue"]


def test_what_left_the_configuration_needs_no_attention(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    An account that was failing is left out of the source on purpose; a source that went is marked, and does not age.
    """
    values = config(server, tmp_path)
    shop.change = lambda shop, day, answer: SandboxResponse(status=403) if shop == "8" else answer
    Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", **DAYS)
    values["source"]["shop"]["shop_ids"] = ["7"]

    left = Project(values, plugins=PLUGINS, environ={}, clock=Stopped).status().targets[0]

    assert {one.account["shop_id"]: one.configured for one in left.sources[0].streams} == {"7": True, "8": False}
    assert left.problems == ()

    values["source"]["store"] = {**values["source"].pop("shop"), "connector": "shop"}
    values["pipeline"]["daily"]["source"] = "store"
    renamed = Project(values, plugins=PLUGINS, environ={}, clock=AnHourLater)
    (target,) = renamed.status(max_age_s=60).targets
    assert [(one.source, one.configured) for one in target.sources] == [("shop", False)]
    assert {one.configured for one in target.sources[0].streams} == {False}
    assert [(one.kind, one.source, one.reason) for one in target.problems] == [
        ("overdue", "store", "never read into this target")
    ]


def test_a_source_that_was_never_read_is_overdue(server: Server, tmp_path: Path) -> None:
    """
    Of a pipeline, as of all; a source that is in no pipeline is expected nowhere.
    """
    values = config(server, tmp_path)
    Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", **DAYS)
    values["source"] |= {name: {**values["source"]["shop"], "connector": "shop"} for name in ("new", "spare")}
    values["pipeline"]["daily"]["source"] = ["shop", "new"]
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)

    for result in (project.status(max_age_s=86400), project.status("daily", max_age_s=86400)):
        assert result.exit_code == 1
        assert [(one.kind, one.source) for one in result.targets[0].problems] == [("overdue", "new")]
    assert project.status().exit_code == 0


def test_partitions_are_the_rows_of_the_ledger(project: Project, shop: Shop) -> None:
    """
    State, counts and sums of each account's day; a day whose last try failed keeps those of its last good reading.
    """
    project.run("daily", **DAYS)
    shop.change = lambda shop, day, answer: {**answer, "total": 5} if (shop, day) == ("8", "2026-03-09") else answer
    project.run("daily", **DAYS)

    found = project.partitions().partitions
    chosen = project.partitions("shop", since=LAST, accounts=["8"]).partitions

    assert [(one.account["shop_id"], one.day) for one in found] == [
        (shop, FIRST + timedelta(days=number)) for shop in ("7", "8") for number in range(3)
    ]
    assert {one.standing for one in found[:-1]} == {"open"}
    assert chosen == found[-1:]
    assert (chosen[0].standing, chosen[0].rows, chosen[0].attempts) == ("failed", 2, 1)
    assert chosen[0].sums == {"price_amount": Decimal("3.00")}
    assert "5" in (chosen[0].error or "")


def test_totals_are_sums_by_account_and_period(project: Project) -> None:
    """
    From the ledger, exact, per month or day.
    """
    project.run("daily", **DAYS)

    months = project.totals().totals
    days = project.totals(since=LAST, daily=True, accounts=["7"]).totals

    assert [(one.account["shop_id"], one.period, one.rows, one.sums) for one in months] == [
        ("7", "2026-03", 6, {"price_amount": Decimal("9.00")}),
        ("8", "2026-03", 6, {"price_amount": Decimal("9.00")}),
    ]
    assert [(one.period, one.rows) for one in days] == [("2026-03-09", 2)]


def test_a_target_that_is_down_does_not_hide_the_others(server: Server, tmp_path: Path) -> None:
    """
    Status shows the healthy one, names the other and has exit code 1.
    """
    values = config(server, tmp_path)
    values["sink"]["gone"] = {"kind": "csv", "path": str(tmp_path / "csv")}
    values["pipeline"]["weekly"] = {"source": "shop", "sink": "gone"}
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)
    project.run("daily", **DAYS)
    project.run("weekly", **DAYS)
    ledger = next((tmp_path / "csv" / ".penstock").glob("*.sqlite*"))
    ledger.write_bytes(b"no database at all, but a text")

    result = project.status()

    assert result.exit_code == 1
    assert {one.target: one.error is None for one in result.targets} == {"files": True, "gone": False}
    assert any("the target gone cannot be read" in text for text in result.notices)
    assert project.rejected().exit_code == 1
    verified = project.verify()
    assert (verified.exit_code, verified.partitions, verified.differences) == (1, 6, ())
    forgotten = project.forget("shop", "sales", since=DAYS["since"], until=DAYS["since"])
    assert forgotten.exit_code == 1
    assert [(one.target, one.partitions) for one in forgotten.targets] == [("files", 2)]
    assert any("the target gone was left out" in text for text in (*verified.notices, *forgotten.notices))
    with pytest.raises(TargetError):
        project.forget("shop", "sales", to="gone", since=DAYS["since"], until=DAYS["since"])
    planned = project.plan("shop", **DAYS)
    assert (planned.target, planned.exit_code) == ("files", 1)
    assert any("the target gone cannot be read" in text for text in planned.notices)
    with pytest.raises(TargetError):
        project.plan("weekly", **DAYS)


def test_the_error_about_a_remembered_target_does_not_name_an_option(server: Server, tmp_path: Path) -> None:
    """
    A sink that left the configuration was remembered by an earlier run; nobody gave --to.
    """
    source = f'[source.shop]\nbase_url = "{server.base_url}"\nkey = "sesame-open"\n'
    file = tmp_path / "penstock.toml"
    file.write_text(f'{source}[sink.files]\nkind = "jsonl"\npath = "{tmp_path / "data"}"\n')
    Project(file, plugins=PLUGINS, environ={}, clock=Stopped).run("shop", to="files", **DAYS)
    file.write_text(source)

    with pytest.raises(ConfigError, match=r"^sink 'files': expected "):
        Project(file, plugins=PLUGINS, environ={}, clock=Stopped).plan("shop", **DAYS)


@pytest.mark.parametrize("known", [True, False], ids=["one address", "no address"])
def test_two_names_of_one_target_are_one_to_forget(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """
    The lock of a place excludes other runs, not another name of the place, also where the sink states no address.
    """
    if not known:
        monkeypatch.delattr(FileSink, "address")
    values = config(server, tmp_path)
    (tmp_path / "link").symlink_to(values["sink"]["files"]["path"])
    values["sink"]["alias"] = {"kind": "jsonl", "path": str(tmp_path / "link")}
    values["pipeline"]["weekly"] = {"source": "shop", "sink": "alias"}
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)
    project.run("daily", **DAYS)
    project.run("weekly", **DAYS)

    found = project.forget("shop", "sales", **DAYS, rows=True)

    assert (found.exit_code, [one.partitions for one in found.targets]) == (0, [6])
    assert any("are one target" in text for text in found.notices) is not known
    assert not [*tmp_path.rglob("data.jsonl")]


def test_two_names_of_one_target_are_shown_once(server: Server, tmp_path: Path) -> None:
    """
    A sink of the configuration, and its path: what was delivered is counted once, under the sink's name.
    """
    values = config(server, tmp_path)
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)
    project.run("daily", **DAYS)
    project.run("shop", to=f"jsonl:{values['sink']['files']['path']}", **DAYS)

    status, totals = project.status(), project.totals()

    assert [target.target for target in status.targets] == ["files"]
    assert [source.source for source in status.targets[0].sources] == ["shop"]
    assert {(total.target, total.rows) for total in totals.totals} == {("files", 6)}


def test_a_single_file_keeps_no_ledger(server: Server, tmp_path: Path) -> None:
    """
    ``status`` names that, in place of nothing delivered, and no age is demanded of it; ``verify`` has nothing to
    compare.
    """
    values = config(server, tmp_path)
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)
    file = f"jsonl:{tmp_path / 'sales.jsonl'}"
    assert project.run("shop", to=file, **DAYS).exit_code == 0

    status = project.status("shop", to=file, max_age_s=1.0)
    with pytest.raises(UsageError, match=r"keeps no ledger.*nothing to compare"):
        project.verify("shop", to=file)
    project.run("daily", **DAYS)
    both = project.verify("shop")

    (target,) = status.targets
    assert (target.keeps_ledger, target.sources, status.exit_code) == (False, (), 0)
    assert [text for text in status.notices if "keeps no ledger" in text]
    assert (both.exit_code, both.partitions) == (0, 6)
    assert [text for text in both.notices if "keeps no ledger" in text]


@pytest.mark.parametrize(
    ("method", "key", "more"),
    [
        ("run", "streams", {"to": "files"}),
        ("run", "exclude_streams", {"to": "files"}),
        ("run", "accounts", {"to": "files"}),
        ("plan", "streams", {}),
        ("plan", "accounts", {}),
        ("layouts", "streams", {}),
        ("status", "accounts", {}),
        ("totals", "accounts", {}),
        ("verify", "accounts", {}),
    ],
)
def test_a_text_in_place_of_a_list_is_refused(
    server: Server, tmp_path: Path, method: str, key: str, more: dict[str, Any]
) -> None:
    """
    With the name of the argument: each letter of the text would be a name.
    """
    project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)
    project.run("daily", **DAYS)

    with pytest.raises(UsageError, match=rf"^{key}: found the text 'sales', expected a list of names: \['sales'\]"):
        getattr(project, method)("shop", **{key: "sales"}, **more)


def test_a_target_with_the_former_name_of_prepare_is_named(server: Server, tmp_path: Path) -> None:
    """
    A target of an older plugin has ``check(layouts)``, which nothing calls: the run goes on with a notice.
    """

    class Former(MemoryTarget):
        def check(self, layouts: Any) -> None:
            raise AssertionError("not called")

    class FormerSink(MemorySink):
        def open(self, source: str, run_id: str, streams: Any = ()) -> MemoryTarget:
            return Former(self, None)

    project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)
    found = project.run("shop", to=FormerSink(None), **DAYS)

    assert found.exit_code == 0
    assert [text for text in found.notices if "rename it to prepare(layouts)" in text]


@pytest.mark.parametrize(
    ("exit_code", "outcome"),
    [(0, "success"), (1, "retry"), (3, "failure"), (4, "retry"), (5, "failure"), (6, "skip"), (130, "failure")],
)
def test_an_exit_code_is_an_outcome_for_a_scheduler(exit_code: int, outcome: str) -> None:
    """
    Another try is worth it only where it can read what is missing.
    """
    assert RunResult(exit_code=exit_code, status="", run_id=None, report={}).outcome == outcome


# --- read -------------------------------------------------------------------------------------------------------------


def test_read_yields_typed_records(project: Project, tmp_path: Path) -> None:
    """
    Objects and mappings with exact decimals, days and plain nested parts; no target, nothing remembered.
    """
    records = project.read("shop", "sales", since=LAST, until=LAST)

    rows = sorted(records.rows(), key=lambda row: row.id)
    assert len(rows) == 4
    assert (rows[0].shop_id, rows[0].day, rows[0].price_amount) == ("7", LAST, Decimal("1.50"))
    assert rows[0].lines == [{"sku": "a", "tax": Decimal("0.1")}]
    mapping = min(records.dicts(), key=lambda row: row["id"])
    assert mapping == {
        "shop_id": "7",
        "day": LAST,
        "id": "7-2026-03-09-1",
        "price": "150",
        "price_amount": Decimal("1.50"),
        "lines": [{"sku": "a", "tax": Decimal("0.1")}],
        "_extra": None,
    }
    assert [column.name for column in records.layout.columns] == list(mapping)
    assert records.report is not None
    assert records.report.exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_read_takes_accounts_and_reads_anew(project: Project, shop: Shop) -> None:
    """
    Each iteration asks the provider again, for the accounts that match.
    """
    records = project.read("shop", "sales", since=LAST, until=LAST, accounts=["8"])

    assert [len(batch) for batch in records] == [2]
    assert [len(batch) for batch in records] == [2]
    assert shop.asked == ["8 2026-03-09"] * 2


def test_read_raises_where_the_counts_disagree(project: Project, shop: Shop) -> None:
    """
    A partition that does not add up yields no row, and ends the iteration with the error of the run.
    """
    shop.change = lambda shop, day, answer: {**answer, "total": 3} if (shop, day) == ("8", "2026-03-08") else answer
    seen: list[str] = []

    with pytest.raises(CountMismatchError, match=r"states 3 records and 2 arrived\. It was read 6 times\."):
        seen.extend(row.id for row in project.read("shop", "sales", **DAYS).rows())

    assert not [one for one in seen if one.startswith("8-2026-03-08")]
    assert len(seen) == len(set(seen))


def test_a_page_that_is_read_again_is_yielded_once(project: Project, shop: Shop) -> None:
    """
    The first answer does not add up, the second does: its rows only.
    """
    answers = iter([3])
    shop.change = lambda shop, day, answer: {**answer, "total": next(answers, 2)}

    rows = list(project.read("shop", "sales", since=LAST, until=LAST, accounts=["7"]).rows())

    assert [row.id for row in rows] == ["7-2026-03-09-1", "7-2026-03-09-2"]
    assert len(shop.asked) == 2


def test_read_refuses_to_lose_a_record(project: Project, shop: Shop) -> None:
    """
    A record that cannot be decoded raises after the last batch, unless that is allowed; it is listed either way.
    """
    shop.change = lambda shop, day, answer: {
        "sales": [{**answer["sales"][0], "id": None}, answer["sales"][1]],
        "total": 2,
    }
    options: dict[str, Any] = {"since": LAST, "until": LAST, "accounts": ["7"]}
    records = project.read("shop", "sales", **options)
    seen = []

    with pytest.raises(RejectedRecordsError, match=r"shop\.sales: 1 records? could not be decoded"):
        seen.extend(records.rows())

    assert (len(seen), [one.path for one in records.rejected]) == (1, ["$.sales[0].id"])
    assert len(list(project.read("shop", "sales", **options, allow_rejected=True).rows())) == 1


def test_read_raises_the_providers_error(project: Project, shop: Shop) -> None:
    """
    Refused credentials are the error of the provider, before any row.
    """
    shop.change = lambda shop, day, answer: SandboxResponse(status=401)

    with pytest.raises(AuthenticationError):
        next(iter(project.read("shop", "sales", **DAYS)))


def test_a_read_that_is_left_early_ends(project: Project, shop: Shop) -> None:
    """
    Its thread is gone, and the provider gets no further request.
    """
    batches = iter(project.read("shop", "sales", since=date(2026, 1, 1), until=LAST))
    next(batches)
    batches.close()  # type: ignore[attr-defined]

    assert [one.name for one in threading.enumerate() if one.name.startswith("read ")] == []
    assert len(shop.asked) < 68 * 2


# --- notifications, deleting rows, the schema -------------------------------------------------------------------------


class Inbox:
    """Receives what is posted; answers with ``status``."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.status = 200

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        self.messages.append(json.loads(request.body))
        return SandboxResponse(status=self.status)


@pytest.mark.parametrize(
    ("on", "status", "sent"),
    [
        (["failed"], 200, []),
        (["failed"], 404, ["failed"]),
        (["delivered"], 200, ["delivered"]),
        (["always"], 404, ["failed"]),
        (["failed"], 401, ["refused"]),
        (["rejected", "locked"], 404, []),
    ],
)
def test_the_end_of_a_run_is_sent(
    server: Server, shop: Shop, tmp_path: Path, on: list[str], status: int, sent: list[str]
) -> None:
    """
    One JSON, with the reasons in words, to the receivers that asked for what happened.
    """
    inbox = Inbox()
    if status != 200:
        shop.change = lambda shop, day, answer: SandboxResponse(status=status)
    with serve(inbox) as receiver:
        values = config(server, tmp_path)
        values["pipeline"]["daily"]["notify"] = [{"url": receiver.base_url, "on": on}]
        result = Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", **DAYS)

    assert [one["status"] for one in inbox.messages] == sent
    assert result.notices == ()
    for message in inbox.messages:
        assert message["text"].startswith(f"penstock daily: {result.summary}")
        assert (message["run_id"], message["exit_code"]) == (result.run_id, result.exit_code)
        assert len(message["errors"]) == len(result.errors)
        reasons = {without_place(error["message"]) for error in result.errors}
        assert len(message["text"].splitlines()) == 1 + len(reasons), "a line for each reason, not for each stream"


def test_a_message_has_the_command_that_lists_what_was_restated(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    With the day of the run: whoever reads the message a week later sees the same.
    """
    inbox = Inbox()
    values = config(server, tmp_path)
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)
    project.run("daily", **DAYS)

    def restate(shop: str, day: str, answer: dict[str, Any]) -> dict[str, Any]:
        answer["sales"][0]["price"] = "175"
        return answer

    shop.change = restate
    with serve(inbox) as receiver:
        values["pipeline"]["daily"]["notify"] = [{"url": receiver.base_url, "on": ["restated"]}]
        Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", **DAYS)

    (message,) = inbox.messages
    assert message["restated"] > 0
    assert message["text"].endswith(f"restated: penstock changes daily --since {NOW.date()}")


@pytest.mark.parametrize("status", [*RunReport.STATUS.values(), "parked", "closed", "not started"])
def test_every_status_is_an_occasion(status: str) -> None:
    """
    A receiver can name each way in which a run may end, and a run that did not fail is not reported as failed.
    """
    occasions = get_args(Occasion)

    assert OCCASIONS[status] in occasions
    assert (OCCASIONS[status] == "failed") == (status in ("failed", "refused", "interrupted", "not started"))


def test_a_parked_source_is_a_problem_until_it_runs_again(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    Named once for the source, with what the provider demanded; a later run that is answered ends it.
    """
    project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)
    shop.change = lambda shop, day, answer: SandboxResponse(status=429, headers={"Retry-After": "36000"})
    assert project.run("daily", **DAYS).exit_code == 4
    (target,) = project.status("daily").targets
    parked = [one for one in target.problems if one.kind == "parked"]
    shop.change = lambda shop, day, answer: answer
    later = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=AnHourLater)
    assert later.run("daily", **DAYS).exit_code == 0

    assert [(one.source, one.stream, one.account) for one in parked] == [("shop", "", {})]
    assert parked[0].reason.startswith("no request before 2026-03-10 18:00:00 UTC, a wait longer than throttle")
    assert project.status("daily").targets[0].problems == ()


def test_a_receiver_is_never_the_reason_for_a_failed_run(server: Server, tmp_path: Path) -> None:
    """
    A refused address, a command that fails and one that is absent are notices; a command gets the JSON, by a template.
    """
    inbox = Inbox()
    inbox.status = 500
    out = tmp_path / "out.json"
    with serve(inbox) as receiver:
        values = config(server, tmp_path)
        values["pipeline"]["daily"]["notify"] = [
            {"url": {"env": "HOOK"}, "on": ["always"]},
            {"command": "false", "on": ["always"]},
            {"command": "no-such-command", "on": ["always"]},
            {"command": f"{sys.executable} {tmp_path / 'prints.py'}", "on": ["always"]},
            {"command": f"dd of={out}", "on": ["delivered"], "template": '{"content": "$text"}'},
            {"command": f"dd of={out}", "on": ["delivered"], "template": "$nothing"},
        ]
        environ = {"HOOK": f"{receiver.base_url}/token-9f3c"}
        # The end that is shown begins inside of the secret.
        (tmp_path / "prints.py").write_text(f"raise SystemExit({environ['HOOK'] + '.' * 190!r})")
        result = Project(values, plugins=PLUGINS, environ=environ, clock=Stopped).run("daily", **DAYS)

    assert (result.exit_code, len(inbox.messages)) == (0, 1)
    assert len(result.notices) == 5
    assert result.unsent == result.notices
    assert all("pipeline.daily.notify" in text for text in result.notices)
    assert "9f3c" not in "".join(result.notices)
    assert any(f"***{'.' * 190}" in text for text in result.notices)
    assert json.loads(out.read_text()) == {"content": f"penstock daily: {result.summary}"}


def test_a_receiver_is_checked_before_the_run(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    Unknown keys and occasions are errors of the configuration, with their places.
    """
    values = config(server, tmp_path)
    values["pipeline"]["daily"]["notify"] = [{"url": "https://x.example", "on": ["sometimes"]}, {"comand": "true"}]

    with pytest.raises(ConfigError) as raised:
        Project(values, plugins=PLUGINS, environ={}).run("daily", **DAYS)

    assert "pipeline.daily.notify[0].on" in raised.value.problems[0]
    assert 'notify[1].comand: unknown key. Did you mean "command"?' in raised.value.problems[1]
    assert shop.asked == []


def test_rows_are_deleted_with_their_readings(project: Project, tmp_path: Path) -> None:
    """
    Files and ledger, of some accounts without days, or of some days; the next run reads them again. That is no
    restatement: the provider changed nothing.
    """
    project.run("daily", **DAYS)
    assert len(list(tmp_path.rglob("data.jsonl"))) == 6

    counted = project.forget("shop", "sales", accounts=["8"], rows=True, dry_run=True)
    assert [one.partitions for one in counted.targets] == [3]
    assert len(list(tmp_path.rglob("data.jsonl"))) == 6

    project.forget("shop", "sales", accounts=["8"], rows=True)
    project.forget("shop", "sales", since=LAST, until=LAST, rows=True)

    left = project.status().targets[0].sources[0].streams
    assert [(one.account["shop_id"], one.rows) for one in left] == [("7", 4)]
    assert len(list(tmp_path.rglob("data.jsonl"))) == 2
    assert project.changes(since=FIRST).changes == ()
    assert project.run("daily", **DAYS).exit_code == 0
    assert len(list(tmp_path.rglob("data.jsonl"))) == 6


def test_a_plan_knows_how_long_its_requests_take(server: Server, tmp_path: Path) -> None:
    """
    At the configured pace of the slowest source; without a pace, nobody knows.
    """
    values = config(server, tmp_path)
    assert Project(values, plugins=PLUGINS, environ={}, clock=Stopped).plan("daily", **DAYS).seconds is None
    values["source"]["shop"]["requests_per_second"] = 0.1

    plan = Project(values, plugins=PLUGINS, environ={}, clock=Stopped).plan("daily", **DAYS)

    assert (plan.requests_of, plan.seconds) == ({"shop": 6}, 60.0)


def test_a_source_that_ran_is_found_without_those_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A target of a thousand sources: which of them it has is not read once for each of them.
    """
    sink = MemorySink(tmp_path / "ledger.sqlite")
    now = datetime(2026, 3, 1, tzinfo=UTC)
    target = sink.open("a", "r1")
    for source in "abc":
        target.ledger.record_run(RunRecord(run_id="r1", source=source, started_at=now, finished_at=now, exit_code=0))
    target.close()
    read: list[int] = []
    monkeypatch.setattr(SqliteLedger, "sources", lambda ledger: read.append(1) or ())
    with ledgers(Viewed(sink=SimpleNamespace(open=lambda: sink, shown="x"), sources=["a", "b", "c"])) as found:
        assert [one.source for one in found] == ["a", "b", "c"]
    assert not read
