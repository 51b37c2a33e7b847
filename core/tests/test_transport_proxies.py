"""
The transport through proxies, and over TLS with certificates of an own authority.
"""

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from penstock.errors import (
    BoundExceededError,
    ConfigError,
    PenstockError,
    TransportError,
    UntrustedError,
)
from penstock.model import Request
from penstock.sandbox import FAULTS, with_faults
from penstock.sandbox.server import Server, serve
from transports import GOOD, Make, good, transports

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(good) as running:
        yield running


@pytest.fixture
def make(server: Server) -> Iterator[Make]:
    with transports(server) as make:
        yield make


def test_proxy_gets_the_whole_url(server: Server, make: Make) -> None:
    """
    Plain http goes through the configured proxy, with its login, which is known as a secret.
    """
    proxy = server.base_url.replace("://", "://user:pr0xy%21pass@")
    transport = make(base_origin="http://api.example.com", allow_http=True, proxy=proxy)

    assert transport(Request(url="http://api.example.com/a?b=%5b")).body == GOOD
    assert server.requests[0].target == "http://api.example.com/a?b=%5b"
    assert server.requests[0].headers["host"] == "api.example.com"
    assert server.requests[0].headers["proxy-authorization"] == "Basic dXNlcjpwcjB4eSFwYXNz"
    assert str(PenstockError("pr0xy!pass")) == "***"


@pytest.mark.parametrize(
    ("environment", "requested"),
    [
        pytest.param({"http_proxy": "PROXY"}, 1, id="from the environment"),
        pytest.param({"all_proxy": "PROXY"}, 1, id="one for all"),
        pytest.param({"http_proxy": "PROXY", "no_proxy": "example.invalid"}, 0, id="excepted"),
    ],
)
def test_proxy_of_the_environment(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], requested: int
) -> None:
    """
    The usual variables hold, with their exceptions, but never for this machine.
    """
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace("PROXY", server.base_url.removeprefix("http://")))
    transport = make(base_origin="http://api.example.invalid", allow_http=True)

    if requested:
        transport(Request(url="http://api.example.invalid/"))
    else:
        with pytest.raises(TransportError, match="name service"):
            transport(Request(url="http://api.example.invalid/"))
    assert [request.target for request in server.requests] == ["http://api.example.invalid/"] * requested

    make()(Request(url=f"{server.base_url}/here"))
    assert server.requests[-1].target == "/here"


