"""
The connector of the benchmark, which the tests do not install.
"""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import penstock_plugins
import pytest
from connector_run import configured, read
from penstock.testing.memory import MemorySink

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FIRST_DAY = date(2016, 3, 1)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS / "connector_bench" / "src"))
    return importlib.import_module("connector_bench")


@pytest.fixture
def provider() -> Iterator[str]:
    """The mock API in a process of its own, as the benchmark runs it, with little in it."""
    words = ["--leads", "250", "--jobs", "1500", "--days", "2", "--clicks-per-day", "30"]
    command = [sys.executable, str(BENCHMARKS / "provider.py"), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.kill()


def test_the_benchmark_delivers_what_its_provider_has(plugin: Any, provider: str, tmp_path: Path) -> None:
    """
    Every stream of the benchmark is read whole, without a plugin being broken.
    """
    sink = MemorySink(tmp_path / "ledger.sqlite")
    settings = plugin.penstock_sources()[0].settings(base_url=provider)
    source = configured("bench", settings, plugins=[plugin, penstock_plugins])
    names = tuple(stream.name for stream in source.streams)

    report = read(source, sink, *names, since=FIRST_DAY, until=FIRST_DAY + timedelta(days=1))

    assert report.exit_code == 0, report.errors
    counts = {name: sum(map(len, sink.rows[name].values())) for name in names}
    assert counts == {"leads": 250, "jobs": 1500, "clicks": 60, "merged_clicks": 60}
