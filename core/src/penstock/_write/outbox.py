"""
The write ledger: what became of every row that was sent to a provider, in ``.penstock/writes.sqlite``.

A job is one input for one action of one source. A row that is not in it never left; ``sending`` is durable before the
request leaves; a row found ``sending`` when nobody holds the job may or may not have arrived, and becomes unknown.
The rows' own values are not kept, only their numbers and what was said of them.
"""

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from attrs import define, field, frozen

from penstock.errors import LockHeldError, PenstockError, SinkError, TargetError, UsageError
from penstock.model import Receipt, ReceiptStatus
from penstock.redact import mask, mask_json

if TYPE_CHECKING:
    import sqlite3

RowState = Literal["sending", "done", "partial", "refused", "unknown"]

SCHEMA_VERSION = 1
KEPT_DAYS = 180  # finished jobs are forgotten after that

DIED = "penstock ended while it was sent; nobody knows whether it arrived"

# What a job is called that has no input but its parameters.
CALL = "this call"
STDIN = "stdin"

_TABLES = (
    "create table if not exists meta (name text primary key, value text not null)",
    """create table if not exists jobs (
        id integer primary key, source text not null, action text not null, digest text not null,
        what text not null, started_at text not null, finished_at text, rows integer,
        destination text not null default '')""",
    "create index if not exists jobs_by_input on jobs (source, action, digest)",
    """create table if not exists rows (
        job integer not null, row integer not null, state text not null, reason text not null, answer text,
        left_before integer not null, primary key (job, row)) without rowid""",
)


@frozen(kw_only=True)
class JobKey:
    """
    What makes two invocations the same job: source, action, and a digest of what is sent. ``what`` names it to people.

    ``destination``, the address without the row's own values, is no part of it: the same rows sent to another address
    are asked about, not sent there as if nothing had happened.
    """

    source: str
    action: str
    digest: str
    what: str
    destination: str = ""


@frozen
class Outbox:
    """The write ledger in ``folder``, the directory ``.penstock`` beside the configuration."""

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
        moved: bool = False,
        anew: bool = False,
    ) -> "OutboxJob":
        """
        The job to go on with, locked: a new one, or with ``resume`` or ``retry_unknown`` the last one of this key.

        ``moved``: go on although its address is another one now. ``anew``: begin again at the new address.

        Raises LockHeldError when another process sends it, UsageError when the last one did not come to its end or
        went to another address and nothing says what to do about it, TargetError when the ledger cannot be used.
        """
        lock = self._lock(key)
        try:
            connection = self._connect()
            try:
                number, fresh, over = _taken_up(
                    connection, key, now, again=resume or retry_unknown, moved=moved, anew=anew
                )
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.close()
            raise
        return OutboxJob(
            number=number,
            fresh=fresh,
            over=over and not retry_unknown,
            retry_unknown=retry_unknown,
            connection=connection,
            lock=lock,
            path=self.path,
        )

    def _lock(self, key: JobKey) -> BinaryIO:
        """One byte of one file for each job: nothing is left behind, and a killed process holds nothing."""
        import fcntl

        path = self.folder / "writes.lock"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        except OSError as error:
            raise _unusable(path, error) from error
        byte = zlib.crc32(f"{key.source}\0{key.action}\0{key.digest}".encode())
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            file.close()
            raise LockHeldError(
                f"another process is sending {key.what} to {key.source} {key.action}. Wait for it to end; a process "
                "that was killed holds no lock."
            ) from None
        except OSError as error:
            file.close()
            raise _unusable(path, error) from error
        return file

    def _connect(self) -> "sqlite3.Connection":
        import sqlite3

        try:
            if not self.path.exists():
                self.path.touch(mode=0o600)
            connection = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        except OSError as error:
            raise _unusable(self.path, error) from error
        except sqlite3.Error as error:
            raise _explained(self.path, error) from error
        try:
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")
            known = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
            if known and not {"meta", "jobs", "rows"} <= known:
                raise TargetError(f"{self.path} is a database, but no write ledger of penstock. Move it away.")
            for statement in _TABLES:
                connection.execute(statement)
            if "destination" not in {row[1] for row in connection.execute("pragma table_info(jobs)")}:
                connection.execute("alter table jobs add column destination text not null default ''")
            connection.execute("insert or ignore into meta values ('schema', ?)", (str(SCHEMA_VERSION),))
            ((version,),) = connection.execute("select value from meta where name = 'schema'")
            if int(version) > SCHEMA_VERSION:
                raise TargetError(
                    f"{self.path} was written by a newer penstock (its version {version}, known here: "
                    f"{SCHEMA_VERSION}). Upgrade penstock on this machine; nothing was sent."
                )
        except sqlite3.Error as error:
            connection.close()
            raise _explained(self.path, error) from error
        except BaseException:
            connection.close()
            raise
        return connection


