"""
The origin of a request, and the rules for requests beyond the origins of its source.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, urljoin, urlsplit

from penstock.errors import ConfigError, ForeignOriginError, RefusedError
from penstock.model import Request, is_loopback, origin_of, plain_http_problem
from penstock.redact import mask

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_ADDRESS = re.compile("[^:]*://([^/?#]*)([^#]*)")
_LOOSE = r"[^/?#]*//[^/?#]*\][^:/?#]"
_SENDABLE = re.compile(r"https?://[!-\"$-.0-?A-~]+/[!-\"$-~]*")  # printable ASCII without "#", and a path
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class Boundary:
    """
    The origins of a source, and what may be requested beyond them: downloads, without credentials, never from https to
    http, at private addresses only if the source is at one itself. Plain http beyond this machine needs ``allow_http``.

    ``further``: URLs whose origins may receive credentials, too (a login host).
    """

    def __init__(self, base: str, *, allow_http: bool, further: Iterable[str] = ()) -> None:
        self.base = origin_of(base)
        self.trusted = frozenset({self.base, *map(origin_of, further)})
        self._allow_http = allow_http
        # The prefix of nearly every address: with the slash, no user or port can follow that leads to another host.
        self._base_prefix = f"{self.base.removesuffix(':443' if self.base.startswith('https') else ':80')}/"
        self._base_is_private: bool | None = None
        for url in (self.base, *sorted(self.trusted - {self.base})):
            if problem := plain_http_problem(url, allow_http=allow_http):
                raise ConfigError(f"{'base_url' if url == self.base else url}: {problem}.")

    def allowed_origin(self, request: Request, url: str, *, before: str) -> str:
        """The origin of ``url``; ForeignOriginError where no request may go. ``before``: the URL that led there."""
        if url.startswith(self._base_prefix):
            return self.base
        try:
            origin, host = origin_of(url), host_of(url)
        except ValueError:
            origin, host = "", ""
        scheme = origin.partition(":")[0]
        # Python accepts any text behind an address in brackets, and would send it as Host.
        if scheme not in ("http", "https") or not host or re.match(_LOOSE, url):
            raise ForeignOriginError(
                f"{host_of(before)} names an address that is no http(s) URL: nothing was "
                "sent there. The provider must correct it."
            )
        if origin in self.trusted:
            return origin
        if request.credentials:
            raise self._foreign(origin, host)
        if scheme == "http" and "https" in (urlsplit(before).scheme, urlsplit(self.base).scheme):
            raise ForeignOriginError(f"a download leads from https to plain {origin}; it is not followed.")
        if scheme == "http" and not self._allow_http and not is_loopback(host):
            raise ForeignOriginError(f"a download leads to plain {origin}; set allow_http = true to follow it.")
        if not self._private_allowed() and any(not _is_public(address) for address in _addresses(host)):
            raise _private(host)
        return origin

    def _foreign(self, origin: str, host: str) -> ForeignOriginError:
        secure = [origin for origin in self.trusted if origin.startswith("https:") and host_of(origin) == host]
        if origin.startswith("http:") and secure:
            return ForeignOriginError(
                f"the request leads to plain http at {host}, which is configured with https: nothing was sent "
                "there. Where a provider's links name the wrong scheme, its connector declares "
                'paginator=named("link", keep_scheme=True), or reads them with Request.link(..., keep_scheme=True).'
            )
        return ForeignOriginError(
            f"the request leads to {origin}, but credentials go to {' and '.join(sorted(self.trusted))} only: "
            "nothing was sent there. If the provider moved, set base_url to its new address; if it grants tokens or "
            'serves its API at a second host, the connector names the key of that host, origins=("login_url",).'
        )

    def check_peer(self, origin: str, peer: str) -> None:
        """Check the address of the connection, too: the name may resolve to another one than before."""
        if origin not in self.trusted and not self._private_allowed() and not _is_public(_address(peer)):
            raise _private(host_of(origin))

    def _private_allowed(self) -> bool:
        """Whether downloads may be on a private network: the source itself is on one."""
        if self._base_is_private is None:
            self._base_is_private = any(not _is_public(address) for address in _addresses(host_of(self.base)))
        return self._base_is_private


def sendable(url: str) -> str:
    """
    ``url`` as HTTP carries it: no fragment, a path, everything else byte for byte unless HTTP cannot carry it.

    Idempotent. It is applied before a request is signed, so that what is signed is what leaves.
    """
    if _SENDABLE.fullmatch(url):
        return url
    try:
        authority, target = authority_and_target(url)
    except (AssertionError, UnicodeError):
        return url  # no address: the origin rule refuses it
    return f"{url.partition(':')[0]}://{authority}{target}"


def authority_and_target(url: str) -> tuple[str, str]:
    """Authority (for ``Host``) and target of ``url``, the latter byte for byte but for what HTTP cannot carry."""
    address = _ADDRESS.match(url)
    assert address is not None, "checked before"
    authority = address[1].rpartition("@")[2]
    target = address[2] if address[2].startswith("/") else f"/{address[2]}"
    if not target.isascii() or not target.isprintable() or " " in target:
        target = quote(target, safe=_PRINTABLE)
    return (authority if authority.isascii() else authority.encode("idna").decode()), target


def absolute(url: str, location: str) -> str:
    """The absolute URL that a redirect leads to."""
    try:
        return urljoin(url, location)
    except ValueError:
        raise ForeignOriginError(
            f"{host_of(url)} redirects to what is no URL: nothing was sent there. Correct "
            "base_url if it is not the provider's; else the provider must correct its redirect."
        ) from None


def check_parameters(before: str, after: str, request: Request) -> None:
    """
    Raises RefusedError where a redirect leads to the same resource (the last segment of the path) without parameters of
    the request: the rows there would be those of another request. A download may lose those that granted access to it.
    """
    if not request.credentials:
        return
    paths = [urlsplit(url).path.rstrip("/").rpartition("/")[2] for url in (before, after)]
    parameters, left = [dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)) for url in (before, after)]
    lost = [name for name in parameters if name not in left]
    if paths[0] == paths[1] and lost:
        raise RefusedError(
            f"{host_of(before)} redirects to {urlsplit(after).path} without {', '.join(lost)}: that "
            "would be another request, so it was not sent. Correct base_url, such as its path or https; else the "
            "provider must correct its redirect."
        )


def host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def brief(request: Request) -> str:
    """The request for a message; the query of a ready-made or download URL may itself grant access, so it stays out."""
    if request.credentials and "?" not in request.url:
        return str(request)
    return mask(f"{request.method} {request.url.partition('?')[0]}")


_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: how networks without IPv4 write its addresses


def _address(text: str) -> Address:
    address = ipaddress.ip_address(text)
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address


def _is_public(address: Address) -> bool:
    # Reserved addresses are private too: they include the deprecated form [::10.0.0.1] of IPv4 addresses.
    special = address.is_multicast or address.is_reserved or getattr(address, "is_site_local", False)
    return address.is_global and not special


def _addresses(host: str) -> list[Address]:
    """All addresses of a host; none if the name service does not know it (the connection then raises that)."""
    try:
        return [_address(host)]
    except ValueError:
        pass
    try:
        return [_address(str(info[4][0])) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def _private(host: str) -> ForeignOriginError:
    return ForeignOriginError(
        f"a download leads to {host}, an address of a private network; it is not followed, since "
        "the provider is not on one."
    )
