"""
A local imitation of the report endpoint, written from its page: it keeps every event that it captures.

What the page leaves open is an attribute: how a 206 names ids, what the gateway allows.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import date
from hashlib import blake2b
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

import msgspec
from attrs import define, field
from penstock import Sandbox, SandboxRequest, SandboxResponse

KEY = "sandbox-key-4mz8qp2x"

_PARAMETERS = ("key", "userIp", "id", "userAgent", "userSessionId", "content")


def listing_id(number: int) -> str:
    """The reportingId of a listing that the imitation knows; opaque text of 75 characters."""
    return "eyJ" + blake2b(f"listing {number}".encode(), digest_size=36).hexdigest()


@define(eq=False)
class SensisSandbox:
    """
    The imitation. ``events`` holds one entry for each id captured, in order.

    ``names``: how a 206 names invalid ids. ``quota``: requests until 403 over rate. ``per_second``: requests a second
    until 403 over QPS, None: any number.
    """

    base_url: str
    today: date
    key: str = KEY
    listings: int = 1000
    names: Literal["index", "text", "nothing"] = "index"
    quota: int = 100_000
    per_second: int | None = None
    clock: Callable[[], float] = time.monotonic
    events: list[Mapping[str, Any]] = field(factory=list, init=False)
    asked: int = field(default=0, init=False)
    _known: frozenset[str] = field(init=False)
    _recent: list[float] = field(factory=list, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._known = frozenset(listing_id(number) for number in range(self.listings))

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        with self._lock:
            return self._answer(request)

    def _answer(self, request: SandboxRequest) -> SandboxResponse:
        found = re.fullmatch(r"/(ob-20110511|v1)/(test|prod)/report/([^/]+)", request.path)
        if found is None:
            return _gateway(596, "ERR_596_SERVICE_NOT_FOUND", "Service Not Found")
        wanted = "GET" if found[1] == "ob-20110511" else "POST"
        if request.method != wanted:
            return _json(405, {"message": f"{wanted} wanted"})
        pairs = parse_qsl(request.query, keep_blank_values=True)
        params = dict(pairs)
        if params.get("key") != self.key:
            return _gateway(403, "ERR_403_DEVELOPER_INACTIVE", "Developer Inactive")
        now = self.clock()
        self._recent = [then for then in self._recent if now - then < 1.0]
        if self.per_second is not None and len(self._recent) >= self.per_second:
            return _gateway(403, "ERR_403_DEVELOPER_OVER_QPS", "Developer Over Qps", {"Retry-After": "1"})
        self._recent.append(now)
        self.asked += 1
        if self.asked > self.quota:
            return _gateway(403, "ERR_403_DEVELOPER_OVER_RATE", "Developer Over Rate")
        ids = [value for name, value in pairs if name == "id"]
        errors = [f"{name} is missing." for name in ("userIp", "id") if not params.get(name)]
        errors += [f"{name} is given twice." for name in _PARAMETERS if name != "id" and _count(pairs, name) > 1]
        errors += [f"{name} is unknown." for name in params if name not in _PARAMETERS]
        if "content" in params and len(ids) > 1:
            errors.append("content goes with one id only.")
        if errors:
            return self._said(400, "The request contained invalid parameters.", errors)
        bad = [at for at, one in enumerate(ids) if one not in self._known]
        if len(bad) == len(ids):
            return self._said(400, "The request contained invalid parameters.", self._named(ids, bad))
        event = {
            "environment": found[2],
            "event": unquote(found[3]),
            **{name: params[name] for name in _PARAMETERS[1:] if name != "id" and name in params},
        }
        self.events += [{**event, "id": one} for at, one in enumerate(ids) if at not in bad]
        return self._said(206, "OK", self._named(ids, bad)) if bad else self._said(200, "OK", [])

    def _named(self, ids: list[str], bad: list[int]) -> list[str]:
        if self.names == "nothing":
            return ["Some ids are not valid reporting ids."]
        return [
            f"id[{at}] is not a valid reporting id."
            if self.names == "index"
            else f"Not a valid reporting id: {ids[at]}"
            for at in bad
        ]

    def _said(self, code: int, message: str, errors: list[str]) -> SandboxResponse:
        said = {"validationErrors": errors} if errors else {}
        date_ = f"{self.today}T12:01:02.345+1000"
        return _json(200, {**said, "date": date_, "time": 10, "code": code, "message": message})


def _count(pairs: list[tuple[str, str]], wanted: str) -> int:
    return sum(1 for name, _ in pairs if name == wanted)


def _json(status: int, value: Any) -> SandboxResponse:
    return SandboxResponse(status=status, body=msgspec.json.encode(value))


def _gateway(status: int, code: str, text: str, more: Mapping[str, str] | None = None) -> SandboxResponse:
    headers = {"Content-Type": "text/xml", "X-Mashery-Error-Code": code, **(more or {})}
    return SandboxResponse(status=status, headers=headers, body=f"<h1>{text}</h1>".encode())


SANDBOX = Sandbox(
    connector="sensis",
    summary=f"a gateway and the report endpoint with 1000 listings, the first of which is {listing_id(0)}",
    make=SensisSandbox,
    settings={"key": KEY, "allow_writes": True, "requests_per_second": 1000.0},
)
