"""
Commit the results of reads in the order that the stream requires, or record why a read failed.
"""

import traceback
from collections.abc import Iterable, Sequence
from datetime import datetime

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._plan.dependencies import Key, key_of
from penstock._plan.finality import open_until
from penstock._plan.plan import PlannedSlice
from penstock._plugins.registry import defect
from penstock._read.reconcile import PartitionCounts
from penstock._read.result import ReadResult
from penstock._read.run_log import RunLog
from penstock._run.context import RunContext
from penstock._run.measures import Measures
from penstock.errors import (
    DeadlineReachedError,
    OutputClosedError,
    ParkedError,
    PenstockError,
    StoppedError,
)
from penstock.fault_points import fault_point
from penstock.ledger_interface import GroupingLedger, LedgerEntry, RunRecord
from penstock.model import Partition, Rejected
from penstock.redact import mask
from penstock.sinks import Grouping, Target, commit_all

ERRORS_KEPT = 50  # of a source's run, in the ledger

# One transaction for many small partitions. A slice of more rows gains nothing by waiting for others.
GROUP_PARTITIONS, GROUP_ROWS = 64, 5000


@define(eq=False, repr=False)
class Committer:
    """The target's side of one job: commits and failures, each with its part in the report of the run."""

    source: ConfiguredSource
    target: Target
    log: RunLog
    context: RunContext
    output_closed: bool = field(default=False, init=False)
    ended_at: datetime | None = field(default=None, init=False)  # when the last slice ended
    _delivered: set[str] = field(factory=set, init=False)  # streams
    _unnoted: set[str] = field(factory=set, init=False)  # reported reasons why a failure is not in the ledger
    _order: dict[Key, list[PlannedSlice]] = field(factory=dict, init=False)  # of changes, not committed
    _read: dict[PlannedSlice, ReadResult] = field(factory=dict, init=False)  # waiting for an earlier day
    _group: list[tuple[ReadResult, Partition]] = field(factory=list, init=False)  # to be committed together
    _group_rows: int = field(default=0, init=False)
    _failures: list[tuple[Partition, str]] = field(factory=list, init=False)  # to be recorded together
    _can_group: bool = field(init=False)  # whether the target commits groups
    _measures: Measures = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._can_group = isinstance(self.target, Grouping)
        self._measures = Measures(self.target.ledger, self.log)

    def expect(self, planned: PlannedSlice) -> None:
        """Register a slice before it is read. Called in the order of the days."""
        if planned.stream.kind == "changes":
            self._order.setdefault(key_of(planned), []).append(planned)

    def commit(self, result: ReadResult) -> None:
        """
        Commit the result of a read. The days of a ``changes`` stream are committed in order, since a row read with an
        older day must not overwrite the same row read with a newer one: each is kept until those before it are
        committed or have failed.
        """
        self._measures.record(result)
        result.lost = self._measures.disappeared(result)
        if result.planned.stream.kind == "changes":
            self._read[result.planned] = result
            self._commit_in_order(result.planned)
        else:
            self._commit_slice(result)

    def count_rejected(self, result: ReadResult) -> None:
        """
        Count the rejected records of a parent stream that is not delivered itself. Their children were not requested.
        The ledger has no row for them, so a note names the first.
        """
        rejected = [
            *result.undated,
            *(record for read in result.partitions.values() for record in read.counts.rejected),
        ]
        if rejected:
            stream = result.planned.stream.name
            self.log.count(stream, rejected=len(rejected))
            self.log.note(
                f"{stream}, read for other streams: {len(rejected)} rejected, so that nothing was requested by them; "
                f"the first because {rejected[0].path}: {rejected[0].reason}"
            )

    def flush(self) -> None:
        """Commit and record what waits for others. Called when the run would wait, and at its end."""
        group, self._group, self._group_rows = self._group, [], 0
        for reports in {result.reports for result in self._commit(group)}:
            if reports is not None:
                reports.drop_delivered()
        self._record_failures()

    def fail(self, planned: PlannedSlice, error: BaseException) -> None:
        """Record a failed read, and let the days after it be committed."""
        self._record_failure_of(planned, planned.partitions, error)
        if planned in self._order.get(key_of(planned), ()):
            self._order[key_of(planned)].remove(planned)
            self._commit_in_order(planned)

    def recount(self, entries: Iterable[LedgerEntry], *, planned: bool = True) -> None:
        """
        Count what another worker of this run delivered, which is not here any more to report it. ``planned``: it is
        not counted as planned yet.
        """
        for entry in entries:
            self._count(entry, PartitionCounts(promised=entry.promised, unread_values=entry.unread_values))
            self.log.count(entry.partition.stream, planned=int(planned))

    def finish(self) -> None:
        """After the last read: let the target complete its streams."""
        self.flush()
        self._measures.report_lost()
        whole = self.target.whole_stream
        for name in sorted(self._delivered):
            counts = self.log.stream(name)
            if whole and counts.delivered < counts.planned:
                self.context.report.notices.append(
                    f"{self.source.name}.{name}: only {counts.delivered} of {counts.planned} partitions were read, and "
                    f"a target that remembers nothing is written whole or not at all: it was left as it was"
                )
                continue
            self.complete(name)

    def complete(self, stream: str) -> None:
        """Let the target complete a stream, or report why it cannot."""
        try:
            self.target.finish(stream)
        except PenstockError as error:
            self.log.fail(stream, None, error)
            self.log.count(stream, failed=1)

    def record_run(self) -> None:
        """Record the run in the ledger, for ``penstock status``."""
        if self.target.ledger is None:
            return
        of_source = self.context.report.of_source(self.source.name)
        report = of_source.as_dict()
        why = {"errors": report["errors"][:ERRORS_KEPT], **({"parked": report["parked"]} if of_source.parked else {})}
        record = RunRecord(
            run_id=self.context.report.run_id,
            source=self.source.name,
            started_at=self.context.started_at,
            finished_at=self.ended_at or self.context.clock.now(),
            exit_code=of_source.exit_code,
            report={**report["sources"].get(self.source.name, {}), **why},
        )
        try:
            self.target.ledger.record_run(record)
        except PenstockError as error:
            self.context.report.notices.append(f"{self.source.name}: this run is not in the ledger: {error}")

    # --- commits ------------------------------------------------------------------------------------------------------

    def _commit_in_order(self, planned: PlannedSlice) -> None:
        queue = self._order[key_of(planned)]
        while queue and queue[0] in self._read:
            self._commit_slice(self._read.pop(queue.pop(0)))

    def _commit_slice(self, result: ReadResult) -> None:
        """Commit a slice, or let it wait for others to be committed with it, if the target commits groups."""
        rows = sum(partition.counts.rows for partition in result.partitions.values())
        if rows <= GROUP_ROWS and not result.undated and self._can_group:
            self._group.extend((result, partition) for partition in result.partitions)
            self._group_rows += rows
            if len(self._group) >= GROUP_PARTITIONS or self._group_rows > GROUP_ROWS:
                self.flush()
            return
        self.flush()
        # One by one: what has no day is recorded with the first partition that is committed.
        undated, committed = tuple(result.undated), False
        for partition in result.partitions:
            if self._commit([(result, partition)], undated):
                undated, committed = (), True
        if committed and result.reports is not None:
            result.reports.drop_delivered()

    def _commit(
        self, chosen: Iterable[tuple[ReadResult, Partition]], undated: Sequence[Rejected] = ()
    ) -> list[ReadResult]:
        """Commit partitions; if one cannot be, the others still are. Returns the slices of those committed."""
        entries = [
            (result, partition, entry)
            for result, partition in chosen
            if (entry := self._entry_to_commit(result, partition, undated)) is not None
        ]
        commits = [(result.partitions[partition].writer, entry) for result, partition, entry in entries]
        done = commit_all(self.target, commits)
        return [
            result
            for (result, partition, _), outcome in zip(entries, done, strict=True)
            if self._report_outcome(result, partition, outcome)
        ]

    def _entry_to_commit(
        self, result: ReadResult, partition: Partition, undated: Sequence[Rejected]
    ) -> LedgerEntry | None:
        """The new ledger row of a partition. None if its rows must not replace the former ones."""
        loaded, former = result.partitions[partition], result.planned.entries.get(partition)
        assert loaded.writer is not None
        if former is not None and self._is_newer(former):
            loaded.writer.abort()
            self._keep_newer(partition)
            return None
        error = result.replacement_errors.get(partition)
        if error is None:
            return self._entry(result, partition, undated)
        loaded.writer.abort()
        self._record_failure_of(result.planned, (partition,), error)
        return None

    def _report_outcome(self, result: ReadResult, partition: Partition, done: LedgerEntry | Exception) -> bool:
        """Report a partition that was committed, or the error of its commit. Returns whether it was committed."""
        if isinstance(done, Exception):
            self._record_failure_of(result.planned, (partition,), done)
            return False
        fault_point("partition.delivered")
        self._count(done, result.partitions[partition].counts)
        self.log.delivered(done, result.planned.entries.get(partition))
        self._measures.report_absent(result)
        return True

    def _is_newer(self, former: LedgerEntry) -> bool:
        """Whether what was delivered was read after the responses of the recording that this run reads."""
        if self.context.recorded_until is None or not former.delivered or former.read_at is None:
            return False
        return former.read_at > self.context.recorded_until

    def _keep_newer(self, partition: Partition) -> None:
        """Count a partition as final, whose delivered rows are newer than the recording."""
        self.log.count(partition.stream, planned=-1, final=1)
        text = f"{self.source.name}: what was read after the recording stays as it is"
        if text not in self.context.report.notices:
            self.context.report.notices.append(text)

    def _entry(self, result: ReadResult, partition: Partition, undated: Sequence[Rejected]) -> LedgerEntry:
        planned, counts = result.planned, result.partitions[partition].counts
        former = planned.entries.get(partition)
        rejected = (*counts.rejected, *undated, *counts.derived_rejected)
        imperfect = any(partition.counts.is_imperfect for partition in result.partitions.values())
        closes = open_until(planned.source, planned.stream, partition)
        return LedgerEntry(
            source=self.source.name,
            partition=partition,
            state="delivered",
            run_id=self.context.report.run_id,
            read_at=result.read_at,
            open_until=None if result.undated or result.provisional else closes,
            fingerprint=planned.fingerprint,
            reader_version=planned.reader_version if imperfect or result.undated or result.lost else "",
            rows=counts.rows,
            promised=counts.promised,
            rejected=len(rejected),
            unread_values=counts.unread_values,
            repeated=counts.repeated,
            truncated=result.truncated,
            sums=counts.sums,
            derived_rows=counts.derived_rows,
            version=former.version if former is not None else 0,
            rejected_records=rejected,
            kind=planned.stream.kind,
            replaces=former,
        )

    def _count(self, entry: LedgerEntry, read: PartitionCounts) -> None:
        self._delivered.add(entry.partition.stream)
        self.log.count_delivered(entry, read)

    # --- failures -----------------------------------------------------------------------------------------------------

    def _record_failure_of(
        self, planned: PlannedSlice, partitions: tuple[Partition, ...], error: BaseException
    ) -> None:
        """
        Report a failure and record it in the ledger, unless the run itself was ended. A stream that is not delivered
        has no place in the ledger, nor in the counts of the report.
        """
        if isinstance(error, OutputClosedError):
            self.output_closed = True
            self.context.clock.stop.set()
            return
        if isinstance(error, StoppedError):
            self.context.report.interrupted = True
            return
        if isinstance(error, GeneratorExit):
            return
        if isinstance(error, ParkedError):
            if self.source.name not in self.context.report.parked:
                self.context.report.parked[self.source.name] = str(error)
                self.log.note(str(error), parked=True)
            return
        if isinstance(error, DeadlineReachedError):
            self.context.report.deadline = True
            return
        if not isinstance(error, PenstockError):
            error = self._defect(error)
        if planned.to_deliver:
            self.log.count(planned.stream.name, failed=len(partitions))
        for partition in partitions:
            if planned.to_deliver and self.target.ledger is not None:
                self._failures.append((partition, str(error)))
            self.log.fail(planned.stream.name, partition.as_dict(), error)
        if len(self._failures) >= GROUP_PARTITIONS:
            self._record_failures()

    def _record_failures(self) -> None:
        """Record failures in the ledger: together, or if that fails one by one."""
        failures, self._failures = self._failures, []
        if not failures:
            return
        if isinstance(self.target.ledger, GroupingLedger):
            try:
                self.target.ledger.fail_all(self.source.name, failures, self.context.report.run_id)
            except PenstockError:
                pass  # one text that the ledger cannot hold, or a lost session, which is opened again below
            else:
                return
        for partition, text in failures:
            self._record_failure(partition, text)

    def _record_failure(self, partition: Partition, text: str) -> None:
        """Record a failure in the ledger. If the target is lost, only the report has it."""
        assert self.target.ledger is not None
        try:
            self.target.ledger.fail(self.source.name, partition, text, self.context.report.run_id)
        except PenstockError as gone:
            if str(gone) not in self._unnoted:
                self._unnoted.add(str(gone))
                self.log.note(f"{partition}, and what fails after it, is not recorded in the ledger: {gone}")

    def _defect(self, error: BaseException) -> PenstockError:
        """An unforeseen error of the connector or of penstock. The partition fails; the trace goes to the log."""
        if not isinstance(error, Exception):
            raise error
        trace = mask("".join(traceback.format_exception(error)))
        self.log.event("defect", message=mask(str(error)), trace=trace)
        return defect(error, self.source.connector.name, "--debug shows where.")
