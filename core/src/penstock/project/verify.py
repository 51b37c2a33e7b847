"""
Comparison of the data in targets with their ledgers.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

from attrs import evolve

from penstock._run.context import run_id
from penstock._util.text import counted
from penstock.errors import PenstockError, UsageError
from penstock.model import Partition
from penstock.project.forget import deleted
from penstock.project.results import Deleted, Difference, VerifyResult
from penstock.project.setup import Notice, Setup
from penstock.project.targets import Days, Viewed, leaving_out, nothing_of, targets
from penstock.sinks import Discrepancy, Ledger, LedgerEntry, Target, Verifiable

AT_ONCE = 10_000  # rows of a ledger

MARKED, POSSIBLE, UNCOUNTED = "marked", "possible", "uncounted"


def verify(
    setup: Setup, name: str | None, to: str | None, days: Days, notice: Notice, *, repair: bool, today: date
) -> VerifyResult:
    """
    Compare every delivered partition of the window with its ledger row, and name what a target holds of others.

    ``repair``: take the source's lock, and delete the ledger rows of partitions that differ and that the provider still
    serves, so that they are missing. Partitions whose rows ``forget`` deleted are listed, and never marked. Raises
    UsageError if nothing can be compared. Of several targets, one that cannot be used is left out, and so is a stream
    that cannot be looked at: the exit code is 1.
    """
    partitions, found, gone = 0, [], []
    left: dict[str, str] = {}
    chosen = targets(setup, name, to, notice)
    for viewed in chosen:
        with leaving_out(viewed, len(chosen) > 1, left, notice):
            for source in _sources(setup, viewed):
                target = _opened(viewed, source, repair=repair)
                if target is None:
                    continue
                try:
                    count, differences = _of_source(
                        setup, viewed, source, target, days, left, notice, repair=repair, today=today
                    )
                    gone += _deleted(viewed, source, target, days, differences)
                finally:
                    target.close()
                partitions += count
                found += differences
    return VerifyResult(
        partitions=partitions, differences=tuple(found), deleted=tuple(gone), exit_code=int(bool(found or left))
    )


def _sources(setup: Setup, viewed: Viewed) -> Sequence[str]:
    """The sources to look at: those in the ledger, and those that ran, of which all may be forgotten."""
    if viewed.sources is not None:
        return viewed.sources
    view = viewed.sink.open().open_readonly("")
    if view is None or view.ledger is None:
        return ()
    try:
        known = dict.fromkeys(source for source, _ in view.ledger.sources())
        return (*known, *(name for name in setup.config.sources if name not in known and view.ledger.runs(name, 1)))
    finally:
        view.close()


def _opened(viewed: Viewed, source: str, *, repair: bool) -> Target | None:
    sink = viewed.sink.open()
    view = sink.open_readonly(source)
    if view is None or not repair:
        return view
    view.close()
    return sink.open(source, run_id(datetime.now(UTC)))


def _of_source(
    setup: Setup,
    viewed: Viewed,
    source: str,
    target: Target,
    days: Days,
    left: dict[str, str],
    notice: Notice,
    *,
    repair: bool,
    today: date,
) -> tuple[int, list[Difference]]:
    """``left`` gets the error of a stream that cannot be looked at; the others are compared."""
    ledger, shown = target.ledger, viewed.sink.shown
    if ledger is None or not isinstance(target, Verifiable):
        raise UsageError(f"{shown} keeps no ledger, so that there is nothing to compare it with")
    partitions, found = 0, []
    declared = _declared(setup, source)
    for stream in dict.fromkeys([*(name for owner, name in ledger.sources() if owner == source), *declared]):
        entries = DeliveredEntries(ledger, source, stream, days)
        differing: dict[Partition, Discrepancy] = {}
        try:
            for one in target.verify(stream, entries):
                differing.setdefault(one.partition, one)
            if not len(entries):
                for one in target.verify(stream, declared.get(stream, [])):
                    differing.setdefault(one.partition, evolve(one, uncounted=True))
        except PenstockError as error:
            left[f"{shown} {source}.{stream}"] = str(error)
            notice(f"{source}.{stream} was not compared: {error}")
            continue
        partitions += len(entries)
        unsettled = entries.unsettled
        if unsettled:
            notice(
                f"{source}.{stream}: {counted(len(unsettled), 'partition')} not compared: a run ended while it wrote "
                "them, and the next run settles that"
            )
        differing = {
            partition: one
            for partition, one in differing.items()
            if days.holds(partition) and partition not in unsettled
        }
        reasons = _reasons(setup, source, stream, list(differing), today)
        reasons |= {partition: UNCOUNTED for partition, one in differing.items() if one.uncounted}
        if repair:
            _mark(ledger, source, stream, [partition for partition in differing if reasons[partition] == POSSIBLE])
        found += [
            Difference(
                target=shown,
                source=source,
                stream=stream,
                partition=partition.as_dict(),
                what=one.what,
                repair=MARKED if repair and reasons[partition] == POSSIBLE else reasons[partition],
            )
            for partition, one in sorted(differing.items())
        ]
    return partitions, found


def _declared(setup: Setup, source: str) -> dict[str, list[LedgerEntry]]:
    """What :func:`nothing_of` is for each stream with rows of its own; none where the source is not configured here."""
    try:
        streams = setup.registry.streams(setup.config.connector_of(source))
    except PenstockError:
        return {}
    derived = [(one.derived.stream, one.name) for one in streams if one.derived is not None]
    return {
        one.name: [
            nothing_of(
                source,
                one.name,
                one.partition_columns,
                one.day,
                [name for parent, name in derived if parent == one.name],
            )
        ]
        for one in streams
        if one.derived is None
    }


class DeliveredEntries(Sequence[LedgerEntry]):
    """
    The delivered partitions of a window, in the order of their days. They are read from the ledger some days at a time,
    again with each iteration, so that a long history is not in memory. ``unsettled``: what a run was writing when it
    ended; known after the first iteration.
    """

    def __init__(self, ledger: Ledger, source: str, stream: str, days: Days) -> None:
        self._ledger, self._source, self._stream, self._days = ledger, source, stream, days
        self._count: int | None = None
        self.unsettled: set[Partition] = set()

    def __iter__(self) -> Iterator[LedgerEntry]:
        count = 0
        for number, (since, until) in enumerate(self._parts()):
            for partition, entry in self._ledger.entries(self._source, self._stream, since=since, until=until).items():
                if (number and partition.day is None) or not self._days.holds(partition):
                    continue  # what has no day is in each part
                if entry.state == "delivered":
                    count += 1
                    yield entry
                elif entry.state in ("intended", "staged"):
                    self.unsettled.add(partition)
        self._count = count

    def _parts(self) -> Iterator[tuple[date | None, date | None]]:
        """Windows of some ``AT_ONCE`` rows each."""
        since, until = self._days.since, self._days.until
        counts = self._ledger.counts(self._source, self._stream)
        days = [day for one in counts for day in (one.first_day, one.last_day) if day is not None]
        if not days:
            yield since, until
            return
        a_part = timedelta(days=AT_ONCE * (max(days) - min(days)).days // sum(one.partitions for one in counts))
        first, last = max(min(days), since or date.min), min(max(days), until or date.max)
        while first + a_part < last:
            yield first, first + a_part
            first += a_part + timedelta(days=1)
        yield first, last

    def __len__(self) -> int:
        if self._count is None:
            deque(self, maxlen=0)
        return self._count or 0

    def __bool__(self) -> bool:
        return any(True for _ in self)

    def __getitem__(self, index: Any) -> Any:
        return next(islice(self, index, None)) if isinstance(index, int) and index >= 0 else list(self)[index]


def _deleted(
    viewed: Viewed, source: str, target: Target, days: Days, differences: Sequence[Difference]
) -> list[Deleted]:
    """The partitions that ``forget --rows`` deleted, and that have no rows again."""
    assert target.ledger is not None
    again = [(one.stream, one.partition) for one in differences]
    return [
        Deleted(
            target=viewed.sink.shown,
            source=source,
            stream=partition.stream,
            partition=partition.as_dict(),
            rows=one.rows[0],
            deleted_at=one.restated_at,
        )
        for partition, one in sorted(deleted(target.ledger, source).items())
        if days.holds(partition) and (partition.stream, partition.as_dict()) not in again
    ]


def _mark(ledger: Ledger, source: str, stream: str, partitions: Sequence[Partition]) -> None:
    """Let the next run read these partitions again, without adopting a pending report."""
    for report in ledger.pending(source, stream):
        if any(partition in partitions for partition in report.partitions):
            ledger.drop(report)
    ledger.forget(source, partitions)


def _reasons(
    setup: Setup, source: str, stream: str, partitions: Sequence[Partition], today: date
) -> dict[Partition, str]:
    """For each partition, ``POSSIBLE``, or the reason why it cannot be read again."""
    try:
        streams = setup.registry.streams(setup.config.connector_of(source))
    except PenstockError as error:
        return dict.fromkeys(partitions, f"the source is not configured here: {error}")
    declared = next((one for one in streams if one.name == stream), None)
    if declared is None:
        return dict.fromkeys(partitions, "the connector has no such stream any more")
    floor = declared.earliest(today) if declared.earliest is not None else None
    found = {}
    for partition in partitions:
        day = partition.day
        gone = floor is not None and day is not None and day < floor
        found[partition] = f"the provider serves days from {floor} on" if gone else POSSIBLE
    return found
