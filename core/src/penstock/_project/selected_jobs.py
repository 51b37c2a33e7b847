"""
The jobs of a call of ``plan`` or ``run``: what it selects of the sources and streams of a pipeline or a source, and the
sink. A selection that would read nothing is refused.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

from attrs import field, frozen

from penstock._config.config import Config, ConfiguredSink
from penstock._config.pipeline import NONE_ALLOWED, Allowance, Notification, Pipeline
from penstock._config.source import ConfiguredSource
from penstock._plan.read_job import ReadJob
from penstock._plan.selection import matches, missed_columns, select_streams
from penstock._plugins.plugin_errors import connector_errors
from penstock._plugins.sink_calls import check_sink
from penstock._project.setup import AddNotice, Setup, window_of
from penstock.errors import ConfigError, PenstockError, UsageError, one_error
from penstock.names import did_you_mean
from penstock.redact import clip
from penstock.sinks import BaseSink, Sink, Target

# --- selection --------------------------------------------------------------------------------------------------------


def _allowance(value: Allowance | bool | int | str | None) -> Allowance | None:
    try:
        return value if value is None or isinstance(value, Allowance) else Allowance.parse(value)
    except ValueError as error:
        raise UsageError(f"allow_rejected: {error}") from None


@frozen(kw_only=True, eq=False, repr=False)
class Selection:
    """
    The selection of streams, accounts and days, as on the command line; None or empty: the default. ``to``: a sink's
    name or place, or a sink made by the caller. Raises UsageError for a value of another form.
    """

    to: str | Sink | None = None
    streams: tuple[str, ...] = ()
    exclude_streams: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    since: date | str | None = None
    until: date | str | None = None
    full: bool = False
    strict: bool = False
    allow_rejected: Allowance | None = field(default=None, converter=_allowance)


def selected_streams(
    where: str,
    sources: Sequence[ConfiguredSource],
    selection: Selection,
    pipeline: Pipeline | None,
    add_notice: AddNotice,
    *,
    some_unusable: bool = False,
) -> dict[str, tuple[str, ...]]:
    """
    The streams of each source. A pipeline's own selection must reach each of its sources; that of a call may leave
    sources out, with a notice. ``where``: the pipeline in the configuration, for messages. ``some_unusable``: there are
    further sources, so a name without a stream may be one of theirs.
    """
    include, exclude = selection.streams, selection.exclude_streams
    if pipeline is not None:
        include = include or pipeline.streams or ()
        exclude = (*exclude, *pipeline.exclude_streams)
    named_in = f"{where}: " if pipeline is not None else ""
    for source in sources:
        if not source.streams:
            raise _no_stream(source, named_in)
    try:
        chosen = select_streams(sources, include, exclude, some_unusable=some_unusable)
    except UsageError as error:
        if pipeline is None or selection.streams or selection.exclude_streams:
            raise
        raise UsageError(f"{where}: {error}") from None
    for source in sources:
        if chosen[source.name]:
            continue
        if len(sources) == 1 and not include:
            raise _no_stream(source, named_in)
        if selection.streams or selection.exclude_streams:
            add_notice(f"{source.name} is not read: none of its streams is selected")
        else:
            selector = where if pipeline is not None else source.name
            raise UsageError(
                f"{selector}: no stream of {source.name} is selected; add {source.name}.STREAM to streams, or take "
                f"{source.name} out of source"
            )
    if not any(chosen.values()) and not some_unusable:
        raise UsageError("no stream is left to read: --exclude-streams leaves out all that are selected")
    return chosen


def check_missed_columns(
    config: Config, sources: Sequence[ConfiguredSource], chosen: Mapping[str, Sequence[str]]
) -> None:
    """Raises ConfigError where the settings exclude a column that reading these streams depends on."""
    problems = [text for source in sources for text in missed_columns(source, chosen[source.name])]
    if problems:
        raise ConfigError([f"{config.where}: {text}" for text in problems])


def check_accounts(
    sources: Sequence[ConfiguredSource], chosen: Mapping[str, Sequence[str]], patterns: Sequence[str]
) -> None:
    """
    Raises UsageError for a pattern that no account matches, unless a provider lists the accounts of a chosen stream.

    Otherwise a mistyped account would be a run of no partitions, which ends with 0.
    """
    if not patterns:
        return
    account_lists = []
    for source in sources:
        streams = [source.stream(name) for name in chosen[source.name]]
        with connector_errors(source.connector.name):
            account_lists += [source.accounts_of(stream) for stream in streams if stream.account is not None]
    account_names = sorted({account for accounts in account_lists for account in accounts or ()})
    if not account_lists or None in account_lists:
        return
    for pattern in patterns:
        if not any(matches(account, [pattern]) for account in account_names):
            names = ", ".join(source.name for source in sources)
            raise UsageError(
                f"--accounts: no account of {names} matches {pattern!r}.{did_you_mean(pattern, account_names)} "
                f"There are {clip(', '.join(account_names), 200) or 'none'}"
            )


def _no_stream(source: ConfiguredSource, named_in: str) -> UsageError:
    if not source.streams:
        return UsageError(
            f"{named_in}{source.name} has no streams: it is written to, not read. "
            f"`penstock act {source.name} --list` shows what can be sent"
        )
    return UsageError(
        f"{named_in}{source.name}: no stream is on by default with these settings; "
        f"`penstock streams {source.connector.name}` lists them, --streams chooses"
    )


# --- jobs -------------------------------------------------------------------------------------------------------------


class SelectedJobs(NamedTuple):
    """
    A job for each source of which a stream is selected. ``sink``: as configured; None: of the caller, or none.
    ``unusable``: by name, why the configuration of a source cannot be used.
    """

    jobs: list[ReadJob]
    sink: ConfiguredSink | None
    unusable: dict[str, PenstockError]


def jobs_for(
    setup: Setup,
    name: str,
    selection: Selection,
    now: datetime,
    add_notice: AddNotice,
    *,
    planning: bool = False,
    used: str | None = None,
    only: Collection[str] | None = None,
) -> SelectedJobs:
    """
    The jobs for the sources of the pipeline or source ``name``, all of which can be used.

    ``planning``: a source without ``to`` takes the target that it ``used``, or none. ``only``: no other source.
    Raises UsageError and ConfigError.
    """
    resolved = _resolved(setup, name, selection, planning=planning, used=used)
    names = [source for source in resolved.sources if only is None or source in only]
    sections = setup.usable(names, resolved.to, sink_named_by=resolved.to_where, strict=True, add_notice=add_notice)
    selected = _Selected(setup.config, name, selection, resolved, some_unusable=len(names) < len(resolved.sources))
    chosen = selected.streams(sections.sources, add_notice)
    check_missed_columns(setup.config, sections.sources, chosen)
    return SelectedJobs(selected.jobs(sections.sources, chosen, sections.sink, now), sections.sink, unusable={})


def usable_jobs_for(
    setup: Setup, name: str, selection: Selection, now: datetime, add_notice: AddNotice
) -> SelectedJobs:
    """
    The jobs for those sources of ``name`` that can be used. Raises UsageError and ConfigError for what concerns all, or
    where no source is left.
    """
    resolved = _resolved(setup, name, selection, planning=False, used=None)
    sections = setup.usable(resolved.sources, resolved.to, sink_named_by=resolved.to_where, add_notice=add_notice)
    unusable = sections.errors
    selected = _Selected(setup.config, name, selection, resolved, some_unusable=bool(unusable))
    chosen = selected.streams(sections.sources, add_notice)
    for source in sections.sources:
        try:
            check_missed_columns(setup.config, [source], chosen)
        except ConfigError as error:
            unusable[source.name] = error
    sources = [source for source in sections.sources if source.name not in unusable]
    jobs = selected.jobs(sources, chosen, sections.sink, now)
    if not jobs:
        raise one_error(unusable.values())
    return SelectedJobs(jobs, sections.sink, unusable)


class ResolvedName(NamedTuple):
    """What the name of a pipeline or source means. ``to``: the sink's text; None: a sink of the caller, or none."""

    sources: tuple[str, ...]
    to: str | None
    to_where: str = "--to"  # the origin of that text, for messages
    pipeline: Pipeline | None = None


