"""
The promises of the Postgres sink, against a real server.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from attrs import evolve
from penstock import (
    Batch,
    Column,
    Layout,
    Rejected,
    Secret,
    SinkError,
    TargetError,
    UsageError,
)
from penstock.testing.sinks import (
    CLICKS,
    HOSTILE,
    LEADS,
    SOURCE,
    SinkSuite,
    a_day,
    an_entry,
    click,
    lead,
    plain,
    rows_of,
)
from penstock_plugins.postgres import database
from penstock_plugins.postgres.query import rows_of as queried
from penstock_plugins.postgres.sink import PostgresSink
from penstock_plugins.postgres.sql_text import short
from postgres_runs import as_role, changed, deliver, delivered, query, sink
from postgres_server import server
from psycopg.types.json import set_json_loads

pytestmark = pytest.mark.slow

MORNING = datetime(2026, 3, 2)  # noqa: DTZ001 (a provider that names no zone)


class Databases:
    """A database per place, made when it is first written to."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._made: dict[Path, str] = {}

    def dsn(self, place: Path) -> str:
        if place not in self._made:
            self._made[place] = self._stack.enter_context(server().database())
        return self._made[place]

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def databases() -> Iterator[Databases]:
    made = Databases()
    yield made
    made.close()


class TestPostgres(SinkSuite):
    commit_points = ("postgres.begun", "postgres.written", "postgres.recorded", "postgres.committed")
    erase_points = ("postgres.erased", "postgres.committed")
    merge_points = (
        "postgres.begun",
        "postgres.written",
        "postgres.recorded",
        "postgres.committed",
        "postgres.begun:2",
        "postgres.written:2",
        "postgres.recorded:2",
    )
    memory_bytes = 32 * 2**20

    @pytest.fixture(autouse=True)
    def _databases(self, databases: Databases) -> None:
        self.databases = databases

    def sink(self, place: Path) -> PostgresSink:
        return PostgresSink(dsn=Secret(self.databases.dsn(place)), memory_bytes=self.memory_bytes, lock_wait_ms=1500)

    def rows(self, place: Path, layout: Layout) -> list[dict[str, Any]]:
        return read(self.databases.dsn(place), layout)

    def test_rows_come_back_as_they_were(self, place: Path) -> None:
        """
        Hostile values keep every sign and digit; an integer that no bigint holds is rejected, and counted so.
        """
        target = self.sink(place).open(SOURCE, "r1")
        committed = deliver(target, HOSTILE)
        target.close()

        fitting = [row for row in HOSTILE if row["job_id"] != 2**70]
        assert self.found(place, CLICKS) == plain(CLICKS, fitting)
        assert (committed.rows, committed.rejected) == (8, 1)
        assert committed.rejected_records[0].reason == f"{2**70} is beyond the 64 bits of bigint"
        assert committed.rejected_records[0].path.endswith('click_id=="c5")].job_id')


@pytest.mark.parametrize("copied_first", [False, True])
def test_small_and_copied_rows_are_the_same(dsn: str, monkeypatch: pytest.MonkeyPatch, copied_first: bool):
    """
    Hostile values that come as a parameter are equal to the same values that come by COPY: no row has changed.
    """
    rows = [row for row in HOSTILE if row["job_id"] != 2**70]
    for number, copied in enumerate((copied_first, not copied_first)):
        with monkeypatch.context() as patch:
            if copied:
                patch.setattr("penstock_plugins.postgres.rows.SMALL_ROWS", -1)
            committed = delivered(dsn, rows, run_id=f"r{number}")

    assert committed.changes == {"came": 0, "went": 0, "changed": 0}
    assert query(dsn, "select distinct _run_id from acme.clicks") == [("r0",)]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"price": 0.1}, "it is no numeric"),
        ({"clicked_at": datetime(2026, 3, 1, 10, tzinfo=UTC)}, "it is no timestamp without time zone"),
        ({"seen_at": MORNING}, "it is no timestamp with time zone"),
        ({"url": {"a": 1}}, "it is no text"),
    ],
    ids=["a float", "an aware time", "a naive time", "an object"],
)
@pytest.mark.usefixtures("small_or_copied")
def test_a_value_of_another_type_is_rejected(dsn: str, values: Any, reason: str):
    """
    A value of another type, such as a plugin's hook may leave, is rejected, in a small partition like in a large one.
    """
    committed = delivered(dsn, [click(1, **values), click(2)])

    assert (committed.rows, committed.rejected) == (1, 1)
    assert reason in committed.rejected_records[0].reason


