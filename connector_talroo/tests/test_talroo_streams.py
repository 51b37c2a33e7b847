"""
The configuration, the requests of the stream, what its envelope reads, and which columns it declares.
"""

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from connector_run import is_read_again
from connector_talroo.config import TalrooSettings
from connector_talroo.records import Click
from connector_talroo.source import CONNECTOR
from connector_talroo.streams import REPORT, STREAMS, earliest
from penstock import Response, Secret, Slice, columns_of

from connector_talroo import plugin

FIXTURES = Path(__file__).parent / "fixtures"
CLICKS = STREAMS[0]
NOW = datetime(2026, 3, 10, 3, 0, tzinfo=UTC)


def settings(**more: Any) -> TalrooSettings:
    given: dict[str, Any] = {
        "customer_reference": "6375",
        "customer_secret": Secret("a secret of theirs"),
        "advertiser_ids": ("2112", "2113"),
    }
    return TalrooSettings(**{**given, **more})


def a_response(body: Any) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=200, body=raw, received_at=NOW)


# --- configuration --------------------------------------------------------------------------------------------------


def test_days_of_another_customer_are_not_final() -> None:
    """
    Advertiser ids are the customer's own: another customer with the same ones has other clicks.
    """
    mine, theirs = (settings(customer_reference=name) for name in ("6375", "7375"))

    assert is_read_again(CLICKS, mine, theirs)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://www.jobs2careers.com/reporting/", "https://www.jobs2careers.com/reporting/"),
        ("https://www.jobs2careers.com/reporting", "https://www.jobs2careers.com/reporting/"),
        ("https://www.jobs2careers.com", "https://www.jobs2careers.com/reporting/"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/reporting/"),
        ("https://gateway.example/talroo/v2", "https://gateway.example/talroo/v2/"),
        ("127.0.0.1:8977", "127.0.0.1:8977"),
    ],
    ids=["default", "no slash", "host", "host and slash", "gateway", "no URL"],
)
def test_the_base_url_ends_where_the_report_is(given: str, used: str) -> None:
    """
    A host alone gets the provider's path; a path is taken as it is, with the slash that the provider has. What is
    no URL stays as it was written, for the message that refuses it.
    """
    assert settings(base_url=given).base_url == used


@pytest.mark.parametrize(
    ("given", "output"),
    [
        ({"advertiser_ids": ()}, "found none"),
        ({"advertiser_ids": ("2112", "21 12")}, "'21 12'"),
        ({"advertiser_ids": ("2112&end=",)}, "letters, digits"),
        ({"advertiser_ids": ("",)}, "letters, digits"),
        ({"customer_reference": "söns"}, "letters, digits"),
        ({"secret_encoding": "hex"}, "hex digits"),
    ],
    ids=["no advertiser", "blank", "ampersand", "empty", "umlaut", "hex"],
)
def test_a_configuration_that_could_not_work_is_refused(given: dict[str, Any], output: str) -> None:
    """
    A configuration that could not work is refused before any request; the message shows neither reference nor secret.
    """
    with pytest.raises(ValueError, match=re.escape(output)) as caught:
        settings(**given)

    assert "söns" not in str(caught.value)
    assert "a secret of theirs" not in str(caught.value)


# --- requests -------------------------------------------------------------------------------------------------------


def test_a_day_is_one_request_with_both_dates() -> None:
    """
    Advertiser and day of the slice, in the documented order, for the account that was requested.
    """
    (request,) = CLICKS.first_requests(settings(), Slice(now=NOW, account="2113", days=(date(2026, 3, 9),)))

    assert (request.method, request.url) == ("GET", "https://www.jobs2careers.com/reporting/")
    assert request.params == (
        ("customer_reference", "6375"),
        ("advertiser_id", "2113"),
        ("action", "get_clicks"),
        ("start", "2026-03-09"),
        ("end", "2026-03-09"),
    )
    assert CLICKS.days_per_request == 1


def test_the_accounts_are_the_configured_advertisers() -> None:
    """
    The accounts are the configured advertisers, in their order.
    """
    assert CLICKS.configured_accounts(settings()) == ("2112", "2113")


