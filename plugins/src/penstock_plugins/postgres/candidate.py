"""
The table of a stream before the first write: compare what the settings name with what the catalog has.
"""

from attrs import frozen
from penstock import Column, Layout, TargetError

from penstock_plugins.postgres.catalog import CatalogTable, guarded_text
from penstock_plugins.postgres.column_types import HOLDS, STAMPS, WIDER, type_of
from penstock_plugins.postgres.sql_text import columns_sql, quoted, short
from penstock_plugins.postgres.table_locations import (
    SOURCE_COLUMN,
    SOURCE_DEFAULT,
    LedgerTable,
    TableLocation,
    mark_for,
)
from penstock_plugins.sink_support.sql_tables import MARK, identifier, literal


@frozen(kw_only=True)
class TableChange:
    """One change of a table: the SQL after ``alter table ...``, and the declared column that it adds, if any."""

    sql: str
    added: Column | None = None


@frozen
class Candidate:
    """The table at the location of a stream, which may not exist yet. The checks raise TargetError."""

    layout: Layout
    location: TableLocation
    catalog: CatalogTable

    @property
    def stream(self) -> str:
        """The stream, for messages."""
        return f"{self.layout.source}.{self.layout.stream}"

    @property
    def shared(self) -> bool:
        """Whether sources share it: an existing one if it has the column, a new one if the settings share it."""
        if any(column.name == SOURCE_COLUMN for column in self.layout.columns):
            return False
        return SOURCE_COLUMN in self.catalog.types if self.catalog.oid is not None else self.location.shared

    @property
    def unique(self) -> tuple[str, ...]:
        """The columns of its unique index; none for a stream without a key."""
        key = self.layout.unique_columns
        return (SOURCE_COLUMN, *key) if key and self.shared else key

    @property
    def mark(self) -> str:
        """The line of its comment by which it is recognised."""
        return mark_for(self.layout.source, self.layout.stream, shared=self.shared)

    @property
    def is_marked(self) -> bool:
        return self.catalog.has_mark(self.mark)

    @property
    def recorded(self) -> LedgerTable:
        """An existing table, as the ledger records it."""
        assert self.catalog.oid is not None
        return LedgerTable(
            source=self.layout.source,
            stream=self.layout.stream,
            of_stream=self.location.of_stream,
            oid=self.catalog.oid,
            schema=self.location.schema,
            table=self.location.table,
        )

    # --- checks -----------------------------------------------------------------------------------------------------

    def check_names(self, ledger_schema: str) -> None:
        """Refuse names that Postgres or the ledger reserves."""
        schema, source = self.location.schema, self.layout.source
        columns = [column.name for column in self.layout.columns]
        for name in (schema, self.location.table, *columns):
            quoted(name)
        if schema == ledger_schema:
            raise TargetError(f"the schema {ledger_schema} holds the ledger. Set another schema for {source}.")
        if self.location.shared and SOURCE_COLUMN in columns:
            raise TargetError(
                f"{self.stream} has a column {SOURCE_COLUMN} of its own, so that its table cannot be shared by several "
                "sources. Set a schema with {source} in it."
            )
        if schema.startswith("pg_") or schema == "information_schema":
            raise TargetError(f"Postgres keeps the schema {schema} for itself. Set another one for {source}.")

    def check_rights(self) -> None:
        """Refuse missing rights, with the statement that grants them."""
        catalog, schema = self.catalog, quoted(self.location.schema)
        user, database = identifier(catalog.user), identifier(catalog.database)
        if not catalog.schema_exists and not catalog.may_create:
            raise TargetError(
                f"there is no schema {self.location.schema} in the database {catalog.database}, and {catalog.user} may "
                f"not create it. Its owner must run: create schema {schema} authorization {user}; or set another "
                "schema."
            )
        if catalog.schema_exists and not (catalog.may_use and (catalog.oid is not None or catalog.may_create)):
            raise TargetError(
                f"{catalog.user} may not make or use tables in the schema {self.location.schema}. Its owner must run: "
                f"grant usage, create on schema {schema} to {user}; or set another schema."
            )
        if not catalog.may_make_temporary:
            raise TargetError(
                f"{catalog.user} may not make temporary tables in the database {catalog.database}, by which rows are "
                f"replaced. Its owner must run: grant temporary on database {database} to {user}."
            )
        if catalog.oid is None:
            return
        name, table = self.location.name, self.location.sql
        rights = ["select", "insert", "update", "delete"]
        if missing := [right for right in rights if right in catalog.lacking]:
            raise TargetError(
                f"{catalog.user} may not {', '.join(missing)} in the table {name}. Its owner {catalog.owner} must run: "
                f"grant {', '.join(rights)} on {table} to {user}."
            )
        if catalog.guarded:
            raise TargetError(guarded_text(table, user))
        if (changes := self.changes()) and not catalog.owned:
            raise TargetError(
                f"the table {name} is to be changed for {self.stream}, and only its owner {catalog.owner} may, not "
                f"{catalog.user}. The owner must run: alter table {table} {', '.join(one.sql for one in changes)}."
            )

    def check_key(self) -> None:
        """Refuse a table without a unique index on the key."""
        if not self.unique or {short(name) for name in self.unique} in map(set, self.catalog.keys):
            return
        unique = " or ".join(f"({', '.join(sorted(names))})" for names in self.catalog.keys)
        uniqueness = f"is unique by {unique}" if unique else "has no unique index"
        raise TargetError(
            f"the table {self.location.name} {uniqueness}, and {self.stream} declares the key "
            f"({', '.join(self.unique)}). Make a unique index on these columns; or rename the table, remove its "
            "comment, and run again: then it is made and filled anew. Nothing was changed."
        )

    def check_heirs(self) -> None:
        """Refuse to merge by key into a table whose heirs have rows, too: its unique index does not have theirs."""
        if self.catalog.inherited and self.layout.kind == "changes":
            raise TargetError(
                f"other tables inherit from {self.location.name}, and {self.stream} is merged by key: its unique index "
                "does not have their rows, so that a row could come twice. Move their rows into it and drop them, or "
                "part them from it (alter table ... no inherit ...). Nothing was changed."
            )

    def check_others(self) -> None:
        """Refuse a column of the user's that needs a value in each row: no row could be written."""
        ours = {*(short(column.name) for column in self.layout.columns), *STAMPS}
        if others := [name for name in self.catalog.required if name not in ours]:
            raise TargetError(
                f"the table {self.location.name} has a column that must not be null and that {self.stream} has no "
                f"values for: {', '.join(others)}. Give it a default, or drop not null; nothing was changed."
            )

    def check_mark(self) -> None:
        """Refuse to adopt a table with the mark of another stream, or one that this user may not mark."""
        location, catalog = self.location, self.catalog
        marks = [line.strip() for line in catalog.comment.splitlines() if line.strip().startswith(MARK)]
        if self.is_marked:
            return
        if marks:
            raise TargetError(
                f"the comment of the table {location.name} has the line {marks[0]!r}: it is of another stream. If that "
                "is not so any more, remove the line, and adopt the table then."
            )
        if not catalog.owned:
            raise TargetError(
                f"only its owner {catalog.owner} may comment the table {location.name}, not {catalog.user}. The "
                f"owner must run: comment on table {location.sql} is '{self.mark}'."
            )

    # --- changes ----------------------------------------------------------------------------------------------------

    def changes(self) -> list[TableChange]:
        """
        The changes that an existing table needs: columns to add and to widen. A column that is not declared any more
        stays, and is null in new rows. Raises TargetError for a contradiction.
        """
        changes = []
        for column in self.layout.columns:
            stored_type, declared = self.catalog.types.get(short(column.name)), type_of(column)
            if stored_type is None and column.name in self.layout.replaced_by:
                raise TargetError(
                    f"the table {self.location.name} has no column {column.name}, by which {self.stream} finds the "
                    "rows that new ones replace: it was renamed or dropped, or it was declared otherwise when the "
                    "table was made. Rename the column back; or rename the table, remove its comment, and run again: "
                    "then it is made and filled anew. Nothing was changed."
                )
            if stored_type is None:
                changes.append(TableChange(sql=f"add column {quoted(column.name)} {declared}", added=column))
            elif stored_type == declared or declared in HOLDS.get(stored_type, ()):
                continue
            elif declared in WIDER.get(stored_type, ()):
                changes.append(TableChange(sql=f"alter column {quoted(column.name)} type {declared}"))
            else:
                raise self._contradiction(column, stored_type, declared)
        for name, (type_, default, _) in STAMPS.items():
            if name not in self.catalog.types:
                changes.append(TableChange(sql=f"add column {quoted(name)} {type_} default {default}"))
        return changes

    def _contradiction(self, column: Column, stored_type: str, declared: str) -> TargetError:
        return TargetError(
            f"the column {self.location.name}.{column.name} has the type {stored_type}, and {self.stream} declares "
            f"{declared}; a run does not convert the one to the other. Choose: rename the column, and the next run "
            f"adds a new one; or convert it (alter table ... alter column ... type {declared} using ...); or leave it "
            f'out (exclude = ["{self.layout.stream}.{column.name}"]). Nothing was changed.'
        )

    # --- errors -----------------------------------------------------------------------------------------------------

    def elsewhere_error(self, there: CatalogTable) -> TargetError:
        """The error where the rows of the stream are in a table at another location."""
        return TargetError(
            f"the rows of {self.stream} are in the table {there.sql}, and the sink's settings name "
            f"{self.location.name}. Either move the table there (alter table ... set schema ..., rename to ...), or "
            "set schema and table of the sink to its present place; then run again. Nothing was changed."
        )

    def dropped_error(self) -> TargetError:
        """
        The error of a table that was dropped during the run. A new one would hide from the next run that the rows of
        other partitions are gone.
        """
        return TargetError(
            f"the table {self.location.name} was dropped during the run, and what was delivered of {self.stream} with "
            "it. It is not made anew before the next run, which reads the missing days of its window again: run again."
        )

    def taken_error(self, other: LedgerTable) -> TargetError:
        """The error of a table with another stream or source, for which it was made alone."""
        location, layout = self.location, self.layout
        fault = f"the table {location.name} holds {other.source}.{other.stream}, and {self.stream} is to be there too. "
        if other.stream != layout.stream or not location.shared:
            return TargetError(fault + "Give them different tables: set schema or table of the sink.")
        comment = literal(table_comment(layout, mark_for(other.source, other.stream, shared=True)))
        key = columns_sql((SOURCE_COLUMN, *layout.unique_columns))
        index = f"; create unique index on {location.sql} ({key})" if layout.unique_columns else ""
        return TargetError(
            f"{fault}It was made for one source only. To share it, drop its primary key, and run: alter table "
            f"{location.sql} add column {SOURCE_COLUMN} text not null default {literal(other.source)}, alter column "
            f"{SOURCE_COLUMN} set default {SOURCE_DEFAULT}{index}; comment on table {location.sql} is {comment}. Or "
            "give them different tables: set schema or table of the sink."
        )

    def foreign_error(self) -> TargetError:
        """The error of a table that is not recognised."""
        adopt = (
            f"If it is the table of {self.stream} (restored without comments, or made anew by you), adopt it: penstock "
            f"check {self.layout.source} --adopt {self.location.name} (--adopt all: every such table); or let its "
            f"owner run: comment on table {self.location.sql} is '{self.mark}'. "
            if self.catalog.is_table
            else ""
        )
        return TargetError(
            f"the table {self.location.name} was not made by penstock. {adopt}Rename it, or set another schema or "
            f"table for {self.stream}; it was not touched."
        )


def table_comment(layout: Layout, mark: str) -> str:
    """The comment of a table."""
    return f"{layout.summary or layout.stream}\n\n{mark}"
