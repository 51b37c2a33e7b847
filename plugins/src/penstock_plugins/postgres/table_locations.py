"""
The locations of tables: schema and table by the settings, and the present ones of a table that penstock made.
"""

from typing import NamedTuple

from penstock import TargetError

from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.ledger import LedgerTable
from penstock_plugins.postgres.rights import guarded_text
from penstock_plugins.postgres.sql_text import identifier, short, table_sql

SOURCE_COLUMN = "_source"
"""The column of a shared table with each row's source. Part of the key; its default is a setting of the session."""

MARK = "Written by penstock: "


class TableLocation(NamedTuple):
    """Schema and table of a stream's rows, and the options of a table that is made there."""

    schema: str
    table: str
    of_stream: str  # the stream whose partitions contain the rows
    shared: bool = False  # by several sources
    day_index: bool = True
    grant_to: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def sql(self) -> str:
        return table_sql(self.schema, self.table)


def of_source(source: str, *, shared: bool) -> tuple[str, list[str]]:
    """The condition for the rows of a source, and its parameters. A shared table has those of others, too."""
    return (f"{SOURCE_COLUMN} = %s", [source]) if shared else ("true", [])


def mark_of(source: str, stream: str, *, shared: bool) -> str:
    """The line of a table's comment by which the table is recognised."""
    return f"{MARK}{'*' if shared else source}.{stream}"


def is_marked(comment: str, mark: str) -> bool:
    """Whether a table's comment has the mark."""
    return mark in (line.strip() for line in comment.splitlines())


class Located(NamedTuple):
    """
    The present location of a table that penstock made. ``ours``: it is recognised; ``shared``: by several sources;
    ``granted``: this user may read it; ``guarded``: row-level security may hide rows from this user.
    """

    oid: int
    sql: str
    ours: bool
    shared: bool
    granted: bool
    guarded: bool

    @property
    def readable(self) -> bool:
        """Whether this user reads all of its rows."""
        return self.granted and not self.guarded


def located(database: Database, source: str, recorded: LedgerTable) -> Located | None:
    """
    The table at its recorded location, or at another one if it has the mark. None: it was dropped.
    """
    rows = database.run(
        "select c.oid::bigint, n.nspname::text, c.relname::text, coalesce(obj_description(c.oid, 'pg_class'), ''), "
        "exists (select from pg_attribute where attrelid = c.oid and attname = %s and not attisdropped), "
        "has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'), row_security_active(c.oid), "
        "(n.nspname, c.relname) = (%s, %s) as here from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where c.relkind in ('r', 'p') and ((n.nspname, c.relname) = (%s, %s) or c.oid = %s::bigint::oid) "
        "order by here desc",
        (SOURCE_COLUMN, *(short(recorded.schema), short(recorded.table)) * 2, recorded.oid),
    ).fetchall()
    for oid, schema, table, comment, shared, granted, guarded, here in rows:
        marked = is_marked(comment, mark_of(source, recorded.stream, shared=shared))
        if here or marked:
            sql = f"{identifier(schema)}.{identifier(table)}".replace("%", "%%")
            ours = marked or oid == recorded.oid
            return Located(oid=oid, sql=sql, ours=ours, shared=shared, granted=granted, guarded=guarded)
    return None


def check_readable(database: Database, table: Located) -> None:
    """Raises TargetError if this user may not read all rows of the table, with the statements that help."""
    if table.readable:
        return
    user, schema = identifier(database.one("select current_user::text")), table.sql.partition('".')[0] + '"'
    if table.granted:
        raise TargetError(f"{database.label}: {guarded_text(table.sql, user)}")
    raise TargetError(
        f"{database.label}: {user} may not read the table {table.sql}. Its owner must run: grant usage on schema "
        f"{schema} to {user}; grant select on {table.sql} to {user}; or name another user."
    )
