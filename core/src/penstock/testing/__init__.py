"""
What tests of connectors, sinks and the core itself have in common: a clock that is moved, an exchange that is
written down, a server for a provider's imitation, and the faults to put in front of it.

What every connector must keep is tried by :func:`penstock.testing.conformance.conforms`.
"""

from penstock.sandbox.faults import FAULTS, Fault, faults_named, with_faults
from penstock.sandbox.server import Server, serve
from penstock.testing.clock import FakeClock, ShiftedClock
from penstock.testing.exchange import ScriptedExchange, a_response, verdict_on

__all__ = [
    "FAULTS",
    "FakeClock",
    "Fault",
    "ScriptedExchange",
    "Server",
    "ShiftedClock",
    "a_response",
    "faults_named",
    "serve",
    "verdict_on",
    "with_faults",
]
