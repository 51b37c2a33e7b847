"""
Erase values in the rows of a stream's table, inside the transaction that is open.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from penstock import Erasure, SinkError, TargetError

from penstock_plugins.postgres.catalog import CatalogTable, look_up
from penstock_plugins.postgres.column_types import STAMPS
from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.sql_text import quoted, short
from penstock_plugins.postgres.table_locations import source_condition


class TableErasure:
    """The statements that erase the values of one source in one table."""

    def __init__(self, database: Database, source: str, table: CatalogTable, erasure: Erasure) -> None:
        self._database = database
        self._table = table
        self._erasure = erasure
        self._stream = f"{source}.{erasure.layout.stream}"
        attributes = "select attname::text, attnotnull from pg_attribute"
        existing = "attrelid = %s::bigint::oid and attnum > 0 and not attisdropped"
        columns: dict[str, bool] = dict(database.run(f"{attributes} where {existing}", (table.oid,)).fetchall())
        self._nulled = [name for name in erasure.columns if short(name) in columns]
        self._nested = [name for name in erasure.nested if short(name) in columns]
        self._required = [name for name in self._nulled if columns[short(name)]]
        self._stamps = "".join(f", {quoted(name)} = default" for name in STAMPS if name in columns)
        self._where, self._values = source_condition(source, shared=table.shared)

    def run(self) -> int:
        """
        Set the columns to null, and replace nested values; the number of rows that changed. Columns stay in the table.

        Raises TargetError if a column must not be null, and SinkError if others change the rows meanwhile, or a trigger
        or a rule of the table brings values back.
        """
        self._check_nullable()
        rows = self._erase_nested() if self._nested else 0
        if self._nulled:
            rows += self._null_columns()
        if look_up(self._database, [self._table])[0].altering:
            self._check_triggers()
        return rows

    def _check_nullable(self) -> None:
        if not self._required:
            return
        changes = ", ".join(f"alter column {quoted(name)} drop not null" for name in self._required)
        raise TargetError(
            f"{self._database.label}: {', '.join(self._required)} of the table {self._table.sql} must not be null, so "
            f"that nothing of {self._stream} was erased. Its owner may run: alter table {self._table.sql} {changes}."
        )

    def _erase_nested(self) -> int:
        """Replace the nested values that change, and null the columns of their rows; the number of rows."""
        nulls = [f"{quoted(name)} = null" for name in self._nulled]
        nested = [f"{quoted(name)} = n.c{number}::jsonb" for number, name in enumerate(self._nested)]
        texts = ", ".join(f"c{number}" for number in range(len(nested)))
        statement = (
            f"update {self._table.sql} o set {', '.join([*nulls, *nested])}{self._stamps} "
            f"from unnest(%s::bigint[], %s::text[]{', %s::text[]' * len(nested)}) as n (part, row_id, {texts}) "
            "where o.tableoid = n.part::oid and o.ctid = n.row_id::tid"
        )
        rows = 0
        # Rows are looked up by their ids: without nested loops, each batch would read the whole table.
        self._database.run("select set_config('enable_nestloop', 'on', true)")
        changed = self._changed_rows()
        while batch := list(islice(changed, self._database.rows_at_once)):
            # A row that another session changed in the meantime has another row id.
            values = [list(column) for column in zip(*batch, strict=True)]
            if self._database.run(statement, values).rowcount != len(batch):
                raise SinkError(
                    f"{self._database.label}: another session changed the table {self._table.sql} meanwhile, or a "
                    f"trigger or a rule of it lets no change pass. Nothing of {self._stream} was erased."
                )
            rows += len(batch)
        return rows

    def _null_columns(self) -> int:
        """Null the columns of the rows that have a value there; the number of rows."""
        nulls = ", ".join(f"{quoted(name)} = null" for name in self._nulled)
        statement = f"update {self._table.sql} set {nulls}{self._stamps} where {self._with_values()}"
        return self._database.run(statement, self._values).rowcount

    def _with_values(self) -> str:
        """The condition of rows in which a column that is to be null is not."""
        return f"({' or '.join(f'{quoted(name)} is not null' for name in self._nulled)}) and {self._where}"

    def _check_triggers(self) -> None:
        """Raises SinkError where triggers or rules bring values back, also those at the end of the transaction."""
        self._database.run("set constraints all immediate")
        remains = bool(self._nulled) and self._database.value(
            f"select exists (select from {self._table.sql} where {self._with_values()})", self._values
        )
        if remains or (self._nested and any(self._changed_rows())):
            raise SinkError(
                f"{self._database.label}: a trigger or a rule on the table {self._table.sql} brings back what is "
                f"erased. Nothing of {self._stream} was erased. Drop it, and run it again."
            )

    def _changed_rows(self) -> Iterator[tuple[Any, ...]]:
        """
        The table and the row id of each row whose nested values change, and all of its nested values as they are to be.
        In a partitioned table, rows of several partitions have the same row id (``ctid``).
        """
        texts = ", ".join(f"{quoted(name)}::text" for name in self._nested)
        filled = " or ".join(f"{quoted(name)} is not null" for name in self._nested)
        for table, row_id, *former in self._database.stream(
            f"select tableoid::bigint, ctid::text, {texts} from {self._table.sql} where ({filled}) and {self._where}",
            self._values,
        ):
            erased = [
                None if text is None else self._erasure.nested[name](text)
                for name, text in zip(self._nested, former, strict=True)
            ]
            if erased != former:
                yield (table, row_id, *erased)
