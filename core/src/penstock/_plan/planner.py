"""
What a run reads of a stream: the requested partitions minus those that are final. No network.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._plan.accounts import Accounts, AccountStream
from penstock._plan.dependencies import Families
from penstock._plan.division import block_days
from penstock._plan.finality import MAX_HOST_SKEW, same_settings
from penstock._plan.ledger_query import DaysByAccount, LedgerQuery
from penstock._plan.partition_planner import AccountPlan, PartitionPlanner, ReadRules, day_partitions
from penstock._plan.plan import Plan, PlannedPartition, PlannedSlice
from penstock._plan.read_job import ReadJob
from penstock._plan.selection import matches
from penstock._plan.window import RequestedDays, slice_bounds
from penstock._plugins.plugin_errors import connector_errors
from penstock._plugins.sink_calls import open_readonly
from penstock.connector import Stream
from penstock.ledger_interface import LedgerEntry, PendingReport
from penstock.model import Partition, Slice
from penstock.sinks import Target


class StreamPlan(NamedTuple):
    """
    ``slices``: to read, account by account, days ascending. ``final``: the number of partitions that need no read.
    ``delivered_by_run``: the rows of partitions that another worker of this run has delivered already.
    """

    slices: list[PlannedSlice]
    final: int = 0
    delivered_by_run: Sequence[LedgerEntry] = ()


@define(eq=False, repr=False)
class Planner:
    """
    Plans the streams of a job against the ledger of its target (None: nothing was written yet).

    ``run_id``: that of a divided run, whose workers may be replaced.
    """

    job: ReadJob
    now: datetime
    target: Target | None
    run_id: str | None = None
    notices: list[str] = field(factory=list, init=False)
    families: Families = field(init=False)
    accounts: Accounts = field(init=False)
    requested_days: RequestedDays = field(init=False)
    _query: LedgerQuery = field(init=False)
    _partitions: PartitionPlanner = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._query = query = LedgerQuery(self.job.source.name, self.target)
        rules = ReadRules(self.target, self.now + MAX_HOST_SKEW, self.job.full, self.run_id)
        self.families = Families.of(self.job)
        self.accounts = Accounts(self.job.source, self.families, query.ledger)
        self.requested_days = RequestedDays(self.job, self.accounts, self.now, self.notices)
        self._partitions = PartitionPlanner(self.families, self.accounts, self.requested_days, query, rules)

    def plan_stream(self, stream: Stream, accounts: Collection[str | None]) -> StreamPlan:
        """The plan of these accounts of a stream."""
        if stream.kind == "snapshot":
            self._notice_window(stream)
        plans = self._partitions.by_account(stream, self._selected(stream, accounts))
        chosen = stream in self.families.chosen
        if stream.kind == "changes" and any("changed" in plan.to_read.values() for plan in plans.values()):
            self.notices.append(
                f"{self.job.source.name}.{stream.name} is merged by key, and is read again since its settings, its "
                "provider's address or its connector changed: rows that only former readings have stay in the target"
            )
        if stream.kind != "snapshot":
            self._notice_edges(stream, plans)
        slices = [
            planned
            for account, plan in plans.items()
            for planned in slices_of(
                self.accounts.stream_of(stream, account), account, plan, self.now, to_deliver=chosen
            )
        ]
        if not chosen:
            return StreamPlan(slices=slices)
        return StreamPlan(
            slices=slices,
            final=sum(plan.final for plan in plans.values()),
            delivered_by_run=[entry for plan in plans.values() for entry in plan.delivered_by_run],
        )

    def _selected(self, stream: Stream, accounts: Collection[str | None]) -> list[str | None]:
        """The accounts that the job selects and that are in its shard."""
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
        return [account for account in selected if account is None or self.job.is_in_shard(stream, account)]

    def _notice_window(self, stream: Stream) -> None:
        """Note that a snapshot requested by the rows of some days has these days' rows only."""
        parent = self.job.source.stream(stream.parent.stream) if stream.parent is not None else None
        if parent is not None and parent.kind != "snapshot" and (self.job.since or self.job.until):
            self.notices.append(
                f"{self.job.source.name}.{stream.name} is a snapshot, requested by the rows of {parent.name}. It is "
                "replaced by the rows for the days of this window; its rows for other days are removed"
            )

    def _notice_edges(self, stream: Stream, plans: Mapping[str | None, AccountPlan]) -> None:
        """
        Note that a day next to the window was read with other settings, where the window's day beside it is read now:
        where days are cut in another zone, rows between the two are of no day, or of both.
        """
        before, after = dict[str | None, Sequence[date]](), dict[str | None, Sequence[date]]()
        for account, window in self.requested_days.windows(stream, plans).items():
            if window is None:
                continue
            to_read = plans[account].to_read
            day_before, day_after = window.since - timedelta(days=1), window.until + timedelta(days=1)
            edges = day_partitions(stream, account, (window.since, window.until, day_after))
            reads_first, reads_last, reads_after = [partition in to_read for _, partition in edges]
            if reads_first:
                before[account] = [day_before]
            may_be_delivered = self.job.until is not None or "changed" in to_read.values()
            if may_be_delivered and reads_last and not reads_after:
                after[account] = [day_after]
        had_before, had_after = (self._had_other_settings(stream, days) for days in (before, after))
        if not had_before and not had_after:
            return
        remedy = ""  # the window begins at start, or at retention
        if self.job.since is not None or self.job.until is not None:
            remedy = ". Run once without --since and --until"
        elif had_after:  # today began in the former zone earlier than in this one
            remedy = f". Run once with --until {max(days[0] for days in after.values())}"
        self.notices.append(
            f"{self.job.source.name}.{stream.name}: the settings or the provider's address changed. Delivered days "
            "outside of this window stay as they were read before; after a change of timezone, rows at its edges are "
            f"missing or there twice{remedy}"
        )

    def _had_other_settings(self, stream: Stream, days: DaysByAccount) -> bool:
        """Whether one of these days was delivered with other settings than the current ones."""
        for partition, entry in self._query.entries(stream, days).items():
            current = self.accounts.stream_of(stream, partition.as_dict().get(stream.account or ""))
            if entry.delivered and not same_settings(entry.fingerprint, current.fingerprint):
                return True
        return False


