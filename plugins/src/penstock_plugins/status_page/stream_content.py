"""
A stream on the page: one letter per account and day, and the details of each partition.
"""

import glob
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

from attrs import define, field, frozen
from penstock import mask
from penstock.results import AccountStatus, Change, PartitionStatus, Problem, RunInfo, StatusResult

ACCOUNTS_NAMED = 20  # in one command
REASON_LENGTH = 600

NOTHING, MISSING, FAILED, TRUNCATED, REJECTED = ".", "m", "x", "t", "s"
OPEN_RESTATED, OPEN, FINAL_RESTATED, FINAL = "O", "o", "F", "f"
STATES = (FAILED, MISSING, TRUNCATED, REJECTED, OPEN_RESTATED, OPEN, FINAL_RESTATED, FINAL, NOTHING)
"""The letters of states. A day with several states shows the first of them in this order."""

Account = tuple[str, ...]


class Place(NamedTuple):
    """Where a stream is: in a target, of a source."""

    target: str
    source: str
    stream: str


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

    def runs_by_source(self) -> dict[tuple[str, str], list[RunInfo]]:
        """The runs of each target and source, newest first."""
        runs: dict[tuple[str, str], list[RunInfo]] = {}
        for run in self.runs:
            runs.setdefault((run.target, run.source), []).append(run)
        return runs


