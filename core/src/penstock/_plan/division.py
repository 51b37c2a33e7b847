"""
The division of a run into shards: which shard reads which accounts of which source, and how much of its limits.

A *unit* is never divided. It is an account with its streams, so that parents, children, derived streams and the order
of ``changes`` stay together; or, of the streams without accounts, one with those that are requested by its rows or cut
from them. The days of a report on which nothing else depends are units of their own, some consecutive days each: see
:func:`block_days`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import groupby
from typing import NamedTuple

from attrs import evolve, field, frozen

from penstock._config.source import ConfiguredSource
from penstock.connector import Stream
from penstock.errors import UsageError
from penstock.model import Partition

BLOCK_DAYS = 8
MAX_SHARDS = 1000


class Unit(NamedTuple):
    """
    ``account``, or where there is none ``stream``, of a source; or one ``block`` of the days of its ``stream``.
    """

    source: str
    account: str | None = None
    stream: str = ""
    block: int | None = None


def block_days(source: ConfiguredSource, stream: Stream) -> int:
    """
    The number of consecutive days of the stream that are one unit; 0: its days are not divided.

    The days of a report are divided if no other stream is requested by it, cut from it, or divided by it. Those of a
    report on demand are not: one that is under way may cover days of several blocks, and is adopted as a whole. A block
    holds whole requests.
    """
    is_one_unit = stream.kind != "report" or stream.poller or stream.parent or stream.derived
    if is_one_unit or stream.name in source.needed_by_others:
        return 0
    days = source.days_per_request(stream)
    return -(-BLOCK_DAYS // days) * days


def unit_of(source: ConfiguredSource, stream: Stream, account: str | None, day: date | None = None) -> Unit:
    """
    The unit of a stream's account and day. A stream without accounts has the unit of its parent, or of the stream it is
    cut from. Without a day: the unit of what concerns the account as a whole.
    """
    if day is not None and (length := block_days(source, stream)):
        return Unit(source.name, account, stream.name, day.toordinal() // length)
    if account is not None:
        return Unit(source.name, account)
    while (other := stream.parent or stream.derived) is not None:
        stream = source.stream(other.stream)
    return Unit(source.name, None, stream.name)


def unit_of_partition(source: ConfiguredSource, partition: Partition) -> Unit:
    """The unit that a partition belongs to."""
    stream = source.stream(partition.stream)
    account = partition.as_dict().get(stream.account) if stream.account is not None else None
    return unit_of(source, stream, account, partition.day)


@frozen(kw_only=True, eq=False, repr=False)
class Division:
    """
    ``shards_by_source``: by source, the numbers of the shards that read it, ascending; the first shard is 1.

    ``assigned``: the shard of each unit that was known when the run was divided. That of any other one follows from its
    name alone: whoever computes it, and whatever other accounts there are, finds the same shard. Successive blocks of
    days go to successive shards.
    """

    shard_count: int
    shards_by_source: Mapping[str, tuple[int, ...]]
    assigned: Mapping[Unit, int] = field(factory=dict)

    def shard_of_unit(self, unit: Unit) -> int:
        """The number of the shard that reads this unit."""
        shard = self.assigned.get(unit)
        if shard is None:
            numbers = self.shards_by_source[unit.source]
            shard = numbers[(_hash(unit.source, unit.account, unit.stream) + (unit.block or 0)) % len(numbers)]
        return shard


def divide(
    shards: int,
    max_of_source: Mapping[str, int],
    weights: Mapping[Unit, int] | None = None,
    sources_with_lists: Iterable[str] = (),
) -> Division:
    """
    Divide sources into ``shards``. The same arguments give the same division, in any process.

    ``max_of_source``: by source, the largest number of shards that may read it at once (:func:`max_shards`).
    ``weights``: the work of each known unit; None: nothing is known beforehand. ``sources_with_lists``: their accounts
    are only known after a stream of theirs was read; with ``weights``, a source that is not among them is held by the
    shards that have a unit of it, and no other.

    Known units are dealt, the heaviest first, each to the shard of its source with the least work so far.
    """
    allowed = {source: _allowed_shards(source, shards, count) for source, count in max_of_source.items()}
    if weights is None:
        return Division(shard_count=shards, shards_by_source=allowed)
    load = dict.fromkeys(range(1, shards + 1), 0)
    chosen: dict[str, set[int]] = {source: set() for source in max_of_source}
    assigned: dict[Unit, int] = {}
    for unit in sorted(
        weights, key=lambda unit: (-weights[unit], unit.source, unit.account or "", unit.stream, unit.block or 0)
    ):
        open_to = allowed[unit.source] if len(chosen[unit.source]) < max_of_source[unit.source] else chosen[unit.source]
        shard = min(open_to, key=lambda number: (load[number], number))
        load[shard] += weights[unit]
        chosen[unit.source].add(shard)
        assigned[unit] = shard
    growing = set(sources_with_lists)
    numbers = {
        source: allowed[source] if source in growing else tuple(sorted(chosen[source])) or allowed[source][:1]
        for source in max_of_source
    }
    return Division(shard_count=shards, shards_by_source=numbers, assigned=assigned)


def _allowed_shards(source: str, shards: int, maximum: int) -> tuple[int, ...]:
    """So many shards, beginning at one that depends on the source: sources that allow few spread over all shards."""
    count, first = min(shards, max(1, maximum)), _hash(source)
    return tuple(sorted((first + number) % shards + 1 for number in range(count)))


def _hash(*texts: str | None) -> int:
    return int.from_bytes(hashlib.blake2b(json.dumps(texts).encode(), digest_size=8).digest(), "big")


class Shard(NamedTuple):
    """The shard of a division that one process reads."""

    division: Division
    number: int

    def has_account(self, source: ConfiguredSource, stream: Stream, account: str | None) -> bool:
        """
        Whether this shard reads the stream's account (None: a stream without accounts); where the days are divided,
        whether it handles what concerns the account as a whole.
        """
        return self.division.shard_of_unit(unit_of(source, stream, account)) == self.number

    def days_in_shard(
        self, source: ConfiguredSource, stream: Stream, account: str | None, days: Sequence[date]
    ) -> list[date]:
        """The days of an account that this shard reads, ascending."""
        length = block_days(source, stream) or date.max.toordinal()
        blocks = groupby(days, key=lambda day: day.toordinal() // length)
        return [
            day
            for _, (first, *later) in blocks
            if self.division.shard_of_unit(unit_of(source, stream, account, first)) == self.number
            for day in (first, *later)
        ]

    def reads_source(self, source: str) -> bool:
        """Whether this shard reads anything of the source."""
        return self.number in self.division.shards_by_source[source]

    def with_share_of_limits(self, source: ConfiguredSource) -> ConfiguredSource:
        """The source with this shard's share of its concurrent requests and of its requests per second."""
        numbers = self.division.shards_by_source[source.name]
        if len(numbers) == 1:
            return source
        index, shards = numbers.index(self.number), len(numbers)
        rate = source.requests_per_second
        return evolve(
            source,
            settings=evolve(
                source.settings,
                concurrency=max(1, int(share_of(source.concurrency, shards, index))),
                requests_per_second=None if rate is None else share_of(rate, shards, index),
            ),
        )


