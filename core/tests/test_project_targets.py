"""
The Python API on what was delivered: forget, verify, deleted and rejected rows, the rows of the ledger.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from other_sink import OtherSinks, other, project_of
from penstock import (
    Adoption,
    BaseSink,
    BaseTarget,
    Batch,
    ConfigError,
    Ledger,
    LedgerEntry,
    Partition,
    PluginError,
    Project,
    Target,
    TargetError,
    UsageError,
)
from penstock.ledger import SqliteLedger
from penstock.sandbox.server import Server
from project_shop import DAYS, FIRST, LAST, NOW, PLUGINS, Shop, Stopped, config, without_id
from sqlite_statements import Statements

pytestmark = pytest.mark.slow

STAMP = f"{NOW:%Y%m%dT%H%M%SZ}"


def test_forget_makes_days_missing(project: Project) -> None:
    """
    Days of the named accounts, or of all, are missing afterwards.
    """
    project.run("daily", **DAYS)

    forgotten = project.forget("shop", "sales", **DAYS, accounts=["7"])

    assert [(one.target, one.partitions) for one in forgotten.targets] == [("files", 3)]
    reasons = {one.partition.values[0][1]: one.reason for one in project.plan("daily", **DAYS).partitions}
    assert reasons == {"7": "missing", "8": "open"}


@pytest.fixture
def sinks() -> OtherSinks:
    return OtherSinks()


@pytest.fixture
def other_project(sinks: OtherSinks, server: Server, tmp_path: Path) -> Project:
    """A project that has delivered to a sink of another author."""
    project = project_of(sinks, server, tmp_path)
    project.run("daily", **DAYS)
    sinks.run_ids.clear()
    return project


def test_a_target_without_the_ledger_that_its_sink_states_is_named(other_project: Project, sinks: OtherSinks) -> None:
    """
    ``forget`` names the class of the sink, which is wrong about it.
    """
    sinks.target = lambda own: {"ledger": None}

    with pytest.raises(UsageError, match=r"OtherSink\.keeps_ledger is true, and its target has no ledger"):
        other_project.forget("shop", "sales", **DAYS)


def test_forget_reads_a_history_some_days_at_a_time(other_project: Project, sinks: OtherSinks) -> None:
    """
    All days are forgotten, and the ledger's rows of all of them are never in memory together.
    """
    held = held_of_a_long_history(sinks)

    forgotten = other_project.forget("shop", "sales", **DAYS)

    assert [one.partitions for one in forgotten.targets] == [6]
    assert max(held["entries"]) == 2  # a day of both accounts
    assert {one.reason for one in other_project.plan("daily", **DAYS).partitions} == {"missing"}


def test_verify_reads_a_history_some_days_at_a_time(other_project: Project, sinks: OtherSinks) -> None:
    """
    All partitions are compared, each once, and the ledger's rows of all days are never in memory together.
    """
    held = held_of_a_long_history(sinks)

    found = other_project.verify("daily")

    assert (found.partitions, found.differences) == (6, ())
    assert sum(held["entries"]) == 6
    assert max(held["entries"]) == 2  # a day of both accounts


def held_of_a_long_history(sinks: OtherSinks) -> dict[str, list[int]]:
    """
    The number of rows that each query of a ledger returns from now on, by method. The ledger states ten thousand
    times as many partitions as it has, so that the rows of one day are as many as may be read at once.
    """
    held: dict[str, list[int]] = {"entries": [], "delivered_sums": []}

    def counted(name: str, query: Callable[..., Any]) -> Callable[..., Any]:
        def queried(*arguments: Any, **options: Any) -> Any:
            found = query(*arguments, **options)
            found = found if isinstance(found, dict) else list(found)
            held[name].append(len(found))
            return found

        return queried

    def long_ledger(own: Any) -> dict[str, Any]:
        def counts(*arguments: Any) -> Any:
            return tuple(evolve(count, partitions=10_000 * count.partitions) for count in own.counts(*arguments))

        return {"counts": counts, **{name: counted(name, getattr(own, name)) for name in held}}

    sinks.ledger = long_ledger
    return held


@pytest.mark.parametrize("daily", [False, True], ids=["by month", "by day"])
def test_totals_read_a_history_some_days_at_a_time(other_project: Project, sinks: OtherSinks, daily: bool) -> None:
    """
    The totals are the same, in the same order, and the sums of all days are never in memory together. Whole rows of the
    ledger are not read.
    """
    whole = other_project.totals("daily", daily=daily).totals
    held = held_of_a_long_history(sinks)

    totals = other_project.totals("daily", daily=daily).totals

    assert totals == whole
    assert [(total.account["shop_id"], total.rows) for total in totals] == (
        [("7", 2)] * 3 + [("8", 2)] * 3 if daily else [("7", 6), ("8", 6)]
    )
    assert max(held["delivered_sums"]) == 2  # a day of both accounts
    assert not held["entries"]


def test_deleting_the_rows_of_a_day_reads_its_partitions_only(project: Project, statements: Statements) -> None:
    """
    The number of partitions that are read does not depend on the length of the history in the ledger. Only the names of
    all files are, for the list of them beside the files.
    """
    project.run("daily", **DAYS)
    statements.clear()

    project.forget("shop", "sales", since=LAST, until=LAST, rows=True)

    assert max(len(one.rows) for one in statements.of("select source, stream, partition, version")) == 2


@pytest.mark.parametrize("rows", [False, True], ids=["readings", "rows"])
def test_forgetting_takes_place_at_the_time_of_the_projects_clock(
    other_project: Project, sinks: OtherSinks, rows: bool
) -> None:
    """
    The id of the run that holds the lock, and the readings without rows in place of those that are deleted.
    """
    read_at: list[datetime | None] = []

    def noted(own: Any) -> dict[str, Any]:
        def commit_group(commits: Any) -> Any:
            read_at.extend(entry.read_at for _, entry in commits)
            return own.commit_group(commits)

        return {"commit_group": commit_group}

    sinks.target = noted

    other_project.forget("shop", "sales", **DAYS, rows=rows)

    assert [run_id[: len(STAMP)] for run_id in sinks.run_ids] == [STAMP]
    assert read_at == ([NOW] * 6 if rows else [])


def test_repair_and_adopt_use_the_clock_of_the_project(other_project: Project, sinks: OtherSinks) -> None:
    """
    The ids of the runs that hold the locks.
    """

    def adopt(source: str, run_id: str, streams: Any, place: str, *, confirmed: bool) -> Adoption:
        sinks.run_ids.append(run_id)
        return Adoption(stream="sales", place=place, rows=0, partitions=0, delivered=0)

    sinks.sink = {"adopt": adopt, "unrecognised": lambda source, streams: ["public.sales"]}

    other_project.verify("daily", repair=True)
    other_project.adopt("shop", "public.sales")
    other_project.adopt()

    assert [run_id[: len(STAMP)] for run_id in sinks.run_ids] == [STAMP] * 3


def test_rows_that_differ_from_the_ledger_are_found_and_read_again(project: Project, tmp_path: Path) -> None:
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


def test_files_that_the_ledger_does_not_count_are_named(project: Project, tmp_path: Path) -> None:
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
    A stream that cannot be looked at is named and not compared; the exit code is 1, and the next comparison is of all.
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


def test_a_partition_with_an_interrupted_commit_is_not_compared(project: Project, tmp_path: Path) -> None:
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


def test_days_deleted_by_other_means_are_lost_until_they_are_forgotten(project: Project, tmp_path: Path) -> None:
    """
    Nothing records who deleted them: they differ, and a repair would mark them. After forget they are compared no more.
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
    Rejected records are values with stream, partition, path, reason and the record.
    """
    shop.change = without_id
    project.run("daily", since=LAST, until=LAST, accounts=["7"])

    (one,) = project.rejected("shop").rejected

    assert (one.stream, one.partition, one.path) == ("sales", {"shop_id": "7", "day": "2026-03-09"}, "$.sales[0].id")
    assert json.loads(one.raw)["price"] == "150"


def test_problems_of_partitions_with_and_without_an_account_are_found(project: Project, tmp_path: Path) -> None:
    """
    A stream that was not divided by accounts before may have left rows of both kinds.
    """
    project.run("daily", since=LAST, until=LAST, accounts=["7"])
    (path,) = tmp_path.rglob("ledger.sqlite")
    ledger = SqliteLedger(path)
    for account in ((), (("shop_id", "7"),)):
        ledger.fail_all("shop", [(Partition("sales", (*account, ("day", str(FIRST)))), f"down {len(account)}")], "r")
    ledger.close()

    (target,) = project.status("shop").targets

    assert {problem.reason for problem in target.problems if problem.kind == "failed"} == {"down 0", "down 1"}


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
    Totals are from the ledger, exact, per month or day.
    """
    project.run("daily", **DAYS)

    months = project.totals().totals
    days = project.totals(since=LAST, daily=True, accounts=["7"]).totals

    assert [(one.account["shop_id"], one.period, one.rows, one.sums) for one in months] == [
        ("7", "2026-03", 6, {"price_amount": Decimal("9.00")}),
        ("8", "2026-03", 6, {"price_amount": Decimal("9.00")}),
    ]
    assert [(one.period, one.rows) for one in days] == [("2026-03-09", 2)]
    assert [(one.days, one.open) for one in months] == [(3, 3), (3, 3)]
    assert [(one.days, one.open) for one in days] == [(1, 1)]


