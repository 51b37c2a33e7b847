"""
A sink that keeps rows in memory, with a real ledger beside it: for tests of the runner and of connectors.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, evolve, field

from penstock.ledger import SqliteLedger
from penstock.ledger_interface import LedgerEntry
from penstock.model import EXACT_JSON, Batch, Partition
from penstock.sinks import BaseSink, BaseTarget, Layout

_DECODER = msgspec.json.Decoder(float_hook=str)


@define(eq=False)
class MemorySink(BaseSink):
    """
    ``rows[stream][partition]`` holds the delivered rows as plain data (JSON's, decimals as their text). Without a
    ``ledger_path`` it has no ledger.
    """

    ledger_path: Path | None
    rows: dict[str, dict[Partition, list[dict[str, Any]]]] = field(factory=dict)

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> "MemoryTarget":
        if self.ledger_path is None:
            return MemoryTarget(self, None)
        self.ledger_path.parent.mkdir(parents=True, exist_ok=True)
        return MemoryTarget(self, SqliteLedger(self.ledger_path))

    @property
    def keeps_ledger(self) -> bool:
        return self.ledger_path is not None

    def open_readonly(self, source: str) -> "MemoryTarget | None":
        if self.ledger_path is None or not self.ledger_path.exists():
            return None
        return MemoryTarget(self, SqliteLedger(self.ledger_path))

    def all(self, stream: str) -> list[dict[str, Any]]:
        """Every row of a stream, partition by partition."""
        return [row for _, rows in sorted(self.rows.get(stream, {}).items()) for row in rows]


@define(eq=False)
class MemoryTarget(BaseTarget):
    """A :class:`MemorySink` opened for one source."""

    sink: MemorySink
    ledger: SqliteLedger | None

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> "MemoryWriter":
        return MemoryWriter(self, layouts, partition)

    def is_intact(self, entry: LedgerEntry) -> bool:
        return entry.partition in self.sink.rows.get(entry.partition.stream, {})

    def close(self) -> None:
        if self.ledger is not None:
            self.ledger.close()


@define(eq=False)
class MemoryWriter:
    """One partition's rows, until they are committed."""

    target: MemoryTarget
    layouts: Sequence[Layout]
    partition: Partition
    _batches: dict[str, list[dict[str, Any]]] = field(factory=dict)

    def write(self, batch: Batch) -> None:
        rows = self._batches.setdefault(batch.layout.stream, [])
        rows.extend(_DECODER.decode(EXACT_JSON.encode(row)) for row in batch)

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        for layout in self.layouts:
            delivered = self.target.sink.rows.setdefault(layout.stream, {})
            delivered[evolve(self.partition, stream=layout.stream)] = self._batches.get(layout.stream, [])
        if self.target.ledger is not None:
            self.target.ledger.deliver(entry)
        return entry

    def abort(self) -> None:
        self._batches.clear()
