"""
Messages at the end of a run.
"""

import json
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from penstock import ConfigError, Project, SandboxRequest, SandboxResponse
from penstock._config.pipeline import Occasion
from penstock._project.notify import OCCASIONS
from penstock._run_report.report import STATUS
from penstock.sandbox.server import Server, serve
from project_shop import DAYS, NOW, PLUGINS, AnHourLater, Shop, Stopped, config

pytestmark = pytest.mark.slow


class Inbox:
    """Receives what is posted; answers with ``status``."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.status = 200

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        self.messages.append(json.loads(request.body))
        return SandboxResponse(status=self.status)


@pytest.mark.parametrize(
    ("on", "status", "sent"),
    [
        (["failed"], 200, []),
        (["failed"], 404, ["failed"]),
        (["delivered"], 200, ["delivered"]),
        (["always"], 404, ["failed"]),
        (["failed"], 401, ["refused"]),
        (["rejected", "locked"], 404, []),
    ],
)
def test_the_end_of_a_run_is_sent(
    server: Server, shop: Shop, tmp_path: Path, on: list[str], status: int, sent: list[str]
) -> None:
    """
    One JSON, with the reasons in words, to the receivers whose occasions include what happened.
    """
    inbox = Inbox()
    if status != 200:
        shop.change = lambda shop, day, answer: SandboxResponse(status=status)
    with serve(inbox) as receiver:
        values = config(server, tmp_path)
        values["pipeline"]["daily"]["notify"] = [{"url": receiver.base_url, "on": on}]
        result = Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", **DAYS)

    assert [one["status"] for one in inbox.messages] == sent
    assert result.notices == ()
    for message in inbox.messages:
        assert message["text"].startswith(f"penstock daily: {result.summary}")
        assert (message["run_id"], message["exit_code"]) == (result.run_id, result.exit_code)
        assert len(message["errors"]) == len(result.errors)
        reasons = {error["reason"] for error in result.errors}
        assert len(message["text"].splitlines()) == 1 + len(reasons), "a line for each reason, not for each stream"


def test_a_run_that_could_not_start_is_sent_with_its_reason_once(server: Server, tmp_path: Path) -> None:
    """
    The summary is the reason, so that no line of it follows.
    """
    inbox = Inbox()
    with serve(inbox) as receiver:
        values = config(server, tmp_path)
        values["sink"]["files"]["path"] = ""
        values["pipeline"]["daily"]["notify"] = [{"url": receiver.base_url}]
        with pytest.raises(ConfigError) as caught:
            Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", **DAYS)

    (message,) = inbox.messages
    assert message["text"] == f"penstock daily: not started: {caught.value}"
    assert [error["message"] for error in message["errors"]] == [str(caught.value)]


def test_a_message_has_the_command_that_lists_restatements(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    The command in a message has the day of the run: whoever reads the message a week later sees the same.
    """
    inbox = Inbox()
    values = config(server, tmp_path)
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)
    project.run("daily", **DAYS)

    def restate(shop: str, day: str, answer: dict[str, Any]) -> dict[str, Any]:
        answer["sales"][0]["price"] = "175"
        return answer

    shop.change = restate
    with serve(inbox) as receiver:
        values["pipeline"]["daily"]["notify"] = [{"url": receiver.base_url, "on": ["restated"]}]
        Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", **DAYS)

    (message,) = inbox.messages
    assert message["restated"] > 0
    assert message["text"].endswith(f"restated: penstock changes daily --since {NOW.date()}")


@pytest.mark.parametrize("status", [*STATUS.values(), "parked", "closed", "not started"])
def test_every_status_is_an_occasion(status: str) -> None:
    """
    A receiver can name each way in which a run may end, and a run that did not fail is not reported as failed.
    """
    occasions = get_args(Occasion)

    assert OCCASIONS[status] in occasions
    assert (OCCASIONS[status] == "failed") == (status in ("failed", "refused", "interrupted", "not started"))


