"""
Retries of failed attempts, with exponential back-off and full jitter, within the run's budget.

The decision is a pure function, :meth:`penstock._fetch.retry_policy.Attempts.after`. :class:`Retrying` carries it out
for what may be repeated: reads, logins, and the submission of a report; writes have a loop of their own
(:mod:`penstock._write.sender`).
"""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from attrs import define, field

from penstock._fetch.auth import SignedExchange
from penstock._fetch.budget import Budget
from penstock._fetch.rate_limit import RateLimit
from penstock._fetch.retry_policy import Attempts, NextStep, RetryPolicy, parked
from penstock.errors import BoundExceededError, BrokenBodyError, PenstockError, TransportError
from penstock.model import Answer, Request, Response
from penstock.protocols import Accept, Grant, Refuse, Retry, Skip, Verdict


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
