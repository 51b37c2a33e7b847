"""
The schema of the ledger: whether it is there, the rights that a run needs in it, its creation, and its comments.
"""

from collections.abc import Sequence

from penstock import TargetError

from penstock_plugins.postgres.catalog import guarded_text
from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.sql_text import quoted, short, table_sql
from penstock_plugins.sink_support.sql_tables import literal

READING, WRITING = ("select",), ("select", "insert", "update", "delete")
WRITTEN = ("partitions", "rejected", "reports", "accounts", "runs", "tables", "restatements")
"""The tables that any run writes."""

# For people who query them.
_TABLE_COMMENTS = {
    "meta": "Versions of the ledger",
    "partitions": "One row per partition (an account's day, or an account of a snapshot): the state of its delivery",
    "days": "The partitions in a readable form, for people",
    "rejected": "Rejected records, with the reason, by the partition they came with",
    "reports": "Reports that were submitted and not delivered yet",
    "accounts": "The accounts that a stream of accounts listed last",
    "runs": "Runs of each source, newest last; old ones are deleted",
    "restatements": "What a new reading of a day changed: rows that came, went and changed, sums before and after",
    "tables": "The table of each stream",
}
_COLUMN_COMMENTS = {
    "source": "The source, as the configuration names it",
    "stream": "The stream",
    "partition": "The partition's columns and values, as JSON: the account first, then the day",
    "account": "The account; empty for a stream without accounts",
    "day": "The day, YYYY-MM-DD; empty for a snapshot",
    "state": "delivered, also if a later reading failed; failed: tried, and never delivered",
    "standing": "final: read after the day closed; open: to be read again; failed: an error since the last delivery",
    "run_id": "The run that wrote this",
    "read_at": "When the delivered rows were read; of a report, when it was submitted",
    "open_until": "The time from which a reading is final; null: never",
    "fingerprint": "Fingerprint of the settings that affect the response",
    "rows": "Rows delivered",
    "tables.rows": "Of a stream that is merged by key: the rows of the source that its commits left in the table",
    "promised": "Records that the provider stated; null: none",
    "rejected": "Rejected records",
    "unread_values": "Values that did not fit their column: null there, kept in _extra",
    "repeated": "Records that an earlier page of the same reading had",
    "truncated": "1: the response reached a documented ceiling of the provider",
    "read_by": "Fingerprint of the record class and the connector's version",
    "sums": "The sum of each measure over the rows, as JSON text",
    "restatements.sums": "The measures whose sum changed: before and after",
    "derived_rows": "Rows of the streams derived from this one",
    "files": "Of a target of files only",
    "error": "The last failure since the last delivery",
    "attempts": "Failures since the last delivery",
    "version": "Counts the deliveries",
    "intent": "Of a target of files only",
    "day_was": "closed: read after the day closed; open: before; null: not delivered, or never closes",
    "restated_at": "When it was delivered",
    "rows_before": "Rows of the former reading",
    "rows_after": "Rows of this reading",
    "came": "Rows that were new",
    "went": "Rows that were gone",
    "changed": "Rows that had other values",
    "number": "Counts the records of a partition",
    "of_stream": "The stream whose record it is, or whose partitions bring the rows",
    "path": "Its path in the response",
    "reason": "The reason why it was rejected",
    "raw": "The record as received, secrets masked",
    "handle": "The provider's name of the report",
    "request": "The submission, without credentials",
    "reports.partitions": "The partitions that the report will hold, as JSON",
    "submitted_at": "When it was submitted",
    "position": "Counts the accounts",
    "started_at": "When the run began",
    "finished_at": "When it ended; null: not yet, or it was killed",
    "exit_code": "0: all delivered",
    "report": "The run's report on this source, as JSON text",
    "relation": "The table's number in the catalog: a hint",
    "schema_name": "The table's schema",
    "table_name": "The table's name",
    "name": "Of the fact",
    "value": "Of the fact",
}


def is_made(database: Database, schema: str) -> bool:
    """Whether the schema has a ledger. The catalog shows it also to a user who may not use the schema."""
    statement = (
        "select exists (select from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = %s and "
        "relname = 'meta' and relkind in ('r', 'p'))"
    )
    return database.value(statement, (short(schema),)) is True


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
    for table, text in _TABLE_COMMENTS.items():
        kind = "view" if table == "days" else "table"
        database.run(f"comment on {kind} {quoted(schema)}.{table} is {literal(text)}")
    uncommented = database.run(
        "select c.relname::text, a.attname::text from pg_attribute a join pg_class c on c.oid = a.attrelid "
        "join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and a.attnum > 0 "
        "and not a.attisdropped and c.relkind in ('r', 'v')",
        (short(schema),),
    ).fetchall()
    for table, column in uncommented:
        words = _COLUMN_COMMENTS.get(f"{table}.{column}", _COLUMN_COMMENTS.get(column))
        if table in _TABLE_COMMENTS and words:
            database.run(f"comment on column {quoted(schema)}.{table}.{quoted(column)} is {literal(words)}")
