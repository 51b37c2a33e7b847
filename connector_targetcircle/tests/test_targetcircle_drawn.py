"""
Publisher APIs drawn from numbers, within what the document leaves open, read for some days in which rows change and
answers fail: after a run in which nothing failed the target holds the provider's rows. PENSTOCK_SEEDS=100-200 chooses
the numbers of the long run (make soak).
"""

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from threading import RLock
from typing import Any

import penstock_plugins
import pytest
from attrs import define, field
from penstock import Project, SandboxRequest, SandboxResponse
from penstock.sandbox.server import Reset, Scripted, Server, serve
from penstock.testing import FakeClock

import connector_targetcircle

pytestmark = pytest.mark.slow

Row = dict[str, Any]

FIRST = date(2026, 2, 27)
TOKEN = "tok/+en"
TEXTS = ("plain", "", 'comma, "quote"\nline', "Zürich ☃", "null", "0012", " blank ", "\\N", "a/b%2Fc", "\u2028", None)
AMOUNTS = ("0.0", "25.0", "0.1", "-3.07", "1e2", "12345678901234.123456", "7.000000001", "100")
_FROM, _TO = map(int, os.environ.get("PENSTOCK_SEEDS", "200-230").split("-"))


@define(eq=False, slots=False)
class Drawn:
    """The publisher API of a number. ``failing``: some answers fail."""

    seed: int
    now: datetime = datetime(2026, 3, 5, 9, tzinfo=UTC)
    failing: bool = False
    pick: Random = field(init=False)
    transactions: list[Row] = field(factory=list, init=False)
    clicks: list[Row] = field(factory=list, init=False)
    trades: dict[int, Row] = field(factory=dict, init=False)
    _reports: dict[str, tuple[str, list[Row]]] = field(factory=dict, init=False)
    _polled: Counter[str] = field(factory=Counter, init=False)
    _lock: RLock = field(factory=RLock, init=False)

    def __attrs_post_init__(self) -> None:
        pick = self.pick = Random(self.seed)
        self.per_page = pick.choice([6, 10, 25])
        self.absolute = pick.random() < 0.5
        self.links = pick.choice(["Location", "Link", ""])
        self.polls = pick.choice([0, 1, 3])
        self.pages_of_none = pick.choice([0, 1])
        self.amounts_as_text = pick.random() < 0.2
        self.compressed = pick.random() < 0.3
        self.zone = pick.choice(["Z", "Z", "+00:00", ".000Z"])
        for _ in range(pick.randrange(50)):
            self._add(FIRST + timedelta(days=pick.randrange(10)))
        for _ in range(8):
            self._change_a_trade()

    # --- its rows -----------------------------------------------------------------------------------------------------

    def _add(self, day: date) -> None:
        pick = self.pick
        second = timedelta(seconds=pick.choice([0, 86399, pick.randrange(86400)]))
        row = {
            "at": datetime.combine(day, time(), UTC) + second,
            "offerName": pick.choice(TEXTS),
            "reference": pick.choice([[], None, ["a", "ü/☃"]]),
            "trackingId": pick.choice(["u1", None, "0012"]),
            "conversionStatus": "pending",
            "commission": pick.choice(AMOUNTS),
        }
        while True:  # equal rows are several conversions, or clicks
            old_click = day < (self.now - timedelta(days=1)).date()  # clicks come a day late at most
            rows = self.transactions if (old_click and self._polled) or pick.random() < 0.6 else self.clicks
            rows.append({**row, "commission": pick.choice([row["commission"], *AMOUNTS[:2]])})
            if pick.random() < 0.8:
                return

    def _change_a_trade(self) -> None:
        number = self.pick.randrange(12)
        if self.trades.pop(number, None) is None:
            self.trades[number] = {"id": number, "status": self.pick.choice(TEXTS)}

    def change(self) -> None:
        pick = self.pick
        what = pick.choice(["state", "state", "drop", "add", "trade"])
        if what == "trade":
            self._change_a_trade()
        elif what == "add" or not self.transactions:
            self._add(self.now.date() - timedelta(days=pick.randrange(1, 5)))
        elif what == "drop":
            self.transactions.remove(pick.choice(self.transactions))
        else:
            row = pick.choice(self.transactions)
            row["conversionStatus"], row["commission"] = "approved, paid out", pick.choice(AMOUNTS)

    def truth(self, stream: str) -> Counter[str]:
        yesterday = self.now.date() - timedelta(days=1)
        if stream == "trades":
            return counted([row["id"], row["status"]] for row in self.trades.values())
        rows = [row for row in getattr(self, stream) if FIRST <= row["at"].date() <= yesterday]
        money = stream == "transactions"
        return counted(
            [
                f"{row['at']:%Y-%m-%d %H:%M:%S}",
                row["offerName"],
                row["reference"],
                *([row["trackingId"], row["conversionStatus"], plain(row["commission"])] if money else []),
            ]
            for row in rows
        )

    # --- its answers --------------------------------------------------------------------------------------------------

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        with self._lock:
            return self._failure(request) if self.failing and self.pick.random() < 0.2 else self._answer(request)

    def _failure(self, request: SandboxRequest) -> SandboxResponse:
        whole = self._answer(request)
        return self.pick.choice(
            [
                SandboxResponse(status=408, headers={"Content-Type": "text/plain"}, body=b"Request Time Out"),
                SandboxResponse(status=429, headers={"Retry-After": "7"}, body=b"{}"),
                SandboxResponse(status=302, headers={"Location": "https://login.example/"}),
                SandboxResponse(headers={"Content-Type": "text/html"}, body=b"<html>Maintenance</html>"),
                SandboxResponse(body=self.pick.choice([b"", b"null", b"{}", b"[]", b'{"detail": "busy"}'])),
                SandboxResponse(status=whole.status, headers=whole.headers, body=whole.body[: len(whole.body) // 2]),
                Scripted(steps=[b"HTTP/1.1 200 OK\r\nContent-Le", Reset()]),
                self._json({"data": [], "status": "FAILED", "pagesNumber": 0}),
                self._json({"data": [], "status": "READY", "pagesNumber": 3}),
            ]
        )

    def _answer(self, request: SandboxRequest) -> SandboxResponse:
        assert request.headers["x-api-token"] == TOKEN
        kind, _, report = request.path.removeprefix("/api/").partition("/")
        if request.method == "POST":
            report = f"r{len(self._reports)}"
            self._reports[report] = kind, self._requested(kind, json.loads(request.body))
            place = f"http://{request.headers['host']}" if self.absolute else ""
            return SandboxResponse(status=202, headers={"Location": f"{place}/api/{kind}/{report}?page=1"})
        self._polled[report] += 1
        if self._polled[report] <= self.polls:
            return self._json({"data": [], "token": TOKEN, "status": "IN_PROGRESS", "pagesNumber": 0})
        rows, page = self._reports[report][1], int(request.params["page"])
        pages = -(-len(rows) // self.per_page) or self.pages_of_none
        here = f"/api/{kind}/{report}?page="
        links = f'<{here}1>; rel="first", <{here}{pages}>; rel="last"'
        part = rows[(page - 1) * self.per_page : page * self.per_page]
        body = {"data": part, "token": TOKEN, "status": "READY", "pagesNumber": pages}
        return self._json(body, {self.links: links} if self.links else {})

    def _requested(self, kind: str, body: Mapping[str, Any]) -> list[Row]:
        if kind == "trades":
            rows = [{**row, "offer": None, "pricings": []} for row in self.trades.values()]
        else:
            since, to = datetime.fromisoformat(body["from"]), datetime.fromisoformat(body["to"])
            before = to + timedelta(seconds=1)  # it is included
            rows = [self._shown(kind, row) for row in getattr(self, kind) if since <= row["at"] < before]
        self.pick.shuffle(rows)
        return rows

    def _shown(self, kind: str, row: Row) -> Row:
        shown = {name: value for name, value in row.items() if name != "at"}
        shown["saved" if kind == "transactions" else "clickDate"] = f"{row['at']:%Y-%m-%dT%H:%M:%S}{self.zone}"
        if kind == "clicks":
            return {name: shown[name] for name in ("offerName", "reference", "clickDate")}
        amount = row["commission"]
        return {**shown, "commission": amount if self.amounts_as_text else f"§{amount}§"}

    def _json(self, value: Any, headers: Mapping[str, str] | None = None) -> SandboxResponse:
        body = json.dumps(value, ensure_ascii=False).replace('"§', "").replace('§"', "").encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        if self.compressed:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        return SandboxResponse(headers=headers, body=body)


def plain(amount: Any) -> str:
    """An amount in one form, however many zeros it was written with."""
    return f"{Decimal(str(amount)).normalize():f}"


def counted(rows: Iterable[list[Any]]) -> Counter[str]:
    return Counter(json.dumps(row, ensure_ascii=False) for row in rows)


def stored(out: Path, stream: str) -> Counter[str]:
    """The rows of a stream in the target, as :meth:`Drawn.truth` has them."""
    texts = [path.read_text(encoding="utf-8") for path in (out / "tc" / stream).rglob("data.jsonl")]
    rows = [json.loads(line, parse_float=Decimal) for text in texts for line in text.split("\n") if line]
    if stream == "trades":
        return counted([row["id"], row["status"]] for row in rows)
    money = stream == "transactions"
    return counted(
        [
            f"{datetime.fromisoformat(row['saved' if money else 'click_date']):%Y-%m-%d %H:%M:%S}",
            row["offer_name"],
            row["reference"],
            *([row["tracking_id"], row["conversion_status"], plain(row["commission"])] if money else []),
        ]
        for row in rows
    )


def read(provider: Drawn, server: Server, out: Path) -> int:
    settings = {"connector": "targetcircle", "base_url": server.base_url, "api_token": TOKEN, "currency": "EUR"}
    project = Project(
        {"source": {"tc": settings}},
        plugins=[connector_targetcircle.plugin, penstock_plugins],
        environ={},
        clock=lambda stop: FakeClock(provider.now, stop),
    )
    return project.run("tc", to=f"jsonl:{out}", streams=["transactions", "clicks", "trades"], since=FIRST).exit_code


def some_days(seed: int, out: Path, number: int) -> None:
    provider = Drawn(seed)
    with serve(provider) as server:
        for _ in range(number):
            provider.failing = True
            read(provider, server, out)
            provider.failing = False
            for _ in range(provider.pick.randrange(5)):
                provider.change()
            read(provider, server, out)  # takes over what the failing run submitted, with the rows of that time
            assert read(provider, server, out) == 0, provider
            for stream in ("transactions", "clicks", "trades"):
                assert stored(out, stream) == provider.truth(stream), (stream, provider)
            provider.now += timedelta(hours=provider.pick.choice([7, 24]))


@pytest.mark.parametrize(
    ("seed", "days"),
    [*((seed, 1) for seed in (1, 3)), *(pytest.param(seed, 6, marks=pytest.mark.soak) for seed in range(_FROM, _TO))],
)
def test_a_target_holds_the_rows_of_any_publisher_api(seed: int, days: int, tmp_path: Path) -> None:
    """
    However the API answers where the document is silent, and whatever failed before.
    """
    some_days(seed, tmp_path / "out", days)
