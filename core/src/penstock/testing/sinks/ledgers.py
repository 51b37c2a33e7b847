"""
The ledger of a target, and its lock.
"""

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from penstock._plugins.sink_calls import check_sink, has_own, open_target
from penstock.errors import LockHeldError, SinkError
from penstock.model import Rejected
from penstock.testing.sinks.deliveries import (
    READ_AT,
    a_day,
    a_lead_day,
    deliver,
    ledger_of,
)
from penstock.testing.sinks.layouts import CLICKS, LEADS, SOURCE
from penstock.testing.sinks.rows import Row, click, lead, plain
from penstock.testing.sinks.suite import Suite


class LedgerTests(Suite):
    """The ledger of a target, and its lock."""

    def test_a_sink_and_its_target_have_all_attributes(self, place: Path) -> None:
        """
        Those of ``Sink``, ``Target`` and ``Ledger``, most of which the base classes have.
        """
        sink = self.sink(place)
        check_sink(sink)
        open_target(sink, sink.open, SOURCE, "r1").close()

    def test_the_ledger_holds_what_was_delivered(self, place: Path) -> None:
        """
        Facts and rejected records of a delivery come back from another process's view of the target.
        """
        rejected = Rejected(stream="clicks", path="$[3].price", reason="no number", raw='{"price": "x"}')
        target = self.sink(place).open(SOURCE, "r1")
        deliver(
            target,
            a_day(),
            [(CLICKS, [click(1)])],
            promised=2,
            rejected=1,
            sums={"price": Decimal("0.10")},
            rejected_records=(rejected,),
        )
        target.close()
        opened = self.sink(place).open_readonly(SOURCE)
        assert opened is not None
        ledger = ledger_of(opened)
        entry = ledger.entries(SOURCE, "clicks")[a_day()]
        records = [record for _, record in ledger.rejected(SOURCE, "clicks")]
        present = opened.is_intact(entry)
        opened.close()

        assert (entry.rows, entry.promised, entry.rejected, entry.sums) == (1, 2, 1, {"price": Decimal("0.10")})
        assert (entry.read_at, entry.is_final) == (READ_AT, True)
        assert records == [rejected]
        assert present

    def test_final_days_are_listed(self, place: Path) -> None:
        """
        The days that are final by their ledger rows, and whose rows are intact, are those that a target lists as final,
        if it lists them.
        """
        target = self.sink(place).open(SOURCE, "r1")
        later = READ_AT + timedelta(days=1)
        days: list[tuple[int, list[Row], dict[str, Any]]] = [
            (1, [click(1)], {}),
            (2, [], {}),
            (3, [click(3)], {"open_until": later}),
            (4, [click(4)], {"open_until": None}),
            (5, [click(5)], {"unread_values": 1, "reader_version": "reader"}),
            (6, [click(6)], {}),
        ]
        for day, rows, facts in days:
            deliver(target, a_day(day), [(CLICKS, rows)], **facts)
        for day in (1, 2):
            deliver(target, a_lead_day(day), [(LEADS, [lead(day)])])
        target.finish("leads")
        ledger_of(target).fail_all(SOURCE, [(a_day(6), "HTTP 500")], "r1")
        target.close()
        opened = self.sink(place).open_readonly(SOURCE)
        assert opened is not None
        for stream, final in (("clicks", {a_day(1), a_day(2), a_day(5)}), ("leads", {a_lead_day(1), a_lead_day(2)})):
            entries = ledger_of(opened).entries(SOURCE, stream)
            by_rows = [entry for entry in entries.values() if entry.is_final and entry.error is None]
            assert {entry.partition for entry in by_rows if opened.is_intact(entry)} == final
            if not has_own(opened, "final_days"):
                continue
            final_days: Any = opened.final_days
            account = next(iter(final)).values[0][1]
            window: dict[str, Any] = {"since": date(2026, 3, 1), "until": date(2026, 3, 31)}
            by_day = {final_day.day: final_day for final_day in final_days(stream, **window, accounts=[account])}
            assert set(by_day) == {partition.values[-1][1] for partition in final}
            for partition in final:
                entry, listed = entries[partition], by_day[partition.values[-1][1]]
                assert listed[0] == account
                assert listed[2:6] == (entry.fingerprint, entry.run_id, entry.read_at, entry.reader_version)
                assert listed.complete == (not entry.unread_values)
            assert list(final_days(stream, **window, accounts=["another"])) == []
            nothing: dict[str, Any] = {"since": date(2026, 4, 1), "until": date(2026, 4, 2)}
            assert list(final_days(stream, **nothing, accounts=[account])) == []
        opened.close()

    def test_nothing_to_look_at_before_the_first_run(self, place: Path) -> None:
        """
        Looking at a target that was never written gives None and makes nothing.
        """
        assert self.sink(place).open_readonly(SOURCE) is None
        assert not place.exists()

    def test_a_stale_commit_is_refused(self, place: Path) -> None:
        """
        A commit planned on a reading that has been replaced since leaves the newer reading alone.
        """
        target = self.sink(place).open(SOURCE, "r1")
        deliver(target, a_day(), [(CLICKS, [click(1)])])
        with pytest.raises(SinkError, match="changed in the ledger"):
            deliver(target, a_day(), [(CLICKS, [click(2)])], version=0)
        entry = ledger_of(target).entries(SOURCE, "clicks")[a_day()]
        target.close()

        assert self.found(place, CLICKS) == plain(CLICKS, [click(1)])
        assert entry.delivered

    def test_one_run_per_source_and_target(self, place: Path) -> None:
        """
        A second run of the same source is refused while the first goes on; another source is not.
        """
        target = self.sink(place).open(SOURCE, "r1")
        with pytest.raises(LockHeldError, match="r1") as refused:
            self.sink(place).open(SOURCE, "r2")
        self.sink(place).open("other", "r3").close()
        target.close()
        assert refused.value.run_id in (None, "r1")

        self.sink(place).open(SOURCE, "r4").close()
