"""
Joveo's declarations by themselves: settings, endpoints, requests, judge, reports, records.
"""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from connector_joveo.actions import ACTIONS
from connector_joveo.config import JoveoSettings, day_column, stats_columns
from connector_joveo.endpoints import ENDPOINTS, endpoint, override
from connector_joveo.reports import JoveoReport
from connector_joveo.source import CONNECTOR, authenticator, judge
from connector_joveo.streams import STREAMS, CustomIdxFields, ListedJobs, ListedOrSingle
from connector_run import receipt_of
from penstock import (
    Accept,
    AuthenticationError,
    BrokenBodyError,
    Empty,
    ForbiddenError,
    Gone,
    Grant,
    ProviderError,
    Ready,
    Refuse,
    RefusedError,
    ReportError,
    Request,
    Response,
    Retry,
    Secret,
    ServerError,
    Skip,
    Slice,
    Waiting,
    columns_of,
)
from penstock.testing import verdict_on

from connector_joveo import records

FIXTURES = Path(__file__).parent / "fixtures"
NOW = datetime(2026, 6, 17, 9, tzinfo=UTC)
CLIENT = "0b24ce32-5462-9024-a397-de37da501zzz"
STREAM = {stream.name: stream for stream in STREAMS}


def settings(**given: Any) -> JoveoSettings:
    return JoveoSettings(
        base_url="https://joveo.example", api_key=Secret("key-4711"), api_client_id=Secret("api-client-4711"), **given
    )


def answer(body: Any = b"", status: int = 200, **headers: str) -> Response:
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Response(status=status, body=raw, headers=named, received_at=NOW)


def sample(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text())


def requested(name: str, using: JoveoSettings | None = None, **more: Any) -> list[Request]:
    given: dict[str, Any] = {"now": NOW, "account": CLIENT, **more}
    return list(STREAM[name].first_requests(using or settings(), Slice(**given)))


# --- what is offered --------------------------------------------------------------------------------------------------


def test_every_read_of_the_provider_is_listed() -> None:
    """
    14 collections and reports, 10 single-object reads, and 2 that are listed as not built.
    """
    built = [stream for stream in STREAMS if not stream.not_built]
    waiting = [stream.name for stream in STREAMS if stream.not_built]

    assert len(built) == 24
    assert waiting == ["stats_live", "stats_report"]
    assert len(ENDPOINTS) == 60
    assert {stream.name for stream in STREAMS} <= set(ENDPOINTS)


def test_ratios_are_never_summed() -> None:
    """
    CPC, CPA, CTA, ATH and CPH come aggregated; what they are made of may be summed.
    """
    additive = {column.name for column in columns_of(records.StatsRow) if column.additive}

    assert additive == {"impressions", "clicks", "applies", "hires", "spend"}


