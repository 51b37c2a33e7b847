"""
Commit the results of reads: :meth:`Committer.commit` puts them in order, ``_commit`` has the steps of a commit.
"""

from collections.abc import Iterable, Sequence

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._plan.finality import open_until
from penstock._plan.plan import PlannedSlice, StreamAccount
from penstock._plugins.plugin_errors import sink_error, sink_errors
from penstock._plugins.sink_calls import has_own
from penstock._read.result import PartitionResult, ReadResult
from penstock._run.context import RunContext
from penstock._run.failures import Failures
from penstock._run.missing_measures import MissingMeasures
from penstock._run.replacement import KeptFormer, kept_former
from penstock._run_report.log import RunLog
from penstock.errors import PenstockError, check_returned, wrong_return
from penstock.fault_points import fault_point
from penstock.ledger_interface import LedgerEntry
from penstock.model import Rejected
from penstock.sinks import Target, Writer

# The most of a group, which the ledger records in one transaction.
GROUP_PARTITIONS = 64
GROUP_ROWS = 5000


@define(eq=False, repr=False)
class CommitOrder:
    """
    The slices of ``changes`` that are not committed, in the order of their days, and the results that wait for an
    earlier one: a row read with an older day must not overwrite the same row read with a newer one.
    """

    _expected: dict[StreamAccount, list[PlannedSlice]] = field(factory=dict, init=False)
    _waiting: dict[PlannedSlice, ReadResult] = field(factory=dict, init=False)

    def expect(self, slices: Iterable[PlannedSlice]) -> None:
        """Register slices of ``changes`` before they are read, in the order of their days."""
        for planned in slices:
            self._expected.setdefault(planned.stream_account, []).append(planned)

    def after_read(self, result: ReadResult) -> list[ReadResult]:
        """The results to commit now that this one is there, in order."""
        if result.planned.stream.kind != "changes":
            return [result]
        self._waiting[result.planned] = result
        return self._ready(result.planned.stream_account)

    def after_failure(self, planned: PlannedSlice) -> list[ReadResult]:
        """The results to commit now that this slice has failed, in order."""
        expected = self._expected.get(planned.stream_account, [])
        if planned not in expected:
            return []
        expected.remove(planned)
        return self._ready(planned.stream_account)

    def _ready(self, stream_account: StreamAccount) -> list[ReadResult]:
        expected, ready = self._expected[stream_account], list[ReadResult]()
        while expected and expected[0] in self._waiting:
            ready.append(self._waiting.pop(expected.pop(0)))
        return ready


def _partitions_of(result: ReadResult) -> list[PartitionResult]:
    return [PartitionResult(result, partition, loaded) for partition, loaded in result.partitions.items()]


@define(eq=False, repr=False)
class CommitGroup:
    """The partitions that wait to be committed together."""

    partitions: list[PartitionResult] = field(factory=list, init=False)
    _rows: int = field(default=0, init=False)

    def add(self, result: ReadResult, rows: int) -> None:
        """Add the partitions of a read, which have so many rows."""
        self.partitions += _partitions_of(result)
        self._rows += rows

    @property
    def is_full(self) -> bool:
        return len(self.partitions) >= GROUP_PARTITIONS or self._rows > GROUP_ROWS

    def take(self) -> list[PartitionResult]:
        """The partitions of the group, which is empty afterwards."""
        partitions, self.partitions, self._rows = self.partitions, [], 0
        return partitions


