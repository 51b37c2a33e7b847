"""
Authenticators that sign each attempt: an HMAC of the request, a JWT with a private key (PyJWT), and OAuth 1.0a
(oauthlib).

A class that needs a library imports it when it is made, so that a missing one is reported before the first request.
"""

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from attrs import evolve, field, frozen
from penstock import ConfigError, Grant, Request, Secret, Unsigned, encode_query, fill, placeholders
from penstock.redact import mask_temporarily

from penstock_plugins.extras import installed

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


@frozen(kw_only=True)
class HmacSigned(Unsigned):
    """
    An HMAC over chosen parts of the request, made anew for every attempt.

    ``text`` is the template of what is signed. ``headers`` and ``params`` are templates of what is sent: each may name
    ``{signature}``; parameters that do not are added before the request is signed, the others after. The values:

    ``{method}``, ``{host}``, ``{path}``, ``{body}``, ``{body_sha256}`` (hexadecimal)
        of the request;
    ``{query}``, ``{sorted_query}``
        the query as sent, without ``?``, and with its parameters sorted by name and value;
    ``{epoch_s}``, ``{epoch_ms}``, ``{time}``
        the time of the attempt in UTC; ``{time:%Y%m%dT%H%M%SZ}`` in another form than ISO 8601;
    ``{key}``
        the option ``key``, which names the secret to the provider and is shown.

    ``written_in`` is the form in which the provider writes the secret. Raises ValueError for an unknown value, and
    where nothing sends the signature; ConfigError for a secret of another form.
    """

    secret: Secret
    key: str = ""
    text: str
    headers: Mapping[str, str] = field(factory=dict)
    params: Mapping[str, str] = field(factory=dict)
    digest: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    written_in: Literal["text", "hex", "base64"] = "text"

    def __attrs_post_init__(self) -> None:
        sent = {name for template in (*self.headers.values(), *self.params.values()) for name in placeholders(template)}
        signed = set(placeholders(self.text))
        if unknown := (signed - _SIGNABLE) | (sent - _SIGNABLE - {"signature"}):
            raise ValueError(
                f"unknown in a template: {', '.join(sorted(unknown))}; there are {', '.join(sorted(_SIGNABLE))}"
            )
        if "signature" not in sent:
            raise ValueError("neither headers nor params send the {signature}")
        try:
            self._key_bytes()
        except ValueError:
            raise ConfigError(f"the secret that signs requests is not {self.written_in}; copy it again") from None

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        values = self._values(request, now)
        for name, template in self.params.items():
            if "signature" not in placeholders(template):
                request = request.with_param(name, fill(template, values))
        values = self._values(request, now)
        values["signature"] = self._signature(fill(self.text, values))
        for name, template in self.params.items():
            if "signature" in placeholders(template):
                request = request.with_param(name, fill(template, values))
        request = request.with_headers(*((name, fill(template, values)) for name, template in self.headers.items()))
        signed = {
            name for name, sent in (*self.headers.items(), *self.params.items()) if "signature" in placeholders(sent)
        }
        return evolve(request, masked=request.masked | signed)

    def explain(self, request: Request, now: datetime) -> str:
        values = self._values(request, now) | {"body": f"({len(request.body or b'')} bytes of the body)"}
        return f"signed: {fill(self.text, values)!r}"

    def _values(self, request: Request, now: datetime) -> dict[str, Any]:
        address, body = urlsplit(request.url), request.body or b""
        epoch_ms = (now - _EPOCH) // timedelta(milliseconds=1)
        return {
            "method": request.method,
            "host": address.netloc,
            "path": address.path,
            "query": encode_query(request.params),
            "sorted_query": encode_query(sorted(request.params)),
            "body": body.decode(errors="surrogateescape"),
            "body_sha256": hashlib.sha256(body).hexdigest(),
            "time": now,
            "epoch_s": epoch_ms // 1000,
            "epoch_ms": epoch_ms,
            "key": self.key,
        }

    def _signature(self, text: str) -> str:
        digest = hmac.digest(self._key_bytes(), text.encode(errors="surrogateescape"), self.digest)
        signature = digest.hex() if self.encoding == "hex" else b64encode(digest).decode()
        mask_temporarily(signature)  # a provider may repeat it alone, without what the header has around it
        return signature

    def _key_bytes(self) -> bytes:
        secret = self.secret.reveal()
        if self.written_in == "text":
            return secret.encode()
        return bytes.fromhex(secret) if self.written_in == "hex" else b64decode(secret, validate=True)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SIGNABLE = {
    "method",
    "host",
    "path",
    "query",
    "sorted_query",
    "body",
    "body_sha256",
    "time",
    "epoch_s",
    "epoch_ms",
    "key",
}


