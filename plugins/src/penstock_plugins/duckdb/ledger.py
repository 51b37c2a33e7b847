"""
The ledger in the schema ``penstock`` of the DuckDB file, written in the transaction of the data.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from penstock.ledger import Retention, SqlLedger

from penstock_plugins.duckdb.database import Database, Result

SCHEMA = "penstock"

# A partition's text is {"account's column":"account","day's column":"YYYY-MM-DD"}, either of them or none.
_DAY = r"""regexp_extract(partition, ':"(\d{4}-\d\d-\d\d)"}$', 1)"""
_FIRST = "coalesce(json_extract_string(partition, '$.*')[1], '')"
_ACCOUNT = f"case when {_FIRST} = {_DAY} then '' else {_FIRST} end"
_NOW = "strftime(cast(now() as timestamp), '%Y-%m-%dT%H:%M:%S.%f+00:00')"  # the session's zone is UTC


class DuckLedger(SqlLedger):
    """The core's ledger in DuckDB, which has no partial index, and generates columns when they are read."""

    words: ClassVar = {
        "time": "text",
        "json": "text",
        "account": _ACCOUNT,
        "day": _DAY,
        "now": _NOW,
        "stored": "virtual",
    }
    in_texts = """in (select unnest(from_json(?, '["VARCHAR"]')))"""
    indexes = ()

    def __init__(self, database: Database, *, readonly: bool = False, retention: Retention | None = None) -> None:
        self._database = database
        self.retention = retention or Retention()
        self.prefix = f"{database.catalog}.{SCHEMA}."
        if readonly:
            self._check_version()
        else:
            database.run(f"create schema if not exists {database.catalog}.{SCHEMA}")
            self._prepare()

    @staticmethod
    def exists(database: Database) -> bool:
        """Whether the file has a ledger."""
        return bool(
            database.run(
                "select 1 from duckdb_tables() where database_name = current_database() and schema_name = ? "
                "and table_name = 'partitions'",
                [SCHEMA],
            ).rows
        )

    def delivered_tables(self, source: str) -> list[tuple[str, str]]:
        """The tables that rows were delivered to: the stream of each, and the stream whose partitions contain them."""
        rows = self._sql(
            "select stream, stream from {t}partitions where source = ? and rows > 0 union "
            "select unnest(json_keys(derived_rows)), stream from {t}partitions where source = ? order by all",
            *(source, source),
        )
        return [(stream, of_stream) for stream, of_stream in rows]

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> Result:
        return self._database.run(statement, values)

    def _rows(self, statement: str, *values: Any) -> Iterator[Any]:
        return self._database.stream(statement.replace("{t}", self.prefix), values)

    def _transaction(self) -> AbstractContextManager[Any]:
        return self._database.transaction()

    def close(self) -> None:
        """The target closes the connection."""
