"""
The clock of a run: wall-clock time, monotonic time, and a sleep that a signal ends.
"""

import threading
import time
from datetime import UTC, datetime, timedelta

from penstock.errors import StoppedError


class Clock:
    """
    The source of time of the runner and the transport. Tests use :class:`penstock.testing.FakeClock` in its place.

    ``stop`` is set to end the run (Ctrl-C, SIGTERM); every sleep then ends at once.
    """

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.stop = stop if stop is not None else threading.Event()

    def now(self) -> datetime:
        """The time of day, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment; never set back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait. Raises StoppedError as soon as ``stop`` is set, or at once if it was set before."""
        if self.stop.wait(max(0.0, seconds)):
            raise StoppedError("stopped while waiting; what was delivered so far is kept, the next run goes on from it")


class StandingClock(Clock):
    """A clock that starts at a given moment, and moves only when it sleeps, which takes no time."""

    def __init__(self, start: datetime, stop: threading.Event | None = None) -> None:
        super().__init__(stop)
        self._start = start.astimezone(UTC)
        self._passed_s = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        return self._passed_s

    def sleep(self, seconds: float) -> None:
        if self.stop.is_set():
            raise StoppedError("stopped while waiting")
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Move the time without a sleep."""
        with self._lock:
            self._passed_s += seconds
