"""
Days, durations and lists as the command line writes them.
"""

from datetime import date
from typing import Any

import click

from penstock._util.days import first_and_last
from penstock.commands.durations import seconds_of


class Day(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """A text that names a day or a month; which one, depends on the time zone of a source."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            first_and_last(value, date(2000, 1, 31))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """``45``, ``45s``, ``30m``, ``2h``, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return seconds_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Names(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """``a,b``"""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        if not names:
            self.fail("found nothing, expected names such as a,b", param, ctx)
        return names


DAY, DURATION, NAMES = Day(), Duration(), Names()
