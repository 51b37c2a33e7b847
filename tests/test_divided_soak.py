"""
Divided runs of which processes are killed at random moments, round after round: the rows, the reports and the
limits are counted at the provider and in the target.
"""

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import market
import psycopg
import pytest
from attrs import define
from dask_cluster import Cluster, cluster, configure, free, into_both, world
from divided_market_runs import DividedRuns, base_url, linux, worker_pids
from penstock.sandbox.server import serve
from postgres_server import server as postgres
from waits import eventually

__all__ = ["cluster", "world"]  # fixtures

pytestmark = [linux, pytest.mark.slow]
REQUESTS = 96  # of a run, at least
PER_SECOND = 40
ROUNDS = int(os.environ.get("PENSTOCK_ROUNDS", "10"))  # of each seed
patient = pytest.mark.timeout(max(3600, 900 * ROUNDS))


def empty(world: DividedRuns) -> None:
    """An empty target, and counts from the start."""
    world.app.forget()
    if world.target.startswith("jsonl:"):
        shutil.rmtree(directory_of(world), ignore_errors=True)
        return
    with psycopg.connect(world.target, autocommit=True) as connection:
        connection.execute("set client_min_messages = warning")
        connection.execute("drop schema if exists market, penstock cascade")


def directory_of(world: DividedRuns) -> Path:
    return Path(world.target.removeprefix("jsonl:"))


@define(eq=False)
class Kills:
    """Rounds of a killed run and the run after it: from an empty target, or of all days of a full one once more."""

    world: DividedRuns
    cluster: Cluster | None
    chance: random.Random
    run_s: float = 5.0  # how long the last whole run took

    def round(self) -> str:
        """Returns what was done, for the test's output."""
        app = self.world.app
        empty(self.world)
        full = self.chance.random() < 0.5
        if full:
            code, report = self.world.run(workers=2)
            assert code == 0, report
            app.forget()
        app.slow_s = 0.02
        began = time.monotonic()
        process = self.world.start(**self._engine(first=True), full=full)
        if self.chance.random() < 0.5:
            moment = self.chance.randrange(REQUESTS)
            eventually(lambda: sum(app.counts.values()) >= moment or process.poll() is not None, 600)
            time.sleep(self.chance.uniform(0, 0.05))
        else:  # also before the first request and after the last
            time.sleep(self.chance.uniform(0, self.run_s))
        at, requests = time.monotonic() - began, sum(app.counts.values())
        victim = self.chance.choice(
            ["worker", "two workers", "scheduler", "scheduler and workers", "client"]
            if self.cluster
            else ["worker", "client"]
        )
        self._kill(victim, process)
        killed = time.monotonic()
        code, report = self.world.ended(process)
        # 0: the run had ended, or others took over; 1: a shard was lost; 2: not even begun, so nothing was requested.
        survives = self.cluster is not None and "scheduler" not in victim
        possible = (-9, 0) if victim == "client" else (0,) if survives else (0, 1, 2) if self.cluster else (0, 1)
        assert code in possible, report
        assert code != 2 or not app.counts, report
        if survives and code == 0:  # one report and one set of rows, as if nothing had happened
            self.world.assert_true()
            delivered = sum(one["partitions"]["delivered"] for one in report["sources"]["market"]["streams"].values())
            assert delivered == 85, report
        engine = self._engine(first=False)
        began = time.monotonic()
        code, report = eventually(lambda: free(self.world.run(**engine)), 600)
        self.run_s = time.monotonic() - began
        assert code == 0, report
        self.world.assert_true()
        if self.world.target.startswith("jsonl:"):  # what killed workers had staged
            assert list(directory_of(self.world).glob(".penstock/staged/market/*")) == []
        assert app.submitted_again() == []
        assert app.at_once <= 4
        # Twice, since a machine that pauses the provider lets requests arrive together that started apart.
        assert app.most_in_a_second() <= 2 * PER_SECOND
        ended = f"{time.monotonic() - killed:.0f} s to the end"
        return f"{victim} killed after {at:.1f} s and {requests} requests{' of --full' if full else ''}; {ended}"

    def _engine(self, *, first: bool) -> dict[str, Any]:
        """A run after a kill is sometimes carried out by the processes of this machine."""
        if self.cluster is None or not (first or self.chance.random() < 0.5):
            return {"workers": 2}
        return {"engine": self.cluster.engine, "workers": 2}

    def _kill(self, victim: str, process: Any) -> None:
        if victim == "client":
            process.kill()
        elif self.cluster is None:
            if pids := worker_pids(process.pid):
                os.kill(self.chance.choice(pids), 9)
        elif "scheduler" in victim:
            assert self.cluster.scheduler is not None
            self.cluster.scheduler.kill()
            self.cluster.scheduler.wait()
            left, self.cluster.workers = self.cluster.workers, []
            if "workers" in victim:
                for worker in left:
                    worker.kill()
            self.cluster.start(workers=2)
            eventually(lambda: all(worker.poll() is not None for worker in left))
        else:
            for _ in range(2 if victim == "two workers" else 1):
                gone = self.cluster.workers.pop(0)
                gone.kill()
                gone.wait()
                self.cluster.add()
                time.sleep(self.chance.uniform(0, 0.5))


