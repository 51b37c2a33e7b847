"""
The sink of DuckDB files: the suite of every sink, and what is DuckDB's own.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from penstock import BaseSink, Batch, Column, Layout, LockHeldError, Partition, Rejected, Sink, SinkError, TargetError
from penstock.testing.sinks import (
    ANSWERS,
    CLICKS,
    HOSTILE,
    LEADS,
    SOURCE,
    TAGS,
    SinkSuite,
    a_day,
    a_lead_day,
    an_entry,
    answer,
    click,
    commit,
    deliver,
    lead,
    plain,
    rows_of,
    tag,
)
from penstock_plugins.sink_kinds import KINDS

pytestmark = pytest.mark.slow

duckdb = pytest.importorskip("duckdb", reason="needs the extra duckdb")
(KIND,) = (kind for kind in KINDS if kind.name == "duckdb")


def sink(place: Path) -> Sink:
    """The file ``warehouse.duckdb`` in the directory ``place``, which is made when the sink is opened."""
    return _Made(KIND.open(KIND.parse(f"duckdb:{place / 'warehouse.duckdb'}")), place)


class _Made(BaseSink):
    """Makes the directory first, as a user does."""

    def __init__(self, sink: Sink, place: Path) -> None:
        self._sink, self._place = sink, place

    def open(self, source: str, run_id: str, streams: Any = ()) -> Any:
        self._place.mkdir(parents=True, exist_ok=True)
        return self._sink.open(source, run_id, streams)

    def open_readonly(self, source: str) -> Any:
        return self._sink.open_readonly(source)


def read(place: Path, layout: Layout) -> list[dict[str, Any]]:
    with duckdb.connect(str(place / "warehouse.duckdb")) as connection:
        connection.execute("set TimeZone = 'UTC'")
        names = {
            name
            for (name,) in connection.execute(
                "select table_name from duckdb_tables() where schema_name = ?", [layout.source]
            ).fetchall()
        }
        if layout.stream not in names:
            return []
        table = connection.sql(f'select * from "{layout.source}"."{layout.stream}"').to_arrow_table()
        rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        for column in layout.columns:
            if column.type == "json" and row[column.name] is not None:
                row[column.name] = json.loads(row[column.name], parse_float=Decimal)
    return rows


class TestDuckDB(SinkSuite):
    commit_points = ("duckdb.begun", "duckdb.written", "duckdb.recorded", "duckdb.committed")
    erase_points = commit_points[1:]
    merge_points = (*commit_points, *(f"{point}:2" for point in commit_points))

    def sink(self, place: Path) -> Sink:
        return sink(place)

    def rows(self, place: Path, layout: Layout) -> list[dict[str, Any]]:
        return read(place, layout)

    def test_rows_come_back_as_they_were(self, place: Path) -> None:
        """
        All but the record with a number that no column of integers holds: it is rejected, and no sum counts it.
        """
        fitting = [row for row in HOSTILE if row["job_id"] != 2**70]
        with localcontext(prec=50):
            sums = {"price": sum((row["price"] or Decimal(0) for row in HOSTILE), Decimal(0))}
        target = self.sink(place).open(SOURCE, "r1")
        writer = target.begin([CLICKS], a_day())
        writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, HOSTILE)))
        committed = commit(target, writer, an_entry(target.ledger, a_day(), rows=len(HOSTILE), sums=sums))
        target.close()

        assert self.found(place, CLICKS) == plain(CLICKS, fitting)
        assert (committed.rows, committed.rejected) == (len(fitting), 1)
        assert committed.sums == {"price": sum(row["price"] or Decimal(0) for row in fitting)}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "target"


OTHERWISE = [
    pytest.param(evolve(CLICKS, partition_columns=("report_date",)), id="without its account"),
    pytest.param(evolve(CLICKS, kind="snapshot", partition_columns=("advertiser_id",)), id="a snapshot"),
]


@pytest.mark.parametrize("layout", OTHERWISE)
def test_a_stream_that_is_divided_otherwise_is_refused_until_its_table_is_renamed(place: Path, layout: Layout) -> None:
    """
    The ledger would count its rows twice, and the former declaration would double them. A table made anew is filled.
    """
    target = sink(place).open(SOURCE, "r1")
    deliver(target, a_day(1), [(CLICKS, [click(1)])])
    deliver(target, a_day(2), [(CLICKS, [])])
    with pytest.raises(TargetError, match="were divided by advertiser_id and report_date, and are divided by"):
        target.prepare([layout])
    target.close()
    with duckdb.connect(str(place / "warehouse.duckdb")) as connection:
        table = f'"{SOURCE}"."{CLICKS.stream}"'
        connection.execute(f'alter table {table} rename to former; comment on table "{SOURCE}".former is null')

    target = sink(place).open(SOURCE, "r2")
    target.prepare([layout])
    target.close()


def test_rejected_records_of_a_window(place: Path) -> None:
    """
    A window of days chooses among them; they are fetched some at a time.
    """
    bad = tuple(Rejected(stream="clicks", path=f"$[{number}]", reason="no", raw="{}") for number in range(600))
    target = sink(place).open(SOURCE, "r1")
    for day in (1, 2):
        deliver(target, a_day(day), [(CLICKS, [click(day)])], rejected=600, rejected_records=bad)
    found = [(entry.partition, one) for entry, one in target.ledger.rejected(SOURCE)]
    first = [(entry.partition, one) for entry, one in target.ledger.rejected(SOURCE, until=a_day(1).day)]
    target.close()

    assert found == [(a_day(day), one) for day in (1, 2) for one in bad]
    assert first == found[:600]


def test_another_process_is_refused_by_name(place: Path) -> None:
    """
    While a program has the file open, a run ends with the error of a lock; what it delivered before is there.
    """
    target = sink(place).open(SOURCE, "r1")
    deliver(target, a_day(), [(CLICKS, [click(1)])])
    target.close()
    code = "import duckdb, sys; held = duckdb.connect(sys.argv[1], read_only=True); print('open', flush=True); input()"
    words = [sys.executable, "-c", code, str(place / "warehouse.duckdb")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        with pytest.raises(LockHeldError, match="open in another process"):
            sink(place).open(SOURCE, "r2")
        reader.communicate("\n")

    sink(place).open(SOURCE, "r3").close()
    assert len(read(place, CLICKS)) == 1


@pytest.mark.parametrize("name", [":memory:", ":memory:days", "md:days", "s3:days.duckdb", "x:days.duckdb"])
def test_a_target_is_a_file_whatever_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    DuckDB gives some names another meaning: of a database in memory, all rows would be gone after the run.
    """
    monkeypatch.chdir(tmp_path)
    named = KIND.open(KIND.parse(f"duckdb:{name}"))

    target = named.open(SOURCE, "r1")
    deliver(target, a_day(), [(CLICKS, [click(1)])])
    target.close()

    assert [path.name for path in tmp_path.iterdir()] == [name]
    target = named.open_readonly(SOURCE)
    assert target is not None
    target.close()