def slices_of(
    account_stream: AccountStream, account: str | None, plan: AccountPlan, now: datetime, *, to_deliver: bool
) -> list[PlannedSlice]:
    """The slices of one account, days ascending. ``to_deliver``: see PlannedSlice."""
    partitions = list(plan.to_read)
    if account_stream.stream.kind == "snapshot":
        groups = [partitions] if partitions else []
    else:
        days_per_request = account_stream.source.days_per_request(account_stream.stream)
        groups = grouped(partitions, plan.rows.reports.get(account, ()), days_per_request)
    return [_slice(account_stream, account, plan, group, now, to_deliver=to_deliver) for group in groups]


def _slice(
    account_stream: AccountStream,
    account: str | None,
    plan: AccountPlan,
    partitions: Sequence[Partition],
    now: datetime,
    *,
    to_deliver: bool,
) -> PlannedSlice:
    stream, entries = account_stream.stream, plan.rows.entries
    days = () if stream.kind == "snapshot" else tuple([day for partition in partitions if (day := partition.day)])
    start, end = slice_bounds(stream, days, account_stream.source.zone, now)
    return PlannedSlice(
        stream=stream,
        partitions=tuple(partitions),
        reasons=tuple(map(plan.to_read.__getitem__, partitions)),
        slice=Slice(now=now, account=account, days=days, start=start, end=end),
        source=account_stream.source,
        fingerprint=account_stream.fingerprint,
        reader_version=account_stream.reader_version,
        to_deliver=to_deliver,
        entries={partition: entries[partition] for partition in partitions if partition in entries} if entries else {},
    )


