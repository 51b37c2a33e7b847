"""
Comparison of the data in targets with their ledgers.
"""

from collections.abc import Mapping, Sequence
from datetime import date

from attrs import define, evolve, field

from penstock._plugins.sink_calls import open_readonly
from penstock._project.forget import deletions
from penstock._project.setup import Setup
from penstock._project.target_query import Days, SelectedTarget, SourceLedger, TargetQuery, nothing_of
from penstock._run.context import new_run_id
from penstock.connector import Stream
from penstock.errors import PenstockError, UsageError
from penstock.ledger import DeliveredEntries
from penstock.ledger_interface import LedgerEntry
from penstock.model import Partition
from penstock.names import counted
from penstock.results import Deleted, DifferenceInfo, VerifyResult
from penstock.sinks import Difference, Target, Verifiable

MARKED, POSSIBLE, UNCOUNTED = "marked", "possible", "uncounted"


def verify(query: TargetQuery, days: Days, *, repair: bool) -> VerifyResult:
    """
    Compare every delivered partition of the window with its ledger row, and name what a target holds of others.

    ``repair``: take the source's lock, and delete the ledger rows of partitions that differ and that the provider still
    serves, so that they are missing. Partitions whose rows ``forget`` deleted are listed, and never marked. Raises
    UsageError if nothing can be compared. A target of several that cannot be used is left out, and so is a stream that
    cannot be looked at: the exit code is 1.
    """
    verification = _Verification(query, days, repair=repair, today=query.clock.now().date())
    for selected in query.targets:
        with query.leaving_out(selected):
            if not selected.keeps_ledger:
                if len(query.targets) == 1:
                    raise UsageError(f"{selected.no_ledger_text}. There is nothing to compare it with")
                query.notices.add(selected.no_ledger_text)
                continue
            for source in _sources(query.setup, selected):
                if (target := _open(query, selected, source, repair=repair)) is None:
                    continue
                try:
                    verification.add(selected.sink.name, source, target)
                finally:
                    target.close()
    return VerifyResult(
        partitions=verification.partitions,
        differences=tuple(verification.differences),
        deleted=tuple(verification.deleted),
        exit_code=int(bool(verification.differences)),
    )


def _sources(setup: Setup, selected: SelectedTarget) -> Sequence[str]:
    """The sources to look at: those in the ledger, and those that ran, of which all may be forgotten."""
    if selected.sources is not None:
        return selected.sources
    target = open_readonly(selected.sink.open(), "")
    if target is None or target.ledger is None:
        return ()
    try:
        ledger = target.ledger
        in_ledger = dict.fromkeys(source for source, _ in ledger.sources())
        return (*in_ledger, *(name for name in setup.config.sources if name not in in_ledger and ledger.runs(name, 1)))
    finally:
        target.close()


def _open(query: TargetQuery, selected: SelectedTarget, source: str, *, repair: bool) -> Target | None:
    sink = selected.sink.open()
    target = open_readonly(sink, source)
    if target is None or not repair:
        return target
    target.close()
    return sink.open(source, new_run_id(query.clock.now()))


