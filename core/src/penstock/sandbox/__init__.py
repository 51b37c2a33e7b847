"""
Local imitations of providers: their common base, the server that runs them, and faults.
"""

from penstock.connector import Sandbox
from penstock.sandbox.app import SandboxApp, SandboxRequest, SandboxResponse
from penstock.sandbox.base import (
    RateLimit,
    Reports,
    SandboxBase,
    SandboxError,
    Tokens,
    draw,
    json_body,
    json_response,
)
from penstock.sandbox.faults import FAULTS, Fault, faults_named, with_faults
from penstock.sandbox.server import Pause, Reset, Scripted, Server, head_of, serve

__all__ = [
    "FAULTS",
    "Fault",
    "Pause",
    "RateLimit",
    "Reports",
    "Reset",
    "Sandbox",
    "SandboxApp",
    "SandboxBase",
    "SandboxError",
    "SandboxRequest",
    "SandboxResponse",
    "Scripted",
    "Server",
    "Tokens",
    "draw",
    "faults_named",
    "head_of",
    "json_body",
    "json_response",
    "serve",
    "with_faults",
]
