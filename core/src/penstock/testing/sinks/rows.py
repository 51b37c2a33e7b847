"""
Rows of these streams: ordinary ones, hostile ones, and their form in a batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec

from penstock.sinks import Layout

Row = Mapping[str, Any]
Streams = Sequence[tuple[Layout, Sequence[Row]]]


def click(number: int, **values: Any) -> dict[str, Any]:
    """An ordinary click; ``values`` in place of some."""
    return {
        "advertiser_id": "2112",
        "report_date": date(2026, 3, 1),
        "click_id": f"c{number}",
        "url": f"https://jobs.example/{number}",
        "job_id": number,
        "price": Decimal("0.10"),
        "paid": True,
        "clicked_at": datetime(2026, 3, 1, 0, 0, number % 60),  # noqa: DTZ001 (a provider that names no zone)
        "seen_at": datetime(2026, 3, 1, 8, 0, number % 60, tzinfo=UTC),
        "offer": {"id": number},
        **values,
    }


def tag(click_id: str, text: str | None) -> dict[str, Any]:
    """A derived row of an ordinary click."""
    return {"advertiser_id": "2112", "report_date": date(2026, 3, 1), "click_id": click_id, "tag": text}


HOSTILE = [
    click(1),
    click(2, url=None, job_id=None, price=None, paid=None, clicked_at=None, seen_at=None, offer=None),
    click(3, url="", job_id=0, price=Decimal(0), paid=False, offer={}),
    click(4, url='a "quoted" word, a comma; a\ttab, a\r\nline break \\ and \\N'),
    click(5, url="None", job_id=2**70, price=Decimal("-12345678901234567890.12345678901")),
    click(6, url="=1+1", offer={"a": ['"', "\n", "ä\u2028", None, 1.5, True], "b": {"c": "\\"}}),
    click(
        7, url="Köln 東京 \U0001f600 \x01", seen_at=datetime(2026, 3, 1, 1, 2, 3, 450000, timezone(timedelta(hours=5)))
    ),
    click(8, url="null", offer=[], _extra={"new": [1, '"']}),
    click(9, click_id="9,\"'\n"),
]


def rows_of(layout: Layout, values: Iterable[Row]) -> list[Any]:
    """Rows as the decoder makes them: an attribute per column, ``_extra`` unset where there is none."""
    fields: list[tuple[str, Any, Any]] = [(column.name, Any, None) for column in layout.columns]
    fields[-1] = ("_extra", Any, msgspec.UNSET)
    row_type = msgspec.defstruct("Row", fields, kw_only=True)
    return [row_type(**row) for row in values]


def plain(layout: Layout, values: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows as a suite's ``rows`` must give them: every column, null where absent, by key."""
    names = [column.name for column in layout.columns]
    return sorted(
        ({name: row.get(name) for name in names} for row in values),
        key=lambda row: [str(row[name]) for name in layout.key],
    )


def lead(number: int, status: str = "new") -> dict[str, Any]:
    return {"lead_id": number, "status": status}


def answer(number: int, name: str, value: str) -> dict[str, Any]:
    return {"lead_id": number, "name": name, "value": value}
