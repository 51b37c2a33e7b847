"""
The HTTP client of one source, for reads and writes: judge, retry, sign and transport, joined.
"""

import re
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Protocol
from urllib.parse import unquote, urlsplit

from attrs import define, evolve, field

from penstock._config.source import ConfiguredSource
from penstock._fetch.auth import Signer
from penstock._fetch.call import Call, Outcome
from penstock._fetch.limits import NO_DEADLINE, Deadline, RateLimit, RetryBudget
from penstock._fetch.retry import REPEATED_AFTER, FailedAttempt, Operation, Result, Retrying
from penstock._fetch.retry_policy import RetryPolicy
from penstock._fetch.token_store import TokenStore
from penstock._fetch.transport import Transport
from penstock._fetch.verdict import judge_response, judges_of
from penstock._plugins.plugin_errors import FAILURES
from penstock._run_report.report import RunReport
from penstock._util.clock import Clock
from penstock.errors import ParkedError, PenstockError
from penstock.events import OnEvent, ignore
from penstock.model import Answer, Request, Response, origin_of
from penstock.protocols import Accept, Grant, Judge, Refuse, Retry, Skip, Unsigned, Verdict
from penstock.redact import mask

JudgeCall = Callable[[Call, Response], tuple[Verdict, Answer]]


class ExchangeTape(Protocol):
    """
    Records the calls of a run, or replays a recording (:mod:`penstock._recording`). ``until``: when the last response
    of a recording came; None for one that records.
    """

    @property
    def until(self) -> datetime | None: ...

    def begin(self, started_at: datetime, sources: Iterable[ConfiguredSource]) -> None:
        """Called before the first call, with the start of the run. Raises UsageError."""

    def exchange(self, source: ConfiguredSource, call: Call, send: Callable[[], Outcome], judge: JudgeCall) -> Outcome:
        """The outcome of a call; ``send`` makes it, ``judge`` judges a response to it. Called in fetching threads."""

    def finish(self) -> Sequence[str]:
        """Called after the last call. Returns notices; raises SinkError."""


class Peers(Protocol):
    """The other processes of a divided run. Methods are called from fetching threads."""

    @property
    def shares_tokens(self) -> bool:
        """Whether :meth:`grant` may be called; else each process gets grants of its own."""

    def grant(self, source: str, account: str | None, used: Grant | None) -> Grant:
        """The grant that all processes use, renewed if it is still ``used``; see :meth:`Signer.grant`."""

    def cooled_down(self, source: str, seconds: float) -> None:
        """The provider throttles: no process makes a request for so many seconds."""

    def parked(self, source: str, error: ParkedError) -> None:
        """The provider states a long wait: no process makes a further request."""

    def accepted(self, source: str, owner: str | None) -> None:
        """The provider accepted a request with the credentials of this owner."""

    def have_accepted(self, source: str, owner: str | None) -> bool:
        """Whether it did so in any process."""


