"""
What a plugin declares: a connector with its settings, its streams and actions; a sink; a sandbox.

All frozen values, keyword-only: they gain optional fields, they never lose one. Functions among the fields are pure.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs

from penstock.model import Ask, Kind, Receipt, Request, Response
from penstock.parts import Authenticator, BodyDecoder, Judge, Named, Paginator, Poller, Verdict
from penstock.record import Column, columns_of
from penstock.values import field, frozen

if TYPE_CHECKING:
    from penstock.sink import Sink

# --- settings -------------------------------------------------------------------------------------------------------

_METADATA = "penstock"


def setting(default: Any = attrs.NOTHING, *, help: str, shapes: bool = False, **more: Any) -> Any:
    """
    One configuration key. Without ``default`` it is required.

    ``shapes``: the provider's answer depends on it, so changing it makes delivered partitions wanted again.
    ``more`` goes to :func:`attrs.field` (``validator``, ``converter``).
    """
    if default is not attrs.NOTHING:
        more["default"] = default
    return attrs.field(metadata={_METADATA: {"help": help, "shapes": shapes}}, **more)


def help_of(attribute: "attrs.Attribute[Any]") -> str:
    """What :func:`setting` was told of a key, for people."""
    return str(attribute.metadata.get(_METADATA, {}).get("help", ""))


def shapes(attribute: "attrs.Attribute[Any]") -> bool:
    """Whether the provider's answer depends on this key."""
    return bool(attribute.metadata.get(_METADATA, {}).get("shapes", False))


@frozen(kw_only=True)
class SourceSettings:
    """
    The keys every source takes. A connector's own settings extend this class and may set other defaults.

    A default of None for a pace or a bound means: what the connector declares in its ``Limits``.
    """

    base_url: str = setting(help="where the provider answers; requests and credentials go to this origin only")
    start: date | None = setting(None, help="the first day wanted; default: the provider's retention, else 90 days ago")
    timezone: str = setting("UTC", help="IANA name of the zone in which days are cut", shapes=True)
    open_for: str | None = setting(None, help='how long a day stays open, such as "3 days"; default: per stream')
    requests_per_second: float | None = setting(None, help="pace of requests; default: what the provider allows")
    concurrency: int | None = setting(None, help="requests under way at once; default: what the provider allows")
    timeout_s: float = setting(60.0, help="seconds without a byte before a request counts as lost")
    poll_first_s: float | None = setting(None, help="seconds before a report is first asked for; default: per stream")
    poll_max_s: float | None = setting(None, help="longest pause between two polls, in seconds; default: per stream")
    poll_deadline_s: float | None = setting(
        None, help="seconds until a report that is not ready has failed; default: per stream"
    )
    retry_first_s: float = setting(1.0, help="upper bound of the first pause before a retry, in seconds; it doubles")
    retry_max_s: float = setting(60.0, help="longest pause before a retry that the provider did not ask for")
    retries: int = setting(5, help="how often a request is tried again before its partition fails")
    throttle_wait_s: float = setting(300.0, help="longest pause that a provider may impose (Retry-After), in seconds")
    max_body_mib: int = setting(256, help="largest answer, decompressed, in MiB")
    max_pages: int = setting(100_000, help="most pages of one listing")
    include_personal: bool = setting(True, help="whether columns with personal data are delivered", shapes=True)
    exclude: tuple[str, ...] = setting((), help='columns to leave out, as "column" or "stream.column"', shapes=True)
    allow_writes: bool = setting(False, help="whether actions may be sent")
    allow_http: bool = setting(False, help="whether plain http is allowed beyond this machine")
    proxy: str | None = setting(None, help="URL of a proxy; default: HTTPS_PROXY and its kin in the environment")
    ca_file: str | None = setting(None, help="CA bundle; default: SSL_CERT_FILE, else the system's")

    def notices(self) -> tuple[str, ...]:
        """What the user of these settings should know before anything is sent, told once by every command."""
        return ()


