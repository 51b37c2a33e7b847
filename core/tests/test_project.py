"""
The Python API: runs, plans and checks, selections of streams and days, what it raises, threads.
"""

import asyncio
import re
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import penstock
import penstock_plugins
import pytest
from attrs import evolve, exceptions, frozen
from penstock import ConfigError, Connector, Project, SandboxResponse, UsageError, known_filters, setting
from penstock.connector import ConnectorPlugin
from penstock.sandbox.server import Server
from penstock.testing.memory import MemorySink
from project_shop import DAYS, FIRST, LAST, PLUGINS, SALES, TWO, Settings, Shop, Stopped, config

pytestmark = pytest.mark.slow


def test_a_run_is_a_frozen_result(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Exit code, report and errors as values; nothing is printed, nothing but the target is written.
    """
    result = project.run("daily", **DAYS)

    assert (result.exit_code, result.status, result.errors, result.error) == (0, "delivered", (), None)
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
    assert [one.stream for one in project.layouts("shop", ["*"])] == ["sales"]
    with pytest.raises(UsageError, match="sails"):
        project.layouts("shop", ["sails"])


def test_keys_of_a_source_may_come_from_elsewhere(project: Project, shop: Shop) -> None:
    """
    Values that are passed replace those of the configuration, a text is parsed as the type of its key, None changes
    nothing, and the project that they are put over stays as it is. Further columns are left out besides the configured
    ones.
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
    Events reach the callback in order, from the start of the run to its end.
    """
    events: list[Mapping[str, Any]] = []

    project.run("daily", **DAYS, on_event=events.append)

    assert [events[0]["event"], events[-1]["event"]] == ["run_started", "run_finished"]
    assert sum(event["event"] == "partition_delivered" for event in events) == 6


def test_a_callback_that_raises_changes_nothing(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    """
    A callback that raises at any event changes nothing: the run and the read deliver all, and one warning names the
    callback and its line.
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


def test_a_failure_during_a_run_is_in_its_result(project: Project, shop: Shop) -> None:
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
    assert isinstance(results[0].error, penstock.LockHeldError)


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


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"key": {"env": "ABSENT"}}, "source.mall.key: the environment variable ABSENT is not set; set it"),
        ({"key": {"file": "absent"}}, "cannot be read: No such file or directory; create it, or correct its path"),
        ({"connector": "kiosk"}, "no connector named 'kiosk' is installed"),
        ({"timeout": 5}, "source.mall.timeout: unknown key"),
        ({"exclude": ["colour"]}, "source.mall.exclude: 'colour' is no column"),
        ({"exclude": ["id"]}, "source.mall.exclude: 'id' cannot be left out"),
    ],
    ids=["variable", "file", "connector", "key", "column", "key column"],
)
@pytest.mark.parametrize("streams", [None, ["shop.sales", "mall.sales"]], ids=["all", "by source"])
def test_a_source_that_cannot_be_used_leaves_the_others(
    server: Server, tmp_path: Path, changed: dict[str, Any], reason: str, streams: list[str] | None
) -> None:
    """
    A source that cannot be used fails with exit code 1, and the others of the pipeline are read; ``check`` names it
    too.
    """
    values = config(server, tmp_path)
    values["source"]["mall"] = {"connector": "shop", **values["source"]["shop"], **changed}
    values["pipeline"]["both"] = {
        "source": ["mall", "shop"],
        "sink": "files",
        **({"streams": streams} if streams else {}),
    }
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)

    result = project.run("both", **DAYS)

    assert (result.exit_code, result.status, list(result.report["sources"])) == (1, "failed", ["shop"])
    assert result.report["sources"]["shop"]["streams"]["sales"]["partitions"]["failed"] == 0
    (error,) = result.errors
    assert error["source"] == "mall"
    assert reason in error["reason"]
    assert [checked.name for checked in project.check("both").checked if checked.exit_code] == ["mall"]
    with pytest.raises(UsageError, match=re.escape(reason)):
        project.run("mall", to=str(f"jsonl:{tmp_path / 'other'}"))


