"""
How a connection to a host is prepared: directly or through a proxy, plain or with TLS.

Connections are the standard library's; through a proxy they are urllib3's, which knows TLS inside TLS (and takes 15 ms
to import).
"""

import os
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from penstock._fetch.transport.failures import CONNECT_S
from penstock._fetch.transport.wire import Wire
from penstock.errors import ConfigError
from penstock.model import is_loopback
from penstock.redact import Secret

if TYPE_CHECKING:
    import ssl


class Dialer:
    """
    ``proxy`` is a URL; None: ``HTTPS_PROXY`` and its kin, minus ``NO_PROXY`` and this machine. ``ca_file``: None:
    ``SSL_CERT_FILE`` or ``REQUESTS_CA_BUNDLE``, else the system's.
    """

    def __init__(self, *, timeout_s: float, proxy: str | None, ca_file: str | None) -> None:
        self._timeout_s = timeout_s
        self._proxy = proxy
        self._environment_proxies = {} if proxy else _environment_proxies()
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None
        for url in (proxy, *self._environment_proxies.values()):
            _know_password(url)

    def connect(self, wire: Wire, url: str) -> bool:
        """Open the wire to the host of ``url``; whether directly, so that who is at its end can be asked."""
        import http.client

        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        proxy = self._proxy_for(parts.scheme, host)
        if proxy is not None:
            self._through(proxy, wire, secure, host, port)
        else:
            timeout_s = min(self._timeout_s, CONNECT_S)
            direct: Any = (
                http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._tls())
                if secure
                else http.client.HTTPConnection(host, port, timeout=timeout_s)
            )
            if host.isascii():  # as bytes, since for any text Python reads the tables of international names (3 ms)
                direct.host = host.encode()
            wire.connection = direct
        wire.open(self._timeout_s, direct=proxy is None)
        return proxy is None

    def _through(self, proxy: str, wire: Wire, secure: bool, host: str, port: int) -> None:
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


def _environment_proxies() -> dict[str, str]:
    """Scheme -> proxy, as the environment, or on macOS and Windows the system, has it."""
    if sys.platform not in ("darwin", "win32") and not any(name.lower().endswith("_proxy") for name in os.environ):
        return {}
    import urllib.request

    return urllib.request.getproxies()


def _know_password(proxy: str | None) -> None:
    """Let the mask know a proxy's password."""
    password = urlsplit(proxy if "://" in proxy else f"//{proxy}").password if proxy else None
    if password:
        Secret(password)
        Secret(unquote(password))
