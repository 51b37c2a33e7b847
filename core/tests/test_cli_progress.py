"""
What a run shows while it goes on: bars on a terminal, retries, signals.
"""

import io
import json
import os
import re
import signal
from contextlib import redirect_stderr
from typing import Any

import pytest
from penstock._cli.bars import Bars
from penstock._cli.follow import following, stopping
from penstock._cli.lines import Lines, in_words
from penstock._cli.session import Session
from penstock._util.clock import Clock
from rich.console import Console
from shop_commands import Here, days, on_a_terminal

pytestmark = pytest.mark.slow


def test_only_a_retry_that_comes_is_announced(here: Here) -> None:
    """
    The outcome of the last attempt is reported for the partition that failed only; the URL stands there once.
    """
    here.configure(["503"])
    here("--set", "source.shop.retries=1", "--set", "source.shop.retry_first_s=0.01", "run", "daily", *days(1), code=1)

    announced = [line for line in here.err.splitlines() if "WARNING" in line]
    assert len(announced) == 1
    assert "; again" in announced[0]
    assert announced[0].count("GET /sales?") == 1
    assert "http://" not in announced[0]
    assert "1 retry," in here.err


def retry(**facts: Any) -> dict[str, Any]:
    request = "GET https://api.example.com/v1/sales?shop=7&from%5Bday%5D=2026-03-01&token=***&columns=" + "x" * 80
    retried = {
        "reason": "Shop answered with HTTP 503",
        "error": "ServerError",
        "pause_s": 1.5,
        "renewed": False,
    }
    return {"event": "retry", "source": "shop", "stream": None, "request": request, **retried, **facts}


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            retry(),
            "shop: GET /v1/sales?shop=7&from[day]=2026-03-01&token=***&columns=xxxxxxxxxxxxx…: Shop answered with "
            "HTTP 503; again in 1.5 s",
        ),
        (
            retry(request="GET https://api.example.com", reason="it was lost."),
            "shop: GET /: it was lost; again in 1.5 s",
        ),
        (
            retry(stream="sales", request="GET https://api.example.com/v1", reason="it was lost.", pause_s=0.0),
            "shop.sales: GET /v1: it was lost; again at once",
        ),
        (
            retry(
                request="GET https://api.example.com/v1",
                reason="Shop refused the token (HTTP 401). Check username and password.",
                seen="Shop refused the token (HTTP 401)",
                error="AuthenticationError",
                pause_s=0.0,
                renewed=True,
            ),
            "shop: GET /v1: Shop refused the token (HTTP 401); signed anew, again at once",
        ),
    ],
    ids=["query", "no path", "stream", "token"],
)
def test_a_retry_in_words(event: dict[str, Any], line: str) -> None:
    """
    A request is named without its host and the tail of its parameters, and a token that is renewed is no reason to
    check anything. With ``--debug`` the URL is whole.
    """
    assert in_words(event) == line
    assert "https://api.example.com" in str(in_words(event, full_urls=True))


def test_quiet_prints_nothing_of_a_good_run(here: Here) -> None:
    """
    ``-q`` is for cron: silence means that all is delivered.
    """
    here("-q", "run", "daily", *days(2))
    assert (here.out, here.err) == ("", "")


@pytest.mark.parametrize("options", [(), ("-v",), ("--log-format", "json")], ids=" ".join)
def test_a_run_continues_when_its_messages_are_not_read(here: Here, options: tuple[str, ...]) -> None:
    """
    In ``penstock run ... 2>&1 | head -1`` all rows are delivered.
    """
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as unread, redirect_stderr(unread):
        here("run", "daily", *days(2), *options)

    assert len(list((here.folder / "data").rglob("by_report_date=*/data.jsonl"))) == 2


def test_json_logs_are_one_object_a_line(here: Here) -> None:
    """
    Every event is an object with a time; the last one is the report; no secret in any.
    """
    here("run", "daily", *days(2), "--log-format", "json")

    events = [json.loads(line) for line in here.err.splitlines()]
    assert all("time" in event for event in events)
    assert events[0]["event"] == "run_started"
    assert (events[-1]["event"], events[-1]["status"]) == ("run_finished", "delivered")
    assert {"planned", "partition_delivered"} < {event["event"] for event in events}
    assert "sesame" not in here.err


def test_bars_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A bar per stream with partitions and records; failures above them.
    """
    on_a_terminal(monkeypatch)
    with following(Lines()) as follow:
        follow({"event": "planned", "source": "shop", "stream": "sales", "partitions": 2, "final": 0})
        part = {"source": "shop", "stream": "sales", "partition": {"day": "2026-01-31"}}
        follow({"event": "partition_delivered", **part, "records": 1234})
        follow({"event": "partition_failed", **part, "error": "X", "reason": "no [luck]", "request": None})

    err = capsys.readouterr().err
    assert "shop.sales" in err
    assert "2/2" in err
    assert "1,234 records" in err
    assert "shop.sales[day=2026-01-31]: failed: no [luck]" in err


def shown(bars: Bars) -> list[str]:
    """The lines that a terminal of 80 columns and 24 lines shows now."""
    with bars.console.capture() as capture:
        bars.console.print(bars.shown())
    return capture.get().splitlines()


@pytest.fixture
def bars() -> Bars:
    return Bars(console=Console(force_terminal=True, color_system=None, width=80, height=24, file=io.StringIO()))


@pytest.mark.parametrize(
    ("variable", "value", "coloured"),
    [("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False)],
)
def test_the_end_of_a_run_is_coloured_where_colours_are_shown(
    variable: str, value: str, coloured: bool, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    ``NO_COLOR`` and a dumb terminal, such as a shell in an editor, get no escapes.
    """
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(variable, value)
    on_a_terminal(monkeypatch)

    here("run", "daily", *days(1))

    assert here.err.endswith("\x1b[0m\n") == coloured


