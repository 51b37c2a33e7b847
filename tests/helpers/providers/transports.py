"""
Transports to a server of this process, with short waits, and the answer that it gives.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from penstock._fetch.transport import Transport
from penstock._util.clock import Clock
from penstock.sandbox.app import SandboxRequest, SandboxResponse
from penstock.sandbox.server import Server

RECORDS = {"items": [{"id": number, "name": f"job {number}"} for number in range(50)], "next": "/jobs?page=2"}
GOOD = json.dumps(RECORDS).encode()

Make = Callable[..., Transport]


def good(request: SandboxRequest) -> SandboxResponse:
    return SandboxResponse(body=GOOD)


def a_transport(base_url: str, **more: Any) -> Transport:
    """A transport to a server at this address, with the settings that a test names."""
    settings: dict[str, Any] = {
        "timeout_s": 0.5,
        "total_timeout_s": 1.0,
        "max_body_bytes": 1 << 20,
        "connections": 2,
        "proxy": None,
        "ca_file": None,
        "allow_http": False,
        "base_origin": base_url,
        "clock": Clock(),
    }
    return Transport(**(settings | more))


@contextmanager
def transports(server: Server) -> Iterator[Make]:
    """A function that makes a transport for ``server``, with the settings that a test names; all are closed."""
    made: list[Transport] = []

    def transport(**more: Any) -> Transport:
        made.append(a_transport(server.base_url, **more))
        return made[-1]

    yield transport
    for one in made:
        one.close()
