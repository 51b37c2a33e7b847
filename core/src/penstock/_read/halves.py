"""
The halves of a slice, for a provider that cuts its response at a ceiling.
"""

from datetime import UTC, datetime, time, timedelta

from attrs import evolve

from penstock.model import Slice

DAY = timedelta(days=1)
UNITS = {"day": DAY, "hour": timedelta(hours=1), "minute": timedelta(minutes=1), "second": timedelta(seconds=1)}
"""The lengths of :attr:`penstock.Stream.smallest`."""


def halves(slice_: Slice, smallest: timedelta) -> list[Slice]:
    """
    The slice in two: between two days, or within a day at a full second. Each half has those of the days that it
    covers a part of. Empty for a slice that is as short as ``smallest``, or has no bounds.
    """
    if slice_.start is None or slice_.end is None:
        return []
    # Python subtracts times of one zone as wall-clock times: a day is one day, even if it has 23 hours.
    several_days = slice_.end - slice_.start > DAY
    if not several_days and (smallest == DAY or _elapsed(slice_.start, slice_.end) <= smallest):
        return []
    middle = datetime.combine(slice_.start + (slice_.end - slice_.start) / 2, time(), slice_.start.tzinfo)
    if not several_days or middle <= slice_.start:
        # Computed in UTC: at the start of summer time, wall-clock times that do not exist would repeat an hour.
        seconds = timedelta(seconds=_elapsed(slice_.start, slice_.end) // timedelta(seconds=2))
        middle = (slice_.start.astimezone(UTC) + seconds).astimezone(slice_.start.tzinfo)
    return [_between(slice_, slice_.start, middle), _between(slice_, middle, slice_.end)]


def _between(slice_: Slice, start: datetime, end: datetime) -> Slice:
    """A part of the slice, with its days that overlap this time; with all days if none does (a lookback)."""
    first, last = start.date(), (end - timedelta(microseconds=1)).date()
    days = tuple(day for day in slice_.days if first <= day <= last) or slice_.days
    return evolve(slice_, start=start, end=end, days=days)


def _elapsed(start: datetime, end: datetime) -> timedelta:
    """The elapsed time, changes of summer time included."""
    return end.astimezone(UTC) - start.astimezone(UTC)
