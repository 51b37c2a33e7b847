"""
Connections: one to one origin, whose every wait ends in time, and all those of a source.
"""

import contextlib
import io
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from penstock._fetch.origin import split
from penstock._fetch.transport.failures import CONNECT_S, CutError, OverdueError, UnsendableError, not_connected
from penstock.errors import StoppedError, TransportError
from penstock.model import Request

if TYPE_CHECKING:
    import http.client


class Wire:
    """One connection to one origin, and the time by which the attempt it now serves must have ended."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.connection: http.client.HTTPConnection | None = None
        self.deadline = 0.0
        self.timeout_s = 0.0
        self.idle_since = 0.0
        self.sent = False  # some of the request that it now carries may have left
        self.absolute = False  # through a forwarding proxy the target is the whole URL
        self.proxy_headers: tuple[tuple[str, str], ...] = ()
        self._socket: Any = None
        self._arriving: Timed | None = None
        self._waiting = select.poll()
        self._waits: tuple[Any, float] | None = None  # a socket, and the timeout that it has

    def open(self, timeout_s: float, *, direct: bool) -> None:
        """Connect. ``direct``: the connection is the standard library's, whose errors do not say what failed."""
        assert self.connection is not None
        # A callable in place of the class: http.client only ever calls it, with the socket.
        self.connection.response_class = self._reply  # type: ignore[assignment]
        self.timeout_s = timeout_s
        try:
            self.connection.connect()
        except OSError as error:
            if direct and self.connection.sock is None:
                raise CutError(not_connected(error, timeout_s)) from None
            if isinstance(error, TimeoutError):  # after TCP: the handshake of TLS or of a proxy
                raise CutError(f"did not complete a connection within {min(timeout_s, CONNECT_S):g} s") from None
            raise
        self._socket = self.connection.sock
        self._waiting.register(self._socket, select.POLLIN)

    def _reply(self, sock: Any, *args: Any, **more: Any) -> "http.client.HTTPResponse":
        import http.client

        self._arriving = Timed(self, sock)
        return http.client.HTTPResponse(self._arriving, *args, **more)  # type: ignore[arg-type]

    def peer(self) -> str:
        return str(self._socket.getpeername()[0])

    def left(self) -> float:
        """Seconds until the next byte must have come."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise OverdueError
        return min(left, self.timeout_s)

    def bound(self, sock: Any, seconds: float) -> None:
        """Set the socket's timeout, if it has another: each setting is a system call, and lets other threads run."""
        if (sock, seconds) != self._waits:
            sock.settimeout(seconds)
            self._waits = (sock, seconds)

    def readable(self) -> bool:
        """Whether something can be read at once: bytes, or the end of the connection."""
        return bool(self._waiting.poll(0))

    def send(self, request: Request, url: str, headers: list[tuple[str, str]]) -> None:
        connection = self.connection
        assert connection is not None
        authority, target = split(url)
        self.bound(self._socket, self.left())
        try:
            connection.putrequest(
                request.method,
                f"http://{authority}{target}" if self.absolute else target,
                skip_host=True,
                skip_accept_encoding=True,
            )
            connection.putheader("Host", authority)
            for name, value in (*headers, *self.proxy_headers):
                connection.putheader(name, value)
        except ValueError:  # of its headers a value holds a line break or a letter beyond Latin-1
            name = next((name for name, value in headers if not _sendable(value)), "one of its headers")
            raise UnsendableError(
                f"{name} holds characters that HTTP does not allow in a header; check the credentials in the "
                "configuration for line breaks and typographic signs"
            ) from None
        self.sent = True
        try:
            connection.endheaders(request.body or None)
        except BrokenPipeError:
            pass  # the server may have answered and closed before it read everything; that answer counts
        except TimeoutError:
            self.left()
            raise

    def receive(self) -> "http.client.HTTPResponse":
        """The answer up to its body."""
        import http.client

        assert self.connection is not None
        # Around urllib3's own method, which wraps the answer in what we do not use.
        reply = http.client.HTTPConnection.getresponse(self.connection)
        if self._arriving is not None and self._arriving.ended:  # http.client takes what came for all headers there are
            reply.close()
            raise CutError("cut its answer inside the headers")
        return reply

    def alive(self) -> bool:
        """Whether it is open and silent: what can be read from an idle connection is its end, or a stray answer."""
        return self.connection is not None and self.connection.sock is not None and not self.readable()

    def kill(self) -> None:
        """Make whoever waits on this connection in another thread wake up."""
        if isinstance(self._socket, socket.socket):  # TLS inside TLS is not one; it ends with its timeout
            with contextlib.suppress(OSError):
                # Not the method of an SSL socket: it would first let go of the TLS state that the other thread uses.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()


class Timed(io.RawIOBase):
    """
    The receiving side of a socket, each wait bounded by the connection's timeout and the attempt's deadline.

    A socket's own timeout starts anew with every byte, so that a drip of one byte a minute would never end.
    """

    def __init__(self, wire: Wire, sock: Any) -> None:
        self._wire = wire
        self._socket = sock
        self._raw = sock.makefile("rb", buffering=0)
        self.waits = True
        self.ended = False  # the other side has sent its last byte

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, 1 << 16)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self.waits and not self._decrypted() and not self._wire.readable():
            return None
        self._wire.bound(self._socket, self._wire.left() if self.waits else 0)
        try:
            count: int | None = self._raw.readinto(buffer)
        except TimeoutError:
            self._wire.left()  # says so if it was the deadline that ended the wait
            raise
        self.ended = count == 0
        return count

    def _decrypted(self) -> bool:
        """Whether TLS has read more from the socket than it has handed on."""
        pending = getattr(self._socket, "pending", None)
        return pending is not None and pending() > 0

    def close(self) -> None:
        self._raw.close()
        super().close()


class Pool:
    """At most ``size`` connections, busy and idle ones together; the one idle for the shortest time is taken first."""

    def __init__(self, size: int) -> None:
        self._size = max(1, size)
        self._idle: list[Wire] = []
        self._busy: set[Wire] = set()
        self._changed = threading.Condition()
        self.closed = False

    def take(self, origin: str, max_idle_s: float, deadline: float) -> Wire:
        """A connection to ``origin``, possibly not open yet. Waits while all are busy; give it back in any case."""
        with self._changed:
            while len(self._busy) >= self._size and not self.closed:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TransportError(f"no connection became free for {origin}; lower concurrency")
            if self.closed:
                raise StoppedError("stopped; the next run goes on from what was delivered")
            chosen = Wire(origin)
            now = time.monotonic()
            for at in range(len(self._idle) - 1, -1, -1):
                if self._idle[at].origin == origin:
                    idle = self._idle.pop(at)
                    if now - idle.idle_since <= max_idle_s and idle.alive():
                        chosen = idle
                        break
                    idle.close()
            if chosen.connection is None and len(self._idle) + len(self._busy) >= self._size:
                self._idle.pop(0).close()
            self._busy.add(chosen)
            return chosen

    def give(self, wire: Wire, reusable: bool) -> None:
        with self._changed:
            self._busy.discard(wire)
            keep = reusable and not self.closed
            if keep:
                wire.idle_since = time.monotonic()
                self._idle.append(wire)
            self._changed.notify()
        if not keep:
            wire.close()

    def close(self) -> None:
        with self._changed:
            self.closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
            self._changed.notify_all()
        for wire in idle:
            wire.close()
        for wire in busy:
            wire.kill()


def _sendable(value: str) -> bool:
    return "\n" not in value and "\r" not in value and all(ord(letter) < 256 for letter in value)
