"""
Writes as values: parameters, requests, and what an answer means.
"""

import json
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from penstock._write.outcomes import outcome_of
from penstock._write.parameters import typed, validated
from penstock._write.requests import Row, WriteRequest, build_request, pack_rows
from penstock.actions import Action, Field, MostValues
from penstock.connector import Connector
from penstock.errors import AuthenticationError, RefusedError, ServerError, ThrottledError
from penstock.model import Receipt, Response
from penstock.settings import SourceSettings
from penstock.testing import a_response
from penstock.verdicts import Accept, Refusal, Refuse, Retry, Skip, Throttle

SETTINGS = SourceSettings(base_url="https://api.example.com/")

ACTION = Action(
    name="update_thing",
    summary="change a thing",
    method="PUT",
    path="/shops/{shop}/things/{thing_id}",
    fields=(
        Field(name="shop", place="path", required=True),
        Field(name="thing_id", member="thingId", place="path", required=True),
        Field(name="trace", member="X-Trace", place="header"),
        Field(name="dry", place="query", type="boolean"),
        Field(name="tag", place="query", repeated=True, aliases=("tags",)),
        Field(name="unit_price", member="unitPrice", type="number"),
        Field(name="count", type="integer"),
        Field(name="note"),
        Field(name="kind", choices=("new", "old")),
        Field(name="labels", type="object"),
        Field(name="parts", type="list"),
    ),
)
PLACE = {"shop": "s", "thing_id": "t"}

EVENTS = Action(
    name="send_events",
    summary="send events",
    method="POST",
    path="/events",
    fields=(
        Field(name="account", member="x-account", place="header", required=True),
        Field(name="event_id", member="eventId", required=True),
        Field(name="stage"),
    ),
    rows_per_request=3,
)

