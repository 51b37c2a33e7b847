"""
The connector's declarations and pure functions, compared with the answers of the provider's document.
"""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from connector_targetcircle.actions import ACTIONS
from connector_targetcircle.config import FILTERS, TargetCircleSettings
from connector_targetcircle.source import CONNECTOR, ReportPage, Reports, authenticator, last_page
from connector_targetcircle.streams import STREAMS, OneFullList, slug_of_trade
from penstock import (
    Accept,
    Answer,
    AuthenticationError,
    BrokenBodyError,
    ConfigError,
    Envelope,
    ForeignOriginError,
    Gone,
    Page,
    PenstockError,
    ProviderError,
    Ready,
    Refuse,
    RefusedError,
    ReportError,
    Request,
    Response,
    Retry,
    Secret,
    ServerError,
    Skip,
    Slice,
    Stream,
    Waiting,
    WrongFormatError,
)
from penstock.testing import verdict_on

from connector_targetcircle import plugin

FIXTURES = Path(__file__).parent / "fixtures"
NOW = datetime(2016, 1, 3, 12, tzinfo=UTC)
BY_NAME: Mapping[str, Stream] = {stream.name: stream for stream in STREAMS}
REPORTS = ("transactions", "clicks", "trades")


def some_settings(**more: Any) -> TargetCircleSettings:
    given: dict[str, Any] = {"api_token": Secret("the-account-token"), "currency": "EUR"} | more
    return TargetCircleSettings(**given)


def an_answer(body: bytes | str = b"", status: int = 200, **headers: str) -> Response:
    pairs = tuple((name.lower(), value) for name, value in headers.items())
    return Response(
        status=status, headers=pairs, body=body.encode() if isinstance(body, str) else body, received_at=NOW
    )


def fixture(name: str) -> str:
    return (FIXTURES / name).read_text().strip()


def a_slice(*days: date, parent: Mapping[str, Any] | None = None, zone: str = "UTC", **more: Any) -> Slice:
    if days:
        start = datetime.combine(days[0], datetime.min.time(), ZoneInfo(zone))
        more = {"days": days, "start": start, "end": start + timedelta(days=len(days))} | more
    return Slice(now=NOW, parents=(parent,) if parent else (), **more)


def requests_of(stream: str, slice_: Slice | None = None, **settings: Any) -> list[Request]:
    return list(BY_NAME[stream].first_requests(some_settings(**settings), slice_ or a_slice()))


def verdict_of(stream: str, response: Response) -> Any:
    """What the core decides on a response to a page of this stream."""
    return verdict_on(response, CONNECTOR, BY_NAME[stream])


# --- wiring ---------------------------------------------------------------------------------------------------------


def test_offers_one_source_and_its_streams_only() -> None:
    """
    The plugin offers one source, and streams for no other name.
    """
    assert [source.name for source in plugin.penstock_sources()] == ["targetcircle"]
    assert not plugin.penstock_record_streams(source="talroo")
    assert {stream.name for stream in plugin.penstock_record_streams(source="targetcircle")} == {
        "transactions",
        "clicks",
        "trades",
        "offers",
        "offer_details",
        "offer_ads",
        "codes",
    }


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_keys_are_columns(stream: Stream) -> None:
    """
    Every key column, day column and parent's column is declared.
    """
    columns = {column.name for column in stream.columns}

    assert set(stream.key) <= columns
    assert {stream.day, stream.day_of} - {None} <= columns
    if stream.parent is not None:
        assert set(stream.parent.columns) <= {column.name for column in BY_NAME[stream.parent.stream].columns}


