"""
Whether the rows of a read may replace the former ones of their partition.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from penstock._plan.window import first_served
from penstock._read.result import PartitionResult
from penstock.errors import PenstockError, ProviderError
from penstock.ledger_interface import Ledger, LedgerEntry


class KeptFormer(NamedTuple):
    """
    Why the former rows of a partition are kept: the new ones are in doubt, and the partition fails with ``error``; or
    the former ones are the better, and the partition counts as final, with ``notice``.
    """

    notice: str = ""
    error: PenstockError | None = None


def kept_former(
    partition_result: PartitionResult, now: datetime, recorded_until: datetime | None, ledger: Ledger | None
) -> KeptFormer | None:
    """
    Why the former rows of a partition must be kept; None: the new ones replace them. ``recorded_until``: the time of
    the last response of the recording that the run reads; None: it reads no recording.
    """
    planned = partition_result.read_result.planned
    if recorded_until is not None and _has_newer(partition_result, recorded_until, ledger):
        return KeptFormer(notice=f"{planned.source.name}: what was read after the recording stays as it is")
    states_retention = planned.stream.earliest is not None or planned.stream.parent is not None
    if states_retention and (kept := _outside_retention(partition_result, now)) is not None:
        return kept
    error = partition_result.read_result.replacement_errors.get(partition_result.partition)
    return None if error is None else KeptFormer(error=error)


def _outside_retention(partition_result: PartitionResult, now: datetime) -> KeptFormer | None:
    """
    The reason for a day that the provider does not serve any more, and did when the run was planned: the response may
    lack rows of it.
    """
    planned = partition_result.read_result.planned
    first = first_served(planned.source, planned.stream, now)
    if first is None or (day := partition_result.partition.day) is None or day >= first:
        return None
    left = f"the provider serves {planned.stream.name} from {first} on since midnight"
    former = planned.entries.get(partition_result.partition)
    if former is not None and former.delivered and planned.stream.kind == "report":
        stay = "days before it, which this run read after that, stay as they were"
        return KeptFormer(notice=f"{planned.source.name}: {left}: {stay}")
    if partition_result.loaded.counts.rows:
        return None
    return KeptFormer(
        error=ProviderError(f"{left}, when this day was read, and returned no rows of it: there may have been some")
    )


def _has_newer(partition_result: PartitionResult, until: datetime, ledger: Ledger | None) -> bool:
    """
    Whether what was delivered was read after ``until``: of ``changes``, that of the day or a later one, whose rows it
    would overwrite.
    """
    planned, partition = partition_result.read_result.planned, partition_result.partition
    former: Iterable[LedgerEntry] = [planned.entries[partition]] if partition in planned.entries else []
    if planned.stream.kind == "changes" and ledger is not None:
        accounts = [partition.values[0][1]] if planned.stream.account is not None else None
        entries = ledger.entries(planned.source.name, planned.stream.name, since=partition.day, accounts=accounts)
        former = entries.values()
    return any(entry.delivered and entry.read_at is not None and entry.read_at > until for entry in former)
