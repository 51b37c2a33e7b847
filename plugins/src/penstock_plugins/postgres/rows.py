"""
Rows to the bytes of a binary COPY, and, if the server refuses some, back to the records.

``psycopg.Copy.write_row`` formats rows as tuples, which ``attrgetter`` and ``zip`` make. Values are not checked before.
The formatter (an integer beyond 64 bits) or the server (NUL in a text) refuses those that Postgres cannot hold, and
only then are they searched for.
"""

import re
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from operator import attrgetter
from typing import Any, Literal

import msgspec
import psycopg
from attrs import define, field
from msgspec import UNSET, Raw
from penstock import EXTRA
from psycopg.adapt import PyFormat, Transformer
from psycopg.copy import Copy, Writer
from psycopg.pq import Format

from penstock_plugins.postgres.candidate import AWARE, NAIVE
from penstock_plugins.postgres.database import Database, quoted, short
from penstock_plugins.postgres.replacement import Stage
from penstock_plugins.postgres.tables import Table
from penstock_plugins.unfit import Unfit

NUMBERS_REMEMBERED = 10_000

# A partition of so many rows and bytes of JSON at most is a parameter of its statements. Above, COPY is faster.
SMALL_ROWS, SMALL_BYTES = 500, 2**18

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

_NULL = struct.pack("!i", -1)
_encoder = msgspec.json.Encoder(decimal_format="number")

# psycopg's names of the types in which it formats values. A jsonb value is bytes at that point.
_FORMATS = {NAIVE: "timestamp", AWARE: "timestamptz", "jsonb": "bytea"}

_MISFITS = (ArithmeticError, ValueError, TypeError, struct.error, psycopg.Error)

_ESCAPED_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")

# The types of decoded values by the type of their column, for SmallRows. A nested value may have any.
_PLAIN: dict[str, frozenset[type]] = {
    name: frozenset((*types, type(None)))
    for names, types in (
        (("text", "character varying"), (str,)),
        (("smallint", "integer", "bigint"), (int,)),
        (("numeric",), (Decimal, int)),
        (("boolean",), (bool,)),
        (("date",), (date,)),
        ((NAIVE, AWARE), (datetime, date)),
    )
    for name in names
}

Nul = Literal["reject", "strip", "replace"]
"""The handling of a record with a NUL character in a text, which Postgres cannot store."""

_TEXTS = ("text", "character varying")


class _Blocks(Writer):
    """Receives the formatted rows of a ``Copy``, in place of the server."""

    def __init__(self) -> None:
        self.blocks: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.blocks.append(data)

    def rows(self) -> bytes:
        """The formatted rows, without the frame of a COPY."""
        return b"".join(self.blocks)[len(SIGNATURE) : -len(TRAILER)]


@define(eq=False, repr=False)
class Chunk:
    """
    Formatted rows with values for these columns; the others are null. ``blocks`` hold whole rows each.
    """

    columns: tuple[str, ...]
    blocks: list[bytes | bytearray] = field(factory=list, repr=False)
    rows: int = 0
    size: int = 0

    def stream(self) -> Iterator[bytes | bytearray]:
        """The blocks as a COPY stream, with header and trailer."""
        yield SIGNATURE
        yield from self.blocks
        yield TRAILER


