"""
Runs by the workers of a Dask cluster: a real scheduler and workers in processes of their own, killed at will.
"""

import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

import many
import penstock_plugins
import pytest
from attrs import define, field
from many import SHOPS, Imitation
from penstock import PluginError, Project, SandboxRequest, SandboxResponse, UsageError
from penstock.engines import Assignment
from penstock.sandbox.server import serve
from pg_server import server as postgres
from test_workers import Divided, base_url, eventually

pytest.importorskip("distributed", reason="no Dask distributed: uv sync --group engines")
pytestmark = pytest.mark.large

HERE = Path(__file__).parent


@define(eq=False)
class Cluster:
    """A scheduler and its workers, each a process."""

    folder: Path
    environ: dict[str, str] = field(factory=dict)
    between: "Recorder | None" = None  # what workers and clients connect to in place of the scheduler
    scheduler: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    workers: "list[subprocess.Popen[bytes]]" = field(factory=list, init=False)

    def start(self, workers: int) -> "Cluster":
        self.address_file.unlink(missing_ok=True)
        self.scheduler = self._process("scheduler", "--port", "0", "--host", "127.0.0.1")
        eventually(lambda: self.address_file.exists() and self.address_file.stat().st_size)
        if self.between is not None:
            found = json.loads(self.address_file.read_text())
            found["address"] = f"tcp://127.0.0.1:{self.between.to(int(found['address'].rpartition(':')[2]))}"
            self.address_file.write_text(json.dumps(found))
        self.are_registered([self.add() for _ in range(workers)])
        return self

    def are_registered(self, workers: "Sequence[subprocess.Popen[bytes]]") -> None:
        """Wait until these workers are connected. Others may have been killed before they were."""
        eventually(lambda: all("Registered to" in self.log(f"worker-{worker.pid}") for worker in workers))

    def start_on(self, here: str, hosts: Mapping[str, str]) -> None:
        """The scheduler at this address, and a worker in each network namespace. ``hosts``: their names by address."""
        self.address_file.unlink(missing_ok=True)
        self.scheduler = self._process("scheduler", "--port", "0", "--host", here)
        eventually(lambda: self.address_file.exists() and self.address_file.stat().st_size)
        for address, name in hosts.items():
            options = ("--nthreads", "1", "--no-nanny", "--host", address)
            self.workers.append(self._process("worker", *options, before=("ip", "netns", "exec", name)))
        self.are_registered(self.workers)

    def add(self) -> "subprocess.Popen[bytes]":
        options = ["--nthreads", "1", "--no-nanny", "--death-timeout", "20"]
        if self.between is None:
            options += ["--host", "127.0.0.1"]
        else:
            port = free_port()
            options += ["--listen-address", f"tcp://127.0.0.1:{port}"]
            options += ["--contact-address", f"tcp://127.0.0.1:{self.between.to(port)}"]
        self.workers.append(self._process("worker", *options))
        return self.workers[-1]

    @property
    def address_file(self) -> Path:
        return self.folder / "scheduler.json"

    @property
    def engine(self) -> str:
        return "dask:" + json.loads(self.address_file.read_text())["address"].removeprefix("tcp:")

    def log(self, name: str) -> str:
        """What was logged by ``"scheduler"``, ``"worker"``, or one of them: ``"worker-1234"``, with its pid."""
        return "".join(file.read_text(errors="replace") for file in self.folder.glob(f"{name}-*.log"))

    def log_everything(self) -> None:
        """From now on, at debug level."""
        self.environ["DASK_LOGGING__DISTRIBUTED"] = "debug"

    def everything_logged(self) -> str:
        return self.log("scheduler") + self.log("worker")

    def pages(self) -> str:
        """What the scheduler serves over HTTP about its workers and tasks."""
        info = f"http://127.0.0.1:{json.loads(self.address_file.read_text())['services']['dashboard']}"
        read: dict[str, str] = {}
        left = [f"{info}/info/main/{name}.html" for name in ("workers", "exceptions", "logs")]
        while left:
            page = left.pop()
            if page not in read:
                with urlopen(page) as answer:
                    read[page] = answer.read().decode()
                links = re.findall(r'href="([^"#?]*)"', read[page])
                left += [link for link in (urljoin(page, one) for one in links) if link.startswith(f"{info}/info/")]
        return "".join(read.values())

    def _process(self, name: str, *options: str, before: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
        """``before``: the words of a command that runs this one."""
        log = self.folder / f"{name}-{time.monotonic_ns()}.log"
        module = f"distributed.cli.dask_{name}"
        words = [
            *before,
            sys.executable,
            "-m",
            module,
            "--scheduler-file",
            str(self.address_file),
            "--dashboard-address",
            "127.0.0.1:0",
            *options,
        ]
        with log.open("wb") as out:
            process = subprocess.Popen(
                words,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(HERE), **self.environ},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        log.rename(log.with_stem(f"{name}-{process.pid}-"))
        return process

    def close(self) -> None:
        for process in filter(None, (*self.workers, self.scheduler)):
            with suppress(OSError):
                process.kill()
            process.wait()


@define(eq=False)
class Recorder:
    """Passes connections on, and keeps every byte that goes either way."""

    seen: bytearray = field(factory=bytearray)
    _servers: list[socketserver.ThreadingTCPServer] = field(factory=list, init=False)

    def to(self, port: int) -> int:
        """A new port whose connections are passed on to this one."""
        recorder = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as onward:
                    back = threading.Thread(target=recorder.copy, args=(onward, self.request), daemon=True)
                    back.start()
                    recorder.copy(self.request, onward)
                    back.join()

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._servers.append(server)
        return int(server.server_address[1])

    def copy(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                self.seen += data
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = Cluster(folder)
    yield made
    made.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> Iterator[Divided]:
    """A world whose target is Postgres. Its secrets are in the environment only."""
    with serve(app := Imitation()) as server, postgres().database() as dsn:
        cluster.environ.update(MANY_PASSWORD="sesame", MANY_DSN=dsn)
        monkeypatch.setenv("MANY_PASSWORD", "sesame")
        monkeypatch.setenv("MANY_DSN", dsn)
        made = Divided(app, tmp_path, dsn)
        configure(made, server.base_url)
        made.sink = "warehouse"
        yield made
        assert server.errors == []


def configure(world: Divided, base_url: str, more: str = "concurrency = 4", shops: Sequence[str] = SHOPS) -> None:
    (world.folder / "penstock.toml").write_text(
        f'[source.many]\nbase_url = "{base_url}"\npassword = {{ env = "MANY_PASSWORD" }}\n'
        f"retry_first_s = 0.01\nshops = {json.dumps(shops)}\n{more}\n"
        '[sink.warehouse]\nkind = "postgres"\ndsn = { env = "MANY_DSN" }\n'
    )


def test_a_cluster_does_the_work_of_one_run(world: Divided, cluster: Cluster) -> None:
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
    assert sum(one["partitions"]["delivered"] for one in report["sources"]["many"]["streams"].values()) == 85
    code, report = world.run(engine=cluster.engine, workers=None)
    assert (code, report["sources"]["many"]["streams"]["sales"]["partitions"]["skipped"]) == (0, 24)


def test_no_secret_passes_the_scheduler(world: Divided, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Over a scheduler without TLS, no byte between client, scheduler and workers is of a secret: not the password, not a
    token, not the target's address. Neither have the cluster's logs at debug level, and the pages of the scheduler.
    """
    cluster.between = Recorder()
    cluster.environ["DASK_DISTRIBUTED__COMM__COMPRESSION"] = "False"
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__COMPRESSION", "False")
    cluster.log_everything()
    cluster.start(workers=2)
    world.app.slow_s = 0.1  # so that the pages are read during the run

    process = world.start(engine=cluster.engine, workers=None)
    eventually(lambda: sum(world.app.asked.values()) > 20)
    pages = cluster.pages()
    code, report = world.ended(process)
    cluster.between.close()

    assert code == 0, report
    world.assert_true()
    seen = bytes(cluster.between.seen)
    for known in (b"penstock.toml", b"warehouse", b"shop6", b'"kind": "state"'):  # what names and messages look like
        assert known in seen, known
    assert world.app.asked["login"] == 2  # of each worker
    assert f"penstock-{report['run_id']}-1" in pages
    for secret in (b"sesame", world.target.encode(), b"token-number"):
        assert secret not in seen
        assert secret.decode() not in cluster.everything_logged() + pages


def test_limits_hold_over_the_cluster(world: Divided, cluster: Cluster) -> None:
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
    assert report["parked"].keys() == {"many"}
    assert sum(one > first[0] for one in world.app.times) <= 4  # those on their way, and one of each other worker


def test_a_worker_that_cannot_is_refused_before_any_request(world: Divided, cluster: Cluster) -> None:
    """
    A worker without a secret, or with another version of a distribution, ends the run before anything is requested.
    """
    cluster.environ.pop("MANY_PASSWORD")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MANY_PASSWORD")
        cluster.start(workers=1)
    project = Project(world.folder / "penstock.toml", plugins=[many, penstock_plugins])
    with pytest.raises(PluginError, match="MANY_PASSWORD"):
        project.run("many", to="warehouse", streams=["items"], engine=cluster.engine)
    cluster.environ["MANY_PASSWORD"] = "sesame"
    gone = cluster.workers.pop()
    gone.kill()
    gone.wait()
    cluster.add()

    def versions(registry: Any, connectors: Any) -> dict[str, str]:
        return {"penstock-core": "0.0.1", "connector-nobody": "1.0"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock._plugins.registry.Registry.versions", versions)
        with pytest.raises(PluginError, match=r"penstock-core is version .* and 0\.0\.1 where the run was started"):
            eventually(lambda: project.run("many", to="warehouse", streams=["items"], engine=cluster.engine))
    assert not world.app.asked


def test_no_queue_is_left(world: Divided, cluster: Cluster) -> None:
    """
    The queues of a run end with it: a scheduler that serves every morning does not grow.
    """
    cluster.start(workers=2)

    assert world.run(engine=cluster.engine, workers=None)[0] == 0

    with closing(engine(cluster)) as dask:
        eventually(lambda: dask.client.run_on_scheduler(many.queues) == [])


def engine(cluster: Cluster) -> Any:
    from penstock_plugins.engines.dask import Dask

    return Dask.make(cluster.engine.removeprefix("dask:"))


def test_a_worker_that_ends_while_all_are_tried_refuses_nothing(cluster: Cluster) -> None:
    """
    The others carry out the run; without any, its parts wait for one.
    """
    cluster.start(workers=2)

    with closing(engine(cluster)) as dask:
        dask.check(partial(many.end_once, cluster.folder / "ended"))

        assert [worker.wait() for worker in cluster.workers if worker.poll() is not None] == [9]


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

    @property
    def over(self) -> bool:
        return time.monotonic() - self.began > self.over_after_s

    def received(self, number: int, message: Any) -> None: ...

    def reply(self, number: int, message: Any) -> dict[str, Any]:
        return {"stop": False, "resting": {}, "parked": {}}

    def done(self, number: int, result: Any) -> None:
        self.done_by[number] = result

    def lost(self, number: int, reason: str) -> None:
        self.lost_by[number] = reason


ONE = Assignment(number=1, run_id="r", sources=("many",), task=None)


def test_a_scheduler_that_hangs_does_not_keep_a_run_that_is_over(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    SIGTERM and the deadline end a run whose scheduler gives no reply any more.
    """
    for name in ("GRACE_S", "LOST_AFTER_S"):
        monkeypatch.setattr(f"penstock_plugins.engines.dask.{name}", 1.0)
    cluster.start(workers=1)
    assert cluster.scheduler is not None
    results = Results(over_after_s=5.0)

    with closing(engine(cluster)) as dask:
        assert dask.client
        threading.Timer(2.0, cluster.scheduler.send_signal, [signal.SIGSTOP]).start()
        dask.run([ONE], many.wait, results)

    assert list(results.lost_by) == [1]


def test_one_token_serves_all_workers_over_tls(
    world: Divided, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Over TLS the coordinator logs in once for all workers and once more when the token has ended, also where each login
    ends the token before it and the password that it took. No log of the cluster has a token, at debug level either.
    """
    certificate, key = cluster.folder / "tls.crt", cluster.folder / "tls.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=127.0.0.1"),
            *("-out", str(certificate), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
    )
    for place in ("CLIENT", "SCHEDULER", "WORKER"):
        cluster.environ[f"DASK_DISTRIBUTED__COMM__TLS__{place}__CERT"] = str(certificate)
        cluster.environ[f"DASK_DISTRIBUTED__COMM__TLS__{place}__KEY"] = str(key)
    cluster.environ["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"] = str(certificate)
    cluster.environ["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] = "True"
    for name, value in cluster.environ.items():
        monkeypatch.setenv(name, value)
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
    requests = sum(app.asked.values()) - app.asked["login"]
    assert app.asked["login"] == (requests - app.refused) // app.token_uses + 1 > 1
    world.assert_true()
    logged = cluster.everything_logged()
    assert "queue_put" in logged
    for secret in ("sesame", "token-number", "password-number"):
        assert secret not in logged


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"to": "jsonl:out"}, "processes of one machine only"),
        ({"to": "postgresql://me:password@host/db"}, "would be sent to the workers"),
    ],
    ids=["files", "password"],
)
def test_what_machines_cannot_share_is_refused(
    world: Divided, cluster: Cluster, options: dict[str, Any], reason: str
) -> None:
    """
    A target with one machine's ledger, and a password that would be sent, are refused by name.
    """
    project = Project(world.folder / "penstock.toml", plugins=[many, penstock_plugins])

    with pytest.raises(UsageError, match=reason):
        project.run("many", streams=["items"], engine="dask://127.0.0.1:1", **options)


def test_tokens_that_change_are_not_shared_without_tls(world: Divided) -> None:
    """
    Over a scheduler without TLS, a source is refused whose workers would end each other's tokens.
    """
    configure(world, base_url(world), "changing = true")
    project = Project(world.folder / "penstock.toml", plugins=[many, penstock_plugins])

    with pytest.raises(UsageError, match="token that changes with every grant"):
        project.run("many", to="warehouse", streams=["items"], engine="dask://127.0.0.1:1")
    assert not world.app.asked


def test_a_scheduler_that_is_not_there(world: Divided) -> None:
    """
    An address without a scheduler is one message.
    """
    project = Project(world.folder / "penstock.toml", plugins=[many, penstock_plugins])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock_plugins.engines.dask.CONNECT_S", 1.0)
        with pytest.raises(UsageError, match="cannot be reached"):
            project.run("many", to="warehouse", streams=["items"], engine="dask://127.0.0.1:1")


def test_the_part_of_a_killed_worker_goes_elsewhere(world: Divided, cluster: Cluster) -> None:
    """
    kill -9 of a worker: another one takes over its part, goes on from the ledger, and adopts its reports. The run ends
    with 0, and its counts are those of one run.
    """
    world.app.slow_s = 0.05
    cluster.start(workers=2)
    process = world.start(engine=cluster.engine, workers=2)
    eventually(lambda: sum(world.app.asked.values()) > 20)
    cluster.workers[0].kill()
    code, report = world.ended(process)

    assert code == 0, report
    world.assert_true()
    assert sum(one["partitions"]["delivered"] for one in report["sources"]["many"]["streams"].values()) == 85
    assert len(world.app.submitted) - len(set(world.app.submitted)) <= 2


@pytest.mark.parametrize("victim", ["scheduler", "client"])
def test_the_next_run_goes_on(world: Divided, cluster: Cluster, victim: str) -> None:
    """
    kill -9 of the scheduler is exit code 1, that of the client ends the workers' parts; the next run leaves exactly the
    provider's rows.
    """
    world.app.slow_s = 0.1
    cluster.start(workers=2)
    process = world.start(engine=cluster.engine, workers=2)
    eventually(lambda: sum(world.app.asked.values()) > 20)
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


def free(result: tuple[int, dict[str, Any]]) -> tuple[int, dict[str, Any]] | None:
    """The result of a run that had the lock."""
    return None if result[0] == 6 else result


def test_sigterm_reaches_the_cluster(world: Divided, cluster: Cluster) -> None:
    """
    SIGTERM of the client ends the parts on all workers: exit code 130.
    """
    world.app.slow_s = 0.1
    cluster.start(workers=2)
    process = world.start(engine=cluster.engine, workers=2)
    eventually(lambda: sum(world.app.asked.values()) > 15)
    process.send_signal(signal.SIGTERM)
    code, report = world.ended(process)

    assert code == 130, report
    world.app.slow_s = 0.0
    assert world.run(workers=1)[0] == 0
    world.assert_true()


def test_a_deadline_ends_a_run_without_workers(world: Divided, cluster: Cluster) -> None:
    """
    Where the last worker has died, the deadline ends the run: exit code 4. The next run goes on.
    """
    world.app.slow_s = 0.2
    cluster.start(workers=1)
    process = world.start(engine=cluster.engine, workers=2, deadline_s=30.0)
    eventually(lambda: sum(world.app.asked.values()) > 5)
    cluster.workers[0].kill()
    code, report = world.ended(process)

    assert code == 4, report
    world.app.slow_s = 0.0
    assert world.run(workers=1)[0] == 0
    world.assert_true()
