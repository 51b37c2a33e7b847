"""
The values of a plan: the job that it is for, and the partitions, slices and days that it consists of.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Literal, NamedTuple

from attrs import field, frozen

from penstock._config.pipeline import NONE_ALLOWED, Allowance
from penstock._config.source import ConfiguredSource
from penstock._plan.division import PartOfDivision, block_days
from penstock.connector import Stream
from penstock.ledger_interface import LedgerEntry
from penstock.model import Partition, Slice
from penstock.sinks import Part, Sink

Reason = Literal["missing", "open", "failed", "changed", "forced", "snapshot"]


@frozen(kw_only=True, eq=False, repr=False)
class Job:
    """
    One source and one sink, with the options of the run.

    ``part``: the accounts and days that this job of a divided run reads; None: all of them. ``lock_part``: its part of
    the lock; None: the whole lock. ``to_coordinator``: passes a request of a worker that stages to the coordinator's
    target, and returns the reply.
    """

    source: ConfiguredSource
    streams: tuple[str, ...]
    accounts: tuple[str, ...] = ()  # names or patterns; empty: all
    sink: Sink
    sink_name: str = ""  # in messages
    since: date | None = None
    until: date | None = None
    full: bool = False
    allowed: Allowance = NONE_ALLOWED  # without exit code 5
    part: PartOfDivision | None = None
    lock_part: Part | None = None
    to_coordinator: Callable[[str], str] | None = None

    def has(self, stream: Stream, account: str | None) -> bool:
        """Whether the account (None: a stream without accounts) is in this job's part, see PartOfDivision.has."""
        return self.part is None or self.part.has(self.source, stream, account)

    def counts_rejected_of(self, planned: "PlannedSlice") -> bool:
        """
        Whether this job counts the rejected records of a slice that it reads for other streams: not those of a stream
        that is delivered too, and once where several workers read it.
        """
        return planned.stream.name not in self.streams and self.has(planned.stream, planned.account)

    def days_in_part(self, stream: Stream, account: str | None, days: Sequence[date]) -> Sequence[date]:
        """The days of an account that are in this job's part, ascending."""
        return days if self.part is None else self.part.days_in_part(self.source, stream, account, days)

    @property
    def chosen(self) -> list[Stream]:
        """The streams to read, without those that are derived or in another part; in the order of declaration."""
        return [
            stream
            for stream in ordered(self.source, self.streams)
            if stream.derived is None
            and (stream.account is not None or block_days(self.source, stream) or self.has(stream, None))
        ]


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


Key = tuple[str, str | None]  # stream, account


@frozen(kw_only=True, eq=False, repr=False)
class PlannedSlice:
    """
    A slice to read: its partitions (an account's consecutive days, or an account of a snapshot), and why. ``key``: the
    stream and account that it belongs to.
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
    key: Key = field(init=False)

    @key.default
    def _default_key(self) -> Key:
        return self.stream.name, self.slice.account

    @property
    def account(self) -> str | None:
        return self.slice.account

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


def ordered(source: ConfiguredSource, names: Iterable[str]) -> list[Stream]:
    """The streams of these names, in the order of their declaration."""
    to_read = set(names)
    return [stream for stream in source.streams if stream.name in to_read]
