"""
A DuckDB file opened for one source: its tables, the commits of partitions, comparison and erasure.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any, TypeVar

from penstock import (
    BaseTarget,
    Column,
    ColumnType,
    Difference,
    Erased,
    Erasure,
    Layout,
    LedgerEntry,
    Partition,
    TargetError,
    fault_point,
)

from penstock_plugins.duckdb.database import Database
from penstock_plugins.duckdb.ledger import DuckLedger
from penstock_plugins.duckdb.writer import DuckWriter
from penstock_plugins.sink_support.sink_settings import PRECISION, scale_of
from penstock_plugins.sink_support.sql_tables import MARK, added_notice, identifier, literal
from penstock_plugins.sink_support.table_verification import (
    ComparedTable,
    Condition,
    all_lost,
    lost_notice,
    rows_in,
)

A = TypeVar("A")
R = TypeVar("R")

ERASED_AT_ONCE = 100_000  # rows

_MERGED = " (merged by key)"
SQL_TYPES: dict[ColumnType, str] = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "json": "JSON",
}


class DuckTarget(BaseTarget):
    """
    A file opened for one source. ``name``: in messages. ``scale``: digits after the point of columns that declare none.

    It does not list its final days: only a day's whole row in the ledger names the tables of the rows that are derived
    from it.
    """

    ledger: DuckLedger

    def __init__(self, name: str, database: Database, ledger: DuckLedger, source: str, *, scale: int) -> None:
        self.name = name
        self.ledger = ledger
        self.database = database
        self.source = source
        self.scale = scale
        self.notices: list[str] = []
        self._temporary_tables = 0
        self._made: set[str] = set()
        self._has_rows: dict[str, bool] = {}  # by stream, whether its table exists and has rows

    def table(self, stream: str) -> str:
        return f"{self.database.catalog}.{identifier(self.source)}.{identifier(stream)}"

    def temporary_table(self) -> str:
        """The name of a new temporary table."""
        self._temporary_tables += 1
        return f"temp.main.rows_{self._temporary_tables}"

    def type_of(self, column: Column) -> str:
        if column.type == "decimal":
            return f"DECIMAL({PRECISION},{scale_of(column, self.scale)})"
        if column.type == "datetime":
            return "TIMESTAMP WITH TIME ZONE" if column.zone == "aware" else "TIMESTAMP"
        return SQL_TYPES[column.type]

    def _comment(self, stream: str) -> str | None:
        """The comment of a stream's table; None if there is no table. DuckDB ignores the case of names."""
        rows = self.database.run(
            "select comment from duckdb_tables() where database_name = current_database() "
            "and lower(schema_name) = lower(?) and lower(table_name) = lower(?)",
            [self.source, stream],
        ).rows
        return (rows[0][0] or "") if rows else None

    def _types(self, stream: str) -> dict[str, str]:
        """The columns of a stream's table, with their types."""
        rows = self.database.run(
            "select column_name, data_type from duckdb_columns() where database_name = current_database() "
            "and lower(schema_name) = lower(?) and lower(table_name) = lower(?)",
            [self.source, stream],
        ).rows
        return dict(rows)

    def recover(self) -> None:
        """
        Delete, with a notice, the ledger rows of tables that were dropped or emptied, so that their partitions are read
        again: those outside of a run's window, too, of which nothing else shows that they are lost once the table has
        rows of the window. Raises TargetError where a table was renamed.
        """
        for stream, of_stream in self.ledger.delivered_tables(self.source):
            if self._holds_rows(stream):
                continue
            self._check_not_renamed(stream)
            entries = self.ledger.entries(self.source, of_stream)
            lost = [partition for partition, entry in entries.items() if rows_in(entry, stream)]
            if lost:
                what = "is gone" if self._comment(stream) is None else "has no rows"
                self.notices.append(
                    lost_notice(f"the table {self.source}.{stream} {what}", f"{self.source}.{of_stream}", lost)
                )
                self.ledger.forget(self.source, lost)

    def _check_not_renamed(self, stream: str) -> None:
        """Raises TargetError if there is no table of a stream, and another one has its mark."""
        mark = self._mark(stream)
        there = self.database.run(
            "select schema_name, table_name from duckdb_tables() where database_name = current_database() "
            "and comment in (?, ?) limit 1",
            [mark, mark + _MERGED],
        ).rows
        if there and self._comment(stream) is None:
            ((schema, table),) = there
            place = f"{identifier(schema)}.{identifier(table)}"
            raise TargetError(
                f"{self.name}: the rows of {self.source}.{stream} are in the table {schema}.{table}: somebody renamed "
                f"it. Rename it back: alter table {place} rename to {identifier(stream)}. Or run: comment on table {place} "
                "is null; then the next run makes and fills the table anew. Nothing was changed."
            )

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """Add the columns that are missing in existing tables. Raises TargetError for a table of something else."""
        with self.database.transaction():
            for layout in layouts:
                comment = self._comment(layout.stream)
                if comment is not None:
                    self._check(layout, comment)

    def make(self, layout: Layout) -> None:
        """Make the table of a stream, or check the one that is there; once a run."""
        if layout.stream in self._made:
            return
        with self.database.transaction():
            comment = self._comment(layout.stream)
            if comment is not None:
                self._check(layout, comment)
            else:
                table = self.table(layout.stream)
                merged = _MERGED if layout.kind == "changes" else ""
                columns = ", ".join(f"{identifier(column.name)} {self.type_of(column)}" for column in layout.columns)
                self.database.run(f"create schema if not exists {self.database.catalog}.{identifier(self.source)}")
                self.database.run(f"create table {table} ({columns})")
                self.database.run(f"comment on table {table} is {literal(self._mark(layout.stream) + merged)}")
                for column in layout.columns:
                    self._describe(table, column)
        self._made.add(layout.stream)

    def _mark(self, stream: str) -> str:
        return f"{MARK}{self.source}.{stream}"

    def _check(self, layout: Layout, comment: str) -> None:
        if comment.removesuffix(_MERGED) != self._mark(layout.stream):
            raise TargetError(
                f"{self.name}: the table {self.source}.{layout.stream} was not made by penstock. Rename it, or name "
                "another target; it was not touched."
            )
        table, types = self.table(layout.stream), self._types(layout.stream)
        was_merged, lacking = comment.endswith(_MERGED), set(layout.replaced_by) - types.keys()
        if lacking or was_merged != (layout.kind == "changes"):
            merged = "is merged by key" if was_merged else "is not merged by key"
            fact = f"has no column {', '.join(sorted(lacking))}" if lacking else merged
            raise TargetError(
                f"{self.name}: {self.source}.{layout.stream} was declared otherwise when its table was made: the table "
                f"{fact}, so that new rows would stand beside those that they replace. Rename the table, remove its "
                "comment, and run again: then it is made and filled anew. Nothing was changed."
            )
        self._check_collations(layout)
        added = [column.name for column in layout.columns if column.name not in types]
        if added:
            self.notices.append(added_notice(f"{self.source}.{layout.stream}", added))
        for column in layout.columns:
            type_ = self.type_of(column)
            if column.name in added:
                self.database.run(f"alter table {table} add column {identifier(column.name)} {type_}")
                self._describe(table, column)
            elif types[column.name] != type_:
                raise TargetError(
                    f"{self.name}: the column {column.name} of {self.source}.{layout.stream} is {types[column.name]}, "
                    f"and the stream declares {type_}. Run: alter table {identifier(self.source)}.{identifier(layout.stream)} "
                    f"alter {identifier(column.name)} type {type_}; or name another target."
                )

    def _check_collations(self, layout: Layout) -> None:
        """
        Raises TargetError for a text column with a collation, by which two accounts or keys may be equal that differ.
        """
        ((sql,),) = self.database.run(
            "select sql from duckdb_tables() where database_name = current_database() "
            "and lower(schema_name) = lower(?) and lower(table_name) = lower(?)",
            [self.source, layout.stream],
        ).rows
        for column in layout.columns:
            if re.search(rf'[(,] ?"?{re.escape(column.name)}"? VARCHAR COLLATE ', sql):
                raise TargetError(
                    f"{self.name}: the column {column.name} of {self.source}.{layout.stream} has a collation, by which "
                    "rows of another account or key may count as the same. Run: alter table "
                    f"{identifier(self.source)}.{identifier(layout.stream)} alter {identifier(column.name)} type VARCHAR; or name "
                    "another target. Nothing was changed."
                )

    def _describe(self, table: str, column: Column) -> None:
        text = f"{column.description} ({column.unit})" if column.unit else column.description
        if text.strip():
            self.database.run(f"comment on column {table}.{identifier(column.name)} is {literal(text.strip())}")

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> DuckWriter:
        self._has_rows.clear()
        return DuckWriter(self, layouts, partition)

    def commit_group(self, commits: Sequence[tuple[DuckWriter, LedgerEntry]]) -> Sequence[LedgerEntry | Exception]:
        """
        See :meth:`penstock.sinks.Target.commit_group`. One transaction; if it fails, each partition is committed alone.
        """
        results = [_result_or_error(writer.prepare, entry) for writer, entry in commits]
        prepared = [
            (number, commits[number][0], result)
            for number, result in enumerate(results)
            if isinstance(result, LedgerEntry)
        ]
        error = _result_or_error(self._replace, [(writer, entry) for _, writer, entry in prepared])
        if error is not None:
            for number, writer, entry in prepared:
                alone = error if len(prepared) == 1 else _result_or_error(self._replace, [(writer, entry)])
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
            exists = self._comment(stream) is not None
            self._has_rows[stream] = exists and (
                self._has_any_row(stream) or bool(self.ledger.fact(self._emptied(stream)))
            )
        return self._has_rows[stream]

    def _has_any_row(self, stream: str) -> bool:
        return bool(self.database.run(f"select 1 from {self.table(stream)} limit 1").rows)

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
        columns, types, comment = [column for column, _ in first.values], self._types(name), self._comment(name)
        if comment is None:
            yield from all_lost(entries, name, f"{name}: the table {self.source}.{name} is gone")
            return
        if comment.endswith(_MERGED) or not types.keys() >= set(columns):
            if not self._holds_rows(name):
                yield from all_lost(entries, name, f"{name}: there is no row")
            return
        compared = ComparedTable(
            stream=name,
            place=f"{self.source}.{name}",
            day=identifier(columns[-1]) if first.day is not None and types[columns[-1]] == "DATE" else None,
            parameter="?",
            has_column=types.__contains__,
            read=partial(self._read, name),
            is_ours=comment == self._mark(name),
        )
        yield from compared.differences(entries, since, until)

    def _read(self, name: str, columns: Sequence[str], measures: Sequence[str], condition: Condition) -> list[Any]:
        """See :class:`.ComparedTable`."""
        texts = [f"coalesce({identifier(column)}::varchar, '')" for column in columns]
        sums = [f"coalesce(sum({identifier(measure)}), 0)" for measure in measures]
        selected = ", ".join([*texts, "count(*)", *sums])
        statement = f"select {selected} from {self.table(name)} where {condition.sql} group by all"
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
        table, types = self.table(erasure.layout.stream), self._types(erasure.layout.stream)
        if not types:
            return 0
        gone = [name for name in erasure.columns if name in types]
        nested = {name: clean for name, clean in erasure.nested.items() if name in types}
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


def _result_or_error(call: Callable[[A], R], value: A) -> R | Exception:
    """The result of a call, or its error."""
    try:
        return call(value)
    except Exception as error:
        return error
