"""
Members that nothing reads: one that leads to further records is noted, one in place of a missing one is named.
"""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from penstock import Envelope, ReportFile, SandboxRequest, SandboxResponse, Stream, graphql_judge, named, record
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow


@record()
class Sale:
    id: str
    transaction_state: str | None = None
    amount: Decimal | None = None


def a_shop(folder: Path, answer: Any, **stream: Any) -> ScriptedProvider:
    given: dict[str, Any] = {
        "path": "/sales",
        "kind": "snapshot",
        "key": "id",
        "envelope": Envelope(items="data"),
        **stream,
    }
    serve = answer if callable(answer) else lambda request: answer
    return ScriptedProvider(
        folder=folder, streams=[Stream(name="sales", summary="", record=Sale, **given)], answer=serve
    )


ONE = [{"id": "1"}]
GRAPHQL = "the last page has data.sales.pageInfo.hasNextPage, data.sales.pageInfo.endCursor, which nothing reads"


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ({"next": "/sales?page=2"}, "the last page has next, which nothing reads"),
        ({"meta": {"next_cursor": "x"}}, "the last page has meta.next_cursor, which nothing reads"),
        ({"hasMore": True}, "the last page has hasMore, which nothing reads"),
        ({"total": 7}, "the answer states total 7, 1 records came, and nothing reads it"),
        ({"errors": [{"message": "no"}]}, "the answer has errors beside the records, which nothing reads"),
        ({"data": {"sales": {"nodes": ONE, "pageInfo": {"hasNextPage": True, "endCursor": "x"}}}}, GRAPHQL),
        ({"data": {"sales": {"nodes": ONE, "totalCount": 7}}}, "the answer states data.sales.totalCount 7, 1 records"),
        ({"data": {"sales": {"nodes": ONE, "pageInfo": {"hasNextPage": False, "endCursor": "x"}}}}, None),
        ({"next": None, "hasMore": False, "total": 1, "errors": []}, None),
        ({"page": 1, "note": "next"}, None),
    ],
)
def test_unread_members_that_may_lead_to_further_records_are_noted_once(
    body: dict[str, Any], note: str | None, tmp_path: Path
) -> None:
    """
    Unread members that may lead to further records are noted once, with what to declare; the run ends as it did.
    """
    at = "data" if "data" not in body else "data.sales.nodes"
    shop = a_shop(tmp_path, {"data": ONE, **body}, kind="snapshot", envelope=Envelope(items=at))

    report: Any = shop.run()

    assert report.exit_code == 0
    noted = [text for text in shop.notes if "nothing reads" in text]
    assert [text.startswith(f"sales: {note}") for text in noted] == ([] if note is None else [True])


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ({"meta": {"total": 1}}, "; there is meta.total. Correct the path"),
        ({}, ". Correct the path"),
        ({"data": []}, None),
        ({"count": 1}, None),
    ],
)
def test_a_total_that_the_answer_does_not_state_is_noted(body: Any, note: str | None, tmp_path: Path) -> None:
    """
    A misspelt path would take the check of the counts away in silence. Without records there is nothing to check.
    """
    shop = a_shop(tmp_path, {"data": ONE, **body}, envelope=Envelope(items="data", total="count"))

    assert shop.run().exit_code == 0
    start = (
        "sales: the envelope names total='count', which is not in the answer, so the number of records was not checked"
    )
    assert shop.notes == ([] if note is None else [start + note])


def test_an_array_in_place_of_the_envelope_states_no_total(tmp_path: Path) -> None:
    """
    Where the envelope accepts it, nothing is to be corrected.
    """
    shop = a_shop(tmp_path, ONE, envelope=Envelope(items=("data", ""), total="count"))

    assert shop.run().exit_code == 0
    assert shop.notes == []


