"""
One session with a Postgres server: statements, transactions and COPY, also after it was lost.
"""

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import psycopg
from penstock import LockHeldError, PenstockError, Secret, TargetError
from psycopg import errors

from penstock_plugins.postgres.connection import (
    KEEPALIVES,
    USER_TIMEOUT_MS,
    connection_parameters,
    is_in_transaction_pool,
    label_of,
    pooled_error,
)
from penstock_plugins.postgres.locks import SourceLock
from penstock_plugins.postgres.server_errors import READ_ONLY, LostSessionError, explanation, message_of, unreachable
from penstock_plugins.sink_support.attempts import closed_on_error

OLDEST = 14  # major version
LOCK_TIMEOUT_S = 60  # the longest wait of a statement for another session's lock on a table
REOPEN_S, REOPEN_PAUSE_S = 30.0, 2.0  # tries to open a lost session again: a server restarts in less
UNREACHABLE_S = 60.0  # after these tries were in vain, a run tries once in so many seconds
INTERRUPTED_AFTER_S = 2.0  # statements that have run for longer are cancelled when the run is to end
CUT_AFTER_S = 6.0  # without an effect of the cancellation, the connection is cut

# Forms of values, and how transactions see each other: a role or a database may have other defaults.
_FORMS = {
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",  # in the names of types
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "row_security": "off",  # a policy that hides rows is an error, also one that somebody makes during a run
}

Row = tuple[Any, ...]
Values = Sequence[Any] | Mapping[str, Any]
"""The parameters of a statement, by position or by name."""


