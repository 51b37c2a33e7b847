"""
``forget --personal``: erase personal columns in what was delivered.
"""

from collections.abc import Callable
from typing import Any

from attrs import evolve

from penstock._config.source import ConfiguredSource
from penstock._decode.masks import personal_cleaner
from penstock._decode.row_builder import RowBuilder
from penstock._plan.accounts import zone_memory, zone_of
from penstock._plan.finality import fingerprint, same_settings
from penstock._project.forget import LockedTarget, delivered_streams, locked_targets
from penstock._project.setup import AddNotice
from penstock._project.target_query import TargetQuery
from penstock._read.components import components_of
from penstock.connector import Stream
from penstock.errors import UsageError
from penstock.ledger import DeliveredEntries
from penstock.ledger_interface import Ledger, LedgerEntry
from penstock.model import EXACT_JSON, PLAIN_JSON, Partition, Rejected
from penstock.results import ForgetResult, Forgotten
from penstock.sinks import EXTRA, Erasing, Erasure


def erase_personal(query: TargetQuery, source: str, stream: str | None, *, dry_run: bool) -> ForgetResult:
    """
    Erase, in what was delivered, the values that the source leaves out today since they are personal.

    Nothing is read again: a day that is final stays final. Every target is locked and examined before anything is
    erased in one. A notice names what was left, and the exit code is 1 then. Raises UsageError if the source still
    delivers personal columns.
    """
    add_notice = query.notices.add
    configured = query.setup.source(source, add_notice)
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
                add_notice(
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
            erased += [_erase_in(locked, configured, declared[name], add_notice, dry_run=dry_run) for locked in targets]
        return ForgetResult(targets=tuple(erased), exit_code=int(any(forgotten.left for forgotten in erased)))


def _erase_in(
    locked: LockedTarget, source: ConfiguredSource, stream: Stream, add_notice: AddNotice, *, dry_run: bool
) -> Forgotten:
    row_builder = components_of(source, stream, ()).row_builder
    erasures = tuple(map(_erasure_of, row_builder.streams))
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
    shapes = {shape.layout.stream: shape for shape in row_builder.streams}
    rejected: dict[Partition, list[Rejected]] = {}
    for entry, record in locked.ledger.rejected(source.name, stream.name):
        if entry.partition.stream == stream.name:
            # A record of a stream that is not declared any more is as unknown as one that cannot be read.
            masked = shapes.get(record.stream, row_builder).rejects.erased(record)
            rejected.setdefault(entry.partition, []).append(masked)
    prints = _Fingerprints(source, stream, locked.ledger)

    def as_erased(entry: LedgerEntry) -> LedgerEntry:
        records = tuple(rejected.get(entry.partition, ()))
        return evolve(entry, kind=stream.kind, fingerprint=prints.of_today(entry), rejected_records=records)

    assert isinstance(locked.target, Erasing)
    entries = DeliveredEntries(locked.ledger, source.name, stream.name, changed=as_erased)
    erased = locked.target.erase(erasures, entries)
    for left in erased.left:
        add_notice(f"{locked.target_name}: {left.partition} was left as it is: {left.what}")
    return evolve(done, rows=erased.rows, left=len(erased.left))


class _Fingerprints:
    """
    The fingerprints of a stream's partitions: with the current settings, and with these but for ``include_personal``. A
    partition of the latter is, once erased, as the current settings make it, so that it need not be read again.
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
            accounts_from = self._stream.accounts_from
            zone = self._zones.get((accounts_from[0], account)) if accounts_from and account else None
            settings = self._source.for_account(account, zone).settings
            named = self._source.settings_in_requests(self._stream)
            before = fingerprint(evolve(settings, include_personal=True), self._stream, named)
            self._known[account] = (before, fingerprint(settings, self._stream, named))
        before, now = self._known[account]
        return now if same_settings(entry.fingerprint, before) else entry.fingerprint


# --- what is erased ---------------------------------------------------------------------------------------------------


def _erasure_of(row_builder: RowBuilder) -> Erasure:
    """
    The values to erase in delivered rows, so that they hold what a reading without personal data delivers.
    ``row_builder``: of a stream that is compiled without these.
    """
    rejects = row_builder.rejects
    columns = tuple(name for name, column in row_builder.columns.items() if column.personal and name in rejects.hidden)
    nested = {
        name: _on_text(personal_cleaner(column.hidden_personal))
        for name, column in row_builder.columns.items()
        if column.hidden_personal and name not in columns
    }
    if not rejects.has_extra:
        columns = (*columns, EXTRA)
    elif not rejects.stores_unknown or rejects.extra_masks:
        nested[EXTRA] = _on_text(_extra_cleaner(row_builder))
    return Erasure(layout=row_builder.layout, columns=columns, nested=nested)


def _extra_cleaner(row_builder: RowBuilder) -> Callable[[Any], Any]:
    """Values that did not fit a delivered column stay, unknown members only where these are kept; both masked."""
    rejects = row_builder.rejects
    hidden = {column.member for name, column in row_builder.columns.items() if name in rejects.hidden}
    delivered = {column.member for name, column in row_builder.columns.items() if name not in rejects.hidden}

    def clean(value: Any) -> Any:
        if not isinstance(value, dict):
            return None
        members = {
            name: item
            for name, item in value.items()
            if name in delivered or (rejects.stores_unknown and name not in hidden)
        }
        return rejects.extra_masks.apply(members) or None

    return clean


def _on_text(clean: Callable[[Any], Any]) -> Callable[[str], str | None]:
    """``clean``, which may change its argument, for a JSON text; numbers keep their digits."""

    def clean_text(text: str) -> str | None:
        value = PLAIN_JSON.decode(text)
        before = EXACT_JSON.encode(value)
        cleaned = clean(value)
        if cleaned is None:
            return None
        after = EXACT_JSON.encode(cleaned)
        return text if after == before else after.decode()

    return clean_text
