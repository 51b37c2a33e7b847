"""
Requests to the imitation of the provider: what it demands, what it refuses, what it holds.

The requests here are signed by a few lines of this file, so that connector and imitation cannot share a mistake.
"""

import hashlib
import hmac
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from connector_talroo.sandbox import CUSTOMER_REFERENCE, CUSTOMER_SECRET, SANDBOX
from imitation_talroo import TalrooSandbox
from penstock import SandboxRequest, SandboxResponse

TODAY = date(2026, 3, 10)
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAY = date(2026, 3, 5)


def a_sandbox() -> TalrooSandbox:
    app = TalrooSandbox("http://127.0.0.1:8000", TODAY)
    app.now = lambda: NOW
    return app


def signed(secret: str = CUSTOMER_SECRET, **changed: Any) -> str:
    """A query as documented, its values changed (None: left out), then signed."""
    params: dict[str, Any] = {
        "customer_reference": CUSTOMER_REFERENCE,
        "advertiser_id": "2112",
        "action": "get_clicks",
        "timestamp": int(NOW.timestamp() * 1000),
        "start": DAY,
        "end": DAY,
    }
    message = "&".join(f"{name}={value}" for name, value in {**params, **changed}.items() if value is not None)
    return f"{message}&ticket={hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()}"


def requested(app: Any, query: str, *, method: str = "GET", path: str = "/reporting/") -> SandboxResponse:
    return app(SandboxRequest(method=method, target=f"{path}?{query}", headers={}, body=b""))


def body(app: Any, query: str) -> Any:
    return json.loads(requested(app, query).body)


def test_a_signed_request_gets_the_day() -> None:
    """
    The documented envelope: the day after as end, the number of clicks, the clicks under their day.
    """
    app = a_sandbox()
    answer = body(app, signed())

    clicks = app.clicks("2112", DAY)
    assert answer == {
        "status": 1,
        "start_day": "2026-03-05",
        "end_day": "2026-03-06",
        "total_clicks": len(clicks),
        "clicks_report": {"2026-03-05": clicks},
    }
    assert len(clicks) > 0


MESSAGES = {
    "wrong secret": (signed("another"), "unauthorized request"),
    "another customer": (signed(customer_reference="6375"), "unauthorized request"),
    "old stamp": (signed(timestamp=int(NOW.timestamp() * 1000) - 301_000), "unauthorized request"),
    "stamp ahead": (signed(timestamp=int(NOW.timestamp() * 1000) + 301_000), "unauthorized request"),
    "stamp in seconds": (signed(timestamp=int(NOW.timestamp())), "unauthorized request"),
    "no stamp": (signed(timestamp=None), "missing required params"),
    "no advertiser": (signed(advertiser_id=None), "missing required params"),
    "empty advertiser": (signed(advertiser_id=""), "missing required params"),
    "no ticket": (signed().partition("&ticket")[0], "missing required params"),
    "no query": ("", "missing required params"),
    "another action": (signed(action="get_jobs"), "format error"),
    "one parameter more": (signed(page="2"), "format error"),
    "one parameter twice": (signed() + "&end=2026-03-05", "format error"),
    "unknown advertiser": (signed(advertiser_id="9"), "not found"),
    "no such day": (signed(start="2026-02-30", end="2026-03-05"), "date format error"),
    "another date format": (signed(start="20260305", end="20260305"), "date format error"),
    "backwards": (signed(end=date(2026, 3, 4)), "invalid date range"),
    "before the kept months": (signed(start="2025-12-31"), "invalid date range"),
    "tomorrow": (signed(end=date(2026, 3, 11)), "invalid date range"),
}


@pytest.mark.parametrize(("query", "message"), MESSAGES.values(), ids=MESSAGES)
def test_undocumented_requests_are_refused(query: str, message: str) -> None:
    """
    Undocumented requests are refused in the body, with the documented message.
    """
    app = a_sandbox()
    app.error_status = 403

    answer = requested(app, query)

    assert answer.status == 403
    assert json.loads(answer.body) == {"status": 0, "message": message}