@pytest.mark.parametrize("known", [True, False], ids=["address", "run"])
def test_two_names_of_one_target_are_one_to_forget(
    server: Server, tmp_path: Path, sinks: OtherSinks, known: bool
) -> None:
    """
    The lock of a place excludes other runs, not another name of the place, also where the sink states no address.
    """
    sinks.sink = {} if known else {"address": None}
    (tmp_path / "link").symlink_to(tmp_path / "data")
    alias = {"alias": {"kind": "other", "path": str(tmp_path / "link")}}
    project = project_of(sinks, server, tmp_path, alias, weekly={"source": "shop", "sink": "alias"})
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


def test_a_used_target_whose_section_is_gone_is_left_out(server: Server, tmp_path: Path) -> None:
    """
    A sink that was renamed or removed is named in a notice; the others are shown.
    """
    file = tmp_path / "penstock.toml"
    text = f"""
        [source.shop]
        base_url = "{server.base_url}"
        key = {{ env = "KEY" }}
        [sink.files]
        kind = "jsonl"
        path = "data"
        [pipeline.daily]
        source = "shop"
        sink = "files"
    """
    file.write_text(text)
    made: dict[str, Any] = {"plugins": PLUGINS, "environ": {"KEY": "sesame-open"}, "clock": Stopped}
    Project(file, **made).run("daily", **DAYS)
    file.write_text(text.replace("sink.files", "sink.renamed").replace('"files"', '"renamed"'))
    project = Project(file, **made)

    status, plan = project.status(), project.plan("shop", **DAYS)

    assert [target.target for target in status.targets] == ["renamed"]
    for result in (status, plan):
        assert any("has no [sink.files]: it is left out" in notice for notice in result.notices)
        assert any("penstock forget --target files" in notice for notice in result.notices)


