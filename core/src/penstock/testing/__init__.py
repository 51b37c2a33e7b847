"""
Test helpers for connectors, sinks and the core: a fake clock, a scripted exchange, recordings. A server for a
provider's imitation, and faults to put in front of it, are in :mod:`penstock.sandbox`.

:func:`penstock.testing.conformance.conforms` tests the requirements for every connector.
"""

from penstock.testing.clock import FakeClock, ShiftedClock
from penstock.testing.exchange import ScriptedExchange, a_response, verdict_on
from penstock.testing.replay import Replayed, replayed

__all__ = [
    "FakeClock",
    "Replayed",
    "ScriptedExchange",
    "ShiftedClock",
    "a_response",
    "replayed",
    "verdict_on",
]
