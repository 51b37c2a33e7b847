"""
Erase values in the rows of a stream's table, inside the transaction that is open.
"""

# Names in statements come from quoted(), or from the catalog; values are parameters.
# ruff: noqa: S608

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from penstock import Erasure, SinkError, TargetError

from penstock_plugins.postgres.candidate import STAMPS
from penstock_plugins.postgres.catalog import is_altering
from penstock_plugins.postgres.database import Database, quoted, short
from penstock_plugins.postgres.places import Located, of_source

ROWS_AT_ONCE = 1000


def erase(database: Database, source: str, table: Located, erasure: Erasure) -> int:
    """
    Set the columns to null, and replace nested values; the number of rows that changed. Columns stay in the table.

    Raises TargetError if a column must not be null, and SinkError if others change the rows meanwhile, or a trigger or
    a rule of the table brings values back.
    """
    attributes = "select attname::text, attnotnull from pg_attribute"
    there = "attrelid = %s::bigint::oid and attnum > 0 and not attisdropped"
    columns: dict[str, bool] = dict(database.run(f"{attributes} where {there}", (table.oid,)).fetchall())
    gone = [name for name in erasure.columns if short(name) in columns]
    if kept := [name for name in gone if columns[short(name)]]:
        changes = ", ".join(f"alter column {quoted(name)} drop not null" for name in kept)
        raise TargetError(
            f"{database.place}: {', '.join(kept)} of the table {table.sql} must not be null, so that nothing of "
            f"{source}.{erasure.layout.stream} was erased. Its owner may run: alter table {table.sql} {changes}."
        )
    nested = [name for name in erasure.nested if short(name) in columns]
    stamps = "".join(f", {quoted(name)} = default" for name in STAMPS if name in columns)
    where, values = of_source(source, shared=table.shared)
    nulls = [f"{quoted(name)} = null" for name in gone]
    rows = 0
    if nested:
        sets = ", ".join([*nulls, *(f"{quoted(name)} = n.c{number}::jsonb" for number, name in enumerate(nested))])
        texts = ", ".join(f"c{number}" for number in range(len(nested)))
        statement = (
            f"update {table.sql} o set {sets}{stamps} "
            f"from unnest(%s::bigint[], %s::text[]{', %s::text[]' * len(nested)}) as n (part, place, {texts}) "
            "where o.tableoid = n.part::oid and o.ctid = n.place::tid"
        )
        changed = _cleaned(database, table, erasure, nested, where, values)
        while batch := list(islice(changed, ROWS_AT_ONCE)):
            # A row that another session changed in the meantime has another place.
            if database.run(statement, [list(column) for column in zip(*batch, strict=True)]).rowcount != len(batch):
                raise SinkError(
                    f"{database.place}: another session changed the table {table.sql} meanwhile, or a trigger or a "
                    f"rule of it lets no change pass. Nothing of {source}.{erasure.layout.stream} was erased."
                )
            rows += len(batch)
    some = " or ".join(f"{quoted(name)} is not null" for name in gone)
    if nulls:
        rows += database.run(
            f"update {table.sql} set {', '.join(nulls)}{stamps} where ({some}) and {where}", values
        ).rowcount
    if is_altering(database, table.oid):
        database.run("set constraints all immediate")  # what triggers do at the end of the transaction is done before
        stays = bool(nulls) and database.one(
            f"select exists (select from {table.sql} where ({some}) and {where})", values
        )
        if stays or (nested and any(_cleaned(database, table, erasure, nested, where, values))):
            raise SinkError(
                f"{database.place}: a trigger or a rule on the table {table.sql} brings back what is erased. Nothing "
                f"of {source}.{erasure.layout.stream} was erased. Drop it, and run it again."
            )
    return rows


def _cleaned(
    database: Database, table: Located, erasure: Erasure, nested: Sequence[str], where: str, values: Sequence[Any]
) -> Iterator[tuple[Any, ...]]:
    """
    The place of each row whose nested values change, and all of its nested values as they are to be. A place is one of
    a table: in a table that is divided into partitions, each of them has rows at the same places.
    """
    texts = ", ".join(f"{quoted(name)}::text" for name in nested)
    some = " or ".join(f"{quoted(name)} is not null" for name in nested)
    with database.connection.cursor(name="penstock_erase") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(
            f"select tableoid::bigint, ctid::text, {texts} from {table.sql} where ({some}) and {where}", values
        )
        for part, place, *former in cursor:
            cleaned = [
                None if text is None else erasure.nested[name](text) for name, text in zip(nested, former, strict=True)
            ]
            if cleaned != former:
                yield (part, place, *cleaned)