def kills(world: DividedRuns, cluster: Cluster | None, seed: int, rounds: int) -> None:
    configure(world, base_url(world), f"concurrency = 4\nrequests_per_second = {PER_SECOND}")
    if cluster is not None:
        cluster.start(workers=2)
    made = Kills(world, cluster, random.Random(seed))
    for number in range(rounds):
        try:
            print(f"seed {seed}, round {number}: {made.round()}", flush=True)
        except BaseException:
            print(f"seed {seed}, round {number}: failed", flush=True)
            raise


@pytest.mark.soak
@patient
@into_both
@pytest.mark.parametrize("seed", range(10))
def test_kills_over_dask(world: DividedRuns, cluster: Cluster, seed: int) -> None:
    """
    Workers, the scheduler or the client are killed at a random request: the run after it, started at once, leaves
    exactly the provider's rows, no report is submitted again whose handle was read, and the limits hold.
    ``PENSTOCK_ROUNDS`` sets the rounds of each seed.
    """
    kills(world, cluster, seed, ROUNDS)


@pytest.mark.soak
@patient
@pytest.mark.parametrize("seed", range(10))
def test_kills_of_processes(world: DividedRuns, seed: int) -> None:
    """
    A worker or the parent of a run by processes of this machine is killed at a random request: the run after it leaves
    exactly the provider's rows, and the limits hold.
    """
    kills(world, None, seed, ROUNDS)


