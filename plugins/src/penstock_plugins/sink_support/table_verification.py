"""
Compare the rows of partitions in a table with the entries of the ledger, some days at a time: memory does not grow with
the history.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

from penstock import Difference, LedgerEntry, Partition

ENTRIES_AT_ONCE = 10_000
"""The entries after which another part begins, with the next day."""


class Content(NamedTuple):
    """The rows of one partition in a table, and the sum of each measure."""

    rows: int
    sums: Mapping[str, Decimal]


Contents = dict[tuple[str, ...], Content]
"""By the texts of the partition's columns. A partition without rows is not there."""


def rows_in(entry: LedgerEntry, stream: str) -> int:
    """The number of rows of an entry in a stream's table; 0 for a partition that was never delivered."""
    if not entry.delivered:
        return 0
    return entry.rows if stream == entry.partition.stream else entry.derived_rows.get(stream, 0)


def lost_notice(what: str, of: str, lost: Iterable[Partition]) -> str:
    """The notice of partitions whose ledger rows are deleted. ``what`` became of their rows; ``of``: their stream."""
    partitions = list(lost)
    days = sorted(partition.day for partition in partitions if partition.day is not None)
    span = f", {days[0]} to {days[-1]}" if days else ""
    return (
        f"{what}: what was delivered of {of} is missing (partitions: {len(partitions)}{span}). A run reads those of "
        "its window that the provider still serves"
    )


def measures_in(entries: Iterable[LedgerEntry], stream: str) -> list[str]:
    """The columns of which the entries have sums, if the rows of the table are those of ``stream`` itself."""
    names = (name for entry in entries if entry.partition.stream == stream for name in entry.sums)
    return list(dict.fromkeys(name.partition("[")[0] for name in names))


def all_lost(entries: Iterable[LedgerEntry], stream: str, what: str) -> Iterator[Difference]:
    """All partitions with rows in a stream's table, as lost."""
    for entry in entries:
        if rows_in(entry, stream):
            yield Difference(partition=entry.partition, what=f"{stream}: {what}")


def contents_from(rows: Iterable[Sequence[Any]], columns: int, measures: Sequence[str]) -> Contents:
    """The contents from rows of a query: the texts of so many columns, the number of rows, the sum of each measure."""
    return {
        tuple(row[:columns]): Content(row[columns], dict(zip(measures, map(Decimal, row[columns + 1 :]), strict=True)))
        for row in rows
    }


def differences(
    entries: Sequence[LedgerEntry],
    contents: Contents,
    measures: Sequence[str],
    stream: str,
    place: str,
    *,
    is_ours: bool = True,
) -> Iterator[Difference]:
    """
    The partitions whose rows or sums in the table of ``stream`` differ from their entry, then those of no entry.

    ``contents`` of the table, which this function empties. ``place``: the table's name for messages. ``is_ours``:
    whether penstock made it; in another one, only what was delivered is compared.
    """
    nothing = Content(0, dict.fromkeys(measures, Decimal(0)))
    for entry in entries:
        content = contents.pop(tuple(value for _, value in entry.partition.values), nothing)
        delivered = rows_in(entry, stream)
        if content.rows == delivered:
            difference = _other_sum(entry, content.sums)
        elif delivered or is_ours:
            difference = f"{content.rows} rows in {place}, {delivered} were delivered"
        else:
            difference = ""
        if difference:
            yield Difference(partition=entry.partition, what=f"{stream}: {difference}")
    of, columns = entries[0].partition.stream, [name for name, _ in entries[0].partition.values]
    for values, content in contents.items() if is_ours else ():
        partition = Partition(stream=of, values=tuple(zip(columns, values, strict=True)))
        yield Difference(partition=partition, what=f"{stream}: {content.rows} rows in {place}", uncounted=True)


def _other_sum(entry: LedgerEntry, sums: Mapping[str, Decimal]) -> str:
    """
    The first measure of an entry whose sum is another one in the table, in a phrase; empty: there is none. An amount
    with a currency in each row is compared over all currencies.
    """
    with localcontext(prec=1000):
        for name, total in sums.items():
            amounts = [amount for key, amount in entry.sums.items() if key.partition("[")[0] == name]
            if amounts and total != (delivered := sum(amounts, Decimal(0))):
                return f"the sum of {name} is {total}, {delivered} was delivered"
    return ""


# --- parts of a window ------------------------------------------------------------------------------------------------


def by_days(
    entries: Sequence[LedgerEntry], since: date | None, until: date | None
) -> Iterator[tuple[date | None, date | None, list[LedgerEntry]]]:
    """
    The entries of a window, which are in the order of their days unless they are a list, in groups: each with its first
    and its last day. The groups cover all days of the window, and no two have one in common.
    """
    if isinstance(entries, (list, tuple)):
        entries = sorted(entries, key=_day)
    first, group = since, list[LedgerEntry]()
    for entry in entries:
        if len(group) >= ENTRIES_AT_ONCE and _day(entry) > (last := _day(group[-1])):
            yield first, last, group
            first, group = last + timedelta(days=1), []
        group.append(entry)
    yield first, until, group


def _day(entry: LedgerEntry) -> date:
    return entry.partition.day or date.min


def rows_of_days(column: str, since: date | None, until: date | None, parameter: str) -> tuple[str, list[str]]:
    """
    The condition for the rows of these days, and its values. Rows without a day are before all days. ``column``: the
    name in SQL; ``parameter``: what stands for a value in a statement.
    """
    day = f"cast({parameter} as date)"
    terms = {f"{column} >= {day}": since, f"{column} < {day} + 1": until}
    given = {term: edge.isoformat() for term, edge in terms.items() if edge is not None}
    condition = " and ".join(given) or "true"
    return condition if since is not None else f"({condition} or {column} is null)", [*given.values()]
