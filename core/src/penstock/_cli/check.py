"""
``check``: a source's credentials, tried.
"""

import click

from penstock._cli.jobs import refuse_missed
from penstock._cli.session import Session, blamed, command
from penstock._cli.stderr import harmless
from penstock._util.clock import Clock


@command()
@click.argument("source")
def check(session: Session, source: str) -> None:
    """
    Try a source's credentials with one cheap request that records nothing at the provider.
    """
    from penstock._plan.selection import chosen_streams
    from penstock._run.check import check as checked

    (configured,), _ = session.configured([source])
    refuse_missed(session, [configured], {configured.name: chosen_streams(configured, None)})
    with blamed(configured.connector):
        print(harmless(checked(configured, Clock())))
