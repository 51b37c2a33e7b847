"""Authenticators that several providers use."""

from datetime import UTC, datetime

import pytest
from penstock import AuthenticationError, Authenticator, BrokenBodyError, Grant, Request, Response, Secret
from penstock_plugins.tokens import GrantedToken, OAuthRefresh, ParamTokens

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
def test_an_invalid_life_of_a_token_is_ignored(stated: str, life_s: float | None) -> None:
    """
    The token is used, and is renewed when the provider refuses it.
    """
    body = f'{{"access_token": "a-token", "expires_in": {stated}}}'.encode()

    grant = GrantedToken(provider="example", login=LOGIN).read_grant(Response(status=200, body=body, received_at=NOW))

    assert (grant.token, grant.life_s) == (Secret("a-token"), life_s)


def test_a_token_inside_of_another_member_is_named_by_its_path() -> None:
    """
    The path has the form of those of an envelope and of a poller.
    """
    signer = GrantedToken(login=LOGIN, token_member="session.token", life_member="session.life")
    body = b'{"session": {"token": "a-token", "life": 60}}'

    grant = signer.read_grant(Response(status=200, body=body, received_at=NOW))

    assert (grant.token, grant.life_s) == (Secret("a-token"), 60.0)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        pytest.param("invalid_client", "check client_id and client_secret", id="the client"),
        pytest.param("invalid_grant", "authorise penstock at the provider again and set refresh_token", id="its token"),
    ],
)
def test_a_refused_refresh_names_the_refused_credential(error: str, advice: str) -> None:
    """
    A wrong secret of the client needs no new authorisation.
    """
    signer = OAuthRefresh(url="https://login.example/token", client_id="c", refresh_token=Secret("r-1234"))

    with pytest.raises(AuthenticationError, match=advice):
        signer.read_grant(Response(status=400, body=f'{{"error": "{error}"}}'.encode(), received_at=NOW))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param("{}", BrokenBodyError, id="empty"),
        pytest.param("null", BrokenBodyError, id="null"),
        pytest.param('{"access_token": "", "expires_in": 0}', BrokenBodyError, id="empty members"),
        pytest.param("<html>", BrokenBodyError, id="no JSON"),
        pytest.param('{"error": "wrong password"}', AuthenticationError, id="a refusal"),
        pytest.param('{"token_type": "bearer"}', AuthenticationError, id="another member"),
        pytest.param('["no"]', AuthenticationError, id="no object"),
    ],
)
def test_an_answer_that_states_nothing_is_no_refusal(body: str, error: type[Exception]) -> None:
    """
    An answer that states nothing is broken, so that the login is made again; one that states something else than a
    token refuses the credentials, and is not repeated: providers lock accounts.
    """
    signer = GrantedToken(provider="example", login=LOGIN)

    with pytest.raises(error, match="example answered the login with"):
        signer.read_grant(Response(status=200, body=body.encode(), received_at=NOW))
