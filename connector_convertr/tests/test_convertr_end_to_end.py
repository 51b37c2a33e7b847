"""
From the imitation over HTTP into files: what lies there is what the provider holds, through every trouble it makes.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from connector_convertr.config import ConvertrSettings
from connector_run import ConfiguredSource, RunReport, check_credentials, configured, jsonl, read
from imitation_convertr import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME, ConvertrSandbox
from penstock import AuthenticationError, RunResult, SandboxRequest, Secret
from penstock.sandbox.server import serve
from penstock.testing import FakeClock

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
BUSY = date(2026, 3, 8)  # more than one page of leads
SINCE = date(2026, 3, 6)
SNAPSHOTS = ("campaigns", "campaign_publishers", "campaign_publisher_bands", "campaign_processr_jobs")


class Bench:
    """A provider under a clock of ours, a source that reads it, and a directory for its files."""

    def __init__(self, base_url: str, folder: Path) -> None:
        self.folder = folder
        self.base_url = base_url
        self.clock = FakeClock(NOW)
        self.sandbox = ConvertrSandbox(base_url, NOW.date(), self.clock.monotonic)
        self.change: Callable[[SandboxRequest], SandboxRequest] = lambda request: request  # on its way

    def source(self, **more: Any) -> ConfiguredSource:
        given = {"username": USERNAME, "password": Secret(PASSWORD), "requests_per_second": 1000.0, **more}
        return configured("convertr", ConvertrSettings(base_url=self.base_url, **given))

    def run(self, *streams: str, since: date | None = SINCE, until: date | None = None, **more: Any) -> RunReport:
        source, sink = self.source(**more), jsonl(self.folder)
        return read(source, sink, *streams, clock=self.clock, since=since, until=until)

    def rows(self, stream: str) -> list[dict[str, Any]]:
        file = self.folder / "convertr" / stream / "data.jsonl"
        rows = (
            [json.loads(line, parse_float=Decimal) for line in file.read_text().splitlines()] if file.exists() else []
        )
        return sorted((comparable(row) for row in rows), key=lambda row: [row.get(name, 0) for name in KEYS])

    def truth(self, stream: str, since: date = SINCE) -> list[dict[str, Any]]:
        if stream in ("leads", "lead_data", "lead"):
            # The first day reaches ten minutes back, like every other.
            start = datetime(since.year, since.month, since.day, tzinfo=UTC) - timedelta(minutes=10)
            return in_order(self.sandbox.truth(stream, start=start))
        return in_order(self.sandbox.truth(stream))


# What orders the rows of every stream.
KEYS = ("lead_id", "campaign_publisher_id", "id", "at_id")


def in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(map(comparable, rows), key=lambda row: [row.get(name, 0) for name in KEYS])


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Times as moments, and without nulls and what penstock adds."""
    return {
        name: datetime.fromisoformat(value) if name.endswith("_ts") else value
        for name, value in row.items()
        if value is not None and not name.startswith("_") and name != "updated_day"
    }


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with serve() as server:
        made = Bench(server.base_url, tmp_path / "files")
        server.app = lambda request: made.sandbox(made.change(request))
        yield made
        assert server.errors == []


def problems(report: RunReport) -> Any:
    return report.as_dict()["errors"]


def test_the_files_hold_what_the_provider_holds(bench: Bench) -> None:
    """
    All streams that are on by default, every record with all its members, exact amounts and no secret.
    """
    report = bench.run()

    assert report.exit_code == 0, problems(report)
    for stream in ("leads", "lead_data", *SNAPSHOTS):
        assert bench.rows(stream) == bench.truth(stream), stream
    counted = report.stream("convertr", "leads").as_dict()
    assert counted["rejected"] == counted["repeated"] == 0
    assert counted["records"] == counted["promised"] >= len(bench.rows("leads")) > 300
    assert len(bench.sandbox.truth("leads", BUSY)) > 100


def test_each_lead_has_the_day_of_its_update(bench: Bench) -> None:
    """
    The record itself does not state when it was updated; the column does, the last ten minutes of a day as the next.
    """
    bench.run("leads")

    file = bench.folder / "convertr" / "leads" / "data.jsonl"
    found = {row["id"]: row["updated_day"] for row in map(json.loads, file.read_text().split("\n")[:-1])}
    updated = {lead: bench.sandbox.updated_at[lead] + timedelta(minutes=10) for lead in found}
    assert found == {lead: f"{moment:%Y-%m-%d}" for lead, moment in updated.items()}
    assert len(found) > 300


