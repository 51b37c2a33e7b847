"""
The faults of a failing or hostile provider, by name, for any sandbox.

``with_faults(app, faults_named("throttled,cut"), seed=1)`` is a sandbox, too. A fault is an
effect of :mod:`penstock.sandbox.fault_effects`, and the requests to which it applies.
"""

import random
import re
import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Literal

from attrs import field, frozen

from penstock.errors import UsageError
from penstock.sandbox.app import SandboxApp, SandboxRequest, SandboxResponse
from penstock.sandbox.fault_effects import (
    LOGIN_PAGE,
    Effect,
    FaultContext,
    bomb,
    cut,
    cut_between_chunks,
    cut_chunk,
    cut_head,
    deep,
    drip,
    foreign,
    gzip_broken,
    huge,
    ids_as_other_type,
    in_every_second,
    in_record,
    invalid_utf8,
    itself,
    next_links,
    no_http,
    other_number,
    redirect,
    repeated_page,
    reset,
    reset_in_body,
    second_key,
    silent_close,
    stall,
    status,
    two_lengths,
    with_body,
    with_header,
    wrong_length,
)

_TOKEN = re.compile("token|ticket|authorization", re.I)


def carries_token(request: SandboxRequest) -> bool:
    """
    Whether a request has a token in a header or in its query. A login has none: its credentials are in the body, in a
    key, or in ``Basic``.
    """
    headers = {name for name, value in request.headers.items() if not value.lower().startswith("basic ")}
    params = {pair.partition("=")[0] for pair in request.query.split("&")}
    return any(map(_TOKEN.search, headers | params))


@frozen
class Fault:
    """
    A change of the provider's responses.

    ``transient``: it applies to the first ``times`` attempts of each request (see :func:`logical_request`). ``fatal``:
    it applies to every attempt. Only requests for which ``when`` holds are affected, and not the first ``after`` of
    them. ``change`` returns None for a response that it cannot change.
    """

    name: str
    summary: str
    change: Effect = field(repr=False)
    kind: Literal["transient", "fatal"] = "transient"
    times: int = 1
    after: int = 0
    when: Callable[[SandboxRequest], bool] = field(default=lambda request: True, repr=False)


_VOLATILE = "sign|timestamp|ticket|nonce|token|expires|secret|key|cache"
_PER_ATTEMPT = re.compile(_VOLATILE, re.I)
_ASSERTION = re.compile(rb"assertion=[^&]*")  # a JWT in the form of a login
_MEMBER_PER_ATTEMPT = re.compile(rf'"[^"]*(?:{_VOLATILE})[^"]*"\s*:\s*(?:"[^"]*"|\d+)'.encode(), re.I)


def logical_request(request: SandboxRequest) -> Hashable:
    """The part of a request that is equal in each of its attempts: without signature, timestamp and token."""
    pairs = [pair for pair in request.query.split("&") if not _PER_ATTEMPT.search(pair.partition("=")[0])]
    body = _ASSERTION.sub(b"", _MEMBER_PER_ATTEMPT.sub(b"", request.body))
    return request.method, request.path, tuple(pairs), body


def with_faults(
    app: SandboxApp,
    faults: Iterable[Fault],
    seed: int = 0,
    *,
    share: float = 1.0,
) -> SandboxApp:
    """
    ``app`` behind ``faults``. ``share`` is the part of all requests that is affected.

    Several transient faults apply to a request one after the other, in an order that depends on ``seed`` and the
    request only, with one regular response between two of them. So no request fails more often in a row than one fault
    states, and a client that retries must get everything.
    """
    return _Faulty(app, tuple(faults), seed, share)


