"""
Committed partitions, one after another, for tools that pull: a run in a thread of its own, and a short queue.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from attrs import frozen
from penstock import (
    Batch,
    HandoverSink,
    LedgerEntry,
    Project,
    ProviderError,
    RejectedRecordsError,
)

from penstock_plugins.integrations.bookmarks import Bookmarks, StateLedger


@frozen
class CommittedPartition:
    """One partition whose counts were verified: its row of a ledger, and its batches, those of derived streams too."""

    entry: LedgerEntry
    batches: Sequence[Batch]


def deliveries(
    project: Project, source: str, streams: Sequence[str], bookmarks: Bookmarks, **options: Any
) -> Iterator[CommittedPartition]:
    """
    Read these streams as a run does, from the bookmarks on, and yield each partition after its commit; the bookmarks
    have it when the next one is taken. ``options`` are those of :meth:`penstock.Project.run`.

    Raises the error of the run after the last partition: ProviderError, RejectedRecordsError, or what prevented it
    from starting. Closing the iterator early ends the run.
    """
    sink = HandoverSink(
        items=lambda entry, batches: [CommittedPartition(entry, batches)], ledger=StateLedger(bookmarks)
    )

    def run() -> None:
        result = project.run(source, to=sink, streams=streams, stop=sink.stop, **options)
        if result.reason is not None:
            raise result.reason
        if result.exit_code == 5:
            raise RejectedRecordsError(result.rejected_line or result.summary)
        if result.exit_code:
            raise ProviderError("; ".join([error["message"] for error in result.errors[:3]] or [result.summary]))

    with closing(sink.taken(run, f"read {source}")) as taken:
        for delivery in taken:
            bookmarks.delivered(delivery.entry)
            yield delivery
