"""
Providers drawn from numbers, read for some days in which rows change, answers fail and runs are stopped: after a run in
which nothing failed every target holds the provider's rows, and its ledger agrees.

PENSTOCK_SEEDS=100-200 chooses the numbers of the long run (make soak).
"""

import csv
import io
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import penstock_plugins
import psycopg
import pytest
from attrs import define, evolve, field
from penstock import Project, UsageError
from penstock.sandbox.server import Server, serve
from penstock.testing import FakeClock
from postgres_server import server as postgres
from seeded_provider import Plain, SeededProvider, plain

pytestmark = pytest.mark.slow

TARGETS = ("jsonl", "csv", "postgresql", "parquet", "duckdb")
FEW = (8, 14, 20, 33, 61, 103)  # most traits, in the time of a test run
_FROM, _TO = map(int, os.environ.get("PENSTOCK_SEEDS", "200-300").split("-"))

# What happens between two looks at the target.
STEPS = (
    "read",
    "read",
    "failures",
    "failures",
    "stopped",
    "forgotten",
    "rows forgotten",
    "some accounts",
    "some days",
    "in shards",
    "unfit",
    "another column",
)


@define(eq=False, kw_only=True)
class Weeks:
    """A provider and a target over some days. ``done`` is what happened, for the message of a failure."""

    provider: SeededProvider
    server: Server
    target: str
    chance: Random
    done: list[Any] = field(factory=list)

    def project(self, stop: threading.Event | None = None) -> Project:
        traits = self.provider.traits
        source: dict[str, Any] = {"base_url": self.server.base_url, "timezone": traits.zone, "retries": 4}
        source |= {"retry_first_s": 0.01, "retry_max_s": 0.02, "concurrency": self.chance.choice([1, 4])}
        if traits.zones and not traits.zones_listed:
            source["accounts"] = {shop: {"timezone": zone} for shop, zone in traits.zones.items()}
        return Project(
            {"source": {"shop": source}},
            plugins=[self.provider, penstock_plugins],
            environ={},
            clock=lambda given: FakeClock(self.provider.now, stop or given),
        )

    def run(self, stop: threading.Event | None = None, **chosen: Any) -> int:
        names = [stream.name for stream in self.provider.streams]
        chosen = {"since": self.provider.traits.first, **chosen}
        result = self.project(stop).run("shop", to=self.target, streams=names, **chosen)
        self.done.append((result.exit_code, [str(error)[:200] for error in result.report["errors"][:2]]))
        return result.exit_code

    def killed_run(self) -> None:
        """A run in a process of its own, which is killed at one of the named points."""
        left = self.chance.randrange(1, 30)

        def pass_point(name: str) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

        process = os.fork()
        if process == 0:
            try:
                for module in list(sys.modules.values()):
                    if hasattr(module, "fault_point"):
                        module.fault_point = pass_point
                self.run()
            finally:
                os._exit(0)
        self.done.append(("killed", os.waitpid(process, 0)[1]))

    def chosen_runs(self, what: str) -> None:
        """Runs of a part of the work."""
        traits, chance = self.provider.traits, self.chance
        if what == "some accounts" and traits.shops:
            self.run(accounts=chance.sample(traits.shops, chance.randrange(1, len(traits.shops) + 1)))
        elif what == "some days" and traits.kind == "report":
            first = traits.first + timedelta(days=chance.randrange(6))
            self.run(since=first, until=first + timedelta(days=chance.randrange(2)))
        elif what == "in shards" and not self.target.startswith("duckdb"):
            for shard in chance.sample(["1/3", "2/3", "3/3"], 3):
                self.run(shard=shard)

    def unfit_row(self) -> None:
        """A row that fits no record, and a run that reads all days again once the provider has mended it."""
        provider = self.provider
        rows = [row for own in provider.rows.values() for row in own.values()]
        if not rows:
            return
        row = self.chance.choice(rows)
        provider.unfit = row["id"]
        assert self.run() in (0, 1, 5), self
        provider.unfit = ""
        self.run(full=True)

    def forget(self, *, rows: bool) -> None:
        first = self.provider.traits.first + timedelta(days=self.chance.randrange(6))
        days = {"since": first, "until": first + timedelta(days=self.chance.randrange(3))}
        kind = self.provider.traits.kind
        if rows and kind == "changes":
            return
        with suppress(UsageError):  # nothing was delivered yet
            self.project().forget("shop", "entries", to=self.target, rows=rows, **({} if kind == "snapshot" else days))

    def step(self, what: str) -> None:
        provider, hours = self.provider, self.chance.choice([0, 0, 7, 24, 24, 48])
        provider.now += timedelta(hours=hours)
        for _ in range(self.chance.randrange(4)):
            provider.change()
        self.done.append((what, hours))
        provider.failing = what in ("failures", "killed")
        provider.moving = provider.failing and self.shows_what_moves()
        if what == "killed":
            self.killed_run()
        elif what == "stopped":
            stop = threading.Event()
            provider.stop_soon(stop)
            self.run(stop)
            provider.stop = None
        elif "forgotten" in what:
            self.forget(rows="rows" in what)
        elif what == "failures":
            self.run()
        elif what == "unfit":
            self.unfit_row()
        elif what == "another column":
            provider.new_column = True
        else:
            self.chosen_runs(what)
        provider.moving = provider.failing = False
        if what not in ("failures", "killed", "stopped"):
            self.look()

    def shows_what_moves(self) -> bool:
        """
        Whether a reader can see, or will read again, that a row left the listing between two of its pages. A listing
        without a total hides it, and its rows of days that are closed are not read again.
        """
        traits = self.provider.traits
        return bool(
            (traits.total and not traits.keyless)
            or traits.report
            or not traits.paging
            or (traits.kind != "changes" and traits.days == 1 and not traits.keyless)
        )

    def look(self) -> None:
        """A run in which nothing fails, and what the target then holds."""
        assert self.run() == 0, self
        if self.provider.traits.report:  # a report that an earlier run submitted has the rows of that time
            assert self.run() == 0, self
        for stream in self.provider.streams:
            if stream.name != "shops" and not (stream.name == "lines" and stream.kind == "changes"):
                expected, found = Counter(self.provider.truth(stream.name)), Counter(self.stored(stream.name))
                assert (expected - found, found - expected) == (Counter(), Counter()), self
        verified = self.project().verify("shop", to=self.target)
        assert (verified.differences, verified.exit_code) == ((), 0), self

    def stored(self, stream: str) -> list[Plain]:
        rows = []
        for row in rows_of(self.target, stream):
            shop = row["shop_id"] if self.provider.traits.shops else ""
            if stream == "entries":
                size = None if row["size"] in (None, "") else int(row["size"])
                id_ = "" if self.provider.traits.keyless else row["id"]
                more = (row.get("currency") or row.get("amount_currency") or "", row.get("group_name") or "")
                rows.append((shop, id_, plain(row["amount"]), row["note"] or None, size, *more))
            else:
                rows.append((shop, row["id"], plain(row["price"]), int(row["number"])))
        return rows

    def __str__(self) -> str:
        return f"provider {self.provider.seed}: {self.provider.traits}\n{self.target}\n{self.done}"


