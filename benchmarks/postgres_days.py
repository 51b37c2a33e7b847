"""
Days in a large Postgres table: replaced a hundred times, read across accounts, and the cost of the index on the day.

::

    .venv/bin/python benchmarks/postgres_days.py [--rows 2000000] [--replacements 100] [--dsn postgresql://...]

The table has 100 accounts with 1,000 rows a day, so that more rows are more days. It is filled by the server, with its
indexes made at the end; the days that are replaced come from the sink, each from an account of its own. 50 million rows
need 20 GB and some ten minutes.

Without ``--dsn`` a private server is started, with autovacuum on and a nap of a second. Prints tables in Markdown.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import psycopg
from attrs import evolve
from penstock import Batch, Partition, Secret
from penstock.testing.sinks import CLICKS, SOURCE, an_entry, click, rows_of
from penstock_plugins.postgres.sink import PostgresSink
from penstock_plugins.postgres.target import PostgresTarget
from postgres import server

DAY_ROWS = 10_000  # of the day that is replaced
ACCOUNTS, ACCOUNT_ROWS = 100, 1_000  # of the other rows, and rows a day of each
DAY = "2026-03-01"
DIFFERENCES, NOTHING, DELETED = (
    "by differences, a tenth of the rows changed",
    "by differences, nothing changed",
    "deleted and inserted",
)
PARTITIONS = {
    how: Partition("clicks", (("advertiser_id", account), ("report_date", DAY)))
    for how, account in ((DIFFERENCES, "2112"), (NOTHING, "2113"), (DELETED, "2114"))
}
# The settings of the table while its days are replaced: those of the sink, and the server's own.
STORAGE = (
    "autovacuum_vacuum_scale_factor",
    "autovacuum_vacuum_insert_scale_factor",
    "autovacuum_analyze_scale_factor",
    "autovacuum_vacuum_threshold",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--replacements", type=int, default=100)
    parser.add_argument("--dsn")
    options = parser.parse_args()
    if options.dsn:
        measure(options.dsn, options.rows, options.replacements)
        return
    settings = {"shared_buffers": "1GB", "maintenance_work_mem": "512MB", "max_wal_size": "4GB"}
    with server(autovacuum="on", autovacuum_naptime="1s", **settings).database() as dsn:
        measure(dsn, options.rows, options.replacements)


def measure(dsn: str, rows: int, replacements: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        filled(connection, dsn, rows)
        sizes(connection, rows)
        print("\n| Replaced | how | dead rows left | autovacuum runs | WAL | buffers to read the day |")
        print("|---|---|---|---|---|---|", flush=True)
        for how in PARTITIONS:
            if how == DELETED:  # as a loader without differences, in a table without settings
                connection.execute(f"alter table {SOURCE}.clicks reset ({', '.join(STORAGE)})")
            connection.execute(f"vacuum analyze {SOURCE}.clicks")
            connection.execute("select pg_stat_reset_single_table_counters(%s::regclass)", (f"{SOURCE}.clicks",))
            before, wal = buffers(connection, PARTITIONS[how]), wal_bytes(connection)
            for number in range(1, replacements + 1):
                replace(connection, dsn, how, number)
            written = (wal_bytes(connection) - wal) / replacements / 1e6
            time.sleep(5)  # for autovacuum, and the statistics
            dead, runs = connection.execute(
                "select n_dead_tup, autovacuum_count from pg_stat_user_tables where relname = 'clicks'"
            ).fetchone() or (0, 0)
            after = buffers(connection, PARTITIONS[how])
            print(
                f"| {replacements} | {how} | {dead:,} | {runs} | {written:.2f} MB each | {before} -> {after} |",
                flush=True,
            )
        read_across(connection)
    copied(dsn)


def filled(connection: "psycopg.Connection[Any]", dsn: str, rows: int) -> None:
    """The stream's table, made by the sink, with these rows; the days that are replaced come from the sink."""
    connection.execute(f"drop schema if exists {SOURCE} cascade")
    connection.execute("drop schema if exists penstock cascade")
    with opened(dsn, "r0") as target:
        for how in PARTITIONS:
            deliver(target, how, 0, 0)
    indexes = connection.execute(
        "select indexname, indexdef from pg_indexes where schemaname = %s and tablename = 'clicks'", (SOURCE,)
    ).fetchall()
    key = next(name for name, definition in indexes if "UNIQUE" in definition)
    connection.execute(f"alter table {SOURCE}.clicks drop constraint {key}")
    for name, _ in indexes:
        connection.execute(f"drop index if exists {SOURCE}.{name}")
    began = time.perf_counter()
    connection.execute(  # day after day, as a loader writes them
        f"insert into {SOURCE}.clicks (advertiser_id, report_date, click_id, url, job_id, price, paid) "
        f"select 'a' || (n / {ACCOUNT_ROWS}) % {ACCOUNTS}, "
        f"date '2026-03-10' - (({rows} - 1 - n) / {ACCOUNTS * ACCOUNT_ROWS})::int, "
        f"'c' || n % {ACCOUNT_ROWS}, 'https://jobs.example/' || n, n, 0.1, true from generate_series(0, {rows} - 1) n"
    )
    for name, definition in indexes:
        connection.execute(definition)
        if name == key:
            connection.execute(f"alter table {SOURCE}.clicks add primary key using index {name}")
    connection.execute(f"vacuum analyze {SOURCE}.clicks")
    print(f"filled in {time.perf_counter() - began:.0f} s\n")


