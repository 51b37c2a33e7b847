"""
The rows of a query, for writes to a provider: read through a cursor of the server, so that a large result fits.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from penstock import Secret, UsageError

from penstock_plugins.postgres.database import Database


def rows_of(dsn: Secret, text: str) -> Iterator[Mapping[str, Any]]:
    """
    Column -> value of each row. The transaction is read-only, so that a query that writes is refused.

    Raises UsageError for a wrong query, TargetError and SinkError for failures of the server.
    """
    database = Database(dsn, application="penstock act", readonly=True)
    try:
        with database.explained(), database.connection.transaction():
            database.run("set transaction read only")
            # penstock's own statements need all rows. This one has those that a policy lets its user see.
            database.run("set local row_security to default")
            try:
                with database.connection.cursor(name="penstock_act") as cursor:
                    cursor.itersize = database.rows_at_once
                    cursor.execute(text, binary=database.binary)
                    names = [column.name for column in cursor.description or ()]
                    if doubled := [name for name in names if names.count(name) > 1]:
                        raise UsageError(f"--query: two columns are named {doubled[0]}; name one of them otherwise")
                    for row in cursor:
                        yield dict(zip(names, row, strict=True))
            except psycopg.Error as error:
                state = error.sqlstate or ""
                if not state and isinstance(error, psycopg.DataError):  # such as a time after the year 9999
                    raise UsageError(f"--query: a value cannot be read ({error}); cast it to text") from None
                # The query itself, several of them or a write in it, a value in it.
                if not state.startswith(("42", "0A", "25006", "22")):
                    raise
                raise UsageError(f"--query: {error.diag.message_primary or error}. It must be one select.") from None
    finally:
        database.close()
