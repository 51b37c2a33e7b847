"""
``status``, ``forget`` and ``rejected``: what the ledgers of the targets hold.
"""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from penstock._cli.options import TO
from penstock._cli.output import ago, print_json, print_table, print_text
from penstock._cli.session import Session, as_json, command
from penstock._cli.stderr import harmless
from penstock._cli.types import DAY, NAMES
from penstock._util.clock import Clock
from penstock._util.text import counted
from penstock.errors import UsageError
from penstock.redact import mask

if TYPE_CHECKING:
    from penstock.project.results import AccountStatus, RunInfo, SourceStatus

COUNTS = ("failed", "missing", "open", "final")  # of partitions, what is wrong first

SHOWN_RAW = 1000  # characters of a rejected record


# --- status ---------------------------------------------------------------------------------------------------------


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False)
@TO
@as_json
def status(session: Session, name: str | None, to: str | None, json_: bool) -> None:
    """
    What was delivered: a line per source and stream, or per account with -v, and the last runs.

    `missing` are days between the first and the last one that were never delivered. `penstock plan` shows what a run
    would fetch.
    """
    from penstock.project.results import as_dict

    result = session.project.status(name, to=to)
    session.notices(result.notices)
    if json_:
        print_json(as_dict(result))
        return
    now = Clock().now()
    for number, target in enumerate(result.targets):
        if number:
            print()
        print(f"target {target.target}")
        if not target.sources:
            print("  nothing was delivered yet")
        for source in target.sources:
            print()
            _print_source(source, now, verbose=session.verbose)


def _print_source(source: "SourceStatus", now: datetime, *, verbose: bool) -> None:
    groups: dict[tuple[str, ...], list[AccountStatus]] = {}
    for one in source.streams:
        groups.setdefault((one.stream, *(one.account.values() if verbose else ())), []).append(one)
    print_table(
        ["stream", "account" if verbose else "accounts", "rows", "last read", "partitions"],
        [_status_row(source.source, group, now, verbose=verbose) for group in groups.values()],
    )
    for text in dict.fromkeys(f"{one.stream}: last error: {one.error}" for one in source.streams if one.error):
        print_text(text)
    if source.runs:
        print()
        print_table(["last runs", "started", "took", "exit", "records"], list(map(_run_row, source.runs)))


def _status_row(source: str, group: "Sequence[AccountStatus]", now: datetime, *, verbose: bool) -> list[Any]:
    """One line for accounts of one stream."""
    counts = {name: sum(getattr(one, name) for one in group) for name in (*COUNTS, "rejected")}
    states = [f"{count} {name}" for name, count in counts.items() if count]
    days = [(one.first_day, one.last_day) for one in group if one.first_day and one.last_day]
    if days:
        states.append(f"{min(first for first, _ in days)} to {max(last for _, last in days)}")
    read = max((one.last_read for one in group if one.last_read), default=None)
    return [
        f"{source}.{group[0].stream}",
        _account_text(group[0]) if verbose else len(group) if group[0].account else None,
        sum(one.rows for one in group),
        ago(read, now) if read else "never",
        ", ".join(states),
    ]


def _account_text(one: "AccountStatus") -> str:
    return ", ".join(one.account.values()) + (f" ({one.timezone})" if one.timezone is not None else "")


def _run_row(run: "RunInfo") -> list[Any]:
    return [
        run.run_id,
        f"{run.started_at:%Y-%m-%d %H:%M:%S}",
        "" if run.seconds is None else f"{run.seconds:.0f} s",
        "not finished" if run.exit_code is None else run.exit_code,
        run.records,
    ]


# --- forget ---------------------------------------------------------------------------------------------------------


@command()
@click.argument("source")
@click.argument("stream")
@TO
@click.option("--since", type=DAY, metavar="DAY", help="First day; needed for a stream that is divided by days.")
@click.option("--until", type=DAY, metavar="DAY", help="Last day, included; needed for the same.")
@click.option("--accounts", type=NAMES, metavar="A,B", help="Only these, or patterns such as 21*.")
def forget(
    session: Session,
    source: str,
    stream: str,
    to: str | None,
    since: date | None,
    until: date | None,
    accounts: tuple[str, ...] | None,
) -> None:
    """
    Let the next run read days again as if they had never been read. What was delivered stays until then.
    """
    result = session.project.forget(source, stream, to=to, since=since, until=until, accounts=accounts)
    session.notices(result.notices)
    for one in result.targets:
        print(f"{one.target}: {counted(one.partitions, 'partition')} of {source}.{stream} forgotten")


# --- rejected -------------------------------------------------------------------------------------------------------


@command()
@click.argument("what", type=click.Choice(["list", "show"]), metavar="list|show", required=False)
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False)
@TO
@click.option("--stream", help="Only of this stream.")
@as_json
def rejected(
    session: Session, what: str | None, name: str | None, to: str | None, stream: str | None, json_: bool
) -> None:
    """
    Records that could not be delivered as they came: `list` counts them by reason, `show` prints them.

    A long record is cut; with --json it is whole.
    """
    from penstock.project.results import as_dict

    if what is None:
        raise UsageError(
            "say how: `penstock rejected list` counts them by reason, `penstock rejected show` prints them"
        )
    result = session.project.rejected(name, to=to, stream=stream)
    session.notices(result.notices)
    if json_ and what == "show":
        print_json(as_dict(result))
        return
    if what == "show":
        for one in result.rejected:
            part = ", ".join(f"{column}={value}" for column, value in one.partition.items())
            print(harmless(f"{one.source}.{one.stream}[{part}] {one.path}: {one.reason}"))
            print(harmless(f"  {cut(_plain(one.raw))}"))
        if not result.rejected:
            print("no record is set aside")
        return
    # Not the element's place in its page: [3].price and [7].price are one reason.
    counts = Counter(
        (one.target, one.source, one.stream, re.sub(r"\[\d+\]", "[]", one.path), one.reason) for one in result.rejected
    )
    names = ("target", "source", "stream", "path", "reason")
    if json_:
        print_json({"rejected": [{**dict(zip(names, key, strict=True)), "count": counts[key]} for key in counts]})
        return
    if counts:
        print_table(
            ["count", "source", "stream", "path", "reason", "target"],
            [[count, *key[1:], key[0]] for key, count in counts.most_common()],
        )
    else:
        print("no record is set aside")


def cut(text: str) -> str:
    """As much of a record as a person looks at."""
    return text if len(text) <= SHOWN_RAW else f"{text[:SHOWN_RAW]}… ({len(text):,} characters; --json shows all)"


def _plain(raw: str) -> str:
    """A record on one line, its letters as they are and its numbers with the provider's digits."""
    from penstock._decode.page import EXACT_JSON, PLAIN

    try:
        return mask(EXACT_JSON.encode(PLAIN.decode(raw)).decode())
    except ValueError:
        return mask(raw)
