"""
Record the exchanges of a run in a directory, which :mod:`penstock._recording.replay` replays in a later run.

Both are a :class:`penstock._fetch.exchange_recording.ExchangeRecording`, which sees a call before its request is
signed and repeated. So a recording holds neither signatures nor logins, and only the last response to a request that
was repeated.
``recording.json`` describes the run. Every exchange is a file of JSON, in the directory of its source, with the body
beside it: without content coding, else as it was received.

With a recording, a source has one request in flight. What is requested next may depend on which response comes first
(a page shorter than those of other accounts is the last of its listing), so the order must be the same in both runs.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from attrs import define, evolve, field

from penstock import __version__
from penstock._config.source import ConfiguredSource
from penstock._fetch.call import Call, CallResult, Failed, JudgeCall
from penstock._recording.bodies import Bodies, Body, Downloads, Exchange
from penstock._recording.masking import Masking, replaced_json, text_of
from penstock._util.files import write_json
from penstock.errors import PenstockError, SinkError, UsageError
from penstock.model import Request
from penstock.redact import MASK, Secret, mask, mask_json
from penstock.settings import OpenFor, keys_of

MANIFEST = "recording.json"
FORMAT = 1

Send = Callable[[], CallResult]

_CREDENTIALS = frozenset(  # headers
    {
        "set-cookie",
        "www-authenticate",
        "proxy-authenticate",
        "authentication-info",
        "authorization",
        "cookie",
        "x-auth-token",
        "x-access-token",
        "x-refresh-token",
        "x-subject-token",
        "x-csrf-token",
        "x-xsrf-token",
        "x-api-key",
        "x-session-id",
        "x-session-token",
        "x-amz-security-token",
    }
)
MAX_HELD_BYTES = 256 << 20  # of responses without records, in memory until the end of the run
_TOO_MANY = "too many responses before it had no records to be kept in memory"


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
    _masking: Masking = field(init=False)
    _bodies: Bodies = field(init=False)
    _downloads: Downloads = field(init=False)
    _manifest: dict[str, Any] = field(factory=dict, init=False)
    _number: int = field(default=0, init=False)
    _held: list[Exchange] = field(factory=list, init=False)
    _held_bytes: int = field(default=0, init=False)
    _sources: list[ConfiguredSource] = field(factory=list, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._masking = Masking(self.full)
        self._bodies = Bodies(self._masking, self.full)
        self._downloads = Downloads(self._masking)

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
                self._write(exchange, self._body_without_records(exchange))
            self._manifest["finished"] = True
            self._write_manifest()
        except OSError as error:
            raise self._unwritable(error) from None
        self._held.clear()
        if not self._bodies.withheld:
            return ()
        return (
            f"{self._bodies.withheld} responses are in the recording without their body, since its format cannot be "
            "masked (--record-full keeps those), or since more than "
            f"{MAX_HELD_BYTES >> 20} MiB of responses had no records",
        )

    def exchange(self, source: ConfiguredSource, call: Call, send: Send, judge: JudgeCall) -> CallResult:
        """Make the call, and keep it. A response without records is kept in memory until the end of the run."""
        with self._lock:
            self._number += 1
            number = self._number
            if not call.request.credentials:
                self._downloads.add(call.request)
            try:
                self._note_masked_values(call.request)
            except OSError as error:
                return Failed(call, self._unwritable(error))
        result = send()
        exchange = Exchange(number=number, source=source, call=call, result=result)
        response = result.response
        with self._lock:
            if response is None or not exchange.has_records:
                size = len(response.body) if response is not None else 0
                if self._held_bytes + size <= MAX_HELD_BYTES:
                    self._held_bytes += size
                    self._held.append(exchange)
                    return result
            try:
                bodies = self._bodies
                self._write(
                    exchange, bodies.kept_body(exchange) if exchange.has_records else bodies.left_out(_TOO_MANY)
                )
            except OSError as error:
                return Failed(call, self._unwritable(error))
        return result

    def _body_without_records(self, exchange: Exchange) -> Body:
        response = exchange.result.response
        return Body(suffix="") if response is None else self._downloads.without_grants(self._bodies.kept_body(exchange))

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
        before = len(self._masking.hidden)
        if request.credentials:
            pairs = (*request.params, *request.headers)
            self._masking.hidden.update(value for name, value in pairs if name in request.masked and value)
        if before < len(self._masking.hidden) or not (self.folder / MANIFEST).exists():
            self._write_manifest()

    def _write_manifest(self) -> None:
        about = {source.name: described_source(source, self._masking) for source in self._sources}
        write_json(self.folder / MANIFEST, mask_json({**self._manifest, "sources": about}))

    # --- files ----------------------------------------------------------------------------------------------------

    def _request(self, call: Call) -> dict[str, Any]:
        """The request as it is kept: as a later run makes it from the masked responses."""
        request = call.request
        if not request.credentials:
            request = self._downloads.masked_request(request)
        if not self.full:
            linked = self._masking.linked_text
            request = evolve(
                request,
                url="/".join(map(self._linked_segment, request.url.split("/"))),
                params=tuple((name, linked(value)) for name, value in request.params),
                headers=tuple((name, linked(value)) for name, value in request.headers),
                body=replaced_json(request.body, self._linked_value) if request.body is not None else None,
            )
        return described_request(request, self._masking.linked.get(call.account or "", call.account))

    def _linked_segment(self, segment: str) -> str:
        text = unquote(segment)
        new = self._masking.linked_text(text)
        return segment if new == text else quote(new, safe="")

    def _linked_value(self, names: object, start: int, token: bytes) -> bytes | None:
        text = text_of(token)
        new = self._masking.linked_text(text)
        return None if new == text else json.dumps(new).encode() if token[:1] == b'"' else new.encode()

    def _write(self, exchange: Exchange, body: Body) -> None:
        call, response, error = exchange.call, exchange.result.response, exchange.error
        stem = f"{exchange.number:05d}{f'-{call.stream.name}' if call.stream is not None else ''}"
        folder = self.folder / quote(exchange.source.name, safe="")
        about: dict[str, Any] = {
            "number": exchange.number,
            "stream": call.stream.name if call.stream is not None else None,
            "request": self._request(call),
        }
        if response is None:
            reason = error.without_place if isinstance(error, PenstockError) else str(error)
            about["error"] = self._masking.without_addresses(self._masking.without_hidden(reason))
        else:
            about |= {
                "status": response.status,
                "headers": [
                    [name, MASK if name in _CREDENTIALS else self._downloads.masked_header(value)]
                    for name, value in response.headers
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


def _write_new(path: Path, content: Iterable[bytes]) -> int:
    """Write a new file for its owner only, and return its size. It is not synced: a file that was cut is recognised."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        return sum(map(file.write, content))


