"""
The text of a file that is written: templates, literals of Python, and the imports of the names that a module uses.
"""

import ast
import json
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

import penstock

WIDTH = 120
MAX_CALL_WIDTH = 104  # of a line, so that a name before it and a comment behind it have room

_MODULES = ("csv", "gzip", "hmac", "io", "json", "jwt", "re", "zipfile")
_OUTSIDE = ("attrs", "cryptography", "jwt", "oauthlib", "penstock")
_NAMES = {
    "attrs": ("frozen",),
    "base64": ("b64encode",),
    "copy": ("deepcopy",),
    "cryptography.hazmat.primitives.asymmetric.rsa": ("generate_private_key",),
    "cryptography.hazmat.primitives.serialization": ("Encoding", "NoEncryption", "PrivateFormat"),
    "datetime": ("UTC", "date", "datetime", "time"),
    "decimal": ("Decimal",),
    "importlib.resources": ("files",),
    "oauthlib.oauth1": ("Client",),
    "penstock": tuple(dir(penstock)),
    "penstock.sandbox": ("json_body",),
    "penstock.testing": ("a_response", "verdict_on"),
    "penstock.testing.conformance": ("conforms",),
    "urllib.parse": ("parse_qsl", "urlencode"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
IMPORTABLE = frozenset({*_MODULES, *_HOME})


def template(name: str) -> str:
    """The text of a file beside this module."""
    return files(__package__).joinpath("templates", name).read_text("utf-8")


@cache
def snippets() -> Mapping[str, Any]:
    """The table of what a kind of login, paging and stream adds."""
    return tomllib.loads(template("snippets.toml"))


def snippet(table: str, kind: str, key: str, /, **values: str) -> str:
    """One text of the table, filled in; without the line breaks around it."""
    return Template(snippets()[table][kind].get(key, "")).substitute(values).strip("\n")


LOGINS = tuple(snippets()["login"])


def literal(value: Any) -> str:
    """A value as Python writes it, texts in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def call(name: str, *arguments: Any, indent: int = 0, **options: Any) -> str:
    """
    A call with those of the options that have a value; a long one has an argument a line. ``indent``: of its line.
    """
    texts = [*map(literal, arguments), *(f"{key}={literal(value)}" for key, value in options.items() if value)]
    line = f"{name}({', '.join(texts)})"
    if indent + len(line) <= MAX_CALL_WIDTH:
        return line
    inner = "".join(f"{' ' * indent}    {text},\n" for text in texts)
    return f"{name}(\n{inner}{' ' * indent})"


def used_names(text: str) -> set[str]:
    """The names that a module reads and does not define itself; columns of a class are no such names."""
    read: set[str] = set()
    bound: set[str] = set()
    tree = ast.parse(text)
    columns = {id(node.target) for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and id(node) not in columns:
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    return read - bound


def with_imports(text: str, modules: dict[str, str] | None = None) -> str:
    """
    A module whose line ``# imports`` is replaced by the imports of the names that it uses. ``modules``: names of the
    package, by name, and their modules.
    """
    homes = {**_HOME, **(modules or {})}
    names = used_names(text)
    lines = {f"import {name}" for name in names.intersection(_MODULES) - homes.keys()}
    by_module: dict[str, set[str]] = {}
    for name in names.intersection(homes):
        by_module.setdefault(homes[name], set()).add(name)
    lines |= {_import(module, names) for module, names in by_module.items()}
    groups: list[list[str]] = [[], [], []]
    for line in sorted(lines, key=lambda line: (line.startswith("from"), line.split()[1], line)):
        module = line.split()[1]
        outside = module.partition(".")[0] in _OUTSIDE
        groups[2 if module in (modules or {}).values() else 1 if outside else 0].append(line)
    return text.replace("# imports", "\n\n".join("\n".join(group) for group in groups if group))


def _import(module: str, names: set[str]) -> str:
    ordered = sorted(names, key=lambda name: (0 if name.isupper() else 1 if name[0].isupper() else 2, name))
    line = f"from {module} import {', '.join(ordered)}"
    return (
        line if len(line) < WIDTH else f"from {module} import (\n" + "".join(f"    {name},\n" for name in ordered) + ")"
    )