@pytest.mark.soak
@into_both
@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("engine", ["processes", "dask"])
def test_sixty_accounts_of_forty_days(world: DividedRuns, cluster: Cluster, engine: str, workers: int) -> None:
    """
    Any number of workers leaves the same rows from the same requests, within the source's limit; a second run finds
    all final.
    """
    app = world.app
    app.shops = tuple(f"shop{number}" for number in range(1, 61))
    app.window = (market.FIRST, market.FIRST + timedelta(days=39))
    configure(world, base_url(world), "concurrency = 8", shops=app.shops)
    more: dict[str, Any] = {"workers": workers, "streams": ["sales", "items", "stock"]}
    if engine == "dask":
        more["engine"] = cluster.start(workers=workers).engine

    code, report = world.run(**more)

    assert code == 0, report
    for stream in more["streams"]:
        assert world.rows(stream) == app.expected(stream), stream
    counts = {name: count for name, count in app.counts.items() if name != "login"}
    assert counts == {"sales": 60 * 40, "items": 60, "stock": 3 * 60}
    assert app.counts["login"] == (workers if engine == "dask" else 1)  # one for each shard, without TLS
    assert app.at_once <= 8
    print(f"{engine}, {workers} workers: {report['seconds']:.1f} s, {app.at_once} requests at once")
    app.forget()
    code, report = world.run(**more)
    assert code == 0, report
    assert app.counts["sales"] == 0
    assert report["sources"]["market"]["streams"]["sales"]["partitions"]["skipped"] == 60 * 40


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def hosts(count: int) -> Iterator[list[str]]:
    """Network namespaces, each connected to this machine, whose address for all of them is ``HERE``."""
    names = [f"penstock{number}" for number in range(1, count + 1)]
    try:
        for number, name in enumerate(names, 1):
            ip("netns", "add", name)
            ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("addr", "add", f"10.77.{number}.1/24", "dev", name)
            ip("link", "set", name, "up")
            ip("-n", name, "addr", "add", f"10.77.{number}.2/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "route", "add", "default", "via", f"10.77.{number}.1")
        yield names
    finally:
        for name in names:  # the kernel removes the link of a namespace some time after it
            subprocess.run(["ip", "link", "del", name], capture_output=True)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


HERE = "10.77.1.1"


@contextmanager
def database_for_hosts() -> Iterator[str]:
    """A database that the network namespaces reach."""
    with tempfile.NamedTemporaryFile("w") as rules:
        rules.write("local all all trust\nhost all all 10.77.0.0/16 trust\n")
        rules.flush()
        os.chmod(rules.name, 0o644)
        with postgres(listen_addresses=HERE, hba_file=rules.name).database() as local:
            user, database = local.partition("://")[2].partition("@")[0], local.partition("@/")[2].partition("?")[0]
            yield f"postgresql://{user}@{HERE}/{database}"


def is_under_way(world: DividedRuns) -> bool:
    """Whether the tables are made: a host that is lost while it makes one keeps the others from theirs for a minute."""
    if sum(world.app.counts.values()) <= 30:
        return False
    if world.target.startswith("jsonl:"):
        return True
    with psycopg.connect(world.target) as connection:
        made = connection.execute("select count(*) from pg_tables where schemaname = 'market'").fetchone()
    return made is not None and made[0] >= len(market.ALL)


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and ip")
@pytest.mark.parametrize("sink", ["warehouse", "shared"])
def test_workers_on_hosts_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster, sink: str
) -> None:
    """
    Two workers in network namespaces of their own do the work of one run, also where one of them is killed or its
    network goes down: the other takes over.
    """
    with (
        hosts(2) as names,
        database_for_hosts() if sink == "warehouse" else nullcontext("") as dsn,
        serve(app := market.Market(), host=HERE) as server,
    ):
        world = DividedRuns(app, tmp_path, dsn or f"jsonl:{tmp_path / 'out'}")
        world.sink = sink
        for key, value in (("MARKET_PASSWORD", "sesame"), ("MARKET_DSN", dsn)):
            cluster.environ[key] = value
            monkeypatch.setenv(key, value)
        configure(world, server.base_url, "concurrency = 4\nallow_http = true")
        app.slow_s = 0.05
        for victim in ("nobody", "killed", "cut off"):
            empty(world)
            cluster.start_on(HERE, {f"10.77.{number}.2": name for number, name in enumerate(names, 1)})
            process = world.start(engine=cluster.engine, workers=2)
            eventually(lambda: is_under_way(world) or process.poll() is not None)  # noqa: B023
            began = time.monotonic()
            if victim == "killed":
                cluster.workers[0].kill()
            elif victim == "cut off":
                ip("link", "set", names[1], "down")  # the address of the first is HERE
            code, report = world.ended(process)
            print(f"{victim}: the run ended {time.monotonic() - began:.0f} s later", flush=True)
            assert code == 0, report["errors"]
            world.assert_true()
            assert app.submitted_again() == []
            assert app.at_once <= 4
            cluster.close()
            cluster.workers.clear()
        assert server.errors == []


@pytest.mark.large
@into_both
def test_some_kills_over_dask(world: DividedRuns, cluster: Cluster) -> None:
    """
    Some rounds of kills of Dask's processes.
    """
    kills(world, cluster, 1, 3)


@pytest.mark.large
def test_some_kills_over_tls(world: DividedRuns, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Some rounds of kills where scheduler, workers and client are connected by TLS, and share one token.
    """
    cluster.use_tls(monkeypatch)
    kills(world, cluster, 2, 2)


@pytest.mark.large
def test_some_kills_of_processes(world: DividedRuns) -> None:
    """
    Some rounds of kills of worker processes.
    """
    kills(world, None, 1, 3)
