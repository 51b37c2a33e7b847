"""
``penstock page``: what the ledgers hold as one HTML file, and the same served to this machine.
"""

import base64
import hashlib
import json
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any

import penstock_plugins
import pytest
from attrs import evolve, frozen
from command_in_process import main
from command_in_subprocess import command
from generated_ledger import LAST, NOW, SMALL, GeneratedLedger
from penstock import (
    Connector,
    ConnectorPlugin,
    Envelope,
    OpenFor,
    PenstockError,
    Project,
    SandboxRequest,
    SandboxResponse,
    Secret,
    SourceSettings,
    Stream,
    TargetError,
    UsageError,
    added,
    column,
    record,
    setting,
)
from penstock.results import NO_LONGER_SERVED, Problem
from penstock.sandbox.server import serve
from penstock_plugins.status_page.command import PageServer, seconds, write
from penstock_plugins.status_page.content import Content, content
from penstock_plugins.status_page.render import policy, render
from penstock_plugins.status_page.stream_content import STATES, Facts

pytestmark = pytest.mark.slow

HOSTILE = "</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The elements of a page, and the text of those with an id."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = dict(attrs).get("id") or tag

    def handle_data(self, data: str) -> None:
        self.texts[self._open] = self.texts.get(self._open, "") + data

    def data(self, name: str) -> Any:
        return json.loads(self.texts[name], parse_float=Decimal)


def page_of(facts: Facts) -> Page:
    return Page(render(content(facts)))


# --- content ----------------------------------------------------------------------------------------------------------


def one_stream(days: int = 6, wrong: float = 0.0) -> Facts:
    """Two accounts of one stream, without anything unusual."""
    facts = GeneratedLedger(sources={"joveo": ("stats",)}, accounts=("1", "2"), days=days, wrong=wrong).facts()
    return evolve(facts, changes=[], runs=[])


def summary_of(made: Content) -> dict[str, Any]:
    (target,) = made.summary["targets"]
    return dict(target["sources"][0]["streams"][0])


def changed(facts: Facts, account: str, day: date, **changes: Any) -> Facts:
    """The facts with one other partition; ``missing`` removes it."""

    def is_it(one: Any) -> bool:
        return bool((one.account["client_id"], one.day) == (account, day))

    kept = [one for one in facts.partitions if not (is_it(one) and "missing" in changes)]
    return evolve(facts, partitions=[evolve(one, **changes) if is_it(one) else one for one in kept])


def test_runs_are_not_looked_through_for_each_source() -> None:
    """
    A page of a thousand sources has twenty thousand runs.
    """

    class CountedRuns(list[Any]):
        iterations = 0

        def __iter__(self) -> Iterator[Any]:
            self.iterations += 1
            return super().__iter__()

    def iterations(sources: int) -> int:
        ledger = evolve(SMALL, sources={f"shop{number}": ("sales",) for number in range(sources)}, days=5)
        facts = ledger.facts()
        runs = CountedRuns(facts.runs)
        content(evolve(facts, runs=runs))
        return runs.iterations

    assert iterations(20) == iterations(2)


@pytest.mark.parametrize(
    ("changes", "letter"),
    [
        ({}, "f"),
        ({"standing": "open"}, "o"),
        ({"standing": "failed", "error": "refused"}, "x"),
        ({"missing": True}, "m"),
        ({"truncated": True}, "t"),
        ({"rejected": 1}, "s"),
        ({"unread_values": 1}, "s"),
        ({"standing": "failed", "error": "refused", "truncated": True, "rejected": 1}, "x"),
    ],
)
def test_a_day_has_the_letter_of_its_worst_state(changes: dict[str, Any], letter: str) -> None:
    """
    A day of an account, and of all accounts together, has the worst letter; the other days keep theirs.
    """
    day = LAST - timedelta(days=4)
    stream = summary_of(content(changed(one_stream(), "2", day, **changes)))

    assert [one["states"] for one in stream["accounts"]] == ["fffooo", f"f{letter}fooo"]
    assert stream["states"] == f"f{letter}fooo"
    assert stream["counts"][letter] >= 1
    assert {*STATES} >= {*stream["states"]}


