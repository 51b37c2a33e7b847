"""
An imitation of Sensis' report endpoint for tests, written from its page. It keeps every event that it captures.

What the page leaves open is an attribute: how a 206 names ids, the limits of the gateway.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl

from attrs import define, field
from connector_sensis.sandbox import KEY, gateway, listing_id
from penstock import SandboxBase, SandboxRequest, SandboxResponse, json_response
from penstock.sandbox import SlidingWindow

_PARAMETERS = ("key", "userIp", "id", "userAgent", "userSessionId", "content")


@define(eq=False)
class SensisSandbox(SandboxBase):
    """
    The imitation. ``events`` holds one entry for each captured id, in order; ``taken`` counts the requests that the
    gateway let through.

    ``names``: how a 206 names invalid ids. ``quota``: requests until 403 over rate. ``per_second``: requests a second
    until 403 over QPS, None: any number.
    """

    key: str = KEY
    listings: int = 1000
    names: Literal["index", "text", "nothing"] = "index"
    quota: int = 100_000
    per_second: int | None = None
    events: list[Mapping[str, Any]] = field(factory=list, init=False)
    taken: int = field(default=0, init=False)
    _known: frozenset[str] = field(init=False)
    _rate: SlidingWindow = field(factory=lambda: SlidingWindow(1.0), init=False)

    def __attrs_post_init__(self) -> None:
        self._known = frozenset(listing_id(number) for number in range(self.listings))

    def missing(self, request: SandboxRequest, allowed: tuple[str, ...]) -> SandboxResponse:
        if allowed:
            return json_response({"message": f"{allowed[0]} expected"}, 405)
        return gateway(596, "ERR_596_SERVICE_NOT_FOUND", "Service Not Found")

    def report(self, request: SandboxRequest, environment: str, event: str) -> SandboxResponse:
        pairs = parse_qsl(request.query, keep_blank_values=True)
        params = dict(pairs)
        if params.get("key") != self.key:
            return gateway(403, "ERR_403_DEVELOPER_INACTIVE", "Developer Inactive")
        if not self._rate.accept(self.clock(), self.per_second):
            return gateway(403, "ERR_403_DEVELOPER_OVER_QPS", "Developer Over Qps", {"Retry-After": "1"})
        self.taken += 1
        if self.taken > self.quota:
            return gateway(403, "ERR_403_DEVELOPER_OVER_RATE", "Developer Over Rate")
        ids = [value for name, value in pairs if name == "id"]
        errors = [f"{name} is missing." for name in ("userIp", "id") if not params.get(name)]
        errors += [f"{name} is given twice." for name in _PARAMETERS if name != "id" and _count(pairs, name) > 1]
        errors += [f"{name} is unknown." for name in params if name not in _PARAMETERS]
        if "content" in params and len(ids) > 1:
            errors.append("content goes with one id only.")
        if errors:
            return self._answered(400, "The request contained invalid parameters.", errors)
        bad = [at for at, one in enumerate(ids) if one not in self._known]
        if len(bad) == len(ids):
            return self._answered(400, "The request contained invalid parameters.", self._named(ids, bad))
        captured = {
            "environment": environment,
            "event": event,
            **{name: params[name] for name in _PARAMETERS[1:] if name != "id" and name in params},
        }
        self.events += [{**captured, "id": one} for at, one in enumerate(ids) if at not in bad]
        return self._answered(206, "OK", self._named(ids, bad)) if bad else self._answered(200, "OK", [])

    def _named(self, ids: list[str], bad: list[int]) -> list[str]:
        if self.names == "nothing":
            return ["Some ids are not valid reporting ids."]
        return [
            f"id[{at}] is not a valid reporting id."
            if self.names == "index"
            else f"Not a valid reporting id: {ids[at]}"
            for at in bad
        ]

    def _answered(self, code: int, message: str, errors: list[str]) -> SandboxResponse:
        output = {"validationErrors": errors} if errors else {}
        date = f"{self.today}T12:01:02.345+1000"
        return json_response({**output, "date": date, "time": 10, "code": code, "message": message})

    routes: ClassVar = {
        "GET /ob-20110511/{environment:test|prod}/report/{event}": report,
        "POST /v1/{environment:test|prod}/report/{event}": report,
    }


def _count(pairs: list[tuple[str, str]], expected: str) -> int:
    return sum(1 for name, _ in pairs if name == expected)
