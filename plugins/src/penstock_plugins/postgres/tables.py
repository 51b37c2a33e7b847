"""
The table of a stream: its creation, its recognition as penstock's, and its migration to the declared columns.

Existing columns are never dropped. Their type changes only to one that holds all of their values.
"""

# Names in statements come from quoted(); values are parameters.

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from attrs import field, frozen
from penstock import EXTRA, Column, Layout, SinkError, TargetError
from psycopg import errors

from penstock_plugins.postgres.catalog import CatalogTable, definition_of, look_up, size_of
from penstock_plugins.postgres.database import (
    Database,
    HeldTableError,
    columns_sql,
    grant,
    literal,
    lock_key,
    quoted,
    short,
)
from penstock_plugins.postgres.ledger import LedgerTable, PostgresLedger

NAIVE, AWARE = "timestamp without time zone", "timestamp with time zone"

# Added to every table. Their defaults are the same for all rows of a commit, so that no row has to carry them.
STAMPS = {
    "_run_id": ("text", "current_setting('penstock.run_id', true)", "the run that wrote this row"),
    "_loaded_at": (AWARE, "now()", "when this row last changed"),
}

SOURCE_COLUMN = "_source"
"""The column of a shared table with each row's source. Part of the key; its default is a setting of the session."""

# Autovacuum keeps up with days that are replaced every day: at a fiftieth of the rows, not at a fifth.
_STORAGE = {
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_insert_scale_factor": 0.05,
    "autovacuum_analyze_scale_factor": 0.02,
}

# A table of an earlier version with at most so many bytes gets an index by the run. Of a larger one, `check` has the
# statement: making an index keeps writers waiting, and one that does not cannot be made in a transaction.
INDEXED_BY_A_RUN = 16 * 2**20

# A change of a table waits for its readers, and later readers wait for the change. Hence several short tries.
TRIES, TRY_MS, BETWEEN_TRIES_S = 8, 1500, 2.0

# A table that a commit waited for in vain is tried again after so many seconds; partitions fail at once in between.
HELD_S = 60.0

_TYPES = {
    "text": "text",
    "integer": "bigint",
    "decimal": "numeric",
    "boolean": "boolean",
    "date": "date",
    "json": "jsonb",
}

# From -> to: every value of the one is a value of the other.
_WIDER = {
    "smallint": ("integer", "bigint", "numeric"),
    "integer": ("bigint", "numeric"),
    "bigint": ("numeric",),
    "date": (NAIVE,),
    "character varying": ("text",),
}


def type_of(column: Column) -> str:
    """The SQL type of a column, as ``format_type`` names it."""
    if column.type == "datetime":
        return AWARE if column.zone == "aware" else NAIVE
    return _TYPES[column.type]


@frozen(kw_only=True)
class Table:
    """
    A stream's table. ``types``: the types of the delivered columns in the table, in order, which may be wider than the
    declared ones. ``key``: the columns that identify a row of the source; none for a stream without a key. ``added``:
    columns that this run added, so that no earlier row has a value in them. ``shared``: by several sources, each row
    with its source in :data:`SOURCE_COLUMN`. ``altering``: it has triggers or rules of somebody's, which may alter what
    is written. ``definition``: of its columns, triggers and rules, as :func:`definition_of` finds it.
    """

    schema: str
    name: str
    layout: Layout = field(repr=False)
    types: Mapping[str, str]
    key: tuple[str, ...]
    added: frozenset[str] = frozenset()
    shared: bool = False
    altering: bool = False
    oid: int = 0
    definition: str = ""

    @property
    def unique(self) -> tuple[str, ...]:
        """The columns of its unique index."""
        return (SOURCE_COLUMN, *self.key) if self.shared and self.key else self.key

    @property
    def comparable(self) -> bool:
        """Whether the key identifies its rows: there is one, and no column of it may be null."""
        return bool(self.key) and not _nullable_key(self.layout)

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.types)


def _nullable_key(layout: Layout) -> bool:
    # Rows with a null key are rejected before, except for derived rows.
    key = layout.unique_columns
    return bool(layout.derived_by) and any(column.nullable for column in layout.columns if column.name in key)


class Place(NamedTuple):
    """The place of a stream's rows, and the options of a table that is made there."""

    schema: str
    table: str
    of_stream: str = ""  # the stream whose partitions contain the rows
    shared: bool = False  # by several sources
    day_index: bool = True
    grant_to: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.table)}"


