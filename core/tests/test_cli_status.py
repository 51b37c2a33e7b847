"""
What the ledger holds, in tables: ``penstock status``, ``runs``, ``changes``, ``totals``.
"""

import contextlib
import csv
import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from attrs import evolve
from penstock._cli.changes import print_changes
from penstock._cli.output import column_widths, print_table
from penstock._cli.status import print_problems, print_sources
from penstock._project.used_targets import UsedTargets
from penstock.results import AccountStatus, Change, Problem, RunInfo, SourceStatus, TargetStatus
from shop_commands import NOW, TODAY, YESTERDAY, Here, Shop, days, on_a_terminal

pytestmark = pytest.mark.slow


def test_status_counts_final_open_missing_and_failed(here: Here) -> None:
    """
    Per stream and account, from the targets last used; a gap between delivered days is missing.
    """
    here.configure(["7", "500"])
    here("run", "daily", "--since", str(TODAY - timedelta(days=9)), "--until", str(TODAY - timedelta(days=8)), code=1)
    here("run", "daily", *days(2), code=1)

    (target,) = json.loads(here("status", "--json"))["targets"]
    (source,) = target["sources"]
    streams = {(one["stream"], one["account"].get("shop_id")): one for one in source["streams"]}
    good, bad = streams["sales", "7"], streams["sales", "500"]

    assert target["target"] == "files"
    assert (good["final"], good["open"], good["missing"], good["failed"]) == (2, 2, 5, 0)
    assert (bad["final"], bad["failed"], bad["last_read"]) == (0, 4, None)
    assert good["rows"] == 8
    assert [run["exit_code"] for run in source["runs"]] == [1, 1]
    assert re.search(r"shop\.sales +2 +8 +just now +4 failed, 10 missing, 2 open, 2 final, ", here("status"))
    assert re.search(r"shop\.sales +500 +0 +never +4 failed, ", here("status", "-v"))


@pytest.mark.parametrize(("command", "columns"), [(["status"], 70), (["plan", "daily", "--full"], 50)])
def test_no_word_is_broken_on_a_narrow_terminal(
    here: Here, monkeypatch: pytest.MonkeyPatch, command: list[str], columns: int
) -> None:
    """
    A table is wrapped between words: each word of the wide table is in the narrow one.
    """
    here("run", "daily", *days(2))
    here.configure(["7", "500"])
    here("run", "daily", *days(3), code=1)
    wide = here(*command)
    monkeypatch.setenv("COLUMNS", str(columns))
    on_a_terminal(monkeypatch)

    narrow = re.sub(r"\x1b\[[\d;]*m", "", here(*command))

    assert max(map(len, narrow.splitlines())) <= columns < max(map(len, wide.splitlines()))
    assert set(wide.split()) <= set(narrow.split())


