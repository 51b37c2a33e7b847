"""
The command line. ``penstock --help`` imports click and the start of this package; each command imports its own module.
"""

import errno
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from penstock._cli.session import Session, common, complain
from penstock._plugins.built_in import BUNDLED, COMMANDS
from penstock.commands.process import discard_output, is_closed

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

HELP = """
Carry records from reporting APIs to files or Postgres, and events back.
"""

FOOTER = """
Options: penstock COMMAND --help. By plugins: {commands}.
"""


class Commands(click.Group):
    """The commands, from a table: nothing is imported to list them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:  # click would make the help an error's message
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return _plugin_command(ctx, cmd_name)
        name = f"penstock._cli.{COMMANDS[cmd_name][0]}"
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise click.UsageError(f"{cmd_name} is not part of this version of penstock") from None
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from penstock.names import did_you_mean

            commands = [*COMMANDS, *_session(ctx).registry.commands()]
            if args[0] not in commands:
                meant = (
                    did_you_mean(args[0], [*commands, "--version", "--help"]) or f" There are {', '.join(commands)}."
                )
                raise click.UsageError(f"no command {args[0]!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            from penstock.errors import OutputClosedError

            # click would end the process with 1.
            raise OutputClosedError("the reader of standard output closed it") from None

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Usage, commands by group and one line on options: 24 lines of 80 columns."""
        self.format_usage(ctx, formatter)
        formatter.write(f"\n  {HELP.strip()}\n\n")
        for command, (_, group, summary) in COMMANDS.items():
            formatter.write(f"  {group:<7}  {command:<10}  {summary}\n")
        bundled = ", ".join(BUNDLED) if find_spec("penstock_plugins") else "see penstock connectors"
        formatter.write(FOOTER.format(commands=bundled))


def _session(ctx: click.Context) -> Session:
    session = ctx.find_object(Session)
    assert session is not None
    return session


def _plugin_command(ctx: click.Context, name: str) -> click.Command | None:
    """A command that a plugin offers, imported now; its context object is the project."""
    session = _session(ctx)
    offered = session.registry.commands().get(name)
    if offered is None:
        return None
    from penstock._plugins.plugin_errors import describe_error
    from penstock._project.project import Project
    from penstock.errors import PluginError

    module, _, attribute = offered.target.partition(":")
    try:
        command = getattr(import_module(module), attribute)
    except Exception as error:
        raise PluginError(
            f"the command {name} cannot be imported: {describe_error(error)}. Correct its plugin, or uninstall it."
        ) from error
    if not isinstance(command, click.Command):
        raise PluginError(
            f"the command {name}: {offered.target} is {type(command).__name__}, not a click.Command: correct its plugin"
        )
    # Not session.project: some of these commands write messages while they run.
    command.context_settings = {**command.context_settings, "obj": Project.of(session.setup)}
    return command


def _unwritable(error: OSError) -> Exception:
    from penstock.errors import SinkError

    if error.errno == errno.EBADF:
        return SinkError("standard output is closed. Redirect it to a file, or to /dev/null")
    return SinkError(f"standard output, or a file, cannot be written: {error.strerror}. Free some space and run again")


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from penstock import __version__

        click.echo(f"penstock {__version__}, Python {sys.version.partition(' ')[0]}")
        ctx.exit()


def command_group() -> Commands:
    version = click.Option(
        ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
    )
    names = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
    return Commands(
        name="penstock",
        help=HELP,
        params=[*common(), version],
        context_settings=names,
        subcommand_metavar="COMMAND ...",
    )


def main(
    args: Sequence[str] | None = None,
    *,
    plugins: Iterable[object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> int:
    """
    Run one command; its exit code. ``plugins``: instead of those installed; ``environ``: instead of the process's.
    """
    session = Session(plugins=plugins, environ=environ)
    code = _run(session, args)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        discard_output(sys.stdout)  # its reader closed it
    except OSError as error:
        discard_output(sys.stdout)
        return code or complain(session, _unwritable(error))
    return code


def script() -> int:
    """
    The command ``penstock``: :func:`main` in a process of its own.
    """
    import gc
    import signal

    gc.set_threshold(100_000)  # what is imported stays: to search it again and again takes 4 % of a small run
    # Before a command handles signals itself, SIGTERM ends the process like Ctrl-C: one line, exit code 130.
    signals = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    for number in signals:
        signal.signal(number, signal.default_int_handler)
    sys.unraisablehook = _end_if_interrupted
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: a file opened next would get its number
            # What is printed must not vanish: a write to standard output fails.
            access = os.O_RDONLY if name == "stdout" else os.O_WRONLY
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), "w"))
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the locale cannot write is shown as an escape
    code = main()
    for number in signals:  # the outcome is decided; an interrupted shutdown would print a traceback
        signal.signal(number, lambda number, frame: os._exit(code))
    gc.freeze()  # without it the interpreter searches for garbage on its way out, several times: 45 ms
    return code


def _end_if_interrupted(ignored: "sys.UnraisableHookArgs") -> None:
    """Python drops an exception in a finaliser; the Ctrl-C or SIGTERM that raised it would be lost."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        print("penstock: interrupted", file=sys.stderr, flush=True)
        os._exit(130)
    sys.__unraisablehook__(ignored)


def _run(session: Session, args: Sequence[str] | None) -> int:
    try:
        code: Any = command_group().main(args, prog_name="penstock", standalone_mode=False, obj=session)
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        session.say("interrupted")
        return 130
    except OSError as error:
        unwritable = error.filename is None and error.errno in _UNWRITABLE
        if error.errno == errno.EBADF:
            unwritable = is_closed(sys.stdout)
        return complain(session, _unwritable(error) if unwritable else error)
    except Exception as error:
        return complain(session, error)
    return code if isinstance(code, int) else 0
