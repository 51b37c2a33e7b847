"""
An imitation of the provider of docs/comparison.md, written from its document: transactions with a filter, a listing of
campaigns, a report on demand as gzip TSV, and tokens for refresh tokens. Two sellers, thirty days.
"""

import gzip
import json
import re
from base64 import b64encode
from datetime import date, datetime, timedelta
from random import Random
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode

from attrs import define, field
from penstock import SandboxBase, SandboxError, SandboxRequest, SandboxResponse, json_response

CLIENT, SECRET = "app-id", "cert-id-5f0c2d"
SELLERS = {"refresh-alpha-1": "alpha", "refresh-beta-1": "beta"}
METRICS = ("impressions", "clicks", "ad_fees", "sales", "sale_amount")
TRANSACTIONS, CAMPAIGNS = "/sell/finances/v1/transaction", "/sell/marketing/v1/ad_campaign"
TASKS, REPORTS = "/sell/marketing/v1/ad_report_task", "/sell/marketing/v1/ad_report"
MOST = 20  # records of a page, whatever the limit
MOMENT = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"


@define(eq=False)
class Ebay(SandboxBase):
    """
    ``uses``: requests after which a token is refused, although its stated life is two hours. ``changes``: how often the
    provider has restated its data, see :meth:`restate_all`.
    """

    uses: int = 9
    changes: int = field(default=0, init=False)

    # --- data -------------------------------------------------------------------------------------------------------

    @property
    def days(self) -> list[date]:
        return [self.today - timedelta(days=back) for back in range(30, 0, -1)]

    def campaigns(self, seller: str) -> list[dict[str, Any]]:
        """As they are now: a change deletes one and ends another."""
        return [
            {
                "campaignId": f"{seller[0]}{number}",
                "campaignName": f"Campaign {number} é",
                "campaignStatus": "ENDED" if self.changes and number == 0 else "RUNNING",
                "startDate": "2026-01-05T08:00:00.000Z",
                "marketplaceId": "EBAY_US",
                "fundingStrategy": {"fundingModel": "COST_PER_SALE", "bidPercentage": "2.5"},
            }
            for number in range(13)
            if not (self.changes and number == 5)
        ]

    def transactions(self, seller: str, day: date) -> list[dict[str, Any]]:
        draw = Random(f"{seller} {day}")
        rows = []
        for number in range(30 if seller == "alpha" else 4):
            # The first is at midnight, the end of the day before: its filter includes both ends.
            time = "00:00:00" if number == 0 else f"{draw.randrange(24):02}:{draw.randrange(60):02}:30"
            cents = draw.randrange(100, 99999)
            settled = (self.today - day).days > 14 or (self.changes and number % 2)
            rows.append(
                {
                    "transactionId": f"{seller[0]}-{day:%m%d}-{number - number % 2}",
                    "transactionType": "REFUND" if number % 2 else "SALE",
                    "transactionStatus": "PAYOUT" if settled else "FUNDS_PROCESSING",
                    "transactionDate": f"{day}T{time}.000Z",
                    "orderId": f"o{number}",
                    "amount": {"value": f"{cents / 100:.2f}", "currency": "USD"},
                    "totalFeeAmount": {"value": f"{cents / 1000:.3f}", "currency": "USD"},
                    "bookingEntry": "DEBIT" if number % 2 else "CREDIT",
                }
                | ({"payoutId": f"p{number}"} if settled else {})
            )
        return rows

    def performance(self, seller: str, day: date) -> list[dict[str, str]]:
        """The rows of the report; a change lets those of every third campaign vanish, and reprices the others."""
        draw = Random(f"{seller} {day} report")
        rows = []
        for number, campaign in enumerate(self.campaigns(seller)):
            fees = draw.randrange(9999) + self.changes
            values = (draw.randrange(5000), draw.randrange(200), f"{fees / 100:.2f}", draw.randrange(9), "12.50")
            if not (self.changes and number % 3 == 0):
                named = {"campaign_id": campaign["campaignId"], "campaign_name": campaign["campaignName"]}
                rows.append({"day": str(day), **named, **dict(zip(METRICS, map(str, values), strict=True))})
        return rows

    def restate_all(self) -> None:
        """Change statuses, fees, campaigns and reports once."""
        with self.lock:
            self.changes += 1

    def truth(self, stream: str, seller: str, day: str = "") -> list[dict[str, Any]]:
        """The rows of a partition, by member or column."""
        if stream == "campaigns":
            return [
                {name: value for name, value in one.items() if name != "fundingStrategy"}
                | {"funding_model": "COST_PER_SALE", "bid_percentage": "2.5"}
                for one in self.campaigns(seller)
            ]
        if stream == "campaign_days":
            return [dict(one) for one in self.performance(seller, date.fromisoformat(day))]
        return [
            {name: value for name, value in one.items() if name not in ("amount", "totalFeeAmount")}
            | {"amount": one["amount"]["value"], "amount_currency": "USD"}
            | {"total_fee_amount": one["totalFeeAmount"]["value"], "total_fee_amount_currency": "USD"}
            for one in self.transactions(seller, date.fromisoformat(day))
        ]

    # --- requests ---------------------------------------------------------------------------------------------------

    def admit(self, request: SandboxRequest) -> None:
        if request.path == "/identity/v1/oauth2/token":
            return
        if not self.tokens.accept(self._token(request), uses=self.uses):
            raise SandboxError(401, "Invalid access token")

    def error(self, status: int, message: str) -> SandboxResponse:
        return json_response({"errors": [{"errorId": 1000 + status, "domain": "API", "message": message}]}, status)

    def grant(self, request: SandboxRequest) -> SandboxResponse:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        basic = "Basic " + b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if request.headers.get("authorization") != basic or "scope" not in form:
            raise SandboxError(401, response=json_response({"error": "invalid_client"}, 401))
        if form.get("grant_type") != "refresh_token" or form.get("refresh_token") not in SELLERS:
            raise SandboxError(400, response=json_response({"error": "invalid_grant"}, 400))
        token = self.tokens.issue(f"{SELLERS[form['refresh_token']]}.{len(self.tokens.issued)}", life_s=7200.0)
        return json_response({"access_token": token, "expires_in": 7200, "token_type": "User Access Token"})

    def transaction(self, request: SandboxRequest) -> SandboxResponse:
        span = re.fullmatch(rf"transactionDate:\[{MOMENT}\.\.{MOMENT}\]", request.params.get("filter", ""))
        if span is None:
            raise SandboxError(400, "Invalid filter")
        seller = self._seller(request)
        known = [one for day in self.days for one in self.transactions(seller, day)]
        rows = [one for one in known if span[1] <= one["transactionDate"] <= span[2]]
        return self._page(request, "transactions", rows)

    def campaign(self, request: SandboxRequest) -> SandboxResponse:
        return self._page(request, "campaigns", self.campaigns(self._seller(request)))

    def submit(self, request: SandboxRequest) -> SandboxResponse:
        selected, seller = json.loads(request.body), self._seller(request)
        known = {one["campaignId"] for one in self.campaigns(seller)}
        if (
            not selected["campaignIds"]
            or set(selected["campaignIds"]) - known
            or set(selected["metricKeys"]) - set(METRICS)
        ):
            raise SandboxError(400, "Invalid campaignIds or metricKeys")
        first, last = (datetime.fromisoformat(selected[name]).date() for name in ("dateFrom", "dateTo"))
        span = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        rows = [row for day in span for row in self.performance(seller, day)]
        task = self.reports.submit(row for row in rows if row["campaign_id"] in selected["campaignIds"])
        return SandboxResponse(status=202, headers={"Location": f"{self.base_url}{TASKS}/{task}"})

    def task(self, request: SandboxRequest, task: str) -> SandboxResponse:
        if not self.reports.poll(task):
            return json_response({"reportTaskStatus": "IN_PROGRESS"})
        return json_response({"reportTaskStatus": "SUCCESS", "reportHref": f"{self.base_url}{REPORTS}/{task}"})

    def file(self, request: SandboxRequest, task: str) -> SandboxResponse:
        names = ("day", "campaign_id", "campaign_name", *METRICS)
        lines = [names, *(tuple(row[name] for name in names) for row in self.reports.rows(task))]
        text = "\n".join("\t".join(line) for line in lines)
        return SandboxResponse(headers={}, body=gzip.compress(text.encode(), mtime=0))

    def _token(self, request: SandboxRequest) -> str:
        return request.headers.get("authorization", "").removeprefix("Bearer ")

    def _seller(self, request: SandboxRequest) -> str:
        return self._token(request).partition(".")[0]

    def _page(self, request: SandboxRequest, member: str, rows: list[dict[str, Any]]) -> SandboxResponse:
        params = request.params
        limit, offset = min(int(params.get("limit", "10")), MOST), int(params.get("offset", "0"))
        if not rows:
            return SandboxResponse(status=204, headers={})
        value = {"total": len(rows), "limit": limit, "offset": offset, member: rows[offset : offset + limit]}
        if offset + limit < len(rows):
            following = urlencode({**params, "limit": limit, "offset": offset + limit})
            value["next"] = f"{self.base_url}{request.path}?{following}"
        return json_response(value)

    routes: ClassVar = {
        "POST /identity/v1/oauth2/token": grant,
        f"GET {TRANSACTIONS}": transaction,
        f"GET {CAMPAIGNS}": campaign,
        f"POST {TASKS}": submit,
        f"GET {TASKS}/{{task}}": task,
        f"GET {REPORTS}/{{task}}": file,
    }
