"""
The accounts that the provider lists itself: taken from the rows of the stream that lists them, and remembered.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from attrs import define

from penstock._plan.accounts import Accounts, zone_memory, zone_text
from penstock._plan.dependencies import Dependencies
from penstock._plan.plan import Job, PlannedSlice
from penstock._run_report.log import RunLog
from penstock.connector import Stream
from penstock.errors import ProviderError
from penstock.ledger_interface import Ledger
from penstock.names import did_you_mean
from penstock.redact import clip
from penstock.settings import zone_exists


@define(eq=False, repr=False)
class ListedAccounts:
    """
    The listed accounts of one job, for the streams that have these accounts. It adds to ``notices``, and its zones to
    ``accounts``.
    """

    job: Job
    log: RunLog
    accounts: Accounts
    notices: list[str]
    dependencies: Dependencies
    ledger: Ledger | None

    def dependents_of(self, planned: PlannedSlice) -> list[tuple[Stream, Sequence[str | None]]]:
        """
        The streams with the accounts of this slice, which was read, each with its accounts; these are remembered. After
        a failure they are the remembered ones. A stream whose accounts cannot be known fails, and is left out. The
        streams are dependents no more.
        """
        dependents = self.dependencies.dependents.pop(planned.stream.name, [])
        if not dependents:
            return []
        if not self.dependencies.succeeded(planned.key):
            return [(stream, self.accounts.known(stream) or ()) for stream in dependents]
        listing = _Listing.of(planned.stream, dependents, self.dependencies.rows(planned.key))
        self._notice_unlisted(listing)
        # One of several workers fails what has no name, and remembers.
        if self.job.has(listing.lister, planned.account) and not self._remember(listing):
            return []
        if not listing.rows:
            self.notices.append(
                f"{self.job.source.name}.{listing.lister.name} lists no account, so that nothing is read of "
                f"{', '.join(stream.name for stream in dependents)}"
            )
        return [(stream, self._with_zones(stream, listing)) for stream in dependents]

    def _remember(self, listing: "_Listing") -> bool:
        """Remember the accounts. False where none is listed any more: the streams have failed."""
        if listing.unnamed:
            self._fail_unnamed(listing)
        if self.ledger is None:
            return True
        source, lister = self.job.source.name, listing.lister.name
        former = self.ledger.accounts(source, lister)
        if former and not listing.accounts:
            self._fail_no_longer_listed(listing, former)
            return False
        still_listed = set(listing.accounts)
        self._notice_gone(self.ledger, listing, [account for account in former if account not in still_listed])
        self.ledger.remember_accounts(source, lister, listing.accounts)
        return True

    def fail_unlisted(self) -> None:
        """Fail streams whose accounts were never listed: a run that reads nothing of them must not end well."""
        for lister, dependents in self.dependencies.dependents.items():
            for stream in dependents if self.job.source.stream(lister).account is None else ():
                self._fail(stream, None, f"it was not read: {lister}, which lists its accounts, was not read")

    def _fail_unnamed(self, listing: "_Listing") -> None:
        """Fail the streams for the listed accounts without a name: a request cannot tell whose rows to read."""
        for stream in listing.dependents:
            self._fail(
                stream,
                None,
                f"{listing.unnamed} of {len(listing.rows)} records of {listing.lister.name} have no "
                f"{listing.column}, by which it is read account by account. No request was made for these; the other "
                "accounts are read. If the provider lists accounts without it, the connector must name them by another "
                "column.",
            )

    def _fail_no_longer_listed(self, listing: "_Listing", former: Sequence[str]) -> None:
        """
        Fail the streams whose accounts are not listed any more, not one of them: a run that reads nothing of them must
        not end well. The ledger goes on to remember the accounts.
        """
        for stream in listing.dependents:
            self._fail(
                stream,
                None,
                f"it was not read: {listing.lister.name} lists no account, and listed {len(former)} when it "
                f"was read before ({clip(', '.join(former), 200)}). What was delivered stays. If the provider has none "
                f'any more, leave the stream out, exclude_streams = ["{self.job.source.name}.{stream.name}"].',
            )

    def _fail(self, stream: Stream, account: str | None, text: str) -> None:
        """Fail a stream, or an account of it, that has no partitions, since accounts or days are not known."""
        partition = None if account is None else {stream.account or "account": account}
        self.log.count(stream.name, planned=1, failed=1)
        self.log.fail(stream.name, partition, ProviderError(text))

    def _notice_gone(self, ledger: Ledger, listing: "_Listing", gone: Sequence[str]) -> None:
        """Note accounts that are not listed any more, and their days that nobody reads again although they are open."""
        if not gone:
            return
        name = self.job.source.name
        open_days = sum(
            1
            for stream in listing.dependents
            for entry in ledger.entries(name, stream.name, accounts=gone).values()
            if entry.delivered and entry.partition.day is not None and not entry.is_final
        )
        days = f", also their {open_days} days that are still open" if open_days else ""
        self.notices.append(
            f"{name}.{listing.lister.name} does not list {clip(', '.join(gone), 200)} any more: what was delivered of "
            f"these accounts stays as it was last read{days}"
        )

    def _notice_unlisted(self, listing: "_Listing") -> None:
        """Note tables of accounts that the provider does not list: the account that was meant lacks its zone."""
        source = self.job.source
        if source.listers != {listing.lister.name}:
            return
        names = clip(", ".join(listing.accounts), 200) or "none"
        for table in sorted(set(source.settings.account_tables) - set(listing.accounts)):
            self.notices.append(
                f"{source.name}.{listing.lister.name} lists no account {table}, so the table [source.{source.name}."
                f"accounts.{table}] is not used.{did_you_mean(table, listing.accounts)} There are {names}"
            )

    # --- zones --------------------------------------------------------------------------------------------------------

    def _with_zones(self, stream: Stream, listing: "_Listing") -> Sequence[str]:
        """
        The accounts whose listed zone is known or absent; the zones are remembered. An account with a zone that does
        not exist fails: days in another zone would be other rows.
        """
        if stream.zone_from is None or stream.accounts_from is None:
            return listing.accounts
        source, (lister, column) = self.job.source, stream.accounts_from
        zones = {str(row[column]): str(row[stream.zone_from]) for row in listing.rows if row[stream.zone_from]}
        wrong = {account: zone for account, zone in zones.items() if not zone_exists(zone)}
        zones = {account: zone for account, zone in zones.items() if account not in wrong}
        failed = {account for account, zone in wrong.items() if self._fail_wrong_zone(stream, listing, account, zone)}
        self.accounts.zones.update({(lister, account): zone for account, zone in zones.items()})
        if self.ledger is not None and self.job.has(source.stream(lister), None):
            texts = [zone_text(account, zone) for account, zone in zones.items()]
            self.ledger.remember_accounts(source.name, zone_memory(stream), texts)
        return [account for account in listing.accounts if account not in failed]

    def _fail_wrong_zone(self, stream: Stream, listing: "_Listing", account: str, zone: str) -> bool:
        """Fail an account whose zone does not exist, unless another part of the run has it, or its table has a zone."""
        source = self.job.source
        if "timezone" in source.settings.account_tables.get(account, {}) or not self.job.has(stream, account):
            return False
        self._fail(
            stream,
            account,
            f"{listing.lister.name}.{stream.zone_from} of the account {account} is {zone!r}, which is "
            f"no IANA name of a time zone; its days cannot be cut. Write timezone in [source.{source.name}.accounts."
            f"{account}].",
        )
        return True


class _Listing(NamedTuple):
    """
    The rows of a stream that lists accounts, and the streams that have these. ``column``: of the account.
    ``accounts``: each once, in the order of the rows. ``unnamed``: the number of rows without an account.
    """

    lister: Stream
    dependents: Sequence[Stream]
    rows: Sequence[Mapping[str, Any]]
    column: str
    accounts: tuple[str, ...]
    unnamed: int

    @classmethod
    def of(cls, lister: Stream, dependents: Sequence[Stream], rows: Sequence[Mapping[str, Any]]) -> "_Listing":
        column = dependents[0].accounts_from[1] if dependents[0].accounts_from else ""
        names = [str(row[column]) for row in rows if row[column] not in (None, "")]
        return cls(lister, dependents, rows, column, tuple(dict.fromkeys(names)), len(rows) - len(names))
