"""
The tables of one source in a DuckDB file: what its catalog states of them, their creation, and missing columns.
"""

import re
from collections.abc import Mapping, Sequence

from attrs import field, frozen
from penstock import Column, ColumnType, Layout, TargetError

from penstock_plugins.duckdb.database import Database
from penstock_plugins.sink_support.sink_settings import PRECISION, scale_of
from penstock_plugins.sink_support.sql_tables import MARK, added_notice, identifier, literal

_MERGED = " (merged by key)"
# DuckDB ignores the case of names.
_HERE = "database_name = current_database() and lower(schema_name) = lower(?) and lower(table_name) = lower(?)"

SQL_TYPES: dict[ColumnType, str] = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "json": "JSON",
}


@frozen
class CatalogTable:
    """An existing table. ``definition``: the statement that makes it; ``types``: those of its columns, by name."""

    comment: str
    definition: str = field(repr=False)
    types: Mapping[str, str] = field(repr=False)

    @property
    def mark(self) -> str:
        """Its comment, by which it is recognised."""
        return self.comment.removesuffix(_MERGED)

    @property
    def is_merged(self) -> bool:
        """Whether its rows are merged by key."""
        return self.comment.endswith(_MERGED)

    def has_collation(self, column: str) -> bool:
        """Whether a text column has a collation, by which texts may be equal that differ."""
        return re.search(rf'[(,] ?"?{re.escape(column)}"? VARCHAR COLLATE ', self.definition) is not None


class Tables:
    """
    The tables of one source. ``target``: its name in messages. ``scale``: digits after the point of decimal columns
    that declare none.
    """

    def __init__(self, database: Database, source: str, target: str, *, scale: int) -> None:
        self.scale = scale
        self.notices: list[str] = []
        self._database = database
        self._source = source
        self._target = target
        self._made: set[str] = set()

    def sql(self, stream: str) -> str:
        """The name of a stream's table in statements."""
        return f"{self._database.catalog}.{self._local_sql(stream)}"

    def _local_sql(self, stream: str) -> str:
        """The name within the file, for messages: whoever opens the file may call it otherwise."""
        return f"{identifier(self._source)}.{identifier(stream)}"

    def mark(self, stream: str) -> str:
        return f"{MARK}{self._source}.{stream}"

    def type_of(self, column: Column) -> str:
        if column.type == "decimal":
            return f"DECIMAL({PRECISION},{scale_of(column, self.scale)})"
        if column.type == "datetime":
            return "TIMESTAMP WITH TIME ZONE" if column.zone == "aware" else "TIMESTAMP"
        return SQL_TYPES[column.type]

    def existing(self, stream: str) -> CatalogTable | None:
        """A stream's table, if there is one."""
        place = [self._source, stream]
        rows = self._database.run(f"select comment, sql from duckdb_tables() where {_HERE}", place).rows
        types = self._database.run(f"select column_name, data_type from duckdb_columns() where {_HERE}", place).rows
        return CatalogTable(rows[0][0] or "", rows[0][1], dict(types)) if rows else None

    def check_not_renamed(self, stream: str) -> None:
        """Raises TargetError if there is no table of a stream, and another one has its mark."""
        mark = self.mark(stream)
        there = self._database.run(
            "select schema_name, table_name from duckdb_tables() where database_name = current_database() "
            "and comment in (?, ?) limit 1",
            [mark, mark + _MERGED],
        ).rows
        if there and self.existing(stream) is None:
            ((schema, table),) = there
            place = f"{identifier(schema)}.{identifier(table)}"
            raise TargetError(
                f"{self._target}: the rows of {self._source}.{stream} are in the table {schema}.{table}: somebody "
                f"renamed it. Rename it back: alter table {place} rename to {identifier(stream)}. Or run: comment on "
                f"table {place} is null; then the next run makes and fills the table anew. Nothing was changed."
            )

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """Add the columns that are missing in existing tables. Raises TargetError for a table of something else."""
        with self._database.transaction():
            for layout in layouts:
                if (table := self.existing(layout.stream)) is not None:
                    self._bring_up_to_date(layout, table)

    def make(self, layout: Layout) -> None:
        """Make the table of a stream, or bring the one that is there up to date; once a run."""
        if layout.stream in self._made:
            return
        with self._database.transaction():
            table = self.existing(layout.stream)
            if table is not None:
                self._bring_up_to_date(layout, table)
            else:
                self._create(layout)
        self._made.add(layout.stream)

    def _create(self, layout: Layout) -> None:
        sql, merged = self.sql(layout.stream), _MERGED if layout.kind == "changes" else ""
        columns = ", ".join(f"{identifier(column.name)} {self.type_of(column)}" for column in layout.columns)
        self._database.run(f"create schema if not exists {self._database.catalog}.{identifier(self._source)}")
        self._database.run(f"create table {sql} ({columns})")
        self._database.run(f"comment on table {sql} is {literal(self.mark(layout.stream) + merged)}")
        for column in layout.columns:
            self._describe(sql, column)

    def _bring_up_to_date(self, layout: Layout, table: CatalogTable) -> None:
        """Add missing columns. Raises TargetError for a table that cannot have the rows of the stream."""
        self._check_declaration(layout, table)
        added = [column for column in layout.columns if column.name not in table.types]
        if added:
            self.notices.append(added_notice(f"{self._source}.{layout.stream}", [column.name for column in added]))
        sql = self.sql(layout.stream)
        for column in added:
            self._database.run(f"alter table {sql} add column {identifier(column.name)} {self.type_of(column)}")
            self._describe(sql, column)

    def _check_declaration(self, layout: Layout, table: CatalogTable) -> None:
        name = f"{self._source}.{layout.stream}"
        if table.mark != self.mark(layout.stream):
            raise TargetError(
                f"{self._target}: the table {name} was not made by penstock. Rename it, or name another target; it was "
                "not touched."
            )
        lacking = set(layout.replaced_by) - table.types.keys()
        if lacking or table.is_merged != (layout.kind == "changes"):
            merged = "is merged by key" if table.is_merged else "is not merged by key"
            fact = f"has no column {', '.join(sorted(lacking))}" if lacking else merged
            raise TargetError(
                f"{self._target}: {name} was declared otherwise when its table was made: the table {fact}, so that new "
                "rows would stand beside those that they replace. Rename the table, remove its comment, and run again: "
                "then it is made and filled anew. Nothing was changed."
            )
        for column in layout.columns:
            alter = f"Run: alter table {self._local_sql(layout.stream)} alter {identifier(column.name)} type"
            stored, declared = table.types.get(column.name), self.type_of(column)
            if table.has_collation(column.name):
                raise TargetError(
                    f"{self._target}: the column {column.name} of {name} has a collation, by which rows of another "
                    f"account or key may count as the same. {alter} VARCHAR; or name another target. Nothing was "
                    "changed."
                )
            if stored not in (None, declared):
                raise TargetError(
                    f"{self._target}: the column {column.name} of {name} is {stored}, and the stream declares "
                    f"{declared}. {alter} {declared}; or name another target."
                )

    def _describe(self, table: str, column: Column) -> None:
        text = f"{column.description} ({column.unit})" if column.unit else column.description
        if text.strip():
            self._database.run(f"comment on column {table}.{identifier(column.name)} is {literal(text.strip())}")
