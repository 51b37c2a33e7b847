"""
A delivery changes the rows that differ: other users' columns, references and triggers; the number of statements.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from attrs import evolve
from penstock import Batch, Column, Layout, LedgerEntry, PenstockError, SinkError, TargetError
from penstock.testing.sinks import (
    ANSWERS,
    CLICKS,
    LEADS,
    SOURCE,
    a_day,
    a_lead_day,
    an_entry,
    answer,
    click,
    lead,
    rows_of,
)
from penstock_plugins.postgres.target import PostgresTarget
from postgres_runs import LostAnswer, a_click_of, a_session_end, a_trigger, deliver, delivered, name_of, query, sink
from postgres_statements import PostgresStatements

pytestmark = pytest.mark.slow


def a_writer(target: PostgresTarget, day: int, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, LedgerEntry]:
    """A writer with the rows of a day, and the entry to commit."""
    known = target.ledger.entry(SOURCE, a_day(day))
    writer = target.begin([CLICKS], a_day(day))
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, rows)))
    return writer, evolve(an_entry(target.ledger, a_day(day), rows=len(rows)), replaces=known)


def test_a_user_s_column_and_references_survive(dsn: str):
    """
    Unchanged rows are not touched: a column of the user's keeps its values, references hold, and so do the rows that
    are deleted with a row of ours; a changed row keeps them too.
    """
    delivered(dsn, [click(1), click(2), click(3)])
    query(dsn, "alter table acme.clicks add column note text; update acme.clicks set note = 'seen ' || click_id")
    query(
        dsn,
        "create table acme.notes (a text, d date, c text, foreign key (a, d, c) references acme.clicks "
        "(advertiser_id, report_date, click_id) on delete cascade); "
        "insert into acme.notes select advertiser_id, report_date, click_id from acme.clicks",
    )
    before = query(dsn, "select click_id, _loaded_at, xmin::text from acme.clicks order by 1")
    again = delivered(dsn, [click(3), click(2), click(1)], run_id="r2")
    assert query(dsn, "select click_id, _loaded_at, xmin::text from acme.clicks order by 1") == before
    changed = delivered(dsn, [click(1), click(2, url="other"), click(4)], run_id="r3")

    assert (again.changes, changed.changes) == (
        {"came": 0, "went": 0, "changed": 0},
        {"came": 1, "went": 1, "changed": 1},
    )
    assert query(dsn, "select click_id, note, _run_id from acme.clicks order by 1") == [
        ("c1", "seen c1", "r1"),
        ("c2", "seen c2", "r3"),
        ("c4", None, "r3"),
    ]
    assert query(dsn, "select c from acme.notes order by 1") == [("c1",), ("c2",)]
    after = dict(query(dsn, "select click_id, _loaded_at from acme.clicks"))
    assert after["c1"] == before[0][1]
    assert after["c2"] > before[1][1]


def test_a_row_that_is_referenced_and_goes_fails_its_partition(dsn: str):
    """
    A foreign key without ``on delete`` forbids to delete it: the message has the ways out, and the day stays.
    """
    delivered(dsn, [click(1), click(2)])
    key = ", ".join(CLICKS.unique_columns)
    query(dsn, f"create table invoiced as select {key} from acme.clicks")
    query(dsn, f"alter table invoiced add foreign key ({key}) references acme.clicks")
    with pytest.raises(SinkError, match=r"withdrew rows that another table references.*on delete cascade or set null"):
        delivered(dsn, [click(1, url="new")], run_id="r2")

    assert query(dsn, "select click_id, _run_id from acme.clicks order by 1") == [("c1", "r1"), ("c2", "r1")]


def test_a_row_that_references_a_missing_one_fails_its_partition(dsn: str):
    """
    The message has the ways out of that, too.
    """
    delivered(dsn, [click(1, url="known")])
    query(dsn, "create table urls as select url from acme.clicks; alter table urls add primary key (url)")
    query(dsn, "alter table acme.clicks add foreign key (url) references urls")

    with pytest.raises(SinkError, match=r"not present in table.*If its rows reference one that is missing, add that"):
        delivered(dsn, [click(1, url="new")], run_id="r2")


def test_an_error_of_a_trigger_names_it(dsn: str):
    """
    An error of a trigger names the trigger, whatever its SQLSTATE is: the fault is neither the server's nor that of a
    table without partitions.
    """
    delivered(dsn, [click(1)])
    does = "raise exception 'no' using errcode = 'check_violation';"
    a_trigger(dsn, "acme.clicks", "trigger meddling after insert on TABLE", does)

    with pytest.raises(SinkError, match=r"refuses all 1 records"):
        delivered(dsn, [click(2)], run_id="r2")
    query(dsn, "create or replace function meddle() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
    with pytest.raises(
        SinkError, match=r"no \(SQLSTATE P0001\).* raised by PL/pgSQL function meddle\(\) line 1 .*Correct"
    ):
        delivered(dsn, [click(2)], run_id="r2")


def test_a_table_of_the_ledger_that_is_gone_is_named_with_its_remedies(dsn: str):
    """
    A missing table of the ledger is an error of the target, with the ways to have a ledger again.
    """
    delivered(dsn, [click(1)])
    query(dsn, "drop table penstock.rejected cascade")

    with pytest.raises(TargetError, match=r'"penstock.rejected" does not exist\. .*rename the schema and run again'):
        delivered(dsn, [click(2)], run_id="r2")


def test_a_unique_index_of_the_user_s(dsn: str):
    """
    A row that comes may have the value of one that goes: then rows are deleted before others are inserted.
    """
    delivered(dsn, [click(1), click(2)])
    query(dsn, "create unique index on acme.clicks (job_id)")
    delivered(dsn, [click(2), click(7, job_id=1)], run_id="r2")

    assert query(dsn, "select click_id, job_id from acme.clicks order by 1") == [("c2", 2), ("c7", 1)]


@pytest.mark.parametrize(
    ("event", "again", "key"),
    [
        pytest.param("insert", [1, 2, 3], ("click_id",), id="insert-key"),
        pytest.param("insert", [1, 2, 3], (), id="insert-no key"),
        pytest.param("delete", [1], ("click_id",), id="delete-key"),
        pytest.param("delete", [1], (), id="delete-no key"),
        pytest.param("update", [1, 20], ("click_id",), id="update-key"),  # rows without a key are never updated
    ],
)
def test_a_trigger_that_drops_rows_fails_the_partition(dsn: str, event: str, again: list[int], key: tuple[str, ...]):
    """
    The stored rows are compared with the sent ones: the partition fails, and all of it is as before.
    """
    layout = evolve(CLICKS, key=key)
    delivered(dsn, [click(1), click(2)], layout)
    query(
        dsn,
        "create function drop_it() returns trigger language plpgsql as 'begin return null; end'; "
        f"create trigger dropping before {event} on acme.clicks for each row execute function drop_it()",
    )
    rows = [click(one) if one < 10 else click(one // 10, url="other") for one in again]
    with pytest.raises(SinkError, match=r"stored other rows.*a trigger or a rule"):
        delivered(dsn, rows, layout, run_id="r2")

    assert query(dsn, "select click_id, _run_id from acme.clicks order by 1") == [("c1", "r1"), ("c2", "r1")]
    assert query(dsn, "select version, run_id from penstock.partitions") == [(1, "r1")]


def test_a_trigger_that_drops_rows_of_a_first_delivery(dsn: str):
    """
    COPY returns how many rows it stored, and an upsert how many it wrote: fewer than were sent fail the partition.
    """
    delivered(dsn, [click(1)])
    delivered(dsn, [lead(1)], LEADS)
    query(dsn, "create function drop_it() returns trigger language plpgsql as 'begin return null; end'")
    for table in ("clicks", "leads"):
        query(dsn, f"create trigger t before insert on acme.{table} for each row execute function drop_it()")

    with pytest.raises(SinkError, match="a trigger or a rule"):
        delivered(dsn, [click(5, report_date=date(2026, 3, 2))], run_id="r2", partition=a_day(2))
    with pytest.raises(SinkError, match="a trigger or a rule"):
        delivered(dsn, [lead(1), lead(2)], LEADS, run_id="r2", partition=a_lead_day(2))


def test_a_rule_that_does_nothing_fails_the_partition(dsn: str):
    """
    A rule in place of an update is noticed as well.
    """
    delivered(dsn, [click(1)])
    query(dsn, "create rule r as on update to acme.clicks do instead nothing")
    with pytest.raises(TargetError, match="A rule on the table is in the way"):
        delivered(dsn, [click(1, url="other")], run_id="r2")
    assert query(dsn, "select url from acme.clicks") == [("https://jobs.example/1",)]


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
    The stored rows are the sent ones: a day that is new and one that is replaced fail, and nothing of them changes.
    """
    delivered(dsn, [click(1)])
    a_trigger(dsn, "acme.clicks", when, does)
    if (when, does) == ALTERING["in a replica"]:
        query(dsn, "alter table acme.clicks enable replica trigger meddling")
        query(dsn, f"alter database {name_of(dsn)} set session_replication_role = replica")
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
    assert query(dsn, "select click_id, price from acme.clicks") == [("c1", Decimal("0.10"))]
    assert query(dsn, "select rows from penstock.partitions where state = 'delivered'") == [(1,)]


