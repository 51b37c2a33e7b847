"""What a commit records as restated, and how failures are recorded."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from attrs import evolve
from configured_source import a_source
from penstock._plan.plan import PlannedSlice
from penstock._read.counts import PartitionCounts
from penstock._read.result import LoadedPartition
from penstock._read.slice_counts import SliceCounts
from penstock._run.commit import GROUP_PARTITIONS, Committer
from penstock._run.context import RunContext
from penstock._run_report.log import RunLog
from penstock._run_report.report import RunReport
from penstock.connector import Stream
from penstock.errors import ServerError, SinkError
from penstock.events import Event
from penstock.ledger import SqliteLedger
from penstock.ledger_interface import LedgerEntry, restated_sums
from penstock.model import Kind, Pairs, Partition, Slice
from penstock.records import record
from penstock.testing import FakeClock
from penstock.testing.memory import MemorySink, MemoryTarget
from sqlite_statements import Statements

NOW = datetime(2026, 8, 2, tzinfo=UTC)


@record()
class Row:
    id: str


STREAM = Stream(name="clicks", summary="", record=Row, kind="snapshot", key="id", requests=lambda *_: ())
DAY = Partition("clicks", (("report_date", "2026-08-01"),))
BEFORE = LedgerEntry(
    source="s", partition=DAY, state="delivered", run_id="r1", read_at=datetime(2026, 8, 2, tzinfo=UTC), rows=7
)


SOURCE = a_source(STREAM)


def planned(partition: Partition) -> PlannedSlice:
    """A slice of one partition."""
    return PlannedSlice(
        stream=STREAM,
        partitions=(partition,),
        reasons=("missing",),
        slice=Slice(now=NOW),
        source=SOURCE,
        fingerprint="",
    )


def a_committer(ledger: SqliteLedger, events: list[Event]) -> Committer:
    """A committer into memory, with this ledger."""
    context = RunContext(
        jobs=(), clock=FakeClock(NOW), started_at=NOW, run_report=RunReport(run_id="r1"), emit=events.append
    )
    return Committer(
        source=SOURCE,
        target=MemoryTarget(MemorySink(None), ledger),
        log=RunLog("s", context.run_report, context.emit),
        context=context,
    )


@pytest.mark.parametrize(
    ("kind", "values", "is_restated"),
    [
        ("report", DAY.values, True),
        ("changes", DAY.values, False),
        ("snapshot", (("account", "a"),), False),
        ("snapshot", (), False),
    ],
    ids=["a day of a report", "a day of changes", "an account of a snapshot", "a snapshot"],
)
def test_report_event_and_ledger_have_the_same_restatements(
    ledger: SqliteLedger, kind: Kind, values: Pairs, is_restated: bool
) -> None:
    """
    Only a day of a report is restated; other partitions hold other rows whenever they are read.
    """
    events: list[Event] = []
    committer = a_committer(ledger, events)
    partition = Partition("clicks", values)
    for rows in (7, 9):
        plan = evolve(planned(partition), stream=evolve(STREAM, kind=kind), entries=ledger.entries("s", "clicks"))
        writer = committer.target.begin((), partition)
        counts = SliceCounts(
            planned=plan, began_at=NOW, partitions={partition: LoadedPartition(PartitionCounts(rows=rows), writer)}
        )
        committer.expect([plan])
        committer.commit(counts.result(None))
    committer.flush()

    in_report = [one["rows"] for one in committer.log.stream("clicks").restated]
    in_events = [event["restated"]["rows"] for event in events if "restated" in event]
    assert in_report == in_events == [list(change.rows) for change in ledger.restated()] == [[7, 9]] * is_restated


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


class Failing(SqliteLedger):
    """A ledger that cannot hold one of the failures."""

    def fail(self, source: str, partition: Partition, error: str, run_id: str) -> None:
        if error == "broken":
            raise SinkError("cannot hold it")
        super().fail(source, partition, error, run_id)


@pytest.fixture
def ledger(tmp_path: Path, statements: Statements) -> Iterator[Failing]:
    with closing(Failing(tmp_path / "ledger.sqlite")) as opened:
        yield opened


def failing(ledger: SqliteLedger, errors: list[str]) -> list[str]:
    """Let partitions fail with these errors. The notes of the run."""
    events: list[Event] = []
    committer = a_committer(ledger, events)
    for number, error in enumerate(errors):
        committer.fail(planned(Partition("clicks", (("account", str(number)),))), ServerError(error))
    committer.flush()
    assert [error["reason"] for error in committer.context.run_report.errors] == errors
    return [event["message"] for event in events if event["event"] == "note"]


def test_failures_are_recorded_in_groups(ledger: Failing, statements: Statements) -> None:
    """
    Where a provider is down, every partition fails: the ledger is not synced for each of them.
    """
    statements.clear()
    failing(ledger, ["down"] * (2 * GROUP_PARTITIONS + 1))

    assert statements.durable_changes == 3
    assert len(ledger.entries("s", "clicks")) == 2 * GROUP_PARTITIONS + 1


def test_a_failure_that_cannot_be_recorded_is_the_only_one(ledger: Failing) -> None:
    """
    The others are in the ledger; one note names the first partition and the reason.
    """
    notes = failing(ledger, ["down", "broken", "down"])

    assert len(notes) == 1
    assert notes[0].startswith("clicks[account=1], and what fails after it, is not recorded in the ledger: cannot hold")
    assert [entry.error for entry in ledger.entries("s", "clicks").values()] == ["down", "down"]
