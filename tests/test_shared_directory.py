"""
Runs into a directory whose workers count as other machines: they stage files, and the coordinator commits them.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine_engine
import market
import penstock_plugins
import pytest
import thread_engine
from divided_market_runs import MarketRuns, base_url, counts
from market import SHOPS, WINDOW, Market
from penstock import Project, SandboxResponse, TargetError
from penstock.sandbox.server import serve

pytestmark = pytest.mark.slow


class Shared(MarketRuns):
    """A world whose target is a directory that all workers share."""

    def run(self, **more: Any) -> tuple[int, dict[str, Any]]:
        project = Project(
            self.folder / "penstock.toml", plugins=[market, penstock_plugins, thread_engine, machine_engine]
        )
        options = {"engine": "machines", "workers": 2, "since": WINDOW[0], "until": WINDOW[1], **more}
        result = project.run("market", to=self.target, **options)
        return result.exit_code, dict(result.report)

    @property
    def directory(self) -> Path:
        return Path(self.target.removeprefix("jsonl:"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Shared]:
    with serve(app := Market()) as server:
        made = Shared(app, tmp_path, f"jsonl:{tmp_path / 'out'}")
        made.configure(server.base_url, concurrency=4, shops=list(SHOPS))
        yield made
        assert server.errors == []


def test_machines_do_the_work_of_one_run(world: Shared, tmp_path: Path) -> None:
    """
    Rows, counts and descriptions are those of a run by one process; of all kinds of streams. A second run reads what is
    open only. Nothing is left in staging, and the run is recorded once.
    """
    code, report = world.run()

    assert code == 0, report
    world.assert_true()
    alone = Shared(world.app, tmp_path, f"jsonl:{tmp_path / 'alone'}")
    one = alone.run(engine=None, workers=None)[1]
    assert counts(report) == counts(one)
    described = [(shared.directory / "market" / "datapackage.json").read_bytes() for shared in (world, alone)]
    assert described[0] == described[1]
    assert list(world.directory.glob(".penstock/staged/*/*")) == []
    world.app.forget()
    code, report = world.run()
    assert code == 0, report
    world.assert_true()
    assert (world.app.counts["sales"], world.app.counts["events"], world.app.submitted) == (0, 0, [])
    project = Project(world.folder / "penstock.toml", plugins=[market, penstock_plugins])
    (target,) = project.status("market", to=world.target).targets
    assert len(target.sources[0].runs) == 2


def test_a_worker_whose_shard_was_taken_over_replaces_nothing(world: Shared) -> None:
    """
    The requests of a worker whose shard was taken over are refused from then on: it commits no row, and ends. The rows
    are those of one run, and so are the days of changes that the first worker had not merged.
    """
    code, report = world.run(engine=f"taken_over:{world.directory}")

    assert code == 0, report
    world.assert_true()
    (engine,) = machine_engine.taken_over
    machine_engine.taken_over.clear()
    assert engine.changed == []
    assert [set(one) for one in engine.ends] == [{"failed"}, {"failed"}]
    assert all("another worker has taken over" in one["failed"] for one in engine.ends)
    assert world.run()[0] == 0  # opens the target, which removes what they had staged
    assert list(world.directory.glob(".penstock/staged/*/*")) == []


def test_a_failed_merge_is_reported(world: Shared) -> None:
    """
    The coordinator merges at the end of the run. What it cannot is an error of the stream: exit code 1; the next run
    completes it.
    """
    in_the_way = world.directory / "market" / "events" / f"by_shop={SHOPS[0]}" / "data.jsonl"
    world.configure(base_url(world), concurrency=4, shops=SHOPS[1:])
    assert world.run(streams=["events"])[0] == 0
    in_the_way.mkdir(parents=True)
    world.configure(base_url(world), concurrency=4, shops=list(SHOPS))
    code, report = world.run()

    assert code == 1, report
    assert [(one["stream"], f"{in_the_way} is" in one["reason"]) for one in report["errors"]] == [("events", True)]
    in_the_way.rmdir()
    assert world.run()[0] == 0
    world.assert_true()


def test_a_failure_is_reported_as_ever(world: Shared) -> None:
    """
    Partitions that fail in a worker are errors of the run, and in the ledger: exit code 1, all others are delivered.
    """
    world.app.throttled = lambda request: SandboxResponse(status=404) if "shop2" in request.target else None

    code, report = world.run(streams=["sales"])

    assert code == 1, report
    assert {one["partition"]["shop"] for one in report["errors"]} == {"shop2"}
    assert len(world.rows("sales")) == 5 * 4 * 5
    project = Project(world.folder / "penstock.toml", plugins=[market, penstock_plugins])
    (target,) = project.status("market", to=world.target).targets
    assert sum(stream.failed for stream in target.sources[0].streams) == 4


def test_a_stop_reaches_all(world: Shared) -> None:
    """
    A run that is stopped ends its workers: exit code 130; what is complete stays, the next run reads the rest.
    """
    stop = threading.Event()
    world.app.slow_s = 0.02
    world.app.throttled = lambda request: stop.set() if sum(world.app.counts.values()) > 30 else None

    code, report = world.run(stop=stop)

    assert code == 130, report
    world.app.throttled = lambda request: None
    assert world.run()[0] == 0
    world.assert_true()


def test_another_directory_is_refused_before_any_request(world: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where a worker does not find the coordinator's mark, the run is refused, and the source is free again.
    """
    monkeypatch.setattr("penstock_plugins.files.coordination.PATIENCE_S", 0.0)

    with pytest.raises(TargetError, match="is another directory here than where the run was started"):
        world.run(engine=f"elsewhere:{world.directory}")

    assert not world.app.counts
    assert world.run()[0] == 0
