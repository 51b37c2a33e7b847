"""What the result of a read may put in place of the rows that were delivered before."""

from datetime import UTC, datetime

import pytest
from attrs import evolve
from configured_source import a_source
from penstock._plan.plan import PlannedSlice
from penstock._read.counts import PartitionCounts
from penstock._read.result import LoadedPartition
from penstock._read.slice_counts import SliceCounts
from penstock.connector import Stream
from penstock.ledger_interface import LedgerEntry
from penstock.model import Partition, Rejected, Slice
from penstock.records import record

NOW = datetime(2026, 8, 2, tzinfo=UTC)


@record()
class Row:
    id: str


STREAM = Stream(name="clicks", summary="", record=Row, kind="snapshot", key="id", requests=lambda *_: ())
BAD = Rejected(stream="clicks", path="$[0].price", reason="no number", raw="{}")
DAY = Partition("clicks", (("report_date", "2026-08-01"),))
BEFORE = LedgerEntry(source="s", partition=DAY, state="delivered", run_id="r1", read_at=NOW, rows=7)


@pytest.mark.parametrize(
    ("former", "rows", "rejected", "undated", "refused"),
    [
        (BEFORE, 0, 3, 0, "all 3 records were rejected"),
        (None, 0, 3, 0, "all 3 records were rejected"),
        (evolve(BEFORE, rows=0), 0, 3, 0, "all 3 records were rejected"),
        (BEFORE, 0, 0, 0, None),
        (BEFORE, 1, 3, 0, None),
        (BEFORE, 0, 0, 2, "no record was found, and 2 without a day were rejected"),
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
    A partition of which every record was rejected fails, also on its first read; rows that were there stay.
    """
    planned = PlannedSlice(
        stream=STREAM,
        partitions=(DAY,),
        reasons=("missing",),
        slice=Slice(now=NOW),
        source=a_source(STREAM),
        fingerprint="",
        entries={} if former is None else {DAY: former},
    )
    counts = PartitionCounts(rows=rows, rejected=[BAD] * rejected)
    read = SliceCounts(
        planned=planned,
        began_at=NOW,
        partitions={DAY: LoadedPartition(counts, None)},
        undated=[BAD] * undated,
    )
    error = read.result(None).replacement_errors.get(DAY)

    assert (error is None) == (refused is None)
    if refused is not None:
        assert refused in str(error)
        assert "$[0].price: no number" in str(error)
