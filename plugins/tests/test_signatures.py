"""
Signatures that a library makes, checked as a provider does: JWT with a private key, and OAuth 1.0a.
"""

import base64
import hmac
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import penstock_plugins
import pytest
from attrs import frozen
from connector_run import configured, read
from penstock import (
    ConfigError,
    Connector,
    ConnectorPlugin,
    Project,
    Request,
    SandboxRequest,
    SandboxResponse,
    Secret,
    SourceSettings,
    Stream,
    UsageError,
    mask,
    named,
    record,
    setting,
)
from penstock.sandbox.server import serve
from penstock.testing import FakeClock
from penstock.testing.memory import MemorySink
from penstock_plugins.signatures import HmacSigned, OAuth1, SignedJwt
from penstock_plugins.sink_kinds import POSTGRES
from penstock_plugins.tokens import OAuthJwt

pytestmark = pytest.mark.slow

jwt = pytest.importorskip("jwt", reason="needs the dependency group signatures")
oauth1 = pytest.importorskip("oauthlib.oauth1", reason="needs the dependency group signatures")

NOW = datetime(2026, 3, 2, 12, 0, 0, 250_000, tzinfo=UTC)
READ = Request(url="https://api.example/v1/rows", params=(("page", "1"), ("day", "2026-03-01"), ("q", "a b&c=d/é")))
PEM = "-----{0} {1} KEY-----\n{2}\n-----END {1} KEY-----".format("BEGIN", "PRIVATE", "{}")
TOKEN_URL = "https://login.example/token"


