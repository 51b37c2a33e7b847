"""
The effects of faults on a provider's response: each :data:`Effect` damages it, on the wire or in its body.

An effect on records takes the first JSON array of objects in the body (or JSON lines) for the records; it leaves a body
without one as it is. Effects on the wire (resets, cut bodies, drips) need :mod:`penstock.sandbox.server`;
the others change status, headers or body and work with direct calls.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache

from attrs import evolve

from penstock.sandbox.app import SandboxApp, SandboxRequest, SandboxResponse
from penstock.sandbox.server import Reset, Scripted, SendPause, Step, head_of

MIB = 1 << 20
FOREIGN = "collector.example.net"  # a host that must never see a request


class FaultContext:
    """A request to which a fault may apply, with the regular responses that the fault may use."""

    def __init__(self, request: SandboxRequest, app: SandboxApp, before: SandboxResponse | None) -> None:
        self.request = request
        self.before = before  # the last regular response of this path
        self._app = app
        self._response: SandboxResponse | None = None

    @property
    def response(self) -> SandboxResponse:
        """The regular response. The app gets the request only if a fault reads this."""
        if self._response is None:
            self._response = self._app(self.request)
        return self._response


Effect = Callable[[FaultContext], SandboxResponse | None]


# --- status and headers ---------------------------------------------------------------------------------------------


def status(code: int, body: str = "", *, retry_after: str | float | None = None, dated: bool = False) -> Effect:
    """Respond with ``code``; the app gets no request. ``retry_after``: seconds; ``dated``: as an HTTP date."""

    def effect(context: FaultContext) -> SandboxResponse:
        headers = {"Content-Type": "text/html" if body.startswith("<") else "application/json"}
        if dated and retry_after is not None:
            # HTTP dates have whole seconds: rounded up, so that it is never in the past already.
            when = datetime.now(UTC) + timedelta(seconds=float(retry_after) + 1)
            headers["Retry-After"] = format_datetime(when.replace(microsecond=0), usegmt=True)
        elif retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        return SandboxResponse(status=code, headers=headers, body=body.encode())

    return effect


def redirect(location: Callable[[SandboxRequest], str], code: int = 302) -> Effect:
    """Redirect to the URL that ``location`` returns; the app gets no request."""

    def effect(context: FaultContext) -> SandboxResponse:
        return SandboxResponse(status=code, headers={"Location": location(context.request)})

    return effect


def with_header(name: str, value: str) -> Effect:
    """The regular response with this header in place of its own."""

    def effect(context: FaultContext) -> SandboxResponse:
        others = {other: old for other, old in context.response.headers.items() if other.lower() != name.lower()}
        return evolve(context.response, headers={**others, name: value})

    return effect


# --- the wire -------------------------------------------------------------------------------------------------------


def _scripted(response: SandboxResponse, steps: Iterable[Step]) -> Scripted:
    return Scripted(status=response.status, headers=response.headers, steps=steps)


def _head(response: SandboxResponse, length: int | None) -> bytes:
    # A script ends with its connection: the header keeps a client from using it for its next request.
    framing = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
    return head_of(response, framing, ("Connection", "close"))


def reset(context: FaultContext) -> SandboxResponse:
    """The request is processed; the connection is reset before the response."""
    return _scripted(context.response, (Reset(),))


def silent_close(context: FaultContext) -> SandboxResponse:
    """The connection is closed without a response."""
    return _scripted(context.response, ())


def cut_head(context: FaultContext) -> SandboxResponse:
    """The status line, then the end of the connection: it resembles a response without headers."""
    head = _head(context.response, len(context.response.body))
    return _scripted(context.response, (head[: head.index(b"\r\n") + 2],))


def reset_in_body(context: FaultContext) -> SandboxResponse:
    """Half of the body, then a reset."""
    body = context.response.body
    # The pause lets what was sent arrive: a reset throws away what is still under way.
    return _scripted(
        context.response, (_head(context.response, len(body)) + body[: len(body) // 2], SendPause(0.05), Reset())
    )


def cut(context: FaultContext) -> SandboxResponse:
    """Half of the body that ``Content-Length`` announces."""
    body = context.response.body
    return _scripted(context.response, (_head(context.response, len(body) + (not body)) + body[: len(body) // 2],))


def cut_chunk(context: FaultContext) -> SandboxResponse:
    """A chunk that ends half-way."""
    body = context.response.body
    return _scripted(
        context.response, (_head(context.response, None) + b"%x\r\n" % len(body) + body[: len(body) // 2],)
    )


def cut_between_chunks(context: FaultContext) -> SandboxResponse:
    """Whole chunks; the empty chunk that ends the body is missing."""
    body = context.response.body
    half = body[: len(body) // 2 + 1]
    return _scripted(context.response, (_head(context.response, None) + b"%x\r\n%b\r\n" % (len(half), half),))


def wrong_length(by: int) -> Effect:
    """A ``Content-Length`` that is ``by`` bytes off; the whole body is sent."""

    def effect(context: FaultContext) -> SandboxResponse:
        body = context.response.body
        return _scripted(context.response, (_head(context.response, max(1, len(body) + by)) + body,))

    return effect


def two_lengths(context: FaultContext) -> SandboxResponse:
    """Two ``Content-Length`` headers, the second with half of the body."""
    body = context.response.body
    head = head_of(context.response, ("Content-Length", str(len(body))), ("Content-Length", str(len(body) // 2)))
    return _scripted(context.response, (head + body,))


def stall(seconds: float, *, in_body: bool = False) -> Effect:
    """Nothing comes for a while, then the rest does."""

    def effect(context: FaultContext) -> SandboxResponse:
        body = context.response.body
        whole = _head(context.response, len(body)) + body
        position = len(whole) - len(body) // 2 if in_body else 0
        return _scripted(context.response, (whole[:position], SendPause(seconds), whole[position:]))

    return effect


def drip(pause_s: float, *, most_s: float, of_head: bool = False) -> Effect:
    """One byte every ``pause_s``, so that no wait for a byte is long; the rest at once after ``most_s``."""

    def effect(context: FaultContext) -> SandboxResponse:
        body = context.response.body
        head = _head(context.response, len(body))
        at_once, slowly = (b"", head + body) if of_head else (head, body)

        def steps() -> Iterator[Step]:
            yield at_once
            slow = min(len(slowly), int(most_s / pause_s))
            for position in range(slow):
                yield slowly[position : position + 1]
                yield SendPause(pause_s)
            yield slowly[slow:]

        return _scripted(context.response, steps())

    return effect


def no_http(context: FaultContext) -> SandboxResponse:
    """Bytes that are no HTTP response: the start of a TLS alert."""
    return _scripted(context.response, (b"\x15\x03\x01\x00\x02\x02\x28 what is this\r\n",))


# --- size -----------------------------------------------------------------------------------------------------------


def huge(mib: int, *, chunked: bool) -> Effect:
    """The app's response followed by ``mib`` MiB of spaces, which JSON allows; its length announced, or not."""

    def effect(context: FaultContext) -> SandboxResponse:
        body, blanks = context.response.body, b" " * MIB

        def steps() -> Iterator[Step]:
            yield _head(context.response, None if chunked else len(body) + mib * MIB)
            for piece in (body, *[blanks] * mib):
                if piece:
                    yield b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
            if chunked:
                yield b"0\r\n\r\n"

        return _scripted(context.response, steps())

    return effect


