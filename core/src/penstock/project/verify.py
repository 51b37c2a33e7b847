"""
Comparison of the data in targets with their ledgers.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime

from penstock._run.context import run_id
from penstock._util.text import counted
from penstock.errors import PenstockError, UsageError
from penstock.model import Partition
from penstock.project.forget import deleted
from penstock.project.results import Deleted, Difference, VerifyResult
from penstock.project.setup import Notice, Setup
from penstock.project.targets import Days, Viewed, leaving_out, targets
from penstock.sinks import Discrepancy, Ledger, Target, Verifiable

MARKED, POSSIBLE, UNCOUNTED = "marked", "possible", "uncounted"


def verify(
    setup: Setup, name: str | None, to: str | None, days: Days, notice: Notice, *, repair: bool, today: date
) -> VerifyResult:
    """
    Compare every delivered partition of the window with its ledger row, and name what a target holds of others.

    ``repair``: take the source's lock, and delete the ledger rows of partitions that differ and that the provider still
    serves, so that they are missing. Partitions whose rows ``forget`` deleted are listed, and never marked. Raises
    UsageError if nothing can be compared. Of several targets, one that cannot be used is left out: the exit code is 1.
    """
    partitions, found, gone = 0, [], []
    left: dict[str, str] = {}
    chosen = targets(setup, name, to, notice)
    for viewed in chosen:
        with leaving_out(viewed, len(chosen) > 1, left, notice):
            for source in _sources(viewed):
                target = _opened(viewed, source, repair=repair)
                if target is None:
                    continue
                try:
                    count, differences = _of_source(
                        setup, viewed, source, target, days, notice, repair=repair, today=today
                    )
                    gone += _deleted(viewed, source, target, days)
                finally:
                    target.close()
                partitions += count
                found += differences
    return VerifyResult(
        partitions=partitions, differences=tuple(found), deleted=tuple(gone), exit_code=int(bool(found or left))
    )


def _sources(viewed: Viewed) -> Sequence[str]:
    if viewed.sources is not None:
        return viewed.sources
    view = viewed.sink.open().open_readonly("")
    if view is None or view.ledger is None:
        return ()
    try:
        return tuple(dict.fromkeys(source for source, _ in view.ledger.sources()))
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
    notice: Notice,
    *,
    repair: bool,
    today: date,
) -> tuple[int, list[Difference]]:
    ledger, shown = target.ledger, viewed.sink.shown
    if ledger is None or not isinstance(target, Verifiable):
        raise UsageError(f"{shown} keeps no ledger, so that there is nothing to compare it with")
    partitions, found = 0, []
    for stream in [name for owner, name in ledger.sources() if owner == source]:
        known = ledger.entries(source, stream, since=days.since, until=days.until)
        held = [entry for partition, entry in known.items() if days.holds(partition)]
        entries = [entry for entry in held if entry.state == "delivered"]
        unsettled = {entry.partition for entry in held if entry.state in ("intended", "staged")}
        if unsettled:
            notice(
                f"{source}.{stream}: {counted(len(unsettled), 'partition')} not compared: a run ended while it wrote "
                "them, and the next run settles that"
            )
        partitions += len(entries)
        differing: dict[Partition, Discrepancy] = {}
        for one in target.verify(stream, entries):
            differing.setdefault(one.partition, one)
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


def _deleted(viewed: Viewed, source: str, target: Target, days: Days) -> list[Deleted]:
    assert target.ledger is not None
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
        if days.holds(partition)
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
