"""
The clock of a run: the time of day, a time that never jumps, and a sleep that a signal ends.
"""

import threading
import time
from datetime import UTC, datetime

from penstock.errors import StoppedError


class Clock:
    """
    What the runner and the transport know of time; :class:`penstock.testing.FakeClock` stands in for it in tests.

    ``stop`` is set by whoever wants the run to end (Ctrl-C, SIGTERM); every sleep then ends at once.
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
        """Wait; raises StoppedError as soon as ``stop`` is set, also when it was set before."""
        if self.stop.wait(max(0.0, seconds)):
            raise StoppedError("stopped while waiting; what was delivered so far is kept, the next run goes on from it")
