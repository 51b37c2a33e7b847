"""
The Convertr connector: leads, campaigns, campaign publishers and campaign jobs of one Convertr enterprise.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from penstock import hookimpl

if TYPE_CHECKING:
    from penstock import Connector, Sandbox, Stream


@hookimpl
def penstock_sources() -> "Iterable[Connector]":
    from connector_convertr.source import CONNECTOR

    return [CONNECTOR]


@hookimpl
def penstock_record_streams(source: str) -> "Iterable[Stream]":
    if source != "convertr":
        return []
    from connector_convertr.streams import STREAMS

    return STREAMS


@hookimpl
def penstock_sandboxes() -> "Iterable[Sandbox]":
    from connector_convertr.sandbox import SANDBOX

    return [SANDBOX]
