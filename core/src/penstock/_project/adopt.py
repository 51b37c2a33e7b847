"""
Take over tables that a target does not recognise.
"""

from penstock._project.target_query import TargetQuery
from penstock._read.components import components_of
from penstock._run.context import new_run_id
from penstock.errors import PenstockError, UsageError
from penstock.results import Adopted, AdoptResult
from penstock.sinks import Adopting, Layout


def adopt(query: TargetQuery, name: str | None, place: str | None, *, confirmed: bool) -> AdoptResult:
    """
    Let streams of a source, of a pipeline's sources, or of all sources, be written to existing tables: to ``place``, or
    to all that their targets do not recognise. Raises UsageError if no target has tables, and for a ``place`` without a
    source, or with more than one target.
    """
    if place is None:
        tables, refused = _adopt_unrecognised(query, confirmed=confirmed)
    elif name is None:
        raise UsageError("--adopt needs the source: penstock check SOURCE --adopt SCHEMA.TABLE")
    else:
        tables, refused = [_adopt_named(query, name, place, confirmed=confirmed)], {}
    code = 2 if refused else int(any(table.differences for table in tables))
    return AdoptResult(tables=tuple(tables), refused=refused, exit_code=code)


def _adopt_named(query: TargetQuery, source: str, place: str, *, confirmed: bool) -> Adopted:
    streams = _layouts(query, source)
    if len(query.targets) + len(query.failed) > 1:
        raise UsageError(f"{source} is written to several targets. Name the one of {place} with --to")
    sink, target_name = query.targets[0].sink.open(), query.targets[0].sink.name
    if not isinstance(sink, Adopting):
        raise UsageError(f"{target_name} has no tables to adopt")
    return _adopt_in(query, sink, target_name, source, streams, place, confirmed=confirmed)


def _adopt_unrecognised(query: TargetQuery, *, confirmed: bool) -> tuple[list[Adopted], dict[str, str]]:
    """The tables that are adopted, or could be; by table, why it is refused."""
    tables: list[Adopted] = []
    refused: dict[str, str] = {}
    chosen = [(selected, selected.sink.open()) for selected in query.targets]
    adopting = [(selected, sink) for selected, sink in chosen if isinstance(sink, Adopting)]
    if not adopting:
        raise UsageError(f"{', '.join(selected.sink.name for selected, _ in chosen)}: there are no tables to adopt")
    for selected, sink in adopting:
        for source in selected.sources if selected.sources is not None else query.setup.config.sources:
            streams = _layouts(query, source)
            for place in sink.unrecognised(source, streams):
                try:
                    target_name = selected.sink.name
                    tables.append(_adopt_in(query, sink, target_name, source, streams, place, confirmed=confirmed))
                except PenstockError as error:
                    refused[place] = str(error)
    return tables, refused


def _layouts(query: TargetQuery, source: str) -> list[tuple[Layout, ...]]:
    """The layouts of each stream of a source, then those of the streams derived from it."""
    configured = query.setup.source(source, query.notices.add)
    return [
        components_of(configured, stream, ()).row_builder.layouts
        for stream in configured.streams
        if stream.derived is None
    ]


def _adopt_in(
    query: TargetQuery,
    sink: Adopting,
    target_name: str,
    source: str,
    streams: list[tuple[Layout, ...]],
    place: str,
    *,
    confirmed: bool,
) -> Adopted:
    adoption = sink.adopt(source, new_run_id(query.clock.now()), streams, place, confirmed=confirmed)
    return Adopted(
        target=target_name,
        source=source,
        stream=adoption.stream,
        place=adoption.place,
        rows=adoption.rows,
        partitions=adoption.partitions,
        delivered=adoption.delivered,
        differences=tuple(f"{difference.partition}: {difference.what}" for difference in adoption.differences),
        adopted=confirmed and not adoption.differences,
    )
