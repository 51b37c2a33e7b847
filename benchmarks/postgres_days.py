"""
Days in a large Postgres table: replaced a hundred times, read across accounts, and the cost of the index on the day.

::

    .venv/bin/python benchmarks/postgres_days.py [--rows 2000000] [--replacements 100] [--dsn postgresql://...]

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
from penstock.testing.pg import server
from penstock.testing.sinks import CLICKS, SOURCE, an_entry, click, rows_of
from penstock_plugins.postgres.sink import PostgresSink, PostgresTarget

DAY_ROWS = 10_000  # of the day that is replaced
DAYS, ACCOUNTS = 20, 100
DAY = "2026-03-01"
WAYS = ("by differences, a tenth of the rows changed", "by differences, nothing changed", "deleted and inserted")
PARTITION = Partition("clicks", (("advertiser_id", "2112"), ("report_date", DAY)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--replacements", type=int, default=100)
    parser.add_argument("--dsn")
    options = parser.parse_args()
    if options.dsn:
        measure(options.dsn, options.rows, options.replacements)
        return
    with server(autovacuum="on", autovacuum_naptime="1s").database() as dsn:
        measure(dsn, options.rows, options.replacements)


def measure(dsn: str, rows: int, replacements: int) -> None:
    print(f"{rows:,} rows of {ACCOUNTS} accounts and {DAYS} days; a day of {DAY_ROWS:,} rows is replaced.\n")
    print("| The day replaced so many times | how | dead rows left | autovacuum runs | WAL | buffers to read the day |")
    print("|---|---|---|---|---|---|")
    for how in (
        "by differences, a tenth of the rows changed",
        "by differences, nothing changed",
        "deleted and inserted",
    ):
        with psycopg.connect(dsn, autocommit=True) as connection:
            filled(connection, dsn, rows)
            if how == "deleted and inserted":  # as a loader without differences, in a table without settings
                connection.execute(f"alter table {SOURCE}.clicks reset (autovacuum_vacuum_scale_factor)")
                connection.execute(f"alter table {SOURCE}.clicks reset (autovacuum_vacuum_insert_scale_factor)")
            before, wal = buffers(connection, "advertiser_id = '2112' and "), wal_bytes(connection)
            for number in range(1, replacements + 1):
                replace(connection, dsn, how, number)
            written = (wal_bytes(connection) - wal) / replacements / 1e6
            time.sleep(5)  # for autovacuum, and the statistics
            dead, runs = connection.execute(
                "select n_dead_tup, autovacuum_count from pg_stat_user_tables where relname = 'clicks'"
            ).fetchone() or (0, 0)
            after = buffers(connection, "advertiser_id = '2112' and ")
            print(f"| {replacements} | {how} | {dead:,} | {runs} | {written:.2f} MB each | {before} -> {after} |")
    read_across(dsn)
    copied(dsn)


def filled(connection: "psycopg.Connection[Any]", dsn: str, rows: int) -> None:
    """The stream's table, made by the sink, with these rows; the day that is replaced comes from the sink."""
    connection.execute(f"drop schema if exists {SOURCE} cascade")
    connection.execute("drop schema if exists penstock cascade")
    with opened(dsn, "r0") as target:
        deliver(target, 0, 0)
    each = rows // DAYS // ACCOUNTS
    connection.execute(
        f"insert into {SOURCE}.clicks (advertiser_id, report_date, click_id, url, job_id, price, paid) "
        "select 'a' || account, date '2026-02-20' + day, 'c' || number, 'https://jobs.example/' || number, number, "
        f"0.1, true from generate_series(1, {each}) number, generate_series(1, {DAYS}) day, "
        f"generate_series(1, {ACCOUNTS}) account"
    )
    connection.execute(f"vacuum analyze {SOURCE}.clicks")


@contextmanager
def opened(dsn: str, run_id: str) -> Iterator[PostgresTarget]:
    target = PostgresSink(dsn=Secret(dsn)).open(SOURCE, run_id)
    try:
        yield target
    finally:
        target.close()


def deliver(target: PostgresTarget, number: int, changed: int) -> None:
    rows = [click(one, url=f"https://jobs.example/{number if one < changed else 0}") for one in range(DAY_ROWS)]
    former = target.ledger.entry(SOURCE, PARTITION)
    writer = target.begin([CLICKS], PARTITION)
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, rows)))
    entry = an_entry(None, PARTITION, rows=len(rows), run_id=f"r{number}")
    writer.commit(evolve(entry, version=former.version if former else 0, replaces=former))


def replace(connection: "psycopg.Connection[Any]", dsn: str, how: str, number: int) -> None:
    if how == "deleted and inserted":
        where = f"advertiser_id = '2112' and report_date = '{DAY}'"
        with connection.transaction():
            connection.execute(
                f"create temporary table t on commit drop as select * from {SOURCE}.clicks where {where}"
            )
            connection.execute(f"delete from {SOURCE}.clicks where {where}")
            connection.execute(f"insert into {SOURCE}.clicks select * from t")
        return
    with opened(dsn, f"r{number}") as target:
        deliver(target, number, DAY_ROWS // 10 if "tenth" in how else 0)


def plan_of(connection: "psycopg.Connection[Any]", statement: str) -> dict[str, Any]:
    row = connection.execute(f"explain (analyze, buffers, format json) {statement}".encode()).fetchone()
    assert row is not None
    found: dict[str, Any] = row[0][0] if isinstance(row[0], list) else json.loads(row[0])[0]
    return found


def buffers(connection: "psycopg.Connection[Any]", where: str) -> int:
    plan = plan_of(connection, f"select sum(price) from {SOURCE}.clicks where {where}report_date = '{DAY}'")["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def wal_bytes(connection: "psycopg.Connection[Any]") -> int:
    row = connection.execute("select pg_current_wal_lsn() - '0/0'").fetchone()
    assert row is not None
    return int(row[0])


def read_across(dsn: str) -> None:
    print("\n| A day across all accounts | buffers | time |\n|---|---|---|")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"vacuum analyze {SOURCE}.clicks")
        for how in ("with the index on the day", "without it"):
            if how == "without it":
                connection.execute(f"drop index {SOURCE}.clicks_report_date_idx")
            statement = f"select sum(price) from {SOURCE}.clicks where report_date = '{DAY}'"
            plans = [plan_of(connection, statement) for _ in range(3)]
            fastest = min(plan["Execution Time"] for plan in plans)
            print(f"| {how} | {buffers(connection, ''):,} | {fastest:.0f} ms |")


def copied(dsn: str) -> None:
    print("\n| COPY of 20 days of 10,000 rows | server and client, wall |\n|---|---|")
    for day_index in (True, False):
        times = []
        for _ in range(3):
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(f"drop schema if exists {SOURCE} cascade")
                connection.execute("drop schema if exists penstock cascade")
            target = PostgresSink(dsn=Secret(dsn), day_index=day_index).open(SOURCE, "r1")
            commits = []
            for day in range(1, 21):
                partition = Partition("clicks", (("advertiser_id", "2112"), ("report_date", f"2026-03-{day:02d}")))
                rows = [click(one, report_date=date(2026, 3, day)) for one in range(DAY_ROWS)]
                writer = target.begin([CLICKS], partition)
                writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, rows)))
                commits.append((writer, an_entry(None, partition, rows=len(rows))))
            began = time.perf_counter()
            for writer, entry in commits:
                writer.commit(entry)
            times.append(time.perf_counter() - began)
            target.close()
        print(f"| {'with' if day_index else 'without'} the index on the day | {min(times):.2f} s |")


if __name__ == "__main__":
    main()
