"""
Merge new rows into a table by their key: a known row that differs is updated, a new one is inserted, and no row is
deleted.
"""

from attrs import frozen

from penstock_plugins.postgres.column_types import STAMPS
from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.ledger import PostgresLedger
from penstock_plugins.postgres.replacement import NewRowsRelation, Scope, parameters_of, with_sql, without_key
from penstock_plugins.postgres.server_errors import NotStoredError
from penstock_plugins.postgres.sql_text import columns_sql, differ, equal, quoted
from penstock_plugins.postgres.tables import Table


@frozen
class Merge:
    """
    The rows of a source in a table, and the new rows that are merged into them, inside the transaction that is open.
    """

    database: Database
    ledger: PostgresLedger
    source: str
    table: Table
    relation: NewRowsRelation
    scope: Scope

    def merge_rows(self, count: int) -> None:
        """Merge ``count`` new rows, and add the inserted ones to the ledger's count. Raises NotStoredError."""
        table, others = self.table, without_key(self.table, self.table.columns)
        columns = columns_sql(table.columns)
        assignments = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in (*others, *STAMPS))
        # Former rows are looked up one by one in the index of the key, whatever the statistics contain.
        looked_up = f"""
            looked_up as materialized (
                select (
                    select not {differ(others, "old", "new")} from {table.sql} as old
                    where {self.scope.where} and {equal(table.key, "old", "new")} limit 1
                ) as is_same
                from {self.relation.name} as new
            )"""
        inserted = "select count(*) from looked_up where is_same is null"
        merged = f"""
            merged as (
                insert into {table.sql} as old ({columns}) select {columns} from {self.relation.name}
                on conflict ({columns_sql(table.unique)}) do update set {assignments}
                where {differ(others, "old", "excluded")}
                returning 1
            )"""
        sent, same, written = self.database.row(
            f"""
            {with_sql([self.relation], looked_up, f"counted as ({self.ledger.add_merged_rows_sql(inserted)})", merged)}
            select
                (select count(*) from {self.relation.name}),
                (select count(*) from looked_up where is_same),
                (select count(*) from merged)
            """,
            {
                **parameters_of([self.relation]),
                **self.scope.values,
                "source": self.source,
                "stream": table.layout.stream,
            },
        )
        if (sent, same + written) != (count, count):
            raise NotStoredError

    def is_stored(self) -> bool:
        """Whether each new row is in the table, under its key."""
        table = self.table
        missing: int = self.database.value(
            f"""
            {with_sql([self.relation])}
            select count(*) from {self.relation.name} as new
            left join {table.sql} as old on {self.scope.where} and {equal(table.key, "old", "new")}
            where old.{quoted(table.key[0])} is null
            or {differ(without_key(table, table.columns), "old", "new")}
            """,
            {**parameters_of([self.relation]), **self.scope.values},
        )
        return not missing
