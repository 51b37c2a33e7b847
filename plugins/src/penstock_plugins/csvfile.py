"""
CSV as RFC 4180 has it: a header row, CRLF after each record, ``""`` for a quote inside quotes.

A text is always quoted, so that an empty text (``""``) and null (nothing) stay apart. Nested values are JSON text,
decimals keep their digits, booleans are ``true`` and ``false``, dates and times ISO 8601, times with the offset they
have (naive ones without).
"""

import csv
import os
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache, cached_property
from itertools import chain
from keyword import iskeyword
from operator import attrgetter, methodcaller
from typing import Any, BinaryIO

import msgspec
from attrs import field, frozen
from penstock import Column, Layout

from penstock_plugins.codec import Encode

_BLOCK_BYTES = 1 << 20
_json = msgspec.json.Encoder(decimal_format="number")

# Stands for null in a text column until the quotes were counted. Random, so that no provider can send it.
_NULL = f"\0{os.urandom(6).hex()}"


@frozen
class Csv:
    """
    The codec of ``.csv`` files.

    ``escape_formulas`` puts ``'`` before texts that a spreadsheet would run (those that start with ``= + - @``, tab
    or carriage return). It changes data, so it is off unless asked for.
    """

    escape_formulas: bool = False
    name: str = "csv"

    def header(self, layout: Layout) -> bytes:
        return ",".join(f'"{column.name}"' for column in layout.columns).encode() + b"\r\n"

    def encoder(self, layout: Layout) -> Encode:
        return row_encoder(layout.columns, self.escape_formulas)

    def read(self, file: BinaryIO) -> "CsvRecords":
        return CsvRecords(file)

    def holds(self, file: BinaryIO, columns: Sequence[str]) -> bool:
        try:
            return set(columns) <= set(next(csv.reader([file.readline(_BLOCK_BYTES).decode("utf-8-sig")]), ()))
        except (UnicodeDecodeError, csv.Error):
            return False


# --- writing --------------------------------------------------------------------------------------------------------


@cache
def row_encoder(columns: tuple[Column, ...], escape_formulas: bool) -> Encode:
    """
    A function from rows to CSV records.

    It tries a join of f-strings made for these columns, which does not look at the texts (0.7 of the time of
    csv.writer), and counts the quotes of the outcome: if there are more than it put there itself, or if a null may
    have come where none was declared, the batch is done again with every text looked at.
    """
    quick = _compiled(columns, _unseen)
    exact = _compiled(columns, _escaped if escape_formulas else _quoted)
    nested = [attrgetter(column.name) for column in columns if column.type == "json"]
    own_quotes = 2 * sum(column.type == "text" for column in columns)

    def encode(rows: Sequence[Any]) -> bytes:
        json_texts = [_json_texts(list(map(values_of, rows))) for values_of in nested]
        if not escape_formulas:
            block = quick(rows, *json_texts)
            quotes = own_quotes * len(rows) + sum(map(_count_quotes, chain.from_iterable(json_texts)))
            if block.count('"') == quotes and "None" not in block:
                return block.replace(f'"{_NULL}"', "").encode()
        return exact(rows, *json_texts).encode()

    return encode


def _compiled(columns: Sequence[Column], text: Callable[[str], str]) -> Callable[..., str]:
    """
    ``lambda rows, j0: "".join([f'"{r.click_id}",{r.clicks},{j0}\r\n' for r, j0 in zip(rows, j0)])``, so to speak.

    Nested columns come as lists of finished texts. The source is made of our own expressions and of column names that
    are identifiers, nothing else.
    """
    scope: dict[str, Any] = {"null": _NULL, "quoted": quoted, "escaped": escaped}
    cells: list[str] = []
    nested: list[str] = []
    for column in columns:
        value = f"r.{column.name}"
        if not column.name.isidentifier() or iskeyword(column.name):
            value = f"getattr(r, n{len(cells)})"
            scope[f"n{len(cells)}"] = column.name
        if column.type == "json":
            nested.append(f"j{len(nested)}")
            cells.append(f"{{{nested[-1]}}}")
        elif column.type == "text":
            cells.append(text(value) if column.nullable or text is not _unseen else f'"{{{value}}}"')
        else:
            cells.append(_cell(column, value))
    loop = f"for r, {', '.join(nested)} in zip(rows, {', '.join(nested)})" if nested else "for r in rows"
    source = f"""def encode(rows, {", ".join(nested)}): return "".join([f'''{",".join(cells)}\\r\\n''' {loop}])"""
    exec(source, scope)  # noqa: S102 (see the docstring; a loop over the columns would cost several times as much)
    made: Callable[..., str] = scope["encode"]
    return made


