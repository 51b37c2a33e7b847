"""
The command ``penstock``, and ``python -m penstock``: the command line in a process of its own.
"""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def script() -> int:
    """
    Run the command line; its exit code. While it is being loaded, Ctrl-C and SIGTERM end the process with 130 at once:
    there is nothing to complete.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _end)
    from penstock._cli import script as loaded

    return loaded()


if __name__ == "__main__":
    sys.exit(script())
