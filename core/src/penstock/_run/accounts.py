"""
The accounts that the provider lists itself: taken from the rows of the stream that lists them, and remembered.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import define

from penstock._plan.accounts import Accounts, zone_memory, zone_text
from penstock._plan.dependencies import Dependencies, key_of
from penstock._plan.plan import Job, PlannedSlice
from penstock._read.run_log import RunLog
from penstock.connector import Stream
from penstock.errors import ProviderError
from penstock.ledger_interface import Ledger
from penstock.names import did_you_mean
from penstock.redact import clip
from penstock.settings import zone_exists


@define(eq=False, repr=False)
class ListedAccounts:
    """
    The listed accounts of one job, for the streams that are divided by them. It adds to ``notices``, and its zones to
    ``accounts``.
    """

    job: Job
    log: RunLog
    accounts: Accounts
    notices: list[str]
    dependencies: Dependencies
    ledger: Ledger | None

    def take_dependents_of(self, planned: PlannedSlice) -> Iterator[tuple[Stream, Sequence[str | None]]]:
        """
        Take the streams that are divided by the accounts of this slice, which was read, each with its accounts, from
        the dependents; remember the accounts. After a failure these are the remembered ones. A stream whose accounts
        cannot be known fails, and is left out.
        """
        lister, source = planned.stream, self.job.source
        dependents = self.dependencies.dependents.pop(lister.name, [])
        if not dependents:
            return
        if not self.dependencies.succeeded(key_of(planned)):
            yield from ((stream, self.accounts.of_stream(stream) or ()) for stream in dependents)
            return
        rows = self.dependencies.rows(key_of(planned))
        column = dependents[0].accounts_from[1] if dependents[0].accounts_from else ""
        names = [str(row[column]) for row in rows if row[column] not in (None, "")]
        accounts = tuple(dict.fromkeys(names))
        is_own = self.job.has(lister, planned.account)  # of several workers, one reports and remembers
        if len(names) < len(rows) and is_own:
            self._fail_unnamed(dependents, f"{len(rows) - len(names)} of {len(rows)} records of {lister.name}", column)
        self._note_unlisted(lister, accounts)
        if self.ledger is not None and is_own:
            former = self.ledger.accounts(source.name, lister.name)
            if former and not accounts:
                self._fail_no_longer_listed(lister, dependents, former)
                return
            self._note_gone(self.ledger, lister, dependents, [account for account in former if account not in accounts])
            self.ledger.remember_accounts(source.name, lister.name, accounts)
        if not accounts and len(names) == len(rows):
            self.notices.append(
                f"{source.name}.{lister.name} lists no account, so that nothing is read of "
                f"{', '.join(stream.name for stream in dependents)}"
            )
        for stream in dependents:
            yield (
                stream,
                accounts if stream.zone_from is None else self._with_zones(stream, stream.zone_from, accounts, rows),
            )

    def fail_unlisted(self) -> None:
        """Fail streams whose accounts were never listed: a run that reads nothing of them must not end well."""
        for lister, dependents in self.dependencies.dependents.items():
            for stream in dependents if self.job.source.stream(lister).account is None else ():
                self._fail(
                    stream, None, f"{stream.name} was not read: {lister}, which lists its accounts, was not read"
                )

    def _fail_unnamed(self, dependents: Sequence[Stream], some: str, column: str) -> None:
        """Fail the streams for the listed accounts without a name: a request cannot tell whose rows to read."""
        for stream in dependents:
            self._fail(
                stream,
                None,
                f"{stream.name}: {some} have no {column}, by which it is read account by account. No request was made "
                "for these; the other accounts are read. If the provider lists accounts without it, the connector must "
                "name them by another column.",
            )

    def _fail_no_longer_listed(self, lister: Stream, dependents: Sequence[Stream], former: Sequence[str]) -> None:
        """
        Fail the streams whose accounts are not listed any more, not one of them: a run that reads nothing of them must
        not end well. The ledger goes on to remember the accounts.
        """
        for stream in dependents:
            self._fail(
                stream,
                None,
                f"{stream.name} was not read: {lister.name} lists no account, and listed {len(former)} when it was "
                f"read before ({clip(', '.join(former), 200)}). What was delivered stays. If the provider has none any "
                f'more, leave the stream out, exclude_streams = ["{self.job.source.name}.{stream.name}"].',
            )

    def _fail(self, stream: Stream, account: str | None, text: str) -> None:
        """Fail a stream, or an account of it, that has no partitions, since accounts or days are not known."""
        place = None if account is None else {stream.account or "account": account}
        self.log.count(stream.name, planned=1, failed=1)
        self.log.fail(stream.name, place, ProviderError(text))

    def _note_gone(self, ledger: Ledger, lister: Stream, dependents: Sequence[Stream], gone: Sequence[str]) -> None:
        """Note accounts that are not listed any more, and their days that nobody reads again although they are open."""
        if not gone:
            return
        name = self.job.source.name
        open_days = sum(
            1
            for stream in dependents
            for entry in ledger.entries(name, stream.name, accounts=gone).values()
            if entry.delivered and entry.partition.day is not None and not entry.final(entry.fingerprint)
        )
        days = f", also their {open_days} days that are still open" if open_days else ""
        self.notices.append(
            f"{name}.{lister.name} does not list {clip(', '.join(gone), 200)} any more: what was delivered of "
            f"these accounts stays as it was last read{days}"
        )

    def _note_unlisted(self, lister: Stream, accounts: Sequence[str]) -> None:
        """Note tables of accounts that the provider does not list: the account that was meant lacks its zone."""
        source = self.job.source
        if source.listers != {lister.name}:
            return
        listed = clip(", ".join(accounts), 200) or "none"
        for table in sorted(set(source.settings.account_tables) - set(accounts)):
            self.notices.append(
                f"{source.name}.{lister.name} lists no account {table}, so the table [source.{source.name}.accounts."
                f"{table}] is not used.{did_you_mean(table, accounts)} There are {listed}"
            )

    def _with_zones(
        self, stream: Stream, zone_column: str, accounts: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        """
        The accounts whose listed zone is known or absent, and the ledger's memory of the zones. An account with a zone
        that does not exist fails: days in another zone would be other rows.
        """
        assert stream.accounts_from is not None
        source, (lister, column) = self.job.source, stream.accounts_from
        zones = {str(row[column]): str(row[zone_column]) for row in rows if row[zone_column]}
        wrong = {account: zone for account, zone in zones.items() if not zone_exists(zone)}
        zones = {account: zone for account, zone in zones.items() if account not in wrong}
        for account, zone in wrong.items():
            if "timezone" not in source.settings.account_tables.get(account, {}) and self.job.has(stream, account):
                text = (
                    f"{stream.name}: {lister}.{zone_column} of the account {account} is {zone!r}, which is no IANA "
                    f"name of a time zone; its days cannot be cut. Write timezone in [source.{source.name}.accounts."
                    f"{account}]."
                )
                self._fail(stream, account, text)
                accounts = [listed for listed in accounts if listed != account]
        self.accounts.zones.update({(lister, account): zone for account, zone in zones.items()})
        if self.ledger is not None and self.job.has(source.stream(lister), None):
            texts = [zone_text(account, zone) for account, zone in zones.items()]
            self.ledger.remember_accounts(source.name, zone_memory(stream), texts)
        return list(accounts)
