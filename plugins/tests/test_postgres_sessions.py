"""
Sessions of a target: how one begins, is lost and is opened again; locks, crashes of the server, publications, poolers.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from attrs import evolve
from penstock import (
    Batch,
    Column,
    LockHeldError,
    PenstockError,
    RunRecord,
    Secret,
    SinkError,
    StoppedError,
    TargetError,
    UsageError,
)
from penstock.testing.sinks import CLICKS, LEADS, READ_AT, SOURCE, a_day, an_entry, click, lead, rows_of
from penstock_plugins.postgres import database, locks
from penstock_plugins.postgres.locks import lock_key
from penstock_plugins.postgres.query import rows_of as queried
from postgres_runs import (
    LostAnswer,
    a_click_of,
    a_session_end,
    a_trigger,
    deliver,
    delivered,
    name_of,
    query,
    sink,
    verified,
)
from postgres_server import server, with_database
from waits import eventually

pytestmark = pytest.mark.slow


@contextmanager
def reading(dsn: str) -> Iterator[None]:
    """A session that read the table and forgot to end its transaction."""
    with psycopg.connect(dsn) as other:
        other.execute("select count(*) from acme.clicks")
        yield


@pytest.fixture
def short_lock_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for a lock end after a moment, and a change of a table is tried twice."""
    monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 1)
    monkeypatch.setattr(locks, "CHANGE_TRIES", 2)
    monkeypatch.setattr(locks, "SHORT_WAIT_MS", 100)
    monkeypatch.setattr(locks, "CHANGE_PAUSE_S", 0.05)


WIDER = evolve(CLICKS, columns=(*CLICKS.columns[:-1], Column(name="device", type="text"), CLICKS.columns[-1]))


@pytest.mark.usefixtures("short_lock_waits")
def test_an_idle_reader_refuses_a_change_once(dsn: str):
    """
    A new column is tried for a bounded time, once a run; the other streams go on, and readers are let in between.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    with reading(dsn):
        target.prepare([WIDER, LEADS])
        for day in (1, 2):
            with pytest.raises(SinkError, match=r"other sessions hold a lock \(session \d+ of .*idle in transaction"):
                target.begin([WIDER], a_day(day))
        deliver(target, [lead(1)], LEADS, run_id="r2")
    target.close()
    delivered(dsn, [click(1)], run_id="r3")
    target = sink(dsn).open(SOURCE, "r4")
    target.prepare([WIDER])
    target.close()
    assert ("device",) in query(dsn, "select column_name from information_schema.columns where table_name = 'clicks'")


@pytest.mark.usefixtures("short_lock_waits")
def test_a_run_that_creates_a_table_is_named_where_no_session_is(dsn: str):
    """
    Only one run at a time creates tables: the lock for that is on no table, and the message names the cause.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    with psycopg.connect(dsn) as other:
        other.execute("select pg_advisory_xact_lock(%s)", (lock_key(""),))
        target.prepare([WIDER])
        with pytest.raises(SinkError, match=r"none is on the table now: .* it is a run that creates a table"):
            target.begin([WIDER], a_day(1))
    target.close()


