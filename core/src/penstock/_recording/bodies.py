"""
What a recording keeps of responses: bodies, masked value by value or without what cannot be masked, and the links to
downloads without the values of their queries, which grant access.
"""

import html
import io
import json
import zipfile
from collections.abc import Iterable
from typing import BinaryIO
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from attrs import define, evolve, field, frozen

from penstock._config.source import ConfiguredSource
from penstock._fetch.call import Answered, Call, CallResult, Failed
from penstock._recording.masking import Fields, Masking, replaced_json, text_of
from penstock.connector import Stream
from penstock.envelope import GZIP, ZIP, utf8_body
from penstock.errors import BrokenBodyError
from penstock.model import Items, Request, Response
from penstock.redact import mask
from penstock.verdicts import Refuse

_PACKED = (GZIP, *ZIP)
_BLOCK = 1 << 20
_NOT_MASKABLE = "its format is not one that can be masked value by value; --record-full keeps it as it is"


@frozen(kw_only=True, eq=False)
class Exchange:
    """A call of the run and its result, in the order of the calls."""

    number: int
    source: ConfiguredSource
    call: Call
    result: CallResult

    @property
    def has_records(self) -> bool:
        """Whether records are in the response. The response to a submission or a poll has the state of the report."""
        if self.result.response is not None and self.result.response.file is not None:
            return True
        return any(not self.call.lenient or item.format != "object" for item in self.items)

    @property
    def items(self) -> Iterable[Items]:
        return self.result.answer.items if isinstance(self.result, Answered) else ()

    @property
    def error(self) -> BaseException | None:
        """Why the call failed, or why its response is refused."""
        if isinstance(self.result, Failed):
            return self.result.error
        return self.result.verdict.error if isinstance(self.result.verdict, Refuse) else None


