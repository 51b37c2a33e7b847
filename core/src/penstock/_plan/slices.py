"""
Slices: the partitions to read of an account, those of one request together.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from penstock._plan.account_views import StreamView
from penstock._plan.clock_bounds import slice_bounds
from penstock._plan.open_partitions import AccountPlan
from penstock._plan.plan import PlannedSlice, Reason
from penstock.ledger_interface import LedgerEntry, PendingReport
from penstock.model import Partition, Slice


def slices_of(
    view: StreamView, account: str | None, plan: AccountPlan, now: datetime, *, to_deliver: bool
) -> list[PlannedSlice]:
    """The slices of one account, days ascending. ``to_deliver``: see PlannedSlice."""
    partitions = list(plan.to_read)
    if view.stream.kind == "snapshot":
        groups = [partitions] if partitions else []
    else:
        days_per_request = view.source.days_per_request(view.stream)
        groups = grouped(partitions, plan.rows.reports.get(account, ()), days_per_request)
    return [
        _slice(
            view,
            account,
            {partition: plan.to_read[partition] for partition in group},
            plan.rows.entries,
            now,
            to_deliver=to_deliver,
        )
        for group in groups
    ]


def _slice(
    view: StreamView,
    account: str | None,
    reasons: Mapping[Partition, Reason],
    entries: Mapping[Partition, LedgerEntry],
    now: datetime,
    *,
    to_deliver: bool,
) -> PlannedSlice:
    stream = view.stream
    days = () if stream.kind == "snapshot" else tuple(filter(None, (partition.day for partition in reasons)))
    start, end = slice_bounds(stream, days, view.source.zone, now)
    return PlannedSlice(
        stream=stream,
        partitions=tuple(reasons),
        reasons=tuple(reasons.values()),
        slice=Slice(now=now, account=account, days=days, start=start, end=end),
        source=view.source,
        fingerprint=view.fingerprint,
        reader_version=view.reader_version,
        to_deliver=to_deliver,
        entries={partition: entries[partition] for partition in reasons if partition in entries},
    )


def grouped(
    to_read: Sequence[Partition], reports: Iterable[PendingReport], days_per_request: int
) -> list[list[Partition]]:
    """
    An account's days to read as runs of consecutive ones, at most ``days_per_request`` long; days of a report that is
    already under way stay together as they were submitted. Days ascend, as those of ``to_read`` do.
    """
    groups: list[list[Partition]] = []
    ungrouped = list(to_read)
    for report in reports:
        submitted = [partition for partition in ungrouped if partition in report.partitions]
        if submitted and len(submitted) == len(report.partitions):
            groups.append(submitted)
            ungrouped = [partition for partition in ungrouped if partition not in submitted]
    consecutive: list[Partition] = []
    for partition in ungrouped:
        if consecutive and (not _is_next_day(partition, consecutive[-1]) or len(consecutive) >= days_per_request):
            groups.append(consecutive)
            consecutive = []
        consecutive.append(partition)
    if consecutive:
        groups.append(consecutive)
    return sorted(groups, key=lambda group: group[0].values)


def _is_next_day(partition: Partition, other: Partition) -> bool:
    """Whether the day of a partition is the one after the other's."""
    day, day_before = partition.day, other.day
    assert day is not None
    assert day_before is not None
    return day - day_before == timedelta(days=1)
