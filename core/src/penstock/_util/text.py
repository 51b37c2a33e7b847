"""
Helpers for the text of messages.
"""

from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any


def listed(names: Sequence[str]) -> str:
    """The first five names, and the number of the others."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


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
    types = ((datetime, "a date and time"), (date, "a date"), (time, "a time"), (dict, "a table"), (list, "a list"))
    return next((name for kind, name in (*names, *types) if isinstance(value, kind)), type(value).__name__)
