"""
From TOML's values, and from texts, to the types that a settings class may have. The one module that imports cattrs.
"""

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs

from penstock._util.text import did_you_mean, shown
from penstock.redact import Secret

_WANTED: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    Decimal: "a number",
    bool: "true or false",
    date: "a date such as 2026-01-31",
    Path: "a path",
}
_SEQUENCES: dict[Any, Callable[[list[Any]], Any]] = {
    tuple: tuple,
    list: list,
    set: set,
    frozenset: frozenset,
    Sequence: tuple,
}
_TRUE_FALSE = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class _UnfitError(ValueError):
    """A value that is not what its type wants; ``inside`` are (place, text) of what is wrong within it."""

    def __init__(self, text: str = "", inside: Sequence[tuple[str, str]] = ()) -> None:
        self.inside = inside
        super().__init__(text)


def structure(value: Any, hint: Any) -> Any:
    """
    A value of TOML's types as the type that a settings class wants: strict, and all errors at once.

    cattrs takes 6 ms to import, so it is asked only for what it alone can do: classes.
    """
    for fits, make in _HOOKS:
        if fits(hint):
            return make(value, hint)
    if _is_union(hint):
        return None if value is None else structure(value, _members(hint)[0])
    return _converter().structure(value, hint)


def _converter() -> Any:
    global _made
    if _made is None:
        import cattrs

        _made = cattrs.Converter(forbid_extra_keys=True)
        for fits, make in _HOOKS:
            _made.register_structure_hook_func(fits, make)
    return _made


_made: Any = None