@define(eq=False, repr=False)
class SmallRows:
    """
    The rows of a small partition, and the JSON of each batch of them. ``definition``: the columns of their table.

    The server would take a float for an exact number, and drop the zone of a time. Only rows are held whose values have
    the types of their columns, as decoded ones do; ``types`` are the columns to look at.
    """

    definition: str
    types: tuple[tuple[str, str, frozenset[type]], ...]
    rows: list[Any] = field(factory=list, repr=False)
    texts: list[bytes] = field(factory=list, repr=False)
    size: int = 0

    @classmethod
    def of(cls, table: Table) -> "SmallRows | None":
        """None if Postgres shortens the name of a column, which then cannot be found in the JSON."""
        if any(short(name) != name for name in table.columns):
            return None
        definition = ", ".join(f"{quoted(name)} {type_}" for name, type_ in table.types.items())
        return cls(
            definition, tuple((name, type_, _PLAIN[type_]) for name, type_ in table.types.items() if type_ in _PLAIN)
        )

    def add(self, rows: Sequence[Any]) -> bool:
        """Hold further rows. False if they are too many, or have a value of another type or without a form in JSON."""
        if len(self.rows) + len(rows) > SMALL_ROWS or not self._typed(rows):
            return False
        try:
            text = _encoder.encode(rows)
        except (TypeError, ValueError, OverflowError):
            return False
        if self.size + len(text) > SMALL_BYTES:
            return False
        self.rows += rows
        self.texts.append(text)
        self.size += len(text)
        return True

    def _typed(self, rows: Sequence[Any]) -> bool:
        for name, type_, types in self.types:
            values = list(map(attrgetter(name), rows))
            kinds = set(map(type, values))
            if not kinds <= types:
                return False
            if type_ in (NAIVE, AWARE) and datetime in kinds:
                zones = {value.tzinfo is None for value in values if type(value) is datetime}
                if zones != {type_ == NAIVE}:
                    return False
        return True

    def stage(self, name: str) -> Stage:
        rows = b",".join(text[1:-1] for text in self.texts).decode()
        return Stage(name=name, definition=self.definition, rows=f"[{rows}]")


