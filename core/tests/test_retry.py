"""
Retries: their number, the pauses between them, what a response states about them, and which errors are final.
"""

import contextlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, strategies as st
from penstock._fetch.auth import Signed
from penstock._fetch.limits import MAX_SILENT_REQUESTS, Deadline, RetryBudget
from penstock._fetch.retry import RetryLoop
from penstock._fetch.retry_policy import (
    MAX_BOUND_RETRIES,
    MAX_RENEWALS,
    Attempts,
    CorrectClock,
    GiveUp,
    NextStep,
    Park,
    Renew,
    Wait,
    stated_wait,
)
from penstock.errors import (
    AuthenticationError,
    BoundExceededError,
    DeadlineReachedError,
    ForeignOriginError,
    ParkedError,
    PenstockError,
    ServerError,
    StoppedError,
    ThrottledError,
    TransportError,
)
from penstock.model import Answer, Request, Response
from penstock.protocols import Grant
from penstock.redact import Secret
from penstock.testing import FakeClock, a_response
from penstock.verdicts import Accept, Refuse, Retry, Verdict
from policies import a_policy
from recording_operation import RecordingOperation
from retry_loops import a_retry_loop

REQUEST = Request(url="http://localhost/report")
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
WAIT_HEADERS = ["retry-after", "ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"]
GOOD = a_response({"fine": True})


@define(eq=False)
class Provider:
    """A signer and an exchange: answers or raises as scripted, and counts its requests."""

    answers: Iterable[Response | Exception]
    requested: int = 0
    renewed: int = 0
    current: Grant | None = None
    skew: timedelta = timedelta(0)
    signs_with: list[Grant] = field(factory=list)  # before ``current``
    corrects: bool = True
    corrected: int = 0

    def __attrs_post_init__(self) -> None:
        self.answers = iter(self.answers)

    def send(self, request: Request) -> Response:
        self.requested += 1
        answer = next(self.answers)  # type: ignore[call-overload]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def grant(self, expired: Grant | None = None) -> Grant | None:
        if expired is not None and self.current is expired:
            self.renewed += 1
            self.current = Grant(Secret("next token"))
        return self.current

    def sign(self, request: Request) -> Signed:
        return Signed(request, self.signs_with.pop(0) if self.signs_with else self.current, self.skew)

    def correct_clock(self, response: Response, used: timedelta) -> bool:
        self.corrected += 1
        return self.corrects


@define(eq=False)
class Waited:
    """A pace that never holds anybody up."""

    cooled: list[float] = field(factory=list)

    def wait_turn(self) -> None: ...

    def cool_down(self, seconds: float) -> None:
        self.cooled.append(seconds)


def retry_loop(exchange: Provider, clock: FakeClock | None = None, **more: Any) -> RetryLoop:
    parts = {"signer": exchange, "rate_limit": Waited(), "random_fraction": lambda: 0.5, **more}
    return a_retry_loop(exchange.send, clock or FakeClock(), **parts)


def always(verdict: Verdict) -> Callable[[Response], tuple[Verdict, Answer]]:
    return lambda response: (verdict, Answer())


def by_status(response: Response) -> tuple[Verdict, Answer]:
    return (Accept() if response.status == 200 else Retry(ServerError("down"))), Answer()


# --- the decision ---------------------------------------------------------------------------------------------------

POLICY = a_policy()
TOKEN = Grant(Secret("granted-by-the-test"))
DOWN, LATE, REFUSED, BUSY = (
    Retry(ServerError("down")),
    Retry(BoundExceededError("too slow")),
    Retry(AuthenticationError("refused"), renew=True),
    Retry(ThrottledError("slow down"), throttle=True),
)
SKEWED = Retry(AuthenticationError("clock"), correct_clock=True)
EITHER = Retry(AuthenticationError("token or clock"), renew=True, correct_clock=True)
IN_SEVEN = a_response(status=429, headers=(("retry-after", "7"),))
TOMORROW = a_response(status=429, headers=(("retry-after", "86400"),))
QUOTA = a_response(status=429, headers=(("x-ratelimit-reset", "3600"),))
ANY = a_response(status=500)


