"""
Every reading connector into a real Postgres by the command line: killed, cut off, restated, and watched by readers.
"""

import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import define, field
from command_in_subprocess import command, finished
from penstock.sandbox.server import serve
from postgres_bench import Bench, made_bench
from postgres_server import server as postgres
from providers import CONVERTR, PROVIDERS, TALROO, Provider, Row
from waits import eventually

pytestmark = pytest.mark.slow

POINTS = ("postgres.begun", "postgres.written", "postgres.recorded", "postgres.committed")


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Parametrised indirectly by a provider."""
    provider: Provider = request.param
    with postgres().database() as dsn, serve() as web:
        made = made_bench(provider, web, tmp_path, dsn)
        yield made
        assert web.errors == []


def benches(*providers: Provider) -> Any:
    return pytest.mark.parametrize("bench", providers, ids=[one.name for one in providers], indirect=True)


def killed_at_request(bench: Bench, number: int) -> None:
    """A run whose process ends at the moment its request of this number arrives (or later, with the run)."""
    seen, started = bench.request_count, list[subprocess.Popen[bytes]]()

    def kill(count: int) -> None:
        if count - seen == number and started:
            started[0].kill()

    bench.on_request = kill
    started.append(bench.start("--full"))
    started[0].communicate()
    bench.on_request = lambda number: None


def cut_off_at_request(bench: Bench, number: int) -> tuple[int, str]:
    """A run whose session the server ends when its request of this number arrives."""
    seen = bench.request_count

    def cut(count: int) -> None:
        if count - seen == number:
            bench.query(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name like 'penstock 2%' and datname = current_database()"
            )

    bench.on_request = cut
    found = bench.run("--full")
    bench.on_request = lambda number: None
    return found


@benches(*PROVIDERS.values())
def test_tables_hold_what_the_provider_holds(bench: Bench) -> None:
    """
    A run delivers every stream exactly; a second finds all that is final.
    """
    code, printed = bench.run()
    assert code == 0, printed
    bench.assert_true()
    code, printed = bench.run()
    assert code == 0, printed
    bench.assert_true()


@pytest.mark.parametrize("point", POINTS)
@benches(CONVERTR)
@pytest.mark.large
def test_killed_at_every_point(bench: Bench, point: str) -> None:
    """
    Killed at any step of a commit, the next run, started at once, leaves exactly the provider's rows.
    """
    code, _ = bench.run(environ={"PENSTOCK_KILL_AT": f"{point}:2"})
    assert code == -signal.SIGKILL

    code, printed = bench.run()

    assert code == 0, printed
    bench.assert_true()


@benches(TALROO)
def test_a_table_that_cannot_be_used_ends_the_run_before_any_request(bench: Bench) -> None:
    """
    Exit code 2, the table and what to do by name; also when every day is final and nothing would be written.
    """
    assert bench.run()[0] == 0
    before = bench.request_count
    bench.query("alter table talroo.clicks rename to kept; create table talroo.clicks (click_id text)")

    for words in ((), ("--until", str(bench.days[0]))):
        code, printed = bench.run(*words)

        assert code == 2, printed
        assert "talroo.clicks" in printed
        assert "was not made by penstock." in printed
        assert bench.request_count == before


@benches(TALROO)
@pytest.mark.large
def test_a_table_is_adopted_by_command(bench: Bench) -> None:
    """
    A table whose comment and number are lost is refused; check --adopt needs --yes, and the next run goes on.

    All such tables can be adopted at once, each if its rows are those of the ledger.
    """
    assert bench.run()[0] == 0
    lose = "comment on table talroo.clicks is null; update penstock.tables set relation = 1"
    bench.query(lose)
    words = ("check", "talroo", "--adopt", "talroo.clicks", "--to", bench.dsn)
    code, printed = bench.run()
    assert code == 2, printed
    assert "penstock check talroo --adopt talroo.clicks" in printed

    code, printed = finished(bench.folder, *words)
    assert code == 2, printed
    assert "Add --yes to adopt the table" in printed
    assert finished(bench.folder, *words, "--yes")[0] == 0
    assert bench.run()[0] == 0
    bench.assert_true()

    every = ("check", "--adopt", "all", "--to", bench.dsn)
    bench.query(lose)
    assert "Add --yes to adopt the table" in finished(bench.folder, *every)[1]
    assert finished(bench.folder, *every, "--yes")[0] == 0
    assert finished(bench.folder, *every)[0] == 0  # none is left to adopt
    bench.query(lose)
    bench.query("delete from talroo.clicks where report_date = (select min(report_date) from talroo.clicks)")
    for chosen in (words, every):
        code, printed = finished(bench.folder, *chosen, "--yes")
        assert code == 1, printed
        assert "0 rows in talroo.clicks" in printed


@benches(TALROO)
def test_the_server_ends_the_session(bench: Bench) -> None:
    """
    A session that the server ends is opened again, and the run goes on and delivers all. `status` reads its ledger.
    """
    code, printed = cut_off_at_request(bench, 3)

    assert code == 0, printed
    bench.assert_true()

    process = command(bench.folder, "status", bench.provider.name, "--to", bench.dsn, "--json")
    out, said_too = process.communicate()
    assert process.returncode == 0, said_too
    assert bench.provider.streams[0] in out.decode()


@benches(TALROO)
@pytest.mark.parametrize(("words", "code"), [((), 130), (("--deadline", "4s"), 4)], ids=["SIGTERM", "deadline"])
@pytest.mark.large
def test_a_run_that_waits_for_a_lock_ends(bench: Bench, words: tuple[str, ...], code: int) -> None:
    """
    A run that waits for somebody else's lock on a table ends within ten seconds of SIGTERM, or of its deadline, and the
    next run goes on.
    """
    assert bench.run()[0] == 0
    with psycopg.connect(bench.dsn) as other:
        other.execute("lock table talroo.clicks in share mode")
        process = bench.start("--full", *words)
        eventually(lambda: bench.query("select 1 from pg_locks where not granted"))
        if not words:
            process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        _, printed = process.communicate()
        waited = time.monotonic() - began

    assert process.returncode == code, printed.decode()
    assert waited < 10 + (4 if words else 0)  # the promise; the lock alone would be waited for 60 s
    assert b"Traceback" not in printed
    assert bench.run()[0] == 0
    bench.assert_true()


def test_restated_days_record_rows_and_sums_that_moved(tmp_path: Path) -> None:
    """
    Days that the provider restated equal its new truth; table and report record what came, went, changed and moved.
    """
    with postgres().database() as dsn, serve() as web:
        bench = made_bench(TALROO, web, tmp_path, dsn)
        assert bench.run()[0] == 0
        before = by_partition(bench.truth()["clicks"])
        for day in bench.days:
            bench.app.restate(day)
        after = by_partition(bench.truth()["clicks"])

        code, printed = bench.run("--full")

        assert code == 0, printed
        bench.assert_true()
        found = {
            (row["partition"]["advertiser_id"], row["partition"]["report_date"]): row
            for row in bench.query("select * from penstock.restatements")
        }
        restated = {key for key in {*before, *after} if before.get(key, {}) != after.get(key, {})}
        assert restated
        assert set(found) == restated
        for key, row in found.items():
            old, new = before.get(key, {}), after.get(key, {})
            assert (row["rows_before"], row["rows_after"]) == (len(old), len(new))
            assert row["came"] == len(new.keys() - old.keys())
            assert row["went"] == len(old.keys() - new.keys())
            assert row["changed"] == sum(old[one] != new[one] for one in old.keys() & new.keys())
        reported = bench.report()["sources"]["talroo"]["streams"]["clicks"]["restated"]
        assert {(one["came"], one["went"], one["changed"]) for one in reported} == {
            (row["came"], row["went"], row["changed"]) for row in found.values()
        }


def by_partition(rows: list[Row]) -> dict[tuple[str, str], dict[str, Row]]:
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        found.setdefault((row["advertiser_id"], str(row["report_date"])), {})[row["click_id"]] = row
    return found


# Partitions of which the table has other rows, or another sum, than the ledger counts; in one snapshot.
COUNT = """
    select c.advertiser_id, c.report_date, c.rows, c.total, p.rows, p.total from
    (select advertiser_id, report_date::text, count(*) as rows, sum(price_amount) as total
     from talroo.clicks group by 1, 2) c
    full join (select account, day, rows, (sums::jsonb ->> 'price_amount')::numeric as total from penstock.partitions
     where stream = 'clicks' and state = 'delivered') p on (p.account, p.day) = (c.advertiser_id, c.report_date)
    where (coalesce(c.rows, 0), coalesce(c.total, 0)) <> (coalesce(p.rows, 0), coalesce(p.total, 0))"""


@define
class Reader:
    """
    Polls a table as often as it can: remembers what each partition looked like, and where table and ledger disagreed.
    """

    dsn: str
    seen: dict[str, set[tuple[str, ...]]] = field(factory=dict)
    wrong: list[tuple[Any, ...]] = field(factory=list)
    polls: int = 0
    _stop: threading.Event = field(factory=threading.Event)

    def poll(self) -> None:
        statement = (
            "select advertiser_id || '/' || report_date, array_agg(click_id || ' ' || coalesce(price, '') order by "
            "click_id) from talroo.clicks group by advertiser_id, report_date"
        )
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while not self._stop.is_set():
                for partition, rows in connection.execute(statement):
                    self.seen.setdefault(partition, set()).add(tuple(rows))
                self.wrong += connection.execute(COUNT.encode()).fetchall()
                self.polls += 1

    def __enter__(self) -> "Reader":
        self._thread = threading.Thread(target=self.poll)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    _thread: threading.Thread = field(init=False)


def states(bench: Bench) -> dict[str, tuple[str, ...]]:
    """What a reader may see of each partition now."""
    return {
        f"{advertiser}/{day}": tuple(sorted(f"{one['click_id']} {one['price'] or ''}" for one in rows.values()))
        for (advertiser, day), rows in by_partition(bench.truth()["clicks"]).items()
    }


def disturbed(bench: Bench, moments: int, draw: random.Random, clicks_per_day: int = 40) -> None:
    """
    Runs that are killed or cut off at random moments while days are restated and a reader counts; then one that is not.
    """
    bench.app.clicks_per_day = clicks_per_day
    assert bench.run()[0] == 0
    allowed: dict[str, set[tuple[str, ...]]] = {}
    with Reader(bench.dsn) as reader:
        for moment in range(moments):
            for partition, rows in states(bench).items():
                allowed.setdefault(partition, set()).add(rows)
            if moment % 3 == 0:
                bench.app.restate(draw.choice(bench.days))
                for partition, rows in states(bench).items():
                    allowed.setdefault(partition, set()).add(rows)
            match draw.randrange(4):
                case 0:
                    cut_off_at_request(bench, draw.randint(1, 6))
                case 1:
                    killed_at_request(bench, draw.randint(1, 6))
                case 2:
                    point = draw.choice(POINTS)
                    bench.run("--full", environ={"PENSTOCK_KILL_AT": f"{point}:{draw.randint(1, 5)}"})
                case _:
                    process = bench.start("--full")
                    time.sleep(draw.uniform(0.25, 0.9))
                    process.kill()
                    process.communicate()
        code, printed = bench.run("--full")
    assert code == 0, printed
    bench.assert_true()
    assert reader.polls > moments
    assert max(map(len, reader.seen.values())) > 1
    assert reader.wrong == []
    for partition, seen in reader.seen.items():
        assert seen <= allowed[partition], partition


@benches(TALROO)
@pytest.mark.large
def test_disturbed_at_random_moments(bench: Bench) -> None:
    """
    Killed and cut off again and again: a reader only ever sees a partition as it was or as it is.
    """
    disturbed(bench, 4, random.Random(5))


@pytest.mark.soak
@benches(TALROO)
@pytest.mark.parametrize("clicks_per_day", [40, 1500], ids=["small", "copied"])
@pytest.mark.parametrize("seed", range(4))
def test_disturbed_at_many_moments(bench: Bench, seed: int, clicks_per_day: int) -> None:
    """
    A reader only ever sees a partition as it was or as it is, while runs are disturbed fifty times, with small
    partitions and with large ones.
    """
    disturbed(bench, 50, random.Random(seed), clicks_per_day)
