"""The pages of guarantees: each promise names its tests, and each test is there."""

import ast
import re
import tomllib
from functools import cache
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROMISES = (ROOT / "docs" / "guarantees.md").read_text()
PAGE = (ROOT / "docs" / "guarantees-proofs.md").read_text()
TESTS = tomllib.loads((ROOT / "docs" / "proofs.toml").read_text())
PROOFS = [test.split("::") for test in sorted(set(chain.from_iterable(TESTS.values())))]
# What stands before the limits of each section, and a head of the page.
PROMISED = [section.partition("**Not promised.**")[0] for section in PROMISES.split("\n## ")[1:-1]]
LINES = re.findall(r"^(?:- |\| (?!Kind|Target)|\*\*).*", "\n".join(PROMISED), re.MULTILINE)


@cache
def documented(file: str) -> list[str]:
    """The names of the functions of a file that have a docstring."""
    nodes = ast.walk(ast.parse((ROOT / file).read_text()))
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef) and ast.get_docstring(node)]


def test_each_proof_exists() -> None:
    """
    The file has one test of that name, with a docstring that states what it proves, and the page names it.
    """
    assert [(file, name) for file, name in PROOFS if documented(file).count(name) != 1] == []
    assert [(file, name) for file, name in PROOFS if f"`{file}::{name}`" not in PAGE] == []


def test_each_promise_names_its_proof() -> None:
    """
    No line promises without a test.
    """
    names = [re.search(r"<!-- ([\w-]+) -->", line) for line in LINES]

    assert [line for line, name in zip(LINES, names, strict=True) if name is None or not TESTS.get(name[1])] == []


def test_the_promises_of_all_areas_are_found() -> None:
    """
    The pages are read as they are meant: sinks, streams, runs and secrets are all there, and each promise once.
    """
    names = re.findall(r"<!-- ([\w-]+) -->", PROMISES)

    assert len(LINES) > 30
    assert sorted(names) == sorted(TESTS)
    assert all(word in PAGE for word in ("jsonl, csv", "Postgres", "standard output", "`snapshot`"))


def test_both_pages_have_the_same_sections() -> None:
    """
    Each section of promises leads to the section of its proofs. Limits are with the promises only, the last of them
    in a section of their own.
    """
    *sections, limits = re.findall(r"^## (.+)$", PROMISES, re.MULTILINE)

    assert limits == "What no check detects"
    assert sections == re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    for section in sections:
        assert f"guarantees-proofs.md#{section.lower().replace(' ', '-')})" in PROMISES
    assert "**Not promised.**" in PROMISES
    assert "**Not promised.**" not in PAGE
