"""
Divided runs of which processes are killed at random moments, round after round: the rows, the reports and the limits
are counted at the provider and in the target.
"""

import os
import random
import time
from datetime import timedelta
from typing import Any

import many
import psycopg
import pytest
from attrs import define
from test_dask import Cluster, cluster, configure, free, world
from test_workers import Divided, base_url, eventually, linux, worker_pids

__all__ = ["cluster", "world"]  # fixtures

pytestmark = linux
REQUESTS = 96  # of a run, at least
ROUNDS = int(os.environ.get("PENSTOCK_ROUNDS", "10"))  # of each seed


@define(eq=False)
class Kills:
    """Rounds of a killed run and the run after it, each in an empty target."""

    world: Divided
    cluster: Cluster | None
    chance: random.Random

    def round(self) -> str:
        """Returns what was done, for the test's output."""
        app = self.world.app
        with psycopg.connect(self.world.target, autocommit=True) as connection:
            connection.execute("set client_min_messages = warning")
            connection.execute("drop schema if exists many, penstock cascade")
        app.forget()
        app.slow_s = 0.02
        process = self.world.start(**self._engine(first=True))
        moment = self.chance.randrange(REQUESTS)
        eventually(lambda: sum(app.asked.values()) >= moment or process.poll() is not None, 600)
        time.sleep(self.chance.uniform(0, 0.05))
        victim = self.chance.choice(
            ["worker", "two workers", "scheduler", "client"] if self.cluster else ["worker", "client"]
        )
        self._kill(victim, process)
        began = time.monotonic()
        code, report = self.world.ended(process)
        # 0: the run had ended, or others took over; 1: a part was lost; 2: not even begun, so nothing was requested.
        survives = self.cluster is not None and "worker" in victim
        possible = {"client": (-9, 0), "scheduler": (0, 1, 2)}.get(victim, (0, 2) if survives else (0, 1))
        assert code in possible, report
        assert code != 2 or not app.asked, report
        if survives and code == 0:  # one report and one set of rows, as if nothing had happened
            self.world.assert_true()
            delivered = sum(one["partitions"]["delivered"] for one in report["sources"]["many"]["streams"].values())
            assert delivered == 85, report
        engine = self._engine(first=False)
        code, report = eventually(lambda: free(self.world.run(**engine)), 600)
        assert code == 0, report
        self.world.assert_true()
        assert app.submitted_again() == []
        assert app.at_once <= 4
        return f"{victim} killed at request {moment}; {time.monotonic() - began:.0f} s until the next run had ended"

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
        elif victim == "scheduler":
            self.cluster.close()
            self.cluster.workers.clear()
            self.cluster.start(workers=2)
        else:
            for _ in range(2 if victim == "two workers" else 1):
                gone = self.cluster.workers.pop(0)
                gone.kill()
                gone.wait()
                self.cluster.add()
                time.sleep(self.chance.uniform(0, 0.5))


def kills(world: Divided, cluster: Cluster | None, seed: int, rounds: int) -> None:
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
@pytest.mark.parametrize("seed", range(10))
def test_kills_over_dask(world: Divided, cluster: Cluster, seed: int) -> None:
    """
    Workers, the scheduler or the client are killed at a random request: the run after it, started at once, leaves
    exactly the provider's rows, no report is submitted again whose handle was read, and the limits hold.
    ``PENSTOCK_ROUNDS`` sets the rounds of each seed.
    """
    kills(world, cluster, seed, ROUNDS)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_kills_of_processes(world: Divided, seed: int) -> None:
    """
    The same for a run by processes of this machine, of which a worker or the parent is killed.
    """
    kills(world, None, seed, ROUNDS)


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("engine", ["processes", "dask"])
def test_sixty_accounts_of_forty_days(world: Divided, cluster: Cluster, engine: str, workers: int) -> None:
    """
    Any number of workers leaves the same rows from the same requests, within the source's limit; a second run finds
    all final.
    """
    app = world.app
    app.shops = tuple(f"shop{number}" for number in range(1, 61))
    app.window = (many.FIRST, many.FIRST + timedelta(days=39))
    configure(world, base_url(world), "concurrency = 8", shops=app.shops)
    more: dict[str, Any] = {"workers": workers, "streams": ["sales", "items", "stock"]}
    if engine == "dask":
        more["engine"] = cluster.start(workers=workers).engine

    code, report = world.run(**more)

    assert code == 0, report
    for stream in more["streams"]:
        assert world.rows(stream) == app.expected(stream), stream
    asked = {name: count for name, count in app.asked.items() if name != "login"}
    assert asked == {"sales": 60 * 40, "items": 60, "stock": 3 * 60}
    assert app.asked["login"] == (workers if engine == "dask" else 1)  # one for each part, without TLS
    assert app.at_once <= 8
    print(f"{engine}, {workers} workers: {report['seconds']:.1f} s, {app.at_once} requests at once")
    app.forget()
    code, report = world.run(**more)
    assert code == 0, report
    assert app.asked["sales"] == 0
    assert report["sources"]["many"]["streams"]["sales"]["partitions"]["skipped"] == 60 * 40


@pytest.mark.large
def test_some_kills_over_dask(world: Divided, cluster: Cluster) -> None:
    """
    The same, for some rounds.
    """
    kills(world, cluster, 1, 3)


@pytest.mark.large
def test_some_kills_of_processes(world: Divided) -> None:
    """
    The same, for some rounds.
    """
    kills(world, None, 1, 3)
