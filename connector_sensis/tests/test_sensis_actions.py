"""
What the answers of Sensis mean, and what is not sent to it.
"""

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from connector_sensis.actions import ACTIONS, failed_ids, judge, prepare
from connector_sensis.config import SensisSettings
from connector_sensis.source import CONNECTOR
from penstock import Accept, AuthenticationError, ForbiddenError, ProviderError, Refuse, Retry, Secret, ThrottledError
from penstock.testing import a_response, verdict_on

FIXTURES = Path(__file__).parent / "fixtures"


def outcome(body: Any, rows: list[list[str]], status: int = 200) -> Any:
    """The rows' statuses, or what kind of verdict there is; ``rows`` are the ids of each."""
    output = judge(a_response(body, status=status), [{"id": ids, "event_name": "appearance"} for ids in rows])
    if isinstance(output, (Refuse, Retry)) or output is None:
        return type(output).__name__
    return [receipt.status for receipt in output]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("report_ok.json", ["done", "done"]),
        ("report_partial.synthetic.json", ["done", "refused"]),
        ("report_validation_error.synthetic.json", ["refused", "refused"]),
    ],
)
def test_the_documented_samples_are_read(name: str, expected: list[str]) -> None:
    """
    Captured, captured in part, not captured.
    """
    assert outcome((FIXTURES / name).read_bytes(), [["a"], ["b"]]) == expected


@pytest.mark.parametrize(
    ("errors", "rows", "expected"),
    [
        (["id[0] is not valid"], [["a", "b"]], ["partial"]),
        (["id[0] is not valid", "id[1] is not valid"], [["a", "b"], ["c"]], ["refused", "done"]),
        (["Invalid id: abc"], [["ab"], ["abc"], ["abcd"]], ["done", "refused", "done"]),
        (["ids a+/=, b are unknown"], [["a+/="], ["b"], ["c"]], ["refused", "refused", "done"]),
        (["id[3] is not valid"], [["a"], ["b"], ["c"]], ["done", "done", "refused"]),
        (["some are not valid"], [["a"], ["b"]], ["unknown", "unknown"]),
        (["id[0] is not valid", "another one is not"], [["a"], ["b"]], ["unknown", "unknown"]),
        (["id[7] is not valid"], [["a"], ["b"]], ["unknown", "unknown"]),
        ([], [["a"]], ["unknown"]),
    ],
    ids=["partial", "index", "text", "signs", "from one", "none", "one of two", "beyond", "nothing"],
)
def test_a_206_decides_by_the_ids_that_it_names(errors: list[str], rows: list[list[str]], expected: list[str]) -> None:
    """
    Rows whose ids are named were not captured, the others were; if an error names none, nobody knows.
    """
    assert outcome({"code": 206, "message": "OK", "validationErrors": errors}, rows) == expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"code": 400, "validationErrors": ["userIp is missing."]}, ["refused"]),
        (400, {"code": 400, "message": "bad"}, ["refused"]),
        (200, {"code": "200", "message": "OK"}, ["done"]),
        (200, b'{"code": 400.0}', ["refused"]),
        (200, {"code": 500, "message": "oops"}, "Retry"),
        (200, {"code": 403, "message": "Over Rate Limit"}, "Refuse"),
        (200, {"message": "OK"}, "Retry"),
        (200, b"<html>", "Retry"),
        (200, b"", "Retry"),
        (500, {"code": 200}, "NoneType"),
        (403, b"<h1>Developer Inactive</h1>", "NoneType"),
    ],
    ids=[
        "400 in 200",
        "400",
        "as text",
        "as 400.0",
        "500 in 200",
        "403 in 200",
        "no code",
        "html",
        "empty",
        "200 in 500",
        "gateway",
    ],
)
def test_the_code_in_the_body_is_the_outcome(status: int, body: Any, expected: Any) -> None:
    """
    Under a good status, the code in the body is the outcome; a 2xx without one is unknown.
    """
    assert outcome(body, [["a"]], status) == expected


def test_warnings_are_reported() -> None:
    """
    Warnings are reported with the receipt of an event that was captured.
    """
    body = {"code": 200, "message": "OK", "validationWarnings": ["no agent"]}
    output: Any = judge(a_response(body), [{"id": ["a"], "event_name": name} for name in ("appearance", "apearance")])

    assert [(one.status, one.reason) for one in output] == [
        ("done", "warning: no agent"),
        ("done", "warning: no agent; warning: apearance is not a documented event_name"),
    ]


