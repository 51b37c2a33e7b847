"""
From the imitation over HTTP into files: what lies there is what the provider holds, through every trouble it makes.
"""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from connector_run import ConfiguredSource, RunReport, check_credentials, configured, jsonl, read
from connector_talroo.config import TalrooSettings
from connector_talroo.sandbox import CUSTOMER_REFERENCE, CUSTOMER_SECRET
from imitation_talroo import TalrooSandbox
from penstock import AuthenticationError, SandboxResponse, Secret
from penstock.sandbox.server import serve
from penstock.testing import FakeClock

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
SINCE, UNTIL = date(2026, 2, 20), date(2026, 3, 9)
DAYS = [SINCE + timedelta(days=number) for number in range((UNTIL - SINCE).days + 1)]
ADVERTISERS = ("2112", "2113")


class Bench:
    """A provider under a clock of ours, a source that reads it, and a directory for its files."""

    def __init__(self, base_url: str, folder: Path) -> None:
        self.folder = folder
        self.base_url = base_url
        self.clock = FakeClock(NOW)
        self.sandbox = TalrooSandbox(base_url, NOW.date())
        self.sandbox.now = self.clock.now

    def source(self, **more: Any) -> ConfiguredSource:
        given: dict[str, Any] = {
            "base_url": self.base_url,
            "customer_reference": CUSTOMER_REFERENCE,
            "customer_secret": Secret(CUSTOMER_SECRET),
            "advertiser_ids": ADVERTISERS,
        }
        return configured("talroo", TalrooSettings(**{**given, **more}))

    def run(
        self, since: date | None = SINCE, until: date | None = UNTIL, *, strict: bool = False, **more: Any
    ) -> RunReport:
        source, sink = self.source(**more), jsonl(self.folder)
        return read(source, sink, "clicks", clock=self.clock, since=since, until=until, strict=strict)

    def rows(self, advertiser_id: str, day: date) -> list[dict[str, Any]]:
        file = (
            self.folder
            / "talroo"
            / "clicks"
            / f"by_advertiser_id={advertiser_id}"
            / f"by_report_date={day}"
            / "data.jsonl"
        )
        if not file.exists():
            return []
        return [json.loads(line, parse_float=Decimal) for line in file.read_text().splitlines()]

    def truth(self, advertiser_id: str, day: date) -> list[dict[str, Any]]:
        """The rows that the provider holds, as JSON has them."""
        rows = self.sandbox.truth("clicks", advertiser_id=advertiser_id, report_date=day)
        return [{**row, "report_date": f"{day}", "time": row["time"].isoformat()} for row in rows]

    def differing(self) -> list[tuple[str, date]]:
        """The partitions whose files are not what the provider holds."""
        partitions = [(advertiser, day) for advertiser in ADVERTISERS for day in DAYS]
        return [one for one in partitions if declared(self.rows(*one)) != self.truth(*one)]


def declared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with serve() as server:
        made = Bench(server.base_url, tmp_path / "files")
        server.app = made.sandbox
        yield made
        assert server.errors == []


def test_the_files_hold_what_the_provider_holds(bench: Bench) -> None:
    """
    Every partition, each click with all its columns; the counts of the report agree.
    """
    report = bench.run()

    assert report.exit_code == 0, report.as_dict()
    assert bench.differing() == []
    counted = report.stream("talroo", "clicks").as_dict()
    clicks = sum(len(bench.truth(advertiser, day)) for advertiser in ADVERTISERS for day in DAYS)
    assert counted["partitions"] == {"planned": 36, "delivered": 36, "failed": 0, "skipped": 0}
    assert counted["records"] == counted["promised"] == clicks
    assert clicks > 500
    assert counted["rejected"] == counted["repeated"] == 0


def test_one_request_a_day_at_the_declared_pace(bench: Bench) -> None:
    """
    Nothing is requested twice, and never more than one request a second.
    """
    bench.run()

    requested = [(params["advertiser_id"], params["start"], params["end"]) for params in bench.sandbox.params]
    stamps = [int(params["timestamp"]) for params in bench.sandbox.params]
    assert sorted(requested) == sorted((one, f"{day}", f"{day}") for one in ADVERTISERS for day in DAYS)
    assert min(later - earlier for earlier, later in pairwise(stamps)) >= 1000


