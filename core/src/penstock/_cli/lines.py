"""
The events of a run as text for people, and which of them are shown.
"""

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from attrs import define, field

from penstock._util.text import listed
from penstock.errors import in_place
from penstock.events import Event, PartitionFailed
from penstock.names import counted

PLAN = ("run_started", "planned")  # events of a plan
REASON_SHOWN = 80  # characters of a reason that is shown again
QUERY_SHOWN = 60  # characters of a request's parameters in a line for people


def in_words(event: Event, *, full_urls: bool = False) -> str | None:
    """An event as text; None for one that is not shown. ``full_urls``: with URLs as they were sent."""
    place = _place_of(event)
    match event["event"]:
        case "run_started":
            return f"run {event['run_id']} of {', '.join(event['sources']) or 'no source'}"
        case "planned":
            final = f", {event['final']} are final" if event.get("final") else ""
            return f"{place}: {counted(event['partitions'], 'partition')} to read{final}"
        case "partition_delivered":
            rejected = f", {event['rejected']} rejected" if event.get("rejected") else ""
            return f"{place}: {counted(event['records'], 'record')}{rejected}{restated(event.get('restated'))}"
        case "partition_failed":
            return in_place(f"failed: {event['reason']}", place, event["request"])
        case "retry":
            again = f"again in {event['pause_s']} s" if event["pause_s"] else "again at once"
            request = str(event["request"]) if full_urls else shortened(str(event["request"]))
            reason = event["reason"]
            if event["renewed"]:
                # A token whose time is over, or a signature by a clock that is wrong: no credentials to be looked at.
                reason, again = event["seen"], "signed anew, again at once"
            return f"{place}: {request}: {str(reason).rstrip('.')}; {again}"
        case "note" | "defect":
            message = str(event["message"])
            return message if message.startswith((f"{place}: ", f"{place}.")) else f"{place}: {message}"
    return None


def _place_of(event: Mapping[str, Any]) -> str:
    """``talroo.clicks[day=2026-03-01]``: the source, stream and partition of an event, as far as it has them."""
    where = ".".join(str(event[key]) for key in ("source", "stream") if event.get(key))
    partition = ", ".join(f"{column}={value}" for column, value in (event.get("partition") or {}).items())
    return f"{where}[{partition}]" if partition else where


def shortened(request: str) -> str:
    """``GET /v1/clicks?day=2026-03-01``: a request without its host, readable, and with the first parameters only."""
    method, _, url = request.partition(" ")
    address = urlsplit(url)
    query = unquote_plus(address.query)
    query = query if len(query) <= QUERY_SHOWN else f"{query[: QUERY_SHOWN - 1]}…"
    return f"{method} {address.path or '/'}{'?' if query else ''}{query}"


def restated(change: Mapping[str, Any] | None) -> str:
    """What the provider restated in a day that was delivered before."""
    if not change:
        return ""
    before, after = change["rows"]
    phrases = [f"{before} -> {after} rows"] if before != after else []
    phrases += [f"{column} {old} -> {new}" for column, (old, new) in change["sums"].items()]
    phrases = phrases or [f"{change[what]} {what}" for what in ("came", "went", "changed") if change.get(what)]
    return f" (restated: {', '.join(phrases)})"


@define(eq=False, repr=False, kw_only=True)
class Lines:
    """
    The lines of a run, for people. ``quiet``: failures only. ``verbose``: a line for every partition. ``debug``: URLs
    as they were sent, and the traceback of a defect, whose message without it is that of the failed partition.

    Failures are counted by source and message, without the partition and request that a message names: the first is a
    line, and the others are one line at the end. A provider that is down has two lines, however many streams it has.
    """

    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    _failures: dict[tuple[str, str], Counter[str]] = field(factory=dict, init=False)  # by stream

    def lines_of(self, event: Event) -> Iterator[tuple[str, str]]:
        """The lines of an event, each with its level: ``ERROR``, ``WARNING``, ``INFO``; empty for a traceback."""
        text = in_words(event, full_urls=self.debug) or ""
        match event["event"]:
            case "partition_failed" if event["partition"] is None:
                return  # a source, or a stream: the summary has a line for it
            case "partition_failed" if self._is_first(event):
                yield "ERROR", text
            case "run_finished":
                yield from (("ERROR", line) for line in self._repeated())
            case "defect" if self.debug:
                yield "ERROR", text
                yield "", event["trace"]
            case _ if self.quiet:
                return
            case "retry" | "note":
                yield "WARNING", text
            case "run_started" | "planned":
                yield "INFO", text
            case "partition_delivered" if self.verbose or event.get("restated"):
                yield "INFO", text

    def _is_first(self, event: PartitionFailed) -> bool:
        """Count a failed partition. Returns whether its message is new."""
        refused = event["error"] == "AuthenticationError"  # one reason, whichever request was refused
        streams = self._failures.setdefault((event["source"], "" if refused else event["reason"]), Counter())
        streams[event["stream"] or ""] += 1
        return streams.total() == 1

    def _repeated(self) -> Iterator[str]:
        """A line for each message that occurred more than once; with its start where the source has several."""
        messages = Counter(source for source, _ in self._failures)
        for (source, message), streams in self._failures.items():
            which = (
                f": {textwrap.shorten(message, REASON_SHOWN, placeholder=' ...')}"
                if message and messages[source] > 1
                else ""
            )
            first = next(iter(streams))
            more = +(streams - Counter([first]))
            count = counted(more.total(), "more partition")
            if list(more) == [first]:
                yield f"{source}.{first}: {count} failed for the same reason{which}"
            elif more:
                yield f"{source}: {count} in {listed([*more])} failed for the reason of {first}{which}"