# --- connectors and streams -----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Limits:
    """
    What the provider allows, or, where it does not say, what is polite. The configuration may set other numbers.
    """

    requests_per_second: float | None = None
    concurrency: int = 1
    cool_down_s: float = 60.0  # pause of the whole source when throttled without a Retry-After


@frozen(kw_only=True, eq=False)
class Connector:
    """
    A provider as one plugin offers it. Everything that depends on an account's configuration takes ``settings``.

    ``name`` is what a configuration calls it, ``title`` what messages do: the provider's own spelling of its name.
    ``check`` names one cheap request that records nothing at the provider; without it, ``penstock check`` looks at
    the configuration only and says so.
    """

    name: str
    summary: str
    settings: type[SourceSettings]
    authenticator: Callable[[Any], Authenticator | Named] | None = None
    judge: Judge | None = None
    limits: Limits = Limits()
    check: Callable[[Any, Ask], Request] | None = None
    title: str = field()

    @title.default
    def _title(self) -> str:
        return self.name


@frozen
class OpenFor:
    """
    How long a provider may restate a day: ``days`` after its end, and at least through day ``month_day`` of the month
    after it. A reading made after that is final.
    """

    days: int = 0
    month_day: int | None = None

    def until(self, day: date, zone: tzinfo) -> datetime:
        """The moment from which a reading of ``day`` is final."""
        closes = day + timedelta(days=1 + self.days)
        if self.month_day is not None:
            following = (day.replace(day=1) + timedelta(days=32)).replace(day=self.month_day)
            closes = max(closes, following + timedelta(days=1))
        return datetime.combine(closes, time(), zone)

    @classmethod
    def parse(cls, text: str) -> "OpenFor":
        """From ``3 days`` or ``40 days, 8th of next month``; ValueError otherwise."""
        found = re.fullmatch(
            r"\s*(\d+)\s*(?:d|days?)?(?:\s*,?\s*(\d+)(?:st|nd|rd|th)? of (?:the )?next month)?\s*", text
        )
        if found is None or (found[2] and not 1 <= int(found[2]) <= 28):
            raise ValueError(f'{text!r} is not a time such as "3 days" or "40 days, 8th of next month"')
        return cls(int(found[1]), int(found[2]) if found[2] else None)

    def __str__(self) -> str:
        months = f", until day {self.month_day} of the next month at least" if self.month_day else ""
        return f"{self.days} day{'' if self.days == 1 else 's'}{months}"


@frozen(kw_only=True)
class Parent:
    """
    A child stream's parent: ``links`` turns one parent row (a mapping of its ``columns``) into the parents of a
    request, each a mapping; no mapping, no request; equal ones are asked once.

    ``per_request``: how many of them one request takes.
    """

    stream: str
    columns: tuple[str, ...]
    links: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]] = lambda row: [row]
    per_request: int = 1


@frozen(kw_only=True)
class Derived:
    """
    A stream cut from its parent's batches: the elements of the nested ``column`` of ``stream``, each stamped with
    ``stamps`` (own column -> parent's column). It travels with its parent: same request, transaction and ledger row.
    """

    stream: str
    column: str
    stamps: Mapping[str, str]


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


