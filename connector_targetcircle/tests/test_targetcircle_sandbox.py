"""
Requests to the sandbox: it must be as strict as the provider's document, or tests against it prove nothing.
"""

import json
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pytest
from connector_targetcircle.sandbox import API_TOKEN, REPORT_TOKEN, SANDBOX
from imitation_targetcircle import TargetCircle
from penstock import SandboxRequest, SandboxResponse

TODAY = date(2026, 3, 10)
DAY = date(2026, 3, 1)


@pytest.fixture
def app() -> TargetCircle:
    return TargetCircle("http://127.0.0.1:1", TODAY)


def send(
    app: TargetCircle, method: str, target: str, body: Any = None, *, token: str | None = API_TOKEN
) -> SandboxResponse:
    headers = {"x-api-token": token} if token is not None else {}
    if body is not None:
        headers["content-type"] = "application/json"
    raw = json.dumps(body).encode() if body is not None else b""
    return app(SandboxRequest(method=method, target=target, headers=headers, body=raw))


def get(app: TargetCircle, target: str) -> Any:
    response = send(app, "GET", target)
    assert response.status == 200, response.body
    return json.loads(response.body)


def a_period(first: date = DAY, last: date = DAY, **more: Any) -> dict[str, Any]:
    return {"from": f"{first}T00:00:00Z", "to": f"{last}T23:59:59Z", "limit": 1000, **more}


def submitted(app: TargetCircle, kind: str, body: Mapping[str, Any]) -> str:
    response = send(app, "POST", f"/api/{kind}", body)
    assert (response.status, response.body) == (202, b"")
    return response.headers["Location"].partition("?")[0]


@pytest.mark.parametrize("token", [None, "", "wrong"], ids=["none", "empty", "wrong"])
def test_wrong_token_is_echoed(app: TargetCircle, token: str | None) -> None:
    """
    Without the account's token nothing is answered but a 401 that repeats what was given.
    """
    response = send(app, "GET", "/api/offers", token=token)

    assert response.status == 401
    assert response.body.decode() == f"No valid account with token = {token or ''}"


def test_life_of_a_report(app: TargetCircle) -> None:
    """
    A report is in progress for some polls, with misleading links, then ready with its pages, then forgotten.
    """
    app.polls_until_ready, app.rows_per_page, app.clicks_per_day, app.reads_until_gone = 2, 4, 10, 3
    path = submitted(app, "clicks", a_period())

    states = [get(app, f"{path}?page=1") for _ in range(2)]
    pages = [get(app, f"{path}?page={number}") for number in (1, 2, 3)]

    assert [(one["status"], one["data"], one["pagesNumber"]) for one in states] == [("IN_PROGRESS", [], 0)] * 2
    assert [(page["status"], len(page["data"]), page["pagesNumber"]) for page in pages] == [
        ("READY", 4, 3),
        ("READY", 4, 3),
        ("READY", 2, 3),
    ]
    assert {page["token"] for page in pages} == {REPORT_TOKEN}
    assert send(app, "GET", f"{path}?page=1").status == 404


def test_a_report_has_links_to_its_pages(app: TargetCircle) -> None:
    """
    Location names ten pages while the report is in progress, and the right ones when it is ready.
    """
    path = submitted(app, "trades", {})

    assert '?page=10>; rel="last"' in send(app, "GET", path).headers["Location"]
    assert send(app, "GET", path).headers["Location"].endswith(f'<{path}?page=1>; rel="last"')


@pytest.mark.parametrize("stream", ["transactions", "clicks"])
def test_reports_are_the_truth_of_their_days(app: TargetCircle, stream: str) -> None:
    """
    A report of several days holds their rows, both edges of the days included, and no others.
    """
    app.polls_until_ready, app.transactions_per_day = 0, 5
    days = [DAY + timedelta(days=number) for number in range(3)]
    currency = {"currency": "EUR"} if stream == "transactions" else {}

    rows = get(app, submitted(app, stream, a_period(days[0], days[-1], **currency)))["data"]

    time, column = ("saved", "saved") if stream == "transactions" else ("clickDate", "click_date")
    assert [row[time] for row in rows] == [row[column] for day in days for row in app.truth(stream, day)]
    assert {row[time][11:] for row in rows} >= {"00:00:00Z", "23:59:59Z"}


