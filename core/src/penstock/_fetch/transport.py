"""
The network: one attempt of one request over urllib3, whole or with an error that names the reason.

urllib3 handles connections, TLS, proxies and the framing of bodies. This module adds a deadline over the whole attempt
(a watch thread shuts the socket of an attempt that is out of time or stopped), bounds on the size of a body as sent and
decompressed, the detection of bytes behind a body, and the origin rule (:class:`penstock._fetch.origin.Boundary`).
urllib3's retries and redirects are off. Its re-encoding of URLs is undone, since a signature covers the URL byte for
byte (``_ReportingConnection.putrequest``).
"""

import contextlib
import gzip
import http.client
import importlib.util
import io
import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from attrs import define, field
from urllib3 import exceptions as failures
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import make_headers, parse_url

from penstock import __version__
from penstock._fetch.origin import Boundary, absolute, brief, check_parameters, host_of, sendable, split
from penstock._util.clock import Clock
from penstock._util.spool import Spool
from penstock.errors import (
    BoundExceededError,
    ConfigError,
    PenstockError,
    StoppedError,
    TransportError,
    UntrustedError,
)
from penstock.model import Request, Response, is_loopback
from penstock.redact import Secret, mask

MAX_REDIRECTS = 5
CONNECT_S = 10.0  # at most: a connection attempt cannot be interrupted, and a stop must not take longer than this
IDLE_S = 50.0  # an idle connection is used again within this time (servers often close it after 60 s) ...
IDLE_WRITE_S = 4.0  # ... and within this for requests that must not be sent twice (some servers close after 5 s)
WATCH_S = 0.1  # maximum delay until a deadline takes effect

BLOCK = 1 << 15  # bytes per read where the length is unknown; http.client holds a list of the chunks of one read
SPOOL_BYTES = 8 << 20  # a larger body of a report is put into a temporary file
FILE_START = 1 << 17  # of such a body, what is kept in memory, for messages

_ONCE = urllib3.Retry(False, redirect=False)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SOCKS = frozenset({"socks4", "socks4a", "socks5", "socks5h"})
_WITHOUT_BODY = frozenset({204, 304})
_MEASURES = frozenset({"content-length", "transfer-encoding", "content-encoding"})  # each states where a body ends
_WRITTEN_HERE = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_CARRIED = frozenset({"accept", "accept-language", "content-type", "range"})  # headers that may leave the origin


