"""
Ctrl-C and SIGTERM, for commands that complete or abort their work before they end.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from penstock._cli.session import Session
from penstock._util.clock import Clock
from penstock.commands.process import stop_on_signals

STOPPING = "stopping; completed partitions stay delivered. A second signal ends the process at once"


@contextmanager
def stopping(session: Session, clock: Clock, notice: str = STOPPING) -> Iterator[None]:
    """
    The first Ctrl-C or SIGTERM sets ``clock.stop``, so that a run ends cleanly; the second ends the process at once.
    """
    with stop_on_signals(clock.stop, lambda name: session.say(f"{name}: {notice}", event="stopping")):
        yield
