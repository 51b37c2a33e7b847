"""
The network: one attempt of one request, whole or with an error that says why.

Connections are the standard library's; through a proxy they are urllib3's, which knows TLS inside TLS (and takes 15 ms
to import). Its pool, retries, redirects and body reading are not used: a URL must leave byte for byte (the pool
re-encodes it, which breaks signatures), a bound on time must hold for a slow drip too, also of headers, and a body must
be known to be whole. This is the only module that imports urllib3.

What is bounded: the wait for the next byte and for a connection (``timeout_s``), the whole attempt, redirects
included (``total_timeout_s``), the body as sent and decompressed (``max_body_bytes``). What is refused before
anything is sent: credentials for another origin than the source's, https turning into http, plain http beyond this
machine unless allowed, private addresses for a source that is not private itself.
"""

import contextlib
import io
import ipaddress
import os
import re
import select
import socket
import sys
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from penstock import __version__
from penstock.clock import Clock
from penstock.errors import (
    BoundExceededError,
    ConfigError,
    ForeignOriginError,
    PenstockError,
    StoppedError,
    TransportError,
)
from penstock.model import Request, Response, is_loopback, origin_of
from penstock.redact import Secret, mask

if TYPE_CHECKING:
    import http.client
    import ssl

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_REDIRECTS = 5
CONNECT_S = 10.0  # at most: a connection under way cannot be interrupted, and a stop must not take longer than this
BLOCK = 1 << 20  # bytes per step where the length is not known beforehand
GZIP_BLOCK = 1 << 16  # larger ones are slower: 16 ms instead of 9 for a body that becomes 7 MB
IDLE_S = 50.0  # an idle connection is used again within this time (servers close it after 60 s, often) ...
IDLE_WRITE_S = 4.0  # ... and for what must not be sent twice within this (some close after 5 s)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WRITTEN_HERE = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_CARRIED = frozenset({"accept", "accept-language", "content-type", "range"})  # headers that may leave the origin
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


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
        self._allow_http = allow_http
        self._base = origin_of(base_origin)
        # How nearly every address begins: nothing can stand between this and its path that would lead elsewhere.
        self._own = f"{self._base.removesuffix(':443' if self._base.startswith('https') else ':80')}/"
        self._clock = clock
        self._proxy = proxy
        self._environment_proxies = {} if proxy else _environment_proxies()
        self._ca_file = ca_file
        self._pool = _Pool(connections)
        self._context: ssl.SSLContext | None = None
        self._base_is_private: bool | None = None
        for url in (proxy, *self._environment_proxies.values()):
            _know_password(url)
        if self._base.startswith("http://") and not allow_http and not is_loopback(_host(self._base)):
            raise ConfigError(
                f"base_url is plain http on {_host(self._base)}: credentials and data would travel readable. "
                "Write https, or set allow_http = true for a host you reach over a network you trust."
            )

    def __call__(self, request: Request) -> Response:
        """One attempt. Redirects of a GET or HEAD are followed within the origin; a download's beyond it, too."""
        deadline = time.monotonic() + self._total_s
        url = request.full_url
        origin = self._checked(request, url, before=self._base)
        for _ in range(MAX_REDIRECTS + 1):
            response = self._attempt(request, url, origin, deadline)
            location = response.header("location")
            if response.status not in _REDIRECTS or location is None:
                return response
            if request.once or request.method not in ("GET", "HEAD"):
                return response
            before, url = url, _absolute(url, location, request)
            origin = self._checked(request, url, before=before)
        raise BoundExceededError(
            f"{_host(url)} redirects more than {MAX_REDIRECTS} times ({_shown(request)}). "
            "Correct base_url if it is not where the provider answers; else the provider must mend its redirects."
        )

    def close(self) -> None:
        """Close every connection; requests under way in other threads fail at once with StoppedError."""
        self._pool.close()

    # --- where a request may go ---------------------------------------------------------------------------------

    def _checked(self, request: Request, url: str, *, before: str) -> str:
        """The origin of ``url``; ForeignOriginError where it must not be asked. ``before`` is what led there."""
        if url.startswith(self._own):
            return self._base
        try:
            origin, host = origin_of(url), _host(url)
        except ValueError:
            origin, host = "", ""
        scheme = origin.partition(":")[0]
        if scheme not in ("http", "https") or not host:
            raise ForeignOriginError(f"{_host(before)} names an address that is no http(s) URL ({_shown(request)}).")
        if origin == self._base:
            return origin
        if request.credentials:
            raise ForeignOriginError(
                f"{_shown(request)} leads to {origin}, but credentials go to {self._base} only: nothing was sent "
                "there. If the provider moved, set base_url to its new address."
            )
        if scheme == "http" and "https" in (urlsplit(before).scheme, urlsplit(self._base).scheme):
            raise ForeignOriginError(
                f"a download leads from https to plain {origin} ({_shown(request)}); it is not followed."
            )
        if scheme == "http" and not self._allow_http and not is_loopback(host):
            raise ForeignOriginError(
                f"a download leads to plain {origin} ({_shown(request)}); set allow_http = true to follow it."
            )
        if not self._private_allowed() and any(not _is_public(address) for address in _addresses(host)):
            raise _private(host, request)
        return origin

    def _private_allowed(self) -> bool:
        """Whether the source itself is on a private network: then its downloads may be, too."""
        if self._base_is_private is None:
            self._base_is_private = any(not _is_public(address) for address in _addresses(_host(self._base)))
        return self._base_is_private

    # --- one exchange -------------------------------------------------------------------------------------------

    def _attempt(self, request: Request, url: str, origin: str, deadline: float) -> Response:
        reads = request.method in ("GET", "HEAD") and not request.once
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
                body, whole = _read(reply, request.method, self._max_body)
            finally:
                reply.close()
            headers = tuple((name.lower(), value) for name, value in reply.headers.items())
            body = _decompressed(body, reply.headers.get("content-encoding", ""), self._max_body)
            if not whole:
                self._stopped()  # a body that ends with its connection looks whole when we cut it ourselves
            return Response(status=reply.status, headers=headers, body=body, received_at=received_at)
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
        if origin != self._base:
            wanted = {name: pair for name, pair in wanted.items() if name in _CARRIED}
        default = {
            "user-agent": ("User-Agent", f"penstock/{__version__}"),
            "accept": ("Accept", "application/json, */*;q=0.8"),
            "accept-encoding": ("Accept-Encoding", "gzip"),
        }
        if request.body is not None or request.method in ("POST", "PUT", "PATCH"):
            wanted["content-length"] = ("Content-Length", str(len(request.body or b"")))
        return list((default | wanted).values())

    def _connect(self, wire: "_Wire", url: str, request: Request) -> None:
        import http.client

        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        timeout_s = min(self._timeout_s, CONNECT_S)
        proxy = self._proxy_for(parts.scheme, host)
        if proxy is not None:
            self._through(proxy, wire, secure, host, port)
        else:
            direct: Any = (
                http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._tls())
                if secure
                else http.client.HTTPConnection(host, port, timeout=timeout_s)
            )
            if host.isascii():  # as bytes, since for any text Python reads the tables of international names (3 ms)
                direct.host = host.encode()
            wire.connection = direct
        wire.open(self._timeout_s, direct=proxy is None)
        self._stopped()
        if proxy is None and wire.origin != self._base and not self._private_allowed():
            peer = _address(wire.peer())  # the name may mean another address now than when it was checked
            if not _is_public(peer):
                raise _private(host, request)

    def _through(self, proxy: str, wire: "_Wire", secure: bool, host: str, port: int) -> None:
        """Prepare a connection by way of a proxy: a tunnel for https, else a forwarder."""
        from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
        from urllib3.util import make_headers, parse_url

        at = parse_url(proxy)
        login = make_headers(proxy_basic_auth=unquote(at.auth)) if at.auth else {}
        via: dict[str, Any] = {
            "host": at.host,
            "port": at.port or (443 if at.scheme == "https" else 80),
            "proxy": at,
            "proxy_config": ProxyConfig(self._tls() if at.scheme == "https" else None, False, None, None),
            "timeout": min(self._timeout_s, CONNECT_S),
        }
        wire.connection = (
            HTTPSConnection(ssl_context=self._tls(), **via) if secure or at.scheme == "https" else HTTPConnection(**via)
        )
        if secure:
            wire.connection.set_tunnel(host, port, headers=login, scheme=at.scheme or "http")
        else:
            wire.proxy_headers = tuple(login.items())
            wire.absolute = True

    def _proxy_for(self, scheme: str, host: str) -> str | None:
        found = self._proxy
        if found is None and self._environment_proxies and not is_loopback(host):
            import urllib.request

            found = self._environment_proxies.get(scheme) or self._environment_proxies.get("all")
            if found and urllib.request.proxy_bypass(host):
                found = None
        if not found:
            return None
        found = found if "://" in found else f"http://{found}"
        if urlsplit(found).scheme not in ("http", "https"):
            raise ConfigError(
                f"the proxy for {host} is a {urlsplit(found).scheme} proxy; only http and https proxies are known. "
                "Set proxy to one, or take it out of the environment."
            )
        return found

    def _tls(self) -> "ssl.SSLContext":
        import ssl

        if self._context is None:
            path = self._ca_file or os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
            try:
                if path and os.path.isdir(path):  # noqa: PTH112  pathlib only for this would cost its import
                    self._context = ssl.create_default_context(capath=path)
                else:
                    self._context = ssl.create_default_context(cafile=path or None)
                self._context.set_alpn_protocols(["http/1.1"])
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"the CA bundle {path} cannot be read ({error.strerror or 'no certificate in it'}). "
                    "Correct ca_file, or SSL_CERT_FILE or REQUESTS_CA_BUNDLE in the environment."
                ) from None
        return self._context

    def _explained(self, error: Exception, url: str, request: Request) -> PenstockError:
        """The error of the wire in our words: who, what was seen, what to do next."""
        host, shown = _host(url), _shown(request)
        if isinstance(error, _OverdueError):
            return BoundExceededError(
                f"{host} had not finished its answer after {self._total_s:g} s ({shown}). If it is that slow, "
                f"raise timeout_s (an attempt may take {self._total_s / self._timeout_s:g} times as long), or ask for "
                "fewer days at once."
            )
        if isinstance(error, _TooLargeError):
            return BoundExceededError(
                f"{host} sends more than {self._max_body / (1 << 20):g} MiB{error} ({shown}). If that is right, raise "
                "max_body_mib or ask for fewer days at once."
            )
        if isinstance(error, _UnsendableError):
            return ConfigError(f"{shown} cannot be sent: {error}.")
        return TransportError(f"{host} {self._reason(error)} ({shown}).")

    def _reason(self, error: Exception) -> str:
        import http.client
        import ssl

        import urllib3.exceptions as of_urllib3

        if isinstance(error, _CutError):
            return str(error)
        if isinstance(error, of_urllib3.NameResolutionError):
            return _not_connected(socket.gaierror(), self._timeout_s)
        if isinstance(error, of_urllib3.NewConnectionError):  # before what it is a kind of: a refusal took no time
            return _not_connected(error.__cause__, self._timeout_s)
        if isinstance(error, of_urllib3.ConnectTimeoutError):
            return _not_connected(TimeoutError(), self._timeout_s)
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"showed a certificate that is not trusted ({error.verify_message}); if a proxy of your organisation "
                "sits in between, name its CA in ca_file"
            )
        if isinstance(error, ssl.SSLError):
            return f"broke the TLS connection ({error.reason or 'no reason given'})"
        if isinstance(error, TimeoutError):
            return f"sent nothing for {self._timeout_s:g} s (timeout_s)"
        if isinstance(error, http.client.RemoteDisconnected):
            return "closed the connection without an answer"
        if isinstance(error, ConnectionError):
            return f"broke the connection ({error.strerror or 'reset'})"
        if isinstance(error, http.client.HTTPException):
            return f"answered with something that is not HTTP ({type(error).__name__})"
        if isinstance(error, OSError) and "Tunnel" in str(error):
            return f"cannot be reached through the proxy ({mask(str(error))}); check proxy and its credentials"
        if isinstance(error, OSError):
            return f"could not be reached ({error.strerror or type(error).__name__})"
        if isinstance(error, (of_urllib3.HTTPError, UnicodeError)):
            return f"could not be asked ({type(error).__name__}); check base_url and proxy"
        raise error


