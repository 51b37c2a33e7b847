"""
Values that are erased in rows that were delivered before.
"""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest
from attrs import evolve

from penstock.ledger_interface import LedgerEntry
from penstock.model import Partition, Rejected
from penstock.sinks import Erasing, Sink, Target, Verifiable
from penstock.testing.sinks.deliveries import (
    a_day,
    a_lead_day,
    deliver,
    deliver_leads,
    erase,
    killed_at,
    ledger_of,
)
from penstock.testing.sinks.layouts import CLICKS, OF_CLICKS, OF_LEADS, SOURCE, TAGS
from penstock.testing.sinks.rows import HOSTILE, Row, Streams, answer, click, lead, plain, tag
from penstock.testing.sinks.suite import Suite


def _erased(row: Row) -> Row:
    """A click without the erased values."""
    if not row["offer"] or "id" not in row["offer"]:
        return {**row, "_extra": None}
    return {**row, "_extra": None, "offer": {key: item for key, item in row["offer"].items() if key != "id"} or None}


class ErasureTests(Suite):
    """Values that are erased in rows that were delivered before."""

    def test_values_are_erased(self, place: Path) -> None:
        """
        Columns and members of nested values are gone from all rows, the same rows in the same order are there, and the
        ledger agrees: the former reading stays as final as it was. Doing it again changes nothing.
        """
        target = self.sink(place).open(SOURCE, "r1")
        if not isinstance(target, Erasing):
            target.close()
            pytest.skip("the target cannot erase values")
        other = [
            click(1, report_date=date(2026, 3, 2)),
            click(2, report_date=date(2026, 3, 2), offer={"id": 1, "b": 2}),
        ]
        rejected = Rejected(stream="clicks", path="$[0]", reason="no number", raw='{"url": "x"}')
        hostile = [row for row in HOSTILE if row["job_id"] != 2**70]  # some targets reject it
        first_day: Streams = [(CLICKS, hostile), (TAGS, [tag("c1", "a")])]
        deliver(target, a_day(1), first_day, derived_rows={"click_tags": 1}, rejected_records=(rejected,))
        deliver(target, a_day(2), [(CLICKS, other), (TAGS, [])])
        before = ledger_of(target).entries(SOURCE, "clicks")
        first, again = erase(target, OF_CLICKS), erase(target, OF_CLICKS)
        target.close()

        shorn = OF_CLICKS[0].layout
        assert self.found(place, shorn) == plain(shorn, map(_erased, [*hostile, *other]))
        assert self.found(place, TAGS) == plain(TAGS, [tag("c1", "a")])
        # One row of the hostile ones has nothing in any of these columns.
        assert (first.rows, first.left, again.rows, again.left) == (len(hostile) + len(other) - 1, (), 0, ())
        self._assert_agrees(place, "clicks")
        self._assert_ledger_agrees(place, before)
        if isinstance(target, Verifiable):  # a reading again finds its place
            target = self.sink(place).open(SOURCE, "r2")
            deliver(target, a_day(2), [(shorn, plain(shorn, other[:1])), (TAGS, [])])
            target.close()
            assert len(self.found(place, shorn)) == len(hostile) + 1

    def test_values_of_merged_rows_are_erased(self, place: Path) -> None:
        """
        Values are erased from a stream that is merged by key and from one derived from it; a later day is merged into
        what is left.
        """
        target = self.sink(place).open(SOURCE, "r1")
        if not isinstance(target, Erasing):
            target.close()
            pytest.skip("the target cannot erase values")
        deliver_leads(target)
        assert erase(target, OF_LEADS, "leads").rows == 4
        target.close()

        leads, answers = (erasure.layout for erasure in OF_LEADS)
        assert self.found(place, leads) == plain(leads, [lead(1), lead(2)])
        assert self.found(place, answers) == plain(answers, [answer(1, "a", ""), answer(2, "a", "")])
        self._assert_agrees(place, "leads")
        target = self.sink(place).open(SOURCE, "r2")
        deliver(target, a_lead_day(3), [(leads, plain(leads, [lead(2), lead(3)])), (answers, [])])
        target.finish("leads")
        target.close()
        assert self.found(place, leads) == plain(leads, [lead(1), lead(2), lead(3)])

    def test_killed_while_values_are_erased(self, place: Path) -> None:
        """
        Whenever it is killed, each partition has its former rows or the erased ones, and a ledger that agrees; doing it
        again completes it.
        """
        days = {a_day(day): [click(day, report_date=date(2026, 3, day))] for day in (1, 2)}
        shorn = OF_CLICKS[0].layout
        for number, point in enumerate(self.erase_points):
            folder = place / str(number)
            sink = self.sink(folder)
            target = sink.open(SOURCE, "r1")
            for day, rows in days.items():
                deliver(target, day, [(CLICKS, rows), (TAGS, [])])
            target.close()

            def work(sink: Sink = sink) -> None:
                erase(sink.open(SOURCE, "r2"), OF_CLICKS)

            assert killed_at(point, work), f"{point} was never reached"

            target = sink.open(SOURCE, "r3")
            self._assert_agrees(folder, "clicks", target)
            assert erase(target, OF_CLICKS).left == ()
            target.close()
            self._assert_agrees(folder, "clicks")
            expected = [{**row, "offer": None} for rows in days.values() for row in rows]
            assert self.found(folder, shorn) == plain(shorn, expected), point

    def test_killed_while_values_of_merged_rows_are_erased(self, place: Path) -> None:
        """
        After a kill while values of a stream that is merged by key are erased, no day is missing.
        """
        for number, point in enumerate(self.erase_merged_points or self.erase_points):
            folder = place / str(number)
            sink = self.sink(folder)
            target = sink.open(SOURCE, "r1")
            deliver_leads(target)
            target.close()

            def work(sink: Sink = sink) -> None:
                erase(sink.open(SOURCE, "r2"), OF_LEADS, "leads")

            assert killed_at(point, work), f"{point} was never reached"

            target = sink.open(SOURCE, "r3")
            self._assert_agrees(folder, "leads", target)
            assert erase(target, OF_LEADS, "leads").left == ()
            target.close()
            self._assert_agrees(folder, "leads")
            leads, answers = (erasure.layout for erasure in OF_LEADS)
            assert self.found(folder, leads) == plain(leads, [lead(1), lead(2)]), point
            assert self.found(folder, answers) == plain(answers, [answer(1, "a", ""), answer(2, "a", "")]), point

    def _assert_ledger_agrees(self, place: Path, before: Mapping[Partition, LedgerEntry]) -> None:
        """The rows of the ledger are those before the erasure, but for versions and files; rejected text is erased."""
        target = self.sink(place).open_readonly(SOURCE)
        assert target is not None
        after = ledger_of(target).entries(SOURCE, "clicks")
        assert [record.raw for _, record in ledger_of(target).rejected(SOURCE, "clicks")] == ["erased"]
        assert list(ledger_of(target).restated(SOURCE)) == []
        target.close()
        for partition, entry in before.items():
            assert evolve(after[partition], version=entry.version, files=entry.files) == entry

    def _assert_agrees(self, place: Path, stream: str, target: Target | None = None) -> None:
        """Both delivered days in the target agree with its ledger."""
        opened = target or self.sink(place).open_readonly(SOURCE)
        assert opened is not None
        entries = list(ledger_of(opened).entries(SOURCE, stream).values())
        assert [entry.state for entry in entries] == ["delivered"] * 2
        assert all(opened.is_intact(entry) for entry in entries)
        assert isinstance(opened, Verifiable)
        assert list(opened.verify(stream, entries)) == []
        if target is None:
            opened.close()
