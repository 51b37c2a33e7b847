"""
``rejected``: the rejected records.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import click
from attrs import asdict

from penstock._cli.completion import pipelines_and_sources
from penstock._cli.options import ACCOUNTS, DAY, TO
from penstock._cli.output import print_json, print_table, printing_json
from penstock._cli.session import Session, as_json, command
from penstock._cli.stderr import harmless
from penstock.commands.process import standard_output
from penstock.errors import UsageError
from penstock.model import EXACT_JSON, PLAIN_JSON
from penstock.redact import mask
from penstock.results import RejectedRecord

RECORD_SHOWN = 1000  # characters of a rejected record

Read = Callable[[Callable[[RejectedRecord], None]], int]
"""Passes each record as it is read, and returns the exit code."""


@command()
@click.argument("what", type=click.Choice(["list", "show"]), metavar="list|show", required=False)
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False, shell_complete=pipelines_and_sources)
@TO
@click.option("--stream", help="Only of this stream.")
@click.option("--since", type=DAY, metavar="DAY", help="First day.")
@click.option("--until", type=DAY, metavar="DAY", help="Last day, included.")
@ACCOUNTS
@as_json
def rejected(session: Session, what: str | None, name: str | None, json_: bool, **options: Any) -> int:
    """
    Records that could not be delivered as they came: `list` counts them by reason, `show` prints them.

    A long record is cut; with --json it is whole.
    """

    def read(on_record: Callable[[RejectedRecord], None]) -> int:
        result = session.project.rejected(name, **options, on_record=on_record)
        session.notice(*result.notices)
        return result.exit_code

    if what is None:
        raise UsageError(
            "list or show is missing: `penstock rejected list` counts them by reason, "
            "`penstock rejected show` prints them"
        )
    if what == "list":
        return _list(read, json_=json_)
    if json_:
        with printing_json("rejected") as add:
            return read(lambda record: add(asdict(record, recurse=False)))
    return _show(read)


def _show(read: Read) -> int:
    """Print each record as it is read: there may be millions."""
    any_shown = False

    def show(record: RejectedRecord) -> None:
        nonlocal any_shown
        any_shown = True
        partition = ", ".join(f"{column}={value}" for column, value in record.partition.items())
        heading = f"{record.source}.{record.stream}[{partition}] {record.path}: {record.reason}"
        print(harmless(heading), harmless(f"  {cut(_plain(record.raw))}"), sep="\n", file=standard_output())

    code = read(show)
    if not any_shown:
        print("no rejected records")
    return code


def _list(read: Read, *, json_: bool) -> int:
    """Count the records by place and kind of reason, and show the first reason of each kind."""
    firsts: dict[tuple[str, ...], str] = {}
    counts: Counter[tuple[str, ...]] = Counter()

    def count(record: RejectedRecord) -> None:
        # Without the index of the element in its page, and without its value, which follows "got".
        place = (record.target, record.source, record.stream, re.sub(r"\[\d+\]", "[]", record.path))
        counts[(*place, firsts.setdefault((*place, record.reason.partition(", got ")[0]), record.reason))] += 1

    code = read(count)
    if json_:
        names = ("target", "source", "stream", "path", "reason")
        print_json({"rejected": [{**dict(zip(names, key, strict=True)), "count": counts[key]} for key in counts]})
    elif counts:
        print_table(
            ["count", "source", "stream", "path", "reason", "target"],
            [[count, *key[1:], key[0]] for key, count in counts.most_common()],
        )
    else:
        print("no rejected records")
    return code


def cut(text: str) -> str:
    """The start of a record, for display."""
    return text if len(text) <= RECORD_SHOWN else f"{text[:RECORD_SHOWN]}… ({len(text):,} characters; --json shows all)"


def _plain(raw: str) -> str:
    """A record on one line, without escapes for letters, and with the provider's digits in numbers."""
    try:
        return mask(EXACT_JSON.encode(PLAIN_JSON.decode(raw)).decode())
    except ValueError:
        return mask(raw)
