"""
The Python API on how things stand: status, problems, runs, changes.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from penstock import (
    BaseSink,
    ConnectorPlugin,
    Project,
    RunResult,
    SandboxResponse,
    SinkKind,
    TargetError,
    hookimpl,
)
from penstock.ledger import SqliteLedger
from penstock.ledger_interface import RunRecord
from penstock.results import NO_LONGER_SERVED
from penstock.sandbox.server import Server
from penstock.testing import FakeClock
from penstock.testing.memory import MemorySink, MemoryTarget
from penstock_plugins.files.kinds import JSONL
from project_shop import DAYS, FIRST, LAST, NOW, PLUGINS, SALES, TWO, AnHourLater, Shop, Stopped, config, without_id
from sqlite_statements import Statements

pytestmark = pytest.mark.slow


RUNS_AT_ONCE = 20  # records of runs that are read at a time
ADayLater = partial(FakeClock, NOW + timedelta(days=1))


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
    The problem has the stream, the month and the rows and sums that moved: it may have been invoiced. A change of this
    month is none, and neither is one that leaves rows and sums as they were.
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
    Nothing is shown of a source that has none of the accounts; a pause concerns each of its accounts, a restated month
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


def test_a_parked_source_states_its_last_reading(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    The run that was parked delivered the days before, so its time is stated even if no run ended well.
    """
    project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)
    shop.change = lambda name, day, answer: (
        answer if name == "7" else SandboxResponse(status=429, headers={"Retry-After": "36000"})
    )
    project.run("daily", since=LAST, until=LAST)

    (target,) = project.status("daily").targets
    (parked,) = target.problems

    assert target.sources[0].last_good is None
    assert (parked.kind, parked.last_read) == ("parked", NOW)


def test_status_has_the_requests_of_this_months_runs(project: Project) -> None:
    """
    ``status`` has the requests of all runs of the source into the target that started in this calendar month.
    """
    project.run("daily", **DAYS)
    project.run("daily", **DAYS)

    (source,) = project.status("daily").targets[0].sources
    assert source.requests_this_month == 12


def test_a_member_without_a_column_is_a_problem_while_it_is_new(
    project: Project, shop: Shop, server: Server, tmp_path: Path
) -> None:
    """
    A member without a column is a problem for a week: afterwards it is known, though each run reports it.
    """

    def grown(shop: str, day: str, answer: dict[str, Any]) -> dict[str, Any]:
        answer["sales"][0]["colour"] = "red"
        return answer

    shop.change = grown
    project.run("daily", since=LAST, until=LAST)

    (problem,) = project.status("daily").targets[0].problems

    assert (problem.kind, problem.stream, problem.count) == ("new", "sales", 1)
    assert (problem.reason, problem.members) == ("no column holds the member colour", ("colour",))
    clock = partial(FakeClock, NOW + timedelta(days=8))
    later = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=clock)
    later.run("daily", since=LAST, until=LAST)
    assert later.status("daily").targets[0].problems == ()


def test_only_the_reports_that_tell_whether_a_member_is_new_are_read(
    project: Project, shop: Shop, server: Server, tmp_path: Path, statements: Statements
) -> None:
    """
    Whether a member is new is known from the reports back to the first run that had it, however many runs the ledger
    keeps.
    """

    def grown(shop: str, day: str, answer: dict[str, Any]) -> dict[str, Any]:
        answer["sales"][0] |= {"colour": "red", "size": 1}
        return answer

    shop.change = grown
    project.run("daily", since=LAST, until=LAST)
    (path,) = tmp_path.rglob("ledger.sqlite")
    ledger = SqliteLedger(path)
    for number in range(1, 60):
        report = {"streams": {"sales": {"requests": 1, "unknown_members": ["colour"]}}}
        started_at = NOW - timedelta(days=number)
        ledger.record_run(RunRecord(run_id=f"r{number}", source="shop", started_at=started_at, report=report))
    ledger.close()
    statements.clear()

    (problem,) = project.status("daily").targets[0].problems
    assert problem.reason == "no column holds the member size"
    assert sum(records_of_runs(statements)) > 60
    shop.change = lambda shop, day, answer: {**answer, "sales": [{**one, "colour": "red"} for one in answer["sales"]]}
    later = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=AnHourLater)
    later.run("daily", since=LAST, until=LAST)
    statements.clear()
    assert later.status("daily").targets[0].problems == ()
    assert sum(records_of_runs(statements)) <= 1 + 2 * RUNS_AT_ONCE  # for the summary, and for the members


def records_of_runs(statements: Statements) -> list[int]:
    """The number of records of runs that each query of a ledger returned."""
    return [len(one.rows) for one in statements.of("report from runs where")]


