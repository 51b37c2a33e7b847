"""
Comparison of a stream's table with the ledger: rows and sums of each partition, computed by the database.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date

from attrs import frozen
from penstock import Difference, LedgerEntry

from penstock_plugins.postgres.catalog import CatalogTable, locate
from penstock_plugins.postgres.column_types import NAIVE
from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.sql_text import quoted, short
from penstock_plugins.postgres.table_locations import LedgerTable, source_condition
from penstock_plugins.sink_support.table_verification import (
    Contents,
    by_days,
    contents_from,
    differences,
    measures_in,
    rows_in,
    rows_of_days,
)


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
            for entry in entries:
                if rows_in(entry, stream):
                    yield Difference(partition=entry.partition, what=f"the table {name} is gone")
            return
        table.check_readable(self.database.label)
        if not entries:
            return
        columns = tuple(column for column, _ in entries[0].partition.values)
        types = table.types
        if not all(short(column) in types for column in columns) or _is_merged(table, columns):
            yield from self._merged_differences(table, entries)
            return
        column_types = {column: types[short(column)] for column in columns}
        has_days = entries[0].partition.day is not None and column_types[columns[-1]] in ("date", NAIVE)
        if not has_days:
            yield from self._differences_of(list(entries), table, column_types, types)
            return
        for since, until, group in by_days(entries, self.since, self.until):
            condition = rows_of_days(quoted(columns[-1]), since, until, "%s")
            yield from self._differences_of(group, table, column_types, types, condition)

    def _differences_of(
        self,
        entries: Sequence[LedgerEntry],
        table: CatalogTable,
        columns: Mapping[str, str],
        types: Collection[str],
        condition: tuple[str, list[str]] = ("true", []),
    ) -> Iterator[Difference]:
        """
        The differences of partitions whose rows a condition selects. ``columns``: those of a partition, with their
        types; ``types``: the names of all columns of the table.
        """
        stream = self.recorded.stream
        measures = [measure for measure in measures_in(entries, stream) if short(measure) in types]
        contents = self._contents(table, columns, measures, condition)
        yield from differences(entries, contents, measures, stream, self.recorded.name)

    def _contents(
        self,
        table: CatalogTable,
        columns: Mapping[str, str],
        measures: Sequence[str],
        condition: tuple[str, list[str]],
    ) -> Contents:
        """The partitions in the table, of the rows that a condition selects. ``columns``: with their types."""
        # A date is written as the ledger has it whatever the session's DateStyle is, and where its column was widened.
        days = {name: "::date" if type_ == NAIVE else "" for name, type_ in columns.items()}
        texts = [f"coalesce(to_jsonb({quoted(name)}{day}) #>> '{{}}', '')" for name, day in days.items()]
        sums = [f"coalesce(sum({quoted(name)}), 0)" for name in measures]
        where, values = source_condition(self.recorded.source, shared=table.shared)
        where, values = f"{where} and {condition[0]}", [*values, *condition[1]]
        group = f"group by {', '.join(quoted(name) for name in columns)}" if columns else ""
        rows = self.database.run(
            f"select {', '.join([*texts, 'count(*)', *sums])} from {table.sql} where {where} {group}", values
        ).fetchall()
        return contents_from(rows, len(columns), measures)

    def _merged_differences(self, table: CatalogTable, entries: Sequence[LedgerEntry]) -> Iterator[Difference]:
        stream, name = self.recorded.stream, self.recorded.name
        where, values = source_condition(self.recorded.source, shared=table.shared)
        rows = self.database.value(f"select count(*) from {table.sql} where {where}", values)
        if self.merged is not None and rows != self.merged:
            what = f"{stream}: {rows} rows in {name}, {self.merged} were left there by its commits"
        elif not rows:
            what = f"{stream}: no row in {name}"
        else:
            return
        for entry in entries:
            if rows_in(entry, stream):
                yield Difference(partition=entry.partition, what=what)


def _is_merged(table: CatalogTable, columns: Sequence[str]) -> bool:
    """
    Whether rows are merged by a key without the partition's columns: a row that was read again may then be of another
    day, which its value of that column states.
    """
    return bool(table.keys) and not any({short(name) for name in columns} <= set(names) for names in table.keys)
