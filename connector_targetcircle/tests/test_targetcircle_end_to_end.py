"""
The connector against its sandbox over HTTP, into files: what lies there must be what the sandbox knows to be true.
"""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, field, frozen
from connector_run import ConfiguredSource, RunReport, check_credentials, configured, jsonl, read
from connector_targetcircle.config import TargetCircleSettings
from connector_targetcircle.sandbox import API_TOKEN, REPORT_TOKEN
from imitation_targetcircle import TargetCircle
from penstock import SandboxApp, SandboxRequest, SandboxResponse, Secret
from penstock.events import Event
from penstock.sandbox.server import Server, serve
from penstock.testing.clock import FakeClock

pytestmark = pytest.mark.slow

TODAY = date(2026, 3, 10)
SINCE, UNTIL = date(2026, 2, 25), date(2026, 3, 9)
DAYS = [SINCE + timedelta(days=number) for number in range((UNTIL - SINCE).days + 1)]
SNAPSHOTS = ("trades", "offers", "offer_details", "offer_ads", "codes")


@frozen
class World:
    """A sandbox that is served, and a directory to read it into."""

    server: Server
    app: TargetCircle
    folder: Path
    output: list[str] = field(factory=list)

    def source(self, **settings: Any) -> ConfiguredSource:
        given: dict[str, Any] = {"api_token": Secret(API_TOKEN), "currency": "EUR", "base_url": self.server.base_url}
        return configured("targetcircle", TargetCircleSettings(**(given | settings)), name="tc")

    def read(self, *streams: str, since: date = SINCE, until: date = UNTIL, **settings: Any) -> RunReport:
        source, sink = self.source(**settings), jsonl(self.folder)
        return read(source, sink, *streams, clock=a_clock(), since=since, until=until, on_event=self._keep_message)

    def _keep_message(self, event: Event) -> None:
        self.output.append(str(event.get("message", "")))

    def rows(self, stream: str, day: date | None = None) -> list[dict[str, Any]]:
        """What lies in the files of a stream, or of one of its days, without what no sandbox can know."""
        files = (self.folder / "tc" / stream).glob(f"by_report_date={day}/data.jsonl" if day else "**/data.jsonl")
        lines = [line for file in sorted(files) for line in file.read_text().splitlines()]
        found = [json.loads(line, parse_float=Decimal) for line in lines]
        return [{column: row[column] for column in row if column not in ("row_key", "_extra")} for row in found]

    def requested(self, method: str, path: str) -> list[SandboxRequest]:
        return [one for one in self.server.requests if one.method == method and one.path.startswith(path)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with serve() as server:
        app = TargetCircle(server.base_url, TODAY)
        server.app = app
        yield World(server, app, tmp_path / "out")
        assert server.errors == []


def a_clock() -> FakeClock:
    return FakeClock(datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC))


def sorted_rows(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)


def test_every_stream_is_delivered_as_the_provider_has_it(world: World) -> None:
    """
    All seven streams, two weeks of reports: the rows are the provider's, day by day, in its order.
    """
    world.app.rows_per_page = 7

    report = world.read("transactions", "clicks", *SNAPSHOTS)

    assert report.exit_code == 0, report.as_dict()
    for stream in ("transactions", "clicks"):
        assert {day: world.rows(stream, day) for day in DAYS} == {day: world.app.truth(stream, day) for day in DAYS}
    for stream in SNAPSHOTS:
        assert sorted_rows(world.rows(stream)) == sorted_rows(world.app.truth(stream))


def test_no_token_is_written(world: World) -> None:
    """
    Neither the account's token nor the one in the bodies is in any file, also after a refused run.
    """
    world.read("transactions", "clicks", *SNAPSHOTS)
    refused = world.read("clicks", api_token=Secret("a-wrong-token-0815"), since=TODAY, until=TODAY)

    assert refused.exit_code == 3
    written = b"".join(file.read_bytes() for file in world.folder.rglob("*") if file.is_file())
    output = json.dumps(refused.as_dict(), default=str).encode()
    for token in (API_TOKEN, REPORT_TOKEN, "a-wrong-token-0815"):
        assert token.encode() not in written + output


