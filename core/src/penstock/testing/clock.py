"""Clocks for tests: one that runs from a given day, and one that moves only when it sleeps."""

import threading
from datetime import UTC, datetime

from penstock._util.clock import Clock, StandingClock


class ShiftedClock(Clock):
    """
    A clock that runs, from ``start`` on: for tests whose waits are real and whose days are always the same.

    ``pace``: sleeps, and the time that never jumps, pass so many times as fast; the time of day does not.
    """

    def __init__(self, start: datetime, stop: threading.Event | None = None, *, pace: float = 1.0) -> None:
        super().__init__(stop)
        self._ahead = start - datetime.now(UTC)
        self.pace = pace

    def monotonic(self) -> float:
        return super().monotonic() * self.pace

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / self.pace)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead


class FakeClock(StandingClock):
    """
    A clock for tests: ``sleep`` returns at once and moves the time on. ``slept`` lists the seconds of every sleep.
    """

    def __init__(
        self, start: datetime = datetime(2026, 3, 2, 12, tzinfo=UTC), stop: threading.Event | None = None
    ) -> None:
        super().__init__(start, stop)
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.slept.append(seconds)
