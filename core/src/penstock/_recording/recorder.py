"""
Record the exchanges of a run in a directory, which :mod:`penstock._recording.replay` replays in a later run.

Both are tapes (:class:`penstock._fetch.client.Tape`). A tape sees a call before its request is signed and repeated: a
recording holds neither signatures nor logins, and of a request that was repeated the last response.
``recording.json`` describes the run. Every exchange is a file of JSON, in the directory of its source, with the body
beside it: without content coding, else as it was received.

With a tape, a source has one request in flight. What is requested next may depend on which response comes first (a page
shorter than those of other accounts is the last of its listing), so the order must be the same in both runs.
"""

import html
import io
import json
import os
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from attrs import define, evolve, field, frozen

from penstock import __version__
from penstock._config.source import ConfiguredSource
from penstock._fetch.call import Call, Outcome
from penstock._fetch.client import Judged
from penstock._recording.masking import Fields, Masking, replaced_json, text_of
from penstock._util.files import write_json
from penstock.connector import Stream
from penstock.envelope import GZIP, ZIP, utf8_body
from penstock.errors import BrokenBodyError, SinkError, UsageError
from penstock.model import Request, Response
from penstock.protocols import Refuse
from penstock.redact import MASK, Secret, mask, mask_json
from penstock.settings import OpenFor, keys_of

MANIFEST = "recording.json"
FORMAT = 1

Send = Callable[[], Outcome]

_CREDENTIALS = frozenset(  # headers
    {
        *("set-cookie", "www-authenticate", "proxy-authenticate", "authentication-info", "authorization", "cookie"),
        *("x-auth-token", "x-access-token", "x-refresh-token", "x-subject-token", "x-csrf-token", "x-xsrf-token"),
        *("x-api-key", "x-session-id", "x-session-token", "x-amz-security-token"),
    }
)
_PACKED = (GZIP, *ZIP)
_BLOCK = 1 << 20
MOST_HELD_BYTES = 256 << 20  # of responses without records, in memory until the end of the run
_NOT_MASKABLE = "its format is not one that can be masked value by value; --record-full keeps it as it is"
_TOO_MANY = "too many responses before it had no records to be kept in memory"
SHORTEST_GRANT = 8  # letters: shorter values in the query of a download, such as a version, occur elsewhere by chance


