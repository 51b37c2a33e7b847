"""
Fixtures of several files of the core's tests.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from penstock import Project
from penstock.sandbox.server import Server, serve
from project_shop import PLUGINS, Shop, Stopped, config


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def server(shop: Shop) -> Iterator[Server]:
    with serve(shop) as running:
        yield running


@pytest.fixture
def project(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)
