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
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from command_in_process import main
from connector_sensis.sandbox import listing_id
from imitation_joveo import JoveoSandbox
from imitation_sensis import SensisSandbox
from penstock import (
    AuthenticationError,
    PluginError,
    Project,
    Receipt,
    SandboxRequest,
    SandboxResponse,
    SinkKind,
    StoppedError,
    UsageError,
    hookimpl,
)
from penstock.sandbox.server import Scripted, SendPause, Server, serve
from penstock.testing.memory import MemorySink
from write_bench import (
    UNKNOWN,
    Bench,
    Trouble,
    Troubled,
    a_bench,
    client_of,
    error_before,
    event,
    reset_before,
    statuses,
    turned_away,
)

import connector_joveo

pytestmark = pytest.mark.slow

TODAY = date(2026, 3, 2)
PENSTOCK = str(Path(sys.executable).with_name("penstock"))


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as made:
        yield made
        assert made.errors == []


@pytest.fixture
def sensis(server: Server, working_directory: Path, capsys: Any) -> Bench:
    return a_bench("sensis", SensisSandbox(server.base_url, TODAY), server, working_directory, capsys)


@pytest.fixture
def joveo(server: Server, working_directory: Path, capsys: Any) -> Bench:
    return a_bench("joveo", JoveoSandbox(server.base_url, TODAY), server, working_directory, capsys, allow_writes=True)


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
    200 events, some of them invalid, through resets before and after the event was recorded, errors and broken answers.
    """
    draw = random.Random(7)
    rows = [event(n, user_session_id=f"u{n // 5}") for n in range(200)]
    for number in range(0, 200, 9):
        rows[number]["id"] = f"not-a-listing-{number}"
    sensis.app.names = names
    sensis.server.app = Troubled(sensis.app, {n: draw.choice((*UNKNOWN, turned_away)) for n in range(0, 240, 6)})

    code, receipts, _ = sensis.act("sensis", "report_event", "--from", sensis.write("e.jsonl", rows))

    assert code == 1
    assert_accounted(rows, receipts, sensis.app)
    counts = Counter(statuses(receipts))
    assert counts["done"] > 100
    assert counts["unknown"] > 0
    assert counts["refused"] > 0


def test_a_killed_job_never_sends_rows_again_that_may_have_arrived(sensis: Bench) -> None:
    """
    kill -9 while a request is under way, again and again; --resume sends what never left, in the end all is accounted
    for and at most one row of each kill is unknown.
    """
    rows = [event(n, user_session_id=f"u{n}") for n in range(80)]
    sensis.write("e.jsonl", rows)
    slow: dict[int, Trouble] = {}
    for number in range(10, 400, 30):
        slow[number] = lambda request, app: Scripted(
            steps=(SendPause(30), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        )
        slow[number + 15] = _recorded_then_silent
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
            assert f"{len(rows) - kills} done" in (sensis.folder / "output").read_text()
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
    assert Counter(statuses(receipts)) == {"done": len(rows) - kills, "unknown": kills}, reasons


def _recorded_then_silent(request: SandboxRequest, app: Any) -> SandboxResponse:
    app(request)
    return Scripted(steps=(SendPause(30),))


def test_rows_without_a_connection_stay_unsent(sensis: Bench) -> None:
    """
    Rows that were not sent for want of a connection are not unknown: they stay unsent, and --resume sends them.
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


def test_an_unknown_row_is_sent_again_on_demand_only(sensis: Bench) -> None:
    """
    --resume does not send an unknown row again, --retry-unknown does.
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
    A file that was sent completely is a new job when it is sent again.
    """
    name = sensis.write("e.jsonl", [event(0)])

    assert [sensis.act("sensis", "report_event", "--from", name)[0] for _ in range(2)] == [0, 0]
    assert len(sensis.app.events) == 2


def test_an_outage_ends_the_job(sensis: Bench) -> None:
    """
    A hundred unknown outcomes in a row end the job; the other rows are not sent.
    """
    sensis.server.app = Troubled(sensis.app, dict.fromkeys(range(1000), error_before))
    name = sensis.write("e.jsonl", [event(n) for n in range(150)])

    code, receipts, output = sensis.act("sensis", "report_event", "--from", name)

    assert code == 1
    assert Counter(statuses(receipts)) == {"unknown": 100, "refused": 50}
    assert "out of order" in output


def test_a_signal_ends_the_job_after_the_request_under_way(sensis: Bench) -> None:
    """
    The job ends also when the pace leaves nothing to wait for; --resume sends what never left.
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
    Receipts that cannot be written are no usage error: exit code 2 would state that nothing was sent.
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
def test_an_output_of_an_action_overwrites_no_file(sensis: Bench, options: tuple[str, ...], reported: str) -> None:
    """
    Receipts and refused rows are written neither over the file of the rows nor over each other.
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
    A job has the rows of a query when it began, also after a stop; a job that came to its end leaves no copy of them.
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


