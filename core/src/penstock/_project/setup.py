"""
The plugins and the configuration of a project: loaded on first use, shared by all its calls.
"""

import copy
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, evolve, field

from penstock._util.days import window
from penstock.errors import ConfigError, PenstockError, PluginError, UsageError, one_error
from penstock.events import Event, OnEvent, ignore

if TYPE_CHECKING:
    from penstock._config.config import Config, ConfiguredSink
    from penstock._config.source import ConfiguredSource
    from penstock._plugins.registry import Registry
    from penstock._project.used_targets import UsedTargets
    from penstock._recording.replay import Recording

AddNotice = Callable[[str], None]
Number = TypeVar("Number", int | None, float | None)

_logger = logging.getLogger("penstock")


@define(eq=False, repr=False)
class Notices:
    """The notices of one call: each text once, and as an event when it is added."""

    on_event: OnEvent = ignore
    texts: dict[str, None] = field(factory=dict, init=False)

    def add(self, *texts: str) -> None:
        for text in texts:
            if text not in self.texts:
                self.texts[text] = None
                self.on_event({"event": "notice", "message": text})


def names_in(key: str, names: Sequence[str] | None) -> tuple[str, ...]:
    """The names in a list that a caller passed as ``key``. Raises UsageError for a text, which is a list of letters."""
    if isinstance(names, str):
        raise UsageError(f"{key}: found the text {names!r}, expected a list of names: [{names!r}]")
    return tuple(names or ())


def number_in(key: str, number: Number, expected: str) -> Number:
    """The number that a caller passed as ``key``, or None. Raises UsageError for a text of the command line."""
    if not isinstance(number, Real | None):
        raise UsageError(f"{key}: found {number!r}, expected {expected}")
    return number


def window_of(since: date | str | None, until: date | str | None, today: date) -> tuple[date | None, date | None]:
    """The days of two options. Raises UsageError for a text that names no day."""
    try:
        return window(since, until, today)
    except ValueError as error:
        raise UsageError(str(error)) from None


def unfailing(on_event: OnEvent) -> OnEvent:
    """The callback of a caller. Its exceptions are logged (the first as a warning) and change nothing."""
    if on_event is ignore:
        return ignore
    warned = False

    def guarded(event: Event) -> None:
        nonlocal warned
        try:
            on_event(event)
        except Exception as error:
            from penstock._plugins.plugin_errors import describe_error, place_in_plugin
            from penstock.redact import mask

            level, warned = logging.DEBUG if warned else logging.WARNING, True
            text = f"{describe_error(error)}{place_in_plugin(error)}"
            _logger.log(level, "on_event failed at %s: %s. The run goes on", event["event"], mask(text))

    return guarded


