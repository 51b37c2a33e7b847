"""
The jobs of a call of ``plan`` or ``run``: the sources and streams of a pipeline or a source, and their sink.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from attrs import evolve

from penstock._config import Config, ConfiguredSink
from penstock._config.pipeline import NONE_ALLOWED, Pipeline
from penstock._plan.division import shard_of, shards, unit_of_partition
from penstock._plan.plan import Job, Plan, PlannedPartition
from penstock._plan.planner import plan
from penstock._project.selection import Selection, refuse_missed, refuse_strange_accounts, selected_streams, window_of
from penstock._project.setup import Notice, Setup, blamed
from penstock.errors import TargetError, UsageError
from penstock.names import counted
from penstock.sinks import BaseSink, Divisible, Part, Sink, Target, add_defaults


def jobs_for(
    setup: Setup,
    name: str,
    selection: Selection,
    now: datetime,
    notice: Notice,
    *,
    planning: bool = False,
    used: str | None = None,
) -> tuple[list[Job], ConfiguredSink | None]:
    """
    A job for each source of the pipeline or source ``name`` of which a stream is selected, and their sink.

    ``planning``: a source without ``to`` takes the target that it ``used``, or none. Raises UsageError and ConfigError.
    """
    config, named = setup.config, _sources_and_sink(setup, name, selection, planning=planning, used=used)
    configured, configured_sink = setup.configured(named.sources, named.to, sink_named_by=named.to_where, notice=notice)
    chosen = selected_streams(f"{config.where}: pipeline.{name}", configured, selection, named.pipeline, notice)
    refuse_strange_accounts(configured, chosen, selection.accounts)
    refuse_missed(config, configured, chosen)
    if configured_sink is not None:
        sink: Sink = configured_sink.open()
    elif selection.to is None or isinstance(selection.to, str):
        sink = Nowhere()
    else:
        sink = selection.to
        add_defaults(sink, BaseSink)
    allowed = selection.allow_rejected or (
        named.pipeline.allow_rejected if named.pipeline is not None else NONE_ALLOWED
    )
    jobs = []
    for source in configured:
        since, until = window_of(selection.since, selection.until, now.astimezone(source.zone).date())
        if chosen[source.name]:
            jobs.append(
                Job(
                    source=source,
                    streams=chosen[source.name],
                    accounts=selection.accounts,
                    sink=sink,
                    sink_name=configured_sink.shown if configured_sink is not None else type(sink).__name__,
                    since=since,
                    until=until,
                    full=selection.full,
                    allowed=allowed,
                )
            )
    return jobs, configured_sink


class _Named(NamedTuple):
    """What the name of a pipeline or source means. ``to``: the sink's text; None: a sink of the caller, or none."""

    sources: tuple[str, ...]
    to: str | None
    to_where: str = "--to"  # the origin of that text, for messages
    pipeline: Pipeline | None = None


def pipeline_of(config: Config, name: str, to: str | Sink | None) -> Pipeline | None:
    """The pipeline that a name means; None: it means a source. With a sink, a name that is both means the source."""
    return config.pipelines.get(name) if to is None or name not in config.sources else None


def _sources_and_sink(setup: Setup, name: str, selection: Selection, *, planning: bool, used: str | None) -> _Named:
    """Raises UsageError and ConfigError."""
    config, to = setup.config, selection.to
    if pipeline_of(config, name, to) is not None:
        pipeline = config.pipeline(name)
        if to is None:
            return _Named(pipeline.source, pipeline.sink, f"{config.where}: pipeline.{name}.sink", pipeline)
        return _Named(pipeline.source, to if isinstance(to, str) else None, pipeline=pipeline)
    if to is not None:
        return _Named((name,), to if isinstance(to, str) else None)
    if planning:
        return _Named((name,), used, "sink")
    raise _no_sink(setup, name)


def plan_of(job: Job, now: datetime) -> Plan:
    """The plan of a job; a defect of its connector is a PluginError."""
    with blamed(job.source.connector):
        return plan(job, now)


def refuse_indivisible(jobs: Iterable[Job]) -> None:
    """Raises TargetError for a sink that one process at a time can write."""

    def is_divisible(sink: Sink) -> bool:
        return isinstance(sink, Divisible)

    for job in jobs:
        if not is_divisible(job.sink):
            raise TargetError(
                f"{job.sink_name} cannot be written by several processes at once. Choose a sink that can be "
                f"({sinks_that(is_divisible, job)}), or run without --workers, --engine and --shard."
            )


def sinks_that(fits: Callable[[Sink], bool], job: Job) -> str:
    """Examples of installed sinks, as ``--to`` takes them."""
    examples = []
    for kind in job.source.registry.sinks().values():
        with suppress(Exception):  # one whose library is not installed, or whose example is for people
            if fits(kind.open(kind.parse(kind.example))):
                examples.append(kind.example)
    return ", ".join(examples)


def sharded(jobs: Sequence[Job], shard: str, notice: Notice) -> list[Job]:
    """The jobs of one shard, ``"3/16"``: its accounts and days, with its share of each source's limits."""
    refuse_indivisible(jobs)
    this_part = shard_of(shard, [job.source for job in jobs])
    in_part = []
    for job in jobs:
        name, parts = job.source.name, this_part.division.parts
        readers = len(this_part.division.parts_by_source[name])
        if not this_part.reads(name):
            allowed = counted(readers, "request")
            notice(f"{name} allows {allowed} at once, so {readers} of {parts} shards read it; not this one")
            continue
        lock_part = Part(
            division=f"{parts} shards by days, {readers} for this source", name=f"shard {this_part.number} of {parts}"
        )
        in_part.append(evolve(job, source=this_part.limited(job.source), part=this_part, lock_part=lock_part))
    return in_part


def with_shards(jobs: Sequence[Job], planned: Iterable[PlannedPartition], number: int) -> tuple[PlannedPartition, ...]:
    """The planned partitions, each with the number of the shard that reads it."""
    division = shards(number, [job.source for job in jobs])
    sources = {job.source.name: job.source for job in jobs}
    numbered = []
    for partition in planned:
        unit = unit_of_partition(sources[partition.source], partition.partition)
        numbered.append(evolve(partition, shard=division.part_of(unit)))
    return tuple(numbered)


def unnamed(config: Config, *, planning: bool) -> UsageError:
    """The error of a command line that names no pipeline and no source."""
    with_sink = "" if planning else " with --to, such as --to jsonl:data"
    return UsageError(
        f"name what to read: {_alternatives(config.pipelines, 'a pipeline')}, or "
        f"{_alternatives(config.sources, 'a source')}{with_sink}{config.absent}"
    )


def _alternatives(names: Iterable[str], what: str) -> str:
    """``the pipeline daily or nightly``, or ``what`` without any names."""
    return f"{what.replace('a ', 'the ', 1)} {' or '.join(names)}" if names else what


def _no_sink(setup: Setup, name: str) -> UsageError:
    """``name`` is no pipeline, so a sink must be named. Raises ConfigError where it is no source either."""
    if name not in setup.config.sources and name not in setup.registry.connectors():
        setup.config.pipeline(name)  # raises, with the nearest name
    sink = next(iter(setup.config.sinks), "jsonl:data")
    return UsageError(f"{name} is a source: name its sink, such as `penstock run {name} --to {sink}`")


class Nowhere(BaseSink):
    """The sink of a plan without a target: nothing was ever read."""

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> Target:
        raise AssertionError("a plan opens nothing")

    def open_readonly(self, source: str) -> Target | None:
        return None