# --- connections ----------------------------------------------------------------------------------------------------


class _OverdueError(Exception):
    """The attempt's time is used up."""


class _TooLargeError(Exception):
    """The body is larger than allowed; the text says in which form, if not as sent."""


class _CutError(Exception):
    """The answer is not whole, or not what its headers say; the text continues "HOST ..."."""


class _UnsendableError(Exception):
    """The request holds what HTTP has no room for."""


class _Wire:
    """One connection to one origin, and the time by which the attempt it now serves must have ended."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.connection: http.client.HTTPConnection | None = None
        self.deadline = 0.0
        self.timeout_s = 0.0
        self.idle_since = 0.0
        self.sent = False  # some of the request that it now carries may have left
        self.absolute = False  # through a forwarding proxy the target is the whole URL
        self.proxy_headers: tuple[tuple[str, str], ...] = ()
        self._socket: Any = None
        self._waiting = select.poll()
        self._waits: tuple[Any, float] | None = None  # a socket, and the timeout that it has

    def open(self, timeout_s: float, *, direct: bool) -> None:
        """Connect. ``direct``: the connection is the standard library's, whose errors do not say what failed."""
        assert self.connection is not None
        # A callable in place of the class: http.client only ever calls it, with the socket.
        self.connection.response_class = self._reply  # type: ignore[assignment]
        self.timeout_s = timeout_s
        try:
            self.connection.connect()
        except OSError as error:
            if direct and self.connection.sock is None:
                raise _CutError(_not_connected(error, timeout_s)) from None
            if isinstance(error, TimeoutError):  # after TCP: the handshake of TLS or of a proxy
                raise _CutError(f"did not complete a connection within {min(timeout_s, CONNECT_S):g} s") from None
            raise
        self._socket = self.connection.sock
        self._waiting.register(self._socket, select.POLLIN)

    def _reply(self, sock: Any, *args: Any, **more: Any) -> "http.client.HTTPResponse":
        import http.client

        return http.client.HTTPResponse(_Timed(self, sock), *args, **more)  # type: ignore[arg-type]

    def peer(self) -> str:
        return str(self._socket.getpeername()[0])

    def left(self) -> float:
        """Seconds until the next byte must have come."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise _OverdueError
        return min(left, self.timeout_s)

    def bound(self, sock: Any, seconds: float) -> None:
        """Set the socket's timeout, if it has another: each setting is a system call, and lets other threads run."""
        if (sock, seconds) != self._waits:
            sock.settimeout(seconds)
            self._waits = (sock, seconds)

    def readable(self) -> bool:
        """Whether something can be read at once: bytes, or the end of the connection."""
        return bool(self._waiting.poll(0))

    def send(self, request: Request, url: str, headers: list[tuple[str, str]]) -> None:
        connection = self.connection
        assert connection is not None
        authority, target = _split(url)
        self.bound(self._socket, self.left())
        try:
            connection.putrequest(
                request.method,
                f"http://{authority}{target}" if self.absolute else target,
                skip_host=True,
                skip_accept_encoding=True,
            )
            connection.putheader("Host", authority)
            for name, value in (*headers, *self.proxy_headers):
                connection.putheader(name, value)
        except ValueError:  # of its headers a value holds a line break or a letter beyond Latin-1
            name = next((name for name, value in headers if not _sendable(value)), "one of its headers")
            raise _UnsendableError(
                f"{name} holds characters that HTTP does not allow in a header; check the credentials in the "
                "configuration for line breaks and typographic signs"
            ) from None
        self.sent = True
        try:
            connection.endheaders(request.body or None)
        except BrokenPipeError:
            pass  # the server may have answered and closed before it read everything; that answer counts
        except TimeoutError:
            self.left()
            raise

    def receive(self) -> "http.client.HTTPResponse":
        """The answer up to its body."""
        import http.client

        assert self.connection is not None
        # Around urllib3's own method, which wraps the answer in what we do not use.
        return http.client.HTTPConnection.getresponse(self.connection)

    def alive(self) -> bool:
        """Whether it is open and silent: what can be read from an idle connection is its end, or a stray answer."""
        return self.connection is not None and self.connection.sock is not None and not self.readable()

    def kill(self) -> None:
        """Make whoever waits on this connection in another thread wake up."""
        if isinstance(self._socket, socket.socket):  # TLS inside TLS is not one; it ends with its timeout
            with contextlib.suppress(OSError):
                # Not the method of an SSL socket: it would first let go of the TLS state that the other thread uses.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()