def test_a_trigger_of_a_partition_of_the_table_alters_rows(dsn: str):
    """
    A trigger alters rows of a partition of the table at any depth: the user's table is divided by days, and those by
    accounts.
    """
    delivered(dsn, [click(1)])
    query(dsn, "alter table acme.clicks rename to old")
    query(dsn, "create table acme.clicks (like acme.old including all) partition by list (report_date)")
    query(dsn, "create table acme.days partition of acme.clicks default partition by list (advertiser_id)")
    query(dsn, "create table acme.accounts partition of acme.days default")
    query(dsn, "insert into acme.clicks select * from acme.old")
    query(dsn, "comment on table acme.clicks is 'Written by penstock: acme.clicks'")
    a_trigger(dsn, "acme.accounts", *ALTERING["before"])

    with pytest.raises(SinkError, match="a trigger or a rule on the table alters what is sent"):
        delivered(dsn, [click(1), click(2, price=Decimal("0.25"))], run_id="r2")

    assert query(dsn, "select click_id from acme.clicks") == [("c1",)]


def test_a_trigger_that_alters_merged_rows_fails_the_partition(dsn: str):
    """
    So do the rows of a stream that is merged by key.
    """
    delivered(dsn, [lead(1)], LEADS)
    a_trigger(dsn, "acme.leads", "trigger meddling before insert or update on TABLE", "new.status = 'x'; return new;")

    with pytest.raises(SinkError, match="a trigger or a rule on the table alters what is sent"):
        delivered(dsn, [lead(1, "won"), lead(2)], LEADS, run_id="r2")

    assert query(dsn, "select count(*) from acme.leads where status = 'x'") == [(0,)]


