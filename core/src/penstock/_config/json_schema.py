"""
A JSON Schema of ``penstock.toml``, made from the settings of the installed connectors and sinks, for editors.

Editors check structure, names and types with it; what depends on values (bounds, references, names of other sections)
is checked when the file is used.
"""

import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import attrs

from penstock._config.pipeline import Notification, Pipeline
from penstock._config.toml_values import SIMPLE, bare_type, is_table
from penstock.connector import Connector
from penstock.names import NAME
from penstock.redact import Secret
from penstock.settings import info_of, keys_of
from penstock.sinks import SinkKind


def json_schema(
    connectors: Mapping[str, Connector], sinks: Mapping[str, SinkKind], references: Collection[str]
) -> dict[str, Any]:
    """
    The schema, as JSON-like data. ``references``: the kinds of reference to a secret besides ``env`` and ``file``.
    """
    kinds = ("env", "file", *references)
    reference = {
        "type": "object",
        "properties": {kind: {"type": "string"} for kind in kinds},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    sources = {name: _source_schema(name, connector.settings) for name, connector in connectors.items()}
    targets = {name: _section_schema(sink.settings, "kind", name) for name, sink in sinks.items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "penstock.toml",
        "type": "object",
        "properties": {
            "source": _sections_by_name(sources, "connector"),
            "sink": _sections_by_name(targets, "kind"),
            "pipeline": {
                "type": "object",
                "propertyNames": {"pattern": f"^{NAME}$"},
                "additionalProperties": _pipeline_schema(),
            },
        },
        "additionalProperties": False,
        "definitions": {
            "reference": reference,
            **{f"source.{name}": schema for name, schema in sources.items()},
            **{f"sink.{name}": schema for name, schema in targets.items()},
        },
    }


def settings_schema(connector: Connector) -> dict[str, Any]:
    """
    The schema of one source of this connector, for a configuration without references: a secret stands in it as text
    and is marked with ``writeOnly``.
    """
    hints = typing.get_type_hints(connector.settings)
    attributes = keys_of(connector.settings)
    properties = {}
    for attribute in attributes:
        hint = hints[attribute.name]
        marks = {"writeOnly": True} if bare_type(hint) is Secret else {}
        properties[attribute.name] = _described(attribute, _type_schema(hint) | marks)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": connector.summary,
        "type": "object",
        "properties": properties,
        "required": [
            attribute.name
            for attribute in attributes
            if attribute.default is attrs.NOTHING and not info_of(attribute).per_account
        ],
    }


def _sections_by_name(sections: Mapping[str, dict[str, Any]], key: str) -> dict[str, Any]:
    """Sections by name. A section with the name of its connector or kind may omit that key; any other needs it."""
    prefix = "source" if key == "connector" else "sink"
    chosen = [
        {"if": {"properties": {key: {"const": name}}}, "then": {"$ref": f"#/definitions/{prefix}.{name}"}}
        for name in sections
    ]
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^{NAME}$"},
        "properties": {
            name: {
                "if": {"required": [key]},
                "then": {"allOf": chosen},
                "else": {"$ref": f"#/definitions/{prefix}.{name}"},
            }
            for name in sections
        },
        "additionalProperties": {
            "required": [key],
            "properties": {key: {"enum": [*sections]}},
            "allOf": chosen,
        },
    }


def _source_schema(name: str, settings: type) -> dict[str, Any]:
    section = _section_schema(settings, "connector", name)
    keys = {key.name for key in keys_of(settings) if info_of(key).per_account}
    if "accounts" not in section["properties"]:
        account = {key: value for key, value in section["properties"].items() if key in keys or key == "timezone"}
        section["properties"]["accounts"] = {
            "type": "object",
            "description": "keys that an account has for itself, one table for each account",
            "additionalProperties": {"type": "object", "properties": account, "additionalProperties": False},
        }
    # A key that every account may have for itself need not stand above them.
    section["required"] = [key for key in section["required"] if key not in keys]
    return section


def _pipeline_schema() -> dict[str, Any]:
    section = _section_schema(Pipeline)
    receiver = _section_schema(Notification)
    section["properties"]["notify"] |= {"anyOf": [receiver, {"type": "array", "items": receiver}]}
    return section


def _section_schema(settings: type, key: str = "", name: str = "") -> dict[str, Any]:
    hints = typing.get_type_hints(settings)
    attributes = keys_of(settings)
    return {
        "type": "object",
        "properties": {
            **({key: {"const": name, "description": f"the {key}"}} if key else {}),
            **{attribute.name: _key_schema(attribute, hints[attribute.name]) for attribute in attributes},
        },
        "required": [attribute.name for attribute in attributes if attribute.default is attrs.NOTHING],
        "additionalProperties": False,
    }


def _key_schema(attribute: "attrs.Attribute[Any]", hint: Any) -> dict[str, Any]:
    schema = _type_schema(hint)
    if not is_table(hint):
        schema = {"anyOf": [schema, {"$ref": "#/definitions/reference"}]}
    return _described(attribute, schema)


def _described(attribute: "attrs.Attribute[Any]", schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a key, with its default and its help."""
    if isinstance(attribute.default, (str, int, float, bool)):
        schema["default"] = attribute.default
    return {**schema, "description": info_of(attribute).help}


def _type_schema(hint: Any) -> dict[str, Any]:
    """The schema of a type that settings may have."""
    bare = bare_type(hint)
    if bare is Secret:
        return {"type": "string"}
    if bare in SIMPLE:
        return dict(SIMPLE[bare].schema)
    origin, arguments = typing.get_origin(bare) or bare, typing.get_args(bare)
    if origin is Literal:
        return {"enum": [*arguments]}
    if attrs.has(origin):
        hints = typing.get_type_hints(origin)
        fields = [field for field in attrs.fields(origin) if field.init]
        return {
            "type": "object",
            "properties": {field.name: _type_schema(hints[field.name]) for field in fields},
            "required": [field.name for field in fields if field.default is attrs.NOTHING],
            "additionalProperties": False,
        }
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _type_schema(arguments[1]) if len(arguments) == 2 else {}}
    if isinstance(origin, type) and issubclass(origin, (Sequence, set, frozenset)):
        return {"type": "array", "items": _type_schema(arguments[0]) if arguments else {}}
    members = [argument for argument in arguments if argument is not type(None)]
    return {"anyOf": [_type_schema(member) for member in members]} if members else {}