@define(eq=False, repr=False)
class Recorder:
    """
    Keeps the exchanges of a run. ``full``: only credentials are masked; else also what may be personal: the values of
    personal columns, and those that no column of the stream declares.

    A body that cannot be masked value by value is not kept.
    """

    folder: Path
    full: bool
    options: Mapping[str, Any] = field(factory=dict)  # of the run
    _withheld: int = field(default=0, init=False)
    _masking: Masking = field(init=False)
    _manifest: dict[str, Any] = field(factory=dict, init=False)
    _number: int = field(default=0, init=False)
    _links: set[str] = field(factory=set, init=False)  # the paths of downloads
    _grants: set[str] = field(factory=set, init=False)  # the values in their queries
    _held: list["_Exchange"] = field(factory=list, init=False)
    _held_bytes: int = field(default=0, init=False)
    _fields: dict[tuple[str, str], Fields] = field(factory=dict, init=False)  # by source and stream
    _sources: list[ConfiguredSource] = field(factory=list, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._masking = Masking(self.full)

    @property
    def until(self) -> None:
        return None

    def begin(self, started_at: datetime, sources: Iterable[ConfiguredSource]) -> None:
        """Make the directory, which must be new or empty. Raises UsageError where that is not possible."""
        option = "--record-full" if self.full else "--record"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if any(self.folder.iterdir()):
                raise UsageError(f"{option} {self.folder}: there are files in it; name a new or an empty directory")
            self.folder.chmod(0o700)
            self._sources = list(sources)
            self._manifest = {
                "format": FORMAT,
                "penstock": __version__,
                "masked": not self.full,
                "started_at": started_at.isoformat(),
                "finished": False,
                "options": dict(self.options),
            }
            for source in self._sources:
                (self.folder / quote(source.name, safe="")).mkdir(mode=0o700, exist_ok=True)  # two jobs of one source
        except OSError as error:
            raise UsageError(f"{option} {self.folder}: cannot be written: {error.strerror}") from None

    def finish(self) -> Sequence[str]:
        """Write what was held back, and that the run came to its end."""
        try:
            for exchange in self._held:
                self._write(exchange, self._without_links(exchange))
            self._manifest["finished"] = True
            self._write_manifest()
        except OSError as error:
            raise self._unwritable(error) from None
        self._held.clear()
        if not self._withheld:
            return ()
        return (
            f"{self._withheld} responses are in the recording without their body, since its format cannot be masked "
            f"(--record-full keeps those), or since more than {MOST_HELD_BYTES >> 20} MiB of responses had no records",
        )

    def exchange(self, source: ConfiguredSource, call: Call, send: Send, judge: Judged) -> Outcome:
        """Make the call, and keep it. A response without records is kept in memory until the end of the run."""
        with self._lock:
            self._number += 1
            number = self._number
            if not call.request.credentials:
                parts = urlsplit(call.request.full_url)
                self._links.add(parts.path)
                self._grants.update(value for _, value in parse_qsl(parts.query) if len(value) >= SHORTEST_GRANT)
            try:
                self._note_masked_values(call.request)
            except OSError as error:
                return Outcome(call=call, error=self._unwritable(error))
        outcome = send()
        exchange = _Exchange(number=number, source=source, call=call, outcome=outcome)
        response = outcome.response
        with self._lock:
            if response is None or not exchange.has_records:
                size = len(response.body) if response is not None else 0
                if self._held_bytes + size <= MOST_HELD_BYTES:
                    self._held_bytes += size
                    self._held.append(exchange)
                    return outcome
            try:
                self._write(exchange, self._body(exchange) if exchange.has_records else self._left_out(_TOO_MANY))
            except OSError as error:
                return Outcome(call=call, error=self._unwritable(error))
        return outcome

    def _unwritable(self, error: OSError) -> SinkError:
        return SinkError(
            f"the recording {self.folder} cannot be written: {error.strerror}. Free some space, or name another "
            "directory"
        )

    def _note_masked_values(self, request: Request) -> None:
        """
        Take over what a request masks. The manifest is written at the first request and at each of these values, since
        a setting may be one of them.
        """
        known = len(self._masking.hidden)
        if request.credentials:
            pairs = (*request.params, *request.headers)
            self._masking.hidden.update(value for name, value in pairs if name in request.masked and value)
        if known < len(self._masking.hidden) or not (self.folder / MANIFEST).exists():
            self._write_manifest()

    def _write_manifest(self) -> None:
        about = {source.name: self._described(source) for source in self._sources}
        write_json(self.folder / MANIFEST, mask_json({**self._manifest, "sources": about}))

    # --- what is masked -------------------------------------------------------------------------------------------

    def _described(self, source: ConfiguredSource) -> dict[str, Any]:
        """A source, with those of its settings that differ from their defaults."""
        settings = {
            key.name: plain
            for key in keys_of(type(source.settings))
            if (value := getattr(source.settings, key.name)) != key.default
            and (plain := self._plain(value)) is not None
        }
        accounts = {
            account: {key: plain for key, value in table.items() if (plain := self._plain(value)) is not None}
            for account, table in source.settings.account_tables.items()
        }
        return {
            "connector": source.connector.name,
            "version": source.version,
            "settings": {**settings, **({"accounts": accounts} if accounts else {})},
        }

    def _plain(self, value: Any) -> Any:
        """A setting as JSON, a secret as ``***``; None for a path of this machine."""
        if isinstance(value, Secret):
            return MASK if value else None
        if isinstance(value, str):
            if "@" in value and not self.full:  # an account, perhaps: then requests have it, too
                return self._masking.linked.setdefault(value, self._masking.alias(value))
            return self._masking.alias(value) if value in self._masking.hidden else value
        if isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, (tuple, list)):
            return [plain for item in value if (plain := self._plain(item)) is not None]
        if isinstance(value, Mapping):
            return {name: plain for name, inner in value.items() if (plain := self._plain(inner)) is not None}
        if isinstance(value, OpenFor):
            month = f", {value.month_day}th of next month" if value.month_day else ""
            return f"{value.days} days{month}"
        return value.isoformat() if isinstance(value, date) else None

    def _fields_of(self, source: ConfiguredSource, stream: Stream) -> Fields:
        key = (source.name, stream.name)
        if key not in self._fields:
            self._fields[key] = Fields.of(source, stream)
        return self._fields[key]

    def _body(self, exchange: "_Exchange") -> "_Body":
        """The body of a response as it is kept."""
        response, answer, stream = exchange.outcome.response, exchange.outcome.answer, exchange.call.stream
        assert response is not None
        if stream is None:
            return self._without_secrets(response)
        fields = self._fields_of(exchange.source, stream)
        if self.full and not fields.has_secrets:
            return self._without_secrets(response)
        items = answer.items if exchange.has_records else ()
        formats = {item.format for item in items}
        keyed_by = fields.stamped.get(getattr(exchange.call.envelope, "keyed_by", None) or "")
        if keyed_by is not None and keyed_by.personal and formats and not self.full:
            return self._left_out(_NOT_MASKABLE)  # names of members are not masked
        if formats & {"csv", "lines"}:
            return self._rewritten(exchange, fields)
        if response.file is not None or response.body.startswith(_PACKED):
            return self._json_of_file(exchange, fields) if formats else self._left_out(_NOT_MASKABLE)
        try:
            body = utf8_body(response)
        except BrokenBodyError:
            return self._shortened(response)
        if body.lstrip()[:1] not in (b"{", b"["):
            return self._shortened(response) if not formats else self._left_out(_NOT_MASKABLE)
        verdict = exchange.outcome.verdict
        problem = verdict.error if isinstance(verdict, Refuse) else exchange.outcome.error
        unread = isinstance(problem, BrokenBodyError)
        found = _Body(suffix=".json", measured=response.measured)
        stamps = getattr(exchange.call.envelope, "stamps", {})
        records = None if unread else tuple(items)
        found.content = [found.clean(self._masking.json(body, fields, records, stamps))]
        return found

    def _without_secrets(self, response: Response) -> "_Body":
        """The body as it was received, but for known secrets. A packed one is kept byte for byte."""
        if response.body.startswith(_PACKED):
            suffix = ".gz" if response.body.startswith(GZIP) else ".zip"
            return _Body(content=_blocks(response.open()), suffix=suffix, measured=response.measured)
        suffix = ".json" if response.body.lstrip()[:1] in (b"{", b"[") else ".txt"
        found = _Body(suffix=suffix, measured=response.measured)
        found.content = (found.clean(lines) for lines in _lines(response.open()))
        return found

    def _rewritten(self, exchange: "_Exchange", fields: Fields) -> "_Body":
        """The rows of a report, masked, in plain files; in a zip where there are several."""
        coding = getattr(exchange.call.envelope, "encoding", None) or "utf-8"
        found = _Body(suffix=".csv", measured=True)
        files: dict[str, io.BytesIO] = {}
        for item in exchange.outcome.answer.items:
            if item.path not in files:
                files[item.path] = io.BytesIO()
                if item.format == "csv":
                    files[item.path].write((item.delimiter.join(item.header) + "\n").encode())
            raw = bytes(item.raw)
            if item.format == "csv":
                raw = self._masking.csv(item, raw, fields)
            else:
                raw = self._masking.json(raw, fields, [evolve(item, raw=raw, format="array")])
            files[item.path].write(found.clean(raw))
        contents = [(name, file.getvalue().decode().encode(coding, "replace")) for name, file in files.items()]
        if len(contents) == 1:
            found.content = [contents[0][1]]
        else:
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in contents:
                    archive.writestr(name, content)
            found.content, found.suffix = [packed.getvalue()], ".zip"
        return found

    def _json_of_file(self, exchange: "_Exchange", fields: Fields) -> "_Body":
        """A report in JSON that was packed, or is in a file: kept as plain JSON, masked."""
        items = tuple(exchange.outcome.answer.items)
        if len(items) != 1 or items[0].format not in ("array", "object"):
            return self._left_out(_NOT_MASKABLE)
        found = _Body(suffix=".json")
        found.content = [found.clean(self._masking.json(bytes(items[0].raw), fields, items))]
        return found

    def _shortened(self, response: Response) -> "_Body":
        """The first words of a response that is no data, such as an error page: no more than a message shows."""
        words = response.words(200)
        if response.body.lstrip().startswith(b"<"):
            words = f"<p>{html.escape(words)}</p>"
        return _Body(content=[words.encode()], suffix=".txt", measured=response.measured)

    def _left_out(self, why: str) -> "_Body":
        self._withheld += 1
        return _Body(suffix="", withheld=why)

    def _without_links(self, exchange: "_Exchange") -> "_Body":
        """The body of a response without records: links to downloads without what grants access to them."""
        response = exchange.outcome.response
        if response is None:
            return _Body(suffix="")
        made = self._body(exchange)
        content = b"".join(made.content)
        if made.suffix == ".json" and self._links:
            content = replaced_json(content, self._link)
        elif made.suffix == ".txt":
            for value in sorted(self._grants, key=len, reverse=True):
                for form in (value, quote(value, safe=""), html.escape(value)):
                    content = content.replace(form.encode(), self._masking.alias(value).encode())
        if made.suffix in (".json", ".txt"):
            content = self._masking.without_hidden(content.decode(errors="surrogateescape")).encode(
                errors="surrogateescape"
            )
        return evolve(made, content=[content], altered=False)  # no record is in it

    def _link(self, names: object, start: int, token: bytes) -> bytes | None:
        if token[:1] != b'"' or b"?" not in token:
            return None
        link = text_of(token)
        return json.dumps(self._masked_link(link)).encode() if self._is_download(link) else None

    def _is_download(self, link: str) -> bool:
        try:
            path = urlsplit(link).path
        except ValueError:
            return False
        return path in self._links or any(link.endswith(f"/{path}") for link in self._links if path)

    def _masked_link(self, link: str) -> str:
        head, mark, query = link.partition("?")
        return head + mark + "&".join(self._masked_pair(pair) for pair in query.split("&")) if mark else link

    def _masked_pair(self, pair: str) -> str:
        name, mark, value = pair.partition("=")
        return f"{name}={self._masking.alias(unquote(value.replace('+', ' ')))}" if mark else self._masking.alias(pair)

    def _request(self, call: Call) -> dict[str, Any]:
        """The request as it is kept: as a later run makes it from the masked responses."""
        request = call.request
        if not request.credentials:
            masked = tuple((name, self._masking.alias(value)) for name, value in request.params)
            request = evolve(request, url=self._masked_link(request.url), params=masked)
        linked = self._masking.linked
        if linked:
            parts = [(segment, linked.get(unquote(segment))) for segment in request.url.split("/")]
            request = evolve(
                request,
                url="/".join(segment if new is None else quote(new, safe="") for segment, new in parts),
                params=tuple((name, linked.get(value, value)) for name, value in request.params),
                body=replaced_json(request.body, self._linked_value) if request.body is not None else None,
            )
        return described(request, linked.get(call.account or "", call.account))

    def _linked_value(self, names: object, start: int, token: bytes) -> bytes | None:
        new = self._masking.linked.get(text_of(token))
        return None if new is None else json.dumps(new).encode() if token[:1] == b'"' else new.encode()

    # --- files ----------------------------------------------------------------------------------------------------

    def _write(self, exchange: "_Exchange", body: "_Body") -> None:
        call, response, error = exchange.call, exchange.outcome.response, exchange.outcome.error
        stem = f"{exchange.number:05d}{f'-{call.stream.name}' if call.stream is not None else ''}"
        folder = self.folder / quote(exchange.source.name, safe="")
        about: dict[str, Any] = {
            "number": exchange.number,
            "stream": call.stream.name if call.stream is not None else None,
            "request": self._request(call),
        }
        if response is None:
            about["error"] = self._masking.without_hidden(str(error))
        else:
            about |= {
                "status": response.status,
                "headers": [
                    [name, MASK if name in _CREDENTIALS else self._header(value)] for name, value in response.headers
                ],
                "received_at": response.received_at.isoformat(),
                "measured": body.measured,
                "body": f"{stem}{body.suffix}" if not body.withheld else None,
            }
            if body.withheld:
                about["withheld"] = body.withheld
            else:
                about["bytes"] = _write_new(folder / f"{stem}{body.suffix}", body.content)
            if body.altered:
                about["altered"] = True
        text = json.dumps(mask_json(about), indent=2, ensure_ascii=False) + "\n"
        _write_new(folder / f"{stem}.exchange.json", [text.encode(errors="replace")])

    def _header(self, value: str) -> str:
        return self._masking.without_hidden(
            self._masked_link(value) if "?" in value and self._is_download(value) else value
        )