@pytest.mark.large
@pytest.mark.usefixtures("no_small_partitions")
class TestPostgresByCopy(TestPostgres):
    """Each partition is treated as a large one."""

    merge_points = (*TestPostgres.merge_points, "postgres.staged", "postgres.staged:2")


@pytest.mark.large
class TestPostgresThroughTemporaryTables(TestPostgres):
    merge_points = (*TestPostgres.merge_points, "postgres.staged", "postgres.staged:2")
    memory_bytes = 0


def read(dsn: str, layout: Layout, table: str | None = None) -> list[dict[str, Any]]:
    """Every row of a stream's table, its nested values with exact numbers."""
    with psycopg.connect(dsn) as connection:
        set_json_loads(partial(json.loads, parse_float=Decimal), connection)
        there = connection.execute("select to_regclass(%s)", (f'"{layout.source}"."{table or layout.stream}"',))
        if there.fetchone() == (None,):
            return []
        names = [column.name for column in layout.columns]
        listed = ", ".join(f'"{name}"' for name in names)
        found = connection.execute(f'select {listed} from "{layout.source}"."{table or layout.stream}"')
        return [dict(zip(names, row, strict=True)) for row in found]


# --- tables ---------------------------------------------------------------------------------------------------------


def test_tables_have_the_types_keys_and_comments_of_the_declaration(dsn: str):
    """
    Types, key and comments are those of the declaration; every row names the run that wrote it, and the time.
    """
    delivered(dsn, [click(1)], run_id="r7")

    columns = query(dsn, "select column_name, data_type from information_schema.columns where table_schema = 'acme'")
    assert dict(columns) == {
        "advertiser_id": "text",
        "report_date": "date",
        "click_id": "text",
        "url": "text",
        "job_id": "bigint",
        "price": "numeric",
        "paid": "boolean",
        "clicked_at": "timestamp without time zone",
        "seen_at": "timestamp with time zone",
        "offer": "jsonb",
        "_extra": "jsonb",
        "_run_id": "text",
        "_loaded_at": "timestamp with time zone",
    }
    keys = (
        "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'acme.clicks'::regclass and contype = 'p'"
    )
    assert query(dsn, keys) == [("PRIMARY KEY (advertiser_id, report_date, click_id)",)]
    assert query(
        dsn, "select col_description('acme.clicks'::regclass, 6), obj_description('acme.clicks'::regclass)"
    ) == [("Unit: USD", "Clicks on jobs\n\nWritten by penstock: acme.clicks")]
    assert query(dsn, "select _run_id, _loaded_at > now() - interval '1 minute' from acme.clicks") == [("r7", True)]


def test_a_database_has_one_address_however_it_is_named():
    """
    The address of a database is without user, password and options, so that the target is shown once; another schema of
    the ledger is another one.
    """
    names = (
        "postgresql://me:secret@db.example/shop?sslmode=require",
        "postgresql://db.example:5432/shop",
        "host=db.example dbname=shop user=other",
    )

    (address,) = {PostgresSink(dsn=Secret(name)).address for name in names}

    assert address is not None
    assert "me" not in address.split()
    assert PostgresSink(dsn=Secret(names[0]), ledger_schema="other").address != address
    assert PostgresSink(dsn=Secret("postgresql://me:50%@db/x")).address is None


def test_schema_and_tables_can_be_chosen(dsn: str):
    """
    The schema and the tables' names come from the sink's settings; names that Postgres would cut stay apart.
    """
    name = "x" * 80
    delivered(dsn, [click(1)], schema="raw", tables={"clicks": name})

    assert query(dsn, f'select count(*) from raw."{short(name)}"') == [(1,)]
    assert len(short(name)) <= 63
    assert short(name) != short(name + "y")


def test_two_streams_of_one_table_are_refused(dsn: str):
    """
    Streams that would overwrite each other are refused before anything is fetched.
    """
    with pytest.raises(TargetError, match="share the table"):
        sink(dsn, tables={"clicks": "all"}).open(SOURCE, "r1", ["clicks", "all"])


def test_a_table_of_somebody_else_is_refused(dsn: str):
    """
    A table that penstock did not make is not touched, not even when its columns would fit.
    """
    query(dsn, "create schema acme; create table acme.clicks (click_id text); insert into acme.clicks values ('mine')")

    with pytest.raises(TargetError, match="not made by penstock"):
        delivered(dsn, [click(1)])
    assert query(dsn, "select * from acme.clicks") == [("mine",)]


