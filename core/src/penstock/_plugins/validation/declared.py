"""
What every declaration is checked for: its name, functions where functions belong, settings that exist.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from penstock.connector import Connector, Stream
from penstock.names import NAME, did_you_mean
from penstock.settings import keys_of


def problems_in_name(name: str) -> Iterator[str]:
    if not re.fullmatch(NAME, name):
        yield f"name is {name!r}; write a letter, then letters, digits, _ and -, at most 63 characters"


_EXAMPLES = {
    "authenticator": "authenticator=lambda settings: HeaderTokens(headers={...: settings.token})",
    "judge": "judge(response, answer)",
    "check": "check=lambda settings, slice_: Request(url=...)",
    "requests": "requests(settings, slice_)",
    "accounts": "lambda settings: settings.account_ids",
    "earliest": "earliest(today)",
    "extra_columns": "extra_columns(settings)",
}


def no_functions(declared: Connector | Stream, *names: str) -> Iterator[str]:
    """The fields of these names that hold something else than a function."""
    for name in names:
        value = getattr(declared, name)
        if value is not None and not callable(value):
            yield f"{name} is {kind_of(value)}; write a function, such as {_EXAMPLES[name]}"


def unknown_settings(settings: type | None, what: str, names: Iterable[str]) -> Iterator[str]:
    if settings is None:
        return
    existing = {attribute.name for attribute in keys_of(settings)}
    for name in names:
        if name not in existing and not hasattr(settings, name):
            meant = did_you_mean(name, existing)
            yield f"{what} names {name!r}, which is no setting of {settings.__name__}.{meant}"


def named_twice(what: str, names: Collection[str]) -> list[str]:
    repeated = [name for name, times in Counter(names).items() if times > 1]
    return [f"{what} {name}: more than one has this name; rename all but one" for name in repeated]


def kind_of(value: object) -> str:
    return f"{type(value).__name__} ({value!r})" if isinstance(value, (str, int, float)) else type(value).__name__