def test_a_run_without_a_usable_source_names_the_problems_of_all(server: Server, tmp_path: Path) -> None:
    """
    Nothing is read, and the error is one of the configuration.
    """
    values = config(server, tmp_path)
    values["source"]["mall"] = {"connector": "shop", "base_url": server.base_url, "key": {"env": "MALL"}}
    values["source"]["shop"]["key"] = {"env": "SHOP"}
    values["pipeline"]["both"] = {"source": ["mall", "shop"], "sink": "files"}

    with pytest.raises(ConfigError) as caught:
        Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("both", **DAYS)
    assert ["variable MALL" in caught.value.problems[0], "variable SHOP" in caught.value.problems[1]] == [True, True]


@pytest.mark.parametrize("chosen", [True, False], ids=["--since", "start"])
def test_a_notice_of_days_in_another_zone_has_the_remedy_that_there_is(
    server: Server, tmp_path: Path, chosen: bool
) -> None:
    """
    The days that a run with ``--since`` leaves are read without it; those before ``start`` are not.
    """
    values = config(server, tmp_path)
    Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", **DAYS)
    first = DAYS["since"] + timedelta(days=1)
    values["source"]["shop"] |= {"timezone": "Asia/Tokyo"} | ({} if chosen else {"start": first})

    plan = Project(values, plugins=PLUGINS, environ={}, clock=Stopped).plan("daily", since=first if chosen else None)

    (notice,) = [text for text in plan.notices if "stay as they were read before" in text]
    assert notice.endswith("Run once without --since and --until" if chosen else "there twice")


def test_a_day_that_a_change_of_timezone_makes_today_is_named(server: Server, tmp_path: Path) -> None:
    """
    It was delivered as a day that is over. Its rows are there twice until it is read again, as it is cut now.
    """
    values = config(server, tmp_path)
    Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", since=FIRST)
    values["source"]["shop"] |= {"timezone": "Pacific/Honolulu", "start": FIRST}
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)

    (notice,) = [text for text in project.plan("daily").notices if "stay as they were read before" in text]
    assert notice.endswith(f"Run once with --until {LAST}")

    project.run("daily", until=LAST)
    assert not [text for text in project.plan("daily").notices if "stay as they were read before" in text]


def test_sources_that_cannot_be_used_for_different_reasons_end_the_run(server: Server, tmp_path: Path) -> None:
    """
    One has no secret, and the other no target: nothing can be read, and the error has both reasons.
    """
    values = config(server, tmp_path)
    values["source"]["mall"] = {"connector": "shop", **values["source"]["shop"], "key": {"env": "ABSENT"}}
    values["pipeline"]["both"] = {"source": ["mall", "shop"], "sink": "files"}
    (tmp_path / "data").write_text("")

    with pytest.raises(ConfigError) as caught:
        Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("both", **DAYS)
    assert ["variable ABSENT" in caught.value.problems[0], "is a file" in caught.value.problems[1]] == [True, True]


def test_a_target_that_one_source_cannot_use_leaves_the_others(server: Server, tmp_path: Path) -> None:
    """
    A source that cannot use the target, such as a directory that is a file, fails with the message, and the others are
    read.
    """
    values = config(server, tmp_path)
    values["source"]["mall"] = {"connector": "shop", **values["source"]["shop"]}
    values["pipeline"]["both"] = {"source": ["mall", "shop"], "sink": "files"}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mall").write_text("")

    result = Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("both", **DAYS)

    assert (result.exit_code, [error["source"] for error in result.errors]) == (1, ["mall"])
    assert result.report["sources"]["shop"]["streams"]["sales"]["partitions"]["delivered"] > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda project: project.run("daily", deadline_s="2h"), "deadline_s: found '2h', expected a number of seconds"),
        (lambda project: project.run("daily", workers="2"), "workers: found '2', expected a number"),
        (lambda project: project.plan("daily", shards="3"), "shards: found '3', expected a number"),
        (lambda project: project.status(max_age_s="26h"), "max_age_s: found '26h', expected a number of seconds"),
    ],
)
def test_a_number_is_no_text(project: Project, call: Callable[[Project], object], message: str) -> None:
    """
    The text of the command line is refused before anything is requested.
    """
    with pytest.raises(UsageError, match=message):
        call(project)