def park(seconds: float) -> Park:
    return Park(NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("before", "verdict", "response", "grant", "proven", "step"),
    [
        pytest.param({}, DOWN, ANY, None, False, Wait(0.5), id="a first failure"),
        pytest.param({"failures": 2}, DOWN, None, None, False, Wait(2.0), id="a third failure, no response"),
        pytest.param({"failures": 3}, DOWN, ANY, None, False, GiveUp(), id="one more than the retries"),
        pytest.param({"failures": 1}, LATE, None, None, False, Wait(1.0), id="a bound, once more"),
        pytest.param({"failures": MAX_BOUND_RETRIES}, LATE, None, None, False, GiveUp(), id="a bound, too often"),
        pytest.param({}, DOWN, IN_SEVEN, None, False, Wait(7.5), id="the provider states a wait"),
        pytest.param({}, BUSY, IN_SEVEN, None, False, Wait(7.5, 7.0), id="throttled, with a wait"),
        pytest.param({}, BUSY, ANY, None, False, Wait(60.5, 60.0), id="throttled, without one"),
        pytest.param({}, Retry(DOWN.error, wait_s=9.0), IN_SEVEN, None, False, Wait(9.5), id="a judge's wait"),
        pytest.param({}, Retry(DOWN.error, wait_s=3.0), IN_SEVEN, None, False, Wait(7.5), id="the longer of both"),
        pytest.param({}, BUSY, TOMORROW, None, False, park(86_400.0), id="a longer wait than is waited for"),
        pytest.param({"failures": 9}, BUSY, TOMORROW, None, False, park(86_400.0), id="the same, as the last attempt"),
        pytest.param({}, DOWN, TOMORROW, None, False, park(86_400.0), id="the same, of a server in trouble"),
        pytest.param({}, BUSY, QUOTA, None, False, park(3_600.0), id="a quota that is full again in an hour"),
        pytest.param({}, DOWN, QUOTA, None, False, Wait(0.5), id="a quota, but another trouble"),
        pytest.param({}, REFUSED, ANY, TOKEN, False, Renew(), id="a token refused"),
        pytest.param({"failures": 3}, REFUSED, ANY, TOKEN, False, Renew(), id="a renewal is no failure"),
        pytest.param({"renewals": 1}, REFUSED, ANY, TOKEN, False, GiveUp(), id="a new token refused"),
        pytest.param({"renewals": 1}, REFUSED, ANY, TOKEN, True, Renew(), id="a token that others used up"),
        pytest.param({"renewals": MAX_RENEWALS}, REFUSED, ANY, TOKEN, True, GiveUp(), id="too many tokens"),
        pytest.param({}, REFUSED, ANY, None, False, GiveUp(), id="a key that nobody granted"),
        pytest.param({}, SKEWED, ANY, None, False, CorrectClock(ANY), id="a clock"),
        pytest.param({"clock_corrected": True}, SKEWED, ANY, None, False, GiveUp(), id="a clock, again"),
        pytest.param({}, EITHER, ANY, TOKEN, False, Renew(), id="token before clock"),
        pytest.param({"renewals": 1}, EITHER, ANY, TOKEN, False, CorrectClock(ANY), id="then the clock"),
    ],
)
def test_the_next_step_depends_on_the_attempts_before(
    before: dict[str, Any], verdict: Retry, response: Response | None, grant: Grant | None, proven: bool, step: NextStep
):
    """
    The next step depends only on the verdicts and the responses of the attempts before it.
    """
    attempts = Attempts(policy=POLICY, **before)

    found, after = attempts.after(verdict, response, grant=grant, proven=proven, random_fraction=0.5)

    assert found == step
    assert after.failures - attempts.failures == isinstance(step, Wait)
    assert after.renewals - attempts.renewals == isinstance(step, Renew)
    assert after.clock_corrected == (attempts.clock_corrected or isinstance(step, CorrectClock))


