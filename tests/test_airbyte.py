"""
``penstock airbyte``: the messages of each verb, without Airbyte. PyAirbyte and the CDK's tests are in
test_integrations.py.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import time_machine
from attrs import define
from command_in_process import main
from penstock import SandboxRequest, SandboxResponse
from penstock.sandbox.server import Server
from penstock.testing.conformance import QUICK
from penstock_plugins.integrations.airbyte import ENDED_EARLY, AirbyteMessages
from providers import CONVERTR, JOVEO, TALROO, TODAY, Provider, bag, then

pytestmark = pytest.mark.slow

Message = dict[str, Any]
FINAL = (TODAY - timedelta(days=5)).isoformat()


@define
class Source:
    """A source as a program, its keys in a ``--config``."""

    folder: Path
    provider: Provider
    server: Server
    app: Any
    captured: Callable[[], tuple[bytes, bytes]]
    errors: str = ""

    def __call__(self, *words: str, code: int = 0, **more: Any) -> list[Message]:
        start = (TODAY - timedelta(days=6)).isoformat()
        files = {name: more.pop(name) for name in ("catalog", "state") if name in more}
        files["config"] = {**self.provider.settings, **QUICK, "start": start, **more, "base_url": self.server.base_url}
        options: list[str] = []
        for name, value in files.items():
            path = self.folder / f"{name}.json"
            path.write_text(json.dumps(value))
            options += [f"--{name}", str(path)]
        with time_machine.travel(then().now(), tick=True):
            found = main(["airbyte", self.provider.name, *words, *(options if words != ("spec",) else [])])
        printed, errors = self.captured()
        self.errors = errors.decode()
        assert found == code, self.errors
        return [json.loads(line, parse_float=Decimal) for line in printed.splitlines()]

    def read(self, mode: str = "incremental", streams: tuple[str, ...] = ("clicks",), **more: Any) -> list[Message]:
        catalog = {"streams": [{"stream": {"name": name}, "sync_mode": mode} for name in streams]}
        return self("read", catalog=catalog, **more)


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path, capfdbinary: Any) -> Iterator[Source]:
    provider: Provider = getattr(request, "param", TALROO)
    with provider.served() as (server, app):
        yield Source(tmp_path, provider, server, app, capfdbinary.readouterr)


def data(messages: list[Message]) -> list[dict[str, Any]]:
    return [one["record"]["data"] for one in messages if one["type"] == "RECORD"]


def states(messages: list[Message]) -> list[Message]:
    return [one for one in messages if one["type"] == "STATE"]


def statuses(messages: list[Message]) -> list[tuple[str, str]]:
    traces = [one["trace"]["stream_status"] for one in messages if one.get("trace", {}).get("type") == "STREAM_STATUS"]
    return [(one["stream_descriptor"]["name"], one["status"]) for one in traces]


def test_spec_needs_no_configuration_and_marks_secrets(source: Source) -> None:
    """
    Keys, which of them are required, and which are secrets.
    """
    (spec,) = source("spec")

    keys = spec["spec"]["connectionSpecification"]
    assert keys["properties"]["customer_secret"]["airbyte_secret"] is True
    assert "customer_secret" in keys["required"]
    assert not [name for name, one in keys["properties"].items() if "writeOnly" in one]


def test_check_states_success_and_failure(source: Source) -> None:
    """
    Refused credentials and a wrong configuration are a status, and the exit code is 0.
    """
    assert source("check")[0]["connectionStatus"]["status"] == "SUCCEEDED"
    refused = source("check", customer_secret="74686973206973206e6f74206974")[0]["connectionStatus"]
    assert refused["status"] == "FAILED"
    wrong = source("check", timeout_s="soon")[0]["connectionStatus"]
    assert wrong["status"] == "FAILED"
    assert "timeout_s" in wrong["message"]


def test_discover_states_key_cursor_and_modes(source: Source) -> None:
    """
    A report supports both modes; its key holds the columns of the partition.
    """
    ((clicks,),) = [one["catalog"]["streams"] for one in source("discover")]

    assert clicks["supported_sync_modes"] == ["full_refresh", "incremental"]
    assert clicks["source_defined_primary_key"] == [["advertiser_id"], ["report_date"], ["click_id"]]
    assert clicks["default_cursor_field"] == ["report_date"]


def test_an_incremental_read_goes_on_from_its_states(source: Source) -> None:
    """
    Every row, exact; the next read has the open days only, and a full refresh ignores the states.
    """
    first = source.read()
    days = [TODAY - timedelta(days=back) for back in range(6, 0, -1)]

    truth = [row for key in TALROO.parts(source.app, days) for row in TALROO.truth(source.app, *key)]
    assert bag(data(first)) == bag(truth)
    assert all(isinstance(one["record"]["emitted_at"], int) for one in first if one["type"] == "RECORD")
    assert statuses(first) == [("clicks", "STARTED"), ("clicks", "COMPLETE")]
    kept = [states(first)[-1]]
    again = source.read(state=kept)
    assert FINAL not in {row["report_date"] for row in data(again)}
    assert 0 < len(data(again)) < len(data(first))
    assert states(again)[-1] == kept[0]
    assert len(data(source.read("full_refresh", state=kept))) == len(data(first))


def covered(state: Message) -> set[tuple[str, str]]:
    """The accounts and days of a STATE of one stream. The order of answers decides which of its ranges are joined."""
    accounts = state["state"]["stream"]["stream_state"]["accounts"]
    ranges = ((name, text.split("/")) for name, one in accounts.items() for text in one["final"])
    return {
        (name, (date.fromisoformat(first) + timedelta(days=number)).isoformat())
        for name, (first, last) in ranges
        for number in range((date.fromisoformat(last) - date.fromisoformat(first)).days + 1)
    }


def test_a_state_comes_once_and_after_the_rows_that_it_covers(source: Source) -> None:
    """
    A state is written when it changed; every row of a final day stands before the first state that has the day.
    """
    messages = source.read()

    texts = [json.dumps(one) for one in states(messages)]
    assert len(set(texts)) == len(texts)
    rows = ((number, one["record"]["data"]) for number, one in enumerate(messages) if one["type"] == "RECORD")
    last_row = {(row["advertiser_id"], row["report_date"]): number for number, row in rows}
    first_state: dict[tuple[str, str], int] = {}
    for number, one in enumerate(messages):
        if one["type"] == "STATE":
            first_state |= {key: number for key in covered(one) if key not in first_state}
    assert {day for _, day in first_state.keys() & last_row.keys()} >= {FINAL}
    assert [key for key in first_state if last_row.get(key, -1) > first_state[key]] == []


def test_a_partition_that_fails_is_an_error_of_its_stream(source: Source) -> None:
    """
    TRACE with the reason, status INCOMPLETE, exit code 1; the day is in no state.
    """
    source.app.overstate(TODAY - timedelta(days=5))
    messages = source.read(code=1)

    (error,) = [one["trace"]["error"] for one in messages if one.get("trace", {}).get("type") == "ERROR"]
    assert error["stream_descriptor"] == {"name": "clicks"}
    assert statuses(messages)[-1] == ("clicks", "INCOMPLETE")
    assert FINAL not in {row["report_date"] for row in data(messages)}


@pytest.mark.parametrize("source", [CONVERTR], indirect=True)
def test_streams_have_states_of_their_own(source: Source) -> None:
    """
    A snapshot has no cursor; a derived stream is confirmed by itself.
    """
    catalog = {one["name"]: one for one in source("discover")[0]["catalog"]["streams"]}
    assert catalog["campaigns"]["supported_sync_modes"] == ["full_refresh"]
    assert "default_cursor_field" not in catalog["campaigns"]

    messages = source.read(streams=("leads", "lead_data"))
    last = {one["state"]["stream"]["stream_descriptor"]["name"]: one for one in states(messages)}
    assert set(last) == {"leads", "lead_data"}
    only_leads = source.read(streams=("leads", "lead_data"), state=[last["leads"]])
    assert len(data(only_leads)) == len(data(messages)), "what lead_data did not confirm is read again"
    both = source.read(streams=("leads", "lead_data"), state=list(last.values()))
    assert len(data(both)) < len(data(messages))


@pytest.mark.parametrize("source", [JOVEO], indirect=True)
def test_a_report_under_way_is_adopted_by_the_next_sync(source: Source) -> None:
    """
    The state is written when a report was submitted: a sync that goes on from it does not submit the report again.
    """
    answer, polls = source.server.app, iter(range(100))

    def ending(request: SandboxRequest) -> SandboxResponse:
        if request.path.endswith("/status") and next(polls) == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return answer(request)

    source.server.app, source.app.polls_until_ready = ending, 10**9
    first = source.read(streams=("stats",), code=130, concurrency=1)
    source.server.app, source.app.polls_until_ready = answer, 1
    under_way = [one["state"]["stream"]["stream_state"]["reports"] for one in states(first)]

    assert data(first) == []
    assert [len(reports) for reports in under_way] == [*range(1, len(source.app.submissions) + 1)]
    rest = source.read(streams=("stats",), state=states(first)[-1:])
    assert len(source.app.submissions) == len(source.app.clients), "one report per client, whichever sync submitted it"
    assert "reports" not in states(rest)[-1]["state"]["stream"]["stream_state"]
    days = [TODAY - timedelta(days=back) for back in range(6, 0, -1)]
    truth = [row for key in JOVEO.parts(source.app, days) if key[0] == "stats" for row in JOVEO.truth(source.app, *key)]
    assert bag(data(rest)) == bag(truth)
    assert truth


@pytest.mark.parametrize(
    ("words", "more", "text"),
    [
        (("read",), {"catalog": {"streams": [{"stream": {"name": "tocks"}, "sync_mode": "full_refresh"}]}}, "'tocks'"),
        (("read",), {"catalog": {"streams": [{"stream": {"name": "clicks"}, "sync_mode": "cdc"}]}}, "'cdc'"),
        (("read",), {"catalog": {"flows": []}}, "not a configured catalog"),
        (("read",), {}, "needs --catalog"),
        (("discover",), {"colour": "red"}, "colour"),
        (("peruse",), {}, "'peruse'"),
    ],
    ids=["stream", "mode", "catalog", "none", "key", "verb"],
)
def test_a_mistake_is_a_trace(source: Source, words: tuple[str, ...], more: dict[str, Any], text: str) -> None:
    """
    A configuration error on standard output for the platform, one line on stderr, exit code 2.
    """
    messages = source(*words, code=2, **more)

    assert [one["trace"]["error"]["failure_type"] for one in messages] == ["config_error"] * len(messages)
    assert "Traceback" not in source.errors
    assert text in source.errors


def test_a_stream_that_ended_early_has_an_error_with_its_status() -> None:
    """
    INCOMPLETE always comes with the reason: that of a partition that failed, else that the run ended early.
    """
    ended = AirbyteMessages().end({"clicks": False, "jobs": False, "done": True}, {"clicks": "refused"}, b"")

    traces = [json.loads(line)["trace"] for line in ended.splitlines()]
    errors = {one["error"]["stream_descriptor"]["name"]: one["error"]["message"] for one in traces if "error" in one}
    assert errors == {"clicks": "refused", "jobs": f"jobs: {ENDED_EARLY}"}
    assert [one["stream_status"]["status"] for one in traces if "stream_status" in one] == [
        "INCOMPLETE",
        "INCOMPLETE",
        "COMPLETE",
    ]
