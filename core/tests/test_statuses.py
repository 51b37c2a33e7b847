"""
The table of statuses of a connector and its streams, the reason in a body, and path templates.
"""

from typing import Any

import pytest
from penstock import (
    AuthenticationError,
    Connector,
    Refusal,
    Refuse,
    RefusedError,
    Retry,
    ServerError,
    Skip,
    SourceSettings,
    Stream,
    Throttle,
    ThrottledError,
    Unavailable,
    fill_path,
    record,
)
from penstock.testing import a_response, verdict_on


@record()
class Thing:
    id: str


SHOP = Connector(
    name="shop",
    title="Shop",
    summary="",
    settings=SourceSettings,
    statuses={
        401: Refusal("Check api_key.", AuthenticationError, quoted=False),
        403: Refusal("Log in.", AuthenticationError, renew=True),
        404: Refusal("Check base_url."),
        418: Throttle(wait_s=7.0),
        419: Unavailable(),
    },
    reason=("error.message", "errors[].detail"),
)
THINGS = Stream(
    name="things",
    summary="",
    record=Thing,
    kind="snapshot",
    key="id",
    requests=lambda settings, slice_: (),
    statuses={404: Skip("deleted")},
)


def verdict(status: int, body: Any = b"", *, stream: Stream | None = None) -> Any:
    return verdict_on(a_response(body, status=status), SHOP, stream)


def test_a_status_of_the_table_has_its_advice_and_the_reason_of_the_body():
    """
    The message names the status, the provider's words, and what to do next.
    """
    found = verdict(404, {"error": {"message": "no such thing."}})

    assert isinstance(found, Refuse)
    assert isinstance(found.error, RefusedError)
    assert str(found.error) == "Shop answered with HTTP 404: no such thing. Check base_url."


def test_a_body_that_repeats_a_credential_is_not_quoted():
    """
    ``quoted=False`` keeps the body out of the message.
    """
    found = verdict(401, {"error": {"message": "the key abcdef is wrong"}})

    assert isinstance(found.error, AuthenticationError)
    assert "abcdef" not in str(found.error)


def test_the_rules_make_the_verdicts_of_their_kind():
    """
    Refusal with ``renew`` logs in again, Throttle makes the source wait, Unavailable tries again.
    """
    renewed, throttled, unavailable = verdict(403), verdict(418), verdict(419)

    assert isinstance(renewed, Retry)
    assert renewed.renew
    assert isinstance(renewed.error, AuthenticationError)
    assert (throttled.throttle, throttled.wait_s, type(throttled.error)) == (True, 7.0, ThrottledError)
    assert (unavailable.throttle, unavailable.renew, type(unavailable.error)) == (False, False, ServerError)


def test_the_table_of_a_stream_comes_first():
    """
    A status means what the stream declares, else what the connector declares, else what it means everywhere.
    """
    assert verdict(404, stream=THINGS) == Skip("deleted")
    assert "Check api_key." in str(verdict(401, stream=THINGS).error)
    refused = verdict(400, {"errors": [{"detail": "a"}, {"detail": "b"}]})
    assert "HTTP 400: a; b. The request was refused" in str(refused.error)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "first", "errors": [{"detail": "x"}]}, "first"),
        ({"message": "", "errors": [{"detail": "x"}, {"other": 1}, {"detail": " y\n z"}]}, "x; y z"),
        ({"errors": {"detail": "an object where a list is declared"}}, "an object where a list is declared"),
        ({"code": 17}, "17"),
        ({"message": {"nested": 1}}, '{"nested": 1}'),
        ({"message": {}, "other": True}, '{"message": {}, "other": true}'),
        (b"<html>no</html>", "no"),
        (b"", ""),
    ],
    ids=["first path", "each element", "one element", "number", "nested", "nothing there", "no JSON", "empty"],
)
def test_the_reason_is_the_text_of_the_first_path_that_has_one(body: Any, words: str):
    """
    Without one, it is the start of the body.
    """
    assert a_response(body).reason(("message", "errors[].detail", "code")) == words


@pytest.mark.parametrize(
    ("value", "segment"),
    [("a/b?c#d", "a%2Fb%3Fc%23d"), ("..", "%2E%2E"), (".", "%2E"), ("a b", "a%20b"), (17, "17"), ("ü", "%C3%BC")],
)
def test_a_value_of_a_path_template_is_one_segment(value: object, segment: str):
    """
    No value can name another path, or a query.
    """
    assert fill_path("/things/{id}/parts", {"id": value}) == f"/things/{segment}/parts"


@pytest.mark.parametrize("table", [{404: "gone"}, {"404": Refusal("Check it.")}, {429: Throttle}], ids=str)
def test_a_table_that_is_none_is_refused_where_it_is_declared(table: Any):
    """
    The message shows the entry and what to write.
    """
    with pytest.raises(TypeError, match=r"write a number, and Refusal\("):
        Connector(name="shop", summary="", settings=SourceSettings, statuses=table)
