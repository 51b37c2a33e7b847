"""
The delivered partitions of a stream as a sequence that is read from the ledger some days at a time.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import islice
from typing import Any, TypeVar

import penstock.ledger.partition_queries as partition_queries
from penstock.ledger_interface import Ledger, LedgerEntry
from penstock.model import Partition

DayWindow = tuple[date | None, date | None]
"""The first and the last day, both included; None: no bound."""

_T = TypeVar("_T")


class DeliveredEntries(Sequence[LedgerEntry]):
    """
    The delivered partitions of a window of days (both included; None: no bound), in the order of their days.

    ``accepts``: which of them. They are read from the ledger some days at a time, again with each iteration, so that a
    long history is not in memory. ``changed`` returns what to put in place of an entry. ``unsettled``: what a run was
    writing when it ended; known after the first iteration.
    """

    def __init__(
        self,
        ledger: Ledger,
        source: str,
        stream: str,
        *,
        since: date | None = None,
        until: date | None = None,
        accepts: Callable[[Partition], bool] = lambda partition: True,
        changed: Callable[[LedgerEntry], LedgerEntry] = lambda entry: entry,
    ) -> None:
        self._ledger, self._source, self._stream = ledger, source, stream
        self._since, self._until, self._accepts, self._changed = since, until, accepts, changed
        self._windows: list[DayWindow] | None = None
        self._count: int | None = None
        self.unsettled: set[Partition] = set()

    def __iter__(self) -> Iterator[LedgerEntry]:
        count = 0
        if self._windows is None:
            windows = windows_of_rows(self._ledger, self._source, self._stream, self._since, self._until)
            self._windows = list(windows)
        for entry in each_once(self._windows, self._entries, lambda entry: entry.partition.day):
            if not self._accepts(entry.partition):
                continue
            if entry.state == "delivered":
                count += 1
                yield self._changed(entry)
            elif entry.state in ("intended", "staged"):
                self.unsettled.add(entry.partition)
        self._count = count

    def _entries(self, since: date | None, until: date | None) -> list[LedgerEntry]:
        """The rows of a window, in the order of their days."""
        entries = self._ledger.entries(self._source, self._stream, since=since, until=until)
        return sorted(entries.values(), key=lambda entry: entry.partition.day or date.min)

    def __len__(self) -> int:
        if self._count is None:
            deque(self, maxlen=0)
        return self._count or 0

    def __bool__(self) -> bool:
        return any(True for _ in self)

    def __getitem__(self, index: Any) -> Any:
        return next(islice(self, index, None)) if isinstance(index, int) and index >= 0 else list(self)[index]


def windows_of_rows(
    ledger: Ledger, source: str, stream: str, since: date | None, until: date | None
) -> Iterator[DayWindow]:
    """
    A window, divided into windows of some ``ROWS_AT_ONCE`` rows. The first and the last one end where the window does;
    what has no day is in each of them.
    """
    if since is not None and since == until:
        yield since, until  # a day is not divided, however many accounts have it
        return
    counts = ledger.counts(source, stream)
    days = [day for count in counts for day in (count.first_day, count.last_day) if day is not None]
    if not days:
        yield since, until
        return
    partitions = sum(count.partitions for count in counts)
    length = timedelta(days=partition_queries.ROWS_AT_ONCE * (max(days) - min(days)).days // partitions)
    first, last = max(min(days), since or date.min), min(max(days), until or date.max)
    while first + length < last:
        yield since, first + length
        since = first = first + length + timedelta(days=1)
    yield since, until


def each_once(
    windows: Iterable[DayWindow],
    read: Callable[[date | None, date | None], Iterable[_T]],
    day_of: Callable[[_T], date | str | None],
) -> Iterator[_T]:
    """What is read of each window of :func:`windows_of_rows`; what has no day, which all of them have, once."""
    for number, (since, until) in enumerate(windows):
        for row in read(since, until):
            if number == 0 or day_of(row):
                yield row
