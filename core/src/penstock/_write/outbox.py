"""
The outbox: the outcome of every row that was sent to a provider, in ``.penstock/writes.sqlite``.

A job is one input for one action of one source. A row that is not in it was never sent. The state ``sending`` is
durable before the request is sent. A row found in this state when no process holds the job may have arrived or not, and
becomes unknown. The values of rows are not stored, only their numbers, outcomes and the provider's answers.

A command loads the last job of its input, decides (``outbox_decision``) whether it begins a job, resumes one or is
refused, and applies that: :meth:`Outbox.open`. :class:`OutboxJob` then records the rows of the job.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from penstock._util.files import exclusive_if_free
from penstock._write.outbox_decision import (
    CALL,
    REFUSED_AFTER_UNKNOWN,
    JobKey,
    OtherJob,
    PreviousJob,
    Resume,
    SendNothing,
    Start,
    decide,
)
from penstock.errors import LockHeldError, PenstockError, SinkError, TargetError, UsageError
from penstock.model import EXACT_JSON, PLAIN_JSON, Receipt, ReceiptStatus
from penstock.redact import mask, mask_json

SCHEMA_VERSION = 1
RETENTION_DAYS = 180  # finished jobs are forgotten after that
UNRECORDED = "it was sent, or about to be, and its outcome was not recorded; it may have arrived"

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


@frozen
class Outbox:
    """The outbox in ``folder``, the directory ``.penstock`` beside the configuration."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "writes.sqlite"

    def open(
        self,
        key: JobKey,
        now: datetime,
        *,
        resume: bool = False,
        retry_unknown: bool = False,
        confirmed: bool = False,
    ) -> "OutboxJob":
        """
        The job to send, locked: a new one, or with ``resume`` or ``retry_unknown`` the last one of this key.

        ``confirmed``: even if its address is not the one with which the job began. Raises LockHeldError if another
        process sends it, UsageError if :func:`decide` refuses, TargetError if the outbox cannot be used.
        """
        with ExitStack() as stack:
            self._lock(key, stack)
            connection = stack.enter_context(closing(connect(self.path)))
            try:
                connection.execute("begin immediate")
                decision = decide(
                    key,
                    load(connection, key),
                    other=load_other(connection, key),
                    resume=resume or retry_unknown,
                    confirmed=confirmed,
                )
                if isinstance(decision, SendNothing):
                    raise UsageError(decision.reason)
                number = apply(connection, decision, key, now)
                forget_old(connection, now)
                connection.execute("commit")
            except sqlite3.Error as error:
                raise database_error(self.path, error) from error
            held = stack.pop_all()
        return OutboxJob(
            number=number,
            is_new=isinstance(decision, Start),
            is_finished=isinstance(decision, Resume) and decision.is_finished and not retry_unknown,
            retry_unknown=retry_unknown,
            connection=connection,
            held=held,
            path=self.path,
        )

    def _lock(self, key: JobKey, stack: ExitStack) -> None:
        """Lock this job until ``stack`` is closed. A killed process holds no lock."""
        job = hashlib.sha256(f"{key.source}\0{key.action}\0{key.digest}".encode()).hexdigest()[:16]
        path = self.folder / f"writes-{job}.lock"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            is_free = stack.enter_context(exclusive_if_free(path))
        except OSError as error:
            raise unwritable(path, error) from error
        if not is_free:
            raise LockHeldError(
                f"another process or thread is sending {key.what} to {key.source} {key.action}. Wait for it to end; a "
                "process that was killed holds no lock."
            )


