"""
A source as configured, and what its settings make of a stream's declaration.
"""

from datetime import tzinfo
from zoneinfo import ZoneInfo

from attrs import frozen

from penstock._plugins.registry import Registry
from penstock.connector import Connector, SourceSettings, Stream


@frozen(kw_only=True, eq=False)
class ConfiguredSource:
    """A provider account as configured, with every stream that its connector offers."""

    name: str
    connector: Connector
    settings: SourceSettings
    streams: tuple[Stream, ...]
    registry: Registry
    version: str = ""  # of the connector's distribution

    @classmethod
    def of(
        cls, registry: Registry, connector: str, settings: SourceSettings, *, name: str | None = None
    ) -> "ConfiguredSource":
        """
        A source of an installed connector, called as its connector if it has no ``name``. Raises PluginError where
        there is no such connector.
        """
        return cls(
            name=name or connector,
            connector=registry.connector(connector),
            settings=settings,
            streams=registry.streams(connector),
            registry=registry,
            version=registry.origin(connector).version,
        )

    @property
    def zone(self) -> tzinfo:
        """The zone in which its days are cut."""
        return ZoneInfo(self.settings.timezone)

    def stream(self, name: str) -> Stream:
        """The stream of this name; StopIteration when there is none."""
        return next(stream for stream in self.streams if stream.name == name)

    def derived_from(self, name: str) -> tuple[Stream, ...]:
        """The streams cut from the batches of the stream of this name."""
        return tuple(one for one in self.streams if one.derived is not None and one.derived.stream == name)

    def accounts_of(self, stream: Stream) -> tuple[str, ...] | None:
        """The configured accounts of a stream, each once; None where its provider lists them itself."""
        configured = stream.accounts(self.settings) if stream.accounts is not None else None
        return None if configured is None else tuple(dict.fromkeys(configured))

    def accounts_from(self, stream: Stream) -> tuple[str, str] | None:
        """The (stream, column) whose values are the accounts of this stream, where they are not configured."""
        return stream.accounts_from if self.accounts_of(stream) is None else None

    def days_per_request(self, stream: Stream) -> int:
        """How many consecutive days one request of this stream may cover."""
        limit = stream.days_per_request
        return limit(self.settings) if callable(limit) else limit

    def day_of(self, stream: Stream) -> str | None:
        """The column that a row's own day is read from; None where the request says it."""
        return stream.day_of(self.settings) if callable(stream.day_of) else stream.day_of