# --- carrying it out ------------------------------------------------------------------------------------------------


def test_a_transient_failure_is_retried():
    """
    Errors of the transport and of the server are retried, after growing pauses, until a response is accepted.
    """
    clock = FakeClock()
    exchange = Provider([TransportError("reset"), a_response(status=503), GOOD])

    response, verdict, _ = retry_loop(exchange, clock).run(RecordingOperation(REQUEST, by_status))

    assert (response, verdict) == (GOOD, Accept())
    assert clock.slept == [0.5, 1.0]


def test_the_last_error_is_raised():
    """
    After the last retry, the error of the last attempt is raised.
    """
    exchange = Provider([TransportError(str(number)) for number in range(9)])

    with pytest.raises(TransportError, match="3"):
        retry_loop(exchange).run(RecordingOperation(REQUEST, by_status))
    assert exchange.requested == 4


def test_an_exceeded_bound_is_retried_less_often():
    """
    An attempt that exceeds a bound of time or size is retried less often, since each costs as much as the bound allows.
    """
    exchange = Provider([BoundExceededError("too slow")] * 9)

    with pytest.raises(BoundExceededError):
        retry_loop(exchange).run(RecordingOperation(REQUEST, by_status))
    assert exchange.requested == 1 + MAX_BOUND_RETRIES


@pytest.mark.parametrize(
    "error", [ForeignOriginError("elsewhere"), AuthenticationError("no")], ids=lambda e: type(e).__name__
)
def test_some_errors_are_final(error: PenstockError):
    """
    A redirect to another origin and refused credentials are not retried.
    """
    exchange = Provider([error, GOOD])

    with pytest.raises(type(error)):
        retry_loop(exchange).run(RecordingOperation(REQUEST, by_status))
    assert exchange.requested == 1


def test_a_refusal_is_returned_to_the_caller():
    """
    A refusal is returned as a verdict; the caller decides what follows.
    """
    refusal = Refuse(ServerError("no"))

    assert retry_loop(Provider([GOOD])).run(RecordingOperation(REQUEST, always(refusal))) == (GOOD, refusal, Answer())


def test_a_token_is_renewed_once():
    """
    A refused token is renewed once, which counts as no failure; a refusal of the new token is final.
    """
    error = AuthenticationError("expired")
    exchange = Provider([a_response(status=401)] * 5, current=Grant(Secret("granted-by-the-test")))

    with pytest.raises(AuthenticationError):
        retry_loop(exchange).run(RecordingOperation(REQUEST, always(Retry(error, renew=True))))
    assert (exchange.requested, exchange.renewed) == (2, 1)


def test_a_token_refused_with_401_is_renewed_whatever_the_judge_states():
    """
    A token that is refused with 401 is renewed, also where the connector declares its own advice for the status.
    """
    refused = Refuse(AuthenticationError("Check user and password."))
    exchange = Provider([a_response(status=401)] * 5, current=Grant(Secret("granted-by-the-test")))

    with pytest.raises(AuthenticationError, match="Check user and password"):
        retry_loop(exchange).run(RecordingOperation(REQUEST, always(refused)))
    assert (exchange.requested, exchange.renewed) == (2, 1)


def test_a_token_that_others_used_up_is_renewed_again():
    """
    A token may live for a few requests only, and other requests may use it up. While each token was accepted once, the
    next is requested, up to a bound.
    """
    exchange = Provider([a_response(status=401), GOOD] * 99, current=Grant(Secret("granted-by-the-test")))
    shared = retry_loop(exchange)

    def refused(response: Response) -> tuple[Verdict, Answer]:
        shared.run(RecordingOperation(REQUEST, always(Accept())))
        return Retry(AuthenticationError("expired"), renew=True), Answer()

    with pytest.raises(AuthenticationError):
        shared.run(RecordingOperation(REQUEST, refused))
    assert exchange.renewed == MAX_RENEWALS