def rows_of(target: str, stream: str) -> list[dict[str, Any]]:
    """The rows of a stream, as a reader of the target finds them."""
    kind, _, place = target.partition(":")
    if kind == "postgresql":
        with psycopg.connect(target) as connection:
            if connection.execute("select to_regclass(%s)", (f"shop.{stream}",)).fetchone() == (None,):
                return []
            cursor = connection.execute(f"select * from shop.{stream}")
            names = [one.name for one in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor]
    if kind == "duckdb":
        import duckdb

        with duckdb.connect(place, read_only=True) as connection:
            tables = "select 1 from information_schema.tables where table_schema = 'shop' and table_name = ?"
            if not connection.execute(tables, (stream,)).fetchall():
                return []
            cursor = connection.execute(f"select * from shop.{stream}")
            names = [one[0] for one in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    paths = [path for path in Path(place, "shop", stream).rglob(f"*.{kind}") if ".penstock" not in path.parts]
    if kind == "parquet":
        from pyarrow import parquet

        return [row for path in paths for row in parquet.ParquetFile(path).read().to_pylist()]
    if kind == "csv":
        return [row for path in paths for row in csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))]
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").split("\n") if line]
    return [json.loads(line, parse_float=Decimal) for line in lines]


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgresql":
        with postgres().database() as dsn:
            yield dsn
    else:
        pytest.importorskip({"parquet": "pyarrow.parquet", "duckdb": "duckdb"}.get(request.param, "json"))
        yield f"{request.param}:{tmp_path / 'out'}"


def end_sessions(dsn: str) -> None:
    """End every other session of a database, as a restart of its server does."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )


def weeks(seed: int, target: str, steps: tuple[str, ...], number: int) -> None:
    chance = Random(seed)
    provider = SeededProvider(seed=seed)
    if target.startswith("postgresql"):
        provider.disturb = lambda: end_sessions(target)
    with serve(provider) as server:
        world = Weeks(provider=provider, server=server, target=target, chance=chance)
        for _ in range(number):
            world.step(chance.choice(steps))
        world.look()


@pytest.mark.parametrize(
    ("seed", "target"),
    [
        *((seed, kind) for seed in FEW for kind in ("jsonl", "postgresql")),
        *((8, "csv"), (103, "csv"), (14, "parquet"), (33, "duckdb")),
        *(pytest.param(seed, "csv", marks=pytest.mark.large) for seed in FEW[1:-1]),
    ],
    indirect=["target"],
)
def test_a_target_holds_the_rows_of_any_provider(seed: int, target: str) -> None:
    """
    The traits of the provider may be any together, after any fault.
    """
    weeks(seed, target, STEPS, 3)


@pytest.mark.soak
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("target", TARGETS, indirect=True)
@pytest.mark.parametrize("seed", range(_FROM, _TO))
def test_a_target_holds_the_rows_of_any_provider_after_kills(seed: int, target: str) -> None:
    """
    A target holds the rows of any provider after more steps, and after runs that are killed where it hurts.
    """
    weeks(seed, target, (*STEPS, "killed"), 6)


@pytest.mark.parametrize("target", TARGETS[:3], indirect=True)
def test_derived_rows_of_several_days_in_one_request_are_of_their_own_day(target: str) -> None:
    """
    Each row of a derived stream is written with the day of its parent's row, and replaced with that day.
    """
    provider = SeededProvider(seed=14)
    provider.traits = evolve(
        provider.traits,
        kind="report",
        report="",
        days=3,
        lines="derived",
        stamped=False,
        too_large=False,
        zones={},
        ceiling=None,
        open_days=1,
    )
    with serve(provider) as server:
        world = Weeks(provider=provider, server=server, target=target, chance=Random(14))
        world.look()
        provider.now += timedelta(days=1)
        for _ in range(20):
            provider.change()
        world.look()

    assert len({date.fromisoformat(str(row["entry_day"])) for row in rows_of(target, "lines")}) > 3
