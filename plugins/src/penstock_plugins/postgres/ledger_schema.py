"""
The schema of the ledger: whether it is there, the rights that a run needs in it, its creation, and its comments.
"""

from collections.abc import Sequence

from penstock import TargetError

from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.ledger_comments import COLUMN_COMMENTS, TABLE_COMMENTS
from penstock_plugins.postgres.rights import guarded_text
from penstock_plugins.postgres.sql_text import literal, quoted, short, table_sql

READING, WRITING = ("select",), ("select", "insert", "update", "delete")
WRITTEN = ("partitions", "rejected", "reports", "accounts", "runs", "tables", "restatements")
"""The tables that any run writes."""


def is_made(database: Database, schema: str) -> bool:
    """Whether the schema has a ledger. The catalog shows it also to a user who may not use the schema."""
    statement = (
        "select exists (select from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = %s and "
        "relname = 'meta' and relkind in ('r', 'p'))"
    )
    return database.one(statement, (short(schema),)) is True


def check_rights(database: Database, schema: str, rights: Sequence[str]) -> None:
    """
    Check, before anything is requested, that this user has the rights to all tables of the ledger that runs use, and
    that row-level security hides none of their rows.

    Raises TargetError with the statement that grants them.
    """
    usable, closed, hiding, user = database.run(
        "select has_schema_privilege(n.oid, 'usage'), array(select relname::text from pg_class c where "
        "c.relnamespace = n.oid and relname = any(%s) and exists (select from unnest(%s::text[]) r "
        "where not has_table_privilege(c.oid, r) and (r = 'select' or relname <> 'meta')) order by 1), "
        "array(select relname::text from pg_class c where c.relnamespace = n.oid and relname = any(%s) "
        "and row_security_active(c.oid)), current_user::text from pg_namespace n where nspname = %s",
        ([*WRITTEN, "meta"], list(rights), [*WRITTEN, "meta"], short(schema)),
    ).fetchone() or (True, [], [], "")
    if usable and not closed:
        for table in hiding:
            name = table_sql(schema, table)
            raise TargetError(f"{database.label}: the ledger cannot be used: {guarded_text(name, quoted(user))}")
        return
    role, schema_name = quoted(user), quoted(schema)
    may = "read" if rights == READING else "write"
    what = f"its tables {', '.join(closed)}" if usable else "the schema"
    raise TargetError(
        f"{database.label}: {user} may not {may} the ledger in the schema {schema} ({what}). Its owner must run: "
        f"{'' if usable else f'grant usage on schema {schema_name} to {role}; '}grant {', '.join(rights)} on all "
        f"tables in schema {schema_name} to {role}; or name another user."
    )


def make_schema(database: Database, schema: str) -> None:
    """Make the schema, unless it exists: then USAGE and CREATE on it are enough."""
    row = database.run(
        "select has_schema_privilege(oid, 'usage') and has_schema_privilege(oid, 'create'), "
        "current_user::text from pg_namespace where nspname = %s",
        (short(schema),),
    ).fetchone()
    if row is None:
        allowed, user, name = database.run(
            "select has_database_privilege(current_database(), 'create'), current_user::text, current_database()::text"
        ).fetchone() or (False, "", "")
        if not allowed:
            raise TargetError(
                f"there is no schema {schema} for the ledger in the database {name}, and {user} may not "
                f"create it. The database's owner must run: create schema {quoted(schema)} authorization "
                f"{quoted(user)}."
            )
        database.run(f"create schema {quoted(schema)}")
        database.run(
            f"comment on schema {quoted(schema)} is 'The ledger of penstock: which partitions were delivered, and when'"
        )
    elif not row[0]:
        raise TargetError(
            f"{row[1]} may not make or use tables in the schema {schema}, which is to hold the ledger. Its "
            f"owner must run: grant usage, create on schema {quoted(schema)} to {quoted(row[1])}."
        )


def comment(database: Database, schema: str) -> None:
    """Comment the ledger's tables and columns."""
    for table, text in TABLE_COMMENTS.items():
        kind = "view" if table == "days" else "table"
        database.run(f"comment on {kind} {quoted(schema)}.{table} is {literal(text)}")
    uncommented = database.run(
        "select c.relname::text, a.attname::text from pg_attribute a join pg_class c on c.oid = a.attrelid "
        "join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and a.attnum > 0 "
        "and not a.attisdropped and c.relkind in ('r', 'v')",
        (short(schema),),
    ).fetchall()
    for table, column in uncommented:
        words = COLUMN_COMMENTS.get(f"{table}.{column}", COLUMN_COMMENTS.get(column))
        if table in TABLE_COMMENTS and words:
            database.run(f"comment on column {quoted(schema)}.{table}.{quoted(column)} is {literal(words)}")
