"""
A schema of a Postgres database per source, a table per stream, and the ledger in the schema ``penstock`` beside them.

**A commit** is one short transaction: the partition's old rows go, the new ones come, and the ledger's row with them.
Nothing is open while pages are fetched: rows wait as formatted bytes, up to :data:`MEMORY_BYTES` over all partitions
under way, and beyond that in a temporary table of this session, which nobody else sees and which ends with it.

A partition that has no rows yet is copied right into its table. One that has rows goes through a temporary table too,
so that the same transaction can say what came, went and changed. Rows of a ``changes`` stream are merged by key.

**The lock** of a source is a session advisory lock: it ends with the connection, so with the process. (A pooler that
gives each transaction another connection cannot keep it; connect to the server itself, or to a pool of sessions.)

The names passed to :func:`fault_point` are the moments at which the tests kill the process.
"""

import os
import socket
from collections.abc import Mapping, Sequence

from attrs import field, frozen
from penstock import Layout, LedgerEntry, Partition, Secret, SinkError, TargetError

from penstock_plugins.postgres.database import Database, quoted
from penstock_plugins.postgres.ledger import Known, OutdatedLedgerError, PostgresLedger
from penstock_plugins.postgres.tables import Table, checked, exists, prepared
from penstock_plugins.postgres.writer import PostgresWriter

MEMORY_BYTES = 32 * 2**20
LOCK_WAIT_MS = 3000


@frozen(kw_only=True)
class PostgresSink:
    """``schema``: default the source's name; ``tables``: names of tables by stream, default the stream's name."""

    dsn: Secret
    schema: str | None = None
    tables: Mapping[str, str] = field(factory=dict)
    memory_bytes: int = MEMORY_BYTES
    lock_wait_ms: int = LOCK_WAIT_MS

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> "PostgresTarget":
        self._check_names(source, streams)
        database = Database(self.dsn, application=f"penstock {run_id} on {socket.gethostname()} ({os.getpid()})")
        try:
            with database.explained():
                database.lock(source, wait_ms=self.lock_wait_ms)
                ledger = PostgresLedger(database)
                database.run("select set_config('penstock.run_id', %s, false)", (run_id,))
            target = PostgresTarget(self, database, ledger, source)
            target.settle()
        except BaseException:
            database.close()
            raise
        return target

    def open_readonly(self, source: str) -> "PostgresTarget | None":
        database = Database(self.dsn, application="penstock (looking)", readonly=True)
        try:
            with database.explained():
                if database.one("select to_regclass('penstock.meta')") is None:
                    database.close()
                    return None
            return PostgresTarget(self, database, self._ledger(database), source)
        except BaseException:
            database.close()
            raise

    def _ledger(self, database: Database) -> PostgresLedger:
        """For a reader; a ledger of an older penstock is brought up to date by a session that may write."""
        try:
            return PostgresLedger(database, readonly=True)
        except OutdatedLedgerError:
            writing = Database(self.dsn, application="penstock (migrating)")
            try:
                with writing.explained():
                    PostgresLedger(writing)
            finally:
                writing.close()
            return PostgresLedger(database, readonly=True)

    def place(self, source: str, stream: str) -> Known:
        """Where a stream's rows are to be."""
        return Known(
            stream=stream, of_stream="", oid=0, schema=self.schema or source, table=self.tables.get(stream, stream)
        )

    def _check_names(self, source: str, streams: Sequence[str]) -> None:
        taken: dict[tuple[str, str], str] = {}
        for stream in dict.fromkeys([*streams, *self.tables]):
            place = self.place(source, stream)
            other = taken.setdefault((place.schema, place.table), stream)
            if other != stream:
                raise TargetError(
                    f"the streams {other} and {stream} would share the table {place.schema}.{place.table}. Give them "
                    "different names in the sink's table setting."
                )


