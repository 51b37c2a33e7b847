"""
``datapackage.json``: a Frictionless Data Package that describes the files of a source (types, keys, units, meaning).

A resource per stream. It lists the stream's files by name, since a path in a data package is no pattern.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from penstock import Column, ColumnType, Layout

from penstock_plugins.files.codec import Codec
from penstock_plugins.files.disk import file_errors, file_name, replace_text
from penstock_plugins.sink_support.column_facts import facts_of

if TYPE_CHECKING:
    from penstock_plugins.files.ledger import FileLedger
    from penstock_plugins.files.source_files import SourceFiles

FILE_NAME = "datapackage.json"
MAX_FILES = 10_000
"""The most files that a resource lists, so that the cost of a run does not grow with the target's history."""

_MARK = "made_by"
_PENSTOCK = "penstock"
_FIELD_TYPES: dict[ColumnType, str] = {"text": "string", "decimal": "number", "json": "any"}


def describe(files: "SourceFiles", ledger: "FileLedger", layouts: Mapping[str, Sequence[Layout]]) -> None:
    """
    Update the source's data package to the files after this run. ``layouts``: of the streams of this run, by the stream
    whose partitions have the files, its own and those of the derived ones.
    """
    path = files.directory / file_name(files.source) / FILE_NAME
    with file_errors(path), suppress(FileNotFoundError):
        if not layouts or (not files.changed and path.exists()):
            return
        former = path.read_bytes() if path.exists() else b""
        if former and not is_ours(former):
            return
        resources = {
            layout.stream: (layout, _files_of(files, ledger, parent, layout.stream))
            for parent, family in layouts.items()
            for layout in family
            if file_name(layout.stream) in files.changed or not former
        }
        if resources and (package := with_resources(former, files.source, files.codec, resources)):
            replace_text(path, package)
        elif resources:
            path.unlink(missing_ok=True)


def _files_of(files: "SourceFiles", ledger: "FileLedger", parent: str, stream: str) -> list[str]:
    """The stream's files, relative to the source's directory, in the order of their partitions."""
    source = f"{file_name(files.source)}/"
    places = ledger.places(files.source, parent, f"{source}{file_name(stream)}/")
    return [place.removeprefix(source) for place in islice(places, MAX_FILES)]


def with_resources(
    former: bytes, source: str, codec: Codec, resources: Mapping[str, tuple[Layout, Sequence[str]]]
) -> bytes:
    """
    The package ``former`` (empty: none yet) with these streams in place of theirs; one without files has no resource.
    Empty where no stream has a file: a package must have a resource.

    The files of a stream are paths relative to the package's directory.
    """
    former_resources = json.loads(former)["resources"] if former else []
    unchanged = {resource["name"]: resource for resource in former_resources if resource["name"] not in resources}
    described = {stream: _resource(layout, files, codec) for stream, (layout, files) in resources.items() if files}
    package = {
        "name": re.sub(r"[^-a-z0-9._]", "-", source.lower()),  # as the specification requires
        "title": f"{source}, as penstock delivered it",
        _MARK: _PENSTOCK,
        "resources": [resource for _, resource in sorted({**unchanged, **described}.items())],
    }
    if not package["resources"]:
        return b""
    return msgspec.json.format(msgspec.json.encode(package), indent=1) + b"\n"


def is_ours(content: bytes) -> bool:
    """Whether a ``datapackage.json`` is one of penstock's."""
    try:
        package = json.loads(content)
    except ValueError:
        return False
    return isinstance(package, dict) and package.get(_MARK) == _PENSTOCK


def _resource(layout: Layout, files: Sequence[str], codec: Codec) -> dict[str, Any]:
    columns = [column.name for column in layout.columns]
    key = [name for name in dict.fromkeys((*layout.partition_columns, *layout.key)) if name in columns]
    if layout.kind == "changes":
        key = [name for name in key if name in layout.key]
    schema: dict[str, Any] = {
        # A member of JSON lines that is absent is null: ``_extra`` is there only where it holds something.
        "fieldsMatch": "superset",
        "fields": [_field(column) for column in layout.columns],
        **({"primaryKey": key} if layout.key else {}),
    }
    resource: dict[str, Any] = {
        "name": layout.stream,
        "type": "table",
        "description": layout.summary,
        "kind": layout.kind,
        "path": list(files) if len(files) > 1 else files[0],
        **codec.description(),
        "schema": schema,
    }
    if files[0].endswith(".gz"):
        resource["compression"] = "gz"
    return {name: value for name, value in resource.items() if value != ""}


def _field(column: Column) -> dict[str, Any]:
    form = {"format": "any"} if column.type == "datetime" else {}
    required = {} if column.nullable else {"constraints": {"required": True}}
    type_ = _FIELD_TYPES.get(column.type, column.type)
    return {"name": column.name, "type": type_, **form, **facts_of(column), **required}
