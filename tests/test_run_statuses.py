"""
What a status of one answer means to the rest of a run: who fails, who goes on, what is left, and the exit code.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from penstock import (
    Connector,
    Envelope,
    Layout,
    LedgerEntry,
    OpenFor,
    Parent,
    Partition,
    ReportFile,
    Request,
    Retry,
    SandboxRequest,
    SandboxResponse,
    Skip,
    Slice,
    SourceSettings,
    Stream,
    column,
    record,
)
from penstock.errors import DeadlineReachedError, PenstockError, StoppedError
from penstock.testing import a_response, verdict_on
from penstock.testing.memory import MemorySink, MemoryTarget, MemoryWriter
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow

ACCOUNTS = ("a", "b", "c", "d", "e", "f")
FORBIDS = SandboxResponse(status=403, body=b'{"message": "account b is not yours"}')
DAYS = 3
FEW = 3  # accounts that are refused before the credentials count as refused
AHEAD = 1  # a thread requests the next slice before the answer to the one before is looked at


@record()
class Click:
    """A click."""

    click_id: str = column(default=...)


def a_shop(folder: Path, answer: Any, accounts: tuple[str, ...] = ACCOUNTS) -> ScriptedProvider:
    def requests(settings: Any, slice_: Slice) -> list[Request]:
        return [Request(url=f"{settings.base_url}/{slice_.account}", params=(("day", slice_.since.isoformat()),))]

    stream = Stream(
        name="clicks",
        summary="clicks",
        record=Click,
        kind="report",
        key="click_id",
        account="account",
        accounts=lambda settings: accounts,
        day="report_date",
        requests=requests,
        envelope=Envelope(items="data"),
    )
    return ScriptedProvider(folder=folder, streams=[stream], answer=answer)


def good(request: SandboxRequest) -> Any:
    return {"data": [{"click_id": f"{request.path}{request.params['day']}"}]}


def delivered(shop: ScriptedProvider) -> dict[str, int]:
    """Rows by account."""
    found: dict[str, int] = {}
    for row in shop.rows("clicks"):
        found[row["account"]] = found.get(row["account"], 0) + 1
    return found


def test_a_forbidden_account_fails_alone(tmp_path: Path) -> None:
    """
    A forbidden account fails with the provider's words; the others are delivered, and the account is requested once,
    not for each day.
    """
    shop = a_shop(tmp_path, lambda request: FORBIDS if request.path == "/b" else good(request))

    report = shop.run(concurrency=1)

    assert report.exit_code == 1
    assert delivered(shop) == {account: DAYS for account in ACCOUNTS if account != "b"}
    assert {error["partition"]["account"] for error in report.errors} == {"b"}
    assert {error["error"] for error in report.errors} == {"ForbiddenError"}
    assert all("account b is not yours" in error["message"] for error in report.errors)
    assert len([request for request in shop.requests if request.path == "/b"]) <= 1 + AHEAD


@pytest.mark.parametrize("accounts", [("a",), ACCOUNTS], ids=["the only one", "all of them"])
def test_credentials_that_no_account_is_answered_with_are_refused(accounts: tuple[str, ...], tmp_path: Path) -> None:
    """
    403 everywhere ends with 3, also in the ledger, after a few accounts.
    """
    shop = a_shop(tmp_path, lambda request: FORBIDS, accounts)

    report = shop.run(concurrency=1)

    assert (report.exit_code, delivered(shop)) == (3, {})
    assert [run.exit_code for run in shop.runs()] == [3]
    assert len(shop.requests) <= FEW * (1 + AHEAD)
    assert report.total("failed") == DAYS * len(accounts)


def test_an_unauthorized_request_ends_all_that_share_the_credentials(tmp_path: Path) -> None:
    """
    401 is about the credentials, with the provider's words.
    """
    refused = SandboxResponse(status=401, body=b"<html><body>The key has been revoked</body></html>")
    shop = a_shop(tmp_path, lambda request: refused if request.path == "/b" else good(request))

    report = shop.run(concurrency=1)

    assert report.exit_code == 3
    assert delivered(shop) == {"a": DAYS}
    assert "The key has been revoked" in report.errors[0]["message"]
    assert len(shop.requests) <= DAYS + 1 + AHEAD


@pytest.mark.parametrize(
    ("header", "value"),
    [("Retry-After", "36000"), ("X-RateLimit-Reset", "36000"), ("RateLimit-Reset", "36000")],
    ids=["Retry-After", "X-RateLimit-Reset", "RateLimit-Reset"],
)
def test_a_long_wait_parks_the_source(header: str, value: str, tmp_path: Path) -> None:
    """
    Days read before are delivered, nothing more is requested, nothing fails: the rest is for a later run.
    """
    throttled = SandboxResponse(status=429, headers={header: value}, body=b'{"message": "daily quota used up"}')
    shop = a_shop(tmp_path, lambda request: good(request) if len(shop.requests) <= 4 else throttled)

    report = shop.run(concurrency=1)

    assert report.exit_code == 4
    assert (report.total("delivered"), report.total("failed"), report.errors) == (4, 0, [])
    assert len(shop.requests) == 5
    (words,) = [note for note in shop.notes if "daily quota used up" in note]
    assert "2026-06-17 22:00:00 UTC" in words
    assert "requests_per_second" not in words, "a quota that is used up is no matter of the pace"
    assert {planned.reason for planned in shop.plan().partitions} == {"missing"}

    shop.answer = good
    assert shop.run().exit_code == 0
    assert delivered(shop) == dict.fromkeys(ACCOUNTS, DAYS)


def test_a_day_that_is_not_ready_is_not_delivered_empty(tmp_path: Path) -> None:
    """
    202 to a read: requested again within bounds, then the day has failed and is read by the next run.
    """
    waits = SandboxResponse(status=202, body=b'{"data": []}')
    seen: set[str] = set()

    def once(request: SandboxRequest) -> Any:
        first = request.path not in seen
        seen.add(request.path)
        return waits if first else good(request)

    shop = a_shop(tmp_path, lambda request: waits, ("a",))
    assert shop.run().exit_code == 1
    assert {planned.reason for planned in shop.plan().partitions} == {"failed"}

    shop.answer = once
    assert shop.run().exit_code == 0
    assert delivered(shop) == {"a": DAYS}


def test_no_content_is_a_day_without_records(tmp_path: Path) -> None:
    """
    204 states it: the day is delivered, empty and final.
    """
    shop = a_shop(tmp_path, lambda request: 204, ("a",))

    report = shop.run()

    assert (report.exit_code, report.total("delivered"), shop.rows("clicks")) == (0, DAYS, [])
    assert len(shop.requests) == DAYS


@pytest.mark.parametrize("times", [1, 9], ids=["once", "always"])
def test_no_content_where_there_were_rows_is_read_again(times: int, tmp_path: Path) -> None:
    """
    One 204 of a proxy does not empty a day. Twice sent, it is believed.
    """
    left = [0]

    def answer(request: SandboxRequest) -> Any:
        left[0] -= 1
        return 204 if left[0] >= 0 else good(request)

    shop = a_shop(tmp_path, answer, ("a",))
    shop.run(since="2026-06-16")
    left[0] = times
    report = shop.run(since="2026-06-16", open_for=OpenFor(9))

    assert (report.exit_code, len(shop.requests)) == (0, 2)
    assert delivered(shop) == ({"a": 1} if times == 1 else {})
    assert any("no content (204), and rows were delivered before" in note for note in shop.notes)


@pytest.mark.parametrize("decoder", [ReportFile(), Envelope(single=True)], ids=["a report file", "a detail"])
def test_no_content_is_no_file_and_no_detail(decoder: Any) -> None:
    """
    A file without records has a header, and one record is due as a detail.
    """
    stream = Stream(
        name="clicks", summary="", record=Click, kind="snapshot", key="click_id", path="/1", envelope=decoder
    )
    shop = Connector(name="shop", summary="", settings=SourceSettings)

    assert isinstance(verdict_on(a_response(b"", status=204), shop, stream), Retry)


def test_a_body_of_another_shape_is_requested_once(tmp_path: Path) -> None:
    """
    Well-formed JSON without the declared path: no attempt and no further read will change it.
    """
    shop = a_shop(tmp_path, lambda request: {"rows": []}, ("a",))

    report = shop.run()

    assert (report.exit_code, len(shop.requests)) == (1, DAYS)
    assert "the body has rows, but not an array in 'data'" in report.errors[0]["message"]
    assert date.fromisoformat(report.errors[0]["partition"]["report_date"])


@pytest.mark.parametrize(("gone", "exit_code"), [("", 0), ("ab", 0), ("abc", 1)], ids=["none", "some", "all of three"])
def test_records_that_are_all_gone_replace_nothing(gone: str, exit_code: int, tmp_path: Path) -> None:
    """
    A 404 of a detail is a record that is gone; of several requests without any answer it is a failure.
    """
    there = set("abc")
    snapshot: dict[str, Any] = {"record": Click, "kind": "snapshot", "key": "click_id", "summary": ""}
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[
            Stream(name="clicks", path="/clicks", **snapshot),
            Stream(
                name="details",
                path="/clicks/{click_id}",
                parent=Parent(stream="clicks", columns=("click_id",)),
                statuses={404: Skip("it is gone")},
                **snapshot,
            ),
        ],
        answer=lambda request: (
            [{"click_id": one} for one in "abc"]
            if request.path == "/clicks"
            else {"click_id": request.path[-1]}
            if request.path[-1] in there
            else 404
        ),
    )
    shop.run()
    there -= set(gone)

    report = shop.run()

    left = "abc" if exit_code else sorted(there)
    assert report.exit_code == exit_code
    assert [row["click_id"] for row in shop.rows("details")] == list(left)
    assert all("none of 3 requests of details found a record" in error["message"] for error in report.errors)


@define(eq=False)
class EndingSink(MemorySink):
    """A sink whose commits find that the run is to end, with ``error``."""

    error: type[PenstockError] = field(kw_only=True)

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> "EndingTarget":
        opened = super().open(source, run_id, streams)
        return EndingTarget(self, opened.ledger, self.error)


@define(eq=False)
class EndingTarget(MemoryTarget):
    error: type[PenstockError]

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> "EndingWriter":
        return EndingWriter(self, layouts, partition, error=self.error)


@define(eq=False)
class EndingWriter(MemoryWriter):
    error: type[PenstockError] = field(kw_only=True)

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        raise self.error("the run ends")


@pytest.mark.parametrize(("error", "code"), [(StoppedError, 130), (DeadlineReachedError, 4)])
def test_a_commit_that_ends_with_the_run_is_not_a_delivery(
    error: type[PenstockError], code: int, tmp_path: Path
) -> None:
    """
    Where everything was read before the run was to end, what is left is not delivered, and the exit code shows it.
    """
    shop = a_shop(tmp_path, good)
    shop.sink = EndingSink(tmp_path / "ledger.sqlite", error=error)

    report = shop.run()

    assert (report.exit_code, delivered(shop)) == (code, {})
