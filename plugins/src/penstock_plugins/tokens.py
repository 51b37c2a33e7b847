"""
Authenticators that more than one provider uses: fixed tokens in headers or parameters, and a token that a login grants.
"""

from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote, urlencode

import msgspec
from attrs import evolve, field, frozen
from penstock import AuthenticationError, BrokenBodyError, Grant, RefusedError, Request, Response, Secret, Unsigned

_FOREVER_S = 1e12  # upper bound of a token's lifetime: a larger number may exceed a float


@frozen(kw_only=True)
class HeaderTokens(Unsigned):
    """Fixed secrets in headers: ``{"X-Api-Token": token}``."""

    headers: Mapping[str, Secret]

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        return request.with_headers(*((name, value.reveal()) for name, value in self.headers.items()))


@frozen(kw_only=True)
class ParamTokens(Unsigned):
    """Fixed secrets as query parameters: ``{"key": key}``; never shown with their request."""

    params: Mapping[str, Secret]

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        for name, value in self.params.items():
            request = request.with_param(name, value.reveal())
        return evolve(request, masked=request.masked | self.params.keys())


@frozen(kw_only=True)
class GrantedToken(Unsigned):
    """
    A token that a login call grants, sent in a header or as a query parameter, with fixed secrets beside it.

    ``login`` is the whole call. ``token_member`` and ``life_member`` (seconds) are the answer's member names;
    ``refused`` the statuses that mean wrong credentials. Exactly one of ``header`` and ``param`` carries the token.

    A token is renewed before it expires. If the provider may refuse one earlier, the connector's judge returns
    ``Retry(..., renew=True)``: the status alone counts as refused credentials.
    """

    provider: str
    login: Request = field(repr=False)
    token_member: str = "access_token"  # noqa: S105
    life_member: str = "expires_in"
    header: str | None = None
    prefix: str = ""
    param: str | None = None
    fixed: Mapping[str, Secret] = field(factory=dict)
    refused: tuple[int, ...] = (400, 401, 403)
    advice: str = "check the credentials of this source"

    def grant_request(self) -> Request | None:
        return self._with_fixed(self.login)

    def read_grant(self, response: Response) -> Grant:
        if response.status in self.refused:
            raise AuthenticationError(
                f"{self.provider} refused the login (HTTP {response.status}: {response.text(120)}); {self.advice}."
            )
        if response.status >= 300:
            raise RefusedError(
                f"{self.provider} answered the login with HTTP {response.status} ({response.text(120) or 'no text'}); "
                "check base_url."
            )
        try:
            answer: Any = msgspec.json.decode(response.body)
        except (ValueError, RecursionError) as error:
            raise BrokenBodyError(f"{self.provider} answered the login with no JSON: {error}") from None
        token = answer.get(self.token_member) if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token:
            raise AuthenticationError(
                f"{self.provider} answered the login with HTTP {response.status} and no {self.token_member!r}; "
                f"{self.advice}."
            )
        life = answer.get(self.life_member)
        stated = type(life) in (int, float) and 0 < life < _FOREVER_S
        return Grant(Secret(token), float(life) if stated else None)

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        request = self._with_fixed(request)
        if grant is None:
            return request
        if self.param is not None:
            carrying = request.with_param(self.param, grant.token.reveal())
            return evolve(carrying, masked=request.masked | {self.param})
        return request.with_headers((self.header or "Authorization", self.prefix + grant.token.reveal()))

    def _with_fixed(self, request: Request) -> Request:
        return request.with_headers(*((name, value.reveal()) for name, value in self.fixed.items()))


@frozen(kw_only=True)
class OAuthRefresh(Unsigned):
    """
    The refresh token grant of OAuth 2.0 (RFC 6749, section 6): a token for ``Authorization: Bearer``.

    A provider may answer with a new refresh token in place of the former one. It is then kept in the source's token
    store and used for the next grant; the configured one begins the chain.

    ``url``: the token endpoint; at another origin than ``base_url`` the connector names its key in ``origins``.
    ``client_in``: whether the client's id and secret are sent in the body or by HTTP Basic.
    """

    provider: str
    url: str
    refresh_token: Secret
    client_id: str
    client_secret: Secret | None = None
    scope: str | None = None
    client_in: Literal["body", "basic"] = "body"
    refused: tuple[int, ...] = (400, 401, 403)
    advice: str = "authorise penstock at the provider again and set refresh_token anew"

    def grant_request(self) -> Request:
        return self._request(self.refresh_token)

    def renew_request(self, kept: Mapping[str, Secret]) -> Request:
        return self._request(kept.get("refresh_token", self.refresh_token))

    def read_grant(self, response: Response) -> Grant:
        granted = GrantedToken(
            provider=self.provider, login=Request(url=self.url), refused=self.refused, advice=self.advice
        ).read_grant(response)
        renewed = (response.members() or {}).get("refresh_token")
        return evolve(granted, keep={"refresh_token": Secret(renewed)} if isinstance(renewed, str) and renewed else {})

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        assert grant is not None, "it has a grant_request"
        return request.with_headers(("Authorization", f"Bearer {grant.token.reveal()}"))

    def _request(self, refresh_token: Secret) -> Request:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
        if self.scope is not None:
            form["scope"] = self.scope
        headers = [("Content-Type", "application/x-www-form-urlencoded")]
        secret = self.client_secret.reveal() if self.client_secret is not None else ""
        if self.client_in == "basic":
            pair = f"{quote(self.client_id, safe='')}:{quote(secret, safe='')}"
            headers.append(("Authorization", f"Basic {b64encode(pair.encode()).decode()}"))
        else:
            form |= {"client_id": self.client_id, **({"client_secret": secret} if secret else {})}
        return Request(method="POST", url=self.url, headers=headers, body=urlencode(form).encode())
