"""
A demo of Joveo: an agency with two clients, their jobs, campaigns, feeds and postings, and reports of daily figures.

Figures depend on day, campaign and publisher. Writes are acknowledged and not kept; the imitation of the tests does.
"""

from datetime import date, timedelta
from decimal import Decimal
from itertools import product
from typing import Any, ClassVar
from urllib.parse import unquote

from penstock import Sandbox, SandboxBase, SandboxError, SandboxRequest, SandboxResponse, json_response
from penstock.sandbox import draw, json_body

API_KEY = "sandbox-api-key-7Q2w"
API_CLIENT_ID = "sandbox0client0id0l81n0sqr0la"
PUBLISHERS = ("jobsphere", "hirefeed", "workline")
FAMILY_ID = "6576baba5c2baf7cdd5b5000"

_CLIENTS = [{"id": f"client-{at}", "companyName": f"Example Company {at}", "timeZone": "UTC+01:00"} for at in (1, 2)]


def _catalogue(client: str, count: int) -> dict[str, Any]:
    """What can be read of a client, by path: listings, and two objects."""
    jobs = [
        {"refNumber": f"ref-{at:05d}", "jobId": f"{draw(client, at):012x}", "clientId": client, "title": f"Job {at}"}
        | {"city": "Springfield", "country": "US", "type": "FULL_TIME", "status": "ACTIVE", "valid": True}
        for at in range(count)
    ]
    groups = {f"{client}-campaign-{at}": [{"id": f"{client}-group-{at}", "name": f"Group {at}"}] for at in range(3)}
    catalogue: dict[str, Any] = {
        "/status": {"result": "A", "message": "Status fetched successfully"},
        "/custom-idx-fields": {"source-shift": "cif1", "source-team": "cif2"},
        "/jobs": jobs,
        "/campaigns": [{"id": campaign, "name": campaign.title()} for campaign in groups],
        "/feeds": [{"id": f"{client}-feed", "clientId": client, "source": "https://feeds.example.com/1"}],
        "/jobgroups": [group for rows in groups.values() for group in rows],
        "/configs": [{"id": f"{client}-{at}", "placement": at, "cost": Decimal("220.50")} for at in PUBLISHERS],
        **{f"/campaigns/{campaign}/jobgroups": rows for campaign, rows in groups.items()},
    }
    for config in catalogue["/configs"]:
        refs = [{name: job[name] for name in ("clientId", "refNumber", "jobId")} for job in jobs[:4]]
        posted = [{"id": f"{config['id']}-{ref['jobId']}", "placement": config["placement"], **ref} for ref in refs]
        below = f"/publishers/{config['placement']}"
        catalogue |= {
            f"{below}/jobs": posted,
            f"{below}/configs": [config],
            f"{below}/configs/{config['id']}/jobs": posted,
        }
    return {f"/clients/{client}{path}": rows for path, rows in catalogue.items()}


CATALOGUE = {"/clients": _CLIENTS, **_catalogue("client-1", 230), **_catalogue("client-2", 17)}


