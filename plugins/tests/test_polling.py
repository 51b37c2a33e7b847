"""
The generic poller: where the id, the state and the rows of a report are, by paths and words.
"""

from typing import Any

import pytest
from penstock import BrokenBodyError, Empty, Gone, Ready, ReportError, Request, Waiting
from penstock.testing import a_response
from penstock_plugins.polling import Polled

SUBMITTED = Request(method="POST", url="https://api.example/v1/reports", params=(("day", "1"),))


def test_the_id_is_where_the_provider_writes_it() -> None:
    """
    The id of a report is in a member, or in the Location header, whose link is then polled.
    """
    assert Polled(id_at="report.id").handle(a_response({"report": {"id": 17}})) == "17"
    assert (
        Polled(id_at=None).handle(a_response(b"", status=202, headers=(("location", "/v1/tasks/9"),))) == "/v1/tasks/9"
    )

    assert Polled().poll(SUBMITTED, "a/b").full_url == "https://api.example/v1/reports/a%2Fb"
    assert Polled(state_url="/v1/jobs?id={id}").poll(SUBMITTED, "17").params == (("id", "17"),)
    assert Polled(id_at=None).poll(SUBMITTED, "/v1/tasks/9").full_url == "https://api.example/v1/tasks/9"


@pytest.mark.parametrize(
    ("answer", "options", "error"),
    [
        pytest.param({}, {}, ReportError, id="no id"),
        pytest.param({"id": None}, {}, ReportError, id="null"),
        pytest.param({"id": {"a": 1}}, {}, ReportError, id="no text"),
        pytest.param([1], {}, BrokenBodyError, id="another kind of answer"),
        pytest.param(b"<html>", {}, BrokenBodyError, id="a login page"),
        pytest.param({}, {"id_at": None}, BrokenBodyError, id="no header"),
    ],
)
def test_a_submission_without_an_id_is_an_error(answer: Any, options: dict[str, Any], error: type[Exception]) -> None:
    """
    A submission without an id is sent again only where the answer is of another kind, so that the next one may be
    better.
    """
    with pytest.raises(error, match=r"its response has no (id|Location header) that names it"):
        Polled(**options).handle(a_response(answer))


@pytest.mark.parametrize(
    ("options", "answer", "state"),
    [
        pytest.param({}, {"status": "RUNNING"}, Waiting(), id="in progress"),
        pytest.param({}, {"status": "Sharding"}, Waiting("Sharding"), id="a word that is not known"),
        pytest.param({}, {"status": "Done"}, Ready(), id="rows in the answer"),
        pytest.param({"ready": "true"}, {"status": True}, Ready(), id="a flag"),
        pytest.param({"state_at": None}, {"rows": []}, Ready(), id="no state"),
        pytest.param({"state_at": "job.phase", "ready": "ok"}, {"job": {"phase": "ok"}}, Ready(), id="nested"),
        pytest.param({"empty": "no_data"}, {"status": "NO_DATA"}, Empty(), id="no records"),
        pytest.param({}, {"status": "FAILED"}, Gone("the provider states 'FAILED'"), id="failed"),
        pytest.param(
            {"reason_at": "why"},
            {"status": "failed", "why": "too old"},
            Gone("the provider states 'failed': too old"),
            id="failed, with a reason",
        ),
        pytest.param(
            {"download_at": "url"},
            {"status": "done", "url": "https://files.example/a.csv?sig=b%2Fc"},
            Ready(downloads=(Request(url="https://files.example/a.csv?sig=b%2Fc"),)),
            id="a file",
        ),
        pytest.param(
            {"download_at": "urls"},
            {"status": "done", "urls": ["https://f.example/1", "https://f.example/2"]},
            Ready(downloads=(Request(url="https://f.example/1"), Request(url="https://f.example/2"))),
            id="files",
        ),
        pytest.param(
            {"rows_at": "href"},
            {"status": "done", "href": "/v1/rows?of=17"},
            Ready(pages=(Request(url="/v1/rows", params=(("of", "17"),)),)),
            id="a link to rows",
        ),
        pytest.param(
            {"rows_url": "/v1/results/{result.id}"},
            {"status": "done", "result": {"id": "a/1"}},
            Ready(pages=(Request(url="/v1/results/a%2F1"),)),
            id="a template",
        ),
        pytest.param(
            {"rows_url": "/v1/results/{id}?size=100"},
            {"status": "done", "id": 17},
            Ready(pages=(Request(url="/v1/results/17", params=(("size", "100"),)),)),
            id="a template with a query",
        ),
    ],
)
def test_the_state_is_read_by_its_words(options: dict[str, Any], answer: Any, state: Any) -> None:
    """
    The words of a state are compared without case; an unknown word is still in progress, and is logged.
    """
    assert Polled(**options).state(a_response(answer), 1.0) == state


@pytest.mark.parametrize(
    ("options", "answer", "problem"),
    [
        ({}, {"state": "done"}, "no state at status"),
        ({}, [1], "no state at status"),
        ({"download_at": "url"}, {"status": "done"}, "url names no link"),
        ({"rows_url": "/r/{key}"}, {"status": "done"}, "its state has no key for its URL"),
    ],
)
def test_an_answer_that_is_not_as_declared_is_broken(options: dict[str, Any], answer: Any, problem: str) -> None:
    """
    An answer that is not as declared is requested again, and then fails the partition with what was seen.
    """
    with pytest.raises(BrokenBodyError, match=problem):
        Polled(**options).state(a_response(answer), 1.0)


@pytest.mark.parametrize("status", [404, 410])
def test_a_report_that_is_unknown_is_gone(status: int) -> None:
    """
    An unknown report is submitted again, once.
    """
    assert isinstance(Polled().state(a_response({}, status=status), 1.0), Gone)
    assert Polled().expired(a_response({}, status=status))


@pytest.mark.parametrize("status", [401, 403])
def test_a_download_that_is_refused_has_an_expired_link(status: int) -> None:
    """
    The report is polled for a fresh link. The refusal of rows at the provider is one of the credentials.
    """
    assert Polled(download_at="url").expired(a_response({}, status=status))
    assert not Polled(rows_at="href").expired(a_response({}, status=status))
