"""
Sending the rows of a job: the signing time is that of the clock, and an attempt that was not sent is repeated.
"""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from penstock._fetch.auth import Signer
from penstock._write.requests import Row, WriteRequest
from penstock._write.sender import WriteOperation, url_length
from penstock.actions import Action, Field
from penstock.connector import Connector
from penstock.errors import TransportError
from penstock.model import Request, Response
from penstock.settings import SourceSettings
from penstock.testing import FakeClock, a_response
from policies import a_policy
from retry_loops import a_retry_loop

NOW = datetime(2026, 3, 10, 8, tzinfo=UTC)
REQUEST = Request(method="POST", url="https://api.example.com/events")
ACTION = Action(name="send", summary="send", method="POST", path="/events", fields=(Field(name="id"),))
CONNECTOR = Connector(name="acme", summary="", settings=SourceSettings, judge=lambda response, answer: None)


def test_the_length_of_a_url_is_that_at_the_time_of_the_clock() -> None:
    """
    An authenticator may put the time into the URL.
    """

    def sign(request: Request, now: datetime, grant: object) -> Request:
        return request.with_param("at", now.isoformat())

    authenticator: Any = SimpleNamespace(sign=sign)
    client: Any = SimpleNamespace(signer=lambda: Signer(authenticator, send_login=a_response, clock=FakeClock(NOW)))

    assert url_length(client)(REQUEST) == len(REQUEST.with_param("at", NOW.isoformat()).full_url)


def test_a_pause_between_attempts_has_jitter_and_is_an_event() -> None:
    """
    A write that was not sent is repeated as a read is; no row is recorded as sent meanwhile.
    """
    clock, attempts_at, events, recorded = FakeClock(NOW), [], [], []

    def exchange(request: Request) -> Response:
        attempts_at.append(clock.monotonic())
        if len(attempts_at) < 3:
            raise TransportError("no connection").at(sent=False)
        return a_response({})

    retry_loop = a_retry_loop(exchange, clock, policy=a_policy(first_s=10.0), random_fraction=lambda: 0.5)
    source = SimpleNamespace(name="acme", connector=CONNECTOR)
    client: Any = SimpleNamespace(source=source, log=SimpleNamespace(emit=events.append))
    job: Any = SimpleNamespace(
        record_sending=lambda rows: recorded.append(("sending", rows)),
        record_not_sent=lambda rows: recorded.append(("not sent", rows)),
    )
    write = WriteRequest(rows=(Row(number=7, values={"id": "1"}),), request=REQUEST)

    (receipt,) = retry_loop.run(WriteOperation(write, client, ACTION, job))

    assert receipt.status == "done"
    assert attempts_at == [0.0, 5.0, 15.0]
    assert [(event["event"], event["stream"], event["pause_s"]) for event in events] == [
        ("retry", None, 5.0),
        ("retry", None, 10.0),
    ]
    assert recorded == [("sending", (7,)), ("not sent", (7,)), ("sending", (7,)), ("not sent", (7,)), ("sending", (7,))]
