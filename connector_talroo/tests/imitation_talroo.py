"""
An imitation of Talroo's Reporting API for tests, strict where the provider's document is.

It is written from the document, not from the connector: it builds the string to be signed itself, from the values it
understood, and expects exactly that query. A server that hashes the raw query and one that rebuilds it agree with it.
The clicks are those of the demo.
"""

import hashlib
import hmac
import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from connector_talroo.sandbox import (
    ADVERTISERS,
    CUSTOMER_REFERENCE,
    CUSTOMER_SECRET,
    Click,
    clicks_of,
)
from penstock import SandboxBase, SandboxError, SandboxRequest, SandboxResponse
from penstock.sandbox import SlidingWindow
from penstock.sandbox.base import Failure

_ORDER = ("customer_reference", "advertiser_id", "action", "timestamp", "start", "end", "ticket")
_REQUIRED = ("customer_reference", "advertiser_id", "action", "timestamp", "ticket")
_UNESCAPED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()")


class TalrooSandbox(SandboxBase):
    """
    The provider of one customer. A test may change the attributes while it serves.
    """

    def __init__(self, base_url: str, today: date) -> None:
        super().__init__(base_url, today)
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)  # the provider's clock, also in its Date header
        self.advertisers = list(ADVERTISERS)
        self.seed = 1
        self.clicks_per_day = 25  # on average
        self.empty_days = True  # whether some days have no click
        self.tolerance = timedelta(minutes=5)  # of the timestamp; not documented
        self.refuse_replays = False  # of a ticket; not documented
        self.allowed_per_second: int | None = None  # above: "too many requests"
        self.error_status = 200  # the HTTP status of errors is not documented
        self.status_as_text = False  # "1" for 1
        self.empty_form: Literal["list", "object", "day", "null", "absent"] = "list"
        self.more_members: Mapping[str, Any] = {}  # added to every click: what a newer API might send
        self.params: deque[Mapping[str, str]] = deque(maxlen=10_000)  # of every request, in order

        path = urlsplit(base_url).path.strip("/")
        self._path = f"/{path}/" if path else "/reporting/"
        self._overstated: dict[date, int] = {}
        self._tickets: set[str] = set()
        self._rate = SlidingWindow(1.0)

    # --- changes ------------------------------------------------------------------------------------------------

    def overstate(self, day: date, by: int = 1) -> None:
        """From now on the total of this day is higher than the number of its clicks."""
        with self.lock:
            self._overstated[day] = by

    def fail_next(self, how: Failure | str, times: int = 1, *, on: str = "") -> None:
        """As in the base, for requests that are properly signed; a text is the message of an error."""
        super().fail_next((lambda _: self.error(self.error_status, how)) if isinstance(how, str) else how, times, on=on)

    # --- what is true -----------------------------------------------------------------------------------------------

    def truth(self, stream: str = "clicks", *, advertiser_id: str, report_date: str | date) -> list[dict[str, Any]]:
        """
        The rows that a faultless reader holds of this partition now, in order, as Python values.
        """
        if stream != "clicks":
            raise LookupError(f"no stream {stream!r}")
        day = report_date if isinstance(report_date, date) else date.fromisoformat(report_date)
        rows: list[dict[str, Any]] = []
        for click in self.clicks(advertiser_id, day):
            dollars, cents = divmod(int(click["price"]), 100)
            row: dict[str, Any] = {"advertiser_id": advertiser_id, "report_date": day, **click}
            row["price_amount"] = Decimal(f"{dollars}.{cents:02}")
            row["time"] = datetime.strptime(click["time"], "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007  it has no zone
            rows.append(row)
        return rows

    def clicks(self, advertiser_id: str, day: date) -> list[Click]:
        """The clicks of a day as the provider knows them now; none outside of what it keeps."""
        if advertiser_id not in self.advertisers or not self.floor <= day <= self.today:
            return []
        return clicks_of(
            advertiser_id,
            day,
            seed=self.seed,
            about=self.clicks_per_day,
            restated=self.restated(day),
            empty_days=self.empty_days,
        )

    @property
    def floor(self) -> date:
        """The first day kept: the previous two full months and the running one."""
        months = self.today.year * 12 + self.today.month - 1 - 2
        return date(months // 12, months % 12 + 1, 1)

    # --- answering --------------------------------------------------------------------------------------------------

    def admit(self, request: SandboxRequest) -> None:
        if request.path != self._path:
            raise SandboxError(404, response=self.missing(request, ()))
        if request.method != "GET":
            return  # there is no such route
        now = self.now()
        pairs = [
            (name, unquote(value)) for name, _, value in (part.partition("=") for part in request.query.split("&"))
        ]
        params = dict(pairs)
        self.params.append(params)
        if not self._rate.accept(now.timestamp(), self.allowed_per_second):
            raise SandboxError(self.error_status, "too many requests")
        if any(not params.get(name) for name in _REQUIRED):
            raise SandboxError(self.error_status, "missing required params")
        if len(params) != len(pairs) or not params.keys() <= set(_ORDER) or params["action"] != "get_clicks":
            raise SandboxError(self.error_status, "format error")
        if not self._signed(request.query, params, now):
            raise SandboxError(self.error_status, "unauthorized request")

    def report(self, request: SandboxRequest, path: str) -> SandboxResponse:
        params = self.params[-1]
        if params["advertiser_id"] not in self.advertisers:
            raise SandboxError(self.error_status, "not found")
        start = params.get("start") or (self.today - timedelta(days=1)).isoformat()
        days = [_day(text) for text in (start, params.get("end") or start)]
        if days[0] is None or days[1] is None:
            raise SandboxError(self.error_status, "date format error")
        if days[1] < days[0] or days[0] < self.floor or days[1] > self.today:
            raise SandboxError(self.error_status, "invalid date range")
        return self._json(200, self._report(params["advertiser_id"], days[0], days[1]))

    def error(self, status: int, message: str) -> SandboxResponse:
        return self._json(status, {"status": 0, "message": message})

    def missing(self, request: SandboxRequest, allowed: tuple[str, ...]) -> SandboxResponse:
        headers = {"Content-Type": "text/html"}
        if allowed:
            return SandboxResponse(status=405, headers={**headers, "Allow": "GET"})
        return SandboxResponse(status=404, headers=headers, body=b"<h1>Not Found</h1>")

    def _signed(self, query: str, params: Mapping[str, str], now: datetime) -> bool:
        """Whether the query is, to the byte, the documented one for its values, and its ticket fits, and is fresh."""
        message = "&".join(f"{name}={_escaped(params[name])}" for name in _ORDER[:-1] if name in params)
        ticket = hmac.new(CUSTOMER_SECRET.encode(), message.encode(), hashlib.sha256).hexdigest()
        stamp = params["timestamp"]
        if params["customer_reference"] != CUSTOMER_REFERENCE or not re.fullmatch(r"[0-9]{13}", stamp):
            return False
        if not hmac.compare_digest(query.encode(), f"{message}&ticket={ticket}".encode()):
            return False
        if abs(now - datetime.fromtimestamp(int(stamp) / 1000, UTC)) > self.tolerance:
            return False
        replayed = ticket in self._tickets
        if self.refuse_replays:
            self._tickets.add(ticket)
        return not (replayed and self.refuse_replays)

    def _report(self, advertiser_id: str, start: date, end: date) -> dict[str, Any]:
        days = [start + timedelta(days=number) for number in range((end - start).days + 1)]
        clicks = {day: self.clicks(advertiser_id, day) for day in days}
        total = sum(map(len, clicks.values())) + sum(self._overstated.get(day, 0) for day in days)
        report: dict[str, Any] = {
            "status": "1" if self.status_as_text else 1,
            "start_day": start.isoformat(),
            "end_day": (end + timedelta(days=1)).isoformat(),  # the sample's is the day after, too
            "total_clicks": total,
            "clicks_report": {
                day.isoformat(): [{**click, **self.more_members} for click in found]
                for day, found in clicks.items()
                if found or self.empty_form == "day"
            },
        }
        if not report["clicks_report"]:
            report["clicks_report"] = {"list": [], "object": {}}.get(self.empty_form)
            if self.empty_form == "absent":
                del report["clicks_report"]
        return report

    def _json(self, status: int, value: Any) -> SandboxResponse:
        body = json.dumps(value).replace("/", "\\/").encode()  # as PHP prints it: ASCII, slashes escaped
        headers = {"Content-Type": "application/json", "Date": format_datetime(self.now(), usegmt=True)}
        return SandboxResponse(status=status, headers=headers, body=body)

    routes: ClassVar = {"GET /{path:.*}": report}


def _escaped(value: str) -> str:
    """As JavaScript's ``encodeURIComponent`` writes it."""
    return "".join(chr(byte) if byte in _UNESCAPED else f"%{byte:02X}" for byte in value.encode())


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else None
    except ValueError:
        return None
