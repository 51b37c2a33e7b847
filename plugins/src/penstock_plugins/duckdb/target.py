"""
A DuckDB file opened for one source: the commits of partitions, comparison and erasure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any

from penstock import (
    BaseTarget,
    Difference,
    Erased,
    Erasure,
    Layout,
    LedgerEntry,
    Partition,
    fault_point,
)

from penstock_plugins.duckdb.database import Database
from penstock_plugins.duckdb.ledger import DuckLedger
from penstock_plugins.duckdb.tables import Tables
from penstock_plugins.duckdb.writer import DuckWriter
from penstock_plugins.sink_support.attempts import attempt
from penstock_plugins.sink_support.declared import check_divided
from penstock_plugins.sink_support.sql_tables import identifier
from penstock_plugins.sink_support.table_verification import (
    ComparedTable,
    Condition,
    all_lost,
    lost_notice,
    rows_in,
)

ERASED_AT_ONCE = 100_000  # rows


class DuckTarget(BaseTarget):
    """
    A file opened for one source. ``name``: in messages. ``scale``: see :class:`.tables.Tables`.

    It does not list its final days: only a day's whole row in the ledger names the tables of the rows that are derived
    from it.
    """

    ledger: DuckLedger

    def __init__(self, name: str, database: Database, ledger: DuckLedger, source: str, *, scale: int) -> None:
        self.name = name
        self.ledger = ledger
        self.database = database
        self.source = source
        self.tables = Tables(database, source, name, scale=scale)
        self.notices: list[str] = self.tables.notices
        self._temporary_tables = 0
        self._has_rows: dict[str, bool] = {}  # by stream, whether its table exists and has rows

    def temporary_table(self) -> str:
        """The name of a new temporary table."""
        self._temporary_tables += 1
        return f"temp.main.rows_{self._temporary_tables}"

    def recover(self) -> None:
        """
        Delete, with a notice, the ledger rows of tables that were dropped or emptied, so that their partitions are read
        again: those outside of a run's window, too, of which nothing else shows that they are lost once the table has
        rows of the window. Raises TargetError where a table was renamed.
        """
        for stream, of_stream in self.ledger.delivered_tables(self.source):
            if self._holds_rows(stream):
                continue
            self.tables.check_not_renamed(stream)
            entries = self.ledger.entries(self.source, of_stream)
            lost = [partition for partition, entry in entries.items() if rows_in(entry, stream)]
            if lost:
                what = "is gone" if self.tables.existing(stream) is None else "has no rows"
                self.notices.append(
                    lost_notice(f"the table {self.source}.{stream} {what}", f"{self.source}.{of_stream}", lost)
                )
                self.ledger.forget(self.source, lost)

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """See :meth:`.tables.Tables.prepare`."""
        check_divided(self.ledger, self.source, layouts)
        self.tables.prepare(layouts)

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> DuckWriter:
        self._has_rows.clear()
        return DuckWriter(self, layouts, partition)

    def commit_group(self, commits: Sequence[tuple[DuckWriter, LedgerEntry]]) -> Sequence[LedgerEntry | Exception]:
        """
        See :meth:`penstock.sinks.Target.commit_group`. One transaction; if it fails, each partition is committed alone.
        """
        results = [attempt(partial(writer.prepare, entry)) for writer, entry in commits]
        prepared = [
            (number, commits[number][0], result)
            for number, result in enumerate(results)
            if isinstance(result, LedgerEntry)
        ]
        error = attempt(partial(self._replace, [(writer, entry) for _, writer, entry in prepared]))
        if error is not None:
            for number, writer, entry in prepared:
                alone = error if len(prepared) == 1 else attempt(partial(self._replace, [(writer, entry)]))
                results[number] = alone or entry
        for writer, _ in commits:
            writer.abort()
        fault_point("duckdb.committed")
        return results

    def _replace(self, commits: Sequence[tuple[DuckWriter, LedgerEntry]]) -> None:
        with self.database.transaction():
            for writer, entry in commits:
                writer.replace(entry)

    def is_intact(self, entry: LedgerEntry) -> bool:
        """Whether the tables of its rows exist, and nobody emptied them. Rows are not counted: see :meth:`verify`."""
        streams = {entry.partition.stream: entry.rows, **entry.derived_rows}
        return all(self._holds_rows(stream) for stream, rows in streams.items() if rows)

    def _holds_rows(self, stream: str) -> bool:
        if stream not in self._has_rows:
            exists = self.tables.existing(stream) is not None
            self._has_rows[stream] = exists and (
                self._has_any_row(stream) or bool(self.ledger.fact(self._emptied(stream)))
            )
        return self._has_rows[stream]

    def _has_any_row(self, stream: str) -> bool:
        return bool(self.database.run(f"select 1 from {self.tables.sql(stream)} limit 1").rows)

    def _emptied(self, stream: str) -> str:
        """The fact that the commits of a stream derived from changes left no row."""
        return f"emptied {self.source}.{stream}"

    def note_emptied(self, stream: str) -> None:
        """Record, within a commit, whether it leaves a stream's table without rows, which then are not lost."""
        fact, value = self._emptied(stream), "" if self._has_any_row(stream) else "yes"
        if (self.ledger.fact(fact) or "") != value:
            self.ledger.set_fact(fact, value)

    def verify(
        self, stream: str, entries: Sequence[LedgerEntry], *, since: date | None = None, until: date | None = None
    ) -> Iterator[Difference]:
        """
        Rows and sums of each partition, computed by one query for each table; rows of other days are not read. The rows
        of a stream of changes have no partition: of it, only that there are rows at all.
        """
        for name in dict.fromkeys(name for entry in entries for name in (stream, *entry.derived_rows)):
            yield from self._differences(name, entries, since, until)

    def _differences(
        self, name: str, entries: Sequence[LedgerEntry], since: date | None, until: date | None
    ) -> Iterator[Difference]:
        """The partitions whose rows in a table differ from their entry, and those that are of no entry."""
        first = entries[0].partition
        columns, table = [column for column, _ in first.values], self.tables.existing(name)
        if table is None:
            yield from all_lost(entries, name, f"{name}: the table {self.source}.{name} is gone")
            return
        if table.is_merged or not table.types.keys() >= set(columns):
            if not self._holds_rows(name):
                yield from all_lost(entries, name, f"{name}: there is no row")
            return
        compared = ComparedTable(
            stream=name,
            name=f"{self.source}.{name}",
            day=identifier(columns[-1]) if first.day is not None and table.types[columns[-1]] == "DATE" else None,
            parameter="?",
            has_column=table.types.__contains__,
            read=partial(self._read, name),
            is_ours=table.mark == self.tables.mark(name),
        )
        yield from compared.differences(entries, since, until)

    def _read(self, name: str, columns: Sequence[str], measures: Sequence[str], condition: Condition) -> list[Any]:
        """See :class:`.ComparedTable`."""
        texts = [f"coalesce({identifier(column)}::varchar, '')" for column in columns]
        sums = [f"coalesce(sum({identifier(measure)}), 0)" for measure in measures]
        selected = ", ".join([*texts, "count(*)", *sums])
        statement = f"select {selected} from {self.tables.sql(name)} where {condition.sql} group by all"
        return self.database.run(statement, condition.values).rows

    def erase(self, erasures: Sequence[Erasure], entries: Sequence[LedgerEntry]) -> Erased:
        """See :class:`penstock.sinks.Erasing`: one transaction; the columns stay, and are null."""
        rows = 0
        with self.database.transaction():
            for erasure in erasures:
                rows += self._erase(erasure)
            fault_point("duckdb.written")
            for entry in entries:
                self.ledger.deliver(entry)
            fault_point("duckdb.recorded")
        self.database.run("checkpoint")  # else the former values stay in the log beside the file
        fault_point("duckdb.committed")
        return Erased(rows=rows)

    def _erase(self, erasure: Erasure) -> int:
        """Erase values in a table, some rows at a time; the number of rows that lost one."""
        table, existing = self.tables.sql(erasure.layout.stream), self.tables.existing(erasure.layout.stream)
        if existing is None:
            return 0
        gone = [name for name in erasure.columns if name in existing.types]
        nested = {name: clean for name, clean in erasure.nested.items() if name in existing.types}
        ((last,),) = self.database.run(f"select coalesce(max(rowid), -1) from {table}").rows
        return sum(
            self._erase_block(table, f"rowid between {first} and {first + ERASED_AT_ONCE - 1}", gone, nested)
            for first in range(0, last + 1, ERASED_AT_ONCE)
        )

    def _erase_block(
        self, table: str, block: str, gone: Sequence[str], nested: Mapping[str, Callable[[str], str | None]]
    ) -> int:
        lost: set[int] = set()
        for name, clean in nested.items():
            texts = self.database.run(f"select rowid, {identifier(name)} from {table} where {block}").rows
            cleaned = [(row_id, text, clean(text)) for row_id, text in texts if text is not None]
            changed = {row_id: new for row_id, text, new in cleaned if new != text}
            if changed:
                self.database.run(
                    f"update {table} as o set {identifier(name)} = n.text from (select unnest(cast(? as bigint[])) as "
                    "row_id, unnest(cast(? as varchar[])) as text) n where o.rowid = n.row_id",
                    [list(changed), list(changed.values())],
                )
            lost.update(changed)
        if gone:
            any_filled = f"{block} and ({' or '.join(f'{identifier(name)} is not null' for name in gone)})"
            lost.update(row_id for (row_id,) in self.database.run(f"select rowid from {table} where {any_filled}").rows)
            nulls = ", ".join(f"{identifier(name)} = null" for name in gone)
            self.database.run(f"update {table} set {nulls} where {any_filled}")
        return len(lost)

    def close(self) -> None:
        self.database.close()
