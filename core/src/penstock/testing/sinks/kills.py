"""
Commits and merges that are killed, and groups of which one partition fails.
"""

from datetime import date
from pathlib import Path

import pytest

from penstock._plugins.sink_calls import has_own
from penstock.errors import SinkError
from penstock.model import Partition
from penstock.sinks import Sink
from penstock.testing.sinks.deliveries import (
    a_day,
    a_lead_day,
    deliver,
    deliver_group,
    killed_at,
    ledger_of,
)
from penstock.testing.sinks.layouts import ANSWERS, CLICKS, LEADS, SOURCE, TAGS
from penstock.testing.sinks.rows import Streams, answer, click, lead, plain, tag
from penstock.testing.sinks.suite import Suite


class KillTests(Suite):
    """Commits and merges that are killed, and groups of which one partition fails."""

    def test_killed_in_a_commit(self, place: Path) -> None:
        """
        Whenever a commit is killed, the next opening shows the former rows or the new ones, in both streams, and a
        ledger that agrees; reading again leaves the new ones.
        """
        old: Streams = [(CLICKS, [click(1), click(2)]), (TAGS, [tag("c1", "old")])]
        new: Streams = [(CLICKS, [click(2), click(3), click(4)]), (TAGS, [tag("c3", "new")])]
        for number, point in enumerate(self.commit_points):
            for former in (old, []):
                folder = place / f"{number}{bool(former)}"
                sink = self.sink(folder)  # before the fork: what is made for it must be the child's, too
                if former:
                    target = sink.open(SOURCE, "r1")
                    deliver(target, a_day(), former, run_id="r1")
                    target.close()

                def work(sink: Sink = sink) -> None:
                    deliver(sink.open(SOURCE, "r2"), a_day(), new, run_id="r2")

                assert killed_at(point, work), f"{point} was never reached"

                target = sink.open(SOURCE, "r3")
                entry = ledger_of(target).entries(SOURCE, "clicks").get(a_day())
                expected = new if entry is not None and entry.run_id == "r2" else former
                assert (entry is not None) == bool(expected), point
                for layout, rows in expected or [(CLICKS, []), (TAGS, [])]:
                    assert self.found(folder, layout) == plain(layout, rows), point
                if entry is not None:
                    assert entry.delivered, point
                    assert entry.rows == len(expected[0][1]), point
                    assert target.is_intact(entry), point
                deliver(target, a_day(), new, run_id="r3")
                target.close()
                for layout, rows in new:
                    assert self.found(folder, layout) == plain(layout, rows), point

    def test_killed_in_a_group(self, place: Path) -> None:
        """
        Whenever the commit of a group is killed, each partition has its former rows or its new ones, and its ledger
        row agrees; reading again leaves the new ones. For targets that commit groups.
        """
        old = {a_day(day): [click(day, report_date=date(2026, 3, day))] for day in (1, 2, 3)}
        new = {
            a_day(day): [click(number, report_date=date(2026, 3, day)) for number in (day, 10 + day, 20 + day)]
            for day in (1, 2, 3)
        }
        for number, point in enumerate((*self.commit_points, *(f"{point}:2" for point in self.commit_points))):
            folder = place / str(number)
            sink = self.sink(folder)
            target = sink.open(SOURCE, "r1")
            if not has_own(target, "commit_group"):
                target.close()
                pytest.skip("the target commits one by one")
            deliver_group(target, old, run_id="r1")
            target.close()

            def work(sink: Sink = sink) -> None:
                deliver_group(sink.open(SOURCE, "r2"), new, run_id="r2")

            killed_at(point, work)

            target = sink.open(SOURCE, "r3")
            entries = ledger_of(target).entries(SOURCE, "clicks")
            shown = {
                partition: new[partition] if entry.run_id == "r2" else old[partition]
                for partition, entry in entries.items()
            }
            assert list(shown) == list(old), point
            assert self.found(folder, CLICKS) == plain(CLICKS, [row for rows in shown.values() for row in rows]), point
            assert all(entry.rows == len(shown[partition]) for partition, entry in entries.items()), point
            assert all(entry.delivered and target.is_intact(entry) for entry in entries.values()), point
            deliver_group(target, new, run_id="r3")
            target.close()
            assert self.found(folder, CLICKS) == plain(CLICKS, [row for rows in new.values() for row in rows]), point

    def test_one_of_a_group_fails(self, place: Path) -> None:
        """
        A partition of a group that cannot be committed keeps its former rows; the others are delivered.
        """
        target = self.sink(place).open(SOURCE, "r1")
        if not has_own(target, "commit_group"):
            target.close()
            pytest.skip("the target commits one by one")
        days = {a_day(day): [click(day, report_date=date(2026, 3, day))] for day in (1, 2, 3)}
        deliver(target, a_day(2), [(CLICKS, [click(9, report_date=date(2026, 3, 2))])], run_id="r0")
        done = deliver_group(target, days, version=0)
        runs = [entry.run_id for entry in ledger_of(target).entries(SOURCE, "clicks").values()]
        target.close()

        assert [isinstance(result, SinkError) for result in done] == [False, True, False]
        assert runs == ["r1", "r0", "r1"]
        former = click(9, report_date=date(2026, 3, 2))
        assert self.found(place, CLICKS) == plain(CLICKS, [*days[a_day(1)], *days[a_day(3)], former])

    def test_killed_while_changes_are_delivered(self, place: Path) -> None:
        """
        Whenever staging or merging is killed, no day is lost or counted before its rows are in place, and reading the
        missing days again leaves exactly the provider's rows.
        """
        days: dict[Partition, Streams] = {
            a_lead_day(2): [(LEADS, [lead(1, "sold"), lead(3)]), (ANSWERS, [answer(1, "b", "2")])],
            a_lead_day(3): [(LEADS, [lead(3, "sold"), lead(4)]), (ANSWERS, [answer(4, "a", "3")])],
        }
        expected = [lead(1, "sold"), lead(2), lead(3, "sold"), lead(4)]
        answers = [answer(1, "b", "2"), answer(2, "a", "1"), answer(4, "a", "3")]
        for number, point in enumerate(self.merge_points):
            folder = place / str(number)
            target = self.sink(folder).open(SOURCE, "r1")
            first = [(LEADS, [lead(1), lead(2)]), (ANSWERS, [answer(1, "a", "1"), answer(2, "a", "1")])]
            deliver(target, a_lead_day(1), first)
            target.finish("leads")
            target.close()

            def work(folder: Path = folder) -> None:
                target = self.sink(folder).open(SOURCE, "r2")
                for partition, streams in days.items():
                    deliver(target, partition, streams, run_id="r2")
                target.finish("leads")

            assert killed_at(point, work), f"{point} was never reached"

            target = self.sink(folder).open(SOURCE, "r3")
            entries = ledger_of(target).entries(SOURCE, "leads")
            assert all(entry.delivered and target.is_intact(entry) for entry in entries.values()), point
            if set(days) <= set(entries):
                assert self.found(folder, LEADS) == plain(LEADS, expected), point
            for partition, streams in days.items():
                if partition not in entries:
                    deliver(target, partition, streams, run_id="r3")
            target.finish("leads")
            target.close()
            assert self.found(folder, LEADS) == plain(LEADS, expected), point
            assert self.found(folder, ANSWERS) == plain(ANSWERS, answers), point
