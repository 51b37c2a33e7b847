"""
Slice until there is a verdict that stands: retries with exponential back-off and full jitter, within a budget.

Only what may be repeated comes through here: reads, logins, and the submission of a report.
"""

import random
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Protocol

from attrs import define, field, frozen

from penstock._util.clock import Clock
from penstock.errors import (
    BoundExceededError,
    BrokenBodyError,
    DeadlineReachedError,
    PenstockError,
    ProviderError,
    TransportError,
)
from penstock.model import Request, Response, http_date
from penstock.protocols import Accept, Grant, Refuse, Retry, Skip, Verdict

# An attempt that ran into a bound (time, size) costs as much as the bound allows, so it is repeated less often.
BOUND_RETRIES = 2

# After so many requests in a row that no attempt brought any answer to, each further one is tried once only, until one
# is answered: an outage then costs a run minutes, and not the patience for one request times its partitions.
SILENT = 3

# How many grants one request may use up, where each was good until it ended: tokens that live for a few requests only.
RENEWALS = 5


@frozen(kw_only=True)
class RetryPolicy:
    """How often and how patiently. Seconds; ``throttle_wait_s`` bounds what a provider may impose."""

    retries: int = 5
    first_s: float = 1.0
    max_s: float = 60.0
    throttle_wait_s: float = 300.0
    cool_down_s: float = 60.0

    def pause(self, failures: int, wanted_s: float | None, random_fraction: float) -> float:
        """
        Seconds before the next try after so many ``failures`` (1, 2, ...); ``random_fraction`` is from [0, 1).

        What the provider wants is a floor, up to ``throttle_wait_s``; the jitter comes on top, so that many clients
        told the same time do not return together.
        """
        backoff = random_fraction * min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return backoff if wanted_s is None else min(max(wanted_s, 0.0), self.throttle_wait_s) + min(backoff, 1.0)


@define
class Budget:
    """What one run may spend on retries: a number over all its sources, and the time until its deadline."""

    clock: Clock
    deadline: float | None = None  # on the monotonic clock
    retries: int = 10_000
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def take(self) -> bool:
        """Account for one retry; False when there are none left."""
        with self._lock:
            self.retries -= 1
            return self.retries >= 0

    def sleep(self, seconds: float) -> None:
        """Sleep, unless the deadline would pass meanwhile: then say so at once."""
        if self.deadline is not None and self.clock.monotonic() + seconds >= self.deadline:
            raise DeadlineReachedError(f"the deadline comes before the next try in {seconds:.0f} s")
        self.clock.sleep(seconds)


@frozen(kw_only=True)
class Again:
    """
    An attempt that failed and that another follows, after a pause; at once where a new signature may do (``renewed``).
    """

    error: PenstockError
    pause_s: float
    renewed: bool = False

    def event(self, source: str, stream: str | None, request: Request) -> dict[str, Any]:
        """As a run tells it; ``stream`` None: of a login, or of a write."""
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


class Signing(Protocol):
    """The exchange below: signs and sends one attempt."""

    def __call__(self, request: Request) -> Response: ...

    @property
    def current(self) -> Grant | None: ...

    def renew(self, used: Grant | None) -> None: ...

    @property
    def skew(self) -> timedelta: ...

    def correct_clock(self, response: Response, used: timedelta) -> bool: ...


class Pacing(Protocol):
    """The source's rate_limit."""

    def wait_turn(self) -> None: ...

    def cool_down(self, seconds: float) -> None: ...


@define
class Retrying:
    """
    An exchange that ends with a verdict other than Retry, or raises the error of the last one.
    """

    exchange: Signing
    policy: RetryPolicy
    rate_limit: Pacing
    budget: Budget
    random_fraction: Callable[[], float] = random.random
    _silent: int = field(default=0, init=False)  # requests in a row that were given up without any answer
    _answered: int = field(default=0, init=False)  # requests that were, and well

    def __call__(
        self,
        request: Request,
        judge: Callable[[Response], Verdict],
        on_retry: Callable[[Again], None] = lambda again: None,
        on_send: Callable[[], None] = lambda: None,
    ) -> tuple[Response, Accept | Refuse | Skip]:
        """
        ``on_send`` is called before every attempt, ``on_retry`` after one that another follows, before the pause.
        """
        failures = renewals = answered = 0
        corrected = False
        stale: Grant | None = None
        while True:
            self.rate_limit.wait_turn()
            used, skew = self.exchange.current, self.exchange.skew
            response: Response | None = None
            try:
                if stale is not None:
                    self.exchange.renew(stale)
                    used, stale = self.exchange.current, None
                on_send()
                response = self.exchange(request)
                verdict = judge(response)
            except (TransportError, BoundExceededError, BrokenBodyError) as failed:  # the last: a login's answer
                verdict = Retry(failed)
            if not isinstance(verdict, Retry):
                self._silent = 0
                self._answered += not isinstance(verdict, Refuse)
                assert response is not None
                return response, verdict
            error = verdict.error
            if verdict.renew or verdict.correct_clock:
                # The attempt that found no grant logged in itself, and was signed with what that brought.
                granted = used or self.exchange.current
                # One new grant; another only if others were answered meanwhile: then it was good, until it ended, too.
                worth = renewals == 0 or (self._answered > answered and renewals < RENEWALS)
                if verdict.renew and granted is not None and worth:
                    renewals += 1
                    stale, answered = granted, self._answered
                elif (
                    verdict.correct_clock and not corrected and response and self.exchange.correct_clock(response, skew)
                ):
                    corrected = True
                else:
                    raise error
                on_retry(Again(error=error, pause_s=0.0, renewed=True))
                continue
            failures += 1
            self._silent = 0 if response is not None else self._silent
            if failures > self._most(error) or not self.budget.take():
                self._silent += response is None
                raise error
            wanted_s = verdict.wait_s
            if wanted_s is None and response is not None:
                wanted_s = retry_after(response)
            if verdict.throttle:
                wanted_s = self.policy.cool_down_s if wanted_s is None else wanted_s
                self.rate_limit.cool_down(min(wanted_s, self.policy.throttle_wait_s))
            pause_s = self.policy.pause(failures, wanted_s, self.random_fraction())
            on_retry(Again(error=error, pause_s=pause_s))
            self.budget.sleep(pause_s)

    def _most(self, error: ProviderError) -> int:
        """How often a request that failed with this error is repeated."""
        if self._silent >= SILENT:
            return 0
        return min(self.policy.retries, BOUND_RETRIES) if isinstance(error, BoundExceededError) else self.policy.retries


def retry_after(response: Response) -> float | None:
    """
    Seconds that the answer asks to wait, from ``Retry-After`` in either form; None without one or with a broken one.
    """
    text = response.header("retry-after")
    if text is None:
        return None
    if text.strip().isdecimal() and text.isascii():
        return float(text)
    when = http_date(text)
    if when is None:
        return None
    now: datetime = http_date(response.header("date")) or response.received_at
    return max(0.0, (when - now).total_seconds())
