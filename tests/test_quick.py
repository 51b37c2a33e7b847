"""
Tests without the marker ``slow`` start no process and use no network: they are those of ``make quick``.
"""

import multiprocessing
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

ADDRESS = ("127.0.0.1", 0)
PROCESSES: dict[str, Callable[[], object]] = {
    "subprocess": lambda: subprocess.run([sys.executable, "-c", ""]),
    "multiprocessing": lambda: multiprocessing.get_context("spawn").Process(target=print).start(),
}
NETWORK: dict[str, Callable[[socket.socket], object]] = {
    "serves": lambda opened: opened.bind(ADDRESS),
    "connects": lambda opened: opened.connect(ADDRESS),
    "tries to connect": lambda opened: opened.connect_ex(ADDRESS),
}


@pytest.mark.parametrize("start", PROCESSES.values(), ids=PROCESSES)
def test_a_quick_test_that_starts_a_process_fails(start: Callable[[], object]) -> None:
    """
    The error names the marker.
    """
    with pytest.raises(AssertionError, match=r"starts no process: .* pytest\.mark\.slow"):
        start()


@pytest.mark.parametrize("use", NETWORK.values(), ids=NETWORK)
def test_a_quick_test_that_uses_the_network_fails(use: Callable[[socket.socket], object]) -> None:
    """
    The error names the marker. Sockets of this machine only (``AF_UNIX``) are allowed: event loops have them.
    """
    with socket.socket() as opened, pytest.raises(AssertionError, match=r"no network: .* pytest\.mark\.slow"):
        use(opened)


@pytest.mark.slow
def test_a_slow_test_may_start_processes_and_use_the_network() -> None:
    """
    The marker lifts the refusal for its test only.
    """
    assert subprocess.run([sys.executable, "-c", ""]).returncode == 0
    with socket.socket() as opened:
        opened.bind(ADDRESS)
