"""
Following a run on stderr: bars on a terminal, log lines elsewhere, or one JSON object per event.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from attrs import define, field

from penstock._cli.stderr import json_line, to_stderr
from penstock._util.text import without_place
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


SHOWN_QUERY = 60  # characters of a request's parameters in a line for people


def in_words(event: Event, *, full_urls: bool = False) -> str | None:
    """An event as text; None for one that is not shown. ``full_urls``: with URLs as they were sent."""
    where = ".".join(str(event[key]) for key in ("source", "stream") if event.get(key))
    part = ", ".join(f"{column}={value}" for column, value in (event.get("partition") or {}).items())
    place = f"{where}[{part}]" if part else where
    match event["event"]:
        case "run_started":
            return f"run {event['run_id']} of {', '.join(event['sources'])}"
        case "planned":
            final = f", {event['final']} are final" if event.get("final") else ""
            return f"{place}: {counted(event['partitions'], 'partition')} to read{final}"
        case "partition_delivered":
            rejected = f", {event['rejected']} rejected" if event.get("rejected") else ""
            return f"{place}: {counted(event['records'], 'record')}{rejected}{restated(event.get('restated'))}"
        case "partition_failed":
            own = f"{event.get('stream')}[{part}]: "
            return f"{place}: failed: {event['message'].removeprefix(own)}"
        case "retry":
            again = f"again in {event['pause_s']} s" if event["pause_s"] else "again at once"
            request, message = str(event["request"]), str(event["message"]).rstrip(".")
            named = request.partition("?")[0] in message
            if not full_urls:
                message = message.replace(request, shortened(request))
                request = shortened(request)
            if event["renewed"]:
                # A token whose time is over, or a signature by a clock that is wrong: no credentials to be looked at.
                message, again = re.split(r"[;.] (?=[Cc]heck )", message)[0], "signed anew, again at once"
            return f"{place if named else f'{place}: {request}'}: {message}; {again}"
        case "note" | "defect":
            message = str(event["message"])
            return message if message.startswith((f"{place}: ", f"{place}.")) else f"{place}: {message}"
    return None


def shortened(request: str) -> str:
    """``GET /v1/clicks?day=2026-03-01``: a request without its host, readable, and with the first parameters only."""
    method, _, url = request.partition(" ")
    parts = urlsplit(url)
    query = unquote_plus(parts.query)
    query = query if len(query) <= SHOWN_QUERY else f"{query[: SHOWN_QUERY - 1]}…"
    return f"{method} {parts.path or '/'}{'?' if query else ''}{query}"


def restated(change: Mapping[str, Any] | None) -> str:
    """What the provider restated in a day that was delivered before."""
    if not change:
        return ""
    before, after = change["rows"]
    parts = [f"{before} -> {after} rows"] if before != after else []
    parts += [f"{column} {old} -> {new}" for column, (old, new) in change["sums"].items()]
    parts = parts or [f"{change[what]} {what}" for what in ("came", "went", "changed") if change.get(what)]
    return f" (restated: {', '.join(parts)})"


@define(eq=False, repr=False)
class Failures:
    """Counts failures by source, stream and message, without the partition and request that a message names."""

    _counts: Counter[tuple[str, str, str]] = field(factory=Counter, init=False)

    def is_first(self, event: Event) -> bool:
        """Count a failed partition. Returns whether its message is new."""
        refused = event["error"] == "AuthenticationError"  # one reason, whichever request was refused
        key = (event["source"], event["stream"] or "", "" if refused else without_place(event["message"]))
        self._counts[key] += 1
        return self._counts[key] == 1

    def repeated(self) -> list[str]:
        """A line for each message that occurred more than once."""
        return [
            f"{source}.{stream}: {counted(count - 1, 'more partition')} failed for the same reason"
            for (source, stream, _), count in self._counts.items()
            if count > 1
        ]


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
