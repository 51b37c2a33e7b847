"""
The content of the targets' ledgers: state of each account, totals, partitions, changes, records set aside.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from typing import Any, TypeVar

from attrs import define, evolve, field, frozen

from penstock._config import ConfiguredSink
from penstock._config.source import ConfiguredSource
from penstock._plan.planner import read_by, zone_memory, zone_of
from penstock._plan.selection import matches
from penstock._util.text import counted, without_place
from penstock.errors import PenstockError, UsageError
from penstock.ledger.sql import RUNS_KEPT
from penstock.model import Partition
from penstock.names import did_you_mean
from penstock.project.jobs import requests_of_month
from penstock.project.results import (
    AccountStatus,
    Change,
    PartitionStatus,
    Problem,
    RejectedRecord,
    RunInfo,
    SourceStatus,
    Total,
)
from penstock.project.setup import Notice, Setup
from penstock.sinks import AccountCounts, Ledger, LedgerEntry, RunRecord

RUNS_SHOWN = 5
NEWS = timedelta(hours=24)
NEW_MEMBERS = timedelta(days=7)  # for so long a member without a column is new

_T = TypeVar("_T")


@frozen(kw_only=True)
class Viewed:
    """A target to read, and the sources to show; None: all in its ledger."""

    sink: ConfiguredSink
    sources: tuple[str, ...] | None


def targets(
    setup: Setup, name: str | None, to: str | None, notice: Notice, *, used_by_source: bool = False
) -> list[Viewed]:
    """
    The targets of a pipeline or a source: ``to``, else those last used, else those of the pipelines.

    ``used_by_source``: ``name`` is a source, never a pipeline. Raises UsageError where there is none.
    """
    config = setup.config
    sources: tuple[str, ...] | None = None if name is None else (name,)
    if name is not None and name in config.pipelines and not used_by_source:
        pipeline = config.pipeline(name)
        sources, to = pipeline.source, to or pipeline.sink
    if to is not None:
        texts: dict[str, tuple[str, ...] | None] = {to: sources}
    else:
        texts = dict(setup.history.targets(sources))
        for pipeline in () if texts else config.pipelines.values():
            if sources is None or set(sources) & set(pipeline.source):
                texts[pipeline.sink] = sources
    if not texts:
        known = [*config.sources, *(() if used_by_source else config.pipelines)]
        if name is not None and name not in known:
            made = [source for source in config.sources if config.connector_of(source) == name]
            if made:
                raise UsageError(f"{name} is a connector; name a source of it: {' or '.join(made)}")
            if name not in setup.registry.connectors():
                meant = did_you_mean(name, known)
                raise UsageError(f"no source or pipeline {name!r} is known here.{meant}".rstrip("."))
        whose = f" for {name}" if name is not None else ""
        raise UsageError(f"no target was used{whose} from this configuration yet; name one with --to{config.absent}")
    found: list[Viewed] = []
    for text, shown in texts.items():
        sink = config.sink_for(text, setup.registry)
        for one in sink.notices:
            notice(one)
        found.append(Viewed(sink=sink, sources=shown))
    return found


@contextmanager
def ledgers(viewed: Viewed) -> Iterator[list[tuple[str, Ledger]]]:
    """(source, ledger) for each source to show that the target has, read-only; closed at the end."""
    sink = viewed.sink.open()
    sources = viewed.sources
    opened = []
    try:
        found: list[tuple[str, Ledger]] = []
        for name in sources if sources is not None else ("",):
            target = sink.open_readonly(name)
            if target is None:
                continue
            opened.append(target)
            if target.ledger is None:
                continue
            known = dict.fromkeys(source for source, _ in target.ledger.sources())
            if name and name not in known and target.ledger.runs(name, 1):
                known[name] = None  # it ran without a delivery
            found += [(source, target.ledger) for source in known if sources is None or source == name]
        yield found
    finally:
        for target in opened:
            target.close()


@define
class View:
    """
    Targets opened for reading, one after the other: iterating yields the name of each with its (source, ledger) pairs.

    Of several targets, one that cannot be read is left out: ``failed`` holds its error, ``exit_code`` is 1, and a
    notice names it. A single one raises.
    """

    targets: list[Viewed]
    notices: list[str]
    failed: dict[str, str] = field(factory=dict, init=False)

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0

    def each(self, found: Callable[[Ledger, str, str], Iterable[_T]]) -> tuple[_T, ...]:
        """What ``found(ledger, source, target)`` gives for every source of every target, in their order."""
        return tuple(
            one for target, opened in self for source, ledger in opened for one in found(ledger, source, target)
        )

    def __iter__(self) -> Iterator[tuple[str, list[tuple[str, Ledger]]]]:
        for viewed in self.targets:
            name = viewed.sink.shown
            with ExitStack() as stack:
                try:
                    opened = stack.enter_context(ledgers(viewed))
                except PenstockError as error:
                    if len(self.targets) == 1:
                        raise
                    self.failed[name] = str(error)
                    self.notices.append(f"the target {name} cannot be read: {error}")
                    continue
                yield name, opened


# --- status -----------------------------------------------------------------------------------------------------------


def source_status(
    setup: Setup,
    ledger: Ledger,
    source: str,
    target: str,
    now: datetime,
    *,
    accounts: Sequence[str] = (),
    max_age_s: float | None,
) -> SourceStatus:
    """The state of a source in one target. ``accounts``: patterns; empty: all."""
    configured = _configured(setup, source)
    zones, known = _zones(setup, ledger, source), _configured_accounts(configured, ledger)
    counts, runs = ledger.counts(source), ledger.runs(source, RUNS_KEPT)
    return SourceStatus(
        source=source,
        streams=tuple(
            _account_status(one, now, zones, known.get(one.stream), max_age_s)
            for one in counts
            if holds(accounts, one.account.values())
        ),
        runs=tuple(run_info(run, target) for run in runs[:RUNS_SHOWN]),
        last_good=next((run.finished_at for run in runs if run.exit_code in (0, 5)), None),
        requests_this_month=requests_of_month(runs, now),
        requests_per_month=None if configured is None else configured.settings.requests_per_month,
        changed=_changed(configured, ledger, {one.stream for one in counts if one.rejected or one.unread_values}),
    )


def holds(patterns: Sequence[str], values: Iterable[str]) -> bool:
    """Whether one of these values of an account matches a pattern; without patterns, always."""
    return not patterns or any(matches(value, patterns) for value in values)


def _configured(setup: Setup, source: str) -> ConfiguredSource | None:
    """The source as configured; None for one that was removed, or whose secret is not here."""
    try:
        return setup.source(source)
    except PenstockError:
        return None


def _changed(configured: ConfiguredSource | None, ledger: Ledger, unread: Collection[str]) -> dict[str, int]:
    """
    By stream, the partitions of which something could not be read, and which are read in another way today.

    ``unread``: the streams that have such partitions; the ledger is queried for these only.
    """
    if configured is None:
        return {}
    counts = {
        stream.name: ledger.read_otherwise(configured.name, stream.name, read_by(configured, stream))
        for stream in configured.streams
        if stream.name in unread
    }
    return {name: count for name, count in counts.items() if count}


def _configured_accounts(configured: ConfiguredSource | None, ledger: Ledger) -> dict[str, frozenset[str]]:
    """The accounts of each stream, configured or listed by the provider, where they are known."""
    if configured is None:
        return {}
    found: dict[str, frozenset[str]] = {}
    for stream in configured.streams:
        accounts = configured.accounts_of(stream)
        if accounts is None and stream.accounts_from is not None:
            accounts = ledger.accounts(configured.name, stream.accounts_from[0]) or None
        if stream.account is not None and accounts is not None:
            found[stream.name] = frozenset(accounts)
    return found


def _zones(setup: Setup, ledger: Ledger, source: str) -> dict[str, str]:
    """The time zones of accounts that have their own: those that the provider listed, and those of the tables."""
    try:
        streams = setup.registry.streams(setup.config.connector_of(source))
    except PenstockError:  # the ledger may have sources whose connector is not installed any more
        streams = ()
    zones: dict[str, str] = {}
    for stream in streams:
        if stream.zone_from is not None:
            zones.update(map(zone_of, ledger.accounts(source, zone_memory(stream))))
    return zones | setup.config.account_zones(source)


def _account_status(
    counts: AccountCounts,
    now: datetime,
    zones: Mapping[str, str],
    known: frozenset[str] | None,
    max_age_s: float | None,
) -> AccountStatus:
    configured = None if known is None or not counts.account else bool(known.intersection(counts.account.values()))
    age_s = int((now - counts.last_read).total_seconds()) if counts.last_read else None
    late = max_age_s is not None and (age_s is None or age_s > max_age_s)
    return AccountStatus(
        stream=counts.stream,
        account=counts.account,
        first_day=counts.first_day,
        last_day=counts.last_day,
        final=counts.final,
        open=counts.open,
        missing=counts.missing,
        failed=counts.failed,
        rows=counts.rows,
        rejected=counts.rejected,
        unread_values=counts.unread_values,
        truncated=counts.truncated,
        last_read=counts.last_read,
        age_s=age_s,
        configured=configured,
        overdue=late and configured is not False,
        error=counts.last_error,
        timezone=next((zones[one] for one in counts.account.values() if one in zones), None),
    )


def run_info(run: RunRecord, target: str) -> RunInfo:
    streams = run.report.get("streams", {}).values()
    return RunInfo(
        run_id=run.run_id,
        source=run.source,
        started_at=run.started_at,
        target=target,
        finished_at=run.finished_at,
        exit_code=run.exit_code,
        records=sum(one.get("records", 0) for one in streams),
        rejected=sum(one.get("rejected", 0) for one in streams),
        requests=run.requests,
        failed=sum(one.get("partitions", {}).get("failed", 0) for one in streams),
        report=run.report,
    )


# --- problems ---------------------------------------------------------------------------------------------------------


def problems_of(ledger: Ledger, status: SourceStatus, target: str, now: datetime) -> list[Problem]:
    """
    The problems of a source: a pause, failed partitions by reason, gaps, records set aside, accounts not read, months
    that are over and were restated, new members.
    """
    allowed = status.requests_per_month
    found = [
        Problem(
            source=status.source,
            kind="quota",
            count=1,
            last_read=status.last_good,
            reason=f"{status.requests_this_month:,} requests this month, and requests_per_month is {allowed:,}",
        )
        for _ in range(allowed is not None and status.requests_this_month > allowed)
    ]
    found += [
        Problem(source=status.source, kind="parked", count=1, last_read=status.last_good, reason=reason)
        for run in status.runs[:1]
        for reason in run.report.get("parked", {}).values()
    ]
    for one in status.streams:

        def problem(kind: str, count: int, reason: str, one: AccountStatus = one) -> Problem:
            return Problem(
                source=status.source,
                stream=one.stream,
                account=one.account,
                kind=kind,
                count=count,
                first_day=one.first_day,
                last_day=one.last_day,
                last_read=one.last_read,
                reason=reason,
            )

        if one.overdue:
            found.append(problem("overdue", 1, "not read for longer than allowed"))
        if one.missing:
            found.append(problem("missing", one.missing, "days between the first and the last were never delivered"))
        if one.failed or one.rejected or one.unread_values or one.truncated:
            accounts = list(one.account.values()) or None
            entries = ledger.entries(status.source, one.stream, accounts=accounts)
            own = [entry for partition, entry in entries.items() if dict(account_of(partition)) == one.account]
            found += [
                evolve(problem(kind, sum(map(_COUNTED[kind], several)), reason), **_span(several))
                for (kind, reason), several in _by_reason(own).items()
            ]
    return [*found, *_restated_months(ledger, status, target, now), *_new_members(ledger, status, now)]


def _restated_months(ledger: Ledger, status: SourceStatus, target: str, now: datetime) -> Iterator[Problem]:
    """
    By stream and month, what the provider changed in the last :data:`NEWS` in months that are over: they may have been
    invoiced. Changes that move neither rows nor sums are left out.
    """
    since = now - NEWS
    groups: dict[tuple[str, str], list[Change]] = {}
    for one in changes_of(ledger, status.source, target, since.date(), merged=True):
        over = one.day is not None and (one.day.year, one.day.month) < (now.year, now.month)
        if over and one.changed_at >= since and one.moved:
            groups.setdefault((one.stream, f"{one.day:%Y-%m}"), []).append(one)
    for (stream, month), changes in groups.items():
        days = [one.day for one in changes if one.day is not None]
        accounts = len({tuple(one.account.items()) for one in changes})
        moves = ", ".join(f"{what} {before} -> {after}" for what, (before, after) in moved_sums(changes).items())
        yield Problem(
            source=status.source,
            stream=stream,
            kind="restated",
            count=len(changes),
            first_day=min(days),
            last_day=max(days),
            last_read=max(one.changed_at for one in changes),
            reason=f"{month} is over, and the provider changed it: {counted(accounts, 'account')}, {moves}",
        )


def moved_sums(changes: Iterable[Change]) -> dict[str, tuple[Decimal | int, Decimal | int]]:
    """The rows and each measure that moved, summed up over the changes in which it did: before and after."""
    rows: tuple[int, int] = (0, 0)
    sums: dict[str, tuple[Decimal, Decimal]] = {}
    with localcontext(prec=1000):
        for one in changes:
            rows = (rows[0] + one.rows_before, rows[1] + one.rows_after)
            for name, (before, after) in one.sums.items():
                known = sums.get(name, (Decimal(0), Decimal(0)))
                sums[name] = (known[0] + before, known[1] + after)
    return {"rows": rows, **sums} if rows[0] != rows[1] else {**sums}


def _new_members(ledger: Ledger, status: SourceStatus, now: datetime) -> Iterator[Problem]:
    """By stream, the members without a column of the last run that no run before the last :data:`NEW_MEMBERS` met."""
    last = members_of(run.report for run in status.runs[:1])
    if not last:
        return
    former = members_of(
        run.report for run in ledger.runs(status.source, RUNS_KEPT) if run.started_at < now - NEW_MEMBERS
    )
    for stream, members in last.items():
        if new := [one for one in members if one not in former.get(stream, ())]:
            yield Problem(
                source=status.source,
                stream=stream,
                kind="new",
                count=len(new),
                last_read=status.runs[0].started_at,
                reason=f"no column holds the {'member' if len(new) == 1 else 'members'} {', '.join(new)}",
            )


def members_of(reports: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """By stream, the members that no record class declares, as the reports of runs name them."""
    found: dict[str, dict[str, None]] = {}
    for report in reports:
        for stream, counts in report.get("streams", {}).items():
            for member in counts.get("unknown_members") or ():
                found.setdefault(stream, {})[member] = None
    return {stream: list(members) for stream, members in found.items()}


_COUNTED: Mapping[str, Callable[[LedgerEntry], int]] = {
    "failed": lambda entry: 1,
    "set aside": lambda entry: entry.rejected,
    "not read": lambda entry: entry.unread_values,
    "truncated": lambda entry: 1,
}


def _by_reason(entries: Iterable[LedgerEntry]) -> dict[tuple[str, str], list[LedgerEntry]]:
    """The entries that have a problem, by kind and reason."""
    found: dict[tuple[str, str], list[LedgerEntry]] = {}
    for entry in entries:
        if entry.error is not None:
            found.setdefault(("failed", without_place(entry.error)), []).append(entry)
        if entry.rejected:
            found.setdefault(("set aside", "records that cannot be decoded"), []).append(entry)
        if entry.unread_values:
            found.setdefault(("not read", "values that do not fit their column"), []).append(entry)
        if entry.truncated:
            found.setdefault(("truncated", "the provider lists no more; there may be more records"), []).append(entry)
    return found


def _span(entries: Sequence[LedgerEntry]) -> dict[str, Any]:
    """The days and the last reading of some entries, as fields of a problem."""
    days = [day for entry in entries if (day := day_of(entry.partition)) is not None]
    read = max((entry.read_at for entry in entries if entry.read_at), default=None)
    return {"first_day": min(days, default=None), "last_day": max(days, default=None), "last_read": read}


# --- totals -----------------------------------------------------------------------------------------------------------


def totals_of(ledger: Ledger, source: str, target: str, days: "Days", *, daily: bool) -> list[Total]:
    """Rows and sums of a source's accounts in one target, per month or per day."""
    found: dict[tuple[str, tuple[tuple[str, str], ...], str], list[LedgerEntry]] = {}
    for stream in sorted(name for owner, name in ledger.sources() if owner == source):
        entries = ledger.entries(source, stream, since=days.since, until=days.until)
        for partition, entry in sorted(entries.items()):
            account, day = account_of(partition), day_of(partition)
            if entry.delivered and days.holds(partition):
                period = "" if day is None else day.isoformat() if daily else f"{day:%Y-%m}"
                found.setdefault((stream, account, period), []).append(entry)
    return [
        Total(
            target=target,
            source=source,
            stream=stream,
            account=dict(account),
            period=period,
            rows=sum(entry.rows for entry in entries),
            sums=_added(entry.sums for entry in entries),
        )
        for (stream, account, period), entries in found.items()
    ]


