"""Logging in, signing and judging."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from attrs import evolve
from connector_convertr.config import ConvertrSettings
from connector_convertr.source import CONNECTOR, STATUSES, authenticator, check, judge, judge_detail
from connector_convertr.streams import STREAMS
from penstock import (
    Answer,
    AuthenticationError,
    ForbiddenError,
    Grant,
    ProviderError,
    Refuse,
    RefusedError,
    Request,
    Response,
    Retry,
    Secret,
    ServerError,
    Skip,
    Slice,
    ThrottledError,
    mask,
)
from penstock.testing import verdict_on

FIXTURES = Path(__file__).parent / "fixtures"
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SETTINGS = ConvertrSettings(enterprise="acme", username="a+b@lead.example", password=Secret("p&ss wörd"))
READ = Request(url="https://acme.cvtr.io/api/v4/leads", params=(("page", "1"),))


def answered(body: Any = b"", status: int = 200, **headers: str) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=status, headers=tuple(headers.items()), body=raw, received_at=NOW)


def fixture(name: str) -> dict[str, Any]:
    return dict(json.loads((FIXTURES / name).read_text()))


# --- logging in -----------------------------------------------------------------------------------------------------


def test_the_login_is_a_form() -> None:
    """
    Username and password go as a form to the login's own path, and come out of it as they were.
    """
    login = authenticator(SETTINGS).grant_request()

    assert login is not None
    assert (login.method, login.full_url) == ("POST", "https://acme.cvtr.io/api/login")
    assert dict(login.headers)["Content-Type"] == "application/x-www-form-urlencoded"
    assert parse_qs((login.body or b"").decode()) == {"username": ["a+b@lead.example"], "password": ["p&ss wörd"]}


def test_the_older_login_sends_its_client() -> None:
    """
    ``login_style = "oauth"`` requests the older token address, with client and grant type.
    """
    settings = evolve(SETTINGS, login_style="oauth", client_id="1_x", client_secret=Secret("client-secret"))

    login = authenticator(settings).grant_request()

    assert login is not None
    assert login.url == "https://acme.cvtr.io/oauth/v2/token"
    assert parse_qs((login.body or b"").decode()) == {
        "grant_type": ["password"],
        "client_id": ["1_x"],
        "client_secret": ["client-secret"],
        "username": ["a+b@lead.example"],
        "password": ["p&ss wörd"],
    }


def test_the_login_grants_a_token_for_its_life() -> None:
    """
    The answer's token and seconds are taken, and every secret in it is masked from then on.
    """
    answer = fixture("login.synthetic.json")

    grant = authenticator(SETTINGS).read_grant(answered(answer))

    assert grant == Grant(Secret("SYNTHETIC_ACCESS_TOKEN"), 3600.0)
    shown = mask(json.dumps(answer))
    assert not [name for name in ("access_token", "refresh_token", "client_secret") if answer[name] in shown]


@pytest.mark.parametrize(
    ("response", "output"),
    [
        pytest.param(
            answered(fixture("login_password_expired.synthetic.json")), "password has expired", id="expired password"
        ),
        pytest.param(answered({"error": "invalid_grant"}, 400), "check username and password", id="wrong password"),
        pytest.param(answered({"error": "x"}, 401), "check username and password", id="401"),
        pytest.param(answered({}, 404), "login_style", id="other generation"),
        pytest.param(answered({"token_type": "bearer"}), "no 'access_token'", id="no token"),
    ],
)
def test_a_refused_login_states_what_to_do(response: Response, output: str) -> None:
    """
    Every way in which the login fails is refused credentials, with its own advice.
    """
    with pytest.raises(AuthenticationError, match=output):
        authenticator(SETTINGS).read_grant(response)


# --- signing --------------------------------------------------------------------------------------------------------


def test_a_bearer_token_stays_out_of_the_url() -> None:
    """
    By default the token is a header, in place of a stale one of an earlier attempt.
    """
    signer = authenticator(SETTINGS)
    first = signer.sign(READ, NOW, Grant(Secret("token-one")))

    second = signer.sign(first, NOW, Grant(Secret("token-two")))

    assert dict(second.headers) == {"Authorization": "Bearer token-two"}
    assert second.full_url == READ.full_url


@pytest.mark.parametrize("fixed", [False, True], ids=["granted", "configured"])
def test_a_token_in_the_query_is_not_shown(fixed: bool) -> None:
    """
    ``auth_style = "query"`` sends the token as a parameter, which no message shows.
    """
    settings = evolve(SETTINGS, auth_style="query")
    if fixed:
        settings = ConvertrSettings(enterprise="acme", auth_style="query", access_token=Secret("abc"))

    signed = authenticator(settings).sign(READ, NOW, None if fixed else Grant(Secret("abc")))

    assert signed.params == (("page", "1"), ("access_token", "abc"))
    assert str(signed).endswith("?page=1&access_token=***")


def test_a_configured_token_needs_no_login() -> None:
    """
    An access token of one's own is sent as it is.
    """
    signer = authenticator(ConvertrSettings(enterprise="acme", access_token=Secret("my-own-token")))

    assert signer.grant_request() is None
    assert dict(signer.sign(READ, NOW, None).headers) == {"Authorization": "Bearer my-own-token"}


# --- judging --------------------------------------------------------------------------------------------------------

HYDRA = {"@type": "hydra:Error", "hydra:title": "An error occurred", "hydra:description": "the reason"}


@pytest.mark.parametrize(
    ("status", "error", "output"),
    [
        pytest.param(400, RefusedError, "Check filters and cursor_field", id="bad filter"),
        pytest.param(403, ForbiddenError, "password may have expired", id="no permission"),
        pytest.param(404, RefusedError, "Check enterprise or base_url", id="no such address"),
        pytest.param(422, RefusedError, "Check filters and cursor_field", id="violations"),
    ],
)
def test_refusals_give_the_provider_s_reason(status: int, error: type[ProviderError], output: str) -> None:
    """
    A final answer is refused with its status, the provider's reason and advice.
    """
    verdict = verdict_on(answered(HYDRA, status), CONNECTOR)

    assert isinstance(verdict, Refuse)
    assert type(verdict.error) is error
    assert output in str(verdict.error)
    assert f"HTTP {status}: the reason. " in str(verdict.error)


def test_an_expired_token_is_renewed_once() -> None:
    """
    A 401 leads to a new login before it counts as refused.
    """
    verdict = verdict_on(answered({"error": "invalid_grant", "error_description": "expired"}, 401), CONNECTOR)

    assert isinstance(verdict, Retry)
    assert verdict.renew
    assert isinstance(verdict.error, AuthenticationError)


def test_too_many_requests_slow_the_whole_source_down() -> None:
    """
    A 429 is tried again after the pause that its header names, or the source's own, which add up to the five minutes.
    """
    verdict = verdict_on(answered(HYDRA, 429), CONNECTOR)

    assert isinstance(verdict, Retry)
    assert isinstance(verdict.error, ThrottledError)
    assert verdict.throttle
    assert CONNECTOR.limits.cool_down_s * SETTINGS.retries >= 300


@pytest.mark.parametrize("status", [200, 408, 425, 500, 502, 503])
def test_the_rest_is_left_to_the_status(status: int) -> None:
    """
    Good answers and passing trouble need no rule of their own.
    """
    assert judge(answered(HYDRA, status), Answer()) is None
    assert status not in STATUSES


def test_an_error_under_200_is_requested_again() -> None:
    """
    An error body that arrives as a success is an error.
    """
    verdict = judge(answered(HYDRA), Answer(problem="no items"))

    assert isinstance(verdict, Retry)
    assert isinstance(verdict.error, ServerError)
    assert "the reason" in str(verdict.error)


@pytest.mark.parametrize(
    ("body", "output"),
    [
        pytest.param({"hydra:title": "T", "hydra:description": "D"}, "D", id="hydra"),
        pytest.param({"title": "T", "detail": "D", "status": 400}, "D", id="problem details"),
        pytest.param({"hydra:title": "T", "hydra:description": " "}, "T", id="empty description"),
        pytest.param({"error": "invalid_grant", "error_description": "D"}, "D", id="oauth"),
        pytest.param({"error": "invalid_grant"}, "invalid_grant", id="oauth without description"),
        pytest.param({"error": {"code": 400, "message": "D"}}, "D", id="nested"),
        pytest.param(b"<html>gateway</html>", "HTTP 400: gateway", id="html"),
        pytest.param(b"", "HTTP 400. Check", id="empty"),
        pytest.param(b"[" * 200_000, "[[[", id="nested too deeply"),
    ],
)
def test_the_reason_is_read_in_every_spelling(body: Any, output: str) -> None:
    """
    The message has the reason of every form of error body; a long one is cut.
    """
    verdict = verdict_on(answered(body, 400), CONNECTOR)

    assert isinstance(verdict, Refuse)
    assert output in str(verdict.error)
    assert len(str(verdict.error)) < 500


def test_a_token_in_an_error_body_is_masked() -> None:
    """
    A provider that quotes the token does not bring it into our messages.
    """
    Secret("quoted-token-value")

    verdict = verdict_on(answered({"hydra:description": "bad quoted-token-value"}, 400), CONNECTOR)

    assert isinstance(verdict, Refuse)
    assert "bad ***" in str(verdict.error)


def test_a_single_object_that_is_gone_is_skipped() -> None:
    """
    A 404 of a detail read is no failure; an error in place of the object is one.
    """
    (detail,) = (stream for stream in STREAMS if stream.name == "lead")

    assert isinstance(verdict_on(answered(HYDRA, 404), CONNECTOR, detail), Skip)
    assert isinstance(verdict_on(answered(HYDRA), CONNECTOR, detail), Retry)
    assert isinstance(judge_detail(answered(HYDRA), Answer()), Retry)
    assert judge_detail(answered(fixture("leads.json")["hydra:member"][0]), Answer()) is None


def test_the_check_is_one_small_read() -> None:
    """
    Credentials are tried on one campaign.
    """
    requested = check(SETTINGS, Slice(now=NOW))

    assert requested.full_url == "https://acme.cvtr.io/api/v4/campaigns?itemsPerPage=1&page=1"
