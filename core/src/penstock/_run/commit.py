"""
What becomes of a fetch that ended: its partitions are committed, in the order in which they may be, or noted as failed.
"""

import traceback
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._fetch.client import Emit
from penstock._plan.planner import Fetch, open_until
from penstock._read.reader import Reader
from penstock._read.reconcile import PartitionCounts
from penstock._util.clock import Clock
from penstock.errors import (
    BrokenBodyError,
    DeadlineReachedError,
    OutputClosedError,
    PenstockError,
    PluginError,
    StoppedError,
)
from penstock.fault_points import fault_point
from penstock.model import Partition
from penstock.redact import mask
from penstock.report import RunReport
from penstock.sinks import LedgerEntry, RunRecord, Target, WholeStream


@define(eq=False)
class Delivery:
    """The target's side of one job: commits, failures, and what the report and the listeners hear of both."""

    source: ConfiguredSource
    target: Target
    clock: Clock
    report: RunReport
    emit: Emit
    started_at: datetime
    output_closed: bool = field(default=False, init=False)
    _delivered: set[str] = field(factory=set, init=False)  # streams
    _unnoted: set[str] = field(factory=set, init=False)  # reasons for which a failure is not in the ledger, told
    _order: dict[tuple[str, str | None], list[Fetch]] = field(factory=dict, init=False)  # changes: days not committed
    _complete: dict[Fetch, Reader] = field(factory=dict, init=False)  # read, waiting for an earlier day

    def expect(self, fetch: Fetch) -> None:
        """A fetch is about to be read. Called in the order of the days."""
        if fetch.stream.kind == "changes":
            self._order.setdefault((fetch.stream.name, fetch.account), []).append(fetch)

    def complete(self, fetch: Fetch, reader: Reader) -> None:
        """Commit what was read, or keep it until the days before it are committed or have failed."""
        self._complete[fetch] = reader
        self._commit_ready(fetch)

    def fail(self, fetch: Fetch, error: BaseException, *, hidden: bool) -> None:
        """A fetch failed: the days behind it need not wait any more. A hidden one has no place in the target."""
        self._failed(fetch, fetch.partitions, error, hidden=hidden)
        queue = self._order.get((fetch.stream.name, fetch.account), [])
        if fetch in queue:
            queue.remove(fetch)
        self._commit_ready(fetch)

    def finish(self) -> None:
        """After the last fetch: let the target complete its streams, and remember the run."""
        whole = isinstance(self.target, WholeStream) and self.target.whole_stream
        for name in sorted(self._delivered):
            counts = self.report.stream(self.source.name, name)
            if whole and counts.delivered < counts.planned:
                self.report.notices.append(
                    f"{self.source.name}.{name}: only {counts.delivered} of {counts.planned} partitions were read, and "
                    f"a target that remembers nothing is written whole or not at all: it was left as it was"
                )
                continue
            try:
                self.target.finish(name)
            except PenstockError as error:
                self.report.error(self.source.name, name, None, error)
                self.report.count(self.source.name, name, failed=1)

    def record_run(self) -> None:
        """Put the run into the ledger, as ``penstock status`` shows it."""
        if self.target.ledger is None:
            return
        record = RunRecord(
            run_id=self.report.run_id,
            source=self.source.name,
            started_at=self.started_at,
            finished_at=self.clock.now(),
            exit_code=self.report.exit_code,
            report=self.report.as_dict()["sources"].get(self.source.name, {}),
        )
        try:
            self.target.ledger.record_run(record)
        except PenstockError as error:
            self.report.notices.append(f"{self.source.name}: this run is not in the ledger: {error}")

    def note(self, text: str) -> None:
        """Tell the listeners something that is no failure."""
        self.emit({"event": "note", "source": self.source.name, "message": mask(text)})

    def unknown(self, stream: str, names: tuple[str, ...]) -> None:
        """Members that the record class does not know: each is told once in a run."""
        known = self.report.stream(self.source.name, stream).unknown_members
        fresh = set(names) - known
        if fresh:
            known.update(fresh)
            self.note(f"{stream}: the provider sends members that are not declared: {', '.join(sorted(fresh))}")

    # --- commits ----------------------------------------------------------------------------------------------------

    def _commit_ready(self, fetch: Fetch) -> None:
        """
        Commit what is complete. The days of a ``changes`` stream are committed in order, since a row read with an
        older day must not overwrite the same row read with a newer one.
        """
        if fetch.stream.kind != "changes":
            if reader := self._complete.pop(fetch, None):
                self._commit(fetch, reader)
            return
        queue = self._order.get((fetch.stream.name, fetch.account), [])
        while queue and queue[0] in self._complete:
            first = queue.pop(0)
            self._commit(first, self._complete.pop(first))

    def _commit(self, fetch: Fetch, reader: Reader) -> None:
        delivered = 0
        for partition in fetch.partitions:
            entry, writer = self._entry(fetch, reader, partition), reader.loader.writers.pop(partition)
            refusal = emptied(fetch.entries.get(partition), entry) if len(fetch.partitions) == 1 else None
            if refusal is not None:
                writer.abort()
                self._failed(fetch, (partition,), refusal)
                continue
            try:
                entry = writer.commit(entry)
            except Exception as error:  # the next partitions may still be delivered
                self._failed(fetch, (partition,), error)
                continue
            fault_point("partition.delivered")
            delivered += 1
            self._count(entry, reader.loader.counts[partition])
            self._tell(entry, fetch.entries.get(partition))
        if delivered and reader.reports is not None:  # else the next run adopts them
            reader.reports.delivered()

    def _entry(self, fetch: Fetch, reader: Reader, partition: Partition) -> LedgerEntry:
        count, former = reader.loader.counts[partition], fetch.entries.get(partition)
        return LedgerEntry(
            source=self.source.name,
            partition=partition,
            state="delivered",
            run_id=self.report.run_id,
            read_at=reader.read_at or self.started_at,
            open_until=open_until(fetch.stream, self.source.settings, partition, self.source.zone),
            fingerprint=fetch.fingerprint,
            rows=count.rows,
            promised=count.promised,
            rejected=len(count.rejected),
            repeated=count.repeated,
            truncated=reader.truncated,
            sums=count.sums,
            derived_rows=count.derived_rows,
            version=former.version if former is not None else 0,
            rejected_records=(*count.rejected, *count.derived_rejected),
        )

    def _count(self, entry: LedgerEntry, count: PartitionCounts) -> None:
        stream = entry.partition.stream
        self._delivered.add(stream)
        counts = self.report.stream(self.source.name, stream)
        counts.delivered += 1
        counts.records += entry.rows
        counts.rejected += entry.rejected
        counts.repeated += entry.repeated
        counts.truncated += entry.truncated
        if count.promised is not None:
            counts.promised = (counts.promised or 0) + count.promised
        for name, rows in entry.derived_rows.items():
            derived = self.report.stream(self.source.name, name)
            derived.records += rows
            derived.planned += 1
            derived.delivered += 1

    def _tell(self, entry: LedgerEntry, former: LedgerEntry | None) -> None:
        partition = entry.partition
        change = restatement(partition, former, entry)
        if change is not None:
            self.report.stream(self.source.name, partition.stream).restated.append(change)
        self.emit(
            {
                "event": "partition_delivered",
                "source": self.source.name,
                "stream": partition.stream,
                "partition": partition.as_dict(),
                "records": entry.rows,
                "rejected": entry.rejected,
                **({"restated": change} if change else {}),
            }
        )

    # --- failures ---------------------------------------------------------------------------------------------------

    def _failed(
        self, fetch: Fetch, partitions: tuple[Partition, ...], error: BaseException, *, hidden: bool = False
    ) -> None:
        """Report a failure and put it into the ledger, unless the run itself was ended."""
        if isinstance(error, OutputClosedError):
            self.output_closed = True
            self.clock.stop.set()
            return
        if isinstance(error, (StoppedError, GeneratorExit)):
            return
        if isinstance(error, DeadlineReachedError):
            self.report.deadline = True
            return
        if not isinstance(error, PenstockError):
            error = self._defect(error)
        if not hidden:
            self.report.count(self.source.name, fetch.stream.name, failed=len(partitions))
        for partition in partitions:
            if not hidden and self.target.ledger is not None:
                try:
                    self.target.ledger.fail(self.source.name, partition, str(error), self.report.run_id)
                except PenstockError as gone:  # a target that is gone can note nothing; the report does
                    if str(gone) not in self._unnoted:
                        self._unnoted.add(str(gone))
                        self.note(f"{partition}, and what fails after it, is not noted in the ledger: {gone}")
            self.report.error(self.source.name, fetch.stream.name, partition.as_dict(), error)
            self.emit(
                {
                    "event": "partition_failed",
                    "source": self.source.name,
                    "stream": fetch.stream.name,
                    "partition": partition.as_dict(),
                    "error": type(error).__name__,
                    "message": str(error),
                }
            )

    def _defect(self, error: BaseException) -> PenstockError:
        """An error that nobody foresaw: the connector's or ours. The partition fails; its trace goes to the log."""
        if not isinstance(error, Exception):
            raise error
        trace = mask("".join(traceback.format_exception(error)))
        self.emit({"event": "defect", "source": self.source.name, "message": str(error), "trace": trace})
        return PluginError(
            f"{type(error).__name__}: {error}. This is a defect of the connector {self.source.connector.name} or of "
            f"penstock, not of your configuration; --debug shows where."
        )


