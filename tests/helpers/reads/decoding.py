"""
Record classes, streams compiled from them, and what one batch of a page holds.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
from penstock._decode import (
    ColumnOptions,
    DecodedChunk,
    Requested,
    RowBuilder,
    SliceKeys,
    compile_stream,
    split_by_day,
    sums,
)
from penstock._decode.conversion import MisfitError, coerce
from penstock._decode.masks import cleaner
from penstock.connector import Stream
from penstock.model import Items
from penstock.records import Column, column, derived, personal, record, row_key, secret

__all__ = [
    "SENSITIVE",
    "Click",
    "DecodedChunk",
    "Lead",
    "LeadData",
    "MisfitError",
    "Row",
    "RowBuilder",
    "SliceKeys",
    "a_stream",
    "an_array",
    "cleaner",
    "coerce",
    "compiled",
    "compiled_stream",
    "decode_one",
    "reasons",
    "split_by_day",
    "sums",
    "written",
]


@record(members="camel")
class Click:
    click_id: str
    clicked_at: datetime | None = column(zone="naive")
    job_id: int | None
    price: str | None
    price_amount: Decimal | None = derived(of="price", scale=-2, unit="USD", additive=True)
    spend: Decimal | None = column(additive=True)
    valid: bool | None
    day: date | None
    offer: Any = None


@record()
class Lead:
    id: str
    email: str | None = personal()
    token: str | None = secret()
    data: Any = column(hidden=("[name=hash]", "*.secret"), hidden_personal=("*.value",))
    saved: datetime | None


@record()
class LeadData:
    name: str
    value: str | None


@record()
class Row:
    title: str
    clicks: int | None
    key: str = row_key("title", "clicks")


def decode_one(
    shape: RowBuilder,
    items: Items,
    columns: Mapping[str, Any] | None = None,
    slice_keys: SliceKeys | None = None,
    **more: Any,
) -> DecodedChunk:
    """The one batch of a run of elements."""
    (decoded,) = shape.build((items,), Requested(columns or {}, **more), slice_keys)
    return decoded


def a_stream(cls: type = Click, **output: Any) -> Stream:
    given: dict[str, Any] = {"name": "clicks", "summary": "", "record": cls, "kind": "report", **output}
    given.setdefault("key", {Click: "click_id", Lead: "id", Row: "key", LeadData: ()}.get(cls, ()))
    return Stream(**given)


def compiled(cls: type = Click, **more: Any) -> RowBuilder:
    output = {name: more.pop(name) for name in ("key", "account", "day", "day_of", "days_per_request") if name in more}
    besides = {name: more.pop(name) for name in ("columns", "derived") if name in more}
    return compile_stream("source", a_stream(cls, **output), ColumnOptions(**more), **besides)


def compiled_stream(stream: Stream, columns: Sequence[Column] = (), **options: Any) -> RowBuilder:
    """The row builder of a stream. ``columns``: those of a configuration. ``options``: of its columns, as settings."""
    return compile_stream("shop", stream, ColumnOptions(**options), columns=columns)


def an_array(*elements: Any, **more: Any) -> Items:
    return Items(raw=json.dumps(elements).encode(), **more)


def written(decoded: DecodedChunk) -> list[dict[str, Any]]:
    """The rows as a file of lines has them, numbers exact."""
    lines = msgspec.json.Encoder(decimal_format="number").encode_lines(decoded.batch.rows)
    return [json.loads(line, parse_float=Decimal) for line in lines.splitlines()]


def reasons(decoded: DecodedChunk) -> list[tuple[str, str]]:
    return [(one.path, one.reason) for one in decoded.batch.rejected]


SENSITIVE = {
    "id": "a",
    "email": "ann@example.org",
    "token": "t0ken",
    "data": [{"name": "hash", "value": "h4sh"}, {"name": "city", "value": "Leeds", "secret": "s3cret"}],
}
