"""
Reports that a provider makes on demand: wherever their rows lie, all pages of them arrive.
"""

import itertools
import json
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import connector_run
import penstock_plugins
import pytest
from attrs import define, evolve, field, frozen
from connector_run import RunReport, configured
from penstock import (
    Connector,
    Envelope,
    Grant,
    OpenFor,
    Ready,
    ReportState,
    Request,
    Response,
    SandboxRequest,
    SandboxResponse,
    SourceSettings,
    Stream,
    Unsigned,
    Waiting,
    added,
    hookimpl,
    named,
    record,
)
from penstock.ledger import SqliteLedger
from penstock.sandbox.server import serve
from penstock.testing import FakeClock
from penstock.testing.memory import MemorySink
from penstock_plugins.polling import Polled
from providers import then
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow

ROWS = [{"id": number} for number in range(1, 6)]


@record()
class Sale:
    """A sale."""

    id: int


@record()
class DailySale:
    """A sale of a day."""

    day: date = added(description="the day of the sale")
    id: int


@frozen(kw_only=True)
class ShopSettings(SourceSettings):
    base_url: str


class Keyed(Unsigned):
    """Signs with a header that the imitation insists on, and that no download may carry."""

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        return request.with_headers(("X-Key", "sesame"))


@frozen
class Orders:
    """A poller whose report is ready at once; ``place``: where its rows are."""

    place: Callable[[str], Ready]

    def handle(self, response: Response) -> str:
        return str((response.members() or {})["at"])

    def poll(self, submitted: Request, handle: str) -> Request:
        return Request(url=handle)

    def state(self, response: Response, age_s: float) -> Ready:
        return self.place(str((response.members() or {})["rows"]))

    def expired(self, response: Response) -> bool:
        return False


def read(folder: Path, place: Callable[[str], Ready]) -> tuple[RunReport, list[Any], list[SandboxRequest]]:
    """Read the one report of a shop whose rows come two a page, and state no total."""

    class Shop:
        @hookimpl
        def penstock_sources(self) -> Iterable[Connector]:
            return [
                Connector(name="shop", summary="a shop", settings=ShopSettings, authenticator=lambda settings: Keyed())
            ]

        @hookimpl
        def penstock_record_streams(self, source: str) -> Iterable[Stream]:
            yield Stream(
                name="sales",
                summary="sales",
                record=Sale,
                kind="snapshot",
                key="id",
                requests=lambda settings, slice_: [
                    Request(method="POST", url=f"{settings.base_url}/orders", body=b"{}")
                ],
                envelope=Envelope(items="data"),
                paginator=named("page_number", size=2, short_page_ends=True),
                poller=lambda settings: Orders(place),
                poll_first_s=0.01,
            )

    requested: list[SandboxRequest] = []

    def app(request: SandboxRequest) -> SandboxResponse:
        requested.append(request)
        base = f"http://{request.headers['host']}"
        if request.path == "/orders":
            output: Any = {"at": f"{base}/orders/1"}
        elif request.path == "/orders/1":
            output = {"rows": f"{base}/orders/1/rows"}
        else:
            page = int(request.target.rpartition("page=")[2])
            output = {"data": ROWS[2 * page - 2 : 2 * page]}
        return SandboxResponse(body=json.dumps(output).encode())

    sink = MemorySink(folder / "ledger.sqlite")
    with serve(app) as server:
        settings = ShopSettings(base_url=server.base_url, retries=0)
        source = configured("shop", settings, plugins=[Shop(), penstock_plugins])
        report = connector_run.read(source, sink, "sales", clock=then())
    return report, [row for rows in sink.rows.get("sales", {}).values() for row in rows], requested


