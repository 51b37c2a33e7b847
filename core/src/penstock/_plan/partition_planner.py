"""
The partitions of a stream that a run reads, by account, and the rules that decide why.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import dropwhile
from typing import NamedTuple

from attrs import frozen

from penstock._plan.accounts import Accounts, AccountStream
from penstock._plan.dependencies import Families
from penstock._plan.finality import parent_with_days, same_settings
from penstock._plan.ledger_query import DaysByAccount, LedgerQuery, LedgerRows
from penstock._plan.plan import Reason
from penstock._plan.window import RequestedDays, Window
from penstock._plugins.plugin_errors import FAILURES, raise_sink_error
from penstock.connector import Stream
from penstock.ledger_interface import FinalDay, LedgerEntry
from penstock.model import Partition
from penstock.sinks import Target

DeliveredDay = LedgerEntry | FinalDay
"""A delivered day, as far as it decides whether the day is read again; a FinalDay is of a target that lists them."""


@frozen(eq=False, repr=False)
class ReadRules:
    """
    The rules of one run. ``latest``: the moment after which a reading was made by a clock that is ahead. ``full``: the
    run reads final days, too. ``run_id``: that of a divided run, whose workers may be replaced; None for any other run.
    """

    target: Target | None
    latest: datetime
    full: bool
    run_id: str | None

    def delivered_by_this_run(self, entry: LedgerEntry) -> bool:
        """Whether a former worker of this run has delivered the partition of this row."""
        return entry.run_id == self.run_id and entry.delivered and not entry.error

    def reason_to_read(self, account_stream: AccountStream, day: date, entry: LedgerEntry | None) -> Reason | None:
        """Why a day is read, by its ledger row; None where it is final."""
        if entry is not None and entry.error is not None:
            return "failed"
        if entry is None or not entry.delivered:
            return "missing"
        if self.full:
            return "forced"
        if not self._is_intact(entry):
            return "missing"
        # A target that lists its final days has checked all but this last step, see Target.final_days.
        return self.reason_to_read_again(account_stream, day, entry) or (None if entry.closed else "open")

    def _is_intact(self, entry: LedgerEntry) -> bool:
        if self.target is None:
            return True
        try:
            return self.target.is_intact(entry)
        except FAILURES as error:  # no context manager: it would cost each partition some ten calls
            raise_sink_error(error, type(self.target).__name__)

    def reason_to_read_again(self, account_stream: AccountStream, day: date, delivered: DeliveredDay) -> Reason | None:
        """
        Why a day is read again that was delivered and had closed when it was read; None where it is final. This is the
        only place that compares a reading with the current settings and rules.
        """
        if not same_settings(delivered.fingerprint, account_stream.fingerprint):
            return "changed"
        version = delivered.reader_version
        if version != account_stream.reader_version if version else not delivered.complete:
            return "changed"  # what could not be read may be readable now
        # It is open again if the provider's restatement period (``open_for``) was since extended.
        read_at = delivered.read_at
        return None if read_at is not None and account_stream.closes_at(day) <= read_at <= self.latest else "open"


def _first_unfollowed(delivered: Mapping[date, DeliveredDay]) -> date | None:
    """
    The first day of ``changes`` that a run read, and ended before it read a later day again, which another run had read
    before: rows of the first day may have overwritten the same rows of the later one. None: each day was followed.
    """
    first_day: date | None = None
    oldest: DeliveredDay | None = None  # reading of the days after
    for day in sorted(delivered, reverse=True):
        reading = delivered[day]
        if reading.read_at is None:
            continue
        if oldest is not None and oldest.read_at is not None and oldest.read_at < reading.read_at:
            first_day = day if oldest.run_id != reading.run_id else first_day
        else:
            oldest = reading
    return first_day


NeededDays = Mapping[str | None, Collection[date]]
"""By account, the days that must be read whatever the target has of them."""


class AccountPlan(NamedTuple):
    """
    An account's partitions in the window: those to read, and why; the rows of those that this run has delivered
    already; and the number of those that are final.
    """

    rows: LedgerRows
    to_read: Mapping[Partition, Reason]
    delivered_by_run: Sequence[LedgerEntry] = ()
    final: int = 0


def _delivered(partitions: Iterable[tuple[date, Partition]], rows: LedgerRows) -> dict[date, LedgerEntry]:
    entries = ((day, rows.entries.get(partition)) for day, partition in partitions)
    return {day: entry for day, entry in entries if entry is not None and entry.delivered}


@frozen(eq=False, repr=False)
class PartitionPlanner:
    """Plans which partitions of a job's streams are read. ``requested_days``: those in the job's window."""

    families: Families
    accounts: Accounts
    requested_days: RequestedDays
    query: LedgerQuery
    rules: ReadRules

    def by_account(self, stream: Stream, accounts: Iterable[str | None]) -> dict[str | None, AccountPlan]:
        """The plan of each of these accounts; an account without a requested day has none."""
        if stream.kind == "snapshot":
            return self._plan_snapshots(stream, accounts)
        days = self.requested_days.by_account(stream, accounts)
        return self._plan_days(stream, days, self._needed(stream, days)) if days else {}

    def _plan_snapshots(self, stream: Stream, accounts: Iterable[str | None]) -> dict[str | None, AccountPlan]:
        """
        By account: its partition is read, unless this run has delivered it. One whose rows other streams are requested
        by, or have their accounts from, is read by each worker of the run.
        """
        partitions = {account: account_partition(stream, account) for account in accounts}
        rows = self.query.rows(stream, dict.fromkeys(partitions, ()))
        is_for_others = stream.name in self.families.children or stream.name in self.families.source.listers
        plans = {}
        for account, partition in partitions.items():
            entry = rows.entries.get(partition)
            if entry is not None and not is_for_others and self.rules.delivered_by_this_run(entry):
                plans[account] = AccountPlan(rows=rows, to_read={}, delivered_by_run=(entry,))
            else:
                plans[account] = AccountPlan(rows=rows, to_read={partition: "snapshot"})
        return plans

    def _plan_days(self, stream: Stream, days: DaysByAccount, needed: NeededDays) -> dict[str | None, AccountPlan]:
        to_check = self._without_listed_final(stream, days, needed)
        rows = self.query.rows(
            stream, {account: account_days for account, account_days in to_check.items() if account_days}
        )
        return {
            account: self._plan_account(
                stream, account, account_days, rows, needed[account], len(days[account]) - len(account_days)
            )
            for account, account_days in to_check.items()
        }

    def _plan_account(
        self,
        stream: Stream,
        account: str | None,
        days: Sequence[date],
        rows: LedgerRows,
        needed: Collection[date],
        final: int,
    ) -> AccountPlan:
        """
        An account's ``days`` by the ledger's rows. ``needed``: see NeededDays. ``final``: the number of its other days,
        which the target lists as final.

        Of ``changes`` every day after one that is read, or was read by a run that ended early, is read too, also after
        these days where it was delivered: a row of an older day must not overwrite the same row of a newer one.
        """
        to_read: dict[Partition, Reason] = {}
        delivered_by_run: list[LedgerEntry] = []
        account_stream = self.accounts.stream_of(stream, account)
        for_others_only = stream.name in self.families.children and stream not in self.families.chosen
        partitions = day_partitions(stream, account, days)
        unfollowed = _first_unfollowed(_delivered(partitions, rows)) if stream.kind == "changes" else None
        for day, partition in partitions:
            forced = day in needed or bool(to_read and stream.kind == "changes")
            forced = forced or (unfollowed is not None and day > unfollowed)
            if not forced and for_others_only:
                continue
            entry = rows.entries.get(partition)
            if not forced and entry is not None and self.rules.delivered_by_this_run(entry):
                delivered_by_run.append(entry)
                continue
            reason = self.rules.reason_to_read(account_stream, day, entry) or ("forced" if forced else None)
            if reason is not None:
                to_read[partition] = reason
            else:
                final += 1
        if to_read and stream.kind == "changes":
            last = max(to_read)
            delivered = rows.delivered.get(last.values[:-1], ())
            later = sorted(partition for partition in delivered if partition.values > last.values)
            to_read |= dict.fromkeys(later, "forced")
        return AccountPlan(rows=rows, to_read=to_read, delivered_by_run=delivered_by_run, final=final)

    # --- days that the target lists as final --------------------------------------------------------------------------

    def _without_listed_final(self, stream: Stream, days: DaysByAccount, needed: NeededDays) -> DaysByAccount:
        """
        The days of each account that may have to be read. Left out are those that the target lists as final, unless
        they are ``needed``; of ``changes``, those before the first that is not.
        """
        if self.rules.full:
            return days
        unneeded: dict[str | None, set[date]] = {}
        readings: dict[str | None, dict[date, FinalDay]] = {}  # of changes only: those of reports may be a million
        for account, day, reading in self._listed_final(stream, days):
            unneeded.setdefault(account, set()).add(day)
            if stream.kind == "changes":
                readings.setdefault(account, {})[day] = reading
        to_check = dict(days)
        for account, final in unneeded.items():
            final.difference_update(needed[account])
            if stream.kind == "changes":
                final.discard(_first_unfollowed(readings[account]))
                to_check[account] = list(dropwhile(final.__contains__, days[account]))
            else:
                to_check[account] = [day for day in days[account] if day not in final]
        return to_check

    def _listed_final(self, stream: Stream, days: DaysByAccount) -> Iterator[tuple[str | None, date, FinalDay]]:
        """The days that need no read, as far as the target lists them, with their accounts."""
        by_text = {day.isoformat(): day for day in Window.around(days.values()).days()}
        account_streams = {account or "": (account, self.accounts.stream_of(stream, account)) for account in days}
        for final in self.query.listed_final(stream, days) or ():
            account, account_stream = account_streams.get(final.account, (None, None))
            day = by_text.get(final.day)
            if account_stream is None or day is None:
                continue
            if final.run_id == self.rules.run_id:  # its row is counted as delivered by this run
                continue
            if self.rules.reason_to_read_again(account_stream, day, final) is None:
                yield account, day, final

    # --- days that are read with those of another stream --------------------------------------------------------------

    def _needed(self, stream: Stream, days: DaysByAccount) -> NeededDays:
        """
        See NeededDays. A day of a parent and of its children is read in one run, if it is read for one of them: a row
        that the parent got since then has its children.
        """
        if any(child.kind == "snapshot" for child in self.families.children.get(stream.name, ())):
            return {account: set(account_days) for account, account_days in days.items()}
        needed: dict[str | None, set[date]] = {account: set() for account in days}
        family = self.families.with_days(stream)
        for member in family if len(family) > 1 else ():
            for account, open_days in self._open_by_itself(member, days).items():
                needed[account] |= open_days
        return {account: account_days.intersection(days[account]) for account, account_days in needed.items()}

    def _open_by_itself(self, stream: Stream, accounts: Iterable[str | None]) -> dict[str | None, set[date]]:
        """By account, the days of a stream that are read without regard to its family."""
        days = self.requested_days.by_account(stream, accounts)  # a provider may serve children for fewer days
        open_days = self._behind_its_parent(stream, days)
        for account, plan in self._plan_days(stream, days, dict.fromkeys(days, frozenset())).items():
            read = (partition.day for partition in plan.to_read if partition.day is not None)
            open_days.setdefault(account, set()).update(read)
        return open_days

    def _behind_its_parent(self, stream: Stream, days: DaysByAccount) -> dict[str | None, set[date]]:
        """By account, the days of a child that were read before the parent's same day was: perhaps by other rows."""
        parent = parent_with_days(self.families.source, stream)
        if parent is None or not days:
            return {}
        parents, behind = self.query.read_at(parent, days), dict[str | None, set[date]]()
        for (account, day), read_at in self.query.read_at(stream, days).items():
            if read_at < parents.get((account, day), read_at):
                behind.setdefault(account, set()).add(day)
        return behind


def account_partition(stream: Stream, account: str | None) -> Partition:
    """The one partition of an account of a snapshot, without a day."""
    return Partition(stream.name, ((stream.account, account),) if stream.account and account is not None else ())


def day_partitions(stream: Stream, account: str | None, days: Iterable[date]) -> list[tuple[date, Partition]]:
    """Each day with its partition."""
    head, column = account_partition(stream, account).values, stream.day or "day"
    return [(day, Partition(stream.name, (*head, (column, day.isoformat())))) for day in days]
