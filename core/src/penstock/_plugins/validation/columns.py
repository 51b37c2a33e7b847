"""
The problems of the columns of a stream: those of its record class, and those that its fields name.
"""

from collections.abc import Iterable, Iterator, Mapping

from attrs import evolve

from penstock.connector import Stream
from penstock.names import did_you_mean, nearest
from penstock.records import Column

ColumnsOf = Mapping[str, Mapping[str, Column] | None]
"""By stream: its columns by name; None if its record is no record class."""


def columns_by_name(stream: Stream, others: Mapping[str, Stream]) -> dict[str, Column] | None:
    """The columns of a stream by name, a derived one's stamps included; None if its record is no record class."""
    try:
        columns = {column.name: column for column in stream.all_columns()}
    except (TypeError, AttributeError):
        return None
    if stream.derived is not None:
        for name in stream.derived.stamps:
            columns.setdefault(name, Column(name=name, type="text"))
        if (parent := others.get(stream.derived.stream)) is not None:
            for column in evolve(stream, account=parent.account, day=parent.day).stamped_columns:
                columns.setdefault(column.name, column)
    return columns


def problems_in_record(stream: Stream, columns: Mapping[str, Column]) -> Iterator[str]:
    for column in columns.values():
        if column.derived_of is not None:
            place = f"{stream.record.__name__}.{column.name}: derived(of={column.derived_of!r})"
            if column.derived_of not in columns:
                yield f"{place} {no_column(stream, column.derived_of, columns)}"
            if column.type != "decimal":
                yield f"{place} is annotated as {column.type}; an exact number is a Decimal"
        for name in column.hash_of:
            if name not in columns:
                yield f"{stream.record.__name__}.{column.name}: row_key({name!r}) {no_column(stream, name, columns)}"


def problems_in_columns(stream: Stream, columns: Mapping[str, Column]) -> Iterator[str]:
    """The columns that its fields name. Those that a configuration declares are not known yet."""
    yield from _problems_in_key(stream, columns)
    yield from _problems_in_partition_column(stream, columns, "account", ("text",))
    yield from _problems_in_partition_column(stream, columns, "day", ("date", "text"))
    yield from _problems_in_day_of(stream, columns)
    if stream.smallest not in ("day", "hour", "minute", "second"):
        yield f"smallest is {stream.smallest!r}; write 'day', 'hour', 'minute' or 'second'"


def _problems_in_key(stream: Stream, columns: Mapping[str, Column]) -> Iterator[str]:
    for key in stream.key:
        if key not in columns:
            if stream.extra_columns is None:
                yield f"key {no_column(stream, key, columns)}"
        elif columns[key].type == "json":
            yield f"key {key!r} is a json column, and nested values do not identify a row; name other columns"
        elif columns[key].secret:
            yield f"key {key!r} is secret, so it is never delivered; name other columns"


def _problems_in_partition_column(
    stream: Stream, columns: Mapping[str, Column], field: str, types: tuple[str, ...]
) -> Iterator[str]:
    """The column that ``account`` or ``day`` names, which may have these types."""
    name: str | None = getattr(stream, field)
    if name is None:
        return
    declared = {column.name for column in stream.columns}
    if name not in declared and stream.derived is None:
        # It would be added. A column without a value, of nearly the same name, is probably the one that was meant.
        waiting = [column.name for column in columns.values() if column.name in declared and _needs_a_value(column)]
        if near := nearest(name, waiting, cutoff=0.8):
            yield f"{field} {no_column(stream, name, {})}, and nothing fills {near}; write {field}={near!r}"
    elif columns[name].type not in types:
        yield f"{field} {name!r} is of type {columns[name].type}; annotate it as {_ANNOTATED[types[0]]}"
    elif columns[name].secret:
        yield f"{field} {name!r} is secret, so it is never delivered; name another column"


def _problems_in_day_of(stream: Stream, columns: Mapping[str, Column]) -> Iterator[str]:
    if isinstance(stream.day_of, str):
        if stream.day_of not in columns:
            if stream.extra_columns is None:
                yield f"day_of {no_column(stream, stream.day_of, columns)}"
        elif columns[stream.day_of].type not in ("date", "datetime", "text"):
            yield f"day_of {stream.day_of!r} is a {columns[stream.day_of].type} column; name one with a date or a time"
    if stream.inexact_bounds and not callable(stream.day_of):
        column = columns.get(stream.day_of or "")
        if column is None or column.type != "datetime":
            of_column = f"day_of {stream.day_of!r}, a {column.type} column" if column is not None else "no day_of"
            yield f"inexact_bounds with {of_column}; name a column with a time (datetime), or leave it out"


_ANNOTATED = {"text": "str", "date": "date"}


def _needs_a_value(column: Column) -> bool:
    """Whether the provider does not send this required column, so that something else must fill it."""
    return column.added and not column.nullable and column.derived_of is None and not column.hash_of


def no_column(stream: Stream, name: str, columns: Iterable[str]) -> str:
    return (
        f"names the column {name!r}, which {stream.record.__name__} does not have.{did_you_mean(name, columns)}".rstrip(
            "."
        )
    )
