"""
Write the tables of the documentation that are made from declarations, and the stub of the public names: ``make docs``.

A table stands between ``<!-- generated: WHAT -->`` and ``<!-- end -->``; what is outside is left alone. ``WHAT`` is

- in a connector's README ``config``, ``streams`` or ``actions``: its own keys, its streams, its writes;
- elsewhere ``reference of connectors`` and other pages (see :mod:`reference`), ``source keys``, ``bounds``,
  ``fixed bounds``, ``sinks``, ``parts``, ``decisions``, ``modules``, ``events``, ``conforms`` or ``proofs``.

A test holds every file to what this script would write.
"""

import ast
import importlib
import re
import sys
import tomllib
import typing
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import penstock
from penstock._cli.init import toml_value
from penstock._cli.installed import described
from penstock._plugins.offers import COMPONENT_KINDS
from penstock._plugins.registry import Registry
from penstock.redact import Secret
from penstock.settings import SourceSettings, info_of, keys_of
from penstock.testing.conformance import CHECKS
from reference import CHAPTERS, reference

ROOT = Path(__file__).resolve().parent.parent

STUB_FILE = ROOT / "core" / "src" / "penstock" / "__init__.pyi"
STUB = '''\
"""
The public names of ``penstock`` for type checkers, from the table in ``__init__.py``: ``make docs`` writes this file.
"""

import pluggy

{imports}

__version__: str
hookspec: pluggy.HookspecMarker
hookimpl: pluggy.HookimplMarker

def public_names() -> dict[str, str]: ...
'''

_REGION = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# The keys of a source that bound what a provider may do to the process that reads it.
BOUNDS = (
    "timeout_s",
    "max_body_mib",
    "max_report_mib",
    "max_pages",
    "retries",
    "retry_max_s",
    "throttle_wait_s",
    "poll_deadline_s",
)

# Bounds that no key sets: (module, constant, unit, what).
FIXED = (
    ("_fetch.transport", "MAX_REDIRECTS", "", "redirects followed for one request"),
    ("_fetch.transport", "MAX_CONNECT_S", "s", "making a connection"),
    (
        "_fetch.limits",
        "MAX_SILENT_REQUESTS",
        "",
        "consecutive requests to a source without a response; then nothing is retried there",
    ),
    (
        "_fetch.retry_policy",
        "MAX_RENEWALS",
        "",
        "tokens that one request may use up, each of them good for another request before",
    ),
    (
        "_fetch.scheduler",
        "READ_AHEAD_BYTES",
        "MiB",
        "fetched and not yet written, of all partitions (or one body)",
    ),
    ("_fetch.scheduler", "MAX_ACTIVE_TASKS", "", "partitions under way at once"),
    (
        "_run.runner",
        "OPEN_TARGETS",
        "",
        "targets open at once; the coordinator of `--engine` into a directory opens all",
    ),
    ("_fetch.scheduler", "LAST_RESPONSES_S", "s", "a run that ends waits for the responses to submissions of reports"),
    ("connector", "MAX_REQUESTS", "", "first requests of one slice"),
    ("_recording.recorder", "MAX_HELD_BYTES", "MiB", "responses without records that a recording holds in memory"),
    ("_read.listing_checks", "EMPTY_PAGES", "", "pages without a record in a row, in one listing"),
    ("_read.reader", "MAX_REREADS", "", "times that a partition is read again because its pages or counts disagree"),
    (
        "_read.chunk_writer",
        "MAX_HELD_RECORDS",
        "",
        "records of a slice held in memory until its response is known to be whole",
    ),
    ("sinks", "MOST_REJECTED", "", "rejected records of one partition; more of them fail it"),
    (
        "_decode.conversion",
        "LARGEST_EXPONENT",
        "digits",
        "a number, before or after its point; a record with a longer one is rejected",
    ),
    ("_project.notify", "RECEIVER_TIME_S", "s", "one receiver of a pipeline's notify"),
    ("_write.rows", "MAX_LINE_BYTES", "MiB", "one row that is to be written to a provider"),
    ("_write.sender", "MAX_UNKNOWN_IN_A_ROW", "", "writes in a row whose outcome nobody knows; then their job ends"),
    ("report_files", "MAX_RECORD_BYTES", "MiB", "one record of a CSV report, with what its quotes enclose"),
    (
        "report_files",
        "MAX_LINES_BEFORE_HEADER",
        "",
        "lines of a report in which its declared header row is looked for",
    ),
    (
        "_decode.slice_keys",
        "KEYS_IN_MEMORY",
        "",
        "keys of one slice held in memory, to notice rows that come again; further ones in a temporary file",
    ),
    (
        "plugins.integrations.messages",
        "IN_MEMORY_BYTES",
        "MiB",
        "one partition that Singer or Airbyte gets, held in memory; a larger one in a temporary file",
    ),
    (
        "plugins.integrations.singer_target",
        "GRACE_S",
        "s",
        "time that a Singer target has to end after a stop; then it is killed",
    ),
    (
        "plugins.integrations.dagster",
        "RETRY_S",
        "s",
        "until Dagster tries again a run that a deadline or another run ended",
    ),
    (
        "plugins.status_page.command",
        "KEPT_TIMES",
        "",
        "times as long as a page took to make, `penstock page --port` shows it",
    ),
)


