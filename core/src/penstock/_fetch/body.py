"""
The body of a response: read within its bound, in memory or in a temporary file, and without its content coding.
"""

import gzip
import io
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterable, Mapping
from functools import partial
from typing import BinaryIO, NamedTuple

import urllib3

from penstock._util.temporary_files import temporary_file_errors

BLOCK_BYTES = 1 << 15  # bytes per read where the length is unknown; http.client holds a list of the chunks of one read
SPOOL_BYTES = 8 << 20  # a larger body of a report is put into a temporary file
FILE_START_BYTES = 1 << 17  # of such a body, what is kept in memory, for messages


class Spool:
    """
    A body that is too large for memory, in a temporary file without a name: written once, then read at several
    positions at once. The file is deleted when nothing refers to it.
    """

    def __init__(self) -> None:
        self.size = 0
        with temporary_file_errors():
            self._file = tempfile.TemporaryFile(prefix="penstock-", buffering=0)  # noqa: SIM115  closed below
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def write(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            with temporary_file_errors():
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


class Bound(NamedTuple):
    """The most bytes of a body. ``as_file``: of a report, which may be put into a file."""

    max_bytes: int
    as_file: bool = False


class TooLargeError(Exception):
    """The body is larger than its bound; ``form``: in which form, if not as sent."""

    def __init__(self, bound: Bound, form: str = "") -> None:
        self.bound, self.form = bound, form
        super().__init__(f"more than {bound.max_bytes} bytes{form}")


class NotWholeError(Exception):
    """The response is not whole, or contradicts its headers; the text continues "HOST ..."."""


def check_framing(headers: Mapping[str, str], length: int | None) -> None:
    """Raises NotWholeError for headers that do not state where the body ends. ``length``: that they state."""
    coding = headers.get("transfer-encoding")
    if coding is not None and coding.strip().lower() != "chunked":
        raise NotWholeError("sends its body in a transfer coding that HTTP/1.1 clients need not know")
    if coding is None and "content-length" in headers and length is None:
        raise NotWholeError("states a length of its body that is no number")


def read_body(http_response: urllib3.BaseHTTPResponse, bound: Bound) -> bytes | Spool:
    """The body as it was sent. Raises TooLargeError."""
    length = http_response.length_remaining
    if length is not None and length > bound.max_bytes:
        raise TooLargeError(bound)
    if length is not None and (length <= SPOOL_BYTES or not bound.as_file):
        return http_response.read()  # one call, into one buffer of that size
    return _collected(iter(partial(http_response.read, BLOCK_BYTES), b""), bound)


def decompressed(body: bytes | Spool, coding: str, bound: Bound) -> bytes | Spool:
    """The body without its content coding."""
    coding = coding.strip().lower()
    if not body or coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip"):
        raise NotWholeError("compresses its response in a way that the request did not allow")
    try:
        with gzip.open(io.BytesIO(body) if isinstance(body, bytes) else body.open()) as packed:
            return _collected(iter(partial(packed.read, BLOCK_BYTES), b""), bound, " when decompressed")
    except EOFError:
        raise NotWholeError("cut its gzip body") from None
    except (gzip.BadGzipFile, zlib.error):
        raise NotWholeError("sent a gzip body that is damaged") from None


def _collected(blocks: Iterable[bytes], bound: Bound, form: str = "") -> bytes | Spool:
    """The blocks together: in memory, or of a large report in a temporary file."""
    collected: io.BytesIO | Spool = Spool() if bound.as_file else io.BytesIO()
    size = 0
    for block in blocks:
        size += len(block)
        if size > bound.max_bytes:
            raise TooLargeError(bound, form)
        collected.write(block)
    if isinstance(collected, Spool):
        return collected if size > SPOOL_BYTES else collected.open().read()
    return collected.getvalue()
