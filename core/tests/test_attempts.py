"""The events of the attempts at a request, and with whose time they are signed."""

import contextlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from attrs import field, frozen
from penstock._fetch.auth import Signer
from penstock._fetch.limits import RetryBudget
from penstock._fetch.retry import FailedAttempt
from penstock._util.clock import Clock
from penstock.errors import AuthenticationError, BrokenBodyError, ProviderError, ServerError, StoppedError
from penstock.model import Answer, Request, Response
from penstock.protocols import Unsigned
from penstock.testing import FakeClock, ScriptedExchange, a_response
from penstock.verdicts import Accept, Retry, Verdict
from policies import a_policy
from recording_operation import RecordingOperation
from retry_loops import a_retry_loop, no_login

REQUEST = Request(url="http://localhost/")


def busy(response: Response) -> tuple[Verdict, Answer]:
    return (Retry(ServerError("busy")) if response.status == 503 else Accept()), Answer()


def refused(response: Response) -> tuple[Verdict, Answer]:
    return Retry(AuthenticationError("refused"), correct_clock=True), Answer()


def retries(answers: list[Any], judge: Any, *, budget: int = 9) -> list[FailedAttempt]:
    """The retry events, two at most. All answers were requested."""
    clock, operation = FakeClock(), RecordingOperation(REQUEST, judge)
    script = [a_response(status=answer) if isinstance(answer, int) else answer for answer in answers]
    scripted = ScriptedExchange(script)
    retry_loop = a_retry_loop(scripted, clock, policy=a_policy(retries=2), budget=RetryBudget(retries=budget))
    with contextlib.suppress(ServerError, AuthenticationError):
        retry_loop.run(operation)
    assert len(scripted.requests) == len(answers)
    return operation.retries


@pytest.mark.parametrize(
    ("answers", "judge", "budget", "reported"),
    [
        ([200], busy, 9, []),
        ([503, 200], busy, 9, [ServerError]),
        ([BrokenBodyError("a login's"), 200], busy, 9, [BrokenBodyError]),
        ([503, 503, 503], busy, 9, [ServerError, ServerError]),
        ([503], busy, 0, []),
        ([200], refused, 9, []),
    ],
    ids=["good at once", "good in the end", "unreadable login", "never good", "no budget", "clocks agree"],
)
def test_an_attempt_is_reported_where_another_follows(
    answers: list[Any], judge: Any, budget: int, reported: list[type[ProviderError]]
) -> None:
    """
    An attempt is reported only if another one follows it.
    """
    assert [type(failed.error) for failed in retries(answers, judge, budget=budget)] == reported


def test_a_retry_with_another_signature_is_reported_as_one() -> None:
    """
    A retry with another signature comes at once, and its event has the reason and names no credentials.
    """
    wrong = a_response(status=401, headers=(("date", "Fri, 02 Jan 2026 00:00:00 GMT"),))
    answers = iter([refused(wrong), (Accept(), Answer())])
    reported = retries([wrong, 200], lambda response: next(answers))

    assert [(failed.pause_s, failed.renewed) for failed in reported] == [(0.0, True)]


def test_a_request_is_reported_before_its_response() -> None:
    """
    A request that a stop overtakes left all the same.
    """
    operation = RecordingOperation(REQUEST, busy)
    exchange = ScriptedExchange([StoppedError("stopped")])

    with pytest.raises(StoppedError):
        a_retry_loop(exchange, FakeClock()).run(operation)

    assert operation.events == [("sending",), ("attempted", None, 0.0)]


@frozen
class Stamp(Unsigned):
    """An authenticator that notes the times with which it signs."""

    times: list[datetime] = field(factory=list)

    def sign(self, request: Request, now: datetime, grant: object) -> Request:
        self.times.append(now)
        return request


@pytest.mark.parametrize("ahead_s", [-94, 94], ids=["behind", "ahead"])
def test_a_corrected_clock_keeps_its_fraction_of_a_second(ahead_s: int) -> None:
    """
    The provider's header has whole seconds. Two runs corrected by one and the same header, a moment apart, still sign
    with two times: the same one twice would look like a replay.
    """
    noon, signed = datetime(2026, 3, 2, 12, tzinfo=UTC), []
    date = format_datetime(noon + timedelta(seconds=ahead_s), usegmt=True)
    for moment_s in (0.25, 0.3):
        clock: Clock = FakeClock(noon + timedelta(seconds=moment_s))
        answer = a_response(headers=(("date", date),), received_at=clock.now())
        signer = Signer(stamp := Stamp(), no_login, clock)
        assert signer.correct_clock(answer, timedelta(0))
        signer.sign(REQUEST)
        signed.extend(stamp.times)

    assert signed == [noon + timedelta(seconds=ahead_s + moment_s) for moment_s in (0.25, 0.3)]
