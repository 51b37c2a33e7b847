"""
Downloaded reports (CSV, JSON lines, JSON; plain, gzip, zip), read as a stream.
"""

import codecs
import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import BinaryIO, ClassVar, NamedTuple, cast

from attrs import evolve, field, frozen

from penstock.envelope import GZIP, MEMBERS, RAW, ZIP, Envelope, mended_surrogates
from penstock.errors import BoundExceededError, BrokenBodyError
from penstock.model import Answer, Items, Response
from penstock.names import as_names
from penstock.protocols import BodyDecoder
from penstock.redact import clip

BLOCK_BYTES = 2**20  # size of the blocks in which a file of lines is decoded
CHUNK_BYTES = 2**18  # size of the chunks in which a file is read
MAX_RECORD_BYTES = 64 * 2**20  # largest record of CSV; a larger one has a quote that is not closed
MAX_LINES_BEFORE_HEADER = 200
DELIMITERS = ",;\t|"

Open = Callable[[], BinaryIO]
"""Opens the content of a file, unpacked, at its start."""


class _File(NamedTuple):
    """One file of a report, unpacked. ``name``: "" if it is not in a zip; ``checksum``: equal for equal contents."""

    name: str
    open: Open
    checksum: tuple[int, int] | None = None


def reads_files(decoder: BodyDecoder | None) -> bool:
    """Whether a large body may come to this decoder as a file, as to a :class:`ReportFile`."""
    return bool(getattr(decoder, "reads_files", False))


