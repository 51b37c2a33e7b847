"""
``plan``: what a run would fetch, without a request.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any

import click

from penstock import PlannedPartition
from penstock._cli.completion import pipelines_and_sources
from penstock._cli.options import selection
from penstock._cli.output import print_json, print_table, print_text
from penstock._cli.session import Session, as_json, command
from penstock._project.plan import PlanResult
from penstock._project.selected_jobs import unnamed_error
from penstock.names import counted

Span = Sequence[PlannedPartition]


ACCOUNTS_LISTED = 5  # accounts of a stream with the same days and reason; more are one line without -v


@command()
@click.argument("name", metavar="PIPELINE|SOURCE", required=False, shell_complete=pipelines_and_sources)
@selection
@click.option("--shards", type=int, metavar="M", help="Which of M shards reads what, see run --shard.")
@as_json
def plan(session: Session, name: str | None, json_: bool, **options: Any) -> int:
    """
    Show the partitions that a run would fetch, each with its reason. Makes no request.

    Consecutive days are one line, and so are more than five accounts with the same days; -v lists each account.

    Without --to, the target that was used last for the source decides what is final; if it cannot be read, the one
    before it, and the exit code is 1.
    """
    if name is None:
        raise unnamed_error(session.setup.config, planning=True)
    result = session.project.plan(name, **options)
    session.notice(*result.notices)
    if json_:
        divided = [
            {"shard": number, "source": source, "partitions": count, "requests": requests}
            for (number, source), (count, requests) in result.shards.items()
        ]
        more = {"shards": divided} if divided else {}
        print_json({"partitions": _as_dicts(result), "waiting": result.waiting, **more})
    else:
        _print_plan(result, verbose=session.verbose)
    return result.exit_code


def _as_dicts(result: PlanResult) -> list[dict[str, Any]]:
    return [
        {
            "source": planned.source,
            "stream": planned.partition.stream,
            "partition": planned.partition.as_dict(),
            "reason": planned.reason,
            "requests": planned.requests,
            "timezone": planned.timezone,
            **({"shard": planned.shard} if planned.shard is not None else {}),
        }
        for planned in result.partitions
    ]


def _print_plan(result: PlanResult, *, verbose: bool) -> None:
    """For people: the partitions, or where shards were requested, the size of each; then what waits, and the sums."""
    if result.shards:
        print_table(
            ["shard", "source", "partitions", "requests"],
            [[number, source, *counts] for (number, source), counts in result.shards.items()],
        )
    elif result.partitions:
        rows = [_span_row(spans) for spans in _combined_spans(_spans(result.partitions), verbose=verbose)]
        print_table(["stream", "account", "days", "reason", "requests"], rows)
    for text in _grouped_by_text(result.waiting):
        print_text(text)
    least = "" if result.exact else "at least "
    print_text(
        f"{counted(len(result.partitions), 'partition')} to read, {result.final} final, "
        f"{least}{counted(result.requests, 'request')}{_estimated_time(result)}"
    )


def _estimated_time(result: PlanResult) -> str:
    """How long the requests take at the configured pace, and, of several sources, how many each takes."""
    by_source = ", ".join(f"{name} {count}" for name, count in result.requests_of.items())
    by_sources = f" ({by_source})" if len(result.requests_of) > 1 else ""
    seconds = result.seconds
    if seconds is None or seconds < 60:
        return by_sources
    minutes = round(seconds / 60)
    time = f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
    return f"{by_sources}, {time} or more at the configured pace"


def _spans(partitions: Iterable[PlannedPartition]) -> Iterator[list[PlannedPartition]]:
    """Groups of partitions: consecutive days of one account with the same reason; any other partition by itself."""
    span: list[PlannedPartition] = []
    for planned in partitions:
        if span and not _is_next_day(span[-1], planned):
            yield span
            span = []
        span.append(planned)
    if span:
        yield span


def _is_next_day(former: PlannedPartition, following: PlannedPartition) -> bool:
    """Whether ``following`` is the next day of the same account, for the same reason."""
    alike = [
        (planned.source, planned.partition.stream, planned.reason, planned.partition.values[:-1])
        for planned in (former, following)
    ]
    if alike[0] != alike[1] or following.reason == "snapshot":
        return False
    days = [date.fromisoformat(planned.partition.values[-1][1]) for planned in (former, following)]
    return days[1] - days[0] == timedelta(days=1)


def _combined_spans(spans: Iterable[Span], *, verbose: bool) -> list[list[Span]]:
    """The spans of one stream with the same days and reason, together if they are many; ``verbose``: each alone."""
    groups: dict[tuple[Any, ...], list[Span]] = {}
    for span in spans:
        first, days = span[0], _days(span)
        groups.setdefault((first.source, first.partition.stream, first.reason, first.timezone, days), []).append(span)
    together: list[list[Span]] = []
    for group in groups.values():
        together += [group] if len(group) > ACCOUNTS_LISTED and not verbose else [[span] for span in group]
    return together


def _days(span: Span) -> str:
    """The days of a span; empty for partitions that have none."""
    if span[0].reason == "snapshot":
        return ""
    first, last = (planned.partition.values[-1][1] for planned in (span[0], span[-1]))
    return first if len(span) == 1 else f"{first} to {last}"


def _span_row(spans: Sequence[Span]) -> list[Any]:
    first, days = spans[0][0], _days(spans[0])
    values = [value for _, value in first.partition.values]
    account = ", ".join(values[:-1] if days else values)
    if len(spans) > 1:
        account = f"({len(spans)})"
    zone = f" ({first.timezone})" if first.timezone is not None else ""
    # By the rows of the parent, as a line below the table states.
    requests = None if first.requests is None else sum(planned.requests or 0 for span in spans for planned in span)
    return [f"{first.source}.{first.partition.stream}", account, f"{days}{zone}", first.reason, requests]


def _grouped_by_text(texts: Sequence[str]) -> list[str]:
    """Texts of the form ``STREAM: WHAT``; streams with the same text in one line."""
    groups: dict[str, list[str]] = {}
    for text in texts:
        stream, _, what = text.partition(": ")
        groups.setdefault(what, []).append(stream)
    return [f"{', '.join(streams)}: {what}" for what, streams in groups.items()]