class CopyFormatter:
    """Makes chunks of one table's rows."""

    def __init__(self, database: Database, table: Table, nul: Nul = "reject") -> None:
        self._database = database
        self._nul_in_a_text = nul
        self._table = table
        self._stream = table.layout.stream
        self._declared = {column.name: column for column in table.layout.columns}
        self._columns = table.columns
        self._without_extra = tuple(name for name in table.columns if name != EXTRA)
        self._nested = frozenset(name for name, type_ in table.types.items() if type_ == "jsonb")
        self._numbers = frozenset(name for name, type_ in table.types.items() if type_ == "numeric")
        self._formatted_numbers: dict[str, Any] = {}
        # A column that was a time before it was declared a date stays a time.
        self._dates = frozenset(
            name for name, column in self._declared.items() if column.type == "date" and table.types[name] == NAIVE
        )

    def chunk(self, rows: list[Any]) -> tuple[Chunk, list[Unfit]]:
        """The rows, and those that cannot be formatted."""
        columns = self._columns_of(rows)
        try:
            return self._formatted(columns, rows), []
        except _MISFITS:
            return self._one_by_one(columns, rows)

    def _columns_of(self, rows: list[Any]) -> tuple[str, ...]:
        """The columns to write: without ``_extra``, if no row has one."""
        if EXTRA not in self._declared:
            return self._without_extra
        extras = list(map(attrgetter(EXTRA), rows))
        return self._without_extra if extras.count(UNSET) + extras.count(None) == len(extras) else self._columns

    def _formatted(self, columns: tuple[str, ...], rows: list[Any]) -> Chunk:
        packed = {name: values for name in self._numbers.intersection(columns) if (values := self._packed(name, rows))}
        types = {**self._table.types, **dict.fromkeys(packed, "bytea")}
        formats = [_FORMATS.get(types[name], types[name]) for name in columns]
        blocks = _Blocks()
        with (
            self._database.connection.cursor() as cursor,
            Copy(cursor, binary=True, writer=blocks) as copy,
        ):
            copy.set_types(formats)
            deque(map(copy.write_row, self._tuples(columns, rows, packed)), maxlen=0)
        block = blocks.rows()
        return Chunk(columns, [block], len(rows), len(block))

    def _tuples(
        self, columns: tuple[str, ...], rows: list[Any], packed: dict[str, list[Any]]
    ) -> Iterable[Sequence[Any]]:
        special = (self._nested | self._dates).intersection(columns)
        if not special and not packed and len(columns) > 1:
            return map(attrgetter(*columns), rows)
        values = [
            packed[name] if name in packed else self._values(name, rows) if name in special else values_of(rows, name)
            for name in columns
        ]
        return zip(*values, strict=True)

    def _packed(self, name: str, rows: list[Any]) -> list[bytes | None] | None:
        """
        The numbers of a column as the bytes of COPY, each different one formatted once; None if too many differ.

        Formatting a number takes 0.6 us, a lookup 0.1, and a column of prices has a few hundred numbers. The lookup is
        by text: 0.10 and 0.1 are equal, but are written differently.
        """
        texts = list(map(str, values_of(rows, name)))
        different = set(texts)
        if len(different) > len(texts) // 4:
            return None
        if len(self._formatted_numbers) > NUMBERS_REMEMBERED:
            self._formatted_numbers.clear()
        missing = different - self._formatted_numbers.keys() - {"None"}
        if missing:
            adapters = self._database.connection.adapters
            dumper = adapters.get_dumper(Decimal, PyFormat.BINARY)(Decimal, self._database.connection)
            for text in missing:
                self._formatted_numbers[text] = dumper.dump(Decimal(text))
        return list(map(self._formatted_numbers.get, texts))

    def _values(self, name: str, rows: list[Any]) -> list[Any]:
        values = values_of(rows, name)
        if name in self._dates:
            return [None if value is None else datetime.combine(value, time()) for value in values]
        # Binary jsonb is the byte 1 and the text.
        if set(map(type, values)) <= {Raw, type(None)}:
            return [None if value is None else b"\1" + value for value in values]
        return [None if value is None or value is UNSET else b"\1" + _encoder.encode(value) for value in values]

    def _one_by_one(self, columns: tuple[str, ...], rows: list[Any]) -> tuple[Chunk, list[Unfit]]:
        chunk, unfit = Chunk(columns), []
        for row in rows:
            try:
                row_chunk = self._formatted(columns, [row])
            except _MISFITS as error:
                values = {name: getattr(row, name) for name in columns}
                column, reason = self._culprit(columns, row, error)
                unfit.append(self._unfit(values, column, reason))
            else:
                chunk.blocks += row_chunk.blocks
                chunk.rows += 1
                chunk.size += row_chunk.size
        return chunk, unfit

    def _culprit(self, columns: tuple[str, ...], row: Any, error: Exception) -> tuple[str | None, str]:
        for name in columns:
            try:
                self._formatted((name,), [row])
            except _MISFITS as found:
                if isinstance(found, OverflowError):
                    return name, f"{getattr(row, name)} is beyond the 64 bits of bigint"
                return name, f"it is no {self._table.types[name]}: {found}"
        return None, str(error)

    def _unfit(self, values: dict[str, Any], column: str | None, reason: str) -> Unfit:
        return Unfit.of(self._table.layout, values, column, reason)

    def refused(self, cells: Sequence[Any], reason: str) -> Unfit:
        """A row as it was read back from a temporary table, nested values as their text."""
        values = {
            name: Raw(cell.encode()) if name in self._nested and cell is not None else cell
            for name, cell in zip(self._columns, cells, strict=True)
        }
        return self._unfit(values, None, reason)

    # --- rows that the server refused----------------------------------------------------------------------------------

    def sifted(self, chunk: Chunk, error: psycopg.Error) -> tuple[Chunk, list[Unfit]]:
        """
        The chunk without the rows that the server refuses: those with a NUL, or else the row that it names. If NUL is
        stripped or replaced, rows with a NUL outside of the key are kept, without it.

        Raises ``error`` if it is not about a row.
        """
        rows = list(_rows(b"".join(chunk.blocks)))
        unfit: dict[int, tuple[str | None, str]] = {}
        mended = False
        for number, (_, cells) in enumerate(rows):
            if (unfit_cell := self._nul(chunk, cells)) is None:
                continue
            if self._nul_in_a_text != "reject" and unfit_cell[0] not in self._table.key:
                rows[number] = _row([self._without_nul(*cell) for cell in zip(chunk.columns, cells, strict=True)])
                unfit_cell, mended = self._nul(chunk, rows[number][1]), True
            if unfit_cell is not None:
                unfit[number] = unfit_cell
        if not unfit and not mended:
            line = _line(error)
            if line is None or not 0 < line <= len(rows):
                raise error
            message = error.diag.message_primary or str(error)
            detail = error.diag.message_detail
            unfit[line - 1] = (_column(error, chunk.columns), f"{message} ({detail})" if detail else message)
        kept: list[bytes | bytearray] = [raw for number, (raw, _) in enumerate(rows) if number not in unfit]
        bad = [self._unfit(self._read(chunk, rows[number][1]), *why) for number, why in unfit.items()]
        return Chunk(chunk.columns, kept, len(kept), sum(map(len, kept))), bad

    def _nul(self, chunk: Chunk, cells: Sequence[bytes | None]) -> tuple[str, str] | None:
        """The column and the reason of a row with a NUL; one in the key first."""
        unfit_cell = None
        for name, cell in zip(chunk.columns, cells, strict=True):
            if cell is None:
                continue
            type_ = self._table.types[name]
            if type_ in _TEXTS and b"\0" in cell:
                reason = "the text holds a NUL character, which Postgres cannot store"
            elif type_ == "jsonb" and _ESCAPED_NUL.search(cell):
                reason = "a text inside holds a NUL character (\\u0000), which Postgres cannot store"
            else:
                continue
            if name in self._table.key:
                return name, reason
            unfit_cell = unfit_cell or (name, reason)
        return unfit_cell

    def _without_nul(self, name: str, cell: bytes | None) -> bytes | None:
        if cell is None:
            return None
        replaced = self._nul_in_a_text == "replace"
        type_ = self._table.types[name]
        if type_ in _TEXTS:
            return cell.replace(b"\0", "\ufffd".encode() if replaced else b"")
        if type_ == "jsonb":
            return _ESCAPED_NUL.sub(rb"\1\\ufffd" if replaced else rb"\1", cell)
        return cell

    def _read(self, chunk: Chunk, cells: Sequence[bytes | None]) -> dict[str, Any]:
        """The values of a formatted row."""
        transformer = Transformer(self._database.connection)
        values: dict[str, Any] = {}
        for name, cell in zip(chunk.columns, cells, strict=True):
            type_ = self._table.types[name]
            if cell is None:
                values[name] = None
            elif type_ == "jsonb":
                values[name] = Raw(cell[1:])
            elif type_ in _TEXTS:
                values[name] = cell.decode()
            else:
                oid = self._database.connection.adapters.types.get_oid(_FORMATS.get(type_, type_))
                try:
                    values[name] = transformer.get_loader(oid, Format.BINARY).load(cell)
                except psycopg.DataError:  # a time that lies beyond the years 1 to 9999 once it is in UTC
                    values[name] = self._time_as_text(cell)
        return values

    def _time_as_text(self, cell: bytes) -> str:
        """A formatted ``timestamp with time zone``, as the server writes it."""
        return str(
            self._database.one(
                "select to_json(timestamptz '2000-01-01 00:00+00' + %s::bigint * interval '1 microsecond') #>> '{}'",
                (int.from_bytes(cell, "big", signed=True),),
            )
        )