@pytest.mark.parametrize(
    ("file", "record"),
    [
        ("client.json", records.Client),
        ("client_status.json", records.ClientStatus),
        ("job.json", records.Job),
        ("campaign.json", records.Campaign),
        ("job_group.json", records.JobGroup),
        ("feed.json", records.Feed),
        ("publisher_posting_configs.json", records.PostingConfig),
        ("posting_config.json", records.PostingConfig),
        ("posting_config_job.json", records.PostedJob),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_records_declare_every_member_of_the_samples(file: str, record: type) -> None:
    """
    No member that the provider prints lands among the unknown ones.
    """
    members = {column.member for column in columns_of(record)}

    assert set(sample(file)) - members == set()


@pytest.mark.parametrize(
    ("stream", "file"),
    [
        ("clients", "clients.json"),
        ("jobs", "jobs.json"),
        ("campaigns", "campaigns.json"),
        ("campaign_job_groups", "campaign_job_groups.json"),
        ("job_groups", "job_groups.json"),
        ("feeds", "feeds.json"),
        ("posting_configs", "posting_configs.json"),
        ("publisher_posting_configs", "publisher_posting_configs.json"),
        ("publisher_posted_jobs", "publisher_posted_jobs.json"),
        ("posting_config_jobs", "posting_config_jobs.json"),
        ("client_metadata", "meta.json"),
        ("client_details", "client.json"),
        ("client_status", "client_status.json"),
        ("client_custom_idx_fields", "client_custom_idx_fields.json"),
        ("jobs_by_id", "jobs_bulk.json"),
        ("posting_config_job_details", "posting_config_job.json"),
    ],
)
def test_every_sample_answer_is_read_and_accepted(stream: str, file: str) -> None:
    """
    The envelope of a stream finds the items of the sample, and its judge has nothing against it.
    """
    response = answer((FIXTURES / file).read_bytes())
    envelope: Any = STREAM[stream].envelope

    read = envelope(response)

    assert read.problem is None
    assert len(read.items) == 1
    assert judge(response, read) is None


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"stats_filters": {"from": "{start}"}}, "{start} and {end}"),
        ({"stats_filters": {"from": "2026-01-01"}}, "{start} and {end}"),
        ({"stats_filters": {"from": "{start}", "to": "{end}", "at": "{today}"}}, "{start} and {end}"),
        ({"stats_filters": {"from": "{start}", "to": "{end:%Q}"}}, "'%Q' is not a date format"),
        ({"stats_filters": {"from": "{start:day}", "to": "{end}"}}, "'day' is not a date format"),
        ({"client_ids": ("c1", "")}, "one of them is empty"),
        ({"publisher_ids": (" ",)}, "one of them is empty"),
        ({"aggregation_level": {"primary": "JOB"}}, "found 'primary'; expected only primaryLevel, "),
        ({"aggregation_level": {"secondaryLevel": "JOB"}}, "primaryLevel is missing"),
        ({"aggregation_level": {"primaryLevel": "JOB", "secondaryLevel": "JOB"}}, "two equal levels"),
        ({"stats_columns": {"cost": "money"}}, "expected one of text"),
        ({"stats_columns": {"clicks": "integer %d"}}, "expected one of text"),
        ({"stats_columns": {"statDay": "date %d/%m"}}, "does not give day, month and year"),
        ({"stats_columns": {"statDay": "date dd/mm/yyyy"}}, "does not give day, month and year"),
        ({"stats_columns": {"clicks": "date %d/%m/%Y"}}, "declared already, as integer"),
        ({"stats_columns": {"aB": "text", "a_b": "text"}}, "both be the column a_b"),
        ({"stats_columns": {"clicks": "text"}}, "declared already, as integer"),
        ({"endpoints": {"client": "GET /clients"}}, 'Did you mean "clients"'),
        ({"endpoints": {"clients": "FETCH /clients"}}, "found the method 'FETCH'"),
        ({"endpoints": {"clients": {"path": "clients"}}}, "begins with /"),
        ({"endpoints": {"clients": {"url": "/clients"}}}, "expected { method"),
        ({"endpoints": {"job_details": {"path": "/jobs/{ref}"}}}, "names ref"),
        ({"endpoints": {"jobs": {"path": "/jobs"}}}, "lacks {client_id}"),
        ({"endpoints": {"job_details": "GET /jobs/{client_id}"}}, "lacks {job_reference}"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: Mapping[str, Any], words: str) -> None:
    """
    A template without days would request the same for each day; levels, columns and paths are checked
    before any request.
    """
    with pytest.raises(ValueError, match=words.replace("{", r"\{").replace("}", r"\}")):
        settings(**given)


def test_a_template_takes_the_days_in_the_form_it_names() -> None:
    """
    ISO unless a form follows; every other value stays as it is.
    """
    filters = {"range": ["{start}", "{end:%m/%d/%Y}"], "deep": {"n": 1, "text": "from {start} on { today }"}}
    using = settings(stats_filters=filters, aggregation_level={"primaryLevel": "JOB"})

    (request,) = requested("stats", using, days=(date(2026, 3, 1), date(2026, 3, 9)))

    assert json.loads(request.body or b"")["filters"] == {
        "range": ["2026-03-01", "03/09/2026"],
        "deep": {"n": 1, "text": "from 2026-03-01 on { today }"},
    }


