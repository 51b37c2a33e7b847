"""
What the transport reports of a write that failed: whether some of it may have left.
"""

import socket
from collections.abc import Iterator

import pytest
from penstock._fetch.transport import Transport
from penstock._util.clock import Clock
from penstock.errors import PenstockError, StoppedError, TransportError
from penstock.model import Request
from penstock.sandbox.app import SandboxResponse
from penstock.sandbox.server import Reset, Scripted, Server, serve

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as made:
        yield made


def transport(base_url: str, clock: Clock | None = None) -> Transport:
    return Transport(
        timeout_s=5.0,
        max_body_bytes=1000,
        connections=1,
        proxy=None,
        ca_file=None,
        allow_http=True,
        base_origin=base_url,
        clock=clock or Clock(),
    )


def failure(base_url: str, request: Request, clock: Clock | None = None) -> PenstockError:
    sending = transport(base_url, clock)
    try:
        with pytest.raises(PenstockError) as failed:
            sending(request)
        return failed.value
    finally:
        sending.close()


def write(url: str, method: str = "POST") -> Request:
    return Request(method=method, url=url, body=b"{}", is_write=True)


def test_nothing_was_sent_without_a_connection() -> None:
    """
    Where the connection is refused, nothing was sent, and the write may be repeated.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"

        failed = failure(url, write(url))

    assert isinstance(failed, TransportError)
    assert not failed.sent


def test_a_host_that_does_not_resolve_got_nothing() -> None:
    """
    Nothing of a request was sent to a host that does not resolve, or that refuses the connection.
    """
    assert not failure("http://nobody.invalid", write("http://nobody.invalid/x")).sent


@pytest.mark.parametrize(
    "answer",
    [
        Scripted(steps=(Reset(),)),
        Scripted(steps=()),
        Scripted(steps=(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",)),
        Scripted(steps=(b"not HTTP at all\r\n\r\n",)),
        SandboxResponse(body=b"x" * 2000),
    ],
    ids=["reset", "closed", "cut", "no http", "too large"],
)
def test_a_request_that_fails_after_the_connection_may_have_left(server: Server, answer: SandboxResponse) -> None:
    """
    The request may have left, whatever went wrong with the answer.
    """
    server.app = lambda request: answer

    failed = failure(server.base_url, write(server.base_url))

    assert failed.sent
    assert len(server.requests) == 1


def test_a_write_that_a_stop_interrupts_may_have_arrived(server: Server) -> None:
    """
    A write that Ctrl-C interrupts after it was sent may have arrived.
    """
    clock = Clock()

    def stopping(request: object) -> SandboxResponse:
        clock.stop.set()
        return Scripted(steps=(Reset(),))

    server.app = stopping

    failed = failure(server.base_url, write(server.base_url), clock)

    assert isinstance(failed, StoppedError)
    assert failed.sent


def test_a_header_that_http_cannot_carry_is_not_sent(server: Server) -> None:
    """
    A header with a line break is noticed before the first byte.
    """
    request = Request(method="POST", url=server.base_url, headers=(("X-Key", "a\nb"),), is_write=True)

    assert not failure(server.base_url, request).sent
    assert server.requests == []


@pytest.mark.parametrize(("is_write", "requested"), [(True, 1), (False, 2)], ids=["write", "read"])
def test_a_write_follows_no_redirect(server: Server, is_write: bool, requested: int) -> None:
    """
    A redirect of a write is not followed, whatever its method: the write may have been carried out.
    """
    server.app = lambda request: (
        SandboxResponse(status=302, headers={"Location": "/other"}) if request.path != "/other" else SandboxResponse()
    )
    sending = transport(server.base_url)

    response = sending(Request(url=f"{server.base_url}/x", is_write=is_write))

    assert (response.status, len(server.requests)) == (302 if is_write else 200, requested)
    sending.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_write_takes_no_connection_that_may_be_closing(
    server: Server, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    One that has been idle for long is left, whatever the method; a read still takes it.
    """
    server.app = lambda request: SandboxResponse()
    monkeypatch.setattr("penstock._fetch.transport.IDLE_WRITE_S", -1.0)
    sending = transport(server.base_url)

    sending(Request(url=server.base_url))
    sending(Request(url=server.base_url))
    assert server.connections == 1
    sending(write(server.base_url, method))

    assert server.connections == 2
    sending.close()
