"""
Named points at which a process may be killed on purpose, to prove what a sink promises.
"""

import os
import signal

VARIABLE = "PENSTOCK_KILL_AT"

_passed = 0


def fault_point(name: str) -> None:
    """
    Do nothing, unless the environment's ``PENSTOCK_KILL_AT`` is ``name`` (the first pass) or ``name:n`` (the n-th):
    then this process ends here, as ``kill -9`` would end it.
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    point, _, number = wanted.partition(":")
    if point == name:
        global _passed
        _passed += 1
        if _passed == int(number or 1):
            os.kill(os.getpid(), signal.SIGKILL)
