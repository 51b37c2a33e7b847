"""
The connector of docs/comparison.md, as it is printed there, against an imitation of its provider.
"""

import ast
import importlib.util
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import penstock_plugins
import pytest
from attrs import evolve
from command_in_subprocess import command, toml
from connector_run import loaded
from imitation_ebay import CLIENT, SECRET, SELLERS, Ebay
from penstock import ConnectorPlugin, Sandbox, SandboxRequest, SandboxResponse
from penstock.sandbox.server import serve
from penstock.testing.conformance import QUICK, TODAY, Subject, conforms, delivered_to
from penstock.testing.memory import MemorySink

pytestmark = pytest.mark.large  # the kit and kills: five seconds each

FOLDER = Path(__file__).parents[1] / "docs" / "comparison" / "connector_ebay"
MODULE = FOLDER / "ebay" / "__init__.py"  # a package, since pip installs it
ACCOUNTS = {seller: {"refresh_token": token} for token, seller in SELLERS.items()}
SETTINGS = {"client_id": CLIENT, "client_secret": SECRET, "accounts": ACCOUNTS}
STREAMS = ("transactions", "campaigns", "campaign_days")


def connector() -> Any:
    """The connector of the page, with the imitation as its sandbox."""
    spec = importlib.util.spec_from_file_location("ebay", MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sandbox = Sandbox(connector="ebay", summary="two sellers", make=Ebay, settings=SETTINGS)
    return evolve(module.CONNECTOR, sandbox=sandbox)


PLUGINS = [ConnectorPlugin(connector()), penstock_plugins]


def truth(app: Ebay, stream: str, seller: str, day: str = "") -> list[dict[str, Any]]:
    return app.truth(stream, seller, day)


def test_the_connector_of_the_page_meets_the_requirements_for_every_connector(tmp_path: Path) -> None:
    """
    All rows of both sellers, through cut gzip, tokens that end early, throttling and a stopped run; amounts exact.
    """
    conforms("ebay", tmp_path, truth=truth, plugins=PLUGINS)


def test_restated_days_are_read_again(tmp_path: Path) -> None:
    """
    Statuses and fees change, rows of a report and a campaign vanish; days that are closed keep their last reading.
    """
    subject = Subject(name="ebay", make=Ebay, settings=SETTINGS, days=8, registry=loaded(PLUGINS))
    sink = MemorySink(tmp_path / "ledger.sqlite")
    with subject.served() as (server, app):
        assert subject.run(server.base_url, sink).exit_code == 0
        before = delivered_to(sink)
        app.restate_all()
        assert subject.run(server.base_url, sink).exit_code == 0
        after = delivered_to(sink)

        # Its reports may change for four days after a day's end, which is at noon of today three and a half days ago.
        closed = {str(day) for day in subject.window()[:-4]}
        for (stream, values), rows in after.items():
            if stream == "campaign_days" and values[1] in closed:
                assert rows == before[stream, values]
            else:
                assert len(rows) == len(app.truth(stream, *values))
                assert rows != before[stream, values]


def test_a_killed_run_leaves_the_providers_rows_to_the_next(tmp_path: Path) -> None:
    """
    Killed as kill -9 does it, at two of its requests; the run after it ends with exactly the provider's rows.
    """
    info = tmp_path / "site" / "connector_ebay-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: connector-ebay\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[penstock]\nebay = ebay:CONNECTOR\n")
    environ = {"PYTHONPATH": os.pathsep.join([str(info.parent), str(FOLDER)])}
    days = Subject(name="ebay", make=Ebay, settings=SETTINGS, days=8).window()
    words = ("run", "ebay", "--to", "jsonl:out", "--since", str(days[0]), "--until", str(days[-1]), "-q")
    with serve() as server:
        app = Ebay(server.base_url, TODAY)
        seen: list[SandboxRequest] = []
        killing: list[tuple[int, subprocess.Popen[bytes]]] = []

        def answer(request: SandboxRequest) -> SandboxResponse:
            seen.append(request)
            for number, process in killing:
                if len(seen) == number:
                    process.kill()
            return app(request)

        server.app = answer
        settings = {**QUICK, "base_url": server.base_url, "client_id": CLIENT, "client_secret": SECRET}
        tables = "".join(f"[source.ebay.accounts.{name}]\n{toml(table)}" for name, table in ACCOUNTS.items())
        (tmp_path / "penstock.toml").write_text(f"[source.ebay]\n{toml(settings)}{tables}")
        for number in (4, 9):
            seen.clear()
            process = command(tmp_path, *words, environ=environ)
            killing[:] = [(number, process)]
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL
        killing.clear()
        last = command(tmp_path, *words, environ=environ)
        _, printed = last.communicate(timeout=60)
        assert last.returncode == 0, printed.decode()

    for stream in STREAMS:
        rows = [row for file in (tmp_path / "out" / "ebay" / stream).rglob("data.jsonl") for row in lines_of(file)]
        true = [
            row
            for seller in ACCOUNTS
            for values in ([()] if stream == "campaigns" else [(str(day),) for day in days])
            for row in app.truth(stream, seller, *values)
        ]
        assert len(rows) == len(true), stream
        for amount in ("amount", "total_fee_amount", "ad_fees", "impressions"):
            sums = [sum(Decimal(row.get(amount, 0)) for row in some) for some in (rows, true)]
            assert sums[0] == sums[1], (stream, amount)


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_text().splitlines():
        yield json.loads(line, parse_float=Decimal)


def test_the_page_states_the_size_of_the_connector() -> None:
    """
    Lines of code without blanks, comments and docstrings; names from the framework.
    """
    text = MODULE.read_text()
    tree = ast.parse(text)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    own = [name for node in imports if (node.module or "").startswith("penstock") for name in node.names]
    documented = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef))]
    docstrings = sum(len((ast.get_docstring(node, clean=False) or "").splitlines()) for node in documented)
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    page = (FOLDER.parents[1] / "comparison.md").read_text()

    assert f"| lines of code | {len(lines) - docstrings} |" in page
    named = set(re.findall(r'named\(\s*"(\w+)"', text))
    assert f"| names | {len(own)}, and {len(named)} parts by name |" in page