def test_nothing_that_lets_its_holder_act_is_written(bench: Bench) -> None:
    """
    No key, hash or token of the provider's answers is in any file below the target, the ledger included.
    """
    report = bench.run()

    assert report.exit_code == 0, problems(report)
    items = bench.sandbox.items
    secret = [item[name] for item in items["campaigns"].values() for name in ("apiKey", "signHash")]
    secret += [item["linkHash"] for item in items["campaign_publishers"].values()]
    secret += [item["leadData"][-1]["value"] for item in items["leads"].values()]
    secret += [PASSWORD, "sandbox-token-0001"]
    written = b"".join(file.read_bytes() for file in bench.folder.rglob("*") if file.is_file())
    assert len(written) > 1_000_000
    assert [value for value in secret if value.encode() in written] == []


def test_partitions_are_counted_as_they_are_planned(bench: Bench) -> None:
    """
    The partitions of a derived stream come with its parent's: the report has them by stream, the line of the run does
    not add them to what was planned.
    """
    report = bench.run("leads", "lead_data", since=date(2026, 3, 18), until=date(2026, 3, 19))

    assert report.exit_code == 0, problems(report)
    assert "2 of 2 partitions delivered" in RunResult.of(report).summary
    assert [one.as_dict()["partitions"]["delivered"] for one in report.streams.values()] == [2, 2]


def test_personal_data_can_be_left_out(bench: Bench) -> None:
    """
    ``include_personal = false`` leaves out names and addresses, also inside nested parts.
    """
    report = bench.run("leads", "lead_data", "campaign_publishers", since=date(2026, 3, 18), include_personal=False)

    assert report.exit_code == 0, problems(report)
    written = b"".join(file.read_bytes() for file in bench.folder.rglob("data.jsonl"))
    assert len(bench.rows("lead_data")) > 10
    for found in (b"lead.example", b'Star Publisher","sign_role', b"192.0.2.125", b"cvtr.user", b"07700", b"perhaps"):
        assert found not in written


def test_changes_are_merged_and_only_open_days_are_read_again(bench: Bench) -> None:
    """
    A second run requests the last days only, and finds there what changed in the older ones.
    """
    first = bench.run("leads")
    moved = bench.sandbox.restate(BUSY)
    requested = len(bench.sandbox.requests)

    second = bench.run("leads")

    assert (first.exit_code, second.exit_code) == (0, 0), problems(second)
    assert len(moved) > 100
    assert bench.rows("leads") == bench.truth("leads")
    assert len(bench.sandbox.requests) - requested < 6


def test_a_lead_that_moves_while_its_day_is_read(bench: Bench) -> None:
    """
    An update between two pages shifts the later ones; the day is read again and no lead is lost.
    """
    first_of_day = min(row["id"] for row in bench.sandbox.truth("leads", BUSY))
    turned: list[int] = []

    def move(stream: str, page: int) -> None:
        if stream == "leads" and not turned and len(bench.sandbox.requests) > 1:
            turned.append(page)
            bench.sandbox.update_lead(first_of_day, datetime(2026, 3, 20, 1, tzinfo=UTC), score=1)

    bench.sandbox.after_page = move
    report = bench.run("leads", since=BUSY, until=BUSY, concurrency=1)
    after = bench.run("leads", since=BUSY)

    assert (report.exit_code, after.exit_code) == (0, 0), problems(report)
    assert turned == [1]
    assert bench.rows("leads") == bench.truth("leads", BUSY)


@pytest.mark.parametrize("order", [{}, {"leads": {"order[id]": "desc"}}], ids=["own order", "the user's order"])
@pytest.mark.parametrize("most_per_page", [100, 30], ids=["full pages", "capped pages"])
def test_a_lead_that_moves_behind_a_bare_array(bench: Bench, most_per_page: int, order: dict[str, Any]) -> None:
    """
    Without a total, a shift of the later pages is not visible; the second reading brings the lead that they hid, with
    its form fields, and its other leads count as repeated.
    """
    bench.sandbox.always_bare, bench.sandbox.most_per_page = True, most_per_page
    start, end = datetime(2026, 3, 7, 23, 50, tzinfo=UTC), datetime(2026, 3, 9, tzinfo=UTC)
    expected = in_order(bench.sandbox.truth("leads", start=start, end=end))
    first_listed = expected[-1 if order else 0]["id"]
    turned: list[int] = []

    def move(stream: str, page: int) -> None:
        if stream == "leads" and not turned:
            turned.append(page)
            bench.sandbox.update_lead(first_listed, datetime(2026, 3, 20, 1, tzinfo=UTC), score=1)

    bench.sandbox.after_page = move
    report = bench.run("leads", "lead_data", since=BUSY, until=BUSY, concurrency=1, filters=order)

    assert report.exit_code == 0, problems(report)
    assert len(expected) > 100
    assert bench.rows("leads") == expected
    assert {row["lead_id"] for row in bench.rows("lead_data")} == {row["id"] for row in expected}
    counted = report.stream("convertr", "leads").as_dict()
    assert (counted["records"], counted["repeated"]) == (len(expected), len(expected) - 2)


