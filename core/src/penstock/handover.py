"""
Hand items over from a run, in a thread of its own, to a caller that pulls them.
"""

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Generic, TypeVar

from attrs import define, field, frozen

from penstock.errors import StoppedError

T = TypeVar("T")
R = TypeVar("R")

# Maximum of puts that wait for the caller.
READ_AHEAD = 2


@frozen
class _End(Generic[R]):
    """The last thing in the queue: how the run ended."""

    result: R | None = None
    error: BaseException | None = None


@define(eq=False)
class Handover(Generic[T]):
    """
    Items from a run to a caller that pulls them, in their order. The run waits while two puts are not taken yet.

    ``stop`` is set when the caller leaves, and may be set by the run: then nothing more is put.
    """

    stop: threading.Event = field(factory=threading.Event, init=False)
    _queue: "queue.Queue[Sequence[T] | _End[object]]" = field(
        factory=lambda: queue.Queue(READ_AHEAD), init=False, repr=False
    )

    def check(self) -> None:
        """Called by the run. Raises StoppedError if nothing more is to be put."""
        if self.stop.is_set():
            raise StoppedError("stopped; the records were not taken")

    def put(self, items: Sequence[T]) -> None:
        """Called by the run: hand over these items. Raises StoppedError if nothing more is to be put."""
        self.check()
        if items:
            self._queue.put(items)

    def taken(self, run: Callable[[], R], name: str) -> Generator[T, None, R]:
        """
        Start ``run`` in a thread of this name, and yield the items that it puts. Returns its result, or raises its
        error, after the last item. Closing the generator sets ``stop``, and waits for the end of the run.
        """
        thread = threading.Thread(target=self._run, args=(run,), name=name)
        thread.start()
        try:
            while not isinstance(items := self._queue.get(), _End):
                yield from items
            if items.error is not None:
                raise items.error
            return items.result  # type: ignore[return-value]
        finally:
            self._end(thread)

    def _run(self, run: Callable[[], object]) -> None:
        try:
            end = _End(result=run())
        except BaseException as error:  # raised in the thread of the caller
            end = _End(error=error)
        self._queue.put(end)

    def _end(self, thread: threading.Thread) -> None:
        """Stop the run, and wait until it has closed its connections."""
        self.stop.set()
        while thread.is_alive():  # it may wait for room in the queue
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
        thread.join()
