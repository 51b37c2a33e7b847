"""
The accounts of a job's streams: which there are, and their settings, time zone and fingerprint.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from attrs import define, field, frozen

from penstock._config.source import ConfiguredSource
from penstock._plan.dependencies import Families
from penstock._plan.finality import closes_at, fingerprint, reader_version
from penstock.connector import Stream
from penstock.errors import UsageError
from penstock.ledger_interface import Ledger, PendingReport
from penstock.model import is_like_day
from penstock.redact import clip


@frozen(kw_only=True, eq=False, repr=False)
class AccountStream:
    """
    A stream as some accounts see it: the source with their settings and zone, the current fingerprint of these settings
    and the current version of the reader.
    """

    stream: Stream
    source: ConfiguredSource
    fingerprint: str
    reader_version: str
    _closes: dict[date, datetime] = field(factory=dict, init=False, repr=False)

    def closes_at(self, day: date) -> datetime:
        """The moment from which a read of this day is final."""
        if (closes := self._closes.get(day)) is None:
            closes = self._closes[day] = closes_at(self.source, self.stream, day)
        return closes


@define(eq=False, repr=False)
class Accounts:
    """
    The accounts of the streams of one source. ``zones``: those that the provider listed in this run, by listing stream
    and account.
    """

    source: ConfiguredSource
    families: Families
    ledger: Ledger | None
    zones: dict[tuple[str, str], str] = field(factory=dict, init=False)
    _remembered: dict[str, Mapping[str, str]] = field(factory=dict, init=False)  # zones of accounts by listing stream
    _sources: dict[tuple[str | None, str | None], ConfiguredSource] = field(factory=dict, init=False)
    _account_streams: dict[tuple[str, int], AccountStream] = field(factory=dict, init=False)  # by stream and source

    def known(self, stream: Stream) -> Sequence[str | None] | None:
        """
        The accounts of a stream: configured, else remembered; ``[None]`` without accounts; None when unknown yet.
        """
        if stream.account is None:
            return [None]
        if (configured := self.source.accounts_of(stream)) is not None:
            if not configured and stream.accounts is None:
                raise UsageError(
                    f"{self.source.name} has no accounts, and {stream.name} is read account by account: write a "
                    f"table [source.{self.source.name}.accounts.ACCOUNT] for each, empty if need be"
                )
            if not all(map(str.strip, configured)):
                raise UsageError(
                    f"an account of {self.source.name}.{stream.name} has no name in the configuration. A provider may "
                    "answer such a request with the rows of all accounts. Take it out, or write its name."
                )
            if like_days := [account for account in configured if is_like_day(account)]:
                raise UsageError(f"{self.source.name}.{stream.name}: {like_days_problem(like_days)} Take it out.")
            return configured
        if self.ledger is None or stream.accounts_from is None:
            return None
        return self.ledger.accounts(self.source.name, stream.accounts_from[0]) or None

    def source_of(self, stream: Stream, account: str | None) -> ConfiguredSource:
        """The source as an account of this stream sees it: its own settings and zone. One object per account."""
        zone = self._stated_zone(stream, account) if account else None
        if (account, zone) not in self._sources:
            self._sources[account, zone] = self.source.for_account(account, zone)
        return self._sources[account, zone]

    def stream_of(self, stream: Stream, account: str | None) -> AccountStream:
        """The stream as an account sees it."""
        source = self.source_of(stream, account)
        key = (stream.name, id(source))  # most accounts share a source
        if key not in self._account_streams:
            version = reader_version(source, stream) if account is None else self.stream_of(stream, None).reader_version
            self._account_streams[key] = AccountStream(
                stream=stream,
                source=source,
                fingerprint=fingerprint(source.settings, stream, source.settings_in_requests(stream)),
                reader_version=version,
            )
        return self._account_streams[key]

    def _stated_zone(self, stream: Stream, account: str) -> str | None:
        """The zone that the provider states for an account: in this run, else in a former one."""
        if stream.accounts_from is None:
            return None
        lister, _ = stream.accounts_from
        return self.zones.get((lister, account)) or self._remembered_zones(lister).get(account)

    def _remembered_zones(self, lister: str) -> Mapping[str, str]:
        """The zones of the accounts of a listing stream, as the ledger had them when they were first needed."""
        if lister not in self._remembered:
            zones: dict[str, str] = {}
            for stream in self.source.streams:
                zoned = stream.zone_from is not None and self.families.reads(stream)
                accounts_from = self.source.lister_of(stream) if zoned else None
                if self.ledger is not None and accounts_from is not None and accounts_from[0] == lister:
                    zones.update(map(zone_of, self.ledger.accounts(self.source.name, zone_memory(stream))))
            self._remembered[lister] = zones
        return self._remembered[lister]


def like_days_problem(accounts: Sequence[str]) -> str:
    """Why these accounts cannot be read."""
    return (
        f"an account cannot have the form of a day ({clip(', '.join(accounts), 200)}): a partition's day is known by "
        "its form, so that the account's rows would count as those of a day."
    )


def account_of(stream: Stream, report: PendingReport) -> str | None:
    """The account whose report this is; None for a stream without accounts."""
    values = report.partitions[0].as_dict() if report.partitions else {}
    return values.get(stream.account or "")


# --- zones in the ledger ----------------------------------------------------------------------------------------------


def zone_memory(stream: Stream) -> str:
    """The name under which the ledger remembers the zones of a stream's accounts, as :func:`zone_text` writes them."""
    assert stream.accounts_from is not None
    return f"{stream.accounts_from[0]}.{stream.zone_from}"


def zone_text(account: str, zone: str) -> str:
    """An account and its zone as one text. Names of zones have no blanks."""
    return f"{zone} {account}"


def zone_of(text: str) -> tuple[str, str]:
    """The account and its zone."""
    zone, _, account = text.partition(" ")
    return account, zone