@pytest.mark.parametrize(
    "stream",
    [
        {"envelope": Envelope(items="data", head="next")},
        {"envelope": Envelope(items="data", head="next"), "paginator": named("cursor", member="next")},
    ],
    ids=["in the envelope", "by the paginator"],
)
def test_members_that_are_read_are_not_noted(stream: dict[str, Any], tmp_path: Path) -> None:
    """
    A member that the envelope or the paginator reads is not noted, whether it names a next page or not.
    """

    def answer(request: SandboxRequest) -> Any:
        return {
            "data": [{"id": request.params.get("cursor", "1")}],
            "next": None if "cursor" in request.params else "2",
        }

    shop = a_shop(tmp_path, answer, **stream)

    assert shop.run().exit_code == 0
    assert shop.notes == []


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        ({"Id": "1"}, "the member 'id' is missing; there is Id"),
        ({"uid": "1", "a": 1, "b": 2, "c": 3}, "the member 'id' is missing; there is uid"),
        ({"a": 1, "b": 2}, "the member 'id' is missing; there is a, b"),
        ({"a": 1, "b": 2, "c": 3, "e": 4}, "the member 'id' is missing"),
        ({"amount": "1"}, "the member 'id' is missing"),
    ],
)
def test_a_missing_member_names_the_nearest_unread_one(element: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """
    A provider that renamed it, or one that writes it otherwise, is understood from the message.
    """
    report: Any = a_shop(tmp_path, {"data": [element]}).run()

    assert f"rejected, the first because $.data[0].id: {reason}. Nothing" in report.errors[0]["message"]


# --- GraphQL ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "error", "requests"),
    [
        ([{"message": "field x is unknown"}], "RefusedError", 1),
        ([{"message": "slow down", "extensions": {"code": "THROTTLED"}}, {"message": "b"}], "ThrottledError", 2),
        ([{"message": "oops", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}], "ServerError", 2),
        ([{"message": "who?", "extensions": {"code": "UNAUTHENTICATED"}}], "AuthenticationError", 1),
        ([], None, 1),
        (None, None, 1),
    ],
)
def test_graphql_errors_beside_data_fail(errors: Any, error: str | None, requests: int, tmp_path: Path) -> None:
    """
    A part of the records may be missing: nothing is delivered.
    """
    shop = a_shop(tmp_path, {"data": ONE, "errors": errors}, judge=graphql_judge)

    report: Any = shop.run(throttle_wait_s=0)

    assert [one["error"] for one in report.errors] == ([] if error is None else [error])
    assert len(shop.rows("sales")) == (1 if error is None else 0)
    assert len(shop.requests) == requests
    assert error is None or errors[0]["message"] in report.errors[0]["message"]


def test_a_graphql_error_without_a_code_leaves_the_decision_to_the_status(tmp_path: Path) -> None:
    """
    Shopify refuses a token with HTTP 401 and ``{"errors": "..."}``, so that the run ends with 3.
    """
    refused = SandboxResponse(status=401, body=b'{"errors": "[API] Invalid API key or access token"}')
    shop = a_shop(tmp_path, refused, judge=graphql_judge)

    report: Any = shop.run()

    assert report.exit_code == 3
    assert "Invalid API key" in report.errors[0]["message"]


# --- listings that do not end -----------------------------------------------------------------------------------------


def test_empty_pages_with_ever_new_cursors_end_at_a_bound(tmp_path: Path) -> None:
    """
    A hundred in a row fail the listing. Some of them, before further records, are passed over.
    """
    stream = {"envelope": Envelope(items="data", head="next"), "paginator": named("cursor", member="next")}
    some = a_shop(tmp_path / "some", lambda request: a_page(request, last=40), **stream)
    endless = a_shop(tmp_path / "endless", lambda request: a_page(request, last=10**6), **stream)

    found: Any = some.run()
    failed: Any = endless.run()

    assert (found.exit_code, len(some.rows("sales"))) == (0, 2)
    assert failed.errors[0]["error"] == "BoundExceededError"
    assert "100 pages in a row are empty, up to page 101" in failed.errors[0]["message"]
    assert len(endless.requests) == 101


def a_page(request: SandboxRequest, last: int) -> dict[str, Any]:
    """Records on the first page and the last one. The cursor is the page's number in letters: it is not counted up."""
    page = int("".join(str("abcdefghij".index(letter)) for letter in request.params.get("cursor", "a")))
    following = "".join("abcdefghij"[int(digit)] for digit in str(page + 1))
    return {"data": [{"id": str(page)}] if page in (0, last) else [], "next": None if page == last else following}