@pytest.mark.parametrize(
    ("levels", "columns", "day", "days"),
    [
        ({"primaryLevel": "CAMPAIGN"}, {}, None, 1),
        ({"primaryLevel": "CAMPAIGN", "secondaryLevel": "DATE"}, {}, "date", 60),
        ({"primaryLevel": "statsDay"}, {"eventDay": "date"}, "event_day", 60),
        ({"primaryLevel": "statsDay"}, {"at": "datetime", "eventDay": "date %d.%m.%Y"}, "event_day", 60),
        ({"primaryLevel": "DATE"}, {"reportDate": "date"}, "date", 60),
    ],
    ids=["no-date", "date", "own-column", "own-form", "named-as-the-partition"],
)
def test_a_date_level_decides_how_days_are_requested(
    levels: dict[str, str], columns: dict[str, str], day: str | None, days: int
) -> None:
    """
    With the day in its rows one report covers the retention; without it, a report is a day.
    """
    using = settings(aggregation_level=levels, stats_columns=columns)
    per_request: Any = STREAM["stats"].days_per_request

    assert day_column(using) == day
    assert per_request(using) == days


def test_declared_columns_join_those_of_the_record_class() -> None:
    """
    A further member becomes a column; one that is known with the same type is not made twice, but may be written
    otherwise or have a form of its own.
    """
    given = {"hires": "integer", "costPerStart": "decimal", "firstDay": "date %d/%m/%Y", "Date": "date %m/%d/%Y"}
    using = settings(stats_columns={**given, "Spend ($)": "decimal"})

    assert [(one.name, one.member, one.type, one.format) for one in stats_columns(using)] == [
        ("hires", "hires", "integer", ""),
        ("cost_per_start", "costPerStart", "decimal", ""),
        ("first_day", "firstDay", "date", "%d/%m/%Y"),
        ("date", "Date", "date", "%m/%d/%Y"),
        ("spend", "Spend ($)", "decimal", ""),
    ]


@pytest.mark.parametrize("output", ["PATCH /v2/{client_id}/x", {"method": "patch", "path": "/v2/{client_id}/x"}])
def test_an_endpoint_can_be_corrected(output: Any) -> None:
    """
    Method and path of the configuration take the place of the assumed ones, in either form.
    """
    assert endpoint({"pause_client": output}, "pause_client") == ("PATCH", "/v2/{client_id}/x")
    assert override("clients", {"path": "/v2/clients"}) == ("GET", "/v2/clients")


# --- requests ---------------------------------------------------------------------------------------------------------


def test_the_token_goes_bare() -> None:
    """
    The login carries the API client's id; calls carry the token, without ``Bearer``.
    """
    signer = authenticator(settings())
    login = signer.grant_request()
    assert login is not None
    signed = signer.sign(Request(url="https://joveo.example/clients"), NOW, Grant(Secret("token-1"), 60))

    assert (login.method, login.url) == ("POST", "https://joveo.example/oauth/token")
    assert json.loads(login.body or b"") == {"client_id": "api-client-4711"}
    assert dict(signed.headers) == {"x-authorization-key": "token-1"}
    assert signer.read_grant(answer((FIXTURES / "access_token.json").read_bytes())).life_s == 86400


@pytest.mark.parametrize(
    ("stream", "more", "line", "stamped"),
    [
        ("clients", {"account": None}, "GET /clients", {}),
        ("jobs", {}, f"GET /clients/{CLIENT}/jobs", {}),
        ("client_metadata", {}, "GET /meta", {}),
        (
            "campaign_job_groups",
            {"parents": ({"id": "c1"},)},
            f"GET /clients/{CLIENT}/campaigns/c1/jobgroups",
            {"campaign_id": "c1"},
        ),
        (
            "posting_config_jobs",
            {"parents": ({"id": "x1", "placement": "P 1"},)},
            f"GET /clients/{CLIENT}/publishers/P%201/configs/x1/jobs",
            {"publisher_id": "P 1", "config_id": "x1"},
        ),
        (
            "job_details",
            {"parents": ({"ref_number": "r/1"},)},
            f"GET /clients/{CLIENT}/jobs/r%2F1",
            {"ref_number": "r/1"},
        ),
        (
            "job_group_details",
            {"parents": ({"campaign_id": "c1", "id": "g1"},)},
            f"GET /clients/{CLIENT}/campaigns/c1/jobgroups/g1",
            {"campaign_id": "c1", "id": "g1"},
        ),
        ("client_status", {}, f"GET /clients/{CLIENT}/status", {}),
    ],
)
def test_requests_name_what_they_are_about(
    stream: str, more: Mapping[str, Any], line: str, stamped: Mapping[str, str]
) -> None:
    """
    Path parameters are filled from the account and the parent row, and stamped where the records lack them.
    """
    (request,) = requested(stream, **more)
    of_client = {} if stream == "clients" else {"client_id": CLIENT}

    assert f"{request.method} {request.url}" == line.replace(" /", " https://joveo.example/", 1)
    assert dict(request.columns) == {**of_client, **stamped}