def test_all_that_is_kept_is_read_by_default(bench: Bench) -> None:
    """
    By default the days from the first of the month before last to yesterday are read.
    """
    bench.run(since=None, until=None)

    days = sorted({params["start"] for params in bench.sandbox.params})
    assert (days[0], days[-1], len(days)) == ("2026-01-01", "2026-03-09", 68)


def test_a_restated_day_is_replaced_while_it_is_open(bench: Bench) -> None:
    """
    A later run requests the open days only, and vanished clicks vanish.
    """
    bench.run()
    bench.sandbox.params.clear()
    bench.sandbox.restate(date(2026, 3, 8))

    bench.run()

    assert sorted({params["start"] for params in bench.sandbox.params}) == ["2026-03-07", "2026-03-08", "2026-03-09"]
    assert bench.differing() == []


@pytest.mark.parametrize("form", ["list", "object", "day", "null", "absent"])
def test_a_day_without_clicks_is_delivered_empty(bench: Bench, form: Any) -> None:
    """
    A day without clicks is delivered empty, in whatever form the provider states it.
    """
    bench.sandbox.empty_form = form
    bench.sandbox.clicks_per_day = 2

    report = bench.run()

    assert any(not bench.truth("2112", day) for day in DAYS)
    assert report.exit_code == 0
    assert bench.differing() == []


@pytest.mark.parametrize(
    ("trouble", "pause_s"),
    [
        ("server is busy", 0),
        ("too many requests", 60),
        (SandboxResponse(status=503, body=b"<html>"), 0),
        (SandboxResponse(status=200, body=b"<html>captive portal</html>"), 0),
        (SandboxResponse(status=200, body=b'{"status":1,"total_clicks":3,"clicks_report":{"2026-'), 0),
        (SandboxResponse(status=200, body=b'{"status":1}'), 0),
        (SandboxResponse(status=200, body=b'{"status":1,"start_day":"2026-01-01","total_clicks":0}'), 0),
    ],
    ids=["busy", "too many", "503", "html", "cut", "no total", "nothing on another day"],
)
def test_a_passing_trouble_is_waited_out(bench: Bench, trouble: Any, pause_s: float) -> None:
    """
    Requested again, with a new ticket each time, after the pause that fits.
    """
    bench.sandbox.refuse_replays = True
    bench.sandbox.fail_next(trouble, times=2)

    report = bench.run()

    assert report.exit_code == 0, report.as_dict()
    assert bench.differing() == []
    assert max(bench.clock.slept) >= pause_s
    assert len(bench.sandbox.params) == 2 + 36


def test_a_day_that_stays_broken_costs_its_retries_and_no_more(bench: Bench) -> None:
    """
    A page that every attempt brought broken is not read again from the start of its day: that would multiply the
    attempts. The report counts the retries that were made, not the attempts that failed.
    """
    bench.sandbox.fail_next(SandboxResponse(status=200, body=b"<html>captive portal</html>"), times=100)

    report = bench.run(since=UNTIL, advertiser_ids=("2112",), retries=2)

    counted = report.stream("talroo", "clicks")
    assert report.exit_code == 1
    assert len(bench.sandbox.params) == counted.requests == 3
    assert counted.retries == 2


@pytest.mark.parametrize("trouble", ["server is busy", "too many requests"])
def test_the_check_does_not_wait_for_a_busy_provider(bench: Bench, trouble: str) -> None:
    """
    One request, no pause; being busy disproves no credentials.
    """
    bench.sandbox.fail_next(trouble, times=100)

    assert "not checked" in check_credentials(bench.source(), bench.clock)
    assert len(bench.sandbox.params) == 1
    assert bench.clock.slept == []


@pytest.mark.parametrize("minutes", [-30, 30], ids=["behind", "ahead"])
def test_a_wrong_clock_is_corrected_by_the_provider_s(bench: Bench, minutes: int) -> None:
    """
    One refused ticket, then every one is stamped with the provider's time.
    """
    bench.sandbox.now = lambda: bench.clock.now() + timedelta(minutes=minutes)

    report = bench.run()

    assert report.exit_code == 0, report.as_dict()
    assert bench.differing() == []
    assert len(bench.sandbox.params) == 1 + 36


