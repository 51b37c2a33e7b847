"""
The loop of attempts at one request: log in, wait for the turn, sign, send, judge, and repeat what failed.

What follows a failed attempt is a pure decision, :meth:`penstock._fetch.retry_policy.Attempts.after`. The loop carries
it out, for reads and for writes. What differs between them is an :class:`Operation`: what an attempt without a response
means, what is recorded before an attempt, and what becomes of a request that is given up.
"""

import random
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Generic, NamedTuple, TypeGuard, TypeVar

from attrs import define, field

from penstock._fetch.auth import Signer
from penstock._fetch.limits import Deadline, RateLimit, RetryBudget, default_deadline
from penstock._fetch.retry_policy import (
    Attempts,
    CorrectClock,
    GiveUp,
    NextStep,
    Park,
    Renew,
    RetryPolicy,
    Wait,
    parked,
)
from penstock._util.clock import Clock
from penstock.errors import (
    AuthenticationError,
    BoundExceededError,
    BrokenBodyError,
    PenstockError,
    ProviderError,
    StoppedError,
    TransportError,
)
from penstock.events import RequestRetried
from penstock.model import Request, Response
from penstock.protocols import Exchange, Grant
from penstock.redact import mask
from penstock.verdicts import Accept, Refuse, Retry, Skip, Verdict

# The errors after which a request that was not carried out, or a read, is repeated. BrokenBodyError: of a login.
REPEATED_AFTER = (TransportError, BoundExceededError, BrokenBodyError)

# Proven grants that are remembered: the response to a request with an older one may come last.
MAX_PROVEN_GRANTS = 64

Result = TypeVar("Result")


class FailedAttempt(NamedTuple):
    """
    A failed attempt that is repeated after a pause; at once if a new signature may succeed (``renewed``).
    """

    error: ProviderError
    pause_s: float = 0.0
    renewed: bool = False

    def event(self, source: str, stream: str | None, request: Request) -> RequestRetried:
        """The event of a run; ``stream`` None: of a login, or of a write."""
        return {
            "event": "retry",
            "source": source,
            "stream": stream,
            "request": str(request),
            "error": type(self.error).__name__,
            "reason": self.error.without_place,
            "seen": mask(self.error.seen),
            "message": str(self.error),
            "pause_s": round(self.pause_s, 1),
            "renewed": self.renewed,
        }


class Operation(Generic[Result]):
    """
    A read or a write: its request, and what differs between the two. Methods are called in the fetching thread.
    """

    request: Request

    def on_send(self) -> None:
        """An attempt is sent next. An error ends the operation."""

    def on_attempt(self, response: Response | None, seconds: float) -> None:
        """An attempt was sent, and ended with this response after so many seconds; None: there was none."""

    def judge(self, response: Response) -> tuple[Verdict, Result]:
        """The verdict on a response, and the result of the operation, which counts unless the verdict is Retry."""
        raise NotImplementedError

    def on_no_response(self, error: PenstockError) -> Retry | Result:
        """The meaning of an attempt without a response: repeat it, or the result. Raises what ends the operation."""
        raise NotImplementedError

    def on_retry(self, failed: FailedAttempt) -> None:
        """An attempt failed, and another follows after the pause."""

    def on_give_up(self, verdict: Retry, error: PenstockError) -> Result:
        """The result after the last attempt, whose verdict this is. Raises the error where there is none."""
        raise error


class _AttemptResult(NamedTuple, Generic[Result]):
    """One attempt: Retry or the result, the response, and the grant and the skew with which it was signed."""

    retry_or_result: Retry | Result
    response: Response | None = None
    grant: Grant | None = None
    skew: timedelta = timedelta(0)


