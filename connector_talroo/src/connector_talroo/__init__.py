"""
The Talroo connector: one click report per advertiser and day. What it offers is imported only when a hook is called.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from penstock import hookimpl

if TYPE_CHECKING:
    from penstock import Connector, Sandbox, Stream


@hookimpl
def penstock_sources() -> "Iterable[Connector]":
    from connector_talroo.source import CONNECTOR

    return [CONNECTOR]


@hookimpl
def penstock_record_streams(source: str) -> "Iterable[Stream]":
    if source != "talroo":
        return []
    from connector_talroo.streams import STREAMS

    return STREAMS


@hookimpl
def penstock_sandboxes() -> "Iterable[Sandbox]":
    from connector_talroo.sandbox import SANDBOX

    return [SANDBOX]
