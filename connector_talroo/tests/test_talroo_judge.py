"""
What Talroo's answers mean: the message in the body, whatever the HTTP status.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from connector_talroo.source import CONNECTOR, judge
from connector_talroo.streams import STREAMS
from penstock import Accept, Refuse, Retry, Verdict, errors
from penstock.testing import a_response, verdict_on

FIXTURES = Path(__file__).parent / "fixtures"
NOW = datetime(2026, 3, 10, 12, 0, 0, tzinfo=UTC)

ERRORS = {
    "error_unauthorized_request.json": (Retry, errors.AuthenticationError, "customer_secret"),
    "error_missing_required_params.json": (Refuse, errors.RefusedError, "defect"),
    "error_not_found.json": (Refuse, errors.RefusedError, "advertiser_ids"),
    "error_server_is_busy.json": (Retry, errors.ServerError, "later"),
    "error_too_many_requests.json": (Retry, errors.ThrottledError, "requests_per_second"),
    "error_format_error.json": (Refuse, errors.RefusedError, "defect"),
    "error_date_format_error.json": (Refuse, errors.RefusedError, "defect"),
    "error_invalid_date_range.json": (Refuse, errors.RefusedError, "two full calendar months"),
}


def verdict_of(body: Any, status: int = 200, date: str | None = None) -> Verdict:
    """The core's verdict on an answer to a request for clicks."""
    headers = () if date is None else (("date", date),)
    return verdict_on(a_response(body, status=status, headers=headers, received_at=NOW), CONNECTOR, STREAMS[0])


def error_of(verdict: Verdict | None) -> errors.ProviderError:
    assert isinstance(verdict, Retry | Refuse)
    return verdict.error


def test_every_documented_error_is_judged() -> None:
    """
    The table below covers every sample there is.
    """
    assert set(ERRORS) == {path.name for path in FIXTURES.glob("error_*.json")}
    assert len(ERRORS) == 8


@pytest.mark.parametrize("status", [200, 400, 403, 429, 500], ids=str)
@pytest.mark.parametrize("name", ERRORS)
def test_a_message_in_the_body_decides(name: str, status: int) -> None:
    """
    The message gives verdict and class, under any HTTP status; the text names provider, message and what to do.
    """
    kind, error, advice = ERRORS[name]
    body = (FIXTURES / name).read_bytes()

    verdict = verdict_of(body, status)

    assert type(verdict) is kind
    is_forbidden = status == 403 and error is errors.AuthenticationError  # of the account
    assert type(error_of(verdict)) is (errors.ForbiddenError if is_forbidden else error)
    text = str(error_of(verdict))
    assert "Talroo" in text
    assert repr(json.loads(body)["message"]) in text
    assert f"HTTP {status}" in text
    assert advice in text


def test_a_message_is_recognised_in_any_case_and_with_blanks() -> None:
    """
    Upper case and blanks around it change nothing.
    """
    verdict = verdict_of({"status": 0, "message": "  Server Is BUSY\n"})

    assert isinstance(verdict, Retry)
    assert isinstance(verdict.error, errors.ServerError)


def test_a_refused_ticket_is_tried_with_the_provider_s_clock() -> None:
    """
    Only a refused ticket is tried again with the provider's clock.
    """
    for name in ERRORS:
        verdict = verdict_of((FIXTURES / name).read_bytes())
        corrects = isinstance(verdict, Retry) and verdict.correct_clock
        assert corrects == (name == "error_unauthorized_request.json")


@pytest.mark.parametrize(
    ("date", "output"),
    [
        ("Tue, 10 Mar 2026 12:01:34 GMT", "its clock is 94 s ahead of this host's"),
        ("Tue, 10 Mar 2026 11:50:00 GMT", "its clock is 600 s behind this host's"),
        ("Tue, 10 Mar 2026 12:00:30 GMT", "the two clocks agree"),
        ("yesterday", "and this host's clock"),
    ],
    ids=["ahead", "behind", "equal", "unreadable"],
)
def test_a_refused_ticket_states_the_difference_of_the_clocks(date: str, output: str) -> None:
    """
    Whoever reads the error knows whether to look at the clock or at the secret.
    """
    body = (FIXTURES / "error_unauthorized_request.json").read_bytes()

    assert output in str(error_of(verdict_of(body, date=date)))


def test_too_many_requests_slow_the_whole_source() -> None:
    """
    The pause is the declared one, since the provider names none.
    """
    verdict = verdict_of((FIXTURES / "error_too_many_requests.json").read_bytes())

    assert isinstance(verdict, Retry)
    assert verdict.throttle
    assert verdict.wait_s is None


