"""
The Target Circle publisher API as a penstock plugin. What it offers is imported only when a hook is called.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from penstock import hookimpl

if TYPE_CHECKING:
    from penstock import Action, Connector, Sandbox, Stream


@hookimpl
def penstock_sources() -> "Iterable[Connector]":
    from connector_targetcircle.source import CONNECTOR

    return [CONNECTOR]


@hookimpl
def penstock_record_streams(source: str) -> "Iterable[Stream]":
    if source != "targetcircle":
        return []
    from connector_targetcircle.streams import STREAMS

    return STREAMS


@hookimpl
def penstock_actions(source: str) -> "Iterable[Action]":
    if source != "targetcircle":
        return []
    from connector_targetcircle.actions import ACTIONS

    return ACTIONS


@hookimpl
def penstock_sandboxes() -> "Iterable[Sandbox]":
    from connector_targetcircle.sandbox import SANDBOX

    return [SANDBOX]
