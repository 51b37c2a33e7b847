"""
Joveo's imitation over real HTTP, read by the runner: what arrives is what the imitation holds.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from attrs import evolve
from connector_joveo.sandbox import SANDBOX
from connector_joveo.streams import STREAMS
from connector_run import RunReport, read
from imitation_joveo import JoveoSandbox
from penstock import SandboxApp, SandboxRequest, SandboxResponse
from penstock.sandbox.server import Server, serve
from penstock.testing.conformance import noon_of, source_of
from penstock.testing.memory import MemorySink

pytestmark = pytest.mark.slow

TODAY = date(2026, 6, 17)
DETAILS = tuple(stream.name for stream in STREAMS if not stream.on_by_default and not stream.not_built)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as server:
        server.app = JoveoSandbox(server.base_url, TODAY, jobs_per_client=(12, 5, 0))
        yield server


@pytest.fixture
def app(server: Server) -> JoveoSandbox:
    assert isinstance(server.app, JoveoSandbox)
    return server.app


class Reading:
    """A source that reads the imitation, and what its last run brought."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.sink = MemorySink(folder / "ledger.sqlite")
        self.events: list[Mapping[str, Any]] = []

    def __call__(
        self, *streams: str, since: date | None = None, until: date | None = None, **settings: Any
    ) -> RunReport:
        given = {"retry_first_s": 0.01, "retry_max_s": 0.05, **SANDBOX.settings, **settings}
        source = source_of("joveo", {**given, "base_url": self.server.base_url})
        self.events.clear()
        clock = noon_of(TODAY)
        return read(source, self.sink, *streams, clock=clock, since=since, until=until, on_event=self.events.append)

    def rows(self, stream: str, **where: str) -> list[dict[str, Any]]:
        """The delivered rows of the partitions with these values, without what is null and what was added."""
        found = [
            row
            for partition, rows in self.sink.rows.get(stream, {}).items()
            if where.items() <= partition.as_dict().items()
            for row in rows
        ]
        return normal(found)


@pytest.fixture
def reading(server: Server, tmp_path: Path) -> Reading:
    return Reading(server, tmp_path)