def described_source(source: ConfiguredSource, masking: Masking) -> dict[str, Any]:
    """A source, with those of its settings that differ from their defaults."""
    settings = {
        key.name: plain
        for key in keys_of(type(source.settings))
        if (value := getattr(source.settings, key.name)) != key.default
        and (plain := plain_setting(value, masking)) is not None
    }
    accounts = {
        account: {key: plain for key, value in table.items() if (plain := plain_setting(value, masking)) is not None}
        for account, table in source.settings.account_tables.items()
    }
    return {
        "connector": source.connector.name,
        "version": source.version,
        "settings": {**settings, **({"accounts": accounts} if accounts else {})},
    }


def plain_setting(value: Any, masking: Masking) -> Any:
    """A setting as JSON, a secret as ``***``; None for a path of this machine."""
    if isinstance(value, Secret):
        return MASK if value else None
    if isinstance(value, str):
        if "@" in value and not masking.full:  # an account, perhaps: then requests have it, too
            return masking.linked.setdefault(value, masking.alias(value))
        return masking.alias(value) if value in masking.hidden else value
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (tuple, list)):
        return [plain for item in value if (plain := plain_setting(item, masking)) is not None]
    if isinstance(value, Mapping):
        return {name: plain for name, inner in value.items() if (plain := plain_setting(inner, masking)) is not None}
    if isinstance(value, OpenFor):
        month = f", {value.month_day}th of next month" if value.month_day else ""
        return f"{value.days} days{month}"
    return value.isoformat() if isinstance(value, date) else None


def described_request(request: Request, account: str | None) -> dict[str, Any]:
    """A request as it is kept, and as it is found again: without credentials."""
    params = [[name, MASK if name in request.masked else mask(value)] for name, value in request.params]
    headers = [[name, MASK if name in request.masked else mask(value)] for name, value in request.headers]
    about: dict[str, Any] = {"method": request.method, "url": mask(request.url), "params": params}
    if headers:
        about["headers"] = headers
    if request.body is not None:
        about["body"] = mask(request.body.decode("utf-8", "replace"))
    if account is not None:
        about["account"] = mask(account)
    return about
