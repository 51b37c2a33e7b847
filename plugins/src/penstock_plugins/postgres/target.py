"""
A database opened for one source: its tables are prepared, written, compared and erased.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from penstock import (
    BaseTarget,
    Difference,
    Erased,
    Erasure,
    FinalDay,
    Layout,
    LedgerEntry,
    Partition,
    PenstockError,
    SinkError,
    TargetError,
    fault_point,
)
from penstock.ledger import DeliveredEntries

from penstock_plugins.postgres.catalog import CatalogTable, locate, look_up
from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.erase import TableErasure
from penstock_plugins.postgres.ledger import PostgresLedger
from penstock_plugins.postgres.locks import LockedTables, lock_holders, short_wait
from penstock_plugins.postgres.new_rows import TemporaryTables
from penstock_plugins.postgres.server_errors import LockedTableError, LostSessionError, NotStoredError
from penstock_plugins.postgres.table_creation import day_index_advice
from penstock_plugins.postgres.table_locations import LedgerTable, TableLocation, source_condition
from penstock_plugins.postgres.tables import Tables
from penstock_plugins.postgres.verify import Verification
from penstock_plugins.postgres.writer import PostgresWriter
from penstock_plugins.sink_support.attempts import attempt
from penstock_plugins.sink_support.declared import check_divided
from penstock_plugins.sink_support.table_verification import lost_notice, rows_in

if TYPE_CHECKING:
    from penstock_plugins.postgres.sink import PostgresSink

VERIFY_TRIES, VERIFY_PAUSE_S = 3, 1.0

WriterAndEntry = tuple[PostgresWriter, LedgerEntry]


class PostgresTarget(BaseTarget):
    """A database opened for one source. Without a lock (from ``open_readonly``) it is read-only."""

    ledger: PostgresLedger

    def __init__(self, sink: "PostgresSink", database: Database, ledger: PostgresLedger, source: str) -> None:
        self.ledger = ledger
        self.database = database
        self.source = source
        self.nul = sink.nul
        self._sink = sink
        self._of_stream: dict[str, str] = {}  # derived stream -> the stream whose partitions contain its rows
        self.tables = Tables(database, ledger, source, self._location)
        self.locked_tables = LockedTables(database)
        self.notices: list[str] = self.tables.notices
        self._has_rows: dict[str, bool] = {}
        self._writers: set[PostgresWriter] = set()
        self.temporary_tables = TemporaryTables(database)

    def _location(self, layout: Layout) -> TableLocation:
        of_stream = self._of_stream.get(layout.stream, layout.stream)
        return self._sink.location(self.source, layout.stream, layout.connector, of_stream)

    def recover(self) -> None:
        """
        Delete, with a notice, the ledger rows of tables that were dropped or emptied, and those of partitions that
        differ in a table that was restored, so that they are read again. For an existing table that is not recognised,
        or that this user may not read, they are kept: :meth:`prepare` refuses it.
        """
        is_readable = True
        with self.database.explained():
            for recorded, table in self._located_tables():
                if table is not None and not table.is_recognised(recorded):
                    self._has_rows[recorded.stream] = True
                    continue
                if table is not None and not table.readable:
                    is_readable = False
                    continue
                has_rows = self._has_rows[recorded.stream] = table is not None and self._holds_rows(recorded, table)
                if not has_rows:
                    self._forget_rows(recorded, is_gone=table is None)
                if table is not None and table.oid not in (None, recorded.oid):  # restored from a dump
                    self._forget_differing(recorded)
                    self.ledger.record_table(recorded._replace(oid=table.oid))
        if not is_readable:
            self._has_rows.clear()  # :meth:`is_intact` raises the error

    def _forget_rows(self, recorded: LedgerTable, *, is_gone: bool) -> None:
        """Delete the ledger rows of a table that is gone or has no rows."""
        lost = [
            partition
            for partition, entry in self.ledger.entries(self.source, recorded.of_stream).items()
            if rows_in(entry, recorded.stream)
        ]
        if lost:
            what = f"the table {recorded.name} {'is gone' if is_gone else f'has no rows of {self.source}'}"
            self.notices.append(lost_notice(what, f"{self.source}.{recorded.of_stream}", lost))
        with self.database.transaction():
            self.ledger.forget(self.source, lost)
            if is_gone:
                self.ledger.forget_table(self.source, recorded.stream)
            else:
                self.ledger.set_merged_rows(self.source, recorded.stream, None)

    def _forget_differing(self, recorded: LedgerTable) -> None:
        """
        Delete the ledger rows of partitions that differ in a table that was restored: its dump may be older than the
        ledger.
        """
        entries = DeliveredEntries(self.ledger, self.source, recorded.of_stream)
        try:
            differing = self._verified(recorded, entries, None, None)
        except SinkError as error:
            self.notices.append(f"{recorded.name} was restored or made anew. Run penstock verify: {error}")
            return
        if lost := [difference.partition for difference in differing if not difference.uncounted]:
            what = f"the table {recorded.name} was restored or made anew, and has other rows than the ledger"
            self.notices.append(lost_notice(what, f"{self.source}.{recorded.of_stream}", lost))
            self.ledger.forget(self.source, lost)

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """
        Raises TargetError if a table cannot hold its stream. Missing columns are added to existing tables; no table is
        made yet.
        """
        check_divided(self.ledger, self.source, layouts)
        self.tables.prepare(layouts)

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> "PostgresWriter":
        first = layouts[0]
        self.database.check()
        for layout in layouts:
            self._of_stream[layout.stream] = first.stream
        tables = [self.tables.table(layout) for layout in layouts]
        self.locked_tables.check([table.sql for table in tables])
        self._has_rows.clear()
        writer = PostgresWriter(self, tables, partition)
        self._writers.add(writer)
        return writer

    def commit_group(self, commits: Sequence[WriterAndEntry]) -> list[LedgerEntry | Exception]:
        """
        See :meth:`penstock.sinks.Target.commit_group`. Neighbours that are small are one transaction; if it fails, each
        of them is committed alone.
        """
        results: list[LedgerEntry | Exception] = []
        for is_small, neighbours in groupby(commits, key=lambda commit: commit[0].is_small):
            group = list(neighbours)
            results += self._commit_together(group) if is_small and len(group) > 1 else map(_commit_alone, group)
        return results

    def _commit_together(self, commits: Sequence[WriterAndEntry]) -> Sequence[LedgerEntry | Exception]:
        """Commit in one transaction; if it fails, commit each partition alone, unless the run is to end."""
        tables = [table for writer, _ in commits for table in writer.tables]
        try:
            with self.database.explained(), self.database.transaction():
                written = [writer.write_in_group(entry) for writer, entry in commits]
                self.tables.check_unchanged(tables)
        except (PenstockError, NotStoredError) as failure:
            if failure is self.database.reason:
                for writer, _ in commits:
                    writer.abort()
                return [failure] * len(commits)
            if isinstance(failure, LockedTableError):
                self.locked_tables.add([table.sql for table in tables])
            session_lost = isinstance(failure, LostSessionError)
            return [_commit_alone(commit, session_lost=session_lost) for commit in commits]
        for writer, _ in commits:
            writer.abort()  # discards its rows
        self.ledger.remember(written[-1])
        fault_point("postgres.committed")
        return written

    def is_intact(self, entry: LedgerEntry) -> bool:
        """Whether the tables with its rows exist and are not empty."""
        streams = [entry.partition.stream, *entry.derived_rows]
        self._locate()
        return all(self._has_rows.get(stream, False) for stream in streams if rows_in(entry, stream))

    def _locate(self) -> None:
        """Find out, once, which of the source's tables exist and are not empty."""
        with self.database.explained():
            for recorded, table in self._located_tables() if not self._has_rows else ():
                is_ours = table is not None and table.is_recognised(recorded)
                if table is not None and is_ours:
                    table.check_readable(self.database.label)
                self._has_rows[recorded.stream] = table is not None and (
                    not is_ours or self._holds_rows(recorded, table)
                )

    def _located_tables(self) -> Iterator[tuple[LedgerTable, CatalogTable | None]]:
        """The recorded tables, each with the existing one."""
        recorded = self.ledger.tables(self.source)
        return zip(recorded, locate(self.database, recorded), strict=True)

    def final_days(
        self, stream: str, *, since: date, until: date, accounts: Sequence[str] | None
    ) -> Iterator[FinalDay]:
        """
        See :meth:`penstock.sinks.Target.final_days`. Yields nothing if a table of it is missing, empty or not ours.
        """
        self._locate()
        with self.database.explained():
            tables = [recorded.stream for recorded in self.ledger.tables(self.source) if recorded.of_stream == stream]
            if tables and all(self._has_rows.get(table, False) for table in tables):
                days = self.ledger.final_days(self.source, stream, since=since, until=until, accounts=accounts)
                for day, _, _ in days:
                    yield day

    def verify(
        self, stream: str, entries: Sequence[LedgerEntry], *, since: date | None = None, until: date | None = None
    ) -> Iterator[Difference]:
        """
        Rows and sums of each partition, counted by the database; rows of other days are not read. In a stream that
        is merged by key, whose rows have no partition, all rows of the source are counted. A table that another session
        keeps locked is tried a few times, for a moment.
        """
        for recorded in self.ledger.tables(self.source):
            if recorded.of_stream == stream:
                yield from self._verified(recorded, entries, since, until)

    def _verified(
        self, recorded: LedgerTable, entries: Sequence[LedgerEntry], since: date | None, until: date | None
    ) -> list[Difference]:
        for _ in range(VERIFY_TRIES):
            with suppress(LockedTableError), short_wait(self.database):
                merged = self.ledger.merged_rows(self.source, recorded.stream)
                verification = Verification(self.database, recorded, merged, since, until)
                return list(verification.differences(entries))
            self.database.pause(VERIFY_PAUSE_S)
        raise SinkError(
            f"{recorded.name} was not compared: other sessions hold it ({lock_holders(self.database, recorded.sql)}). "
            "Nothing was changed. End these sessions, or wait for them, and verify again."
        )

    def erase(self, erasures: Sequence[Erasure], entries: Sequence[LedgerEntry]) -> Erased:
        """See :class:`penstock.sinks.Erasing`: one transaction for the rows and the ledger."""
        rows = 0
        with self.database.explained(), self.database.transaction():
            self.database.make_durable()
            recorded = {table.stream: table for table in self.ledger.tables(self.source)}
            for erasure in erasures:
                table = recorded.get(erasure.layout.stream)
                existing = locate(self.database, [table])[0] if table is not None else None
                if table is None or existing is None:
                    continue
                if not existing.is_recognised(table):
                    raise TargetError(
                        f"{self.database.label}: the table {table.name} is not recognised as that of {self.source}."
                        f"{table.stream}. Adopt it first: penstock check {self.source} --adopt {table.name}. Nothing "
                        "of the stream was erased."
                    )
                rows += TableErasure(self.database, self.source, existing, erasure).run()
            fault_point("postgres.erased")
            for entry in entries:
                self.ledger.deliver(entry)
        fault_point("postgres.committed")
        return Erased(rows=rows)

    def advice(self) -> list[str]:
        """The indexes that tables of an earlier version lack, each once."""
        texts: dict[str, None] = {}
        with self.database.explained():
            for recorded, day in self.ledger.day_columns() if self._sink.day_index else ():
                (catalog,) = look_up(self.database, [recorded])
                if catalog.oid is not None and (text := day_index_advice(self.database, recorded, day, catalog)):
                    texts[text] = None
        return list(texts)

    def interrupt(self, reason: PenstockError) -> None:
        """Cancel a waiting statement, to end the run. Called from another thread, until the run has ended."""
        self.database.interrupt(reason)

    def close(self) -> None:
        self.ledger.close()

    # --- for writers ------------------------------------------------------------------------------------------------

    def make_room(self) -> None:
        """Bound the held bytes: the partition with most of them is moved to temporary tables."""
        while sum(writer.held_bytes for writer in self._writers) > self._sink.memory_bytes:
            max(self._writers, key=lambda writer: writer.held_bytes).spill()

    def drop_writer(self, writer: "PostgresWriter") -> None:
        self._writers.discard(writer)

    def _holds_rows(self, recorded: LedgerTable, table: CatalogTable) -> bool:
        """
        Whether a table has rows of the source, or was left without any by its commits, as that of a stream derived from
        changes may be. One that another session has locked counts as one with rows.
        """
        where, values = source_condition(self.source, shared=table.shared)
        try:
            with short_wait(self.database):
                has_rows = self.database.value(f"select exists (select from {table.sql} where {where})", values)
                return bool(has_rows) or self.ledger.merged_rows(self.source, recorded.stream) == 0
        except LockedTableError:
            return True


def _commit_alone(commit: WriterAndEntry, *, session_lost: bool = False) -> LedgerEntry | Exception:
    """``session_lost``: the session was lost while a group committed it."""
    writer, entry = commit
    return attempt(partial(writer.commit, entry, session_lost=session_lost))
