"""
``forget --personal``: erase personal columns in what was delivered.
"""

from attrs import evolve

from penstock._config.source import ConfiguredSource
from penstock._decode.erasure import erasures_of
from penstock._plan.accounts import zone_memory, zone_of
from penstock._plan.finality import fingerprint, is_of_today
from penstock._project.forget import LockedTarget, delivered_streams, locked_targets
from penstock._project.setup import Notice
from penstock._project.target_query import TargetQuery
from penstock._read.components import components_of
from penstock.connector import Stream
from penstock.errors import UsageError
from penstock.ledger import DeliveredEntries
from penstock.ledger_interface import Ledger, LedgerEntry
from penstock.model import Partition, Rejected
from penstock.results import ForgetResult, Forgotten
from penstock.sinks import Erasing


def erase_personal(query: TargetQuery, source: str, stream: str | None, *, dry_run: bool) -> ForgetResult:
    """
    Erase, in what was delivered, the values that the source leaves out today since they are personal.

    Nothing is read again: a day that is final stays final. Every target is locked and examined before anything is
    erased in one. A notice names what was left, and the exit code is 1 then. Raises UsageError if the source still
    delivers personal columns.
    """
    notice = query.notices.add
    configured = query.setup.source(source, notice)
    if configured.settings.include_personal:
        raise UsageError(
            f"source {source} delivers personal columns (include_personal is true), so that the next run would bring "
            f"them again. Set include_personal = false in [source.{source}] first."
        )
    with locked_targets(query, source) as targets:
        erased = []
        for locked in targets:
            if not isinstance(locked.target, Erasing):
                raise UsageError(
                    f"{locked.target_name}: this kind of target cannot erase columns. Nothing was changed. Erase "
                    "them by the means of that place."
                )
        declared = {stream.name: stream for stream in configured.streams}
        for name in delivered_streams(targets, source, stream):
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
    delivered = DeliveredEntries(locked.ledger, source.name, stream.name)
    done = Forgotten(
        target=locked.target_name,
        stream=stream.name,
        partitions=len(delivered),
        columns=tuple(
            f"{erasure.layout.stream}.{name}" for erasure in erasures for name in (*erasure.columns, *erasure.nested)
        ),
    )
    if dry_run or not delivered:
        return done
    shapes = {each.layout.stream: each for each in decoder.streams}
    rejected: dict[Partition, list[Rejected]] = {}
    for entry, record in locked.ledger.rejected(source.name, stream.name):
        if entry.partition.stream == stream.name:
            # A record of a stream that is not declared any more is as unknown as one that cannot be read.
            masked = shapes.get(record.stream, decoder).rejects.erased(record)
            rejected.setdefault(entry.partition, []).append(masked)
    prints = _Fingerprints(source, stream, locked.ledger)

    def erased(entry: LedgerEntry) -> LedgerEntry:
        records = tuple(rejected.get(entry.partition, ()))
        return evolve(entry, kind=stream.kind, fingerprint=prints.of_today(entry), rejected_records=records)

    assert isinstance(locked.target, Erasing)
    entries = DeliveredEntries(locked.ledger, source.name, stream.name, changed=erased)
    outcome = locked.target.erase(erasures, entries)
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
