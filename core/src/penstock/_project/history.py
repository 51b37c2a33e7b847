"""
What the ledger of a target keeps of former runs: ``runs`` (their records), ``rejected`` and ``changes``.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from itertools import groupby
from operator import itemgetter

from penstock._project.target_query import Days, SourceLedger
from penstock.ledger import FORGET_PREFIX
from penstock.ledger_interface import RunRecord
from penstock.model import Partition
from penstock.results import Change, RejectedRecord, RunInfo, joined


def runs_of(source_ledger: SourceLedger, limit: int, run_id: str | None) -> list[RunInfo]:
    """The last runs of a source in one target, newest first, at most ``limit``; ``run_id``: only the run of this id."""
    runs = source_ledger.ledger.runs(source_ledger.source, limit, run_id=run_id)
    return [run_info(run, source_ledger.target_name) for run in runs]


def run_info(run: RunRecord, target: str) -> RunInfo:
    streams = run.report.get("streams", {}).values()
    return RunInfo(
        run_id=run.run_id,
        source=run.source,
        started_at=run.started_at,
        target=target,
        finished_at=run.finished_at,
        exit_code=run.exit_code,
        records=sum(stream.get("records", 0) for stream in streams),
        rejected=sum(stream.get("rejected", 0) for stream in streams),
        requests=run.requests,
        failed=sum(stream.get("partitions", {}).get("failed", 0) for stream in streams),
        report=run.report,
    )


def rejected_records(source_ledger: SourceLedger, stream: str | None, days: Days) -> Iterator[RejectedRecord]:
    """The records of a source that were rejected in one target. A target may have millions of them."""
    rejected = source_ledger.ledger.rejected(source_ledger.source, stream, since=days.since, until=days.until)
    for entry, records in groupby(rejected, itemgetter(0)):
        if not days.contains(entry.partition):
            continue
        partition = entry.partition.as_dict()
        for _, record in records:
            yield RejectedRecord(
                target=source_ledger.target_name,
                source=source_ledger.source,
                stream=record.stream,
                partition=partition,
                path=record.path,
                reason=record.reason,
                raw=record.raw,
            )


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
    in_order = (by_partition[partition] for partition in sorted(by_partition))
    # One reading without other rows or sums changed values; several may cancel out.
    return [change for change in in_order if change.moved or len(change.runs) == 1]
