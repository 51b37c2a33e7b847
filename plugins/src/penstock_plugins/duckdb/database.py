"""
A DuckDB file that this process has open: statements, transactions, errors that name the remedy.

DuckDB lets one process write a file, and nobody else open it meanwhile. Within the process several connections may.
"""

import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import duckdb
from attrs import field, frozen
from penstock import LockHeldError, PenstockError, SinkError, TargetError

from penstock_plugins.files.disk import explained
from penstock_plugins.sink_support.sql_tables import identifier

_held: dict[tuple[str, str], str] = {}  # (file, source) -> the run of this process that writes it
_guard = threading.Lock()


@contextmanager
def errors(path: Path) -> Iterator[None]:
    """Turn DuckDB's errors, and those of the file, into those of a sink."""
    try:
        yield
    except duckdb.Error as error:
        raise _explained(error, path) from error
    except OSError as error:
        raise explained(error, path) from error


@contextmanager
def private(path: Path) -> Iterator[None]:
    """
    Let DuckDB make its files as private as the database: its log and its spilled rows are made anew again and again,
    by the umask of the process. A new database is for its owner only, since it holds the rejected records.
    """
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    former = os.umask(0o777 & ~mode)
    try:
        yield
    finally:
        os.umask(former)


def _explained(error: Exception, path: Path) -> PenstockError:
    text = " ".join(str(error).split())
    if isinstance(error, duckdb.IOException) and "lock" in text:
        return LockHeldError(
            f"{path} is open in another process, and DuckDB lets only one write it ({text}). Wait for that run to end, "
            "or close the program that reads it."
        )
    if isinstance(error, duckdb.IOException) and "not a valid DuckDB" in text:
        return TargetError(f"{path} is no DuckDB file. Move it away or name another target; it was not changed.")
    if isinstance(error, duckdb.IOException) and any(
        word in text for word in ("Cannot open", "Permission", "directory")
    ):
        return TargetError(f"{text}. Give this user access to it, or name another target.")
    return SinkError(f"{path}: {text}. What was delivered before is still there; when the cause is gone, run again.")


@frozen
class Result:
    """The rows that a statement returned. ``rowcount``: of a change, how many rows it changed."""

    rows: list[Any] = field(repr=False)

    @property
    def rowcount(self) -> int:
        return int(self.rows[0][0]) if self.rows else 0

    def fetchall(self) -> list[Any]:
        return self.rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


class Database:
    """One connection. ``catalog``: the quoted name under which DuckDB knows the file."""

    rows_at_once: ClassVar[int] = 1000  # of a stream of rows

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.path = path
        self._in_transaction = False
        self._key: tuple[str, str] | None = None
        with errors(path), private(path):
            self.connection = _connected(path, readonly)
            self.connection.execute("set TimeZone = 'UTC'")
            self.catalog = identifier(self.connection.execute("select current_database()").fetchone()[0])

    def lock(self, source: str, run_id: str) -> None:
        """
        Raises LockHeldError if another run of this process writes the source. Other processes cannot open the file.
        """
        key = (os.path.realpath(self.path), source)
        with _guard:
            if key in _held:
                raise LockHeldError(
                    f"another run writes {source} to {self.path} (run {_held[key]}). Wait for it to end.",
                    run_id=_held[key],
                )
            _held[key] = run_id
            self._key = key

    def run(self, statement: str, values: Sequence[Any] = ()) -> Result:
        with errors(self.path), private(self.path):
            return Result(self.connection.execute(statement, list(values)).fetchall())

    def stream(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """The rows of a query, some at a time, by a connection of its own: it has what was committed."""
        with errors(self.path), private(self.path):
            cursor = self.connection.cursor().execute(statement, list(values))
        while True:
            with errors(self.path), private(self.path):
                rows = cursor.fetchmany(self.rows_at_once)
            if not rows:
                return
            yield from rows

    def insert(self, table: str, batches: Any, *, create: bool) -> None:
        """The rows of an Arrow table into ``table``, which ``create`` makes."""
        verb = f"create temp table {table} as" if create else f"insert into {table} by name"
        with errors(self.path), private(self.path):
            self.connection.register("penstock_batches", batches)
            self.connection.execute(f"{verb} select * from penstock_batches")
            self.connection.unregister("penstock_batches")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self._in_transaction:
            yield
            return
        self.run("begin transaction")
        self._in_transaction = True
        try:
            yield
            self.run("commit")
        except BaseException:
            with suppress(PenstockError):  # after an error of the commit there is none
                self.run("rollback")
            raise
        finally:
            self._in_transaction = False

    def close(self) -> None:
        with private(self.path):
            self.connection.close()
        with _guard:
            if self._key is not None:
                _held.pop(self._key, None)
                self._key = None


def _connected(path: Path, readonly: bool) -> Any:
    place = str(Path.cwd() / path)  # relative, DuckDB takes :memory: for no file, and s3:a or md:a for another service
    if not readonly:
        return duckdb.connect(place)
    try:
        return duckdb.connect(place, read_only=True)
    except duckdb.ConnectionException:  # a run of this process has it open
        return duckdb.connect(place)
