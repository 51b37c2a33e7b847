"""
The plan of a whole job, as ``penstock plan`` shows it. A run plans each stream by the same planner.
"""

from datetime import datetime

from penstock._config.source import ConfiguredSource
from penstock._plan.plan import Job, Plan, PlannedPartition, PlannedSlice
from penstock._plan.planner import Planner
from penstock.connector import Stream


def plan(job: Job, now: datetime) -> Plan:
    """
    The plan of a job, as far as the target's ledger determines it.

    Raises UsageError for a window that the provider does not serve any more, TargetError for a target that cannot be
    read.
    """
    target = job.sink.open_readonly(job.source.name)
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
        accounts = planner.accounts.of_stream(stream)
        if accounts is None:
            lister = stream.accounts_from[0] if stream.accounts_from else "?"
            waiting.append(f"{stream.name}: one partition per account of {lister}, which was not read yet")
            continue
        if stream.kind != "snapshot":
            planner.days.check(stream, accounts)
        of_stream = planner.plan_stream(stream, accounts)
        for slice_ in of_stream.slices:
            planned += _planned_partitions(source, slice_)
        if of_stream.final:
            final[stream.name] = of_stream.final
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
    return single and source.accounts_from(stream) is None
