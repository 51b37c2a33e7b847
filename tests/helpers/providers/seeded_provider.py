"""
A provider that is drawn from a number: what it offers, how it pages, what it makes of a report, and its true rows.

The traits are combined as no provider that we know combines them, as a connector of somebody else may declare them.
"""

import csv
import gzip
import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import unquote, urlencode
from zoneinfo import ZoneInfo

from attrs import define, evolve, field, frozen
from penstock import (
    NUMBER_FORMATS,
    Connector,
    Derived,
    Envelope,
    Json,
    OpenFor,
    Parent,
    ReportFile,
    Request,
    SandboxRequest,
    SandboxResponse,
    Secret,
    Slice,
    SourceSettings,
    Stream,
    added,
    column,
    hookimpl,
    money,
    named,
    record,
    row_key,
)

Row = dict[str, Any]
Plain = tuple[Any, ...]
"""A row as it is compared: its account, its key, and its values."""

NOTES = ("plain", "", 'comma, "quote" and\nline', "Zürich ☃", "\\N", "null", "-", "0012", " blank ", "tab\there", None)
NOTES_OF_LATIN_1 = tuple(note for note in NOTES if note is None or "☃" not in note)
AMOUNTS = ("0", "1.5", "0.1", "-3.07", "12345678901234.123456", "1e2", "100", "7.000000001")
CURRENCIES = ("EUR", "USD", "JPY")
SECRET = Secret("of-the-shop")
JSON_NUMBER = "§"  # in front of a text that is a number in JSON
TIME_FORMS = ("", "", "epoch_s", "epoch_ms", "epoch", "%d/%m/%Y %H:%M:%S %z")


@record()
class Line:
    """A line of an entry."""

    id: str = added()
    number: int = column(default=...)
    price: Decimal = column(additive=True)


@record()
class ListedLine:
    """A line of one of several entries, which it names."""

    id: str
    number: int
    price: Decimal = column(additive=True)


@record(kind="snapshot", key="shop_id")
class Shop:
    """A shop, as the provider lists it."""

    shop_id: str
    zone: str | None = None


