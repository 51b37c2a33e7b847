"""
The limits of one run: its deadline and the number of its retries, and of one source: its requests per second, and
whether it is parked.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from attrs import Factory, define, field, frozen

from penstock._util.clock import Clock
from penstock.errors import DeadlineReachedError, ParkedError

# Circuit breaker: after this many consecutive requests to a source without a response, nothing is retried there until
# one succeeds. An outage then costs a run minutes, not the patience for one request times its partitions.
MAX_SILENT_REQUESTS = 3


@frozen(eq=False, repr=False)
class Deadline:
    """The time when a run must end. ``at``: on the monotonic clock; None: there is none."""

    clock: Clock
    at: float | None = None

    @classmethod
    def after(cls, clock: Clock, seconds: float | None) -> "Deadline":
        return cls(clock, None if seconds is None else clock.monotonic() + seconds)

    @property
    def time_of_day(self) -> datetime | None:
        """The deadline for other processes, aware, UTC."""
        return None if self.at is None else self.clock.now() + timedelta(seconds=self.at - self.clock.monotonic())

    @property
    def run_is_ending(self) -> bool:
        """Whether the run is to end: stopped, or past its deadline."""
        return self.clock.stop.is_set() or (self.at is not None and self.clock.monotonic() >= self.at)

    def check_pause(self, seconds: float) -> None:
        """Raises DeadlineReachedError if the deadline comes within so many seconds."""
        if self.at is not None and self.clock.monotonic() + seconds >= self.at:
            raise self.error(f"comes before the next try in {seconds:.0f} s")

    def error(self, event: str = "was reached") -> DeadlineReachedError:
        return DeadlineReachedError(f"the deadline {event}; the next run goes on with what is left")


default_deadline = Factory(lambda owner: Deadline(owner.clock), takes_self=True)
"""The default of a field ``deadline``, in a class with a field ``clock`` before it."""


@define(eq=False, repr=False)
class RetryBudget:
    """
    The retries that one run may make: a number over all its sources, and none at a source that does not respond (see
    ``MAX_SILENT_REQUESTS``).
    """

    retries: float = 10_000
    _silent: dict[str, int] = field(factory=dict, init=False)  # source -> consecutive requests without a response
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def use_retry(self, source: str) -> bool:
        """Count one retry at a source. False if none is left for it."""
        with self._lock:
            if self._silent.get(source, 0) >= MAX_SILENT_REQUESTS:
                return False
            self.retries -= 1
            return self.retries >= 0

    def record_response(self, source: str) -> None:
        """Record that a request to the source had a response, of any status."""
        with self._lock:
            self._silent[source] = 0

    def record_give_up(self, source: str) -> None:
        """Record that a request to the source was given up without a response."""
        with self._lock:
            self._silent[source] = self._silent.get(source, 0) + 1


@define(eq=False, repr=False)
class RateLimit:
    """
    The rate limit of one source, shared by all its fetching threads: at most ``requests_per_second`` starts, evenly
    spaced. ``on_cool_down`` is called with the seconds of a pause that begins here, for the other processes of the run.
    """

    clock: Clock
    requests_per_second: float | None = None
    on_cool_down: Callable[[float], None] | None = None
    _free_at: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def wait_turn(self) -> None:
        """Sleep until a request may start, and take that turn."""
        while True:
            with self._lock:
                now = self.clock.monotonic()
                pause = self._free_at - now
                if pause <= 0:
                    if self.requests_per_second:
                        self._free_at = now + 1 / self.requests_per_second
                    return
            self.clock.sleep(pause)

    def cool_down(self, seconds: float) -> None:
        """Start no request of this source for so many seconds, in no process of the run."""
        self.pause_here(seconds)
        if self.on_cool_down is not None:
            self.on_cool_down(seconds)

    def pause_here(self, seconds: float) -> None:
        """Start no request of this source for so many seconds, in this process."""
        with self._lock:
            self._free_at = max(self._free_at, self.clock.monotonic() + seconds)


@define(eq=False, repr=False)
class Parking:
    """
    Whether one source is parked: a response stated a wait that is too long, and no further request leaves. ``on_park``
    is called with the error that parks it here, for the other processes of the run.
    """

    on_park: Callable[[ParkedError], None] | None = None
    error: ParkedError | None = field(default=None, init=False)

    def check(self) -> None:
        """Raises ParkedError if the source is parked."""
        if self.error is not None:
            raise self.error.to_raise_again()

    def park(self, error: ParkedError) -> None:
        """Make no further request, in no process of the run."""
        if self.error is None and self.on_park is not None:
            self.on_park(error)
        self.error = error.to_raise_again()

    def park_here(self, error: ParkedError) -> None:
        """Make no further request, in this process."""
        self.error = self.error or error.to_raise_again()
