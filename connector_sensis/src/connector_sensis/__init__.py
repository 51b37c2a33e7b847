"""
The Sensis connector: it sends usage events and reads nothing. What it offers is imported only when a hook is called.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from penstock import hookimpl

if TYPE_CHECKING:
    from penstock import Action, Connector, Sandbox


@hookimpl
def penstock_sources() -> "Iterable[Connector]":
    from connector_sensis.source import CONNECTOR

    return [CONNECTOR]


@hookimpl
def penstock_actions(source: str) -> "Iterable[Action]":
    if source != "sensis":
        return []
    from connector_sensis.actions import ACTIONS

    return ACTIONS


@hookimpl
def penstock_sandboxes() -> "Iterable[Sandbox]":
    from connector_sensis.sandbox import SANDBOX

    return [SANDBOX]