def test_the_metadata_and_the_reports_name_the_client_in_a_header() -> None:
    """
    Operations 49 to 57 take the client from ``x-client-id``.
    """
    using = settings(stats_filters={"a": "{start}", "b": "{end}"}, aggregation_level={"primaryLevel": "JOB"})
    days = (date(2026, 6, 1), date(2026, 6, 2))

    for name in ("client_metadata", "stats", "ip_report"):
        (request,) = requested(name, using, days=days)
        assert dict(request.headers)["x-client-id"] == CLIENT


def test_jobs_are_looked_up_together() -> None:
    """
    One request holds many ids, in the body, and the client in the query; a job with another id is no answer to it.
    """
    (request,) = requested("jobs_by_id", parents=({"job_id": "a"}, {"job_id": "b"}))

    assert (request.method, request.full_url) == ("POST", f"https://joveo.example/jobs?client_id={CLIENT}")
    assert json.loads(request.body or b"") == ["a", "b"]
    assert request.columns["job_id"] == {"a", "b"}


def test_a_report_is_requested_for_its_days() -> None:
    """
    The templates of the configuration, filled; the address report never names a call-back URL.
    """
    using = settings(stats_filters={"from": "{start}", "to": "{end}"}, aggregation_level={"primaryLevel": "JOB"})
    days = (date(2026, 6, 1), date(2026, 6, 2))
    window = {"from": "2026-06-01", "to": "2026-06-02"}
    (stats,) = requested("stats", using, days=days)
    (ips,) = requested("ip_report", using, days=days)

    assert json.loads(stats.body or b"") == {"filters": window, "aggregationLevel": {"primaryLevel": "JOB"}}
    assert json.loads(ips.body or b"") == {"filterBy": window}


def test_the_publisher_report_is_requested_per_configured_client() -> None:
    """
    The family is the account; each configured client is a report of its own, no configured client is one for all.
    """
    family = "6576baba5c2baf7cdd5b552a"
    one = requested("publisher_report", settings(publisher_family_id=family), account=family)
    two = requested("publisher_report", settings(publisher_family_id=family, client_ids=("a", "b")), account=family)

    assert [json.loads(request.body or b"").get("clientId") for request in one + two] == [None, "a", "b"]
    assert set(json.loads(two[0].body or b"")) == set(sample("request_publisher_report.request.json"))
    assert two[1].columns == {"client_id": "b", "publisher_family_id": family, "period": "LAST_30_DAYS"}


@pytest.mark.parametrize("empty", [None, ""])
def test_a_parent_that_cannot_be_named_is_an_error(empty: str | None) -> None:
    """
    A config without a placement has no path, and the jobs of one that is passed over would be missing.
    """
    parent = STREAM["posting_config_jobs"].parent
    assert parent is not None

    assert list(parent.links({"id": "x", "placement": "p"})) == [{"id": "x", "placement": "p"}]
    with pytest.raises(ProviderError, match="row with id x has no placement"):
        parent.links({"id": "x", "placement": empty})