@pytest.mark.parametrize(
    ("place", "signed"),
    [
        (lambda url: Ready(pages=(Request(url=url),)), True),
        (lambda url: Ready(downloads=(Request(url=url),)), False),
    ],
    ids=["pages at the provider", "downloads"],
)
def test_every_page_of_a_report_arrives(place: Callable[[str], Ready], signed: bool, tmp_path: Path) -> None:
    """
    The rows of a report come in pages, at the provider or at a link that it gave: each is read to its end, and
    credentials go along to the provider's own pages only.
    """
    report, rows, requested = read(tmp_path, place)

    assert report.exit_code == 0, report.errors[0]["message"]
    assert sorted(row["id"] for row in rows) == [1, 2, 3, 4, 5]
    pages = [request for request in requested if "/rows" in request.path]
    assert len(pages) == 3
    assert {"x-key" in request.headers for request in pages} == {signed}


def test_two_files_of_the_same_contents_fail_a_report(tmp_path: Path) -> None:
    """
    Their records may count once or twice, and a run that guesses would invoice them wrongly.
    """
    report, rows, _ = read(tmp_path, lambda url: Ready(downloads=(Request(url=url), Request(url=f"{url}-again"))))

    assert report.exit_code == 1
    assert "two files of the report have the same contents" in report.errors[0]["message"]
    assert rows == []


@frozen
class Slow:
    """A poller whose report is ready when the answer to the poll holds rows."""

    def handle(self, response: Response) -> str:
        return str((response.members() or {})["id"])

    def poll(self, submitted: Request, handle: str) -> Request:
        return Request(url=f"{submitted.url}/{handle}")

    def state(self, response: Response, age_s: float) -> ReportState:
        return Ready() if "data" in (response.members() or {}) else Waiting()

    def expired(self, response: Response) -> bool:
        return False


def slow_sales(poller: Any = None, **more: Any) -> Stream:
    """A snapshot by a report on demand, which is at ``/orders/ID``."""
    return Stream(
        name="sales",
        record=Sale,
        kind="snapshot",
        key="id",
        path="/orders",
        json={},
        envelope=Envelope(items="data"),
        poller=poller or Slow(),
        **more,
    )


@pytest.mark.parametrize(("ready", "submitted"), [(True, 1), (False, 2)], ids=["ready by then", "still not ready"])
def test_a_report_past_its_deadline_is_polled_once_more_by_the_next_run(
    ready: bool, submitted: int, tmp_path: Path
) -> None:
    """
    A report that was not ready in time fails its partition. The next run polls it before it submits another.
    """
    made: list[str] = []
    done: set[str] = set()

    def answer(request: SandboxRequest) -> Any:
        if request.method == "POST":
            made.append(f"r{len(made) + 1}")
            return {"id": made[-1]}
        return {"data": ROWS} if request.path.rpartition("/")[2] in done else {}

    stream = slow_sales(poll_first_s=1.0)
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=answer)
    first = shop.run(poll_deadline_s=5)

    assert (first.exit_code, made) == (1, ["r1"])
    assert "The next run polls it once more" in first.errors[0]["message"]

    done.update(["r1"] if ready else ["r2"])
    shop.now += timedelta(hours=2)
    second = shop.run(poll_deadline_s=5)

    assert (second.exit_code, len(made), len(shop.rows("sales"))) == (0, submitted, 5)
    target = shop.sink.open_readonly("shop")
    assert target is not None
    assert target.ledger.pending("shop", "sales") == ()
    target.close()


