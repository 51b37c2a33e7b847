"""
``penstock check``, ``plan`` and ``run``: what they refuse, deliver, print and report.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import penstock
import penstock_plugins
import pytest
from attrs import evolve
from command_in_process import main
from penstock._cli.follow import following
from penstock._cli.lines import Lines, in_words, restated
from penstock._cli.run import summarise
from penstock._cli.session import Session
from penstock._project.run_result import RunResult
from penstock._run_report.report import RunReport
from penstock.connector import Stream
from shop_commands import TODAY, YESTERDAY, Here, ShopPlugin, days

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("buyer", 0, ""),
        ("sales.buyer", 0, ""),
        ("buyr", 2, "exclude: 'buyr' is no column of shop. Did you mean \"buyer\"?"),
        ("sale.buyer", 2, 'Did you mean "sales.buyer"?'),
        ("items.buyer", 2, "exclude: 'items.buyer' is no column of shop."),
    ],
)
def test_a_column_to_leave_out_must_exist(here: Here, name: str, code: int, message: str) -> None:
    """
    A name that is misspelt would leave nothing out, and personal data would be delivered without a word.
    """
    here("plan", "shop", "--set", f'source.shop.exclude=["{name}"]', "--to", "jsonl:data", *days(1), code=code)

    assert message in here.err


@pytest.mark.parametrize("verb", ["check", "plan", "run"])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            'exclude=["id"]',
            "exclude: 'id' cannot be left out of sales and items: it is (part of) a key or a partition, or what "
            "another stream is requested by",
        ),
        ('exclude=["items.id"]', "exclude: 'items.id' cannot be left out of items: it is (part of) a key"),
        ('exclude=["sales.shop_id"]', "exclude: 'sales.shop_id' cannot be left out of sales"),
        ('base_url="http://shop.example"', "base_url: plain http to shop.example: credentials and data could be read"),
    ],
    ids=["key", "key of a stream", "partition", "plain http"],
)
def test_every_verb_refuses_settings_that_no_run_can_use(here: Here, verb: str, setting: str, message: str) -> None:
    """
    Settings that the reading itself would fail at are refused when the source is configured, before any request.
    """
    target = () if verb == "check" else ("--to", "jsonl:data", *days(1))

    here(verb, "shop", "--set", f"source.shop.{setting}", *target, code=2)

    assert message in here.err
    assert here.server.requests == []


def test_a_key_of_a_stream_that_is_not_read_may_be_left_out(here: Here) -> None:
    """
    Only the streams that are read decide which columns can be left out.
    """
    here("run", "shop", "--set", "source.shop.exclude=shop_id", "--streams", "items", "--to", "jsonl:data")

    assert "3 records" in here.err


def test_check_reports_each_source_in_one_line(here: Here) -> None:
    """
    One request, one line, nothing recorded.
    """
    assert "credentials work" in here("check", "shop")
    assert not (here.folder / "data").exists()


def test_a_variable_of_a_misspelt_source_or_sink_is_noticed(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    """
    It would have no effect in silence. A variable that resembles nothing, or makes a source of its own, is of another
    configuration.
    """
    environ = {
        "SHOP_KEY": "sesame-open",
        "PENSTOCK_SOURCE__SHPO__TIMEOUT_S": "3",
        "PENSTOCK_SINK__FILE__GZIP": "true",
        "PENSTOCK_SOURCE__OTHER__TIMEOUT_S": "3",
        "PENSTOCK_SOURCE__SHOPS__CONNECTOR": "shop",
    }

    assert main(["plan", "daily", *days(2)], plugins=[ShopPlugin(), penstock_plugins], environ=environ) == 0

    assert [line for line in capsys.readouterr().err.splitlines() if "PENSTOCK_" in line] == [
        "penstock: notice: environment variable PENSTOCK_SOURCE__SHPO__TIMEOUT_S: no source 'shpo' here, so it has no "
        'effect. Did you mean "shop"?',
        "penstock: notice: environment variable PENSTOCK_SINK__FILE__GZIP: no sink 'file' here, so it has no effect. "
        'Did you mean "files"?',
    ]


def test_check_lists_the_problems_of_each_section(here: Here) -> None:
    """
    Below the name of the source, in the form in which a run lists them.
    """
    wrong = ("--set", "source.shop.timeout_s=soon", "--set", "source.shop.retries=often")

    here("check", *wrong, code=2)

    assert "penstock: error: shop: 2 problems in the configuration:\n  - --set source.shop." in here.err
    assert "files: nothing was written yet" in here.out


def test_check_opens_one_sink(here: Here) -> None:
    """
    The name of a sink is checked like that of a source, and nothing is requested.
    """
    assert here("check", "files") == "files: nothing was written yet, and whether a run may write is not tried\n"
    assert here.server.requests == []


def test_a_key_of_a_sink_that_has_none_is_refused(here: Here) -> None:
    """
    The message ends with the keys that there are.
    """
    with (here.folder / "penstock.toml").open("a") as file:
        file.write('\n[sink.lines]\nkind = "stdout"\nname_streams = true\n')

    here("check", "lines", code=2)

    assert "sink.lines.name_streams: unknown key. There are none" in here.err


def test_check_reports_a_fault_of_the_file_once(here: Here) -> None:
    """
    A problem of a pipeline concerns every source and sink. It has one line, and each of them is checked nevertheless.
    """
    with (here.folder / "penstock.toml").open("a") as file:
        file.write('\n[pipeline.weekly]\nsource = "shop"\nsink = "files"\nstreems = ["sales"]\n')

    out = here("check", code=2)

    assert here.err.count("pipeline.weekly.streems: unknown key") == 1
    assert "shop: credentials work" in out


def test_a_run_delivers_and_the_next_reads_only_what_is_open(here: Here) -> None:
    """
    Files in place, summary on stderr, nothing on stdout; the second run leaves final days alone.
    """
    here("run", "daily", *days(5))

    assert here.out == ""
    assert "penstock: delivered: 13 records, 6 of 6 partitions delivered" in here.err
    file = here.folder / "data" / "shop" / "sales" / "by_shop_id=7" / f"by_report_date={YESTERDAY}" / "data.jsonl"
    assert [json.loads(line)["price_amount"] for line in file.read_text().splitlines()] == [1.5, 0.25]
    assert "run_started" in here.following.events
    assert here.following.events.count("partition_delivered") == 6
    before = len(here.server.requests)
    here("run", "daily", *days(5))
    assert len(here.server.requests) - before < 6


def test_plan_sends_no_request_and_gives_reasons(here: Here) -> None:
    """
    The partitions a run would fetch; what was delivered and is final is not among them.
    """
    before = json.loads(here("plan", "daily", *days(5), "--json"))["partitions"]
    assert here.server.requests == []
    here("run", "shop", "--to", "files", *days(5))

    after = json.loads(here("plan", "shop", *days(5), "--json"))["partitions"]

    assert {part["reason"] for part in before} == {"missing", "snapshot"}
    assert before[0] == {
        "source": "shop",
        "stream": "sales",
        "partition": {"shop_id": "7", "report_date": str(TODAY - timedelta(days=5))},
        "reason": "missing",
        "requests": 1,
        "timezone": None,
    }
    assert {part["reason"] for part in after} == {"open", "snapshot"}
    found = f"{len(after)} partitions to read, {6 - len(after)} final, {len(after)} requests\n"
    assert here("plan", "shop", *days(5)).endswith(found)


def test_plan_shows_days_in_a_row_in_one_line(here: Here) -> None:
    """
    Days of one account that are read for one reason share a line, which has all their requests; a day that is final, or
    has another reason, ends it. Many accounts with the same days share a line, too, unless -v lists them.
    """
    first, last, final = (TODAY - timedelta(days=number) for number in (5, 1, 3))
    lines = [" ".join(line.split()) for line in here("plan", "daily", *days(5)).splitlines()]
    here("run", "shop", "--to", "files", "--since", str(final), "--until", str(final))

    later = here("plan", "shop", *days(5), "--to", "files")

    assert f"shop.sales 7 {first} to {last} missing 5" in lines
    assert f"{first} to {TODAY - timedelta(days=4)} " in later
    here.configure([str(number) for number in range(20, 26)])
    assert re.search(rf"shop\.sales +\(6\) +{first} to {last} +missing +30\n", here("plan", "daily", *days(5)))
    assert re.search(rf"shop\.sales +25 +{first} to {last} +missing +5\n", here("plan", "daily", *days(5), "-v"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name what to read: the pipeline daily, or the source shop with --to, such as --to jsonl:data"),
        (["odd"], "penstock.toml: pipeline.odd.sink 'filez': expected a sink of penstock.toml (files), "),
        (["daily", "--to", "filez"], "--to 'filez': expected a sink of penstock.toml (files), "),
        (
            ["stray"],
            "penstock.toml: pipeline.stray.source: no source or pipeline 'shoop', nor a connector of that name. "
            'Did you mean "shop"?',
        ),
    ],
    ids=["nothing", "unknown sink of a pipeline", "unknown --to", "unknown source of a pipeline"],
)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_an_unreadable_configuration_is_one_sentence(here: Here, verb: str, arguments: list[str], message: str) -> None:
    """
    The sentence has the place of the wrong word, and what would have been right.
    """
    with (here.folder / "penstock.toml").open("a") as file:
        file.write('[pipeline.odd]\nsource = "shop"\nsink = "filez"\n')
        file.write('[pipeline.stray]\nsource = "shoop"\nsink = "files"\n')
    message = message.replace("the pipeline daily", "the pipeline daily or odd or stray")
    message = message.replace(" with --to, such as --to jsonl:data", "") if verb == "plan" else message

    here(verb, *arguments, code=2)

    assert message in here.err
    assert len(here.err.splitlines()) == 1


def test_a_source_without_a_sink_is_refused_with_the_missing_option(here: Here) -> None:
    """
    ``run SOURCE`` names the option that is missing, with a sink of the configuration.
    """
    here("run", "shop", code=2)
    assert "shop is a source: name its sink, such as `penstock run shop --to files`" in here.err


def test_stdout_has_nothing_but_data(here: Here) -> None:
    """
    ``--to -`` writes JSON lines, each with its stream when there are several.
    """
    lines = [json.loads(line) for line in here("run", "shop", "--to", "-", *days(1)).splitlines()]

    assert {line["_stream"] for line in lines} == {"sales", "items"}
    assert len(lines) == 5


class Chatty:
    """A plugin that prints wherever it is called, itself and by another program."""

    @penstock.hookimpl
    def penstock_secrets(self) -> dict[str, Any]:
        print("looking for vaults")
        return {}

    @penstock.hookimpl
    def penstock_event(self, event: Mapping[str, Any]) -> None:
        print("event", event["event"])
        subprocess.run(["echo", "program"], check=True)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "shop", "--to", "-", "--streams", "items"),
        ("plan", "shop", "--to", "files", "--json"),
        ("connectors", "--json"),
        ("check", "shop"),
    ],
    ids=lambda words: words[0],
)
def test_what_plugins_print_is_no_data(here: Here, words: tuple[str, ...]) -> None:
    """
    What plugins print goes to stderr: a program reads standard output.
    """
    expected = here(*words)
    here.following = Chatty()

    assert re.sub(r"\d+ ms", "", here(*words)) == re.sub(r"\d+ ms", "", expected)
    assert "looking for vaults\n" in here.err
    assert ("event run_finished\n" in here.err) == (words[0] == "run")


def test_what_the_programs_of_plugins_print_is_no_data(here: Here) -> None:
    """
    What the programs of plugins, and libraries that are no Python, print to standard output goes to stderr.
    """
    program = """
    import sys, penstock_plugins, shop_commands, test_cli_run
    from penstock._cli import main
    plugins = [shop_commands.ShopPlugin(), penstock_plugins, test_cli_run.Chatty()]
    sys.exit(main(sys.argv[1:], plugins=plugins, environ={"SHOP_KEY": "sesame-open"}))
    """
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), "run", "shop", "--to", "-", "--streams", "items"],
        cwd=here.folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )

    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["0", "1", "2"]
    assert "program\n" in done.stderr


def test_the_report_is_written_whole_and_private(here: Here) -> None:
    """
    The JSON of the run, readable by its owner only; nothing else is left beside it.
    """
    here("run", "shop", "--to", "jsonl:out", "--report", "report.json", *days(2))

    report = json.loads((here.folder / "report.json").read_text())
    assert (report["status"], report["exit_code"]) == ("delivered", 0)
    assert report["sources"]["shop"]["streams"]["sales"]["partitions"]["delivered"] == 2
    assert (here.folder / "report.json").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in here.folder.iterdir()) == [".penstock", "out", "penstock.toml", "report.json"]


def test_a_report_behind_a_link_keeps_link_and_access_rights(here: Here) -> None:
    """
    The file that a symbolic link names is written, and who could read it can read it still.
    """
    (here.folder / "reports").mkdir()
    real, link = here.folder / "reports" / "last.json", here.folder / "report.json"
    real.touch(mode=0o600)
    real.chmod(0o640)
    link.symlink_to(real)

    here("run", "shop", "--to", "jsonl:out", "--report", "report.json", *days(1))

    assert link.is_symlink()
    assert json.loads(real.read_text())["status"] == "delivered"
    assert real.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in real.parent.iterdir()] == ["last.json"]


def test_a_run_that_cannot_start_still_reports(here: Here) -> None:
    """
    A monitor finds the reason in the report.
    """
    here("run", "shop", "--to", "jsonl:out", "--report", "report.json", "--streams", "sale", code=2)

    report = json.loads((here.folder / "report.json").read_text())
    assert (report["exit_code"], report["errors"][0]["error"]) == (2, "UsageError")


def test_a_failed_partition_is_exit_1_and_reported_once(here: Here) -> None:
    """
    The rest is delivered; the failure is named with its partition.
    """
    here.configure(["7", "500"])

    here("run", "daily", *days(1), code=1)

    assert here.err.count(f"shop.sales[shop_id=500, report_date={YESTERDAY}]: failed:") == 1
    assert "2 of 3 partitions delivered, 1 failed" in here.err


def test_one_reason_is_reported_once(here: Here) -> None:
    """
    A reason that many partitions share word for word is printed for the first, with the number of the others; the
    report and the JSON log name each.
    """
    here.configure(["401"])

    here("run", "daily", *days(4), "--streams", "sales", "--report", "report.json", "-q", code=3)

    first, more = here.err.splitlines()
    assert f"shop.sales[shop_id=401, report_date={TODAY - timedelta(days=4)}]: failed: " in first
    assert "shop.sales: 3 more partitions failed for the same reason" in more
    assert len(json.loads((here.folder / "report.json").read_text())["errors"]) == 4


def test_a_reason_is_the_same_whichever_request_it_names(here: Here) -> None:
    """
    A provider that cannot be reached is one reason, though each partition requested another address.
    """
    here.configure(["7"])
    nobody = "source.shop.base_url=http://127.0.0.1:9"

    here("run", "daily", *days(4), "--streams", "sales", "--set", nobody, "-q", code=1)

    assert [line.count("failed") for line in here.err.splitlines()] == [1, 1]
    assert "3 more partitions failed for the same reason" in here.err


def test_a_provider_that_is_down_has_two_lines_whatever_its_streams(capsys: pytest.CaptureFixture[str]) -> None:
    """
    The first failure, and the number of the others with their streams. Another reason of a stream is a line of its own.
    """
    reasons = [("sales", "no connection"), ("items", "no connection"), ("sales", "no connection"), ("items", "cut")]
    with following(Lines(quiet=True)) as follow:
        for stream, reason in reasons:
            failed = {"event": "partition_failed", "source": "shop", "stream": stream, "error": "X", "reason": reason}
            follow({**failed, "partition": {"shop_id": "7"}, "request": None})
        follow({"event": "run_finished"})

    assert [line.partition("ERROR   ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "shop.sales[shop_id=7]: failed: no connection",
        "shop.items[shop_id=7]: failed: cut",
        "shop: 2 more partitions in sales, items failed for the reason of sales: no connection",
    ]


def test_a_failure_names_its_partition_once(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A message that begins with its own place is not put behind it again.
    """
    part = {"source": "shop", "stream": "sales", "partition": {"shop_id": "7"}}
    with following(Lines()) as follow:
        follow({"event": "partition_failed", **part, "error": "X", "reason": "2 of 3 arrived", "request": None})
        follow({"event": "note", "source": "shop", "message": "shop.sales: no JSON; reading sales[shop_id=7] again"})

    failed, note = capsys.readouterr().err.splitlines()
    assert failed.endswith(" shop.sales[shop_id=7]: failed: 2 of 3 arrived")
    assert note.endswith(" shop.sales: no JSON; reading sales[shop_id=7] again")


