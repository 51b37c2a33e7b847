"""
A provider that is drawn from a number: what it offers, how it pages, what it makes of a report, and its true rows.

The traits are combined as no provider that we know combines them, as a connector of somebody else may declare them.
"""

import csv
import gzip
import io
import json
import threading
import zipfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import unquote, urlencode
from zoneinfo import ZoneInfo

from attrs import define, evolve, field, frozen
from penstock import (
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
    Slice,
    SourceSettings,
    Stream,
    added,
    column,
    hookimpl,
    json_response,
    named,
    record,
)

Row = dict[str, Any]
Plain = tuple[Any, ...]
"""A row as it is compared: its account, its key, and its values."""

NOTES = ("plain", "", 'comma, "quote" and\nline', "Zürich ☃", "\\N", "null", "-", "0012", " blank ", "tab\there", None)
AMOUNTS = ("0", "1.5", "0.1", "-3.07", "12345678901234.123456", "1e2", "100", "7.000000001")


@record()
class Entry:
    """What happened in a shop."""

    id: str
    at: datetime
    amount: Decimal = column(additive=True)
    note: str | None = None
    size: int | None = None
    lines: Json = None


@record()
class Line:
    """A line of an entry."""

    id: str = added()
    number: int = column(default=...)
    price: Decimal = column(additive=True)


@record(kind="snapshot", key="shop_id")
class Shop:
    """A shop, as the provider lists it."""

    shop_id: str


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
        return cls(
            kind=kind,
            shops=shops,
            listed=bool(shops) and pick.random() < 0.4,
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
            lines="" if report.startswith("csv") or (kind == "changes" and lines == "child") else lines,
            order=pick.choice(["id", "at", "backwards"]),
            open_days=pick.choice([0, 1, 2, 3]),
            ceiling=ceiling,
            stamped=days == 1 and kind == "report" and ceiling is None and pick.random() < 0.5,
            first=pick.choice([date(2026, 6, 10), date(2026, 3, 4), date(2026, 10, 20), date(2026, 10, 27)]),
            ends_with_404=counts and pick.random() < 0.3,
            too_large=counts and ceiling is None and size > 1 and pick.random() < 0.3,
        )


