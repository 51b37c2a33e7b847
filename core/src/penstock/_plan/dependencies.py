"""
What the streams of one job need of each other: the rows of a parent, and the accounts that a stream lists.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._plan.planner import Fetch
from penstock.connector import Stream
from penstock.model import Batch, Partition

Key = tuple[str, str | None]  # stream, account


def key_of(fetch: Fetch) -> Key:
    """The stream and account that a fetch is part of."""
    return fetch.stream.name, fetch.account


@define(eq=False)
class Dependencies:
    """
    Knows who waits for whom, keeps what was seen of rows that others are asked by, and says when they are complete.

    A stream's account is *over* when all its fetches have ended, and *well* if none of them failed.
    """

    source: ConfiguredSource
    dependents: dict[str, list[Stream]] = field(factory=dict, init=False)  # stream -> those divided by its accounts
    _wanted: dict[str, set[str]] = field(factory=dict, init=False)  # parent stream -> columns its children ask by
    _rows: dict[Key, dict[Partition, list[Mapping[str, Any]]]] = field(factory=dict, init=False)  # seen, by fetch
    _under_way: dict[Key, int] = field(factory=dict, init=False)  # its fetches that did not end yet
    _unwell: set[Key] = field(factory=set, init=False)
    _over: set[Key] = field(factory=set, init=False)

    # --- who needs whom ---------------------------------------------------------------------------------------------

    def start_with(self, chosen: Sequence[Stream]) -> list[Stream]:
        """
        The streams that can be read now, parents first: the chosen ones, and those that are read only because a chosen
        one needs them. A stream whose accounts another one lists comes later: it is put into ``dependents``.
        """
        now: list[Stream] = []
        for stream in (*self._hidden(chosen), *chosen):
            if named := self.source.accounts_from(stream):
                self.dependents.setdefault(named[0], []).append(stream)
            else:
                now.append(stream)
        return now

    def _hidden(self, chosen: Sequence[Stream]) -> list[Stream]:
        """Streams that are read for others only: parents, and those that list accounts; parents first."""
        needed: dict[str, Stream] = {}

        def need(stream: Stream) -> None:
            if named := self.source.accounts_from(stream):
                visit(self.source.stream(named[0]))
            if stream.parent is not None:
                self._wanted.setdefault(stream.parent.stream, set()).update(stream.parent.columns)
                visit(self.source.stream(stream.parent.stream))

        def visit(stream: Stream) -> None:
            need(stream)
            needed[stream.name] = stream

        for stream in chosen:
            need(stream)
        names = {stream.name for stream in chosen}
        return [stream for stream in needed.values() if stream.name not in names]

    def columns(self, stream: Stream) -> tuple[str, ...]:
        """The columns of a stream that others are asked or divided by."""
        wanted = set(self._wanted.get(stream.name, ()))
        dependents = self.dependents.get(stream.name)
        if dependents and dependents[0].accounts_from is not None:
            wanted.add(dependents[0].accounts_from[1])
        return tuple(sorted(wanted))

    # --- rows that were seen ----------------------------------------------------------------------------------------

    def see(self, fetch: Fetch) -> Callable[[Batch], None] | None:
        """The function that a fetch calls with each of its batches; None where no other stream needs its rows."""
        columns = self.columns(fetch.stream)
        if not columns:
            return None

        def see(batch: Batch) -> None:
            rows = self._rows.setdefault(key_of(fetch), {}).setdefault(fetch.partitions[0], [])
            rows.extend({column: _plain(getattr(row, column)) for column in columns} for row in batch)

        return see

    def forget(self, fetch: Fetch) -> None:
        """Forget what was seen of a fetch that is read again."""
        self._rows.get(key_of(fetch), {}).pop(fetch.partitions[0], None)

    def rows(self, key: Key) -> list[Mapping[str, Any]]:
        """What was seen of a stream's account, its days in order."""
        return [row for _, rows in sorted(self._rows.get(key, {}).items()) for row in rows]

    # --- how far they are -------------------------------------------------------------------------------------------

    def begun(self, fetch: Fetch) -> None:
        """A fetch is planned; called before any of its account ends."""
        self._under_way[key_of(fetch)] = self._under_way.get(key_of(fetch), 0) + 1

    def ended(self, fetch: Fetch, *, well: bool) -> None:
        """A fetch has ended; ``well``: it did not fail."""
        key = key_of(fetch)
        self._under_way[key] -= 1
        if not well:
            self._unwell.add(key)
        if not self._under_way[key]:
            self._over.add(key)

    def drop(self, fetch: Fetch) -> None:
        """Let go of rows that nobody reads any more, once the accounts among them were taken."""
        if fetch.stream.name not in self._wanted:
            self._rows.pop(key_of(fetch), None)

    def is_over(self, key: Key) -> bool:
        """Whether all fetches of a stream's account have ended."""
        return key in self._over

    def is_well(self, key: Key) -> bool:
        """Whether they all have ended and none of them failed."""
        return key in self._over and key not in self._unwell


def _plain(value: Any) -> Any:
    """A column's value as plain data: a raw nested part is decoded."""
    import msgspec

    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
