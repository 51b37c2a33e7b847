"""
Days as a person writes them: ``2026-01-31``, ``yesterday``, ``-3d``, ``2026-10``, ``last-month``.
"""

import re
from datetime import date, datetime, timedelta

EXAMPLES = "2026-01-31, yesterday, -3d, 2026-10 or last-month"


def first_and_last(text: str, today: date) -> tuple[date, date]:
    """
    The first and the last day that ``text`` names; equal, except for a month. ``-3d`` is three days before today.

    Raises ValueError, which names the text, for any other.
    """
    word = text.strip().lower()
    if word in ("today", "yesterday"):
        day = today - timedelta(days=word == "yesterday")
        return day, day
    if found := re.fullmatch(r"-(\d{1,5})d", word):
        day = today - timedelta(days=int(found[1]))
        return day, day
    if word in ("this-month", "last-month"):
        first = today.replace(day=1)
        return _month(first if word == "this-month" else first - timedelta(days=1))
    try:
        if re.fullmatch(r"\d{4}-\d\d", word):
            return _month(date.fromisoformat(f"{word}-01"))
        day = date.fromisoformat(word)
    except (ValueError, OverflowError):  # there is no month after the last of year 9999
        raise ValueError(f"found {text!r}, expected a day: {EXAMPLES}") from None
    return day, day


def _month(day: date) -> tuple[date, date]:
    first = day.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1) - timedelta(days=1)


def window(since: date | str | None, until: date | str | None, today: date) -> tuple[date | None, date | None]:
    """
    The first day of ``since`` and the last of ``until``. A month as ``since`` alone is the whole month.

    Raises ValueError as :func:`first_and_last`, also for a value that is no day.
    """
    first, last = _span("since", since, today), _span("until", until, today)
    if until is None and first[0] != first[1]:
        return first
    return first[0], last[1]


def _span(name: str, value: date | str | None, today: date) -> tuple[date | None, date | None]:
    """The first and the last day of ``value``, which was passed as ``name``."""
    if isinstance(value, datetime) or not isinstance(value, str | date | None):
        raise ValueError(f"{name}: found {value!r}, expected a date, or a day as text: {EXAMPLES}")
    if not isinstance(value, str):
        return value, value
    try:
        return first_and_last(value, today)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
