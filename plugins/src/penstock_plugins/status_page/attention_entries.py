"""
What needs attention, and what providers restated lately.
"""

import shlex
from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from penstock import mask
from penstock.results import (
    NEWS,
    NO_LONGER_SERVED,
    Change,
    Problem,
    RunInfo,
    TargetStatus,
    by_reason,
    joined,
    moved_sums,
)

from penstock_plugins.status_page.stream_content import (
    FAILED,
    MISSING,
    REJECTED,
    TRUNCATED,
    Account,
    Facts,
    Place,
    StreamContent,
    account_of,
    epoch_s,
    moves_of,
    read_again,
    reason_text,
)

ADVICE: Mapping[str, str] = {
    "target": "Correct the configuration of the target, or its access rights.",
    "run": "Read the message; the command shows the whole report of the run.",
    "failed": "The next run reads these days again. Act only if the same failure returns, or if the message states "
    "what to correct. Rows of the last good reading stay in place.",
    "missing": "These days lie between the first and the last one, and were never delivered. The next run reads them "
    "if they are within its window; the command reads them now.",
    "parked": "The provider stated a wait that is longer than a run waits. A run after that time goes on.",
    "overdue": "Check that the run is still scheduled, and how the last runs ended.",
    "left open": "Ask the provider why it does not list the account any more. If that is as it should be, do nothing: "
    "what was delivered stays as it was last read.",
    "truncated": "The provider lists no more than was delivered, so there may be more records. Narrow the request with "
    "the filters of the source, or ask the provider for the rest.",
    "rejected": "The other records of these days are delivered. The command shows each record with its reason; "
    "after an update of the connector the next run reads the days again.",
    "not read": "The values are null in their column, and kept in _extra. After an update of the connector the next "
    "run reads the days again.",
}
"""What to do about each kind of problem; in the order in which problems are shown."""

NOT_SERVED = "Nothing can be done here: ask the provider for these days. Rows of the last good reading stay in place."


def problem_entries(facts: Facts, streams: Mapping[Place, StreamContent]) -> list[dict[str, Any]]:
    """Everything that needs attention, in the order of :data:`ADVICE`; one for all that share source and reason."""
    runs = facts.runs_by_source()
    problems = [_unreadable(target) for target in facts.status.targets if target.error is not None]
    for target in facts.status.targets:
        # The news has the others, with more detail.
        shown = [problem for problem in target.problems if problem.kind not in ("restated", "new")]
        problems += [_problem(target.target, same_reason, streams) for same_reason in by_reason(shown)]
        for source in target.sources:
            kinds = {problem.kind for problem in target.problems if problem.source == source.source}
            last = next(iter(runs.get((target.target, source.source), ())), None)
            if last is not None and (bad := _bad_run(last, kinds)):
                problems.append(bad)
    order = {kind: number for number, kind in enumerate(ADVICE)}
    return sorted(problems, key=lambda problem: order.get(problem["kind"], len(order)))


def _problem(target: str, same_reason: Sequence[Problem], streams: Mapping[Place, StreamContent]) -> dict[str, Any]:
    source, kind = same_reason[0].source, same_reason[0].kind
    days = [day for problem in same_reason for day in (problem.first_day, problem.last_day) if day is not None]
    accounts = list(dict.fromkeys(account_of(problem) for problem in same_reason if problem.account))
    names = list(dict.fromkeys(problem.stream for problem in same_reason if problem.stream))
    window = ["--since", min(days).isoformat(), "--until", max(days).isoformat()] if days else []
    commands = {
        "failed": read_again(target, source, names, accounts, *window),
        "missing": read_again(target, source, names, accounts, *window),
        "overdue": shlex.join(["penstock", "runs", source, "--to", target]),
        "rejected": shlex.join(["penstock", "rejected", "show", source, "--to", target]),
    }
    reason, advice, command = same_reason[0].reason, ADVICE.get(kind, ""), commands.get(kind)
    if kind == "failed" and reason.startswith(NO_LONGER_SERVED):
        advice, command = NOT_SERVED, None
    reads = [problem.last_read for problem in same_reason if problem.last_read is not None]
    return {
        "kind": kind,
        "target": target,
        "source": source,
        "streams": names,
        "count": sum(problem.count for problem in same_reason),
        "undated": any(problem.first_day is None for problem in same_reason),
        "accounts": [", ".join(account) for account in accounts],
        "first": min(days).isoformat() if days else None,
        "last": max(days).isoformat() if days else None,
        "read": epoch_s(max(reads, default=None)),
        "reason": reason_text(reason),
        "advice": advice,
        "command": command,
        "at": _first_cell(target, same_reason, streams),
    }


