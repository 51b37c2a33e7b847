"""
The parameters of a row: from texts or JSON to typed values by field name.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from attrs import evolve

from penstock._decode.conversion import NUMBER, digits_of
from penstock.actions import Action, Field, FieldType, Values
from penstock.model import exact_json, is_short_integer
from penstock.names import nearest
from penstock.redact import mask

BODY = "body"  # the parameter that is a whole body, or one object of it

_DIGITS = re.compile(r"[+-]?\d{1,18}", re.ASCII)


def typed(action: Action, parameters: Mapping[str, Any], *, text: bool = False) -> dict[str, Any]:
    """
    A row's parameters by field name, each of its field's type; nulls are absent.

    The names in ``parameters`` are those of fields, or the provider's. ``text``: every value is text (of a command line
    or a CSV file) without a type; none is absent. Raises ValueError with all problems.
    """
    by_spelling = _spellings(action)
    typed_values: dict[str, Any] = {}
    wrong: list[str] = []
    for spelling, value in parameters.items():
        name = by_spelling[spelling].name if spelling in by_spelling else spelling
        if name not in by_spelling and not (name == BODY and _takes_body(action)):
            near = nearest(spelling, by_spelling)
            meant = f"; did you mean {near}?" if near is not None else ""
            wrong.append(f"{spelling} is no parameter of {action.name}{meant}")
            continue
        if value is None or (text and value == ""):
            continue
        if name in typed_values:
            wrong.append(f"{name} is given twice, in two spellings")
            continue
        try:
            typed_values[name] = (
                _converted(by_spelling[name], value, text) if name in by_spelling else _body_of(action, value, text)
            )
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    if wrong:
        raise ValueError("; ".join(wrong))
    return typed_values


def validated(action: Action, settings: Any, values: Values) -> dict[str, Any]:
    """
    ``values`` in the order of the declaration. Raises ValueError if one is missing, or if ``prepare`` refuses them.
    """
    free_body = BODY in values and _takes_body(action)
    if free_body and any(field.place == "body" and field.name in values for field in action.fields):
        raise ValueError(f"{BODY} is the whole body: no other member of it beside it")
    _complete([field for field in action.fields if not (free_body and field.place == "body")], values)
    action.prepare(settings, values)
    order = [field.name for field in action.fields if field.name in values]
    return {name: values[name] for name in (*order, *(name for name in values if name not in order))}


def _complete(fields: Iterable[Field], values: Values) -> None:
    missing = [field for field in fields if field.required and field.name not in values]
    if missing:
        names = [f"{field.name} ({field.description})" if field.description else field.name for field in missing]
        raise ValueError(f"missing: {', '.join(names)}")


def _takes_body(action: Action) -> bool:
    """Whether the action takes the parameter ``body``, in addition to or in place of single members."""
    return action.bulk or action.open_body


def _spellings(action: Action) -> dict[str, Field]:
    return {spelling: field for field in action.fields for spelling in (*field.aliases, field.member, field.name)}


def _body_of(action: Action, value: Any, text: bool) -> Any:
    """The parameter ``body`` of a row: an object, or for a body that is a list, a list of objects."""
    value = _json(value) if text else value
    objects = [value] if isinstance(value, dict) else value
    if action.bulk:
        if not isinstance(objects, list) or not objects or not all(isinstance(object_, dict) for object_ in objects):
            raise ValueError("expected a list of objects")
        return [_body_object(action, object_) for object_ in objects]
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return _body_object(action, value)


def _body_object(action: Action, members: Mapping[str, Any]) -> dict[str, Any]:
    """One object of the body, by the provider's member names; unknown ones only if the action's body is open."""
    fields = tuple(field for field in action.fields if field.place == "body")
    object_action = evolve(action, fields=fields, rows_per_request=1, open_body=False)
    spellings = _spellings(object_action)
    extra = {name: value for name, value in members.items() if name not in spellings}
    if extra and not action.open_body:
        names = ", ".join(field.member for field in fields)
        raise ValueError(f"{', '.join(extra)} is no member of it; there are {names}")
    values = typed(object_action, {name: value for name, value in members.items() if name in spellings})
    _complete(fields, values)
    return members_of(object_action, values) | extra


def _converted(field: Field, value: Any, text: bool) -> Any:
    if field.repeated:
        values = _json(value) if text and isinstance(value, str) and value.lstrip().startswith("[") else value
        values = values if isinstance(values, list) else [values]
        if not values:
            raise ValueError("expected at least one")
        return [_one(field, item, text) for item in values]
    return _one(field, value, text)


def _one(field: Field, value: Any, text: bool) -> Any:
    converted = _CONVERTERS[field.type](value) if field.type != "json" else _json(value) if text else value
    if field.choices and converted not in field.choices:
        raise ValueError(f"found {_shown(converted)}, expected one of {', '.join(field.choices)}")
    if field.place == "path" and converted == "":
        raise ValueError("is empty")
    if field.place == "header" and not (str(converted).isascii() and str(converted).isprintable()):
        raise ValueError("holds signs that a header cannot carry")
    return converted


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return digits_of(value)
    raise ValueError(f"found {_shown(value)}, expected text")


def _integer(value: Any) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, Decimal) and is_short_integer(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return value
    raise ValueError(f"found {_shown(value)}, expected an integer")


def _number(value: Any) -> int | Decimal:
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        with contextlib.suppress(InvalidOperation):  # an exponent beyond all bounds
            value = Decimal(value.strip())
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool) and Decimal(value).is_finite():
        return value
    raise ValueError(f"found {_shown(value)}, expected a number")


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if isinstance(value, bool):
        return value
    raise ValueError(f"found {_shown(value)}, expected true or false")


def _object(value: Any) -> dict[str, Any]:
    value = _json(value) if isinstance(value, str) else value
    if isinstance(value, dict):
        return value
    raise ValueError(f'found {_shown(value)}, expected an object such as {{"name": "value"}}')


def _list(value: Any) -> list[Any]:
    value = _json(value) if isinstance(value, str) else value
    if isinstance(value, list):
        return value
    raise ValueError(f'found {_shown(value)}, expected a list such as ["a", "b"]')


_CONVERTERS: dict[FieldType, Callable[[Any], Any]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "object": _object,
    "list": _list,
}


def _json(text: Any) -> Any:
    try:
        return exact_json(str(text))
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None


def _shown(value: Any) -> str:
    text = mask(json.dumps(value, default=str, ensure_ascii=False))
    return text if len(text) <= 60 else f"{text[:59]}…"


def members_of(action: Action, values: Values) -> dict[str, Any]:
    """The members of the body that these values are, by the provider's names."""
    return {
        field.member: values[field.name] for field in action.fields if field.place == "body" and field.name in values
    }
