"""
Signatures that a library makes: OAuth 2.0 with a private key (PyJWT), and OAuth 1.0a (oauthlib).

Each class imports its library when it is made, so that a missing one is reported before the first request.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import unquote, urlencode

from attrs import evolve, field, frozen
from penstock import ConfigError, Grant, Request, Secret, Unsigned
from penstock.redact import mask_temporarily

from penstock_plugins.extras import installed
from penstock_plugins.tokens import OAuthGrant

_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_CLIENT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


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
        signed = request.with_headers(("Authorization", f"Bearer {self.token(now)}"))
        return evolve(signed, masked=request.masked | {"Authorization"})


@frozen(kw_only=True)
class OAuthJwt(OAuthGrant):
    """
    OAuth 2.0 with a private key (RFC 7523): a token for ``Authorization: Bearer``.

    ``grant``: ``jwt-bearer``, the JWT is the grant (section 2.1, service accounts); or ``client_credentials``, the JWT
    authenticates the client in place of a secret (section 2.2). ``issuer`` and, of the latter, ``subject`` are
    ``client_id`` unless given; ``audience`` is ``url``. The other options are those of ``oauth_client`` and of
    :class:`SignedJwt`.
    """

    private_key: Secret
    grant: Literal["jwt-bearer", "client_credentials"] = "jwt-bearer"
    issuer: str | None = None
    subject: str | None = None
    audience: str | None = None
    key_id: str | None = None
    algorithm: Algorithm = "RS256"
    life_s: int = 300
    claims: Mapping[str, Any] = field(factory=dict)
    advice: str = "check the private key, its id, and client_id"

    def __attrs_post_init__(self) -> None:
        self._key()

    def _key(self) -> SignedJwt:
        is_client = self.grant == "client_credentials"
        return SignedJwt(
            private_key=self.private_key,
            issuer=self.issuer or self.client_id,
            subject=self.subject or (self.client_id if is_client else None),
            audience=self.audience or self.url,
            key_id=self.key_id,
            algorithm=self.algorithm,
            life_s=self.life_s,
            claims=self.claims,
        )

    def grant_request(self) -> Request:
        if self.grant == "client_credentials":
            return self._request({"grant_type": "client_credentials", "client_assertion_type": _CLIENT}, None)
        return self._form_request({"grant_type": _BEARER})

    def sign_login(self, request: Request, now: datetime) -> Request:
        member = "client_assertion" if self.grant == "client_credentials" else "assertion"
        signed = urlencode({member: self._key().token(now)}).encode()
        return evolve(request, body=(request.body or b"") + b"&" + signed)


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
        signed = request.with_headers(("Authorization", headers["Authorization"]))
        return evolve(signed, masked=request.masked | {"Authorization"})

    def explain(self, request: Request, now: datetime) -> str:
        return f"signed: {request.method} {request}, {self.method}, at {int(now.timestamp())}"


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
