"""
The integrations with the real clients (``make integrations``), each installed into an environment of its own below
``.integrations``.

The pages in docs/integrations are run as they stand, in one shell each, against the imitation of Talroo. The clock of
penstock's processes is at 2026-11-21, that of the clients is the machine's.
"""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from attrs import define, field
from clients import HANGS_S, QUICKLY, ROOT, client
from command_in_subprocess import toml
from imitation_convertr import ConvertrSandbox
from imitation_talroo import TalrooSandbox
from penstock.sandbox.server import Server, serve

pytestmark = pytest.mark.integrations

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
TODAY = NOW.date()
LATER = "2026-11-21T09:00:00+00:00"
START = date(2026, 11, 15)


PENSTOCK = f"""#!{sys.executable}
import os, sys, time_machine
time_machine.travel(os.environ.get("NOW", {NOW.isoformat()!r}), tick=True).start()
from penstock._cli import script
sys.exit(script())
"""


SITE = f"""
import os, time_machine
time_machine.travel(os.environ.get("NOW", {NOW.isoformat()!r}), tick=True).start()
"""


@define
class Place:
    """A directory with penstock on its PATH, and a provider."""

    folder: Path
    server: Server
    app: Any
    keys: Mapping[str, Any] = field(factory=dict)  # of the source

    def shell(self, script: str, *clients: str, code: int = 0, **environ: str) -> str:
        """
        Run a script; what it printed on standard output. The page's port is where the imitation listens, and its clock
        is that of the script, ``NOW``: a read is dated by the provider's clock.
        """
        now = datetime.fromisoformat(environ.get("NOW", NOW.isoformat()))
        self.app.now = lambda: now
        path = [self.folder / "bin", *map(client, clients), os.environ["PATH"]]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace("8977", str(self.server.port))],
            cwd=self.folder,
            env={**os.environ, **QUICKLY, "PATH": ":".join(map(str, path)), **environ},
            capture_output=True,
            text=True,
            timeout=HANGS_S,
            check=False,
        )
        assert done.returncode == code, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def write(self, name: str, value: Any) -> None:
        (self.folder / name).write_text(value if isinstance(value, str) else json.dumps(value))

    def page(self, name: str, *clients: str, **environ: str) -> None:
        """Run a page of docs/integrations from beginning to end; blocks that begin with ``# FILE`` are files."""
        text = (ROOT / "docs" / "integrations" / name).read_text()
        script = ""
        for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            named = re.match(r"# (\S+)\n", block)
            if language == "sh":
                script += block
            elif named is not None:
                self.write(named[1], block.replace("8977", str(self.server.port)))
        self.shell(script, *clients, **environ)

    def prices(self) -> dict[tuple[str, str, str], Decimal | None]:
        """Every click of the window, as the provider has it now: (advertiser, day, id) -> exact price."""
        days = [START + timedelta(days=number) for number in range((TODAY - START).days)]
        return {
            (advertiser, day.isoformat(), row["click_id"]): Decimal(row["price"]).scaleb(-2) if row["price"] else None
            for advertiser in self.app.advertisers
            for day in days
            for row in self.app.truth("clicks", advertiser_id=advertiser, report_date=day)
        }


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_float=Decimal) for line in path.read_text().splitlines()]


def _place(folder: Path, server: Server, app: Any) -> Place:
    place = Place(folder, server, app)
    (folder / "bin").mkdir()
    (folder / "site").mkdir()
    place.write("site/sitecustomize.py", SITE)  # with site on PYTHONPATH, Python starts at NOW
    place.write("bin/penstock", PENSTOCK)
    (folder / "bin" / "penstock").chmod(0o755)
    for name in ("talroo", "convertr"):
        for program, command in (("tap", "singer"), ("source", "airbyte")):
            place.write(f"bin/{program}-{name}", f'#!/bin/sh\nexec penstock {command} {name} "$@"\n')
            (folder / "bin" / f"{program}-{name}").chmod(0o755)
    return place