def test_days_before_and_after_an_account_are_not_missing() -> None:
    """
    An account that came later has nothing before its first day; a source that stopped has nothing after its last.
    """
    facts = one_stream(days=40)
    dated = [one for one in facts.partitions if one.day is not None and one.day <= LAST - timedelta(days=2)]
    begun = LAST - timedelta(days=26)
    early = [one for one in dated if one.account["client_id"] == "2" or (one.day and one.day >= begun)]
    status = facts.status.targets[0].sources[0]
    firsts = {"1": begun, "2": status.streams[1].first_day}
    streams = tuple(
        evolve(one, first_day=firsts[one.account["client_id"]], last_day=LAST - timedelta(days=2))
        for one in status.streams
    )
    target = evolve(facts.status.targets[0], sources=(evolve(status, streams=streams),))
    stream = summary_of(content(evolve(facts, partitions=early, status=evolve(facts.status, targets=(target,)))))

    first, second = (one["states"] for one in stream["accounts"])
    assert first == "." * 13 + "f" * 24 + "o" + ".."
    assert second == "f" * 37 + "o" + ".."


def test_sums_and_differences_are_exact() -> None:
    """
    Decimal text with all digits, never a float: per day over all accounts, per account over all days, before and after.
    """
    day = LAST - timedelta(days=4)
    huge = Decimal("12345678901234567890.10")
    facts = one_stream(days=5)
    for account, amount in (("1", huge), ("2", Decimal("0.20"))):
        facts = changed(facts, account, day, sums={"spend": amount})
    change = {"rows_before": 3, "rows_after": 2, "sums": {"spend": (Decimal("0.30"), Decimal("1E+2"))}}
    facts = evolve(facts, changes=[evolve(a_change(facts), day=day, **change)])
    made = content(facts)

    stream = summary_of(made)
    assert stream["measures"] == ["spend", "applies"]
    assert stream["sums"][0][0] == "12345678901234567890.30"
    assert stream["sums"][1][0] is None
    assert made.blocks[0]["accounts"][1]["sums"][0][0] == "0.20"
    (restated,) = made.blocks[0]["changes"]["0:0"]
    assert (restated["rows"], restated["sums"]) == ([3, 2], [["spend", "0.30", "100", "99.70"]])
    assert stream["accounts"][0]["states"][0] == "F"
    assert stream["states"][0] == "f"
    assert made.summary["targets"][0]["sources"][0]["restated"]["count"] == 1


def a_change(facts: Facts) -> Any:
    world = GeneratedLedger(sources={"joveo": ("stats",)}, accounts=("1",), days=200)
    return next(one for one in world.facts().changes if one.account == {"client_id": "1"})


def a_problem(**changes: Any) -> Problem:
    values: dict[str, Any] = {
        "source": "joveo",
        "stream": "stats",
        "account": {"client_id": "1"},
        "kind": "failed",
        "count": 1,
        "first_day": LAST,
        "last_day": LAST,
        "last_read": NOW,
        "reason": "refused",
    }
    return Problem(**{**values, **changes})


def with_problems(facts: Facts, *problems: Problem) -> Facts:
    target = evolve(facts.status.targets[0], problems=problems)
    return evolve(facts, status=evolve(facts.status, targets=(target,)))


def test_failures_of_streams_without_days_are_no_days() -> None:
    """
    The page counts partitions where a snapshot is among them.
    """
    dated, undated = a_problem(), a_problem(stream="jobs", first_day=None, last_day=None)

    def shown(*problems: Problem) -> list[bool]:
        return [one["undated"] for one in content(with_problems(one_stream(), *problems)).summary["problems"]]

    assert shown(dated) == [False]
    assert shown(dated, undated) == [True]


def test_problems_of_one_reason_are_one_and_the_worst_come_first() -> None:
    """
    Streams and accounts that share kind and reason are listed together, with one command for all of them.
    """
    facts = with_problems(
        one_stream(),
        a_problem(kind="truncated", reason="the provider lists no more"),
        a_problem(),
        a_problem(stream="jobs", account={"client_id": "a*,"}, first_day=LAST - timedelta(days=2)),
        a_problem(stream="jobs", account={"client_id": "2*"}),
    )

    failed, truncated = content(facts).summary["problems"]

    assert (failed["kind"], truncated["kind"]) == ("failed", "truncated")
    assert (failed["count"], failed["streams"], failed["accounts"]) == (3, ["stats", "jobs"], ["1", "a*,", "2*"])
    assert failed["command"] == (
        "penstock run joveo --to warehouse --streams stats,jobs --since 2026-11-25 --until 2026-11-27"
    )  # an account with a comma cannot be listed: all are read
    assert truncated["command"] is None
    assert all(one["advice"] for one in (failed, truncated))
    alone = with_problems(one_stream(), a_problem(account={"client_id": "2*"}))
    assert "--accounts '2[*]'" in content(alone).summary["problems"][0]["command"]


