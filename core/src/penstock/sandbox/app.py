"""
What a plugin declares of a sandbox: a local imitation of its provider.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Protocol

from attrs import field, frozen


class SandboxApp(Protocol):
    """
    A local imitation of a provider: called once per request, from any thread; all state lives in the object.
    """

    def __call__(self, request: "SandboxRequest") -> "SandboxResponse": ...


@frozen(kw_only=True)
class SandboxRequest:
    """A request as the imitation sees it; ``target`` is path and query byte for byte as sent."""

    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def path(self) -> str:
        """The path, without the query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query, without its question mark; empty without one."""
        return self.target.partition("?")[2]


@frozen(kw_only=True)
class SandboxResponse:
    """What the imitation answers."""

    status: int = 200
    headers: Mapping[str, str] = field(factory=lambda: {"Content-Type": "application/json"})
    body: bytes = b""


@frozen(kw_only=True)
class Sandbox:
    """
    How to start the imitation of a connector's provider.

    ``make(base_url, today)`` gives the application, called once it is known where it will be served; ``settings`` are
    the source's keys (as TOML would hold them, without ``base_url``) with which a source reads it.
    """

    connector: str
    summary: str
    make: Callable[[str, date], SandboxApp]
    settings: Mapping[str, Any]
