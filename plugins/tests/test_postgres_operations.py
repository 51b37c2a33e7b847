"""
Postgres as it is run: dumps, other users' columns and triggers, locks, poolers, rights, tables of several sources.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from attrs import evolve
from penstock import (
    Adoption,
    Batch,
    Column,
    Layout,
    LedgerEntry,
    Partition,
    RunRecord,
    Secret,
    SinkError,
    StoppedError,
    TargetError,
    UsageError,
)
from penstock.testing.sinks import (
    ANSWERS,
    CLICKS,
    LEADS,
    OF_CLICKS,
    READ_AT,
    SOURCE,
    a_day,
    a_lead_day,
    an_entry,
    click,
    lead,
    rows_of,
)
from penstock_plugins.postgres import database, tables
from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.ledger import PostgresLedger
from penstock_plugins.postgres.query import rows_of as queried
from penstock_plugins.postgres.sink import PostgresSink, PostgresTarget
from postgres_server import binaries, server


@pytest.fixture
def dsn() -> Iterator[str]:
    with server().database() as dsn:
        yield dsn


def sink(dsn: str, **more: Any) -> PostgresSink:
    return PostgresSink(dsn=Secret(dsn), lock_wait_ms=300, **more)


def name_of(dsn: str) -> str:
    """The database's name."""
    return dsn.partition("?")[0].rpartition("/")[2]


