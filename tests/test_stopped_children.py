"""
A run over many children that is stopped halfway: what is complete by account is kept.
"""

import json
import threading
from pathlib import Path

import market
import penstock_plugins
from market import SHOPS, Market, shown
from penstock import Project, SandboxRequest, SandboxResponse
from penstock.sandbox.server import serve


def test_complete_accounts_are_kept(tmp_path: Path) -> None:
    """
    Stopped in the middle of the fourth account's children, a run delivers the three accounts before it, nothing of the
    fourth, and ends with 130. The next run delivers all.
    """
    stop = threading.Event()

    def at_half(request: SandboxRequest) -> SandboxResponse | None:
        if request.path == "/stock" and app.counts["stock"] == 3 * 3 + 2:
            stop.set()
        return None

    with serve(app := Market(throttled=at_half)) as server:
        (tmp_path / "penstock.toml").write_text(
            f'[source.market]\nbase_url = "{server.base_url}"\npassword = "sesame"\nconcurrency = 1\n'
            f"shops = {json.dumps(SHOPS)}\n"
        )
        project = Project(tmp_path / "penstock.toml", plugins=[market, penstock_plugins])
        result = project.run("market", to=f"jsonl:{tmp_path / 'out'}", streams=["stock"], stop=stop)

        assert result.exit_code == 130
        assert delivered(tmp_path) == [row for row in app.expected("stock") if row[0] in SHOPS[:3]]
        counts = result.report["sources"]["market"]["streams"]["stock"]["partitions"]
        assert (counts["delivered"], counts["failed"]) == (3, 0)

        result = project.run("market", to=f"jsonl:{tmp_path / 'out'}", streams=["stock"])
        assert result.exit_code == 0, result.errors
        assert delivered(tmp_path) == app.expected("stock")


def delivered(folder: Path) -> list[tuple[str, ...]]:
    files = (folder / "out" / "market" / "stock").rglob("data.jsonl")
    return shown("stock", [json.loads(line) for file in files for line in file.read_text().splitlines()])
