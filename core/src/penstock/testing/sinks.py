"""
The tests for every sink. Subclass :class:`SinkSuite` in a test module, define the methods that make the sink and read
its rows, and name the points at which it may be killed::

    class TestJsonl(SinkSuite):
        commit_points = ("files.staged", "files.intended", ...)

        def sink(self, place): ...
        def rows(self, place, layout): ...

The rows are hostile: quotes, line breaks, texts that formats use for null, numbers beyond 64 bits, nested values.
"""

import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from attrs import evolve

from penstock.errors import LockHeldError, SinkError
from penstock.fault_points import kill_at
from penstock.ledger_interface import Ledger, LedgerEntry
from penstock.model import Batch, Partition, Rejected
from penstock.records import Column
from penstock.sinks import Erased, Erasing, Erasure, Grouping, Layout, ListsFinal, Sink, Target, Verifiable, commit_all

SOURCE = "acme"
READ_AT = datetime(2026, 3, 5, 4, 30, tzinfo=UTC)


def _layout(stream: str, *columns: Column, **more: Any) -> Layout:
    return Layout(source=SOURCE, stream=stream, columns=(*columns, Column(name="_extra", type="json")), **more)


CLICKS = _layout(
    "clicks",
    Column(name="advertiser_id", type="text", nullable=False),
    Column(name="report_date", type="date", nullable=False),
    Column(name="click_id", type="text", nullable=False, member="clickId"),
    Column(name="url", type="text", description="Where it led"),
    Column(name="job_id", type="integer"),
    Column(name="price", type="decimal", unit="USD", additive=True),
    Column(name="paid", type="boolean"),
    Column(name="clicked_at", type="datetime", zone="naive"),
    Column(name="seen_at", type="datetime"),
    Column(name="offer", type="json"),
    kind="report",
    key=("click_id",),
    partition_columns=("advertiser_id", "report_date"),
    summary="Clicks on jobs",
)
TAGS = _layout(
    "click_tags",
    Column(name="advertiser_id", type="text", nullable=False),
    Column(name="report_date", type="date", nullable=False),
    Column(name="click_id", type="text", nullable=False),
    Column(name="tag", type="text"),
    kind="report",
    key=("click_id", "tag"),
    partition_columns=("advertiser_id", "report_date"),
    derived_by=("click_id",),
)
LEADS = _layout(
    "leads",
    Column(name="lead_id", type="integer", nullable=False),
    Column(name="status", type="text"),
    kind="changes",
    key=("lead_id",),
    partition_columns=("campaign",),
)
ANSWERS = _layout(
    "lead_data",
    Column(name="lead_id", type="integer", nullable=False),
    Column(name="name", type="text"),
    Column(name="value", type="text"),
    kind="changes",
    key=("lead_id", "name"),
    derived_by=("lead_id",),
)


def _without(layout: Layout, *names: str) -> Layout:
    return evolve(layout, columns=tuple(column for column in layout.columns if column.name not in names))


def _without_id(text: str) -> str | None:
    """A nested value without the member ``id``; nothing, where it was the only one."""
    value = msgspec.json.decode(text)
    if not isinstance(value, dict) or "id" not in value:
        return text
    del value["id"]
    return msgspec.json.encode(value).decode() if value else None


OF_CLICKS = (
    Erasure(
        layout=_without(CLICKS, "url"), columns=("url",), nested={"offer": _without_id, "_extra": lambda text: None}
    ),
    Erasure(layout=TAGS, columns=()),
)
OF_LEADS = (
    Erasure(layout=_without(LEADS, "status"), columns=("status",)),
    Erasure(layout=_without(ANSWERS, "value"), columns=("value",)),
)

Row = Mapping[str, Any]
Streams = Sequence[tuple[Layout, Sequence[Row]]]


def click(number: int, **values: Any) -> dict[str, Any]:
    """An ordinary click; ``values`` in place of some."""
    return {
        "advertiser_id": "2112",
        "report_date": date(2026, 3, 1),
        "click_id": f"c{number}",
        "url": f"https://jobs.example/{number}",
        "job_id": number,
        "price": Decimal("0.10"),
        "paid": True,
        "clicked_at": datetime(2026, 3, 1, 0, 0, number % 60),  # noqa: DTZ001 (a provider that names no zone)
        "seen_at": datetime(2026, 3, 1, 8, 0, number % 60, tzinfo=UTC),
        "offer": {"id": number},
        **values,
    }


