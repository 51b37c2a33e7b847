"""
The ledger's values as its columns hold them, and back: timestamps as ISO 8601 text in UTC, the rest as JSON text.

Free text (errors, rejected records) is masked on its way in.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from penstock.ledger_interface import LedgerEntry, LedgerFile
from penstock.model import Partition, Rejected, is_like_day
from penstock.redact import mask


def column_values(entry: LedgerEntry) -> dict[str, Any]:
    """An entry as column values, all but its key, version and rejected records."""
    return {
        "state": entry.state,
        "run_id": entry.run_id,
        "read_at": time_text(entry.read_at),
        "open_until": time_text(entry.open_until),
        "fingerprint": entry.fingerprint,
        "rows": entry.rows,
        "promised": entry.promised,
        "rejected": entry.rejected,
        "unread_values": entry.unread_values,
        "repeated": entry.repeated,
        "truncated": int(entry.truncated),
        "read_by": entry.reader_version,
        "sums": encoded({column: str(value) for column, value in entry.sums.items()}) if entry.sums else "{}",
        "derived_rows": encoded(dict(entry.derived_rows)) if entry.derived_rows else "{}",
        "files": files_text(entry.files) if entry.files else "[]",
        "error": None if entry.error is None else mask(entry.error),
        "attempts": entry.attempts,
    }


def partition_of(stream: str, text: str) -> Partition:
    """From ``Partition.text``."""
    return Partition(stream, tuple(msgspec.json.decode(text).items()))


def dated(partition: Partition) -> Partition:
    """The partition with its day last, from a text whose order is lost (a ``jsonb`` of Postgres)."""
    return Partition(partition.stream, tuple(sorted(partition.values, key=lambda pair: is_like_day(pair[1]))))


def sums_from(text: str) -> dict[str, Decimal]:
    """Column -> sum, from JSON text."""
    return {column: Decimal(value) for column, value in msgspec.json.decode(text).items()}


def files_text(files: Iterable[LedgerFile], *, in_place: bool = False) -> str:
    """Files as the JSON text a ledger holds: without the members that are null. ``in_place``: none is staged."""
    names = _MEMBERS_IN_PLACE if in_place else _FILE_MEMBERS
    return encoded([{name: value for name in names if (value := getattr(file, name)) is not None} for file in files])


def files_from(text: str) -> tuple[LedgerFile, ...]:
    """The files of :func:`files_text`."""
    return _FILES.decode(text) if text != "[]" else ()


_MEMBERS_IN_PLACE = ("path", "size", "checksum")
_FILE_MEMBERS = (*_MEMBERS_IN_PLACE, "staged")
_FILES = msgspec.json.Decoder(tuple[LedgerFile, ...])


def rejected_texts(rejected: Rejected) -> dict[str, str]:
    """A rejected record, masked."""
    return {
        "stream": rejected.stream,
        "path": mask(rejected.path),
        "reason": mask(rejected.reason),
        "raw": mask(rejected.raw),
    }


def encoded(value: Any) -> str:
    """The JSON of a value of texts and whole numbers only; see :func:`json_text`."""
    return msgspec.json.encode(value).decode()


def json_text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


def time_text(moment: datetime | None) -> str | None:
    """An aware moment in UTC with microseconds, so that texts sort as moments do; ValueError for a naive one."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no zone: a ledger takes aware times only")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")


def moment_of(value: str | datetime | None) -> datetime | None:
    """The moment of a value, which may be null; see :func:`known_moment`."""
    return None if value is None else known_moment(value)


def known_moment(value: str | datetime) -> datetime:
    """The moment of :func:`time_text`, or of a database's own timestamp; aware, in UTC."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.astimezone(UTC)


_FROM_ROW: dict[str, Callable[[Any], Any]] = {
    "truncated": bool,
    "read_at": moment_of,
    "open_until": moment_of,
    "sums": sums_from,
    "derived_rows": msgspec.json.decode,
    "files": files_from,
}


def entry_of(source: str, partition: Partition, version: int, stored: Mapping[str, Any]) -> LedgerEntry:
    """The entry whose :func:`column_values` are stored."""
    values = {name: _FROM_ROW[name](value) if name in _FROM_ROW else value for name, value in stored.items()}
    # Development versions (decision 72).
    read_by = values.pop("read_by", "")  # an intent of an earlier version has none
    return LedgerEntry(source=source, partition=partition, version=version, reader_version=read_by, **values)
