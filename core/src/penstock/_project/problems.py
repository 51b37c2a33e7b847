"""
Problems of a source in a target that need attention, from its ledger.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

from attrs import evolve

from penstock._project.history import changes_of
from penstock._project.target_query import SourceLedger, matches_account
from penstock.ledger_interface import LedgerEntry
from penstock.model import Pairs
from penstock.names import counted
from penstock.results import (
    NEWS,
    NO_LONGER_SERVED,
    AccountStatus,
    Change,
    Problem,
    ProblemKind,
    SourceStatus,
    moved_in_words,
)

ACCOUNTS_AT_ONCE = 10  # whose rows with a problem are read
OVERDUE: ProblemKind = "overdue"
NEW_FOR = timedelta(days=7)  # for so long a member without a column is new, and so is the end of a provider's account


def problems_of(
    source_ledger: SourceLedger,
    status: SourceStatus,
    now: datetime,
    accounts: Sequence[str],
    first_served: Callable[[AccountStatus], date | None],
) -> list[Problem]:
    """
    The problems of a source: a pause, failed partitions by reason, gaps, rejected records, accounts not read or not
    listed any more, months that are over and were restated, new members. ``accounts``: the patterns that ``status`` was
    made for. ``first_served``: the first day that the provider serves, where it is known. What left the configuration
    needs no attention: no run reads it.
    """
    if not status.configured:
        return []
    flawed = _flawed_entries(source_ledger, filter(_is_flawed, status.streams))
    problems = list(_parked(status))
    for account in status.streams:
        if account.configured is False:
            problems += _left_open(status.source, account, now)
            continue
        problems += _unread_days(status.source, account)
        if _is_flawed(account):
            first = first_served(account) if account.failed else None
            problems += _flaws(status.source, account, next(flawed), first)
    return [
        *problems,
        *_failed_as_a_whole(status, accounts),
        *_restated_months(source_ledger, now, accounts),
        *_new_members(source_ledger, status, now, accounts),
    ]


def _parked(status: SourceStatus) -> Iterator[Problem]:
    """That the last run requested nothing more of the source until a time that the provider states."""
    last_read = max((account.last_read for account in status.streams if account.last_read), default=None)
    for run in status.runs[:1]:
        for reason in run.report.get("parked", {}).values():
            yield Problem(source=status.source, kind="parked", count=1, last_read=last_read, reason=reason)


def _left_open(source: str, account: AccountStatus, now: datetime) -> Iterator[Problem]:
    """The open partitions of an account that left the provider's list lately."""
    partitions = account.open + account.failed
    is_recent = account.last_read is not None and account.last_read >= now - NEW_FOR
    if account.listed and partitions and is_recent:
        reason = "the provider does not list the account any more, so that no run reads it"
        yield _problem(source, account, "left open", partitions, reason)


def _unread_days(source: str, account: AccountStatus) -> Iterator[Problem]:
    """That an account was not read for too long, and its days that were never delivered."""
    if account.overdue:
        yield _problem(source, account, OVERDUE, 1, "not read for longer than allowed")
    if account.missing:
        reason = "days between the first and the last were never delivered"
        yield _problem(source, account, "missing", account.missing, reason)


def _flaws(
    source: str, account: AccountStatus, entries: Iterable[LedgerEntry], first_served: date | None
) -> Iterator[Problem]:
    """The problems of these rows of an account, by kind and reason. ``first_served``: see problems_of."""
    for (kind, reason), alike in _by_reason(entries, first_served).items():
        problem = _problem(source, account, kind, sum(map(_COUNTED[kind], alike)), reason)
        yield evolve(problem, **_span(alike))


def _is_flawed(account: AccountStatus) -> bool:
    """Whether rows of an account that is still read have a problem."""
    flaws = account.failed or account.rejected or account.unread_values or account.truncated
    return bool(flaws) and account.configured is not False


def _flawed_entries(source_ledger: SourceLedger, accounts: Iterable[AccountStatus]) -> Iterator[list[LedgerEntry]]:
    """
    The rows with a problem of each account, in the order of the accounts, which is by stream. One query has those of
    several accounts: a database without indexes reads all rows for each query.
    """
    for stream, stream_accounts in groupby(accounts, attrgetter("stream")):
        while chunk := list(islice(stream_accounts, ACCOUNTS_AT_ONCE)):
            have_names = all(account.account for account in chunk)  # else also rows of a time without accounts
            names = [value for account in chunk for value in account.account.values()] if have_names else None
            by_account: dict[Pairs, list[LedgerEntry]] = {}
            entries = source_ledger.ledger.entries(source_ledger.source, stream, accounts=names, flawed=True)
            for partition, entry in entries.items():
                by_account.setdefault(partition.without_day.values, []).append(entry)
            yield from (by_account.get(tuple(account.account.items()), []) for account in chunk)


def never_read(expected: Iterable[str], in_ledger: Collection[str]) -> list[Problem]:
    """The sources that should have been read into a target, and that its ledger does not know."""
    return [
        Problem(source=name, kind=OVERDUE, count=1, last_read=None, reason="never read into this target")
        for name in expected
        if name not in in_ledger
    ]