def tag(click_id: str, text: str | None) -> dict[str, Any]:
    """A derived row of an ordinary click."""
    return {"advertiser_id": "2112", "report_date": date(2026, 3, 1), "click_id": click_id, "tag": text}


HOSTILE = [
    click(1),
    click(2, url=None, job_id=None, price=None, paid=None, clicked_at=None, seen_at=None, offer=None),
    click(3, url="", job_id=0, price=Decimal(0), paid=False, offer={}),
    click(4, url='a "quoted" word, a comma; a\ttab, a\r\nline break \\ and \\N'),
    click(5, url="None", job_id=2**70, price=Decimal("-12345678901234567890.12345678901")),
    click(6, url="=1+1", offer={"a": ['"', "\n", "ä\u2028", None, 1.5, True], "b": {"c": "\\"}}),
    click(
        7, url="Köln 東京 \U0001f600 \x01", seen_at=datetime(2026, 3, 1, 1, 2, 3, 450000, timezone(timedelta(hours=5)))
    ),
    click(8, url="null", offer=[], _extra={"new": [1, '"']}),
    click(9, click_id="9,\"'\n"),
]


def rows_of(layout: Layout, values: Iterable[Row]) -> list[Any]:
    """Rows as the decoder makes them: an attribute per column, ``_extra`` unset where there is none."""
    fields: list[tuple[str, Any, Any]] = [(column.name, Any, None) for column in layout.columns]
    fields[-1] = ("_extra", Any, msgspec.UNSET)
    made = msgspec.defstruct("Row", fields, kw_only=True)
    return [made(**row) for row in values]


def plain(layout: Layout, values: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows as a suite's ``rows`` must give them: every column, null where absent, by key."""
    names = [column.name for column in layout.columns]
    return sorted(({name: row.get(name) for name in names} for row in values), key=lambda row: _key(layout, row))


def _key(layout: Layout, row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in layout.key)


def a_day(day: int = 1, advertiser: str = "2112") -> Partition:
    return Partition("clicks", (("advertiser_id", advertiser), ("report_date", f"2026-03-{day:02d}")))


def a_lead_day(day: int, campaign: str = "7") -> Partition:
    return Partition("leads", (("campaign", campaign), ("day", f"2026-03-{day:02d}")))


def deliver(
    target: Target,
    partition: Partition,
    streams: Streams,
    *,
    run_id: str = "r1",
    **facts: Any,
) -> None:
    """One partition, its first stream's rows in batches of two."""
    entry = an_entry(target.ledger, partition, rows=len(streams[0][1]), run_id=run_id, **facts)
    writer = target.begin([layout for layout, _ in streams], partition)
    for layout, values in streams:
        rows = rows_of(layout, values)
        for start in range(0, max(len(rows), 1), 2):
            writer.write(Batch(layout=layout, rows=rows[start : start + 2]))
    commit(target, writer, entry)


def commit(target: Any, writer: Any, entry: LedgerEntry) -> LedgerEntry:
    """Commit one partition; raises the error of its commit. Returns the entry as committed."""
    (done,) = commit_all(target, [(writer, entry)])
    if isinstance(done, Exception):
        raise done
    return done


def deliver_group(
    target: Any, days: Mapping[Partition, Sequence[Row]], *, run_id: str = "r1", **facts: Any
) -> Sequence[LedgerEntry | Exception]:
    """Clicks of several partitions, committed as a group."""
    commits = []
    for partition, rows in days.items():
        entry = an_entry(target.ledger, partition, rows=len(rows), run_id=run_id, **facts)
        writer = target.begin([CLICKS], partition)
        writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, rows)))
        commits.append((writer, entry))
    done: Sequence[LedgerEntry | Exception] = target.commit_group(commits)
    return done


def ledger_of(target: Target) -> Ledger:
    """The ledger of a target that keeps one."""
    assert target.ledger is not None
    return target.ledger


def an_entry(ledger: Ledger | None, partition: Partition, **facts: Any) -> LedgerEntry:
    """A delivery of ``partition`` that was planned just now."""
    known = ledger.entries(SOURCE, partition.stream).get(partition) if ledger is not None else None
    version = known.version if known is not None else 0
    defaults: dict[str, Any] = {"run_id": "r1", "read_at": READ_AT, "open_until": READ_AT, "fingerprint": "f"}
    return LedgerEntry(
        source=SOURCE, partition=partition, state="delivered", **{**defaults, "version": version, **facts}
    )


