"""
The ledger keeps what was recorded, refuses what is not its own, and never holds a secret.
"""

import json
import sqlite3
import stat
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from attrs import evolve
from penstock.errors import SinkError, TargetError
from penstock.ledger import SCHEMA_VERSION, Retention, SqliteLedger
from penstock.ledger_interface import LedgerEntry, LedgerFile, PendingReport, RunRecord
from penstock.model import Partition, Rejected
from penstock.redact import Secret
from sqlite_statements import Statements

DAY = Partition("clicks", (("advertiser_id", "2112"), ("report_date", "2026-03-01")))
NIGHT = datetime(2026, 3, 5, 4, 30, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
DELIVERY = LedgerEntry(
    source="talroo",
    partition=DAY,
    state="delivered",
    run_id="r1",
    read_at=NIGHT,
    open_until=NIGHT - timedelta(days=1),
    fingerprint="f1",
    rows=3,
    promised=5,
    rejected=1,
    repeated=1,
    truncated=True,
    unread_values=2,
    reader_version="Click 1.2",
    sums={"price": Decimal("1.10")},
    derived_rows={"tags": 2},
    files=(LedgerFile(path="talroo/clicks/data.jsonl", size=10, checksum="crc32:00000001"), LedgerFile(path="none")),
)
BAD = Rejected(stream="clicks", path="$[3].price", reason="no number", raw='{"price":"x"}')


VERSION_1 = Path(__file__).with_name("fixtures") / "ledger_1.sql"


def day_of(account: str, day: date) -> Partition:
    return Partition("clicks", (("advertiser_id", account), ("report_date", day.isoformat())))


@pytest.fixture
def ledger(tmp_path: Path, statements: Statements):
    ledger = SqliteLedger(tmp_path / "state" / "ledger.sqlite")
    yield ledger
    ledger.close()


def test_a_delivery_comes_back_as_it_was(ledger):
    """
    Every fact of a delivery survives, its version counts up, and it is final according to its times.
    """
    ledger.deliver(evolve(DELIVERY, rejected_records=(BAD,)))

    (entry,) = ledger.entries("talroo", "clicks").values()
    assert entry == evolve(DELIVERY, version=1)
    assert entry.is_final
    assert list(ledger.rejected()) == [(entry, BAD)]
    assert ledger.sources() == (("talroo", "clicks"),)
    assert ledger.entries("talroo", "other") == ledger.entries("other", "clicks") == {}


def test_recorded_entries_are_durable_and_readable_by_others(ledger):
    """
    An entry that a method recorded is there for another process at once, also for one that may only read.
    """
    ledger.deliver(DELIVERY)
    reader = SqliteLedger(ledger.path, readonly=True)
    found = reader.entry("talroo", DAY)
    with pytest.raises(TargetError, match="readonly"):
        reader.forget("talroo", [DAY])
    reader.close()

    assert found == evolve(DELIVERY, version=1)


def test_a_person_can_read_it(ledger):
    """
    The view ``days`` has a line per partition in plain words.
    """
    ledger.deliver(DELIVERY)
    ledger.deliver(evolve(DELIVERY, partition=Partition("jobs"), open_until=None))
    shell = sqlite3.connect(ledger.path)
    found = shell.execute("select stream, partition, state, day_was, rows, read_at from days").fetchall()
    shell.close()

    assert found == [
        *[("clicks", DAY.text, "delivered", "closed", 3, "2026-03-05T03:30:00.123456+00:00")],
        *[("jobs", "{}", "delivered", None, 3, "2026-03-05T03:30:00.123456+00:00")],
    ]


@pytest.mark.parametrize(
    ("held", "version"),
    [
        pytest.param(1, 0, id="delivered meanwhile"),
        pytest.param(1, 2, id="ahead"),
        pytest.param(0, 1, id="forgotten meanwhile"),
    ],
)
@pytest.mark.parametrize("state", ["intended", "staged", "delivered"])
def test_a_commit_of_another_version_is_refused(ledger, held, version, state):
    """
    An entry is stored only in place of the reading it was planned on.
    """
    for number in range(held):
        ledger.deliver(evolve(DELIVERY, version=number))

    with pytest.raises(SinkError, match="changed in the ledger"):
        ledger.deliver(evolve(DELIVERY, version=version, rows=99, state=state, rejected_records=(BAD,)))

    assert [entry.rows for entry in ledger.entries("talroo", "clicks").values()] == [3] * held
    assert list(ledger.rejected()) == []


def test_a_delivery_replaces_the_one_before(ledger):
    """
    Rejected records and error of the former reading go with it.
    """
    ledger.deliver(evolve(DELIVERY, rejected_records=(BAD, evolve(BAD, path="$[4]"))))
    ledger.fail_all("talroo", [(DAY, "down")], "r2")
    other = evolve(BAD, path="$[9]")
    ledger.deliver(evolve(DELIVERY, version=1, rows=7, rejected_records=(other,)))

    (entry,) = ledger.entries("talroo", "clicks").values()
    assert (entry.rows, entry.version, entry.error, entry.attempts) == (7, 2, None, 0)
    assert [one for _, one in ledger.rejected("talroo", "clicks")] == [other]


def test_a_failure_leaves_the_delivery(ledger):
    """
    A failure after a delivery keeps its facts and version, with the error and the number of attempts beside them.
    """
    ledger.deliver(DELIVERY)
    ledger.fail_all("talroo", [(DAY, "503")], "r2")
    ledger.fail_all("talroo", [(DAY, "504")], "r3")

    assert ledger.entry("talroo", DAY) == evolve(DELIVERY, version=1, error="504", attempts=2)


def test_a_failure_without_a_delivery(ledger):
    """
    A failure before any delivery is recorded as failed, and delivering afterwards is planned on version 0 or on what
    was read back.
    """
    ledger.fail_all("talroo", [(DAY, "503")], "r1")
    ledger.fail_all("talroo", [(DAY, "504")], "r2")

    failed = ledger.entry("talroo", DAY)
    assert (failed.state, failed.error, failed.attempts, failed.run_id) == ("failed", "504", 2, "r2")
    ledger.deliver(evolve(DELIVERY, version=failed.version))
    assert ledger.entry("talroo", DAY).delivered


def test_an_intent_can_be_completed_or_taken_back(ledger):
    """
    While an intent stands the entry is intended; taken back, the former delivery counts again, or nothing.
    """
    other = Partition("clicks", (("advertiser_id", "1"), ("report_date", "2026-03-01")))
    ledger.deliver(evolve(DELIVERY, rejected_records=(BAD,)))
    intent = evolve(DELIVERY, state="intended", rows=9, rejected_records=())
    ledger.deliver(evolve(intent, version=1))
    ledger.deliver(evolve(intent, partition=other))

    assert [(entry.state, entry.rows) for entry in ledger.entries("talroo", "clicks").values()] == [("intended", 9)] * 2
    assert ledger.take_back("talroo", DAY) == evolve(DELIVERY, version=3)
    assert ledger.take_back("talroo", other) is None
    assert [one for _, one in ledger.rejected()] == [BAD]


def test_forgotten_readings_are_missing(ledger):
    """
    Forgotten readings are gone, with their rejected records; others stay.
    """
    other = Partition("clicks", (("advertiser_id", "1"), ("report_date", "2026-03-01")))
    ledger.deliver(evolve(DELIVERY, rejected_records=(BAD,)))
    ledger.deliver(evolve(DELIVERY, partition=other))

    assert ledger.forget("talroo", [DAY, Partition("clicks", (("never", "seen"),))]) == 1
    assert set(ledger.entries("talroo", "clicks")) == {other}
    assert list(ledger.rejected()) == []


def test_many_partitions_are_forgotten_by_few_statements(ledger, statements):
    """
    Two statements for each thousand of a stream, whatever the number of partitions.
    """
    days = [day_of("1", date(2020, 1, 1) + timedelta(days=number)) for number in range(1200)]
    for day in days[:3]:
        ledger.deliver(evolve(DELIVERY, partition=day))
    statements.clear()

    assert ledger.forget("talroo", days) == 3
    assert statements.count("delete") == 4


@pytest.fixture
def many(tmp_path: Path, statements: Statements):
    """Three accounts of 30 days each; every fifth day is open, and one day failed."""
    ledger = SqliteLedger(tmp_path / "many.sqlite")
    for account in ("a", "b", "c"):
        for number in range(30):
            partition = day_of(account, date(2026, 3, 1) + timedelta(days=number))
            until = NIGHT + timedelta(days=1) if number % 5 == 0 else NIGHT
            ledger.deliver(evolve(DELIVERY, partition=partition, open_until=until, unread_values=2))
    ledger.deliver(evolve(DELIVERY, partition=Partition("jobs", (("advertiser_id", "a"),)), open_until=None))
    ledger.fail_all("talroo", [(day_of("b", date(2026, 3, 30)), "503 | down")], "r2")
    ledger.fail_all("talroo", [(day_of("b", date(2026, 4, 2)), "504 | later")], "r2")
    statements.clear()
    yield ledger
    ledger.close()


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        pytest.param({"since": date(2026, 3, 30), "until": date(2026, 3, 30)}, 3, id="one day"),
        pytest.param({"since": date(2026, 3, 30)}, 4, id="from a day on"),
        pytest.param({"until": date(2026, 3, 2), "accounts": ["a", "c", "never"]}, 4, id="until a day, two accounts"),
        pytest.param({"accounts": []}, 0, id="no account"),
        pytest.param({}, 91, id="all"),
    ],
)
def test_a_window_is_read_and_nothing_else(many, statements, window, expected):
    """
    The rows of the days and accounts requested are read from the database, no others.
    """
    found = many.entries("talroo", "clicks", **window)

    assert (len(found), len(statements.rows)) == (expected, expected)
    for partition, entry in found.items():
        assert entry.partition == partition