@pytest.fixture
def talroo(tmp_path: Path) -> Iterator[Place]:
    with serve() as server:
        server.app = app = TalrooSandbox(server.base_url, TODAY)
        app.allowed_per_second = None
        place = _place(tmp_path, server, app)
        keys = {"customer_reference": "637573746f6d65722e3430", "customer_secret": "Jobs2CareersDemo"}
        place.write(
            "talroo.json",
            {**keys, "base_url": server.base_url, "advertiser_ids": list(app.advertisers), "start": START.isoformat()},
        )
        yield place


@pytest.fixture
def convertr(tmp_path: Path) -> Iterator[Place]:
    with serve() as server:
        server.app = app = ConvertrSandbox(server.base_url, TODAY)
        place = _place(tmp_path, server, app)
        keys = {"username": "reader@sandbox.example", "password": "sandbox password & more"}
        place.keys = {**keys, "base_url": server.base_url, "requests_per_second": 1000.0, "concurrency": 4}
        place.write("convertr.json", {**place.keys, "start": START.isoformat()})
        yield place


# --- Singer -----------------------------------------------------------------------------------------------------------


def test_the_page_on_singer(talroo: Place) -> None:
    """
    The commands of the page on Singer work with target-jsonl and Meltano; a second run with the state writes the open
    days again.
    """
    talroo.page("singer.md", "target-jsonl", "meltano")

    lines = [line for path in talroo.folder.glob("clicks*.jsonl") for line in lines_of(path)]
    mine = {key: price for key, price in talroo.prices().items() if key[0] == "2112"}
    found = {(one["advertiser_id"], one["report_date"], one["click_id"]): one.get("price_amount") for one in lines}
    assert found == mine
    assert any("ip" not in one for one in lines), "Meltano leaves out what is not selected"
    state = json.loads((talroo.folder / "state.json").read_text())
    assert state["bookmarks"]["clicks"]["accounts"]["2112"]["final"]


TARGETS = {
    "target-jsonl": ("target-jsonl", {"destination_path": ".", "do_timestamp_file": False}),
    "meltanolabs-target-csv": ("target-csv", {"output_path": "."}),
    "meltanolabs-target-postgres": ("target-postgres", {"default_target_schema": "loaded"}),
    "pipelinewise-target-postgres": ("target-postgres", {"default_target_schema": "loaded", "password": "unused"}),
    "target-duckdb": ("target-duckdb", {"path": "t.duckdb", "filepath": "t.duckdb", "default_target_schema": "main"}),
}


def target(place: Place, name: str, dsn: str) -> str:
    """The command of a target, its configuration written."""
    program, config = TARGETS[name]
    parts = urlsplit(dsn)
    host, database = parse_qs(parts.query)["host"][0], parts.path[1:]
    if name.startswith("meltanolabs-target-postgres"):
        config = {**config, "sqlalchemy_url": f"postgresql+psycopg://postgres@/{database}?host={host}"}
    elif name.startswith("pipelinewise"):
        config = {**config, "host": host, "port": 5432, "user": parts.username, "dbname": database}
    place.write("target.json", config)
    return f"{program} --config target.json"


