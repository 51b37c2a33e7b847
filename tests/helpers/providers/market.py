"""
A provider of many shops, for runs that are divided: a plugin that other processes import by name, and its imitation,
which counts the requests that it receives.
"""

import json
import os
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from attrs import define, evolve, field, frozen
from penstock import (
    AuthenticationError,
    Connector,
    Envelope,
    Grant,
    Limits,
    Parent,
    Ready,
    ReportState,
    Request,
    Response,
    SandboxRequest,
    SandboxResponse,
    Secret,
    Slice,
    SourceSettings,
    Stream,
    Unsigned,
    Waiting,
    hookimpl,
    record,
    setting,
)
from penstock.engines import Assignment, Channel, Message

FIRST = date(2026, 1, 5)
DAYS = 4
WINDOW = (FIRST, FIRST + timedelta(days=DAYS - 1))
SHOPS = tuple(f"shop{number}" for number in range(1, 7))
ALL = ("shops", "sales", "items", "stock", "orders", "events")


@frozen(kw_only=True)
class MarketSettings(SourceSettings):
    base_url: str = setting(help="where the shops answer")
    password: Secret = setting(help="for a token")
    shops: tuple[str, ...] = setting((), help="which shops; default: all that the provider lists")
    changing: bool = setting(False, help="each login ends the password before it, and grants a new one")


@frozen
class Tokens(Unsigned):
    """A token that a login grants. The imitation forgets every token but the last."""

    settings: MarketSettings

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        assert grant is not None
        return request.with_headers(("Authorization", grant.token.reveal()))

    def grant_request(self) -> Request:
        body = self.settings.password.reveal().encode()
        return Request(method="POST", url=f"{self.settings.base_url}/login", body=body, credentials=False)

    def read_grant(self, response: Response) -> Grant:
        if response.status != 200:
            raise AuthenticationError("the shops refused the password")
        return Grant(token=Secret(str((response.members() or {})["token"])))


@frozen
class ChangingTokens(Tokens):
    """Each login takes what the one before granted."""

    def read_grant(self, response: Response) -> Grant:
        members = response.members() or {}
        return evolve(Tokens.read_grant(self, response), keep={"password": Secret(str(members["password"]))})

    def renew_request(self, kept: Mapping[str, Secret]) -> Request:
        return evolve(self.grant_request(), body=kept["password"].reveal().encode())


@frozen
class Orders:
    """Reports that are ready at the second poll."""

    def handle(self, response: Response) -> str:
        return str((response.members() or {})["id"])

    def poll(self, submitted: Request, handle: str) -> Request:
        return Request(url=f"{submitted.url.rpartition('/')[0]}/orders/{handle}")

    def state(self, response: Response, age_s: float) -> ReportState:
        found = response.members() or {}
        return Ready() if found["ready"] else Waiting()

    def expired(self, response: Response) -> bool:
        return False


@record()
class Shop:
    name: str


@record()
class Sale:
    shop: str
    day: date
    id: int
    amount: int


@record()
class Item:
    shop: str
    id: int


@record()
class Stock:
    shop: str
    item: int
    count: int


@record()
class Order:
    shop: str
    day: date
    id: int


@record()
class Event:
    id: str
    at: datetime
    text: str


def _of_days(path: str) -> Any:
    def requests(settings: Any, slice_: Slice) -> Iterable[Request]:
        params = [("shop", slice_.account or ""), ("since", str(slice_.since)), ("until", str(slice_.until))]
        method = "POST" if path == "orders" else "GET"
        return [Request(method=method, url=f"{settings.base_url}/{path}", params=params)]

    return requests


def _of_shop(path: str) -> Any:
    def requests(settings: Any, slice_: Slice) -> Iterable[Request]:
        items = [str(parent["id"]) for parent in slice_.parents or ()]
        params = [("shop", slice_.account or ""), *(("item", one) for one in items)]
        return [Request(url=f"{settings.base_url}/{path}", params=params)]

    return requests


