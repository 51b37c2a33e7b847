"""
Records as Arrow columns: the schema of a stream, and its rows as record batches.

============  ==================================================================================================
text          string
integer       int64
decimal       decimal128(38, scale), of the column's ``decimal_scale``; 9 if it declares none
boolean       bool
date          date32
datetime      timestamp in microseconds: in UTC, or without a zone where the provider states none
json          string: JSON text
============  ==================================================================================================

Values are converted by pyarrow, a column at a time, and never rounded: a value that its type cannot hold raises.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import repeat
from operator import attrgetter, sub
from types import NoneType
from typing import Any

import pyarrow as pa
from attrs import define, field, frozen
from penstock import Batch, Column, ColumnType, Layout, SinkError

from penstock_plugins.sink_support.column_facts import facts_of
from penstock_plugins.sink_support.sink_settings import PRECISION, SCALE, scale_of
from penstock_plugins.sink_support.text_columns import json_texts
from penstock_plugins.sink_support.unfit import Unfit, check_number

ARROW_TYPES: dict[ColumnType, Callable[[], Any]] = {
    "text": pa.string,
    "integer": pa.int64,
    "boolean": pa.bool_,
    "date": pa.date32,
    "json": pa.string,
}

# pyarrow would cut a float to an integer, and a time to its day, without an error.
_STRICT: dict[str, set[type]] = {"integer": {int, NoneType}, "date": {date, NoneType}}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FAILURES = (pa.ArrowException, ArithmeticError, ValueError, TypeError)


@frozen
class Misfit:
    """A value that its column's type cannot hold."""

    column: str
    reason: str

    def __str__(self) -> str:
        return f"{self.column}: {self.reason}"


class ColumnMisfitError(Exception):
    """Some rows cannot be converted; ``misfits``: the first misfit of each of them, by the row's number, in order."""

    def __init__(self, misfits: Mapping[int, Misfit]) -> None:
        super().__init__(str(next(iter(misfits.values()))))
        self.misfits = misfits


def type_of(column: Column, scale: int) -> Any:
    """The Arrow type of a column; ``scale`` of a decimal that declares none."""
    if column.type == "decimal":
        return pa.decimal128(PRECISION, scale_of(column, scale))
    if column.type == "datetime":
        return pa.timestamp("us", tz="UTC" if column.zone == "aware" else None)
    return ARROW_TYPES[column.type]()


def column_of(field: Any) -> Column:
    """The column of a field of :func:`schema_of`, of any version of the record class."""
    about = {name.decode(): text.decode() for name, text in (field.metadata or {}).items()}
    facts: dict[str, Any] = {
        name: about[name] for name in ("description", "unit", "unit_of", "member") if name in about
    }
    facts |= {name: about.get(name) == "true" for name in ("additive", "personal")}
    if pa.types.is_decimal(field.type):
        return Column(name=field.name, type="decimal", decimal_scale=field.type.scale, **facts)
    if pa.types.is_timestamp(field.type):
        return Column(name=field.name, type="datetime", zone="aware" if field.type.tz else "naive", **facts)
    if about.get("format") == "json":
        return Column(name=field.name, type="json", **facts)
    types = {arrow_type(): name for name, arrow_type in ARROW_TYPES.items() if name != "json"}
    return Column(name=field.name, type=types[field.type], **facts)


@lru_cache(256)  # it takes longer than the rows of a small partition
def schema_of(layout: Layout, scale: int) -> Any:
    """
    The schema of a stream. What is declared about the stream and each column is metadata (``description``, ``unit``,
    ``additive``, ...). Every field is nullable: ``required`` is metadata, since a plugin may mask a required column.
    """
    fields = [pa.field(column.name, type_of(column, scale), metadata=_about(column)) for column in layout.columns]
    about = {
        "source": layout.source,
        "stream": layout.stream,
        "description": layout.summary,
        "kind": layout.kind,
        "key": ",".join(layout.key),
        "partition": ",".join(layout.partition_columns),
    }
    return pa.schema(fields, metadata={f"penstock.{name}": text for name, text in about.items() if text})


