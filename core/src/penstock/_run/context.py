"""
What the jobs of one run share, and how a run begins.
"""

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import define, field

from penstock._config.pipeline import NONE_ALLOWED
from penstock._config.source import ConfiguredSource
from penstock._fetch.client import SourceClient
from penstock._fetch.exchange_recording import ExchangeRecording
from penstock._fetch.limits import Deadline, RetryBudget, default_deadline
from penstock._fetch.peers import Peers
from penstock._fetch.scheduler import Scheduler
from penstock._plan.read_job import ReadJob
from penstock._plugins.registry import Registry
from penstock._run_report.log import RunLog
from penstock._run_report.report import RunReport
from penstock._util.clock import Clock
from penstock.errors import PenstockError
from penstock.events import Event, OnEvent, ignore


@define(eq=False, repr=False, kw_only=True)
class RunContext:
    """
    The jobs of one run, and what they share. ``unusable``: by name, why the configuration of a source, which has no
    job, cannot be used. ``recording``: records the exchanges, or replays them. ``peers``: the other processes of a
    divided run, whose coordinator passes events to plugins, and records the run.
    """

    jobs: Sequence[ReadJob]
    clock: Clock
    started_at: datetime  # of the whole run
    run_report: RunReport
    emit: OnEvent
    on_start: Callable[[], None] = lambda: None  # called when the targets are open
    unusable: Mapping[str, PenstockError] = field(factory=dict)
    deadline: Deadline = default_deadline
    recording: ExchangeRecording | None = None
    peers: Peers = field(factory=Peers)
    retry_budget: RetryBudget = field(factory=RetryBudget, init=False)
    scheduler: Scheduler = field(init=False)
    clients: dict[str, SourceClient] = field(factory=dict, init=False)  # by source
    recorded_until: datetime | None = field(init=False)  # when the last response came, of a recording that is replayed
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self.scheduler = Scheduler(self.clock, self.deadline)
        self.recorded_until = self.recording.until if self.recording is not None else None

    def announce(self, sources: Sequence[str], unusable: Mapping[str, PenstockError]) -> None:
        """Report that the run reads these sources, whose targets could be opened, and does not read the unusable."""
        self.on_start()
        self.emit({"event": "run_started", "run_id": self.run_report.run_id, "sources": list(sources)})
        for source, error in unusable.items():
            RunLog(source, self.run_report, self.emit).fail(None, None, error)

    def close_clients(self) -> None:
        """Close the clients of all sources."""
        with self._lock:
            clients = list(self.clients.values())
            self.clients.clear()
        for client in clients:
            client.close()

    def client(self, source: ConfiguredSource) -> SourceClient:
        """The client of a source: one for all its jobs, which share its rate limit."""
        with self._lock:
            if source.name not in self.clients:
                self.clients[source.name] = SourceClient(
                    source,
                    RunLog(source.name, self.run_report, self.emit),
                    clock=self.clock,
                    retry_budget=self.retry_budget,
                    deadline=self.deadline,
                    recording=self.recording,
                    peers=self.peers,
                )
            return self.clients[source.name]


def new_run(
    jobs: Sequence[ReadJob],
    *,
    clock: Clock,
    unusable: Mapping[str, PenstockError] | None = None,
    deadline_s: float | None = None,
    on_start: Callable[[], None] = lambda: None,
    on_event: OnEvent = ignore,
    recording: ExchangeRecording | None = None,
) -> RunContext:
    """
    The context of a run that begins now. ``deadline_s``: how long it may take. ``on_event`` and every plugin get its
    events.
    """
    now = clock.now()
    run_report = RunReport(run_id=new_run_id(now), allowed=jobs[0].allowed if jobs else NONE_ALLOWED)
    return RunContext(
        jobs=jobs,
        clock=clock,
        started_at=now,
        run_report=run_report,
        emit=emitter(on_event, [job.source.registry for job in jobs], run_report.run_id),
        on_start=on_start,
        unusable=unusable or {},
        deadline=Deadline.after(clock, deadline_s),
        recording=recording,
    )


def emitter(on_event: OnEvent, registries: Sequence[Registry], run_id: str) -> OnEvent:
    """One thread-safe listener that adds the run's id to an event, and passes it to the caller's and every plugin's."""
    lock = threading.Lock()
    plugins = dict.fromkeys(registries)  # jobs share one

    def emit(event: Event) -> None:
        event_of_run: Any = {**event, "run_id": run_id}
        with lock:
            on_event(event_of_run)
            for registry in plugins:
                registry.event(event_of_run)

    return emit


def new_run_id(now: datetime) -> str:
    """An id that sorts by time, and differs for two runs in one second."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
