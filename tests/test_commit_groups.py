"""
Which partitions of a run are committed or recorded together, and what a commit records as restated.
"""

from collections.abc import Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from penstock import (
    BaseTarget,
    Envelope,
    Layout,
    LedgerEntry,
    Partition,
    Request,
    SandboxRequest,
    SinkError,
    Slice,
    Stream,
    column,
    record,
)
from penstock.events import Event
from penstock.ledger import SqliteLedger
from penstock.model import Kind
from penstock.testing.memory import MemorySink, MemoryTarget, MemoryWriter
from scripted_provider import ScriptedProvider
from sqlite_statements import Statements

pytestmark = pytest.mark.slow


@record()
class Click:
    """A click, on a day."""

    click_id: str = column(default=...)
    report_date: date


@record()
class Sale:
    """A sale."""

    id: str


@define(eq=False)
class GroupTarget(MemoryTarget):
    """Remembers its writers, and the days of each group. The day ``refused`` fails, ``unwritable`` cannot begin."""

    groups: list[list[str]]
    refused: str
    unwritable: str
    begun: list["Watched"]

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> MemoryWriter:
        if partition.values[-1][1] == self.unwritable:
            raise SinkError("no place")
        self.begun.append(Watched(self, layouts, partition))
        return self.begun[-1]

    def commit_group(self, commits: Sequence[tuple[Any, LedgerEntry]]) -> list[LedgerEntry | Exception]:
        self.groups.append([entry.partition.values[-1][1] for _, entry in commits])
        return [
            SinkError("no room") if entry.partition.values[-1][1] == self.refused else writer.commit(entry)
            for writer, entry in commits
        ]


@define(eq=False)
class GroupSink(MemorySink):
    groups: list[list[str]] = field(factory=list)
    refused: str = ""
    unwritable: str = ""
    begun: list["Watched"] = field(factory=list)

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> GroupTarget:
        ledger = SqliteLedger(self.ledger_path)
        return GroupTarget(self, ledger, self.groups, self.refused, self.unwritable, self.begun)


@define(eq=False)
class Watched(MemoryWriter):
    aborted: bool = False

    def abort(self) -> None:
        super().abort()
        self.aborted = True


def a_shop(folder: Path, rows_of_last: int = 1) -> ScriptedProvider:
    """Three days, one request; the last one has so many rows."""

    def requests(settings: Any, slice_: Slice) -> list[Request]:
        return [Request(url=f"{settings.base_url}/clicks")]

    stream = Stream(
        name="clicks",
        summary="clicks",
        record=Click,
        kind="report",
        key="click_id",
        day="report_date",
        days_per_request=3,
        requests=requests,
        envelope=Envelope(items="data"),
    )

    def answer(request: SandboxRequest) -> Any:
        numbers = [14, 15, *([16] * rows_of_last)]
        return {"data": [{"click_id": f"c{n}", "report_date": f"2026-06-{day}"} for n, day in enumerate(numbers)]}

    shop = ScriptedProvider(folder=folder, streams=[stream], answer=answer)
    shop.sink = GroupSink(folder / "ledger.sqlite")
    return shop


DAYS = ["2026-06-14", "2026-06-15", "2026-06-16"]


def test_the_days_of_a_request_are_committed_together(tmp_path: Path) -> None:
    """
    The days of a request are one group, and all of them are delivered.
    """
    shop = a_shop(tmp_path)
    report = shop.run()

    assert report.exit_code == 0
    assert shop.sink.groups == [DAYS]  # type: ignore[attr-defined]
    assert len(shop.rows("clicks")) == 3


