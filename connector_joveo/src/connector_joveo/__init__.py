"""The joveo connector."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from penstock import hookimpl

if TYPE_CHECKING:
    from penstock import Action, Connector, Sandbox, Stream


@hookimpl
def penstock_sources() -> "Iterable[Connector]":
    from connector_joveo.source import CONNECTOR

    return (CONNECTOR,)


@hookimpl
def penstock_record_streams(source: str) -> "Iterable[Stream]":
    if source != "joveo":
        return ()
    from connector_joveo.streams import STREAMS

    return STREAMS


@hookimpl
def penstock_actions(source: str) -> "Iterable[Action]":
    if source != "joveo":
        return ()
    from connector_joveo.actions import ACTIONS

    return ACTIONS


@hookimpl
def penstock_sandboxes() -> "Iterable[Sandbox]":
    from connector_joveo.sandbox import SANDBOX

    return (SANDBOX,)
