"""
Authenticators by name: HTTP Basic, the grants of OAuth 2.0, and an HMAC of the request.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import penstock_plugins
import pytest
from attrs import frozen
from connector_run import configured, loaded, read
from penstock import (
    AuthenticationError,
    ConfigError,
    Connector,
    ConnectorPlugin,
    Envelope,
    Grant,
    PluginError,
    Request,
    Response,
    SandboxRequest,
    SandboxResponse,
    Secret,
    SourceSettings,
    Stream,
    named,
    record,
    setting,
)
from penstock.sandbox.server import serve
from penstock.testing import FakeClock
from penstock.testing.memory import MemorySink
from penstock_plugins.signatures import HmacSigned
from penstock_plugins.tokens import Basic, Bearer, OAuthClient, OAuthRefresh

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 2, 12, 0, 0, 250_000, tzinfo=UTC)
READ = Request(url="https://api.example/v1/rows", params=(("page", "1"), ("day", "2026-03-01")))


def answer(body: str, status: int = 200) -> Response:
    return Response(status=status, body=body.encode(), received_at=NOW)


def test_basic_is_in_utf_8_and_not_shown() -> None:
    """
    The example of RFC 7617, section 2.1. The header is masked, however short the password is.
    """
    signed = Basic(user="test", password=Secret("123\u00a3")).sign(READ, NOW, None)

    assert signed.headers == (("Authorization", "Basic dGVzdDoxMjPCow=="),)
    assert "Authorization" in signed.masked


def test_a_fixed_token_is_a_bearer_and_not_shown() -> None:
    """
    RFC 6750, section 2.1; another word where a provider writes one.
    """
    signed = Bearer(token=Secret("abc")).sign(READ, NOW, None)

    assert signed.headers == (("Authorization", "Bearer abc"),)
    assert "Authorization" in signed.masked
    assert Bearer(token=Secret("abc"), prefix="Token").sign(READ, NOW, None).headers[0][1] == "Token abc"


def test_a_user_name_of_basic_has_no_colon() -> None:
    """
    The provider would take the rest of it for the password.
    """
    with pytest.raises(ConfigError, match="has a colon"):
        Basic(user="a:b", password=Secret("secret"))


def test_the_client_credentials_are_sent_as_the_provider_expects_them() -> None:
    """
    The client credentials are sent in the body, or by HTTP Basic as in the example of RFC 6749, section 2.3.1.
    """
    client: dict[str, Any] = {"provider": "Shop", "url": "https://login.example/token", "client_id": "s6BhdRkqt3"}
    client["client_secret"] = Secret("gX1fBat3bV")

    in_body = OAuthClient(scope="read all", form={"audience": "api"}, **client).grant_request()
    by_basic = OAuthClient(client_in="basic", **client).grant_request()

    assert in_body.body == (
        b"grant_type=client_credentials&audience=api&scope=read+all&client_id=s6BhdRkqt3&client_secret=gX1fBat3bV"
    )
    assert by_basic.body == b"grant_type=client_credentials"
    assert dict(by_basic.headers)["Authorization"] == "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW"


def test_a_grant_is_a_bearer_token_with_its_life() -> None:
    """
    Client credentials keep nothing for the next grant, even if the provider sends a refresh token; a refused login is
    an error of the credentials.
    """
    signer = OAuthClient(provider="Shop", url="https://login.example/token", client_id="me", client_secret=Secret("se"))

    grant = signer.read_grant(answer('{"access_token": "a-token", "expires_in": 600, "refresh_token": "other"}'))

    assert grant == Grant(Secret("a-token"), 600.0)
    assert signer.sign(READ, NOW, grant).headers == (("Authorization", "Bearer a-token"),)
    with pytest.raises(AuthenticationError, match="check client_id and client_secret"):
        signer.read_grant(answer('{"error": "invalid_client"}', status=401))


def test_a_refresh_token_is_kept_only_if_it_is_renewed() -> None:
    """
    The request is made with the kept one, else with the configured one.
    """
    signer = OAuthRefresh(provider="Shop", url="https://x.example", client_id="me", refresh_token=Secret("first"))

    renewed = signer.read_grant(answer('{"access_token": "a", "refresh_token": "second"}'))

    assert renewed.keep == {"refresh_token": Secret("second")}
    assert signer.read_grant(answer('{"access_token": "a"}')).keep == {}
    for request, token in ((signer.grant_request(), "first"), (signer.renew_request(renewed.keep), "second")):
        assert parse_qs((request.body or b"").decode())["refresh_token"] == [token]


def signed_by(**options: Any) -> HmacSigned:
    return HmacSigned(**{"secret": Secret("Jefe"), "text": "{body}", "headers": {"X-Sign": "{signature}"}, **options})


@pytest.mark.parametrize(
    ("digest", "expected"),
    [
        ("sha256", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (
            "sha512",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b"
            "636e070a38bce737",
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize(
    ("secret", "form"), [("Jefe", "text"), ("4a656665", "hex"), ("SmVmZQ==", "base64")], ids=["text", "hex", "base64"]
)
def test_an_hmac_is_the_standards(digest: str, expected: str, encoding: str, secret: str, form: str) -> None:
    """
    Test case 2 of RFC 4231, with the secret in each form.
    """
    request = Request(method="POST", url="https://api.example", body=b"what do ya want for nothing?")

    signed = signed_by(digest=digest, encoding=encoding, secret=Secret(secret), written_in=form).sign(
        request, NOW, None
    )

    value = dict(signed.headers)["X-Sign"]
    assert (value if encoding == "hex" else base64.b64decode(value).hex()) == expected
    assert "X-Sign" in signed.masked


def test_the_chosen_parts_are_signed_as_they_are_sent() -> None:
    """
    Parameters without the signature are added before it is made, so that the signed query is the sent one.
    """
    signer = signed_by(
        key="k1",
        text="{method}\n{host}{path}?{query}\n{sorted_query}\n"
        "{epoch_s} {epoch_ms} {time:%Y%m%dT%H%M%SZ}\n{body_sha256}",
        headers={"Authorization": "HMAC {key}:{signature}", "X-Time": "{epoch_ms}"},
        params={"sig": "{signature}", "key": "{key}"},
    )

    signed = signer.sign(READ, NOW, None)

    text = (
        "GET\napi.example/v1/rows?page=1&day=2026-03-01&key=k1\nday=2026-03-01&key=k1&page=1\n"
        f"1772452800 1772452800250 20260302T120000Z\n{hashlib.sha256(b'').hexdigest()}"
    )
    signature = hmac.new(b"Jefe", text.encode(), "sha256").hexdigest()
    assert signed.params == (*READ.params, ("key", "k1"), ("sig", signature))
    assert signed.headers == (("Authorization", f"HMAC k1:{signature}"), ("X-Time", "1772452800250"))
    assert str(signed) == "GET https://api.example/v1/rows?page=1&day=2026-03-01&key=k1&sig=***"


def test_a_body_that_is_no_text_is_signed_byte_for_byte() -> None:
    """
    A body that is no text is signed byte for byte, and is not shown where the signature is explained.
    """
    request = Request(method="PUT", url="https://api.example", body=b"\xff\x00\xfe")

    signed = signed_by().sign(request, NOW, None)

    assert dict(signed.headers)["X-Sign"] == hmac.new(b"Jefe", b"\xff\x00\xfe", "sha256").hexdigest()
    assert signed_by().explain(request, NOW) == "signed: '(3 bytes of the body)'"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"text": "{nonce}"}, "unknown in a template: nonce"),
        ({"text": "{signature}"}, "unknown in a template: signature"),
        ({"headers": {"X-Key": "{key}"}}, "neither headers nor params send"),
        ({"written_in": "hex"}, "is not hex"),
        ({"written_in": "base64", "secret": Secret("a?")}, "is not base64"),
    ],
    ids=["unknown", "signs itself", "not sent", "no hex", "no base64"],
)
def test_a_declaration_that_cannot_work_is_refused(options: dict[str, Any], problem: str) -> None:
    """
    A declaration that cannot work is refused where it is declared, before any request.
    """
    with pytest.raises((ValueError, ConfigError), match=problem):
        signed_by(**options)


@record()
class Row:
    """A row."""

    id: int


@pytest.mark.parametrize(
    ("authenticator", "header"),
    [
        (named("basic", user="me", password=Secret("pass-word")), "Basic bWU6cGFzcy13b3Jk"),
        (named("hmac", secret=Secret("Jefe"), text="{path}", headers={"Authorization": "{signature}"}), None),
        ("oauth_client", "Bearer token-1"),
        ("oauth_refresh", "Bearer token-1"),
        (named("header_tokens", headers={"Authorization": Secret("key-of-the-account")}), "key-of-the-account"),
    ],
    ids=["basic", "hmac", "oauth_client", "oauth_refresh", "header_tokens"],
)
def test_a_connector_selects_one_by_name(authenticator: Any, header: str | None, tmp_path: Path) -> None:
    """
    The login is made once, and each request is signed.
    """
    logins, seen = [], []

    def provider(request: SandboxRequest) -> SandboxResponse:
        if request.path == "/token":
            logins.append(parse_qs(request.body.decode())["grant_type"][0])
            return SandboxResponse(body=b'{"access_token": "token-1", "expires_in": 600}')
        seen.append(request.headers["authorization"])
        return SandboxResponse(body=b'{"rows": [{"id": 1}]}')

    def made(settings: Any) -> Any:
        if not isinstance(authenticator, str):
            return authenticator
        more = {"refresh_token": Secret("refresh-me")} if authenticator == "oauth_refresh" else {}
        url, secret = f"{settings.base_url}/token", Secret("the-client-secret")
        return named(authenticator, provider="Shop", url=url, client_id="me", client_secret=secret, **more)

    stream = Stream(
        name="rows",
        summary="rows",
        record=Row,
        kind="snapshot",
        key="id",
        path="/rows",
        envelope=Envelope(items="rows"),
    )
    shop = Connector(name="shop", summary="a shop", settings=SourceSettings, streams=(stream,), authenticator=made)
    with serve(provider) as server:
        settings = SourceSettings(base_url=server.base_url)
        source = configured("shop", settings, plugins=[ConnectorPlugin(shop), penstock_plugins], folder=tmp_path)
        report = read(source, MemorySink(tmp_path / "ledger.db"), "rows", clock=FakeClock(NOW))

    assert report.exit_code == 0, report.errors
    assert seen == [header or hmac.new(b"Jefe", b"/rows", "sha256").hexdigest()]
    grants = {"oauth_client": ["client_credentials"], "oauth_refresh": ["refresh_token"]}
    assert logins == (grants[authenticator] if isinstance(authenticator, str) else [])


@frozen(kw_only=True)
class WithHeaders(SourceSettings):
    developer_token: Secret = setting(help="the token of the client")
    region: str | None = setting(None, help="where the account is")


def test_headers_of_a_connector_are_on_each_request_and_no_download(tmp_path: Path) -> None:
    """
    The headers that a connector declares are on logins and requests, with settings and secrets filled in. One that a
    request has itself stays, one that names a setting without a value is left out, and another origin gets none.
    """
    seen: dict[str, dict[str, str]] = {}

    def provider(request: SandboxRequest) -> SandboxResponse:
        seen[request.path] = request.headers
        token = b'{"access_token": "token-1"}'
        return SandboxResponse(body=token if request.path == "/token" else b'{"rows": [{"id": 1}]}')

    def streams(elsewhere: str) -> Iterator[Stream]:
        download = Request(url=f"{elsewhere}/file", credentials=False)
        for name, request in (("own", {"path": "/rows"}), ("far", {"requests": lambda settings, slice_: download})):
            yield Stream(name=name, record=Row, kind="snapshot", key="id", envelope=Envelope(items="rows"), **request)

    login = {"provider": "Shop", "client_id": "me", "client_secret": Secret("the-client-secret")}
    with serve(provider) as server, serve(provider) as other:
        shop = Connector(
            name="shop",
            summary="a shop",
            settings=WithHeaders,
            streams=tuple(streams(other.base_url)),
            authenticator=lambda settings: named("oauth_client", url=f"{settings.base_url}/token", **login),
            headers={
                "X-Version": "2",
                "developer-token": "{developer_token}",
                "X-Region": "eu-{region}",
                "content-type": "text/plain",
            },
        )
        settings = WithHeaders(base_url=server.base_url, developer_token=Secret("token-of-the-client"))
        source = configured("shop", settings, plugins=[ConnectorPlugin(shop), penstock_plugins], folder=tmp_path)
        report = read(source, MemorySink(tmp_path / "ledger.db"), "own", "far", clock=FakeClock(NOW))

    assert report.exit_code == 0, report.errors
    for path in ("/token", "/rows"):
        assert (seen[path]["x-version"], seen[path]["developer-token"]) == ("2", "token-of-the-client")
    assert seen["/token"]["content-type"] == "application/x-www-form-urlencoded"
    assert seen["/rows"]["authorization"] == "Bearer token-1"
    assert not {"x-region", "developer-token", "x-version"} & seen["/file"].keys()
    assert "x-region" not in seen["/rows"]


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"X-Key": "{developer_tokens}"}, "headers['X-Key'] names 'developer_tokens', which is no setting of"),
        ({"X-Version": 2}, "headers is {'X-Version': 2}; write"),
    ],
    ids=["unknown setting", "no text"],
)
def test_headers_that_cannot_be_filled_break_the_connector(headers: Any, problem: str) -> None:
    """
    A header that names no setting, or is no text, is an error before any request.
    """
    shop = Connector(name="shop", summary="a shop", settings=WithHeaders, headers=headers)

    with pytest.raises(PluginError, match=re.escape(problem)):
        loaded([ConnectorPlugin(shop), penstock_plugins]).connector("shop")


def test_a_wrong_option_of_a_named_one_is_an_error_of_the_plugin() -> None:
    """
    The message has the name and the reason.
    """
    with pytest.raises(PluginError, match="hmac"):
        loaded([penstock_plugins]).component(
            "authenticator", named("hmac", secret=Secret("Jefe"), text="{nonce}", headers={"X": "{signature}"})
        )