@pytest.mark.parametrize("rows", [2, 501], ids=["small", "copied"])
def test_a_trigger_that_alters_nothing_is_no_obstacle(dsn: str, rows: int):
    """
    One that fills a column of the user's, or writes a log of its own, works on.
    """
    delivered(dsn, [click(1)])
    query(dsn, "alter table acme.clicks add column cents numeric")
    a_trigger(
        dsn,
        "acme.clicks",
        "trigger meddling before insert or update on TABLE",
        "new.cents = new.price * 100; return new;",
    )
    for day in (1, 2):
        clicks = [a_click_of(day, number) for number in range(2, 2 + rows)]
        delivered(dsn, clicks, partition=a_day(day), run_id="r2")

    assert query(dsn, "select count(*) from acme.clicks where cents = 10") == [(2 * rows,)]
    delivered(dsn, [lead(1)], LEADS)


@pytest.mark.parametrize("rows", [2, 501], ids=["small", "copied"])
def test_a_default_of_a_user_s_replaces_no_null(dsn: str, rows: int):
    """
    Rows without unknown members have none in the table, however many there are; so a second reading restates nothing.
    """
    delivered(dsn, [click(1)])
    query(dsn, "alter table acme.clicks alter _extra set default '{}', alter price set default 7")
    clicks = [a_click_of(2, number, price=None) for number in range(rows)]
    delivered(dsn, clicks, partition=a_day(2), run_id="r2")

    assert query(dsn, "select count(*) from acme.clicks where _extra is null and price is null") == [(rows,)]
    assert delivered(dsn, clicks, partition=a_day(2), run_id="r3").changes == {"came": 0, "went": 0, "changed": 0}