def ask(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def deliver(
    target: PostgresTarget, rows: Sequence[Mapping[str, Any]], layout: Layout = CLICKS, **facts: Any
) -> LedgerEntry:
    partition = facts.pop("partition", a_lead_day(1) if layout.kind == "changes" else a_day())
    known = target.ledger.entry(target.source, partition)
    entry = evolve(an_entry(None, partition, rows=len(rows), **facts), source=target.source)
    entry = evolve(entry, version=known.version if known is not None else 0)
    writer = target.begin([evolve(layout, source=target.source)], partition)
    writer.write(Batch(layout=layout, rows=rows_of(layout, rows)))
    return writer.commit(entry)


def delivered(
    dsn: str,
    rows: Sequence[Mapping[str, Any]],
    layout: Layout = CLICKS,
    run_id: str = "r1",
    source: str = SOURCE,
    partition: Any = None,
    **settings: Any,
) -> LedgerEntry:
    """One run that delivers one partition."""
    target = sink(dsn, **settings).open(source, run_id)
    try:
        return deliver(target, rows, layout, run_id=run_id, **({"partition": partition} if partition else {}))
    finally:
        target.close()


# --- dump and restore -----------------------------------------------------------------------------------------------


def restored(dsn: str, *options: str) -> "Iterator[str]":
    """The database dumped and restored into another one, whose catalog numbers everything anew."""
    with server().database() as other:
        ask(other, "create table filler (a int primary key, b text unique, c text unique)")
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

        assert ask(other, "select click_id, _run_id from acme.clicks order by 1") == [("c1", "r1"), ("c3", "r2")]


def test_a_restored_table_that_is_moved_later_is_found(dsn: str):
    """
    The next run after the restore knows the table's new number, so that a move is noticed as in any other database.
    """
    delivered(dsn, [click(1)])
    with contextmanager(restored)(dsn) as other:
        sink(other).open(SOURCE, "r2").close()
        ask(other, "create schema mart; alter table acme.clicks set schema mart")

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

        assert (seen, (seen.rows, seen.delivered, seen.partitions)) == (done, (1, 1, 1))
        assert ask(other, "select count(*) from acme.clicks") == [(2,)]
        ask(other, "comment on table acme.clicks is 'ours'; update penstock.tables set relation = 1")
        ask(other, str(refused.value).partition("owner run: ")[2].partition(". Rename")[0])
        delivered(other, [click(1)], run_id="r4")


def test_a_table_whose_rows_differ_is_not_adopted(dsn: str):
    """
    The differences from the ledger are named, and nothing is changed.
    """
    delivered(dsn, [click(1), click(2)])
    ask(dsn, "comment on table acme.clicks is 'Our clicks'; delete from acme.clicks where click_id = 'c1'")
    ask(dsn, "update penstock.tables set relation = 1")
    found = adopted(dsn)
    assert [(one.partition, one.what) for one in found.differences] == [
        (a_day(), "clicks: 1 rows in acme.clicks, 2 were delivered")
    ]
    assert ask(dsn, "select obj_description('acme.clicks'::regclass)") == [("Our clicks",)]

    ask(dsn, "insert into acme.clicks select '2112', '2026-03-01', 'c1'")
    assert adopted(dsn).differences == ()
    comment = "Our clicks\n\nWritten by penstock: acme.clicks"
    assert ask(dsn, "select obj_description('acme.clicks'::regclass)") == [(comment,)]


def test_a_table_that_was_moved_without_its_comment_is_adopted(dsn: str):
    """
    After a dump without comments, and under another name: its readings count as before.
    """
    delivered(dsn, [click(1)])
    with contextmanager(restored)(dsn, "--no-comments") as other:
        ask(other, "create schema raw; alter table acme.clicks set schema raw")
        assert adopted(other, "raw.clicks", schema="raw").rows == 1
        delivered(other, [click(2, report_date=date(2026, 3, 2))], partition=a_day(2), schema="raw", run_id="r2")

        assert ask(other, "select run_id, rows from penstock.partitions order by 1") == [("r1", 1), ("r2", 1)]
        assert ask(other, "select schema_name from penstock.tables") == [("raw",)]


@pytest.mark.parametrize(
    ("done", "place", "said"),
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
def test_what_cannot_be_adopted_is_refused(dsn: str, done: str, place: str, said: str):
    """
    A table that is none, or that cannot hold the stream, or is another stream's.
    """
    delivered(dsn, [click(1)])
    ask(dsn, done)
    with pytest.raises(TargetError, match=said):
        adopted(dsn, place)


def test_a_number_that_names_another_table_is_not_believed(dsn: str):
    """
    What the catalog number of the ledger points to counts for nothing where the table is gone.
    """
    delivered(dsn, [click(1)])
    ask(dsn, "drop table acme.clicks; create table public.others (id int); insert into public.others values (1)")
    ask(dsn, "update penstock.tables set relation = 'public.others'::regclass")
    target = sink(dsn).open(SOURCE, "r2")

    assert target.ledger.entries(SOURCE, "clicks") == {}
    assert [text.partition(".")[0] for text in target.notices] == ["the table acme"]
    assert "is gone: what was delivered of acme.clicks is missing (partitions: 1, 2026-03-01" in target.notices[0]
    deliver(target, [click(1)], run_id="r2")
    target.close()
    assert ask(dsn, "select count(*) from acme.clicks") == [(1,)]


def test_a_table_that_the_user_made_partitioned(dsn: str):
    """
    A table of the same name that is divided into partitions is taken once it bears the mark.
    """
    delivered(dsn, [click(1)])
    ask(
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

    assert ask(dsn, "select click_id from acme.clicks") == [("c2",)]


@pytest.mark.parametrize("rows", [2, 1500], ids=["small", "copied"])
def test_a_day_without_a_partition_of_the_table_fails(dsn: str, rows: int):
    """
    The rows of a day for which the user made no partition are not set aside: they fit as soon as there is one.
    """
    delivered(dsn, [click(1)])
    ask(
        dsn,
        "alter table acme.clicks rename to old; create table acme.clicks (like acme.old including all) partition by "
        "range (report_date); comment on table acme.clicks is 'Written by penstock: acme.clicks'; create table "
        "acme.first partition of acme.clicks for values from ('2026-03-01') to ('2026-03-02')",
    )
    clicks = [click(number, report_date=date(2026, 3, 2)) for number in range(rows)]
    with pytest.raises(SinkError, match=r"no partition of relation .* Make a partition of the table"):
        delivered(dsn, clicks, run_id="r2", partition=a_day(2))
    assert ask(dsn, "select run_id from penstock.partitions where rejected > 0") == []

    ask(dsn, "create table acme.others partition of acme.clicks default")
    assert delivered(dsn, clicks, run_id="r3", partition=a_day(2)).rows == rows


def test_rows_of_a_partitioned_table_are_erased_each_in_its_place(dsn: str):
    """
    Rows of two partitions of the user's table are at the same places of their partitions: each keeps its own values.
    """
    for day in (1, 2):
        delivered(dsn, [a_click_of(day, 1, offer={"id": 7, "day": day})], partition=a_day(day))
    ask(dsn, "alter table acme.clicks rename to old")
    ask(dsn, "create table acme.clicks (like acme.old including all) partition by list (report_date)")
    for day in (1, 2):
        ask(dsn, f"create table acme.clicks_{day} partition of acme.clicks for values in ('2026-03-0{day}')")
    ask(dsn, "insert into acme.clicks select * from acme.old; drop table acme.old")
    ask(dsn, "comment on table acme.clicks is 'Written by penstock: acme.clicks'")
    target = sink(dsn).open(SOURCE, "r2")
    assert target.erase(OF_CLICKS, []).rows == 2
    target.close()

    found = ask(dsn, "select extract(day from report_date)::int, offer, url from acme.clicks order by 1")
    assert found == [(1, {"day": 1}, None), (2, {"day": 2}, None)]


@pytest.mark.parametrize(
    "done",
    [
        pytest.param("new.url = old.url; return new;", id="a column"),
        pytest.param("new.offer = old.offer; return new;", id="a nested value"),
        pytest.param("return null;", id="nothing passes"),
        pytest.param(None, id="a rule"),
    ],
)
def test_what_a_trigger_brings_back_is_not_erased(dsn: str, done: str | None):
    """
    Nothing counts as erased that is still there: the erasure fails, and changes nothing.
    """
    delivered(dsn, [click(1)])
    if done is None:
        ask(dsn, "create rule meddling as on update to acme.clicks do instead nothing")
    else:
        a_trigger(dsn, "acme.clicks", "trigger meddling before update on TABLE", done)
    target = sink(dsn).open(SOURCE, "r2")
    with pytest.raises(SinkError, match=r"a trigger or a rule .* Nothing of acme\.clicks was erased"):
        target.erase(OF_CLICKS, [])

    assert ask(dsn, "select url, offer from acme.clicks") == [("https://jobs.example/1", {"id": 1})]
    ask(dsn, f"drop {'rule' if done is None else 'trigger'} meddling on acme.clicks")
    ask(dsn, "alter table acme.clicks add column times int default 0")
    if done is not None:  # one that alters a column of the user's is no obstacle
        ask(dsn, "drop function meddle")
        a_trigger(
            dsn, "acme.clicks", "trigger meddling before update on TABLE", "new.times = old.times + 1; return new;"
        )
    assert target.erase(OF_CLICKS, []).rows == 1
    target.close()
    assert ask(dsn, "select url, offer from acme.clicks") == [(None, None)]


def test_a_table_that_was_moved(dsn: str):
    """
    After the table and the setting were moved, the rows are found there.
    """
    delivered(dsn, [click(1)])
    ask(dsn, "create schema raw; alter table acme.clicks set schema raw; alter table raw.clicks rename to all_clicks")
    delivered(dsn, [click(1), click(2)], run_id="r2", schema="raw", tables={"clicks": "all_clicks"})

    assert ask(dsn, "select click_id, _run_id from raw.all_clicks order by 1") == [("c1", "r1"), ("c2", "r2")]
    assert ask(dsn, "select schema_name, table_name from penstock.tables") == [("raw", "all_clicks")]


# --- only what changed ----------------------------------------------------------------------------------------------


def test_a_user_s_column_and_references_survive(dsn: str):
    """
    Unchanged rows are not touched: a column of the user's keeps its values, references hold, and so do the rows that
    are deleted with a row of ours; a changed row keeps them too.
    """
    delivered(dsn, [click(1), click(2), click(3)])
    ask(dsn, "alter table acme.clicks add column note text; update acme.clicks set note = 'seen ' || click_id")
    ask(
        dsn,
        "create table acme.notes (a text, d date, c text, foreign key (a, d, c) references acme.clicks "
        "(advertiser_id, report_date, click_id) on delete cascade); "
        "insert into acme.notes select advertiser_id, report_date, click_id from acme.clicks",
    )
    before = ask(dsn, "select click_id, _loaded_at, xmin::text from acme.clicks order by 1")
    again = delivered(dsn, [click(3), click(2), click(1)], run_id="r2")
    assert ask(dsn, "select click_id, _loaded_at, xmin::text from acme.clicks order by 1") == before
    changed = delivered(dsn, [click(1), click(2, url="other"), click(4)], run_id="r3")

    assert (again.changes, changed.changes) == (
        {"came": 0, "went": 0, "changed": 0},
        {"came": 1, "went": 1, "changed": 1},
    )
    assert ask(dsn, "select click_id, note, _run_id from acme.clicks order by 1") == [
        ("c1", "seen c1", "r1"),
        ("c2", "seen c2", "r3"),
        ("c4", None, "r3"),
    ]
    assert ask(dsn, "select c from acme.notes order by 1") == [("c1",), ("c2",)]
    after = dict(ask(dsn, "select click_id, _loaded_at from acme.clicks"))
    assert after["c1"] == before[0][1]
    assert after["c2"] > before[1][1]


def test_a_row_that_is_referenced_and_goes_fails_its_partition(dsn: str):
    """
    A foreign key without ``on delete`` forbids to delete it: the message has the ways out, and the day stays.
    """
    delivered(dsn, [click(1), click(2)])
    key = ", ".join(CLICKS.unique_columns)
    ask(dsn, f"create table invoiced as select {key} from acme.clicks")
    ask(dsn, f"alter table invoiced add foreign key ({key}) references acme.clicks")
    with pytest.raises(SinkError, match=r"withdrew rows that another table references.*on delete cascade or set null"):
        delivered(dsn, [click(1, url="new")], run_id="r2")

    assert ask(dsn, "select click_id, _run_id from acme.clicks order by 1") == [("c1", "r1"), ("c2", "r1")]


def test_a_unique_index_of_the_user_s(dsn: str):
    """
    A row that comes may have the value of one that goes: then rows are deleted before others are inserted.
    """
    delivered(dsn, [click(1), click(2)])
    ask(dsn, "create unique index on acme.clicks (job_id)")
    delivered(dsn, [click(2), click(7, job_id=1)], run_id="r2")

    assert ask(dsn, "select click_id, job_id from acme.clicks order by 1") == [("c2", 2), ("c7", 1)]


@pytest.mark.parametrize("key", [("click_id",), ()], ids=["key", "no key"])
@pytest.mark.parametrize(
    ("event", "again"),
    [
        pytest.param("insert", [1, 2, 3], id="insert"),
        pytest.param("delete", [1], id="delete"),
        pytest.param("update", [1, 20], id="update"),
    ],
)
def test_a_trigger_that_drops_rows_fails_the_partition(dsn: str, event: str, again: list[int], key: tuple[str, ...]):
    """
    What was stored is compared with what was sent: the partition fails, and all of it is as before.
    """
    layout = evolve(CLICKS, key=key)
    delivered(dsn, [click(1), click(2)], layout)
    ask(
        dsn,
        "create function drop_it() returns trigger language plpgsql as 'begin return null; end'; "
        f"create trigger dropping before {event} on acme.clicks for each row execute function drop_it()",
    )
    rows = [click(one) if one < 10 else click(one // 10, url="other") for one in again]
    if event == "update" and not key:
        return  # rows without a key are never updated
    with pytest.raises(SinkError, match=r"stored other rows.*a trigger or a rule"):
        delivered(dsn, rows, layout, run_id="r2")

    assert ask(dsn, "select click_id, _run_id from acme.clicks order by 1") == [("c1", "r1"), ("c2", "r1")]
    assert ask(dsn, "select version, run_id from penstock.partitions") == [(1, "r1")]


def test_a_trigger_that_drops_rows_of_a_first_delivery(dsn: str):
    """
    COPY says how many rows it stored, and an upsert how many it wrote: fewer than were sent fail the partition.
    """
    delivered(dsn, [click(1)])
    delivered(dsn, [lead(1)], LEADS)
    ask(dsn, "create function drop_it() returns trigger language plpgsql as 'begin return null; end'")
    for table in ("clicks", "leads"):
        ask(dsn, f"create trigger t before insert on acme.{table} for each row execute function drop_it()")

    with pytest.raises(SinkError, match="a trigger or a rule"):
        delivered(dsn, [click(5, report_date=date(2026, 3, 2))], run_id="r2", partition=a_day(2))
    with pytest.raises(SinkError, match="a trigger or a rule"):
        delivered(dsn, [lead(1), lead(2)], LEADS, run_id="r2", partition=a_lead_day(2))


def test_a_rule_that_does_nothing_fails_the_partition(dsn: str):
    """
    A rule in place of an update is noticed as well.
    """
    delivered(dsn, [click(1)])
    ask(dsn, "create rule r as on update to acme.clicks do instead nothing")
    with pytest.raises(TargetError, match="A rule on the table is in the way"):
        delivered(dsn, [click(1, url="other")], run_id="r2")
    assert ask(dsn, "select url from acme.clicks") == [("https://jobs.example/1",)]


def a_trigger(dsn: str, table: str, when: str, does: str) -> None:
    ask(dsn, f"create function meddle() returns trigger language plpgsql as $$ begin {does} end $$")
    each = "" if "for each" in when else "for each row"
    ask(dsn, f"create {when.replace('TABLE', table)} {each} execute function meddle()")


ALTERING = {
    "before": ("trigger meddling before insert or update on TABLE", "new.price = round(new.price, 1); return new;"),
    "after": (
        "trigger meddling after insert or update on TABLE",
        "update acme.clicks set url = null where click_id = new.click_id and url is not null; return null;",
    ),
    "after all": (
        "trigger meddling after insert or update on TABLE for each statement",
        "delete from acme.clicks where click_id = 'c2'; return null;",
    ),
    "in a replica": (
        "trigger meddling before insert or update on TABLE",
        "new.price = 0; return new;",
    ),
    "at the end": (
        "constraint trigger meddling after insert or update on TABLE deferrable initially deferred",
        "delete from acme.clicks where click_id = new.click_id; return null;",
    ),
}


@pytest.mark.parametrize("rows", [2, 501], ids=["small", "copied"])
@pytest.mark.parametrize(("when", "does"), ALTERING.values(), ids=ALTERING)
def test_a_trigger_that_alters_rows_fails_the_partition(dsn: str, when: str, does: str, rows: int):
    """
    What is stored is what was sent: a day that is new and one that is replaced fail, and nothing of them changes.
    """
    delivered(dsn, [click(1)])
    a_trigger(dsn, "acme.clicks", when, does)
    if (when, does) == ALTERING["in a replica"]:
        ask(dsn, "alter table acme.clicks enable replica trigger meddling")
        ask(dsn, f"alter database {name_of(dsn)} set session_replication_role = replica")
    target = sink(dsn).open(SOURCE, "r2")

    for day in (1, 2):
        with pytest.raises(SinkError, match="a trigger or a rule on the table alters what is sent"):
            deliver(
                target,
                [a_click_of(day, number, price=Decimal("0.25")) for number in range(2, 2 + rows)],
                partition=a_day(day),
                run_id="r2",
            )
    done = target.commit_group([a_writer(target, day, [a_click_of(day, 2, price=Decimal("0.25"))]) for day in (3, 4)])
    target.close()

    assert all(isinstance(one, SinkError) for one in done)
    assert ask(dsn, "select click_id, price from acme.clicks") == [("c1", Decimal("0.10"))]
    assert ask(dsn, "select rows from penstock.partitions where state = 'delivered'") == [(1,)]


def test_a_trigger_of_a_partition_of_the_table_alters_rows(dsn: str):
    """
    At any depth: the user's table is divided by days, and those by accounts.
    """
    delivered(dsn, [click(1)])
    ask(dsn, "alter table acme.clicks rename to old")
    ask(dsn, "create table acme.clicks (like acme.old including all) partition by list (report_date)")
    ask(dsn, "create table acme.days partition of acme.clicks default partition by list (advertiser_id)")
    ask(dsn, "create table acme.accounts partition of acme.days default")
    ask(dsn, "insert into acme.clicks select * from acme.old")
    ask(dsn, "comment on table acme.clicks is 'Written by penstock: acme.clicks'")
    a_trigger(dsn, "acme.accounts", *ALTERING["before"])

    with pytest.raises(SinkError, match="a trigger or a rule on the table alters what is sent"):
        delivered(dsn, [click(1), click(2, price=Decimal("0.25"))], run_id="r2")

    assert ask(dsn, "select click_id from acme.clicks") == [("c1",)]


def test_a_trigger_that_alters_merged_rows_fails_the_partition(dsn: str):
    """
    So do the rows of a stream that is merged by key.
    """
    delivered(dsn, [lead(1)], LEADS)
    a_trigger(dsn, "acme.leads", "trigger meddling before insert or update on TABLE", "new.status = 'x'; return new;")

    with pytest.raises(SinkError, match="a trigger or a rule on the table alters what is sent"):
        delivered(dsn, [lead(1, "won"), lead(2)], LEADS, run_id="r2")

    assert ask(dsn, "select count(*) from acme.leads where status = 'x'") == [(0,)]


@pytest.mark.parametrize("rows", [2, 501], ids=["small", "copied"])
def test_a_trigger_that_alters_nothing_is_no_obstacle(dsn: str, rows: int):
    """
    One that fills a column of the user's, or writes a log of its own, works on.
    """
    delivered(dsn, [click(1)])
    ask(dsn, "alter table acme.clicks add column cents numeric")
    a_trigger(
        dsn,
        "acme.clicks",
        "trigger meddling before insert or update on TABLE",
        "new.cents = new.price * 100; return new;",
    )
    for day in (1, 2):
        clicks = [a_click_of(day, number) for number in range(2, 2 + rows)]
        delivered(dsn, clicks, partition=a_day(day), run_id="r2")

    assert ask(dsn, "select count(*) from acme.clicks where cents = 10") == [(2 * rows,)]
    delivered(dsn, [lead(1)], LEADS)


@pytest.mark.parametrize(
    "done",
    [
        "alter table acme.clicks alter column price type numeric(12, 1)",
        "create function noop() returns trigger language plpgsql as 'begin return null; end'; "
        "create trigger noop after insert on acme.clicks for each row execute function noop()",
    ],
    ids=["type", "trigger"],
)
@pytest.mark.parametrize("rows", [2, 501], ids=["small", "copied"])
def test_a_table_that_is_changed_while_a_run_writes_fails_the_partition(dsn: str, done: str, rows: int):
    """
    The server would round the prices in silence: the partition is rolled back, and the next one finds the new type.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    writer, entry = a_writer(target, 2, [a_click_of(2, number, price=Decimal("0.25")) for number in range(rows)])
    ask(dsn, done)

    with pytest.raises(SinkError, match="was changed while the run wrote to it"):
        writer.commit(entry)

    assert ask(dsn, "select count(*) from acme.clicks") == [(1,)]
    if "numeric" in done:
        with pytest.raises(TargetError, match=r"has the type numeric\(12,1\)"):
            target.begin([CLICKS], a_day(3))
    else:
        deliver(target, [a_click_of(3, 1)], partition=a_day(3))
    target.close()


@pytest.mark.parametrize("state", ["40P01", "40001"], ids=["deadlock", "serialization"])
def test_a_transaction_that_the_server_ended_is_repeated(dsn: str, state: str):
    """
    A deadlock with somebody's transaction costs another try, not the partition.
    """
    delivered(dsn, [click(1)])
    ask(dsn, "create sequence tries")
    does = f"if nextval('tries') = 1 then raise exception 'again' using errcode = '{state}'; end if; return null;"
    a_trigger(dsn, "acme.clicks", "trigger meddling after insert on TABLE", does)

    delivered(dsn, [click(1), click(2)], run_id="r2")

    assert ask(dsn, "select count(*) from acme.clicks") == [(2,)]


@pytest.mark.parametrize("done", ["drop default", "set default 'other'"])
def test_a_shared_table_that_lost_the_default_of_the_source_is_refused(dsn: str, done: str):
    """
    Rows would become those of another source. The message has the statement that helps.
    """
    shared: dict[str, Any] = {"schema": "all_sources"}
    delivered(dsn, [click(1)], **shared)
    ask(dsn, f"alter table all_sources.clicks alter column _source {done}")

    with pytest.raises(TargetError, match="has lost its default") as caught:
        delivered(dsn, [click(2)], run_id="r2", **shared)

    (cure,) = re.findall(r"must run: (.*)\. Nothing was changed", str(caught.value))
    ask(dsn, cure)
    delivered(dsn, [click(2)], run_id="r3", **shared)
    assert ask(dsn, "select _source, click_id from all_sources.clicks") == [(SOURCE, "c2")]


def test_derived_rows_change_by_differences_too(dsn: str):
    """
    Rows that travel with a merged parent: those of the parents that came are brought up to date, unchanged ones stay.
    """
    child = Layout(
        source=SOURCE,
        stream="lead_data",
        kind="changes",
        columns=(
            Column(name="lead_id", type="integer", nullable=False),
            Column(name="name", type="text", nullable=False),
            Column(name="value", type="text"),
            Column(name="_extra", type="json"),
        ),
        key=("lead_id", "name"),
        derived_by=("lead_id",),
    )

    def row(lead_id: int, name: str, value: str) -> dict[str, Any]:
        return {"lead_id": lead_id, "name": name, "value": value, "_extra": None}

    def run(run_id: str, leads: list[dict[str, Any]], data: list[dict[str, Any]]) -> None:
        target = sink(dsn).open(SOURCE, run_id)
        writer = target.begin([LEADS, child], a_lead_day(1))
        writer.write(Batch(layout=LEADS, rows=rows_of(LEADS, leads)))
        writer.write(Batch(layout=child, rows=rows_of(child, data)))
        writer.commit(an_entry(target.ledger, a_lead_day(1), rows=len(leads)))
        target.close()

    run("r1", [lead(1), lead(2)], [row(1, "a", "1"), row(1, "b", "1"), row(2, "a", "1")])
    run("r2", [lead(1)], [row(1, "a", "1"), row(1, "c", "1")])

    assert ask(dsn, "select lead_id, name, _run_id from acme.lead_data order by 1, 2") == [
        (1, "a", "r1"),
        (1, "c", "r2"),
        (2, "a", "r1"),
    ]


def statements(monkeypatch: pytest.MonkeyPatch, database: Database) -> list[str]:
    """Every statement from now on."""
    found: list[str] = []
    run, copy, transaction = database.run, database.copy, database.transaction

    def counted_run(statement: str, values: Sequence[Any] = ()) -> Any:
        found.append(statement)
        return run(statement, values)

    def counted_copy(statement: str, blocks: Any) -> int:
        found.append(statement)
        return copy(statement, blocks)

    @contextmanager
    def counted_transaction() -> Iterator[None]:
        outer = not database.in_transaction
        if outer:
            found.append("begin")
        with transaction():
            yield
        if outer:
            found.append("commit")

    monkeypatch.setattr(database, "run", counted_run)
    monkeypatch.setattr(database, "copy", counted_copy)
    monkeypatch.setattr(database, "transaction", counted_transaction)
    return found


def a_click_of(day: int, number: int, **values: Any) -> dict[str, Any]:
    return click(number, report_date=date(2026, 3, day), **values)


def a_writer(target: PostgresTarget, day: int, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, LedgerEntry]:
    """A writer with the rows of a day, and the entry to commit."""
    known = target.ledger.entry(SOURCE, a_day(day))
    writer = target.begin([CLICKS], a_day(day))
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, rows)))
    return writer, evolve(an_entry(target.ledger, a_day(day), rows=len(rows)), replaces=known)


def test_a_small_partition_costs_six_statements(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    Delivered for the first time or restated; and there is no temporary table for it.
    """
    target = sink(dsn).open(SOURCE, "r1")
    deliver(target, [click(1)])
    first = a_writer(target, 2, [a_click_of(2, 1)])
    restated = a_writer(target, 1, [click(2), click(3)])
    found = statements(monkeypatch, target.database)
    first[0].commit(first[1])
    of_first, found[:] = list(found), []
    committed = restated[0].commit(restated[1])
    of_second = list(found)
    target.close()

    assert committed.changes == {"came": 2, "went": 1, "changed": 0}
    assert len(of_first) <= 6, of_first
    assert len(of_second) <= 6, of_second
    assert not any("temporary" in one or "drop" in one.split()[0] for one in (*of_first, *found))


def test_a_group_of_small_partitions_is_one_transaction(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    Three statements for each that is restated, two for each that is not, and for all one BEGIN, one look at the table's
    definition, and one COMMIT.
    """
    target = sink(dsn).open(SOURCE, "r1")
    for day in range(1, 11):
        deliver(target, [a_click_of(day, 1)], partition=a_day(day))
    commits = [a_writer(target, day, [a_click_of(day, day % 2)]) for day in range(1, 11)]
    found = statements(monkeypatch, target.database)
    done = target.commit_group(commits)
    found = list(found)
    target.close()

    assert [one.changes["came"] for one in done] == [0, 1] * 5  # type: ignore[union-attr,index]
    assert len(found) == 3 + 5 * 3 + 5 * 2, found
    assert (found[0], found[-1]) == ("begin", "commit")


def test_a_group_whose_session_is_lost_is_committed(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    The server ends the session within the transaction of a group: each partition is committed in a new session, once.
    """
    target = sink(dsn).open(SOURCE, "r1")
    commits = [a_writer(target, day, [a_click_of(day, 1)]) for day in (1, 2, 3)]
    write, pid = type(commits[1][0]).write_in_group, target.database.pid

    def write_and_lose(writer: Any, entry: LedgerEntry) -> LedgerEntry:
        found = write(writer, entry)
        if writer is commits[1][0]:
            ask(dsn, f"select pg_terminate_backend({pid}, 5000)")
        return found

    monkeypatch.setattr(type(commits[1][0]), "write_in_group", write_and_lose)
    done = target.commit_group(commits)
    target.close()

    assert [one.rows for one in done] == [1, 1, 1]  # type: ignore[union-attr]
    assert ask(dsn, "select count(*), count(distinct report_date) from acme.clicks") == [(3, 3)]
    assert ask(dsn, "select sum(version) from penstock.partitions") == [(3,)]


def test_a_group_whose_answer_is_lost_is_not_committed_twice(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    The session is lost after COMMIT and before its answer: the ledger shows that every partition was committed.
    """
    target = sink(dsn).open(SOURCE, "r1")
    commits = [a_writer(target, day, [a_click_of(day, 1)]) for day in (1, 2, 3)]
    transaction, pid = target.database.transaction, target.database.pid
    lost = []

    @contextmanager
    def transaction_and_lose() -> Iterator[None]:
        outer = not target.database.in_transaction
        with transaction():
            yield
        if outer and not lost:
            lost.append(ask(dsn, f"select pg_terminate_backend({pid}, 5000)"))
            target.database.run("select 1")

    monkeypatch.setattr(target.database, "transaction", transaction_and_lose)
    done = target.commit_group(commits)
    target.close()

    assert lost
    assert [one.rows for one in done] == [1, 1, 1]  # type: ignore[union-attr]
    assert ask(dsn, "select sum(version), sum(rows) from penstock.partitions") == [(3, 3)]


def test_the_catalog_does_not_grow_with_the_partitions(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    Small partitions need no temporary table; replaced large ones need one for all of them.
    """
    target = sink(dsn).open(SOURCE, "r1")
    for number in range(10):
        deliver(target, [click(number)])
    assert target._stages == 0
    monkeypatch.setattr("penstock_plugins.postgres.rows.SMALL_ROWS", -1)
    for number in range(100):
        deliver(target, [click(number)])
    assert target._stages == 1
    target.close()


# --- tables ---------------------------------------------------------------------------------------------------------


def test_the_day_has_an_index_and_autovacuum_keeps_up(dsn: str):
    """
    A day is read across accounts by its index, and dead rows are cleared at a fiftieth of the table; the index can be
    left out.
    """
    delivered(dsn, [click(1)])
    delivered(dsn, [click(1)], source="bare", day_index=False)
    index = "select count(*) from pg_indexes where tablename = 'clicks' and indexdef like '%(report_date)' and "

    assert ask(dsn, f"{index} schemaname = 'acme'") == [(1,)]
    assert ask(dsn, f"{index} schemaname = 'bare'") == [(0,)]
    (options,) = ask(dsn, "select reloptions from pg_class where oid = 'acme.clicks'::regclass")
    assert "autovacuum_vacuum_scale_factor=0.02" in options[0]


def test_a_table_of_an_earlier_version_gets_the_index_and_the_settings(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    A small one when it is first written to, while a reader holds it; a setting of the owner's is kept. Of a large one,
    the advice has the statement of the index.
    """
    delivered(dsn, [click(1)])
    ask(dsn, "drop index acme.clicks_report_date_idx; alter table acme.clicks reset (autovacuum_vacuum_scale_factor)")
    ask(dsn, "alter table acme.clicks set (autovacuum_analyze_scale_factor = 0.5)")
    monkeypatch.setattr(tables, "INDEXED_BY_A_RUN", 0)
    delivered(dsn, [click(1)], run_id="r2")
    seen = sink(dsn).open_readonly("")
    assert seen is not None
    advice = seen.advice()
    seen.close()

    options = ask(dsn, "select array_to_string(reloptions, ',') from pg_class where oid = 'acme.clicks'::regclass")
    assert "autovacuum_vacuum_scale_factor=0.02" in options[0][0]
    assert "autovacuum_analyze_scale_factor=0.5" in options[0][0]
    index = "select count(*) from pg_indexes where tablename = 'clicks' and indexdef like '%(report_date)'"
    assert ask(dsn, index) == [(0,)]
    assert [one.partition("run: ")[2] for one in advice] == [
        'create index concurrently on "acme"."clicks" ("report_date")'
    ]

    monkeypatch.undo()
    with psycopg.connect(dsn) as reader:
        reader.execute("select * from acme.clicks")
        delivered(dsn, [click(1)], run_id="r3")
    assert ask(dsn, index) == [(1,)]


def test_what_a_table_lacks_is_no_reason_to_wait(dsn: str):
    """
    Where another session holds the table, one short try is made for the index, and the partition is delivered.
    """
    delivered(dsn, [click(1)])
    ask(dsn, "drop index acme.clicks_report_date_idx")
    with psycopg.connect(dsn) as writer:
        writer.execute("insert into acme.clicks select '9', '2026-01-01', 'x'")
        began = time.monotonic()
        delivered(dsn, [click(1), click(2)], run_id="r2")
        waited = time.monotonic() - began
        writer.rollback()

    assert tables.TRY_MS / 1000 <= waited < 30
    assert ask(dsn, "select count(*) from acme.clicks") == [(2,)]


def test_everything_has_a_comment(dsn: str):
    """
    Each table and column that penstock makes says what it holds, the ledger's too; times of the ledger are timestamps.
    """
    delivered(dsn, [click(1)], schema="raw")
    bare = ask(
        dsn,
        "select c.relname, a.attname from pg_class c join pg_namespace n on n.oid = relnamespace "
        "join pg_attribute a on attrelid = c.oid and attnum > 0 and not attisdropped "
        "where nspname in ('raw', 'penstock') and relkind in ('r', 'v') and "
        "(col_description(c.oid, attnum) is null or obj_description(c.oid) is null)",
    )
    assert bare == []
    times = ask(
        dsn,
        "select distinct data_type from information_schema.columns where table_schema = 'penstock' "
        "and (column_name like '%_at' or column_name = 'open_until')",
    )
    assert times == [("timestamp with time zone",)]


def test_several_sources_share_a_table(dsn: str):
    """
    Each row names its source, which is part of the key: sources of the same keys neither see nor replace each other.
    """
    settings: dict[str, Any] = {"schema": "{connector}", "tables": {"*": "all_{stream}"}}
    layout = evolve(CLICKS, connector="talroo")
    for source in ("north", "south"):
        delivered(dsn, [click(1), click(2)], layout, source=source, **settings)
        delivered(dsn, [lead(1)], evolve(LEADS, connector="talroo"), source=source, **settings)
    entry = delivered(dsn, [click(2), click(3)], layout, run_id="r2", source="south", **settings)
    delivered(dsn, [lead(1, "sold")], evolve(LEADS, connector="talroo"), run_id="r2", source="north", **settings)

    assert entry.changes == {"came": 1, "went": 1, "changed": 0}
    assert ask(dsn, "select _source, click_id, _run_id from talroo.all_clicks order by 1, 2") == [
        *[("north", "c1", "r1"), ("north", "c2", "r1")],
        *[("south", "c2", "r1"), ("south", "c3", "r2")],
    ]
    assert ask(dsn, "select _source, status from talroo.all_leads order by 1") == [("north", "sold"), ("south", "new")]
    ask(dsn, "delete from talroo.all_clicks where _source = 'south'")
    south, north = (sink(dsn, **settings).open(source, "r3") for source in ("south", "north"))
    assert (len(south.ledger.entries("south", "clicks")), len(north.ledger.entries("north", "clicks"))) == (0, 1)
    south.close()
    north.close()


def test_sources_of_a_fresh_run_do_not_race(dsn: str):
    """
    Many sources that make the ledger, the schema and the tables at the same time all succeed.
    """
    failed: list[BaseException] = []
    start = threading.Barrier(6)

    def run(source: str) -> None:
        try:
            start.wait(30)
            delivered(dsn, [click(1)], source=source, schema="raw")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(f"source{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert ask(dsn, "select count(*), count(distinct _source) from raw.clicks") == [(6, 6)]


# --- rights ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def role(dsn: str) -> Iterator[str]:
    """A role that may do nothing yet; what it owns goes with it."""
    name = "role_" + name_of(dsn)
    ask(dsn, f"create role {name}")
    yield name
    ask(dsn, f"reassign owned by {name} to current_user; drop owned by {name}; drop role {name}")


def as_role(dsn: str, role: str) -> str:
    return f"{dsn}{'&' if '?' in dsn else '?'}options=-crole%3D{role}"


def test_schemas_of_the_dba_are_enough(dsn: str, role: str):
    """
    USAGE and CREATE on two schemas suffice, for the ledger's too, which can be named; readers get what is granted.
    """
    ask(dsn, f"create schema state; create schema raw; grant usage, create on schema state, raw to {role}")
    reader = f"{role}_reader"
    ask(dsn, f"create role {reader}")
    try:
        settings: dict[str, Any] = {"ledger_schema": "state", "schema": "raw", "grant_to": (reader,)}
        ask(dsn, f"grant usage on schema state, raw to {reader}")
        delivered(as_role(dsn, role), [click(1)], **settings)
        delivered(as_role(dsn, role), [click(2)], run_id="r2", **settings)

        assert ask(as_role(dsn, reader), "select click_id from raw.clicks") == [("c2",)]
        assert ask(as_role(dsn, reader), "select account, day::text, rows from state.days") == [
            ("2112", "2026-03-01", 1)
        ]
        assert ask(dsn, "select to_regnamespace('penstock')") == [(None,)]
    finally:
        ask(dsn, f"drop owned by {reader}; drop role {reader}")


def test_a_role_that_is_not_there_is_named(dsn: str):
    """
    ``grant_to`` with a wrong name is refused before anything is requested.
    """
    with pytest.raises(TargetError, match=r"grant_to: .* no role analyst9"):
        sink(dsn, grant_to=("analyst9",)).open(SOURCE, "r1")


def test_row_level_security_is_named(dsn: str, role: str):
    """
    A table whose rows may be hidden from us is refused by name, with the statements that help. That no row is seen is
    no reason to take its days for missing.
    """
    delivered(dsn, [click(1)])
    ask(dsn, f"grant usage on schema penstock, acme to {role}; grant all on all tables in schema penstock to {role}")
    ask(dsn, f"grant all on acme.clicks to {role}; alter table acme.clicks enable row level security")
    target = sink(as_role(dsn, role)).open(SOURCE, "r2")
    entry = target.ledger.entry(SOURCE, a_day())
    assert entry is not None
    refused = r'row-level security of the table "acme"\."clicks" holds.*alter role .* bypassrls'
    looks = (
        lambda: target.prepare([CLICKS]),
        lambda: target.is_intact(entry),
        lambda: list(target.verify("clicks", [])),
    )
    for look in looks:
        with pytest.raises(TargetError, match=refused):
            look()
    target.close()


def test_row_level_security_of_the_ledger_is_named(dsn: str, role: str):
    """
    A ledger that shows no row would take every day for missing: it is refused, also to look at.
    """
    delivered(dsn, [click(1)])
    ask(dsn, f"grant usage on schema penstock to {role}; grant all on all tables in schema penstock to {role}")
    ask(dsn, "alter table penstock.partitions enable row level security")
    theirs = sink(as_role(dsn, role))
    for look in (lambda: theirs.open(SOURCE, "r2"), lambda: theirs.open_readonly(SOURCE)):
        with pytest.raises(TargetError, match=r'security of the table "penstock"\."partitions" holds for'):
            look()


def test_a_server_that_is_set_read_only(dsn: str):
    """
    ``default_transaction_read_only`` is respected, and named before anything is requested; looking works.
    """
    delivered(dsn, [click(1)])
    name = name_of(dsn)
    ask(dsn, f"alter database {name} set default_transaction_read_only = on")
    with pytest.raises(TargetError, match=r"takes no writes: it is a standby, or default_transaction_read_only is set"):
        sink(dsn).open(SOURCE, "r2")
    seen = sink(dsn).open_readonly(SOURCE)
    assert seen is not None
    assert seen.ledger.entry(SOURCE, a_day()) is not None
    seen.close()


def test_settings_of_the_user_do_not_change_what_is_read(dsn: str):
    """
    Forms of dates, texts and transactions are those of the session, whatever role and database prefer.
    """
    name = name_of(dsn)
    for setting in (
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'iso_8601'",
        "timezone = 'Asia/Tokyo'",
        "standard_conforming_strings = off",
        "quote_all_identifiers = on",
        "default_transaction_isolation = 'serializable'",
        "search_path = ''",
        "idle_session_timeout = '50ms'",
    ):
        ask(dsn, f"alter database {name} set {setting}")
    first = delivered(dsn, [click(1), click(2)])
    delivered(dsn, [click(1), click(3)], run_id="r2")
    seen = sink(dsn).open_readonly(SOURCE)
    assert seen is not None
    entry = seen.ledger.entry(SOURCE, a_day())
    seen.close()

    assert entry is not None
    assert entry.read_at == first.read_at
    assert verified(dsn, "clicks") == []


def test_a_statement_timeout_is_named(dsn: str):
    """
    A server that cancels the statement of a commit: the setting and the statement that changes it are named.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    target.database.run("set statement_timeout = '200ms'")
    with psycopg.connect(dsn) as other:
        other.execute("update acme.clicks set url = 'mine'")
        with pytest.raises(SinkError, match=r"statement timeout.*must run: alter role .* set statement_timeout = 0"):
            deliver(target, [click(1, url="new")], run_id="r2")
    target.close()


def test_a_limit_of_idle_transactions_is_named(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    The server ends the session between two statements of a commit, also of the second one; nothing is written.
    """
    delivered(dsn, [click(1)])
    ask(dsn, f"alter database {name_of(dsn)} set idle_in_transaction_session_timeout = 50")
    target = sink(dsn).open(SOURCE, "r2")
    deliver_entry = PostgresLedger.deliver

    def slow(ledger: PostgresLedger, entry: LedgerEntry) -> None:
        time.sleep(1)
        deliver_entry(ledger, entry)

    monkeypatch.setattr(PostgresLedger, "deliver", slow)
    with pytest.raises(SinkError, match=r"alter role .* set idle_in_transaction_session_timeout = 0"):
        deliver(target, [click(1, url="new")], run_id="r2")
    target.close()
    assert ask(dsn, "select _run_id from acme.clicks") == [("r1",)]


@pytest.mark.parametrize(
    ("done", "opened", "cure"),
    [
        pytest.param(
            "revoke all on schema penstock from {role}",
            "read",
            'grant usage on schema "penstock" to "{role}"; grant select on all tables in schema "penstock" to "{role}"',
            id="the ledger's schema, to read",
        ),
        pytest.param(
            "revoke all on schema penstock from {role}",
            "write",
            'grant usage on schema "penstock" to "{role}"; grant select, insert, update, delete on all tables in '
            'schema "penstock" to "{role}"',
            id="the ledger's schema, to write",
        ),
        pytest.param(
            "revoke select on penstock.partitions from {role}",
            "read",
            'grant select on all tables in schema "penstock" to "{role}"',
            id="a table of the ledger",
        ),
        pytest.param(
            "revoke usage on schema acme from {role}",
            "verify",
            'grant usage on schema "acme" to "{role}"; grant select on "acme"."clicks" to "{role}"',
            id="the rows' schema, to verify",
        ),
        pytest.param(
            "revoke select on acme.clicks from {role}",
            "plan",
            'grant usage on schema "acme" to "{role}"; grant select on "acme"."clicks" to "{role}"',
            id="the rows, to plan",
        ),
    ],
)
def test_a_right_that_is_missing_is_named_with_its_statement(
    dsn: str, role: str, done: str, opened: str, cure: str
) -> None:
    """
    Whatever is done with a target of another owner: the message has the statement that helps, which then helps.
    """
    delivered(dsn, [click(1)], grant_to=(role,))
    mine = sink(as_role(dsn, role))

    def use() -> None:
        if opened == "write":
            mine.open(SOURCE, "r2").close()
            return
        seen = mine.open_readonly(SOURCE)
        assert seen is not None
        try:
            entries = list(seen.ledger.entries(SOURCE, "clicks").values())
            if opened == "verify":
                assert list(seen.verify("clicks", entries)) == []
            elif opened == "plan":
                assert seen.is_intact(entries[0])
        finally:
            seen.close()

    ask(dsn, done.format(role=role))
    cure = cure.format(role=role)
    with pytest.raises(TargetError, match=re.escape(f"must run: {cure}; or name another user")):
        use()
    ask(dsn, cure)
    use()


# --- NUL ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_bytes", [0, 2**25], ids=["staged", "direct"])
@pytest.mark.parametrize(("nul", "mark"), [("strip", ""), ("replace", "\ufffd")])
def test_a_nul_can_be_stripped_or_replaced(dsn: str, nul: Any, mark: str, memory_bytes: int):
    """
    In a text, in a nested value and in an unknown member; a record with one in its key is still set aside.
    """
    rows = [
        click(1, url="a\0b\0", offer={"x": "\0\0y", "z": "\\u0000"}, _extra={"\0n": 1}),
        click(2, click_id="c\0"),
        click(3),
    ]
    entry = delivered(dsn, rows, nul=nul, memory_bytes=memory_bytes)

    assert (entry.rows, entry.rejected) == (2, 1)
    assert ask(dsn, "select click_id, url, offer, _extra from acme.clicks where click_id = 'c1'") == [
        ("c1", f"a{mark}b{mark}", {"x": f"{mark}{mark}y", "z": "\\u0000"}, {f"{mark}n": 1})
    ]


# --- locks ----------------------------------------------------------------------------------------------------------


WIDER = evolve(CLICKS, columns=(*CLICKS.columns[:-1], Column(name="device", type="text"), CLICKS.columns[-1]))


@contextmanager
def reading(dsn: str) -> Iterator[None]:
    """A session that read the table and forgot to end its transaction."""
    with psycopg.connect(dsn) as other:
        other.execute("select count(*) from acme.clicks")
        yield


def test_an_idle_reader_refuses_a_change_once(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    A new column is tried for a bounded time, once a run; the other streams go on, and readers are let in between.
    """
    monkeypatch.setattr(tables, "TRIES", 2)
    monkeypatch.setattr(tables, "TRY_MS", 100)
    monkeypatch.setattr(tables, "BETWEEN_TRIES_S", 0.05)
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    with reading(dsn):
        target.prepare([WIDER, LEADS])
        for day in (1, 2):
            with pytest.raises(SinkError, match=r"others hold it \(session \d+ of .*idle in transaction"):
                target.begin([WIDER], a_day(day))
        deliver(target, [lead(1)], LEADS, run_id="r2")
    target.close()
    delivered(dsn, [click(1)], run_id="r3")
    target = sink(dsn).open(SOURCE, "r4")
    target.prepare([WIDER])
    target.close()
    assert ("device",) in ask(dsn, "select column_name from information_schema.columns where table_name = 'clicks'")


@pytest.mark.parametrize("step", ["change", "commit"])
def test_a_wait_is_interrupted(dsn: str, step: str):
    """
    When the run is to end, the statement that waits for a lock is cancelled, and raises the reason.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    stop = threading.Event()
    steps: dict[str, Callable[[], Any]] = {
        "change": lambda: target.begin([WIDER], a_day()),
        "commit": lambda: deliver(target, [click(1, url="new")], run_id="r2"),
    }

    def interrupt() -> None:
        while not stop.wait(0.3):
            target.interrupt(StoppedError("stopped"))

    with psycopg.connect(dsn) as other:
        other.execute("lock table acme.clicks in access exclusive mode" if step == "change" else "select")
        if step == "commit":
            other.execute("update acme.clicks set url = 'mine'")
        thread = threading.Thread(target=interrupt)
        thread.start()
        began = time.monotonic()
        try:
            with pytest.raises(StoppedError):
                steps[step]()
        finally:
            stop.set()
            thread.join()
        assert time.monotonic() - began < 40  # promised are 10; the lock would be waited for 60
    target.close()
    assert ask(dsn, "select _run_id from acme.clicks") == [("r1",)]


# --- servers that lose, or publish ----------------------------------------------------------------------------------


@contextmanager
def crashing() -> Iterator[str]:
    """A database of a server that writes commits to the disk late."""
    with server(wal_writer_delay="10s", autovacuum="off", bgwriter_delay="10s").database() as dsn:
        yield dsn


def crash(dsn: str) -> None:
    """End a process of the server so that all of it starts again, from what is on the disk."""
    with psycopg.connect(dsn, autocommit=True) as witness:
        # By a program of the server itself, as its user: this test need not be allowed to.
        with suppress(psycopg.OperationalError), psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("copy (select 1) to program 'kill -9 $PPID'")
        _wait_until(lambda: not _answers(witness))  # the server noticed
    _wait_until(lambda: _accepts(dsn))


def _answers(connection: "psycopg.Connection[Any]") -> bool:
    with suppress(psycopg.OperationalError):
        connection.execute("select 1")
        return True
    return False


def _accepts(dsn: str) -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(dsn).close()
        return True
    return False


def _wait_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_server_that_lost_commits_fails_the_run():
    """
    It crashed with ``synchronous_commit = off``: a partition that was reported as delivered is gone, with its row in
    the ledger. The partition under way fails, later ones are written, and the target is not closed in silence.
    """
    with crashing() as dsn:
        delivered(dsn, [a_click_of(1, 1)], partition=a_day(1))
        ask(dsn, "checkpoint")
        target = sink(dsn).open(SOURCE, "r2")
        deliver(target, [a_click_of(2, 1)], partition=a_day(2), run_id="r2")
        crash(dsn)

        with pytest.raises(SinkError, match=r"has lost what was committed last, at least acme clicks\[.*2026-03-02"):
            deliver(target, [a_click_of(3, 1)], partition=a_day(3), run_id="r2")
        deliver(target, [a_click_of(4, 1)], partition=a_day(4), run_id="r2")
        with pytest.raises(SinkError, match="has lost what was committed last"):
            target.close()

        days = "select extract(day from report_date)::int from acme.clicks order by 1"
        assert ask(dsn, days) == [(1,), (4,)]
        assert ask(dsn, "select day from penstock.days order by 1") == [("2026-03-01",), ("2026-03-04",)]


def test_a_run_that_ended_is_on_the_disk():
    """
    Whatever ``synchronous_commit`` is: deliveries are there after a crash once their target is closed, and the record
    of a run is written in a new session where the former one was lost.
    """
    with crashing() as dsn:
        delivered(dsn, [a_click_of(1, 1)], partition=a_day(1))
        crash(dsn)
        assert ask(dsn, "select click_id from acme.clicks") == [("c1",)]

        target = sink(dsn).open(SOURCE, "r2")
        deliver(target, [a_click_of(2, 1)], partition=a_day(2), run_id="r2")
        ask(dsn, "checkpoint")
        crash(dsn)
        target.ledger.record_run(RunRecord(run_id="r2", source=SOURCE, started_at=READ_AT))
        target.close()
        assert ask(dsn, "select run_id from penstock.runs") == [("r2",)]


def test_a_server_that_lost_commits_fails_the_end_of_the_run():
    """
    Also where the session is lost after the last delivery.
    """
    with crashing() as dsn:
        delivered(dsn, [a_click_of(1, 1)], partition=a_day(1))
        target = sink(dsn).open(SOURCE, "r2")
        deliver(target, [a_click_of(2, 1)], partition=a_day(2), run_id="r2")
        crash(dsn)
        with pytest.raises(SinkError, match="has lost what was committed last"):
            target.close()


def test_a_publication_of_all_tables_is_no_obstacle():
    """
    Rows without a key can be deleted and replaced, those of the ledger, too.
    """
    keyless = evolve(CLICKS, stream="hits", key=())
    partition = evolve(a_day(), stream="hits")
    with server(wal_level="logical").database() as dsn:
        ask(dsn, "create publication everything for all tables")
        for run_id, rows in (("r1", [click(1), click(1)]), ("r2", [click(1)])):
            delivered(dsn, rows, keyless, run_id, partition=partition)
            delivered(dsn, rows[:1], run_id=run_id)
        for name in ("reports", "restatements", "rejected", "runs"):
            ask(dsn, f"delete from penstock.{name}")

        assert ask(dsn, "select click_id, _run_id from acme.hits") == [("c1", "r2")]


# --- poolers --------------------------------------------------------------------------------------------------------

# Of this test's database: a session of another test may still be on its way out.
LOCKS = (
    "select count(*) from pg_locks where locktype = 'advisory' "
    "and database = (select oid from pg_database where datname = current_database())"
)


@contextmanager
def pooler(dsn: str, mode: str, **more: Any) -> Iterator[str]:
    """The database behind a real pgbouncer."""
    # Not pytest's directory: another user runs the program, and pytest closes its directory to others.
    directory = Path(tempfile.mkdtemp(prefix="bouncer"))
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        pytest.skip("no pgbouncer on this machine (Debian: apt-get install pgbouncer)")
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    host = (query.get("host") or [parts.hostname or "127.0.0.1"])[0]
    port = (query.get("port") or [str(parts.port or 5432)])[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = free.getsockname()[1]
    name = parts.path.lstrip("/")
    user = parts.username or (query.get("user") or ["postgres"])[0]
    password = f" password={parts.password}" if parts.password else ""
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": listen,
        "auth_type": "any",
        "pool_mode": mode,
        "unix_socket_dir": "",
        "logfile": directory / "log",
        "ignore_startup_parameters": "extra_float_digits",
        **more,
    }
    lines = [f"{key} = {value}" for key, value in settings.items()]
    database = f"{name} = host={host} port={port} dbname={name} user={user}{password}"
    (directory / "ini").write_text("\n".join(["[databases]", database, "[pgbouncer]", *lines, ""]))
    directory.chmod(0o777)
    account = ["-u", Path(host).owner() if Path(host).is_dir() else "nobody"] if os.getuid() == 0 else []
    process = subprocess.Popen(
        [program, *account, directory / "ini"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", listen), 1).close()
                break
            except OSError:
                assert time.monotonic() < until, (directory / "log").read_text()
                assert process.poll() is None, (directory / "log").read_text()
                time.sleep(0.05)
        yield f"postgresql://{user}@127.0.0.1:{listen}/{name}"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize(
    ("mode", "more"),
    [
        ("transaction", {}),
        ("transaction", {"server_round_robin": 1, "min_pool_size": 3}),
        ("transaction", {"default_pool_size": 1}),
        ("statement", {}),
    ],
    ids=["transaction", "round robin", "one connection", "statement"],
)
def test_a_pooler_of_transactions_is_refused(dsn: str, mode: str, more: dict[str, Any]):
    """
    It is found out when the target is opened, and named, whatever its pool looks like; no lock stays behind.
    """
    with pooler(dsn, mode, **more) as pooled:
        with pytest.raises(TargetError, match="pool_mode = transaction"):
            sink(pooled).open(SOURCE, "r1")
        assert ask(dsn, LOCKS) == [(0,)]


def test_a_pooler_of_transactions_hands_no_setting_on(dsn: str):
    """
    Looking at a target and a query through it work, a run is refused; the sessions that others get are as they were.
    """
    delivered(dsn, [click(1)])
    for setting in ("datestyle = 'SQL, DMY'", "timezone = 'Asia/Tokyo'"):
        ask(dsn, f"alter database {name_of(dsn)} set {setting}")
    names = ("default_transaction_read_only", "lock_timeout", "idle_session_timeout", "enable_nestloop", "jit")
    settings = "select " + ", ".join(f"current_setting('{name}')" for name in names)
    with pooler(dsn, "transaction", default_pool_size=1) as pooled:
        before = ask(pooled, settings)
        seen = sink(pooled).open_readonly(SOURCE)
        assert seen is not None
        entry = seen.ledger.entry(SOURCE, a_day())
        assert entry is not None
        assert entry.read_at == READ_AT
        seen.close()
        query = "select seen_at from acme.clicks"
        assert [row["seen_at"] for row in queried(Secret(pooled), query)] == [click(1)["seen_at"]]
        with pytest.raises(UsageError, match="one select"):
            list(queried(Secret(pooled), "insert into acme.clicks (click_id) values ('x') returning 1"))
        with pytest.raises(TargetError, match="pool_mode = transaction"):
            sink(pooled).open(SOURCE, "r2")

        assert ask(pooled, settings) == before
        ask(pooled, "create table mine (a int)")


def test_a_pooler_of_sessions_is_used(dsn: str):
    """
    It gives a client one session until it leaves: lock and commits work.
    """
    with pooler(dsn, "session") as pooled:
        delivered(pooled, [click(1)])
        delivered(pooled, [click(2)], run_id="r2")

    assert ask(dsn, "select click_id from acme.clicks") == [("c2",)]


KILLED = """
import os, sys
from penstock import Secret
from penstock_plugins.postgres.sink import PostgresSink
target = PostgresSink(dsn=Secret(sys.argv[1])).open("acme", "r2")
target.database.run("create temporary table penstock_stage_1 (a int)")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("more", [{}, {"default_pool_size": 1}], ids=["", "one session"])
def test_a_pooler_that_resets_nothing_is_used(dsn: str, more: dict[str, Any]):
    """
    What a run leaves in its session reaches neither the next run nor other clients, and what a killed one left in it
    is cleared: locks, temporary tables, settings.
    """
    settings = "select current_setting('default_transaction_read_only'), current_setting('enable_nestloop')"
    many = [click(number) for number in range(501)]
    with pooler(dsn, "session", server_reset_query="", **more) as pooled:
        delivered(pooled, [*many, click(501)])
        delivered(pooled, many, run_id="r2")
        subprocess.run([sys.executable, "-c", KILLED, pooled])
        delivered(pooled, [click(1)], run_id="r3")
        seen = sink(pooled).open_readonly(SOURCE)
        assert seen is not None
        seen.close()

        assert ask(pooled, settings) == [("off", "on")]
        assert ask(dsn, LOCKS) == [(0,)]
    assert ask(dsn, "select click_id from acme.clicks") == [("c1",)]


def test_a_table_that_stays_locked_is_waited_for_once(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    After a commit that waited in vain, a partition fails before it is fetched, while the lock is there.
    """
    monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 1)
    monkeypatch.setattr(tables, "TRY_MS", 100)
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    held = "other sessions hold a lock .session .* idle in transaction., and the commit waited 1s for it"
    with psycopg.connect(dsn) as other:
        other.execute("create index on acme.clicks (url)")
        for day in (1, 2):
            with pytest.raises(SinkError, match=held):
                deliver(target, [click(2)], run_id="r2", partition=a_day(day))
        with pytest.raises(SinkError, match=held):
            target.begin([CLICKS], a_day(3))
        monkeypatch.setattr(tables, "HELD_S", 0)
        target.tables._held.update({name: (error, 0.0) for name, (error, _) in target.tables._held.items()})
        other.rollback()
        deliver(target, [click(2)], run_id="r2")
    target.close()

    assert ask(dsn, "select click_id from acme.clicks") == [("c2",)]


def test_a_row_that_stays_locked_keeps_its_partition_only(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    Rows of other partitions can be written meanwhile.
    """
    monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 1)
    monkeypatch.setattr(tables, "TRY_MS", 100)
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    with psycopg.connect(dsn) as other:
        other.execute("update acme.clicks set url = 'mine'")
        with pytest.raises(SinkError, match="other sessions hold a lock"):
            deliver(target, [click(1, url="new")], run_id="r2")
        deliver(target, [click(2, report_date=date(2026, 3, 2))], run_id="r2", partition=a_day(2))
        other.rollback()
    target.close()

    assert ask(dsn, "select count(*) from acme.clicks") == [(2,)]


def test_what_cannot_be_looked_at_is_not_missing(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    A table that another session has locked is opened without a long wait, and nothing of it counts as lost.
    """
    monkeypatch.setattr(tables, "TRY_MS", 100)
    delivered(dsn, [click(1)])
    with psycopg.connect(dsn) as other:
        other.execute("lock table acme.clicks in access exclusive mode")
        target = sink(dsn).open(SOURCE, "r2")
        target.prepare([CLICKS])
        entry = target.ledger.entry(SOURCE, a_day())
        assert entry is not None
        assert target.is_intact(entry)
        target.close()
        other.rollback()


def test_verify_waits_for_a_locked_table_for_moments_only(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    It names the session that holds the table, and compares it when it is free.
    """
    monkeypatch.setattr(tables, "TRY_MS", 50)
    monkeypatch.setattr("penstock_plugins.postgres.sink.VERIFY_PAUSE_S", 0.01)
    delivered(dsn, [click(1)])
    with psycopg.connect(dsn) as other:
        other.execute("lock table acme.clicks in access exclusive mode")

        seen = sink(dsn).open_readonly(SOURCE)
        assert seen is not None
        with pytest.raises(SinkError, match=rf"acme.clicks was not compared.*session {other.info.backend_pid} of"):
            list(seen.verify("clicks", list(seen.ledger.entries(SOURCE, "clicks").values())))
        seen.close()

    assert verified(dsn, "clicks") == []


def test_every_commit_looks_whether_its_session_holds_the_lock(dsn: str):
    """
    A lock that was taken away, by a pooler that was not found out or by hand, fails the commit, and nothing is written.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    target.database.run("select pg_advisory_unlock_all()")
    for rows, partition in (([click(2)], a_day()), ([click(3, report_date=date(2026, 3, 2))], a_day(2))):
        with pytest.raises(TargetError, match="gives each transaction another session"):
            deliver(target, rows, run_id="r2", partition=partition)
    target.close()

    assert ask(dsn, "select click_id from acme.clicks") == [("c1",)]


# --- verify ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "output"),
    [
        pytest.param("delete from acme.clicks where click_id = 'c1'", "clicks: 1 rows in acme.clicks, 2", id="a row"),
        pytest.param("delete from acme.clicks where report_date = '2026-03-01'", "clicks: 0 rows", id="a day"),
        pytest.param("update acme.clicks set price = 7 where click_id = 'c1'", "sum of price is 7.10", id="a price"),
        pytest.param("insert into acme.clicks select '2112', '2026-03-01', 'x'", "clicks: 3 rows", id="one more"),
        pytest.param("drop table acme.clicks", "the table acme.clicks is gone", id="the table"),
        pytest.param("select 1", None, id="nothing"),
    ],
)
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_what_the_table_holds_is_compared_with_the_ledger(dsn: str, done: str, output: str | None, shared: bool):
    """
    Rows and sums of each partition; a day that is as it was delivered is not named, nor is another source.
    """
    settings: dict[str, Any] = {"schema": "acme"} if shared else {}
    target = sink(dsn, **settings).open(SOURCE, "r1")
    deliver(target, [click(1), click(2)], sums={"price": Decimal("0.20")})
    deliver(target, [click(3, report_date=date(2026, 3, 2))], partition=a_day(2), sums={"price": Decimal("0.10")})
    target.close()
    if shared:
        delivered(dsn, [click(1), click(2)], source="other", **settings)
        mine = done.replace(" where", f" where _source = '{SOURCE}' and")
        ask(dsn, f"set penstock.source = '{SOURCE}'; {mine}")
    else:
        ask(dsn, done)
    seen = sink(dsn, **settings).open_readonly(SOURCE)
    assert seen is not None
    found = list(seen.verify("clicks", list(seen.ledger.entries(SOURCE, "clicks").values())))
    seen.close()

    if output is None:
        assert found == []
    else:
        assert output in found[0].what
        assert found[0].partition == a_day(1)
        assert len(found) == (2 if "drop" in done else 1)


def test_rows_of_no_delivery_are_named(dsn: str):
    """
    Of a day or an account that the ledger does not count; also where the column of the day was widened.
    """
    delivered(dsn, [click(1)])
    ask(dsn, "alter table acme.clicks alter report_date type timestamp")
    assert verified(dsn, "clicks") == []

    ask(
        dsn,
        "insert into acme.clicks select '2112', '2026-03-02', 'x'; insert into acme.clicks select '', '-infinity', 'x'",
    )
    seen = sink(dsn).open_readonly(SOURCE)
    assert seen is not None
    found = list(seen.verify("clicks", list(seen.ledger.entries(SOURCE, "clicks").values())))
    seen.close()
    assert {(one.what, one.uncounted) for one in found} == {("clicks: 1 rows in acme.clicks", True)}
    odd = Partition("clicks", (("advertiser_id", ""), ("report_date", "-infinity")))
    assert {one.partition for one in found} == {a_day(2), odd}


def test_verify_of_some_days_reads_their_rows_only(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    By the index on the day, also where the column of the day was widened; what lies outside of the window is not read.
    """
    for day in (1, 2):
        delivered(dsn, [a_click_of(day, 1)], run_id=f"r{day}", partition=a_day(day))
    # They are of no delivery, and of other days.
    ask(
        dsn,
        "insert into acme.clicks select '2112', '2030-01-01'::date + n / 9, 'x' || n from generate_series(1, 20000) n; "
        "insert into acme.clicks select '2112', '2026-03-02', 'theirs'; analyze acme.clicks",
    )
    pages = ask(dsn, "select relpages from pg_class where oid = 'acme.clicks'::regclass")[0][0]
    for type_ in ("date", "timestamp"):
        ask(dsn, f"alter table acme.clicks alter report_date type {type_}")
        seen = sink(dsn).open_readonly(SOURCE)
        assert seen is not None
        entries = list(seen.ledger.entries(SOURCE, "clicks", since=date(2026, 3, 2)).values())
        sent = with_values(monkeypatch, seen.database)
        found = list(seen.verify("clicks", entries, since=date(2026, 3, 2), until=date(2026, 3, 2)))
        statement, values = next(one for one in sent if "count(*)" in one[0])
        ((explained,),) = seen.database.run(f"explain (analyze, buffers, format json) {statement}", values).fetchall()
        seen.close()

        assert [one.what for one in found] == ["clicks: 2 rows in acme.clicks, 1 were delivered"]
        plan = explained[0]["Plan"]
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 10 < pages, explained


def with_values(monkeypatch: pytest.MonkeyPatch, database: Database) -> list[tuple[str, Sequence[Any]]]:
    """Every statement from now on, with its parameters."""
    found: list[tuple[str, Sequence[Any]]] = []
    run = database.run
    monkeypatch.setattr(database, "run", lambda text, values=(): found.append((text, values)) or run(text, values))
    return found


def verified(dsn: str, stream: str, **settings: Any) -> list[str]:
    seen = sink(dsn, **settings).open_readonly(SOURCE)
    assert seen is not None
    found = list(seen.verify(stream, list(seen.ledger.entries(SOURCE, stream).values())))
    seen.close()
    return [one.what for one in found]


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("rows_of_json", [500, -1], ids=["small", "copied"])
def test_rows_of_a_merged_stream_are_counted(
    dsn: str, monkeypatch: pytest.MonkeyPatch, shared: bool, rows_of_json: int
):
    """
    The commits count the rows that they leave, derived ones too; a row that somebody deletes or adds is noticed, and
    reading all days again makes the counts agree.
    """
    monkeypatch.setattr("penstock_plugins.postgres.rows.SMALL_ROWS", rows_of_json)
    settings: dict[str, Any] = {"schema": "acme"} if shared else {}

    def run(run_id: str) -> None:
        target = sink(dsn, **settings).open(SOURCE, run_id)
        days = {1: [lead(1), lead(2)], 2: [lead(2, "sold"), lead(3)], 3: [lead(3)]}
        for day, leads in days.items():
            answers = [{"lead_id": one["lead_id"], "name": name, "value": str(day)} for one in leads for name in "ab"]
            a_merge(target, a_lead_day(day), leads, answers[day - 1 :])
        target.close()

    run("r1")
    if shared:
        delivered(dsn, [lead(1)], LEADS, source="other", **settings)
    assert ask(dsn, f"select stream, rows from penstock.tables where source = '{SOURCE}' order by 1") == [
        ("lead_data", 3),
        ("leads", 3),
    ]
    assert verified(dsn, "leads", **settings) == []
    mine = f" and _source = '{SOURCE}'" if shared else ""
    ask(dsn, f"delete from acme.leads where lead_id = 1{mine}")
    assert verified(dsn, "leads", **settings) == ["leads: 2 rows in acme.leads, 3 were left there by its commits"] * 3

    target = sink(dsn, **settings).open(SOURCE, "r2")
    target.ledger.forget(SOURCE, list(target.ledger.entries(SOURCE, "leads")))
    target.close()
    run("r3")
    assert verified(dsn, "leads", **settings) == []
    ask(dsn, f"delete from acme.lead_data where name = 'a' and lead_id = 1{mine}")
    assert verified(dsn, "leads", **settings)[0].startswith("lead_data: ")


def test_a_merged_stream_of_an_earlier_version_is_counted_once(dsn: str):
    """
    Its rows were not counted: they are, by the next run; an emptied table is counted anew.
    """
    delivered(dsn, [lead(1), lead(2)], LEADS)
    ask(
        dsn,
        "alter table penstock.tables drop column rows; update penstock.meta set value = '3' where name = 'postgres'",
    )
    assert verified(dsn, "leads") == []
    delivered(dsn, [lead(2, "sold"), lead(3)], LEADS, run_id="r2", partition=a_lead_day(2))
    assert ask(dsn, "select rows from penstock.tables") == [(3,)]
    ask(dsn, "truncate acme.leads")
    delivered(dsn, [lead(3)], LEADS, run_id="r3", partition=a_lead_day(3))
    assert ask(dsn, "select rows from penstock.tables") == [(1,)]


def a_merge(
    target: PostgresTarget, partition: Any, leads: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]
) -> None:
    """One day of leads with their answers."""
    layouts = [evolve(layout, source=target.source) for layout in (LEADS, ANSWERS)]
    writer = target.begin(layouts, partition)
    for layout, rows in zip((LEADS, ANSWERS), (leads, answers), strict=True):
        writer.write(Batch(layout=layout, rows=rows_of(layout, rows)))
    entry = an_entry(target.ledger, partition, rows=len(leads), derived_rows={"lead_data": len(answers)})
    writer.commit(evolve(entry, source=target.source))


def test_a_row_that_moved_to_another_day_is_no_difference(dsn: str) -> None:
    """
    Rows of changes carry the day of their last change: a lead that is read again under a later day leaves its former
    day with fewer rows than were delivered.
    """
    dated = evolve(LEADS, columns=(*LEADS.columns[:-1], Column(name="day", type="date"), LEADS.columns[-1]))
    target = sink(dsn).open(SOURCE, "r1")
    for day, numbers in ((1, (1, 2)), (2, (2, 3))):
        partition = Partition("leads", (("day", f"2026-03-{day:02d}"),))
        writer = target.begin([dated], partition)
        leads = [{**lead(number), "day": date(2026, 3, day)} for number in numbers]
        writer.write(Batch(layout=dated, rows=rows_of(dated, leads)))
        writer.commit(an_entry(target.ledger, partition, rows=2))
    target.close()
    seen = sink(dsn).open_readonly(SOURCE)
    assert seen is not None
    entries = list(seen.ledger.entries(SOURCE, "leads").values())
    found = list(seen.verify("leads", entries))
    seen.close()
    ask(dsn, "delete from acme.leads")
    seen = sink(dsn).open_readonly(SOURCE)
    assert seen is not None
    emptied = list(seen.verify("leads", entries))
    seen.close()

    assert found == []
    assert [one.what for one in emptied] == ["leads: 0 rows in acme.leads, 3 were left there by its commits"] * 2
