"""
What was delivered to a target, from its ledger: totals, partitions, changes, rejected records.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal, localcontext

from attrs import define, field, fields_dict

from penstock._project.targets import Days, SourceLedger
from penstock.ledger import FORGET_PREFIX
from penstock.ledger_interface import DeliveredSums, LedgerEntry
from penstock.model import Partition
from penstock.project.delivered import joined
from penstock.project.results import Change, PartitionStatus, RejectedRecord, Total

# --- totals -----------------------------------------------------------------------------------------------------------


def totals_of(source_ledger: SourceLedger, days: Days, *, daily: bool) -> list[Total]:
    """Rows and sums of a source's accounts in one target, per month or per day. A long history is not in memory."""
    by_period: dict[tuple[str, tuple[tuple[str, str], ...], str], _Sum] = {}
    with localcontext(prec=1000):  # so that sums are exact
        for stream in source_ledger.streams:
            for sums in source_ledger.delivered_sums(stream, days):
                period = sums.day if daily else sums.day[: len("2026-10")]
                key = (stream, sums.account, period)
                if (total := by_period.get(key)) is None:
                    total = by_period[key] = _Sum()
                total.add(sums)
    return [
        Total(
            target=source_ledger.target_name,
            source=source_ledger.source,
            stream=stream,
            account=dict(account),
            period=period,
            rows=total.rows,
            sums=total.sums,
        )
        for (stream, account, period), total in sorted(by_period.items(), key=lambda item: item[0])
    ]


@define
class _Sum:
    """Rows and sums of some partitions."""

    rows: int = 0
    sums: dict[str, Decimal] = field(factory=dict)

    def add(self, partition: DeliveredSums) -> None:
        self.rows += partition.rows
        for name, amount in partition.sums.items():
            self.sums[name] = self.sums.get(name, Decimal(0)) + amount


# --- partitions -------------------------------------------------------------------------------------------------------


def partitions_of(source_ledger: SourceLedger, days: Days) -> Iterator[PartitionStatus]:
    """The rows of a source's partitions in one target, ordered by stream, account and day."""
    for stream in source_ledger.streams:
        for partition, entry in sorted(source_ledger.entries(stream, days).items(), key=lambda item: item[0].values):
            yield PartitionStatus(
                target=source_ledger.target_name,
                source=source_ledger.source,
                stream=stream,
                account=partition.without_day.as_dict(),
                day=partition.day,
                standing=_standing(entry),
                **{name: getattr(entry, name) for name in _OF_AN_ENTRY},
            )


_OF_AN_ENTRY = fields_dict(PartitionStatus).keys() & fields_dict(LedgerEntry).keys() - {"source"}


def _standing(entry: LedgerEntry) -> str:
    """As the ledger counts it for ``status``: final with whatever settings it was read."""
    if entry.error is not None:
        return "failed"
    return "final" if entry.final(entry.fingerprint) else "open"


# --- changes ----------------------------------------------------------------------------------------------------------


def changes_of(source_ledger: SourceLedger, since: date, *, merged: bool) -> list[Change]:
    """
    The changes that readings since that day (UTC) made to delivered partitions, ordered by stream, account and day;
    ``merged``: one per partition, and a partition that has its former rows and sums again is left out.
    """
    changes: list[Change] = []
    by_partition: dict[Partition, Change] = {}
    for restated in source_ledger.ledger.restated(source_ledger.source, since=datetime.combine(since, time(), UTC)):
        if restated.run_id.startswith(FORGET_PREFIX):
            continue  # rows that were deleted here: the provider restated nothing
        change = Change(
            target=source_ledger.target_name,
            source=source_ledger.source,
            stream=restated.partition.stream,
            account=restated.partition.without_day.as_dict(),
            day=restated.partition.day,
            rows_before=restated.rows[0],
            rows_after=restated.rows[1],
            sums=restated.sums,
            runs=(restated.run_id,),
            changed_at=restated.restated_at,
        )
        changes.append(change)
        by_partition[restated.partition] = (
            joined(by_partition[restated.partition], change) if restated.partition in by_partition else change
        )
    if not merged:
        return sorted(
            changes,
            key=lambda change: (change.stream, *change.account.values(), change.day or date.min, change.changed_at),
        )
    return [by_partition[partition] for partition in sorted(by_partition) if _has_net_change(by_partition[partition])]


def _has_net_change(change: Change) -> bool:
    """Whether a change is shown: one reading without other rows or sums changed values; several may cancel out."""
    return change.moved or len(change.runs) == 1


# --- rejected ---------------------------------------------------------------------------------------------------------


def rejected_records(source_ledger: SourceLedger, stream: str | None) -> list[RejectedRecord]:
    """The records of a source that were rejected in one target."""
    return [
        RejectedRecord(
            target=source_ledger.target_name,
            source=source_ledger.source,
            stream=record.stream,
            partition=entry.partition.as_dict(),
            path=record.path,
            reason=record.reason,
            raw=record.raw,
        )
        for entry, record in source_ledger.ledger.rejected(source_ledger.source, stream)
    ]