@pytest.mark.parametrize("step", ["change", "commit", "end of the commit"])
def test_a_wait_is_interrupted(dsn: str, step: str):
    """
    When the run is to end, the statement that waits is cancelled, and raises the reason: also COMMIT, which waits for
    the lock of a deferred trigger, or for a standby.
    """
    delivered(dsn, [click(1)])
    if step == "end of the commit":
        a_trigger(
            *(
                dsn,
                "penstock.partitions",
                "constraint trigger late after update on TABLE deferrable initially deferred",
            ),
            "perform pg_sleep(60); return null;",
        )
    target = sink(dsn).open(SOURCE, "r2")
    stop = threading.Event()
    steps: dict[str, Callable[[], Any]] = {
        "change": lambda: target.begin([WIDER], a_day()),
        "commit": lambda: deliver(target, [click(1, url="new")], run_id="r2"),
        "end of the commit": lambda: deliver(target, [click(1, url="new")], run_id="r2"),
    }

    def interrupt() -> None:
        while not stop.wait(0.3):
            target.interrupt(StoppedError("stopped"))

    with psycopg.connect(dsn) as other:
        other.execute("lock table acme.clicks in access exclusive mode" if step == "change" else "select")
        if step == "commit":
            other.execute("update acme.clicks set url = 'mine'")
        thread = threading.Thread(target=interrupt)
        thread.start()
        began = time.monotonic()
        try:
            with pytest.raises(StoppedError):
                steps[step]()
        finally:
            stop.set()
            thread.join()
        assert time.monotonic() - began < 40  # promised are 10; the lock would be waited for 60
    target.close()
    assert query(dsn, "select _run_id from acme.clicks") == [("r1",)]