def test_a_row_without_a_day_is_within_any_window(many):
    """
    A snapshot's account has no day, and a window of days does not exclude it.
    """
    assert len(many.entries("talroo", "jobs", since=date(2026, 3, 30), until=date(2026, 3, 30))) == 1


def test_a_window_uses_the_index(many, statements):
    """
    The query for a window searches by day, and does not scan the stream.
    """
    many.entries("talroo", "clicks", since=date(2026, 3, 30), until=date(2026, 3, 30), accounts=["a"])
    (without_day, *_), (of_days, *_) = statements.plans()

    assert without_day.startswith("SEARCH partitions USING INDEX")
    assert "day=?" in without_day
    assert of_days.startswith("SEARCH partitions USING INDEX")
    assert "day>? AND day<?" in of_days


def test_counts_are_made_by_the_database(many, statements):
    """
    One row per stream and account comes back, however many partitions there are.
    """
    found = {(one.stream, one.account.get("advertiser_id")): one for one in many.counts("talroo")}

    assert len(found) == 4
    assert len(statements.rows) == 4 + 1 + 2  # with an error, and a partition of each stream for the account's column
    first, second = found["clicks", "a"], found["clicks", "b"]
    assert (first.partitions, first.final, first.open, first.failed, first.missing) == (30, 24, 6, 0, 0)
    assert (first.rows, first.rejected, first.unread_values) == (90, 30, 60)
    assert (first.first_day, first.last_day) == (date(2026, 3, 1), date(2026, 3, 30))
    assert (first.last_read, first.error) == (NIGHT, None)
    assert (second.partitions, second.final, second.open, second.failed, second.missing) == (31, 23, 6, 2, 2)
    assert second.error == "504 | later"
    assert found["jobs", "a"].account == {"advertiser_id": "a"}
    assert (found["jobs", "a"].first_day, found["jobs", "a"].open, found["jobs", "a"].missing) == (None, 1, 0)
    assert many.counts("other") == ()