def test_a_day_whose_rows_moved_and_whose_sums_did_not() -> None:
    """
    The text of a restatement is never empty: without other numbers, the rows that came, went and changed.
    """
    moved = {"rows": [3, 3], "sums": {}, "came": 1, "went": 1, "changed": 0}

    assert restated(moved) == " (restated: 1 came, 1 went)"
    assert restated({**moved, "rows": [3, 4]}) == " (restated: 3 -> 4 rows)"


def test_a_run_whose_reader_had_enough_is_reported() -> None:
    """
    ``| head`` is no failure, and what was left out is no delivery either.
    """
    report = RunReport(run_id="r", output_closed=True)
    report.count("shop", "sales", planned=12, delivered=2, records=24, requests=2)

    assert report.exit_code == 0
    assert RunResult.of(report).summary.startswith(
        "closed: the reader of standard output closed it, 24 records, 2 of 12 partitions delivered, 2 requests"
    )


class ForgetfulPlugin(ShopPlugin):
    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        return [
            evolve(one, accounts=lambda settings: settings.shops) if one.account else one
            for one in super().penstock_record_streams(source)
        ]


def test_a_connector_that_fails_while_it_plans_is_named(here: Here) -> None:
    """
    A connector that fails while it plans is named with what went wrong, who is responsible, and how to see more.
    """
    code = main(
        ["plan", "shop", "--streams", "sales"],
        plugins=[ForgetfulPlugin(), penstock_plugins],
        environ={"SHOP_KEY": "sesame-open"},
    )

    err = here.capsys.readouterr().err
    assert code == 2
    assert "error: the connector shop failed with AttributeError: 'ShopSettings' object has no attribute 'shops'" in err
    assert "report it to the connector's publisher, with the traceback that --debug prints" in err


