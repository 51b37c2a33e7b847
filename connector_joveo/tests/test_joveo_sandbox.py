"""
Joveo's imitation, called directly: as strict as the page, and with a memory for writes.
"""

import json
from datetime import date, timedelta
from typing import Any

import pytest
from connector_joveo.sandbox import API_CLIENT_ID, API_KEY, FAMILY_ID, PUBLISHERS
from imitation_joveo import JoveoSandbox
from penstock import SandboxRequest, SandboxResponse

TODAY = date(2026, 6, 17)
LEVELS = {"primaryLevel": "DATE"}


class Caller:
    def __init__(self) -> None:
        self.app = JoveoSandbox("https://joveo.example", TODAY, jobs_per_client=(230, 5, 0))
        self.client = next(iter(self.app.clients))
        login = self.send("POST", "/oauth/token", {"client_id": API_CLIENT_ID}, **{"x-authorization-key": ""})
        self.token = json.loads(login.body)["access_token"]

    def send(self, method: str, target: str, body: Any = None, **headers: str) -> SandboxResponse:
        named = {"x-api-key": API_KEY, "x-authorization-key": getattr(self, "token", ""), **headers}
        raw = b"" if body is None else json.dumps(body).encode()
        return self.app(SandboxRequest(method=method, target=target, headers=named, body=raw))

    def of_client(self, method: str, path: str, body: Any = None) -> SandboxResponse:
        return self.send(method, f"/clients/{self.client}{path}", body)


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": ""}, 401),
        ({"x-api-key": "other"}, 401),
        ({"x-authorization-key": ""}, 403),
        ({"x-authorization-key": "other"}, 403),
        ({}, 200),
    ],
)
def test_credentials_are_looked_at(caller: Caller, headers: dict[str, str], status: int) -> None:
    """
    401 for the key, 403 for the token.
    """
    assert caller.send("GET", "/clients?page=0&limit=10", **headers).status == status


def test_the_token_goes_bare(caller: Caller) -> None:
    """
    A ``Bearer`` before the token makes it unknown.
    """
    bearer = {"x-authorization-key": f"Bearer {caller.token}"}

    assert caller.send("GET", "/clients?page=0&limit=10", **bearer).status == 403


@pytest.mark.parametrize(
    ("query", "status", "count"),
    [
        ("", 400, 0),
        ("?page=1", 400, 0),
        ("?page=0&limit=100", 400, 0),
        ("?page=1&limit=1001", 400, 0),
        ("?page=1&limit=100", 200, 100),
        ("?page=3&limit=100", 200, 30),
        ("?page=4&limit=100", 200, 0),
    ],
)
def test_jobs_are_paged_from_one(caller: Caller, query: str, status: int, count: int) -> None:
    """
    Page and limit are both required; the limit is 1 to 1000; the summary is the total.
    """
    answer = caller.of_client("GET", f"/jobs{query}")

    assert answer.status == status
    if status == 200:
        body = json.loads(answer.body)
        assert (len(body["data"]), body["summary"]) == (count, 230)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"filters": {"startDate": "2026-06-01", "endDate": "2026-06-02"}, "aggregationLevel": LEVELS}, 202),
        ({"filters": {"startDate": "2026-04-18", "endDate": "2026-06-02"}, "aggregationLevel": LEVELS}, 202),
        ({"filters": {"startDate": "2026-04-17", "endDate": "2026-06-02"}, "aggregationLevel": LEVELS}, 400),
        ({"filters": {"startDate": "2026-06-02", "endDate": "2026-06-01"}, "aggregationLevel": LEVELS}, 400),
        ({"filters": {"startDate": "06/01/2026", "endDate": "06/02/2026"}, "aggregationLevel": LEVELS}, 400),
        ({"filters": {"startDate": "2026-06-01", "endDate": "2026-06-02"}, "aggregationLevel": {}}, 400),
        (
            {
                "filters": {"startDate": "2026-06-01", "endDate": "2026-06-02"},
                "aggregationLevel": {"primaryLevel": "JOB", "secondaryLevel": "JOB"},
            },
            400,
        ),
    ],
    ids=["days", "60-days", "61-days", "backwards", "form", "no-level", "equal-levels"],
)
def test_stats_are_kept_for_sixty_days(caller: Caller, body: Any, status: int) -> None:
    """
    A window before the retention, and levels that are equal, are bad requests.
    """
    assert caller.send("POST", "/stats/reports", body, **{"x-client-id": caller.client}).status == status


def test_a_report_is_visible_to_its_client_only(caller: Caller) -> None:
    """
    Without the header, or with another client's, a report cannot be polled.
    """
    window = {"startDate": "2026-06-01", "endDate": "2026-06-02"}
    other = list(caller.app.clients)[1]
    answer = caller.send(
        "POST", "/stats/reports", {"filters": window, "aggregationLevel": LEVELS}, **{"x-client-id": caller.client}
    )
    path = answer.headers["Location"]

    assert caller.send("GET", path).status == 403
    assert caller.send("GET", path, **{"x-client-id": other}).status == 404
    states = [json.loads(caller.send("GET", path, **{"x-client-id": caller.client}).body)["status"] for _ in range(3)]
    assert states == ["IN_PROGRESS", "IN_PROGRESS", "SUCCESS"]


