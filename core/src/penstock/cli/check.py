"""
``check``: a source's credentials, tried.
"""

import click

from penstock.cli.jobs import refuse_missed
from penstock.cli.session import Session, blamed, verb
from penstock.cli.stderr import harmless
from penstock.clock import Clock


@verb()
@click.argument("source")
def check(session: Session, source: str) -> None:
    """
    Try a source's credentials with one cheap request that records nothing at the provider.
    """
    from penstock.check import check as checked
    from penstock.choice import chosen_streams

    (configured,), _ = session.configured([source])
    refuse_missed(session, [configured], {configured.name: chosen_streams(configured, None)})
    with blamed(configured.connector):
        print(harmless(checked(configured, Clock())))