@pytest.mark.parametrize(("opened", "mode"), [(False, 0o600), (True, 0o640)], ids=["new", "opened by its owner"])
def test_the_file_and_its_log_are_for_their_owner(place: Path, opened: bool, mode: int) -> None:
    """
    The database, which has the ledger and rejected records, is for its owner. Where its owner opens it to others, the
    log beside it follows.
    """
    file = place / "warehouse.duckdb"
    umask = os.umask(0o022)
    try:
        if opened:
            sink(place).open(SOURCE, "r1").close()
            file.chmod(mode)
        target = sink(place).open(SOURCE, "r2")
        deliver(target, a_day(), [(CLICKS, [click(1)])])
        found = {path.name: path.stat().st_mode & 0o777 for path in place.iterdir()}
        target.close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(umask)

    assert found == {"warehouse.duckdb": mode, "warehouse.duckdb.wal": mode}


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        pytest.param("delete from acme.clicks", "the table acme.clicks has no rows", id="emptied"),
        pytest.param("drop table acme.clicks", "the table acme.clicks is gone", id="dropped"),
        pytest.param("drop table acme.click_tags", "the table acme.click_tags is gone", id="derived"),
    ],
)
def test_an_emptied_or_dropped_table_is_read_again(place: Path, statement: str, what: str) -> None:
    """
    Nothing that it held is final any more, with a notice: also a day that the next run does not read, which would count
    as delivered once the table has rows again.
    """
    target = sink(place).open(SOURCE, "r1")
    for day in (1, 2):
        rows = [(CLICKS, [click(day)]), (TAGS, [tag("c1", "x")])]
        deliver(target, a_day(day), rows, derived_rows={"click_tags": 1})
    entry = target.ledger.entry(SOURCE, a_day(1))
    assert target.is_intact(entry)
    target.close()
    with duckdb.connect(str(place / "warehouse.duckdb")) as other:
        other.execute(statement)
    seen = sink(place).open_readonly(SOURCE)
    assert not seen.is_intact(entry)
    seen.close()
    target = sink(place).open(SOURCE, "r2")
    deliver(target, a_day(2), rows, derived_rows={"click_tags": 1})
    known = set(target.ledger.entries(SOURCE, "clicks"))
    notices = target.notices
    target.close()

    assert known == {a_day(2)}
    assert notices == [
        f"{what}: what was delivered of acme.clicks is missing (partitions: 2, 2026-03-01 to 2026-03-02). A run reads "
        "those of its window that the provider still serves"
    ]