def test_a_server_that_does_not_respond_is_given_up(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    Where the disk of a server stalls, and no cancellation has an effect, the connection is cut once the run is to end,
    and nothing of the statement is delivered.
    """
    monkeypatch.setattr("penstock_plugins.postgres.database.INTERRUPTED_AFTER_S", 0.2)
    monkeypatch.setattr("penstock_plugins.postgres.database.CUT_AFTER_S", 0.5)
    target = sink(dsn).open(SOURCE, "r1")
    deliver(target, [click(1)], run_id="r1")
    session, stop = target.database.pid, threading.Event()

    def interrupt() -> None:
        while not stop.wait(0.1):
            target.interrupt(StoppedError("stopped"))

    query(dsn, f"copy (select 1) to program 'cat; kill -STOP {session}'")
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(StoppedError):
            deliver(target, [click(1, url="new")], run_id="r2")
        with pytest.raises(StoppedError):
            target.begin([CLICKS], a_day())
    finally:
        stop.set()
        thread.join()
        query(dsn, f"copy (select 1) to program 'cat; kill -CONT {session}'")
    with suppress(StoppedError):  # whether a server that commits late has it on its disk is not known
        target.close()
    assert query(dsn, "select _run_id from acme.clicks") == [("r1",)]


@contextmanager
def crashing() -> Iterator[str]:
    """A database of a server that writes commits to the disk late."""
    with server(wal_writer_delay="10s", autovacuum="off", bgwriter_delay="10s").database() as dsn:
        yield dsn


def crash(dsn: str) -> None:
    """End a process of the server so that all of it starts again, from what is on the disk."""
    with psycopg.connect(dsn, autocommit=True) as witness:
        # By a program of the server itself, as its user: this test need not be allowed to.
        with suppress(psycopg.OperationalError), psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("copy (select 1) to program 'kill -9 $PPID'")
        eventually(lambda: not _answers(witness))  # the server noticed
    eventually(lambda: _accepts(dsn))


def _answers(connection: "psycopg.Connection[Any]") -> bool:
    with suppress(psycopg.OperationalError):
        connection.execute("select 1")
        return True
    return False


def _accepts(dsn: str) -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(dsn).close()
        return True
    return False


def test_a_server_that_lost_commits_fails_the_run():
    """
    A server with ``synchronous_commit = off`` crashed: a partition that was reported as delivered is gone, with its row
    in the ledger. The partition under way fails, later ones are written, and the target is not closed in silence.
    """
    with crashing() as dsn:
        delivered(dsn, [a_click_of(1, 1)], partition=a_day(1))
        query(dsn, "checkpoint")
        target = sink(dsn).open(SOURCE, "r2")
        deliver(target, [a_click_of(2, 1)], partition=a_day(2), run_id="r2")
        crash(dsn)

        with pytest.raises(SinkError, match=r"has lost what was committed last, at least acme clicks\[.*2026-03-02"):
            deliver(target, [a_click_of(3, 1)], partition=a_day(3), run_id="r2")
        deliver(target, [a_click_of(4, 1)], partition=a_day(4), run_id="r2")
        with pytest.raises(SinkError, match="has lost what was committed last"):
            target.close()

        days = "select extract(day from report_date)::int from acme.clicks order by 1"
        assert query(dsn, days) == [(1,), (4,)]
        assert query(dsn, "select day from penstock.days order by 1") == [("2026-03-01",), ("2026-03-04",)]


def test_a_run_that_ended_is_on_the_disk():
    """
    Deliveries are there after a crash once their target is closed, with any ``synchronous_commit``, and the record of a
    run is written in a new session where the former one was lost.
    """
    with crashing() as dsn:
        delivered(dsn, [a_click_of(1, 1)], partition=a_day(1))
        crash(dsn)
        assert query(dsn, "select click_id from acme.clicks") == [("c1",)]

        target = sink(dsn).open(SOURCE, "r2")
        deliver(target, [a_click_of(2, 1)], partition=a_day(2), run_id="r2")
        query(dsn, "checkpoint")
        crash(dsn)
        target.ledger.record_run(RunRecord(run_id="r2", source=SOURCE, started_at=READ_AT))
        target.close()
        assert query(dsn, "select run_id from penstock.runs") == [("r2",)]


def test_a_server_that_lost_commits_fails_the_end_of_the_run():
    """
    The end of the run fails also where the session is lost after the last delivery.
    """
    with crashing() as dsn:
        delivered(dsn, [a_click_of(1, 1)], partition=a_day(1))
        target = sink(dsn).open(SOURCE, "r2")
        deliver(target, [a_click_of(2, 1)], partition=a_day(2), run_id="r2")
        crash(dsn)
        with pytest.raises(SinkError, match="has lost what was committed last"):
            target.close()


def test_a_publication_of_all_tables_is_no_obstacle():
    """
    Rows without a key can be deleted and replaced, those of the ledger, too.
    """
    keyless = evolve(CLICKS, stream="hits", key=())
    partition = evolve(a_day(), stream="hits")
    with server(wal_level="logical").database() as dsn:
        query(dsn, "create publication everything for all tables")
        for run_id, rows in (("r1", [click(1), click(1)]), ("r2", [click(1)])):
            delivered(dsn, rows, keyless, run_id, partition=partition)
            delivered(dsn, rows[:1], run_id=run_id)
        for name in ("reports", "restatements", "rejected", "runs"):
            query(dsn, f"delete from penstock.{name}")

        assert query(dsn, "select click_id, _run_id from acme.hits") == [("c1", "r2")]


# Of this test's database: a session of another test may still be on its way out.
LOCKS = (
    "select count(*) from pg_locks where locktype = 'advisory' "
    "and database = (select oid from pg_database where datname = current_database())"
)


@contextmanager
def pooler(dsn: str, mode: str, **more: Any) -> Iterator[str]:
    """The database behind a real pgbouncer."""
    # Not pytest's directory: another user runs the program, and pytest closes its directory to others.
    directory = Path(tempfile.mkdtemp(prefix="bouncer"))
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        pytest.skip("no pgbouncer on this machine (Debian: apt-get install pgbouncer)")
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    host = (query.get("host") or [parts.hostname or "127.0.0.1"])[0]
    port = (query.get("port") or [str(parts.port or 5432)])[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = free.getsockname()[1]
    name = parts.path.lstrip("/")
    user = parts.username or (query.get("user") or ["postgres"])[0]
    password = f" password={parts.password}" if parts.password else ""
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": listen,
        "auth_type": "any",
        "pool_mode": mode,
        "unix_socket_dir": "",
        "logfile": directory / "log",
        "ignore_startup_parameters": "extra_float_digits",
        **more,
    }
    lines = [f"{key} = {value}" for key, value in settings.items()]
    database = f"{name} = host={host} port={port} dbname={name} user={user}{password}"
    (directory / "ini").write_text("\n".join(["[databases]", database, "[pgbouncer]", *lines, ""]))
    directory.chmod(0o777)
    account = ["-u", Path(host).owner() if Path(host).is_dir() else "nobody"] if os.getuid() == 0 else []
    process = subprocess.Popen(
        [program, *account, directory / "ini"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", listen), 1).close()
                break
            except OSError:
                assert time.monotonic() < until, (directory / "log").read_text()
                assert process.poll() is None, (directory / "log").read_text()
                time.sleep(0.05)
        yield f"postgresql://{user}@127.0.0.1:{listen}/{name}"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize(
    ("mode", "more"),
    [
        ("transaction", {}),
        ("transaction", {"server_round_robin": 1, "min_pool_size": 3}),
        ("transaction", {"default_pool_size": 1}),
        ("statement", {}),
    ],
    ids=["transaction", "round robin", "one connection", "statement"],
)
def test_a_pooler_of_transactions_is_refused(dsn: str, mode: str, more: dict[str, Any]):
    """
    A pooler of transactions is found out when the target is opened, and named, whatever its pool looks like; no lock
    stays behind.
    """
    with pooler(dsn, mode, **more) as pooled:
        with pytest.raises(TargetError, match="pool_mode = transaction"):
            sink(pooled).open(SOURCE, "r1")
        assert query(dsn, LOCKS) == [(0,)]


def test_a_pooler_of_transactions_hands_no_setting_on(dsn: str):
    """
    Looking at a target and a query through it work, a run is refused; the sessions that others get are as they were.
    """
    delivered(dsn, [click(1)])
    for setting in ("datestyle = 'SQL, DMY'", "timezone = 'Asia/Tokyo'"):
        query(dsn, f"alter database {name_of(dsn)} set {setting}")
    names = ("default_transaction_read_only", "lock_timeout", "idle_session_timeout", "enable_nestloop", "jit")
    settings = "select " + ", ".join(f"current_setting('{name}')" for name in names)
    with pooler(dsn, "transaction", default_pool_size=1) as pooled:
        before = query(pooled, settings)
        seen = sink(pooled).open_readonly(SOURCE)
        assert seen is not None
        entry = seen.ledger.entry(SOURCE, a_day())
        assert entry is not None
        assert entry.read_at == READ_AT
        seen.close()
        rows = queried(Secret(pooled), "select seen_at from acme.clicks")
        assert [row["seen_at"] for row in rows] == [click(1)["seen_at"]]
        with pytest.raises(UsageError, match="one select"):
            list(queried(Secret(pooled), "insert into acme.clicks (click_id) values ('x') returning 1"))
        with pytest.raises(TargetError, match="pool_mode = transaction"):
            sink(pooled).open(SOURCE, "r2")

        assert query(pooled, settings) == before
        query(pooled, "create table mine (a int)")


def test_a_pooler_of_sessions_is_used(dsn: str):
    """
    A pooler of sessions gives a client one session until it leaves: lock and commits work.
    """
    with pooler(dsn, "session") as pooled:
        delivered(pooled, [click(1)])
        delivered(pooled, [click(2)], run_id="r2")

    assert query(dsn, "select click_id from acme.clicks") == [("c2",)]


KILLED = """
import os, sys
from penstock import Secret
from penstock_plugins.postgres.sink import PostgresSink
target = PostgresSink(dsn=Secret(sys.argv[1])).open("acme", "r2")
target.database.run("create temporary table penstock_rows_1 (a int)")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("more", [{}, {"default_pool_size": 1}], ids=["", "one session"])
def test_a_pooler_that_resets_nothing_is_used(dsn: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    """
    The settings of a run reach neither the next run nor other clients, and the rest of a killed one is cleared: locks,
    temporary tables, settings.
    """
    monkeypatch.setattr("penstock_plugins.postgres.connection.PROBE_S", 1)  # the pooler of one session answers no probe
    settings = "select current_setting('default_transaction_read_only'), current_setting('enable_nestloop')"
    many = [click(number) for number in range(501)]
    with pooler(dsn, "session", server_reset_query="", **more) as pooled:
        delivered(pooled, [*many, click(501)])
        delivered(pooled, many, run_id="r2")
        subprocess.run([sys.executable, "-c", KILLED, pooled])
        delivered(pooled, [click(1)], run_id="r3")
        seen = sink(pooled).open_readonly(SOURCE)
        assert seen is not None
        seen.close()

        assert query(pooled, settings) == [("off", "on")]
        assert query(dsn, LOCKS) == [(0,)]
    assert query(dsn, "select click_id from acme.clicks") == [("c1",)]


class MovedTime:
    """The time that is never set back, which a test moves on."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


def test_a_begin_that_is_cancelled_fails_its_partition_only(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    The server is in a transaction then, which failed, and the library in none. The next partition is committed.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    connection = target.database.connection

    def cancelled() -> Any:
        connection.execute("begin")
        connection.execute("set local statement_timeout = '1ms'")
        return connection.execute("select pg_sleep(1)")

    with monkeypatch.context() as patched:
        patched.setattr(connection, "transaction", cancelled)
        with pytest.raises(SinkError, match="canceling statement due to statement timeout"):
            deliver(target, [click(1), click(2)])
    deliver(target, [a_click_of(2, 1)], partition=a_day(2))
    target.close()

    assert query(dsn, "select report_date from acme.clicks") == [(date(2026, 3, 1),), (date(2026, 3, 2),)]


@pytest.mark.usefixtures("short_lock_waits")
def test_a_table_that_stays_locked_is_waited_for_once(dsn: str):
    """
    After a commit that waited in vain, a partition fails before it is fetched, until the lock is found to be gone: a
    minute later at the latest.
    """
    delivered(dsn, [click(1)])
    moved = MovedTime()
    target = sink(dsn, monotonic=moved).open(SOURCE, "r2")
    held = "other sessions hold a lock .session .* idle in transaction., and the commit waited 1s for it"
    with psycopg.connect(dsn) as other:
        other.execute("create index on acme.clicks (url)")
        for day in (1, 2):
            with pytest.raises(SinkError, match=held):
                deliver(target, [click(2)], run_id="r2", partition=a_day(day))
        with pytest.raises(SinkError, match=held):
            target.begin([CLICKS], a_day(3))
        other.rollback()
        with pytest.raises(SinkError, match=held):
            target.begin([CLICKS], a_day(3))
        moved.ahead_s = locks.LOCKED_RETRY_S
        deliver(target, [click(2)], run_id="r2")
    target.close()

    assert query(dsn, "select click_id from acme.clicks") == [("c2",)]


@pytest.mark.usefixtures("short_lock_waits")
def test_a_row_that_stays_locked_keeps_its_partition_only(dsn: str):
    """
    Rows of other partitions can be written meanwhile.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    with psycopg.connect(dsn) as other:
        other.execute("update acme.clicks set url = 'mine'")
        with pytest.raises(SinkError, match="other sessions hold a lock"):
            deliver(target, [click(1, url="new")], run_id="r2")
        deliver(target, [click(2, report_date=date(2026, 3, 2))], run_id="r2", partition=a_day(2))
        other.rollback()
    target.close()

    assert query(dsn, "select count(*) from acme.clicks") == [(2,)]


@pytest.mark.usefixtures("short_lock_waits")
def test_a_locked_table_is_not_missing(dsn: str):
    """
    A table that another session has locked is opened without a long wait, and nothing of it counts as lost.
    """
    delivered(dsn, [click(1)])
    with psycopg.connect(dsn) as other:
        other.execute("lock table acme.clicks in access exclusive mode")
        target = sink(dsn).open(SOURCE, "r2")
        target.prepare([CLICKS])
        entry = target.ledger.entry(SOURCE, a_day())
        assert entry is not None
        assert target.is_intact(entry)
        target.close()
        other.rollback()


@pytest.mark.usefixtures("short_lock_waits")
def test_verify_waits_for_a_locked_table_for_moments_only(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    ``verify`` names the session that holds a table, and compares the table when it is free.
    """
    monkeypatch.setattr("penstock_plugins.postgres.target.VERIFY_PAUSE_S", 0.01)
    delivered(dsn, [click(1)])
    with psycopg.connect(dsn) as other:
        other.execute("lock table acme.clicks in access exclusive mode")

        seen = sink(dsn).open_readonly(SOURCE)
        assert seen is not None
        with pytest.raises(SinkError, match=rf"acme.clicks was not compared.*session {other.info.backend_pid} of"):
            list(seen.verify("clicks", list(seen.ledger.entries(SOURCE, "clicks").values())))
        seen.close()

    assert verified(dsn, "clicks") == []


def test_every_commit_looks_whether_its_session_holds_the_lock(dsn: str):
    """
    A lock that was taken away, by a pooler that was not found out or by hand, fails the commit, and nothing is written.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    target.database.run("select pg_advisory_unlock_all()")
    for rows, partition in (([click(2)], a_day()), ([click(3, report_date=date(2026, 3, 2))], a_day(2))):
        with pytest.raises(TargetError, match="gives each transaction another session"):
            deliver(target, rows, run_id="r2", partition=partition)
    target.close()

    assert query(dsn, "select click_id from acme.clicks") == [("c1",)]


# --- sessions that are lost -----------------------------------------------------------------------------------------


def test_nothing_is_open_while_pages_are_fetched(dsn: str):
    """
    Between two batches the session is idle, in no transaction, and holds no lock on a table.
    """
    target = sink(dsn, memory_bytes=0).open(SOURCE, "r1")
    writer = target.begin([CLICKS], a_day())
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, [click(1)])))
    state = query(
        dsn,
        "select a.state, count(l.*) from pg_stat_activity a left join pg_locks l on l.pid = a.pid and "
        "l.locktype = 'relation' where a.application_name like 'penstock r1 %' group by 1",
    )
    writer.abort()
    target.close()

    assert state == [("idle", 0)]


