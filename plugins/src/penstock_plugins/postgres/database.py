"""
One session with a Postgres server: statements, transactions, COPY, the lock of a source, and errors.
"""

import math
import re
import selectors
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from typing import Any

import psycopg
from penstock import LockHeldError, Part, PenstockError, Secret, SinkError, TargetError
from psycopg import conninfo, errors

OLDEST = 14  # major version
LOCK_TIMEOUT_S = 60  # the longest wait of a statement for another session's lock on a table
POOLER_PROBES, PROBE_S = 3, 5  # connections, and the longest wait for an answer to each
REOPEN_S, REOPEN_PAUSE_S = 30.0, 2.0  # tries to open a lost session again: a server restarts in less
UNREACHABLE_S = 60.0  # after these tries were in vain, a run tries once in so many seconds
INTERRUPTED_AFTER_S = 2.0  # statements that have run for longer are cancelled when the run is to end

# Both sides detect a lost host after 30 s + 3 x 10 s, so that its lock on the source is released.
_KEEPALIVES = {"idle": 30, "interval": 10, "count": 3}

# Forms of values, and how transactions see each other: a role or a database may have other defaults.
_FORMS = {
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",  # in the names of types
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
}

_UNREADABLE = (
    "the DSN of Postgres cannot be read. Write postgresql://user:password@host:port/database?option=value, with @ as "
    "%40, / as %2F, ? as %3F and % as %25 in user and password; or host=... user=... password='...' dbname=..., with "
    "quotes where there are blanks. Options are those of libpq."
)

Row = tuple[Any, ...]
Values = Sequence[Any] | Mapping[str, Any]
"""The parameters of a statement, by position or by name."""


def quoted(name: str) -> str:
    """
    A name as an SQL identifier. Postgres truncates names at 63 bytes; a longer one ends in a hash, to stay unique.

    Raises TargetError for a name that cannot be used in a statement.
    """
    if "%" in name or "\0" in name or not name:
        raise TargetError(f"{name!r} cannot be the name of a schema, table or column here. Choose another one.")
    return identifier(short(name))


def database_of(dsn: Secret) -> str | None:
    """Hosts, ports and name of the database that a DSN names, in one form; None for a DSN that cannot be read."""
    try:
        named = conninfo.conninfo_to_dict(dsn.reveal())
    except (psycopg.ProgrammingError, UnicodeEncodeError):
        return None
    host = named.get("host") or named.get("hostaddr") or ""
    return f"Postgres at {host} port {named.get('port') or 5432}, {named.get('dbname') or named.get('user') or ''}"


def identifier(name: str) -> str:
    """A name of the catalog as an SQL identifier, also one that :func:`quoted` refuses."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text for a statement without parameters."""
    return "'" + text.replace("'", "''") + "'"


def short(name: str) -> str:
    """The name as Postgres keeps it: at most 63 bytes."""
    raw = name.encode()
    if len(raw) <= 63:
        return name
    return f"{raw[:54].decode(errors='ignore')}_{blake2b(raw, digest_size=4).hexdigest()}"


