"""
An imitation of Convertr's API v4 for tests, strict where the provider is documented and adjustable where it is not.

It is written from the provider's documents, not from the connector: the two share the filter names only, which a test
holds against the provider's own samples. All data is invented and a pure function of the day and a number.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote
from zlib import crc32

from attrs import evolve
from connector_convertr.filters import DOCUMENTED
from connector_convertr.sandbox import PASSWORD, USERNAME
from penstock import SandboxBase, SandboxError, SandboxRequest, SandboxResponse, snake
from penstock.sandbox import SlidingWindow

CLIENT_ID = "1_sandbox"
CLIENT_SECRET = "sandbox-client-secret"  # of an imitation

_FORM = "application/x-www-form-urlencoded"
_PATHS = {
    "leads": "leads",
    "campaigns": "campaigns",
    "campaign-publishers": "campaign_publishers",
    "campaign-processr-jobs": "campaign_processr_jobs",
}
_CONTEXTS = {
    "leads": "Lead",
    "campaigns": "Campaign",
    "campaign_publishers": "CampaignPublisher",
    "campaign_processr_jobs": "CampaignProcessrJob",
}
_EPOCH = date(2020, 1, 1).toordinal()

Item = dict[str, Any]


class ConvertrSandbox(SandboxBase):
    """
    One enterprise. A test may change attributes; methods change what the provider holds; :meth:`truth` has the rows
    that a reader must end up with.
    """

    days_kept = 40  # leads exist from so many days before today, to yesterday
    most_per_page = 100
    default_per_page = 10
    prefix = "hydra:"  # "": as newer versions of the framework spell the envelope
    always_bare = False  # whether every collection is a bare array, whatever was accepted
    newer_leads = False  # whether leads have the members of newer editions
    login_paths: frozenset[str] = frozenset({"/api/login", "/oauth/v2/token"})
    auth_styles: frozenset[str] = frozenset({"bearer", "query"})
    token_life_s = 3600.0
    password_expired = False
    requests_per_window = 3000
    logins_per_window = 100
    window_s = 300.0
    retry_after: str | None = "1"  # of a 429; None: no such header

    def __init__(self, base_url: str, today: date, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(base_url, today, clock=clock)
        self.after_page: Callable[[str, int], None] | None = None  # called with stream and page, once it was made
        self._rates = {"login": SlidingWindow(self.window_s), "api": SlidingWindow(self.window_s)}
        self.items: dict[str, dict[int, Item]] = {stream: {} for stream in _CONTEXTS}
        self.updated_at: dict[int, datetime] = {}
        self.created_at: dict[int, datetime] = {}
        for made, stream in ((_campaigns(), "campaigns"), (_publishers(), "campaign_publishers")):
            self.items[stream] = {item["id"]: item for item in made}
        self.items["campaign_processr_jobs"] = {item["id"]: item for item in _jobs()}
        for back in range(self.days_kept, 0, -1):
            for item, created, updated in _leads(today - timedelta(days=back), today):
                self.items["leads"][item["id"]] = dict(item)
                self.created_at[item["id"]], self.updated_at[item["id"]] = created, updated

    # --- what a test may change ---------------------------------------------------------------------------------

    def update_lead(self, lead: int, at: datetime, **members: Any) -> None:
        """Change members of a lead; ``at`` becomes its ``updatedTs``."""
        with self.lock:
            self.items["leads"][lead] |= members
            self.updated_at[lead] = at

    def restate(self, day: date, at: datetime | None = None) -> list[int]:
        """
        Make every lead last updated on ``day`` (UTC) invalid and unpaid, updated ``at`` (default: today's first
        second). Returns their ids.
        """
        moved = [lead for lead, updated in self.updated_at.items() if updated.astimezone(UTC).date() == day]
        unpaid = dict.fromkeys((f"{base}{who}Payout" for base in ("baseCurrency", "") for who in _SIDES), "0.00")
        unpaid = {name[0].lower() + name[1:]: value for name, value in unpaid.items()}
        invalid = {"@id": "/api/v4/lead-flags/3", "@type": "LeadFlag", "name": "Invalid"}
        for lead in moved:
            self.update_lead(
                lead,
                at or _midnight(self.today),
                leadFlag=invalid,
                advertiserBillable=False,
                publisherBillable=False,
                **unpaid,
            )
        return moved

    def delete(self, stream: str, item: int) -> None:
        """Remove a record, as a data-protection request would."""
        with self.lock:
            self.items[stream].pop(item)

    def fail_next(self, how: Any, times: int = 1, *, on: str = " /api/v4/", **headers: str) -> None:
        """As in the base, for requests to the API; ``headers`` are added to the answer of a status."""
        if isinstance(how, int):
            answer = _problem(how, "An error occurred", f"sandbox fault {how}")
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            how = evolve(answer, headers={**answer.headers, **named})
        super().fail_next(how, times, on=on)

    def cut_next(self, times: int = 1) -> None:
        """The next good answers of the API end in the middle, with a length to match."""
        self.fail_next(lambda answer: evolve(answer, body=answer.body[: len(answer.body) // 2]), times)

    # --- what a reader must end up with -------------------------------------------------------------------------

    def truth(
        self, stream: str, day: date | None = None, *, start: datetime | None = None, end: datetime | None = None
    ) -> list[dict[str, Any]]:
        """
        The rows of a stream as they must be delivered, by id: only columns that have a value here, money and rates as
        Decimal, times as the text sent, nested parts without what must never leave. Of leads and what hangs on them:
        only those updated on the UTC ``day``, or from ``start`` on and before ``end``.
        """
        detailed = {"lead": "leads", **{name.removesuffix("s"): name for name in _CONTEXTS if name != "leads"}}
        of = {"lead_data": "leads", "campaign_publisher_bands": "campaign_publishers", **detailed}.get(stream, stream)
        with self.lock:
            items = [self._wire(of, item) for _, item in sorted(self.items[of].items())]
        if day is not None:
            start, end = _midnight(day), _midnight(day + timedelta(days=1))
        if start is not None:
            items = [item for item in items if self.updated_at[item["id"]] >= start]
        if end is not None:
            items = [item for item in items if self.updated_at[item["id"]] < end]
        if stream == "lead_data":
            return [
                {"lead_id": item["id"], **_row(part, frozenset())}
                for item in items
                for part in item["leadData"]
                if part["name"] != "leadHash"
            ]
        if stream == "campaign_publisher_bands":
            return [
                {"campaign_publisher_id": item["id"], **_row(part, _MONEY)}
                for item in items
                for part in item["campaignPublisherBands"]
            ]
        rows = [_row(item, _MONEY) for item in items]
        for row in rows:
            if of == "leads":
                row["lead_data"] = [part for part in row["lead_data"] if part["name"] != "leadHash"]
            if stream in detailed:
                row["at_context"] = f"/api/v4/contexts/{_CONTEXTS[of]}"
        return rows

    # --- the API ------------------------------------------------------------------------------------------------

    def admit(self, request: SandboxRequest) -> None:
        if request.path in ("/api/login", "/oauth/v2/token"):
            return
        if any(sign in request.query for sign in "[]+ "):
            raise _refused(_problem(400, "Bad Request", "[ ] and + must be percent-encoded in a query"))
        self._limit("api", self.requests_per_window)
        self._authenticate(request, dict(_query(request)))

    def error(self, status: int, message: str) -> SandboxResponse:
        return _problem(status, "An error occurred", message)

    def missing(self, request: SandboxRequest, allowed: tuple[str, ...]) -> SandboxResponse:
        if allowed and (request.path not in ("/api/login", "/oauth/v2/token") or request.path in self.login_paths):
            raise SandboxError(405, f"Method Not Allowed (Allow: {', '.join(allowed)})")
        raise SandboxError(404, f'No route found for "{request.method} {request.path}"')

    def login(self, request: SandboxRequest) -> SandboxResponse:
        if request.path not in self.login_paths:
            return self.missing(request, ())
        self._limit("login", self.logins_per_window)
        if request.headers.get("content-type", "").partition(";")[0].strip() != _FORM:
            raise _refused(_oauth(400, "invalid_request", f"The body must be {_FORM}"))
        form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        older = request.path == "/oauth/v2/token"
        if older and form.get("grant_type") != "password":
            raise _refused(_oauth(400, "invalid_request", "Invalid grant_type parameter or parameter missing"))
        if older and (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            raise _refused(_oauth(400, "invalid_client", "The client credentials are invalid"))
        if (form.get("username"), form.get("password")) != (USERNAME, PASSWORD):
            raise _refused(_oauth(400, "invalid_grant", "Invalid username and password combination"))
        number = len(self.tokens.issued) + 1
        token = self.tokens.issue(f"sandbox-token-{number:04d}", life_s=self.token_life_s)
        granted: Item = {
            "access_token": token,
            "expires_in": int(self.token_life_s),
            "token_type": "bearer",
            "scope": None,
            "refresh_token": f"sandbox-refresh-{number:04d}",
        }
        if not older:
            granted |= {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
            granted |= {"user_id": 7, "password_expired": self.password_expired}
        return _json(granted)

    def single(self, request: SandboxRequest, section: str, name: str) -> SandboxResponse:
        stream, linked = _PATHS[section], self._linked(request)
        if not name.isdigit() or int(name) not in self.items[stream]:
            raise SandboxError(404, "Not Found")
        item = self._wire(stream, self.items[stream][int(name)])
        context = {"@context": f"/api/v4/contexts/{_CONTEXTS[stream]}"} if linked else {}
        return _json({**context, **item}, linked=linked)

    def _linked(self, request: SandboxRequest) -> bool:
        """Whether JSON-LD is accepted."""
        accept = request.headers.get("accept", "*/*")
        linked = "ld+json" in accept or "*/*" in accept
        if not linked and "application/json" not in accept:
            raise SandboxError(406, f'Requested format "{accept}" is not supported')
        return linked

    def _authenticate(self, request: SandboxRequest, query: Mapping[str, str]) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        style = "bearer"
        if kind.lower() != "bearer":
            style, token = "query", query.get("access_token", "")
        if not token:
            raise _refused(_oauth(401, "access_denied", "OAuth2 authentication required"))
        if style not in self.auth_styles or not self.tokens.accept(token):
            raise _refused(_oauth(401, "invalid_grant", "The access token provided has expired or is invalid."))
        if self.password_expired:
            raise SandboxError(403, "Access Denied.")

    def _limit(self, kind: str, most: int) -> None:
        if not self._rates[kind].accept(self.clock(), most):
            waiting = {"Retry-After": self.retry_after} if self.retry_after is not None else {}
            answer = _problem(429, "Too Many Requests", f"More than {most} requests in 5 minutes")
            raise _refused(evolve(answer, headers={**answer.headers, **waiting}))

    def collection(self, request: SandboxRequest, section: str) -> SandboxResponse:
        stream, linked, query = _PATHS[section], self._linked(request), _query(request)
        page, size = 1, self.default_per_page
        orders: list[tuple[str, bool]] = []
        expected: dict[str, list[str]] = {}
        for name, value in query:
            if name in ("page", "itemsPerPage"):
                if not value.isdigit() or int(value) < 1:
                    raise SandboxError(400, f"{name} should not be less than 1")
                page, size = (int(value), size) if name == "page" else (page, min(int(value), self.most_per_page))
            elif name.startswith("order[") and name in DOCUMENTED[stream]:
                if value not in ("asc", "desc"):
                    raise SandboxError(400, f"{name}: asc or desc")
                orders.append((name[6:-1], value == "desc"))
            elif name in DOCUMENTED[stream]:
                expected.setdefault(name, []).append(value)
            elif name != "access_token":
                # The provider ignores such a parameter; a test must notice that it filters nothing.
                raise SandboxError(400, f"unknown parameter {name}")
        found = [item for item in self.items[stream].values() if self._matches(stream, item, expected)]
        found.sort(key=lambda item: int(item["id"]))
        for path, descending in reversed(orders):
            found.sort(key=lambda item: _rank(_values(item, path)), reverse=descending)
        members = [self._wire(stream, item) for item in found[(page - 1) * size : page * size]]
        if self.after_page is not None:
            self.after_page(stream, page)
        if not linked or self.always_bare:
            return _json(members)
        last = max(1, -(-len(found) // size))
        body = {
            "@context": f"/api/v4/contexts/{_CONTEXTS[stream]}",
            "@id": request.path,
            "@type": f"{self.prefix}Collection",
            f"{self.prefix}member": members,
            f"{self.prefix}totalItems": len(found),
            f"{self.prefix}view": self._view(request, page, last),
            f"{self.prefix}search": {
                "@type": f"{self.prefix}IriTemplate",
                f"{self.prefix}template": f"{request.path}{{?{','.join(DOCUMENTED[stream])}}}",
                f"{self.prefix}variableRepresentation": "BasicRepresentation",
            },
        }
        return _json(body, linked=True)

    def _view(self, request: SandboxRequest, page: int, last: int) -> Item:
        """Links that repeat the whole query, as the provider's do, a token in it included."""
        kept = "&".join(part for part in request.query.split("&") if part and not part.startswith("page="))
        links = {"@id": page, "first": 1, "last": last, "previous": page - 1, "next": page + 1}
        view: Item = {"@type": f"{self.prefix}PartialCollectionView"}
        for name, number in links.items():
            if 1 <= number <= max(last, page) and not (name == "next" and number > last):
                view[name if name == "@id" else f"{self.prefix}{name}"] = f"{request.path}?{kept}&page={number}"
        return view

    def _wire(self, stream: str, item: Item) -> Item:
        if stream != "leads" or not self.newer_leads:
            return dict(item)
        more = {
            "channel": {"@id": "/api/v4/channels/1", "@type": "Channel", "id": 1, "name": "Web"},
            "ip": "192.0.2.7",
            "title": "Dr",
            "dob": "1980-02-29",
            "fingerprint": "f" * 16,
            "optIn": True,
            "doubleOptIn": "",
            "processingCounter": 1,
            "overAllocation": "",
            "updatedTs": _text(self.updated_at[item["id"]], item["id"]),
            "somethingNew": {"kept": True},
        }
        return {**item, **more}

    def _matches(self, stream: str, item: Item, expected: Mapping[str, list[str]]) -> bool:
        for name, values in expected.items():
            path, bracket, bound = name.removesuffix("[]").partition("[")
            if bracket:
                if not _within(self._moment(stream, item, path), bound.rstrip("]"), values[-1]):
                    return False
            elif name == "latest":
                if _truth(values[-1]) and not item["current"]:
                    return False
            elif name != "grouped":  # documented by its name only
                there = {_plain(value) for value in self._found(stream, item, path)}
                several = values if name.endswith("[]") else values[-1:]
                if not there & {str(value) for value in several}:
                    return False
        return True

    def _moment(self, stream: str, item: Item, member: str) -> datetime | None:
        if stream == "leads":
            return (self.updated_at if member == "updatedTs" else self.created_at)[item["id"]]
        text = item.get(member)
        return datetime.fromisoformat(text) if text else None

    def _found(self, stream: str, item: Item, path: str) -> Iterator[Any]:
        """The values a filter looks at, across relations that the record itself does not show."""
        if path == "idName":
            yield from (item["id"], item["name"])
        elif stream == "campaigns" and path.startswith(("campaignProcessrJobs.", "campaignPublishers.")):
            relation, _, rest = path.partition(".")
            others = "campaign_processr_jobs" if relation == "campaignProcessrJobs" else "campaign_publishers"
            for other in self.items[others].values():
                if other["campaign"]["id"] == item["id"]:
                    yield from _values(other, rest)
        elif path in ("campaignManager", "accountManager"):
            yield from _values(item, f"{path}.id")
        else:
            yield from _values(item, path)

    routes: ClassVar = {
        "POST /api/login": login,
        "POST /oauth/v2/token": login,
        f"GET /api/v4/{{section:{'|'.join(_PATHS)}}}": collection,
        f"GET /api/v4/{{section:{'|'.join(_PATHS)}}}/{{name}}": single,
    }


