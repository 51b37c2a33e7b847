"""
What the ledgers of the targets hold: how far each account got, runs, changes, records set aside; and forgetting.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, time

from attrs import evolve, frozen

from penstock._config import SinkChoice
from penstock._plan.planner import zone_memory, zone_of
from penstock._plan.selection import matches
from penstock._run.runner import run_id
from penstock._util.text import did_you_mean
from penstock.errors import PenstockError, UsageError
from penstock.model import Partition
from penstock.project.results import AccountStatus, Change, Forgotten, RejectedRecord, RunInfo, SourceStatus
from penstock.project.setup import Notice, Setup
from penstock.sinks import AccountCounts, Ledger, RunRecord

RUNS_SHOWN = 5


@frozen(kw_only=True)
class Viewed:
    """A target to look at, and the sources that are of interest; None: all that its ledger has."""

    choice: SinkChoice
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
        sources, to = pipeline.sources, to or pipeline.sink
    if to is not None:
        texts: dict[str, tuple[str, ...] | None] = {to: sources}
    else:
        texts = dict(setup.history.targets(sources))
        for pipeline in () if texts else config.pipelines.values():
            if sources is None or set(sources) & set(pipeline.sources):
                texts[pipeline.sink] = sources
    if not texts:
        known = [*config.sources, *(() if used_by_source else config.pipelines)]
        if name is not None and name not in known and name not in setup.registry.connectors():
            raise UsageError(f"no source or pipeline {name!r} is known here.{did_you_mean(name, known)}".rstrip("."))
        whose = f" for {name}" if name is not None else ""
        raise UsageError(f"no target was used{whose} from this configuration yet; name one with --to")
    found: list[Viewed] = []
    for text, wanted in texts.items():
        choice = config.sink_for(text, setup.registry)
        for one in choice.notices:
            notice(one)
        found.append(Viewed(choice=choice, sources=wanted))
    return found


@contextmanager
def ledgers(viewed: Viewed) -> Iterator[list[tuple[str, Ledger]]]:
    """(source, ledger) for the sources of interest that the target knows, for reading only; closed at the end."""
    sink = viewed.choice.kind.open(viewed.choice.settings)
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
                known[name] = None  # it ran, and delivered nothing
            found += [(source, target.ledger) for source in known if sources is None or source == name]
        yield found
    finally:
        for target in opened:
            target.close()


# --- status -----------------------------------------------------------------------------------------------------------


def source_status(setup: Setup, ledger: Ledger, source: str, now: datetime) -> SourceStatus:
    """How far a source got in one target."""
    zones = _zones(setup, ledger, source)
    return SourceStatus(
        source=source,
        streams=tuple(_account_status(one, now, zones) for one in ledger.counts(source)),
        runs=tuple(map(run_info, ledger.runs(source, RUNS_SHOWN))),
    )


def _zones(setup: Setup, ledger: Ledger, source: str) -> dict[str, str]:
    """The time zones of accounts that have their own: those that the provider listed, and those of the tables."""
    try:
        streams = setup.registry.streams(setup.config.connector_of(source))
    except PenstockError:  # the ledger also tells of sources whose connector is gone
        streams = ()
    zones: dict[str, str] = {}
    for stream in streams:
        if stream.zone_from is not None:
            zones.update(map(zone_of, ledger.accounts(source, zone_memory(stream))))
    return zones | setup.config.account_zones(source)


def _account_status(counts: AccountCounts, now: datetime, zones: Mapping[str, str]) -> AccountStatus:
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
        last_read=counts.last_read,
        age_s=int((now - counts.last_read).total_seconds()) if counts.last_read else None,
        error=counts.last_error,
        timezone=next((zones[one] for one in counts.account.values() if one in zones), None),
    )


def run_info(run: RunRecord) -> RunInfo:
    return RunInfo(
        run_id=run.run_id,
        source=run.source,
        started_at=run.started_at,
        finished_at=run.finished_at,
        exit_code=run.exit_code,
        records=sum(one.get("records", 0) for one in run.report.get("streams", {}).values()),
        report=run.report,
    )


def day_of(partition: Partition) -> date | None:
    """The day of a partition that has one: its last value, as ``YYYY-MM-DD``."""
    if partition.values and re.fullmatch(r"\d{4}-\d\d-\d\d", partition.values[-1][1]):
        return date.fromisoformat(partition.values[-1][1])
    return None


def account_of(partition: Partition) -> tuple[tuple[str, str], ...]:
    """The columns and values of a partition without its day."""
    return partition.values if day_of(partition) is None else partition.values[:-1]


# --- changes ----------------------------------------------------------------------------------------------------------


def changes_of(ledger: Ledger, source: str, target: str, since: date) -> list[Change]:
    """
    What the readings since that day (UTC) changed in partitions that had been delivered before; one per partition,
    ordered by stream, account and day. A partition that is back at its former rows and sums is left out.
    """
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
        found[one.partition] = _merged(found[one.partition], change) if one.partition in found else change
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
    """One reading that changed neither rows nor sums changed values; several may have come back to where they began."""
    moved = change.rows_before != change.rows_after or any(old != new for old, new in change.sums.values())
    return moved or len(change.runs) == 1


# --- forget -----------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Days:
    """Days, both included, and patterns of accounts; None or empty: all."""

    since: date | None = None
    until: date | None = None
    accounts: Sequence[str] = ()


def forget(setup: Setup, source: str, stream: str, to: str | None, days: Days, notice: Notice) -> list[Forgotten]:
    """
    Drop the readings of partitions from every target; what was delivered stays in place.

    Every target is locked and examined before anything is forgotten in one. Raises UsageError.
    """
    if days.since is not None and days.until is not None and days.since > days.until:
        raise UsageError(f"--since {days.since} is after --until {days.until}")
    with ExitStack() as opened:
        found: list[tuple[SinkChoice, Ledger]] = []
        for viewed in targets(setup, source, to, notice, used_by_source=True):
            choice = viewed.choice
            sink = choice.kind.open(choice.settings)
            if (view := sink.open_readonly(source)) is None:
                continue
            view.close()
            target = sink.open(source, run_id(datetime.now(UTC)))
            opened.callback(target.close)
            if target.ledger is None:
                raise UsageError(f"{choice.shown} keeps no ledger: every run reads everything anyway")
            found.append((choice, target.ledger))
        known = sorted({name for _, ledger in found for owner, name in ledger.sources() if owner == source})
        if not known:
            where = ", ".join(choice.shown for choice, _ in found)
            raise UsageError(f"nothing of {source} was delivered{' to ' if where else ''}{where} yet")
        if stream not in known:
            raise UsageError(
                f"no {source}.{stream} was delivered yet.{did_you_mean(stream, known)} There is {', '.join(known)}; a "
                "stream that travels with its parent is forgotten with it"
            )
        chosen = [(choice, ledger, _chosen(ledger, source, stream, days)) for choice, ledger in found]
        forgotten = []
        for choice, ledger, partitions in chosen:
            for report in ledger.pending(source, stream):
                if any(partition in partitions for partition in report.partitions):
                    ledger.drop(report)  # else the next run would adopt a report that was made before
            count = ledger.forget(source, partitions)
            forgotten.append(Forgotten(target=choice.shown, partitions=count))
        return forgotten


def _chosen(ledger: Ledger, source: str, stream: str, days: Days) -> list[Partition]:
    unbounded = days.since is None or days.until is None
    if unbounded and any(counts.first_day is not None for counts in ledger.counts(source, stream)):
        raise UsageError(f"{stream} is divided by days: say which, such as --since 2026-01-01 --until 2026-01-31")
    return [
        partition
        for partition in ledger.entries(source, stream, since=days.since, until=days.until)
        if not days.accounts or any(matches(value, days.accounts) for _, value in account_of(partition))
    ]


# --- rejected ---------------------------------------------------------------------------------------------------------


def rejected_records(viewed: Viewed, stream: str | None) -> list[RejectedRecord]:
    """The records set aside in one target."""
    with ledgers(viewed) as opened:
        return [
            RejectedRecord(
                target=viewed.choice.shown,
                source=source,
                stream=one.stream,
                partition=entry.partition.as_dict(),
                path=one.path,
                reason=one.reason,
                raw=one.raw,
            )
            for source, ledger in opened
            for entry, one in ledger.rejected(source, stream)
        ]