def _unseen(value: str) -> str:
    return f'"{{null if {value} is None else {value}}}"'


def _quoted(value: str) -> str:
    return f"{{quoted({value})}}"


def _escaped(value: str) -> str:
    return f"{{escaped({value})}}"


def _cell(column: Column, value: str) -> str:
    """A cell that holds no quote, comma or line end whatever its value."""
    # str() and isoformat() take half the time of what a bare value in an f-string does for these types.
    shown = {
        "boolean": f'"true" if {value} else "false"',
        "decimal": f"str({value})",
        "date": f"{value}.isoformat()",
        "datetime": f"{value}.isoformat()",
    }.get(column.type, value)
    return f'{{"" if {value} is None else {shown}}}'


def quoted(text: str | None) -> str:
    return "" if text is None else '"' + text.replace('"', '""') + '"'


def escaped(text: str | None) -> str:
    return quoted(f"'{text}" if text and text[0] in "=+-@\t\r" else text)


def _json_texts(values: Sequence[Any]) -> Sequence[str]:
    if _NOTHING.issuperset(map(id, values)):
        return [""] * len(values)
    lines = _json.encode_lines([None if value is msgspec.UNSET else value for value in values])
    texts = lines.decode().replace('"', '""').split("\n")
    if len(texts) != len(values) + 1:  # a part that was kept byte for byte holds a line break
        return list(map(_json_text, values))
    return ["" if text == "null" else f'"{text}"' for text in texts[:-1]]


_count_quotes = methodcaller("count", '"')
_NOTHING = {id(None), id(msgspec.UNSET)}


def _json_text(value: Any) -> str:
    if id(value) in _NOTHING:
        return ""
    text = _json.encode(value).decode()
    return "" if text == "null" else '"' + text.replace('"', '""') + '"'


# --- reading, to merge ----------------------------------------------------------------------------------------------

_CELL = re.compile(r'("(?:[^"]|"")*"|[^",]*)(?:,|$)')


@frozen
class CsvRecords:
    """A CSV file, about a mebibyte of records at a time; line breaks inside quotes belong to their record."""

    file: BinaryIO = field(repr=False)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names in the header row."""
        return tuple(next(csv.reader([self._record().decode("utf-8-sig")]), ()))

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

    def keys(self, block: Sequence[bytes], columns: Sequence[str]) -> Sequence[Hashable]:
        try:
            places = [self.columns.index(name) for name in columns]
            rows = csv.reader((record.decode() for record in block), strict=True)
            keys = [tuple([row[place] for place in places]) for row in rows]
        except (csv.Error, IndexError, UnicodeDecodeError) as error:
            raise ValueError(str(error)) from error
        if len(keys) != len(block):
            raise ValueError("a record is not closed")
        return keys

    def fitted(self, block: list[bytes], layout: Layout) -> list[bytes]:
        wanted = tuple(column.name for column in layout.columns)
        if wanted == self.columns:
            return block
        places = [self.columns.index(name) if name in self.columns else None for name in wanted]
        cells = [_CELL.findall(record.decode().rstrip("\r\n")) for record in block]
        return [(",".join("" if place is None else row[place] for place in places) + "\r\n").encode() for row in cells]
