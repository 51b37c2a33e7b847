"""
The tables of the ledger in portable SQL, for a database with ``on conflict ... do update`` and generated columns.
"""

# The only names put into statements are the prefix, table and column names of this package; values are parameters.

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

from penstock.errors import TargetError

SCHEMA_VERSION = 2
STANDING = (
    "case when error is not null then 'failed' "
    "when intent is null and state = 'delivered' and coalesce(read_at >= open_until, false) then 'final' "
    "else 'open' end"
)
FORGET_PREFIX = "forget-"  # the id of what `penstock forget` did begins with it

# Portable SQL: text, bigint, "on conflict ... do update", "?" for a parameter. In braces: {t} is the prefix of table
# names, {time} the type of a moment, {now} the moment of the statement, {json} the type of JSON that is only read by
# people, {account} and {day} the expressions for both in a partition's text, {standing} the expression above, {stored}
# the word for a generated column: "stored", unless ``words`` has another.
TABLES = {
    "meta": "name text primary key, value text not null",
    "partitions": """
        source text not null, stream text not null, partition text not null,
        account text generated always as ({account}) {stored}, day text generated always as ({day}) {stored},
        state text not null, run_id text not null, read_at {time}, open_until {time}, fingerprint text not null,
        rows bigint not null, promised bigint, rejected bigint not null, unread_values bigint not null default 0,
        repeated bigint not null, truncated bigint not null, attempts bigint not null, version bigint not null,
        read_by text not null default '', error text,
        standing text generated always as ({standing}) {stored},
        sums text not null, derived_rows text not null, files text not null, intent text,
        primary key (source, stream, partition)""",
    "rejected": """
        source text not null, stream text not null, partition text not null, number bigint not null,
        of_stream text not null, path text not null, reason text not null, raw text not null,
        primary key (source, stream, partition, number)""",
    "reports": """
        source text not null, stream text not null, handle text not null, request text not null,
        partitions text not null, submitted_at {time} not null, fingerprint text not null""",
    "accounts": """
        source text not null, stream text not null, position bigint not null, account text not null,
        primary key (source, stream, position)""",
    "runs": """
        run_id text not null, source text not null, started_at {time} not null, finished_at {time}, exit_code bigint,
        report text not null, primary key (run_id, source)""",
    "restatements": """
        source text not null, stream text not null, partition {json} not null, run_id text not null,
        restated_at {time} not null default ({now}), rows_before bigint not null, rows_after bigint not null,
        came bigint, went bigint, changed bigint, sums {json} not null""",
}
# As in the indexes. The texts are part of the statements: a database compares them with those of the indexes.
FORGOTTEN = f"substr(run_id, 1, {len(FORGET_PREFIX)}) = '{FORGET_PREFIX}'"
FLAWED = "(error is not null or rejected > 0 or unread_values > 0 or truncated > 0 or read_by <> '')"
INDEXES = (
    "create index if not exists partitions_day on {t}partitions (source, stream, day, account)",
    # Development versions (decision 72).
    "drop index if exists {t}partitions_counts",
    "drop index if exists {t}partitions_failed",
    "create index if not exists partitions_unsettled on {t}partitions (source) "
    "where intent is not null or state in ('intended', 'staged')",
    "create index if not exists runs_started on {t}runs (source, started_at)",
    "create index if not exists restatements_at on {t}restatements (source, restated_at)",
    # Development versions (decision 72).
    "drop index if exists {t}restatements_stream",
    f"create index if not exists restatements_forgotten on {{t}}restatements (source, restated_at) where {FORGOTTEN}",
)
# For `status`: rows come grouped, without a sort.
BY_ACCOUNT = "create index if not exists partitions_accounts on {t}partitions (source, stream, account, day)"
# Made last: of several indexes that serve a query as well, SQLite uses the newest, and this one has the fewest rows.
BY_FLAW = f"create index if not exists partitions_flawed on {{t}}partitions (source, stream, account) where {FLAWED}"
UNSETTLED = "(intent is not null or state in ('intended', 'staged'))"  # as in the index
VIEW = """{t}days as select source, stream, partition, account, nullif(day, '') as day,
    case when intent is not null then 'intended' else state end as state,
    case when state <> 'delivered' or open_until is null then null
         when read_at >= open_until then 'closed' else 'open' end as day_was,
    rows, promised, rejected, unread_values, repeated, read_at, open_until, sums, files, error, attempts, run_id,
    read_by from {t}partitions"""


