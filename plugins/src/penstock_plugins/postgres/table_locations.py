"""
The location of a stream's table, by the settings and in the ledger, and the marks of a table.
"""

from typing import NamedTuple

from penstock_plugins.postgres.sql_text import table_sql
from penstock_plugins.sink_support.sql_tables import MARK

SOURCE_COLUMN = "_source"
"""The column of a shared table with each row's source. Part of the key."""

SOURCE_DEFAULT = "current_setting('penstock.source')"
"""Its default, a setting of the session."""


class TableLocation(NamedTuple):
    """Schema and table of a stream's rows, and the options of a table that is made there."""

    schema: str
    table: str
    of_stream: str  # the stream whose partitions contain the rows
    shared: bool  # by several sources
    day_index: bool
    grant_to: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def sql(self) -> str:
        return table_sql(self.schema, self.table)


class LedgerTable(NamedTuple):
    """The table of a source's stream, as the ledger records it. ``of_stream``: whose partitions contain its rows."""

    source: str
    stream: str
    of_stream: str
    oid: int
    schema: str
    table: str

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def sql(self) -> str:
        return table_sql(self.schema, self.table)


def source_condition(source: str, *, shared: bool) -> tuple[str, list[str]]:
    """The condition for the rows of a source, and its parameters. A shared table has those of others, too."""
    return (f"{SOURCE_COLUMN} = %s", [source]) if shared else ("true", [])


def mark_for(source: str, stream: str, *, shared: bool) -> str:
    """The line of a table's comment by which the table is recognised."""
    return f"{MARK}{'*' if shared else source}.{stream}"
