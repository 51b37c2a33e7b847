"""
The parts that all commands share: common options, the project, and output to stderr.

Nothing heavy is imported by this module; see :mod:`penstock._cli`.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from penstock._cli.stderr import json_line, to_stderr
from penstock.commands.process import only_data_on_stdout

if TYPE_CHECKING:
    from penstock._plugins.registry import Registry
    from penstock._project.project import Project
    from penstock._project.setup import Setup
    from penstock.results import Result


class _PrintsNoData:
    """
    An object of the project whose methods run plugins' code: what that prints goes to stderr, since standard output has
    the result of the command.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        with only_data_on_stdout():
            member = getattr(self._make(), name)
        if not callable(member):
            return member

        @wraps(member)
        def call(*arguments: Any, **options: Any) -> Any:
            with only_data_on_stdout():
                return member(*arguments, **options)

        return call


class Session:
    """One invocation: the common options, and the project, made on first use."""

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
    def setup(self) -> "Setup":
        from penstock._project.setup import Setup

        return Setup(
            file=self.config_file,
            sets=self.sets,
            plugins=self.plugins,
            environ=self.environ,
            strict_plugins=self.strict_plugins,
        )

    @cached_property
    def project(self) -> "Project":
        from penstock._project.project import Project

        return cast("Project", _PrintsNoData(lambda: Project.of(self.setup)))

    @cached_property
    def registry(self) -> "Registry":
        return cast("Registry", _PrintsNoData(lambda: self.setup.registry))

    # --- output to stderr -------------------------------------------------------------------------------------------

    def print_if_json(self, result: "Result", json_: bool) -> bool:
        """Print the notices of a result and, as JSON, all of it; whether that was requested."""
        self.notice(*result.notices)
        if json_:
            from penstock._cli.output import print_json
            from penstock.results import as_dict

            print_json(as_dict(result))
        return json_

    def notice(self, *texts: str) -> None:
        """Print notices, each text once; not with ``-q``."""
        for text in texts:
            if not self.quiet and text not in self._noticed:
                self._noticed.add(text)
                self.say(f"notice: {text}", event="notice", message=text)

    def say(self, text: str, color: str = "", /, **event: Any) -> None:
        """A line on stderr, masked, on a terminal in this color; with ``--log-format json`` the event instead."""
        from penstock.redact import mask

        if self.log_format == "json":
            to_stderr(json_line({"event": "message", "message": text, **event}))
        else:
            to_stderr(mask(f"penstock: {text}"), color, prose=True)


# --- options that every command takes -------------------------------------------------------------------------------


def _store_option(ctx: click.Context, param: click.Parameter, value: Any) -> None:
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
        return click.Option(names, expose_value=False, callback=_store_option, **more)

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
        option("-q", "--quiet", is_flag=True, help="Print errors only."),
        option("-v", "--verbose", is_flag=True, help="Print more: every partition."),
        option("--debug", is_flag=True, help="Show tracebacks."),
        option("--log-format", type=click.Choice(["text", "json"]), help="How stderr is written.  [default: text]"),
    ]


class Command(click.Command):
    """A command whose help lists its own options and the common ones separately."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shared = {parameter.name for parameter in common()}
        options: list[tuple[str, str]] = []
        others: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Argument):
                continue  # stands in the usage line
            record = parameter.get_help_record(ctx)
            if record is not None:
                (others if parameter.name in shared or parameter.name == "help" else options).append(record)
        for title, records in (("Options", options), ("Options of every command", others)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


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


def as_json_or_csv(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--json`` and ``--csv``, for the commands whose rows are compared with an invoice."""

    @wraps(function)
    def chosen(*arguments: Any, json_: bool, csv_: bool, **options: Any) -> Any:
        if json_ and csv_:
            from penstock.errors import UsageError

            raise UsageError("give one of --json and --csv")
        return function(*arguments, json_=json_, csv_=csv_, **options)

    return as_json(click.option("--csv", "csv_", is_flag=True, help="Print CSV, for a spreadsheet.")(chosen))


# --- errors ---------------------------------------------------------------------------------------------------------


def _is_directory_gone() -> bool:
    """Whether somebody removed the working directory since the process started in it."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def complain(session: Session, error: Exception) -> int:
    """Print an error, and return its exit code."""
    from penstock._plugins.plugin_errors import describe_error, package_at_fault, place_in_plugin
    from penstock.errors import ConfigError, PenstockError, sentences

    if isinstance(error, PenstockError):
        text = error.as_list if isinstance(error, ConfigError) else str(error)
        code = error.exit_code
    elif isinstance(error, click.ClickException):
        text, code = " ".join(error.format_message().split()), 2
        if isinstance(error, click.BadParameter) and error.param is not None:  # in the form of our own messages
            given = error.param.opts[-1] if isinstance(error.param, click.Option) else error.param.human_readable_name
            text = text if isinstance(error, click.MissingParameter) else f"{given}: {error.message}"
        context = getattr(error, "ctx", None)
        if context is not None:
            text = sentences(text, f"See: {context.command_path} --help")
    elif isinstance(error, RecursionError | MemoryError):
        text, code = f"the process ran out of {'stack' if isinstance(error, RecursionError) else 'memory'}", 1
    elif isinstance(error, FileNotFoundError) and _is_directory_gone():
        text, code = "the working directory was removed or replaced. Change to one that exists, and run again", 2
    else:
        whose = package_at_fault(error)
        text = f"this is a defect of {whose} or of penstock: {describe_error(error)}{place_in_plugin(error)}"
        text += "" if session.debug else ". --debug shows where; please report it"
        code = 1
    if session.debug:
        import traceback

        from penstock.redact import mask

        to_stderr(mask("".join(traceback.format_exception(error))))
    if code:  # OutputClosedError is an end, not a fault
        session.say(f"error: {text}", event="error", error=type(error).__name__, message=text, exit_code=code)
    return code