def _failed_as_a_whole(status: SourceStatus, accounts: Sequence[str]) -> Iterator[Problem]:
    """What failed in the last run before it had partitions, such as an account: the ledger has no row of it."""
    for error in (error for run in status.runs[:1] for error in run.report.get("errors", ())):
        partition = error["partition"] or {}
        has_a_row = any(
            account.failed and account.stream == error["stream"] and account.account.items() <= partition.items()
            for account in status.streams
        )
        if has_a_row or (partition and not matches_account(accounts, partition.values())):
            continue
        yield Problem(
            source=status.source,
            stream=error["stream"] or "",
            account=partition,
            kind="failed",
            count=1,
            last_read=status.last_good,
            reason=error.get("reason", error["message"]),
        )


def _problem(source: str, account: AccountStatus, kind: ProblemKind, count: int, reason: str) -> Problem:
    """A problem of one account of one stream, in all of its days."""
    return Problem(
        source=source,
        stream=account.stream,
        account=account.account,
        kind=kind,
        count=count,
        first_day=account.first_day,
        last_day=account.last_day,
        last_read=account.last_read,
        reason=reason,
    )


def _restated_months(source_ledger: SourceLedger, now: datetime, accounts: Sequence[str]) -> Iterator[Problem]:
    """
    By stream and month, what the provider restated in the last :data:`NEWS` in months that are over: they may have been
    invoiced. Changes that move neither rows nor sums are left out.
    """
    since = now - NEWS
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in changes_of(source_ledger, since.date(), merged=True):
        month_ended = change.day is not None and (change.day.year, change.day.month) < (now.year, now.month)
        if (
            month_ended
            and change.changed_at >= since
            and change.moved
            and matches_account(accounts, change.account.values())
        ):
            groups.setdefault((change.stream, f"{change.day:%Y-%m}"), []).append(change)
    for (stream, month), changes in groups.items():
        days = [change.day for change in changes if change.day is not None]
        accounts_restated = len({tuple(change.account.items()) for change in changes})
        moves = ", ".join(moved_in_words(changes))
        yield Problem(
            source=source_ledger.source,
            stream=stream,
            kind="restated",
            count=len(changes),
            first_day=min(days),
            last_day=max(days),
            last_read=max(change.changed_at for change in changes),
            reason=f"{month} is over, and the provider restated it: {counted(accounts_restated, 'account')}, {moves}",
        )


def _new_members(
    source_ledger: SourceLedger, status: SourceStatus, now: datetime, accounts: Sequence[str]
) -> Iterator[Problem]:
    """
    By stream, the members without a column of the last run that no run before the last :data:`NEW_FOR` met. With
    ``accounts``, of the streams that have such an account.
    """
    streams = {account.stream for account in status.streams}
    new = {
        stream: members
        for stream, members in members_of(run.report for run in status.runs[:1]).items()
        if not accounts or stream in streams
    }
    runs = source_ledger.runs()
    while new and (run := next(runs, None)) is not None:  # older reports than are needed are not read
        if run.started_at < now - NEW_FOR:
            known = members_of([run.report])
            left = {
                stream: [name for name in names if name not in known.get(stream, ())] for stream, names in new.items()
            }
            new = {stream: names for stream, names in left.items() if names}
    for stream, members in new.items():
        yield Problem(
            source=status.source,
            stream=stream,
            kind="new",
            count=len(members),
            last_read=status.runs[0].started_at,
            reason=f"no column holds the {'member' if len(members) == 1 else 'members'} {', '.join(members)}",
            members=tuple(members),
        )


def members_of(reports: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """By stream, the members that no record class declares, as the reports of runs name them."""
    by_stream: dict[str, dict[str, None]] = {}
    for report in reports:
        for stream, counts in report.get("streams", {}).items():
            for member in counts.get("unknown_members") or ():
                by_stream.setdefault(stream, {})[member] = None
    return {stream: list(members) for stream, members in by_stream.items()}


_COUNTED: Mapping[ProblemKind, Callable[[LedgerEntry], int]] = {
    "failed": lambda entry: 1,
    "rejected": lambda entry: entry.rejected,
    "not read": lambda entry: entry.unread_values,
    "truncated": lambda entry: 1,
}


def _by_reason(
    entries: Iterable[LedgerEntry], first_served: date | None
) -> dict[tuple[ProblemKind, str], list[LedgerEntry]]:
    """The entries that have a problem, by kind and reason. ``first_served``: see problems_of; None: not known."""
    by_reason: dict[tuple[ProblemKind, str], list[LedgerEntry]] = {}
    for entry in entries:
        if entry.error is not None:
            day, reason = entry.partition.day, entry.error
            if day is not None and first_served is not None and day < first_served:
                reason = f"{NO_LONGER_SERVED}, as the provider serves days from {first_served} on; it failed: {reason}"
            by_reason.setdefault(("failed", reason), []).append(entry)
        if entry.rejected:
            by_reason.setdefault(("rejected", "records that cannot be decoded"), []).append(entry)
        if entry.unread_values:
            by_reason.setdefault(("not read", "values that do not fit their column"), []).append(entry)
        if entry.truncated:
            by_reason.setdefault(("truncated", "the provider lists no more; there may be more records"), []).append(
                entry
            )
    return by_reason


def _span(entries: Sequence[LedgerEntry]) -> dict[str, Any]:
    """The days and the last reading of some entries, as fields of a problem."""
    days = [day for entry in entries if (day := entry.partition.day) is not None]
    read = max((entry.read_at for entry in entries if entry.read_at), default=None)
    return {"first_day": min(days, default=None), "last_day": max(days, default=None), "last_read": read}
