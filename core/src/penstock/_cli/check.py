"""
``check``: try credentials and targets.
"""

import sys

import click

from penstock._cli.completion import pipelines_sources_and_sinks
from penstock._cli.options import TO
from penstock._cli.output import print_text
from penstock._cli.session import Session, command
from penstock.errors import UsageError
from penstock.names import counted
from penstock.results import Adopted

ALL = "all"  # a table's name has its schema


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE|SINK]", required=False, shell_complete=pipelines_sources_and_sinks)
@click.option("--adopt", metavar="TABLE|all", help="Take over SCHEMA.TABLE, or all that the target does not recognise.")
@TO
@click.option("--yes", is_flag=True, help="Confirm --adopt.")
def check(session: Session, name: str | None, adopt: str | None, to: str | None, yes: bool) -> int:
    """
    Try a source's credentials with one cheap request that records nothing at the provider.

    A PIPELINE is checked with its sink, its streams and its receivers; without a name, everything that is configured.
    A sink is opened for reading only.

    With --adopt, a table of the target (restored without comments, moved, or made anew) becomes the place of a stream
    of SOURCE again, if its rows are those that the ledger counts. --adopt all does so for every such table of the
    sources.
    """
    if adopt is not None:
        return _adopt(session, name, adopt, to, yes=yes)
    if to is not None or yes:
        raise UsageError("--to and --yes belong to --adopt")
    result = session.project.check(name)
    session.notice(*result.notices)
    for tried in result.checked:
        if tried.exit_code:
            named = tried.kind in ("pipeline", "file") or tried.message.startswith(tried.name)
            text = tried.message if named or len(result.checked) == 1 else f"{tried.name}: {tried.message}"
            session.say(f"error: {text}", event="error", exit_code=tried.exit_code)
        else:
            print_text(tried.message)
    return result.exit_code


def _adopt(session: Session, name: str | None, place: str, to: str | None, *, yes: bool) -> int:
    project = session.project
    table_or_all = None if place == ALL else place
    adoptions = project.adopt(name, table_or_all, to=to)
    code = adoptions.exit_code
    session.notice(*adoptions.notices)
    for text in adoptions.refused.values():
        session.say(f"error: {text}", event="error", exit_code=code)
    for table in adoptions.tables:
        if table.differences:
            session.say(f"error: {_counts(table)}. It is not adopted, since these differ:", event="error", exit_code=1)
            for text in table.differences:
                session.say(f"  {text}", event="difference")
            session.say(
                f"penstock verify {table.source} --repair lets the next run read them again; then adopt the table",
                event="note",
            )
    fine = [table for table in adoptions.tables if not table.differences]
    if not fine:
        if not code:
            print_text("every table is recognised: there is none to adopt")
        return code
    what = "the table" if len(fine) == 1 else f"these {len(fine)} tables"
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{'; '.join(map(_counts, fine))}. Add --yes to adopt {what}")
        for table in fine:
            session.say(_counts(table), event="note")
        click.confirm(f"Adopt {what}?", abort=True, err=True)
    for table in project.adopt(name, table_or_all, to=to, confirmed=True).tables:
        if table.adopted:
            print_text(f"{_counts(table)}: adopted")
    return code


def _counts(table: Adopted) -> str:
    return (
        f"the table {table.place} has {counted(table.rows, 'row')}, and the ledger counts {table.delivered} in "
        f"{counted(table.partitions, 'partition')} of {table.source}.{table.stream}"
    )