def test_a_section_whose_name_is_nearly_that_of_the_source_is_named(here: Here) -> None:
    """
    The name of the section may be the wrong one of the two.
    """
    file = here.folder / "penstock.toml"
    file.write_text(file.read_text().replace("[source.shop]", "[source.shopp]"))
    here("run", "daily", *days(2), code=2)

    assert "has no [source.shop], but [source.shopp]: correct one of the two names; `penstock init shop`" in here.err


def test_a_misspelt_name_or_file_gets_a_suggestion(here: Here) -> None:
    """
    A source that nobody knows is not one that merely delivered nothing; a file is a target behind its format's name.
    """
    here("status", "shpo", code=2)
    assert "no source or pipeline 'shpo' is known here. Did you mean \"shop\"?" in here.err
    here("status", "shop")
    here("run", "shop", "--to", "sales.jsonl.gz", code=2)
    assert 'or - for stdout. Did you mean "jsonl:sales.jsonl.gz"?' in here.err


def test_a_source_that_cannot_be_used_is_one_line(here: Here) -> None:
    """
    The failure of a source that cannot be used is one line after the run, with -q too, and not among those of the run.
    """
    text = (here.folder / "penstock.toml").read_text()
    other = text.partition("[sink.")[0].replace("[source.shop]", '[source.mall]\nconnector = "shop"')
    both = '[pipeline.both]\nsource = ["mall", "shop"]\nsink = "files"\n'
    (here.folder / "penstock.toml").write_text(text + other.replace("SHOP_KEY", "ABSENT") + both)

    for options in ((), ("-q",), ("-v",)):
        here("run", "both", *days(1), *options, code=1)
        assert here.err.count("the environment variable ABSENT is not set") == 1
        assert "penstock: error: mall: " in here.err