def test_restated_days_are_replaced(world: World) -> None:
    """
    A status that moved on is there after the next run, the row keys stay, and days that closed are not read again.
    """
    old = TODAY - timedelta(days=120)
    world.app.transactions_per_day = 5
    world.read("transactions", since=old, until=old)
    world.read("transactions")
    keys = {json.loads(line)["row_key"] for line in _lines(world, "transactions")}
    submitted = len(world.requested("POST", "/api/transactions"))

    for day in (DAYS[3], old):
        world.app.restate(day)
    world.read("transactions", since=old, until=old)
    nothing = len(world.requested("POST", "/api/transactions")) - submitted
    world.read("transactions")

    assert nothing == 0
    assert world.rows("transactions", DAYS[3]) == world.app.truth("transactions", DAYS[3])
    assert world.rows("transactions", old) != world.app.truth("transactions", old)
    assert {json.loads(line)["row_key"] for line in _lines(world, "transactions")} == keys
    assert len(keys) == 5 * (len(DAYS) + 1)


def _lines(world: World, stream: str) -> list[str]:
    return [
        line for file in (world.folder / "tc" / stream).rglob("data.jsonl") for line in file.read_text().splitlines()
    ]


@pytest.mark.parametrize(
    "trouble",
    [
        lambda app: app.fail_report(),
        lambda app: app.fail_next(408),
        lambda app: setattr(app, "reads_until_gone", 2),
    ],
    ids=["report fails once", "408", "report gone while paged"],
)
def test_transient_failures_change_no_row(world: World, trouble: Callable[[TargetCircle], None]) -> None:
    """
    A failed report, a time-out and a report that is forgotten while it is paged change no row.
    """
    world.app.rows_per_page, world.app.clicks_per_day = 10, 25
    trouble(world.app)
    if world.app.reads_until_gone:
        world.server.app = _forgetting_once(world.app)

    report = world.read("clicks", since=UNTIL, until=UNTIL)

    assert report.exit_code == 0, report.as_dict()
    assert world.rows("clicks", UNTIL) == world.app.truth("clicks", UNTIL)


def _forgetting_once(app: TargetCircle) -> SandboxApp:
    """The first report is forgotten, those after it are kept."""

    def answer(request: SandboxRequest) -> SandboxResponse:
        response = app(request)
        if response.status == 202:
            app.reads_until_gone = None
        return response

    return answer


@pytest.mark.parametrize(
    ("state", "pages"), [("IN_PROGRESS", 0), ("FAILED", 0), ("READY", 3)], ids=["in progress", "failed", "empty"]
)
def test_a_page_without_its_rows_is_not_taken(world: World, state: str, pages: int) -> None:
    """
    A page in the middle of a listing that states that the report is not ready, or that is empty, is not taken for the
    page.
    """
    world.app.rows_per_page, world.app.clicks_per_day = 10, 25
    times = {"left": 1}

    def answer(request: SandboxRequest) -> SandboxResponse:
        if request.query == "page=2" and times["left"]:
            times["left"] -= 1
            body = {"data": [], "token": REPORT_TOKEN, "status": state, "pagesNumber": pages}
            return SandboxResponse(body=json.dumps(body).encode())
        return world.app(request)

    world.server.app = answer
    report = world.read("clicks", since=UNTIL, until=UNTIL)

    assert times["left"] == 0
    assert report.exit_code == 0, report.as_dict()
    assert world.rows("clicks", UNTIL) == world.app.truth("clicks", UNTIL)


@pytest.mark.parametrize("members", [{"pagesNumber": 0}, {"errors": ["shard 3"]}, {"error": "lost"}], ids=str)
def test_a_ready_report_that_contradicts_itself_is_not_delivered(world: World, members: dict[str, Any]) -> None:
    """
    One without pages that has rows, and one that states an error beside them: others could be missing.
    """

    def answer(request: SandboxRequest) -> SandboxResponse:
        response = world.app(request)
        body = json.loads(response.body) if response.body else None
        ready = isinstance(body, dict) and body.get("status") == "READY"
        return evolve(response, body=json.dumps({**body, **members}).encode()) if ready else response

    world.server.app = answer
    report = world.read("clicks", since=UNTIL, until=UNTIL)

    assert report.exit_code == 1
    assert "Rows could be missing" in report.errors[0]["message"]
    assert not world.rows("clicks", UNTIL)


