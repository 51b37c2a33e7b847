"""Authenticators that several providers use."""

from datetime import UTC, datetime

import pytest
from penstock import Authenticator, Grant, Request, Response, Secret
from penstock_plugins.tokens import GrantedToken, ParamTokens

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOGIN = Request(method="POST", url="https://api.example/login")
READ = Request(url="https://api.example/rows", params=(("page", "1"),))


@pytest.mark.parametrize(
    "signer",
    [
        pytest.param(ParamTokens(params={"key": Secret("abc")}), id="fixed"),
        pytest.param(GrantedToken(provider="example", login=LOGIN, param="key"), id="granted"),
    ],
)
def test_a_token_in_the_query_is_sent_and_not_shown(signer: Authenticator) -> None:
    """
    A token that travels as a parameter is in the URL and in no message, however short it is, and replaces an old one.
    """
    stale = READ.with_param("key", "old")

    signed = signer.sign(stale, NOW, Grant(Secret("abc")))

    assert signed.full_url == "https://api.example/rows?page=1&key=abc"
    assert str(signed) == "GET https://api.example/rows?page=1&key=***"


@pytest.mark.parametrize(
    ("stated", "life_s"),
    [
        pytest.param("3600", 3600.0, id="seconds"),
        pytest.param("0", None, id="none"),
        pytest.param('"3600"', None, id="text"),
        pytest.param("true", None, id="no number"),
        pytest.param("9" * 400, None, id="more than a float holds"),
    ],
)
def test_a_life_that_makes_no_sense_is_none(stated: str, life_s: float | None) -> None:
    """
    The token is taken all the same; it is renewed when the provider refuses it.
    """
    body = f'{{"access_token": "a-token", "expires_in": {stated}}}'.encode()

    grant = GrantedToken(provider="example", login=LOGIN).read_grant(Response(status=200, body=body, received_at=NOW))

    assert (grant.token, grant.life_s) == (Secret("a-token"), life_s)
