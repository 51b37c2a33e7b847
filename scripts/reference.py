"""
The four pages of the reference of the public API, from the source: the names in ``penstock/__init__.py``, the hooks,
and the named components.

Types and defaults are shown as they are written, so that a page is the same on each version of Python.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import penstock
from penstock._plugins.offers import COMPONENT_KINDS
from penstock._plugins.registry import Registry

# For each page its chapters: heading, modules, and what a reader does with them.
CHAPTERS = {
    "connectors": (
        ("Connectors and streams", ("connector",), "What a connector declares."),
        ("Records", ("records",), "The columns of a record class."),
        ("Requests and responses", ("model", "templates"), "The values that functions and components take and return."),
        ("Bodies", ("envelope", "report_files"), "Where the records are in a body."),
        ("Writes", ("actions",), "What `penstock act` sends."),
        ("Sandboxes", ("sandbox.app", "sandbox.base"), "Local imitations of providers."),
        (
            "Commands, filters, secrets",
            ("commands.declaration", "filters", "names", "redact", "fault_points"),
            "The rest that a plugin may use.",
        ),
    ),
    "components": (
        ("Components", ("verdicts", "protocols"), "Authenticators, judges, paginators, pollers, decoders."),
    ),
    "sinks": (("Sinks", ("sinks",), "Outputs and their ledgers."),),
    "python": (
        (
            "Results",
            ("_project.run_result", "_project.plan", "_plan.plan", "results"),
            "What the methods of `Project` return.",
        ),
    ),
}
OF_THE_RECORD = "of the record class"
PUBLIC = penstock.public_names()
OMITTED = {"SourceSettings"}  # its keys are listed in docs/configuration.md


def reference(page: str, registry: Registry) -> list[str]:
    """The lines of a page of ``CHAPTERS``."""
    lines: list[str] = []
    chapters = CHAPTERS[page]
    if page == "python":
        chapters += (("Python programs", _other_modules(), "See [the page on Python](python.md) for examples."),)
    for title, modules, about in chapters:
        lines += [f"## {title}", "", about, ""]
        for module in modules:
            for name in _in_order(f"penstock.{module}"):
                lines += _entry(f"penstock.{module}", name)
    if page == "connectors":
        lines += ["## Hooks", "", "Each has an example in [hooks](hooks.md).", "", *_hooks()]
    if page == "components":
        lines += ["## Components by name", "", "`named(NAME, **options)` makes one of these.", ""]
        for kind in COMPONENT_KINDS:
            for name, one in registry.components(kind).items():
                lines += _component(kind, name, one.factory, one.summary)
    if page == "python":
        lines += ["## Errors", "", "What a component may raise, and how the run then ends.", "", *_errors()]
    titles = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    contents = [f"- [{title}](#{re.sub(r'[^a-z -]', '', title.lower()).replace(' ', '-')})" for title in titles]
    return [*contents, "", *lines] if len(contents) > 1 else lines


def _other_modules() -> tuple[str, ...]:
    """The modules with public names that no chapter has."""
    placed = {module for chapters in CHAPTERS.values() for _, modules, _ in chapters for module in modules}
    public = dict.fromkeys(module.removeprefix("penstock.") for module in PUBLIC.values())
    return tuple(module for module in public if module not in {*placed, "errors"})


def _in_order(module: str) -> list[str]:
    """The public names of a module, in the order of their definition."""
    return [name for name in _definitions(module) if PUBLIC.get(name) == module and name not in OMITTED]


@cache
def _definitions(module: str) -> dict[str, tuple[ast.stmt, str]]:
    """The definitions of a module by name: a node, and for a constant the text behind it."""
    path = inspect.getsourcefile(importlib.import_module(module))
    assert path is not None
    body = ast.parse(Path(path).read_text()).body
    found: dict[str, tuple[ast.stmt, str]] = {}
    for place, node in enumerate(body):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found[node.name] = node, ast.get_docstring(node) or ""
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            after = body[place + 1] if place + 1 < len(body) else None
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            if isinstance(target, ast.Name):
                found[target.id] = node, inspect.cleandoc(text) if isinstance(text, str) else ""
    return found


def _entry(module: str, name: str) -> list[str]:
    node, text = _definitions(module)[name]
    if isinstance(node, ast.ClassDef):
        bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id not in PUBLIC]
        inherited = [_definitions(module)[base][0] for base in bases if base in _definitions(module)]
        classes = [one for one in (*inherited, node) if isinstance(one, ast.ClassDef)]
        return [*_heading(name), *_markdown(text), *_fields(*classes), *_methods(node)]
    if isinstance(node, ast.FunctionDef):
        return [*_heading(name), f"`{name}{_signature(node)}`", "", *_markdown(text)]
    value = ast.unparse(node.value) if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None else ""
    return [*_heading(name), f"`{name} = {value}`", "", *_markdown(text)]


def _heading(name: str) -> list[str]:
    return [f"### {name}", ""]


def _signature(node: ast.FunctionDef, *, is_method: bool = False) -> str:
    """The parameters and the returned type, of a method without the object that it is called on."""
    returned = f" -> {_type(node.returns)}" if node.returns is not None else ""
    arguments = ast.unparse(node.args)
    if is_method:
        arguments = re.sub(r"^(self|cls)(, )?", "", arguments)
    return f"({arguments}){returned}".replace("'", '"')


def _type(node: ast.expr | None) -> str:
    return "" if node is None else re.sub(r"^'(.*)'$", r"\1", ast.unparse(node))


def _fields(*nodes: ast.ClassDef) -> list[str]:
    """The table of a value's fields, those of its bases before its own; a field that is redefined keeps its place."""
    rows: dict[str, tuple[str, str]] = {}
    for node in nodes:
        computed = {
            ast.unparse(decorator).removesuffix(".default")
            for one in node.body
            if isinstance(one, ast.FunctionDef)
            for decorator in one.decorator_list
        }
        for one in node.body:
            if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name):
                continue
            name, type_ = one.target.id, _type(one.annotation)
            if not name.startswith("_") and not type_.startswith("ClassVar"):
                rows[name] = type_, "" if name in computed else _default(one.value)
    shown = [f"| `{name}` | {_cell(type_)} | {_cell(default)} |" for name, (type_, default) in rows.items()]
    return ["| Field | Type | Default |", "|---|---|---|", *shown, ""] if rows else []