def test_a_destructive_action_needs_yes(joveo: Bench) -> None:
    """
    A destructive action sends nothing without --yes; with it the job is gone.
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


def test_an_action_that_is_not_built_is_listed_and_not_sent(joveo: Bench) -> None:
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
    A mistake is exit code 2, with what was found and what is expected, and nothing is sent.
    """
    code, receipts, output = joveo.act(*arguments)

    assert (code, receipts, joveo.server.requests) == (2, [], [])
    assert reported in output


def test_the_numbers_of_an_answer_keep_their_digits(joveo: Bench) -> None:
    """
    A receipt has them as the provider wrote them; a float would have other ones, or no JSON at all.
    """
    amounts = '"bid": 10.10, "rate": 0.12345678901234567890123, "cap": 1E+400'

    def answered(request: SandboxRequest, app: Any) -> SandboxResponse:
        return SandboxResponse(body=f'{{"result": {{{amounts}}}}}'.encode())

    joveo.server.app = Troubled(joveo.app, {1: answered})  # after the login
    assert main(["act", "joveo", "create_client", "company_name=a", "--receipts", "r.jsonl"], environ={}) == 0

    printed = joveo.capture.readouterr().out
    assert printed == f'{{"row": 0, "status": "done", "reason": "", "answer": {{"result": {{{amounts}}}}}}}\n'
    assert (joveo.folder / "r.jsonl").read_text() == printed


# --- what there is ----------------------------------------------------------------------------------------------------


def test_all_32_writes_are_listed(capsys: Any) -> None:
    """
    All writes are listed with method, path and fields, from the declarations alone: no configuration is needed.
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


def test_a_job_begun_at_one_address_does_not_continue_at_another(sensis: Bench) -> None:
    """
    A job that was begun at the test system is refused at another address, until a person decides: the rows that only
    the test system has would be missing.
    """
    sensis.app.quota = 2
    name = sensis.write("e.jsonl", [event(n) for n in range(3)])
    code, _, output = sensis.act("sensis", "report_event", "--from", name)
    assert (code, len(sensis.app.events)) == (1, 2)
    assert ". 1 row was not sent: --resume sends it" in output
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


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_exception_of_the_callers_rows_stays_its_own(joveo: Bench, dry_run: bool) -> None:
    """
    An exception of the caller's rows is no defect of the connector, and nothing is sent.
    """

    def rows() -> Iterator[dict[str, str]]:
        yield a_job(joveo)
        raise KeyError("the caller's own")

    with pytest.raises(KeyError, match="the caller's own"):
        project_of(joveo).act("joveo", "pause_job", rows=rows(), dry_run=dry_run)

    assert joveo.server.requests == []


@frozen(kw_only=True)
class NoSettings:
    """A sink without settings."""


def failing_query(settings: NoSettings, text: str) -> Iterator[dict[str, str]]:
    yield {"client_id": "a", "job_reference": "b"}
    raise KeyError("the column that the sink expected")


class SinkWithDefect:
    """A plugin."""

    @hookimpl
    def penstock_sinks(self) -> Iterator[SinkKind]:
        yield SinkKind(
            name="defective",
            summary="a query that fails",
            promise="at least once",
            scheme="defective",
            settings=NoSettings,
            parse=lambda text: NoSettings(),
            open=lambda settings: MemorySink(Path("ledger.sqlite")),
            query=failing_query,
        )


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_defect_of_a_sink_that_is_queried_names_the_sink(joveo: Bench, dry_run: bool) -> None:
    """
    The connector has no part in the rows of a query.
    """
    project = Project(joveo.folder / "penstock.toml", environ={}, plugins=[connector_joveo.plugin, SinkWithDefect()])

    with pytest.raises(PluginError, match=r"the sink defective failed with KeyError.*the sink's publisher"):
        project.act("joveo", "pause_job", sink="defective:here", query="select", dry_run=dry_run)

    assert joveo.server.requests == []


class NotATime(datetime):
    """A missing value that differs from itself, as NaT of pandas does."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = datetime.__hash__


class NotAvailable:
    """A missing value that does not answer whether it equals another one, as NA of pandas does not."""

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = object.__hash__


@pytest.mark.parametrize(
    "value",
    [
        *(float("nan"), Decimal("NaN"), Decimal("sNaN"), float("inf"), [1, float("nan")]),
        *(NotATime(2026, 3, 2), NotAvailable(), {"at": [NotAvailable()]}),
    ],
)
def test_a_value_that_json_does_not_have_is_refused(sensis: Bench, value: Any) -> None:
    """
    The encoder writes null for NaN, and the row would be sent without the parameter; or the text of a missing value,
    such as "NaT".
    """
    bad = {**event(0), "event_value": value}

    for rows, values, where in (([event(1), bad], {}, "row 1"), (None, bad, "the parameters")):
        with pytest.raises(UsageError, match=f"{where}: event_value has .*, which cannot be sent; nothing was sent"):
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
    The result has the error, as that of a run has; the receipts of the rows that were not sent name it.
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


def test_a_program_confirms_a_destructive_action(joveo: Bench) -> None:
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
    A call that cannot be carried out raises before anything is sent.
    """
    with pytest.raises(UsageError, match=reported):
        project_of(sensis).act("sensis", "report_event", **arguments)
    assert sensis.app.events == []
