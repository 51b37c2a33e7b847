"""
Nested values as JSON text, for formats whose columns are flat.
"""

from typing import Any

import msgspec
from penstock import EXACT_JSON

_NOTHING = {id(None), id(msgspec.UNSET)}


def json_texts(values: list[Any]) -> list[str | None]:
    """Each value as one JSON text, decimals with their digits; None for null and for what is not set."""
    if _NOTHING.issuperset(map(id, values)):
        return [None] * len(values)
    values = [None if value is msgspec.UNSET else value for value in values]
    lines = EXACT_JSON.encode_lines(values).decode().split("\n")
    if len(lines) != len(values) + 1:  # a part that was kept byte for byte holds a line break
        lines = [EXACT_JSON.encode(value).decode() for value in values]
    return [None if text == "null" else text for text in lines[: len(values)]]
