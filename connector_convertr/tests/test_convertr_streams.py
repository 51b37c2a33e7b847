"""What is requested, and the records that come of it."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from connector_convertr.config import ConvertrSettings
from connector_convertr.streams import ENVELOPE, PAGES, STREAMS
from penstock import Page, Request, Response, Secret, Slice, Stream, columns_of, snake

from connector_convertr import plugin

FIXTURES = Path(__file__).parent / "fixtures"
SETTINGS = ConvertrSettings(enterprise="acme", access_token=Secret("tokentoken"))
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = Slice(
    now=NOW,
    days=(datetime(2026, 3, 1, tzinfo=UTC).date(),),
    start=datetime(2026, 2, 28, 23, 50, tzinfo=UTC),
    end=datetime(2026, 3, 2, tzinfo=UTC),
)
COLLECTIONS = ("leads", "campaigns", "campaign_publishers", "campaign_processr_jobs")
BY_NAME = {stream.name: stream for stream in STREAMS}


def url(stream: str, settings: ConvertrSettings = SETTINGS, slice_: Slice = DAY) -> str:
    (request,) = BY_NAME[stream].first_requests(settings, slice_)
    return request.full_url


def sample(name: str) -> dict[str, Any]:
    return dict(json.loads((FIXTURES / f"{name}.json").read_text()))


def test_the_streams_belong_to_this_connector() -> None:
    """
    Requested another connector's streams, there are none.
    """
    assert list(plugin.penstock_record_streams("talroo")) == []
    assert tuple(plugin.penstock_record_streams("convertr")) == STREAMS


def test_every_documented_endpoint_is_a_stream() -> None:
    """
    Four collections, their single objects, and the two parts cut from records; detail reads are requested by name.
    """
    assert [stream.name for stream in STREAMS if stream.on_by_default] == [
        "leads",
        "lead_data",
        "campaigns",
        "campaign_publishers",
        "campaign_publisher_bands",
        "campaign_processr_jobs",
    ]
    assert [stream.name for stream in STREAMS if not stream.on_by_default] == [
        "lead",
        "campaign",
        "campaign_publisher",
        "campaign_processr_job",
    ]


# --- requests -------------------------------------------------------------------------------------------------------


def test_leads_are_requested_by_their_window_of_update() -> None:
    """
    Full times with offset, the start included and the end not, brackets and plus encoded, in an order without ties.
    """
    assert url("leads") == (
        "https://acme.cvtr.io/api/v4/leads?updatedTs%5Bafter%5D=2026-02-28T23%3A50%3A00%2B00%3A00"
        "&updatedTs%5Bstrictly_before%5D=2026-03-02T00%3A00%3A00%2B00%3A00&order%5Bid%5D=asc"
    )


def test_leads_can_be_requested_by_creation() -> None:
    """
    ``cursor_field`` changes the time, nothing else.
    """
    by_creation = evolve(SETTINGS, cursor_field="createdTs")

    assert url("leads", by_creation) == url("leads").replace("updatedTs", "createdTs")


def test_a_window_in_another_zone_is_the_same_window() -> None:
    """
    Times are sent in UTC, without fractions of a second.
    """
    east = timezone(timedelta(hours=5, minutes=30))
    assert DAY.start is not None
    assert DAY.end is not None
    moved = evolve(DAY, start=DAY.start.astimezone(east), end=DAY.end.astimezone(east).replace(microsecond=999_999))

    assert url("leads", slice_=moved) == url("leads")


@pytest.mark.parametrize(
    ("stream", "path"),
    [
        ("campaigns", "campaigns"),
        ("campaign_publishers", "campaign-publishers"),
        ("campaign_processr_jobs", "campaign-processr-jobs"),
    ],
)
def test_snapshots_are_requested_whole(stream: str, path: str) -> None:
    """
    Totals move without the update time, so these are never requested by it.
    """
    assert url(stream, slice_=Slice(now=NOW)) == f"https://acme.cvtr.io/api/v4/{path}?order%5Bid%5D=asc"


def test_filters_go_along_and_an_order_of_ones_own_wins() -> None:
    """
    Configured filters are sent encoded; the default order is left out where the configuration has the same one.
    """
    settings = evolve(SETTINGS, filters={"campaigns": {"status[]": ["Active", "On hold"], "order[id]": "desc"}})

    assert url("campaigns", settings, Slice(now=NOW)).partition("?")[2] == (
        "status%5B%5D=Active&status%5B%5D=On%20hold&order%5Bid%5D=desc"
    )
    assert url("campaign_publishers", settings) == url("campaign_publishers")


def test_an_address_in_a_filter_is_not_shown() -> None:
    """
    The filter by e-mail puts a person into the URL; messages do not repeat it.
    """
    settings = evolve(SETTINGS, filters={"leads": {"email": "ada@lead.example"}})

    (request,) = BY_NAME["leads"].first_requests(settings, DAY)

    assert "email=ada%40lead.example" in request.full_url
    assert "email=***" in str(request)


@pytest.mark.parametrize(
    ("stream", "path"),
    [
        ("lead", "leads"),
        ("campaign", "campaigns"),
        ("campaign_publisher", "campaign-publishers"),
        ("campaign_processr_job", "campaign-processr-jobs"),
    ],
)
def test_single_objects_are_requested_by_id(stream: str, path: str) -> None:
    """
    The id of the parent's row is added to the collection's path.
    """
    assert url(stream, slice_=Slice(now=NOW, parents=({"id": 53284},))) == f"https://acme.cvtr.io/api/v4/{path}/53284"


def test_an_id_is_one_segment_of_the_path() -> None:
    """
    An id with a slash, or one of dots, reads no other address.
    """
    for odd, segment in (("a/b?c", "a%2Fb%3Fc"), ("..", "%2E%2E")):
        assert url("lead", slice_=Slice(now=NOW, parents=({"id": odd},))).endswith(f"/api/v4/leads/{segment}")


# --- answers --------------------------------------------------------------------------------------------------------


def read(body: Any) -> Any:
    return ENVELOPE(Response(status=200, body=json.dumps(body).encode(), received_at=NOW))


@pytest.mark.parametrize("name", COLLECTIONS)
def test_the_envelope_reads_the_samples(name: str) -> None:
    """
    Items and total are found where the provider's samples have them.
    """
    answer = read(sample(name))

    assert answer.total == sample(name)["hydra:totalItems"]
    assert [json.loads(bytes(items.raw)) for items in answer.items] == [sample(name)["hydra:member"]]


@pytest.mark.parametrize(
    ("body", "total"),
    [
        pytest.param({"hydra:member": [{"id": 1}], "hydra:totalItems": 7}, 7, id="hydra"),
        pytest.param({"member": [{"id": 1}], "totalItems": 7}, 7, id="newer spelling"),
        pytest.param([{"id": 1}], None, id="bare array"),
    ],
)
def test_both_spellings_and_a_bare_array_are_read(body: Any, total: int | None) -> None:
    """
    Both spellings of a collection and a bare array give equal items; a bare array states no total.
    """
    answer = read(body)

    assert (answer.total, answer.problem) == (total, None)
    assert [json.loads(bytes(items.raw)) for items in answer.items] == [[{"id": 1}]]


@pytest.mark.parametrize(
    ("view", "following"),
    [
        ({"hydra:view": {"hydra:next": "/api/v4/campaigns?page=4"}}, "4"),
        ({"view": {"next": "/api/v4/campaigns?page=4"}}, "4"),
        ({"hydra:view": {"hydra:first": "/api/v4/campaigns?page=1"}}, "1"),
    ],
    ids=["next", "next in the newer spelling", "no next: the second reading"],
)
def test_a_short_page_with_a_link_to_the_next_is_not_the_last(view: Any, following: str) -> None:
    """
    Where no total is stated, a page may be short since records of it are hidden from this user.
    """
    answer = read({"hydra:member": [{"id": 1}], **view})
    request = PAGES.first(Request(url="https://acme.cvtr.io/api/v4/campaigns")).with_param("page", "3")
    nothing = Response(status=200, received_at=NOW)
    page = Page(request=request, response=nothing, answer=answer, index=2, count=1, fresh=1, listed=201, longest=100)

    found = PAGES.next(page)

    assert found is not None
    assert (found.param("page"), found.param("order[id]")) == (following, None if following == "4" else "desc")


@pytest.mark.parametrize(
    ("view", "following"), [({"hydra:view": {"hydra:next": "/api/v4/campaigns?page=4"}}, "4"), ({}, None)]
)
def test_a_link_to_the_next_page_contradicts_a_total_that_is_reached(view: Any, following: str | None) -> None:
    """
    A total that is too low does not end a listing whose last page has a link to another one.
    """
    answer = read({"hydra:member": [{"id": 1}], "hydra:totalItems": 201, **view})
    request = PAGES.first(Request(url="https://acme.cvtr.io/api/v4/campaigns")).with_param("page", "3")
    nothing = Response(status=200, received_at=NOW)
    page = Page(request=request, response=nothing, answer=answer, index=2, count=1, fresh=1, listed=201, longest=100)

    found = PAGES.beyond(page)

    assert (found.param("page") if found is not None else None) == following


def test_an_answer_without_members_is_no_empty_collection() -> None:
    """
    An object that is not a collection never counts as zero records.
    """
    assert read({"@type": "hydra:Error", "hydra:description": "x"}).problem is not None


# --- records --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLLECTIONS)
def test_every_member_of_the_samples_is_a_column(name: str) -> None:
    """
    No member of a sample is unknown, and each column is its member's name in snake case.
    """
    members = {column.member: column.name for column in columns_of(BY_NAME[name].record) if column.member}
    (record,) = sample(name)["hydra:member"]

    assert {member: members.get(member) for member in record} == {member: snake(member) for member in record}
    assert list(members)[: len(record)] == list(record)


@pytest.mark.parametrize(
    ("stream", "inside"), [("lead_data", "leadData"), ("campaign_publisher_bands", "campaignPublisherBands")]
)
def test_every_member_of_the_parts_is_a_column(stream: str, inside: str) -> None:
    """
    Every member of the nested records that have a stream of their own is a column of that stream.
    """
    members = {column.member for column in BY_NAME[stream].columns if column.member}
    derived = BY_NAME[stream].derived
    assert derived is not None
    (record,) = sample(derived.stream)["hydra:member"]

    assert {member for part in record[inside] for member in part} <= members


# The places of personal and secret values in the samples, as JSON paths below one record.
PERSONAL = {
    "leads": "firstName lastName email telephone postcode addressLine1 addressLine2 addressLine3 addressLine4 "
    "leadData.*.value",
    "campaigns": "signName",
    "campaign_publishers": "signName signedIp publisher.email campaign.advertiser.email updatedBy.username "
    "createdBy.username",
    "campaign_processr_jobs": "updatedBy.username",
}
SECRET = {
    "leads": "leadData.[name=leadHash]",
    "campaigns": "apiKey facebookSystemUserAccessToken signHash",
    "campaign_publishers": "linkHash",
    "campaign_processr_jobs": "config",
}


@pytest.mark.parametrize("name", COLLECTIONS)
def test_personal_and_secret_columns_are_declared(name: str) -> None:
    """
    Every place that is known to hold a person or a credential is marked, nested ones by their path.
    """
    personal: set[str] = set()
    secret: set[str] = set()
    for column in BY_NAME[name].columns:
        personal |= {str(column.member)} if column.personal else set()
        secret |= {str(column.member)} if column.secret else set()
        personal |= {f"{column.member}.{path}" for path in column.hidden_personal}
        secret |= {f"{column.member}.{path}" for path in column.hidden}

    assert set(PERSONAL[name].split()) <= personal
    assert secret == set(SECRET[name].split())


def test_the_part_of_a_lead_is_personal_too() -> None:
    """
    A free form field's value is personal in its own stream as it is inside the lead.
    """
    assert [column.name for column in BY_NAME["lead_data"].columns if column.personal] == ["value"]


def test_only_amounts_of_one_currency_may_be_summed() -> None:
    """
    Amounts in the currency of their campaign, prices and rates are not measures.
    """

    def measures(stream: Stream) -> list[str]:
        return [column.name for column in stream.columns if column.additive]

    assert measures(BY_NAME["leads"]) == ["base_currency_publisher_payout", "base_currency_advertiser_payout"]
    assert measures(BY_NAME["campaigns"]) == ["base_currency_contract_value", "leads_required"]
    assert measures(BY_NAME["campaign_publishers"]) == []
