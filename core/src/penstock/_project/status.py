"""
``status``: the state of sources in targets, from their ledgers: accounts, problems and last runs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from attrs import asdict

from penstock._config.source import ConfiguredSource
from penstock._plan.accounts import zone_memory, zone_of
from penstock._plan.finality import reader_version
from penstock._plan.window import first_served
from penstock._plugins.plugin_errors import FAILURES
from penstock._project.history import run_info
from penstock._project.problems import OVERDUE, never_read, problems_of
from penstock._project.setup import Setup
from penstock._project.target_query import SourceLedger, TargetQuery, matches_account
from penstock.errors import PenstockError
from penstock.ledger_interface import AccountCounts, Ledger, RunRecord
from penstock.results import AccountStatus, SourceStatus, StatusResult, TargetStatus

RUNS_SHOWN = 5


def status(query: TargetQuery, accounts: Sequence[str], max_age_s: float | None) -> StatusResult:
    """See :meth:`penstock.Project.status`. ``accounts``: patterns."""
    now, of_targets = query.clock.now(), []
    for selected, opened in query:
        sources, problems, keeps_ledger = [], [], selected.keeps_ledger
        if max_age_s is not None and not accounts and keeps_ledger:
            problems += never_read(query.expected(selected), [source_ledger.source for source_ledger in opened])
        for source_ledger in opened:
            is_expected = max_age_s is not None and source_ledger.source in query.in_pipelines(selected)
            read = _source_status(query.setup, source_ledger, now, accounts, max_age_s, is_expected=is_expected)
            if read is not None:
                sources.append(read)
                served = partial(_first_served, _configured(query.setup, source_ledger.source), now)
                problems += problems_of(source_ledger, read, now, accounts, served)
        of_targets.append(
            TargetStatus(
                target=selected.sink.name,
                sources=tuple(sources),
                problems=tuple(problems),
                keeps_ledger=keeps_ledger,
            )
        )
    of_targets += [TargetStatus(target=target, sources=(), error=error) for target, error in query.failed.items()]
    overdue = any(problem.kind == OVERDUE for target in of_targets for problem in target.problems)
    return query.with_notices(StatusResult(targets=tuple(of_targets), exit_code=int(overdue)))


def _source_status(
    setup: Setup,
    source_ledger: SourceLedger,
    now: datetime,
    accounts: Sequence[str],
    max_age_s: float | None,
    *,
    is_expected: bool,
) -> SourceStatus | None:
    """
    The state of a source in one target. ``accounts``: patterns; empty: all. ``is_expected``: accounts that were never
    read into this target are included. None for a source that has no such account, neither in the ledger nor in the
    configuration or the provider's list.
    """
    source, ledger = source_ledger.source, source_ledger.ledger
    configured = _configured(setup, source)
    zones, accounts_by_stream = _zones(setup, ledger, source), _configured_accounts(configured, ledger)
    gone, listed = configured is None and is_gone(setup, source), _listed_by_provider(configured)
    all_counts: Sequence[AccountCounts] = ledger.counts(source)
    if is_expected:
        all_counts = sorted((*all_counts, *_never_read(all_counts, accounts_by_stream)), key=attrgetter("stream"))
    counts = [count for count in all_counts if matches_account(accounts, count.account.values())]
    if not counts and not any(matches_account(accounts, names) for names in accounts_by_stream.values()):
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


def _first_served(configured: ConfiguredSource | None, now: datetime, account: AccountStatus) -> date | None:
    """
    The first day that the provider serves of a stream, in the zone of an account; None: not stated, or the stream is
    not there any more, or its connector has a defect, which a plan names.
    """
    if configured is None:
        return None
    with suppress(*FAILURES):
        source = configured.for_account(None, account.timezone)
        return next(
            (first_served(source, found, now) for found in source.streams if found.name == account.stream), None
        )
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


def _never_read(
    counts: Sequence[AccountCounts], accounts_by_stream: Mapping[str, frozenset[str]]
) -> list[AccountCounts]:
    """The known accounts of which the ledger has no row, of the streams that it has."""
    columns = {(count.source, count.stream): name for count in counts for name in count.account}
    read = {(count.stream, account) for count in counts for account in count.account.values()}
    return [
        AccountCounts(source=source, stream=stream, account={column: account})
        for (source, stream), column in columns.items()
        for account in sorted(accounts_by_stream.get(stream, ()))
        if (stream, account) not in read
    ]


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
