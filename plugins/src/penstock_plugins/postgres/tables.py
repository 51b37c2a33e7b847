"""
The table of a stream: made, recognised as ours, and brought up to what its record class declares today.

What is there is never dropped, and never rewritten but to a type that holds every value it had.
"""

from collections.abc import Mapping, Sequence

from attrs import field, frozen
from penstock import Column, Layout, TargetError

from penstock_plugins.postgres.catalog import Seen, look
from penstock_plugins.postgres.database import Database, columns_sql, quoted, short
from penstock_plugins.postgres.ledger import SCHEMA, Known, PostgresLedger

NAIVE, AWARE = "timestamp without time zone", "timestamp with time zone"

# Added to every table. Their defaults are the same for all rows of a commit, so that no row has to carry them.
STAMPS = {
    "_run_id": ("text", "current_setting('penstock.run_id', true)", "the run that wrote this row"),
    "_loaded_at": (AWARE, "now()", "when this row was written"),
}

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
    A stream's table. ``types``: of the delivered columns, in order, what the table has (which may be wider than what
    is declared). ``key``: the columns of its unique index, none for a stream without a key. ``added``: columns that
    came to the table when it was prepared, so that no earlier row has a value in them.
    """

    schema: str
    name: str
    layout: Layout = field(repr=False)
    types: Mapping[str, str]
    key: tuple[str, ...]
    added: frozenset[str] = frozenset()

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.types)


def key_of(layout: Layout) -> tuple[str, ...]:
    """What is unique in a stream's table: partition and key; of ``changes``, whose rows move between days, the key."""
    if not layout.key:
        return ()
    if layout.kind == "changes":
        return layout.key
    return tuple(dict.fromkeys((*layout.partition_columns, *layout.key)))


def prepared(database: Database, ledger: PostgresLedger, layout: Layout, of_stream: str, place: Known) -> Table:
    """
    The table for ``layout``, made or brought up to date in one transaction.

    Raises TargetError, as :func:`checked` does.
    """
    with database.explained(), database.transaction():
        (seen,) = look(database, [place])
        known = next((one for one in ledger.known(layout.source) if one.stream == layout.stream), None)
        steps = _needed(database, ledger, layout, known, place, seen)
        if seen.oid is None:
            _create(database, layout, place, schema=not seen.schema)
        else:
            _evolve(database, place, steps)
        if seen.oid is None or steps:
            (seen,) = look(database, [place])
        assert seen.oid is not None
        ledger.keep_table(
            layout.source,
            Known(stream=layout.stream, of_stream=of_stream, oid=seen.oid, schema=place.schema, table=place.table),
        )
        return Table(
            schema=place.schema,
            name=place.table,
            layout=layout,
            types={column.name: seen.types[short(column.name)] for column in layout.columns},
            key=key_of(layout),
            added=frozenset(step.column.name for step in steps if step.column is not None and step.adds),
        )


def checked(database: Database, ledger: PostgresLedger, layouts: Sequence[Layout], places: Sequence[Known]) -> None:
    """
    Look whether all these streams, which are of one source, can be written, and change nothing.

    Raises TargetError, which tells of all that cannot: a schema or table that may not be made or written, that is not
    penstock's or belongs to another stream, or that contradicts the declaration.
    """
    found = []
    with database.explained():
        known = {one.stream: one for one in ledger.known(layouts[0].source)} if layouts else {}
        for layout, place, seen in zip(layouts, places, look(database, places), strict=True):
            try:
                _needed(database, ledger, layout, known.get(layout.stream), place, seen)
            except TargetError as error:
                found.append(str(error))
    if found:
        raise TargetError("\n".join(dict.fromkeys(found)))


@frozen
class _Step:
    """One change of a table: the SQL after ``alter table ...``, and the column that it is about, if it is declared."""

    sql: str
    column: Column | None = None
    adds: bool = False


def _needed(
    database: Database, ledger: PostgresLedger, layout: Layout, known: Known | None, place: Known, seen: Seen
) -> list[_Step]:
    """
    What is to be done to the table that is there before ``layout`` fits it; raises TargetError where it never will, or
    where this user may not do it.
    """
    _check_names(layout, place)
    if seen.oid is None:
        if known is not None and exists(database, known):
            raise TargetError(_elsewhere(layout, known, place))
        _check_rights(layout, place, seen)
        return []
    _ours(ledger, layout, known, place, seen)
    _check_key(layout, place, seen)
    _check_others(layout, place, seen)
    steps = _steps(layout, place, seen)
    _check_rights(layout, place, seen, steps)
    return steps


def _check_names(layout: Layout, place: Known) -> None:
    """Refuse names that Postgres, or the ledger, keeps for itself."""
    for name in (place.schema, place.table, *(column.name for column in layout.columns)):
        quoted(name)
    if place.schema == SCHEMA:
        raise TargetError(f"the schema {SCHEMA} holds the ledger. Set another schema for {layout.source}.")
    if place.schema.startswith("pg_") or place.schema == "information_schema":
        raise TargetError(f"Postgres keeps the schema {place.schema} for itself. Set another one for {layout.source}.")


