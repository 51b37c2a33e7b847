"""
The types of columns: in SQL, which of them can hold or become another, and those of the values of rows, which are
checked in one call of msgspec.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone, tzinfo
from decimal import Decimal
from itertools import repeat
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from penstock import Column, ColumnType

from penstock_plugins.sink_support.text_columns import json_texts

NAIVE, AWARE = "timestamp without time zone", "timestamp with time zone"

SQL_TYPES: dict[ColumnType, str] = {
    "text": "text",
    "integer": "bigint",
    "decimal": "numeric",
    "boolean": "boolean",
    "date": "date",
    "json": "jsonb",
}

# From -> to: every value of the one is a value of the other.
WIDER = {
    "smallint": ("integer", "bigint", "numeric"),
    "integer": ("bigint", "numeric"),
    "bigint": ("numeric",),
    "date": (NAIVE,),
    "character varying": ("text",),
}

# The declared types, besides its own, that a column of the table can hold.
HOLDS = {"numeric": ("bigint",), NAIVE: ("date",)}

# Added to every table. Their defaults are the same for all rows of a commit, so that no row has to carry them.
STAMPS = {
    "_run_id": ("text", "current_setting('penstock.run_id', true)", "the run that wrote this row"),
    "_loaded_at": (AWARE, "now()", "when this row last changed"),
}


def type_of(column: Column) -> str:
    """The SQL type of a column, as ``format_type`` names it."""
    if column.type == "datetime":
        return AWARE if column.zone == "aware" else NAIVE
    return SQL_TYPES[column.type]


# --- values of rows ---------------------------------------------------------------------------------------------------

ENCODING_ERRORS = (msgspec.MsgspecError, ValueError, TypeError, OverflowError)
"""The errors of values that have another type than their column, or no form in JSON."""

# Values of these types are never made from others, such as a decimal from a float.
_AS_THEY_ARE = (Decimal, date, datetime)
# The types of decoded values.
VALUE_TYPES: dict[ColumnType, Any] = {
    "text": str,
    "integer": Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    "decimal": Decimal | int,
    "boolean": bool,
    "date": date,
    "json": str,
}
_TIMES = {"naive": Annotated[datetime, Meta(tz=False)], "aware": Annotated[datetime, Meta(tz=True)]}


class RowTypes:
    """``types``: those of the columns in their table. ``flat`` and ``nested``: the columns without and with JSON."""

    def __init__(self, columns: Sequence[Column], types: Mapping[str, str]) -> None:
        self.flat = tuple(column.name for column in columns if column.type != "json")
        self.nested = frozenset(column.name for column in columns if column.type == "json")
        self._types = {column.name: _value_type_of(column, types[column.name]) for column in columns}
        self._aware = [column.name for column in columns if column.type == "datetime" and column.zone == "aware"]
        self._structs: dict[tuple[str, ...], Any] = {}

    def values(self, columns: tuple[str, ...], rows: list[Any]) -> list[Any]:
        """
        The values of each row, which are encoded as a JSON array: nested ones are their JSON text.

        Raises one of ``ENCODING_ERRORS`` if a value has another type than its column.
        """
        values = self._checked(columns, rows)
        for attribute, times in self._rounded(columns, values):
            texts = [None if time is None else time.isoformat() for time in times]
            deque(map(setattr, values, repeat(attribute), texts), maxlen=0)
        return values

    def are_plain(self, rows: list[Any]) -> bool:
        """Whether msgspec encodes the values of the flat columns exactly. Raises as :meth:`values`."""
        return not self._rounded(self.flat, self._checked(self.flat, rows))

    def _checked(self, columns: tuple[str, ...], rows: list[Any]) -> list[Any]:
        if columns not in self._structs:
            # By number: the name of a column need not be one of Python.
            fields = [(f"c{number}", self._types[name] | None) for number, name in enumerate(columns)]
            self._structs[columns] = list[msgspec.defstruct("Values", fields, array_like=True, gc=False)]  # type: ignore[misc]
        values: list[Any] = msgspec.convert(
            self._tuples(columns, rows), self._structs[columns], builtin_types=_AS_THEY_ARE
        )
        return values

    def _tuples(self, columns: tuple[str, ...], rows: list[Any]) -> list[tuple[Any, ...]]:
        if len(columns) > 1 and self.nested.isdisjoint(columns):
            return list(map(attrgetter(*columns), rows))
        values = [
            json_texts(get_column(rows, name)) if name in self.nested else get_column(rows, name) for name in columns
        ]
        return list(zip(*values, strict=True))

    def _rounded(self, columns: tuple[str, ...], values: list[Any]) -> list[tuple[str, list[Any]]]:
        """The attributes of times that msgspec would not encode exactly, with them: it rounds offsets to minutes."""
        rounded = []
        for name in self._aware:
            if name in columns:
                attribute = f"c{columns.index(name)}"
                times = get_column(values, attribute)
                if any(map(_may_have_seconds, set(map(attrgetter("tzinfo"), filter(None, times))))):
                    rounded.append((attribute, times))
        return rounded


def get_column(rows: list[Any], name: str) -> list[Any]:
    return list(map(attrgetter(name), rows))


def _value_type_of(column: Column, type_: str) -> Any:
    if column.type == "datetime":
        return _TIMES[column.zone]
    return VALUE_TYPES["decimal" if type_ == "numeric" else column.type]


def _may_have_seconds(zone: tzinfo) -> bool:
    """Whether offsets of the zone may have seconds, as those of many cities had before 1900."""
    return not isinstance(zone, timezone) or zone.utcoffset(None).seconds % 60 != 0
