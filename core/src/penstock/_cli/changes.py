"""
``changes``: what providers restated since a day.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from penstock._cli.completion import pipelines_and_sources
from penstock._cli.options import DAY, TO
from penstock._cli.output import paged, print_csv, print_table, print_text
from penstock._cli.session import Session, as_json_or_csv, command
from penstock.names import counted
from penstock.results import Change, moved_in_words

CHANGE_COLUMNS = ("source", "stream", "account", "day", "what", "before", "after")


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False, shell_complete=pipelines_and_sources)
@click.option(
    "--since",
    type=DAY,
    metavar="DAY",
    default="yesterday",
    help="Restatements that were read since this day (UTC).  [default: yesterday]",
)
@TO
@as_json_or_csv
def changes(session: Session, name: str | None, since: str, to: str | None, csv_: bool, json_: bool) -> int:
    """
    What providers restated in days that had been delivered: rows and sums before and after, per day and account.

    With --csv one row per partition and measure.
    """
    result = session.project.changes(name, since=since, to=to)
    if session.print_if_json(result, json_):
        return result.exit_code
    if csv_:
        print_csv([row for change in result.changes for row in _change_rows(change)], CHANGE_COLUMNS)
    elif result.changes:
        with paged():
            print_changes(result.changes)
    else:
        print(f"nothing was restated since {since}")
    return result.exit_code


def _change_rows(change: Change) -> Iterator[dict[str, Any]]:
    """A row for the number of rows, and one for each measure that differs."""
    for what, (before, after) in {"rows": (change.rows_before, change.rows_after), **change.sums}.items():
        yield {
            "source": change.source,
            "stream": change.stream,
            "account": ", ".join(change.account.values()),
            "day": change.day,
            "what": what,
            "before": before,
            "after": after,
        }


def print_changes(changes: Sequence[Change]) -> None:
    """What moved in each stream and month; below, per account and day, a table for each stream."""
    months: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        month = f"{change.day:%Y-%m}" if change.day is not None else ""
        months.setdefault((f"{change.source}.{change.stream}", month), []).append(change)
    for (stream, month), changes_of_month in months.items():
        moving = [change for change in changes_of_month if change.moved]
        phrases = moved_in_words(moving)
        unmoved = len(changes_of_month) - len(moving)
        phrases += [f"{counted(unmoved, 'partition')} with other values, and the same rows and sums"] if unmoved else []
        accounts = len({tuple(change.account.items()) for change in moving})
        scope = f" ({counted(len(moving), 'partition')} of {counted(accounts, 'account')})" if moving else ""
        print_text(f"{stream}{f' {month}' if month else ''}{scope}: {', '.join(phrases)}")
    streams: dict[str, list[Change]] = {}
    for change in changes:
        if change.moved:
            streams.setdefault(f"{change.source}.{change.stream}", []).append(change)
    for stream, changes_of_stream in streams.items():
        print(f"\n{stream}")
        columns: dict[str, list[Any]] = {
            "account": [", ".join(change.account.values()) for change in changes_of_stream],
            "day": [change.day for change in changes_of_stream],
            "restated": [_changed_values(change) for change in changes_of_stream],
        }
        filled = {name: cells for name, cells in columns.items() if any(cells)}
        print_table(list(filled), list(zip(*filled.values(), strict=True)))


def _changed_values(change: Change) -> str:
    """``rows 6 -> 5, clicks 276 -> 173``: what moved in one partition."""
    rows = [row for row in _change_rows(change) if row["before"] != row["after"]]
    return ", ".join(f"{row['what']} {row['before']} -> {row['after']}" for row in rows)
