"""
The tables that a sink makes: index, storage settings, comments, shared tables, NUL in texts.
"""

import threading
from typing import Any

import psycopg
import pytest
from attrs import evolve
from penstock import TargetError
from penstock.testing.sinks import CLICKS, LEADS, SOURCE, click, lead
from penstock_plugins.postgres import table_creation
from postgres_runs import delivered, query, sink
from postgres_statements import PostgresStatements

pytestmark = pytest.mark.slow


def test_the_day_has_an_index_and_autovacuum_keeps_up(dsn: str):
    """
    A day is read across accounts by its index, and dead rows are cleared at a fiftieth of the table; the index can be
    left out.
    """
    delivered(dsn, [click(1)])
    delivered(dsn, [click(1)], source="bare", day_index=False)
    index = "select count(*) from pg_indexes where tablename = 'clicks' and indexdef like '%(report_date)' and "

    assert query(dsn, f"{index} schemaname = 'acme'") == [(1,)]
    assert query(dsn, f"{index} schemaname = 'bare'") == [(0,)]
    (options,) = query(dsn, "select reloptions from pg_class where oid = 'acme.clicks'::regclass")
    assert "autovacuum_vacuum_scale_factor=0.02" in options[0]


def test_a_table_of_an_earlier_version_gets_the_index_and_the_settings(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    A small one when it is first written to, while a reader holds it; a setting of the owner's is kept. Of a large one,
    the advice has the statement of the index.
    """
    delivered(dsn, [click(1)])
    query(dsn, "drop index acme.clicks_report_date_idx; alter table acme.clicks reset (autovacuum_vacuum_scale_factor)")
    query(dsn, "alter table acme.clicks set (autovacuum_analyze_scale_factor = 0.5)")
    monkeypatch.setattr(table_creation, "INDEXED_BY_A_RUN", 0)
    delivered(dsn, [click(1)], run_id="r2")
    seen = sink(dsn).open_readonly("")
    assert seen is not None
    advice = seen.advice()
    seen.close()

    options = query(dsn, "select array_to_string(reloptions, ',') from pg_class where oid = 'acme.clicks'::regclass")
    assert "autovacuum_vacuum_scale_factor=0.02" in options[0][0]
    assert "autovacuum_analyze_scale_factor=0.5" in options[0][0]
    index = "select count(*) from pg_indexes where tablename = 'clicks' and indexdef like '%(report_date)'"
    assert query(dsn, index) == [(0,)]
    assert [one.partition("run: ")[2] for one in advice] == [
        'create index concurrently on "acme"."clicks" ("report_date")'
    ]

    monkeypatch.undo()
    with psycopg.connect(dsn) as reader:
        reader.execute("select * from acme.clicks")
        delivered(dsn, [click(1)], run_id="r3")
    assert query(dsn, index) == [(1,)]


def test_a_missing_index_is_no_reason_to_wait(dsn: str, postgres_statements: PostgresStatements):
    """
    Where another session holds the table, one short try is made for the index, and the partition is delivered.
    """
    delivered(dsn, [click(1)])
    query(dsn, "drop index acme.clicks_report_date_idx")
    with psycopg.connect(dsn) as writer:
        writer.execute("insert into acme.clicks select '9', '2026-01-01', 'x'")
        postgres_statements.clear()
        delivered(dsn, [click(1), click(2)], run_id="r2")
        writer.rollback()

    assert len([text for text in postgres_statements.texts if text.startswith("create index")]) == 1
    assert query(dsn, "select count(*) from acme.clicks") == [(2,)]


@pytest.mark.parametrize(("kind", "columns"), [("report", ("report_date",)), ("snapshot", ("advertiser_id",))])
def test_a_stream_that_is_divided_otherwise_is_refused_until_its_table_is_renamed(
    dsn: str, kind: Any, columns: tuple[str, ...]
):
    """
    The ledger would count its rows twice, and the former declaration would double them. A table made anew is filled.
    """
    layout = evolve(CLICKS, kind=kind, partition_columns=columns)
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    with pytest.raises(TargetError, match="were divided by advertiser_id and report_date, and are divided by"):
        target.prepare([layout])
    target.close()
    query(dsn, "alter table acme.clicks rename to former; comment on table acme.former is null")

    target = sink(dsn).open(SOURCE, "r3")
    target.prepare([layout])
    target.close()


def test_everything_has_a_comment(dsn: str):
    """
    Each table and column that penstock makes has a comment, the ledger's too; times of the ledger are timestamps.
    """
    delivered(dsn, [click(1)], schema="raw")
    bare = query(
        dsn,
        "select c.relname, a.attname from pg_class c join pg_namespace n on n.oid = relnamespace "
        "join pg_attribute a on attrelid = c.oid and attnum > 0 and not attisdropped "
        "where nspname in ('raw', 'penstock') and relkind in ('r', 'v') and "
        "(col_description(c.oid, attnum) is null or obj_description(c.oid) is null)",
    )
    assert bare == []
    times = query(
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
    assert query(dsn, "select _source, click_id, _run_id from talroo.all_clicks order by 1, 2") == [
        *[("north", "c1", "r1"), ("north", "c2", "r1")],
        *[("south", "c2", "r1"), ("south", "c3", "r2")],
    ]
    assert query(dsn, "select _source, status from talroo.all_leads order by 1") == [
        ("north", "sold"),
        ("south", "new"),
    ]
    query(dsn, "delete from talroo.all_clicks where _source = 'south'")
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
    assert query(dsn, "select count(*), count(distinct _source) from raw.clicks") == [(6, 6)]


@pytest.mark.parametrize("memory_bytes", [0, 2**25], ids=["staged", "direct"])
@pytest.mark.parametrize(("nul", "mark"), [("strip", ""), ("replace", "\ufffd")])
def test_a_nul_can_be_stripped_or_replaced(dsn: str, nul: Any, mark: str, memory_bytes: int):
    """
    A NUL can be stripped or replaced in a text, in a nested value and in an unknown member; a record with one in its
    key is still rejected.
    """
    rows = [
        click(1, url="a\0b\0", offer={"x": "\0\0y", "z": "\\u0000"}, _extra={"\0n": 1}),
        click(2, click_id="c\0"),
        click(3),
    ]
    entry = delivered(dsn, rows, nul=nul, memory_bytes=memory_bytes)

    assert (entry.rows, entry.rejected) == (2, 1)
    assert query(dsn, "select click_id, url, offer, _extra from acme.clicks where click_id = 'c1'") == [
        ("c1", f"a{mark}b{mark}", {"x": f"{mark}{mark}y", "z": "\\u0000"}, {f"{mark}n": 1})
    ]
