"""
``forget``: drop readings, and delete rows that were delivered.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime

from attrs import evolve, frozen

from penstock._plan.selection import chosen_streams
from penstock._plan.window import check_order
from penstock._plugins.sink_calls import open_readonly, open_target
from penstock._project.setup import Setup
from penstock._project.status import is_gone
from penstock._project.target_query import Days, SourceLedger, TargetQuery, nothing_of
from penstock._read.components import components_of
from penstock._run.commit import GROUP_PARTITIONS
from penstock._run.context import new_run_id
from penstock.errors import LockHeldError, PluginError, TargetError, UsageError
from penstock.ledger import FORGET_PREFIX, windows_of_rows
from penstock.ledger_interface import LedgerEntry, Restatement
from penstock.model import Kind, Partition
from penstock.names import did_you_mean
from penstock.results import ForgetResult, Forgotten
from penstock.sinks import Layout, Target, Verifiable

# --- locked targets, for erase, too -----------------------------------------------------------------------------------


@frozen
class LockedTarget(SourceLedger):
    """A target, opened and locked for a source by ``run_id``."""

    run_id: str
    target: Target


@contextmanager
def locked_targets(query: TargetQuery, source: str) -> Iterator[list[LockedTarget]]:
    """
    The targets of a source that were written, each locked. A target without a ledger is left: a notice, or a UsageError
    if there is no other one. A target that has two names is opened once.
    """
    add_notice = query.notices.add
    with ExitStack() as stack:
        targets: list[LockedTarget] = []
        without_ledger: list[str] = []
        for selected in query.targets:
            target_name, sink = selected.sink.name, selected.sink.open()
            if not selected.keeps_ledger:
                without_ledger.append(target_name)
                continue
            with query.leaving_out(selected):
                if (former := open_readonly(sink, source)) is None:
                    continue
                former.close()
                own_id = new_run_id(query.clock.now())
                try:
                    target = open_target(sink, sink.open, source, own_id)
                except LockHeldError as error:
                    same = next((locked for locked in targets if locked.run_id == error.run_id), None)
                    if same is None:
                        raise
                    add_notice(f"{target_name} and {same.target_name} are one target: it was changed once")
                    continue
                stack.callback(target.close)
                add_notice(*target.notices)
                if target.ledger is None:
                    raise PluginError(f"{type(sink).__name__}.keeps_ledger is true, and its target has no ledger")
                targets.append(LockedTarget(target_name, source, target.ledger, own_id, target))
        if query.failed and not targets:
            raise TargetError(f"none of the targets of {source} can be used: {'; '.join(query.failed)}")
        for target_name in without_ledger:
            text = f"{target_name} keeps no ledger: the next run reads everything, and writes it anew"
            if not targets:
                raise UsageError(text)
            add_notice(f"{text}. It was left as it is")
        yield targets


def delivered_streams(targets: Sequence[LockedTarget], source: str, stream: str | None) -> list[str]:
    """The streams with a row in a ledger; ``stream``: this one only. Raises UsageError where there is none."""
    streams = sorted({name for locked in targets for name in locked.streams})
    if not streams:
        where = ", ".join(locked.target_name for locked in targets)
        raise UsageError(f"nothing of {source} was delivered{' to ' if where else ''}{where} yet")
    if stream is not None and stream not in streams:
        raise UsageError(
            f"no {source}.{stream} was delivered yet.{did_you_mean(stream, streams)} There is {', '.join(streams)}; a "
            "derived stream is forgotten with its parent"
        )
    return streams if stream is None else [stream]


# --- forget -----------------------------------------------------------------------------------------------------------


def forget(
    query: TargetQuery, source: str, stream: str | None, days: Days, *, rows: bool, dry_run: bool
) -> ForgetResult:
    """
    Drop the readings of partitions from every target; what was delivered stays in place, unless ``rows``. ``stream``
    None: of all delivered streams; those that cannot be chosen so are left, with a notice.

    Every target is locked and examined before anything is forgotten in one. Raises UsageError.
    """
    named_layouts = {stream: _layouts(query, source, stream)} if rows and stream is not None else {}
    check_order(days.since, days.until)
    with locked_targets(query, source) as targets:
        for locked in targets:
            query.add_known(locked)
        layouts: Mapping[str, Sequence[Layout] | None]  # of each stream whose rows are deleted
        if rows:
            _check_deletes_rows(targets)
            _check_is_configured(query.setup, source)
            layouts = named_layouts or _all_layouts(query, source, _all_streams(query, source, targets, days))
        elif stream is None:
            layouts = dict.fromkeys(_all_streams(query, source, targets, days))
        else:
            layouts = dict.fromkeys(delivered_streams(targets, source, stream))
        chosen = [(locked, name, _chosen(locked, name, days, layouts[name])) for name in layouts for locked in targets]
        if named_layouts and not any(partitions for _, _, partitions in chosen):
            delivered_streams(targets, source, stream)
        for locked, name, partitions in chosen if not dry_run else ():
            if deleted_from := layouts[name]:
                _delete_rows(locked, partitions, deleted_from, days, query.clock.now())
            locked.mark_missing(name, partitions)
        counts = [
            Forgotten(target=locked.target_name, stream=name, partitions=len(partitions))
            for locked, name, partitions in chosen
        ]
        return ForgetResult(targets=tuple(counts))


def _check_deletes_rows(targets: Sequence[LockedTarget]) -> None:
    for locked in targets:
        if not locked.target.deletes_rows:
            raise UsageError(
                f"{locked.target_name}: penstock cannot delete rows there. Delete them with the means of that place; "
                "without --rows, the days are read again"
            )


def _check_is_configured(setup: Setup, source: str) -> None:
    """Raises UsageError for a source that cannot be used, else each of its streams would be left with a notice."""
    if is_gone(setup, source):
        raise UsageError(
            f"{setup.config.where} has no [source.{source}] any more, by which penstock knows the columns of its rows. "
            "Restore the section, delete the rows, then remove it; or delete them in the target by its own means"
        )
    setup.source(source)


def _all_streams(query: TargetQuery, source: str, targets: Sequence[LockedTarget], days: Days) -> list[str]:
    """The delivered streams; if days are chosen, those that have days: a snapshot must not go with them."""
    names = delivered_streams(targets, source, None)
    if days.since is None and days.until is None:
        return names
    dated = {
        counts.stream for locked in targets for counts in locked.ledger.counts(source) if counts.first_day is not None
    }
    for name in names:
        if name not in dated:
            query.notices.add(f"left as it is: {source}.{name} is not divided by days")
    return [name for name in names if name in dated]


def _all_layouts(query: TargetQuery, source: str, streams: Sequence[str]) -> dict[str, Sequence[Layout]]:
    """The layouts of the streams whose rows can be deleted; the others are left, with a notice."""
    layouts: dict[str, Sequence[Layout]] = {}
    for name in streams:
        try:
            layouts[name] = _layouts(query, source, name)
        except UsageError as error:
            query.notices.add(f"left as it is: {error}")
    return layouts


def _layouts(query: TargetQuery, source: str, stream: str) -> tuple[Layout, ...]:
    """The layouts of a stream whose rows can be deleted. Raises UsageError for one that is merged by key."""
    configured = query.setup.source(source, query.notices.add)
    chosen_streams(configured, [stream])  # raises for an unknown one
    declared = configured.stream(stream)
    if declared.kind == "changes" or declared.derived is not None:
        carrier = stream if declared.derived is None else declared.derived.stream
        raise UsageError(
            f"{source}.{stream}: its rows are merged by key, so that those of some days or accounts cannot be deleted "
            "here. Delete them in the target by its own means. "
            f"`penstock forget {source} {carrier} --since DAY --until DAY` lets the next run read days again"
        )
    return components_of(configured, declared, ()).row_builder.layouts


def _delete_rows(
    locked: LockedTarget, partitions: Sequence[Partition], layouts: Sequence[Layout], days: Days, now: datetime
) -> None:
    """
    Replace each partition by no rows, as a reading without records would. The rows of the ledger are read some days at
    a time. Raises the first error.
    """
    stream, own_id = layouts[0].stream, f"{FORGET_PREFIX}{new_run_id(now)}"
    ordered, start = sorted(partitions, key=_day), 0
    for since, until in windows_of_rows(locked.ledger, locked.source, stream, days.since, days.until):
        end = bisect_right(ordered, until or date.max, key=_day)
        entries = locked.entries(stream, evolve(days, since=since, until=until)) if start < end else {}
        for first in range(start, end, GROUP_PARTITIONS):
            commits = [
                (
                    locked.target.begin(layouts, partition),
                    _empty(locked.source, partition, layouts[0].kind, entries.get(partition), own_id, now),
                )
                for partition in ordered[first : min(end, first + GROUP_PARTITIONS)]
            ]
            for done in locked.target.commit_group(commits):
                if isinstance(done, Exception):
                    raise done
        start = end
    locked.target.finish(stream)


def _day(partition: Partition) -> date:
    return partition.day or date.min


def _empty(
    source: str, partition: Partition, kind: Kind, former: LedgerEntry | None, own_id: str, now: datetime
) -> LedgerEntry:
    """A delivery without rows in place of ``former``."""
    return LedgerEntry(
        source=source,
        partition=partition,
        state="delivered",
        run_id=own_id,
        read_at=now,
        version=former.version if former is not None else 0,
        kind=kind,
        replaces=former,
    )


def deletions(source_ledger: SourceLedger, days: Days) -> dict[Partition, Restatement]:
    """
    The partitions of a window whose rows ``forget`` deleted, and that were not read again: each with what it changed.
    """
    by_partition = {
        change.partition: change
        for change in source_ledger.ledger.restated(source_ledger.source, runs=FORGET_PREFIX)
        if days.contains(change.partition)
    }
    for stream in {partition.stream for partition in by_partition}:
        dates = [day for partition in by_partition if partition.stream == stream and (day := partition.day) is not None]
        of_deletions = evolve(days, since=min(dates, default=days.since), until=max(dates, default=days.until))
        for entry in source_ledger.delivered(stream, of_deletions):
            by_partition.pop(entry.partition, None)
    return by_partition


def _has_days(locked: LockedTarget, stream: str, deleted_from: Sequence[Layout] | None) -> bool:
    """Whether a stream is divided by days, by its rows in the ledger or by its declaration."""
    if deleted_from and deleted_from[0].day_column is not None:
        return True
    return any(counts.first_day is not None for counts in locked.ledger.counts(locked.source, stream))


def _chosen(locked: LockedTarget, stream: str, days: Days, deleted_from: Sequence[Layout] | None) -> list[Partition]:
    """
    The partitions of a window. ``deleted_from``: where rows are to be deleted, of the stream and of those derived from
    it; rows that were forgotten before, and that the target still has, are deleted, too.
    """
    bounded = (days.since is not None and days.until is not None) or (deleted_from and days.accounts)
    if not bounded and _has_days(locked, stream, deleted_from):
        raise UsageError(f"{stream} is divided by days: name them by both --since and --until")
    partitions = list(locked.partitions(stream, days))
    if deleted_from and isinstance(locked.target, Verifiable):
        first, *derived = deleted_from
        names = [layout.stream for layout in derived]
        nothing = nothing_of(locked.source, stream, first.partition_columns, first.day_column, names)
        differences = locked.target.verify(stream, [nothing], since=days.since, until=days.until)
        partitions += [difference.partition for difference in differences]
    return [partition for partition in dict.fromkeys(partitions) if days.contains(partition)]