@frozen(kw_only=True, eq=False)
class Stream:
    """
    One kind of record that a source offers. Functions take the source's ``settings``; all are pure.

    ``record``, ``kind``, ``key``
        the record class; ``report``, ``changes`` or ``snapshot``; the columns that tell its rows apart.
    ``requests(settings, ask)``
        the first requests of an ask, each the head of a listing of its own; a poller makes of each a submission.
    ``account``, ``day``
        the columns of its partitions: an account times, unless it is a snapshot, a day. Where the record class lacks
        one it is added, and where nothing else fills it the ask's is stamped on every row.
    ``accounts``, ``accounts_from``
        the configured accounts; where there are none (None), they are the values of a column of another stream, as
        ``(stream, column)``, remembered by the ledger.
    ``days_per_request``, ``day_of``
        how many consecutive days one request may cover, and the column that a row's own day is then read from.
    ``end_unsure``
        the provider does not say how exactly it cuts a period: rows (``day_of``, a time) outside of an ask's are
        dropped as repeated, since they come with another. Where it turns out to go by whole days, days are not cut
        further.
    ``parent``, ``derived``
        it is asked for by the rows of another stream, or cut from its batches.
    ``envelope``, ``paginator``, ``poller``, ``downloads``
        the parts it is read with: as they are, by name (:func:`penstock.parts.named`), or as functions of the settings.
        Default: the body is the item or items; one page; no poller; a poller's downloads are read by the envelope.
    ``poll_first_s``, ``poll_max_s``, ``poll_deadline_s``
        of a report on demand: seconds before it is first asked for, between two polls at most, and until it has failed.
    ``judge``
        asked before the connector's.
    ``earliest(today)``
        the first day that the provider still serves; default: all of them.
    ``open_for``
        how long after its end a day of a report may be restated.
    ``overlap``, ``lag``
        of changes: how far a window reaches back before its start, and how long before now it must end.
    ``more_columns``
        columns that the configuration declares, behind those of the record class.
    ``on_by_default``, ``needs``
        whether a run without ``--streams`` reads it, and the settings without which it cannot run.
    ``not_built``
        it is listed with this reason and cannot be run.
    """

    name: str
    summary: str
    record: type
    kind: Kind
    key: tuple[str, ...] = field(default=(), converter=_names)
    requests: Callable[[Any, Ask], Iterable[Request]] = lambda settings, ask: ()
    account: str | None = None
    accounts: Callable[[Any], Sequence[str] | None] | None = None
    accounts_from: tuple[str, str] | None = None
    day: str | None = None
    day_of: str | Callable[[Any], str | None] | None = None
    end_unsure: bool = False
    parent: Parent | None = None
    derived: Derived | None = None
    envelope: BodyDecoder | Named | Callable[[Any], BodyDecoder] | None = None
    paginator: Paginator | Named | Callable[[Any], Paginator] | None = None
    poller: Poller | Named | Callable[[Any], Poller] | None = None
    downloads: BodyDecoder | Named | Callable[[Any], BodyDecoder] | None = None
    days_per_request: int | Callable[[Any], int] = 1
    earliest: Callable[[date], date] | None = None
    open_for: OpenFor = OpenFor(0)
    overlap: timedelta = timedelta(0)
    lag: timedelta = timedelta(0)
    more_columns: Callable[[Any], Sequence[Column]] | None = None
    on_by_default: bool = True
    needs: tuple[str, ...] = ()
    poll_first_s: float = 5.0
    poll_max_s: float = 60.0
    poll_deadline_s: float = 1800.0
    judge: Judge | None = None
    not_built: str = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its record class, in the order of their declaration."""
        return columns_of(self.record)


# --- actions --------------------------------------------------------------------------------------------------------

Place = Literal["path", "query", "header", "body", "whole_body"]
FieldType = Literal["text", "integer", "number", "boolean", "object", "list", "json"]

Values = Mapping[str, Any]
"""A row ready to be sent: field name -> typed value; absent ones have no entry."""

ActionJudge = Callable[[Response, Sequence[Values]], Sequence[Receipt] | Verdict | None]
"""
What the answer means to the rows of its request: a receipt for each (``row``: its place in the request), or a verdict.