@pytest.mark.parametrize(
    ("stream", "name", "path"),
    [
        ("transactions", "transactions_ready.json", ("data", 0)),
        ("clicks", "clicks_ready.json", ("data", 0)),
        ("trades", "trades_ready.json", ("data", 0)),
        ("offers", "offers.json", ("data", 0, "offers", 0)),
        ("offer_details", "offer.json", ()),
        ("offer_ads", "offer_ads.json", (0,)),
        ("codes", "codes.json", ("data", 0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_columns_are_the_members_of_the_sample_in_its_order(stream: str, name: str, path: tuple[Any, ...]) -> None:
    """
    The record classes have the sample's members, all of them, in the same order and no others.
    """
    found = json.loads(fixture(name))
    for step in path:
        found = found[step]

    assert [column.member for column in BY_NAME[stream].columns if column.member] == list(found)


def test_personal_columns() -> None:
    """
    Addresses and visitor ids are personal, and no column is the account's token.
    """
    personal = {(stream.name, column.name) for stream in STREAMS for column in stream.columns if column.personal}

    assert personal == {("clicks", "ip"), ("transactions", "tracking_id")}
    assert not [column for stream in STREAMS for column in stream.columns if column.member == "token"]


def test_row_key_leaves_out_columns_that_change() -> None:
    """
    A transaction keeps its key when its status and amounts move on; a click's key is all of it.
    """
    of = {
        stream.name: next(column.hash_of for column in stream.columns if column.name == "row_key")
        for stream in STREAMS
        if stream.key == ("row_key",)
    }
    click = {column.name for column in BY_NAME["clicks"].columns if column.member}

    assert set(of["clicks"]) == click
    assert not set(of["transactions"]) & {"conversion_status", "transaction_amount", "commission", "commission_rep"}


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"currency": "euro"}, "ISO 4217"),
        ({"filters": {"trade": {}}}, 'Did you mean "trades"'),
        ({"filters": {"offers": {"offer": "x"}}}, 'offers."offer": no documented filter'),
    ],
    ids=["no currency code", "filter of no stream", "unknown filter"],
)
def test_impossible_settings_are_refused(given: dict[str, Any], named: str) -> None:
    """
    A value that the provider would not take is refused, with what is expected.
    """
    with pytest.raises(ValueError, match=named):
        some_settings(**given)


@pytest.mark.parametrize(
    ("base", "prefix", "url"),
    [
        ("https://api.targetcircle.com", "/api", "https://api.targetcircle.com/api/offers/a%2Fb"),
        ("https://tc.example/", "api/v0/", "https://tc.example/api/v0/offers/a%2Fb"),
        ("https://tc.example", "", "https://tc.example/offers/a%2Fb"),
    ],
    ids=["default", "slashes", "no prefix"],
)
def test_addresses_have_base_prefix_and_encoded_segments(base: str, prefix: str, url: str) -> None:
    """
    Addresses are base, prefix and encoded segments, however many slashes the configuration has.
    """
    assert some_settings(base_url=base, path_prefix=prefix).url("/offers/{slug}", slug="a/b") == url


# --- requests -------------------------------------------------------------------------------------------------------


def test_signs_with_the_token_header() -> None:
    """
    Each attempt carries the token in X-Api-Token; it is not shown.
    """
    settings = some_settings()

    signed = authenticator(settings).sign(Request(url=settings.url("offers")), NOW, None)

    assert signed.headers == (("X-Api-Token", "the-account-token"),)
    assert "the-account-token" not in repr(settings) + str(signed)


@pytest.mark.parametrize("stream", REPORTS)
def test_submission_is_the_documented_one(stream: str) -> None:
    """
    A submission has the members of the document's example, null where not requested, and the largest limit.
    """
    example = json.loads(fixture(f"{stream}_submit.request.json"))
    days = (date(2015, 6, 1),) if stream != "trades" else ()

    (request,) = requests_of(stream, a_slice(*days))

    assert (request.method, request.url) == ("POST", f"https://api.targetcircle.com/api/{stream}")
    assert request.headers == (("Content-Type", "application/json"),)
    sent = json.loads(request.body or b"")
    assert set(sent) == set(example)
    assert sent["limit"] == 1000
    filtered = {name for name in sent if name not in ("from", "to", "currency", "limit")}
    assert filtered == set(FILTERS[stream])
    assert all(sent[name] is None for name in filtered)


