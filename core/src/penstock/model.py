"""
The values that cross from one stage to another. All frozen; none knows the network, the clock or a file.

In the order in which a run makes them: the plan (:class:`Partition`, :class:`Slice`), the request (:class:`Request`),
the response (:class:`Response`, :class:`Answer`, :class:`Page`), the records (:class:`Batch`, :class:`Rejected`), and
the result of a write (:class:`Receipt`).
"""

import html
import io
import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, BinaryIO, Literal, Protocol
from urllib.parse import parse_qsl, quote, urljoin, urlsplit

import msgspec
from attrs import evolve, field, frozen

from penstock.names import as_names
from penstock.redact import MASK, Secret, clip, mask

Kind = Literal["report", "changes", "snapshot"]
Pairs = tuple[tuple[str, str], ...]


def encode_query(params: Sequence[tuple[str, str]]) -> str:
    """
    ``name=value&...`` in the given order, percent-encoded as JavaScript's ``encodeURIComponent`` does (space ``%20``).
    """
    return "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in params])


@lru_cache(1000)  # names, accounts and days come again and again
def _quoted(text: str) -> str:
    return quote(text, safe=_UNRESERVED)


def _pairs(pairs: Iterable[tuple[str, str]]) -> Pairs:
    checked: tuple[Any, ...] = (pairs,) if hasattr(pairs, "items") else tuple(pairs)
    for pair in checked:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"found {type(pair).__name__}, expected a pair of name and value; a mapping has .items()")
        name, value = pair
        if not isinstance(value, str):
            write = "secret.reveal(), in an authenticator" if isinstance(value, Secret) else f'"{value}"'
            raise TypeError(f"the value of {name} is {type(value).__name__}, and no text; write {write}")
    return checked


def _text_in_json(value: object) -> str:
    """The text of a value that JSON has no form for. Raises TypeError for a Secret: its text would be sent as ***."""
    if isinstance(value, Secret):
        raise TypeError("a value of the body is Secret, and no text; write secret.reveal(), in an authenticator")
    return str(value)


def _names(names: str | Iterable[str]) -> frozenset[str]:
    return frozenset(as_names(names))


_LOOKED_AT = 1 << 16  # bytes of a body that are searched for a message: it may begin with much whitespace

_SIGNED = r"(https?:(?:\\?/){2}[^\s\"'<>?#]+\?)[^\s\"'<>]+"  # a URL in a body, up to its query

_UNRESERVED = "!*'()"  # quote() itself leaves letters, digits and _ . - ~ alone


def origin_of(url: str) -> str:
    """
    ``scheme://host:port`` of ``url``, lower case, the scheme's own port made explicit; an address of IPv6 in brackets.
    """
    address = urlsplit(url)
    port = address.port or {"http": 80, "https": 443}.get(address.scheme, 0)
    host = (address.hostname or "").lower()
    return f"{address.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether this host is the machine itself, judged by its name or address alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def same_host(url: str, base: str) -> bool:
    """Whether two URLs have the same host, and the same port or each the default port of its scheme."""
    try:
        address, base_address = urlsplit(url), urlsplit(base)
        return address.hostname == base_address.hostname and address.port == base_address.port
    except ValueError:  # a port that is no number
        return False


def plain_http_problem(url: str, *, allow_http: bool) -> str:
    """Why ``url`` may not be used: plain http beyond this machine needs ``allow_http``. Empty if it may."""
    address = urlsplit(url)
    if address.scheme != "http" or allow_http or is_loopback(address.hostname or ""):
        return ""
    return (
        f"plain http to {address.hostname}: credentials and data could be read on the way. Write https, or set "
        "allow_http = true for a host that is reached over a trusted network"
    )


_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def is_like_day(text: str) -> bool:
    """Whether a text is written as a day is (YYYY-MM-DD), also where there is no such day."""
    return _DAY.fullmatch(text) is not None


