"""
Hand the committed partitions of a run, in a thread of its own, over to a caller that pulls them.
"""

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Generic, TypeVar

from attrs import define, field, frozen

from penstock.errors import StoppedError
from penstock.ledger_interface import Ledger, LedgerEntry
from penstock.model import Batch, Partition
from penstock.sinks import BaseSink, BaseTarget, Layout

T = TypeVar("T")
R = TypeVar("R")

# Maximum of partitions that wait for the caller.
READ_AHEAD = 2


@frozen
class _EndOfRun(Generic[R]):
    """The last thing in the queue: how the run ended."""

    result: R | None = None
    error: BaseException | None = None


@define(eq=False, kw_only=True)
class HandoverSink(BaseSink, BaseTarget, Generic[T]):
    """
    A sink that hands committed partitions over to a caller that pulls them, in the order of the commits. The run waits
    while two partitions are not taken yet.

    ``items`` makes of a partition whose counts were verified what the caller takes: it gets the partition's ledger
    entry and its batches, those of derived streams too, in the run's thread.

    ``stop`` is set when the caller leaves, and may be set by the run: then nothing more is handed over. Give it to the
    run as its ``stop``.
    """

    items: Callable[[LedgerEntry, Sequence[Batch]], Sequence[T]]
    ledger: Ledger | None = None
    stop: threading.Event = field(factory=threading.Event, init=False)
    _queue: "queue.Queue[Sequence[T] | _EndOfRun[object]]" = field(
        factory=lambda: queue.Queue(READ_AHEAD), init=False, repr=False
    )

    def taken(self, run: Callable[[], R], name: str) -> Generator[T, None, R]:
        """
        Start ``run``, which writes to this sink, in a thread of this name, and yield the items of its partitions.
        Returns its result, or raises its error, after the last item. Closing the generator sets ``stop``, and waits for
        the end of the run.
        """
        thread = threading.Thread(target=self._run, args=(run,), name=name)
        thread.start()
        try:
            while not isinstance(items := self._queue.get(), _EndOfRun):
                yield from items
            if items.error is not None:
                raise items.error
            return items.result  # type: ignore[return-value]
        finally:
            self._end(thread)

    # --- sink and target --------------------------------------------------------------------------------------------

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> "HandoverSink[T]":
        return self

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> "_Writer[T]":
        return _Writer(self)

    # --- in the run's thread ----------------------------------------------------------------------------------------

    def put(self, entry: LedgerEntry, batches: Sequence[Batch]) -> None:
        """Hand over one partition. Raises StoppedError if nothing more is to be handed over."""
        if self.stop.is_set():
            raise StoppedError("stopped; the records were not taken")
        if items := self.items(entry, batches):
            self._queue.put(items)

    def _run(self, run: Callable[[], object]) -> None:
        try:
            end = _EndOfRun(result=run())
        except BaseException as error:  # raised in the thread of the caller
            end = _EndOfRun(error=error)
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


@define(eq=False)
class _Writer(Generic[T]):
    """One partition's batches, held back until its counts are verified."""

    sink: HandoverSink[T]
    _batches: list[Batch] = field(factory=list, init=False)

    def write(self, batch: Batch) -> None:
        self._batches.append(batch)

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        self.sink.put(entry, self._batches)
        return entry

    def abort(self) -> None:
        self._batches = []