@pytest.mark.parametrize(
    ("statement", "known"),
    [
        pytest.param('alter table "acme"."old" rename to "clicks"', 2, id="renamed back"),
        pytest.param('comment on table "acme"."old" is null', 0, id="given up"),
    ],
)
def test_a_table_that_was_renamed_is_refused(place: Path, statement: str, known: int) -> None:
    """
    The ledger keeps its days, and is right again once the table has its name back. Without the mark of the stream, the
    table is its user's own, and all days are missing.
    """
    target = sink(place).open(SOURCE, "r1")
    for day in (1, 2):
        deliver(target, a_day(day), [(CLICKS, [click(day)])])
    target.close()
    with duckdb.connect(str(place / "warehouse.duckdb")) as other:
        other.execute("alter table acme.clicks rename to old")
    with pytest.raises(TargetError, match=rf"acme\.clicks are in the table acme\.old: .*{statement}"):
        sink(place).open(SOURCE, "r2")
    with duckdb.connect(str(place / "warehouse.duckdb")) as other:
        other.execute(statement)
    target = sink(place).open(SOURCE, "r3")
    entries = target.ledger.entries(SOURCE, "clicks")
    assert all(map(target.is_intact, entries.values()))
    target.close()

    assert len(entries) == known


def test_a_table_is_known_in_any_letter_case(place: Path) -> None:
    """
    DuckDB ignores the case of names.
    """
    target = sink(place).open(SOURCE, "r1")
    deliver(target, a_day(1), [(CLICKS, [click(1)])])
    target.close()
    with duckdb.connect(str(place / "warehouse.duckdb")) as other:
        other.execute("alter table acme.clicks rename to other; alter table acme.other rename to Clicks")
    target = sink(place).open(SOURCE, "r2")
    target.prepare([CLICKS])
    deliver(target, a_day(2), [(CLICKS, [click(2, report_date=date(2026, 3, 2))])])
    differences = list(target.verify("clicks", list(target.ledger.entries(SOURCE, "clicks").values())))
    target.close()

    assert (target.notices, differences) == ([], [])


def test_foreign_tables_and_files_are_not_touched(place: Path) -> None:
    """
    A table of somebody else, or of a source whose name differs in case only, a file that is no DuckDB file, and a file
    named like a schema in it.
    """
    place.mkdir()
    file = place / "warehouse.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema Acme; create table Acme.Clicks (a int)")  # names without case
    target = sink(place).open(SOURCE, "r1")
    with pytest.raises(TargetError, match="not made by penstock"):
        target.prepare([CLICKS])
    with pytest.raises(TargetError, match="not made by penstock"):
        deliver(target, a_day(), [(CLICKS, [click(1)])])
    target.close()
    file.write_bytes(b"not a database" * 1000)
    with pytest.raises(TargetError, match="is no DuckDB file"):
        sink(place).open(SOURCE, "r1")
    with pytest.raises(TargetError, match="Name the file otherwise"):
        KIND.open(KIND.parse(f"duckdb:{place / 'ACME.duckdb'}")).open(SOURCE, "r1")


