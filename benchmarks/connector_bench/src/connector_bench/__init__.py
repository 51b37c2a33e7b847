"""The connector of the benchmark's mock API: installed like any other, no special road anywhere."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from penstock import hookimpl

if TYPE_CHECKING:
    from penstock import Connector, Stream


@hookimpl
def penstock_sources() -> "Iterable[Connector]":
    from connector_bench.source import BENCH

    return [BENCH]


@hookimpl
def penstock_record_streams(source: str) -> "Iterable[Stream]":
    if source != "bench":
        return []
    from connector_bench.source import STREAMS

    return STREAMS
