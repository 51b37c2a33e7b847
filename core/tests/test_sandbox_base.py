"""
The base of sandboxes: routes, errors, tokens, limits, planned failures.
"""

import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from attrs import define, evolve
from penstock import Sandbox, SandboxBase, SandboxError, SandboxRequest, SandboxResponse, json_response
from penstock.sandbox import SandboxReports, SlidingWindow, Tokens, draw, json_body

TODAY = date(2026, 3, 10)


@define(eq=False)
class Shop(SandboxBase):
    """A provider with an attribute of its own, ``colour``."""

    colour: str = "red"

    def admit(self, request: SandboxRequest) -> None:
        if request.headers.get("x-key") == "wrong":
            raise SandboxError(401, "unknown key", headers={"WWW-Authenticate": "Key"})

    def sale(self, request: SandboxRequest, shop: str, sale: str) -> SandboxResponse:
        return json_response({"shop": shop, "sale": sale, "colour": self.colour, **request.params})

    def switch(self, request: SandboxRequest, state: str) -> SandboxResponse:
        return json_response([state, json_body(request)])

    def odd(self, request: SandboxRequest) -> SandboxResponse:
        raise SandboxError(418, response=SandboxResponse(status=418, body=b"teapot"))

    routes: ClassVar = {
        "GET /shops/{shop}/sales/{sale}": sale,
        "PUT|POST /shops/{state:on|off}": switch,
        "GET /odd.path": odd,
    }


@pytest.fixture
def shop() -> Shop:
    return Shop("http://127.0.0.1:9", TODAY)


def send(app: SandboxBase, line: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    method, _, target = line.partition(" ")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = app(SandboxRequest(method=method, target=target, headers=named, body=body))
    return answer.status, json.loads(answer.body) if answer.headers.get("Content-Type") else answer.body


def test_a_sandbox_names_its_own_address_in_its_settings() -> None:
    """
    The settings of a sandbox may have its address for a login host, which the sandbox imitates too.
    """
    sandbox = Sandbox(connector="acme", summary="", make=Shop, settings={"login_url": "{base_url}/id", "ids": ["1"]})

    assert sandbox.source("http://127.0.0.1:7") == {
        "base_url": "http://127.0.0.1:7",
        "login_url": "http://127.0.0.1:7/id",
        "ids": ["1"],
    }


def test_a_route_passes_the_decoded_segments_by_name(shop: Shop) -> None:
    """
    A blank and a slash in a segment are part of its value; the query's parameters are decoded, too.
    """
    assert send(shop, "GET /shops/a%20b/sales/1%2F2?day=2026-03-01&x=%26") == (
        200,
        {"shop": "a b", "sale": "1/2", "colour": "red", "day": "2026-03-01", "x": "&"},
    )


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /shops/1/sales/2", 200),
        ("GET /shops/1/sales/2/3", 404),
        ("GET /shops//sales/2", 404),
        ("PUT /shops/on", 200),
        ("POST /shops/on", 200),
        ("PUT /shops/maybe", 404),
        ("GET /shops/on", 405),
        ("GET /oddxpath", 404),
        ("GET /odd.path", 418),
    ],
)
def test_a_path_is_matched_whole(shop: Shop, line: str, status: int) -> None:
    """
    Every segment, a pattern's values only, a point as itself; another method of a known path is a 405.
    """
    answer = shop(SandboxRequest(method=line.split()[0], target=line.split()[1], headers={}, body=b"{}"))

    assert answer.status == status
    assert answer.headers.get("Allow") == ("PUT, POST" if status == 405 else None)


@pytest.mark.parametrize("route", ["/shops", "GET shops", "GET"])
def test_a_route_of_another_form_is_refused_with_its_class(route: str) -> None:
    """
    A route of another form is refused at its declaration, with its class.
    """
    with pytest.raises(ValueError, match="METHOD /path"):
        type("Wrong", (SandboxBase,), {"routes": {route: Shop.odd}})


def test_an_error_has_the_provider_s_envelope_and_its_headers(shop: Shop) -> None:
    """
    An error from the check of credentials, and one from the reading of a body, has the provider's envelope and headers.
    """
    answer = shop(SandboxRequest(method="GET", target="/shops/1/sales/2", headers={"x-key": "wrong"}, body=b""))

    assert (answer.status, json.loads(answer.body)) == (401, {"error": "unknown key"})
    assert answer.headers["WWW-Authenticate"] == "Key"
    assert send(shop, "PUT /shops/on", b"[]") == (400, {"error": "The body must be a JSON object"})
    assert send(shop, "PUT /shops/on", b"{") == (400, {"error": "The body is not JSON"})