def test_counts_need_no_sort(many, statements):
    """
    The query of `status` reads an index, account by account, and no row beside it.
    """
    many.counts("talroo")

    assert statements.plans("sum(rows)") == [["SEARCH partitions USING INDEX partitions_summed (source=?)"]]


def test_streams_are_found_without_reading_their_rows(many, statements):
    """
    One row for each stream of each source is read, however many partitions it has.
    """
    assert many.sources() == (("talroo", "clicks"), ("talroo", "jobs"))
    assert len(statements.rows) == 2
    assert many.sources("talroo") == (("talroo", "clicks"), ("talroo", "jobs"))
    assert many.sources("joveo") == ()


def test_streams_are_found_at_a_cost_that_does_not_grow_with_their_rows(many, statements):
    """
    Steps of the database are counted: it reads no row that it does not return.
    """

    def steps():
        counted = []
        (connection,) = statements.connections
        many.sources()  # prepared: some versions of SQLite count the steps of that, too
        connection.set_progress_handler(lambda: counted.append(None), 1)
        many.sources()
        connection.set_progress_handler(None, 1)
        return len(counted)

    few = steps()
    for number in range(100):
        many.deliver(evolve(DELIVERY, partition=day_of("d", date(2026, 3, 1) + timedelta(days=number))))

    assert steps() == few