@pytest.mark.parametrize(
    "done",
    [
        "alter table acme.clicks alter column price type numeric(12, 1)",
        "create function noop() returns trigger language plpgsql as 'begin return null; end'; "
        "create trigger noop after insert on acme.clicks for each row execute function noop()",
        "create table acme.anew (like acme.clicks including all); insert into acme.anew select * from acme.clicks; "
        "alter table acme.anew alter column price type numeric(12, 1); "
        "alter table acme.clicks rename to former; alter table acme.anew rename to clicks",
    ],
    ids=["type", "trigger", "another table"],
)
@pytest.mark.parametrize("rows", [2, 501], ids=["small", "copied"])
def test_a_table_that_is_changed_while_a_run_writes_fails_the_partition(dsn: str, done: str, rows: int):
    """
    The server would round the prices in silence: the partition is rolled back, and the next one finds the new type.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    writer, entry = a_writer(target, 2, [a_click_of(2, number, price=Decimal("0.25")) for number in range(rows)])
    query(dsn, done)

    with pytest.raises(SinkError, match="was changed while the run wrote to it"):
        writer.commit(entry)

    assert query(dsn, "select count(*) from acme.clicks") == [(1,)]
    if "trigger" not in done:
        match = "was not made by penstock" if "former" in done else r"has the type numeric\(12,1\)"
        with pytest.raises(TargetError, match=match):
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
    query(dsn, "create sequence tries")
    does = f"if nextval('tries') = 1 then raise exception 'again' using errcode = '{state}'; end if; return null;"
    a_trigger(dsn, "acme.clicks", "trigger meddling after insert on TABLE", does)

    delivered(dsn, [click(1), click(2)], run_id="r2")

    assert query(dsn, "select count(*) from acme.clicks") == [(2,)]


@pytest.mark.parametrize(
    ("state", "tries", "message"),
    [
        pytest.param("40P01", 3, "SQLSTATE 40P01", id="deadlock"),
        pytest.param("40001", 3, "SQLSTATE 40001", id="serialization"),
        pytest.param("22003", 2, "refuses all 1 records", id="value"),
        pytest.param("23505", 2, "SQLSTATE 23505", id="unique"),
        pytest.param("23503", 1, "another table references", id="foreign key"),
        pytest.param("42501", 1, "Give this user the right", id="right"),
    ],
)
def test_a_failure_that_stays_ends_the_commit(dsn: str, state: str, tries: int, message: str):
    """
    A conflict is tried three times. What may be the fault of a row or of the order is tried again once it is changed;
    any other failure is not tried again.
    """
    delivered(dsn, [click(1)])
    query(dsn, "create sequence tries")
    # Not the tries of single rows, which are from a temporary table.
    counted = "if current_query() not like '%where ctid in%' then perform nextval('tries'); end if;"
    does = f"{counted} raise exception 'no' using errcode = '{state}';"
    a_trigger(dsn, "acme.clicks", "trigger meddling after insert on TABLE", does)

    with pytest.raises(PenstockError, match=message):
        delivered(dsn, [click(2)], run_id="r2")

    assert query(dsn, "select last_value from tries") == [(tries,)]
    assert query(dsn, "select click_id, _run_id from acme.clicks") == [("c1", "r1")]


@pytest.mark.parametrize("state", ["53100", "53200"], ids=["disk", "memory"])
def test_a_server_without_resources_fails_the_partition_by_name(dsn: str, state: str):
    """
    The message has what the server lacks, with its SQLSTATE; the rows delivered before are unchanged.
    """
    delivered(dsn, [click(1)])
    does = f"raise exception 'could not extend file' using errcode = '{state}';"
    a_trigger(dsn, "acme.clicks", "trigger meddling after insert on TABLE", does)

    with pytest.raises(SinkError, match=rf"extend file\. .*out of disk, memory or connections \(SQLSTATE {state}\)"):
        delivered(dsn, [click(1), click(2)], run_id="r2")

    assert query(dsn, "select click_id, _run_id from acme.clicks") == [("c1", "r1")]


@pytest.mark.parametrize("done", ["drop default", "set default 'other'"])
def test_a_shared_table_that_lost_the_default_of_the_source_is_refused(dsn: str, done: str):
    """
    Rows would become those of another source. The message has the statement that helps.
    """
    shared: dict[str, Any] = {"schema": "all_sources"}
    delivered(dsn, [click(1)], **shared)
    query(dsn, f"alter table all_sources.clicks alter column _source {done}")

    with pytest.raises(TargetError, match="has lost its default") as caught:
        delivered(dsn, [click(2)], run_id="r2", **shared)

    (cure,) = re.findall(r"must run: (.*)\. Nothing was changed", str(caught.value))
    query(dsn, cure)
    delivered(dsn, [click(2)], run_id="r3", **shared)
    assert query(dsn, "select _source, click_id from all_sources.clicks") == [(SOURCE, "c2")]


def test_derived_rows_change_by_differences_too(dsn: str):
    """
    Rows derived from a merged parent: those of the parents that came are brought up to date, unchanged ones stay.
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

    assert query(dsn, "select lead_id, name, _run_id from acme.lead_data order by 1, 2") == [
        (1, "a", "r1"),
        (1, "c", "r2"),
        (2, "a", "r1"),
    ]


