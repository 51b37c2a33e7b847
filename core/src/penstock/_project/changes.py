"""
``changes``: what providers restated, from the ledger of a target.
"""

from datetime import UTC, date, datetime, time

from penstock._project.target_query import SourceLedger
from penstock.ledger import FORGET_PREFIX
from penstock.model import Partition
from penstock.results import Change, joined


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
