"""
Retries of failed attempts, with exponential back-off and full jitter, within the run's budget.

The decision is one pure function, :meth:`Attempts.after`. :class:`Retrying` carries it out for what may be repeated:
reads, logins, and the submission of a report; writes have a loop of their own (:mod:`penstock._write.sender`).
"""

import random
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple

from attrs import define, field

from penstock._fetch.auth import SignedExchange
from penstock._fetch.rate_limit import RateLimit
from penstock._util.clock import Clock
from penstock.errors import (
    BoundExceededError,
    BrokenBodyError,
    DeadlineReachedError,
    ParkedError,
    PenstockError,
    ProviderError,
    ThrottledError,
    TransportError,
)
from penstock.model import Answer, Request, Response
from penstock.protocols import Accept, Grant, Refuse, Retry, Skip, Verdict

# An attempt that ran into a bound (time, size) costs as much as the bound allows, so it is repeated less often.
BOUND_RETRIES = 2

# Circuit breaker: after this many consecutive requests to a source without a response, nothing is retried there until
# one succeeds. An outage then costs a run minutes, not the patience for one request times its partitions.
SILENT = 3

# The most grants that one request uses up, where each was good for another request before it expired.
RENEWALS = 5


class RetryPolicy(NamedTuple):
    """The number of retries, and their pauses in seconds. ``throttle_wait_s`` bounds a pause stated by the provider."""

    retries: int = 5
    first_s: float = 1.0
    max_s: float = 60.0
    throttle_wait_s: float = 300.0
    cool_down_s: float = 60.0

    def pause(self, failures: int, stated_s: float | None, random_fraction: float) -> float:
        """
        Seconds before the next try after so many ``failures`` (1, 2, ...); ``random_fraction`` is from [0, 1).

        The wait that the provider states is a floor, up to ``throttle_wait_s``; the jitter is added to it, so that many
        clients with the same wait do not return together.
        """
        backoff = random_fraction * min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return backoff if stated_s is None else min(max(stated_s, 0.0), self.throttle_wait_s) + min(backoff, 1.0)

    def retries_after(self, error: ProviderError) -> int:
        """How often a request that failed with this error is repeated."""
        return min(self.retries, BOUND_RETRIES) if isinstance(error, BoundExceededError) else self.retries


# --- the decision ---------------------------------------------------------------------------------------------------


class NextStep(NamedTuple):
    """
    ``renew``
        repeat at once, with a new grant;
    ``correct_clock``
        repeat at once, signed with the provider's time, if that differs from ours; else give up;
    ``wait``
        repeat after ``seconds``; until ``cool_down_s`` have passed no request of the whole source starts;
    ``park``
        do not repeat, and request nothing more from the source for ``seconds``;
    ``give_up``
        do not repeat: the error of the last attempt stands.
    """

    what: Literal["renew", "correct_clock", "wait", "park", "give_up"]
    seconds: float = 0.0
    cool_down_s: float | None = None


class Attempts(NamedTuple):
    """The attempts of one request, and the decision about the next. Values in, value out."""

    policy: RetryPolicy
    failures: int = 0
    renewals: int = 0
    clock_corrected: bool = False

    def after(
        self, verdict: Retry, response: Response | None, *, grant: Grant | None, proven: bool, random_fraction: float
    ) -> "tuple[NextStep, Attempts]":
        """
        The next step after an attempt with this verdict, and the attempts including it.

        ``response``: None if the attempt had none. ``grant``: the one that it was signed with; without one there is
        nothing to renew. ``proven``: this grant was accepted for another request, so it has expired, and a second
        renewal does not repeat a login with bad credentials.
        """
        if verdict.renew and grant is not None and (not self.renewals or (proven and self.renewals < RENEWALS)):
            return NextStep("renew"), self._replace(renewals=self.renewals + 1)
        if verdict.correct_clock and response is not None and not self.clock_corrected:
            return NextStep("correct_clock"), self._replace(clock_corrected=True)
        if verdict.renew or verdict.correct_clock:
            return NextStep("give_up"), self
        stated_s = verdict.wait_s
        if response is not None and (header_s := stated_wait(response, throttled=verdict.throttle)) is not None:
            stated_s = max(header_s, stated_s or 0.0)
        if stated_s is not None and stated_s > self.policy.throttle_wait_s:
            return NextStep("park", stated_s), self
        if self.failures >= self.policy.retries_after(verdict.error):
            return NextStep("give_up"), self
        failures, cool_down_s = self.failures + 1, None
        if verdict.throttle:
            stated_s = self.policy.cool_down_s if stated_s is None else stated_s
            cool_down_s = min(stated_s, self.policy.throttle_wait_s)
        pause_s = self.policy.pause(failures, stated_s, random_fraction)
        return NextStep("wait", pause_s, cool_down_s), self._replace(failures=failures)


