"""Settings of a Convertr source, and the filters in them."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from connector_convertr.config import ConvertrSettings
from connector_convertr.filters import DOCUMENTED, parameters
from penstock import Secret

FIXTURES = Path(__file__).parent / "fixtures"
LOGIN: dict[str, Any] = {"username": "a@lead.example", "password": Secret("long password")}


@pytest.mark.parametrize(
    ("given", "base_url"),
    [
        pytest.param({"enterprise": "acme"}, "https://acme.cvtr.io", id="made from the enterprise"),
        pytest.param({"enterprise": "a"}, "https://a.cvtr.io", id="of one letter"),
        pytest.param({"base_url": "http://127.0.0.1:8000/"}, "http://127.0.0.1:8000", id="given, its slash dropped"),
        pytest.param({"enterprise": "acme", "base_url": "https://b.example"}, "https://b.example", id="given wins"),
    ],
)
def test_base_url_is_always_final(given: dict[str, Any], base_url: str) -> None:
    """
    The base URL comes from the enterprise unless it is given.
    """
    assert ConvertrSettings(**LOGIN, **given).base_url == base_url


@pytest.mark.parametrize(
    "enterprise", ["", "acme.evil.example/", "acme.evil.example#", "a@b", "Acme", "-a", "a-", "a b", "äcme", "acme\n"]
)
def test_an_enterprise_is_a_sub_domain_and_nothing_else(enterprise: str) -> None:
    """
    A value that could lead the credentials to another host is refused.
    """
    with pytest.raises(ValueError, match="sub-domain"):
        ConvertrSettings(**LOGIN, enterprise=enterprise)


@pytest.mark.parametrize(
    ("given", "output"),
    [
        pytest.param(LOGIN, "enterprise is missing", id="no enterprise"),
        pytest.param({"enterprise": "a"}, "username and password are missing", id="no credentials"),
        pytest.param({"enterprise": "a", "username": "u"}, "username and password are missing", id="no password"),
        pytest.param({"enterprise": "a", **LOGIN, "access_token": Secret("tokentoken")}, "keep one", id="both ways"),
        pytest.param({"enterprise": "a", **LOGIN, "login_style": "oauth"}, "client_id", id="oauth without its client"),
    ],
)
def test_incomplete_settings_are_refused_with_the_missing_key(given: dict[str, Any], output: str) -> None:
    """
    A source that could not log in is refused before any request.
    """
    with pytest.raises(ValueError, match=output):
        ConvertrSettings(**given)


def test_a_token_needs_no_user() -> None:
    """
    An access token stands for username and password, whatever the login style.
    """
    settings = ConvertrSettings(enterprise="a", access_token=Secret("tokentoken"), login_style="oauth")

    assert settings.username is None


def test_secrets_do_not_print() -> None:
    """
    Neither password nor client secret can be seen in the settings' text.
    """
    settings = ConvertrSettings(
        **LOGIN, enterprise="a", login_style="oauth", client_id="1_x", client_secret=Secret("client secret")
    )

    assert "long password" not in repr(settings)
    assert "client secret" not in repr(settings)


# --- filters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", DOCUMENTED)
def test_the_filters_are_the_documented_ones(stream: str) -> None:
    """
    The names of each collection are exactly those of the template in the provider's sample answer.
    """
    template: str = json.loads((FIXTURES / f"{stream}.json").read_text())["hydra:search"]["hydra:template"]

    assert sorted(DOCUMENTED[stream]) == sorted(template.partition("{?")[2].rstrip("}").split(","))


@pytest.mark.parametrize(
    ("stream", "given", "sent"),
    [
        pytest.param("campaigns", {"name": "A & B"}, [("name", "A & B")], id="one value"),
        pytest.param(
            "campaigns", {"status[]": ["Active", "Held"]}, [("status[]", "Active"), ("status[]", "Held")], id="any of"
        ),
        pytest.param("campaigns", {"id": [1, 2]}, [("id[]", "1"), ("id[]", "2")], id="a list takes the brackets"),
        pytest.param("campaigns", {"status[]": "Active"}, [("status[]", "Active")], id="a list of one"),
        pytest.param("campaign_publishers", {"latest": True}, [("latest", "true")], id="true"),
        pytest.param("campaign_processr_jobs", {"alwaysDeliver": False}, [("alwaysDeliver", "false")], id="false"),
        pytest.param(
            "campaigns",
            {"startTs[after]": datetime(2026, 3, 1, tzinfo=UTC)},
            [("startTs[after]", "2026-03-01T00:00:00+00:00")],
            id="a moment",
        ),
        pytest.param("campaigns", {"order[name]": "desc"}, [("order[name]", "desc")], id="an order"),
        pytest.param("leads", {"createdTs[after]": "2026-03-01T00:00:00+01:00"},
                     [("createdTs[after]", "2026-03-01T00:00:00+01:00")], id="the time that is no cursor"),
    ],
)  # fmt: skip
def test_filters_become_parameters(stream: str, given: dict[str, Any], sent: list[tuple[str, str]]) -> None:
    """
    A documented filter is sent as it is meant, lists as one parameter each.
    """
    filters = {stream: given}

    assert list(parameters(given)) == sent
    assert ConvertrSettings(**LOGIN, enterprise="a", filters=filters).filters == filters


@pytest.mark.parametrize(
    ("filters", "output"),
    [
        pytest.param({"lead": {"id": 1}}, 'Did you mean "leads"', id="unknown stream"),
        pytest.param({"campaigns": {"stauts[]": ["Active"]}}, 'Did you mean "status', id="nearest name"),
        pytest.param({"campaigns": {"zzzzzzz": 1}}, "There are accountManager", id="nothing near"),
        pytest.param({"campaigns": {"page": 2}}, "no documented filter", id="paging is not a filter"),
        pytest.param({"leads": {"updatedTs[after]": "2026-03-01T00:00:00Z"}}, "--since", id="the cursor"),
        pytest.param({"campaigns": {"endTs[before]": "2026-03-01"}}, "offset", id="a bare date loses its day"),
        pytest.param({"campaigns": {"endTs[before]": date(2026, 3, 1)}}, "offset", id="a date of TOML likewise"),
        pytest.param({"campaigns": {"endTs[before]": datetime(2026, 3, 1)}}, "offset", id="no offset"),  # noqa: DTZ001
        pytest.param({"campaigns": {"endTs[before]": 5}}, "offset", id="a number for a time"),
        pytest.param({"campaigns": {"name": ["a", "b"]}}, "takes one value", id="a list for one value"),
        pytest.param({"campaigns": {"status": "Active"}}, 'takes a list; write "status[]"', id="one value for a list"),
        pytest.param({"campaigns": {"id[]": []}}, "empty list", id="an empty list"),
        pytest.param({"campaigns": {"name": {"a": 1}}}, "expected a text", id="a table for a value"),
        pytest.param({"campaigns": {"order[id]": "down"}}, '"asc" or "desc"', id="no order"),
        pytest.param({"campaigns": "Active"}, "expected a table", id="no table"),
    ],
)
def test_filters_that_cannot_be_sent_are_refused(filters: Any, output: str) -> None:
    """
    A filter that the provider would ignore or misread never gets out of the configuration.
    """
    with pytest.raises(ValueError, match=output.replace("[", r"\[")):
        ConvertrSettings(**LOGIN, enterprise="a", filters=filters)


def test_the_other_time_is_guarded_when_it_is_the_cursor() -> None:
    """
    With ``cursor_field = "createdTs"`` the bounds of that time belong to the plan.
    """
    filters = {"leads": {"createdTs[after]": "2026-03-01T00:00:00+00:00"}}

    with pytest.raises(ValueError, match="decide createdTs"):
        ConvertrSettings(**LOGIN, enterprise="a", cursor_field="createdTs", filters=filters)