@pytest.mark.parametrize(
    ("today", "first"),
    [
        (date(2019, 8, 12), date(2019, 6, 1)),
        (date(2026, 1, 31), date(2025, 11, 1)),
        (date(2026, 2, 1), date(2025, 12, 1)),
        (date(2024, 3, 31), date(2024, 1, 1)),
        (date(2026, 12, 1), date(2026, 10, 1)),
    ],
    ids=str,
)
def test_two_full_months_are_kept_beside_the_running_one(today: date, first: date) -> None:
    """
    Two full months are kept beside the running one, also over the turn of a year, and with months of any length.
    """
    assert earliest(today) == first


def test_a_day_is_read_again_for_three_days() -> None:
    """
    A reading made later is final.
    """
    closes = CLICKS.open_for.until(date(2026, 3, 9), ZoneInfo("America/Chicago"))

    assert closes == datetime(2026, 3, 13, tzinfo=ZoneInfo("America/Chicago"))


@pytest.mark.parametrize(
    ("zone", "day"), [("UTC", "2026-03-09"), ("America/Chicago", "2026-03-08")], ids=["UTC", "Chicago"]
)
def test_the_check_requests_yesterday_of_the_first_advertiser(zone: str, day: str) -> None:
    """
    Yesterday in the source's zone: at 03:00 UTC, the day before still runs in Chicago.
    """
    assert CONNECTOR.check is not None
    request = CONNECTOR.check(settings(timezone=zone), Slice(now=NOW))

    assert (request.param("advertiser_id"), request.param("start"), request.param("end")) == ("2112", day, day)


# --- the envelope ---------------------------------------------------------------------------------------------------


def test_the_report_gives_its_clicks_by_day_and_their_number() -> None:
    """
    The map's key becomes the day of its clicks.
    """
    answer = REPORT(a_response((FIXTURES / "get_clicks.json").read_bytes()))

    (items,) = answer.items
    assert items.columns == {"report_date": "2019-05-01"}
    assert len(json.loads(bytes(items.raw))) == 2
    assert answer.total == 2
    assert answer.problem is None


@pytest.mark.parametrize(
    "report",
    [{"clicks_report": []}, {"clicks_report": {}}, {"clicks_report": None}, {}, {"clicks_report": {"2019-05-01": []}}],
    ids=["list", "object", "null", "absent", "empty day"],
)
def test_a_report_without_clicks_has_many_forms(report: dict[str, Any]) -> None:
    """
    All of them are no clicks; none is an error.
    """
    answer = REPORT(a_response({"status": 1, "total_clicks": 0, **report}))

    assert answer.problem is None
    assert answer.total == 0
    assert all(json.loads(bytes(items.raw)) == [] for items in answer.items)


# --- records --------------------------------------------------------------------------------------------------------


def test_every_member_of_the_sample_is_a_column_of_its_name_in_its_order() -> None:
    """
    The record declares the members that the provider documents, nothing renamed or left out.
    """
    sample = json.loads((FIXTURES / "get_clicks.json").read_bytes())["clicks_report"]["2019-05-01"][0]

    assert [column.member for column in columns_of(Click) if not column.added] == list(sample)
    assert [column.name for column in columns_of(Click) if not column.added] == list(sample)
    assert {column.name for column in columns_of(Click) if column.added} == {
        "advertiser_id",
        "report_date",
        "price_amount",
    }


def test_columns_that_identify_a_person_are_marked() -> None:
    """
    Address, landing page and visit; the click's own id is the key and stays.
    """
    assert {column.name for column in columns_of(Click) if column.personal} == {"ip", "url", "tlr_sid"}


def test_money_is_in_dollars_and_may_be_summed() -> None:
    """
    The exact number beside the provider's text is the only measure.
    """
    (measure,) = (column for column in columns_of(Click) if column.additive)

    assert (measure.name, measure.derived_of, measure.unit) == ("price_amount", "price", "USD")
    assert Decimal("25").scaleb(measure.scale) == Decimal("0.25")


# --- hooks ----------------------------------------------------------------------------------------------------------


def test_the_hooks_offer_the_connector_its_stream_and_its_sandbox() -> None:
    """
    The hooks offer the connector, its stream and its sandbox under one name, and nothing for another one.
    """
    assert [connector.name for connector in plugin.penstock_sources()] == ["talroo"]
    assert [stream.name for stream in plugin.penstock_record_streams("talroo")] == ["clicks"]
    assert [sandbox.connector for sandbox in plugin.penstock_sandboxes()] == ["talroo"]
    assert list(plugin.penstock_record_streams("joveo")) == []
