"""
The problems of a connector's own fields and of its settings class.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, get_args, get_origin

import attrs

from penstock._plugins.validation.declared import kind_of, no_functions, problems_in_name, unknown_settings
from penstock.connector import Connector, Limits
from penstock.names import source_line
from penstock.settings import SourceSettings, info_of, keys_of
from penstock.templates import placeholders

# Names of keys that hold a secret more often than not.
_SECRET_NAME = re.compile(
    r"(^|_)(secret|password|passwd|pwd|passphrase|token|bearer|jwt|credentials?|"
    r"(api|app|auth|private|access|secret|signing|license|account)_?key)$",
    re.IGNORECASE,
)
_TEXTS = (str, str | None, "str", "str | None")
_COLLECTIONS: Mapping[Any, str] = {
    **dict.fromkeys((list, tuple, set, frozenset, Sequence), "tuple[str, ...]"),
    **dict.fromkeys((dict, Mapping), "dict[str, str]"),
}


def problems_in_connector(connector: Connector) -> list[str]:
    """The problems of a connector's own fields and of its settings class."""
    problems = [*_problems_in_settings(connector.settings), *_problems_in_source(connector)]
    return [f"connector {connector.name}: {problem}" for problem in problems]


def _problems_in_settings(settings: Any) -> Iterator[str]:
    if not (isinstance(settings, type) and issubclass(settings, SourceSettings)):
        if isinstance(settings, type):
            name = settings.__name__
            yield (
                f"settings is {name} ({source_line(settings)}), which does not extend SourceSettings; write "
                f"class {name}(SourceSettings)"
            )
        else:
            yield f"settings is {kind_of(settings)}; write a class that extends SourceSettings"
        return
    name = settings.__name__
    if "__attrs_attrs__" not in vars(settings):
        yield f"{name} ({source_line(settings)}) has no decorator; put @frozen(kw_only=True) above it"
        return
    for attribute in keys_of(settings):
        if attribute.type is None:
            place = f"{name}.{attribute.name} ({source_line(settings)})"  # reads the source, so for a problem only
            yield f"{place} has no type; write {attribute.name}: str = setting(...)"
        elif written := _with_elements(attribute.type):
            place = f"{name}.{attribute.name} ({source_line(settings)})"
            yield (
                f"{place} has a type that does not name its elements, so that they would not be checked; write "
                f"{attribute.name}: {written} = setting(...)"
            )
        elif (
            attribute.type in _TEXTS and _SECRET_NAME.search(attribute.name) and info_of(attribute).secret is not False
        ):
            place = f"{name}.{attribute.name} ({source_line(settings)})"
            yield (
                f"{place} looks like a secret and is a text, which logs may show; write {attribute.name}: Secret = "
                "setting(...), or setting(..., secret=False) if it is none"
            )


def _with_elements(type_: Any) -> str:
    """What to write for a collection that does not name the type of its elements; empty for any other type."""
    if isinstance(type_, str):  # from __future__ import annotations
        return next((written for bare, written in _COLLECTIONS.items() if type_.split(" |")[0] == bare.__name__), "")
    members = get_args(type_) if isinstance(type_, UnionType) else (type_,)
    bare = (get_origin(member) or member for member in members if not get_args(member))
    return next((_COLLECTIONS[collection] for collection in bare if collection in _COLLECTIONS), "")


def _problems_in_source(connector: Connector) -> Iterator[str]:
    yield from problems_in_name(connector.name)
    yield from no_functions(connector, "authenticator", "judge", "check")
    if not isinstance(connector.limits, Limits):
        yield f"limits is {kind_of(connector.limits)}; write Limits(requests_per_second=2, concurrency=4)"
    if isinstance(connector.settings, type) and attrs.has(connector.settings):
        yield from unknown_settings(connector.settings, "origins", connector.origins)
        yield from _problems_in_headers(connector)


def _problems_in_headers(connector: Connector) -> Iterator[str]:
    headers: Any = connector.headers
    if not isinstance(headers, Mapping) or not all(isinstance(value, str) for value in headers.values()):
        yield f'headers is {headers!r}; write {{"X-Version": "2", "X-Client": "{{client_id}}"}}, each value a text'
        return
    for name, template in headers.items():
        yield from unknown_settings(connector.settings, f"headers[{name!r}]", placeholders(template))
