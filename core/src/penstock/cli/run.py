"""
``check``, ``plan`` and ``run``.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from penstock.cli.follow import following
from penstock.cli.history import History, write_json
from penstock.cli.output import print_json, print_table
from penstock.cli.session import Session, as_json, blamed, verb
from penstock.cli.types import DAY, DURATION, NAMES
from penstock.clock import Clock
from penstock.errors import ConfigError, PenstockError, UsageError
from penstock.report import counted

if TYPE_CHECKING:
    from penstock.config import SinkChoice
    from penstock.plan import Job, Planned
    from penstock.sink import Sink, Target
    from penstock.source import ConfiguredSource

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


@verb()
@click.argument("source")
def check(session: Session, source: str) -> None:
    """
    Try a source's credentials with one cheap request that records nothing at the provider.
    """
    from penstock.check import check as checked
    from penstock.choice import chosen_streams

    (configured,), _ = session.configured([source])
    _refuse_missed(session, [configured], {configured.name: chosen_streams(configured, None)})
    with blamed(configured.connector):
        print(checked(configured, Clock()))


@verb()
@click.argument("name", metavar="PIPELINE|SOURCE", required=False)
@window
@as_json
def plan(session: Session, name: str | None, json_: bool, **wanted: Any) -> None:
    """
    Show the partitions that a run would fetch, each with its reason (days in a row in one line). No request is made.

    Without --to, the target that was used last for the source decides what is final.
    """
    from penstock.plan import plan as planned

    now = Clock().now()
    jobs, choice = jobs_for(session, name, planning=True, **wanted)
    if choice is None:
        session.notice("no target was used for this yet and none is given with --to: everything counts as missing")
    plans = []
    for job in jobs:
        with blamed(job.source.connector):
            plans.append(planned(job, now))
    for one in plans:
        for text in one.notices:
            session.notice(text)
    partitions = [part for one in plans for part in one.partitions]
    waiting = [f"{job.source.name}.{text}" for job, one in zip(jobs, plans, strict=True) for text in one.waiting]
    if json_:
        shown = [
            {
                "source": part.source,
                "stream": part.partition.stream,
                "partition": part.partition.as_dict(),
                "reason": part.reason,
                "requests": part.requests,
            }
            for part in partitions
        ]
        print_json({"partitions": shown, "waiting": waiting})
        return
    if partitions:
        rows = [_span_row(span) for span in _spans(partitions)]
        print_table(["source", "stream", "partition", "reason", "requests"], rows)
    for text in waiting:
        print(text)
    requests = sum(part.requests or 0 for part in partitions)
    final = sum(sum(one.final.values()) for one in plans)
    least = "" if all(one.exact for one in plans) else "at least "
    print(f"{counted(len(partitions), 'partition')} to read, {final} final, {least}{counted(requests, 'request')}")


def _spans(partitions: "Iterable[Planned]") -> "Iterator[list[Planned]]":
    """Consecutive days of one account that are read for one reason belong together; all else stands alone."""
    span: list[Planned] = []
    for part in partitions:
        if span and not _follows(span[-1], part):
            yield span
            span = []
        span.append(part)
    if span:
        yield span


def _follows(former: "Planned", part: "Planned") -> bool:
    """Whether ``part`` is the next day of the same account, for the same reason."""
    alike = [(one.source, one.partition.stream, one.reason, one.partition.values[:-1]) for one in (former, part)]
    if alike[0] != alike[1] or part.reason == "snapshot":
        return False
    days = [date.fromisoformat(one.partition.values[-1][1]) for one in (former, part)]
    return days[1] - days[0] == timedelta(days=1)


def _span_row(span: "Sequence[Planned]") -> list[Any]:
    first, last = span[0], span[-1]
    text = ", ".join(f"{column}={value}" for column, value in first.partition.values)
    if len(span) > 1:
        text += f" to {last.partition.values[-1][1]} ({len(span)} days)"
    requests = None if first.requests is None else sum(part.requests or 0 for part in span)
    return [first.source, first.partition.stream, text, first.reason, "by parent" if requests is None else requests]


@verb("run")
@click.argument("name", metavar="PIPELINE|SOURCE", required=False)
@window
@click.option("--strict", is_flag=True, help="Exit 5 when records were rejected or unknown members came.")
@click.option("--deadline", type=DURATION, metavar="TIME", help="Stop in time: 45, 45s, 30m or 2h.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write it as JSON.")
def run(
    session: Session, name: str | None, *, strict: bool, deadline: float | None, report: Path | None, **wanted: Any
) -> int:
    """
    Fetch what is not final yet and deliver it.

    A PIPELINE stands in the configuration with its sink. A SOURCE needs one: penstock run talroo --to jsonl:data
    """
    if report is not None and not report.absolute().parent.is_dir():
        raise UsageError(f"--report {report}: there is no directory {report.parent}")
    clock = Clock()
    try:
        jobs, choice = jobs_for(session, name, **wanted)
        assert choice is not None
        finished = perform(session, jobs, clock=clock, deadline_s=deadline, strict=strict, choice=choice)
    except PenstockError as error:
        if report is not None:
            seen = {"source": None, "stream": None, "partition": None, "error": type(error).__name__}
            _write_report(
                report,
                {
                    "run_id": None,
                    "status": "not started",
                    "exit_code": error.exit_code,
                    "seconds": 0.0,
                    "sources": {},
                    "errors": [{**seen, "message": str(error)}],
                },
            )
        raise
    if report is not None:
        _write_report(report, finished.as_dict())
    return int(finished.exit_code)


def perform(
    session: Session,
    jobs: "Sequence[Job]",
    *,
    clock: Clock,
    deadline_s: float | None = None,
    strict: bool = False,
    choice: "SinkChoice | None" = None,
) -> Any:
    """
    Run the jobs, followed on stderr and by plugins, ended cleanly by a signal; the report, after its summary.

    The target of ``choice`` is remembered once it could be opened: a place that took nothing is none to look at later.
    """
    from penstock import run as runner

    def heard(event: Mapping[str, Any]) -> None:
        if event["event"] == "run_started" and choice is not None:
            remember(session, choice, jobs, clock)
        follow(event)

    with (
        stopping(session, clock),
        following(
            log_format=session.log_format, quiet=session.quiet, verbose=session.verbose, debug=session.debug
        ) as follow,
    ):
        finished = runner.run(jobs, clock=clock, deadline_s=deadline_s, strict=strict, on_event=heard)
    summarise(session, finished)
    return finished


def summarise(session: Session, finished: Any) -> None:
    """What is left to say after a run: notices, what failed beyond single partitions, and the summary line."""
    if session.log_format == "json":
        return  # the event run_finished holds all of it
    for text in finished.notices:
        session.notice(text)
    beyond = [error for error in finished.errors if error["partition"] is None]
    for error in beyond:
        place = ".".join(error[key] for key in ("source", "stream") if error[key])
        session.say(f"error: {place}: {error['message']}")
    if not session.quiet:
        session.say(finished.summary_line)


@contextmanager
def stopping(
    session: Session, clock: Clock, said: str = "stopping; what is complete stays delivered. Once more ends it at once"
) -> Iterator[None]:
    """
    The first Ctrl-C or SIGTERM sets ``clock.stop``, so that a run ends cleanly; the second ends the process at once.
    """
    former: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        clock.stop.set()
        for known in former:
            signal.signal(known, signal.SIG_DFL)
        name = signal.Signals(number).name
        session.say(f"{name}: {said}", event="stopping")

    try:
        for one in (signal.SIGINT, signal.SIGTERM):
            former[one] = signal.signal(one, stop)
    except ValueError:  # not in the main thread: whoever runs us there minds the signals
        former.clear()
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


# --- jobs -----------------------------------------------------------------------------------------------------------


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
    from penstock.choice import chosen_streams
    from penstock.plan import Job

    config = session.config
    if name is None:
        to_say = "" if planning else " with --to, such as --to jsonl:data"
        missing = (
            "" if config.path else ". There is no penstock.toml here: `penstock init CONNECTOR` prints a first one"
        )
        raise UsageError(
            f"say what to read: {_or(config.pipelines, 'a pipeline')}, or {_or(config.sources, 'a source')}{to_say}"
            f"{missing}"
        )
    sources: tuple[str, ...] = (name,)
    named_by = "sink" if to is None else "--to"
    if name in config.pipelines and (to is None or name not in config.sources):
        pipeline = config.pipeline(name)
        named_by = named_by if to is not None else f"{config.where}: pipeline.{name}.sink"
        sources, streams, to = pipeline.sources, streams or pipeline.streams, to or pipeline.sink
    elif to is None and planning:
        to = next(iter(History(config.folder).targets([name])), None)
    elif to is None:
        _no_pipeline(session, name)
    configured, choice = session.configured(sources, to, named_by)
    chosen = {source.name: chosen_streams(source, streams) for source in configured}
    _refuse_missed(session, configured, chosen)
    for source in configured:
        if not chosen[source.name]:
            if not session.registry.streams(source.connector.name):
                raise UsageError(
                    f"{source.name} has no streams: it is written to, not read. `penstock act {source.name} --list` "
                    "shows what can be sent"
                )
            raise UsageError(
                f"{source.name}: no stream is on by default with these settings; `penstock streams "
                f"{source.connector.name}` lists them, --streams chooses"
            )
    sink: Sink = _Nowhere() if choice is None else choice.kind.open(choice.settings)
    return [
        Job(
            source=source,
            streams=chosen[source.name],
            sink=sink,
            target_name=choice.shown if choice is not None else "no target",
            since=since,
            until=until,
            full=full,
        )
        for source in configured
    ], choice


def _refuse_missed(
    session: Session, sources: "Sequence[ConfiguredSource]", chosen: Mapping[str, Sequence[str]]
) -> None:
    """Raises ConfigError where the settings leave out a column that the reading of these streams goes by."""
    from penstock.choice import missed_columns

    problems = [text for source in sources for text in missed_columns(source, chosen[source.name])]
    if problems:
        raise ConfigError([f"{session.config.where}: {text}" for text in problems])


def _or(names: Iterable[str], what: str) -> str:
    """``the pipeline daily or nightly``, or what would stand there."""
    return f"{what.replace('a ', 'the ', 1)} {' or '.join(names)}" if names else what


def _no_pipeline(session: Session, name: str) -> None:
    config = session.config
    if name in config.sources or name in session.registry.connectors():
        raise UsageError(f"{name} is a source: say where it goes, such as `penstock run {name} --to jsonl:data`")
    config.pipeline(name)  # raises, with the nearest name


def remember(session: Session, choice: "SinkChoice", jobs: "Sequence[Job]", clock: Clock) -> None:
    """Keep the target for later commands; where that fails, say so and go on."""
    if choice.remembered is None:
        return
    try:
        History(session.config.folder).remember(choice.remembered, [job.source.name for job in jobs], clock.now())
    except OSError as error:
        session.notice(
            f"the target cannot be remembered in {session.config.folder / '.penstock'} ({error.strerror}); "
            "plan, status and rejected will need --to"
        )


class _Nowhere:
    """The sink of a plan without a target: nothing was ever read."""

    def open(self, source: str, run_id: str, streams: "Sequence[str]" = ()) -> "Target":
        raise AssertionError("a plan opens nothing")

    def look(self, source: str) -> "Target | None":
        return None


def _write_report(path: Path, value: Mapping[str, Any]) -> None:
    from penstock.redact import mask_json

    try:
        write_json(path, mask_json(dict(value)))
    except OSError as error:
        raise UsageError(f"--report {path}: cannot be written: {error.strerror}") from None
