"""
The statements that make a table, bring it up to date, and comment it.
"""

from collections.abc import Mapping, Sequence

from penstock import EXTRA, Column, Layout

from penstock_plugins.postgres.candidate import Candidate, TableChange, table_comment
from penstock_plugins.postgres.catalog import CatalogTable, size_of
from penstock_plugins.postgres.column_types import STAMPS, type_of
from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.sql_text import columns_sql, quoted, short
from penstock_plugins.postgres.table_locations import SOURCE_COLUMN, SOURCE_DEFAULT, LedgerTable, TableLocation

# Autovacuum keeps up with days that are replaced every day: at a fiftieth of the rows, not at a fifth.
_STORAGE = {
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_insert_scale_factor": 0.05,
    "autovacuum_analyze_scale_factor": 0.02,
}

# A table of an earlier version with at most so many bytes gets an index by the run. For a larger one, `check` has the
# statement: making an index keeps writers waiting, and one that does not cannot be made in a transaction.
INDEXED_BY_A_RUN = 16 * 2**20


def has_nullable_key(layout: Layout) -> bool:
    """Whether a column of the key may be null: then it is no primary key."""
    # Rows with a null key are rejected before, except for derived rows.
    key = layout.unique_columns
    return bool(layout.derived_by) and any(column.nullable for column in layout.columns if column.name in key)


def create(database: Database, new: Candidate) -> None:
    layout, location, key = new.layout, new.location, new.unique
    if not new.catalog.schema_exists:
        database.run(f"create schema {quoted(location.schema)}")
    lines = [f"{quoted(column.name)} {type_of(column)}" for column in layout.columns]
    lines += [f"{quoted(name)} {type_} default {default}" for name, (type_, default, _) in STAMPS.items()]
    if new.shared:
        lines.append(f"{quoted(SOURCE_COLUMN)} text not null default {SOURCE_DEFAULT}")
    if key and not has_nullable_key(layout):
        lines.append(f"primary key ({columns_sql(key)})")
    database.run(f"create table {location.sql} ({', '.join(lines)}) with ({_storage(_STORAGE)})")
    if not key or has_nullable_key(layout):  # a publication of all tables could not publish deletes of its rows
        database.run(f"alter table {location.sql} replica identity full")
    if key and has_nullable_key(layout):
        database.run(f"create unique index on {location.sql} ({columns_sql(key)})")
    for columns in _indexes(layout, day_index=location.day_index):
        database.run(f"create index on {location.sql} ({columns_sql(columns)})")
    set_comment(database, f"table {location.sql}", table_comment(layout, new.mark))
    for column in layout.columns:
        _describe(database, location.sql, column)
    for name, (_, _, description) in STAMPS.items():
        set_comment(database, f"column {location.sql}.{quoted(name)}", description)
    if new.shared:
        set_comment(database, f"column {location.sql}.{quoted(SOURCE_COLUMN)}", "the source whose row it is")


def evolve(database: Database, location: TableLocation, changes: Sequence[TableChange]) -> None:
    if changes:
        database.run(f"alter table {location.sql} {', '.join(change.sql for change in changes)}")
    for change in changes:
        if change.added is not None:
            _describe(database, location.sql, change.added)


def _indexes(layout: Layout, *, day_index: bool) -> list[tuple[str, ...]]:
    """
    The columns of further indexes: those by which rows are replaced, unless the key's index begins with them; and the
    day, for queries across accounts.
    """
    names = [column.name for column in layout.columns]
    by = tuple(name for name in layout.replaced_by if name in names)
    indexes = [by] if by and layout.unique_columns[: len(by)] != by else []
    days = [column.name for column in layout.columns if column.type == "date" and column.name in by[-1:]]
    if day_index and layout.kind == "report" and days and len(by) > 1:
        indexes.append(tuple(days))
    return indexes


def _storage(settings: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


def upkeep_statements(database: Database, candidate: Candidate) -> list[str]:
    """The statements that give a table of an earlier version the settings and the index that a new one has."""
    location, catalog = candidate.location, candidate.catalog
    if not (catalog.owned and catalog.is_plain):
        return []
    statements = []
    if missing := {name: value for name, value in _STORAGE.items() if name not in catalog.options}:
        statements.append(f"alter table {location.sql} set ({_storage(missing)})")
    needed = [
        columns
        for columns in _indexes(candidate.layout, day_index=location.day_index)
        if len(columns) == 1 and short(columns[0]) not in catalog.indexed
    ]
    if needed and size_of(database, catalog) <= INDEXED_BY_A_RUN:
        statements += [f"create index on {location.sql} ({columns_sql(columns)})" for columns in needed]
    return statements


def day_index_advice(database: Database, table: LedgerTable, day: str, catalog: CatalogTable) -> str | None:
    """The advice to make an index on the day, where a table is large and has none."""
    if not catalog.is_plain or catalog.types.get(day) != "date" or day in catalog.indexed:
        return None
    if size_of(database, catalog) <= INDEXED_BY_A_RUN:
        return None
    return (
        f"the table {table.name} has no index on {day}: reading a day across accounts reads all of it. Its owner may "
        f"run: create index concurrently on {table.sql} ({quoted(day)})"
    )


def _describe(database: Database, table: str, column: Column) -> None:
    texts = [column.description, f"Unit: {column.unit}" if column.unit else ""]
    if column.type == "datetime" and column.zone == "naive":
        texts.append("The provider states no time zone")
    text = ". ".join(phrase.rstrip(".") for phrase in texts if phrase)
    if not text and column.name != EXTRA:
        text = f"The provider's {column.member}" if column.member and not column.added else "Added by penstock"
    set_comment(
        database, f"column {table}.{quoted(column.name)}", text or "members that the record class does not know"
    )


def set_comment(database: Database, on: str, text: str) -> None:
    # COMMENT takes no parameters; the server quotes the text.
    escaped = database.value("select quote_literal(%s)", (text.replace("\0", ""),))
    database.run(f"comment on {on} is {escaped.replace('%', '%%')}")
