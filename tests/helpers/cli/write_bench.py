"""
Writes of a provider over real HTTP: a directory with a configuration, the imitation that it leads to, and troubles.
"""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field
from command_in_process import main
from connector_sensis.sandbox import listing_id
from penstock import SandboxRequest, SandboxResponse
from penstock._plugins.registry import Registry
from penstock.sandbox.server import Reset, Scripted, Server

Trouble = Callable[[SandboxRequest, Callable[[SandboxRequest], SandboxResponse]], SandboxResponse]


def reset_before(request: SandboxRequest, app: Any) -> SandboxResponse:
    """The connection breaks, nothing was recorded."""
    return Scripted(steps=(Reset(),))


def reset_after(request: SandboxRequest, app: Any) -> SandboxResponse:
    """The connection breaks when all is recorded."""
    app(request)
    return Scripted(steps=(Reset(),))


def error_before(request: SandboxRequest, app: Any) -> SandboxResponse:
    return SandboxResponse(status=500, body=b"{}")


def error_after(request: SandboxRequest, app: Any) -> SandboxResponse:
    app(request)
    return SandboxResponse(status=502, headers={"Content-Type": "text/html"}, body=b"<html>Bad Gateway</html>")


def cut_after(request: SandboxRequest, app: Any) -> SandboxResponse:
    app(request)
    return Scripted(steps=(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{",))


def html_after(request: SandboxRequest, app: Any) -> SandboxResponse:
    app(request)
    return SandboxResponse(headers={"Content-Type": "text/html"}, body=b"<html>Sign in</html>")


def turned_away(request: SandboxRequest, app: Any) -> SandboxResponse:
    return SandboxResponse(status=429, headers={"Retry-After": "0"}, body=b"{}")


UNKNOWN = (reset_before, reset_after, error_before, error_after, cut_after, html_after)


@define(eq=False)
class Troubled:
    """An app that meets its requests with trouble: ``at`` maps the number of a request (from 0) to what happens."""

    app: Callable[[SandboxRequest], SandboxResponse]
    at: dict[int, Trouble] = field(factory=dict)
    seen: list[SandboxRequest] = field(factory=list)
    lock: threading.Lock = field(factory=threading.Lock)

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        with self.lock:
            number = len(self.seen)
            self.seen.append(request)
        trouble = self.at.get(number)
        return trouble(request, self.app) if trouble is not None else self.app(request)


@define(eq=False)
class Bench:
    """A directory with a configuration, and the imitation that it leads to."""

    folder: Path
    server: Server
    app: Any
    capture: Any

    def act(self, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        """Exit code, receipts and stderr."""
        self.capture.readouterr()
        code = main(["act", *arguments], environ={})
        out, err = self.capture.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    def write(self, name: str, rows: Sequence[Any]) -> str:
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return name

    def configure(self, connector: str, **more: Any) -> None:
        settings = {**Registry().sandbox(connector).settings, "base_url": self.server.base_url, **more}
        settings |= {"retry_first_s": 0.01, "requests_per_second": 10_000.0}
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if not isinstance(value, dict)]
        (self.folder / "penstock.toml").write_text(f"[source.{connector}]\n" + "\n".join(lines) + "\n")


def a_bench(connector: str, app: Any, server: Server, folder: Path, capture: Any, **settings: Any) -> Bench:
    """A bench whose configuration leads to ``app``, the imitation of the connector's provider."""
    server.app = app
    bench = Bench(folder, server, app, capture)
    bench.configure(connector, **settings)
    return bench


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"event_name": "appearance", "user_ip": "203.0.113.7", "id": listing_id(number), **more}


def statuses(receipts: Sequence[dict[str, Any]]) -> list[str]:
    return [receipt["status"] for receipt in receipts]


def client_of(bench: Bench) -> str:
    return str(next(iter(bench.app.clients)))
