"""
Test helpers for connectors, sinks and the core: a fake clock, a scripted exchange, recordings. A server for a
provider's imitation, and faults to put in front of it, are in :mod:`penstock.sandbox`.

:func:`penstock.testing.conformance.conforms` tests the requirements for every connector.
"""

from typing import TYPE_CHECKING, Any

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

_IN_SANDBOX = ("FAULTS", "Fault", "Server", "faults_named", "serve", "with_faults")

if not TYPE_CHECKING:  # for a type checker, a module with __getattr__ has every name

    def __getattr__(name: str) -> Any:
        if name in _IN_SANDBOX:  # an AttributeError would lose its text in "from penstock.testing import ..."
            raise ImportError(f"{name} is in penstock.sandbox: from penstock.sandbox import {name}")
        raise AttributeError(f"module 'penstock.testing' has no attribute {name!r}")