def test_a_target_whose_secret_is_not_here_is_left_out(server: Server, tmp_path: Path) -> None:
    """
    The others are shown, with exit code 1. Where it is the only one, its error is raised.
    """
    file = tmp_path / "penstock.toml"
    text = f"""
        [source.shop]
        base_url = "{server.base_url}"
        key = {{ env = "KEY" }}
        [sink.files]
        kind = "jsonl"
        path = {{ env = "PLACE" }}
    """
    file.write_text(text)
    made: dict[str, Any] = {"plugins": PLUGINS, "clock": Stopped}
    everything = Project(file, environ={"KEY": "sesame-open", "PLACE": str(tmp_path / "data")}, **made)
    everything.run("shop", to="files", **DAYS)
    everything.run("shop", to=f"jsonl:{tmp_path / 'more'}", **DAYS)
    project = Project(file, environ={"KEY": "sesame-open"}, **made)

    status, totals = project.status(), project.totals()

    assert [(target.target, target.error is None) for target in status.targets] == [
        (f"jsonl:{tmp_path / 'more'}", True),
        ("files", False),
    ]
    assert {total.target for total in totals.totals} == {f"jsonl:{tmp_path / 'more'}"}
    for result in (status, totals):
        assert result.exit_code == 1
        assert any("files cannot be read" in notice and "PLACE is not set" in notice for notice in result.notices)
    with pytest.raises(UsageError, match="PLACE is not set"):
        project.status(to="files")


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
    assert [text for text in project.runs("shop", to=file).notices if "keeps no ledger" in text]
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
    A text in place of a list is refused with the name of the argument: each letter of the text would be a name.
    """
    project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)
    project.run("daily", **DAYS)

    with pytest.raises(UsageError, match=rf"^{key}: found the text 'sales', expected a list of names: \['sales'\]"):
        getattr(project, method)("shop", **{key: "sales"}, **more)


class DecliningWriter:
    """A writer of which every commit fails."""

    def write(self, batch: Batch) -> None:
        """Nothing is kept."""

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        raise TargetError("it is full")

    def abort(self) -> None:
        """There is nothing to drop."""


class DecliningTarget(BaseTarget):
    """A target without a ledger, which delivers nothing. ``closed``: whether it was closed."""

    closed = False

    def begin(self, layouts: Any, partition: Partition) -> DecliningWriter:
        return DecliningWriter()

    def close(self) -> None:
        self.closed = True


def sink_of(target: Any, lacks: Collection[str] = (), readonly: Any = None) -> Any:
    """A sink of another author; its targets are these."""
    open_target, open_readonly = (lambda source, run_id, streams=(): target), (lambda source: readonly)
    return other("OtherSink", BaseSink(), lacks, open=open_target, open_readonly=open_readonly)


def test_a_class_without_a_base_works_if_it_has_all_attributes(server: Server, tmp_path: Path) -> None:
    """
    Each partition is committed alone, by its writer, and fails with the error of its commit.
    """
    project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)

    result = project.run("shop", to=sink_of(other("OtherTarget", DecliningTarget())), **DAYS)

    assert {error["reason"] for error in result.errors} == {"it is full"}


class ProtocolTarget(Target):
    """A target that extends the protocol in place of the base class."""

    ledger = None

    def begin(self, layouts: Any, partition: Partition) -> Any:
        return DecliningWriter()

    def close(self) -> None:
        """There is nothing to close."""


OF_TARGETS = "whole_stream, deletes_rows, notices, prepare, commit_group, is_intact, final_days"


@pytest.mark.parametrize(
    ("sink", "message"),
    [
        (
            sink_of(None, lacks={"address"}),
            r"OtherSink \(.*\) lacks address\. .* extend penstock\.BaseSink, and",
        ),
        (sink_of(BaseTarget()), r"BaseTarget \(sinks\.py, line \d+.*\) lacks begin\."),
        (
            sink_of(ProtocolTarget()),
            rf"ProtocolTarget \(test_project_targets\.py, line \d+\) lacks {OF_TARGETS}, interrupt, advice, finish\. "
            r"If you wrote it: extend penstock\.BaseTarget, and write what has no default there\. Otherwise report",
        ),
    ],
    ids=["sink", "target", "target that extends the protocol"],
)
def test_a_sink_or_target_that_lacks_attributes_is_refused(
    server: Server, tmp_path: Path, sink: Any, message: str
) -> None:
    """
    The error names the class, its place, all that it lacks, and the base class that has the defaults.
    """
    project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)

    with pytest.raises(PluginError, match=f"^{message}"):
        project.run("shop", to=sink, **DAYS)


@pytest.mark.parametrize("method", ["run", "plan"])
def test_a_ledger_that_lacks_a_method_is_refused(server: Server, tmp_path: Path, method: str) -> None:
    """
    What a run records there would be lost. The target is closed, so that its lock is free.
    """
    target, readonly = DecliningTarget(), DecliningTarget()
    own = SqliteLedger(tmp_path / "ledger.sqlite")
    target.ledger = readonly.ledger = other("OtherLedger", own, {"fail_all"})
    project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)

    with pytest.raises(PluginError, match=r"^OtherLedger \(.*\) lacks fail_all\. .*extend penstock\.Ledger, and"):
        getattr(project, method)("shop", to=sink_of(target, readonly=readonly if method == "plan" else None), **DAYS)

    assert (target if method == "run" else readonly).closed


class FormerLedger(Ledger):
    """A ledger as development versions had it, where ``fail_all`` called ``fail``."""

    def fail(self, source: str, partition: Partition, error: str, run_id: str) -> None:
        """The failure is recorded."""


def test_a_ledger_that_records_failures_by_a_former_name_is_refused(server: Server, tmp_path: Path) -> None:
    """
    Failures would be recorded nowhere, with no error.
    """
    target = DecliningTarget()
    target.ledger = FormerLedger()  # type: ignore[abstract]
    project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)

    with pytest.raises(PluginError, match=r"^FormerLedger \(.*\) has fail, .* Write fail_all, "):
        project.run("shop", to=sink_of(target), **DAYS)


def test_a_target_that_is_only_read_needs_no_begin(server: Server, tmp_path: Path) -> None:
    """
    ``open_readonly`` may return a target of another class than ``open``.
    """
    project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)

    assert project.plan("shop", to=sink_of(None, readonly=BaseTarget()), **DAYS).partitions


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


def test_rows_of_a_source_without_a_section_are_not_deleted(server: Server, tmp_path: Path) -> None:
    """
    Rows of a source without a section are not deleted, since its columns are not known: one error, and not a notice for
    each stream that is left.
    """
    file = tmp_path / "penstock.toml"
    section = f'base_url = "{server.base_url}"\nkey = {{ env = "KEY" }}\n'
    made: dict[str, Any] = {"plugins": PLUGINS, "environ": {"KEY": "sesame-open"}, "clock": Stopped}
    file.write_text(f"[source.shop]\n{section}")
    Project(file, **made).run("shop", to=f"jsonl:{tmp_path / 'data'}", **DAYS)
    file.write_text(f'[source.other]\nconnector = "shop"\n{section}')

    with pytest.raises(UsageError, match=r"no \[source.shop\] any more.*Restore the section"):
        Project(file, **made).forget("shop", rows=True, **DAYS)


def test_a_configuration_with_problems_has_no_notices(server: Server, tmp_path: Path) -> None:
    """
    A notice before an error, such as that of a secret in the file, would lead away from it.
    """
    shop = f'[source.shop]\nbase_url = "{server.base_url}"\nkey = "sesame-in-plain-text"\n'
    file = tmp_path / "penstock.toml"
    heard: list[Any] = []

    file.write_text(shop)
    Project(file, plugins=PLUGINS, environ={}).run("shop", to=f"jsonl:{tmp_path / 'data'}", on_event=heard.append)
    assert [event for event in heard if event["event"] == "notice" and "secrets are written" in event["message"]]

    file.write_text(f'{shop}exclude = ["nosuch"]\n')
    heard.clear()
    with pytest.raises(ConfigError):
        Project(file, plugins=PLUGINS, environ={}).run("shop", to=f"jsonl:{tmp_path / 'data'}", on_event=heard.append)
    assert heard == []


def test_a_stream_or_an_account_that_nothing_is_known_of_is_named(project: Project) -> None:
    """
    A typing error would else look like a good result. The exit code is that of nothing found.
    """
    project.run("daily", **DAYS)
    unknown_account = "nothing of an account '77*' was read here"

    for result in (
        project.rejected(accounts=["77*", "7"]),
        project.totals(accounts=["77*"]),
        project.partitions(accounts=["77*"]),
        project.status(accounts=["77*"]),
        project.forget("shop", accounts=["77*"], rows=True),
    ):
        assert (result.exit_code, result.notices) == (0, (unknown_account,))
    assert project.rejected(stream="sails").notices == ("no stream 'sails' is known here. Did you mean \"sales\"?",)
    assert project.rejected(stream="sales", accounts=["7"]).notices == ()