def end_sessions(dsn: str, run_id: str) -> None:
    name = f"penstock {run_id} %"
    query(dsn, f"select pg_terminate_backend(pid) from pg_stat_activity where application_name like '{name}'")


@pytest.mark.parametrize(
    ("table", "when"),
    [
        pytest.param("", "", id="before the commit"),
        pytest.param("acme.clicks", "trigger meddling before insert on TABLE", id="rows"),
        pytest.param("penstock.partitions", "trigger meddling before insert or update on TABLE", id="ledger"),
        pytest.param(
            "penstock.partitions",
            "constraint trigger meddling after insert or update on TABLE deferrable initially deferred",
            id="end of the commit",
        ),
    ],
)
def test_a_lost_session_is_opened_again(dsn: str, table: str, when: str):
    """
    Whenever the server ends the session: it is opened again, with the lock of the source, and the partition is
    committed once.
    """
    delivered(dsn, [click(1)])
    if table:
        a_session_end(dsn, table, when)
    target = sink(dsn).open(SOURCE, "r2")
    writer = target.begin([CLICKS], a_day())
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, [click(2)])))
    entry = an_entry(target.ledger, a_day(), rows=1)
    session = target.database.pid
    if not table:
        end_sessions(dsn, "r2")
    committed = writer.commit(entry)
    assert target.database.pid != session
    with pytest.raises(LockHeldError):
        sink(dsn).open(SOURCE, "r3")
    target.ledger.fail_all(SOURCE, [(a_day(2), "down")], "r2")
    target.close()

    assert committed.changes == {"came": 1, "went": 1, "changed": 0}
    assert query(dsn, "select click_id, _run_id from acme.clicks") == [("c2", "r2")]
    assert query(dsn, "select version from penstock.partitions where state = 'delivered'") == [(2,)]


