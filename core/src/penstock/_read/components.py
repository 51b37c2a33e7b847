"""
The components with which a stream is read, made for one configured source.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from attrs import evolve

from penstock._config.source import ConfiguredSource
from penstock._decode import ColumnOptions, RowBuilder, compile_stream
from penstock._plugins.validation.components import former_methods
from penstock.connector import Stream
from penstock.envelope import Envelope
from penstock.errors import PluginError
from penstock.model import Batch
from penstock.protocols import BodyDecoder, Paginator, Poller, SinglePage


class Components(NamedTuple):
    """
    A stream's paginator, poller and body decoders, and the builder of its rows. ``has_ceiling``: see
    :meth:`Paginator.has_ceiling`. ``needed_columns``: see :meth:`Dependencies.columns`. ``batch_hooks``: see
    :meth:`Registry.batch_hooks`.
    """

    paginator: Paginator
    poller: Poller | None
    decoder: BodyDecoder
    download_decoder: BodyDecoder
    row_builder: RowBuilder
    is_one_page: bool  # the paginator never names a second page
    has_ceiling: bool
    needed_columns: Sequence[str]
    batch_hooks: Sequence[Callable[[Batch], Batch | None]]


def components_of(source: ConfiguredSource, stream: Stream, needed_columns: Sequence[str]) -> Components:
    """
    The stream's components, with defaults for those that it does not declare. ``needed_columns``: columns that other
    streams read, which are decoded even if the settings leave them out. Raises PluginError for a paginator with a
    method by a former name.
    """
    decoder = source.component("decoder", stream.envelope) or Envelope()
    paginator = source.component("paginator", stream.paginator) or SinglePage()
    for problem in former_methods(paginator):  # of one that a function of the settings made
        raise PluginError(problem)
    return Components(
        paginator=paginator,
        poller=source.component("poller", stream.poller),
        decoder=decoder,
        download_decoder=source.component("decoder", stream.downloads) or decoder,
        row_builder=_row_builder_of(source, stream, needed_columns),
        is_one_page=type(paginator) is SinglePage,
        has_ceiling=paginator.has_ceiling(),
        needed_columns=needed_columns,
        batch_hooks=source.registry.batch_hooks(),
    )


def _row_builder_of(source: ConfiguredSource, stream: Stream, needed_columns: Sequence[str]) -> RowBuilder:
    settings, hooked = source.settings, bool(source.registry.batch_hooks())
    return compile_stream(
        source.name,
        evolve(stream, day_of=source.day_of(stream), days_per_request=source.days_per_request(stream)),
        ColumnOptions(
            exclude=settings.exclude,
            include_personal=settings.include_personal,
            extra=settings.extra,
            needed_columns=needed_columns,
            nested="plain" if hooked else "raw",
            zone=source.zone,
            connector=source.connector.name,
            secrets=[column for other in source.streams for column in other.columns if column.secret or column.hidden],
        ),
        columns=source.configured_columns(stream),
        derived=source.derived_from(stream.name),
    )
