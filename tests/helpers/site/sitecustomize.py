"""
Set the clock of a Python process ahead by ``PENSTOCK_TEST_AHEAD_S``: a process of a test has the day of the test.
"""

import os
import time

import time_machine

if "PENSTOCK_TEST_AHEAD_S" in os.environ:
    time_machine.travel(time.time() + float(os.environ["PENSTOCK_TEST_AHEAD_S"]), tick=True).start()
