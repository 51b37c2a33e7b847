"""
What a failing or hostile provider does, as data: put in front of any sandbox by name.

``with_faults(app, faults_named("throttled,cut"), seed=1)`` is a sandbox, too. Faults of the wire (resets, cut bodies,
drips) need :mod:`penstock.testing.server`; the others change status, headers or body and work with direct calls.
A fault that looks into the body takes the first JSON array of objects in it (or JSON lines) for its records, and
leaves a body without one alone.
"""

import gzip
import json
import random
import re
import threading
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from typing import Literal

from penstock.declare import SandboxApp, SandboxRequest, SandboxResponse
from penstock.errors import UsageError
from penstock.testing.server import Pause, Reset, Scripted, Step, head_of
from penstock.values import evolve, field, frozen

MIB = 1 << 20
FOREIGN = "collector.example.net"  # a host that must never see a request


class Moment:
    """One request at which a fault strikes, and what it may need for that."""

    def __init__(self, request: SandboxRequest, app: SandboxApp, before: SandboxResponse | None) -> None:
        self.request = request
        self.before = before  # the app's last good answer on this path
        self._app = app
        self._answer: SandboxResponse | None = None

    @property
    def answer(self) -> SandboxResponse:
        """The app's own answer. A fault that does not look at it keeps the request from the app."""
        if self._answer is None:
            self._answer = self._app(self.request)
        return self._answer


Change = Callable[[Moment], SandboxResponse | None]


def _always(request: SandboxRequest) -> bool:
    return True


@frozen(kw_only=True)
class Fault:
    """
    One thing that goes wrong.

    ``transient``: each request (see ``logical_request``) is struck the first ``times`` times it is made, then it is
    answered. ``fatal``: it is struck as often as it is made. Either way only requests for which ``when`` holds, after
    the first ``after`` of these were let through. ``change`` gives None where the fault has nothing to bite on.
    """

    name: str
    summary: str
    change: Change = field(repr=False)
    kind: Literal["transient", "fatal"] = "transient"
    times: int = 1
    after: int = 0
    when: Callable[[SandboxRequest], bool] = field(default=_always, repr=False)


_VOLATILE = "sign|timestamp|ticket|nonce|token|expires|secret|key|cache"
_PER_ATTEMPT = re.compile(_VOLATILE, re.I)
_MEMBER_PER_ATTEMPT = re.compile(rf'"[^"]*(?:{_VOLATILE})[^"]*"\s*:\s*(?:"[^"]*"|\d+)'.encode(), re.I)


def logical_request(request: SandboxRequest) -> Hashable:
    """What stays the same when a request is tried again: not its signature, timestamp or token."""
    pairs = [pair for pair in request.query.split("&") if not _PER_ATTEMPT.search(pair.partition("=")[0])]
    return request.method, request.path, tuple(pairs), _MEMBER_PER_ATTEMPT.sub(b"", request.body)


def with_faults(
    app: SandboxApp,
    faults: Iterable[Fault],
    seed: int = 0,
    *,
    same: Callable[[SandboxRequest], Hashable] = logical_request,
    share: float = 1.0,
) -> SandboxApp:
    """
    ``app`` behind ``faults``. ``share``: of all requests (told apart by ``same``) this part is ever struck.

    Of several transient faults each request meets one after the other, in an order that depends on ``seed`` and the
    request only, with an unharmed answer in between: no request fails more often in a row than one fault says, so a
    client that retries must end with everything.
    """
    return _Faulty(app, tuple(faults), seed, same, share)


