"""
The log of a run for one source: counts and errors go into its report, events to all that follow it.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from penstock._run_report.report import RunReport, StreamCounts
from penstock.errors import PenstockError
from penstock.events import Note, OnEvent, PartitionDelivered, ignore
from penstock.ledger_interface import LedgerEntry, restated_sums
from penstock.model import Rejected
from penstock.redact import mask


@frozen(eq=False, repr=False)
class RunLog:
    """
    The log of one source. A *note* is a line of this log, for who follows the run; a *notice* is for the person who
    started it, shown at its end (:meth:`RunReport.add_notices`). What a read finds on many pages is noted once.
    ``emit`` passes an event to all that follow the run.
    """

    source: str
    run_report: RunReport
    emit: OnEvent
    _noted: set[Hashable] = field(factory=set, init=False)

    @classmethod
    def without_run(cls, source: str, emit: OnEvent = ignore) -> "RunLog":
        """The log of requests that are of no run."""
        return cls(source, RunReport(run_id=""), emit)

    def stream(self, name: str) -> StreamCounts:
        """The counts of a stream."""
        return self.run_report.stream(self.source, name)

    def count(self, stream: str, **amounts: int) -> None:
        """Add to the counts of a stream."""
        self.run_report.count(self.source, stream, **amounts)

    def fail(self, stream: str | None, partition: Mapping[str, str] | None, error: PenstockError) -> None:
        """Record an error of a partition, a stream or the source, and send it to all that follow the run."""
        self.emit({"event": "partition_failed", **self.run_report.record_error(self.source, stream, partition, error)})

    def note(self, text: str, *, parked: bool = False) -> None:
        """Emit the event ``note``: it is no failure. ``parked``: the source is left for a later run."""
        note: Note = {"event": "note", "source": self.source, "message": mask(text)}
        if parked:
            note["parked"] = True
        self.emit(note)

    def note_once(self, about: Hashable, text: str) -> None:
        """Note only the first of all texts about one thing."""
        if about not in self._noted:
            self._noted.add(about)
            self.note(text)

    def note_misfit(self, stream: str, example: tuple[str, str]) -> None:
        """Log values that could not be read: the first one of a stream."""
        counts = self.stream(stream)
        if not counts.unread_example:
            counts.unread_example = ": ".join(example)
            self.note(f"{stream}: a value could not be read ({counts.unread_example}); it is null")

    def note_unknown(self, stream: str, names: tuple[str, ...]) -> None:
        """Log members that the record class does not declare, each once per run."""
        logged = self.stream(stream).unknown_members
        unlogged = set(names) - logged
        if unlogged:
            logged.update(unlogged)
            self.note(f"{stream}: the provider sends members that are not declared: {', '.join(sorted(unlogged))}")

    def count_delivered(self, entry: LedgerEntry, derived_rejected: Sequence[Rejected]) -> None:
        """
        Count a partition that was committed, and the rows of the streams that are derived from it.

        ``derived_rejected``: the records of these streams that were rejected.
        """
        counts = self.run_report.stream(self.source, entry.partition.stream)
        counts.delivered += 1
        counts.records += entry.rows
        counts.rejected += entry.rejected - len(derived_rejected)
        counts.unread_values += entry.unread_values
        counts.repeated += entry.repeated
        counts.truncated += entry.truncated
        if entry.promised is not None:
            counts.promised = (counts.promised or 0) + entry.promised
        for name, rows in entry.derived_rows.items():
            self.count(name, records=rows, planned=1, delivered=1, carried=1)
        for record in derived_rejected:
            self.count(record.stream, rejected=1)

    def count_replaced(self, stream: str, number: int, example: str) -> None:
        """Count records that later ones of the same reading replaced; ``example``: a key of theirs."""
        counts = self.stream(stream)
        counts.replaced += number
        counts.replaced_example = counts.replaced_example or example

    def log_delivered(self, entry: LedgerEntry, former: LedgerEntry | None) -> None:
        """Log a partition that was committed, and what it changed."""
        change = _restated(former, entry) if former is not None else None
        if change is not None:
            self.stream(entry.partition.stream).restated.append(change)
        delivered: PartitionDelivered = {
            "event": "partition_delivered",
            "source": self.source,
            "stream": entry.partition.stream,
            "partition": entry.partition.as_dict(),
            "records": entry.rows,
            "rejected": entry.rejected,
            "unread_values": entry.unread_values,
        }
        if entry.derived_rows:
            delivered["derived"] = dict(entry.derived_rows)
        if change:
            delivered["restated"] = change
        self.emit(delivered)


def _restated(former: LedgerEntry, entry: LedgerEntry) -> dict[str, Any] | None:
    """
    A restatement, as report and event have it: rows and sums, before and after; and the numbers of rows that were
    added, removed and changed, if the target counts them. None: nothing was restated.
    """
    sums = restated_sums(former, entry)
    if sums is None:
        return None
    return {
        "partition": entry.partition.as_dict(),
        "rows": [former.rows, entry.rows],
        "sums": {column: [str(before), str(after)] for column, (before, after) in sums.items()},
        **(entry.changes or {}),
    }
