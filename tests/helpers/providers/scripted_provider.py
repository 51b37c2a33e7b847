"""
A small provider for tests of a read: streams declared by the test, answers given by one function of the request.
"""

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import penstock_plugins
from attrs import define, evolve, field
from penstock import Connector, SandboxRequest, SandboxResponse, SourceSettings, Stream, Unsigned, hookimpl
from penstock._config.pipeline import Allowance
from penstock._config.source import ConfiguredSource
from penstock._plan.plan import Plan
from penstock._plan.planner import plan_job
from penstock._plan.read_job import ReadJob
from penstock._plugins.registry import Registry
from penstock._recording.recorder import Recorder
from penstock._recording.replay import Recording
from penstock._run.context import new_run
from penstock._run.runner import run_jobs
from penstock._run_report.report import RunReport
from penstock.ledger_interface import LedgerEntry, RunRecord
from penstock.sandbox.server import serve
from penstock.testing import FakeClock
from penstock.testing.memory import MemorySink

NOW = datetime(2026, 6, 17, 12, tzinfo=UTC)

Answer = Callable[[SandboxRequest], Any]


@define(kw_only=True, eq=False)
class ScriptedProvider:
    """
    The source ``shop``, read into memory. ``answer`` gives JSON-like data, a status, bytes, or a whole response.
    ``notes`` are those of the last run, ``requests`` all that the provider received in it, ``clock`` its time.
    """

    folder: Path
    streams: Sequence[Stream]
    answer: Answer
    now: datetime = NOW
    chosen: Sequence[str] = ()  # the streams that a run reads; empty: all
    statuses: dict[bytes, int] = field(factory=dict)  # of certain bodies
    on_event: Callable[[Any], None] = lambda event: None  # gets each event of a run
    stop: threading.Event = field(factory=threading.Event)  # ends a run, as Ctrl-C does
    clock_class: type[FakeClock] = FakeClock
    authenticator: Callable[[Any], Any] = lambda settings: Unsigned()
    sink: MemorySink = field(init=False)
    requests: list[SandboxRequest] = field(factory=list, init=False)
    notes: list[str] = field(factory=list, init=False)
    clock: FakeClock = field(factory=FakeClock, init=False)
    _port: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.sink = MemorySink(self.folder / "ledger.sqlite")

    def run(
        self,
        *,
        since: str = "2026-06-14",
        until: str = "2026-06-16",
        full: bool = False,
        allow_rejected: bool | int | str = False,
        record: Path | None = None,
        record_full: Path | None = None,
        replay: Path | None = None,
        **more: Any,
    ) -> RunReport:
        """Run the streams for these days; options as those of ``penstock run``. ``more`` are settings."""
        recording: Recorder | Recording | None = None
        if (recorded := record_full or record) is not None:
            recording = Recorder(recorded, full=record_full is not None)
        elif replay is not None:
            recording = Recording.open(replay)
        self.requests, self.notes = [], []
        with serve(self, port=self._port) as server:
            self._port = int(server.base_url.rpartition(":")[2])  # a later run finds the same address
            job = self._job(server.base_url, since, until, more)
            job = evolve(job, allowed=Allowance.parse(allow_rejected), full=full)
            self.clock = self.clock_class(self.now, self.stop)
            return run_jobs(new_run([job], clock=self.clock, on_event=self._observe, recording=recording))

    def plan(self, *, since: str = "2026-06-14", until: str = "2026-06-16") -> Plan:
        """What a run would read."""
        return plan_job(self._job("http://127.0.0.1:1", since, until, {}), self.now)

    def rows(self, stream: str) -> list[dict[str, Any]]:
        """The delivered rows, partition by partition."""
        return self.sink.all(stream)

    def entries(self, stream: str) -> dict[str, LedgerEntry]:
        """The rows of the ledger, by the last value of their partition."""
        target = self.sink.open_readonly("shop")
        assert target is not None
        try:
            found = target.ledger.entries("shop", stream)
            return {(partition.values or (("", ""),))[-1][1]: entry for partition, entry in found.items()}
        finally:
            target.close()

    def runs(self) -> Sequence[RunRecord]:
        """The runs in the ledger."""
        target = self.sink.open_readonly("shop")
        assert target is not None
        try:
            return target.ledger.runs("shop")
        finally:
            target.close()

    def _job(self, base_url: str, since: str, until: str, more: dict[str, Any]) -> ReadJob:
        settings = SourceSettings(base_url=base_url, retries=1, retry_first_s=0.01, retry_max_s=0.02, **more)
        return ReadJob(
            source=ConfiguredSource.of(Registry([self, penstock_plugins]), "shop", settings),
            streams=tuple(self.chosen) or tuple(stream.name for stream in self.streams),
            sink=self.sink,
            since=date.fromisoformat(since),
            until=date.fromisoformat(until),
        )

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        """The response to a request: the provider can be served."""
        self.requests.append(request)
        answer = self.answer(request)
        if isinstance(answer, SandboxResponse):
            return answer
        if isinstance(answer, int):
            return SandboxResponse(status=answer)
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return SandboxResponse(status=self.statuses.get(body, 200), body=body)

    def _observe(self, event: Any) -> None:
        self.on_event(event)
        if event["event"] == "note":
            self.notes.append(event["message"])

    @hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        return [Connector(name="shop", summary="a shop", settings=SourceSettings, authenticator=self.authenticator)]

    @hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        return self.streams if source == "shop" else ()