@pytest.mark.parametrize("proxy", ["http://proxy:99999", "proxy:port", "http://:3128", "http://[::1"])
def test_a_proxy_of_the_environment_that_is_no_url(make: Make, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """
    The message names the variable, and no failure of the provider.
    """
    monkeypatch.setenv("https_proxy", proxy)

    with pytest.raises(ConfigError, match=r"is no URL such as .* HTTPS_PROXY, or ALL_PROXY, in the environment"):
        make(base_origin="https://api.example.com")(Request(url="https://api.example.com"))


def test_proxy_that_cannot_be_used(server: Server, make: Make) -> None:
    """
    An unknown kind of proxy is a mistake in the configuration; a proxy that refuses to connect is named as such.
    """
    with pytest.raises(ConfigError, match="ftp proxy"):
        make(base_origin="https://api.example.com", proxy="ftp://127.0.0.1:9")(Request(url="https://api.example.com"))

    with pytest.raises(TransportError, match="through the proxy"):
        make(base_origin="https://api.example.com", proxy=server.base_url)(Request(url="https://api.example.com"))

    with pytest.raises(TransportError, match=r"through the proxy \(Failed to establish a new connection: "):
        make(base_origin="https://api.example.com", proxy="http://127.0.0.1:1")(Request(url="https://api.example.com"))


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_socks_proxy(request: pytest.FixtureRequest, make: Make, tls: bool) -> None:
    """
    A SOCKS proxy carries http and https; the provider's name is resolved by the proxy where its scheme is socks5h.
    """
    provider: Server = request.getfixturevalue("secure" if tls else "server")
    more = {"ca_file": str(request.getfixturevalue("certificate"))} if tls else {}
    addresses: list[tuple[str, int]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=socks, args=(listener, addresses), daemon=True).start()
        proxy = f"socks5h://127.0.0.1:{listener.getsockname()[1]}"
        transport = make(base_origin=provider.base_url, proxy=proxy, timeout_s=5, total_timeout_s=5, **more)
        assert [transport(Request(url=provider.base_url)).body for _ in range(2)] == [GOOD, GOOD]
        transport.close()

    assert addresses == [("127.0.0.1", provider.port)]


def socks(listener: socket.socket, addresses: list[tuple[str, int]]) -> None:
    """One connection by SOCKS 5 (RFC 1928) without a login, then bytes both ways until either side ends."""
    client, _ = listener.accept()
    with client:
        methods = client.recv(2)[1]
        client.recv(methods)
        client.sendall(b"\x05\x00")
        kind = client.recv(4)[3]
        host = socket.inet_ntoa(client.recv(4)) if kind == 1 else client.recv(client.recv(1)[0]).decode()
        port = int.from_bytes(client.recv(2))
        addresses.append((host, port))
        with socket.create_connection((host, port)) as provider:
            client.sendall(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=pump, args=(provider, client), daemon=True)
            back.start()
            pump(client, provider)
            back.join()


def test_socks_proxy_without_its_library(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The message names what to install.
    """
    monkeypatch.setitem(sys.modules, "socks", None)

    with pytest.raises(ConfigError, match=r"of the extra socks of penstock-core\. Run: pip install pysocks"):
        make(base_origin="https://api.example.com", proxy="socks5://127.0.0.1:9")(
            Request(url="https://api.example.com")
        )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key for 127.0.0.1 in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    try:
        made = subprocess.run(
            [*command.split(), "-keyout", folder / "key", "-out", folder / "crt"], capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    assert made.returncode == 0, made.stderr
    both = folder / "both.pem"
    both.write_bytes((folder / "crt").read_bytes() + (folder / "key").read_bytes())
    return both


@pytest.fixture
def secure(certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serve(good, tls=context) as running:
        yield running


def test_https_to_a_server_without_tls(server: Server, make: Make) -> None:
    """
    The message names the likely mistake.
    """
    url = server.base_url.replace("http:", "https:")

    with pytest.raises(TransportError, match="answers without TLS at this port; check scheme and port of base_url"):
        make(base_origin=url)(Request(url=url))


def test_own_certificate_authority(
    secure: Server, make: Make, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A certificate is checked; ``ca_file`` or the usual variables make an own one trusted.
    """
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(UntrustedError, match=r"not trusted .*ca_file"):
        make(base_origin=secure.base_url)(Request(url=secure.base_url))
    assert secure.requests == []

    transport = make(base_origin=secure.base_url, ca_file=str(certificate))
    assert [transport(Request(url=secure.base_url)).body for _ in range(3)] == [GOOD] * 3
    assert secure.connections == 2

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert make(base_origin=secure.base_url)(Request(url=secure.base_url)).body == GOOD

    with pytest.raises(ConfigError, match="ca_file"):
        make(base_origin=secure.base_url, ca_file="/no/such.pem")(Request(url=secure.base_url))


@pytest.mark.parametrize("name", ["cut", "length_too_short", "drip", "stall_in_body"])
def test_tls_changes_nothing_about_broken_answers(secure: Server, make: Make, certificate: Path, name: str) -> None:
    """
    A fault on an encrypted connection ends as it does on a plain one.
    """
    secure.app = with_faults(good, [FAULTS[name]])
    transport = make(base_origin=secure.base_url, ca_file=str(certificate))

    with pytest.raises((TransportError, BoundExceededError)):
        transport(Request(url=secure.base_url))

    assert transport(Request(url=secure.base_url)).body == GOOD


def test_tunnel_through_a_proxy(secure: Server, make: Make, certificate: Path) -> None:
    """
    https goes through the proxy's tunnel, encrypted for the provider.
    """
    requested: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=tunnel, args=(listener, requested), daemon=True).start()
        proxy = f"http://user:tunnelpass@127.0.0.1:{listener.getsockname()[1]}"
        transport = make(base_origin=secure.base_url, ca_file=str(certificate), proxy=proxy)
        assert [transport(Request(url=secure.base_url)).body for _ in range(2)] == [GOOD, GOOD]
        transport.close()

    assert requested[0].startswith(b"CONNECT 127.0.0.1:%d " % secure.port)
    assert b"proxy-authorization: basic " in requested[0].lower()
    assert secure.connections == 1
    assert "proxy-authorization" not in secure.requests[0].headers


def tunnel(listener: socket.socket, requested: list[bytes]) -> None:
    """One CONNECT, then bytes both ways until either side ends."""
    client, _ = listener.accept()
    with client:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        requested.append(head)
        host, _, port = head.split(b" ")[1].partition(b":")
        with socket.create_connection((host.decode(), int(port))) as provider:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=pump, args=(provider, client), daemon=True)
            back.start()
            pump(client, provider)
            back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(1 << 16):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:  # the other side is gone
        return
