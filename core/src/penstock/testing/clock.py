"""A clock that moves only when it is told to, or slept on."""

import threading
from datetime import UTC, datetime, timedelta

from penstock.clock import Clock
from penstock.errors import StoppedError


class FakeClock(Clock):
    """
    A clock for tests: ``sleep`` returns at once and moves the time on. ``slept`` lists the seconds of every sleep.
    """

    def __init__(
        self, start: datetime = datetime(2026, 3, 2, 12, tzinfo=UTC), stop: threading.Event | None = None
    ) -> None:
        super().__init__(stop)
        self._start = start.astimezone(UTC)
        self._passed_s = 0.0
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        return self._passed_s

    def sleep(self, seconds: float) -> None:
        if self.stop.is_set():
            raise StoppedError("stopped while waiting")
        with self._lock:
            self.slept.append(seconds)
            self._passed_s += max(0.0, seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass without anybody sleeping."""
        with self._lock:
            self._passed_s += seconds
