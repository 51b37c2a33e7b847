"""
The pipelines of a configuration, and the receivers of the results of their runs:
``notify = [{ url = ..., on = ["failed"] }, { command = "..." }]``.
"""

import re
import shlex
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import attrs
from attrs import frozen, validators

from penstock._config.toml_values import Names
from penstock.redact import Secret
from penstock.settings import setting

Occasion = Literal["failed", "rejected", "deadline", "locked", "parked", "restated", "delivered", "always"]


@frozen
class Allowance:
    """
    What a run accepts without exit code 5: so many rejected records and values not read, as a number or as a share of
    all records that were fetched; and, unless ``strict``, members that no column declares.
    """

    maximum: int = 0
    share: Decimal = Decimal(0)
    strict: bool = False

    @classmethod
    def parse(cls, value: bool | int | str) -> "Allowance":
        """
        From ``true`` (any number), ``false`` (none), a number, or a share such as ``"1%"``; numbers may be text.
        Raises ValueError otherwise.
        """
        text = str(value).strip().lower()
        if text in ("true", "false"):
            return cls(share=Decimal(text == "true"))
        match = re.fullmatch(r"(\d{1,9})|(\d{1,3}(?:\.\d{1,6})?)\s*%", text, re.ASCII)
        if match is None or Decimal(match[2] or 0) > 100:
            raise ValueError(f'expected true, a number of records, or a share such as "1%", found {text!r}')
        return cls(maximum=int(match[1])) if match[1] else cls(share=Decimal(match[2]) / 100)

    def covers(self, rejected: int, fetched: int) -> bool:
        """Whether this many of the fetched records are accepted."""
        return rejected <= self.maximum or rejected <= self.share * fetched or self.share == 1


NONE_ALLOWED = Allowance()


def _is_command(instance: Any, attribute: "attrs.Attribute[Any]", value: str) -> None:
    try:
        if value and not shlex.split(value):
            raise ValueError("is empty")
    except ValueError as error:
        raise ValueError(f"is not a command: {error}") from None


def _has_one(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if (instance.url is None) == (not instance.command):
        raise ValueError("write either url or command")


@frozen(kw_only=True, eq=False, repr=False)
class Notification:
    """One receiver of the ends of runs."""

    url: Secret | None = setting(None, help="receives the JSON by POST; it often holds a token: { env = ... }")
    command: str = setting("", help="receives the JSON on its standard input", validator=_is_command)
    on: tuple[Occasion, ...] = setting(
        ("failed", "rejected", "parked"),
        help="failed, rejected, deadline, locked, parked, restated, delivered or always",
    )
    template: str = setting(
        "", help="JSON in place of the whole, with $text, $status, $pipeline, $run_id, $exit_code", validator=_has_one
    )


def _is_not_empty(instance: Any, attribute: "attrs.Attribute[Any]", value: str) -> None:
    if not value:
        raise ValueError("is empty")


def _tables(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _are_tables(instance: Any, attribute: "attrs.Attribute[Any]", value: tuple[Any, ...]) -> None:
    if not all(isinstance(table, Mapping) for table in value):
        raise ValueError('expected tables such as [{ url = { env = "NAME" }, on = ["failed"] }]')


def _allowance(value: Any) -> Allowance:
    return value if isinstance(value, Allowance) else Allowance.parse(value)


@frozen(kw_only=True, eq=False, repr=False)
class Pipeline:
    """A named source -> sink. ``notify``: the tables of its receivers, which are checked when it runs."""

    source: Names = setting(help="the source to read, or a list of them")
    streams: Names | None = setting(None, help="STREAM, SOURCE.STREAM or patterns; default: all that are on by default")
    exclude_streams: Names = setting(Names(), help="streams to leave out, written as those of streams")
    sink: str = setting(help="a sink of this file, jsonl:DIR, csv:DIR or postgresql://...", validator=_is_not_empty)
    allow_rejected: Any = setting(
        NONE_ALLOWED,
        help="records that may be rejected without exit code 5: true, a number or a share",
        converter=_allowance,
    )
    notify: Any = setting((), help="receivers of the ends of runs", converter=_tables, validator=_are_tables)
    workers: int | None = setting(
        None,
        help="processes that share accounts and days; default: one",
        validator=validators.optional(validators.gt(0)),
    )
    engine: str | None = setting(None, help="whose workers share them, NAME:ADDRESS; default: processes")
