"""
Tables of a database: names and texts in statements, the mark of a table, the notice of columns that a run added.
"""

from collections.abc import Iterable

MARK = "Written by penstock: "
"""What the line of a comment begins with by which a table is recognised."""


def identifier(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text for a statement without parameters."""
    return "'" + text.replace("'", "''") + "'"


def added_notice(table: str, columns: Iterable[str]) -> str:
    """The notice of columns that an existing table lacked."""
    return (
        f"the table {table} had no column {', '.join(columns)}: added. Rows that are not read again have no value "
        "there; --full reads all days that the provider still serves. If somebody renamed a column, its values are "
        "under that name"
    )
