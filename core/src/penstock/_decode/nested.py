"""
Secret and personal members inside nested values: removed at declared paths, or masked by their name.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET, DecodeError, Raw

from penstock._decode.coerce import NoObject
from penstock._decode.page import PLAIN
from penstock.model import EXACT_JSON
from penstock.records import Column
from penstock.redact import MASK


def cleaner(paths: Sequence[str]) -> Callable[[Any], Any]:
    """
    A function that removes the members at ``paths`` from a plain value, in place, and returns the value.

    A path is dotted: a member's name, ``*`` for every member or element, ``[name=leadHash]`` for every object, however
    deep, in which ``name`` is ``leadHash``, in any case. Names apply to every element of an array.
    """
    split = [_split(path) for path in paths]

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
    split, clean_paths, masks = [_split(path) for path in paths], cleaner(paths), Masks.of((), paths, labels=False)

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
    every = selected_value is not None or name == "*"
    rest = steps[1:] if every or isinstance(value, dict) else steps
    if isinstance(value, list):
        inner = value
    else:
        inner = list(value.values()) if every else [value[name]] if name in value else []
    return not rest or all(_leads_through(item, rest) for item in inner)


_STEP = re.compile(r"\[([^=\]]+)=([^\]]*)\]|([^.\[]+)")


def _split(path: str) -> tuple[tuple[str, str | None], ...]:
    """(name, None) for a member, (name, value) for a selection."""
    return tuple((hit[1], hit[2]) if hit[1] else (hit[3], None) for hit in _STEP.finditer(path))


def _remove(value: Any, steps: Sequence[tuple[str, str | None]]) -> None:
    (name, selected_value), *rest = steps
    if isinstance(value, list):
        if selected_value is None and name != "*":
            for item in value:
                _remove(item, steps)
            return
        hits: list[Any] = [index for index, item in enumerate(value) if _selected(item, name, selected_value)]
    elif isinstance(value, dict):
        if selected_value is None and name != "*":
            hits = [name] if name in value else []
        else:
            hits = [member for member, item in value.items() if _selected(item, name, selected_value)]
    else:
        return
    if selected_value is not None:
        for item in value if isinstance(value, list) else value.values():
            _remove(item, steps)
    for hit in reversed(hits):
        if rest:
            _remove(value[hit], rest)
        else:
            del value[hit]


def _selected(item: Any, name: str, selected_value: str | None) -> bool:
    if selected_value is None:
        return True
    return isinstance(item, dict) and str(item.get(name)).casefold() == selected_value.casefold()


def _folded(name: str) -> str:
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
        ends = [_split(path)[-1] for path in paths]
        selected = {(_folded(name), _folded(value)) for name, value in ends if value is not None}
        last = {name for name, value in ends if value is None and name != "*"}
        values = frozenset(value for _, value in selected)
        every = frozenset(map(_folded, {*names, *last, *values}))
        return cls(every, frozenset(selected), every if labels else values)

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
            if len(value) > 1 and isinstance(value[0], str) and _folded(value[0]) in self.labels:
                return [value[0], *([MASK] * (len(value) - 1))]
            return [self.apply(item) for item in value]
        if not isinstance(value, dict):
            return value
        marks = {name for name, item in value.items() if self._is_mark(_folded(name), item)}
        if marks:
            return {name: item if name in marks else MASK for name, item in value.items()}
        return {name: MASK if _folded(name) in self.names else self.apply(item) for name, item in value.items()}

    def _is_mark(self, name: str, item: Any) -> bool:
        """Whether this member states that its object's other members are masked."""
        if isinstance(item, (dict, list)):
            return False
        text = _folded(str(item))
        return (name, text) in self.pairs or (name in _LABELS and text in self.labels)

    def _applied_to_text(self, text: str) -> str:
        if not text.lstrip().startswith(("{", "[", '"')):
            return text
        try:
            value = PLAIN.decode(text)
        except (DecodeError, RecursionError):
            return text
        masked = self.apply(value)
        return text if masked == value else EXACT_JSON.encode(masked).decode()


# --- columns inside of other members --------------------------------------------------------------------------------


class Outer(NamedTuple):
    """
    The outer members from which nested columns are read. Each is kept in an attribute of the row until they are filled.

    A member that a json column delivers whole needs no attribute, and has no unknown members.
    """

    columns: tuple[Column, ...]
    attributes: Mapping[str, str]  # attribute -> member
    holders: Mapping[str, str]  # member -> the attribute or json column that holds it
    claims: Mapping[str, Any]  # member -> tree of the names that columns read inside of it

    @classmethod
    def of(cls, columns: Iterable[Column]) -> "Outer":
        columns = tuple(columns)
        nested = tuple(column for column in columns if column.path)
        direct = {
            str(column.member): column.name for column in columns if column.member is not None and not column.path
        }
        claims: dict[str, Any] = {}
        for column in nested:
            place = claims
            for step in column.path:
                place = place.setdefault(step, {})
        attributes = {f"_outer_{number}": member for number, member in enumerate(claims) if member not in direct}
        holders = {**direct, **{member: attribute for attribute, member in attributes.items()}}
        return cls(nested, attributes, holders, claims)

    def place(self, column: Column) -> tuple[str, tuple[str, ...]]:
        """The attribute that a column's value is in, and the members that lead to it."""
        return self.holders[column.path[0]], column.path[1:]


def found(value: Any, steps: Sequence[str]) -> Any:
    """The value at the end of ``steps``; None if a member is missing or null, NoObject where an object is expected."""
    if isinstance(value, Raw):
        value = PLAIN.decode(value)
    for step in steps:
        if value is None or value is UNSET:
            return None
        if not isinstance(value, dict):
            return NoObject(value)
        value = value.get(step)
    return value


def left_over(value: Any, claims: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an object that no column reads."""
    left: dict[str, Any] = {}
    for name, item in value.items() if isinstance(value, dict) else ():
        if name not in claims:
            left[name] = item
        elif claims[name] and (inner := left_over(item, claims[name])):
            left[name] = inner
    return left
