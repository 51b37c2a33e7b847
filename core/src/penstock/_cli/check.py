"""
``check``: try credentials and targets.
"""

import click

from penstock._cli.complete import pipelines_and_sources
from penstock._cli.output import print_text
from penstock._cli.session import Session, command


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False, shell_complete=pipelines_and_sources)
def check(session: Session, name: str | None) -> int:
    """
    Try a source's credentials with one cheap request that records nothing at the provider.

    A PIPELINE is checked with its sink; without a name, every source and sink of the configuration, in parallel.
    """
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
