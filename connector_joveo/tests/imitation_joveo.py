"""
An imitation of Joveo for tests, written from its page: credentials, listings, reports, and what writes change.

Where the page leaves something open (paths, the first page, the id of a report, the form of its file), an attribute of
:class:`JoveoSandbox` chooses one of the readings. Data are a pure function of ``today``, client and index.
"""

import csv
import gzip
import io
import random
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qs, quote, unquote

import msgspec
from attrs import define, field
from connector_joveo.sandbox import API_CLIENT_ID, API_KEY, FAMILY_ID, PUBLISHERS
from penstock import SandboxBase, SandboxError, SandboxRequest, SandboxResponse, json_response, snake
from penstock.sandbox import json_body

Row = dict[str, Any]

RETENTION_DAYS = 60
JOBS_LISTED = 10_000

# What a level of the stats report puts into a row; the page prints neither levels nor columns.
LEVELS: Mapping[str, tuple[str, ...]] = {
    "DATE": ("date",),
    "CLIENT": ("clientId", "clientName"),
    "CAMPAIGN": ("campaignId", "campaignName"),
    "JOBGROUP": ("jobGroupId", "jobGroupName"),
    "JOB": ("jobId", "refNumber"),
    "PUBLISHER": ("publisher",),
}

_encode = msgspec.json.Encoder(decimal_format="number").encode


@define(kw_only=True)
class Report:
    """A submitted report."""

    kind: str
    owner: str
    rows: list[Row]
    polls: int = 0


