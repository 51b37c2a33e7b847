"""
The transport against a real server on this machine: the bytes that it sends, which responses are complete, what it
refuses.
"""

import errno
import gzip
import threading
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from penstock._fetch import body as body_module
from penstock._fetch.auth import Signer
from penstock._fetch.body import Bound, decompressed
from penstock._fetch.origin import Boundary, absolute, authority_and_target
from penstock._util.clock import Clock
from penstock.errors import (
    BoundExceededError,
    ConfigError,
    ForeignOriginError,
    PenstockError,
    RefusedError,
    StoppedError,
    TransportError,
)
from penstock.model import Request, Response, origin_of
from penstock.protocols import Grant
from penstock.redact import Secret
from penstock.sandbox import FAULTS, fault_effects, with_faults
from penstock.sandbox.app import SandboxApp, SandboxRequest, SandboxResponse
from penstock.sandbox.faults import Fault
from penstock.sandbox.server import Scripted, Server, head_of, serve
from penstock.testing import FakeClock
from transports import GOOD, Make, good, transports
from waits import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(good) as running:
        yield running


@pytest.fixture
def make(server: Server) -> Iterator[Make]:
    with transports(server) as make:
        yield make


# --- what leaves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "params", "target"),
    [
        pytest.param("/a", (("q", "!*'()-._~"),), "/a?q=!*'()-._~", id="signs that some encoders encode"),
        pytest.param("/a", (("q", "ä /+&="),), "/a?q=%C3%A4%20%2F%2B%26%3D", id="encoded once, space as %20"),
        pytest.param("/a?sig=%5b%2f%5D&x=[1]", (), "/a?sig=%5b%2f%5D&x=[1]", id="a finished query stays as it is"),
        pytest.param("/a/../b//c/%7e;x=1", (), "/a/../b//c/%7e;x=1", id="dots and double slashes stay"),
        pytest.param("//a", (), "//a", id="two slashes at the start stay"),
        pytest.param("?a=/b", (), "/?a=/b", id="no path"),
        pytest.param("", (), "/", id="nothing"),
        pytest.param("/a#part", (), "/a", id="a fragment is not sent"),
        pytest.param("/ä b?c=d\ne", (), "/%C3%A4%20b?c=d%0Ae", id="what HTTP cannot carry is encoded"),
    ],
)
def test_url_leaves_byte_for_byte(
    server: Server, make: Make, path: str, params: tuple[tuple[str, str], ...], target: str
) -> None:
    """
    The request line holds the URL that was signed, not an equivalent one.
    """
    make()(Request(url=server.base_url + path, params=params))

    assert server.requests[0].target == target


class SignsUrl:
    """An authenticator whose signature covers the whole URL."""

    def __init__(self) -> None:
        self.signed: list[str] = []

    def sign(self, request: Request, now: datetime, grant: Grant | None = None) -> Request:
        self.signed.append(request.full_url)
        return request.with_headers(("X-Signature", str(len(request.full_url))))

    def grant_request(self) -> Request | None:
        return None

    def read_grant(self, response: Response) -> Grant:
        raise AssertionError

    def explain(self, request: Request, now: datetime) -> str:
        return ""


@pytest.mark.parametrize(
    "path", ["", "?a=%5b]", "/a/../b//%7e", "/ä b?c=d\ne#part", "/a?q=[1]&r=%e4", "//a", "/%", "/a|b^c`{}"]
)
@pytest.mark.parametrize("params", [(), (("q", "ä !*'()/%"),)])
def test_the_signed_url_is_the_sent_url(
    server: Server, make: Make, path: str, params: tuple[tuple[str, str], ...]
) -> None:
    """
    A signature over the URL holds for the request line, whatever signs the URL has.
    """
    authenticator = SignsUrl()
    signer = Signer(authenticator, lambda request: pytest.fail("no login"), Clock())

    make()(signer.sign(Request(url=server.base_url + path, params=params)).request)

    assert authenticator.signed == [server.base_url + server.requests[0].target]


