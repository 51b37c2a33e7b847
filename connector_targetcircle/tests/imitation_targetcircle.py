"""
An imitation of the publisher API for tests, written from its document: asynchronous reports, lists capped at 1000,
tokens that are echoed, and the header ``Location`` where others have ``Link``.

Its records are a pure function of day and place; ``truth`` gives them as a table must show them. What the document
leaves open is an attribute of :class:`TargetCircle`: whether ``limit`` counts the rows of a page or of the report, how
long a report is kept, in which form an ad inventory is named.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any, ClassVar, Literal
from uuid import UUID

from attrs import define, field
from connector_targetcircle.sandbox import API_TOKEN, REPORT_TOKEN
from penstock import SandboxBase, SandboxError, SandboxRequest, SandboxResponse, json_response
from penstock.sandbox import draw as _draw, json_body

Row = Mapping[str, Any]

_RATES = {"EUR": Decimal("1"), "NOK": Decimal("11.5"), "SEK": Decimal("11"), "USD": Decimal("1.1")}
_COUNTRIES = (("Germany", "DE"), ("Norway", "NO"), ("Netherlands", "NL"), ("Côte d'Ivoire", "CI"))
_INVENTORIES = ((122, "zedge.net", "11c26b"), (123, 'Søk & "finn", AS', "11326b"))
_STATUSES = ("pending", "approved", "approved, paid out", "declined")
_FIRST_OFFER = 11014

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_PARAMETERS = {f"parameters[{name}]" for name in ("idfa", "gaid", "waid", "click_id", "source_id")} | {
    f"parameters[ref{number}]" for number in range(1, 6)
}
_OFFERS_OPTIONS = {"limit", "offerId", "offerName", "adInventory", "status", "startDateFrom", "startDateTo"} | {
    "endDateFrom",
    "endDateTo",
    "provider",
    "category",
    "advertiser",
    "vertical",
    "country",
}
_CODES_OPTIONS = {"offerId", "adInventory", "limit", "deeplink", "type", "maxHeight", "minHeight"} | {
    "maxWidth",
    "minWidth",
    "maxSize",
    "minSize",
    *_PARAMETERS,
}

# Report -> member of the submission -> whether it is required.
_SUBMISSIONS: dict[str, dict[str, bool]] = {
    "transactions": {"from": True, "to": True, "currency": True}
    | dict.fromkeys(("status", "offer", "adInventory", "reference", "country", "limit"), False),
    "clicks": {"from": True, "to": True}
    | dict.fromkeys(("adInventory", "country", "offer", "reference", "limit"), False),
    "trades": dict.fromkeys(
        (
            "limit",
            "offer",
            "adInventory",
            "provider",
            "category",
            "conversionType",
            "engagementType",
            "vertical",
            "adType",
            "targetCountries",
        ),
        False,
    ),
}

# What a table must show, written out by hand: column <- member.
_COLUMNS: dict[str, dict[str, str]] = {
    "transactions": {
        "conversion_status": "conversionStatus",
        "slug": "slug",
        "offer_name": "offerName",
        "media_name": "mediaName",
        "product_group_name": "productGroupName",
        "transaction_type": "transactionType",
        "tracking_method": "trackingMethod",
        "tracking_id": "trackingId",
        "ad_link_name": "adLinkName",
        "reference": "reference",
        "transaction_amount": "transactionAmount",
        "currency": "currency",
        "commission": "commission",
        "commission_rep": "commissionRep",
        "country": "country",
        "saved": "saved",
    },
    "clicks": {
        "slug": "slug",
        "media_name": "mediaName",
        "offer_name": "offerName",
        "reference": "reference",
        "country": "country",
        "ip": "ip",
        "click_date": "clickDate",
    },
    "trades": {
        "id": "id",
        "type": "type",
        "status": "status",
        "ad_inventory": "adInventory",
        "offer": "offer",
        "category": "category",
        "provider": "provider",
        "verticals": "verticals",
        "pricings": "pricings",
    },
    "offers": {
        "id": "id",
        "name": "name",
        "status": "status",
        "start_date": "startDate",
        "end_date": "endDate",
        "provider": "provider",
        "advertiser": "advertiser",
        "vertical": "vertical",
        "catergory": "catergory",
        "tracking": "tracking",
        "targeted_countries": "targetedCountries",
        "policies": "policies",
        "terms_and_conditions": "termsAndConditions",
        "currency": "currency",
        "highest_payout": "highestPayout",
        "pricings": "pricings",
    },
    "offer_details": {
        "slug": "slug",
        "name": "name",
        "target_url": "targetUrl",
        "general": "general",
        "tracking": "tracking",
        "policies": "policies",
        "targeted_countries": "targetedCountries",
    },
    "offer_ads": {
        "slug": "slug",
        "name": "name",
        "target_url": "targetUrl",
        "type": "type",
        "banner_details": "bannerDetails",
    },
    "codes": {
        "id": "id",
        "name": "name",
        "type": "type",
        "is_default": "isDefault",
        "targeted_countries": "targetedCountries",
        "click_url": "clickUrl",
        "banner_details": "bannerDetails",
    },
}


@define
class _Report:
    kind: str
    rows: list[Row]
    per_page: int
    polls_left: int
    failed: bool
    reads_left: int | None

    @property
    def pages(self) -> int:
        return max(1, -(-len(self.rows) // self.per_page))


@define(eq=False)
class TargetCircle(SandboxBase):
    """
    The provider. Knobs may be turned between requests; every one has the document's value, or a likely one.
    """

    api_token: str = API_TOKEN
    polls_until_ready: int = 1  # answers IN_PROGRESS before READY
    reads_until_gone: int | None = None  # READY answers after which a report is forgotten
    limit_is_total: bool = False  # the other reading of ``limit``: rows of the whole report
    rows_per_page: int | None = None  # instead of ``limit``
    whole_days: bool = False  # whether the times in ``from`` and ``to`` are passed over
    inventory_field: Literal["id", "name", "slug"] = "id"  # the form of an ad inventory in GET /codes
    transactions_per_day: int | None = None  # None: 0 to 8, by the day
    clicks_per_day: int | None = None  # None: 0 to 30, by the day
    offer_count: int = 6  # per ad inventory; the last one's page is gone
    _reports: dict[str, _Report] = field(factory=dict, init=False)
    _submitted: int = field(default=0, init=False)
    _failed_reports: int = field(default=0, init=False)

    # --- what tests change --------------------------------------------------------------------------------------

    def fail_report(self) -> None:
        """The next report submitted ends as FAILED."""
        with self.lock:
            self._failed_reports += 1

    def expire_reports(self) -> None:
        """Forget every report."""
        with self.lock:
            self._reports.clear()

    # --- what is true -------------------------------------------------------------------------------------------

    def truth(self, stream: str, day: date | None = None, currency: str = "EUR") -> list[dict[str, Any]]:
        """
        The rows that a table must hold for a stream (of a report: for one day), in the provider's order.

        Values as on the wire, times and days as text, numbers with a point as Decimal; without ``row_key``.
        """
        columns = _COLUMNS[stream]

        def shaped(rows: Iterable[Row], **stamped: Any) -> list[dict[str, Any]]:
            return [stamped | {column: row[member] for column, member in columns.items()} for row in rows]

        if stream in ("transactions", "clicks"):
            assert day is not None
            rows = self._transactions(day, currency) if stream == "transactions" else self._clicks(day)
            return shaped(rows, report_date=day.isoformat())
        if stream == "trades":
            return shaped(self._trades())
        if stream == "offer_details":
            return shaped(map(self._details, self.slugs()))
        if stream == "offer_ads":
            return [row for slug in self.slugs() for row in shaped(self.ads_of(slug), offer_slug=slug)]
        found = []
        for identity, name, slug in _INVENTORIES:
            form = str({"id": identity, "name": name, "slug": slug}[self.inventory_field])
            for number in range(self.offer_count):
                offer = self._offer(number)
                if stream == "offers":
                    found += shaped([offer], ad_inventory_id=identity, ad_inventory_name=name, ad_inventory_slug=None)
                else:
                    found += shaped(self._codes(offer["id"], identity), offer_id=offer["id"], ad_inventory=form)
        return found

    # --- records ------------------------------------------------------------------------------------------------

    def _transactions(self, day: date, currency: str) -> list[Row]:
        count = self.transactions_per_day
        if count is None:
            count = 0 if _draw(day, "none") % 9 == 0 else 1 + _draw(day, "transactions") % 8
        rows = [self._transaction(day, index, currency) for index in range(self._existing(day, count))]
        if len(rows) > 3:
            rows[-2] = rows[-1]  # the provider has equal rows
        return sorted(rows, key=lambda row: str(row["saved"]))

    def _transaction(self, day: date, index: int, currency: str) -> Row:
        draw = _draw(day, "transaction", index)
        offer = self._offer(draw % self.offer_count)
        country, _ = _COUNTRIES[draw % len(_COUNTRIES)]
        stage = (draw + self.restated(day)) % len(_STATUSES)
        commission = Decimal(0 if _STATUSES[stage] == "declined" else draw % 5000) / 100 * _RATES[currency]
        return {
            "conversionStatus": _STATUSES[stage],
            "slug": self._slug(draw % self.offer_count),
            "offerName": offer["name"],
            "mediaName": _INVENTORIES[draw % 2][1],
            "productGroupName": "Default" if draw % 3 else None,
            "transactionType": ("lead", "sale")[draw % 2],
            "trackingMethod": "tmt_cookie",
            "trackingId": str(UUID(int=_draw(day, "tracking", index // 2) << 64)),  # shared by two: not unique
            "adLinkName": "Main Page",
            "reference": [[], ["BrandGenerics"], ["a, b", "ø"]][draw % 3],
            "transactionAmount": (Decimal(draw % 100_000) / 100 * _RATES[currency]).quantize(Decimal("0.1")),
            "currency": currency,
            "commission": commission.quantize(Decimal("0.01")),
            "commissionRep": commission.quantize(Decimal("0.01")),
            "country": country,
            "saved": _moment(day, index, draw),
        }

    def _clicks(self, day: date) -> list[Row]:
        count = self.clicks_per_day
        if count is None:
            count = 0 if _draw(day, "quiet") % 9 == 0 else 1 + _draw(day, "clicks") % 30
        rows: list[Row] = []
        for index in range(self._existing(day, count)):
            draw = _draw(day, "click", index // 2 if index % 10 == 5 else index)
            rows.append(
                {
                    "slug": self._slug(draw % self.offer_count),
                    "mediaName": _INVENTORIES[draw % 2][1],
                    "offerName": self._offer(draw % self.offer_count)["name"],
                    "reference": [[], ["NL_COMP"]][draw % 2],
                    "country": _COUNTRIES[draw % len(_COUNTRIES)][0],
                    "ip": f"10.100.{draw % 256}.{draw // 256 % 256}",
                    "clickDate": _moment(day, index, draw),
                }
            )
        return sorted(rows, key=lambda row: str(row["clickDate"]))

    def _existing(self, day: date, count: int) -> int:
        """Nothing has happened yet tomorrow, and nothing had before the account was opened."""
        return count if self.today - timedelta(days=800) <= day <= self.today else 0

    def _slug(self, number: int) -> str:
        return f"{_draw('slug') % 0xFF + 1:02x}{number:04x}"

    def slugs(self) -> list[str]:
        """Those whose pages still exist."""
        return [self._slug(number) for number in range(self.offer_count - 1)]

    def _offer(self, number: int) -> dict[str, Any]:
        draw = _draw("offer", number)
        prices = [Decimal(draw // (7**place) % 200) / 100 for place in range(2)]
        return {
            "id": _FIRST_OFFER + number,
            "name": f"Diamond Digger Saga {number}",
            "status": "accepted",
            "startDate": "2016-04-12",
            "endDate": None if number % 4 == 3 else "2027-04-23",
            "provider": "Target Circle",
            "advertiser": "King.com Limited",
            "vertical": "Services",
            "catergory": "Games",
            "tracking": _TRACKING,
            "targetedCountries": [code for _, code in _COUNTRIES[:2]],
            "policies": _POLICIES,
            "termsAndConditions": "- US Only - No Daily Caps - No Incent - No Adult",
            "currency": "USD",
            "highestPayout": max(prices),
            "pricings": [
                {
                    "countries": [code],
                    "productGroup": "Default",
                    "transactionType": "Install",
                    "engagementType": "Post click",
                    "commissionType": "Fixed",
                    "currency": "USD",
                    "payout": price,
                }
                for price, (_, code) in zip(prices, _COUNTRIES, strict=False)
            ],
        }

    def _trades(self) -> list[Row]:
        return [
            {
                "id": _FIRST_OFFER + number,
                "type": "legacy",
                "status": "accepted",
                "adInventory": _INVENTORIES[number % 2][1],
                "offer": {"name": self._offer(number)["name"], "href": f"/api/offers/{self._slug(number)}"},
                "category": None if number % 2 else "Games",
                "provider": "Target Circle AS",
                "verticals": [""] if number % 3 == 0 else ["Services"],
                "pricings": [
                    {
                        "id": 123 + number,
                        "commision": Decimal(_draw("price", number) % 1000) / 10,
                        "commisionType": "Fixed",
                        "conversionType": "lead",
                        "engagementType": "Post click",
                        "productGroup": "Default",
                        "offerPricingCountries": [_COUNTRIES[number % len(_COUNTRIES)][0]],
                    }
                ],
            }
            for number in range(self.offer_count)
        ]

    def _details(self, slug: str) -> Row:
        number = int(slug[2:], 16)
        offer = self._offer(number)
        return {
            "slug": slug,
            "name": offer["name"],
            "targetUrl": "http://www.awesome.example",
            "general": {
                "adInventory": [{"name": name, "slug": slug} for _, name, slug in _INVENTORIES],
                "provider": offer["provider"],
                "advertiser": offer["advertiser"],
                "vertical": offer["vertical"],
                "category": offer["catergory"],
            },
            "tracking": _TRACKING,
            "policies": _POLICIES,
            "targetedCountries": [name for name, _ in _COUNTRIES[:2]],
        }

    def ads_of(self, slug: str) -> list[Row]:
        banner = {
            "slug": f"8t{slug}",
            "name": "ad",
            "targetUrl": None,
            "type": "BANNER",
            "bannerDetails": {
                "url": "http://127.0.0.1:8001/banners/1115/img",
                "dimensions": "297x297",
                "size": {"value": Decimal("36.74"), "unit": "kB"},
            },
        }
        text = {
            "slug": f"9m{slug}",
            "name": "VC Blog",
            "targetUrl": "http://www.awesome-page.example",
            "type": "TEXT",
            "bannerDetails": None,
        }
        return [banner, text] if int(slug, 16) % 3 else []

    def _codes(self, offer_id: int, inventory_id: int) -> list[Row]:
        banner = {
            "impressionUrl": "https://i.trackmytarget.example/q67db8",
            "height": 297,
            "width": 297,
            "fileSize": 48988,
            "fileType": "image/jpeg",
        }
        return [
            {
                "id": f"{kind[:1]}{offer_id}x{inventory_id}",
                "name": "Summer sale 2016",
                "type": kind,
                "isDefault": True,
                "targetedCountries": [code for _, code in _COUNTRIES],
                "clickUrl": f"https://c.trackmytarget.example/{offer_id}",
                "bannerDetails": banner if kind == "banner" else None,
            }
            for kind in ("banner", "text link")
        ]

    # --- answers ------------------------------------------------------------------------------------------------

    def admit(self, request: SandboxRequest) -> None:
        token = request.headers.get("x-api-token", "")
        if token != self.api_token:
            raise SandboxError(401, response=_text(401, f"No valid account with token = {token}"))

    def error(self, status: int, message: str) -> SandboxResponse:
        return json_response({"detail": message}, status)

    def missing(self, request: SandboxRequest, allowed: tuple[str, ...]) -> SandboxResponse:
        return self.error(404, "Not found")

    def fail_next(self, how: Any, times: int = 1, *, on: str = "") -> None:
        """As in the base; the document's text comes with a status."""
        if isinstance(how, int):
            how = _text(how, "Request Time Out" if how == 408 else "Something is wrong")
        super().fail_next(how, times, on=on)

    def submit(self, request: SandboxRequest, kind: str) -> SandboxResponse:
        body = _body(request)
        members = _SUBMISSIONS[kind]
        _refuse_if(unknown := sorted(set(body) - set(members)), f"Unknown: {', '.join(unknown)}")
        missing = [name for name, required in members.items() if required and body.get(name) is None]
        _refuse_if(missing, f"Required: {', '.join(missing)}")
        limit = body.get("limit") or 100
        _refuse_if(type(limit) is not int or not 1 <= limit <= 1000, "limit is at most 1000")
        rows: Sequence[Row] = self._trades()
        if kind != "trades":
            rows = self._between(kind, body)
        rows = [row for row in rows if _selected(row, body)]
        if self.limit_is_total:
            rows = rows[:limit]
        self._submitted += 1
        report_id = str(UUID(bytes=blake2b(f"{kind} {self._submitted}".encode(), digest_size=16).digest()))
        failed = self._failed_reports > 0
        self._failed_reports -= failed
        self._reports[report_id] = _Report(
            kind=kind,
            rows=list(rows),
            per_page=self.rows_per_page or limit,
            polls_left=self.polls_until_ready,
            failed=failed,
            reads_left=self.reads_until_gone,
        )
        return SandboxResponse(status=202, headers={"Location": f"/api/{kind}/{report_id}?page=1"})

    def _between(self, kind: str, body: Mapping[str, Any]) -> list[Row]:
        """Rows from ``from`` to ``to``, both included, to the second or by their days."""
        bounds = [body["from"], body["to"]]
        for bound in bounds:
            _refuse_if(not (isinstance(bound, str) and _TIME.fullmatch(bound)), f"No time: {bound}")
        start, end = bounds
        _refuse_if(start > end, "from is after to")
        currency = body.get("currency", "EUR")
        _refuse_if(currency not in _RATES, f"Unknown currency {currency}")
        member = "saved" if kind == "transactions" else "clickDate"
        day, found = date.fromisoformat(start[:10]), list[Row]()
        while day.isoformat() <= end[:10]:
            found += self._transactions(day, currency) if kind == "transactions" else self._clicks(day)
            day += timedelta(days=1)
        return [row for row in found if self.whole_days or start <= row[member] <= end]

    def report(self, request: SandboxRequest, kind: str, report_id: str) -> SandboxResponse:
        params = request.params
        report = self._reports.get(report_id)
        if report is None or report.kind != kind:
            raise SandboxError(404, "Unknown report")
        number = params.get("page", "1")
        _refuse_if(set(params) - {"page"} or not number.isdecimal(), "Only page is an option here")
        page = int(number)
        if report.polls_left > 0:
            report.polls_left -= 1
            # As in the document's example: links to ten pages of a report that has none yet.
            links = _links(f"/api/{kind}/{report_id}", page, 10)
            return json_response(_envelope([], "IN_PROGRESS", 0), headers={"Location": links})
        if report.failed:
            return json_response(_envelope([], "FAILED", 0))
        if not 1 <= page <= report.pages:
            raise SandboxError(404, "No such page")
        if report.reads_left is not None:
            report.reads_left -= 1
            if report.reads_left <= 0:
                del self._reports[report_id]
        rows = report.rows[(page - 1) * report.per_page : page * report.per_page]
        links = _links(f"/api/{kind}/{report_id}", page, report.pages)
        return json_response(_envelope(rows, "READY", report.pages if report.rows else 0), headers={"Location": links})

    def list_offers(self, request: SandboxRequest) -> SandboxResponse:
        params = request.params
        _refuse_if(unknown := sorted(set(params) - _OFFERS_OPTIONS), f"Unknown: {', '.join(unknown)}")
        left = _limit(params)
        expected = {**params, "offer": params.get("offerName", "")}
        data = []
        for identity, name, _ in _INVENTORIES:
            if params.get("adInventory") and name not in params["adInventory"].split(","):
                continue
            offers = [
                offer
                for offer in map(self._offer, range(self.offer_count))
                if params.get("offerId") in (None, str(offer["id"]))
                and _selected(offer, {**expected, "adInventory": None})
            ]
            offers = offers[:left]
            left -= len(offers)
            data.append({"id": identity, "name": name, "offers": offers})
        return json_response({"token": REPORT_TOKEN, "data": data})

    def offer(self, request: SandboxRequest, slug: str) -> SandboxResponse:
        return json_response(self._details(self._existing_slug(slug)))

    def ads(self, request: SandboxRequest, slug: str) -> SandboxResponse:
        return json_response(self.ads_of(self._existing_slug(slug)))

    def _existing_slug(self, slug: str) -> str:
        if slug not in self.slugs():
            raise SandboxError(404, "Not found")
        return slug

    def list_codes(self, request: SandboxRequest) -> SandboxResponse:
        params, query = request.params, request.query
        _refuse_if("[" in query or "]" in query, "Brackets are sent percent-encoded")
        _refuse_if(unknown := sorted(set(params) - _CODES_OPTIONS), f"Unknown: {', '.join(unknown)}")
        forms = {
            str({"id": identity, "name": name, "slug": slug}[self.inventory_field]): identity
            for identity, name, slug in _INVENTORIES
        }
        inventory = forms.get(params.get("adInventory", ""))
        offer = params.get("offerId", "")
        _refuse_if(inventory is None, "adInventory is required")
        known = offer.isdecimal() and 0 <= int(offer) - _FIRST_OFFER < self.offer_count
        _refuse_if(not known, "offerId is required")
        assert inventory is not None
        codes = [row for row in self._codes(int(offer), inventory) if params.get("type") in (None, row["type"])]
        return json_response({"data": codes[: _limit(params)]})

    def generate(self, request: SandboxRequest, kind: str) -> SandboxResponse:
        """Codes for ads, one per ad, all of the kind in the path."""
        body = _body(request)
        _refuse_if(set(body) != {"offer", "adInventory", "ads"}, "offer, adInventory and ads are required")
        _refuse_if(body["offer"] not in self.slugs(), "Unknown offer")
        _refuse_if(body["adInventory"] not in [slug for _, _, slug in _INVENTORIES], "Unknown adInventory")
        known = {ad["slug"]: ad for ad in self.ads_of(body["offer"]) if ad["type"] == kind.upper()}
        ads = body["ads"]
        _refuse_if(not isinstance(ads, list) or not ads or not set(ads) <= set(known), f"Not ads of the kind {kind}")
        banner = kind == "banner"
        return json_response(
            [
                {
                    "id": 1115 + place,
                    "slug": slug,
                    "name": None,
                    "height": 297 if banner else None,
                    "width": 297 if banner else None,
                    "dimension": "297x297" if banner else None,
                    "fileSize": 48988 if banner else None,
                    "type": "image/jpeg" if banner else "text/plain",
                    "targetUrl": known[slug]["targetUrl"],
                    "isDefault": None,
                    "imgUrl": f"/banners/{1115 + place}/img" if banner else None,
                    "impressionUrl": f"https://i.trackmytarget.example/{slug}",
                    "clickUrl": f"https://c.trackmytarget.example/{slug}",
                }
                for place, slug in enumerate(ads)
            ]
        )

    routes: ClassVar = {
        "POST /api/{kind:transactions|clicks|trades}": submit,
        "GET /api/{kind:transactions|clicks|trades}/{report_id}": report,
        "GET /api/offers": list_offers,
        "GET /api/offers/{slug}": offer,
        "GET /api/offers/{slug}/ads": ads,
        "GET /api/codes": list_codes,
        "POST /api/codes/{kind:banner|text}": generate,
    }