@pytest.mark.parametrize(
    ("zone", "more", "first", "last"),
    [
        ("UTC", {}, "2015-12-29T00:00:00Z", "2015-12-30T23:59:59Z"),
        ("Europe/Oslo", {}, "2015-12-28T23:00:00Z", "2015-12-30T22:59:59Z"),
        ("UTC", {"end": datetime(2015, 12, 29, 6, tzinfo=UTC)}, "2015-12-29T00:00:00Z", "2015-12-29T05:59:59Z"),
        ("UTC", {"end": datetime(2015, 12, 29, 0, 0, 1, tzinfo=UTC)}, "2015-12-29T00:00:00Z", "2015-12-29T00:00:00Z"),
    ],
    ids=["days", "days of a zone", "hours", "a second"],
)
def test_period_ends_with_its_last_second(zone: str, more: dict[str, Any], first: str, last: str) -> None:
    """
    ``from`` and ``to`` are the first and the last second requested, in UTC, as the document's examples have them.
    """
    (request,) = requests_of("clicks", a_slice(date(2015, 12, 29), date(2015, 12, 30), zone=zone, **more))

    sent = json.loads(request.body or b"")
    assert (sent["from"], sent["to"]) == (first, last)


def test_a_period_may_end_with_midnight() -> None:
    """
    A period may end with midnight, for a provider whose times have fractions of a second, or that excludes the end.
    """
    (request,) = requests_of("clicks", a_slice(date(2015, 12, 29), date(2015, 12, 30)), period_end="midnight")

    sent = json.loads(request.body or b"")
    assert (sent["from"], sent["to"]) == ("2015-12-29T00:00:00Z", "2015-12-31T00:00:00Z")


def test_filters_and_currency_are_sent() -> None:
    """
    Configured filters replace the nulls; transactions name the currency.
    """
    (request,) = requests_of(
        "transactions",
        a_slice(date(2015, 12, 29)),
        currency="NOK",
        filters={"transactions": {"country": "Germany,Norway"}},
    )

    sent = json.loads(request.body or b"")
    assert (sent["currency"], sent["country"], sent["offer"]) == ("NOK", "Germany,Norway", None)


OFFER_ROW = {"ad_inventory_id": 122, "ad_inventory_name": "zedge & co", "ad_inventory_slug": None, "id": 11014}


@pytest.mark.parametrize(
    ("stream", "parent", "settings", "url", "columns"),
    [
        ("offers", None, {}, "/offers", {}),
        ("offers", None, {"filters": {"offers": {"provider": "A,B"}}}, "/offers?provider=A%2CB", {}),
        ("offer_details", {"offer_slug": "691a1d"}, {}, "/offers/691a1d", {"slug": "691a1d"}),
        ("offer_ads", {"offer_slug": "a b"}, {}, "/offers/a%20b/ads", {"offer_slug": "a b"}),
        (
            *("codes", OFFER_ROW, {}, "/codes?offerId=11014&adInventory=122"),
            {"offer_id": 11014, "ad_inventory": "122"},
        ),
        (
            "codes",
            OFFER_ROW,
            {"codes_inventory_field": "name", "filters": {"codes": {"parameters[ref1]": "x"}}},
            "/codes?offerId=11014&adInventory=zedge%20%26%20co&parameters%5Bref1%5D=x",
            {"offer_id": 11014, "ad_inventory": "zedge & co"},
        ),
    ],
    ids=["offers", "offers filtered", "details", "ads", "codes by id", "codes by name, with a parameter"],
)
def test_requests_have_encoded_addresses_and_stamped_records(
    stream: str, parent: dict[str, Any] | None, settings: dict[str, Any], url: str, columns: dict[str, Any]
) -> None:
    """
    Addresses are encoded byte for byte, and the answer's records are stamped with what was requested.
    """
    (request,) = requests_of(stream, a_slice(parent=parent), **settings)

    assert request.full_url == f"https://api.targetcircle.com/api{url}"
    assert request.columns == columns