def test_truth_is_made_anew_each_time(app: TargetCircle) -> None:
    """
    The same day has the same rows in another sandbox; a restated one has other states and the same identities.
    """
    app.transactions_per_day = 8
    before = app.truth("transactions", DAY)
    other = TargetCircle("http://127.0.0.1:2", TODAY)
    other.transactions_per_day = 8

    app.restate(DAY)
    after = app.truth("transactions", DAY)

    assert other.truth("transactions", DAY) == before
    assert [row["conversion_status"] for row in before] != [row["conversion_status"] for row in after]
    assert [(row["saved"], row["tracking_id"]) for row in before] == [
        (row["saved"], row["tracking_id"]) for row in after
    ]
    assert len({json.dumps(row, default=str) for row in before}) < len(before)


@pytest.mark.parametrize("day", [TODAY + timedelta(days=1), TODAY - timedelta(days=900)], ids=["tomorrow", "before"])
def test_days_without_rows(app: TargetCircle, day: date) -> None:
    """
    Tomorrow and the time before the account have no rows; such a report has no pages.
    """
    app.polls_until_ready = 0

    answer = get(app, submitted(app, "clicks", a_period(day, day)))

    assert (answer["status"], answer["data"], answer["pagesNumber"]) == ("READY", [], 0)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("clicks", {"from": "2026-03-01T00:00:00Z"}),
        ("clicks", {"from": "2026-03-01", "to": "2026-03-02"}),
        ("clicks", {"from": "2026-03-02T00:00:00Z", "to": "2026-03-01T23:59:59Z"}),
        ("clicks", a_period(limit=1001)),
        ("clicks", a_period(limit="1000")),
        ("clicks", a_period(currency="EUR")),
        ("transactions", a_period()),
        ("transactions", a_period(currency="XXX")),
        ("trades", {"from": "2026-03-01T00:00:00Z"}),
        ("trades", []),
    ],
    ids=[
        "no end",
        "days for times",
        "backwards",
        "limit too large",
        "limit as text",
        "currency of clicks",
        "no currency",
        "unknown currency",
        "trades of a day",
        "no object",
    ],
)
def test_submissions_are_checked(app: TargetCircle, kind: str, body: Any) -> None:
    """
    A submission that the document does not allow is refused.
    """
    assert send(app, "POST", f"/api/{kind}", body).status == 400


@pytest.mark.parametrize(
    "target",
    [
        "/api/codes?offerId=11014",
        "/api/codes?adInventory=122",
        "/api/codes?offerId=1&adInventory=122",
        "/api/codes?offerId=11014&adInventory=122&parameters[ref1]=x",
        "/api/offers?limit=1001",
        "/api/offers?page=2",
    ],
    ids=["no inventory", "no offer", "unknown offer", "bare brackets", "limit too large", "unknown option"],
)
def test_queries_are_checked(app: TargetCircle, target: str) -> None:
    """
    A query that the document does not allow is refused.
    """
    assert send(app, "GET", target).status == 400


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/api/v1/transactions"),
        ("GET", "/transactions"),
        ("GET", "/api/offers/none"),
        ("POST", "/api/offers"),
        ("GET", "/api/clicks/00000000-0000-0000-0000-000000000000"),
        ("POST", "/api/codes/video"),
    ],
    ids=["other generation", "no prefix", "unknown offer", "wrong method", "unknown report", "unknown type"],
)
def test_unknown_addresses_are_404(app: TargetCircle, method: str, target: str) -> None:
    """
    A report, a page or an operation that does not exist is a 404.
    """
    assert send(app, method, target, {} if method == "POST" else None).status == 404


def test_a_report_belongs_to_its_kind(app: TargetCircle) -> None:
    """
    A report is found under the path it was submitted to only, and a page beyond its last is not there.
    """
    path = submitted(app, "trades", {})
    app.polls_until_ready = 0
    path_of_clicks = submitted(app, "clicks", a_period())

    assert send(app, "GET", path.replace("trades", "clicks")).status == 404
    assert send(app, "GET", f"{path_of_clicks}?page=2").status == 404


def test_limit_as_total_ends_the_report(app: TargetCircle) -> None:
    """
    Where ``limit`` limits all rows and not those of a page, the report ends there.
    """
    app.polls_until_ready, app.clicks_per_day, app.limit_is_total = 0, 30, True

    answer = get(app, submitted(app, "clicks", a_period(limit=20)))

    assert (len(answer["data"]), answer["pagesNumber"]) == (20, 1)


