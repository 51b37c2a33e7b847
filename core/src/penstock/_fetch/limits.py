"""
The limits of one run: the number of its retries, and of one source: its requests per second.
"""

import threading
from collections.abc import Callable

from attrs import define, field

from penstock._util.clock import Clock
from penstock.errors import DeadlineReachedError

# Circuit breaker: after this many consecutive requests to a source without a response, nothing is retried there until
# one succeeds. An outage then costs a run minutes, not the patience for one request times its partitions.
MAX_SILENT_REQUESTS = 3


@define(eq=False, repr=False)
class Budget:
    """
    The retries that one run may make: a number over all its sources, none past its deadline, and none at a source that
    does not respond (see ``MAX_SILENT_REQUESTS``).
    """

    clock: Clock
    deadline: float | None = None  # on the monotonic clock
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

    def responded(self, source: str) -> None:
        """Record that a request to the source had a response, of any status."""
        with self._lock:
            self._silent[source] = 0

    def gave_up(self, source: str) -> None:
        """Record that a request to the source was given up without a response."""
        with self._lock:
            self._silent[source] = self._silent.get(source, 0) + 1

    def check_deadline(self, seconds: float) -> None:
        """Raises DeadlineReachedError if the deadline comes within so many seconds."""
        if self.deadline is not None and self.clock.monotonic() + seconds >= self.deadline:
            raise DeadlineReachedError(
                f"the deadline comes before the next try in {seconds:.0f} s; the next run goes on with what is left"
            )


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
        self.hold(seconds)
        if self.on_cool_down is not None:
            self.on_cool_down(seconds)

    def hold(self, seconds: float) -> None:
        """Start no request of this source for so many seconds, in this process."""
        with self._lock:
            self._free_at = max(self._free_at, self.clock.monotonic() + seconds)
