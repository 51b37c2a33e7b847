"""
Measures that the provider stopped sending, so that amounts would be null without a word: see decision 40.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal

from attrs import define, field

from penstock._read.result import ReadResult
from penstock._run_report.log import RunLog
from penstock.ledger_interface import Ledger
from penstock.names import nearest

LOOKED_BACK = timedelta(days=40)  # for earlier readings of a measure that no record has


@define(eq=False, repr=False)
class MissingMeasures:
    """
    The measures of a source's streams, over one run. A missing one goes into the run report; for one that no record has
    and that has a likely new name, there is a note: the first run of a target has no earlier reading that shows the
    loss.
    """

    ledger: Ledger | None
    log: RunLog
    _former: dict[str, frozenset[str]] = field(factory=dict, init=False)  # stream -> measures of former runs
    _present_from: dict[tuple[str, str], date] = field(factory=dict, init=False)  # by stream and measure
    _absent_on: dict[tuple[str, str], tuple[date, tuple[str, ...]]] = field(factory=dict, init=False)  # latest days

    def add(self, result: ReadResult) -> ReadResult:
        """
        Record from which day on this run has each measure, and which days have none: days come in any order, and those
        of a group are not in the ledger yet. Returns the result with its missing measures: those that no record of the
        slice has, that earlier readings in the target have, and in place of which there are unknown members. The
        provider has probably renamed theirs.
        """
        missing = result.absent & self._former_measures(result) if result.absent else result.absent
        stream, days = result.planned.stream.name, result.planned.slice.days
        for partition, loaded in result.partitions.items():
            if not loaded.counts.sums or (day := partition.day) is None:
                continue
            for name in _with_amounts(loaded.counts.sums):
                self._present_from[stream, name] = min(day, self._present_from.get((stream, name), day))
        if days:
            for name in result.absent:
                self._absent_on[stream, name] = max(
                    self._absent_on.get((stream, name), (days[0], ())), (days[0], tuple(result.unknown))
                )
        return result._replace(missing=missing) if missing else result

    def _former_measures(self, result: ReadResult) -> frozenset[str]:
        """The measures that earlier readings of the stream in the target have; looked for once per run."""
        stream, days = result.planned.stream.name, result.planned.slice.days
        if stream not in self._former:
            since = days[0] - LOOKED_BACK if days else None
            entries = self.ledger.entries(self.log.source, stream, since=since) if self.ledger is not None else {}
            self._former[stream] = frozenset(name for entry in entries.values() for name in _with_amounts(entry.sums))
        return self._former[stream]

    def report_absent(self, result: ReadResult) -> None:
        """After a commit: report the missing measures of a slice, and log the others that no record has."""
        stream = result.planned.stream.name
        counts = self.log.stream(stream)
        counts.missing_measures |= dict.fromkeys(sorted(result.missing), tuple(result.unknown))
        for name in sorted(result.absent - result.missing):
            near = nearest(name, result.unknown)
            if near is not None:
                text = f"{stream}: no record has {name}; there is {near}, which no column reads"
                self.log.note_once((stream, name), text)

    def count(self) -> None:
        """After the last commit: count the measures that earlier days of this run have, and later ones have not."""
        for (stream, name), (day, unknown) in self._absent_on.items():
            first = self._present_from.get((stream, name))
            if first is not None and first < day and self.ledger is not None:
                self.log.stream(stream).missing_measures.setdefault(name, unknown)


def _with_amounts(sums: Mapping[str, Decimal]) -> set[str]:
    """The measures that have an amount, without their currency."""
    return {name.partition("[")[0] for name, amount in sums.items() if amount}
