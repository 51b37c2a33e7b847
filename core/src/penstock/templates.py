"""
Templates of paths, parameters and JSON bodies: texts with names in braces, which values replace.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from penstock.redact import Secret

_PLACEHOLDER = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")


def placeholders(template: str) -> list[str]:
    """The names between braces in a template, in their order, without the format that may follow a colon."""
    return [name for name, _ in _PLACEHOLDER.findall(template)]


def fill(template: str, values: Mapping[str, Any]) -> str:
    """
    ``template`` with each ``{name}`` replaced by its value: days and times in ISO 8601, or in the format that follows a
    colon (``{since:%m/%d/%Y}``). A format of a time that ends with ``Z`` is written in UTC; ``{start:epoch_s}`` and
    ``{start:epoch_ms}`` are seconds and milliseconds since 1970. KeyError for an unknown name, MissingValueError for a
    value of None.
    """
    return _PLACEHOLDER.sub(lambda place: _filled(place, values), template)


EPOCH_FORMATS = {"epoch_s": 1, "epoch_ms": 1000}
"""The formats of a time in a template that are numbers since 1970, with their units per second."""


def placeholder_formats(template: Any) -> Iterator[tuple[str, str]]:
    """Name and format of each placeholder in a template or in the texts of a JSON template that has a format."""
    if isinstance(template, str):
        yield from ((name, format_) for name, format_ in _PLACEHOLDER.findall(template) if format_)
    elif isinstance(template, Mapping):
        yield from (found for value in template.values() for found in placeholder_formats(value))
    elif isinstance(template, (list, tuple)):
        yield from (found for value in template for found in placeholder_formats(value))


def fill_path(template: str, values: Mapping[str, Any]) -> str:
    """
    ``/clients/{client_id}`` with each name replaced by its value, percent-encoded as one segment, ``/`` included.

    ``.`` and ``..`` are encoded too: a URL parser would remove such a segment. KeyError for an unknown name,
    MissingValueError for a value of None or an empty text, with which the path would be another one.
    """

    def segment(place: "re.Match[str]") -> str:
        text = _filled(place, values)
        if not text:
            raise MissingValueError(place[1])
        return quote(text, safe="") if text.strip(".") else text.replace(".", "%2E")

    return _PLACEHOLDER.sub(segment, template)


# The stricter form of a placeholder in a body, where braces with blanks are the provider's own, as in GraphQL.
_JSON_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)(?::([^{}]*))?\}")


_JSON_TYPES = (bool, int, float, list, tuple, type(None))


def json_placeholders(template: Any, at: str = "json", repeated: bool = False) -> Iterator[tuple[str, str, bool]]:
    """
    Place and name of each placeholder in a JSON template, and whether it is in a list of one element, which is repeated
    for each parent row.
    """
    if isinstance(template, str):
        for name, _ in _JSON_PLACEHOLDER.findall(template):
            yield at, name, repeated
    elif isinstance(template, Mapping):
        for name, value in template.items():
            yield from json_placeholders(value, f"{at}[{name!r}]", repeated)
    elif isinstance(template, (list, tuple)):
        for place, value in enumerate(template):
            yield from json_placeholders(value, f"{at}[{place}]", repeated or len(template) == 1)


def fill_json(template: Any, values: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] = ()) -> Any:
    """
    A JSON value with each ``{name}`` in its texts replaced, as :func:`fill` does; braces around anything but a name are
    left alone. A text that is one name takes the value as it is, a number as a number, as ``{start:epoch_ms}`` is; a
    member whose value is then None is left out. A list of one element that names a column of ``rows`` has one element
    for each row.
    """
    if isinstance(template, str):
        name = _JSON_PLACEHOLDER.fullmatch(template)
        if name is not None and not name[2] and isinstance(values[name[1]], _JSON_TYPES):
            return values[name[1]]
        if name is not None and name[2] in EPOCH_FORMATS:
            return int(_filled(name, values))
        return _JSON_PLACEHOLDER.sub(lambda place: _filled(place, values), template)
    if isinstance(template, Mapping):
        members = {name: fill_json(value, values, rows) for name, value in template.items()}
        return {name: value for name, value in members.items() if value is not None or template[name] is None}
    if isinstance(template, (list, tuple)):
        named = {name for _, name, _ in json_placeholders(template)}
        if len(template) == 1 and rows and named & rows[0].keys():
            return [fill_json(template[0], {**values, **row}) for row in rows]
        return [fill_json(value, values, rows) for value in template]
    return template


class MissingValueError(ValueError):
    """A template names a value that is null, or empty in a path."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} has no value")


def _filled(placeholder: "re.Match[str]", values: Mapping[str, Any]) -> str:
    """The text in place of a placeholder."""
    value, format_ = values[placeholder[1]], placeholder[2] or ""
    if value is None:
        raise MissingValueError(placeholder[1])
    if isinstance(value, Secret):
        raise TypeError("a secret does not belong in a template; the authenticator sends it")
    if isinstance(value, bool):
        return "true" if value else "false"
    if format_ in EPOCH_FORMATS and isinstance(value, datetime):
        return str((value - datetime(1970, 1, 1, tzinfo=UTC)) * EPOCH_FORMATS[format_] // timedelta(seconds=1))
    if (
        isinstance(value, datetime)
        and value.tzinfo is not None
        and format_.endswith("Z")
        and not format_.endswith("%Z")
    ):
        value = value.astimezone(UTC)
    return format(value, format_) if format_ else value.isoformat() if isinstance(value, datetime) else str(value)
