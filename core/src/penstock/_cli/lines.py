"""
The events of a run as text for people, and the failures that are the same one again.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from attrs import define, field

from penstock._util.text import without_place
from penstock.events import Event
from penstock.names import counted

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
