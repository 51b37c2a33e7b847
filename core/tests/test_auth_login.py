"""
Logging in: one thread at a time, and no second attempt with refused credentials.
"""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import frozen
from penstock._fetch.auth import Signer
from penstock._fetch.limits import RateLimit
from penstock.errors import AuthenticationError, BrokenBodyError, ParkedError, PenstockError
from penstock.model import Answer, Request, Response
from penstock.protocols import Grant, Unsigned
from penstock.redact import Secret
from penstock.testing import FakeClock, ScriptedExchange, a_response
from penstock.verdicts import Accept, Retry, Verdict
from recording_operation import RecordingOperation
from retry_loops import a_retry_loop

LOGIN = Request(url="http://localhost/login", method="POST")
READ = Request(url="http://localhost/records")


@frozen
class Door(Unsigned):
    """A login whose answer has the refusal in its status, and the token in its body."""

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        assert grant is not None
        return request.with_headers(("Token", grant.token.reveal()))

    def grant_request(self) -> Request | None:
        return LOGIN

    def read_grant(self, response: Response) -> Grant:
        if response.status != 200:
            raise AuthenticationError(f"refused with {response.status}")
        if response.body.startswith(b"<"):
            raise BrokenBodyError("that is no login's answer")
        return Grant(Secret(response.body.decode().strip('{"token: }')), 3600.0)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (a_response(status=401), AuthenticationError("refused with 401")),
        (ParkedError("wait", until=datetime(2026, 3, 1, tzinfo=UTC)),) * 2,
    ],
    ids=["refused", "to wait"],
)
def test_a_refused_login_is_not_repeated(answer: Any, error: PenstockError) -> None:
    """
    After a refused login, each further request raises the same error, and no other login is sent: providers count them.
    """
    login = ScriptedExchange([answer])
    signer = Signer(Door(), login, FakeClock())
    heard: list[str] = []

    def read() -> None:
        with pytest.raises(type(error)) as raised:
            signer.sign(READ)
        heard.append(str(raised.value))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert heard == [str(error)] * 4
    assert len(login.requests) == 1


def test_a_login_that_failed_otherwise_is_repeated() -> None:
    """
    Only a refused login is final: a provider that could not be reached may be reached for the next request.
    """
    login = ScriptedExchange([OSError("no route"), a_response()])
    signer = Signer(Door(), login, FakeClock())

    with pytest.raises(OSError, match="no route"):
        signer.sign(READ)

    assert signer.sign(READ).grant is not None


def expired(response: Response) -> tuple[Verdict, Answer]:
    """A judge for which 401 means that the token is over."""
    refused = Retry(AuthenticationError("refused"), renew=True)
    return (refused if response.status == 401 else Accept()), Answer()


def test_the_first_token_may_be_over_too() -> None:
    """
    A token that dies before its first answer (a login elsewhere may end it) is replaced like a later one, even when
    the first login after that is answered by something else than a login.
    """
    clock = FakeClock()
    login = ScriptedExchange([a_response({"token": 1}), a_response(b"<html>"), a_response({"token": 2})])
    sent = ScriptedExchange([a_response(status=401), a_response()])
    retry_loop = a_retry_loop(sent, clock, signer=Signer(Door(), login, clock))

    response, _, _ = retry_loop.run(RecordingOperation(READ, expired))

    assert response.status == 200
    assert [request.headers for request in sent.requests] == [(("Token", "1"),), (("Token", "2"),)]


def test_a_request_takes_its_turn_after_the_login() -> None:
    """
    Requests that waited for one login are spaced as any: the login may take longer than many turns.
    """
    clock = FakeClock()
    starts: list[float] = []

    def login(request: Request) -> Response:
        clock.advance(10)
        return a_response({"token": 1})

    def sent(request: Request) -> Response:
        starts.append(clock.monotonic())
        return a_response()

    retry_loop = a_retry_loop(sent, clock, signer=Signer(Door(), login, clock), rate_limit=RateLimit(clock, 1.0))
    for _ in range(3):
        retry_loop.run(RecordingOperation(READ, expired))

    assert [one - starts[0] for one in starts] == [0.0, 1.0, 2.0]
