"""
What must not be let out of nested values: removed at declared paths, or masked by the member's name.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from penstock.redact import MASK


def cleaner(paths: Sequence[str]) -> Callable[[Any], Any]:
    """
    A function that removes what lies at ``paths`` from a plain value, in place, and returns the value.

    A path is dotted: a member's name, ``*`` for every member or element, ``[name=leadHash]`` for every element (or
    member's value) that is an object in which ``name`` is ``leadHash``. Names apply to every element of an array.
    """
    split = [_split(path) for path in paths]

    def clean(value: Any) -> Any:
        for steps in split:
            _remove(value, steps)
        return value

    return clean


_STEP = re.compile(r"\[([^=\]]+)=([^\]]*)\]|([^.\[]+)")


def _split(path: str) -> tuple[tuple[str, str | None], ...]:
    """(name, None) for a member, (name, value) for a selection."""
    return tuple((hit[1], hit[2]) if hit[1] else (hit[3], None) for hit in _STEP.finditer(path))


def _remove(value: Any, steps: Sequence[tuple[str, str | None]]) -> None:
    (name, wanted), *rest = steps
    if isinstance(value, list):
        if wanted is None and name != "*":
            for item in value:
                _remove(item, steps)
            return
        hits: list[Any] = [index for index, item in enumerate(value) if _selected(item, name, wanted)]
    elif isinstance(value, dict):
        if wanted is None and name != "*":
            hits = [name] if name in value else []
        else:
            hits = [member for member, item in value.items() if _selected(item, name, wanted)]
    else:
        return
    for hit in reversed(hits):
        if rest:
            _remove(value[hit], rest)
        else:
            del value[hit]


def _selected(item: Any, name: str, wanted: str | None) -> bool:
    return wanted is None or (isinstance(item, dict) and str(item.get(name)) == wanted)


def masked_members(value: Any, names: frozenset[str]) -> Any:
    """The plain value with ``***`` in place of every member of these names, at any depth."""
    if isinstance(value, dict):
        return {name: MASK if name in names else masked_members(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [masked_members(item, names) for item in value]
    return value