@frozen(order=True, cache_hash=True)
class Partition:
    """
    The part of a stream that is planned, delivered, committed and replaced as a unit.

    ``values`` are (column, text) pairs in path order: the account first, then the day as ``YYYY-MM-DD``; a snapshot
    without accounts has none.
    """

    stream: str
    values: Pairs = ()

    @property
    def text(self) -> str:
        """The values as canonical JSON: the ledger's key."""
        return EXACT_JSON.encode(dict(self.values)).decode()

    @property
    def day(self) -> date | None:
        """The day of a partition that has one: its last value."""
        last = self.values[-1][1] if self.values else ""
        try:
            return date.fromisoformat(last) if is_like_day(last) else None
        except ValueError:  # a directory that somebody made
            return None

    @property
    def without_day(self) -> "Partition":
        """The account of a partition that has a day; any other partition itself."""
        return self if self.day is None else Partition(self.stream, self.values[:-1])

    def __str__(self) -> str:
        values = ", ".join(f"{column}={value}" for column, value in self.values)
        return f"{self.stream}[{values}]" if values else self.stream

    def as_dict(self) -> dict[str, str]:
        """The values by column, in path order."""
        return dict(self.values)


@frozen(kw_only=True)
class Slice:
    """
    What one request covers: consecutive days of an account, or an account of a snapshot.

    ``start`` (included) and ``end`` (not included) are aware, in the source's zone: the first day's beginning and the
    last day's end, unless the core split the slice because the provider cut its response short; for ``changes`` with
    overlap and lag. None, as ``days`` is empty, for a snapshot. ``parents`` holds the parent rows of a child's request,
    each a mapping of the columns that the stream's ``Parent`` names.
    """

    now: datetime
    account: str | None = None
    days: tuple[date, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    parents: tuple[Mapping[str, Any], ...] = ()

    @property
    def since(self) -> date:
        """The first day."""
        return self.days[0]

    @property
    def until(self) -> date:
        """The last day, included."""
        return self.days[-1]

    @property
    def parent(self) -> Mapping[str, Any]:
        """The one parent row, for a child with one request per parent."""
        return self.parents[0]


@frozen(kw_only=True)
class Request:
    """
    One HTTP request, complete but for what the authenticator adds.

    ``url`` is absolute and, unless an authenticator finished it, without a query; ``params`` keep their order and are
    encoded once, by :func:`encode_query`. ``columns`` are stamped on every record of the response; a frozenset is not
    stamped: it has the values that were requested, and a record with another one is rejected. ``masked`` names the
    parameters and headers whose values are not shown.
    """

    method: str = "GET"
    url: str
    params: Pairs = field(default=(), converter=_pairs)
    headers: Pairs = field(default=(), converter=_pairs)
    body: bytes | None = field(default=None, repr=False)
    credentials: bool = True  # False: a download, sent without the authenticator
    as_file: bool = False  # a large body is put into a temporary file: the decoder reads files
    is_write: bool = False  # a write: no redirect is followed, and no connection is used that may just be closing
    columns: Mapping[str, Any] = field(factory=dict)
    masked: frozenset[str] = field(default=frozenset(), converter=_names)

    @classmethod
    def json(cls, method: str, url: str, value: Any, **more: Any) -> "Request":
        """A request whose body is ``value`` as JSON. Raises TypeError for a Secret in it, whose text is ``***``."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_text_in_json).encode()
        headers = (*more.pop("headers", ()), ("Content-Type", "application/json"))
        return cls(method=method, url=url, body=body, headers=headers, **more)

    @classmethod
    def link(cls, base: str, link: str, *, keep_scheme: bool = False, **more: Any) -> "Request":
        """
        A GET of ``link`` as a response has it (absolute, or relative to ``base``), its query split into ``params``.
        ``keep_scheme``: a link to the host of ``base`` gets the scheme of ``base``, where a provider behind a proxy
        writes http for https.
        """
        joined = urljoin(base, link)
        if keep_scheme and same_host(joined, base):
            joined = urlsplit(joined)._replace(scheme=urlsplit(base).scheme, netloc=urlsplit(base).netloc).geturl()
        url, _, query = joined.partition("#")[0].partition("?")
        return cls(url=url, params=tuple(parse_qsl(query, keep_blank_values=True)), **more)

    @property
    def full_url(self) -> str:
        """The URL as sent, byte for byte."""
        if not self.params:
            return self.url
        return f"{self.url}{'&' if '?' in self.url else '?'}{encode_query(self.params)}"

    @property
    def identity(self) -> tuple[str, str, bytes | None, Pairs]:
        """The identity of this request: method, URL, body, and the declared headers."""
        return self.method, self.full_url, self.body, self.headers

    @property
    def origin(self) -> str:
        """``scheme://host:port``, see :func:`origin_of`."""
        return origin_of(self.url)

    def param(self, name: str) -> str | None:
        """The value of the first parameter of this name."""
        return next((value for other, value in self.params if other == name), None)

    def with_param(self, name: str, value: str) -> "Request":
        """The same request with this parameter set, at its old place if it had one, else at the end."""
        if self.param(name) is None:
            return evolve(self, params=(*self.params, (name, value)))
        return evolve(self, params=tuple((other, value if other == name else old) for other, old in self.params))

    def with_headers(self, *headers: tuple[str, str]) -> "Request":
        """The same request with these headers, each in place of one of its name."""
        headers = _pairs(headers)
        names = {name.lower() for name, _ in headers}
        others = tuple(pair for pair in self.headers if pair[0].lower() not in names)
        return evolve(self, headers=(*others, *headers))

    def __str__(self) -> str:
        """Method and URL as a message may show them: secrets and ``masked`` parameters as ``***``."""
        query = "&".join(
            f"{name}={MASK}" if name in self.masked else encode_query([(name, value)]) for name, value in self.params
        )
        url, finished, _ = self.url.partition("?")  # a finished URL carries its own signature or token
        if finished:
            query = MASK
        return mask(f"{self.method} {url}{'?' if query else ''}{query}")


class BodyFile(Protocol):
    """A body that is not in memory."""

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO: ...


@frozen(kw_only=True, eq=False)
class Response:
    """
    A whole HTTP response; header names are lower case, the body is decompressed.

    ``measured``: whether the response states where its body ends, as by its length. A body that just ended with its
    connection may be cut, which shows only in a format that has an end of its own, such as JSON.

    ``file``: where a large body is, whose decoder reads files (:class:`~penstock.report_files.ReportFile`); ``body`` is
    then its beginning.

    ``max_unpacked_bytes``: the largest size that a file in the body may have, unpacked: the source's
    ``max_report_mib``.
    """

    status: int
    headers: Pairs = ()
    body: bytes = field(default=b"", repr=False)
    received_at: datetime
    measured: bool = True
    file: "BodyFile | None" = field(default=None, repr=False, eq=False)
    max_unpacked_bytes: int = 2**30

    @property
    def size(self) -> int:
        """Bytes of the whole body."""
        return self.file.size if self.file is not None else len(self.body)

    def open(self) -> BinaryIO:
        """The whole body as a file, at its start; each has a place of its own."""
        return self.file.open() if self.file is not None else io.BytesIO(self.body)

    def header(self, name: str) -> str | None:
        """The first header of this name, in any case."""
        name = name.lower()
        for other, value in self.headers:
            if other == name:
                return value
        return None

    def json(self, *, exact: bool = False) -> Any:
        """
        The body as JSON; None if it is not JSON.

        ``exact``: numbers keep their digits (Decimal). A body with a duplicate member, or with text that UTF-8 cannot
        represent, gives None.
        """
        try:
            return exact_json(self.body.decode()) if exact else json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def date(self) -> datetime | None:
        """The provider's time, aware, from the ``Date`` header; None without one or with a broken one."""
        return http_date(self.header("date"))

    def members(self) -> dict[str, Any] | None:
        """The members of the JSON object that the body is, for a judge; None when it is anything else."""
        value = self.json()
        return value if isinstance(value, dict) else None

    def reason(self, paths: Sequence[str] = (), limit: int = 200) -> str:
        """
        The provider's own words in an error body, as one line of masked text; the start of the body without any.

        ``paths``: where a JSON object states its reason, in order of preference: ``"message"``, ``"error.message"``,
        ``"errors[].detail"`` (of each element). The texts of the first path that has one are joined by ``"; "``.
        """
        members = self.members() if paths and len(self.body) <= _LOOKED_AT else None
        return reason_in(members, paths, limit) or self.words(limit)

    def text(self, limit: int = 300) -> str:
        """The start of the body as one line of masked text, for a message."""
        return self._line(self.body[:_LOOKED_AT].decode("utf-8", "replace"), limit)

    def words(self, limit: int = 200) -> str:
        """The same for a person: the first words of HTML or XML without the markup, any other body as it stands."""
        start = self.body[:_LOOKED_AT].decode("utf-8", "replace")
        return self._line(_words_of_page(start) or start, limit)

    def _line(self, text: str, limit: int) -> str:
        words = text.split()
        if len(self.body) > _LOOKED_AT and len(words) > 1:
            del words[-1]  # it may be half a secret, which is not recognised
        # A signed link is a credential: whoever has it gets the report.
        line = mask(re.sub(_SIGNED, rf"\1{MASK}", " ".join(words)))
        return line if len(line) <= limit else line[: limit - 1] + "…"


_MARKUP = r"(?is)<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)|<[^>]*(?:>|\Z)"


def _words_of_page(text: str) -> str:
    """The words of HTML or XML; empty for any other text, and for a page without words."""
    if not text.lstrip().startswith("<"):
        return ""
    return html.unescape(re.sub(_MARKUP, " ", text)).strip()


def reason_in(members: Any, paths: Sequence[str], limit: int = 200) -> str:
    """The text at the first of ``paths`` that has one, masked; empty without one. See :meth:`Response.reason`."""
    for path in paths:
        if words := [text for value in _at(members, path.split(".")) if (text := " ".join(value.split()))]:
            return clip("; ".join(words), limit)
    return ""


def _at(value: Any, path: Sequence[str]) -> Iterator[str]:
    """The values at a path of members, as texts; ``name[]`` stands for each element of an array."""
    if not path:
        if isinstance(value, (dict, list)) and value:
            yield json.dumps(value, ensure_ascii=False, default=str)
        elif isinstance(value, (str, int, float, Decimal)) and not isinstance(value, bool):
            yield str(value)
        return
    name = path[0].removesuffix("[]")
    inner = value.get(name) if isinstance(value, dict) else None
    values = inner if path[0].endswith("[]") and isinstance(inner, list) else [inner]
    for element in values:
        yield from _at(element, path[1:])


@frozen(kw_only=True, eq=False)
class Items:
    """
    A run of raw elements inside a body, and the columns stamped on its records.

    ``format``: ``raw`` is one JSON array, one JSON object (a single element), JSON lines, or lines of CSV whose columns
    ``header`` names. ``texts``: every value came as text (CSV), so a number or boolean column takes its text.
    ``footer`` and ``totals`` are texts with which the first cell of a row of CSV begins that is no record; totals are
    compared with the sums of the rows. ``path`` is where in the body this is, and ``first`` the index of its first
    element there, for the path of a rejected element.
    """

    raw: Any = field(repr=False)  # bytes, or a view into the body
    format: Literal["array", "object", "lines", "csv"] = "array"
    texts: bool = False
    columns: Mapping[str, Any] = field(factory=dict)
    path: str = "$"
    first: int = 0
    header: tuple[str, ...] = ()
    delimiter: str = ","
    footer: tuple[str, ...] = ()
    totals: tuple[str, ...] = ()


@frozen(kw_only=True)
class Answer:
    """
    The content of an envelope: the items, the provider's counts, and the members that a judge reads.

    ``problem``: the body is JSON but not the declared envelope. Unless the judge decides (about an error that the body
    states, say), such an answer raises BrokenBodyError with this text.

    ``provisional``: why the provider's numbers are not final yet; "" if they are, or if the answer does not state it.
    A provisional answer is delivered, and its partition stays open.

    ``bare``: the body is the array of the items itself, where the envelope declares an object as well.

    ``failure``: member and value by which the body states a failure, such as ``error "timeout"``, whether there are
    items or not; "" without one.
    """

    items: Iterable[Items] = ()  # may be iterated over several times; of a large file, it is read each time
    total: int | None = None  # records over all pages, as the provider states it
    pages: int | None = None
    head: Mapping[str, Any] = field(factory=dict)
    problem: str | None = None
    provisional: str = ""
    bare: bool = False
    failure: str = ""


@frozen(kw_only=True, eq=False)
class Page:
    """
    One accepted response of a listing. Its counts are set after it is decoded, before a paginator's ``next``.
    """

    request: Request
    response: Response
    answer: Answer
    index: int = 0  # 0-based place in its listing
    count: int = 0  # elements
    fresh: int = 0  # elements whose key no earlier page of the listing had
    listed: int = 0  # elements of the listing so far, this page's included
    distinct: int = 0  # of these, the ones that were fresh
    longest: int = 0  # elements on the longest page of this stream in this run, of those requested with the same size


@frozen(kw_only=True)
class Rejected:
    """
    An element that could not become a record: its path, the reason, and its raw JSON (secret members masked).
    """

    stream: str
    path: str  # "$[3].price"
    reason: str
    raw: str
    column: str = ""  # whose value was at fault; "": the whole element, or not known (read back from a ledger)


@frozen(kw_only=True)
class Batch:
    """
    The typed records of one page, the unit that moves through decode, hooks and sink.

    ``rows`` are objects read by attribute, one attribute per column of ``layout``, encodable by msgspec as they are.
    """

    layout: Any  # a penstock.sinks.Layout
    rows: list[Any] = field(repr=False)
    rejected: tuple[Rejected, ...] = ()
    unknown: tuple[str, ...] = ()  # member names that the record class does not know

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def dicts(self) -> list[dict[str, Any]]:
        """The rows as mappings of column to value, in the layout's order."""
        names = [column.name for column in self.layout.columns]
        return [{name: getattr(row, name) for name in names} for row in self.rows]


ReceiptStatus = Literal["done", "partial", "refused", "unknown"]


@frozen(kw_only=True)
class Receipt:
    """
    The result of a write to a provider, for one input row (0-based). ``unknown``: sent, without a response.

    ``answer``: the body of the provider's response as JSON-like values, where it contains more than the status. A
    number with a point is a Decimal.
    """

    row: int
    status: ReceiptStatus
    reason: str = ""
    answer: Any = None


# --- texts of bodies ---

_SURROGATE = r"\\u[dD][89a-fA-F]|[\ud800-\udfff]"


EXACT_JSON = msgspec.json.Encoder(decimal_format="number")
"""Writes JSON with the digits of its numbers kept: a Decimal as a number, never through a float."""

PLAIN_JSON: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=Decimal)
"""Reads JSON as dictionaries, lists and texts, with the digits of its numbers kept."""


