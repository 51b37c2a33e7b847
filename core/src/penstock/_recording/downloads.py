"""
Links to downloads: they grant access, so a recording has them without the values of their queries.
"""

import html
import json
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from attrs import define, evolve, field

from penstock._recording.bodies import Body
from penstock._recording.masking import Masking, replaced_json, text_of
from penstock.model import Request

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
            content = self.masking.without_hidden(content.decode(errors="surrogateescape")).encode(
                errors="surrogateescape"
            )
        return evolve(body, content=[content], altered=False)  # no record is in it

    def masked_request(self, request: Request) -> Request:
        """The request of a download without its grants."""
        params = tuple((name, self.masking.alias(value)) for name, value in request.params)
        return evolve(request, url=self.masked_link(request.url), params=params)

    def masked_header(self, value: str) -> str:
        """A header without hidden values, and without the grants of a link."""
        return self.masking.without_hidden(
            self.masked_link(value) if "?" in value and self.is_download(value) else value
        )

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
