"""
Parquet: typed columns in row groups, compressed with zstd, by pyarrow (the extra ``arrow``).

The types are those of :mod:`penstock_plugins.arrow.columns`. A record with a value that they cannot hold is rejected.
What is declared about a column (description, unit, ...) is in the metadata of its Arrow field, and, for readers that
know no Arrow schema, as JSON in the file's metadata under ``penstock.columns``.
"""

import json
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from attrs import define, field, frozen
from penstock import Column, Erasure, Layout

from penstock_plugins.arrow.columns import Columns, FittingRows, column_of, described, type_of
from penstock_plugins.files.codec import RedeclaredError
from penstock_plugins.sink_support.sink_settings import SCALE
from penstock_plugins.sink_support.unfit import Unfit

ROW_GROUP_BYTES = 8 << 20
"""Columns in memory before they are written as a row group: for each partition that is being written."""

_BLOCK_ROWS = 16_384
_ABOUT = "penstock.columns"
_DAMAGE = (pa.ArrowException, OSError)


@frozen
class Parquet:
    """
    The codec of ``.parquet`` files. ``decimal_scale``: digits after the point of decimal columns that declare none.
    """

    name: ClassVar[str] = "parquet"
    appends: ClassVar[bool] = False
    typed: ClassVar[bool] = True

    decimal_scale: int = SCALE

    @property
    def dialect(self) -> str:
        """DuckDB would round the decimals of all files to the scale of the first one; other readers refuse them."""
        return f"decimal_scale = {self.decimal_scale}"

    def conflict(self, former: Column, now: Column) -> str:
        types = (type_of(former, self.decimal_scale), type_of(now, self.decimal_scale))
        # DuckDB rounds the numbers of all files to the type of the first one.
        are_rounded = types[0] != types[1] and all(map(_is_number, types))
        return f"{types[0]}, and {types[1]} now" if are_rounded or not _is_kept(*types) else ""

    def description(self) -> dict[str, Any]:
        return {"format": "parquet", "mediatype": "application/vnd.apache.parquet"}

    def encoder(self, layout: Layout) -> "ParquetEncoder":
        return ParquetEncoder(FittingRows(Columns.of(layout, self.decimal_scale), "Parquet"))

    def read(self, file: BinaryIO) -> "ParquetRecords":
        return ParquetRecords(file, self.decimal_scale)

    def erased(self, file: BinaryIO, erasure: Erasure) -> Iterator[tuple[bytes, int]]:
        try:
            with pq.ParquetFile(file) as parquet:
                yield from _erased(parquet, erasure)
        except _DAMAGE as error:
            raise ValueError(str(error)) from error

    def holds(self, file: BinaryIO, columns: Sequence[str]) -> bool:
        try:
            return set(columns) <= set(pq.read_schema(file).names)
        except _DAMAGE:
            return False


class _Pipe:
    """What a ParquetWriter writes to: hands on the bytes since the last call."""

    closed = False

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, content: Any) -> int:
        self._written.append(bytes(content))
        return len(self._written[-1])

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        written, self._written = self._written, []
        return b"".join(written)


@define
class ParquetEncoder:
    """
    Makes one Parquet file. Row groups are written when their columns take ``ROW_GROUP_BYTES``, and at the end.
    """

    fitting: FittingRows
    _batches: list[Any] = field(factory=list, init=False)
    _size: int = field(default=0, init=False)
    _pipe: _Pipe = field(factory=_Pipe, init=False)
    _writer: Any = field(default=None, init=False)

    def begin(self) -> bytes:
        layout, schema = self.fitting.columns.layout, self.fitting.columns.schema
        about = {_ABOUT: _about(layout)}
        self._writer = _writer(self._pipe, schema.with_metadata({**schema.metadata, **about}), layout)
        return self._pipe.taken()

    @property
    def unfit(self) -> Sequence[Unfit]:
        return self.fitting.unfit

    def rows(self, rows: Sequence[Any]) -> bytes:
        return self.block(self.fitting.batch(rows))

    def block(self, block: Any) -> bytes:
        self._batches.append(block)
        self._size += block.nbytes
        if self._size >= ROW_GROUP_BYTES and self._writer is not None:
            self._write()
        return self._pipe.taken()

    def end(self) -> bytes:
        self._write()
        self._writer.close()
        return self._pipe.taken()

    def _write(self) -> None:
        if self._batches:
            table = pa.Table.from_batches(self._batches)
            self._writer.write_table(table, row_group_size=table.num_rows)
        self._batches, self._size = [], 0


@lru_cache(256)
def _about(layout: Layout) -> str:
    return json.dumps(described(layout), ensure_ascii=False)


