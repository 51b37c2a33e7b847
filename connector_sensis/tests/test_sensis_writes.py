"""
Events to Sensis' imitation over real HTTP: quotas, the key, the requests as they are sent.
"""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from connector_sensis.sandbox import KEY, listing_id
from imitation_sensis import SensisSandbox
from penstock import SandboxResponse
from penstock.sandbox.server import Server, serve
from write_bench import Bench, Troubled, a_bench, event, main, statuses

pytestmark = pytest.mark.slow

TODAY = date(2026, 3, 2)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as made:
        yield made
        assert made.errors == []


@pytest.fixture
def sensis(server: Server, working_directory: Path, capsys: Any) -> Bench:
    return a_bench("sensis", SensisSandbox(server.base_url, TODAY), server, working_directory, capsys)


def test_a_used_up_quota_ends_the_job_and_resume_goes_on(sensis: Bench) -> None:
    """
    The rows after it were not sent, and the message states what to do.
    """
    sensis.app.quota = 2
    name = sensis.write("e.jsonl", [event(n) for n in range(4)])

    code, receipts, output = sensis.act("sensis", "report_event", "--from", name)
    assert code == 1
    assert statuses(receipts) == ["done", "done", "refused", "refused"]
    assert "quota" in output
    sensis.app.quota = 100
    code, receipts, _ = sensis.act("sensis", "report_event", "--from", name, "--resume")

    assert (code, statuses(receipts)) == (0, ["done"] * 4)
    assert len(sensis.app.events) == 4


def test_over_queries_per_second_is_waited_out(sensis: Bench) -> None:
    """
    The gateway turned the event away, so it is sent again.
    """
    over = SandboxResponse(
        status=403, headers={"X-Mashery-Error-Code": "ERR_403_DEVELOPER_OVER_QPS", "Retry-After": "0"}, body=b"x"
    )
    sensis.server.app = Troubled(sensis.app, {0: lambda request, app: over, 1: lambda request, app: over})

    code, receipts, _ = sensis.act("sensis", "report_event", "--from", sensis.write("e.jsonl", [event(0)]))

    assert (code, statuses(receipts)) == (0, ["done"])
    assert len(sensis.app.events) == 1


def test_a_long_wait_ends_the_job(sensis: Bench) -> None:
    """
    A long wait ends the job with 4 and the time to come back; the rows that were not sent are sent by --resume.
    """
    quota = SandboxResponse(status=429, headers={"Retry-After": "36000"}, body=b"daily quota used up")
    sensis.server.app = Troubled(sensis.app, {2: lambda request, app: quota})
    name = sensis.write("e.jsonl", [event(n) for n in range(4)])

    code, receipts, output = sensis.act("sensis", "report_event", "--from", name)
    assert (code, statuses(receipts)) == (4, ["done", "done", "refused", "refused"])
    assert "daily quota used up" in output
    assert "longer than throttle_wait_s" in output
    assert ". The rest waits until then. 2 rows were not sent: --resume sends them\n" in output
    assert len(sensis.server.requests) == 3

    code, receipts, _ = sensis.act("sensis", "report_event", "--from", name, "--resume")
    assert (code, statuses(receipts)) == (0, ["done"] * 4)
    assert len(sensis.app.events) == 4


def test_a_wrong_key_ends_with_three_and_is_not_shown(sensis: Bench) -> None:
    """
    The URL that holds the key is not shown.
    """
    sensis.app.key = "another-one"

    code, receipts, output = sensis.act("sensis", "report_event", "--from", sensis.write("e.jsonl", [event(0)]))

    assert (code, statuses(receipts)) == (3, ["refused"])
    assert "The key was refused" in output
    assert KEY not in output + json.dumps(receipts)
    assert all(KEY.encode() not in file.read_bytes() for file in (sensis.folder / ".penstock").iterdir())


def test_a_row_may_have_several_ids(sensis: Bench) -> None:
    """
    Several ids of a row share a request: at most 20, and never more characters of URL than the provider takes.
    """
    ids = [event(n)["id"] for n in range(40)]
    rows = [event(0, id=ids[:20]), event(0, id=ids[:21]), event(0, id=ids[20:22], content="x"), event(0, id=ids[30:])]

    code, receipts, _ = sensis.act("sensis", "report_event", "--from", sensis.write("e.jsonl", rows))

    assert (code, statuses(receipts)) == (1, ["done", "refused", "refused", "done"])
    assert [one["id"] for one in sensis.app.events] == [*ids[:20], *ids[30:]]
    assert len(sensis.server.requests) == 2
    assert max(len(f"{sensis.server.base_url}{one.target}") for one in sensis.server.requests) <= 2000


@pytest.mark.parametrize(
    ("version", "method"), [("ob-20110511", "GET"), ("v1", "POST")], ids=["older edition", "newer edition"]
)
def test_the_version_decides_how_it_is_sent(sensis: Bench, version: str, method: str) -> None:
    """
    Parameters go in the query either way, percent-encoded.
    """
    sensis.configure("sensis", version=version, environment="prod")

    sensis.act(
        "sensis", "report_event", "event_name=dial", f"id={listing_id(1)}", "userIp=2001:db8::1", "content=+61 3"
    )

    (request,) = sensis.server.requests
    assert (request.method, request.path) == (method, f"/{version}/prod/report/dial")
    assert "content=%2B61%203" in request.query
    assert sensis.app.events[0]["content"] == "+61 3"


def test_check_records_nothing(sensis: Bench) -> None:
    """
    ``check`` looks at the configuration, records no event, and states that this is all.
    """
    assert main(["check", "sensis"], environ={}) == 0

    assert "not tried" in sensis.capture.readouterr().out
    assert sensis.server.requests == []


def test_a_source_without_streams_is_not_offered_to_be_read(sensis: Bench) -> None:
    """
    The printed configuration of a source without streams has no pipeline. The message of a run names the right command,
    and a pipeline that has it.
    """
    assert main(["init", "sensis"], environ={}) == 0
    text, _ = sensis.capture.readouterr()
    assert main(["run", "sensis", "--to", "jsonl:out"], environ={}) == 2
    _, output = sensis.capture.readouterr()

    assert "pipeline" not in text
    assert "penstock act sensis --list" in text
    assert "`penstock act sensis --list` shows what can be sent" in output
    (sensis.folder / "penstock.toml").write_text(
        f'[source.sensis]\nkey = "{KEY}"\n[pipeline.daily]\nsource = "sensis"\nsink = "jsonl:out"\n'
    )
    assert main(["run", "daily"], environ={}) == 2
    assert "penstock.toml: pipeline.daily: sensis has no streams" in sensis.capture.readouterr().err


def test_plain_http_is_allowed_with_a_notice(sensis: Bench) -> None:
    """
    The only documented address is http; the notice names it, and not the key.
    """
    (sensis.folder / "penstock.toml").write_text(f'[source.sensis]\nkey = "{KEY}"\n')

    code = main(["act", "sensis", "report_event", "--dry-run", *(f"{k}={v}" for k, v in event(0).items())], environ={})
    out, err = sensis.capture.readouterr()

    assert code == 0
    assert out.startswith("GET http://api.sensis.com.au/ob-20110511/test/report/appearance?userIp=203.0.113.7&id=")
    assert "key=***" in out
    assert "plain http" in err
    assert KEY not in out + err
