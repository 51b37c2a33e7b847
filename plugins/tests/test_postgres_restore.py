"""
Tables that were dumped and restored, moved, partitioned or adopted.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import asdict
from penstock import Adoption, SinkError, TargetError
from penstock.testing.sinks import CLICKS, LEADS, OF_CLICKS, SOURCE, a_day, click
from penstock_plugins.postgres.database import Database
from postgres_runs import a_click_of, a_trigger, deliver, delivered, query, sink
from postgres_server import binaries, server
from postgres_statements import PostgresStatements

pytestmark = pytest.mark.slow


def restored(dsn: str, *options: str) -> "Iterator[str]":
    """The database dumped and restored into another one, whose catalog numbers everything anew."""
    with server().database() as other:
        query(other, "create table filler (a int primary key, b text unique, c text unique)")
        dump = subprocess.run([client("pg_dump"), "-Fc", "-d", dsn], capture_output=True)
        if b"server version mismatch" in dump.stderr:
            pytest.skip("pg_dump is older than the server")
        assert dump.returncode == 0, dump.stderr
        restore = [client("pg_restore"), *options, "-d", other]
        subprocess.run(restore, input=dump.stdout, check=True, capture_output=True)
        yield other


def client(name: str) -> Path:
    """A client program beside the server's own, else of this machine."""
    program = shutil.which(name, path=str(binaries())) or shutil.which(name)
    if program is None:
        pytest.skip(f"no {name} on this machine")
    return Path(program)


def test_a_restored_dump_goes_on(dsn: str):
    """
    After dump and restore the tables are known by name and mark: nothing is missing, and a day is brought up to date.
    """
    delivered(dsn, [click(1), click(2)])
    with contextmanager(restored)(dsn) as other:
        seen = sink(other).open_readonly(SOURCE)
        assert seen is not None
        (entry,) = seen.ledger.entries(SOURCE, "clicks").values()
        assert seen.is_intact(entry)
        seen.close()
        target = sink(other).open(SOURCE, "r2")
        target.prepare([CLICKS])
        deliver(target, [click(1), click(3)], run_id="r2")
        target.close()

        assert query(other, "select click_id, _run_id from acme.clicks order by 1") == [("c1", "r1"), ("c3", "r2")]


@pytest.mark.parametrize("locked", [False, True], ids=["compared", "locked"])
def test_a_table_of_an_older_dump_than_the_ledger_is_compared(dsn: str, locked: bool, monkeypatch: pytest.MonkeyPatch):
    """
    Only the schema of the rows was restored: the days that its dump does not have are missing, with a notice.
    """
    monkeypatch.setattr("penstock_plugins.postgres.target.VERIFY_PAUSE_S", 0.0)
    monkeypatch.setattr("penstock_plugins.postgres.locks.SHORT_WAIT_MS", 50)
    for day in (1, 2):
        delivered(dsn, [a_click_of(day, 1)], partition=a_day(day))
    query(
        dsn, "create table acme.dump (like acme.clicks including all); insert into acme.dump select * from acme.clicks"
    )
    delivered(dsn, [a_click_of(2, 1), a_click_of(2, 2)], partition=a_day(2))
    delivered(dsn, [a_click_of(3, 1)], partition=a_day(3))
    query(dsn, "drop table acme.clicks; alter table acme.dump rename to clicks")
    query(dsn, "comment on table acme.clicks is 'Written by penstock: acme.clicks'")

    with psycopg.connect(dsn) as other:
        other.execute("lock table acme.clicks in access exclusive mode" if locked else "select 1")
        target = sink(dsn).open(SOURCE, "r2")
    (notice,) = target.notices
    known = set(target.ledger.entries(SOURCE, "clicks"))
    target.close()

    if locked:
        assert notice.startswith("acme.clicks was restored or made anew. Run penstock verify: acme.clicks was not comp")
        assert known == {a_day(1), a_day(2), a_day(3)}
    else:
        assert "acme.clicks was restored or made anew, and has other rows than the ledger: what was del" in notice
        assert "is missing (partitions: 2, 2026-03-02 to 2026-03-03)" in notice
        assert known == {a_day(1)}
    sink(dsn).open(SOURCE, "r3").close()


