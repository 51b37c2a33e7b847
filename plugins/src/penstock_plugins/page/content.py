"""
The content of the page: what the ledgers hold, as compact JSON-like data.

The page's summary holds what is shown at once: problems, sources, streams, and one letter per account and day, see
:data:`STATES`. Counts, sums, times and restatements are in a block for each stream, which the browser reads when the
stream is looked at. Times are seconds since 1970-01-01 UTC; sums are decimal text, never floats.
"""

import glob
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

from attrs import define, field, frozen
from penstock import Project, mask
from penstock.project.results import (
    AccountStatus,
    Change,
    PartitionStatus,
    Problem,
    RunInfo,
    SourceStatus,
    StatusResult,
    TargetStatus,
)

RUNS_SHOWN = 30  # of each source
CHANGES_SHOWN = 100  # of each source, in its list
ACCOUNTS_NAMED = 20  # in one command
REASON_LENGTH = 600
NEWS_HOURS = 24

NOTHING, MISSING, FAILED, TRUNCATED, SET_ASIDE = ".", "m", "x", "t", "s"
OPEN_RESTATED, OPEN, FINAL_RESTATED, FINAL = "O", "o", "F", "f"
STATES = (FAILED, MISSING, TRUNCATED, SET_ASIDE, OPEN_RESTATED, OPEN, FINAL_RESTATED, FINAL, NOTHING)
"""The letters of states. Of several states of one day, the first one in this order is shown."""

ADVICE: Mapping[str, str] = {
    "target": "Correct the configuration of the target, or its access rights.",
    "run": "Read the message; the command shows the whole report of the run.",
    "failed": "The next run reads these days again. Act only if the same failure returns, or if the message states "
    "what to correct. Rows of the last good reading stay in place.",
    "missing": "These days lie between the first and the last one, and were never delivered. The next run reads them "
    "if they are within its window; the command reads them now.",
    "parked": "The provider stated a wait that is longer than a run waits. A run after that time goes on.",
    "overdue": "Check that the run is still scheduled, and how the last runs ended.",
    "truncated": "The provider lists no more than was delivered, so there may be more records. Narrow the request with "
    "the filters of the source, or ask the provider for the rest.",
    "set aside": "The other records of these days are delivered. The command shows each record with its reason; "
    "after an update of the connector the next run reads the days again.",
    "not read": "The values are null in their column, and kept in _extra. After an update of the connector the next "
    "run reads the days again.",
}
"""What to do about each kind of problem; in the order in which problems are shown."""

Account = tuple[str, ...]
Place = tuple[str, str, str]  # target, source, stream


@frozen(kw_only=True)
class Facts:
    """What the Python API returns for the page. ``first`` to ``last``: the days shown, both included."""

    status: StatusResult
    partitions: Sequence[PartitionStatus]
    changes: Sequence[Change]  # one per reading
    runs: Sequence[RunInfo]  # newest first
    notices: Sequence[str]
    first: date
    last: date
    now: datetime


@frozen(kw_only=True)
class Content:
    """``summary`` is read at once, ``blocks`` one by one: ``blocks[n]`` belongs to the stream whose ``block`` is n."""

    summary: Mapping[str, Any]
    blocks: Sequence[Mapping[str, Any]]


def facts(
    project: Project, name: str | None, *, to: str | None, since: date, now: datetime, max_age_s: float | None = None
) -> Facts:
    """Read the ledgers. ``name``: a pipeline or source; None: all. Raises UsageError where no target is known."""
    status = project.status(name, to=to, max_age_s=max_age_s)
    partitions = project.partitions(name, to=to, since=since)
    changes = project.changes(name, to=to, since=since - timedelta(days=1), merged=False)
    runs = project.runs(name, to=to, limit=RUNS_SHOWN)
    found = (*status.notices, *partitions.notices, *changes.notices, *runs.notices)
    days = [one.day for one in partitions.partitions if one.day is not None]
    return Facts(
        status=status,
        partitions=partitions.partitions,
        changes=changes.changes,
        runs=runs.runs,
        notices=tuple(dict.fromkeys(found)),
        first=max(since, min(days, default=since)),
        last=max([now.date() - timedelta(days=1), *days]),
        now=now,
    )


