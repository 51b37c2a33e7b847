"""
Rows for an action from a file: JSON lines or CSV, read as a stream, so that a file may be larger than memory; and the
files that are written.

A row that cannot be read is passed on with its problem: one bad line does not stop the others.
"""

import csv
import gzip
import hashlib
import math
import operator
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, Protocol

import msgspec
from attrs import frozen

from penstock.errors import SinkError, UsageError
from penstock.model import EXACT_JSON, exact_json

MAX_LINE_BYTES = 16 * 1024 * 1024
_TOO_LONG = f"{MAX_LINE_BYTES >> 20} MiB or more; it was not read, and is not written to --refused"


@frozen(kw_only=True)
class InputRow:
    """
    One input row: its 0-based number, and its parameters or its problem.

    ``text``: the values are text without a type. ``typed``: they are typed and checked. ``raw``: the row as bytes, line
    end included, to be written to a file of refused rows (CSV: without the header).
    """

    number: int
    values: Mapping[str, Any]
    text: bool = False
    typed: bool = False
    problem: str = ""
    raw: bytes = b""


class Rows(Protocol):
    """Rows that can be read again and again from their start."""

    @property
    def header(self) -> bytes:
        """The first bytes of a file of such rows: the header of CSV, else empty."""

    def __iter__(self) -> Iterator[InputRow]: ...


@frozen
class SingleRow:
    """The parameters of the command line, typed and checked."""

    header: ClassVar[bytes] = b""

    values: Mapping[str, Any]

    def __iter__(self) -> Iterator[InputRow]:
        raw = EXACT_JSON.encode(self.values) + b"\n"
        yield InputRow(number=0, values=self.values, typed=True, raw=raw)


@frozen(kw_only=True)
class RowFile:
    """
    A file of rows. ``name``: its name in messages. Blank lines are skipped. Raises UsageError if it cannot be read,
    has no usable header, or changes between two readings.
    """

    path: Path
    format: Literal["jsonl", "csv"]
    digest: str
    header: bytes
    columns: tuple[str, ...]
    stamp: tuple[int, int]
    name: str

    @classmethod
    def at(cls, path: Path, name: str | None = None) -> "RowFile":
        """The file, its digest made; ``.csv`` and ``.jsonl`` (``.ndjson``, ``.json``), with ``.gz`` packed."""
        name = str(path) if name is None else name
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                stamp = _stamp(file)
                while block := file.read(1 << 20):
                    digest.update(block)
                _check_packed(path, file)
            format_ = _format_of(path, name)
            header, columns = _head(path, name) if format_ == "csv" else (b"", ())
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"--from {name}: cannot be read: {_why(error)}") from None
        return cls(
            path=path,
            format=format_,
            digest=digest.hexdigest(),
            header=header,
            columns=columns,
            stamp=stamp,
            name=name,
        )

    def __iter__(self) -> Iterator[InputRow]:
        try:
            with self.path.open("rb") as file:
                self._check_unchanged(file)
                read = self._csv if self.format == "csv" else self._jsonl
                for row in read(_unpacked(self.path, file)):
                    self._check_unchanged(file)  # the place that was reached may be another row's by now
                    yield row
                self._check_unchanged(file)
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"--from {self.name}: cannot be read: {_why(error)}") from None

    def _check_unchanged(self, file: BinaryIO) -> None:
        if _stamp(file) != self.stamp:
            raise UsageError(
                f"{self.name} changed while it was read; nothing more was sent. Restore it, and use --resume for the "
                "rows that were not sent. Send rows that were added as a file of their own"
            )

    def _jsonl(self, file: BinaryIO) -> Iterator[InputRow]:
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            if _skip_line(file, line):
                yield InputRow(number=number, values={}, problem=f"the line has {_TOO_LONG}")
                number += 1
                continue
            if not line.strip(b"\xef\xbb\xbf \t\r\n"):
                continue
            problem, values = "", {}
            try:
                value = exact_json(line.decode("utf-8-sig" if number == 0 else "utf-8"))
                if not isinstance(value, dict):
                    problem = "the line is no JSON object"
                else:
                    values = value
            except UnicodeDecodeError:
                problem = "the line is no UTF-8 text"
            except ValueError as error:
                problem = f"the line is no JSON: {error}"
            raw = line if line.endswith(b"\n") else line + b"\n"
            yield InputRow(number=number, values=values, problem=problem, raw=raw)
            number += 1

    def _csv(self, file: BinaryIO) -> Iterator[InputRow]:
        lines = _Lines(file)
        reader = csv.reader(lines, strict=True)
        number = -1
        while True:
            lines.taken.clear()
            problem = ""
            cells: list[str] = []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem = f"the line is no CSV: {error}"
            if not cells and not problem:
                continue
            if number < 0:
                number = 0
                continue  # the header
            if not problem and len(cells) != len(self.columns):
                problem = f"{len(cells)} cells under {len(self.columns)} columns"
            text = "".join(lines.taken)
            if not problem and any("\udc80" <= sign <= "\udcff" for sign in text):
                problem = "the line is no UTF-8 text"
            values = {} if problem else dict(zip(self.columns, cells, strict=True))
            raw = text.encode("utf-8", "surrogateescape")
            raw = raw + b"\n" if raw and not raw.endswith(b"\n") else raw
            yield InputRow(number=number, values=values, text=True, problem=problem, raw=raw)
            number += 1


