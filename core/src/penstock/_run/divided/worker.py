"""
A worker of a divided run: it runs the jobs of its shard as any run does, with a channel to the coordinator.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib import metadata

from attrs import define, evolve, field, frozen

from penstock._config.pipeline import NONE_ALLOWED
from penstock._fetch.client import SourceClient
from penstock._fetch.limits import Deadline
from penstock._fetch.peers import Peers
from penstock._plan.division import Division, Shard
from penstock._plan.read_job import ReadJob
from penstock._run.context import RunContext
from penstock._run.divided.messages import (
    CooledDown,
    CredentialsWorked,
    GrantReply,
    GrantRequest,
    Lease,
    OpenRequest,
    Parked,
    RunEvent,
    RunState,
    ShardResult,
    StateRequest,
    WorkingCredentialsReply,
    WorkingCredentialsRequest,
    message_of,
    reply_to,
)
from penstock._run.divided.shared_targets import TargetChannel
from penstock._run.job_run import other_version
from penstock._run.runner import run_jobs
from penstock._run_report.report import RunReport
from penstock._util.clock import Clock
from penstock.engines import Assignment, Channel, Message
from penstock.errors import LockHeldError, ParkedError, PenstockError, PluginError, StoppedError, WorkerLostError
from penstock.events import Event
from penstock.protocols import Grant
from penstock.redact import Secret, mask_json
from penstock.sinks import LockShare, Staging

STATE_EVERY_S = 0.2
LOCK_EVERY_S = 2.0
LOST_HOST_S = 120.0  # after so long at most, a database notices that a host was lost, and its locks are free


@frozen(kw_only=True)
class WorkerTask:
    """
    What a worker needs of a run, in each :class:`Assignment`. It can be pickled, and no secret is among it.

    ``read_jobs``: the jobs of the whole run, from the configuration and the secrets that this process reads by itself.
    ``versions``: of the distributions that it must have. ``shared_tokens``: the coordinator has the tokens.
    ``may_be_replaced``: another worker may take over the shard of a lost one, whose lock may be held for a while.
    ``marks``: by source, the text that proves the target's directory, where the coordinator has the target open.
    """

    read_jobs: Callable[[], Sequence[ReadJob]]
    versions: Mapping[str, str]
    division: Division = field(repr=False)
    shared_tokens: bool
    may_be_replaced: bool
    started_at: datetime
    deadline_at: datetime | None
    marks: Mapping[str, str] = field(repr=False)

    def jobs(self) -> Sequence[ReadJob]:
        """The jobs of the whole run. Raises PenstockError where this process cannot have one of their targets."""
        jobs = self.read_jobs()
        for job in jobs:
            if job.source.name in self.marks:
                if not isinstance(job.sink, Staging):
                    raise other_version(job)
                job.sink.find_mark(job.source.name, self.marks[job.source.name])
        return jobs


def lock_share_of(run: str, number: int | None) -> LockShare:
    """The place of a worker, or of the coordinator (None), among the processes that share the lock of a run."""
    return LockShare(division=f"the workers of run {run}", name="coordinator" if number is None else f"worker {number}")


def check_versions(versions: Mapping[str, str]) -> None:
    """Raises PluginError where one of these distributions is not installed here, or in another version."""
    for name, expected in versions.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            raise PluginError(f"{name} is not installed on this worker; install {name} {expected} there") from None
        if installed != expected:
            raise PluginError(
                f"{name} is version {installed} on this worker and {expected} where the run was started; install the "
                "same version on both"
            )


@contextmanager
def _masked_errors() -> Iterator[None]:
    """Mask an error that leaves this process: the one that receives it does not know the secrets of this one."""
    try:
        yield
    except Exception as error:
        error.args = tuple(mask_json(error.args))
        vars(error).update(mask_json(vars(error)))  # such as seen, advice and problems
        raise


@_masked_errors()
def try_worker(task: WorkerTask) -> None:
    """
    Raises PenstockError where this process cannot read a shard: its installation, configuration, secrets, or files.
    """
    check_versions(task.versions)
    task.jobs()


@_masked_errors()
def work(assignment: Assignment, channel: Channel) -> Message:
    """Carry out an assignment. The result has the report, or the reason why there is none."""
    task: WorkerTask = assignment.task
    # First of all, since from then on a former worker of this shard cannot commit any more.
    leases = {
        source: reply_to(channel.request, OpenRequest(source), Lease).number
        for source in assignment.sources
        if source in task.marks
    }
    check_versions(task.versions)
    try:
        jobs = _jobs_of_shard(assignment)  # of a worker that joined the cluster late, too, which was not tried
        run_report = _run_when_unlocked(jobs, assignment, channel, leases)
    except PenstockError as error:
        return message_of(ShardResult(failed=str(error)))
    return message_of(ShardResult(report=run_report.as_data()))


def _jobs_of_shard(assignment: Assignment) -> list[ReadJob]:
    task: WorkerTask = assignment.task
    shard = Shard(division=task.division, number=assignment.number)
    lock_share = lock_share_of(assignment.run_id, assignment.number)
    return [
        evolve(job, source=shard.with_share_of_limits(job.source), shard=shard, lock_share=lock_share)
        for job in task.jobs()
        if job.source.name in assignment.sources
    ]


def _run_when_unlocked(
    jobs: Sequence[ReadJob], assignment: Assignment, channel: Channel, leases: Mapping[str, int]
) -> RunReport:
    """
    Run the jobs of a shard, when the worker in whose place this one is has left their locks. Raises LockHeldError where
    they are held for longer, otherwise as :func:`_run_shard`.
    """
    clock = Clock()
    end = clock.monotonic() + (LOST_HOST_S if assignment.task.may_be_replaced else 0.0)
    while True:
        try:
            return _run_shard(jobs, assignment, channel, clock, leases)
        except LockHeldError:
            if clock.monotonic() >= end:
                raise
            clock.sleep(LOCK_EVERY_S)


def _run_shard(
    jobs: Sequence[ReadJob], assignment: Assignment, channel: Channel, clock: Clock, leases: Mapping[str, int]
) -> RunReport:
    """
    Run the jobs of a shard. ``leases``: the numbers of those of the sources whose targets the coordinator has. Raises
    WorkerLostError where the channel was cut before the shard was done, or another worker has taken the shard over.
    """
    task: WorkerTask = assignment.task
    left_s = None if task.deadline_at is None else max(0.0, (task.deadline_at - clock.now()).total_seconds())

    def send_event(event: Event) -> None:
        with suppress(OSError):  # the thread below notices a channel that is cut, too, and ends the run
            channel.send(message_of(RunEvent(dict(event))))

    peers = RemotePeers(channel=channel, clock=clock, shares_tokens=task.shared_tokens)
    context = RunContext(
        jobs=[
            evolve(job, to_coordinator=TargetChannel(leases[job.source.name], peers.request, peers.cut_off).request)
            if job.source.name in leases
            else job
            for job in jobs
        ],
        clock=clock,
        started_at=task.started_at,
        run_report=RunReport(run_id=assignment.run_id, allowed=jobs[0].allowed if jobs else NONE_ALLOWED),
        emit=send_event,
        deadline=Deadline.after(clock, left_s),
        peers=peers,
    )
    with _following(peers, context.clients):
        run_report = run_jobs(context)
    if run_report.interrupted and peers.cut_off_reason:  # nobody interrupted the run
        raise WorkerLostError(peers.cut_off_reason)
    return run_report


@define(eq=False, repr=False, kw_only=True)
class RemotePeers(Peers):
    """See :class:`penstock._fetch.peers.Peers`. ``cut_off_reason``: why this shard left the run; empty: it did not."""

    is_divided = True
    channel: Channel
    clock: Clock
    shares_tokens: bool
    cut_off_reason: str = field(default="", init=False)

    def cut_off(self, reason: str) -> None:
        """Stop this shard, which is not of the run any more."""
        self.cut_off_reason = self.cut_off_reason or reason
        self.clock.stop.set()

    def grant(self, source: str, account: str | None, used: Grant | None) -> Grant:
        token = used.token.reveal() if used is not None else None
        reply = reply_to(self.request, GrantRequest(source, account, token), GrantReply)
        if reply.parked is not None:
            raise reply.parked.error
        if reply.failure is not None:
            raise reply.failure.error
        return Grant(token=Secret(reply.token), life_s=reply.life_s)

    def cooled_down(self, source: str, seconds: float) -> None:
        with suppress(OSError):
            self.channel.send(message_of(CooledDown(source, seconds)))

    def parked(self, source: str, error: ParkedError) -> None:
        with suppress(OSError):
            self.channel.send(message_of(Parked.of(source, error)))

    def credentials_worked(self, source: str, owner: str | None) -> None:
        with suppress(OSError):
            self.channel.send(message_of(CredentialsWorked(source, owner)))

    def have_working_credentials(self, source: str, owner: str | None) -> bool:
        return reply_to(self.request, WorkingCredentialsRequest(source, owner), WorkingCredentialsReply).work

    def request(self, message: Message) -> Message:
        """The coordinator's reply. StoppedError, which stops the shard, where there is none any more."""
        try:
            return self.channel.request(message)
        except OSError:
            self.cut_off("it had no reply from the coordinator of the run any more")
            raise StoppedError("the coordinator of this run is gone; the next run goes on from what it has") from None


@contextmanager
def _following(peers: RemotePeers, clients: Mapping[str, SourceClient]) -> Iterator[None]:
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
                if name in state.cooling_down:
                    client.rate_limit.pause_here(state.cooling_down[name])
                if (parked := state.parked.get(name)) is not None:
                    client.parking.park_here(parked.error)

    thread = threading.Thread(target=follow, name="state of the run", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5.0)
