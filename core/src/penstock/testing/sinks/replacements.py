"""
Rows and partitions: replaced whole, as they were, with the rows derived from them.
"""

from datetime import date
from pathlib import Path

import pytest
from attrs import evolve

from penstock._plugins.sink_calls import has_own
from penstock.errors import TargetError
from penstock.model import Batch, Partition
from penstock.records import Column
from penstock.testing.sinks.deliveries import (
    a_day,
    a_lead_day,
    an_entry,
    commit,
    deliver,
    ledger_of,
)
from penstock.testing.sinks.layouts import CLICKS, LEADS, SOURCE, TAGS
from penstock.testing.sinks.rows import HOSTILE, Row, click, lead, plain, rows_of, tag
from penstock.testing.sinks.suite import Suite


class RowTests(Suite):
    """Rows and partitions: replaced whole, as they were, with the rows derived from them."""

    def test_rows_come_back_as_they_were(self, place: Path) -> None:
        """
        Hostile values keep every character and digit; null, empty text and absence stay distinct.
        """
        target = self.sink(place).open(SOURCE, "r1")
        deliver(target, a_day(), [(CLICKS, HOSTILE)])
        target.close()

        assert self.found(place, CLICKS) == plain(CLICKS, HOSTILE)

    def test_a_partition_is_replaced_whole(self, place: Path) -> None:
        """
        A second reading takes the place of the first, and of its own partition only.
        """
        target = self.sink(place).open(SOURCE, "r1")
        deliver(target, a_day(1), [(CLICKS, [click(1), click(2)])])
        other = [click(3, report_date=date(2026, 3, 2))]
        deliver(target, a_day(2), [(CLICKS, other)])
        deliver(target, a_day(1), [(CLICKS, [click(2), click(4)])])
        target.close()

        assert self.found(place, CLICKS) == plain(CLICKS, [click(2), click(4), *other])

    def test_a_stream_without_accounts_is_replaced_whole(self, place: Path) -> None:
        """
        A snapshot that is not divided has one partition, without values: its rows are replaced, and the ledger has it.
        """
        everything = Partition("leads", ())
        snapshot = evolve(LEADS, kind="snapshot", partition_columns=())
        target = self.sink(place).open(SOURCE, "r1")
        deliver(target, everything, [(snapshot, [lead(1), lead(2)])])
        deliver(target, everything, [(snapshot, [lead(2, "sold"), lead(3)])])
        ledger = ledger_of(target)
        entries = ledger.entries(SOURCE, "leads")
        (counted,) = ledger.counts(SOURCE, "leads")
        target.close()

        assert self.found(place, LEADS) == plain(LEADS, [lead(2, "sold"), lead(3)])
        assert (list(entries), counted.account, counted.rows) == ([everything], {}, 2)

    def test_a_stream_that_is_declared_otherwise_than_its_rows_is_refused(self, place: Path) -> None:
        """
        Another account's column, another kind, a key with a new column or of another type: new rows would not replace
        the former ones. A target that cannot refuse streams is not tested.
        """
        shop, number = Column(name="shop", type="text", nullable=False), Column(name="number", type="integer")
        leads = evolve(LEADS, partition_columns=("campaign", "day"))
        others = [
            evolve(CLICKS, partition_columns=("shop", "report_date"), columns=(shop, *CLICKS.columns)),
            evolve(CLICKS, kind="changes"),
            evolve(leads, key=("lead_id", "number"), columns=(number, *LEADS.columns)),
            evolve(leads, columns=(evolve(LEADS.columns[0], type="text"), *LEADS.columns[1:])),
            evolve(leads, kind="report"),
        ]
        target = self.sink(place).open(SOURCE, "r1")
        if not has_own(target, "prepare"):
            target.close()
            pytest.skip("cannot refuse a stream before it is written")
        deliver(target, a_day(1), [(CLICKS, [click(1)])])
        deliver(target, a_lead_day(1), [(leads, [lead(1)])])
        target.finish("leads")
        for layout in others:
            with pytest.raises(TargetError):
                target.prepare([layout])
        target.prepare([CLICKS, leads])
        target.close()

        assert self.found(place, CLICKS) == plain(CLICKS, [click(1)])
        assert self.found(place, LEADS) == plain(LEADS, [lead(1)])

    def test_an_aborted_partition_leaves_what_was_there(self, place: Path) -> None:
        """
        Rows written and then aborted never show; a first partition that is aborted shows nothing.
        """
        target = self.sink(place).open(SOURCE, "r1")
        deliver(target, a_day(1), [(CLICKS, [click(1)])])
        for day in (1, 2):
            writer = target.begin([CLICKS], a_day(day))
            writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, [click(9)])))
            writer.abort()
        entries = ledger_of(target).entries(SOURCE, "clicks")
        target.close()

        assert self.found(place, CLICKS) == plain(CLICKS, [click(1)])
        assert set(entries) == {a_day(1)}

    def test_no_rows_replace_rows(self, place: Path) -> None:
        """
        A day whose rows the provider took back is empty afterwards, delivered and present.
        """
        target = self.sink(place).open(SOURCE, "r1")
        deliver(target, a_day(), [(CLICKS, [click(1)])])
        deliver(target, a_day(), [(CLICKS, [])])
        entry = ledger_of(target).entries(SOURCE, "clicks")[a_day()]
        present = target.is_intact(entry)
        target.close()

        assert self.found(place, CLICKS) == []
        assert (entry.state, entry.rows, present) == ("delivered", 0, True)

    def test_accounts_are_encoded_not_trusted(self, place: Path) -> None:
        """
        An account's name is data, whatever it looks like.
        """
        names = ["../../etc/passwd", "a/b", ".", "", "x" * 400, "x" * 399 + "y", 'q"uote\n', "%2E", "ä", "A b;c=d"]
        clicks = [click(number, advertiser_id=name) for number, name in enumerate(names)]
        target = self.sink(place).open(SOURCE, "r1")
        for name, clicked in zip(names, clicks, strict=True):
            deliver(target, a_day(advertiser=name), [(CLICKS, [clicked])])
        target.close()

        assert self.found(place, CLICKS) == plain(CLICKS, clicks)

    def test_several_partitions_may_be_under_way_at_once(self, place: Path) -> None:
        """
        Writers do not disturb each other, whichever commits first.
        """
        target = self.sink(place).open(SOURCE, "r1")
        writers = {day: target.begin([CLICKS], a_day(day)) for day in (1, 2, 3)}
        clicks = {day: click(day, report_date=date(2026, 3, day)) for day in writers}
        for day, writer in writers.items():
            writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, [clicks[day]])))
        for day in (3, 1, 2):
            commit(target, writers[day], an_entry(target.ledger, a_day(day), rows=1))
        target.close()

        assert self.found(place, CLICKS) == plain(CLICKS, clicks.values())

    def test_a_derived_stream_travels_with_its_parent(self, place: Path) -> None:
        """
        Rows cut from a partition's batches are delivered with it and replaced with it.
        """
        target = self.sink(place).open(SOURCE, "r1")
        deliver(target, a_day(), [(CLICKS, [click(1)]), (TAGS, [tag("c1", "old")])])
        tags: list[Row] = [tag("c1", "new"), tag("c2", None)]
        deliver(target, a_day(), [(CLICKS, [click(1), click(2)]), (TAGS, tags)])
        target.close()

        assert self.found(place, CLICKS) == plain(CLICKS, [click(1), click(2)])
        assert self.found(place, TAGS) == plain(TAGS, tags)