def test_a_run_ends_when_its_event_is_set(project: Project) -> None:
    """
    A run ends when its event is set from any thread: what is complete stays delivered, the result has exit code 130.
    """
    stop = threading.Event()

    result = project.run("daily", **DAYS, stop=stop, on_event=lambda event: stop.set())

    assert result.exit_code == 130


@frozen(kw_only=True)
class OptionSettings(Settings):
    currency: str = setting("EUR", help="of the report")
    filters: dict[str, dict[str, str]] = setting(
        factory=dict, help="of the provider", validator=known_filters({"sales": ("country",)})
    )


TEMPLATES = evolve(SALES, requests=None, path="/sales", params={"shop": "{account}", "day": "{since}"})
IN_CURRENCY = {**TEMPLATES.params, "currency": "{currency}"}
OPTIONS = {
    "params": Connector(
        name="shop", summary="", settings=OptionSettings, streams=[evolve(TEMPLATES, params=IN_CURRENCY)]
    ),
    "header": Connector(
        name="shop", summary="", settings=OptionSettings, streams=[TEMPLATES], headers={"X-Currency": "{currency}"}
    ),
    "filters": Connector(name="shop", summary="", settings=OptionSettings, streams=[SALES]),
}


@pytest.mark.parametrize("connector", OPTIONS.values(), ids=OPTIONS)
def test_a_changed_setting_of_a_request_reads_final_days_again(
    connector: Connector, server: Server, shop: Shop, working_directory: Path
) -> None:
    """
    Whether a template, a header or a filter has it: no declaration of its own is needed.
    """
    at = config(server, working_directory)
    at["source"]["shop"]["open_for"] = "0 days"
    plugins = (ConnectorPlugin(connector), penstock_plugins)
    Project(at, plugins=plugins, environ={}, clock=Stopped).run("daily", **DAYS)
    changed = {"filters": {"sales": {"country": "DE"}}} if connector is OPTIONS["filters"] else {"currency": "USD"}
    at["source"]["shop"] |= changed

    plan = Project(at, plugins=plugins, environ={}, clock=Stopped).plan("daily", **DAYS)

    assert [planned.reason for planned in plan.partitions] == ["changed"] * 6


def test_a_secret_in_a_header_changes_no_final_day(server: Server, working_directory: Path) -> None:
    """
    Days that were delivered before its connector sent it stay final: the rows do not depend on it.
    """
    at = config(server, working_directory)
    at["source"]["shop"]["open_for"] = "0 days"

    def project(**headers: str) -> Project:
        connector = Connector(name="shop", summary="", settings=Settings, streams=[SALES], headers=headers)
        return Project(at, plugins=(ConnectorPlugin(connector), penstock_plugins), environ={}, clock=Stopped)

    project().run("daily", **DAYS)

    assert project(**{"X-Key": "{key}"}).plan("daily", **DAYS).partitions == ()


def test_the_plan_is_what_a_run_fetches(project: Project, shop: Shop) -> None:
    """
    No request; after the run it holds the days that are still open; accounts may be patterns.
    """
    before = project.plan("daily", **DAYS)
    assert (len(before.partitions), before.requests, shop.requested) == (6, 6, [])
    assert len(project.plan("daily", accounts=["8*"], **DAYS).partitions) == 3

    project.run("daily", **DAYS, accounts=["8"])

    assert {one.partition.values[0][1]: one.reason for one in project.plan("daily", **DAYS).partitions} == {
        "7": "missing",
        "8": "open",
    }


