"""
What a stream is read with, looked up and made for one configured source: its exchangeable parts and its decoder.
"""

from collections.abc import Collection
from types import FunctionType
from typing import Any, Literal

from attrs import evolve, frozen

from penstock._config.source import ConfiguredSource
from penstock._decode import Compiled, Wanted, compile_stream
from penstock.connector import Stream
from penstock.protocols import BodyDecoder, Named, Paginator, Poller, SinglePage


@frozen(kw_only=True)
class Components:
    """A stream's exchangeable parts and its decoder, made for one configured source."""

    paginator: Paginator
    poller: Poller | None
    read: BodyDecoder
    downloads: BodyDecoder
    day_of: str | None
    shape: Compiled


def components_of(source: ConfiguredSource, stream: Stream, needed: Collection[str]) -> Components:
    """
    The stream's parts, or the default in place of what it does not name. ``needed`` are columns that other streams
    read, whatever the settings leave out.
    """
    from penstock.envelope import Envelope

    def part(kind: Literal["paginator", "poller", "decoder"], said: Any, default: Any) -> Any:
        # A body decoder is callable too, so it is a plain function that marks a factory taking the settings.
        if isinstance(said, FunctionType):
            said = said(source.settings)
        if isinstance(said, Named):
            return source.registry.part(kind, said)
        return default if said is None else said

    read = part("decoder", stream.envelope, Envelope())
    return Components(
        paginator=part("paginator", stream.paginator, SinglePage()),
        poller=part("poller", stream.poller, None),
        read=read,
        downloads=part("decoder", stream.downloads, read),
        day_of=source.day_of(stream),
        shape=_shape_of(source, stream, needed),
    )


def _shape_of(source: ConfiguredSource, stream: Stream, needed: Collection[str]) -> Compiled:
    settings, hooked = source.settings, bool(source.registry.batch_hooks())
    return compile_stream(
        source.name,
        evolve(stream, day_of=source.day_of(stream), days_per_request=source.days_per_request(stream)),
        Wanted(
            exclude=settings.exclude,
            include_personal=settings.include_personal,
            needed=needed,
            nested="plain" if hooked else "raw",
            zone=source.zone,
        ),
        columns=stream.extra_columns(settings) if stream.extra_columns is not None else (),
        derived=source.derived_from(stream.name),
    )
