"""
Streams that are merged by key.
"""

from pathlib import Path

from penstock.testing.sinks.deliveries import (
    a_lead_day,
    deliver,
    ledger_of,
)
from penstock.testing.sinks.layouts import ANSWERS, LEADS, SOURCE
from penstock.testing.sinks.rows import answer, lead, plain
from penstock.testing.sinks.suite import Suite


class ChangesTests(Suite):
    """Streams that are merged by key."""

    def test_changes_are_merged_by_key(self, place: Path) -> None:
        """
        The later reading of a record wins, within a run and across runs; accounts stay apart.
        """
        target = self.sink(place).open(SOURCE, "r1")
        deliver(target, a_lead_day(1), [(LEADS, [lead(1, "new"), lead(2, "new"), lead(2, "newer")])])
        deliver(target, a_lead_day(2), [(LEADS, [lead(2, "sold"), lead(3, "new")])])
        deliver(target, a_lead_day(1, "8"), [(LEADS, [lead(4, "new")])])
        target.finish("leads")
        target.close()
        target = self.sink(place).open(SOURCE, "r2")
        deliver(target, a_lead_day(3), [(LEADS, [lead(1, 'no, "not" this')])])
        deliver(target, a_lead_day(4), [(LEADS, [])])
        target.finish("leads")
        entries = ledger_of(target).entries(SOURCE, "leads").values()
        present = [target.is_intact(entry) for entry in entries]
        target.close()

        expected = [lead(1, 'no, "not" this'), lead(2, "sold"), lead(3, "new"), lead(4, "new")]
        assert self.found(place, LEADS) == plain(LEADS, expected)
        assert [entry.state for entry in entries] == ["delivered"] * 5
        assert present == [True] * 5

    def test_derived_rows_of_changes_are_replaced_by_parent(self, place: Path) -> None:
        """
        A parent that was read again brings all its derived rows anew; other parents keep theirs.
        """
        target = self.sink(place).open(SOURCE, "r1")
        deliver(
            target,
            a_lead_day(1),
            [(LEADS, [lead(1), lead(2)]), (ANSWERS, [answer(1, "a", "1"), answer(1, "b", "1"), answer(2, "a", "1")])],
        )
        target.finish("leads")
        deliver(target, a_lead_day(2), [(LEADS, [lead(1)]), (ANSWERS, [answer(1, "a", "2"), answer(1, "c", "2")])])
        deliver(target, a_lead_day(3), [(LEADS, [lead(1), lead(3)]), (ANSWERS, [answer(1, "a", "3")])])
        target.finish("leads")
        target.close()

        assert self.found(place, ANSWERS) == plain(ANSWERS, [answer(1, "a", "3"), answer(2, "a", "1")])

    def test_changes_of_a_run_that_never_finished_are_merged_by_the_next(self, place: Path) -> None:
        """
        A committed day is durable even when the run ends before the merge.
        """
        target = self.sink(place).open(SOURCE, "r1")
        deliver(target, a_lead_day(1), [(LEADS, [lead(1)]), (ANSWERS, [answer(1, "a", "1")])])
        target.close()
        target = self.sink(place).open(SOURCE, "r2")
        entry = ledger_of(target).entries(SOURCE, "leads")[a_lead_day(1)]
        target.close()

        assert entry.state == "delivered"
        assert self.found(place, LEADS) == plain(LEADS, [lead(1)])
        assert self.found(place, ANSWERS) == plain(ANSWERS, [answer(1, "a", "1")])
