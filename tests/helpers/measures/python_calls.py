"""
The cost of a piece of work as a number of Python calls, which depends on no clock and no load.
"""

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


def calls_of(work: Callable[[], object]) -> int:
    """How many calls of Python functions it takes, in this thread and those that fetch or check."""
    counts: list[list[int]] = []

    def start() -> Callable[[FrameType, str, Any], None]:
        mine = [0]
        counts.append(mine)

        def count(frame: FrameType, event: str, argument: Any) -> None:
            mine[0] += event == "call"

        return count

    def in_thread(frame: FrameType, event: str, argument: Any) -> None:
        # The server's threads are none of ours.
        sys.setprofile(start() if threading.current_thread().name.startswith(("fetch-", "read ", "check_")) else None)

    threading.setprofile(in_thread)
    sys.setprofile(start())
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return sum(one for (one,) in counts)