def sizes(connection: "psycopg.Connection[Any]", rows: int) -> None:
    print(
        f"{rows:,} rows of {ACCOUNTS} accounts; a day of {DAY_ROWS:,} rows is replaced.\n\n| Relation | MB |\n|---|---|"
    )
    for name, size in connection.execute(
        "select relname, pg_table_size(oid) from pg_class where relnamespace = %s::regnamespace "
        "and relkind in ('r', 'i') order by 1",
        (SOURCE,),
    ):
        print(f"| {name} | {size / 1e6:,.0f} |")


@contextmanager
def opened(dsn: str, run_id: str) -> Iterator[PostgresTarget]:
    target = PostgresSink(dsn=Secret(dsn)).open(SOURCE, run_id)
    try:
        yield target
    finally:
        target.close()


def deliver(target: PostgresTarget, how: str, number: int, changed: int) -> None:
    partition = PARTITIONS[how]
    account = partition.values[0][1]
    rows = [
        click(one, advertiser_id=account, url=f"https://jobs.example/{number if one < changed else 0}")
        for one in range(DAY_ROWS)
    ]
    former = target.ledger.entry(SOURCE, partition)
    writer = target.begin([CLICKS], partition)
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, rows)))
    entry = an_entry(None, partition, rows=len(rows), run_id=f"r{number}")
    writer.commit(evolve(entry, version=former.version if former else 0, replaces=former))


def of_day(partition: Partition) -> str:
    return " and ".join(f"{name} = '{value}'" for name, value in partition.values)


def replace(connection: "psycopg.Connection[Any]", dsn: str, how: str, number: int) -> None:
    if how == DELETED:
        where = of_day(PARTITIONS[how])
        with connection.transaction():
            connection.execute(
                f"create temporary table t on commit drop as select * from {SOURCE}.clicks where {where}"
            )
            connection.execute(f"delete from {SOURCE}.clicks where {where}")
            connection.execute(f"insert into {SOURCE}.clicks select * from t")
        return
    with opened(dsn, f"r{number}") as target:
        deliver(target, how, number, DAY_ROWS // 10 if how == DIFFERENCES else 0)


def plan_of(connection: "psycopg.Connection[Any]", statement: str) -> dict[str, Any]:
    row = connection.execute(f"explain (analyze, buffers, format json) {statement}".encode()).fetchone()
    assert row is not None
    found: dict[str, Any] = row[0][0] if isinstance(row[0], list) else json.loads(row[0])[0]
    return found


def buffers(connection: "psycopg.Connection[Any]", partition: Partition) -> int:
    return read_by(plan_of(connection, f"select sum(price) from {SOURCE}.clicks where {of_day(partition)}"))


def read_by(plan: dict[str, Any]) -> int:
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


def wal_bytes(connection: "psycopg.Connection[Any]") -> int:
    row = connection.execute("select pg_current_wal_lsn() - '0/0'").fetchone()
    assert row is not None
    return int(row[0])


def read_across(connection: "psycopg.Connection[Any]") -> None:
    print("\n| A day across all accounts | buffers | time |\n|---|---|---|")
    connection.execute(f"vacuum analyze {SOURCE}.clicks")
    for how in ("with the index on the day", "without it"):
        if how == "without it":
            connection.execute(f"drop index {SOURCE}.clicks_report_date_idx")
        statement = f"select sum(price) from {SOURCE}.clicks where report_date = '2026-03-08'"
        plans = [plan_of(connection, statement) for _ in range(3)]
        fastest = min(plans, key=lambda plan: float(plan["Execution Time"]))
        print(f"| {how} | {read_by(fastest):,} | {fastest['Execution Time']:.0f} ms |", flush=True)
    connection.execute(f"create index clicks_report_date_idx on {SOURCE}.clicks (report_date)")


def copied(dsn: str) -> None:
    """Further days into the large table, and the same once more."""
    print("\n| 20 days of 10,000 rows of one account | server and client, wall |\n|---|---|")
    seconds: dict[str, list[float]] = {}
    for number in range(3):
        for day_index in (True, False):
            account = f"b{number}-{day_index}"
            with psycopg.connect(dsn, autocommit=True) as connection:
                if not day_index:
                    connection.execute(f"drop index {SOURCE}.clicks_report_date_idx")
                connection.execute("checkpoint")
            how = "with the index on the day" if day_index else "without it"
            seconds.setdefault(f"first, {how}", []).append(commits(dsn, account, day_index=day_index))
            seconds.setdefault(f"again, nothing changed, {how}", []).append(commits(dsn, account, day_index=day_index))
            if not day_index:
                with psycopg.connect(dsn, autocommit=True) as connection:
                    connection.execute(f"create index clicks_report_date_idx on {SOURCE}.clicks (report_date)")
    for what, found in seconds.items():
        print(f"| {what} | {min(found):.2f} s |")


def commits(dsn: str, account: str, *, day_index: bool) -> float:
    """The seconds that the commits of 20 days take; each commit compares with the former rows, if there are any."""
    target = PostgresSink(dsn=Secret(dsn), day_index=day_index).open(SOURCE, "r1")
    waiting = []
    for day in range(1, 21):
        partition = Partition("clicks", (("advertiser_id", account), ("report_date", f"2026-04-{day:02d}")))
        rows = [click(one, advertiser_id=account, report_date=date(2026, 4, day)) for one in range(DAY_ROWS)]
        former = target.ledger.entry(SOURCE, partition)
        writer = target.begin([CLICKS], partition)
        writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, rows)))
        entry = an_entry(None, partition, rows=len(rows))
        waiting.append((writer, evolve(entry, version=former.version if former else 0, replaces=former)))
    began = time.perf_counter()
    for writer, entry in waiting:
        writer.commit(entry)
    took = time.perf_counter() - began
    target.close()
    return took


if __name__ == "__main__":
    main()