@pytest.mark.parametrize("table", ["restatements", "partitions"])
def test_a_session_lost_within_a_transaction_takes_all_of_it(dsn: str, table: str):
    """
    A statement of the ledger is not made in a new session alone: else its row would state rows that were rolled back.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    writer = target.begin([CLICKS], a_day())
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, [click(2), click(3)])))
    entry = an_entry(target.ledger, a_day(), rows=2)
    session = target.database.pid
    a_session_end(dsn, f"penstock.{table}", "trigger meddling before insert or update on TABLE")
    committed = writer.commit(entry)
    assert target.database.pid != session
    target.close()

    assert committed.rows == 2
    assert query(dsn, "select click_id, _run_id from acme.clicks order by 1") == [("c2", "r2"), ("c3", "r2")]
    assert query(dsn, "select rows, version from penstock.partitions where state = 'delivered'") == [(2, 2)]
    assert query(dsn, "select count(*) from penstock.restatements") == [(1,)]


def test_a_session_lost_between_two_partitions_is_opened_again(dsn: str):
    """
    The ledger and the next partition go on; rows that waited in a temporary table are lost with it, and only theirs.
    """
    target = sink(dsn).open(SOURCE, "r1")
    waiting = target.begin([CLICKS], a_day(1))
    waiting.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, [click(1)])))
    waiting.spill()
    end_sessions(dsn, "r1")
    target.ledger.fail_all(SOURCE, [(a_day(3), "down")], "r1")
    deliver(target, [click(2, report_date=date(2026, 3, 2))], partition=a_day(2))
    with pytest.raises(SinkError, match=r"waited in temporary tables.*run again"):
        waiting.commit(an_entry(target.ledger, a_day(1), rows=1))
    target.close()

    assert query(dsn, "select click_id from acme.clicks") == [("c2",)]


@pytest.mark.parametrize("why", ["unreachable", "locked"])
def test_a_session_that_stays_lost_is_waited_for_once(dsn: str, monkeypatch: pytest.MonkeyPatch, why: str):
    """
    Where the server does not come back, or another run took the source meanwhile: every further partition fails at
    once, before it is read. A server that comes back is used again.
    """
    monkeypatch.setattr(database, "REOPEN_S", 0.3)
    monkeypatch.setattr(database, "REOPEN_PAUSE_S", 0.05)
    moved = MovedTime()
    target = sink(dsn, monotonic=moved).open(SOURCE, "r1")
    connected, tried = psycopg.connect, []

    def connect(*words: Any, **more: Any) -> Any:
        tried.append(1)
        if why == "unreachable":
            raise psycopg.OperationalError("connection refused")
        return connected(*words, **more)

    end_sessions(dsn, "r1")
    other = sink(dsn).open(SOURCE, "r2") if why == "locked" else None
    monkeypatch.setattr("psycopg.connect", connect)
    error = r"could not be reached again|another run writes acme"
    with pytest.raises(PenstockError, match=error):
        target.ledger.fail_all(SOURCE, [(a_day(3), "down")], "r1")
    tries = len(tried)
    for _ in range(20):
        with pytest.raises(PenstockError, match=error):
            target.begin([CLICKS], a_day(1))
    assert len(tried) == tries > 0
    monkeypatch.undo()
    if other is not None:
        other.close()
        with pytest.raises(LockHeldError):  # its rows may be newer than those that were planned here
            target.begin([CLICKS], a_day(1))
    else:
        moved.ahead_s = database.UNREACHABLE_S
        deliver(target, [click(2)], partition=a_day(1))
        assert query(dsn, "select click_id from acme.clicks") == [("c2",)]
    target.close()


def test_a_commit_whose_answer_is_lost_is_not_done_twice(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    Where the session ends after the commit took effect, the ledger shows it, and nothing is written again.
    """
    lost = LostAnswer(dsn)
    monkeypatch.setattr(psycopg, "connect", lost.connect)
    target = sink(dsn).open(SOURCE, "r1")
    writer = target.begin([CLICKS], a_day())
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, [click(1)])))
    entry = writer.commit(an_entry(target.ledger, a_day(), rows=1))
    target.close()

    assert entry.rows == 1
    assert len(lost.ended) == 1
    assert query(dsn, "select rows, version from penstock.partitions") == [(1, 1)]