def test_an_extra_word_of_a_command_without_names_is_refused(here: Here) -> None:
    """
    The message is of the word, and of no pipeline.
    """
    here("demo", "shop", code=2)

    assert "Got unexpected extra argument (shop)" in here.err
    assert "pipeline" not in here.err


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_several_names_are_answered_with_a_pipeline(here: Here, verb: str) -> None:
    """
    One name is taken: a list of names is answered with the lines of a pipeline, a second name with the usage.
    """
    several = 'several sources are a pipeline, which the configuration names: [pipeline.all] with source = ["a", "b"]'
    here(verb, "shop,mall", "--to", "files", code=2)
    assert several in here.err
    here(verb, "shop", "mall", "--to", "files", code=2)
    assert f"unexpected extra argument (mall). See: penstock {verb} --help" in here.err


def test_a_stream_that_a_sinks_settings_misspell_is_reported(here: Here) -> None:
    """
    A misspelt stream in the settings of a sink is reported before the sink is opened; what any source of the file has
    may be named.
    """
    with (here.folder / "penstock.toml").open("a") as file:
        file.write(
            '[sink.house]\nkind = "postgres"\ndsn = "host=nowhere.invalid"\ntable = { salse = "a", items = "b" }\n'
        )

    here("run", "shop", "--streams", "sales", "--to", "house", code=2)

    assert "sink.house.table: 'salse' is no stream of any source here. Did you mean \"sales\"? There are " in here.err


