"""
A local HTTP/1.1 server for a provider's imitation: for tests, ``penstock sandbox`` and ``penstock demo``.
"""

import gzip
import http.server
import socket
import socketserver
import struct
import threading
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from penstock.redact import mask
from penstock.sandbox.app import SandboxApp, SandboxRequest, SandboxResponse

if TYPE_CHECKING:
    import ssl

LARGEST_BODY = 256 << 20  # bytes
REQUESTS_REMEMBERED = 100_000  # requests kept in ``Server.requests``; a sandbox may run for days


@frozen
class SendPause:
    """Send nothing for a while. Ends early when the server is shut down."""

    seconds: float


@frozen
class Reset:
    """Drop the connection with a TCP reset."""


Step = bytes | SendPause | Reset


@frozen(kw_only=True)
class Scripted(SandboxResponse):
    """
    A raw response, head included, sent step by step. The connection is closed after it.

    ``steps`` is iterated once, while it is sent: a generator may make a body larger than memory.
    """

    steps: Iterable[Step] = field(default=(), repr=False)


def head_of(response: SandboxResponse, *more: tuple[str, str]) -> bytes:
    """Status line and headers as sent, ``more`` of them in place of those of the same name."""
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    replaced = {name.lower() for name, _ in more}
    lines = [f"HTTP/1.1 {response.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items() if name.lower() not in replaced]
    if "date" not in {name.lower() for name in response.headers} | replaced:
        lines.append(f"Date: {formatdate(usegmt=True)}")
    lines += [f"{name}: {value}" for name, value in more]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def serve(
    app: SandboxApp | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    gzip: bool = False,
    tls: "ssl.SSLContext | None" = None,
    largest_body: int = LARGEST_BODY,
) -> "Server":
    """
    A server for ``app``, to be used in a ``with`` statement. Port 0: any free one; see ``base_url``.

    It listens from here on, so that an app which must know its own address can be set inside::

        with serve() as server:
            server.app = make(server.base_url, today)

    ``gzip``: compress for clients that accept it. ``tls``: speak https, with this context's certificate.
    ``largest_body``: bytes of a request's body; a larger one is refused with 413, unread. Raises OSError when the port
    is taken.
    """
    return Server(app, host, port, compress=gzip, tls=tls, largest_body=largest_body)


class Server:
    """
    A running imitation. ``app`` may be replaced at any time. ``requests`` has the requests in order of arrival,
    ``errors`` the exceptions of the app (the client got a 500 with the reason).
    """

    def __init__(
        self,
        app: SandboxApp | None,
        host: str,
        port: int,
        *,
        compress: bool,
        tls: "ssl.SSLContext | None",
        largest_body: int,
    ) -> None:
        self.app = app
        self.compress = compress
        self.largest_body = largest_body
        self.requests: list[SandboxRequest] = []
        self.errors: list[Exception] = []
        self.stopping = threading.Event()
        self._listener = _Listener(self, host, port, tls)
        bound = self._listener.server_address
        shown = f"[{host}]" if ":" in host else host
        self.port = int(bound[1])
        self.base_url = f"{'https' if tls else 'http'}://{shown}:{self.port}"

    def __enter__(self) -> "Server":
        threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.02}, name="sandbox", daemon=True
        ).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._listener.shutdown()
        self._listener.server_close()
        self._listener.drop_connections()

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        return self._listener.accepted

    def respond(self, request: SandboxRequest) -> SandboxResponse:
        if len(self.requests) < REQUESTS_REMEMBERED:
            self.requests.append(request)
        try:
            if self.app is None:
                return SandboxResponse(status=503, headers={"Retry-After": "1"}, body=b"nothing is served here yet")
            response: Any = self.app(request)
            if not isinstance(response, SandboxResponse):
                raise TypeError(
                    f"{request.method} {request.path} was answered with {type(response).__name__}; write return "
                    "json_response(...), or SandboxResponse(...)"
                )
            return response
        except Exception as error:
            self.errors.append(error)
            return SandboxResponse(
                status=500,
                headers={"Content-Type": "text/plain"},
                body=mask(f"defect of the sandbox: {type(error).__name__}: {error}").encode(),
            )


class _Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, owner: Server, host: str, port: int, tls: "ssl.SSLContext | None") -> None:
        self.owner = owner
        self._tls = tls
        self.accepted = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Not the parent's: it resolves this host's name, which may take seconds.
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self._tls is not None:  # the handshake is the thread's that serves the connection, with its first read
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self.accepted += 1
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnects."""

    def drop_connections(self) -> None:
        with self._lock:
            still_open = list(self._open)
        for connection in still_open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # already gone
                continue


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener
    raw_requestline: bytes

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _respond(self) -> None:
        response = self._refusal() or self.server.owner.respond(self._request())
        if isinstance(response, Scripted):
            self._play(response)
        else:
            self._send(response)

    @property
    def _length(self) -> int:
        """The length of the body; -1 where the headers state none that is a number."""
        try:
            return int(self.headers.get("Content-Length") or 0)
        except ValueError:
            return -1

    def _refusal(self) -> SandboxResponse | None:
        """The response to a request whose body is not read."""
        if self._length < 0 or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            return SandboxResponse(status=411, headers={}, body=b"Content-Length required")
        if self._length > self.server.owner.largest_body:
            self.close_connection = True
            return SandboxResponse(status=413, headers={}, body=b"the body is too large")
        return None

    def _request(self) -> SandboxRequest:
        return SandboxRequest(
            method=self.command,
            target=self.raw_requestline.split(b" ")[1].decode("latin-1"),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(self._length) if self._length else b"",
        )

    def _send(self, response: SandboxResponse) -> None:
        body, more = response.body, []
        if self.server.owner.compress and len(body) > 200 and "gzip" in self.headers.get("Accept-Encoding", ""):
            names = {name.lower() for name in response.headers}
            if "content-encoding" not in names:
                body = gzip.compress(body, 1, mtime=0)
                more.append(("Content-Encoding", "gzip"))
        if response.status != 204:
            more.append(("Content-Length", str(len(body))))
        head = head_of(response, *more)
        if self.command == "HEAD" or response.status in (204, 304):
            self.connection.sendall(head)
        elif len(body) < 1 << 16:
            self.connection.sendall(head + body)
        else:
            self.connection.sendall(head)
            self.connection.sendall(body)

    def _play(self, response: Scripted) -> None:
        self.close_connection = True
        for step in response.steps:
            if isinstance(step, SendPause):
                if self.server.owner.stopping.wait(step.seconds):
                    return
            elif isinstance(step, Reset):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.rfile.close()  # it keeps the connection open
                self.connection.close()
                return
            else:
                self.connection.sendall(step)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _respond  # noqa: N815