class PostgresTarget:
    """A database opened for one source. Without a lock (from ``open_readonly``) it is for looking only."""

    def __init__(self, sink: PostgresSink, database: Database, ledger: PostgresLedger, source: str) -> None:
        self.ledger = ledger
        self.database = database
        self.source = source
        self._sink = sink
        self._tables: dict[str, tuple[Layout, Table]] = {}
        self._there: dict[str, bool] = {}
        self._writers: set[PostgresWriter] = set()
        self._stages = 0

    def settle(self) -> None:
        """
        Take back what the ledger says of tables that somebody dropped or emptied: it is missing, and read again.
        """
        with self.database.explained(), self.database.transaction():
            for known in self.ledger.known(self.source):
                if self._holds_rows(known):
                    continue
                lost = [
                    partition
                    for partition, entry in self.ledger.entries(self.source, known.of_stream).items()
                    if _rows_in(entry, known.stream)
                ]
                self.ledger.forget(self.source, lost)
                if not exists(self.database, known):
                    self.ledger.forget_table(self.source, known.stream)

    def check(self, layouts: Sequence[Layout]) -> None:
        """Raises TargetError where a table cannot take its stream; nothing is made or changed yet."""
        checked(self.database, self.ledger, layouts, [self._sink.place(self.source, one.stream) for one in layouts])

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> "PostgresWriter":
        first = layouts[0]
        if first.kind == "changes":
            unmergeable = [one.stream for one in layouts if not (one.key if one is first else one.derived_by)]
            if unmergeable:
                raise SinkError(f"{', '.join(unmergeable)} has no key to merge changes by: a defect of its connector")
        self.database.check()
        tables = [self._table(layout, first.stream) for layout in layouts]
        writer = PostgresWriter(self, tables, partition)
        self._writers.add(writer)
        return writer

    def is_intact(self, entry: LedgerEntry) -> bool:
        """Whether the tables that hold its rows are there and have any."""
        streams = [entry.partition.stream, *entry.derived_rows]
        with self.database.explained():
            if not self._there:
                self._there = {known.stream: self._holds_rows(known) for known in self.ledger.known(self.source)}
        return all(self._there.get(stream, False) for stream in streams if _rows_in(entry, stream))

    def finish(self, stream: str) -> None:
        """Nothing is left to do: every commit is complete."""

    def close(self) -> None:
        self.ledger.close()

    # --- for writers ------------------------------------------------------------------------------------------------

    def make_room(self) -> None:
        """Keep the bytes that wait within bounds: the partition that holds most goes to temporary tables."""
        while sum(writer.held for writer in self._writers) > self._sink.memory_bytes:
            max(self._writers, key=lambda writer: writer.held).spill()

    def stage_name(self) -> str:
        self._stages += 1
        return f"pg_temp.penstock_stage_{self._stages}"

    def ended(self, writer: "PostgresWriter") -> None:
        self._writers.discard(writer)

    def _table(self, layout: Layout, of_stream: str) -> Table:
        known = self._tables.get(layout.stream)
        if known is None or known[0] != layout:
            table = prepared(
                self.database, self.ledger, layout, of_stream, self._sink.place(self.source, layout.stream)
            )
            known = self._tables[layout.stream] = (layout, table)
            self._there.clear()
        return known[1]

    def _holds_rows(self, known: Known) -> bool:
        if not exists(self.database, known):
            return False
        name = self.database.one("select %s::bigint::oid::regclass::text", (known.oid,))
        if name.isdigit():  # restored from a dump: known by its name
            name = f"{quoted(known.schema)}.{quoted(known.table)}"
        return bool(self.database.one(f"select exists (select from {name.replace('%', '%%')})"))  # noqa: S608


def _rows_in(entry: LedgerEntry, stream: str) -> int:
    """How many rows of an entry are in a stream's table; none of a partition that was never delivered."""
    if not entry.delivered:
        return 0
    return entry.rows if stream == entry.partition.stream else entry.derived_rows.get(stream, 0)