def test_a_report_that_cannot_be_written_is_no_usage_error(here: Here) -> None:
    """
    A report that cannot be written is an error after delivery, with exit code 1 for a run that was good. A device is
    written to and stays a device.
    """
    (here.folder / "closed").mkdir()
    here("run", "daily", *days(1), "--report", "/dev/null")
    assert Path("/dev/null").is_char_device()
    (here.folder / "closed").chmod(0o500)
    report = here.folder / "closed" / "report.json"
    if os.access(here.folder / "closed", os.W_OK):  # root may write anywhere
        report = here.folder / ("x" * 255)

    here("run", "daily", *days(1), "--report", str(report), code=1)

    assert "cannot be written" in here.err
    assert "delivered: " in here.err


def test_lines_go_to_a_redirected_standard_output(here: Here) -> None:
    """
    One that takes text only, as `contextlib.redirect_stdout` sets it, gets the same lines.
    """
    lines = here("run", "shop", "--to", "-", "--streams", "items").splitlines()
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        here("run", "shop", "--to", "-", "--streams", "items")

    assert text.getvalue().splitlines() == lines
    assert len(lines) == 3


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_receiver_that_fails_is_named_even_with_q(here: Here, format_: str) -> None:
    """
    Once; the exit code is that of the run.
    """
    file = here.folder / "penstock.toml"
    file.write_text(f'{file.read_text()}notify = {{ command = "false", on = ["always"] }}\n')
    line = "pipeline.daily.notify: false did not take the result"

    here("run", "daily", *days(2), "--log-format", format_, "-q")
    assert here.err.count(line) == 1
    here("run", "daily", *days(2), "--log-format", format_)
    assert here.err.count(line) == 1


