"""
Why a partition is read: the rules by which a delivered one is read again.
"""

from datetime import date, datetime
from typing import Protocol

from attrs import frozen

from penstock._plan.account_views import StreamView
from penstock._plan.clock_bounds import is_ahead
from penstock._plan.finality import is_of_today
from penstock._plan.plan import Reason
from penstock.ledger_interface import LedgerEntry
from penstock.sinks import Target


class DeliveredDay(Protocol):
    """
    A delivered day, as far as it decides whether the day is read again: a :class:`LedgerEntry`, or a
    :class:`penstock.ledger_interface.FinalDay` of a target that lists them.
    """

    @property
    def fingerprint(self) -> str: ...
    @property
    def reader_version(self) -> str: ...
    @property
    def complete(self) -> bool: ...
    @property
    def read_at(self) -> datetime | None: ...


@frozen(eq=False, repr=False)
class Reasons:
    """
    The rules of one run. ``full``: it reads final days, too. ``run_id``: of a divided run, whose workers may be
    replaced; None: of any other one.
    """

    target: Target | None
    now: datetime
    full: bool = False
    run_id: str | None = None

    def delivered_by_this_run(self, entry: LedgerEntry) -> bool:
        """Whether a former worker of this run has delivered the partition of this row."""
        return entry.run_id == self.run_id and entry.delivered and not entry.error

    def of_day(self, view: StreamView, day: date, entry: LedgerEntry | None) -> Reason | None:
        """Why a day is read, by its ledger row; None where it is final."""
        if entry is not None and entry.error is not None:
            return "failed"
        if entry is None or not entry.delivered:
            return "missing"
        if self.full:
            return "forced"
        if self.target is not None and not self.target.is_intact(entry):
            return "missing"
        # A target that lists its final days has checked all but this last step, see ListsFinal.
        return self.of_closed_day(view, day, entry) or (None if entry.closed else "open")

    def of_closed_day(self, view: StreamView, day: date, delivered: DeliveredDay) -> Reason | None:
        """
        Why a day is read again that was delivered and had closed when it was read; None where it is final. This is the
        only place that compares a reading with today's settings and rules.
        """
        if not is_of_today(delivered.fingerprint, view.fingerprint):
            return "changed"
        if delivered.reader_version != view.reader_version if delivered.reader_version else not delivered.complete:
            return "changed"  # what could not be read may be readable now
        # It is open again if the provider's restatement period (``open_for``) was since extended.
        read_at = delivered.read_at
        final = read_at is not None and view.closes_at(day) <= read_at and not is_ahead(read_at, self.now)
        return None if final else "open"