class Database:
    """
    A session in autocommit mode. ``run`` raises psycopg's errors; :meth:`explained` turns them into penstock's.

    :meth:`interrupt` may be called from any thread, everything else from one at a time.
    """

    rows_at_once: ClassVar[int] = 1000  # of a cursor, and of the rows that are erased by their ids

    def __init__(
        self,
        dsn: Secret,
        *,
        application: str,
        readonly: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label = "Postgres"
        self.opened = 0  # number of sessions so far: temporary tables of a former one are lost
        self.pid = 0  # of the server's process for this session
        self.binary = False  # values are read in their binary form
        self.lock = SourceLock(self)
        self.monotonic = monotonic
        self._readonly = readonly
        self._settings: dict[str, str] = {"lock_timeout": f"{LOCK_TIMEOUT_S}s"}
        self._reopen_error: PenstockError | None = None  # why the session could not be opened again
        self._next_try = 0.0  # not before this time
        self._began: float | None = None  # when the statement under way began
        self.open_transactions = 0
        self._interrupted = threading.Event()
        self._interrupted_at = math.inf
        self.reason: PenstockError | None = None  # why the run is to end, after an interrupt
        self.when_reopened: Callable[[], None] = lambda: None  # may raise, in the session that is open again
        try:
            self._parameters = connection_parameters(dsn, application)
        except psycopg.Error as error:
            raise TargetError(f"{self.label}: {message_of(error)}. Check the DSN.") from error
        self.label = label_of(self._parameters)
        try:
            self.connection = self._connect()
        except psycopg.Error as error:
            raise unreachable(error, self.label) from error
        with closed_on_error(self), self.explained():
            self._set_up()

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
        if self.open_transactions:
            raise LostSessionError(
                f"the connection to {self.label} was lost in the middle of a transaction. Nothing was replaced; "
                "run again."
            )
        if self._reopen_error is not None and self.monotonic() < self._next_try:
            raise type(self._reopen_error)(str(self._reopen_error))
        until = self.monotonic() + (REOPEN_S if self._reopen_error is None else 0.0)
        pause = 0.2
        while True:
            self._interrupted.wait(pause)
            if self.reason is not None:
                raise self.reason
            try:
                self._open_again()
            except LockHeldError as error:
                self.connection.close()
                self._reopen_error, self._next_try = error, math.inf
                raise
            except (psycopg.OperationalError, LostSessionError) as error:
                if self.monotonic() < until:
                    pause = REOPEN_PAUSE_S
                    continue
                self._next_try = self.monotonic() + UNREACHABLE_S
                seen = message_of(error) if isinstance(error, psycopg.Error) else error
                self._reopen_error = LostSessionError(
                    f"the connection to {self.label} was lost, and the server could not be reached again: {seen}. All "
                    "that was delivered stays. Run again once it can be reached."
                )
                raise self._reopen_error from error
            self._reopen_error = None
            self.when_reopened()
            return

    def _open_again(self) -> None:
        self.connection = self._connect()
        with self.explained():
            self._set_up()
            for name, value in self._settings.items():
                self.set(name, value)
            self.lock.take_again()

    def _set_up(self) -> None:
        version = self.connection.info.server_version // 10_000
        if version < OLDEST:
            raise TargetError(f"{self.label} is version {version}; penstock needs {OLDEST} or newer.")
        encoding = self.value("show server_encoding")
        if encoding != "UTF8":
            raise TargetError(
                f"{self.label} stores text as {encoding}, which cannot hold every record. Create a database with "
                "encoding UTF8."
            )
        self.binary = False
        self.pid = self.value("select pg_backend_pid()")
        if is_in_transaction_pool(self, self._parameters):
            if not self._readonly:
                raise pooled_error(self.label)
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
            settings |= {f"tcp_keepalives_{name}": str(value) for name, value in KEEPALIVES.items()}
            settings["tcp_user_timeout"] = str(USER_TIMEOUT_MS)
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

    def set(self, name: str, value: str) -> None:
        """A setting of the session, kept when it is opened again."""
        self._settings[name] = value
        self.run("select set_config(%s, %s, false)", (name, value))

    @property
    def is_pooled(self) -> bool:
        """
        Whether a pooler is between this process and the server: it states another number than the server's process id
        when a connection is made.
        """
        return not self.connection.closed and self.connection.info.backend_pid != self.pid

    def check_writable(self) -> None:
        """Raises TargetError if transactions of this session are read-only."""
        if self.value("show transaction_read_only") == "on":
            raise TargetError(f"{self.label}: no table can be written. {READ_ONLY}")

    # --- statements -------------------------------------------------------------------------------------------------

    def run(self, statement: str, values: Values = ()) -> "psycopg.Cursor[Row]":
        """One statement. Its parameters are written ``%s``, or ``%(name)s``; names come from ``quoted()``."""
        with self._timed():
            return self.connection.execute(statement, values, binary=self.binary)

    def stream(self, statement: str, values: Values = ()) -> "Iterator[Row]":
        """
        The rows of a query in a transaction, by a cursor of the server: the client would hold the rows of :meth:`run`.
        """
        with self.connection.cursor(name="penstock_rows") as cursor:
            cursor.itersize = self.rows_at_once
            with self._timed():
                cursor.execute(statement, values, binary=self.binary)
            yield from cursor

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
        ``reason``. A younger one may complete; to be called again until the run has ended. A server that does not
        respond (a stalled disk) cancels nothing: its connection is cut.
        """
        self.reason = reason
        now = time.monotonic()
        self._interrupted_at = min(self._interrupted_at, now)
        self._interrupted.set()
        began = self._began
        if began is None or now - began < INTERRUPTED_AFTER_S:
            return
        if now - max(began, self._interrupted_at) >= CUT_AFTER_S:
            with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(self.connection.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)
            return
        with suppress(psycopg.Error):
            self.connection.cancel_safe(timeout=5.0)

    def pause(self, seconds: float) -> None:
        """Wait outside of any statement; raises the reason of :meth:`interrupt` at once."""
        if self._interrupted.wait(seconds) and self.reason is not None:
            raise self.reason

    def row(self, statement: str, values: Values = ()) -> Row:
        """The first row of a statement that always has one."""
        row = self.run(statement, values).fetchone()
        assert row is not None
        return row

    def value(self, statement: str, values: Values = ()) -> Any:
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
        self.open_transactions += 1
        try:
            with self.connection.transaction():
                yield
                self._began = time.monotonic()  # COMMIT can wait, too: for a standby, or for a deferred trigger
        finally:
            self._began = None
            self.open_transactions -= 1
            if self.connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
                with suppress(psycopg.Error):
                    self.connection.rollback()  # BEGIN itself was cancelled: the library takes none to be open

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

    @contextmanager
    def explained(self) -> Iterator[None]:
        """psycopg's errors as SinkError or TargetError."""
        try:
            yield
        except psycopg.Error as error:
            raise explanation(error, self) from error
