"""
A provider that the command line reads into a Postgres.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from attrs import define, field
from command_in_subprocess import command, configure
from penstock import SandboxRequest, SandboxResponse
from penstock.sandbox.server import Server
from providers import TODAY, Provider, Row, bag
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

STAMPS = ("_run_id", "_loaded_at")


@define(eq=False)
class Bench:
    """A provider that is served, a folder in which the command line reads it, and a database."""

    provider: Provider
    app: Any
    folder: Path
    dsn: str
    on_request: Callable[[int], None] = lambda number: None
    request_count: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        with self._lock:
            self.request_count += 1
            number = self.request_count
        self.on_request(number)
        answer: SandboxResponse = self.app(request)
        return answer

    @property
    def days(self) -> list[date]:
        return self.provider.window(self.app.today)

    def start(self, *words: str, environ: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        days = self.days
        return command(
            self.folder,
            *("run", self.provider.name, "--to", self.dsn, "--streams", ",".join(self.provider.streams)),
            *("--since", str(days[0]), "--until", str(days[-1]), "--report", "report.json", *words),
            environ=environ,
        )

    def run(self, *words: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Exit code and the output, in which there must be no trace of a defect."""
        _, printed = (process := self.start(*words, environ=environ)).communicate()
        text = printed.decode()
        assert "Traceback" not in text, text
        assert "defect" not in text, text
        return process.returncode, text

    def query(self, statement: str) -> list[Row]:
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as connection:
            set_json_loads(partial(json.loads, parse_float=Decimal), connection)
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def rows(self, stream: str) -> list[Row]:
        found = self.query(f'select * from "{self.provider.name}"."{stream}"')
        return [{name: value for name, value in row.items() if name not in STAMPS} for row in found]

    def truth(self) -> dict[str, list[Row]]:
        return self.provider.expected_by_stream(self.app, self.days)

    def assert_true(self) -> None:
        """The tables hold the provider's rows, each once, and the ledger counts them so."""
        for stream, rows in self.truth().items():
            assert bag(self.rows(stream)) == bag(rows), stream
        states = {row["state"] for row in self.query("select distinct state from penstock.partitions")}
        assert states == {"delivered"}

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return found


def made_bench(provider: Provider, web: Server, folder: Path, dsn: str) -> Bench:
    app = provider.make(web.base_url, TODAY)
    made = Bench(provider, app, folder, dsn)
    web.app = made
    configure(folder, provider, web.base_url)
    return made
