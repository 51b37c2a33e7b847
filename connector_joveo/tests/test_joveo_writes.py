"""
Writes to Joveo's imitation over real HTTP: each action, refusals, tokens, and what may be repeated.
"""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from connector_joveo.actions import ACTIONS
from imitation_joveo import JoveoSandbox
from penstock.sandbox.server import Server, serve
from write_bench import UNKNOWN, Bench, Trouble, Troubled, a_bench, client_of, statuses

pytestmark = pytest.mark.slow

TODAY = date(2026, 3, 2)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as made:
        yield made
        assert made.errors == []


@pytest.fixture
def joveo(server: Server, working_directory: Path, capsys: Any) -> Bench:
    return a_bench("joveo", JoveoSandbox(server.base_url, TODAY), server, working_directory, capsys, allow_writes=True)


def test_create_update_pause_enable_change_the_provider(joveo: Bench) -> None:
    """
    The receipt has the id of what was made; nested values and exact numbers arrive as they were given.
    """
    client = client_of(joveo)

    _, (made,), _ = joveo.act(
        *(
            "joveo",
            "create_job",
            f"client_id={client}",
            "ref_number=a/1",
            "title=Café",
            'additionalFields={"x": [1.50]}',
        )
    )
    place = (f"client_id={client}", "job_reference=a/1")
    assert made["status"] == "done"
    assert made["answer"]["result"] == joveo.app.jobs[client]["a/1"]["jobId"]
    assert joveo.act("joveo", "update_job", *place, "zip=01234")[0] == 0
    assert joveo.act("joveo", "pause_job", *place)[0] == 0

    job = joveo.app.jobs[client]["a/1"]
    assert (job["title"], job["zip"], job["status"]) == ("Café", "01234", "PAUSED")
    assert b'"additionalFields":{"x":[1.50]}' in joveo.server.requests[1].body
    assert joveo.act("joveo", "enable_job", *place)[0] == 0
    assert job["status"] == "ACTIVE"


@pytest.mark.large
def test_every_write_of_the_page_reaches_the_provider(joveo: Bench) -> None:
    """
    Each built action, with sensible parameters, is understood by an imitation written from the page.
    """
    client = client_of(joveo)
    app = joveo.app
    campaign, (_, group) = next(iter(app.campaigns[client])), next(iter(app.job_groups[client]))
    feed, config = next(iter(app.feeds[client])), next(iter(app.configs[client]))
    publisher = app.configs[client][config]["placement"]
    reference = next(iter(app.jobs[client]))
    day = "01/31/2027"
    own = {"client_id": client}
    in_campaign = {**own, "campaign_id": campaign}
    in_group = {**in_campaign, "jobgroup_id": group}
    at_config = {**own, "publisher_id": publisher, "config_id": config}
    job = {**own, "job_reference": reference}
    posting = {"cost": "1.10", "end_date": "x", "available_count": "1", "job_duration": "2"}
    dates = {"start_date": day, "end_date": day}
    calls: list[tuple[str, dict[str, str]]] = [
        ("create_client", {"company_name": "A", "exported_name": "a", "time_zone": "UTC", "client_type": "x", **dates}),
        ("update_client", {**own, "budget": '{"value": 1}'}),
        ("pause_client", own),
        ("enable_client", own),
        ("create_job", {**own, "ref_number": "n", "title": "t"}),
        ("update_job", {**job, "title": "u"}),
        ("pause_job", job),
        ("enable_job", job),
        ("add_posting_jobs", {**own, "config_id": config, "body": json.dumps([reference])}),
        ("delete_job", job),
        ("create_campaign", {**own, "name": "c", **dates}),
        ("update_campaign", {**in_campaign, "caps": "{}"}),
        ("pause_campaign", in_campaign),
        ("enable_campaign", in_campaign),
        ("create_job_group", {**in_campaign, "name": "g", "cpc_bid": "0.12", **dates}),
        ("update_job_group", {**in_group, "cpa_bid": "0.22"}),
        ("pause_job_group", in_group),
        ("enable_job_group", in_group),
        ("delete_job_group", in_group),
        ("delete_campaign", in_campaign),
        ("create_feed", {**own, "xml_feed_url": "https://x.example/f.xml", "schema_mappings": '{"a": "b"}'}),
        ("update_feed", {**own, "feed_id": feed, "body": '{"schemaMappings": {}}'}),
        ("delete_feed", {**own, "feed_id": feed}),
        (
            "create_posting_config",
            {**own, "publisher_id": publisher, **posting, "start_date": "x", "date_format": "y"},
        ),
        ("update_posting_config", {**at_config, "cost": "2"}),
        ("delete_posting_config", at_config),
        ("update_candidate_status", {**own, "job_application_id": "1", "candidate_status": "hired"}),
        ("send_s2s_event", {**own, "click_id": "k", "a": "3"}),
        ("delete_client", own),
    ]

    failed = [
        (name, output)
        for name, values in calls
        if (output := joveo.act("joveo", name, *(f"{key}={value}" for key, value in values.items()), "--yes"))[0] != 0
    ]

    assert failed == []
    built = {action.name for action in ACTIONS if not action.not_built}
    assert {name for name, _ in calls} == built


