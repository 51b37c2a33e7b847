"""
Small files with state: written whole, readable by their owner only, and locked between processes.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from penstock.commands.process import write_whole


def write_json(path: Path, value: Any, mode: int = 0o600) -> None:
    """Write JSON, indented, as :func:`write_whole` does; readable by its owner only, unless ``mode`` is another one."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
    write_whole(path, text, mode=mode)


@contextmanager
def exclusive(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """
    Hold the lock file ``path``, against other threads and other processes. ``wait`` is called between two tries; it
    sleeps, or raises. The lock of a process that is killed is free at once.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        while not _try_lock(file):
            wait()
        yield


@contextmanager
def exclusive_if_free(path: Path) -> Iterator[bool]:
    """
    Hold the lock file ``path`` as :func:`exclusive` does, and delete it afterwards; False if it is held already.
    """
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            if not _try_lock(file):
                yield False
                return
            if not _is_at(path, file):
                continue  # its holder deleted it meanwhile, and others lock the next one
            try:
                yield True
            finally:
                with suppress(OSError):
                    path.unlink()
            return


def _is_at(path: Path, file: IO[bytes]) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
