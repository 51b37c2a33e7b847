"""
Comparison of a stream's table with the ledger: rows and sums of each partition, computed by the database.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial

from attrs import frozen
from penstock import Difference, LedgerEntry

from penstock_plugins.postgres.catalog import CatalogTable, locate
from penstock_plugins.postgres.column_types import NAIVE
from penstock_plugins.postgres.database import Database, Row
from penstock_plugins.postgres.sql_text import quoted, short
from penstock_plugins.postgres.table_locations import LedgerTable, source_condition
from penstock_plugins.sink_support.table_verification import ComparedTable, Condition, all_lost


@frozen
class Verification:
    """
    Compares the table of a stream with the ledger. ``merged``: the rows that the commits of a stream merged by key left
    in the table; with other rows there, all of its partitions differ. ``since``, ``until``: the entries are those of
    these days, both included; rows of other days are not read. None: from the first, to the last.
    """

    database: Database
    recorded: LedgerTable
    merged: int | None = None
    since: date | None = None
    until: date | None = None

    def differences(self, entries: Sequence[LedgerEntry]) -> Iterator[Difference]:
        """The partitions whose rows or sums differ, and those with rows in the table that are of no entry."""
        stream, name = self.recorded.stream, self.recorded.name
        (table,) = locate(self.database, [self.recorded])
        if table is None:
            yield from all_lost(entries, stream, f"the table {name} is gone")
            return
        table.check_readable(self.database.label)
        if not entries:
            return
        columns = tuple(column for column, _ in entries[0].partition.values)
        if not all(short(column) in table.types for column in columns) or _is_merged(table, columns):
            yield from self._merged_differences(table, entries)
            return
        has_days = entries[0].partition.day is not None and table.types[short(columns[-1])] in ("date", NAIVE)
        compared = ComparedTable(
            stream=stream,
            name=name,
            day=quoted(columns[-1]) if has_days else None,
            parameter="%s",
            has_column=lambda column: short(column) in table.types,
            read=partial(self._read, table),
        )
        yield from compared.differences(entries, self.since, self.until)

    def _read(
        self, table: CatalogTable, columns: Sequence[str], measures: Sequence[str], condition: Condition
    ) -> list[Row]:
        """See :class:`.ComparedTable`."""
        # A date is written as the ledger has it whatever the session's DateStyle is, and where its column was widened.
        days = {name: "::date" if table.types[short(name)] == NAIVE else "" for name in columns}
        texts = [f"coalesce(to_jsonb({quoted(name)}{day}) #>> '{{}}', '')" for name, day in days.items()]
        sums = [f"coalesce(sum({quoted(name)}), 0)" for name in measures]
        where, values = source_condition(self.recorded.source, shared=table.shared)
        group = f"group by {', '.join(quoted(name) for name in columns)}" if columns else ""
        selected = ", ".join([*texts, "count(*)", *sums])
        statement = f"select {selected} from {table.sql} where {where} and {condition.sql} {group}"
        return self.database.run(statement, [*values, *condition.values]).fetchall()

    def _merged_differences(self, table: CatalogTable, entries: Sequence[LedgerEntry]) -> Iterator[Difference]:
        stream, name = self.recorded.stream, self.recorded.name
        where, values = source_condition(self.recorded.source, shared=table.shared)
        rows = self.database.value(f"select count(*) from {table.sql} where {where}", values)
        if self.merged is not None and rows != self.merged:
            what = f"{stream}: {rows} rows in {name}, {self.merged} were left there by its commits"
        elif not rows and self.merged is None:
            what = f"{stream}: no row in {name}"
        else:
            return
        yield from all_lost(entries, stream, what)


def _is_merged(table: CatalogTable, columns: Sequence[str]) -> bool:
    """
    Whether rows are merged by a key without the partition's columns: a row that was read again may then be of another
    day, which its value of that column states.
    """
    return bool(table.keys) and not any({short(name) for name in columns} <= set(names) for names in table.keys)