@pytest.mark.parametrize(
    "query",
    [
        "&".join(reversed(signed().split("&"))),
        "ticket=" + signed().rpartition("=")[2] + "&" + signed().rpartition("&")[0],
        signed().replace("2112", "%32112"),
        signed().rpartition("=")[0] + "=" + signed().rpartition("=")[2].upper(),
        signed() + "&",
    ],
    ids=["reversed", "ticket first", "needlessly escaped", "upper case ticket", "ampersand"],
)
def test_a_query_must_be_the_signed_one_to_the_byte(query: str) -> None:
    """
    Order, spelling and the place of the ticket; the values alone are not enough.
    """
    assert body(a_sandbox(), query)["status"] == 0


def test_other_addresses_and_methods_are_not_served() -> None:
    """
    The sandbox serves reads of one path only; under a base URL with a path, of that one.
    """
    app = a_sandbox()
    behind_gateway = TalrooSandbox("http://127.0.0.1:8000/talroo/", TODAY)

    assert requested(app, signed(), path="/").status == 404
    assert requested(app, signed(), method="POST").status == 405
    assert requested(behind_gateway, signed()).status == 404
    assert requested(behind_gateway, signed(), path="/talroo/").status == 200


def test_without_dates_yesterday_is_read() -> None:
    """
    Yesterday is read, as documented; the end is the start when it is left out.
    """
    app = a_sandbox()

    assert body(app, signed(start=None, end=None))["start_day"] == "2026-03-09"
    assert body(app, signed(end=None))["end_day"] == "2026-03-06"
    assert body(app, signed(start="", end=""))["end_day"] == "2026-03-10"


def test_a_range_holds_all_its_days() -> None:
    """
    The end is included, the total is that of all days.
    """
    app = a_sandbox()
    first = date(2026, 1, 1)
    days = [first + timedelta(days=number) for number in range(31)]

    answer = body(app, signed(start=days[0], end=days[-1]))

    expected = {day.isoformat(): clicks for day in days if (clicks := app.clicks("2112", day))}
    assert answer["clicks_report"] == expected
    assert answer["total_clicks"] == sum(map(len, expected.values()))
    assert len(expected) < len(days), "a month has days without clicks"


def a_day_without_clicks(app: TalrooSandbox) -> date:
    return next(day for day in (DAY - timedelta(days=back) for back in range(60)) if not app.clicks("2112", day))


@pytest.mark.parametrize(
    ("form", "report"),
    [("list", []), ("object", {}), ("null", None), ("day", {"DAY": []})],
    ids=["list", "object", "null", "day"],
)
def test_a_day_without_clicks_has_the_chosen_form(form: Any, report: Any) -> None:
    """
    The imitation answers a day without clicks in each form that the provider may use.
    """
    app = a_sandbox()
    app.empty_form = form
    day = a_day_without_clicks(app)

    answer = body(app, signed(start=day, end=day))

    assert answer["total_clicks"] == 0
    assert answer["clicks_report"] == ({day.isoformat(): []} if form == "day" else report)


def test_a_day_without_clicks_may_be_absent() -> None:
    """
    The member is not there then; the total is.
    """
    app = a_sandbox()
    app.empty_form = "absent"
    day = a_day_without_clicks(app)

    answer = body(app, signed(start=day, end=day))

    assert "clicks_report" not in answer
    assert answer["total_clicks"] == 0


def test_the_same_day_is_the_same_for_every_imitation() -> None:
    """
    A day has the same clicks in every imitation, and others for another advertiser, day or seed.
    """
    one, two, three = a_sandbox(), a_sandbox(), a_sandbox()
    three.seed = 2

    assert one.clicks("2112", DAY) == two.clicks("2112", DAY)
    assert one.clicks("2112", DAY) != one.clicks("2113", DAY)
    assert one.clicks("2112", DAY) != one.clicks("2112", DAY + timedelta(days=1))
    assert one.clicks("2112", DAY) != three.clicks("2112", DAY)


