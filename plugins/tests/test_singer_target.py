"""
The sink ``singer`` with a target of the test's own: what it receives, when a partition counts as delivered, and what
happens when it dies, hangs or returns no state. Real targets are in test_integrations.py.
"""

import json
import os
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from command_in_subprocess import command, configure, finished, toml
from penstock import Project, RunResult, SandboxResponse, Secret, UsageError
from penstock.errors import TargetError
from penstock.testing.conformance import QUICK
from penstock_plugins.files.locks import lock_file
from penstock_plugins.integrations import singer_target
from penstock_plugins.sink_kinds import SINGER
from providers import TALROO, TARGETCIRCLE, TODAY, Provider, bag, then
from waits import eventually

pytestmark = pytest.mark.slow

# Appends what it reads to a file, then prints the last state, as a target does after it stored everything.
TARGET = """
import json, os, sys
config = json.load(open(sys.argv[2]))
mode = os.stat(sys.argv[2]).st_mode
behaviour = open("behaviour").read() if os.path.exists("behaviour") else ""
if behaviour == "dies at length":
    sys.exit("password " + config["password"] + "." * 590)
if behaviour == "is killed":
    import signal
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "dies at once":
    sys.exit("no route to the warehouse, password " + config["password"])
state, kept = None, []
for line in sys.stdin:
    kept.append(line)
    message = json.loads(line)
    if message["type"] == "STATE":
        state = message["value"]
        if behaviour == "echoes":
            print(json.dumps(state), flush=True)
    if behaviour == "dies later" and len(kept) == 5:
        sys.exit("out of space")
    if behaviour == "stops reading" and len(kept) == 5:
        sys.exit(0)
if behaviour == "hangs":
    import time
    open("hanging", "w").close()
    time.sleep(600)
if behaviour == "waits":
    import time
    open("waiting", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.05)
if behaviour == "chatters":
    for _ in range(20000):
        print(json.dumps({"bookmarks": {"of": "long ago"}}))
        print("loading ...", file=sys.stderr)
if behaviour == "dies at the end":
    sys.exit(3)
with open("received.jsonl", "a") as file:
    file.writelines(kept)
with open("configs.jsonl", "a") as file:
    file.write(json.dumps([config, mode, sys.argv[2]]) + "\\n")
if behaviour != "prints no state":
    print(json.dumps(state))
"""


@define
class Warehouse:
    """A source, its imitation, and the target that receives its records."""

    folder: Path
    provider: Provider
    app: Any
    base_url: str
    environ: pytest.MonkeyPatch

    def run(self, *, config: dict[str, Any] | None = None, **more: Any) -> RunResult:
        window = {"since": TODAY - timedelta(days=6), "until": TODAY - timedelta(days=1)}
        project = self.project(config, more.pop("sink", {}))
        return project.run(self.provider.name, to="warehouse", streams=self.provider.streams, **{**window, **more})

    def project(self, config: dict[str, Any] | None = None, more: dict[str, Any] | None = None) -> Project:
        sink = {
            "kind": "singer",
            "command": f"{sys.executable} target.py",
            "config": {"password": {"env": "WAREHOUSE_PASSWORD"}, "dbname": "sales", **(config or {})},
            "ledger": str(self.folder / "ledger"),
        }
        source = {
            key: Secret(one) if key in self.provider.secrets else one
            for key, one in {**self.provider.settings, **QUICK, "base_url": self.base_url}.items()
        }
        return Project(
            {"source": {self.provider.name: source}, "sink": {"warehouse": {**sink, **(more or {})}}},
            environ={},
            clock=lambda stop: then().__class__(then().now(), stop),
        )

    def behave(self, how: str) -> None:
        (self.folder / "behaviour").write_text(how)

    def received(self) -> list[dict[str, Any]]:
        path = self.folder / "received.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line, parse_float=Decimal) for line in lines]

    def rows(self, stream: str = "clicks") -> list[dict[str, Any]]:
        return [one["record"] for one in self.received() if one["type"] == "RECORD" and one["stream"] == stream]

    def entries(self) -> dict[str, str]:
        """Partition -> state, in the ledger."""
        with sqlite3.connect(self.folder / "ledger" / "ledger.sqlite") as connection:
            return dict(connection.execute("select partition, state from partitions").fetchall())

    def states_of_days_with_rows(self) -> set[str]:
        """A day without rows is delivered without the target."""
        with_rows = {(row["advertiser_id"], str(row["report_date"])) for row in self.truth()}
        return {state for text, state in self.entries().items() if tuple(json.loads(text).values()) in with_rows}

    def truth(self) -> list[dict[str, Any]]:
        days = [TODAY - timedelta(days=back) for back in range(6, 0, -1)]
        return [row for key in self.provider.parts(self.app, days) for row in self.provider.truth(self.app, *key)]


