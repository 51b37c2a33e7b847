"""
The accounts that the provider lists itself: what follows from the rows of the stream that lists them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from attrs import field, frozen

from penstock._config.source import ConfiguredSource
from penstock._plan.accounts import like_days_problem, zone_memory, zone_text
from penstock._plan.plan import PlannedSlice
from penstock._plan.read_job import ReadJob
from penstock.connector import Stream
from penstock.ledger_interface import Ledger
from penstock.model import is_like_day
from penstock.names import did_you_mean
from penstock.redact import clip
from penstock.settings import zone_exists


class AccountFailure(NamedTuple):
    """The failure of a stream, or of one account of it, whose partitions are not known."""

    stream: Stream
    account: str | None
    text: str


class AccountRows(NamedTuple):
    """
    The rows of a slice of a stream that lists accounts, and the streams that have these. ``of_account``: of that slice.
    ``column``: of the account. ``accounts``: each once, in the order of the rows. ``unnamed``: the number of rows
    without an account. ``like_days``: the accounts that have the form of a day, which are not in ``accounts``.
    """

    lister: Stream
    of_account: str | None
    dependents: Sequence[Stream]
    rows: Sequence[Mapping[str, Any]]
    column: str
    accounts: tuple[str, ...]
    unnamed: int
    like_days: tuple[str, ...]

    @classmethod
    def of(
        cls, planned: PlannedSlice, dependents: Sequence[Stream], rows: Sequence[Mapping[str, Any]]
    ) -> "AccountRows":
        """The rows of a slice that was read."""
        column = dependents[0].accounts_from[1] if dependents[0].accounts_from else ""
        names = [str(row[column]) for row in rows if row[column] not in (None, "")]
        distinct = tuple(dict.fromkeys(names))
        return cls(
            lister=planned.stream,
            of_account=planned.account,
            dependents=dependents,
            rows=rows,
            column=column,
            accounts=tuple(name for name in distinct if not is_like_day(name)),
            unnamed=len(rows) - len(names),
            like_days=tuple(filter(is_like_day, distinct)),
        )


@frozen(kw_only=True, eq=False, repr=False)
class ListedAccounts:
    """
    What a run does with listed accounts. ``by_stream``: the accounts to read of each stream; one whose accounts cannot
    be known is left out. ``zones``: by lister and account. ``to_remember``: by the name that the ledger has for them.
    """

    by_stream: Sequence[tuple[Stream, Sequence[str]]] = ()
    notices: Sequence[str] = ()
    failures: Sequence[AccountFailure] = ()
    zones: Mapping[tuple[str, str], str] = field(factory=dict)
    to_remember: Mapping[str, Sequence[str]] = field(factory=dict)


def compare_accounts(job: ReadJob, rows: AccountRows, ledger: Ledger | None) -> ListedAccounts:
    """The accounts of a lister's rows, compared with those that the ledger remembers."""
    source, lister = job.source, rows.lister
    notices = list(_unlisted_tables(source, rows))
    failures = list[AccountFailure]()
    zones, to_remember = dict[tuple[str, str], str](), dict[str, Sequence[str]]()
    if job.is_in_shard(lister, rows.of_account):  # one of several workers fails what has no name, and remembers
        failures += _unnamed(rows)
        if ledger is not None:
            former = ledger.accounts(source.name, lister.name)
            if former and not rows.accounts:
                return ListedAccounts(notices=notices, failures=[*failures, *_no_longer_listed(source, rows, former)])
            notices += _gone(source, rows, former, ledger)
            to_remember[lister.name] = rows.accounts
    if not rows.rows:
        dependents = ", ".join(stream.name for stream in rows.dependents)
        notices.append(f"{source.name}.{lister.name} lists no account, so that nothing is read of {dependents}")
    by_stream = list[tuple[Stream, Sequence[str]]]()
    for stream in rows.dependents:
        zoned = _zoned(job, stream, rows)
        by_stream.append((stream, zoned.accounts))
        failures += zoned.failures
        zones |= {(lister.name, account): zone for account, zone in zoned.zones.items()}
        if stream.zone_from is not None and job.is_in_shard(lister, None):
            to_remember[zone_memory(stream)] = [zone_text(account, zone) for account, zone in zoned.zones.items()]
    return ListedAccounts(by_stream=by_stream, notices=notices, failures=failures, zones=zones, to_remember=to_remember)


