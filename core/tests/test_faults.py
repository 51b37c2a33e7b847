"""
The tools of penstock.testing: faults strike when they should and break what their names
state; clock, exchange and server.
"""

import itertools
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import penstock.sandbox
import penstock.testing
import pytest
from attrs import evolve
from penstock.errors import PenstockError, StoppedError, UsageError
from penstock.model import Request
from penstock.sandbox import FAULTS, faults_named, with_faults
from penstock.sandbox.app import SandboxApp, SandboxRequest, SandboxResponse
from penstock.sandbox.fault_effects import FOREIGN, records_in, status
from penstock.sandbox.faults import Fault
from penstock.sandbox.server import Scripted, serve
from penstock.testing import FakeClock, ScriptedExchange, ShiftedClock, a_response
from transports import a_transport
from waits import eventually

pytestmark = pytest.mark.slow


def a_page(request: SandboxRequest) -> SandboxResponse:
    page = int(dict(pair.split("=") for pair in request.query.split("&") if pair).get("page", 1))
    items = [{"id": 10 * page + at, "name": "Ann", "price": 1.5, "tags": ["[", "]"]} for at in range(5)]
    return SandboxResponse(body=json.dumps({"items": items, "next": f"/jobs?page={page + 1}"}).encode())


def a_request(target: str = "/jobs", **more: Any) -> SandboxRequest:
    return SandboxRequest(**({"method": "GET", "target": target, "headers": {}, "body": b""} | more))


# --- when they strike -----------------------------------------------------------------------------------------------


def statuses(app: SandboxApp, *targets: str) -> list[int]:
    return [app(a_request(target)).status for target in targets]


def test_a_transient_fault_ends() -> None:
    """
    Each request is struck as often as the fault states, and answered after that.
    """
    app = with_faults(a_page, [evolve(FAULTS["bad_gateway"], times=2)])

    assert statuses(app, *["/jobs?page=1"] * 5) == [502, 502, 200, 200, 200]
    assert statuses(app, *["/jobs?page=2"] * 3) == [502, 502, 200]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(a_request("/j?a=1&ts_sign=x"), a_request("/j?a=1&ts_sign=y"), id="signature"),
        pytest.param(a_request("/j?timestamp=1&a=1"), a_request("/j?timestamp=2&a=1"), id="timestamp"),
        pytest.param(
            a_request(method="POST", body=b'{"ticket": "x", "day": 1}'),
            a_request(method="POST", body=b'{"ticket": "y", "day": 1}'),
            id="ticket in the body",
        ),
        pytest.param(a_request(headers={"authorization": "a"}), a_request(headers={}), id="header"),
    ],
)
def test_request_signed_anew_is_the_same_request(first: SandboxRequest, second: SandboxRequest) -> None:
    """
    A header that changes with every attempt does not make another request of it.
    """
    app = with_faults(lambda request: SandboxResponse(), [FAULTS["bad_gateway"]])

    assert [app(first).status, app(second).status] == [502, 200]


def test_several_transient_faults_never_come_in_a_row() -> None:
    """
    Every fault strikes every request in the end, with an answer in between, in the same order for the same seed.
    """
    codes = [429, 500, 502, 503, 504]
    faults = [Fault(name=str(code), summary="", change=status(code)) for code in codes]
    runs = [statuses(with_faults(a_page, faults, seed), *["/jobs"] * 12) for seed in (1, 1, 2, 3)]

    for run in runs:
        assert sorted(run) == [200] * 7 + codes
        assert all(200 in pair for pair in itertools.pairwise(run))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2] or runs[0] != runs[3]


def test_fatal_fault_stays() -> None:
    """
    After the requests that are let through, every one for which it holds is struck.
    """
    odd = evolve(FAULTS["forbidden"], after=1, when=lambda request: "page" in request.query)
    app = with_faults(a_page, [odd])

    assert statuses(app, "/jobs?page=1", "/jobs?page=2", "/jobs?page=2", "/jobs", "/jobs?page=1") == [
        200,
        403,
        403,
        200,
        403,
    ]


def test_a_fault_may_strike_a_share_of_the_requests() -> None:
    """
    Only the stated share of the requests is struck.
    """
    app = with_faults(a_page, [FAULTS["bad_gateway"]], share=0.3)
    struck = statuses(app, *[f"/jobs?page={page}" for page in range(200)]).count(502)

    assert 30 < struck < 90


