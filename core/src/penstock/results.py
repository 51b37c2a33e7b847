"""
The results of the methods of :class:`penstock.Project` apart from ``run`` and ``plan``: frozen values with the exit
code of the equivalent command.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any, Literal

import attrs
from attrs import evolve, field, frozen

from penstock.errors import PenstockError
from penstock.ledger_interface import AccountCounts
from penstock.model import Receipt

NEWS = timedelta(hours=24)
"""How long a change to a delivered partition is shown as news."""

NO_LONGER_SERVED = "no run reads it again"
"""What the reason of a failed day begins with if the provider does not serve the day any more."""

CheckedKind = Literal["source", "target", "pipeline", "file"]
ProblemKind = Literal[
    "failed", "missing", "overdue", "rejected", "not read", "truncated", "left open", "parked", "restated", "new"
]
Standing = Literal["failed", "final", "open"]


def as_dict(value: Any) -> Any:
    """A result as JSON-like data: times and days as ISO 8601 text, decimals as text."""
    if attrs.has(type(value)):
        return {field.name: as_dict(getattr(value, field.name)) for field in attrs.fields(type(value)) if field.repr}
    if isinstance(value, Mapping):
        return {str(key): as_dict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_dict(item) for item in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


@frozen(kw_only=True)
class Result:
    """The result of a call. ``notices``: what the user should know; ``exit_code``: that of the equivalent command."""

    notices: tuple[str, ...] = field(default=(), repr=False)
    exit_code: int = field(default=0, repr=False)


@frozen(kw_only=True)
class Checked:
    """
    What was checked. ``kind``: ``source``, ``target``; with a fault also ``pipeline`` or ``file``. ``message``: the
    result; ``exit_code`` 0: no fault was found.
    """

    name: str
    kind: CheckedKind
    message: str
    exit_code: int = 0


@frozen(kw_only=True)
class CheckResult:
    """The checks, sources first. ``exit_code``: the first that applies of 3, 1, 2; else 0."""

    checked: tuple[Checked, ...]
    notices: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        codes = {tried.exit_code for tried in self.checked}
        return next((code for code in (3, 1, 2) if code in codes), max(codes, default=0))


@frozen(kw_only=True)
class AccountStatus(AccountCounts):
    """
    The state of one account of one stream. ``timezone``: the zone of the account's days, where it has its own.
    ``configured``: whether the configuration, or the provider's list if ``listed``, still has the account; None where
    that is not known. ``overdue``: its last reading is older than allowed.
    """

    age_s: int | None = None
    timezone: str | None = None
    configured: bool | None = None
    listed: bool = False
    overdue: bool = False


@frozen(kw_only=True)
class RunInfo:
    """
    One run of one source into ``target``, from its ledger. ``exit_code`` is the source's own. ``report``: its part of
    the report.
    """

    run_id: str
    source: str
    started_at: datetime
    target: str
    finished_at: datetime | None = None
    exit_code: int | None = None
    records: int = 0
    rejected: int = 0
    requests: int = 0
    failed: int = 0
    report: Mapping[str, Any] = field(factory=dict, repr=False)

    @property
    def seconds(self) -> float | None:
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else None


@frozen(kw_only=True)
class SourceStatus:
    """
    One source in one target: its streams' accounts in alphabetical order, and its last runs, newest first.

    ``last_good``: when the last run with exit code 0 or 5 ended. ``requests_this_month``: of its runs into this target.
    ``changed``: by stream, the partitions with rejected records, or values not read, that the next run reads again,
    since the record class or the connector's version changed. ``configured``: false for a source that the
    configuration, which has others, does not have.
    """

    source: str
    streams: tuple[AccountStatus, ...]
    configured: bool = True
    runs: tuple[RunInfo, ...] = ()
    last_good: datetime | None = None
    requests_this_month: int = 0
    changed: Mapping[str, int] = field(factory=dict)


@frozen(kw_only=True)
class Problem:
    """
    A problem of one account of one stream. ``kind``: ``failed``, ``missing``, ``overdue``, ``rejected``,
    ``not read``, ``truncated`` or ``left open`` (the provider has not listed the account for at most a week, and what
    is open stays so); or, of a whole source, ``parked``: its last run left it for a later one, as the provider
    demanded; then ``stream`` and ``account`` are empty. Or, of a whole stream, ``restated``: in the last 24 hours the
    provider restated rows or sums of a month that is over; ``new``: the last run met members that no column holds, and
    that no run met a week ago. ``count``: of partitions, or of records, values, members.
    ``last_read``: the last good reading of these partitions, or the last good run.
    ``members``: the names of the new members.
    """

    source: str
    stream: str = ""
    account: Mapping[str, str] = field(factory=dict)
    kind: ProblemKind
    count: int
    first_day: date | None = None
    last_day: date | None = None
    last_read: datetime | None
    reason: str
    members: tuple[str, ...] = field(default=(), repr=False)


@frozen(kw_only=True)
class TargetStatus:
    """
    The content of one target's ledger. ``error``: the reason why it could not be read. ``keeps_ledger``: false for a
    single file, of which nothing is known.
    """

    target: str
    sources: tuple[SourceStatus, ...]
    problems: tuple[Problem, ...] = ()
    error: str | None = None
    keeps_ledger: bool = True


@frozen(kw_only=True)
class StatusResult(Result):
    """``exit_code``: 1 where a target cannot be read, or an account is older than ``max_age_s``; else 0."""

    targets: tuple[TargetStatus, ...]


@frozen(kw_only=True)
class Total:
    """
    Rows and the sums of all measures of one account in one period: ``2026-10``, ``2026-10-31``, or empty.

    ``days``: the delivered days of the period. A month is whole if it has all of them and none is ``open``: those that
    the provider may still change, or whose last try failed, are counted.
    """

    target: str
    source: str
    stream: str
    account: Mapping[str, str]
    period: str
    days: int
    open: int
    rows: int
    sums: Mapping[str, Decimal]


@frozen(kw_only=True)
class TotalsResult(Result):
    """Totals ordered by target, source, stream, account and period."""

    totals: tuple[Total, ...]


@frozen(kw_only=True)
class PartitionStatus:
    """
    The ledger's row of one partition. ``account`` is empty for a stream without accounts, ``day`` None for a stream
    that is not divided by days.

    ``standing``: "failed" (its last try; rows and sums are those of the last good reading), "final" (read after it
    closed) or "open". ``read_at``, ``open_until``: aware; ``open_until`` None: it never closes. ``run_id``: of the last
    delivery, else of the last try. ``promised``: the number that the provider stated. ``derived_rows``: by stream.
    """

    target: str
    source: str
    stream: str
    account: Mapping[str, str]
    day: date | None
    standing: Standing
    run_id: str
    read_at: datetime | None
    open_until: datetime | None
    rows: int
    promised: int | None
    rejected: int
    unread_values: int
    repeated: int
    truncated: bool
    attempts: int
    error: str | None
    sums: Mapping[str, Decimal]
    derived_rows: Mapping[str, int]


@frozen(kw_only=True)
class PartitionsResult(Result):
    """Partitions ordered by target, source, stream, account and day."""

    partitions: tuple[PartitionStatus, ...]


@frozen(kw_only=True)
class Forgotten:
    """
    What one target forgot of a stream: the readings of ``partitions``; or, of erased personal columns, the values of
    ``columns`` in ``rows`` of them. ``left``: partitions that could not be erased.
    """

    target: str
    stream: str
    partitions: int
    rows: int = 0
    columns: tuple[str, ...] = ()
    left: int = 0


@frozen(kw_only=True)
class ForgetResult(Result):
    targets: tuple[Forgotten, ...]


@frozen(kw_only=True)
class DifferenceInfo:
    """
    A partition whose content in a target differs from its ledger row.

    ``repair``: "marked" (the next run reads it again), "possible" (it could be), "uncounted" (rows or files that are of
    no delivery in the ledger: its days were forgotten, or another program wrote it), or why it cannot be read again.
    """

    target: str
    source: str
    stream: str
    partition: Mapping[str, str]
    what: str
    repair: str


@frozen(kw_only=True)
class Deleted:
    """A partition whose ``rows`` were deleted by ``forget``, and that was not read again since."""

    target: str
    source: str
    stream: str
    partition: Mapping[str, str]
    rows: int
    deleted_at: datetime


@frozen(kw_only=True)
class VerifyResult(Result):
    """
    ``partitions``: how many delivered partitions were compared. ``deleted``: what was deleted on purpose; it is no
    difference. ``exit_code``: 1 where any differs.
    """

    partitions: int
    differences: tuple[DifferenceInfo, ...]
    deleted: tuple[Deleted, ...] = ()


@frozen(kw_only=True)
class Adopted:
    """
    A table that was, or could be, adopted as the place of a stream: its rows, and those that the ledger counts in it,
    of how many partitions. ``differences``: how the partitions differ; then nothing was changed.
    """

    target: str
    source: str
    stream: str
    place: str
    rows: int
    partitions: int
    delivered: int
    differences: tuple[str, ...]
    adopted: bool


@frozen(kw_only=True)
class AdoptResult(Result):
    """
    The tables that were, or could be, adopted. ``refused``: by table, why it cannot be. ``exit_code``: 2 where any is
    refused, 1 where any has differences.
    """

    tables: tuple[Adopted, ...]
    refused: Mapping[str, str]


@frozen(kw_only=True)
class RejectedRecord:
    """A rejected record: its path in the page, the reason, and its JSON with secrets masked."""

    target: str
    source: str
    stream: str
    partition: Mapping[str, str]
    path: str
    reason: str
    raw: str


@frozen(kw_only=True)
class RejectedResult(Result):
    rejected: tuple[RejectedRecord, ...]


@frozen(kw_only=True)
class RunsResult(Result):
    """Runs of one or several sources, newest first."""

    runs: tuple[RunInfo, ...]


@frozen(kw_only=True)
class Change:
    """
    A change to a delivered partition: its rows, and the sum of each measure that differs, before the first and after
    the last of ``runs``. ``day`` None: the stream is not divided by days.
    """

    target: str
    source: str
    stream: str
    account: Mapping[str, str]
    day: date | None
    rows_before: int
    rows_after: int
    sums: Mapping[str, tuple[Decimal, Decimal]]
    runs: tuple[str, ...]
    changed_at: datetime

    @property
    def moved(self) -> bool:
        """Whether the number of rows or a sum is another one; else only other values of the rows changed."""
        return self.rows_before != self.rows_after or any(before != after for before, after in self.sums.values())


@frozen(kw_only=True)
class ChangesResult(Result):
    changes: tuple[Change, ...]


@frozen(kw_only=True)
class ActResult(Result):
    """
    The result of an action. ``counts``: rows by status (``done``, ``partial``, ``refused``, ``unknown``), without the
    ``not_sent``, which ``error`` prevented. ``receipts``: those of all rows in their order, those not sent included; in
    a dry run, those of the rows that would be refused.

    ``requests``: those that a dry run would send, secrets masked; each a mapping with ``rows`` (their numbers),
    ``request``, ``headers`` and ``body``.

    ``exit_code``: 0 where every row is done, 1 where one is not; else that of ``error``.
    """

    counts: Mapping[str, int]
    not_sent: int = 0
    error: PenstockError | None = None
    receipts: tuple[Receipt, ...] = ()
    requests: tuple[Mapping[str, Any], ...] = ()

    @property
    def summary(self) -> str:
        """``2 done, 1 refused``"""
        counted = [f"{count} {status}" for status, count in self.counts.items() if count]
        counted += [f"{self.not_sent} not sent"] if self.not_sent else []
        return ", ".join(counted) or "no rows"


def by_reason(problems: Iterable[Problem]) -> list[list[Problem]]:
    """The problems in groups, each of one source, kind and reason."""
    groups: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.source, problem.kind, problem.reason), []).append(problem)
    return list(groups.values())


# --- changes, joined and summed up ------------------------------------------------------------------------------------


def joined(first: Change, last: Change) -> Change:
    """Two changes of one partition as one: before the first, after the last."""
    sums = {
        name: (
            first.sums[name][0] if name in first.sums else last.sums[name][0],
            last.sums[name][1] if name in last.sums else first.sums[name][1],
        )
        for name in dict.fromkeys((*first.sums, *last.sums))
    }
    return evolve(last, rows_before=first.rows_before, sums=sums, runs=(*first.runs, *last.runs))


def moved_sums(changes: Iterable[Change]) -> dict[str, tuple[Decimal, Decimal]]:
    """Each measure that moved, summed up over the changes in which it did: before and after."""
    sums: dict[str, tuple[Decimal, Decimal]] = {}
    with localcontext(prec=1000):
        for change in changes:
            for name, (before, after) in change.sums.items():
                total = sums.get(name, (Decimal(0), Decimal(0)))
                sums[name] = (total[0] + before, total[1] + after)
    return sums


def moved_in_words(changes: Sequence[Change]) -> list[str]:
    """The number of rows, if it moved, and each measure that did: ``clicks 3 -> 4``."""
    before, after = sum(change.rows_before for change in changes), sum(change.rows_after for change in changes)
    rows = {} if before == after else {"rows": (before, after)}
    return [f"{what} {old} -> {new}" for what, (old, new) in {**rows, **moved_sums(changes)}.items()]
