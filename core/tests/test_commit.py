"""What may take the place of rows that were delivered before."""

from datetime import UTC, datetime

import pytest
from attrs import evolve
from penstock._run.commit import emptied
from penstock.model import Partition, Rejected
from penstock.sinks import LedgerEntry

BAD = Rejected(stream="clicks", path="$[0].price", reason="no number", raw="{}")
BEFORE = LedgerEntry(
    source="s",
    partition=Partition("clicks", (("report_date", "2026-08-01"),)),
    state="delivered",
    run_id="r1",
    read_at=datetime(2026, 8, 2, tzinfo=UTC),
    rows=7,
)


@pytest.mark.parametrize(
    ("former", "rows", "rejected", "kept"),
    [
        (BEFORE, 0, 3, True),
        (BEFORE, 0, 0, False),
        (BEFORE, 1, 3, False),
        (evolve(BEFORE, rows=0), 0, 3, False),
        (None, 0, 3, False),
    ],
    ids=["all rejected", "the provider says none", "some are good", "nothing was there", "first reading"],
)
def test_rejected_records_do_not_empty_a_partition(former: LedgerEntry | None, rows: int, rejected: int, kept: bool):
    """
    A reading of nothing but rejected records fails and keeps the rows of the reading before.
    """
    entry = evolve(BEFORE, run_id="r2", rows=rows, rejected=rejected, rejected_records=(BAD,) * rejected)
    error = emptied(former, entry)

    assert (error is not None) == kept
    assert error is None or "all 3 records were rejected" in str(error)