def _taken_up(
    connection: "sqlite3.Connection", key: JobKey, now: datetime, *, again: bool, moved: bool, anew: bool
) -> tuple[int, bool, bool]:
    """The number of the job to go on with, whether it is a new one, and whether it is over; see :meth:`Outbox.open`."""
    import sqlite3

    try:
        connection.execute("begin immediate")
        found = connection.execute(
            "select id, started_at, finished_at, destination from jobs where source = ? and action = ? and digest = ? "
            "order by id desc limit 1",
            (key.source, key.action, key.digest),
        ).fetchone()
        if found is None and again and (other := _begun_otherwise(connection, key)) is not None:
            connection.execute("rollback")
            raise UsageError(other)
        if found is not None:
            number, started_at, finished_at, destination = found
            connection.execute(
                "update rows set state = 'unknown', reason = ? where job = ? and state = 'sending'", (DIED, number)
            )
            counts: dict[str, int] = dict(
                connection.execute("select state, count(*) from rows where job = ? group by state", (number,))
            )
            captured = sum(count for state, count in counts.items() if state != "refused")
            elsewhere = bool(destination) and destination != mask(key.destination)
            if again and (moved or not elsewhere):
                connection.execute(
                    "update jobs set what = ?, destination = ? where id = ?",
                    (mask(key.what), mask(key.destination), number),
                )
                connection.execute("commit")
                return int(number), False, finished_at is not None
            if captured and (again or (finished_at is None and not (elsewhere and anew))):
                connection.execute("commit")
                if elsewhere:
                    raise UsageError(_elsewhere(key, str(started_at), counts, str(destination)))
                raise UsageError(_unfinished(key, str(started_at), counts))
        if found is not None:  # over, or nothing of it ever arrived: this is a new job
            connection.execute("delete from rows where job = ?", (found[0],))
            connection.execute("delete from jobs where id = ?", (found[0],))
        forgotten = (now - timedelta(days=KEPT_DAYS)).astimezone(UTC).isoformat()
        old = "select id from jobs where finished_at is not null and finished_at < ?"
        connection.execute(f"delete from rows where job in ({old})", (forgotten,))  # noqa: S608  our own text
        connection.execute("delete from jobs where finished_at is not null and finished_at < ?", (forgotten,))
        made = connection.execute(
            "insert into jobs (source, action, digest, what, started_at, destination) values (?, ?, ?, ?, ?, ?)",
            (
                key.source,
                key.action,
                key.digest,
                mask(key.what),
                now.astimezone(UTC).isoformat(),
                mask(key.destination),
            ),
        ).lastrowid
        connection.execute("commit")
        assert made is not None
        return made, True, False
    except sqlite3.Error as error:
        raise _explained(Path("the write ledger"), error) from error


def _unfinished(key: JobKey, started_at: str, counts: Mapping[str, int]) -> str:
    return (
        f"{key.what} was begun at {started_at[:19]} UTC for {key.source} {key.action} and did not come to its end "
        f"({_states(counts)}). Nothing was sent now. --resume sends what never left; --retry-unknown also sends again "
        "what may have arrived."
    )


def _elsewhere(key: JobKey, started_at: str, counts: Mapping[str, int], destination: str) -> str:
    return (
        f"{key.what} was begun at {started_at[:19]} UTC for {key.source} {key.action}, and its rows went to "
        f"{destination} ({_states(counts)}). Now they would go to {key.destination}. Nothing was sent. If that is "
        "another system (prod after test), --anew without --resume sends it all rows; if it is the same one under a "
        "new address, add --moved to --resume; else set base_url and the like back."
    )


def _begun_otherwise(connection: "sqlite3.Connection", key: JobKey) -> str | None:
    """What to say of a job of the same name that was begun with other rows or parameters; None if there is none."""
    if key.what in (CALL, STDIN):
        return None
    found = connection.execute(
        "select started_at from jobs where source = ? and action = ? and what = ? and finished_at is null and exists "
        "(select 1 from rows where job = jobs.id and state <> 'refused') order by id desc limit 1",
        (key.source, key.action, mask(key.what)),
    ).fetchone()
    if found is None:
        return None
    return (
        f"{key.what} or the parameters beside it are not those of the job that was begun at {found[0][:19]} UTC for "
        f"{key.source} {key.action}, so there is nothing to go on with. Nothing was sent. Bring back what it was begun "
        "with; without the option all rows are sent as a job of their own, also those that were sent then."
    )