# --- the judge --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "stream", "verdict", "error"),
    [
        (answer({"message": "Unauthorized"}, 401), "clients", Refuse, AuthenticationError),
        (answer({"message": "Forbidden"}, 403), "clients", Retry, ForbiddenError),
        (answer({"message": "Forbidden"}, 403), "campaigns", Retry, RefusedError),
        (answer({"message": "gone"}, 404), "clients", Refuse, RefusedError),
        (answer({"message": "gone"}, 404), "campaign_details", Skip, None),
        (answer({"success": False, "message": "nope"}), "clients", Refuse, RefusedError),
        (answer({"result": False, "message": "nope"}), "clients", Refuse, RefusedError),
        (answer({"statusCode": 400, "body": "nope"}), "clients", Refuse, RefusedError),
        (answer({"statusCode": 503, "body": "nope"}), "clients", Retry, ServerError),
        (answer({"statusCode": 200, "body": "fine"}), "clients", Accept, None),
        (answer({"result": "A", "message": "Status fetched successfully"}), "clients", Accept, None),
        (answer({"message": "bad"}, 400), "clients", Refuse, RefusedError),
        (answer(b"<html>", 502), "clients", Retry, ServerError),
        (answer(b"NO_CONTENT", 202), "clients", Accept, None),
        (answer(b"[]"), "clients", Accept, None),
        (answer(b"{" * 5000), "clients", Accept, None),
    ],
    ids=lambda value: f"{value.status}-{value.text(30)}" if isinstance(value, Response) else "",
)
def test_answers_are_judged(response: Response, stream: str, verdict: type, error: type[Exception] | None) -> None:
    """
    401 and flags in the body are final, 403 costs a new token, a missing detail is skipped; the rest is for the status.
    """
    found = verdict_on(response, CONNECTOR, attrs.evolve(STREAM[stream], envelope=None))

    assert type(found) is verdict
    if isinstance(found, (Refuse, Retry)):
        assert type(found.error) is error
        assert f"HTTP {response.status}" in str(found.error)
    if isinstance(found, Retry):
        assert found.renew is (response.status == 403)


def test_a_wrong_path_names_the_setting_that_corrects_it() -> None:
    """
    Paths are assumed, so a 404 of a listing names the operation in ``endpoints``.
    """
    found = verdict_on(answer({"message": "gone"}, 404), CONNECTOR, STREAM["campaigns"])

    assert isinstance(found, Refuse)
    assert "HTTP 404: gone. " in str(found.error)
    assert "endpoints.campaigns" in str(found.error)


@pytest.mark.parametrize(("body", "status"), [(b'{"message": "no route"}', 404), (b"<html>log in</html>", 200)])
def test_a_wrong_path_of_the_token_names_the_setting_that_corrects_it(body: bytes, status: int) -> None:
    """
    The path of the token is assumed, too: a login that nothing serves names it.
    """
    with pytest.raises(ProviderError, match=r"check base_url, and endpoints\.token"):
        authenticator(settings()).read_grant(answer(body, status))


@pytest.mark.parametrize(
    ("action", "body", "unknown"),
    [
        ("send_s2s_event", b'{"statusCode": 200, "body": "taken"}', False),
        ("send_s2s_event", b'{"errorMessage": "Task timed out after 3.00 seconds"}', True),
        ("send_s2s_event", b'{"message": "Forbidden"}', True),
        ("send_s2s_event", b'{"statusCode": null}', True),
        ("send_s2s_event", b"[]", True),
        ("send_s2s_event", b"", True),
        ("update_candidate_status", b'{"success": true}', False),
        ("update_candidate_status", b"{}", True),
        ("pause_client", b'{"result": true, "message": "Client paused"}', False),
        ("pause_client", b'{"result": false}', False),
        ("pause_client", b'{"success": false}', False),
        ("pause_client", b"{}", True),
        ("create_job", b'{"result": "e13cd1d4", "message": "Job created"}', False),
        ("create_job", b'{"message": "Endpoint request timed out"}', True),
        ("create_job", b'"Service unavailable"', True),
        ("create_job", b"[]", True),
    ],
    ids=lambda value: value.decode()[:30] if isinstance(value, bytes) else None,
)
def test_a_write_without_a_word_of_its_outcome_is_unknown(action: str, body: bytes, unknown: bool) -> None:
    """
    Where the page shows the outcome in the body, a good status alone is that of a gateway before it.
    """
    declared = next(one for one in ACTIONS if one.name == action)

    receipt = receipt_of(CONNECTOR, declared, answer(body))

    assert (receipt.status == "unknown") is unknown