class _Faulty:
    def __init__(
        self,
        app: SandboxApp,
        faults: tuple[Fault, ...],
        seed: int,
        share: float,
    ) -> None:
        self.app = app
        self._faults = faults
        self._seed = seed
        self._share = share
        self._lock = threading.Lock()
        self._let_through = [0] * len(faults)
        self._to_come: dict[
            Hashable, list[int]
        ] = {}  # per request the transient faults to come; _PASS: a regular response
        self._good: dict[tuple[str, str], SandboxResponse] = {}  # per method and path the last regular response

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        key = logical_request(request)
        path = (request.method, request.path)
        context = FaultContext(request, self.app, self._good.get(path))
        for index in self._candidates(request, key):
            changed = self._faults[index].change(context)
            if changed is not None:
                self._count_applied(key, index)
                return changed
        response = context.response
        with self._lock:
            self._good[path] = response
            if self._to_come[key][:1] == [_PASS]:
                del self._to_come[key][0]
        return response

    def _candidates(self, request: SandboxRequest, key: Hashable) -> list[int]:
        """
        The faults that may apply now: the fatal ones, then the transient ones in their order. A fault that does not
        apply yet, or cannot change the response, does not delay the next one.
        """
        with self._lock:
            if key not in self._to_come:
                chance = random.Random(f"{self._seed} {key!r}")  # noqa: S311
                turns = [[index] * fault.times for index, fault in enumerate(self._faults) if fault.kind == "transient"]
                chance.shuffle(turns)
                affected = chance.random() < self._share
                self._to_come[key] = [index for turn in turns for index in turn] if affected else []
            due = []
            for index, fault in enumerate(self._faults):
                if not fault.when(request):
                    continue
                if self._let_through[index] < fault.after:
                    self._let_through[index] += 1
                else:
                    due.append(index)
            fatal = [index for index in due if self._faults[index].kind == "fatal"]
            turns_left = self._to_come[key]
            if turns_left[:1] == [_PASS]:
                return fatal
            return fatal + [index for index in dict.fromkeys(turns_left) if index in due]

    def _count_applied(self, key: Hashable, index: int) -> None:
        with self._lock:
            turns_left = self._to_come[key]
            if index in turns_left:
                turns_left.remove(index)
                if index not in turns_left:
                    turns_left.insert(0, _PASS)


_PASS = -1


# --- the table ------------------------------------------------------------------------------------------------------