def _states(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none was sent yet"


@define(eq=False)
class OutboxJob:
    """
    One job of the ledger, locked until it is closed.
    """

    number: int
    fresh: bool  # nothing was noted of it before
    over: bool  # it came to its end before, and nothing is to be sent again
    retry_unknown: bool
    connection: "sqlite3.Connection"
    lock: BinaryIO
    path: Path
    _retried: set[int] = field(factory=set, init=False)  # unknown rows that were sent again by this process

    def settled(self, first: int, last: int) -> set[int]:
        """Of the rows ``first`` to ``last``, both included, those that are not to be sent."""
        with self._statements():
            rows = self.connection.execute(
                "select row, state from rows where job = ? and row between ? and ?", (self.number, first, last)
            ).fetchall()
        return {row for row, state in rows if state != "unknown" or not self.retry_unknown or row in self._retried}

    def sending(self, rows: Sequence[int]) -> None:
        """These rows are about to leave; durable when this returns."""
        with self._statements():
            self.connection.execute("begin immediate")
            self.connection.executemany(
                "insert into rows values (?, ?, 'sending', '', null, 0) on conflict (job, row) do update set "
                "left_before = max(rows.left_before, rows.state = 'unknown'), state = 'sending'",
                [(self.number, row) for row in rows],
            )
            self.connection.execute("commit")

    def lost(self, rows: Sequence[int], reason: str) -> None:
        """These rows left and may have arrived, and are about to be sent once more."""
        with self._statements():
            self.connection.executemany(
                "update rows set left_before = 1, reason = ? where job = ? and row = ?",
                [(mask(reason), self.number, row) for row in rows],
            )

    def never_left(self, rows: Sequence[int]) -> None:
        """These rows were ``sending``, but nothing of it was taken; what may have arrived before stays unknown."""
        with self._statements():
            self.connection.execute("begin immediate")
            pairs = [(self.number, row) for row in rows]
            self.connection.executemany("delete from rows where job = ? and row = ? and not left_before", pairs)
            self.connection.executemany("update rows set state = 'unknown' where job = ? and row = ?", pairs)
            self.connection.execute("commit")

    def settle(self, receipts: Iterable[Receipt]) -> None:
        """What became of rows; durable when this returns."""
        values = [
            (self.number, one.row, one.status, mask(one.reason), None if one.answer is None else _json(one.answer))
            for one in receipts
        ]
        if not values:
            return
        with self._statements():
            self.connection.execute("begin immediate")
            self.connection.executemany(
                "insert into rows values (?, ?, ?, ?, ?, 0) on conflict (job, row) do update set "
                "state = excluded.state, reason = excluded.reason, answer = excluded.answer",
                values,
            )
            self.connection.execute("commit")
            self._retried.update(row for _, row, status, _, _ in values if status == "unknown")

    def receipts(self, first: int) -> Iterator[Receipt]:
        """From row ``first`` on in order, up to the first row that is not settled."""
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
        """What became of one row; None when it never left."""
        with self._statements():
            found = self.connection.execute(
                "select row, state, reason, answer from rows where job = ? and row = ?", (self.number, row)
            ).fetchone()
        return None if found is None else _receipt(*found)

    def finish(self, rows: int, now: datetime) -> None:
        """Every one of the job's rows is settled."""
        with self._statements():
            self.connection.execute(
                "update jobs set finished_at = ?, rows = ? where id = ?",
                (now.astimezone(UTC).isoformat(), rows, self.number),
            )

    def close(self) -> None:
        """Give the lock back. Rows still ``sending`` become unknown when the job is taken up again."""
        self.connection.close()
        self.lock.close()

    @contextmanager
    def _statements(self) -> Iterator[None]:
        import sqlite3

        try:
            yield
        except sqlite3.Error as error:
            if self.connection.in_transaction:
                self.connection.rollback()
            raise _explained(self.path, error) from error


def _receipt(row: int, state: str, reason: str, answer: str | None) -> Receipt:
    status: ReceiptStatus = "unknown" if state == "sending" else state  # type: ignore[assignment]
    return Receipt(row=row, status=status, reason=reason, answer=None if answer is None else json.loads(answer))


def _json(value: Any) -> str:
    import msgspec

    # Exact numbers, as the provider wrote them.
    return msgspec.json.Encoder(decimal_format="number").encode(mask_json(value)).decode()


def _unusable(path: Path, error: OSError) -> TargetError:
    return TargetError(
        f"{path}: {error.strerror}. Every write is noted there before it leaves, so nothing was sent. Give this user "
        "the right to write beside the configuration."
    )


def _explained(path: Path, error: "sqlite3.Error") -> PenstockError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return TargetError(
            f"{path}: {error}. Every write is noted there before it leaves. Restore it, or give this user the right "
            "to write it; moving it away forgets what was sent."
        )
    return SinkError(f"{path}: {error}. What was sent before is noted there; when the cause is gone, go on: --resume.")
