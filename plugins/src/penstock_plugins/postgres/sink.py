"""
A schema of a Postgres database per source, a table per stream, and the ledger in the schema ``penstock`` beside them.

**A commit** is one short transaction that changes the partition's rows and the ledger's row. No transaction is open
while pages are fetched: rows are held as bytes, up to :data:`MEMORY_BYTES` over all partitions, and beyond that in a
temporary table per partition.

The rows of a small partition (:class:`.rows.SmallRows`) are a parameter of its statement; small partitions that are
ready at the same time share a transaction. A large one is copied: directly into its table if it had no rows there, else
into a temporary table that the run makes once per stream. A partition with rows is changed by its differences
(:mod:`.replacement`). Rows of a ``changes`` stream are merged by key.

The way of a commit: :mod:`.target` (together or alone), :mod:`.writer` (a transaction, and another one if it fails),
:mod:`.delivery` (what it writes), and :mod:`.replacement`, :mod:`.merge` and :mod:`.ledger` (the statements).

**The lock** of a source is a session advisory lock: it ends with the connection, and so with the process. Every commit
checks, in its own transaction, that its session holds the lock. A lost session is opened again.

The names passed to :func:`fault_point` are the moments at which the tests kill the process.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import ClassVar

from attrs import field, frozen
from penstock import Adoption, BaseSink, Layout, LockShare, Secret, TargetError
from penstock.ledger import Retention

from penstock_plugins.postgres.adopt import adopt
from penstock_plugins.postgres.connection import database_of
from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.ledger import SCHEMA, OutdatedLedgerError, PostgresLedger, division_of
from penstock_plugins.postgres.locks import application_name
from penstock_plugins.postgres.rows import Nul
from penstock_plugins.postgres.table_locations import TableLocation
from penstock_plugins.postgres.tables import Tables
from penstock_plugins.postgres.target import PostgresTarget
from penstock_plugins.sink_support.attempts import closed_on_error

MEMORY_BYTES = 32 * 2**20
LOCK_WAIT_MS = 3000
SHARE_WAIT_FACTOR = 10  # a lock share is waited for longer: the first of its division recovers what a crash left


@frozen(kw_only=True)
class PostgresSink(BaseSink):
    """
    ``schema`` and the names in ``tables`` (by stream, ``*`` for all others, which have ``{stream}`` else) may hold
    ``{source}``, ``{connector}`` and ``{stream}``. Where neither has ``{source}``, the sources that are written there
    share the table.
    """

    dsn: Secret
    schema: str = "{source}"
    tables: Mapping[str, str] = field(factory=dict)
    ledger_schema: str = SCHEMA
    grant_to: tuple[str, ...] = ()
    day_index: bool = True
    nul: Nul = "reject"
    retention: Retention = field(factory=Retention)
    memory_bytes: int = MEMORY_BYTES
    lock_wait_ms: int = LOCK_WAIT_MS
    monotonic: Callable[[], float] = time.monotonic  # for tests of what is tried again after a while
    one_machine: ClassVar[bool] = False

    @property
    def address(self) -> str | None:
        """The ledger's location: database and schema, without user and password. None for a DSN that cannot be read."""
        database = database_of(self.dsn)
        return None if database is None else f"{database}, schema {self.ledger_schema}"

    def open(
        self, source: str, run_id: str, streams: Sequence[str] = (), *, lock_share: LockShare | None = None
    ) -> "PostgresTarget":
        self._check_names(source, streams)
        database, ledger = self._connect(source, run_id, lock_share)
        with closed_on_error(database):
            target = PostgresTarget(self, database, ledger, source)
            if lock_share is not None:
                ledger.check_division(source, lock_share.division, first=database.lock.first)
            if database.lock.first:
                target.recover()
                database.lock.share()
        return target

    def _connect(self, source: str, run_id: str, lock_share: LockShare | None) -> tuple[Database, PostgresLedger]:
        """A session that holds the lock of the source, and its ledger."""
        database = Database(self.dsn, application=application_name(run_id), monotonic=self.monotonic)
        with closed_on_error(database):
            with database.explained():
                database.check_writable()
                wait_ms = self.lock_wait_ms
                if lock_share is not None and division_of(database, self.ledger_schema, source) == lock_share.division:
                    wait_ms *= SHARE_WAIT_FACTOR
                database.lock.take(source, wait_ms=wait_ms, lock_share=lock_share)
                database.set("penstock.run_id", run_id)
                database.set("penstock.source", source)
            ledger = PostgresLedger(
                database,
                schema=self.ledger_schema,
                grant_to=self.grant_to,
                guard=lambda: database.lock.owned_sql(source),
                retention=self.retention,
            )
        return database, ledger

    def adopt(
        self, source: str, run_id: str, streams: Sequence[Sequence[Layout]], place: str, *, confirmed: bool
    ) -> Adoption:
        """See :class:`penstock.sinks.Adopting`. What the ledger counts in tables that are lost is kept meanwhile."""
        database, ledger = self._connect(source, run_id, None)
        try:
            tables = self._tables(database, ledger, source, streams)
            return adopt(tables, list(chain(*streams)), place, confirmed=confirmed)
        finally:
            database.close()

    def unrecognised(self, source: str, streams: Sequence[Sequence[Layout]]) -> list[str]:
        """See :class:`penstock.sinks.Adopting`."""
        database = Database(self.dsn, application="penstock (looking)", readonly=True)
        try:
            with database.explained():
                ledger = self._ledger(database)
                if ledger is None:
                    return []
                return self._tables(database, ledger, source, streams).unrecognised(list(chain(*streams)))
        finally:
            database.close()

    def _tables(
        self, database: Database, ledger: PostgresLedger, source: str, streams: Sequence[Sequence[Layout]]
    ) -> Tables:
        """``streams``: the layouts of each stream, its own first, and those of the streams derived from it."""
        of_stream = {layout.stream: layouts[0].stream for layouts in streams for layout in layouts}

        def location_of(layout: Layout) -> TableLocation:
            return self.location(source, layout.stream, layout.connector, of_stream[layout.stream])

        return Tables(database, ledger, source, location_of)

    def open_readonly(self, source: str) -> "PostgresTarget | None":
        database = Database(self.dsn, application="penstock (looking)", readonly=True)
        with closed_on_error(database):
            with database.explained():
                ledger = self._ledger(database)
            if ledger is not None:
                return PostgresTarget(self, database, ledger, source)
        database.close()
        return None

    def _ledger(self, database: Database) -> PostgresLedger | None:
        """The ledger for a reader. A ledger of an older penstock is migrated by a session that may write."""
        try:
            ledger = PostgresLedger(database, readonly=True, schema=self.ledger_schema)
        # Development versions (decision 72).
        except OutdatedLedgerError:
            writing = Database(self.dsn, application="penstock (migrating)")
            try:
                PostgresLedger(writing, schema=self.ledger_schema)
            finally:
                writing.close()
            ledger = PostgresLedger(database, readonly=True, schema=self.ledger_schema)
        return ledger if ledger.exists() else None

    def location(self, source: str, stream: str, connector: str = "", of_stream: str = "") -> TableLocation:
        """The location of a stream's table, by the settings."""
        table = self.tables.get(stream, self.tables.get("*", "{stream}"))
        words = {"source": source, "connector": connector, "stream": stream}
        return TableLocation(
            schema=_filled(self.schema, words),
            table=_filled(table, words),
            of_stream=of_stream or stream,
            shared="{source}" not in self.schema + table,
            day_index=self.day_index,
            grant_to=self.grant_to,
        )

    def _check_names(self, source: str, streams: Sequence[str]) -> None:
        taken: dict[tuple[str, str], str] = {}
        for stream in dict.fromkeys([*streams, *(name for name in self.tables if name != "*")]):
            location = self.location(source, stream)
            other = taken.setdefault((location.schema, location.table), stream)
            if other != stream:
                raise TargetError(
                    f"the streams {other} and {stream} would share the table {location.schema}.{location.table}. Give "
                    "them different names in the sink's table setting."
                )


def _filled(template: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        template = template.replace(f"{{{word}}}", value)
    return template
