"""
Helpers for the text of messages.
"""

import difflib
import re
from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """
    The known word most similar to an unknown one, ignoring case. None if none has at least the similarity ``cutoff``,
    from 0 to 1.
    """
    by_folded = {name.lower(): name for name in known}
    if not by_folded:
        return None
    near = difflib.get_close_matches(word.lower(), by_folded, n=1, cutoff=cutoff)
    return by_folded[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` Did you mean "talroo"?``, with a leading space; empty if no known word is similar."""
    near = nearest(word, known)
    return f' Did you mean "{near}"?' if near is not None else ""


_PLACE = re.compile(r"\b[A-Z]{3,7} https?://\S+ ?|\[[^\]]*\]")


def without_place(message: str) -> str:
    """An error's message without its partition and request, so that it is equal for one cause in many partitions."""
    return _PLACE.sub("", message)


def counted(number: int, what: str) -> str:
    """``1 record``, ``2 records``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def shown(value: Any) -> str:
    """A value as TOML writes it, for a message; never called with a secret."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value if len(value) <= 60 else value[:59] + "…"
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (int, float, Decimal, date, datetime, time)):
        return str(value)
    return sort_of(value)


def sort_of(value: Any) -> str:
    """The kind of a TOML value, in the words of a message."""
    names = ((bool, "true or false"), (str, "text"), (int, "a whole number"), ((float, Decimal), "a number"))
    more = ((datetime, "a date and time"), (date, "a date"), (time, "a time"), (dict, "a table"), (list, "a list"))
    return next((name for kind, name in (*names, *more) if isinstance(value, kind)), type(value).__name__)