def _check_rights(layout: Layout, place: Known, seen: Seen, steps: Sequence[_Step] = ()) -> None:
    """Refuse what this user may not do, with the statement that would allow it."""
    user, database, schema, table = map(_as_sql, (seen.user, seen.database, short(place.schema), short(place.table)))
    if not seen.schema and not seen.may_create:
        raise TargetError(
            f"there is no schema {place.schema} in the database {seen.database}, and {seen.user} may not create it. "
            f"Let its owner say: create schema {schema} authorization {user}; or set another schema."
        )
    if seen.schema and not (seen.may_use and (seen.oid is not None or seen.may_create)):
        raise TargetError(
            f"{seen.user} may not make or use tables in the schema {place.schema}. Let its owner say: grant usage, "
            f"create on schema {schema} to {user}; or set another schema."
        )
    if not seen.may_stage:
        raise TargetError(
            f"{seen.user} may not make temporary tables in the database {seen.database}, by which rows are replaced. "
            f"Let its owner say: grant temporary on database {database} to {user}."
        )
    name = f"{place.schema}.{place.table}"
    rights = ["select", "insert", "delete"]
    if layout.kind == "changes" and not layout.derived_by:
        rights.append("update")
    if missing := [right for right in rights if right in seen.lacking]:
        raise TargetError(
            f"{seen.user} may not {', '.join(missing)} in the table {name}. Let its owner {seen.owner} say: grant "
            f"{', '.join(rights)} on {schema}.{table} to {user}."
        )
    if steps and not seen.owned:
        raise TargetError(
            f"the table {name} is to be changed for {layout.source}.{layout.stream}, and only its owner {seen.owner} "
            f"may, not {seen.user}. Let the owner say: alter table {schema}.{table} "
            f"{', '.join(step.sql for step in steps)}."
        )


def _elsewhere(layout: Layout, known: Known, place: Known) -> str:
    return (
        f"{layout.source}.{layout.stream} is kept in the table {known.schema}.{known.table}, and is now to be in "
        f"{place.schema}.{place.table}. Either move it (alter table ... set schema ..., rename to ...) and run again, "
        "or set schema and table back; nothing was changed."
    )


def exists(database: Database, known: Known) -> bool:
    """Whether the table is there, where it was or where somebody moved it."""
    return _oid(database, known) is not None or bool(
        database.one("select true from pg_class where oid = %s::bigint::oid and relkind in ('r', 'p')", (known.oid,))
    )


def _oid(database: Database, place: Known) -> int | None:
    found = database.one(
        "select c.oid::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relname = %s",
        (short(place.schema), short(place.table)),
    )
    return int(found) if found is not None else None


def _ours(ledger: PostgresLedger, layout: Layout, known: Known | None, place: Known, seen: Seen) -> None:
    """Refuse a table of somebody else's, or of another stream."""
    name = f"{place.schema}.{place.table}"
    if known is not None:
        if known.oid == seen.oid:
            return
        # Restored from a dump: another number, the same name, and our comment.
        if (known.schema, known.table) == (place.schema, place.table) and _mark(layout) in seen.comment:
            return
    claimed = ledger.at(place.schema, place.table)
    if claimed is not None and (claimed[0], claimed[1].stream) != (layout.source, layout.stream):
        source, other = claimed
        raise TargetError(
            f"the table {name} holds {source}.{other.stream}, and {layout.source}.{layout.stream} is to be there too. "
            "Give them different tables: set schema or table of the sink."
        )
    raise TargetError(
        f"the table {name} was not made by penstock. Rename it, or set another schema or table for "
        f"{layout.source}.{layout.stream}; it was not touched."
    )


def _as_sql(name: str) -> str:
    """A name as it may stand in a statement that somebody else is to say."""
    return '"' + name.replace('"', '""') + '"'


# --- making ---------------------------------------------------------------------------------------------------------


def _create(database: Database, layout: Layout, place: Known, *, schema: bool) -> None:
    if schema:
        database.run(f"create schema {quoted(place.schema)}")
    table = f"{quoted(place.schema)}.{quoted(place.table)}"
    lines = [f"{quoted(column.name)} {type_of(column)}" for column in layout.columns]
    lines += [f"{quoted(name)} {type_} default {default}" for name, (type_, default, _) in STAMPS.items()]
    key = key_of(layout)
    # A key of None is rejected before, but for derived rows, which a provider may send without a name.
    nullable = layout.derived_by and any(column.nullable for column in layout.columns if column.name in key)
    if key and not nullable:
        lines.append(f"primary key ({columns_sql(key)})")
    database.run(f"create table {table} ({', '.join(lines)})")
    if key and nullable:
        database.run(f"create unique index on {table} ({columns_sql(key)})")
    for columns in _indexes(layout, key):
        database.run(f"create index on {table} ({columns_sql(columns)})")
    summary = layout.summary or layout.stream
    _comment(database, f"table {table}", f"{summary}\n\n{_mark(layout)}")
    for column in layout.columns:
        _describe(database, table, column)
    for name, (_, _, description) in STAMPS.items():
        _comment(database, f"column {table}.{quoted(name)}", description)