``Refuse`` with a RefusedError refuses these rows, with any other error it ends the job, these rows unsent; ``Retry``
says that nothing was captured where it asks for a pause or a new grant, and otherwise that nobody knows.
None leaves it to the connector's judge and the status.
"""


@frozen(kw_only=True)
class Field:
    """
    One parameter of an action. ``name`` is snake_case, ``member`` the provider's spelling (default: the name); both
    are taken, and those of ``also``.

    ``whole_body``: the value is the body. ``repeated``: one or several values, sent under the same name each (query).
    """

    name: str
    member: str = field()
    place: Place = "body"
    type: FieldType = "text"
    required: bool = False
    repeated: bool = False
    choices: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    description: str = ""

    @member.default
    def _member(self) -> str:
        return self.name


@frozen(kw_only=True)
class Grouping:
    """
    How rows may share a request: those that differ in ``field``, a repeated one, and in nothing else.

    ``most`` values of it, ``most_url`` characters of the URL; a row that has one of ``never_with`` travels alone.
    """

    field: str
    most: int
    most_url: int
    never_with: tuple[str, ...] = ()


@frozen(kw_only=True, eq=False)
class Action:
    """
    One write to a provider. ``path`` is a template below ``base_url`` with fields in braces; ``endpoint`` gives method
    and path where they depend on the settings.

    ``rows_per_request`` above 1: the body is a list with an object for each row, or for each object of the row's list
    ``body``. ``open_body``: the provider's document does not show every member, so the parameter ``body`` (an object)
    is sent with whatever members it has. ``prepare`` raises ValueError for values that must not be sent.
    ``repeatable``: sending it twice is the same as once, so an unknown outcome is tried again. ``destroys``: needs
    ``--yes``. ``not_built``: listed with this reason and never sent.
    """

    name: str
    summary: str
    method: str
    path: str
    endpoint: Callable[[Any], tuple[str, str]] | None = None
    fields: tuple[Field, ...] = ()
    rows_per_request: int = 1
    grouping: Grouping | None = None
    open_body: bool = False
    prepare: Callable[[Any, Values], None] = lambda settings, values: None
    judge: ActionJudge | None = None
    repeatable: bool = False
    destroys: bool = False
    not_built: str = ""

    @property
    def bulk(self) -> bool:
        """Whether the body is a list of objects, one or more for each row."""
        return self.rows_per_request > 1


# --- parts by name --------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Registration:
    """A part that a plugin offers under a name: ``factory(**options)`` makes it."""

    name: str
    factory: Callable[..., Any]
    summary: str


# --- sinks ----------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class SinkKind:
    """
    An output as a plugin offers it.

    ``scheme``: what ``--to`` begins with (``jsonl`` for ``jsonl:DIR``, ``postgresql``; ``-`` for stdout). ``settings``
    is an attrs class of :func:`setting` keys, ``parse`` makes it from the text after ``--to`` (the whole text, scheme
    included), ``open`` makes the sink. ``query`` gives the rows of a query in the sink's own language, each a mapping
    of column to value, for ``penstock act --from SINK --query``. ``named_streams`` gives, by key of the settings, the
    streams that they name: one that no source has is refused.
    """

    name: str
    summary: str
    promise: str
    scheme: str
    settings: type
    parse: Callable[[str], Any]
    open: Callable[[Any], "Sink"]
    query: Callable[[Any, str], Iterable[Mapping[str, Any]]] | None = None
    named_streams: Callable[[Any], Mapping[str, Iterable[str]]] | None = None


# --- sandboxes ------------------------------------------------------------------------------------------------------


class SandboxApp(Protocol):
    """
    A local imitation of a provider: called once per request, from any thread; all state lives in the object.
    """

    def __call__(self, request: "SandboxRequest") -> "SandboxResponse": ...


@frozen(kw_only=True)
class SandboxRequest:
    """A request as the imitation sees it; ``target`` is path and query byte for byte as sent."""

    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def path(self) -> str:
        """The path, without the query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query, without its question mark; empty without one."""
        return self.target.partition("?")[2]


@frozen(kw_only=True)
class SandboxResponse:
    """What the imitation answers."""

    status: int = 200
    headers: Mapping[str, str] = field(factory=lambda: {"Content-Type": "application/json"})
    body: bytes = b""


@frozen(kw_only=True)
class Sandbox:
    """
    How to start the imitation of a connector's provider.

    ``make(base_url, today)`` gives the application, called once it is known where it will be served; ``settings`` are
    the source's keys (as TOML would hold them, without ``base_url``) with which a source reads it.
    """

    connector: str
    summary: str
    make: Callable[[str, date], SandboxApp]
    settings: Mapping[str, Any]
