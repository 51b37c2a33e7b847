"""
A source of an installed connector, read by the runner in this process: what the tests of connectors use of the core.
"""

from datetime import date
from pathlib import Path

from penstock import Action, Connector, Receipt, Response, SourceSettings, Stream
from penstock._config.pipeline import Allowance
from penstock._config.source import ConfiguredSource
from penstock._plan.finality import fingerprint, is_of_today
from penstock._plan.plan import Job
from penstock._plan.selection import chosen_streams
from penstock._plugins.registry import Registry
from penstock._run.check import check
from penstock._run.context import new_run
from penstock._run.runner import run_jobs
from penstock._run_report.report import RunReport
from penstock._util.clock import Clock
from penstock._write.outcomes import outcome_of
from penstock.events import OnEvent, ignore
from penstock.sinks import Sink

__all__ = ["ConfiguredSource", "RunReport", "check", "configured", "is_read_again", "jsonl", "read", "receipt_of"]

REGISTRY = Registry()


def configured(connector: str, settings: SourceSettings, *, name: str | None = None) -> ConfiguredSource:
    """A source of this connector, called as the connector unless it has a ``name``."""
    return ConfiguredSource.of(REGISTRY, connector, settings, name=name)


def jsonl(folder: Path) -> Sink:
    """The sink of JSON lines that writes into this directory."""
    kind = REGISTRY.sink("jsonl")
    return kind.open(kind.parse(f"jsonl:{folder}"))


def read(
    source: ConfiguredSource,
    sink: Sink,
    *streams: str,
    clock: Clock,
    since: date | None = None,
    until: date | None = None,
    strict: bool = False,
    on_event: OnEvent = ignore,
) -> RunReport:
    """Read these streams (none: all that are on by default) into the sink. ``strict``: as ``--strict``."""
    job = Job(
        source=source,
        streams=chosen_streams(source, streams),
        sink=sink,
        since=since,
        until=until,
        allowed=Allowance(strict=strict),
    )
    return run_jobs(new_run([job], clock=clock, on_event=on_event))


def is_read_again(stream: Stream, before: SourceSettings, now: SourceSettings) -> bool:
    """Whether final days that were read with the settings ``before`` are read again with those of ``now``."""
    return not is_of_today(fingerprint(before, stream), fingerprint(now, stream))


def receipt_of(connector: Connector, action: Action, response: Response) -> Receipt:
    """The receipt of a write of one row that this response answers. Fails if it is no outcome."""
    (receipt,) = outcome_of(connector, action, response, [{}])  # type: ignore[misc]
    return receipt
