"""
Named points at which a test kills the process, to prove the promises of a sink.
"""

import os
import signal

VARIABLE = "PENSTOCK_KILL_AT"

_point, _, _number = os.environ.get(VARIABLE, "").partition(":")
_passed = 0


def kill_at(chosen: str) -> None:
    """Choose the point in this process, in place of the environment's."""
    global _point, _number, _passed
    _point, _, _number = chosen.partition(":")
    _passed = 0


def fault_point(name: str) -> None:
    """
    Kill this process, as ``kill -9`` does, if ``PENSTOCK_KILL_AT`` was ``name`` (at the first pass) or ``name:n`` (at
    the n-th pass) when it started. Otherwise do nothing.
    """
    if name == _point:
        global _passed
        _passed += 1
        if _passed == int(_number or 1):
            os.kill(os.getpid(), signal.SIGKILL)