def content(facts: Facts) -> Content:
    """The page of these facts. Free text is masked once more."""
    streams = _streams(facts)
    blocks: list[Mapping[str, Any]] = []
    targets = []
    for target in facts.status.targets:
        sources = []
        for source in target.sources:
            own = [one for one in streams.values() if one.place[:2] == (target.target, source.source)]
            shown = [{**one.summary(), "block": len(blocks) + number} for number, one in enumerate(own)]
            blocks += [one.block() for one in own]
            sources.append(_source(facts, target, source, own, shown))
        targets.append({"name": target.target, "sources": sources})
    summary = {
        "made": _seconds(facts.now),
        "first": facts.first.isoformat(),
        "days": (facts.last - facts.first).days + 1,
        "targets": targets,
        "problems": _problems(facts, streams),
        "news": [*_restated(facts), *_new_members(facts)],
        "notices": [mask(one) for one in facts.notices],
    }
    return Content(summary=summary, blocks=blocks)


# --- a stream ---------------------------------------------------------------------------------------------------------


@define(kw_only=True)
class StreamContent:
    """One stream of one source in one target: its accounts, and the partitions of each by the number of the day."""

    place: Place
    first: date
    days: int  # 1 for a stream that is not divided by days
    dated: bool
    accounts: dict[Account, AccountStatus]
    partitions: dict[Account, dict[int, PartitionStatus]] = field(factory=dict)
    changes: dict[tuple[Account, int], list[Change]] = field(factory=dict)

    def position(self, day: date | None) -> int | None:
        """The number of a day; None if it is not shown."""
        number = (day - self.first).days if day is not None else 0
        return number if 0 <= number < self.days else None

    @property
    def measures(self) -> list[str]:
        found = {name: None for own in self.partitions.values() for one in own.values() for name in one.sums}
        return list(found)

    def states(self, account: Account) -> str:
        """One letter per day."""
        status, own = self.accounts[account], self.partitions.get(account, {})
        gap = range(0)
        if self.dated and status.first_day is not None and status.last_day is not None:
            gap = range((status.first_day - self.first).days, (status.last_day - self.first).days + 1)
        return "".join(
            _state(own[day], restated=(account, day) in self.changes)
            if day in own
            else (MISSING if day in gap else NOTHING)
            for day in range(self.days)
        )

    def summary(self) -> dict[str, Any]:
        """What is shown before the stream is opened."""
        measures = self.measures
        states = {account: self.states(account) for account in self.accounts}
        every = [self.partitions.get(account, {}) for account in self.accounts]
        by_day = [[own[day] for own in every if day in own] for day in range(self.days)]
        return {
            "name": self.place[2],
            "dated": self.dated,
            "measures": measures,
            "states": "".join(map(_of_all, zip(*states.values(), strict=True))),
            "rows": [sum(one.rows for one in several) if several else None for several in by_day],
            "sums": [[_sum(several, name) for several in by_day] for name in measures],
            "counts": Counter("".join(states.values())),
            "read": _seconds(max((one.last_read for one in self.accounts.values() if one.last_read), default=None)),
            "accounts": [
                {
                    "name": ", ".join(account),
                    "states": states[account],
                    "rows": sum(one.rows for one in own.values()),
                    "sums": [_sum(own.values(), name) for name in measures],
                    "read": _seconds(status.last_read),
                    **({"zone": status.timezone} if status.timezone else {}),
                    **({"left": True} if status.configured is False else {}),
                    **({"overdue": True} if status.overdue else {}),
                }
                for (account, status), own in zip(self.accounts.items(), every, strict=True)
            ],
        }

    def block(self) -> dict[str, Any]:
        """The details of every partition: columns of values by day, in the order of the accounts."""
        measures, runs, closings = self.measures, _Numbered(), _Numbered()
        columns, notes, changes = [], {}, {}
        for number, account in enumerate(self.accounts):
            own = self.partitions.get(account, {})
            cells = [own.get(day) for day in range(self.days)]
            columns.append(
                {
                    "rows": [one and one.rows for one in cells],
                    "promised": [one and one.promised for one in cells],
                    "read": [one and _seconds(one.read_at) for one in cells],
                    "closes": [one and closings.number(_seconds(one.open_until)) for one in cells],
                    "run": [one and runs.number(one.run_id) for one in cells],
                    "sums": [[one and _text(one.sums.get(name)) for one in cells] for name in measures],
                }
            )
            for day, one in own.items():
                if found := _notes(one):
                    notes[f"{number}:{day}"] = found
                if (account, day) in self.changes:
                    changes[f"{number}:{day}"] = [_change(change) for change in self.changes[account, day]]
        return {
            "accounts": columns,
            "runs": runs.values,
            "closings": closings.values,
            "notes": notes,
            "changes": changes,
            "again": [
                _read_again(*self.place[:2], self.place[2:], [account]) for account in self.accounts
            ],  # without the day
            "rejected": _rejected(self.place),
        }

    def openings(self) -> list[dict[str, Any]]:
        """The open partitions, by the time at which they close."""
        found: dict[int | None, list[tuple[Account, int]]] = {}
        for account, own in self.partitions.items():
            for day, one in own.items():
                if one.standing == "open":
                    found.setdefault(_seconds(one.open_until), []).append((account, day))
        return [
            {
                "stream": self.place[2],
                "closes": closes,
                "accounts": len({account for account, _ in several}),
                "partitions": len(several),
                "first": self._day(min(day for _, day in several)),
                "last": self._day(max(day for _, day in several)),
            }
            for closes, several in found.items()
        ]

    def _day(self, number: int) -> str | None:
        return (self.first + timedelta(days=number)).isoformat() if self.dated else None


