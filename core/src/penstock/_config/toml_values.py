"""
Conversion of TOML values, and of texts, to the types of a settings class, with cattrs.

Values of the file keep TOML's types and are converted strictly: ``"5"`` is not a number. A text from the environment or
``--set`` is first read as a TOML value of the expected type (:func:`from_text`).
"""

import os
import sys
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import attrs
from cattrs import (
    AttributeValidationNote,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
)
from cattrs.cols import list_structure_factory, mapping_structure_factory

from penstock._util.text import shown
from penstock.errors import sentences
from penstock.names import did_you_mean
from penstock.redact import Secret
from penstock.settings import OpenFor


class Names(tuple[str, ...]):
    """A name, or a list of names; a text may have several with commas."""

    @classmethod
    def parse(cls, value: Any) -> "Names":
        """From a text or a list. Raises ValueError without a name, and for a name that is there twice."""
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
        if (
            not isinstance(names, (list, tuple))
            or not names
            or not all(isinstance(name, str) and name for name in names)
        ):
            raise ValueError(f"found {shown(value)}, expected {SIMPLE[cls].words}")
        doubled = next((name for place, name in enumerate(names) if name in names[:place]), None)
        if doubled is not None:
            raise ValueError(f"{doubled!r} is there twice")
        return cls(names)


class SimpleType(NamedTuple):
    """
    A type that is no collection: its ``words`` and a ``sample`` for messages, its JSON ``schema``, and the function
    that reads it from a text of the environment or ``--set``.
    """

    words: str
    sample: str
    schema: Mapping[str, Any]
    from_text: Callable[[str], Any]


def _unquoted(text: str) -> Any:
    """A text that needs no quotes, and may have them."""
    return toml(text, text) if text[:1] in ("'", '"') else text


_TRUE_FALSE = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_TEXT = {"type": "string"}
_TEXTS = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
_NUMBER = SimpleType("a number", "1.0", {"type": "number"}, lambda text: Decimal(text.strip()))

SIMPLE: Mapping[Any, SimpleType] = {
    str: SimpleType("text", '"..."', _TEXT, _unquoted),
    int: SimpleType("a whole number", "1", {"type": "integer"}, int),
    float: _NUMBER,
    Decimal: _NUMBER,
    bool: SimpleType("true or false", "true", {"type": "boolean"}, lambda text: _TRUE_FALSE[text.strip().lower()]),
    date: SimpleType(
        "a date such as 2026-01-31",
        "2026-01-31",
        {**_TEXT, "format": "date"},
        lambda text: date.fromisoformat(text.strip()),
    ),
    Path: SimpleType("a path", '"..."', _TEXT, _unquoted),
    OpenFor: SimpleType('a text such as "3 days"', '"..."', _TEXT, _unquoted),
    Names: SimpleType("a name or a list of names", '"..."', _TEXTS, _unquoted),
}
_SEQUENCES: dict[Any, Callable[[list[Any]], Any]] = {
    tuple: tuple,
    list: list,
    set: set,
    frozenset: frozenset,
    Sequence: tuple,
}


def structure(value: Any, hint: Any) -> Any:
    """
    A TOML value as the type ``hint``. Raises an error; :func:`problems_inside` lists all problems in it.
    """
    return _converter.structure(value, hint)


def problems_inside(error: BaseException) -> Iterator[tuple[str, str]]:
    """(path inside the value, problem) for each part of an error of :func:`structure`."""
    if isinstance(error, (IterableValidationError, ClassValidationError)):
        noted, without_note = error.group_exceptions()
        for part_error, note in noted:
            index = note.name if isinstance(note, AttributeValidationNote) else note.index
            place = f"[{index}]" if isinstance(index, int) else f".{index}"
            yield from ((place + inside, text) for inside, text in problems_inside(part_error))
        for part_error in without_note:
            yield from problems_inside(part_error)
    elif isinstance(error, ForbiddenExtraKeysError):
        yield "", f"unknown key {', '.join(sorted(error.extra_fields))}"
    elif isinstance(error, KeyError):
        yield "", "is missing"
    else:
        yield "", str(error)