def test_many_requests_under_way_share_the_corrected_clock(bench: Bench) -> None:
    """
    Requests refused before the first correction are signed again as well, each once.
    """
    bench.sandbox.now = lambda: bench.clock.now() + timedelta(minutes=30)

    report = bench.run(concurrency=4, requests_per_second=1000.0)

    assert report.exit_code == 0, report.as_dict()
    assert bench.differing() == []
    assert len(bench.sandbox.params) <= 4 + 36


def test_wrong_credentials_end_the_run_with_three(bench: Bench) -> None:
    """
    Wrong credentials are not tried again, since the clocks agree, and no other day is tried but the one already under
    way; the message names neither secret nor reference.
    """
    report = bench.run(customer_secret=Secret("not the secret"))

    assert report.exit_code == 3
    assert len(bench.sandbox.params) <= 2
    reported = json.dumps(report.as_dict())
    assert "unauthorized request" in reported
    assert "not the secret" not in reported
    assert CUSTOMER_REFERENCE not in reported


def test_an_unknown_advertiser_fails_alone(bench: Bench) -> None:
    """
    An unknown advertiser fails, and all other advertisers are delivered.
    """
    report = bench.run(advertiser_ids=("2112", "9"), since=UNTIL)

    counted = report.stream("talroo", "clicks").as_dict()
    assert report.exit_code == 1
    assert (counted["partitions"]["delivered"], counted["partitions"]["failed"]) == (1, 1)
    assert "advertiser_ids" in json.dumps(report.as_dict())
    assert declared(bench.rows("2112", UNTIL)) == bench.truth("2112", UNTIL)


def test_one_file_is_written_whole_or_left_as_it_was(bench: Bench) -> None:
    """
    A day that fails does not cost the file the days that it held; the run reports that it was left.
    """
    bench.folder = bench.folder.with_suffix(".jsonl")
    bench.run()
    former = bench.folder.read_bytes()
    bench.sandbox.fail_next("format error")

    report = bench.run()

    assert report.exit_code == 1
    assert bench.folder.read_bytes() == former
    assert any("left as it was" in text for text in report.notices)


def test_a_total_that_disagrees_fails_the_day_and_keeps_its_former_rows(bench: Bench) -> None:
    """
    The day's former rows stay; the other days are delivered.
    """
    bench.run()
    before = bench.rows("2112", UNTIL)
    bench.sandbox.overstate(UNTIL)
    bench.sandbox.restate(UNTIL)

    report = bench.run()

    assert report.exit_code == 1
    assert bench.rows("2112", UNTIL) == before
    assert report.stream("talroo", "clicks").as_dict()["partitions"]["failed"] == len(ADVERTISERS)


def test_a_click_of_another_day_is_rejected(bench: Bench) -> None:
    """
    A click of another day than the requested one is rejected and counted, and a strict run reports it.
    """
    clicks = bench.sandbox.clicks("2112", UNTIL)
    stray = {**clicks[0], "click_id": "of another day"}
    answer = {
        "status": 1,
        "total_clicks": len(clicks) + 1,
        "clicks_report": {"2026-03-01": [stray], f"{UNTIL}": clicks},
    }
    bench.sandbox.fail_next(SandboxResponse(body=json.dumps(answer).encode()))

    report = bench.run(advertiser_ids=("2112",), since=UNTIL, strict=True)

    assert report.exit_code == 5
    counted = report.stream("talroo", "clicks").as_dict()
    assert (counted["rejected"], counted["promised"]) == (1, len(clicks) + 1)
    assert declared(bench.rows("2112", UNTIL)) == bench.truth("2112", UNTIL)


