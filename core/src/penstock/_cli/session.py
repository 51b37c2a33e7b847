"""
What every command shares: the options that all take, the plugins, the configuration, and how things are said.

Nothing heavy is imported by this module; see :mod:`penstock._cli`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from penstock._cli.stderr import json_line, to_stderr

if TYPE_CHECKING:
    from penstock._config import Config, SinkChoice
    from penstock._config.source import ConfiguredSource
    from penstock._plugins.registry import Registry
    from penstock.connector import Connector


class Session:
    """One invocation: the options given before or after the command, and what is made of them when it is needed."""

    def __init__(self, *, plugins: Iterable[object] | None = None, environ: Mapping[str, str] | None = None) -> None:
        self.plugins = plugins
        self.environ: Mapping[str, str] = os.environ if environ is None else environ
        self.config_file: str | None = None
        self.sets: list[str] = []
        self.quiet = False
        self.verbose = False
        self.debug = False
        self.strict_plugins = False
        self.log_format = "text"
        self._noticed: set[str] = set()

    @cached_property
    def registry(self) -> "Registry":
        from penstock._plugins.registry import Registry

        return Registry(self.plugins, strict=self.strict_plugins)

    @cached_property
    def config(self) -> "Config":
        from pathlib import Path

        from penstock._config import load

        return load(Path(self.config_file) if self.config_file is not None else None, self.sets, self.environ)

    def configured(
        self, sources: Sequence[str], sink: str | None = None, sink_named_by: str = "sink"
    ) -> "tuple[list[ConfiguredSource], SinkChoice | None]":
        """The sources and the sink of these names; one ConfigError with the problems of all of them."""
        from penstock._config.source import ConfiguredSource
        from penstock._plan.selection import strange_exclusions
        from penstock.errors import ConfigError

        problems: list[str] = []
        made: list[ConfiguredSource] = []
        choice: SinkChoice | None = None
        for name in sources:
            try:
                checked = self.config.source(name, self.registry)
            except ConfigError as error:
                problems.extend(error.problems)
                continue
            for text in (*checked.notices, *checked.settings.notices()):
                self.notice(text)
            connector = self.config.connector_of(name)
            made.append(ConfiguredSource.of(self.registry, connector, checked.settings, name=name))
            problems.extend(f"{self.config.where}: {problem}" for problem in strange_exclusions(made[-1]))
        if sink is not None:
            try:
                choice = self.config.sink_for(sink, self.registry, sink_named_by)
            except ConfigError as error:
                problems.extend(error.problems)
            else:
                for text in choice.notices:
                    self.notice(text)
                problems.extend(self._strange_streams(choice, made))
        problems.extend(self.config.stray(sources, [sink] if sink is not None else []))
        if problems:
            raise ConfigError(list(dict.fromkeys(problems)))
        return made, choice

    def _strange_streams(self, choice: "SinkChoice", sources: "Sequence[ConfiguredSource]") -> list[str]:
        """A problem for every stream that the sink's settings name and that no source of the configuration has."""
        if choice.kind.named_streams is None:
            return []
        named = choice.kind.named_streams(choice.settings)
        wanted = {name for names in named.values() for name in names}
        known = {stream.name for source in sources for stream in source.streams}
        if wanted <= known:
            return []
        from penstock._util.text import did_you_mean

        connectors = {self.config.connector_of(name) for name in self.config.sources}
        for connector in connectors & self.registry.connectors().keys():
            known |= {stream.name for stream in self.registry.streams(connector)}
        return [
            f"{self.config.where}: sink.{choice.shown}.{key}: {name!r} is no stream of any source here."
            f"{did_you_mean(name, sorted(known))} There are {', '.join(sorted(known))}"
            for key, names in named.items()
            for name in names
            if name not in known
        ]

    # --- saying things on stderr ------------------------------------------------------------------------------------

    def notice(self, text: str) -> None:
        """Something the user should know, once; not with ``-q``."""
        if not self.quiet and text not in self._noticed:
            self._noticed.add(text)
            self.say(f"notice: {text}", event="notice", message=text)

    def say(self, text: str, **event: Any) -> None:
        """A line on stderr, masked; with ``--log-format json`` the event instead."""
        from penstock.redact import mask

        if self.log_format == "json":
            line = json_line({"event": "said", "message": text, **event})
        else:
            line = mask(f"penstock: {text}")
        to_stderr(line)