def test_headers_are_ours_unless_the_request_has_its_own(server: Server, make: Make) -> None:
    """
    A request's header replaces the default one; host and length are always the transport's.
    """
    transport = make()
    transport(Request(url=server.base_url))
    headers = (("ACCEPT", "text/csv"), ("X-Key", "k"), ("Host", "elsewhere"), ("Content-Length", "9"))
    transport(Request(method="POST", url=server.base_url, headers=headers, body=b"{}"))

    first, second = (request.headers for request in server.requests)
    assert first["accept"] == "application/json, */*;q=0.8"
    assert first["accept-encoding"] == "gzip"
    assert first["user-agent"].startswith("penstock/")
    assert (second["accept"], second["x-key"], second["content-length"]) == ("text/csv", "k", "2")
    assert second["host"] == first["host"] == server.base_url.removeprefix("http://")
    assert server.requests[1].body == b"{}"


def test_header_that_http_cannot_carry_is_a_mistake_in_the_configuration(server: Server, make: Make) -> None:
    """
    A line break pasted into a key is named by its header, and its value is not shown.
    """
    with pytest.raises(ConfigError, match="X-Key holds characters") as caught:
        make()(Request(url=server.base_url, headers=(("X-Key", "abc123\nInjected: yes"),)))

    assert "abc123" not in str(caught.value)
    assert server.requests == []


# --- what comes back ------------------------------------------------------------------------------------------------


def test_response_is_whole_and_stamped(server: Server, make: Make) -> None:
    """
    Status, headers in lower case, body, and the clock's time of arrival.
    """
    clock = FakeClock(datetime(2026, 3, 2, 8, tzinfo=UTC))
    response = make(clock=clock)(Request(url=server.base_url))

    assert (response.status, response.body) == (200, GOOD)
    assert response.header("content-type") == "application/json"
    assert all(name == name.lower() for name, _ in response.headers)
    assert response.received_at == datetime(2026, 3, 2, 8, tzinfo=UTC)


def in_chunks(request: SandboxRequest) -> SandboxResponse:
    answer = SandboxResponse()
    pieces = [GOOD[:7], GOOD[7:8], GOOD[8:]]
    chunks = b"".join(b"%X;note=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    head = head_of(answer, ("Transfer-Encoding", "chunked"), ("Connection", "close"))
    return Scripted(steps=(head + chunks + b"0\r\nTrailer: x\r\n\r\n",))


def until_close(request: SandboxRequest) -> SandboxResponse:
    return Scripted(steps=(head_of(SandboxResponse()), GOOD))


def packed(body: bytes, coding: str = "gzip") -> SandboxApp:
    return lambda request: SandboxResponse(headers={"Content-Encoding": coding}, body=body)


@pytest.mark.parametrize(
    "app",
    [
        pytest.param(in_chunks, id="chunked, with extension and trailer"),
        pytest.param(until_close, id="ends with the connection"),
        pytest.param(packed(gzip.compress(GOOD)), id="gzip"),
        pytest.param(packed(gzip.compress(GOOD), "X-GZIP"), id="gzip by its old name"),
        pytest.param(packed(gzip.compress(GOOD[:9]) + gzip.compress(GOOD[9:])), id="gzip of two members"),
        pytest.param(packed(gzip.compress(GOOD) + b"\0" * 20), id="padded gzip"),
        pytest.param(packed(GOOD, "identity"), id="identity"),
    ],
)
def test_body_is_the_same_however_it_travels(server: Server, make: Make, app: SandboxApp) -> None:
    """
    Framing and compression leave no trace in the body, and the next request is answered too.
    """
    server.app = app
    transport = make()

    assert [transport(Request(url=server.base_url)).body for _ in range(2)] == [GOOD, GOOD]


@pytest.mark.parametrize(
    ("app", "measured"),
    [(good, True), (in_chunks, True), (packed(gzip.compress(GOOD)), True), (until_close, False)],
    ids=["length", "chunked", "gzip", "ends with the connection"],
)
def test_a_body_without_a_length_is_reported(server: Server, make: Make, app: SandboxApp, measured: bool) -> None:
    """
    A body that only the end of the connection ends is marked: it may be cut.
    """
    server.app = app

    assert make()(Request(url=server.base_url)).measured is measured


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("DELETE", 204)])
def test_answer_without_body(server: Server, make: Make, method: str, status: int) -> None:
    """
    An answer that has no body by its nature is not waited for, and its connection is used again.
    """
    server.app = lambda request: SandboxResponse(status=status)
    transport = make()

    answers = [transport(Request(method=method, url=server.base_url)) for _ in range(2)]

    assert [(answer.status, answer.body) for answer in answers] == [(status, b"")] * 2
    assert server.connections == 1