def test_a_refused_request_never_arrives() -> None:
    """
    A refused request never reaches the provider; one whose answer was lost did its work there.
    """
    reached: list[SandboxRequest] = []

    def app(request: SandboxRequest) -> SandboxResponse:
        reached.append(request)
        return SandboxResponse()

    with_faults(app, [FAULTS["throttled"]])(a_request())
    assert reached == []
    with_faults(app, [FAULTS["reset"]])(a_request())
    assert len(reached) == 1


@pytest.mark.parametrize(
    ("request_", "struck"),
    [
        pytest.param(a_request("/oauth/token", method="POST", body=b'{"secret": "s"}'), False, id="login by body"),
        pytest.param(a_request("/login", headers={"x-api-key": "k"}), False, id="login by key"),
        pytest.param(a_request("/login", headers={"authorization": "Basic a2V5"}), False, id="login by password"),
        pytest.param(a_request(headers={"authorization": "Bearer t"}), True, id="header"),
        pytest.param(a_request(headers={"x-api-token": "t"}), True, id="header of its own"),
        pytest.param(a_request("/jobs?access_token=t&page=1"), True, id="query"),
    ],
)
def test_only_a_token_expires(request_: SandboxRequest, struck: bool) -> None:
    """
    A login is let through however often it comes; a request with a token is refused once, after the first.
    """
    app = with_faults(lambda request: SandboxResponse(), [FAULTS["expired"]])

    assert [app(request_).status for _ in range(3)] == ([200, 401, 200] if struck else [200, 200, 200])


def test_unknown_fault_is_a_usage_error() -> None:
    """
    The message has the wrong name and the ones there are.
    """
    assert [fault.name for fault in faults_named("cut, throttled,")] == ["cut", "throttled"]
    with pytest.raises(UsageError, match=r"named nope; known are .*throttled"):
        faults_named("cut, nope")


# --- what they break ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "records"),
    [
        pytest.param(b'[{"a": 1}, {"b": [{"c": 2}]}]', [b'{"a": 1}', b'{"b": [{"c": 2}]}'], id="an array"),
        pytest.param(b'{"x": "[{", "y": [1], "z": [ {"a":1} ,\n{} ] }', [b'{"a":1}', b"{}"], id="in an envelope"),
        pytest.param(b'{"a":1}\n{"a":"}"}\n', [b'{"a":1}', b'{"a":"}"}'], id="JSON lines"),
        pytest.param('[{"a": "ä€"}]'.encode(), ['{"a": "ä€"}'.encode()], id="more than one byte a letter"),
        pytest.param(b"[]", [], id="no records"),
        pytest.param(b'{"status": 1, "jobs": null}', [], id="an envelope without records"),
        pytest.param(b"[{", [], id="no JSON"),
        pytest.param(b"<html>", [], id="HTML"),
    ],
)
def test_records_are_found(body: bytes, records: list[bytes]) -> None:
    """
    The records of any provider's body, wherever its envelope has them.
    """
    assert [body[start:end] for start, end in records_in(body)] == records


def struck(name: str, request: SandboxRequest | None = None) -> SandboxResponse:
    return with_faults(a_page, [evolve(FAULTS[name], after=0)])(request or a_request())


def members(name: str) -> dict[str, Any]:
    found = json.loads(struck(name).body)
    assert isinstance(found, dict)
    return found


def test_lines_without_an_end_of_their_own_are_not_cut() -> None:
    """
    Half of a CSV file with a length to match is a CSV file: no connector could notice it.
    """
    csv = SandboxResponse(body=b"a,b\n1,2\n")

    assert with_faults(lambda request: csv, [FAULTS["cut_json"]], seed=1)(a_request()) == csv