def pipeline_of(config: Config, name: str, to: str | Sink | None) -> Pipeline | None:
    """The pipeline that a name means; None: it means a source. With a sink, a name that is both means the source."""
    return config.pipelines.get(name) if to is None or name not in config.sources else None


def receivers_of(setup: Setup, name: str, to: str | Sink | None) -> tuple[Notification, ...]:
    """The receivers of the pipeline that ``name`` means; none for a source. Raises ConfigError."""
    return () if pipeline_of(setup.config, name, to) is None else setup.config.notifications(name, setup.registry)


def _resolved(setup: Setup, name: str, selection: Selection, *, planning: bool, used: str | None) -> ResolvedName:
    """What ``name`` means, with the sink of ``selection``. Raises UsageError and ConfigError."""
    config, to = setup.config, selection.to
    if pipeline_of(config, name, to) is not None:
        pipeline = config.pipeline(name)
        if to is None:
            return ResolvedName(pipeline.source, pipeline.sink, f"{config.where}: pipeline.{name}.sink", pipeline)
        return ResolvedName(pipeline.source, to if isinstance(to, str) else None, pipeline=pipeline)
    if to is not None:
        return ResolvedName((name,), to if isinstance(to, str) else None)
    if planning:
        return ResolvedName((name,), used, "sink")
    raise _no_sink(setup, name)


