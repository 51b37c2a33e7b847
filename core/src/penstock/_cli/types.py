"""
Days, durations and lists as the command line writes them.
"""

import re
from datetime import date
from typing import Any

import click

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


class Day(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """``2026-01-31``"""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"found {value!r}, wanted a day such as 2026-01-31", param, ctx)


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """``45``, ``45s``, ``30m``, ``2h``, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", value)
        if found is None or found[2] not in _UNITS or not float(found[1]):
            self.fail(f"found {value!r}, wanted a time such as 45, 45s, 30m or 2h", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


class Names(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """``a,b``"""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(one.strip() for one in value.split(",") if one.strip()))
        if not names:
            self.fail("found nothing, wanted names such as a,b", param, ctx)
        return names


DAY, DURATION, NAMES = Day(), Duration(), Names()