@define
class _Numbered:
    """Values by number, in the order in which they were met."""

    _numbers: dict[Any, int] = field(factory=dict)

    def number(self, value: Any) -> int:
        return self._numbers.setdefault(value, len(self._numbers))

    @property
    def values(self) -> list[Any]:
        return list(self._numbers)


def _streams(facts: Facts) -> dict[Place, StreamContent]:
    """Every stream of every source, in the order of the status."""
    found: dict[Place, StreamContent] = {}
    for target in facts.status.targets:
        for source in target.sources:
            for status in source.streams:
                place = (target.target, source.source, status.stream)
                if place not in found:
                    dated = status.first_day is not None
                    days = (facts.last - facts.first).days + 1 if dated else 1
                    found[place] = StreamContent(place=place, first=facts.first, days=days, dated=dated, accounts={})
                found[place].accounts[_account(status)] = status
    for one in facts.partitions:
        stream = found.get((one.target, one.source, one.stream))
        day = stream.position(one.day) if stream is not None else None
        if stream is not None and day is not None:  # a run may have added it after the status was read
            stream.partitions.setdefault(_account(one), {})[day] = one
    for change in facts.changes:
        stream = found.get((change.target, change.source, change.stream))
        day = stream.position(change.day) if stream is not None else None
        if stream is not None and day is not None:
            stream.changes.setdefault((_account(change), day), []).append(change)
    return found


def _account(one: AccountStatus | PartitionStatus | Change | Problem) -> Account:
    return tuple(one.account.values())


def _state(one: PartitionStatus, *, restated: bool) -> str:
    if one.standing == "failed":
        return FAILED
    if one.truncated:
        return TRUNCATED
    if one.rejected or one.unread_values:
        return SET_ASIDE
    if one.standing == "final":
        return FINAL_RESTATED if restated else FINAL
    return OPEN_RESTATED if restated else OPEN