def test_codes_without_the_documented_form() -> None:
    """
    An inventory without the configured form of its name is an error that names the setting.
    """
    with pytest.raises(ConfigError, match="use id or name"):
        requests_of("codes", a_slice(parent=OFFER_ROW), codes_inventory_field="slug")


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ('[{"id": 1, "slug": "a"}]', None),
        ("[]", Retry),
        ('{"detail": "busy"}', Retry),
        ('"busy"', Retry),
        ("<html>", Retry),
        ("", Retry),
    ],
)
def test_a_write_that_names_no_code_is_unknown(body: str, outcome: Any) -> None:
    """
    The answer is the array of the codes that were made; a good status alone may be that of a gateway before it.
    """
    (action,) = ACTIONS
    assert action.judge is not None

    verdict = action.judge(an_answer(body), [{}])

    assert verdict is outcome or isinstance(verdict, outcome)


@pytest.mark.parametrize(
    ("offer", "slugs"),
    [
        ({"name": "A", "href": "/api/offers/691a1d"}, ["691a1d"]),
        ({"href": "/api/offers/691a1d/?x=1"}, ["691a1d"]),
        ({"href": "/api/offers/a%20b"}, ["a b"]),
        (None, []),
    ],
    ids=["as documented", "slash and query", "encoded", "no offer"],
)
def test_a_trade_leads_to_the_slug_of_its_offer(offer: Any, slugs: list[str]) -> None:
    """
    A trade leads to its offer's slug, or to nothing where it has no offer.
    """
    assert [link["offer_slug"] for link in slug_of_trade({"offer": offer})] == slugs


@pytest.mark.parametrize("offer", [{"href": None}, {"name": "A"}, {"href": "/"}, "691a1d"], ids=str)
def test_an_offer_without_a_link_is_an_error(offer: Any) -> None:
    """
    An offer that cannot be requested fails its stream: its details would be missing.
    """
    with pytest.raises(ProviderError, match="a trade has an offer without a link in href"):
        list(slug_of_trade({"offer": offer}))


@pytest.mark.parametrize(("count", "capped"), [(999, False), (1000, True)], ids=["short", "full"])
def test_full_list_is_cut(count: int, capped: bool) -> None:
    """
    A list of exactly the largest length may have been cut; the length is requested.
    """
    paginator = OneFullList()
    request = paginator.first(Request(url="https://api.targetcircle.com/api/offers"))

    assert request.param("limit") == "1000"
    assert (
        paginator.reached_ceiling(Page(request=request, response=an_answer(), answer=Answer(), count=count)) is capped
    )


# --- judging --------------------------------------------------------------------------------------------------------

READY = '{"data":[{}],"token":"T0KEN-IN-BODY","status":"READY","pagesNumber":%s}'
LINKS = '</api/clicks/1?page=2>; rel="next", </api/clicks/1?page=10>; rel="last"'


