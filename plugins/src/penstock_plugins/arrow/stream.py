"""
A reading as an Arrow stream, which Polars, DuckDB, pandas and pyarrow take by its ``__arrow_c_stream__``.
"""

from collections.abc import Generator, Iterator
from typing import Any

import pyarrow as pa
from attrs import frozen
from penstock import Batch, Layout, SinkError

from penstock_plugins.arrow.columns import SCALE, ColumnMisfitError, Columns


@frozen
class ArrowStream:
    """
    Makes a ``pyarrow.RecordBatchReader`` of batches, one record batch each, which are read as the reader is consumed.

    ``decimal_scale``: the digits after the point of decimal columns that declare none.
    """

    decimal_scale: int = SCALE

    def __call__(self, layout: Layout, batches: Generator[Batch, None, None]) -> Any:
        columns = Columns.of(layout, self.decimal_scale)
        return pa.RecordBatchReader.from_batches(columns.schema, _converted(columns, batches))


def _converted(columns: Columns, batches: Generator[Batch, None, None]) -> Iterator[Any]:
    for batch in batches:
        if batch.rows:
            try:
                converted = columns.batch(batch.rows)
            except ColumnMisfitError as error:
                batches.throw(_explained(columns, error))
            else:
                yield converted


def _explained(columns: Columns, error: ColumnMisfitError) -> SinkError:
    first = next(iter(error.misfits.values()))
    remedy = "Read the records with rows() or dicts(), which hold every value."
    if pa.types.is_decimal(columns.schema.field(first.column).type):
        remedy = 'Read them by encode("arrow", decimal_scale=...), or declare decimal_scale at the column.'
    return SinkError(f"{columns.layout.source}.{columns.layout.stream}: {first}, and values are not rounded. {remedy}")