def test_the_edges_of_a_period_arrive_once(world: World) -> None:
    """
    The first and the last second of each day, and of each half of a day, are there, and nothing is there twice; no
    request names a moment of a day that it is not about.
    """
    world.app.limit_is_total, world.app.clicks_per_day = True, 1200

    report = world.read("transactions", "clicks", since=UNTIL - timedelta(days=1), until=UNTIL)

    assert report.exit_code == 0, report.as_dict()
    for stream in ("transactions", "clicks"):
        for day in (UNTIL - timedelta(days=1), UNTIL):
            assert world.rows(stream, day) == world.app.truth(stream, day)
    counted = report.as_dict()["sources"]["tc"]["streams"]["clicks"]
    assert (counted["rejected"], counted["repeated"]) == (0, 0)
    requested = [json.loads(one.body) for one in world.requested("POST", "/api/clicks")]
    assert len(requested) > 2
    assert all(one["from"][:10] == one["to"][:10] for one in requested)


@pytest.mark.parametrize("rows_per_page", [None, 50], ids=["one page", "many pages"])
def test_full_report_is_read_in_halves(world: World, rows_per_page: int | None) -> None:
    """
    Where ``limit`` cuts the whole report, a day with more rows than that arrives all the same.
    """
    world.app.limit_is_total, world.app.rows_per_page, world.app.clicks_per_day = True, rows_per_page, 2500

    report = world.read("clicks", since=UNTIL, until=UNTIL)

    assert report.exit_code == 0, report.as_dict()
    assert world.rows("clicks", UNTIL) == world.app.truth("clicks", UNTIL)
    assert len(world.requested("POST", "/api/clicks")) > 3


def test_a_provider_that_goes_by_whole_days(world: World) -> None:
    """
    A full report of some days is read day by day; where a part of a day brings the whole of it, a full day is taken
    once, as it is, and counts as truncated.
    """
    world.app.whole_days, world.app.clicks_per_day, world.app.transactions_per_day = True, 1000, 500

    clicks = world.read("clicks", since=UNTIL, until=UNTIL)
    transactions = world.read("transactions", since=UNTIL - timedelta(days=1), until=UNTIL)

    assert (clicks.exit_code, transactions.exit_code) == (1, 0), transactions.as_dict()
    assert world.rows("clicks", UNTIL) == world.app.truth("clicks", UNTIL)
    for day in (UNTIL - timedelta(days=1), UNTIL):
        assert world.rows("transactions", day) == world.app.truth("transactions", day)
    assert [len(world.requested("POST", f"/api/{name}")) for name in ("clicks", "transactions")] == [2, 3]


def test_offers_at_the_ceiling_are_truncated(world: World) -> None:
    """
    Exactly 1000 offers are delivered, and count as failed, since there may be more.
    """
    world.app.offer_count = 600

    report = world.read("offers")

    assert len(world.rows("offers")) == 1000
    assert report.exit_code == 1


def test_an_account_of_another_api_generation_is_named(world: World) -> None:
    """
    An account on the other generation of the API gets 404s; the message states what that means.
    """
    report = world.read("trades", path_prefix="/api/v1")

    assert report.exit_code == 1
    assert "path_prefix" in json.dumps(report.as_dict(), default=str)


def test_an_offer_that_is_gone_is_passed_over(world: World) -> None:
    """
    A trade's offer without a page leaves no row and no failure; a note names it.
    """
    report = world.read("offer_details")

    assert report.exit_code == 0
    assert len(world.requested("GET", "/api/offers/")) == 6
    assert len(world.rows("offer_details")) == 5
    (gone,) = (text for text in world.output if "no offer of this slug" in text)
    assert re.search(r"/api/offers/\w+\)$", gone)


def test_check_makes_no_report(world: World) -> None:
    """
    The check reads one offer and submits nothing; a wrong token is refused by name.
    """
    assert "credentials work" in check_credentials(world.source(), a_clock())
    assert [(one.method, one.target) for one in world.server.requests] == [("GET", "/api/offers?limit=1")]