def test_a_table_gains_columns_and_refuses_other_types(place: Path) -> None:
    """
    A column that is declared since is added, with a notice; one of another type is refused with the statement that
    changes it.
    """
    target = sink(place).open(SOURCE, "r1")
    deliver(target, a_day(), [(CLICKS, [click(1)])])
    target.close()
    extra = Column(name="rate", type="decimal", decimal_scale=12, description="Share", unit="%")
    wider = evolve(CLICKS, columns=(*CLICKS.columns[:-1], extra, CLICKS.columns[-1]))
    other = evolve(CLICKS, columns=(*CLICKS.columns[:4], evolve(CLICKS.columns[4], type="text"), CLICKS.columns[-1]))
    target = sink(place).open(SOURCE, "r2")
    target.prepare([wider])
    assert [
        re.search("acme.clicks had no column rate: added.* --full reads", one) is not None for one in target.notices
    ] == [True]
    deliver(target, a_day(2), [(wider, [click(2, report_date=date(2026, 3, 2), rate=Decimal("0.123456789012"))])])
    with pytest.raises(TargetError, match=r'alter table "acme"."clicks" alter "job_id" type VARCHAR'):
        target.prepare([other])
    target.close()

    assert sorted((row["click_id"], row["rate"]) for row in read(place, wider)) == [
        ("c1", None),
        ("c2", Decimal("0.123456789012")),
    ]


def test_a_column_with_a_collation_is_refused(place: Path) -> None:
    """
    By it the rows of the account ab would be those of AB, and be deleted with them; the message has the statement that
    helps. A column of the user's may have one.
    """
    target = sink(place).open(SOURCE, "r1")
    deliver(target, a_day(), [(CLICKS, [click(1)])])
    target.database.run("alter table acme.clicks add column note varchar")
    target.database.run("alter table acme.clicks alter note type varchar collate nocase")
    target.prepare([CLICKS])
    target.database.run("alter table acme.clicks alter advertiser_id type varchar collate nocase")
    with pytest.raises(TargetError, match=r"the column advertiser_id of acme\.clicks has a collation") as refused:
        target.prepare([CLICKS])
    target.database.run(str(refused.value).partition("Run: ")[2].partition(";")[0])
    target.prepare([CLICKS])
    target.close()


def test_verify_compares_rows_and_sums(place: Path) -> None:
    """
    A row that somebody deleted or added, a changed amount and a table that was dropped are found.
    """
    target = sink(place).open(SOURCE, "r1")
    for day in (1, 2, 3):
        clicks = [click(day, report_date=date(2026, 3, day))]
        deliver(target, a_day(day), [(CLICKS, clicks)], sums={"price": Decimal("0.10")})
    deliver(target, a_lead_day(1), [(LEADS, [lead(1)])])
    entries = {stream: list(target.ledger.entries(SOURCE, stream).values()) for stream in ("clicks", "leads")}
    assert list(target.verify("clicks", entries["clicks"])) == []
    target.database.run("delete from acme.clicks where click_id = 'c1'")
    target.database.run("update acme.clicks set price = 9 where click_id = 'c2'")
    target.database.run("drop table acme.leads")
    target.database.run(
        "insert into acme.clicks (advertiser_id, report_date, click_id) values ('9', '2026-03-01', 'c9')"
    )

    found = [one.what for stream in entries for one in target.verify(stream, entries[stream])]
    intact = target.is_intact(entries["leads"][0])
    target.close()

    assert found == [
        "clicks: 0 rows in acme.clicks, 1 were delivered",
        "clicks: the sum of price is 9.000000000, 0.10 was delivered",
        "clicks: 1 rows in acme.clicks",
        "leads: the table acme.leads is gone",
    ]
    assert not intact


def test_verify_compares_amounts_with_a_currency(place: Path) -> None:
    """
    Over all currencies of a partition.
    """
    columns = (evolve(column, unit_of="url") if column.name == "price" else column for column in CLICKS.columns)
    priced = evolve(CLICKS, columns=tuple(columns))
    target = sink(place).open(SOURCE, "r1")
    sums = {"price[EUR]": Decimal("0.10"), "price[USD]": Decimal("0.25")}
    rows = [click(1, url="EUR"), click(2, url="USD", price=Decimal("0.25"))]
    deliver(target, a_day(), [(priced, rows)], sums=sums)
    entries = list(target.ledger.entries(SOURCE, "clicks").values())
    assert list(target.verify("clicks", entries)) == []
    target.database.run("update acme.clicks set price = 9 where click_id = 'c2'")

    found = [one.what for one in target.verify("clicks", entries)]
    target.close()

    assert found == ["clicks: the sum of price is 9.100000000, 0.35 was delivered"]