# --- the parts of an answer -----------------------------------------------------------------------------------------

_EXPIRATION = {"value": 0, "unit": "hours"}
_TRACKING = {
    "deeplinking": True,
    "cookieExpiration": _EXPIRATION,
    "fingerprintExpiration": _EXPIRATION,
    "impressionExpiration": _EXPIRATION,
}
_POLICIES = [
    {"name": "Deeplinking", "group": "permitted", "note": None},
    {"name": "Custom creatives", "group": "permitted", "note": None},
]

# Option of a request -> members of a row in which its comma list is looked up.
_LOOKED_UP: Mapping[str, tuple[str, ...]] = {
    "status": ("conversionStatus", "status"),
    "offer": ("slug", "offerName", "name"),
    "adInventory": ("mediaName", "adInventory"),
    "country": ("country", "targetedCountries"),
    "reference": ("reference",),
    "provider": ("provider",),
    "category": ("category", "catergory"),
    "advertiser": ("advertiser",),
    "vertical": ("vertical", "verticals"),
}


def _selected(row: Row, options: Mapping[str, Any]) -> bool:
    for option, members in _LOOKED_UP.items():
        if not options.get(option):
            continue
        values = [row[member] for member in members if member in row]
        flat = {item for value in values for item in (value if isinstance(value, list) else [value])}
        if not flat & set(str(options[option]).split(",")):
            return False
    return True


