"""
A run whose output is messages on standard output, for the commands ``singer`` and ``airbyte``, and their files of JSON.

The messages of a partition appear when its counts were verified, all at once, and a state follows the records that it
covers.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import define, field
from penstock import (
    BaseSink,
    BaseTarget,
    Layout,
    LedgerEntry,
    OutputClosedError,
    Partition,
    Project,
    TargetError,
    UsageError,
    mask,
)
from penstock.commands.process import is_closed, only_data_on_stdout, standard_output, stop_on_signals

from penstock_plugins.files.stdout import output_errors
from penstock_plugins.integrations.messages import Messages, RecordWriter
from penstock_plugins.integrations.state_ledger import StateLedger
from penstock_plugins.integrations.stream_schema import groups

T = TypeVar("T")
JSON_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""The type of an option that names a file."""

_STATE_BYTES = 4096  # of states, per change: with many accounts, not every partition is followed by a state


def read_json(path: Path, option: str, expected: type[T]) -> T:
    """The JSON in a file; numbers with a point stay exact. Raises UsageError."""
    try:
        content = json.loads(path.read_bytes(), parse_float=Decimal)
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{option} {path}: is not JSON: {error}") from None
    if not isinstance(content, expected):
        kind = "an object" if expected is dict else "a list"
        raise UsageError(f"{option} {path}: expected {kind} of JSON, found {type(content).__name__}")
    return content


def run_to(
    project: Project,
    source: str,
    messages: Messages,
    streams: Sequence[str],
    states: Mapping[str, Any],
    excluded: Sequence[str] = (),
) -> int:
    """
    Read these streams from their states on, as a run does, and write them as messages to standard output. ``excluded``:
    columns that are left out, as ``stream.column``. The exit code is that of ``run``; a signal ends the run with the
    state of what is complete.
    """
    if not streams:
        print_on_stderr("no stream is selected")
        return 0
    project = project.with_source(source, {}, exclude=excluded)
    ledger = StateLedger(project.layouts(source, streams), streams)
    ledger.load({stream: state for stream, state in states.items() if stream in streams})
    stop = threading.Event()
    with message_output() as output, stop_on_signals(stop):
        sink = MessageSink(messages, ledger, output)
        result = project.run(source, to=sink, streams=streams, on_event=sink.handle_event, stop=stop)
    for error in result.errors:
        if error["partition"] is None:
            print_on_stderr(error["message"])
    for text in (result.rejected_line, result.missing_measures_line, result.truncated_line, result.summary):
        if text:
            print_on_stderr(text)
    return result.exit_code


def print_on_stderr(text: str) -> None:
    """One line, masked."""
    click.echo(mask(f"penstock: {text}"), err=True)


@contextmanager
def message_output() -> "Iterator[Callable[[bytes], None]]":
    """
    A function that writes to standard output and flushes. Everything that is printed meanwhile goes to stderr, since a
    line that is no message breaks the reader. Raises TargetError where standard output is closed.
    """
    if is_closed(sys.stdout):
        raise TargetError("standard output is closed: messages would be lost. Connect it to a reader")
    with only_data_on_stdout():
        output = standard_output()

        def put(content: bytes) -> None:
            with output_errors(output):
                output.buffer.write(content)
                output.buffer.flush()

        yield put


@define(eq=False, repr=False)
class MessageSink(BaseSink, BaseTarget):
    """
    A sink that writes the chosen streams of its ledger as messages; others are only derived from them.
    ``output`` writes bytes, and raises OutputClosedError when the reader is gone.
    """

    messages: Messages
    ledger: StateLedger
    output: Callable[[bytes], None]
    _planned: dict[str, int] = field(factory=dict, init=False)  # stream -> partitions
    _delivered: dict[str, int] = field(factory=dict, init=False)  # stream -> partitions that are not truncated
    _failed: dict[str, str] = field(factory=dict, init=False)  # stream -> the first error
    _written: dict[str, Any] = field(factory=dict, init=False)  # stream -> its state that was written last
    _state_size: int = field(default=0, init=False)  # bytes of a state that was too large to be written
    _begun: bool = field(default=False, init=False)
    _broken: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.ledger.on_report = self.write_state

    def handle_event(self, event: Mapping[str, Any]) -> None:
        """Count what is planned and what failed, and print what a person needs on stderr."""
        if event["event"] == "planned":
            self._planned[event["stream"]] = event["partitions"]
        elif event["event"] == "partition_failed":
            self._failed.setdefault(event["stream"], event["message"])
        if event["event"] in ("notice", "note", "partition_failed", "retry", "defect"):
            print_on_stderr(event["message"])

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> "MessageSink":
        return self

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """Write the schemas and the former state, once, before the first record."""
        self._begun = True
        self.put(self.messages.start(self._chosen(layouts), self._states()))

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> "MessageWriter":
        return MessageWriter(self._chosen(layouts), self.messages.texts, self)

    def put(self, content: bytes) -> None:
        if self._broken:
            return
        try:
            self.output(content)
        except OutputClosedError:
            self._broken = True
            raise

    def committed(self, entry: LedgerEntry) -> None:
        """Record a delivery whose records were written."""
        stream = entry.partition.stream
        self._delivered[stream] = self._delivered.get(stream, 0) + (not entry.truncated)
        self.ledger.deliver(entry)
        self.write_state()

    def write_state(self) -> None:
        """Write the state, unless it is large in comparison with what it newly covers."""
        covered = self.ledger.unstored * _STATE_BYTES
        if not covered or covered < self._state_size:
            return
        states = self._states()
        state = self.messages.state(states)
        self._state_size = len(state)
        if covered >= self._state_size:
            self.put(state)
            self._written |= states
            self.ledger.unstored = self._state_size = 0

    def close(self) -> None:
        """
        Write the state of what is complete, also after an interruption: some readers take the last line only. A stream
        is complete when all of its planned partitions were delivered.
        """
        if not self._begun:
            return
        complete = {
            name: self._delivered.get(stream, 0) == self._planned.get(stream)
            for stream in groups(self.ledger.layouts)
            for name in self.ledger.delivered_together(stream)
        }
        with suppress(OutputClosedError):
            self.put(self.messages.end(complete, self._failed, self.messages.state(self._states())))

    def _chosen(self, layouts: Sequence[Layout]) -> Sequence[Layout]:
        return [layout for layout in layouts if layout.stream in self.ledger.chosen]

    def _states(self) -> dict[str, Any]:
        """The states to write next, of the streams in the order of their declaration."""
        states = {stream: self.ledger.state(stream) for stream in self.ledger.chosen}
        if self.messages.whole_states:
            return states
        return {stream: state for stream, state in states.items() if self._written.get(stream) != state}


@define(eq=False, repr=False)
class MessageWriter(RecordWriter):
    sink: MessageSink

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        for content in self.records(self.sink.messages, entry):
            self.sink.put(content)
        self.sink.committed(entry)
        return entry
