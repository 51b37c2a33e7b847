"""
Servers of Postgres as they are secured and as they fail: TLS, a hot standby, a failover, a full disk.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from disks import fill, small_disk
from penstock import Project, Secret, TargetError
from penstock.sandbox.server import serve
from penstock.testing.sinks import CLICKS, SOURCE, a_day, click, deliver
from penstock_plugins.postgres.sink import PostgresSink
from postgres_bench import Bench, made_bench
from postgres_cluster import Cluster, cluster, dsn_of, free_port, standby_of
from providers import TALROO
from waits import eventually

pytestmark = pytest.mark.slow


@contextmanager
def bench_for(folder: Path, dsn: str) -> Iterator[Bench]:
    with serve() as web:
        yield made_bench(TALROO, web, folder, dsn)
        assert web.errors == []


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``ca.crt``, a key and a certificate for ``localhost`` that it signed, and ``other.crt``."""
    folder = tmp_path_factory.mktemp("keys")
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl(
            *("req", "-x509", *curve, "-days", "3650", "-subj", f"/CN={name} of this test"),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt"),
        )
    openssl("req", *curve, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl(
        *("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-days", "3650", "-extfile", "names", "-out", "server.crt"),
    )
    return folder


@pytest.fixture(scope="module")
def encrypted(keys: Path) -> Iterator[Callable[..., str]]:
    """A server that takes connections over TLS only; called with parameters of a DSN, it gives the DSN."""
    port = free_port()
    with cluster(tls=True, listen_addresses="localhost", port=str(port), ssl="on") as server:
        for name in ("server.crt", "server.key"):
            shutil.copy(keys / name, server.data / name)
            server.own(server.data / name)
        (server.data / "pg_hba.conf").write_text("hostssl all all all trust\n")
        server.start()

        def dsn(host: str = "localhost", **parameters: str) -> str:
            more = "&".join(f"{name}={value}" for name, value in parameters.items())
            return f"postgresql://{server.user}@{host}:{port}/postgres?{more}"

        yield dsn


def test_a_certificate_of_the_named_authority_is_trusted(keys: Path, encrypted: Callable[..., str]) -> None:
    """
    With ``sslmode=verify-full``, rows and ledger are written over TLS.
    """
    dsn = encrypted(sslmode="verify-full", sslrootcert=str(keys / "ca.crt"))
    target = PostgresSink(dsn=Secret(dsn)).open(SOURCE, "r1")
    deliver(target, a_day(), [(CLICKS, [click(1)])])
    over_tls = target.database.value("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    target.close()

    assert over_tls is True
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select click_id from acme.clicks").fetchall() == [("c1",)]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this platform bounds no unacknowledged data")
def test_the_server_ends_the_session_of_a_lost_host_within_a_minute(encrypted: Callable[..., str]) -> None:
    """
    The server ends the session of a lost host within a minute, also while it waits for an acknowledgement: it sends no
    probe then, and the session would hold the lock of the source for a quarter of an hour.
    """
    target = PostgresSink(dsn=Secret(encrypted(sslmode="require"))).open(SOURCE, "r1")
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    idle, interval, count, unacknowledged = (
        int(target.database.value("select current_setting(%s)", (name,))) for name in names
    )
    target.close()

    assert idle + interval * count == 60
    assert unacknowledged == 60_000


@pytest.mark.parametrize(
    ("parameters", "seen", "advice"),
    [
        pytest.param(
            {"sslmode": "verify-full", "sslrootcert": "other.crt"},
            "certificate verify failed",
            "sslrootcert must name the certificate of the authority that signed the server's",
            id="another authority",
        ),
        pytest.param(
            {"sslmode": "verify-full", "sslrootcert": "ca.crt", "host": "127.0.0.1"},
            "does not match host name",
            "host must be a name that the server's certificate has",
            id="another name",
        ),
        pytest.param(
            {"sslmode": "verify-full", "sslrootcert": "missing.crt"},
            "root certificate file .* does not exist",
            "sslrootcert must name",
            id="no file",
        ),
        pytest.param({"sslmode": "disable"}, "no encryption", "sslmode=require", id="without TLS"),
    ],
)
def test_a_server_that_is_not_trusted_is_refused(
    keys: Path, encrypted: Callable[..., str], parameters: dict[str, str], seen: str, advice: str
) -> None:
    """
    The message states what the certificate lacks, and which option of the DSN to set.
    """
    if "sslrootcert" in parameters:
        parameters = {**parameters, "sslrootcert": str(keys / parameters["sslrootcert"])}
    sink = PostgresSink(dsn=Secret(encrypted(**parameters)))
    for opened in (lambda: sink.open(SOURCE, "r1"), lambda: sink.open_readonly(SOURCE)):
        with pytest.raises(TargetError, match=rf"cannot be reached: .*{seen}.*{advice}"):
            opened()


# --- a hot standby ----------------------------------------------------------------------------------------------------


def test_a_standby_is_read_and_not_written(tmp_path: Path) -> None:
    """
    ``plan``, ``status``, ``verify`` and the like work on a hot standby; a run is refused before any request.
    """
    with cluster() as primary:
        primary.start()
        with bench_for(tmp_path, primary.dsn) as bench, standby_of(primary) as standby:
            project = Project(tmp_path / "penstock.toml")
            window = {"since": bench.days[0], "until": bench.days[-1]}
            assert project.run("talroo", to=primary.dsn, streams=["clicks"], **window).exit_code == 0
            wal = primary.query("select pg_current_wal_lsn()::text")[0][0]
            eventually(lambda: standby.query(f"select pg_last_wal_replay_lsn() >= '{wal}'") == [(True,)])
            requests = bench.request_count

            status = project.status("talroo", to=standby.dsn)
            planned = project.plan("talroo", to=standby.dsn, streams=["clicks"], **window)
            verified = project.verify("talroo", to=standby.dsn)
            with pytest.raises(TargetError, match=r"no table can be written\. .*it is a standby.*Name the primary"):
                project.run("talroo", to=standby.dsn, streams=["clicks"], full=True, **window)

            (target,) = status.targets
            (clicks,) = {account.stream for account in target.sources[0].streams}
            assert (clicks, target.error) == ("clicks", None)
            assert all(partition.reason != "missing" for partition in planned.partitions)
            assert (verified.exit_code, verified.differences) == (0, ())
            assert verified.partitions > 0
            assert bench.request_count == requests


# --- a failover -------------------------------------------------------------------------------------------------------


@pytest.mark.large
@pytest.mark.parametrize("lost", [False, True], ids=["everything received", "commits lost"])
def test_a_standby_takes_over_during_a_run(tmp_path: Path, lost: bool) -> None:
    """
    The primary is killed and the standby promoted: the run goes on there. If the standby had not received all commits,
    the run names what is lost and ends with 1; nothing is final that is not there, and the next run reads it.
    """
    with cluster(synchronous_standby_names="" if lost else "standby") as primary:
        primary.start()
        with standby_of(primary) as standby:
            dsn = dsn_of(primary, standby, target_session_attrs="read-write")
            with bench_for(tmp_path, dsn) as bench:
                moments = {2: lambda: disconnected(primary, standby)} if lost else {}
                moments[6] = lambda: promoted(primary, standby)
                bench.on_request = lambda number: moments.get(number, lambda: None)()

                code, output = bench.run("--set", "source.talroo.concurrency=1")

                bench.on_request = lambda number: None
                assert code == int(lost), output
                assert ("has lost what was committed last" in output) is lost, output
                assert finals_are_there(bench)
                delivered = bench.query(
                    "select count(*) as partitions from penstock.partitions where state = 'delivered'"
                )
                assert (
                    delivered[0]["partitions"]
                    < bench.report()["sources"]["talroo"]["streams"]["clicks"]["partitions"]["planned"]
                ) is lost
                code, output = bench.run()
                assert code == 0, output
                bench.assert_true()


def disconnected(primary: Cluster, standby: Cluster) -> None:
    """From now on the standby receives nothing."""
    standby.query("alter system set primary_conninfo = ''")
    standby.query("select pg_reload_conf()")
    eventually(lambda: primary.query("select count(*) from pg_stat_replication") == [(0,)])


def promoted(primary: Cluster, standby: Cluster) -> None:
    """Once a few partitions are committed, the standby takes over from the primary, which is killed."""
    delivered = "select count(*) > 2 from penstock.partitions where state = 'delivered'"
    eventually(lambda: primary.query(delivered) == [(True,)])
    primary.stop(signal.SIGKILL)
    standby.query("select pg_promote()")


def finals_are_there(bench: Bench) -> bool:
    """Whether each partition that the ledger counts as delivered has its rows in the table."""
    counted = bench.query(
        "select p.rows, (select count(*) from talroo.clicks c where c.advertiser_id = p.account "
        "and c.report_date = p.day::date) as there from penstock.partitions p where state = 'delivered'"
    )
    return all(row["rows"] == row["there"] for row in counted)


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.large
def test_the_disk_of_the_server_is_full(tmp_path: Path) -> None:
    """
    Partitions that cannot be stored fail with the server's words, and the delivered ones are there; once there is space
    again, and the server runs, the next run delivers the rest.
    """
    disk = Path("/tmp") / f"pgd{os.getpid()}"
    disk.mkdir()
    with small_disk(disk, "400m"), cluster(home=disk) as server:
        server.start()
        with bench_for(tmp_path, server.dsn) as bench:
            bench.app.clicks_per_day = 2000
            filled: list[Path] = []
            bench.on_request = lambda number: filled.append(fill(disk)) if number == 4 else None

            code, output = bench.run("--set", "source.talroo.concurrency=1")

            assert code == 1, output
            assert "No space left on device" in output, output
            assert "out of disk, memory or connections (SQLSTATE 53100)" in output, output
            filled[0].unlink()
            bench.on_request = lambda number: None
            if server.process is None or server.process.poll() is not None:
                server.start()
            assert finals_are_there(bench)
            code, output = bench.run()
            assert code == 0, output
            bench.assert_true()
    disk.rmdir()