def _path(text: str) -> Path:
    """Raises ValueError for a text that names no file in the encoding of this process, such as ä in the locale C."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(
            f"found {text!a}, which this process cannot name in the encoding of its locale, "
            f"{sys.getfilesystemencoding()}. Set PYTHONUTF8=1"
        ) from None
    return Path(text)


def _plain(value: Any, kind: Any) -> Any:
    if kind is OpenFor and isinstance(value, str):
        return OpenFor.parse(value)
    if kind is Path and isinstance(value, str):
        return _path(value)
    if kind is Names:
        return Names.parse(value)
    if type(value) is kind:  # not isinstance: true is an int, and a datetime is a date
        return value
    raise ValueError(f"found {shown(value)}, expected {SIMPLE[kind].words}{_quotes_hint(value, kind)}")


def _number(value: Any, kind: Any) -> Any:
    if type(value) in (int, float, Decimal) and Decimal(value).is_finite():
        return kind(value)
    raise ValueError(f"found {shown(value)}, expected {SIMPLE[kind].words}{_quotes_hint(value, kind)}")


def _quotes_hint(value: Any, kind: Any) -> str:
    """A hint for a value of the right type inside quotes, or a text without them."""
    if isinstance(value, str) and kind is not str:
        try:
            from_text(value, kind)
        except ValueError:
            return ""
        return f"; write it without quotes: {value}"
    if kind is str and type(value) in (int, date, Decimal):
        return f'; write it in quotes: "{value}"'
    return ""


def _choice(value: Any, hint: Any) -> Any:
    choices = get_args(hint)
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return value
    listed = ", ".join(shown(choice) for choice in choices)
    texts = [choice for choice in choices if isinstance(choice, str)]
    meant = did_you_mean(value, texts) if isinstance(value, str) else ""
    raise ValueError(sentences(f"found {shown(value)}, expected one of {listed}", meant))


def _sequence(hint: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    element = (get_args(hint) or (Any,))[0]
    structure_list = list_structure_factory(list[element], converter)  # type: ignore[valid-type]

    def make(value: Any, _: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            single = str(value).split(",") if element is str else [value]
            items = ", ".join(shown(item.strip() if isinstance(item, str) else item) for item in single)
            as_list = f"; write [{items}]" if isinstance(value, (str, int)) else ""
            raise ValueError(f"found {shown(value)}, expected a list of {_words(element, 'values')}{as_list}")
        return _SEQUENCES[_origin(hint)](structure_list(value, list))

    return make


def _table(hint: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    element = (*get_args(hint), Any, Any)[1]
    structure_table = mapping_structure_factory(dict[str, element], converter)  # type: ignore[valid-type]

    def make(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"found {shown(value)}, expected a table such as {{ name = ... }}")
        return structure_table(value, dict)

    return make


def _one_of(value: Any, hint: Any) -> Any:
    if value is None and type(None) in get_args(hint):
        return None
    texts: list[str] = []
    for member in _members(hint):
        try:
            return structure(value, member)
        except Exception as error:
            texts.extend(text for _, text in problems_inside(error))
    raise ValueError("; or ".join(dict.fromkeys(texts)))


def _floats(value: Any, _: Any = None) -> Any:
    """A value of any type, with floats in place of the decimals that the file was read with."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return value


def _new_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    for kind in SIMPLE:
        converter.register_structure_hook(kind, _number if kind in (float, Decimal) else _plain)
    converter.register_structure_hook_func(lambda hint: hint is Any, _floats)
    converter.register_structure_hook_func(lambda hint: _origin(hint) is Literal, _choice)
    converter.register_structure_hook_factory(lambda hint: _origin(hint) in _SEQUENCES, _sequence)
    converter.register_structure_hook_factory(lambda hint: _origin(hint) in (dict, Mapping), _table)
    converter.register_structure_hook_func(lambda hint: _is_union(hint) and len(_members(hint)) > 1, _one_of)
    return converter


_converter = _new_converter()


def from_text(text: str, hint: Any) -> Any:
    """
    A text from the environment or ``--set`` as the TOML value that the type ``hint`` expects. Raises ValueError whose
    text is what was expected.
    """
    if _is_union(hint):
        if type(None) in get_args(hint) and not text:
            return None
        if len(_members(hint)) > 1:
            return toml(text, text)
        hint = _members(hint)[0]
    kind = _origin(hint)
    if kind is not Path and text != text.encode(errors="replace").decode():  # names of files may be any bytes
        raise ValueError("text in UTF-8")
    try:
        if kind in SIMPLE:
            return SIMPLE[kind].from_text(text)
        if kind is Literal:
            return _unquoted(text)
        if kind in _SEQUENCES:
            if text.lstrip().startswith("["):
                return toml(text)
            element = (get_args(hint) or (Any,))[0]
            return [from_text(item.strip(), element) for item in text.split(",") if item.strip()]
        if kind in (dict, Mapping):
            if not text.lstrip().startswith("{"):
                raise ValueError
            return toml(text)
    except (KeyError, ValueError, ArithmeticError):
        if kind in _SEQUENCES:
            raise ValueError('a list such as ["a", "b"] or a,b') from None
        raise ValueError(_words(kind, 'a table such as { name = "value" }')) from None
    return toml(text, text)


def _words(kind: Any, otherwise: str) -> str:
    return SIMPLE[kind].words if kind in SIMPLE else otherwise


def toml(text: str, *default: Any) -> Any:
    """``text`` as a TOML value. If it is none: the default if there is one, otherwise ValueError."""
    try:
        table = tomllib.loads(f"value = {text}", parse_float=Decimal)
    except tomllib.TOMLDecodeError:
        if default:
            return default[0]
        raise
    if list(table) != ["value"]:
        raise ValueError("more than one value")
    return table["value"]


def _origin(hint: Any) -> Any:
    """``tuple`` of ``tuple[str, ...]``; any other type as it is."""
    return get_origin(hint) or hint


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (types.UnionType, typing.Union)


def _members(hint: Any) -> list[Any]:
    return [member for member in get_args(hint) if member is not type(None)]


def bare_type(hint: Any) -> Any:
    """``T`` of ``T | None``; any other type as it is."""
    return _members(hint)[0] if _is_union(hint) and len(_members(hint)) == 1 else hint


def is_table(hint: Any) -> bool:
    """Whether a value of this type may be a TOML table."""
    kind = _origin(hint)
    if kind in SIMPLE:
        return False
    return kind in (dict, Mapping, Any) or attrs.has(kind) or (_is_union(hint) and any(map(is_table, _members(hint))))


def sample(hint: Any, variable: str = "NAME") -> str:
    """A TOML value of this type, for an example. A secret refers to the environment ``variable``."""
    bare = bare_type(hint)
    kind = _origin(bare)
    if bare is Secret:
        return f'{{ env = "{variable}" }}'
    if kind is Literal:
        return shown(get_args(bare)[0])
    if kind in _SEQUENCES:
        return f"[{sample((get_args(bare) or (str,))[0])}]"
    if bare in SIMPLE:
        return SIMPLE[bare].sample
    return "{}" if is_table(bare) else '"..."'
