"""
A body that is too large for memory, in a temporary file without a name. It is deleted when nothing refers to it.
"""

import io
import tempfile
import threading
import weakref
from typing import BinaryIO


class Spool:
    """A temporary file that is written once, and then read at several positions at once."""

    def __init__(self) -> None:
        self.size = 0
        self._file = tempfile.TemporaryFile(prefix="penstock-", buffering=0)  # noqa: SIM115  closed with this object
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def write(self, part: bytes) -> None:
        view = memoryview(part)
        while view:
            written = self._file.write(view)
            self.size += written
            view = view[written:]

    def open(self) -> BinaryIO:
        """A reader at the start of the content, with a position of its own."""
        return io.BufferedReader(_View(self))

    def read_at(self, place: int, buffer: memoryview) -> int:
        with self._lock:
            self._file.seek(place)
            return self._file.readinto(buffer) or 0


class _View(io.RawIOBase):
    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._spool.size}[whence]
        self._place = start + offset
        return self._place

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        count = self._spool.read_at(self._place, buffer)
        self._place += count
        return count
