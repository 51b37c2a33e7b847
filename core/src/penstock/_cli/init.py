"""
``init``: a commented configuration with every key of a connector.
"""

import json
import textwrap
import typing
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import click

from penstock._cli.session import Session, command
from penstock._config import sample
from penstock.connector import Limits, SourceSettings, help_of, is_per_account, keys_of
from penstock.redact import Secret

# Of keys that every source takes, that have no default of their own, and whose type alone says too little.
_EXAMPLES = {
    "open_for": '"3 days"',
    "proxy": '"http://proxy.example.com:3128"',
    "ca_file": '"/etc/ssl/own-ca.pem"',
    "poll_first_s": "5.0",
    "poll_max_s": "60.0",
    "poll_deadline_s": "3600.0",
}


@command()
@click.argument("connector")
def init(session: Session, connector: str) -> None:
    """
    Print a commented configuration for a connector, every key with its default: penstock init talroo > penstock.toml
    """
    found = session.registry.connector(connector)
    reads = bool(session.registry.streams(found.name))
    print(template(found.name, found.summary, found.settings, limits=found.limits, reads=reads), end="")


def template(name: str, summary: str, settings: type, *, limits: Limits | None = None, reads: bool = True) -> str:
    """
    The text of a configuration: required keys to fill in, all others commented out with their defaults, or with an
    example, marked as one, where there is none.

    ``limits``: the connector's, which are the defaults of two keys. ``reads``: it has streams, so that a sink and a
    pipeline belong to it.
    """
    limits = limits or Limits()
    defaults = {"requests_per_second": limits.requests_per_second, "concurrency": limits.concurrency}
    common = {attribute.name: attribute for attribute in keys_of(SourceSettings)}
    attributes = keys_of(settings)
    hints = typing.get_type_hints(settings)
    required = [one for one in attributes if one.default is attrs.NOTHING]
    own = [one for one in attributes if one not in required and one.name not in common]
    shared = [one for one in attributes if one not in required and one.name in common]
    secret = next((one.name for one in required if _is_secret(hints[one.name])), None)
    lines = [
        f"# {summary}",
        "#",
        "# Fill in what is marked required. A key behind # shows its default; one without says that it is an example.",
        f"# Then: penstock check {name}, and: {'penstock run daily' if reads else f'penstock act {name} --list'}",
    ]
    if secret:
        lines.append(f'# A secret may also be written as {{ file = "/run/secrets/{name}" }}.')
    lines += ["", f"[source.{name}]", f'# connector = "{name}"  # may be left out when it equals the name']
    for attribute in (*required, *own):
        lines += _key(name, attribute, hints[attribute.name])
    lines += ["", "# --- keys that every source takes ---"]
    for attribute in shared:
        lines += _key(name, attribute, hints[attribute.name], defaults.get(attribute.name))
    per_account = [one for one in attributes if is_per_account(one) and one.name not in common]
    if per_account:
        lines += ["", "# --- keys that an account may have for itself, one table for each account ---"]
        lines += [f"# [source.{name}.accounts.ACCOUNT]", '# timezone = "..."']
        variable = f"{name}_ACCOUNT".upper().replace("-", "_")
        lines += [f"# {one.name} = {sample(hints[one.name], f'{variable}_{one.name.upper()}')}" for one in per_account]
    if not reads:
        return "\n".join(lines) + "\n"
    lines += [
        "",
        "[sink.files]",
        'kind = "jsonl"',
        'path = "data"',
        "",
        "[pipeline.daily]",
        f'source = "{name}"',
        'sink = "files"',
        '# streams = ["..."]  # default: all that are on by default; `penstock streams ' + name + "` lists them",
    ]
    return "\n".join(lines) + "\n"


def _key(source: str, attribute: "attrs.Attribute[Any]", hint: Any, otherwise: Any = None) -> list[str]:
    """The lines of one key. ``otherwise``: what holds where its default is None."""
    required = attribute.default is attrs.NOTHING
    marks = ["required"] if required else []
    marks += ["secret"] if _is_secret(hint) else []
    text = f"{', '.join(marks)}: {help_of(attribute)}" if marks else help_of(attribute)
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
        inner = ", ".join(f"{_toml_key(str(key))} = {toml_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"[{', '.join(toml_value(one) for one in value)}]"
    if isinstance(value, Secret):
        value = value.reveal()
    # JSON's escapes are TOML's too, but for the delete character, which TOML wants escaped.
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else json.dumps(key)
