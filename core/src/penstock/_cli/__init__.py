"""
The command line. ``penstock --help`` imports click and the start of this package; each command imports its own module.
"""

import errno
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from penstock._cli.session import Session, common, complain
from penstock._cli.stderr import discard

# command -> (module, what --help says of it); the function has the command's name.
COMMANDS = {
    "demo": ("sandbox", "Run every installed connector against a local imitation of its provider."),
    "connectors": ("listing", "What is installed: connectors, sinks, and plugins that are broken."),
    "streams": ("listing", "What a connector offers: streams, keys, fields."),
    "init": ("init", "Print a commented configuration for a connector."),
    "check": ("check", "Try a source's credentials with one cheap request."),
    "plan": ("plan", "Show what a run would fetch, and why."),
    "run": ("run", "Fetch what is not final yet, and deliver it."),
    "status": ("ledger", "What was delivered, what is open, missing or failed."),
    "forget": ("ledger", "Read days again as if they had never been read."),
    "rejected": ("ledger", "Show records that were set aside."),
    "act": ("act", "Write to a provider; one receipt for each row."),
    "sandbox": ("sandbox", "Serve a local imitation of a provider."),
}

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

HELP = """
Carry records from the reporting APIs of providers to files or Postgres, and events back to them.

\b
First steps:
  penstock demo                            see it work, without any credentials
  penstock connectors                      what is installed
  penstock init CONNECTOR > penstock.toml  a first configuration
  penstock check SOURCE                    try the credentials
  penstock run SOURCE --to jsonl:data      fetch
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
            return None
        from importlib import import_module

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
            from penstock._util.text import did_you_mean

            meant = did_you_mean(args[0], COMMANDS) or f" There are {', '.join(COMMANDS)}."
            raise click.UsageError(f"no command {args[0]!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            from penstock.errors import OutputClosedError

            # click would end the process with 1.
            raise OutputClosedError("whoever read standard output closed it") from None
        except OSError as error:
            if error.filename is not None or error.errno not in _UNWRITABLE:
                raise
            raise _unwritable(error) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(command, summary) for command, (_, summary) in COMMANDS.items()])


def _unwritable(error: OSError) -> Exception:
    from penstock.errors import SinkError

    return SinkError(f"standard output, or a file, cannot be written: {error.strerror}. Free some space and run again")


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from penstock import __version__

        click.echo(f"penstock {__version__}, Python {sys.version.partition(' ')[0]}")
        ctx.exit()


def _group() -> Commands:
    version = click.Option(
        ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
    )
    names = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
    return Commands(
        name="penstock", help=HELP, params=[*common(), version], context_settings=names, subcommand_metavar="VERB ..."
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
        discard(sys.stdout)  # whoever read it has seen enough
    except OSError as error:
        discard(sys.stdout)
        return code or complain(session, _unwritable(error))
    return code


def script() -> int:
    """
    What the command ``penstock`` is: :func:`main` in a process that does nothing else.

    What start-up makes is no garbage, and records are not tracked: so the garbage collector is asked in seldom (at its
    default it takes 10 ms of the start-up), and not at all at the end, where it would look at everything once more
    (30 ms).
    """
    import gc
    import signal

    # Ended before the command minds signals itself: as by Ctrl-C, with a word and 130.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: a file opened next would get its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    gc.set_threshold(50_000, 20, 20)
    code = main()
    gc.disable()
    gc.freeze()
    return code


def _run(session: Session, args: Sequence[str] | None) -> int:
    try:
        code: Any = _group().main(args, prog_name="penstock", standalone_mode=False, obj=session)
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        session.say("interrupted")
        return 130
    except Exception as error:
        return complain(session, error)
    return code if isinstance(code, int) else 0
