"""
What holds for every test of the repository: the day, the secrets, the packages, and which tests are quick.

The connectors' directories have the names of their packages. The packages are imported here, before any test is
collected: pytest would otherwise take each directory for a package of that name, and hide the real one.
"""

import gc
import importlib
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, settings
from penstock.testing.secrets import secrets_apart
from sqlite_statements import Statements

# Container images often forbid bytecode: each process of a test would then compile all modules, and so would pytest.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

for _name in ("talroo", "joveo", "targetcircle", "convertr", "sensis"):
    importlib.import_module(f"connector_{_name}")

# A busy machine is no failure.
settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any load")

# Longer than the bound of other tests, however they are selected: rounds of kills take minutes on a busy machine.
LONG_S = {"soak": 3600, "integrations": 3600, "large": 900}

_travel = pytest.StashKey[time_machine.travel]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--at", default="2026-03-20T12:00:00+00:00", help="the moment at which the tests begin")
    parser.addoption("--quick", action="store_true", help="only tests without sockets and processes")
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the session")


def pytest_configure(config: pytest.Config) -> None:
    """
    Start the clock of every test at ``--at``, before a module reads the day. Time passes as usual from there.
    """
    config.stash[_travel] = time_machine.travel(datetime.fromisoformat(config.getoption("--at")), tick=True)
    config.stash[_travel].start()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_travel].stop()


def _is_slow(test: pytest.Item) -> bool:
    """The test may start processes and use the network: its module has the marker ``slow``, or a longer bound."""
    return any(test.get_closest_marker(name) for name in ("slow", *LONG_S))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        bounds = [seconds for name, seconds in LONG_S.items() if item.get_closest_marker(name)]
        if bounds and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(max(bounds)))
    if not config.getoption("--quick"):
        return
    slow = [item for item in items if _is_slow(item)]
    items[:] = [item for item in items if item not in set(slow)]
    config.hook.pytest_deselected(items=slow)


def pytest_collection_finish() -> None:
    """What is collected lives until the end of the session: no garbage collection goes through it again."""
    gc.collect()
    gc.freeze()


_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--no-skips") and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--no-skips") and _skipped:
        terminalreporter.write_line(f"{len(_skipped)} skipped, which --no-skips does not allow:", red=True)
        for name in _skipped:
            terminalreporter.write_line(f"  {name}")


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new, empty directory, which is the current one during the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dsn() -> Iterator[str]:
    """A new, empty database of the private Postgres."""
    from postgres_server import server

    with server().database() as name:
        yield name


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    """What the SQLite databases that the test opens execute."""
    found = Statements()
    monkeypatch.setattr(sqlite3, "connect", found.connect)
    return found


@pytest.fixture(autouse=True)
def _no_process_and_no_network_in_quick_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test without the marker ``slow`` that starts a process, or uses the network, fails, in any run."""
    if _is_slow(request.node):
        yield
        return

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a quick test starts no process: give its module pytestmark = pytest.mark.slow")

    def local_only(name: str) -> Callable[..., Any]:
        method = getattr(socket.socket, name)

        def checked(self: socket.socket, address: Any) -> Any:
            if self.family != socket.AF_UNIX:
                raise AssertionError("a quick test uses no network: give its module pytestmark = pytest.mark.slow")
            return method(self, address)

        return checked

    with pytest.MonkeyPatch.context() as guard:
        guard.setattr(subprocess.Popen, "__init__", refuse)
        guard.setattr(BaseProcess, "start", refuse)
        for name in ("bind", "connect", "connect_ex"):
            guard.setattr(socket.socket, name, local_only(name))
        yield


@pytest.fixture(autouse=True)
def _secrets_of_this_test() -> Iterator[None]:
    """A test's secrets ("token") end with it: in the texts of the next one they are words like any other."""
    with secrets_apart(keep=True):
        yield