def killed_at(point: str, work: Callable[[], None]) -> bool:
    """Run ``work`` in a process that is killed at ``point``. Returns whether it reached the point."""
    child = os.fork()
    if child == 0:
        try:
            kill_at(point)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _erase(target: Any, erasures: Sequence[Erasure], stream: str = "clicks") -> Erased:
    """Erase in all partitions; raw text of rejected records becomes ``erased``."""
    texts: dict[Partition, list[Rejected]] = {}
    for entry, record in ledger_of(target).rejected(SOURCE, stream):
        texts.setdefault(entry.partition, []).append(evolve(record, raw="erased"))
    entries = ledger_of(target).entries(SOURCE, stream).items()
    kind = erasures[0].layout.kind
    found: Erased = target.erase(
        erasures, [evolve(entry, kind=kind, rejected_records=tuple(texts.get(key, ()))) for key, entry in entries]
    )
    return found


def _deliver_leads(target: Target) -> None:
    deliver(
        target, a_lead_day(1), [(LEADS, [lead(1)]), (ANSWERS, [answer(1, "a", "1")])], derived_rows={"lead_data": 1}
    )
    deliver(
        target, a_lead_day(2), [(LEADS, [lead(2)]), (ANSWERS, [answer(2, "a", "2")])], derived_rows={"lead_data": 1}
    )
    target.finish("leads")