def test_verify_of_some_days_reads_their_rows_only(place: Path) -> None:
    """
    One query for a table, whatever the number of partitions, that skips the rows of other days.
    """
    target = sink(place).open(SOURCE, "r1")
    for day in range(1, 10):
        deliver(target, a_day(day), [(CLICKS, [click(day, report_date=date(2026, 3, day))])])
    # Days of no delivery, in row groups of their own.
    target.database.run(
        "insert into acme.clicks (advertiser_id, report_date, click_id) "
        "select '2112', date '2030-01-01' + (n // 100000)::integer, 'x' || n from range(300000) t(n)"
    )
    target.database.run("checkpoint")
    run, sent = target.database.run, []
    target.database.run = lambda text, values=(): sent.append((text, values)) or run(text, values)
    window = {"since": date(2026, 3, 2), "until": date(2026, 3, 8)}
    found = list(target.verify("clicks", list(target.ledger.entries(SOURCE, "clicks", **window).values()), **window))
    target.database.run = run
    ((statement, values),) = [one for one in sent if "count(*)" in one[0]]
    ((_, profile),) = run(f"explain (analyze, format json) {statement}", values).rows
    target.close()

    assert found == []
    assert 0 < max(rows_scanned(json.loads(profile))) < 200_000


def rows_scanned(profile: Any) -> Iterator[int]:
    """The rows that each step of a profiled query read from a table. Versions of DuckDB nest the steps differently."""
    for name, value in profile.items() if isinstance(profile, Mapping) else ():
        if name.endswith("rows_scanned"):
            yield value
    if isinstance(profile, (Mapping, list)):
        for inner in profile.values() if isinstance(profile, Mapping) else profile:
            yield from rows_scanned(inner)


def test_a_row_that_moved_to_another_day_is_no_difference(place: Path) -> None:
    """
    Rows of changes carry the day of their last change, so a lead that is read again leaves its former day.
    """
    dated = evolve(LEADS, columns=(*LEADS.columns[:-1], Column(name="day", type="date"), LEADS.columns[-1]))
    target = sink(place).open(SOURCE, "r1")
    for day, numbers in ((1, (1, 2)), (2, (2, 3))):
        partition = Partition("leads", (("day", f"2026-03-{day:02d}"),))
        deliver(target, partition, [(dated, [{**lead(one), "day": date(2026, 3, day)} for one in numbers])])
    found = list(target.verify("leads", list(target.ledger.entries(SOURCE, "leads").values())))
    target.close()

    assert found == []
    assert [row["day"].day for row in plain(dated, read(place, dated))] == [1, 2, 2]


def test_many_rows_wait_outside_of_memory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Rows beyond the bound go into a temporary table; the partition is whole, and the last reading of a key wins.
    """
    monkeypatch.setattr("penstock_plugins.duckdb.writer.HELD_BYTES", 500)
    target = sink(place).open(SOURCE, "r1")
    rows = [lead(number % 50, f"reading {number}") for number in range(100)]
    deliver(target, a_lead_day(1), [(LEADS, rows)])
    left = target.database.run("select count(*) from duckdb_tables() where temporary").rows
    target.close()

    assert plain(LEADS, read(place, LEADS)) == plain(LEADS, rows[50:])
    assert left == [(0,)]


def test_a_day_of_which_nothing_fits_is_not_replaced(place: Path) -> None:
    """
    A day of which no record fits is not replaced: its former rows stay.
    """
    target = sink(place).open(SOURCE, "r1")
    deliver(target, a_day(), [(CLICKS, [click(1)])])
    with pytest.raises(SinkError, match=r"refuses all 1 records"):
        deliver(target, a_day(), [(CLICKS, [click(1, price=Decimal("1E-10"))])])
    target.close()

    assert len(read(place, CLICKS)) == 1


def test_derived_rows_of_a_rejected_parent_are_replaced(place: Path) -> None:
    """
    A parent that its table cannot hold, again in the next reading, is rejected, and its derived rows are those of the
    last reading, each once.
    """
    target = sink(place).open(SOURCE, "r1")
    for reading, names in (("1", ["a", "b"]), ("2", ["b", "c"])):
        leads = [{"lead_id": 1, "status": 5}, lead(2)]
        answers = [answer(number, name, reading) for number in (1, 2) for name in names]
        deliver(target, a_lead_day(1), [(LEADS, leads), (ANSWERS, answers)], derived_rows={"lead_data": 4})
    target.close()

    assert [row["lead_id"] for row in read(place, LEADS)] == [2]
    assert plain(ANSWERS, read(place, ANSWERS)) == plain(ANSWERS, answers)
