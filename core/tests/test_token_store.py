"""
Tokens that change with every grant: kept on the disk before they are used, by one process at a time.
"""

import json
import stat
import subprocess
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

import penstock_plugins
import pytest
from attrs import frozen
from connector_run import configured_in, read
from penstock import (
    AuthenticationError,
    Connector,
    ConnectorPlugin,
    Envelope,
    Request,
    Response,
    SandboxRequest,
    SandboxResponse,
    Secret,
    SourceSettings,
    Stream,
    record,
    setting,
)
from penstock._fetch.token_store import TokenStore
from penstock.errors import ConfigError, PluginError
from penstock.sandbox.server import serve
from penstock.testing.clock import Clock, FakeClock
from penstock.testing.memory import MemorySink
from penstock_plugins.tokens import OAuthRefresh

pytestmark = pytest.mark.slow

FIRST = "refresh-token-0"


class Provider:
    """Grants a token for a refresh token that is good for one use. ``former``: the one before it is taken, too."""

    def __init__(self, *, former: bool = False) -> None:
        self.former = former
        self.valid = [FIRST]
        self.used: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        with self._lock:
            (token,) = parse_qs(request.body.decode())["refresh_token"]
            self.used.append(token)
            if token not in (self.valid[-2:] if self.former else self.valid[-1:]):
                return SandboxResponse(status=400, body=b'{"error": "invalid_grant"}')
            self.valid.append(f"refresh-token-{len(self.valid)}")
            granted = {"access_token": f"access-token-{len(self.valid)}", "refresh_token": self.valid[-1]}
            return SandboxResponse(body=json.dumps(granted).encode())

    def send(self, request: Request) -> Response:
        answer = self(SandboxRequest(method=request.method, target=request.url, headers={}, body=request.body or b""))
        return Response(
            status=answer.status, headers=(), body=answer.body, received_at=datetime(2026, 3, 2, tzinfo=UTC)
        )


def signer(token: str = FIRST) -> OAuthRefresh:
    return OAuthRefresh(provider="Shop", url="https://login.example/token", refresh_token=Secret(token), client_id="me")


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / ".penstock" / "tokens" / "shop.json", FakeClock())


def test_each_grant_uses_what_the_one_before_kept(store: TokenStore) -> None:
    """
    The file is there before the grant is returned, for its owner only.
    """
    provider = Provider()

    tokens = [store.log_in(None, signer(), provider.send).token.reveal() for _ in range(3)]

    assert tokens == ["access-token-2", "access-token-3", "access-token-4"]
    assert provider.used == [FIRST, "refresh-token-1", "refresh-token-2"]
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (store.path.parent, store.path.parent.parent)] == [
        0o700
    ] * 2
    assert "access-token" not in store.path.read_text()


def test_accounts_have_tokens_of_their_own(store: TokenStore) -> None:
    """
    One file, an entry for each, however many there are: a token that is dropped locks its account out.
    """
    sellers = {f"seller-{number}": Provider() for number in range(60)}

    for _ in range(2):
        for account, provider in sellers.items():
            store.log_in(account, signer(), provider.send)

    assert {tuple(provider.used) for provider in sellers.values()} == {(FIRST, "refresh-token-1")}


