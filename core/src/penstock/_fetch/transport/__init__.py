"""
The network: one attempt of one request, whole or with an error that says why.

Of http.client and urllib3 only the connections are used; not urllib3's pool, retries, redirects and body reading: a URL
must leave byte for byte (the pool re-encodes it, which breaks signatures), a bound on time must hold for a slow drip
too, also of headers, and a body must be known to be whole. This is the only package that imports urllib3.

What is bounded: the wait for the next byte and for a connection (``timeout_s``), the whole attempt, redirects
included (``total_timeout_s``), the body as sent and decompressed (``max_body_bytes``). What is refused before
anything is sent: see :class:`penstock._fetch.origin.Boundary`.
"""

import time

from penstock import __version__
from penstock._fetch.origin import Boundary, absolute, host_of, shown
from penstock._fetch.transport.body import decompressed, read_body
from penstock._fetch.transport.dialer import Dialer
from penstock._fetch.transport.failures import explained
from penstock._fetch.transport.wire import Pool, Wire
from penstock._util.clock import Clock
from penstock.errors import BoundExceededError, PenstockError, StoppedError
from penstock.model import Request, Response

MAX_REDIRECTS = 5
IDLE_S = 50.0  # an idle connection is used again within this time (servers close it after 60 s, often) ...
IDLE_WRITE_S = 4.0  # ... and for what must not be sent twice within this (some close after 5 s)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MEASURES = frozenset({"content-length", "transfer-encoding", "content-encoding"})  # any says where a body ends
_WRITTEN_HERE = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_CARRIED = frozenset({"accept", "accept-language", "content-type", "range"})  # headers that may leave the origin


class Transport:
    """
    An exchange over HTTP/1.1 with keep-alive: request in, whole response out. Safe to call from several threads.

    ``base_origin`` is where credentials may go (:func:`penstock.model.origin_of` of the source's ``base_url``).
    ``total_timeout_s`` bounds one attempt from the first packet to the last; None: ten times ``timeout_s``.
    ``proxy`` is a URL; None: ``HTTPS_PROXY`` and its kin, minus ``NO_PROXY`` and this machine. ``ca_file``: None:
    ``SSL_CERT_FILE`` or ``REQUESTS_CA_BUNDLE``, else the system's. At most ``connections`` are open at once.

    A call raises TransportError (worth another try), BoundExceededError, ForeignOriginError, or StoppedError after
    :meth:`close` or once the clock was stopped. Any status is an answer, not an error: the judge decides on it.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        max_body_bytes: int,
        connections: int,
        proxy: str | None,
        ca_file: str | None,
        allow_http: bool,
        base_origin: str,
        clock: Clock,
        total_timeout_s: float | None = None,
    ) -> None:
        import http.client  # noqa: F401  so that the first request does not pay for it

        self._timeout_s = timeout_s
        self._total_s = total_timeout_s if total_timeout_s is not None else 10 * timeout_s
        self._max_body = max_body_bytes
        self._clock = clock
        self._boundary = Boundary(base_origin, allow_http=allow_http)
        self._dialer = Dialer(timeout_s=timeout_s, proxy=proxy, ca_file=ca_file)
        self._pool = Pool(connections)

    def __call__(self, request: Request) -> Response:
        """One attempt. Redirects of a GET or HEAD are followed within the origin; a download's beyond it, too."""
        deadline = time.monotonic() + self._total_s
        url = request.full_url
        origin = self._boundary.origin(request, url, before=self._boundary.base)
        for _ in range(MAX_REDIRECTS + 1):
            response = self._attempt(request, url, origin, deadline)
            location = response.header("location")
            if response.status not in _REDIRECTS or location is None:
                return response
            if request.is_write or request.method not in ("GET", "HEAD"):
                return response
            before, url = url, absolute(url, location, request)
            origin = self._boundary.origin(request, url, before=before)
        raise BoundExceededError(
            f"{host_of(url)} redirects more than {MAX_REDIRECTS} times ({shown(request)}). "
            "Correct base_url if it is not where the provider answers; else the provider must mend its redirects."
        )

    def close(self) -> None:
        """Close every connection; requests under way in other threads fail at once with StoppedError."""
        self._pool.close()

    # --- one exchange -------------------------------------------------------------------------------------------

    def _attempt(self, request: Request, url: str, origin: str, deadline: float) -> Response:
        reads = request.method in ("GET", "HEAD") and not request.is_write
        try:
            wire = self._pool.take(origin, IDLE_S if reads else IDLE_WRITE_S, deadline)
        except PenstockError as error:
            error.sent = False
            raise
        whole = False
        try:
            wire.deadline = deadline
            wire.sent = False
            if wire.connection is None:
                self._connect(wire, url, request)
            wire.send(request, url, self._headers(request, origin))
            reply = wire.receive()
            received_at = self._clock.now()
            try:
                body, whole = read_body(reply, request.method, self._max_body)
            finally:
                reply.close()
            headers = tuple((name.lower(), value) for name, value in reply.headers.items())
            body = decompressed(body, reply.headers.get("content-encoding", ""), self._max_body)
            if not whole:
                self._stopped()  # a body that ends with its connection looks whole when we cut it ourselves
            measured = any(name in _MEASURES and value.lower() != "identity" for name, value in headers)
            return Response(status=reply.status, headers=headers, body=body, received_at=received_at, measured=measured)
        except PenstockError as error:
            error.sent = wire.sent
            raise
        except Exception as error:
            # urllib3's and the socket's texts may hold the URL, so they are neither shown nor chained.
            failed = self._stopping() or self._explained(error, url, request)
            failed.sent = wire.sent
            raise failed from None
        finally:
            self._pool.give(wire, whole)

    def _stopped(self) -> None:
        if stopping := self._stopping():
            raise stopping

    def _stopping(self) -> PenstockError | None:
        if self._pool.closed or self._clock.stop.is_set():
            return StoppedError("stopped while a request was under way; the next run asks again")
        return None

    def _headers(self, request: Request, origin: str) -> list[tuple[str, str]]:
        wanted = {name.lower(): (name, value) for name, value in request.headers if name.lower() not in _WRITTEN_HERE}
        if origin != self._boundary.base:
            wanted = {name: pair for name, pair in wanted.items() if name in _CARRIED}
        default = {
            "user-agent": ("User-Agent", f"penstock/{__version__}"),
            "accept": ("Accept", "application/json, */*;q=0.8"),
            "accept-encoding": ("Accept-Encoding", "gzip"),
        }
        if request.body is not None or request.method in ("POST", "PUT", "PATCH"):
            wanted["content-length"] = ("Content-Length", str(len(request.body or b"")))
        return list((default | wanted).values())

    def _connect(self, wire: Wire, url: str, request: Request) -> None:
        direct = self._dialer.connect(wire, url)
        self._stopped()
        if direct:
            self._boundary.check_peer(wire.origin, wire.peer(), request)

    def _explained(self, error: Exception, url: str, request: Request) -> PenstockError:
        return explained(error, url, request, timeout_s=self._timeout_s, total_s=self._total_s, max_body=self._max_body)