def test_final_days_are_read_within_their_window_only(many, statements):
    """
    Only the final rows of the window are read from the database.
    """
    window = {"since": date(2026, 3, 20), "until": date(2026, 3, 30), "accounts": ["a"]}
    final = [one for one in many.entries("talroo", "clicks", **window).values() if one.is_final]
    statements.clear()
    found = list(many.final_days("talroo", "clicks", **window))

    assert [(day.account, day.day) for day, _, _ in found] == [("a", one.partition.values[-1][1]) for one in final]
    assert found
    assert len(statements.rows) == len(found)


def test_final_days_are_read_some_days_at_a_time(many, statements):
    """
    The client of a database holds the rows of a query: those of a long history are of several.
    """
    window = {"since": date(2026, 1, 1), "until": date(2026, 12, 31)}
    whole = list(many.final_days("talroo", "clicks", **window, accounts=["a", "b"]))
    statements.clear()

    others = [f"other {number}" for number in range(1998)]  # five of their days are ten thousand rows
    found = list(many.final_days("talroo", "clicks", **window, accounts=["a", "b", *others]))

    held = [len(one.rows) for one in statements.executed]
    assert sorted(found) == sorted(whole)
    assert sum(held) == len(found)
    assert 0 < max(held) <= 10


def test_a_restatement_is_recorded_with_the_delivery(ledger):
    """
    A new reading of a report's day that changes its rows or sums is kept with the figures before and after.
    """
    other = evolve(DELIVERY, partition=Partition("jobs", (("advertiser_id", "1"),)))
    for number, (rows, price) in enumerate([(3, "1.10"), (3, "1.10"), (4, "1.10"), (4, "1.25")]):
        sums = {"price": Decimal(price), "clicks": Decimal(number)} if number else {"price": Decimal(price)}
        ledger.deliver(evolve(DELIVERY, run_id=f"r{number}", rows=rows, version=number, sums=sums))
        ledger.deliver(evolve(other, rows=rows, version=number))
    ledger.deliver(evolve(DELIVERY, version=4, rows=9, kind="changes"))

    second, third = ledger.restated("talroo")
    assert (second.run_id, second.rows, second.sums) == ("r2", (3, 4), {"clicks": (Decimal(1), Decimal(2))})
    assert third.rows == (4, 4)
    assert third.sums == {"price": (Decimal("1.10"), Decimal("1.25")), "clicks": (Decimal(2), Decimal(3))}
    assert (third.partition, third.changes) == (DAY, None)
    assert list(ledger.restated(since=second.restated_at)) == [second, third]
    assert list(ledger.restated("talroo", runs="r3")) == [third]
    assert list(ledger.restated("joveo")) == []


def test_a_refused_commit_records_no_restatement(ledger):
    """
    A day that another run delivered meanwhile is not compared with a reading that is not stored.
    """
    ledger.deliver(DELIVERY)
    with pytest.raises(SinkError, match="changed in the ledger"):
        ledger.deliver(evolve(DELIVERY, version=7, rows=99))

    assert list(ledger.restated()) == []


