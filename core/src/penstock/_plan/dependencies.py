"""
Dependencies between the streams of one job: a child needs its parent's rows, a stream the accounts that another lists.
Streams that request each other are a family: a day of them is read in one run.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import date, datetime
from typing import Any, NamedTuple

import msgspec
from attrs import define, field, frozen

from penstock._config.source import ConfiguredSource
from penstock._plan.finality import parent_with_days
from penstock._plan.plan import PlannedSlice, StreamAccount
from penstock._plan.read_job import ReadJob
from penstock.connector import Stream
from penstock.model import Batch, Partition


@frozen(eq=False, repr=False)
class Families:
    """
    ``chosen``: the streams that the job reads to deliver them, see ``ReadJob.chosen``. ``children``: by parent, the
    streams to read that are requested by its rows.
    """

    source: ConfiguredSource
    chosen: Sequence[Stream]
    children: Mapping[str, Sequence[Stream]]

    @classmethod
    def of(cls, job: ReadJob) -> "Families":
        """The families of a job's streams."""
        chosen, children = job.chosen, dict[str, list[Stream]]()
        to_read = list(chosen)
        for stream in to_read:  # grows by parents that are read for their children only
            if stream.parent is not None:
                children.setdefault(stream.parent.stream, []).append(stream)
                parent = job.source.stream(stream.parent.stream)
                to_read += [parent] if parent not in to_read else []
        return cls(job.source, chosen, children)

    def reads(self, stream: Stream) -> bool:
        """Whether the job reads the stream, to deliver it or for its children."""
        return stream in self.chosen or stream.name in self.children

    def with_days(self, stream: Stream) -> list[Stream]:
        """The streams with days that this job reads and that request each other, from parents to children."""
        root = stream
        while (parent := parent_with_days(self.source, root)) is not None and parent.name in self.children:
            root = parent
        family = [root]
        for member in family:  # grows
            family += [child for child in self.children.get(member.name, ()) if child.kind != "snapshot"]
        return family


class ParentReading(NamedTuple):
    """
    What a reading of a parent states of the rows that are requested by its rows: they are of ``read_at`` at the latest,
    and not complete if the parent's are not. ``stays_open`` and ``is_imperfect``: see ReadResult.
    """

    read_at: datetime
    stays_open: bool
    is_imperfect: bool


class SliceEnd(NamedTuple):
    """
    What follows from the end of a slice. ``account_ended``: no slice of its stream's account is left. ``dependents``:
    the streams that have the accounts of its rows. ``rows``: these; None: they are not known.
    """

    account_ended: bool
    dependents: Sequence[Stream]
    rows: Sequence[Mapping[str, Any]] | None


