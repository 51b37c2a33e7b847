"""
The window of a stream: the requested days, clamped to those that the provider serves and to the last moment that can be
read.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from typing import NamedTuple

from attrs import frozen

from penstock._config.source import ConfiguredSource
from penstock._plan.accounts import Accounts
from penstock._plan.finality import parent_with_days
from penstock._plan.read_job import ReadJob
from penstock.connector import Stream
from penstock.errors import UsageError, wrong_return

DEFAULT_DAYS = 90  # of a source without a stated retention and without a start


class Window(NamedTuple):
    """Requested days of a stream, both included; empty when ``until`` is before ``since``."""

    since: date
    until: date

    @classmethod
    def around(cls, days: Iterable[Sequence[date]]) -> "Window":
        """From the first of all these days to the last; each sequence ascends."""
        sequences = list(days)
        return cls(since=min(days[0] for days in sequences), until=max(days[-1] for days in sequences))

    def days(self) -> list[date]:
        """Every day, ascending."""
        return [self.since + timedelta(days=number) for number in range((self.until - self.since).days + 1)]


def check_order(since: date | None, until: date | None) -> None:
    """Raises UsageError for a window whose first day is after its last."""
    if since is not None and until is not None and since > until:
        raise UsageError(f"--since {since} is after --until {until}: the window holds no day. Swap them.")


def requested_window(job: ReadJob, stream: Stream, zone: tzinfo, now: datetime) -> tuple[Window, list[str]]:
    """
    The days of a stream that a job requests, and a notice for each bound that was clamped. ``zone``: in which today is
    determined. A child has no other days than its parent. Raises UsageError for a window without a day.
    """
    window, notices = _window_without_parent(job, stream, zone, now)
    parent = parent_with_days(job.source, stream)
    if parent is None:
        return window, notices
    parent_window, parent_notices = requested_window(job, parent, zone, now)
    common = Window(since=max(window.since, parent_window.since), until=min(window.until, parent_window.until))
    return common, [*notices, *parent_notices]


def _window_without_parent(job: ReadJob, stream: Stream, zone: tzinfo, now: datetime) -> tuple[Window, list[str]]:
    today = now.astimezone(zone).date()
    requested_since, requested_until = job.window_at(today)
    since = requested_since or job.source.settings.start
    until, notices = _last_day(job, stream, requested_until, latest_moment(stream, zone, now).date())
    floor = _earliest(stream, today)
    check_order(requested_since, requested_until)
    if floor is not None and until < floor and requested_until is not None:
        raise UsageError(
            f"{job.source.name} serves {stream.name} from {floor} on (today is {today}), and the window ends on "
            f"{until}: nothing of it can be read any more. Choose later days."
        )
    if since is None:
        return Window(since=floor or until - timedelta(days=DEFAULT_DAYS - 1), until=until), notices
    if since > until:
        last = "the last day that can be read" if requested_until else "the last day that is read without --until"
        after = f"{since} is after {until}, {'the day of --until' if until == requested_until else last}"
        if requested_since is not None:
            raise UsageError(f"{job.source.name}.{stream.name}: --since {after}. Choose an earlier day.")
        notices.append(f"{job.source.name}.{stream.name}: nothing is read, because start {after}")
    if floor is not None and since < floor:
        notices.append(f"{job.source.name} serves {stream.name} from {floor} on: days before it are left as they are")
        since = floor
    return Window(since=since, until=until), notices


def _last_day(job: ReadJob, stream: Stream, requested: date | None, latest: date) -> tuple[date, list[str]]:
    """The last day to read: yesterday by default, of ``changes`` the latest one; and a notice if it was clamped."""
    if stream.kind == "changes":
        return min(requested or latest, latest), []
    until = requested or latest - timedelta(days=1)
    if until > latest:
        return latest, [f"{job.source.name}.{stream.name} is read up to today, {latest}, not up to {until}"]
    return until, []


def first_served(source: ConfiguredSource, stream: Stream, now: datetime) -> date | None:
    """The first day that the provider still serves of a stream and of its parents; None: not stated."""
    today, days = now.astimezone(source.zone).date(), list[date]()
    served: Stream | None = stream
    while served is not None:
        if (floor := _earliest(served, today)) is not None:
            days.append(floor)
        served = parent_with_days(source, served)
    return max(days, default=None)


def _earliest(stream: Stream, today: date) -> date | None:
    """The first day that the provider serves of the stream itself; None: not stated."""
    floor = stream.earliest(today) if stream.earliest is not None else None
    if floor is not None and (isinstance(floor, datetime) or not isinstance(floor, date)):
        raise wrong_return(stream.earliest, floor, "today - timedelta(...)")
    return floor


@frozen(eq=False, repr=False)
class RequestedDays:
    """``notices``: it adds one for each bound of a window that was clamped."""

    job: ReadJob
    accounts: Accounts
    now: datetime
    notices: list[str]

    def by_account(self, stream: Stream, accounts: Iterable[str | None]) -> dict[str | None, Sequence[date]]:
        """The days of each account's window that are in the job's shard, ascending. Accounts have at least one."""
        windows = self.windows(stream, accounts)
        days = {window: window.days() for window in windows.values() if window is not None}
        in_shard = {
            account: self.job.days_in_shard(stream, account, days[window])
            for account, window in windows.items()
            if window is not None
        }
        return {account: account_days for account, account_days in in_shard.items() if account_days}

    def check(self, stream: Stream, accounts: Iterable[str | None]) -> None:
        """Raises UsageError where no account of this stream has a day to read in the requested window."""
        windows = list(self._windows_or_errors(stream, list(accounts) or [None]).values())
        if isinstance(windows[0], UsageError) and not any(isinstance(window, Window) for window in windows):
            raise windows[0]

    def windows(self, stream: Stream, accounts: Iterable[str | None]) -> dict[str | None, Window | None]:
        """The window of each account, in its zone; None where it holds no day, although others' may."""
        return {
            account: window if isinstance(window, Window) else None
            for account, window in self._windows_or_errors(stream, accounts).items()
        }

    def _windows_or_errors(
        self, stream: Stream, accounts: Iterable[str | None]
    ) -> dict[str | None, Window | UsageError]:
        """The window of each account, or why it holds no day."""
        windows: dict[str | None, Window | UsageError] = {}
        by_zone: dict[tzinfo, Window | UsageError] = {}
        for account in accounts:
            zone = self.accounts.source_of(stream, account).zone
            if zone not in by_zone:
                try:
                    by_zone[zone], notices = requested_window(self.job, stream, zone, self.now)
                except UsageError as error:
                    by_zone[zone] = error
                else:
                    self.notices.extend(notices)
            windows[account] = by_zone[zone]
        return windows


def latest_moment(stream: Stream, zone: tzinfo, now: datetime) -> datetime:
    """The last moment whose records can be read; of ``changes`` it is before now by the stream's ``lag``."""
    return (now - stream.lag if stream.kind == "changes" else now).astimezone(zone)


def slice_bounds(
    stream: Stream, days: Sequence[date], zone: tzinfo, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """
    The moments, the second excluded, that a slice of consecutive days covers; both None without days. Of ``changes`` it
    begins earlier by the stream's ``lookback``, and ends at the latest moment that can be read.
    """
    if not days:
        return None, None
    start = datetime.combine(days[0], time(), zone)
    end = datetime.combine(days[-1] + timedelta(days=1), time(), zone)
    if stream.kind == "changes":
        return start - stream.lookback, min(end, latest_moment(stream, zone, now))
    return start, end
