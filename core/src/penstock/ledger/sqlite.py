"""
The ledger beside files: one SQLite file.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from penstock.errors import PenstockError, SinkError, TargetError
from penstock.ledger.schema import BY_FLAW, INDEXES, TABLES
from penstock.ledger.sql import Retention, SqlLedger

# A partition's text is {"account's column":"account","day's column":"YYYY-MM-DD"}, either of them or none.
_HAS_DAY = """substr(partition, -14) glob ':"[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"}'"""
_DAY = f"case when {_HAS_DAY} then substr(partition, -12, 10) else '' end"
_FIRST = """json_extract(partition, '$."' || substr(partition, 3, instr(partition, '":') - 3) || '"')"""
_ACCOUNT = f"case when partition = '{{}}' or ({_HAS_DAY} and {_FIRST} = substr(partition, -12, 10)) then '' " + (
    f"else {_FIRST} end"
)
_NOW = "strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000+00:00'"


class SqliteLedger(SqlLedger):
    """
    A ledger in one SQLite file, made with mode 0600 (its directory 0700) when it is not there.

    Write-ahead log and synchronous FULL: one fsync per change, and readers never wait for the writer. ``readonly``
    needs no write permission; a file in which nothing was recorded yet reads as empty.

    A ledger of an older penstock is brought up to date when it is opened; for a reader, a copy of it in memory is.

    Raises TargetError when the file cannot be used: not a database, damaged, unwritable, of a newer penstock.
    """

    words: ClassVar = {"time": "text", "json": "text", "account": _ACCOUNT, "day": _DAY, "now": _NOW}
    in_texts = "in (select value from json_each(?))"
    # In place of BY_ACCOUNT, with all that `status` adds up: rows of an account are far apart in the file, and reading
    # them costs five times as much.
    indexes: tuple[str, ...] = (
        *INDEXES,
        "create index if not exists partitions_summed on {t}partitions "
        "(source, stream, account, day, standing, rows, rejected, unread_values, truncated, read_at)",
        "drop index if exists partitions_accounts",
        BY_FLAW,
    )

    def __init__(self, path: Path, *, readonly: bool = False, retention: Retention | None = None) -> None:
        self.path = path
        self.retention = retention or Retention()
        self._depth = 0
        self._connection: sqlite3.Connection | None = None
        try:
            if readonly:
                self._open_readonly()
            else:
                self._create()
                self._connect("rw")
                self._check_is_ledger()
                self._execute("pragma journal_mode = wal")
                self._execute("pragma synchronous = full")
                self._prepare()
        except OSError as error:
            raise TargetError(
                f"{path} cannot be written ({error.strerror}). Give this user the right to write there, or name "
                "another target."
            ) from error
        except PenstockError:
            self.close()
            raise

    def _create(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.path.exists():
            self.path.touch(mode=0o600)

    def _connect(self, mode: str) -> None:
        uri = f"{self.path.absolute().as_uri()}?{'mode=ro&immutable=1' if mode == 'immutable' else f'mode={mode}'}"
        try:
            # Used by one thread at a time; a coordinator opens it in another one than it commits in.
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _open_readonly(self) -> None:
        log = self.path.with_name(self.path.name + "-wal")
        try:
            self._connect("ro")
            empty = not self._tables()
        except TargetError:
            # The log's index cannot be made in a directory that is not ours; without a log none is needed.
            if log.exists() and log.stat().st_size:
                raise
            self.close()
            self._connect("immutable")
            empty = not self._tables()
        if empty:
            self.close()
            self._connection = sqlite3.connect(":memory:", isolation_level=None)
            self._prepare()
            return
        self._check_is_ledger()
        self._check_version()
        # Development versions (decision 72).
        if self.outdated:
            stored = self._connection
            assert stored is not None
            self._connection = sqlite3.connect(":memory:", isolation_level=None)
            with closing(stored):
                stored.backup(self._connection)
            self._prepare()

    # Development versions (decision 72).
    def _migrate(self, version: int) -> None:
        """
        From version 1: ``partitions`` has columns that SQLite adds to a new table only.
        """
        self._sql("alter table {t}partitions rename to partitions_1")
        self._make_table("partitions", TABLES["partitions"])
        columns = (
            "source, stream, partition, state, run_id, read_at, open_until, fingerprint, rows, promised, rejected, "
            "repeated, truncated, attempts, version, error, sums, derived_rows, files, intent"
        )
        self._sql(f"insert into {{t}}partitions ({columns}) select {columns} from partitions_1")
        self._sql("drop table partitions_1")

    def _tables(self) -> set[str]:
        rows = self._execute("select name from sqlite_master where type = 'table'").fetchall()
        return {name for (name,) in rows}

    def _check_is_ledger(self) -> None:
        tables = self._tables()
        if tables and not {"meta", "partitions"} <= tables:
            raise TargetError(
                f"{self.path} is a database, but not a ledger of penstock (tables: {', '.join(sorted(tables))}). "
                "Move it away or name another target; it was not changed."
            )

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        if self._connection is None:
            raise SinkError(f"the ledger {self.path} was closed")
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._depth == 0:
            self._execute("begin immediate")
        self._depth += 1
        try:
            yield
            if self._depth == 1:
                self._execute("commit")
        except BaseException:
            if self._depth == 1 and self._connection is not None and self._connection.in_transaction:
                self._connection.rollback()
            raise
        finally:
            self._depth -= 1

    def _explained(self, error: sqlite3.Error) -> PenstockError:
        name = getattr(error, "sqlite_errorname", "") or ""
        text = f"{self.path}: {error}"
        if name.startswith("SQLITE_FULL"):
            return SinkError(f"{text}. Free some space and run again; what was delivered before is still there.")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return SinkError(f"{text} for 30 s by another process. Find out which one holds it, then run again.")
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return TargetError(
                f"{text}. The ledger is damaged or no ledger at all. Restore it from a backup, or move it away: then "
                "everything is read again. Nothing was deleted."
            )
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
            return TargetError(f"{text}. Give this user access to it, or name another target.")
        return SinkError(
            f"{text}. The ledger could not be read or written: look at the disk, and at what this process may use of "
            "it (quota, ulimit), then run again; what was delivered before is still there."
        )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