def _of_all(letters: Iterable[str]) -> str:
    """The state of a day over all accounts: the worst one. That some account was restated is not marked."""
    worst = min(letters, key=STATES.index)
    return {OPEN_RESTATED: OPEN, FINAL_RESTATED: FINAL}.get(worst, worst)


def _notes(one: PartitionStatus) -> dict[str, Any]:
    """What is unusual about a partition."""
    counts = {"rejected": one.rejected, "unread": one.unread_values, "repeated": one.repeated}
    found: dict[str, Any] = {name: count for name, count in counts.items() if count}
    if one.error is not None:
        found |= {"error": _reason(one.error), "attempts": one.attempts}
    return found | ({"derived": dict(one.derived_rows)} if one.derived_rows else {})


def _change(one: Change) -> dict[str, Any]:
    """One restatement: the rows, and each sum that differs, before, after, and the difference."""
    return {
        "at": _seconds(one.changed_at),
        "run": ", ".join(one.runs),
        "rows": [one.rows_before, one.rows_after],
        "sums": [
            [name, _text(before), _text(after), _text(_difference(before, after))]
            for name, (before, after) in one.sums.items()
        ],
    }


def _sum(several: Iterable[PartitionStatus], measure: str) -> str | None:
    """The exact sum of one measure; None if no partition has it."""
    amounts = [one.sums[measure] for one in several if measure in one.sums]
    with localcontext(prec=1000):
        return _text(sum(amounts, Decimal(0))) if amounts else None


def _difference(before: Decimal, after: Decimal) -> Decimal:
    with localcontext(prec=1000):
        return after - before


def _text(amount: Decimal | None) -> str | None:
    """All digits, without an exponent."""
    return None if amount is None else f"{amount:f}"


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _reason(text: str) -> str:
    text = mask(text)
    return text if len(text) <= REASON_LENGTH else f"{text[:REASON_LENGTH]} ..."


# --- a source ---------------------------------------------------------------------------------------------------------


