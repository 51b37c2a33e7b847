"""What may take the place of a partition, and of the rows that were delivered before."""

from datetime import UTC, datetime

import pytest
from attrs import evolve
from penstock._read.reconcile import PartitionCounts
from penstock._run.commit import unreadable
from penstock.model import Partition, Rejected
from penstock.sinks import LedgerEntry

BAD = Rejected(stream="clicks", path="$[0].price", reason="no number", raw="{}")
DAY = Partition("clicks", (("report_date", "2026-08-01"),))
BEFORE = LedgerEntry(
    source="s", partition=DAY, state="delivered", run_id="r1", read_at=datetime(2026, 8, 2, tzinfo=UTC), rows=7
)


@pytest.mark.parametrize(
    ("former", "rows", "rejected", "undated", "refused"),
    [
        (BEFORE, 0, 3, 0, "all 3 records were set aside"),
        (None, 0, 3, 0, "all 3 records were set aside"),
        (evolve(BEFORE, rows=0), 0, 3, 0, "all 3 records were set aside"),
        (BEFORE, 0, 0, 0, None),
        (BEFORE, 1, 3, 0, None),
        (BEFORE, 0, 0, 2, "no record was found, and 2 without a day were set aside"),
        (None, 0, 0, 2, None),
        (BEFORE, 1, 0, 2, None),
    ],
    ids=[
        "all rejected",
        "first read",
        "nothing was there",
        "the provider states none",
        "some are good",
        "its records may be those without a day",
        "nothing to lose",
        "a day was read",
    ],
)
def test_rejected_records_do_not_empty_a_partition(
    former: LedgerEntry | None, rows: int, rejected: int, undated: int, refused: str | None
) -> None:
    """
    A partition of which every record was set aside fails, also on its first read; rows that were there stay.
    """
    counts = PartitionCounts(rows=rows, rejected=[BAD] * rejected)
    error = unreadable(DAY, counts, former, [BAD] * undated)

    assert (error is None) == (refused is None)
    if refused is not None:
        assert refused in str(error)
        assert "$[0].price: no number" in str(error)
