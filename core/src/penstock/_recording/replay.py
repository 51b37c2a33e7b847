"""
Replay a recording in place of the network (:mod:`penstock._recording.recorder`), without network.
"""

import json
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, BinaryIO, get_args, get_type_hints
from urllib.parse import quote

from attrs import define, field, frozen

from penstock._config.source import ConfiguredSource
from penstock._fetch.body import FILE_START_BYTES, SPOOL_BYTES
from penstock._fetch.call import Answered, Call, CallResult, Failed, JudgeCall
from penstock._recording.recorder import FORMAT, MANIFEST, Send, described_request
from penstock.errors import ProviderError, TransportError, UsageError
from penstock.model import Response
from penstock.redact import MASK, Secret
from penstock.settings import keys_of
from penstock.verdicts import Retry


@define(eq=False, repr=False)
class Recording:
    """
    A recording to run from. Each of its responses is used once, those to equal requests in their order.

    ``masked``: why its rows are not those of the provider; "": they are. ``started_at``: when the recorded run began,
    ``until``: when its last response came.
    """

    folder: Path
    started_at: datetime
    until: datetime
    masked: str
    finished: bool
    options: Mapping[str, Any]
    sources: Mapping[str, Mapping[str, Any]]
    _responses: dict[str, deque[tuple[Path, Mapping[str, Any]]]] = field(repr=False)
    _used: set[str] = field(factory=set, init=False, repr=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    @classmethod
    def open(cls, folder: Path) -> "Recording":
        """Raises UsageError where this is no recording, or one of a later version."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            started_at = until = datetime.fromisoformat(manifest["started_at"])
            exchanges = []
            for source in manifest["sources"]:
                paths = (folder / quote(source, safe="")).glob("*.exchange.json")
                exchanges += [(source, path, json.loads(path.read_text())) for path in paths]
            responses: dict[str, deque[tuple[Path, Mapping[str, Any]]]] = {}
            masked = "it was made with --record, which masks personal data" if manifest["masked"] else ""
            for source, path, about in sorted(exchanges, key=lambda exchange: int(exchange[2]["number"])):
                base_url = manifest["sources"][source]["settings"].get("base_url", "")
                key = _key(source, about["stream"], about["request"], base_url)
                responses.setdefault(key, deque()).append((path, about))
                if "received_at" in about:
                    until = max(until, datetime.fromisoformat(about["received_at"]))
                if about.get("altered") and not masked:
                    masked = f"a credential was masked in its response {path.name}"
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            raise UsageError(
                f"--replay {folder}: this is no recording that can be read ({why}); a run with --record DIR makes one"
            ) from None
        if manifest["format"] != FORMAT:
            raise UsageError(f"--replay {folder}: it is of a later version, penstock {manifest['penstock']}; update")
        return cls(
            folder=folder,
            started_at=started_at,
            until=until,
            masked=masked,
            finished=manifest["finished"],
            options=manifest["options"],
            sources=manifest["sources"],
            responses=responses,
        )

    def begin(self, started_at: datetime, sources: Iterable[ConfiguredSource]) -> None:
        """No effect: everything is there."""

    def finish(self) -> Sequence[str]:
        return ()

    def exchange(self, source: ConfiguredSource, call: Call, send: Send, judge: JudgeCall) -> CallResult:
        """The recorded result, judged anew."""
        stream = call.stream.name if call.stream is not None else None
        recorded = self.sources.get(source.name, {}).get("settings", {}).get("base_url", "")
        key = _key(
            source.name, stream, described_request(call.request, call.account), source.settings.base_url, recorded
        )
        with self._lock:
            again = key in self._used
            self._used.add(key)
            path, about = self._responses[key].popleft() if self._responses.get(key) else (self.folder, {})
        if not about:
            phrase = "no further response to" if again else "no response to"
            seen = f"the recording {self.folder} has {phrase} this request"
            advice = (
                "It was made with other settings, for other days, with another version of the connector, or without "
                "--full: then it has no final days, and a replay of it takes no --full. Record again with the options "
                "of the replay."
            )
            return Failed(call, TransportError(seen, advice).at(request=call.request))
        if "error" in about:
            return Failed(call, TransportError(f"as recorded: {about['error']}").at(request=call.request))
        if "withheld" in about:
            why = f"the recording lacks the body of {path.name}: {about['withheld']}"
            return Failed(call, ProviderError(why))
        body = path.with_name(about["body"])
        size = body.stat().st_size if body.is_file() else None
        if size != about["bytes"]:
            seen = "is missing" if size is None else f"has {size} bytes"
            why = (
                f"the recording is damaged: {body} {seen}, and {about['bytes']} bytes were written. Copy it again, "
                f'or, if you edited it, correct "bytes" in {path.name}'
            )
            return Failed(call, ProviderError(why))
        response = self._response(body, about, call, source.settings.max_report_mib << 20)
        try:
            verdict, answer = judge(call, response)
        except Exception as error:
            return Failed(call, error, response)
        if isinstance(verdict, Retry):
            return Failed(call, verdict.error, response)
        return Answered(call, response, verdict, answer)

    @staticmethod
    def _response(path: Path, about: Mapping[str, Any], call: Call, max_unpacked_bytes: int) -> Response:
        file = _File(path) if call.request.as_file and path.stat().st_size > SPOOL_BYTES else None
        return Response(
            status=about["status"],
            headers=tuple((name, value) for name, value in about["headers"]),
            body=path.read_bytes() if file is None else file.open().read(FILE_START_BYTES),
            file=file,
            received_at=datetime.fromisoformat(about["received_at"]),
            measured=about["measured"],
            max_unpacked_bytes=max_unpacked_bytes,
        )

    def settings_of(self, source: str, settings: type) -> dict[str, Any]:
        """The recorded settings of a source as TOML would hold them, with a filler for each secret."""
        values: dict[str, Any] = _filled(self.sources[source]["settings"])
        hints = get_type_hints(settings)
        for key in keys_of(settings):
            if key.name in values and date in (hints[key.name], *get_args(hints[key.name])):
                values[key.name] = date.fromisoformat(values[key.name])
        return values


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _filled(inner) for name, inner in value.items()}
    return Secret("not-in-the-recording") if value == MASK else value


@frozen
class _File:
    """A body in a file of the recording."""

    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        return self.path.open("rb")


def _key(source: str, stream: str | None, request: Mapping[str, Any], *bases: str) -> str:
    """What a request is found by. An address below the source's own is found by its path, wherever that source is."""
    url = request["url"]
    base = next((base for base in bases if base and url.startswith(base.rstrip("/"))), "").rstrip("/")
    return json.dumps([source, stream, {**request, "url": [bool(base), url[len(base) :]]}], sort_keys=True)
