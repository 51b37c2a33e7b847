"""
A demo of Talroo's Reporting API: it checks the signature and returns invented clicks.

The clicks of an advertiser's day depend on the advertiser, the day and its number of restatements. About one day in
ten has no clicks. The tests of this connector have a stricter imitation with the provider's errors and limits.
"""

import hashlib
import hmac
import json
import random
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import ClassVar

from penstock import Sandbox, SandboxBase, SandboxError, SandboxRequest, SandboxResponse, json_response

CUSTOMER_REFERENCE = "637573746f6d65722e3430"
CUSTOMER_SECRET = "Jobs2CareersDemo"  # noqa: S105  the demonstration key that the provider's sample code prints
ADVERTISERS = ("2112", "2113")

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


def clicks_of(
    advertiser_id: str, day: date, *, seed: int = 1, about: int = 25, restated: int = 0, empty_days: bool = True
) -> list[Click]:
    """
    The clicks of a day by their time: none on one day in ten, else 1 to twice ``about``. Each restatement removes,
    reprices and adds some.
    """
    draw = random.Random(f"{seed}/{advertiser_id}/{day}")  # noqa: S311
    count = 0 if draw.random() < 0.1 and empty_days else draw.randint(1, 2 * about - 1)
    made = list(_made(draw, advertiser_id, day, count))
    for again in range(restated):
        change = random.Random(f"{seed}/{advertiser_id}/{day}/{again}")  # noqa: S311
        made = [click for click in made if change.random() >= 0.2]
        for click in made:
            if change.random() < 0.3:
                click["price"] = str(int(click["price"]) + 7)
        made.extend(_made(change, advertiser_id, day, change.randint(1, 3)))
    return made


def _made(draw: random.Random, advertiser_id: str, day: date, count: int) -> Iterator[Click]:
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


class TalrooDemo(SandboxBase):
    """The provider of one customer with two advertisers. Errors have status 0 in a body with HTTP status 200."""

    def admit(self, request: SandboxRequest) -> None:
        message, _, ticket = request.query.rpartition("&ticket=")
        signature = hmac.new(CUSTOMER_SECRET.encode(), message.encode(), hashlib.sha256).hexdigest()
        named = request.params.get("customer_reference") == CUSTOMER_REFERENCE
        if not named or not hmac.compare_digest(ticket.encode(), signature.encode()):
            raise SandboxError(200, "unauthorized request")

    def error(self, status: int, message: str) -> SandboxResponse:
        return json_response({"status": 0, "message": message}, status)

    def report(self, request: SandboxRequest) -> SandboxResponse:
        params = request.params
        if params["advertiser_id"] not in ADVERTISERS:
            raise SandboxError(200, "not found")
        start, end = date.fromisoformat(params["start"]), date.fromisoformat(params["end"])
        days = [start + timedelta(days=number) for number in range((end - start).days + 1)]
        by_day = {
            day.isoformat(): clicks_of(params["advertiser_id"], day, restated=self.restated(day))
            for day in days
            if day <= self.today
        }
        report = {
            "status": 1,
            "start_day": start,
            "end_day": end + timedelta(days=1),
            "total_clicks": sum(map(len, by_day.values())),
            "clicks_report": {day: clicks for day, clicks in by_day.items() if clicks} or [],
        }
        body = json.dumps(report, default=str).replace("/", "\\/").encode()  # PHP's form: ASCII, slashes escaped
        return SandboxResponse(body=body)

    routes: ClassVar = {"GET /reporting/": report}


SANDBOX = Sandbox(
    connector="talroo",
    summary="two advertisers, some 25 clicks a day, two full months back",
    make=TalrooDemo,
    settings={
        "customer_reference": CUSTOMER_REFERENCE,
        "customer_secret": CUSTOMER_SECRET,
        "advertiser_ids": list(ADVERTISERS),
        # Talroo itself gets one request a second; a demo needs no pause.
        "requests_per_second": 200.0,
        "concurrency": 4,
    },
)