class _Timed(io.RawIOBase):
    """
    The receiving side of a socket, each wait bounded by the connection's timeout and the attempt's deadline.

    A socket's own timeout starts anew with every byte, so that a drip of one byte a minute would never end.
    """

    def __init__(self, wire: _Wire, sock: Any) -> None:
        self._wire = wire
        self._socket = sock
        self._raw = sock.makefile("rb", buffering=0)
        self.waits = True

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, 1 << 16)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self.waits and not self._decrypted() and not self._wire.readable():
            return None
        self._wire.bound(self._socket, self._wire.left() if self.waits else 0)
        try:
            return self._raw.readinto(buffer)  # type: ignore[no-any-return]
        except TimeoutError:
            self._wire.left()  # says so if it was the deadline that ended the wait
            raise

    def _decrypted(self) -> bool:
        """Whether TLS has read more from the socket than it has handed on."""
        pending = getattr(self._socket, "pending", None)
        return pending is not None and pending() > 0

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Pool:
    """At most ``size`` connections, busy and idle ones together; the one idle for the shortest time is taken first."""

    def __init__(self, size: int) -> None:
        self._size = max(1, size)
        self._idle: list[_Wire] = []
        self._busy: set[_Wire] = set()
        self._changed = threading.Condition()
        self.closed = False

    def take(self, origin: str, max_idle_s: float, deadline: float) -> _Wire:
        """A connection to ``origin``, possibly not open yet. Waits while all are busy; give it back in any case."""
        with self._changed:
            while len(self._busy) >= self._size and not self.closed:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TransportError(f"no connection became free for {origin}; lower concurrency")
            if self.closed:
                raise StoppedError("stopped; the next run goes on from what was delivered")
            chosen = _Wire(origin)
            now = time.monotonic()
            for at in range(len(self._idle) - 1, -1, -1):
                if self._idle[at].origin == origin:
                    idle = self._idle.pop(at)
                    if now - idle.idle_since <= max_idle_s and idle.alive():
                        chosen = idle
                        break
                    idle.close()
            if chosen.connection is None and len(self._idle) + len(self._busy) >= self._size:
                self._idle.pop(0).close()
            self._busy.add(chosen)
            return chosen

    def give(self, wire: _Wire, reusable: bool) -> None:
        with self._changed:
            self._busy.discard(wire)
            keep = reusable and not self.closed
            if keep:
                wire.idle_since = time.monotonic()
                self._idle.append(wire)
            self._changed.notify()
        if not keep:
            wire.close()

    def close(self) -> None:
        with self._changed:
            self.closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
            self._changed.notify_all()
        for wire in idle:
            wire.close()
        for wire in busy:
            wire.kill()