# --- answers --------------------------------------------------------------------------------------------------------


def _refused(answer: SandboxResponse) -> SandboxError:
    return SandboxError(answer.status, response=answer)


def _query(request: SandboxRequest) -> list[tuple[str, str]]:
    parts = [part.partition("=") for part in request.query.split("&") if part]
    return [(unquote(name, errors="strict"), unquote(value, errors="strict")) for name, _, value in parts]


def _json(value: Any, *, status: int = 200, linked: bool = False) -> SandboxResponse:
    kind = "application/ld+json; charset=utf-8" if linked else "application/json; charset=utf-8"
    return SandboxResponse(status=status, headers={"Content-Type": kind}, body=json.dumps(value).encode())


def _problem(status: int, title: str, description: str) -> SandboxResponse:
    body = {
        "@context": "/api/v4/contexts/Error",
        "@type": "hydra:Error",
        "hydra:title": title,
        "hydra:description": description,
    }
    return _json(body, status=status, linked=True)


def _oauth(status: int, error: str, description: str) -> SandboxResponse:
    return _json({"error": error, "error_description": description}, status=status)


# --- filters --------------------------------------------------------------------------------------------------------


def _values(value: Any, path: str) -> Iterator[Any]:
    """The values at a dotted path; the id of a reference is its last part."""
    name, _, rest = path.partition(".")
    if isinstance(value, str) and value.startswith("/api/v4/") and name == "id":
        yield int(value.rpartition("/")[2])
    elif isinstance(value, dict) and value.get(name) is not None:
        yield from _values(value[name], rest) if rest else (value[name],)


