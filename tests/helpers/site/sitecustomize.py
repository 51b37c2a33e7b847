"""
Set the clock of a Python process ahead by ``PENSTOCK_TEST_AHEAD_S``: a process of a test has the day of the test.
"""

import os
import sys
import time
from typing import Any

if "PENSTOCK_TEST_AHEAD_S" in os.environ:
    modules: dict[str, Any] = sys.modules
    modules["pytest"] = None  # else time_machine imports it, which takes long
    import time_machine

    del modules["pytest"]
    time_machine.travel(time.time() + float(os.environ["PENSTOCK_TEST_AHEAD_S"]), tick=True).start()