@define(eq=False, repr=False)
class RetryLoop:
    """
    Makes the requests of one source's credentials: signs with ``signer``, sends with ``send``, and repeats.
    """

    signer: Signer
    send: Exchange
    policy: RetryPolicy
    rate_limit: RateLimit
    budget: RetryBudget
    clock: Clock
    deadline: Deadline = default_deadline
    source: str = ""
    random_fraction: Callable[[], float] = random.random
    # Those that were accepted for a request.
    _proven_grants: deque[Grant] = field(factory=lambda: deque(maxlen=MAX_PROVEN_GRANTS), init=False)

    def run(self, operation: Operation[Result]) -> Result:
        """The result of the operation. Raises its error, that of a refused login, or StoppedError."""
        attempts = Attempts(policy=self.policy)
        expired: Grant | None = None
        while True:
            attempt = self._attempt(operation, expired)
            verdict = attempt.retry_or_result
            if not isinstance(verdict, Retry):
                return verdict
            error = verdict.error
            step, attempts = self._next_step(attempts, verdict, attempt)
            match step:
                case Renew() | CorrectClock():
                    expired = attempt.grant if isinstance(step, Renew) else expired
                    operation.on_retry(FailedAttempt(error=error, renewed=True))
                case Wait(seconds, cool_down_s):
                    if cool_down_s is not None:
                        self.rate_limit.cool_down(cool_down_s)
                    self.deadline.check_pause(seconds)
                    operation.on_retry(FailedAttempt(error=error, pause_s=seconds))
                    self.clock.sleep(seconds)
                case Park(until):
                    return operation.on_give_up(verdict, parked(error, until, self.policy))
                case GiveUp():
                    if attempt.response is None:
                        self.budget.record_give_up(self.source)
                    return operation.on_give_up(verdict, error)

    def _next_step(
        self, attempts: Attempts, verdict: Retry, attempt: _AttemptResult[Result]
    ) -> tuple[NextStep, Attempts]:
        """The step after a failed attempt, and the attempts so far. A step that is not possible becomes GiveUp."""
        step, attempts = attempts.after(
            verdict,
            attempt.response,
            grant=attempt.grant,
            proven=any(grant is attempt.grant for grant in list(self._proven_grants)),
            random_fraction=self.random_fraction(),
        )
        if isinstance(step, CorrectClock) and not self.signer.correct_clock(step.response, attempt.skew):
            step = GiveUp()  # the clock is right
        elif isinstance(step, Wait) and not self.budget.use_retry(self.source):
            step = GiveUp()  # no retry is left
        return step, attempts

    def _attempt(self, operation: Operation[Result], expired: Grant | None) -> _AttemptResult[Result]:
        """Make one attempt when its turn has come; ``expired``: the grant that was refused, to be renewed first."""
        if self.clock.stop.is_set():
            raise StoppedError("interrupted")
        try:
            if operation.request.credentials:
                self.signer.grant(expired)  # before the turn: all that wait for one login would start together after it
            self.rate_limit.wait_turn()
            signed = self.signer.sign(operation.request)
        except REPEATED_AFTER as failed:  # of the login
            return _AttemptResult(Retry(failed))
        operation.on_send()
        response, began = None, self.clock.monotonic()
        try:
            try:
                response = self.send(signed.request)
            finally:
                operation.on_attempt(response, self.clock.monotonic() - began)
        except PenstockError as error:
            return _AttemptResult(operation.on_no_response(error), grant=signed.grant, skew=signed.skew)
        self.budget.record_response(self.source)
        verdict, result = operation.judge(response)
        if signed.grant is not None:
            if isinstance(verdict, (Accept, Skip)):
                self._proven_grants.append(signed.grant)
            elif _is_refused_token(verdict, response):
                verdict = Retry(verdict.error, renew=True)
        return _AttemptResult(
            verdict if isinstance(verdict, Retry) else result, response=response, grant=signed.grant, skew=signed.skew
        )


def _is_refused_token(verdict: Verdict, response: Response) -> TypeGuard[Refuse]:
    """Whether a rule or judge refuses the credentials for a 401. The token may have ended before its time."""
    return isinstance(verdict, Refuse) and response.status == 401 and isinstance(verdict.error, AuthenticationError)