@define(eq=False)
class JoveoSandbox(SandboxBase):
    """
    The imitation, served at ``base_url``. Any attribute may be changed while it is served.

    ``page_zero``: what page 0 of a listing is: ``first`` (pages count from 0), ``same`` (as page 1), ``refused``.
    ``id_in``: the place of the report's id in the response to a submission. ``file_format``: of downloads, ``.gz`` for
    compressed ones.
    ``unpaged``: how the two unpaged listings answer; ``mixed`` is one object for one row, else an array.
    """

    jobs_per_client: Sequence[int] = (1203, 37, 0)
    polls_until_ready: int = 2
    page_zero: Literal["first", "same", "refused"] = "first"
    id_in: Literal["location", "header", "json", "text", "nowhere"] = "location"
    unpaged: Literal["mixed", "data", "array"] = "mixed"
    file_format: str = "json"
    parts: int = 2
    final_status: str = "SUCCESS"
    token_uses: int | None = None  # after so many requests a token is refused, as if its day were over
    token_life_s: int = 86_400
    download_base: str | None = None
    forbidden_clients: set[str] = field(factory=set)
    most_per_page: int = 1000  # records of a page, whatever limit is requested

    clients: dict[str, Row] = field(factory=dict, init=False)
    status: dict[str, str] = field(factory=dict, init=False)
    idx_fields: dict[str, Row] = field(factory=dict, init=False)
    campaigns: dict[str, dict[str, Row]] = field(factory=dict, init=False)
    job_groups: dict[str, dict[tuple[str, str], Row]] = field(factory=dict, init=False)  # (campaign, id)
    feeds: dict[str, dict[str, Row]] = field(factory=dict, init=False)
    jobs: dict[str, dict[str, Row]] = field(factory=dict, init=False)  # by refNumber
    configs: dict[str, dict[str, Row]] = field(factory=dict, init=False)
    posted: dict[str, dict[tuple[str, str], Row]] = field(factory=dict, init=False)  # (config, refNumber)
    events: list[Row] = field(factory=list, init=False)  # what was sent to the funnel and s2s operations
    leaks: list[str] = field(factory=list, init=False)  # downloads that carried credentials
    submissions: list[Row] = field(factory=list, init=False)

    _reports: dict[str, Report] = field(factory=dict, init=False)
    _links: int = field(default=0, init=False)  # the generation of download links that is valid
    _made: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        for number, jobs in enumerate(self.jobs_per_client):
            self._make_client(number, jobs)

    # --- knobs --------------------------------------------------------------------------------------------------------

    @property
    def logins(self) -> int:
        """How many tokens were granted."""
        return len(self.tokens.issued)

    def expire_links(self) -> None:
        """Every download link given so far is refused from now on; the next poll gives fresh ones."""
        with self.lock:
            self._links += 1

    def lose_reports(self) -> None:
        with self.lock:
            self._reports.clear()

    # --- what a reader should find ------------------------------------------------------------------------------------

    def truth(
        self,
        stream: str,
        client: str | None = None,
        day: date | None = None,
        *,
        levels: Sequence[str] = ("DATE", "CAMPAIGN", "PUBLISHER"),
        publishers: Sequence[str] = PUBLISHERS[:2],
        period: str = "LAST_30_DAYS",
    ) -> list[Row]:
        """
        The rows of a stream's partition, by column; columns the provider does not send are not in them.
        """
        with self.lock:
            return [{snake(name): value for name, value in row.items()} for row in self._truth(
                stream, client or "", day or self.today, levels, publishers, period
            )]  # fmt: skip

    def _truth(
        self, stream: str, client: str, day: date, levels: Sequence[str], publishers: Sequence[str], period: str
    ) -> Iterable[Row]:
        owned = {"client_id": client}
        groups = self.job_groups.get(client, {})
        configs = self.configs.get(client, {})
        posted = self.posted.get(client, {})
        simple: dict[str, Callable[[], Iterable[Row]]] = {
            "clients": lambda: self.clients.values(),
            "jobs": lambda: list(self.jobs[client].values())[:JOBS_LISTED],
            "job_details": lambda: list(self.jobs[client].values())[:JOBS_LISTED],
            "jobs_by_id": lambda: list(self.jobs[client].values())[:JOBS_LISTED],
            "campaigns": lambda: self.campaigns[client].values(),
            "campaign_details": lambda: self.campaigns[client].values(),
            "job_groups": lambda: groups.values(),
            "campaign_job_groups": lambda: [{**row, "campaign_id": key[0]} for key, row in groups.items()],
            "job_group_details": lambda: [{**row, "campaign_id": key[0]} for key, row in groups.items()],
            "feeds": lambda: self.feeds[client].values(),
            "feed_details": lambda: self.feeds[client].values(),
            "posting_configs": lambda: configs.values(),
            "posting_config_details": lambda: [_as_detail(row) for row in configs.values()],
            "publisher_posting_configs": lambda: [
                {**row, "publisher_id": row["placement"]} for row in configs.values() if row["placement"] in publishers
            ],
            "publisher_posted_jobs": lambda: [
                {**row, "publisher_id": one} for one in publishers for row in self._posted_over(client, one)
            ],
            "posting_config_jobs": lambda: [
                {**row, "publisher_id": row["placement"], "config_id": key[0]} for key, row in posted.items()
            ],
            "posting_config_job_details": lambda: [
                {**row, "publisher_id": row["placement"], "config_id": key[0]} for key, row in posted.items()
            ],
            "client_metadata": lambda: self._metadata(client),
            "client_details": lambda: [self.clients[client]],
            "client_status": lambda: [{"result": self.status[client], "message": "Status fetched successfully"}],
            "client_custom_idx_fields": lambda: [
                {"source_field": name, "idx_field": value} for name, value in self.idx_fields[client].items()
            ],
            "stats": lambda: [{**row, "report_date": day.isoformat()} for row in self._stats(client, day, day, levels)],
            "ip_report": lambda: [{**row, "report_date": day.isoformat()} for row in self._ips(client, day, day)],
            "publisher_report": lambda: [
                {**row, "period": period, "publisher_family_id": FAMILY_ID} for row in self._family(None, period)
            ],
        }
        return [row if stream in ("clients", "publisher_report") else {**row, **owned} for row in simple[stream]()]

    # --- answering ----------------------------------------------------------------------------------------------------

    def admit(self, request: SandboxRequest) -> None:
        if request.path.startswith("/files/"):
            return
        if request.headers.get("x-api-key") != API_KEY:
            raise SandboxError(401, "Unauthorized")
        if (request.method, request.path) == ("POST", "/oauth/token"):
            return
        if not self.tokens.accept(request.headers.get("x-authorization-key", ""), uses=self.token_uses):
            raise SandboxError(403, "Forbidden")
        if found := re.match("/clients/([^/]+)", request.path):
            self._allowed(unquote(found[1]))

    def error(self, status: int, message: str) -> SandboxResponse:
        return json_response({"message": message}, status)

    def missing(self, request: SandboxRequest, allowed: tuple[str, ...]) -> SandboxResponse:
        raise SandboxError(404, "Not Found")

    def login(self, request: SandboxRequest) -> SandboxResponse:
        if json_body(request).get("client_id") != API_CLIENT_ID:
            raise SandboxError(403, "Forbidden")
        number = self.logins + 1
        token = f"eyJraWQiOiJzYW5kYm94In0.{_id('token', number).replace('-', '')}.{number}"
        self.tokens.issue(token, life_s=self.token_life_s)
        return json_response({"access_token": token, "expires_in": self.token_life_s, "token_type": "Bearer"})

    def _allowed(self, client: str) -> str:
        if client in self.forbidden_clients:
            raise SandboxError(403, "Forbidden")
        if client not in self.clients:
            raise SandboxError(404, "No such client")
        return client

    def _client_of(self, request: SandboxRequest, header: str = "x-client-id") -> str:
        client = request.headers.get(header, "")
        if client not in self.clients or client in self.forbidden_clients:
            raise SandboxError(403, "Forbidden")  # client id missing or wrong
        return client

    def _page(self, request: SandboxRequest, rows: Iterable[Row], *, from_one: bool = False) -> list[Row]:
        page, limit = _number(request, "page"), _number(request, "limit")
        if not 1 <= limit <= 1000:
            raise SandboxError(400, "limit must be between 1 and 1000")
        limit = min(limit, self.most_per_page)
        first = 1 if from_one or self.page_zero != "first" else 0
        if page < first and (from_one or self.page_zero == "refused"):
            raise SandboxError(400, "page must be greater than 0")
        skipped = max(page - first, 0) * limit
        return list(rows)[skipped : skipped + limit]

    # --- listings and single objects ----------------------------------------------------------------------------------

    def list_clients(self, request: SandboxRequest) -> SandboxResponse:
        return _data(self._page(request, self.clients.values()))

    def list_jobs(self, request: SandboxRequest, client: str) -> SandboxResponse:
        rows = list(self.jobs[client].values())
        page = self._page(request, rows[:JOBS_LISTED], from_one=True)
        return json_response({"data": page, "summary": len(rows)})

    def list_campaigns(self, request: SandboxRequest, client: str) -> SandboxResponse:
        return _data(self._page(request, self.campaigns[client].values()))

    def list_job_groups(self, request: SandboxRequest, client: str) -> SandboxResponse:
        return _data(self._page(request, self.job_groups[client].values()))

    def list_campaign_job_groups(self, request: SandboxRequest, client: str, campaign: str) -> SandboxResponse:
        _one(self.campaigns[client], campaign)
        groups = self.job_groups[client].items()
        return _data(self._page(request, [row for key, row in groups if key[0] == campaign]))

    def list_feeds(self, request: SandboxRequest, client: str) -> SandboxResponse:
        return _data(self._page(request, self.feeds[client].values()))

    def list_configs(self, request: SandboxRequest, client: str) -> SandboxResponse:
        return _data(self._page(request, self.configs[client].values()))

    def list_publisher_configs(self, request: SandboxRequest, client: str, publisher: str) -> SandboxResponse:
        return self._unpaged([row for row in self.configs[client].values() if row["placement"] == publisher])

    def list_posted_jobs(self, request: SandboxRequest, client: str, publisher: str) -> SandboxResponse:
        return _data(self._page(request, self._posted_over(client, publisher)))

    def list_config_jobs(self, request: SandboxRequest, client: str, publisher: str, config: str) -> SandboxResponse:
        self._config(client, publisher, config)
        return self._unpaged([row for key, row in self.posted[client].items() if key[0] == config])

    def metadata(self, request: SandboxRequest) -> SandboxResponse:
        return json_response({"success": True, "campaigns": self._metadata(self._client_of(request))})

    def get_client(self, request: SandboxRequest, client: str) -> SandboxResponse:
        return json_response(self.clients[client])

    def get_status(self, request: SandboxRequest, client: str) -> SandboxResponse:
        return json_response({"result": self.status[client], "message": "Status fetched successfully"})

    def get_idx_fields(self, request: SandboxRequest, client: str) -> SandboxResponse:
        return json_response(self.idx_fields[client])

    def get_job(self, request: SandboxRequest, client: str, ref: str) -> SandboxResponse:
        return json_response(_one(self.jobs[client], ref))

    def jobs_by_id(self, request: SandboxRequest) -> SandboxResponse:
        client = request.params.get("client_id", "")
        if not client:
            raise SandboxError(400, "client_id is required")
        expected = set(json_body(request, list))
        return json_response([row for row in self.jobs[self._allowed(client)].values() if row["jobId"] in expected])

    def get_campaign(self, request: SandboxRequest, client: str, campaign: str) -> SandboxResponse:
        return json_response(_one(self.campaigns[client], campaign))

    def get_job_group(self, request: SandboxRequest, client: str, campaign: str, group: str) -> SandboxResponse:
        return json_response(_one(self.job_groups[client], (campaign, group)))

    def get_feed(self, request: SandboxRequest, client: str, feed: str) -> SandboxResponse:
        return json_response(_one(self.feeds[client], feed))

    def get_config(self, request: SandboxRequest, client: str, publisher: str, config: str) -> SandboxResponse:
        return json_response(_as_detail(self._config(client, publisher, config)))

    def get_config_job(
        self, request: SandboxRequest, client: str, publisher: str, config: str, ref: str
    ) -> SandboxResponse:
        self._config(client, publisher, config)
        return json_response(_one(self.posted[client], (config, ref)))

    def _unpaged(self, rows: list[Row]) -> SandboxResponse:
        if self.unpaged == "data":
            return _data(rows)
        return json_response(rows[0] if self.unpaged == "mixed" and len(rows) == 1 else rows)

    def _config(self, client: str, publisher: str, config: str) -> Row:
        row = _one(self.configs[client], config)
        if row["placement"] != publisher:
            raise SandboxError(404, "Not Found")
        return row

    def _posted_over(self, client: str, publisher: str) -> list[Row]:
        """A job once per publisher, however many configs post it."""
        rows = [row for row in self.posted[client].values() if row["placement"] == publisher]
        return list({row["jobId"]: row for row in reversed(rows)}.values())[::-1]

    def _metadata(self, client: str) -> list[Row]:
        groups = self.job_groups[client].items()
        return [
            {
                "id": campaign["id"],
                "name": campaign["name"],
                "jobGroups": [
                    {"id": row["id"], "name": row["name"]} for key, row in groups if key[0] == campaign["id"]
                ],
            }
            for campaign in self.campaigns[client].values()
        ]

    # --- reports ------------------------------------------------------------------------------------------------------

    def submit_stats(self, request: SandboxRequest) -> SandboxResponse:
        client = self._client_of(request)
        body = json_body(request)
        levels = body.get("aggregationLevel") or {}
        chosen = [levels[name] for name in ("primaryLevel", "secondaryLevel", "tertiaryLevel") if name in levels]
        if "primaryLevel" not in levels or len(chosen) != len(levels):
            raise SandboxError(400, "aggregationLevel needs primaryLevel, and at most secondaryLevel and tertiaryLevel")
        if len(set(chosen)) < len(chosen) or not set(chosen) <= set(LEVELS):
            raise SandboxError(400, f"levels must differ and be among {', '.join(LEVELS)}")
        start, end = self._window(body.get("filters"))
        return self._submitted("stats", client, body, self._stats(client, start, end, chosen))

    def submit_ips(self, request: SandboxRequest) -> SandboxResponse:
        client = self._client_of(request)
        body = json_body(request)
        return self._submitted("ip", client, body, self._ips(client, *self._window(body.get("filterBy"))))

    def submit_publisher(self, request: SandboxRequest, family: str) -> SandboxResponse:
        body = json_body(request)
        if family != FAMILY_ID or body.get("publisherFamilyId") != family:
            raise SandboxError(403, "Forbidden")
        if body.get("period") not in ("LAST_MONTH", "THIS_MONTH", "LAST_30_DAYS") or not body.get("reportName"):
            raise SandboxError(400, "reportName and period are required")
        if body.get("curLocale") != "USD":
            raise SandboxError(400, "curLocale must be USD")
        client = body.get("clientId")
        if client is not None:
            self._allowed(client)
        self.submissions.append(body)
        report = self._keep("publisher", family, self._family(client, body["period"]))
        return json_response({"success": True, "reportId": report})

    def _window(self, filters: Any) -> tuple[date, date]:
        """The imitation's own filters: ``startDate`` and ``endDate``, both included."""
        if not isinstance(filters, dict) or set(filters) != {"startDate", "endDate"}:
            raise SandboxError(400, "filters must have startDate and endDate")
        try:
            start, end = (date.fromisoformat(str(filters[name])) for name in ("startDate", "endDate"))
        except ValueError:
            raise SandboxError(400, "dates must be yyyy-MM-dd") from None
        if end < start:
            raise SandboxError(400, "endDate is before startDate")
        if start < self.today - timedelta(days=RETENTION_DAYS):
            raise SandboxError(400, f"data is available for the last {RETENTION_DAYS} days")
        return start, end

    def _submitted(self, kind: str, client: str, body: Row, rows: list[Row]) -> SandboxResponse:
        self.submissions.append({"client": client, **body})
        report = self._keep(kind, client, rows)
        headers = {"Content-Type": "text/plain"}
        if self.id_in == "json":
            return json_response({"reportId": report}, 202)
        if self.id_in == "text":
            return SandboxResponse(headers=headers, body=report.encode())
        if self.id_in == "location":
            path = f"/stats/reports/{report}/status" if kind == "stats" else f"/reports/{report}"
            return SandboxResponse(status=202, headers={**headers, "Location": path}, body=b"NO_CONTENT")
        if self.id_in == "header":
            headers["X-Task-Id"] = report
        return SandboxResponse(status=202, headers=headers, body=b"NO_CONTENT")

    def _keep(self, kind: str, owner: str, rows: list[Row]) -> str:
        self._made += 1
        report = _id("report", self._made)
        self._reports[report] = Report(kind=kind, owner=owner, rows=rows)
        return report

    def poll_stats(self, request: SandboxRequest, report: str) -> SandboxResponse:
        return self._poll("stats", self._client_of(request), report, "location")

    def poll_ips(self, request: SandboxRequest, report: str) -> SandboxResponse:
        return self._poll("ip", self._client_of(request), report, "url")

    def poll_publisher(self, request: SandboxRequest, family: str, report: str) -> SandboxResponse:
        return self._poll("publisher", family, report, "location")

    def _poll(self, kind: str, owner: str, name: str, member: str) -> SandboxResponse:
        report = self._reports.get(name)
        if report is None or (report.kind, report.owner) != (kind, owner):
            raise SandboxError(404, "No such report")
        report.polls += 1
        if report.polls <= self.polls_until_ready:
            return json_response({"status": "IN_PROGRESS", member: []})
        if self.final_status != "SUCCESS":
            return json_response({"status": self.final_status, member: []})
        if not report.rows:
            return json_response({"status": "NO_RECORDS_FOUND", member: []})
        base = self.download_base or self.base_url
        count = min(self.parts, len(report.rows)) if kind == "stats" else 1
        signed = f"X-Amz-Expires=300&X-Amz-Signature={quote(self._signature(name), safe='')}"
        links = [f"{base}/files/{name}/{part}-{count}?{signed}" for part in range(count)]
        return json_response({"status": "SUCCESS", member: links if member == "location" else links[0]})

    def _signature(self, report: str) -> str:
        return f"{_id('link', report, self._links)[:13]}/+{self._links}=="

    def file(self, request: SandboxRequest, path: str) -> SandboxResponse:
        carried = [name for name in ("x-api-key", "x-authorization-key", "x-client-id") if name in request.headers]
        if carried:
            self.leaks.append(", ".join(carried))
            return SandboxResponse(status=400, headers={"Content-Type": "application/xml"}, body=b"<Error/>")
        found = re.fullmatch(r"/files/([^/]+)/(\d+)-(\d+)", request.path)
        report = self._reports.get(found[1]) if found else None
        signed = request.params.get("X-Amz-Signature", "")
        if found is None or report is None or signed != self._signature(found[1]):
            denied = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
            return SandboxResponse(status=403, headers={"Content-Type": "application/xml"}, body=denied)
        part, parts = int(found[2]), int(found[3])
        body = _written(report.rows[part::parts], self.file_format)
        return SandboxResponse(headers={"Content-Type": "binary/octet-stream"}, body=body)

    def _facts(self, client: str, day: date) -> Iterable[Row]:
        """What happened on a day, per job group and publisher; the second client rests on Sundays."""
        version = self.restated(day)
        if day >= self.today + timedelta(days=1) or (
            self.clients[client]["exportedName"] == "client-2" and day.weekday() == 6
        ):
            return
        jobs = list(self.jobs[client].values())
        for campaign, group in list(self.job_groups[client])[::7]:
            for publisher in PUBLISHERS:
                draw = random.Random(f"{client}|{day}|{group}|{publisher}|{version}")
                if draw.random() < 0.2:
                    continue
                job = jobs[draw.randrange(len(jobs))] if jobs else {"jobId": None, "refNumber": None}
                clicks = draw.randrange(0, 40)
                applies = draw.randrange(0, clicks // 3 + 1)
                yield {
                    "date": day.isoformat(),
                    "clientId": client,
                    "clientName": self.clients[client]["companyName"],
                    "campaignId": campaign,
                    "campaignName": self.campaigns[client][campaign]["name"],
                    "jobGroupId": group,
                    "jobGroupName": self.job_groups[client][campaign, group]["name"],
                    "jobId": job["jobId"],
                    "refNumber": job["refNumber"],
                    "publisher": publisher,
                    "impressions": clicks * draw.randrange(8, 20),
                    "clicks": clicks,
                    "applies": applies,
                    "hires": draw.randrange(0, applies // 4 + 1),
                    "spend": Decimal(clicks * draw.randrange(10, 60)) / 100,
                }

    def _stats(self, client: str, start: date, end: date, levels: Sequence[str]) -> list[Row]:
        names = [name for level in levels for name in LEVELS[level]]
        facts = [fact for day in _days(start, end) for fact in self._facts(client, day)]
        return [_with_ratios(row) for row in _summed(facts, names)]

    def _ips(self, client: str, start: date, end: date) -> list[Row]:
        rows = []
        for day in _days(start, end):
            for number, fact in enumerate(self._facts(client, day)):
                address = f"203.0.113.{number % 254 + 1}"  # of a block that is reserved for documentation
                kept = {name: fact[name] for name in ("campaignId", "jobGroupId", "publisher", "clicks")}
                rows.append({"ip": address, **kept})
        return rows

    def _family(self, client: str | None, period: str) -> list[Row]:
        first = self.today.replace(day=1)
        start, end = {
            "LAST_30_DAYS": (self.today - timedelta(days=30), self.today - timedelta(days=1)),
            "THIS_MONTH": (first, self.today),
            "LAST_MONTH": ((first - timedelta(days=1)).replace(day=1), first - timedelta(days=1)),
        }[period]
        names = ("clientId", "clientName", "campaignId", "campaignName")
        rows: list[Row] = []
        for one in [client] if client is not None else self.clients:
            facts = [fact for day in _days(start, end) for fact in self._facts(one, day)]
            theirs = _summed([fact for fact in facts if fact["publisher"] == PUBLISHERS[0]], names)
            rows += [{name: value for name, value in _with_ratios(row).items() if name in _FAMILY} for row in theirs]
        return rows

    # --- writes -------------------------------------------------------------------------------------------------------

    def create_client(self, request: SandboxRequest) -> SandboxResponse:
        body = _required(request, "companyName", "exportedName", "timeZone", "startDate", "endDate", "clientType")
        _dates(body)
        client = self._new_id("client")
        self._add_client(client, {**body, "id": client})
        return _result(client, "client created")

    def update_client(self, request: SandboxRequest, client: str) -> SandboxResponse:
        self.clients[client]["caps"] = {**self.clients[client]["caps"], **_only(request, "budget", "applies")}
        return _result(True, "Client Updated")

    def delete_client(self, request: SandboxRequest, client: str) -> SandboxResponse:
        del self.clients[client]
        return _result(True, "Client Deleted")

    def set_client(self, request: SandboxRequest, client: str, state: str) -> SandboxResponse:
        self.status[client] = "P" if state == "pause" else "A"
        return _result(True, f"Client {state}d")

    def create_job(self, request: SandboxRequest, client: str) -> SandboxResponse:
        body = _required(request, "refNumber", "title")
        ref = str(body["refNumber"])
        if ref in self.jobs[client]:
            raise SandboxError(400, "refNumber must be unique")
        self.jobs[client][ref] = job = self._job(client, ref, body)
        return _result(job["jobId"], "Job created")

    def update_job(self, request: SandboxRequest, client: str, ref: str) -> SandboxResponse:
        job = self._valid_job(client, ref)
        body = json_body(request)
        if "refNumber" in body:
            raise SandboxError(400, "refNumber cannot be changed")
        job.update(_renamed(body, jobType="type"))
        return _result(job["jobId"], "Job updated")

    def delete_job(self, request: SandboxRequest, client: str, ref: str) -> SandboxResponse:
        _one(self.jobs[client], ref)
        del self.jobs[client][ref]
        return _result(True, "Job deleted")

    def set_job(self, request: SandboxRequest, client: str, ref: str, state: str) -> SandboxResponse:
        self._valid_job(client, ref)["status"] = "PAUSED" if state == "pause" else "ACTIVE"
        return _result(True, f"Job {state}d")

    def create_campaign(self, request: SandboxRequest, client: str) -> SandboxResponse:
        body = _required(request, "name", "startDate", "endDate")
        _dates(body)
        campaign = self._new_id("campaign")
        self.campaigns[client][campaign] = _campaign(campaign, body["name"], body.get("Caps") or body.get("caps") or {})
        return _result(campaign, "campaign created")

    def update_campaign(self, request: SandboxRequest, client: str, campaign: str) -> SandboxResponse:
        _one(self.campaigns[client], campaign).update(_only(request, "caps"))
        return _result(True, "Campaign updated")

    def delete_campaign(self, request: SandboxRequest, client: str, campaign: str) -> SandboxResponse:
        _one(self.campaigns[client], campaign)
        del self.campaigns[client][campaign]
        for key in [key for key in self.job_groups[client] if key[0] == campaign]:
            del self.job_groups[client][key]
        return _result(True, "Campaign deleted")

    def set_campaign(self, request: SandboxRequest, client: str, campaign: str, state: str) -> SandboxResponse:
        _one(self.campaigns[client], campaign)["activeStatus"] = "P" if state == "pause" else "A"
        return _result(True, f"Campaign {state}d")

    def create_job_group(self, request: SandboxRequest, client: str, campaign: str) -> SandboxResponse:
        _one(self.campaigns[client], campaign)
        body = _required(request, "name", "startDate", "endDate")
        _dates(body)
        group = self._new_id("group")
        row = _job_group(group, body["name"], len(self.job_groups[client]) + 1)
        row["Compound Filters"] = body.get("filters", {})
        self.job_groups[client][campaign, group] = row
        return _result(group, "Jobgroup created")

    def update_job_group(self, request: SandboxRequest, client: str, campaign: str, group: str) -> SandboxResponse:
        row = _one(self.job_groups[client], (campaign, group))
        row.update(_renamed(_only(request, "name", "cpaBid", "filters"), filters="Compound Filters"))
        return _result(True, "Jobgroup updated")

    def delete_job_group(self, request: SandboxRequest, client: str, campaign: str, group: str) -> SandboxResponse:
        _one(self.job_groups[client], (campaign, group))
        del self.job_groups[client][campaign, group]
        return _result(True, "Jobgroup deleted")

    def set_job_group(
        self, request: SandboxRequest, client: str, campaign: str, group: str, state: str
    ) -> SandboxResponse:
        row = _one(self.job_groups[client], (campaign, group))
        row["activeStatus"] = "P" if state == "pause" else "A"
        return _result(True, f"Jobgroup {state}d")

    def create_feed(self, request: SandboxRequest, client: str) -> SandboxResponse:
        body = _required(request, "xmlFeedUrl", "schemaMappings")
        feed = self._new_id("feed")
        self.feeds[client][feed] = self._feed(client, feed, body["xmlFeedUrl"])
        return _result(feed, "Feed created")

    def update_feed(self, request: SandboxRequest, client: str, feed: str) -> SandboxResponse:
        _one(self.feeds[client], feed).update(_renamed(json_body(request), xmlFeedUrl="source"))
        return _result(feed, "Feed updated")

    def delete_feed(self, request: SandboxRequest, client: str, feed: str) -> SandboxResponse:
        _one(self.feeds[client], feed).update(deleted=True, active=False)  # it stays listed
        return _result(True, "Feed deleted")

    def create_config(self, request: SandboxRequest, client: str, publisher: str) -> SandboxResponse:
        body = _required(request, "cost", "startDate", "endDate", "dateFormat", "availableCount", "jobDuration")
        config = self._new_id("config")
        self.configs[client][config] = {**self._posting_config(client, publisher, config), **body}
        return _result(config, "Config created")

    def update_config(self, request: SandboxRequest, client: str, publisher: str, config: str) -> SandboxResponse:
        body = _only(
            request, "cost", "endDate", "availableCount", "rotateFreqInDays", "jobDuration", "minJobDurationInDays"
        )
        self._config(client, publisher, config).update(body)
        return _result(True, "Config update processed")

    def delete_config(self, request: SandboxRequest, client: str, publisher: str, config: str) -> SandboxResponse:
        self._config(client, publisher, config)
        del self.configs[client][config]
        for key in [key for key in self.posted[client] if key[0] == config]:
            del self.posted[client][key]
        return _result(True, "Config update processed")  # the page's own words for a delete

    def add_posting_jobs(self, request: SandboxRequest, client: str, config: str) -> SandboxResponse:
        row = _one(self.configs[client], config)
        for ref in json_body(request, list):
            self._post(client, row, _one(self.jobs[client], ref))
        return _result({}, "Create request processed")

    def update_candidates(self, request: SandboxRequest) -> SandboxResponse:
        client = self._client_of(request)
        moves = json_body(request, list)
        for move in moves:
            if not isinstance(move, dict) or not move.get("jobApplicationId") or not move.get("candidateStatus"):
                return json_response(
                    {"success": False, "failure": True, "message": "jobApplicationId and candidateStatus"}
                )
        self.events += [{"client": client, **move} for move in moves]
        return json_response({"success": True, "failure": False, "value": self._new_id("funnel")})

    def send_event(self, request: SandboxRequest) -> SandboxResponse:
        client = self._client_of(request, "client_id")
        body = json_body(request)
        if not body.get("clickId") or body.get("a") not in ("1", "2", "3"):
            return json_response({"statusCode": 400, "body": "clickId and a (1, 2 or 3) are required."})
        self.events.append({"client": client, **body})
        text = "Successfully sent s2s conversion event for further processing."
        return json_response({"statusCode": 200, "body": text})

    def _valid_job(self, client: str, ref: str) -> Row:
        job: Row = _one(self.jobs[client], ref)
        if not job["valid"]:
            raise SandboxError(400, "job is not valid")
        return job

    def _new_id(self, kind: str) -> str:
        self._made += 1
        return _id(kind, "made", self._made)

    # --- data ---------------------------------------------------------------------------------------------------------

    def _make_client(self, number: int, jobs: int) -> None:
        client = _id("client", number)
        row = {
            "id": client,
            "companyName": f"Example Company {number + 1}",
            "exportedName": f"client-{number + 1}",
            "startDate": "13/05/2020",
            "endDate": "25/05/2038",
            "timeZone": ("UTC-10:00", "UTC+01:00", "UTC")[number % 3],
            "clientType": "DirectEmployer",
            "applyConvWindow": 30,
            "markdown": Decimal("2.5"),
            "ats": "Example ATS" if number % 2 == 0 else None,
        }
        self._add_client(client, row)
        self.status[client] = "P" if number == 1 else "A"
        self.idx_fields[client] = {f"source-{field}": f"cif{field}" for field in range(1, 4 - number)}
        for index in range(jobs):
            ref = f"ref {number}/{index:05d}"  # a blank and a slash, to be encoded in a path
            self.jobs[client][ref] = self._job(client, ref, {"title": f"Job {index}", "zip": 10000 + index})
        if jobs == 0:
            return
        for index in range(3 - number):
            campaign = _id("campaign", number, index)
            self.campaigns[client][campaign] = _campaign(campaign, f"Campaign {index}", {})
            for one in range(41 - 10 * number):
                group = _id("group", number, index, one)
                self.job_groups[client][campaign, group] = _job_group(group, f"Job group {one}", one + 1)
        for index in range(2):
            feed = _id("feed", number, index)
            self.feeds[client][feed] = self._feed(client, feed, f"https://feeds.example.com/{number}-{index}.xml")
            self.feeds[client][feed]["deleted"] = index == 1
        for index, publisher in enumerate((PUBLISHERS[0], PUBLISHERS[1], PUBLISHERS[1], PUBLISHERS[2])):
            config = _id("config", number, index)
            row = self.configs[client][config] = self._posting_config(client, publisher, config)
            for job in list(self.jobs[client].values())[index : index + 3]:
                self._post(client, row, job)

    def _add_client(self, client: str, row: Row) -> None:
        made: Row = {
            "children": {},
            "caps": {},
            "startDefaultCampaign": False,
            "excludedPublishers": [],
            "globallyExcludedPublishers": [],
        }
        self.clients[client] = {**made, **row}
        self.status[client] = "A"
        for kept in (
            self.campaigns,
            self.job_groups,
            self.feeds,
            self.jobs,
            self.configs,
            self.posted,
            self.idx_fields,
        ):
            kept[client] = {}

    def _job(self, client: str, ref: str, body: Row) -> Row:
        stamp = f"{self.today - timedelta(days=len(self.jobs[client]) % 200)}T10:00:00.000Z"
        made: Row = {
            "refNumber": ref,
            "company": "Example Company",
            "description": "Apply for this job – naïve café “quotes”,\nsecond line",
            "category": "Maintenance",
            "city": "Springfield",
            "state": "Illinois",
            "country": "US",
            "jobId": _id("job", client, ref).replace("-", ""),
            "zip": None,
            "createdAtDate": stamp,
            "updatedAtDate": stamp,
            "pubDate": stamp,
            "postedDate": stamp,
            "modifiedDate": stamp,
            "type": "FULL_TIME",
            "additionalFields": {"shift": "night"},
            "publisherFields": {},
            "jobSetting": {},
            "placementSettings": [{"bid": Decimal("0.45")}],
            "clientId": client,
            "valid": True,
            "status": "ACTIVE",
        }
        return {**made, **_renamed(body, jobType="type")}

    def _feed(self, client: str, feed: str, source: str) -> Row:
        stamp = f"{self.today - timedelta(days=3)}T10:57:43.000Z"
        return {
            "clientId": client,
            "source": source,
            "config": {},
            "createdOn": stamp,
            "lastUpdated": stamp,
            "active": True,
            "schemaMappings": {"title": "jobtitle"},
            "urlParamsToStrip": ["utm_source"],
            "id": feed,
            "deleted": False,
            "schemaValueOverrides": {},
            "schemaValueDefaults": {},
            "mandatoryFields": ["title"],
        }

    def _posting_config(self, client: str, publisher: str, config: str) -> Row:
        stamp = f"{self.today - timedelta(days=9)}T05:13:00.000Z"
        return {
            "id": config,
            "agencyId": "ripple",
            "clientIds": [client],
            "placement": publisher,
            "placementName": publisher.title(),
            "cost": Decimal("220.50"),
            "costPerJobPerDay": 20,
            "costPerSlotPerHour": 2,
            "startDate": stamp,
            "endDate": f"{self.today + timedelta(days=90)}T05:13:00.000Z",
            "duration": 99,
            "availableCount": 100,
            "rotateFreqInDays": 2,
            "usedCount": 0,
            "lastRotated": stamp,
            "isActive": True,
            "lastUpdated": stamp,
            "createdOn": stamp,
            "jobDuration": 10,
            "postedJobsCount": 3,
            "configType": "SLOT",
            "minJobDurationInDays": 2,
            "billingType": {"name": "PREPAID"},
            "purchaseType": {"name": "ClientBilled"},
        }

    def _post(self, client: str, config: Row, job: Row) -> None:
        stamp = f"{self.today - timedelta(days=2)}T08:58:42.000Z"
        self.posted[client][config["id"], job["refNumber"]] = {
            "id": _id("posted", config["id"], job["refNumber"]),
            "clientId": client,
            "jobId": job["jobId"],
            "placement": config["placement"],
            "refNumber": job["refNumber"],
            "isPosted": True,
            "isPinned": False,
            "isPaused": False,
            "lastModified": stamp,
            "createdOn": stamp,
            "status": "A",
        }

    routes: ClassVar = {
        "POST /oauth/token": login,
        "GET /files/{path:.*}": file,
        "POST /clients": create_client,
        "GET /clients": list_clients,
        "PUT /clients/{client}": update_client,
        "GET /clients/{client}": get_client,
        "DELETE /clients/{client}": delete_client,
        "GET /clients/{client}/status": get_status,
        "GET /clients/{client}/custom-idx-fields": get_idx_fields,
        "PUT /clients/{client}/{state:pause|enable}": set_client,
        "POST /clients/{client}/jobs": create_job,
        "GET /clients/{client}/jobs": list_jobs,
        "GET /clients/{client}/jobs/{ref}": get_job,
        "DELETE /clients/{client}/jobs/{ref}": delete_job,
        "PUT /clients/{client}/jobs/{ref}": update_job,
        "PUT /clients/{client}/jobs/{ref}/{state:pause|enable}": set_job,
        "POST /jobs": jobs_by_id,
        "POST /clients/{client}/campaigns": create_campaign,
        "GET /clients/{client}/campaigns": list_campaigns,
        "GET /clients/{client}/campaigns/{campaign}": get_campaign,
        "DELETE /clients/{client}/campaigns/{campaign}": delete_campaign,
        "PUT /clients/{client}/campaigns/{campaign}": update_campaign,
        "PUT /clients/{client}/campaigns/{campaign}/{state:pause|enable}": set_campaign,
        "POST /clients/{client}/campaigns/{campaign}/jobgroups": create_job_group,
        "GET /clients/{client}/campaigns/{campaign}/jobgroups": list_campaign_job_groups,
        "GET /clients/{client}/jobgroups": list_job_groups,
        "GET /clients/{client}/campaigns/{campaign}/jobgroups/{group}": get_job_group,
        "DELETE /clients/{client}/campaigns/{campaign}/jobgroups/{group}": delete_job_group,
        "PUT /clients/{client}/campaigns/{campaign}/jobgroups/{group}": update_job_group,
        "PUT /clients/{client}/campaigns/{campaign}/jobgroups/{group}/{state:pause|enable}": set_job_group,
        "POST /clients/{client}/feeds": create_feed,
        "GET /clients/{client}/feeds": list_feeds,
        "GET /clients/{client}/feeds/{feed}": get_feed,
        "DELETE /clients/{client}/feeds/{feed}": delete_feed,
        "PUT /clients/{client}/feeds/{feed}": update_feed,
        "GET /clients/{client}/publishers/{publisher}/jobs": list_posted_jobs,
        "POST /clients/{client}/configs/{config}/jobs": add_posting_jobs,
        "POST /clients/{client}/publishers/{publisher}/configs": create_config,
        "GET /clients/{client}/publishers/{publisher}/configs": list_publisher_configs,
        "PUT /clients/{client}/publishers/{publisher}/configs/{config}": update_config,
        "GET /clients/{client}/publishers/{publisher}/configs/{config}": get_config,
        "DELETE /clients/{client}/publishers/{publisher}/configs/{config}": delete_config,
        "GET /clients/{client}/publishers/{publisher}/configs/{config}/jobs": list_config_jobs,
        "GET /clients/{client}/publishers/{publisher}/configs/{config}/jobs/{ref}": get_config_job,
        "GET /clients/{client}/configs": list_configs,
        "POST /stats/reports": submit_stats,
        "GET /stats/reports/{report}/status": poll_stats,
        "GET /meta": metadata,
        "POST /reports/ip": submit_ips,
        "GET /reports/{report}": poll_ips,
        "POST /funnel/candidates": update_candidates,
        "POST /s2s/events": send_event,
        "POST /publishers/{family}/reports": submit_publisher,
        "GET /publishers/{family}/reports/{report}": poll_publisher,
    }


# --- small change -----------------------------------------------------------------------------------------------------

_FAMILY = frozenset(
    {"clientId", "clientName", "campaignId", "campaignName", "impressions", "clicks", "applies", "spend", "cpc", "cpa"}
)


def _campaign(campaign: str, name: str, caps: Row) -> Row:
    return {
        "id": campaign,
        "name": name,
        "activeStatus": "A",
        "settingsOverride": {},
        "createdOn": "2020-01-10",
        "children": {},
        "isDefault": False,
        "caps": caps,
        "placementCaps": "none",
    }


def _job_group(group: str, name: str, number: int) -> Row:
    return {
        "id": group,
        "Compound Filters": {"operator": "AND", "rules": [{"field": "country", "operator": "EQUAL", "data": "US"}]},
        "name": name,
        "placementIds": list(PUBLISHERS[:2]),
        "activeStatus": "A",
        "settingsOverride": {},
        "adWordsMetadata": {},
        "createdOn": "2019-11-11T08:33:47.000Z",
        "isDefault": False,
        "caps": {},
        "placementCaps": {},
        "priority": number % 4,
        "performanceTargets": [],
        "ioDetails": [],
        "categories": [],
        "iid": number,
    }


def _as_detail(row: Row) -> Row:
    """A config by itself prints two members as text that are objects in the listing."""
    return {**row, "billingType": "PREPAID", "purchaseType": "ClientBilled"}


def _summed(facts: Iterable[Row], names: Sequence[str]) -> list[Row]:
    sums: dict[tuple[Any, ...], Row] = {}
    for fact in facts:
        row = sums.setdefault(tuple(fact[name] for name in names), {name: fact[name] for name in names})
        for measure in ("impressions", "clicks", "applies", "hires", "spend"):
            row[measure] = row.get(measure, 0) + fact[measure]
    return list(sums.values())


def _with_ratios(row: Row) -> Row:
    def ratio(over: str, under: str) -> Decimal | None:
        return round(Decimal(row[over]) / row[under], 4) if row[under] else None

    return {
        **row,
        "cpc": ratio("spend", "clicks"),
        "cpa": ratio("spend", "applies"),
        "cta": ratio("applies", "clicks"),
        "ath": ratio("applies", "hires"),
        "cph": ratio("spend", "hires"),
    }


def _written(rows: list[Row], form: str) -> bytes:
    kind, _, packed = form.partition(".")
    if kind == "json":
        body = _encode(rows)
    elif kind == "jsonl":
        body = b"".join(_encode(row) + b"\n" for row in rows)
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        body = text.getvalue().encode()
    return gzip.compress(body, mtime=0) if packed else body


def _days(start: date, end: date) -> list[date]:
    return [start + timedelta(days=number) for number in range((end - start).days + 1)]


def _id(*parts: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(map(str, parts))))


def _data(rows: list[Row]) -> SandboxResponse:
    return json_response({"data": rows})


def _result(result: Any, message: str) -> SandboxResponse:
    return json_response({"result": result, "message": message})


def _one(kept: Mapping[Any, Row], key: Any) -> Row:
    if key not in kept:
        raise SandboxError(404, "Not Found")
    return kept[key]


def _number(request: SandboxRequest, name: str) -> int:
    values = parse_qs(request.query).get(name, [])
    if len(values) != 1 or not values[0].isdigit():
        raise SandboxError(400, f"{name} is required")
    return int(values[0])


def _required(request: SandboxRequest, *names: str) -> Row:
    body: Row = json_body(request)
    if missing := [name for name in names if body.get(name) in (None, "")]:
        raise SandboxError(400, f"{', '.join(missing)} required")
    return body


def _only(request: SandboxRequest, *names: str) -> Row:
    body: Row = json_body(request)
    if unknown := set(body) - set(names):
        raise SandboxError(400, f"{', '.join(sorted(unknown))} cannot be updated")
    return body


def _dates(body: Row) -> None:
    """Dates in bodies are declared as mm/dd/yyyy."""
    for name in ("startDate", "endDate"):
        if not re.fullmatch(r"(0[1-9]|1[0-2])/(0[1-9]|[12]\d|3[01])/\d{4}", str(body[name])):
            raise SandboxError(400, f"{name} must be mm/dd/yyyy")


def _renamed(body: Row, **names: str) -> Row:
    return {names.get(name, name): value for name, value in body.items()}
