"""
Records and states as messages on standard output: the sink of the commands ``singer`` and ``airbyte``.

A partition's messages appear when its counts were verified, all at once, and a state follows the records that it
covers. Nothing runs once per record: a block of JSON lines becomes messages by replacing its line ends.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import IO, Any, Protocol

from attrs import define, field, frozen
from penstock import BaseSink, BaseTarget, Batch, Layout, LedgerEntry, OutputClosedError, Partition

from penstock_plugins.files.disk import file_errors
from penstock_plugins.files.jsonl import encode_lines
from penstock_plugins.integrations.bookmarks import Bookmarks, StateLedger
from penstock_plugins.integrations.schema import groups
from penstock_plugins.sink_support.text_columns import json_texts

IN_MEMORY_BYTES = 16 << 20  # of one partition; a larger one is held in a temporary file
_BLOCK_BYTES = 1 << 20
_STATE_BYTES = 4096  # of states, per change: with many accounts, not every partition is followed by a state


@frozen
class Texts:
    """What stands in a record as text, for loaders that spoil it otherwise: decimals, and nested values as JSON."""

    decimals: bool = False
    nested: bool = False

    def lines(self, batch: Batch) -> bytes:
        """The rows of a batch as JSON lines."""
        nested = [column.name for column in batch.layout.columns if column.type == "json"] if self.nested else []
        values = {name: [getattr(row, name) for row in batch.rows] for name in nested}
        try:
            for name in nested:
                _put(batch, name, json_texts(values[name]))
            return encode_lines(batch.rows, decimals_as_text=self.decimals)
        finally:
            for name in nested:
                _put(batch, name, values[name])


def _put(batch: Batch, column: str, values: Sequence[Any]) -> None:
    deque(map(setattr, batch.rows, repeat(column), values), maxlen=0)


class Messages(Protocol):
    """The messages of one protocol, each one JSON line."""

    @property
    def texts(self) -> Texts: ...

    def start(self, layouts: Sequence[Layout], states: Mapping[str, Any]) -> bytes:
        """What comes before the first record: the schemas, and the state so far."""

    def around(self, layout: Layout, entry: LedgerEntry) -> tuple[bytes, bytes]:
        """What stands before and after the JSON of each record of this partition; the latter without a line end."""

    @property
    def whole_states(self) -> bool:
        """Whether a state names all streams, or those only that changed since the last one."""

    def state(self, states: Mapping[str, Any]) -> bytes:
        """The states of streams."""

    def end(self, streams: Mapping[str, bool], state: bytes) -> bytes:
        """What comes last. ``streams``: whether every partition of each was delivered. ``state``: the last state."""


def message(value: Mapping[str, Any]) -> bytes:
    """One message as a line."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def around(value: Mapping[str, Any], place: str) -> tuple[bytes, bytes]:
    """The bytes of a message before and after the text ``place``, which stands for a record."""
    before, _, after = message(value).removesuffix(b"\n").partition(json.dumps(place).encode())
    return before, after


@define(eq=False, repr=False)
class MessageSink(BaseSink):
    """
    ``chosen``: the streams that are written; others only travel with them. ``output`` writes bytes, and raises
    OutputClosedError when the reader is gone.
    """

    messages: Messages
    bookmarks: Bookmarks
    output: Callable[[bytes], None]
    planned: dict[str, int] = field(factory=dict, init=False)  # stream -> partitions, as the run's events state it

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> "MessageTarget":
        return MessageTarget(self)

    def open_readonly(self, source: str) -> None:
        return None

    def take_event(self, event: Mapping[str, Any]) -> None:
        """Take over what an event of the run states."""
        if event["event"] == "planned":
            self.planned[event["stream"]] = event["partitions"]