def _plain(value: Any, kind: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    if type(value) is kind:  # not isinstance: true is no number, a time of day no date
        return value
    raise _UnfitError(f"found {shown(value)}, wanted {_WANTED[kind]}{_unquote(value, kind)}")


def _number(value: Any, kind: Any) -> Any:
    if type(value) in (int, float, Decimal) and Decimal(value).is_finite():
        return kind(value)
    raise _UnfitError(f"found {shown(value)}, wanted {_WANTED[kind]}{_unquote(value, kind)}")


def _unquote(value: Any, kind: Any) -> str:
    """A hint for the usual mistake: the right value in quotes, or a text without them."""
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
    known = ", ".join(shown(choice) for choice in choices)
    meant = (
        did_you_mean(value, [choice for choice in choices if isinstance(choice, str)]) if isinstance(value, str) else ""
    )
    raise _UnfitError(f"found {shown(value)}, wanted one of {known}.{meant}".rstrip("."))


def _sequence(value: Any, hint: Any) -> Any:
    element = (get_args(hint) or (Any,))[0]
    if not isinstance(value, (list, tuple)):
        listed = f"; write [{shown(value)}]" if isinstance(value, (str, int)) else ""
        raise _UnfitError(f"found {shown(value)}, wanted a list of {_WANTED.get(element, 'values')}{listed}")
    made: list[Any] = []
    wrong: list[tuple[str, str]] = []
    for index, one in enumerate(value):
        try:
            made.append(structure(one, element))
        except Exception as error:
            wrong.extend((f"[{index}]{inside}", said) for inside, said in leaves(error))
    if wrong:
        raise _UnfitError(inside=wrong)
    return _SEQUENCES[_kind(hint)](made)


def _table(value: Any, hint: Any) -> dict[str, Any]:
    element = (*get_args(hint), Any, Any)[1]
    if not isinstance(value, dict):
        raise _UnfitError(f"found {shown(value)}, wanted a table such as {{ name = ... }}")
    made: dict[str, Any] = {}
    wrong: list[tuple[str, str]] = []
    for key, one in value.items():
        try:
            made[key] = structure(one, element)
        except Exception as error:
            wrong.extend((f".{key}{inside}", said) for inside, said in leaves(error))
    if wrong:
        raise _UnfitError(inside=wrong)
    return made


def _one_of(value: Any, hint: Any) -> Any:
    if value is None and type(None) in get_args(hint):
        return None
    said: list[str] = []
    for member in _members(hint):
        try:
            return structure(value, member)
        except Exception as error:
            said.extend(text for _, text in leaves(error))
    raise _UnfitError("; or ".join(dict.fromkeys(said)))


_HOOKS: tuple[tuple[Callable[[Any], bool], Callable[[Any, Any], Any]], ...] = (
    (lambda hint: hint in (str, int, bool, date, Path), _plain),
    (lambda hint: hint in (float, Decimal), _number),
    (lambda hint: hint is Any, lambda value, _: _without_decimals(value)),
    (lambda hint: _kind(hint) is Literal, _choice),
    (lambda hint: _kind(hint) in _SEQUENCES, _sequence),
    (lambda hint: _kind(hint) in (dict, Mapping), _table),
    (lambda hint: _is_union(hint) and len(_members(hint)) > 1, _one_of),
)


def leaves(error: BaseException) -> Iterator[tuple[str, str]]:
    """(place inside the value, what is wrong) for everything in an error of the converter."""
    if isinstance(error, _UnfitError) and error.inside:
        yield from error.inside
    elif isinstance(error, BaseExceptionGroup):  # cattrs: what is wrong with the keys of a nested class
        for one in error.exceptions:
            notes = [note for note in getattr(one, "__notes__", ()) if hasattr(note, "name")]
            for inside, said in leaves(one):
                yield f".{notes[0].name}{inside}" if notes else inside, said
    elif hasattr(error, "extra_fields"):
        yield "", f"unknown key {', '.join(sorted(error.extra_fields))}"
    elif isinstance(error, KeyError):
        yield "", "is missing"
    else:
        yield "", str(error)


def from_text(text: str, hint: Any) -> Any:
    """
    A text from the environment or ``--set`` as TOML would have held it; ValueError with what is wanted otherwise.
    """
    if _is_union(hint):
        if type(None) in get_args(hint) and not text:
            return None
        if len(_members(hint)) > 1:
            return toml(text, text)
        hint = _members(hint)[0]
    kind = _kind(hint)
    try:
        if kind in (str, Path, Literal):
            quoted = text[:1] in ("'", '"')
            return toml(text, text) if quoted else text
        if kind is bool:
            return _TRUE_FALSE[text.strip().lower()]
        if kind is int:
            return int(text)
        if kind in (float, Decimal):
            return Decimal(text.strip())
        if kind is date:
            return date.fromisoformat(text.strip())
        if kind in _SEQUENCES:
            if text.lstrip().startswith("["):
                return toml(text)
            element = (get_args(hint) or (Any,))[0]
            return [from_text(one, element) for one in listed(text)]
        if kind in (dict, Mapping):
            if not text.lstrip().startswith("{"):
                raise ValueError
            return toml(text)
    except (KeyError, ValueError, ArithmeticError):
        if kind in _SEQUENCES:
            raise ValueError('a list such as ["a", "b"] or a,b') from None
        raise ValueError(_WANTED.get(kind, 'a table such as { name = "value" }')) from None
    return toml(text, text)


def listed(text: str) -> list[str]:
    """The elements of ``a, b``, without empty ones."""
    return [one.strip() for one in text.split(",") if one.strip()]


def toml(text: str, *default: Any) -> Any:
    """``text`` as a TOML value; the default where it is none, else ValueError."""
    import tomllib

    try:
        found = tomllib.loads(f"value = {text}", parse_float=Decimal)
    except tomllib.TOMLDecodeError:
        if default:
            return default[0]
        raise
    if list(found) != ["value"]:
        raise ValueError("more than one value")
    return found["value"]


def _without_decimals(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: _without_decimals(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_decimals(one) for one in value]
    return value


def _kind(hint: Any) -> Any:
    """``tuple`` of ``tuple[str, ...]``; any other type as it is."""
    return get_origin(hint) or hint


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (types.UnionType, typing.Union)


def _members(hint: Any) -> list[Any]:
    return [member for member in get_args(hint) if member is not type(None)]


def bare_type(hint: Any) -> Any:
    """The one type of an optional one; anything else as it is."""
    return _members(hint)[0] if _is_union(hint) and len(_members(hint)) == 1 else hint


def is_table(hint: Any) -> bool:
    """Whether a value of this type may be a TOML table."""
    kind = _kind(hint)
    return kind in (dict, Mapping, Any) or attrs.has(kind) or (_is_union(hint) and any(map(is_table, _members(hint))))


def sample(hint: Any, variable: str = "NAME") -> str:
    """A TOML value of this type, for an example; a secret refers to the environment ``variable``."""
    bare = bare_type(hint)
    kind = _kind(bare)
    if bare is Secret:
        return f'{{ env = "{variable}" }}'
    if kind is Literal:
        return shown(get_args(bare)[0])
    if kind in _SEQUENCES:
        return f"[{sample((get_args(bare) or (str,))[0])}]"
    samples = {int: "1", float: "1.0", Decimal: "1.0", bool: "true", date: "2026-01-31"}
    return "{}" if is_table(bare) else samples.get(bare, '"..."')
