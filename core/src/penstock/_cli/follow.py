"""
Following a run on stderr: bars on a terminal, log lines elsewhere, or one JSON object per event.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from penstock._cli.lines import Failures, in_words
from penstock._cli.stderr import json_line, to_stderr
from penstock.events import Event
from penstock.names import counted
from penstock.redact import mask


@contextmanager
def following(
    *, log_format: str, quiet: bool, verbose: bool, debug: bool = False, progress: bool | None = None
) -> Iterator[Callable[[Event], None]]:
    """
    The follower of a run: JSON with ``log_format``, failures only with ``quiet``, bars on a terminal, else log lines.

    ``verbose``: JSON of each request, too. ``debug``: with the traceback of a defect.
    """
    if log_format == "json":
        yield lambda event: _json(event, quiet=quiet, verbose=verbose, debug=debug)
    elif quiet:
        yield _Log(quiet=True, verbose=False, debug=debug)
    elif sys.stderr.isatty() if progress is None else progress:
        from penstock._cli.bars import Bars  # rich is imported on a terminal only

        with Bars(verbose=verbose, debug=debug) as bars:
            yield bars
    else:
        yield _Log(quiet=False, verbose=verbose, debug=debug)


def _json(event: Event, *, quiet: bool, verbose: bool, debug: bool) -> None:
    if event["event"] == "request" and not verbose:
        return
    if quiet and event["event"] not in ("partition_failed", "defect", "run_finished"):
        return
    shown = event if debug else {name: value for name, value in event.items() if name != "trace"}
    to_stderr(json_line(shown))


class _Log:
    """
    Log lines: the plan, a line for each finished stream, every failure and every restated day; with ``verbose`` every
    partition.
    """

    def __init__(self, *, quiet: bool, verbose: bool, debug: bool) -> None:
        self._debug = debug
        self._quiet = quiet
        self._verbose = verbose
        self._failures = Failures()
        self._planned: dict[tuple[str, str], int] = {}
        self._done: dict[tuple[str, str], list[int]] = {}  # partitions, of them failed, records, rejected

    def __call__(self, event: Event) -> None:
        name = event["event"]
        if name == "partition_failed" and self._failures.is_first(event):
            self._line("ERROR", in_words(event))
        if name == "run_finished":
            for line in self._failures.repeated():
                self._line("ERROR", line)
        if name == "defect" and self._debug:  # without --debug, the message of the failed partition is enough
            self._line("ERROR", in_words(event))
            to_stderr(mask(event["trace"]))
        if self._quiet:
            return
        news = name in ("run_started", "planned") or event.get("restated")
        if name in ("retry", "note"):
            self._line("WARNING", in_words(event, full_urls=self._debug))
        elif news or (self._verbose and name == "partition_delivered"):
            self._line("INFO", in_words(event))
        if "stream" in event and name in ("planned", "partition_delivered", "partition_failed"):
            self._count(event)

    def _count(self, event: Event) -> None:
        key = (event["source"], event["stream"])
        if event["event"] == "planned":
            self._planned[key] = event["partitions"]
            return
        done = self._done.setdefault(key, [0, 0, 0, 0])
        done[0] += 1
        done[1] += event["event"] == "partition_failed"
        done[2] += event.get("records", 0)
        done[3] += event.get("rejected", 0)
        if done[0] == self._planned.get(key):
            failed = f", {done[1]} of them failed" if done[1] else ""
            records = counted(done[2], "record") + (f", {done[3]} rejected" if done[3] else "")
            self._line("INFO", f"{'.'.join(key)}: {counted(done[0], 'partition')} done{failed}, {records}")

    def _line(self, level: str, text: str | None) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        to_stderr(mask(f"{now} {level:<7} {' '.join((text or '').split())}"), prose=True)
