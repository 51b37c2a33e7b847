"""
The ledger in the schema ``penstock`` of the database itself, written in the transaction of the data.

Besides the core's tables: ``tables`` says which table holds which stream, ``restatements`` what new readings changed.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

from attrs import frozen
from penstock import SinkError, TargetError
from penstock.ledger import SCHEMA_VERSION, STANDING, SqlLedger

from penstock_plugins.postgres.database import Database, Row, lock_key

SCHEMA = "penstock"
LAYOUT = "2"  # of the tables below
_TIMES = {  # that were text in version 1
    "partitions": ("read_at", "open_until"),
    "reports": ("submitted_at",),
    "runs": ("started_at", "finished_at"),
}
_WRITTEN = ("partitions", "rejected", "reports", "accounts", "runs", "tables", "restatements")  # by any run


@frozen(kw_only=True)
class Known:
    """A table that penstock made. ``of_stream``: the stream whose partitions bring its rows."""

    stream: str
    of_stream: str
    oid: int
    schema: str
    table: str


# A partition's text is {"account's column":"account","day's column":"YYYY-MM-DD"}, either of them or none.
_DAY = """coalesce(substring(partition from ':"(\\d{4}-\\d\\d-\\d\\d)"}$'), '')"""
_FIRST = (
    """coalesce(replace(partition, '\\u0000', '\\ufffd')::jsonb ->> substring(partition from '^{"([^"]*)":'), '')"""
)
_ACCOUNT = f"case when {_FIRST} = {_DAY} then '' else {_FIRST} end"


class OutdatedLedgerError(Exception):
    """The ledger was written by an older penstock, and this session may not bring it up to date."""


class PostgresLedger(SqlLedger):
    prefix = f"{SCHEMA}."
    create_view = "create or replace view"
    words: ClassVar = {
        "time": "timestamptz",
        "json": "jsonb",
        "now": "now()",
        "account": _ACCOUNT,
        "day": _DAY,
    }
    in_texts = "in (select jsonb_array_elements_text(?::jsonb))"
    compares = False  # the writer does, row by row
    more_tables = (
        """create table if not exists {t}tables (
            source text not null, stream text not null, of_stream text not null, relation oid not null,
            schema_name text not null, table_name text not null,
            primary key (source, stream), unique (schema_name, table_name))""",
        "comment on schema penstock is 'The ledger of penstock: which partitions were delivered, and when'",
        """comment on table {t}restatements is
            'What a new reading of a partition changed: rows that came, went and changed, sums before and after'""",
    )

    def __init__(self, database: Database, *, readonly: bool = False) -> None:
        self._database = database
        if not readonly:
            self._prepare_once()
        elif self._exists():
            self._check_version()
            if self.outdated:
                raise OutdatedLedgerError

    def _exists(self) -> bool:
        return self._database.one("select to_regclass('penstock.meta')") is not None

    def _prepare_once(self) -> None:
        """Make the tables unless they are there; a user without the right to make any can use those that are."""
        with self._transaction():
            # Two runs that both find an empty database would make everything twice.
            self._sql("select pg_advisory_xact_lock(?)", lock_key(""))
            if self._exists():
                self._check_version()
                if (self.fact("schema"), self.fact("postgres")) == (str(SCHEMA_VERSION), LAYOUT):
                    self._check_rights()
                    return
            elif self._database.one("select count(*) from pg_tables where schemaname = %s", (SCHEMA,)):
                raise TargetError(
                    f"{self._database.place} has a schema {SCHEMA} that penstock did not make, and its ledger needs "
                    "this name. Rename that schema, or name another database; it was not changed."
                )
            if self._database.one("select to_regnamespace(%s)", (SCHEMA,)) is None:
                self._sql(f"create schema {SCHEMA}")
            self._prepare()
            self.set_fact("postgres", LAYOUT)

    def _migrate(self, found: int) -> None:
        """From version 1: times were text, and accounts and days in the partition's text only."""
        for table, times in _TIMES.items():
            changes = [f"alter column {name} type timestamptz using {name}::timestamptz" for name in times]
            if table == "partitions":
                changes += [
                    f"add column account text generated always as ({_ACCOUNT}) stored",
                    f"add column day text generated always as ({_DAY}) stored",
                    "add column unread_values bigint not null default 0",
                    "add column read_by text not null default ''",
                ]
            self._sql(f"alter table {{t}}{table} {', '.join(changes)}")
        # After its columns have their types.
        self._sql(f"alter table {{t}}partitions add column standing text generated always as ({STANDING}) stored")
        nullable = ", ".join(f"alter column {name} drop not null" for name in ("came", "went", "changed"))
        self._sql(f"alter table {{t}}restatements {nullable}")

    def _check_rights(self) -> None:
        """Before anything is asked for: whether this user may write what every delivery writes."""
        closed = self._database.run(
            "select relname from pg_class where relnamespace = to_regnamespace(%s) and relname = any(%s) "
            "and not (has_table_privilege(oid, 'insert') and has_table_privilege(oid, 'update') "
            "and has_table_privilege(oid, 'delete')) order by relname",
            (SCHEMA, list(_WRITTEN)),
        ).fetchall()
        if closed:
            names = ", ".join(name for (name,) in closed)
            user = self._database.one("select current_user")
            raise TargetError(
                f"{self._database.place}: {user} may read the ledger and not write it "
                f"({names} in the schema {SCHEMA}). Grant insert, update and delete on all its tables, or name another "
                "user."
            )

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        # A text of Postgres cannot hold NUL; what is masked or shown here may.
        texts = tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in values)
        with self._database.explained():
            try:
                return self._database.run(statement.replace("?", "%s"), texts)
            except UnicodeEncodeError as error:
                raise SinkError(f"the ledger cannot hold a text that is no Unicode: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._database.explained(), self._database.transaction():
            yield

    def close(self) -> None:
        self._database.close()

    # --- tables -----------------------------------------------------------------------------------------------------

    def known(self, source: str) -> list[Known]:
        return [self._known(row) for row in self._known_rows("source = ?", source)]

    def at(self, schema: str, table: str) -> tuple[str, Known] | None:
        """The source and stream that this table was made for."""
        rows = self._known_rows("schema_name = ? and table_name = ?", schema, table)
        return (rows[0][0], self._known(rows[0])) if rows else None

    def _known_rows(self, where: str, *values: str) -> list[Row]:
        rows: list[Row] = self._sql(
            "select source, stream, of_stream, relation::bigint, schema_name, table_name "  # noqa: S608
            f"from {{t}}tables where {where} order by stream",
            *values,
        ).fetchall()
        return rows

    def _known(self, row: Row) -> Known:
        _, stream, of_stream, oid, schema, table = row
        return Known(stream=stream, of_stream=of_stream, oid=oid, schema=schema, table=table)

    def keep_table(self, source: str, known: Known) -> None:
        self._sql(
            "insert into {t}tables (source, stream, of_stream, relation, schema_name, table_name) "
            "values (?, ?, ?, ?, ?, ?) on conflict (source, stream) do update set of_stream = excluded.of_stream, "
            "relation = excluded.relation, schema_name = excluded.schema_name, table_name = excluded.table_name",
            *(source, known.stream, known.of_stream, known.oid, known.schema, known.table),
        )

    def forget_table(self, source: str, stream: str) -> None:
        self._sql("delete from {t}tables where source = ? and stream = ?", source, stream)

    def transaction(self) -> AbstractContextManager[None]:
        return self._transaction()
