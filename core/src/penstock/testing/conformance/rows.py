"""
The rows that a run delivered, compared with others as multisets.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from penstock.sinks import EXTRA
from penstock.testing.conformance.findings import Finding
from penstock.testing.memory import MemorySink

Row = dict[str, Any]
Key = tuple[str, tuple[str, ...]]  # stream, the partition's values
Rows = dict[Key, list[Row]]


def delivered_to(sink: MemorySink) -> Rows:
    """What was delivered, by stream and partition."""
    return {
        (stream, tuple(value for _, value in partition.values)): rows
        for stream, partitions in sink.rows.items()
        for partition, rows in partitions.items()
    }


def plain(value: Any) -> Any:
    """A value to compare: amounts and numbers as their digits, times as moments."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    if isinstance(value, (datetime, date)):
        return _moment(value.isoformat())
    if isinstance(value, str):
        return _moment(value)
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value]


def _moment(text: str) -> str:
    if len(text) < 19 or text[10:11] != "T":
        return text
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    return (when.astimezone(UTC) if when.tzinfo is not None else when).isoformat()


def bag(rows: Iterable[Mapping[str, Any]], without: Iterable[str] = (EXTRA,)) -> Counter[str]:
    """Rows as a multiset: neither their order nor columns without a value count, nor those named in ``without``."""
    unseen = frozenset(without)
    return Counter(
        json.dumps(
            {name: plain(value) for name, value in row.items() if value is not None and name not in unseen},
            sort_keys=True,
        )
        for row in rows
    )


def differing(delivered: Rows, expected: Rows) -> list[Key]:
    """The differences: partitions that one of the two lacks, and partitions with other rows."""
    keys = expected.keys() | delivered.keys()
    return [key for key in keys if bag(delivered.get(key, ())) != bag(expected.get(key, ()))]


def same_rows(check: str, delivered: Rows, expected: Rows, what: str) -> list[Finding]:
    missing = sorted(expected.keys() - delivered.keys())
    other = sorted(key for key in differing(delivered, expected) if key not in missing)
    wrong = [f"{what}: {len(missing)} partitions were not delivered, such as {missing[0]}"] if missing else []
    wrong += [f"{what}: {len(other)} partitions have other rows, such as {other[0]}"] if other else []
    return [Finding(check, text) for text in wrong]