def test_a_late_response_to_an_older_token_hides_no_expiry():
    """
    Another request with the second token is accepted before the slow response to a request with the first one. The
    second token has expired as well, and a third one is requested.
    """
    old, new, newest = (Grant(Secret(f"{name}-token-of-the-test")) for name in ("old", "new", "newest"))
    exchange = Provider([a_response(status=401), GOOD, GOOD, GOOD, GOOD], signs_with=[old, new, new, old, newest])
    shared = retry_loop(exchange)
    refusals = iter([True, True, False])

    def judge(response: Response) -> tuple[Verdict, Answer]:
        if not next(refusals):
            return Accept(), Answer()
        if exchange.requested == 2:
            shared.run(RecordingOperation(REQUEST, always(Accept())))  # the new token is good for another request
            shared.run(RecordingOperation(REQUEST, always(Accept())))  # the slow one, with the old token
        return Retry(AuthenticationError("expired"), renew=True), Answer()

    _, verdict, _ = shared.run(RecordingOperation(REQUEST, judge))

    assert (verdict, exchange.requested) == (Accept(), 5)


def test_credentials_without_a_login_are_not_renewed():
    """
    Where no login grants credentials, a refusal is final: there are no others to request.
    """
    exchange = Provider([a_response(status=401)] * 5)

    with pytest.raises(AuthenticationError):
        retry_loop(exchange).run(
            RecordingOperation(REQUEST, always(Retry(AuthenticationError("no such key"), renew=True)))
        )
    assert (exchange.requested, exchange.renewed) == (1, 0)


def test_requests_are_sent_once_during_an_outage():
    """
    After several requests without any response through all their retries, each further request is sent once. The first
    response, also an error, ends this.
    """
    exchange = Provider(
        [*[TransportError("down")] * (4 * MAX_SILENT_REQUESTS + 2), *[a_response(status=503)] * 4, *[GOOD] * 2]
    )
    once_down = retry_loop(exchange)

    def requested() -> int:
        before = exchange.requested
        with contextlib.suppress(TransportError, ServerError):
            once_down.run(RecordingOperation(REQUEST, by_status))
        return exchange.requested - before

    assert [requested() for _ in range(MAX_SILENT_REQUESTS + 3)] == [4] * MAX_SILENT_REQUESTS + [1, 1, 4]
    assert requested() == 1


@pytest.mark.parametrize(("corrects", "requested"), [(True, 2), (False, 1)], ids=["differs", "agrees"])
def test_the_clock_is_corrected_once(corrects: bool, requested: int):
    """
    A signature that was refused for its time is made again with the provider's clock, once, and only if the clocks
    differ.
    """
    exchange = Provider([a_response(status=401)] * 5, corrects=corrects)

    with pytest.raises(AuthenticationError):
        retry_loop(exchange).run(
            RecordingOperation(REQUEST, always(Retry(AuthenticationError("clock"), correct_clock=True)))
        )
    assert exchange.requested == requested


@pytest.mark.parametrize(
    ("headers", "slept", "cooled"),
    [
        ((("retry-after", "7"),), 7.5, 7.0),
        ((("retry-after", format_datetime(NOW + timedelta(seconds=9), usegmt=True)),), 9.5, 9.0),
        ((("retry-after", "300"),), 300.5, 300.0),
        ((), 60.5, 60.0),
        ((("retry-after", "soon"),), 60.5, 60.0),
    ],
    ids=["seconds", "date", "the longest", "none", "nonsense"],
)
def test_a_throttled_source_waits_as_long_as_the_provider_states(headers: Any, slept: float, cooled: float):
    """
    Retry-After, in either form, is the least pause of the whole source, up to a bound; without it the pause is the
    cool-down.
    """
    clock, rate_limit = FakeClock(), Waited()
    exchange = Provider([a_response(status=429, headers=headers), GOOD])

    def judge(response: Response) -> tuple[Verdict, Answer]:
        return (Accept() if response.status == 200 else BUSY), Answer()

    retry_loop(exchange, clock, rate_limit=rate_limit).run(RecordingOperation(REQUEST, judge))

    assert clock.slept == [slept]
    assert rate_limit.cooled == [cooled]


