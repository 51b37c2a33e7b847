"""
Authenticators that send a token: fixed ones in headers or parameters, HTTP Basic, and those that a login or OAuth 2.0
grants.
"""

from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote, urlencode

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
)

from penstock_plugins.polling import member_at
from penstock_plugins.signatures import Algorithm, SignedJwt, authorized

_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_CLIENT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

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
        return authorized(request, f"{self.prefix} {self.token.reveal()}")


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
        return authorized(request, _basic(self.user, self.password.reveal()))


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


def _basic(user: str, password: str) -> str:
    """The value of ``Authorization`` for HTTP Basic."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