def _added(several: Iterable[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    """The sums of each column, exact to 1000 digits."""
    total: dict[str, Decimal] = {}
    with localcontext(prec=1000):
        for sums in several:
            for name, amount in sums.items():
                total[name] = total.get(name, Decimal(0)) + amount
    return total


# --- partitions -------------------------------------------------------------------------------------------------------


def day_of(partition: Partition) -> date | None:
    """The day of a partition that has one: its last value, as ``YYYY-MM-DD``."""
    if partition.values and re.fullmatch(r"\d{4}-\d\d-\d\d", partition.values[-1][1]):
        return date.fromisoformat(partition.values[-1][1])
    return None


def account_of(partition: Partition) -> tuple[tuple[str, str], ...]:
    """The columns and values of a partition without its day."""
    return partition.values if day_of(partition) is None else partition.values[:-1]


def partitions_of(ledger: Ledger, source: str, target: str, days: "Days") -> Iterator[PartitionStatus]:
    """The rows of a source's partitions in one target, ordered by stream, account and day."""
    for stream in sorted(name for owner, name in ledger.sources() if owner == source):
        entries = ledger.entries(source, stream, since=days.since, until=days.until)
        for partition, entry in sorted(entries.items(), key=lambda item: item[0].values):
            account = account_of(partition)
            if days.holds(partition):
                yield PartitionStatus(
                    target=target,
                    source=source,
                    stream=stream,
                    account=dict(account),
                    day=day_of(partition),
                    standing=_standing(entry),
                    run_id=entry.run_id,
                    read_at=entry.read_at,
                    open_until=entry.open_until,
                    rows=entry.rows,
                    promised=entry.promised,
                    rejected=entry.rejected,
                    unread_values=entry.unread_values,
                    repeated=entry.repeated,
                    truncated=entry.truncated,
                    attempts=entry.attempts,
                    error=entry.error,
                    sums=entry.sums,
                    derived_rows=entry.derived_rows,
                )


def _standing(entry: LedgerEntry) -> str:
    """As the ledger counts it for ``status``: final with whatever settings it was read."""
    if entry.error is not None:
        return "failed"
    return "final" if entry.final(entry.fingerprint) else "open"


# --- changes ----------------------------------------------------------------------------------------------------------


def changes_of(ledger: Ledger, source: str, target: str, since: date, *, merged: bool) -> list[Change]:
    """
    The changes that readings since that day (UTC) made to delivered partitions, ordered by stream, account and day;
    ``merged``: one per partition, and a partition that has its former rows and sums again is left out.
    """
    every: list[Change] = []
    found: dict[Partition, Change] = {}
    for one in ledger.restated(source, since=datetime.combine(since, time(), UTC)):
        change = Change(
            target=target,
            source=source,
            stream=one.partition.stream,
            account=dict(account_of(one.partition)),
            day=day_of(one.partition),
            rows_before=one.rows[0],
            rows_after=one.rows[1],
            sums=one.sums,
            runs=(one.run_id,),
            changed_at=one.restated_at,
        )
        every.append(change)
        found[one.partition] = _merged(found[one.partition], change) if one.partition in found else change
    if not merged:
        return sorted(every, key=lambda one: (one.stream, *one.account.values(), one.day or date.min, one.changed_at))
    return [found[partition] for partition in sorted(found) if _differs(found[partition])]


def _merged(first: Change, last: Change) -> Change:
    """Two changes of one partition as one: before the first, after the last."""
    sums = {
        name: (
            first.sums[name][0] if name in first.sums else last.sums[name][0],
            last.sums[name][1] if name in last.sums else first.sums[name][1],
        )
        for name in dict.fromkeys((*first.sums, *last.sums))
    }
    return evolve(last, rows_before=first.rows_before, sums=sums, runs=(*first.runs, *last.runs))


def _differs(change: Change) -> bool:
    """Whether a change is shown: one reading without other rows or sums changed values; several may cancel out."""
    return change.moved or len(change.runs) == 1


# --- days and accounts ------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Days:
    """Days, both included, and patterns of accounts; None or empty: all."""

    since: date | None = None
    until: date | None = None
    accounts: Sequence[str] = ()

    def holds(self, partition: Partition) -> bool:
        """Whether a partition is of these days and accounts; one without a day is of any days."""
        day = day_of(partition)
        if day is not None and not (self.since or day) <= day <= (self.until or day):
            return False
        return holds(self.accounts, (value for _, value in account_of(partition)))


# --- rejected ---------------------------------------------------------------------------------------------------------


def rejected_records(ledger: Ledger, source: str, target: str, stream: str | None) -> list[RejectedRecord]:
    """The records of a source that were set aside in one target."""
    return [
        RejectedRecord(
            target=target,
            source=source,
            stream=one.stream,
            partition=entry.partition.as_dict(),
            path=one.path,
            reason=one.reason,
            raw=one.raw,
        )
        for entry, one in ledger.rejected(source, stream)
    ]