def test_the_problems_of_several_accounts_are_read_together(
    server: Server, shop: Shop, tmp_path: Path, statements: Statements
) -> None:
    """
    A database without indexes reads all rows for each query. Each account has its own problems.
    """
    values = config(server, tmp_path)
    values["source"]["shop"]["shop_ids"] = [f"{number:02}" for number in range(12)]
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)
    shop.change = lambda shop, day, answer: answer if shop == "05" else without_id(shop, day, answer)
    project.run("daily", since=LAST, until=LAST)
    statements.clear()

    problems = project.status("daily").targets[0].problems

    accounts = [f"{number:02}" for number in range(12) if number != 5]
    assert [(one.account["shop_id"], one.kind, one.count) for one in problems] == [
        (account, "rejected", 1) for account in accounts
    ]
    queries = [one for one in statements.of("json_each(?)") if one.text.startswith("select source")]
    assert [json.loads(one.parameters[-1]) for one in queries] == [accounts[:10], accounts[10:]]


def test_runs_are_listed_newest_first(project: Project) -> None:
    """
    Runs are listed with their reports, newest first.
    """
    first, second = project.run("daily", **DAYS), project.run("daily", **DAYS)

    runs = project.runs("shop").runs

    assert {one.run_id for one in runs} == {first.run_id, second.run_id}
    assert [one.records for one in runs] == [12, 12]
    assert runs[0].report["streams"]["sales"]["partitions"]["delivered"] == 6


def test_status_reads_the_runs_that_it_needs(project: Project, tmp_path: Path, statements: Statements) -> None:
    """
    ``status`` reads the runs of this month, and back to the last good one, some at a time: reports of runs are long,
    and kept for years.
    """
    project.run("daily", **DAYS)
    (path,) = tmp_path.rglob("ledger.sqlite")
    ledger = SqliteLedger(path)
    for number in range(1, 200):
        ledger.record_run(
            RunRecord(
                run_id=f"r{number}",
                source="shop",
                started_at=NOW - timedelta(hours=12 * number),
                finished_at=NOW - timedelta(hours=12 * number),
                exit_code=1,
                report={"streams": {"sales": {"requests": 1}}},
            )
        )
    ledger.close()
    statements.clear()

    (source,) = project.status("daily").targets[0].sources

    assert source.last_good == NOW
    assert source.requests_this_month == 6 + 18  # of this run, and of nine days
    assert max(held := records_of_runs(statements)) <= RUNS_AT_ONCE
    assert sum(held) < 50


def test_a_pipeline_of_many_sources_opens_its_target_once(
    server: Server, tmp_path: Path, statements: Statements
) -> None:
    """
    A database has a limit of connections. The ledger of a target has the rows of all sources, maybe of a thousand: for
    those of a pipeline, the others are not looked at.
    """
    values = config(server, tmp_path)
    values["source"]["mall"] = {**values["source"]["shop"], "shop_ids": ["9"]}
    values["pipeline"]["daily"]["source"] = ["shop", "mall"]
    project = Project(values, plugins=TWO, environ={}, clock=Stopped)
    project.run("daily", **DAYS, streams=["sales"])
    connections = len(statements.connections)
    statements.clear()

    (target,) = project.status("daily").targets

    assert [source.source for source in target.sources] == ["shop", "mall"]
    assert len(statements.connections) == connections + 1
    assert statements.of("from partitions where source = ?")
    assert not statements.of("from partitions where source > ?")