def test_the_history_of_runs_is_bounded(ledger):
    """
    Records of runs that are older, or more, than is kept are deleted, those of other sources stay; a restatement is
    deleted only where an age is set, and a run's report does not repeat it.
    """
    ledger.retention = Retention(runs=3, run_days=10)
    ledger.deliver(DELIVERY)
    ledger.deliver(evolve(DELIVERY, version=1, rows=4))
    report = {"streams": {"clicks": {"records": 4, "restated": [{"rows": [3, 4]}]}}}
    ledger.record_run(RunRecord(run_id="other", source="joveo", started_at=NIGHT - timedelta(days=99)))
    for number in range(6):
        run = RunRecord(run_id=f"r{number}", source="talroo", started_at=NIGHT + timedelta(days=number), report=report)
        ledger.record_run(run)

    assert [run.run_id for run in ledger.runs("talroo")] == ["r5", "r4", "r3"]
    assert ledger.runs("talroo", 1)[0].report == {"streams": {"clicks": {"records": 4}}}
    ledger.record_run(RunRecord(run_id="late", source="talroo", started_at=NIGHT + timedelta(days=14)))
    assert [run.run_id for run in ledger.runs("talroo")] == ["late", "r5", "r4"]
    assert len(ledger.runs("joveo")) == len(list(ledger.restated())) == 1
    ledger.retention = Retention(restatement_days=1)
    ledger.record_run(RunRecord(run_id="last", source="talroo", started_at=datetime(2999, 1, 1, tzinfo=UTC)))
    assert list(ledger.restated()) == []


def test_a_run_report_is_bounded(ledger):
    """
    A report with long errors and thousands of unknown members is shortened; its counts stay.
    """
    counts = {"records": 4, "unknown_members": [f"member {number}" * 20 for number in range(2_000)]}
    errors = [{"stream": "clicks", "message": f"{number} " + "x" * 8_000} for number in range(20)]
    report = {"streams": {"clicks": counts}, "errors": errors}
    ledger.record_run(RunRecord(run_id="r1", source="talroo", started_at=NIGHT, report=report))

    found = ledger.runs("talroo")[0].report
    assert len(json.dumps(found)) < 2**16
    assert (found["streams"]["clicks"]["records"], found["shortened"]) == (4, True)
    assert found["errors"][0]["message"].startswith("0 xxx")
    assert len(found["streams"]["clicks"]["unknown_members"]) == 20


@pytest.fixture
def former_ledger(tmp_path):
    """The path of a ledger of the former version."""
    path = tmp_path / "ledger.sqlite"
    database = sqlite3.connect(path)
    database.executescript(VERSION_1.read_text())
    database.execute("pragma journal_mode = wal")
    database.close()
    return path


@pytest.mark.parametrize("readonly", [False, True], ids=["to write", "to look"])
def test_a_ledger_of_the_former_version_is_brought_up_to_date(former_ledger, readonly):
    """
    The rows of a ledger of the former version are kept: nothing that was final is missing. A reader changes nothing.
    """
    path, before = former_ledger, former_ledger.read_bytes()

    ledger = SqliteLedger(path, readonly=readonly)
    found = ledger.entries("talroo", "clicks")
    counts = {one.account.get("advertiser_id"): one for one in ledger.counts("talroo", "clicks")}
    assert found[DAY].is_final
    first = found[DAY]
    assert (first.rows, first.promised, first.rejected, first.sums) == (3, 5, 1, {"price": Decimal("1.10")})
    assert (first.version, first.derived_rows, first.read_at) == (1, {"tags": 2}, NIGHT)
    assert (found[DAY].unread_values, found[DAY].reader_version, len(found)) == (0, "", 7)
    assert set(counts) == {"2112", 'a"\\b, "c":', None, "9", "10"}
    assert (counts["2112"].final, counts["2112"].open, counts["9"].failed) == (1, 2, 1)
    assert len(ledger.entries("talroo", "clicks", since=date(2026, 3, 2), until=date(2026, 3, 2))) == 2
    assert len(ledger.entries("talroo", "clicks", accounts=["2112", 'a"\\b, "c":'])) == 4
    assert len(list(ledger.rejected())) == 8
    assert [entry.rows for entry in found.values() if entry.state == "intended"] == [9]
    assert ledger.pending("talroo", "clicks")[0].submitted_at == NIGHT
    assert ledger.runs("talroo")[0].started_at == NIGHT
    ledger.close()
    assert (path.read_bytes() == before) is readonly


def test_a_ledger_of_the_former_version_is_written_on(former_ledger):
    """
    Deliveries follow upon the former ones, and the new version is kept.
    """
    ledger = SqliteLedger(former_ledger)
    ledger.deliver(evolve(DELIVERY, version=1, rows=9, reader_version="b", unread_values=1))
    ledger.close()

    again = SqliteLedger(former_ledger)
    assert (again.entry("talroo", DAY).reader_version, again.fact("schema")) == ("b", str(SCHEMA_VERSION))
    assert [one.rows for one in again.restated()] == [(3, 9)]
    again.close()


