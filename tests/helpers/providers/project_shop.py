"""
A project with the shop of these tests: its provider, its connector, its configuration.
"""

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import penstock_plugins
from attrs import evolve, frozen
from penstock import (
    Connector,
    Envelope,
    Json,
    OpenFor,
    Request,
    SandboxRequest,
    SandboxResponse,
    Secret,
    Slice,
    SourceSettings,
    Stream,
    added,
    derived,
    record,
    setting,
)
from penstock._util.clock import Clock
from penstock.connector import ConnectorPlugin
from penstock.sandbox.server import Server

NOW = datetime(2026, 3, 10, 8, tzinfo=UTC)


FIRST, LAST = date(2026, 3, 7), date(2026, 3, 9)


class Stopped(Clock):
    """The time of day never moves."""

    def now(self) -> datetime:
        return NOW


class AnHourLater(Clock):
    def now(self) -> datetime:
        return NOW + timedelta(hours=1)


@record()
class Sale:
    shop_id: str = added()
    day: date = added()
    id: str
    price: str
    price_amount: Decimal | None = derived(of="price", scale=-2, unit="USD", additive=True)
    lines: Json | None = None


@record()
class Line:
    sale_id: str = added()
    sku: str


@frozen(kw_only=True)
class Settings(SourceSettings):
    base_url: str = setting("https://shop.example", help="where the shop answers")
    key: Secret = setting(help="the key")
    shop_ids: tuple[str, ...] = setting(("7", "8"), help="the shops")


def requests(settings: Settings, slice_: Slice) -> Iterable[Request]:
    yield Request(url=f"{settings.base_url}/sales", params=(("shop", slice_.account or ""), ("day", str(slice_.since))))


SALES = Stream(
    name="sales",
    summary="What was sold",
    record=Sale,
    kind="report",
    key="id",
    account="shop_id",
    accounts=lambda settings: settings.shop_ids,
    day="day",
    requests=requests,
    envelope=Envelope(items="sales", total="total"),
    open_for=OpenFor(30),
)


class Shop:
    """Two sales a day and shop; ``change`` alters an answer by shop and day before it is sent."""

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.change: Any = lambda shop, day, answer: answer

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        query = dict(pair.split("=") for pair in request.query.split("&"))
        shop, day = query["shop"], query["day"]
        self.requested.append(f"{shop} {day}")
        sales = [{"id": f"{shop}-{day}-{n}", "price": "150", "lines": [{"sku": "a", "tax": 0.10}]} for n in (1, 2)]
        answer = self.change(shop, day, {"sales": sales, "total": 2})
        if isinstance(answer, SandboxResponse):
            return answer
        return SandboxResponse(body=json.dumps(answer).encode())


def without_id(shop: str, day: str, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer whose first record cannot be decoded."""
    first, second = answer["sales"]
    return {"sales": [{**first, "id": None}, second], "total": 2}


PLUGINS = (
    ConnectorPlugin(
        Connector(
            name="shop",
            summary="Sales of a shop",
            settings=Settings,
            streams=[SALES],
            check=lambda settings, slice_: Request(
                url=f"{settings.base_url}/sales", params=(("shop", "7"), ("day", "x"))
            ),
        )
    ),
    penstock_plugins,
)


def config(server: Server, folder: Path) -> dict[str, Any]:
    return {
        "source": {
            "shop": {"base_url": server.base_url, "key": Secret("sesame-open"), "retries": 0, "retry_first_s": 0.01}
        },
        "sink": {"files": {"kind": "jsonl", "path": str(folder / "data")}},
        "pipeline": {"daily": {"source": "shop", "sink": "files"}},
    }


DAYS: dict[str, Any] = {"since": FIRST, "until": LAST}


TWO = (
    *PLUGINS[:1],
    ConnectorPlugin(
        Connector(
            name="mall",
            summary="",
            settings=Settings,
            streams=[SALES, evolve(SALES, name="visits"), evolve(SALES, name="later", on_by_default=False)],
        )
    ),
    penstock_plugins,
)