def test_a_restored_table_that_is_moved_later_is_found(dsn: str):
    """
    The next run after the restore knows the table's new number, so that a move is noticed as in any other database.
    """
    delivered(dsn, [click(1)])
    with contextmanager(restored)(dsn) as other:
        sink(other).open(SOURCE, "r2").close()
        query(other, "create schema mart; alter table acme.clicks set schema mart")

        target = sink(other).open(SOURCE, "r3")
        with pytest.raises(TargetError, match=r'are in the table "mart"\."clicks", and the sink.s settings name acme'):
            target.prepare([CLICKS])
        assert target.notices == []
        target.close()


def adopted(dsn: str, place: str = "acme.clicks", *, confirmed: bool = True, **settings: Any) -> Adoption:
    return sink(dsn, **settings).adopt(SOURCE, "r2", [[CLICKS], [LEADS]], place, confirmed=confirmed)


def test_a_dump_without_comments_is_adopted(dsn: str):
    """
    A table without its mark is refused and nothing of it counts as missing; it is adopted, or the message's statement
    does it.
    """
    delivered(dsn, [click(1)])
    with contextmanager(restored)(dsn, "--no-comments") as other:
        target = sink(other).open(SOURCE, "r2")
        assert len(target.ledger.entries(SOURCE, "clicks")) == 1
        with pytest.raises(TargetError, match=r"penstock check acme --adopt acme\.clicks") as refused:
            target.prepare([CLICKS])
        target.close()
        assert sink(other).unrecognised(SOURCE, [[CLICKS], [LEADS]]) == ["acme.clicks"]
        seen = adopted(other, confirmed=False)
        with pytest.raises(TargetError):
            delivered(other, [click(1)], run_id="r3")
        done = adopted(other)
        assert sink(other).unrecognised(SOURCE, [[CLICKS], [LEADS]]) == []
        delivered(other, [click(1), click(2)], run_id="r3")

        assert asdict(seen) == asdict(done)
        assert (seen.rows, seen.delivered, seen.partitions) == (1, 1, 1)
        assert query(other, "select count(*) from acme.clicks") == [(2,)]
        query(other, "comment on table acme.clicks is 'ours'; update penstock.tables set relation = 1")
        query(other, str(refused.value).partition("owner run: ")[2].partition(". Rename")[0])
        delivered(other, [click(1)], run_id="r4")


def test_a_table_whose_rows_differ_is_not_adopted(dsn: str):
    """
    The differences from the ledger are named, and nothing is changed.
    """
    delivered(dsn, [click(1), click(2)])
    query(dsn, "comment on table acme.clicks is 'Our clicks'; delete from acme.clicks where click_id = 'c1'")
    query(dsn, "update penstock.tables set relation = 1")
    found = adopted(dsn)
    assert [(one.partition, one.what) for one in found.differences] == [
        (a_day(), "clicks: 1 rows in acme.clicks, 2 were delivered")
    ]
    assert query(dsn, "select obj_description('acme.clicks'::regclass)") == [("Our clicks",)]

    query(dsn, "insert into acme.clicks select '2112', '2026-03-01', 'c1'")
    assert adopted(dsn).differences == ()
    comment = "Our clicks\n\nWritten by penstock: acme.clicks"
    assert query(dsn, "select obj_description('acme.clicks'::regclass)") == [(comment,)]


def test_a_long_history_is_adopted_some_days_at_a_time(
    dsn: str, monkeypatch: pytest.MonkeyPatch, postgres_statements: PostgresStatements
):
    """
    The ledger's rows of all days are never in memory together, and all of them are compared.
    """
    for day in (1, 2, 3):
        delivered(dsn, [click(day, report_date=date(2026, 3, day))], partition=a_day(day), run_id=f"r{day}")
    query(dsn, "comment on table acme.clicks is null; update penstock.tables set relation = 1")
    monkeypatch.setattr("penstock.ledger.partition_queries.ROWS_AT_ONCE", 1)

    postgres_statements.clear()
    seen = adopted(dsn, confirmed=False)

    assert (seen.rows, seen.delivered, seen.partitions, seen.differences) == (3, 3, 3, ())
    assert max(len(one.rows) for one in postgres_statements.of("select source, stream, partition, version")) == 1
    query(dsn, "delete from acme.clicks where report_date = '2026-03-02'")
    assert [one.partition for one in adopted(dsn).differences] == [a_day(2)]


