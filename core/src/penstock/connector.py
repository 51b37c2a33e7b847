"""
Declarations of a provider: a connector and its streams.

All frozen values, keyword-only: they gain optional fields, they never lose one. Functions among the fields are pure.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from importlib import import_module
from itertools import islice
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal

import attrs
from attrs import field, frozen, validators

from penstock import hookimpl
from penstock.actions import Action
from penstock.errors import PluginError, ProviderError, check_returned
from penstock.model import Kind, Request, Slice
from penstock.names import as_names, did_you_mean, source_line
from penstock.protocols import Authenticator, BodyDecoder, Judge, Named, Paginator, Poller
from penstock.records import Column, columns_of
from penstock.settings import OpenFor, SourceSettings
from penstock.templates import MissingValueError, fill, fill_json, json_placeholders, placeholders
from penstock.verdicts import StatusRule, check_statuses

if TYPE_CHECKING:  # its module brings a server
    from penstock.sandbox.app import SandboxApp


def _is_positive(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """The attrs validator of a limit. TypeError for anything but a number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise TypeError(f"{type(instance).__name__}: {attribute.name} is {value!r}; write a number above 0")


@frozen(kw_only=True, eq=False, repr=False)
class Limits:
    """
    What the provider allows, or, if it states nothing, what is polite. The configuration may set other numbers.

    ``cool_down_s``: how long the whole source waits after a throttled response that states no wait.
    """

    requests_per_second: float | None = field(default=None, validator=validators.optional(_is_positive))
    concurrency: int = field(default=1, validator=_is_positive)
    cool_down_s: float = 60.0