CASES: dict[str, tuple[Any, tuple[int, Any]]] = {
    "status": (503, (503, {"error": "Service Unavailable"})),
    "response": (SandboxResponse(status=500, headers={}, body=b"broken"), (500, b"broken")),
    "change": (lambda regular: evolve(regular, status=203), (203, ["on", {}])),
}


@pytest.mark.parametrize(("how", "expected"), CASES.values(), ids=CASES)
def test_planned_failures_strike_the_requests_that_match(
    shop: Shop, how: int | SandboxResponse | Callable[[SandboxResponse], SandboxResponse], expected: tuple[int, Any]
) -> None:
    """
    Planned failures occur as often as planned; a request to another path, or without credentials, uses none up.
    """
    shop.fail_next(how, 2, on="^PUT /shops")

    assert send(shop, "GET /shops/1/sales/2")[0] == 200
    assert send(shop, "PUT /shops/on", b"{}", x_key="wrong")[0] == 401
    assert [send(shop, "PUT /shops/on", b"{}") for _ in range(3)] == [expected, expected, (200, ["on", {}])]


def test_requests_are_kept(shop: Shop) -> None:
    """
    Requests are kept in order, the refused ones too; a pattern chooses among them.
    """
    send(shop, "GET /shops/1/sales/2")
    send(shop, "GET /shops/1/sales/3", x_key="wrong")
    send(shop, "PUT /shops/on", b"{}")

    assert [request.path for request in shop.requests] == ["/shops/1/sales/2", "/shops/1/sales/3", "/shops/on"]
    assert [request.path for request in shop.requests_to("GET .*/3$")] == ["/shops/1/sales/3"]


def test_a_day_counts_its_restatements(shop: Shop) -> None:
    """
    A restatement changes one day and no other.
    """
    shop.restate(TODAY)
    shop.restate(TODAY)

    assert (shop.restated(TODAY), shop.restated(date(2026, 3, 9))) == (2, 0)


def test_a_token_ends_with_its_time_its_last_use_or_when_it_is_revoked() -> None:
    """
    A token ends exactly with its lifetime, with its last use or when it is revoked; an unknown token is never valid.
    """
    now = [0.0]
    shop = Shop("http://127.0.0.1:9", TODAY, clock=lambda: now[0])
    tokens = shop.tokens
    tokens.issue("a", life_s=10)
    tokens.issue("b")

    assert [tokens.accept("a"), tokens.accept("b"), tokens.accept("c"), tokens.accept("")] == [True, True, False, False]
    assert [tokens.accept("b", uses=2), tokens.accept("b", uses=2)] == [True, False]
    now[0] = 10.0
    assert [tokens.accept("a"), tokens.accept("b")] == [False, True]
    shop.expire_tokens()
    assert [tokens.accept("b"), tokens.issued] == [False, ["a", "b"]]


def test_tokens_have_a_clock_of_their_own() -> None:
    """
    The tokens of an imitation end by a clock of their own, with or without a sandbox.
    """
    assert Tokens(lambda: 5.0).accept("a") is False


def test_a_report_is_ready_after_its_polls() -> None:
    """
    Each report counts its own polls; an unknown one is a 404.
    """
    reports = SandboxReports(polls_until_ready=2)
    first, second = reports.submit([1, 2]), reports.submit([])

    assert [reports.poll(first) for _ in range(4)] == [False, False, True, True]
    assert (reports.poll(second), reports.rows(first), reports.rows(second)) == (False, [1, 2], [])
    for unknown in ("0", "3", "-1", "one", ""):
        with pytest.raises(SandboxError, match="404"):
            reports.poll(unknown)


def test_a_rate_limit_slides() -> None:
    """
    A request leaves the window after its length; a refused one never was in it.
    """
    limit = SlidingWindow(1.0)

    assert [limit.accept(now, 2) for now in (0.0, 0.5, 0.9, 1.0, 1.4, 1.5)] == [True, True, False, True, False, True]
    assert all(limit.accept(1.5, None) for _ in range(100))


def test_values_are_written_exactly() -> None:
    """
    A decimal keeps its digits as a number, a day is ISO text.
    """
    assert json_response({"price": Decimal("1.10"), "day": TODAY}).body == b'{"price":1.10,"day":"2026-03-10"}'


def test_invented_numbers_depend_on_the_arguments_only() -> None:
    """
    Invented numbers are equal in every process: the value is fixed here.
    """
    assert draw("clicks", TODAY) == draw("clicks", date(2026, 3, 10)) != draw("clicks", date(2026, 3, 11))
    assert draw("a") == 170914486623103
