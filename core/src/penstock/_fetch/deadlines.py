"""
The deadlines of attempts: a thread shuts the sockets of the attempts whose time is over.
"""

import threading
import time

from attrs import define, field

from penstock._fetch.attempt import NetworkAttempt

WATCH_S = 0.1  # maximum delay until a deadline takes effect


@define(eq=False, repr=False)
class AttemptDeadlines:
    """The attempts under way. A socket's own timeout starts anew with every byte, so it bounds no attempt."""

    closed: threading.Event = field(factory=threading.Event, init=False)
    _attempts: set[NetworkAttempt] = field(factory=set, init=False)
    _watch: threading.Thread | None = field(default=None, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def add(self, attempt: NetworkAttempt) -> None:
        """Watch this attempt until :meth:`remove`."""
        with self._lock:
            self._attempts.add(attempt)
            if self._watch is None:
                self._watch = threading.Thread(target=self._cut_overdue, name="deadlines", daemon=True)
                self._watch.start()

    def remove(self, attempt: NetworkAttempt) -> None:
        with self._lock:
            self._attempts.discard(attempt)

    def close(self) -> None:
        """Cut every attempt, and end the thread."""
        self.closed.set()
        with self._lock:
            under_way = list(self._attempts)
        for attempt in under_way:
            attempt.cut()

    def _cut_overdue(self) -> None:
        """The thread: cut each attempt whose deadline has passed, until :meth:`close`."""
        while not self.closed.wait(WATCH_S):
            now = time.monotonic()
            with self._lock:
                late = [attempt for attempt in self._attempts if now >= attempt.deadline]
            for attempt in late:
                attempt.overdue = True
                attempt.cut()
