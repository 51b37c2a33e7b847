"""
Sending the rows of a job: the signing time is that of the clock, and a pause has the jitter that the sender gets.
"""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from penstock._fetch.retry_policy import RetryPolicy
from penstock._util.clock import StandingClock
from penstock._write.requests import Row, WriteRequest
from penstock._write.sender import Sender, url_length
from penstock.actions import Action, Field
from penstock.connector import Connector
from penstock.errors import TransportError
from penstock.model import Request, Response
from penstock.settings import SourceSettings
from penstock.testing import a_response

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

    client: Any = SimpleNamespace(
        exchange=SimpleNamespace(authenticator=SimpleNamespace(sign=sign), now=StandingClock(NOW).now)
    )

    assert url_length(client)(REQUEST) == len(REQUEST.with_param("at", NOW.isoformat()).full_url)


def test_a_pause_between_attempts_has_the_jitter_that_the_sender_gets() -> None:
    """
    So that a test knows the time of each attempt.
    """
    clock, attempts_at = StandingClock(NOW), []

    def exchange(request: Request) -> Response:
        attempts_at.append(clock.monotonic())
        if len(attempts_at) < 3:
            error = TransportError("no connection")
            error.sent = False
            raise error
        return a_response({})

    exchange.grant, exchange.current, exchange.skew = lambda: None, None, None
    client: Any = SimpleNamespace(
        source=SimpleNamespace(name="acme", connector=CONNECTOR, settings=SourceSettings(base_url=REQUEST.url)),
        exchange=exchange,
        policy=RetryPolicy(first_s=10.0),
        rate_limit=SimpleNamespace(wait_turn=lambda: None, cool_down=lambda seconds: None),
        clock=clock,
        emit=lambda event: None,
    )
    job: Any = SimpleNamespace(sending=lambda rows: None, never_left=lambda rows: None)
    sender = Sender(client=client, action=ACTION, job=job, rows=(), defaults={}, random_fraction=lambda: 0.5)

    (receipt,) = sender._send(WriteRequest(rows=(Row(number=0, values={"id": "1"}),), request=REQUEST))

    assert receipt.status == "done"
    assert attempts_at == [0.0, 5.0, 15.0]
