"""
Small partitions that are committed together: one transaction for many of them.
"""

from attrs import define, field

from penstock._read.result import ReadResult
from penstock.model import Partition

GROUP_PARTITIONS, GROUP_ROWS = 64, 5000


@define(eq=False, repr=False)
class CommitGroup:
    """The partitions that wait to be committed together."""

    partitions: list[tuple[ReadResult, Partition]] = field(factory=list, init=False)
    _rows: int = field(default=0, init=False)

    def add(self, result: ReadResult) -> bool:
        """
        Add the partitions of a read. False for a read that is committed alone: one of more rows gains nothing by
        waiting for others, and undated records are recorded with the first of its partitions that is committed.
        """
        rows = sum(partition.counts.rows for partition in result.partitions.values())
        if rows > GROUP_ROWS or result.undated:
            return False
        self.partitions.extend((result, partition) for partition in result.partitions)
        self._rows += rows
        return True

    @property
    def is_full(self) -> bool:
        return len(self.partitions) >= GROUP_PARTITIONS or self._rows > GROUP_ROWS

    def take(self) -> list[tuple[ReadResult, Partition]]:
        """The partitions of the group, which is empty afterwards."""
        partitions, self.partitions, self._rows = self.partitions, [], 0
        return partitions