def exact_json(text: str) -> Any:
    """
    JSON with the digits of its numbers kept.

    Raises ValueError for invalid JSON, for a duplicate member, and for text that UTF-8 cannot represent.
    """

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no number")

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        unique = dict(pairs)
        if len(unique) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"the member {next(name for name in names if names.count(name) > 1)} is there twice")
        return unique

    try:
        value = json.loads(text, parse_float=Decimal, parse_constant=refuse, object_pairs_hook=members)
        if re.search(_SURROGATE, text):
            json.dumps(value, default=str, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half a character, an escape such as \\ud83d without its second half") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def is_short_integer(number: Decimal) -> bool:
    """Whether the number is whole and has 18 digits at most. Of 1e999999999, ``int`` would take hours."""
    return number.is_finite() and number.adjusted() < 18 and number == number.to_integral_value()


def flag(value: Any) -> Any:
    """A member that states success or a status, also as text (``"false"``, ``"400"``) or as ``400.0``."""
    if isinstance(value, Decimal) and is_short_integer(value):
        return int(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[value.strip().lower()]
    return int(value) if isinstance(value, str) and re.fullmatch(r"[1-5][0-9]{2}", value.strip()) else value


def http_date(text: str | None) -> datetime | None:
    """An HTTP date as an aware datetime; None for no date or a broken one."""
    if not text:
        return None
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter: a year or an hour of ten digits
        return None
    return when if when.tzinfo is not None else None