def bomb(mib: int) -> Effect:
    """A small gzip body that is ``mib`` MiB large when decompressed."""

    def effect(context: FaultContext) -> SandboxResponse:
        headers = {**context.response.headers, "Content-Encoding": "gzip"}
        return evolve(context.response, headers=headers, body=gzip.compress(context.response.body) + _blanks(mib))

    return effect


@lru_cache(maxsize=4)
def _blanks(mib: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * MIB
    return b"".join([*(packer.compress(block) for _ in range(mib)), packer.flush()])


def gzip_broken(*, cut_off: bool) -> Effect:
    """A gzip body that is damaged in the middle, or ends too early."""

    def effect(context: FaultContext) -> SandboxResponse:
        packed = gzip.compress(context.response.body, mtime=0)
        half = len(packed) // 2
        # Its check sum is at the end, so a change there is always noticed, whatever the body.
        broken = packed[:half] if cut_off else packed[:-8] + bytes(byte ^ 0xFF for byte in packed[-8:])
        return evolve(context.response, headers={**context.response.headers, "Content-Encoding": "gzip"}, body=broken)

    return effect


# --- bodies ---------------------------------------------------------------------------------------------------------

LOGIN_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Sign in</title></head>"
    "<body><h1>Your session has ended</h1><form method=post></form></body></html>\n"
)