def emptied(former: LedgerEntry | None, entry: LedgerEntry) -> BrokenBodyError | None:
    """
    The error of a reading in which every record was rejected where good rows would make way for nothing: the
    provider's format is another one, and what was delivered before is worth more than an empty partition.
    """
    if former is None or not former.delivered or not former.rows or entry.rows or not entry.rejected:
        return None
    first = entry.rejected_records[0]
    return BrokenBodyError(
        f"{entry.partition}: all {entry.rejected} records were rejected, the first because {first.path}: "
        f"{first.reason}. The {former.rows} rows delivered before stay; nothing was replaced."
    )


def restatement(partition: Partition, former: LedgerEntry | None, entry: LedgerEntry) -> dict[str, Any] | None:
    """
    What a new reading changed in a partition that was delivered before: rows and sums, before and after, and, where
    the target can tell, how many rows came, went and changed.
    """
    if former is None or not former.delivered or partition.values == ():
        return None
    sums = {
        column: [str(former.sums[column]), str(total)]
        for column, total in entry.sums.items()
        if column in former.sums and former.sums[column] != total
    }
    changes: Mapping[str, int] = entry.changes or {}
    if former.rows == entry.rows and not sums and not any(changes.values()):
        return None
    return {"partition": partition.as_dict(), "rows": [former.rows, entry.rows], "sums": sums, **changes}