def _rank(values: Iterable[Any]) -> tuple[bool, Any]:
    first = next(iter(values), None)
    return (False, 0) if first is None else (True, first)


def _plain(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _truth(text: str) -> bool:
    return text in ("true", "1")


def _within(moment: datetime | None, bound: str, text: str) -> bool:
    try:
        limit = datetime.fromisoformat(text)
    except ValueError:
        raise SandboxError(400, f"{text!r} is no date") from None
    if moment is None:
        return False
    limit = limit if limit.tzinfo is not None else limit.replace(tzinfo=UTC)
    return {
        "after": moment >= limit,
        "strictly_after": moment > limit,
        "before": moment <= limit,
        "strictly_before": moment < limit,
    }[bound]


# --- data -----------------------------------------------------------------------------------------------------------

_SIDES = ("Publisher", "Advertiser")
_FLAGS = ("Valid", "Caution", "Invalid")
_AMOUNTS = """
    publisherPayout advertiserPayout baseCurrencyPublisherPayout baseCurrencyAdvertiserPayout defaultSaleValue
    contractValue baseCurrencyContractValue conversionRate payoutAmount baseCurrencyPayoutAmount fixedAmountPayout
    fixedAmountBasePayout
"""
_MONEY = frozenset(_AMOUNTS.split())
_SECRET = frozenset(("apiKey", "facebookSystemUserAccessToken", "signHash", "linkHash", "config"))


_named = cache(snake)


def _row(item: Item, money: frozenset[str]) -> dict[str, Any]:
    # A band's payout is an amount; a campaign's payout is a word.
    return {
        _named(name): Decimal(value) if isinstance(value, str) and (name in money or _is_amount(name, value)) else value
        for name, value in item.items()
        if name not in _SECRET
    }


def _is_amount(name: str, value: str) -> bool:
    return name in ("payout", "baseCurrencyPayout") and value.replace(".", "").isdigit()


def _draw(below: int, *of: Any) -> int:
    """A number from 0 to ``below`` - 1, always the same for the same arguments."""
    return crc32("/".join(map(str, of)).encode()) % below


def _hash(*of: Any) -> str:
    return "".join(f"{crc32(f'{number}/{of}'.encode()):08x}" for number in range(4))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _text(moment: datetime, number: int) -> str:
    """With one of two offsets: the provider mixes them."""
    return moment.astimezone(timezone(timedelta(hours=number % 2))).isoformat()


def _ref(kind: str, number: int, type_: str, **members: Any) -> Item:
    return {"@id": f"/api/v4/{kind}/{number}", "@type": type_, **members}


def leads_on(day: date) -> int:
    """How many leads are created on a day: some days need several pages, some have none."""
    if day.toordinal() % 29 == 0:
        return 0
    return 130 + _draw(140, "busy", day) if day.toordinal() % 10 == 3 else 15 + _draw(60, "leads", day)


@lru_cache(maxsize=1000)
def _leads(day: date, today: date) -> tuple[tuple[Item, datetime, datetime], ...]:
    """The leads created on ``day`` with their times of creation and update; whoever changes one takes a copy."""
    return tuple(_made_leads(day, today))


def _made_leads(day: date, today: date) -> Iterator[tuple[Item, datetime, datetime]]:
    for index in range(leads_on(day)):
        number = (day.toordinal() - _EPOCH) * 1000 + index
        created = _midnight(day) + timedelta(seconds=_draw(86_000, "created", number))
        updated = created + timedelta(seconds=_draw(300, "soon", number))
        if _draw(10, "late", number) < 3:
            updated = created + timedelta(seconds=_draw(5 * 86_400, "later", number))
        if updated >= _midnight(today):
            updated = created
        yield _lead(number, created), created, updated


def _lead(number: int, created: datetime) -> Item:
    flag = 0 if _draw(10, "flag", number) < 7 else 1 + _draw(2, "worse", number)
    billable = flag == 0
    payout = f"{_draw(900, 'payout', number) / 100:.2f}" if billable else "0.00"
    price = f"{_draw(3000, 'price', number) / 100:.2f}" if billable else "0.00"
    first = ("Ada", "Zoë", "Łukasz", "Grace", "O'Neil", "Björn")[_draw(6, "first", number)]
    campaign = 600 + _draw(_CAMPAIGNS, "campaign", number)
    data = {
        "emailDomain": "@lead.example",
        "createdDate": created.date().isoformat(),
        "answer": ("yes", "no", 'he said "perhaps"', "a, b\nc", "")[_draw(5, "answer", number)],
        "leadHash": _hash("lead", number),
    }
    return {
        "@id": f"/api/v4/leads/{number}",
        "@type": "Lead",
        "id": number,
        "publisherSubId": None if number % 3 else f"sub-{number % 7}",
        "formHash": str(100 + campaign % 40),
        "createdTs": _text(created, number),
        "postcode": "" if number % 4 else "AB1 2CD",
        "addressLine1": "",
        "addressLine2": "",
        "addressLine3": "",
        "addressLine4": "",
        "firstName": first,
        "lastName": "Example",
        "email": f"lead{number}@lead.example",
        "telephone": f"07700{900000 + number % 1000}",
        "integration": False,
        "overAllocation": False,
        "visible": True,
        "processrStatus": 1000,
        "score": (100, 85, 40)[flag],
        "hardfail": flag == 2,
        "maxScore": 100,
        "baseCurrencyPublisherPayout": payout,
        "publisherPayout": payout,
        "baseCurrencyAdvertiserPayout": price,
        "advertiserPayout": price,
        "advertiserBillable": billable,
        "publisherBillable": billable,
        "leadData": [
            _ref("lead-datas", number * 10 + place, "LeadData", name=name, value=value)
            for place, (name, value) in enumerate(data.items())
        ],
        "leadNotes": [f"/api/v4/lead-notes/{number}"] if flag else [],
        "campaign": f"/api/v4/campaigns/{campaign}",
        "qaResult": _ref("lead-qa-results", 1, "LeadQaResult", name="Valid"),
        "leadFlag": _ref("lead-flags", flag + 1, "LeadFlag", name=_FLAGS[flag]),
        "leadProcessrJobs": [f"/api/v4/processr-job-leads/{number * 10 + place}" for place in range(number % 3)],
    }


_CAMPAIGNS = 130
_CONTRACTS = 260
_JOBS = 210
_SET_UP = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def _statistics(*of: Any) -> Item:
    total = _draw(500, "total", *of)
    invalid = _draw(total + 1, "invalid", *of) // 4
    return {
        "totalLeads": total,
        "invalidLeads": invalid,
        "cautionLeads": invalid // 2,
        "validLeads": total - invalid,
        "billableLeads": total - invalid,
        "deliveredLeads": total - invalid,
        "heldLeads": 0,
        "processingLeads": 0,
    }


_SWITCHES = """
    exposePublisher exposePublisherSub integrate callCentre welcomeEmail doubleOptin scoreBaseRouting
    internalOnly manualScore useValueTransforms sendVoucher testMode sendMediakit
    holdPublisherOverDelivery valueBasedRouting autoSignPublisher variablePublisherPayout
    useScheduledDelivery uncapped allowPublisherImportExport
"""


def _campaigns() -> Iterator[Item]:
    for number in range(600, 600 + _CAMPAIGNS):
        euro = number % 4 == 0
        value = 1000 + _draw(9000, "contract", number)
        revenue = _draw(100_000, "revenue", number)
        yield {
            **_ref("campaigns", number, "Campaign"),
            "status": ("Active", "Paused", "Completed")[number % 3],
            "id": number,
            "name": f"Campaign {number} – Größe",
            "startTs": _text(_SET_UP, number),
            "endTs": None if number % 5 else _text(_SET_UP + timedelta(days=300), number),
            "pauseTs": None,
            "updatedTs": _text(_SET_UP + timedelta(hours=number), number),
            "signTs": _text(_SET_UP, number + 1),
            **{flag: _draw(2, flag, number) == 1 for flag in _SWITCHES.split()},
            "defaultThresholdScore": 70,
            "defaultPublisherRate": 55,
            "combinedJobScore": 140,
            "endTsExtension": 0,
            "leadProcessDelay": 0,
            "leadsRequired": 100,
            "defaultSaleValue": "0.01",
            "defaultSaleCurrency": "EUR" if euro else "GBP",
            "contractValue": f"{value}.00",
            "baseCurrencyContractValue": f"{value * 85 // 100}.50" if euro else f"{value}.00",
            "payoutAmount": "10.00",
            "baseCurrencyPayoutAmount": "8.50" if euro else "10.00",
            "conversionRate": "0.8500" if euro else "1.0000",
            "payout": "CPL",
            "publisherPayoutType": "CPL",
            "performanceModel": "full",
            "campaignMarket": "b2b",
            "unavailableCampaignLogic": "allow_leads",
            "unavailableCampaignRedirectUrl": None,
            "advertiser": _ref("advertisers", 300 + number % 9, "Advertiser", id=300 + number % 9, name="Advertiser"),
            "subcategory": _ref("subcategories", 1, "Subcategory", id=1, name="Marketing"),
            "currency": _ref(
                "currencies",
                2 if euro else 1,
                "Currency",
                id=2 if euro else 1,
                name="EUR" if euro else "GBP",
                symbol="€" if euro else "£",
                base=not euro,
                rateToBase="0.8500" if euro else "1.0000",
            ),
            "accountManager": None,
            "campaignManager": None,
            "country": None,
            "publisherTerms": None,
            "facebookOfflineEventSetId": None,
            "facebookSystemUserAccessToken": _hash("facebook", number) if number % 2 else None,
            "apiKey": _hash("api", number),
            "signHash": _hash("sign", number),
            "notes": None,
            "terms": "",
            "signName": "Sam Signer",
            "signRole": "buyer",
            "signIoNumber": str(7000 + number),
            "statistics": {
                **_statistics("campaign", number),
                "impressions": 0,
                "conversions": 2,
                "lastConversion": "2026-03-01T10:56:35+01:00",
                "clicks": 2,
                "activePublishers": 2,
                "totalSales": 0,
                "campaignRevenue": {"revenue": f"{revenue / 100:.2f}", "baseCurrencyRevenue": f"{revenue / 100:.2f}"},
                "unsignedContracts": 0,
            },
            "purchaseOrder": None,
            "referenceNumber": None,
            "purchaseOrderFile": None,
        }


def _publishers() -> Iterator[Item]:
    for index in range(_CONTRACTS):
        # Two versions of each contract: the same publisher on the same campaign, the later one is in force.
        number, pair, current = 900 + index, index // 2, index % 2 == 1
        campaign, publisher = 600 + pair % _CAMPAIGNS, 5 + pair % 11
        user = _ref("users", 223, "User", id=223, username="cvtr.user")
        totals = {"earnings": "16.50", "baseCurrencyEarnings": "16.50", **_statistics("contract", pair)}
        odd = {" " if name == "totalLeads" else name: value for name, value in totals.items()}
        fixed = f"{_draw(5000, 'fixed', number)}.00" if number % 6 == 0 else None
        yield {
            **_ref("campaign-publishers", number, "CampaignPublisher"),
            "id": number,
            "leadsRequired": 10 + index,
            "startTs": _text(_SET_UP + timedelta(days=index % 2), number),
            "endTs": None,
            "signName": "Star Publisher",
            "signRole": "Publisher",
            "signedTs": _text(_SET_UP, number),
            "signedIp": "192.0.2.125",
            "updatedTs": _text(_SET_UP + timedelta(hours=index), number),
            "createdTs": _text(_SET_UP, number + 1),
            "terms": None,
            "linkHash": _hash("link", number),
            "publisher": _ref(
                "publishers", publisher, "Publisher", id=publisher, name="Star Publisher", email="p@lead.example"
            ),
            "campaign": _ref(
                "campaigns",
                campaign,
                "Campaign",
                status=("Active", "Paused", "Completed")[campaign % 3],
                id=campaign,
                name=f"Campaign {campaign} – Größe",
                startTs=_text(_SET_UP, campaign),
                endTs=None,
                advertiser=_ref(
                    "advertisers", 300 + campaign % 9, "Advertiser", id=300 + campaign % 9, email="a@lead.example"
                ),
                currency=_ref("currencies", 1, "Currency", name="GBP", symbol="£"),
                allowPublisherImportExport=True,
            ),
            "updatedBy": user,
            "createdBy": user,
            "publisherApplication": _ref(
                "campaign-publisher-applications",
                700 + pair,
                "CampaignPublisherApplication",
                id=700 + pair,
                status="Accepted",
            ),
            "trackConversion": [] if index % 5 else {"1": "pixel"},
            "current": current,
            "campaignPublisherBands": [
                {
                    **_ref("campaign-publisher-bands", number * 10 + band, "CampaignPublisherBand"),
                    "payout": f"{5 + band}.50",
                    "baseCurrencyPayout": f"{5 + band}.50",
                    "campaignPayoutBand": None if band == 0 else f"/api/v4/campaign-payout-bands/{band}",
                    "leadsRequired": None if band == 0 else 50,
                    "statistics": odd if band == 0 else totals,
                }
                for band in range(1 + pair % 3)
            ],
            "uncapped": False,
            "capsOnBands": False,
            "statistics": {**totals, "lastConversion": "2026-03-01T10:56:35+01:00", "clicks": 2},
            "contractType": "cpl",
            "fixedAmountPayout": fixed,
            "fixedAmountBasePayout": fixed,
            "fixedAmountFulfilled": None,
            "currentContractStatus": "Active" if current else "Superseded",
        }


def _jobs() -> Iterator[Item]:
    for index in range(_JOBS):
        number, kind = 7000 + index, 1000 + index % 12
        campaign, category = 600 + index % _CAMPAIGNS, 1 + index % 3
        passed, failed = _draw(300, "passed", number), _draw(20, "failed", number)
        yield {
            **_ref("campaign-processr-jobs", number, "CampaignProcessrJob"),
            "id": number,
            "stage": 50,
            "score": index % 11,
            "hardfail": index % 7 == 0,
            "visible": True,
            "enabled": True,
            "updatedTs": _text(_SET_UP + timedelta(hours=index), number),
            "campaign": _ref("campaigns", campaign, "Campaign", status="Active", id=campaign, name="Campaign"),
            "processrJob": _ref(
                "processr-jobs",
                kind,
                "ProcessrJob",
                id=kind,
                defaultJob=False,
                name=f"Job {kind}",
                defaultScore=0,
                defaultHardfail=False,
                description="",
                processrJobCategory=_ref(
                    "processr-job-categories", category, "ProcessrJobCategory", id=category, name=f"Category {category}"
                ),
                updated=None,
            ),
            "updatedBy": _ref("users", 223, "User", id=223, username="cvtr.user2"),
            "label": "",
            # PHP prints an empty map as [].
            "campaignMapping": [] if index % 4 else {"firstName": "fname"},
            "routeByScoreMinimum": None,
            "routeByScoreMaximum": None if index % 2 else 80,
            "routingValues": [],
            "shownOnCampaign": index % 2 == 0,
            "config": {"ftpPassword": _hash("ftp", number)} if category == 2 else [],
            "alwaysDeliver": False,
            "campaignProcessrJobGroupJob": [],
            "statistics": {"total": passed + failed, "passed": passed, "failed": failed},
            "unmappedFields": [],
        }
