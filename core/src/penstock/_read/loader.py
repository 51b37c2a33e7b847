"""
What becomes of the pages of one fetch: decoded, each row written with its partition, everything counted.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, tzinfo
from typing import Any

from attrs import define, field

from penstock._decode import Compiled, Decoded, SeenKeys, split_by_day, sums
from penstock._plan.planner import Fetch
from penstock._read.reconcile import PartitionCounts
from penstock.errors import BrokenBodyError
from penstock.model import Answer, Batch, Partition, Request, Slice
from penstock.records import snake
from penstock.sinks import Target, Writer


@define(eq=False, kw_only=True)
class Loader:
    """
    Takes in the pages of one fetch. When its reading ended well, ``writers`` and ``counts`` hold one of each for
    every partition and wait for the commit.

    ``target`` None: nothing is written, the rows are only shown to ``see`` (accounts, parents).
    """

    fetch: Fetch
    shape: Compiled
    zone: tzinfo  # in which days are cut
    day_of: str | None  # the column that a row's day is read from; None: the request says it
    target: Target | None
    hooks: Sequence[Callable[[Batch], Batch | None]] = ()
    see: Callable[[Batch], None] | None = None
    forget_seen: Callable[[], object] = lambda: None
    on_unknown: Callable[[str, tuple[str, ...]], None] = lambda stream, names: None

    writers: dict[Partition, Writer] = field(factory=dict, init=False)
    counts: dict[Partition, PartitionCounts] = field(factory=dict, init=False)
    _occurrences: Counter[Any] = field(factory=Counter, init=False)  # of equal rows that have no key

    def begin(self) -> None:
        """Open a writer and start a count for every partition."""
        for partition in self.fetch.partitions:
            self.counts[partition] = PartitionCounts()
            if self.target is not None:
                self.writers[partition] = self.target.begin(self.shape.layouts, partition)

    def abort(self) -> None:
        """Forget what was taken in."""
        for writer in self.writers.values():
            writer.abort()
        self.writers.clear()
        self.counts.clear()
        self._occurrences.clear()
        self.forget_seen()

    def memory(self, slice_: Slice) -> SeenKeys:
        """What one more listing remembers: no keys yet; rows without a key are numbered on from the listings before."""
        if not self.fetch.stream.inexact_bounds or slice_.start is None or slice_.end is None:
            return SeenKeys(occurrences=self._occurrences)
        return SeenKeys(occurrences=self._occurrences, span=(slice_.start, slice_.end))

    def take(self, request: Request, answer: Answer, memory: SeenKeys, *, repeat: bool) -> tuple[int, int]:
        """
        Decode a page and write its rows; the number of its elements, and how many of these no earlier page had.

        A ``repeat`` came before as a whole: its elements are counted as repeated and not written. Raises
        BrokenBodyError for a page of days that were not asked for, and what decoding, hooks and writers raise.
        """
        self._check_days(request, answer)
        count = fresh = 0
        stamps = {**self._stamps(), **request.columns}
        for decoded in self.shape.decode_all(answer.items, stamps, memory, self._days()):
            count += decoded.count
            if repeat:
                self._first.add(rows=0, repeated=decoded.count, rejected=(), sums={})
            else:
                fresh += decoded.fresh
                self._deliver(decoded)
        return count, fresh

    def promise(self, total: int) -> None:
        """The provider states so many records for a listing. A number for several partitions promises none of them."""
        if len(self.fetch.partitions) == 1:
            self._first.promised = (self._first.promised or 0) + total

    def unreadable_days(self) -> BrokenBodyError | None:
        """
        The error of a reading in which rows tell their own day and not one day could be read: the days are written in
        another form, and replacing them by nothing would lose them all.
        """
        counts = self.counts.values()
        if self.day_of is None or any(count.rows or count.repeated for count in counts):
            return None
        rejected = [one for count in counts for one in count.rejected]
        if not rejected or any(snake(one.path.rpartition(".")[2]) != self.day_of for one in rejected):
            return None
        return BrokenBodyError(
            f"{self.fetch}: not one of {len(rejected)} records tells a day that was asked for, the first because "
            f"{rejected[0].path}: {rejected[0].reason}. The days stand in another member or form; nothing was replaced."
        )

    # --- days -------------------------------------------------------------------------------------------------------

    def _days(self) -> frozenset[date] | None:
        """The days asked for, where rows have one: a row of another day is set aside."""
        stream = self.fetch.stream
        return frozenset(self.fetch.slice.days) if stream.kind == "report" and stream.day else None

    def _stamps(self) -> dict[str, Any]:
        """What the partition says of every row. A day that the rows themselves tell is not stamped."""
        fetch, stream = self.fetch, self.fetch.stream
        stamps: dict[str, Any] = {}
        if stream.account is not None and fetch.account is not None:
            stamps[stream.account] = fetch.account
        if self._days() is not None and self.day_of is None and len(fetch.partitions) == 1:
            assert stream.day is not None
            stamps[stream.day] = fetch.slice.days[0]
        return stamps

    def _check_days(self, request: Request, answer: Answer) -> None:
        """Where the envelope itself says of which days its records are, one at least was asked for."""
        wanted, column = self._days(), self.fetch.stream.day
        told = {items.columns[column] for items in answer.items if column and column in items.columns}
        if wanted is None or not told or told & {str(day) for day in wanted}:
            return
        raise BrokenBodyError(
            f"{self.fetch}: the answer to {request} is of {', '.join(sorted(map(str, told))[:3])}, not of the days "
            "asked for"
        )

    # --- rows -------------------------------------------------------------------------------------------------------

    @property
    def _first(self) -> PartitionCounts:
        """The counts of the first partition, which stands for the fetch: a rejected record has no day to tell."""
        return self.counts[self.fetch.partitions[0]]

    def _deliver(self, decoded: Decoded) -> None:
        """Write what became of a page, each row with its partition, derived rows with the first."""
        stream, partitions = self.fetch.stream, self.fetch.partitions
        batch = decoded.batch
        if batch.unknown:
            self.on_unknown(stream.name, batch.unknown)
        repeated = decoded.repeated + decoded.repeated_across
        self._first.add(rows=0, repeated=repeated, rejected=batch.rejected, sums={})
        if len(partitions) == 1:
            self._write(partitions[0], batch)
        else:
            assert stream.day is not None
            by_day = dict(zip(self.fetch.slice.days, partitions, strict=True))
            for day, rows in split_by_day(batch, stream.day, self.zone).items():
                self._write(by_day[day], rows)
        for derived in decoded.derived:
            name, count = derived.layout.stream, self._first
            count.derived_rows[name] = count.derived_rows.get(name, 0) + len(derived)
            count.derived_rejected.extend(derived.rejected)
            if len(derived) and partitions[0] in self.writers:
                self.writers[partitions[0]].write(self._hooked(derived))

    def _write(self, partition: Partition, batch: Batch) -> None:
        batch = self._hooked(batch)
        self.counts[partition].add(rows=len(batch), repeated=0, rejected=(), sums=sums(batch))
        if self.see is not None:
            self.see(batch)
        if partition in self.writers and len(batch):
            self.writers[partition].write(batch)

    def _hooked(self, batch: Batch) -> Batch:
        for hook in self.hooks:
            batch = hook(batch) or batch
        return batch
