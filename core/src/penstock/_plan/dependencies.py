"""
Dependencies between the streams of one job: a child needs its parent's rows, a stream the accounts that another lists.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import msgspec
from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._plan.plan import PlannedSlice
from penstock.connector import Stream
from penstock.model import Batch, Partition

Key = tuple[str, str | None]  # stream, account


def key_of(planned: PlannedSlice) -> Key:
    """The stream and account that a planned slice belongs to."""
    return planned.stream.name, planned.slice.account


@define(eq=False, repr=False)
class Dependencies:
    """
    The order of streams, the columns of rows that other streams are requested by, and whether these rows are complete.

    A stream's account *has ended* when all its slices have. It *succeeded* if none of them failed, and none of
    their partitions was refused. Where both have days, a child is requested by its parent's rows of the same days, and
    needs only these.

    ``first``: the streams that can be read at once, parents first: the chosen ones, and those that are read only
    because a chosen one needs them. ``dependents`` follow later: the streams that are divided by the accounts of
    another, by that one.
    """

    source: ConfiguredSource
    chosen: Sequence[Stream]
    first: list[Stream] = field(factory=list, init=False)
    dependents: dict[str, list[Stream]] = field(factory=dict, init=False)
    _needed: dict[str, set[str]] = field(factory=dict, init=False)  # parent stream -> columns its children need
    _rows: dict[Key, dict[Partition, list[Mapping[str, Any]]]] = field(factory=dict, init=False)  # by partition
    _under_way: dict[Key, int] = field(factory=dict, init=False)  # slices that did not end yet
    _unsuccessful: set[Key] = field(factory=set, init=False)
    _refused: set[Partition] = field(factory=set, init=False)
    _days_read: dict[Key, set[date]] = field(factory=dict, init=False)  # of a parent's slices that did not fail

    # --- which stream needs which -------------------------------------------------------------------------------------

    def __attrs_post_init__(self) -> None:
        for stream in (*self._for_others_only(), *self.chosen):
            if stream.parent is not None:
                self._needed.setdefault(stream.parent.stream, set()).update(stream.parent.columns)
            if named := self.source.accounts_from(stream):
                self.dependents.setdefault(named[0], []).append(stream)
            else:
                self.first.append(stream)

    def _for_others_only(self) -> list[Stream]:
        """Streams that are read only for the chosen ones: parents, and those that list accounts; parents first."""
        needed: dict[str, Stream] = {}

        def need(stream: Stream) -> None:
            if named := self.source.accounts_from(stream):
                visit(self.source.stream(named[0]))
            if stream.parent is not None:
                visit(self.source.stream(stream.parent.stream))

        def visit(stream: Stream) -> None:
            need(stream)
            needed[stream.name] = stream

        for stream in self.chosen:
            need(stream)
        names = {stream.name for stream in self.chosen}
        return [stream for stream in needed.values() if stream.name not in names]

    def columns(self, stream: Stream) -> tuple[str, ...]:
        """The columns of a stream that other streams are requested or divided by."""
        dependents = self.dependents.get(stream.name)
        if not dependents and stream.name not in self._needed:
            return ()
        needed = set(self._needed.get(stream.name, ()))
        if dependents and dependents[0].accounts_from is not None:
            needed.add(dependents[0].accounts_from[1])
            needed.update(dependent.zone_from for dependent in dependents if dependent.zone_from is not None)
        return tuple(sorted(needed))

    # --- rows for other streams ---------------------------------------------------------------------------------------

    def add_rows(self, planned: PlannedSlice, partition: Partition, batch: Batch) -> None:
        """Add the columns of these rows of a partition that other streams need, if any."""
        columns = self.columns(planned.stream)
        if columns:
            rows = self._rows.setdefault(key_of(planned), {}).setdefault(partition, [])
            rows.extend({column: _plain(getattr(row, column)) for column in columns} for row in batch)

    def drop_rows(self, planned: PlannedSlice) -> None:
        """Drop the rows of a slice that is read again."""
        for partition in planned.partitions:
            self._rows.get(key_of(planned), {}).pop(partition, None)

    def rows(self, key: Key, days: Iterable[date] = ()) -> list[Mapping[str, Any]]:
        """The rows of a stream's account, its days in order; ``days``: only these, where the stream has days."""
        chosen = set(days) if self.source.stream(key[0]).kind != "snapshot" else set()
        by_partition = sorted(self._rows.get(key, {}).items())
        return [row for partition, rows in by_partition if not chosen or partition.day in chosen for row in rows]

    # --- progress -----------------------------------------------------------------------------------------------------

    def note_begin(self, planned: PlannedSlice) -> None:
        """A slice is planned; called before any slice of its account ends."""
        self._under_way[key_of(planned)] = self._under_way.get(key_of(planned), 0) + 1

    def refuse(self, partition: Partition) -> None:
        """The rows of a partition must not replace former ones, and no stream is requested by them."""
        self._refused.add(partition)

    def note_end(self, planned: PlannedSlice, *, succeeded: bool) -> None:
        """A slice has ended; ``succeeded``: it did not fail."""
        key = key_of(planned)
        self._under_way[key] -= 1
        good = [partition for partition in planned.partitions if succeeded and partition not in self._refused]
        if key[0] in self._needed:
            self._days_read.setdefault(key, set()).update(filter(None, (partition.day for partition in good)))
        if len(good) < len(planned.partitions):
            self._unsuccessful.add(key)

    def drop_accounts(self, planned: PlannedSlice) -> None:
        """Drop rows that no child needs, once the accounts were taken from them."""
        if planned.stream.name not in self._needed:
            self._rows.pop(key_of(planned), None)

    def has_ended(self, key: Key) -> bool:
        """Whether all slices of a stream's account have ended."""
        return self._under_way.get(key) == 0

    def succeeded(self, key: Key, days: Sequence[date] = ()) -> bool:
        """
        Whether all slices of the account ended and none failed. With ``days``, only those days must have been read,
        where the stream has days.
        """
        if days and self.source.stream(key[0]).kind != "snapshot":
            return self.has_ended(key) and set(days) <= self._days_read.get(key, set())
        return self.has_ended(key) and key not in self._unsuccessful


def _plain(value: Any) -> Any:
    """A column's value as plain data: a raw nested value is decoded."""
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