class JoveoDemo(SandboxBase):
    """The agency. A report is in progress once, then a JSON file behind a link."""

    def admit(self, request: SandboxRequest) -> None:
        if request.path.startswith("/files/"):
            return
        if request.headers.get("x-api-key") != API_KEY:
            raise SandboxError(401, "Unauthorized")
        login = request.path == "/oauth/token" and json_body(request).get("client_id") == API_CLIENT_ID
        if not login and not self.tokens.accept(request.headers.get("x-authorization-key", "")):
            raise SandboxError(403, "Forbidden")

    def login(self, request: SandboxRequest) -> SandboxResponse:
        token = self.tokens.issue(f"eyJraWQiOiJzYW5kYm94In0.{len(self.tokens.issued) + 1}", life_s=86_400)
        return json_response({"access_token": token, "expires_in": 86_400, "token_type": "Bearer"})

    def read(self, request: SandboxRequest, client: str = "", path: str = "") -> SandboxResponse:
        """A listing, whole or a page of it; or one of its rows by id or reference."""
        rows = CATALOGUE.get(request.path)
        if isinstance(rows, list):
            first = int(path == "jobs")  # the only listing that begins with page 1
            page, limit = int(request.params.get("page", first)), int(request.params.get("limit", len(rows)))
            page_rows = rows[(page - first) * limit :][:limit] if page >= first else []
            return json_response({"data": page_rows, "summary": len(rows)})
        listing, _, name = request.path.rpartition("/")
        named = {row.get("refNumber", row.get("id")): row for row in CATALOGUE.get(listing, ())}
        if rows is None and unquote(name) not in named:
            raise SandboxError(404, "Not Found")
        return json_response(rows or named[unquote(name)])

    def jobs_by_id(self, request: SandboxRequest) -> SandboxResponse:
        chosen, jobs = json_body(request, list), CATALOGUE[f"/clients/{request.params['client_id']}/jobs"]
        return json_response([job for job in jobs if job["jobId"] in chosen])

    def metadata(self, request: SandboxRequest) -> SandboxResponse:
        client = request.headers["x-client-id"]
        return json_response({"success": True, "campaigns": CATALOGUE[f"/clients/{client}/campaigns"]})

    def submit(self, request: SandboxRequest, kind: str) -> SandboxResponse:
        """Stats or addresses of a window of days, or what the first publisher did in the last 30 days."""
        body, client = json_body(request), request.headers.get("x-client-id", "client-1")
        window = body.get("filters") or body.get("filterBy") or {}
        last = date.fromisoformat(window.get("endDate", str(self.today)))
        first = date.fromisoformat(window.get("startDate", str(last - timedelta(days=29))))
        rows = []
        campaigns = CATALOGUE[f"/clients/{client}/campaigns"]
        for back, campaign, publisher in product(range((last - first).days + 1), campaigns, PUBLISHERS):
            day = last - timedelta(days=back)
            clicks = draw(campaign["id"], day, publisher, self.restated(day)) % 40
            row = {"campaignId": campaign["id"], "clicks": clicks, "publisher": publisher}
            if kind == "reports/ip":
                rows.append({**row, "ip": f"203.0.113.{clicks}"})
            elif kind == "stats/reports" or row.pop("publisher") == PUBLISHERS[0]:
                rows.append({**row, "date": day, "applies": clicks // 3, "spend": Decimal(clicks * 35) / 100})
        return json_response({"success": True, "reportId": self.reports.submit(rows)}, 202)

    def poll(self, request: SandboxRequest, of: str, report: str, end: str) -> SandboxResponse:
        status = "SUCCESS" if self.reports.poll(report) else "IN_PROGRESS"
        return json_response({"status": status, "location": [f"{self.base_url}/files/{report}"]})

    def file(self, request: SandboxRequest, report: str) -> SandboxResponse:
        return json_response(self.reports.rows(report))

    def write(self, request: SandboxRequest, path: str) -> SandboxResponse:
        """Any write: acknowledged in each of the forms that the operations have."""
        accepted = {"statusCode": 200, "body": "accepted"} if path == "s2s/events" else {"success": True, "value": "1"}
        return json_response({**accepted, "result": f"demo-{len(self.requests)}", "message": "accepted"})

    routes: ClassVar = {
        "POST /oauth/token": login,
        "GET /clients": read,
        "GET /clients/{client}": read,
        "GET /clients/{client}/{path:.+}": read,
        "GET /meta": metadata,
        "POST /jobs": jobs_by_id,
        "POST /{kind:stats/reports|reports/ip|publishers/.*/reports}": submit,
        "GET /{of:stats/|publishers/.*/|}reports/{report:[0-9]+}{end:/status|}": poll,
        "GET /files/{report:[0-9]+}": file,
        "POST|PUT|DELETE /{path:.+}": write,
    }


SANDBOX = Sandbox(
    connector="joveo",
    summary="an agency with two clients: 247 jobs, daily figures, postings; writes are acknowledged, not kept",
    make=JoveoDemo,
    settings={
        "api_key": API_KEY,
        "api_client_id": API_CLIENT_ID,
        "publisher_ids": list(PUBLISHERS[:2]),
        "publisher_family_id": FAMILY_ID,
        "stats_filters": {"startDate": "{start}", "endDate": "{end}"},
        "aggregation_level": {"primaryLevel": "DATE", "secondaryLevel": "CAMPAIGN", "tertiaryLevel": "PUBLISHER"},
        "requests_per_second": 500.0,
        "poll_first_s": 0.05,
        "poll_max_s": 0.5,
    },
)
