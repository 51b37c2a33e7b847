"""Authenticators that several providers use."""

from datetime import UTC, datetime

import pytest
from penstock.model import Request
from penstock.parts import Authenticator, Grant
from penstock.redact import Secret
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