def _source(
    facts: Facts,
    target: TargetStatus,
    source: SourceStatus,
    streams: Sequence[StreamContent],
    shown: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    runs = [run for run in facts.runs if (run.target, run.source) == (target.target, source.source)]
    changes = sorted(
        (change for stream in streams for several in stream.changes.values() for change in several),
        key=lambda change: change.changed_at,
        reverse=True,
    )
    openings = [one for stream in streams for one in stream.openings()]
    return {
        "name": source.source,
        "good": _seconds(source.last_good),
        "requests": source.requests_this_month,
        "changed": dict(source.changed),
        "streams": shown,
        "openings": sorted(openings, key=lambda one: (one["closes"] is None, one["closes"] or 0, one["stream"])),
        "restated": {"count": len(changes), "last": [_placed(change) for change in changes[:CHANGES_SHOWN]]},
        "runs": [_run(run) for run in runs],
    }


def _placed(one: Change) -> dict[str, Any]:
    day = one.day.isoformat() if one.day is not None else None
    return {**_change(one), "stream": one.stream, "account": ", ".join(_account(one)), "day": day}


def _run(run: RunInfo) -> dict[str, Any]:
    seconds = run.seconds
    return {
        "id": run.run_id,
        "at": _seconds(run.started_at),
        "seconds": None if seconds is None else round(seconds, 1),
        "exit": run.exit_code,
        "records": run.records,
        "requests": run.requests,
        "failed": run.failed,
        "rejected": run.rejected,
        "restated": sum(len(one.get("restated") or ()) for one in run.report.get("streams", {}).values()),
        "why": _why(run),
    }


def _why(run: RunInfo) -> list[str]:
    """The first message of each stream and class of error."""
    found: dict[tuple[Any, Any], str] = {}
    for error in run.report.get("errors", ()):
        found.setdefault((error.get("stream"), error.get("error")), _reason(str(error.get("message"))))
    return list(dict.fromkeys(found.values()))[:5]


# --- problems ---------------------------------------------------------------------------------------------------------


def _problems(facts: Facts, streams: Mapping[Place, StreamContent]) -> list[dict[str, Any]]:
    """Everything that needs attention, in the order of :data:`ADVICE`; one for all that share source and reason."""
    found = [_unreadable(target) for target in facts.status.targets if target.error is not None]
    for target in facts.status.targets:
        groups: dict[tuple[str, str, str], list[Problem]] = {}
        for one in target.problems:
            groups.setdefault((one.source, one.kind, one.reason), []).append(one)
        found += [_problem(target.target, several, streams) for several in groups.values()]
        found += [bad for source in target.sources if (bad := _bad_run(facts, target.target, source, found))]
    order = {kind: number for number, kind in enumerate(ADVICE)}
    return sorted(found, key=lambda one: order.get(one["kind"], len(order)))


def _problem(target: str, several: Sequence[Problem], streams: Mapping[Place, StreamContent]) -> dict[str, Any]:
    source, kind = several[0].source, several[0].kind
    days = [day for problem in several for day in (problem.first_day, problem.last_day) if day is not None]
    accounts = list(dict.fromkeys(_account(problem) for problem in several if problem.account))
    names = list(dict.fromkeys(problem.stream for problem in several if problem.stream))
    window = ["--since", min(days).isoformat(), "--until", max(days).isoformat()] if days else []
    commands = {
        "failed": _read_again(target, source, names, accounts, *window),
        "missing": _read_again(target, source, names, accounts, *window),
        "overdue": shlex.join(["penstock", "runs", source, "--to", target]),
        "set aside": shlex.join(["penstock", "rejected", "show", source, "--to", target]),
    }
    reads = [problem.last_read for problem in several if problem.last_read is not None]
    return {
        "kind": kind,
        "target": target,
        "source": source,
        "streams": names,
        "count": sum(problem.count for problem in several),
        "accounts": [", ".join(account) for account in accounts],
        "first": min(days).isoformat() if days else None,
        "last": max(days).isoformat() if days else None,
        "read": _seconds(max(reads, default=None)),
        "reason": _reason(several[0].reason),
        "advice": ADVICE.get(kind, ""),
        "command": commands.get(kind),
        "at": _first_cell(target, several, streams),
    }


def _first_cell(target: str, several: Sequence[Problem], streams: Mapping[Place, StreamContent]) -> list[Any] | None:
    """Stream, account and day (numbers) of the first of these problems that is among the days shown."""
    letters = {
        "failed": FAILED,
        "missing": MISSING,
        "truncated": TRUNCATED,
        "set aside": SET_ASIDE,
        "not read": SET_ASIDE,
    }
    for one in several:
        stream, letter = streams.get((target, one.source, one.stream)), letters.get(one.kind)
        if stream is not None and letter is not None and _account(one) in stream.accounts:
            day = stream.states(_account(one)).find(letter)
            if day >= 0:
                return [one.stream, list(stream.accounts).index(_account(one)), day]
    return None


def _bad_run(
    facts: Facts, target: str, source: SourceStatus, found: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The last run of a source, if it ended badly for a reason that no other problem shows."""
    last = next((run for run in facts.runs if (run.target, run.source) == (target, source.source)), None)
    known = {one["kind"] for one in found if (one["target"], one.get("source")) == (target, source.source)}
    shown = {1: {"failed", "truncated"}, 4: {"parked"}}
    if last is None or last.exit_code in (None, 0, 5) or shown.get(last.exit_code, set()) & known:
        return None
    return {
        "kind": "run",
        "target": target,
        "source": source.source,
        "count": last.exit_code,
        "accounts": [],
        "read": _seconds(last.started_at),
        "reason": " ".join(_why(last)[:1]),
        "advice": ADVICE["run"],
        "command": shlex.join(["penstock", "runs", last.run_id]),
    }


def _unreadable(target: TargetStatus) -> dict[str, Any]:
    return {
        "kind": "target",
        "target": target.target,
        "count": 1,
        "accounts": [],
        "reason": _reason(target.error or ""),
        "advice": ADVICE["target"],
    }


# --- news -------------------------------------------------------------------------------------------------------------


def _restated(facts: Facts) -> list[dict[str, Any]]:
    """
    The changes of the last :data:`NEWS_HOURS`, summed up by stream and month of the changed days, the earliest month
    first: it may have been invoiced.
    """
    groups: dict[tuple[str, str, str, str], dict[tuple[Account, date | None], list[Change]]] = {}
    for one in sorted(facts.changes, key=lambda one: one.changed_at):
        if facts.now - one.changed_at <= timedelta(hours=NEWS_HOURS):
            month = f"{one.day:%Y-%m}" if one.day is not None else ""
            group = groups.setdefault((month, one.target, one.source, one.stream), {})
            group.setdefault((_account(one), one.day), []).append(one)
    return [
        {
            "kind": "restated",
            "target": target,
            "source": source,
            "stream": stream,
            "month": month,
            "days": len(partitions),
            "accounts": len({account for account, _ in partitions}),
            "rows": [
                sum(several[0].rows_before for several in partitions.values()),
                sum(several[-1].rows_after for several in partitions.values()),
            ],
            "sums": _moved(partitions.values()),
            "command": shlex.join(
                ["penstock", "changes", source, "--to", target, "--since", f"{facts.now - timedelta(days=1):%Y-%m-%d}"]
            ),
        }
        for (month, target, source, stream), partitions in sorted(groups.items())
    ]


def _moved(partitions: Iterable[Sequence[Change]]) -> list[list[str | None]]:
    """Each sum that changed, over the partitions in which it did: before, after, and the difference."""
    totals: dict[str, tuple[Decimal, Decimal]] = {}
    with localcontext(prec=1000):
        for several in partitions:
            for name in dict.fromkeys(name for one in several for name in one.sums):
                moves = [one.sums[name] for one in several if name in one.sums]
                before, after = totals.get(name, (Decimal(0), Decimal(0)))
                totals[name] = (before + moves[0][0], after + moves[-1][1])
    return [
        [name, _text(before), _text(after), _text(_difference(before, after))]
        for name, (before, after) in totals.items()
    ]


def _new_members(facts: Facts) -> list[dict[str, Any]]:
    """The members that no record class declares, as the last run of each source met them."""
    found: dict[tuple[str, str], RunInfo] = {}
    for run in facts.runs:
        found.setdefault((run.target, run.source), run)
    return [
        {
            "kind": "members",
            "target": run.target,
            "source": run.source,
            "stream": stream,
            "members": [mask(one) for one in counts["unknown_members"]],
            "command": shlex.join(["penstock", "streams", run.source, stream]),
        }
        for run in found.values()
        for stream, counts in run.report.get("streams", {}).items()
        if counts.get("unknown_members")
    ]


# --- commands ---------------------------------------------------------------------------------------------------------


def _read_again(target: str, source: str, streams: Sequence[str], accounts: Sequence[Account], *options: str) -> str:
    """
    The command that reads accounts of streams again. Without ``--accounts``, all of them, where they are too many or
    their names cannot be listed.
    """
    names = [name for account in accounts for name in account]
    listed = 0 < len(names) <= ACCOUNTS_NAMED and not any("," in name or name != name.strip() for name in names)
    chosen = ["--accounts", ",".join(map(glob.escape, names))] if listed else []
    return shlex.join(["penstock", "run", source, "--to", target, "--streams", ",".join(streams), *chosen, *options])


def _rejected(place: Place) -> str:
    target, source, stream = place
    return shlex.join(["penstock", "rejected", "show", source, "--to", target, "--stream", stream])