@cache
def keys(kind: str) -> tuple[str, Any]:
    """A private key as PEM, and its public key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    private: Any = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode(), private.public_key()


def claims_of(token: str, audience: str, kind: str = "rsa", algorithm: str = "RS256") -> dict[str, Any]:
    """The claims of a token whose signature holds. Its times are compared with ``NOW``, not with the clock."""
    checks = {"verify_exp": False, "verify_iat": False}
    found: dict[str, Any] = jwt.decode(token, keys(kind)[1], algorithms=[algorithm], audience=audience, options=checks)
    return found


def a_login(**options: Any) -> OAuthJwt:
    return OAuthJwt(url=TOKEN_URL, client_id="app-1", private_key=Secret(keys("rsa")[0]), **options)


def test_a_jwt_is_the_grant_of_a_service_account() -> None:
    """
    RFC 7523, section 2.1. The time is that of the login, corrected to the provider's clock.
    """
    login = a_login(issuer="robot@example", scope="reports", claims={"scope": "reports"}, key_id="k1")

    sent = login.sign_login(login.grant_request(), NOW)
    form = {name: values[0] for name, values in parse_qs((sent.body or b"").decode()).items()}
    claims = claims_of(form["assertion"], TOKEN_URL)

    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert form["scope"] == "reports"
    assert "client_id" not in form
    assert jwt.get_unverified_header(form["assertion"])["kid"] == "k1"
    assert (claims["iss"], claims["aud"], claims["scope"]) == ("robot@example", TOKEN_URL, "reports")
    assert (claims["iat"], claims["exp"]) == (1772452800, 1772453100)


def test_a_jwt_stands_for_the_secret_of_a_client() -> None:
    """
    RFC 7523, section 2.2: issuer and subject are the client, and each JWT has an id of its own.
    """
    login = a_login(grant="client_credentials")
    forms = []
    for later in (0, 1):
        sent = login.sign_login(login.grant_request(), NOW + timedelta(microseconds=later))
        forms.append({name: values[0] for name, values in parse_qs((sent.body or b"").decode()).items()})
    first, second = (claims_of(form["client_assertion"], TOKEN_URL) for form in forms)

    assert forms[0]["grant_type"] == "client_credentials"
    assert forms[0]["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert (first["iss"], first["sub"]) == ("app-1", "app-1")
    assert first["jti"] != second["jti"]


def test_a_jwt_for_each_attempt_needs_no_login() -> None:
    """
    A JWT made for each attempt is in its header, with the time of the attempt, and is not shown.
    """
    signer = SignedJwt(private_key=Secret(keys("ec")[0]), issuer="team", audience="store", algorithm="ES256")

    signed = signer.sign(READ, NOW, None)
    token = dict(signed.headers)["Authorization"].removeprefix("Bearer ")

    assert signer.grant_request() is None
    assert claims_of(token, "store", "ec", "ES256")["iss"] == "team"
    assert "Authorization" in signed.masked


def test_signatures_are_masked_where_a_provider_repeats_them() -> None:
    """
    A JWT without its header, the JWT of a login, and the signature out of a header of OAuth 1.0a and of an HMAC.
    """
    signer = SignedJwt(private_key=Secret(keys("ec")[0]), issuer="team", audience="store", algorithm="ES256")
    token = dict(signer.sign(READ, NOW, None).headers)["Authorization"].removeprefix("Bearer ")
    login = a_login(grant="client_credentials")
    (assertion,) = parse_qs((login.sign_login(login.grant_request(), NOW).body or b"").decode())["client_assertion"]
    header = dict(OAuth1(consumer_key="app", consumer_secret=Secret("s3cr3t")).sign(READ, NOW, None).headers)
    signature = header["Authorization"].partition('oauth_signature="')[2].partition('"')[0]
    hashed = HmacSigned(secret=Secret("s3cr3t"), text="{path}", headers={"X-Auth": "HMAC app:{signature}"})
    digest = dict(hashed.sign(READ, NOW, None).headers)["X-Auth"].rpartition(":")[2]

    for value in (token, assertion, signature, unquote(signature), digest):
        assert mask(f"refused: {value}!") == "refused: ***!"


@pytest.mark.parametrize("key", ["no key", PEM.format("abc")])
def test_a_text_that_is_no_private_key_is_a_mistake_in_the_configuration(key: str) -> None:
    """
    The message does not quote it.
    """
    with pytest.raises(ConfigError, match="the private key is no PEM for RS256") as refused:
        SignedJwt(private_key=Secret(key), issuer="a", audience="b")
    assert "abc" not in str(refused.value)


def test_a_run_with_such_a_key_requests_nothing(tmp_path: Path) -> None:
    """
    A run whose key cannot sign requests nothing, ends as with any other mistake in the configuration, and names the
    account.
    """

    @frozen(kw_only=True)
    class Settings(SourceSettings):
        private_key: Secret = setting(help="the key", per_account=True)

    connector = Connector(
        name="shop",
        summary="",
        settings=Settings,
        authenticator=lambda settings: named("signed_jwt", private_key=settings.private_key, issuer="a", audience="b"),
        streams=[
            Stream(name="rows", summary="", record=Row, kind="snapshot", key="id", account="account", path="/rows")
        ],
    )
    accounts = {"alpha": {"private_key": keys("rsa")[0]}, "beta": {"private_key": "no key"}}
    config = {"source": {"shop": {"base_url": "http://127.0.0.1:1", "accounts": accounts}}}
    project = Project(config, plugins=[penstock_plugins, ConnectorPlugin(connector)], environ={})

    with pytest.raises(ConfigError, match=r"^source\.shop\.accounts\.beta: the private key is no PEM") as refused:
        project.run("shop", to=f"jsonl:{tmp_path}")
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("method", ["HMAC-SHA1", "HMAC-SHA256", "PLAINTEXT", "RSA-SHA256"])
@pytest.mark.parametrize("form", [False, True], ids=["get", "form"])
def test_a_provider_accepts_the_signature_of_oauth_1(method: Any, form: bool) -> None:
    """
    The base string is made anew from the request as it leaves; nonce and time are those of the attempt.
    """
    private = keys("rsa")[0] if method.startswith("RSA") else None
    signer = OAuth1(
        consumer_key="app",
        consumer_secret=Secret("app secret"),
        token="user",
        token_secret=Secret("user secret"),
        method=method,
        rsa_key=None if private is None else Secret(private),
    )
    request = READ
    if form:
        headers = (("Content-Type", "application/x-www-form-urlencoded"),)
        request = Request(method="POST", url=READ.url, headers=headers, body=b"day=2026-03-01&q=a+b")

    signed = signer.sign(request, NOW, None)

    header = dict(signed.headers)["Authorization"]
    assert accepted(signed, header, method)
    assert "Authorization" in signed.masked
    assert 'oauth_timestamp="1772452800"' in header
    assert signer.sign(request, NOW + timedelta(microseconds=1), None).headers != signed.headers


def accepted(request: Request, header: str, method: str) -> bool:
    """What a provider computes: the signature of the request that it received."""
    from oauthlib.oauth1.rfc5849 import signature as of

    given = dict(of.collect_parameters(headers={"Authorization": header}, exclude_oauth_signature=False))
    body = request.body.decode() if request.body else ""
    query = request.full_url.partition("?")[2]
    params = of.collect_parameters(uri_query=query, body=body, headers={"Authorization": header})
    base = of.signature_base_string(request.method, of.base_string_uri(request.url), of.normalize_parameters(params))
    if method == "PLAINTEXT":
        return given["oauth_signature"] == of.sign_plaintext("app secret", "user secret")
    made = base64.b64decode(given["oauth_signature"])
    if method.startswith("RSA"):
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        keys("rsa")[1].verify(made, base.encode(), padding.PKCS1v15(), hashes.SHA256())
        return True
    digest = {"HMAC-SHA1": "sha1", "HMAC-SHA256": "sha256"}[method]
    return made == hmac.digest(b"app%20secret&user%20secret", base.encode(), digest)


def test_a_signature_without_its_key_is_a_mistake() -> None:
    """
    A signature without its key is reported before the first request.
    """
    with pytest.raises(ConfigError, match="RSA-SHA1 signs with a private key"):
        OAuth1(consumer_key="app", method="RSA-SHA1")


@pytest.mark.parametrize(
    ("library", "make", "extra"),
    [
        ("jwt", lambda: SignedJwt(private_key=Secret("x"), issuer="a", audience="b"), "extra jwt of"),
        ("cryptography", lambda: SignedJwt(private_key=Secret("x"), issuer="a", audience="b"), "extra jwt of"),
        ("psycopg", lambda: POSTGRES.open(POSTGRES.parse("postgresql://here")), "extra postgres of"),
        ("oauthlib.oauth1", lambda: OAuth1(consumer_key="a"), "extra oauth1 of"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    library: str, make: Any, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nothing else of penstock needs it.
    """
    monkeypatch.setitem(sys.modules, library, None)
    for name in [name for name in sys.modules if name.startswith("penstock_plugins.postgres.")]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(UsageError, match=extra):
        make()


