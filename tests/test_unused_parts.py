"""
Parts for authors that no connector of this repository uses, and the table of decision 73 that states who needs them.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import penstock
import penstock_plugins
from penstock import Action, Connector, Derived, Envelope, Limits, Parent, ReportFile, Stream
from penstock_plugins import paging, polling, tokens

ROOT = Path(__file__).parents[1]
DECISION = ROOT / "docs" / "decisions" / "0073-an-unused-part-names-an-api-that-needs-it.md"
CONNECTORS = "\n".join(path.read_text() for path in sorted(ROOT.glob("connector_*/src/**/*.py")))
RECORD_FUNCTIONS = ("column", "money", "personal", "secret", "derived", "added", "row_key", "camel", "snake")

HOOKS = (
    penstock_plugins.penstock_authenticators,
    penstock_plugins.penstock_paginators,
    penstock_plugins.penstock_pollers,
)
# The class of each part -> the name by which a connector takes it.
PARTS = {registration.factory.__name__: registration.name for hook in HOOKS for registration in hook()}


def rows() -> set[str]:
    """The parts that the decision names in its table."""
    firsts = [line.split("|")[1] for line in DECISION.read_text().splitlines() if line.startswith("| `")]
    return {part for first in firsts for part in re.findall(r"`([^`]+)`", first)}


def is_used(name: str) -> bool:
    """Whether a connector passes an argument of this name."""
    return re.search(rf'\b{name}\s*=[^=]|"{name}":', CONNECTORS) is not None


def options() -> Iterator[tuple[str, str]]:
    """Each option of the declared values, as the decision names it, and the name of its argument."""
    for cls in (Action, Connector, Stream, Parent, Derived, Limits, Envelope, ReportFile, paging.Paged):
        yield from ((f"{cls.__name__}.{field.name}", field.name) for field in attrs.fields(cls) if field.init)
    common = {field.name for field in attrs.fields(paging.Paged)}
    for cls in (paging.PageNumber, paging.Link, tokens.GrantedToken, polling.Polled):
        own = [field.name for field in attrs.fields(cls) if field.init and field.name not in common]
        yield from ((f"{cls.__name__}.{name}", name) for name in own)
    yield from (
        (f"column({name}=)", name)
        for name in inspect.signature(penstock.column).parameters
        if name not in RECORD_FUNCTIONS  # which are these options in short
    )


def unused() -> set[str]:
    """The parts and options that no connector uses. The options of an unused part need no row of their own."""
    parts = {part for part, name in PARTS.items() if re.search(rf'"{name}"|\b{part}\(', CONNECTORS) is None}
    functions = {name for name in RECORD_FUNCTIONS if re.search(rf"\b{name}\b", CONNECTORS) is None}
    of_used = {option for option, name in options() if not is_used(name) and option.partition(".")[0] not in parts}
    return parts | functions | of_used


def test_each_part_that_no_connector_uses_names_an_api():
    """
    A part that no connector uses has a row in the decision; a row is of a part that exists and is not used.
    """
    assert rows() == unused()