class SinkSuite:
    """The tests. ``place`` is an empty directory per test, in which a sink keeps everything or a name for it."""

    commit_points: ClassVar[tuple[str, ...]] = ()
    merge_points: ClassVar[tuple[str, ...]] = ()
    erase_points: ClassVar[tuple[str, ...]] = ()
    """Of a target that can erase values; those of a merged stream, where they are others, in the next one."""
    erase_merged_points: ClassVar[tuple[str, ...]] = ()

    def sink(self, place: Path) -> Sink:
        raise NotImplementedError

    def rows(self, place: Path, layout: Layout) -> list[dict[str, Any]]:
        """Every row delivered of a stream, as typed values: any order."""
        raise NotImplementedError

    def found(self, place: Path, layout: Layout) -> list[dict[str, Any]]:
        return plain(layout, self.rows(place, layout))

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        return tmp_path / "target"

    # --- rows -------------------------------------------------------------------------------------------------------

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

    # --- changes ----------------------------------------------------------------------------------------------------

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

    # --- erasure ----------------------------------------------------------------------------------------------------

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
        first, again = _erase(target, OF_CLICKS), _erase(target, OF_CLICKS)
        target.close()

        shorn = OF_CLICKS[0].layout
        offers: list[Row] = [
            {**row, "_extra": None, "offer": {key: item for key, item in row["offer"].items() if key != "id"} or None}
            if row["offer"] and "id" in row["offer"]
            else {**row, "_extra": None}
            for row in [*hostile, *other]
        ]
        assert self.found(place, shorn) == plain(shorn, offers)
        assert self.found(place, TAGS) == plain(TAGS, [tag("c1", "a")])
        # One row of the hostile ones has nothing in any of these columns.
        assert (first.rows, first.left, again.rows, again.left) == (len(hostile) + len(other) - 1, (), 0, ())
        self._assert_agrees(place, "clicks")
        seen = self.sink(place).open_readonly(SOURCE)
        assert seen is not None
        after = ledger_of(seen).entries(SOURCE, "clicks")
        assert [record.raw for _, record in ledger_of(seen).rejected(SOURCE, "clicks")] == ["erased"]
        assert list(ledger_of(seen).restated(SOURCE)) == []
        seen.close()
        for partition, entry in before.items():
            same = evolve(after[partition], version=entry.version, files=entry.files)
            assert same == entry
        if isinstance(target, Verifiable):  # a reading again finds its place
            target = self.sink(place).open(SOURCE, "r2")
            deliver(target, a_day(2), [(shorn, plain(shorn, other[:1])), (TAGS, [])])
            target.close()
            assert len(self.found(place, shorn)) == len(hostile) + 1

    def test_values_of_merged_rows_are_erased(self, place: Path) -> None:
        """
        Of a stream that is merged by key, and of one derived from it; a later day is merged into what is left.
        """
        target = self.sink(place).open(SOURCE, "r1")
        if not isinstance(target, Erasing):
            target.close()
            pytest.skip("the target cannot erase values")
        _deliver_leads(target)
        assert _erase(target, OF_LEADS, "leads").rows == 4
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
            here = place / str(number)
            sink = self.sink(here)
            target = sink.open(SOURCE, "r1")
            for day, rows in days.items():
                deliver(target, day, [(CLICKS, rows), (TAGS, [])])
            target.close()

            def work(sink: Sink = sink) -> None:
                _erase(sink.open(SOURCE, "r2"), OF_CLICKS)

            assert killed_at(point, work), f"{point} was never reached"

            target = sink.open(SOURCE, "r3")
            self._assert_agrees(here, "clicks", target)
            assert _erase(target, OF_CLICKS).left == ()
            target.close()
            self._assert_agrees(here, "clicks")
            expected = [{**row, "offer": None} for rows in days.values() for row in rows]
            assert self.found(here, shorn) == plain(shorn, expected), point

    def test_killed_while_values_of_merged_rows_are_erased(self, place: Path) -> None:
        """
        The same for a stream that is merged by key: no day is missing afterwards.
        """
        for number, point in enumerate(self.erase_merged_points or self.erase_points):
            here = place / str(number)
            sink = self.sink(here)
            target = sink.open(SOURCE, "r1")
            _deliver_leads(target)
            target.close()

            def work(sink: Sink = sink) -> None:
                _erase(sink.open(SOURCE, "r2"), OF_LEADS, "leads")

            assert killed_at(point, work), f"{point} was never reached"

            target = sink.open(SOURCE, "r3")
            self._assert_agrees(here, "leads", target)
            assert _erase(target, OF_LEADS, "leads").left == ()
            target.close()
            self._assert_agrees(here, "leads")
            leads, answers = (erasure.layout for erasure in OF_LEADS)
            assert self.found(here, leads) == plain(leads, [lead(1), lead(2)]), point
            assert self.found(here, answers) == plain(answers, [answer(1, "a", ""), answer(2, "a", "")]), point

    def _assert_agrees(self, place: Path, stream: str, target: Target | None = None) -> None:
        """Both delivered days in the target agree with its ledger."""
        seen = target or self.sink(place).open_readonly(SOURCE)
        assert seen is not None
        entries = list(ledger_of(seen).entries(SOURCE, stream).values())
        assert [entry.state for entry in entries] == ["delivered"] * 2
        assert all(seen.is_intact(entry) for entry in entries)
        assert isinstance(seen, Verifiable)
        assert list(seen.verify(stream, entries)) == []
        if target is None:
            seen.close()

    # --- ledger and lock --------------------------------------------------------------------------------------------

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
        seen = self.sink(place).open_readonly(SOURCE)
        assert seen is not None
        ledger = ledger_of(seen)
        entry = ledger.entries(SOURCE, "clicks")[a_day()]
        found = [record for _, record in ledger.rejected(SOURCE, "clicks")]
        present = seen.is_intact(entry)
        seen.close()

        assert (entry.rows, entry.promised, entry.rejected, entry.sums) == (1, 2, 1, {"price": Decimal("0.10")})
        assert (entry.read_at, entry.final("f")) == (READ_AT, True)
        assert found == [rejected]
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
        ledger_of(target).fail(SOURCE, a_day(6), "HTTP 500", "r1")
        target.close()
        seen = self.sink(place).open_readonly(SOURCE)
        assert seen is not None
        for stream, final in (("clicks", {a_day(1), a_day(2), a_day(5)}), ("leads", {a_lead_day(1), a_lead_day(2)})):
            entries = ledger_of(seen).entries(SOURCE, stream)
            by_rows = [entry for entry in entries.values() if entry.final(entry.fingerprint) and entry.error is None]
            assert {entry.partition for entry in by_rows if seen.is_intact(entry)} == final
            if not isinstance(seen, ListsFinal):
                continue
            account = next(iter(final)).values[0][1]
            window: dict[str, Any] = {"since": date(2026, 3, 1), "until": date(2026, 3, 31)}
            found = {final_day.day: final_day for final_day in seen.final_days(stream, **window, accounts=[account])}
            assert set(found) == {partition.values[-1][1] for partition in final}
            for partition in final:
                entry, listed = entries[partition], found[partition.values[-1][1]]
                assert listed[0] == account
                assert listed[2:6] == (entry.fingerprint, entry.run_id, entry.read_at, entry.reader_version)
                assert listed.complete == (not entry.unread_values)
            assert list(seen.final_days(stream, **window, accounts=["another"])) == []
            nothing: dict[str, Any] = {"since": date(2026, 4, 1), "until": date(2026, 4, 2)}
            assert list(seen.final_days(stream, **nothing, accounts=[account])) == []
        seen.close()

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
        with pytest.raises(LockHeldError, match="r1"):
            self.sink(place).open(SOURCE, "r2")
        self.sink(place).open("other", "r3").close()
        target.close()

        self.sink(place).open(SOURCE, "r4").close()

    # --- kill -9 ----------------------------------------------------------------------------------------------------

    def test_killed_in_a_commit(self, place: Path) -> None:
        """
        Whenever a commit is killed, the next opening shows the former rows or the new ones, in both streams, and a
        ledger that agrees; reading again leaves the new ones.
        """
        old: Streams = [(CLICKS, [click(1), click(2)]), (TAGS, [tag("c1", "old")])]
        new: Streams = [(CLICKS, [click(2), click(3), click(4)]), (TAGS, [tag("c3", "new")])]
        for number, point in enumerate(self.commit_points):
            for former in (old, []):
                here = place / f"{number}{bool(former)}"
                sink = self.sink(here)  # before the fork: what is made for it must be the child's, too
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
                    assert self.found(here, layout) == plain(layout, rows), point
                if entry is not None:
                    assert entry.delivered, point
                    assert entry.rows == len(expected[0][1]), point
                    assert target.is_intact(entry), point
                deliver(target, a_day(), new, run_id="r3")
                target.close()
                for layout, rows in new:
                    assert self.found(here, layout) == plain(layout, rows), point

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
            here = place / str(number)
            sink = self.sink(here)
            target = sink.open(SOURCE, "r1")
            if not isinstance(target, Grouping):
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
            assert self.found(here, CLICKS) == plain(CLICKS, [row for rows in shown.values() for row in rows]), point
            assert all(entry.rows == len(shown[partition]) for partition, entry in entries.items()), point
            assert all(entry.delivered and target.is_intact(entry) for entry in entries.values()), point
            deliver_group(target, new, run_id="r3")
            target.close()
            assert self.found(here, CLICKS) == plain(CLICKS, [row for rows in new.values() for row in rows]), point

    def test_one_of_a_group_fails(self, place: Path) -> None:
        """
        A partition of a group that cannot be committed keeps its former rows; the others are delivered.
        """
        target = self.sink(place).open(SOURCE, "r1")
        if not isinstance(target, Grouping):
            target.close()
            pytest.skip("the target commits one by one")
        days = {a_day(day): [click(day, report_date=date(2026, 3, day))] for day in (1, 2, 3)}
        deliver(target, a_day(2), [(CLICKS, [click(9, report_date=date(2026, 3, 2))])], run_id="r0")
        done = deliver_group(target, days, version=0)
        runs = [entry.run_id for entry in ledger_of(target).entries(SOURCE, "clicks").values()]
        target.close()

        assert [isinstance(outcome, SinkError) for outcome in done] == [False, True, False]
        assert runs == ["r1", "r0", "r1"]
        kept = click(9, report_date=date(2026, 3, 2))
        assert self.found(place, CLICKS) == plain(CLICKS, [*days[a_day(1)], *days[a_day(3)], kept])

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
            here = place / str(number)
            target = self.sink(here).open(SOURCE, "r1")
            first = [(LEADS, [lead(1), lead(2)]), (ANSWERS, [answer(1, "a", "1"), answer(2, "a", "1")])]
            deliver(target, a_lead_day(1), first)
            target.finish("leads")
            target.close()

            def work(here: Path = here) -> None:
                target = self.sink(here).open(SOURCE, "r2")
                for partition, streams in days.items():
                    deliver(target, partition, streams, run_id="r2")
                target.finish("leads")

            assert killed_at(point, work), f"{point} was never reached"

            target = self.sink(here).open(SOURCE, "r3")
            known = ledger_of(target).entries(SOURCE, "leads")
            assert all(entry.delivered and target.is_intact(entry) for entry in known.values()), point
            if set(days) <= set(known):
                assert self.found(here, LEADS) == plain(LEADS, expected), point
            for partition, streams in days.items():
                if partition not in known:
                    deliver(target, partition, streams, run_id="r3")
            target.finish("leads")
            target.close()
            assert self.found(here, LEADS) == plain(LEADS, expected), point
            assert self.found(here, ANSWERS) == plain(ANSWERS, answers), point


def lead(number: int, status: str = "new") -> dict[str, Any]:
    return {"lead_id": number, "status": status}


def answer(number: int, name: str, value: str) -> dict[str, Any]:
    return {"lead_id": number, "name": name, "value": value}