@pytest.mark.parametrize(
    ("how", "expected"),
    [(408, (408, b"Request Time Out")), (503, (503, b"Something is wrong"))],
    ids=["408", "503"],
)
def test_a_requested_failure_comes_once(app: TargetCircle, how: int, expected: tuple[int, bytes]) -> None:
    """
    A failure that was requested comes once.
    """
    app.fail_next(how)

    response = send(app, "GET", "/api/offers")

    assert (response.status, response.body) == expected
    assert send(app, "GET", "/api/offers").status == 200


def test_a_report_that_was_made_to_fail_fails_alone(app: TargetCircle) -> None:
    """
    A report that was made to fail fails after its polls; the one after it does not.
    """
    app.polls_until_ready = 0
    app.fail_report()

    states = [get(app, submitted(app, "trades", {}))["status"] for _ in range(2)]

    assert states == ["FAILED", "READY"]


def test_catalogue_is_the_truth(app: TargetCircle) -> None:
    """
    Offers, details, ads and codes are those of ``truth``; the last trade's offer is gone.
    """
    offers = get(app, "/api/offers?limit=1000")
    found = [(inventory["id"], offer["id"]) for inventory in offers["data"] for offer in inventory["offers"]]
    details = app.truth("offer_details")

    assert found == [(row["ad_inventory_id"], row["id"]) for row in app.truth("offers")]
    assert [get(app, f"/api/offers/{row['slug']}")["targetUrl"] for row in details] == [
        row["target_url"] for row in details
    ]
    gone = app.truth("trades")[-1]["offer"]["href"]
    assert send(app, "GET", gone).status == send(app, "GET", f"{gone}/ads").status == 404
    ads = [(row["slug"], ad["slug"]) for row in details for ad in get(app, f"/api/offers/{row['slug']}/ads")]
    assert ads == [(row["offer_slug"], row["slug"]) for row in app.truth("offer_ads")]
    codes = [
        (row["ad_inventory"], code["id"])
        for row in {(row["offer_id"], row["ad_inventory"]): row for row in app.truth("codes")}.values()
        for code in get(app, f"/api/codes?offerId={row['offer_id']}&adInventory={row['ad_inventory']}")["data"]
    ]
    assert codes == [(row["ad_inventory"], row["id"]) for row in app.truth("codes")]


def test_offers_end_at_their_limit(app: TargetCircle) -> None:
    """
    The limit counts offers over all inventories, without a word about more.
    """
    offers = get(app, "/api/offers?limit=8")

    assert [len(inventory["offers"]) for inventory in offers["data"]] == [6, 2]


def test_generates_codes(app: TargetCircle) -> None:
    """
    Codes are made for ads of the kind in the path, the same ones at each request; for others the answer is 400.
    """
    ad = next(row for row in app.truth("offer_ads") if row["type"] == "BANNER")
    body = {"offer": ad["offer_slug"], "adInventory": "11c26b", "ads": [ad["slug"]]}

    first, again = (send(app, "POST", "/api/codes/banner", body) for _ in range(2))

    assert (first.status, first.body) == (200, again.body)
    assert [code["slug"] for code in json.loads(first.body)] == [ad["slug"]]
    assert send(app, "POST", "/api/codes/text", body).status == 400
    assert send(app, "POST", "/api/codes/banner", {**body, "adInventory": "122"}).status == 400


def test_the_demo_has_rows_behind_its_own_token() -> None:
    """
    The demo has reports and offers for the declared token, and a refusal for another one.
    """
    demo: Any = SANDBOX.make("http://127.0.0.1:1", TODAY)
    token = SANDBOX.settings["api_token"]
    days = a_period(DAY, DAY + timedelta(days=2), currency="EUR")

    for kind in ("transactions", "clicks", "trades"):
        path = send(demo, "POST", f"/api/{kind}", days, token=token).headers["Location"]
        states = [json.loads(send(demo, "GET", path, token=token).body) for _ in range(2)]
        assert [state["status"] for state in states] == ["IN_PROGRESS", "READY"]
        assert states[1]["data"]
    assert send(demo, "GET", "/api/offers", token="another").status == 401