def with_body(new: bytes | None, content_type: str = "application/json") -> Effect:
    """
    Another body with status 200; None: the first half of the app's, with a length to match. A body of plain lines is
    left whole: it has no end of its own, so that nobody could notice the cut.
    """

    def effect(context: FaultContext) -> SandboxResponse:
        body = context.response.body
        if new is None and not body.startswith((b"{", b"[", b"\x1f\x8b", b"PK")):
            return context.response
        raw = body[: len(body) // 2] if new is None else new
        return SandboxResponse(headers={"Content-Type": content_type}, body=raw)

    return effect


def records_in(raw: bytes) -> list[tuple[int, int]]:
    """Start and end of each record in a body: of the first array of objects, or of each JSON line; none otherwise."""
    try:
        text = raw.decode("latin-1")  # one letter per byte, so that places in the text are places in the bytes
        decoder = json.JSONDecoder()
        for found in re.finditer(r'"(?:[^"\\]|\\.)*"|\[\s*(?=\{)', text):
            if not found[0].startswith("["):
                continue
            spans, position = [], found.end()
            while True:
                _, end = decoder.raw_decode(text, position)
                spans.append((position, end))
                comma = re.compile(r"\s*,\s*").match(text, end)
                if comma is None:
                    return spans
                position = comma.end()
        lines = [(line.start(), line.end()) for line in re.finditer(r"\{[^\n]*\}", text)]
        for start, end in lines:
            decoder.raw_decode(text[start:end])
        return lines if len(lines) > 1 else []  # a single object is an envelope without records, or no listing
    except ValueError:
        return []


def in_record(edit: Callable[[bytes], bytes]) -> Effect:
    """Edit the record in the middle. None if the edit changes nothing."""

    def effect(context: FaultContext) -> SandboxResponse | None:
        raw = context.response.body
        spans = records_in(raw)
        if not spans:
            return None
        start, end = spans[len(spans) // 2]
        edited = edit(raw[start:end])
        return evolve(context.response, body=raw[:start] + edited + raw[end:]) if edited != raw[start:end] else None

    return effect


def in_every_second(edit: Callable[[bytes], bytes]) -> Effect:
    """Edit every second record, the first one included."""

    def effect(context: FaultContext) -> SandboxResponse | None:
        raw = context.response.body
        pieces, position = [], 0
        for start, end in records_in(raw)[::2]:
            pieces += [raw[position:start], edit(raw[start:end])]
            position = end
        edited = b"".join([*pieces, raw[position:]])
        return evolve(context.response, body=edited) if edited != raw else None

    return effect


def other_number(new: bytes) -> Callable[[bytes], bytes]:
    """The first number of a record is ``new``."""
    return lambda record: re.sub(rb'("\s*:\s*)-?\d+(?:\.\d+)?(?=\s*[,}])', rb"\g<1>" + new, record, count=1)


def invalid_utf8(record: bytes) -> bytes:
    """The first text of a record ends with a byte that is no UTF-8."""
    return re.sub(rb'(:\s*"[^"\\]*)"', lambda hit: hit[1] + b'\xff"', record, count=1)


def ids_as_other_type(record: bytes) -> bytes:
    """Ids that are numbers become text; where there are none, the reverse."""
    as_text = re.sub(rb'("(?:\w*_)?(?:\w*I)?[iI][dD]"\s*:\s*)(\d+)', rb'\1"\2"', record)
    return as_text if as_text != record else re.sub(rb'("\w*[iI][dD]"\s*:\s*)"(0|[1-9]\d*)"', rb"\1\2", record)


def deep(record: bytes) -> bytes:
    """One more member, nested 100,000 deep."""
    depth = 100_000
    return b'{"nested":' + b"[" * depth + b"]" * depth + (b"," if record.strip(b"{} \n") else b"") + record[1:]


def second_key(record: bytes) -> bytes:
    """The first member of a record stands in it twice."""
    first = re.match(rb'\{\s*"(?:[^"\\]|\\.)*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[^,{}\[\]]+)', record)
    return first[0] + b"," + record[1:] if first else record


def repeated_page(context: FaultContext) -> SandboxResponse | None:
    """The response to the page before, again; the first page has none."""
    raw = context.response.body
    return context.before if context.before is not None and records_in(raw) and context.before.body != raw else None


def next_links(target: Callable[[SandboxRequest], str]) -> Effect:
    """Every link of the body whose member name has ``next`` in it, and of a ``Link`` header, leads elsewhere."""

    def effect(context: FaultContext) -> SandboxResponse | None:
        where = json.dumps(target(context.request)).encode()
        edited = re.sub(
            rb'("[^"\\]*next[^"\\]*"\s*:\s*)"[^"]+"', lambda hit: hit[1] + where, context.response.body, flags=re.I
        )
        headers = {
            name: re.sub("<[^>]*>(?=[^,]*next)", f"<{target(context.request)}>", value)
            if name.lower() == "link"
            else value
            for name, value in context.response.headers.items()
        }
        if edited == context.response.body and headers == dict(context.response.headers):
            return None
        return evolve(context.response, body=edited, headers=headers)

    return effect


def foreign(scheme: str) -> Callable[[SandboxRequest], str]:
    """The same path and query at :data:`FOREIGN`."""
    return lambda request: f"{scheme}://{FOREIGN}{request.target}"


def itself(request: SandboxRequest) -> str:
    """The URL of the request itself."""
    return request.target