def test_a_failed_day_that_the_provider_no_longer_serves_has_no_command() -> None:
    """
    No run reads it again, so that neither the advice nor a command leads to one.
    """
    unserved = a_problem(
        reason=f"{NO_LONGER_SERVED}, as the provider serves days from 2026-11-28 on; it failed: refused"
    )

    (shown,) = content(with_problems(one_stream(), unserved)).summary["problems"]

    assert shown["command"] is None
    assert "next run" not in shown["advice"]


def test_a_problem_leads_to_its_first_day() -> None:
    """
    A problem leads to the first cell that shows it; a problem before the days shown leads nowhere.
    """
    day = LAST - timedelta(days=1)
    facts = changed(one_stream(), "1", day, standing="failed", error="refused")

    assert content(with_problems(facts, a_problem())).summary["problems"][0]["at"] == ["stats", 0, 4]
    assert content(with_problems(one_stream(), a_problem())).summary["problems"][0]["at"] is None


def test_a_bad_last_run_is_a_problem() -> None:
    """
    A bad last run is a problem also if no partition failed, such as with refused credentials; so is a target that
    cannot be read.
    """
    runs = GeneratedLedger(sources={"joveo": ("stats",)}, accounts=("1",), days=3).facts().runs
    refused = evolve(runs[0], exit_code=3)
    facts = evolve(one_stream(), runs=[refused, *runs[1:]])
    unreadable = evolve(facts.status.targets[0], target="lake", sources=(), problems=(), error="no such directory")
    facts = evolve(facts, status=evolve(facts.status, targets=(*facts.status.targets, unreadable)))

    first, second = content(facts).summary["problems"]

    assert (first["kind"], first["reason"]) == ("target", "no such directory")
    assert (second["kind"], second["count"]) == ("run", 3)
    assert second["command"] == f"penstock runs {refused.run_id}"
    assert "internal error" in second["reason"]


def test_a_parked_source_is_a_problem() -> None:
    """
    A parked source is a problem in the provider's words, once: that its last run ended with 4 is not another problem. A
    kind of a later version is shown, too.
    """
    runs = GeneratedLedger(sources={"joveo": ("stats",)}, accounts=("1",), days=3).facts().runs
    facts = evolve(one_stream(), runs=[evolve(runs[0], exit_code=4)])
    parked = {"kind": "parked", "stream": "", "account": {}, "first_day": None, "last_day": None}
    facts = with_problems(
        facts, a_problem(kind="of tomorrow"), a_problem(**parked, reason="Joveo states a wait until 18:00")
    )

    first, second = content(facts).summary["problems"]

    assert (first["kind"], first["streams"], first["reason"]) == ("parked", [], "Joveo states a wait until 18:00")
    assert (second["kind"], second["command"]) == ("of tomorrow", None)


def test_open_days_are_listed_by_their_closing() -> None:
    """
    The next to close first, those that never close last.
    """
    source = content(SMALL.facts()).summary["targets"][0]["sources"][1]

    closings = [one["closes"] for one in source["openings"]]
    assert closings[-1] is None
    assert closings[:-1] == sorted(closings[:-1])
    assert source["openings"][-1]["first"] is None
    assert source["openings"][0]["first"] == source["openings"][0]["last"] == "2026-11-25"


def test_changes_of_the_last_day_are_summed_up_by_month() -> None:
    """
    The earliest month first; of a partition that changed twice, from before the first to after the last. An older
    change, a sum that did not change, and other values with the same rows and sums are no news.
    """
    facts = one_stream(days=60)
    change = evolve(a_change(facts), stream="stats", target="warehouse", source="joveo")

    def moved(account: str, day: date, hours: int, rows: tuple[int, int], spend: tuple[str, str]) -> Any:
        return evolve(
            change,
            account={"client_id": account},
            day=day,
            changed_at=NOW - timedelta(hours=hours),
            rows_before=rows[0],
            rows_after=rows[1],
            sums={"spend": (Decimal(spend[0]), Decimal(spend[1]))},
        )

    october, november = date(2026, 10, 31), date(2026, 11, 2)
    changes = [
        moved("1", november, 1, (5, 6), ("1.00", "1.10")),
        moved("1", october, 3, (8, 9), ("2.10", "2.30")),
        moved("1", october, 5, (7, 8), ("2.00", "2.10")),
        moved("2", october, 5, (4, 4), ("0.70", "0.40")),
        moved("2", october, 30, (1, 100), ("0.00", "99.00")),
        moved("3", october - timedelta(days=1), 1, (4, 4), ("0.70", "0.70")),
    ]

    first, second = content(evolve(facts, changes=changes)).summary["news"]

    assert (first["month"], first["days"], first["accounts"]) == ("2026-10", 1, 2)
    assert (first["rows"], first["sums"]) == ([11, 13], [["spend", "2.70", "2.70", "0.00"]])
    assert first["command"] == "penstock changes joveo --to warehouse --since 2026-11-27"
    assert (second["month"], second["rows"], second["sums"]) == ("2026-11", [5, 6], [["spend", "1.00", "1.10", "0.10"]])