@pytest.mark.parametrize("status", [302, 400, 401, 404, 429, 500, 503])
def test_every_status_is_a_response(server: Server, make: Make, status: int) -> None:
    """
    The transport returns every status with its body; the judge decides.
    """
    server.app = lambda request: SandboxResponse(status=status, body=b'{"message": "no"}')

    response = make()(Request(url=server.base_url))

    assert (response.status, response.body) == (status, b'{"message": "no"}')


# --- broken answers -------------------------------------------------------------------------------------------------

NOT_WHOLE = {
    "reset": "broke the connection",
    "silent_close": "closed the connection without a response",
    "reset_in_body": "broke the connection",
    "cut_head": "cut its response inside the headers",
    "cut": r"cut its response after [\d,]+ of [\d,]+ bytes",
    "cut_chunk": "inside a chunk",
    "cut_between_chunks": "between two chunks",
    "length_too_long": "cut its response after",
    "length_too_short": "sent more than the",
    "two_lengths": "contradicts itself about the length",
    "no_http": "not HTTP",
    "stall": "sent nothing for 0.5 s",
    "stall_in_body": "sent nothing for 0.5 s",
    "corrupt_gzip": "gzip body that is damaged",
    "cut_gzip": "cut its gzip body",
}


@pytest.mark.parametrize(("name", "output"), NOT_WHOLE.items(), ids=NOT_WHOLE)
def test_an_incomplete_response_is_retried(server: Server, make: Make, name: str, output: str) -> None:
    """
    An incomplete response is a TransportError that states what happened, not a shorter body; the next attempt gets the
    whole body.
    """
    server.app = with_faults(good, [FAULTS[name]])
    transport = make()

    with pytest.raises(TransportError, match=output):
        transport(Request(url=server.base_url))

    assert transport(Request(url=server.base_url)).body == GOOD


def fault(effect: fault_effects.Effect) -> Fault:
    return Fault(name="this", summary="", change=effect)


TOO_MUCH = {
    "body drips": (fault(fault_effects.drip(0.05, most_s=9)), "timeout_s"),
    "headers drip": (fault(fault_effects.drip(0.05, most_s=9, of_head=True)), "timeout_s"),
    "announced body too large": (fault(fault_effects.huge(2, chunked=False)), "more than 1 MiB.*max_body_mib"),
    "chunked body too large": (fault(fault_effects.huge(2, chunked=True)), "more than 1 MiB.*max_body_mib"),
    "gzip bomb": (fault(fault_effects.bomb(40)), "more than 1 MiB when decompressed.*max_body_mib"),
}


