"""
Comparison of a stream's table with the ledger: rows and sums of each partition, computed by the database.
"""

# Names in statements come from quoted(), or from the catalog; values are parameters.
# ruff: noqa: S608

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from attrs import frozen
from penstock import Difference, LedgerEntry, Partition

from penstock_plugins.postgres.candidate import NAIVE
from penstock_plugins.postgres.database import Database, quoted, short
from penstock_plugins.postgres.ledger import LedgerTable
from penstock_plugins.postgres.places import Located, check_readable, located, of_source


@frozen(kw_only=True)
class _Content:
    """Rows of one partition in the table, and the sum of each measure."""

    rows: int
    sums: dict[str, Decimal]


def verified(
    database: Database, source: str, known: LedgerTable, entries: Sequence[LedgerEntry], merged: int | None = None
) -> Iterator[Difference]:
    """
    The partitions whose rows or sums in the table differ from the ledger, and those with rows that are of no entry.
    ``merged``: the rows that the commits of a stream merged by key left in the table; with other rows there, all of its
    partitions differ.
    """
    found = located(database, source, known)
    main = known.stream == known.of_stream
    if found is None:
        for entry in entries:
            if _rows_of(entry, known):
                yield Difference(partition=entry.partition, what=f"the table {known.name} is gone")
        return
    check_readable(database, found)
    if not entries:
        return
    columns = tuple(name for name, _ in entries[0].partition.values)
    types: dict[str, str] = dict(
        database.run(
            "select attname::text, format_type(atttypid, atttypmod) from pg_attribute "
            "where attrelid = %s::bigint::oid and attnum > 0 and not attisdropped",
            (found.oid,),
        ).fetchall()
    )
    measures = tuple(name for name in dict.fromkeys(name for entry in entries for name in entry.sums) if main)
    measures = tuple(name for name in measures if short(name) in types)
    if not all(short(name) in types for name in columns) or _is_merged(database, found, columns):
        yield from _merged(database, source, known, found, entries, merged)
        return
    contents = _contents(database, source, found, {name: types[short(name)] for name in columns}, measures)
    for entry in entries:
        values = tuple(value for _, value in entry.partition.values)
        one = contents.pop(values, _Content(rows=0, sums={}))
        expected = _rows_of(entry, known)
        if one.rows != expected:
            what = f"{known.stream}: {one.rows} rows in {known.name}, {expected} were delivered"
            yield Difference(partition=entry.partition, what=what)
            continue
        for name in measures:
            total = one.sums.get(name, Decimal(0))
            if name in entry.sums and total != entry.sums[name]:
                what = f"{known.stream}: the sum of {name} is {total}, {entry.sums[name]} was delivered"
                yield Difference(partition=entry.partition, what=what)
                break
    for values, one in contents.items():
        partition = Partition(stream=known.of_stream, values=tuple(zip(columns, values, strict=True)))
        what = f"{known.stream}: {one.rows} rows in {known.name}"
        yield Difference(partition=partition, what=what, uncounted=True)


def _is_merged(database: Database, found: Located, columns: Sequence[str]) -> bool:
    """
    Whether rows are merged by a key without the partition's columns: a row that was read again may then be of
    another day, which its value of that column states.
    """
    keys = database.run(
        "select array_agg(a.attname::text) from pg_index i join pg_attribute a on a.attrelid = i.indrelid "
        "and a.attnum = any (i.indkey) where i.indrelid = %s::bigint::oid and i.indisunique group by i.indexrelid",
        (found.oid,),
    ).fetchall()
    return bool(keys) and not any({short(name) for name in columns} <= set(names) for (names,) in keys)


def _rows_of(entry: LedgerEntry, known: LedgerTable) -> int:
    return entry.rows if known.stream == known.of_stream else entry.derived_rows.get(known.stream, 0)


def _contents(
    database: Database, source: str, found: Located, columns: Mapping[str, str], measures: Sequence[str]
) -> dict[tuple[str, ...], _Content]:
    """
    Rows and sums by the texts of the partition's columns. A partition without rows is not in it. ``columns``: with
    their types.
    """
    # A date is written as the ledger has it whatever the session's DateStyle is, and where its column was widened.
    days = {name: "::date" if type_ == NAIVE else "" for name, type_ in columns.items()}
    texts = [f"coalesce(to_jsonb({quoted(name)}{day}) #>> '{{}}', '')" for name, day in days.items()]
    sums = [f"coalesce(sum({quoted(name)}), 0)" for name in measures]
    where, values = of_source(source, shared=found.shared)
    group = f"group by {', '.join(quoted(name) for name in columns)}" if columns else ""
    rows = database.run(
        f"select {', '.join([*texts, 'count(*)', *sums])} from {found.sql} where {where} {group}", values
    ).fetchall()
    width = len(columns)
    return {
        row[:width]: _Content(
            rows=row[width],
            sums={name: Decimal(value) for name, value in zip(measures, row[width + 1 :], strict=True)},
        )
        for row in rows
    }


def _merged(
    database: Database,
    source: str,
    known: LedgerTable,
    found: Located,
    entries: Sequence[LedgerEntry],
    merged: int | None,
) -> Iterator[Difference]:
    delivered = [entry for entry in entries if _rows_of(entry, known)]
    where, values = of_source(source, shared=found.shared)
    rows = database.one(f"select count(*) from {found.sql} where {where}", values)
    if merged is not None and rows != merged:
        what = f"{known.stream}: {rows} rows in {known.name}, {merged} were left there by its commits"
    elif delivered and not rows:
        what = f"{known.stream}: no row in {known.name}"
    else:
        return
    for entry in delivered:
        yield Difference(partition=entry.partition, what=what)
