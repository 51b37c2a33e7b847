"""
Authenticators for several providers: fixed tokens in headers or parameters, HTTP Basic, tokens that a login or
OAuth 2.0 grants, and an HMAC of the request.
"""

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from attrs import evolve, field, frozen
from penstock import (
    AuthenticationError,
    BrokenBodyError,
    ConfigError,
    Grant,
    RefusedError,
    Request,
    Response,
    Secret,
    Unsigned,
    encode_query,
    fill,
    placeholders,
)
from penstock.redact import mask_temporarily

from penstock_plugins.polling import member_at

_FOREVER_S = 1e12  # upper bound of a token's lifetime: a larger number may exceed a float


@frozen(kw_only=True)
class HeaderTokens(Unsigned):
    """Fixed secrets in headers: ``{"X-Api-Token": token}``."""

    headers: Mapping[str, Secret]

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        return request.with_headers(*((name, value.reveal()) for name, value in self.headers.items()))


@frozen(kw_only=True)
class Bearer(Unsigned):
    """A fixed token in ``Authorization: Bearer`` (RFC 6750); ``prefix`` where a provider writes another word."""

    token: Secret
    prefix: str = "Bearer"

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        return evolve(
            request.with_headers(("Authorization", f"{self.prefix} {self.token.reveal()}")),
            masked=request.masked | {"Authorization"},
        )


@frozen(kw_only=True)
class ParamTokens(Unsigned):
    """Fixed secrets as query parameters: ``{"key": key}``; never shown with their request."""

    params: Mapping[str, Secret]

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        for name, value in self.params.items():
            request = request.with_param(name, value.reveal())
        return evolve(request, masked=request.masked | self.params.keys())


@frozen(kw_only=True)
class _Login(Unsigned):
    """
    What authenticators with a login have in common; ``refused`` are the statuses that mean wrong credentials.
    ``address``: the settings that state where the login is.
    """

    provider: str = "the provider"
    refused: tuple[int, ...] = (400, 401, 403)
    advice: str = "check the credentials of this source"
    address: str = "base_url"

    def _grant(self, response: Response, advice: str, token_member: str, life_member: str) -> Grant:
        """
        The token in the response to a login. Raises AuthenticationError where it was refused, or states something else
        than a token; BrokenBodyError, after which the login is made again, where it states nothing.
        """
        if response.status in self.refused:
            raise AuthenticationError(
                f"{self.provider} refused the login (HTTP {response.status}: {response.text(120)}); {advice}."
            )
        if response.status >= 300:
            raise RefusedError(
                f"{self.provider} answered the login with HTTP {response.status} ({response.text(120) or 'no text'}); "
                f"check {self.address}."
            )
        try:
            answer: Any = msgspec.json.decode(response.body)
        except (ValueError, RecursionError) as error:
            raise BrokenBodyError(
                f"{self.provider} answered the login with no JSON: {error}; check {self.address}"
            ) from None
        token = member_at(answer, token_member)
        if not isinstance(token, str) or not token:
            if not answer or (isinstance(answer, dict) and not any(answer.values())):
                raise BrokenBodyError(
                    f"{self.provider} answered the login with HTTP {response.status} and nothing in it "
                    f"({response.text(120) or 'no text'}). If it does so in each run, {advice}."
                )
            raise AuthenticationError(
                f"{self.provider} answered the login with HTTP {response.status} and no {token_member!r}; {advice}."
            )
        life = member_at(answer, life_member)
        stated = type(life) in (int, float) and 0 < life < _FOREVER_S
        return Grant(Secret(token), float(life) if stated else None)


@frozen(kw_only=True)
class GrantedToken(_Login):
    """
    A token that a login call grants, sent in a header or as a query parameter.

    ``login`` is the whole call. ``token_member`` and ``life_member`` (seconds) are paths in the response, such as
    ``session.token``; ``refused`` the statuses that mean wrong credentials. Exactly one of ``header`` and ``param``
    carries the token.

    A token is renewed before it expires, and once if the provider refuses it with 401. For another status the connector
    declares ``Refusal(..., renew=True)``.
    """

    login: Request = field(repr=False)
    token_member: str = "access_token"  # noqa: S105
    life_member: str = "expires_in"
    header: str | None = None
    prefix: str = ""
    param: str | None = None

    def grant_request(self) -> Request | None:
        return self.login

    def read_grant(self, response: Response) -> Grant:
        return self._grant(response, self.advice, self.token_member, self.life_member)

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        if grant is None:
            return request
        if self.param is not None:
            carrying = request.with_param(self.param, grant.token.reveal())
            return evolve(carrying, masked=request.masked | {self.param})
        return request.with_headers((self.header or "Authorization", self.prefix + grant.token.reveal()))


