"""
The interface of formats of record files: rows to bytes, and, to merge files, bytes to records and their keys.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, BinaryIO, Protocol

from penstock import Layout

Encode = Callable[[Sequence[Any]], bytes]


class Records(Protocol):
    """The records of one file, in blocks of whole records, each the bytes it has in the file, line end included."""

    def __iter__(self) -> Iterator[list[bytes]]: ...

    def keys(self, block: Sequence[bytes], columns: Sequence[str]) -> Sequence[Hashable]:
        """The values of ``columns`` of each record; ValueError when a record is damaged."""

    def fitted(self, block: list[bytes], layout: Layout) -> list[bytes]:
        """The records as in a file of ``layout``: new columns are added, columns that it lacks are dropped."""


class Codec(Protocol):
    """A format of record files. ``name`` is also the suffix of its files."""

    @property
    def name(self) -> str: ...

    def description(self) -> dict[str, Any]:
        """The description of the format in a data package: ``format``, ``mediatype`` and ``dialect``."""

    def header(self, layout: Layout) -> bytes:
        """The first bytes of a file with records."""

    def encoder(self, layout: Layout) -> Encode:
        """A function from rows (objects with an attribute per column) to the bytes of their records."""

    def read(self, file: BinaryIO) -> Records: ...

    def holds(self, file: BinaryIO, columns: Sequence[str]) -> bool:
        """Whether the file, by its first record or its header, is of this format and has these columns."""