def test_a_repeated_option_adds_to_the_names(here: Here) -> None:
    """
    The last occurrence does not replace the first: else its stream would not be read, in silence.
    """
    plan = json.loads(here("plan", "shop", *days(2), "--streams", "items", "--streams", "sales", "--json"))
    assert {one["stream"] for one in plan["partitions"]} == {"items", "sales"}


def test_an_account_that_is_not_configured_is_refused(here: Here) -> None:
    """
    A mistyped account is no run of nothing that ends with 0; one that a pattern matches is read.
    """
    here("run", "daily", *days(2), "--streams", "sales", "--accounts", "7,77", code=2)
    assert "--accounts: no account of shop matches '77'." in here.err
    plan = json.loads(here("plan", "daily", *days(2), "--streams", "sales", "--accounts", "7*", "--json"))
    assert len(plan["partitions"]) == 2


def test_accounts_that_nothing_has_are_no_good_news(here: Here) -> None:
    """
    A mistyped account has no problems, no totals and no differences: each command states that it saw none.
    """
    here("run", "daily", *days(1))

    here("status", "--problems", "--accounts", "77", code=2)
    assert "--accounts: no account here matches 77" in here.err
    assert here("status", "--totals", "--accounts", "77") == "nothing was delivered of these days and accounts\n"
    assert here("verify", "--accounts", "77").startswith("nothing was compared")


def test_verify_of_files_that_cannot_be_read_is_no_comparison(here: Here) -> None:
    """
    The ledger has delivered partitions: nothing states that it has none.
    """
    here("run", "daily", *days(1), "--streams", "sales")
    (file,) = (here.folder / "data").rglob("data.jsonl")
    file.unlink()
    file.symlink_to(file)

    assert here("verify", code=1) == "nothing was compared\n"
    assert "shop.sales was not compared: " in here.err