@pytest.mark.parametrize(
    ("status", "header", "body", "expected"),
    [
        (403, "ERR_403_DEVELOPER_OVER_QPS", b"", Retry),
        (403, None, b"<h1>Account Over Queries Per Second Limit</h1>", Retry),
        (403, "ERR_403_DEVELOPER_OVER_RATE", b"", ThrottledError),
        (403, None, b"<h1>Account Over Rate Limit</h1>", ThrottledError),
        (403, "ERR_403_DEVELOPER_INACTIVE", b"", ForbiddenError),
        (403, None, b"<h1>Not Authorized</h1>", ForbiddenError),
        (401, None, b"", AuthenticationError),
        (596, "ERR_596_SERVICE_NOT_FOUND", b"", ProviderError),
        (404, None, b"", ProviderError),
        (502, None, b"", Retry),
        (200, None, b"", Accept),
    ],
    ids=str,
)
def test_the_answers_of_the_gateway(status: int, header: str | None, body: bytes, expected: Any) -> None:
    """
    One status for a wrong key and for too many requests, distinguished by header or text.
    """
    headers = (("x-mashery-error-code", header),) if header else ()

    verdict = verdict_on(a_response(body, status=status, headers=headers), CONNECTOR)

    if isinstance(verdict, Refuse):
        assert type(verdict.error) is expected
    else:
        assert isinstance(verdict, expected)
    if isinstance(verdict, Retry):
        assert verdict.throttle is (status == 403)


@pytest.mark.parametrize("retry_after", [None, "86400"])
def test_a_quota_is_waited_for_where_the_gateway_states_how_long(retry_after: str | None) -> None:
    """
    Without a stated wait the job ends at once: nobody knows when there is a new quota.
    """
    headers = (("x-mashery-error-code", "ERR_403_DEVELOPER_OVER_RATE"),)
    headers += (("retry-after", retry_after),) if retry_after else ()

    verdict = verdict_on(a_response(b"", status=403, headers=headers), CONNECTOR)

    assert isinstance(verdict, Retry if retry_after else Refuse)
    assert type(verdict.error) is ThrottledError
    assert not isinstance(verdict, Retry) or verdict.throttle


def test_an_index_that_is_an_id_is_an_id() -> None:
    """
    Where ids are short numbers, brackets hold the id itself.
    """
    assert failed_ids(["id[1] is not valid"], ["5", "3", "1"]) == {2}
    assert failed_ids(["id[1] is not valid"], ["5", "3", "2"]) == {1}


@pytest.mark.parametrize(
    ("values", "reported"),
    [
        ({"id": ["a", "b"], "content": "x"}, "exactly one id, found 2"),
        ({"id": [" "]}, "id: is empty"),
        ({"id": ["a"], "user_ip": "localhost"}, "expected an IP address"),
        ({"id": ["a"], "event_name": "dial"}, "content: is missing, and dial needs it"),
        ({"id": ["a"], "event_name": "sendEmail", "content": " "}, "content: is missing"),
    ],
    ids=["content", "empty", "address", "no number", "no address"],
)
def test_unsendable_events_are_refused(values: dict[str, Any], reported: str) -> None:
    """
    Events that the document rules out are refused here; the source may override which events need content.
    """
    settings = SensisSettings(key=Secret("k" * 8))
    row = {"user_ip": "2001:db8::1", "event_name": "appearance"}

    with pytest.raises(ValueError, match=reported):
        prepare(settings, {**row, **values})
    prepare(settings, {**row, "event_name": "dial", "id": ["a"], "content": "x"})
    prepare(evolve(settings, events_requiring_content=()), {**row, "event_name": "dial", "id": ["a"]})


def test_events_go_to_the_test_environment_by_default() -> None:
    """
    Events are sent by GET to the test environment, as the older edition of the document has it.
    """
    settings = SensisSettings(key=Secret("k" * 8))

    assert ACTIONS[0].endpoint(settings) == ("GET", "/ob-20110511/test/report/{event_name}")
    assert "plain http" in settings.notices()[0]
    assert SensisSettings(key=Secret("k" * 8), base_url="https://api.example.com").notices() == ()
