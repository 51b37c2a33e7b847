"""
Bodies: read whole from an answer, and unpacked, never more than allowed.
"""

import io
import zlib
from typing import TYPE_CHECKING, Any

from penstock._fetch.transport.failures import CutError, TooLargeError

if TYPE_CHECKING:
    import http.client

BLOCK = 1 << 20  # bytes per step where the length is not known beforehand
GZIP_BLOCK = 1 << 16  # larger ones are slower: 16 ms instead of 9 for a body that becomes 7 MB


def read_body(reply: "http.client.HTTPResponse", method: str, limit: int) -> tuple[bytes, bool]:
    """The body as sent, and whether the connection may be used again. Raises unless it is whole."""
    codings = reply.headers.get_all("transfer-encoding") or []
    lengths = {length.strip() for value in reply.headers.get_all("content-length") or [] for length in value.split(",")}
    if method == "HEAD" or reply.status in (204, 304):
        return b"", not reply.will_close and not _more(reply.fp)
    if codings:
        if [coding.strip().lower() for coding in codings] != ["chunked"]:
            raise CutError("sends its body in a transfer coding that HTTP/1.1 clients need not know")
        body = _chunks(reply.fp, limit)
    elif lengths:
        (stated, *others) = lengths
        if others or not (stated.isascii() and stated.isdigit()):
            raise CutError("contradicts itself about the length of its body")
        if len(stated) > 18 or (length := int(stated)) > limit:
            raise TooLargeError
        # One call, into one buffer of that size: no copy, however large.
        body = reply.fp.read(length) if length else b""
        if len(body) < length:
            raise CutError(f"cut its answer after {len(body):,} of {length:,} bytes")
    else:
        parts, size = [], 0
        while part := reply.fp.read(BLOCK):
            size += len(part)
            if size > limit:
                raise TooLargeError
            parts.append(part)
        return b"".join(parts), False
    if _more(reply.fp):
        raise CutError(f"sent more than the {len(body):,} bytes that its headers promise")
    return body, not reply.will_close


def _chunks(file: Any, limit: int) -> bytes:
    # Not a list of parts: of chunks of two bytes it would take 60 times their size.
    parts, size = io.BytesIO(), 0
    while True:
        line = file.readline(1024)
        digits = line.partition(b";")[0].strip()
        if not line.endswith(b"\n") or not digits or digits.strip(b"0123456789abcdefABCDEF"):
            raise CutError(f"cut its answer after {size:,} bytes, between two chunks")
        length = int(digits, 16)
        if length == 0:
            break
        size += length
        if size > limit:
            raise TooLargeError
        part = file.read(length)
        if len(part) < length or file.read(2) != b"\r\n":
            raise CutError(f"cut its answer after {size - length + len(part):,} bytes, inside a chunk")
        parts.write(part)
    for _ in range(100):  # trailers
        line = file.readline(1 << 16)
        if line in (b"\r\n", b"\n"):
            return parts.getvalue()
        if not line.endswith(b"\n"):
            raise CutError(f"cut its answer after {size:,} bytes, before its end")
    raise CutError("does not end its trailers")


def _more(file: Any) -> bool:
    """Whether bytes lie behind the body that nobody asked for; what has not arrived yet goes unseen."""
    import ssl

    file.raw.waits = False
    try:
        return bool(file.peek(1))
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:  # a connection reset behind the body: the body is whole, and the pool will notice
        return False


def decompressed(body: bytes, coding: str, limit: int) -> bytes:
    """The body without its content coding, never more than ``limit`` bytes at once in memory."""
    coding = coding.strip().lower()
    if not body or coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip"):
        raise CutError("compresses its answer in a way that was not asked for")
    parts, size, at = [], 0, 0
    view = memoryview(body)
    member = zlib.decompressobj(31)
    while at < len(view):
        if member.eof:
            if not body[at : at + GZIP_BLOCK].strip(b"\0"):  # padding is allowed
                at += GZIP_BLOCK
                continue
            member = zlib.decompressobj(31)
        block = view[at : at + GZIP_BLOCK]
        try:
            part = member.decompress(block, limit - size + 1)
        except zlib.error:
            raise CutError("sent a gzip body that is damaged") from None
        at += len(block) - len(member.unused_data)
        size += len(part)
        if size > limit:
            raise TooLargeError(" when decompressed")
        parts.append(part)
    if not member.eof:
        raise CutError("cut its gzip body")
    return parts[0] if len(parts) == 1 else b"".join(parts)