def grouped(
    to_read: Sequence[Partition], reports: Sequence[PendingReport], days_per_request: int
) -> list[list[Partition]]:
    """
    An account's days to read as runs of consecutive ones, at most ``days_per_request`` long; days of a report that is
    already under way stay together as they were submitted. Days ascend, as those of ``to_read`` do.
    """
    groups: list[list[Partition]] = []
    ungrouped = list(to_read)
    for report in reports:
        submitted = [partition for partition in ungrouped if partition in report.partitions]
        if submitted and len(submitted) == len(report.partitions):
            groups.append(submitted)
            ungrouped = [partition for partition in ungrouped if partition not in submitted]
    consecutive: list[Partition] = []
    for partition in ungrouped:
        if consecutive and (len(consecutive) >= days_per_request or not _is_next_day(partition, consecutive[-1])):
            groups.append(consecutive)
            consecutive = []
        consecutive.append(partition)
    if consecutive:
        groups.append(consecutive)
    return sorted(groups, key=lambda group: group[0].values) if reports else groups


def _is_next_day(partition: Partition, other: Partition) -> bool:
    """Whether the day of a partition is the one after the other's."""
    day, day_before = partition.day, other.day
    assert day is not None
    assert day_before is not None
    return day - day_before == timedelta(days=1)


def plan_job(job: ReadJob, now: datetime) -> Plan:
    """
    The plan of a job, as far as the target's ledger determines it.

    Raises UsageError for a window that the provider does not serve any more, TargetError for a target that cannot be
    read, PluginError for a defect of the connector.
    """
    with connector_errors(job.source.connector.name):
        target = open_readonly(job.sink, job.source.name)
        try:
            return _plan(Planner(job, now, target))
        finally:
            if target is not None:
                target.close()


def _plan(planner: Planner) -> Plan:
    source = planner.job.source
    planned: list[PlannedPartition] = []
    waiting: list[str] = []
    final: dict[str, int] = {}
    for stream in planner.families.chosen:
        accounts = planner.accounts.known(stream)
        if accounts is None:
            lister = stream.accounts_from[0] if stream.accounts_from else "?"
            waiting.append(f"{stream.name}: one partition per account of {lister}, which was not read yet")
            continue
        if stream.kind != "snapshot":
            planner.requested_days.check(stream, accounts)
        stream_plan = planner.plan_stream(stream, accounts)
        for slice_ in stream_plan.slices:
            planned += _planned_partitions(source, slice_)
        if stream_plan.final:
            final[stream.name] = stream_plan.final
        if stream.parent is not None:
            waiting.append(f"{stream.name}: requests by the rows of {stream.parent.stream}")
    return Plan(
        partitions=tuple(planned),
        final=final,
        notices=tuple(dict.fromkeys(planner.notices)),
        waiting=tuple(waiting),
        exact=all(_is_exact(source, stream) for stream in planner.families.chosen),
    )


def _planned_partitions(source: ConfiguredSource, planned: PlannedSlice) -> list[PlannedPartition]:
    """The partitions of a slice. The first one has the requests of all."""
    requests, zone = requests_of(planned), planned.source.settings.timezone
    return [
        PlannedPartition(
            source=source.name,
            partition=partition,
            reason=reason,
            requests=requests if requests is None or index == 0 else 0,
            timezone=zone if zone != source.settings.timezone else None,
        )
        for index, (partition, reason) in enumerate(zip(planned.partitions, planned.reasons, strict=True))
    ]


def requests_of(planned: PlannedSlice) -> int | None:
    """The least number of requests that a slice takes; a report is submitted, polled and read."""
    if planned.stream.parent is not None:
        return None
    firsts = len(planned.stream.first_requests(planned.source.settings, planned.slice))
    return 3 * firsts if planned.stream.poller is not None else firsts


def _is_exact(source: ConfiguredSource, stream: Stream) -> bool:
    """Whether a run of this stream makes exactly the requests that a plan counts."""
    single = stream.paginator is None and stream.poller is None and stream.parent is None
    return single and source.lister_of(stream) is None
