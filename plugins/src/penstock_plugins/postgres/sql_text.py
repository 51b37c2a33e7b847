"""
Names and conditions as the text of statements. Values are never in it: they are parameters.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from penstock import TargetError

from penstock_plugins.sink_support.sql_tables import identifier


def quoted(name: str) -> str:
    """
    A name as an SQL identifier. Postgres truncates names at 63 bytes; a longer one ends in a hash, to stay unique.

    Raises TargetError for a name that cannot be used in a statement; names of the catalog are taken as they are, by
    :func:`.identifier`.
    """
    if "%" in name or "\0" in name or not name:
        raise TargetError(f"{name!r} cannot be the name of a schema, table or column here. Choose another one.")
    return identifier(short(name))


def short(name: str) -> str:
    """The name as Postgres keeps it: at most 63 bytes."""
    raw = name.encode()
    if len(raw) <= 63:
        return name
    return f"{raw[:54].decode(errors='ignore')}_{blake2b(raw, digest_size=4).hexdigest()}"


def table_sql(schema: str, table: str) -> str:
    """The name of a table in statements."""
    return f"{quoted(schema)}.{quoted(table)}"


def columns_sql(names: Iterable[str], prefix: str = "") -> str:
    return ", ".join(f"{prefix}{quoted(name)}" for name in names)


def equal(names: Sequence[str], left: str, right: str) -> str:
    """Whether all of these columns are equal in two aliases."""
    return " and ".join(f"{left}.{quoted(name)} = {right}.{quoted(name)}" for name in names)


def differ(names: Sequence[str], left: str, right: str) -> str:
    """Whether any of these columns differs between two aliases; never null."""
    if not names:
        return "false"
    return f"({columns_sql(names, f'{left}.')}) is distinct from ({columns_sql(names, f'{right}.')})"