@pytest.mark.parametrize(
    "stated", ["0", format_datetime(NOW - timedelta(hours=3), usegmt=True), "2026-03-02T08:00:00Z", "1000000000"]
)
def test_a_wait_that_is_over_does_not_use_up_the_retries_at_once(stated: str):
    """
    Where Retry-After is 0 or a past time, the pauses grow as they do without it.
    """
    clock, rate_limit = FakeClock(NOW), Waited()
    throttled = a_response(status=429, headers=(("retry-after", stated),), received_at=NOW)
    exchange = Provider([throttled] * 4)

    with pytest.raises(ThrottledError):
        retry_loop(exchange, clock, rate_limit=rate_limit).run(RecordingOperation(REQUEST, always(BUSY)))
    assert clock.slept == [0.5, 1.0, 2.0]
    assert rate_limit.cooled == [0.0] * 3


def test_a_pause_beyond_the_deadline_is_not_begun():
    """
    If the pause would end after the deadline, the request fails without it.
    """
    clock, operation = FakeClock(), RecordingOperation(REQUEST, by_status)
    exchange = Provider([a_response(status=503, headers=(("retry-after", "40"),))] * 3)

    with pytest.raises(DeadlineReachedError):
        retry_loop(exchange, clock, deadline=Deadline(clock, 30.0)).run(operation)
    assert (clock.slept, operation.retries) == ([], [])


@pytest.mark.parametrize("verdict", [REFUSED, SKEWED, DOWN, BUSY], ids=["renew", "clock", "wait", "throttled"])
def test_no_attempt_follows_a_stop(verdict: Retry):
    """
    After a stop neither a login nor a request with another signature is sent.
    """
    clock, exchange = FakeClock(), Provider([GOOD] * 2, current=TOKEN)

    def judge(response: Response) -> tuple[Verdict, Answer]:
        clock.stop.set()
        return verdict, Answer()

    with pytest.raises(StoppedError):
        retry_loop(exchange, clock).run(RecordingOperation(REQUEST, judge))
    assert (exchange.requested, exchange.renewed) == (1, 0)


def test_a_run_has_a_budget_of_retries():
    """
    When the retries of the run are used up, the error is raised, however many the request has left.
    """
    clock, budget = FakeClock(), RetryBudget(retries=1)
    exchange = Provider([TransportError("gone")] * 5)

    with pytest.raises(TransportError):
        retry_loop(exchange, clock, budget=budget).run(RecordingOperation(REQUEST, by_status))
    assert exchange.requested == 2


def test_every_retry_is_reported():
    """
    Each retry is reported, with the error of the failed attempt and the pause before the next; an attempt that succeeds
    is not.
    """
    exchange = Provider([TransportError("reset"), GOOD])

    operation = RecordingOperation(REQUEST, by_status)
    retry_loop(exchange).run(operation)

    assert [(type(again.error), again.pause_s > 0, again.renewed) for again in operation.retries] == [
        (TransportError, True, False)
    ]


@given(
    failures=st.integers(1, 10_000),
    random_fraction=st.floats(0, 1, exclude_max=True),
    first_s=st.floats(0, 1e3),
    max_s=st.floats(0, 1e4),
)
def test_a_pause_is_bounded(failures: int, random_fraction: float, first_s: float, max_s: float):
    """
    A pause is not negative, and not longer than the bound, after any number of failures.
    """
    assert 0 <= a_policy(first_s=first_s, max_s=max_s).pause(failures, None, random_fraction) <= max_s