def test_rejected_records_are_found_by_source_and_stream(ledger):
    """
    A stream's name finds the records of its partitions, and its own where it is derived from another.
    """
    derived = evolve(BAD, stream="tags")
    ledger.deliver(evolve(DELIVERY, rejected_records=(BAD, derived)))
    ledger.deliver(evolve(DELIVERY, source="joveo", rejected_records=(BAD,)))

    def found(*of):
        return [(entry.source, one.stream) for entry, one in ledger.rejected(*of)]

    assert found() == [("joveo", "clicks"), ("talroo", "clicks"), ("talroo", "tags")]
    assert found("talroo", "clicks") == [("talroo", "clicks"), ("talroo", "tags")]
    assert found("talroo", "tags") == [("talroo", "tags")]
    assert found(None, "jobs") == []


def test_reports_under_way_are_kept_until_they_are_dropped(ledger):
    """
    A submitted report comes back for another process to go on with, until it is dropped.
    """
    report = PendingReport(
        source="joveo",
        stream="stats",
        handle="https://files/" + "x" * 4000,
        request='{"method":"POST"}',
        partitions=(DAY, Partition("clicks", (("advertiser_id", "ä\n"), ("report_date", "2026-03-02")))),
        submitted_at=NIGHT,
        fingerprint="f1",
    )
    report = evolve(report, partitions=tuple(evolve(one, stream="stats") for one in report.partitions))
    second = evolve(report, handle="2", submitted_at=NIGHT + timedelta(seconds=1))
    ledger.submit(second)
    ledger.submit(report)
    ledger.submit(report)

    assert ledger.pending("joveo", "stats") == (report, second)
    ledger.drop(report)
    assert ledger.pending("joveo", "stats") == (second,)
    assert ledger.pending("joveo", "other") == ()


def test_accounts_are_those_listed_last(ledger):
    """
    Accounts are those listed last, in the provider's order; one that is no longer listed is no longer remembered.
    """
    ledger.remember_accounts("joveo", "clients", ["b", "a", "c"])
    ledger.remember_accounts("joveo", "clients", ["c", "b"])

    assert ledger.accounts("joveo", "clients") == ("c", "b")
    assert ledger.accounts("joveo", "campaigns") == ()


def test_runs_newest_first(ledger):
    """
    A run is recorded when it starts and completed when it ends; the zone of its clock does not change the order.
    """
    first = RunRecord(run_id="r1", source="talroo", started_at=NIGHT)
    second = RunRecord(run_id="r2", source="talroo", started_at=(NIGHT + timedelta(minutes=1)).astimezone(UTC))
    ledger.record_run(second)
    ledger.record_run(first)
    ended = evolve(first, finished_at=NIGHT + timedelta(hours=1), exit_code=1, report={"streams": {"clicks": 1}})
    ledger.record_run(ended)

    assert ledger.runs("talroo") == (second, ended)
    assert ledger.runs("talroo", limit=1) == (second,)
    assert ledger.runs("talroo", offset=1) == (ended,)
    assert ledger.runs("talroo", run_id=ended.run_id) == (ended,)
    assert ledger.runs("joveo", run_id=ended.run_id) == ()


def test_no_secret_gets_in(ledger):
    """
    Free text is masked on its way in, wherever it comes from.
    """
    Secret("hunter2hunter2")
    text = "password hunter2hunter2"
    ledger.deliver(evolve(DELIVERY, rejected_records=(evolve(BAD, reason=text, raw=text, path=text),)))
    ledger.fail_all("talroo", [(DAY, text)], "r1")
    ledger.record_run(RunRecord(run_id="r1", source="talroo", started_at=NIGHT, report={"errors": [{text: text}]}))
    ledger.submit(
        PendingReport(
            source="s", stream="t", handle=text, request=text, partitions=(), submitted_at=NIGHT, fingerprint=""
        )
    )
    ledger.deliver(evolve(DELIVERY, version=1, state="intended", error=text, rejected_records=(evolve(BAD, raw=text),)))
    ledger.close()

    content = b"".join(path.read_bytes() for path in ledger.path.parent.iterdir())
    assert b"password ***" in content
    assert b"hunter2" not in content


