"""
Runs by several workers: what each of them gets, and what it does with it.

A worker gets the names of the configuration and of what is selected, and reads both, and all secrets, by itself.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import evolve, field, frozen

from penstock._config.targets import passwords_in
from penstock._fetch.client import Emit
from penstock._plan.division import MOST_PARTS, Division, Share, concurrency_of, divide
from penstock._plan.planner import Job, plan
from penstock._run.divided import part_of, run_divided, run_part, weights_of
from penstock._util.clock import Clock
from penstock.engines import Assignment, Engine, Line, Message
from penstock.errors import PenstockError, PluginError, TargetError, UsageError
from penstock.project.jobs import Choice, jobs_for
from penstock.project.setup import Setup, blamed
from penstock.report import RunReport
from penstock.sinks import Divisible

PROCESSES = "processes"  # the engine of --workers without --engine


@frozen(kw_only=True)
class Order:
    """What a worker needs to know; no secret is among it."""

    file: str | None
    sets: tuple[str, ...]
    plugins: tuple[str, ...] | None  # modules, in place of the installed plugins
    strict_plugins: bool
    name: str
    choice: Choice
    started_at: datetime
    deadline_at: datetime | None
    strict: bool
    division: Division = field(repr=False)
    shared_tokens: bool
    path: tuple[str, ...] = ()  # of modules


def engine_of(setup: Setup, text: str | None, workers: int | None) -> Engine:
    """The engine ``NAME`` or ``NAME:ADDRESS``; None: processes. Raises PluginError and UsageError."""
    if workers is not None and not 1 <= workers <= MOST_PARTS:
        raise UsageError(f"found {workers} workers, expected a number from 1 to {MOST_PARTS}")
    name, _, address = (text or PROCESSES).partition(":")
    offer = setup.registry.engine(name)
    engine: Engine = offer.factory(address=address, workers=workers)
    return engine


def divided(setup: Setup, choice: Choice, jobs: Sequence[Job], engine: Engine, now: datetime) -> Division | None:
    """
    The division of these jobs among the workers of an engine; None where one part would have all of it.

    Raises UsageError for what cannot be divided, before anything is requested.
    """
    _refuse_what_stays_here(setup, choice, engine)
    for job in jobs:
        if not isinstance(job.sink, Divisible):
            raise TargetError(
                "this sink cannot be written by several workers at once. Choose one that can, such as jsonl:DIR, "
                "csv:DIR or Postgres, or run without --workers and --engine."
            )
    engine.check(_versions(setup, jobs))
    plans = []
    for job in jobs:
        with blamed(job.source.connector):
            plans.append(plan(job, now))
    weights, listed = weights_of(jobs, plans)
    division = divide(engine.workers, {job.source.name: concurrency_of(job.source) for job in jobs}, weights, listed)
    holders = {number for numbers in division.holders.values() for number in numbers}
    return division if len(holders) > 1 or not engine.is_local else None


def run_by(
    setup: Setup,
    name: str,
    choice: Choice,
    jobs: Sequence[Job],
    engine: Engine,
    division: Division,
    *,
    clock: Clock,
    deadline_s: float | None,
    strict: bool,
    on_event: Emit,
) -> RunReport:
    """Run the jobs by the workers of the engine."""
    now = clock.now()
    order = Order(
        file=None if setup.config.path is None else str(setup.config.path.absolute()),
        sets=tuple(setup.sets),
        plugins=_modules(setup),
        strict_plugins=setup.strict_plugins,
        name=name,
        choice=choice,
        started_at=now,
        deadline_at=None if deadline_s is None else now + timedelta(seconds=deadline_s),
        strict=strict,
        division=division,
        shared_tokens=engine.carries_secrets,
        path=tuple(sys.path) if setup.plugins is not None else (),
    )
    versions = _versions(setup, jobs)

    def assign(run_id: str, started_at: datetime, number: int, sources: Sequence[str]) -> Assignment:
        return Assignment(
            number=number,
            run_id=run_id,
            sources=tuple(sources),
            versions=versions,
            order=evolve(order, started_at=started_at),
        )

    return run_divided(
        jobs,
        division,
        engine,
        work,
        assign,
        clock=clock,
        deadline_s=deadline_s,
        strict=strict,
        on_event=on_event,
    )


def work(assignment: Assignment, line: Line) -> Message:
    """Carry out an assignment, in a worker. The result has the report, or the reason why there is none."""
    order: Order = assignment.order
    check_versions(assignment.versions)
    try:
        clock = Clock()
        jobs = _jobs(assignment, order)
        deadline_s = None
        if order.deadline_at is not None:
            deadline_s = max(0.0, (order.deadline_at - clock.now()).total_seconds())
        report = run_part(
            jobs,
            assignment,
            line,
            started_at=order.started_at,
            clock=clock,
            deadline_s=deadline_s,
            strict=order.strict,
            shared_tokens=order.shared_tokens,
        )
    except PenstockError as error:
        return {"failed": str(error)}
    return {"report": report.as_part()}


def _jobs(assignment: Assignment, order: Order) -> list[Job]:
    sys.path.extend(one for one in order.path if one not in sys.path)
    plugins = None if order.plugins is None else tuple(map(import_module, order.plugins))
    setup = Setup(
        file=None if order.file is None else Path(order.file),
        sets=order.sets,
        plugins=plugins,
        environ=os.environ,
        strict_plugins=order.strict_plugins,
    )
    jobs, _ = jobs_for(setup, order.name, order.choice, order.started_at, lambda text: None)
    share = Share(division=order.division, number=assignment.number)
    return [
        evolve(
            job,
            source=share.limited(job.source),
            share=share,
            part=part_of(assignment.run_id, assignment.number),
        )
        for job in jobs
        if job.source.name in assignment.sources
    ]


def check_versions(versions: Mapping[str, str]) -> None:
    """Raises PluginError where one of these distributions is not installed here, or in another version."""
    for name, expected in versions.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            raise PluginError(f"{name} is not installed on this worker; install {name} {expected} there") from None
        if found != expected:
            raise PluginError(
                f"{name} is version {found} on this worker and {expected} where the run was started; install the "
                "same version on both"
            )


def _versions(setup: Setup, jobs: Sequence[Job]) -> dict[str, str]:
    return setup.registry.versions(job.source.connector.name for job in jobs)


def _refuse_what_stays_here(setup: Setup, choice: Choice, engine: Engine) -> None:
    """Workers read the configuration, the environment and the plugins by themselves."""
    if isinstance(setup.file, Mapping) or setup.environ is not os.environ:
        raise UsageError(
            "workers read the configuration and its secrets by themselves: give a file, and no other environment than "
            "that of the process"
        )
    _modules(setup)
    if not (choice.to is None or isinstance(choice.to, str)):
        raise UsageError("workers open the target by themselves: name a sink, such as jsonl:DIR, in place of an object")
    if not engine.is_local and choice.to is not None and any(passwords_in(choice.to)):
        raise UsageError(
            "the password of --to would be sent to the workers. Name a sink of the configuration, whose dsn each "
            'worker reads by itself: dsn = { env = "NAME" }'
        )


def _modules(setup: Setup) -> tuple[str, ...] | None:
    if setup.plugins is None:
        return None
    found: list[Any] = list(setup.plugins)
    if not all(isinstance(one, ModuleType) for one in found):
        raise UsageError("workers cannot be given plugin objects: install the plugins, or give modules")
    return tuple(one.__name__ for one in found)