def test_a_parked_source_is_shown_as_such(bars: Bars) -> None:
    """
    The bars of a parked source neither count down nor look as if they went on, and the time left is that of the others.
    """
    for source in ("down", "up"):
        bars({"event": "planned", "source": source, "stream": "sales", "partitions": 4, "final": 0})
        bars({"event": "stream_started", "source": source, "stream": "sales"})
    bars({"event": "planned", "source": "down", "stream": "items", "partitions": 1, "final": 0})
    bars({"event": "report_waiting", "source": "down", "stream": "sales"})
    bars({"event": "note", "source": "down", "message": "no request before noon", "parked": True})

    _, _, down, up, items = shown(bars)

    assert down.split()[-1] == items.split()[-1] == "parked"
    assert up.split()[-2:] == ["0", "records"]


def test_nothing_is_drawn_before_the_first_plan(bars: Bars) -> None:
    """
    An error of the configuration stands alone on the screen, without bars of nothing above it.
    """
    assert shown(bars) == []


def test_bars_of_thirty_streams_fit_on_a_terminal(bars: Bars) -> None:
    """
    The total comes first, then the streams that are being read and those with failures, in the order of the plan; the
    others are one line of counts.
    """
    for number in range(30):
        place = {"source": f"shop{number:02}", "stream": "sales"}
        bars({"event": "planned", **place, "partitions": 2, "final": 0})
        if number == 3:
            for _ in range(2):
                failed = {"error": "X", "reason": "no luck", "request": None}
                bars({"event": "partition_failed", **place, "partition": {}, **failed})
        elif number < 6:
            for _ in range(2):
                bars({"event": "partition_delivered", **place, "partition": {}, "records": 1000})
        elif number < 12:
            bars({"event": "stream_started", **place})

    lines = shown(bars)

    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("10,000 records, ")
    assert re.match(r"all .* 12/60\b", lines[1])
    assert [line.split()[0] for line in lines[2:-1]] == [f"shop{number:02}.sales" for number in (3, *range(6, 12))]
    assert "2 failed" in lines[2]
    assert lines[-1].startswith("and 23 more streams: 5 finished, 18 not begun")


def test_the_state_of_a_stream_fits_on_a_terminal(bars: Bars) -> None:
    """
    Beside a long name, and with thousands of partitions, records and reports.
    """
    place = {"source": "joveo", "stream": "publisher_posting_configurations"}
    bars({"event": "planned", **place, "partitions": 1770, "final": 0})
    bars({"event": "stream_started", **place})
    bars({"event": "partition_delivered", **place, "partition": {}, "records": 14_062})
    for _ in range(140):
        bars({"event": "report_waiting", **place})

    assert shown(bars)[1].rstrip().endswith("14,062 records, 140 pending")


def test_the_total_of_the_bars_is_that_of_the_summary(bars: Bars) -> None:
    """
    The total of the bars includes the rows of streams that travel with another and have no bar, as the summary does.
    """
    place = {"source": "crm", "stream": "leads"}
    bars({"event": "planned", **place, "partitions": 1, "final": 0})
    bars({"event": "partition_delivered", **place, "partition": {}, "records": 10, "derived": {"lead_data": 30}})

    lines = shown(bars)

    assert lines[0].startswith("40 records, ")
    assert "10 records" in lines[1]


def test_bars_show_reports_and_pauses_that_are_waited_for(bars: Bars) -> None:
    """
    Reports that the provider makes, and a pause before a retry, for as long as they last.
    """
    place = {"source": "shop", "stream": "sales"}
    bars({"event": "planned", **place, "partitions": 2, "final": 0})
    bars({"event": "stream_started", **place})
    bars({"event": "report_waiting", **place})
    again = {"request": "GET https://api.example/a", "reason": "HTTP 429", "error": "ThrottledError", "renewed": False}
    bars({"event": "retry", **place, **again, "pause_s": 30.0})

    assert "1 report pending" in shown(bars)[1]
    assert re.match("waits before a retry: shop for (30|29) s", shown(bars)[-1])

    bars({"event": "report_ready", **place})
    bars({"event": "retry", **place, **again, "pause_s": 0.5})

    assert len(shown(bars)) == 2
    assert "pending" not in shown(bars)[1]


def test_the_first_signal_stops_and_the_second_kills() -> None:
    """
    The clock gets it, so that the run ends cleanly; from then on the signal has its deadly default; after the run
    everything is as before.
    """
    clock = Clock()
    former = signal.getsignal(signal.SIGTERM)

    with stopping(Session(), clock):
        os.kill(os.getpid(), signal.SIGTERM)
        assert clock.stop.wait(5)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL

    assert signal.getsignal(signal.SIGTERM) == former


def test_a_terminal_that_closes_stops_a_run_cleanly() -> None:
    """
    A terminal that closes stops a run cleanly, also if it sends SIGHUP twice. Under ``nohup`` the signal stays ignored.
    """
    clock = Clock()
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with stopping(Session(), clock):
            os.kill(os.getpid(), signal.SIGHUP)
            assert clock.stop.wait(5)
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL

        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with stopping(Session(), clock):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)
