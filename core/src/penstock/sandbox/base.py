"""
The common base of sandboxes: routes, errors, tokens, rate limits, planned failures, restated days.

A sandbox extends :class:`SandboxBase` and adds what is particular to its provider: a table of routes, the shape of an
error, the check of credentials, the data.
"""

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import unquote

import msgspec
from attrs import define, evolve, field

from penstock.model import EXACT_JSON
from penstock.sandbox.app import SandboxRequest, SandboxResponse

REQUESTS_REMEMBERED = 10_000  # requests

Handler = Callable[..., SandboxResponse]
Failure = int | SandboxResponse | Callable[[SandboxResponse], SandboxResponse]


class SandboxError(Exception):
    """
    Ends the handling of a request with an error of the provider.

    The sandbox's :meth:`SandboxBase.error` makes the response from ``status`` and ``message``; ``headers`` are added to
    it. ``response`` is sent as it is, for an error that has a shape of its own.
    """

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        response: SandboxResponse | None = None,
    ) -> None:
        self.status = status
        self.message = message
        self.headers = headers or {}
        self.response = response
        super().__init__(f"{status} {message}")


@define(eq=False)
class Tokens:
    """The tokens that a sandbox has issued. A token ends with its lifetime, its last use, or :meth:`revoke`."""

    _clock: Callable[[], float]
    issued: list[str] = field(factory=list, init=False)  # every token, valid or not, in order
    _ends: dict[str, float] = field(factory=dict, init=False)
    _uses: Counter[str] = field(factory=Counter, init=False)

    def issue(self, token: str, *, life_s: float = 3600.0) -> str:
        """Make ``token`` valid for ``life_s`` seconds, and return it."""
        self.issued.append(token)
        self._ends[token] = self._clock() + life_s
        return token

    def accept(self, token: str, *, uses: int | None = None) -> bool:
        """Count one use of ``token``. Whether it is valid, and was used at most ``uses`` times."""
        if self._ends.get(token, 0.0) <= self._clock():
            return False
        self._uses[token] += 1
        return uses is None or self._uses[token] <= uses

    def revoke(self) -> None:
        """Make every token invalid."""
        self._ends.clear()


@define(eq=False)
class SandboxReports:
    """The asynchronous reports of a sandbox, named "1", "2", ...: each is in progress for some polls, then ready."""

    polls_until_ready: int = 1
    _rows: list[list[Any]] = field(factory=list, init=False)
    _polls: Counter[str] = field(factory=Counter, init=False)

    def submit(self, rows: Iterable[Any]) -> str:
        """Keep the rows of a new report, and return its name."""
        self._rows.append(list(rows))
        return str(len(self._rows))

    def poll(self, report: str) -> bool:
        """Count one poll of a report. Whether it is ready. Raises :class:`SandboxError` 404 for an unknown one."""
        self.rows(report)
        self._polls[report] += 1
        return self._polls[report] > self.polls_until_ready

    def rows(self, report: str) -> list[Any]:
        """The rows of a report. Raises :class:`SandboxError` 404 for an unknown one."""
        if not report.isdecimal() or not 0 < int(report) <= len(self._rows):
            raise SandboxError(404, "Unknown report")
        return self._rows[int(report) - 1]


@define(eq=False)
class SlidingWindow:
    """Requests within a sliding window of ``window_s`` seconds. A refused request does not count."""

    window_s: float
    _times: deque[float] = field(factory=deque, init=False)

    def accept(self, now: float, most: int | None) -> bool:
        """Whether one more request at ``now`` is within ``most`` requests of the window; None: no limit."""
        while self._times and now - self._times[0] >= self.window_s:
            self._times.popleft()
        if most is not None and len(self._times) >= most:
            return False
        self._times.append(now)
        return True


