"""
``forget``: drop readings, delete rows, erase personal columns in what was delivered.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime

from attrs import evolve, frozen

from penstock._config.source import ConfiguredSource
from penstock._decode.erasure import erasures_of
from penstock._plan.accounts import zone_memory, zone_of
from penstock._plan.finality import fingerprint, is_of_today
from penstock._plan.selection import chosen_streams
from penstock._plan.window import check_order
from penstock._read.components import components_of
from penstock._run.commit_group import GROUP_PARTITIONS
from penstock._run.context import run_id
from penstock.connector import Stream
from penstock.errors import LockHeldError, TargetError, UsageError
from penstock.ledger import FORGET_PREFIX
from penstock.ledger_interface import Ledger, LedgerEntry, Restatement
from penstock.model import Partition, Rejected
from penstock.names import did_you_mean
from penstock.project.results import ForgetResult, Forgotten
from penstock.project.setup import Notice
from penstock.project.targets import Days, SourceLedger, View, narrowed, nothing_of
from penstock.sinks import Erasing, Layout, Target, Verifiable, commit_all


@frozen
class LockedTarget(SourceLedger):
    """A target, opened and locked for a source by ``run_id``."""

    run_id: str
    target: Target


@contextmanager
def _locked_targets(view: View, source: str) -> Iterator[list[LockedTarget]]:
    """
    The targets of a source that were written, each locked. A target without a ledger is left: a notice, or a UsageError
    if there is no other one. A place that has two names is opened once.
    """
    notice = view.notices.add
    with ExitStack() as stack:
        targets: list[LockedTarget] = []
        without: list[str] = []
        for viewed in view.targets:
            shown, sink = viewed.sink.shown, viewed.sink.open()
            if not viewed.keeps_ledger:
                without.append(shown)
                continue
            with view.leaving_out(viewed):
                if (former := sink.open_readonly(source)) is None:
                    continue
                former.close()
                own_id = run_id(view.clock.now())
                try:
                    target = sink.open(source, own_id)
                except LockHeldError as error:  # it names the run that holds the lock
                    same = next((locked for locked in targets if locked.run_id in str(error)), None)
                    if same is None:
                        raise
                    notice(f"{shown} and {same.target_name} are one target: it was changed once")
                    continue
                stack.callback(target.close)
                for text in target.notices:
                    notice(text)
                assert target.ledger is not None  # else ``keeps_ledger`` is false
                targets.append(LockedTarget(shown, source, target.ledger, own_id, target))
        if view.failed and not targets:
            raise TargetError(f"none of the targets of {source} can be used: {'; '.join(view.failed)}")
        for shown in without:
            text = f"{shown} keeps no ledger: the next run reads everything, and writes it anew"
            if not targets:
                raise UsageError(text)
            notice(f"{text}. It was left as it is")
        yield targets


def _streams_of(targets: Sequence[LockedTarget], source: str, stream: str | None) -> list[str]:
    """The streams with a row in a ledger; ``stream``: this one only. Raises UsageError where there is none."""
    streams = sorted({name for locked in targets for name in locked.streams})
    if not streams:
        where = ", ".join(locked.target_name for locked in targets)
        raise UsageError(f"nothing of {source} was delivered{' to ' if where else ''}{where} yet")
    if stream is not None and stream not in streams:
        raise UsageError(
            f"no {source}.{stream} was delivered yet.{did_you_mean(stream, streams)} There is {', '.join(streams)}; a "
            "stream that travels with its parent is forgotten with it"
        )
    return streams if stream is None else [stream]


# --- readings and rows ------------------------------------------------------------------------------------------------


def forget(view: View, source: str, stream: str | None, days: Days, *, rows: bool, dry_run: bool) -> ForgetResult:
    """
    Drop the readings of partitions from every target; what was delivered stays in place, unless ``rows``. ``stream``
    None: of all delivered streams; those that cannot be chosen so are left, with a notice.

    Every target is locked and examined before anything is forgotten in one. Raises UsageError.
    """
    named = {stream: _layouts(view, source, stream)} if rows and stream is not None else {}
    check_order(days.since, days.until)
    with _locked_targets(view, source) as targets:
        layouts: Mapping[str, Sequence[Layout] | None]  # of each stream whose rows are deleted
        if rows:
            _check_deletes_rows(targets)
            layouts = named or _all_layouts(view, source, _all_streams(view, source, targets, days))
        elif stream is None:
            layouts = dict.fromkeys(_all_streams(view, source, targets, days))
        else:
            layouts = dict.fromkeys(_streams_of(targets, source, stream))
        chosen = [(locked, name, _chosen(locked, name, days, layouts[name])) for name in layouts for locked in targets]
        if named and not any(partitions for _, _, partitions in chosen):
            _streams_of(targets, source, stream)
        for locked, name, partitions in chosen if not dry_run else ():
            if deleted_from := layouts[name]:
                _delete_rows(locked, partitions, deleted_from, days, view.clock.now())
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


def _all_streams(view: View, source: str, targets: Sequence[LockedTarget], days: Days) -> list[str]:
    """The delivered streams; if days are chosen, those that have days: a snapshot must not go with them."""
    names = _streams_of(targets, source, None)
    if days.since is None and days.until is None:
        return names
    dated = {
        counts.stream for locked in targets for counts in locked.ledger.counts(source) if counts.first_day is not None
    }
    for name in names:
        if name not in dated:
            view.notices.add(f"left as it is: {source}.{name} is not divided by days")
    return [name for name in names if name in dated]


def _all_layouts(view: View, source: str, streams: Sequence[str]) -> dict[str, Sequence[Layout]]:
    """The layouts of the streams whose rows can be deleted; the others are left, with a notice."""
    layouts: dict[str, Sequence[Layout]] = {}
    for name in streams:
        try:
            layouts[name] = _layouts(view, source, name)
        except UsageError as error:
            view.notices.add(f"left as it is: {error}")
    return layouts


def _layouts(view: View, source: str, stream: str) -> tuple[Layout, ...]:
    """The layouts of a stream whose rows can be deleted. Raises UsageError for one that is merged by key."""
    configured = view.setup.source(source, view.notices.add)
    chosen_streams(configured, [stream])  # raises for an unknown one
    declared = configured.stream(stream)
    if declared.kind == "changes" or declared.derived is not None:
        carrier = stream if declared.derived is None else declared.derived.stream
        raise UsageError(
            f"{source}.{stream}: its rows are merged by key, so that those of some days or accounts cannot be deleted "
            "here. Delete them in the target by its own means. "
            f"`penstock forget {source} {carrier} --since DAY --until DAY` lets the next run read days again"
        )
    return components_of(configured, declared, ()).decoder.layouts


def _delete_rows(
    locked: LockedTarget, partitions: Sequence[Partition], layouts: Sequence[Layout], days: Days, now: datetime
) -> None:
    """Replace each partition by no rows, as a reading without records would. Raises the first error."""
    own_id = f"{FORGET_PREFIX}{run_id(now)}"
    entries = locked.entries(layouts[0].stream, days)
    for start in range(0, len(partitions), GROUP_PARTITIONS):
        commits = [
            (
                locked.target.begin(layouts, partition),
                LedgerEntry(
                    source=locked.source,
                    partition=partition,
                    state="delivered",
                    run_id=own_id,
                    read_at=now,
                    version=entries[partition].version if partition in entries else 0,
                    kind=layouts[0].kind,
                    replaces=entries.get(partition),
                ),
            )
            for partition in partitions[start : start + GROUP_PARTITIONS]
        ]
        for done in commit_all(locked.target, commits):
            if isinstance(done, Exception):
                raise done
    locked.target.finish(layouts[0].stream)


def deleted(source_ledger: SourceLedger, days: Days) -> dict[Partition, Restatement]:
    """
    The partitions of a window whose rows ``forget`` deleted, and that were not read again: each with what it changed.
    """
    deletions = {
        change.partition: change
        for change in narrowed(source_ledger.ledger.restated, runs=FORGET_PREFIX)(source_ledger.source)
        if change.run_id.startswith(FORGET_PREFIX) and days.holds(change.partition)
    }
    for stream in {partition.stream for partition in deletions}:
        dates = [day for partition in deletions if partition.stream == stream and (day := partition.day) is not None]
        of_deletions = evolve(days, since=min(dates, default=days.since), until=max(dates, default=days.until))
        for entry in source_ledger.delivered(stream, of_deletions):
            deletions.pop(entry.partition, None)
    return deletions


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
        raise UsageError(f"{stream} is divided by days: name them, such as --since 2026-01-01 --until 2026-01-31")
    partitions = list(locked.entries(stream, days))
    if deleted_from and isinstance(locked.target, Verifiable):
        first, *derived = deleted_from
        names = [layout.stream for layout in derived]
        nothing = nothing_of(locked.source, stream, first.partition_columns, first.day_column, names)
        held = narrowed(locked.target.verify, since=days.since, until=days.until)(stream, [nothing])
        partitions += [difference.partition for difference in held]
    return [partition for partition in dict.fromkeys(partitions) if days.holds(partition)]


# --- personal columns -------------------------------------------------------------------------------------------------


def erase_personal(view: View, source: str, stream: str | None, *, dry_run: bool) -> ForgetResult:
    """
    Erase, in what was delivered, the values that the source leaves out today since they are personal.

    Nothing is read again: a day that is final stays final. Every target is locked and examined before anything is
    erased in one. A notice names what was left, and the exit code is 1 then. Raises UsageError if the source still
    delivers personal columns.
    """
    notice = view.notices.add
    configured = view.setup.source(source, notice)
    if configured.settings.include_personal:
        raise UsageError(
            f"source {source} delivers personal columns (include_personal is true), so that the next run would bring "
            f"them again. Set include_personal = false in [source.{source}] first."
        )
    with _locked_targets(view, source) as targets:
        erased = []
        for locked in targets:
            if not isinstance(locked.target, Erasing):
                raise UsageError(
                    f"{locked.target_name}: this kind of target cannot erase columns. Nothing was changed. Erase "
                    "them by the means of that place."
                )
        declared = {stream.name: stream for stream in configured.streams}
        for name in _streams_of(targets, source, stream):
            if name not in declared:
                notice(
                    f"{source}.{name}: the connector has no such stream any more, so its personal columns are not "
                    "known: nothing of it was erased"
                )
                erased += [
                    Forgotten(
                        target=locked.target_name,
                        stream=name,
                        partitions=0,
                        left=len(locked.ledger.entries(source, name)),
                    )
                    for locked in targets
                ]
                continue
            erased += [_erased(locked, configured, declared[name], notice, dry_run=dry_run) for locked in targets]
        return ForgetResult(targets=tuple(erased), exit_code=int(any(forgotten.left for forgotten in erased)))


def _erased(
    locked: LockedTarget, source: ConfiguredSource, stream: Stream, notice: Notice, *, dry_run: bool
) -> Forgotten:
    decoder = components_of(source, stream, ()).decoder
    erasures = erasures_of(decoder)
    entries = [entry for entry in locked.ledger.entries(source.name, stream.name).values() if entry.delivered]
    done = Forgotten(
        target=locked.target_name,
        stream=stream.name,
        partitions=len(entries),
        columns=tuple(
            f"{erasure.layout.stream}.{name}" for erasure in erasures for name in (*erasure.columns, *erasure.nested)
        ),
    )
    if dry_run or not entries:
        return done
    shapes = {each.layout.stream: each for each in decoder.streams}
    rejected: dict[Partition, list[Rejected]] = {}
    for entry, record in locked.ledger.rejected(source.name, stream.name):
        if entry.partition.stream == stream.name:
            # A record of a stream that is not declared any more is as unknown as one that cannot be read.
            masked = shapes.get(record.stream, decoder).rejects.erased(record)
            rejected.setdefault(entry.partition, []).append(masked)
    prints = _Fingerprints(source, stream, locked.ledger)
    assert isinstance(locked.target, Erasing)
    outcome = locked.target.erase(
        erasures,
        [
            evolve(
                entry,
                kind=stream.kind,
                fingerprint=prints.of_today(entry),
                rejected_records=tuple(rejected.get(entry.partition, ())),
            )
            for entry in entries
        ],
    )
    for left in outcome.left:
        notice(f"{locked.target_name}: {left.partition} was left as it is: {left.what}")
    return evolve(done, rows=outcome.rows, left=len(outcome.left))


class _Fingerprints:
    """
    The fingerprints of a stream's partitions: with today's settings, and with these but for ``include_personal``. A
    partition of the latter is, once erased, as today's settings make it, so that it need not be read again.
    """

    def __init__(self, source: ConfiguredSource, stream: Stream, ledger: Ledger) -> None:
        self._source, self._stream = source, stream
        self._zones = {
            (stream.accounts_from[0], account): zone
            for stream in source.streams
            if stream.accounts_from is not None and stream.zone_from is not None
            for account, zone in map(zone_of, ledger.accounts(source.name, zone_memory(stream)))
        }
        self._known: dict[str | None, tuple[str, str]] = {}

    def of_today(self, entry: LedgerEntry) -> str:
        account = entry.partition.as_dict().get(self._stream.account or "")
        if account not in self._known:
            listed = self._stream.accounts_from
            zone = self._zones.get((listed[0], account)) if listed and account else None
            settings = self._source.for_account(account, zone).settings
            before = fingerprint(evolve(settings, include_personal=True), self._stream)
            self._known[account] = (before, fingerprint(settings, self._stream))
        before, now = self._known[account]
        return now if is_of_today(entry.fingerprint, before) else entry.fingerprint
