"""
The tasks of one job, one per slice: what is read after what, and what follows the end of a task.
"""

import time
from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import NamedTuple

from attrs import define, field

from penstock._fetch.call import Reading
from penstock._fetch.client import SourceClient
from penstock._fetch.client_queue import Task
from penstock._plan.dependencies import Dependencies, Key, key_of
from penstock._plan.plan import Job, PlannedSlice
from penstock._plan.planner import Planner, StreamPlan
from penstock._run.commit import Committer
from penstock._run.context import RunContext
from penstock._run.listed_accounts import ListedAccounts
from penstock._run.readers import Readers
from penstock._run.refusals import Refusals
from penstock.connector import Stream
from penstock.errors import ProviderError


class EndOfReads(NamedTuple):
    """The end of all reads of a stream's account, after which the tasks of its child streams start."""

    job_number: int  # the jobs of a run share its scheduler, and two of them may read one source
    stream: str
    account: str | None


@define(eq=False, repr=False, kw_only=True)
class SliceTasks:
    """The scheduler runs the tasks; :meth:`_read_and_commit` is what each of them does."""

    job: Job
    job_number: int  # in the run
    context: RunContext
    client: SourceClient
    committer: Committer
    planner: Planner
    dependencies: Dependencies
    listed: ListedAccounts
    readers: Readers
    refusals: Refusals
    ended_at: datetime | None = field(default=None, init=False)  # when the last task ended
    _began: dict[str, float] = field(factory=dict, init=False)  # stream -> when its first reading started

    def add_first(self) -> None:
        """Add the slices that can be read now. Others follow when the streams that they need are read."""
        for stream in self.dependencies.first:
            self._add(stream, self.planner.accounts.of_stream(stream) or ())

    def finish(self) -> None:
        """After the last task: report refused credentials, what was never read, and what is stale."""
        report = self.context.report
        report.refused |= self.refusals.of_credentials
        if not report.interrupted and not report.deadline:
            self.listed.fail_unlisted()
            self.readers.reports.drop_stale(self.context.clock.now())

    def _add(self, stream: Stream, accounts: Collection[str | None]) -> None:
        """Plan the slices of a stream and give them to the scheduler."""
        plan = self.planner.plan_stream(stream, accounts)
        if stream in self.planner.families.chosen:
            self.readers.reports.find(stream)
            self._count_planned(stream, plan)
        for planned in plan.slices:
            self.dependencies.note_begin(planned)
            if planned.to_deliver:
                self.committer.order.expect(planned)
        self.context.scheduler.add(map(self._task, plan.slices))

    def _count_planned(self, stream: Stream, plan: StreamPlan) -> None:
        counts = self.committer.log.stream(stream.name)
        counts.planned += sum(len(planned.partitions) for planned in plan.slices)
        counts.final += plan.final
        self.committer.recount(plan.done)
        self.committer.log.event("planned", stream=stream.name, partitions=counts.planned, final=counts.final)

    def _task(self, planned: PlannedSlice) -> Task:
        parent = _parent_of(planned)
        return Task(
            self.client,
            start=partial(self._read_and_commit, planned),
            after=self._end_of_reads(parent) if parent is not None else None,
            on_end=partial(self._after_task, planned),
        )

    def _end_of_reads(self, key: Key) -> EndOfReads:
        stream, account = key
        return EndOfReads(self.job_number, stream, account)

    def _read_and_commit(self, planned: PlannedSlice) -> Reading:
        """One task: read a slice, then commit its partitions, if the stream is to be delivered."""
        self._check_readable(planned)
        if planned.stream.name not in self._began:
            self._began[planned.stream.name] = time.monotonic()
            self.committer.log.event("stream_started", stream=planned.stream.name)
        result = yield from self.readers.of_slice(planned).read()
        for partition in result.replacement_errors:
            self.dependencies.refuse(partition)
        if planned.to_deliver:
            self.committer.commit(result)
        elif planned.stream.name not in self.job.streams and self.job.has(planned.stream, planned.account):
            self.committer.count_rejected(result)  # once, where several workers read it

    def _check_readable(self, planned: PlannedSlice) -> None:
        """Raises the error that makes a request for this slice pointless."""
        self.refusals.check(planned)
        self.client.check_not_parked()
        parent = _parent_of(planned)
        if parent is not None and not self.dependencies.succeeded(parent, planned.slice.days):
            raise ProviderError(f"{planned.stream.name} was not read: its parent {parent[0]} failed or was not read")

    def _after_task(self, planned: PlannedSlice, error: BaseException | None) -> None:
        """Handle the end of a task: log its failure, and release the tasks that waited for it."""
        stream = planned.stream
        self.ended_at = self.context.clock.now()
        if stream.name in self._began:
            self.committer.log.stream(stream.name).seconds = time.monotonic() - self._began[stream.name]
        self.refusals.add(planned, error)
        if error is not None:
            self.committer.fail(planned, error)
        self.dependencies.note_end(planned, succeeded=error is None)
        if self.dependencies.has_ended(key_of(planned)):
            self.context.scheduler.release(self._end_of_reads(key_of(planned)))
        for dependent, accounts in self.listed.dependents_of(planned):
            self._add(dependent, accounts)
        self.dependencies.drop_accounts(planned)


def _parent_of(planned: PlannedSlice) -> Key | None:
    parent = planned.stream.parent
    return (parent.stream, planned.account) if parent is not None else None
