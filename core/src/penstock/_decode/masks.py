"""
Secret and personal members inside nested values: removed at declared paths, or masked by their name.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

from msgspec import DecodeError

from penstock.model import EXACT_JSON, PLAIN_JSON
from penstock.redact import MASK


def cleaner(paths: Sequence[str]) -> Callable[[Any], Any]:
    """
    A function that removes the members at ``paths`` from a plain value, in place, and returns the value.

    A path is dotted: a member's name, ``*`` for every member or element, ``[name=leadHash]`` for every object, however
    deep, in which ``name`` is ``leadHash``, in any case. Names apply to every element of an array.
    """
    split = [steps_of(path) for path in paths]

    def clean(value: Any) -> Any:
        for steps in split:
            _remove(value, steps)
        return value

    return clean


def personal_cleaner(paths: Sequence[str]) -> Callable[[Any], Any]:
    """
    A function that removes personal members as :func:`cleaner` does, and returns the value. Where they have moved, they
    are masked by their name; a value in which a path meets a text or number, in place of an object, is masked whole.
    """
    split, clean_paths, masks = [steps_of(path) for path in paths], cleaner(paths), Masks.of((), paths, labels=False)

    def clean(value: Any) -> Any:
        if not all(_leads_through(value, steps) for steps in split):
            return MASK
        return masks.apply(clean_paths(value))

    return clean


def _leads_through(value: Any, steps: Sequence[tuple[str, str | None]]) -> bool:
    """Whether a path leads through objects and arrays only, as far as it leads."""
    if value is None:
        return True
    if not isinstance(value, (dict, list)):
        return False
    name, selected_value = steps[0]
    is_any_name = selected_value is not None or name == "*"
    inner_steps = steps[1:] if is_any_name or isinstance(value, dict) else steps
    if isinstance(value, list):
        inner = value
    else:
        inner = list(value.values()) if is_any_name else [value[name]] if name in value else []
    return not inner_steps or all(_leads_through(element, inner_steps) for element in inner)


_STEP = re.compile(r"\[([^=\]]+)=([^\]]*)\]|([^.\[]+)")


@cache
def steps_of(path: str) -> tuple[tuple[str, str | None], ...]:
    """The steps of a path, see :func:`cleaner`: (name, None) for a member, (name, value) for a selection."""
    return tuple((hit[1], hit[2]) if hit[1] else (hit[3], None) for hit in _STEP.finditer(path))


def _remove(value: Any, steps: Sequence[tuple[str, str | None]]) -> None:
    (name, selected_value), *inner_steps = steps
    if isinstance(value, list):
        if selected_value is None and name != "*":
            for element in value:
                _remove(element, steps)
            return
        hits: list[Any] = [index for index, element in enumerate(value) if _selected(element, name, selected_value)]
    elif isinstance(value, dict):
        if selected_value is None and name != "*":
            hits = [name] if name in value else []
        else:
            hits = [member for member, inner_value in value.items() if _selected(inner_value, name, selected_value)]
    else:
        return
    if selected_value is not None:
        for inner_value in value if isinstance(value, list) else value.values():
            _remove(inner_value, steps)
    for hit in reversed(hits):
        if inner_steps:
            _remove(value[hit], inner_steps)
        else:
            del value[hit]


def _selected(element: Any, name: str, selected_value: str | None) -> bool:
    if selected_value is None:
        return True
    return isinstance(element, dict) and str(element.get(name)).casefold() == selected_value.casefold()


def folded(name: str) -> str:
    """A member's name as masks compare it: leadHash, LEADHASH and lead_hash are one."""
    return name.lower().replace("_", "").replace("-", "")


# The members that name their object's other members, as in {"name": "token", "value": ...}; in lower case.
_LABELS = frozenset({"name", "key", "field", "label", "id", "code", "title"})


class Masks(NamedTuple):
    """
    Masks for values of unknown shape: members by name, in any case and with or without underscores; the other members
    of an object, and the other elements of an array, that such a name labels; and objects that contain a certain member
    and value. JSON within a text is masked too.
    """

    names: frozenset[str] = frozenset()  # folded
    pairs: frozenset[tuple[str, str]] = frozenset()  # (member, its value), folded: the object's other members
    labels: frozenset[str] = frozenset()  # those of ``names`` that label others

    @classmethod
    def of(cls, names: Iterable[str], paths: Iterable[str], *, labels: bool = True) -> "Masks":
        """
        Masks for members of these names, and for the last names of these paths, at any place. ``labels``: all of these
        names may label others; False: only those that a path selects, since a row may be called as any member is.
        """
        ends = [steps_of(path)[-1] for path in paths]
        selected = {(folded(name), folded(value)) for name, value in ends if value is not None}
        last = {name for name, value in ends if value is None and name != "*"}
        values = frozenset(value for _, value in selected)
        all_names = frozenset(map(folded, {*names, *last, *values}))
        return cls(all_names, frozenset(selected), all_names if labels else values)

    def __bool__(self) -> bool:
        return bool(self.names or self.pairs)

    def may_be_in(self, text: bytes) -> bool:
        """Whether this JSON may have a member to mask: most has none, and is then not read value by value."""
        lowered = text.lower().replace(b"_", b"").replace(b"-", b"")
        return b"\\u" in lowered or any(name.encode() in lowered for name in self.names)

    def apply(self, value: Any) -> Any:
        """The plain value with ``***`` in place of masked values, at any depth."""
        if isinstance(value, str):
            return self._applied_to_text(value)
        if isinstance(value, list):
            if len(value) > 1 and isinstance(value[0], str) and folded(value[0]) in self.labels:
                return [value[0], *([MASK] * (len(value) - 1))]
            return [self.apply(element) for element in value]
        if not isinstance(value, dict):
            return value
        selectors = {name for name, inner_value in value.items() if self._selects_others(folded(name), inner_value)}
        if selectors:
            return {name: inner_value if name in selectors else MASK for name, inner_value in value.items()}
        return {name: MASK if folded(name) in self.names else self.apply(inner) for name, inner in value.items()}

    def _selects_others(self, name: str, inner_value: Any) -> bool:
        """Whether this member states that its object's other members are masked."""
        if isinstance(inner_value, (dict, list)):
            return False
        text = folded(str(inner_value))
        return (name, text) in self.pairs or (name in _LABELS and text in self.labels)

    def _applied_to_text(self, text: str) -> str:
        if not text.lstrip().startswith(("{", "[", '"')):
            return text
        try:
            value = PLAIN_JSON.decode(text)
        except (DecodeError, RecursionError):
            return text
        masked = self.apply(value)
        return text if masked == value else EXACT_JSON.encode(masked).decode()
