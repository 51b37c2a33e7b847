"""Ledger entries some days at a time."""

from datetime import date, timedelta
from itertools import pairwise

import pytest
from penstock import LedgerEntry, Partition
from penstock_plugins.sink_support import table_verification as module
from penstock_plugins.sink_support.table_verification import by_days, rows_of_days

FIRST = date(2026, 3, 1)


def entry(account: str, day: int) -> LedgerEntry:
    values = (("account", account), ("day", str(FIRST + timedelta(days=day))))
    return LedgerEntry(source="shop", partition=Partition("sales", values), state="delivered", run_id="r1")


ENTRIES = [entry(account, day) for account in "ab" for day in (0, 1, 2, 5, 6)]


@pytest.mark.parametrize("since", [None, FIRST - timedelta(days=3)])
@pytest.mark.parametrize("until", [None, FIRST + timedelta(days=9)])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_every_day_is_of_one_part(
    monkeypatch: pytest.MonkeyPatch, since: date | None, until: date | None, size: int
) -> None:
    """
    The parts follow each other without a gap, also where a day has no entry, and all accounts of a day are together.
    """
    monkeypatch.setattr(module, "ENTRIES_AT_ONCE", size)

    parts = list(by_days(ENTRIES, since, until))

    assert len(parts) == {1: 5, 3: 3, 100: 1}[size]
    assert (parts[0][0], parts[-1][1]) == (since, until)
    for (_, last, _), (first, _, _) in pairwise(parts):
        assert last is not None
        assert first == last + timedelta(days=1)
    for first, last, part in parts:
        for one in part:
            assert one.partition.day is not None
            assert (first or date.min) <= one.partition.day <= (last or date.max)
    assert sorted(one.partition for _, _, part in parts for one in part) == sorted(one.partition for one in ENTRIES)


def test_no_entries_are_one_part() -> None:
    """
    Rows of the window without an entry are found, too.
    """
    assert list(by_days([], FIRST, None)) == [(FIRST, None, [])]


@pytest.mark.parametrize(
    ("since", "until", "condition"),
    [
        (None, None, ("(true or day is null)", [])),
        (FIRST, None, ("day >= cast(? as date)", ["2026-03-01"])),
        (None, FIRST, ("(day < cast(? as date) + 1 or day is null)", ["2026-03-01"])),
        (FIRST, FIRST, ("day >= cast(? as date) and day < cast(? as date) + 1", ["2026-03-01", "2026-03-01"])),
    ],
)
def test_a_row_without_a_day_is_before_all_days(
    since: date | None, until: date | None, condition: tuple[str, list[str]]
) -> None:
    """
    A row without a day is before all days: in one part, and in no window that has a first day.
    """
    assert rows_of_days("day", since, until, "?") == condition
