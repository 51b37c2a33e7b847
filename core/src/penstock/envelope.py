"""
Body to items: the position of the elements in a body, and the counts that the provider states.

:class:`Envelope` reads only the outside of a body in JSON: elements are checked for syntax and passed over, which
costs about a sixth of decoding them, and leaves nothing malformed, cut or wrongly encoded to be found later.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, TypedDict

import msgspec
from attrs import field, frozen

from penstock.errors import (
    AuthenticationError,
    BoundExceededError,
    BrokenBodyError,
    RefusedError,
    ServerError,
    ThrottledError,
)
from penstock.model import PLAIN_JSON, Answer, Items, Response, flag
from penstock.names import as_names
from penstock.redact import clip
from penstock.verdicts import Refuse, Retry, Verdict

UTF8_BLOCK = 2**15  # its text, of up to four bytes a letter, still comes from the heap

RAW: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)
MEMBERS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS: msgspec.json.Decoder[list[dict[str, msgspec.Raw]]] = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])

_ERRORS = ("errors", "error")  # members that state why there are no items

GZIP = b"\x1f\x8b"  # how a gzip file begins
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # how a zip file begins


@frozen(kw_only=True, eq=False, repr=False)
class Envelope:
    """
    A JSON body: the paths of the items and of the counts that the provider states.

    A path is the name of a member, dotted for nesting. In a tuple of paths the first one that exists and is not null
    is used; that another one has items as well is a problem. ``""`` is the body itself: an array or, if it is the only
    path, a single object. In a tuple it accepts a bare array in place of the envelope. A single object at the path of
    the items is one item.

    ``single``
        one record is expected, as of a detail: an empty array is another shape, and not no records.
    ``optional``
        a missing member, null, ``{}`` or ``[]`` (PHP's empty map) means that there are no items.
    ``keyed_by``
        the items are a map of arrays; the key becomes this column of the array's records.
    ``within``, ``stamps``
        the items are the arrays ``within`` the elements of an outer array; ``stamps`` are column -> path in the
        outer element. ``optional``, if all outer elements may lack the array.
    ``total``, ``pages``
        the provider's count of records and of pages: a whole number, or one in text. Absent or null: not stated.
    ``head``
        more members for the judge, in ``Answer.head`` under their paths as plain values (exact decimals).
    ``echoes``
        path -> the parameter of the request that the answer repeats there, such as ``{"start_day": "start"}``. Another
        text there is in the response to another request (of a cache, say), and is requested again; absent or null: not
        stated.
    ``provisional_unless``
        path -> the value it has once the numbers are final, such as ``{"isDataGolden": True}`` or
        ``{"percent_calculated": 100}``. With another value there, the answer is delivered and its day stays open;
        absent or null: not stated.

    A member that states a failure (``error``, ``success`` false, ...) is in ``Answer.failure``, unless a path names it.

    Raises BrokenBodyError when the body is no JSON, BoundExceededError when it is nested too deeply; JSON of another
    shape gives an Answer with a ``problem``, since the judge decides about an error that the body states.
    """

    items: tuple[str, ...] = field(default="", converter=as_names)
    single: bool = False
    optional: bool = False
    keyed_by: str | None = None
    within: str | None = None
    stamps: Mapping[str, str] = field(factory=dict)
    total: tuple[str, ...] = field(default=(), converter=as_names)
    pages: tuple[str, ...] = field(default=(), converter=as_names)
    head: tuple[str, ...] = field(default=(), converter=as_names)
    echoes: Mapping[str, str] = field(factory=dict)
    provisional_unless: Mapping[str, Any] = field(factory=dict)
    _names: tuple[str, ...] = field(init=False)  # of the members of the body that are read
    _failures: Mapping[str, None] = field(init=False)  # the members by which the body may state a failure
    _every_name: tuple[str, ...] = field(init=False)  # of both
    _are_maps: bool = field(init=False)  # the items are maps of arrays, of which nothing else is read: read in one go

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of all members that are read beside the items."""
        return (*self.total, *self.pages, *self.head, *self.echoes, *self.provisional_unless)

    @_names.default
    def _default_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path.partition(".")[0] for path in (*self.items, *self.paths) if path))

    @_failures.default
    def _default_failures(self) -> Mapping[str, None]:
        """
        None that the envelope reads, which is left to the connector's judge; a body that is the only item may have any.
        """
        if self.items == ("",):
            return {}
        return dict.fromkeys(name for name in (*ERROR_MEMBERS, *OUTCOME_MEMBERS) if name not in self._names)

    @_every_name.default
    def _default_every_name(self) -> tuple[str, ...]:
        return (*self._names, *self._failures)

    @_are_maps.default
    def _default_are_maps(self) -> bool:
        others = {path.partition(".")[0] for path in self.paths}
        return self.keyed_by is not None and others.isdisjoint(self.items) and "." not in "".join(self.items)

    def __call__(self, response: Response) -> Answer:
        if response.body.startswith((GZIP, *ZIP)):
            packed = "packed with gzip" if response.body.startswith(GZIP) else "a zip file"
            return Answer(
                problem=f"the body is {packed}, and the envelope of this stream reads JSON; a report file is "
                "read with envelope=ReportFile(), or downloads=ReportFile() behind a poller"
            )
        return self.read(utf8_body(response), response)

    def read(self, body: bytes, response: Response) -> Answer:
        """The answer in ``body``, which is valid UTF-8; ``response`` serves the messages."""
        try:
            return self._read(body, response)
        except BrokenBodyError:
            mended = mended_surrogates(body)
            if mended == body:
                raise
            return self._read(mended, response)

    def _read(self, body: bytes, response: Response) -> Answer:
        first = _first_byte(body)
        if first == b"{":
            return self._from_object(body, response)
        raw = _read_body(RAW.decode, body, response)
        if first == b"[" and "" in self.items:
            items, problem = self._items_of(raw, "$")
            return Answer(items=items, problem=problem, bare=len(self.items) > 1)
        if self.optional and _is_empty(raw):
            return Answer()
        kind = "an array" if first == b"[" else "a single value"
        return Answer(problem=f"the body is {kind}, not {self._shape()}; it begins: {response.text(100)}")

    def _from_object(self, body: bytes, response: Response) -> Answer:
        members = self._members(body, response)
        failure = "" if self._failures.keys().isdisjoint(members) else self._take_failure(members)
        if repeated := _repeated_member(body, self._names, members):
            raise BrokenBodyError(
                f"the body has the member {repeated!r} twice, and which of them holds is not known; it begins: "
                f"{response.text(100)}"
            )
        items, problem = self._items_among(members, body)
        total, total_problem = _count(members, self.total) if self.total else (None, None)
        pages, pages_problem = _count(members, self.pages) if self.pages else (None, None)
        return Answer(
            items=() if total_problem or pages_problem else items,
            total=total,
            pages=pages,
            head=self._head(members) if self.head or self.echoes else {},
            problem=total_problem or pages_problem or problem,
            provisional=self._provisional(members) if self.provisional_unless else "",
            failure=failure,
        )

    def _take_failure(self, members: dict[str, Any]) -> str:
        """The failure that these members state, see ``Answer.failure``. Takes those away that may state one."""
        return _failure({name: members.pop(name) for name in self._failures if name in members})

    def _head(self, members: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
        read = {path: _follow(members, path) for path in (*self.head, *self.echoes)}
        return {path: _plain(value) for path, value in read.items() if value is not None}

    def _items_among(self, members: Mapping[str, Any], body: bytes) -> tuple[tuple[Items, ...], str | None]:
        """The items of an object that has these members, and the problem with them."""
        if self.items == ("",):
            return self._items_of(RAW.decode(body), "$")
        found_items = {
            path: value for path in self.items if path and (value := _follow(members, path)) not in (None, _NULL)
        }
        if not found_items and self.optional:
            barriers = [text for path in self.items if (text := _obstacle(members, path))]
            return (), f"{barriers[0]}, not {self._shape()}" if barriers else None
        if not found_items:
            return (), self._lacking(body)
        path, *others = found_items
        if others and (filled := [other for other in others if _has_elements(found_items[other])]):
            return (), (
                f"the body has arrays in {path!r} and in {filled[0]!r}, and which of them holds the records is not "
                "known. The connector must name one of them"
            )
        return self._items_of(found_items[path], f"$.{path}")

    def _lacking(self, body: bytes) -> str:
        """The problem of a body without items: the members that it has, and the error that it states."""
        members = MEMBERS.decode(body)
        error = next(
            (f"; its {name}: {clip(bytes(members[name]).decode(), 200)}" for name in _ERRORS if name in members), ""
        )
        names = ", ".join(list(members)[:20]) or "nothing"
        return f"the body has {names}, but not {self._shape()}{error}"

    def _provisional(self, members: Mapping[str, msgspec.Raw]) -> str:
        for path, final in self.provisional_unless.items():
            raw = _follow(members, path)
            if raw is None or raw == _NULL:
                continue
            value = _plain(raw)
            if value != final and str(value).lower() != str(final).lower():
                return f"{path} is {clip(str(value), 60)}"
        return ""

    def _members(self, body: bytes, response: Response) -> dict[str, Any]:
        """The members that are read and that there are; a map of arrays in one go, if it is one."""
        if self._are_maps:
            try:
                return _reader(self._every_name, maps=frozenset(self.items))(body)
            except (ValueError, RecursionError):
                pass  # null or an array in its place, or no JSON: read again below, which costs twice as much
        members: dict[str, Any] = _read_body(_reader(self._every_name), body, response)
        return members

    def _items_of(self, raw: Any, path: str) -> tuple[tuple[Items, ...], str | None]:
        """The items in the value at their path, and the problem with them."""
        try:
            if self.optional and (not raw if isinstance(raw, dict) else _is_empty(raw)):
                return (), None
            if self.keyed_by is not None:
                return tuple(
                    _items(elements, f"{path}.{key}", {self.keyed_by: key})
                    for key, elements in (raw if isinstance(raw, dict) else MEMBERS.decode(raw)).items()
                    if elements != _NULL
                ), None
            if self.within is not None:
                return self._items_within(self.within, raw, path)
            if self.single and re.fullmatch(rb"\[\s*\]", raw):
                raise msgspec.ValidationError(f"{path} is {_begun(raw)}")
            return (_items(raw, path, {}),), None
        except msgspec.ValidationError as error:
            return (), f"what is in {path} is not {self._shape()}: {error}"

    def _items_within(self, within: str, raw: msgspec.Raw, path: str) -> tuple[tuple[Items, ...], str | None]:
        """The items of each outer element; a problem if one states an error in their place, or none has them."""
        found, lacking = [], 0
        elements = _ELEMENTS.decode(raw)
        for index, outer in enumerate(elements):
            inner = _follow(outer, within)
            lacking += inner is None
            if inner is None or _is_empty(inner):
                if failure := _failure({name: outer[name] for name in _ERRORS if name in outer}):
                    return (), f"{path}[{index}] has no elements in {within!r}, and states a failure: {failure}"
            else:
                stamped = {column: _follow(outer, member) for column, member in self.stamps.items()}
                columns = {column: None if value is None else _plain(value) for column, value in stamped.items()}
                found.append(_items(inner, f"{path}[{index}].{within}", columns))
        if elements and lacking == len(elements) and not self.optional:
            return (
                (),
                f"the elements of {path} have {', '.join(list(elements[0])[:20]) or 'nothing'}, but not {within!r}",
            )
        return tuple(found), None

    def _shape(self) -> str:
        paths = " or ".join(repr(path) for path in self.items if path)
        shape = "a map of arrays" if self.keyed_by is not None else "one object" if self.single else "an array"
        return f"{shape} in {paths}" if paths else shape


# --- failures -------------------------------------------------------------------------------------------------------


def _spellings(*names: str) -> tuple[str, ...]:
    """The names, and the same with a capital first letter."""
    return (*names, *(f"{name[0].upper()}{name[1:]}" for name in names))


OUTCOME_MEMBERS = _spellings("success", "ok", "result", "failure", "statusCode")
"""Members of a body that state success or failure."""

ERROR_MEMBERS = _spellings("errorMessage", "error_message", "errors", "error", "status")
"""Members that can state a failure, and no success."""

_NO_ERROR = ("", "0", "no", "none", "no error", "ok", "success")
_FAILURES = ("error", "fail", "failed", "failure")


def stated(name: str, value: Any) -> bool | None:
    """
    What one of these members of a body states, of a read or a write: True for success, False for a failure, None where
    it states neither. A value may also be written as text.
    """
    value = flag(value)
    word = value.strip().lower() if isinstance(value, str) else value
    match name.lower():
        case "success" | "ok":
            return word not in (None, False, "0", "no", *_FAILURES)  # 0 equals False
        case "result":  # also an id, or a code of which 0 is often success
            return value is not None and value is not False and word not in _FAILURES
        case "failure" if isinstance(value, int) and not isinstance(value, bool):
            return None if value else True  # a number: the others may have succeeded
        case "failure":
            return not _is_error(value)
        case "status" | "statuscode":
            return _stated_by_status(word)
    return False if _is_error(value) else None


def _is_error(value: Any) -> bool:
    """Whether the value of a member for errors is one, such as a text, a list with elements or a code."""
    value = flag(value)
    if isinstance(value, str):
        return value.strip().lower() not in _NO_ERROR
    return any(map(_is_error, value.values())) if isinstance(value, dict) else bool(value)


def _stated_by_status(value: Any) -> bool | None:
    if isinstance(value, str):
        return False if value in _FAILURES else None
    if isinstance(value, int) and 200 <= value < 600:
        return True if value < 300 else False if value >= 400 else None
    return None


def _failure(members: Mapping[str, msgspec.Raw]) -> str:
    """Member and value by which a body states a failure; "" without one. A member that is null is none."""
    for name, raw in members.items():
        value = _plain(raw)
        if value is not None and stated(name, value) is False:
            return f"{name} {clip(json.dumps(value, ensure_ascii=False, default=str), 200)}"
    return ""


# --- GraphQL --------------------------------------------------------------------------------------------------------

_THROTTLED = frozenset({"THROTTLED", "RATE_LIMITED", "RATELIMITED", "TOO_MANY_REQUESTS", "MAX_COST_EXCEEDED"})
_UNAUTHENTICATED = frozenset({"UNAUTHENTICATED", "UNAUTHORIZED", "INVALID_TOKEN"})
_FAILED = frozenset({"INTERNAL_SERVER_ERROR", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT"})


def graphql_judge(response: Response, answer: Answer | None) -> Verdict | None:
    """
    A judge for GraphQL: an answer with ``errors`` has failed, also where there is ``data`` beside them, since a part of
    the records may be missing then. ``Connector(judge=graphql_judge)``.

    ``extensions.code`` of the first error decides: a throttled one is repeated after a pause, a failure of the server
    is repeated, refused credentials are an AuthenticationError, and anything else is refused. None for an answer
    without errors, and for one without a code whose HTTP status is no success.

    Source: the GraphQL specification, 7.1: partial results stand beside the errors; codes are a convention of servers.
    """
    try:
        errors = _reader(("errors",))(response.body).get("errors")
    except (ValueError, RecursionError):
        return None  # no JSON object: the envelope or the status decides
    if errors is None or _is_empty(errors):
        return None
    plain = _plain(errors)
    first = plain[0] if isinstance(plain, list) and isinstance(plain[0], dict) else {}
    extensions = first.get("extensions")
    code = str(extensions.get("code", "")).upper() if isinstance(extensions, dict) else ""
    if not code and not 200 <= response.status < 300:
        return None  # the status states more, such as 401
    words = clip(str(first.get("message") or response.text(200)), 200).rstrip(".")
    more = f", and {len(plain) - 1} more" if isinstance(plain, list) and len(plain) > 1 else ""
    seen = f"the answer states errors{f' ({code})' if code else ''}: {words}{more}"
    if code in _THROTTLED:
        return Retry(ThrottledError(seen, "Lower requests_per_second, or request less at once."), throttle=True)
    if code in _UNAUTHENTICATED:
        return Retry(AuthenticationError(seen, "Check the credentials of this source."), renew=True)
    return Retry(ServerError(seen)) if code in _FAILED else Refuse(RefusedError(seen))


# --- bytes ----------------------------------------------------------------------------------------------------------


def utf8_body(response: Response) -> bytes:
    """
    The body as valid UTF-8 without a byte order mark.

    JSON is UTF-8 (RFC 8259, 8.1), so valid UTF-8 wins over a charset in the Content-Type; otherwise that charset is
    taken, and UTF-16 and UTF-32 are recognised without it. Raises BrokenBodyError for an empty body, for HTML, and
    for bytes that are no text.
    """
    body = response.body
    if b"\0" in body[:4] or body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        body = _transcoded(body, json.detect_encoding(body[:4]))
    body = body.removeprefix(b"\xef\xbb\xbf")
    if not body.isascii():
        try:
            _check_utf8(body)
        except UnicodeDecodeError as error:
            named = re.search(r"charset=\"?([\w.:-]+)", response.header("content-type") or "", re.IGNORECASE)
            if named is None or named[1].lower() in ("utf-8", "utf8"):
                raise BrokenBodyError(f"the body is not valid UTF-8: {error.reason} at byte {error.start}.") from None
            body = _transcoded(body, named[1])
    first = _first_byte(body)
    if not first:
        raise BrokenBodyError("the body is empty.")
    if first == b"<":
        raise BrokenBodyError(f"the body is HTML or XML, not data; it begins: {response.text(200)}")
    return body


def _check_utf8(body: bytes) -> None:
    """Check block by block: decoding the whole body at once would take two to four times its size in memory."""
    view = memoryview(body)
    start = 0
    while start < len(view):
        last = start + UTF8_BLOCK >= len(view)
        try:
            start += codecs.utf_8_decode(view[start : start + UTF8_BLOCK], "strict", last)[1]
        except UnicodeDecodeError as error:
            raise UnicodeDecodeError("utf-8", body, start + error.start, start + error.end, error.reason) from None


def _transcoded(body: bytes, charset: str) -> bytes:
    try:
        return body.decode(charset).encode()
    except (LookupError, UnicodeError) as error:
        raise BrokenBodyError(f"the body is not in the charset {charset!r}: {error}.") from None


def _first_byte(body: bytes) -> bytes:
    """The first byte that is not whitespace; empty if there is none."""
    return body[:64].lstrip()[:1] or body.lstrip()[:1]


# --- JSON -----------------------------------------------------------------------------------------------------------

_NULL = msgspec.Raw(b"null")
_COUNT = re.compile(rb'"?\s*\d{1,18}(\.0+)?\s*"?')


def _is_empty(raw: msgspec.Raw) -> bool:
    """Whether this is null or an empty array or object."""
    return re.fullmatch(rb"null|\[\s*\]|\{\s*\}", raw) is not None


def mended_surrogates(body: bytes) -> bytes:
    """
    ``body`` with U+FFFD in place of every lone surrogate escape, in the name of a member with the escape as text.

    A provider that truncates a text inside a character leaves one. The decoder rejects it, so that one truncated title
    would make the whole body unreadable. Names stay different: of two equal ones, a decoder keeps the last.
    """
    end, is_name = 0, False  # of the text that has the escape

    def mended(escape: re.Match[bytes]) -> bytes:
        nonlocal end, is_name
        if escape[1] is None:
            return escape[0]
        if escape.start() >= end:
            rest = _REST_OF_TEXT.match(body, escape.end())
            end, is_name = (len(body), False) if rest is None else (rest.end(), rest[1] is not None)
        return b"\\" + escape[1] if is_name else rb"\ufffd"

    return re.sub(_ESCAPE, mended, body)


_REST_OF_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?', re.DOTALL)  # group 1: it is the name of a member
# An escaped backslash, a whole pair, or (group 1) a half; the first two only so that they are passed over.
_ESCAPE = rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"


def _read_body(read: Callable[[bytes], Any], body: bytes, response: Response) -> Any:
    """The body as ``read`` decodes it. Raises BrokenBodyError, with the start of the body, where it cannot."""
    try:
        return read(body)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # of JSON, or of UTF-8
        raise BrokenBodyError(f"the body is no JSON: {error}; it begins: {response.text(200)}") from None


def _too_deep() -> BoundExceededError:
    return BoundExceededError("the body is nested too deeply to be read safely.")


@lru_cache(maxsize=256)
def _reader(names: tuple[str, ...], maps: frozenset[str] = frozenset()) -> Callable[[bytes], dict[str, Any]]:
    """
    A function that reads an object: these of its members, raw (``maps``: their members). It passes over the others.
    """
    members = {name: dict[str, msgspec.Raw] if name in maps else msgspec.Raw for name in names}
    return msgspec.json.Decoder(TypedDict("Members", members, total=False)).decode  # type: ignore[operator]


_LARGE = 256  # bytes of a value that is cut out of the text that is searched for repeated members


def _repeated_member(body: bytes, names: Iterable[str], members: Mapping[str, Any]) -> str:
    """
    The one of these members that an object has twice; "" without one. The decoder takes the last of two: of an empty
    array behind the records, nothing would be left. Names that are escaped in the body are not found.

    ``members``: their values, raw or maps of raw ones. Large ones are cut out, so that little is searched.
    """
    outside, position = b"", 0
    for value in members.values():
        for raw in value.values() if isinstance(value, dict) else (value,):
            view = memoryview(raw)
            if len(view) > _LARGE and (index := _index_of(body, view, position)) >= 0:
                outside, position = b"%bnull" % (outside + body[position:index]), index + len(view)
    outside += body[position:]
    if max(map(outside.count, map(_in_quotes, names)), default=0) < 2:
        return ""
    try:
        stated = [name for name, _ in json.loads(outside, object_pairs_hook=list)]
    except RecursionError:
        raise _too_deep() from None
    return next((name for name in names if stated.count(name) > 1), "")


@lru_cache(maxsize=256)
def _in_quotes(name: str) -> bytes:
    return f'"{name}"'.encode()


def _index_of(body: bytes, piece: memoryview, at: int) -> int:
    """The index of a piece of the body, from ``at`` on; -1 if it is not there."""
    begins = bytes(piece[:_LARGE])
    index = body.find(begins, at)
    while index >= 0 and not body.startswith(piece, index):
        index = body.find(begins, index + 1)
    return index


def _follow(members: Mapping[str, msgspec.Raw], path: str) -> msgspec.Raw | None:
    """The value at a dotted path; None when it is not there."""
    name, _, inner_path = path.partition(".")
    value = members.get(name)
    if value is None or not inner_path:
        return value
    return _follow(MEMBERS.decode(value), inner_path) if bytes(memoryview(value)[:1]) == b"{" else None


def _obstacle(members: Mapping[str, msgspec.Raw], path: str, above: str = "$") -> str | None:
    """What stands where a dotted path needs an object, unless that is null or empty; None where nothing does."""
    name, _, inner_path = path.partition(".")
    value = members.get(name)
    if value is None or not inner_path or _is_empty(value):
        return None
    if bytes(memoryview(value)[:1]) == b"{":
        return _obstacle(MEMBERS.decode(value), inner_path, f"{above}.{name}")
    return f"{above}.{name} is {_begun(value)}"


def _has_elements(raw: Any) -> bool:
    """Whether this is an array with elements."""
    return isinstance(raw, msgspec.Raw) and bytes(memoryview(raw)[:1]) == b"[" and not _is_empty(raw)


def _plain(raw: msgspec.Raw) -> Any:
    try:
        return PLAIN_JSON.decode(raw)
    except msgspec.ValidationError:  # a number beyond every bound
        return bytes(raw).decode()


def _items(raw: msgspec.Raw, path: str, columns: Mapping[str, Any]) -> Items:
    """Raises ValidationError when ``raw`` is neither array nor object."""
    first = bytes(memoryview(raw)[:1])
    if first not in (b"[", b"{"):
        raise msgspec.ValidationError(f"{path} is {_begun(raw)}")
    return Items(raw=raw, format="array" if first == b"[" else "object", columns=columns, path=path)


def _count(members: Mapping[str, msgspec.Raw], paths: tuple[str, ...]) -> tuple[int | None, str | None]:
    """The number at the first path that has one, and the problem with it."""
    for path in paths:
        raw = _follow(members, path)
        if raw is None or raw == _NULL:
            continue
        if _COUNT.fullmatch(raw):
            return int(bytes(raw).strip(b'" ').partition(b".")[0]), None
        return None, f"{path!r} should be a count and is {_begun(raw)}"
    return None, None


def _begun(raw: msgspec.Raw) -> str:
    return clip(bytes(memoryview(raw)[:4096]).decode(errors="replace"), 40)
