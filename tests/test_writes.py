"""
Writes over real HTTP, through every trouble: what the provider recorded is what the receipts call done, plus at most
what they call unknown, and nothing twice.
"""

import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from connector_sensis.sandbox import KEY, listing_id
from imitation_joveo import JoveoSandbox
from imitation_sensis import SensisSandbox
from imitation_targetcircle import TargetCircle
from penstock import (
    AuthenticationError,
    Project,
    Receipt,
    SandboxRequest,
    SandboxResponse,
    StoppedError,
    UsageError,
)
from penstock._cli import main
from penstock._plugins.registry import Registry
from penstock.sandbox.server import Reset, Scripted, SendPause, Server, serve

TODAY = date(2026, 3, 2)
PENSTOCK = str(Path(sys.executable).with_name("penstock"))
Trouble = Callable[[SandboxRequest, Callable[[SandboxRequest], SandboxResponse]], SandboxResponse]


def reset_before(request: SandboxRequest, app: Any) -> SandboxResponse:
    """The connection breaks, nothing was recorded."""
    return Scripted(steps=(Reset(),))


def reset_after(request: SandboxRequest, app: Any) -> SandboxResponse:
    """The connection breaks when all is recorded."""
    app(request)
    return Scripted(steps=(Reset(),))


def error_before(request: SandboxRequest, app: Any) -> SandboxResponse:
    return SandboxResponse(status=500, body=b"{}")


def error_after(request: SandboxRequest, app: Any) -> SandboxResponse:
    app(request)
    return SandboxResponse(status=502, headers={"Content-Type": "text/html"}, body=b"<html>Bad Gateway</html>")