def test_members_that_no_column_holds_are_news_while_they_are_new() -> None:
    """
    Those that the status has as new, by stream: a member that the last run met and that is known for a week is none.
    """
    met_again = GeneratedLedger(sources={"joveo": ("stats",)}, accounts=("1",), days=3).facts()
    assert met_again.runs[0].report["streams"]["job_stats"]["unknown_members"]
    assert content(met_again).summary["news"] == []

    problem = a_problem(stream="job_stats", kind="new", members=("costPerHire", "remote"))
    (news,) = content(with_problems(met_again, problem)).summary["news"]

    assert (news["stream"], news["members"]) == ("job_stats", ["costPerHire", "remote"])
    assert news["command"] == "penstock streams joveo job_stats"


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_loads_nothing() -> None:
    """
    No address, no source and no link in it; its policy allows just its own style sheet and script, by checksum.
    """
    text = render(content(SMALL.facts()))
    page = Page(text)

    outside = text.replace("http://www.w3.org/2000/svg", "")  # the name of a format, which nobody opens
    assert re.findall(r"(?i)\b(?:https?|wss?|ftp):|//[a-z]|url\(|@import|javascript:", strip_comments(outside)) == []
    leading = [
        (tag, name, value)
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "formaction", "style") or name.startswith("on")
    ]
    assert leading == [("link", "href", "data:,")]
    (stated,) = [one["content"] for tag, one in page.elements if one.get("http-equiv") == "Content-Security-Policy"]
    assert stated == policy()
    assert "default-src 'none'" in policy()
    assert "unsafe" not in policy()
    for element in ("style", "script"):
        (body,) = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        assert f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" in policy()


def strip_comments(text: str) -> str:
    return re.sub(r"(?m)^\s*//.*$|\s// .*$", "", text)


@pytest.mark.parametrize("hostile", [HOSTILE, "<!--<script>", "]]>&amp;\u2028$data${style}", "'\"`\\"])
def test_hostile_names_stay_text(hostile: str) -> None:
    """
    Names of sources, streams, accounts and targets, errors and reasons: the same elements as without them, the same
    text.
    """
    plain = GeneratedLedger(sources={"joveo": ("stats",)}, accounts=("one", "two"), days=9, wrong=0.5)
    world = evolve(plain, sources={hostile: (hostile,)}, accounts=(hostile, "two"), target=hostile)
    facts = world.facts()
    broken = [evolve(one, error=hostile) if one.error else one for one in facts.partitions]

    text = render(content(evolve(facts, partitions=broken, notices=(hostile,))))
    page, usual = Page(text), page_of(plain.facts())

    assert page.elements == usual.elements
    assert text.count("</script") == render(content(plain.facts())).count("</script")
    summary = page.data("summary")
    assert summary["notices"] == [hostile]
    (target,) = summary["targets"]
    assert target["name"] == target["sources"][0]["name"] == target["sources"][0]["streams"][0]["name"] == hostile
    assert target["sources"][0]["streams"][0]["accounts"][0]["name"] == hostile
    assert hostile in [one.get("error") for one in page.data("block-0")["notes"].values()]


def test_secrets_are_masked() -> None:
    """
    A secret value in an error, a reason or a notice is not on the page.
    """
    secret = Secret("sesame-open-17")
    facts = with_problems(one_stream(), a_problem(reason=f"refused {secret.reveal()}"))
    facts = changed(facts, "1", LAST, standing="failed", error=f"key={secret.reveal()}")

    text = render(content(evolve(facts, notices=(f"see {secret.reveal()}",))))

    assert secret.reveal() not in text
    assert text.count("***") == 3


# --- the command ------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class ShopSettings(SourceSettings):
    base_url: str = setting("http://127.0.0.1", help="where it answers")
    shop_ids: tuple[str, ...] = setting(help="the shops")


