"""
``check``: a source's credentials, tried.
"""

import click

from penstock._cli.session import Session, command
from penstock._cli.stderr import harmless


@command()
@click.argument("source")
def check(session: Session, source: str) -> int:
    """
    Try a source's credentials with one cheap request that records nothing at the provider.
    """
    result = session.project.check(source)
    session.notices(result.notices)
    for one in result.checked:
        if one.exit_code:
            session.say(f"error: {one.message}", event="error", exit_code=one.exit_code)
        else:
            print(harmless(one.message))
    return result.exit_code