class _Lines:
    """Lines of a CSV file as text, those of the present record kept: a quoted cell may span several."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._first = True
        self.taken: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_LINE_BYTES)
        if not line:
            raise StopIteration
        if _skip_line(self._file, line):
            self.taken.clear()
            raise csv.Error(f"it has {_TOO_LONG}")
        text = line.decode("utf-8-sig" if self._first else "utf-8", "surrogateescape")
        self._first = False
        self.taken.append(text)
        return text


def _skip_line(file: BinaryIO, line: bytes) -> bool:
    """Whether the line was cut at ``MAX_LINE_BYTES``; then the rest of it is skipped: a cut value is not sent."""
    cut = len(line) == MAX_LINE_BYTES and not line.endswith(b"\n")
    while cut and line and not line.endswith(b"\n"):
        line = file.readline(MAX_LINE_BYTES)
    return cut


def _stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _suffixes(path: Path) -> list[str]:
    return [suffix.lower() for suffix in path.suffixes]


def _unpacked(path: Path, file: BinaryIO) -> BinaryIO:
    return gzip.GzipFile(fileobj=file) if _suffixes(path)[-1:] == [".gz"] else file  # type: ignore[return-value]


def _check_packed(path: Path, file: BinaryIO) -> None:
    """Read a packed file to its end, so that one that was cut is an error before its first row is sent."""
    unpacked = _unpacked(path, file)
    if unpacked is not file:
        file.seek(0)
        while unpacked.read(1 << 20):
            pass


def _why(error: Exception) -> str:
    if isinstance(error, gzip.BadGzipFile):
        return "it is named .gz and is no gzip file, or a damaged one"
    if isinstance(error, EOFError):
        return "it is a gzip file that was cut off"
    return getattr(error, "strerror", None) or str(error)


def _format_of(path: Path, name: str) -> Literal["jsonl", "csv"]:
    last_suffix = [suffix for suffix in _suffixes(path) if suffix != ".gz"][-1:]
    if last_suffix == [".csv"]:
        return "csv"
    with path.open("rb") as file:
        start = _unpacked(path, file).read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"[") or start.partition(b"\n")[0].rstrip() == b"{":  # of which single lines may be rows
        raise UsageError(
            f"--from {name}: it is one JSON value, and no JSON lines; nothing was sent. Write each row as an object on "
            "a line of its own, as `jq -c '.[]'` does with an array"
        )
    jsonl = (last_suffix and last_suffix[0] in (".jsonl", ".ndjson", ".json")) or start[:1] == b"{" or not start
    return "jsonl" if jsonl else "csv"


def _head(path: Path, name: str) -> tuple[bytes, tuple[str, ...]]:
    csv.field_size_limit(min(MAX_LINE_BYTES, sys.maxsize))
    with path.open("rb") as file:
        lines = _Lines(_unpacked(path, file))
        try:
            columns = next((tuple(cell.strip() for cell in cells) for cells in csv.reader(lines) if cells), ())
        except csv.Error as error:
            raise UsageError(f"--from {name}: its header is no CSV: {error}") from None
    header = "".join(lines.taken).lstrip("\r\n")
    if any("\udc80" <= sign <= "\udcff" for sign in header):
        raise UsageError(f"--from {name}: its header is no UTF-8 text; nothing was sent. Save it in UTF-8")
    if header.lstrip().startswith("{"):
        raise UsageError(f"--from {name}: it holds JSON lines; nothing was sent. Name it .jsonl")
    if not columns or "" in columns:
        raise UsageError(f"--from {name}: its first line must name every column")
    other = next((sign for sign in ";\t|" if len(columns) == 1 and sign in columns[0]), None)
    if other is not None:
        separator = {"\t": "tabs", ";": "semicolons", "|": "bars"}[other]
        raise UsageError(
            f"--from {name}: its columns are separated by {separator} ({columns[0][:60]!r}); nothing was sent. Save "
            "it as CSV with commas, or as JSON lines"
        )
    doubled = [column for column in columns if columns.count(column) > 1]
    if doubled:
        raise UsageError(f"--from {name}: the column {doubled[0]} is there twice; rename one of them")
    return header.rstrip("\r\n").encode() + b"\n", columns


# --- files that are written -------------------------------------------------------------------------------------------

Write = Callable[[str], object]


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Values as a row of JSON lines has them: numbers are exact; what JSON does not have is text. Raises UsageError for a
    value that cannot be sent.
    """
    read: dict[str, Any] = exact_json(_line(values, "the parameters"))
    return read


