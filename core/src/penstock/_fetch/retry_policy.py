"""
The decision about the next attempt of a request, and the wait that a response states. Values in, value out.
"""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from attrs import frozen

from penstock.errors import BoundExceededError, ParkedError, ProviderError, sentences
from penstock.model import Response
from penstock.protocols import Grant
from penstock.verdicts import Retry

# An attempt that ran into a bound (time, size) costs as much as the bound allows, so it is repeated less often.
MAX_BOUND_RETRIES = 2

# The most grants that one request uses up, where each was good for another request before it expired.
MAX_RENEWALS = 5

# The longest wait that a source is parked for; a longer one is nonsense, and would leave the calendar.
_MAX_STATED_S = 366 * 86_400.0


class RetryPolicy(NamedTuple):
    """The number of retries, and their pauses in seconds. ``throttle_wait_s`` bounds a pause stated by the provider."""

    retries: int
    first_s: float
    max_s: float
    throttle_wait_s: float
    cool_down_s: float

    def pause(self, failures: int, stated_s: float | None, random_fraction: float) -> float:
        """
        Seconds before the next try after so many ``failures`` (1, 2, ...); ``random_fraction`` is from [0, 1).

        The wait that the provider states is a floor, up to ``throttle_wait_s``; the jitter is added to it, so that many
        clients with the same wait do not return together. A wait of 0, or a time in the past, states nothing: the
        pauses grow, else all retries are made within seconds.
        """
        backoff = random_fraction * min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return min(stated_s, self.throttle_wait_s) + min(backoff, 1.0) if stated_s and stated_s > 0 else backoff

    def retries_after(self, error: ProviderError) -> int:
        """How often a request that failed with this error is repeated."""
        return min(self.retries, MAX_BOUND_RETRIES) if isinstance(error, BoundExceededError) else self.retries


@frozen
class Renew:
    """Repeat at once, with a new grant."""


@frozen
class CorrectClock:
    """Repeat at once, signed with the provider's time in this response, if that differs from ours; else give up."""

    response: Response


@frozen
class Wait:
    """Repeat after ``seconds``. Until ``cool_down_s`` have passed, no request of the whole source starts."""

    seconds: float
    cool_down_s: float | None = None


@frozen
class Park:
    """Do not repeat, and request nothing more from the source until this time."""

    until: datetime


@frozen
class GiveUp:
    """Do not repeat: the error of the last attempt stands."""


NextStep = Renew | CorrectClock | Wait | Park | GiveUp


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
        if verdict.renew and grant is not None and (not self.renewals or (proven and self.renewals < MAX_RENEWALS)):
            return Renew(), self._replace(renewals=self.renewals + 1)
        if verdict.correct_clock and response is not None and not self.clock_corrected:
            return CorrectClock(response), self._replace(clock_corrected=True)
        if verdict.renew or verdict.correct_clock:
            return GiveUp(), self
        stated_s = verdict.wait_s
        if response is not None and (header_s := stated_wait(response, throttled=verdict.throttle)) is not None:
            stated_s = max(header_s, stated_s or 0.0)
        if response is not None and stated_s is not None and stated_s > self.policy.throttle_wait_s:
            return Park(response.received_at + timedelta(seconds=min(stated_s, _MAX_STATED_S))), self
        if self.failures >= self.policy.retries_after(verdict.error):
            return GiveUp(), self
        failures, cool_down_s = self.failures + 1, None
        if verdict.throttle:
            stated_s = self.policy.cool_down_s if stated_s is None else stated_s
            cool_down_s = min(stated_s, self.policy.throttle_wait_s)
        pause_s = self.policy.pause(failures, stated_s, random_fraction)
        return Wait(pause_s, cool_down_s), self._replace(failures=failures)


def parked(error: ProviderError, until: datetime, policy: RetryPolicy) -> ParkedError:
    """The error that ends the requests to a source, with the time to come back and the provider's words."""
    return ParkedError(
        sentences(
            f"no request before {until:%Y-%m-%d %H:%M:%S} UTC, a wait longer than throttle_wait_s "
            f"({policy.throttle_wait_s:g} s): {error.seen}",
            "The rest waits until then.",
        ),
        until,
    ).at(request=error.request)


# Headers in which providers state when a quota is full again, in the order in which they are read.
RESETS = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset")
_REMAINING = ("ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining")
_SECONDS = r"[0-9]{1,18}(\.[0-9]{1,9})?"
_EPOCH_S, _EPOCH_MS = 1e9, 1e12  # no provider states a wait of 30 years: what is larger is a time since 1970


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
    if re.fullmatch(_SECONDS, text.strip()):
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