def test_the_member_that_refuses_is_named() -> None:
    """
    A refusal is quoted from the member that states it, not from the first member with any text.
    """
    found = judge(answer({"success": True, "result": False}), None)

    assert isinstance(found, Refuse)
    assert "the body states result false" in str(found.error)


def test_a_failure_is_seen_where_the_envelope_read_it() -> None:
    """
    ``success: false`` beside an empty list is no empty list.
    """
    response = answer({"success": False, "campaigns": [], "message": "no right"})
    found = verdict_on(response, CONNECTOR, STREAM["client_metadata"])

    assert isinstance(found, Refuse)
    assert "no right" in str(found.error)


# --- reports ----------------------------------------------------------------------------------------------------------

REPORT = JoveoReport(settings=settings(), operation="stats")
UUID = "eba6971f-4880-4f05-bfbf-a308e30084ea"


@pytest.mark.parametrize(
    ("response", "handle"),
    [
        (answer("NO_CONTENT", 202, location=f"/stats/reports/{UUID}/status"), UUID),
        (answer("NO_CONTENT", 202, location=f"https://x.example/r/{UUID}?a=1"), UUID),
        (answer("NO_CONTENT", 202, content_location=f"/r/{UUID}"), UUID),
        (answer("NO_CONTENT", 202, x_task_id="T-17"), "T-17"),
        (answer({"taskId": "T-17", "id": "other1"}), "T-17"),
        (answer({"success": True, "reportId": UUID}), UUID),
        (answer({"result": UUID, "message": "ok"}), UUID),
        (answer({"data": {"report_id": 17}}), "17"),
        (answer(json.dumps(UUID)), UUID),
        (answer(UUID, 201), UUID),
        (answer("NO_CONTENT", 202, x_request_id="R-1", taskid="T-2"), "T-2"),
        (answer("NO_CONTENT", 202, x_request_id="R-1"), "R-1"),
        (answer("NO_CONTENT", 202, x_amzn_requestid="A-1", request_id="R-1"), "R-1"),
    ],
)
def test_the_id_of_a_report_is_found(response: Response, handle: str) -> None:
    """
    The id of a report is found in a header that locates it, one named after it, the body, or, at last, it is the id of
    the request.
    """
    assert REPORT.handle(response) == handle


@pytest.mark.parametrize(
    "response",
    [
        answer("NO_CONTENT", 202, server="x"),
        answer({}, server="x"),
        answer({"result": True}, server="x"),
        answer("OK", server="x"),
        answer("Report 17 was created", server="x"),
        answer(b"", 204, server="x", x_amzn_requestid="R-1"),
    ],
    ids=["NO_CONTENT", "object", "flag", "OK", "sentence", "the gateway's own id"],
)
def test_a_submission_without_an_id_names_the_headers_of_its_answer(response: Response) -> None:
    """
    The message names the headers, for a question to the provider.
    """
    with pytest.raises(ReportError, match=r"without an id of the report.*headers were server"):
        REPORT.handle(response)


@pytest.mark.parametrize(
    ("response", "age_s", "state"),
    [
        (answer({"status": "SUCCESS", "location": ["https://f.example/1", "https://f.example/2"]}), 9, Ready),
        (answer({"status": "SUCCESS", "location": "https://f.example/1"}), 9, Ready),
        (answer({"status": "SUCCESS", "location": [{"url": "https://f.example/1"}]}), 9, Ready),
        (answer({"status": "success", "url": "https://f.example/1"}), 9, Ready),
        (answer((FIXTURES / "poll_stats_report.json").read_bytes()), 9, Gone),
        (answer((FIXTURES / "poll_stats_report_no_records.synthetic.json").read_bytes()), 9, Empty),
        (answer({"status": "FAILED"}), 9, Gone),
        (answer({"status": "EXPIRED"}), 9, Gone),
        (answer({"status": "IN_PROGRESS", "location": []}), 9, Waiting),
        (answer({"status": "BAKING"}), 9, Waiting),
        (answer({}), 9, Waiting),
        (answer({"message": "no"}, 404), 59, Waiting),
        (answer({"message": "no"}, 404), 61, Gone),
    ],
)
def test_states_of_a_report(response: Response, age_s: float, state: type) -> None:
    """
    Only the provider's own word for it is an empty report; a success without a file is none.
    """
    assert type(REPORT.state(response, age_s)) is state