def values_of(rows: list[Any], name: str) -> list[Any]:
    return list(map(attrgetter(name), rows))


def _rows(data: bytes) -> Iterator[tuple[bytes, list[bytes | None]]]:
    """Each formatted row, whole and cell by cell: a count, then length and bytes of each cell."""
    at = 0
    while at < len(data):
        start, count = at, int.from_bytes(data[at : at + 2], "big")
        at += 2
        cells: list[bytes | None] = []
        for _ in range(count):
            length = data[at : at + 4]
            at += 4
            if length == _NULL:
                cells.append(None)
                continue
            size = int.from_bytes(length, "big")
            cells.append(data[at : at + size])
            at += size
        yield data[start:at], cells


def _row(cells: Sequence[bytes | None]) -> tuple[bytes, list[bytes | None]]:
    """A row as :func:`_rows` gives it."""
    packed = [_NULL if cell is None else struct.pack("!i", len(cell)) + cell for cell in cells]
    return struct.pack("!h", len(cells)) + b"".join(packed), list(cells)


def _line(error: psycopg.Error) -> int | None:
    """The number of the row that the server names: ``COPY clicks, line 3, column url``, in any language."""
    match = re.search(r"^COPY .*?, \D*(\d+)", error.diag.context or "", re.MULTILINE)
    return int(match[1]) if match else None


def _column(error: psycopg.Error, columns: Sequence[str]) -> str | None:
    context = error.diag.context or ""
    return next((name for name in columns if re.search(rf", \S+ {re.escape(name)}\s*$", context, re.MULTILINE)), None)