@frozen(kw_only=True)
class Written:
    """How a provider writes its values."""

    time: str  # a format of a column; "": ISO 8601
    offset: bool  # ISO times have an offset other than UTC
    number: str  # a format of a column; "": plain text; "json": a number
    brackets: bool  # negative numbers of such a format are in brackets
    amount: str  # the path of the amount
    currency: bool  # each amount has one of its own
    delimiter: str  # this and the following: of CSV
    encoding: str
    title: bool  # lines before the header
    totals: bool  # a last row with the sum
    members: int  # the files of a zip

    @classmethod
    def drawn(cls, pick: Random, *, csv: bool) -> "Written":
        number = pick.choice(["json", "", "", *NUMBER_FORMATS])
        currency = pick.random() < 0.3
        return cls(
            time=pick.choice(TIME_FORMS),
            offset=pick.random() < 0.3,
            number="" if csv and number == "json" else number,
            brackets=pick.random() < 0.5,
            amount="amount" if csv else pick.choice(["amount", "amount", "sum.value"]),
            currency=currency,
            delimiter=pick.choice([",", ";", "\t", "|"]),
            encoding=pick.choice(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
            title=pick.random() < 0.3,
            totals=not currency and pick.random() < 0.5,
            members=pick.choice([1, 2]),
        )

    def record(self, *, keyless: bool, grouped: bool, state: bool) -> type:
        """The record class that reads them."""
        options: dict[str, Any] = {"number": self.number} if self.number not in ("", "json") else {}
        if self.currency:
            amount = money(self.amount, currency="currency", **options)
        else:
            amount = column(
                path=None if self.amount == "amount" else self.amount, additive=True, default=..., **options
            )
        members: dict[str, tuple[Any, Any]] = {
            "id": (str, row_key("at", "amount", "note", "size") if keyless else ...),
            "at": (datetime, column(format=self.time, default=...)),
            "amount": (Decimal, amount),
            "note": (str | None, None),
            "size": (int | None, None),
            "lines": (Json, None),
        }
        members |= {"group_name": (str, added())} if grouped else {}
        members |= {"state": (str | None, None)} if state else {}
        values = {name: value for name, (_, value) in members.items() if value is not ...}
        types = {name: type_ for name, (type_, _) in members.items()}
        made: type = type("Entry", (), {"__doc__": "What happened in a shop.", "__annotations__": types, **values})
        return record()(made)

    def time_of(self, at: str) -> Any:
        moment = datetime.fromisoformat(at)
        if self.time.startswith("epoch"):
            return int(moment.timestamp()) * (1 if self.time != "epoch_ms" else 1000)
        shown = moment.astimezone(ZoneInfo("Asia/Kolkata")) if self.offset else moment
        return shown.strftime(self.time) if self.time else shown.isoformat()

    def number_of(self, amount: str) -> Any:
        """The amount as it is written; ``JSON_NUMBER`` in front of one that is a number in JSON."""
        if self.number == "json":
            return JSON_NUMBER + amount
        if not self.number:
            return amount
        thousands, decimal = (self.number[1], self.number[-2]) if len(self.number) > 6 else ("", self.number[-2])
        whole, _, digits = f"{abs(Decimal(amount)):f}".partition(".")
        text = f"{int(whole):,}".replace(",", thousands) + (decimal + digits if digits else "")
        if Decimal(amount) >= 0:
            return text
        return f"({text})" if self.brackets else f"-{text}"


@frozen(kw_only=True)
class Traits:
    """What a provider does, and how a connector declares it."""

    kind: str
    shops: tuple[str, ...]  # the accounts; empty: the stream has none
    listed: bool  # the provider lists its accounts
    zone: str
    zones: dict[str, str]  # of accounts with a zone of their own
    paging: str  # the name of the paginator; "": one page
    in_body: bool  # paging and filters are in the body of a POST
    total: bool
    more: bool
    size: int
    capped: bool  # the provider lowers the page size silently
    report: str  # how a report on demand gives its rows: "inline", "pages", "csv.gz", ...; "": no report
    days: int  # of one request
    states: bool  # a slice takes two requests, of open and of closed entries
    lines: str  # "derived", "child", or "": what has the lines of an entry
    order: str
    open_days: int
    ceiling: int | None
    stamped: bool  # rows have the day that was requested
    first: date  # the first day of every run; clocks are set forward or back after some
    ends_with_404: bool  # a page after the last one
    too_large: bool  # pages of the declared size are refused
    written: "Written"
    keyless: bool  # entries have no id; equal ones are several entries
    grouped: str  # how the rows of a page are grouped: "keyed", "within", or "": not
    optional: bool  # an empty page has no rows at all, or null
    zones_listed: bool  # the provider lists the zones of its accounts
    lines_per_request: int
    tokens: bool  # requests need a token, which the provider revokes after some
    settles: int  # for so many days after the declared ones the provider states that its rows are not final

    @classmethod
    def drawn(cls, pick: Random) -> "Traits":
        """Traits that go together."""
        kind = pick.choice(["report", "report", "report", "snapshot", "changes"])
        shops = pick.choice([(), ("a",), ("a", "b/c", "ü"), ("1", "2", "3", "4", "5")])
        zones = {shop: pick.choice(["America/Los_Angeles", "Asia/Tokyo", "UTC"]) for shop in shops}
        days = pick.choice([1, 1, 2, 3, 7])
        paging = pick.choice(["page_number", "page_number", "offset", "cursor", "link", ""])
        report = pick.choice(["inline", "pages", "csv.gz", "jsonl.gz", "csv.zip"])
        report = report if kind != "changes" and pick.random() < 0.35 else ""
        size = pick.choice([1, 2, 3, 7])
        lines = pick.choice(["", "derived", "child"])
        counts = not report and paging in ("page_number", "offset")
        ceiling = 3 * size if counts and kind != "snapshot" and pick.random() < 0.2 else None
        lines = "" if report.startswith("csv") or (kind == "changes" and lines == "child") else lines
        listed = bool(shops) and pick.random() < 0.4
        file = report.endswith(("gz", "zip"))
        return cls(
            kind=kind,
            shops=shops,
            listed=listed,
            zone=pick.choice(["UTC", "UTC", "America/New_York", "Pacific/Auckland"]),
            zones=zones if kind == "report" and pick.random() < 0.2 else {},
            paging=paging if report in ("", "pages") else "",
            in_body=not report and paging not in ("link", "") and pick.random() < 0.3,
            total=pick.random() < 0.5,
            more=paging != "" and pick.random() < 0.3,
            size=size,
            capped=pick.random() < 0.2 and not report,
            report=report,
            days=days if kind == "report" else 1,
            states=pick.random() < 0.3,
            lines=lines,
            order=pick.choice(["id", "at", "backwards"]),
            open_days=pick.choice([0, 1, 2, 3]),
            ceiling=ceiling,
            stamped=days == 1 and kind == "report" and ceiling is None and pick.random() < 0.5,
            first=pick.choice([date(2026, 6, 10), date(2026, 3, 4), date(2026, 10, 20), date(2026, 10, 27)]),
            ends_with_404=counts and pick.random() < 0.3,
            too_large=counts and ceiling is None and size > 1 and pick.random() < 0.3,
            written=Written.drawn(pick, csv=report.startswith("csv")),
            keyless=not lines and kind != "changes" and pick.random() < 0.2,
            grouped=pick.choice(["", "keyed", "within"]) if not file else "",
            optional=not file and pick.random() < 0.3,
            zones_listed=listed and pick.random() < 0.5,
            lines_per_request=pick.choice([1, 1, 2, 5]),
            tokens=pick.random() < 0.3,
            settles=pick.choice([0, 2]) if kind == "report" and not file else 0,
        )


@define(eq=False, kw_only=True)
class SeededProvider:
    """
    The provider of a number. ``rows`` holds the entries, by shop and id.

    ``failing``: some answers fail. ``moving``: rows change while they are read. ``stop``: is set at the request
    ``stop_at``. ``unfit``: the id of an entry whose amount is no number. ``new_column``: the connector declares a
    column that it left out before. ``disturb``: is called now and then while answers fail.
    """

    seed: int
    now: datetime = field(init=False)
    failing: bool = False
    moving: bool = False
    stop: threading.Event | None = None
    stop_at: int = 0
    unfit: str = ""
    new_column: bool = False
    disturb: Callable[[], None] = lambda: None
    pick: Random = field(init=False)
    traits: Traits = field(init=False)
    rows: dict[str, dict[str, Row]] = field(factory=dict, init=False)
    _reports: list[tuple[list[Row], bool]] = field(factory=list, init=False)
    _polled: set[int] = field(factory=set, init=False)
    _requests: int = field(default=0, init=False)
    _made: int = field(default=0, init=False)
    _token: int = field(default=0, init=False)
    _token_left: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.pick = Random(self.seed)
        self.traits = Traits.drawn(self.pick)
        first = datetime.combine(self.traits.first, time(), UTC)
        self.now = first + timedelta(days=7, hours=self.pick.randrange(24), minutes=30)
        self.rows = {shop: {} for shop in self.traits.shops or ("",)}
        start = datetime.combine(self.traits.first, time(), self._zone(""))
        for _ in range(self.pick.randrange(5, 60)):
            self._add(start + (self.now - start) * self.pick.random())

    # --- its rows ---------------------------------------------------------------------------------------------------

    def _zone(self, shop: str) -> ZoneInfo:
        return ZoneInfo(self.traits.zones.get(shop, self.traits.zone))

    def _day(self, row: Row) -> date:
        return datetime.fromisoformat(row["at"]).astimezone(self._zone(row["shop"])).date()

    def _is_open(self, row: Row) -> bool:
        """Whether the provider may still change it."""
        zone = self._zone(row["shop"])
        end = datetime.combine(self._day(row) + timedelta(days=1), time(), zone)
        days = self.traits.open_days + self.traits.settles
        return self.traits.kind == "snapshot" or self.now < end + timedelta(days=days)

    def _amount(self) -> str:
        return self.pick.choice(AMOUNTS)

    def _add(self, at: datetime) -> None:
        pick, shop = self.pick, self.pick.choice(list(self.rows))
        self._made += 1
        row = {
            "shop": shop,
            "id": f"{pick.choice(['x', 'Y', 'é'])}{self._made}",
            "at": at.astimezone(UTC).replace(microsecond=0).isoformat(),
            "amount": self._amount(),
            "note": pick.choice(NOTES if self.traits.written.encoding.startswith("utf") else NOTES_OF_LATIN_1),
            "currency": pick.choice(CURRENCIES),
            "group": pick.choice(["north", "süd"]),
            "size": pick.choice([None, 0, 5, 2**53 + 1]),
            "lines": [{"number": number, "price": self._amount()} for number in range(pick.randrange(3))],
            "state": pick.choice(["open", "closed"]),
        }
        self.rows[shop][row["id"]] = row
        if self.traits.keyless and not self.traits.paging and pick.random() < 0.2:
            self._made += 1
            self._put({**row, "id": f"twin{self._made}"})

    def change(self) -> None:
        """Change one thing, as a provider may: of changes any row, which is then new; else one of an open day."""
        pick, lately = self.pick, self.now - timedelta(seconds=self.pick.randrange(1, 3000))
        rows = [row for own in self.rows.values() for row in own.values()]
        if self.traits.kind == "changes":
            if not rows or pick.random() < 0.3:
                self._add(lately)
            else:
                at = lately.astimezone(UTC).replace(microsecond=0).isoformat()
                self._put({**pick.choice(rows), "amount": self._amount(), "at": at})
            return
        open_rows = [row for row in rows if self._is_open(row)]
        what = pick.choice(["amount", "amount", "drop", "add", "state", "move"])
        if what == "add" or not open_rows:
            self._add_to_an_open_day()
            return
        row = pick.choice(open_rows)
        if what == "drop":
            del self.rows[row["shop"]][row["id"]]
        elif what == "state":
            self._put({**row, "state": pick.choice(["open", "closed"])})
        elif what == "move":
            at = datetime.fromisoformat(row["at"]) + timedelta(hours=pick.choice([-30, 5, 30]))
            moved = {**row, "at": at.isoformat()}
            if self._is_open(moved) and self._day(moved) >= self.traits.first and at < self.now:
                self._put(moved)
        else:
            self._put({**row, "amount": self._amount(), "lines": row["lines"][:1]})

    def _put(self, row: Row) -> None:
        self.rows[row["shop"]][row["id"]] = row

    def _add_to_an_open_day(self) -> None:
        noons = [datetime.combine(self.traits.first, time(12), UTC) + timedelta(days=number) for number in range(60)]
        open_noons = [
            noon
            for noon in noons
            if noon < self.now
            and all(self._is_open({"at": (noon - timedelta(days=1)).isoformat(), "shop": shop}) for shop in self.rows)
        ]
        if open_noons:
            self._add(self.pick.choice(open_noons) + timedelta(seconds=self.pick.randrange(40_000)))

    def truth(self, stream: str) -> list[Plain]:
        """What a target holds after a run in which nothing failed."""
        found: list[Plain] = []
        for shop, own in self.rows.items():
            yesterday = self.now.astimezone(self._zone(shop)).date() - timedelta(days=1)
            for row in own.values():
                if self.traits.kind == "report" and not self.traits.first <= self._day(row) <= yesterday:
                    continue
                if stream == "entries":
                    written = self.traits.written
                    id_ = "" if self.traits.keyless else row["id"]
                    more = (row["currency"] if written.currency else "", row["group"] if self.traits.grouped else "")
                    found.append((shop, id_, plain(row["amount"]), row["note"] or None, row["size"], *more))
                else:
                    found += [(shop, row["id"], plain(line["price"]), line["number"]) for line in row["lines"]]
        return sorted(found, key=repr)

    # --- what a connector declares ------------------------------------------------------------------------------------

    @hookimpl
    def penstock_sources(self) -> Sequence[Connector]:
        return [
            Connector(
                name="shop",
                summary="an invented provider",
                settings=SourceSettings,
                authenticator=lambda settings: (
                    named("oauth_client", url=f"{settings.base_url}/token", client_id="us", client_secret=SECRET)
                    if self.traits.tokens
                    else named("header_tokens", headers={"X-Token": SECRET})
                ),
            )
        ]

    @hookimpl
    def penstock_record_streams(self, source: str) -> Sequence[Stream]:
        return self.streams if source == "shop" else ()

    @property
    def streams(self) -> list[Stream]:
        """The entries, what has their lines, and the list of shops where the provider has one."""
        traits = self.traits
        accounts: dict[str, Any] = {}
        if traits.shops:
            accounts = {"account": "shop_id"}
            accounts |= (
                {"accounts_from": ("shops", "shop_id"), "zone_from": "zone" if traits.zones_listed else None}
                if traits.listed
                else {"accounts": lambda settings: list(traits.shops)}
            )
        common: dict[str, Any] = {**accounts, "kind": traits.kind}
        if traits.kind != "snapshot":
            common |= {"day": "entry_day", "open_for": OpenFor(traits.open_days)}
        entries = Stream(
            name="entries",
            record=traits.written.record(keyless=traits.keyless, grouped=bool(traits.grouped), state=self.new_column),
            key="id",
            day_of=None if traits.stamped or traits.kind == "snapshot" else "at",
            days_per_request=traits.days,
            envelope=self._envelope(),
            paginator=self._paginator(),
            requests=self._first_requests,
            poller=self._poller(),
            downloads=self._downloads() if traits.report.endswith(("gz", "zip")) else None,
            lookback=timedelta(hours=1) if traits.kind == "changes" else timedelta(0),
            **common,
        )
        found = [entries]
        if traits.lines == "derived":
            derived = Derived(stream="entries", column="lines", stamps={"id": "id"})
            found.append(Stream(name="lines", record=Line, key=("id", "number"), derived=derived, **common))
        elif traits.lines == "child":
            several = traits.lines_per_request > 1
            parent = Parent(stream="entries", columns=("id",), per_request=traits.lines_per_request)
            by_parent: dict[str, Any] = (
                {"path": "/lines", "json": {"ids": ["{id}"]}} if several else {"path": "/lines/{id}"}
            )
            child = {"parent": parent, "envelope": Envelope(items="data.rows"), **by_parent, **common}
            record_class = ListedLine if several else Line
            found.append(Stream(name="lines", record=record_class, key=("id", "number"), **child))
        if traits.listed:
            found.append(Stream(name="shops", record=Shop, path="/shops", envelope=Envelope(items="shops")))
        return found

    def _envelope(self) -> Envelope:
        traits = self.traits
        grouped: dict[str, dict[str, Any]] = {
            "keyed": {"keyed_by": "group_name"},
            "within": {"within": "rows", "stamps": {"group_name": "name"}},
        }
        return Envelope(
            items="data.rows",
            total="meta.total" if traits.total else (),
            head=("meta.next", "meta.more"),
            optional=traits.optional,
            provisional_unless={"meta.final": True} if traits.settles else {},
            **grouped.get(traits.grouped, {}),
        )

    def _downloads(self) -> ReportFile:
        traits, written = self.traits, self.traits.written
        if not traits.report.startswith("csv"):
            return ReportFile()
        return ReportFile(
            header=("at", "amount") if written.title else (),
            encoding=written.encoding if written.encoding == "latin-1" else None,
            totals=("Total",) if written.totals else (),
        )

    def _paginator(self) -> Any:
        traits = self.traits
        if not traits.paging:
            return None
        options: dict[str, Any] = {"more": "meta.more"} if traits.more else {}
        if traits.paging in ("cursor", "link"):
            options["member"] = "meta.next"
        if traits.paging != "link":
            at = "paging." if traits.in_body else ""
            param = {"page_number": "page", "offset": "offset", "cursor": "cursor"}[traits.paging]
            options |= {"param": at + param, "size_param": f"{at}size", "size": traits.size}
            options |= {"place": "body"} if traits.in_body else {}
        if traits.ceiling is not None:
            options["ceiling"] = traits.ceiling
        options |= {"ends_on": (404,)} if traits.ends_with_404 else {}
        options |= {"too_large": (413,)} if traits.too_large else {}
        return named(traits.paging, **options)

    def _poller(self) -> Any:
        report = self.traits.report
        if not report:
            return None
        places = {"pages": {"rows_url": "/reports/{id}/rows"}, "inline": {}}
        return named("polled", **places.get(report, {"download_at": "files"}))

    def _first_requests(self, settings: Any, slice_: Slice) -> list[Request]:
        traits = self.traits
        selected: dict[str, str] = {"shop": str(slice_.account)} if traits.shops else {}
        if traits.kind == "changes" or traits.ceiling is not None:
            assert slice_.start is not None
            assert slice_.end is not None
            selected |= {"start": slice_.start.isoformat(), "end": slice_.end.isoformat()}
        elif traits.kind == "report":
            selected |= {"since": str(slice_.since), "until": str(slice_.until)}
        every = [{**selected, "state": state} for state in ("open", "closed")] if traits.states else [selected]
        if traits.report or traits.in_body:
            path = "reports" if traits.report else "search"
            return [Request.json("POST", f"{settings.base_url}/{path}", one) for one in every]
        return [Request(url=f"{settings.base_url}/entries", params=list(one.items())) for one in every]

    # --- its answers ------------------------------------------------------------------------------------------------

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        self._requests += 1
        if self.stop is not None and self._requests >= self.stop_at:
            self.stop.set()
        if self.moving and self.pick.random() < 0.12:
            self.change()
        if request.path == "/token":
            self._token += 1
            self._token_left = 25
            return _json({"access_token": f"token-{self._token}", "expires_in": 3600})
        if self.failing and self.pick.random() < 0.02:
            self.disturb()
        if self.failing and self.pick.random() < 0.08:
            return self._failure(request)
        if self.traits.tokens and not request.path.startswith("/files/"):
            self._token_left -= 1
            if request.headers.get("authorization") != f"Bearer token-{self._token}" or self._token_left < 0:
                return SandboxResponse(status=401)
        return self._answer(request)

    def stop_soon(self, stop: threading.Event) -> None:
        """Set this event at one of the next requests."""
        self.stop, self.stop_at = stop, self._requests + self.pick.randrange(12)

    def _failure(self, request: SandboxRequest) -> SandboxResponse:
        good = self._answer(request)
        return self.pick.choice(
            [
                SandboxResponse(status=500, body=b"{}"),
                SandboxResponse(status=503),
                SandboxResponse(status=429, headers={"Retry-After": "1"}),
                SandboxResponse(headers={"Content-Type": "text/html"}, body=b"<html>Sign in</html>"),
                SandboxResponse(body=b""),
                SandboxResponse(body=b"[3]" if self.traits.optional else b"null"),
                evolve(good, body=good.body[: len(good.body) // 2]),
            ]
        )

    def _answer(self, request: SandboxRequest) -> SandboxResponse:
        place, _, rest = request.path.lstrip("/").partition("/")
        if place == "shops":
            return _json({"shops": [{"shop_id": shop, "zone": str(self._zone(shop))} for shop in self.rows]})
        if place == "lines":
            ids = json.loads(request.body)["ids"] if request.method == "POST" else [unquote(rest)]
            found = [own[id_] for id_ in ids for own in self.rows.values() if id_ in own]
            named_lines = [{"id": row["id"], **line} for row in found for line in row["lines"]]
            return _json({"data": {"rows": named_lines if request.method == "POST" else found and found[0]["lines"]}})
        if place == "entries":
            rows = self._selected(request.params)
            return self._page(rows, self._is_final(request.params), request.params, request)
        selected = json.loads(request.body) if request.method == "POST" else {}
        if place == "search":
            rows = self._selected(selected)
            return self._page(rows, self._is_final(selected), selected.get("paging", {}), request)
        if request.method == "POST":
            rows = [dict(row) for row in self._selected(selected)]
            self._reports.append((rows, self._is_final(selected)))
            return _json({"id": len(self._reports) - 1})
        number = int(rest.partition("/")[0])
        if place == "files":
            return self._file(self._reports[number][0])
        if rest.endswith("/rows"):
            return self._page(*self._reports[number], request.params, request)
        return self._state(number, request)

    def _state(self, number: int, request: SandboxRequest) -> SandboxResponse:
        if number not in self._polled:
            self._polled.add(number)
            return _json({"id": number, "status": "pending"})
        rows, final = self._reports[number]
        return _json(
            {
                "id": number,
                "status": "ready",
                "data": self._data(rows if self.traits.report == "inline" else []),
                "meta": {"total": len(rows), "final": final},
                "files": [f"http://{request.headers['host']}/files/{number}"],
            }
        )

    def _selected(self, filters: Any) -> list[Row]:
        rows = list(self.rows[filters.get("shop", "")].values())
        if "since" in filters:
            rows = [row for row in rows if filters["since"] <= str(self._day(row)) <= filters["until"]]
        if "start" in filters:
            start, end = (datetime.fromisoformat(filters[name]) for name in ("start", "end"))
            rows = [row for row in rows if start <= datetime.fromisoformat(row["at"]) < end]
        if "state" in filters:
            rows = [row for row in rows if row["state"] == filters["state"]]
        order = {"id": lambda row: row["id"], "at": lambda row: (row["at"], row["id"])}
        return sorted(rows, key=order.get(self.traits.order, lambda row: row["id"][::-1]))

    def _page(self, rows: list[Row], final: bool, paging: Any, request: SandboxRequest) -> SandboxResponse:
        traits, total = self.traits, len(rows)
        rows = rows if traits.ceiling is None else rows[: traits.ceiling]
        size = int(paging.get("size") or traits.size) if traits.paging else len(rows) + 1
        if traits.too_large and size >= traits.size:
            return SandboxResponse(status=413)
        size = max(1, min(size, traits.size - 1)) if traits.capped and traits.paging else size
        start = int(paging.get("offset") or paging.get("cursor") or paging.get("from") or 0)
        start = (int(paging["page"]) - 1) * size if "page" in paging else start
        if traits.ends_with_404 and start > 0 and start >= len(rows):
            return SandboxResponse(status=404)
        following = start + size if start + size < len(rows) else None
        next_: Any = following
        if following is not None and traits.paging == "link":
            kept = [(name, value) for name, value in request.params.items() if name != "from"]
            next_ = f"{request.path}?{urlencode([*kept, ('from', following)])}"
        meta = {"total": total, "more": following is not None, "next": next_, "final": final}
        return _json({"data": self._data(rows[start : start + size]), "meta": meta})

    def _is_final(self, filters: Any) -> bool:
        """Whether the rows of all requested days stay as they are."""
        if "until" not in filters and "end" not in filters:
            return False
        shop = filters.get("shop", "")
        last = date.fromisoformat(filters.get("until", "1970-01-01"))
        noon = datetime.combine(last, time(12), self._zone(shop)).isoformat()
        return not self._is_open({"shop": shop, "at": filters.get("end", noon)})

    def _data(self, rows: list[Row]) -> Row:
        """The rows of a page, in the form that they have in its body."""
        grouped: dict[str, list[Row]] = {}
        for row in rows:
            grouped.setdefault(row["group"], []).append(self._shown(row))
        if not rows and self.traits.optional:
            return self.pick.choice([{}, {"rows": None}, {"rows": []}])
        if self.traits.grouped == "keyed":
            return {"rows": grouped}
        if self.traits.grouped == "within":
            return {"rows": [{"name": name, "rows": own} for name, own in grouped.items()]}
        return {"rows": list(map(self._shown, rows))}

    def _shown(self, row: Row) -> Row:
        """A row as the provider writes it."""
        written = self.traits.written
        shown: Row = {"at": written.time_of(row["at"]), "note": row["note"], "size": row["size"], "state": row["state"]}
        shown |= {} if self.traits.keyless else {"id": row["id"]}
        shown |= {"lines": row["lines"]} if self.traits.lines != "child" else {}
        shown |= {"currency": row["currency"]} if written.currency else {}
        first, _, rest = written.amount.partition(".")
        amount = "none yet" if row["id"] == self.unfit else written.number_of(row["amount"])
        return {**shown, first: {rest: amount, "of": "all"} if rest else amount}

    def _file(self, rows: list[Row]) -> SandboxResponse:
        if self.traits.report == "jsonl.gz":
            lines = [_json_text(self._shown(row)) + "\n" for row in rows]
            return SandboxResponse(body=gzip.compress("".join(lines or ["[]"]).encode()))
        if self.traits.report == "csv.gz":
            return SandboxResponse(body=gzip.compress(self._csv(rows)))
        packed, number = io.BytesIO(), self.traits.written.members
        with zipfile.ZipFile(packed, "w") as archive:
            for first in range(number):
                archive.writestr(f"report-{first}.csv", self._csv(rows[first::number]))
        return SandboxResponse(body=packed.getvalue())

    def _csv(self, rows: list[Row]) -> bytes:
        written = self.traits.written
        names = ["id", "at", "amount", "note", "size", "currency"][1 if self.traits.keyless else 0 :]
        text = io.StringIO()
        if written.title:
            text.write("A report of the shop\r\nall of it\r\n\r\n")
        writer = csv.DictWriter(
            text, names if written.currency else names[:-1], extrasaction="ignore", delimiter=written.delimiter
        )
        writer.writeheader()
        writer.writerows(map(self._shown, rows))
        if written.totals:
            total = sum((Decimal(row["amount"]) for row in rows), Decimal())
            writer.writerow({names[0]: "Total", "amount": written.number_of(f"{total:f}")})
        return text.getvalue().encode(written.encoding)


def plain(number: Any) -> Decimal:
    """A number in one form, however many zeros it was written with."""
    return Decimal(str(number)).normalize()


def _json_text(value: Any) -> str:
    return re.sub(f'"{JSON_NUMBER}([^"]*)"', r"\1", json.dumps(value, ensure_ascii=False))


def _json(value: Any) -> SandboxResponse:
    return SandboxResponse(headers={"Content-Type": "application/json"}, body=_json_text(value).encode())
