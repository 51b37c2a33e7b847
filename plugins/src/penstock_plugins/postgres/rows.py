"""
Convert rows to the records of a COPY, and refused records back to those of the provider.

A batch is checked against the types of its columns and encoded as JSON arrays, each in one call of msgspec. They stay
JSON until they are copied, as CSV. The check refuses a value of another type and an integer beyond 64 bits, the server
what else it cannot hold (NUL in a text); only then is it searched for.
"""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec
import psycopg
from attrs import define, field
from msgspec import UNSET, Raw
from penstock import EXACT_JSON, EXTRA

from penstock_plugins.postgres.column_types import ENCODING_ERRORS, RowTypes, get_column
from penstock_plugins.postgres.replacement import NewRowsRelation
from penstock_plugins.postgres.sql_text import quoted, short
from penstock_plugins.postgres.tables import Table
from penstock_plugins.sink_support.text_columns import csv_records
from penstock_plugins.sink_support.unfit import Unfit

# A partition of so many rows and bytes of JSON at most is a parameter of its statements. Above, COPY is faster.
SMALL_ROWS, SMALL_BYTES = 500, 2**18

# Decimals as texts: a text may be any number of Postgres, NaN and infinities included, a number of JSON may not.
_copy_encoder = msgspec.json.Encoder(decimal_format="string")
_cells = msgspec.json.Decoder(list[Any])

_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")

Nul = Literal["reject", "strip", "replace"]
"""The handling of a record with a NUL character in a text, which Postgres cannot store."""

_TEXTS = ("text", "character varying")


@define(eq=False, repr=False)
class Chunk:
    """
    Rows with values for these columns, the others are null. ``blocks``: JSON arrays, one a line, whole rows each.
    """

    columns: tuple[str, ...]
    blocks: list[bytes] = field(factory=list, repr=False)
    rows: int = 0
    size: int = 0

    @classmethod
    def of(cls, columns: tuple[str, ...], lines: Sequence[bytes]) -> "Chunk":
        """The chunk of these JSON arrays, one for each row."""
        return cls(columns, [b"".join(lines)], len(lines), sum(map(len, lines)))

    def extend(self, further: "Chunk") -> None:
        """Add the rows of a chunk with the same columns."""
        self.blocks += further.blocks
        self.rows += further.rows
        self.size += further.size

    def stream(self) -> Iterator[bytes]:
        """The rows as ``COPY ... (format csv, null 'null')`` reads them."""
        for block in self.blocks:
            yield csv_records(block, end=b"\n", nul=b"\0")


@define(eq=False, repr=False)
class SmallRows:
    """
    The rows of a small partition, and the JSON of each batch of them. ``definition``: the columns of their table.

    The server would take a float for an exact number, and drop the zone of a time. Only rows are held whose values have
    the types of their columns, as decoded ones do.
    """

    definition: str
    types: RowTypes
    rows: list[Any] = field(factory=list, repr=False)
    texts: list[bytes] = field(factory=list, repr=False)
    size: int = 0

    @classmethod
    def of(cls, table: Table) -> "SmallRows | None":
        """None if Postgres shortens the name of a column, which then cannot be found in the JSON."""
        if any(short(name) != name for name in table.columns):
            return None
        definition = ", ".join(f"{quoted(name)} {type_}" for name, type_ in table.types.items())
        return cls(definition, table.row_types)

    def add(self, rows: list[Any]) -> bool:
        """Hold further rows. False if they are too many, or have a value of another type or without a form in JSON."""
        if len(self.rows) + len(rows) > SMALL_ROWS:
            return False
        try:
            if not self.types.are_plain(rows):
                return False
            text = EXACT_JSON.encode(rows)
        except ENCODING_ERRORS:
            return False
        if self.size + len(text) > SMALL_BYTES:
            return False
        self.rows += rows
        self.texts.append(text)
        self.size += len(text)
        return True

    def relation(self, name: str) -> NewRowsRelation:
        rows = b",".join(text[1:-1] for text in self.texts).decode()
        return NewRowsRelation(name=name, definition=self.definition, rows=f"[{rows}]")


