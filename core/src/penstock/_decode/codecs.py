"""
Decoders of JSON arrays, of single elements, and of any value with exact decimals.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw


class Decoders(NamedTuple):
    """The decoders of an array of elements of one type, and of one element."""

    many: "msgspec.json.Decoder[Any]"
    one: "msgspec.json.Decoder[Any]"


def decoders(type_: Any, *, texts: bool = False) -> Decoders:
    """The decoders for this type; ``texts``: numbers and booleans come as text (CSV)."""
    return Decoders(
        msgspec.json.Decoder(list[type_], strict=not texts, float_hook=Decimal),
        msgspec.json.Decoder(type_, strict=not texts, float_hook=Decimal),
    )


RAWS = decoders(Raw)
DICTS = decoders(dict[str, Raw])
PLAIN: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder(float_hook=Decimal)
LISTS = msgspec.json.Decoder(list[list[Raw]])
NULL = Raw(b"null")
NO_ELEMENTS = Raw(b"[]")


def array_of(elements: Iterable[Any]) -> bytes:
    return b"[" + b",".join(elements) + b"]"
