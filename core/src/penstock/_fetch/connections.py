"""
The connections of one source: pools by scheme and proxy, TLS, and proxies (HTTP and SOCKS).

The connections are urllib3's, with additions: they send the URL unchanged, since a signature covers it byte for byte;
they detect headers that are cut and bytes behind a body; and each can be shut by another thread.
"""

import http.client
import importlib
import importlib.util
import io
import os
import ssl
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from attrs import define, field
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, make_headers, parse_url

from penstock._fetch.attempt import current
from penstock._fetch.body import NotWholeError
from penstock.errors import ConfigError
from penstock.model import is_loopback
from penstock.redact import mask_always, shown_url

_SOCKS = frozenset({"socks4", "socks4a", "socks5", "socks5h"})


@define(eq=False, repr=False, kw_only=True)
class Connections:
    """
    Pools of connections, at most ``max_connections`` open to each host. ``proxy`` and ``ca_file`` as in
    :class:`~penstock._fetch.transport.Transport`. ``base_origin``: that of the source, which has a pool of its own.
    """

    max_connections: int
    proxy: str | None
    ca_file: str | None
    base_origin: str
    _environment: dict[str, str] = field(init=False)  # its proxies, by scheme
    _managers: dict[tuple[str, str | None], urllib3.PoolManager] = field(factory=dict, init=False)
    _base_pool: urllib3.HTTPConnectionPool | None = field(default=None, init=False)  # of ``base_origin``
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._environment = {} if self.proxy else getproxies()
        for url in (self.proxy, *self._environment.values()):
            _mask_password(url)

    def pool_for(self, url: str, origin: str) -> tuple[Any, str]:
        """
        What opens ``url``, and the address to open with it. For the source's own origin without a proxy: its pool,
        whose connections send the target of their attempt. Else: a manager of pools, which parses the URL to find one.
        """
        if (pool := self._base_pool) is not None and origin == self.base_origin:
            return pool, "/"
        manager = self._manager_for(url)
        if origin == self.base_origin and manager.proxy is None:
            self._base_pool = manager.connection_from_url(url)
        return manager, url

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            managers = list(self._managers.values())
            self._base_pool = None
        for manager in managers:
            manager.clear()

    def _manager_for(self, url: str) -> urllib3.PoolManager:
        """The pools for this URL, made at its first use."""
        address = urlsplit(url)
        proxy = self._proxy_for(address.scheme, address.hostname or "")
        with self._lock:
            manager = self._managers.get((address.scheme, proxy))
            if manager is None:
                manager = self._managers[address.scheme, proxy] = self._new_manager(address.scheme, proxy)
            return manager

    def _new_manager(self, scheme: str, proxy: str | None) -> urllib3.PoolManager:
        options: dict[str, Any] = {"maxsize": self.max_connections, "block": True}
        if scheme == "https":
            options["ssl_context"] = self._tls()
        if proxy is None:
            manager = urllib3.PoolManager(**options)
        else:
            address = _address_of(proxy, scheme)
            if address.scheme not in ("http", "https"):
                return _socks_manager(proxy, options)
            if address.scheme == "https":
                options["proxy_ssl_context"] = self._tls()
            login = make_headers(proxy_basic_auth=unquote(address.auth)) if address.auth else {}
            manager = urllib3.ProxyManager(proxy, proxy_headers=login, **options)
        manager.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}
        return manager

    def _proxy_for(self, scheme: str, host: str) -> str | None:
        proxy = self.proxy
        if proxy is None and self._environment and not is_loopback(host):
            proxy = self._environment.get(scheme) or self._environment.get("all")
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


def _address_of(proxy: str, scheme: str) -> Url:
    """The parts of the URL of a proxy for this scheme. Raises ConfigError; only one of the environment may be wrong."""
    try:
        address = parse_url(proxy)
    except LocationParseError:
        address = Url()
    if not address.host:
        raise ConfigError(
            f"the proxy {shown_url(proxy)!r} is no URL such as http://proxy.example.com:3128. Correct "
            f"{scheme.upper()}_PROXY, or ALL_PROXY, in the environment."
        )
    return address