# --- sessions that do not begin -------------------------------------------------------------------------------------


def test_the_lock_names_its_holder(dsn: str):
    """
    Who is refused learns which run holds the lock; its key has 64 bits and is the source's own.
    """
    target = sink(dsn).open(SOURCE, "r1")
    with pytest.raises(LockHeldError, match=r"penstock r1 on .* session \d+") as refused:
        sink(dsn).open(SOURCE, "r2")
    target.close()

    assert refused.value.run_id == "r1"

    keys = {lock_key(f"source{number}") for number in range(1000)}
    assert len(keys) == 1000
    assert all(-(2**63) <= key < 2**63 for key in keys)


def test_a_server_without_a_free_connection_is_no_fault_of_the_dsn(dsn: str):
    """
    The advice is about the connections, and the exit code states that the next run may succeed.
    """
    role = f"{name_of(dsn)}_single"
    query(dsn, f"create role {role} login connection limit 0")
    try:
        with pytest.raises(SinkError, match=r"too many connections for role .*\. Wait until sessions end") as refused:
            sink(f"{dsn}&user={role}").open(SOURCE, "r1")
        assert refused.value.exit_code == 1
    finally:
        query(dsn, f"drop role {role}")


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        pytest.param(
            "postgresql://u:hunter2secret@127.0.0.1:1/x",
            "at 127.0.0.1 port 1, database x cannot be reached",
            id="no server",
        ),
        pytest.param("warehouse.example", "cannot be read", id="no DSN"),
        pytest.param("postgresql://u:hunter2@secret@127.0.0.1:1/x", "cannot be read", id="at in the password"),
        pytest.param("postgresql://u:1/hunter2secret@127.0.0.1:1/x", "cannot be read", id="slash in the password"),
        pytest.param("postgresql://u:hunter2secret%zz@127.0.0.1:1/x", "cannot be read", id="percent in the password"),
        pytest.param("host=127.0.0.1 password=of hunter2secret", "cannot be read", id="blank in the password"),
        pytest.param("postgresql://u:hunter2secret@127.0.0.1:1/caf\udce9", "cannot be read", id="no UTF-8"),
        pytest.param("host=@nowhere-hidden user=u", "cannot be reached", id="a socket with an at sign"),
    ],
)
def test_a_server_that_cannot_be_reached(dsn: str, message: str):
    """
    The message names the place, and never the password, nor what an unencoded sign cut off from it.
    """
    with pytest.raises(TargetError, match=message) as refused:
        sink(dsn).open(SOURCE, "r1")

    assert "hunter2" not in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "Is the server running" not in str(refused.value)


def test_a_server_that_is_too_old_is_refused_by_name(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    The version of a server that is too old, and the oldest that works, are named before any statement that it does not
    know, to readers and writers.
    """
    monkeypatch.setattr(database, "OLDEST", 99)
    for use in (lambda: sink(dsn).open(SOURCE, "r1"), lambda: sink(dsn).open_readonly(SOURCE)):
        with pytest.raises(TargetError, match=r"is version \d\d; penstock needs 99 or newer"):
            use()


def test_another_encoding_is_refused(dsn: str):
    """
    A database that cannot hold every text is refused at once, not at the first such text.
    """
    name = "latin_" + dsn.partition("?")[0].rpartition("/")[2]
    query(dsn, f"create database {name} template template0 encoding 'LATIN1'")
    try:
        with pytest.raises(TargetError, match="LATIN1"):
            sink(with_database(dsn, name)).open(SOURCE, "r1")
    finally:
        query(dsn, f"drop database {name} with (force)")