def _mark(layout: Layout) -> str:
    return f"Written by penstock: {layout.source}.{layout.stream}"


def _indexes(layout: Layout, key: Sequence[str]) -> list[tuple[str, ...]]:
    """What rows are replaced by and the key's index does not begin with."""
    names = [column.name for column in layout.columns]
    found = layout.derived_by if layout.kind == "changes" else layout.partition_columns
    by = tuple(name for name in found if name in names)
    return [by] if by and tuple(key[: len(by)]) != by else []


def _describe(database: Database, table: str, column: Column) -> None:
    parts = [column.description, f"Unit: {column.unit}" if column.unit else ""]
    if column.type == "datetime" and column.zone == "naive":
        parts.append("The provider states no time zone")
    if text := ". ".join(part.rstrip(".") for part in parts if part):
        _comment(database, f"column {table}.{quoted(column.name)}", text)


def _comment(database: Database, on: str, text: str) -> None:
    # COMMENT takes no parameters; the server quotes the text.
    literal = database.one("select quote_literal(%s)", (text.replace("\0", ""),))
    database.run(f"comment on {on} is {literal.replace('%', '%%')}")


# --- evolving -------------------------------------------------------------------------------------------------------


def _steps(layout: Layout, place: Known, seen: Seen) -> list[_Step]:
    """
    Columns to be added and widened; raises TargetError for one that contradicts. One that is declared no more stays,
    and stays null.
    """
    steps = []
    for column in layout.columns:
        there, wanted = seen.types.get(short(column.name)), type_of(column)
        if there is None:
            steps.append(_Step(f"add column {quoted(column.name)} {wanted}", column, adds=True))
        elif there == wanted or wanted in _narrower(there):
            continue
        elif wanted in _WIDER.get(there, ()):
            steps.append(_Step(f"alter column {quoted(column.name)} type {wanted}", column))
        else:
            raise TargetError(_contradiction(layout, place, column, there, wanted))
    for name, (type_, default, _) in STAMPS.items():
        if name not in seen.types:
            steps.append(_Step(f"add column {quoted(name)} {type_} default {default}"))
    return steps


def _evolve(database: Database, place: Known, steps: Sequence[_Step]) -> None:
    table = f"{quoted(place.schema)}.{quoted(place.table)}"
    if steps:
        database.run(f"alter table {table} {', '.join(step.sql for step in steps)}")
    for step in steps:
        if step.adds and step.column is not None:
            _describe(database, table, step.column)


def _narrower(there: str) -> tuple[str, ...]:
    """The types a column of this type may be declared as, because it holds all their values."""
    return {"numeric": ("bigint",), NAIVE: ("date",)}.get(there, ())


def _contradiction(layout: Layout, place: Known, column: Column, there: str, wanted: str) -> str:
    name = f"{place.schema}.{place.table}.{column.name}"
    return (
        f"the column {name} has the type {there}, and {layout.source}.{layout.stream} declares {wanted}, which is "
        f"no wider type. Choose: rename the column, and a new one is added by the next run; or convert it "
        f"(alter table ... alter column ... type {wanted} using ...); or leave it out "
        f'(exclude = ["{layout.stream}.{column.name}"]). Nothing was changed.'
    )


def _check_key(layout: Layout, place: Known, seen: Seen) -> None:
    wanted = key_of(layout)
    if wanted and {short(name) for name in wanted} not in seen.keys:
        unique = " or ".join(f"({', '.join(sorted(names))})" for names in seen.keys)
        found = f"is unique by {unique}" if seen.keys else "has no unique index"
        raise TargetError(
            f"the table {place.schema}.{place.table} {found}, and {layout.source}.{layout.stream} declares the "
            f"key ({', '.join(wanted)}). Make a unique index on these columns, or rename the table and run again: "
            "then it is made and filled anew. Nothing was changed."
        )


def _check_others(layout: Layout, place: Known, seen: Seen) -> None:
    """Refuse a column of the user's that wants a value in each row: no row could be written, nor set aside for it."""
    ours = {*(short(column.name) for column in layout.columns), *STAMPS}
    if others := [name for name in seen.required if name not in ours]:
        raise TargetError(
            f"the table {place.schema}.{place.table} has a column that must not be null and that "
            f"{layout.source}.{layout.stream} has no values for: {', '.join(others)}. Give it a default, or drop not "
            "null; nothing was changed."
        )