def loaded(place: Place, name: str, dsn: str, columns: str, table: str) -> list[tuple[Any, ...]]:
    """These columns of a table, as the target holds them; decimals exact."""
    if "postgres" in name:
        with psycopg.connect(dsn) as connection:
            return connection.execute(f"select {columns} from loaded.{table}").fetchall()  # type: ignore[arg-type]
    if name == "target-duckdb":
        code = (
            "import duckdb, json; c = duckdb.connect('t.duckdb'); "
            f"print(json.dumps(c.execute('select {columns} from main.{table}').fetchall(), default=str))"
        )
        return [tuple(row) for row in json.loads(place.shell(f'python -c "{code}"', name))]
    if name == "target-jsonl":
        rows = lines_of(place.folder / f"{table}.jsonl")
    else:
        with (place.folder / f"{table}.csv").open() as file:
            rows = list(csv.DictReader(file))
    return [tuple(row.get(column) for column in columns.split(", ")) for row in rows]


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds_every_row(name: str, talroo: Place, dsn: str) -> None:
    """
    Two runs with a restatement between them: each row with its exact price; the second starts from the target's state.
    """
    into = target(talroo, name, dsn)
    as_text = "--decimals text" if name in ("pipelinewise-target-postgres", "target-duckdb") else ""
    tap = f"tap-talroo --config talroo.json {as_text}"
    talroo.shell(f"{tap} | {into} | tail -1 > state.json", name)
    open_day = TODAY - timedelta(days=1)
    before = talroo.prices()
    talroo.app.restate(open_day)
    assert talroo.prices() != before
    talroo.shell(f"{tap} --state state.json | {into} | tail -1 > again.json", name, NOW=LATER)

    rows = loaded(talroo, name, dsn, "advertiser_id, report_date, click_id, price_amount", "clicks")
    found = {(one, str(day), click): Decimal(price) if price else None for one, day, click, price in rows}
    now = talroo.prices()
    if name == "meltanolabs-target-csv":  # each run writes a new file
        now = {key: price for key, price in now.items() if key[1] in {day for _, day, _ in found}}
        assert len({day for _, day, _ in now}) == 3
    assert {key: found.get(key, "missing") for key in now} == now
    assert {day for _, day, _ in found.keys() - now.keys()} <= {open_day.isoformat()}
    assert json.loads((talroo.folder / "state.json").read_text()) == json.loads(
        (talroo.folder / "again.json").read_text()
    )


