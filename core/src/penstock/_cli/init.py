"""
``init`` and ``schema``: a commented configuration with every key of connectors and sinks, and the JSON Schema by which
editors check it.
"""

import json
import textwrap
import typing
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import chain, count
from pathlib import Path
from typing import Any

import attrs
import click

from penstock._cli.completion import connectors
from penstock._cli.output import print_json
from penstock._cli.session import Session, command
from penstock._config.json_schema import json_schema
from penstock._config.toml_values import sample
from penstock.connector import Connector
from penstock.errors import ConfigError, UsageError
from penstock.redact import Secret
from penstock.settings import SourceSettings, info_of, keys_of
from penstock.sinks import SinkKind

# Examples for keys of every source that have no default and whose type alone is not enough.
_EXAMPLES = {
    "open_for": '"3 days"',
    "proxy": '"http://proxy.example.com:3128"',
    "token_store": '"/var/lib/penstock/tokens.json"',
    "ca_file": '"/etc/ssl/own-ca.pem"',
    "poll_first_s": "5.0",
    "poll_max_s": "60.0",
    "poll_deadline_s": "3600.0",
}


# The line by which editors (taplo, Even Better TOML) find the schema.
_SCHEMA = "#:schema ./penstock.schema.json"


@command()
@click.argument("connectors", nargs=-1, required=True, metavar="CONNECTOR ...", shell_complete=connectors)
def init(session: Session, connectors: tuple[str, ...]) -> None:
    """
    Print a commented configuration for connectors, every key with its default: penstock init talroo > penstock.toml

    Sections that ./penstock.toml already has are not printed again, so that the output can be appended to it.
    """
    registry = session.registry
    offered = registry.connectors()
    for name in connectors:
        if name in registry.sinks() and name not in offered:
            raise UsageError(f"{name} is a sink: `penstock init CONNECTOR` prints the keys of every sink, too")
    chosen = [registry.connector(name) for name in dict.fromkeys(connectors)]
    reads = [connector.name for connector in chosen if registry.streams(connector.name)]
    configured = _configured_names(session)
    lines: list[str] = []
    if not configured["source"]:
        lines += [_SCHEMA, "# completes and checks this file in an editor: penstock schema > penstock.schema.json", ""]
    names = []
    for number, connector in enumerate(chosen):
        name = _free_name(connector.name, configured["source"])
        names += [name] if connector.name in reads else []
        lines += source_lines(connector, name=name, brief=number > 0)
        lines.append("")
    if reads and "daily" in configured["pipeline"]:
        listed = ", ".join(f'"{name}"' for name in names)
        lines += [f"# To read it every day, add {listed} to the key source of [pipeline.daily].", ""]
    elif reads:
        sinks = sink_sections(registry.sinks(), configured["sink"])
        lines += [*chain.from_iterable(sinks[:1]), *pipeline_lines(names)]
        lines += ["", "# --- other sinks ---", "", *chain.from_iterable(sinks[1:])]
    elif not reads:
        lines += [f"# Then: penstock act {connector.name} --list" for connector in chosen]
    print("\n".join(lines).rstrip("\n"))


@command()
def schema(session: Session) -> None:
    """
    Print a JSON Schema of penstock.toml, from the installed plugins: penstock schema > penstock.schema.json

    Editors (taplo, Even Better TOML) use it with the first line `#:schema ./penstock.schema.json` of penstock.toml.
    """
    registry = session.registry
    sinks = {name: kind for name, kind in registry.sinks().items() if kind.scheme != "-"}
    print_json(json_schema(registry.connectors(), sinks, registry.secrets()))


def _configured_names(session: Session) -> dict[str, list[str]]:
    """The names that the configuration already has, by section; none, if it cannot be read."""
    try:
        config = session.setup.config
    except ConfigError:
        return {"source": [], "sink": [], "pipeline": []}
    return {"source": [*config.sources], "sink": [*config.sinks], "pipeline": [*config.pipelines]}


def _free_name(name: str, taken: Collection[str]) -> str:
    """``name``, or the first of ``name_2``, ``name_3``, ... that is not taken."""
    return next(free for free in chain([name], (f"{name}_{number}" for number in count(2))) if free not in taken)