@pytest.mark.parametrize(
    ("body", "exit_code"),
    [
        ({"error": "the cursor has expired"}, 1),
        ({"errors": [{"code": "E17"}]}, 1),
        ({"error": {"code": 17, "message": "no"}}, 1),
        ({"success": False}, 1),
        ({"status": "FAILED"}, 1),
        ({"error": None, "errors": [], "success": True, "status": "ok"}, 0),
        ({"error": "", "errors": {"count": 0}, "status": 200}, 0),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("page", [1, 2], ids=["the only page", "a later page"])
def test_no_records_beside_a_failure_are_no_records(
    body: dict[str, Any], exit_code: int, page: int, tmp_path: Path
) -> None:
    """
    An empty list in an answer that states a failure ends no listing, and replaces nothing.
    """

    def answer(request: SandboxRequest) -> Any:
        return {"data": [], **body} if request.params["page"] == str(page) else {"data": ONE}

    shop = a_shop(tmp_path, answer, paginator=named("page_number"))

    report = shop.run()

    assert report.exit_code == exit_code
    assert shop.rows("sales") == [] or page == 2
    if exit_code:
        assert shop.rows("sales") == []
        assert f"and no records, and states {next(iter(body))} " in report.errors[0]["message"]


@pytest.mark.parametrize(
    ("body", "exit_code"),
    [({"error": "shard 3 is down"}, 1), ({"success": False}, 1), ({"errors": [{"code": 1}]}, 0), ({"error": None}, 0)],
    ids=str,
)
def test_records_beside_a_failure_are_not_delivered(body: dict[str, Any], exit_code: int, tmp_path: Path) -> None:
    """
    Some may be missing. ``errors`` beside the records of a listing are noted only: each may be of another record.
    """
    shop = a_shop(tmp_path, {"data": ONE, **body})

    report = shop.run()

    assert report.exit_code == exit_code
    assert len(shop.rows("sales")) == 1 - exit_code
    if exit_code:
        assert f"and records, and states {next(iter(body))} " in report.errors[0]["message"]


@pytest.mark.parametrize("paged", [False, True], ids=["one page", "pages"])
@pytest.mark.parametrize("stated", [False, True], ids=["no total", "a total"])
def test_a_listing_without_records_is_read_again_where_there_were_rows(
    paged: bool, stated: bool, tmp_path: Path
) -> None:
    """
    An answer that is empty once replaces nothing, unless the provider states that there are none. Twice, it is
    believed.
    """
    empty = {"left": 0}

    def answer(request: SandboxRequest) -> Any:
        if empty["left"]:
            empty["left"] -= 1
            return {"data": [], **({"total": 0} if stated else {})}
        page = request.params.get("page", "1")
        return {"data": ONE if page == "1" else [], **({"total": 1} if stated else {})}

    envelope = Envelope(items="data", total="total" if stated else ())
    shop = a_shop(tmp_path, answer, envelope=envelope, **({"paginator": named("page_number")} if paged else {}))
    assert shop.run().exit_code == 0

    empty["left"] = 1
    assert shop.run().exit_code == 0
    assert len(shop.rows("sales")) == (0 if stated else 1)
    seen = "no records, and rows were delivered before. Only a second empty reading replaces them; reading it again"
    assert any(seen in note for note in shop.notes) != stated

    empty["left"] = 9
    assert shop.run().exit_code == 0
    assert shop.rows("sales") == []


@pytest.mark.parametrize("body", [{"errors": [{"code": 1}]}, {"error": "lost"}, {"rows": ONE, "data": []}], ids=str)
def test_a_report_file_beside_a_failure_is_no_report(body: dict[str, Any], tmp_path: Path) -> None:
    """
    A report file that states a failure is no report, and neither is one with records in two of the members that a
    report may have.
    """
    shop = a_shop(tmp_path, {"data": ONE, **body}, envelope=ReportFile())

    assert shop.run().exit_code == 1
    assert shop.rows("sales") == []


def test_a_failure_that_the_connector_reads_is_left_to_it(tmp_path: Path) -> None:
    """
    Where the envelope names the member, a judge decides.
    """
    envelope = Envelope(items="data", head=("error",))
    shop = a_shop(tmp_path, {"data": [], "error": "nothing today"}, envelope=envelope)

    assert shop.run().exit_code == 0