@define(eq=False, repr=False)
class SourceClient:
    """
    The HTTP client of one source: judge, retry, sign and transport, joined. Fetching threads call :meth:`fetch`.
    """

    source: ConfiguredSource
    clock: Clock
    budget: RetryBudget
    deadline: Deadline = NO_DEADLINE
    run_report: RunReport | None = None  # counts the requests of streams
    emit: OnEvent = ignore
    tape: ExchangeTape | None = None  # of a run that is recorded or replayed
    peers: Peers | None = None
    concurrency: int = field(init=False)
    rate_limit: RateLimit = field(init=False)
    _policy: RetryPolicy = field(init=False)
    _by_credentials: dict[str | None, Retrying] = field(factory=dict, init=False)
    _judges: dict[str | None, tuple[Judge, ...]] = field(factory=dict, init=False)  # by stream
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)
    accepted: set[str | None] = field(factory=set, init=False)  # the owners of credentials that the provider accepted
    _parked: ParkedError | None = field(default=None, init=False)
    _transport: Transport = field(init=False)

    def __attrs_post_init__(self) -> None:
        settings, connector = self.source.settings, self.source.connector
        self.concurrency = self.source.concurrency if self.tape is None else 1
        self._transport = Transport(
            timeout_s=settings.timeout_s,
            max_body_bytes=settings.max_body_mib * 1024 * 1024,
            max_file_bytes=settings.max_report_mib * 1024 * 1024,
            connections=self.concurrency,
            proxy=settings.proxy,
            ca_file=settings.ca_file,
            allow_http=settings.allow_http,
            base_origin=origin_of(settings.base_url),
            origins=[origin_of(url) for key in connector.origins if (url := getattr(settings, key))],
            clock=self.clock,
        )
        cooled_down = partial(self.peers.cooled_down, self.source.name) if self.peers is not None else None
        self.rate_limit = RateLimit(self.clock, self.source.requests_per_second, cooled_down)
        self._policy = RetryPolicy(
            retries=settings.retries,
            first_s=settings.retry_first_s,
            max_s=settings.retry_max_s,
            throttle_wait_s=settings.throttle_wait_s,
            cool_down_s=connector.limits.cool_down_s,
        )

    def send(self, operation: Operation[Result], account: str | None = None) -> Result:
        """The result of an operation with the credentials of this account; raises its error."""
        return self._retrying_for(account)(operation)

    def signer(self, account: str | None = None) -> Signer:
        """It has the credentials of this account, if its table has any, else those of the source."""
        return self._retrying_for(account).signer

    def _retrying_for(self, account: str | None) -> Retrying:
        """The loop of attempts, which signs with its ``signer`` and sends with ``Transport``."""
        owner = self.source.credentials_of(account)
        with self._lock:
            if owner not in self._by_credentials:
                sharing = self.peers if self.peers is not None and self.peers.shares_tokens else None
                signer = Signer(
                    self.source.authenticator(owner),
                    self._log_in,
                    self.clock,
                    store=TokenStore(self.source.token_store, self.clock),
                    account=owner,
                    granted=partial(sharing.grant, self.source.name, owner) if sharing is not None else None,
                )
                self._by_credentials[owner] = self._retrying(signer)
            return self._by_credentials[owner]

    def _retrying(self, signer: Signer) -> Retrying:
        return Retrying(
            signer=signer,
            send=self._transport,
            policy=self._policy,
            rate_limit=self.rate_limit,
            budget=self.budget,
            clock=self.clock,
            deadline=self.deadline,
            source=self.source.name,
        )

    def fetch(self, call: Call) -> Outcome:
        """One call, judged and retried; never raises. An error comes with the last response, where there was one."""
        outcome = (
            self._attempt_call(call)
            if self.tape is None
            else self.tape.exchange(self.source, call, partial(self._attempt_call, call), self._replay)
        )
        response = outcome.response
        if outcome.error is not None or response is None:
            return outcome
        if isinstance(outcome.verdict, (Accept, Skip)) and call.request.credentials:
            self._accept(self.source.credentials_of(call.account))
        self.count(call, bytes=response.size)
        if call.digest and isinstance(outcome.verdict, Accept):
            return outcome._replace(digest=digest_of(outcome.answer))
        return outcome

    def _accept(self, owner: str | None) -> None:
        if owner not in self.accepted:
            self.accepted.add(owner)
            if self.peers is not None:
                self.peers.accepted(self.source.name, owner)

    def has_accepted(self, owner: str | None) -> bool:
        """Whether the provider accepted a request with these credentials, in any process of the run."""
        if owner in self.accepted:
            return True
        return self.peers is not None and self.peers.have_accepted(self.source.name, owner)

    def _attempt_call(self, call: Call) -> Outcome:
        read = ReadOperation(self, call, call.request, self._judge)
        try:
            self.check_not_parked()
            return self.send(read, call.account)
        except ParkedError as error:
            if self._parked is None and self.peers is not None:
                self.peers.parked(self.source.name, error)
            self._parked = error
            return Outcome(call=call, response=read.response, error=error)
        except FAILURES as error:  # handed to the reading, which decides what becomes of it
            return Outcome(call=call, response=read.response, error=error)

    def _replay(self, call: Call, response: Response) -> tuple[Verdict, Answer]:
        """The verdict on a recorded response, which counts as one request."""
        self.count_request(call)
        return self._judge(call, response)

    def close(self) -> None:
        self._transport.close()

    def _judge(self, call: Call, response: Response) -> tuple[Verdict, Answer]:
        connector, stream = self.source.connector, call.stream.name if call.stream is not None else None
        if (judges := self._judges.get(stream)) is None:
            judges = self._judges[stream] = judges_of(connector, call.stream)
        verdict, answer = judge_response(connector.title, call, response, judges, connector.reason)
        return _placed(verdict, call.request) if isinstance(verdict, (Retry, Refuse)) else verdict, answer

    def _log_in(self, request: Request) -> Response:
        """The login: retried like a read, judged by its status alone. The authenticator reads the final response."""
        call = Call(request=request, envelope=None, lenient=True)
        retrying = self._retrying(Signer(Unsigned(), self._log_in, self.clock))
        response = retrying(ReadOperation(self, call, request, self._judge_login)).response
        assert response is not None, "an outcome without an error has a response"
        return response

    def _judge_login(self, call: Call, response: Response) -> tuple[Verdict, Answer]:
        verdict, answer = judge_response(self.source.connector.title, call, response, judges=())
        if isinstance(verdict, Retry) and verdict.renew:
            verdict = Refuse(verdict.error)
        return _placed(verdict, call.request) if isinstance(verdict, (Retry, Refuse)) else verdict, answer

    def count_request(self, call: Call) -> None:
        """Count a request before it leaves: whether a response comes is not known yet. ParkedError: none may leave."""
        self.check_not_parked()
        if call.stream is not None and self.run_report is not None:
            self.run_report.count(self.source.name, call.stream.name, requests=1)

    def count(self, call: Call, **more: int) -> None:
        """Add to the figures of the call's stream in the run report."""
        if call.stream is not None and self.run_report is not None:
            self.run_report.count(self.source.name, call.stream.name, **more)

    def park(self, error: ParkedError) -> None:
        """Make no further request: another process met a wait that is too long."""
        self._parked = self._parked or error

    def check_not_parked(self) -> None:
        """Raises ParkedError once a request to the source met a wait that is too long."""
        if self._parked is not None:
            raise self._parked