def source_lines(connector: Connector, *, name: str = "", brief: bool = False) -> list[str]:
    """
    The section of one source: required keys to fill in, all others commented out with their defaults, or with an
    example, marked as one, where there is none.

    ``brief``: without the keys that every source takes.
    """
    name, settings, limits = name or connector.name, connector.settings, connector.limits
    defaults = {"requests_per_second": limits.requests_per_second, "concurrency": limits.concurrency}
    common = {attribute.name: attribute for attribute in keys_of(SourceSettings)}
    attributes = keys_of(settings)
    hints = typing.get_type_hints(settings)
    required = [attribute for attribute in attributes if attribute.default is attrs.NOTHING]
    special = [attribute for attribute in attributes if attribute not in required and attribute.name not in common]
    shared = [attribute for attribute in attributes if attribute not in required and attribute.name in common]
    secret = any(_is_secret(hints[attribute.name]) for attribute in required)
    lines = [
        f"# {connector.summary}",
        "#",
        "# Fill in what is marked required. A key behind # shows its default, or is marked as an example.",
        f"# Then: penstock check {name}",
    ]
    if secret:
        lines.append(f'# A secret may also be written as {{ file = "/run/secrets/{name}" }}.')
    lines += ["", f"[source.{name}]"]
    if name == connector.name:
        lines.append(f'# connector = "{name}"  # may be left out when it equals the name')
    else:
        lines.append(f'connector = "{connector.name}"')
    for attribute in (*required, *special):
        lines += _key(name, attribute, hints[attribute.name])
    lines += ["", f"# --- keys that every source takes{', as above' if brief else ''} ---"]
    for attribute in () if brief else shared:
        lines += _key(name, attribute, hints[attribute.name], defaults.get(attribute.name))
    per_account = [
        attribute for attribute in attributes if info_of(attribute).per_account and attribute.name not in common
    ]
    if per_account:
        lines += ["", "# --- keys that an account may have for itself, one table for each account ---"]
        lines += [f"# [source.{name}.accounts.ACCOUNT]", '# timezone = "..."']
        variable = f"{name}_ACCOUNT".upper().replace("-", "_")
        lines += [
            f"# {attribute.name} = {sample(hints[attribute.name], f'{variable}_{attribute.name.upper()}')}"
            for attribute in per_account
        ]
    return lines


def sink_sections(kinds: Mapping[str, SinkKind], taken: Collection[str]) -> list[list[str]]:
    """
    A section for each kind that keeps something: first that of JSON lines, in use; the others are commented out. A key
    that several kinds share stands at the first.
    """
    sections: list[list[str]] = []
    printed: set[str] = set()
    for kind in sorted(kinds.values(), key=lambda kind: kind.name != "jsonl"):
        if kind.scheme == "-":
            continue
        used = kind.name == "jsonl" and "files" not in taken
        section = _sink_section(kind, printed)
        section = section if used else [line if line.startswith("#") else f"# {line}" for line in section]
        sections.append([f"# {kind.summary}", *section, ""])
    return sections


def _sink_section(kind: SinkKind, printed: set[str]) -> list[str]:
    """A sink with its keys, required ones first, without the lines of keys in ``printed``, to which they are added."""
    hints = typing.get_type_hints(kind.settings)
    attributes = [attribute for attribute in attrs.fields(kind.settings) if attribute.init]
    lines = [f"[sink.{'files' if kind.name == 'jsonl' else kind.name}]", f'kind = "{kind.name}"']
    above = []
    for attribute in sorted(attributes, key=lambda attribute: attribute.default is not attrs.NOTHING):
        _, *key = _key(kind.name, attribute, hints[attribute.name])
        if (text := "\n".join(key)) in printed:
            above.append(attribute.name)
        else:
            printed.add(text)
            lines += key
    lines += [f"# and, as above: {', '.join(above)}"] if above else []
    place = f"data.{kind.name}" if kind.example.endswith(":FILE") else "data"
    return [line.replace('path = "..."', f'path = "{place}"') for line in lines]


def pipeline_lines(sources: Sequence[str]) -> list[str]:
    """The pipeline that reads all of these sources into the files."""
    names = ", ".join(f'"{name}"' for name in sources)
    return [
        "# Then: penstock run daily",
        "[pipeline.daily]",
        f"source = [{names}]" if len(sources) > 1 else f"source = {names}",
        'sink = "files"',
        '# streams = ["..."]  # STREAM, SOURCE.STREAM or patterns; default: all that are on by default',
        '# exclude_streams = ["..."]  # the same; `penstock streams CONNECTOR` lists them',
    ]


def _key(source: str, attribute: "attrs.Attribute[Any]", hint: Any, otherwise: Any = None) -> list[str]:
    """The lines of one key. ``otherwise``: the description of a default of None."""
    required = attribute.default is attrs.NOTHING
    marks = ["required"] if required else []
    marks += ["secret"] if _is_secret(hint) else []
    text = f"{', '.join(marks)}: {info_of(attribute).help}" if marks else info_of(attribute).help
    comment = [f"# {line}" for line in textwrap.wrap(text, 110)]
    value = sample(hint, f"{source}_{attribute.name}".upper().replace("-", "_"))
    mark = ""
    if not required:
        default = attribute.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            default = None if default.takes_self else default.factory()  # type: ignore[union-attr]
        default = otherwise if default is None else default
        if default is None:
            value, mark = _EXAMPLES.get(attribute.name, value), "  # an example"
        elif not isinstance(default, Secret):
            value = toml_value(default)
    return ["", *comment, f"{'' if required else '# '}{attribute.name} = {value}{mark}"]


def _is_secret(hint: Any) -> bool:
    return hint is Secret or Secret in typing.get_args(hint)


def toml_value(value: Any) -> str:
    """A plain value as TOML writes it on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, Decimal, date)):
        return str(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml_key(str(key))} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, Secret):
        value = value.reveal()
    # JSON's escapes are TOML's too. In addition, TOML requires an escape for the delete character.
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else json.dumps(key)
