"""
``rejected``: the records that were rejected, from the ledger of a target.
"""

from collections.abc import Iterator

from penstock._project.target_query import SourceLedger
from penstock.results import RejectedRecord


def rejected_records(source_ledger: SourceLedger, stream: str | None) -> Iterator[RejectedRecord]:
    """The records of a source that were rejected in one target. A target may have millions of them."""
    for entry, record in source_ledger.ledger.rejected(source_ledger.source, stream):
        yield RejectedRecord(
            target=source_ledger.target_name,
            source=source_ledger.source,
            stream=record.stream,
            partition=entry.partition.as_dict(),
            path=record.path,
            reason=record.reason,
            raw=record.raw,
        )