def priced(bench: Bench, price: str | None, **settings: Any) -> tuple[RunReport, Any]:
    """The report of a run in which one more click has this price, and the amount of that click."""
    clicks = bench.sandbox.clicks("2112", UNTIL)
    odd = {**clicks[0], "click_id": "odd", "price": price}
    answer = {"status": 1, "total_clicks": len(clicks) + 1, "clicks_report": {f"{UNTIL}": [odd, *clicks]}}
    bench.sandbox.fail_next(SandboxResponse(body=json.dumps(answer).encode()))
    report = bench.run(advertiser_ids=("2112",), since=UNTIL, strict=True, **settings)
    rows = bench.rows("2112", UNTIL)
    (row,) = (row for row in rows if row["click_id"] == "odd")
    assert row["price"] == price
    if not settings:
        assert declared([row for row in rows if row["click_id"] != "odd"]) == bench.truth("2112", UNTIL)
    return report, row["price_amount"]


@pytest.mark.parametrize("price", ["0.25", "25.00", "", "1_000", None])
def test_a_price_whose_unit_is_not_certain_has_no_amount(bench: Bench, price: str | None) -> None:
    """
    A decimal point may mean dollars, of which a hundredth would be invoiced. The click is delivered with its price and
    without an amount, which is counted.
    """
    report, amount = priced(bench, price)

    assert (report.exit_code, amount) == (5, None)
    counts = report.stream("talroo", "clicks")
    assert (counts.rejected, counts.unread_values) == (0, 1)


@pytest.mark.parametrize(
    ("unit", "price", "amount"),
    [
        (None, "1234567890123456789", "12345678901234567.89"),
        ("cents", "12.50", "0.125"),
        ("cents", "25", "0.25"),
        ("cents", "1234567890123456789", "12345678901234567.89"),
        ("dollars", "12.50", "12.50"),
        ("dollars", "25", "25"),
        ("dollars", "1234567890123456.789", "1234567890123456.789"),
    ],
)
def test_the_unit_of_prices_may_be_configured(bench: Bench, unit: str | None, price: str, amount: str) -> None:
    """
    Amounts are exact, also those of nineteen digits; with a unit, a decimal point has one meaning.
    """
    report, found = priced(bench, price, **({} if unit is None else {"price_unit": unit}))

    assert (report.exit_code, found) == (0, Decimal(amount))
    assert report.stream("talroo", "clicks").unread_values == 0


@pytest.mark.parametrize("price", ["", None, "free"])
def test_a_click_without_a_price_is_counted_in_any_unit(bench: Bench, price: str | None) -> None:
    """
    A price that is missing would be invoiced as nothing.
    """
    report, amount = priced(bench, price, price_unit="dollars")

    assert (report.exit_code, amount, report.stream("talroo", "clicks").unread_values) == (5, None, 1)


def test_members_that_nobody_documented_are_kept(bench: Bench) -> None:
    """
    Undocumented members are kept in ``_extra`` and noted once.
    """
    bench.sandbox.more_members = {"bid_id": "b-1"}

    report = bench.run()

    rows = bench.rows("2112", UNTIL)
    assert bench.differing() == []
    assert {json.dumps(row["_extra"]) for row in rows} == {'{"bid_id": "b-1"}'}
    assert report.stream("talroo", "clicks").as_dict()["unknown_members"] == ["bid_id"]


def test_personal_columns_can_be_left_out(bench: Bench) -> None:
    """
    Address, landing page and visit are nowhere in the files.
    """
    bench.run(include_personal=False)

    rows = [row for advertiser in ADVERTISERS for row in bench.rows(advertiser, UNTIL)]
    assert rows
    assert not any({"ip", "url", "tlr_sid"} & row.keys() for row in rows)
    assert "203.0.113." not in json.dumps(rows, default=str)


def test_the_check_tries_the_credentials_with_one_request(bench: Bench) -> None:
    """
    The check of credentials makes one request, and prints what was refused and the string that was signed, the
    reference masked.
    """
    assert "talroo" in check_credentials(bench.source(), bench.clock)
    assert len(bench.sandbox.params) == 1

    with pytest.raises(AuthenticationError, match="unauthorized request") as refused:
        check_credentials(bench.source(customer_secret=Secret("not the secret")), bench.clock)
    assert "advertiser_id=2112&action=get_clicks" in str(refused.value)
    assert CUSTOMER_REFERENCE not in str(refused.value)