# Headers in which providers state when a quota is full again, in the order in which they are read.
RESETS = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset")
_REMAINING = ("ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining")

_SECONDS = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?")
_EPOCH_S, _EPOCH_MS = 1e9, 1e12  # what is larger is no number of seconds to wait but a time since 1970


def stated_wait(response: Response, *, throttled: bool = False) -> float | None:
    """
    Seconds that the provider states: in ``Retry-After``, or where it refuses for its quota (``throttled``), in one of
    ``RESETS``. None without one, with a broken one, and where a part of the quota remains.

    Each may be seconds, seconds or milliseconds since 1970, an HTTP date, or a time in ISO 8601; without a zone it is
    UTC. A time is compared with the provider's own ``Date``, so that our clock may be wrong.
    """
    names = ["retry-after"]
    remaining = next((value for name in _REMAINING if (value := response.header(name)) is not None), "0")
    if throttled and remaining.strip() == "0":
        names.extend(RESETS)
    waits = (_wait(response, value) for name in names if (value := response.header(name)) is not None)
    return next((wait for wait in waits if wait is not None), None)


def _wait(response: Response, text: str) -> float | None:
    now = response.date or response.received_at
    if _SECONDS.fullmatch(text.strip()):
        number = float(text.strip())
        if number < _EPOCH_S:
            return number
        return max(0.0, (number / 1000 if number >= _EPOCH_MS else number) - now.timestamp())
    when = _moment(text.strip())
    return None if when is None else max(0.0, (when - now).total_seconds())


def _moment(text: str) -> datetime | None:
    """An HTTP date or a time in ISO 8601, aware; None for any other text."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            when = parse(text)
        except (ValueError, OverflowError, TypeError):
            continue
        return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return None


# The longest wait that is stated in a message; a longer one is nonsense, and would leave the calendar.
_LONGEST_S = 366 * 86_400.0


def parked(error: PenstockError, seconds: float, policy: RetryPolicy, response: Response) -> ParkedError:
    """The error that ends the requests to a source, with the time to come back and the provider's words."""
    seen = error.seen if isinstance(error, ThrottledError) else str(error)
    until = response.received_at + timedelta(seconds=min(seconds, _LONGEST_S))
    return ParkedError(
        f"no request before {until:%Y-%m-%d %H:%M:%S} UTC, a wait longer than throttle_wait_s "
        f"({policy.throttle_wait_s:g} s): {seen.rstrip('.')}. A run after that time goes on.",
        until,
    )


# --- the budget of a run --------------------------------------------------------------------------------------------


@define(eq=False, repr=False)
class Budget:
    """
    The retries that one run may make: a number over all its sources, none past its deadline, and none at a source that
    does not respond (see ``SILENT``).
    """

    clock: Clock
    deadline: float | None = None  # on the monotonic clock
    retries: int = 10_000
    _silent: dict[str, int] = field(factory=dict, init=False)  # source -> consecutive requests without a response
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def take(self, source: str) -> bool:
        """Count one retry at a source. False if none is left for it."""
        with self._lock:
            if self._silent.get(source, 0) >= SILENT:
                return False
            self.retries -= 1
            return self.retries >= 0

    def responded(self, source: str) -> None:
        """Record that a request to the source had a response, of any status."""
        with self._lock:
            self._silent[source] = 0

    def gave_up(self, source: str) -> None:
        """Record that a request to the source was given up without a response."""
        with self._lock:
            self._silent[source] = self._silent.get(source, 0) + 1

    def sleep(self, seconds: float) -> None:
        """Sleep; raises DeadlineReachedError at once if the deadline would pass meanwhile."""
        if self.deadline is not None and self.clock.monotonic() + seconds >= self.deadline:
            raise DeadlineReachedError(
                f"the deadline comes before the next try in {seconds:.0f} s; the next run goes on with what is left"
            )
        self.clock.sleep(seconds)


# --- carrying it out ------------------------------------------------------------------------------------------------