def _no_sink(setup: Setup, name: str) -> UsageError:
    """``name`` is no pipeline, so a sink must be named. Raises ConfigError where it is no source either."""
    if name not in setup.config.sources and name not in setup.registry.connectors():
        setup.config.pipeline(name)  # raises, with the nearest name
    sink = next(iter(setup.config.sinks), "jsonl:data")
    return UsageError(f"{name} is a source: name its sink, such as `penstock run {name} --to {sink}`")


class _Selected(NamedTuple):
    """What a call selects, and the jobs for it. ``some_unusable``: there are sources that have none."""

    config: Config
    name: str
    selection: Selection
    resolved: ResolvedName
    some_unusable: bool

    def streams(self, sources: Sequence[ConfiguredSource], add_notice: AddNotice) -> dict[str, tuple[str, ...]]:
        """The chosen streams of each source. Raises UsageError for a name that selects nothing."""
        where, pipeline = f"{self.config.where}: pipeline.{self.name}", self.resolved.pipeline
        chosen = selected_streams(
            where, sources, self.selection, pipeline, add_notice, some_unusable=self.some_unusable
        )
        if not self.some_unusable:
            check_accounts(sources, chosen, self.selection.accounts)
        return chosen

    def jobs(
        self,
        sources: Sequence[ConfiguredSource],
        chosen: Mapping[str, tuple[str, ...]],
        configured_sink: ConfiguredSink | None,
        now: datetime,
    ) -> list[ReadJob]:
        """A job for each source of which a stream is chosen."""
        selection, pipeline = self.selection, self.resolved.pipeline
        sink = _sink_of(selection, configured_sink)
        allowed = selection.allow_rejected or (pipeline.allow_rejected if pipeline is not None else NONE_ALLOWED)
        jobs = []
        for source in sources:
            since, until = window_of(selection.since, selection.until, now.astimezone(source.zone).date())
            if chosen[source.name]:
                jobs.append(
                    ReadJob(
                        source=source,
                        streams=chosen[source.name],
                        accounts=selection.accounts,
                        sink=sink,
                        sink_name=configured_sink.name if configured_sink is not None else type(sink).__name__,
                        since=since,
                        until=until,
                        words=(selection.since, selection.until),
                        full=selection.full,
                        allowed=allowed,
                    )
                )
        return jobs


def _sink_of(selection: Selection, configured_sink: ConfiguredSink | None) -> Sink:
    """The configured sink, else that of the caller; a plan may have none."""
    if configured_sink is not None:
        return configured_sink.open()
    if selection.to is None or isinstance(selection.to, str):
        return PlanOnlySink()
    check_sink(selection.to)
    return selection.to


def unnamed_error(config: Config, *, planning: bool) -> UsageError:
    """The error of a command line that names no pipeline and no source."""
    with_sink = "" if planning else " with --to, such as --to jsonl:data"
    return UsageError(
        f"name what to read: {_alternatives(config.pipelines, 'a pipeline')}, or "
        f"{_alternatives(config.sources, 'a source')}{with_sink}{config.absent}"
    )


def _alternatives(names: Iterable[str], what: str) -> str:
    """``the pipeline daily or nightly``, or ``what`` without any names."""
    return f"{what.replace('a ', 'the ', 1)} {' or '.join(names)}" if names else what


class PlanOnlySink(BaseSink):
    """The sink of a plan without a target, and of rows that a caller iterates: it is never opened."""

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> Target:
        raise AssertionError("a plan opens nothing")
