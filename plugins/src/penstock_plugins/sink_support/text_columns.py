"""
Values as text, a batch at a time: nested values as JSON texts, and rows as CSV.

CSV is made from JSON arrays: an array without its brackets, with the escapes of its texts replaced, is a CSV record.
msgspec encodes a batch as JSON arrays, one a line, in an eighth of the time of csv.writer.
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


# A byte that is in no UTF-8, in place of a backslash that is to stay.
_BACKSLASH = b"\xff"
_ESCAPES = ((b"\\n", b"\n"), (b"\\r", b"\r"), (b"\\t", b"\t"), (b"\\b", b"\b"), (b"\\f", b"\f"))
_RARE_ESCAPES = tuple((b"\\u%04x" % code, b"%c" % code) for code in range(1, 0x20))


def csv_records(lines: bytes, *, end: bytes, nul: bytes) -> bytes:
    """
    JSON arrays of texts, numbers, booleans and nulls as records that each end with ``end``; ``nul``: in place of a NUL.

    ``lines`` come from msgspec: each array and a line feed, without blanks. A text is quoted, and a quote in it doubled
    (RFC 4180); all else, ``null`` included, is as in JSON.
    """
    if not lines:
        return b""
    records = end.join(lines[1:-2].split(b"]\n[")) + end
    if b"\\" not in records:
        return records
    records = records.replace(b"\\\\", _BACKSLASH).replace(b'\\"', b'""')
    if b"\\" in records:
        for escape, character in _ESCAPES:
            records = records.replace(escape, character)
    if b"\\" in records:
        for escape, character in ((b"\\u0000", nul), *_RARE_ESCAPES):
            records = records.replace(escape, character)
    return records.replace(_BACKSLASH, b"\\")