@define(eq=False, repr=False)
class ReadOperation(Operation[Outcome]):
    """A request for records, a login or the submission of a report: counted, reported and judged."""

    client: SourceClient
    call: Call
    request: Request
    judge_call: JudgeCall
    response: Response | None = field(default=None, init=False)  # the last one
    sent_at: datetime | None = field(default=None, init=False)  # of the last attempt

    def sending(self) -> None:
        self.client.count_request(self.call)
        self.sent_at = self.client.clock.now()

    def attempted(self, response: Response | None, seconds: float) -> None:
        """Without a response, the error is that of a retry or of a partition."""
        self.response = response or self.response
        self.client.emit(
            {
                "event": "request",
                "source": self.client.source.name,
                "stream": self._stream,
                "partitions": [dict(partition.values) for partition in self.call.partitions],
                "method": self.request.method,
                "url": url_template(self.call),
                "status": response.status if response is not None else None,
                "bytes": response.size if response is not None else 0,
                "seconds": round(seconds, 6),
            }
        )

    def judge(self, response: Response) -> tuple[Verdict, Outcome]:
        try:
            verdict, answer = self.judge_call(self.call, response)
        except REPEATED_AFTER as error:
            verdict, answer = Retry(error), Answer()
        if isinstance(verdict, Retry):
            return verdict, Outcome(call=self.call, response=response)
        return verdict, Outcome(call=self.call, response=response, verdict=verdict, answer=answer, sent_at=self.sent_at)

    def no_response(self, error: PenstockError) -> Retry:
        """A read may always be repeated."""
        if isinstance(error, REPEATED_AFTER):
            return Retry(error)
        raise error

    def retried(self, failed: FailedAttempt) -> None:
        """The error of the last attempt is reported by its reading."""
        self.client.count(self.call, retries=1)
        self.client.emit(failed.event(self.client.source.name, self._stream, self.request))

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
    segments = [f"{{{columns[word]}}}" if word in columns else replacement for word, replacement in words]
    return mask(f"{origin}{'/'.join(segments)}")


@lru_cache(maxsize=1000)
def _origin_and_words(address: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The origin of a URL; each segment of its path, and how it is shown where it is no value of the partition."""
    url = urlsplit(address)
    segments = [unquote(segment) for segment in url.path.split("/")]
    words = tuple((segment, segment if _WORD.fullmatch(segment) else "{id}") for segment in segments)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}", words


def _placed(verdict: Retry | Refuse, request: Request) -> Verdict:
    """The same verdict, whose error has the request as its place."""
    return evolve(verdict, error=verdict.error.at(request=request))


def digest_of(answer: Answer) -> int | None:
    """A number that two pages with the same items share; None for a page without items."""
    crc = size = 0
    for items in answer.items:
        crc = zlib.crc32(items.raw, crc)
        size += len(items.raw)
    has_items = size > len(b"[]") or any(items.format == "object" for items in answer.items)
    return (size << 32) | crc if has_items else None