@define(eq=False, repr=False)
class Dependencies:
    """
    The order of streams, the columns of rows that other streams are requested by, and whether these rows are complete.

    A stream's account *has ended* when all its slices have. It *succeeded* if none of them failed, and none of
    their partitions was refused. Where both have days, a child is requested by its parent's rows of the same days, and
    needs only these.

    ``first``: the streams that can be read at once, parents first: the chosen ones, and those that are read only
    because a chosen one needs them. ``dependents`` follow later: the streams with the accounts of another, by
    that one.
    """

    source: ConfiguredSource
    chosen: Sequence[Stream]
    first: list[Stream] = field(factory=list, init=False)
    dependents: dict[str, list[Stream]] = field(factory=dict, init=False)
    _needed: dict[str, set[str]] = field(factory=dict, init=False)  # parent stream -> columns its children need
    # Of each stream's account, by the day of the partition; None: without days.
    _rows: dict[StreamAccount, dict[date | None, list[Mapping[str, Any]]]] = field(factory=dict, init=False)
    # Of parents, as ``_rows``.
    _readings: dict[StreamAccount, dict[date | None, ParentReading]] = field(factory=dict, init=False)
    _under_way: Counter[StreamAccount] = field(factory=Counter, init=False)  # slices that did not end yet
    _unsuccessful: set[StreamAccount] = field(factory=set, init=False)
    _refused: set[Partition] = field(factory=set, init=False)
    # Of a parent's slices that did not fail.
    _days_read: dict[StreamAccount, set[date]] = field(factory=dict, init=False)

    # --- which stream needs which -------------------------------------------------------------------------------------

    def __attrs_post_init__(self) -> None:
        for stream in (*self._for_others_only(), *self.chosen):
            if stream.parent is not None:
                self._needed.setdefault(stream.parent.stream, set()).update(stream.parent.columns)
            if accounts_from := self.source.lister_of(stream):
                self.dependents.setdefault(accounts_from[0], []).append(stream)
            else:
                self.first.append(stream)

    def _for_others_only(self) -> list[Stream]:
        """Streams that are read only for the chosen ones: parents, and those that list accounts; parents first."""
        needed: dict[str, Stream] = {}

        def need(stream: Stream) -> None:
            if accounts_from := self.source.lister_of(stream):
                visit(self.source.stream(accounts_from[0]))
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
        """The columns of a stream by which other streams are requested, or that have their accounts."""
        dependents = self.dependents.get(stream.name)
        if not dependents and stream.name not in self._needed:
            return ()
        needed = set(self._needed.get(stream.name, ()))
        if dependents and dependents[0].accounts_from is not None:
            needed.add(dependents[0].accounts_from[1])
            needed.update(dependent.zone_from for dependent in dependents if dependent.zone_from is not None)
        return tuple(sorted(needed))

    # --- rows for other streams ---------------------------------------------------------------------------------------

    def add_rows(self, planned: PlannedSlice, partition: Partition, columns: Iterable[str], batch: Batch) -> None:
        """Add the ``columns`` of these rows of a partition, which other streams need."""
        rows = self._rows.setdefault(planned.stream_account, {}).setdefault(partition.day, [])
        rows.extend({column: _plain(getattr(row, column)) for column in columns} for row in batch)

    def drop_rows(self, planned: PlannedSlice) -> None:
        """Drop the rows of a slice that is read again."""
        for partition in planned.partitions:
            self._rows.get(planned.stream_account, {}).pop(partition.day, None)

    def add_reading(self, planned: PlannedSlice, reading: ParentReading) -> None:
        """Add the reading of a slice whose rows other streams need."""
        by_day = self._readings.setdefault(planned.stream_account, {})
        by_day.update({partition.day: reading for partition in planned.partitions})

    def parent_readings(self, planned: PlannedSlice) -> list[ParentReading]:
        """The readings of the rows by which a child's slice is requested."""
        by_day, days = self._readings.get(planned.parent_account, {}), planned.slice.days
        if days and self.source.stream(planned.parent_account[0]).kind != "snapshot":
            return [by_day[day] for day in days if day in by_day]
        return list(by_day.values())

    def rows(self, stream_account: StreamAccount, days: Sequence[date] = ()) -> list[Mapping[str, Any]]:
        """The rows of a stream's account, its days in order; ``days``: only these, where the stream has days."""
        by_day = self._rows.get(stream_account, {})
        if days and self.source.stream(stream_account[0]).kind != "snapshot":
            return [row for day in sorted(set(days)) for row in by_day.get(day, ())]
        return [row for _, rows in sorted(by_day.items()) for row in rows]

    # --- progress -----------------------------------------------------------------------------------------------------

    def begin(self, slices: Iterable[PlannedSlice]) -> None:
        """Slices are planned; called before any slice of their accounts ends."""
        self._under_way.update([planned.stream_account for planned in slices])

    def refuse(self, partition: Partition) -> None:
        """The rows of a partition must not replace former ones, and no stream is requested by them."""
        self._refused.add(partition)

    def end(self, planned: PlannedSlice, *, succeeded: bool) -> SliceEnd:
        """A slice has ended; ``succeeded``: it did not fail. Rows that no child needs are dropped."""
        stream_account = planned.stream_account
        self._under_way[stream_account] -= 1
        good: Sequence[Partition] = planned.partitions if succeeded else ()
        if self._refused:
            good = [partition for partition in good if partition not in self._refused]
        if stream_account[0] in self._needed:
            days_read = self._days_read.setdefault(stream_account, set())
            days_read.update(filter(None, (partition.day for partition in good)))
        if len(good) < len(planned.partitions):
            self._unsuccessful.add(stream_account)
        dependents = self.dependents.pop(stream_account[0], ())
        rows = self.rows(stream_account) if dependents and self.succeeded(stream_account) else None
        if stream_account[0] not in self._needed:
            self._rows.pop(stream_account, None)
        return SliceEnd(not self._under_way[stream_account], dependents, rows)

    def succeeded(self, stream_account: StreamAccount, days: Sequence[date] = ()) -> bool:
        """
        Whether all slices of the account ended and none failed. With ``days``, only those days must have been read,
        where the stream has days.
        """
        if self._under_way.get(stream_account) != 0:
            return False
        if days and self.source.stream(stream_account[0]).kind != "snapshot":
            return set(days) <= self._days_read.get(stream_account, set())
        return stream_account not in self._unsuccessful


def _plain(value: Any) -> Any:
    """A column's value as plain data of its own: a raw nested value is decoded; plugins may change a decoded one."""
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(value)
    return deepcopy(value) if isinstance(value, (dict, list)) else value
