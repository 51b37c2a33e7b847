"""
A source as configured, and the declarations of its streams with its settings applied.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import tzinfo
from pathlib import Path
from types import FunctionType
from typing import Any
from zoneinfo import ZoneInfo

from attrs import evolve, field, frozen

from penstock._plugins.offers import ComponentKind
from penstock._plugins.plugin_errors import FAILURES
from penstock._plugins.registry import Registry
from penstock.connector import SLICE_VALUES, Connector, Parent, Stream, names_in_templates
from penstock.errors import ConfigError, PenstockError
from penstock.model import Pairs
from penstock.protocols import Authenticator, Named, Unsigned
from penstock.records import Column
from penstock.redact import Secret
from penstock.settings import SourceSettings
from penstock.templates import MissingValueError, fill, placeholders


@frozen(kw_only=True, eq=False, repr=False)
class ConfiguredSource:
    """A provider account as configured, with every stream that its connector offers."""

    name: str
    connector: Connector
    settings: SourceSettings
    streams: tuple[Stream, ...]
    registry: Registry
    folder: Path = Path()  # of the configuration: state is kept in .penstock there
    version: str = ""  # of the connector's distribution
    _by_name: Mapping[str, Stream] = field(init=False)
    zone: tzinfo = field(init=False)  # in which its days are cut; of an account it may be another, see for_account
    listers: frozenset[str] = field(init=False)  # the streams that list the accounts of others
    needed_by_others: frozenset[str] = field(init=False)  # streams by whose rows others are requested, cut, or divided

    @_by_name.default
    def _default_by_name(self) -> Mapping[str, Stream]:
        return {stream.name: stream for stream in self.streams}

    @zone.default
    def _default_zone(self) -> tzinfo:
        return ZoneInfo(self.settings.timezone)

    @listers.default
    def _default_listers(self) -> frozenset[str]:
        return frozenset(stream.accounts_from[0] for stream in self.streams if stream.accounts_from is not None)

    @needed_by_others.default
    def _default_needed_by_others(self) -> frozenset[str]:
        parents = {stream.parent.stream for stream in self.streams if stream.parent is not None}
        cut_from = {stream.derived.stream for stream in self.streams if stream.derived is not None}
        return frozenset(parents | cut_from) | self.listers

    @classmethod
    def of(
        cls,
        registry: Registry,
        connector: str,
        settings: SourceSettings,
        *,
        name: str | None = None,
        folder: Path = Path(),
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
            folder=folder,
        )

    @property
    def token_store(self) -> Path:
        """The file with the tokens that change with every grant."""
        return self.settings.token_store or self.folder / ".penstock" / "tokens" / f"{self.name}.json"

    @property
    def concurrency(self) -> int:
        """How many requests may be in flight at once: as configured, else what the provider allows."""
        return max(1, self.settings.concurrency or self.connector.limits.concurrency)

    @property
    def requests_per_second(self) -> float | None:
        """The rate of requests: as configured, else what the provider allows; None: unlimited."""
        return self.settings.requests_per_second or self.connector.limits.requests_per_second

    def for_account(self, account: str | None, listed_zone: str | None = None) -> "ConfiguredSource":
        """
        The source as this account sees it: with its own settings, if it has a table of its own. ``listed_zone``: the
        zone that the provider states for the account; a zone in the table overrides it.
        """
        settings = self.settings.for_account(account)
        if listed_zone is not None and "timezone" not in self.settings.account_tables.get(account or "", {}):
            settings = evolve(settings, timezone=listed_zone)
        return self if settings is self.settings else evolve(self, settings=settings)

    def credentials_of(self, account: str | None) -> str | None:
        """The account whose own credentials sign its requests; None for those of the source."""
        account_table = self.settings.account_tables.get(account or "", {})
        return account if account_table.keys() - {"timezone"} else None

    def authenticator(self, account: str | None) -> Authenticator:
        """What signs with the credentials of the source, or with those of an account's table."""
        make = self.connector.authenticator
        declared = make(self.settings.for_account(account)) if make is not None else Unsigned()
        authenticator: Authenticator = self.component("authenticator", declared)
        return authenticator

    def headers(self, account: str | None) -> Pairs:
        """The headers of every request, with the settings of an account's table: ``Connector.headers``."""
        settings, headers = self.settings.for_account(account), self.connector.headers
        values = {name: getattr(settings, name) for template in headers.values() for name in placeholders(template)}
        texts = {name: value.reveal() if isinstance(value, Secret) else value for name, value in values.items()}
        filled = []
        for name, template in headers.items():
            with suppress(MissingValueError):
                filled.append((name, fill(template, texts)))
        return tuple(filled)

    def settings_in_requests(self, stream: Stream) -> set[str]:
        """
        The settings that templates name: those of a stream's requests, of the headers of all requests, and of the
        streams by whose rows it is requested, or cut.
        """
        names: set[str] = set()
        origin: Stream | None = stream
        while origin is not None:
            of = origin.parent or origin.derived
            names |= names_in_templates(origin).difference(SLICE_VALUES, of.columns if isinstance(of, Parent) else ())
            origin = self._by_name[of.stream] if of is not None else None
        return names.union(*map(placeholders, self.connector.headers.values()))

    def component(self, kind: ComponentKind, declared: Any) -> Any:
        """The component that is declared: made by a function of the settings, or looked up by its name."""
        # Body decoders are callable too, so only a plain function is taken for one of the settings.
        component = declared(self.settings) if isinstance(declared, FunctionType) else declared
        return self.registry.component(kind, component) if isinstance(component, Named) else component

    def check_credentials(self) -> None:
        """
        Make every authenticator once, before any request. Raises ConfigError with the credentials that make none, such
        as a private key that is no PEM.
        """
        problems = []
        for account in sorted(
            {self.credentials_of(account_) for account_ in (None, *self.settings.account_tables)}, key=str
        ):
            try:
                self.authenticator(account)
            except ConfigError as error:
                where = f"source.{self.name}" + (f".accounts.{account}" if account is not None else "")
                problems += [f"{where}: {problem}" for problem in error.problems]
            except PenstockError:
                raise
            except FAILURES:
                continue
        if problems:
            raise ConfigError(problems)

    def stream(self, name: str) -> Stream:
        """The stream of this name. Raises KeyError when there is none."""
        return self._by_name[name]

    def derived_from(self, name: str) -> tuple[Stream, ...]:
        """The streams cut from the batches of the stream of this name."""
        return tuple(stream for stream in self.streams if stream.derived is not None and stream.derived.stream == name)

    def configured_columns(self, stream: Stream) -> Sequence[Column]:
        """The columns of a stream that the settings declare."""
        return stream.extra_columns(self.settings) if stream.extra_columns is not None else ()

    def columns_of(self, stream: Stream) -> tuple[Column, ...]:
        """All columns of a stream's rows, those that the settings declare among them."""
        return stream.all_columns(self.configured_columns(stream))

    def accounts_of(self, stream: Stream) -> tuple[str, ...] | None:
        """
        The configured accounts of a stream, each once; None where its provider lists them itself. Those of the tables
        ``[source.NAME.accounts.ACCOUNT]`` where the connector has no list of its own.
        """
        configured = stream.configured_accounts(self.settings)
        if not configured and stream.account is not None and stream.accounts_from is None:
            configured = tuple(self.settings.account_tables)
        return None if configured is None else tuple(dict.fromkeys(configured))

    def lister_of(self, stream: Stream) -> tuple[str, str] | None:
        """The (stream, column) whose values are the accounts of this stream, where they are not configured."""
        return stream.accounts_from if self.accounts_of(stream) is None else None

    def days_per_request(self, stream: Stream) -> int:
        """How many consecutive days one request of this stream may cover."""
        limit = stream.days_per_request
        return limit(self.settings) if callable(limit) else limit

    def day_of(self, stream: Stream) -> str | None:
        """The column that a row's own day is read from; None if the day is that of the request."""
        return stream.day_of(self.settings) if callable(stream.day_of) else stream.day_of