class SeenStop(threading.Event):
    """A stop of a run in this thread, which knows whether the run has seen it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen_by_the_run = threading.Event()
        self._thread = threading.current_thread()

    def is_set(self) -> bool:
        stopped = super().is_set()
        if stopped and threading.current_thread() is self._thread:
            self.seen_by_the_run.set()
        return stopped


def test_submissions_under_way_at_the_end_are_adopted(tmp_path: Path) -> None:
    """
    Ctrl-C comes while submissions have no answer yet. Their answers are waited for: the next run submits none again.
    """
    made: list[bytes] = []
    interrupts = True
    stop = SeenStop()

    def answer(request: SandboxRequest) -> Any:
        if request.method == "GET":
            return {"data": ROWS}
        made.append(request.body)
        if interrupts:
            stop.set()
            assert stop.seen_by_the_run.wait(60)
        return {"id": json.loads(request.body)["day"]}

    stream = Stream(
        name="sales",
        summary="sales",
        record=DailySale,
        kind="report",
        key="id",
        day="day",
        requests=lambda settings, slice_: Request.json(
            "POST", f"{settings.base_url}/orders", {"day": slice_.since.isoformat()}
        ),
        envelope=Envelope(items="data"),
        poller=Slow(),
    )
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=answer, stop=stop)
    first = shop.run()

    assert (first.exit_code, shop.rows("sales")) == (130, [])
    assert made

    interrupts, shop.stop = False, threading.Event()
    second = shop.run()

    assert (second.exit_code, len(shop.rows("sales"))) == (0, 15)
    assert len(made) == len(set(made)) == 3


@record()
class DatedSale:
    """A sale, with its own date."""

    day: date = added(description="the day of the sale")
    sold: date
    id: int
    price: int


def dated_sales() -> Stream:
    """Reports of three days, which stay open."""
    return Stream(
        name="sales",
        summary="sales",
        record=DatedSale,
        kind="report",
        key="id",
        day="day",
        day_of="sold",
        days_per_request=3,
        open_for=OpenFor(30),
        requests=lambda settings, slice_: Request.json(
            "POST", f"{settings.base_url}/orders", {"days": [day.isoformat() for day in slice_.days]}
        ),
        envelope=Envelope(items="data"),
        poller=Slow(),
    )


@define
class Priced:
    """Answers with reports of one sale a day, whose price is that of the moment of the submission."""

    price: int = 1
    made: list[Any] = field(factory=list)
    on_submission: Callable[[], None] = lambda: None

    def __call__(self, request: SandboxRequest) -> Any:
        if request.method == "GET":
            return {"data": self.made[int(request.path.rpartition("/")[2])]}
        days = json.loads(request.body)["days"]
        self.made.append([{"sold": day, "id": 1, "price": self.price} for day in days])
        self.on_submission()
        return {"id": len(self.made) - 1}


def test_a_report_of_an_earlier_run_does_not_replace_newer_rows(tmp_path: Path) -> None:
    """
    A run is interrupted while its report of three days is made, another one delivers two of these days, and then the
    first command is repeated: the provider restated the days meanwhile, and the first report is not read any more.
    """
    provider = Priced()
    shop = ScriptedProvider(folder=tmp_path, streams=[dated_sales()], answer=provider)
    provider.on_submission = shop.stop.set
    assert (shop.run().exit_code, len(provider.made)) == (130, 1)

    provider.price, provider.on_submission, shop.stop = 2, lambda: None, threading.Event()
    shop.now += timedelta(minutes=1)
    assert shop.run(since="2026-06-15").exit_code == 0

    shop.now += timedelta(minutes=1)
    assert shop.run().exit_code == 0
    assert [row["price"] for row in shop.rows("sales")] == [2, 2, 2]
    assert len(provider.made) == 3


def test_a_day_that_closes_while_its_report_is_submitted_stays_open(tmp_path: Path) -> None:
    """
    The response to a submission takes ten seconds, and the provider restates the day meanwhile, before it closes. The
    report may have the rows of the first of these seconds: the next run reads the day again.
    """
    provider = Priced()
    stream = evolve(dated_sales(), open_for=OpenFor(0))
    shop = ScriptedProvider(
        folder=tmp_path, streams=[stream], answer=provider, now=datetime(2026, 6, 16, 23, 59, 55, tzinfo=UTC)
    )
    provider.on_submission = lambda: shop.clock.advance(10)
    assert shop.run(since="2026-06-16").exit_code == 0

    provider.price, provider.on_submission = 2, lambda: None
    shop.now += timedelta(hours=1)
    assert shop.run(since="2026-06-16").exit_code == 0
    assert [row["price"] for row in shop.rows("sales")] == [2]
    assert shop.plan(since="2026-06-16").partitions == ()


@pytest.mark.parametrize(
    ("full", "price", "notes"), [(False, 1, 1), (True, 2, 0)], ids=["open days only", "final days too"]
)
def test_a_full_run_adopts_no_report(full: bool, price: int, notes: int, tmp_path: Path) -> None:
    """
    The day after a run was interrupted while its report was made, the provider has restated the days. The next run
    adopts the report, and notes of when its rows are. A full run, which is to read what was restated, submits it anew.
    """
    provider = Priced()
    shop = ScriptedProvider(folder=tmp_path, streams=[dated_sales()], answer=provider)
    provider.on_submission = shop.stop.set
    assert shop.run().exit_code == 130

    provider.price, provider.on_submission, shop.stop = 2, lambda: None, threading.Event()
    shop.now += timedelta(days=1)
    assert shop.run(full=full).exit_code == 0
    assert [row["price"] for row in shop.rows("sales")] == [price] * 3
    assert sum("the rows of a report are those of 2026-06-" in note for note in shop.notes) == notes

    shop.now += timedelta(days=1)
    assert shop.run().exit_code == 0
    assert [row["price"] for row in shop.rows("sales")] == [2] * 3


@pytest.mark.parametrize(("later", "price"), [(timedelta(minutes=1), 1), (timedelta(days=1), 2)], ids=["soon", "late"])
def test_a_report_that_was_delivered_is_not_read_again_the_day_after(
    later: timedelta, price: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A run is killed between the delivery of a report and the record that it is done with. The run after it reads the
    report again if it starts soon; later, the provider may have restated the days.
    """
    provider = Priced()
    shop = ScriptedProvider(folder=tmp_path, streams=[dated_sales()], answer=provider)
    with monkeypatch.context() as killed:
        killed.setattr(SqliteLedger, "drop", lambda ledger, report: None)
        assert shop.run().exit_code == 0

    provider.price = 2
    shop.now += later
    assert shop.run().exit_code == 0
    assert [row["price"] for row in shop.rows("sales")] == [price] * 3