@pytest.mark.parametrize(
    ("stream", "response", "verdict", "error"),
    [
        ("clicks", an_answer(fixture("clicks_ready.json")), Accept, None),
        ("trades", an_answer(fixture("trades_ready.json")), Accept, None),
        ("offers", an_answer(fixture("offers.json")), Accept, None),
        ("codes", an_answer(fixture("codes.json")), Accept, None),
        (
            *("clicks", an_answer(fixture("report_in_progress.json"), location=fixture("report_location_header.txt"))),
            *(Accept, None),
        ),
        ("clicks", an_answer(READY % 10, location=LINKS), Accept, None),
        ("clicks", an_answer(READY % 11, link=LINKS), Accept, None),
        ("clicks", an_answer(READY % 9, location=LINKS), Retry, BrokenBodyError),
        ("clicks", an_answer(READY % 9, link=LINKS), Retry, BrokenBodyError),
        ("offers", an_answer('{"token": "T0KEN-IN-BODY", "data": [{"id'), Retry, BrokenBodyError),
        ("clicks", an_answer("<html>T0KEN-IN-BODY</html>"), Retry, BrokenBodyError),
        ("codes", an_answer(""), Retry, BrokenBodyError),
        ("clicks", an_answer('{"token": "T0KEN-IN-BODY", "status": "READY"}'), Refuse, WrongFormatError),
        ("clicks", an_answer('{"data": [{}], "status": "READY"}'), Retry, BrokenBodyError),
        ("clicks", an_answer(READY % "null"), Retry, BrokenBodyError),
        ("clicks", an_answer(fixture("error_401.txt"), 401), Refuse, AuthenticationError),
        ("offer_ads", an_answer("No valid account with token = T0KEN-IN-BODY", 401), Refuse, AuthenticationError),
        ("clicks", an_answer(fixture("error_408.txt"), 408), Retry, ServerError),
        ("clicks", an_answer("", 404), Refuse, RefusedError),
        ("offers", an_answer("", 404), Refuse, RefusedError),
        ("offer_details", an_answer("[]"), Refuse, WrongFormatError),
        ("offer_details", an_answer("", 404), Skip, None),
        ("offer_ads", an_answer("", 404), Skip, None),
        ("codes", an_answer('{"detail": "?"}', 400), Refuse, RefusedError),
        ("clicks", an_answer("", 503), Retry, ServerError),
    ],
    ids=[
        "clicks",
        "trades",
        "offers",
        "codes",
        "unready report whose links differ",
        "links agree",
        "links name fewer pages",
        "links name more pages",
        "Link names more pages",
        "cut body",
        "HTML",
        "no body",
        "no rows",
        "no number of pages",
        "null pages",
        "401 as documented",
        "401 with a token",
        "408",
        "404 of a report",
        "404 of a list",
        "an array for an offer",
        "404 of an offer",
        "404 of ads",
        "codes refused",
        "503",
    ],
)
def test_every_answer_has_the_documented_verdict(
    stream: str, response: Response, verdict: type, error: type[PenstockError] | None
) -> None:
    """
    Every answer gets the documented verdict, and no message quotes a token that the answer holds.
    """
    found = verdict_of(stream, response)

    assert isinstance(found, verdict)
    assert type(getattr(found, "error", None)) is (error or type(None))
    assert "T0KEN" not in str(getattr(found, "error", ""))
    assert "Given Token" not in str(getattr(found, "error", ""))


def test_unknown_address_names_the_other_generation() -> None:
    """
    The message of a 404 names the other generation of the API, and the setting that moves the paths.
    """
    found = verdict_of("clicks", an_answer("", 404))

    assert isinstance(found, Refuse)
    assert "/api/v1" in str(found.error)
    assert "path_prefix" in str(found.error)


def test_the_last_page_has_no_next_link() -> None:
    """
    Links are read from Location, where this provider puts them, and from Link; a plain address is no link.
    """
    assert last_page(an_answer(location=fixture("report_location_header.txt"))) == 10
    assert last_page(an_answer(link=fixture("report_location_header.txt"))) == 10
    assert last_page(an_answer(location=fixture("submit_location_header.txt"))) == 0


# --- reports --------------------------------------------------------------------------------------------------------

POLLER = Reports(base_url="https://api.targetcircle.com")
HANDLE = "/api/transactions/680ffeed-b274-4a59-9219-a7e5ec52346b"


@pytest.mark.parametrize(
    "location",
    [fixture("submit_location_header.txt"), f"https://API.targetcircle.com:443{HANDLE}?page=1", HANDLE],
    ids=["as documented", "absolute", "without page"],
)
def test_handle_is_the_path(location: str) -> None:
    """
    A report is known by its path, and polled on the configured origin from its first page on.
    """
    handle = POLLER.handle(an_answer("", 202, location=location))
    poll = POLLER.poll(Request(method="POST", url="https://api.targetcircle.com/api/transactions"), handle)

    assert handle == HANDLE
    assert (poll.method, poll.full_url) == ("GET", f"https://api.targetcircle.com{HANDLE}?page=1")


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, ReportError),
        ({"location": ""}, ReportError),
        ({"location": fixture("report_location_header.txt")}, ReportError),
        ({"location": f"https://evil.example{HANDLE}"}, ForeignOriginError),
        ({"location": f"//evil.example{HANDLE}"}, ForeignOriginError),
        ({"location": f"http://api.targetcircle.com{HANDLE}"}, ForeignOriginError),
    ],
    ids=["none", "empty", "links", "other host", "other host, no scheme", "plain http"],
)
def test_handle_is_refused(headers: dict[str, str], error: type[PenstockError]) -> None:
    """
    Without an address, or with one elsewhere, the submission fails: the token goes to no other origin.
    """
    with pytest.raises(error):
        POLLER.handle(an_answer("", 202, **headers))


