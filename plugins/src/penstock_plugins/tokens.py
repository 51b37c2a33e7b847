"""
Authenticators that more than one provider uses: fixed tokens in headers or parameters, and a token that a login grants.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from attrs import evolve, field, frozen
from penstock import AuthenticationError, BrokenBodyError, Grant, RefusedError, Request, Response, Secret, Unsigned

_FOREVER_S = 1e12  # no life of a token, but a number that Python may not even take for a float


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

    A token is renewed before its life is over. Where the provider refuses one earlier, the connector's judge says so
    with ``Retry(..., renew=True)``: the status alone counts as refused credentials.
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
