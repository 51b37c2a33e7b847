"""
``verify``: what targets hold, compared with their ledgers.
"""

import click

from penstock._cli.completion import pipelines_and_sources
from penstock._cli.options import ACCOUNTS, DAY, TO
from penstock._cli.session import Session, as_json, command
from penstock._cli.stderr import harmless
from penstock.names import counted
from penstock.redact import mask
from penstock.results import Deleted, DifferenceInfo, VerifyResult


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False, shell_complete=pipelines_and_sources)
@TO
@click.option("--since", type=DAY, metavar="DAY", help="First day.")
@click.option("--until", type=DAY, metavar="DAY", help="Last day, included.")
@ACCOUNTS
@click.option("--repair", is_flag=True, help="Let the next run read again what differs.")
@as_json
def verify(
    session: Session,
    name: str | None,
    to: str | None,
    since: str | None,
    until: str | None,
    accounts: tuple[str, ...] | None,
    repair: bool,
    json_: bool,
) -> int:
    """
    Compare what the targets hold with their ledgers: rows and sums of a database, size and checksum of files.

    Exits with 1 where anything differs. Days that the provider does not serve any more, and those deleted by forget
    --rows, are shown, and never marked by --repair.
    """
    result = session.project.verify(name, to=to, since=since, until=until, accounts=accounts, repair=repair)
    if session.print_if_json(result, json_):
        return result.exit_code
    for difference in result.differences:
        _print_difference(difference)
    for gone in result.deleted:
        what = f"{counted(gone.rows, 'row')} deleted by forget --rows at {gone.deleted_at:%Y-%m-%d %H:%M} UTC"
        print(harmless(mask(f"{_place(gone)} {what}: not compared")))
    if result.partitions or result.differences:
        _summarise(result)
    elif result.exit_code:  # a notice names each stream that could not be compared
        print("nothing was compared")
    else:
        chosen = " for these days and accounts" if since or until or accounts else ""
        print(f"nothing was compared: the ledger has no delivered partition{chosen}")
    return result.exit_code


def _place(difference: DifferenceInfo | Deleted) -> str:
    """``files: shop.sales[account=7, day=2026-03-01]``"""
    where = ", ".join(f"{column}={value}" for column, value in difference.partition.items())
    return f"{difference.target}: {difference.source}.{difference.stream}[{where}]"


def _print_difference(difference: DifferenceInfo) -> None:
    """What differs, and what becomes of it; nothing more where --repair would mark it."""
    print(harmless(mask(f"{_place(difference)} {difference.what}")))
    if difference.repair == "marked":
        print("  the next run reads it again")
    elif difference.repair == "uncounted":
        print("  not in the ledger: its days were forgotten, or another program wrote it")
    elif difference.repair != "possible":
        print(harmless(f"  not to be read again: {difference.repair}"))


def _summarise(result: VerifyResult) -> None:
    """Print how many partitions differ, and the commands that help."""
    uncounted = sum(difference.repair == "uncounted" for difference in result.differences)
    differing = len(result.differences) - uncounted
    differ = f"{counted(differing, 'partition')} of {result.partitions} compared"
    more = f", and {counted(uncounted, 'partition')} with what it does not count" if uncounted else ""
    print(f"{differ} {'differs' if differing == 1 else 'differ'} from the ledger{more}")
    if uncounted:
        print("a run that reads such a partition replaces what is there; penstock forget --rows deletes it")
    if any(difference.repair == "possible" for difference in result.differences):
        print(
            "penstock verify --repair lets the next run read again what the provider still serves, also what somebody "
            "deleted on purpose: penstock forget takes its days out of the ledger first"
        )
