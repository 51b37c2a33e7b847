"""
Sources for tests that need no plugin and no provider.
"""

from penstock._config.source import ConfiguredSource
from penstock._plugins.registry import Registry
from penstock.connector import Connector, Stream
from penstock.settings import SourceSettings


def a_source(*streams: Stream, name: str = "s", settings: SourceSettings | None = None) -> ConfiguredSource:
    """A configured source with these streams."""
    made = settings or SourceSettings(base_url="http://localhost")
    return ConfiguredSource(
        name=name,
        connector=Connector(name=name, summary="", settings=type(made)),
        settings=made,
        streams=streams,
        registry=Registry([]),
    )
