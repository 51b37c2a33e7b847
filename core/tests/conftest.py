"""
Fixtures of several files of the core's tests.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import shop_commands
import time_machine
from penstock import Project
from penstock.sandbox.server import Server, serve
from project_shop import PLUGINS, Shop, Stopped, config
from shop_commands import NOON, Here


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def server(shop: Shop) -> Iterator[Server]:
    with serve(shop) as running:
        yield running


@pytest.fixture
def project(server: Server, working_directory: Path) -> Project:
    return Project(config(server, working_directory), plugins=PLUGINS, environ={}, clock=Stopped)


@pytest.fixture
def at_noon() -> Iterator[None]:
    """No day ends during a test."""
    with time_machine.travel(NOON, tick=True):
        yield


@pytest.fixture
def here(at_noon: None, working_directory: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Here]:
    with serve(shop_commands.Shop()) as running:
        yield Here(working_directory, running, capsys)
