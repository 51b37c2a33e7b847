"""
Test helpers for connectors, sinks and the core: a fake clock, a scripted exchange, a server for a provider's imitation,
and faults to put in front of it.

:func:`penstock.testing.conformance.conforms` tests the requirements for every connector.
"""

from penstock.sandbox.faults import FAULTS, Fault, faults_named, with_faults
from penstock.sandbox.server import Server, serve
from penstock.testing.clock import FakeClock, ShiftedClock
from penstock.testing.exchange import ScriptedExchange, a_response, verdict_on
from penstock.testing.replay import Replayed, replayed

__all__ = [
    "FAULTS",
    "FakeClock",
    "Fault",
    "Replayed",
    "ScriptedExchange",
    "Server",
    "ShiftedClock",
    "a_response",
    "faults_named",
    "replayed",
    "serve",
    "verdict_on",
    "with_faults",
]