@define(eq=False, repr=False, kw_only=True)
class Transport:
    """
    An exchange over HTTP/1.1 with keep-alive: request in, whole response out. Safe to call from several threads.

    Credentials may go to ``base_origin`` (:func:`penstock.model.origin_of` of the source's ``base_url``) and to
    ``origins``.
    ``total_timeout_s`` bounds one attempt from the first packet to the last, redirects included; None: ten times
    ``timeout_s``, which bounds the wait for a connection and for each next byte. ``proxy`` is a URL; None:
    ``HTTPS_PROXY`` and the like, except for ``NO_PROXY`` and this machine. ``ca_file``: None: ``SSL_CERT_FILE`` or
    ``REQUESTS_CA_BUNDLE``, else the system's. At most ``connections`` are open to each host.

    A call raises TransportError (worth another try), UntrustedError, BoundExceededError, ForeignOriginError, or
    StoppedError after :meth:`close` or once the clock was stopped. Any status is a response: the judge decides on it.
    """

    timeout_s: float
    max_body_bytes: int
    max_file_bytes: int = field()  # of a report
    connections: int
    proxy: str | None
    ca_file: str | None
    allow_http: bool
    base_origin: str
    origins: Iterable[str] = ()
    clock: Clock
    total_timeout_s: float = field()
    _proxies: dict[str, str] = field(init=False)
    _boundary: Boundary = field(init=False)
    _pools: dict[tuple[str, str | None], urllib3.PoolManager] = field(factory=dict, init=False)
    _attempts: set["_Attempt"] = field(factory=set, init=False)
    _own_pool: urllib3.HTTPConnectionPool | None = field(default=None, init=False)  # of ``base_origin``
    _timeout: urllib3.Timeout = field(init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _closed: threading.Event = field(factory=threading.Event, init=False)
    _watch: threading.Thread | None = field(default=None, init=False)

    @max_file_bytes.default
    def _as_any_body(self) -> int:
        return self.max_body_bytes

    @total_timeout_s.default
    def _ten_times_as_long(self) -> float:
        return 10 * self.timeout_s

    @_timeout.default
    def _of_connections(self) -> urllib3.Timeout:
        return urllib3.Timeout(connect=self._connect_s, read=self.timeout_s)

    def __attrs_post_init__(self) -> None:
        self._boundary = Boundary(self.base_origin, allow_http=self.allow_http, further=self.origins)
        self._proxies = {} if self.proxy else getproxies()
        for url in (self.proxy, *self._proxies.values()):
            _mask_password(url)

    @property
    def _connect_s(self) -> float:
        return min(self.timeout_s, CONNECT_S)

    def __call__(self, request: Request) -> Response:
        """One attempt. Redirects of a GET or HEAD are followed within the origin; a download's beyond it, too."""
        deadline = time.monotonic() + self.total_timeout_s
        url = sendable(request.full_url)
        origin = self._boundary.origin(request, url, before=self._boundary.base)
        for _ in range(MAX_REDIRECTS + 1):
            response = self._attempt(request, url, origin, deadline)
            location = response.header("location")
            if response.status not in _REDIRECTS or location is None:
                return response
            if request.is_write or request.method not in ("GET", "HEAD"):
                return response
            before, url = url, sendable(absolute(url, location, request))
            origin = self._boundary.origin(request, url, before=before)
            check_parameters(before, url, request)
        raise BoundExceededError(
            f"{host_of(url)} redirects more than {MAX_REDIRECTS} times ({brief(request)}). "
            "Correct base_url if it is not where the provider answers; else the provider must mend its redirects."
        )

    def close(self) -> None:
        """Close every connection; requests under way in other threads fail at once with StoppedError."""
        self._closed.set()
        with self._lock:
            under_way, pools = list(self._attempts), list(self._pools.values())
            self._own_pool = None
        for attempt in under_way:
            attempt.cut()
        for pool in pools:
            pool.clear()

    # --- one exchange -------------------------------------------------------------------------------------------

    def _attempt(self, request: Request, url: str, origin: str, deadline: float) -> Response:
        attempt = _current.attempt = _Attempt(deadline, split(url))
        attempt.max_idle_s = IDLE_S if request.method in ("GET", "HEAD") and not request.is_write else IDLE_WRITE_S
        reply = None
        try:
            if stopping := self._stopping():
                raise stopping
            if origin not in self._boundary.trusted:
                attempt.check_peer = lambda peer: self._boundary.check_peer(origin, peer, request)
            headers = self._headers(request, origin)
            opener, address = self._opener(url, origin, attempt)
            self._keep_time_of(attempt)
            reply = opener.urlopen(
                request.method,
                address,
                body=request.body,
                headers=headers,
                redirect=False,
                assert_same_host=False,
                retries=_ONCE,
                preload_content=False,
                decode_content=False,
                pool_timeout=max(0.01, deadline - time.monotonic()),
                timeout=self._timeout,
            )
            return self._response(reply, request, attempt)
        except Exception as error:
            if reply is not None:
                reply.close()
                reply.release_conn()  # else its place in the pool stays taken
            # The texts of urllib3 and of sockets may hold the URL: they are neither shown nor chained.
            known = error if isinstance(error, PenstockError) else self._explained(error, attempt, url, request)
            known.sent = attempt.sent
            raise known from None
        finally:
            with self._lock:
                self._attempts.discard(attempt)

    def _response(self, reply: urllib3.BaseHTTPResponse, request: Request, attempt: "_Attempt") -> Response:
        received_at = self.clock.now()
        coding = reply.headers.get("transfer-encoding")
        if coding is not None and coding.strip().lower() != "chunked":
            raise _NotWholeError("sends its body in a transfer coding that HTTP/1.1 clients need not know")
        if coding is None and "content-length" in reply.headers and reply.length_remaining is None:
            raise _NotWholeError("states a length of its body that is no number")
        bound = Bound(self.max_file_bytes if request.as_file else self.max_body_bytes, request.as_file)
        body = self._body(reply, bound)
        size = len(body) if isinstance(body, bytes) else body.size
        if attempt.ends_early:
            raise _NotWholeError(f"cut its response after {size:,} bytes, before its end")
        if attempt.surplus and request.method != "HEAD" and reply.status not in _WITHOUT_BODY:
            raise _NotWholeError(f"sent more than the {size:,} bytes that its headers promise")
        headers = tuple((name.lower(), value) for name, value in reply.headers.items())
        measured = any(name in _MEASURES and value.lower() != "identity" for name, value in headers)
        if attempt.was_cut and not measured:  # a body that ends with its connection looks whole
            raise TimeoutError
        plain = decompressed(body, reply.headers.get("content-encoding", ""), bound)
        reply.release_conn()
        kept, file = (plain, None) if isinstance(plain, bytes) else (plain.open().read(FILE_START), plain)
        return Response(
            status=reply.status, headers=headers, body=kept, file=file, received_at=received_at, measured=measured
        )

    def _body(self, reply: urllib3.BaseHTTPResponse, bound: "Bound") -> bytes | Spool:
        length = reply.length_remaining
        if length is not None and length > bound.most:
            raise _TooLargeError(bound)
        if length is not None and (length <= SPOOL_BYTES or not bound.as_file):
            return reply.read()  # one call, into one buffer of that size
        return _collected(iter(partial(reply.read, BLOCK), b""), bound)

    def _headers(self, request: Request, origin: str) -> dict[str, str]:
        headers = {
            "user-agent": ("User-Agent", f"penstock/{__version__}"),
            "accept": ("Accept", "application/json, */*;q=0.8"),
            "accept-encoding": ("Accept-Encoding", "gzip"),
        }
        for name, value in request.headers:
            if name.lower() in _WRITTEN_HERE or (origin not in self._boundary.trusted and name.lower() not in _CARRIED):
                continue
            if "\n" in value or "\r" in value or any(ord(letter) > 255 for letter in value):
                raise ConfigError(
                    f"{brief(request)} cannot be sent: {name} holds characters that HTTP does not allow in a header; "
                    "check the credentials in the configuration for line breaks and typographic signs."
                )
            headers[name.lower()] = (name, value)
        return dict(headers.values())

    def _stopping(self) -> PenstockError | None:
        if self._closed.is_set() or self.clock.stop.is_set():
            return StoppedError("stopped while a request was under way; the next run repeats it")
        return None

    # --- connections --------------------------------------------------------------------------------------------

    def _opener(self, url: str, origin: str, attempt: "_Attempt") -> tuple[Any, str]:
        """
        What opens ``url``, and the address to open there: the connections to the source's own origin, which take the
        target alone; for another origin, and through a proxy, a manager, which parses the URL and looks for some.
        """
        if (own := self._own_pool) is not None and origin == self._boundary.base:
            return own, attempt.target
        manager = self._manager(url)
        if origin == self._boundary.base and manager.proxy is None:
            self._own_pool = manager.connection_from_url(url)
        return manager, url

    def _manager(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = self._proxy_for(parts.scheme, parts.hostname or "")
        with self._lock:
            pool = self._pools.get((parts.scheme, proxy))
            if pool is None:
                pool = self._pools[parts.scheme, proxy] = self._new_pool(parts.scheme, proxy)
            return pool

    def _new_pool(self, scheme: str, proxy: str | None) -> urllib3.PoolManager:
        options: dict[str, Any] = {"maxsize": self.connections, "block": True}
        if scheme == "https":
            options["ssl_context"] = self._tls()
        if proxy is None:
            pool = urllib3.PoolManager(**options)
            pool.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
            return pool
        at = parse_url(proxy)
        if at.scheme not in ("http", "https"):
            return _socks_pool(proxy, options)
        if at.scheme == "https":
            options["proxy_ssl_context"] = self._tls()
        login = make_headers(proxy_basic_auth=unquote(at.auth)) if at.auth else {}
        pool = urllib3.ProxyManager(proxy, proxy_headers=login, **options)
        pool.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return pool

    def _proxy_for(self, scheme: str, host: str) -> str | None:
        proxy = self.proxy
        if proxy is None and self._proxies and not is_loopback(host):
            proxy = self._proxies.get(scheme) or self._proxies.get("all")
            if proxy and proxy_bypass(host):
                proxy = None
        return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None

    def _tls(self) -> ssl.SSLContext:
        path = self.ca_file or os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or None
        try:
            folder = path is not None and Path(path).is_dir()
            context = ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the CA bundle {path} cannot be read ({error.strerror or 'no certificate in it'}). "
                "Correct ca_file, or SSL_CERT_FILE or REQUESTS_CA_BUNDLE in the environment."
            ) from None
        context.set_alpn_protocols(["http/1.1"])
        return context

    # --- time ---------------------------------------------------------------------------------------------------

    def _keep_time_of(self, attempt: "_Attempt") -> None:
        with self._lock:
            self._attempts.add(attempt)
            if self._watch is None:
                self._watch = threading.Thread(target=self._keep_time, name="deadlines", daemon=True)
                self._watch.start()

    def _keep_time(self) -> None:
        """Shut the sockets of attempts whose time is over: a socket's own timeout starts anew with every byte."""
        while not self._closed.wait(WATCH_S):
            now = time.monotonic()
            with self._lock:
                late = [attempt for attempt in self._attempts if now >= attempt.deadline]
            for attempt in late:
                attempt.overdue = True
                attempt.cut()

    # --- errors -------------------------------------------------------------------------------------------------

    def _explained(self, error: Exception, attempt: "_Attempt", url: str, request: Request) -> PenstockError:
        """The error of an attempt, with a message of ours. Raises an exception that is no network error."""
        host = host_of(url)
        if stopping := self._stopping():
            return stopping
        if attempt.overdue:
            times = self.total_timeout_s / self.timeout_s
            return BoundExceededError(
                f"{host} had not finished its response after {self.total_timeout_s:g} s ({brief(request)}). If it is "
                f"that slow, raise timeout_s (an attempt may take {times:g} times as long), or request fewer days at "
                "once."
            )
        if isinstance(error, _TooLargeError):
            return BoundExceededError(
                f"{host} sends more than {error.bound.most / (1 << 20):g} MiB{error.form} ({brief(request)}). If that "
                f"is right, raise {'max_report_mib' if error.bound.as_file else 'max_body_mib'} or request fewer days "
                "at once."
            )
        if isinstance(error, failures.SSLError):
            cause = error.args[0] if error.args else None
            if isinstance(cause, ssl.SSLCertVerificationError):
                return UntrustedError(
                    f"{host} showed a certificate that is not trusted ({cause.verify_message}; {brief(request)}). If a "
                    "proxy of your organisation sits in between, name its CA in ca_file."
                )
        return TransportError(f"{host} {self._reason(error)} ({brief(request)}).")

    def _reason(self, error: Exception) -> str:
        """The reason of a failure, as the text that follows the host's name."""
        if isinstance(error, failures.ProxyError):
            seen = str(error.original_error)
            if isinstance(error.original_error, failures.NewConnectionError):
                seen = seen.partition("): ")[2] or seen  # without the name of a class
            return f"cannot be reached through the proxy ({mask(seen)}); check proxy and its credentials"
        key = "base_url (or the key that names this host)"
        check = f"check {key}, proxy and this host's network"
        while isinstance(error, (failures.ProtocolError, failures.SSLError)):
            inner = next((arg for arg in error.args if isinstance(arg, Exception)), None)
            if inner is None:
                break
            error = inner
        match error:
            case _NotWholeError():
                return str(error)
            case failures.NameResolutionError():
                return f"is not known to the name service; {check}"
            case failures.NewConnectionError():  # before its base class: a refusal is no time-out
                cause = error.__cause__
                detail = f" ({cause.strerror})" if isinstance(cause, OSError) and cause.strerror else ""
                return f"could not be connected to{detail}; {check}"
            case failures.ConnectTimeoutError():
                return f"did not take a connection within {self._connect_s:g} s; {check}"
            case failures.ReadTimeoutError() | TimeoutError():
                return f"sent nothing for {self.timeout_s:g} s (timeout_s)"
            case failures.EmptyPoolError():
                return "was not requested, since no connection became free; lower concurrency"
            case failures.InvalidHeader():
                return "contradicts itself about the length of its body"
            case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
                return f"answers without TLS at this port; check scheme and port of {key}"
            case ssl.SSLError():
                return f"broke the TLS connection ({error.reason or 'no reason given'})"
            case http.client.RemoteDisconnected():
                return "closed the connection without a response"
            case failures.IncompleteRead() if error.expected is not None:
                got = int(error.partial)
                return f"cut its response after {got:,} of {got + error.expected:,} bytes"
            case http.client.IncompleteRead() if error.expected is not None:
                got = len(error.partial)
                return f"cut its response after {got:,} of {got + error.expected:,} bytes"
            case http.client.IncompleteRead():
                return "cut its response inside a chunk or between two chunks"
            case ConnectionError():
                return f"broke the connection ({error.strerror or 'reset'})"
            case http.client.HTTPException() | ValueError():  # ValueError: http.client on a chunk of negative length
                return f"answered with something that is not HTTP ({type(error).__name__})"
            case OSError():
                return f"could not be reached ({error.strerror or type(error).__name__})"
            case failures.HTTPError():
                return f"could not be requested ({type(error).__name__}); check base_url and proxy"
        raise error


# --- extensions of urllib3 ------------------------------------------------------------------------------------------


class Bound(NamedTuple):
    """The most bytes of a body. ``as_file``: of a report, which may be put into a file."""

    most: int
    as_file: bool = False


class _TooLargeError(Exception):
    """The body is larger than its bound; ``form``: in which form, if not as sent."""

    def __init__(self, bound: Bound, form: str = "") -> None:
        self.bound, self.form = bound, form
        super().__init__(f"more than {bound.most} bytes{form}")


class _NotWholeError(Exception):
    """The response is not whole, or contradicts its headers; the text continues "HOST ..."."""


class _Attempt:
    """One attempt, in one thread: its deadline, its connection, and its observations."""

    def __init__(self, deadline: float, address: tuple[str, str]) -> None:
        self.deadline = deadline
        self.authority, self.target = address
        self.max_idle_s = IDLE_S
        self.connection: _ReportingConnection | None = None
        self.socket: Any = None  # also when urllib3 let go of it, since the response has "Connection: close"
        self.check_peer: Any = None
        self.sent = False  # some of the request may have left
        self.overdue = False
        self.was_cut = False  # by us
        self.ends_early = False  # the connection ended where a line was due
        self.surplus = False  # bytes lay behind the body

    def cut(self) -> None:
        """Make the thread that waits on this attempt's socket wake up."""
        self.was_cut = True
        current = (self.connection.sock if self.connection is not None else None) or self.socket
        if isinstance(current, socket.socket):  # TLS inside TLS is not one; it ends with its timeout
            with contextlib.suppress(OSError):
                # Not the method of an SSL socket: it would first let go of the TLS state that the other thread uses.
                socket.socket.shutdown(current, socket.SHUT_RDWR)


class _Current(threading.local):
    attempt: _Attempt


_current = _Current()


class _Body(io.BufferedReader):
    """The receiving side of a socket. It detects a connection that ends inside the head, and bytes behind the body."""

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        super().__init__(raw, 1 << 16)
        self._socket = sock
        self._attempt = _current.attempt  # the body may be closed by another thread
        self.of_response = False  # not of a proxy's response to CONNECT: what follows that is not its surplus

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n"):
            self._attempt.ends_early = True
        return line

    def close(self) -> None:
        if not self.closed and self.of_response:
            surplus = self._attempt.surplus = self._has_surplus()
            if self._attempt.connection is not None:
                self._attempt.connection.idle_since = -1e9 if surplus else time.monotonic()
        super().close()

    def _has_surplus(self) -> bool:
        """Whether bytes behind the body have arrived already."""
        timeout = self._socket.gettimeout()
        try:
            self._socket.settimeout(0)
            return bool(self.peek(1))
        except OSError:  # nothing more on TLS, or a connection reset behind the body: the body is whole
            return False
        finally:
            with contextlib.suppress(OSError):
                self._socket.settimeout(timeout)


class _Reply(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp: Any = _Body(self.fp.detach(), sock)

    def begin(self) -> None:
        super().begin()
        if _current.attempt.ends_early:  # http.client takes what came for all headers there are
            raise _NotWholeError("cut its response inside the headers")
        if self.fp is not None:
            self.fp.of_response = True


class _ReportingConnection(HTTPConnection):
    """A connection that reports to its attempt, and sends the URL unchanged."""

    idle_since = 0.0
    response_class = _Reply

    def connect(self) -> None:
        attempt = _current.attempt
        attempt.connection = self
        super().connect()
        attempt.socket = self.sock
        if attempt.check_peer is not None and self.proxy is None and self.sock is not None:
            attempt.check_peer(str(self.sock.getpeername()[0]))

    @property
    def is_connected(self) -> bool:
        """Whether it may be reused: open, without pending bytes, and idle for less than servers usually allow."""
        return super().is_connected and time.monotonic() - self.idle_since <= _current.attempt.max_idle_s

    def putrequest(self, method: str, url: str, *args: Any, **more: Any) -> None:
        # urllib3 normalises the URL after it was signed; a signature covers it byte for byte.
        attempt = _current.attempt
        absolute_form = not url.startswith("/")  # through a forwarding proxy
        target = f"http://{attempt.authority}{attempt.target}" if absolute_form else attempt.target
        super().putrequest(method, target, *args, **more)

    def endheaders(self, *args: Any, **more: Any) -> None:
        attempt = _current.attempt
        if self.sock is None:
            self.connect()
        attempt.connection, attempt.socket = self, self.sock
        attempt.sent = True
        super().endheaders(*args, **more)


class _ReportingTlsConnection(_ReportingConnection, HTTPSConnection):
    pass


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _ReportingConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _ReportingTlsConnection


def _socks_pool(proxy: str, options: dict[str, Any]) -> urllib3.PoolManager:
    """Connections through a SOCKS proxy; ConfigError without the library for it."""
    scheme = urlsplit(proxy).scheme
    if scheme not in _SOCKS:
        raise ConfigError(
            f"the proxy is a {scheme} proxy; only http, https and SOCKS proxies are known. Correct proxy, or "
            "HTTPS_PROXY in the environment."
        )
    if importlib.util.find_spec("socks") is None:
        raise ConfigError(
            f"the proxy is a {scheme} proxy, which needs the library PySocks, and that is not installed: "
            "pip install 'penstock-core[socks]', or set proxy to an http or https proxy."
        )
    socks = importlib.import_module("urllib3.contrib.socks")  # warns and fails where PySocks is missing
    manager = socks.SOCKSProxyManager(proxy, **options)
    plain = type("SocksConnection", (_ReportingConnection, socks.SOCKSConnection), {})
    secure = type("SocksTlsConnection", (_ReportingConnection, socks.SOCKSHTTPSConnection), {})
    manager.pool_classes_by_scheme = {
        "http": type("SocksPool", (socks.SOCKSHTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SocksTlsPool", (socks.SOCKSHTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
    return manager  # type: ignore[no-any-return]


def _mask_password(proxy: str | None) -> None:
    """Register a proxy's password as a secret."""
    password = urlsplit(proxy if "://" in proxy else f"//{proxy}").password if proxy else None
    if password:
        Secret(password)
        Secret(unquote(password))


def _collected(parts: Iterable[bytes], bound: Bound, form: str = "") -> bytes | Spool:
    """The parts together: in memory, or of a large report in a temporary file."""
    collected: io.BytesIO | Spool = Spool() if bound.as_file else io.BytesIO()
    size = 0
    for part in parts:
        size += len(part)
        if size > bound.most:
            raise _TooLargeError(bound, form)
        collected.write(part)
    if isinstance(collected, Spool):
        return collected if size > SPOOL_BYTES else collected.open().read()
    return collected.getvalue()


def decompressed(body: bytes | Spool, coding: str, bound: Bound) -> bytes | Spool:
    """The body without its content coding."""
    coding = coding.strip().lower()
    if not body or coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip"):
        raise _NotWholeError("compresses its response in a way that the request did not allow")
    try:
        with gzip.open(io.BytesIO(body) if isinstance(body, bytes) else body.open()) as packed:
            return _collected(iter(partial(packed.read, BLOCK), b""), bound, " when decompressed")
    except EOFError:
        raise _NotWholeError("cut its gzip body") from None
    except (gzip.BadGzipFile, zlib.error):
        raise _NotWholeError("sent a gzip body that is damaged") from None