@pytest.mark.parametrize("number", [2, 3, 5])
def test_an_empty_page_in_the_middle_of_bare_arrays(bench: Bench, number: int) -> None:
    """
    An empty page that is a failure ends the first reading too early; the second one goes on until nothing is new.
    """
    bench.sandbox.always_bare, bench.sandbox.most_per_page = True, 30
    failed: list[str] = []

    def fail(request: SandboxRequest) -> SandboxRequest:
        if failed or not re.search(rf"[?&]page={number}\b", request.target):
            return request
        failed.append(request.target)
        return evolve(request, target=re.sub(r"([?&])page=\d+", r"\1page=999", request.target))

    bench.change = fail
    report = bench.run("campaigns", concurrency=1)

    assert report.exit_code == 0, problems(report)
    assert len(failed) == 1
    assert bench.rows("campaigns") == bench.truth("campaigns")


def test_a_bare_array_whose_server_ignores_the_page(bench: Bench) -> None:
    """
    The same page whatever number is requested is an error, not the end of a list.
    """
    bench.sandbox.always_bare = True
    bench.change = lambda request: evolve(request, target=request.target.replace("page=2", "page=1"))

    report = bench.run("campaigns")

    assert report.exit_code == 1
    assert "came again" in json.dumps(problems(report))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"auth_style": "query"}, id="token in the query"),
        pytest.param(
            {"login_style": "oauth", "client_id": CLIENT_ID, "client_secret": Secret(CLIENT_SECRET)}, id="older login"
        ),
    ],
)
def test_the_older_login_reads_the_same_rows(bench: Bench, settings: dict[str, Any]) -> None:
    """
    The other generation's login, and its way to send the token, read the same.
    """
    bench.sandbox.login_paths = frozenset({"/oauth/v2/token" if "login_style" in settings else "/api/login"})
    bench.sandbox.auth_styles = frozenset({settings.get("auth_style", "bearer")})

    report = bench.run("campaigns", **settings)

    assert report.exit_code == 0, problems(report)
    assert bench.rows("campaigns") == bench.truth("campaigns")


@pytest.mark.parametrize(
    "knobs",
    [
        pytest.param({"prefix": ""}, id="newer spelling"),
        pytest.param({"always_bare": True}, id="bare arrays"),
        pytest.param({"most_per_page": 30}, id="pages capped silently"),
        pytest.param({"always_bare": True, "most_per_page": 30}, id="bare arrays, capped silently"),
    ],
)
def test_other_forms_of_the_envelope(bench: Bench, knobs: dict[str, Any]) -> None:
    """
    Every record arrives whatever the envelope looks like.
    """
    for name, value in knobs.items():
        setattr(bench.sandbox, name, value)

    report = bench.run("campaigns", "campaign_publishers")

    assert report.exit_code == 0, problems(report)
    assert bench.rows("campaigns") == bench.truth("campaigns")
    assert bench.rows("campaign_publishers") == bench.truth("campaign_publishers")


def test_members_that_nobody_declared_are_kept(bench: Bench) -> None:
    """
    A newer edition's leads are read with their further members; the unknown one is kept beside the columns.
    """
    bench.sandbox.newer_leads = True

    report = bench.run("leads", since=date(2026, 3, 18))

    assert report.exit_code == 0, problems(report)
    expected = [dict(row) for row in bench.truth("leads", date(2026, 3, 18))]
    for row in expected:
        # An empty text where a truth value belongs is none.
        del row["something_new"], row["over_allocation"], row["double_opt_in"]
    assert bench.rows("leads") == expected
    file = bench.folder / "convertr" / "leads" / "data.jsonl"
    assert {json.dumps(json.loads(line)["_extra"]) for line in file.read_text().splitlines()} == {
        '{"somethingNew": {"kept": true}}'
    }


def test_transient_failures_lose_no_record(bench: Bench) -> None:
    """
    Server errors, a throttle, cut bodies and a revoked token delay the run, and lose no record.
    """
    bench.sandbox.fail_next(503, 2)
    bench.sandbox.fail_next(429, Retry_After="1")
    bench.sandbox.cut_next(2)
    revoked: list[int] = []

    def revoke(stream: str, page: int) -> None:
        if not revoked:
            revoked.append(page)
            bench.sandbox.expire_tokens()

    bench.sandbox.after_page = revoke
    report = bench.run("campaigns", "campaign_processr_jobs")

    assert report.exit_code == 0, problems(report)
    assert revoked == [1]
    for stream in ("campaigns", "campaign_processr_jobs"):
        assert bench.rows(stream) == bench.truth(stream)


