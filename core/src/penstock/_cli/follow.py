"""
Following a run on stderr (bars on a terminal, log lines elsewhere, or one JSON object per event), and ending it on a
signal.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from attrs import define

from penstock._cli.lines import Lines
from penstock._cli.session import Session
from penstock._cli.stderr import json_line, to_stderr
from penstock._util.clock import Clock
from penstock.commands.process import stop_on_signals
from penstock.events import Event, PartitionDelivered, PartitionFailed
from penstock.names import counted
from penstock.redact import mask

STOPPING = "stopping; completed partitions stay delivered. A second signal ends the process at once"


@contextmanager
def stopping(session: Session, clock: Clock, notice: str = STOPPING) -> Iterator[None]:
    """
    The first Ctrl-C or SIGTERM sets ``clock.stop``, so that a run ends cleanly; the second ends the process at once.
    """
    with stop_on_signals(clock.stop, lambda name: session.say(f"{name}: {notice}", event="stopping")):
        yield


@contextmanager
def following(lines: Lines, *, json_: bool = False) -> Iterator[Callable[[Event], None]]:
    """The follower of a run: JSON, bars on a terminal, else log lines."""
    if json_:
        yield partial(_json, lines)
    elif not lines.quiet and sys.stderr.isatty():
        from penstock._cli.bars import Bars  # rich is imported on a terminal only

        with Bars(lines) as bars:
            yield bars
    else:
        yield _Log(lines)


def _json(lines: Lines, event: Event) -> None:
    """An event as JSON: with ``quiet`` failures and the end, with ``verbose`` each request, too."""
    if event["event"] == "request" and not lines.verbose:
        return
    if lines.quiet and event["event"] not in ("partition_failed", "defect", "run_finished"):
        return
    shown = event if lines.debug else {name: value for name, value in event.items() if name != "trace"}
    to_stderr(json_line(shown))


@define
class _EndedPartitions:
    """The partitions of a stream that have ended, those of them that failed, and the records of the others."""

    number: int = 0
    failed: int = 0
    records: int = 0
    rejected: int = 0


class _Log:
    """Log lines: those of :class:`Lines`, and, unless ``quiet``, one for each finished stream."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._planned: dict[tuple[str, str], int] = {}
        self._ended: dict[tuple[str, str], _EndedPartitions] = {}

    def __call__(self, event: Event) -> None:
        for level, text in self._lines.lines_of(event):
            _print(level, text)
        if self._lines.quiet:
            return
        match event["event"]:
            case "planned":
                self._planned[event["source"], event["stream"]] = event["partitions"]
            case "partition_delivered":
                self._count(event, records=event["records"], rejected=event["rejected"])
            case "partition_failed":
                self._count(event, failed=1)

    def _count(
        self, event: PartitionDelivered | PartitionFailed, *, failed: int = 0, records: int = 0, rejected: int = 0
    ) -> None:
        """Count a partition. Prints a line after the last one of its stream."""
        key = (event["source"], event["stream"] or "")
        ended = self._ended.setdefault(key, _EndedPartitions())
        ended.number += 1
        ended.failed += failed
        ended.records += records
        ended.rejected += rejected
        if ended.number == self._planned.get(key):
            of_failed = f", {ended.failed} of them failed" if ended.failed else ""
            of_records = counted(ended.records, "record") + (f", {ended.rejected} rejected" if ended.rejected else "")
            _print("INFO", f"{'.'.join(key)}: {counted(ended.number, 'partition')} done{of_failed}, {of_records}")


def _print(level: str, text: str) -> None:
    if not level:
        to_stderr(mask(text))
        return
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    to_stderr(mask(f"{now} {level:<7} {' '.join(text.split())}"), prose=True)