def test_a_table_that_does_not_fit_is_printed_in_blocks(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    No cell is cut on a narrow terminal: an amount without its last digit would be another amount.
    """
    here("run", "daily", *days(2))
    monkeypatch.setenv("COLUMNS", "30")
    on_a_terminal(monkeypatch)

    narrow = here("status", "--totals", "--daily")

    assert (
        f"account       7\nperiod        {YESTERDAY}\nopen          1\nrows          2\nprice_amount  1.75\n" in narrow
    )
    assert "Not divided by days, so left out: shop.items" in " ".join(narrow.split())


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (40, ["account  period   rows    spend", "a        2026-09     9  2020.50", "b        2026-10    81     7.25"]),
        (16, ["account  a", "period   2026-09", "rows     9", "spend    2020.50", ""]),
    ],
    ids=["a table", "blocks"],
)
def test_amounts_of_a_column_have_equally_many_digits(
    columns: int, lines: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The amounts of a column have equally many digits after the point, also where each row is a block.
    """
    monkeypatch.setenv("COLUMNS", str(columns))
    on_a_terminal(monkeypatch)

    print_table(
        ["account", "period", "rows", "spend"],
        [("a", "2026-09", 9, Decimal("2020.5")), ("b", "2026-10", 81, Decimal("7.25"))],
    )

    printed = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert [line.rstrip() for line in printed.splitlines()][: len(lines)] == lines


@pytest.mark.parametrize(
    ("rows", "room", "widths"),
    [
        ([["name", "reason"], ["a.b", "one two three"]], 40, [4, 13]),
        ([["name", "reason"], ["a.b", "one two three"]], 15, [4, 9]),
        ([["name", "reason"], ["a.b", "one two three"]], 11, None),
        ([["name", "age"], ["a_long_name_of_a_stream", "12 min ago"]], 34, None),
        ([["why"], ["see https://provider.example/a/long/path?of=it for more of it"]], 20, [20]),
    ],
    ids=["all fits", "sentences wrap", "a word does not fit", "short texts do not wrap", "an address may be broken"],
)
def test_columns_are_as_wide_as_their_longest_word(rows: list[list[str]], room: int, widths: list[int] | None) -> None:
    """
    None where the words do not fit beside each other.
    """
    assert column_widths(rows, room) == widths


def test_streams_without_days_share_a_line_of_status(here: Here) -> None:
    """
    Where nothing is wrong with them, or all failed. Of several sources: one table, with what is wrong first, and the
    runs that ended badly below.
    """
    result = a_status({"ok": [], "bad": ["sales"], "down": ["items", "shops", "prices"]})

    print_sources(result, NOW, verbose=False)
    printed = [" ".join(line.split()) for line in here.capsys.readouterr().out.splitlines()]
    print_sources(result, NOW, verbose=True)
    verbose = here.capsys.readouterr().out

    assert printed == [
        "stream accounts rows last read partitions",
        "bad.sales 1 7 just now 1 failed, 2026-11-01",
        "down: 3 snapshots 1 21 just now 3 failed",
        "ok.sales 1 7 just now 1 final, 2026-11-01",
        "ok: 3 snapshots 1 21 just now 3 final",
        "bad: 3 snapshots 1 21 just now 3 final",
        "down.sales 1 7 just now 1 final, 2026-11-01",
        "bad.sales: last error: refused",
        "down: last error of items, shops, prices: refused",
        "",
        "bad: the run of just now ended with 1, no good run yet",
        "down: the run of just now ended with 1, no good run yet",
        "15 requests this month (ok 5, bad 5, down 5)",
    ]
    assert verbose.count("ok.items") == 1
    assert "last runs of bad" in verbose


def test_a_failure_of_one_account_is_one_line_for_all_its_streams(capsys: pytest.CaptureFixture[str]) -> None:
    """
    The line of a failed account has the streams, the accounts and the days; of several targets, each has a heading.
    """
    one = Problem(
        source="shop", stream="sales", account={"shop_id": "7"}, kind="failed", count=2, last_read=NOW, reason="refused"
    )
    dated = evolve(one, first_day=date(2026, 11, 1), last_day=date(2026, 11, 2))
    parked = Problem(source="mall", kind="parked", count=1, last_read=None, reason="a wait until 18:00")

    files = TargetStatus(target="files", sources=(), problems=(dated, evolve(one, stream="items", count=1), parked))
    print_problems([files, TargetStatus(target="lake", sources=(), problems=(one,))], NOW)

    assert capsys.readouterr().out.splitlines() == [
        "target files",
        "shop: 3 failed in sales, items of 7, 2026-11-01 to 2026-11-02, last read just now: refused",
        "mall: parked, never read: a wait until 18:00",
        "",
        "target lake",
        "shop.sales: 2 failed of 7, last read just now: refused",
    ]


def a_status(failed: Mapping[str, Sequence[str]]) -> list[SourceStatus]:
    """Sources with a stream that has days and three that have none; ``failed``: by source, the streams that failed."""
    found = []
    for source, bad in failed.items():
        streams = []
        for name in ("sales", "items", "shops", "prices"):
            one = AccountStatus(source=source, stream=name, account={"shop_id": "7"}, final=1, rows=7, last_read=NOW)
            if name == "sales":
                one = evolve(one, first_day=date(2026, 11, 1), last_day=date(2026, 11, 1))
            streams.append(evolve(one, final=0, failed=1, error="refused") if name in bad else one)
        run = RunInfo(run_id="r", source=source, started_at=NOW, target="files", exit_code=int(bool(bad)))
        good = None if bad else NOW
        status = SourceStatus(source=source, streams=tuple(streams), runs=(run,), last_good=good, requests_this_month=5)
        found.append(status)
    return found


def test_sources_of_which_nothing_was_delivered_have_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Sources that ran and delivered nothing are named in one line; a table would have a header only.
    """
    sources = [SourceStatus(source=name, streams=(), runs=()) for name in ("shop", "market")]

    print_sources(sources, NOW, verbose=False)

    assert capsys.readouterr().out == "nothing of shop, market was delivered yet\n"


def test_long_output_is_paged_on_a_terminal(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The pager gets the text as the terminal would; what fits is printed.
    """
    paged: list[str] = []
    on_a_terminal(monkeypatch)
    monkeypatch.setattr("click.echo_via_pager", paged.append)

    monkeypatch.setenv("LINES", "200")
    printed = here("streams", "shop")
    monkeypatch.setenv("LINES", "10")
    assert here("streams", "shop") == ""

    assert paged == [printed]
    assert "shop_id" in printed


def test_runs_are_listed_with_their_reasons(here: Here) -> None:
    """
    Newest first; one by its id with its whole report.
    """
    here("run", "daily", *days(2))
    here.configure(["7", "500"])
    here("run", "daily", *days(2), code=1)

    newest, first = here("runs").splitlines()[1:]
    assert re.search(r"shop .* 1 +7 +2 failed, ", newest)
    assert re.search(r"shop .* 0 +7$", first)
    run_id = newest.split()[0]
    report = json.loads(here("runs", run_id))
    assert report["sources"]["shop"]["streams"]["sales"]["partitions"]["failed"] == 2
    assert report["sources"]["shop"]["errors"][0]["stream"] == "sales"
    here("runs", "20200101T000000Z-000000", code=2)
    assert "no run 20200101T000000Z-000000 is in a ledger" in here.err


def test_a_run_that_left_partitions_over_states_how_many(here: Here) -> None:
    """
    A deadline, a signal and a quota are no failure, and the day is not read.
    """
    here.configure(["429"])
    here("run", "daily", *days(2), "--streams", "sales", code=4)

    assert re.search(r"shop .* 4 +0 +2 left over, parked: ", here("runs"))


@pytest.mark.parametrize("words", ["status --totals", "changes --since 2000-01-01"])
def test_what_is_compared_with_an_invoice_is_a_table_for_a_spreadsheet(here: Here, words: str) -> None:
    """
    CSV with a header, also of an empty list. Only one form at once.
    """
    here("run", "daily", *days(2))

    header, *rows = csv.reader(here(*words.split(), "--csv").splitlines())

    assert len(set(header)) == len(header) > 3
    assert all(len(row) == len(header) for row in rows)
    here(*words.split(), "--csv", "--json", code=2)


def test_verify_names_the_target_of_each_line(here: Here) -> None:
    """
    Each line of ``verify`` names its target: a partition may differ in one of several targets, and be deleted in
    another.
    """
    for sink in ("files", "jsonl:other"):
        here("run", "shop", "--to", sink, *days(1), "--streams", "sales")
    here("forget", "shop", "sales", "--accounts", "7", "--rows", "--to", "jsonl:other", "--yes")
    for path in (here.folder / "data").rglob("data.jsonl"):
        path.unlink()

    lines = here("verify", code=1).splitlines()

    assert any(line.startswith("files: shop.sales[") and "data.jsonl" in line for line in lines)
    assert any("other: shop.sales[" in line and "deleted by forget --rows" in line for line in lines)


def test_status_without_totals_is_no_table_for_a_spreadsheet(here: Here) -> None:
    """
    ``status --csv`` without ``--totals`` is refused, since its lines are no amounts of an invoice; JSON has all of
    them.
    """
    here("status", "--csv", code=2)

    assert "--csv belong to --totals" in here.err


def test_totals_for_a_spreadsheet_are_those_of_periods(here: Here) -> None:
    """
    A snapshot has none: summed up with the others, its rows would be counted in an invoice.
    """
    here("run", "daily", *days(2))

    rows = list(csv.DictReader(here("status", "--totals", "--daily", "--csv").splitlines()))

    assert {row["stream"] for row in rows} == {"sales"}
    assert [(row["account"], row["period"], row["rows"], row["price_amount"]) for row in rows][-1:] == [
        ("7", str(YESTERDAY), "2", "1.75")
    ]


def test_changes_are_rows_before_and_after(here: Here) -> None:
    """
    One row for each measure that changed, as a table, CSV or JSON.
    """
    here("run", "daily", *days(1))
    here.server.app = lambda request: Shop()(evolve(request, target=request.target.replace("shop=7", "shop=13")))
    here("run", "daily", *days(1), code=5)
    assert here("changes", "--since", "2999-01-01") == "nothing was restated since 2999-01-01\n"
    assert "restated" in here("changes"), "since yesterday"

    rows = list(csv.DictReader(here("changes", "--since", "2000-01-01", "--csv").splitlines()))

    assert [(row["account"], row["day"], row["what"], row["before"], row["after"]) for row in rows] == [
        ("7", str(YESTERDAY), "rows", "2", "1"),
        ("7", str(YESTERDAY), "price_amount", "1.75", "1.50"),
    ]
    table = [" ".join(line.split()) for line in here("changes", "daily", "--since", "2000-01-01").splitlines()]
    assert table == [
        f"shop.sales {YESTERDAY:%Y-%m} (1 partition of 1 account): rows 2 -> 1, price_amount 1.75 -> 1.50",
        "",
        "shop.sales",
        "account day restated",
        f"7 {YESTERDAY} rows 2 -> 1, price_amount 1.75 -> 1.50",
    ]


def test_values_that_move_no_sum_are_one_line_of_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A new member in every record of a database's rows does not hide what moved.
    """
    one = Change(
        target="warehouse",
        source="shop",
        stream="sales",
        account={"shop_id": "7"},
        day=date(2026, 11, 2),
        rows_before=9,
        rows_after=9,
        sums={"spend": (Decimal("1.50"), Decimal("1.75"))},
        runs=("r",),
        changed_at=NOW,
    )
    same = [evolve(one, day=date(2026, 11, number), sums={}) for number in range(3, 23)]

    print_changes([one, *same])

    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()] == [
        "shop.sales 2026-11 (1 partition of 1 account): spend 1.50 -> 1.75, "
        "20 partitions with other values, and the same rows and sums",
        "",
        "shop.sales",
        "account day restated",
        "7 2026-11-02 spend 1.50 -> 1.75",
    ]


def test_status_exits_1_for_old_data(here: Here) -> None:
    """
    `--max-age` is for monitoring; `--problems` shows what needs attention; `--totals` sums.
    """
    here("run", "daily", *days(2))

    assert here("status", "--problems") == "nothing needs attention\n"
    assert here("status", "--max-age", "1h", "-q")
    assert re.search(
        r"^shop.sales\naccount .*\n7 +\d{4}-\d\d +\d of \d\d +\d +\d +\d.\d\d\n", here("status", "--totals")
    )
    assert re.search(rf"\n7 +{YESTERDAY} +1 +2 +1.75\n", here("status", "--totals", "--daily"))
    here("status", "--daily", code=2)


def test_an_old_account_is_named_with_the_age_of_its_data(here: Here) -> None:
    """
    The line that a monitor gets has the stream and the time of its last reading.
    """
    here("run", "daily", *days(2))
    with contextlib.closing(sqlite3.connect(here.folder / "data/.penstock/ledger.sqlite")) as ledger, ledger:
        ledger.execute("update partitions set read_at = '2020-01-01T00:00:00+00:00'")

    here("status", "--max-age", "1h", "-q", code=1)
    assert re.search(
        r"2 accounts not read .*: shop\.items \(last read \d+ d ago\), shop\.sales of 7 \(last read", here.err
    )
    here("run", "shop", "--to", "csv:trial", *days(1))
    here("status", "--max-age", "1h", "-q", code=1)
    assert re.search(r"shop\.items \(last read \d+ d ago\) in files, ", here.err)


def test_nothing_used_yet_is_reported(here: Here) -> None:
    """
    Without any target, ``status`` of an unknown place states what to give.
    """
    (here.folder / "penstock.toml").unlink()
    here("status", code=2)
    assert "no target was used from this configuration yet; name one with --to. There is no penstock.toml" in here.err
    assert "nothing was delivered yet" in here("status", "--to", "jsonl:elsewhere")


def test_a_place_that_took_nothing_is_no_used_target(here: Here) -> None:
    """
    A run that could not open its target leaves no trace of it: plan and status look where something was delivered.
    """
    (here.folder / "taken").write_text("a file")
    here("run", "shop", "--to", "jsonl:good", *days(1))

    here("run", "shop", "--to", "jsonl:taken", *days(1), code=2)

    assert "good" in here("status")
    assert "taken" not in here.out


def test_used_targets_are_kept_without_passwords(tmp_path: Path) -> None:
    """
    The target used last comes first; the file is its owner's only.
    """
    used = UsedTargets(tmp_path)
    start = datetime(2026, 1, 1, tzinfo=UTC)

    used.remember("jsonl:/a", ["x", "y"], start)
    used.remember("jsonl:/b", ["x"], start + timedelta(hours=1))

    assert used.targets() == {"jsonl:/b": ("x",), "jsonl:/a": ("x", "y")}
    assert used.targets(["y"]) == {"jsonl:/a": ("y",)}
    assert used.file.stat().st_mode & 0o777 == 0o600
    used.file.write_text("broken")
    assert used.targets() == {}


def test_a_target_used_again_is_not_written_again(tmp_path: Path) -> None:
    """
    The file is left as it is where the same sources were the last that a target was used for: a run from cron.
    """
    used = UsedTargets(tmp_path)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    hours = (start + timedelta(hours=hour) for hour in range(1, 9))
    used.remember("jsonl:/a", ["x", "y"], start)
    written = used.file.stat().st_mtime_ns, used.file.stat().st_ino

    used.remember("jsonl:/a", ["x", "y"], next(hours))

    assert (used.file.stat().st_mtime_ns, used.file.stat().st_ino) == written
    used.remember("jsonl:/b", ["x"], next(hours))
    used.remember("jsonl:/a", ["y"], next(hours))
    assert list(used.targets()) == ["jsonl:/a", "jsonl:/b"]
    assert list(used.targets(["x"])) == ["jsonl:/b", "jsonl:/a"]
    used.remember("jsonl:/a", ["x", "y"], next(hours))
    assert list(used.targets(["x"])) == ["jsonl:/a", "jsonl:/b"]