def test_a_table_of_another_source_is_refused(dsn: str):
    """
    A table that was made for one source is not shared; after the statements of the message it is.
    """
    delivered(dsn, [click(1)], schema="raw{source}")
    target = sink(dsn, schema="rawacme").open("other", "r2")

    with pytest.raises(
        TargetError, match=r"holds acme\.clicks.*made for one source only.*drop its primary key"
    ) as refused:
        target.begin([evolve(CLICKS, source="other")], a_day())
    target.close()
    cure = re.search(r"and run: (.*?)\. Or give them", str(refused.value), re.DOTALL)
    assert cure is not None
    query(dsn, f"alter table rawacme.clicks drop constraint clicks_pkey; {cure[1]}")
    for source, run in (("other", "r3"), ("acme", "r4")):
        target = sink(dsn, schema="rawacme").open(source, run)
        deliver(target, [click(1), click(2)], evolve(CLICKS, source=source))
        target.close()
    assert query(dsn, "select _source, count(*) from rawacme.clicks group by 1 order by 1") == [
        ("acme", 2),
        ("other", 2),
    ]


def test_a_ledger_of_somebody_else_is_refused(dsn: str):
    """
    A schema named penstock with other tables in it is left alone.
    """
    query(dsn, "create schema penstock; create table penstock.water (litres int)")

    with pytest.raises(TargetError, match="did not make"):
        sink(dsn).open(SOURCE, "r1")


@pytest.mark.parametrize(
    ("done", "settings", "message"),
    [
        pytest.param(
            "drop table acme.clicks; create table acme.clicks (id text)",
            {},
            "the table acme.clicks was not made by penstock. If it is the table of acme.clicks (restored without",
            id="somebody else's",
        ),
        pytest.param(
            "drop table acme.clicks; create view acme.clicks as select 1 as id",
            {},
            "the table acme.clicks was not made by penstock. Rename it",
            id="a view",
        ),
        pytest.param(
            "alter table acme.clicks alter job_id type text",
            {},
            "the column acme.clicks.job_id has the type text, and acme.clicks declares bigint",
            id="another type",
        ),
        pytest.param(
            "alter table acme.clicks drop constraint clicks_pkey, add primary key (report_date, click_id) include "
            "(advertiser_id)",
            {},
            "is unique by (click_id, report_date), and acme.clicks declares",
            id="a key that includes a column",
        ),
        pytest.param(
            "alter table acme.clicks drop job_id, add job_id bigint generated always as (length(click_id)) stored",
            {},
            "the column acme.clicks.job_id has the type bigint generated always, and acme.clicks declares bigint",
            id="a generated column",
        ),
        pytest.param(
            "alter table acme.clicks drop job_id, add job_id bigint generated always as identity",
            {},
            "the column acme.clicks.job_id has the type bigint generated always, and acme.clicks declares bigint",
            id="an identity",
        ),
        pytest.param("alter table acme.clicks drop constraint clicks_pkey", {}, "has no unique index", id="no key"),
        pytest.param(
            "alter table acme.clicks add x int not null default 1; alter table acme.clicks alter x drop default",
            {},
            "that acme.clicks has no values for: x. Give it a default",
            id="a column that needs values",
        ),
        pytest.param("", {"schema": "raw"}, "and the sink's settings name raw.clicks", id="moved"),
        pytest.param("", {"schema": "penstock"}, "the schema penstock holds the ledger. Set", id="the ledger's schema"),
        pytest.param("", {"schema": "pg_x"}, "keeps the schema pg_x for itself. Set", id="a schema of Postgres"),
    ],
)
def test_a_table_that_no_delivery_could_write_to_is_refused_beforehand(
    dsn: str, done: str, settings: dict[str, Any], message: str
):
    """
    Looking names the table, what was seen and what to do, before anything is requested; it makes and changes nothing.
    """
    delivered(dsn, [click(1)])
    query(dsn, done)
    before = everything(dsn)
    target = sink(dsn, **settings).open(SOURCE, "r2", ["clicks"])

    with pytest.raises(TargetError, match=re.escape(message)):
        target.prepare([CLICKS])
    target.close()
    assert everything(dsn) == before