@pytest.fixture
def warehouse(
    request: pytest.FixtureRequest, working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Warehouse]:
    provider: Provider = getattr(request, "param", TALROO)
    (working_directory / "target.py").write_text(TARGET)
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "correct-horse-battery")
    with provider.served() as (server, app):
        yield Warehouse(working_directory, provider, app, server.base_url, monkeypatch)


def test_the_target_holds_every_row_and_the_ledger_its_days(warehouse: Warehouse) -> None:
    """
    Rows with their digits, the key over all partitions, and one process for a group of partitions; the next run reads
    and sends what is open.
    """
    assert warehouse.run().exit_code == 0

    assert bag(warehouse.rows()) == bag(warehouse.truth())
    assert all(str(row["price_amount"]) == str(Decimal(row["price"]).scaleb(-2)) for row in warehouse.rows())
    schema = warehouse.received()[0]
    assert schema["key_properties"] == ["advertiser_id", "report_date", "click_id"]
    assert len(warehouse.entries()) == 12
    assert len((warehouse.folder / "configs.jsonl").read_text().splitlines()) < 12
    before = len(warehouse.rows())
    open_day = TODAY - timedelta(days=1)
    warehouse.app.restate(open_day)
    assert warehouse.run().exit_code == 0
    again = warehouse.rows()[before:]
    assert {row["report_date"] for row in again} <= {(TODAY - timedelta(days=back)).isoformat() for back in (1, 2, 3)}
    assert bag(row for row in again if row["report_date"] == open_day.isoformat()) == bag(
        row for row in warehouse.truth() if row["report_date"] == open_day
    )


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("dies at once", "ended with 1 and took nothing over. It printed: ... no route to the warehouse, password ***"),
        ("dies at length", f"It printed: ... ssword ***{'.' * 590}"),
        ("dies later", "ended with 1 and took nothing over. It printed: ... out of space"),
        ("dies at the end", "ended with 3"),
        ("is killed", "was ended by SIGKILL and took nothing over. It printed no reason"),
        ("prints no state", "did not return the state that was sent last; it printed none"),
        ("stops reading", "ended with 0"),  # before or after all was written to it, as it happens
    ],
)
def test_unconfirmed_partitions_are_not_delivered(warehouse: Warehouse, behaviour: str, message: str) -> None:
    """
    Every partition fails with what the target printed, none is in the ledger, and the next run sends all again.
    """
    warehouse.behave(behaviour)
    result = warehouse.run()

    assert result.exit_code == 1
    assert message in result.errors[0]["message"]
    assert "correct-horse-battery" not in json.dumps(result.report)
    assert warehouse.states_of_days_with_rows() == {"failed"}
    (warehouse.folder / "received.jsonl").unlink(missing_ok=True)
    warehouse.behave("")
    assert warehouse.run().exit_code == 0
    assert bag(warehouse.rows()) == bag(warehouse.truth())


def test_states_count_only_at_the_end(warehouse: Warehouse) -> None:
    """
    A target that prints each state as it comes is believed when it has ended well.
    """
    warehouse.behave("echoes")

    assert warehouse.run().exit_code == 0
    assert bag(warehouse.rows()) == bag(warehouse.truth())


def test_a_target_that_prints_megabytes_blocks_nothing(warehouse: Warehouse) -> None:
    """
    Standard output and stderr of a target are read while records are written.
    """
    warehouse.behave("chatters")

    assert warehouse.run(deadline_s=60).exit_code == 0


