"""
Rows to the bytes of a binary COPY, and, when the server takes offence at some, back to the records they were.

psycopg's C code formats a row that it is given as a tuple; the tuples are made by ``attrgetter`` and ``zip``, so no
Python statement runs per row. Nothing is checked on this road. What Postgres cannot hold is noticed by the formatter
(an integer beyond 64 bits) or by the server (NUL in a text), and only then looked for.
"""

import re
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, time
from decimal import Decimal
from itertools import repeat
from operator import attrgetter
from typing import Any

import msgspec
import psycopg
from attrs import define, field, frozen
from msgspec import UNSET, Raw
from penstock import EXTRA, Rejected

# What psycopg's own Copy.write_row calls, without the two Python functions around it: a fifth of the time of a row.
from psycopg._copy_base import format_row_binary
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format

from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.tables import AWARE, NAIVE, Table

NUMBERS_REMEMBERED = 10_000

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

_NULL = struct.pack("!i", -1)
_encoder = msgspec.json.Encoder(decimal_format="number")

# psycopg's names of the types in which it is told to format. A jsonb value is bytes by then.
_FORMATS = {NAIVE: "timestamp", AWARE: "timestamptz", "jsonb": "bytea"}

_MISFITS = (ArithmeticError, ValueError, TypeError, struct.error, psycopg.Error)

_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


@frozen
class Unfit:
    """A record that the table cannot hold, with its own values, so that counts and sums can leave it out."""

    rejected: Rejected
    values: dict[str, Any] = field(repr=False)


@define
class Chunk:
    """
    Formatted rows with values for these columns; the others are null. ``blocks`` hold whole rows each.
    """

    columns: tuple[str, ...]
    blocks: list[bytes | bytearray] = field(factory=list, repr=False)
    rows: int = 0
    size: int = 0

    def stream(self) -> Iterator[bytes | bytearray]:
        """As COPY wants them."""
        yield SIGNATURE
        yield from self.blocks
        yield TRAILER


class Encoder:
    """Makes chunks of one table's rows."""

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table
        self._stream = table.layout.stream
        self._declared = {column.name: column for column in table.layout.columns}
        self._whole = table.columns
        self._short = tuple(name for name in table.columns if name != EXTRA)
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
        """Without ``_extra``, where no row has one."""
        if EXTRA not in self._declared:
            return self._short
        extras = list(map(attrgetter(EXTRA), rows))
        return self._short if extras.count(UNSET) + extras.count(None) == len(extras) else self._whole

    def _formatted(self, columns: tuple[str, ...], rows: list[Any]) -> Chunk:
        transformer = Transformer(self._database.connection)
        registry = self._database.connection.adapters.types
        packed = {name: values for name in self._numbers.intersection(columns) if (values := self._packed(name, rows))}
        types = {**self._table.types, **dict.fromkeys(packed, "bytea")}
        formats = [_FORMATS.get(types[name], types[name]) for name in columns]
        transformer.set_dumper_types([registry.get_oid(name) for name in formats], Format.BINARY)
        block = bytearray()
        tuples = self._tuples(columns, rows, packed)
        deque(map(format_row_binary, tuples, repeat(transformer), repeat(block)), maxlen=0)
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

        A number is formatted in 0.6 us and found in 0.1, and a column of prices holds a few hundred. The text is what
        is remembered: 0.10 and 0.1 are equal, but do not look the same.
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
            return [None if one is None else datetime.combine(one, time()) for one in values]
        # Binary jsonb is the byte 1 and the text.
        if set(map(type, values)) <= {Raw, type(None)}:
            return [None if one is None else b"\1" + one for one in values]
        return [None if one is None or one is UNSET else b"\1" + _encoder.encode(one) for one in values]

    def _one_by_one(self, columns: tuple[str, ...], rows: list[Any]) -> tuple[Chunk, list[Unfit]]:
        chunk, unfit = Chunk(columns), []
        for row in rows:
            try:
                one = self._formatted(columns, [row])
            except _MISFITS as error:
                values = {name: getattr(row, name) for name in columns}
                column, reason = self._culprit(columns, row, error)
                unfit.append(self._unfit(values, column, reason))
            else:
                chunk.blocks += one.blocks
                chunk.rows += 1
                chunk.size += one.size
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
        declared = self._declared.get(column or "")
        key = {name: values.get(name) for name in self._table.layout.key}
        raw = {name: None if value is UNSET else value for name, value in values.items()}
        where = ",".join(f"@.{name}=={_encoder.encode(value).decode()}" for name, value in key.items())
        return Unfit(
            Rejected(
                stream=self._stream,
                path=f"$[?({where})]" + (f".{declared.member or declared.name}" if declared is not None else ""),
                reason=reason,
                raw=_encoder.encode(raw).decode(),
            ),
            values,
        )

    def refused(self, cells: Sequence[Any], reason: str) -> Unfit:
        """A row as it was read back from a temporary table, nested values as their text."""
        values = {
            name: Raw(cell.encode()) if name in self._nested and cell is not None else cell
            for name, cell in zip(self._whole, cells, strict=True)
        }
        return self._unfit(values, None, reason)

    # --- what the server refused ------------------------------------------------------------------------------------

    def sifted(self, chunk: Chunk, error: psycopg.Error) -> tuple[Chunk, list[Unfit]]:
        """
        The chunk without the rows that the server refuses, which are those with a NUL, or else the one it named.

        Raises ``error`` when that is none: it was not about a row.
        """
        rows = list(_rows(b"".join(chunk.blocks)))
        unfit: dict[int, tuple[str | None, str]] = {
            number: found for number, (_, cells) in enumerate(rows) if (found := self._nul(chunk, cells))
        }
        if not unfit:
            number = _line(error)
            if number is None or not 0 < number <= len(rows):
                raise error
            said = error.diag.message_primary or str(error)
            detail = error.diag.message_detail
            unfit[number - 1] = (_column(error, chunk.columns), f"{said} ({detail})" if detail else said)
        kept: list[bytes | bytearray] = [raw for number, (raw, _) in enumerate(rows) if number not in unfit]
        bad = [self._unfit(self._read(chunk, rows[number][1]), *why) for number, why in unfit.items()]
        return Chunk(chunk.columns, kept, len(kept), sum(map(len, kept))), bad

    def _nul(self, chunk: Chunk, cells: Sequence[bytes | None]) -> tuple[str, str] | None:
        for name, cell in zip(chunk.columns, cells, strict=True):
            if cell is None:
                continue
            type_ = self._table.types[name]
            if type_ in ("text", "character varying") and b"\0" in cell:
                return name, "the text holds a NUL character, which Postgres cannot store"
            if type_ == "jsonb" and _ESCAPED_NUL.search(cell):
                return name, "a text inside holds a NUL character (\\u0000), which Postgres cannot store"
        return None

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
            elif type_ in ("text", "character varying"):
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


def _line(error: psycopg.Error) -> int | None:
    """The row that the server names: ``COPY clicks, line 3, column url``, in whatever language."""
    found = re.search(r"^COPY .*?, \D*(\d+)", error.diag.context or "", re.MULTILINE)
    return int(found[1]) if found else None


def _column(error: psycopg.Error, columns: Sequence[str]) -> str | None:
    context = error.diag.context or ""
    return next((name for name in columns if re.search(rf", \S+ {re.escape(name)}\s*$", context, re.MULTILINE)), None)
