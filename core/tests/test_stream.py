"""
What a stream takes from its record class, its settings and its templates.
"""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from attrs import evolve, frozen
from penstock import (
    OpenFor,
    Parent,
    PluginError,
    ProviderError,
    Request,
    Secret,
    Slice,
    SourceSettings,
    Stream,
    added,
    fill,
    record,
    setting,
)

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = Slice(
    now=NOW,
    account="a/1",
    days=(date(2026, 3, 1),),
    start=datetime(2026, 3, 1, tzinfo=UTC),
    end=datetime(2026, 3, 2, tzinfo=UTC),
)


@frozen(kw_only=True)
class ShopSettings(SourceSettings):
    base_url: str = setting("https://shop.example/v1/", help="where it answers")
    account_ids: tuple[str, ...] = setting(("1", "2"), help="the accounts to read")
    currency: str = setting("EUR", help="of amounts")
    tag: str | None = setting(None, help="a filter")
    size: int = setting(50, help="of a page")
    key: Secret = setting(Secret("a shop key"), help="the key")


SETTINGS = ShopSettings()


@record(kind="report", key="id", account="account_id", day="report_date")
class Order:
    account_id: str = added()
    report_date: date = added()
    shop: str | None = added()
    id: str


def a_stream(**more: Any) -> Stream:
    return Stream(name="orders", summary="", record=Order, **more)


def test_the_record_class_declares_the_defaults_of_its_stream():
    """
    A stream may still name others.
    """
    stream = a_stream(path="/orders")

    assert (stream.kind, stream.key, stream.account, stream.day) == ("report", ("id",), "account_id", "report_date")
    assert a_stream(key=("shop", "id")).key == ("shop", "id")
    assert a_stream(open_for=3).open_for == OpenFor(3)


def test_the_accounts_are_the_setting_named_like_the_account():
    """
    Unless a function names them. None where there are none, and another stream lists them.
    """
    nothing = ShopSettings(account_ids=())

    assert a_stream().configured_accounts(SETTINGS) == ("1", "2")
    assert a_stream(accounts=lambda settings: ("3",)).configured_accounts(SETTINGS) == ("3",)
    assert a_stream().configured_accounts(nothing) == ()
    assert a_stream(accounts_from=("shops", "id")).configured_accounts(nothing) is None


def test_a_request_is_made_of_templates():
    """
    Values of the slice and settings, days in ISO form or the one that is named; a parameter without a value is left
    out. A value in the path is one segment.
    """
    stream = a_stream(
        path="/{account}/orders",
        params={
            "from": "{since}",
            "to": "{until:%d.%m.%Y}",
            "at": "{start}",
            "in": "{currency}",
            "tag": "{tag}",
            "n": "9",
        },
    )

    (request,) = stream.first_requests(SETTINGS, DAY)

    assert (request.method, request.url) == ("GET", "https://shop.example/v1/a%2F1/orders")
    assert request.params == (
        ("from", "2026-03-01"),
        ("to", "01.03.2026"),
        ("at", "2026-03-01T00:00:00+00:00"),
        ("in", "EUR"),
        ("n", "9"),
    )


def test_the_columns_of_a_parent_row_are_filled_in_and_stamped():
    """
    The columns that the record class adds are stamped on the records.
    """
    stream = a_stream(path="/{shop}/orders/{number}", parent=Parent(stream="shops", columns=("shop", "number")))

    (request,) = stream.first_requests(SETTINGS, Slice(now=NOW, account="1", parents=({"shop": "..", "number": 7},)))

    assert request.url == "https://shop.example/v1/%2E%2E/orders/7"
    assert request.columns == {"shop": ".."}


def test_times_are_numbers_since_1970_where_the_form_states_it():
    """
    In a JSON body they are numbers, in a parameter text; milliseconds and seconds, in UTC, never rounded up.
    """
    at = datetime(2026, 3, 1, 0, 0, 0, 999_900, tzinfo=ZoneInfo("America/Los_Angeles"))
    stream = a_stream(
        path="/orders",
        params={"from": "{start:epoch_s}"},
        json={"variables": {"from": "{start:epoch_ms}", "text": "after {start:epoch_s}"}},
    )

    (request,) = stream.first_requests(SETTINGS, evolve(DAY, start=at))

    assert request.params == (("from", "1772352000"),)
    assert request.body is not None
    assert json.loads(request.body) == {"variables": {"from": 1772352000999, "text": "after 1772352000"}}


def test_a_body_is_made_of_templates():
    """
    The request is then a POST. A text that is one name keeps its value's type; braces of GraphQL are left alone.
    """
    query = "query { orders(first: 10) { nodes { id } } }"
    variables = {
        "since": "{since}T00:00:00Z",
        "account": "{account}",
        "size": "{size}",
        "tag": "{tag}",
        "n": 9,
        "x": None,
    }
    stream = a_stream(path="/graphql", json={"query": query, "variables": variables})

    (request,) = stream.first_requests(SETTINGS, DAY)

    assert (request.method, request.url) == ("POST", "https://shop.example/v1/graphql")
    assert json.loads(request.body or b"") == {
        "query": query,
        "variables": {"since": "2026-03-01T00:00:00Z", "account": "a/1", "size": 50, "n": 9, "x": None},
    }


