"""
The job of a plan or a run: one source and one sink, with the options of the run.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta

from attrs import frozen

from penstock._config.pipeline import NONE_ALLOWED, Allowance
from penstock._config.source import ConfiguredSource
from penstock._plan.division import Shard, block_days
from penstock._plan.plan import PlannedSlice
from penstock._util.days import window
from penstock.connector import Stream
from penstock.sinks import LockShare, Sink


@frozen(kw_only=True, eq=False, repr=False)
class ReadJob:
    """
    One source and one sink, with the options of the run.

    ``since``, ``until``: in the zone of the source. ``words``: both as requested, which name days in each account's
    zone. ``shard``: the accounts and days that this job of a divided run reads; None: all of them. ``lock_share``: of
    the lock of the source; None: the whole lock. ``to_coordinator``: passes a request of a worker that stages to the
    coordinator's target, and returns the reply.
    """

    source: ConfiguredSource
    streams: tuple[str, ...]
    accounts: tuple[str, ...] = ()  # names or patterns; empty: all
    sink: Sink
    sink_name: str = ""  # in messages
    since: date | None = None
    until: date | None = None
    words: tuple[date | str | None, date | str | None] | None = None
    full: bool = False
    allowed: Allowance = NONE_ALLOWED  # without exit code 5
    shard: Shard | None = None
    lock_share: LockShare | None = None
    to_coordinator: Callable[[str], str] | None = None

    def window_at(self, today: date) -> tuple[date | None, date | None]:
        """The first and the last requested day, where today is this day; None: not stated."""
        return (self.since, self.until) if self.words is None else window(*self.words, today)

    def window_of_any_zone(self) -> tuple[date | None, date | None]:
        """The first and the last requested day in the zones of all accounts; None: not stated."""
        day = timedelta(days=1)
        return self.since and self.since - day, self.until and self.until + day

    def is_in_shard(self, stream: Stream, account: str | None) -> bool:
        """Whether the account (None: a stream without accounts) is in this job's shard, see Shard.has_account."""
        return self.shard is None or self.shard.has_account(self.source, stream, account)

    def counts_rejected_of(self, planned: PlannedSlice) -> bool:
        """
        Whether this job counts the rejected records of a slice that it reads for other streams: not those of a stream
        that is delivered too, and once where several workers read it.
        """
        return planned.stream.name not in self.streams and self.is_in_shard(planned.stream, planned.account)

    def days_in_shard(self, stream: Stream, account: str | None, days: Sequence[date]) -> Sequence[date]:
        """The days of an account that are in this job's shard, ascending."""
        return days if self.shard is None else self.shard.days_in_shard(self.source, stream, account, days)

    @property
    def chosen(self) -> list[Stream]:
        """The streams to read, without those that are derived or in another shard; in the order of declaration."""
        return [
            stream
            for stream in ordered(self.source, self.streams)
            if stream.derived is None
            and (stream.account is not None or block_days(self.source, stream) or self.is_in_shard(stream, None))
        ]


def ordered(source: ConfiguredSource, names: Iterable[str]) -> list[Stream]:
    """The streams of these names, in the order of their declaration."""
    to_read = set(names)
    return [stream for stream in source.streams if stream.name in to_read]
