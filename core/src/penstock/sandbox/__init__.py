"""
Local imitations of providers: what a plugin declares, the server that runs them, and the faults they can show.
"""

from penstock.sandbox.app import Sandbox, SandboxApp, SandboxRequest, SandboxResponse
from penstock.sandbox.faults import FAULTS, Fault, faults_named, with_faults
from penstock.sandbox.server import Pause, Reset, Scripted, Server, head_of, serve

__all__ = [
    "FAULTS",
    "Fault",
    "Pause",
    "Reset",
    "Sandbox",
    "SandboxApp",
    "SandboxRequest",
    "SandboxResponse",
    "Scripted",
    "Server",
    "faults_named",
    "head_of",
    "serve",
    "with_faults",
]
