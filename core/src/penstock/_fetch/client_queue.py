"""
The tasks and the fetching threads of one client.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from attrs import define, field

from penstock._fetch.call import Call, Client, Outcome, Reading


@define(eq=False, repr=False)
class Task:
    """
    A reading and its place in the scheduler. ``on_end`` is called once, with the error that ended it, if one did.

    ``after``: it starts once this key was released (:meth:`Scheduler.release`); None: at once.
    """

    client: Client
    start: Callable[[], Reading]
    after: Hashable | None = None
    on_end: Callable[[BaseException | None], None] = lambda error: None
    reading: Reading | None = field(default=None, init=False)
    slots: deque["Slot"] = field(factory=deque, init=False)
    unsubmitted: int = field(default=0, init=False)  # slots
    resumes_at: float | None = field(default=None, init=False)
    active: bool = field(default=False, init=False)

    @property
    def can_resume(self) -> bool:
        """Whether the outcome that is next in its order has come."""
        return self.active and self.resumes_at is None and bool(self.slots) and self.slots[0].outcome is not None


@define(eq=False, repr=False)
class Slot:
    """A call that a task waits for, in order."""

    call: Call
    submitted: bool = False
    outcome: Outcome | None = None


class ClientQueue:
    """
    A client's tasks that can start, and its fetching threads: daemons, so that a socket that hangs cannot keep the
    process from ending.
    """

    def __init__(self, client: Client, done: "queue.SimpleQueue[Any]") -> None:
        self.waiting: deque[Task] = deque()
        self.concurrency = client.concurrency
        self.busy = 0
        self.unread = 0  # outcomes that no reading was resumed with yet
        self._make = client.make
        self._calls: queue.SimpleQueue[tuple[Task, Slot] | None] = queue.SimpleQueue()
        self._done = done
        self._started = 0

    @property
    def free(self) -> bool:
        """Whether a thread is free."""
        return self.busy < self.concurrency

    def put(self, task: Task, slot: Slot) -> None:
        self.busy += 1
        if self.busy > self._started:
            self._started += 1
            threading.Thread(target=self._work, name=f"fetch-{self._started}", daemon=True).start()
        self._calls.put((task, slot))

    def dismiss(self) -> None:
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            task, slot = call
            self._done.put((task, slot, self._make(slot.call)))
