"""
Runs by the workers of a Dask cluster: a real scheduler and workers in processes of their own, killed at will.
"""

import os
import queue
import re
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import market
import penstock_plugins
import pytest
from attrs import define, field
from dask_cluster import Cluster, RecordingProxy, cluster, configure, free, into_both, into_files, world
from divided_market_runs import DividedRuns, base_url
from penstock import PluginError, Project, SandboxRequest, SandboxResponse, UsageError
from penstock.engines import Assignment
from waits import eventually

__all__ = ["cluster", "world"]  # fixtures

pytest.importorskip("distributed", reason="no Dask distributed: uv sync --group engines")
pytestmark = pytest.mark.large


@into_both
def test_a_cluster_does_the_work_of_one_run(world: DividedRuns, cluster: Cluster) -> None:
    """
    The rows and counts are those of one run, within the source's limits; a second run reads what is open only.
    """
    world.app.slow_s = 0.01
    cluster.start(workers=3)

    code, report = world.run(engine=cluster.engine, workers=None)

    assert code == 0, report
    world.assert_true()
    assert world.app.at_once <= 4
    assert len(set(world.app.submitted)) == len(world.app.submitted)
    assert sum(one["partitions"]["delivered"] for one in report["sources"]["market"]["streams"].values()) == 85
    code, report = world.run(engine=cluster.engine, workers=None)
    assert (code, report["sources"]["market"]["streams"]["sales"]["partitions"]["skipped"]) == (0, 24)