def described(layout: Layout) -> list[dict[str, str]]:
    """The columns of a stream with what is declared about them, as values for JSON."""
    return [{"name": column.name, "type": column.type, **_about(column)} for column in layout.columns]


def _about(column: Column) -> dict[str, str]:
    facts = {
        **facts_of(column),
        "unit_of": column.unit_of or None,
        "required": None if column.nullable else True,
        "format": "json" if column.type == "json" else None,
    }
    return {
        name: fact if isinstance(fact, str) else str(fact).lower() for name, fact in facts.items() if fact is not None
    }


@frozen
class Columns:
    """Converts the rows of one layout."""

    layout: Layout
    schema: Any = field(repr=False)

    @classmethod
    def of(cls, layout: Layout, scale: int = SCALE) -> "Columns":
        return cls(layout, schema_of(layout, scale))

    def batch(self, rows: Sequence[Any]) -> Any:
        """The rows as a ``pyarrow.RecordBatch``. Raises ColumnMisfitError."""
        columns = list(zip(self.layout.columns, self.schema.types, strict=True))
        try:
            arrays = [_array(column, type_, _values(column, rows)) for column, type_ in columns]
        except _FAILURES:
            misfits: dict[int, Misfit] = {}
            for column, type_ in columns:
                for number, value in enumerate(_values(column, rows)):
                    if reason := _reason(column, value, type_):
                        misfits.setdefault(number, Misfit(column.name, reason))
            if not misfits:
                raise
            raise ColumnMisfitError(dict(sorted(misfits.items()))) from None
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _values(column: Column, rows: Sequence[Any]) -> list[Any]:
    return list(map(attrgetter(column.name), rows))


def _array(column: Column, type_: Any, values: list[Any]) -> Any:
    if column.type == "json":
        texts = json_texts(values)
        return pa.array(texts, type_) if any(texts) else pa.nulls(len(texts), type_)
    if column.type == "datetime" and column.zone == "aware" and None not in values:
        # A third of the time: pyarrow calls a function of Python for the offset of each value.
        return pa.array(list(map(sub, values, repeat(_EPOCH))), pa.duration("us")).view(type_)
    if column.type in _STRICT and not set(map(type, values)) <= _STRICT[column.type]:
        raise TypeError(
            f"{next(value for value in values if type(value) not in _STRICT[column.type])!r} is no {column.type}"
        )
    return pa.array(values, type_)


def _reason(column: Column, value: Any, type_: Any) -> str:
    """Why the type cannot hold the value; empty if it can."""
    if value is None:
        return ""
    try:
        _array(column, type_, [value])
    except _FAILURES as error:
        if column.type == "decimal" and isinstance(value, Decimal) and value.is_finite():
            return f"{value} does not fit {type_}: {PRECISION} digits, {type_.scale} of them after the point"
        if column.type == "integer" and isinstance(value, int):
            return f"{value} is beyond 64 bits"
        return f"{error}"
    return ""


@define(eq=False, repr=False)
class FittingRows:
    """The rows of one partition, converted; ``unfit``: those that were rejected. ``target`` is named in errors."""

    columns: Columns
    target: str
    unfit: list[Unfit] = field(factory=list, init=False)

    def batch(self, rows: Sequence[Any]) -> Any:
        """
        The rows that fit as a ``pyarrow.RecordBatch``. Raises SinkError when too many of the partition do not.
        """
        try:
            return self.columns.batch(rows)
        except ColumnMisfitError as error:
            self._reject(rows, error)
            fitting = [row for number, row in enumerate(rows) if number not in error.misfits]
        return self.columns.batch(fitting)

    def _reject(self, rows: Sequence[Any], error: ColumnMisfitError) -> None:
        layout = self.columns.layout
        for number, misfit in error.misfits.items():
            values = {column.name: getattr(rows[number], column.name) for column in layout.columns}
            self.unfit.append(Unfit.of(layout, values, misfit.column, misfit.reason))
        check_number(self.unfit, self.target, f"{layout.stream} in one partition")


# --- the stream of a reading ------------------------------------------------------------------------------------------


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