def test_a_target_may_commit_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A target without a ``commit_group`` of its own gets each partition alone, as soon as it is read.
    """
    groups: list[list[str]] = []
    one_by_one = BaseTarget.commit_group

    def watched(target: BaseTarget, commits: Sequence[tuple[Any, LedgerEntry]]) -> Any:
        groups.append([entry.partition.values[-1][1] for _, entry in commits])
        return one_by_one(target, commits)

    monkeypatch.setattr(BaseTarget, "commit_group", watched)
    shop = a_shop(tmp_path)
    shop.sink = MemorySink(tmp_path / "ledger.sqlite")

    assert shop.run().exit_code == 0
    assert groups == [[day] for day in DAYS]


def test_a_day_that_cannot_begin_leaves_no_other_one_begun(tmp_path: Path) -> None:
    """
    The days of one request begin together: where the target refuses one, the writers of those before it are aborted.
    """
    shop = a_shop(tmp_path)
    shop.sink.unwritable = "2026-06-15"  # type: ignore[attr-defined]
    report = shop.run()

    assert (report.exit_code, {error["reason"] for error in report.errors}) == (1, {"no place"})
    assert [writer.aborted for writer in shop.sink.begun] == [True]  # type: ignore[attr-defined]


def test_one_day_of_a_group_fails_alone(tmp_path: Path) -> None:
    """
    The error of one day of a group is in the report and in the ledger; the others are delivered, and the next run reads
    it again.
    """
    shop = a_shop(tmp_path)
    shop.sink.refused = "2026-06-15"  # type: ignore[attr-defined]
    report = shop.run()

    assert report.exit_code == 1
    assert [(error["partition"]["report_date"], error["reason"]) for error in report.errors] == [
        ("2026-06-15", "no room")
    ]
    entries = shop.entries("clicks")
    assert {day: entry.delivered for day, entry in entries.items()} == {day: day != "2026-06-15" for day in DAYS}
    assert entries["2026-06-15"].error == "no room"

    shop.sink.refused = ""  # type: ignore[attr-defined]
    shop.run()
    assert shop.entries("clicks")["2026-06-15"].delivered
    assert len(shop.rows("clicks")) == 3


def test_a_large_slice_is_committed_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Above the bound of rows, its partitions are committed one by one.
    """
    monkeypatch.setattr("penstock._run.commit.GROUP_ROWS", 10)
    shop = a_shop(tmp_path, rows_of_last=20)
    report = shop.run()

    assert report.exit_code == 0
    assert shop.sink.groups == [[day] for day in DAYS]  # type: ignore[attr-defined]
    assert len(shop.rows("clicks")) == 22


class FailingLedger(SqliteLedger):
    """It cannot hold the failure of the second day."""

    def fail_all(self, source: str, failures: Sequence[tuple[Partition, str]], run_id: str) -> None:
        if any(partition.values[-1][1] == DAYS[1] for partition, _ in failures):
            raise SinkError("cannot hold it")
        super().fail_all(source, failures, run_id)


class FailingSink(MemorySink):
    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> MemoryTarget:
        assert self.ledger_path is not None
        return MemoryTarget(self, FailingLedger(self.ledger_path))


def test_failures_are_recorded_in_groups(tmp_path: Path, statements: Statements) -> None:
    """
    Where a provider is down, every partition fails: the ledger is not synced for each of them.
    """

    def durable_changes(since: str) -> int:
        shop = a_shop(tmp_path / since)
        shop.answer = lambda request: 404
        statements.clear()
        shop.run(since=since)
        assert {entry.state for entry in shop.entries("clicks").values()} == {"failed"}
        return statements.durable_changes

    few, more = durable_changes("2026-06-14"), durable_changes("2025-12-01")

    assert more - few < 10  # with 195 days more


def test_a_failure_that_cannot_be_recorded_is_the_only_one(tmp_path: Path) -> None:
    """
    The others are in the ledger; one note names the first partition and the reason.
    """
    shop = a_shop(tmp_path)
    shop.sink = FailingSink(tmp_path / "ledger.sqlite")
    shop.answer = lambda request: 404

    report = shop.run()

    assert [error["partition"] for error in report.errors] == [{"report_date": day} for day in DAYS]
    (note,) = [note for note in shop.notes if "is not recorded" in note]
    assert note.startswith(
        f"clicks[report_date={DAYS[1]}], and what fails after it, is not recorded in the ledger: cannot hold"
    )
    assert list(shop.entries("clicks")) == [DAYS[0], DAYS[2]]


@pytest.mark.parametrize(("kind", "is_restated"), [("report", True), ("changes", False), ("snapshot", False)])
def test_report_event_and_ledger_have_the_same_restatements(kind: Kind, is_restated: bool, tmp_path: Path) -> None:
    """
    Only a day of a report is restated; other partitions hold other rows whenever they are read.
    """
    rows = 7
    events: list[Event] = []
    stream = Stream(
        name="sales",
        summary="sales",
        record=Sale,
        kind=kind,
        key="id",
        requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/sales")],
        envelope=Envelope(items="data"),
        **({} if kind == "snapshot" else {"day": "sold_on"}),
    )
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[stream],
        answer=lambda request: {"data": [{"id": str(number)} for number in range(rows)]},
        on_event=events.append,
    )
    shop.run(since=DAYS[2])
    rows = 9
    report = shop.run(since=DAYS[2], full=True)

    in_report = [one["rows"] for one in report.streams["shop", "sales"].restated]
    in_events = [event["restated"]["rows"] for event in events if "restated" in event]
    with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as ledger:
        in_ledger = [list(change.rows) for change in ledger.restated()]
    assert in_report == in_events == in_ledger == [[7, 9]] * is_restated
