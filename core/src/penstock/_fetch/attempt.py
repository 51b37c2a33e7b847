"""
One attempt of one request: the connection it uses, and what it observes there.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

IDLE_S = 50.0  # an idle connection is used again within this time (servers often close it after 60 s)


class NetworkAttempt:
    """
    One attempt, in one thread. ``address``: authority and target of its URL.

    Its state is set by `transport`, by the connection in use, which finds the attempt by ``current``, and by the thread
    that watches its deadline.
    """

    def __init__(self, deadline: float, address: tuple[str, str], *, max_idle_s: float = IDLE_S) -> None:
        self.deadline = deadline
        self.authority, self.target = address
        self.max_idle_s = max_idle_s
        # Set by `transport`, for an origin that is not trusted.
        self.check_peer: Callable[[str], None] | None = None
        # Set by `connections`: AttemptConnection.connect and endheaders.
        self.connection: Any = None
        self.socket: Any = None  # also when urllib3 let go of it, since the response has "Connection: close"
        self.sent = False  # some of the request may have left
        # Set by `connections`: the body of a response.
        self.ends_early = False  # the connection ended where a line was due
        self.surplus = False  # bytes lay behind the body
        # Set by `deadlines`, in the thread that watches, and by a transport that is closed.
        self.overdue = False  # its deadline passed
        self.was_cut = False  # it was shut by us

    def cut(self) -> None:
        """Make the thread that waits on this attempt's socket wake up."""
        self.was_cut = True
        connected = (self.connection.sock if self.connection is not None else None) or self.socket
        if isinstance(connected, socket.socket):  # TLS inside TLS is not one; it ends with its timeout
            with contextlib.suppress(OSError):
                # Not the method of an SSL socket: it would first let go of the TLS state that the other thread uses.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)


class _Current(threading.local):
    attempt: NetworkAttempt


current = _Current()
"""
The attempt of this thread, for the connections that urllib3 makes or takes from its pool: ``urlopen`` hands nothing of
the caller's on to them.
"""