@frozen(kw_only=True, eq=False, repr=False)
class ReportFile:
    """
    A downloaded report whose format shows in its content: a JSON array, an object with the array in one of
    ``items``, JSON lines, or CSV with a header row; packed with gzip, in a zip with one or several files, or plain.

    CSV follows RFC 4180; an empty field is null, and empty columns at the end are none. Files of lines are read as a
    stream, in blocks of about 1 MiB that end with a record, so that memory does not grow with the file. A file of zero
    bytes is an error: it does not state that there are no records; a header alone does. A file of lines of unknown
    length (``Response.measured``) is an error too: it could be truncated at a line end. So are two files of equal
    contents in a zip, an object that states an error beside its array, and one with records in two of ``items``.

    ``delimiter``
        default: the one of ``, ; tab |`` that the header row has most of.
    ``header``
        names in the header row; it may have others. The lines before it are skipped. Default: the first line.
    ``encoding``
        default: UTF-8; UTF-16 and UTF-32 are recognised, and the charset of the Content-Type is tried.
    ``footer``, ``totals``
        words with which the first cell of a footer or of a row of totals begins: such rows are no records. The totals
        are compared with the sums of the additive columns, unless a record was rejected or a value not read; those of
        money with the sum of the currency that the row states.
    ``unmarked_totals``
        a row of totals may be among the records with nothing that marks it. The only row without a dimension whose
        measures are the sums of all others, at least two, is rejected as such a row.
    """

    items: tuple[str, ...] = field(default=("data", "results", "records", "rows", "items"), converter=as_names)
    delimiter: str | None = None
    header: tuple[str, ...] = field(default=(), converter=as_names)
    encoding: str | None = None
    footer: tuple[str, ...] = field(default=(), converter=as_names)
    totals: tuple[str, ...] = field(default=(), converter=as_names)
    unmarked_totals: bool = False

    reads_files: ClassVar[bool] = True
    """A large body may come as a file (``Response.file``) and not in memory."""

    def __call__(self, response: Response) -> Answer:
        try:
            packed, files = _contents(response.open)
            answers = [self._of_file(response, file.name or "$", file.open, packed=packed) for file in files]
        except (EOFError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, NotImplementedError, RuntimeError) as error:
            state = "cut" if isinstance(error, EOFError) else "not whole"
            raise BrokenBodyError(f"the report is packed, but {state}: {error}.") from None
        if len(answers) == 1:
            return answers[0]
        _check_distinct([file for file, answer in zip(files, answers, strict=True) if _has_records(answer)])
        for file, answer in zip(files, answers, strict=True):
            if problem := answer.problem or answer.failure:
                raise BrokenBodyError(f"the file {file.name} of the report cannot be used: {problem}.")
        return Answer(items=Blocks([answer.items.__iter__ for answer in answers]))

    def _of_file(self, response: Response, path: str, content: Open, *, packed: bool) -> Answer:
        text = self._as_utf8(response, content)
        head = next(_chunks(text()), b"")
        first = head.lstrip()[:1]
        if not first:
            raise BrokenBodyError("the body is empty." if not head else "the report holds nothing but blanks.")
        if first == b"<":
            raise BrokenBodyError(f"the body is HTML or XML, not data; it begins: {response.text(200)}")
        if first == b"[" or (first == b"{" and not _is_lines(head, self.items)):
            envelope = Envelope() if first == b"[" else Envelope(items=self.items)
            return envelope.read(text().read(), response)
        runs = self._json_lines(text, path) if first == b"{" else self._csv(text, head, path)
        if not (packed or response.measured):
            raise BrokenBodyError(
                "the report is a file of lines that ended with its connection, and nothing shows that it is whole. "
                "The provider must send its length (Content-Length), send it in chunks, or pack it with gzip."
            )
        return Answer(items=runs)

    # --- text -------------------------------------------------------------------------------------------------------

    def _as_utf8(self, response: Response, content: Open) -> Open:
        """The content as UTF-8 without a byte order mark. One pass checks that it is whole, bounded, and text."""
        start = content().read(4)
        marked = _marked_encoding(start)
        charset = re.search(r"charset=\"?([\w.:-]+)", response.header("content-type") or "", re.IGNORECASE)
        candidates = ["utf-8", *([charset[1]] if charset else [])]
        if encoding_stated := self.encoding or marked:
            candidates = [encoding_stated]
        problem = ""
        for encoding in candidates:
            try:
                _check_text(content, encoding, response.max_unpacked_bytes)
            except LookupError:
                problem = f"the encoding {encoding!r} is not known"
            except UnicodeError as error:
                at = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
                problem = f"it is not valid {encoding.upper()}{at}"
            else:
                return partial(_open_as_utf8, content, encoding)
        raise BrokenBodyError(
            f"the report is no text that can be read: {problem}. If it is in another encoding, declare it: "
            "ReportFile(encoding='latin-1')."
        )

    # --- JSON lines -------------------------------------------------------------------------------------------------

    def _json_lines(self, text: Open, path: str) -> Iterable[Items]:
        size = 0
        mend = False
        for block in _blocks(_chunks(text()), quoted=False):
            try:
                RAW.decode_lines(block)
            except ValueError as error:  # of JSON, or of UTF-8
                mended = mended_surrogates(block)
                if mended == block:
                    raise BrokenBodyError(
                        f"the report is in JSON lines, but bytes {size} to {size + len(block)} are not: {error}."
                    ) from None
                RAW.decode_lines(mended)
                mend = True
            except RecursionError:
                raise BoundExceededError("the report is nested too deeply to be read safely.") from None
            size += len(block)

        def runs() -> Iterator[Items]:
            for block in _blocks(_chunks(text()), quoted=False):
                yield Items(raw=mended_surrogates(block) if mend else block, format="lines", path=path)

        return _blocks_of(runs, size)

    # --- CSV --------------------------------------------------------------------------------------------------------

    def _csv(self, text: Open, head: bytes, path: str) -> Iterable[Items]:
        header, delimiter, start = self._find_header(head, path)
        run = Items(
            raw=b"",
            format="csv",
            texts=True,
            header=header,
            delimiter=delimiter,
            footer=self.footer,
            totals=self.totals,
            path=path,
        )

        def runs() -> Iterator[Items]:
            yield run  # the header, also of a file without rows
            for block in _blocks(_after(text(), start), quoted=True):
                yield evolve(run, raw=block)

        return _blocks_of(runs, len(head))

    def _find_header(self, head: bytes, path: str) -> tuple[tuple[str, ...], str, int]:
        """The names in the header row, the delimiter, and the position of the first row."""
        lines = re.findall(r"[^\n]*\n|[^\n]+", head.decode(errors="ignore"))
        first = next((line for line in lines if line.strip()), "")
        delimiters = [self.delimiter] if self.delimiter else sorted(DELIMITERS, key=first.count, reverse=True)
        for delimiter in delimiters if self.header else delimiters[:1]:
            for row, end in _rows(lines, delimiter):
                names = [cell.strip("\ufeff \t\r\n") for cell in row]  # each file of a joined one may begin with a mark
                while names and not names[-1]:
                    del names[-1]
                if not set(self.header) <= set(names):
                    continue
                _check_names(names, self.delimiter is not None or bool(self.header), first)
                return tuple(names), delimiter, len("".join(lines[:end]).encode())
        if not self.header:
            raise _no_report(first)
        raise BrokenBodyError(
            f"the report{f' {path}' if path != '$' else ''} has no header row with "
            f"{', '.join(map(repr, self.header))} in its first {MAX_LINES_BEFORE_HEADER} lines; it begins: "
            f"{clip(first, 200)!r}. Correct header, delimiter or encoding of the ReportFile, or the provider has "
            "renamed its columns."
        )


