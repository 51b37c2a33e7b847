"""
The table of a stream: made, recognised as ours, and brought up to what its record class declares today.

What is there is never dropped, and never rewritten but to a type that holds every value it had.
"""

from collections.abc import Mapping, Sequence

from penstock.errors import TargetError
from penstock.record import Column
from penstock.sink import Layout
from penstock.values import field, frozen

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

    Raises TargetError: the table is not penstock's, belongs to another stream, or contradicts the declaration.
    """
    with database.explained(), database.transaction():
        known = next((one for one in ledger.known(layout.source) if one.stream == layout.stream), None)
        there = _oid(database, place)
        if known is not None and there is None and exists(database, known):
            raise TargetError(_elsewhere(layout, known, place))
        added: frozenset[str] = frozenset()
        if there is None:
            _create(database, layout, place)
        else:
            _ours(database, ledger, layout, known, place, there)
            added = _evolve(database, layout, place, there)
        oid = _oid(database, place)
        assert oid is not None
        ledger.keep_table(
            layout.source,
            Known(stream=layout.stream, of_stream=of_stream, oid=oid, schema=place.schema, table=place.table),
        )
        found = _columns(database, oid)
        return Table(
            schema=place.schema,
            name=place.table,
            layout=layout,
            types={column.name: found[short(column.name)] for column in layout.columns},
            key=key_of(layout),
            added=added,
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


def _ours(
    database: Database, ledger: PostgresLedger, layout: Layout, known: Known | None, place: Known, oid: int
) -> None:
    """Refuse a table of somebody else's, or of another stream."""
    name = f"{place.schema}.{place.table}"
    if known is not None:
        if known.oid == oid:
            return
        # Restored from a dump: another number, the same name, and our comment.
        comment = database.one("select obj_description(%s::bigint::oid, 'pg_class')", (oid,)) or ""
        if (known.schema, known.table) == (place.schema, place.table) and _mark(layout) in comment:
            return
    claimed = ledger.at(place.schema, place.table)
    if claimed is not None:
        source, other = claimed
        raise TargetError(
            f"the table {name} holds {source}.{other.stream}, and {layout.source}.{layout.stream} is to be there too. "
            "Give them different tables: set schema or table of the sink."
        )
    raise TargetError(
        f"the table {name} was not made by penstock. Rename it, or set another schema or table for "
        f"{layout.source}.{layout.stream}; it was not touched."
    )


# --- making ---------------------------------------------------------------------------------------------------------


def _create(database: Database, layout: Layout, place: Known) -> None:
    if place.schema == SCHEMA:
        raise TargetError(f"the schema {SCHEMA} holds the ledger. Set another schema for {layout.source}.")
    if not database.one("select true from pg_namespace where nspname = %s", (short(place.schema),)):
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


def _columns(database: Database, oid: int) -> dict[str, str]:
    rows = database.run(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = %s::bigint::oid and attnum > 0 and not attisdropped order by attnum",
        (oid,),
    ).fetchall()
    return dict(rows)


def _evolve(database: Database, layout: Layout, place: Known, oid: int) -> frozenset[str]:
    """
    Add and widen columns; refuse what contradicts. The columns added. One that is declared no more stays, and stays
    null.
    """
    table = f"{quoted(place.schema)}.{quoted(place.table)}"
    found = _columns(database, oid)
    _check_key(database, layout, place, oid)
    _check_others(database, layout, place, oid)
    steps = []
    added = []
    for column in layout.columns:
        there, wanted = found.get(short(column.name)), type_of(column)
        if there is None:
            steps.append(f"add column {quoted(column.name)} {wanted}")
            added.append(column)
        elif there == wanted or wanted in _narrower(there):
            continue
        elif wanted in _WIDER.get(there, ()):
            steps.append(f"alter column {quoted(column.name)} type {wanted}")
        else:
            raise TargetError(_contradiction(layout, place, column, there, wanted))
    for name, (type_, default, _) in STAMPS.items():
        if name not in found:
            steps.append(f"add column {quoted(name)} {type_} default {default}")
    if steps:
        database.run(f"alter table {table} {', '.join(steps)}")
    for column in added:
        _describe(database, table, column)
    return frozenset(column.name for column in added)


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


def _check_key(database: Database, layout: Layout, place: Known, oid: int) -> None:
    wanted = key_of(layout)
    if not wanted:
        return
    rows = database.run(
        "select array_agg(a.attname::text order by k.place) from pg_index i "
        "cross join lateral unnest(i.indkey::int2[]) with ordinality as k(attnum, place) "
        "join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum "
        "where i.indrelid = %s::bigint::oid and i.indisunique and i.indisvalid and i.indpred is null "
        "and i.indexprs is null group by i.indexrelid",
        (oid,),
    ).fetchall()
    keys = [set(names) for (names,) in rows]
    if {short(name) for name in wanted} not in keys:
        unique = " or ".join(f"({', '.join(sorted(names))})" for names in keys)
        seen = f"is unique by {unique}" if keys else "has no unique index"
        raise TargetError(
            f"the table {place.schema}.{place.table} {seen}, and {layout.source}.{layout.stream} declares the "
            f"key ({', '.join(wanted)}). Make a unique index on these columns, or rename the table and run again: "
            "then it is made and filled anew. Nothing was changed."
        )


def _check_others(database: Database, layout: Layout, place: Known, oid: int) -> None:
    """Refuse a column of the user's that wants a value in each row: no row could be written, nor set aside for it."""
    ours = [*(short(column.name) for column in layout.columns), *STAMPS]
    rows = database.run(
        "select attname from pg_attribute where attrelid = %s::bigint::oid and attnum > 0 and not attisdropped "
        "and attnotnull and not atthasdef and attidentity = '' and attname <> all(%s) order by attnum",
        (oid, ours),
    ).fetchall()
    if rows:
        names = ", ".join(name for (name,) in rows)
        raise TargetError(
            f"the table {place.schema}.{place.table} has a column that must not be null and that "
            f"{layout.source}.{layout.stream} has no values for: {names}. Give it a default, or drop not null; nothing "
            "was changed."
        )