@define(eq=False)
class _Verification:
    """What was found so far, in all targets."""

    query: TargetQuery
    days: Days
    repair: bool = field(kw_only=True)
    today: date = field(kw_only=True)
    partitions: int = field(default=0, init=False)
    differences: list[DifferenceInfo] = field(factory=list, init=False)
    deleted: list[Deleted] = field(factory=list, init=False)

    def add(self, target_name: str, source: str, target: Target) -> None:
        """Compare a source in a target. A stream that cannot be looked at is left out."""
        ledger = target.ledger
        if ledger is None:
            raise UsageError(f"{target_name} keeps no ledger, so that there is nothing to compare it with")
        if not isinstance(target, Verifiable):
            raise UsageError(
                f"{target_name} cannot be compared with its ledger: its rows cannot be read back from here"
            )
        declared, absent = _declared(self.query.setup, source)
        own_rows = [stream.name for stream in declared.values() if stream.derived is None]
        source_ledger = SourceLedger(target_name, source, ledger)
        for stream in dict.fromkeys([*source_ledger.streams, *own_rows]):
            empty = _nothing(source, stream, declared) if stream in own_rows else None
            differences = self._compare_and_count(source_ledger, target, stream, empty)
            self._add_stream(
                source_ledger, stream, differences, _repairs(differences, declared.get(stream), absent, self.today)
            )
        self._add_deletions(source_ledger)

    def _compare_and_count(
        self, source_ledger: SourceLedger, target: Verifiable, stream: str, empty: LedgerEntry | None
    ) -> list[Difference]:
        """
        Compare a stream, and count its partitions. The differences, without those in what a run was writing when it
        ended; none where the stream cannot be looked at.
        """
        target_name, source = source_ledger.target_name, source_ledger.source
        entries = source_ledger.delivered(stream, self.days)
        try:
            differences = self._compare(target, stream, entries, empty)
        except PenstockError as error:
            self.query.failed[f"{target_name} {source}.{stream}"] = str(error)
            self.query.notices.add(f"{source}.{stream} was not compared: {error}")
            return []
        self.partitions += len(entries)
        if unsettled := entries.unsettled:
            self.query.notices.add(
                f"{source}.{stream}: {counted(len(unsettled), 'partition')} not compared: a run ended while it "
                "wrote them, and the next run settles that"
            )
        return [difference for difference in differences if difference.partition not in unsettled]

    def _add_deletions(self, source_ledger: SourceLedger) -> None:
        """Add the partitions whose rows ``forget`` deleted, without those that differ."""
        target_name, source = source_ledger.target_name, source_ledger.source
        differing = {
            Partition(difference.stream, tuple(difference.partition.items()))
            for difference in self.differences
            if (difference.target, difference.source) == (target_name, source)
        }
        self.deleted += [
            Deleted(
                target=target_name,
                source=source,
                stream=partition.stream,
                partition=partition.as_dict(),
                rows=deletion.rows[0],
                deleted_at=deletion.restated_at,
            )
            for partition, deletion in sorted(deletions(source_ledger, self.days).items())
            if partition not in differing
        ]

    def _compare(
        self, target: Verifiable, stream: str, entries: DeliveredEntries, empty: LedgerEntry | None
    ) -> list[Difference]:
        """
        The differences of a stream, one for each partition, on the days that are looked at. ``empty``: the entry to
        compare with where the ledger has no delivery.
        """
        since, until = self.days.since, self.days.until
        differing: dict[Partition, Difference] = {}
        for difference in target.verify(stream, entries, since=since, until=until):
            differing.setdefault(difference.partition, difference)
        if not len(entries) and empty is not None:
            for difference in target.verify(stream, [empty], since=since, until=until):
                differing.setdefault(difference.partition, evolve(difference, uncounted=True))
        return [difference for difference in differing.values() if self.days.contains(difference.partition)]

    def _add_stream(
        self, source_ledger: SourceLedger, stream: str, differences: Sequence[Difference], repairs: dict[Partition, str]
    ) -> None:
        """Add what differs, and let the next run read it again, if that is possible and demanded."""
        if self.repair:
            marked = [partition for partition, text in repairs.items() if text == POSSIBLE]
            source_ledger.mark_missing(stream, marked)
            repairs |= dict.fromkeys(marked, MARKED)
        self.differences += [
            DifferenceInfo(
                target=source_ledger.target_name,
                source=source_ledger.source,
                stream=stream,
                partition=difference.partition.as_dict(),
                what=difference.what,
                repair=repairs[difference.partition],
            )
            for difference in sorted(differences, key=lambda difference: difference.partition)
        ]


def _declared(setup: Setup, source: str) -> tuple[dict[str, Stream], str]:
    """The streams of a source by name. Where they are not known here, none, and why."""
    try:
        streams = setup.registry.streams(setup.config.connector_of(source))
    except PenstockError as error:
        return {}, f"the source is not configured here: {error}"
    return {stream.name: stream for stream in streams}, ""


def _nothing(source: str, name: str, declared: Mapping[str, Stream]) -> LedgerEntry:
    """See :func:`nothing_of`."""
    stream = declared[name]
    derived = [other.name for other in declared.values() if other.derived is not None and other.derived.stream == name]
    return nothing_of(source, name, stream.partition_columns, stream.day, derived)


def _repairs(
    differences: Sequence[Difference], declared: Stream | None, absent: str, today: date
) -> dict[Partition, str]:
    """By partition of a stream: that it can be read again, or why it cannot. ``absent``: why no stream is known."""
    unknown = absent or ("the connector has no such stream any more" if declared is None else "")
    first = declared.earliest(today) if declared is not None and declared.earliest is not None else None
    repairs = {}
    for difference in differences:
        day = difference.partition.day
        gone = first is not None and day is not None and day < first
        text = unknown or (f"the provider serves days from {first} on" if gone else POSSIBLE)
        repairs[difference.partition] = UNCOUNTED if difference.uncounted else text
    return repairs