def test_a_target_that_hangs_is_ended_with_the_run(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A run that is stopped gives the target some seconds, then ends it; nothing counts as delivered.
    """
    monkeypatch.setattr(singer_target, "GRACE_S", 0)
    warehouse.behave("hangs")
    stop = threading.Event()

    def stop_when_it_hangs() -> None:
        eventually((warehouse.folder / "hanging").exists)
        stop.set()

    thread = threading.Thread(target=stop_when_it_hangs)
    thread.start()
    assert warehouse.run(stop=stop).exit_code == 130
    thread.join()
    assert "delivered" not in warehouse.states_of_days_with_rows()


WORDS = ("run", "talroo", "--to", "warehouse", "--since", "-6d", "--until", "-1d")


@pytest.fixture
def words(warehouse: Warehouse) -> tuple[str, ...]:
    """The words of a run of the command line, whose configuration is a file."""
    file = configure(warehouse.folder, TALROO, warehouse.base_url)
    sink = {"command": f"{sys.executable} target.py", "config": {"password": {"env": "WAREHOUSE_PASSWORD"}}}
    file.write_text(f'{file.read_text()}[sink.warehouse]\nkind = "singer"\nledger = "ledger"\n{toml(sink)}')
    return WORDS


def test_ctrl_c_lets_the_target_end_what_it_began(warehouse: Warehouse, words: tuple[str, ...]) -> None:
    """
    A terminal sends the signal to the whole group of the run's process; the target is not in it.
    """
    warehouse.behave("waits")
    process = command(warehouse.folder, *words, before=os.setsid)
    eventually(lambda: (warehouse.folder / "waiting").exists() or process.poll() is not None)

    os.killpg(process.pid, signal.SIGINT)
    (warehouse.folder / "go").touch()
    _, printed = process.communicate(timeout=120)

    assert process.returncode in (0, 130), printed  # 0 if all of the window was in this group
    assert "failed" not in warehouse.states_of_days_with_rows()
    assert "delivered" in warehouse.states_of_days_with_rows()


def test_the_configuration_of_a_killed_run_is_deleted_by_the_next(
    warehouse: Warehouse, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The configuration of a Singer target, which holds secrets, stays where the process is killed while its target runs;
    the next run deletes it.
    """
    place = warehouse.folder / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))

    process = command(warehouse.folder, *words, environ={"PENSTOCK_KILL_AT": "singer.started"})
    process.communicate(timeout=60)

    assert process.returncode == -signal.SIGKILL
    assert len(list(place.rglob("config.json"))) == 1
    assert finished(warehouse.folder, *words)[0] == 0
    assert list(place.rglob("config.json")) == []