def test_a_restated_day_loses_gains_and_reprices_clicks() -> None:
    """
    Each restatement of a day removes, adds and reprices clicks; no other day changes.
    """
    app = a_sandbox()
    other = app.clicks("2112", TODAY)
    before = {click["click_id"]: click["price"] for click in app.clicks("2112", DAY)}

    app.restate(DAY)

    after = {click["click_id"]: click["price"] for click in app.clicks("2112", DAY)}
    assert before.keys() - after.keys()
    assert after.keys() - before.keys()
    assert any(after[click] != price for click, price in before.items() if click in after)
    assert app.clicks("2112", TODAY) == other
    app.restate(DAY)
    assert {click["click_id"]: click["price"] for click in app.clicks("2112", DAY)} != after


def test_the_truth_is_the_answer_in_exact_types() -> None:
    """
    A row per click, with its advertiser, its day, and its price in dollars to the cent.
    """
    app = a_sandbox()
    clicks = body(app, signed())["clicks_report"]["2026-03-05"]

    rows = app.truth("clicks", advertiser_id="2112", report_date="2026-03-05")

    assert [row["click_id"] for row in rows] == [click["click_id"] for click in clicks]
    assert [row["price_amount"] * 100 for row in rows] == [int(click["price"]) for click in clicks]
    assert {(row["advertiser_id"], row["report_date"]) for row in rows} == {("2112", DAY)}
    assert [str(row["time"]) for row in rows] == [click["time"] for click in clicks]
    assert app.truth("clicks", advertiser_id="2112", report_date="2025-12-31") == []


def test_ordered_failures_come_first_and_then_no_more() -> None:
    """
    A message, or a whole answer, as often as set; a request that is not signed does not use one up.
    """
    app = a_sandbox()
    app.fail_next("server is busy", times=2)
    app.fail_next(SandboxResponse(status=503))

    assert body(app, signed("another"))["message"] == "unauthorized request"
    assert [body(app, signed())["message"] for _ in range(2)] == ["server is busy"] * 2
    assert requested(app, signed()).status == 503
    assert body(app, signed())["status"] == 1


def test_too_many_requests_are_refused() -> None:
    """
    More than allowed within a second; a second later all is well.
    """
    app = a_sandbox()
    app.allowed_per_second = 2

    assert [body(app, signed())["status"] for _ in range(3)] == [1, 1, 0]
    app.now = lambda: NOW + timedelta(seconds=1)
    assert body(app, signed())["status"] == 1


def test_a_ticket_may_serve_only_once() -> None:
    """
    The second use of a ticket is refused, if that is set.
    """
    app = a_sandbox()
    app.refuse_replays = True

    assert body(app, signed())["status"] == 1
    assert body(app, signed())["message"] == "unauthorized request"
    assert body(app, signed(timestamp=int(NOW.timestamp() * 1000) + 1))["status"] == 1


def test_the_provider_s_oddities_can_be_switched_on() -> None:
    """
    A status in text, a total that does not fit, members that nobody documented.
    """
    app = a_sandbox()
    app.status_as_text = True
    app.more_members = {"bid_id": "b-1"}
    app.overstate(DAY, by=2)

    answer = body(app, signed())

    assert answer["status"] == "1"
    assert answer["total_clicks"] == len(answer["clicks_report"]["2026-03-05"]) + 2
    assert all(click["bid_id"] == "b-1" for click in answer["clicks_report"]["2026-03-05"])


def test_the_demo_gives_the_same_clicks_to_its_own_settings() -> None:
    """
    The demo gives a day's clicks to the declared secret, and a refusal to another one.
    """
    demo, app = SANDBOX.make("http://127.0.0.1:8000", TODAY), a_sandbox()
    assert SANDBOX.settings["customer_secret"] == CUSTOMER_SECRET
    assert SANDBOX.settings["advertiser_ids"] == app.advertisers

    assert body(demo, signed()) == body(app, signed())
    assert body(demo, signed("another")) == {"status": 0, "message": "unauthorized request"}
    assert body(demo, signed(advertiser_id="9")) == {"status": 0, "message": "not found"}
