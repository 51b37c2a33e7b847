"""
What a run reads of a stream: the requested partitions minus those that are final. No network.
"""

from collections.abc import Collection
from datetime import datetime

from attrs import define, field, frozen

from penstock._plan.account_views import Accounts
from penstock._plan.division import block_days
from penstock._plan.families import Families
from penstock._plan.ledger_query import LedgerQuery
from penstock._plan.open_partitions import PartitionPlanner
from penstock._plan.plan import Job, PlannedSlice
from penstock._plan.reasons import Reasons
from penstock._plan.requested_days import RequestedDays
from penstock._plan.selection import matches
from penstock._plan.slices import slices_of
from penstock.connector import Stream
from penstock.ledger_interface import LedgerEntry
from penstock.sinks import Target


@frozen(kw_only=True, eq=False, repr=False)
class StreamPlan:
    """
    ``slices``: to read, account by account, days ascending. ``final``: the number of partitions that need no read.
    ``done``: the rows of partitions that another worker of this run has delivered already.
    """

    slices: list[PlannedSlice]
    final: int = 0
    done: list[LedgerEntry] = field(factory=list)


@define(eq=False, repr=False)
class Planner:
    """
    Plans the streams of a job against the ledger of its target (None: nothing was written yet).

    ``run_id``: of a divided run, whose workers may be replaced.
    """

    job: Job
    now: datetime
    target: Target | None
    run_id: str | None = None
    notices: list[str] = field(factory=list, init=False)
    families: Families = field(init=False)
    accounts: Accounts = field(init=False)
    days: RequestedDays = field(init=False)
    _partitions: PartitionPlanner = field(init=False)

    def __attrs_post_init__(self) -> None:
        query = LedgerQuery(self.job.source.name, self.target)
        reasons = Reasons(self.target, self.now, self.job.full, self.run_id)
        self.families = Families.of(self.job)
        self.accounts = Accounts(self.job.source, self.families, query.ledger)
        self.days = RequestedDays(self.job, self.accounts, self.now, self.notices)
        self._partitions = PartitionPlanner(self.families, self.accounts, self.days, query, reasons)

    def plan_stream(self, stream: Stream, accounts: Collection[str | None]) -> StreamPlan:
        """The plan of these accounts of a stream."""
        if stream.kind == "snapshot":
            self._note_window(stream)
        plans = self._partitions.of_stream(stream, self._selected(stream, accounts))
        chosen = stream in self.families.chosen
        slices = [
            planned
            for account, plan in plans.items()
            for planned in slices_of(self.accounts.view(stream, account), account, plan, self.now, to_deliver=chosen)
        ]
        if not chosen:
            return StreamPlan(slices=slices)
        return StreamPlan(
            slices=slices,
            final=sum(plan.final for plan in plans.values()),
            done=[entry for plan in plans.values() for entry in plan.done],
        )

    def _selected(self, stream: Stream, accounts: Collection[str | None]) -> list[str | None]:
        """The accounts that the job selects and that are in its part."""
        selected = list(accounts)
        if self.job.accounts:  # a stream without accounts, which others may depend on, is read all the same
            selected = [account for account in selected if account is None or matches(account, self.job.accounts)]
            if accounts and not selected:  # where the provider lists the accounts, nothing else refuses the pattern
                self.notices.append(
                    f"{self.job.source.name}: no account matches {', '.join(self.job.accounts)}, so that none of its "
                    "streams that are divided by accounts is read"
                )
        if block_days(self.job.source, stream):
            return selected  # its days are divided, not its accounts
        return [account for account in selected if account is None or self.job.has(stream, account)]

    def _note_window(self, stream: Stream) -> None:
        """Note that a snapshot requested by the rows of some days has these days' rows only."""
        parent = self.job.source.stream(stream.parent.stream) if stream.parent is not None else None
        if parent is not None and parent.kind != "snapshot" and (self.job.since or self.job.until):
            self.notices.append(
                f"{self.job.source.name}.{stream.name} is a snapshot, requested by the rows of {parent.name}. It is "
                "replaced by the rows for the days of this window; its rows for other days are removed"
            )