def _socks_manager(proxy: str, options: dict[str, Any]) -> urllib3.PoolManager:
    """Connections through a SOCKS proxy; ConfigError without the library for it."""
    scheme = urlsplit(proxy).scheme
    if scheme not in _SOCKS:
        raise ConfigError(
            f"the proxy is a {scheme} proxy; only http, https and SOCKS proxies are known. Correct proxy, or "
            "HTTPS_PROXY in the environment."
        )
    if importlib.util.find_spec("socks") is None:
        raise ConfigError(
            f"the proxy is a {scheme} proxy, and pysocks is not installed here. It is of the extra socks of "
            "penstock-core. Run: pip install pysocks, or set proxy to an http or https proxy."
        )
    socks = importlib.import_module("urllib3.contrib.socks")  # warns and fails where pysocks is missing
    manager = socks.SOCKSProxyManager(proxy, **options)
    plain = type("SocksConnection", (AttemptConnection, socks.SOCKSConnection), {})
    secure = type("SocksTlsConnection", (AttemptConnection, socks.SOCKSHTTPSConnection), {})
    manager.pool_classes_by_scheme = {
        "http": type("SocksPool", (socks.SOCKSHTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SocksTlsPool", (socks.SOCKSHTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
    return manager  # type: ignore[no-any-return]


def _mask_password(proxy: str | None) -> None:
    """Register a proxy's password as a secret."""
    try:
        password = urlsplit(proxy if "://" in proxy else f"//{proxy}").password if proxy else None
    except ValueError:  # no URL: refused where a proxy is needed
        return
    if password:
        mask_always(password)
        mask_always(unquote(password))


class _Body(io.BufferedReader):
    """The receiving side of a socket. It detects a connection that ends inside the head, and bytes behind the body."""

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        super().__init__(raw, 1 << 16)
        self._socket = sock
        self._attempt = current.attempt  # the body may be closed by another thread
        self.reads_response = False  # not of a proxy's response to CONNECT: what follows that is not its surplus

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n"):
            self._attempt.ends_early = True
        return line

    def close(self) -> None:
        if not self.closed and self.reads_response:
            surplus = self._attempt.surplus = self._has_surplus()
            if self._attempt.connection is not None:
                self._attempt.connection.idle_since = -1e9 if surplus else time.monotonic()
        super().close()

    def _has_surplus(self) -> bool:
        """Whether bytes behind the body have arrived already."""
        try:
            self._socket.settimeout(0)  # the next request on this connection sets its own
            return bool(self.peek(1))
        except OSError:  # nothing more on TLS, or a connection reset behind the body: the body is whole
            return False


class _HttpResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp: Any = _Body(self.fp.detach(), sock)

    def begin(self) -> None:
        super().begin()
        if current.attempt.ends_early:  # http.client takes what came for all headers there are
            raise NotWholeError("cut its response inside the headers")
        if self.fp is not None:
            self.fp.reads_response = True


class AttemptConnection(HTTPConnection):
    """A connection that records its state in the current attempt, and sends the URL unchanged."""

    idle_since = 0.0
    response_class = _HttpResponse

    def connect(self) -> None:
        attempt = current.attempt
        attempt.connection = self
        super().connect()
        attempt.socket = self.sock
        if attempt.check_peer is not None and self.proxy is None and self.sock is not None:
            attempt.check_peer(str(self.sock.getpeername()[0]))

    @property
    def is_connected(self) -> bool:
        """Whether it may be reused: open, without pending bytes, and idle for less than servers usually allow."""
        return super().is_connected and time.monotonic() - self.idle_since <= current.attempt.max_idle_s

    def putrequest(self, method: str, url: str, *args: Any, **more: Any) -> None:
        # urllib3 normalises the URL after it was signed; a signature covers it byte for byte.
        attempt = current.attempt
        absolute_form = not url.startswith("/")  # through a forwarding proxy
        target = f"http://{attempt.authority}{attempt.target}" if absolute_form else attempt.target
        super().putrequest(method, target, *args, **more)

    def endheaders(self, *args: Any, **more: Any) -> None:
        attempt = current.attempt
        if self.sock is None:
            self.connect()
        attempt.connection, attempt.socket = self, self.sock
        attempt.sent = True
        super().endheaders(*args, **more)


class AttemptTlsConnection(AttemptConnection, HTTPSConnection):
    pass


class HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = AttemptConnection


class HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = AttemptTlsConnection
