"""
Postgres servers of a test's own, which it kills, restarts, copies and promotes.

Unlike ``postgres_server``, whose one server all tests of a process share.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from attrs import define, field
from postgres_server import NoPostgresError, account, candidates, reachable, wait

_SETTINGS = {"listen_addresses": "", "autovacuum": "off", "max_connections": "30", "log_min_messages": "fatal"}


@define(eq=False)
class Cluster:
    """
    A server with its data in ``home``, where its socket is, too. It writes to the disk as a server in use does, but
    for ``settings``.
    """

    home: Path
    binaries: Path
    user: str
    settings: Mapping[str, str]
    _options: dict[str, Any]
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def dsn(self) -> str:
        return dsn_of(self)

    def program(self, name: str, *words: str) -> None:
        """Run a program of the server as its user. Raises NoPostgresError with what it wrote."""
        command = [str(self.binaries / name), *words]
        done = subprocess.run(command, capture_output=True, **self._options)
        if done.returncode:
            raise NoPostgresError(f"{name} failed: {done.stderr.decode(errors='replace')}")

    def own(self, *files: Path) -> None:
        """Give files to the server's user."""
        for file in files:
            file.chmod(0o600 if file.is_file() else 0o700)
            if "user" in self._options:
                os.chown(file, self._options["user"], self._options["group"])

    def start(self) -> None:
        """Start the server, and wait until it is ready. Raises NoPostgresError."""
        assert self.process is None or self.process.poll() is not None
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        command = [str(self.binaries / "postgres"), "-D", str(self.data), "-k", str(self.home)]
        for name, value in {**_SETTINGS, **self.settings}.items():
            command += ["-c", f"{name}={value}"]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, **self._options)
        try:
            wait(self.process, self.data)
        except NoPostgresError as error:
            self.stop()
            raise NoPostgresError(f"{error}\n{(self.home / 'log').read_text(errors='replace')[-2000:]}") from error

    def stop(self, how: int = signal.SIGKILL) -> None:
        """End the server: SIGKILL leaves what a host leaves that lost its power, but for the disk's own memory."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


def dsn_of(*clusters: Cluster, **parameters: str) -> str:
    """The maintenance database of the first of these servers that fits: libpq tries one after the other."""
    hosts = ",".join(str(cluster.home) for cluster in clusters)
    query = {"host": hosts, **parameters}
    more = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    return f"postgresql://{clusters[0].user}@/postgres?{more}"


@contextmanager
def cluster(*, tls: bool = False, home: Path | None = None, **settings: str) -> Iterator[Cluster]:
    """
    An empty server, not started. ``tls``: with a build that has TLS; the test is skipped where there is none. ``home``:
    an empty directory for all of it. Raises NoPostgresError.
    """
    found = [directory for directory in candidates() if not tls or _has_tls(directory)]
    if not found:
        if tls:
            pytest.skip("no Postgres with TLS here: the distribution's package has it (apt install postgresql)")
        raise NoPostgresError("no Postgres found")
    with _home(found[0], settings, home) as made:
        made.program(
            *("initdb", "-N", "-A", "trust", "-U", made.user, "--locale=C", "-E", "UTF8", "-D", str(made.data)),
        )
        yield made


@contextmanager
def standby_of(primary: Cluster, **settings: str) -> Iterator[Cluster]:
    """A hot standby of a running server, started, that receives what the primary writes."""
    with _home(primary.binaries, settings) as made:
        source = f"host={primary.home} user={primary.user} application_name=standby"
        made.program(
            *("pg_basebackup", "-D", str(made.data), "-d", source, "--write-recovery-conf", "--wal-method=stream"),
            *("--checkpoint=fast", "--no-sync"),
        )
        made.start()
        yield made


@contextmanager
def _home(directory: Path, settings: Mapping[str, str], home: Path | None = None) -> Iterator[Cluster]:
    home = home or Path(tempfile.mkdtemp(prefix="pgc", dir="/tmp"))  # a socket's path has 107 bytes at most
    options: dict[str, Any] = {"cwd": "/", "stdin": subprocess.DEVNULL}
    other = account()
    user = "tests"
    if other is not None:
        user, uid, gid = other
        os.chown(home, uid, gid)
        options |= {"user": uid, "group": gid, "extra_groups": []}
        directory = reachable(directory, home, options)
    made = Cluster(home, directory, user, settings, options)
    try:
        yield made
    finally:
        with suppress(subprocess.TimeoutExpired):
            made.stop()
        shutil.rmtree(home, ignore_errors=True)


def _has_tls(directory: Path) -> bool:
    """Whether this build links a TLS library. The server itself states it only once it has data."""
    return b"libssl" in (directory / "postgres").read_bytes()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