def test_only_its_owner_may_read_it(ledger):
    """
    The file is 0600 and a directory made for it 0700.
    """
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(ledger.path.parent.stat().st_mode) == 0o700


def test_a_newer_ledger_is_refused(ledger):
    """
    A ledger of a newer penstock is not touched, whether to write or to look.
    """
    ledger.set_fact("schema", str(SCHEMA_VERSION + 1))
    for readonly in (False, True):
        with pytest.raises(TargetError, match="Upgrade penstock"):
            SqliteLedger(ledger.path, readonly=readonly)

    assert ledger.fact("schema") == str(SCHEMA_VERSION + 1)


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 500)


def _foreign(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("create table orders (id)")
    database.close()


def _cut(path: Path) -> None:
    ledger = SqliteLedger(path)
    for number in range(200):
        ledger.fail_all("talroo", [(Partition("clicks", (("n", str(number)),)), "x" * 100)], "r1")
    ledger.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("readonly", [False, True], ids=["to write", "to look"])
@pytest.mark.parametrize(
    ("make", "output"),
    [
        pytest.param(_garbage, "not a database", id="garbage"),
        pytest.param(_foreign, "not a ledger of penstock", id="another database"),
        pytest.param(_cut, "damaged", id="cut in half"),
    ],
)
def test_a_file_that_is_no_ledger_is_refused_and_kept(tmp_path, make, output, readonly):
    """
    The error names the file and what to do; nothing of it is changed.
    """
    path = tmp_path / "ledger.sqlite"
    make(path)
    before = path.read_bytes()

    with pytest.raises(TargetError, match=output) as caught:
        SqliteLedger(path, readonly=readonly).entries("talroo", "clicks")

    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_an_empty_file_is_a_ledger_without_entries(tmp_path):
    """
    A run killed while it made the ledger leaves nothing to look at, and the next run makes it.
    """
    path = tmp_path / "ledger.sqlite"
    path.touch()
    looking = SqliteLedger(path, readonly=True)
    assert looking.sources() == ()
    looking.close()

    ledger = SqliteLedger(path)
    ledger.deliver(DELIVERY)
    ledger.close()


def test_a_place_that_cannot_be_written(tmp_path):
    """
    A file where the directory should be is the user's to solve.
    """
    (tmp_path / "state").write_text("")

    with pytest.raises(TargetError, match="cannot be written"):
        SqliteLedger(tmp_path / "state" / "ledger.sqlite")


def test_a_full_disk_is_named(ledger, statements):
    """
    The database's own limit stands for the disk's: what was recorded before stays.
    """
    ledger.deliver(DELIVERY)
    (connection,) = statements.connections
    connection.execute("pragma max_page_count = 1")

    with pytest.raises(SinkError, match="Free some space"):
        ledger.fail_all("talroo", [(Partition("clicks"), "x" * 100_000)], "r1")

    assert ledger.entry("talroo", DAY) == evolve(DELIVERY, version=1)


def test_times_without_a_zone_are_refused(ledger):
    """
    A naive time would be read in whatever zone the next machine has.
    """
    with pytest.raises(ValueError, match="no zone"):
        ledger.deliver(evolve(DELIVERY, read_at=NIGHT.replace(tzinfo=None)))


def test_rejected_records_are_read_as_they_are_taken(ledger, statements):
    """
    Some at a time, each with the row of its partition, also where a partition goes on after them.
    """
    days = [day_of("1", date(2026, 3, number)) for number in (1, 2, 3)]
    for day in days:
        ledger.deliver(evolve(DELIVERY, partition=day, rejected_records=(BAD,) * 4000))
    statements.clear()
    records = ledger.rejected("talroo")
    first = next(records)
    (query,) = statements.of("from rejected")
    taken_first = len(query.rows)

    assert [entry.partition for entry, _ in (first, *records)] == [day for day in days for _ in range(4000)]
    assert (taken_first, len(query.rows)) == (10_000, 12_000)


@pytest.mark.parametrize("source", [None, "talroo"])
def test_rejected_records_of_a_window(ledger, statements, source):
    """
    The records of its days, the first and the last included, and of partitions without a day are read, and no others.
    """
    snapshot = Partition("clicks", (("advertiser_id", "1"),))
    for partition in [*(day_of("1", date(2026, 3, number)) for number in range(1, 7)), snapshot]:
        ledger.deliver(evolve(DELIVERY, partition=partition, rejected_records=(BAD,)))

    def days(**window):
        statements.clear()
        found = [entry.partition.day and entry.partition.day.day for entry, _ in ledger.rejected(source, **window)]
        (query,) = statements.of("from rejected")
        assert len(query.rows) == len(found)
        return found

    assert days(since=date(2026, 3, 2), until=date(2026, 3, 4)) == [2, 3, 4, None]
    assert days(since=date(2026, 3, 5)) == [5, 6, None]
    assert days(until=date(2026, 3, 1)) == [1, None]
    assert days() == [1, 2, 3, 4, 5, 6, None]


@pytest.mark.parametrize(
    ("window", "queries"), [({}, 2), ({"since": date(2026, 3, 1)}, 4)], ids=["all", "window"]
)  # in a window, two more find the streams
def test_rejected_records_cost_few_queries(ledger, statements, window, queries):
    """
    The number of queries does not depend on the number of partitions that have one; no row of a partition without one,
    and none outside the window, is read.
    """
    days = [day_of("1", date(2026, 3, number)) for number in range(1, 21)]
    for number, day in enumerate(days):
        ledger.deliver(evolve(DELIVERY, partition=day, rejected_records=(BAD,) * (number % 2)))
    statements.clear()
    found = [entry.partition for entry, _ in ledger.rejected("talroo", **window)]

    assert found == days[1::2]
    assert len(statements.executed) == queries
    steps = [step for plan in statements.plans() for step in plan]
    assert {step for step in steps if "SCAN" in step} == {"SCAN json_each VIRTUAL TABLE INDEX 1:"}
    of_days = [step for step in steps if "SEARCH partitions" in step and "day>? AND day<?" in step]
    assert bool(of_days) == bool(window)


def test_restatements_by_forget_are_found_by_an_index(ledger, statements):
    """
    The restatements that ``forget`` recorded are read without those of the provider, and these by their time.
    """
    ledger.deliver(DELIVERY)
    for number, run_id in enumerate(["r1", "forget-1", "forgetful"], start=1):
        ledger.deliver(evolve(DELIVERY, run_id=run_id, version=number, rows=3 + number))
    statements.clear()
    found = [change.run_id for change in ledger.restated("talroo", runs="forget-")]
    others = [change.run_id for change in ledger.restated("talroo", since=NIGHT - timedelta(days=9999))]

    assert found == ["forget-1"]
    assert others == ["r1", "forget-1", "forgetful"]
    assert [plan[0] for plan in statements.plans()] == [
        "SEARCH restatements USING INDEX restatements_forgotten (source=?)",
        "SEARCH restatements USING INDEX restatements_at (source=? AND restated_at>?)",
    ]


def test_entries_that_need_attention_are_read_without_the_rest(many, statements):
    """
    The days of an account with an error, with rejected records or values not read, and truncated ones are read.
    """
    fine = evolve(DELIVERY, rejected=0, unread_values=0, truncated=False, reader_version="", version=1)
    for number in range(30):
        many.deliver(evolve(fine, partition=day_of("a", date(2026, 3, 1) + timedelta(days=number))))
    flaws = {1: {"rejected": 1}, 2: {"unread_values": 1}, 3: {"truncated": True}, 4: {"reader_version": "v1"}}
    for number, flaw in flaws.items():
        many.deliver(evolve(fine, partition=day_of("a", date(2026, 3, number)), version=2, **flaw))
    many.fail_all("talroo", [(day_of("a", date(2026, 3, 5)), "503")], "r2")
    statements.clear()

    found = many.entries("talroo", "clicks", accounts=["a"], flawed=True)

    assert [partition.day.day for partition in found] == [1, 2, 3, 4, 5]
    assert len(statements.rows) == 5
    many.unread_by_other_versions("talroo", "clicks", "v2")
    plans = [plan[0] for plan in statements.plans()]
    assert len(plans) == 2
    assert all("USING INDEX partitions_flawed" in plan for plan in plans), plans
