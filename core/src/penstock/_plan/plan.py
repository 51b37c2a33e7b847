"""
The values of a plan: partitions, slices, and the reasons why they are read.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from attrs import field, frozen

from penstock._config.source import ConfiguredSource
from penstock.connector import Stream
from penstock.ledger_interface import LedgerEntry
from penstock.model import Partition, Slice

Reason = Literal["missing", "open", "failed", "changed", "forced", "snapshot"]


@frozen(kw_only=True)
class PlannedPartition:
    """
    One partition that a run would read, the reason, and the least number of requests it takes. ``timezone``: the zone
    of its account's days, where that is not the zone of the source. ``shard``: its number in a divided plan.
    """

    source: str
    partition: Partition
    reason: Reason
    requests: int | None  # None: one per parent row; their number is not known before the parent was read
    timezone: str | None = None
    shard: int | None = None


StreamAccount = tuple[str, str | None]


@frozen(kw_only=True, eq=False, repr=False)
class PlannedSlice:
    """
    A slice to read: its partitions (an account's consecutive days, or an account of a snapshot), and why.
    """

    stream: Stream
    partitions: tuple[Partition, ...]
    reasons: tuple[Reason, ...]
    slice: Slice
    source: ConfiguredSource  # as the account sees it
    fingerprint: str  # of the settings that affect the response
    reader_version: str = ""  # see finality.reader_version
    to_deliver: bool = True  # False: it is read only for the streams that its rows are needed by
    entries: Mapping[Partition, LedgerEntry] = field(factory=dict, repr=False)  # in the ledger when it was planned
    stream_account: StreamAccount = field(init=False)

    @stream_account.default
    def _default_stream_account(self) -> StreamAccount:
        return self.stream.name, self.slice.account

    @property
    def account(self) -> str | None:
        return self.slice.account

    @property
    def parent_account(self) -> StreamAccount:
        """The parent and the account by whose rows a child's slice is requested."""
        assert self.stream.parent is not None
        return self.stream.parent.stream, self.slice.account

    @property
    def had_rows(self) -> bool:
        """Whether an earlier read delivered rows of these partitions."""
        return any(entry.delivered and entry.rows for entry in self.entries.values())

    def __str__(self) -> str:
        first, last = self.partitions[0], self.partitions[-1]
        return str(first) if first == last else f"{first} to {last.values[-1][1]}"


class Plan(NamedTuple):
    """
    ``final``: by stream, the partitions of the window that need no read. ``waiting``: a line for each stream whose
    partitions are known only after another stream was read. ``exact``: whether a run takes exactly the requests that
    are counted here (retries and a login apart), or at least these.
    """

    partitions: tuple[PlannedPartition, ...]
    final: Mapping[str, int]
    notices: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    exact: bool = False