def test_a_table_that_was_moved_without_its_comment_is_adopted(dsn: str):
    """
    A table that was moved by a dump without comments, and has another name, is adopted: its readings count as before.
    """
    delivered(dsn, [click(1)])
    with contextmanager(restored)(dsn, "--no-comments") as other:
        query(other, "create schema raw; alter table acme.clicks set schema raw")
        assert adopted(other, "raw.clicks", schema="raw").rows == 1
        delivered(other, [click(2, report_date=date(2026, 3, 2))], partition=a_day(2), schema="raw", run_id="r2")

        assert query(other, "select run_id, rows from penstock.partitions order by 1") == [("r1", 1), ("r2", 1)]
        assert query(other, "select schema_name from penstock.tables") == [("raw",)]


@pytest.mark.parametrize(
    ("done", "place", "message"),
    [
        pytest.param("select 1", "public.clicks", "no stream of acme is written to public.clicks", id="elsewhere"),
        pytest.param("select 1", "acme.leads", "there is no table acme.leads", id="none"),
        pytest.param("create view acme.leads as select 1", "acme.leads", "no table, but something else", id="a view"),
        pytest.param("create table acme.leads (a int)", "acme.leads", "has no unique index", id="no key"),
        pytest.param(
            "create table acme.leads (lead_id bigint primary key); comment on table acme.leads is "
            "'Written by penstock: other.leads'",
            "acme.leads",
            "it is of another stream",
            id="of another",
        ),
        pytest.param(
            "create table acme.leads (lead_id date primary key)",
            "acme.leads",
            "has the type date",
            id="a contradiction",
        ),
    ],
)
def test_a_table_that_cannot_hold_the_stream_is_not_adopted(dsn: str, done: str, place: str, message: str):
    """
    A table that is none, or that cannot hold the stream, or is another stream's.
    """
    delivered(dsn, [click(1)])
    query(dsn, done)
    with pytest.raises(TargetError, match=message):
        adopted(dsn, place)


def test_a_number_that_names_another_table_is_ignored(dsn: str):
    """
    The catalog number of the ledger counts for nothing where its table is gone.
    """
    delivered(dsn, [click(1)])
    query(dsn, "drop table acme.clicks; create table public.others (id int); insert into public.others values (1)")
    query(dsn, "update penstock.tables set relation = 'public.others'::regclass")
    target = sink(dsn).open(SOURCE, "r2")

    assert target.ledger.entries(SOURCE, "clicks") == {}
    assert [text.partition(".")[0] for text in target.notices] == ["the table acme"]
    assert "is gone: what was delivered of acme.clicks is missing (partitions: 1, 2026-03-01" in target.notices[0]
    deliver(target, [click(1)], run_id="r2")
    target.close()
    assert query(dsn, "select count(*) from acme.clicks") == [(1,)]


def test_a_table_that_the_user_made_partitioned(dsn: str):
    """
    A table of the same name that is divided into partitions is taken once it bears the mark.
    """
    delivered(dsn, [click(1)])
    query(
        dsn,
        "alter table acme.clicks rename to clicks_1; create table acme.clicks (like acme.clicks_1 including all) "
        "partition by list (advertiser_id); alter table acme.clicks attach partition acme.clicks_1 default; "
        "comment on table acme.clicks_1 is null",
    )
    target = sink(dsn).open(SOURCE, "r2")
    with pytest.raises(TargetError, match="adopt it"):
        target.prepare([CLICKS])
    target.close()
    adopted(dsn)
    delivered(dsn, [click(2)], run_id="r3")

    assert query(dsn, "select click_id from acme.clicks") == [("c2",)]


@pytest.mark.parametrize("rows", [2, 1500], ids=["small", "copied"])
def test_a_day_without_a_partition_of_the_table_fails(dsn: str, rows: int):
    """
    The rows of a day for which the user made no partition are not rejected: they fit as soon as there is one.
    """
    delivered(dsn, [click(1)])
    query(
        dsn,
        "alter table acme.clicks rename to old; create table acme.clicks (like acme.old including all) partition by "
        "range (report_date); comment on table acme.clicks is 'Written by penstock: acme.clicks'; create table "
        "acme.first partition of acme.clicks for values from ('2026-03-01') to ('2026-03-02')",
    )
    clicks = [click(number, report_date=date(2026, 3, 2)) for number in range(rows)]
    with pytest.raises(SinkError, match=r"no partition of relation .* Make a partition of the table"):
        delivered(dsn, clicks, run_id="r2", partition=a_day(2))
    assert query(dsn, "select run_id from penstock.partitions where rejected > 0") == []

    query(dsn, "create table acme.others partition of acme.clicks default")
    assert delivered(dsn, clicks, run_id="r3", partition=a_day(2)).rows == rows