@pytest.mark.parametrize(
    ("done", "message", "cure"),
    [
        pytest.param("drop schema acme cascade", "there is no schema acme", "create schema", id="no schema"),
        pytest.param(
            "drop table acme.clicks", "not make or use tables in the schema acme", "grant usage", id="no table"
        ),
        pytest.param(
            "{reads}", "may not insert, update, delete in the table acme.clicks", "grant select", id="reading only"
        ),
        pytest.param(
            "{writes}; alter table acme.clicks drop url",
            "the table acme.clicks is to be changed for acme.clicks, and only its owner",
            "alter table",
            id="a column to be added",
        ),
        pytest.param(
            "{writes}; revoke temporary on database {database} from public",
            "may not make temporary tables in the database",
            "grant temporary",
            id="no temporary tables",
        ),
    ],
)
def test_a_missing_right_is_reported_beforehand(dsn: str, done: str, message: str, cure: str):
    """
    The message names who lacks it, where, and the statement that grants it; after that statement it can be delivered.
    """
    delivered(dsn, [click(1)])
    database = dsn.partition("?")[0].rpartition("/")[2]
    role = f"loader_{database}"
    writes = f"grant usage on schema acme to {role}; grant select, insert, update, delete on acme.clicks to {role}"
    query(dsn, f"create role {role}; grant usage on schema penstock to {role}")
    query(dsn, f"grant select, insert, update, delete on all tables in schema penstock to {role}")
    try:
        reads = writes.replace(", insert, update, delete", "")
        query(dsn, done.format(writes=writes, reads=reads, database=database))
        target = sink(as_role(dsn, role)).open(SOURCE, "r2", ["clicks"])
        with pytest.raises(TargetError, match=f"{message}.*{role}|{role}.*{message}") as refused:
            target.prepare([CLICKS])
        target.close()

        statement = re.search(rf"{cure}.*?(?=; or set|\.$)", str(refused.value))
        assert statement is not None
        query(dsn, statement[0])
        assert delivered(as_role(dsn, role), [click(1), click(2)], run_id="r3").rows == 2
    finally:
        query(dsn, f"reassign owned by {role} to current_user; drop owned by {role}; drop role {role}")


@pytest.mark.parametrize(
    ("layout", "done", "message"),
    [
        pytest.param(
            evolve(CLICKS, key=()),
            "alter table acme.clicks rename report_date to day",
            "no column report_date, by which acme.clicks finds the rows that new ones replace: it was renamed",
            id="the day, renamed",
        ),
        pytest.param(
            evolve(CLICKS, key=()),
            "alter table acme.clicks drop advertiser_id",
            "no column advertiser_id, by which acme.clicks finds the rows",
            id="the account, dropped",
        ),
        pytest.param(
            LEADS,
            "create table old_leads () inherits (acme.leads)",
            "other tables inherit from acme.leads, and acme.leads is merged by key",
            id="heirs",
        ),
    ],
)
def test_a_table_in_which_former_rows_are_not_found_is_refused(dsn: str, layout: Layout, done: str, message: str):
    """
    The rows of a new reading would be there beside the former ones.
    """
    delivered(dsn, [click(1) if layout.stream == "clicks" else lead(1)], layout)
    query(dsn, done)
    target = sink(dsn).open(SOURCE, "r2")
    with pytest.raises(TargetError, match=re.escape(message)):
        target.prepare([layout])
    target.close()


def test_a_table_is_made_anew_once_the_former_one_has_another_name_and_no_mark(dsn: str):
    """
    With the mark, the former table counts as moved by mistake: its rows are those of the ledger.
    """
    delivered(dsn, [click(1)])
    query(dsn, "alter table acme.clicks drop constraint clicks_pkey; alter table acme.clicks rename to old")
    with pytest.raises(TargetError, match=r'the rows of acme.clicks are in the table "?acme"?\."?old"?'):
        delivered(dsn, [click(2)], run_id="r2", partition=a_day(2))
    query(dsn, "comment on table acme.old is null")
    delivered(dsn, [click(2)], run_id="r3", partition=a_day(2))

    assert query(dsn, "select click_id from acme.old") == [("c1",)]
    assert query(dsn, "select click_id from acme.clicks") == [("c2",)]
    assert query(dsn, "select day from penstock.partitions") == [("2026-03-02",)]


def test_looking_at_tables_that_fit_makes_none(dsn: str):
    """
    Streams whose tables are not there yet pass, and the first delivery makes them. A column that a table lacks is added
    before anything is requested.
    """
    target = sink(dsn).open(SOURCE, "r1", ["clicks", "leads"])
    before = everything(dsn)
    target.prepare([CLICKS, LEADS])
    assert everything(dsn) == before
    target.close()

    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2", ["clicks"])
    target.prepare([changed(CLICKS, Column(name="device", type="text")), LEADS])
    assert ("acme", "clicks", "device", "text") in everything(dsn)
    assert query(dsn, "select to_regclass('acme.leads')") == [(None,)]
    target.close()


def everything(dsn: str) -> list[tuple[Any, ...]]:
    """Every column of every table that is not Postgres' own."""
    return query(
        dsn,
        "select table_schema::text, table_name::text, column_name::text, data_type::text "
        "from information_schema.columns where table_schema not in ('pg_catalog', 'information_schema') "
        "order by 1, 2, ordinal_position",
    )


