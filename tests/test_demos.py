"""
The demos in the connectors' wheels: what ``penstock demo`` and ``penstock sandbox`` serve.
"""

from pathlib import Path

import pytest
from penstock.testing.conformance import Subject, first_run, wrong_credentials
from worlds import REGISTRY

READING = [name for name in REGISTRY.sandboxes() if REGISTRY.streams(name)]


def demo_of(name: str, *streams: str) -> Subject:
    offered = REGISTRY.sandbox(name)
    return Subject(name=name, make=offered.make, settings=offered.settings, streams=streams, registry=REGISTRY)


@pytest.mark.parametrize("name", READING)
def test_a_demo_has_records_of_every_stream(name: str, tmp_path: Path) -> None:
    """
    Streams that are off by default, too; no record is rejected, no member unknown, and each run has the same rows.
    """
    demo = demo_of(name, *(stream.name for stream in REGISTRY.streams(name) if not stream.not_built))

    rows, wrong = first_run(demo, tmp_path / "first")
    again, _ = first_run(demo, tmp_path / "again")

    assert wrong == []
    assert again == rows


@pytest.mark.parametrize("name", READING)
def test_a_demo_refuses_wrong_credentials(name: str, tmp_path: Path) -> None:
    """
    Whoever tries it sees what a wrong secret does: exit 3, and nothing shown.
    """
    assert wrong_credentials(demo_of(name), tmp_path) == []
