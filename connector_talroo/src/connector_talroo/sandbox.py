"""
A local imitation of Talroo's Reporting API, strict where the document is, and with invented clicks.

Written from the document, not from the connector: it builds the string to be signed itself, from the values it
understood, and expects the query to be exactly that, so that a server which hashes the raw query and one which
rebuilds it would both agree. What an advertiser's day holds depends on nothing but the two of them, the seed, and how
often the day was restated.
"""

import hashlib
import hmac
import json
import random
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from penstock import Sandbox, SandboxRequest, SandboxResponse

CUSTOMER_REFERENCE = "637573746f6d65722e3430"
CUSTOMER_SECRET = "Jobs2CareersDemo"  # noqa: S105  the demonstration key that the provider's sample code prints
ADVERTISERS = ("2112", "2113")

_ORDER = ("customer_reference", "advertiser_id", "action", "timestamp", "start", "end", "ticket")
_REQUIRED = ("customer_reference", "advertiser_id", "action", "timestamp", "ticket")
_UNESCAPED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()")

# Texts that a careless file format or query would break on.
_CAMPAIGNS = (
    ("45601", "Warehouse, Dallas"),
    ("45602", 'Drivers "CDL-A"'),
    ("45603", "Pflege Köln"),
    ("45604", "Nurses; night shift"),
    ("45605", "=Sales\t2"),
)
_PLATFORMS = ("iOS", "Android", "Desktop", "Device_m_Mobile", "Device_c_Computer")

Click = dict[str, str]