def test_a_target_that_outlives_its_run_is_waited_for(
    warehouse: Warehouse, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Rows that it still writes would replace newer ones. If it does not end in time, the run ends with exit code 6.
    """
    warehouse.behave("waits")
    killed = command(warehouse.folder, *words, environ={"PENSTOCK_KILL_AT": "singer.started"})
    killed.communicate()
    eventually((warehouse.folder / "waiting").exists)
    warehouse.behave("")

    monkeypatch.setattr(singer_target, "GRACE_S", 0)
    early = warehouse.run()
    assert early.exit_code == 6
    assert "of a run that was killed still runs" in early.errors[0]["message"]
    assert not (warehouse.folder / "configs.jsonl").exists(), "another target was started"
    (warehouse.folder / "go").touch()
    with lock_file(warehouse.folder / "ledger" / "talroo.target.lock"):  # the target has ended
        assert (warehouse.folder / "configs.jsonl").exists()
    assert finished(warehouse.folder, *words)[0] == 0
    assert bag(warehouse.rows()) == bag(warehouse.truth())


def test_a_kill_between_target_and_ledger_sends_again(warehouse: Warehouse, words: tuple[str, ...]) -> None:
    """
    After a kill between target and ledger, the target has the rows and the ledger does not; the next run sends them
    again, and loses none.
    """
    process = command(warehouse.folder, *words, environ={"PENSTOCK_KILL_AT": "singer.loaded"})
    process.communicate(timeout=60)

    assert process.returncode == -signal.SIGKILL
    assert warehouse.states_of_days_with_rows() == set()
    once = bag(warehouse.rows())
    assert once
    assert finished(warehouse.folder, *words)[0] == 0
    assert bag(warehouse.rows()) == bag(warehouse.truth()) + once


def test_a_password_is_masked_in_the_output_of_the_target(warehouse: Warehouse) -> None:
    """
    One that stands there as text is no reference to a secret, and the target may repeat it.
    """
    (warehouse.folder / "behaviour").write_text("dies at once")

    found = warehouse.run(config={"password": "pl41n-in-the-file"})

    assert "no route to the warehouse, password ***" in found.errors[0]["message"]
    assert "pl41n" not in json.dumps(found.report)


def test_secrets_reach_the_target_and_nothing_else(warehouse: Warehouse) -> None:
    """
    The configuration is a file that only this user can read, and that is gone afterwards; the ledger has no password.
    """
    (warehouse.folder / "token").write_text("tok-4711-secret\n")
    warehouse.run(config={"token": {"file": str(warehouse.folder / "token")}})

    config, mode, path = json.loads((warehouse.folder / "configs.jsonl").read_text().splitlines()[0])
    assert config == {"password": "correct-horse-battery", "dbname": "sales", "token": "tok-4711-secret"}
    assert stat.S_IMODE(mode) == 0o600
    assert not Path(path).exists()
    ledger = b"".join(one.read_bytes() for one in (warehouse.folder / "ledger").iterdir())
    assert b"correct-horse" not in ledger
    assert b"tok-4711" not in ledger


def test_a_ledger_belongs_to_one_place(warehouse: Warehouse) -> None:
    """
    Another database would count as filled; a key that is named in may_change is no part of the place.
    """
    assert warehouse.run(config={"batch": 10}, sink={"may_change": ["batch"]}).exit_code == 0
    assert warehouse.run(config={"batch": 20}, sink={"may_change": ["batch"]}).exit_code == 0
    with pytest.raises(TargetError, match=r"is the ledger of .* with another configuration"):
        warehouse.run(config={"batch": 20, "dbname": "other"}, sink={"may_change": ["batch"]})


def test_rows_cannot_be_deleted_and_days_can_be_forgotten(warehouse: Warehouse) -> None:
    """
    A request to delete rows is refused, since Singer has no message for it; nothing is marked as deleted. Nor can rows
    be compared with the ledger, as they cannot be read.
    """
    assert warehouse.run().exit_code == 0
    day = TODAY - timedelta(days=1)

    with pytest.raises(UsageError, match="warehouse cannot be compared with its ledger: its rows cannot be read back"):
        warehouse.project().verify("talroo", to="warehouse")

    with pytest.raises(UsageError, match="cannot delete rows there"):
        warehouse.project().forget("talroo", "clicks", to="warehouse", since=day, until=day, rows=True)
    assert len(warehouse.entries()) == 12
    warehouse.project().forget("talroo", "clicks", to="warehouse", since=day, until=day)
    assert len(warehouse.entries()) == 10


@pytest.mark.parametrize("warehouse", [TARGETCIRCLE], indirect=True)
def test_a_snapshot_replaces_its_table(warehouse: Warehouse) -> None:
    """
    A whole table is followed by ACTIVATE_VERSION, so that the target may delete what is gone; a failed one is not.
    """
    warehouse.app.fail_next(SandboxResponse(status=400, body=b"{}"), times=1, on="/trades")
    assert warehouse.run(since=TODAY, until=TODAY).exit_code == 1

    activated = {one["stream"]: one["version"] for one in warehouse.received() if one["type"] == "ACTIVATE_VERSION"}
    assert set(activated) == {"offers"}  # the details are requested by the trades, and fail with them
    for stream, version in activated.items():
        own = [one for one in warehouse.received() if one.get("stream") == stream and one["type"] == "RECORD"]
        assert {one["version"] for one in own} == {version}


def test_a_target_is_named_on_the_command_line(working_directory: Path) -> None:
    """
    ``singer:COMMAND`` with arguments keeps its ledger in the current directory; without a command it is refused, and so
    is a program that is not there.
    """
    settings = SINGER.parse("singer:target-x --config t.json")
    assert isinstance(settings, singer_target.SingerTargetSettings)
    assert (settings.command, settings.ledger) == ("target-x --config t.json", Path(".penstock/singer-target-x"))
    with pytest.raises(UsageError, match="names no target"):
        SINGER.parse("singer:")
    with pytest.raises(TargetError, match="target-nowhere is not installed here"):
        SINGER.open(SINGER.parse("singer:target-nowhere")).open("talroo", "r")
