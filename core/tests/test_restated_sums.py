"""What the ledger counts as restated."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from attrs import evolve
from penstock.ledger_interface import LedgerEntry, restated_sums
from penstock.model import Partition

DAY = Partition("clicks", (("report_date", "2026-08-01"),))
BEFORE = LedgerEntry(
    source="s", partition=DAY, state="delivered", run_id="r1", read_at=datetime(2026, 8, 2, tzinfo=UTC), rows=7
)


@pytest.mark.parametrize(
    ("changes", "restated"),
    [
        (None, {"spend": (Decimal(1), Decimal(2))}),
        ({"came": 0, "went": 0, "changed": 0}, None),
        ({"came": 0, "went": 0, "changed": 1}, {"spend": (Decimal(1), Decimal(2))}),
    ],
    ids=["not counted", "none differs", "one differs"],
)
def test_counted_rows_decide_whether_a_day_was_restated(
    changes: dict[str, int] | None, restated: dict[str, tuple[Decimal, Decimal]] | None
) -> None:
    """
    A target that compares rows leaves out what the settings changed; the sums of the readings contain it.
    """
    former = evolve(BEFORE, sums={"spend": Decimal(1)})

    assert restated_sums(former, evolve(BEFORE, sums={"spend": Decimal(2)}, changes=changes)) == restated


@pytest.mark.parametrize(
    ("before", "after", "restated"),
    [
        ((2, {"spend": 5}), (0, {}), {"spend": (5, 0)}),
        ((0, {}), (2, {"spend": 5}), {"spend": (0, 5)}),
        ((2, {"spend[EUR]": 5}), (2, {"spend[USD]": 5}), {"spend[EUR]": (5, 0), "spend[USD]": (0, 5)}),
        ((2, {"clicks": 1}), (3, {"clicks": 2, "spend": 5}), {"clicks": (1, 2)}),
        ((2, {"clicks": 1, "spend[EUR]": 5}), (3, {"clicks": 2}), {"clicks": (1, 2)}),
    ],
    ids=["no row any more", "rows where none were", "another currency", "a new column", "a column left out"],
)
def test_a_measure_of_one_reading_only_is_restated_where_the_other_has_none_of_it(
    before: tuple[int, dict[str, int]], after: tuple[int, dict[str, int]], restated: dict[str, tuple[int, int]]
) -> None:
    """
    A measure that one reading has is 0 in another without rows, or with other currencies; else the other did not read
    it.
    """
    former, entry = (
        evolve(BEFORE, kind="report", rows=rows, sums={name: Decimal(amount) for name, amount in sums.items()})
        for rows, sums in (before, after)
    )

    assert restated_sums(former, entry) == restated
