"""
The body of a response: read within its bound, in memory or in a temporary file, and without its content coding.
"""

import gzip
import io
import zlib
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import urllib3

from penstock._util.spool import Spool

BLOCK = 1 << 15  # bytes per read where the length is unknown; http.client holds a list of the chunks of one read
SPOOL_BYTES = 8 << 20  # a larger body of a report is put into a temporary file
FILE_START = 1 << 17  # of such a body, what is kept in memory, for messages


class Bound(NamedTuple):
    """The most bytes of a body. ``as_file``: of a report, which may be put into a file."""

    most: int
    as_file: bool = False


class TooLargeError(Exception):
    """The body is larger than its bound; ``form``: in which form, if not as sent."""

    def __init__(self, bound: Bound, form: str = "") -> None:
        self.bound, self.form = bound, form
        super().__init__(f"more than {bound.most} bytes{form}")


class NotWholeError(Exception):
    """The response is not whole, or contradicts its headers; the text continues "HOST ..."."""


def check_framing(reply: urllib3.BaseHTTPResponse) -> None:
    """Raises NotWholeError for headers that do not state where the body ends."""
    coding = reply.headers.get("transfer-encoding")
    if coding is not None and coding.strip().lower() != "chunked":
        raise NotWholeError("sends its body in a transfer coding that HTTP/1.1 clients need not know")
    if coding is None and "content-length" in reply.headers and reply.length_remaining is None:
        raise NotWholeError("states a length of its body that is no number")


def read_body(reply: urllib3.BaseHTTPResponse, bound: Bound) -> bytes | Spool:
    """The body as it was sent. Raises TooLargeError."""
    length = reply.length_remaining
    if length is not None and length > bound.most:
        raise TooLargeError(bound)
    if length is not None and (length <= SPOOL_BYTES or not bound.as_file):
        return reply.read()  # one call, into one buffer of that size
    return _collected(iter(partial(reply.read, BLOCK), b""), bound)


def decompressed(body: bytes | Spool, coding: str, bound: Bound) -> bytes | Spool:
    """The body without its content coding."""
    coding = coding.strip().lower()
    if not body or coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip"):
        raise NotWholeError("compresses its response in a way that the request did not allow")
    try:
        with gzip.open(io.BytesIO(body) if isinstance(body, bytes) else body.open()) as packed:
            return _collected(iter(partial(packed.read, BLOCK), b""), bound, " when decompressed")
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
        if size > bound.most:
            raise TooLargeError(bound, form)
        collected.write(block)
    if isinstance(collected, Spool):
        return collected if size > SPOOL_BYTES else collected.open().read()
    return collected.getvalue()
