"""
A demo of the publisher API: it checks the token, makes reports that take two polls, and lists invented offers.

Rows depend on their day only. About one day in nine has no transactions, and one in nine no clicks. The tests of this
connector have a stricter imitation with every option, limit and oddity of the document.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from penstock import Sandbox, SandboxBase, SandboxError, SandboxRequest, SandboxResponse, json_response
from penstock.sandbox import draw, json_body

API_TOKEN = "sandbox-token"  # noqa: S105
REPORT_TOKEN = "SANDBOX/+REPORT+TOKEN+001"  # noqa: S105  the member ``token``: must never be seen in any output

Row = dict[str, Any]

_INVENTORIES = ((122, "zedge.net", "11c26b"), (123, 'Søk & "finn", AS', "11326b"))
_STATUSES = ("pending", "approved", "approved, paid out", "declined")
_COUNTRIES = ("Germany", "Norway", "Côte d'Ivoire")
_OFFERS = [
    {"id": 11014 + number, "name": f"Diamond Digger Saga {number}", "advertiser": "King.com Limited"}
    | {"status": "accepted", "startDate": "2016-04-12", "currency": "USD", "highestPayout": Decimal(25 * number) / 10}
    for number in range(6)
]
_SLUGS = {f"69{number:04x}": offer for number, offer in enumerate(_OFFERS)}
_TRADES = [
    {"id": offer["id"], "type": "legacy", "status": "accepted", "adInventory": "zedge.net", "verticals": ["Services"]}
    | {"offer": {"name": offer["name"], "href": f"/api/offers/{slug}"}}
    | {"pricings": [{"id": 123, "commision": Decimal("12.5"), "commisionType": "Fixed", "conversionType": "lead"}]}
    for slug, offer in _SLUGS.items()
]


def _row(kind: str, day: date, number: int) -> tuple[int, Row]:
    """What transactions and clicks have in common, and the number that the rest of the row is drawn from."""
    at = draw(kind, day, number)
    slug = list(_SLUGS)[at % len(_SLUGS)]
    moment = datetime.combine(day, time(), UTC) + timedelta(seconds=at % 86_400)
    return at, {
        "slug": slug,
        "offerName": _SLUGS[slug]["name"],
        "mediaName": _INVENTORIES[at % 2][1],
        "reference": [[], ["BrandGenerics"], ["a,b", "ø"]][at % 3],
        "country": _COUNTRIES[at % 3],
        "saved" if kind == "transactions" else "clickDate": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
    }


def transaction(day: date, number: int, currency: str, restated: int) -> Row:
    """A restatement moves the status on; the identity stays."""
    at, row = _row("transactions", day, number)
    status = _STATUSES[(at + restated) % len(_STATUSES)]
    commission = Decimal(0 if status == "declined" else at % 5000) / 100
    kinds = {"transactionType": ("lead", "sale")[at % 2], "trackingMethod": "tmt_cookie", "adLinkName": "Main Page"}
    amounts = {"transactionAmount": Decimal(at % 100_000) / 100, "commission": commission, "commissionRep": commission}
    return row | kinds | amounts | {"conversionStatus": status, "trackingId": f"{at:012x}", "currency": currency}


def click(day: date, number: int) -> Row:
    at, row = _row("clicks", day, number)
    return row | {"ip": f"10.100.{at % 256}.{at // 256 % 256}"}


class TargetCircleDemo(SandboxBase):
    """One publisher account with two ad inventories. A report is in progress once, then ready on one page."""

    def admit(self, request: SandboxRequest) -> None:
        token = request.headers.get("x-api-token", "")
        if token != API_TOKEN:
            text = f"No valid account with token = {token}".encode()
            raise SandboxError(401, response=SandboxResponse(status=401, headers={}, body=text))

    def submit(self, request: SandboxRequest, kind: str) -> SandboxResponse:
        report = self.reports.submit(_TRADES if kind == "trades" else self._rows(kind, json_body(request)))
        return SandboxResponse(status=202, headers={"Location": f"/api/{kind}/{report}?page=1"})

    def _rows(self, kind: str, options: Mapping[str, Any]) -> list[Row]:
        day, last, rows = date.fromisoformat(options["from"][:10]), date.fromisoformat(options["to"][:10]), list[Row]()
        while day <= min(last, self.today):
            size = draw(kind, day) % 30 if draw(kind, "quiet", day) % 9 else 0
            if kind == "clicks":
                rows += [click(day, number) for number in range(size)]
            else:
                state = options["currency"], self.restated(day)
                rows += [transaction(day, number, *state) for number in range(size // 4)]
            day += timedelta(days=1)
        return rows

    def report(self, request: SandboxRequest, kind: str, report: str) -> SandboxResponse:
        ready = self.reports.poll(report)
        rows = self.reports.rows(report) if ready else []
        state = {"status": "READY" if ready else "IN_PROGRESS", "pagesNumber": 1 if rows else 0}
        return json_response({"data": rows, "token": REPORT_TOKEN, **state})

    def offers(self, request: SandboxRequest) -> SandboxResponse:
        data = [{"id": identity, "name": name, "offers": _OFFERS} for identity, name, _ in _INVENTORIES]
        return json_response({"token": REPORT_TOKEN, "data": data})

    def offer(self, request: SandboxRequest, slug: str) -> SandboxResponse:
        if slug not in _SLUGS:
            raise SandboxError(404, "Not Found")
        general = {"adInventory": [{"name": name, "slug": short} for _, name, short in _INVENTORIES]}
        return json_response({"slug": slug, "name": _SLUGS[slug]["name"], "general": general})

    def ads(self, request: SandboxRequest, slug: str) -> SandboxResponse:
        banner = {"slug": f"8t{slug}", "name": "ad", "type": "BANNER", "bannerDetails": {"dimensions": "297x297"}}
        return json_response([banner, {"slug": f"9m{slug}", "name": "VC Blog", "type": "TEXT", "bannerDetails": None}])

    def codes(self, request: SandboxRequest) -> SandboxResponse:
        offer, inventory = request.params["offerId"], request.params["adInventory"]
        code = {"name": "Summer sale 2016", "isDefault": True, "clickUrl": f"https://c.trackmytarget.example/{offer}"}
        kinds = ("banner", "text link")
        return json_response({"data": [{"id": f"{kind[0]}{offer}x{inventory}", "type": kind} | code for kind in kinds]})

    def generate(self, request: SandboxRequest, kind: str) -> SandboxResponse:
        ads = enumerate(json_body(request)["ads"], start=1115)
        url = "https://c.trackmytarget.example"
        return json_response([{"id": number, "slug": slug, "clickUrl": f"{url}/{slug}"} for number, slug in ads])

    routes: ClassVar = {
        "POST /api/{kind:transactions|clicks|trades}": submit,
        "GET /api/{kind:transactions|clicks|trades}/{report}": report,
        "GET /api/offers": offers,
        "GET /api/offers/{slug}": offer,
        "GET /api/offers/{slug}/ads": ads,
        "GET /api/codes": codes,
        "POST /api/codes/{kind:banner|text}": generate,
    }


SANDBOX = Sandbox(
    connector="targetcircle",
    summary="reports that take two polls, two ad inventories with six offers each",
    make=TargetCircleDemo,
    settings={
        "api_token": API_TOKEN,
        "currency": "EUR",
        "requests_per_second": 200.0,
        "poll_first_s": 0.02,
        "poll_max_s": 0.2,
    },
)
