"""
The requests and responses of a sandbox, a local imitation of a provider.
"""

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import parse_qsl

from attrs import field, frozen


class SandboxApp(Protocol):
    """
    A local imitation of a provider: called once per request, from any thread; all state lives in the object.
    """

    def __call__(self, request: "SandboxRequest") -> "SandboxResponse": ...


@frozen(kw_only=True)
class SandboxRequest:
    """A request as the sandbox receives it; ``target`` is path and query byte for byte as sent."""

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

    @property
    def params(self) -> dict[str, str]:
        """The query's parameters, decoded; a repeated name has its last value."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


@frozen(kw_only=True)
class SandboxResponse:
    """The sandbox's response."""

    status: int = 200
    headers: Mapping[str, str] = field(factory=lambda: {"Content-Type": "application/json"})
    body: bytes = b""