def test_vanished_rows_are_deleted_by_the_statement_of_the_page(talroo: Place, dsn: str) -> None:
    """
    meltanolabs-target-postgres: after the statement the table is what the provider has, vanished rows included.
    """
    into = target(talroo, "meltanolabs-target-postgres", dsn)
    talroo.shell(f"tap-talroo --config talroo.json | {into} | tail -1 > state.json", "meltanolabs-target-postgres")
    before = talroo.prices()
    for back in (1, 2, 3):
        talroo.app.restate(TODAY - timedelta(days=back))
    assert before.keys() - talroo.prices().keys(), "no row vanishes in this restatement: choose another"
    again = f"tap-talroo --config talroo.json --state state.json | {into}"
    talroo.shell(again, "meltanolabs-target-postgres", NOW=LATER)
    (statement,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/integrations/singer.md").read_text(), re.DOTALL)
    with psycopg.connect(dsn) as connection:
        connection.execute("set search_path = loaded")
        connection.execute(statement)

    rows = loaded(
        talroo, "meltanolabs-target-postgres", dsn, "advertiser_id, report_date, click_id, price_amount", "clicks"
    )
    assert {(one, str(day), click): price for one, day, click, price in rows} == talroo.prices()


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_nested_and_derived_streams(name: str, convertr: Place, dsn: str) -> None:
    """
    Nested members, times with a zone, streams without a day and derived ones.
    """
    into = target(convertr, name, dsn)
    as_text = "--nested text" if name in ("pipelinewise-target-postgres", "target-duckdb") else ""
    convertr.shell(
        f"tap-convertr --config convertr.json {as_text} > messages.jsonl; {into} < messages.jsonl > state.json", name
    )

    messages = lines_of(convertr.folder / "messages.jsonl")
    for stream, key in (("leads", "id"), ("lead_data", "lead_id, at_id"), ("campaigns", "id")):
        written = [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]
        expected = {tuple(str(row[column]) for column in key.split(", ")) for row in written}
        assert {tuple(map(str, row)) for row in loaded(convertr, name, dsn, key, stream)} == expected != set()


def test_singer_check_tap(talroo: Place) -> None:
    """
    The checker of singer-tools accepts two runs, the second with the state of the first, and counts every record.
    """
    prices, days = talroo.prices(), set[str]()
    for number, state in enumerate(["", "--state state.json"]):
        talroo.shell(f"tap-talroo --config talroo.json {state} > {number}.jsonl")
        messages = [json.loads(line) for line in (talroo.folder / f"{number}.jsonl").read_text().splitlines()]
        talroo.write("state.json", [one["value"] for one in messages if one["type"] == "STATE"][-1])
        days = {one["record"]["report_date"] for one in messages if one["type"] == "RECORD"}
        # It reads the output of a tap that it starts itself only as far as it has come when the tap ends.
        printed = talroo.shell(f"singer-check-tap < {number}.jsonl", "singer-tools")

        expected = sum(day in days for _, day, _ in prices)
        assert "The output is valid." in printed
        assert re.findall(r"(\d+) (record|schema) messages", printed) == [("1", "schema"), (str(expected), "record")]
    assert 0 < len(days) < len({day for _, day, _ in prices})


SDK_TESTS = """
import json, subprocess, sys
from singer_sdk import Stream, Tap
from singer_sdk.testing import get_tap_test_class

WORDS = ["PROGRAM", "--config", "CONFIG", "--nested", "text"]

class AnyStream(Stream):
    def get_records(self, context):
        return ()

class Any(Tap):
    name = "PROGRAM"
    config_jsonschema = {"properties": {}}

    def discover_streams(self):
        found = json.loads(subprocess.run([*WORDS, "--discover"], check=True, capture_output=True).stdout)
        made = []
        for entry in found["streams"]:
            if not entry["metadata"][0]["metadata"]["selected"]:
                continue
            stream = AnyStream(tap=self, name=entry["stream"], schema=entry["schema"])
            stream.primary_keys = entry["key_properties"]
            made.append(stream)
        return made

    def run_connection_test(self):
        return subprocess.run([*WORDS, "--test"]).returncode == 0

    def run_sync_dry_run(self, *args, **kwargs):
        sys.stdout.write(subprocess.run(WORDS, check=True, capture_output=True, text=True).stdout)
        return True

TestAny = get_tap_test_class(Any, config={})
"""


@pytest.mark.parametrize("provider", ["talroo", "convertr"])
def test_the_suite_of_the_sdk(provider: str, request: pytest.FixtureRequest) -> None:
    """
    The Singer SDK's tests of a tap, each run by the program. They know no column that holds any JSON, hence the text.
    """
    place: Place = request.getfixturevalue(provider)
    place.write("test_tap.py", SDK_TESTS.replace("PROGRAM", f"tap-{provider}").replace("CONFIG", f"{provider}.json"))
    printed = place.shell("python -m pytest -q -p no:cacheprovider test_tap.py", "singer-sdk")
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 15  # type: ignore[index]


# --- a Singer target as a sink ----------------------------------------------------------------------------------------


def test_the_page_on_singer_targets(talroo: Place) -> None:
    """
    The run of the page, and one more after a restatement: target-duckdb holds every row with its exact price.
    """
    talroo.page("singer-target.md", "target-duckdb")
    open_day = TODAY - timedelta(days=1)
    talroo.app.restate(open_day)
    again = "penstock run daily --since 2026-11-15"
    talroo.shell(again, "target-duckdb", NOW=LATER, TALROO_SECRET="Jobs2CareersDemo")

    code = (
        "import duckdb, json; c = duckdb.connect('warehouse.duckdb'); rows = c.execute('select advertiser_id, "
        "report_date, click_id, price_amount from talroo.clicks').fetchall(); print(json.dumps(rows, default=str))"
    )
    rows = json.loads(talroo.shell(f'python -c "{code}"', "target-duckdb"))
    found = {(one, day, click): Decimal(price) if price else None for one, day, click, price in rows}
    now = talroo.prices()
    assert {key: found.get(key, "missing") for key in now} == now
    assert {day for _, day, _ in found.keys() - now.keys()} <= {open_day.isoformat()}


@pytest.mark.parametrize("name", ["meltanolabs-target-postgres", "pipelinewise-target-postgres"])
def test_a_snapshot_reaches_a_target(name: str, convertr: Place, dsn: str) -> None:
    """
    Streams of every kind in one run; what the ledger counts as delivered is in the tables.
    """
    program = target(convertr, name, dsn).partition(" ")[0]
    sink = {"kind": "singer", "command": f"{program} --config target.json", "ledger": "ledger", "nested_as_text": True}
    convertr.write("penstock.toml", f"[sink.warehouse]\n{toml(sink)}\n[source.convertr]\n{toml(convertr.keys)}")
    convertr.shell("penstock run convertr --to warehouse --since 2026-11-15 --report report.json", name)

    report = json.loads((convertr.folder / "report.json").read_text())
    for stream, key in (("leads", "id"), ("lead_data", "lead_id, at_id"), ("campaigns", "id")):
        rows = loaded(convertr, name, dsn, key, stream)
        assert len(rows) == len(set(rows))
        expected = report["sources"]["convertr"]["streams"][stream]["records"]
        # A lead that was updated on several days is sent on each of them.
        assert 0 < len(rows) <= expected if stream != "campaigns" else len(rows) == expected


# --- Airbyte ----------------------------------------------------------------------------------------------------------


def test_the_page_on_airbyte(talroo: Place) -> None:
    """
    Two syncs of PyAirbyte into DuckDB with a restatement between them: each row once, with its exact price.
    """
    talroo.page("airbyte.md", "airbyte")
    open_day = TODAY - timedelta(days=1)
    talroo.app.restate(open_day)
    talroo.shell("python load.py", "airbyte", AIRBYTE_OFFLINE_MODE="1", DO_NOT_TRACK="1", NOW=LATER)

    code = (
        "import duckdb, json; c = duckdb.connect('talroo.duckdb'); rows = c.execute('select advertiser_id, "
        "report_date, click_id, price_amount from main.clicks').fetchall(); print(json.dumps(rows, default=str))"
    )
    rows = json.loads(talroo.shell(f'python -c "{code}"', "airbyte"))
    found = {(one, day, click): Decimal(price) if price else None for one, day, click, price in rows}
    now = talroo.prices()
    assert len(found) == len(rows)
    assert {key: found.get(key, "missing") for key in now} == now
    assert {day for _, day, _ in found.keys() - now.keys()} <= {open_day.isoformat()}


CDK_TESTS = """
import subprocess
from airbyte_cdk.test import entrypoint_wrapper
from airbyte_cdk.test.standard_tests import SourceTestSuiteBase

class Program:
    def spec(self, logger):
        raise NotImplementedError

def run(source, args, expecting_exception=None, *, expected_outcome=None):
    done = subprocess.run([PROGRAM, *args], capture_output=True, text=True)
    return entrypoint_wrapper.EntrypointOutput(messages=done.stdout.splitlines())

entrypoint_wrapper._run_command = run

class TestSource(SourceTestSuiteBase):
    connector = Program
"""

ACCEPTANCE = """
connector_image: airbyte/PROGRAM:dev
acceptance_tests:
  spec: {tests: [{config_path: config.json}]}
  connection: {tests: [{config_path: config.json, status: succeed}]}
  discovery: {tests: [{config_path: config.json}]}
  basic_read: {tests: [{config_path: config.json, empty_streams: EMPTY}]}
"""


@pytest.mark.parametrize("provider", ["talroo", "convertr"])
def test_the_standard_tests_of_the_cdk(provider: str, request: pytest.FixtureRequest) -> None:
    """
    Specification, check, catalog, records that match their schema, and a bad catalog, each by the program.
    """
    place: Place = request.getfixturevalue(provider)
    program, folder = f"source-{provider}", place.folder / f"source-{provider}"
    folder.mkdir()
    (folder / "config.json").write_text((place.folder / f"{provider}.json").read_text())
    (folder / "metadata.yaml").write_text(f"data: {{dockerRepository: airbyte/{program}, tags: ['language:python']}}\n")
    (folder / "acceptance-test-config.yml").write_text(ACCEPTANCE.replace("PROGRAM", program).replace("EMPTY", "[]"))
    (folder / "test_source.py").write_text(f'PROGRAM = "{program}"\n{CDK_TESTS}')
    printed = place.shell(
        f"cd {program} && python -m pytest -q -p no:cacheprovider -p airbyte_cdk.test.standard_tests.pytest_hooks "
        "-k 'not docker and not image' test_source.py",
        "airbyte-cdk",
    )
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 6  # type: ignore[index]


# --- dlt --------------------------------------------------------------------------------------------------------------

QUERIES = """
import dlt, json, sys
with dlt.attach("talroo").sql_client() as client:
    print(json.dumps([client.execute_sql(query) for query in sys.argv[1:]], default=str))
"""
DLT = {"PYTHONPATH": "site", "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}


def _dlt(place: Place) -> dict[str, str]:
    return {**DLT, "DLT_DATA_DIR": str(place.folder / "dlt"), "TALROO_SECRET": "Jobs2CareersDemo"}


def queried(place: Place, *queries: str) -> list[list[list[Any]]]:
    """The rows of each query, from the pipeline's destination."""
    place.write("query.py", QUERIES)
    words = " ".join(f'"{query}"' for query in queries)
    found: list[list[list[Any]]] = json.loads(place.shell(f"python query.py {words}", "dlt", **_dlt(place)))
    return found


ENDED = """
import dlt
from penstock import Project
from penstock_plugins.integrations.dlt import dlt_source

pipeline = dlt.attach("talroo")
pipeline.extract(dlt_source(Project("penstock.toml"), "talroo", since="2026-11-18", until="2026-11-18"))
pipeline.normalize()
"""


def test_the_page_on_dlt(talroo: Place) -> None:
    """
    Two runs into DuckDB, and between them one that was ended before it loaded: rows that vanished, and a day that lost
    all of its rows, are gone; each amount is exact.
    """
    environ = _dlt(talroo)
    talroo.write("ended.py", ENDED)
    talroo.page("dlt.md", "dlt", **environ)
    before = talroo.prices()
    for back in (2, 3):
        talroo.app.restate(TODAY - timedelta(days=back))
    yesterday = (TODAY - timedelta(days=1)).isoformat()
    assert any(day == yesterday for _, day, _ in before)
    clicks, talroo.app.clicks = talroo.app.clicks, lambda one, day: [] if str(day) == yesterday else clicks(one, day)
    assert before.keys() - talroo.prices().keys()
    talroo.shell("python ended.py && python load.py", "dlt", **environ, NOW=LATER)

    rows, types = queried(
        talroo,
        "select advertiser_id, report_date, click_id, price_amount from clicks",
        "select count(*), count(penstock_gone), typeof(min(price_amount)), typeof(min(time)) from clicks",
    )
    assert {(one, day, click): Decimal(price) if price else None for one, day, click, price in rows} == talroo.prices()
    assert len(rows) == len(talroo.prices())
    assert types == [[len(rows), 0, "DECIMAL(38,9)", "TIMESTAMP"]]


def test_a_failed_partition_loads_nothing(talroo: Place) -> None:
    """
    dlt keeps neither rows nor state of an extraction that failed; the next run has everything.
    """
    environ = _dlt(talroo)
    talroo.app.overstate(START)
    with pytest.raises(AssertionError, match="the provider states"):
        talroo.page("dlt.md", "dlt", **environ)
    talroo.app.overstate(START, 0)
    talroo.shell("python load.py", "dlt", **environ)

    assert queried(talroo, "select count(*) from clicks") == [[[len(talroo.prices())]]]


LOAD_CONVERTR = """
import dlt, json
from penstock import Project
from penstock_plugins.integrations.dlt import dlt_source

project = Project({}).with_source("convertr", json.load(open("convertr.json")))
pipeline = dlt.pipeline("talroo", destination=dlt.destinations.duckdb("talroo.duckdb"), dataset_name="loaded")
for _ in range(2):
    pipeline.run(dlt_source(project, "convertr", ["leads", "lead_data", "campaigns", "campaign_publisher_bands"]))
"""


def test_dlt_loads_nested_and_derived_streams(convertr: Place) -> None:
    """
    Two runs: one row for each key, nested values as JSON with their digits, texts among them.
    """
    convertr.write("load.py", LOAD_CONVERTR)
    convertr.shell("python load.py", "dlt", **_dlt(convertr))

    streams = (("leads", "id"), ("lead_data", "(lead_id, at_id)"), ("campaigns", "id"))
    *counts, kinds = queried(
        convertr,
        *(f"select count(*), count(distinct {key}) from {stream}" for stream, key in streams),
        "select distinct json_type(campaign_payout_band) from campaign_publisher_bands",
    )
    assert all(count == distinct > 0 for ((count, distinct),) in counts)
    assert ["VARCHAR"] in kinds


# --- Dagster ----------------------------------------------------------------------------------------------------------

MATERIALIZE = """
import dagster, json
from definitions import assets, defs

instance = dagster.DagsterInstance.ephemeral()

def materialized(**options):
    result = dagster.materialize(assets, instance=instance, raise_on_error=False, **options)
    made = result.asset_materializations_for_node("talroo_clicks") if result.success else []
    return [result.success, *({name: one.value for name, one in each.metadata.items()} for each in made)]

tags = {"dagster/asset_partition_range_start": "2026-11-15", "dagster/asset_partition_range_end": "2026-11-20"}
(asset,) = assets
columns = {one.name: one.type for one in asset.specs_by_key[asset.key].metadata["dagster/column_schema"].columns}
print(json.dumps([
    asset.key.path, columns["price_amount"], materialized(tags=tags), materialized(partition_key="2026-11-19"),
    [schedule.name for schedule in defs.get_repository_def().schedule_defs],
], default=str))
"""


def test_the_page_on_dagster(talroo: Place) -> None:
    """
    The page's day; then a range of days as one run, and a restated day once more: the files hold what the provider has.
    """
    environ = {"PYTHONPATH": "site", "DAGSTER_HOME": "", "TALROO_SECRET": "Jobs2CareersDemo"}
    talroo.page("dagster.md", "dagster", **environ)
    talroo.app.restate(date(2026, 11, 19))
    talroo.write("materialize.py", MATERIALIZE)
    printed = talroo.shell("python materialize.py", "dagster", **environ, NOW=LATER)

    key, price, several, one, schedules = json.loads(printed.splitlines()[-1])
    assert (key, price) == (["talroo", "clicks"], "decimal")
    assert schedules == ["daily_schedule"]
    assert several[0] is one[0] is True
    days = [day for _, day, _ in talroo.prices()]
    rows_of_days = [days.count(f"2026-11-{number}") for number in range(15, 21)]
    assert [made["dagster/row_count"] for made in several[1:]] == rows_of_days
    assert {made["partitions"] for made in several[1:]} == {2}
    assert several[1]["run_id"] != one[1]["run_id"]
    assert one[1]["partitions"] == 2
    rows = [row for path in (talroo.folder / "data").rglob("*.jsonl") for row in lines_of(path)]
    found = {(row["advertiser_id"], row["report_date"], row["click_id"]): row["price_amount"] for row in rows}
    assert found == talroo.prices()


def test_a_failed_run_fails_the_step(talroo: Place) -> None:
    """
    A partition that does not add up fails the materialization with its reason.
    """
    environ = {"PYTHONPATH": "site", "DAGSTER_HOME": "", "TALROO_SECRET": "Jobs2CareersDemo"}
    talroo.app.overstate(START)
    with pytest.raises(AssertionError, match="Nothing was replaced"):
        talroo.page("dagster.md", "dagster", **environ)
