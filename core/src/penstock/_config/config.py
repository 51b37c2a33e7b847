"""
The configuration of a command: the sections by name, each checked and made into its settings when it is needed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from penstock._config.pipeline import Notification, Pipeline
from penstock._config.raw_sections import AccountSections, RawValue, Section, raw_value, read
from penstock._config.section_check import CheckedSection, SectionContext, check_section
from penstock._config.target_text import findable, secrets_in, shown_target
from penstock._plugins.plugin_errors import sink_errors, sink_hint
from penstock._plugins.registry import Registry
from penstock._plugins.sink_calls import check_sink
from penstock._util.text import shown
from penstock.errors import ConfigError, PluginError, sentences
from penstock.names import did_you_mean, nearest
from penstock.redact import mask_always, show_always
from penstock.sinks import Sink, SinkKind

DEFAULT_FILE = Path("penstock.toml")


@frozen(kw_only=True, eq=False, repr=False)
class ConfiguredSink:
    """
    The sink of a run. ``name``: in messages; of a sink that is not in the file its place, without passwords.

    ``remembered``: a text from which the target can be opened later, without a password; None for stdout.
    """

    kind: SinkKind
    settings: Any
    name: str
    remembered: str | None
    notices: tuple[str, ...] = ()

    def open(self) -> Sink:
        """The sink itself."""
        with sink_errors(self.kind.name):
            sink: Sink = self.kind.open(self.settings)
        check_sink(sink)
        return sink


@frozen(kw_only=True, eq=False, repr=False)
class Config:
    """
    The sections as found, not yet made into settings: a run needs only the sources that it names, and the secret of
    another one may be absent here. ``problems`` concern the whole file; every error includes them.
    """

    path: Path | None = None  # None: no file, everything comes from the environment and --set
    folder: Path = Path()
    sources: Mapping[str, Section] = field(factory=dict)
    sinks: Mapping[str, Section] = field(factory=dict)
    pipelines: Mapping[str, Pipeline] = field(factory=dict)
    problems: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(factory=dict, repr=False)  # for { env = "NAME" }

    @property
    def where(self) -> str:
        """The place of a missing key, for messages."""
        return str(self.path) if self.path else "configuration"

    @property
    def absent(self) -> str:
        """The end of a message about something that is not configured, where there is no file; else empty."""
        return "" if self.path else ". There is no penstock.toml here: `penstock init CONNECTOR` prints a first one"

    def connector_of(self, source: str) -> str:
        """The name of the source's connector: its key ``connector``, else its own name."""
        return self._word("source", source, "connector", self.sources.get(source, {})) or source

    def account_zones(self, source: str) -> dict[str, str]:
        """The time zones in the tables ``[source.NAME.accounts.ACCOUNT]``, by account, unchecked."""
        raw = self.sources.get(source, {}).get("accounts")
        sections = raw.value if raw is not None and isinstance(raw.value, AccountSections) else {}
        return {name: str(keys["timezone"].value) for name, keys in sections.items() if "timezone" in keys}

    def source(self, name: str, registry: Registry) -> CheckedSection:
        """
        The settings of this source, an instance of its connector's class. Raises ConfigError with every problem.

        A source without a section exists if a connector of its name does: all its keys may have defaults.
        """
        if name not in self.sources and (self.sources or self.path is not None):
            self._check_connector(name, registry)
        try:
            connector = registry.connector(self.connector_of(name))
        except PluginError as error:
            if name not in self.sources:
                raise
            section = self.sources[name]
            raw = section.get("connector") or next(iter(section.values()), None)
            place = f"{self.where}: source.{name}" if raw is None else raw.at(f"source.{name}")
            raise ConfigError([*self.problems, f"{place}: {error}"]) from error
        keys = {key: raw for key, raw in self.sources.get(name, {}).items() if key != "connector"}
        context = evolve(
            self._context(f"source.{name}", registry, "connector"), listing=f"penstock init {connector.name}"
        )
        try:
            return check_section(connector.settings, keys, context, self.problems, connector.origins)
        except ConfigError:
            if name in self.sources:
                raise
            absent = f"{self.path} has" if self.path else f"there is no {DEFAULT_FILE} here, so there is"
            # Without a section, its missing keys are the consequence.
            near = nearest(name, self.sources)
            similar = "" if near is None else f", but [source.{near}]: correct one of the two names"
            raise ConfigError(
                [f"{absent} no [source.{name}]{similar}; `penstock init {connector.name}` prints one", *self.problems]
            ) from None

    def pipeline(self, name: str) -> Pipeline:
        """Raises ConfigError when there is none of this name."""
        if self.problems:
            raise ConfigError(self.problems)
        if self.path is None and not self.pipelines:
            raise ConfigError(
                f"no pipeline {name!r}: there is no {DEFAULT_FILE} here; go to its directory, name it with --config, "
                "or write a first one: penstock init CONNECTOR > penstock.toml"
            )
        if name not in self.pipelines:
            near = self._meant(name)
            defined = f" It has {self._names()}." if self.pipelines or self.sources else ""
            raise ConfigError(f"{self.where}: no pipeline or source {name!r}.{near}{defined}")
        return self.pipelines[name]

    def sink_for(self, text: str, registry: Registry, named_by: str = "sink") -> ConfiguredSink:
        """
        The sink named by ``text``: a name from the file, or ``jsonl:DIR``, ``csv:DIR``, ``postgresql://...``, ``-``.
        ``named_by``: where the text stands, for a message.
        """
        if text in self.sinks:
            return self._sink_named(text, registry)
        for secret in secrets_in(text):
            mask_always(secret)
        if shown_target(text) == text:
            show_always(text)  # it is the name of the target
        kind = self._kind_of(text, registry, named_by)
        try:
            with sink_errors(kind.name, passing=(ValueError, TypeError)):
                settings = kind.parse(text)
        except (ValueError, TypeError) as error:
            raise ConfigError([*self.problems, f"sink {shown_target(text)!r}: {error}"]) from None
        if self.problems:
            raise ConfigError(self.problems)
        notices: tuple[str, ...] = ()
        if any(secrets_in(text)):
            notices = (
                f"the secret in {shown_target(text)} can be seen in the process list and in the shell's history; a "
                'sink in the file with { env = "NAME" } keeps it out of both',
            )
        return ConfiguredSink(
            kind=kind,
            settings=settings,
            name=shown_target(text),
            remembered=None if kind.scheme == "-" else findable(text, settings),
            notices=notices,
        )

    def _kind_of(self, text: str, registry: Registry, named_by: str) -> SinkKind:
        """The kind of sink that a text such as ``jsonl:DIR`` names. Raises ConfigError without kind or place."""
        scheme, colon, _ = text.partition(":")
        schemes = {name for kind in registry.sinks().values() for name in (kind.scheme, kind.name)}
        if scheme not in schemes and not colon:
            ways = ", ".join(sorted(kind.example for kind in registry.sinks().values() if kind.scheme != "-"))
            sink_list = f"a sink of {self.where} ({', '.join(self.sinks)}), " if self.sinks else ""
            expected = f"{named_by} {text!r}: expected {sink_list}{ways}, or - for stdout"
            raise ConfigError([*self.problems, sentences(expected, self._meant_sink(text, schemes, registry))])
        kind = registry.sink(scheme)
        if text != "-" and text in (scheme, f"{scheme}:"):
            example = kind.example.replace("DIR", "data")
            raise ConfigError([*self.problems, f"sink {text!r}: found no address, expected one such as {example}"])
        return kind

    def _meant_sink(self, text: str, schemes: Collection[str], registry: Registry) -> str:
        """What a text that names no sink probably means, as a sentence; empty if that is not known."""
        ending = Path(text.removesuffix(".gz")).suffix.removeprefix(".")
        if ending in schemes:
            return f'Did you mean "{ending}:{text}"?'
        if meant := did_you_mean(text, self.sinks):
            return meant
        near = nearest(ending, schemes) if ending else None
        return f'Did you mean "{registry.sink(near).example}"?' if near else sink_hint(registry.sinks().values(), text)

    def _sink_named(self, name: str, registry: Registry) -> ConfiguredSink:
        keys = {key: raw for key, raw in self.sinks[name].items() if key != "kind"}
        kind_name = self._word("sink", name, "kind", self.sinks[name]) or name
        if "kind" not in self.sinks[name] and name not in registry.sinks():
            kinds = " or ".join(f'"{each}"' for each in registry.sinks())
            raise ConfigError([*self.problems, f"{self.where}: sink.{name}.kind is missing; write kind = {kinds}"])
        try:
            kind = registry.sink(kind_name)
        except PluginError as error:
            raw = self.sinks[name].get("kind")
            place = raw.at(f"sink.{name}.kind") if raw is not None else f"{self.where}: sink.{name}"
            raise ConfigError([*self.problems, f"{place}: {error}"]) from error
        checked = check_section(kind.settings, keys, self._context(f"sink.{name}", registry, "kind"), self.problems)
        return ConfiguredSink(
            kind=kind,
            settings=checked.settings,
            name=name,
            remembered=None if kind.scheme == "-" else name,
            notices=checked.notices,
        )

    def notifications(self, pipeline: str, registry: Registry) -> tuple[Notification, ...]:
        """The receivers of a pipeline's ``notify``. Raises ConfigError with every problem."""
        problems: list[str] = []
        notifications: list[Notification] = []
        for number, table in enumerate(self.pipelines[pipeline].notify):
            context = self._context(f"pipeline.{pipeline}.notify[{number}]", registry)
            keys = {key: raw_value("", key, value, self.where) for key, value in table.items()}
            try:
                notifications.append(check_section(Notification, keys, context).settings)
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        return tuple(notifications)

    def unused_variable_notices(self, sources: Sequence[str], sinks: Sequence[str], registry: Registry) -> list[str]:
        """
        Environment variables of a misspelt source or sink: only variables name it, none states its connector or kind,
        and it resembles one of those that are used. Other variables may be of another configuration.
        """
        used = {"source": sources, "sink": sinks}
        notices = []
        for section, name, variables in self._from_variables_only:
            meant = "" if name in used[section] else did_you_mean(name, used[section])
            if meant and (section == "sink" or name not in registry.connectors()):
                notices += [f"{where}: no {section} {name!r} here, so it has no effect.{meant}" for where in variables]
        return notices

    def unused_set_problems(self, sources: Iterable[str], sinks: Iterable[str] = ()) -> tuple[str, ...]:
        """
        Problems with ``--set`` options that reach nothing: of a source or sink that is neither in the file nor used.
        """
        used = {"source": set(sources), "sink": set(sinks)}
        problems = []
        for section, name, key in self._from_sets_only:
            if name not in used[section]:
                present = self.sources if section == "source" else self.sinks
                others = [other for other in (*present, *used[section]) if other != name]
                problems.append(
                    f"--set {section}.{name}.{key}: no {section} {name!r} here.{did_you_mean(name, others)}"
                )
        return tuple(problems)

    @cached_property
    def _from_sets_only(self) -> tuple[tuple[str, str, str], ...]:
        """Section, name and first key of the sources and sinks that have keys from ``--set`` only."""
        return tuple(
            (section, name, next(iter(keys)))
            for section, present in (("source", self.sources), ("sink", self.sinks))
            for name, keys in present.items()
            if keys and all(raw.where == "--set" for raw in keys.values())
        )

    @cached_property
    def _from_variables_only(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        """
        Section, name and variables of the sources and sinks that have keys from the environment only, none of which
        states a connector or kind.
        """
        return tuple(
            (section, name, tuple([raw.where for raw in keys.values()]))
            for section, present, stated in (("source", self.sources, "connector"), ("sink", self.sinks, "kind"))
            for name, keys in sorted(present.items())
            if keys
            and stated not in keys
            and all(raw.where.startswith("environment variable ") for raw in keys.values())
        )

    def with_values(self, source: str, values: Mapping[str, Any], where: str, *, parsed: bool = False) -> "Config":
        """
        The same configuration with these keys of a source in place of its own, as TOML values. ``parsed``: a text is
        parsed as the type of its key, as in the environment.
        """
        keys = {
            key: RawValue(value, where, text=True)
            if parsed and isinstance(value, str)
            else raw_value("source", key, value, where)
            for key, value in values.items()
        }
        return evolve(self, sources={**self.sources, source: {**self.sources.get(source, {}), **keys}})

    def _context(self, path: str, registry: Registry, *other_keys: str) -> SectionContext:
        """The context of a section. ``other_keys``: the key that names the connector or the kind of sink."""
        return SectionContext(
            path=path,
            where=self.where,
            folder=self.folder,
            environ=self.environ,
            secrets=registry.secrets(),
            other_keys=other_keys,
        )

    def _word(self, section: str, name: str, key: str, keys: Section) -> str | None:
        raw = keys.get(key)
        if raw is None or (isinstance(raw.value, str) and raw.value):
            return None if raw is None else str(raw.value)
        raise ConfigError(
            [
                *self.problems,
                f"{raw.at(f'{section}.{name}.{key}')}: found {shown(raw.value)}, expected a name in quotes",
            ]
        )

    def _meant(self, name: str) -> str:
        """What a name that is neither a pipeline nor a source probably means, as a sentence; empty if not known."""
        if {part.strip() for part in name.split(",")} & {*self.sources, *self.pipelines}:
            return (
                " One name is taken: several sources are a pipeline, which the configuration names: "
                '[pipeline.all] with source = ["a", "b"] and sink = "jsonl:data".'
            )
        return did_you_mean(name, [*self.pipelines, *self.sources])

    def _names(self) -> str:
        """The names of pipelines and sources, for a message: ``the pipeline daily and the sources a, b``."""
        kinds = (("pipeline", self.pipelines), ("source", self.sources))
        return " and ".join(
            f"the {kind}{'s' if len(names) > 1 else ''} {', '.join(names)}" for kind, names in kinds if names
        )

    def _check_connector(self, name: str, registry: Registry) -> None:
        """Raise for a name that is neither a source here nor a connector: it is probably misspelled."""
        if (pipeline := self.pipelines.get(name)) is not None and name not in registry.connectors():
            text = f"{self.where}: {name} is a pipeline; name a source of it: {' or '.join(pipeline.source)}"
            raise ConfigError([*self.problems, text])
        if any(f": pipeline.{name}." in problem for problem in self.problems):
            raise ConfigError(self.problems)  # it is there, and not as it should be
        try:
            registry.connector(name)
        except PluginError as error:
            near = self._meant(name)
            reason = "" if error.missing else f" ({error})"
            naming = [f"pipeline.{key}.source: " for key, pipeline in self.pipelines.items() if name in pipeline.source]
            place = f"{self.where}: {naming[0] if naming else ''}"
            raise ConfigError(
                [
                    *self.problems,
                    f"{place}no source or pipeline {name!r}, nor a connector of that name."
                    f"{near} It has {self._names() or 'neither; `penstock init CONNECTOR` prints a source'}.{reason}",
                ]
            ) from None


def load(
    path: "Path | Mapping[str, Any] | None", sets: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Config:
    """
    Read the file, the environment and the ``--set`` options.

    ``path`` None means ``./penstock.toml``, which may be absent; a file that was named may not. A mapping holds what
    the file would hold. Raises ConfigError when the file cannot be read as TOML; other problems are kept and reported
    together with those of what a command needs.
    """
    problems: list[str] = []
    place = path if path is not None else DEFAULT_FILE if DEFAULT_FILE.exists() else None
    sections = read(place, sets, environ or {}, problems)
    file = place if isinstance(place, Path) else None
    config = Config(
        path=file,
        folder=file.parent if file is not None else Path(),
        sources=sections["source"],
        sinks=sections["sink"],
        environ=environ or {},
    )
    pipelines: dict[str, Pipeline] = {}
    for name, keys in sections["pipeline"].items():
        context = SectionContext(
            path=f"pipeline.{name}", where=config.where, folder=config.folder, environ=config.environ
        )
        try:
            pipelines[name] = check_section(Pipeline, keys, context).settings
        except ConfigError as error:
            problems += error.problems
    return evolve(config, pipelines=pipelines, problems=tuple(problems))
