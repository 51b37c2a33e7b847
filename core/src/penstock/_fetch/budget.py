"""
The retries that one run may make.
"""

import threading

from attrs import define, field

from penstock._util.clock import Clock
from penstock.errors import DeadlineReachedError

# Circuit breaker: after this many consecutive requests to a source without a response, nothing is retried there until
# one succeeds. An outage then costs a run minutes, not the patience for one request times its partitions.
SILENT = 3


@define(eq=False, repr=False)
class Budget:
    """
    The retries that one run may make: a number over all its sources, none past its deadline, and none at a source that
    does not respond (see ``SILENT``).
    """

    clock: Clock
    deadline: float | None = None  # on the monotonic clock
    retries: float = 10_000
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