@pytest.mark.parametrize(
    ("response", "state"),
    [
        (an_answer(fixture("report_in_progress.json")), Waiting()),
        (an_answer(fixture("transactions_ready.json")), Ready()),
        (an_answer(fixture("report_failed.synthetic.json")), Gone("the provider states 'FAILED'")),
        (an_answer('{"data": null, "status": "FAILED"}'), Gone("the provider states 'FAILED'")),
        (an_answer('{"data": [], "status": "QUEUED"}'), Waiting("QUEUED")),
        (an_answer("", 404), Gone("the provider has no such report (HTTP 404)")),
        (an_answer("", 410), Gone("the provider has no such report (HTTP 410)")),
    ],
    ids=["in progress", "ready", "failed", "failed without data", "another state", "404", "410"],
)
def test_the_state_in_the_body_decides_about_a_report(response: Response, state: Any) -> None:
    """
    The state in the body decides; an unknown one means waiting, with a note; an unknown report is gone.
    """
    assert POLLER.state(response, 1.0) == state


@pytest.mark.parametrize(("status", "expired"), [(404, True), (410, True), (400, False), (500, False)], ids=str)
def test_a_missing_page_means_an_expired_report(status: int, expired: bool) -> None:
    """
    A page that is no more means that the report expired.
    """
    assert POLLER.expired(an_answer("", status)) is expired


def test_report_promises_its_pages() -> None:
    """
    The envelope reads the number of pages and the state, and leaves the token where it is.
    """
    answer = ReportPage()(an_answer(READY % 7))

    assert (answer.pages, dict(answer.head)) == (7, {"status": "READY"})


def test_the_word_for_a_ready_report_is_compared_without_case() -> None:
    """
    The poller compares it so, too: a report that only one of them takes for ready would end with its first page.
    """
    answer = an_answer((READY % 7).replace("READY", "Ready"))

    assert POLLER.state(answer, 0.0) == Ready()
    assert ReportPage()(answer).pages == 7


@pytest.mark.parametrize("status", ["IN_PROGRESS", "FAILED"])
def test_a_page_that_is_not_ready_is_none(status: str) -> None:
    """
    A page that is not ready is none, also where it repeats the number of pages of the report that was ready before: the
    core takes another number for a report that changed, and reads it again, so that the rows of this page are not
    missed.
    """
    answer = ReportPage()(an_answer(json.dumps({"data": [], "status": status, "pagesNumber": 3})))

    assert answer.pages == 0


def test_offers_are_stamped_with_their_inventory() -> None:
    """
    Each ad inventory's offers carry its id and name.
    """
    envelope = BY_NAME["offers"].envelope
    assert isinstance(envelope, Envelope)

    (items,) = envelope(an_answer(fixture("offers.json"))).items

    assert items.columns == {"ad_inventory_id": 122, "ad_inventory_name": "zedge.net", "ad_inventory_slug": None}
    assert [offer["id"] for offer in json.loads(bytes(items.raw))] == [11014]


@pytest.mark.parametrize(
    ("saved", "period_end", "refused"),
    [
        ("2015-12-29T22:37:58.5Z", "second", True),
        ("2015-12-29T22:37:58.5Z", "midnight", False),
        ("2015-12-29T22:37:58Z", "second", False),
        ("2015-12-29T22:37:58.000Z", "second", False),
    ],
)
def test_fractions_of_a_second_need_a_period_up_to_midnight(saved: str, period_end: str, refused: bool) -> None:
    """
    The last second that is requested would leave out the rows behind it.
    """
    poller = Reports(base_url="https://api.targetcircle.com", period_end=period_end)
    report = an_answer(json.dumps({"data": [{"saved": saved}], "status": "READY", "pagesNumber": 1}))

    if refused:
        with pytest.raises(ReportError, match='period_end = "midnight"'):
            poller.state(report, 0.0)
    else:
        assert poller.state(report, 0.0) == Ready()
