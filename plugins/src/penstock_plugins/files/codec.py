"""
The interface of formats of record files: rows to bytes, and, to merge files, bytes to records and their keys.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from attrs import field, frozen
from penstock import Column, Erasure, Layout

from penstock_plugins.files.disk import Draft, file_errors
from penstock_plugins.sink_support.unfit import Unfit

Encode = Callable[[Sequence[Any]], bytes]

Block = Any
"""Records of a file as its codec reads them. It has a length."""


class RedeclaredError(ValueError):
    """The values of a whole file do not fit the columns as they are declared now."""


class FileRecords(Protocol):
    """The records of one file, in blocks of whole records."""

    def __iter__(self) -> Iterator[Block]:
        """The blocks, in the file's order; ValueError when the file is damaged."""

    def keys(self, block: Block, columns: Sequence[str]) -> Sequence[tuple[Hashable, ...]]:
        """
        The values of ``columns`` of each record, or their texts; a number and a text of its digits are equal, since a
        column's type may have changed. ValueError when a record is damaged.
        """

    def columns_beyond(self, layout: Layout) -> Sequence[Column]:
        """The columns of the file that a file of ``layout`` would lack; empty where a record has its own members."""

    def chosen(self, block: Block, chosen: Sequence[bool], layout: Layout) -> Block:
        """
        These records of the block, as in a file of ``layout``: new columns are added, columns that it lacks dropped.
        RedeclaredError for a value that would become another one.
        """


class FileEncoder(Protocol):
    """
    Makes one file of records. Each method returns the next bytes of the file, which may be none: what was passed may
    be held back for a later call.
    """

    @property
    def unfit(self) -> Sequence[Unfit]:
        """The rows that the format cannot hold; they are not in the file."""

    def begin(self) -> bytes: ...

    def rows(self, rows: Sequence[Any]) -> bytes:
        """Rows: objects with an attribute per column."""

    def block(self, block: Block) -> bytes:
        """Records of another file, as ``FileRecords.chosen`` returned them."""

    def end(self) -> bytes: ...


class Codec(Protocol):
    """
    A format of record files. ``name`` is also the suffix of its files. ``appends``: whether the records of a file,
    without what ``begin`` returns, can be appended to another one. ``typed``: whether files have the types of columns.
    """

    @property
    def name(self) -> str: ...

    @property
    def appends(self) -> bool: ...

    @property
    def typed(self) -> bool: ...

    @property
    def dialect(self) -> str:
        """The settings of the format that all files of a directory must share, in words; empty: it has none."""

    def conflict(self, former: Column, now: Column) -> str:
        """Two types of a column that no reader takes for one without loss, in words; empty: there is no such."""

    def description(self) -> dict[str, Any]:
        """The description of the format in a data package: ``format``, ``mediatype`` and what else applies."""

    def encoder(self, layout: Layout) -> FileEncoder: ...

    def read(self, file: BinaryIO) -> FileRecords: ...

    def erased(self, file: BinaryIO, erasure: Erasure) -> Iterator[tuple[bytes, int]]:
        """
        The bytes of a file of the same records without what is erased, piece by piece; with each, how many records
        lost a value. ValueError when the file is damaged.
        """

    def holds(self, file: BinaryIO, columns: Sequence[str]) -> bool:
        """Whether the file, by its first record or its header, is of this format and has these columns."""


@frozen(eq=False, repr=False)
class TextEncoder:
    """A file of a header and records, each of which is bytes of its own; a block is a list of them."""

    header: bytes
    rows: Encode = field(repr=False)
    unfit: Sequence[Unfit] = ()

    def begin(self) -> bytes:
        return self.header

    def block(self, block: Sequence[bytes]) -> bytes:
        return b"".join(block)

    def end(self) -> bytes:
        return b""


class RecordDraft(Draft):
    """
    A file of records while it is written. Without records there is no file, unless it is begun.

    ``bare``: without what a file of its format begins with, to be appended to another one.
    """

    def __init__(self, path: str, encoder: FileEncoder, *, compress: bool = False, bare: bool = False) -> None:
        super().__init__(path, compress=compress)
        self._encoder = encoder
        self._bare = bare

    @property
    def unfit(self) -> Sequence[Unfit]:
        return self._encoder.unfit

    def begin(self) -> None:
        """Let there be a file, even if nothing is written."""
        if not self.begun:
            self.begun = True
            if (header := self._encoder.begin()) and not self._bare:
                self.write(header)

    def rows(self, rows: Sequence[Any]) -> None:
        refused = len(self._encoder.unfit)
        content = self._encoder.rows(rows)
        if len(rows) > len(self._encoder.unfit) - refused:
            self.begin()
            self.write(content)

    def block(self, block: Block) -> None:
        if len(block):
            self.begin()
            self.write(self._encoder.block(block))

    def append(self, path: Path) -> None:
        """The bytes of a bare file."""
        self.begin()
        with file_errors(path), path.open("rb") as file:
            while content := file.read(1 << 20):
                self.write(content)

    def finish(self) -> bool:
        if self.begun and (end := self._encoder.end()):
            self.write(end)
        return super().finish()
