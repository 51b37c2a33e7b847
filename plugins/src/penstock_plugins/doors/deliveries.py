"""
Committed partitions, one after another, for tools that pull: a run in a thread of its own, and a short queue.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from attrs import define, field, frozen
from penstock import (
    Batch,
    Handover,
    Layout,
    LedgerEntry,
    Partition,
    Project,
    ProviderError,
    RejectedRecordsError,
)

from penstock_plugins.doors.bookmarks import Bookmarks, StateLedger


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
    sink = _Sink(StateLedger(bookmarks))

    def run() -> None:
        result = project.run(source, to=sink, streams=streams, stop=sink.handover.stop, **options)
        if result.reason is not None:
            raise result.reason
        if result.exit_code == 5:
            raise RejectedRecordsError(result.set_aside or result.summary)
        if result.exit_code:
            raise ProviderError("; ".join([one["message"] for one in result.errors[:3]] or [result.summary]))

    with closing(sink.handover.taken(run, f"read {source}")) as taken:
        for delivery in taken:
            bookmarks.delivered(delivery.entry)
            yield delivery


@define(eq=False)
class _Sink:
    """Sink and target of one run: hands over what is committed. Only the run's thread uses the ledger."""

    ledger: StateLedger
    handover: Handover[Delivery] = field(factory=Handover, init=False)

    # --- sink and target --------------------------------------------------------------------------------------------

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> "_Sink":
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
    sink: _Sink
    _batches: list[Batch] = field(factory=list, init=False)

    def write(self, batch: Batch) -> None:
        self._batches.append(batch)

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        self.sink.handover.put([Delivery(entry, self._batches)])
        return entry

    def abort(self) -> None:
        self._batches = []