def _unnamed(rows: AccountRows) -> Iterator[AccountFailure]:
    """
    The failures for the listed accounts without a name, whose rows a request cannot name, and for those whose name
    cannot be one.
    """
    for stream in rows.dependents if rows.unnamed else ():
        yield AccountFailure(
            stream,
            None,
            f"{rows.unnamed} of {len(rows.rows)} records of {rows.lister.name} have no {rows.column}, by which it is "
            "read account by account. No request was made for these; the other accounts are read. If the provider "
            "lists accounts without it, the connector must name them by another column.",
        )
    for stream in rows.dependents if rows.like_days else ():
        problem = like_days_problem(rows.like_days)
        yield AccountFailure(stream, None, f"{problem} No request was made for these; the other accounts are read.")


def _no_longer_listed(source: ConfiguredSource, rows: AccountRows, former: Sequence[str]) -> Iterator[AccountFailure]:
    """
    The streams whose accounts are not listed any more, not one of them: a run that reads nothing of them must not end
    well. The ledger goes on to remember the accounts.
    """
    for stream in rows.dependents:
        yield AccountFailure(
            stream,
            None,
            f"it was not read: {rows.lister.name} lists no account, and listed {len(former)} when it was read before "
            f"({clip(', '.join(former), 200)}). What was delivered stays. If the provider has none any more, leave the "
            f'stream out, exclude_streams = ["{source.name}.{stream.name}"].',
        )


def _gone(source: ConfiguredSource, rows: AccountRows, former: Sequence[str], ledger: Ledger) -> Iterator[str]:
    """The notice of accounts that are not listed any more, and of their open days, which nobody reads again."""
    still_listed = set(rows.accounts)
    gone = [account for account in former if account not in still_listed]
    if not gone:
        return
    open_days = sum(
        1
        for stream in rows.dependents
        for entry in ledger.entries(source.name, stream.name, accounts=gone).values()
        if entry.delivered and entry.partition.day is not None and not entry.is_final
    )
    days = f", also their {open_days} days that are still open" if open_days else ""
    yield (
        f"{source.name}.{rows.lister.name} does not list {clip(', '.join(gone), 200)} any more: what was delivered of "
        f"these accounts stays as it was last read{days}"
    )


def _unlisted_tables(source: ConfiguredSource, rows: AccountRows) -> Iterator[str]:
    """The notices of tables of accounts that the provider does not list: the account that was meant lacks its zone."""
    if source.listers != {rows.lister.name}:
        return
    names = clip(", ".join(rows.accounts), 200) or "none"
    for table in sorted(set(source.settings.account_tables) - set(rows.accounts)):
        yield (
            f"{source.name}.{rows.lister.name} lists no account {table}, so the table [source.{source.name}."
            f"accounts.{table}] is not used.{did_you_mean(table, rows.accounts)} There are {names}"
        )


# --- zones ------------------------------------------------------------------------------------------------------------


class _Zoned(NamedTuple):
    """
    The accounts of a stream whose listed zone is known or absent, and the zones. An account with a zone that does not
    exist fails: days in another zone would be other rows.
    """

    accounts: Sequence[str]
    zones: Mapping[str, str]
    failures: Sequence[AccountFailure]


def _zoned(job: ReadJob, stream: Stream, rows: AccountRows) -> _Zoned:
    if stream.zone_from is None:
        return _Zoned(rows.accounts, {}, ())
    zones = {str(row[rows.column]): str(row[stream.zone_from]) for row in rows.rows if row[stream.zone_from]}
    tables = job.source.settings.account_tables
    failures = [
        _wrong_zone(job.source, stream, rows.lister, account, zone)
        for account, zone in zones.items()
        # Not of an account that another shard of the run has, or whose table has a zone.
        if not zone_exists(zone) and "timezone" not in tables.get(account, {}) and job.is_in_shard(stream, account)
    ]
    failed = {failure.account for failure in failures}
    return _Zoned(
        accounts=[account for account in rows.accounts if account not in failed],
        zones={account: zone for account, zone in zones.items() if zone_exists(zone)},
        failures=failures,
    )


def _wrong_zone(source: ConfiguredSource, stream: Stream, lister: Stream, account: str, zone: str) -> AccountFailure:
    return AccountFailure(
        stream,
        account,
        f"{lister.name}.{stream.zone_from} of the account {account} is {zone!r}, which is no IANA name of a time zone; "
        f"its days cannot be cut. Write timezone in [source.{source.name}.accounts.{account}].",
    )
