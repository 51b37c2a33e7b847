"""
A Dask cluster whose scheduler and workers are processes, and the market read by it into Postgres or a directory.
"""

import json
import re
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

import pytest
from attrs import define, field
from divided_market_runs import DividedRuns, environ
from market import SHOPS, Market
from penstock.sandbox.server import serve
from postgres_server import server as postgres
from waits import eventually


@define(eq=False)
class Cluster:
    """A scheduler and its workers, each a process."""

    folder: Path
    environ: dict[str, str] = field(factory=dict)
    between: "RecordingProxy | None" = None  # what workers and clients connect to in place of the scheduler
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

    def add(self, before: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
        options = ["--nthreads", "1", "--no-nanny", "--death-timeout", "20"]
        if self.between is None:
            options += ["--host", "127.0.0.1"]
        else:
            port = free_port()
            options += ["--listen-address", f"tcp://127.0.0.1:{port}"]
            options += ["--contact-address", f"tcp://127.0.0.1:{self.between.to(port)}"]
        self.workers.append(self._process("worker", *options, before=before))
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

    def use_tls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on scheduler, workers and clients show each other a certificate, and accept no other one."""
        certificate, key = self.folder / "tls.crt", self.folder / "tls.key"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"),
                *("-subj", "/CN=127.0.0.1", "-out", str(certificate), "-keyout", str(key)),
            ],
            check=True,
            capture_output=True,
        )
        tls = {"CA_FILE": str(certificate)}
        for place in ("CLIENT", "SCHEDULER", "WORKER"):
            tls |= {f"{place}__CERT": str(certificate), f"{place}__KEY": str(key)}
        self.environ |= {f"DASK_DISTRIBUTED__COMM__TLS__{name}": value for name, value in tls.items()}
        self.environ["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] = "True"
        for name, value in self.environ.items():
            monkeypatch.setenv(name, value)

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
                env={**environ(), **self.environ},
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
class RecordingProxy:
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


@pytest.fixture(params=["postgres"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster
) -> Iterator[DividedRuns]:
    """A world whose target is Postgres, or a directory that all share. Its secrets are in the environment only."""
    is_postgres = request.param == "postgres"
    with serve(app := Market()) as server, postgres().database() if is_postgres else nullcontext("") as dsn:
        cluster.environ.update(MARKET_PASSWORD="sesame", MARKET_DSN=dsn)
        monkeypatch.setenv("MARKET_PASSWORD", "sesame")
        monkeypatch.setenv("MARKET_DSN", dsn)
        made = DividedRuns(app, tmp_path, dsn or f"jsonl:{tmp_path / 'out'}")
        made.sink = "warehouse" if is_postgres else "shared"
        configure(made, server.base_url)
        yield made
        assert server.errors == []


into_both = pytest.mark.parametrize("world", ["postgres", "files"], indirect=True)
into_files = pytest.mark.parametrize("world", ["files"], indirect=True)


def configure(world: DividedRuns, base_url: str, more: str = "concurrency = 4", shops: Sequence[str] = SHOPS) -> None:
    (world.folder / "penstock.toml").write_text(
        f'[source.market]\nbase_url = "{base_url}"\npassword = {{ env = "MARKET_PASSWORD" }}\n'
        f"retry_first_s = 0.01\nshops = {json.dumps(shops)}\n{more}\n"
        + (
            '[sink.warehouse]\nkind = "postgres"\ndsn = { env = "MARKET_DSN" }\n'
            if world.sink == "warehouse"
            else f'[sink.shared]\nkind = "jsonl"\npath = "{world.target.removeprefix("jsonl:")}"\n'
        )
    )


def free(result: tuple[int, dict[str, Any]]) -> tuple[int, dict[str, Any]] | None:
    """The result of a run that had the lock."""
    return None if result[0] == 6 else result
