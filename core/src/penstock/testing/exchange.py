"""An exchange with scripted responses."""

import json
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import FunctionType
from typing import Any

from penstock._fetch.call import Call
from penstock._fetch.verdict import judge_response, judges_of
from penstock.connector import Connector, Stream
from penstock.model import Pairs, Request, Response
from penstock.protocols import Named
from penstock.verdicts import Verdict

Scripted = Response | Exception | Callable[[Request], Response]


def a_response(
    body: Any = b"",
    *,
    status: int = 200,
    headers: Pairs = (("content-type", "application/json"),),
    received_at: datetime = datetime(2026, 3, 2, 12, tzinfo=UTC),
) -> Response:
    """A response with ``body`` as it is (bytes) or as JSON (anything else)."""
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Response(status=status, headers=headers, body=raw, received_at=received_at)


def verdict_on(
    response: Response,
    connector: Connector,
    stream: Stream | None = None,
) -> Verdict:
    """
    The core's verdict on a response: by judges and statuses of stream and connector, then by the HTTP status.

    The body is read by the stream's envelope, if it is the object itself.
    """
    declared = stream.envelope if stream is not None else None
    decoder: Any = None if isinstance(declared, (Named, FunctionType)) else declared
    request = Request(url="https://provider.example/path")
    judges = judges_of(connector, stream)
    return judge_response(connector.title, Call(request, decoder), response, judges, connector.reason)[0]


class ScriptedExchange:
    """
    Takes its script in order: a response is returned, an exception raised, a callable called with the request.

    ``requests`` has the requests so far. One request beyond the script is an AssertionError that names it.
    """

    def __init__(self, script: Iterable[Scripted]) -> None:
        self._script = iter(list(script))
        self._lock = threading.Lock()
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        with self._lock:
            self.requests.append(request)
            try:
                step = next(self._script)
            except StopIteration:
                raise AssertionError(f"request {len(self.requests)} was not foreseen: {request}") from None
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, Response) else step(request)