@pytest.mark.parametrize("nullable", [True, False], ids=["nullable key", "key"])
@pytest.mark.usefixtures("small_or_copied")
def test_derived_rows_of_a_rejected_parent_are_replaced(dsn: str, nullable: bool):
    """
    A parent that the table refuses, again in the next reading, is rejected, and its derived rows are those of the last
    reading: they do not fail the partition by their own former rows.
    """
    columns = (evolve(column, nullable=nullable and column.name == "name") for column in ANSWERS.columns[:2])
    layout = evolve(ANSWERS, columns=(*columns, *ANSWERS.columns[2:]))
    for run_id, names in (("r1", ["a", "b"]), ("r2", ["b", "c"])):
        target = sink(dsn).open(SOURCE, run_id)
        writer = target.begin([LEADS, layout], a_lead_day(1))
        writer.write(Batch(layout=LEADS, rows=rows_of(LEADS, [lead(1, "nul\0"), lead(2)])))
        children = [answer(number, name, run_id) for number in (1, 2) for name in names]
        writer.write(Batch(layout=layout, rows=rows_of(layout, children)))
        entry = an_entry(target.ledger, a_lead_day(1), rows=2, run_id=run_id, derived_rows={"lead_data": 4})
        committed = writer.commit(entry)
        target.close()

        assert (committed.rows, committed.rejected, committed.derived_rows) == (1, 1, {"lead_data": 4})

    assert query(dsn, "select lead_id, name, value from acme.lead_data order by 1, 2") == [
        (1, "b", "r2"),
        (1, "c", "r2"),
        (2, "b", "r2"),
        (2, "c", "r2"),
    ]
    assert query(dsn, "select rows from penstock.tables where stream = 'lead_data'") == [(4,)]


