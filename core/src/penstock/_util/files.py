"""
Small files with state: written whole, readable by their owner only, and locked between processes.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """
    Write the file whole or not at all, readable by its owner only. It is on the disk when this returns. Behind a
    symbolic link, the file that it names is written.
    """
    path = path.resolve()
    draft = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(mode)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def write_json(path: Path, value: Any, mode: int = 0o600) -> None:
    """Write JSON, indented: a file whole or not at all; a device or a pipe is written to, and not replaced."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
    else:
        write_atomically(path, text, mode)


@contextmanager
def exclusive(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """
    Hold the lock file ``path``, against other threads and other processes. ``wait`` is called between two tries; it
    sleeps, or raises. The lock of a process that is killed is free at once.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        while not _locked(file):
            wait()
        yield


def _locked(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _sync_directory(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system can open a directory
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
