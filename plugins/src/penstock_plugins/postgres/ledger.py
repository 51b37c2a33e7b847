"""
The ledger in the schema ``penstock`` of the database itself, written in the transaction of the data.

In addition to the core's tables, ``tables`` maps each stream to its table; ``restatements`` is filled by the writer.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from penstock import LedgerEntry, LockHeldError, Partition, RunRecord, SinkError, TargetError
from penstock.ledger import SCHEMA_VERSION, STANDING, LedgerWrite, Retention, SqlLedger

from penstock_plugins.postgres.catalog import grant
from penstock_plugins.postgres.connection import pooled_error
from penstock_plugins.postgres.database import Database, Row
from penstock_plugins.postgres.ledger_schema import (
    READING,
    WRITING,
    WRITTEN,
    check_rights,
    comment,
    is_made,
    make_schema,
)
from penstock_plugins.postgres.locks import lock_key
from penstock_plugins.postgres.server_errors import LostSessionError
from penstock_plugins.postgres.sql_text import quoted, short
from penstock_plugins.postgres.table_locations import LedgerTable
from penstock_plugins.sink_support.sql_tables import literal

SCHEMA = "penstock"
LAYOUT_VERSION = "6"  # of the tables below, and their indexes
# Development versions (decision 72).
_TIME_COLUMNS = {  # that were text in version 1
    "partitions": ("read_at", "open_until"),
    "reports": ("submitted_at",),
    "runs": ("started_at", "finished_at"),
}


# A partition's text is {"account's column":"account","day's column":"YYYY-MM-DD"}, either of them or none.
_DAY = """coalesce(substring(partition from ':"(\\d{4}-\\d\\d-\\d\\d)"}$'), '')"""
_FIRST_VALUE = (
    """coalesce(replace(partition, '\\u0000', '\\ufffd')::jsonb ->> substring(partition from '^{"([^"]*)":'), '')"""
)
_ACCOUNT = f"case when {_FIRST_VALUE} = {_DAY} then '' else {_FIRST_VALUE} end"


def _without_nul(values: Sequence[Any]) -> tuple[Any, ...]:
    """The values of a statement: a text of Postgres cannot hold NUL; what is masked or shown here may."""
    return tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in values)


def division_of(database: Database, schema: str, source: str) -> str | None:
    """How the last divided run of a source was divided; None where there was none."""
    if not is_made(database, schema):
        return None
    check_rights(database, schema, WRITING)
    statement = f"select value from {quoted(schema)}.meta where name = %s"
    division: str | None = database.value(statement, (f"division of {source}",))
    return division


# Development versions (decision 72).
class OutdatedLedgerError(Exception):
    """The ledger was written by an older penstock, and this session may not migrate it."""


class PostgresLedger(SqlLedger):
    """
    ``guard`` makes every delivery check, in its own transaction, that its session still holds the lock of the source.
    """

    create_view = "create or replace view"
    words: ClassVar = {
        "time": "timestamptz",
        "json": "jsonb",
        "now": "now()",
        "account": _ACCOUNT,
        "day": _DAY,
    }
    in_texts = "in (select jsonb_array_elements_text(?::jsonb))"
    compares = False  # the writer compares, row by row
    _division: tuple[str, str] | None = None  # source, and how its run is divided
    more_tables = (
        """create table if not exists {t}tables (
            source text not null, stream text not null, of_stream text not null, relation oid not null,
            schema_name text not null, table_name text not null, primary key (source, stream))""",
        # Development versions (decision 72).
        "alter table {t}tables drop constraint if exists tables_schema_name_table_name_key",  # of layouts 1 and 2
        "alter table {t}tables add column if not exists rows bigint",  # since layout 4
        "alter table {t}partitions set (autovacuum_vacuum_scale_factor = 0.05)",
        # They have no key: a publication of all tables could not publish deletes of their rows.
        "alter table {t}reports replica identity full",
        "alter table {t}restatements replica identity full",
    )

    def __init__(
        self,
        database: Database,
        *,
        readonly: bool = False,
        schema: str = SCHEMA,
        grant_to: Sequence[str] = (),
        guard: Callable[[], str] = lambda: "true",
        retention: Retention | None = None,
    ) -> None:
        if not re.fullmatch(r"[^?%\0{}]+", schema):
            raise TargetError(f"{schema!r} cannot be the name of the ledger's schema. Choose letters and digits.")
        self._database = database
        self._guard = guard
        self._last: LedgerEntry | None = None  # the delivery that was committed last
        self._deferred = False  # commits are confirmed before they are on the disk
        self._lost_commits: SinkError | None = None  # deliveries that were committed, and are not there any more
        self.retention = retention or Retention()
        self.schema = schema
        self.prefix = f"{quoted(schema)}."
        if not readonly:
            database.when_reopened = self._check_kept
            with database.explained():
                self._deferred = database.value("show synchronous_commit") == "off"
                self._prepare_once()
                for role in grant_to:
                    grant(database, role, schema, [*WRITTEN, "meta", "days"])
        elif self.exists():
            check_rights(database, schema, READING)
            self._check_version()
            # Development versions (decision 72).
            if self.outdated:
                raise OutdatedLedgerError

    def exists(self) -> bool:
        return is_made(self._database, self.schema)

    def _prepare_once(self) -> None:
        """Make the missing tables. A user without the right to make any can use existing ones."""
        with self._transaction():
            # Two runs that both find an empty database would make everything twice.
            self._sql("select pg_advisory_xact_lock(?)", lock_key(""))
            if self.exists():
                check_rights(self._database, self.schema, WRITING)
                self._check_version()
                if (self.fact("schema"), self.fact("postgres")) == (str(SCHEMA_VERSION), LAYOUT_VERSION):
                    return
            elif self._database.value("select count(*) from pg_tables where schemaname = %s", (short(self.schema),)):
                raise TargetError(
                    f"{self._database.label} has a schema {self.schema} that penstock did not make, and its ledger "
                    "needs this name. Set another ledger_schema, rename that schema, or name another database; it was "
                    "not changed."
                )
            make_schema(self._database, self.schema)
            self._prepare()
            comment(self._database, self.schema)
            self.set_fact("postgres", LAYOUT_VERSION)

    def check_division(self, source: str, division: str, *, first: bool) -> None:
        """
        Record how the run of a source is divided, by the first part, which holds its lock alone; any other part holds
        the lock together with the others. Raises LockHeldError where these are parts of another division.
        """
        fact = f"division of {source}"
        self._division = (source, division)
        if first:
            self.set_fact(fact, division)
        elif (former := self.fact(fact)) != division:
            raise LockHeldError(
                f"another run writes {source} to {self._database.label}, divided into {former or 'other parts'}. Wait "
                f"for it to end, or divide this one alike: it is divided into {division}."
            )

    def _ownership_condition(self) -> str:
        """A condition: the session holds the lock of its source, and a divided run still has its division."""
        if self._division is None:
            return self._guard()
        source, division = self._division
        return (
            f"({self._guard()} and exists (select from {self.prefix}meta "
            f"where name = {literal(f'division of {source}')} and value = {literal(division)}))"
        )

    # --- deliveries -------------------------------------------------------------------------------------------------

    def _put(self, write: LedgerWrite, statement: str, values: Sequence[Any]) -> bool:
        """See the core's ledger; the records of the former reading are deleted by the same statement."""
        row = self._sql(
            "with dropped as (delete from {t}rejected where source = ? and stream = ? and partition = ?) "
            f"{statement} returning {self._ownership_condition()}",
            *(*write.key, *values),
        ).fetchall()
        if row == [(False,)]:
            if self._division is not None:
                self.check_division(*self._division, first=False)
            raise pooled_error(self._database.label)
        return bool(row)

    def _drop_rejected(self, writes: Sequence[LedgerWrite]) -> None:
        """:meth:`_put` did."""

    # Development versions (decision 72).
    def _migrate(self, version: int) -> None:
        """Migrate from version 1, in which times were text, and accounts and days only in the partition's text."""
        for table, times in _TIME_COLUMNS.items():
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

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        texts = _without_nul(values)
        try:
            return self._run(statement.replace("?", "%s"), texts)
        except LostSessionError:
            if self._database.open_transactions:  # what was done before in the transaction is lost, too
                raise
            self._database.reopen()
            return self._run(statement.replace("?", "%s"), texts)

    def _run(self, statement: str, values: Sequence[Any]) -> Any:
        with self._database.explained():
            try:
                return self._database.run(statement, values)
            except UnicodeEncodeError as error:
                raise SinkError(f"the ledger cannot hold a text that is no Unicode: {error}") from error

    def _rows(self, statement: str, *values: Any) -> Iterator[Row]:
        """See the core's ledger. They are read in one transaction."""
        with self._transaction():
            of_table = statement.replace("{t}", self.prefix).replace("?", "%s")
            yield from self._database.stream(of_table, _without_nul(values))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._database.explained(), self._database.transaction():
            yield

    def close(self) -> None:
        """
        Wait until the deliveries of this session are on the server's disk. Raises SinkError if it lost any.
        """
        try:
            if self._deferred and self._last is not None:
                self._wait_for_disk(self._last)
        finally:
            self._database.close()
        if self._lost_commits is not None:
            raise self._lost_commits

    # --- a server that lost commits ---------------------------------------------------------------------------------

    def remember(self, entry: LedgerEntry) -> None:
        """Remember the delivery that was committed last. A server that has it has all earlier ones."""
        self._last = entry

    def _wait_for_disk(self, last: LedgerEntry) -> None:
        """Only a commit that wrote something waits for the disk; all earlier ones are there with it."""
        where = "source = ? and stream = ? and partition = ?"
        values = (last.source, last.partition.stream, last.partition.text)
        try:
            with self._transaction():
                self._database.make_durable()
                self._sql(f"update {{t}}partitions set version = version where {where}", *values)
        except LostSessionError:
            self._database.reopen()  # which looks whether they were kept
            self._wait_for_disk(last)

    def _check_kept(self) -> None:
        """
        After the session was lost: raises SinkError if the server has not kept what was committed before. It crashed
        with ``synchronous_commit`` off, or a standby that did not have it yet took over.
        """
        last = self._last
        if last is None:
            return
        statement = f"select version from {self.prefix}partitions where source = %s and stream = %s and partition = %s"
        rows = self._run(statement, (last.source, last.partition.stream, last.partition.text)).fetchall()
        if rows and rows[0][0] > last.version:
            return
        self._last = None
        self._lost_commits = SinkError(
            f"{self._database.label} has lost what was committed last, at least {last.source} {last.partition}: it "
            "crashed with synchronous_commit = off, or a standby took over that did not have it. The ledger lost it, "
            "too, so that the next run reads it again. Run again."
        )
        raise self._lost_commits

    def record_run(self, run: RunRecord) -> None:
        """See the core's ledger. A lost session is opened again."""
        try:
            super().record_run(run)
        except LostSessionError:
            self._database.reopen()
            super().record_run(run)

    # --- tables -----------------------------------------------------------------------------------------------------

    def tables(self, source: str) -> list[LedgerTable]:
        return self._tables("source = ?", source)

    def recorded_at(self, schema: str, table: str) -> list[LedgerTable]:
        """The table, for each source and stream whose rows are in it."""
        return self._tables("schema_name = ? and table_name = ?", schema, table)

    def day_columns(self) -> list[tuple[LedgerTable, str]]:
        """The tables whose partitions are an account's day, each with the column of the day."""
        pairs = []
        for table in self._tables("true"):
            texts = self._sql(
                "select partition from {t}partitions where source = ? and stream = ? and day <> '' limit 1",
                *(table.source, table.of_stream),
            ).fetchall()
            columns = list(json.loads(texts[0][0])) if texts else []
            if len(columns) > 1:
                pairs.append((table, columns[-1]))
        return pairs

    def _tables(self, where: str, *values: str) -> list[LedgerTable]:
        rows = self._sql(
            "select source, stream, of_stream, relation::bigint, schema_name, table_name "
            f"from {{t}}tables where {where} order by stream",
            *values,
        ).fetchall()
        return [LedgerTable(*row) for row in rows]

    def delivered_rows(self, table: LedgerTable) -> tuple[int, int]:
        """The number of delivered partitions of a table, and of the rows that they have in it."""
        is_derived = table.stream != table.of_stream
        rows = "coalesce((derived_rows::jsonb ->> ?)::bigint, 0)" if is_derived else "rows"
        ((partitions, delivered),) = self._sql(
            f"select count(*), coalesce(sum({rows}), 0)::bigint from {{t}}partitions "
            "where source = ? and stream = ? and state = 'delivered'",
            *((table.stream,) if is_derived else ()),
            *(table.source, table.of_stream),
        ).fetchall()
        return partitions, delivered

    def merged_rows(self, source: str, stream: str) -> int | None:
        """
        The rows of a source that the commits of a stream merged by key left in its table; None where they were not
        counted (by an earlier version).
        """
        # Development versions (decision 72): a reader may find a table without this column, so it is read from JSON.
        rows = self._sql(
            "select (to_jsonb(one) ->> 'rows')::bigint from {t}tables one where source = ? and stream = ?",
            *(source, stream),
        ).fetchall()
        return rows[0][0] if rows else None

    def set_merged_rows(self, source: str, stream: str, rows: int | None) -> None:
        """Set the counted rows of a stream that is merged by key; None: they are counted anew by the next run."""
        self._sql("update {t}tables set rows = ? where source = ? and stream = ?", rows, source, stream)

    def add_merged_rows_sql(self, more: str) -> str:
        """
        A statement that adds to the counted rows of a stream, for a session. Its parameters: ``source``, ``stream``,
        and those of ``more``.
        """
        return (
            f"update {self.prefix}tables set rows = rows + ({more}) where source = %(source)s and stream = %(stream)s"
        )

    def forget(self, source: str, partitions: Iterable[Partition]) -> int:
        """See the core's ledger. The rows of merged streams are counted anew, since they will be read again."""
        forgotten = list(partitions)
        with self._transaction():
            self._database.make_durable()
            for stream in {partition.stream for partition in forgotten}:
                self._sql("update {t}tables set rows = null where source = ? and of_stream = ?", source, stream)
            return super().forget(source, forgotten)

    def record_table(self, table: LedgerTable) -> None:
        self._sql(
            "insert into {t}tables (source, stream, of_stream, relation, schema_name, table_name) "
            "values (?, ?, ?, ?, ?, ?) on conflict (source, stream) do update set of_stream = excluded.of_stream, "
            "relation = excluded.relation, schema_name = excluded.schema_name, table_name = excluded.table_name",
            *table,
        )

    def forget_table(self, source: str, stream: str) -> None:
        self._sql("delete from {t}tables where source = ? and stream = ?", source, stream)