@contextmanager
def short_wait(database: Database) -> Iterator[None]:
    """A transaction that waits for locks as long as one try of a change. Raises HeldTableError."""
    with database.explained(), database.transaction():
        database.run("select set_config('lock_timeout', %s, true)", (f"{TRY_MS}ms",))
        yield


class Tables:
    """The tables of one source in one run: checked before the first request, made on first use."""

    def __init__(
        self, database: Database, ledger: PostgresLedger, source: str, place_of: Callable[[Layout], Place]
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._source = source
        self._place_of = place_of
        self._tables: dict[str, tuple[Layout, Table]] = {}
        self._added: dict[str, frozenset[str]] = {}
        self._refused: dict[str, SinkError] = {}
        self._held: dict[str, tuple[SinkError, float]] = {}  # by table: why a commit failed, and when it is tried next
        self._lacking: dict[str, list[str]] = {}  # by stream, what a table of an earlier version lacks

    def check(self, layouts: Sequence[Layout]) -> None:
        """
        Check that all these streams can be written. Missing columns are added to existing tables; no table is made yet.

        Raises TargetError with all problems: a schema or table that may not be made or written, that is not penstock's
        or belongs to another stream, or that contradicts the declaration.
        """
        found = []
        places = [self._place_of(layout) for layout in layouts]
        changes = []
        with self._database.explained():
            known = {one.stream: one for one in self._ledger.tables(self._source)}
            for layout, place, seen in zip(layouts, places, look_up(self._database, _names(places)), strict=True):
                try:
                    if self._needed(layout, known.get(layout.stream), place, seen):
                        changes.append(layout)
                except TargetError as error:
                    found.append(str(error))
        if found:
            raise TargetError("\n".join(dict.fromkeys(found)))
        for layout in changes:
            try:
                self.table(layout)
            except SinkError as error:
                self._refused[layout.stream] = error

    def table(self, layout: Layout) -> Table:
        """
        The table for a layout, made or brought up to date once in a run.

        Raises TargetError, as :meth:`check` does, and SinkError if the table stays locked; both again, without a new
        try, for every further call with the stream.
        """
        if (refused := self._refused.get(layout.stream)) is not None:
            raise refused
        known = self._tables.get(layout.stream)
        if known is None or known[0] != layout:
            known = self._tables[layout.stream] = (layout, self._prepared(layout))
        return known[1]

    def _prepared(self, layout: Layout) -> Table:
        place = self._place_of(layout)
        for _ in range(TRIES):
            try:
                with short_wait(self._database):
                    # Sources of one fresh run must not both make the table.
                    self._database.run("select pg_advisory_xact_lock(%s)", (lock_key(""),))
                    made = self._made(layout, place)
                self._keep_up(layout)
                return made
            except SinkError as error:
                if not isinstance(error.__cause__, errors.LockNotAvailable):
                    raise
            self._database.pause(BETWEEN_TRIES_S)
        self._refused[layout.stream] = SinkError(
            f"the table {place.name} is to be changed for {layout.source}.{layout.stream}, and others hold it "
            f"({self.holders(place.sql)}): {TRIES} tries of {TRY_MS / 1000} s were in vain. What was there stays. End "
            "these sessions, and run again."
        )
        raise self._refused[layout.stream]

    def waited_in_vain(self, tables: Sequence[Table]) -> SinkError:
        """
        The error of a commit that waited for another session's lock on one of these tables, or on rows of it. For the
        rest of the run, statements wait no longer than one try of a change.
        """
        waited = self._database.lock_timeout
        self._database.lock_timeout = f"{TRY_MS}ms"
        for table in tables:
            error = SinkError(
                f"{table.sql}: other sessions hold a lock ({self.holders(table.sql)}), and the commit waited "
                f"{waited} for it. What was there stays. Wait for these sessions to end, or end them, and run again."
            )
            self._held[table.sql] = error, 0.0
        return self._held[tables[0].sql][0]

    def check_free(self, tables: Sequence[Table]) -> None:
        """Of tables for which a commit waited in vain: raises its error while they are held, without a wait."""
        for table in tables:
            if (held := self._held.get(table.sql)) is None:
                continue
            error, next_try = held
            if time.monotonic() >= next_try:
                try:
                    with short_wait(self._database):
                        self._database.run(f"lock table {table.sql} in row exclusive mode")
                    del self._held[table.sql]
                    continue
                except HeldTableError:
                    self._held[table.sql] = error, time.monotonic() + HELD_S
            raise SinkError(str(error))

    def check_unchanged(self, tables: Sequence[Table]) -> None:
        """
        Inside the transaction that wrote to these tables, which keeps their definitions: raises SinkError where one is
        not as it was when the run looked at it. A type that somebody changed meanwhile may round what was sent.
        """
        for table in {table.oid: table for table in tables}.values():
            if definition_of(self._database, table.oid, table.columns) != table.definition:
                self._tables.pop(table.layout.stream, None)
                raise SinkError(
                    f"{table.sql} was changed while the run wrote to it: its columns, a trigger or a rule. Nothing was "
                    "replaced; run again."
                )

    def _keep_up(self, layout: Layout) -> None:
        """Give a table of an earlier version what it lacks, in one short try; it is not needed to write."""
        for statement in self._lacking.pop(layout.stream, []):
            with suppress(SinkError, TargetError), short_wait(self._database):
                self._database.run(statement)

    def holders(self, table: str) -> str:
        rows = self._database.run(
            "select distinct a.pid, a.state, a.usename from pg_locks l join pg_stat_activity a using (pid) "
            "where l.relation = to_regclass(%s) and l.granted and l.pid <> pg_backend_pid() order by 1 limit 5",
            (table,),
        ).fetchall()
        return ", ".join(f"session {pid} of {user}, {state}" for pid, state, user in rows) or "who, cannot be seen"

    def _made(self, layout: Layout, place: Place) -> Table:
        (seen,) = look_up(self._database, _names([place]))
        known = next((one for one in self._ledger.tables(layout.source) if one.stream == layout.stream), None)
        steps = self._needed(layout, known, place, seen)
        if seen.oid is None:
            _create(self._database, layout, place, schema=not seen.schema)
        else:
            _evolve(self._database, place, steps)
            self._lacking[layout.stream] = _upkeep(self._database, layout, place, seen)
        if seen.oid is None or steps:
            (seen,) = look_up(self._database, _names([place]))
        assert seen.oid is not None
        kept = LedgerTable(
            stream=layout.stream,
            of_stream=place.of_stream or layout.stream,
            oid=seen.oid,
            schema=place.schema,
            table=place.table,
        )
        if kept != known:
            self._ledger.keep_table(layout.source, kept)
        if layout.kind == "changes" and self._ledger.merged_rows(layout.source, layout.stream) is None:
            self._count_merged(layout, place, shared=_is_shared(layout, place, seen))
        self._grant(place)
        added = {step.column.name for step in steps if step.column is not None and step.adds}
        self._added[layout.stream] = self._added.get(layout.stream, frozenset()) | added
        return Table(
            schema=place.schema,
            name=place.table,
            layout=layout,
            types={column.name: seen.types[short(column.name)] for column in layout.columns},
            key=layout.unique_columns,
            added=self._added[layout.stream],
            shared=_is_shared(layout, place, seen),
            altering=seen.altering,
            oid=seen.oid,
            definition=definition_of(self._database, seen.oid, [column.name for column in layout.columns]),
        )

    def _count_merged(self, layout: Layout, place: Place, *, shared: bool) -> None:
        where, values = of_source(layout.source, shared=shared)
        rows = self._database.one(f"select count(*) from {place.sql} where {where}", values)  # noqa: S608
        self._ledger.count_merged(layout.source, layout.stream, rows)

    def _grant(self, place: Place) -> None:
        for role in place.grant_to:
            grant(self._database, role, place.schema, [place.table])

    def _needed(self, layout: Layout, known: LedgerTable | None, place: Place, seen: CatalogTable) -> "list[_Step]":
        """
        The changes to an existing table that ``layout`` needs. Raises TargetError if they are not possible, or if this
        user may not make them.
        """
        _check_names(layout, place, self._ledger.schema)
        if seen.oid is None:
            if known is not None and (found := located(self._database, self._source, known)) is not None:
                raise TargetError(_elsewhere(layout, found, place))
            _check_rights(layout, place, seen)
            return []
        self._ours(layout, known, place, seen)
        _check_key(layout, place, seen)
        self._check_source(layout, place, seen)
        _check_others(layout, place, seen)
        steps = _steps(layout, place, seen)
        _check_rights(layout, place, seen, steps)
        return steps

    def _check_source(self, layout: Layout, place: Place, seen: CatalogTable) -> None:
        """Refuse a shared table whose default would give rows of this source to another one, or to none."""
        if not _is_shared(layout, place, seen):
            return
        with short_wait(self._database):  # the server locks the table to write an expression
            default = self._database.one(
                "select pg_get_expr(adbin, adrelid) from pg_attrdef join pg_attribute on attrelid = adrelid and "
                "attnum = adnum where adrelid = %s::bigint::oid and attname = %s",
                (seen.oid, SOURCE_COLUMN),
            )
        if "'penstock.source'" not in (default or ""):
            table = f"{_as_sql(short(place.schema))}.{_as_sql(short(place.table))}"
            raise TargetError(
                f"the column {SOURCE_COLUMN} of the table {place.schema}.{place.table} has lost its default, by which "
                f"each row gets its source. Its owner {seen.owner} must run: alter table {table} alter column "
                f"{SOURCE_COLUMN} set default {_SOURCE_DEFAULT}. Nothing was changed."
            )

    def check_adoptable(self, layout: Layout, place: Place) -> tuple[int, bool]:
        """
        The oid of an existing table that can become the one of ``layout``, and whether sources share it.

        Raises TargetError.
        """
        _check_names(layout, place, self._ledger.schema)
        (seen,) = look_up(self._database, _names([place]))
        if seen.oid is None or not seen.table:
            what = "there is no table" if seen.oid is None else "no table, but something else, is"
            raise TargetError(f"{what} {place.name} in the database {seen.database}. Nothing was changed.")
        self._refuse_taken(layout, place, seen)
        shared = _is_shared(layout, place, seen)
        mark = mark_of(layout.source, layout.stream, shared=shared)
        marks = [line.strip() for line in seen.comment.splitlines() if line.strip().startswith(_MARK)]
        if marks and mark not in marks:
            raise TargetError(
                f"the comment of the table {place.name} has the line {marks[0]!r}: it is of another stream. If that is "
                "not so any more, remove the line, and adopt the table then."
            )
        _check_key(layout, place, seen)
        self._check_source(layout, place, seen)
        _check_others(layout, place, seen)
        _check_rights(layout, place, seen, _steps(layout, place, seen))
        if not seen.owned and mark not in marks:
            raise TargetError(
                f"only its owner {seen.owner} may comment the table {place.name}, not {seen.user}. The owner must run: "
                f"comment on table {place.sql} is '{mark}'."
            )
        return seen.oid, shared

    def adopt(self, layout: Layout, place: Place, known: LedgerTable, *, shared: bool) -> None:
        """Mark an existing table as the one of ``layout``, and record it."""
        with self._database.transaction():
            (seen,) = look_up(self._database, _names([place]))
            if not is_marked(seen.comment, layout.source, layout.stream, shared=shared):
                text = seen.comment or layout.summary or layout.stream
                mark = mark_of(layout.source, layout.stream, shared=shared)
                _comment(self._database, f"table {place.sql}", f"{text}\n\n{mark}")
            self._ledger.keep_table(layout.source, known)

    def unrecognised(self, layouts: Sequence[Layout]) -> list[str]:
        """The places of existing tables of streams in the ledger that are not recognised as theirs."""
        streams = {one.stream for one in self._ledger.tables(self._source)}
        chosen = [layout for layout in layouts if layout.stream in streams]
        places = [self._place_of(layout) for layout in chosen]
        return [
            place.name
            for layout, place, seen in zip(chosen, places, look_up(self._database, _names(places)), strict=True)
            if seen.table and not self._is_recognised(layout, place, seen)
        ]

    def _is_recognised(self, layout: Layout, place: Place, seen: CatalogTable) -> bool:
        """
        Whether a table is the one of the stream, by its place and the mark in its comment. Its oid changes with a dump,
        so that it counts only together with the place.
        """
        same = [one for of, one in self._ledger.at(place.schema, place.table) if of == layout.source]
        marked = is_marked(seen.comment, layout.source, layout.stream, shared=_is_shared(layout, place, seen))
        return seen.table and (marked or bool(same and same[0].oid == seen.oid))

    def _refuse_taken(self, layout: Layout, place: Place, seen: CatalogTable) -> None:
        """Refuse a table that has another stream, or another source although it is not shared."""
        for source, other in self._ledger.at(place.schema, place.table):
            if (source, other.stream) == (layout.source, layout.stream):
                continue
            if other.stream != layout.stream or not _is_shared(layout, place, seen):
                raise TargetError(_taken(layout, place, source, other, seen))

    def _ours(self, layout: Layout, known: LedgerTable | None, place: Place, seen: CatalogTable) -> None:
        """Refuse a table that is not penstock's, or of another stream."""
        self._refuse_taken(layout, place, seen)
        if self._is_recognised(layout, place, seen):
            if known is not None and (known.schema, known.table) != (place.schema, place.table):
                old = located(self._database, self._source, known)
                if old is not None and old.oid != seen.oid:
                    raise TargetError(_elsewhere(layout, old, place))
            return
        raise TargetError(_foreign(layout, place, seen, shared=_is_shared(layout, place, seen)))


def _names(places: Sequence[Place]) -> list[tuple[str, str]]:
    return [(place.schema, place.table) for place in places]


def _is_shared(layout: Layout, place: Place, seen: CatalogTable) -> bool:
    """Whether the table is shared: an existing one if it has the column, a new one if the settings share it."""
    if any(column.name == SOURCE_COLUMN for column in layout.columns):
        return False
    return SOURCE_COLUMN in seen.types if seen.oid is not None else place.shared


class _Step(NamedTuple):
    """One change of a table: the SQL after ``alter table ...``, and the declared column that it concerns, if any."""

    sql: str
    column: Column | None = None
    adds: bool = False


def _check_names(layout: Layout, place: Place, ledger_schema: str) -> None:
    """Refuse names that Postgres or the ledger reserves."""
    for name in (place.schema, place.table, *(column.name for column in layout.columns)):
        quoted(name)
    if place.schema == ledger_schema:
        raise TargetError(f"the schema {ledger_schema} holds the ledger. Set another schema for {layout.source}.")
    if place.shared and any(column.name == SOURCE_COLUMN for column in layout.columns):
        raise TargetError(
            f"{layout.source}.{layout.stream} has a column {SOURCE_COLUMN} of its own, so that its table cannot be "
            "shared by several sources. Set a schema with {source} in it."
        )
    if place.schema.startswith("pg_") or place.schema == "information_schema":
        raise TargetError(f"Postgres keeps the schema {place.schema} for itself. Set another one for {layout.source}.")


def _check_rights(layout: Layout, place: Place, seen: CatalogTable, steps: Sequence[_Step] = ()) -> None:
    """Raises TargetError for missing rights, with the statement that grants them."""
    user, database, schema, table = map(_as_sql, (seen.user, seen.database, short(place.schema), short(place.table)))
    if not seen.schema and not seen.may_create:
        raise TargetError(
            f"there is no schema {place.schema} in the database {seen.database}, and {seen.user} may not create it. "
            f"Its owner must run: create schema {schema} authorization {user}; or set another schema."
        )
    if seen.schema and not (seen.may_use and (seen.oid is not None or seen.may_create)):
        raise TargetError(
            f"{seen.user} may not make or use tables in the schema {place.schema}. Its owner must run: grant usage, "
            f"create on schema {schema} to {user}; or set another schema."
        )
    if not seen.may_stage:
        raise TargetError(
            f"{seen.user} may not make temporary tables in the database {seen.database}, by which rows are replaced. "
            f"Its owner must run: grant temporary on database {database} to {user}."
        )
    name = f"{place.schema}.{place.table}"
    rights = ["select", "insert", "update", "delete"]
    if missing := [right for right in rights if right in seen.lacking]:
        raise TargetError(
            f"{seen.user} may not {', '.join(missing)} in the table {name}. Its owner {seen.owner} must run: grant "
            f"{', '.join(rights)} on {schema}.{table} to {user}."
        )
    if seen.guarded:
        raise TargetError(
            f"row-level security of the table {name} holds for {seen.user}: rows that are there may be hidden from it. "
            f"Its owner {seen.owner} must run: alter table {schema}.{table} disable row level security; or a "
            f"superuser must run: alter role {user} bypassrls."
        )
    if steps and not seen.owned:
        raise TargetError(
            f"the table {name} is to be changed for {layout.source}.{layout.stream}, and only its owner {seen.owner} "
            f"may, not {seen.user}. The owner must run: alter table {schema}.{table} "
            f"{', '.join(step.sql for step in steps)}."
        )


def _elsewhere(layout: Layout, found: "Located", place: Place) -> str:
    return (
        f"the rows of {layout.source}.{layout.stream} are in the table {found.sql}, and the sink's settings name "
        f"{place.name}. Either move the table there (alter table ... set schema ..., rename to ...), or set schema and "
        "table of the sink to its present place; then run again. Nothing was changed."
    )


def of_source(source: str, *, shared: bool) -> tuple[str, list[str]]:
    """The condition for the rows of a source, and its parameters. A shared table has those of others, too."""
    return (f"{SOURCE_COLUMN} = %s", [source]) if shared else ("true", [])


class Located(NamedTuple):
    """
    The present place of a table that penstock made. ``ours``: it is recognised; ``shared``: by several sources;
    ``readable``: this user may read it.
    """

    oid: int
    sql: str
    ours: bool
    shared: bool
    readable: bool


def located(database: Database, source: str, known: LedgerTable) -> Located | None:
    """
    The table at its recorded place, or at another one if it has the mark. None: it was dropped.
    """
    rows = database.run(
        "select c.oid::bigint, n.nspname::text, c.relname::text, coalesce(obj_description(c.oid, 'pg_class'), ''), "
        "exists (select from pg_attribute where attrelid = c.oid and attname = %s and not attisdropped), "
        "has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'), "
        "(n.nspname, c.relname) = (%s, %s) as here from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where c.relkind in ('r', 'p') and ((n.nspname, c.relname) = (%s, %s) or c.oid = %s::bigint::oid) "
        "order by here desc",
        (SOURCE_COLUMN, *(short(known.schema), short(known.table)) * 2, known.oid),
    ).fetchall()
    for oid, schema, table, comment, shared, readable, here in rows:
        marked = is_marked(comment, source, known.stream, shared=shared)
        if here or marked:
            sql = f"{_as_sql(schema)}.{_as_sql(table)}".replace("%", "%%")
            ours = marked or oid == known.oid
            return Located(oid=oid, sql=sql, ours=ours, shared=shared, readable=readable)
    return None


def check_readable(database: Database, found: Located) -> None:
    """Raises TargetError if this user may not read the table, with the statements that grant it."""
    if not found.readable:
        user = database.one("select current_user::text")
        role, schema = _as_sql(user), found.sql.partition('".')[0] + '"'
        raise TargetError(
            f"{database.place}: {user} may not read the table {found.sql}. Its owner must run: grant usage on schema "
            f"{schema} to {role}; grant select on {found.sql} to {role}; or name another user."
        )


def _taken(layout: Layout, place: Place, source: str, other: LedgerTable, seen: CatalogTable) -> str:
    ours = f"{layout.source}.{layout.stream}"
    fault = f"the table {place.name} holds {source}.{other.stream}, and {ours} is to be there too. "
    if other.stream != layout.stream or not place.shared:
        return fault + "Give them different tables: set schema or table of the sink."
    schema, table = _as_sql(short(place.schema)), _as_sql(short(place.table))
    key = ", ".join(map(_as_sql, (SOURCE_COLUMN, *layout.unique_columns)))
    comment = literal(_comment_of(layout, shared=True))
    index = f"; create unique index on {schema}.{table} ({key})" if layout.unique_columns else ""
    return fault + (
        f"It was made for one source only. To share it, drop its primary key, and run: alter table {schema}.{table} "
        f"add column {SOURCE_COLUMN} text not null default {literal(source)}, alter column {SOURCE_COLUMN} set default "
        f"{_SOURCE_DEFAULT}{index}; comment on table {schema}.{table} is {comment}. Or give them different tables: "
        "set schema or table of the sink."
    )


def _foreign(layout: Layout, place: Place, seen: CatalogTable, *, shared: bool) -> str:
    name = f"{_as_sql(short(place.schema))}.{_as_sql(short(place.table))}"
    adopt = (
        f"If it is the table of {layout.source}.{layout.stream} (restored without comments, or made anew by you), "
        f"adopt it: penstock check {layout.source} --adopt {place.name} (--adopt all: every such table); or let its "
        f"owner run: comment on table {name} "
        f"is '{mark_of(layout.source, layout.stream, shared=shared)}'. "
        if seen.table
        else ""
    )
    return (
        f"the table {place.name} was not made by penstock. {adopt}Rename it, or set another schema or table for "
        f"{layout.source}.{layout.stream}; it was not touched."
    )


def _as_sql(name: str) -> str:
    """A name, quoted for a statement that the user is to run."""
    return '"' + name.replace('"', '""') + '"'


# --- making ---------------------------------------------------------------------------------------------------------


_SOURCE_DEFAULT = "current_setting('penstock.source')"


def _create(database: Database, layout: Layout, place: Place, *, schema: bool) -> None:
    if schema:
        database.run(f"create schema {quoted(place.schema)}")
    lines = [f"{quoted(column.name)} {type_of(column)}" for column in layout.columns]
    lines += [f"{quoted(name)} {type_} default {default}" for name, (type_, default, _) in STAMPS.items()]
    key: tuple[str, ...] = layout.unique_columns
    by_source: tuple[str, ...] = ()
    if place.shared:
        by_source = (SOURCE_COLUMN,)
        lines.append(f"{quoted(SOURCE_COLUMN)} text not null default {_SOURCE_DEFAULT}")
    if key and not _nullable_key(layout):
        lines.append(f"primary key ({columns_sql((*by_source, *key))})")
    database.run(f"create table {place.sql} ({', '.join(lines)}) with ({_storage(_STORAGE)})")
    if key and _nullable_key(layout):
        database.run(f"create unique index on {place.sql} ({columns_sql((*by_source, *key))})")
    for columns in _indexes(layout, key, day_index=place.day_index):
        database.run(f"create index on {place.sql} ({columns_sql(columns)})")
    _comment(database, f"table {place.sql}", _comment_of(layout, shared=place.shared))
    for column in layout.columns:
        _describe(database, place.sql, column)
    for name, (_, _, description) in STAMPS.items():
        _comment(database, f"column {place.sql}.{quoted(name)}", description)
    if place.shared:
        _comment(database, f"column {place.sql}.{quoted(SOURCE_COLUMN)}", "the source whose row it is")


def _comment_of(layout: Layout, *, shared: bool) -> str:
    return f"{layout.summary or layout.stream}\n\n{mark_of(layout.source, layout.stream, shared=shared)}"


_MARK = "Written by penstock: "


def mark_of(source: str, stream: str, *, shared: bool) -> str:
    """The line of a table's comment by which the table is recognised."""
    return f"{_MARK}{'*' if shared else source}.{stream}"


def is_marked(comment: str, source: str, stream: str, *, shared: bool) -> bool:
    """Whether a table's comment has the mark of the stream."""
    return mark_of(source, stream, shared=shared) in (line.strip() for line in comment.splitlines())


def _indexes(layout: Layout, key: Sequence[str], *, day_index: bool) -> list[tuple[str, ...]]:
    """
    The columns of further indexes: those by which rows are replaced, unless the key's index begins with them; and the
    day, for queries across accounts.
    """
    names = [column.name for column in layout.columns]
    found = layout.derived_by if layout.kind == "changes" else layout.partition_columns
    by = tuple(name for name in found if name in names)
    indexes = [by] if by and tuple(key[: len(by)]) != by else []
    days = [column.name for column in layout.columns if column.type == "date" and column.name in by[-1:]]
    if day_index and layout.kind == "report" and days and len(by) > 1:
        indexes.append(tuple(days))
    return indexes


def _storage(settings: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


def _upkeep(database: Database, layout: Layout, place: Place, seen: CatalogTable) -> list[str]:
    """The statements that give a table of an earlier version the settings and the index that a new one has."""
    if not (seen.owned and seen.plain):
        return []
    statements = []
    if missing := {name: value for name, value in _STORAGE.items() if name not in seen.options}:
        statements.append(f"alter table {place.sql} set ({_storage(missing)})")
    needed = [
        columns
        for columns in _indexes(layout, layout.unique_columns, day_index=place.day_index)
        if len(columns) == 1 and short(columns[0]) not in seen.indexed
    ]
    if needed and size_of(database, seen) <= INDEXED_BY_A_RUN:
        statements += [f"create index on {place.sql} ({columns_sql(columns)})" for columns in needed]
    return statements


def day_index_advice(database: Database, place: Place, day: str, seen: CatalogTable) -> str | None:
    """The advice to make an index on the day, where a table is large and has none."""
    if not seen.plain or not place.day_index or seen.types.get(day) != "date" or day in seen.indexed:
        return None
    if size_of(database, seen) <= INDEXED_BY_A_RUN:
        return None
    return (
        f"the table {place.name} has no index on {day}: reading a day across accounts reads all of it. Its owner may "
        f"run: create index concurrently on {place.sql} ({quoted(day)})"
    )


def _describe(database: Database, table: str, column: Column) -> None:
    parts = [column.description, f"Unit: {column.unit}" if column.unit else ""]
    if column.type == "datetime" and column.zone == "naive":
        parts.append("The provider states no time zone")
    text = ". ".join(part.rstrip(".") for part in parts if part)
    if not text and column.name != EXTRA:
        text = f"The provider's {column.member}" if column.member and not column.added else "Added by penstock"
    _comment(database, f"column {table}.{quoted(column.name)}", text or "members that the record class does not know")


def _comment(database: Database, on: str, text: str) -> None:
    # COMMENT takes no parameters; the server quotes the text.
    escaped = database.one("select quote_literal(%s)", (text.replace("\0", ""),))
    database.run(f"comment on {on} is {escaped.replace('%', '%%')}")


# --- evolving -------------------------------------------------------------------------------------------------------


def _steps(layout: Layout, place: Place, seen: CatalogTable) -> list[_Step]:
    """
    The columns to add and to widen. Raises TargetError for a contradiction. A column that is not declared any more
    stays, and is null in new rows.
    """
    steps = []
    for column in layout.columns:
        there, declared = seen.types.get(short(column.name)), type_of(column)
        if there is None:
            steps.append(_Step(f"add column {quoted(column.name)} {declared}", column, adds=True))
        elif there == declared or declared in _narrower(there):
            continue
        elif declared in _WIDER.get(there, ()):
            steps.append(_Step(f"alter column {quoted(column.name)} type {declared}", column))
        else:
            raise TargetError(_contradiction(layout, place, column, there, declared))
    for name, (type_, default, _) in STAMPS.items():
        if name not in seen.types:
            steps.append(_Step(f"add column {quoted(name)} {type_} default {default}"))
    return steps


def _evolve(database: Database, place: Place, steps: Sequence[_Step]) -> None:
    table = place.sql
    if steps:
        database.run(f"alter table {table} {', '.join(step.sql for step in steps)}")
    for step in steps:
        if step.adds and step.column is not None:
            _describe(database, table, step.column)


def _narrower(there: str) -> tuple[str, ...]:
    """The types that a column of this type can hold."""
    return {"numeric": ("bigint",), NAIVE: ("date",)}.get(there, ())


def _contradiction(layout: Layout, place: Place, column: Column, there: str, declared: str) -> str:
    name = f"{place.schema}.{place.table}.{column.name}"
    return (
        f"the column {name} has the type {there}, and {layout.source}.{layout.stream} declares {declared}; a run does "
        f"not convert the one to the other. Choose: rename the column, and the next run adds a new one; or convert it "
        f"(alter table ... alter column ... type {declared} using ...); or leave it out "
        f'(exclude = ["{layout.stream}.{column.name}"]). Nothing was changed.'
    )


def _check_key(layout: Layout, place: Place, seen: CatalogTable) -> None:
    declared = layout.unique_columns
    if declared and _is_shared(layout, place, seen):
        declared = (SOURCE_COLUMN, *declared)
    if declared and {short(name) for name in declared} not in seen.keys:
        unique = " or ".join(f"({', '.join(sorted(names))})" for names in seen.keys)
        found = f"is unique by {unique}" if seen.keys else "has no unique index"
        raise TargetError(
            f"the table {place.schema}.{place.table} {found}, and {layout.source}.{layout.stream} declares the "
            f"key ({', '.join(declared)}). Make a unique index on these columns, or rename the table and run again: "
            "then it is made and filled anew. Nothing was changed."
        )


def _check_others(layout: Layout, place: Place, seen: CatalogTable) -> None:
    """Refuse a column of the user's that needs a value in each row: no row could be written."""
    ours = {*(short(column.name) for column in layout.columns), *STAMPS}
    if others := [name for name in seen.required if name not in ours]:
        raise TargetError(
            f"the table {place.schema}.{place.table} has a column that must not be null and that "
            f"{layout.source}.{layout.stream} has no values for: {', '.join(others)}. Give it a default, or drop not "
            "null; nothing was changed."
        )
