"""
The temporary tables of a session, for rows on their way into a table.
"""

from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.sql_text import columns_sql
from penstock_plugins.postgres.tables import Table


class TemporaryTables:
    """Makes temporary tables with the columns of a table, under names that are used once."""

    def __init__(self, database: Database) -> None:
        self.made = 0  # their number
        self._database = database
        self._shared: dict[tuple[int, str, tuple[str, ...]], str] = {}

    def make(self, table: Table, *, per_commit: bool = False) -> str:
        """The name of a new one. ``per_commit``: each commit empties it."""
        self.made += 1
        name = f"pg_temp.penstock_rows_{self.made}"
        rows = f"select {columns_sql(table.columns)} from {table.sql} with no data"
        on_commit = " on commit delete rows" if per_commit else ""
        self._database.run(f"create temporary table {name}{on_commit} as {rows}")
        return name

    def shared(self, table: Table) -> str:
        """
        The name of one for one partition after the other, made once per session and table. Each commit empties it. A
        temporary table per partition would bloat the catalog, and cost more than a small partition.
        """
        key = (self._database.opened, table.sql, table.columns)
        if key not in self._shared:
            self._shared[key] = self.make(table, per_commit=True)
        return self._shared[key]
