"""
Local imitations of providers: their common base, the server that runs them, and faults.
"""

from penstock.connector import Sandbox
from penstock.sandbox.app import SandboxApp, SandboxRequest, SandboxResponse
from penstock.sandbox.base import (
    SandboxBase,
    SandboxError,
    SandboxReports,
    SlidingWindow,
    Tokens,
    draw,
    json_body,
    json_response,
)
from penstock.sandbox.faults import FAULTS, Fault, faults_named, with_faults
from penstock.sandbox.server import Reset, Scripted, SendPause, Server, head_of, serve

__all__ = [
    "FAULTS",
    "Fault",
    "Reset",
    "Sandbox",
    "SandboxApp",
    "SandboxBase",
    "SandboxError",
    "SandboxReports",
    "SandboxRequest",
    "SandboxResponse",
    "Scripted",
    "SendPause",
    "Server",
    "SlidingWindow",
    "Tokens",
    "draw",
    "faults_named",
    "head_of",
    "json_body",
    "json_response",
    "serve",
    "with_faults",
]