@frozen(kw_only=True, eq=False, repr=False)
class Parent:
    """
    A child stream's parent: ``links`` turns one parent row (a mapping of its ``columns``) into mappings, the parents
    of a request. Each distinct mapping is requested once; without any, nothing is requested.

    ``per_request``: how many of them one request takes. Where both streams have days, those of one kind, a day is
    requested by the parent's rows of that day. A snapshot of a parent with days has the days of its last run only.
    """

    stream: str
    columns: tuple[str, ...]
    links: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]] = lambda row: [row]
    per_request: int = 1

    def linked(self, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """What ``links`` makes of a row. PluginError for anything but mappings."""
        write = '[{"name": row["column"]}]'
        values = self.links(row)
        if isinstance(values, (str, bytes, Mapping)):
            check_returned(self.links, values, list, write)
        return [
            check_returned(self.links, link, Mapping, write)
            for link in check_returned(self.links, values, Iterable, write)
        ]


@frozen(kw_only=True, eq=False, repr=False)
class Derived:
    """
    A stream cut from its parent's batches: the elements of the nested ``column`` of ``stream``, each stamped with
    ``stamps`` (own column -> parent's column). It has the request, the transaction and the ledger row of its parent.
    Of ``changes``, ``stamps`` has every column of the parent's key, except those of its account and its day.
    """

    stream: str
    column: str
    stamps: Mapping[str, str]


Span = Literal["day", "hour", "minute", "second"]


def _of_record(name: str) -> Any:
    """The default that the record class declares for this field of a stream, else None."""
    return attrs.Factory(lambda stream: getattr(stream.record, "__penstock_stream__", {}).get(name), takes_self=True)


def _first_line(record: type) -> str:
    """The first line of a class's docstring, without the full stop; empty without one."""
    return next(iter((record.__doc__ or "").strip().splitlines()), "").rstrip(".")


def _open_for(rule: Any) -> Any:
    return OpenFor(rule) if isinstance(rule, int) and not isinstance(rule, bool) else rule


MAX_REQUESTS = 100_000
"""First requests of one slice; more are an error, so that a generator that does not end is one, too."""

SLICE_VALUES = ("account", "since", "until", "start", "end")
"""The names of a slice's own values in the templates of a stream."""


@frozen(kw_only=True, eq=False, repr=False)
class Stream:
    """
    One kind of record that a source offers. Functions take the source's ``settings``; all are pure.

    Most streams need five fields: ``name``, ``record``, ``path`` or ``requests``, ``envelope``, and ``paginator`` or
    ``open_for``. The record class states kind, key, account and day. The other fields are for traits of a provider, and
    their defaults are for one without the trait.

    What it is:

    ``summary``
        one line for lists; default: the first line of the record class's docstring.
    ``record``, ``kind``, ``key``
        the record class; ``report``, ``changes`` or ``snapshot``; the columns that identify a row. ``kind``,
        ``key``, ``account`` and ``day`` are those of ``@record(...)`` unless given here.
    ``extra_columns``
        columns that the configuration declares, behind those of the record class.

    When a run reads it:

    ``on_by_default``, ``required_settings``
        whether a run without ``--streams`` reads it, and the settings without which it cannot run.
    ``not_built``
        it is listed with this reason and cannot be run.

    Its partitions:

    ``account``, ``day``
        the columns of its partitions: an account times, unless it is a snapshot, a day. Where the record class lacks
        one it is added, and where nothing else fills it the slice's is stamped on every row.
    ``accounts``, ``accounts_from``, ``zone_from``
        the configured accounts (default: the setting named like ``account`` with an s, such as ``account_ids``); where
        there are none (None), they are the values of a column of another stream, as ``(stream, column)``, remembered by
        the ledger. That stream is a snapshot without accounts, and all streams name the same column of it.
        ``zone_from``: the column of that stream with the IANA name of each account's time zone. With neither, the
        accounts are those of the tables ``[source.NAME.accounts.ACCOUNT]``.

    Its requests:

    ``path``, ``params``
        the one request of a slice, a GET, as templates: ``path="/v1/clicks"``, ``params={"day": "{since}"}``. A name in
        braces is a column of the parent row, one of ``SLICE_VALUES``, or a setting; see :func:`penstock.fill`. A
        parameter that is one name without a value (None) is left out. Columns of the parent row that the record class
        adds are stamped on every record.
    ``json``
        the body of that request, which is then a POST: a JSON value with templates in its texts, see
        :func:`penstock.fill_json`. A list of one element that names a column of the parent takes all parent rows of the
        request.
    ``requests(settings, slice_)``
        in place of ``path``: the first request of a slice, or several, each the head of a listing of its own; a poller
        makes of each a submission. At least one, but for a slice of parent rows.
    ``parent``, ``derived``
        it is requested for the rows of another stream, or cut from its batches.
    ``days_per_request``, ``day_of``
        how many consecutive days one request may cover, and the column that a row's own day is then read from.
    ``smallest``
        the shortest span that a request can cover. A slice whose response reached the provider's ceiling is halved,
        down to this span. A response that reaches the ceiling even then is delivered and marked truncated.
    ``inexact_bounds``
        the provider may return rows outside the requested period, up to a day behind it. They are dropped and counted
        as repeated: the request for their own period returns them too. A response with only such rows fails. Needs
        ``day_of``, a time. A provider that turns out to return whole days gets no request for a part of a day.

    Its responses, read by components that are objects, names (:func:`penstock.protocols.named`), or functions of the
    settings:

    ``envelope``, ``paginator``
        the decoder of a body, and the pages of a listing; default: the body is the item or items, and one page.
    ``judge``, ``statuses``
        what a response of this stream means; both come before the connector's.

    Its reports on demand:

    ``poller``, ``downloads``
        how a report is submitted and polled, and the decoder of the files that it names; default: none, and that of
        ``envelope``.
    ``poll_first_s``, ``poll_max_s``, ``poll_deadline_s``
        seconds before the first poll, between two polls at most, and until it has failed.

    Its days, and how long they are read again:

    ``earliest(today)``
        the first day that the provider still serves; default: all of them.
    ``open_for``
        how long after its end a day of a report may be restated; a number is a number of days. A child's day stays open
        as long as its parent's.
    ``lookback``, ``lag``
        of changes: how far a window reaches back before its start, and how long before now it must end.
    """

    name: str
    record: type
    summary: str = field(default=attrs.Factory(lambda stream: _first_line(stream.record), takes_self=True))
    kind: Kind = field(default=_of_record("kind"))
    key: tuple[str, ...] = field(default=_of_record("key"), converter=as_names)
    extra_columns: Callable[[Any], Sequence[Column]] | None = None

    on_by_default: bool = True
    required_settings: tuple[str, ...] = field(default=(), converter=as_names)
    not_built: str = ""

    account: str | None = field(default=_of_record("account"))
    day: str | None = field(default=_of_record("day"))
    accounts: Callable[[Any], Sequence[str] | None] | None = None
    accounts_from: tuple[str, str] | None = None
    zone_from: str | None = None

    path: str = ""
    params: Mapping[str, str] = field(factory=dict)
    json: Any = None
    requests: Callable[[Any, Slice], Request | Iterable[Request]] | None = None
    parent: Parent | None = None
    derived: Derived | None = None
    days_per_request: int | Callable[[Any], int] = 1
    day_of: str | Callable[[Any], str | None] | None = None
    smallest: Span = "second"
    inexact_bounds: bool = False

    envelope: BodyDecoder | Named | Callable[[Any], BodyDecoder] | None = None
    paginator: Paginator | Named | Callable[[Any], Paginator] | None = None
    judge: Judge | None = None
    statuses: Mapping[int, StatusRule] = field(factory=dict, validator=check_statuses)

    poller: Poller | Named | Callable[[Any], Poller] | None = None
    downloads: BodyDecoder | Named | Callable[[Any], BodyDecoder] | None = None
    poll_first_s: float = 5.0
    poll_max_s: float = 60.0
    poll_deadline_s: float = 1800.0

    earliest: Callable[[date], date] | None = None
    open_for: OpenFor = field(default=OpenFor(0), converter=_open_for)
    lookback: timedelta = timedelta(0)
    lag: timedelta = timedelta(0)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its record class, in the order of their declaration."""
        return columns_of(self.record)

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """The names of its account's and its day's column, those that it has."""
        return tuple(name for name in (self.account, self.day) if name is not None)

    @property
    def stamped_columns(self) -> tuple[Column, ...]:
        """The partition columns that the record class lacks, so that the value of the partition is written to them."""
        own = {column.name for column in self.columns}
        return tuple(
            Column(name=name, type="date", description="the day of the partition")
            if name == self.day
            else Column(name=name, type="text", description="the account of the partition")
            for name in self.partition_columns
            if name not in own
        )

    def first_requests(self, settings: Any, slice_: Slice) -> list[Request]:
        """
        The first requests of a slice, from ``requests`` or from ``path`` and ``params``. ProviderError where a template
        names a value that the slice, or the row of its parent, does not have; PluginError where ``requests`` returns
        something else than requests.
        """
        requests: Any = None
        try:
            requests = (
                self._from_templates(settings, slice_) if self.requests is None else self.requests(settings, slice_)
            )
            if isinstance(requests, Request):
                return [requests]
            is_several = isinstance(requests, Iterable) and not isinstance(requests, (str, bytes))
            made_requests = list(islice(requests, MAX_REQUESTS + 1)) if is_several else [requests]
        except MissingValueError as missing:
            raise ProviderError(f"no request can be made, since {missing}") from None
        if len(made_requests) > MAX_REQUESTS:
            raise PluginError(
                f"the requests of the stream {self.name} ({source_line(self.requests)}) are more than "
                f"{MAX_REQUESTS:,} for one slice, or do not end; write the first request of a listing, and a "
                "paginator for its pages."
            )
        if wrong := [request for request in made_requests if not isinstance(request, Request)]:
            raise PluginError(
                f"the requests of the stream {self.name} ({source_line(self.requests)}) returned "
                f"{'nothing' if wrong[0] is None else type(wrong[0]).__name__}; write return [Request(...)]."
            )
        if not made_requests and self.parent is None and self.requests is not None:
            raise PluginError(
                f"the requests of the stream {self.name} ({source_line(self.requests)}) returned no request, and "
                "without a response it is not known that there are no records. Write return [Request(...)]; accounts= "
                "states which accounts there are."
            )
        return made_requests

    def _from_templates(self, settings: Any, slice_: Slice) -> Iterable[Request]:
        if not self.path:
            return []
        parent = slice_.parents[0] if slice_.parents else {}
        names = names_in_templates(self)
        known = {name for name in names if name in (*parent, *SLICE_VALUES) or hasattr(settings, name)}
        if missing := sorted(names - known):
            raise PluginError(
                f"the templates of the stream {self.name} name {{{missing[0]}}}, and neither the row of its parent "
                f"({', '.join(parent) or 'none'}) nor the settings have it; correct path, params, json or parent."
            )
        values = {
            name: parent[name] if name in parent else getattr(slice_ if name in SLICE_VALUES else settings, name)
            for name in names
        }
        params = [
            (name, fill(template, values))
            for name, template in self.params.items()
            if not (template.startswith("{") and values.get(template[1:-1], "") is None)
        ]
        added = {column.name for column in self.columns if column.added}
        stamps = {name: value for name, value in parent.items() if name in added and len(slice_.parents) == 1}
        url = settings.url(self.path, **values)
        if self.json is None:
            return [Request(url=url, params=params, columns=stamps)]
        body = fill_json(self.json, values, slice_.parents)
        return [Request.json("POST", url, body, params=params, columns=stamps)]

    def configured_accounts(self, settings: Any) -> Sequence[str] | None:
        """
        The accounts that the settings name; None where they name none and ``accounts_from`` lists them. PluginError
        where ``accounts`` returns something else than texts.
        """
        if self.accounts is not None:
            returned = self.accounts(settings)
            if returned is None and self.accounts_from is not None:
                return None
            names = tuple(returned) if isinstance(returned, Iterable) and not isinstance(returned, str) else None
            is_right = names is not None and all(isinstance(account, str) for account in names)
            check_returned(self.accounts, returned, object if is_right else (), 'the accounts as texts, ["17", "18"]')
            return names
        accounts: Sequence[str] | None = getattr(settings, f"{self.account}s", None) if self.account else None
        return accounts or None if self.accounts_from is not None else accounts

    def all_columns(self, extra: Sequence[Column] = ()) -> tuple[Column, ...]:
        """
        All columns of its rows, in order: the stamped ones, those of the record class, and those of ``extra``, which a
        configuration declares, that have other names. One of ``extra`` that differs from a column of the record class
        only in member, format or scale takes its place. A derived stream has its parent's stamps besides.
        """
        configured = {column.name: column for column in extra}
        own = [
            _refined(column, configured[column.name]) if column.name in configured else column
            for column in self.columns
        ]
        names = {column.name for column in (*self.stamped_columns, *own)}
        return (*self.stamped_columns, *own, *(column for column in extra if column.name not in names))


def names_in_templates(stream: Stream) -> set[str]:
    """The names in the templates of a stream's ``path``, ``params`` and ``json``."""
    names = {name for template in (stream.path, *stream.params.values()) for name in placeholders(template)}
    return names | {name for _, name, _ in json_placeholders(stream.json)}


def _refined(own: Column, configured: Column) -> Column:
    changeable = ("member", "format", "scale", "whole")
    refined = attrs.evolve(own, **{name: getattr(configured, name) for name in changeable})
    return refined if refined == configured else own


@frozen(kw_only=True, eq=False, repr=False)
class Sandbox:
    """
    How to start the imitation of a connector's provider.

    ``make(base_url, today)`` returns the application; it is called once, when the address is known. ``settings`` are
    the keys of a source that reads it, as in TOML, without ``base_url``; in a text among them ``{base_url}`` stands for
    that address, as in ``"login_url": "{base_url}"``.
    """

    connector: str
    summary: str
    make: Callable[[str, date], "SandboxApp"]
    settings: Mapping[str, Any]

    def source(self, base_url: str) -> dict[str, Any]:
        """The keys of a source that reads the sandbox at this address."""
        return settings_at(base_url, self.settings)


def settings_at(base_url: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with ``base_url``, which also replaces ``{base_url}`` in texts."""
    replaced = {
        name: value.replace("{base_url}", base_url) if isinstance(value, str) else value
        for name, value in settings.items()
    }
    return {"base_url": base_url, **replaced}


@frozen(kw_only=True, eq=False, repr=False)
class Connector:
    """
    A provider as one plugin offers it. Everything that depends on an account's configuration takes ``settings``.

    ``name``, ``title``
        the name in a configuration; the name in messages, in the provider's own spelling (default: ``name``).
    ``streams``, ``actions``, ``sandbox``
        what it reads, what it writes, and the local imitation of its provider. Each is the value itself, or a text
        ``"package.module:NAME"`` that is imported when the value is needed (:class:`ConnectorPlugin` offers them).
    ``judge``, ``statuses``, ``reason``
        what a response means. A stream's ``judge`` and ``statuses`` come first, then these, then the HTTP status
        alone. ``reason``: the paths at which an error body states its reason, see :meth:`Response.reason`.
    ``origins``
        settings keys with URLs whose origins may receive credentials, too, such as a login host; any other origin than
        these and that of ``base_url`` is refused.
    ``headers``
        headers of every request and login, beside those of the authenticator, as templates over the settings, secrets
        too: ``{"X-Version": "2", "developer-token": "{developer_token}"}``. One that names a setting without a value
        is left out, as is one that a request has itself. Downloads from other origins have none of them.
    ``check``
        one cheap request that records nothing at the provider. Without it ``penstock check`` checks the configuration
        only and reports that.
    """

    name: str
    summary: str
    settings: type[SourceSettings]
    authenticator: Callable[[Any], Authenticator | Named] | None = None
    judge: Judge | None = None
    statuses: Mapping[int, StatusRule] = field(factory=dict, validator=check_statuses)
    reason: tuple[str, ...] = field(default=(), converter=as_names)
    limits: Limits = Limits()
    origins: tuple[str, ...] = field(default=(), converter=as_names)
    headers: Mapping[str, str] = field(factory=dict)
    check: Callable[[Any, Slice], Request] | None = None
    streams: Iterable[Stream] | str = ()
    actions: Iterable[Action] | str = ()
    sandbox: Sandbox | str | None = None
    title: str = field(default=attrs.Factory(lambda connector: connector.name, takes_self=True))


@frozen(eq=False, repr=False)
class ConnectorPlugin:
    """
    The plugin of one connector: the hooks for its source, streams, actions and sandbox.

    ``declared`` is the connector, or a text ``"package.module:NAME"`` that is imported when a hook is called. With
    ``name``, the connector's, it is imported only when that connector or a list of all is needed. An entry point names
    this object: ``connector_acme = "connector_acme:plugin"``.
    """

    declared: Connector | str
    name: str = ""

    @property
    def __name__(self) -> str:
        return self.declared.partition(".")[0] if isinstance(self.declared, str) else self.declared.name

    def _connector(self) -> Connector:
        connector = _import(self.declared)
        if not isinstance(connector, Connector):
            raise TypeError(f"it is {type(connector).__name__}; write Connector(...)")
        if self.name not in ("", connector.name):
            raise ValueError(f"ConnectorPlugin states {self.name!r}, its connector is {connector.name!r}: name one")
        return connector

    def _offered(self, source: str, member: str) -> Any:
        if self.name not in ("", source):
            return ()
        connector = self._connector()
        return _import(getattr(connector, member)) if connector.name == source else ()

    @hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        return [self._connector()]

    @hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        streams: Iterable[Stream] = self._offered(source, "streams")
        return streams

    @hookimpl
    def penstock_actions(self, source: str) -> Iterable[Action]:
        actions: Iterable[Action] = self._offered(source, "actions")
        return actions

    @hookimpl
    def penstock_sandboxes(self) -> Iterable[Sandbox]:
        sandbox = _import(self._connector().sandbox)
        return [] if sandbox is None else [sandbox]


def _import(value: Any) -> Any:
    """The value itself, or what a text ``"package.module:NAME"`` names."""
    if not isinstance(value, str):
        return value
    module, _, name = value.partition(":")
    try:
        imported = import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # of an import within
        package = sys.modules.get(module.rpartition(".")[0])
        beside = [module.name for module in iter_modules(getattr(package, "__path__", []))]
        meant = did_you_mean(module.rpartition(".")[2], beside)
        raise ImportError(f'the connector names "{value}", and there is no module {module}.{meant}') from None
    if not hasattr(imported, name):
        meant = did_you_mean(name, [name for name, made in vars(imported).items() if not isinstance(made, type)])
        raise ImportError(f'the connector names "{value}", and {module} has no {name or "name behind a colon"}.{meant}')
    return getattr(imported, name)


@frozen(kw_only=True, eq=False, repr=False)
class Registration:
    """A component that a plugin offers under a name: ``factory(**options)`` makes it."""

    name: str
    factory: Callable[..., Any]
    summary: str
