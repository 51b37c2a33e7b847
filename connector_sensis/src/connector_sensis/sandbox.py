"""
A demo of Sensis' report endpoint: it checks the key, captures events for listings that it knows, and refuses others.

The tests of this connector have a stricter imitation with the gateway's quota and every form of a 206.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from penstock import Sandbox, SandboxBase, SandboxError, SandboxRequest, SandboxResponse, json_response

KEY = "sandbox-key-4mz8qp2x"
LISTINGS = 1000


def listing_id(number: int) -> str:
    """The reportingId of a known listing; opaque text of 75 characters."""
    return "eyJ" + blake2b(f"listing {number}".encode(), digest_size=36).hexdigest()


def gateway(status: int, code: str, text: str, headers: dict[str, str] | None = None) -> SandboxResponse:
    """An error of the gateway in front of the endpoint: its code is in a header."""
    named = {"Content-Type": "text/xml", "X-Mashery-Error-Code": code, **(headers or {})}
    return SandboxResponse(status=status, headers=named, body=f"<h1>{text}</h1>".encode())


class SensisDemo(SandboxBase):
    """The report endpoint in both environments and both versions (v1 by POST); HTTP status 200, code in the body."""

    known = frozenset(map(listing_id, range(LISTINGS)))

    def admit(self, request: SandboxRequest) -> None:
        if request.params.get("key") != KEY:
            raise SandboxError(403, response=gateway(403, "ERR_403_DEVELOPER_INACTIVE", "Developer Inactive"))

    def report(self, request: SandboxRequest, environment: str, event: str) -> SandboxResponse:
        pairs = parse_qsl(request.query, keep_blank_values=True)
        ids = [value for name, value in pairs if name == "id"]
        missing = [f"{name} is missing." for name in ("userIp", "id") if not dict(pairs).get(name)]
        bad = [f"id[{at}] is not a valid reporting id." for at, id_ in enumerate(ids) if id_ not in self.known]
        if missing or len(bad) == len(ids):
            return self.outcome(400, "The request contained invalid parameters.", missing or bad)
        return self.outcome(206 if bad else 200, "OK", bad)

    def outcome(self, code: int, message: str, errors: Iterable[str]) -> SandboxResponse:
        body: dict[str, Any] = {"validationErrors": errors} if errors else {}
        day = f"{self.today}T12:01:02.345+1000"
        return json_response({**body, "date": day, "time": 10, "code": code, "message": message})

    def missing(self, request: SandboxRequest, allowed: tuple[str, ...]) -> SandboxResponse:
        return gateway(596, "ERR_596_SERVICE_NOT_FOUND", "Service Not Found")

    routes: ClassVar = {
        "GET /ob-20110511/{environment:test|prod}/report/{event}": report,
        "POST /v1/{environment:test|prod}/report/{event}": report,
    }


SANDBOX = Sandbox(
    connector="sensis",
    summary=f"a gateway and the report endpoint with {LISTINGS} listings, the first of which is {listing_id(0)}",
    make=SensisDemo,
    settings={"key": KEY, "allow_writes": True, "requests_per_second": 1000.0},
)
