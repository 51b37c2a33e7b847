"""
The network: one attempt of one request over urllib3, whole or with an error that names the reason.

urllib3 handles connections, TLS, proxies and the framing of bodies. Around it stand a deadline over the whole attempt
(``deadlines``), bounds on the size of a body as sent and decompressed (``body``), the detection of bytes behind a body,
URLs that stay as they were signed, and pools by scheme and proxy (``connections``), the origin rule (``origin``), and
the texts of failures (``network_errors``). urllib3's retries and redirects are off.
"""

import ssl
import time
from collections.abc import Iterable
from typing import Any

import urllib3
from attrs import Factory, define, field
from urllib3 import exceptions as failures

from penstock import __version__
from penstock._fetch.attempt import IDLE_S, NetworkAttempt, current
from penstock._fetch.body import (
    FILE_START_BYTES,
    Bound,
    NotWholeError,
    Spool,
    TooLargeError,
    check_framing,
    decompressed,
    read_body,
)
from penstock._fetch.connections import Connections
from penstock._fetch.deadlines import AttemptDeadlines
from penstock._fetch.network_errors import BASE_URL_SETTING, reason_of
from penstock._fetch.origin import Boundary, absolute, authority_and_target, brief, check_parameters, host_of, sendable
from penstock._util.clock import Clock
from penstock.errors import (
    BoundExceededError,
    ConfigError,
    PenstockError,
    StoppedError,
    TransportError,
    UntrustedError,
)
from penstock.model import Request, Response

MAX_REDIRECTS = 5
MAX_CONNECT_S = 10.0  # a connection attempt cannot be interrupted, and a stop must not take longer than this
IDLE_WRITE_S = 4.0  # an idle connection is used within this time for what must not be sent twice (see ``IDLE_S``)

_ONCE = urllib3.Retry(False, redirect=False)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WITHOUT_BODY = frozenset({204, 304})
_HEADERS = {
    "user-agent": ("User-Agent", f"penstock/{__version__}"),
    "accept": ("Accept", "application/json, */*;q=0.8"),
    "accept-encoding": ("Accept-Encoding", "gzip"),
}
_WRITTEN_HERE = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_CARRIED = frozenset({"accept", "accept-language", "content-type", "range"})  # headers that may leave the origin