@define(eq=False, repr=False)
class MessageTarget(BaseTarget):
    sink: MessageSink
    ledger: StateLedger = field(init=False)
    _delivered: dict[str, int] = field(factory=dict, init=False)
    _written: dict[str, Any] = field(factory=dict, init=False)  # stream -> its state that was written last
    _begun: bool = field(default=False, init=False)
    _uncovered: int = field(default=0, init=False)  # changes of the bookmarks since the last state was written
    _broken: bool = field(default=False, init=False)

    @ledger.default
    def _of_bookmarks(self) -> StateLedger:
        return StateLedger(self.sink.bookmarks, self._count_change)

    @property
    def chosen(self) -> Sequence[str]:
        return self.sink.bookmarks.chosen

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """Write the schemas and the former state, once, before the first record."""
        written = [layout for layout in layouts if layout.stream in self.chosen]
        self._begun = True
        self.put(self.sink.messages.start(written, self._states()))

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> "MessageWriter":
        held = Held([layout for layout in layouts if layout.stream in self.chosen], self.sink.messages.texts)
        return MessageWriter(self, held)

    def put(self, content: bytes) -> None:
        if self._broken:
            return
        try:
            self.sink.output(content)
        except OutputClosedError:
            self._broken = True
            raise

    def committed(self, entry: LedgerEntry) -> None:
        """Record a delivery. A state follows, unless it is large in comparison with what it newly covers."""
        stream = entry.partition.stream
        self._delivered[stream] = self._delivered.get(stream, 0) + (not entry.truncated)
        if self.sink.bookmarks.delivered(entry) or self._uncovered:
            self._count_change()

    def _count_change(self) -> None:
        """Count a change of the bookmarks, and write a state if its size is in proportion to the changes."""
        self._uncovered += 1
        states = self._states()
        state = self.sink.messages.state(states)
        if self._uncovered * _STATE_BYTES >= len(state):
            self.put(state)
            self._written |= states
            self._uncovered = 0

    def close(self) -> None:
        """
        Write the state of what is complete, also after an interruption: some readers take the last line only. A stream
        is complete when all of its planned partitions were delivered.
        """
        if not self._begun:
            return
        streams = {
            name: self._delivered.get(stream, 0) == self.sink.planned.get(stream)
            for stream in groups(self.sink.bookmarks.layouts)
            for name in self.sink.bookmarks.travelling(stream)
        }
        with suppress(OutputClosedError):
            self.put(self.sink.messages.end(streams, self.sink.messages.state(self._states())))

    def _states(self) -> dict[str, Any]:
        """The states to write next, of the streams in the order of their declaration."""
        states = {stream: self.sink.bookmarks.state(stream) for stream in self.chosen}
        if self.sink.messages.whole_states:
            return states
        return {stream: state for stream, state in states.items() if self._written.get(stream) != state}


@define(eq=False, repr=False)
class MessageWriter:
    """One partition, held back until it is committed."""

    target: MessageTarget
    held: "Held"

    def write(self, batch: Batch) -> None:
        self.held.write(batch)

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        for content in self.held.records(self.target.sink.messages, entry):
            self.target.put(content)
        self.target.committed(entry)
        return entry

    def abort(self) -> None:
        self.held.discard()


@define(eq=False, repr=False)
class Held:
    """The records of one partition as JSON lines, by stream; a large one in temporary files."""

    layouts: Sequence[Layout]
    texts: Texts
    rows: int = field(default=0, init=False)
    _files: dict[str, IO[bytes]] = field(init=False)

    @_files.default
    def _empty(self) -> dict[str, IO[bytes]]:
        return {layout.stream: SpooledTemporaryFile(IN_MEMORY_BYTES) for layout in self.layouts}

    def write(self, batch: Batch) -> None:
        file = self._files.get(batch.layout.stream)
        if file is not None and batch.rows:
            self.rows += len(batch)
            with file_errors(Path(gettempdir())):
                file.write(self.texts.lines(batch))

    def records(self, messages: Messages, entry: LedgerEntry) -> Iterator[bytes]:
        """All records as messages, in blocks; afterwards nothing is held."""
        for layout in self.layouts:
            before, after = messages.around(layout, entry)
            between = after + b"\n" + before
            with self._files[layout.stream] as file:
                file.seek(0)
                while block := b"".join(file.readlines(_BLOCK_BYTES)):
                    yield before + block.removesuffix(b"\n").replace(b"\n", between) + after + b"\n"

    def discard(self) -> None:
        for file in self._files.values():
            file.close()
