"""
``forget``: let days be read again, delete their rows, or erase what is personal in them.
"""

import sys
from typing import Any

import click

from penstock._cli.completion import one_stream, sources
from penstock._cli.options import ACCOUNTS, DAY, TO
from penstock._cli.session import Session, command
from penstock.errors import UsageError
from penstock.names import counted
from penstock.results import ForgetResult

COLUMNS_NAMED = 10  # personal columns in a question


@command()
@click.argument("source", required=False, shell_complete=sources)
@click.argument("stream", required=False, shell_complete=one_stream)
@click.option("--target", metavar="SINK", help="Forget a target that is not used any more; what lies there stays.")
@TO
@click.option("--since", type=DAY, metavar="DAY", help="First day; required for a stream that is divided by days.")
@click.option("--until", type=DAY, metavar="DAY", help="Last day, included; required where --since is.")
@ACCOUNTS
@click.option("--rows", is_flag=True, help="Delete the delivered rows, too.")
@click.option("--personal", is_flag=True, help="Erase personal columns in delivered rows; read nothing again.")
@click.option("--yes", is_flag=True, help="Confirm a destructive action.")
def forget(
    session: Session,
    source: str | None,
    stream: str | None,
    target: str | None,
    to: str | None,
    rows: bool,
    personal: bool,
    yes: bool,
    **window: Any,
) -> int:
    """
    Let the next run read days again as if they had never been read. What was delivered stays until then.

    Without a STREAM, of all streams that were delivered.

    With --rows the delivered rows are deleted, too, also those of days that were forgotten before; --accounts without
    days deletes all rows of the accounts.

    With --personal, what `include_personal = false` leaves out today is erased in all rows of the STREAM, or of all
    streams.
    """
    if target is not None:
        if source or rows or personal or any(window.values()):
            raise UsageError("--target forgets a target as a whole; give nothing besides")
        session.project.forget_target(target)
        print(f"{target}: forgotten here. What lies there was not touched, and a run to it makes it known again")
        return 0
    if source is None:
        raise UsageError("name the source: penstock forget SOURCE [STREAM]")
    if personal:
        if rows or any(window.values()):
            raise UsageError("--personal erases columns in all rows; --rows, --accounts and days do not go with it")
        return _erase_personal(session, source, stream, to, yes=yes)
    options = {"to": to, **window}
    if rows and not yes:
        _confirm_rows(source, session.project.forget(source, stream, rows=True, dry_run=True, **options))
    result = session.project.forget(source, stream, rows=rows, **options)
    session.notice(*result.notices)
    done = "deleted and forgotten" if rows else "forgotten"
    for forgotten in result.targets:
        print(f"{forgotten.target}: {counted(forgotten.partitions, 'partition')} of {source}.{forgotten.stream} {done}")
    return result.exit_code


def _confirm_rows(source: str, result: ForgetResult) -> None:
    """Ask before rows are deleted: how many partitions, of which streams and where."""
    streams = list(dict.fromkeys(forgotten.stream for forgotten in result.targets))
    places = ", ".join(
        f"{counted(forgotten.partitions, 'partition')}{f' of {forgotten.stream}' if len(streams) > 1 else ''}"
        f" in {forgotten.target}"
        for forgotten in result.targets
    )
    stream_names = ", ".join(f"{source}.{stream}" for stream in streams) or "no stream"
    _confirm(f"--rows deletes the rows of {stream_names}: {places}")


def _confirm(what: str) -> None:
    """Ask for confirmation. Raises UsageError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError(f"{what}. Add --yes to confirm that")
    click.confirm(f"{what}. Continue?", abort=True, err=True)


def _erase_personal(session: Session, source: str, stream: str | None, to: str | None, *, yes: bool) -> int:
    project = session.project
    if not yes:
        targets = [
            forgotten
            for forgotten in project.erase_personal(source, stream, to=to, dry_run=True).targets
            if forgotten.partitions
        ]
        names = list(dict.fromkeys(name for forgotten in targets for name in forgotten.columns))
        more = f" and {len(names) - COLUMNS_NAMED} more" if len(names) > COLUMNS_NAMED else ""
        columns = ", ".join(names[:COLUMNS_NAMED]) + more
        places = ", ".join(
            f"{counted(forgotten.partitions, 'partition')} of {source}.{forgotten.stream} in {forgotten.target}"
            for forgotten in targets
        )
        _confirm(f"--personal erases for good what is personal in {columns or 'no column'}: {places or 'nothing'}")
    result = project.erase_personal(source, stream, to=to)
    session.notice(*result.notices)
    for target in result.targets:
        print(
            f"{target.target}: personal data erased in {counted(target.rows, 'row')} of {source}.{target.stream} "
            f"({counted(target.partitions, 'partition')})"
        )
    return result.exit_code
