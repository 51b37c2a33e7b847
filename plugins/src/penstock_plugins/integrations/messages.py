"""
Records as messages of JSON, one a line, for Singer and Airbyte.

Nothing runs once per record: a block of JSON lines becomes messages by replacing its line ends.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import IO, Any, ClassVar, Protocol

from attrs import define, field, frozen
from penstock import Batch, Layout, LedgerEntry

from penstock_plugins.files.disk import file_errors
from penstock_plugins.files.jsonl import encode_lines
from penstock_plugins.sink_support.text_columns import json_texts

IN_MEMORY_BYTES = 16 << 20  # of one partition; a larger one is held in a temporary file
_BLOCK_BYTES = 1 << 20

RECORD = "\0record"
"""The text that stands for a record in a message; see :func:`split_at_record`."""


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

    whole_states: ClassVar[bool]
    """Whether a state has all streams, or those only that changed since the last one."""

    @property
    def texts(self) -> Texts: ...

    def start(self, layouts: Sequence[Layout], states: Mapping[str, Any]) -> bytes:
        """What comes before the first record: the schemas, and the state so far."""

    def around_record(self, layout: Layout, entry: LedgerEntry) -> tuple[bytes, bytes]:
        """What stands before and after the JSON of each record of this partition; the latter without a line end."""

    def state(self, states: Mapping[str, Any]) -> bytes:
        """The states of streams."""

    def end(self, complete: Mapping[str, bool], failed: Mapping[str, str], state: bytes) -> bytes:
        """
        What comes last. ``complete``: whether every partition of a stream was delivered; ``failed``: the first error
        of each stream that has one; ``state``: the last state.
        """


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(datetime.now(UTC).timestamp() * 1000)


def message(value: Mapping[str, Any]) -> bytes:
    """One message as a line."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def split_at_record(value: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The bytes of a message before and after its record, for which :data:`RECORD` stands."""
    before, _, after = message(value).removesuffix(b"\n").partition(json.dumps(RECORD).encode())
    return before, after


@define(eq=False, repr=False)
class RecordWriter:
    """The writer of one partition: it holds the records as JSON lines, by stream; a large one in temporary files."""

    layouts: Sequence[Layout]
    texts: Texts
    rows: int = field(default=0, init=False)
    _files: dict[str, IO[bytes]] = field(init=False)

    @_files.default
    def _default_files(self) -> dict[str, IO[bytes]]:
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
            before, after = messages.around_record(layout, entry)
            between = after + b"\n" + before
            with self._files[layout.stream] as file:
                file.seek(0)
                while block := b"".join(file.readlines(_BLOCK_BYTES)):
                    yield before + block.removesuffix(b"\n").replace(b"\n", between) + after + b"\n"

    def abort(self) -> None:
        for file in self._files.values():
            file.close()