def test_a_list_of_a_body_takes_all_parent_rows_of_a_request():
    """
    Each element is made of one of them; rows of several parents are stamped with none.
    """
    parent = Parent(stream="shops", columns=("shop", "number"), per_request=2)
    stream = a_stream(path="/reports", json={"shops": [{"id": "{number}", "of": "{account}"}]}, parent=parent)
    rows = ({"shop": "x", "number": 7}, {"shop": "y", "number": 8})

    (request,) = stream.first_requests(SETTINGS, Slice(now=NOW, account="1", parents=rows))

    assert json.loads(request.body or b"") == {"shops": [{"id": 7, "of": "1"}, {"id": 8, "of": "1"}]}
    assert request.columns == {}


def test_a_time_whose_form_ends_with_z_is_in_utc():
    """
    The days of an account in another zone begin elsewhere in UTC.
    """
    noon = datetime(2026, 3, 1, 0, 30, tzinfo=ZoneInfo("Europe/Berlin"))

    assert fill("{at:%Y-%m-%dT%H:%M:%SZ}", {"at": noon}) == "2026-02-28T23:30:00Z"
    assert fill("{at:%H:%M}", {"at": noon}) == "00:30"


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_requests_may_be_one_request(several: bool):
    """
    ``requests`` returns one request or any iterable of requests.
    """
    requested = Request(url="https://shop.example/x")
    stream = a_stream(requests=lambda settings, slice_: iter([requested, requested]) if several else requested)

    assert stream.first_requests(SETTINGS, DAY) == ([requested, requested] if several else [requested])


def test_a_secret_is_no_part_of_a_template():
    """
    A secret in a template is refused: it would be sent as ``***``; the authenticator sends it.
    """
    with pytest.raises(TypeError, match="the authenticator sends it"):
        a_stream(path="/orders", params={"key": "{key}"}).first_requests(SETTINGS, DAY)


@pytest.mark.parametrize("value", [None, ""], ids=["null", "empty"])
def test_a_parent_row_without_the_value_of_the_path_is_an_error(value: str | None):
    """
    The path would be that of something else: of a listing, or of an object with the name None.
    """
    stream = a_stream(path="/orders/{number}", parent=Parent(stream="shops", columns=("number",)))
    function = a_stream(requests=lambda settings, slice_: Request(url=settings.url("/orders/{n}", n=value)))

    for declared in (stream, function):
        with pytest.raises(ProviderError, match=r"no request can be made, since (number|n) has no value"):
            declared.first_requests(SETTINGS, Slice(now=NOW, parents=({"number": value},)))


def test_a_template_that_names_nothing_is_a_mistake_of_the_connector():
    """
    Where links renames the parent's columns, it shows in the first request.
    """
    parent = Parent(stream="shops", columns=("number",), links=lambda row: [{"shop": row["number"]}])
    stream = a_stream(path="/orders/{number}", parent=parent)

    with pytest.raises(PluginError, match=r"name \{number\}, and neither the row of its parent \(shop\) nor"):
        stream.first_requests(SETTINGS, Slice(now=NOW, parents=({"shop": "7"},)))


def test_a_value_with_braces_is_not_filled_again():
    """
    A template is filled once: braces in a value stay as they are.
    """
    assert fill("{a}-{b}", {"a": "{b}", "b": True}) == "{b}-true"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Request(url="https://shop.example/x", params={"id": "1"}),
        lambda: Request(url="https://shop.example/x", headers={"id": "1"}),
        lambda: Request(url="https://shop.example/x", headers=("id",)),
        lambda: Request.json("POST", "https://shop.example/x", {}, headers={"id": "1"}),
        lambda: Request(url="https://shop.example/x").with_headers({"id": "1", "of": "2"}),
        lambda: Request(url="https://shop.example/x").with_headers("id"),
    ],
    ids=["params", "headers", "a name", "json", "with_headers", "with a name"],
)
def test_pairs_of_a_request_are_pairs(make: Callable[[], Request]) -> None:
    """
    A mapping, or a name of two letters, would be sent as other pairs.
    """
    with pytest.raises(TypeError, match=r"expected a pair of name and value; a mapping has \.items\(\)"):
        make()


def test_one_masked_name_is_masked() -> None:
    """
    One masked name is a name, and no set of letters.
    """
    request = Request(url="https://shop.example/x", params=(("key", "s3cr3t"),), masked="key")

    assert str(request) == "GET https://shop.example/x?key=***"
