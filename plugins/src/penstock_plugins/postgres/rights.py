"""
Rights on tables: those of other roles, and row-level security.
"""

from collections.abc import Sequence

from penstock import TargetError

from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.sql_text import quoted, short, table_sql


def guarded_text(table: str, user: str) -> str:
    """The message about a table with row-level security. Both names are quoted."""
    return (
        f"row-level security of the table {table} holds for {user}: rows that are there may be hidden from it. Its "
        f"owner must run: alter table {table} disable row level security; or a superuser must run: alter role {user} "
        "bypassrls."
    )


def grant(database: Database, role: str, schema: str, tables: Sequence[str]) -> None:
    """
    Let a role read these tables. No statement is run for rights that it has.

    Raises TargetError if the role does not exist.
    """
    if not database.one("select exists (select from pg_roles where rolname = %s)", (role,)):
        raise TargetError(f"grant_to: {database.label} has no role {role}. Create it, or correct the name.")
    if not database.one("select has_schema_privilege(%s, %s, 'usage')", (role, short(schema))):
        database.run(f"grant usage on schema {quoted(schema)} to {quoted(role)}")
    for table in tables:
        name = table_sql(schema, table)
        if not database.one("select has_table_privilege(%s, %s, 'select')", (role, name)):
            database.run(f"grant select on {name} to {quoted(role)}")