BROKEN: dict[str, Callable[[bytes], bool]] = {
    "invalid_utf8": lambda body: b"Ann\xff" in body,
    "not_a_number": lambda body: body.count(b": NaN") == 1,
    "infinity": lambda body: body.count(b": Infinity") == 1,
    "too_large_number": lambda body: body.count(b": 1e999") == 1,
    "deep": lambda body: b"[" * 100_000 in body and body.count(b"[") == body.count(b"]"),
    "duplicate_member": lambda body: body.count(b'"id"') == 6,
    "bad_record": lambda body: json.loads(body)["items"][2] == "broken",
    "html": lambda body: body.startswith(b"<!DOCTYPE html>"),
    "cut_json": lambda body: a_page(a_request()).body.startswith(body) and len(body) > 20,
    "empty": lambda body: body == b"",
    "circular_link": lambda body: json.loads(body)["next"] == "/jobs",
    "foreign_link": lambda body: json.loads(body)["next"] == f"https://{FOREIGN}/jobs",
    "plain_link": lambda body: json.loads(body)["next"] == f"http://{FOREIGN}/jobs",
    "ids_change_type": lambda body: [type(it["id"]) for it in json.loads(body)["items"]] == [str, int, str, int, str],
}  # fmt: skip


@pytest.mark.parametrize(("name", "holds"), BROKEN.items(), ids=BROKEN)
def test_a_fault_breaks_the_one_thing_of_its_name(name: str, holds: Callable[[bytes], bool]) -> None:
    """
    The answer has status 200 and the one thing wrong.
    """
    answer = struck(name)

    assert answer.status == 200
    assert holds(answer.body)


def test_ids_change_from_text_to_number() -> None:
    """
    Ids that are text become numbers.
    """
    app = with_faults(lambda request: SandboxResponse(body=b'[{"jobId": "7", "x": "8"}]'), [FAULTS["ids_change_type"]])

    assert json.loads(app(a_request()).body) == [{"jobId": 7, "x": "8"}]


def test_a_fault_waits_for_a_response_that_it_can_change() -> None:
    """
    A fault of records does not change a response without records; it changes the next one that has some.
    """
    answers = [b"{}", b'[{"id": 1}]']
    app = with_faults(
        lambda request: SandboxResponse(body=answers.pop(0)), [evolve(FAULTS["bad_record"], kind="transient")]
    )

    assert [app(a_request()).body for _ in range(2)] == [b"{}", b'["broken"]']


def test_page_comes_again() -> None:
    """
    The second page is the first one, once.
    """
    app = with_faults(a_page, [FAULTS["repeated_page"]])
    first, again, second = (app(a_request(f"/jobs?page={page}")).body for page in (1, 2, 2))

    assert first == again == a_page(a_request("/jobs?page=1")).body
    assert second == a_page(a_request("/jobs?page=2")).body


def test_link_header_is_bent_too() -> None:
    """
    A next link in a header leads elsewhere, its other links stay.
    """
    header = '</jobs?page=2>; rel="next", </jobs?page=9>; rel="last"'
    app = with_faults(lambda request: SandboxResponse(headers={"Link": header}), [FAULTS["foreign_link"]])

    assert app(a_request()).headers["Link"] == f'<https://{FOREIGN}/jobs>; rel="next", </jobs?page=9>; rel="last"'


def test_retry_after_as_a_date_lies_ahead() -> None:
    """
    An HTTP date, not yet over, within two seconds.
    """
    from penstock.model import http_date

    when = http_date(struck("throttled_date").headers["Retry-After"])

    assert when is not None
    assert 0 < (when - datetime.now(UTC)).total_seconds() <= 2


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_can_be_served(name: str) -> None:
    """
    The client ends in time with an answer or an error that is meant to be read, and the server goes on.
    """
    with serve() as server:
        transport = a_transport(server.base_url, timeout_s=0.2, total_timeout_s=0.3, max_body_bytes=1 << 16)
        server.app = with_faults(a_page, [FAULTS[name]])
        place: str | None = "GET "
        try:
            transport(Request(url=server.base_url))
        except PenstockError as error:
            place = error.request
        assert str(place).startswith("GET ")
        server.app = a_page
        assert transport(Request(url=server.base_url)).status == 200
        transport.close()
        assert server.errors == []


# --- server, clock, exchange ----------------------------------------------------------------------------------------


def test_server_answers_before_it_has_an_app_and_after_a_defect() -> None:
    """
    No app yet is 503; an app that raises is 500, and its error is kept.
    """
    exchange = ScriptedExchange([])
    with serve() as server:
        transport = a_transport(server.base_url, timeout_s=5, total_timeout_s=600)
        assert transport(Request(url=server.base_url)).status == 503
        server.app = lambda request: exchange(Request(url="/x"))  # type: ignore[assignment]
        answer = transport(Request(url=server.base_url))
        transport.close()

    assert (answer.status, [type(error) for error in server.errors]) == (500, [AssertionError])
    assert "defect of the sandbox" in answer.text()


