"""
Rate limiting: requests per second, and a pause of the whole source when the provider throttles.
"""

import threading
from collections.abc import Callable

from attrs import define, field

from penstock._util.clock import Clock


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
        while (pause := self._reserve()) > 0:
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

    def _reserve(self) -> float:
        with self._lock:
            now = self.clock.monotonic()
            if now < self._free_at:
                return self._free_at - now
            if self.requests_per_second:
                self._free_at = now + 1 / self.requests_per_second
            return 0.0
