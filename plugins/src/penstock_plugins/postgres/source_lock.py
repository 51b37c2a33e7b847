"""
The lock of a source: an advisory lock of the session, which ends with the connection, and so with the process.
"""

from hashlib import blake2b
from typing import TYPE_CHECKING

from penstock import LockHeldError, Part
from psycopg import errors

if TYPE_CHECKING:
    from penstock_plugins.postgres.database import Database


def lock_key(source: str) -> int:
    """The number under which a source is locked in a database: 64 bits of its name's hash, signed."""
    digest = blake2b(f"penstock source {source}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class SourceLock:
    """The lock that a session holds, or is to hold again once it is opened again."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._taken: tuple[str, int, Part | None] | None = None

    def take(self, source: str, *, wait_ms: int, part: Part | None = None) -> bool:
        """
        Take the source's lock for the rest of the session, which ends with this process at the latest. Waits a few
        seconds, since a server may need a moment to detect that a client was killed.

        A part takes the lock together with all parts of its division, and the lock of its own name. Returns whether
        nobody else holds the source's lock: then a part holds it alone until it calls :meth:`share`, and the others
        wait for that.

        Raises LockHeldError.
        """
        self._taken = (source, wait_ms, part)
        key = lock_key(source)
        if part is not None:
            self._take(lock_key(f"{source} {part.name}"), f"{part.name} of {source}", wait_ms)
        if self._database.one("select pg_try_advisory_lock(%s)", (key,)):
            return True
        self._take(key, source, wait_ms, shared=part is not None)
        return part is None

    def _take(self, key: int, what: str, wait_ms: int, *, shared: bool = False) -> None:
        kind = "_shared" if shared else ""
        if self._database.one(f"select pg_try_advisory_lock{kind}(%s)", (key,)):
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
            source, wait_ms, part = self._taken
            if self.take(source, wait_ms=max(wait_ms, 1000), part=part):
                self.share()

    def share(self) -> None:
        """Let the other parts of the division hold the lock, too. For a run that is not divided, no effect."""
        assert self._taken is not None, "take() comes first"
        source, _, part = self._taken
        if part is not None:  # this session may hold both; the other parts get theirs when it gives up the first
            self._database.run("select pg_advisory_lock_shared(%s)", (lock_key(source),))
            self._database.run("select pg_advisory_unlock(%s)", (lock_key(source),))

    def _held(self, what: str, key: int) -> LockHeldError:
        return LockHeldError(
            f"another run writes {what} to {self._database.label}: {self._holder(key)}. Wait for it to end; if it "
            "hangs, end it, or its session with pg_terminate_backend."
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

    def _holder(self, key: int) -> str:
        """The holder of the lock, as far as this user may see it."""
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
            return "who it is cannot be seen"
        application, pid, address, since = row
        return f"{application or 'unknown'}, session {pid} from {address or 'this machine'}, since {since}"
