"""
``plan``: what a run would fetch, without a request.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import click

from penstock._cli.complete import pipelines_and_sources
from penstock._cli.options import selection
from penstock._cli.output import print_json, print_table, print_text
from penstock._cli.session import Session, as_json, command
from penstock._util.text import counted

if TYPE_CHECKING:
    from penstock._plan.planner import PlannedPartition
    from penstock.project.run_result import PlanResult


@command()
@click.argument("name", metavar="PIPELINE|SOURCE", required=False, shell_complete=pipelines_and_sources)
@selection
@click.option("--shards", type=int, metavar="M", help="Which of M shards reads what, see run --shard.")
@as_json
def plan(session: Session, name: str | None, json_: bool, **options: Any) -> None:
    """
    Show the partitions that a run would fetch, each with its reason (consecutive days in one line). Makes no request.

    Without --to, the target that was used last for the source decides what is final.
    """
    from penstock.project.jobs import unnamed

    if name is None:
        raise unnamed(session.config, planning=True)
    result = session.reading.plan(name, **options)
    session.notices(result.notices)
    if json_:
        shown = [
            {
                "source": part.source,
                "stream": part.partition.stream,
                "partition": part.partition.as_dict(),
                "reason": part.reason,
                "requests": part.requests,
                "timezone": part.timezone,
                **({"shard": part.shard} if part.shard is not None else {}),
            }
            for part in result.partitions
        ]
        divided = [
            {"shard": number, "source": source, "partitions": count, "requests": requests}
            for (number, source), (count, requests) in result.shards.items()
        ]
        print_json({"partitions": shown, "waiting": result.waiting, **({"shards": divided} if divided else {})})
        return
    if result.shards:
        print_table(
            ["shard", "source", "partitions", "requests"],
            [[number, source, *counts] for (number, source), counts in result.shards.items()],
        )
    elif result.partitions:
        rows = [_span_row(span) for span in _spans(result.partitions)]
        print_table(["source", "stream", "partition", "reason", "requests"], rows)
    for text in result.waiting:
        print_text(text)
    least = "" if result.exact else "at least "
    print(
        f"{counted(len(result.partitions), 'partition')} to read, {result.final} final, "
        f"{least}{counted(result.requests, 'request')}{_time(result)}"
    )


def _time(result: "PlanResult") -> str:
    """How long the requests take at the configured pace, and, of several sources, how many each takes."""
    by_source = ", ".join(f"{name} {count}" for name, count in result.requests_of.items())
    several = f" ({by_source})" if len(result.requests_of) > 1 else ""
    seconds = result.seconds
    if seconds is None or seconds < 60:
        return several
    minutes = round(seconds / 60)
    time = f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
    return f"{several}, {time} or more at the configured pace"


def _spans(partitions: "Iterable[PlannedPartition]") -> "Iterator[list[PlannedPartition]]":
    """Groups of partitions: consecutive days of one account with the same reason; any other partition by itself."""
    span: list[PlannedPartition] = []
    for part in partitions:
        if span and not _follows(span[-1], part):
            yield span
            span = []
        span.append(part)
    if span:
        yield span


def _follows(former: "PlannedPartition", part: "PlannedPartition") -> bool:
    """Whether ``part`` is the next day of the same account, for the same reason."""
    alike = [(one.source, one.partition.stream, one.reason, one.partition.values[:-1]) for one in (former, part)]
    if alike[0] != alike[1] or part.reason == "snapshot":
        return False
    days = [date.fromisoformat(one.partition.values[-1][1]) for one in (former, part)]
    return days[1] - days[0] == timedelta(days=1)


def _span_row(span: "Sequence[PlannedPartition]") -> list[Any]:
    first, last = span[0], span[-1]
    text = ", ".join(f"{column}={value}" for column, value in first.partition.values)
    if len(span) > 1:
        text += f" to {last.partition.values[-1][1]} ({len(span)} days)"
    text += f" ({first.timezone})" if first.timezone is not None else ""
    requests = None if first.requests is None else sum(part.requests or 0 for part in span)
    return [first.source, first.partition.stream, text, first.reason, "by parent" if requests is None else requests]