# --- options that every command takes -------------------------------------------------------------------------------


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    session = ctx.find_object(Session)
    if session is None or value in (None, False, ()):
        return
    if param.name == "sets":
        session.sets.extend(value)
    else:
        setattr(session, str(param.name), value)


def common() -> list[click.Parameter]:
    """The options that may stand before the command or after it."""

    def option(*names: str, **more: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_keep, **more)

    return [
        option("--config", "config_file", metavar="FILE", help="The configuration.  [default: ./penstock.toml]"),
        option(
            "--set",
            "sets",
            multiple=True,
            metavar="KEY=VALUE",
            help="One value of the configuration, such as source.talroo.timeout_s=30.",
        ),
        option("--strict-plugins", is_flag=True, help="Stop when any installed plugin is broken."),
        option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
        option("-v", "--verbose", is_flag=True, help="Say more: every partition."),
        option("--debug", is_flag=True, help="Show tracebacks."),
        option("--log-format", type=click.Choice(["text", "json"]), help="How stderr is written.  [default: text]"),
    ]


class Command(click.Command):
    """A command whose help tells its own options apart from those that every command takes."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shared = {parameter.name for parameter in common()}
        own: list[tuple[str, str]] = []
        others: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Argument):
                continue  # stands in the usage line
            record = parameter.get_help_record(ctx)
            if record is not None:
                (others if parameter.name in shared or parameter.name == "help" else own).append(record)
        for title, records in (("Options", own), ("Options of every command", others)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


@contextmanager
def blamed(connector: "Connector") -> Iterator[None]:
    """An error that nobody foresaw, as one that names the connector whose code was running."""
    from penstock.errors import PenstockError, PluginError

    try:
        yield
    except (PenstockError, click.ClickException, OSError, MemoryError, RecursionError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise PluginError(
            f"the connector {connector.name} failed with {type(error).__name__}: {said}. This is a defect of the "
            "connector or of penstock, not of your configuration: report it to who publishes the connector, with what "
            "--debug shows"
        ) from error


F = TypeVar("F", bound=Callable[..., Any])


def command(name: str | None = None) -> Callable[[Callable[..., int | None]], click.Command]:
    """
    Make a command of a function: ``function(session, *arguments)``, whose result is the exit code (None: 0).
    """

    def make(function: Callable[..., int | None]) -> click.Command:
        command = click.command(name or function.__name__, cls=Command)(click.pass_obj(function))
        command.params.extend(common())
        return command

    return make


def as_json(function: F) -> F:
    """``--json``, for every command that lists something."""
    return click.option("--json", "json_", is_flag=True, help="Print JSON.")(function)


# --- errors ---------------------------------------------------------------------------------------------------------


def complain(session: Session, error: Exception) -> int:
    """The one place where an error becomes text and an exit code."""
    from penstock.errors import ConfigError, PenstockError

    if isinstance(error, PenstockError):
        text, code = str(error), error.exit_code
        if isinstance(error, ConfigError) and len(error.problems) > 1:
            lines = "".join(f"\n  - {problem}" for problem in text.split("\n"))
            text = f"{len(error.problems)} problems in the configuration:{lines}"
    elif isinstance(error, click.ClickException):
        text, code = " ".join(error.format_message().split()), 2
        context = getattr(error, "ctx", None)
        if context is not None:
            text = f"{text.rstrip('.')}{'' if text.endswith('?') else '.'} See: {context.command_path} --help"
    elif isinstance(error, RecursionError | MemoryError):
        text, code = f"the process ran out of {'stack' if isinstance(error, RecursionError) else 'memory'}", 1
    else:
        said = " ".join(str(error).split())
        text = f"this is a defect of penstock or of a plugin: {type(error).__name__}: {said}"
        text += "" if session.debug else ". --debug shows where; please report it"
        code = 1
    if session.debug:
        import traceback

        from penstock.redact import mask

        to_stderr(mask("".join(traceback.format_exception(error))))
    if code:  # OutputClosedError is an end, not a fault
        session.say(f"error: {text}", event="error", error=type(error).__name__, message=text, exit_code=code)
    return code