def test_server_compresses_for_clients_that_accept_it() -> None:
    """
    The client sees the same body, and fewer bytes on the way.
    """
    body = b'{"a": 1}' * 1000
    with serve(lambda request: SandboxResponse(body=body), gzip=True) as server:
        transport = a_transport(server.base_url, timeout_s=5, total_timeout_s=600)
        answer = transport(Request(url=server.base_url))
        with urllib.request.urlopen(server.base_url) as plain:
            assert plain.read() == body
        transport.close()

    assert answer.body == body
    assert answer.header("content-encoding") == "gzip"
    assert int(answer.header("content-length") or 0) < 1000


def test_server_ends_at_once_while_a_client_waits() -> None:
    """
    Neither an answer under way nor an idle connection holds up the end.
    """
    with serve(with_faults(a_page, [FAULTS["stall"]])) as server:
        transport = a_transport(server.base_url, timeout_s=5, total_timeout_s=600)
        ended: list[str] = []

        def send() -> None:
            with pytest.raises(PenstockError) as caught:
                transport(Request(url=server.base_url))
            ended.append(str(caught.value))

        thread = threading.Thread(target=send)
        thread.start()
        eventually(lambda: server.requests)
        began = time.monotonic()
    thread.join(5)
    transport.close()

    assert time.monotonic() - began < 15  # the answer takes 20
    assert len(ended) == 1


def test_a_direct_call_gets_the_script_of_a_wire_fault() -> None:
    """
    A direct call gets the script of a wire fault, so that a test can read it.
    """
    answer = struck("cut_chunk")

    assert isinstance(answer, Scripted)
    assert b"".join(step for step in answer.steps if isinstance(step, bytes)).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("clock", [ShiftedClock(datetime(2026, 3, 2, tzinfo=UTC)), FakeClock()], ids=["real", "fake"])
def test_sleep_ends_when_stopped(clock: ShiftedClock | FakeClock) -> None:
    """
    A stop ends a sleep at once, also one that begins after it.
    """
    clock.sleep(0)
    clock.stop.set()

    with pytest.raises(StoppedError):
        clock.sleep(60)


def test_fake_clock_moves_by_sleeping() -> None:
    """
    Time passes by sleeping and by advance(); now and monotonic agree.
    """
    clock = FakeClock(datetime(2026, 3, 2, tzinfo=UTC))
    clock.sleep(90)
    clock.advance(30)

    assert (clock.now(), clock.monotonic(), clock.slept) == (datetime(2026, 3, 2, 0, 2, tzinfo=UTC), 120, [90])


def test_scripted_exchange() -> None:
    """
    Responses are given, exceptions raised, callables called, one a request; one request more is a failed test.
    """
    exchange = ScriptedExchange(
        [a_response([1]), UsageError("no"), lambda request: a_response(request.url.encode(), status=404)]
    )
    request = Request(url="https://api.example.com/x")

    assert exchange(request).body == b"[1]"
    with pytest.raises(UsageError, match="no"):
        exchange(request)
    assert exchange(request).text() == request.url
    with pytest.raises(AssertionError, match=r"request 4 was not foreseen: GET https://api\.example\.com/x"):
        exchange(request)
    assert exchange.requests == [request] * 4


def test_a_body_that_is_too_large_is_refused_unread() -> None:
    """
    A body whose stated length is too large is refused before the app sees the request and before anything is held in
    memory.
    """
    seen: list[SandboxRequest] = []
    with (
        serve(lambda request: seen.append(request) or SandboxResponse(), largest_body=3) as server,  # type: ignore[func-returns-value]
        socket.create_connection(("127.0.0.1", server.port)) as client,
    ):
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\nabcd")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
    assert seen == []


# --- where they are -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FAULTS", "Fault", "Server", "faults_named", "serve", "with_faults"])
def test_testing_names_the_sandbox_for_names_that_moved_there(name: str) -> None:
    """
    An import of a server or a fault from penstock.testing, where they were, states where it is.
    """
    assert hasattr(penstock.sandbox, name)

    with pytest.raises(ImportError, match=f"from penstock.sandbox import {name}"):
        getattr(penstock.testing, name)