def test_a_parked_source_is_a_problem_until_it_runs_again(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    Named once for the source, with what the provider demanded; a later run that is answered ends it.
    """
    project = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=Stopped)
    shop.change = lambda shop, day, answer: SandboxResponse(status=429, headers={"Retry-After": "36000"})
    assert project.run("daily", **DAYS).exit_code == 4
    (target,) = project.status("daily").targets
    parked = [one for one in target.problems if one.kind == "parked"]
    shop.change = lambda shop, day, answer: answer
    later = Project(config(server, tmp_path), plugins=PLUGINS, environ={}, clock=AnHourLater)
    assert later.run("daily", **DAYS).exit_code == 0

    assert [(one.source, one.stream, one.account) for one in parked] == [("shop", "", {})]
    assert parked[0].reason.startswith("no request before 2026-03-10 18:00:00 UTC, a wait longer than throttle")
    assert project.status("daily").targets[0].problems == ()


def test_a_receiver_is_never_the_reason_for_a_failed_run(server: Server, tmp_path: Path) -> None:
    """
    A refused address, a command that fails and one that is absent are notices; a command gets the JSON, by a template.
    """
    inbox = Inbox()
    inbox.status = 500
    out = tmp_path / "out.json"
    with serve(inbox) as receiver:
        values = config(server, tmp_path)
        values["pipeline"]["daily"]["notify"] = [
            {"url": {"env": "HOOK"}, "on": ["always"]},
            {"command": "false", "on": ["always"]},
            {"command": "no-such-command", "on": ["always"]},
            {"command": f"{sys.executable} {tmp_path / 'prints.py'}", "on": ["always"]},
            {"command": f"dd of={out}", "on": ["delivered"], "template": '{"content": "$text"}'},
            {"command": f"dd of={out}", "on": ["delivered"], "template": "$nothing"},
        ]
        environ = {"HOOK": f"{receiver.base_url}/token-9f3c"}
        # The end that is shown begins inside of the secret.
        (tmp_path / "prints.py").write_text(f"raise SystemExit({environ['HOOK'] + '.' * 190!r})")
        result = Project(values, plugins=PLUGINS, environ=environ, clock=Stopped).run("daily", **DAYS)

    assert (result.exit_code, len(inbox.messages)) == (0, 1)
    assert len(result.notices) == 5
    assert result.undelivered_notifications == result.notices
    assert all("pipeline.daily.notify" in text for text in result.notices)
    assert "9f3c" not in "".join(result.notices)
    assert any(f"***{'.' * 190}" in text for text in result.notices)
    assert json.loads(out.read_text()) == {"content": f"penstock daily: {result.summary}"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/hook", "could not be connected to (Connection refused); check url of notify, proxy,"),
        ("https://127.0.0.1:1/hook", "could not be connected to (Connection refused); check url of notify, proxy,"),
        ("http://hooks.example/hook", "url is plain http, on which others could read the message. Write https,"),
    ],
    ids=["down", "down with TLS", "plain http"],
)
def test_a_receiver_that_is_not_reached_names_its_own_key(
    server: Server, tmp_path: Path, url: str, reason: str
) -> None:
    """
    The message of a receiver that is not reached names its own key, not base_url and allow_http, which are keys of a
    source.
    """
    values = config(server, tmp_path)
    values["pipeline"]["daily"]["notify"] = [{"url": url, "on": ["always"]}]

    (text,) = Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", **DAYS).undelivered_notifications

    assert reason in text
    assert "base_url" not in text
    assert "allow_http" not in text


def test_a_receiver_is_checked_before_the_run(server: Server, shop: Shop, tmp_path: Path) -> None:
    """
    Unknown keys and occasions are errors of the configuration, with their places.
    """
    values = config(server, tmp_path)
    values["pipeline"]["daily"]["notify"] = [{"url": "https://x.example", "on": ["sometimes"]}, {"comand": "true"}]

    with pytest.raises(ConfigError) as raised:
        Project(values, plugins=PLUGINS, environ={}).run("daily", **DAYS)

    assert "pipeline.daily.notify[0].on" in raised.value.problems[0]
    assert 'notify[1].comand: unknown key. Did you mean "command"?' in raised.value.problems[1]
    assert shop.requested == []


def test_a_program_that_is_not_there_is_stated(server: Server, tmp_path: Path) -> None:
    """
    The PATH of cron is short: the notice names the program, and what to write.
    """
    values = config(server, tmp_path)
    values["pipeline"]["daily"]["notify"] = [{"command": "page-nobody", "on": ["always"]}]
    result = Project(values, plugins=PLUGINS, environ={}, clock=Stopped).run("daily", **DAYS)

    (notice,) = result.notices
    assert notice == (
        "pipeline.daily.notify: page-nobody did not take the result: there is no such program on the PATH of this "
        "process; write its full path"
    )


def test_a_plan_refuses_a_receiver_that_a_run_refuses(server: Server, tmp_path: Path) -> None:
    """
    What is wrong in a pipeline is found before the run at night.
    """
    values = config(server, tmp_path)
    values["pipeline"]["daily"]["notify"] = [{"ur": "https://chat.example"}]
    project = Project(values, plugins=PLUGINS, environ={}, clock=Stopped)

    with pytest.raises(ConfigError, match=r"pipeline\.daily\.notify\[0\]\.ur: unknown key"):
        project.plan("daily", **DAYS)
    assert project.plan("shop", **DAYS).partitions