def share_of(limit: float, shards: int, index: int) -> float:
    """
    A shard's share of a limit, whole except for one shard that has the fraction.

    A shard with three requests per second starts three in any second, one with 2.5 as well: only whole shares keep the
    sum of all shards within the limit in every second, however the shards coincide.
    """
    whole, fraction = divmod(limit, 1)
    base, remainder = divmod(int(whole), shards)
    share = base + (index < remainder)
    return share + fraction if fraction and index == remainder else share


def max_shards(source: ConfiguredSource) -> int:
    """
    How many shards may read a source at once. Each makes one request at a time at least, and one per second.
    """
    rate = source.requests_per_second
    return source.concurrency if rate is None else max(1, min(source.concurrency, int(rate)))


def parse_shard(text: str, sources: Iterable[ConfiguredSource]) -> Shard:
    """The shard ``"3/16"``: the third of sixteen. Raises UsageError for any other text."""
    number, slash, shards = text.partition("/")
    if not (slash and number.isdecimal() and shards.isdecimal() and 1 <= int(number) <= int(shards) <= MAX_SHARDS):
        raise UsageError(
            f"--shard {text}: expected the number of a shard and of all, such as 3/16 (at most {MAX_SHARDS})"
        )
    return Shard(division=divide_by_names(int(shards), sources), number=int(number))


def divide_by_names(shards: int, sources: Iterable[ConfiguredSource]) -> Division:
    """A division that each shard computes by itself: it depends on names and on the sources' limits only."""
    if not 1 <= shards <= MAX_SHARDS:
        raise UsageError(f"found {shards} shards, expected a number from 1 to {MAX_SHARDS}")
    return divide(shards, {source.name: max_shards(source) for source in sources})