class TalrooSandbox:
    """
    The provider of one customer. Attributes below are knobs that a test may turn while it serves.

    Raises nothing: whatever is asked, there is an answer. Safe to call from any thread.
    """

    def __init__(self, base_url: str, today: date) -> None:
        self.today = today
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)  # the provider's clock, also in its Date header
        self.advertisers = list(ADVERTISERS)
        self.seed = 1
        self.clicks_per_day = 25  # about; some days have none
        self.tolerance = timedelta(minutes=5)  # of the timestamp; that there is one is not documented
        self.refuse_replays = False  # a ticket seen before; not documented either
        self.allowed_per_second: int | None = None  # more than so many are "too many requests"
        self.error_status = 200  # the HTTP status of errors is not documented
        self.status_as_text = False  # "1" for 1
        self.empty_form: Literal["list", "object", "day", "null", "absent"] = "list"
        self.more_members: Mapping[str, Any] = {}  # put into every click: what a newer API might send
        self.asked: deque[Mapping[str, str]] = deque(maxlen=10_000)  # the parameters of every request, in order

        path = urlsplit(base_url).path.strip("/")
        self._path = f"/{path}/" if path else "/reporting/"
        self._lock = threading.Lock()
        self._restated: dict[date, int] = {}
        self._overstated: dict[date, int] = {}
        self._failures: deque[str | SandboxResponse] = deque()
        self._tickets: set[str] = set()
        self._recent: deque[datetime] = deque()

    # --- knobs with a verb ------------------------------------------------------------------------------------------

    def restate(self, day: date) -> None:
        """From now on some clicks of this day are gone, some are repriced, and some are new."""
        with self._lock:
            self._restated[day] = self._restated.get(day, 0) + 1

    def overstate(self, day: date, by: int = 1) -> None:
        """From now on the total of this day is higher than the number of its clicks."""
        with self._lock:
            self._overstated[day] = by

    def fail_next(self, how: str | SandboxResponse, times: int = 1) -> None:
        """Answer the next request that is properly signed with this message, or with this whole answer."""
        with self._lock:
            self._failures.extend([how] * times)

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
        draw = random.Random(f"{self.seed}/{advertiser_id}/{day}")  # noqa: S311
        count = 0 if draw.random() < 0.1 else draw.randint(1, 2 * self.clicks_per_day - 1)
        made = list(self._made(draw, advertiser_id, day, count))
        for again in range(self._restated.get(day, 0)):
            change = random.Random(f"{self.seed}/{advertiser_id}/{day}/{again}")  # noqa: S311
            made = [click for click in made if change.random() >= 0.2]
            for click in made:
                if change.random() < 0.3:
                    click["price"] = str(int(click["price"]) + 7)
            made.extend(self._made(change, advertiser_id, day, change.randint(1, 3)))
        return made

    @property
    def floor(self) -> date:
        """The first day kept: the previous two full months and the running one."""
        months = self.today.year * 12 + self.today.month - 1 - 2
        return date(months // 12, months % 12 + 1, 1)

    def _made(self, draw: random.Random, advertiser_id: str, day: date, count: int) -> Iterator[Click]:
        for second in sorted(draw.randrange(86_400) for _ in range(count)):
            bits = f"{draw.getrandbits(128):032x}"
            name = f"{bits[:8]}-{bits[8:12]}-{bits[12:16]}-{bits[16:20]}-{bits[20:]}"
            campaign, campaign_name = draw.choice(_CAMPAIGNS)
            job = draw.randrange(40)
            host = draw.randrange(1, 255)
            yield {
                "click_id": name,
                "bid_type": "cpc",
                "price": str(draw.choice((5, 12, 25, 25, 60, 100, 145))),
                "time": f"{datetime.combine(day, time()) + timedelta(seconds=second)}",
                "job_reference": f"job-{advertiser_id}-{job:03}",
                "ip": f"2001:db8::{host:x}" if draw.random() < 0.1 else f"203.0.113.{host}",
                "url": f"https://jobs.example/{advertiser_id}/{job:03}?tlr_sid={name}",
                "tlr_sid": name,
                "platform": draw.choice(_PLATFORMS),
                "job_id": f"{123_456_000 + job}",
                "campaign_id": campaign,
                "campaign_name": campaign_name,
            }

    # --- answering --------------------------------------------------------------------------------------------------

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        if request.path != self._path:
            return SandboxResponse(status=404, headers={"Content-Type": "text/html"}, body=b"<h1>Not Found</h1>")
        if request.method != "GET":
            return SandboxResponse(status=405, headers={"Content-Type": "text/html", "Allow": "GET"})
        with self._lock:
            now = self.now()
            answer = self._answer(request.query, now)
        if isinstance(answer, SandboxResponse):
            return answer
        if isinstance(answer, str):
            return self._json(self.error_status, {"status": 0, "message": answer}, now)
        return self._json(200, answer, now)

    def _answer(self, query: str, now: datetime) -> SandboxResponse | str | dict[str, Any]:
        """The report; the message of an error; or the whole answer of a failure that was ordered."""
        pairs = [(name, unquote(value)) for name, _, value in (part.partition("=") for part in query.split("&"))]
        params = dict(pairs)
        self.asked.append(params)
        if self._too_many(now):
            return "too many requests"
        if any(not params.get(name) for name in _REQUIRED):
            return "missing required params"
        if len(params) != len(pairs) or not params.keys() <= set(_ORDER) or params["action"] != "get_clicks":
            return "format error"
        if not self._signed(query, params, now):
            return "unauthorized request"
        if self._failures:
            return self._failures.popleft()
        if params["advertiser_id"] not in self.advertisers:
            return "not found"
        start = params.get("start") or (self.today - timedelta(days=1)).isoformat()
        days = [_day(text) for text in (start, params.get("end") or start)]
        if days[0] is None or days[1] is None:
            return "date format error"
        if days[1] < days[0] or days[0] < self.floor or days[1] > self.today:
            return "invalid date range"
        return self._report(params["advertiser_id"], days[0], days[1])

    def _too_many(self, now: datetime) -> bool:
        if self.allowed_per_second is None:
            return False
        while self._recent and now - self._recent[0] >= timedelta(seconds=1):
            self._recent.popleft()
        self._recent.append(now)
        return len(self._recent) > self.allowed_per_second

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

    def _json(self, status: int, value: Any, now: datetime) -> SandboxResponse:
        body = json.dumps(value).replace("/", "\\/").encode()  # as PHP prints it: ASCII, slashes escaped
        headers = {"Content-Type": "application/json", "Date": format_datetime(now, usegmt=True)}
        return SandboxResponse(status=status, headers=headers, body=body)


def _escaped(value: str) -> str:
    """As JavaScript's ``encodeURIComponent`` writes it."""
    return "".join(chr(byte) if byte in _UNESCAPED else f"%{byte:02X}" for byte in value.encode())


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else None
    except ValueError:
        return None


SANDBOX = Sandbox(
    connector="talroo",
    summary="two advertisers, some 25 clicks a day, two full months back",
    make=TalrooSandbox,
    settings={
        "customer_reference": CUSTOMER_REFERENCE,
        "customer_secret": CUSTOMER_SECRET,
        "advertiser_ids": list(ADVERTISERS),
        # The real one is asked once a second; nobody waits for an imitation.
        "requests_per_second": 200.0,
        "concurrency": 4,
    },
)
