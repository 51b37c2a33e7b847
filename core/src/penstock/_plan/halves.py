"""
The halves of a slice, for a provider that cuts its response at a ceiling.
"""

from datetime import UTC, date, datetime, time, timedelta

from attrs import evolve

from penstock.model import Slice

DAY = timedelta(days=1)
UNITS = {"day": DAY, "hour": timedelta(hours=1), "minute": timedelta(minutes=1), "second": timedelta(seconds=1)}
"""The lengths of :attr:`penstock.Stream.smallest`."""


def halves(slice_: Slice, smallest: timedelta) -> list[Slice]:
    """
    The slice in two: between two days, or within a day at a full second. Each half has those of the days that it
    covers a part of. None for a slice that is as short as ``smallest``, or has no bounds.
    """
    if slice_.start is None or slice_.end is None:
        return []
    # Python subtracts times of one zone as wall-clock times: a day is one day, even if it has 23 hours.
    several_days = slice_.end - slice_.start > DAY
    if not several_days and (smallest == DAY or elapsed(slice_) <= smallest):
        return []
    middle = datetime.combine(slice_.start + (slice_.end - slice_.start) / 2, time(), slice_.start.tzinfo)
    if not several_days or middle <= slice_.start:
        # Computed in UTC: at the start of summer time, wall-clock times that do not exist would repeat an hour.
        seconds = timedelta(seconds=elapsed(slice_) // timedelta(seconds=2))
        middle = (slice_.start.astimezone(UTC) + seconds).astimezone(slice_.start.tzinfo)
    first, second = evolve(slice_, end=middle), evolve(slice_, start=middle)
    return [evolve(half, days=_days_within(half)) for half in (first, second)]


def _days_within(slice_: Slice) -> tuple[date, ...]:
    """The slice's days that overlap the time from its start to its end; all days if none does (a lookback)."""
    assert slice_.start is not None
    assert slice_.end is not None
    first, last = slice_.start.date(), (slice_.end - timedelta(microseconds=1)).date()
    return tuple(day for day in slice_.days if first <= day <= last) or slice_.days


def elapsed(slice_: Slice) -> timedelta:
    """The slice's length in elapsed time, changes of summer time included."""
    assert slice_.start is not None
    assert slice_.end is not None
    return slice_.end.astimezone(UTC) - slice_.start.astimezone(UTC)