@define(eq=False)
class OutboxJob:
    """
    One job of the outbox, locked until it is closed.
    """

    number: int
    is_new: bool
    is_finished: bool  # finished before, and nothing is to be sent again
    retry_unknown: bool
    connection: sqlite3.Connection
    held: ExitStack
    path: Path
    _retried: set[int] = field(factory=set, init=False)  # unknown rows that were sent again by this process

    def settled(self, first: int, last: int) -> set[int]:
        """The rows from ``first`` to ``last``, both included, that are not to be sent."""
        with self._statements():
            rows = self.connection.execute(
                "select row, state from rows where job = ? and row between ? and ?", (self.number, first, last)
            ).fetchall()
        return {row for row, state in rows if state != "unknown" or not self.retry_unknown or row in self._retried}

    def record_sending(self, rows: Sequence[int]) -> None:
        """Record that these rows are about to be sent; durable when this returns."""
        with self._statements():
            self.connection.execute("begin immediate")
            self.connection.executemany(
                "insert into rows values (?, ?, 'sending', ?, null, 0) on conflict (job, row) do update set "
                "left_before = max(rows.left_before, rows.state = 'unknown'), state = 'sending'",
                [(self.number, row, UNRECORDED) for row in rows],
            )
            self.connection.execute("commit")

    def record_unknown(self, rows: Sequence[int], reason: str) -> None:
        """Record that these rows were sent, may have arrived, and are about to be sent again."""
        with self._statements():
            self.connection.executemany(
                "update rows set left_before = 1, reason = ? where job = ? and row = ?",
                [(mask(reason), self.number, row) for row in rows],
            )

    def record_not_sent(self, rows: Sequence[int]) -> None:
        """Record that these rows did not arrive with this request; rows that may have arrived earlier stay unknown."""
        with self._statements():
            self.connection.execute("begin immediate")
            pairs = [(self.number, row) for row in rows]
            self.connection.executemany("delete from rows where job = ? and row = ? and not left_before", pairs)
            self.connection.executemany("update rows set state = 'unknown' where job = ? and row = ?", pairs)
            self.connection.execute("commit")

    def settle(self, receipts: Iterable[Receipt]) -> None:
        """
        Record the outcome of rows; durable when this returns. A row that is refused may still be there where an earlier
        attempt is unknown, as an error such as "exists already" shows: its reason states that.
        """
        values = [
            (
                self.number,
                receipt.row,
                receipt.status,
                mask(receipt.reason),
                None if receipt.answer is None else _json(receipt.answer),
            )
            for receipt in receipts
        ]
        if not values:
            return
        with self._statements():
            self.connection.execute("begin immediate")
            self.connection.executemany(
                "insert into rows values (?, ?, ?, ?, ?, 0) on conflict (job, row) do update set "
                "state = excluded.state, answer = excluded.answer, reason = excluded.reason || "
                "case when left_before and excluded.state = 'refused' "
                "then '; an earlier attempt, whose outcome is unknown, may have arrived' else '' end",
                values,
            )
            self.connection.execute("commit")
            self._retried.update(row for _, row, status, _, _ in values if status == "unknown")

    def receipts(self, first: int) -> Iterator[Receipt]:
        """The receipts from row ``first`` on, in order, up to the first row that is not settled."""
        expected = first
        while True:
            with self._statements():
                block = self.connection.execute(
                    "select row, state, reason, answer from rows where job = ? and row >= ? order by row limit 500",
                    (self.number, expected),
                ).fetchall()
            for row, state, reason, answer in block:
                waits = state == "sending" or (state == "unknown" and self.retry_unknown and row not in self._retried)
                if row != expected or waits:
                    return
                yield _receipt(row, state, reason, answer)
                expected += 1
            if len(block) < 500:
                return

    def receipt(self, row: int) -> Receipt | None:
        """The receipt of one row; None if it was never sent."""
        with self._statements():
            stored = self.connection.execute(
                "select row, state, reason, answer from rows where job = ? and row = ?", (self.number, row)
            ).fetchone()
        return None if stored is None else _receipt(*stored)

    def finish(self, rows: int, now: datetime) -> None:
        """Record that all rows of the job are settled."""
        with self._statements():
            self.connection.execute(
                "update jobs set finished_at = ?, rows = ? where id = ?",
                (now.astimezone(UTC).isoformat(), rows, self.number),
            )

    def close(self) -> None:
        """Release the lock. Rows that are still ``sending`` become unknown when the job is resumed."""
        self.held.close()

    @contextmanager
    def _statements(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if self.connection.in_transaction:
                self.connection.rollback()
            raise database_error(self.path, error) from error


def _receipt(row: int, state: str, reason: str, answer: str | None) -> Receipt:
    status: ReceiptStatus = "unknown" if state == "sending" else state  # type: ignore[assignment]
    return Receipt(row=row, status=status, reason=reason, answer=None if answer is None else PLAIN_JSON.decode(answer))


def _json(value: Any) -> str:
    # Exact numbers, as the provider wrote them.
    return EXACT_JSON.encode(mask_json(value)).decode()


def connect(path: Path) -> sqlite3.Connection:
    """The database, made where it is missing. Raises TargetError and SinkError."""
    try:
        if not path.exists():
            path.touch(mode=0o600)
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    except OSError as error:
        raise unwritable(path, error) from error
    except sqlite3.Error as error:
        raise database_error(path, error) from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise database_error(path, error) from error
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
        raise TargetError(f"{path} is a database, but no outbox of penstock. Move it away.")
    for statement in _TABLES:
        connection.execute(statement)
    # Development versions (decision 72).
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
        connection.execute(
            "select case when state = 'refused' and left_before then ? else state end as standing, count(*) from rows "
            "where job = ? group by standing",
            (REFUSED_AFTER_UNKNOWN, number),
        )
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


def load_other(connection: sqlite3.Connection, key: JobKey) -> OtherJob | None:
    """
    The last unfinished job that a command with another key may mean: of the same name with other rows or parameters, or
    of the same rows and parameters for another action or source, since a new version may have renamed it.
    """
    row = connection.execute(
        "select source, action, started_at from jobs where finished_at is null and "
        "case when source = ? and action = ? then what = ? and what <> ? and digest <> ? else digest = ? end "
        "and exists (select 1 from rows where job = jobs.id and (state <> 'refused' or left_before)) "
        "order by id desc limit 1",
        (key.source, key.action, mask(key.what), CALL, key.digest, key.digest),
    ).fetchone()
    return None if row is None else OtherJob(*row)


def apply(connection: sqlite3.Connection, decision: Start | Resume, key: JobKey, now: datetime) -> int:
    """Carry out a decision. Returns the number of the job to send."""
    what, destination = mask(key.what), mask(key.destination)
    if isinstance(decision, Resume):
        connection.execute(
            "update rows set state = 'unknown', reason = ? where job = ? and state = 'sending'",
            (UNRECORDED, decision.number),
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
    """Delete the jobs that were finished ``RETENTION_DAYS`` ago."""
    before = ((now - timedelta(days=RETENTION_DAYS)).astimezone(UTC).isoformat(),)
    connection.execute("delete from rows where job in (select id from jobs where finished_at < ?)", before)
    connection.execute("delete from jobs where finished_at < ?", before)


def unwritable(path: Path, error: OSError) -> TargetError:
    return TargetError(
        f"{path}: {error.strerror}. Every write is recorded there before it is sent, so nothing was sent. Give this "
        "user the right to write beside the configuration."
    )


def database_error(path: Path, error: sqlite3.Error) -> PenstockError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return TargetError(
            f"{path}: {error}. Every write is recorded there before it is sent. Restore it, or give this user the "
            "right to write it. Moving it away loses the record of sent rows."
        )
    return SinkError(f"{path}: {error}. Sent rows are recorded there. Remove the cause, then use --resume.")