@pytest.mark.parametrize(("broken", "exit_code"), [(3, 0), (99, 1)], ids=["a moment", "each time"])
def test_a_broken_answer_to_a_poll_is_polled_again(broken: int, exit_code: int, tmp_path: Path) -> None:
    """
    A login page in place of the state states nothing about the report: it is polled again, and not submitted again.
    """
    made: list[str] = []
    polls: list[str] = []

    def answer(request: SandboxRequest) -> Any:
        if request.method == "POST":
            made.append("r")
            return {"id": f"r{len(made)}"}
        polls.append(request.path)
        return {"session": "ended"} if len(polls) <= broken else {"status": "done", "data": ROWS}

    stream = slow_sales(Polled())
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=answer)
    report = shop.run()

    assert (report.exit_code, len(made)) == (exit_code, 1), report.errors
    assert len(shop.rows("sales")) == (0 if exit_code else 5)
    assert all(error["request"].endswith(polls[0]) for error in report.errors)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"data": ROWS, "total": 6}, id="rows that do not add up"),
        pytest.param({"data": "cut", "total": 5}, id="no rows where they are declared"),
    ],
)
def test_the_next_run_submits_an_undeliverable_report_anew(broken: dict[str, Any], tmp_path: Path) -> None:
    """
    A finished report does not change, so the next run would fail by it again for as long as it may be adopted.
    """
    made: list[str] = []

    def answer(request: SandboxRequest) -> Any:
        if request.method == "POST":
            made.append(f"r{len(made) + 1}")
            return {"id": made[-1], "rows": f"/rows/{made[-1]}"}
        if request.path.startswith("/orders/"):
            return {"status": "done", "rows": f"/rows/{request.path.rpartition('/')[2]}"}
        return broken if request.path == "/rows/r1" else {"data": ROWS, "total": 5}

    stream = slow_sales(named("polled", rows_at="rows"), poll_first_s=0.01)
    stream = evolve(stream, envelope=Envelope(items="data", total="total"))
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=answer)

    assert shop.run().exit_code == 1
    assert shop.run().exit_code == 0
    assert (made, len(shop.rows("sales"))) == (["r1", "r2"], 5)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(b'{"status": "done", "rows": []}', "has status, rows, but not an array in 'data'", id="elsewhere"),
        pytest.param(b"<html>Log in</html>", "the body is HTML or XML, not data", id="a login page"),
        pytest.param(b'{"status": "done", "data": [{"id": 1}, {"i', "the body is no JSON", id="a cut body"),
    ],
)
def test_a_finished_report_without_the_declared_rows_is_no_empty_report(
    body: bytes, problem: str, tmp_path: Path
) -> None:
    """
    Where the last answer to a poll has the rows, one that the envelope cannot read fails and replaces nothing.
    """
    good = json.dumps({"status": "done", "data": ROWS}).encode()
    bodies = [good]

    def answer(request: SandboxRequest) -> Any:
        if request.method == "POST":
            return {"id": "r"}
        return SandboxResponse(body=bodies[-1])

    stream = slow_sales(Polled(state_at=None), poll_first_s=0.01)
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=answer)
    assert shop.run().exit_code == 0

    bodies.append(body)
    report = shop.run()

    assert report.exit_code == 1
    assert "states that the report is ready, and should have its rows, but " in report.errors[0]["message"]
    assert problem in report.errors[0]["message"]
    assert len(shop.rows("sales")) == 5

    bodies.append(good)
    assert (shop.run().exit_code, len(shop.rows("sales"))) == (0, 5)