def test_a_connector_that_is_not_installed_is_named_with_its_section(here: Here) -> None:
    """
    The message has the file and the section, since a file may have many of them.
    """
    with (here.folder / "penstock.toml").open("a") as file:
        file.write('\n[source.shopp]\nkey = "x"\n')
    here("check", "shopp", code=2)
    assert "penstock.toml: source.shopp: no connector named 'shopp' is installed. Did you mean \"shop\"?" in here.err


def test_a_sink_in_place_of_a_connector_is_recognised(here: Here) -> None:
    """
    ``init`` prints sinks beside each connector; a sink alone is no connector that has to be installed.
    """
    here("init", "jsonl", code=2)
    assert "jsonl is a sink: `penstock init CONNECTOR` prints the keys" in here.err


@pytest.mark.parametrize("what", ["parked", "locked"])
def test_a_source_that_was_not_read_is_a_line_of_cron(capsys: pytest.CaptureFixture[str], what: str) -> None:
    """
    A source that was not read is a line with -q, too, where another source of the pipeline was delivered: else nothing
    names the one that was left.
    """
    report = RunReport(run_id="r", **{what: {"shop": "another run writes shop"}})

    session = Session()
    session.quiet = True
    summarise(session, RunResult.of(report))

    assert re.fullmatch(r"penstock: shop (is parked|was not read): another run writes shop\n", capsys.readouterr().err)


def test_rows_that_are_missing_in_the_target_are_a_line_of_cron(here: Here) -> None:
    """
    Their rows in the ledger are deleted, and the days read again: somebody should know, with -q too.
    """
    duckdb = pytest.importorskip("duckdb")
    sink = f"duckdb:{here.folder / 'data.duckdb'}"
    window = ("--since", str(YESTERDAY), "--streams", "sales")
    here("run", "shop", "--to", sink, *window)
    with duckdb.connect(str(here.folder / "data.duckdb")) as database:
        database.execute("delete from shop.sales")

    here("run", "shop", "--to", sink, *window, "-q")

    (line,) = here.err.splitlines()
    assert line.startswith("penstock: the table shop.sales has no rows: what was delivered of shop.sales is missing")


def test_the_name_of_a_connector_is_answered_with_its_sources(here: Here) -> None:
    """
    Where the sources of a connector have names of their own.
    """
    text = (here.folder / "penstock.toml").read_text().replace("[source.shop]", '[source.shop_us]\nconnector = "shop"')
    (here.folder / "penstock.toml").write_text(text.replace('source = "shop"', 'source = "shop_us"'))

    here("forget", "shop", "sales", *days(1), code=2)
    assert "shop is a connector; name a source of it: shop_us" in here.err


def test_rejected_records_are_reported_with_quiet_too(here: Here) -> None:
    """
    One line with the number, the place and the command, also with ``-q``; the exit code is 5, unless it is allowed.
    """
    here.configure(["13"])
    line = "shop.sales: 2 records rejected. `penstock rejected list` shows why"

    here("-q", "run", "daily", *days(2), code=5)
    assert here.err == f"penstock: {line}\n"

    here("run", "daily", *days(2), "--full", "--allow-rejected", "2")
    assert line in here.err
    here("run", "daily", *days(2), "--full", "--allow-rejected", "1", code=5)
    here("run", "daily", *days(2), "--full", "--allow-rejected", "some", code=2)
    assert "allow_rejected: expected true, a number of records, or a share such as" in here.err


def test_a_pipeline_allows_records_to_be_rejected(here: Here) -> None:
    """
    ``allow_rejected`` of the pipeline holds for its runs. A value that is no number or share is a named problem.
    """
    here.configure(["13"])
    file = here.folder / "penstock.toml"
    text = file.read_text()

    file.write_text(text.replace("[pipeline.daily]", '[pipeline.daily]\nallow_rejected = "100%"'))
    here("run", "daily", *days(2))
    file.write_text(text.replace("[pipeline.daily]", "[pipeline.daily]\nallow_rejected = -1"))
    here("run", "daily", *days(2), "--full", code=2)
    assert "pipeline.daily.allow_rejected: expected true, a number of records" in here.err


def test_a_run_without_a_source_is_named_as_one() -> None:
    """
    A run of no source, such as that of a shard that reads none of them, is named as one.
    """
    assert in_words({"event": "run_started", "run_id": "r-1", "sources": []}) == "run r-1 of no source"