def test_a_process_killed_before_the_write_leaves_a_usable_token(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The provider has a newer token than the disk. The kept one is used once more, where the provider accepts the former
    token.
    """
    provider = Provider(former=True)
    store.log_in(None, signer(), provider.send)

    def killed(name: str) -> None:
        raise KeyboardInterrupt(name)

    with monkeypatch.context() as patched:
        patched.setattr("penstock._fetch.token_store.fault_point", killed)
        with pytest.raises(KeyboardInterrupt, match=r"token\.granted"):
            store.log_in(None, signer(), provider.send)

    assert store.log_in(None, signer(), provider.send).token.reveal() == "access-token-4"
    assert provider.used[-2:] == ["refresh-token-1", "refresh-token-1"]


def test_the_former_token_is_tried_where_the_newest_is_refused(store: TokenStore) -> None:
    """
    Where the newest token is refused, the former one is tried, and at last the configured one. What was granted is kept
    in their place.
    """
    provider = Provider()
    for _ in range(2):
        store.log_in(None, signer(), provider.send)

    provider.valid.append("refresh-token-1")  # the provider went back
    store.log_in(None, signer(), provider.send)
    assert provider.used[-2:] == ["refresh-token-2", "refresh-token-1"]
    provider.valid.append(FIRST)
    store.log_in(None, signer(), provider.send)
    assert provider.used[-3:] == ["refresh-token-4", "refresh-token-1", FIRST]
    store.log_in(None, signer(), provider.send)
    assert provider.used[-1] == "refresh-token-6"


def test_tokens_that_are_all_refused_are_an_error_with_advice(store: TokenStore) -> None:
    """
    The file is named, and what to do at the provider.
    """
    provider = Provider()
    store.log_in(None, signer(), provider.send)
    provider.valid.append("of-another-program")

    with pytest.raises(AuthenticationError, match=r"shop\.json were refused, and so was the configured one: authorise"):
        store.log_in(None, signer(), provider.send)


def test_a_new_authorisation_begins_with_the_configured_token(store: TokenStore) -> None:
    """
    Tokens kept for an older one are not used for it, and not lost.
    """
    provider = Provider()
    store.log_in(None, signer(), provider.send)
    other = Provider()
    other.valid = ["refresh-token-of-today"]

    store.log_in(None, signer("refresh-token-of-today"), other.send)

    assert other.used == ["refresh-token-of-today"]
    store.log_in(None, signer(), provider.send)
    assert provider.used == [FIRST, "refresh-token-1"]


def test_an_authenticator_that_requests_no_second_token_is_named(store: TokenStore) -> None:
    """
    An authenticator whose ``grant_request`` returns nothing at a login is named.
    """

    class Once(OAuthRefresh):
        def grant_request(self) -> None:  # type: ignore[override]
            return None

    once = Once(provider="Shop", url="https://login.example/token", refresh_token=Secret(FIRST), client_id="me")
    with pytest.raises(PluginError, match=r"Once\.grant_request .*returned nothing; write return the Request"):
        store.log_in(None, once, Provider().send)


def test_threads_take_turns(tmp_path: Path) -> None:
    """
    No token is used twice, although each thread has a store of its own.
    """
    provider, path = Provider(), tmp_path / "tokens.json"
    threads = [
        threading.Thread(target=lambda: TokenStore(path, Clock()).log_in(None, signer(), provider.send))
        for _ in range(6)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert provider.used == [f"refresh-token-{number}" for number in range(6)]


def test_a_store_that_is_held_for_too_long_is_an_error(store: TokenStore) -> None:
    """
    A login waits for the one before, in this process or another, for a while; it requests nothing meanwhile.
    """
    provider, waiting = Provider(), Provider()

    def send(request: Request) -> Response:
        with pytest.raises(ConfigError, match=r"another process holds .*shop\.json for more than 300 s"):
            TokenStore(store.path, FakeClock()).log_in(None, signer(), waiting.send)
        return provider.send(request)

    assert store.log_in(None, signer(), send).token.reveal() == "access-token-2"
    assert waiting.used == []


PROCESS = """
import sys
from pathlib import Path
from penstock import Response, Secret
from penstock._fetch.token_store import TokenStore
from penstock._fetch.transport import Transport
from penstock._util.clock import Clock
from penstock_plugins.tokens import OAuthRefresh

url, path = sys.argv[1:]
send = Transport(timeout_s=10, max_body_bytes=1 << 20, connections=1, proxy=None, ca_file=None, allow_http=True,
                 base_origin=url, clock=Clock())
signer = OAuthRefresh(provider="Shop", url=url, refresh_token=Secret("refresh-token-0"), client_id="me")
for _ in range(5):
    TokenStore(Path(path), Clock()).log_in(None, signer, send)
"""


def test_processes_take_turns(tmp_path: Path) -> None:
    """
    Each goes on from the tokens of the other.
    """
    provider = Provider()
    with serve(provider) as server:
        command = [sys.executable, "-c", PROCESS, server.base_url, str(tmp_path / "tokens.json")]
        processes = [subprocess.Popen(command) for _ in range(2)]
        assert [process.wait(60) for process in processes] == [0, 0]

    assert provider.used == [f"refresh-token-{number}" for number in range(10)]


def test_a_store_that_cannot_be_used_is_an_error_before_any_request(tmp_path: Path) -> None:
    """
    A token that cannot be kept is not used up.
    """
    provider = Provider()
    (tmp_path / "file").write_text("")
    (tmp_path / "broken.json").write_text("{")

    with pytest.raises(ConfigError, match="set token_store to a file that can be written"):
        TokenStore(tmp_path / "file" / "shop.json", FakeClock()).log_in(None, signer(), provider.send)
    with pytest.raises(ConfigError, match="is no token store of this version of penstock; move it away"):
        TokenStore(tmp_path / "broken.json", FakeClock()).log_in(None, signer(), provider.send)
    assert provider.used == []


# --- a run ------------------------------------------------------------------------------------------------------------


@record()
class Sale:
    id: int


@frozen(kw_only=True)
class ShopSettings(SourceSettings):
    base_url: str = setting(help="where the shop answers")
    login_url: str = setting(help="where the shop grants tokens")
    refresh_token: Secret = setting(help="from the authorisation")


def streams() -> Iterable[Stream]:
    yield Stream(
        name="sales",
        summary="sales",
        record=Sale,
        kind="snapshot",
        key="id",
        requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/sales")],
        envelope=Envelope(items="data"),
    )


SHOP = Connector(
    name="shop",
    summary="a shop",
    settings=ShopSettings,
    streams=tuple(streams()),
    origins=("login_url",),
    authenticator=lambda settings: OAuthRefresh(
        provider="Shop", url=settings.login_url, refresh_token=settings.refresh_token, client_id="me"
    ),
)


@pytest.mark.parametrize("setting_", ["", 'token_store = "elsewhere/shop-tokens.json"'], ids=["default", "configured"])
def test_runs_go_on_from_the_kept_token_and_write_it_nowhere_else(tmp_path: Path, setting_: str) -> None:
    """
    The login is at another origin that the connector declares. The store lies beside the configuration.
    """
    provider, seen = Provider(), []

    def api(request: SandboxRequest) -> SandboxResponse:
        seen.append(request.headers["authorization"])
        return SandboxResponse(body=b'{"data": [{"id": 1}]}')

    file = tmp_path / "penstock.toml"
    with serve(provider) as login, serve(api) as server:
        file.write_text(f'[source.shop]\nbase_url = "{server.base_url}"\nlogin_url = "{login.base_url}"\n{setting_}\n')
        environ = {"PENSTOCK_SOURCE__SHOP__REFRESH_TOKEN": FIRST}
        for _ in range(2):
            source = configured_in(file, "shop", plugins=[ConnectorPlugin(SHOP), penstock_plugins], environ=environ)
            assert read(source, MemorySink(tmp_path / "data" / "ledger.db"), "sales").exit_code == 0

    assert seen == ["Bearer access-token-2", "Bearer access-token-3"]
    assert provider.used == [FIRST, "refresh-token-1"]
    store = tmp_path / ("elsewhere/shop-tokens.json" if setting_ else ".penstock/tokens/shop.json")
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and b"refresh-token-2" in path.read_bytes()]
    assert holding == [store]
