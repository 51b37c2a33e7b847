"""
CSV according to RFC 4180: a header row, CRLF after each record, ``""`` for a quote inside quotes.

A text is always quoted, so that an empty text (``""``) and null (nothing) are distinct. Nested values are JSON text,
decimals keep their digits, booleans are ``true`` and ``false``, dates and times ISO 8601, times with the offset they
have (naive ones without). A NUL inside a text is written as U+2400, since most readers end a text at a NUL.
"""

import codecs
import csv
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from io import StringIO
from itertools import compress, repeat
from operator import is_
from typing import Any, BinaryIO, ClassVar

import msgspec
from attrs import field, frozen
from penstock import EXACT_JSON, Column, Erasure, Layout

from penstock_plugins.files.codec import TextEncoder
from penstock_plugins.sink_support.text_columns import csv_records, json_texts

_BLOCK_BYTES = 1 << 20
_LONGEST_CELL = (1 << 31) - 1  # the csv module refuses one of more than 128 KiB, unless its limit is set
_NUL = "\u2400"  # in place of a NUL
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


# A null between the elements of a JSON array.
_NOTHING = msgspec.Raw(b"")


def _unquoted(text: str) -> int:
    """A value that csv.writer takes for a number, and so does not quote, and writes as ``text``."""
    made: int = type("Unquoted", (int,), {"__str__": text.__str__})()
    return made


_UNQUOTED = {None: _unquoted(""), True: _unquoted("true"), False: _unquoted("false")}


