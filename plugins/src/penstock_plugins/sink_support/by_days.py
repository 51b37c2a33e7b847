"""
Ledger entries in blocks of days, so that memory does not grow with the history.
"""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from penstock import LedgerEntry

ENTRIES_AT_ONCE = 10_000
"""The entries after which another part begins, with the next day."""


def by_days(
    entries: Sequence[LedgerEntry], since: date | None, until: date | None
) -> Iterator[tuple[date | None, date | None, list[LedgerEntry]]]:
    """
    The entries of a window, which are in the order of their days unless they are a list, in parts: each with its first
    and its last day. The parts cover all days of the window, and no two have one in common.
    """
    if isinstance(entries, (list, tuple)):
        entries = sorted(entries, key=_day)
    first, part = since, list[LedgerEntry]()
    for entry in entries:
        if len(part) >= ENTRIES_AT_ONCE and _day(entry) > (last := _day(part[-1])):
            yield first, last, part
            first, part = last + timedelta(days=1), []
        part.append(entry)
    yield first, until, part


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