@record(kind="snapshot", key="id")
class Row:
    id: str


def test_a_run_logs_in_with_a_jwt(tmp_path: Path) -> None:
    """
    The assertion carries the time of the run's clock, and the token is used for the requests.
    """
    assertions = []

    def provider(request: SandboxRequest) -> SandboxResponse:
        if request.path == "/token":
            assertions.append(parse_qs(request.body.decode())["assertion"][0])
            return SandboxResponse(body=b'{"access_token": "t-1", "expires_in": 3600}')
        allowed = request.headers.get("authorization") == "Bearer t-1"
        return SandboxResponse(status=200 if allowed else 401, body=b'[{"id": "1"}]')

    key = Secret(keys("rsa")[0])
    connector = Connector(
        name="acme",
        summary="",
        settings=SourceSettings,
        authenticator=lambda settings: named("oauth_jwt", url=settings.url("/token"), client_id="app", private_key=key),
        streams=[Stream(name="rows", summary="", record=Row, path="/rows")],
    )
    sink = MemorySink(tmp_path / "ledger.sqlite")
    clock = FakeClock(NOW)
    with serve() as server:
        server.app = provider
        settings = SourceSettings(base_url=server.base_url)
        source = configured("acme", settings, plugins=[ConnectorPlugin(connector), penstock_plugins], folder=tmp_path)
        report = read(source, sink, "rows", clock=clock)

    assert report.exit_code == 0, report.errors
    assert claims_of(assertions[0], f"{server.base_url}/token")["iat"] == int(NOW.timestamp())