@given(
    wanted_s=st.floats(min_value=0, exclude_min=True),
    random_fraction=st.floats(0, 1, exclude_max=True),
    failures=st.integers(1, 50),
)
def test_a_stated_wait_is_the_least_pause_up_to_a_bound(wanted_s: float, random_fraction: float, failures: int):
    """
    A pause is at least what the provider states, unless that exceeds the configured bound. At most a second of jitter
    is added.
    """
    policy = a_policy(throttle_wait_s=100.0)

    pause = policy.pause(failures, wanted_s, random_fraction)

    floor = min(wanted_s, 100.0)
    assert floor <= pause <= floor + 1.0


@given(
    text=st.text(st.characters(max_codepoint=255))
    | st.integers(0, 1_000_000).map(str)
    | st.from_regex(r"Mon, [0-9]{1,2} (Jan|Dec) [0-9]{1,6} [0-9]{1,3}:[0-9]+:[0-9]+ ([+-][0-9]{1,12}|GMT)")
)
def test_any_retry_after_is_parsed(text: str):
    """
    Every Retry-After gives a time that is not negative, or none; a number of seconds gives that time.
    """
    for name in WAIT_HEADERS:
        found = stated_wait(a_response(status=429, headers=((name, text),)), throttled=True)

        assert found is None or found >= 0
        if text.isascii() and text.isdigit() and len(text) <= 9:
            assert found == float(text)


@pytest.mark.parametrize("name", WAIT_HEADERS)
@pytest.mark.parametrize(
    "text",
    [
        "36000",
        str(int(NOW.timestamp()) + 36_000),
        f"{int(NOW.timestamp() * 1000) + 36_000_000}",
        format_datetime(NOW + timedelta(hours=10), usegmt=True),
        format_datetime(NOW + timedelta(hours=10), usegmt=True).removesuffix(" GMT"),
        (NOW + timedelta(hours=10)).isoformat(),
        (NOW + timedelta(hours=10)).replace(tzinfo=None).isoformat(),
        (NOW + timedelta(hours=10)).isoformat().replace("+00:00", "Z"),
    ],
    ids=[
        "seconds",
        "since 1970",
        "milliseconds since 1970",
        "HTTP date",
        "HTTP date without a zone",
        "ISO 8601",
        "ISO 8601 without a zone",
        "ISO 8601 with Z",
    ],
)
def test_a_stated_wait_has_several_forms(name: str, text: str):
    """
    A wait may be stated in several headers. The message has the time of the next attempt and the provider's text.
    """
    throttled = a_response(status=429, headers=((name, text),), received_at=NOW)
    exchange, clock = Provider([throttled] * 2), FakeClock()

    with pytest.raises(ParkedError, match=r"before 2026-03-02 22:00:00 UTC.*throttle_wait_s.*slow down") as parked:
        retry_loop(exchange, clock).run(RecordingOperation(REQUEST, always(BUSY)))

    assert parked.value.until == NOW + timedelta(hours=10)
    assert (exchange.requested, clock.slept) == (1, [])


def test_the_reset_of_a_quota_that_remains_is_no_wait():
    """
    The reset time of a quota that is not used up is no wait.
    """
    headers = (("x-ratelimit-reset", "36000"), ("x-ratelimit-remaining", "7"))

    assert stated_wait(a_response(status=429, headers=headers), throttled=True) is None


@given(seconds=st.integers(0, 10**6))
def test_both_forms_have_the_same_meaning(seconds: int):
    """
    A date in Retry-After is compared with the Date of the same response, if there is one: the local clock may be wrong.
    """
    theirs = NOW + timedelta(hours=5)
    dated = a_response(
        status=429,
        headers=(
            ("date", format_datetime(theirs, usegmt=True)),
            ("retry-after", format_datetime(theirs + timedelta(seconds=seconds), usegmt=True)),
        ),
    )

    assert stated_wait(dated) == stated_wait(a_response(headers=(("retry-after", str(seconds)),))) == seconds