def test_a_dropped_or_emptied_table_is_read_again(dsn: str):
    """
    Partitions whose table is gone or empty count as missing, and not as final.
    """
    for statement in ("drop table acme.clicks", "truncate acme.clicks"):
        delivered(dsn, [click(1)])
        query(dsn, statement)
        seen = sink(dsn).open_readonly(SOURCE)
        assert seen is not None
        (entry,) = seen.ledger.entries(SOURCE, "clicks").values()
        assert not seen.is_intact(entry)
        seen.close()
        target = sink(dsn).open(SOURCE, "r2")
        assert target.ledger.entries(SOURCE, "clicks") == {}
        target.close()


def test_a_table_that_is_dropped_during_a_run_is_not_made_by_it(dsn: str):
    """
    A new table would hide from the next run that the rows of other days are gone.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    query(dsn, "drop table acme.clicks")

    with pytest.raises(TargetError, match=r"table acme\.clicks was dropped during the run.* run again"):
        target.begin([CLICKS], a_day(2))

    target.close()
    target = sink(dsn).open(SOURCE, "r3")
    assert target.ledger.entries(SOURCE, "clicks") == {}
    deliver(target, [click(1)], partition=a_day(2))
    target.close()
    assert query(dsn, "select count(*) from acme.clicks") == [(1,)]


# --- evolution ------------------------------------------------------------------------------------------------------


def test_a_new_column_is_added(dsn: str):
    """
    A field that the record class gained becomes a column, with a notice; rows from before hold null.
    """
    delivered(dsn, [click(1)])
    wider = changed(CLICKS, Column(name="device", type="text", description="What it was made with"))
    target = sink(dsn).open(SOURCE, "r2")
    target.prepare([wider])
    assert [
        re.search("acme.clicks had no column device: added.* --full reads", one) is not None for one in target.notices
    ] == [True]
    target.close()
    day = a_day(2)
    delivered(dsn, [click(2, report_date=date(2026, 3, 2), device="phone")], wider, partition=day, run_id="r2")

    assert query(dsn, "select click_id, device from acme.clicks order by 1") == [("c1", None), ("c2", "phone")]


@pytest.mark.parametrize(
    ("before", "after", "value", "found"),
    [
        pytest.param("integer", "decimal", Decimal("1.5"), Decimal("1.5"), id="integer to decimal"),
        pytest.param("decimal", "integer", 7, Decimal(7), id="decimal stays, for integers"),
        pytest.param("date", "datetime", MORNING, MORNING, id="date to time"),
        pytest.param("datetime", "date", MORNING.date(), MORNING, id="time stays, for dates"),
    ],
)
def test_column_types_widen_and_never_narrow(dsn: str, before: Any, after: Any, value: Any, found: Any):
    """
    A type that holds every former value takes its place, and a wider one that is there stays.
    """
    delivered(dsn, [click(1)], changed(CLICKS, Column(name="x", type=before, zone="naive")))
    layout = changed(CLICKS, Column(name="x", type=after, zone="naive"))
    entry = delivered(dsn, [click(1, x=value)], layout, run_id="r2")

    assert query(dsn, "select x from acme.clicks") == [(found,)]
    assert entry.rejected == 0


@pytest.mark.parametrize("after", ["integer", "boolean", "datetime", "json"])
def test_a_contradiction_is_refused(dsn: str, after: Any):
    """
    A type that does not hold the former values is refused; the message names both and the choice.
    """
    delivered(dsn, [click(1)])
    with pytest.raises(TargetError, match=r"acme\.clicks\.url has the type text.*Choose") as refused:
        delivered(dsn, [click(1)], changed(CLICKS, Column(name="url", type=after)), run_id="r2")

    assert after[:4].replace("inte", "bigint").replace("date", "timestamp") in str(refused.value)
    assert query(dsn, "select url from acme.clicks") == [("https://jobs.example/1",)]


@pytest.mark.parametrize("layout", [CLICKS, LEADS], ids=["replaced", "merged"])
def test_a_key_whose_index_includes_other_columns_is_used(dsn: str, layout: Layout):
    """
    The administrator's index is unique by the key, and keeps another column beside it.
    """
    rows, name, other = ([click(1)], "clicks", "url") if layout is CLICKS else ([lead(1)], "leads", "status")
    delivered(dsn, rows, layout)
    key = ", ".join(layout.unique_columns)
    query(dsn, f"alter table acme.{name} drop constraint {name}_pkey, add primary key ({key}) include ({other})")
    delivered(dsn, rows, layout, run_id="r2")

    assert query(dsn, f"select count(*) from acme.{name}") == [(1,)]


def test_another_key_is_refused(dsn: str):
    """
    A table cannot be unique by one key and replaced by another.
    """
    delivered(dsn, [click(1)])
    with pytest.raises(TargetError, match=r"unique by \(advertiser_id, click_id, report_date\).*the key"):
        delivered(dsn, [click(1)], evolve(CLICKS, key=("url",)), run_id="r2")


def test_another_account_of_rows_without_a_key_is_refused(dsn: str):
    """
    A table that lacks the account's column has rows that no delivery would replace.
    """
    delivered(dsn, [click(1)], layout=evolve(CLICKS, key=()))
    shop = Column(name="shop", type="text", nullable=False)
    layout = evolve(CLICKS, key=(), partition_columns=("shop", "report_date"), columns=(shop, *CLICKS.columns))

    with pytest.raises(TargetError, match="has no column shop, by which"):
        delivered(dsn, [click(1)], layout=layout)


def test_a_column_of_somebody_else_that_needs_values_is_refused(dsn: str):
    """
    Delivered rows stay, and no record is rejected for it. A column with a default is filled.
    """
    delivered(dsn, [click(1)])
    query(dsn, "alter table acme.clicks add column team text not null default 'a'")
    delivered(dsn, [click(1), click(2)], run_id="r2")
    query(dsn, "alter table acme.clicks alter column team drop default")

    with pytest.raises(TargetError, match="no values for: team"):
        delivered(dsn, [click(3)], run_id="r3")

    assert query(dsn, "select click_id, team from acme.clicks order by 1") == [("c1", "a"), ("c2", "a")]


# --- what changed ---------------------------------------------------------------------------------------------------


def test_restatements_record_rows_and_sums_that_moved(dsn: str):
    """
    A partition that is read again leaves a row with the numbers of rows that came, went and changed, and the sums.
    """
    delivered(dsn, [click(1), click(2), click(3)], sums={"price": Decimal("0.30")})
    same = delivered(dsn, [click(3), click(2), click(1, price=Decimal("0.100"))], run_id="r2")
    rows = [click(2, price=Decimal("0.25")), click(3), click(4), click(5, price=None)]
    entry = delivered(dsn, rows, run_id="r3", sums={"price": Decimal("0.45")})

    assert same.changes == {"came": 0, "went": 0, "changed": 0}
    assert entry.changes == {"came": 2, "went": 1, "changed": 1}
    assert query(
        dsn,
        "select run_id, stream, partition ->> 'report_date', rows_before, rows_after, came, went, changed, sums "
        "from penstock.restatements",
    ) == [("r3", "clicks", "2026-03-01", 3, 4, 2, 1, 1, {"price": ["0.30", "0.45"]})]


def test_restatements_record_amounts_of_each_currency(dsn: str):
    """
    An amount with a currency in each row is among the sums, also where only one of the readings has the currency.
    """
    columns = (evolve(column, unit_of="url") if column.name == "price" else column for column in CLICKS.columns)
    priced = evolve(CLICKS, columns=tuple(columns))
    delivered(dsn, [click(1, url="EUR")], priced, sums={"price[EUR]": Decimal("0.10")})
    rows = [click(1, url="USD", price=Decimal("0.25"))]
    delivered(dsn, rows, priced, run_id="r2", sums={"price[USD]": Decimal("0.25")})

    assert query(dsn, "select run_id, sums from penstock.restatements") == [
        ("r2", {"price[EUR]": ["0.10", "0"], "price[USD]": ["0", "0.25"]})
    ]


def test_restatements_of_rows_without_a_key(dsn: str):
    """
    Rows without a key are compared as they are, each as often as it occurs.
    """
    keyless = evolve(CLICKS, key=())
    delivered(dsn, [click(1), click(1), click(2)], keyless)
    entry = delivered(dsn, [click(1), click(2), click(3)], keyless, run_id="r2")

    assert entry.changes == {"came": 1, "went": 1, "changed": 0}


def test_rows_of_a_day_that_had_none(dsn: str):
    """
    A day that was delivered empty and has rows now was restated too; a first delivery was not.
    """
    first = delivered(dsn, [])
    entry = delivered(dsn, [click(1)], run_id="r2")

    assert first.changes is None
    assert entry.changes == {"came": 1, "went": 0, "changed": 0}


@pytest.mark.parametrize("key", [("click_id",), ()], ids=["key", "no key"])
def test_a_change_by_the_settings_is_no_restatement(dsn: str, key: tuple[str, ...]):
    """
    A column that was left out and comes back, or is new, does not make every row a changed one; what the provider
    moved besides is reported.
    """
    whole = evolve(CLICKS, key=key)
    short = evolve(whole, columns=tuple(one for one in whole.columns if one.name not in ("price", "url")))
    names = {column.name for column in short.columns}
    rows = [{name: value for name, value in click(number).items() if name in names} for number in (1, 2, 3)]
    delivered(dsn, rows, short, fingerprint="without")
    back = delivered(dsn, [click(1), click(2), click(3)], whole, run_id="r2", fingerprint="with")
    wide = changed(whole, Column(name="rank", type="integer"))
    rows = [click(1, rank=1), click(2, rank=2), click(3, rank=3)]
    new = delivered(dsn, rows, wide, run_id="r3", fingerprint="with")
    later = delivered(dsn, [click(1, rank=1), click(2, rank=2), click(3)], wide, run_id="r4", fingerprint="with")

    unchanged = {"came": 0, "went": 0, "changed": 0}
    assert (back.changes, new.changes) == (unchanged, unchanged)
    assert later.changes == ({"came": 0, "went": 0, "changed": 1} if key else {"came": 1, "went": 1, "changed": 0})
    assert query(dsn, "select run_id, sums from penstock.restatements") == [("r4", {})]


def test_unchanged_rows_of_changes_keep_their_run(dsn: str):
    """
    Merging writes only rows that differ: the run of each shows when it last changed.
    """
    delivered(dsn, [lead(1), lead(2)], LEADS)
    delivered(dsn, [lead(1), lead(2, "sold")], LEADS, run_id="r2")

    assert query(dsn, "select lead_id, status, _run_id from acme.leads order by 1") == [
        (1, "new", "r1"),
        (2, "sold", "r2"),
    ]


# --- memory ---------------------------------------------------------------------------------------------------------


def test_memory_is_bounded_over_all_partitions(dsn: str):
    """
    However many partitions are under way, no more than the bound waits in memory.
    """
    target = sink(dsn, memory_bytes=4000).open(SOURCE, "r1")
    writers = {day: target.begin([CLICKS], a_day(day)) for day in range(1, 6)}
    most = 0
    for start in range(0, 100, 5):
        for day, writer in writers.items():
            rows = [click(number, report_date=date(2026, 3, day)) for number in range(start, start + 5)]
            writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, rows)))
            most = max(most, sum(one.held_bytes for one in writers.values()))
    for day, writer in writers.items():
        writer.commit(an_entry(target.ledger, a_day(day), rows=100))
    target.close()

    assert most <= 4000
    assert query(dsn, "select report_date, count(*) from acme.clicks group by 1 order by 1") == [
        (date(2026, 3, day), 100) for day in writers
    ]


@pytest.mark.parametrize("failing", [1, 4], ids=["the copy of all rows", "the copy of a half"])
def test_no_row_is_lost_where_a_temporary_table_cannot_be_written(
    dsn: str, failing: int, monkeypatch: pytest.MonkeyPatch
):
    """
    The disk is full when rows are moved out of memory for those of another partition. Only the other one fails: the
    rows are still there, once.
    """
    target = sink(dsn, memory_bytes=5000).open(SOURCE, "r1")
    first, second = target.begin([CLICKS], a_day(1)), target.begin([CLICKS], a_day(2))
    rows = [click(number) for number in range(19)] + [click(19, offer=msgspec.Raw(b'{"n": 1e999999}'))]
    first.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, rows)))
    copies, copy = 0, database.Database.copy

    def failing_copy(self: database.Database, *args: Any) -> int:
        nonlocal copies
        copies += 1
        if copies == failing:
            raise psycopg.errors.DiskFull("no space left on device")
        return copy(self, *args)

    monkeypatch.setattr(database.Database, "copy", failing_copy)
    others = [click(number, report_date=date(2026, 3, 2)) for number in range(10)]
    assert first.held_bytes < 5000
    with pytest.raises(SinkError, match="no space left"):
        second.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, others)))
    second.abort()
    committed = first.commit(an_entry(target.ledger, a_day(1), rows=20))
    target.close()

    assert (committed.rows, committed.rejected, committed.repeated) == (19, 1, 0)
    assert query(dsn, "select count(*) from acme.clicks") == [(19,)]


def test_rejected_records_are_read_by_a_cursor_of_the_server(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    The client holds some at a time, in a transaction that ends with the last one. A window of days chooses among them.
    """
    bad = tuple(Rejected(stream="clicks", path=f"$[{number}]", reason="no", raw="{}") for number in range(60))
    monkeypatch.setattr("penstock.ledger.partition_queries.ROWS_AT_ONCE", 100)
    target = sink(dsn).open(SOURCE, "r1")
    monkeypatch.setattr(type(target.database), "rows_at_once", 10)
    for day in (1, 2):
        deliver(target, [click(day)], partition=a_day(day), rejected=60, rejected_records=bad)
    found = target.ledger.rejected(SOURCE)
    first = next(found)
    (*_, not_fetched, _, _) = target.database.run("fetch 1 from penstock_rows").fetchone() or ()
    others = [(entry.partition, one.path) for entry, one in found]
    second = [(entry.partition, one) for entry, one in target.ledger.rejected(SOURCE, since=a_day(2).day)]
    abandoned = next(iter(target.ledger.rejected(SOURCE)))
    in_transaction = target.database.in_transaction
    target.close()

    assert (first[0].partition, first[1]) == (a_day(1), bad[0])
    assert not_fetched == "$[40]"  # of the second day: a hundred are fetched
    assert others == [
        (a_day(day), one.path) for day in (1, 2) for one in bad if (day, one) not in ((1, bad[0]), (2, bad[40]))
    ]
    assert second == [(a_day(2), one) for one in bad]
    assert abandoned == first
    assert not in_transaction


