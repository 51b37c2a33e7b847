"""
The lock of a source, which a run takes, and the locks of other sessions on tables, for which it waits.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING

from penstock import LockHeldError, LockShare, SinkError
from psycopg import errors

from penstock_plugins.postgres.server_errors import LockedTableError

if TYPE_CHECKING:
    from penstock_plugins.postgres.database import Database

# A change of a table waits for its readers, and later readers wait for the change. Hence several short tries.
CHANGE_TRIES, SHORT_WAIT_MS, CHANGE_PAUSE_S = 8, 1500, 2.0

# A table that a commit waited for in vain is tried again after so many seconds; partitions fail at once in between.
LOCKED_RETRY_S = 60.0


def application_name(run_id: str) -> str:
    """The name of a run's session, for people and :class:`SourceLock`."""
    return f"penstock {run_id} on {socket.gethostname()} ({os.getpid()})"


def lock_key(source: str) -> int:
    """The number under which a source is locked in a database: 64 bits of its name's hash, signed."""
    digest = blake2b(f"penstock source {source}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class SourceLock:
    """
    The lock of a source: an advisory lock of the session, which ends with the connection, and so with the process. It
    is taken again when the session is opened again.
    """

    def __init__(self, database: "Database") -> None:
        self._database = database
        self.first = False  # nobody else holds it: what a crash left can be recovered
        self._taken: tuple[str, int, LockShare | None] | None = None

    def take(self, source: str, *, wait_ms: int, lock_share: LockShare | None = None) -> None:
        """
        Take the source's lock for the rest of the session, which ends with this process at the latest. Waits a few
        seconds, since a server may need a moment to detect that a client was killed.

        With a lock share, it takes the lock together with all others of its division, and the lock of its own name. The
        first of them holds it alone until it calls :meth:`share`, and the others wait for that.

        Raises LockHeldError.
        """
        self._taken = (source, wait_ms, lock_share)
        key = lock_key(source)
        if lock_share is not None:
            self._take(lock_key(f"{source} {lock_share.name}"), f"{lock_share.name} of {source}", wait_ms)
        self.first = bool(self._database.value("select pg_try_advisory_lock(%s)", (key,)))
        if not self.first:
            self._take(key, source, wait_ms, shared=lock_share is not None)
            self.first = lock_share is None

    def _take(self, key: int, what: str, wait_ms: int, *, shared: bool = False) -> None:
        kind = "_shared" if shared else ""
        if self._database.value(f"select pg_try_advisory_lock{kind}(%s)", (key,)):
            return
        try:
            self._database.run("select set_config('lock_timeout', %s, false)", (f"{wait_ms}ms",))
            self._database.run(f"select pg_advisory_lock{kind}(%s)", (key,))
        except (errors.LockNotAvailable, errors.QueryCanceled):  # the latter by a shorter statement_timeout
            raise self._held(what, key) from None
        finally:
            self._database.run("select set_config('lock_timeout', %s, false)", (self._database.lock_timeout,))

    def take_again(self) -> None:
        """Take the lock in a session that was opened again, if the former one was to hold it. Raises LockHeldError."""
        if self._taken is not None:
            source, wait_ms, lock_share = self._taken
            self.take(source, wait_ms=max(wait_ms, 1000), lock_share=lock_share)
            if self.first:
                self.share()

    def share(self) -> None:
        """Let the other processes of the division hold the lock, too. For a run that is not divided, no effect."""
        assert self._taken is not None, "take() comes first"
        source, _, lock_share = self._taken
        # This session may hold both; the other processes get theirs when it gives up the first.
        if lock_share is not None:
            self._database.run("select pg_advisory_lock_shared(%s)", (lock_key(source),))
            self._database.run("select pg_advisory_unlock(%s)", (lock_key(source),))

    def _held(self, what: str, key: int) -> LockHeldError:
        holder, run_id = self._holder(key)
        return LockHeldError(
            f"another run writes {what} to {self._database.label}: {holder}. Wait for it to end; if it hangs, end it, "
            "or its session with pg_terminate_backend.",
            run_id=run_id,
        )

    def owned_sql(self, source: str) -> str:
        """
        A condition, without parameters: this statement runs in the session that was opened, and the session holds the
        lock of the source.
        """
        bits = lock_key(source) % 2**64
        return (
            f"(pg_backend_pid() = {self._database.pid} and exists (select from pg_catalog.pg_locks "
            f"where locktype = 'advisory' and granted and objsubid = 1 and pid = pg_backend_pid() "
            f"and classid = {bits >> 32}::bigint::oid and objid = {bits % 2**32}::bigint::oid))"
        )

    def _holder(self, key: int) -> tuple[str, str | None]:
        """The holder of the lock and the id of its run, as far as this user may see them."""
        bits = key % 2**64
        row = self._database.run(
            "select a.application_name, a.pid, host(a.client_addr), date_trunc('second', a.backend_start)::text "
            "from pg_locks l join pg_stat_activity a using (pid) "
            "where l.locktype = 'advisory' and l.granted and l.objsubid = 1 "
            "and l.classid = %s::bigint::oid and l.objid = %s::bigint::oid "
            "and l.database = (select oid from pg_database where datname = current_database())",
            (bits >> 32, bits % 2**32),
        ).fetchone()
        if row is None:
            return "who it is cannot be seen", None
        application, pid, address, since = row
        holder = f"{application or 'unknown'}, session {pid} from {address or 'this machine'}, since {since}"
        run_id = (application or "").removeprefix("penstock ").partition(" on ")[0]
        return holder, run_id or None


@contextmanager
def short_wait(database: "Database") -> Iterator[None]:
    """A transaction that waits for locks as long as one try of a change. Raises LockedTableError."""
    with database.explained(), database.transaction():
        database.run("select set_config('lock_timeout', %s, true)", (f"{SHORT_WAIT_MS}ms",))
        yield


def lock_holders(database: "Database", table: str) -> str:
    """The sessions that hold a lock on the table, for a message."""
    rows = database.run(
        "select distinct a.pid, a.state, a.usename from pg_locks l join pg_stat_activity a using (pid) "
        "where l.relation = to_regclass(%s) and l.granted and l.pid <> pg_backend_pid() order by 1 limit 5",
        (table,),
    ).fetchall()
    # The state of another user's session is null without the role pg_read_all_stats.
    sessions = [f"session {pid} of {user}, {state or 'state not visible'}" for pid, state, user in rows]
    return ", ".join(sessions) or (
        "none is on the table now: it ended, it is a run that creates a table, or it is in pg_prepared_xacts"
    )


class LockedTables:
    """The tables, by their names in statements, for whose locks a commit of this run waited in vain."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._locked: dict[str, tuple[SinkError, float]] = {}  # why the commit failed, when the table is tried next

    def add(self, tables: Sequence[str]) -> SinkError:
        """
        Refuse these tables while another session holds a lock on them. For the rest of the run, statements wait no
        longer than one try of a change. Returns the error of the commit.
        """
        waited = self._database.lock_timeout
        self._database.set("lock_timeout", f"{SHORT_WAIT_MS}ms")
        for table in tables:
            error = SinkError(
                f"{table}: other sessions hold a lock ({lock_holders(self._database, table)}), and the commit waited "
                f"{waited} for it. Nothing was replaced. Wait for these sessions to end, or end them, and run again."
            )
            self._locked[table] = error, 0.0
        return self._locked[tables[0]][0]

    def check(self, tables: Sequence[str]) -> None:
        """Raises the error of a commit that waited for one of these tables, while the table is locked."""
        for table in tables:
            if table not in self._locked:
                continue
            error, next_try = self._locked[table]
            if self._database.monotonic() < next_try or self._is_locked(table):
                raise SinkError(str(error))
            del self._locked[table]

    def _is_locked(self, table: str) -> bool:
        try:
            with short_wait(self._database):
                self._database.run(f"lock table {table} in row exclusive mode")
        except LockedTableError:
            self._locked[table] = self._locked[table][0], self._database.monotonic() + LOCKED_RETRY_S
            return True
        return False