def test_candidates_of_one_client_share_a_request(joveo: Bench) -> None:
    """
    The body is a list; rows of another client go to that client; a list given as body is a row of its own.
    """
    first, second = list(joveo.app.clients)[:2]
    rows: list[dict[str, Any]] = [
        {"client_id": first if n % 2 else second, "jobApplicationId": f"a{n}", "candidateStatus": "hired"}
        for n in range(6)
    ]
    rows.append(
        {"client_id": first, "body": [{"job_application_id": "b", "candidateStatus": "x", "details": {"y": 1}}]}
    )

    code, receipts, _ = joveo.act("joveo", "update_candidate_status", "--from", joveo.write("c.jsonl", rows))

    assert (code, statuses(receipts)) == (0, ["done"] * 7)
    bodies = [json.loads(request.body) for request in joveo.server.requests if request.path == "/funnel/candidates"]
    assert [len(body) for body in bodies] == [3, 4]
    assert bodies[1][-1] == {"jobApplicationId": "b", "candidateStatus": "x", "details": {"y": 1}}


@pytest.mark.parametrize(
    ("rows", "reported"),
    [
        ({"click_id": "k", "a": "9"}, "expected one of 1, 2, 3"),
        ({"click_id": "", "a": "1"}, "clickId and a"),
    ],
    ids=["before sending", "in a body under 200"],
)
def test_a_refusal_in_the_body_is_a_refusal(joveo: Bench, rows: dict[str, Any], reported: str) -> None:
    """
    The provider answers 200 with a refusal in the body.
    """
    name = joveo.write("s.jsonl", [{"client_id": client_of(joveo), **rows}])

    code, receipts, _ = joveo.act("joveo", "send_s2s_event", "--from", name)

    assert (code, statuses(receipts)) == (1, ["refused"])
    assert reported in receipts[0]["reason"]
    assert joveo.app.events == []


def test_a_token_that_ran_out_is_renewed_once(joveo: Bench) -> None:
    """
    403 captured nothing, so the write goes again with a new token; a client out of reach is refused, the next one not.
    """
    clients = list(joveo.app.clients)
    joveo.app.token_uses = 2
    joveo.app.forbidden_clients = {clients[1]}
    rows = [{"client_id": client} for client in (clients[0], clients[0], clients[0], clients[1], clients[2])]

    code, receipts, _ = joveo.act("joveo", "pause_client", "--from", joveo.write("p.jsonl", rows))

    assert code == 1
    assert statuses(receipts) == ["done", "done", "done", "refused", "done"]
    assert "client_id" in receipts[3]["reason"]
    assert joveo.app.status[clients[2]] == "P"


@pytest.mark.parametrize("trouble", UNKNOWN, ids=lambda one: one.__name__)
def test_repeatable_writes_of_unknown_outcome_are_tried_again(joveo: Bench, trouble: Trouble) -> None:
    """
    To pause or to delete twice is the same as once, so an unknown outcome is tried again; to create is not.
    """
    client = client_of(joveo)
    reference = next(iter(joveo.app.jobs[client]))
    place = (f"client_id={client}", f"job_reference={reference}")

    def troubled(*arguments: str) -> dict[str, Any]:
        joveo.server.app = Troubled(joveo.app, {1: trouble})  # 0 is the login
        (receipt,) = joveo.act("joveo", *arguments)[1]
        return receipt

    assert troubled("pause_job", *place)["status"] == "done"
    assert joveo.app.jobs[client][reference]["status"] == "PAUSED"
    assert troubled("delete_job", *place, "--yes")["status"] == "done"
    assert reference not in joveo.app.jobs[client]
    assert troubled("create_job", f"client_id={client}", "ref_number=new", "title=t")["status"] == "unknown"


def test_an_endpoint_of_the_configuration_is_used(joveo: Bench) -> None:
    """
    Joveo's paths are assumed; the setting that corrects them corrects writes too.
    """
    joveo.configure("joveo", allow_writes=True)
    with (joveo.folder / "penstock.toml").open("a") as file:
        file.write('endpoints = { pause_client = { method = "PATCH", path = "/v2/{client_id}/off" } }\n')

    code, receipts, _ = joveo.act("joveo", "pause_client", "client_id=a b")

    assert (code, statuses(receipts)) == (1, ["refused"])
    assert (joveo.server.requests[-1].method, joveo.server.requests[-1].path) == ("PATCH", "/v2/a%20b/off")