def test_check_reports_refused_credentials(project: Project, shop: Shop) -> None:
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
        ({"notify": {"command": "no-such-program -v"}}, "pipeline.daily.notify: there is no program 'no-such-program'"),
    ],
)
def test_check_reports_faults_of_a_pipeline(server: Server, tmp_path: Path, wrong: dict[str, Any], named: str) -> None:
    """
    The faults are those of the pipeline that is named, or of all; a pipeline without a fault has no line.
    """
    values = config(server, tmp_path)
    values["pipeline"]["daily"] |= wrong
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)

    for result in (project.check("daily"), project.check()):
        assert [(one.kind, one.exit_code) for one in result.checked] == [("source", 0), ("target", 0), ("pipeline", 2)]
        assert named in result.checked[-1].message
        assert result.exit_code == 2


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


def test_yesterday_is_that_of_each_account(server: Server, tmp_path: Path) -> None:
    """
    In a zone where the source's yesterday is not over yet, an account's is the day before, and is read.
    """
    values = config(server, tmp_path)
    values["source"]["shop"] |= {"accounts": {"7": {"timezone": "Pacific/Honolulu"}}}
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)

    for words in ({"since": "yesterday"}, {"since": "yesterday", "until": "yesterday"}):
        planned = [one.partition.as_dict() for one in project.plan("daily", **words).partitions]
        assert [(one["shop_id"], one["day"]) for one in planned] == [("7", "2026-03-08"), ("8", "2026-03-09")]
    read = project.read("shop", "sales", since="yesterday")
    assert {(row["shop_id"], str(row["day"])) for row in read.dicts()} == {("7", "2026-03-08"), ("8", "2026-03-09")}


def test_days_to_forget_are_those_of_the_source(server: Server, tmp_path: Path) -> None:
    """
    As those of a run: yesterday in Honolulu, where it is late in the evening.
    """
    values = config(server, tmp_path)
    values["source"]["shop"] |= {"timezone": "Pacific/Honolulu"}
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)
    project.run("daily", since="2026-03-07", until="today")

    project.forget("shop", "sales", since="yesterday", until="yesterday", rows=True)

    left = {str(one.day) for one in project.partitions("shop").partitions}
    assert left == {"2026-03-07", "2026-03-09"}


@pytest.mark.parametrize(("other", "day"), [("Pacific/Honolulu", "2026-03-08"), ("UTC", "2026-03-09")])
def test_days_to_look_at_are_those_of_the_sources_of_a_pipeline(
    server: Server, tmp_path: Path, other: str, day: str
) -> None:
    """
    Yesterday is that of the zone that all sources of the pipeline have, and that of UTC where they have several.
    """
    values = config(server, tmp_path)
    shop = values["source"]["shop"]
    values["source"] = {
        "shop": shop | {"timezone": "Pacific/Honolulu"},
        "other": shop | {"connector": "shop", "timezone": other},
    }
    values["pipeline"]["daily"] = {**values["pipeline"]["daily"], "source": ["shop", "other"]}
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)
    project.run("daily", since="2026-03-07", until="2026-03-09")

    partitions = project.partitions("daily", since="yesterday", until="yesterday").partitions

    assert {str(one.day) for one in partitions} == {day}


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
    A call that cannot be carried out is an exception with the message of the command line.
    """
    if text:
        with pytest.raises(error, match=text.replace("?", r"\?")):
            call(project)
    else:
        assert call(project).targets[0].sources == ()


def test_a_broken_file_is_named_when_it_is_needed(tmp_path: Path) -> None:
    """
    The first method that needs the file names the fault, as the command line does.
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


def test_a_plan_estimates_how_long_its_requests_take(server: Server, tmp_path: Path) -> None:
    """
    A plan estimates its time at the configured pace of the slowest source; without a pace, nobody knows.
    """
    values = config(server, tmp_path)
    assert Project(values, plugins=PLUGINS, environ={}, clock=Stopped).plan("daily", **DAYS).seconds is None
    values["source"]["shop"]["requests_per_second"] = 0.1

    plan = Project(values, plugins=PLUGINS, environ={}, clock=Stopped).plan("daily", **DAYS)

    assert (plan.requests_of, plan.seconds) == ({"shop": 6}, 60.0)