class _Faulty:
    def __init__(
        self,
        app: SandboxApp,
        faults: tuple[Fault, ...],
        seed: int,
        same: Callable[[SandboxRequest], Hashable],
        share: float,
    ) -> None:
        self.app = app
        self._faults = faults
        self._seed = seed
        self._same = same
        self._share = share
        self._lock = threading.Lock()
        self._let_through = [0] * len(faults)
        self._to_come: dict[Hashable, list[int]] = {}  # per request the transient faults ahead; _PASS: none right now
        self._good: dict[tuple[str, str], SandboxResponse] = {}  # per method and path the last good answer

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        key = self._same(request)
        path = (request.method, request.path)
        moment = Moment(request, self.app, self._good.get(path))
        for index in self._candidates(request, key):
            changed = self._faults[index].change(moment)
            if changed is not None:
                self._struck(key, index)
                return changed
        answer = moment.answer
        with self._lock:
            self._good[path] = answer
            if self._to_come[key][:1] == [_PASS]:
                del self._to_come[key][0]
        return answer

    def _candidates(self, request: SandboxRequest, key: Hashable) -> list[int]:
        """
        The faults that may strike now: the fatal ones, then the transient ones whose turn it is. One that is not due
        yet, or finds nothing to bite on, does not hold up those behind it.
        """
        with self._lock:
            if key not in self._to_come:
                chance = random.Random(f"{self._seed} {key!r}")  # noqa: S311
                turns = [[at] * fault.times for at, fault in enumerate(self._faults) if fault.kind == "transient"]
                chance.shuffle(turns)
                struck = chance.random() < self._share
                self._to_come[key] = [at for turn in turns for at in turn] if struck else []
            due = []
            for at, fault in enumerate(self._faults):
                if not fault.when(request):
                    continue
                if self._let_through[at] < fault.after:
                    self._let_through[at] += 1
                else:
                    due.append(at)
            fatal = [at for at in due if self._faults[at].kind == "fatal"]
            turns_left = self._to_come[key]
            if turns_left[:1] == [_PASS]:
                return fatal
            return fatal + [at for at in dict.fromkeys(turns_left) if at in due]

    def _struck(self, key: Hashable, index: int) -> None:
        with self._lock:
            turns_left = self._to_come[key]
            if index in turns_left:
                turns_left.remove(index)
                if index not in turns_left:
                    turns_left.insert(0, _PASS)


_PASS = -1


# --- status and headers ---------------------------------------------------------------------------------------------


def status(code: int, body: str = "", *, retry_after: str | float | None = None, dated: bool = False) -> Change:
    """Answer ``code`` without asking the app; ``retry_after`` in seconds, ``dated``: as an HTTP date that far ahead."""

    def change(moment: Moment) -> SandboxResponse:
        headers = {"Content-Type": "text/html" if body.startswith("<") else "application/json"}
        if dated and retry_after is not None:
            # HTTP dates have whole seconds: rounded up, so that it is never in the past already.
            when = datetime.now(UTC) + timedelta(seconds=float(retry_after) + 1)
            headers["Retry-After"] = format_datetime(when.replace(microsecond=0), usegmt=True)
        elif retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        return SandboxResponse(status=code, headers=headers, body=body.encode())

    return change


def redirect(location: Callable[[SandboxRequest], str], code: int = 302) -> Change:
    def change(moment: Moment) -> SandboxResponse:
        return SandboxResponse(status=code, headers={"Location": location(moment.request)})

    return change


def with_header(name: str, value: str) -> Change:
    """The app's answer with this header in place of its own."""

    def change(moment: Moment) -> SandboxResponse:
        kept = {known: old for known, old in moment.answer.headers.items() if known.lower() != name.lower()}
        return evolve(moment.answer, headers={**kept, name: value})

    return change


# --- the wire -------------------------------------------------------------------------------------------------------


def _scripted(answer: SandboxResponse, steps: Iterable[Step]) -> Scripted:
    return Scripted(status=answer.status, headers=answer.headers, steps=steps)


def _head(answer: SandboxResponse, length: int | None) -> bytes:
    # A script ends with its connection; said beforehand, so that no client takes it for its next request.
    framing = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
    return head_of(answer, framing, ("Connection", "close"))


def reset(moment: Moment) -> SandboxResponse:
    """The request arrives and is worked on; the connection is reset before the answer."""
    return _scripted(moment.answer, (Reset(),))


def silent_close(moment: Moment) -> SandboxResponse:
    return _scripted(moment.answer, ())