def cut_after(request: SandboxRequest, app: Any) -> SandboxResponse:
    app(request)
    return Scripted(steps=(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{",))


def html_after(request: SandboxRequest, app: Any) -> SandboxResponse:
    app(request)
    return SandboxResponse(headers={"Content-Type": "text/html"}, body=b"<html>Sign in</html>")


def turned_away(request: SandboxRequest, app: Any) -> SandboxResponse:
    return SandboxResponse(status=429, headers={"Retry-After": "0"}, body=b"{}")


UNKNOWN = (reset_before, reset_after, error_before, error_after, cut_after, html_after)


@define(eq=False)
class Troubled:
    """An app that meets its requests with trouble: ``at`` maps the number of a request (from 0) to what happens."""

    app: Callable[[SandboxRequest], SandboxResponse]
    at: dict[int, Trouble] = field(factory=dict)
    seen: list[SandboxRequest] = field(factory=list)
    lock: threading.Lock = field(factory=threading.Lock)

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        with self.lock:
            number = len(self.seen)
            self.seen.append(request)
        trouble = self.at.get(number)
        return trouble(request, self.app) if trouble is not None else self.app(request)


@define(eq=False)
class Bench:
    """A directory with a configuration, and the imitation that it leads to."""

    folder: Path
    server: Server
    app: Any
    capture: Any

    def act(self, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        """Exit code, receipts and stderr."""
        self.capture.readouterr()
        code = main(["act", *arguments], environ={})
        out, err = self.capture.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    def write(self, name: str, rows: Sequence[Any]) -> str:
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return name

    def configure(self, connector: str, **more: Any) -> None:
        settings = {**Registry().sandbox(connector).settings, "base_url": self.server.base_url, **more}
        settings |= {"retry_first_s": 0.01, "requests_per_second": 10_000.0}
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if not isinstance(value, dict)]
        (self.folder / "penstock.toml").write_text(f"[source.{connector}]\n" + "\n".join(lines) + "\n")


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as made:
        yield made
        assert made.errors == []


@pytest.fixture
def sensis(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Bench:
    monkeypatch.chdir(tmp_path)
    server.app = app = SensisSandbox(server.base_url, TODAY)
    bench = Bench(tmp_path, server, app, capsys)
    bench.configure("sensis")
    return bench


@pytest.fixture
def joveo(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Bench:
    monkeypatch.chdir(tmp_path)
    server.app = app = JoveoSandbox(server.base_url, TODAY)
    bench = Bench(tmp_path, server, app, capsys)
    bench.configure("joveo", allow_writes=True)
    return bench


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"event_name": "appearance", "user_ip": "203.0.113.7", "id": listing_id(number), **more}


def statuses(receipts: Sequence[dict[str, Any]]) -> list[str]:
    return [receipt["status"] for receipt in receipts]


# --- nothing twice, nothing silently lost -----------------------------------------------------------------------------


def assert_accounted(rows: Sequence[dict[str, Any]], receipts: Sequence[dict[str, Any]], app: SensisSandbox) -> None:
    """Every ``done`` row was recorded once, every other one at most once, and only if it is ``unknown``."""
    assert [receipt["row"] for receipt in receipts] == list(range(len(rows)))
    recorded = Counter((one["id"], one["userSessionId"]) for one in app.events)
    for row, receipt in zip(rows, receipts, strict=True):
        times = recorded[row["id"], row["user_session_id"]]
        allowed = {"done": {1}, "refused": {0}, "unknown": {0, 1}}[receipt["status"]]
        assert times in allowed, (row, receipt, times)
    assert sum(recorded.values()) == len(app.events)


@pytest.mark.parametrize("names", ["index", "text", "nothing"])
def test_every_row_is_accounted_for(sensis: Bench, names: Any) -> None:
    """
    500 events, some of them invalid, through resets before and after the event was recorded, errors and broken answers.
    """
    draw = random.Random(7)
    rows = [event(n, user_session_id=f"u{n // 5}") for n in range(500)]
    for number in range(0, 500, 9):
        rows[number]["id"] = f"not-a-listing-{number}"
    sensis.app.names = names
    sensis.server.app = Troubled(sensis.app, {n: draw.choice((*UNKNOWN, turned_away)) for n in range(0, 600, 6)})

    code, receipts, _ = sensis.act("sensis", "report_event", "--from", sensis.write("e.jsonl", rows))

    assert code == 1
    assert_accounted(rows, receipts, sensis.app)
    counts = Counter(statuses(receipts))
    assert counts["done"] > 250
    assert counts["unknown"] > 0
    assert counts["refused"] > 0


def test_a_killed_job_never_sends_again_what_may_have_arrived(sensis: Bench) -> None:
    """
    kill -9 while a request is under way, again and again; --resume sends what never left, in the end all is accounted
    for and at most one row of each kill is unknown.
    """
    rows = [event(n, user_session_id=f"u{n}") for n in range(120)]
    sensis.write("e.jsonl", rows)
    slow: dict[int, Trouble] = {}
    for number in range(10, 400, 40):
        slow[number] = lambda request, app: Scripted(
            steps=(SendPause(30), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        )
        slow[number + 20] = _recorded_then_silent
    troubled = sensis.server.app = Troubled(sensis.app, slow)
    kills = 0
    while True:
        requested = len(troubled.seen)
        with (sensis.folder / "output").open("w") as output_file:
            process = subprocess.Popen(
                [PENSTOCK, "act", "sensis", "report_event", "--from", "e.jsonl"] + (["--resume"] if kills else []),
                cwd=sensis.folder,
                stdout=subprocess.DEVNULL,
                stderr=output_file,
            )
        until = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < until:
            if any(number in slow for number in range(requested, len(troubled.seen))):
                time.sleep(0.05)
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                break
            time.sleep(0.01)
        if process.returncode in (0, 1):
            assert f"{120 - kills} done" in (sensis.folder / "output").read_text()
            break
        assert process.returncode == -signal.SIGKILL
        if kills == 1:
            code, receipts, output = sensis.act("sensis", "report_event", "--from", "e.jsonl")
            assert (code, receipts) == (2, [])
            assert "--resume" in output
    code, receipts, _ = sensis.act("sensis", "report_event", "--from", "e.jsonl", "--resume")

    assert kills >= 4
    assert code == 1
    assert_accounted(rows, receipts, sensis.app)
    reasons = Counter(receipt["reason"] for receipt in receipts)
    assert Counter(statuses(receipts)) == {"done": 120 - kills, "unknown": kills}, reasons


def _recorded_then_silent(request: SandboxRequest, app: Any) -> SandboxResponse:
    app(request)
    return Scripted(steps=(SendPause(30),))


def test_no_connection_means_that_nothing_left(sensis: Bench) -> None:
    """
    Rows that found nobody are not unknown: they stay unsent, and --resume sends them.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        sensis.configure("sensis", base_url=f"http://127.0.0.1:{taken.getsockname()[1]}", retries=2)
    name = sensis.write("e.jsonl", [event(n) for n in range(3)])

    code, receipts, output = sensis.act("sensis", "report_event", "--from", name)
    assert code == 1
    assert statuses(receipts) == ["refused"] * 3
    assert all(receipt["reason"].startswith("not sent") for receipt in receipts)
    assert "3 not sent" in output
    sensis.configure("sensis")
    code, receipts, _ = sensis.act("sensis", "report_event", "--from", name, "--resume")

    assert (code, statuses(receipts)) == (0, ["done"] * 3)
    assert len(sensis.app.events) == 3


def test_an_unknown_row_is_sent_again_only_by_a_person(sensis: Bench) -> None:
    """
    --resume leaves it, --retry-unknown sends it.
    """
    sensis.server.app = Troubled(sensis.app, {1: error_before})
    name = sensis.write("e.jsonl", [event(n) for n in range(3)])

    assert statuses(sensis.act("sensis", "report_event", "--from", name)[1]) == ["done", "unknown", "done"]
    assert statuses(sensis.act("sensis", "report_event", "--from", name, "--resume")[1]) == ["done", "unknown", "done"]
    assert len(sensis.app.events) == 2
    code, receipts, _ = sensis.act("sensis", "report_event", "--from", name, "--retry-unknown")

    assert (code, statuses(receipts)) == (0, ["done"] * 3)
    assert [one["id"] for one in sensis.app.events] == [listing_id(0), listing_id(2), listing_id(1)]


def test_a_finished_file_is_a_new_job(sensis: Bench) -> None:
    """
    Whoever sends it again means it.
    """
    name = sensis.write("e.jsonl", [event(0)])

    assert [sensis.act("sensis", "report_event", "--from", name)[0] for _ in range(2)] == [0, 0]
    assert len(sensis.app.events) == 2


def test_an_outage_ends_the_job(sensis: Bench) -> None:
    """
    A hundred unknown outcomes in a row are enough; the rest is not sent.
    """
    sensis.server.app = Troubled(sensis.app, dict.fromkeys(range(1000), error_before))
    name = sensis.write("e.jsonl", [event(n) for n in range(150)])

    code, receipts, output = sensis.act("sensis", "report_event", "--from", name)

    assert code == 1
    assert Counter(statuses(receipts)) == {"unknown": 100, "refused": 50}
    assert "out of order" in output


def test_a_signal_ends_the_job_after_the_request_under_way(sensis: Bench) -> None:
    """
    Also when the pace leaves nothing to wait for; what never left is sent by --resume.
    """

    def interrupted(request: SandboxRequest, app: Callable[[SandboxRequest], SandboxResponse]) -> SandboxResponse:
        os.kill(os.getpid(), signal.SIGTERM)
        return app(request)

    sensis.server.app = app = Troubled(sensis.app, {2: interrupted})
    name = sensis.write("e.jsonl", [event(n) for n in range(20)])

    code, receipts, output = sensis.act("sensis", "report_event", "--from", name)

    assert (code, len(app.seen)) == (130, 3)
    assert statuses(receipts)[:2] == ["done", "done"]
    assert "--resume sends the rest" in output
    code, receipts, _ = sensis.act("sensis", "report_event", "--from", name, "--resume")
    assert len(receipts) == 20
    assert set(statuses(receipts)) <= {"done", "unknown"}
    assert len(sensis.app.events) == 20


def test_two_processes_do_not_send_the_same_file(sensis: Bench) -> None:
    """
    The second one ends with exit code 6 and its reason.
    """
    waiting, second_ended = threading.Event(), threading.Event()

    def slow(request: SandboxRequest, app: Any) -> SandboxResponse:
        waiting.set()
        second_ended.wait(30)
        return app(request)  # type: ignore[no-any-return]

    sensis.server.app = Troubled(sensis.app, {0: slow})
    sensis.write("e.jsonl", [event(0)])
    first = subprocess.Popen(
        [PENSTOCK, "act", "sensis", "report_event", "--from", "e.jsonl"],
        cwd=sensis.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert waiting.wait(30)

    code, receipts, output = sensis.act("sensis", "report_event", "--from", "e.jsonl")
    second_ended.set()
    out, _ = first.communicate(timeout=30)

    assert (code, receipts) == (6, [])
    assert "another process" in output
    assert json.loads(out)["status"] == "done"
    assert len(sensis.app.events) == 1


# --- Sensis -----------------------------------------------------------------------------------------------------------


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
    With 4 and the time to come back; the rows that were not sent are sent by --resume.
    """
    quota = SandboxResponse(status=429, headers={"Retry-After": "36000"}, body=b"daily quota used up")
    sensis.server.app = Troubled(sensis.app, {2: lambda request, app: quota})
    name = sensis.write("e.jsonl", [event(n) for n in range(4)])

    code, receipts, output = sensis.act("sensis", "report_event", "--from", name)
    assert (code, statuses(receipts)) == (4, ["done", "done", "refused", "refused"])
    assert "daily quota used up" in output
    assert "longer than throttle_wait_s" in output
    assert len(sensis.server.requests) == 3

    code, receipts, _ = sensis.act("sensis", "report_event", "--from", name, "--resume")
    assert (code, statuses(receipts)) == (0, ["done"] * 4)
    assert len(sensis.app.events) == 4


def test_a_wrong_key_ends_with_three_and_is_not_shown(sensis: Bench) -> None:
    """
    Although it travels in the URL.
    """
    sensis.app.key = "another-one"

    code, receipts, output = sensis.act("sensis", "report_event", "--from", sensis.write("e.jsonl", [event(0)]))

    assert (code, statuses(receipts)) == (3, ["refused"])
    assert "The key was refused" in output
    assert KEY not in output + json.dumps(receipts)
    assert all(KEY.encode() not in file.read_bytes() for file in (sensis.folder / ".penstock").iterdir())


def test_a_row_may_have_several_ids(sensis: Bench) -> None:
    """
    They share a request: at most 20, and never more characters of URL than the provider takes.
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
    It looks at the configuration and states that this is all.
    """
    assert main(["check", "sensis"], environ={}) == 0

    assert "not tried" in sensis.capture.readouterr().out
    assert sensis.server.requests == []


def test_a_source_without_streams_is_not_offered_to_be_read(sensis: Bench) -> None:
    """
    Its configuration has no pipeline, and the message of a run names the right command.
    """
    assert main(["init", "sensis"], environ={}) == 0
    text, _ = sensis.capture.readouterr()
    assert main(["run", "sensis", "--to", "jsonl:out"], environ={}) == 2
    _, output = sensis.capture.readouterr()

    assert "pipeline" not in text
    assert "penstock act sensis --list" in text
    assert "`penstock act sensis --list` shows what can be sent" in output


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


# --- rows -------------------------------------------------------------------------------------------------------------


def test_bad_rows_are_refused_and_can_be_sent_again(sensis: Bench) -> None:
    """
    Each with its reason, before anything of it is sent; the file of refused rows is an input once corrected.
    """
    rows: list[Any] = [
        event(0),
        {**event(1), "user_ip": "nowhere"},
        {**event(2), "sesion": "x"},
        {**event(3), "userIp": "203.0.113.8"},
        {"event_name": "appearance", "id": listing_id(4)},
        [1],
        event(6),
    ]
    name = sensis.write("e.jsonl", rows)
    with (sensis.folder / name).open("a") as file:
        file.write('{"event_name": \n\n')

    code, receipts, _ = sensis.act("sensis", "report_event", "--from", name, "--refused", "bad.jsonl")

    assert code == 1
    assert statuses(receipts) == ["done", *["refused"] * 5, "done", "refused"]
    assert [receipts[n]["reason"].split(":")[0] for n in (1, 4)] == ["user_ip", "missing"]
    assert "did you mean" in receipts[2]["reason"]
    assert "twice" in receipts[3]["reason"]
    kept = (sensis.folder / "bad.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in kept[:5]] == rows[1:6]
    assert kept[5] == '{"event_name": '
    assert len(sensis.app.events) == 2
    sensis.write("bad.jsonl", [event(1)])
    assert sensis.act("sensis", "report_event", "--from", "bad.jsonl")[0] == 0


def test_rows_come_from_csv_with_defaults_from_the_command_line(sensis: Bench) -> None:
    """
    An empty cell is absent; a row's own value wins; refused rows are CSV again.
    """
    text = f'id,user_ip,content\n{listing_id(0)},,x\n{listing_id(1)},198.51.100.9,"a,\n b"\n{listing_id(2)},x,\n1\n'
    (sensis.folder / "e.csv").write_text(text)

    code, receipts, _ = sensis.act(
        *("sensis", "report_event", "event_name=dial", "user_ip=203.0.113.1", "--from", "e.csv", "--refused", "r.csv")
    )

    assert code == 1
    assert statuses(receipts) == ["done", "done", "refused", "refused"]
    assert [(one["userIp"], one.get("content")) for one in sensis.app.events] == [
        ("203.0.113.1", "x"),
        ("198.51.100.9", "a,\n b"),
    ]
    assert (sensis.folder / "r.csv").read_text() == f"id,user_ip,content\n{listing_id(2)},x,\n1\n"


def test_receipts_go_to_a_file_too(sensis: Bench) -> None:
    """
    ``--receipts`` writes the same lines to a file as to standard output.
    """
    _, receipts, _ = sensis.act(
        *("sensis", "report_event", "--from", sensis.write("e.jsonl", [event(0), event(1)]), "--receipts", "r.jsonl")
    )

    assert [json.loads(line) for line in (sensis.folder / "r.jsonl").read_text().splitlines()] == receipts


@pytest.mark.parametrize("option", ["--receipts", "--refused"])
def test_receipts_that_cannot_be_written_are_no_usage_error(sensis: Bench, option: str) -> None:
    """
    Exit code 2 would state that nothing was sent.
    """
    if not Path("/dev/full").exists():
        pytest.skip("a device of Linux")
    name = sensis.write("e.jsonl", [event(0), {}])

    code, receipts, output = sensis.act("sensis", "report_event", "--from", name, option, "/dev/full")

    assert (code, statuses(receipts)) == (1, ["done", "refused"])
    assert f"{option} /dev/full: cannot be written: No space left on device" in output
    assert "--resume" in output
    assert "1 done, 1 refused" in output


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        (("--receipts", "e.jsonl"), "--receipts e.jsonl is the file of --from"),
        (("--refused", "../{folder}/e.jsonl"), "is the file of --from"),
        (("--receipts", "r.jsonl", "--refused", "r.jsonl"), "--refused r.jsonl is the file of --receipts"),
        (("--refused", "r.jsonl.gz"), "name it .jsonl"),
    ],
    ids=["receipts", "refused", "each other", "packed"],
)
def test_no_file_is_written_over_another(sensis: Bench, options: tuple[str, ...], reported: str) -> None:
    """
    The rows to be sent would be lost, and the receipts of what was sent.
    """
    name = sensis.write("e.jsonl", [event(0)])
    before = (sensis.folder / name).read_text()

    code, receipts, output = sensis.act(
        *("sensis", "report_event", "--from", name), *(one.format(folder=sensis.folder.name) for one in options)
    )

    assert (code, receipts, sensis.app.events) == (2, [], [])
    assert reported in output
    assert (sensis.folder / name).read_text() == before


@pytest.mark.large
def test_a_large_file_needs_little_memory(sensis: Bench) -> None:
    """
    Rows are read as they are sent: 40 MB of them, refused before sending, in far less than that.
    """
    import tracemalloc

    line = json.dumps({**event(0), "unknown": "x" * 2000}) + "\n"
    (sensis.folder / "e.jsonl").write_text(line * 20_000)
    tracemalloc.start()
    try:
        code = main(["-q", "act", "sensis", "report_event", "--from", "e.jsonl"], environ={})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert code == 1
    assert len(sensis.capture.readouterr().out.splitlines()) == 20_000
    assert peak < 20 * 1024 * 1024


def test_rows_come_from_a_query(sensis: Bench) -> None:
    """
    With the rows it had when the job began, also after a stop; a job that came to its end leaves no copy of them.
    """
    import psycopg
    from postgres_server import server as postgres

    with postgres().database() as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("create table seen (id text, user_ip inet, at timestamptz, content text)")
            for number in range(3):
                connection.execute("insert into seen values (%s, '203.0.113.7', now())", [listing_id(number)])
            with (sensis.folder / "penstock.toml").open("a") as file:
                file.write(f"[sink.db]\nkind = 'postgres'\ndsn = '{dsn}'\n")
            query = ("--from", "db", "--query", "select id, user_ip, content from seen order by id")
            sensis.app.quota = 1

            code, receipts, _ = sensis.act("sensis", "report_event", "event_name=appearance", *query)
            assert (code, statuses(receipts)) == (1, ["done", "refused", "refused"])
            connection.execute("delete from seen")
            assert sensis.act("sensis", "report_event", "event_name=appearance", *query)[0] == 2
            sensis.app.quota = 100
            code, receipts, _ = sensis.act("sensis", "report_event", "event_name=appearance", *query, "--resume")
            assert (code, statuses(receipts)) == (0, ["done"] * 3)

            code, receipts, _ = sensis.act("sensis", "report_event", "event_name=appearance", *query)
            assert (code, receipts) == (0, [])
            code, _, output = sensis.act("sensis", "report_event", "--from", "db", "--query", "drop table seen")
            assert (code, "--query:" in output) == (2, True)
            code, _, output = sensis.act("sensis", "report_event", "--from", "db")
            assert (code, "--query names which" in output) == (2, True)
    assert sorted(one["id"] for one in sensis.app.events) == sorted(listing_id(number) for number in range(3))
    assert list((sensis.folder / ".penstock").glob("query-*")) == []


def test_each_job_of_a_query_keeps_its_own_rows(sensis: Bench) -> None:
    """
    Unknown rows are sent again as they were, also after the job ended and after the same query was sent with other
    parameters. Without the rows nothing is sent.
    """
    import psycopg
    from postgres_server import server as postgres

    with postgres().database() as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("create table seen (id text, number int)")
            with (sensis.folder / "penstock.toml").open("a") as file:
                file.write(f"[sink.db]\nkind = 'postgres'\ndsn = '{dsn}'\n")
            query = ("user_ip=203.0.113.7", "--from", "db", "--query", "select id from seen order by number")

            def add(*numbers: int) -> None:
                for number in numbers:
                    connection.execute("insert into seen values (%s, %s)", [listing_id(number), number])

            def job(name: str, *options: str) -> tuple[int, list[str], str]:
                code, receipts, output = sensis.act("sensis", "report_event", f"event_name={name}", *query, *options)
                return code, statuses(receipts), output

            add(1, 3)
            sensis.server.app = Troubled(sensis.app, {1: reset_before})
            assert job("appearance")[:2] == (1, ["done", "unknown"])
            add(0, 2)
            sensis.server.app = Troubled(sensis.app, {1: reset_before})
            assert job("viewDetails")[:2] == (1, ["done", "unknown", "done", "done"])
            connection.execute("delete from seen")

            assert job("appearance", "--retry-unknown")[:2] == (0, ["done", "done"])
            assert job("viewDetails", "--retry-unknown")[:2] == (0, ["done"] * 4)
            add(4, 5, 6)
            code, receipts, output = job("appearance", "--resume")
    assert (code, receipts) == (2, [])
    assert "Nothing was sent" in output
    recorded = Counter((one["event"], one["id"]) for one in sensis.app.events)
    expected = [("appearance", 1), ("appearance", 3), *(("viewDetails", number) for number in range(4))]
    assert recorded == Counter((name, listing_id(number)) for name, number in expected)
    assert list((sensis.folder / ".penstock").glob("query-*")) == []


def test_rows_come_from_a_pipe(sensis: Bench) -> None:
    """
    A pipe with a name, as ``<(command)`` or /dev/stdin, is read once.
    """
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write("id,user_session_id\n" + "".join(f"{listing_id(number)},u{number}\n" for number in range(3)))

    code, receipts, _ = sensis.act(
        "sensis", "report_event", "event_name=appearance", "user_ip=203.0.113.7", "--from", f"/dev/fd/{reading}"
    )

    os.close(reading)
    assert (code, statuses(receipts)) == (0, ["done"] * 3)
    assert [one["userSessionId"] for one in sensis.app.events] == ["u0", "u1", "u2"]


# --- what is allowed --------------------------------------------------------------------------------------------------


def client_of(bench: Bench) -> str:
    return str(next(iter(bench.app.clients)))


def test_writes_are_off_until_the_source_allows_them(joveo: Bench) -> None:
    """
    Nothing is sent, no token is fetched; --dry-run needs no permission.
    """
    joveo.configure("joveo")
    client = client_of(joveo)

    code, receipts, output = joveo.act("joveo", "pause_client", f"client_id={client}")
    assert (code, receipts) == (2, [])
    assert "allow_writes = true" in output
    assert main(["act", "joveo", "pause_client", f"client_id={client}", "--dry-run"], environ={}) == 0
    out = joveo.capture.readouterr().out

    assert out.startswith(f"PUT {joveo.server.base_url}/clients/{client}/pause\n")
    assert "x-api-key: ***" in out
    assert "x-authorization-key: ***" in out
    assert joveo.server.requests == []


def test_what_destroys_needs_a_yes(joveo: Bench) -> None:
    """
    Without it nothing is sent; with it the job is gone.
    """
    client = client_of(joveo)
    reference = next(iter(joveo.app.jobs[client]))
    arguments = ("joveo", "delete_job", f"client_id={client}", f"job_reference={reference}")

    code, receipts, output = joveo.act(*arguments)
    assert (code, receipts, joveo.server.requests) == (2, [], [])
    assert "--yes" in output
    code, receipts, _ = joveo.act(*arguments, "--yes")

    assert (code, statuses(receipts)) == (0, ["done"])
    assert reference not in joveo.app.jobs[client]


def test_what_is_not_built_is_listed_and_not_sent(joveo: Bench) -> None:
    """
    An action that is not built is listed with the reason and never sent.
    """
    code, receipts, output = joveo.act("joveo", "apply_job_rules", "client_id=x", "--yes")

    assert (code, receipts, joveo.server.requests) == (2, [], [])
    assert "work in progress" in output


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("joveo", "pause_jobs"), 'Did you mean "pause_job"?'),
        (("joveo", "pause_client", "cleint_id=x"), "did you mean client_id?"),
        (("joveo", "pause_client"), "missing: client_id"),
        (("joveo", "pause_client", "x"), "KEY=VALUE"),
        (("joveo", "create_job", "client_id=x", "ref_number=1", "additional_fields=x"), "not JSON"),
        (("joveo", "update_campaign", "client_id=x", "campaign_id=y"), "nothing to change"),
        (("joveo", "create_client", "company_name=x", "start_date=2026-01-31"), "mm/dd/yyyy"),
        (("joveo", "create_client", "company_name=x", "start_date=31/01/2026"), "mm/dd/yyyy"),
        (("joveo", "pause_client", "--from", "absent.jsonl"), "cannot be read"),
        (("joveo", "pause_client", "--query", "select 1"), "--from SINK"),
        (("joveo", "pause_client", "--from", "postgresql://u:hunter2@h/db"), "postgresql://u:***@h/db is a sink"),
        (("joveo", "pause_client", "--from", "host=h password=hunter2"), "host=h password=*** is a sink"),
        (("joveo", "pause_client", "--from", "jsonl:data", "--query", "select 1"), "cannot be queried"),
        (("joveo", "pause_client", "client_id=\udcff"), "no UTF-8 text"),
        (("joveo", "add_posting_jobs", "client_id=x", "config_id=y", "body=a", "body=b"), "a list is one value"),
        (("talroo", "pause_client"), "has no writes"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_a_mistake_is_reported_before_anything_is_sent(joveo: Bench, arguments: tuple[str, ...], reported: str) -> None:
    """
    Exit code 2, what was found and what is expected.
    """
    code, receipts, output = joveo.act(*arguments)

    assert (code, receipts, joveo.server.requests) == (2, [], [])
    assert reported in output


# --- Joveo ------------------------------------------------------------------------------------------------------------


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
    built = {action.name for action in Registry().actions("joveo") if not action.not_built}
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
def test_what_may_be_repeated_is(joveo: Bench, trouble: Trouble) -> None:
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


# --- Target Circle ----------------------------------------------------------------------------------------------------


def test_ad_codes_come_with_the_receipt(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """
    The ad codes that a write creates are in its receipt.
    """
    monkeypatch.chdir(tmp_path)
    app = TargetCircle(server.base_url, TODAY)
    server.app = app
    bench = Bench(tmp_path, server, app, capsys)
    bench.configure("targetcircle", allow_writes=True)
    slug = next(slug for slug in app._slugs() if app._ads(slug))

    code, receipts, _ = bench.act(
        *("targetcircle", "generate_ad_codes", "type=text", f"offer={slug}", "adInventory=11c26b", f'ads=["9m{slug}"]')
    )

    assert code == 0, receipts
    assert receipts[0]["answer"][0]["clickUrl"] == f"https://c.trackmytarget.example/9m{slug}"


# --- what there is ----------------------------------------------------------------------------------------------------


def test_all_32_writes_are_listed(capsys: Any) -> None:
    """
    With method, path and fields, from the declarations alone: no configuration is needed.
    """
    listed = {}
    for name in ("sensis", "joveo", "targetcircle"):
        assert main(["act", name, "--list", "--json"], environ={}) == 0
        listed[name] = json.loads(capsys.readouterr().out)["actions"]

    assert {name: len(actions) for name, actions in listed.items()} == {"sensis": 1, "joveo": 30, "targetcircle": 1}
    every = [action for actions in listed.values() for action in actions]
    assert [action["name"] for action in every if action["not_built"]] == ["apply_job_rules"]
    assert sorted(action["name"] for action in every if action["destroys"]) == [
        f"delete_{what}" for what in ("campaign", "client", "feed", "job", "job_group", "posting_config")
    ]
    assert main(["act", "joveo", "update_job", "--help"], environ={}) == 0
    out = capsys.readouterr().out
    assert "job_reference" in out
    assert "publishedDate" in out


def test_a_job_begun_in_test_is_not_gone_on_with_in_prod(sensis: Bench) -> None:
    """
    Rows that only the test system has would be missing in prod: refused, until a person decides.
    """
    sensis.app.quota = 2
    name = sensis.write("e.jsonl", [event(n) for n in range(3)])
    code, _, output = sensis.act("sensis", "report_event", "--from", name)
    assert (code, len(sensis.app.events)) == (1, 2)
    assert "; 1 row was not sent, --resume sends it" in output
    sensis.app.quota = 100
    sensis.configure("sensis", environment="prod")

    for options in ((), ("--resume",)):
        code, receipts, output = sensis.act("sensis", "report_event", "--from", name, *options)
        assert (code, receipts, len(sensis.app.events)) == (2, [], 2)
        assert "/ob-20110511/test/report/{event_name} (2 done)" in output
        assert "Now they would go to http" in output
    code, receipts, _ = sensis.act("sensis", "report_event", "--from", name, "--yes")

    assert (code, statuses(receipts)) == (0, ["done"] * 3)
    assert [one["environment"] for one in sensis.app.events] == ["test"] * 2 + ["prod"] * 3


# --- from Python ------------------------------------------------------------------------------------------------------


def project_of(bench: Bench) -> Project:
    return Project(bench.folder / "penstock.toml", environ={})


def a_job(bench: Bench) -> dict[str, str]:
    client = client_of(bench)
    return {"client_id": client, "job_reference": next(iter(bench.app.jobs[client]))}


def test_a_program_gets_the_receipts_as_values(joveo: Bench) -> None:
    """
    Nothing is printed, and no signal handler is set, so that it works in a notebook and in a thread.
    """
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    events: list[Any] = []

    result = project_of(joveo).act("joveo", "pause_job", a_job(joveo), on_event=events.append)

    assert (result.exit_code, result.counts, result.not_sent, result.error) == (0, {"done": 1}, 0, None)
    assert [(receipt.row, receipt.status) for receipt in result.receipts] == [(0, "done")]
    assert result.summary == "1 done"
    assert {"act_started", "request"} < {event["event"] for event in events}
    assert events[-1] == {
        "event": "act_finished",
        "source": "joveo",
        "action": "pause_job",
        "counts": {"done": 1},
        "not_sent": 0,
        "exit_code": 0,
    }
    assert joveo.capture.readouterr() == ("", "")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize("number", [float("nan"), Decimal("NaN"), float("inf"), [1, float("nan")]])
def test_a_number_that_is_not_finite_is_refused(sensis: Bench, number: Any) -> None:
    """
    JSON has no such number: the encoder writes null, and the row would be sent without the parameter.
    """
    bad = {**event(0), "event_value": number}

    for rows, values, where in (([event(1), bad], {}, "row 1"), (None, bad, "the parameters")):
        with pytest.raises(UsageError, match=f"{where}: event_value has .*, which is no number; nothing was sent"):
            project_of(sensis).act("sensis", "report_event", values, rows=rows)

    assert not sensis.app.events


def test_a_program_gives_rows_of_any_kind(sensis: Bench) -> None:
    """
    An iterable of mappings, a path, a binary stream, and texts as on the command line.
    """
    project = project_of(sensis)
    name = sensis.write("e.jsonl", [event(2)])

    results = [
        project.act("sensis", "report_event", {"event_name": "dial"}, rows=(event(number) for number in range(2))),
        project.act("sensis", "report_event", file=sensis.folder / name),
        project.act("sensis", "report_event", file=io.BytesIO(json.dumps(event(3)).encode())),
        project.act("sensis", "report_event", [f"{key}={value}" for key, value in event(4).items()]),
    ]

    assert [result.counts for result in results] == [{"done": 2}, {"done": 1}, {"done": 1}, {"done": 1}]
    assert [one["id"] for one in sensis.app.events] == [listing_id(number) for number in range(5)]


@pytest.mark.parametrize("error", [KeyError, ConnectionResetError])
def test_the_rows_of_a_program_are_a_job(sensis: Bench, error: type[Exception]) -> None:
    """
    An exception of the callback ends the call. The same rows are refused then, and ``resume`` sends the rest.
    """
    project, rows = project_of(sensis), [event(number) for number in range(3)]
    seen: list[Receipt] = []

    def stop_after_the_first(receipt: Receipt) -> None:
        seen.append(receipt)
        raise error("the caller's own")

    with pytest.raises(error):
        project.act(
            "sensis", "report_event", rows=rows, on_receipt=stop_after_the_first, receipts=sensis.folder / "receipts"
        )
    with pytest.raises(UsageError, match=r"this list of rows was begun at .* is not finished"):
        project.act("sensis", "report_event", rows=rows)
    result = project.act("sensis", "report_event", rows=rows, resume=True)

    assert len(seen) == 1
    assert (result.counts, len(result.receipts)) == ({"done": 3}, 3)
    assert len(sensis.app.events) == 3


def test_a_program_ends_a_job_from_outside(sensis: Bench) -> None:
    """
    The result states the rows that were not sent; their receipts are refused.
    """
    stop = threading.Event()

    result = project_of(sensis).act(
        "sensis", "report_event", rows=[event(0), event(1)], stop=stop, on_event=lambda _: stop.set()
    )

    assert (result.exit_code, type(result.error), result.counts) == (130, StoppedError, {})
    assert sensis.app.events == []


def test_an_error_of_the_provider_is_in_the_result(sensis: Bench) -> None:
    """
    As it is for a run; the receipts of the rows that were not sent name it.
    """
    sensis.configure("sensis", key="of somebody else")

    result = project_of(sensis).act("sensis", "report_event", rows=[event(0), event(1)])

    assert (result.exit_code, type(result.error), result.not_sent) == (3, AuthenticationError, 2)
    assert {receipt.status for receipt in result.receipts} == {"refused"}


def test_a_program_looks_at_the_requests_first(joveo: Bench) -> None:
    """
    A dry run has the requests, and receipts of the rows that would be refused; nothing is sent or recorded.
    """
    rows = [{"client_id": "7baeb0b8", "job_reference": "a-1"}, {"client_id": "7baeb0b8"}]
    streamed: list[Any] = []

    result = project_of(joveo).act("joveo", "pause_job", rows=rows, dry_run=True)
    project_of(joveo).act("joveo", "pause_job", rows=rows, dry_run=True, on_request=streamed.append)

    assert [request["request"].partition(" ")[0] for request in result.requests] == ["PUT"]
    assert list(result.requests) == streamed
    assert ([receipt.row for receipt in result.receipts], result.exit_code) == ([1], 1)
    assert not (joveo.folder / ".penstock").exists()


def test_a_program_confirms_what_destroys(joveo: Bench) -> None:
    """
    ``confirmed=True`` is the option ``--yes``; ``allow_writes`` is required in both.
    """
    job = a_job(joveo)

    with pytest.raises(UsageError, match="destroys something"):
        project_of(joveo).act("joveo", "delete_job", job)
    assert project_of(joveo).act("joveo", "delete_job", job, confirmed=True).counts == {"done": 1}
    joveo.configure("joveo")
    with pytest.raises(UsageError, match="writes to joveo are off"):
        project_of(joveo).act("joveo", "pause_job", job)


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        ({"rows": [], "file": "e.jsonl"}, "rows, file and query: give one of them"),
        ({"query": "select 1"}, "--query needs --from SINK"),
        ({"rows": ["a"]}, "row 0 is str, expected a mapping"),
        ({"values": {"userAgnt": 1.5}}, "userAgnt is no parameter"),
    ],
    ids=["two origins", "query alone", "no mapping", "unknown"],
)
def test_a_call_that_cannot_be_carried_out(sensis: Bench, arguments: dict[str, Any], reported: str) -> None:
    """
    It raises before anything is sent.
    """
    with pytest.raises(UsageError, match=reported):
        project_of(sensis).act("sensis", "report_event", **arguments)
    assert sensis.app.events == []
