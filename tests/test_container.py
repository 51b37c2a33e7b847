"""
The image recipe copies all packages and runs without rights. A run writes only to the places of docs/container.md.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_in_subprocess import MAIN, configure
from providers import PROVIDERS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
RECIPE = (ROOT / "Containerfile").read_text()
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"^\s*#.*\n", "", RECIPE, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    if line
]

# Prints each path that the process opens for writing, before it runs the command line.
AUDIT = """
import os, sys
_seen = open(os.environ["OPENED"], "a", buffering=1)
def note(event, values):
    if event == "open" and isinstance(values[0], (str, bytes)) and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        _seen.write(os.path.abspath(os.fsdecode(values[0])) + "\\n")
    if event in ("sqlite3.connect", "os.mkdir") and str(values[0]).startswith("/"):
        _seen.write(os.path.abspath(os.fsdecode(values[0])) + "\\n")
sys.addaudithook(note)
"""


def of(name: str) -> list[str]:
    """The values of every instruction of that name, in order."""
    return [value for word, value in INSTRUCTIONS if word == name]


def test_the_image_has_every_package_of_the_repository() -> None:
    """
    Whoever adds a connector adds it to the image, too.
    """
    copied = {value.split()[0] for value in of("COPY") if not value.startswith("--from")}

    assert copied == {"core", "plugins", *(path.name for path in ROOT.glob("connector_*"))}
    (connectors,) = (value for value in of("ARG") if value.startswith("CONNECTORS="))
    assert set(re.findall(r"connector_\w+", connectors)) == {path.name for path in ROOT.glob("connector_*")}


def test_the_image_runs_without_rights() -> None:
    """
    A user by number (Kubernetes checks no name), never root; the base names its version; nothing is fetched by ADD.
    """
    (user,) = of("USER")

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert not of("ADD")
    assert all(re.search(r":[\d.]+-slim\b", value) for value in of("FROM"))
    assert of("ENTRYPOINT") == ['["penstock"]']


def test_a_run_writes_only_where_something_is_mounted(tmp_path: Path) -> None:
    """
    A read-only root file system is enough: a run opens files for writing only below its directory and TMPDIR.
    """
    data, temporary, opened = tmp_path / "data", tmp_path / "tmp", tmp_path / "opened"
    data.mkdir()
    temporary.mkdir()
    provider = PROVIDERS["joveo"]  # its reports are kept in files while they are read
    with provider.served() as (server, _):
        configure(data, provider, server.base_url)
        done = subprocess.run(
            [sys.executable, "-B", "-c", AUDIT + MAIN, "run", provider.name, "--to", "jsonl:out", "--since", "-3d"],
            cwd=data,
            env={**os.environ, "HOME": "/nonexistent", "TMPDIR": str(temporary), "OPENED": str(opened)},
            capture_output=True,
            timeout=120,
            check=False,
        )

    assert done.returncode == 0, done.stderr.decode()
    places = {Path(line) for line in opened.read_text().splitlines()} - {opened, Path(os.devnull)}
    assert any(path.is_relative_to(data / "out") for path in places)
    assert not {path for path in places if not path.is_relative_to(data) and not path.is_relative_to(temporary)}


@pytest.mark.large
def test_the_recipe_of_the_image_passes_the_linter() -> None:
    """
    hadolint's rules for image recipes; none is switched off.
    """
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), ROOT / "Containerfile"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