class FailedAttempt(NamedTuple):
    """
    A failed attempt that is repeated after a pause; at once if a new signature may succeed (``renewed``).
    """

    error: PenstockError
    pause_s: float
    renewed: bool = False

    def event(self, source: str, stream: str | None, request: Request) -> dict[str, Any]:
        """The event of a run; ``stream`` None: of a login, or of a write."""
        return {
            "event": "retry",
            "source": source,
            "stream": stream,
            "request": str(request),
            "error": type(self.error).__name__,
            "message": str(self.error),
            "pause_s": round(self.pause_s, 1),
            "renewed": self.renewed,
        }


class _JudgedAttempt(NamedTuple):
    """One attempt: its response, the verdict on it, and the grant and the skew with which it was signed."""

    response: Response | None
    verdict: Verdict
    answer: Answer
    grant: Grant | None
    skew: timedelta


class Observer:
    """What one request reports while it is retried, in its fetching thread. This one ignores all."""

    def sending(self) -> None:
        """An attempt begins."""

    def attempted(self, response: Response | None, seconds: float) -> None:
        """An attempt ended with this response, after so many seconds; None: there was none."""

    def retried(self, failed: FailedAttempt) -> None:
        """An attempt failed, and another follows after the pause."""


@define(eq=False, repr=False)
class Retrying:
    """
    An exchange that ends with a verdict other than Retry, or raises the error of the last one.
    """

    exchange: SignedExchange
    policy: RetryPolicy
    rate_limit: RateLimit
    budget: Budget
    source: str = ""
    random_fraction: Callable[[], float] = random.random
    _proven: Grant | None = field(default=None, init=False)  # the last grant that was accepted

    def __call__(
        self,
        request: Request,
        judge: Callable[[Response], tuple[Verdict, Answer]],
        observer: Observer = Observer(),  # noqa: B008  # without state
    ) -> tuple[Response, Accept | Refuse | Skip, Answer]:
        attempts = Attempts(policy=self.policy)
        expired: Grant | None = None
        while True:
            attempt = self._attempt(request, judge, expired, observer)
            response, verdict = attempt.response, attempt.verdict
            expired = expired if self.exchange.current is expired else None  # the login may have failed
            if response is not None and not isinstance(verdict, Retry):
                self._proven = self._proven if isinstance(verdict, Refuse) else attempt.grant
                return response, verdict, attempt.answer
            assert isinstance(verdict, Retry)
            proven = attempt.grant is self._proven
            step, attempts = attempts.after(
                verdict, response, grant=attempt.grant, proven=proven, random_fraction=self.random_fraction()
            )
            match step:
                case NextStep("renew"):
                    expired = attempt.grant
                    observer.retried(FailedAttempt(error=verdict.error, pause_s=0.0, renewed=True))
                case NextStep("correct_clock") if response and self.exchange.correct_clock(response, attempt.skew):
                    observer.retried(FailedAttempt(error=verdict.error, pause_s=0.0, renewed=True))
                case NextStep("wait", seconds, cool_down_s) if self.budget.take(self.source):
                    if cool_down_s is not None:
                        self.rate_limit.cool_down(cool_down_s)
                    observer.retried(FailedAttempt(error=verdict.error, pause_s=seconds))
                    self.budget.sleep(seconds)
                case NextStep("park", seconds) if response is not None:
                    raise parked(verdict.error, seconds, self.policy, response)
                case _:
                    if response is None:
                        self.budget.gave_up(self.source)
                    raise verdict.error

    def _attempt(
        self,
        request: Request,
        judge: Callable[[Response], tuple[Verdict, Answer]],
        expired: Grant | None,
        observer: Observer,
    ) -> _JudgedAttempt:
        """Make one attempt when its turn has come; ``expired``: the grant to renew first."""
        grant, skew = self.exchange.current, self.exchange.skew
        response, answer = None, Answer()
        verdict: Verdict
        try:
            if expired is not None:
                self.exchange.renew(expired)
            elif request.credentials:
                self.exchange.grant()  # before the turn: all that wait for one login would start together after it
            self.rate_limit.wait_turn()
            grant, skew = self.exchange.current, self.exchange.skew
            observer.sending()
            began = self.budget.clock.monotonic()
            try:
                response = self.exchange(request)
            finally:
                observer.attempted(response, self.budget.clock.monotonic() - began)
            self.budget.responded(self.source)
            verdict, answer = judge(response)
        except (TransportError, BoundExceededError, BrokenBodyError) as failed:  # the last: a login's response
            verdict = Retry(failed)
        return _JudgedAttempt(response, verdict, answer, grant, skew)
