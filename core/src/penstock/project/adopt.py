"""
Take over a table that a target does not recognise.
"""

from datetime import UTC, datetime

from penstock._read.components import components_of
from penstock._run.context import run_id
from penstock.errors import UsageError
from penstock.project.results import AdoptResult
from penstock.project.setup import Notice, Setup
from penstock.project.targets import targets
from penstock.sinks import Adopting


def adopt(setup: Setup, source: str, place: str, to: str | None, notice: Notice, *, confirmed: bool) -> AdoptResult:
    """
    Let one of the source's streams be written to an existing table. Raises UsageError if there is not one target, or
    if it has no tables.
    """
    configured = setup.source(source, notice)
    found = targets(setup, source, to, notice, used_by_source=True)
    if len(found) > 1:
        raise UsageError(f"{source} is written to several targets. Name the one of {place} with --to")
    configured_sink = found[0].sink
    sink = configured_sink.open()
    if not isinstance(sink, Adopting):
        raise UsageError(f"{configured_sink.shown} has no tables to adopt")
    streams = [components_of(configured, one, ()).shape.layouts for one in configured.streams if one.derived is None]
    made = sink.adopt(source, run_id(datetime.now(UTC)), streams, place, confirmed=confirmed)
    return AdoptResult(
        target=configured_sink.shown,
        source=source,
        stream=made.stream,
        place=made.place,
        rows=made.rows,
        partitions=made.partitions,
        delivered=made.delivered,
        differences=tuple(f"{one.partition}: {one.what}" for one in made.differences),
        adopted=confirmed and not made.differences,
        exit_code=int(bool(made.differences)),
    )
