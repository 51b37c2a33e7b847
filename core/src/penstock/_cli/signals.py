"""
Ctrl-C and SIGTERM, for commands that complete or abort their work before they end.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from penstock._cli.session import Session
from penstock._util.clock import Clock

STOPPING = "stopping; completed partitions stay delivered. A second signal ends the process at once"


@contextmanager
def stopping(session: Session, clock: Clock, notice: str = STOPPING) -> Iterator[None]:
    """
    The first Ctrl-C or SIGTERM sets ``clock.stop``, so that a run ends cleanly; the second ends the process at once.
    """
    former: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        clock.stop.set()
        for known in former:
            signal.signal(known, signal.SIG_DFL)
        name = signal.Signals(number).name
        session.say(f"{name}: {notice}", event="stopping")

    try:
        for one in (signal.SIGINT, signal.SIGTERM):
            former[one] = signal.signal(one, stop)
    except ValueError:  # not in the main thread: the caller handles signals
        former.clear()
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