@define(eq=False, repr=False, kw_only=True)
class Transport:
    """
    An exchange over HTTP/1.1 with keep-alive: request in, whole response out. Safe to call from several threads.

    Credentials may go to ``base_origin`` (:func:`penstock.model.origin_of` of the source's ``base_url``) and to
    ``origins``. ``setting``: the setting that has the address, for messages.
    ``total_timeout_s`` bounds one attempt from the first packet to the last, redirects included; None: ten times
    ``timeout_s``, which bounds the wait for a connection and for each next byte. ``proxy`` is a URL; None:
    ``HTTPS_PROXY`` and the like, except for ``NO_PROXY`` and this machine. ``ca_file``: None: ``SSL_CERT_FILE`` or
    ``REQUESTS_CA_BUNDLE``, else the system's. At most ``connections`` are open to each host.

    A call raises TransportError (worth another try), UntrustedError, BoundExceededError, ForeignOriginError, or
    StoppedError after :meth:`close` or once the clock was stopped. Any status is a response: the judge decides on it.
    """

    timeout_s: float
    max_body_bytes: int
    # Of a report.
    max_file_bytes: int = field(default=Factory(lambda transport: transport.max_body_bytes, takes_self=True))
    connections: int
    proxy: str | None
    ca_file: str | None
    allow_http: bool
    base_origin: str
    origins: Iterable[str] = ()
    setting: str = BASE_URL_SETTING
    clock: Clock
    total_timeout_s: float = field(default=Factory(lambda transport: 10 * transport.timeout_s, takes_self=True))
    _boundary: Boundary = field(init=False)
    _connections: Connections = field(init=False)
    _timeout: urllib3.Timeout = field(init=False)
    _body_bound: Bound = field(init=False)
    _file_bound: Bound = field(init=False)
    _deadlines: AttemptDeadlines = field(factory=AttemptDeadlines, init=False)

    def __attrs_post_init__(self) -> None:
        self._body_bound = Bound(self.max_body_bytes)
        self._file_bound = Bound(self.max_file_bytes, as_file=True)
        self._timeout = urllib3.Timeout(connect=self._connect_s, read=self.timeout_s)
        self._boundary = Boundary(self.base_origin, allow_http=self.allow_http, further=self.origins)
        self._connections = Connections(
            max_connections=self.connections, proxy=self.proxy, ca_file=self.ca_file, base_origin=self._boundary.base
        )

    @property
    def _connect_s(self) -> float:
        return min(self.timeout_s, MAX_CONNECT_S)

    def __call__(self, request: Request) -> Response:
        """
        One attempt. Redirects of a GET or HEAD are followed within the origin; a download's beyond it, too. An error
        has the request as its place.
        """
        deadline = time.monotonic() + self.total_timeout_s
        try:
            url = sendable(request.full_url)
            origin = self._boundary.allowed_origin(request, url, before=self._boundary.base)
            for _ in range(MAX_REDIRECTS + 1):
                response = self._attempt(request, url, origin, deadline)
                if response.status not in _REDIRECTS or (location := response.header("location")) is None:
                    return response
                if request.is_write or request.method not in ("GET", "HEAD"):
                    return response
                before, url = url, sendable(absolute(url, location))
                origin = self._boundary.allowed_origin(request, url, before=before)
                check_parameters(before, url, request)
            raise BoundExceededError(
                f"{host_of(url)} redirects more than {MAX_REDIRECTS} times. "
                "Correct base_url if it is not where the provider answers; else the provider must mend its redirects."
            )
        except PenstockError as error:
            raise error.at(request=brief(request)) from None

    def close(self) -> None:
        """Close every connection; requests under way in other threads fail at once with StoppedError."""
        self._deadlines.close()
        self._connections.close()

    # --- one attempt --------------------------------------------------------------------------------------------

    def _attempt(self, request: Request, url: str, origin: str, deadline: float) -> Response:
        max_idle_s = IDLE_S if request.method in ("GET", "HEAD") and not request.is_write else IDLE_WRITE_S
        attempt = current.attempt = NetworkAttempt(deadline, authority_and_target(url), max_idle_s=max_idle_s)
        http_response = None
        try:
            http_response = self._send(request, url, origin, attempt)
            return self._response(http_response, request, attempt)
        except Exception as error:
            if http_response is not None:
                http_response.close()
                http_response.release_conn()  # else its place in the pool stays taken
            # The texts of urllib3 and of sockets may hold the URL: they are neither shown nor chained.
            shown = error if isinstance(error, PenstockError) else self._explained(error, attempt, url, request)
            raise shown.at(sent=attempt.sent) from None
        finally:
            self._deadlines.remove(attempt)

    def _send(self, request: Request, url: str, origin: str, attempt: NetworkAttempt) -> Any:
        """Send the request. The response has its status and headers; its body is not read."""
        if stopping := self._stopping():
            raise stopping
        if origin not in self._boundary.trusted:
            attempt.check_peer = lambda peer: self._boundary.check_peer(origin, peer)
        headers = self._headers(request, origin)
        pool, address = self._connections.pool_for(url, origin)
        self._deadlines.add(attempt)
        return pool.urlopen(
            request.method,
            address,
            body=request.body,
            headers=headers,
            redirect=False,
            assert_same_host=False,
            retries=_ONCE,
            preload_content=False,
            decode_content=False,
            pool_timeout=max(0.01, attempt.deadline - time.monotonic()),
            timeout=self._timeout,
        )

    def _response(self, http_response: urllib3.BaseHTTPResponse, request: Request, attempt: NetworkAttempt) -> Response:
        """The whole response. Raises NotWholeError and TooLargeError."""
        received_at = self.clock.now()
        headers = tuple([(name.lower(), value) for name, value in http_response.headers.iteritems()])
        joined: dict[str, str] = {}  # the values of headers that came twice, as HTTP reads them
        for name, value in headers:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        check_framing(joined, http_response.length_remaining)
        bound = self._file_bound if request.as_file else self._body_bound
        body = read_body(http_response, bound)
        coding = joined.get("content-encoding", "identity")
        measured = "content-length" in joined or "transfer-encoding" in joined or coding.lower() != "identity"
        has_body = request.method != "HEAD" and http_response.status not in _WITHOUT_BODY
        _check_whole(body, attempt, has_body=has_body, measured=measured)
        plain = decompressed(body, coding, bound) if coding != "identity" else body
        http_response.release_conn()
        start, file = (plain, None) if isinstance(plain, bytes) else (plain.open().read(FILE_START_BYTES), plain)
        return Response(
            status=http_response.status,
            headers=headers,
            body=start,
            file=file,
            received_at=received_at,
            measured=measured,
            max_unpacked_bytes=self.max_file_bytes,
        )

    def _headers(self, request: Request, origin: str) -> dict[str, str]:
        headers = dict(_HEADERS)
        for name, value in request.headers:
            if name.lower() in _WRITTEN_HERE or (origin not in self._boundary.trusted and name.lower() not in _CARRIED):
                continue
            if "\n" in value or "\r" in value or any(ord(letter) > 255 for letter in value):
                raise ConfigError(
                    f"the request cannot be sent: {name} holds characters that HTTP does not allow in a header; "
                    "check the credentials in the configuration for line breaks and typographic signs."
                )
            headers[name.lower()] = (name, value)
        return dict(headers.values())

    def _stopping(self) -> PenstockError | None:
        if self._deadlines.closed.is_set() or self.clock.stop.is_set():
            return StoppedError("stopped while a request was under way; the next run repeats it")
        return None

    # --- errors -------------------------------------------------------------------------------------------------

    def _explained(self, error: Exception, attempt: NetworkAttempt, url: str, request: Request) -> PenstockError:
        """The error of an attempt, with a message of ours. Raises an exception that is no network error."""
        host = host_of(url)
        if stopping := self._stopping():
            return stopping
        if attempt.overdue:
            times = self.total_timeout_s / self.timeout_s
            return BoundExceededError(
                f"{host} had not finished its response after {self.total_timeout_s:g} s. If it is "
                f"that slow, raise timeout_s (an attempt may take {times:g} times as long), or request fewer days at "
                "once."
            )
        if isinstance(error, TooLargeError):
            return BoundExceededError(
                f"{host} sends more than {error.bound.max_bytes / (1 << 20):g} MiB{error.form}. If that "
                f"is right, raise {'max_report_mib' if error.bound.as_file else 'max_body_mib'} or request fewer days "
                "at once."
            )
        cause = error.args[0] if isinstance(error, failures.SSLError) and error.args else None
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UntrustedError(
                f"{host} showed a certificate that is not trusted ({cause.verify_message}). If a "
                "proxy of your organisation sits in between, name its CA in ca_file."
            )
        reason = reason_of(error, connect_s=self._connect_s, timeout_s=self.timeout_s, setting=self.setting)
        return TransportError(f"{host} {reason}.")


def _check_whole(body: bytes | Spool, attempt: NetworkAttempt, *, has_body: bool, measured: bool) -> None:
    """
    Raises NotWholeError, or TimeoutError, for a body that is cut, or that bytes follow. ``has_body``: a response to
    this request may have one. ``measured``: its headers show where it ends.
    """
    size = len(body) if isinstance(body, bytes) else body.size
    if attempt.ends_early:
        raise NotWholeError(f"cut its response after {size:,} bytes, before its end")
    if attempt.surplus and has_body:
        raise NotWholeError(f"sent more than the {size:,} bytes that its headers promise")
    if attempt.was_cut and not measured:  # a body that ends with its connection looks whole
        raise TimeoutError