@record(kind="report", key="id", account="shop", day="day")
class Sold:
    """What a shop sold on a day."""

    id: str


@pytest.mark.parametrize("named_apart", [True, False], ids=["a report each", "one report for all"])
def test_one_report_for_two_submissions_is_not_delivered(named_apart: bool, tmp_path: Path) -> None:
    """
    Rows of one day would be delivered as those of another. The next run adopts no such report.
    """
    made: dict[str, str] = {}

    def answer(request: SandboxRequest) -> Any:
        if request.method == "POST":
            of = "".join(json.loads(request.body).values())
            handle = of if named_apart else "7"
            made[handle] = of
            return {"id": handle}
        return {"status": "ready", "data": [{"id": made[request.path.rpartition("/")[2]]}]}

    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[
            Stream(
                name="sold",
                record=Sold,
                accounts=lambda settings: ("a", "b"),
                path="/reports",
                json={"shop": "{account}", "day": "{since}"},
                poller=Polled(),
                envelope=Envelope(items="data"),
                poll_first_s=0.01,
            )
        ],
        answer=answer,
    )

    report = shop.run()

    assert (report.exit_code, len(report.errors)) == ((0, 0) if named_apart else (1, 6))
    assert all(row["id"] == f"{row['shop']}{row['day']}" for row in shop.rows("sold"))
    assert len(shop.rows("sold")) == (6 if named_apart else 0)
    target = shop.sink.open_readonly("shop")
    assert target is not None
    assert target.ledger.pending("shop", "sold") == ()
    target.close()


def test_a_report_that_expired_is_no_wrong_address(tmp_path: Path) -> None:
    """
    The provider's refusal of a page is about a wrong address; for an expired report that would mislead.
    """

    def answer(request: SandboxRequest) -> Any:
        if request.method == "POST":
            return {"id": "r"}
        return 404 if request.path == "/rows" else {"status": "done", "rows": "/rows"}

    stream = slow_sales(named("polled", rows_at="rows"))
    report = ScriptedProvider(folder=tmp_path, streams=[stream], answer=answer).run()

    (error,) = report.errors
    assert "the provider's report expired while it was read (HTTP 404). It was read " in error["message"]
    assert "after its state was requested again each time. Nothing was replaced" in error["message"]
    assert "base_url" not in error["message"]


@pytest.mark.parametrize(
    ("ahead", "submitted"), [(timedelta(days=1), 2), (timedelta(minutes=4), 1)], ids=["a day", "some minutes"]
)
def test_a_report_of_a_clock_that_was_ahead_is_submitted_anew(ahead: timedelta, submitted: int, tmp_path: Path) -> None:
    """
    The age of a report that was submitted tomorrow is not known: neither whether newer rows were delivered since, nor
    how long it may be polled. The clocks of two machines may differ by some minutes.
    """
    provider = Priced()
    shop = ScriptedProvider(folder=tmp_path, streams=[dated_sales()], answer=provider)
    provider.on_submission = shop.stop.set
    shop.now += ahead
    assert shop.run().exit_code == 130

    provider.on_submission, shop.stop = lambda: None, threading.Event()
    shop.now -= ahead
    assert (shop.run().exit_code, len(provider.made)) == (0, submitted)