SEEN = Action(
    name="seen",
    summary="report what was seen",
    method="GET",
    path="/seen",
    fields=(Field(name="user", place="query"), Field(name="id", place="query", repeated=True), Field(name="content")),
    most_values=MostValues(field="id", most=3, most_url=120),
)


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text", "expected"),
    [
        ({"thingId": "a", "shop": 7}, False, {"thing_id": "a", "shop": "7"}),
        ({"shop": Decimal("1e3"), "note": Decimal("0.0000001")}, False, {"shop": "1000", "note": "0.0000001"}),
        ({"unitPrice": "0.10"}, True, {"unit_price": Decimal("0.10")}),
        ({"unit_price": Decimal("1.50"), "count": 3}, False, {"unit_price": Decimal("1.50"), "count": 3}),
        ({"count": "3", "dry": "TRUE"}, True, {"count": 3, "dry": True}),
        ({"labels": '{"a": 1.0}', "parts": "[1]"}, True, {"labels": {"a": Decimal("1.0")}, "parts": [1]}),
        ({"note": None, "count": None}, False, {}),
        ({"note": "", "count": ""}, True, {}),
        ({"note": ""}, False, {"note": ""}),
        ({"tag": "a"}, True, {"tag": ["a"]}),
        ({"tag": ["a", "b"]}, True, {"tag": ["a", "b"]}),
        ({"tags": '["a", "b"]'}, True, {"tag": ["a", "b"]}),
        ({"tag": 5}, False, {"tag": ["5"]}),
    ],
    ids=str,
)
def test_parameters_get_their_types(given: dict[str, Any], text: bool, expected: dict[str, Any]) -> None:
    """
    Parameters are named as declared or in the provider's spelling, numbers are exact, absent ones are left out.
    """
    assert typed(ACTION, given, text=text) == expected


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        ({"thing": "a"}, "thing is no parameter of update_thing; did you mean thingId?"),
        ({"thingId": "a", "thing_id": "b"}, "thing_id is given twice, in two spellings"),
        ({"count": "many"}, 'count: found "many", expected an integer'),
        ({"count": True}, "count: found true, expected an integer"),
        ({"count": Decimal("1.5")}, 'count: found "1.5", expected an integer'),
        ({"count": Decimal("1e999999999999")}, 'count: found "1E+999999999999", expected an integer'),
        ({"unit_price": "NaN"}, 'unit_price: found "NaN", expected a number'),
        ({"unit_price": "1_000"}, 'unit_price: found "1_000", expected a number'),
        ({"unit_price": "1,5"}, 'unit_price: found "1,5", expected a number'),
        ({"dry": 1}, "dry: found 1, expected true or false"),
        ({"kind": "odd"}, 'kind: found "odd", expected one of new, old'),
        ({"labels": [1]}, "labels: found [1], expected an object"),
        ({"labels": '{"a": 1, "a": 2}'}, "the member a is there twice"),
        ({"labels": '{"a": NaN}'}, "NaN is no number"),
        ({"note": {"a": 1}}, 'note: found {"a": 1}, expected text'),
        ({"trace": "a\nb"}, "trace: holds signs that a header cannot carry"),
        ({"shop": ""}, "shop: is empty"),
        ({"tag": []}, "tag: expected at least one"),
        ({"body": {}}, "body is no parameter"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_value_that_does_not_fit_is_reported(given: dict[str, Any], reported: str) -> None:
    """
    A value that does not fit is reported with what was found and what is expected.
    """
    with pytest.raises(ValueError) as refused:
        typed(ACTION, given)
    assert reported in str(refused.value)


def test_all_that_is_wrong_is_reported_at_once() -> None:
    """
    A row need not be corrected once for each mistake in it.
    """
    with pytest.raises(ValueError) as refused:
        typed(ACTION, {"count": "x", "dry": "y", "other": 1})
    assert [part.split(":")[0] for part in str(refused.value).split("; ")[:2]] == ["count", "dry"]
    assert "other is no parameter" in str(refused.value)


def test_missing_and_refused_values_are_reported() -> None:
    """
    Required fields by name; then the action's own look at the values.
    """

    def prepare(settings: Any, values: Any) -> None:
        raise ValueError(f"not with {values['shop']}")

    with pytest.raises(ValueError, match="missing: thing_id"):
        validated(ACTION, SETTINGS, {"shop": "s"})
    with pytest.raises(ValueError, match="not with s"):
        validated(evolve(ACTION, prepare=prepare), SETTINGS, PLACE)


# --- requests ---------------------------------------------------------------------------------------------------------


def test_each_field_goes_to_its_place() -> None:
    """
    Path segments are encoded whole, numbers keep their digits, the order is the declaration's.
    """
    values = {**PLACE, "thing_id": "a/b ü", "tag": ["x", "y"], "dry": False, "unit_price": Decimal("0.10"), "note": "é"}

    request = build_request(ACTION, SETTINGS, [{**values, "trace": "t1"}])

    assert request.full_url == "https://api.example.com/shops/s/things/a%2Fb%20%C3%BC?dry=false&tag=x&tag=y"
    assert request.headers == (("X-Trace", "t1"), ("Content-Type", "application/json"))
    assert request.body == '{"unitPrice":0.10,"note":"é"}'.encode()
    assert request.method == "PUT"
    assert request.is_write


@pytest.mark.parametrize(("value", "path"), [(".", "/shops/%2E/things/t"), ("..", "/shops/%2E%2E/things/t")])
def test_a_path_cannot_be_left(value: str, path: str) -> None:
    """
    A value is a segment and nothing else.
    """
    assert build_request(ACTION, SETTINGS, [{**PLACE, "shop": value}]).url == f"https://api.example.com{path}"


def test_the_settings_may_give_the_address() -> None:
    """
    Method and path of the declaration are what is listed.
    """
    action = evolve(ACTION, endpoint=lambda settings: ("POST", "/v2/{thing_id}"))

    request = build_request(action, SETTINGS, [PLACE])

    assert (request.method, request.url) == ("POST", "https://api.example.com/v2/t")


def test_an_action_without_body_fields_sends_none() -> None:
    """
    An action without fields in the body sends no body, not even an empty object.
    """
    assert build_request(evolve(ACTION, fields=ACTION.fields[:2]), SETTINGS, [PLACE]).body is None


@pytest.mark.parametrize(
    ("action", "given", "body"),
    [
        (ACTION, {"note": "x"}, {"note": "x"}),
        (
            evolve(ACTION, open_body=True),
            {"body": {"unit_price": "1.50", "new": [1]}},
            {"unitPrice": Decimal("1.50"), "new": [1]},
        ),
        (EVENTS, {"account": "a", "event_id": "e"}, [{"eventId": "e"}]),
        (EVENTS, {"account": "a", "body": [{"event_id": "e"}, {"eventId": "f"}]}, [{"eventId": "e"}, {"eventId": "f"}]),
        (evolve(EVENTS, rows_member="inputs"), {"account": "a", "event_id": "e"}, {"inputs": [{"eventId": "e"}]}),
        (
            evolve(ACTION, fields=(*ACTION.fields[:2], Field(name="body", place="whole_body", type="list"))),
            {"body": ["a", 1]},
            ["a", 1],
        ),
    ],
    ids=["members", "open", "a list of one", "a list", "a list in a member", "bare list"],
)
def test_bodies_are_built_as_declared(action: Action, given: dict[str, Any], body: Any) -> None:
    """
    An object of members, or a list, or whatever is given where the document leaves members open.
    """
    values = validated(action, SETTINGS, typed(action, {**(PLACE if action.name != EVENTS.name else {}), **given}))

    assert a_response(build_request(action, SETTINGS, [values]).body).json(exact=True) == body


@pytest.mark.parametrize(
    ("action", "given", "reported"),
    [
        (EVENTS, {"account": "a", "body": [{"other": 1}]}, "other is no member"),
        (EVENTS, {"account": "a", "body": [{"stage": "x"}]}, "missing: event_id"),
        (EVENTS, {"account": "a", "body": []}, "expected a list of objects"),
        (EVENTS, {"account": "a", "body": [{"event_id": "e"}], "stage": "x"}, "no other member of it beside it"),
        (evolve(ACTION, open_body=True), {**PLACE, "body": [1]}, "expected an object"),
    ],
    ids=["unknown", "missing", "empty", "both", "no object"],
)
def test_bodies_are_looked_at(action: Action, given: dict[str, Any], reported: str) -> None:
    """
    The body of an action is checked before anything is sent.
    """
    with pytest.raises(ValueError, match=reported):
        validated(action, SETTINGS, typed(action, given))


def rows_by_request(action: Action, values: list[dict[str, Any]]) -> list[Any]:
    """Numbers of the rows of each request, or the reason of a refusal."""
    rows = [Row(number=number, values=one) for number, one in enumerate(values)]
    found = pack_rows(action, SETTINGS, rows, length=lambda request: len(request.full_url))
    return [list(one.numbers) if isinstance(one, WriteRequest) else one.reason for one in found]


def test_rows_of_one_list_share_a_request() -> None:
    """
    Rows share a request up to the limit, and only if all else is equal.
    """
    accounts = ["a", "a", "b", "a", "a", "b"]
    rows: list[dict[str, Any]] = [{"account": account, "event_id": str(n)} for n, account in enumerate(accounts)]
    rows.append({"account": "b", "body": [{"eventId": "x"}, {"eventId": "y"}]})
    rows.append({"account": "b", "body": [{"eventId": name} for name in "wxyz"]})
    rows.append({"account": "b", "body": [{"eventId": name} for name in "xyz"]})

    assert rows_by_request(EVENTS, rows) == [
        [0, 1, 3],
        [2, 5],
        [4],
        [6],
        "body: 4 in one row, at most 3 fit one request; split the row",
        [8],
    ]


def test_a_row_with_several_values_is_bounded() -> None:
    """
    The values of a row are bounded in their number and in the characters of the URL; the same value twice could be
    counted once.
    """
    rows: list[dict[str, Any]] = [
        {"user": "u", "id": ["a"]},
        {"user": "u", "id": ["a", "b", "c"]},
        {"user": "u", "id": list("abcd")},
        {"user": "u", "id": ["a", "a"]},
        {"user": "u", "id": ["a" * 200]},
    ]

    length = len(build_request(SEEN, SETTINGS, [rows[-1]]).full_url)
    assert rows_by_request(SEEN, rows) == [
        [0],
        [1],
        "id: 4 in one row, at most 3 fit one request; split the row",
        "id: the same value twice in one row",
        f"its URL would have {length} characters, more than 120; split the row",
    ]


def test_a_request_is_built_once() -> None:
    """
    A request is built once, however many rows share it, and whatever is measured of it.
    """
    built: list[SourceSettings] = []

    def endpoint(settings: SourceSettings) -> tuple[str, str]:
        built.append(settings)
        return ("POST", "/events")

    rows: list[dict[str, Any]] = [{"account": "a", "event_id": str(number)} for number in range(9)]

    assert len(rows_by_request(evolve(EVENTS, endpoint=endpoint), rows)) == len(built) == 3


def test_a_row_that_cannot_be_written_stops_no_other_row_of_its_request() -> None:
    """
    If one row of a shared request cannot be written, each of its rows is sent alone.
    """
    rows: list[dict[str, Any]] = [{"account": "a", "event_id": one} for one in ("x", "\ud83d", "y")]

    first, second, third = rows_by_request(EVENTS, rows)

    assert (first, third) == ([0], [2])
    assert second.startswith("cannot be written as JSON")


# --- answers ----------------------------------------------------------------------------------------------------------


def acme(judge: Any = None, **more: Any) -> Connector:
    return Connector(name="acme", summary="", settings=SourceSettings, judge=judge, **more)


def meaning(response: Response, action: Action = ACTION, judge: Any = None) -> Any:
    output = outcome_of(acme(judge), action, response, [PLACE, PLACE])
    if isinstance(output, Retry):
        return "again"
    if isinstance(output, Refuse):
        return type(output.error).__name__
    assert [one.row for one in output] == [0, 1]
    assert len({one.status for one in output}) == 1
    return output[0].status


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"result": "id-1", "message": "made"}, "done"),
        (201, {"result": {}}, "done"),
        (200, {"result": 0}, "done"),
        (200, {}, "done"),
        (200, [1], "done"),
        (204, b"", "done"),
        (200, {"result": False, "message": "no"}, "refused"),
        (200, {"result": None}, "refused"),
        (200, {"success": False}, "refused"),
        (200, {"failure": True}, "refused"),
        (200, {"statusCode": 400, "body": "bad"}, "refused"),
        (200, {"statusCode": 200}, "done"),
        (200, {"statusCode": 503}, "unknown"),
        (200, {"statusCode": "400"}, "refused"),
        (200, b'{"statusCode": 400.0}', "refused"),
        (200, {"statusCode": "200"}, "done"),
        (200, {"success": "false"}, "refused"),
        (200, False, "refused"),
        (200, {"errorMessage": "timed out"}, "unknown"),
        (200, {"status": "error", "message": "no such click"}, "unknown"),
        (200, {"status": "ok", "message": "captured"}, "done"),
        (200, {"ok": False, "message": "no such click"}, "refused"),
        (200, {"result": "id-1", "errors": ["a warning"]}, "done"),
        (200, {"result": "id-1", "error": {"code": None}, "status": "none"}, "done"),
        (200, {"success": True, "error": "lost"}, "unknown"),
        (200, {"success": True, "status": "failed"}, "unknown"),
        (200, {"Success": False}, "refused"),
        (200, {"success": " False "}, "refused"),
        (200, {"StatusCode": 404}, "refused"),
        (200, {"status": 500}, "unknown"),
        (200, {"status": "400"}, "unknown"),
        (200, {"Errors": [{"code": 1}]}, "unknown"),
        (200, {"error_message": "lost"}, "unknown"),
        (200, {"error": "none", "errors": []}, "done"),
        (200, {"statusCode": 302}, "unknown"),
        (200, {"statusCode": "OK"}, "done"),
        (200, {"statusCode": None, "failure": None, "result": 7}, "done"),
        (200, {"statusCode": 200, "errorMessage": "Success"}, "done"),
        (200, {"success": True, "error": {"code": 0, "message": "Success"}}, "done"),
        (200, {"result": "error", "message": "no such click"}, "refused"),
        (200, {"success": 0}, "refused"),
        (200, {"failure": "no such click"}, "refused"),
        (200, {"success": 2, "failure": 1}, "unknown"),
        (200, {"success": 2, "failure": 0}, "done"),
        (200, b'{"result": "\\ud83d"}', "unknown"),
        (200, b"", "unknown"),
        (200, b"<html>Sign in</html>", "unknown"),
        (200, b'{"result": "id-', "unknown"),
        (200, [{"id": 7, "status": "created"}, {"id": 8, "error": None, "success": None}], "done"),
        (200, [{"status": 201}, {"status": 400}], "unknown"),
        (200, [{"success": False}], "unknown"),
        (200, [True, False], "unknown"),
        (200, {"result": {"id": 7}, "placements": [{"status": "failed"}]}, "done"),
        (200, {"result": {"id": 7, "success": True, "error": None}}, "done"),
        (200, {"result": {"success": False, "message": "no such click"}}, "unknown"),
        (200, {"Result": {"errors": ["no such click"]}}, "unknown"),
        (200, b'{"statusCode": 1e999999999999}', "unknown"),
        (200, b'{"success": true, "statusCode": -1E+999999999}', "unknown"),
        (207, {"success": True}, "unknown"),
        (302, b"", "unknown"),
        (303, b"", "unknown"),
        (307, b"", "refused"),
        (400, b"bad", "refused"),
        (404, b"", "refused"),
        (408, b"", "unknown"),
        (409, b"", "refused"),
        (401, b"", "again"),
        (403, b"", "AuthenticationError"),
        (429, b"", "again"),
        (500, b"", "unknown"),
        (502, b"", "unknown"),
        (503, b"", "unknown"),
        (596, b"", "unknown"),
    ],
    ids=str,
)
def test_the_meaning_of_an_answer(status: int, body: Any, expected: str) -> None:
    """
    Done only where the provider confirms it, refused only where nothing was captured, and everything else unknown.
    """
    assert meaning(a_response(body, status=status)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"success": True, "errors": []}, "done"),
        ({"success": True, "errors": ["row 1"]}, "unknown"),
        ({"results": [{"status": "ok"}, {"status": "ok"}]}, "done"),
        ({"results": [{"status": "ok"}, {"status": "error"}]}, "unknown"),
        ({"success": False, "results": [{"success": True}, {"success": False}]}, "unknown"),
        ({"success": False, "errors": [{"status": 422}]}, "refused"),
    ],
    ids=str,
)
def test_the_meaning_of_an_answer_to_several_rows(body: Any, expected: str) -> None:
    """
    Where the response states that a part of the request failed, the outcome of each row is unknown: a judge of the
    action knows which row that is.
    """
    assert meaning(a_response(body), EVENTS) == expected


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Accept(), "done"),
        (Skip("nothing there"), "refused"),
        (Refuse(RefusedError("no")), "refused"),
        (Refuse(AuthenticationError("no")), "AuthenticationError"),
        (Refuse(ThrottledError("quota")), "ThrottledError"),
        (Retry(ServerError("later")), "unknown"),
        (Retry(ThrottledError("slow"), throttle=True), "again"),
        (Retry(AuthenticationError("old"), renew=True), "again"),
        (None, "done"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_judges_come_first(verdict: Any, expected: str) -> None:
    """
    The action's, then the connector's; one that sends a read again only makes a write unknown.
    """
    response = a_response({"result": True})

    assert meaning(response, judge=lambda response, answer: verdict) == expected
    own = evolve(ACTION, judge=lambda response, rows: verdict)
    after = meaning(response, own, lambda response, answer: Refuse(ServerError("of the judge")))
    assert after == (expected if verdict is not None else "ServerError")


def test_an_action_may_judge_each_row() -> None:
    """
    The receipts that an action's own judge returns stand.
    """
    receipts = [Receipt(row=0, status="done"), Receipt(row=1, status="refused", reason="no such id")]

    output = outcome_of(acme(), evolve(ACTION, judge=lambda r, rows: receipts), a_response({}), [PLACE, PLACE])

    assert output == receipts


def test_the_reason_and_the_answer_are_kept() -> None:
    """
    The provider's words, and its whole answer with its digits.
    """
    (done,) = outcome_of(acme(), ACTION, a_response(b'{"result": 1.50, "message": "made"}'), [PLACE])  # type: ignore[misc]
    (bad,) = outcome_of(acme(), ACTION, a_response({"message": "no such shop"}, status=404), [PLACE])  # type: ignore[misc]

    assert (done.reason, done.answer) == ("made", {"result": Decimal("1.50"), "message": "made"})
    assert "no such shop" in bad.reason
    assert json.dumps(bad.answer) == '{"message": "no such shop"}'


def test_a_table_of_statuses_decides_for_writes_too() -> None:
    """
    The connector's table states what a status means to the rows, in the provider's words and with its advice.
    """
    connector = acme(statuses={409: Refusal("Choose another name."), 418: Throttle()}, reason=("error.message",))

    (refused,) = outcome_of(connector, ACTION, a_response({"error": {"message": "taken"}}, status=409), [PLACE])  # type: ignore[misc]
    throttled = outcome_of(connector, ACTION, a_response({}, status=418), [PLACE])

    assert (refused.status, refused.reason) == (
        "refused",
        f"acme answered {ACTION.name} with HTTP 409: taken. Choose another name.",
    )
    assert isinstance(throttled, Retry)
    assert throttled.throttle
