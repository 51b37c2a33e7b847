"""
Tests of errors: the reason, and the place that is added to it.
"""

from datetime import UTC, datetime

import pytest
from connector_run import RunReport
from penstock.errors import (
    ConfigError,
    ParkedError,
    PenstockError,
    RefusedError,
    ServerError,
    ThrottledError,
    sentences,
)
from penstock.model import Partition, Request

DAY = Partition("clicks", (("account", "17"), ("day", "2026-03-01")))
REQUEST = Request(url="https://api.example.com/clicks", params=(("day", "2026-03-01"),))


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((), ""),
        (("", " "), ""),
        (("it is down",), "it is down"),
        (("it is down.", ""), "it is down."),
        (("it is down", "Wait."), "it is down. Wait."),
        (("it is down.", "", " Wait"), "it is down. Wait"),
        (("no shop", ' Did you mean "shops"?', "See: --help"), 'no shop. Did you mean "shops"? See: --help'),
    ],
)
def test_parts_are_joined_as_sentences(parts: tuple[str, ...], text: str) -> None:
    """
    Two parts have one stop between them, whether or not the first ends with one.
    """
    assert sentences(*parts) == text


@pytest.mark.parametrize(
    ("given", "text"), [((), ""), ((OSError("it is down"),), "it is down"), (("down", ValueError("a 5")), "down. a 5")]
)
def test_a_providers_error_takes_any_argument_of_an_author(given: tuple[object, ...], text: str) -> None:
    """
    The error of a library, or no text, is no mistake that hides what happened.
    """
    assert str(ServerError(*given)) == text


def test_an_error_of_a_provider_has_its_advice_apart() -> None:
    """
    Both are in its text; without advice the text stays as it is.
    """
    advised, plain = RefusedError("HTTP 400.", "Check base_url."), RefusedError("HTTP 400")

    assert (advised.without_place, advised.seen, advised.advice) == (
        "HTTP 400. Check base_url.",
        "HTTP 400.",
        "Check base_url.",
    )
    assert (plain.without_place, plain.seen, plain.advice) == ("HTTP 400", "HTTP 400", "")


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "it is down."),
        ({"source": "shop"}, "shop: it is down."),
        ({"partition": DAY}, "clicks[account=17, day=2026-03-01]: it is down."),
        ({"request": REQUEST}, "it is down. Request: GET https://api.example.com/clicks?day=2026-03-01"),
        (
            {"source": "shop", "partition": DAY, "request": REQUEST},
            "shop.clicks[account=17, day=2026-03-01]: it is down. "
            "Request: GET https://api.example.com/clicks?day=2026-03-01",
        ),
    ],
    ids=["none", "source", "partition", "request", "all"],
)
def test_an_error_is_shown_with_its_place(place: dict[str, object], text: str) -> None:
    """
    The place is text around the reason, which stays the same.
    """
    error = ServerError("it is down.").at(**place)  # type: ignore[arg-type]

    assert (str(error), error.without_place) == (text, "it is down.")


def test_the_place_where_an_error_occurred_stays() -> None:
    """
    Code that passes an error on adds only a place that is not known yet: a login's request is not replaced by the
    page's.
    """
    error = ServerError("down").at(request="POST /login").at(source="shop", request=REQUEST)

    assert (error.source, error.partition, error.request) == ("shop", None, "POST /login")


def test_an_error_that_an_author_raises_twice_has_two_places() -> None:
    """
    A judge may return one error for every response: the place of one request is not that of another.
    """
    error = ServerError("down")

    first, second = error.at(request="GET /1"), error.at(request="GET /2")
    assert (first.request, second.request, error.request) == ("GET /1", "GET /2", None)


class _OfAnAuthor(PenstockError):
    def __init__(self, code: int, *, words: str) -> None:
        self.code = code
        super().__init__(f"{words} ({code})")


@pytest.mark.parametrize(
    "error",
    [
        _OfAnAuthor(7, words="no luck"),
        ThrottledError("slow down", "Lower the rate."),
        ParkedError("not today", datetime(2026, 3, 1, tzinfo=UTC)),
        ConfigError(["one", "two"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_with_its_place_is_otherwise_the_same(error: PenstockError) -> None:
    """
    An error that gets its place keeps its class, its members, its cause and its reason, whatever its class takes.
    """
    error.__cause__ = ValueError("why")

    placed = error.at(request="GET /1", sent=False)
    assert type(placed) is type(error)
    assert vars(placed) == {**vars(error), "request": "GET /1", "sent": False}
    assert error.sent
    assert (placed.without_place, placed.__cause__) == (error.without_place, error.__cause__)


def test_the_request_of_an_authors_error_may_be_a_request() -> None:
    """
    An error that has the request itself, since its author keeps it there, is reported as any other is.
    """
    error = ServerError("it is down")
    error.request = REQUEST  # type: ignore[assignment]

    entry = RunReport(run_id="r1").record_error("shop", "clicks", {}, error)

    assert (entry["reason"], entry["request"]) == ("it is down", str(REQUEST))