def pages() -> list[Path]:
    """The files that have tables."""
    candidates = [ROOT / "README.md", *sorted(ROOT.glob("*/README.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in candidates if path.exists() and _REGION.search(path.read_text())]


def generated(path: Path, registry: Registry) -> str:
    """The text of this file with its tables made anew."""
    connector = path.parent.name.removeprefix("connector_")
    makers: dict[str, Callable[[], list[str]]] = {
        "config": lambda: config(connector, registry),
        "streams": lambda: streams(connector, registry),
        "actions": lambda: actions(connector, registry),
        "source keys": source_keys,
        "bounds": bounds,
        "fixed bounds": fixed_bounds,
        "sinks": lambda: sinks(registry),
        "parts": lambda: parts(registry),
        "decisions": decisions,
        **{f"reference of {page}": partial(reference, page, registry) for page in CHAPTERS},
        "conforms": conforms,
        "modules": modules,
        "events": events,
        "proofs": proofs,
    }

    def made(found: re.Match[str]) -> str:
        return found[1] + "\n" + "\n".join(makers[found[2]]()) + "\n\n" + found[3]

    return _REGION.sub(made, path.read_text())


# --- tables -----------------------------------------------------------------------------------------------------------


def config(connector: str, registry: Registry) -> list[str]:
    """The keys of one connector that the others do not have, and those with a default of its own."""
    common = {attribute.name: attribute for attribute in keys_of(SourceSettings)}
    own = [
        attribute
        for attribute in keys_of(registry.connector(connector).settings)
        if attribute.name not in common or _default(attribute) != _default(common[attribute.name])
    ]
    own.sort(key=lambda attribute: attribute.default is not attrs.NOTHING)  # required ones first
    return [
        *_keys(own, registry.connector(connector).settings),
        "",
        f"The other keys are those of every source; `penstock init {connector}` prints them all.",
    ]


def source_keys() -> list[str]:
    return _keys(keys_of(SourceSettings), SourceSettings)


def bounds() -> list[str]:
    return _keys([one for one in keys_of(SourceSettings) if one.name in BOUNDS], SourceSettings)


def fixed_bounds() -> list[str]:
    rows = []
    for module, constant, unit, text in FIXED:
        package = "penstock_" if module.startswith("plugins.") else "penstock."
        value = getattr(importlib.import_module(f"{package}{module}"), constant)
        if unit == "MiB":
            value //= 2**20
        rows.append([text, f"{value:,} {unit}".strip()])
    return _table(["What", "Bound"], rows)


def parts(registry: Registry) -> list[str]:
    return _table(
        ["Kind", "Name", "What it does"],
        (
            [kind, f"`{name}`", part.summary]
            for kind in COMPONENT_KINDS
            for name, part in registry.components(kind).items()
        ),
    )


def decisions() -> list[str]:
    found = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    titles = [path.read_text().splitlines()[0].lstrip("# ") for path in found]
    return [f"- [{title}]({path.name})" for title, path in zip(titles, found, strict=True)]


def modules() -> list[str]:
    """The public modules of the core, and the place from which authors import the names of each."""
    folder = ROOT / "core" / "src" / "penstock"
    files = [*folder.glob("[a-z]*.py"), *folder.glob("[a-z]*/__init__.py")]
    exported = {module.split(".")[1] for module in penstock.public_names().values()}
    rows = []
    for path in sorted(files, key=lambda path: path.parent.name if path.stem == "__init__" else path.stem):
        name = path.parent.name if path.stem == "__init__" else path.stem
        places = ["`penstock`"] * (name in exported) + [f"`penstock.{name}`"] * (path.stem == "__init__")
        rows.append([f"`{name}`", _first_paragraph(path), ", ".join(places) or "–"])
    return _table(["Module", "What", "Import from"], rows)


def _first_paragraph(module: Path) -> str:
    """That of its docstring, in Markdown."""
    text = (ast.get_docstring(ast.parse(module.read_text())) or "").split("\n\n")[0]
    return re.sub(r":\w+:`~?\.?([\w.]+)`", r"`\1`", " ".join(text.split()).replace("``", "`"))


def events() -> list[str]:
    """The kinds of events, each with the docstring of its type."""
    rows = []
    for kind in typing.get_args(penstock.Event):
        (name,) = typing.get_args(typing.get_type_hints(kind)["event"])
        rows.append([f"`{name}`", " ".join((kind.__doc__ or "").split()).replace("``", "`")])
    return _table(["`event`", "When, and its members"], rows)


def conforms() -> list[str]:
    return _table(["`conforms` tries", "It fails when"], [[name, text] for name, text in CHECKS.items()])


def promises() -> dict[str, dict[str, str]]:
    """By section of the guarantees, each promise by its name, which is in a comment before it."""
    found: dict[str, dict[str, str]] = {}
    for section in re.split(r"^## ", (ROOT / "docs" / "guarantees.md").read_text(), flags=re.MULTILINE)[1:]:
        # A promise is an item, a paragraph, or the second cell of a row.
        marked = re.findall(
            r"^(?:\| ([^|\n]+) \| |- |\*\*[^\n]+?\*\* )<!-- ([\w-]+) --> (.+?)(?= \|$|\n(?:\n|- ))",
            section,
            re.MULTILINE | re.DOTALL,
        )
        found[section.splitlines()[0]] = {
            name: (f"{subject}: " if subject else "") + " ".join(text.split()) for subject, name, text in marked
        }
    return found


def proofs() -> list[str]:
    """The tests of each promise, which is named by its first sentence."""
    tests = tomllib.loads((ROOT / "docs" / "proofs.toml").read_text())
    lines = []
    for section, of_section in promises().items():
        rows = (
            [re.split(r"\.(?: |$)", text)[0], ", ".join(f"`{test}`" for test in tests[name])]
            for name, text in of_section.items()
        )
        lines += ["", f"## {section}", "", *_table(["Promise", "Tests"], rows)] if of_section else []
    return lines[1:]


def streams(connector: str, registry: Registry) -> list[str]:
    rows: list[list[str]] = []
    left_out: list[str] = []
    for one in map(described, registry.streams(connector)):
        if one["not_built"]:
            left_out.append(f"`{one['name']}` ({one['not_built']})")
            continue
        notes = [f"child of `{one['parent']}`"] if one["parent"] else []
        notes += [f"derived from `{one['derived_from']}`"] if one["derived_from"] else []
        notes += [f"needs {' and '.join(f'`{key}`' for key in one['needs'])}"] if one["needs"] else []
        notes += [] if one["on_by_default"] else ["only by name"]
        key, parts = ", ".join(map(_code, one["key"])), " x ".join(map(_code, one["partition"]))
        rows.append(
            [
                f"`{one['name']}`",
                one["kind"],
                key,
                parts or "all",
                one["final"],
                one["summary"] + (f" ({'; '.join(notes)})" if notes else ""),
            ]
        )
    table = _table(["Stream", "Kind", "Key", "Partition", "Final", "What it holds"], rows)
    return table + (["", f"Listed and not built: {'; '.join(left_out)}."] if left_out else [])


def actions(connector: str, registry: Registry) -> list[str]:
    rows = []
    for action in registry.actions(connector):
        why = getattr(action, "not_built", "")
        rows.append([f"`{action.name}`", f"not built: {why}" if why else action.summary])
    return _table(["Action", "What it does"], rows)


def sinks(registry: Registry) -> list[str]:
    return _table(
        ["Sink", "`--to`", "What it writes", "Promise"],
        ([kind.name, f"`{kind.example}`", kind.summary, kind.promise] for kind in registry.sinks().values()),
    )


# --- cells ------------------------------------------------------------------------------------------------------------


def _keys(attributes: Iterable["attrs.Attribute[Any]"], settings: type) -> list[str]:
    hints = typing.get_type_hints(settings)
    rows = []
    for attribute in attributes:
        secret = hints[attribute.name] is Secret or Secret in typing.get_args(hints[attribute.name])
        default = _default(attribute)
        text = info_of(attribute).help + (" (secret)" if secret else "")
        rows.append([f"`{attribute.name}`", "required" if attribute.default is attrs.NOTHING else default, text])
    return _table(["Key", "Default", "What it is"], rows)


def _default(attribute: "attrs.Attribute[Any]") -> str:
    """As TOML writes it; nothing for a key that is not set."""
    value = attribute.default
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]
        value = None if value.takes_self else value.factory()
    if value is None or value is attrs.NOTHING or isinstance(value, Secret):
        return ""
    if isinstance(value, (str, bool, int, float, Decimal, tuple, list, dict)):
        return _code(toml_value(value))
    return ""


def _code(text: str) -> str:
    if not text:
        return ""
    return f"`{text}`" if len(text) <= 60 else f"`{text[:57]}...`"


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *(line(row) for row in rows)]


def stub() -> str:
    """``__init__.pyi``: the public names as type checkers read them."""
    by_module: dict[str, list[str]] = {}
    for name, module in penstock.public_names().items():
        by_module.setdefault(module, []).append(f"{name} as {name}")
    imports = []
    for module, names in by_module.items():
        listed = names[0] if len(names) == 1 else "(\n" + "".join(f"    {name},\n" for name in names) + ")"
        imports.append(f"from {module} import {listed}")
    return STUB.format(imports="\n".join(imports))


def main() -> None:
    registry = Registry()
    for path, text in {**{page: generated(page, registry) for page in pages()}, STUB_FILE: stub()}.items():
        if text != path.read_text():
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
