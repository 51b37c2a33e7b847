"""
The receivers of the results of a pipeline's runs: ``notify = [{ url = ..., on = ["failed"] }, { command = "..." }]``.
"""

import shlex
from typing import Any, Literal

import attrs
from attrs import frozen

from penstock.connector import setting
from penstock.redact import Secret

Occasion = Literal["failed", "rejected", "deadline", "locked", "parked", "restated", "delivered", "always"]


def _is_command(instance: Any, attribute: "attrs.Attribute[Any]", value: str) -> None:
    try:
        if value and not shlex.split(value):
            raise ValueError("is empty")
    except ValueError as error:
        raise ValueError(f"is not a command: {error}") from None


def _has_one(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if (instance.url is None) == (not instance.command):
        raise ValueError("write either url or command")


@frozen(kw_only=True)
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