def _writer(pipe: _Pipe, schema: Any, layout: Layout) -> Any:
    """Values are written once and then by number in all columns but a key, whose values differ."""
    unique = layout.key if len(layout.key) == 1 else ()
    repetitive = [name for name in schema.names if name not in unique]
    return pq.ParquetWriter(pipe, schema, compression="zstd", use_dictionary=repetitive)


def _erased(parquet: Any, erasure: Erasure) -> Iterator[tuple[bytes, int]]:
    """See :meth:`Parquet.erased`; the row groups stay."""
    former = parquet.schema_arrow
    gone = [name for name in former.names if name in erasure.columns]
    schema = pa.schema([field for field in former if field.name not in gone], metadata=_without(former.metadata, gone))
    pipe = _Pipe()
    writer = _writer(pipe, schema, erasure.layout)
    for number in range(parquet.num_row_groups):
        group = parquet.read_row_group(number)
        lost = pa.array([False] * len(group), pa.bool_())
        for name in gone:
            lost = pc.or_(lost, group.column(name).is_valid())
        for name in [column for column in erasure.nested if column in schema.names]:
            texts = group.column(name).to_pylist()
            cleaned = [None if text is None else erasure.nested[name](text) for text in texts]
            lost = pc.or_(lost, pa.array([new != text for new, text in zip(cleaned, texts, strict=True)], pa.bool_()))
            group = group.set_column(
                group.schema.get_field_index(name), schema.field(name), [pa.array(cleaned, schema.field(name).type)]
            )
        writer.write_table(group.select(schema.names).cast(schema), row_group_size=len(group))
        yield pipe.taken(), pc.sum(lost).as_py() or 0
    writer.close()
    yield pipe.taken(), 0


def _without(metadata: Any, columns: Sequence[str]) -> dict[bytes, bytes]:
    """A file's metadata without the descriptions of these columns."""
    metadata_left = dict(metadata or {})
    if about := metadata_left.get(_ABOUT.encode()):
        described_ = [column for column in json.loads(about) if column["name"] not in columns]
        metadata_left[_ABOUT.encode()] = json.dumps(described_, ensure_ascii=False).encode()
    return metadata_left


@frozen
class ParquetRecords:
    """A Parquet file; a block is a ``pyarrow.RecordBatch``."""

    file: BinaryIO = field(repr=False)
    decimal_scale: int = SCALE

    def __iter__(self) -> Iterator[Any]:
        try:
            with pq.ParquetFile(self.file) as parquet:
                yield from parquet.iter_batches(_BLOCK_ROWS)
        except _DAMAGE as error:
            raise ValueError(str(error)) from error

    def keys(self, block: Any, columns: Sequence[str]) -> Sequence[tuple[Hashable, ...]]:
        try:
            arrays = map(block.column, columns)
            texts = [array.cast(pa.string()) if pa.types.is_integer(array.type) else array for array in arrays]
            return list(zip(*(array.to_pylist() for array in texts), strict=True))
        except KeyError as error:
            raise ValueError(f"it has no column {error}") from error

    def columns_beyond(self, layout: Layout) -> Sequence[Column]:
        declared = {column.name for column in layout.columns}
        try:
            schema = pq.read_schema(self.file)
        except _DAMAGE as error:
            raise ValueError(str(error)) from error
        return [column_of(field) for field in schema if field.name not in declared]

    def chosen(self, block: Any, chosen: Sequence[bool], layout: Layout) -> Any:
        schema = Columns.of(layout, self.decimal_scale).schema
        rows = block.filter(pa.array(chosen, pa.bool_()))
        names = set(rows.schema.names)
        arrays = [
            _as_declared(rows.column(field.name), field) if field.name in names else pa.nulls(len(rows), field.type)
            for field in schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _as_declared(values: Any, field: Any) -> Any:
    """
    The values of a column in the type that it has now. Raises RedeclaredError, also where pyarrow would make other
    values of them: a day of a time, a time of a number, a moment in UTC of a time without a zone.
    """
    if not _is_kept(values.type, field.type) and values.null_count < len(values):
        raise RedeclaredError(f"the column {field.name} is {values.type} in it, and is declared as {field.type} now")
    try:
        return values.cast(field.type)
    except pa.ArrowException as error:
        raise RedeclaredError(f"values of {field.name} do not fit the column as it is declared now: {error}") from error


def _is_kept(former: Any, now: Any) -> bool:
    """Whether a value of one type is the same value in the other, or is refused by it."""
    return (
        former == now
        or any(map(pa.types.is_string, (former, now)))
        or all(map(_is_number, (former, now)))
        or (pa.types.is_date(former) and now == pa.timestamp("us"))
    )


def _is_number(type_: Any) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_decimal(type_))
