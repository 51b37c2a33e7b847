"""
``plan``: the partitions that a run would fetch, as a frozen value with the exit code of the command.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from attrs import evolve, field, frozen

from penstock._config.source import ConfiguredSource
from penstock._plan.division import divide_by_names, unit_of_partition
from penstock._plan.plan import Plan, PlannedPartition
from penstock._plan.planner import plan_job
from penstock._project.selected_jobs import SelectedJobs, Selection, jobs_for, receivers_of
from penstock._project.setup import AddNotice, Notices, Setup
from penstock.errors import LockHeldError, SinkError, TargetError


@frozen(kw_only=True, eq=False)
class PlanResult:
    """
    The partitions that a run would fetch, in the order of the sources, streams, accounts and days.

    ``waiting``: a line for each stream whose partitions are known only after another stream was read. ``final``: the
    number of partitions that need no reading. ``exact``: whether a run makes just the requests counted here (retries
    and a login apart), or at least these. ``pace``: requests per second by source, where one is set. ``target`` None:
    no target was used yet, so everything counts as missing.
    """

    partitions: tuple[PlannedPartition, ...]
    waiting: tuple[str, ...] = ()
    final: int = 0
    exact: bool = False
    pace: Mapping[str, float] = field(factory=dict)
    target: str | None = None
    notices: tuple[str, ...] = ()
    exit_code: int = 0

    @property
    def requests(self) -> int:
        """The requests of all partitions whose number is known."""
        return sum(self.requests_of.values())

    @property
    def requests_of(self) -> dict[str, int]:
        """Requests by source."""
        requests: dict[str, int] = {}
        for partition in self.partitions:
            requests[partition.source] = requests.get(partition.source, 0) + (partition.requests or 0)
        return requests

    @property
    def shards(self) -> dict[tuple[int, str], tuple[int, int]]:
        """The partitions and requests of a plan for shards, by shard and source. A shard without work is left out."""
        by_shard: dict[tuple[int, str], tuple[int, int]] = {}
        for partition in self.partitions:
            if partition.shard is not None:
                count, requests = by_shard.get((partition.shard, partition.source), (0, 0))
                by_shard[partition.shard, partition.source] = (count + 1, requests + (partition.requests or 0))
        return dict(sorted(by_shard.items()))

    @property
    def seconds(self) -> float | None:
        """The time that the requests take at least at the sources' pace, side by side; None where no pace is set."""
        times = [count / self.pace[name] for name, count in self.requests_of.items() if name in self.pace]
        return max(times, default=None)


def plan(setup: Setup, name: str, selection: Selection, shards: int | None, now: datetime) -> PlanResult:
    """See :meth:`penstock.Project.plan`."""
    receivers_of(setup, name, selection.to)  # a run refuses what is wrong there
    notices = Notices()
    selected, plans, is_last_used = _plans(setup, name, selection, now, notices.add)
    jobs, sink = selected.jobs, selected.sink
    if sink is None:
        notices.add("no target was used for this yet and none is given with --to: everything counts as missing")
    elif not is_last_used:
        notices.add(f"this is the plan for the target {sink.name}")
    notices.add(*(text for plan in plans for text in plan.notices))
    partitions = tuple(partition for plan in plans for partition in plan.partitions)
    return PlanResult(
        partitions=partitions if shards is None else _with_shards([job.source for job in jobs], partitions, shards),
        waiting=tuple(
            f"{job.source.name}.{text}" for job, plan in zip(jobs, plans, strict=True) for text in plan.waiting
        ),
        final=sum(sum(plan.final.values()) for plan in plans),
        exact=all(plan.exact for plan in plans),
        pace={job.source.name: rate for job in jobs if (rate := job.source.requests_per_second) is not None},
        target=sink.name if sink is not None else None,
        notices=tuple(notices.texts),
        exit_code=int(not is_last_used),
    )


class _PlannedJobs(NamedTuple):
    """Jobs and the plan of each. ``is_last_used``: by the target that was used last, or that was named."""

    selected: SelectedJobs
    plans: list[Plan]
    is_last_used: bool


def _plans(setup: Setup, name: str, selection: Selection, now: datetime, add_notice: AddNotice) -> _PlannedJobs:
    """The plans of a selection. A target that cannot be read is left out, with a notice, unless it is the only one."""
    is_source = name not in setup.config.pipelines
    history = setup.targets_used([name], add_notice) if selection.to is None and is_source else ()
    candidates: list[str | None] = [*history] or [None]
    for used in candidates:
        selected = jobs_for(setup, name, selection, now, add_notice, planning=True, used=used)
        try:
            return _PlannedJobs(selected, [plan_job(job, now) for job in selected.jobs], used == candidates[0])
        except (TargetError, SinkError, LockHeldError) as error:
            if selected.sink is None or used == candidates[-1]:
                raise
            add_notice(f"the target {selected.sink.name} cannot be read: {error}")
    raise AssertionError("the last candidate returns or raises")


def _with_shards(
    sources: Sequence[ConfiguredSource], partitions: Iterable[PlannedPartition], shard_count: int
) -> tuple[PlannedPartition, ...]:
    """The planned partitions, each with the number of the shard that reads it."""
    division = divide_by_names(shard_count, sources)
    by_name = {source.name: source for source in sources}
    numbered = []
    for planned in partitions:
        unit = unit_of_partition(by_name[planned.source], planned.partition)
        numbered.append(evolve(planned, shard=division.shard_of_unit(unit)))
    return tuple(numbered)