def test_a_small_partition_costs_six_statements(dsn: str, postgres_statements: PostgresStatements):
    """
    Delivered for the first time or restated; and there is no temporary table for it.
    """
    target = sink(dsn).open(SOURCE, "r1")
    deliver(target, [click(1)])
    first = a_writer(target, 2, [a_click_of(2, 1)])
    restated = a_writer(target, 1, [click(2), click(3)])
    postgres_statements.clear()
    first[0].commit(first[1])
    of_first = postgres_statements.texts
    postgres_statements.clear()
    committed = restated[0].commit(restated[1])
    of_second = postgres_statements.texts
    target.close()

    assert committed.changes == {"came": 2, "went": 1, "changed": 0}
    assert len(of_first) <= 6, of_first
    assert len(of_second) <= 6, of_second
    assert not any("temporary" in one or "drop" in one.split()[0] for one in (*of_first, *of_second))


def test_tables_are_examined_once_when_a_source_is_opened(dsn: str, postgres_statements: PostgresStatements):
    """
    A plan needs no further statement to know that the rows of a partition are there.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    entry = target.ledger.entry(SOURCE, a_day())
    assert entry is not None
    postgres_statements.clear()
    assert target.is_intact(entry)
    found = postgres_statements.texts
    target.close()

    assert found == []


def test_a_group_of_small_partitions_is_one_transaction(dsn: str, postgres_statements: PostgresStatements):
    """
    Three statements for each that is restated, two for each that is not, and for all one BEGIN, one look at the table's
    definition, and one COMMIT.
    """
    target = sink(dsn).open(SOURCE, "r1")
    for day in range(1, 11):
        deliver(target, [a_click_of(day, 1)], partition=a_day(day))
    commits = [a_writer(target, day, [a_click_of(day, day % 2)]) for day in range(1, 11)]
    postgres_statements.clear()
    done = target.commit_group(commits)
    found = postgres_statements.texts
    target.close()

    assert [one.changes["came"] for one in done] == [0, 1] * 5  # type: ignore[union-attr,index]
    assert len(found) == 3 + 5 * 3 + 5 * 2, found
    assert (found[0], found[-1]) == ("begin", "commit")


def test_a_group_whose_session_is_lost_is_committed(dsn: str):
    """
    The server ends the session within the transaction of a group: each partition is committed in a new session, once.
    """
    target = sink(dsn).open(SOURCE, "r1")
    commits = [a_writer(target, day, [a_click_of(day, 1)]) for day in (1, 2, 3)]
    session = target.database.pid
    a_session_end(dsn, "penstock.partitions", "trigger meddling before insert or update on TABLE", first=2)
    done = target.commit_group(commits)
    assert target.database.pid != session
    target.close()

    assert [one.rows for one in done] == [1, 1, 1]  # type: ignore[union-attr]
    assert query(dsn, "select count(*), count(distinct report_date) from acme.clicks") == [(3, 3)]
    assert query(dsn, "select sum(version) from penstock.partitions") == [(3,)]


def test_a_group_whose_answer_is_lost_is_not_committed_twice(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    The session is lost after COMMIT and before its answer: the ledger shows that every partition was committed.
    """
    lost = LostAnswer(dsn)
    monkeypatch.setattr(psycopg, "connect", lost.connect)
    target = sink(dsn).open(SOURCE, "r1")
    commits = [a_writer(target, day, [a_click_of(day, 1)]) for day in (1, 2, 3)]
    done = target.commit_group(commits)
    target.close()

    assert len(lost.ended) == 1
    assert [one.rows for one in done] == [1, 1, 1]  # type: ignore[union-attr]
    assert query(dsn, "select sum(version), sum(rows) from penstock.partitions") == [(3, 3)]


def test_the_catalog_does_not_grow_with_the_partitions(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    Small partitions need no temporary table; replaced large ones need one for all of them.
    """
    target = sink(dsn).open(SOURCE, "r1")
    for number in range(10):
        deliver(target, [click(number)])
    assert target.temporary_tables.made == 0
    monkeypatch.setattr("penstock_plugins.postgres.rows.SMALL_ROWS", -1)
    for number in range(100):
        deliver(target, [click(number)])
    assert target.temporary_tables.made == 1
    target.close()
