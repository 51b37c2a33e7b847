"""
The layouts of the streams that the tests deliver, and what is erased of them.
"""

from typing import Any

import msgspec
from attrs import evolve

from penstock.records import Column
from penstock.sinks import Erasure, Layout

SOURCE = "acme"


def _layout(stream: str, *columns: Column, **more: Any) -> Layout:
    return Layout(source=SOURCE, stream=stream, columns=(*columns, Column(name="_extra", type="json")), **more)


CLICKS = _layout(
    "clicks",
    Column(name="advertiser_id", type="text", nullable=False),
    Column(name="report_date", type="date", nullable=False),
    Column(name="click_id", type="text", nullable=False, member="clickId"),
    Column(name="url", type="text", description="Where it led"),
    Column(name="job_id", type="integer"),
    Column(name="price", type="decimal", unit="USD", additive=True),
    Column(name="paid", type="boolean"),
    Column(name="clicked_at", type="datetime", zone="naive"),
    Column(name="seen_at", type="datetime"),
    Column(name="offer", type="json"),
    kind="report",
    key=("click_id",),
    partition_columns=("advertiser_id", "report_date"),
    summary="Clicks on jobs",
)
TAGS = _layout(
    "click_tags",
    Column(name="advertiser_id", type="text", nullable=False),
    Column(name="report_date", type="date", nullable=False),
    Column(name="click_id", type="text", nullable=False),
    Column(name="tag", type="text"),
    kind="report",
    key=("click_id", "tag"),
    partition_columns=("advertiser_id", "report_date"),
    derived_by=("click_id",),
)
LEADS = _layout(
    "leads",
    Column(name="lead_id", type="integer", nullable=False),
    Column(name="status", type="text"),
    kind="changes",
    key=("lead_id",),
    partition_columns=("campaign",),
)
ANSWERS = _layout(
    "lead_data",
    Column(name="lead_id", type="integer", nullable=False),
    Column(name="name", type="text"),
    Column(name="value", type="text"),
    kind="changes",
    key=("lead_id", "name"),
    derived_by=("lead_id",),
)


def _without(layout: Layout, *names: str) -> Layout:
    return evolve(layout, columns=tuple(column for column in layout.columns if column.name not in names))


def _without_id(text: str) -> str | None:
    """A nested value without the member ``id``; nothing, where it was the only one."""
    value = msgspec.json.decode(text)
    if not isinstance(value, dict) or "id" not in value:
        return text
    del value["id"]
    return msgspec.json.encode(value).decode() if value else None


OF_CLICKS = (
    Erasure(
        layout=_without(CLICKS, "url"), columns=("url",), nested={"offer": _without_id, "_extra": lambda text: None}
    ),
    Erasure(layout=TAGS, columns=()),
)
OF_LEADS = (
    Erasure(layout=_without(LEADS, "status"), columns=("status",)),
    Erasure(layout=_without(ANSWERS, "value"), columns=("value",)),
)