class CopyFormatter:
    """Makes chunks of one table's rows."""

    def __init__(self, table: Table, nul: Nul = "reject") -> None:
        self._nul_in_a_text = nul
        self._table = table
        self._types = table.row_types
        self._columns = table.columns
        self._without_extra = tuple(name for name in table.columns if name != EXTRA)

    def chunk(self, rows: list[Any]) -> tuple[Chunk, list[Unfit]]:
        """The rows, and those with a value of another type than its column."""
        columns = self._columns_of(rows)
        try:
            return self._encoded(columns, rows), []
        except ENCODING_ERRORS:
            return self._one_by_one(columns, rows)

    def _columns_of(self, rows: list[Any]) -> tuple[str, ...]:
        """The columns to write: without ``_extra``, if no row has one."""
        if EXTRA not in self._columns:
            return self._columns
        extras = get_column(rows, EXTRA)
        return self._without_extra if extras.count(UNSET) + extras.count(None) == len(extras) else self._columns

    def _encoded(self, columns: tuple[str, ...], rows: list[Any]) -> Chunk:
        block = _copy_encoder.encode_lines(self._types.values(columns, rows))
        return Chunk(columns, [block], len(rows), len(block))

    def _one_by_one(self, columns: tuple[str, ...], rows: list[Any]) -> tuple[Chunk, list[Unfit]]:
        chunk, unfit = Chunk(columns), []
        for row in rows:
            try:
                chunk.extend(self._encoded(columns, [row]))
            except ENCODING_ERRORS as error:
                values = {name: getattr(row, name) for name in columns}
                column, reason = self._culprit(columns, row, error)
                unfit.append(self._unfit(values, column, reason))
        return chunk, unfit

    def _culprit(self, columns: tuple[str, ...], row: Any, error: Exception) -> tuple[str | None, str]:
        for name in columns:
            try:
                self._encoded((name,), [row])
            except ENCODING_ERRORS as found:
                value, type_ = getattr(row, name), self._table.types[name]
                if isinstance(value, int) and not isinstance(value, bool) and type_ == "bigint":
                    return name, f"{value} is beyond the 64 bits of bigint"
                return name, f"it is no {type_}: {str(found).partition(' - at ')[0]}"
        return None, str(error)

    def _unfit(self, values: dict[str, Any], column: str | None, reason: str) -> Unfit:
        return Unfit.of(self._table.layout, values, column, reason)

    def refused(self, cells: Sequence[Any], reason: str) -> Unfit:
        """A row as it was read back from a temporary table, nested values as their text."""
        values = {
            name: Raw(cell.encode()) if name in self._types.nested and cell is not None else cell
            for name, cell in zip(self._columns, cells, strict=True)
        }
        return self._unfit(values, None, reason)

    # --- rows that COPY refuses -------------------------------------------------------------------------------------

    def without_nul(self, chunk: Chunk) -> tuple[list[bytes], list[Unfit]]:
        """
        The JSON arrays of the rows without a NUL, and the other rows. If NUL is stripped or replaced, rows with a NUL
        outside of the key are kept, without it.
        """
        fitting, unfit = [], []
        for line in (line for block in chunk.blocks for line in block.splitlines(keepends=True)):
            cells = _cells.decode(line) if b"u0000" in line else []
            nul = self._nul(chunk.columns, cells)
            if nul is not None and self._nul_in_a_text != "reject" and nul[0] not in self._table.key:
                cells = [self._without_nul(*cell) for cell in zip(chunk.columns, cells, strict=True)]
                line, nul = _copy_encoder.encode(cells) + b"\n", self._nul(chunk.columns, cells)
            if nul is None:
                fitting.append(line)
            else:
                unfit.append(self._unfit(self._read(chunk.columns, line), *nul))
        return fitting, unfit

    def refused_by_copy(self, columns: tuple[str, ...], line: bytes, error: psycopg.Error) -> Unfit:
        """A row that the server refuses with this error."""
        message, detail = error.diag.message_primary or str(error), error.diag.message_detail
        reason = f"{message} ({detail})" if detail else message
        return self._unfit(self._read(columns, line), _column(error, columns), reason)

    def _nul(self, columns: tuple[str, ...], cells: Sequence[Any]) -> tuple[str, str] | None:
        """The column and the reason of a row with a NUL; one in the key first."""
        unfit_cell = None
        for name, cell in zip(columns, cells, strict=False):  # no cells: no NUL
            if not isinstance(cell, str):
                continue
            if "\0" in cell:
                reason = "the text holds a NUL character, which Postgres cannot store"
            elif name in self._types.nested and _ESCAPED_NUL.search(cell):
                reason = "a text inside holds a NUL character (\\u0000), which Postgres cannot store"
            else:
                continue
            if name in self._table.key:
                return name, reason
            unfit_cell = unfit_cell or (name, reason)
        return unfit_cell

    def _without_nul(self, name: str, cell: Any) -> Any:
        if not isinstance(cell, str):
            return cell
        replaced = self._nul_in_a_text == "replace"
        if name in self._types.nested:
            return _ESCAPED_NUL.sub(r"\1\\ufffd" if replaced else r"\1", cell)
        return cell.replace("\0", "\ufffd" if replaced else "")

    def _read(self, columns: tuple[str, ...], line: bytes) -> dict[str, Any]:
        """The values of a row as they were, dates and times as their texts."""
        values = dict(zip(columns, _cells.decode(line), strict=True))
        for name, cell in values.items():
            if name in self._types.nested and cell is not None:
                values[name] = Raw(cell.encode())
            elif self._table.types[name] == "numeric" and isinstance(cell, str):
                values[name] = Decimal(cell)
        return values


def _column(error: psycopg.Error, columns: Sequence[str]) -> str | None:
    context = error.diag.context or ""
    return next(
        (name for name in columns if re.search(rf", \S+ {re.escape(name)}(?::|\s*$)", context, re.MULTILINE)), None
    )