class Blocks(Iterable[Items]):
    """The items of one or several files. Each iteration reads these again."""

    def __init__(self, files: Sequence[Callable[[], Iterator[Items]]]) -> None:
        self._files = files

    def __iter__(self) -> Iterator[Items]:
        for items in self._files:
            yield from items()


def _blocks_of(file: Callable[[], Iterator[Items]], size: int) -> Iterable[Items]:
    """The items of a file; in memory where it is small, so that it need not be read again."""
    return tuple(file()) if size < CHUNK_BYTES else Blocks([file])


def _check_names(names: list[str], one_is_enough: bool, first: str) -> None:
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(names, 1):
        positions.setdefault(name, []).append(position)
    for name, where in positions.items():
        if name and len(where) > 1:
            raise BrokenBodyError(
                f"the header row of the report has {name!r} as columns {' and '.join(map(str, where))}, so it does not "
                "tell them apart. Request other columns, or ask the provider to name them apart."
            )
    # One column is more likely a message in plain text. A connector with such files names the delimiter.
    enough = len(names) > (0 if one_is_enough else 1)
    if not enough or not all(re.fullmatch(r'[^"\\\x00-\x1f]+', name) for name in names):
        raise _no_report(first)


def _no_report(first: str) -> BrokenBodyError:
    return BrokenBodyError(
        f"the report is neither JSON nor CSV with a header row; it begins: {clip(first, 200)!r}. If lines stand before "
        "the header row, declare its names: ReportFile(header=(...))."
    )


def _rows(lines: list[str], delimiter: str) -> Iterator[tuple[list[str], int]]:
    """The first rows of a file, each with the number of lines up to its end."""
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield row, reader.line_num
            if reader.line_num >= MAX_LINES_BEFORE_HEADER:
                return
    except csv.Error:
        return


def _is_lines(head: bytes, items: tuple[str, ...]) -> bool:
    """Whether a file that begins with an object is JSON lines: its first line is an object, and not the whole file."""
    line, end, following = head.lstrip().partition(b"\n")
    try:
        members = MEMBERS.decode(line)
    except (ValueError, RecursionError):
        return False
    alone = not (end and following.strip())
    return not (alone and any(bytes(memoryview(members.get(name, b""))[:1]) == b"[" for name in items))


# --- bytes ------------------------------------------------------------------------------------------------------------


