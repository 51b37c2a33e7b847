"""
Which jobs can be divided: by their sinks, and by the tokens of their sources.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from penstock._fetch.auth import is_renewing
from penstock._plan.read_job import ReadJob
from penstock.engines import Engine
from penstock.errors import TargetError, UsageError
from penstock.sinks import Divisible, Sink, Staging


def workers_of(sink: Sink) -> Literal["processes", "machines"] | None:
    """Who can write a sink at once: the processes of one machine, those of several, or None: one process at a time."""
    if not isinstance(sink, Divisible):
        return None
    return "machines" if isinstance(sink, Staging) or not sink.one_machine else "processes"


def check_divisible(jobs: Iterable[ReadJob]) -> None:
    """Raises TargetError for a sink that one process at a time can write."""
    for job in jobs:
        if workers_of(job.sink) is None:
            raise TargetError(
                f"{job.sink_name} cannot be written by several processes at once. Choose a sink that can be "
                f"({_sinks_for(job, 'processes', 'machines')}), or run without --workers, --engine and --shard."
            )


def _sinks_for(job: ReadJob, *workers: str) -> str:
    """Examples of the sinks that any of these workers can write, as ``--to`` takes them."""
    return ", ".join(kind.example for kind in job.source.registry.sinks().values() if kind.workers in workers)


def check_sinks(jobs: Sequence[ReadJob], engine: Engine) -> None:
    """Raises TargetError for a sink that the workers of this engine cannot write."""
    check_divisible(jobs)
    for job in jobs:
        if not engine.is_local and workers_of(job.sink) != "machines":
            raise TargetError(
                f"{job.sink_name} can be written by the processes of one machine only. Choose a sink that can be "
                f"written by several machines ({_sinks_for(job, 'machines')}), or divide the run among processes with "
                "--workers."
            )


def check_tokens(job: ReadJob, engine: str) -> None:
    """
    Raises UsageError where a grant ends the token before it: several workers would end each other's. ``engine``: its
    summary.
    """
    source = job.source
    for account in (None, *source.settings.account_tables):
        if is_renewing(source.authenticator(account)):
            raise UsageError(
                f"{source.name} gets a token that changes with every grant, and one token can be shared with workers "
                f"over TLS only. Name an address with TLS ({engine}), or use --workers on one machine."
            )
