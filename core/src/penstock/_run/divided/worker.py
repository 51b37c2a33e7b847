"""
One part of a divided run, in a worker: it runs its jobs as any run does, with a line to the coordinator.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

from attrs import define, evolve, field

from penstock._config.pipeline import NONE_ALLOWED
from penstock._fetch.client import SourceClient
from penstock._plan.plan import Job
from penstock._run.context import RunContext
from penstock._run.divided.messages import (
    CooledDown,
    GrantReply,
    GrantRequest,
    Parked,
    RunEvent,
    RunState,
    StateRequest,
    message_of,
    reply_to,
)
from penstock._run.divided.shared_targets import TargetLine
from penstock._run.runner import run
from penstock._run_report.report import RunReport
from penstock._util.clock import Clock
from penstock.engines import Assignment, Line, Message
from penstock.errors import (
    ParkedError,
    StoppedError,
    WorkerLostError,
)
from penstock.events import Event
from penstock.protocols import Grant
from penstock.redact import Secret

STATE_EVERY_S = 0.2


def run_part(
    jobs: Sequence[Job],
    assignment: Assignment,
    line: Line,
    *,
    started_at: datetime,
    clock: Clock,
    deadline_at: datetime | None,
    shared_tokens: bool,
    leases: Mapping[str, int],
) -> RunReport:
    """
    The part of a divided run that these jobs are, in a worker. ``leases``: the numbers of those of the sources whose
    targets the coordinator has. Raises WorkerLostError where the line to the coordinator was cut before the part was
    done, or another worker has taken the part over.
    """
    left_s = None if deadline_at is None else max(0.0, (deadline_at - clock.now()).total_seconds())

    def send_event(event: Event) -> None:
        with suppress(OSError):  # the thread below notices a line that is cut, too, and ends the run
            line.send(message_of(RunEvent(dict(event))))

    peers = LineToPeers(line=line, clock=clock, shares_tokens=shared_tokens)
    context = RunContext(
        jobs=[
            evolve(job, to_coordinator=TargetLine(leases[job.source.name], peers.request, peers.lose).request)
            if job.source.name in leases
            else job
            for job in jobs
        ],
        clock=clock,
        started_at=started_at,
        report=RunReport(run_id=assignment.run_id, allowed=jobs[0].allowed if jobs else NONE_ALLOWED),
        emit=send_event,
        deadline=None if left_s is None else clock.monotonic() + left_s,
        peers=peers,
    )
    with _following(peers, context.clients):
        report = run(context)
    if report.interrupted and peers.lost:  # nobody interrupted the run
        raise WorkerLostError(peers.lost)
    return report


@define(eq=False, repr=False, kw_only=True)
class LineToPeers:
    """See :class:`penstock._fetch.client.Peers`. ``lost``: why this part is not of the run any more; empty: it is."""

    line: Line
    clock: Clock
    shares_tokens: bool
    lost: str = field(default="", init=False)

    def lose(self, reason: str) -> None:
        """Stop this part."""
        self.lost = self.lost or reason
        self.clock.stop.set()

    def grant(self, source: str, account: str | None, used: Grant | None) -> Grant:
        token = used.token.reveal() if used is not None else None
        reply = reply_to(self.request, GrantRequest(source, account, token), GrantReply)
        if reply.failure is not None:
            raise reply.failure.error
        return Grant(token=Secret(reply.token), life_s=reply.life_s)

    def cooled_down(self, source: str, seconds: float) -> None:
        with suppress(OSError):
            self.line.send(message_of(CooledDown(source, seconds)))

    def parked(self, source: str, error: ParkedError) -> None:
        with suppress(OSError):
            self.line.send(message_of(Parked(source, str(error), error.until)))

    def request(self, message: Message) -> Message:
        """The coordinator's reply. StoppedError, which stops the part, where there is none any more."""
        try:
            return self.line.request(message)
        except OSError:
            self.lose("it had no reply from the coordinator of the run any more")
            raise StoppedError("the coordinator of this run is gone; the next run goes on from what it has") from None


@contextmanager
def _following(peers: LineToPeers, clients: Mapping[str, SourceClient]) -> Iterator[None]:
    """Request the state of the run until the end of the context, and do what it demands."""
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(STATE_EVERY_S):
            try:
                state = reply_to(peers.request, StateRequest(), RunState)
            except StoppedError:
                return
            if state.stop:
                peers.clock.stop.set()
            for name, client in list(clients.items()):
                if name in state.resting:
                    client.rate_limit.hold(state.resting[name])
                if (parked := state.parked.get(name)) is not None:
                    client.park(ParkedError(parked.message, parked.until))

    thread = threading.Thread(target=follow, name="state of the run", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5.0)