@define(eq=False, slots=False)  # cached_property needs a __dict__
class Setup:
    """
    The inputs of a project. ``file``: a file, its content as a mapping, or None for ``./penstock.toml``, which may
    be absent. ``plugins``: objects with hook functions, instead of the installed ones. ``environ``: instead of the
    process's environment.

    The heavy modules are imported on first use: the command line creates a Setup for every command.
    """

    file: "str | os.PathLike[str] | Mapping[str, Any] | None" = None
    sets: Sequence[str] = ()
    plugins: Iterable[object] | None = None
    environ: Mapping[str, str] = field(factory=lambda: os.environ, repr=False)
    strict_plugins: bool = False
    values: Mapping[str, tuple[Mapping[str, Any], str]] = field(factory=dict, repr=False)
    """Source -> values in place of those of the file, and where they are from. They may be secrets."""

    _lock: threading.RLock = field(factory=threading.RLock, init=False, repr=False)

    @property
    def registry(self) -> "Registry":
        with self._lock:
            return self._registry

    @cached_property
    def _registry(self) -> "Registry":
        from penstock._plugins.registry import Registry

        return Registry(self.plugins, strict=self.strict_plugins)

    @cached_property
    def config(self) -> "Config":
        from penstock._config.config import load

        file = self.file if self.file is None or isinstance(self.file, Mapping) else Path(self.file)
        config = load(file, self.sets, self.environ)
        for source, (values, where) in self.values.items():
            config = config.with_values(source, values, where, parsed=True)
        return config

    @cached_property
    def used_targets(self) -> "UsedTargets":
        from penstock._project.used_targets import UsedTargets

        return UsedTargets(None if isinstance(self.file, Mapping) else self.config.folder)

    def targets_used(self, sources: Iterable[str] | None, add_notice: AddNotice) -> dict[str, tuple[str, ...]]:
        """
        Target -> the sources it was used for, the target used last first. Without those whose section left the
        configuration: a notice names each of them.
        """
        used = self.used_targets.targets(sources)
        gone = [text for text in used if text not in self.config.sinks and ":" not in text]
        for name in gone:
            add_notice(
                f"the target {name} was used before, and {self.config.where} has no [sink.{name}]: it is left out. "
                f"Restore the section, name its place with --to, or remove the name: penstock forget --target {name}"
            )
        return {text: of for text, of in used.items() if text not in gone}

    def without_problems_of_file(self) -> "Setup":
        """This setup, in which a source or sink has no problems but its own: those of the whole file were reported."""
        setup = copy.copy(self)
        setup.config = evolve(self.config, problems=())
        return setup

    def with_recorded(self, recording: "Recording") -> "Setup":
        """This setup, in which a recorded source that is not configured has the settings of the recording."""
        config = self.config
        for name, about in recording.sources.items():
            if name not in config.sources and about["connector"] in self.registry.connectors():
                values = recording.settings_of(name, self.registry.connector(about["connector"]).settings)
                values["connector"] = about["connector"]
                config = config.with_values(name, values, str(recording.folder))
        setup = copy.copy(self)
        setup.config = config
        return setup

    def with_values(self, source: str, values: Mapping[str, Any], where: str) -> "Setup":
        """The same setup with these keys of a source in place of the configured ones; see ``Config.with_values``."""
        before, _ = self.values.get(source, ({}, ""))
        return evolve(self, values={**self.values, source: ({**before, **values}, where)})

    def source(self, name: str, add_notice: AddNotice = lambda text: None) -> "ConfiguredSource":
        """The source of this name. Raises ConfigError with all of its problems."""
        return self.usable([name], strict=True, add_notice=add_notice).sources[0]

    def usable(
        self,
        sources: Sequence[str],
        sink: str | None = None,
        *,
        sink_named_by: str = "sink",
        strict: bool = False,
        add_notice: AddNotice,
    ) -> "CheckedSections":
        """
        The sources and the sink of these names, and the errors of the sources that cannot be used as configured. Raises
        ConfigError, with all problems and without notices, where that is every source, or where the sink or the whole
        file has a problem; ``strict``: where any source cannot be used.
        """
        sections = self._sections(sources, sink, sink_named_by)
        sections.check(strict=strict or bool(self.config.problems))
        sections.emit_notices(add_notice)
        return sections

    def _sections(self, sources: Sequence[str], sink: str | None, sink_named_by: str) -> "CheckedSections":
        """The sections of these names, checked."""
        sections = CheckedSections()
        for name in sources:
            try:
                sections.sources.append(self._source(name, sections))
            except (ConfigError, PluginError) as error:
                sections.errors[name] = error
        if sink is not None:
            try:
                sections.sink = self.config.sink_for(sink, self.registry, sink_named_by)
            except ConfigError as error:
                sections.problems.extend(error.problems)
            else:
                sections.notices += sections.sink.notices
                sections.problems.extend(self._unknown_streams(sections.sink, sections.sources))
        sinks = [sink] if sink is not None else []
        sections.problems.extend(self.config.unused_set_problems(sources, sinks))
        sections.notices += self.config.unused_variable_notices(sources, sinks, self.registry)
        return sections

    def _source(self, name: str, sections: "CheckedSections") -> "ConfiguredSource":
        """The source of a section, whose notices are added. Raises ConfigError and PluginError."""
        from penstock._config.source import ConfiguredSource
        from penstock._plan.selection import unknown_accounts, unknown_exclusions
        from penstock._plugins.plugin_errors import connector_errors

        checked = self.config.source(name, self.registry)
        connector = self.config.connector_of(name)
        source = ConfiguredSource.of(self.registry, connector, checked.settings, name=name, folder=self.config.folder)
        with connector_errors(source.connector.name):
            unknown = (*unknown_exclusions(source), *unknown_accounts(source))
        if unknown:
            raise ConfigError([f"{self.config.where}: {problem}" for problem in unknown])
        sections.notices += [*checked.notices, *checked.settings.notices()]
        return source

    def _unknown_streams(self, configured_sink: "ConfiguredSink", sources: "Sequence[ConfiguredSource]") -> list[str]:
        """A problem for every stream that the sink's settings name and that no source of the configuration has."""
        from penstock.names import did_you_mean

        if configured_sink.kind.named_streams is None:
            return []
        streams_by_key = configured_sink.kind.named_streams(configured_sink.settings)
        names_stated = {name for names in streams_by_key.values() for name in names}
        stream_names = {stream.name for source in sources for stream in source.streams}
        if names_stated <= stream_names:
            return []
        connectors = {self.config.connector_of(name) for name in self.config.sources}
        for connector in connectors & self.registry.connectors().keys():
            stream_names |= {stream.name for stream in self.registry.streams(connector)}
        return [
            f"{self.config.where}: sink.{configured_sink.name}.{key}: {name!r} is no stream of any source here."
            f"{did_you_mean(name, sorted(stream_names))} There are {', '.join(sorted(stream_names))}"
            for key, names in streams_by_key.items()
            for name in names
            if name not in stream_names
        ]


@define(eq=False, repr=False)
class CheckedSections:
    """
    The sections of a call, checked. ``errors``: of the sources that cannot be used, by name. ``problems``: of the sink
    and of the command line.
    """

    sources: "list[ConfiguredSource]" = field(factory=list, init=False)
    sink: "ConfiguredSink | None" = field(default=None, init=False)
    errors: dict[str, PenstockError] = field(factory=dict, init=False)
    problems: list[str] = field(factory=list, init=False)
    notices: list[str] = field(factory=list, init=False)

    def check(self, *, strict: bool) -> None:
        """Raise the problems as one error. Not ``strict``: errors of some of the sources are none."""
        if self.problems or (self.errors and (strict or not self.sources)):
            raise one_error(self.errors.values(), self.problems)

    def emit_notices(self, add_notice: AddNotice) -> None:
        """Call ``add_notice`` with each notice."""
        for text in self.notices:
            add_notice(text)