@define(eq=False, repr=False, kw_only=True)
class Body:
    """A body as it is kept. ``altered``: a known secret was masked in it, so that its rows are others."""

    content: Iterable[bytes] = ()
    suffix: str
    measured: bool = True
    altered: bool = False
    withheld: str = ""

    def clean(self, block: bytes) -> bytes:
        """A block of the content without the secrets of this process."""
        cleaned = mask(block.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        self.altered = self.altered or cleaned != block
        return cleaned


@define(eq=False, repr=False)
class Bodies:
    """
    Masks the bodies of a run. ``full``: only credentials. ``withheld``: how many bodies were left out.
    """

    masking: Masking
    full: bool
    withheld: int = field(default=0, init=False)
    _fields: dict[tuple[str, str], Fields] = field(factory=dict, init=False)  # by source and stream

    def kept_body(self, exchange: Exchange) -> Body:
        """The body of a response as it is kept."""
        response, stream = exchange.result.response, exchange.call.stream
        assert response is not None
        if stream is None:
            return self._without_secrets(response)
        fields = self._fields_of(exchange.source, stream)
        if self.full and not fields.has_secrets:
            return self._without_secrets(response)
        items = exchange.items if exchange.has_records else ()
        formats = {item.format for item in items}
        keyed_by = fields.stamped.get(getattr(exchange.call.decoder, "keyed_by", None) or "")
        if keyed_by is not None and keyed_by.personal and formats and not self.full:
            return self.left_out(_NOT_MASKABLE)  # names of members are not masked
        if formats & {"csv", "lines"}:
            return self._rewritten(exchange, fields)
        if response.file is not None or response.body.startswith(_PACKED):
            return self._json_of_file(exchange, fields) if formats else self.left_out(_NOT_MASKABLE)
        try:
            raw = utf8_body(response)
        except BrokenBodyError:
            return self._shortened(response)
        if raw.lstrip()[:1] not in (b"{", b"["):
            return self._shortened(response) if not formats else self.left_out(_NOT_MASKABLE)
        unread = isinstance(exchange.error, BrokenBodyError)
        body = Body(suffix=".json", measured=response.measured)
        stamps = getattr(exchange.call.decoder, "stamps", {})
        records = None if unread else tuple(items)
        body.content = [body.clean(self.masking.mask_body(raw, fields, records, stamps))]
        return body

    def _fields_of(self, source: ConfiguredSource, stream: Stream) -> Fields:
        key = (source.name, stream.name)
        if key not in self._fields:
            self._fields[key] = Fields.of(source, stream)
        return self._fields[key]

    def _without_secrets(self, response: Response) -> Body:
        """The body as it was received, but for known secrets. A packed one is kept byte for byte."""
        if response.body.startswith(_PACKED):
            suffix = ".gz" if response.body.startswith(GZIP) else ".zip"
            return Body(content=_blocks(response.open()), suffix=suffix, measured=response.measured)
        suffix = ".json" if response.body.lstrip()[:1] in (b"{", b"[") else ".txt"
        body = Body(suffix=suffix, measured=response.measured)
        body.content = (body.clean(lines) for lines in _whole_lines(response.open()))
        return body

    def _rewritten(self, exchange: Exchange, fields: Fields) -> Body:
        """The rows of a report, masked, in plain files; in a zip where there are several."""
        coding = getattr(exchange.call.decoder, "encoding", None) or "utf-8"
        body = Body(suffix=".csv", measured=True)
        files: dict[str, io.BytesIO] = {}
        for item in exchange.items:
            if item.path not in files:
                files[item.path] = io.BytesIO()
                if item.format == "csv":
                    files[item.path].write((item.delimiter.join(item.header) + "\n").encode())
            raw = bytes(item.raw)
            if item.format == "csv":
                raw = self.masking.mask_rows(item, raw, fields)
            else:
                raw = self.masking.mask_body(raw, fields, [evolve(item, raw=raw, format="array")])
            files[item.path].write(body.clean(raw))
        contents = [(name, file.getvalue().decode().encode(coding, "replace")) for name, file in files.items()]
        if len(contents) == 1:
            body.content = [contents[0][1]]
        else:
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in contents:
                    archive.writestr(name, content)
            body.content, body.suffix = [packed.getvalue()], ".zip"
        return body

    def _json_of_file(self, exchange: Exchange, fields: Fields) -> Body:
        """A report in JSON that was packed, or is in a file: kept as plain JSON, masked."""
        items = tuple(exchange.items)
        if len(items) != 1 or items[0].format not in ("array", "object"):
            return self.left_out(_NOT_MASKABLE)
        body = Body(suffix=".json")
        body.content = [body.clean(self.masking.mask_body(bytes(items[0].raw), fields, items))]
        return body

    def _shortened(self, response: Response) -> Body:
        """The first words of a response that is no data, such as an error page: no more than a message shows."""
        words = response.words(200)
        if response.body.lstrip().startswith(b"<"):
            words = f"<p>{html.escape(words)}</p>"
        return Body(content=[words.encode()], suffix=".txt", measured=response.measured)

    def left_out(self, why: str) -> Body:
        self.withheld += 1
        return Body(suffix="", withheld=why)


def _blocks(file: BinaryIO) -> Iterable[bytes]:
    return iter(lambda: file.read(_BLOCK), b"")


def _whole_lines(file: BinaryIO) -> Iterable[bytes]:
    """The content in blocks that end with a line, so that no secret is cut in two."""
    left = b""
    for block in _blocks(file):
        head, end, left = (left + block).rpartition(b"\n")
        yield head + end
    yield left


SHORTEST_GRANT = 8  # letters: shorter values in the query of a download, such as a version, occur elsewhere by chance


@define(eq=False, repr=False)
class Downloads:
    """The downloads that a run requested: the paths of their links, and the values in their queries."""

    masking: Masking
    _links: set[str] = field(factory=set, init=False)
    _grants: set[str] = field(factory=set, init=False)

    def add(self, request: Request) -> None:
        """Note a request without credentials."""
        link = urlsplit(request.full_url)
        self._links.add(link.path)
        self._grants.update(value for _, value in parse_qsl(link.query) if len(value) >= SHORTEST_GRANT)

    def without_grants(self, body: Body) -> Body:
        """A body without records, in which links and grants are masked."""
        content = b"".join(body.content)
        if body.suffix == ".json" and self._links:
            content = replaced_json(content, self._link)
        elif body.suffix == ".txt":
            for value in sorted(self._grants, key=len, reverse=True):
                for form in (value, quote(value, safe=""), html.escape(value)):
                    content = content.replace(form.encode(), self.masking.alias(value).encode())
        if body.suffix in (".json", ".txt"):
            text = self.masking.without_hidden(content.decode(errors="surrogateescape"))
            if body.suffix == ".txt":
                text = self.masking.without_addresses(text)
            content = text.encode(errors="surrogateescape")
        return evolve(body, content=[content], altered=False)  # no record is in it

    def masked_request(self, request: Request) -> Request:
        """The request of a download without its grants."""
        params = tuple((name, self.masking.alias(value)) for name, value in request.params)
        return evolve(request, url=self.masked_link(request.url), params=params)

    def masked_header(self, value: str) -> str:
        """A header without hidden values and addresses of persons, and without the grants of a link."""
        link = self.masked_link(value) if "?" in value and self.is_download(value) else value
        return self.masking.without_addresses(self.masking.without_hidden(link))

    def _link(self, names: object, start: int, token: bytes) -> bytes | None:
        if token[:1] != b'"' or b"?" not in token:
            return None
        link = text_of(token)
        return json.dumps(self.masked_link(link)).encode() if self.is_download(link) else None

    def is_download(self, link: str) -> bool:
        try:
            path = urlsplit(link).path
        except ValueError:
            return False
        return path in self._links or any(link.endswith(f"/{path}") for link in self._links if path)

    def masked_link(self, link: str) -> str:
        head, sign, query = link.partition("?")
        return head + sign + "&".join(self._masked_pair(pair) for pair in query.split("&")) if sign else link

    def _masked_pair(self, pair: str) -> str:
        name, sign, value = pair.partition("=")
        return f"{name}={self.masking.alias(unquote(value.replace('+', ' ')))}" if sign else self.masking.alias(pair)