_LISTED: Any = {
    "account": "shop",
    "accounts_from": ("shops", "name"),
    "envelope": Envelope(items="rows", total="total"),
}
STREAMS = (
    Stream(
        name="shops",
        summary="shops",
        record=Shop,
        kind="snapshot",
        key="name",
        requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/shops")],
        envelope=Envelope(items="rows", total="total"),
    ),
    Stream(
        name="sales",
        summary="sales",
        record=Sale,
        kind="report",
        key="id",
        day="day",
        requests=_of_days("sales"),
        **_LISTED,
    ),
    Stream(
        name="items", summary="items", record=Item, kind="snapshot", key="id", requests=_of_shop("items"), **_LISTED
    ),
    Stream(
        name="stock",
        summary="the stock of each item",
        record=Stock,
        kind="snapshot",
        key="item",
        parent=Parent(stream="items", columns=("id",)),
        requests=_of_shop("stock"),
        **_LISTED,
    ),
    Stream(
        name="orders",
        summary="orders, by reports on demand",
        record=Order,
        kind="report",
        key="id",
        day="day",
        days_per_request=2,
        day_of="day",
        requests=_of_days("orders"),
        poller=lambda settings: Orders(),
        poll_first_s=0.01,
        **_LISTED,
    ),
    Stream(
        name="events",
        summary="events by time of change",
        record=Event,
        kind="changes",
        key="id",
        day="changed_day",
        requests=_of_days("events"),
        **_LISTED,
    ),
)


@hookimpl
def penstock_sources() -> Iterable[Connector]:
    yield Connector(
        name="market",
        summary="a market of many shops",
        settings=MarketSettings,
        authenticator=lambda settings: (ChangingTokens if settings.changing else Tokens)(settings),
        limits=Limits(concurrency=8),
    )


@hookimpl
def penstock_record_streams(source: str) -> Iterable[Stream]:
    return STREAMS if source == "market" else ()