_ALL = (
    Fault("throttled", "429, Retry-After in seconds", status(429, "{}", retry_after=1)),
    Fault("throttled_date", "429, Retry-After as an HTTP date", status(429, "{}", retry_after=1, dated=True)),
    Fault("throttled_bare", "429 without Retry-After", status(429, "{}")),
    Fault("throttled_hours", "429, Retry-After of six hours", status(429, "{}", retry_after=21600)),
    Fault("throttled_nonsense", "429, Retry-After that is nonsense", status(429, "{}", retry_after="soon")),
    Fault("server_error", "500 with an HTML page", status(500, "<html>Internal Server Error</html>")),
    Fault("bad_gateway", "502 with an HTML page", status(502, "<html>Bad Gateway</html>")),
    Fault("unavailable", "503, Retry-After in seconds", status(503, "{}", retry_after=1)),
    Fault("unavailable_date", "503, Retry-After as an HTTP date", status(503, "{}", retry_after=1, dated=True)),
    Fault("gateway_timeout", "504 without a body", status(504)),
    Fault("expired", "401 for a token that was good before", status(401, "{}"), after=1, when=carries_token),
    Fault("unauthorized", "401, always", status(401, "{}"), "fatal"),
    Fault("forbidden", "403 from the second request on", status(403, "{}"), "fatal", after=1),
    Fault("reset", "connection reset before the response; the request was processed", reset),
    Fault("silent_close", "connection closed before the response", silent_close),
    Fault("reset_in_body", "connection reset in the middle of the body", reset_in_body),
    Fault("cut_head", "response ends after its status line", cut_head),
    Fault("cut", "half of the body that Content-Length announces", cut),
    Fault("cut_chunk", "chunked body ends inside a chunk", cut_chunk),
    Fault("cut_between_chunks", "chunked body ends between two chunks", cut_between_chunks),
    Fault("cut_json", "half of the JSON, with a Content-Length to match (not of CSV)", with_body(None)),
    Fault("length_too_long", "Content-Length larger than the body", wrong_length(+100)),
    Fault("length_too_short", "Content-Length smaller than the body", wrong_length(-1)),
    Fault("two_lengths", "two Content-Length headers that disagree", two_lengths),
    Fault("no_http", "bytes that are not HTTP", no_http),
    Fault("slow", "half a second before the response", stall(0.5)),
    Fault("stall", "20 seconds without a byte before the response", stall(20)),
    Fault("stall_in_body", "20 seconds without a byte inside the body", stall(20, in_body=True)),
    Fault("drip", "the body byte by byte, 30 seconds at most", drip(0.05, most_s=30)),
    Fault("drip_head", "the headers byte by byte, 30 seconds at most", drip(0.05, most_s=30, of_head=True)),
    Fault("huge", "a body of 300 MiB, with Content-Length", huge(300, chunked=False)),
    Fault("huge_chunked", "a body of 300 MiB, in chunks", huge(300, chunked=True)),
    Fault("bomb", "a gzip body of 0.3 MiB, 300 MiB decompressed", bomb(300)),
    Fault("corrupt_gzip", "a gzip body that is damaged", gzip_broken(cut_off=False)),
    Fault("cut_gzip", "half of a gzip body, with a Content-Length to match", gzip_broken(cut_off=True)),
    Fault("html", "a login page with status 200", with_body(LOGIN_PAGE.encode(), "text/html")),
    Fault("html_as_json", "a login page that claims to be JSON", with_body(LOGIN_PAGE.encode())),
    Fault("empty", "no body with status 200", with_body(b"")),
    Fault("wrong_charset", "a charset it does not have", with_header("Content-Type", "text/json; charset=utf-16")),
    Fault("invalid_utf8", "a byte in a text that is not UTF-8", in_record(invalid_utf8), "fatal"),
    Fault("not_a_number", "NaN for a number", in_record(other_number(b"NaN")), "fatal"),
    Fault("infinity", "Infinity for a number", in_record(other_number(b"Infinity")), "fatal"),
    Fault("too_large_number", "1e999 for a number", in_record(other_number(b"1e999")), "fatal"),
    Fault("deep", "a member nested 100,000 deep", in_record(deep), "fatal"),
    Fault("duplicate_member", "a record with a member twice", in_record(second_key), "fatal"),
    Fault("bad_record", "a text in place of a record", in_record(lambda record: b'"broken"'), "fatal"),
    Fault("ids_change_type", "ids as text for numbers and the reverse", in_every_second(ids_as_other_type), "fatal"),
    Fault("repeated_page", "the previous page again", repeated_page),
    Fault("circular_link", "a next link to its own page", next_links(itself), "fatal"),
    Fault("foreign_link", "a next link to another host", next_links(foreign("https")), "fatal"),
    Fault("plain_link", "a next link to another host by plain http", next_links(foreign("http")), "fatal"),
    Fault("foreign_redirect", "a redirect to another host", redirect(foreign("https")), "fatal"),
    Fault("plain_redirect", "a redirect to another host by plain http", redirect(foreign("http")), "fatal"),
    Fault("circular_redirect", "a redirect to itself", redirect(itself, 307), "fatal"),
)  # fmt: skip
FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}


def faults_named(names: str | Sequence[str]) -> tuple[Fault, ...]:
    """The faults of a list ``"name,name"``; raises UsageError that lists the known ones."""
    chosen = names.split(",") if isinstance(names, str) else list(names)
    chosen = [name.strip() for name in chosen if name.strip()]
    unknown = [name for name in chosen if name not in FAULTS]
    if unknown:
        raise UsageError(f"no fault is named {', '.join(unknown)}; known are {', '.join(sorted(FAULTS))}")
    return tuple(FAULTS[name] for name in chosen)
