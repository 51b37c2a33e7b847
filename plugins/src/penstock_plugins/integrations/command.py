"""
What the commands ``singer`` and ``airbyte`` share: files of JSON, and a run whose output is messages.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click
from penstock import OutputClosedError, Project, TargetError, UsageError, mask
from penstock.commands.process import discard_output, is_closed, stop_on_signals

from penstock_plugins.integrations.bookmarks import Bookmarks
from penstock_plugins.integrations.messages import Messages, MessageSink

T = TypeVar("T")
JSON_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""The type of an option that names a file."""


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
    excluded: Sequence[str],
    states: Mapping[str, Any],
    listen: Callable[[Mapping[str, Any]], None] = lambda event: None,
) -> int:
    """
    Read these streams as a run does, and write them as messages to standard output. The exit code is that of ``run``;
    a signal ends the run with the state of what is complete. ``listen`` receives the events of the run.
    """
    if not streams:
        say("no stream is selected")
        return 0
    project = project.with_source(source, {}, exclude=excluded)
    bookmarks = Bookmarks(project.layouts(source, streams), streams)
    bookmarks.load({stream: state for stream, state in states.items() if stream in streams})
    stop = threading.Event()
    with standard_output() as output, stop_on_signals(stop):
        sink = MessageSink(messages, bookmarks, output)

        def handle_event(event: Mapping[str, Any]) -> None:
            sink.take_event(event)
            listen(event)
            if event["event"] in ("notice", "note", "partition_failed", "retry", "defect"):
                say(event["message"])

        result = project.run(source, to=sink, streams=streams, on_event=handle_event, stop=stop)
    for error in result.errors:
        if error["partition"] is None:
            say(error["message"])
    for text in (result.rejected_line, result.truncated, result.summary):
        if text:
            say(text)
    return result.exit_code


def say(text: str) -> None:
    """One line on stderr, masked."""
    click.echo(mask(f"penstock: {text}"), err=True)


@contextmanager
def standard_output() -> "Iterator[Callable[[bytes], None]]":
    """
    A function that writes to standard output and flushes. Everything that is printed meanwhile goes to stderr, since a
    line that is no message breaks the reader. Raises TargetError where standard output is closed.
    """
    real = sys.stdout
    if is_closed(real):
        raise TargetError("standard output is closed: messages would be lost. Connect it to a reader")
    output: BinaryIO = real.buffer

    def put(content: bytes) -> None:
        try:
            output.write(content)
            output.flush()
        except BrokenPipeError:
            discard_output(real)
            raise OutputClosedError("standard output was closed by its reader; the run ends here") from None

    sys.stdout = sys.stderr
    try:
        yield put
    finally:
        sys.stdout = real
