"""
The tutorial for authors in an environment of its own, with the commands that its reader types.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.large, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "connector-guide.md").read_text()
FILE = re.compile(r"^```\w+\n# (connector_acme/[\w./]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

# Days that are past on every clock, so that the runs do not depend on the day.
DAYS = ("--since", "2026-03-17", "--until", "2026-03-19")


def test_the_tutorial_works_where_nothing_is_installed(tmp_path: Path) -> None:
    """
    The tutorial's files, pip, the listing, the sandbox, two runs and the tests work; the second run has nothing to
    read.
    """
    for name, text in FILE.findall(PAGE):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    python = tmp_path / "venv" / "bin" / "python"
    penstock = str(python.parent / "penstock")

    def typed(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    typed(sys.executable, "-m", "venv", "venv")
    packages = [f"{ROOT}/core", f"{ROOT}/plugins", "pytest", "-e", "connector_acme"]
    typed(str(python), "-m", "pip", "install", "-q", *packages)

    assert "acme" in typed(penstock, "connectors")
    assert "click_id" in typed(penstock, "streams", "acme")
    sandbox = [penstock, "sandbox", "acme", "--port", "0"]
    with subprocess.Popen(sandbox, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        lines: list[str] = []
        for line in serving.stdout:
            lines.append(line)
            if line.startswith("requests_per_second"):
                break
        (tmp_path / "penstock.toml").write_text("".join(line for line in lines if re.match(r"\[|\w+ = ", line)))
        first, second = (typed(penstock, "run", "acme", "--to", "jsonl:data", *DAYS) for _ in range(2))
        serving.terminate()
    assert "6 of 6 partitions delivered" in first
    assert "6 final" in second
    assert "2 passed" in typed(str(python), "-m", "pytest", "-q", "connector_acme/tests")
