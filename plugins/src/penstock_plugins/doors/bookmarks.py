"""
The state of a run whose target keeps no ledger: final days, as JSON that another tool stores and brings back.

The state of a stream maps each account (empty text: no accounts) to the fingerprint of the settings that it was read
with, and its final days to how long they were open::

    {"accounts": {"2112": {"fingerprint": "7d0c...", "final": {"2026-08-25/2026-11-15": [345600, ""]}}}}

A range of days has one value: the seconds from the beginning of the first day (UTC) to the end of the provider's
restatements, and the fingerprint of the record class where records were set aside. Days that are open are not in it:
they are read again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

from attrs import define, field, frozen
from penstock import (
    AccountCounts,
    Layout,
    LedgerEntry,
    Partition,
    PendingReport,
    Rejected,
    Restatement,
    RunRecord,
    UsageError,
)

from penstock_plugins.doors.schema import day_of, groups

_DAY = timedelta(days=1)


@frozen
class _Final:
    """How a day became final: the seconds from its beginning to its close, and what could not be read of it."""

    open_s: int
    read_by: str


@define
class _Account:
    fingerprint: str
    days: dict[date, _Final] = field(factory=dict)
    _state: dict[str, Any] | None = field(default=None, init=False)

    def put(self, day: date, final: _Final | None) -> bool:
        """Set a day, or delete it; whether that changed anything."""
        if self.days.get(day) == final:
            return False
        self._state = None
        if final is None:
            del self.days[day]
        else:
            self.days[day] = final
        return True

    @property
    def state(self) -> dict[str, Any]:
        if self._state is None:
            ranges: dict[str, list[Any]] = {}
            for first, last in _ranges(self.days):
                final = self.days[first]
                ranges[f"{first}/{last}"] = [final.open_s, final.read_by]
            self._state = {"fingerprint": self.fingerprint, "final": ranges}
        return self._state


def _ranges(days: Mapping[date, _Final]) -> Iterator[tuple[date, date]]:
    """Runs of consecutive days of one value."""
    ordered = sorted(days)
    if not ordered:
        return
    first = ordered[0]
    for day, following in pairwise(ordered):
        if following - day != _DAY or days[following] != days[day]:
            yield first, day
            first = following
    yield first, ordered[-1]


@define
class Bookmarks:
    """
    The final days of the streams of one source. ``layouts``: all streams that are delivered, as
    :meth:`penstock.Project.layouts` gives them; ``chosen``: of these, the ones that the other tool receives.
    """

    layouts: Sequence[Layout]
    chosen: Sequence[str]
    _streams: dict[str, dict[str, _Account]] = field(factory=dict, init=False)

    def load(self, states: Mapping[str, Any]) -> None:
        """Take over the states of streams. Raises UsageError for what is no state of penstock."""
        for stream, state in states.items():
            try:
                accounts = {str(name): _account(found) for name, found in (state or {}).get("accounts", {}).items()}
            except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
                raise UsageError(
                    f"the state of the stream {stream} is not one that penstock wrote. Run without a state, to read "
                    "everything again"
                ) from None
            self._streams[stream] = accounts

    def state(self, stream: str) -> dict[str, Any]:
        """The state of a stream, as :meth:`load` takes it."""
        accounts = self._streams.get(stream, {})
        return {"accounts": {name: one.state for name, one in accounts.items()}} if accounts else {}

    def delivered(self, entry: LedgerEntry) -> bool:
        """Record a delivery for the streams that travel together; whether the state of any changed."""
        day = entry.partition.day
        if day is None or entry.kind == "snapshot":
            return False
        account, changed = _account_of(entry.partition), False
        for stream in self.travelling(entry.partition.stream):
            accounts = self._streams.setdefault(stream, {})
            if account not in accounts or accounts[account].fingerprint != entry.fingerprint:
                accounts[account] = _Account(entry.fingerprint)
            changed = accounts[account].put(day, _final(entry, day)) or changed
        return changed

    def entries(
        self, source: str, stream: str, since: date | None, until: date | None, accounts: Sequence[str] | None
    ) -> Iterator[LedgerEntry]:
        """The final days of a stream that all streams which travel with it have, as rows of a ledger."""
        states = [self._streams.get(name, {}) for name in self.travelling(stream)]
        layout = next((one for one in self.layouts if one.stream == stream), None)
        if not states or layout is None or day_of(layout) is None:
            return
        for account, first in states[0].items():
            known = [one[account] for one in states if account in one and one[account].fingerprint == first.fingerprint]
            if len(known) < len(states) or (accounts is not None and account not in accounts):
                continue
            values = (account,) if len(layout.partition_columns) > 1 else ()
            for day, final in first.days.items():
                if (
                    (since and day < since)
                    or (until and day > until)
                    or any(one.days.get(day) != final for one in known)
                ):
                    continue
                closed = datetime.combine(day, time(), UTC) + timedelta(seconds=final.open_s)
                columns = zip(layout.partition_columns, (*values, day.isoformat()), strict=True)
                yield LedgerEntry(
                    source=source,
                    partition=Partition(stream, tuple(columns)),
                    state="delivered",
                    run_id="",
                    read_at=closed,
                    open_until=closed,
                    fingerprint=first.fingerprint,
                    read_by=final.read_by,
                )

    def travelling(self, stream: str) -> list[str]:
        """The chosen streams that one read delivers."""
        return [one.stream for one in groups(self.layouts).get(stream, ()) if one.stream in self.chosen]


def _account(found: Mapping[str, Any]) -> _Account:
    made = _Account(str(found["fingerprint"]))
    for text, (open_s, read_by) in found["final"].items():
        first, last = (date.fromisoformat(day) for day in text.split("/"))
        for number in range((last - first).days + 1):
            made.days[first + number * _DAY] = _Final(int(open_s), str(read_by))
    return made


def _account_of(partition: Partition) -> str:
    return partition.values[0][1] if len(partition.values) > 1 else ""


def _final(entry: LedgerEntry, day: date) -> _Final | None:
    if not entry.final(entry.fingerprint) or entry.open_until is None:
        return None
    opened = entry.open_until - datetime.combine(day, time(), UTC)
    return _Final(int(opened.total_seconds()), entry.read_by)


@define(eq=False, repr=False)
class StateLedger:
    """
    A ledger that lasts for one run and begins with bookmarks. Reports that a run submitted and did not read are not
    remembered: the next run submits them again.
    """

    bookmarks: Bookmarks
    _accounts: dict[str, tuple[str, ...]] = field(factory=dict, init=False)

    def entries(
        self,
        source: str,
        stream: str,
        *,
        since: date | None = None,
        until: date | None = None,
        accounts: Sequence[str] | None = None,
    ) -> dict[Partition, LedgerEntry]:
        return {entry.partition: entry for entry in self.bookmarks.entries(source, stream, since, until, accounts)}

    def counts(
        self,
        source: str,
        stream: str | None = None,
        *,
        since: date | None = None,
        until: date | None = None,
        accounts: Sequence[str] | None = None,
    ) -> tuple[AccountCounts, ...]:
        return ()

    def read_otherwise(self, source: str, stream: str, read_by: str) -> int:
        return 0

    def restated(
        self,
        source: str | None = None,
        stream: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterable[Restatement]:
        return ()

    def deliver(self, entry: LedgerEntry) -> None:
        """No effect: a writer records its deliveries in the bookmarks."""

    def fail(self, source: str, partition: Partition, error: str, run_id: str) -> None:
        """No effect: a day that failed is not final."""

    def submit(self, report: PendingReport) -> None:
        """No effect."""

    def pending(self, source: str, stream: str) -> tuple[PendingReport, ...]:
        return ()

    def drop(self, report: PendingReport) -> None:
        """No effect."""

    def remember_accounts(self, source: str, stream: str, accounts: Sequence[str]) -> None:
        self._accounts[stream] = tuple(accounts)

    def accounts(self, source: str, stream: str) -> tuple[str, ...]:
        return self._accounts.get(stream, ())

    def forget(self, source: str, partitions: Iterable[Partition]) -> int:
        return 0

    def rejected(self, source: str | None = None, stream: str | None = None) -> Iterable[tuple[LedgerEntry, Rejected]]:
        return ()

    def sources(self) -> tuple[tuple[str, str], ...]:
        return ()

    def record_run(self, run: RunRecord) -> None:
        """No effect."""

    def runs(self, source: str, limit: int = 10) -> tuple[RunRecord, ...]:
        return ()

    def close(self) -> None:
        """No effect."""
