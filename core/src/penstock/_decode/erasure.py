"""
The values to erase in delivered rows, so that they hold what a reading without personal data delivers.
"""

from collections.abc import Callable
from typing import Any

from penstock._decode.masks import personal_cleaner
from penstock._decode.stream_decoder import StreamDecoder
from penstock.model import EXACT_JSON, PLAIN_JSON
from penstock.sinks import EXTRA, Erasure


def erasures_of(decoder: StreamDecoder) -> tuple[Erasure, ...]:
    """Of a stream that is compiled without personal data, and of the streams derived from it."""
    return tuple(map(_erasure_of, decoder.streams))


def _erasure_of(decoder: StreamDecoder) -> Erasure:
    rejects = decoder.rejects
    columns = tuple(name for name, column in decoder.columns.items() if column.personal and name in rejects.hidden)
    nested = {
        name: _on_text(personal_cleaner(column.hidden_personal))
        for name, column in decoder.columns.items()
        if column.hidden_personal and name not in columns
    }
    if not rejects.has_extra:
        columns = (*columns, EXTRA)
    elif not rejects.stores_unknown or rejects.extra_masks:
        nested[EXTRA] = _on_text(_extra_cleaner(decoder))
    return Erasure(layout=decoder.layout, columns=columns, nested=nested)


def _extra_cleaner(decoder: StreamDecoder) -> Callable[[Any], Any]:
    """Values that did not fit a delivered column stay, unknown members only where these are kept; both masked."""
    rejects = decoder.rejects
    hidden = {column.member for name, column in decoder.columns.items() if name in rejects.hidden}
    delivered = {column.member for name, column in decoder.columns.items() if name not in rejects.hidden}

    def clean(value: Any) -> Any:
        if not isinstance(value, dict):
            return None
        members = {
            name: item
            for name, item in value.items()
            if name in delivered or (rejects.stores_unknown and name not in hidden)
        }
        return rejects.extra_masks.apply(members) or None

    return clean


def _on_text(clean: Callable[[Any], Any]) -> Callable[[str], str | None]:
    """``clean``, which may change its argument, for a JSON text; numbers keep their digits."""

    def clean_text(text: str) -> str | None:
        value = PLAIN_JSON.decode(text)
        before = EXACT_JSON.encode(value)
        cleaned = clean(value)
        if cleaned is None:
            return None
        after = EXACT_JSON.encode(cleaned)
        return text if after == before else after.decode()

    return clean_text
