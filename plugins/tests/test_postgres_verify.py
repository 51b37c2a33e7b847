"""
Verification: the rows of a table compared with the ledger.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from command_in_process import main
from penstock import Batch, Column, Partition
from penstock.testing.sinks import ANSWERS, LEADS, SOURCE, a_day, a_lead_day, an_entry, click, lead, rows_of
from penstock_plugins.postgres.target import PostgresTarget
from penstock_plugins.sink_support import table_verification
from postgres_runs import a_click_of, deliver, delivered, query, sink, verified
from postgres_statements import PostgresStatements

pytestmark = pytest.mark.slow


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
def test_rows_and_sums_of_the_table_are_compared_with_the_ledger(dsn: str, done: str, output: str | None, shared: bool):
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
        query(dsn, f"set penstock.source = '{SOURCE}'; {mine}")
    else:
        query(dsn, done)
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


def test_a_difference_names_the_target_of_an_address_without_a_password(dsn: str, capsys: pytest.CaptureFixture[str]):
    """
    The address is the name of the target, and has nothing secret in it.
    """
    delivered(dsn, [click(1)])
    query(dsn, "delete from acme.clicks")
    address = dsn.replace("postgresql://", "postgres://", 1)  # other tests make a Secret of ``dsn``

    assert main(["verify", "--to", address]) == 1
    assert capsys.readouterr().out.startswith(f"{address}: acme.clicks[")


def test_rows_of_no_delivery_are_named(dsn: str):
    """
    Rows of a day or an account that the ledger does not count are named, also where the column of the day was widened.
    """
    delivered(dsn, [click(1)])
    query(dsn, "alter table acme.clicks alter report_date type timestamp")
    assert verified(dsn, "clicks") == []

    query(
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


def test_verify_of_some_days_reads_their_rows_only(dsn: str, postgres_statements: PostgresStatements):
    """
    The index on the day finds them, also where the column of the day was widened; rows outside of the window are not
    read.
    """
    for day in (1, 2):
        delivered(dsn, [a_click_of(day, 1)], run_id=f"r{day}", partition=a_day(day))
    # They are of no delivery, and of other days.
    query(
        dsn,
        "insert into acme.clicks select '2112', '2030-01-01'::date + n / 9, 'x' || n from generate_series(1, 20000) n; "
        "insert into acme.clicks select '2112', '2026-03-02', 'theirs'; analyze acme.clicks",
    )
    pages = query(dsn, "select relpages from pg_class where oid = 'acme.clicks'::regclass")[0][0]
    for type_ in ("date", "timestamp"):
        query(dsn, f"alter table acme.clicks alter report_date type {type_}")
        seen = sink(dsn).open_readonly(SOURCE)
        assert seen is not None
        entries = list(seen.ledger.entries(SOURCE, "clicks", since=date(2026, 3, 2)).values())
        postgres_statements.clear()
        found = list(seen.verify("clicks", entries, since=date(2026, 3, 2), until=date(2026, 3, 2)))
        count = postgres_statements.of("count(*)")[0]
        statement = f"explain (analyze, buffers, format json) {count.text}"
        ((explained,),) = seen.database.run(statement, count.parameters).fetchall()
        seen.close()

        assert [one.what for one in found] == ["clicks: 2 rows in acme.clicks, 1 were delivered"]
        plan = explained[0]["Plan"]
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 10 < pages, explained


def test_a_history_is_compared_some_days_at_a_time(
    dsn: str, monkeypatch: pytest.MonkeyPatch, postgres_statements: PostgresStatements
):
    """
    The differences found are the same, also of days between two parts, and no statement returns more than the rows of
    its days.
    """
    target = sink(dsn).open(SOURCE, "r1")
    for day in range(1, 9):
        deliver(target, [a_click_of(day, 1)], partition=a_day(day))
    target.ledger.forget(SOURCE, [a_day(3), a_day(8)])
    target.close()
    query(dsn, "delete from acme.clicks where report_date = '2026-03-05'")
    differing = "clicks: 0 rows in acme.clicks, 1 were delivered"
    uncounted = "clicks: 1 rows in acme.clicks"

    assert sorted(verified(dsn, "clicks")) == [differing, uncounted, uncounted]
    monkeypatch.setattr(table_verification, "ENTRIES_AT_ONCE", 2)
    seen = sink(dsn).open_readonly(SOURCE)
    assert seen is not None
    postgres_statements.clear()
    found = list(seen.verify("clicks", list(seen.ledger.entries(SOURCE, "clicks").values())))
    counts = [len(one.rows) for one in postgres_statements.of("count(*)")]
    seen.close()

    assert sorted(one.what for one in found) == [differing, uncounted, uncounted]
    assert {one.partition for one in found} == {a_day(3), a_day(5), a_day(8)}
    assert counts == [2, 2, 3]


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.usefixtures("small_or_copied")
def test_rows_of_a_merged_stream_are_counted(dsn: str, shared: bool):
    """
    The commits count the rows that they leave, derived ones too; a row that somebody deletes or adds is noticed, and
    reading all days again makes the counts agree.
    """
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
    assert query(dsn, f"select stream, rows from penstock.tables where source = '{SOURCE}' order by 1") == [
        ("lead_data", 3),
        ("leads", 3),
    ]
    assert verified(dsn, "leads", **settings) == []
    mine = f" and _source = '{SOURCE}'" if shared else ""
    query(dsn, f"delete from acme.leads where lead_id = 1{mine}")
    assert verified(dsn, "leads", **settings) == ["leads: 2 rows in acme.leads, 3 were left there by its commits"] * 3

    target = sink(dsn, **settings).open(SOURCE, "r2")
    target.ledger.forget(SOURCE, list(target.ledger.entries(SOURCE, "leads")))
    target.close()
    run("r3")
    assert verified(dsn, "leads", **settings) == []
    query(dsn, f"delete from acme.lead_data where name = 'a' and lead_id = 1{mine}")
    assert verified(dsn, "leads", **settings)[0].startswith("lead_data: ")


def test_a_merged_stream_of_an_earlier_version_is_counted_once(dsn: str):
    """
    The rows of a merged stream, which an earlier version did not count, are counted by the next run; an emptied table
    is counted anew.
    """
    delivered(dsn, [lead(1), lead(2)], LEADS)
    query(
        dsn,
        "alter table penstock.tables drop column rows; update penstock.meta set value = '3' where name = 'postgres'",
    )
    assert verified(dsn, "leads") == []
    delivered(dsn, [lead(2, "sold"), lead(3)], LEADS, run_id="r2", partition=a_lead_day(2))
    assert query(dsn, "select rows from penstock.tables") == [(3,)]
    query(dsn, "truncate acme.leads")
    delivered(dsn, [lead(3)], LEADS, run_id="r3", partition=a_lead_day(3))
    assert query(dsn, "select rows from penstock.tables") == [(1,)]


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
    query(dsn, "delete from acme.leads")
    seen = sink(dsn).open_readonly(SOURCE)
    assert seen is not None
    emptied = list(seen.verify("leads", entries))
    seen.close()

    assert found == []
    assert [one.what for one in emptied] == ["leads: 0 rows in acme.leads, 3 were left there by its commits"] * 2