@define(eq=False, repr=False)
class Committer:
    """The target's side of one job: commits and failures, each with its part in the report of the run."""

    source: ConfiguredSource
    target: Target
    log: RunLog
    context: RunContext
    failures: Failures = field(init=False)
    _missing_measures: MissingMeasures = field(init=False)
    _order: CommitOrder = field(factory=CommitOrder, init=False)
    _group: CommitGroup = field(factory=CommitGroup, init=False)
    _delivered: set[str] = field(factory=set, init=False)  # streams
    _groups_commits: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.failures = Failures(
            self.source.connector.name, self.target.ledger, self.log, self.context, GROUP_PARTITIONS
        )
        self._missing_measures = MissingMeasures(self.target.ledger, self.log)
        self._groups_commits = has_own(self.target, "commit_group")

    def expect(self, slices: Sequence[PlannedSlice]) -> None:
        """Register the slices of a stream that will be committed, before they are read; days ascending."""
        self._order.expect([planned for planned in slices if planned.stream.kind == "changes"])

    def commit(self, result: ReadResult) -> None:
        """
        Commit the result of a read, and those that waited for it. A day of ``changes`` waits until those before it are
        committed or have failed; small partitions wait for others to be committed with them.
        """
        self._commit_each(self._order.after_read(self._missing_measures.add(result)))

    def fail(self, planned: PlannedSlice, error: BaseException) -> None:
        """Record a failed read, and commit the days that waited for it."""
        self.failures.add(planned, planned.partitions, error)
        self._commit_each(self._order.after_failure(planned))

    def flush(self) -> None:
        """Commit and record what waits for others. Called when the run would wait, and at its end."""
        _drop_reports(self._commit(self._group.take()))
        self.failures.flush()

    def count_rejected(self, result: ReadResult) -> None:
        """
        Count the rejected records of a parent stream that is not delivered itself. Their children were not requested.
        The ledger has no row for them, so a note names the first.
        """
        rejected = [
            *result.undated,
            *(record for loaded in result.partitions.values() for record in loaded.counts.rejected),
        ]
        if rejected:
            stream = result.planned.stream.name
            self.log.count(stream, rejected=len(rejected))
            self.log.note(
                f"{stream}, read for other streams: {len(rejected)} rejected, so that nothing was requested by them; "
                f"the first because {rejected[0].path}: {rejected[0].reason}"
            )

    def count_of_other_worker(self, entries: Iterable[LedgerEntry], *, count_as_planned: bool = True) -> None:
        """
        Count what another worker of this run delivered, which is not here any more to report it.
        ``count_as_planned``: it was not counted as planned yet.
        """
        for entry in entries:
            self._delivered.add(entry.partition.stream)
            self.log.count_delivered(entry, ())
            self.log.count(entry.partition.stream, planned=int(count_as_planned))

    def finish(self) -> None:
        """After the last read: let the target complete its streams."""
        self.flush()
        self._missing_measures.count()
        for name in sorted(self._delivered):
            counts = self.log.stream(name)
            if self.target.whole_stream and counts.delivered < counts.planned:
                self.context.run_report.add_notices(
                    f"{self.source.name}.{name}: only {counts.delivered} of {counts.planned} partitions were read, and "
                    f"a target that remembers nothing is written whole or not at all: it was left as it was"
                )
                continue
            self.complete(name)

    def complete(self, stream: str) -> None:
        """Let the target complete a stream, or report why it cannot."""
        try:
            with sink_errors(type(self.target).__name__):
                self.target.finish(stream)
        except PenstockError as error:
            self.log.fail(stream, None, error)
            self.log.count(stream, failed=1)

    # --- commits ------------------------------------------------------------------------------------------------------

    def _commit_each(self, results: Iterable[ReadResult]) -> None:
        for result in results:
            rows = sum([loaded.counts.rows for loaded in result.partitions.values()])
            # A read of more rows gains nothing by waiting for others, and undated records are recorded with the first
            # of its partitions that is committed.
            if self._groups_commits and rows <= GROUP_ROWS and not result.undated:
                self._group.add(result, rows)
                if self._group.is_full:
                    self.flush()
            else:
                self.flush()
                self._commit_alone(result)

    def _commit_alone(self, result: ReadResult) -> None:
        """Commit partitions one by one; the first that is committed has the undated records."""
        committed: list[ReadResult] = []
        for partition_result in _partitions_of(result):
            committed += self._commit([partition_result], () if committed else result.undated)
        _drop_reports(committed)

    def _commit(self, partitions: Iterable[PartitionResult], undated: Sequence[Rejected] = ()) -> list[ReadResult]:
        """
        Commit partitions, in four steps; if one cannot be, the others still are. Returns the reads of those committed.
        """
        replacing: list[PartitionResult] = []
        now, recorded_until, ledger = self.context.clock.now(), self.context.recorded_until, self.target.ledger
        # 1. Check that the rows may replace the former ones.
        for partition_result in partitions:
            kept = kept_former(partition_result, now, recorded_until, ledger)
            if kept is None:
                replacing.append(partition_result)
            else:
                self._keep_former(partition_result, kept)
        # 2. Make the new ledger rows.
        entries = [self._entry(partition_result, undated) for partition_result in replacing]
        writers = [partition_result.loaded.writer for partition_result in replacing]
        # 3. Commit rows and ledger row in one step.
        results = self._commit_rows(list(zip(writers, entries, strict=True)))
        committed: list[ReadResult] = []
        # 4. Log what became of it.
        for partition_result, entry, result in zip(replacing, entries, results, strict=True):
            if isinstance(result, Exception):
                error = sink_error(result, type(self.target).__name__)
                self.failures.add(partition_result.read_result.planned, (partition_result.partition,), error)
            else:
                self._log_delivered(partition_result, result, entry.replaces)
                committed.append(partition_result.read_result)
        return committed

    def _commit_rows(self, commits: Sequence[tuple[Writer | None, LedgerEntry]]) -> Sequence[LedgerEntry | Exception]:
        """See :meth:`penstock.sinks.Target.commit_group`. What it raises is the error of each partition."""
        if not commits:
            return ()
        commit_group, correct = self.target.commit_group, "a ledger entry or an error for each writer"
        try:
            with sink_errors(type(self.target).__name__):
                results = list(check_returned(commit_group, commit_group(commits), Iterable, correct))
            if wrong := [result for result in results if not isinstance(result, (LedgerEntry, Exception))]:
                raise wrong_return(commit_group, wrong[0], correct)
        except Exception as error:
            return [error] * len(commits)
        return results

    # --- 1: what may not be replaced ----------------------------------------------------------------------------------

    def _keep_former(self, partition_result: PartitionResult, kept: KeptFormer) -> None:
        """Drop the new rows of a partition. It fails, or is counted as final where the delivered ones are better."""
        if (error := partition_result.loaded.abort(type(self.target).__name__)) is not None:
            self.log.note(f"{partition_result.partition}: {error}")
        if kept.error is not None:
            self.failures.add(partition_result.read_result.planned, (partition_result.partition,), kept.error)
            return
        self.log.count(partition_result.partition.stream, planned=-1, final=1)
        self.context.run_report.add_notices(kept.notice)

    # --- 2: the ledger row --------------------------------------------------------------------------------------------

    def _entry(self, partition_result: PartitionResult, undated: Sequence[Rejected]) -> LedgerEntry:
        result, partition, loaded = partition_result
        planned, counts = result.planned, loaded.counts
        former = planned.entries.get(partition)
        rejected = (*counts.rejected, *undated, *counts.derived_rejected)
        closes = open_until(planned.source, planned.stream, partition)
        return LedgerEntry(
            source=self.source.name,
            partition=partition,
            state="delivered",
            run_id=self.context.run_report.run_id,
            read_at=result.read_at_within(closes),
            open_until=None if result.stays_open else closes,
            fingerprint=planned.fingerprint,
            reader_version=planned.reader_version if result.is_imperfect or result.missing else "",
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

    # --- 4: what became of it -----------------------------------------------------------------------------------------

    def _log_delivered(self, partition_result: PartitionResult, entry: LedgerEntry, former: LedgerEntry | None) -> None:
        fault_point("partition.delivered")
        self._delivered.add(entry.partition.stream)
        counts = partition_result.loaded.counts
        self.log.count_delivered(entry, counts.derived_rejected)
        if counts.replaced:
            self.log.count_replaced(entry.partition.stream, counts.replaced, counts.replaced_example)
        self.log.log_delivered(entry, former)
        if partition_result.read_result.absent:
            self._missing_measures.report_absent(partition_result.read_result)


def _drop_reports(committed: Iterable[ReadResult]) -> None:
    """Drop the reports on demand of these reads, of which no partition waits any more; later runs adopt the others."""
    for on_demand in {result.on_demand for result in committed}:
        if on_demand is not None:
            on_demand.drop_delivered()
