"""
The content of the page: what the ledgers hold, as compact JSON-like data.

The page's summary holds what is shown at once: problems, sources, streams, and one letter per account and day, see
:data:`penstock_plugins.status_page.stream_content.STATES`. Counts, sums, times and restatements are in a block for each
stream, which the browser reads when the stream is looked at. Times are seconds since 1970-01-01 UTC; sums are decimal
text, never floats.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from attrs import frozen
from penstock import Project, mask
from penstock.results import Change, RunInfo, SourceStatus

from penstock_plugins.status_page.attention_entries import new_members, problem_entries, reasons_of, restated
from penstock_plugins.status_page.stream_content import Facts, StreamContent, account_of, change_of, epoch_s, streams_of

RUNS_SHOWN = 30  # of each source
CHANGES_SHOWN = 100  # of each source, in its list


@frozen(kw_only=True)
class Content:
    """``summary`` is read at once, ``blocks`` one by one: ``blocks[n]`` belongs to the stream whose ``block`` is n."""

    summary: Mapping[str, Any]
    blocks: Sequence[Mapping[str, Any]]


def read_facts(
    project: Project, name: str | None, *, to: str | None, since: date, now: datetime, max_age_s: float | None = None
) -> Facts:
    """Read the ledgers. ``name``: a pipeline or source; None: all. Raises UsageError where no target is known."""
    status = project.status(name, to=to, max_age_s=max_age_s)
    partitions = project.partitions(name, to=to, since=since)
    changes = project.changes(name, to=to, since=since - timedelta(days=1), merged=False)
    runs = project.runs(name, to=to, limit=RUNS_SHOWN)
    notices = (*status.notices, *partitions.notices, *changes.notices, *runs.notices)
    days = [partition.day for partition in partitions.partitions if partition.day is not None]
    return Facts(
        status=status,
        partitions=partitions.partitions,
        changes=changes.changes,
        runs=runs.runs,
        notices=tuple(dict.fromkeys(notices)),
        first=max(since, min(days, default=since)),
        last=max([now.date() - timedelta(days=1), *days]),
        now=now,
    )


def content(facts: Facts) -> Content:
    """The page of these facts. Free text is masked once more."""
    streams, runs = streams_of(facts), facts.runs_by_source()
    by_source: dict[tuple[str, str], list[StreamContent]] = {}
    for place, stream in streams.items():
        by_source.setdefault((place.target, place.source), []).append(stream)
    blocks: list[Mapping[str, Any]] = []
    targets = []
    for target in facts.status.targets:
        sources = []
        for source in target.sources:
            key = (target.target, source.source)
            contents = by_source.get(key, [])
            summaries = [{**stream.summary(), "block": len(blocks) + number} for number, stream in enumerate(contents)]
            blocks += [stream.block() for stream in contents]
            sources.append(_source(source, contents, summaries, runs.get(key, ())))
        targets.append({"name": target.target, "sources": sources})
    summary = {
        "made": epoch_s(facts.now),
        "first": facts.first.isoformat(),
        "days": (facts.last - facts.first).days + 1,
        "targets": targets,
        "problems": problem_entries(facts, streams),
        "news": [*restated(facts), *new_members(facts)],
        "notices": [mask(notice) for notice in facts.notices],
    }
    return Content(summary=summary, blocks=blocks)


def _source(
    source: SourceStatus,
    streams: Sequence[StreamContent],
    summaries: Sequence[Mapping[str, Any]],
    runs: Sequence[RunInfo],
) -> dict[str, Any]:
    changes = sorted(
        (change for stream in streams for restatements in stream.changes.values() for change in restatements),
        key=lambda change: change.changed_at,
        reverse=True,
    )
    openings = [opening for stream in streams for opening in stream.openings()]
    return {
        "name": source.source,
        "good": epoch_s(source.last_good),
        "requests": source.requests_this_month,
        "changed": dict(source.changed),
        "streams": summaries,
        "openings": sorted(
            openings, key=lambda opening: (opening["closes"] is None, opening["closes"] or 0, opening["stream"])
        ),
        "restated": {"count": len(changes), "last": [_with_place(change) for change in changes[:CHANGES_SHOWN]]},
        "runs": [_run(run) for run in runs],
    }


def _with_place(change: Change) -> dict[str, Any]:
    day = change.day.isoformat() if change.day is not None else None
    return {**change_of(change), "stream": change.stream, "account": ", ".join(account_of(change)), "day": day}


def _run(run: RunInfo) -> dict[str, Any]:
    seconds = run.seconds
    return {
        "id": run.run_id,
        "at": epoch_s(run.started_at),
        "seconds": None if seconds is None else round(seconds, 1),
        "exit": run.exit_code,
        "records": run.records,
        "requests": run.requests,
        "failed": run.failed,
        "rejected": run.rejected,
        "restated": sum(len(counts.get("restated") or ()) for counts in run.report.get("streams", {}).values()),
        "why": reasons_of(run),
    }
