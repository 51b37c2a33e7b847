"""
``check``: try credentials and targets.
"""

import sys

import click

from penstock._cli.complete import pipelines_and_sources
from penstock._cli.options import TO
from penstock._cli.output import print_text
from penstock._cli.session import Session, command
from penstock._util.text import counted
from penstock.errors import UsageError


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False, shell_complete=pipelines_and_sources)
@click.option("--adopt", metavar="SCHEMA.TABLE", help="Take over a table that the target does not recognise.")
@TO
@click.option("--yes", is_flag=True, help="Confirm --adopt.")
def check(session: Session, name: str | None, adopt: str | None, to: str | None, yes: bool) -> int:
    """
    Try a source's credentials with one cheap request that records nothing at the provider.

    A PIPELINE is checked with its sink; without a name, every source and sink of the configuration, in parallel.

    With --adopt, a table of the target (restored without comments, moved, or made anew) becomes the place of a stream
    of SOURCE again, if its rows are those that the ledger counts.
    """
    if adopt is not None:
        return _adopt(session, name, adopt, to, yes=yes)
    if to is not None or yes:
        raise UsageError("--to and --yes belong to --adopt")
    result = session.project.check(name)
    session.notices(result.notices)
    for one in result.checked:
        if one.exit_code:
            several = len(result.checked) > 1 and not one.message.startswith(one.name)
            text = f"{one.name}: {one.message}" if several else one.message
            session.say(f"error: {text}", event="error", exit_code=one.exit_code)
        else:
            print_text(one.message)
    return result.exit_code


def _adopt(session: Session, name: str | None, place: str, to: str | None, *, yes: bool) -> int:
    if name is None:
        raise UsageError("--adopt needs the source: penstock check SOURCE --adopt SCHEMA.TABLE")
    project = session.project
    found = project.adopt(name, place, to=to)
    session.notices(found.notices)
    counts = (
        f"the table {found.place} has {counted(found.rows, 'row')}, and the ledger counts {found.delivered} in "
        f"{counted(found.partitions, 'partition')} of {name}.{found.stream}"
    )
    if found.differences:
        session.say(f"error: {counts}. It was not adopted, since these differ:", event="error", exit_code=1)
        for one in found.differences:
            session.say(f"  {one}", event="difference")
        session.say(
            f"penstock verify {name} --repair lets the next run read them again; then adopt the table", event="note"
        )
        return found.exit_code
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{counts}. Add --yes to adopt the table")
        click.confirm(f"{counts[0].upper()}{counts[1:]}. Adopt it?", abort=True, err=True)
    project.adopt(name, place, to=to, confirmed=True)
    print_text(f"{counts}: adopted")
    return 0