def _envelope(rows: Sequence[Row], status: str, pages: int) -> dict[str, Any]:
    return {"data": rows, "token": REPORT_TOKEN, "status": status, "pagesNumber": pages}


def _links(path: str, page: int, last: int) -> str:
    links = [f'<{path}?page={page + 1}>; rel="next"'] if page < last else []
    return ", ".join([*links, f'<{path}?page=1>; rel="first"', f'<{path}?page={last}>; rel="last"'])


def _moment(day: date, index: int, draw: int) -> str:
    """A second of the day; the first two records of a day stand at its edges."""
    second = (0, 86_399)[index] if index < 2 else draw % 86_400
    return f"{datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=second):%Y-%m-%dT%H:%M:%SZ}"


def _limit(params: Mapping[str, str]) -> int:
    limit = params.get("limit", "100")
    _refuse_if(not limit.isdecimal() or not 1 <= int(limit) <= 1000, "limit is at most 1000")
    return int(limit)


def _body(request: SandboxRequest) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    _refuse_if(kind != "application/json", "Content-Type must be application/json")
    return dict(json_body(request))


def _refuse_if(wrong: Any, words: str) -> None:
    if wrong:
        raise SandboxError(400, words)


def _text(status: int, words: str) -> SandboxResponse:
    return SandboxResponse(status=status, headers={"Content-Type": "text/plain"}, body=words.encode())
