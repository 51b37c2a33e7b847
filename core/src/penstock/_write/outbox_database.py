"""
The database of the outbox: its tables, the statements that choose a job, and the errors of SQLite as ours.
"""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock._write.outbox_decision import CALL, JobKey, PreviousJob, Resume, Start
from penstock.errors import PenstockError, SinkError, TargetError
from penstock.redact import mask

SCHEMA_VERSION = 1
RETENTION_DAYS = 180  # finished jobs are forgotten after that
DIED = "penstock ended while it was sent; it may have arrived"

_TABLES = (
    "create table if not exists meta (name text primary key, value text not null)",
    """create table if not exists jobs (
        id integer primary key, source text not null, action text not null, digest text not null,
        what text not null, started_at text not null, finished_at text, rows integer,
        destination text not null default '')""",
    "create index if not exists jobs_by_input on jobs (source, action, digest)",
    # For the jobs that were finished long ago, and those that are not finished: they are not looked for among all jobs.
    "create index if not exists jobs_by_end on jobs (finished_at, source, action)",
    """create table if not exists rows (
        job integer not null, row integer not null, state text not null, reason text not null, answer text,
        left_before integer not null, primary key (job, row)) without rowid""",
)


def connect(path: Path) -> sqlite3.Connection:
    """The database, made where it is missing. Raises TargetError and SinkError."""
    try:
        if not path.exists():
            path.touch(mode=0o600)
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    except OSError as error:
        raise unusable(path, error) from error
    except sqlite3.Error as error:
        raise explained(path, error) from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise explained(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables. Raises TargetError for another database, or one of a newer penstock."""
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("begin immediate")  # all tables or none: a process may be killed, or its disk be full
    tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    if tables and not {"meta", "jobs", "rows"} <= tables:
        raise TargetError(f"{path} is a database, but no write ledger of penstock. Move it away.")
    for statement in _TABLES:
        connection.execute(statement)
    if "destination" not in {row[1] for row in connection.execute("pragma table_info(jobs)")}:
        connection.execute("alter table jobs add column destination text not null default ''")
    connection.execute("insert or ignore into meta values ('schema', ?)", (str(SCHEMA_VERSION),))
    connection.execute("commit")
    ((version,),) = connection.execute("select value from meta where name = 'schema'")
    if int(version) > SCHEMA_VERSION:
        raise TargetError(
            f"{path} was written by a newer penstock (its version {version}, known here: "
            f"{SCHEMA_VERSION}). Upgrade penstock on this machine; nothing was sent."
        )


def load(connection: sqlite3.Connection, key: JobKey) -> PreviousJob | None:
    """The last job of this key, unchanged."""
    row = connection.execute(
        "select id, started_at, finished_at, destination from jobs where source = ? and action = ? and digest = ? "
        "order by id desc limit 1",
        (key.source, key.action, key.digest),
    ).fetchone()
    if row is None:
        return None
    number, started_at, finished_at, destination = row
    counts: dict[str, int] = dict(
        connection.execute("select state, count(*) from rows where job = ? group by state", (number,))
    )
    if died := counts.pop("sending", 0):
        counts["unknown"] = counts.get("unknown", 0) + died
    return PreviousJob(
        number=number,
        started_at=started_at,
        finished=finished_at is not None,
        destination=destination,
        counts=counts,
    )


def load_other(connection: sqlite3.Connection, key: JobKey) -> str | None:
    """When the last unfinished job of the same name but another digest was begun."""
    if key.what == CALL:
        return None
    row = connection.execute(
        "select started_at from jobs where source = ? and action = ? and what = ? and digest <> ? and finished_at is "
        "null and exists (select 1 from rows where job = jobs.id and state <> 'refused') order by id desc limit 1",
        (key.source, key.action, mask(key.what), key.digest),
    ).fetchone()
    return None if row is None else str(row[0])


def apply(connection: sqlite3.Connection, decision: Start | Resume, key: JobKey, now: datetime) -> int:
    """Carry out a decision. Returns the number of the job to send."""
    what, destination = mask(key.what), mask(key.destination)
    if isinstance(decision, Resume):
        connection.execute(
            "update rows set state = 'unknown', reason = ? where job = ? and state = 'sending'", (DIED, decision.number)
        )
        connection.execute(
            "update jobs set what = ?, destination = ? where id = ?", (what, destination, decision.number)
        )
        return decision.number
    connection.execute("delete from rows where job = ?", (decision.replaces,))
    connection.execute("delete from jobs where id = ?", (decision.replaces,))
    number = connection.execute(
        "insert into jobs (source, action, digest, what, started_at, destination) values (?, ?, ?, ?, ?, ?)",
        (key.source, key.action, key.digest, what, now.astimezone(UTC).isoformat(), destination),
    ).lastrowid
    assert number is not None
    return number


def forget_old(connection: sqlite3.Connection, now: datetime) -> None:
    """Delete the jobs that were finished ``KEPT_DAYS`` ago."""
    before = ((now - timedelta(days=RETENTION_DAYS)).astimezone(UTC).isoformat(),)
    connection.execute("delete from rows where job in (select id from jobs where finished_at < ?)", before)
    connection.execute("delete from jobs where finished_at < ?", before)


def unusable(path: Path, error: OSError) -> TargetError:
    return TargetError(
        f"{path}: {error.strerror}. Every write is recorded there before it is sent, so nothing was sent. Give this "
        "user the right to write beside the configuration."
    )


def explained(path: Path, error: sqlite3.Error) -> PenstockError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return TargetError(
            f"{path}: {error}. Every write is recorded there before it is sent. Restore it, or give this user the "
            "right to write it. Moving it away loses the record of sent rows."
        )
    return SinkError(f"{path}: {error}. Sent rows are recorded there. Remove the cause, then use --resume.")
