"""
The components with which a stream is read, made for one configured source.
"""

from collections.abc import Collection
from types import FunctionType
from typing import Any, Literal, NamedTuple

from attrs import evolve

from penstock._config.source import ConfiguredSource
from penstock._decode import ColumnOptions, Compiled, compile_stream
from penstock.connector import Stream
from penstock.envelope import Envelope
from penstock.protocols import BodyDecoder, Named, Paginator, Poller, SinglePage
from penstock.report_files import ReportFile


class Components(NamedTuple):
    """A stream's paginator, poller and body decoders, and the decoder of its records."""

    paginator: Paginator
    poller: Poller | None
    read: BodyDecoder
    downloads: BodyDecoder
    day_of: str | None
    shape: Compiled


def components_of(source: ConfiguredSource, stream: Stream, needed: Collection[str]) -> Components:
    """
    The stream's components, with defaults for those that it does not declare. ``needed``: columns that other streams
    read, which are decoded even if the settings leave them out.
    """

    def component(kind: Literal["paginator", "poller", "decoder"], declared: Any, default: Any) -> Any:
        # Body decoders are callable too, so only a plain function is taken for a factory that takes the settings.
        if isinstance(declared, FunctionType):
            declared = declared(source.settings)
        if isinstance(declared, Named):
            declared = source.registry.component(kind, declared)
        if isinstance(declared, ReportFile) and declared.max_mib is None:
            declared = evolve(declared, max_mib=source.settings.max_report_mib)
        return default if declared is None else declared

    read = component("decoder", stream.envelope, Envelope())
    return Components(
        paginator=component("paginator", stream.paginator, SinglePage()),
        poller=component("poller", stream.poller, None),
        read=read,
        downloads=component("decoder", stream.downloads, read),
        day_of=source.day_of(stream),
        shape=_shape_of(source, stream, needed),
    )


def _shape_of(source: ConfiguredSource, stream: Stream, needed: Collection[str]) -> Compiled:
    settings, hooked = source.settings, bool(source.registry.batch_hooks())
    return compile_stream(
        source.name,
        evolve(stream, day_of=source.day_of(stream), days_per_request=source.days_per_request(stream)),
        ColumnOptions(
            exclude=settings.exclude,
            include_personal=settings.include_personal,
            extra=settings.extra,
            needed=needed,
            nested="plain" if hooked else "raw",
            zone=source.zone,
            connector=source.connector.name,
            secrets=[column for one in source.streams for column in one.columns if column.secret or column.hidden],
        ),
        columns=source.configured_columns(stream),
        derived=source.derived_from(stream.name),
    )