def normal(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows to compare: numbers as text, times alike, nulls and hashes left out, in a fixed order."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        if isinstance(value, list):
            return [plain(one) for one in value]
        if isinstance(value, str) and value.endswith("Z") and value[10:11] == "T":
            return value.replace(".000Z", "Z")
        return str(value) if value is not None and not isinstance(value, (bool, str)) else value

    kept = [
        {name: plain(value) for name, value in row.items() if value is not None and name != "row_key"} for row in rows
    ]
    return sorted(kept, key=lambda row: sorted(row.items()).__repr__())


def client_ids(app: JoveoSandbox) -> list[str]:
    return list(app.clients)


def test_every_stream_brings_what_the_provider_holds(reading: Reading, app: JoveoSandbox) -> None:
    """
    All streams that need nothing more, and all details: each client's rows are those of the imitation, none unknown.
    """
    everything = tuple(stream.name for stream in STREAMS if not stream.not_built)
    since = TODAY - timedelta(days=3)

    report = reading(*everything, since=since, stats_columns={}).as_dict()

    assert report["errors"] == []
    assert report["exit_code"] == 0
    counts = report["sources"]["joveo"]["streams"]
    assert {name: one["unknown_members"] for name, one in counts.items() if one["unknown_members"]} == {}
    assert {name: one["rejected"] for name, one in counts.items() if one["rejected"]} == {}
    assert set(counts) == set(everything)
    for name in everything:
        if name in ("clients", "publisher_report"):
            assert reading.rows(name) == normal(app.truth(name)), name
            continue
        for client in client_ids(app):
            if name in ("stats", "ip_report"):
                for back in range(1, 4):
                    day = TODAY - timedelta(days=back)
                    there = reading.rows(name, client_id=client, report_date=day.isoformat())
                    assert there == normal(app.truth(name, client, day)), (name, client, day)
            else:
                assert reading.rows(name, client_id=client) == normal(app.truth(name, client)), (name, client)
    assert reading.rows("stats")
    assert reading.rows("job_group_details")
    assert app.leaks == []


@pytest.mark.parametrize("page_zero", ["first", "same", "refused"])
def test_a_listing_is_whole_wherever_its_pages_start(reading: Reading, app: JoveoSandbox, page_zero: str) -> None:
    """
    Pages counted from 0, from 1 with page 0 as the same as page 1, and from 1 with page 0 refused: the same rows.
    """
    app.page_zero = page_zero  # type: ignore[assignment]

    report = reading("clients", "job_groups")

    assert report.exit_code == 0
    first = client_ids(app)[0]
    assert len(app.truth("job_groups", first)) > 100
    for client in client_ids(app):
        assert reading.rows("job_groups", client_id=client) == normal(app.truth("job_groups", client))


def altered(app: SandboxApp, path: str, change: Callable[[Any, SandboxRequest], Any]) -> SandboxApp:
    """The imitation, with ``change`` made to the JSON of every good answer at ``path``, a pattern."""

    def answer(request: SandboxRequest) -> SandboxResponse:
        response = app(request)
        if response.status != 200 or not re.fullmatch(path, request.path):
            return response
        return evolve(response, body=json.dumps(change(json.loads(response.body), request)).encode())

    return answer


def test_publisher_reports_of_several_clients_are_made_side_by_side(
    reading: Reading, server: Server, app: JoveoSandbox
) -> None:
    """
    Each client's report is submitted before the first is waited for; the rows of all of them are one partition.
    """
    clients = client_ids(app)[:2]

    assert reading("publisher_report", client_ids=clients).exit_code == 0

    requested = [seen.method for seen in server.requests if "/publishers/" in seen.target]
    assert requested == ["POST"] * len(clients) + ["GET"] * (len(requested) - len(clients))
    assert [one["clientId"] for one in app.submissions] == clients
    truth = [row for row in app.truth("publisher_report") if row["client_id"] in clients]
    assert reading.rows("publisher_report") == normal(truth)
    assert {row["client_id"] for row in truth} == set(clients)


def test_a_refused_submission_is_no_lost_report(reading: Reading, server: Server, app: JoveoSandbox) -> None:
    """
    A client that is not known is an error at once; a report that was submitted before it did not expire thereby.
    """
    first, gone = client_ids(app)[:2]

    def unknown(request: SandboxRequest) -> SandboxResponse:
        return SandboxResponse(status=404) if gone.encode() in request.body else app(request)

    server.app = unknown
    report = reading("publisher_report", client_ids=[first, gone]).as_dict()

    assert report["exit_code"] == 1
    assert "HTTP 404" in report["errors"][0]["message"]
    assert [seen.method for seen in server.requests if "/publishers/" in seen.target] == ["POST", "POST"]


@pytest.mark.parametrize("clamped", [False, True], ids=["empty", "clamped"])
@pytest.mark.parametrize("count", [200, 300, 400, 401])
def test_a_listing_ends_at_its_last_page_however_the_provider_marks_it(
    reading: Reading, server: Server, app: JoveoSandbox, count: int, clamped: bool
) -> None:
    """
    Past its end a provider serves empty pages or, as some do, its last one again.
    """
    client = client_ids(app)[0]
    groups = [{"id": f"g{number}", "name": f"Group {number}"} for number in range(count)]

    def page(body: Any, request: SandboxRequest) -> Any:
        requested = int(parse_qs(request.query)["page"][0])
        number = min(requested, (count - 1) // 100) if clamped else requested
        return {"data": groups[100 * number : 100 * number + 100]}

    server.app = altered(app, ".*/jobgroups", page)
    report = reading("job_groups", client_ids=[client])

    assert report.exit_code == 0
    assert {row["id"] for row in reading.rows("job_groups")} == {group["id"] for group in groups}


@pytest.mark.parametrize(
    ("stream", "path", "most"),
    [("job_groups", ".*/jobgroups", 1000), ("job_groups", ".*/jobgroups", 50), ("jobs", ".*/jobs", 1000)],
    ids=["job groups", "capped pages", "jobs"],
)
def test_a_record_that_a_deleted_one_hides_is_not_lost(
    reading: Reading, server: Server, app: JoveoSandbox, stream: str, path: str, most: int
) -> None:
    """
    Where no number of records is stated, several pages are read twice; what one page has came at one moment.
    """
    client, other = client_ids(app)[:2]
    key = "refNumber" if stream == "jobs" else "id"
    held = {client: [f"r{number}" for number in range(2345)], other: ["a", "b"]}
    first = 1 if stream == "jobs" else 0
    requested: list[str] = []

    def page(body: Any, request: SandboxRequest) -> Any:
        query = parse_qs(request.query)
        number, limit = max(int(query["page"][0]), first), min(int(query["limit"][0]), most)
        of = client if client in request.path else other
        requested.append(of)
        if of == client and number == first + 1 and "r1" in held[client]:
            held[client].remove("r1")
        return {"data": [{key: one} for one in held[of][(number - first) * limit :][:limit]]}

    server.app = altered(app, path, page)
    report = reading(stream, client_ids=[client, other])

    assert report.exit_code == 0
    name = "ref_number" if stream == "jobs" else "id"
    for of, ids in held.items():
        assert {row[name] for row in reading.rows(stream, client_id=of)} == {*ids, *(["r1"] if of == client else [])}
    assert requested.count(other) <= 3


@pytest.mark.parametrize("first", [0, 1], ids=["from page 0", "from page 1, with an empty page 0"])
@pytest.mark.parametrize(("empty", "count"), [(0, 150), (1, 205), (2, 205), (3, 1700)])
def test_an_empty_page_that_is_a_failure_costs_no_row(
    reading: Reading, server: Server, app: JoveoSandbox, empty: int, count: int, first: int
) -> None:
    """
    Where no number of records is stated, an empty page is no certain end: the second reading has what is behind it.
    """
    client = client_ids(app)[0]
    failed: list[int] = []

    def page(body: Any, request: SandboxRequest) -> Any:
        query = parse_qs(request.query)
        number, limit = int(query["page"][0]), int(query["limit"][0])
        if (number == empty and not failed) or number < first:
            failed.append(number)
            return {"data": []}
        return {"data": [{"id": f"g{one}"} for one in range(count)][(number - first) * limit :][:limit]}

    server.app = altered(app, ".*/jobgroups", page)
    report = reading("job_groups", client_ids=[client])

    assert report.exit_code == 0
    assert len(reading.rows("job_groups")) == count


@pytest.mark.parametrize(
    ("summary", "most", "promised"),
    [
        # The number of a page that is the only one counts where one more page was requested: that depends on which
        # client is read first, since a page that is shorter than one seen before is the last.
        (lambda body, jobs: body["summary"], 1000, {1203, 1203 + 37}),
        (lambda body, jobs: len(jobs), 1000, {None}),
        (lambda body, jobs: len(jobs), 500, {None}),
        (lambda body, jobs: {"pages": 2}, 1000, {None}),
        (lambda body, jobs: None, 1000, {None}),
    ],
    ids=["all", "of the page", "of a capped page", "object", "absent"],
)
def test_jobs_are_whole_whatever_summary_counts(
    reading: Reading, server: Server, summary: Callable[[Any, Any], Any], most: int, promised: set[int | None]
) -> None:
    """
    No run fails and no page is lost if ``summary`` is not the number of all jobs, which is inferred.
    """
    app = JoveoSandbox(server.base_url, TODAY, jobs_per_client=(1203, 37))

    def other(request: SandboxRequest) -> SandboxResponse:
        return app(evolve(request, target=request.target.replace("limit=1000", f"limit={most}")))

    def change(body: Any, request: SandboxRequest) -> Any:
        return {"data": body["data"], "summary": summary(body, body["data"])}

    server.app = altered(other, ".*/jobs", change)
    report = reading("jobs").as_dict()

    assert report["exit_code"] == 0
    assert report["sources"]["joveo"]["streams"]["jobs"]["promised"] in promised
    for client in client_ids(app):
        assert reading.rows("jobs", client_id=client) == normal(app.truth("jobs", client))


@pytest.mark.parametrize("page_zero", ["first", "same", "refused"])
def test_jobs_are_whole_wherever_their_pages_start(
    reading: Reading, server: Server, app: JoveoSandbox, page_zero: str
) -> None:
    """
    Where no total is stated, page 0 is requested at last, so that a server that counts from it hides no job; one that
    serves page 1 instead, or refuses, has no more. A client without jobs is no failure.
    """
    app = JoveoSandbox(server.base_url, TODAY, jobs_per_client=(1203, 1000, 37, 0))

    def renumbered(request: SandboxRequest) -> SandboxResponse:
        requested = re.search(r"page=(\d+)", request.target)
        if requested is None or not request.path.endswith("/jobs") or page_zero == "refused":
            return app(request)
        number = int(requested[1]) + 1 if page_zero == "first" else max(int(requested[1]), 1)
        return app(evolve(request, target=request.target.replace(requested[0], f"page={number}")))

    server.app = altered(renumbered, ".*/jobs", lambda body, request: {"data": body["data"]})
    report = reading("jobs")

    assert report.exit_code == 0
    assert len(reading.rows("jobs")) == 1203 + 1000 + 37
    for client in client_ids(app):
        assert reading.rows("jobs", client_id=client) == normal(app.truth("jobs", client))


def test_jobs_that_do_not_agree_with_their_number_fail(reading: Reading, server: Server, app: JoveoSandbox) -> None:
    """
    A number of all jobs that is not met fails its client; so a server that counts pages from 0 is noticed.
    """
    client = client_ids(app)[0]

    def second(body: Any, request: SandboxRequest) -> Any:
        return body if "page=0" in request.query else {**body, "data": []}

    server.app = altered(app, ".*/jobs", second)
    report = reading("jobs", client_ids=[client]).as_dict()

    assert report["exit_code"] == 1
    assert "states 12 records and 0 arrived" in report["errors"][0]["message"]


def test_a_token_that_ends_between_pages_is_renewed(reading: Reading, app: JoveoSandbox) -> None:
    """
    A 403 in the middle of a run costs a login, not a row.
    """
    app.token_uses = 5

    report = reading("clients", "job_groups", "jobs", concurrency=1)

    assert report.exit_code == 0
    assert app.logins > 1
    assert all(
        reading.rows("job_groups", client_id=one) == normal(app.truth("job_groups", one)) for one in client_ids(app)
    )


@pytest.mark.parametrize("file_format", ["json", "jsonl", "csv", "json.gz", "csv.gz"])
def test_a_report_is_read_in_whatever_form_it_comes(reading: Reading, app: JoveoSandbox, file_format: str) -> None:
    """
    The form of a download is undocumented, so its content decides: the rows are the same.
    """
    app.file_format = file_format
    client, day = client_ids(app)[0], TODAY - timedelta(days=1)

    report = reading("stats", since=day, until=day, client_ids=[client])

    assert report.exit_code == 0
    assert reading.rows("stats", client_id=client) == normal(app.truth("stats", client, day)) != []


@pytest.mark.parametrize("file_format", ["json", "jsonl", "csv.gz"])
def test_days_of_a_report_come_in_the_form_that_is_configured(
    reading: Reading, server: Server, app: JoveoSandbox, file_format: str
) -> None:
    """
    Month first or day first is never guessed: without a word of it nothing is read, with it the days are right.
    """
    app.file_format = file_format
    client, since = client_ids(app)[0], date(2026, 6, 1)

    def american(request: SandboxRequest) -> SandboxResponse:
        response = app(request)
        if not request.path.startswith("/files/"):
            return response
        packed = file_format.endswith(".gz")
        body = gzip.decompress(response.body) if packed else response.body
        body = re.sub(rb"(?<![\w-])(\d{4})-(\d\d)-(\d\d)(?![\w-])", rb"\2/\3/\1", body)
        return evolve(response, body=gzip.compress(body) if packed else body)

    server.app = american
    refused = reading("stats", since=since, client_ids=[client]).as_dict()
    report = reading("stats", since=since, client_ids=[client], stats_columns={"date": "date %m/%d/%Y"})

    assert "got '06/01/2026'" in refused["errors"][0]["message"]
    assert report.exit_code == 0
    for day in (since, date(2026, 6, 6), TODAY - timedelta(days=1)):
        assert reading.rows("stats", report_date=day.isoformat()) == normal(app.truth("stats", client, day)) != []


def test_columns_that_joveo_writes_otherwise_are_named_as_they_come(
    reading: Reading, server: Server, app: JoveoSandbox
) -> None:
    """
    The names of the columns are documented nowhere: the configuration states how a declared one is written.
    """
    client, day = client_ids(app)[0], TODAY - timedelta(days=1)
    written = {"date": "reportDate", "campaignId": "Campaign Id", "clicks": "Clicks", "spend": "SPEND"}

    def otherwise(request: SandboxRequest) -> SandboxResponse:
        response = app(request)
        if not request.path.startswith("/files/"):
            return response
        body = response.body
        for member, name in written.items():
            body = re.sub(rb"(?<![\w-])%s(?![\w-])" % member.encode(), name.encode(), body)
        return evolve(response, body=body)

    app.file_format = "csv"
    server.app = otherwise
    types = {"reportDate": "date", "Campaign Id": "text", "Clicks": "integer", "SPEND": "decimal"}
    report = reading("stats", since=day, client_ids=[client], stats_columns=types)

    assert report.exit_code == 0
    assert reading.rows("stats", report_date=day.isoformat()) == normal(app.truth("stats", client, day)) != []


@pytest.mark.parametrize("id_in", ["location", "header", "json", "text"])
def test_a_report_is_found_wherever_its_id_is(reading: Reading, app: JoveoSandbox, id_in: str) -> None:
    """
    Where the answer to a submission has the report's id is not documented.
    """
    app.id_in = id_in  # type: ignore[assignment]
    client, day = client_ids(app)[0], TODAY - timedelta(days=1)

    assert reading("stats", since=day, until=day, client_ids=[client]).exit_code == 0
    assert reading.rows("stats", report_date=day.isoformat()) == normal(app.truth("stats", client, day))


def test_without_a_date_level_each_day_is_a_report(reading: Reading, app: JoveoSandbox) -> None:
    """
    A report without a day in its rows is requested day by day, and the days do not mix.
    """
    since, until = TODAY - timedelta(days=3), TODAY - timedelta(days=2)
    client = client_ids(app)[0]

    report = reading(
        "stats", since=since, until=until, client_ids=[client], aggregation_level={"primaryLevel": "CAMPAIGN"}
    )

    assert report.exit_code == 0
    windows = sorted((one["filters"]["startDate"], one["filters"]["endDate"]) for one in app.submissions)
    assert windows == [(day.isoformat(), day.isoformat()) for day in (since, until)]
    for day in (since, until):
        there = reading.rows("stats", report_date=day.isoformat())
        rows = app.truth("stats", client, day, levels=["CAMPAIGN"])
        assert there == normal([{**row, "date": day.isoformat()} for row in rows])


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%m/%d/%Y"])
def test_a_report_of_another_day_is_not_delivered(
    reading: Reading, server: Server, app: JoveoSandbox, form: str
) -> None:
    """
    Without a date level a day is what was requested. Rows that state another one are no rows of that day.
    """
    client, day = client_ids(app)[0], TODAY - timedelta(days=2)
    stated = [day]

    def dated(request: SandboxRequest) -> SandboxResponse:
        response = app(request)
        if not request.path.startswith("/files/"):
            return response
        rows = [{**row, "date": f"{stated[-1]:{form}}"} for row in json.loads(response.body)]
        return evolve(response, body=json.dumps(rows).encode())

    server.app, app.file_format = dated, "json"
    days = {"since": day, "until": day, "client_ids": [client]}
    levels = {"aggregation_level": {"primaryLevel": "CAMPAIGN"}, "stats_columns": {"date": f"date {form}"}}
    good = reading("stats", **days, **levels)
    before = reading.rows("stats")
    stated.append(day - timedelta(days=1))
    report = reading("stats", **days, **levels)

    assert (good.exit_code, report.exit_code) == (0, 1)
    assert reading.rows("stats") == before != []


def test_with_a_date_level_one_report_covers_the_retention(reading: Reading, app: JoveoSandbox) -> None:
    """
    The default window is the 60 days that Joveo keeps, in one report per client.
    """
    client = client_ids(app)[0]

    assert reading("stats", client_ids=[client]).exit_code == 0

    assert len(app.submissions) == 1
    for back in (60, 31, 1):
        day = TODAY - timedelta(days=back)
        assert reading.rows("stats", report_date=day.isoformat()) == normal(app.truth("stats", client, day))


def test_a_restated_day_is_replaced(reading: Reading, app: JoveoSandbox) -> None:
    """
    An open day is read again: changed figures change, and rows that vanished go.
    """
    client, day = client_ids(app)[0], TODAY - timedelta(days=2)
    reading("stats", since=day, client_ids=[client], aggregation_level=BY_GROUP)
    before = reading.rows("stats", report_date=day.isoformat())

    app.restate(day)
    report = reading("stats", since=day, client_ids=[client], aggregation_level=BY_GROUP)

    after = reading.rows("stats", report_date=day.isoformat())
    assert report.exit_code == 0
    assert after == normal(app.truth("stats", client, day, levels=list(BY_GROUP.values()))) != before
    assert places(before) - places(after)


def test_rows_of_no_day_replace_nothing(reading: Reading, app: JoveoSandbox) -> None:
    """
    A report whose rows have no day in the configured column fails its days; what was delivered stays.
    """
    client, day = client_ids(app)[0], TODAY - timedelta(days=2)
    reading("stats", since=day, client_ids=[client])
    before = reading.rows("stats")

    report = reading("stats", since=day, client_ids=[client], stats_columns={"statDate": "date"}).as_dict()

    assert report["exit_code"] == 1
    assert "none of" in report["errors"][0]["message"]
    assert "$[0].statDate" in report["errors"][0]["message"]
    assert reading.rows("stats") == before != []


def places(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(row["job_group_id"], row["publisher"]) for row in rows}


BY_GROUP = {"primaryLevel": "DATE", "secondaryLevel": "JOBGROUP", "tertiaryLevel": "PUBLISHER"}


def test_an_expired_link_is_requested_anew(reading: Reading, server: Server, app: JoveoSandbox) -> None:
    """
    A download that is refused because its link expired is not a refused credential: the poll gives a fresh link.
    """
    client, day = client_ids(app)[0], TODAY - timedelta(days=1)
    expired: list[str] = []

    def first_link_expires(request: Any) -> Any:
        if request.path.startswith("/files/") and not expired:
            expired.append(request.path)
            app.expire_links()
        return app(request)

    server.app = first_link_expires
    report = reading("stats", since=day, until=day, client_ids=[client])

    assert expired
    assert report.exit_code == 0
    assert app.logins == 1
    assert len(app.submissions) == 1
    assert reading.rows("stats") == normal(app.truth("stats", client, day))


def test_a_download_that_wants_credentials_refuses_none(reading: Reading, server: Server, app: JoveoSandbox) -> None:
    """
    A download is requested without credentials, so that a 401 refuses none: it fails its days, and no other stream.
    """

    def wants_credentials(request: SandboxRequest) -> SandboxResponse:
        response = app(request)
        return evolve(response, status=401) if request.path.startswith("/files/") else response

    server.app = wants_credentials
    client, day = client_ids(app)[0], TODAY - timedelta(days=1)
    report = reading("stats", "campaigns", since=day, until=day, client_ids=[client])

    assert report.exit_code == 1
    assert "HTTP 401" in report.as_dict()["errors"][0]["message"]
    assert reading.rows("campaigns")


def test_downloads_from_another_host_carry_no_credentials(reading: Reading, app: JoveoSandbox) -> None:
    """
    The files lie on a host of their own: neither key nor token is sent there.
    """
    client, day = client_ids(app)[0], TODAY - timedelta(days=1)
    with serve(app) as files:
        app.download_base = files.base_url
        report = reading("stats", since=day, until=day, client_ids=[client])
        seen = list(files.requests)

    assert report.exit_code == 0
    assert len(seen) == 2
    assert not [name for one in seen for name in one.headers if name.startswith("x-")]
    assert reading.rows("stats") == normal(app.truth("stats", client, day))


@pytest.mark.parametrize(
    ("knobs", "words", "submissions"),
    [
        ({"final_status": "FAILED"}, "failed twice", 2),
        ({"final_status": "STUCK"}, "was not ready", 1),
        ({"id_in": "nowhere"}, "without an id of the report", 1),
    ],
    ids=["failed", "never-ready", "no-id"],
)
def test_a_report_that_fails_is_named(
    reading: Reading, app: JoveoSandbox, knobs: Mapping[str, Any], words: str, submissions: int
) -> None:
    """
    A report that fails, never ends, or cannot be requested fails its partitions by name; it is no empty day.
    """
    for name, value in knobs.items():
        setattr(app, name, value)
    client, day = client_ids(app)[0], TODAY - timedelta(days=1)

    deadline_s = 0.4 if words == "was not ready" else 30.0
    report = reading("stats", since=day, until=day, client_ids=[client], poll_deadline_s=deadline_s).as_dict()

    assert report["exit_code"] == 1
    assert [error["error"] for error in report["errors"]] == ["ReportError"]
    assert words in report["errors"][0]["message"]
    assert len(app.submissions) == submissions
    assert reading.sink.rows.get("stats", {}) == {}


def test_a_state_is_reported_once(reading: Reading, app: JoveoSandbox) -> None:
    """
    A state that is not documented is noted when the report takes it, not at each poll.
    """
    app.final_status = "STUCK"
    client, day = client_ids(app)[0], TODAY - timedelta(days=1)

    reading("stats", since=day, until=day, client_ids=[client], poll_max_s=0.05, poll_deadline_s=0.5)

    reported = [str(event["message"]) for event in reading.events if event["event"] == "note"]
    assert len([message for message in reported if "STUCK" in message]) == 1


def test_a_forbidden_client_leaves_the_others_alone(reading: Reading, app: JoveoSandbox) -> None:
    """
    A client that these keys may not see fails by itself; it neither ends the run nor counts as refused credentials.
    """
    forbidden, *others = client_ids(app)
    app.forbidden_clients.add(forbidden)

    report = reading("clients", "campaigns").as_dict()

    assert report["exit_code"] == 1
    (error,) = report["errors"]
    assert (error["error"], error["partition"]) == ("RefusedError", {"client_id": forbidden})
    assert "campaigns" in error["message"]
    assert "client_ids" in error["message"]
    assert all(reading.rows("campaigns", client_id=one) == normal(app.truth("campaigns", one)) for one in others)


@pytest.mark.parametrize("key", ["api_key", "api_client_id"])
def test_wrong_keys_are_refused_credentials(reading: Reading, key: str) -> None:
    """
    A wrong key ends with exit code 3 and shows no secret.
    """
    settings: dict[str, Any] = {key: "wrong-secret-value"}

    report = reading("clients", "campaigns", **settings).as_dict()

    assert report["exit_code"] == 3
    assert "wrong-secret-value" not in str(report) + str(reading.events)
    assert "api_key" in report["errors"][0]["message"]


def test_more_jobs_than_joveo_lists_are_truncated_loudly(reading: Reading, server: Server) -> None:
    """
    Joveo lists 10,000 jobs and counts all of them: what came is delivered, and the run reports that it is not all.
    """
    server.app = app = JoveoSandbox(server.base_url, TODAY, jobs_per_client=(10_050,))

    report = reading("jobs").as_dict()

    counts = report["sources"]["joveo"]["streams"]["jobs"]
    assert len(reading.rows("jobs")) == 10_000
    assert (report["exit_code"], counts["partitions"]["delivered"]) == (1, 1)
    assert len(app.truth("jobs", client_ids(app)[0])) == 10_000


def test_a_missing_detail_is_no_failure(reading: Reading, app: JoveoSandbox) -> None:
    """
    A job that went between the listing and its detail is left out; the run goes on.
    """
    client = client_ids(app)[0]
    ref = next(iter(app.jobs[client]))
    app.fail_next(404, on=f"^GET .*/jobs/{ref}$")

    report = reading("job_details", client_ids=[client])

    assert report.exit_code == 0
    assert len(reading.rows("job_details")) == len(app.jobs[client]) - 1


def test_secrets_and_signed_links_are_never_shown(reading: Reading, app: JoveoSandbox) -> None:
    """
    Neither keys, nor the token, nor the signature of a link appears in any event of a run.
    """
    client, day = client_ids(app)[0], TODAY - timedelta(days=1)
    app.fail_next(500, 2, on="/files/")

    reading("clients", "stats", since=day, until=day, client_ids=[client])

    shown = str(reading.events)
    assert "retry" in shown
    for secret in (*map(str, (SANDBOX.settings["api_key"], SANDBOX.settings["api_client_id"])), "eyJraWQi", "%2F%2B0"):
        assert secret not in shown
