"""
The events of requests, and the figures that they add to the run report.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from attrs import define, field

from penstock._fetch.call import Call
from penstock._fetch.retry import FailedAttempt, Observer
from penstock.events import OnEvent
from penstock.model import Response
from penstock.redact import mask


@define(eq=False, repr=False)
class CallObserver(Observer):
    """Counts and reports the attempts of one call, and keeps the last response."""

    source: str
    call: Call
    emit: OnEvent
    count_request: Callable[[Call], None]
    count: Callable[..., None]
    response: Response | None = field(default=None, init=False)

    def sending(self) -> None:
        self.count_request(self.call)

    def attempted(self, response: Response | None, seconds: float) -> None:
        """Without a response, the error is that of a retry or of a partition."""
        self.response = response or self.response
        self.emit(
            {
                "event": "request",
                "source": self.source,
                "stream": self._stream,
                "partitions": [partition.as_dict() for partition in self.call.partitions],
                "method": self.call.request.method,
                "url": url_template(self.call),
                "status": response.status if response is not None else None,
                "bytes": response.size if response is not None else 0,
                "seconds": round(seconds, 6),
            }
        )

    def retried(self, failed: FailedAttempt) -> None:
        """The error of the last attempt is reported by its reading."""
        self.count(self.call, retries=1)
        self.emit(failed.event(self.source, self._stream, self.call.request))

    @property
    def _stream(self) -> str | None:
        return self.call.stream.name if self.call.stream is not None else None


_WORD = re.compile(r"[A-Za-z][A-Za-z._-]*|[vV]\d+(\.\d+)?|")


def url_template(call: Call) -> str:
    """
    The URL of a request as a kind of request, masked: without its query, a segment that is a value of the partition as
    ``{column}``, and every other one that is no word as ``{id}``.
    """
    origin, words = _origin_and_words(call.request.url)
    columns = {value: column for partition in call.partitions for column, value in partition.values}
    segments = [f"{{{columns[word]}}}" if word in columns else shown for word, shown in words]
    return mask(f"{origin}{'/'.join(segments)}")


@lru_cache(maxsize=1000)
def _origin_and_words(address: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The origin of a URL; each segment of its path, and how it is shown where it is no value of the partition."""
    url = urlsplit(address)
    segments = [unquote(segment) for segment in url.path.split("/")]
    words = tuple((segment, segment if _WORD.fullmatch(segment) else "{id}") for segment in segments)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}", words
