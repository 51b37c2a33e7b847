"""
A slice whose response was truncated is requested in halves, which cover its time without overlap.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from penstock._read.halves import DAY, halves
from penstock.model import Slice

BERLIN = ZoneInfo("Europe/Berlin")


def a_slice(first: datetime, last: datetime) -> Slice:
    return Slice(now=datetime(2026, 11, 1, tzinfo=UTC), start=first, end=last)


def halved(slice_: Slice, times: int) -> list[Slice]:
    """The slice in halves, those in halves, and so on."""
    return (
        [slice_]
        if times == 0
        else [one for half in halves(slice_, timedelta(seconds=1)) for one in halved(half, times - 1)]
    )


@pytest.mark.parametrize(
    ("month", "day", "hours"), [(3, 28, 24), (3, 29, 23), (10, 25, 25)], ids=["a day", "clocks forward", "clocks back"]
)
def test_the_parts_of_a_day_neither_overlap_nor_leave_a_gap(month: int, day: int, hours: int) -> None:
    """
    The parts follow each other and take the time that there is, also on the days on which clocks are set.
    """
    whole = a_slice(datetime(2026, month, day, tzinfo=BERLIN), datetime(2026, month, day + 1, tzinfo=BERLIN))

    parts = halved(whole, 7)

    moments = [(part.start.astimezone(UTC), part.end.astimezone(UTC)) for part in parts if part.start and part.end]
    assert len(moments) == 128
    assert moments[0][0] == datetime(2026, month, day, tzinfo=BERLIN).astimezone(UTC)
    assert moments[-1][1] - moments[0][0] == timedelta(hours=hours)
    assert [end for _, end in moments[:-1]] == [start for start, _ in moments[1:]]
    assert all(start < end for start, end in moments)
    lengths = [part.end.astimezone(UTC) - part.start.astimezone(UTC) for part in parts]
    assert max(lengths) - min(lengths) <= timedelta(seconds=7)


@pytest.mark.parametrize(("first", "days"), [(24, 2), (28, 2), (28, 7), (29, 3)])
def test_days_are_cut_at_midnight(first: int, days: int) -> None:
    """
    Several days are cut between two of them, also where one has 23 hours.
    """
    start = datetime(2026, 3, first, tzinfo=BERLIN)

    one, other = halves(a_slice(start, start + timedelta(days=days)), DAY)

    assert one.end == other.start == start + timedelta(days=days // 2)