@define(eq=False)
class Market:
    """
    The provider. Rows are a function of shop and day. ``slow_s``: how long each answer takes. ``window``: the days that
    a run reads.

    ``counts`` has the number of requests by path; ``at_once`` is the largest number that were open at a time, and
    ``times`` has when each arrived (logins apart). ``one_token``: a login ends every token granted before.
    ``changing``: a login ends its password, too, and grants another one. ``token_uses``: a token ends after so many
    requests (0: never); ``refused`` counts the requests with one that ended.
    """

    shops: tuple[str, ...] = SHOPS
    window: tuple[date, date] = WINDOW
    rows_per_day: int = 5
    slow_s: float = 0.0
    one_token: bool = False
    changing: bool = False
    token_uses: int = 0
    throttled: Any = lambda request: None  # an answer in place of the right one
    login_answer: SandboxResponse | None = None  # in place of the right one
    counts: Counter[str] = field(factory=Counter, init=False)
    submitted: list[tuple[str, str, str]] = field(factory=list, init=False)
    refused: int = field(default=0, init=False)
    at_once: int = field(default=0, init=False)
    times: list[float] = field(factory=list, init=False)
    _open: int = field(default=0, init=False)
    _tokens: list[str] = field(factory=list, init=False)
    _password: bytes = field(default=b"sesame", init=False)
    _uses: Counter[str] = field(factory=Counter, init=False)
    _polled: Counter[str] = field(factory=Counter, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        with self._lock:
            self.counts[request.path.split("/")[1]] += 1
            if request.path == "/login":
                return self.login_answer or self._login(request)
            token = request.headers.get("authorization", "")
            if token not in self._tokens:
                self.refused += 1
                return SandboxResponse(status=401)
            self._uses[token] += 1
            if self._uses[token] == self.token_uses:
                self._tokens.remove(token)
            self.times.append(time.monotonic())
            self._open += 1
            self.at_once = max(self.at_once, self._open)
        try:
            time.sleep(self.slow_s)
            return self.throttled(request) or SandboxResponse(body=json.dumps(self._answer(request)).encode())
        finally:
            with self._lock:
                self._open -= 1

    def _login(self, request: SandboxRequest) -> SandboxResponse:
        if request.body != self._password:
            return SandboxResponse(status=403)
        if self.changing:
            self._password = f"password-number-{self.counts['login']}-of-the-market".encode()
        if self.one_token:
            self._tokens.clear()
        self._tokens.append(f"token-number-{self.counts['login']}-of-the-market")
        granted = {"token": self._tokens[-1], "password": self._password.decode()}
        return SandboxResponse(body=json.dumps(granted).encode())

    def _answer(self, request: SandboxRequest) -> Any:
        pairs = parse_qsl(request.target.partition("?")[2])
        params = dict(pairs)
        shop, path = params.get("shop", ""), request.path
        if path == "/shops":
            return listed([{"name": name} for name in self.shops])
        if path == "/orders":
            with self._lock:
                self.submitted.append((shop, params["since"], params["until"]))
                number = len(self.submitted)
            return {"id": f"{shop}.{params['since']}.{params['until']}.{number}"}
        if path.startswith("/orders/"):
            shop, since, until, _ = path.rpartition("/")[2].split(".")
            with self._lock:
                self._polled[path] += 1
            return {**listed(self.rows("orders", shop, _days(since, until))), "ready": self._polled[path] > 1}
        if path == "/stock":
            return listed([self.stock(shop, int(item)) for name, item in pairs if name == "item"])
        if path == "/items":
            return listed(self.rows("items", shop, []))
        return listed(self.rows(path[1:], shop, _days(params["since"], params["until"])))

    def submitted_again(self) -> list[tuple[str, str, str]]:
        """Reports that were submitted once more although an earlier handle had been polled, so had been read."""
        with self._lock:
            read = [f"/orders/{'.'.join(one)}.{number}" in self._polled for number, one in enumerate(self.submitted, 1)]
            return [
                one for number, one in enumerate(self.submitted) if read[number] and one in self.submitted[number + 1 :]
            ]

    def most_in_a_second(self) -> int:
        """The largest number of requests, logins apart, that arrived within a second, wherever it begins."""
        times = sorted(self.times)
        return max((bisect_left(times, one + 1) - number for number, one in enumerate(times)), default=0)

    def forget(self) -> None:
        """Count from the start."""
        with self._lock:
            for counted in (self.counts, self.submitted, self.times, self._polled):
                counted.clear()
            self.at_once = 0

    def stock(self, shop: str, item: int) -> dict[str, Any]:
        return {"shop": shop, "item": item, "count": item % 7}

    def rows(self, stream: str, shop: str, days: Iterable[date]) -> list[dict[str, Any]]:
        """The rows of a shop."""
        base = 1000 * (self.shops.index(shop) + 1)
        if stream == "items":
            return [{"shop": shop, "id": base + number} for number in range(3)]
        if stream == "stock":
            return [self.stock(shop, base + number) for number in range(3)]
        if stream == "events":
            return [
                {"id": f"{shop}-{number}", "at": f"{day}T1{number}:00:00Z", "text": f"of {day}"}
                for day in days
                for number in range(3)
            ]
        more = {"amount": 7} if stream == "sales" else {}
        return [
            {"shop": shop, "day": str(day), "id": (day - FIRST).days * 1_000_000 + base + number, **more}
            for day in days
            for number in range(self.rows_per_day)
        ]

    def expected(self, stream: str) -> list[tuple[Any, ...]]:
        """What a target must hold of a stream, as :func:`held` shows it."""
        days = list(_days(*map(str, self.window)))
        if stream == "shops":
            return sorted((name,) for name in self.shops)
        rows = [row for shop in self.shops for row in self.rows(stream, shop, days)]
        if stream == "events":
            rows = list({row["id"]: row for row in rows}.values())
        return shown(stream, rows)


_SHOWN: Mapping[str, tuple[str, ...]] = {
    "shops": ("name",),
    "sales": ("shop", "day", "id", "amount"),
    "items": ("shop", "id"),
    "stock": ("shop", "item", "count"),
    "orders": ("shop", "day", "id"),
    "events": ("id", "text"),
}


def shown(stream: str, rows: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """The columns of rows that are compared, sorted."""
    return sorted(tuple(str(row[name]) for name in _SHOWN[stream]) for row in rows)


def listed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"rows": rows, "total": len(rows)}


def _days(since: str, until: str) -> list[date]:
    first, last = date.fromisoformat(since), date.fromisoformat(until)
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def fail(assignment: Assignment, channel: Channel) -> Message:
    """Work that fails with a secret which only the worker knows."""
    secret = Secret("only-in-the-worker")
    raise KeyError(f"token={secret.reveal()}")


def end_once(marker: Path) -> None:
    """A trial of which the first worker dies."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    os._exit(9)


def wait(assignment: Assignment, channel: Channel) -> Message:
    """Work that requests the state of the run until its channel is cut."""
    while True:
        channel.request({"kind": "state"})
        time.sleep(0.1)


def queues(dask_scheduler: Any) -> list[str]:
    """The names of a Dask scheduler's queues, in its process."""
    return list(dask_scheduler.extensions["queues"].queues)
