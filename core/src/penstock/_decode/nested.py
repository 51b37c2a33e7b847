"""
What must not be let out of nested values: removed at declared paths, or masked by the member's name.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import frozen

from penstock.redact import MASK


def cleaner(paths: Sequence[str]) -> Callable[[Any], Any]:
    """
    A function that removes what lies at ``paths`` from a plain value, in place, and returns the value.

    A path is dotted: a member's name, ``*`` for every member or element, ``[name=leadHash]`` for every object, however
    deep, in which ``name`` is ``leadHash``. Names apply to every element of an array.
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
    if wanted is not None:
        for item in value if isinstance(value, list) else value.values():
            _remove(item, steps)
    for hit in reversed(hits):
        if rest:
            _remove(value[hit], rest)
        else:
            del value[hit]


def _selected(item: Any, name: str, wanted: str | None) -> bool:
    return wanted is None or (isinstance(item, dict) and str(item.get(name)) == wanted)


@frozen
class Masks:
    """What is masked in a value whose shape is not known: members by name, and the objects that a member marks."""

    names: frozenset[str] = frozenset()
    pairs: frozenset[tuple[str, str]] = frozenset()  # (member, its value): all other members of that object

    @classmethod
    def of(cls, names: Iterable[str], paths: Iterable[str]) -> "Masks":
        """For members of these names, and for what lies at the end of these paths, wherever it is."""
        ends = [_split(path)[-1] for path in paths]
        selected = {(name, wanted) for name, wanted in ends if wanted is not None}
        last = {name for name, wanted in ends if wanted is None and name != "*"}
        return cls(frozenset({*names, *last, *(wanted for _, wanted in selected)}), frozenset(selected))

    def __bool__(self) -> bool:
        return bool(self.names or self.pairs)

    def apply(self, value: Any) -> Any:
        """The plain value with ``***`` in place of what is masked, at any depth."""
        if isinstance(value, list):
            return [self.apply(item) for item in value]
        if not isinstance(value, dict):
            return value
        marks = {name for name, wanted in self.pairs if str(value.get(name)) == wanted}
        if marks:
            return {name: item if name in marks else MASK for name, item in value.items()}
        return {name: MASK if name in self.names else self.apply(item) for name, item in value.items()}
