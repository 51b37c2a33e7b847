"""
The bounds that the clock sets: the last day that can be read, the moments that a slice covers, and moments of a clock
that is ahead of this one.
"""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, tzinfo

from penstock.connector import Stream

SKEW = timedelta(minutes=5)  # the most by which the clocks of two machines that share a target may differ


def latest_moment(stream: Stream, zone: tzinfo, now: datetime) -> datetime:
    """The last moment whose records can be read; of ``changes`` it is before now by the stream's ``lag``."""
    return (now - stream.lag if stream.kind == "changes" else now).astimezone(zone)


def latest_day(stream: Stream, zone: tzinfo, now: datetime) -> date:
    """The last day that can be read, at least partly."""
    return latest_moment(stream, zone, now).date()


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


def is_ahead(moment: datetime, now: datetime) -> bool:
    """Whether a stored moment is in the future: the clock of the machine that stored it was ahead."""
    return moment > now + SKEW
