"""
Committed partitions, one after another, for tools that pull: a run in a thread of its own, and a short queue.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from attrs import define, field, frozen
from penstock import (
    Batch,
    Layout,
    LedgerEntry,
    Partition,
    Project,
    ProviderError,
    RejectedRecordsError,
    StoppedError,
)

from penstock_plugins.doors.bookmarks import Bookmarks, StateLedger

# Partitions that wait for the caller.
READ_AHEAD = 2


@frozen
class Delivery:
    """One partition whose counts were verified: its row of a ledger, and its batches, those of derived streams too."""

    entry: LedgerEntry
    batches: Sequence[Batch]


def deliveries(
    project: Project, source: str, streams: Sequence[str], bookmarks: Bookmarks, **options: Any
) -> Iterator[Delivery]:
    """
    Read these streams as a run does, from the bookmarks on, and yield each partition after its commit; the bookmarks
    have it when the next one is taken. ``options`` are those of :meth:`penstock.Project.run`.

    Raises the error of the run after the last partition: ProviderError, RejectedRecordsError, or what prevented it
    from starting. Closing the iterator early ends the run.
    """
    reading = _Reading(StateLedger(bookmarks))
    thread = threading.Thread(
        target=reading.run,
        args=(lambda: project.run(source, to=reading, streams=streams, stop=reading.stop, **options),),
        name=f"read {source}",
    )
    thread.start()
    try:
        while isinstance(taken := reading.queue.get(), Delivery):
            bookmarks.delivered(taken.entry)
            yield taken
        if isinstance(taken, BaseException):
            raise taken
    finally:
        reading.end(thread)


@define(eq=False)
class _Reading:
    """The sink, the target and the queue of one run. The ledger is used by the run's thread only."""

    ledger: StateLedger
    queue: "queue.Queue[Delivery | BaseException | None]" = field(
        factory=lambda: queue.Queue(READ_AHEAD), init=False, repr=False
    )
    stop: threading.Event = field(factory=threading.Event, init=False)

    def run(self, start: Callable[[], Any]) -> None:
        end: BaseException | None = None
        try:
            result = start()
            if result.reason is not None:
                end = result.reason
            elif result.exit_code == 5:
                end = RejectedRecordsError(result.set_aside or result.summary)
            elif result.exit_code:
                end = ProviderError("; ".join([one["message"] for one in result.errors[:3]] or [result.summary]))
        except BaseException as error:  # raised where the partitions are taken
            end = error
        self.queue.put(end)

    def deliver(self, delivery: Delivery) -> None:
        if self.stop.is_set():
            raise StoppedError("stopped; the records were not taken")
        self.queue.put(delivery)

    def end(self, thread: threading.Thread) -> None:
        """Stop the run, and wait until it has closed its connections."""
        self.stop.set()
        while thread.is_alive():  # it may wait for room in the queue
            try:
                self.queue.get(timeout=0.05)
            except queue.Empty:
                continue
        thread.join()

    # --- sink and target --------------------------------------------------------------------------------------------

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> "_Reading":
        return self

    def open_readonly(self, source: str) -> None:
        return None

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> "_Writer":
        return _Writer(self)

    def is_intact(self, entry: LedgerEntry) -> bool:
        return True

    def finish(self, stream: str) -> None:
        """No effect: every commit is complete."""

    def close(self) -> None:
        """No effect."""


@define(eq=False)
class _Writer:
    reading: _Reading
    _batches: list[Batch] = field(factory=list, init=False)

    def write(self, batch: Batch) -> None:
        self._batches.append(batch)

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        self.reading.deliver(Delivery(entry, self._batches))
        return entry

    def abort(self) -> None:
        self._batches = []