@record(kind="report", key="id", account="shop_id", day="day")
class Sale:
    shop_id: str = added(description="the shop of the request")
    day: date = added(description="the day of the request")
    id: str
    price: Decimal = column(unit="USD", additive=True)


PLUGINS = (
    ConnectorPlugin(
        Connector(
            name="shop",
            summary="Sales of shops",
            settings=ShopSettings,
            streams=[
                Stream(
                    name="sales",
                    summary="Every sale",
                    record=Sale,
                    accounts=lambda settings: settings.shop_ids,
                    path="/sales",
                    params={"shop": "{account}", "day": "{since}"},
                    envelope=Envelope(items="sales", total="total"),
                    open_for=OpenFor(3),
                )
            ],
        )
    ),
    penstock_plugins,
)
SHOPS = (HOSTILE, "north *", "7")


def sales(request: SandboxRequest) -> SandboxResponse:
    name = f"{request.params['shop']}-{request.params['day']}"
    rows = [{"id": f"{name}-{number}", "price": "1.10"} for number in (1, 2)]
    return SandboxResponse(body=json.dumps({"sales": rows, "total": 2}).encode())


Run = Callable[..., int]


@pytest.fixture
def run(working_directory: Path) -> Iterator[Run]:
    """Commands in an empty directory, with a source that answers."""
    with serve(sales) as server:
        shops = json.dumps(list(SHOPS))
        (working_directory / "penstock.toml").write_text(
            f'[source.shop]\nbase_url = "{server.base_url}"\nshop_ids = {shops}\n'
            '[sink.files]\nkind = "jsonl"\npath = "data"\n[pipeline.daily]\nsource = "shop"\nsink = "files"\n'
        )

        def run(*args: str) -> int:
            return main(list(args), plugins=PLUGINS, environ={})

        yield run


