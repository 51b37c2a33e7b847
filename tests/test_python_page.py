"""
docs/python.md: its examples run, in order, against the imitations of Talroo and Joveo.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import time_machine
from connector_run import sandbox_of
from penstock.sandbox.server import Server, serve

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[1] / "docs"
NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


@pytest.fixture
def talroo(working_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The guide's configuration in an empty directory, and the imitation that it names."""
    monkeypatch.setenv("TALROO_SECRET", "Jobs2CareersDemo")
    with time_machine.travel(NOW, tick=True), serve() as server:
        server.app = sandbox_of("talroo").make(server.base_url, NOW.date())
        blocks = re.findall(r"^```toml\n(.*?)^```", (DOCS / "guide.md").read_text(), re.MULTILINE | re.DOTALL)
        configuration = next(block for block in blocks if block.startswith("# penstock.toml"))
        (working_directory / "penstock.toml").write_text(configuration.replace("8977", str(server.port)))
        yield server


@pytest.fixture
def joveo() -> Iterator[Server]:
    with serve() as server:
        server.app = sandbox_of("joveo").make(server.base_url, NOW.date())
        yield server


def test_the_examples_run_in_order(talroo: Server, joveo: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Each block as a reader would paste it into one session; amounts are exact, nothing is printed but by the examples.
    """
    session: dict[str, Any] = {}
    # Other tests run the blocks with a mark before them: test_arrow_libraries.py (readers) and test_schedulers.py
    # (integrations).
    page = (DOCS / "python.md").read_text()
    blocks = re.findall(r"(?<!-->\n)^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for block in blocks:
        block = block.replace("8977", str(talroo.port)).replace("8978", str(joveo.port))
        exec(compile(block, "docs/python.md", "exec"), session)

    written = [
        json.loads(line, parse_float=Decimal)
        for line in next(Path("data").glob("talroo/clicks/*2112/*2026-11-20/*")).read_text().splitlines()
    ]
    assert session["spent"] == sum(Decimal(one["price_amount"]) for one in written) > 0
    assert {row["day"] for row in session["frame_rows"]} == {date(2026, 11, 20)}
    assert capsys.readouterr().out == "delivered 0\n"
    assert [one.exit_code for one in session["results"]] == [0, 0]
    assert len(session["plan"].partitions) == 1
    assert (session["paused"].summary, session["left"]) == ("2 done", [])
    assert session["task"]("talroo") == "success"
