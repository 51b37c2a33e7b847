"""
A demo of Convertr's API v4: login, JSON-LD collections in pages, leads by the time of their update.

Each of the last 120 days has up to 40 new leads, one day in 29 none; a third of the leads is updated once more, days
later. The tests of this connector have a stricter imitation with every filter, limit and form of an answer.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from penstock import Sandbox, SandboxBase, SandboxError, SandboxRequest, SandboxResponse, json_response
from penstock.sandbox import draw

USERNAME = "reader@sandbox.example"
PASSWORD = "sandbox password & more"  # noqa: S105  of an imitation; its signs try the form encoding

Item = dict[str, Any]

_DAYS = 120
_SET_UP = "2026-01-05T09:00:00+00:00"


def _ref(kind: str, number: int, type_: str, **members: Any) -> Item:
    return {"@id": f"/api/v4/{kind}/{number}", "@type": type_, **members}


@lru_cache(maxsize=4)
def leads_before(today: date) -> list[tuple[datetime, Item]]:
    """Every lead with the time of its update, none after yesterday."""
    end = datetime.combine(today, time(), UTC)
    found = []
    for back in range(_DAYS, 0, -1):
        day = today - timedelta(days=back)
        for index in range(draw("leads", day) % 41 if day.toordinal() % 29 else 0):
            number = (day.toordinal() - 737_000) * 1000 + index
            created = datetime.combine(day, time(), UTC) + timedelta(seconds=draw("created", number) % 86_000)
            updated = created + timedelta(seconds=draw("updated", number) % (5 * 86_400 if number % 3 == 0 else 300))
            found.append((updated if updated < end else created, _lead(number, created)))
    return found


def _lead(number: int, created: datetime) -> Item:
    at = draw("lead", number)
    flag = ("Valid", "Valid", "Valid", "Caution", "Invalid")[at % 5]
    payout, price = (f"{at % most / 100:.2f}" if flag == "Valid" else "0.00" for most in (900, 3000))
    data = {"answer": ("yes", "no", 'he said "perhaps"', "a, b\nc", "")[at % 5], "leadHash": f"{at:012x}"}
    return {
        **_ref("leads", number, "Lead", id=number, createdTs=created.isoformat(), score=100 - at % 60),
        "firstName": ("Ada", "Zoë", "Łukasz", "O'Neil")[at % 4],
        "email": f"lead{number}@lead.example",
        "baseCurrencyPublisherPayout": payout,
        "publisherPayout": payout,
        "publisherBillable": flag == "Valid",
        "baseCurrencyAdvertiserPayout": price,
        "advertiserPayout": price,
        "advertiserBillable": flag == "Valid",
        "leadData": [
            _ref("lead-datas", number * 10 + place, "LeadData", name=name, value=value)
            for place, (name, value) in enumerate(data.items())
        ],
        "campaign": f"/api/v4/campaigns/{600 + at % 12}",
        "leadFlag": _ref("lead-flags", 1, "LeadFlag", name=flag),
    }


def _campaign(number: int) -> Item:
    total, terms = draw("total", number) % 500, {"payout": "CPL", "payoutAmount": "10.00", "contractValue": "4500.00"}
    members = {"updatedTs": _SET_UP, "apiKey": f"{draw('key', number):012x}", "statistics": {"totalLeads": total}}
    return _ref("campaigns", number, "Campaign", id=number, name=f"Campaign {number} – Größe", **terms, **members)


def _contract(number: int) -> Item:
    bands = [
        _ref("campaign-publisher-bands", number * 10 + band, "CampaignPublisherBand", payout=f"{5 + band}.50")
        for band in range(1 + number % 3)
    ]
    publisher = _ref("publishers", 5 + number % 7, "Publisher", name="Star Publisher", email="p@lead.example")
    members = {"publisher": publisher, "campaign": _ref("campaigns", 600 + number % 12, "Campaign"), "current": True}
    contract = _ref("campaign-publishers", number, "CampaignPublisher", id=number, updatedTs=_SET_UP, **members)
    return {**contract, "campaignPublisherBands": bands}


def _job(number: int) -> Item:
    job = _ref("processr-jobs", number % 5, "ProcessrJob", name=f"Job {number % 5}")
    members = {"score": number % 11, "updatedTs": _SET_UP, "campaign": _ref("campaigns", 600 + number % 12, "Campaign")}
    return _ref("campaign-processr-jobs", number, "CampaignProcessrJob", id=number, processrJob=job, **members)


_SNAPSHOTS: dict[str, list[Item]] = {
    "campaigns": [_campaign(number) for number in range(600, 612)],
    "campaign-publishers": [_contract(number) for number in range(900, 930)],
    "campaign-processr-jobs": [_job(number) for number in range(7000, 7020)],
}
_KINDS = f"{{kind:{'|'.join(('leads', *_SNAPSHOTS))}}}"


class ConvertrDemo(SandboxBase):
    """One enterprise. Its collections take the page, its size, and for leads the bounds of their update."""

    def admit(self, request: SandboxRequest) -> None:
        if request.path != "/api/login":
            _, _, token = request.headers.get("authorization", "").partition(" ")
            if not self.tokens.accept(token):
                raise SandboxError(401, "The access token provided has expired or is invalid.")

    def login(self, request: SandboxRequest) -> SandboxResponse:
        form = dict(parse_qsl(request.body.decode()))
        if (form.get("username"), form.get("password")) != (USERNAME, PASSWORD):
            raise SandboxError(400, "Invalid username and password combination")
        token = self.tokens.issue(f"sandbox-token-{len(self.tokens.issued) + 1:04d}")
        return json_response({"access_token": token, "expires_in": 3600, "token_type": "bearer"})

    def items(self, kind: str, params: dict[str, str]) -> Iterator[Item]:
        if kind != "leads":
            yield from _SNAPSHOTS[kind]
            return
        after, before = params.get("updatedTs[after]"), params.get("updatedTs[strictly_before]")
        for updated, lead in leads_before(self.today):
            if (not after or updated.isoformat() >= after) and (not before or updated.isoformat() < before):
                yield lead

    def collection(self, request: SandboxRequest, kind: str) -> SandboxResponse:
        found = list(self.items(kind, request.params))
        page, size = int(request.params.get("page", 1)), int(request.params.get("itemsPerPage", 10))
        members = found[(page - 1) * size : page * size]
        return json_response({"hydra:member": members, "hydra:totalItems": len(found)})

    def single(self, request: SandboxRequest, kind: str, number: str) -> SandboxResponse:
        for item in self.items(kind, {}):
            if item["id"] == int(number):
                return json_response({"@context": f"/api/v4/contexts/{item['@type']}", **item})
        raise SandboxError(404, "Not Found")

    routes: ClassVar = {
        "POST /api/login": login,
        f"GET /api/v4/{_KINDS}": collection,
        f"GET /api/v4/{_KINDS}/{{number:[0-9]+}}": single,
    }


SANDBOX = Sandbox(
    connector="convertr",
    summary="API v4 with login, pages, and invented leads of the last 120 days",
    make=ConvertrDemo,
    settings={"username": USERNAME, "password": PASSWORD, "requests_per_second": 1000.0, "concurrency": 4},
)
