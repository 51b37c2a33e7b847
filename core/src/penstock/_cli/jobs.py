"""
What ``plan`` and ``run`` are asked to read: the options that say so, and the jobs made of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar

import click

from penstock._cli.session import Session
from penstock._cli.types import DAY, NAMES
from penstock._run.history import History
from penstock.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from penstock._config import Config, SinkChoice
    from penstock._config.source import ConfiguredSource
    from penstock._plan.planner import Job
    from penstock.sinks import Sink, Target

F = TypeVar("F", bound=Callable[..., Any])


def window(function: F) -> F:
    """The options that say what is wanted."""
    for option in reversed(
        [
            click.option(
                "--to", metavar="SINK", help="A sink of the configuration, jsonl:DIR, csv:DIR, postgresql://... or -"
            ),
            click.option("--streams", type=NAMES, metavar="A,B", help="Only these.  [default: those on by default]"),
            click.option("--since", type=DAY, metavar="DAY", help="First day.  [default: start, else all there is]"),
            click.option("--until", type=DAY, metavar="DAY", help="Last day, included.  [default: yesterday]"),
            click.option("--full", is_flag=True, help="Read days that are final too."),
        ]
    ):
        function = option(function)
    return function


def jobs_for(
    session: Session,
    name: str | None,
    *,
    to: str | None,
    streams: tuple[str, ...] | None,
    since: date | None,
    until: date | None,
    full: bool,
    planning: bool = False,
) -> "tuple[list[Job], SinkChoice | None]":
    """
    A job for each source of the pipeline or source ``name``, and their sink.

    When ``planning``, a source without ``--to`` takes its last target, or none.
    """
    from penstock._plan.planner import Job
    from penstock._plan.selection import chosen_streams

    config = session.config
    if name is None:
        raise _unnamed(config, planning=planning)
    sources: tuple[str, ...] = (name,)
    named_by = "sink" if to is None else "--to"
    if name in config.pipelines and (to is None or name not in config.sources):
        pipeline = config.pipeline(name)
        named_by = named_by if to is not None else f"{config.where}: pipeline.{name}.sink"
        sources, streams, to = pipeline.sources, streams or pipeline.streams, to or pipeline.sink
    elif to is None and planning:
        to = next(iter(History(config.folder).targets([name])), None)
    elif to is None:
        raise _no_place(session, name)
    configured, choice = session.configured(sources, to, named_by)
    chosen = {source.name: chosen_streams(source, streams) for source in configured}
    refuse_missed(session, configured, chosen)
    for source in configured:
        if not chosen[source.name]:
            raise _no_stream(source)
    sink: Sink = _Nowhere() if choice is None else choice.kind.open(choice.settings)
    return [
        Job(
            source=source,
            streams=chosen[source.name],
            sink=sink,
            since=since,
            until=until,
            full=full,
        )
        for source in configured
    ], choice


def refuse_missed(session: Session, sources: "Sequence[ConfiguredSource]", chosen: Mapping[str, Sequence[str]]) -> None:
    """Raises ConfigError where the settings leave out a column that the reading of these streams goes by."""
    from penstock._plan.selection import missed_columns

    problems = [text for source in sources for text in missed_columns(source, chosen[source.name])]
    if problems:
        raise ConfigError([f"{session.config.where}: {text}" for text in problems])


def _unnamed(config: "Config", *, planning: bool) -> UsageError:
    to_say = "" if planning else " with --to, such as --to jsonl:data"
    missing = "" if config.path else ". There is no penstock.toml here: `penstock init CONNECTOR` prints a first one"
    return UsageError(
        f"say what to read: {_or(config.pipelines, 'a pipeline')}, or {_or(config.sources, 'a source')}{to_say}"
        f"{missing}"
    )


def _or(names: Iterable[str], what: str) -> str:
    """``the pipeline daily or nightly``, or what would stand there."""
    return f"{what.replace('a ', 'the ', 1)} {' or '.join(names)}" if names else what


def _no_place(session: Session, name: str) -> UsageError:
    """``name`` is no pipeline, so a sink would have to be named. Raises ConfigError where it is no source either."""
    if name not in session.config.sources and name not in session.registry.connectors():
        session.config.pipeline(name)  # raises, with the nearest name
    return UsageError(f"{name} is a source: say where it goes, such as `penstock run {name} --to jsonl:data`")


def _no_stream(source: "ConfiguredSource") -> UsageError:
    if not source.streams:
        return UsageError(
            f"{source.name} has no streams: it is written to, not read. `penstock act {source.name} --list` shows "
            "what can be sent"
        )
    return UsageError(
        f"{source.name}: no stream is on by default with these settings; `penstock streams {source.connector.name}` "
        "lists them, --streams chooses"
    )


class _Nowhere:
    """The sink of a plan without a target: nothing was ever read."""

    def open(self, source: str, run_id: str, streams: "Sequence[str]" = ()) -> "Target":
        raise AssertionError("a plan opens nothing")

    def open_readonly(self, source: str) -> "Target | None":
        return None
