"""
Runs that are stopped halfway, and the run after them.
"""

import json
import threading
from pathlib import Path
from typing import Any

import market
import penstock_plugins
import pytest
from market import SHOPS, WINDOW, Market, shown
from penstock import Project, SandboxRequest, SandboxResponse
from penstock.sandbox.server import serve

pytestmark = pytest.mark.slow


def test_complete_accounts_are_kept(tmp_path: Path) -> None:
    """
    Stopped in the middle of the fourth account's children, a run delivers the three accounts before it, nothing of the
    fourth, and ends with 130. The next run delivers all.
    """
    stop = threading.Event()

    def at_half(request: SandboxRequest) -> SandboxResponse | None:
        if request.path == "/stock" and app.counts["stock"] == 3 * 3 + 2:
            stop.set()
        return None

    with serve(app := Market(throttled=at_half)) as server:
        (tmp_path / "penstock.toml").write_text(
            f'[source.market]\nbase_url = "{server.base_url}"\npassword = "sesame"\nconcurrency = 1\n'
            f"shops = {json.dumps(SHOPS)}\n"
        )
        project = Project(tmp_path / "penstock.toml", plugins=[market, penstock_plugins])
        result = project.run("market", to=f"jsonl:{tmp_path / 'out'}", streams=["stock"], stop=stop)

        assert result.exit_code == 130
        assert delivered(tmp_path) == [row for row in app.expected("stock") if row[0] in SHOPS[:3]]
        counts = result.report["sources"]["market"]["streams"]["stock"]["partitions"]
        assert (counts["delivered"], counts["failed"]) == (3, 0)

        result = project.run("market", to=f"jsonl:{tmp_path / 'out'}", streams=["stock"])
        assert result.exit_code == 0, result.errors
        assert delivered(tmp_path) == app.expected("stock")


@pytest.mark.parametrize("how", ["full", "forget"])
def test_the_next_run_reads_the_rest_of_changes_of_a_stopped_run(tmp_path: Path, how: str) -> None:
    """
    A run of ``changes`` that reads a day once more reads those after it, too, since rows of an older day must not
    overwrite newer ones. Where it is stopped in between, the next run reads the rest, final days included.
    """
    stop = threading.Event()
    app = Market(shops=("shop1",))

    def at_the_second(request: SandboxRequest) -> SandboxResponse | None:
        if app.counts["events"] == 2:
            stop.set()
        return None

    with serve(app) as server:
        (tmp_path / "penstock.toml").write_text(
            f'[source.market]\nbase_url = "{server.base_url}"\npassword = "sesame"\n'
            'concurrency = 1\nshops = ["shop1"]\n'
        )
        project = Project(tmp_path / "penstock.toml", plugins=[market, penstock_plugins])
        to = f"jsonl:{tmp_path / 'out'}"
        options = {"to": to, "streams": ["events"], "since": WINDOW[0], "until": WINDOW[1]}
        assert project.run("market", **options).exit_code == 0
        assert held_events(tmp_path) == app.expected("events")
        if how == "forget":
            project.forget("market", "events", to=to, since=WINDOW[0], until=WINDOW[0])
        app.forget()
        app.throttled = at_the_second

        assert project.run("market", **options, full=how == "full", stop=stop).exit_code == 130
        assert held_events(tmp_path) != app.expected("events"), "the day that was read has overwritten no newer row"
        app.throttled = lambda request: None
        app.forget()
        assert project.run("market", **options).exit_code == 0

        assert held_events(tmp_path) == app.expected("events")
        assert app.counts["events"] == 3, "the days after the first one"
        assert project.plan("market", **options).partitions == ()


def held_events(folder: Path) -> list[tuple[Any, ...]]:
    files = (folder / "out" / "market" / "events").rglob("data.jsonl")
    return shown("events", [json.loads(line) for file in files for line in file.read_text().splitlines()])


def delivered(folder: Path) -> list[tuple[str, ...]]:
    files = (folder / "out" / "market" / "stock").rglob("data.jsonl")
    return shown("stock", [json.loads(line) for file in files for line in file.read_text().splitlines()])
