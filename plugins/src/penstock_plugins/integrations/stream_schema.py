"""
A stream in the terms that other tools share: a JSON Schema (a subset of draft 7), a primary key and a cursor.

The subset has no references, no ``allOf`` and no ``additionalProperties``, and writes "nullable" as a list of types:
the loaders of Singer and Airbyte refuse or misread everything else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock import EXTRA, Column, Layout

from penstock_plugins.integrations.messages import Texts

JSON_SCHEMA_TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": ["string"]},
    "integer": {"type": ["integer"]},
    "decimal": {"type": ["number"]},
    "boolean": {"type": ["boolean"]},
    "date": {"type": ["string"], "format": "date"},
    "datetime": {"type": ["string"], "format": "date-time"},
    "json": {"type": ["object", "array", "string", "number", "boolean"]},
    EXTRA: {"type": ["object"]},
}
_JSON_TEXT = {"type": ["string"], "contentMediaType": "application/json"}


def json_schema(layout: Layout, texts: Texts) -> dict[str, Any]:
    """
    The schema of a stream's records. A decimal that is a text has the format ``x-singer.decimal``, a nested value that
    is one holds JSON.

    A time whose zone the provider does not state is text: the format ``date-time`` would require a zone that nobody
    knows.
    """
    types = {
        **JSON_SCHEMA_TYPES,
        **({"decimal": {"type": ["string"], "format": "x-singer.decimal"}} if texts.decimals else {}),
        **({"json": _JSON_TEXT, EXTRA: _JSON_TEXT} if texts.nested else {}),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {column.name: _property(column, types) for column in layout.columns},
        "required": [column.name for column in layout.columns if not column.nullable],
    }


def _property(column: Column, types: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    naive = column.type == "datetime" and column.zone == "naive"
    base = types[EXTRA if column.name == EXTRA else "text" if naive else column.type]
    type_ = {**base, "type": [*(["null"] if column.nullable else []), *base["type"]]}
    return type_ | ({"description": text} if (text := described(column)) else {})


def described(column: Column) -> str:
    """The description of a column and its unit; empty without both."""
    return " ".join(filter(None, [column.description, f"({column.unit})" if column.unit else ""]))


def automatic(layout: Layout) -> set[str]:
    """The columns that cannot be left out."""
    return {*layout.key, *layout.partition_columns, *layout.derived_by}


def groups(layouts: Sequence[Layout]) -> dict[str, tuple[Layout, ...]]:
    """
    Each stream that is read, with those that are derived from it: these are delivered with it. ``layouts``: as
    :meth:`penstock.Project.layouts` gives them, each derived stream behind the one that it is derived from.
    """
    grouped: dict[str, tuple[Layout, ...]] = {}
    for layout in layouts:
        if layout.derived_by and grouped:
            last = next(reversed(grouped))
            grouped[last] = (*grouped[last], layout)
        else:
            grouped[layout.stream] = (layout,)
    return grouped