def test_a_runs_record_is_its_sources_own(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    In a run of two sources, the one that failed is recorded with exit code 1 and its errors, the other with 0.
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


def test_status_names_the_problems_of_streams_and_accounts(
    project: Project, shop: Shop, server: Server, tmp_path: Path
) -> None:
    """
    Failed days by reason, gaps, rejected records, accounts that were not read; with days and the last good reading.
    """
    project.run("daily", **DAYS)
    shop.change = lambda shop, day, answer: (
        SandboxResponse(status=404) if shop == "8" else without_id(shop, day, answer)
    )
    project.run("daily", since=LAST, until=LAST)
    project.run("daily", since=date(2026, 3, 1), until=date(2026, 3, 1), accounts=["7"])

    (target,) = project.status().targets
    found = {(one.account["shop_id"], one.kind): one for one in target.problems}

    assert set(found) == {("7", "missing"), ("7", "rejected"), ("8", "failed")}
    failed = found["8", "failed"]
    assert (failed.count, failed.first_day, failed.last_day, failed.last_read) == (1, LAST, LAST, NOW)
    assert "8" not in failed.reason.replace("HTTP", "")
    assert (found["7", "rejected"].count, found["7", "missing"].count) == (2, 5)


def test_a_failed_day_that_left_retention_states_that_no_run_reads_it(
    server: Server, shop: Shop, tmp_path: Path
) -> None:
    """
    A day fails and leaves the provider's retention before it is read again: its problem says so until it is forgotten.
    """
    three_days = evolve(SALES, earliest=lambda today: today - timedelta(days=3))
    plugins = (ConnectorPlugin(evolve(PLUGINS[0].declared, streams=[three_days])), *PLUGINS[1:])
    shop.change = lambda shop, day, answer: SandboxResponse(status=404) if day < str(LAST) else answer
    Project(config(server, tmp_path), plugins=plugins, environ={}, clock=Stopped).run("daily", **DAYS)

    later = Project(config(server, tmp_path), plugins=plugins, environ={}, clock=ADayLater)
    problems = later.status().targets[0].problems

    first_served = f"the provider serves days from {FIRST + timedelta(days=1)} on"
    assert {(problem.first_day, first_served in problem.reason) for problem in problems} == {
        (FIRST, True),
        (FIRST + timedelta(days=1), False),
    }
    later.forget("shop", "sales", since=FIRST, until=FIRST)
    assert {problem.first_day for problem in later.status().targets[0].problems} == {FIRST + timedelta(days=1)}


def test_the_retention_of_a_day_is_that_of_its_account_s_zone(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    A day that a run still reads, since it is a day earlier where the account is, is not said to have left retention.
    """
    three_days = evolve(SALES, earliest=lambda today: today - timedelta(days=3))
    plugins = (ConnectorPlugin(evolve(PLUGINS[0].declared, streams=[three_days])), *PLUGINS[1:])
    values = config(server, tmp_path)
    values["source"]["shop"]["accounts"] = {"7": {"timezone": "Pacific/Pago_Pago"}}
    shop.change = lambda shop, day, answer: SandboxResponse(status=404) if day == str(FIRST) else answer
    Project(values, plugins=plugins, environ={}, clock=Stopped).run("daily", **DAYS)

    later = Project(values, plugins=plugins, environ={}, clock=ADayLater)
    planned = later.plan("daily", since=FIRST).partitions
    read = {one.partition.as_dict()["shop_id"] for one in planned if one.reason == "failed"}
    gone = {
        problem.account["shop_id"]
        for problem in later.status().targets[0].problems
        if problem.kind == "failed" and problem.reason.startswith(NO_LONGER_SERVED)
    }

    assert (read, gone) == ({"7"}, {"8"})


def test_status_does_not_depend_on_the_retention_of_a_connector(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    A connector whose ``earliest`` raises fails the plan; what was delivered, and what failed, is shown all the same.
    """
    defects: list[Exception] = []

    def earliest(today: date) -> date:
        if defects:
            raise defects[0]
        return today - timedelta(days=30)

    stream = evolve(SALES, earliest=earliest)
    plugins = (ConnectorPlugin(evolve(PLUGINS[0].declared, streams=[stream])), *PLUGINS[1:])
    shop.change = lambda shop, day, answer: SandboxResponse(status=404) if day < str(LAST) else answer
    project = Project(config(server, tmp_path), plugins=plugins, environ={}, clock=Stopped)
    project.run("daily", **DAYS)
    before = project.status().targets[0].problems
    defects.append(ValueError("no day"))

    assert project.status().targets[0].problems == before


def test_status_counts_rejected_records_of_another_reader(project: Project, shop: Shop, tmp_path: Path) -> None:
    """
    A day with records that an older record class or connector version rejected is read again: status has their number.
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
    An account that left the configuration is marked, and the exit code for old data is that of the others.
    """
    values = config(server, tmp_path)
    Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", **DAYS)
    values["source"]["shop"]["shop_ids"] = ["7"]

    project = Project(values, plugins=PLUGINS, environ={}, clock=partial(FakeClock, NOW + timedelta(days=1)))
    late = project.status(max_age_s=3600)

    accounts = {one.account["shop_id"]: one for one in late.targets[0].sources[0].streams}
    assert {name: (one.configured, one.overdue) for name, one in accounts.items()} == {
        "7": (True, True),
        "8": (False, False),
    }
    assert (late.exit_code, project.status(max_age_s=2 * 86400).exit_code) == (1, 0)
    assert [one.kind for one in late.targets[0].problems] == ["overdue"]


def test_removed_accounts_and_sources_need_no_attention(server: Server, shop: Shop, tmp_path: Path) -> None:
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
    A source that was never read is overdue in the status of its pipeline and of all; a source in no pipeline is
    expected nowhere.
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


def test_an_account_that_was_never_read_is_overdue(server: Server, tmp_path: Path) -> None:
    """
    A new account that no run reaches: each one is of other accounts, or ends by its deadline before. A source in no
    pipeline may be read in parts.
    """
    values = config(server, tmp_path)
    values["source"]["spare"] = {**values["source"]["shop"], "connector": "shop"}
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)
    for name in ("shop", "spare"):
        project.run(name, to="files", accounts=["7"], **DAYS)

    for result in (project.status(max_age_s=86400), project.status("daily", max_age_s=86400)):
        assert result.exit_code == 1
        assert [(one.kind, one.source, one.account, one.last_read) for one in result.targets[0].problems] == [
            ("overdue", "shop", {"shop_id": "8"}, None)
        ]
    assert project.status(max_age_s=86400, accounts=["7"]).exit_code == 0
    assert project.status("spare", max_age_s=86400).exit_code == 0
    assert [one.account for one in project.status().targets[0].sources[0].streams] == [{"shop_id": "7"}]


@define(eq=False)
class LedgerOfEachSource(BaseSink):
    """A sink whose ledger of a source is a file of its own. ``events``: what was opened for reading, and closed."""

    folder: Path
    events: list[tuple[str, str]] = field(factory=list)

    @hookimpl
    def penstock_sinks(self) -> Iterable[SinkKind]:
        yield evolve(JSONL, name="apart", scheme="apart", open=lambda settings: self)

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> MemoryTarget:
        return MemorySink(self.folder / f"{source}.sqlite").open(source, run_id)

    def open_readonly(self, source: str) -> MemoryTarget:
        self.events.append(("open", source))
        sink = MemorySink(self.folder / f"{source or 'none'}.sqlite")
        return NotedTarget(sink, sink.open(source, "").ledger, lambda: self.events.append(("close", source)))


@define(eq=False)
class NotedTarget(MemoryTarget):
    """A target that notes when it is closed."""

    note_close: Callable[[], None]

    def close(self) -> None:
        self.note_close()
        super().close()


def test_a_sink_may_keep_a_ledger_for_each_source(server: Server, tmp_path: Path) -> None:
    """
    A source that is not in the shared ledger is looked for under its own name; a target without it is closed.
    """
    values = config(server, tmp_path)
    values["sink"]["files"]["kind"] = "apart"
    values["source"] |= {name: {**values["source"]["shop"], "connector": "shop"} for name in "abc"}
    values["pipeline"]["daily"]["source"] = ["a", "b", "c"]
    sink = LedgerOfEachSource(tmp_path)
    project = Project(values, plugins=(*PLUGINS, sink), environ={}, clock=Stopped)
    for source in "ac":
        project.run(source, to="files", **DAYS)
    sink.events.clear()

    (target,) = project.status("daily").targets

    assert [one.source for one in target.sources] == ["a", "c"]
    assert [name for what, name in sink.events if what == "open"] == ["", "a", "b", "c"]
    assert [name for what, name in sink.events if what == "close"][:2] == ["", "b"]
    assert sorted(name for what, name in sink.events if what == "close") == ["", "a", "b", "c"]


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


def test_a_plan_leaves_out_a_used_target_that_left_the_configuration(server: Server, tmp_path: Path) -> None:
    """
    Everything counts as missing, and a notice names the target.
    """
    source = f'[source.shop]\nbase_url = "{server.base_url}"\nkey = "sesame-open"\n'
    file = tmp_path / "penstock.toml"
    file.write_text(f'{source}[sink.files]\nkind = "jsonl"\npath = "{tmp_path / "data"}"\n')
    Project(file, plugins=PLUGINS, environ={}, clock=Stopped).run("shop", to="files", **DAYS)
    file.write_text(source)

    planned = Project(file, plugins=PLUGINS, environ={}, clock=Stopped).plan("shop", **DAYS)
    assert (planned.target, planned.exit_code, len(planned.partitions)) == (None, 0, 6)
    assert "the target files was used before" in planned.notices[0]


@pytest.mark.parametrize(
    ("exit_code", "outcome"),
    [(0, "success"), (1, "retry"), (3, "failure"), (4, "retry"), (5, "failure"), (6, "skip"), (130, "failure")],
)
def test_an_exit_code_is_an_outcome_for_a_scheduler(exit_code: int, outcome: str) -> None:
    """
    Another try is worth it only where it can read what is missing.
    """
    assert RunResult(exit_code=exit_code, status="", run_id=None, report={}).outcome == outcome