@define(kw_only=True)
class StreamContent:
    """One stream of one source in one target: its accounts, and the partitions of each by the number of the day."""

    place: Place
    first: date
    days: int  # 1 for a stream without days
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
        of_days = [partition for partitions in self.partitions.values() for partition in partitions.values()]
        return list(dict.fromkeys(name for partition in of_days for name in partition.sums))

    def states(self, account: Account) -> str:
        """One letter per day."""
        status, partitions = self.accounts[account], self.partitions.get(account, {})
        gap = range(0)
        if self.dated and status.first_day is not None and status.last_day is not None:
            gap = range((status.first_day - self.first).days, (status.last_day - self.first).days + 1)
        return "".join(
            _state(partitions[day], restated=(account, day) in self.changes)
            if day in partitions
            else (MISSING if day in gap else NOTHING)
            for day in range(self.days)
        )

    def summary(self) -> dict[str, Any]:
        """What is shown before the stream is opened."""
        measures = self.measures
        states = {account: self.states(account) for account in self.accounts}
        by_account = [self.partitions.get(account, {}) for account in self.accounts]
        by_day = [[partitions[day] for partitions in by_account if day in partitions] for day in range(self.days)]
        return {
            "name": self.place.stream,
            "dated": self.dated,
            "measures": measures,
            "states": "".join(map(_of_all, zip(*states.values(), strict=True))),
            "rows": [sum(partition.rows for partition in same_day) if same_day else None for same_day in by_day],
            "sums": [[_sum(same_day, name) for same_day in by_day] for name in measures],
            "counts": Counter("".join(states.values())),
            "read": epoch_s(
                max((account.last_read for account in self.accounts.values() if account.last_read), default=None)
            ),
            "accounts": [
                {
                    "name": ", ".join(account),
                    "states": states[account],
                    "rows": sum(partition.rows for partition in partitions.values()),
                    "sums": [_sum(partitions.values(), name) for name in measures],
                    "read": epoch_s(status.last_read),
                    **({"zone": status.timezone} if status.timezone else {}),
                    **({"left": _left(status)} if status.configured is False else {}),
                    **({"overdue": True} if status.overdue else {}),
                }
                for (account, status), partitions in zip(self.accounts.items(), by_account, strict=True)
            ],
        }

    def block(self) -> dict[str, Any]:
        """The details of every partition: columns of values by day, in the order of the accounts."""
        measures, runs, closings = self.measures, _Numbered(), _Numbered()
        columns, notes, changes = [], {}, {}
        for number, account in enumerate(self.accounts):
            partitions = self.partitions.get(account, {})
            cells = [partitions.get(day) for day in range(self.days)]
            columns.append(
                {
                    "rows": [cell and cell.rows for cell in cells],
                    "promised": [cell and cell.promised for cell in cells],
                    "read": [cell and epoch_s(cell.read_at) for cell in cells],
                    "closes": [cell and closings.number(epoch_s(cell.open_until)) for cell in cells],
                    "run": [cell and runs.number(cell.run_id) for cell in cells],
                    "sums": [[cell and decimal_text(cell.sums.get(name)) for cell in cells] for name in measures],
                }
            )
            for day, partition in partitions.items():
                if about := _notes(partition):
                    notes[f"{number}:{day}"] = about
                if (account, day) in self.changes:
                    changes[f"{number}:{day}"] = [change_of(change) for change in self.changes[account, day]]
        return {
            "accounts": columns,
            "runs": runs.values,
            "closings": closings.values,
            "notes": notes,
            "changes": changes,
            "again": [
                read_again(self.place.target, self.place.source, [self.place.stream], [account])
                for account in self.accounts
            ],  # without the day
            "rejected": show_rejected(self.place),
        }

    def openings(self) -> list[dict[str, Any]]:
        """The open partitions, by the time at which they close."""
        by_closing: dict[int | None, list[tuple[Account, int]]] = {}
        for account, partitions in self.partitions.items():
            for day, partition in partitions.items():
                if partition.standing == "open":
                    by_closing.setdefault(epoch_s(partition.open_until), []).append((account, day))
        return [
            {
                "stream": self.place.stream,
                "closes": closes,
                "accounts": len({account for account, _ in closing}),
                "partitions": len(closing),
                "first": self._day(min(day for _, day in closing)),
                "last": self._day(max(day for _, day in closing)),
            }
            for closes, closing in by_closing.items()
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


def streams_of(facts: Facts) -> dict[Place, StreamContent]:
    """Every stream of every source, in the order of the status."""
    contents: dict[Place, StreamContent] = {}
    for target in facts.status.targets:
        for source in target.sources:
            for status in source.streams:
                place = Place(target.target, source.source, status.stream)
                if place not in contents:
                    dated = status.first_day is not None
                    days = (facts.last - facts.first).days + 1 if dated else 1
                    contents[place] = StreamContent(place=place, first=facts.first, days=days, dated=dated, accounts={})
                contents[place].accounts[account_of(status)] = status
    for partition in facts.partitions:
        stream = contents.get(Place(partition.target, partition.source, partition.stream))
        day = stream.position(partition.day) if stream is not None else None
        if stream is not None and day is not None:  # a run may have added it after the status was read
            stream.partitions.setdefault(account_of(partition), {})[day] = partition
    for change in facts.changes:
        stream = contents.get(Place(change.target, change.source, change.stream))
        day = stream.position(change.day) if stream is not None else None
        if stream is not None and day is not None:
            stream.changes.setdefault((account_of(change), day), []).append(change)
    return contents


def account_of(item: AccountStatus | PartitionStatus | Change | Problem) -> Account:
    return tuple(item.account.values())


def _left(status: AccountStatus) -> str:
    """Why an account is not read any more."""
    return "not listed by the provider any more" if status.listed else "not in the configuration any more"


def _state(partition: PartitionStatus, *, restated: bool) -> str:
    if partition.standing == "failed":
        return FAILED
    if partition.truncated:
        return TRUNCATED
    if partition.rejected or partition.unread_values:
        return REJECTED
    if partition.standing == "final":
        return FINAL_RESTATED if restated else FINAL
    return OPEN_RESTATED if restated else OPEN


def _of_all(letters: Iterable[str]) -> str:
    """The state of a day over all accounts: the worst one. That some account was restated is not marked."""
    worst = min(letters, key=STATES.index)
    return {OPEN_RESTATED: OPEN, FINAL_RESTATED: FINAL}.get(worst, worst)


def _notes(partition: PartitionStatus) -> dict[str, Any]:
    """What is unusual about a partition."""
    counts = {"rejected": partition.rejected, "unread": partition.unread_values, "repeated": partition.repeated}
    notes: dict[str, Any] = {name: count for name, count in counts.items() if count}
    if partition.error is not None:
        notes |= {"error": reason_text(partition.error), "attempts": partition.attempts}
    return notes | ({"derived": dict(partition.derived_rows)} if partition.derived_rows else {})


def change_of(change: Change) -> dict[str, Any]:
    """One restatement: the rows, and each sum that differs, before, after, and the difference."""
    return {
        "at": epoch_s(change.changed_at),
        "run": ", ".join(change.runs),
        "rows": [change.rows_before, change.rows_after],
        "sums": moves_of(change.sums),
    }


def moves_of(sums: Mapping[str, tuple[Decimal, Decimal]]) -> list[list[str | None]]:
    """Each sum that changed: its name, before, after, and the difference."""
    with localcontext(prec=1000):
        return [[name, *map(decimal_text, (before, after, after - before))] for name, (before, after) in sums.items()]


def _sum(partitions: Iterable[PartitionStatus], measure: str) -> str | None:
    """The exact sum of one measure; None if no partition has it."""
    amounts = [partition.sums[measure] for partition in partitions if measure in partition.sums]
    with localcontext(prec=1000):
        return decimal_text(sum(amounts, Decimal(0))) if amounts else None


def decimal_text(amount: Decimal | None) -> str | None:
    """All digits, without an exponent."""
    return None if amount is None else f"{amount:f}"


def epoch_s(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def reason_text(text: str) -> str:
    text = mask(text)
    return text if len(text) <= REASON_LENGTH else f"{text[:REASON_LENGTH]} ..."


# --- commands ---------------------------------------------------------------------------------------------------------


def read_again(target: str, source: str, streams: Sequence[str], accounts: Sequence[Account], *options: str) -> str:
    """
    The command that reads accounts of streams again. Without ``--accounts``, all of them, where they are too many or
    their names cannot be listed.
    """
    names = [name for account in accounts for name in account]
    may_list = 0 < len(names) <= ACCOUNTS_NAMED and not any("," in name or name != name.strip() for name in names)
    chosen = ["--accounts", ",".join(map(glob.escape, names))] if may_list else []
    return shlex.join(["penstock", "run", source, "--to", target, "--streams", ",".join(streams), *chosen, *options])


def show_rejected(place: Place) -> str:
    return shlex.join(["penstock", "rejected", "show", place.source, "--to", place.target, "--stream", place.stream])