@frozen
class Csv:
    """
    The codec of ``.csv`` files.

    ``escape_formulas`` puts ``'`` before texts that a spreadsheet would run (those that start with ``= + - @``, tab
    or carriage return). It changes data, so it is off by default.
    ``delimiter`` between cells; ``decimal_sign`` of decimals, which are quoted unless it is a point; ``bom``: files
    begin with a byte order mark, by which Excel recognises UTF-8.
    """

    name: ClassVar[str] = "csv"
    appends: ClassVar[bool] = True
    typed: ClassVar[bool] = False

    escape_formulas: bool = False
    delimiter: str = ","
    decimal_sign: str = "."
    bom: bool = False

    @property
    def dialect(self) -> str:
        return (
            f'delimiter = "{self.delimiter}", decimal_sign = "{self.decimal_sign}", '
            f"escape_formulas = {str(self.escape_formulas).lower()}"
        )

    def conflict(self, former: Column, now: Column) -> str:
        return ""

    def description(self) -> dict[str, Any]:
        dialect = {"delimiter": self.delimiter, "lineTerminator": "\r\n", "quoteChar": '"', "doubleQuote": True}
        return {"format": "csv", "mediatype": "text/csv", "encoding": "utf-8", "dialect": dialect}

    def _header(self, columns: Iterable[str]) -> bytes:
        names = self.delimiter.join(f'"{name}"' for name in columns)
        return (codecs.BOM_UTF8 if self.bom else b"") + names.encode() + b"\r\n"

    def encoder(self, layout: Layout) -> TextEncoder:
        cells = [(column.name, self._cells(column)) for column in layout.columns]

        def encode(rows: Sequence[Any]) -> bytes:
            columns = [cells_of(list(map(getattr, rows, repeat(name)))) for name, cells_of in cells]
            return _from_json(columns) if self.delimiter == "," else self._written(columns)

        return TextEncoder(self._header(column.name for column in layout.columns), encode)

    def _cells(self, column: Column) -> "Cells":
        if column.type == "text" and self.escape_formulas:
            return _escaped
        if column.type == "decimal" and self.decimal_sign != ".":
            return lambda values: [None if v is None else str(v).replace(".", self.decimal_sign) for v in values]
        return _CELLS.get(column.type, _unchanged)

    def _written(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """The records by csv.writer, which quotes what is no number."""
        text = StringIO(newline="")
        writer = csv.writer(text, delimiter=self.delimiter, lineterminator="\r\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows(zip(*(_unquoted_nulls(column) for column in columns), strict=True))
        return text.getvalue().replace("\0", _NUL).encode()

    def read(self, file: BinaryIO) -> "CsvRecords":
        return CsvRecords(file, self.delimiter)

    def erased(self, file: BinaryIO, erasure: Erasure) -> Iterator[tuple[bytes, int]]:
        records = CsvRecords(file, self.delimiter)
        names = records.columns
        delivered = [index for index, name in enumerate(names) if name not in erasure.columns]
        gone = [index for index, name in enumerate(names) if name in erasure.columns]
        nested = [(index, erasure.nested[name]) for index, name in enumerate(names) if name in erasure.nested]
        yield self._header(names[index] for index in delivered), 0
        for block in records:
            rows = records.cells(block)
            lost = [any(row[index] for index in gone) for row in rows]
            for index, clean in nested:
                for number, row in enumerate(rows):
                    if row[index] and (cleaned := clean(_text_of(row[index]))) != _text_of(row[index]):
                        lost[number] = True
                        row[index] = "" if cleaned is None else _cell_of(cleaned)
            lines = [self.delimiter.join([row[index] for index in delivered]) + "\r\n" for row in rows]
            yield "".join(lines).encode(), sum(lost)

    def holds(self, file: BinaryIO, columns: Sequence[str]) -> bool:
        try:
            return set(columns) <= set(CsvRecords(file, self.delimiter).columns)
        except (UnicodeDecodeError, csv.Error):
            return False


# --- writing: the values of a column to texts, numbers, booleans and None -------------------------------------------

Cells = Callable[[list[Any]], Sequence[Any]]


def _unchanged(values: list[Any]) -> Sequence[Any]:
    return values


def _escaped(values: list[Any]) -> Sequence[Any]:
    return [f"'{value}" if value is not None and value.startswith(_FORMULA) else value for value in values]


def _times(values: list[Any]) -> Sequence[Any]:
    if _has_none(values):
        return [None if value is None else value.isoformat() for value in values]
    return list(map(datetime.isoformat, values))


_CELLS: dict[str, Cells] = {"datetime": _times, "json": json_texts}


def _has_none(values: Sequence[Any]) -> bool:
    return any(map(is_, values, repeat(None)))


def _from_json(columns: Sequence[Sequence[Any]]) -> bytes:
    lines = EXACT_JSON.encode_lines(list(zip(*map(_empty_nulls, columns), strict=True)))
    return csv_records(lines, end=b"\r\n", nul=_NUL.encode())


def _empty_nulls(column: Sequence[Any]) -> Sequence[Any]:
    return [_NOTHING if value is None else value for value in column] if _has_none(column) else column


def _unquoted_nulls(column: Sequence[Any]) -> Sequence[Any]:
    """A column for csv.writer: no quotes around nulls and booleans."""
    return [_UNQUOTED[value] if value is None or value is True or value is False else value for value in column]


def _text_of(cell: str) -> str:
    """The text of a cell as it is written."""
    return cell[1:-1].replace('""', '"') if cell.startswith('"') else cell


def _cell_of(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


# --- reading, to merge ----------------------------------------------------------------------------------------------


@frozen
class CsvRecords:
    """
    A CSV file, about a mebibyte of records at a time; line breaks inside quotes belong to their record. A block is a
    list of records, line ends included.
    """

    file: BinaryIO = field(repr=False)
    delimiter: str = ","

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names in the header row."""
        return tuple(next(csv.reader([self._record().decode("utf-8-sig")], delimiter=self.delimiter), ()))

    @cached_property
    def _cell(self) -> "re.Pattern[str]":
        """One cell as it is written, its quotes included: null and an empty text stay apart."""
        delimiter = re.escape(self.delimiter)
        return re.compile(f'("(?:[^"]|"")*"|[^"{delimiter}]*)(?:{delimiter}|$)')

    def _record(self) -> bytes:
        record = line = self.file.readline()
        quotes = line.count(b'"')
        while line and quotes % 2:
            line = self.file.readline()
            quotes += line.count(b'"')
            record += line
        return record

    def __iter__(self) -> Iterator[list[bytes]]:
        _ = self.columns  # the header comes first
        while True:
            block: list[bytes] = []
            size = 0
            while size < _BLOCK_BYTES and (record := self._record()):
                block.append(record)
                size += len(record)
            if not block:
                return
            if not block[-1].endswith(b"\n"):
                block[-1] += b"\r\n"
            yield block

    def keys(self, block: Sequence[bytes], columns: Sequence[str]) -> Sequence[tuple[Hashable, ...]]:
        try:
            indexes = [self.columns.index(name) for name in columns]
            csv.field_size_limit(_LONGEST_CELL)
            rows = csv.reader((record.decode() for record in block), delimiter=self.delimiter, strict=True)
            keys = [tuple([row[index] for index in indexes]) for row in rows]
        except (csv.Error, IndexError, UnicodeDecodeError) as error:
            raise ValueError(str(error)) from error
        if len(keys) != len(block):
            raise ValueError("a record is not closed")
        return keys

    def cells(self, block: Sequence[bytes]) -> list[list[str]]:
        """The cells of each record as they are written, quotes included."""
        return [self._cell.findall(record.decode().rstrip("\r\n")) for record in block]

    def columns_beyond(self, layout: Layout) -> Sequence[Column]:
        declared = {column.name for column in layout.columns}
        return [Column(name=name, type="text") for name in self.columns if name not in declared]

    def chosen(self, block: list[bytes], chosen: Sequence[bool], layout: Layout) -> list[bytes]:
        block = list(compress(block, chosen))
        declared = tuple(column.name for column in layout.columns)
        if declared == self.columns:
            return block
        indexes = [self.columns.index(name) if name in self.columns else None for name in declared]
        return [
            (self.delimiter.join("" if index is None else row[index] for index in indexes) + "\r\n").encode()
            for row in self.cells(block)
        ]
