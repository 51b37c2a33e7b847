"""
Compare the rows of partitions in a table with the entries of the ledger, some days at a time: memory does not grow with
the history.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

from attrs import frozen
from penstock import Difference, LedgerEntry, Partition

ENTRIES_AT_ONCE = 10_000
"""The entries after which another part begins, with the next day."""


class Content(NamedTuple):
    """The rows of one partition in a table, and the sum of each measure."""

    rows: int
    sums: Mapping[str, Decimal]


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


def all_lost(entries: Iterable[LedgerEntry], stream: str, what: str) -> Iterator[Difference]:
    """All partitions with rows in a stream's table, as lost."""
    for entry in entries:
        if rows_in(entry, stream):
            yield Difference(partition=entry.partition, what=what)


class Condition(NamedTuple):
    """A condition of SQL, and the values of its parameters."""

    sql: str
    values: list[str]


@frozen(kw_only=True, eq=False, repr=False)
class ComparedTable:
    """
    The table of a stream, as it is compared with the ledger. ``name``: in messages. ``day``: the SQL of the
    column of a partition's day; None if it has none. ``parameter``: what stands for a value in a statement.

    ``read``: for the columns of a partition, measures and a condition, the rows of a query: the columns as texts, the
    number of rows, the sum of each measure. ``is_ours``: whether penstock made the table; in another one, only what was
    delivered is compared.
    """

    stream: str
    name: str
    day: str | None
    parameter: str
    has_column: Callable[[str], bool]
    read: Callable[[Sequence[str], Sequence[str], Condition], Iterable[Sequence[Any]]]
    is_ours: bool = True

    def differences(
        self, entries: Sequence[LedgerEntry], since: date | None, until: date | None
    ) -> Iterator[Difference]:
        """
        The partitions whose rows or sums in the table differ from their entry, and those of no entry. ``since``,
        ``until``: the entries are those of these days; rows of other days are not read.
        """
        if self.day is None:
            yield from self._differences_of(list(entries), Condition("true", []))
            return
        for first, last, group in by_days(entries, since, until):
            yield from self._differences_of(group, rows_of_days(self.day, first, last, self.parameter))

    def _differences_of(self, entries: Sequence[LedgerEntry], condition: Condition) -> Iterator[Difference]:
        """The differences of the partitions whose rows the condition selects; those of no entry come last."""
        of, columns = entries[0].partition.stream, [column for column, _ in entries[0].partition.values]
        measures = [measure for measure in _measures_in(entries, self.stream) if self.has_column(measure)]
        rows = self.read(columns, measures, condition)
        contents = {tuple(row[: len(columns)]): _content(row[len(columns) :], measures) for row in rows}
        nothing = Content(0, dict.fromkeys(measures, Decimal(0)))
        for entry in entries:
            content = contents.pop(tuple(value for _, value in entry.partition.values), nothing)
            if difference := self._difference(entry, content):
                yield Difference(partition=entry.partition, what=f"{self.stream}: {difference}")
        for values, content in contents.items() if self.is_ours else ():
            partition = Partition(stream=of, values=tuple(zip(columns, values, strict=True)))
            what = f"{self.stream}: {content.rows} rows in {self.name}"
            yield Difference(partition=partition, what=what, uncounted=True)

    def _difference(self, entry: LedgerEntry, content: Content) -> str:
        """What differs between an entry and the table, in a phrase; empty: nothing."""
        delivered = rows_in(entry, self.stream)
        if content.rows == delivered:
            return _other_sum(entry, content.sums)
        return f"{content.rows} rows in {self.name}, {delivered} were delivered" if delivered or self.is_ours else ""


def _measures_in(entries: Iterable[LedgerEntry], stream: str) -> list[str]:
    """The columns of which the entries have sums, if the rows of the table are those of ``stream`` itself."""
    names = (name for entry in entries if entry.partition.stream == stream for name in entry.sums)
    return list(dict.fromkeys(name.partition("[")[0] for name in names))


def _content(counts: Sequence[Any], measures: Sequence[str]) -> Content:
    """The content of a partition, from its number of rows and the sum of each measure."""
    return Content(counts[0], dict(zip(measures, map(Decimal, counts[1:]), strict=True)))


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


def rows_of_days(column: str, since: date | None, until: date | None, parameter: str) -> Condition:
    """The condition for the rows of these days. Rows without a day are before all days. ``column``: the name in SQL."""
    day = f"cast({parameter} as date)"
    terms = {f"{column} >= {day}": since, f"{column} < {day} + 1": until}
    given = {term: edge.isoformat() for term, edge in terms.items() if edge is not None}
    condition = " and ".join(given) or "true"
    with_undated = condition if since is not None else f"({condition} or {column} is null)"
    return Condition(with_undated, [*given.values()])
