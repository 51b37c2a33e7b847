"""
One read as it is attempted: counted, reported as an event, and judged.
"""

import re
from datetime import datetime
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from attrs import define, field

from penstock._fetch.call import Answered, Call, CallResult, Failed, JudgeCall
from penstock._fetch.limits import Parking
from penstock._fetch.retry import REPEATED_AFTER, FailedAttempt, Operation
from penstock._run_report.log import RunLog
from penstock._util.clock import Clock
from penstock.errors import PenstockError
from penstock.model import Answer, Request, Response
from penstock.redact import mask
from penstock.verdicts import Retry, Verdict


def count_call(log: RunLog, call: Call, **amounts: int) -> None:
    """Add to the counts of the call's stream, if it has one."""
    if call.stream is not None:
        log.run_report.count(log.source, call.stream.name, **amounts)


@define(eq=False, repr=False)
class ReadOperation(Operation[CallResult]):
    """A request for records, a login or the submission of a report: counted, reported and judged."""

    call: Call
    judge_call: JudgeCall
    log: RunLog
    parking: Parking
    clock: Clock
    response: Response | None = field(default=None, init=False)  # the last one
    sent_at: datetime | None = field(default=None, init=False)  # the last attempt to submit a report
    request: Request = field(init=False)

    @request.default
    def _request_of_call(self) -> Request:
        return self.call.request

    def on_send(self) -> None:
        """Count the request before it leaves: whether a response comes is not known yet."""
        self.parking.check()
        count_call(self.log, self.call, requests=1)
        if self.call.submits:
            self.sent_at = self.clock.now()

    def on_attempt(self, response: Response | None, seconds: float) -> None:
        """Without a response, the error is that of a retry or of a partition."""
        self.response = response or self.response
        self.log.emit(
            {
                "event": "request",
                "source": self.log.source,
                "stream": self.call.stream.name if self.call.stream is not None else None,
                "partitions": [dict(partition.values) for partition in self.call.partitions],
                "method": self.request.method,
                "url": url_template(self.call),
                "status": response.status if response is not None else None,
                "bytes": response.size if response is not None else 0,
                "seconds": round(seconds, 6),
            }
        )

    def judge(self, response: Response) -> tuple[Verdict, CallResult]:
        try:
            verdict, answer = self.judge_call(self.call, response)
        except REPEATED_AFTER as error:
            verdict, answer = Retry(error), Answer()
        if isinstance(verdict, Retry):
            return verdict, Failed(self.call, verdict.error, response)
        return verdict, Answered(self.call, response, verdict, answer, sent_at=self.sent_at)

    def on_no_response(self, error: PenstockError) -> Retry:
        """A read may always be repeated."""
        if isinstance(error, REPEATED_AFTER):
            return Retry(error)
        raise error

    def on_retry(self, failed: FailedAttempt) -> None:
        """The error of the last attempt is reported by its task."""
        stream = self.call.stream.name if self.call.stream is not None else None
        count_call(self.log, self.call, retries=1)
        self.log.emit(failed.event(self.log.source, stream, self.request))


_WORD = re.compile(r"[A-Za-z][A-Za-z._-]*|[vV]\d+(\.\d+)?|")


def url_template(call: Call) -> str:
    """
    The URL of a request as a kind of request, masked: without its query, a segment that is a value of the partition as
    ``{column}``, and every other one that is no word as ``{id}``.
    """
    origin, words = _origin_and_words(call.request.url)
    columns = {value: column for partition in call.partitions for column, value in partition.values}
    segments = [f"{{{columns[word]}}}" if word in columns else replacement for word, replacement in words]
    return mask(f"{origin}{'/'.join(segments)}")


@lru_cache(maxsize=1000)
def _origin_and_words(address: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The origin of a URL; each segment of its path, and how it is shown where it is no value of the partition."""
    url = urlsplit(address)
    segments = [unquote(segment) for segment in url.path.split("/")]
    words = tuple((segment, segment if _WORD.fullmatch(segment) else "{id}") for segment in segments)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}", words