@pytest.mark.parametrize(("bad", "output"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_bound_that_is_reached_is_named(server: Server, make: Make, bad: Fault, output: str) -> None:
    """
    Time and size are bounded whatever the provider does; the message names the setting.
    """
    server.app = with_faults(good, [bad])
    # A bound on size has time: it must not depend on how busy the machine is which of the two is met first.
    transport = make() if output == "timeout_s" else make(timeout_s=30, total_timeout_s=60)

    with pytest.raises(BoundExceededError, match=output):
        transport(Request(url=server.base_url))

    assert transport(Request(url=server.base_url)).body == GOOD


def test_body_of_exactly_the_bound_is_taken(server: Server, make: Make) -> None:
    """
    The bound itself is allowed, plain and decompressed.
    """
    body = b" " * 4096
    server.app = lambda request: SandboxResponse(body=body)
    assert make(max_body_bytes=4096)(Request(url=server.base_url)).body == body

    server.app = packed(gzip.compress(body))
    assert make(max_body_bytes=4096)(Request(url=server.base_url)).body == body


def test_gzip_bomb_is_unpacked_up_to_the_bound_only() -> None:
    """
    The part held in memory of a body that would become 1 GiB is about the bound.
    """
    bomb = gzip.compress(b"\0" * (64 << 20)) * 16
    tracemalloc.start()
    try:
        with pytest.raises(Exception, match="when decompressed"):
            decompressed(bomb, "gzip", Bound(1 << 20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 << 20


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "ten"])
def test_a_length_that_is_no_number_is_refused(server: Server, make: Make, length: str) -> None:
    """
    A body whose stated length is no number is refused, since it may be cut.
    """
    server.app = lambda request: Scripted(steps=(head_of(SandboxResponse(), ("Content-Length", length)) + GOOD,))

    with pytest.raises(TransportError, match="length of its body"):
        make()(Request(url=server.base_url))


def test_small_chunks_take_no_more_memory_than_their_body(server: Server, make: Make) -> None:
    """
    However finely a provider cuts its body, what is held of it is about its size.
    """
    head = head_of(SandboxResponse(), ("Transfer-Encoding", "chunked"), ("Connection", "close"))
    chunks = [b"", b"2\r\nab\r\n" * 200_000]
    server.app = lambda request: Scripted(steps=(head + chunks.pop(0) + b"0\r\n\r\n",))
    transport = make(timeout_s=10, total_timeout_s=60)
    transport(Request(url=server.base_url))  # so that only the second body is counted
    tracemalloc.start()
    try:
        body = transport(Request(url=server.base_url)).body
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert body == b"ab" * 200_000
    assert peak < 8 * len(body)  # the server's copy of the chunks, in the same process, is 2 MB of it


@pytest.mark.parametrize("trailer", [b"", b"Trailer: x\r\n", b"Trailer"])
def test_chunks_that_end_before_their_end_are_cut(server: Server, make: Make, trailer: bytes) -> None:
    """
    The last chunk is there, but not the empty line that ends the answer.
    """
    head = head_of(SandboxResponse(), ("Transfer-Encoding", "chunked"), ("Connection", "close"))
    server.app = lambda request: Scripted(steps=(head + b"%X\r\n%b\r\n0\r\n" % (len(GOOD), GOOD) + trailer,))

    with pytest.raises(TransportError, match="before its end"):
        make()(Request(url=server.base_url))


def test_a_coding_that_was_not_accepted_is_refused(server: Server, make: Make) -> None:
    """
    A body that cannot be read is no body.
    """
    server.app = packed(b"...", "br")

    with pytest.raises(TransportError, match="compresses its response"):
        make()(Request(url=server.base_url))


def test_provider_that_cannot_be_reached(make: Make) -> None:
    """
    Without a connection, the error states what failed and what to check.
    """
    with serve(good) as gone:
        pass
    # Some systems answer for a closed port, some drop the packet: then the whole time passes.
    with pytest.raises(
        TransportError, match=r"(did not take a connection within 0\.5 s|could not be connected to).* check base_url"
    ):
        make(base_origin=gone.base_url)(Request(url=gone.base_url))
    with pytest.raises(TransportError, match=r"not known to the name service.* check base_url"):
        make(base_origin="https://nowhere.invalid")(Request(url="https://nowhere.invalid"))


def test_errors_do_not_show_secrets(server: Server, make: Make) -> None:
    """
    Known secrets, masked parameters, and the query of a finished URL stay out of the message and its causes.
    """
    server.app = with_faults(good, [FAULTS["silent_close"]])
    transport = make()
    key = Secret("s3cr3t-Key")

    for url, params in ((f"{server.base_url}/a", (("key", key.reveal()), ("sig", "fedcba"))), ("/b?sig=fedcba", ())):
        whole = url if url.startswith("http") else server.base_url + url
        with pytest.raises(TransportError) as caught:
            transport(Request(url=whole, params=params, masked={"sig"}))
        assert "s3cr3t" not in repr(caught.value.args) + str(caught.value)
        assert "fedcba" not in str(caught.value)
        assert caught.value.__suppress_context__
        assert caught.value.__cause__ is None


# --- connections ----------------------------------------------------------------------------------------------------


def test_connection_is_kept(server: Server, make: Make) -> None:
    """
    Requests in a row share one connection.
    """
    transport = make()
    for _ in range(10):
        transport(Request(url=server.base_url))

    assert server.connections == 1


def test_no_more_connections_than_allowed(server: Server, make: Make) -> None:
    """
    Threads beyond the number of connections wait, and each gets its response.
    """
    under_way, most, lock = 0, 0, threading.Lock()

    def slow(request: SandboxRequest) -> SandboxResponse:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.02)
        with lock:
            under_way -= 1
        return good(request)

    server.app = slow
    transport = make(connections=2, timeout_s=5, total_timeout_s=5)
    bodies: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: bodies.append(transport(Request(url=server.base_url)).body)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert bodies == [GOOD] * 8
    assert most == 2
    assert server.connections == 2


def test_connection_closed_while_idle_is_replaced(server: Server, make: Make) -> None:
    """
    A server that closes after each answer without notice costs a connection, not an error.
    """
    serving: list[threading.Thread] = []

    def steps() -> Iterator[bytes]:
        serving.append(threading.current_thread())
        yield head_of(SandboxResponse(), ("Content-Length", str(len(GOOD)))) + GOOD

    server.app = lambda request: Scripted(steps=steps())
    transport = make()
    transport(Request(url=server.base_url))
    serving[0].join()  # it closes the connection at its end

    assert transport(Request(method="POST", url=server.base_url, body=b"{}")).body == GOOD
    assert server.connections == 2


def test_close_ends_requests_under_way(server: Server, make: Make) -> None:
    """
    A stop does not wait for a provider that does not answer.
    """
    server.app = with_faults(good, [FAULTS["stall"]])
    transport = make(timeout_s=30, total_timeout_s=30)
    ended: list[BaseException] = []

    def send() -> None:
        try:
            transport(Request(url=server.base_url))
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    eventually(lambda: server.requests)
    transport.close()
    thread.join(15)  # the answer takes 20

    assert [type(error) for error in ended] == [StoppedError]
    with pytest.raises(StoppedError):
        transport(Request(url=server.base_url))


# --- origins and redirects ------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    """Another origin: the same machine, another port."""
    with serve(good) as running:
        yield running


def leads_to(url: str, status: int = 302) -> SandboxApp:
    def app(request: SandboxRequest) -> SandboxResponse:
        if request.path == "/end":
            return good(request)
        return SandboxResponse(status=status, headers={"Location": url})

    return app


SENT = (("Authorization", "Bearer abcdef"), ("X-Api-Key", "k"), ("Cookie", "c=1"), ("Accept", "text/csv"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_within_the_origin_is_followed(server: Server, make: Make, status: int) -> None:
    """
    A read is sent again as it was, credentials included, byte for byte to where it was sent on.
    """
    server.app = leads_to("/end?a=%5b1]", status)

    assert make()(Request(url=server.base_url, headers=SENT)).body == GOOD
    assert server.requests[1].target == "/end?a=%5b1]"
    assert server.requests[1].headers["authorization"] == "Bearer abcdef"


def a_page_that_leads_to(location: str, server: Server) -> Request:
    """The request of a page, which the server redirects to ``location``."""
    first = leads_to(location)
    server.app = lambda request: first(request) if request.target == "/offers?limit=50&offset=100" else good(request)
    return Request(url=f"{server.base_url}/offers", params=(("limit", "50"), ("offset", "100")))


@pytest.mark.parametrize(
    "location",
    [pytest.param("/v2/offers", id="no parameter"), pytest.param("/offers/?limit=50", id="one parameter less")],
)
def test_a_redirect_that_drops_parameters_is_not_followed(location: str, server: Server, make: Make) -> None:
    """
    The rows of the same path without its parameters are those of another request.
    """
    request = a_page_that_leads_to(location, server)

    with pytest.raises(RefusedError, match=r"offset.*another request, so it was not sent"):
        make()(request)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("/v2/offers?limit=50&offset=100&v=2", id="all parameters"),
        pytest.param("/end", id="another resource"),
    ],
)
def test_a_redirect_that_keeps_parameters_is_followed(location: str, server: Server, make: Make) -> None:
    """
    So is one to another resource, which may have no parameters.
    """
    assert make()(a_page_that_leads_to(location, server)).body == GOOD


def test_write_is_not_sent_again(server: Server, make: Make) -> None:
    """
    The redirect of a POST is the answer.
    """
    server.app = leads_to("/end", 307)

    assert make()(Request(method="POST", url=server.base_url, body=b"{}")).status == 307
    assert len(server.requests) == 1


def test_redirects_end(server: Server, make: Make) -> None:
    """
    Five redirects are followed, a sixth is not.
    """
    server.app = with_faults(good, [FAULTS["circular_redirect"]])

    with pytest.raises(BoundExceededError, match="more than 5 times"):
        make()(Request(url=server.base_url))

    assert len(server.requests) == 6


def test_credentials_stay_at_their_origin(server: Server, elsewhere: Server, make: Make) -> None:
    """
    Neither a redirect nor a link takes a signed request to another host; nothing at all is sent there.
    """
    server.app = leads_to(f"{elsewhere.base_url}/end")
    transport = make()

    for url in (server.base_url, elsewhere.base_url):
        with pytest.raises(ForeignOriginError, match="credentials go to"):
            transport(Request(url=url, headers=SENT))

    assert elsewhere.requests == []


@pytest.mark.parametrize("base", ["https://api.example.com", "https://[2606:4700::443]", "https://[2606:4700::1]:8443"])
@pytest.mark.parametrize(
    "link",
    [
        "{own}.evil.example/",
        "{own}@evil.example/",
        "{own}:@evil.example/",
        "{own}\\.evil.example/",
        "{own}\t.evil.example/",
        "{own}:1/",
        "https://evil.example/{own}/",
        "https://evil.example\\@{own}/",
        "//evil.example/",
        "\\\\evil.example/",
        "https://2606:4700::443/",
        "https://2606:4700::1:8443/",
        "https://[2606:4700::443/",
    ],
)
def test_nothing_that_begins_like_the_origin_passes_for_it(base: str, link: str) -> None:
    """
    A request with credentials connects to the origin only, and names it as its host: all else is refused.
    """
    boundary, request = Boundary(base, allow_http=False), Request(url=f"{base}/v1")

    try:
        url = absolute(f"{base}/v1", link.format(own=base))
        origin = boundary.allowed_origin(request, url, before=boundary.base)
    except ForeignOriginError:
        return

    assert origin == boundary.base == origin_of(url)
    assert f"https://{authority_and_target(url)[0]}" in (base, f"{base}:443")


def test_download_leaves_the_origin_without_credentials(server: Server, elsewhere: Server, make: Make) -> None:
    """
    A download is followed to another host, and no header that may grant something goes with it.
    """
    server.app = leads_to(f"{elsewhere.base_url}/end")
    transport = make()

    for url in (server.base_url, elsewhere.base_url):
        assert transport(Request(url=url, headers=SENT, credentials=False)).body == GOOD

    for request in elsewhere.requests:
        assert request.headers["accept"] == "text/csv"
        assert not {"authorization", "x-api-key", "cookie"} & set(request.headers)


REFUSED = {
    "from https to http": ("https://api.example.com", "http://files.example.com/x", "from https to plain"),
    "loopback": ("https://api.example.com", "https://127.0.0.1:9/x", "private network"),
    "loopback by name": ("https://api.example.com", "https://localhost:9/x", "private network"),
    "private": ("https://8.8.8.8", "https://10.0.0.1/x", "private network"),
    "link-local": ("https://8.8.8.8", "https://169.254.169.254/latest/meta-data", "private network"),
    "mapped": ("https://8.8.8.8", "https://[::ffff:10.0.0.1]/x", "private network"),
    "compatible": ("https://8.8.8.8", "https://[::10.0.0.1]/x", "private network"),
    "translated": ("https://8.8.8.8", "https://[64:ff9b::169.254.169.254]/x", "private network"),
    "site-local": ("https://8.8.8.8", "https://[fec0::1]/x", "private network"),
    "unspecified": ("https://8.8.8.8", "https://0.0.0.0/x", "private network"),
    "no http at all": ("https://8.8.8.8", "ftp://files.example.com/x", "no http"),
    "a file": ("https://8.8.8.8", "file:///etc/passwd", "no http"),
    "no host": ("https://8.8.8.8", "https:///x", "no http"),
    "no port": ("https://8.8.8.8", "https://files.example.com:x/", "no http"),
    "plain http": ("http://127.0.0.1", "http://files.example.com/x", "allow_http"),
}


@pytest.mark.parametrize(("base", "url", "output"), REFUSED.values(), ids=REFUSED)
def test_download_to_where_it_must_not_go(make: Make, base: str, url: str, output: str) -> None:
    """
    Refused before a connection is made.
    """
    with pytest.raises(ForeignOriginError, match=output):
        make(base_origin=base)(Request(url=url, credentials=False))


def test_plain_http_beyond_this_machine_needs_consent(make: Make) -> None:
    """
    Plain HTTP beyond this machine fails at once, with the key that allows it.
    """
    with pytest.raises(ConfigError, match="allow_http = true"):
        make(base_origin="http://api.example.com")

    make(base_origin="http://api.example.com", allow_http=True)
    make(base_origin="http://localhost:8080")
    make(base_origin="http://[::1]:8080")


# --- bodies in files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gzip"])
def test_a_large_body_of_a_report_comes_as_a_file(
    server: Server, make: Make, pack: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A large body of a report is in a temporary file, decompressed, and read from several places at once; its beginning
    is in memory.
    """
    monkeypatch.setattr(body_module, "SPOOL_BYTES", 1000)
    whole = b"".join(b"%d\n" % number for number in range(200_000))
    server.app = packed(gzip.compress(whole)) if pack else lambda request: SandboxResponse(body=whole)

    response = make(max_file_bytes=1 << 22)(Request(url=server.base_url, as_file=True))

    assert response.file is not None
    assert (response.size, response.body) == (len(whole), whole[: body_module.FILE_START_BYTES])
    first, second = response.open(), response.open()
    assert (first.read(6), second.read(), first.read()) == (whole[:6], whole, whole[6:])


@pytest.mark.parametrize(
    ("bad", "error", "output"),
    [
        (fault(fault_effects.huge(2, chunked=False)), BoundExceededError, "more than 1 MiB.*max_report_mib"),
        (fault(fault_effects.huge(2, chunked=True)), BoundExceededError, "more than 1 MiB.*max_report_mib"),
        (fault(fault_effects.bomb(40)), BoundExceededError, "more than 1 MiB when decompressed.*max_report_mib"),
        (FAULTS["cut_chunk"], TransportError, "cut its response"),
        (FAULTS["cut_between_chunks"], TransportError, "cut its response"),
    ],
    ids=["announced", "chunked", "bomb", "cut in a chunk", "cut between chunks"],
)
def test_a_file_is_whole_and_bounded(
    server: Server, make: Make, bad: Fault, error: type[Exception], output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A body that goes into a file has a bound of its own, and is never a part of one.
    """
    monkeypatch.setattr(body_module, "SPOOL_BYTES", 100)
    server.app = with_faults(good, [bad])
    transport = make(max_body_bytes=1 << 10, max_file_bytes=1 << 20, timeout_s=30, total_timeout_s=60)
    request = Request(url=server.base_url, as_file=True)

    with pytest.raises(error, match=output):
        transport(request)

    assert transport(request).open().read() == GOOD


def test_a_small_body_of_a_report_stays_in_memory(server: Server, make: Make) -> None:
    """
    A file is made only where it spares memory.
    """
    response = make()(Request(url=server.base_url, as_file=True))

    assert (response.file, response.body) == (None, GOOD)


def test_a_full_directory_of_temporary_files_is_no_fault_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The file is not requested again, and the provider is not named as one that cannot be reached.
    """

    def full(**_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)

    with pytest.raises(PenstockError, match=r"a temporary file cannot be written: No space left on device\. .*TMPDIR"):
        body_module.Spool()
