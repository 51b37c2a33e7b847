"""
The plugin that comes with penstock: sinks for files and standard output, and the parts that connectors share.

This module is imported to find out what is offered, so it imports the marker only.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from penstock import hookimpl

if TYPE_CHECKING:
    from penstock.declare import SinkKind


@hookimpl
def penstock_sinks() -> "Iterable[SinkKind]":
    from penstock_plugins.sinks import KINDS

    return KINDS