@frozen(kw_only=True)
class Basic(Unsigned):
    """HTTP Basic (RFC 7617): user name and password, in UTF-8. Raises ConfigError for a user name with a colon."""

    user: str
    password: Secret

    def __attrs_post_init__(self) -> None:
        if ":" in self.user:
            raise ConfigError("the user name of HTTP Basic has a colon, which ends it; correct the user name")

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        return evolve(
            request.with_headers(("Authorization", _basic(self.user, self.password.reveal()))),
            masked=request.masked | {"Authorization"},
        )


@frozen(kw_only=True)
class OAuthGrant(_Login):
    """
    What the grants of OAuth 2.0 have in common: a form sent to the token endpoint, and ``Authorization: Bearer``. The
    options are explained at :class:`OAuthClient`.
    """

    url: str
    client_id: str
    scope: str | None = None
    client_in: Literal["body", "basic"] = "body"
    form: Mapping[str, str] = field(factory=dict)
    advice: str = "check client_id and client_secret"

    def read_grant(self, response: Response) -> Grant:
        return self._grant(response, self._advice(response), "access_token", "expires_in")

    def _advice(self, response: Response) -> str:
        return self.advice

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        assert grant is not None, "it has a grant_request"
        return request.with_headers(("Authorization", f"Bearer {grant.token.reveal()}"))

    def _request(self, grant: Mapping[str, str], client_secret: Secret | None) -> Request:
        """The call of the token endpoint with the client's id and secret; ``grant``: members of this kind of grant."""
        secret = client_secret.reveal() if client_secret is not None else ""
        if self.client_in == "basic":
            value = _basic(quote(self.client_id, safe=""), quote(secret, safe=""))
            return self._form_request(grant).with_headers(("Authorization", value))
        return self._form_request(grant, {"client_id": self.client_id, **({"client_secret": secret} if secret else {})})

    def _form_request(self, grant: Mapping[str, str], client: Mapping[str, str] | None = None) -> Request:
        scope = {} if self.scope is None else {"scope": self.scope}
        form = {**grant, **self.form, **scope, **(client or {})}
        headers = (("Content-Type", "application/x-www-form-urlencoded"),)
        return Request(method="POST", url=self.url, headers=headers, body=urlencode(form).encode())


@frozen(kw_only=True)
class OAuthClient(OAuthGrant):
    """
    The client credentials grant of OAuth 2.0 (RFC 6749, section 4.4): a token for ``Authorization: Bearer``.

    ``url``: the token endpoint; at another origin than ``base_url`` the connector names its key in ``origins``.
    ``client_in``: whether the client's id and secret are sent in the body or by HTTP Basic. ``form``: further members
    of the request, such as ``audience`` or ``resource``; no credentials, since they would be shown.
    """

    client_secret: Secret

    def grant_request(self) -> Request:
        return self._request({"grant_type": "client_credentials"}, self.client_secret)


@frozen(kw_only=True)
class OAuthRefresh(OAuthGrant):
    """
    The refresh token grant of OAuth 2.0 (RFC 6749, section 6): a token for ``Authorization: Bearer``.

    A provider may return a new refresh token in place of the former one. It is then kept in the source's token
    store and used for the next grant; the configured one begins the chain. Its other options are those of
    :class:`OAuthClient`.
    """

    refresh_token: Secret
    client_secret: Secret | None = None
    advice: str = "authorise penstock at the provider again and set refresh_token anew"

    def grant_request(self) -> Request:
        return self.renew_request({})

    def renew_request(self, kept: Mapping[str, Secret]) -> Request:
        token = kept.get("refresh_token", self.refresh_token)
        return self._request({"grant_type": "refresh_token", "refresh_token": token.reveal()}, self.client_secret)

    def read_grant(self, response: Response) -> Grant:
        renewed = (response.members() or {}).get("refresh_token")
        kept = {"refresh_token": Secret(renewed)} if isinstance(renewed, str) and renewed else {}
        return evolve(super().read_grant(response), keep=kept)

    def _advice(self, response: Response) -> str:
        """RFC 6749, section 5.2: ``invalid_client`` is about the client, and its refresh token may be good."""
        of_client = (response.members() or {}).get("error") == "invalid_client"
        return "check client_id and client_secret" if of_client else self.advice


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


def _basic(user: str, password: str) -> str:
    """The value of ``Authorization`` for HTTP Basic."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