@pytest.mark.parametrize(
    ("word", "note"),
    [("baking", "status BAKING"), ("running", ""), ("In Progress", ""), ("QUEUED", ""), ("", "status missing")],
)
def test_an_unknown_state_is_named(word: str, note: str) -> None:
    """
    Any word but those that end a report is waited for; an unexpected one is a note.
    """
    assert REPORT.state(answer({"status": word}), 9) == Waiting(note)


@pytest.mark.parametrize("body", [b'{"taskId": "17', b'{"taskId": "\xff17"}', b"<html>", b"NO_CON"])
def test_a_broken_answer_to_a_submission_is_requested_again(body: bytes) -> None:
    """
    A body that was cut, or is no UTF-8, does not show where the id is.
    """
    with pytest.raises(BrokenBodyError, match=r"submission of stats .* check base_url and endpoints\.stats"):
        REPORT.handle(answer(body, server="x"))


def test_a_poll_that_is_no_object_is_an_error() -> None:
    """
    A page of HTML is neither ready nor waiting.
    """
    with pytest.raises(BrokenBodyError, match="no JSON object"):
        REPORT.state(answer("<html>"), 9)


def test_no_records_and_a_link_contradict_each_other() -> None:
    """
    The file behind the link may hold records.
    """
    with pytest.raises(BrokenBodyError, match="NO_RECORDS_FOUND and a location"):
        REPORT.state(answer({"status": "NO_RECORDS_FOUND", "location": ["https://f.example/a"]}), 9)


def test_links_are_fetched_bare_and_shown_masked() -> None:
    """
    Each link once, in order, without credentials; its query, which may be a signature, is not shown.
    """
    links = ["https://f.example/b?X-Amz-Signature=a%2Bb%2Fc%3D&n=1", "https://f.example/a", "https://f.example/a"]
    state = REPORT.state(answer({"status": "SUCCESS", "location": links}), 9)
    assert isinstance(state, Ready)
    first, second = state.downloads

    assert (first.full_url, second.full_url) == (links[0], links[1])
    assert not first.credentials
    assert str(first) == "GET https://f.example/b?X-Amz-Signature=***&n=***"


def test_a_file_listed_twice_by_other_signatures_is_fetched_once() -> None:
    """
    Files that differ in another parameter are two.
    """
    signed = "https://f.example/a?part={}&X-Amz-Date=20260301T0000{}Z&X-Amz-Signature={}"
    links = [signed.format(1, "00", "s1"), signed.format(1, "01", "s2"), signed.format(2, "01", "s3")]
    state = REPORT.state(answer({"status": "SUCCESS", "location": links}), 9)

    assert isinstance(state, Ready)
    assert [download.full_url for download in state.downloads] == links[1:]


@pytest.mark.parametrize(
    ("links", "files"),
    [
        (["https://f.example/a?st=0", "https://f.example/a?st=1000"], 2),
        (["https://f.example/a?st=0&se=5&sig=x", "https://f.example/a?st=1&se=6&sig=y"], 1),
    ],
    ids=["st is a part", "st is Azure's"],
)
def test_a_short_parameter_belongs_to_a_signature_only_beside_one(links: list[str], files: int) -> None:
    """
    A file that differs in it would otherwise not be fetched, and its rows would be missing.
    """
    state = REPORT.state(answer({"status": "SUCCESS", "location": links}), 9)

    assert isinstance(state, Ready)
    assert len(state.downloads) == files