# --- bodies ---------------------------------------------------------------------------------------------------------


def _read(reply: "http.client.HTTPResponse", method: str, limit: int) -> tuple[bytes, bool]:
    """The body as sent, and whether the connection may be used again. Raises unless it is whole."""
    codings = reply.headers.get_all("transfer-encoding") or []
    lengths = {length.strip() for value in reply.headers.get_all("content-length") or [] for length in value.split(",")}
    if method == "HEAD" or reply.status in (204, 304):
        return b"", not reply.will_close and not _more(reply.fp)
    if codings:
        if [coding.strip().lower() for coding in codings] != ["chunked"]:
            raise _CutError("sends its body in a transfer coding that HTTP/1.1 clients need not know")
        body = _read_chunks(reply.fp, limit)
    elif lengths:
        (stated, *others) = lengths
        if others or not (stated.isascii() and stated.isdigit()):
            raise _CutError("contradicts itself about the length of its body")
        length = int(stated)
        if length > limit:
            raise _TooLargeError
        # One call, into one buffer of that size: no copy, however large.
        body = reply.fp.read(length) if length else b""
        if len(body) < length:
            raise _CutError(f"cut its answer after {len(body):,} of {length:,} bytes")
    else:
        parts, size = [], 0
        while part := reply.fp.read(BLOCK):
            size += len(part)
            if size > limit:
                raise _TooLargeError
            parts.append(part)
        return b"".join(parts), False
    if _more(reply.fp):
        raise _CutError(f"sent more than the {len(body):,} bytes that its headers promise")
    return body, not reply.will_close


