"""
Locks of small files with state.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from penstock._util import files


class FakeMsvcrt(ModuleType):
    """Windows's locks of the first byte of a file: by the file, refused to all other handles."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.locked: list[int] = []
        self.calls: list[tuple[int, int]] = []

    def locking(self, handle: int, mode: int, count: int) -> None:
        self.calls.append((mode, count))
        if self.locked:
            raise PermissionError(13, "Permission denied")
        self.locked.append(handle)


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module as Windows loads it, and the system's locks."""
    fake = FakeMsvcrt()
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    assert files.__file__ is not None
    spec = importlib.util.spec_from_file_location("files_of_windows", files.__file__)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded, fake


def test_a_lock_on_windows_is_of_one_byte_and_waits(windows: Any, tmp_path: Path) -> None:
    """
    One byte is locked without blocking; while another process has it, the caller waits between two tries.
    """
    loaded, system = windows
    waits: list[int] = []

    def wait() -> None:
        waits.append(len(waits))
        if len(waits) == 2:
            system.locked.clear()  # the other process ends

    system.locked.append(-1)
    with loaded.exclusive(tmp_path / "lock", wait):
        assert system.calls == [(system.LK_NBLCK, 1)] * 3
    assert waits == [0, 1]


def test_a_lock_on_windows_that_is_not_waited_for(windows: Any, tmp_path: Path) -> None:
    """
    What the wait raises ends the try, and leaves no file open that would hold a lock.
    """
    loaded, system = windows
    system.locked.append(-1)

    def give_up() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError), loaded.exclusive(tmp_path / "lock", give_up):
        pass
    (tmp_path / "lock").unlink()


def test_the_system_s_own_lock_is_exclusive(tmp_path: Path) -> None:
    """
    A second handle of the same process waits, too.
    """

    def give_up() -> None:
        raise TimeoutError

    with files.exclusive(tmp_path / "lock", give_up):
        with pytest.raises(TimeoutError), files.exclusive(tmp_path / "lock", give_up):
            pass
    with files.exclusive(tmp_path / "lock", give_up):
        pass
