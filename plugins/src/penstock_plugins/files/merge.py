"""
Merge the staged days of a ``changes`` stream into its file, by key: the later reading of a record wins.

Two passes over the staged days (three over those of a derived stream, if records were rejected) and one over the file;
memory grows with the staged keys only. Records that are new or changed come last, in the order of their days.
"""

import gzip
import zlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

from attrs import evolve
from penstock import ColumnType, Layout, SinkError

from penstock_plugins.files.codec import Block, Codec, FileRecords, RedeclaredError
from penstock_plugins.files.disk import explained, opened

Day = int
"""The staged days, in order; a day without records of a stream has no file."""

Latest = Mapping[Hashable, tuple[Day, int]]
"""Key -> the day of its latest reading, and the number of the record in it."""

Put = Callable[[Block], None]
"""Takes the records to write, block by block."""

Key = Sequence[tuple[str, ColumnType]]
"""The columns of a key, each with the type as which its values are compared."""

# Equal values of these types are written in several ways: 1.5 and 1.50, the same moment in two zones.
_VALUES: dict[ColumnType, Callable[[str], Hashable]] = {
    "decimal": lambda text: Decimal(text.replace(",", ".")),
    "datetime": datetime.fromisoformat,
}


_DAMAGE = (EOFError, ValueError, gzip.BadGzipFile, zlib.error)


def widened(codec: Codec, layout: Layout, path: Path) -> Layout:
    """
    The layout, and after its columns those that only the file has, since its connector has them no more: records that
    are not read again keep their values. Raises SinkError for a damaged file.
    """
    try:
        with opened(path, compressed=path.suffix == ".gz") as file:
            return evolve(layout, columns=(*layout.columns, *codec.read(file).columns_beyond(layout)))
    except _DAMAGE as error:
        raise _damaged(path, 0, error) from error
    except OSError as error:
        raise explained(error, path) from error


def merge(codec: Codec, layout: Layout, base: Path | None, days: Mapping[Day, Path], put: Put) -> Latest:
    """
    Write the records of ``base`` that no day has, then the latest of each key of ``days``.

    Raises SinkError for a file with damaged records.
    """
    key_columns = _key_of(layout)
    latest = _latest(codec, key_columns, days)
    _copy(codec, layout, base, key_columns, latest, put)
    for day, path in days.items():
        for block in _blocks(codec, path):
            keys = enumerate(block.keys(key_columns), block.number)
            put(block.chosen([latest[key] == (day, number) for number, key in keys], layout))
    return latest


def merge_derived(
    codec: Codec, layouts: Sequence[Layout], base: Path | None, days: Mapping[Day, Path], parents: Latest, put: Put
) -> None:
    """
    The same for a derived stream: all rows of a parent that was read again are replaced by those of its latest day.
    ``layouts``: of the parent, and of the derived stream.
    """
    layout, key_columns, references = layouts[1], _key_of(layouts[1]), _references(*layouts)
    _copy(codec, layout, base, references, parents, put)
    latest = _latest(codec, key_columns, days) if layout.key else {}
    for day, path in days.items():
        for block in _blocks(codec, path):
            chosen = [parents.get(parent, (day, 0))[0] == day for parent in block.keys(references)]
            if layout.key:
                keys = enumerate(block.keys(key_columns), block.number)
                chosen = [
                    keep and latest[key] == (day, number) for keep, (number, key) in zip(chosen, keys, strict=True)
                ]
            put(block.chosen(chosen, layout))


def with_rejected(codec: Codec, layouts: Sequence[Layout], days: Mapping[Day, Path], parents: Latest) -> Latest:
    """
    The parents, and those that the format cannot hold: their rows in the derived stream are staged all the same.
    ``layouts``: see :func:`merge_derived`.
    """
    latest = dict(parents)
    for day, path in days.items():
        for block in _blocks(codec, path):
            keys = set(block.keys(_references(*layouts)))
            latest.update({key: (day, 0) for key in keys if key not in latest or latest[key][0] < day})
    return latest


def _key_of(layout: Layout) -> Key:
    types = {column.name: column.type for column in layout.columns}
    return [(name, types[name]) for name in layout.key]


def _references(parent: Layout, derived: Layout) -> Key:
    """The columns of a derived stream that hold its parent's key, compared as that is."""
    return [(name, type_) for name, (_, type_) in zip(derived.derived_by, _key_of(parent), strict=False)]


def _latest(codec: Codec, key: Key, days: Mapping[Day, Path]) -> dict[Hashable, tuple[Day, int]]:
    latest: dict[Hashable, tuple[Day, int]] = {}
    for day, path in days.items():
        for block in _blocks(codec, path):
            latest.update(
                {key_values: (day, number) for number, key_values in enumerate(block.keys(key), block.number)}
            )
    return latest


def _copy(codec: Codec, layout: Layout, base: Path | None, key: Key, replaced: Latest, put: Put) -> None:
    if base is not None:
        for block in _blocks(codec, base):
            put(block.chosen([values not in replaced for values in block.keys(key)], layout))


def copy(codec: Codec, layout: Layout, path: Path, put: Put) -> None:
    """Every record of a file. Raises SinkError for a file with damaged records."""
    for block in _blocks(codec, path):
        put(block.chosen([True] * len(block.content), layout))


class _Block(NamedTuple):
    path: Path
    records: FileRecords
    content: Block
    number: int  # of its first record in the file

    def keys(self, key: Key) -> Sequence[Hashable]:
        """The values of a key of each record: equal ones are equal, however they are written."""
        try:
            keys = self.records.keys(self.content, [name for name, _ in key])
            if not any(type_ in _VALUES for _, type_ in key):
                return keys
            types = [type_ for _, type_ in key]
            return [tuple(map(_value, types, values)) for values in keys]
        except (ValueError, InvalidOperation) as error:
            raise _damaged(self.path, self.number, error) from error

    def chosen(self, chosen: Sequence[bool], layout: Layout) -> Block:
        try:
            return self.records.chosen(self.content, chosen, layout)
        except ValueError as error:
            raise _damaged(self.path, self.number, error) from error


def _value(type_: ColumnType, written: Any) -> Hashable:
    """A value as a file has it: a text, its bytes, or the value itself."""
    text = written.decode() if isinstance(written, bytes) else written
    is_value = isinstance(text, str) and type_ in _VALUES and text not in ("", "null")
    return _VALUES[type_](text) if is_value else text


def _blocks(codec: Codec, path: Path) -> Iterator[_Block]:
    number = 0
    try:
        with opened(path, compressed=path.suffix == ".gz") as file:
            records = codec.read(file)
            for content in records:
                yield _Block(path, records, content, number)
                number += len(content)
    except _DAMAGE as error:
        raise _damaged(path, number, error) from error
    except OSError as error:
        raise explained(error, path) from error


def _damaged(path: Path, number: int, error: Exception) -> SinkError:
    cause, remedy = "It was changed or cut by something else. ", "Restore it"
    if isinstance(error, RedeclaredError):
        cause, remedy = "", "Declare the column as before"
    return SinkError(
        f"{path} cannot be read back: near record {number + 1}, {error}. {cause}{remedy}, or move it away: then all "
        "its days are read again. It was not touched."
    )