@define(eq=False, slots=False)
class SandboxBase:
    """
    A sandbox with a table of routes. It is safe to call from any thread: one request is handled at a time.

    ``routes`` maps ``"METHOD /path/{name}"`` (or ``"PUT|DELETE /path"``) to a method of the class; the first that fits
    is taken. ``{name}`` matches one segment of the path and is passed to the method, decoded, by its name;
    ``{name:pattern}`` matches a regular expression. A request passes :meth:`admit` (credentials), then the failures of
    :meth:`fail_next`, then its route.

    ``today`` is the provider's current day, ``clock`` its seconds for lifetimes and limits. ``requests`` holds the last
    10,000 requests in their order of arrival.
    """

    routes: ClassVar[Mapping[str, Handler]] = {}
    _compiled: ClassVar[list[tuple[str, "re.Pattern[str]", Handler]]] = []

    base_url: str
    today: date
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True, repr=False)
    requests: deque[SandboxRequest] = field(factory=lambda: deque(maxlen=REQUESTS_REMEMBERED), init=False, repr=False)
    tokens: Tokens = field(init=False)
    reports: SandboxReports = field(factory=SandboxReports, init=False)
    lock: "threading.RLock" = field(factory=threading.RLock, init=False)
    _failures: list[tuple[str, Failure]] = field(factory=list, init=False)
    _restated: Counter[date] = field(factory=Counter, init=False)

    @tokens.default
    def _default_tokens(self) -> Tokens:
        return Tokens(lambda: self.clock())

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        compiled = [(*_compile(route), handler) for route, handler in cls.routes.items()]
        cls._compiled = [(method, path, call) for methods, path, call in compiled for method in methods.split("|")]

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        with self.lock:
            self.requests.append(request)
            try:
                self.admit(request)
                failure = self._next_failure(request)
                if isinstance(failure, SandboxResponse):
                    return failure
                if isinstance(failure, int):
                    return self.error(failure, HTTPStatus(failure).phrase)
                response = self._route(request)
                return failure(response) if failure is not None else response
            except SandboxError as error:
                if error.response is not None:
                    return error.response
                response = self.error(error.status, error.message)
                return evolve(response, headers={**response.headers, **error.headers})

    # --- what a provider defines --------------------------------------------------------------------------------

    def admit(self, request: SandboxRequest) -> None:
        """Raises :class:`SandboxError` for a request without valid credentials, or over a limit."""

    def error(self, status: int, message: str) -> SandboxResponse:
        """An error in the provider's envelope."""
        return json_response({"error": message}, status)

    def missing(self, request: SandboxRequest, allowed: tuple[str, ...]) -> SandboxResponse:
        """The response to a request without a route; ``allowed`` are the methods that the path has."""
        if not allowed:
            raise SandboxError(404, "Not Found")
        raise SandboxError(405, "Method Not Allowed", headers={"Allow": ", ".join(allowed)})

    # --- what a test changes ------------------------------------------------------------------------------------

    def fail_next(self, how: Failure, times: int = 1, *, on: str = "") -> None:
        """
        Let the next ``times`` admitted requests fail whose ``METHOD /path`` matches the regular expression ``on``.

        ``how`` is a status, a whole response, or a function that changes the regular response.
        """
        with self.lock:
            self._failures += [(on, how)] * times

    def restate(self, day: date) -> None:
        """Change the data of ``day`` once more: :meth:`restated` is its number of changes."""
        with self.lock:
            self._restated[day] += 1

    def restated(self, day: date) -> int:
        """How many times ``day`` was restated."""
        return self._restated[day]

    def expire_tokens(self) -> None:
        """Make every token invalid that was issued so far."""
        with self.lock:
            self.tokens.revoke()

    def requests_to(self, pattern: str) -> list[SandboxRequest]:
        """The remembered requests whose ``METHOD /path`` matches the regular expression ``pattern``."""
        with self.lock:
            return [request for request in self.requests if re.search(pattern, _line(request))]

    # --- routing ------------------------------------------------------------------------------------------------

    def _next_failure(self, request: SandboxRequest) -> Failure | None:
        for place, (pattern, failure) in enumerate(self._failures):
            if re.search(pattern, _line(request)):
                del self._failures[place]
                return failure
        return None

    def _route(self, request: SandboxRequest) -> SandboxResponse:
        allowed = []
        for method, path, handler in self._compiled:
            match = path.fullmatch(request.path)
            if match is None:
                continue
            if method == request.method:
                return handler(self, request, **{name: unquote(value) for name, value in match.groupdict().items()})
            allowed.append(method)
        return self.missing(request, tuple(allowed))


def _line(request: SandboxRequest) -> str:
    return f"{request.method} {unquote(request.path)}"


def _compile(route: str) -> tuple[str, "re.Pattern[str]"]:
    """Method and path of a route. Raises ValueError for a route of another form."""
    method, blank, template = route.partition(" ")
    if not blank or not template.startswith("/"):
        raise ValueError(f'route {route!r}: write "METHOD /path/{{name}}"')
    pattern = ""
    for literal, name, expression in re.findall(r"([^{]+)|\{(\w+)(?::([^}]*))?\}", template):
        pattern += re.escape(literal) if literal else f"(?P<{name}>{expression or '[^/]+'})"
    return method, re.compile(pattern)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> SandboxResponse:
    """``value`` as JSON: a Decimal as a number with its digits, dates and times as ISO 8601 text."""
    return SandboxResponse(
        status=status, headers={"Content-Type": "application/json", **(headers or {})}, body=EXACT_JSON.encode(value)
    )


def json_body(request: SandboxRequest, kind: type = dict) -> Any:
    """The body of a request as JSON. Raises :class:`SandboxError` 400 when it is no JSON, or no ``kind``."""
    try:
        value = msgspec.json.decode(request.body)
    except msgspec.DecodeError:
        raise SandboxError(400, "The body is not JSON") from None
    if not isinstance(value, kind):
        raise SandboxError(400, f"The body must be a JSON {'array' if kind is list else 'object'}")
    return value


def draw(*seed: object) -> int:
    """
    A number of 48 bits that depends only on ``seed``, so that invented data are the same in each process: of
    ``draw(account, day) % 40`` records.
    """
    return int.from_bytes(blake2b(repr(seed).encode(), digest_size=6).digest(), "big")
