"""
What a plan reads from a target: the ledger's rows of a stream's window, and its final days.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from attrs import frozen

from penstock._plan.accounts import account_of
from penstock._plan.window import Window
from penstock._plugins.plugin_errors import sink_errors
from penstock.connector import Stream
from penstock.ledger_interface import FinalDay, Ledger, LedgerEntry, PendingReport
from penstock.model import Pairs, Partition
from penstock.sinks import Target

DaysByAccount = Mapping[str | None, Sequence[date]]
"""The days of each account, ascending; None: of a stream without accounts."""


class LedgerRows(NamedTuple):
    """The ledger's rows of a stream's window."""

    entries: Mapping[Partition, LedgerEntry]
    reports: Mapping[str | None, Sequence[PendingReport]]  # under way, by account
    # The delivered partitions of a stream of changes, by the values of their account.
    delivered: Mapping[Pairs, Sequence[Partition]]


class _Span(NamedTuple):
    """Accounts, and the first and the last of their days (None: without days, of a snapshot)."""

    since: date | None
    until: date | None
    accounts: list[str | None]


@frozen(eq=False, repr=False)
class LedgerQuery:
    """The queries about the streams of one source. ``target`` None: nothing was written yet."""

    source: str
    target: Target | None

    @property
    def ledger(self) -> Ledger | None:
        """None where nothing was written yet, or the target has none."""
        return self.target.ledger if self.target is not None else None

    def rows(self, stream: Stream, days: DaysByAccount) -> LedgerRows:
        """
        The rows of these days of these accounts (without days: of a snapshot; of ``changes``: from an account's first
        day on), and the reports under way: the cost does not grow with the history.
        """
        if self.ledger is None:
            return LedgerRows(entries={}, reports={}, delivered={})
        spans = _spans_to_the_end(days) if stream.kind == "changes" else _spans(days)
        entries = self._entries(stream, spans)
        return LedgerRows(
            entries=entries,
            reports=self._reports(self.ledger, stream),
            delivered=_delivered_by_account(entries) if stream.kind == "changes" else {},
        )

    def entries(self, stream: Stream, days: DaysByAccount) -> dict[Partition, LedgerEntry]:
        """The rows of these days only, also of ``changes``."""
        return self._entries(stream, _spans(days))

    def _entries(self, stream: Stream, spans: Iterable[_Span]) -> dict[Partition, LedgerEntry]:
        entries: dict[Partition, LedgerEntry] = {}
        if (ledger := self.ledger) is None:
            return entries
        with sink_errors(type(ledger).__name__):
            for since, until, accounts in spans:
                entries |= ledger.entries(
                    self.source, stream.name, since=since, until=until, accounts=_named(stream, accounts)
                )
        return entries

    def _reports(self, ledger: Ledger, stream: Stream) -> dict[str | None, list[PendingReport]]:
        reports: dict[str | None, list[PendingReport]] = {}
        if stream.poller is None:
            return reports
        with sink_errors(type(ledger).__name__):
            pending = ledger.pending(self.source, stream.name)
        for report in pending:
            reports.setdefault(account_of(stream, report), []).append(report)
        return reports

    def listed_final(self, stream: Stream, days: DaysByAccount) -> Iterable[FinalDay] | None:
        """The final days from the first of these days to the last; None where the target does not list them."""
        if self.target is None or not days:
            return None
        window, name = Window.around(days.values()), type(self.target).__name__
        with sink_errors(name):
            listed = self.target.final_days(
                stream.name, since=window.since, until=window.until, accounts=_named(stream, days)
            )
        return None if listed is None else _naming_sink(listed, name)

    def read_at(self, stream: Stream, days: DaysByAccount) -> dict[tuple[str | None, date], datetime]:
        """By account and day, when the delivered days from the first of these days to the last were read."""
        if (listed := self.listed_final(stream, days)) is not None:
            return {
                (final.account if stream.account is not None else None, date.fromisoformat(final.day)): final.read_at
                for final in listed
                if final.read_at is not None
            }
        if not days:
            return {}
        window = Window.around(days.values())
        entries = self._entries(stream, [_Span(window.since, window.until, list(days))])
        return {
            (partition.as_dict().get(stream.account or ""), partition.day): entry.read_at
            for partition, entry in entries.items()
            if partition.day is not None and entry.delivered and entry.read_at is not None
        }


def _naming_sink(final_days: Iterable[FinalDay], name: str) -> Iterator[FinalDay]:
    """The final days that a sink lists. They may be a million, and may be read while they are iterated."""
    with sink_errors(name):
        yield from final_days


def _spans(days: DaysByAccount) -> list[_Span]:
    """
    Consecutive days that the same accounts have, as one span: all of these days, and no others. An account may have one
    day of long ago, which failed, and some of this week.
    """
    if without_days := [account for account, account_days in days.items() if not account_days]:
        return [_Span(None, None, without_days)]
    by_day: dict[date, list[str | None]] = {}
    for account, account_days in days.items():
        for day in account_days:
            by_day.setdefault(day, []).append(account)
    spans: list[_Span] = []
    for day in sorted(by_day):
        since, accounts = day, by_day[day]
        if spans and spans[-1].until == day - timedelta(days=1) and spans[-1].accounts == accounts:
            since = spans.pop().since or day
        spans.append(_Span(since, day, accounts))
    return spans


def _spans_to_the_end(days: DaysByAccount) -> list[_Span]:
    """From the first day of each account on. The days of changes after the window are needed, see PartitionPlanner."""
    by_first_day: dict[date | None, list[str | None]] = {}
    for account, account_days in days.items():
        by_first_day.setdefault(account_days[0] if account_days else None, []).append(account)
    return [_Span(since, None, accounts) for since, accounts in by_first_day.items()]


def _named(stream: Stream, accounts: Iterable[str | None]) -> list[str] | None:
    """The accounts as a ledger's parameter; None for a stream without accounts."""
    return [account for account in accounts if account is not None] if stream.account is not None else None


def _delivered_by_account(entries: Mapping[Partition, LedgerEntry]) -> dict[Pairs, list[Partition]]:
    delivered: dict[Pairs, list[Partition]] = {}
    for partition, entry in entries.items():
        if entry.delivered:
            delivered.setdefault(partition.values[:-1], []).append(partition)
    return delivered
