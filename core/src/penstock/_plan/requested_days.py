"""
The days that a job requests of each account of a stream.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, tzinfo

from attrs import frozen

from penstock._plan.account_views import Accounts
from penstock._plan.plan import Job
from penstock._plan.window import Window, requested_window
from penstock.connector import Stream
from penstock.errors import UsageError


@frozen(eq=False, repr=False)
class RequestedDays:
    """``notices``: it adds one for each bound of a window that was clamped."""

    job: Job
    accounts: Accounts
    now: datetime
    notices: list[str]

    def of_accounts(self, stream: Stream, accounts: Iterable[str | None]) -> dict[str | None, Sequence[date]]:
        """The days of each account's window that are in the job's part, ascending. Accounts have at least one."""
        windows = self._windows(stream, accounts)
        days = {window: window.days() for window in windows.values() if window is not None}
        in_part = {
            account: self.job.days_in_part(stream, account, days[window])
            for account, window in windows.items()
            if window is not None
        }
        return {account: account_days for account, account_days in in_part.items() if account_days}

    def check(self, stream: Stream, accounts: Iterable[str | None]) -> None:
        """Raises UsageError where no account of this stream has a day to read in the requested window."""
        self._windows(stream, list(accounts) or [None], strict=True)

    def _windows(
        self, stream: Stream, accounts: Iterable[str | None], *, strict: bool = False
    ) -> dict[str | None, Window | None]:
        """The window of each account, in its zone; None where it holds no day, although others' may."""
        windows: dict[str | None, Window | None] = {}
        by_zone: dict[tzinfo, Window | None] = {}
        refused: UsageError | None = None
        for account in accounts:
            zone = self.accounts.source_of(stream, account).zone
            if zone not in by_zone:
                try:
                    by_zone[zone], notices = requested_window(self.job, stream, zone, self.now)
                except UsageError as error:
                    by_zone[zone], refused = None, refused or error
                else:
                    self.notices.extend(notices)
            windows[account] = by_zone[zone]
        if strict and refused is not None and not any(by_zone.values()):
            raise refused
        return windows