def _contents(opened: Open) -> tuple[bool, list[_File]]:
    """Whether the file is packed, and the files in it."""
    magic = opened().read(4)
    if magic.startswith(GZIP):
        return True, [_File("", lambda: gzip.open(opened()))]  # type: ignore[return-value, arg-type]
    if magic in ZIP:
        archive = zipfile.ZipFile(opened())
        infos = [info for info in archive.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
        if not infos:
            raise BrokenBodyError("the report is a zip without a file in it.")
        return True, [
            _File(info.filename, partial(archive.open, info), (info.CRC, info.file_size))  # type: ignore[arg-type]
            for info in infos
        ]
    return False, [_File("", opened)]


def _check_distinct(files: Sequence[_File]) -> None:
    """Raises BrokenBodyError for two files of equal contents, whose records may count once or twice."""
    names: dict[object, str] = {}
    for file in files:
        if file.checksum in names:
            raise BrokenBodyError(
                f"the zip of the report has the same file twice, {names[file.checksum]} and {file.name}: whether its "
                "records count once or twice is not known."
            )
        names[file.checksum] = file.name


def _has_records(answer: Answer) -> bool:
    return any(not re.fullmatch(rb"(\[\s*\])?", bytes(memoryview(items.raw)[:64])) for items in answer.items)


def _is_hidden(name: str) -> bool:
    """Whether a file in a zip is metadata of the system that packed it."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(CHUNK_BYTES), b"")


def _after(file: BinaryIO, start: int) -> Iterator[bytes]:
    """The content of the file after its first ``start`` bytes."""
    while start > 0 and (skipped := file.read(min(start, CHUNK_BYTES))):
        start -= len(skipped)
    return _chunks(file)


def _blocks(chunks: Iterable[bytes], *, quoted: bool) -> Iterator[bytes]:
    """Blocks of at least ``BLOCK_BYTES`` that end at a line end outside of quotes."""
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        while len(waiting) >= BLOCK_BYTES and (stop := _record_end(waiting, quoted)):
            yield bytes(waiting[:stop])
            del waiting[:stop]
        if len(waiting) > MAX_RECORD_BYTES:
            raise BrokenBodyError(
                f"the report has a record of more than {MAX_RECORD_BYTES >> 20} MiB: a quote is not closed."
            )
    if waiting.strip():
        yield bytes(waiting)


def _record_end(waiting: bytearray, quoted: bool) -> int:
    """The end of the first record that ends after ``BLOCK_BYTES``; 0 if there is none yet."""
    quotes = counted = 0
    stop = waiting.find(b"\n", BLOCK_BYTES - 1) + 1
    while stop:
        quotes += waiting.count(b'"', counted, stop) if quoted else 0
        if quotes % 2 == 0:
            return stop
        closed = waiting.find(b'"', stop)  # the next line end that may count is behind the next quote
        counted, stop = stop, waiting.find(b"\n", closed) + 1 if closed >= 0 else 0
    return 0


# --- text -------------------------------------------------------------------------------------------------------------


def _marked_encoding(start: bytes) -> str | None:
    """The encoding, from a byte order mark, or from zero bytes beside those of ASCII."""
    for order_mark, name in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if start.startswith(order_mark):
            return name
    if len(start) == 4 and 0 in start:
        return {b"\1\0\1\0": "utf-16-le", b"\0\1\0\1": "utf-16-be"}.get(bytes(map(bool, start)))
    return None


def _check_text(content: Open, encoding: str, limit: int) -> None:
    """Raises UnicodeError if the content is not in this encoding, BoundExceededError if it is too large."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    plain = codecs.lookup(encoding).name == "utf-8"
    size = 0
    for chunk in _chunks(content()):
        size += len(chunk)
        if size > limit:
            raise BoundExceededError(
                f"the report is larger than {limit >> 20} MiB when unpacked. If that is right, raise max_report_mib."
            )
        if not (plain and chunk.isascii() and not decoder.getstate()[0]):
            decoder.decode(chunk)
    decoder.decode(b"", True)


def _open_as_utf8(open_: Open, encoding: str) -> BinaryIO:
    """The content in UTF-8, without a byte order mark."""
    content = open_()
    if codecs.lookup(encoding).name != "utf-8":
        return cast(BinaryIO, _Transcoded(content, encoding))
    if content.read(3) != codecs.BOM_UTF8:
        content.seek(0)
    return content


class _Transcoded(io.RawIOBase):
    """A file in another encoding, read as UTF-8. Sizes are of UTF-8, whose characters have up to four bytes."""

    def __init__(self, content: BinaryIO, encoding: str) -> None:
        self._text = io.TextIOWrapper(content, encoding, newline="")
        self._waiting = self._text.read(1).removeprefix("\ufeff").encode()

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            self._waiting += self._text.read().encode()
            size = len(self._waiting)
        elif len(self._waiting) < size:
            self._waiting += self._text.read(size - len(self._waiting)).encode()
        block, self._waiting = self._waiting[:size], self._waiting[size:]
        return block
