"""
The HTTP client of one source, for reads and writes: judge, retry, sign and transport, joined.
"""

import threading
import zlib
from collections.abc import Callable
from functools import partial

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._fetch.auth import Signer
from penstock._fetch.call import Call, CallResult, Failed, answered
from penstock._fetch.exchange_recording import ExchangeRecording
from penstock._fetch.limits import Deadline, Parking, RateLimit, RetryBudget, default_deadline
from penstock._fetch.peers import Peers
from penstock._fetch.read_operation import ReadOperation, count_call
from penstock._fetch.retry import Operation, Result, RetryLoop
from penstock._fetch.retry_policy import RetryPolicy
from penstock._fetch.token_store import TokenStore
from penstock._fetch.transport import Transport
from penstock._fetch.verdict import SourceJudge
from penstock._plugins.plugin_errors import FAILURES
from penstock._run_report.log import RunLog
from penstock._util.clock import Clock
from penstock.errors import ParkedError
from penstock.model import Answer, Request, Response, origin_of
from penstock.protocols import Unsigned
from penstock.verdicts import Accept, Skip, Verdict


@define(eq=False, repr=False)
class SourceClient:
    """
    The HTTP client of one source: judge, retry, sign and transport, joined. Fetching threads call :meth:`fetch`.
    """

    source: ConfiguredSource
    log: RunLog
    clock: Clock
    retry_budget: RetryBudget
    deadline: Deadline = default_deadline
    recording: ExchangeRecording | None = None  # of a run that is recorded or replayed
    peers: Peers = field(factory=Peers)
    concurrency: int = field(init=False)
    rate_limit: RateLimit = field(init=False)
    parking: Parking = field(init=False)
    working_credentials: set[str | None] = field(factory=set, init=False)  # by owner: a request with them was accepted
    _policy: RetryPolicy = field(init=False)
    _judge: SourceJudge = field(init=False)
    _transport: Transport = field(init=False)
    _make_call: Callable[[Call], CallResult] = field(init=False)  # recorded, if the run is
    _retry_loops: dict[str | None, RetryLoop] = field(factory=dict, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        source, peers = self.source, self.peers
        self.concurrency = source.concurrency if self.recording is None else 1
        on_cool_down = partial(peers.cooled_down, source.name)
        self.rate_limit = RateLimit(self.clock, source.requests_per_second, on_cool_down=on_cool_down)
        self.parking = Parking(on_park=partial(peers.parked, source.name))
        self._policy = _policy_of(source)
        self._judge = SourceJudge(source.connector)
        self._transport = _transport_of(source, self.concurrency, self.clock)
        self._make_call = (
            self._call_provider if self.recording is None else partial(self._call_recorded, self.recording)
        )

    def send(self, operation: Operation[Result]) -> Result:
        """The result of a write, with the credentials of the source; raises its error."""
        return self._retry_loop_for(None).run(operation)

    def signer(self, account: str | None = None) -> Signer:
        """The signer with the credentials of this account, if its table has any, else with those of the source."""
        return self._retry_loop_for(account).signer

    def _retry_loop_for(self, account: str | None) -> RetryLoop:
        """The loop of attempts, which signs with its ``signer`` and sends with ``Transport``."""
        owner = self.source.credentials_of(account)
        with self._lock:
            if owner not in self._retry_loops:
                shared_grant = partial(self.peers.grant, self.source.name, owner) if self.peers.shares_tokens else None
                signer = Signer(
                    self.source.authenticator(owner),
                    self._send_login,
                    self.clock,
                    store=TokenStore(self.source.token_store, self.clock),
                    account=owner,
                    shared_grant=shared_grant,
                    headers=self.source.headers(owner),
                )
                self._retry_loops[owner] = self._new_retry_loop(signer)
            return self._retry_loops[owner]

    def _new_retry_loop(self, signer: Signer) -> RetryLoop:
        return RetryLoop(
            signer=signer,
            send=self._transport,
            policy=self._policy,
            rate_limit=self.rate_limit,
            budget=self.retry_budget,
            clock=self.clock,
            deadline=self.deadline,
            source=self.source.name,
        )

    def fetch(self, call: Call) -> CallResult:
        """One call, judged and retried; never raises. An error comes with the last response, where there was one."""
        result = self._make_call(call)
        if isinstance(result, Failed):
            return result
        if isinstance(result.verdict, (Accept, Skip)) and call.request.credentials:
            owner = self.source.credentials_of(call.account)
            if owner not in self.working_credentials:
                self.working_credentials.add(owner)
                self.peers.credentials_worked(self.source.name, owner)
        count_call(self.log, call, bytes=result.response.size)
        if call.digest and isinstance(result.verdict, Accept):
            return result._replace(digest=digest_of(result.answer))
        return result

    def has_working_credentials(self, owner: str | None) -> bool:
        """Whether the provider accepted a request with these credentials, in any process of the run."""
        return owner in self.working_credentials or self.peers.have_working_credentials(self.source.name, owner)

    def _call_provider(self, call: Call) -> CallResult:
        """The result of a call to the provider."""
        read = ReadOperation(call, self._judge, self.log, self.parking, self.clock)
        try:
            self.parking.check()  # before it waits for its turn
            return self._retry_loop_for(call.account).run(read)
        except FAILURES as error:  # handed to the task, which decides what becomes of it
            if isinstance(error, ParkedError):
                self.parking.park(error)
            return Failed(call, error, read.response)

    def _call_recorded(self, recording: ExchangeRecording, call: Call) -> CallResult:
        """The result of a call, which is recorded, or replayed."""
        return recording.exchange(self.source, call, partial(self._call_provider, call), self._replay)

    def _replay(self, call: Call, response: Response) -> tuple[Verdict, Answer]:
        """The verdict on a recorded response, which counts as one request."""
        self.parking.check()
        count_call(self.log, call, requests=1)
        return self._judge(call, response)

    def _send_login(self, request: Request) -> Response:
        """The login: retried like a read, judged by its status alone. The authenticator reads the final response."""
        call = Call(request=request, decoder=None, lenient=True)
        retry_loop = self._new_retry_loop(Signer(Unsigned(), self._send_login, self.clock))
        login = ReadOperation(call, self._judge.judge_login, self.log, self.parking, self.clock)
        return answered(retry_loop.run(login)).response

    def close(self) -> None:
        self._transport.close()


def _policy_of(source: ConfiguredSource) -> RetryPolicy:
    settings = source.settings
    return RetryPolicy(
        retries=settings.retries,
        first_s=settings.retry_first_s,
        max_s=settings.retry_max_s,
        throttle_wait_s=settings.throttle_wait_s,
        cool_down_s=source.connector.limits.cool_down_s,
    )


def _transport_of(source: ConfiguredSource, connections: int, clock: Clock) -> Transport:
    settings = source.settings
    return Transport(
        timeout_s=settings.timeout_s,
        max_body_bytes=settings.max_body_mib * 1024 * 1024,
        max_file_bytes=settings.max_report_mib * 1024 * 1024,
        connections=connections,
        proxy=settings.proxy,
        ca_file=settings.ca_file,
        allow_http=settings.allow_http,
        base_origin=origin_of(settings.base_url),
        origins=[origin_of(url) for key in source.connector.origins if (url := getattr(settings, key))],
        clock=clock,
    )


def digest_of(answer: Answer) -> int | None:
    """A number that two pages with the same items share; None for a page without items."""
    crc = size = 0
    for items in answer.items:
        crc = zlib.crc32(items.raw, crc)
        size += len(items.raw)
    has_items = size > len(b"[]") or any(items.format == "object" for items in answer.items)
    return (size << 32) | crc if has_items else None