def _first_cell(
    target: str, same_reason: Sequence[Problem], streams: Mapping[Place, StreamContent]
) -> list[Any] | None:
    """Stream, account and day (numbers) of the first of these problems that is among the days shown."""
    letters = {
        "failed": FAILED,
        "missing": MISSING,
        "truncated": TRUNCATED,
        "rejected": REJECTED,
        "not read": REJECTED,
    }
    for problem in same_reason:
        stream, letter = streams.get(Place(target, problem.source, problem.stream)), letters.get(problem.kind)
        if stream is not None and letter is not None and account_of(problem) in stream.accounts:
            day = stream.states(account_of(problem)).find(letter)
            if day >= 0:
                return [problem.stream, list(stream.accounts).index(account_of(problem)), day]
    return None


def _bad_run(last: RunInfo, known: Collection[str]) -> dict[str, Any] | None:
    """The last run of a source, if it ended badly for a reason that no problem of the ``known`` kinds shows."""
    kinds_shown = {1: {"failed", "truncated"}, 4: {"parked"}}
    if last.exit_code in (None, 0, 5) or not kinds_shown.get(last.exit_code, set()).isdisjoint(known):
        return None
    return {
        "kind": "run",
        "target": last.target,
        "source": last.source,
        "count": last.exit_code,
        "accounts": [],
        "read": epoch_s(last.started_at),
        "reason": " ".join(reasons_of(last)[:1]),
        "advice": ADVICE["run"],
        "command": shlex.join(["penstock", "runs", last.run_id]),
    }


def _unreadable(target: TargetStatus) -> dict[str, Any]:
    return {
        "kind": "target",
        "target": target.target,
        "count": 1,
        "accounts": [],
        "reason": reason_text(target.error or ""),
        "advice": ADVICE["target"],
    }


def reasons_of(run: RunInfo) -> list[str]:
    """The first message of each stream and class of error."""
    reasons: dict[tuple[Any, Any], str] = {}
    for error in run.report.get("errors", ()):
        reasons.setdefault(
            (error.get("stream"), error.get("error")), reason_text(str(error.get("reason", error.get("message"))))
        )
    return list(dict.fromkeys(reasons.values()))[:5]


# --- news -------------------------------------------------------------------------------------------------------------


def restated(facts: Facts) -> list[dict[str, Any]]:
    """
    The changes of the last :data:`penstock.results.NEWS` to rows and sums, summed up by stream and month of the changed
    days, the earliest month first: it may have been invoiced. Other values with the same sums are no news.
    """
    groups: dict[tuple[str, str, str, str], dict[tuple[Account, date | None], Change]] = {}
    for change in sorted(facts.changes, key=lambda change: change.changed_at):
        if change.moved and facts.now - change.changed_at <= NEWS:
            month = f"{change.day:%Y-%m}" if change.day is not None else ""
            group = groups.setdefault((month, change.target, change.source, change.stream), {})
            partition = (account_of(change), change.day)
            group[partition] = joined(group[partition], change) if partition in group else change
    return [
        {
            "kind": "restated",
            "target": target,
            "source": source,
            "stream": stream,
            "month": month,
            "days": len({day for _, day in partitions}),
            "accounts": len({account for account, _ in partitions}),
            "rows": [
                sum(partition.rows_before for partition in partitions.values()),
                sum(partition.rows_after for partition in partitions.values()),
            ],
            "sums": moves_of(moved_sums(partitions.values())),
            "command": shlex.join(
                ["penstock", "changes", source, "--to", target, "--since", f"{facts.now - timedelta(days=1):%Y-%m-%d}"]
            ),
        }
        for (month, target, source, stream), partitions in sorted(groups.items())
    ]


def new_members(facts: Facts) -> list[dict[str, Any]]:
    """The members that no column holds and that are new, as in ``penstock status --problems``."""
    return [
        {
            "kind": "members",
            "target": target.target,
            "source": problem.source,
            "stream": problem.stream,
            "members": [mask(member) for member in problem.members],
            "command": shlex.join(["penstock", "streams", problem.source, problem.stream]),
        }
        for target in facts.status.targets
        for problem in target.problems
        if problem.kind == "new"
    ]