def test_rows_of_a_partitioned_table_are_erased_each_in_its_place(dsn: str):
    """
    Rows of two partitions of the user's table are at the same places of their partitions: each keeps its own values.
    """
    for day in (1, 2):
        delivered(dsn, [a_click_of(day, 1, offer={"id": 7, "day": day})], partition=a_day(day))
    query(dsn, "alter table acme.clicks rename to old")
    query(dsn, "create table acme.clicks (like acme.old including all) partition by list (report_date)")
    for day in (1, 2):
        query(dsn, f"create table acme.clicks_{day} partition of acme.clicks for values in ('2026-03-0{day}')")
    query(dsn, "insert into acme.clicks select * from acme.old; drop table acme.old")
    query(dsn, "comment on table acme.clicks is 'Written by penstock: acme.clicks'")
    target = sink(dsn).open(SOURCE, "r2")
    assert target.erase(OF_CLICKS, []).rows == 2
    target.close()

    found = query(dsn, "select extract(day from report_date)::int, offer, url from acme.clicks order by 1")
    assert found == [(1, {"day": 1}, None), (2, {"day": 2}, None)]


def test_rows_are_erased_by_their_ids(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    However many batches of nested values change, the table is read a few times: each batch looks up its own rows.
    """
    delivered(dsn, [click(1)])
    columns = "advertiser_id, report_date, click_id, offer"
    values = "'2112', date '2026-03-01', 'x' || n, case when n % 400 = 0 then '{\"id\": 1}'::jsonb end"
    query(dsn, f"insert into acme.clicks ({columns}) select {values} from generate_series(1, 20000) n")
    query(dsn, "analyze acme.clicks")
    monkeypatch.setattr(Database, "rows_at_once", 5)
    target = sink(dsn).open(SOURCE, "r2")
    scans = "select seq_scan from pg_stat_user_tables where relid = 'acme.clicks'::regclass"
    target.database.run("select pg_stat_force_next_flush()")
    before = query(dsn, scans)[0][0]
    erased = target.erase(OF_CLICKS, [])
    target.database.run("select pg_stat_force_next_flush()")
    after = query(dsn, scans)[0][0]
    target.close()

    assert erased.rows == 51  # 11 batches
    assert 0 < after - before <= 3


@pytest.mark.parametrize(
    "done",
    [
        pytest.param("new.url = old.url; return new;", id="a column"),
        pytest.param("new.offer = old.offer; return new;", id="a nested value"),
        pytest.param("return null;", id="nothing passes"),
        pytest.param(None, id="a rule"),
    ],
)
def test_an_erasure_that_a_trigger_undoes_fails(dsn: str, done: str | None):
    """
    Nothing counts as erased that is still there: the erasure fails, and changes nothing.
    """
    delivered(dsn, [click(1)])
    if done is None:
        query(dsn, "create rule meddling as on update to acme.clicks do instead nothing")
    else:
        a_trigger(dsn, "acme.clicks", "trigger meddling before update on TABLE", done)
    target = sink(dsn).open(SOURCE, "r2")
    with pytest.raises(SinkError, match=r"a trigger or a rule .* Nothing of acme\.clicks was erased"):
        target.erase(OF_CLICKS, [])

    assert query(dsn, "select url, offer from acme.clicks") == [("https://jobs.example/1", {"id": 1})]
    query(dsn, f"drop {'rule' if done is None else 'trigger'} meddling on acme.clicks")
    query(dsn, "alter table acme.clicks add column times int default 0")
    if done is not None:  # one that alters a column of the user's is no obstacle
        query(dsn, "drop function meddle")
        a_trigger(
            dsn, "acme.clicks", "trigger meddling before update on TABLE", "new.times = old.times + 1; return new;"
        )
    assert target.erase(OF_CLICKS, []).rows == 1
    target.close()
    assert query(dsn, "select url, offer from acme.clicks") == [(None, None)]


def test_a_table_that_was_moved(dsn: str):
    """
    After the table and the setting were moved, the rows are found there.
    """
    delivered(dsn, [click(1)])
    query(dsn, "create schema raw; alter table acme.clicks set schema raw; alter table raw.clicks rename to all_clicks")
    delivered(dsn, [click(1), click(2)], run_id="r2", schema="raw", tables={"clicks": "all_clicks"})

    assert query(dsn, "select click_id, _run_id from raw.all_clicks order by 1") == [("c1", "r1"), ("c2", "r2")]
    assert query(dsn, "select schema_name, table_name from penstock.tables") == [("raw", "all_clicks")]
