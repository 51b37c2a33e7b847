"""
Runs by several workers: what each of them gets, and what it does with it.

A worker gets the names of the configuration and of what is selected, and reads both, and all secrets, by itself.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import evolve, field, frozen

from penstock._config.target_text import passwords_in
from penstock._plan.division import MOST_PARTS, Division, PartOfDivision, divide, most_parts
from penstock._plan.plan import Job, not_divisible
from penstock._project.jobs import jobs_for, plan_of
from penstock._project.selection import Selection
from penstock._project.setup import Setup
from penstock._run.context import RunContext
from penstock._run.divided.coordinator import lock_part_of, run_divided, weights_of, workers_stage
from penstock._run.divided.messages import Lease, OpenRequest, PartResult, message_of, reply_to
from penstock._run.divided.worker import run_part
from penstock._run.runner import run
from penstock._run_report.report import RunReport
from penstock._util.clock import Clock
from penstock.engines import Assignment, Engine, Line, Message
from penstock.errors import LockHeldError, PenstockError, PluginError, TargetError, UsageError
from penstock.redact import mask_json
from penstock.sinks import Divisible, Staging

PROCESSES = "processes"  # the engine of --workers without --engine
LOST_HOST_S = 120.0  # after so long at most, a database notices that a host was lost, and its locks are free
LOCK_EVERY_S = 2.0


@frozen(kw_only=True)
class WorkerSetup:
    """
    What a worker needs to know; no secret is among it. ``versions``: of the distributions that it must have.

    ``may_be_replaced``: another worker may take over the part of one that was lost, whose lock may be held for a while.
    ``marks``: by source, the text that proves the target's directory, where the worker stages files for a target that
    the coordinator holds.
    """

    file: str | None
    sets: tuple[str, ...]
    plugins: tuple[str, ...] | None  # modules, in place of the installed plugins
    path: tuple[str, ...]  # of these modules
    strict_plugins: bool
    versions: Mapping[str, str]
    name: str
    selection: Selection
    shared_tokens: bool
    may_be_replaced: bool
    started_at: datetime
    deadline_at: datetime | None = None
    division: Division | None = field(default=None, repr=False)
    marks: Mapping[str, str] = field(factory=dict, repr=False)


def engine_of(setup: Setup, text: str | None, workers: int | None) -> Engine:
    """The engine ``NAME`` or ``NAME:ADDRESS``; None: processes. Raises PluginError and UsageError."""
    if workers is not None and not 1 <= workers <= MOST_PARTS:
        raise UsageError(f"--workers {workers}: expected a number from 1 to {MOST_PARTS}")
    name, _, address = (text or PROCESSES).partition(":")
    offer = setup.registry.engine(name)
    engine: Engine = offer.factory(address=address, workers=workers)
    return engine


def run_by_workers(
    setup: Setup,
    name: str,
    selection: Selection,
    context: RunContext,
    engine: str | None,
    workers: int | None,
) -> RunReport:
    """
    Run the jobs by the workers of an engine; in this process if one worker of this machine would have all of it.

    Raises UsageError for what cannot be divided, before anything is requested.
    """
    with closing(engine_of(setup, engine, workers)) as chosen:
        worker = worker_setup(setup, name, selection, chosen, context)
        division = _divided(context, chosen)
        numbers_with_work = {number for numbers in division.parts_by_source.values() for number in numbers}
        if len(numbers_with_work) > 1 or not chosen.is_local:

            def prepare(marks: Mapping[str, str]) -> WorkerSetup:
                prepared = evolve(worker, division=division, marks=marks)
                chosen.check(partial(try_worker, prepared))
                return prepared

            return run_divided(context, division, chosen, work, prepare)
    return run(context)


def worker_setup(setup: Setup, name: str, selection: Selection, engine: Engine, context: RunContext) -> WorkerSetup:
    """What each worker needs to know. Raises UsageError for what cannot be divided."""
    _refuse_what_stays_here(setup, selection, engine)
    for job in context.jobs:
        if not isinstance(job.sink, Divisible):
            raise not_divisible()
        if job.sink.one_machine and not engine.is_local and not workers_stage(job.sink, engine):
            raise TargetError(
                "this sink can be written by the processes of one machine only. Name a Postgres database or a "
                "directory that all workers share, or divide the run among processes with --workers."
            )
        if not engine.carries_secrets:
            _refuse_changing_tokens(job)
    return WorkerSetup(
        file=None if setup.config.path is None else str(setup.config.path.absolute()),
        sets=tuple(setup.sets),
        plugins=_modules(setup),
        path=tuple(sys.path) if setup.plugins is not None and engine.is_local else (),
        strict_plugins=setup.strict_plugins,
        versions=setup.registry.versions(job.source.connector.name for job in context.jobs),
        name=name,
        selection=selection,
        shared_tokens=engine.carries_secrets,
        may_be_replaced=not engine.is_local,
        started_at=context.started_at,
        deadline_at=context.deadline_at,
    )


def _divided(context: RunContext, engine: Engine) -> Division:
    weights, listed = weights_of(context.jobs, [plan_of(job, context.started_at) for job in context.jobs])
    most = {job.source.name: most_parts(job.source) for job in context.jobs}
    return divide(engine.workers, most, weights, listed)


# --- in a worker ------------------------------------------------------------------------------------------------------


@contextmanager
def _masked_errors() -> Iterator[None]:
    """Mask an error that leaves this process: the one that receives it does not know the secrets of this one."""
    try:
        yield
    except Exception as error:
        error.args = tuple(mask_json(error.args))
        raise


@_masked_errors()
def try_worker(worker: WorkerSetup) -> None:
    """
    Raises PenstockError where this process cannot carry out a part: its installation, configuration, secrets, or files.
    """
    check_versions(worker.versions)
    jobs, _ = jobs_for(_setup(worker), worker.name, worker.selection, worker.started_at, lambda text: None)
    _find_marks(jobs, worker.marks)


@_masked_errors()
def work(assignment: Assignment, line: Line) -> Message:
    """Carry out an assignment. The result has the report, or the reason why there is none."""
    worker: WorkerSetup = assignment.task
    # First of all, since from then on a former worker of this part cannot commit any more.
    leases = {
        source: reply_to(line.request, OpenRequest(source), Lease).number
        for source in assignment.sources
        if source in worker.marks
    }
    check_versions(worker.versions)
    clock = Clock()
    end = clock.monotonic() + (LOST_HOST_S if worker.may_be_replaced else 0.0)
    try:
        jobs = _jobs(assignment, worker)
        while True:
            try:
                report = run_part(
                    jobs,
                    assignment,
                    line,
                    started_at=worker.started_at,
                    clock=clock,
                    deadline_at=worker.deadline_at,
                    shared_tokens=worker.shared_tokens,
                    leases=leases,
                )
                break
            except LockHeldError:  # by the worker in whose place this one is
                if clock.monotonic() >= end:
                    raise
                clock.sleep(LOCK_EVERY_S)
    except PenstockError as error:
        return message_of(PartResult(failed=str(error)))
    return message_of(PartResult(report=report.as_part()))


def _jobs(assignment: Assignment, worker: WorkerSetup) -> list[Job]:
    assert worker.division is not None, "an assignment is part of a division"
    jobs, _ = jobs_for(_setup(worker), worker.name, worker.selection, worker.started_at, lambda text: None)
    jobs = [job for job in jobs if job.source.name in assignment.sources]
    _find_marks(jobs, worker.marks)  # one that joined the cluster late was not tried
    part = PartOfDivision(division=worker.division, number=assignment.number)
    lock_part = lock_part_of(assignment.run_id, assignment.number)
    return [evolve(job, source=part.limited(job.source), part=part, lock_part=lock_part) for job in jobs]


def _find_marks(jobs: Sequence[Job], marks: Mapping[str, str]) -> None:
    for job in jobs:
        if job.source.name in marks:
            assert isinstance(job.sink, Staging)
            job.sink.find_mark(job.source.name, marks[job.source.name])


def _setup(worker: WorkerSetup) -> Setup:
    sys.path.extend(path for path in worker.path if path not in sys.path)
    return Setup(
        file={} if worker.file is None else Path(worker.file),  # a file in this process's directory is another one
        sets=worker.sets,
        plugins=None if worker.plugins is None else tuple(map(import_module, worker.plugins)),
        environ=os.environ,
        strict_plugins=worker.strict_plugins,
    )


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


def _refuse_what_stays_here(setup: Setup, selection: Selection, engine: Engine) -> None:
    """Workers read the configuration, the environment and the plugins by themselves."""
    if isinstance(setup.file, Mapping) or setup.environ is not os.environ:
        raise UsageError(
            "workers read the configuration and its secrets by themselves: give a file, and no other environment than "
            "that of the process"
        )
    _modules(setup)
    if not (selection.to is None or isinstance(selection.to, str)):
        raise UsageError("workers open the target by themselves: name a sink, such as jsonl:DIR, in place of an object")
    if not engine.is_local and selection.to is not None and any(passwords_in(selection.to)):
        raise UsageError(
            "the password of --to would be sent to the workers. Name a sink of the configuration, whose dsn each "
            'worker reads by itself: dsn = { env = "NAME" }'
        )


def _refuse_changing_tokens(job: Job) -> None:
    """Raises UsageError where a grant ends the token before it: several workers would end each other's."""
    source = job.source
    for account in (None, *source.settings.account_tables):
        if hasattr(source.authenticator(account), "renew_request"):
            raise UsageError(
                f"{source.name} gets a token that changes with every grant, and one token can be shared with workers "
                "over TLS only. Use a scheduler with TLS (--engine dask:tls://HOST:PORT), or --workers on one machine."
            )


def _modules(setup: Setup) -> tuple[str, ...] | None:
    if setup.plugins is None:
        return None
    modules: list[Any] = list(setup.plugins)
    if not all(isinstance(module, ModuleType) for module in modules):
        raise UsageError("workers cannot be given plugin objects: install the plugins, or give modules")
    return tuple(module.__name__ for module in modules)
