"""
Named points at which a test kills the process, to prove the promises of a sink.
"""

import os
import signal

VARIABLE = "PENSTOCK_KILL_AT"

_passed = 0


def fault_point(name: str) -> None:
    """
    Kill this process, as ``kill -9`` does, if the environment's ``PENSTOCK_KILL_AT`` is ``name`` (at the first pass)
    or ``name:n`` (at the n-th pass). Otherwise do nothing.
    """
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        return
    point, _, number = chosen.partition(":")
    if point == name:
        global _passed
        _passed += 1
        if _passed == int(number or 1):
            os.kill(os.getpid(), signal.SIGKILL)
