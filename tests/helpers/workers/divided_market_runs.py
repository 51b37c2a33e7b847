"""
Runs of the market in processes of their own: shards, and runs that are divided among workers.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import market
import penstock_plugins
import psycopg
import pytest
import thread_engine
from attrs import define
from market import ALL, WINDOW, Market, shown
from penstock import Project
from psycopg.rows import dict_row
from time_machine import escape_hatch

HELPERS = Path(__file__).parents[1]


def environ() -> dict[str, str]:
    """For a process that imports the market: the helpers of the tests, and the clock of the test."""
    ahead_s = time.time() - escape_hatch.time.time()
    path = os.pathsep.join(map(str, sorted(HELPERS.glob("[a-z]*"))))
    return {**os.environ, "PYTHONPATH": path, "PENSTOCK_TEST_AHEAD_S": str(ahead_s)}


SHARD_RUN = """
import sys, market, penstock_plugins
from penstock import Project
config, target, since, until, *more = sys.argv[1:]
result = Project(config, plugins=[market, penstock_plugins]).run(
    "market", to=target, since=since, until=until, **dict(one.split("=") for one in more)
)
print(result.summary, result.report["errors"], file=sys.stderr)
sys.exit(result.exit_code)
"""


@define(eq=False)
class MarketRuns:
    """The imitation, served; a folder with a configuration; and a target."""

    app: Market
    folder: Path
    target: str

    def configure(self, base_url: str, **more: Any) -> None:
        values = {"base_url": base_url, "password": "sesame", "retry_first_s": 0.01, "retry_max_s": 0.05, **more}
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        (self.folder / "penstock.toml").write_text("\n".join(["[source.market]", *lines, ""]))

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                SHARD_RUN,
                str(self.folder / "penstock.toml"),
                self.target,
                *map(str, WINDOW),
                *words,
            ],
            env=environ(),
            stderr=subprocess.PIPE,
            text=True,
        )

    def finished(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        _, printed = process.communicate()
        return process.returncode, printed

    def rows(self, stream: str) -> list[tuple[Any, ...]]:
        if self.target.startswith("jsonl:"):
            root = Path(self.target.removeprefix("jsonl:")) / "market" / stream
            return shown(
                stream,
                [json.loads(line) for file in root.rglob("data.jsonl") for line in file.read_text().splitlines()],
            )
        with psycopg.connect(self.target, row_factory=dict_row) as connection:
            return shown(stream, connection.execute(f'select * from market."{stream}"').fetchall())

    def assert_true(self) -> None:
        """The target holds the provider's rows, each once."""
        for stream in ALL:
            assert self.rows(stream) == self.app.expected(stream), stream


# A run in a process of its own, so that signals reach it and it can be killed. Prints its report, or why there is none.
DIVIDED_RUN = """
import json, signal, sys, threading
import market, penstock_plugins
from penstock import PenstockError, Project

if __name__ == "__main__":
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    config, target, since, until, more = sys.argv[1:]
    try:
        result = Project(config, plugins=[market, penstock_plugins]).run(
            "market", to=target, since=since, until=until, stop=stop, **json.loads(more)
        )
    except PenstockError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        sys.exit(2)
    print(json.dumps({**result.report, "summary": result.summary}), flush=True)
    sys.exit(result.exit_code)
"""


class DividedRuns(MarketRuns):
    """A world whose runs are divided among processes. ``sink``: the name of its target, where it has one."""

    sink: str = ""

    def start(self, **more: Any) -> "subprocess.Popen[str]":  # type: ignore[override]
        script = self.folder / "run.py"
        script.write_text(DIVIDED_RUN)
        return subprocess.Popen(
            [
                *(
                    sys.executable,
                    str(script),
                    str(self.folder / "penstock.toml"),
                    self.sink or self.target,
                    *map(str, self.app.window),
                ),
                json.dumps({"workers": 2, **more}),
            ],
            env=environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self, process: "subprocess.Popen[str]") -> tuple[int, dict[str, Any]]:
        """Exit code and report; a traceback is a failure."""
        out, printed = process.communicate()
        assert "Traceback" not in printed, printed
        return process.returncode, json.loads(out) if out.strip() else {"printed": printed}

    def run(self, **more: Any) -> tuple[int, dict[str, Any]]:
        return self.ended(self.start(**more))

    def run_here(self, *plugins: Any, **more: Any) -> tuple[int, dict[str, Any]]:
        """A run divided among threads of this process, which start at once."""
        project = Project(self.folder / "penstock.toml", plugins=[market, penstock_plugins, thread_engine, *plugins])
        days = {"since": WINDOW[0], "until": WINDOW[1]}
        result = project.run("market", **{"to": self.target, "engine": "threads", "workers": 2, **days, **more})
        return result.exit_code, dict(result.report)


def counts(report: dict[str, Any]) -> dict[str, Any]:
    """The counts of a report that do not depend on times."""
    streams = report["sources"]["market"]["streams"]
    return {
        name: {key: one[key] for key in ("partitions", "records", "promised", "rejected", "repeated", "restated")}
        for name, one in streams.items()
    }


def base_url(world: MarketRuns) -> str:
    found = re.search(r'base_url = "(.*)"', (world.folder / "penstock.toml").read_text())
    assert found is not None
    return found[1]


def worker_pids(parent: int) -> list[int]:
    """The worker processes of a run; multiprocessing's helper is none."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            command = (status.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == parent and "spawn_main" in command:
            found.append(int(status.parent.name))
    return found


def is_running(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has waited for yet, as under a slow init, has."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the tests find processes in /proc")
