"""
``datapackage.json``: what the files of a stream hold, as a Frictionless Data Package (types, key, units, meaning).
"""

import json
from typing import Any

from penstock import Column, Layout

FILE_NAME = "datapackage.json"
_MARK = "made_by"
_PENSTOCK = "penstock"

_TYPES = {"text": "string", "decimal": "number", "json": "any"}


def datapackage(layout: Layout, path: str, *, format: str, compressed: bool) -> bytes:
    """
    The description of a stream's files; ``path`` is relative to it and may hold ``**`` (a file per partition).
    """
    columns = [column.name for column in layout.columns]
    key = [name for name in dict.fromkeys((*layout.partition_columns, *layout.key)) if name in columns]
    if layout.kind == "changes":
        key = [name for name in key if name in layout.key]
    schema: dict[str, Any] = {"fields": [_field(column) for column in layout.columns]}
    if layout.key:
        schema["primaryKey"] = key
    resource: dict[str, Any] = {
        "name": layout.stream,
        "description": layout.summary,
        "path": path,
        "format": format,
        "mediatype": "text/csv" if format == "csv" else "application/jsonl",
        "encoding": "utf-8",
        "schema": schema,
    }
    if compressed:
        resource["compression"] = "gz"
    if format == "csv":
        resource["dialect"] = {"delimiter": ",", "lineTerminator": "\r\n", "quoteChar": '"', "doubleQuote": True}
    package = {
        "name": layout.stream,
        "title": f"{layout.stream} of {layout.source}",
        _MARK: _PENSTOCK,
        "kind": layout.kind,
        "resources": [{name: value for name, value in resource.items() if value != ""}],
    }
    return json.dumps(package, indent=2, ensure_ascii=False).encode() + b"\n"


def is_ours(content: bytes) -> bool:
    """Whether a ``datapackage.json`` is one of penstock's."""
    try:
        found = json.loads(content)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get(_MARK) == _PENSTOCK


def _field(column: Column) -> dict[str, Any]:
    said: dict[str, Any] = {"name": column.name, "type": _TYPES.get(column.type, column.type)}
    if column.type == "datetime":
        said["format"] = "any"
        if column.zone == "naive":
            said["zone"] = "not stated by the provider"
    if column.description:
        said["description"] = column.description
    if column.unit:
        said["unit"] = column.unit
    if column.member is not None and column.member != column.name:
        said["member"] = column.member
    if column.type in ("integer", "decimal"):
        said["additive"] = column.additive
    if column.personal:
        said["personal"] = True
    if not column.nullable:
        said["constraints"] = {"required": True}
    return said