def test_filters_are_applied(bench: Bench) -> None:
    """
    Only the records that a filter keeps arrive; a list is any of its values.
    """
    report = bench.run("campaigns", filters={"campaigns": {"status[]": ["Active", "Paused"], "advertiser.id": 303}})

    assert report.exit_code == 0, problems(report)
    expected = [
        row
        for row in bench.truth("campaigns")
        if row["status"] in ("Active", "Paused") and row["advertiser"]["id"] == 303
    ]
    assert bench.rows("campaigns") == expected != []


@pytest.mark.parametrize(
    ("stream", "of"),
    [
        ("campaign", "campaigns"),
        ("campaign_publisher", "campaign_publishers"),
        ("campaign_processr_job", "campaign_processr_jobs"),
    ],
)  # fmt: skip
def test_single_objects_are_read_by_the_ids_of_their_collection(bench: Bench, stream: str, of: str) -> None:
    """
    Each row of the collection is read by its id, whether the collection itself is delivered or not.
    """
    report = bench.run(stream)

    assert report.exit_code == 0, problems(report)
    assert bench.rows(stream) == bench.truth(stream)
    assert bench.rows(of) == []


def test_a_detail_of_another_object_is_rejected(bench: Bench) -> None:
    """
    A cache answers two ids with one object: it is delivered once, for its own id, and the run does not end with 0.
    """
    first, second = [row["id"] for row in bench.truth("campaigns")][:2]

    def cached(request: SandboxRequest) -> SandboxRequest:
        return evolve(request, target=request.target.replace(f"/campaigns/{second}", f"/campaigns/{first}"))

    bench.change = cached
    report = bench.run("campaign")

    ids = [row["id"] for row in bench.rows("campaign")]
    assert report.exit_code == 5
    assert (first in ids, second in ids, len(ids)) == (True, False, len(bench.truth("campaigns")) - 1)


def test_a_single_object_that_went_meanwhile_is_skipped(bench: Bench) -> None:
    """
    A campaign deleted after the list was read is no failure.
    """

    def vanish(stream: str, page: int) -> None:
        if page == 2:
            bench.sandbox.delete("campaigns", 605)

    bench.sandbox.after_page = vanish
    report = bench.run("campaign")

    assert report.exit_code == 0, problems(report)
    assert bench.rows("campaign") == bench.truth("campaign")
    assert len(bench.rows("campaign")) == 129


def test_the_leads_of_a_run_by_their_id(bench: Bench) -> None:
    """
    ``lead`` reads each lead that the same run read.
    """
    report = bench.run("leads", "lead", since=date(2026, 3, 18))

    assert report.exit_code == 0, problems(report)
    rows = bench.rows("lead")
    assert rows == bench.truth("lead", date(2026, 3, 18))
    assert len(rows) > 100


@pytest.mark.parametrize(
    ("change", "settings", "output"),
    [
        pytest.param({}, {"password": Secret("not-this-password")}, "check username and password", id="wrong password"),
        pytest.param({"password_expired": True}, {}, "password has expired", id="expired password"),
        pytest.param({"login_paths": frozenset()}, {}, "login_style", id="no login address"),
    ],
)
def test_refused_credentials_end_check_and_run(
    bench: Bench, change: dict[str, Any], settings: dict[str, Any], output: str
) -> None:
    """
    The check and the run state what is wrong, and the run ends as refused without any request.
    """
    for name, value in change.items():
        setattr(bench.sandbox, name, value)

    report = bench.run("campaigns", **settings)

    assert report.exit_code == 3
    assert output in json.dumps(problems(report))
    assert not [request for request in bench.sandbox.requests if request.path.startswith("/api/v4/")]
    with pytest.raises(AuthenticationError, match=output):
        check_credentials(bench.source(**settings), bench.clock)


def test_check_reads_one_campaign_with_working_credentials(bench: Bench) -> None:
    """
    The check logs in and reads one campaign.
    """
    assert "credentials work" in check_credentials(bench.source(), bench.clock)
    assert [request.path for request in bench.sandbox.requests] == ["/api/login", "/api/v4/campaigns"]
    # Other forms than JSON-LD lack the totals.
    assert bench.sandbox.requests[1].headers["accept"] == "application/ld+json"