def reset_in_body(moment: Moment) -> SandboxResponse:
    body = moment.answer.body
    # The pause lets what was sent arrive: a reset throws away what is still under way.
    return _scripted(moment.answer, (_head(moment.answer, len(body)) + body[: len(body) // 2], Pause(0.05), Reset()))


def cut(moment: Moment) -> SandboxResponse:
    body = moment.answer.body
    return _scripted(moment.answer, (_head(moment.answer, len(body) + (not body)) + body[: len(body) // 2],))


def cut_chunk(moment: Moment) -> SandboxResponse:
    body = moment.answer.body
    return _scripted(moment.answer, (_head(moment.answer, None) + b"%x\r\n" % len(body) + body[: len(body) // 2],))


def cut_between_chunks(moment: Moment) -> SandboxResponse:
    """Every chunk is whole, but the last one, which says that the body is at its end, never comes."""
    body = moment.answer.body
    half = body[: len(body) // 2 + 1]
    return _scripted(moment.answer, (_head(moment.answer, None) + b"%x\r\n%b\r\n" % (len(half), half),))


def wrong_length(by: int) -> Change:
    """A ``Content-Length`` that is ``by`` bytes off; the whole body is sent."""

    def change(moment: Moment) -> SandboxResponse:
        body = moment.answer.body
        return _scripted(moment.answer, (_head(moment.answer, max(1, len(body) + by)) + body,))

    return change


def two_lengths(moment: Moment) -> SandboxResponse:
    body = moment.answer.body
    head = head_of(moment.answer, ("Content-Length", str(len(body))), ("Content-Length", str(len(body) // 2)))
    return _scripted(moment.answer, (head + body,))


def stall(seconds: float, *, in_body: bool = False) -> Change:
    """Nothing comes for a while, then the rest does."""

    def change(moment: Moment) -> SandboxResponse:
        body = moment.answer.body
        whole = _head(moment.answer, len(body)) + body
        at = len(whole) - len(body) // 2 if in_body else 0
        return _scripted(moment.answer, (whole[:at], Pause(seconds), whole[at:]))

    return change


def drip(pause_s: float, *, most_s: float, of_head: bool = False) -> Change:
    """One byte every ``pause_s``, so that no wait for a byte is long; the rest at once after ``most_s``."""

    def change(moment: Moment) -> SandboxResponse:
        body = moment.answer.body
        head = _head(moment.answer, len(body))
        at_once, slowly = (b"", head + body) if of_head else (head, body)

        def steps() -> Iterator[Step]:
            yield at_once
            slow = min(len(slowly), int(most_s / pause_s))
            for at in range(slow):
                yield slowly[at : at + 1]
                yield Pause(pause_s)
            yield slowly[slow:]

        return _scripted(moment.answer, steps())

    return change


def no_http(moment: Moment) -> SandboxResponse:
    return _scripted(moment.answer, (b"\x15\x03\x01\x00\x02\x02\x28 what is this\r\n",))


# --- size -----------------------------------------------------------------------------------------------------------


def huge(mib: int, *, chunked: bool) -> Change:
    """The app's answer followed by ``mib`` MiB of spaces, which JSON allows; its length announced, or not."""

    def change(moment: Moment) -> SandboxResponse:
        body, blanks = moment.answer.body, b" " * MIB

        def steps() -> Iterator[Step]:
            yield _head(moment.answer, None if chunked else len(body) + mib * MIB)
            for piece in (body, *[blanks] * mib):
                if piece:
                    yield b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
            if chunked:
                yield b"0\r\n\r\n"

        return _scripted(moment.answer, steps())

    return change


def bomb(mib: int) -> Change:
    """A small gzip body that is ``mib`` MiB large when decompressed."""

    def change(moment: Moment) -> SandboxResponse:
        headers = {**moment.answer.headers, "Content-Encoding": "gzip"}
        return evolve(moment.answer, headers=headers, body=gzip.compress(moment.answer.body) + _blanks(mib))

    return change


@lru_cache(maxsize=4)
def _blanks(mib: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * MIB
    return b"".join([*(packer.compress(block) for _ in range(mib)), packer.flush()])


def gzip_broken(*, cut_off: bool) -> Change:
    """A gzip body that is damaged in the middle, or ends too early."""

    def change(moment: Moment) -> SandboxResponse:
        packed = gzip.compress(moment.answer.body, mtime=0)
        half = len(packed) // 2
        # Its check sum is at the end, so a change there is always noticed, whatever the body.
        broken = packed[:half] if cut_off else packed[:-8] + bytes(byte ^ 0xFF for byte in packed[-8:])
        return evolve(moment.answer, headers={**moment.answer.headers, "Content-Encoding": "gzip"}, body=broken)

    return change


# --- bodies ---------------------------------------------------------------------------------------------------------

LOGIN_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Sign in</title></head>"
    "<body><h1>Your session has ended</h1><form method=post></form></body></html>\n"
)


def with_body(new: bytes | None, content_type: str = "application/json") -> Change:
    """Another body with status 200; None: the first half of the app's, correctly announced."""

    def change(moment: Moment) -> SandboxResponse:
        raw = moment.answer.body[: len(moment.answer.body) // 2] if new is None else new
        return SandboxResponse(headers={"Content-Type": content_type}, body=raw)

    return change


def records_in(raw: bytes) -> list[tuple[int, int]]:
    """Start and end of each record in a body: of the first array of objects, or of each JSON line; none otherwise."""
    try:
        text = raw.decode("latin-1")  # one letter per byte, so that places in the text are places in the bytes
        decoder = json.JSONDecoder()
        for found in re.finditer(r'"(?:[^"\\]|\\.)*"|\[\s*(?=\{)', text):
            if not found[0].startswith("["):
                continue
            spans, at = [], found.end()
            while True:
                _, end = decoder.raw_decode(text, at)
                spans.append((at, end))
                comma = re.compile(r"\s*,\s*").match(text, end)
                if comma is None:
                    return spans
                at = comma.end()
        lines = [(line.start(), line.end()) for line in re.finditer(r"\{[^\n]*\}", text)]
        for start, end in lines:
            decoder.raw_decode(text[start:end])
        return lines if len(lines) > 1 else []  # a single object is an envelope without records, or no listing
    except ValueError:
        return []


def in_record(edit: Callable[[bytes], bytes]) -> Change:
    """Edit the record in the middle. An edit that changes nothing is a fault that finds nothing to bite on."""

    def change(moment: Moment) -> SandboxResponse | None:
        raw = moment.answer.body
        spans = records_in(raw)
        if not spans:
            return None
        start, end = spans[len(spans) // 2]
        edited = edit(raw[start:end])
        return evolve(moment.answer, body=raw[:start] + edited + raw[end:]) if edited != raw[start:end] else None

    return change


def in_every_second(edit: Callable[[bytes], bytes]) -> Change:
    def change(moment: Moment) -> SandboxResponse | None:
        raw = moment.answer.body
        parts, at = [], 0
        for start, end in records_in(raw)[::2]:
            parts += [raw[at:start], edit(raw[start:end])]
            at = end
        edited = b"".join([*parts, raw[at:]])
        return evolve(moment.answer, body=edited) if edited != raw else None

    return change


def _number(new: bytes) -> Callable[[bytes], bytes]:
    return lambda record: re.sub(rb'("\s*:\s*)-?\d+(?:\.\d+)?(?=\s*[,}])', rb"\g<1>" + new, record, count=1)


def _invalid_utf8(record: bytes) -> bytes:
    return re.sub(rb'(:\s*"[^"\\]*)"', lambda hit: hit[1] + b'\xff"', record, count=1)


def _ids_as_other_type(record: bytes) -> bytes:
    as_text = re.sub(rb'("(?:\w*_)?(?:\w*I)?[iI][dD]"\s*:\s*)(\d+)', rb'\1"\2"', record)
    return as_text if as_text != record else re.sub(rb'("\w*[iI][dD]"\s*:\s*)"(0|[1-9]\d*)"', rb"\1\2", record)


def _deep(record: bytes) -> bytes:
    depth = 100_000
    return b'{"nested":' + b"[" * depth + b"]" * depth + (b"," if record.strip(b"{} \n") else b"") + record[1:]


def _second_key(record: bytes) -> bytes:
    first = re.match(rb'\{\s*"(?:[^"\\]|\\.)*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[^,{}\[\]]+)', record)
    return first[0] + b"," + record[1:] if first else record


def repeated_page(moment: Moment) -> SandboxResponse | None:
    """The answer to the page before, again; the first page has none."""
    raw = moment.answer.body
    return moment.before if moment.before is not None and records_in(raw) and moment.before.body != raw else None


def next_links(target: Callable[[SandboxRequest], str]) -> Change:
    """Every link of the body whose member name has ``next`` in it, and of a ``Link`` header, leads elsewhere."""

    def change(moment: Moment) -> SandboxResponse | None:
        where = json.dumps(target(moment.request)).encode()
        edited = re.sub(
            rb'("[^"\\]*next[^"\\]*"\s*:\s*)"[^"]+"', lambda hit: hit[1] + where, moment.answer.body, flags=re.I
        )
        headers = {
            name: re.sub("<[^>]*>(?=[^,]*next)", f"<{target(moment.request)}>", value)
            if name.lower() == "link"
            else value
            for name, value in moment.answer.headers.items()
        }
        if edited == moment.answer.body and headers == dict(moment.answer.headers):
            return None
        return evolve(moment.answer, body=edited, headers=headers)

    return change


# --- the table ------------------------------------------------------------------------------------------------------


def _foreign(scheme: str) -> Callable[[SandboxRequest], str]:
    return lambda request: f"{scheme}://{FOREIGN}{request.target}"


def _itself(request: SandboxRequest) -> str:
    return request.target


def _table(*faults: Fault) -> dict[str, Fault]:
    return {fault.name: fault for fault in faults}


def _fault(
    name: str, summary: str, change: Change, kind: Literal["transient", "fatal"] = "transient", *, after: int = 0
) -> Fault:
    return Fault(name=name, summary=summary, change=change, kind=kind, after=after)


FAULTS: dict[str, Fault] = _table(
    _fault("throttled", "429, Retry-After in seconds", status(429, "{}", retry_after=1)),
    _fault("throttled_date", "429, Retry-After as an HTTP date", status(429, "{}", retry_after=1, dated=True)),
    _fault("throttled_bare", "429 without Retry-After", status(429, "{}")),
    _fault("throttled_hours", "429, Retry-After of six hours", status(429, "{}", retry_after=21600)),
    _fault("throttled_nonsense", "429, Retry-After that is neither", status(429, "{}", retry_after="soon")),
    _fault("server_error", "500 with an HTML page", status(500, "<html>Internal Server Error</html>")),
    _fault("bad_gateway", "502 with an HTML page", status(502, "<html>Bad Gateway</html>")),
    _fault("unavailable", "503, Retry-After in seconds", status(503, "{}", retry_after=1)),
    _fault("unavailable_date", "503, Retry-After as an HTTP date", status(503, "{}", retry_after=1, dated=True)),
    _fault("gateway_timeout", "504 without a body", status(504)),
    _fault("expired", "401 for a token that was good before", status(401, "{}"), after=1),
    _fault("unauthorized", "401, always", status(401, "{}"), "fatal"),
    _fault("forbidden", "403 from the second request on", status(403, "{}"), "fatal", after=1),
    _fault("reset", "connection reset before the answer, the request was carried out", reset),
    _fault("silent_close", "connection closed before the answer", silent_close),
    _fault("reset_in_body", "connection reset in the middle of the body", reset_in_body),
    _fault("cut", "body ends half-way, Content-Length says so", cut),
    _fault("cut_chunk", "chunked body ends inside a chunk", cut_chunk),
    _fault("cut_between_chunks", "chunked body ends between two chunks", cut_between_chunks),
    _fault("cut_json", "JSON ends half-way, correctly announced", with_body(None)),
    _fault("length_too_long", "Content-Length larger than the body", wrong_length(+100)),
    _fault("length_too_short", "Content-Length smaller than the body", wrong_length(-1)),
    _fault("two_lengths", "two Content-Length headers that disagree", two_lengths),
    _fault("no_http", "an answer that is not HTTP", no_http),
    _fault("slow", "half a second before the answer", stall(0.5)),
    _fault("stall", "20 seconds without a byte before the answer", stall(20)),
    _fault("stall_in_body", "20 seconds without a byte inside the body", stall(20, in_body=True)),
    _fault("drip", "the body byte by byte, 30 seconds at most", drip(0.05, most_s=30)),
    _fault("drip_head", "the headers byte by byte, 30 seconds at most", drip(0.05, most_s=30, of_head=True)),
    _fault("huge", "a body of 300 MiB, announced", huge(300, chunked=False)),
    _fault("huge_chunked", "a body of 300 MiB, in chunks", huge(300, chunked=True)),
    _fault("bomb", "a gzip body of 0.3 MiB that grows to 300 MiB", bomb(300)),
    _fault("corrupt_gzip", "a gzip body that is damaged", gzip_broken(cut_off=False)),
    _fault("cut_gzip", "a gzip body that ends half-way, correctly announced", gzip_broken(cut_off=True)),
    _fault("html", "a login page with status 200", with_body(LOGIN_PAGE.encode(), "text/html")),
    _fault("html_as_json", "a login page that claims to be JSON", with_body(LOGIN_PAGE.encode())),
    _fault("empty", "no body with status 200", with_body(b"")),
    _fault("wrong_charset", "a charset it does not have", with_header("Content-Type", "text/json; charset=utf-16")),
    _fault("invalid_utf8", "a byte that is no UTF-8 inside a text", in_record(_invalid_utf8), "fatal"),
    _fault("not_a_number", "NaN for a number", in_record(_number(b"NaN")), "fatal"),
    _fault("infinity", "Infinity for a number", in_record(_number(b"Infinity")), "fatal"),
    _fault("too_large_number", "1e999 for a number", in_record(_number(b"1e999")), "fatal"),
    _fault("deep", "a member nested 100,000 deep", in_record(_deep), "fatal"),
    _fault("duplicate_member", "a member that a record has twice", in_record(_second_key), "fatal"),
    _fault("bad_record", "a text for the record in the middle", in_record(lambda record: b'"broken"'), "fatal"),
    _fault("ids_change_type", "ids as text for numbers and the reverse", in_every_second(_ids_as_other_type), "fatal"),
    _fault("repeated_page", "a page that is the one before again", repeated_page),
    _fault("circular_link", "a next link that leads to its own page", next_links(_itself), "fatal"),
    _fault("foreign_link", "a next link to another host", next_links(_foreign("https")), "fatal"),
    _fault("plain_link", "a next link to another host by plain http", next_links(_foreign("http")), "fatal"),
    _fault("foreign_redirect", "a redirect to another host", redirect(_foreign("https")), "fatal"),
    _fault("plain_redirect", "a redirect to another host by plain http", redirect(_foreign("http")), "fatal"),
    _fault("circular_redirect", "a redirect to itself", redirect(_itself, 307), "fatal"),
)  # fmt: skip


def faults_named(names: str | Sequence[str]) -> tuple[Fault, ...]:
    """The faults of a list ``"name,name"``; raises UsageError that lists the known ones."""
    wanted = names.split(",") if isinstance(names, str) else list(names)
    wanted = [name.strip() for name in wanted if name.strip()]
    unknown = [name for name in wanted if name not in FAULTS]
    if unknown:
        raise UsageError(f"no fault is named {', '.join(unknown)}; known are {', '.join(sorted(FAULTS))}")
    return tuple(FAULTS[name] for name in wanted)