class Cursor(Protocol):
    """What :class:`SqlLedger` needs of a database cursor."""

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class SqlTables:
    """
    The tables of a ledger over :meth:`_execute` and :meth:`_transaction`, which a database supplies.
    """

    prefix = ""  # before every table's name: "penstock." in a database with schemas
    create_view = "create view if not exists"
    words: ClassVar[Mapping[str, str]]  # for the names in braces in TABLES
    in_texts: str  # a condition: the value is one of the texts of a JSON array, a parameter
    indexes: tuple[str, ...] = (*INDEXES, BY_ACCOUNT, BY_FLAW)
    more_tables: tuple[str, ...] = ()

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> Cursor:
        """Run one statement whose parameters are written ``?``; errors as SinkError or TargetError."""
        raise NotImplementedError

    def _transaction(self) -> AbstractContextManager[Any]:
        """All statements within take effect durably when it ends, or none does."""
        raise NotImplementedError

    # Development versions (decision 72).
    def _migrate(self, version: int) -> None:
        """Bring the tables of an older version up to date, within :meth:`_prepare`'s transaction."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def _sql(self, statement: str, *values: Any) -> Cursor:
        return self._execute(statement.replace("{t}", self.prefix), values)

    def _rows(self, statement: str, *values: Any) -> Iterator[Any]:
        """The rows of a query, of which there may be millions: read some at a time, where the database can."""
        return iter(self._sql(statement, *values))

    def _make_table(self, name: str, columns: str) -> None:
        for word, meaning in {"stored": "stored", **self.words, "standing": STANDING}.items():
            columns = columns.replace(f"{{{word}}}", meaning)
        self._sql(f"create table if not exists {{t}}{name} ({columns})")

    def _prepare(self) -> None:
        """Make the tables, or bring those found up to date; a ledger of a newer version is refused."""
        with self._transaction():
            self._make_table("meta", TABLES["meta"])
            self._check_version()
            stored_version = int(self.fact("schema") or SCHEMA_VERSION)
            # Development versions (decision 72).
            if stored_version < SCHEMA_VERSION:
                self._sql("drop view if exists {t}days")
                self._migrate(stored_version)
            for name, columns in TABLES.items():
                self._make_table(name, columns)
            for statement in (*self.indexes, *self.more_tables):
                self._sql(statement)
            self._sql(f"{self.create_view} {VIEW}")
            if self.fact("schema") != str(SCHEMA_VERSION):
                self.set_fact("schema", str(SCHEMA_VERSION))

    # Development versions (decision 72).
    @property
    def outdated(self) -> bool:
        """Whether an older penstock wrote it, and it was not brought up to date yet."""
        return int(self.fact("schema") or SCHEMA_VERSION) < SCHEMA_VERSION

    def _check_version(self) -> None:
        stored_version = self.fact("schema")
        if stored_version is not None and int(stored_version) > SCHEMA_VERSION:
            raise TargetError(
                f"the ledger of this target was written by a newer penstock (its version {stored_version}, known here: "
                f"{SCHEMA_VERSION}). Upgrade penstock on this machine; nothing was changed."
            )

    def fact(self, name: str) -> str | None:
        """A fact about the target as a whole, as :meth:`set_fact` left it."""
        rows = self._sql("select value from {t}meta where name = ?", name).fetchall()
        return rows[0][0] if rows else None

    def set_fact(self, name: str, value: str) -> None:
        self._sql(
            "insert into {t}meta (name, value) values (?, ?) on conflict (name) do update set value = excluded.value",
            *(name, value),
        )