@pytest.mark.parametrize(
    ("message", "shown"),
    [("account closed", "account closed"), (None, "''"), ({"a": 1}, "{'a': 1}"), ("x" * 5000, "x" * 200)],
    ids=["text", "null", "object", "long"],
)
def test_an_unknown_message_is_final_and_passed_on(message: Any, shown: str) -> None:
    """
    The provider's words reach the user, within bounds.
    """
    verdict = verdict_of({"status": 0, "message": message})

    assert isinstance(verdict, Refuse)
    assert shown in str(verdict.error)
    assert len(str(verdict.error)) < 500


@pytest.mark.parametrize("status", [429, 500, 503], ids=str)
def test_an_unknown_message_leaves_a_passing_trouble_to_the_http_status(status: int) -> None:
    """
    A status that is tried again is tried again with a body, too.
    """
    verdict = verdict_of({"status": 0, "message": "maintenance"}, status)

    assert isinstance(verdict, Retry)
    assert f"HTTP {status}" in str(verdict.error)


@pytest.mark.parametrize("status", [1, "1", " 1 "], ids=repr)
def test_a_good_answer_is_accepted_in_either_spelling(status: Any) -> None:
    """
    A status of success is accepted as a number and as its digits.
    """
    assert verdict_of({"status": status, "total_clicks": 0, "clicks_report": []}) == Accept()


@pytest.mark.parametrize("name", ["get_clicks", "get_clicks_empty_list.synthetic", "get_clicks_empty_object.synthetic"])
def test_the_sample_answers_are_accepted(name: str) -> None:
    """
    The judge accepts each sample answer of the reference unchanged.
    """
    assert verdict_of((FIXTURES / f"{name}.json").read_bytes()) == Accept()


@pytest.mark.parametrize(
    "body",
    [
        {"total_clicks": 0, "clicks_report": []},
        {"status": 2, "total_clicks": 0, "clicks_report": []},
        {"status": None, "message": "?"},
        [],
        b"<html>captive portal</html>",
        b"",
        b'{"status": 1, "total_clicks": 2, "clicks_report": {"2019-05-01": [{',
    ],
    ids=["no status", "status 2", "status null", "array", "html", "nothing", "cut"],
)
def test_a_body_that_states_neither_good_nor_bad_is_broken(body: Any) -> None:
    """
    A body that states neither success nor failure is requested again; it never counts as an empty report, nor as proof
    of the credentials.
    """
    verdict = verdict_of(body)

    assert isinstance(verdict, Retry)
    assert isinstance(verdict.error, errors.BrokenBodyError)


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (b'{"status": 1, "clicks_report": []} trailing', "no JSON object"),
        (b'{"status": 1, "clicks_report": [], "x": "\xff"}', "no JSON object"),
        ({"status": 2}, "neither 1 nor 0"),
    ],
    ids=["trailing", "not UTF-8", "status 2"],
)
def test_a_broken_body_does_not_count_as_one_without_status(body: Any, output: str) -> None:
    """
    The message quotes the body's beginning, which may well be a good status.
    """
    assert output in str(error_of(verdict_of(body)))


@pytest.mark.parametrize("status", [301, 401, 404, 502], ids=str)
def test_without_a_status_in_the_body_the_http_status_counts(status: int) -> None:
    """
    A gateway's page is the gateway's.
    """
    verdict = verdict_of(b"<html>no</html>", status)

    assert isinstance(verdict, Retry | Refuse)
    assert f"HTTP {status}" in str(verdict.error)


@pytest.mark.parametrize("report", [{}, {"clicks_report": []}, {"clicks_report": {"2019-05-01": []}}], ids=str)
def test_a_zero_that_is_not_stated_is_no_zero(report: dict[str, Any]) -> None:
    """
    Good or not: without total_clicks a report is not taken.
    """
    verdict = verdict_of({"status": 1, **report})

    assert isinstance(verdict, Retry)
    assert "total_clicks" in str(verdict.error)


def test_a_check_is_judged_without_an_envelope() -> None:
    """
    The check of the credentials reads no envelope; the body's own words count all the same.
    """
    refused = judge(a_response({"status": 0, "message": "unauthorized request"}), None)

    assert isinstance(error_of(refused), errors.AuthenticationError)
    assert judge(a_response({"status": 1}), None) is None
    assert isinstance(judge(a_response(b"<html>"), None), Retry)