# --- query ----------------------------------------------------------------------------------------------------------


def test_rows_of_a_query_are_streamed(dsn: str):
    """
    Each row is a mapping of its columns; nothing is read before it is requested.
    """
    rows = iter(queried(Secret(dsn), "select generate_series(1, 100000000) as number, 0.5 as half;"))

    assert [next(rows), next(rows)] == [{"number": 1, "half": Decimal("0.5")}, {"number": 2, "half": Decimal("0.5")}]
    rows.close()


@pytest.mark.parametrize(
    "query",
    [
        "selct 1",
        "delete from penstock.partitions",
        "with gone as (delete from penstock.partitions returning *) select * from gone",
        "select 1; drop table x",
        "%",
    ],
)
def test_a_query_that_is_none_is_refused(dsn: str, query: str):
    """
    Only a single select is taken, and it can write nothing.
    """
    sink(dsn).open(SOURCE, "r1").close()
    with pytest.raises(UsageError, match=r"^--query: .*one select\.$"):
        list(queried(Secret(dsn), query))


def test_a_value_of_a_query_that_no_python_value_holds(dsn: str):
    """
    A value of a query that no Python value holds is the query's fault, and the message states what to do.
    """
    with pytest.raises(UsageError, match="cast it to text"):
        list(queried(Secret(dsn), "select timestamptz '10000-01-01' as at"))


