"""
Options that several commands take, and the types of their values.
"""

from collections.abc import Callable
from datetime import date
from itertools import chain
from typing import Any, TypeVar

import click

from penstock._cli.completion import sinks, streams
from penstock._util.days import first_and_last
from penstock.commands import seconds_of

F = TypeVar("F", bound=Callable[..., Any])


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

TO = click.option(
    "--to", shell_complete=sinks, metavar="SINK", help="The target.  [default: those last used from this configuration]"
)


def _joined(_: click.Context, __: click.Parameter, values: tuple[tuple[str, ...], ...]) -> tuple[str, ...] | None:
    """The names of all occurrences of an option, each once; None without any."""
    return tuple(dict.fromkeys(chain.from_iterable(values))) or None


def names(option: str, **attributes: Any) -> Callable[[F], F]:
    """An option that takes names. ``--streams a --streams b`` is ``--streams a,b``: no occurrence replaces another."""
    return click.option(option, type=NAMES, metavar="A,B", multiple=True, callback=_joined, **attributes)


ACCOUNTS = names("--accounts", help="Only these, or patterns such as 21*.")


def selection(function: F) -> F:
    """The options that choose what is read and where it goes."""
    for option in reversed(
        [
            click.option(
                "--to",
                shell_complete=sinks,
                metavar="SINK",
                help="A sink of the configuration, jsonl:DIR, csv:DIR, postgresql://... or -",
            ),
            names(
                "--streams",
                shell_complete=streams,
                help="Only these: STREAM or SOURCE.STREAM, or patterns such as joveo.*  [default: those on by default]",
            ),
            names("--exclude-streams", shell_complete=streams, help="Not these; patterns as for --streams."),
            ACCOUNTS,
            click.option(
                "--since",
                type=DAY,
                metavar="DAY",
                help="First day: 2026-01-31, yesterday, -3d, 2026-10, last-month.  "
                "[default: start, else the provider's retention, else 90 days]",
            ),
            click.option("--until", type=DAY, metavar="DAY", help="Last day, included.  [default: yesterday]"),
            click.option("--full", is_flag=True, help="Read days that are final too."),
        ]
    ):
        function = option(function)
    return function