class SetBackClock(FakeClock):
    """A clock that is set back to the same time of day after every pause."""

    def now(self) -> datetime:
        return self._start


@define
class NeverReady:
    """Answers whose report is never ready; ``polled_s``: when it was polled. The run is stopped after 1000 polls."""

    shop: ScriptedProvider = field(init=False)
    polled_s: list[float] = field(factory=list)

    def __call__(self, request: SandboxRequest) -> Any:
        if request.method == "POST":
            return {"id": "r"}
        self.polled_s.append(self.shop.clock.monotonic())
        if len(self.polled_s) > 1000:
            self.shop.stop.set()
        return {}


def never_ready(folder: Path, stream: Stream, **more: Any) -> tuple[RunReport, list[float]]:
    """The report of a run of a stream whose report is never ready, and the times of the polls."""
    provider = NeverReady()
    provider.shop = ScriptedProvider(folder=folder, streams=[stream], answer=provider, **more)
    return provider.shop.run(), provider.polled_s


def test_a_clock_that_is_set_back_moves_no_deadline(tmp_path: Path) -> None:
    """
    Polling ends after the time that passed, also where the time of day stands still.
    """
    report, polled_s = never_ready(tmp_path, slow_sales(), clock_class=SetBackClock)

    assert "was not ready" in report.errors[0]["message"]
    assert polled_s[-1] == pytest.approx(1800, rel=0.1)


def test_a_first_poll_that_is_made_at_once_is_followed_by_pauses(tmp_path: Path) -> None:
    """
    A stream whose first poll needs no pause does not poll without end: its second poll comes after a pause.
    """
    report, polled_s = never_ready(tmp_path, slow_sales(poll_first_s=0, poll_deadline_s=5))

    assert "was not ready" in report.errors[0]["message"]
    assert polled_s[0] == 0
    assert all(later > earlier for earlier, later in itertools.pairwise(polled_s))


class ReadyAtOnce(Slow):
    """A poller that takes every answer for the finished report."""

    def state(self, response: Response, age_s: float) -> ReportState:
        return Ready()


@pytest.mark.parametrize("body", [b"", b'{"data": []}'], ids=["an empty body", "no rows"])
def test_a_poll_that_is_answered_with_202_waits(body: bytes, tmp_path: Path) -> None:
    """
    A poll that is answered with 202 waits whatever the poller makes of the body: an empty one is no report without
    records.
    """

    def answer(request: SandboxRequest) -> Any:
        if request.method == "POST":
            return {"id": "r"}
        waits = sum(earlier.method == "GET" for earlier in shop.requests) < 3
        return SandboxResponse(status=202, body=body) if waits else {"data": ROWS}

    shop = ScriptedProvider(folder=tmp_path, streams=[slow_sales(ReadyAtOnce())], answer=answer)
    report = shop.run()

    assert (report.exit_code, len(shop.rows("sales"))) == (0, 5)
    assert [request.method for request in shop.requests] == ["POST", "GET", "GET", "GET"]


def test_a_report_whose_polls_fail_is_adopted_by_the_next_run(tmp_path: Path) -> None:
    """
    The error is that of the last attempt to poll it, and no other report is submitted.
    """
    made: list[str] = []
    broken = True

    def answer(request: SandboxRequest) -> Any:
        if request.method == "POST":
            made.append("r")
            return {"id": "r"}
        return 503 if broken else {"data": ROWS}

    shop = ScriptedProvider(folder=tmp_path, streams=[slow_sales()], answer=answer)
    report = shop.run()
    assert "503" in report.errors[0]["message"]

    broken = False
    assert (shop.run().exit_code, made) == (0, ["r"])
