"""
One attempt of one request: its deadline, the connection it uses, and what it observes there.

The connections are urllib3's, with additions: they send the URL unchanged, since a signature covers it byte for byte;
they detect headers that are cut and bytes behind a body; and each can be shut by another thread.
"""

import contextlib
import http.client
import io
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from penstock._fetch.body import NotWholeError

IDLE_S = 50.0  # an idle connection is used again within this time (servers often close it after 60 s) ...


class Attempt:
    """
    One attempt, in one thread. ``address``: authority and target of its URL.

    ``sent``: some of the request may have left. ``overdue``: its deadline passed. ``was_cut``: it was shut by us.
    ``ends_early``: the connection ended where a line was due. ``surplus``: bytes lay behind the body.
    """

    def __init__(self, deadline: float, address: tuple[str, str], *, max_idle_s: float = IDLE_S) -> None:
        self.deadline = deadline
        self.authority, self.target = address
        self.max_idle_s = max_idle_s
        self.connection: ReportingConnection | None = None
        self.socket: Any = None  # also when urllib3 let go of it, since the response has "Connection: close"
        self.check_peer: Callable[[str], None] | None = None
        self.sent = False
        self.overdue = False
        self.was_cut = False
        self.ends_early = False
        self.surplus = False

    def cut(self) -> None:
        """Make the thread that waits on this attempt's socket wake up."""
        self.was_cut = True
        current = (self.connection.sock if self.connection is not None else None) or self.socket
        if isinstance(current, socket.socket):  # TLS inside TLS is not one; it ends with its timeout
            with contextlib.suppress(OSError):
                # Not the method of an SSL socket: it would first let go of the TLS state that the other thread uses.
                socket.socket.shutdown(current, socket.SHUT_RDWR)


class _Current(threading.local):
    attempt: Attempt


current = _Current()
"""The attempt of this thread, for the connections that urllib3 makes or takes from its pool."""


class _Body(io.BufferedReader):
    """The receiving side of a socket. It detects a connection that ends inside the head, and bytes behind the body."""

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        super().__init__(raw, 1 << 16)
        self._socket = sock
        self._attempt = current.attempt  # the body may be closed by another thread
        self.of_response = False  # not of a proxy's response to CONNECT: what follows that is not its surplus

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n"):
            self._attempt.ends_early = True
        return line

    def close(self) -> None:
        if not self.closed and self.of_response:
            surplus = self._attempt.surplus = self._has_surplus()
            if self._attempt.connection is not None:
                self._attempt.connection.idle_since = -1e9 if surplus else time.monotonic()
        super().close()

    def _has_surplus(self) -> bool:
        """Whether bytes behind the body have arrived already."""
        timeout = self._socket.gettimeout()
        try:
            self._socket.settimeout(0)
            return bool(self.peek(1))
        except OSError:  # nothing more on TLS, or a connection reset behind the body: the body is whole
            return False
        finally:
            with contextlib.suppress(OSError):
                self._socket.settimeout(timeout)


class _Reply(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp: Any = _Body(self.fp.detach(), sock)

    def begin(self) -> None:
        super().begin()
        if current.attempt.ends_early:  # http.client takes what came for all headers there are
            raise NotWholeError("cut its response inside the headers")
        if self.fp is not None:
            self.fp.of_response = True


class ReportingConnection(HTTPConnection):
    """A connection that reports to its attempt, and sends the URL unchanged."""

    idle_since = 0.0
    response_class = _Reply

    def connect(self) -> None:
        attempt = current.attempt
        attempt.connection = self
        super().connect()
        attempt.socket = self.sock
        if attempt.check_peer is not None and self.proxy is None and self.sock is not None:
            attempt.check_peer(str(self.sock.getpeername()[0]))

    @property
    def is_connected(self) -> bool:
        """Whether it may be reused: open, without pending bytes, and idle for less than servers usually allow."""
        return super().is_connected and time.monotonic() - self.idle_since <= current.attempt.max_idle_s

    def putrequest(self, method: str, url: str, *args: Any, **more: Any) -> None:
        # urllib3 normalises the URL after it was signed; a signature covers it byte for byte.
        attempt = current.attempt
        absolute_form = not url.startswith("/")  # through a forwarding proxy
        target = f"http://{attempt.authority}{attempt.target}" if absolute_form else attempt.target
        super().putrequest(method, target, *args, **more)

    def endheaders(self, *args: Any, **more: Any) -> None:
        attempt = current.attempt
        if self.sock is None:
            self.connect()
        attempt.connection, attempt.socket = self, self.sock
        attempt.sent = True
        super().endheaders(*args, **more)


class ReportingTlsConnection(ReportingConnection, HTTPSConnection):
    pass


class HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = ReportingConnection


class HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = ReportingTlsConnection
