"""
A source of a connector, read by the runner in this process: what tests of a read use of the core.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from penstock import Action, Connector, Receipt, Response, SourceSettings, Stream
from penstock._config.config import load
from penstock._config.pipeline import Allowance
from penstock._config.source import ConfiguredSource
from penstock._plan.finality import fingerprint, same_settings
from penstock._plan.plan import Plan
from penstock._plan.planner import plan_job
from penstock._plan.read_job import ReadJob
from penstock._plan.selection import chosen_streams
from penstock._plugins.registry import Registry
from penstock._project.check import check_credentials
from penstock._project.function_trials import trial_problems
from penstock._project.read import layouts_of
from penstock._run.context import new_run
from penstock._run.runner import run_jobs
from penstock._run_report.report import RunReport
from penstock._util.clock import Clock
from penstock._write.outcomes import outcome_of
from penstock.connector import Sandbox
from penstock.events import OnEvent, ignore
from penstock.sinks import Sink

__all__ = [
    "ConfiguredSource",
    "Registry",
    "RunReport",
    "check_credentials",
    "configured",
    "configured_in",
    "is_read_again",
    "jsonl",
    "layouts_of",
    "loaded",
    "plan",
    "problems_of",
    "read",
    "read_into",
    "receipt_of",
    "sandbox_of",
    "sink_at",
]

INSTALLED = Registry()


def loaded(plugins: Iterable[object] | None = None, *, strict: bool = False) -> Registry:
    """What these plugins offer (None: those installed), as a run collects it. ``strict``: as ``--strict-plugins``."""
    return Registry(plugins, strict=strict)


def problems_of(plugins: Iterable[object]) -> list[str]:
    """What is wrong with these plugins, as ``penstock connectors`` reports it."""
    registry = Registry(plugins)
    return [one.reason for one in (*registry.broken(), *trial_problems(registry))]


def configured(
    connector: str,
    settings: SourceSettings,
    *,
    name: str | None = None,
    plugins: Iterable[object] | None = None,
    folder: Path = Path(),
) -> ConfiguredSource:
    """
    A source of this connector, called as the connector unless it has a ``name``. ``plugins``: in place of those
    installed. ``folder``: that of the configuration.
    """
    registry = INSTALLED if plugins is None else Registry(plugins)
    return ConfiguredSource.of(registry, connector, settings, name=name, folder=folder)


def configured_in(
    file: Path,
    source: str,
    *,
    plugins: Iterable[object],
    environ: Mapping[str, str],
    sets: Sequence[str] = (),
) -> ConfiguredSource:
    """A source that a ``penstock.toml`` configures. ``sets``: as ``--set``."""
    registry, config = Registry(plugins, strict=True), load(file, sets, environ)
    connector = config.connector_of(source)
    settings = config.source(source, registry).settings
    return ConfiguredSource.of(registry, connector, settings, name=source, folder=file.parent)


def sandbox_of(connector: str) -> Sandbox:
    """The imitation that comes with an installed connector."""
    return INSTALLED.sandbox(connector)


def sink_at(to: str) -> Sink:
    """The sink that writes to this place, as ``--to`` takes it: ``jsonl:DIR``, ``postgresql://...``."""
    kind = INSTALLED.sink(to.partition(":")[0])
    made: Sink = kind.open(kind.parse(to))
    return made


def jsonl(folder: Path) -> Sink:
    """The sink of JSON lines that writes into this directory."""
    return sink_at(f"jsonl:{folder}")


def read(
    source: ConfiguredSource,
    sink: Sink,
    *streams: str,
    clock: Clock | None = None,
    on_event: OnEvent = ignore,
    **options: Any,
) -> RunReport:
    """
    Read these streams (none: all that are on by default) into the sink. ``clock``: None is the machine's.
    ``options``: ``since`` and ``until`` (days), ``full``, ``strict``, as those of ``penstock run``.
    """
    return read_into(source, [sink], *streams, clock=clock, on_event=on_event, **options)


def read_into(
    source: ConfiguredSource,
    sinks: Sequence[Sink],
    *streams: str,
    clock: Clock | None = None,
    on_event: OnEvent = ignore,
    **options: Any,
) -> RunReport:
    """As :func:`read`, into each of the sinks in one run."""
    jobs = [_job(source, sink, streams, **options) for sink in sinks]
    return run_jobs(new_run(jobs, clock=clock or Clock(), on_event=on_event))


def _job(
    source: ConfiguredSource, sink: Sink, streams: Sequence[str], *, strict: bool = False, **options: Any
) -> ReadJob:
    chosen = chosen_streams(source, streams)
    return ReadJob(source=source, streams=chosen, sink=sink, allowed=Allowance(strict=strict), **options)


def plan(source: ConfiguredSource, sink: Sink, *streams: str, now: datetime, **options: Any) -> Plan:
    """What a run of these streams, with the options of :func:`read`, would read at this moment."""
    return plan_job(_job(source, sink, streams, **options), now)


def is_read_again(stream: Stream, before: SourceSettings, now: SourceSettings) -> bool:
    """Whether final days that were read with the settings ``before`` are read again with those of ``now``."""
    return not same_settings(fingerprint(before, stream), fingerprint(now, stream))


def receipt_of(connector: Connector, action: Action, response: Response) -> Receipt:
    """The receipt of a write of one row that this response answers. Fails if it is no outcome."""
    (receipt,) = outcome_of(connector, action, response, [{}])  # type: ignore[misc]
    return receipt
