"""
The command line over the shop of these tests: its connector, its provider, and a directory with a configuration.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import penstock
import penstock_plugins
import pytest
from attrs import frozen
from command_in_process import main
from penstock.connector import Connector, Sandbox, Stream
from penstock.model import Request, Slice
from penstock.records import column, derived, personal, record
from penstock.redact import Secret
from penstock.sandbox.app import SandboxRequest, SandboxResponse
from penstock.sandbox.server import Server
from penstock.settings import OpenFor, SourceSettings, setting

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)


TODAY = NOON.date()


YESTERDAY = TODAY - timedelta(days=1)


@frozen(kw_only=True)
class ShopSettings(SourceSettings):
    base_url: str = setting("https://shop.example", help="where the shop answers")
    key: Secret = setting(help="the shop's key")
    shop_ids: tuple[str, ...] = setting(help="the shops to read", affects_data=True)
    page_size: int = setting(100, help="sales on a page")
    notes: dict[str, str] = setting(factory=dict, help="anything else")


@record()
class Sale:
    id: str
    price: str
    price_amount: Decimal | None = derived(of="price", scale=-2, unit="USD", additive=True)
    buyer: str | None = personal()


@record()
class Item:
    id: str
    name: str | None = column(description="what it is called")


def sales_requests(settings: ShopSettings, slice_: Slice) -> Iterable[Request]:
    yield Request(url=f"{settings.base_url}/sales", params=(("shop", slice_.account or ""), ("day", str(slice_.since))))


def item_requests(settings: ShopSettings, slice_: Slice) -> Iterable[Request]:
    yield Request(url=f"{settings.base_url}/items")


SHOP = Connector(name="shop", summary="Sales of a shop", settings=ShopSettings)


class Shop:
    """Two sales a day and shop, one of shop 13 without a price; three items. Remembers nothing."""

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        if request.path == "/items":
            return SandboxResponse(body=json.dumps([{"id": str(number), "name": None} for number in range(3)]).encode())
        shop = re.findall(r"shop=(\w+)", request.query)[0]
        sales: list[dict[str, Any]] = [{"id": "1", "price": "150", "buyer": "ann"}, {"id": "2", "price": "25"}]
        if shop == "13":
            del sales[1]["price"]
            sales[1]["paid"] = "12.50"
        if shop == "401":
            return SandboxResponse(status=401)
        if shop == "429":
            return SandboxResponse(status=429, headers={"Retry-After": "36000"})
        if shop == "503":
            return SandboxResponse(status=503)
        if shop == "500":
            return SandboxResponse(status=404, body=b"{}")
        return SandboxResponse(body=json.dumps(sales).replace('"12.50"', "12.50").encode())


class ShopPlugin:
    __name__ = "connector-shop"

    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        yield Connector(
            name="shop",
            summary="Sales of a shop",
            settings=ShopSettings,
            check=lambda settings, slice_: Request(url=f"{settings.base_url}/items"),
        )

    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        if source != "shop":
            return []
        return [
            Stream(
                name="sales",
                summary="What was sold",
                record=Sale,
                kind="report",
                key="id",
                account="shop_id",
                accounts=lambda settings: settings.shop_ids,
                day="report_date",
                requests=sales_requests,
                open_for=OpenFor(2),
            ),
            Stream(
                name="items", summary="What is sold", record=Item, kind="snapshot", key="id", requests=item_requests
            ),
            Stream(name="later", summary="", record=Item, kind="snapshot", not_built="the provider works on it"),
        ]

    @penstock.hookimpl
    def penstock_sandboxes(self) -> Iterable[Sandbox]:
        yield Sandbox(
            connector="shop",
            summary="A shop",
            make=lambda base_url, today: Shop(),
            settings={"key": "sandbox-key", "shop_ids": ["7", "8"]},
        )


class PrintingPlugin:
    """A plugin whose code prints a line to standard output."""

    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        print("printed")
        return []


class Following:
    def __init__(self) -> None:
        self.events: list[str] = []

    @penstock.hookimpl
    def penstock_event(self, event: Mapping[str, Any]) -> None:
        self.events.append(event["event"])


class Here:
    """A directory with a configuration, and the command run in it."""

    def __init__(self, folder: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.server = server
        self.capsys = capsys
        self.following = Following()
        self.out = self.err = ""
        self.configure(["7"])

    def configure(self, shops: list[str]) -> None:
        text = f"""
[source.shop]
base_url = "{self.server.base_url}"
key = {{ env = "SHOP_KEY" }}
shop_ids = {json.dumps(shops)}
retries = 0

[sink.files]
kind = "jsonl"
path = "data"

[pipeline.daily]
source = "shop"
sink = "files"
"""
        (self.folder / "penstock.toml").write_text(text)

    def __call__(self, *arguments: str, code: int = 0) -> str:
        environ = {"SHOP_KEY": "sesame-open"}
        found = main(list(arguments), plugins=[ShopPlugin(), penstock_plugins, self.following], environ=environ)
        self.out, self.err = self.capsys.readouterr()
        assert found == code, self.err
        return self.out


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, standard output and standard error are a terminal."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)


def days(number: int) -> tuple[str, str]:
    """``--since`` of a window of so many days up to yesterday."""
    return ("--since", str(TODAY - timedelta(days=number)))


NOW = datetime(2026, 11, 28, 6, 40, tzinfo=UTC)


def completions(here: Here, monkeypatch: pytest.MonkeyPatch, line: str, *plugins: Any) -> set[str]:
    """What bash offers behind a line that begins with penstock, with more ``plugins`` than the shop's."""
    monkeypatch.setenv("_PENSTOCK_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"penstock {line}")
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" "))))
    with pytest.raises(SystemExit):
        main([], plugins=[ShopPlugin(), penstock_plugins, *plugins], environ={})
    return {one.partition(",")[2] for one in here.capsys.readouterr().out.splitlines()}
