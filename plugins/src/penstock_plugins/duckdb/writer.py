"""
The writer of one partition to a DuckDB file.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from attrs import define, field
from penstock import Batch, Layout, LedgerEntry, Partition, fault_point

from penstock_plugins.arrow.columns import Columns, FittingRows
from penstock_plugins.sink_support.sql_tables import identifier
from penstock_plugins.sink_support.unfit import Omissions, entry_without

if TYPE_CHECKING:
    from penstock_plugins.duckdb.target import DuckTarget

HELD_BYTES = 8 << 20
"""Columns of one partition in memory before they go into a temporary table."""


@define(eq=False, repr=False)
class _Buffer:
    """The rows of one stream of a partition: some in memory, the others in a temporary table."""

    layout: Layout
    fitting: FittingRows
    temporary_table: str | None = None
    batches: list[Any] = field(factory=list)
    size: int = 0


class DuckWriter:
    """Writes one partition."""

    def __init__(self, target: "DuckTarget", layouts: Sequence[Layout], partition: Partition) -> None:
        self._target = target
        self._database = target.database
        self._tables = target.tables
        self._layouts = layouts
        self._partition = partition
        self._buffers: Mapping[str, _Buffer] = {
            layout.stream: _Buffer(layout, FittingRows(Columns.of(layout, self._tables.scale), target.name))
            for layout in layouts
        }

    def write(self, batch: Batch) -> None:
        if not batch.rows:
            return
        buffer = self._buffers[batch.layout.stream]
        converted = buffer.fitting.batch(batch.rows)
        buffer.batches.append(converted)
        buffer.size += converted.nbytes
        if buffer.size >= HELD_BYTES:
            self._store(buffer)

    def _store(self, buffer: _Buffer) -> None:
        if not buffer.batches:
            return
        create = buffer.temporary_table is None
        buffer.temporary_table = buffer.temporary_table or self._target.temporary_table()
        self._database.insert(buffer.temporary_table, pa.Table.from_batches(buffer.batches), create=create)
        buffer.batches, buffer.size = [], 0

    def prepare(self, entry: LedgerEntry) -> LedgerEntry:
        """The entry without the records that do not fit; their table exists, and all rows are in temporary tables."""
        omissions = [Omissions(buffer.layout, buffer.fitting.unfit) for buffer in self._buffers.values()]
        entry = entry_without(entry, omissions, self._target.name)
        for buffer in self._buffers.values():
            self._tables.make(buffer.layout)
            self._store(buffer)
        return entry

    def replace(self, entry: LedgerEntry) -> None:
        """The changes of a commit, within a transaction."""
        fault_point("duckdb.begun")
        for buffer in self._buffers.values():
            self._replace(buffer)
            if buffer.layout.kind == "changes" and buffer.layout.derived_by:
                self._target.note_emptied(buffer.layout.stream)
        fault_point("duckdb.written")
        self._target.ledger.deliver(entry)
        fault_point("duckdb.recorded")

    def _replace(self, buffer: _Buffer) -> None:
        layout, table = buffer.layout, self._tables.sql(buffer.layout.stream)
        rows = f"select * from {buffer.temporary_table}"
        if self._layouts[0].kind != "changes":
            where, values = _where(
                self._partition, {column.name: self._tables.type_of(column) for column in layout.columns}
            )
            self._database.run(f"delete from {table} where {where}", values)
        else:
            self._delete_read_again(buffer, table)
            if layout.key:  # the last reading of a key in this partition
                key = ", ".join(map(identifier, layout.key))
                rows += f" qualify row_number() over (partition by {key} order by rowid desc) = 1"
        if buffer.temporary_table is not None:
            self._database.run(f"insert into {table} by name {rows}")

    def _delete_read_again(self, buffer: _Buffer, table: str) -> None:
        """Delete the rows whose keys come again; in a derived stream, all rows of the parents that come again."""
        main = self._buffers[self._layouts[0].stream]
        reference = main.layout.key if buffer is main else buffer.layout.derived_by
        self._delete_matching(table, reference, main, main.layout.key)
        if buffer is not main and main.fitting.unfit:  # rows derived from a rejected parent are delivered all the same
            self._delete_matching(table, reference, buffer, reference)

    def _delete_matching(self, table: str, columns: Sequence[str], buffer: _Buffer, names: Sequence[str]) -> None:
        """Delete the rows that have in ``columns`` what a row of the buffer has in ``names``."""
        if buffer.temporary_table is None:
            return
        same = " and ".join(
            f"old.{identifier(column)} is not distinct from new.{identifier(name)}"
            for column, name in zip(columns, names, strict=True)
        )
        self._database.run(
            f"delete from {table} as old where exists (select 1 from {buffer.temporary_table} as new where {same})"
        )

    def abort(self) -> None:
        for buffer in self._buffers.values():
            if buffer.temporary_table is not None:
                self._database.run(f"drop table if exists {buffer.temporary_table}")
            buffer.temporary_table, buffer.batches, buffer.size = None, [], 0


def _where(partition: Partition, types: Mapping[str, str]) -> tuple[str, list[str]]:
    """The rows of a partition, in a table with columns of these types."""
    terms = [f"{identifier(name)} = cast(? as {types[name]})" for name, _ in partition.values]
    return " and ".join(terms) or "true", [value for _, value in partition.values]