def lock_key(source: str) -> int:
    """The number under which a source is locked in a database: 64 bits of its name's hash, signed."""
    digest = blake2b(f"penstock source {source}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


# SQLSTATE -> the setting by which the server ended the session.
_TIMEOUTS = {"25P03": "idle_in_transaction_session_timeout", "25P04": "transaction_timeout"}

READ_ONLY = (
    "This server takes no writes: it is a standby, or default_transaction_read_only is set for it, for the database or "
    "for this user. Name the primary, or another user."
)


class LostSessionError(SinkError):
    """The session ended: the server restarted, or the connection was closed."""


class HeldTableError(SinkError):
    """Another session held a lock on a table, or on a row of it, for as long as this one waits."""


class Database:
    """
    A session in autocommit mode. ``run`` raises psycopg's errors; :meth:`explained` turns them into penstock's.

    :meth:`interrupt` may be called from any thread, everything else from one at a time.
    """

    def __init__(self, dsn: Secret, *, application: str, readonly: bool = False) -> None:
        self.label = "Postgres"
        self.opened = 0  # number of sessions so far: temporary tables of a former one are lost
        self.pid = 0  # of the server's process for this session
        self.binary = False  # values are read in their binary form
        self._readonly = readonly
        self._settings: dict[str, str] = {"lock_timeout": f"{LOCK_TIMEOUT_S}s"}
        self._locked: tuple[str, int, Part | None] | None = None
        self._lost: PenstockError | None = None  # why the session could not be opened again
        self._next_try = 0.0  # not before this time
        self._began: float | None = None  # when the statement under way began
        self._transactions = 0  # that are open
        self._interrupted = threading.Event()
        self._reason: PenstockError | None = None
        self.when_reopened: Callable[[], None] = lambda: None  # may raise, in the session that is open again
        try:
            self._parameters = self._read(dsn, application)
        except psycopg.Error as error:
            raise TargetError(f"{self.label}: {_message(error)}. Check the DSN.") from error
        try:
            self.connection = self._connect()
        except psycopg.Error as error:
            message = _message(error)
            raise TargetError(f"{self.label} cannot be reached: {message}. {_advice(message)}") from error
        try:
            with self.explained():
                self._set_up()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> "psycopg.Connection[Row]":
        connection = psycopg.connect(autocommit=True, prepare_threshold=None, **self._parameters)
        self.opened += 1
        return connection

    def reopen(self) -> None:
        """
        Open a session again in place of one that was lost: with its settings, and with the lock of its source.

        Raises LostSessionError when the server cannot be reached for half a minute, and LockHeldError when another run
        took the source meanwhile. After that, further calls raise the same at once: the rest of the run must not wait
        for each partition. A server that was not reached is tried again after a minute. Within a transaction it raises
        LostSessionError, too: what was done before in it is lost, and must not be completed by half.

        Raises what ``when_reopened`` raises; the session is open then.
        """
        self.connection.close()
        if self._transactions:
            raise LostSessionError(f"the connection to {self.label} was lost in the middle of a transaction")
        if self._lost is not None and time.monotonic() < self._next_try:
            raise type(self._lost)(str(self._lost))
        until = time.monotonic() + (REOPEN_S if self._lost is None else 0.0)
        pause = 0.2
        while True:
            self._interrupted.wait(pause)
            if self._reason is not None:
                raise self._reason
            try:
                self._open_again()
            except LockHeldError as error:
                self.connection.close()
                self._lost, self._next_try = error, math.inf
                raise
            except (psycopg.OperationalError, LostSessionError) as error:
                if time.monotonic() < until:
                    pause = REOPEN_PAUSE_S
                    continue
                self._next_try = time.monotonic() + UNREACHABLE_S
                self._lost = LostSessionError(
                    f"the connection to {self.label} was lost, and the server could not be reached again: "
                    f"{_message(error) if isinstance(error, psycopg.Error) else error}. All that was delivered stays. "
                    "Run again once it can be reached."
                )
                raise self._lost from error
            self._lost = None
            self.when_reopened()
            return

    def _open_again(self) -> None:
        self.connection = self._connect()
        with self.explained():
            self._set_up()
            for name, value in self._settings.items():
                self.set(name, value)
            if self._locked is not None:
                source, wait_ms, part = self._locked
                if self.lock(source, wait_ms=max(wait_ms, 1000), part=part):
                    self.share()

    def _read(self, dsn: Secret, application: str) -> dict[str, Any]:
        parameters: dict[str, Any]
        try:
            parameters = dict(conninfo.conninfo_to_dict(dsn.reveal()))
        except (psycopg.ProgrammingError, UnicodeEncodeError):
            raise TargetError(_UNREADABLE) from None  # the library's message quotes it, password included
        if _has_unescaped_delimiter(dsn.reveal()):
            raise TargetError(_UNREADABLE)
        if isinstance(parameters.get("password"), str):
            Secret(parameters["password"])
        host = parameters.get("host") or parameters.get("hostaddr") or "the local socket"
        self.label = f"Postgres at {host}, database {parameters.get('dbname') or parameters.get('user') or '(default)'}"
        parameters.setdefault("connect_timeout", 15)
        parameters.setdefault("keepalives", 1)
        for name, value in _KEEPALIVES.items():
            parameters.setdefault(f"keepalives_{name}", value)
        parameters.setdefault("tcp_user_timeout", 60_000)
        return {**parameters, "client_encoding": "utf8", "application_name": short(application)}

    def _set_up(self) -> None:
        version = self.connection.info.server_version // 10_000
        if version < OLDEST:
            raise TargetError(f"{self.label} is version {version}; penstock needs {OLDEST} or newer.")
        encoding = self.one("show server_encoding")
        if encoding != "UTF8":
            raise TargetError(
                f"{self.label} stores text as {encoding}, which cannot hold every record. Create a database with "
                "encoding UTF8."
            )
        self.binary = False
        self.pid = self.one("select pg_backend_pid()")
        if self._in_transaction_pool():
            if not self._readonly:
                raise self.pooled()
            # Settings would stay in sessions that others get. Binary values have the same form under any.
            self.binary = True
            return
        if self.is_pooled:  # another client, or a run that was killed, may have left something in the session
            self.run("select pg_advisory_unlock_all()")
            self.run("discard temporary")
        settings = {"lock_timeout": self.lock_timeout, **_FORMS}
        if self._readonly:
            settings["default_transaction_read_only"] = "on"
        else:
            settings |= {f"tcp_keepalives_{name}": str(value) for name, value in _KEEPALIVES.items()}
            # During a long statement, the server checks regularly whether its client is still connected.
            settings |= {"client_connection_check_interval": "1s", "idle_session_timeout": "0"}
            # Statistics do not know a new day, nor a temporary table: the server expects one row, and would compare
            # each row with each. It is made to hash them. The cost that it then computes must not start a compiler.
            settings |= {"enable_nestloop": "off", "jit": "off"}
        for name, value in settings.items():
            with suppress(errors.InvalidParameterValue):  # not on every platform
                self.run("select set_config(%s, %s, false)", (name, value))

    @property
    def lock_timeout(self) -> str:
        """The longest wait of a statement for another session's lock."""
        return self._settings["lock_timeout"]

    @lock_timeout.setter
    def lock_timeout(self, value: str) -> None:
        self.set("lock_timeout", value)

    def set(self, name: str, value: str) -> None:
        """A setting of the session, kept when it is opened again."""
        self._settings[name] = value
        self.run("select set_config(%s, %s, false)", (name, value))

    # --- statements -------------------------------------------------------------------------------------------------

    def run(self, statement: str, values: Values = ()) -> "psycopg.Cursor[Row]":
        """One statement. Its parameters are written ``%s``, or ``%(name)s``; names come from :func:`quoted`."""
        with self._timed():
            return self.connection.execute(statement, values, binary=self.binary)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        self._began = time.monotonic()
        try:
            yield
        finally:
            self._began = None

    def interrupt(self, reason: PenstockError) -> None:
        """
        End the run: cancel the current statement if it has run for :data:`INTERRUPTED_AFTER_S`; it then raises
        ``reason``. A younger one may complete; to be called again until the run has ended.
        """
        self._reason = reason
        self._interrupted.set()
        began = self._began
        if began is not None and time.monotonic() - began >= INTERRUPTED_AFTER_S:
            with suppress(psycopg.Error):
                self.connection.cancel_safe(timeout=5.0)

    @property
    def reason(self) -> PenstockError | None:
        """Why the run is to end, after :meth:`interrupt`."""
        return self._reason

    def pause(self, seconds: float) -> None:
        """Wait outside of any statement; raises the reason of :meth:`interrupt` at once."""
        if self._interrupted.wait(seconds) and self._reason is not None:
            raise self._reason

    def row(self, statement: str, values: Values = ()) -> Row:
        """The first row of a statement that always has one."""
        row = self.run(statement, values).fetchone()
        assert row is not None
        return row

    def one(self, statement: str, values: Values = ()) -> Any:
        """The first value of the first row, None without a row."""
        row = self.run(statement, values).fetchone()
        return row[0] if row is not None else None

    def copy(self, statement: str, blocks: Iterable[bytes | bytearray]) -> int:
        """COPY into a table; the number of rows that the server stored."""
        with self._timed(), self.connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for block in blocks:
                    copy.write(block)
            return cursor.rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction: all its statements take effect at its end, or none. A nested one is part of the outer one."""
        if self.in_transaction:
            yield
            return
        self._transactions += 1
        try:
            with self.connection.transaction():
                yield
        finally:
            self._transactions -= 1

    def make_durable(self) -> None:
        """
        In a transaction: its commit waits until it is on the server's disk, and with it all earlier ones, also where
        ``synchronous_commit`` is off.
        """
        self.run(
            "select set_config('synchronous_commit', 'local', true) where current_setting('synchronous_commit') = 'off'"
        )

    @property
    def in_transaction(self) -> bool:
        return self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    def check(self) -> None:
        """Open the session again if it is lost, before anything is fetched in vain."""
        if self.connection.closed:
            self.reopen()

    def close(self) -> None:
        if self.is_pooled and not self.binary and not self.in_transaction:
            with suppress(psycopg.Error):  # a pooler may hand the session to others as it is
                self.run("discard all")
        self.connection.close()

    # --- the lock of a source ---------------------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Raises TargetError if transactions of this session are read-only."""
        if self.one("show transaction_read_only") == "on":
            raise TargetError(f"{self.label}: no table can be written. {READ_ONLY}")

    def lock(self, source: str, *, wait_ms: int, part: Part | None = None) -> bool:
        """
        Take the source's lock for the rest of the session, which ends with this process at the latest. Waits a few
        seconds, since a server may need a moment to detect that a client was killed.

        A part takes the lock together with all parts of its division, and the lock of its own name. Returns whether
        nobody else holds the source's lock: then a part holds it alone until it calls :meth:`share`, and the others
        wait for that.

        Raises LockHeldError.
        """
        self._locked = (source, wait_ms, part)
        key = lock_key(source)
        if part is not None:
            self._take_lock(lock_key(f"{source} {part.name}"), f"{part.name} of {source}", wait_ms)
        if self.one("select pg_try_advisory_lock(%s)", (key,)):
            return True
        self._take_lock(key, source, wait_ms, shared=part is not None)
        return part is None

    def _take_lock(self, key: int, what: str, wait_ms: int, *, shared: bool = False) -> None:
        kind = "_shared" if shared else ""
        if self.one(f"select pg_try_advisory_lock{kind}(%s)", (key,)):
            return
        try:
            self.run("select set_config('lock_timeout', %s, false)", (f"{wait_ms}ms",))
            self.run(f"select pg_advisory_lock{kind}(%s)", (key,))
        except (errors.LockNotAvailable, errors.QueryCanceled):  # the latter by a shorter statement_timeout
            raise self.held(what, key) from None
        finally:
            self.run("select set_config('lock_timeout', %s, false)", (self.lock_timeout,))

    def share(self) -> None:
        """Let the other parts of the division hold the lock, too. For a run that is not divided, no effect."""
        assert self._locked is not None, "lock() comes first"
        source, _, part = self._locked
        if part is not None:  # this session may hold both; the other parts get theirs when it gives up the first
            self.run("select pg_advisory_lock_shared(%s)", (lock_key(source),))
            self.run("select pg_advisory_unlock(%s)", (lock_key(source),))

    def held(self, what: str, key: int) -> LockHeldError:
        return LockHeldError(
            f"another run writes {what} to {self.label}: {self._lock_holder(key)}. Wait for it to end; if it hangs, "
            "end it, or its session with pg_terminate_backend."
        )

    def owns_sql(self, source: str) -> str:
        """
        A condition, without parameters: this statement runs in the session that was opened, and the session holds the
        lock of the source.
        """
        bits = lock_key(source) % 2**64
        return (
            f"(pg_backend_pid() = {self.pid} and exists (select from pg_catalog.pg_locks where locktype = 'advisory' "
            f"and granted and objsubid = 1 and pid = pg_backend_pid() and classid = {bits >> 32}::bigint::oid "
            f"and objid = {bits % 2**32}::bigint::oid))"
        )

    def pooled(self) -> TargetError:
        return TargetError(
            f"{self.label} is reached through a pooler that gives each transaction another session (pgbouncer: "
            "pool_mode = transaction or statement; often port 6543). The lock of a source lives in a session, so two "
            "runs could write at once. Name the port of the server itself, or of a pool with pool_mode = session."
        )

    @property
    def is_pooled(self) -> bool:
        """
        Whether a pooler is between this process and the server: it states another number than the server's process id
        when a connection is made.
        """
        return not self.connection.closed and self.connection.info.backend_pid != self.pid

    def _in_transaction_pool(self) -> bool:
        """
        Whether a pooler gives each transaction another session, which keeps no lock, and settings for others.

        A second connection tests whether it gets the session of the first one, which stays connected.
        """
        if not self.is_pooled:
            return False
        if self.one("select pg_backend_pid()") != self.pid:
            return True
        parameters = {**self._parameters, "connect_timeout": PROBE_S}
        for _ in range(POOLER_PROBES):
            try:
                with closing(psycopg.connect(autocommit=True, prepare_threshold=None, **parameters)) as other:
                    pid = _pid_in_a_transaction(other)
                    # The other one is in a transaction: in a pool of transactions this one now gets another session.
                    if pid == self.pid or (pid is not None and self.one("select pg_backend_pid()") != self.pid):
                        return True
            except errors.ProtocolViolation:  # a pooler of statements refuses transactions
                return True
            except psycopg.OperationalError:
                pid = None
            if pid is None:  # no second session is available: each commit checks again
                return False
        return False

    def _lock_holder(self, key: int) -> str:
        """The holder of the lock, as far as this user may see it."""
        bits = key % 2**64
        row = self.run(
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

    # --- errors -----------------------------------------------------------------------------------------------------

    @contextmanager
    def explained(self) -> Iterator[None]:
        """psycopg's errors as SinkError or TargetError."""
        try:
            yield
        except psycopg.Error as error:
            raise self.explanation(error) from error

    def explanation(self, error: psycopg.Error) -> PenstockError:
        message, state = _message(error), error.sqlstate or ""
        seen = f"{self.label}: {message}"
        if state == "57014" and self._reason is not None:
            return self._reason
        if state == "08P01" and "pooling mode" in message:  # in which there are no transactions
            return self.pooled()
        if self.connection.closed or state.startswith(("08", "57P")):
            setting = _TIMEOUTS.get(state)
            remedy = self._remedy_for_setting(setting) if setting else "Run again once the server can be reached."
            return LostSessionError(
                f"the connection to {seen}. It is lost, and with it what was not committed; all that was delivered "
                f"stays. {remedy}"
            )
        if state == "57014":
            return SinkError(f"{seen}. What was there before stays. {self._remedy_for_setting('statement_timeout')}")
        if is_without_partition(error):
            return SinkError(
                f"{seen}. Nothing of it was written; what was there before stays. Make a partition of the table for "
                "these rows, or a default one, and run again."
            )
        if state == "23503":
            return SinkError(
                f"{seen}. What was there before stays: the provider withdrew rows that another table references. "
                "Delete the references, or declare the foreign key with on delete cascade or set null; then run again."
            )
        if state == "42501":
            return TargetError(f"{seen}. Give this user the right to do it, or name another user, schema or database.")
        if state == "25006":
            return TargetError(f"{seen}. {READ_ONLY}")
        if state == "55P03":
            return HeldTableError(
                f"{seen}: another session held a lock on the table for {self.lock_timeout}. "
                "pg_stat_activity shows which; what was there stays. Run again when it is gone."
            )
        if state.startswith("53"):
            return SinkError(
                f"{seen}. The server is out of disk, memory or connections (SQLSTATE {state}). The rows delivered "
                "before are unchanged. Free some of it, then run again."
            )
        if state == "0A000" and ("RETURNING" in message or " rules " in message):
            return TargetError(f"{seen}. A rule on the table is in the way: drop it, or use a trigger; then run again.")
        if state == "0A000" or state.startswith("2BP"):
            return TargetError(f"{seen}. Drop what depends on it, run again, and create it anew.")
        if error.diag.message_hint:
            seen = f"{seen}. {error.diag.message_hint.strip().rstrip('.')}"
        return SinkError(f"{seen} (SQLSTATE {state or 'none'}). What was there before stays.")

    def _remedy_for_setting(self, setting: str) -> str:
        """The remedy where the server ended a session or a statement by a setting of its administrator."""
        return (
            f"If the server's {setting} is shorter than a partition takes, its administrator must run: alter role "
            f"{identifier(self.connection.info.user)} set {setting} = 0; then run again."
        )


def _pid_in_a_transaction(connection: "psycopg.Connection[Row]") -> int | None:
    """
    The process id of the connection's session, in a transaction that stays open; None if a pooler that has no session
    left lets it wait. Raises psycopg.Error.
    """
    wire = connection.pgconn
    wire.send_query(b"begin; select pg_backend_pid()")
    until = time.monotonic() + PROBE_S
    with selectors.DefaultSelector() as selector:
        selector.register(wire.socket, selectors.EVENT_READ)
        while wire.is_busy():
            if not selector.select(max(until - time.monotonic(), 0)):
                return None
            wire.consume_input()
    pid = None
    while (result := wire.get_result()) is not None:
        if result.status not in (psycopg.pq.ExecStatus.COMMAND_OK, psycopg.pq.ExecStatus.TUPLES_OK):
            if b"query_wait_timeout" in result.error_message:
                return None
            raise errors.error_from_result(result)
        value = result.get_value(0, 0) if result.ntuples else None
        pid = int(value) if value is not None else pid
    return pid


def guarded_text(table: str, user: str) -> str:
    """The message about a table with row-level security. Both names are quoted."""
    return (
        f"row-level security of the table {table} holds for {user}: rows that are there may be hidden from it. Its "
        f"owner must run: alter table {table} disable row level security; or a superuser must run: alter role {user} "
        "bypassrls."
    )


def grant(database: Database, role: str, schema: str, tables: Sequence[str]) -> None:
    """
    Let a role read these tables. No statement is run for rights that it has.

    Raises TargetError if the role does not exist.
    """
    if not database.one("select exists (select from pg_roles where rolname = %s)", (role,)):
        raise TargetError(f"grant_to: {database.label} has no role {role}. Create it, or correct the name.")
    if not database.one("select has_schema_privilege(%s, %s, 'usage')", (role, short(schema))):
        database.run(f"grant usage on schema {quoted(schema)} to {quoted(role)}")
    for table in tables:
        name = table_sql(schema, table)
        if not database.one("select has_table_privilege(%s, %s, 'select')", (role, name)):
            database.run(f"grant select on {name} to {quoted(role)}")


def is_without_partition(error: Exception) -> bool:
    """Whether a row was refused because its table is divided into partitions, and none is for it."""
    return isinstance(error, errors.CheckViolation) and error.diag.constraint_name is None


def _has_unescaped_delimiter(dsn: str) -> bool:
    """Whether a URL's login has an unescaped delimiter, so that part of the password is parsed as host or database."""
    without_options = dsn.partition("?")[0]
    login, at, rest = without_options.partition("://")[2].partition("@")
    return bool(at) and ("@" in rest or "/" in login)


# What libpq states of a connection that is not trusted, or not encrypted -> which option of the DSN helps.
_OF_TLS = {
    "does not match host name": "With sslmode=verify-full, host must be a name that the server's certificate has.",
    "root certificate file": "sslrootcert must name the certificate of the authority that signed the server's.",
    "certificate verify failed": (
        "Do not trust this server before you know why: sslrootcert must name the certificate of the authority that "
        "signed the server's."
    ),
    "no encryption": "If the server takes connections over TLS only, write sslmode=require or verify-full in the DSN.",
    "server does not support SSL": "Let the server's administrator set up TLS, or name the port that has it.",
}


def _advice(message: str) -> str:
    """What to do about a connection that was not made."""
    of_tls = next((advice for seen, advice in _OF_TLS.items() if seen in message), None)
    return of_tls or "Check the DSN (host, port, database, user, password) and that the server runs."


def _message(error: psycopg.Error) -> str:
    """The message of the server or the library, on one line."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    text = re.sub(r"\n\t.*", "", text)  # the library's guesses, such as "Is the server running ...?"
    text = re.sub(r"\s*\n\s*", "; ", text.strip())  # it states each attempt on a line of its own
    hint = error.diag.message_detail
    return re.sub(r"\s+", " ", f"{text} ({hint})" if hint else text).strip().rstrip(".")


def table_sql(schema: str, table: str) -> str:
    """The name of a table in statements."""
    return f"{quoted(schema)}.{quoted(table)}"


def columns_sql(names: Iterable[str], prefix: str = "") -> str:
    return ", ".join(f"{prefix}{quoted(name)}" for name in names)