@define(eq=False, kw_only=True)
class Invented:
    """
    The provider of a number. ``rows`` holds the entries, by shop and id.

    ``failing``: some answers fail. ``moving``: rows change while they are read. ``stop``: is set at this number of
    requests.
    """

    seed: int
    now: datetime = field(init=False)
    failing: bool = False
    moving: bool = False
    stop: threading.Event | None = None
    stop_at: int = 0
    pick: Random = field(init=False)
    traits: Traits = field(init=False)
    rows: dict[str, dict[str, Row]] = field(factory=dict, init=False)
    _reports: list[list[Row]] = field(factory=list, init=False)
    _polled: set[int] = field(factory=set, init=False)
    _requests: int = field(default=0, init=False)
    _made: int = field(default=0, init=False)

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
        return self.traits.kind == "snapshot" or self.now < end + timedelta(days=self.traits.open_days)

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
            "note": pick.choice(NOTES),
            "size": pick.choice([None, 0, 5, 2**53 + 1]),
            "lines": [{"number": number, "price": self._amount()} for number in range(pick.randrange(3))],
            "state": pick.choice(["open", "closed"]),
        }
        self.rows[shop][row["id"]] = row

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
                    found.append((shop, row["id"], plain(row["amount"]), row["note"] or None, row["size"]))
                else:
                    found += [(shop, row["id"], plain(line["price"]), line["number"]) for line in row["lines"]]
        return sorted(found, key=repr)

    # --- what a connector declares ------------------------------------------------------------------------------------

    @hookimpl
    def penstock_sources(self) -> Sequence[Connector]:
        return [Connector(name="shop", summary="an invented provider", settings=SourceSettings)]

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
                {"accounts_from": ("shops", "shop_id")}
                if traits.listed
                else {"accounts": lambda settings: list(traits.shops)}
            )
        common: dict[str, Any] = {**accounts, "kind": traits.kind}
        if traits.kind != "snapshot":
            common |= {"day": "entry_day", "open_for": OpenFor(traits.open_days)}
        entries = Stream(
            name="entries",
            record=Entry,
            key="id",
            day_of=None if traits.stamped or traits.kind == "snapshot" else "at",
            days_per_request=traits.days,
            envelope=Envelope(
                items="data.rows", total="meta.total" if traits.total else (), head=("meta.next", "meta.more")
            ),
            paginator=self._paginator(),
            requests=self._first_requests,
            poller=self._poller(),
            downloads=ReportFile() if traits.report.endswith(("gz", "zip")) else None,
            lookback=timedelta(hours=1) if traits.kind == "changes" else timedelta(0),
            **common,
        )
        found = [entries]
        if traits.lines == "derived":
            derived = Derived(stream="entries", column="lines", stamps={"id": "id"})
            found.append(Stream(name="lines", record=Line, key=("id", "number"), derived=derived, **common))
        elif traits.lines == "child":
            parent = Parent(stream="entries", columns=("id",))
            listed = Envelope(items="data.rows")
            path = "/lines/{id}"
            child = {"parent": parent, "path": path, "envelope": listed, **common}
            found.append(Stream(name="lines", record=Line, key=("id", "number"), **child))
        if traits.listed:
            found.append(Stream(name="shops", record=Shop, path="/shops", envelope=Envelope(items="shops")))
        return found

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
        if self.failing and self.pick.random() < 0.08:
            return self._failure(request)
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
                SandboxResponse(body=b"null"),
                evolve(good, body=good.body[: len(good.body) // 2]),
            ]
        )

    def _answer(self, request: SandboxRequest) -> SandboxResponse:
        place, _, rest = request.path.lstrip("/").partition("/")
        if place == "shops":
            return json_response({"shops": [{"shop_id": shop} for shop in self.rows]})
        if place == "lines":
            found = [own[unquote(rest)] for own in self.rows.values() if unquote(rest) in own]
            return json_response({"data": {"rows": found[0]["lines"] if found else []}})
        if place == "entries":
            return self._page(self._selected(request.params), request.params, request)
        selected = json.loads(request.body) if request.method == "POST" else {}
        if place == "search":
            return self._page(self._selected(selected), selected.get("paging", {}), request)
        if request.method == "POST":
            self._reports.append([dict(row) for row in self._selected(selected)])
            return json_response({"id": len(self._reports) - 1})
        number = int(rest.partition("/")[0])
        if place == "files":
            return self._file(self._reports[number])
        if rest.endswith("/rows"):
            return self._page(self._reports[number], request.params, request)
        return self._state(number, request)

    def _state(self, number: int, request: SandboxRequest) -> SandboxResponse:
        if number not in self._polled:
            self._polled.add(number)
            return json_response({"id": number, "status": "pending"})
        rows = self._reports[number]
        return json_response(
            {
                "id": number,
                "status": "ready",
                "data": {"rows": list(map(_shown, rows)) if self.traits.report == "inline" else []},
                "meta": {"total": len(rows)},
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

    def _page(self, rows: list[Row], paging: Any, request: SandboxRequest) -> SandboxResponse:
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
        meta = {"total": total, "more": following is not None, "next": next_}
        return json_response({"data": {"rows": list(map(_shown, rows[start : start + size]))}, "meta": meta})

    def _file(self, rows: list[Row]) -> SandboxResponse:
        if self.traits.report == "jsonl.gz":
            lines = [json.dumps(_shown(row)) + "\n" for row in rows]
            return SandboxResponse(body=gzip.compress("".join(lines or ["[]"]).encode()))
        text = io.StringIO()
        writer = csv.DictWriter(text, ["id", "at", "amount", "note", "size"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        if self.traits.report == "csv.gz":
            return SandboxResponse(body=gzip.compress(text.getvalue().encode()))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("report.csv", text.getvalue())
        return SandboxResponse(body=packed.getvalue())


def plain(number: Any) -> Decimal:
    """A number in one form, however many zeros it was written with."""
    return Decimal(str(number)).normalize()


def _shown(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("state", "shop")}