@pytest.mark.parametrize(
    "named",
    [
        {"location": ["https://f.example/a?signed=1"], "url": "https://f.example/a?signed=2"},
        {"location": [{"url": "https://f.example/a?signed=1", "downloadUrl": "https://f.example/a?signed=2"}]},
        {"location": [], "url": "https://f.example/a?signed=1", "link": "https://f.example/a?signed=2"},
    ],
    ids=["beside location", "in one object", "without location"],
)
def test_a_file_that_is_named_twice_is_fetched_once(named: Mapping[str, Any]) -> None:
    """
    Links under several names are to the same file, as several links under one name are to its parts.
    """
    state = REPORT.state(answer({"status": "SUCCESS", **named}), 9)

    assert isinstance(state, Ready)
    assert [one.full_url for one in state.downloads] == ["https://f.example/a?signed=1"]


def test_the_poll_names_the_same_client() -> None:
    """
    The poll names the report in its path and the client as the submission did.
    """
    using = settings(stats_filters={"a": "{start}", "b": "{end}"}, aggregation_level={"primaryLevel": "JOB"})
    (submitted,) = requested("stats", using, days=(date(2026, 6, 1),))

    poll = JoveoReport(settings=using, operation="stats").poll(submitted, "T/1")

    assert (poll.method, poll.url) == ("GET", "https://joveo.example/stats/reports/T%2F1/status")
    assert poll.headers == (("x-client-id", CLIENT),)
    assert poll.body is None


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jobs", "summary", "total"),
    [
        (2, 5, 5),
        (2, "5", 5),
        (0, 5, 5),
        (0, 0, None),
        (2, 2, None),
        (2, 1, None),
        (2, None, None),
        (2, {"total": 5}, None),
        (2, True, None),
        (2, "5 jobs", None),
        (2, "9" * 5000, None),
    ],
    ids=[
        "more",
        "in text",
        "page after the last",
        "none",
        "the page's own",
        "less",
        "null",
        "object",
        "flag",
        "words",
        "beyond all",
    ],
)
def test_summary_counts_all_jobs_only_where_it_can(jobs: int, summary: Any, total: int | None) -> None:
    """
    A number above the page's own is the number of all jobs, which must arrive; anything else is no statement.
    """
    body = {"data": [{"refNumber": str(number)} for number in range(jobs)], "summary": summary}

    read = ListedJobs()(answer(body))

    assert (read.problem, read.total) == (None, total)


@pytest.mark.parametrize(
    ("body", "form"),
    [({"id": "1"}, "object"), ([{"id": "1"}], "array"), ({"data": [{"id": "1"}]}, "array")],
    ids=["object", "array", "data"],
)
def test_an_unpaged_list_comes_in_three_forms(body: Any, form: str) -> None:
    """
    A list without pages is one object, an array, or the usual envelope.
    """
    (items,) = ListedOrSingle()(answer(body)).items

    assert items.format == form


def test_idx_fields_become_one_item_each() -> None:
    """
    The map's entries, in its order.
    """
    (items,) = CustomIdxFields()(answer((FIXTURES / "client_custom_idx_fields.json").read_bytes())).items

    assert [tuple(item.values()) for item in json.loads(bytes(items.raw))] == [
        ("external-data", "cif1"),
        ("day", "cif2"),
        ("cpc", "cif3"),
    ]


@pytest.mark.parametrize("body", [b"[]", b"<html>", b'{"a": "b"'])
def test_idx_fields_that_are_no_map_are_broken(body: bytes) -> None:
    """
    Anything but an object is no answer.
    """
    with pytest.raises(BrokenBodyError):
        CustomIdxFields()(answer(body))


def test_idx_fields_of_another_shape_are_a_problem() -> None:
    """
    A member that is no text is named; a failure in the body reaches the judge.
    """
    read = CustomIdxFields()(answer({"success": False, "message": "no"}))

    assert read.problem is not None
    assert "success" in read.problem
    assert isinstance(judge(answer(b"{}"), read), Refuse)


def test_secrets_do_not_print() -> None:
    """
    Neither settings nor the login show what they hold.
    """
    shown = repr(settings()) + repr(authenticator(settings())) + str(attrs.asdict(settings(), recurse=False))

    assert "4711" not in shown


def test_the_check_is_one_cheap_read() -> None:
    """
    ``penstock check`` reads a single client.
    """
    assert CONNECTOR.check is not None
    request = CONNECTOR.check(settings(), Slice(now=NOW))

    assert request.full_url == "https://joveo.example/clients?page=1&limit=1"