def _cell(code: str) -> str:
    escaped = code.replace("|", "\\|")
    return f"`{escaped}`" if code and code not in ("required", OF_THE_RECORD) else code


def _default(value: ast.expr | None) -> str:
    """The default as it is written; of ``field(...)`` that of its argument."""
    if value is None:
        return "required"
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "attrs.field"):
        given = {one.arg: one.value for one in value.keywords}
        if "init" in given:
            return ""
        if "factory" in given:
            return {"dict": "{}", "list": "[]"}.get(ast.unparse(given["factory"]), ast.unparse(given["factory"]))
        return _default(given.get("default"))
    text = ast.unparse(value).replace("'", '"')
    if text.startswith("_of_record("):
        return OF_THE_RECORD
    return "" if "Factory(" in text else text


def _methods(node: ast.ClassDef) -> list[str]:
    """The public methods and properties, one item each."""
    lines = []
    for one in node.body:
        if not isinstance(one, ast.FunctionDef) or (one.name.startswith("_") and one.name != "__call__"):
            continue
        decorators = [ast.unparse(decorator) for decorator in one.decorator_list]
        if any(text.endswith((".default", ".validator")) or text == "hookimpl" for text in decorators):
            continue
        shown = f"`{one.name}`"
        if not any("property" in text for text in decorators):
            shown = f"`{one.name}{_signature(one, is_method=True)}`"
        text = " ".join(_markdown(ast.get_docstring(one) or "")).strip()
        lines.append(f"- {shown}" + (f": {text}" if text else ""))
    return [*lines, ""] if lines else []


def _component(kind: str, name: str, factory: Any, summary: str) -> list[str]:
    """A named component: its class, and the options of it and its bases."""
    if not isinstance(factory, type):
        return [f"### {kind} {name}", "", f"{summary[:1].upper()}{summary[1:]}.", ""]
    nodes = [
        _definitions(one.__module__)[one.__name__]
        for one in reversed(factory.__mro__)
        if one.__module__.startswith("penstock") and one.__name__ in _definitions(one.__module__)
    ]
    classes = [node for node, _ in nodes if isinstance(node, ast.ClassDef)]
    text = _markdown(nodes[-1][1]) or [f"{summary[:1].upper()}{summary[1:]}.", ""]
    return [f"### {kind} {name}", "", *text, *_fields(*classes)]


def _hooks() -> Iterator[str]:
    yield from ("| Hook | Called |", "|---|---|")
    for name, (node, text) in _definitions("penstock.hookspecs").items():
        if isinstance(node, ast.FunctionDef):
            first = " ".join(_markdown(text.split("\n\n")[0])).strip()
            signature = _signature(node).replace("|", "\\|")
            yield f"| [`{name}{signature}`](hooks.md#{name}) | {first} |"
    yield ""


def _errors() -> Iterator[str]:
    yield from ("| Error | Exit code | Meaning |", "|---|---|---|")
    for name, (_, text) in _definitions("penstock.errors").items():
        if PUBLIC.get(name) == "penstock.errors":
            code = getattr(penstock, name).exit_code
            first = " ".join(_markdown(text.split("\n\n")[0])).strip().replace("|", "\\|")
            yield f"| `{name}` | {code} | {first} |"
    yield ""


def _markdown(text: str) -> list[str]:
    """A docstring as Markdown: literals, references, and lists of terms."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text).replace("``", "`")
    lines: list[str] = []
    for block in re.split(r"\n{2,}", text.strip()):
        if not block:
            continue
        if block.endswith("::"):
            block = block[:-1]
        rows = block.splitlines()
        if all(row.startswith("    ") for row in rows):
            lines += ["```", *textwrap.dedent(block).splitlines(), "```", ""]
        elif len(rows) > 1 and rows[0].startswith("`") and rows[1].startswith("    "):
            lines += [*_terms(rows), ""]
        else:
            lines += [*rows, ""]
    return lines


def _terms(rows: list[str]) -> Iterator[str]:
    """A list of terms, each with its text in indented lines."""
    item = ""
    for row in rows:
        if row.startswith("    "):
            item += (" " if not item.endswith(": ") else "") + row.strip()
            continue
        if item:
            yield item
        item = f"- {row.rstrip(':')}: "
    yield item
