"""
The state of a source in a target, from its ledger: accounts, last runs, and problems that need attention.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from attrs import asdict, evolve

from penstock._config.source import ConfiguredSource
from penstock._plan.accounts import zone_memory, zone_of
from penstock._plan.finality import reader_version
from penstock._util.text import without_place
from penstock.errors import PenstockError
from penstock.ledger_interface import AccountCounts, Ledger, LedgerEntry, RunRecord
from penstock.names import counted
from penstock.project.delivered import changes_of, moved_in_words
from penstock.project.results import (
    AccountStatus,
    Change,
    Problem,
    RunInfo,
    SourceStatus,
)
from penstock.project.setup import Setup
from penstock.project.targets import SourceLedger, holds, narrowed

RUNS_SHOWN = 5
NEWS = timedelta(hours=24)
OVERDUE = "overdue"
NEW_FOR = timedelta(days=7)  # for so long a member without a column is new, and so is the end of a provider's account


def source_status(
    setup: Setup, source_ledger: SourceLedger, now: datetime, accounts: Sequence[str], max_age_s: float | None
) -> SourceStatus | None:
    """
    The state of a source in one target. ``accounts``: patterns; empty: all. None for a source that has no such account,
    neither in the ledger nor in the configuration or the provider's list.
    """
    source, ledger = source_ledger.source, source_ledger.ledger
    configured = _configured(setup, source)
    zones, accounts_by_stream = _zones(setup, ledger, source), _configured_accounts(configured, ledger)
    gone, listed = configured is None and is_gone(setup, source), _listed_by_provider(configured)
    counts = [count for count in ledger.counts(source) if holds(accounts, count.account.values())]
    if not counts and not any(holds(accounts, names) for names in accounts_by_stream.values()):
        return None
    runs = _summary_of(source_ledger.runs(), now)
    return SourceStatus(
        source=source,
        configured=not gone,
        streams=tuple(
            _account_status(
                count,
                now,
                timezone=next((zones[value] for value in count.account.values() if value in zones), None),
                configured=False if gone else _is_known(count, accounts_by_stream.get(count.stream)),
                listed=count.stream in listed,
                max_age_s=max_age_s,
            )
            for count in counts
        ),
        runs=tuple(run_info(run, source_ledger.target_name) for run in runs.last),
        last_good=runs.last_good,
        requests_this_month=runs.requests_this_month,
        changed=_unread_by_other_versions(
            configured, ledger, {count.stream for count in counts if count.rejected or count.unread_values}
        ),
    )


def _configured(setup: Setup, source: str) -> ConfiguredSource | None:
    """The source as configured; None for one that was removed, or whose secret is not here."""
    try:
        return setup.source(source)
    except PenstockError:
        return None


def is_gone(setup: Setup, source: str) -> bool:
    """Whether there is a configuration of sources, and this one is not in it."""
    config = setup.config
    return bool(config.sources) and not config.problems and source not in config.sources


def _unread_by_other_versions(
    configured: ConfiguredSource | None, ledger: Ledger, unread: Collection[str]
) -> dict[str, int]:
    """
    By stream, the partitions of which something could not be read, and which are read in another way today.

    ``unread``: the streams that have such partitions; the ledger is queried for these only.
    """
    if configured is None:
        return {}
    counts = {
        stream.name: ledger.unread_by_other_versions(configured.name, stream.name, reader_version(configured, stream))
        for stream in configured.streams
        if stream.name in unread
    }
    return {name: count for name, count in counts.items() if count}


def _configured_accounts(configured: ConfiguredSource | None, ledger: Ledger) -> dict[str, frozenset[str]]:
    """The accounts of each stream, configured or listed by the provider, where they are known."""
    if configured is None:
        return {}
    configured_accounts: dict[str, frozenset[str]] = {}
    for stream in configured.streams:
        accounts = configured.accounts_of(stream)
        if accounts is None and stream.accounts_from is not None:
            accounts = ledger.accounts(configured.name, stream.accounts_from[0]) or None
        if stream.account is not None and accounts is not None:
            configured_accounts[stream.name] = frozenset(accounts)
    return configured_accounts


def _listed_by_provider(configured: ConfiguredSource | None) -> frozenset[str]:
    """The streams whose accounts the provider lists."""
    streams = () if configured is None else configured.streams
    return frozenset(
        stream.name
        for stream in streams
        if configured is not None and stream.accounts_from is not None and configured.accounts_of(stream) is None
    )


def _is_known(counts: AccountCounts, accounts: frozenset[str] | None) -> bool | None:
    """Whether the account is one of ``accounts``; None where these are not known, or the stream has no accounts."""
    return None if accounts is None or not counts.account else bool(accounts.intersection(counts.account.values()))


def _zones(setup: Setup, ledger: Ledger, source: str) -> dict[str, str]:
    """The time zones of accounts that have their own: those that the provider listed, and those of the tables."""
    try:
        streams = setup.registry.streams(setup.config.connector_of(source))
    except PenstockError:  # the ledger may have sources whose connector is not installed any more
        streams = ()
    zones: dict[str, str] = {}
    for stream in streams:
        if stream.zone_from is not None:
            zones.update(map(zone_of, ledger.accounts(source, zone_memory(stream))))
    return zones | setup.config.account_zones(source)


def _account_status(
    counts: AccountCounts,
    now: datetime,
    *,
    timezone: str | None,
    configured: bool | None,
    listed: bool,
    max_age_s: float | None,
) -> AccountStatus:
    age_s = int((now - counts.last_read).total_seconds()) if counts.last_read else None
    late = max_age_s is not None and (age_s is None or age_s > max_age_s)
    return AccountStatus(
        **asdict(counts, recurse=False),
        age_s=age_s,
        timezone=timezone,
        configured=configured,
        listed=listed,
        overdue=late and configured is not False,
    )


class _RunsSummary(NamedTuple):
    """
    The last runs, the end of the last good one, and the requests of those that started in this calendar month (UTC).
    """

    last: Sequence[RunRecord]
    last_good: datetime | None
    requests_this_month: int


def _summary_of(runs: Iterable[RunRecord], now: datetime) -> _RunsSummary:
    """``runs``: newest first. Older ones than the summary needs are not taken."""
    month = f"{now.astimezone(UTC):%Y-%m}"
    last: list[RunRecord] = []
    last_good, requests = None, 0
    for run in runs:
        started_in = f"{run.started_at.astimezone(UTC):%Y-%m}"
        if len(last) == RUNS_SHOWN and last_good is not None and started_in < month:
            break
        if len(last) < RUNS_SHOWN:
            last.append(run)
        if last_good is None and run.exit_code in (0, 5):
            last_good = run.finished_at
        if started_in == month:
            requests += run.requests
    return _RunsSummary(last, last_good, requests)


def runs_of(source_ledger: SourceLedger, limit: int, run_id: str | None) -> list[RunInfo]:
    """The last runs of a source in one target, newest first, at most ``limit``; ``run_id``: only the run of this id."""
    runs = narrowed(source_ledger.ledger.runs, run_id=run_id)(source_ledger.source, limit)
    return [run_info(run, source_ledger.target_name) for run in runs if run_id in (None, run.run_id)]


def run_info(run: RunRecord, target: str) -> RunInfo:
    streams = run.report.get("streams", {}).values()
    return RunInfo(
        run_id=run.run_id,
        source=run.source,
        started_at=run.started_at,
        target=target,
        finished_at=run.finished_at,
        exit_code=run.exit_code,
        records=sum(stream.get("records", 0) for stream in streams),
        rejected=sum(stream.get("rejected", 0) for stream in streams),
        requests=run.requests,
        failed=sum(stream.get("partitions", {}).get("failed", 0) for stream in streams),
        report=run.report,
    )


# --- problems ---------------------------------------------------------------------------------------------------------


def problems_of(
    source_ledger: SourceLedger, status: SourceStatus, now: datetime, accounts: Sequence[str]
) -> list[Problem]:
    """
    The problems of a source: a pause, failed partitions by reason, gaps, rejected records, accounts not read or not
    listed any more, months that are over and were restated, new members. ``accounts``: the patterns that ``status`` was
    made for. What left the configuration needs no attention: no run reads it.
    """
    if not status.configured:
        return []
    name = status.source
    problems = [
        Problem(source=name, kind="parked", count=1, last_read=status.last_good, reason=reason)
        for run in status.runs[:1]
        for reason in run.report.get("parked", {}).values()
    ]
    for account in status.streams:
        if account.configured is False:
            unread = account.open + account.failed
            if account.listed and unread and account.last_read is not None and account.last_read >= now - NEW_FOR:
                reason = "the provider does not list the account any more, so that no run reads it"
                problems.append(_problem(name, account, "left open", unread, reason))
            continue
        if account.overdue:
            problems.append(_problem(name, account, OVERDUE, 1, "not read for longer than allowed"))
        if account.missing:
            reason = "days between the first and the last were never delivered"
            problems.append(_problem(name, account, "missing", account.missing, reason))
        if account.failed or account.rejected or account.unread_values or account.truncated:
            flawed = narrowed(source_ledger.ledger.entries, flawed=True)
            entries = flawed(name, account.stream, accounts=list(account.account.values()) or None)
            of_account = [
                entry for partition, entry in entries.items() if partition.without_day.as_dict() == account.account
            ]
            problems += [
                evolve(_problem(name, account, kind, sum(map(_COUNTED[kind], entries)), reason), **_span(entries))
                for (kind, reason), entries in _by_reason(of_account).items()
            ]
    return [
        *problems,
        *_failed_as_a_whole(status, accounts),
        *_restated_months(source_ledger, now, accounts),
        *_new_members(source_ledger, status, now, accounts),
    ]


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
        if has_a_row or (partition and not holds(accounts, partition.values())):
            continue
        yield Problem(
            source=status.source,
            stream=error["stream"] or "",
            account=partition,
            kind="failed",
            count=1,
            last_read=status.last_good,
            reason=without_place(error["message"]),
        )


def _problem(source: str, account: AccountStatus, kind: str, count: int, reason: str) -> Problem:
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
        if month_ended and change.changed_at >= since and change.moved and holds(accounts, change.account.values()):
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
    last = {
        stream: members
        for stream, members in members_of(run.report for run in status.runs[:1]).items()
        if not accounts or stream in streams
    }
    if not last:
        return
    former = members_of(run.report for run in source_ledger.runs() if run.started_at < now - NEW_FOR)
    for stream, members in last.items():
        if new := [member for member in members if member not in former.get(stream, ())]:
            yield Problem(
                source=status.source,
                stream=stream,
                kind="new",
                count=len(new),
                last_read=status.runs[0].started_at,
                reason=f"no column holds the {'member' if len(new) == 1 else 'members'} {', '.join(new)}",
            )


def members_of(reports: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """By stream, the members that no record class declares, as the reports of runs name them."""
    by_stream: dict[str, dict[str, None]] = {}
    for report in reports:
        for stream, counts in report.get("streams", {}).items():
            for member in counts.get("unknown_members") or ():
                by_stream.setdefault(stream, {})[member] = None
    return {stream: list(members) for stream, members in by_stream.items()}


_COUNTED: Mapping[str, Callable[[LedgerEntry], int]] = {
    "failed": lambda entry: 1,
    "rejected": lambda entry: entry.rejected,
    "not read": lambda entry: entry.unread_values,
    "truncated": lambda entry: 1,
}


def _by_reason(entries: Iterable[LedgerEntry]) -> dict[tuple[str, str], list[LedgerEntry]]:
    """The entries that have a problem, by kind and reason."""
    by_reason: dict[tuple[str, str], list[LedgerEntry]] = {}
    for entry in entries:
        if entry.error is not None:
            by_reason.setdefault(("failed", without_place(entry.error)), []).append(entry)
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
