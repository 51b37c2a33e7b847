"""
``check``: try credentials and targets.
"""

import sys
from typing import TYPE_CHECKING

import click

from penstock._cli.complete import pipelines_and_sources
from penstock._cli.options import TO
from penstock._cli.output import print_text
from penstock._cli.session import Session, command
from penstock.errors import UsageError
from penstock.names import counted

if TYPE_CHECKING:
    from penstock.project.api import Project
    from penstock.project.results import AdoptAllResult, AdoptResult

ALL = "all"  # a table's name has its schema


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False, shell_complete=pipelines_and_sources)
@click.option("--adopt", metavar="TABLE|all", help="Take over SCHEMA.TABLE, or all that the target does not recognise.")
@TO
@click.option("--yes", is_flag=True, help="Confirm --adopt.")
def check(session: Session, name: str | None, adopt: str | None, to: str | None, yes: bool) -> int:
    """
    Try a source's credentials with one cheap request that records nothing at the provider.

    A PIPELINE is checked with its sink, its streams and its receivers; without a name, everything that is configured.

    With --adopt, a table of the target (restored without comments, moved, or made anew) becomes the place of a stream
    of SOURCE again, if its rows are those that the ledger counts. --adopt all does so for every such table of the
    sources.
    """
    if adopt is not None:
        return _adopt(session, name, adopt, to, yes=yes)
    if to is not None or yes:
        raise UsageError("--to and --yes belong to --adopt")
    result = session.project.check(name)
    session.notices(result.notices)
    for one in result.checked:
        if one.exit_code:
            named = one.kind == "pipeline" or one.message.startswith(one.name)
            text = one.message if named or len(result.checked) == 1 else f"{one.name}: {one.message}"
            session.say(f"error: {text}", event="error", exit_code=one.exit_code)
        else:
            print_text(one.message)
    return result.exit_code


def _adopt(session: Session, name: str | None, place: str, to: str | None, *, yes: bool) -> int:
    project = session.project
    if name is None and place != ALL:
        raise UsageError("--adopt needs the source: penstock check SOURCE --adopt SCHEMA.TABLE")
    found = _looked(project, name, place, to, confirmed=False)
    code = found.exit_code
    session.notices(found.notices)
    for text in found.refused.values():
        session.say(f"error: {text}", event="error", exit_code=code)
    for one in found.tables:
        if one.differences:
            session.say(f"error: {_counts(one)}. It is not adopted, since these differ:", event="error", exit_code=1)
            for text in one.differences:
                session.say(f"  {text}", event="difference")
            session.say(
                f"penstock verify {one.source} --repair lets the next run read them again; then adopt the table",
                event="note",
            )
    fine = [one for one in found.tables if not one.differences]
    if not fine:
        if not code:
            print_text("every table is recognised: there is none to adopt")
        return code
    what = "the table" if len(fine) == 1 else f"these {len(fine)} tables"
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{'; '.join(map(_counts, fine))}. Add --yes to adopt {what}")
        for one in fine:
            session.say(_counts(one), event="note")
        click.confirm(f"Adopt {what}?", abort=True, err=True)
    for one in _looked(project, name, place, to, confirmed=True).tables:
        if one.adopted:
            print_text(f"{_counts(one)}: adopted")
    return code


def _looked(project: "Project", name: str | None, place: str, to: str | None, *, confirmed: bool) -> "AdoptAllResult":
    from penstock.project.results import AdoptAllResult

    if name is None or place == ALL:
        return project.adopt_all(name, to=to, confirmed=confirmed)
    one = project.adopt(name, place, to=to, confirmed=confirmed)
    return AdoptAllResult(tables=(one,), refused={}, notices=one.notices, exit_code=one.exit_code)


def _counts(one: "AdoptResult") -> str:
    return (
        f"the table {one.place} has {counted(one.rows, 'row')}, and the ledger counts {one.delivered} in "
        f"{counted(one.partitions, 'partition')} of {one.source}.{one.stream}"
    )