def write_values(write: Write, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines. Raises UsageError for one that is no mapping, or has a value that cannot be sent."""
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise UsageError(f"row {number} is {type(row).__name__}, expected a mapping of values by name")
        write(_line(row, f"row {number}") + "\n")


def _line(values: Mapping[str, Any], where: str) -> str:
    for name, value in values.items():
        if not _can_be_sent(value):  # NaN would be null: the row would be sent without it; pandas.NA its text "<NA>"
            raise UsageError(
                f"{where}: {name} has {value}, which cannot be sent; nothing was sent. Leave it out, or use null"
            )
    try:
        return _ENCODE(dict(values)).decode()
    except UnicodeEncodeError:
        raise UsageError(f"{where}: a text has half a character, which UTF-8 cannot hold; nothing was sent") from None


def _can_be_sent(value: Any) -> bool:
    """Whether all numbers in the value are finite, and none of it is a missing value of pandas, such as NaT."""
    if value is None or isinstance(value, (str, int)):
        return True
    if isinstance(value, Decimal):
        return value.is_finite()
    if isinstance(value, Real):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_can_be_sent, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_can_be_sent, value))
    try:
        return bool(operator.eq(value, value))  # NaT differs from itself, NA and an array have no answer
    except (TypeError, ValueError):
        return False


def _encodable(value: Any) -> Any:
    """A value of another library: a time of pandas in ISO 8601, an integer of NumPy, else its text."""
    if isinstance(value, date):
        return value.isoformat()
    return int(value) if isinstance(value, Integral) else str(value)


_ENCODE = msgspec.json.Encoder(decimal_format="number", enc_hook=_encodable).encode


@contextmanager
def open_output(path: Path, option: str, *, private: bool = False) -> Iterator[Write]:
    """
    A function that writes text to a file; ``private``: its owner's alone. UsageError if it cannot be opened, SinkError
    if it cannot be written: rows may have been sent by then. Other errors of the block stay as they are.
    """
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be written: {error.strerror}") from None

    def write(text: str) -> None:
        try:
            file.write(text)
        except OSError as error:
            raise cannot_write(option, path, error) from None

    try:
        if private:
            path.chmod(0o600)
        yield write
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    try:
        file.close()
    except OSError as error:
        raise cannot_write(option, path, error) from None


def cannot_write(option: str, path: Path, error: OSError) -> SinkError:
    return SinkError(
        f"{option} {path}: cannot be written: {error.strerror}. Rows that were sent are recorded. Remove the cause, "
        "then use --resume: it prints all receipts, and sends the rows that were not sent"
    )