@frozen(kw_only=True)
class SignedJwt(Unsigned):
    """
    A JWT (RFC 7519) that a private key (PEM) signs for each attempt, in ``Authorization: Bearer``, without a login.

    Its claims are ``iss``, ``aud``, ``sub`` where ``subject`` is given, ``iat`` and ``exp`` (``life_s`` later), a
    ``jti`` that differs from one microsecond to the next, and ``claims``. ``key_id`` is its header ``kid``.
    """

    private_key: Secret
    issuer: str
    audience: str
    subject: str | None = None
    key_id: str | None = None
    algorithm: Algorithm = "RS256"
    life_s: int = 300
    claims: Mapping[str, Any] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        jwt = _jwt()
        try:
            algorithm = jwt.get_algorithm_by_name(self.algorithm)
            algorithm.prepare_key(self.private_key.reveal().encode())
        except Exception:
            # Its text may quote the key.
            raise ConfigError(
                f"the private key is no PEM for {self.algorithm}; copy it whole, with its first and last line and its "
                "line breaks"
            ) from None

    def token(self, now: datetime) -> str:
        """The signed JWT of this moment."""
        epoch_s = int(now.timestamp())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "iat": epoch_s,
            "exp": epoch_s + self.life_s,
        }
        if self.subject is not None:
            claims["sub"] = self.subject
        claims["jti"] = _nonce(now, self.issuer, self.audience)
        headers = {"kid": self.key_id} if self.key_id else None
        token: str = _jwt().encode(
            {**claims, **self.claims}, self.private_key.reveal(), algorithm=self.algorithm, headers=headers
        )
        mask_temporarily(token)  # a provider may repeat it alone, without the header or the form that it was in
        return token

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        return authorized(request, f"Bearer {self.token(now)}")


@frozen(kw_only=True)
class OAuth1(Unsigned):
    """
    OAuth 1.0a (RFC 5849): a signature over the request, in the ``Authorization`` header, made anew for every attempt.

    ``consumer_key`` and ``token`` name application and user to the provider, and are shown. The nonce is derived from
    the time of the attempt, to the microsecond, and the request. RSA signs with ``rsa_key`` (PEM), and needs the extra
    ``jwt`` besides.
    """

    consumer_key: str
    consumer_secret: Secret | None = None
    token: str | None = None
    token_secret: Secret | None = None
    method: Literal["HMAC-SHA1", "HMAC-SHA256", "HMAC-SHA512", "RSA-SHA1", "RSA-SHA256", "PLAINTEXT"] = "HMAC-SHA1"
    rsa_key: Secret | None = None
    realm: str | None = None

    def __attrs_post_init__(self) -> None:
        _oauth1()
        if self.method.startswith("RSA") and self.rsa_key is None:
            raise ConfigError(f"{self.method} signs with a private key: set rsa_key")

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        client = _oauth1().Client(
            self.consumer_key,
            client_secret=_revealed(self.consumer_secret),
            resource_owner_key=self.token,
            resource_owner_secret=_revealed(self.token_secret),
            signature_method=self.method,
            rsa_key=_revealed(self.rsa_key),
            realm=self.realm,
            nonce=_nonce(now, request.method, request.full_url),
            timestamp=str(int(now.timestamp())),
        )
        form = (_header(request, "content-type") or "").startswith("application/x-www-form-urlencoded")
        _, headers, _ = client.sign(
            request.full_url,
            http_method=request.method,
            body=(request.body or b"").decode() if form else None,
            headers={"Content-Type": "application/x-www-form-urlencoded"} if form else None,
        )
        for signature in re.findall(r'oauth_signature="([^"]*)"', headers["Authorization"]):
            mask_temporarily(signature)
            mask_temporarily(unquote(signature))
        return authorized(request, headers["Authorization"])

    def explain(self, request: Request, now: datetime) -> str:
        return f"signed: {request.method} {request}, {self.method}, at {int(now.timestamp())}"


def authorized(request: Request, value: str) -> Request:
    """The request with this value of ``Authorization``, which is masked wherever the provider repeats it."""
    return evolve(request.with_headers(("Authorization", value)), masked=request.masked | {"Authorization"})


def _nonce(now: datetime, *values: str) -> str:
    """A text that differs from one microsecond to the next."""
    return hashlib.sha256("\n".join([now.isoformat(timespec="microseconds"), *values]).encode()).hexdigest()[:32]


def _revealed(secret: Secret | None) -> str | None:
    return secret.reveal() if secret is not None else None


def _header(request: Request, name: str) -> str | None:
    return next((value for header, value in request.headers if header.lower() == name), None)


def _jwt() -> Any:
    with installed("jwt"):
        import cryptography  # noqa: F401  (signing with a private key needs it, and PyJWT loads without it)
        import jwt
    return jwt


def _oauth1() -> Any:
    with installed("oauth1"):
        import oauthlib.oauth1
    return oauthlib.oauth1