def test_no_secret_passes_the_scheduler(world: DividedRuns, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Over a scheduler without TLS, no byte between client, scheduler and workers is of a secret: not the password, not a
    token, not the target's address. Neither have the cluster's logs at debug level, and the pages of the scheduler.
    """
    cluster.between = RecordingProxy()
    cluster.environ["DASK_DISTRIBUTED__COMM__COMPRESSION"] = "False"
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__COMPRESSION", "False")
    cluster.log_everything()
    cluster.start(workers=2)
    world.app.slow_s = 0.1  # so that the pages are read during the run

    process = world.start(engine=cluster.engine, workers=None)
    eventually(lambda: sum(world.app.counts.values()) > 20)
    pages = cluster.pages()
    code, report = world.ended(process)
    cluster.between.close()

    assert code == 0, report
    world.assert_true()
    seen = bytes(cluster.between.seen)
    for known in (b"penstock.toml", b"warehouse", b"shop6", b'"kind": "state"'):  # what names and messages look like
        assert known in seen, known
    assert world.app.counts["login"] == 2  # of each worker
    assert f"penstock-{report['run_id']}-1" in pages
    for secret in (b"sesame", world.target.encode(), b"token-number"):
        assert secret not in seen
        assert secret.decode() not in cluster.everything_logged() + pages


def test_limits_hold_over_the_cluster(world: DividedRuns, cluster: Cluster) -> None:
    """
    All workers together take as long as the source's rate demands, with no more requests at once than it allows; one
    that the provider parks for an hour parks all of them, with exit code 4.
    """
    configure(world, base_url(world), "concurrency = 4\nrequests_per_second = 20.0")
    cluster.start(workers=3)
    code, report = world.run(engine=cluster.engine, workers=None)

    assert code == 0, report
    world.assert_true()
    assert world.app.at_once <= 4
    # Of the whole run, since single requests arrive late on a machine with other work. At 20 for each worker it would
    # take a third of this time.
    took, least = world.app.times[-1] - world.app.times[0], (len(world.app.times) - 4) / 20
    assert took > 0.8 * least, (took, least)

    first: list[float] = []

    def throttled(request: SandboxRequest) -> SandboxResponse | None:
        if not first and "shop1" in request.target:
            first.append(time.monotonic())
        return SandboxResponse(status=429, headers={"retry-after": "3600"}) if first else None

    world.app.throttled = throttled
    code, report = world.run(engine=cluster.engine, workers=None, full=True)

    assert code == 4, report
    assert report["parked"].keys() == {"market"}
    assert sum(one > first[0] for one in world.app.times) <= 4  # those on their way, and one of each other worker


def test_a_worker_that_cannot_is_refused_before_any_request(world: DividedRuns, cluster: Cluster) -> None:
    """
    A worker without a secret, or with another version of a distribution, ends the run before anything is requested.
    """
    cluster.environ.pop("MARKET_PASSWORD")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MARKET_PASSWORD")
        cluster.start(workers=1)
    project = Project(world.folder / "penstock.toml", plugins=[market, penstock_plugins])
    with pytest.raises(PluginError, match="MARKET_PASSWORD"):
        project.run("market", to="warehouse", streams=["items"], engine=cluster.engine)
    cluster.environ["MARKET_PASSWORD"] = "sesame"
    gone = cluster.workers.pop()
    gone.kill()
    gone.wait()
    cluster.add()

    def versions(registry: Any, connectors: Any) -> dict[str, str]:
        return {"penstock-core": "0.0.1", "connector-nobody": "1.0"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock._plugins.registry.Registry.versions", versions)
        with pytest.raises(PluginError, match=r"penstock-core is version .* and 0\.0\.1 where the run was started"):
            eventually(lambda: project.run("market", to="warehouse", streams=["items"], engine=cluster.engine))
    assert not world.app.counts


def test_no_queue_is_left(world: DividedRuns, cluster: Cluster) -> None:
    """
    The queues of a run end with it: a scheduler that serves every morning does not grow.
    """
    cluster.start(workers=2)

    assert world.run(engine=cluster.engine, workers=None)[0] == 0

    with closing(engine(cluster)) as dask:
        eventually(lambda: dask.client.run_on_scheduler(market.queues) == [])


def engine(cluster: Cluster, address: str = "") -> Any:
    from penstock_plugins.engines.dask import Dask

    return Dask.make(address or cluster.engine.removeprefix("dask:"))


def test_a_worker_that_ends_while_all_are_tried_refuses_nothing(cluster: Cluster) -> None:
    """
    The others carry out the run; without any, its shards wait for one.
    """
    cluster.start(workers=2)

    with closing(engine(cluster)) as dask:
        dask.check(partial(market.end_once, cluster.folder / "ended"))

        # Its connection ends before its process does.
        assert eventually(lambda: [worker.poll() for worker in cluster.workers if worker.poll() is not None]) == [9]


def test_a_scheduler_that_ends_while_workers_are_tried(cluster: Cluster) -> None:
    """
    The run is refused by one message.
    """
    cluster.start(workers=1)
    assert cluster.scheduler is not None

    with closing(engine(cluster)) as dask, pytest.raises(UsageError, match="ended before the run began"):
        dask.check(partial(os.kill, cluster.scheduler.pid, signal.SIGKILL))


def test_a_worker_that_hangs_while_it_is_tried(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A worker that does not reply refuses the run, after a bounded time.
    """
    monkeypatch.setattr("penstock_plugins.engines.dask.CHECK_S", 1.0)
    cluster.start(workers=1)

    with closing(engine(cluster)) as dask, pytest.raises(UsageError, match="restart the worker that hangs"):
        dask.check(partial(time.sleep, 1000))


@define
class Results:
    """A coordinator that keeps what it gets. ``over``: after so many seconds."""

    over_after_s: float = float("inf")
    done_by: dict[int, Any] = field(factory=dict)
    lost_by: dict[int, str] = field(factory=dict)
    began: float = field(factory=time.monotonic)
    heard: list[Any] = field(factory=list)
    requests: int = 0

    @property
    def over(self) -> bool:
        return time.monotonic() - self.began > self.over_after_s

    def received(self, number: int, message: Any) -> None:
        self.heard.append(message)

    def reply(self, number: int, message: Any) -> dict[str, Any]:
        self.requests += 1
        return {"stop": False, "cooling_down": {}, "parked": {}}

    def done(self, number: int, result: Any) -> None:
        self.done_by[number] = result

    def lost(self, number: int, reason: str) -> None:
        self.lost_by[number] = reason


ONE = Assignment(number=1, run_id="r", sources=("market",), task=None)


class LossyQueue:
    """A queue in this process that loses what is put first."""

    def __init__(self, *, loses: bool) -> None:
        self.loses = loses
        self.queue: queue.Queue[Any] = queue.Queue()

    def put(self, value: Any, callback_timeout: float) -> None:
        if self.loses:
            self.loses = False
        else:
            self.queue.put(value.data)

    def get(self, timeout: float, callback_timeout: float) -> Any:
        try:
            return self.queue.get(timeout=0.01)
        except queue.Empty:
            raise TimeoutError from None


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_a_message_that_is_lost_is_sent_again(monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """
    A busy process may not take a message in time, and Dask drops it: the request is made again, and carried out once.
    """
    from penstock_plugins.engines import dask_queues

    monkeypatch.setattr(dask_queues, "RESEND_S", 0.05)
    replies, requests = LossyQueue(loses=lost == "reply"), LossyQueue(loses=lost == "request")
    results = Results()
    channel: Any = dask_queues.QueueChannel(
        number=1, reply_to="b", requests=requests, replies=replies, is_wanted=lambda: True
    )
    channel.send({"kind": "event"})
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        server = dask_queues.RequestServer(client=None, coordinator=results, requests=requests, pool=pool)
        server.reply_queues["b"] = replies
        serving = threading.Thread(target=lambda: [server.serve_next() for _ in iter(ended.is_set, True)])
        serving.start()
        assert [channel.request({"kind": "state"})["stop"] for _ in range(3)] == [False] * 3
        ended.set()
        serving.join()

    assert results.heard == [{"kind": "event"}]
    assert results.requests == 3


def test_a_scheduler_that_hangs_does_not_keep_a_run_that_is_over(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    SIGTERM and the deadline end a run whose scheduler gives no reply any more.
    """
    for name in ("dask.GRACE_S", "dask.LOST_AFTER_S", "dask_queues.LOST_AFTER_S"):
        monkeypatch.setattr(f"penstock_plugins.engines.{name}", 1.0)
    cluster.start(workers=1)
    assert cluster.scheduler is not None
    results = Results(over_after_s=5.0)

    with closing(engine(cluster)) as dask:
        assert dask.client
        threading.Timer(2.0, cluster.scheduler.send_signal, [signal.SIGSTOP]).start()
        dask.run([ONE], market.wait, results)

    assert list(results.lost_by) == [1]


def test_one_token_serves_all_workers_over_tls(
    world: DividedRuns, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Over TLS the coordinator logs in once for all workers and once more when the token has ended, also where each login
    ends the token before it and the password that it took. No log of the cluster has a token, at debug level either.
    """
    cluster.use_tls(monkeypatch)
    configure(world, base_url(world), "concurrency = 4\nchanging = true")
    app = world.app
    app.one_token = app.changing = True
    app.token_uses = 40
    app.slow_s = 0.01
    cluster.log_everything()
    cluster.start(workers=2)
    assert cluster.engine.startswith("dask:tls://")

    code, report = world.run(engine=cluster.engine, workers=None)

    assert code == 0, report
    requests = sum(app.counts.values()) - app.counts["login"]
    assert app.counts["login"] == (requests - app.refused) // app.token_uses + 1 > 1
    world.assert_true()
    logged = cluster.everything_logged()
    assert "queue_put" in logged
    for secret in ("sesame", "token-number", "password-number"):
        assert secret not in logged


def test_a_scheduler_with_tls_accepts_no_one_without_a_certificate(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A client without one, and one that connects without TLS, are refused by one message that names what is missing.
    """
    with pytest.MonkeyPatch.context() as certificates:
        cluster.use_tls(certificates)
        cluster.start(workers=0)
    monkeypatch.setattr("penstock_plugins.engines.dask.CONNECT_S", 2.0)
    address = cluster.engine.removeprefix("dask:")

    for tried in (address, address.removeprefix("tls:")):
        with (
            closing(engine(cluster, tried)) as dask,
            pytest.raises(UsageError, match="with the certificates in Dask's"),
        ):
            assert dask.workers


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"to": "jsonl:out.jsonl"},
            r"out.jsonl cannot be written by several processes at once.*jsonl:DIR.*postgresql://",
        ),
        ({"to": "duckdb:out.duckdb"}, "several processes at once"),
        ({"to": "-"}, "several processes at once"),
        ({"to": "postgresql://me:password@host/db"}, "would be sent to the workers"),
    ],
    ids=["one file", "duckdb", "stdout", "password"],
)
def test_targets_and_secrets_that_machines_cannot_share_are_refused(
    world: DividedRuns, cluster: Cluster, options: dict[str, Any], reason: str
) -> None:
    """
    A target with one writer, and a password that would be sent, are refused by name.
    """
    project = Project(world.folder / "penstock.toml", plugins=[market, penstock_plugins])

    with pytest.raises(UsageError, match=reason):
        project.run("market", streams=["items"], engine="dask://127.0.0.1:1", **options)


def test_tokens_that_change_are_not_shared_without_tls(world: DividedRuns) -> None:
    """
    Over a scheduler without TLS, a source is refused whose workers would end each other's tokens.
    """
    configure(world, base_url(world), "changing = true")
    project = Project(world.folder / "penstock.toml", plugins=[market, penstock_plugins])

    with pytest.raises(UsageError, match="token that changes with every grant"):
        project.run("market", to="warehouse", streams=["items"], engine="dask://127.0.0.1:1")
    assert not world.app.counts


def test_a_scheduler_that_is_not_there(world: DividedRuns) -> None:
    """
    An address without a scheduler is one message.
    """
    project = Project(world.folder / "penstock.toml", plugins=[market, penstock_plugins])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock_plugins.engines.dask.CONNECT_S", 1.0)
        with pytest.raises(UsageError, match="cannot be reached"):
            project.run("market", to="warehouse", streams=["items"], engine="dask://127.0.0.1:1")


@into_both
def test_the_shard_of_a_killed_worker_goes_elsewhere(world: DividedRuns, cluster: Cluster) -> None:
    """
    kill -9 of a worker: another one takes over its shard, goes on from the ledger, and adopts its reports. The run ends
    with 0, and its counts are those of one run.
    """
    world.app.slow_s = 0.05
    cluster.start(workers=2)
    process = world.start(engine=cluster.engine, workers=2)
    eventually(lambda: sum(world.app.counts.values()) > 20)
    cluster.workers[0].kill()
    code, report = world.ended(process)

    assert code == 0, report
    world.assert_true()
    assert sum(one["partitions"]["delivered"] for one in report["sources"]["market"]["streams"].values()) == 85
    assert len(world.app.submitted) - len(set(world.app.submitted)) <= 2


@into_both
@pytest.mark.parametrize("victim", ["scheduler", "client"])
def test_the_next_run_goes_on(world: DividedRuns, cluster: Cluster, victim: str) -> None:
    """
    kill -9 of the scheduler is exit code 1, that of the client ends the workers' shards; the next run leaves exactly
    the provider's rows.
    """
    world.app.slow_s = 0.1
    cluster.start(workers=2)
    process = world.start(engine=cluster.engine, workers=2)
    eventually(lambda: sum(world.app.counts.values()) > 20)
    if victim == "scheduler":
        assert cluster.scheduler is not None
        cluster.scheduler.kill()
        code, report = world.ended(process)
        assert code == 1, report
        assert {one["error"] for one in report["errors"]} == {"WorkerLostError"}
    else:
        process.kill()
        process.communicate()

    world.app.slow_s = 0.0
    code, report = eventually(lambda: free(world.run(workers=2)))

    assert code == 0, report
    world.assert_true()


@into_files
def test_a_worker_that_hangs_replaces_nothing_later(world: DividedRuns, cluster: Cluster) -> None:
    """
    A worker stands still until another one has its shard, and goes on then: the rows and the counts are those of one
    run, and no file is changed after it.
    """
    world.app.slow_s = 0.1
    cluster.environ["DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"] = "5s"
    cluster.start(workers=2)
    process = world.start(engine=cluster.engine, workers=2)
    eventually(lambda: sum(world.app.counts.values()) > 20)
    hanging = cluster.workers[0]
    hanging.send_signal(signal.SIGSTOP)
    eventually(lambda: "failed to heartbeat" in cluster.log("scheduler"))
    before = sum(world.app.counts.values())
    eventually(lambda: sum(world.app.counts.values()) > before + 5 or process.poll() is not None)
    hanging.send_signal(signal.SIGCONT)
    code, report = world.ended(process)

    assert code == 0, report
    world.assert_true()
    assert sum(one["partitions"]["delivered"] for one in report["sources"]["market"]["streams"].values()) == 85
    files = snapshot(world)
    code, report = eventually(lambda: free(world.run(workers=1, streams=["shops"])))  # when no worker reads any more
    assert code == 0, report
    assert snapshot(world) == files
    world.assert_true()


def snapshot(world: DividedRuns) -> dict[str, tuple[int, int]]:
    files = Path(world.target.removeprefix("jsonl:")).rglob("data.jsonl")
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files if "/shops/" not in str(path)}


@into_files
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mount namespaces need root, unshare")
@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        ("mount -t tmpfs none {0}", "{0} is another directory here than where the run was started"),
        ("mount --bind {0} {0} && mount -o remount,ro,bind {0}", "Make the file system writable"),
    ],
    ids=["another", "read-only"],
)
def test_a_worker_with_another_directory_is_refused(
    world: DividedRuns, cluster: Cluster, mount: str, reason: str
) -> None:
    """
    A worker at whose path another file system is mounted, or which cannot write there, ends the run by its name before
    anything is requested.
    """
    directory = Path(world.target.removeprefix("jsonl:"))
    directory.mkdir()
    cluster.start(workers=1)
    script = f'{mount.format(directory)} && exec "$@"'
    cluster.are_registered([cluster.add(before=("unshare", "-m", "sh", "-c", script, "sh"))])

    code, report = world.run(engine=cluster.engine, workers=2)

    assert code == 2, report
    assert re.search(r"the worker tcp://127.0.0.1:\d+ of .* cannot carry out a shard of this run: ", report["refused"])
    assert reason.format(directory) in report["refused"]
    assert not world.app.counts


def test_sigterm_reaches_the_cluster(world: DividedRuns, cluster: Cluster) -> None:
    """
    SIGTERM of the client ends the shards on all workers: exit code 130.
    """
    world.app.slow_s = 0.1
    cluster.start(workers=2)
    process = world.start(engine=cluster.engine, workers=2)
    eventually(lambda: sum(world.app.counts.values()) > 15)
    process.send_signal(signal.SIGTERM)
    code, report = world.ended(process)

    assert code == 130, report
    world.app.slow_s = 0.0
    assert world.run(workers=1)[0] == 0
    world.assert_true()


def test_a_deadline_ends_a_run_without_workers(world: DividedRuns, cluster: Cluster) -> None:
    """
    Where the last worker has died, the deadline ends the run: exit code 4. The next run goes on.
    """
    world.app.slow_s = 0.2
    cluster.start(workers=1)
    process = world.start(engine=cluster.engine, workers=2, deadline_s=30.0)
    eventually(lambda: sum(world.app.counts.values()) > 5)
    cluster.workers[0].kill()
    code, report = world.ended(process)

    assert code == 4, report
    world.app.slow_s = 0.0
    assert world.run(workers=1)[0] == 0
    world.assert_true()
