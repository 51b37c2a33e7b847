"""
``runs``: the last runs with their reasons, or the report of one.
"""

import re
import textwrap
from typing import Any

import click

from penstock._cli.completion import pipelines_and_sources
from penstock._cli.options import TO
from penstock._cli.output import print_json, print_table
from penstock._cli.session import Session, as_json, command
from penstock.errors import UsageError
from penstock.results import RunInfo

REASON_SHOWN = 80  # characters of a run's reason in a list


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE|RUN]", required=False, shell_complete=pipelines_and_sources)
@TO
@click.option("--limit", type=click.IntRange(1), default=20, metavar="N", help="Runs of each source.  [default: 20]")
@as_json
def runs(session: Session, name: str | None, to: str | None, limit: int, json_: bool) -> int:
    """
    The last runs, newest first, with their reasons; for a RUN, its report as JSON.
    """
    one_run = name if name is not None and re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", name) else None
    result = session.project.runs(None if one_run else name, to=to, limit=limit, run_id=one_run)
    if session.print_if_json(result, json_ and one_run is None):
        return result.exit_code
    if one_run is not None:
        reports = {run.source: run.report for run in result.runs}
        if not reports:
            raise UsageError(f"no run {one_run} is in a ledger; `penstock runs` lists those that are")
        print_json({"run_id": one_run, "sources": reports})
    elif result.runs:
        # A run's name begins with the time of its start.
        columns = ["run", "source", "target", "took", "exit", "records", "why"]
        rows = [
            [run.run_id, run.source, run.target, *run_row(run)[2:4], run.records, _first_reason(run)]
            for run in result.runs
        ]
        if len({run.target for run in result.runs}) == 1:
            for row in (columns, *rows):
                del row[2]
        print_table(columns, rows, ["red" if run.exit_code not in (0, 5) else "" for run in result.runs])
    else:
        print("no run yet")
    return result.exit_code


def _first_reason(run: RunInfo) -> str:
    """The first reason of a run that was not good, shortened."""
    streams = [stream["partitions"] for stream in run.report.get("streams", {}).values()]
    left_over = sum(counts["planned"] - counts["delivered"] - counts["failed"] for counts in streams)
    phrases = [f"{run.failed} failed"] if run.failed else []
    phrases += [f"{left_over} left over"] if left_over else []  # by a deadline, a signal, or a provider's quota
    phrases += [f"{run.rejected} rejected"] if run.rejected else []
    messages = [f"parked: {text}" for text in run.report.get("parked", {}).values()]
    messages += [error.get("reason", error["message"]) for error in run.report.get("errors", [])]
    for text in messages[:1]:
        phrases.append(textwrap.shorten(text, REASON_SHOWN, placeholder=" ..."))
    return ", ".join(phrases)


def run_row(run: RunInfo) -> list[Any]:
    return [
        run.run_id,
        f"{run.started_at:%Y-%m-%d %H:%M:%S}",
        "" if run.seconds is None else f"{run.seconds:.0f} s",
        "not finished" if run.exit_code is None else run.exit_code,
        run.records,
    ]
