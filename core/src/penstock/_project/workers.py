"""
Runs by several workers: into how many shards they are divided, and how a worker makes its jobs.
"""

import os
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import frozen

from penstock._config.target_text import secrets_in
from penstock._plan.division import MAX_SHARDS, Division, Unit, divide, max_shards, unit_of_partition
from penstock._plan.planner import plan_job
from penstock._plan.read_job import ReadJob
from penstock._project.selected_jobs import Selection, jobs_for
from penstock._project.setup import Setup
from penstock._run.context import RunContext
from penstock._run.divided.coordinator import run_divided
from penstock._run.divided.divisible import check_sinks, check_tokens
from penstock._run.runner import run_jobs
from penstock._run_report.report import RunReport
from penstock.engines import Engine
from penstock.errors import UsageError

PROCESSES = "processes"  # the engine of --workers without --engine


@frozen(kw_only=True)
class _WorkerJobs:
    """How a worker makes the jobs of a run: by names, since it reads the configuration and all secrets by itself."""

    file: str | None
    sets: tuple[str, ...]
    plugins: tuple[str, ...] | None  # modules, in place of the installed plugins
    path: tuple[str, ...]  # of these modules
    strict_plugins: bool
    name: str
    selection: Selection
    sources: tuple[str, ...]  # those that the process that started the run can use
    started_at: datetime

    def read(self) -> list[ReadJob]:
        """The jobs of the whole run."""
        sys.path.extend(path for path in self.path if path not in sys.path)
        setup = Setup(
            file={} if self.file is None else Path(self.file),  # a file in this process's directory is another one
            sets=self.sets,
            plugins=None if self.plugins is None else tuple(map(import_module, self.plugins)),
            environ=os.environ,
            strict_plugins=self.strict_plugins,
        )
        return jobs_for(setup, self.name, self.selection, self.started_at, lambda text: None, only=self.sources).jobs


def engine_of(setup: Setup, text: str | None, workers: int | None) -> Engine:
    """The engine ``NAME`` or ``NAME:ADDRESS``; None: processes. Raises PluginError and UsageError."""
    if workers is not None and not 1 <= workers <= MAX_SHARDS:
        raise UsageError(f"--workers {workers}: expected a number from 1 to {MAX_SHARDS}")
    address = (text or PROCESSES).partition(":")[2]
    offer = setup.registry.engine(_name_of(text))
    engine: Engine = offer.factory(address=address, workers=workers)
    return engine


def _name_of(engine: str | None) -> str:
    return (engine or PROCESSES).partition(":")[0]


def run_by_workers(
    setup: Setup,
    name: str,
    selection: Selection,
    context: RunContext,
    engine_name: str | None,
    workers: int | None,
) -> RunReport:
    """
    Run the jobs by the workers of an engine; in this process if one worker of this machine would have all of it.

    Raises UsageError for what cannot be divided, before anything is requested.
    """
    with closing(engine_of(setup, engine_name, workers)) as engine:
        _check_workers_can_read(setup, selection, engine)
        check_sinks(context.jobs, engine)
        if not engine.carries_secrets:
            for job in context.jobs:
                check_tokens(job, setup.registry.engine(_name_of(engine_name)).summary)
        worker_jobs = _WorkerJobs(
            file=None if setup.config.path is None else str(setup.config.path.absolute()),
            sets=tuple(setup.sets),
            plugins=_modules(setup),
            path=tuple(sys.path) if setup.plugins is not None and engine.is_local else (),
            strict_plugins=setup.strict_plugins,
            name=name,
            selection=selection,
            sources=tuple(job.source.name for job in context.jobs),
            started_at=context.started_at,
        )
        versions = setup.registry.versions(job.source.connector.name for job in context.jobs)
        division = _divide(context, engine)
        numbers_with_work = {number for numbers in division.shards_by_source.values() for number in numbers}
        if len(numbers_with_work) > 1 or not engine.is_local:
            return run_divided(context, division, engine, worker_jobs.read, versions)
    return run_jobs(context)


def _divide(context: RunContext, engine: Engine) -> Division:
    """Divide the planned partitions, each of the same weight."""
    weights: Counter[Unit] = Counter()
    for job in context.jobs:
        plan = plan_job(job, context.started_at)
        weights.update(unit_of_partition(job.source, planned.partition) for planned in plan.partitions)
    listed = [job.source.name for job in context.jobs if any(map(job.source.lister_of, job.chosen))]
    max_of_source = {job.source.name: max_shards(job.source) for job in context.jobs}
    return divide(engine.workers, max_of_source, weights, listed)


def _check_workers_can_read(setup: Setup, selection: Selection, engine: Engine) -> None:
    """Workers read the configuration, the environment and the plugins by themselves."""
    if isinstance(setup.file, Mapping) or setup.environ is not os.environ:
        raise UsageError(
            "workers read the configuration and its secrets by themselves: give a file, and no other environment than "
            "that of the process"
        )
    _modules(setup)
    if not (selection.to is None or isinstance(selection.to, str)):
        raise UsageError("workers open the target by themselves: name a sink, as --to takes it, in place of an object")
    if not engine.is_local and selection.to is not None and any(secrets_in(selection.to)):
        raise UsageError(
            "the secret in --to would be sent to the workers. Name a sink of the configuration, whose secrets each "
            'worker reads by itself: dsn = { env = "NAME" }'
        )


def _modules(setup: Setup) -> tuple[str, ...] | None:
    if setup.plugins is None:
        return None
    modules: list[Any] = list(setup.plugins)
    if not all(isinstance(module, ModuleType) for module in modules):
        raise UsageError("workers cannot be given plugin objects: install the plugins, or give modules")
    return tuple(module.__name__ for module in modules)