@frozen(kw_only=True, eq=False)
class _Exchange:
    number: int
    source: ConfiguredSource
    call: Call
    outcome: Outcome

    @property
    def has_records(self) -> bool:
        """Whether records are in the response. The response to a submission or a poll has the state of the report."""
        response, items = self.outcome.response, self.outcome.answer.items
        if response is not None and response.file is not None:
            return True
        return any(not self.call.lenient or item.format != "object" for item in items)


@define(eq=False, repr=False, kw_only=True)
class _Body:
    """A body as it is kept. ``altered``: a known secret was masked in it, so that its rows are others."""

    content: Iterable[bytes] = ()
    suffix: str
    measured: bool = True
    altered: bool = False
    withheld: str = ""

    def clean(self, part: bytes) -> bytes:
        """A part of the content without the secrets of this process."""
        made = mask(part.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        self.altered = self.altered or made != part
        return made


def _write_new(path: Path, content: Iterable[bytes]) -> int:
    """Write a new file for its owner only, and return its size. It is not synced: a file that was cut is recognised."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        return sum(file.write(part) for part in content)


def _blocks(file: BinaryIO) -> Iterable[bytes]:
    return iter(lambda: file.read(_BLOCK), b"")


def _lines(file: BinaryIO) -> Iterable[bytes]:
    """The content in blocks that end with a line, so that no secret is cut in two."""
    left = b""
    for block in _blocks(file):
        head, end, left = (left + block).rpartition(b"\n")
        yield head + end
    yield left


def described(request: Request, account: str | None) -> dict[str, Any]:
    """A request as it is kept, and as it is found again: without credentials."""
    params = [[name, MASK if name in request.masked else mask(value)] for name, value in request.params]
    headers = [[name, MASK if name in request.masked else mask(value)] for name, value in request.headers]
    made: dict[str, Any] = {"method": request.method, "url": mask(request.url), "params": params}
    if headers:
        made["headers"] = headers
    if request.body is not None:
        made["body"] = mask(request.body.decode("utf-8", "replace"))
    if account is not None:
        made["account"] = mask(account)
    return made