def _read_chunks(file: Any, limit: int) -> bytes:
    parts, size = [], 0
    while True:
        line = file.readline(1024)
        digits = line.partition(b";")[0].strip()
        if not line.endswith(b"\n") or not digits or digits.strip(b"0123456789abcdefABCDEF"):
            raise _CutError(f"cut its answer after {size:,} bytes, between two chunks")
        length = int(digits, 16)
        if length == 0:
            break
        size += length
        if size > limit:
            raise _TooLargeError
        part = file.read(length)
        if len(part) < length or file.read(2) != b"\r\n":
            raise _CutError(f"cut its answer after {size - length + len(part):,} bytes, inside a chunk")
        parts.append(part)
    for _ in range(100):  # trailers
        line = file.readline(1 << 16)
        if line in (b"\r\n", b"\n"):
            return b"".join(parts)
        if not line.endswith(b"\n"):
            raise _CutError(f"cut its answer after {size:,} bytes, before its end")
    raise _CutError("does not end its trailers")


def _more(file: Any) -> bool:
    """Whether bytes lie behind the body that nobody asked for; what has not arrived yet goes unseen."""
    import ssl

    file.raw.waits = False
    try:
        return bool(file.peek(1))
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:  # a connection reset behind the body: the body is whole, and the pool will notice
        return False