VERSION_1 = Path(__file__).with_name("fixtures") / "target_1.sql"


@pytest.mark.parametrize("reader_first", [False, True], ids=["run first", "plan first"])
def test_a_target_of_the_former_version_is_brought_up_to_date(dsn: str, reader_first: bool) -> None:
    """
    The ledger of the former version is migrated in place when it is opened, by a plan too: nothing that was final is
    missing, times are timestamps, and its rows are replaced as before.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(VERSION_1.read_text())
    if reader_first:
        looking = PostgresSink(dsn=Secret(dsn)).open_readonly(SOURCE)
        assert looking is not None
        assert looking.is_intact(looking.ledger.entries(SOURCE, "clicks")[a_day()])
        looking.close()

    target = PostgresSink(dsn=Secret(dsn)).open(SOURCE, "r3")
    (entry,) = target.ledger.entries(SOURCE, "clicks", since=date(2026, 3, 1), until=date(2026, 3, 1)).values()
    assert (entry.rows, entry.version, entry.delivered) == (2, 2, True)
    found = target.ledger.entries("talroo", "clicks")
    assert len(found) == 5
    counts = {one.account.get("advertiser_id"): one for one in target.ledger.counts("talroo", "clicks")}
    assert set(counts) == {"2112", 'a"\\b, "c":', None, "9", "10"}
    assert (counts["2112"].final, counts["9"].failed, counts["9"].error) == (1, 1, "503 | down")
    assert len(target.ledger.entries("talroo", "clicks", accounts=['a"\\b, "c":'])) == 1
    (before,) = target.ledger.restated(SOURCE)
    assert (before.partition, before.rows) == (a_day(), (2, 2))
    assert before.changes == {"came": 0, "went": 0, "changed": 1}
    assert before.sums == {"price": (Decimal("0.30"), Decimal("0.35"))}
    assert target.ledger.pending("talroo", "clicks")[0].handle == "h"
    assert target.ledger.runs("talroo")[0].exit_code == 1
    deliver(target, [click(0, price=Decimal("0.10"))])
    assert [one.run_id for one in target.ledger.restated(SOURCE)] == ["r1", "r1"]
    target.close()
    assert query(dsn, "select click_id, _run_id from acme.clicks") == [("c0", "r2")]  # which did not change
    assert query(
        dsn, "select pg_typeof(read_at)::text, account, day from penstock.partitions where source = 'acme'"
    ) == [("timestamp with time zone", "2112", "2026-03-01")]