def test_a_download_needs_a_fresh_link_and_no_credentials(caller: Caller) -> None:
    """
    A link with Joveo's headers is refused and remembered; an expired one is refused.
    """
    caller.app.polls_until_ready = 0
    window = {"startDate": "2026-06-01", "endDate": "2026-06-02"}
    own = {"x-client-id": caller.client}
    answer = caller.send("POST", "/stats/reports", {"filters": window, "aggregationLevel": LEVELS}, **own)
    link = json.loads(caller.send("GET", answer.headers["Location"], **own).body)["location"][0]
    bare = SandboxRequest(method="GET", target=link.removeprefix("https://joveo.example"), headers={}, body=b"")

    assert caller.app(bare).status == 200
    assert caller.send("GET", bare.target).status == 400
    assert caller.app.leaks == ["x-api-key, x-authorization-key"]
    caller.app.expire_links()
    assert caller.app(bare).status == 403


def test_figures_are_the_same_each_time_until_they_are_restated(caller: Caller) -> None:
    """
    Data are a function of day and client; ratios are made from the sums.
    """
    day = TODAY - timedelta(days=3)
    other = JoveoSandbox("https://elsewhere.example", TODAY, jobs_per_client=(230, 5, 0))

    before = caller.app.truth("stats", caller.client, day)
    assert before == other.truth("stats", caller.client, day) != []
    assert all(row["cpc"] == round(row["spend"] / row["clicks"], 4) for row in before if row["clicks"])
    caller.app.restate(day)
    assert caller.app.truth("stats", caller.client, day) != before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"period": "THIS_MONTH"}, 200),
        ({"period": "THIS_YEAR"}, 400),
        ({"period": "THIS_MONTH", "curLocale": "EUR"}, 400),
        ({"period": "THIS_MONTH", "clientId": "unknown"}, 404),
        ({"period": "THIS_MONTH", "publisherFamilyId": "other"}, 403),
    ],
)
def test_a_publisher_report_needs_its_family_and_a_documented_period(
    caller: Caller, body: dict[str, Any], status: int
) -> None:
    """
    A publisher report needs its family, a period of the provider's page and the currency of that page.
    """
    whole = {"reportName": "x", "publisherFamilyId": FAMILY_ID, "curLocale": "USD", **body}

    assert caller.send("POST", f"/publishers/{FAMILY_ID}/reports", whole).status == status


def test_writes_change_what_is_read(caller: Caller) -> None:
    """
    A campaign and its job group: created, updated, paused, deleted, and read back after each step.
    """
    dates = {"startDate": "06/01/2026", "endDate": "12/31/2026"}
    campaign = json.loads(caller.of_client("POST", "/campaigns", {"name": "New", "Caps": {}, **dates}).body)["result"]
    at = f"/campaigns/{campaign}"
    group = json.loads(caller.of_client("POST", f"{at}/jobgroups", {"name": "Group", **dates}).body)["result"]

    assert json.loads(caller.of_client("GET", f"{at}/jobgroups/{group}").body)["name"] == "Group"
    assert json.loads(caller.of_client("PUT", at, {"caps": {"budget": 1}}).body)["result"] is True
    assert caller.of_client("PUT", f"{at}/pause").status == 200
    read = json.loads(caller.of_client("GET", at).body)
    assert (read["caps"], read["activeStatus"]) == ({"budget": 1}, "P")
    assert caller.of_client("DELETE", at).status == 200
    assert caller.of_client("GET", at).status == 404
    assert caller.of_client("GET", f"{at}/jobgroups/{group}").status == 404


def test_jobs_are_written_under_their_reference(caller: Caller) -> None:
    """
    A reference is taken once; a paused job is listed as such; posting a job shows it over the publisher.
    """
    made = caller.of_client("POST", "/jobs", {"refNumber": "r-1", "title": "T", "zip": 500081})
    assert len(json.loads(made.body)["result"]) == 32
    assert caller.of_client("POST", "/jobs", {"refNumber": "r-1", "title": "T"}).status == 400
    assert caller.of_client("PUT", "/jobs/r-1/pause").status == 200
    assert json.loads(caller.of_client("GET", "/jobs/r-1").body)["status"] == "PAUSED"

    config = next(iter(caller.app.configs[caller.client]))
    assert caller.of_client("POST", f"/configs/{config}/jobs", ["r-1"]).status == 200
    posted = json.loads(caller.of_client("GET", f"/publishers/{PUBLISHERS[0]}/configs/{config}/jobs/r-1").body)
    assert posted["refNumber"] == "r-1"


@pytest.mark.parametrize(
    ("path", "header", "body", "output"),
    [
        ("/s2s/events", "client_id", {"clickId": "c", "a": "3"}, {"statusCode": 200}),
        ("/s2s/events", "client_id", {"clickId": "c", "a": "4"}, {"statusCode": 400}),
        (
            "/funnel/candidates",
            "x-client-id",
            [{"jobApplicationId": "j", "candidateStatus": "HIRED"}],
            {"success": True},
        ),
        ("/funnel/candidates", "x-client-id", [{"jobApplicationId": "j"}], {"success": False}),
    ],
)
def test_events_state_in_the_body_whether_they_were_taken(
    caller: Caller, path: str, header: str, body: Any, output: dict[str, Any]
) -> None:
    """
    Both operations answer 200 for a failure too.
    """
    answer = caller.send("POST", path, body, **{header: caller.client})
    read = json.loads(answer.body)
    taken = output in ({"statusCode": 200}, {"success": True})

    assert answer.status == 200
    assert output.items() <= read.items()
    assert len(caller.app.events) == (1 if taken else 0)