def _decompressed(body: bytes, coding: str, limit: int) -> bytes:
    """The body without its content coding, never more than ``limit`` bytes at once in memory."""
    coding = coding.strip().lower()
    if not body or coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip"):
        raise _CutError("compresses its answer in a way that was not asked for")
    parts, size, at = [], 0, 0
    view = memoryview(body)
    member = zlib.decompressobj(31)
    while at < len(view):
        if member.eof:
            if not body[at : at + GZIP_BLOCK].strip(b"\0"):  # padding is allowed
                at += GZIP_BLOCK
                continue
            member = zlib.decompressobj(31)
        block = view[at : at + GZIP_BLOCK]
        try:
            part = member.decompress(block, limit - size + 1)
        except zlib.error:
            raise _CutError("sent a gzip body that is damaged") from None
        at += len(block) - len(member.unused_data)
        size += len(part)
        if size > limit:
            raise _TooLargeError(" when decompressed")
        parts.append(part)
    if not member.eof:
        raise _CutError("cut its gzip body")
    return parts[0] if len(parts) == 1 else b"".join(parts)


# --- addresses ------------------------------------------------------------------------------------------------------


def _split(url: str) -> tuple[str, str]:
    """Authority (for ``Host``) and target of ``url``, the latter byte for byte but for what HTTP cannot carry."""
    parts = re.match("[^:]*://([^/?#]*)([^#]*)", url)
    assert parts is not None, "checked before"
    authority = parts[1].rpartition("@")[2]
    target = parts[2] if parts[2].startswith("/") else f"/{parts[2]}"
    if not target.isascii() or not target.isprintable() or " " in target:
        target = quote(target, safe=_PRINTABLE)
    return (authority if authority.isascii() else authority.encode("idna").decode()), target


def _absolute(url: str, location: str, request: Request) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise ForeignOriginError(f"{_host(url)} redirects to what is no URL ({_shown(request)}).") from None


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _address(text: str) -> Address:
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast


def _addresses(host: str) -> list[Address]:
    """All addresses of a host; none when the name service does not know it (then the connection says so)."""
    try:
        return [_address(host)]
    except ValueError:
        pass
    try:
        return [_address(str(found[4][0])) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def _private(host: str, request: Request) -> ForeignOriginError:
    return ForeignOriginError(
        f"a download leads to {host}, an address of a private network ({_shown(request)}); it is not followed, since "
        "the provider is not on one."
    )


def _environment_proxies() -> dict[str, str]:
    """Scheme -> proxy, as the environment, or on macOS and Windows the system, has it."""
    if sys.platform not in ("darwin", "win32") and not any(name.lower().endswith("_proxy") for name in os.environ):
        return {}
    import urllib.request

    return urllib.request.getproxies()


def _not_connected(cause: BaseException | None, timeout_s: float) -> str:
    """Why there is no connection, after the name of the host."""
    if isinstance(cause, socket.gaierror):
        seen = "is not known to the name service"
    elif isinstance(cause, TimeoutError):
        seen = f"did not take a connection within {min(timeout_s, CONNECT_S):g} s"
    else:
        detail = f" ({cause.strerror})" if isinstance(cause, OSError) and cause.strerror else ""
        seen = f"could not be connected to{detail}"
    return f"{seen}; check base_url, proxy and this host's network"


def _sendable(value: str) -> bool:
    return "\n" not in value and "\r" not in value and all(ord(letter) < 256 for letter in value)


def _know_password(proxy: str | None) -> None:
    """Let the mask know a proxy's password."""
    password = urlsplit(proxy if "://" in proxy else f"//{proxy}").password if proxy else None
    if password:
        Secret(password)
        Secret(unquote(password))


def _shown(request: Request) -> str:
    """The request for a message; the query of a ready-made or download URL may itself grant access, so it stays out."""
    if request.credentials and "?" not in request.url:
        return str(request)
    return mask(f"{request.method} {request.url.partition('?')[0]}")