def test_the_page_of_a_run(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    One file from the ledger; the command that it shows for a day reads just that day again, whatever the names.
    """
    assert run("run", "daily", "--since", "-9d", "-q") == 0
    assert run("page", "--html", "status.html") == 0
    assert capsys.readouterr() == ("", "")

    page = Page((tmp_path / "status.html").read_text())
    (stream,) = page.data("summary")["targets"][0]["sources"][0]["streams"]
    assert [one["name"] for one in stream["accounts"]] == sorted(SHOPS)
    assert {one["states"] for one in stream["accounts"]} == {"f" * 6 + "o" * 3}
    assert stream["rows"] == [6] * 9
    assert stream["sums"] == [["6.60"] * 9]
    day = page.data("summary")["first"]
    for again in page.data("block-0")["again"]:
        words = [*shlex.split(again)[1:], "--since", day, "--until", day, "--full"]
        assert run(*words, "--log-format", "json") == 0
        events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert sum(event["event"] == "partition_delivered" for event in events) == 1


def test_the_page_needs_a_place(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A page without a place, with two, in no directory, without a target, or with an age that is none, is a line and exit
    code 2.
    """
    assert run("page") == 2
    assert run("page", "--html", "a.html", "--port", "0") == 2
    assert run("page", "--html", "a.html", "--to", "jsonl:nowhere", "--max-age", "soon") == 2
    assert capsys.readouterr().err.splitlines() == [
        "penstock: error: name one of --html FILE and --port N",
        "penstock: error: name one of --html FILE and --port N",
        "penstock: error: --max-age: found 'soon', expected a time such as 26h",
    ]
    assert run("page", "--html", "absent/a.html", "--to", "files") == 2
    assert "Name a file in a directory that this user may write" in capsys.readouterr().err
    assert run("page", "--html", "/dev/full", "--to", "files") == 2
    assert capsys.readouterr().err.endswith("cannot be written: No space left on device. Free some space\n")
    assert [path.name for path in tmp_path.iterdir()] == ["penstock.toml"]


def test_before_the_first_run_the_page_is_empty(run: Run, tmp_path: Path) -> None:
    """
    The page before the first run states that nothing was delivered, and has no stream.
    """
    assert run("page", "--html", "status.html", "--to", "files") == 0
    summary = Page((tmp_path / "status.html").read_text()).data("summary")
    assert (summary["targets"], summary["problems"]) == ([{"name": "files", "sources": []}], [])


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """
    The file of the page keeps its access rights when it is replaced; nothing else is left in the directory.
    """
    file = tmp_path / "status.html"
    file.write_text("before")
    file.chmod(0o640)

    write(file, "after")

    assert (file.read_text(), file.stat().st_mode & 0o777) == ("after", 0o640)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_behind_a_link_is_replaced_at_its_place(tmp_path: Path) -> None:
    """
    The link stays; a device is written to and stays a device.
    """
    file, link = tmp_path / "www.html", tmp_path / "status.html"
    file.write_text("before")
    link.symlink_to(file)

    write(link, "after")
    write(Path("/dev/null"), "after")

    assert link.is_symlink()
    assert file.read_text() == "after"
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(("text", "expected"), [("26h", 93600), ("90min", 5400), ("2 d", 172800), ("45s", 45)])
def test_an_age_is_a_time(text: str, expected: float) -> None:
    """
    A number and its unit.
    """
    assert seconds(text) == expected


# --- served -----------------------------------------------------------------------------------------------------------


def response_of(
    pages: PageServer, method: str = "GET", target: str = "/", host: str = "127.0.0.1:8000"
) -> SandboxResponse:
    return pages(SandboxRequest(method=method, target=target, headers={"host": host}, body=b""))


def test_each_load_is_made_anew() -> None:
    """
    No browser keeps it, frames it, or guesses its type; HEAD is answered like GET.
    """
    made = iter(["first", "second", "third"])
    pages = PageServer(partial(next, made), clock=count().__next__)

    assert [response_of(pages).body, response_of(pages, target="/?a=1").body] == [b"first", b"first"]
    response = response_of(pages, method="HEAD")
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == f"{policy()}; frame-ancestors 'none'"


def test_a_page_that_took_long_is_shown_again_for_a_while() -> None:
    """
    Ten times as long as it took: reloading a large page is no load on its target.
    """
    made, now = [], [100.0]

    def make() -> str:
        made.append(now[0])
        now[0] += 6
        return f"made at {made[-1]:.0f}"

    pages = PageServer(make, clock=lambda: now[0])

    assert response_of(pages).body == b"made at 100"
    now[0] = 165.9
    assert response_of(pages).body == b"made at 100"
    now[0] = 166
    assert response_of(pages).body == b"made at 166"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"host": "localhost:8000"}, 200),
        ({"host": "127.0.0.1"}, 200),
        ({"host": "evil.example:8000"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": ""}, 403),
        ({"method": "POST"}, 405),
        ({"method": "DELETE"}, 405),
        ({"target": "/other"}, 404),
        ({"target": "http://evil.example/"}, 404),
    ],
)
def test_only_this_machine_reads_the_page(request_: dict[str, str], status: int) -> None:
    """
    Another site's name that leads here, another method and another path get a refusal, and nothing is read.
    """
    made: list[str] = []
    pages = PageServer(partial(lambda: made.append("x") or "page"))

    response = response_of(pages, **request_)

    assert response.status == status
    assert made == (["x"] if status == 200 else [])
    assert (response.body == b"page") == (status == 200)


@pytest.mark.parametrize("error", [TargetError("the ledger is locked"), UsageError("no target was used yet")])
def test_a_page_that_cannot_be_made_states_the_reason(error: PenstockError) -> None:
    """
    The server stays, and answers the next request.
    """

    def fail() -> str:
        raise error

    response = response_of(PageServer(partial(fail)))

    assert (response.status, response.headers["Content-Type"]) == (503, "text/plain; charset=utf-8")
    assert str(error).encode() in response.body


def test_the_server_is_on_loopback(tmp_path: Path) -> None:
    """
    The server of the page prints its address, and ends with Ctrl-C and exit code 0.
    """
    with command(tmp_path, "page", "--port", "0") as process:
        assert process.stdout is not None
        printed = process.stdout.readline().decode()
        process.send_signal(signal.SIGINT)

        assert process.wait(60) == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+ until Ctrl-C\n", printed)


def test_a_port_in_use(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A port that another server has is a line and exit code 2.
    """
    with serve(sales) as taken:
        assert run("page", "--port", str(taken.port), "--to", "files") == 2
    assert "cannot be used" in capsys.readouterr().err


def test_the_project_of_the_options_before_it_is_shown(run: Run, tmp_path: Path) -> None:
    """
    A source by its name, and only days that were selected.
    """
    assert run("run", "daily", "--since", "-9d", "-q") == 0
    assert run("--config", "penstock.toml", "page", "shop", "--days", "4", "--html", "status.html") == 0

    summary = Page((tmp_path / "status.html").read_text()).data("summary")
    assert summary["days"] == 3  # four days with today, which is not read yet
    assert isinstance(Project(tmp_path / "penstock.toml", plugins=PLUGINS).partitions().partitions, tuple)
