"""The verbs, against an imitated provider over HTTP and the sinks that come with penstock."""

import contextlib
import csv
import io
import json
import os
import re
import signal
import sqlite3
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import penstock
import penstock_plugins
import pytest
import time_machine
from attrs import evolve, frozen
from penstock._cli import main
from penstock._cli.bars import Bars
from penstock._cli.changes import _print_changes
from penstock._cli.follow import following
from penstock._cli.init import source_lines, toml_value
from penstock._cli.lines import Lines, in_words, restated
from penstock._cli.output import column_widths, print_table
from penstock._cli.rejected import cut, kind_of
from penstock._cli.run import summarise
from penstock._cli.sandbox import as_typed
from penstock._cli.session import Session
from penstock._cli.signals import stopping
from penstock._cli.status import _print_problems, _print_sources
from penstock._config import load
from penstock._plugins.registry import Registry
from penstock._run.used_targets import UsedTargets
from penstock._util.clock import Clock
from penstock._util.text import without_place
from penstock.connector import Connector, Limits, Sandbox, Stream
from penstock.model import Request, Slice
from penstock.project.results import AccountStatus, Change, Problem, RunInfo, SourceStatus
from penstock.project.run_result import RunResult
from penstock.records import column, derived, personal, record
from penstock.redact import Secret
from penstock.run_report import RunReport
from penstock.sandbox.app import SandboxRequest, SandboxResponse
from penstock.sandbox.server import Server, serve
from penstock.settings import OpenFor, SourceSettings, setting
from rich.console import Console

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
TODAY = NOON.date()
YESTERDAY = TODAY - timedelta(days=1)


@pytest.fixture(autouse=True)
def at_noon() -> Iterator[None]:
    """No day ends during a test."""
    with time_machine.travel(NOON, tick=True):
        yield


@frozen(kw_only=True)
class ShopSettings(SourceSettings):
    base_url: str = setting("https://shop.example", help="where the shop answers")
    key: Secret = setting(help="the shop's key")
    shop_ids: tuple[str, ...] = setting(help="the shops to read", affects_data=True)
    page_size: int = setting(100, help="sales on a page")
    notes: dict[str, str] = setting(factory=dict, help="anything else")


@record()
class Sale:
    id: str
    price: str
    price_amount: Decimal | None = derived(of="price", scale=-2, unit="USD", additive=True)
    buyer: str | None = personal()


@record()
class Item:
    id: str
    name: str | None = column(description="what it is called")


def sales_requests(settings: ShopSettings, slice_: Slice) -> Iterable[Request]:
    yield Request(url=f"{settings.base_url}/sales", params=(("shop", slice_.account or ""), ("day", str(slice_.since))))


def item_requests(settings: ShopSettings, slice_: Slice) -> Iterable[Request]:
    yield Request(url=f"{settings.base_url}/items")


SHOP = Connector(name="shop", summary="Sales of a shop", settings=ShopSettings)


class Shop:
    """Two sales a day and shop, one of shop 13 without a price; three items. Remembers nothing."""

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        if request.path == "/items":
            return SandboxResponse(body=json.dumps([{"id": str(number), "name": None} for number in range(3)]).encode())
        shop = re.findall(r"shop=(\w+)", request.query)[0]
        sales: list[dict[str, Any]] = [{"id": "1", "price": "150", "buyer": "ann"}, {"id": "2", "price": "25"}]
        if shop == "13":
            del sales[1]["price"]
            sales[1]["paid"] = "12.50"
        if shop == "401":
            return SandboxResponse(status=401)
        if shop == "503":
            return SandboxResponse(status=503)
        if shop == "500":
            return SandboxResponse(status=404, body=b"{}")
        return SandboxResponse(body=json.dumps(sales).replace('"12.50"', "12.50").encode())


class ShopPlugin:
    __name__ = "connector-shop"

    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        yield Connector(
            name="shop",
            summary="Sales of a shop",
            settings=ShopSettings,
            check=lambda settings, slice_: Request(url=f"{settings.base_url}/items"),
        )

    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        if source != "shop":
            return []
        return [
            Stream(
                name="sales",
                summary="What was sold",
                record=Sale,
                kind="report",
                key="id",
                account="shop_id",
                accounts=lambda settings: settings.shop_ids,
                day="report_date",
                requests=sales_requests,
                open_for=OpenFor(2),
            ),
            Stream(
                name="items", summary="What is sold", record=Item, kind="snapshot", key="id", requests=item_requests
            ),
            Stream(name="later", summary="", record=Item, kind="snapshot", not_built="the provider works on it"),
        ]

    @penstock.hookimpl
    def penstock_sandboxes(self) -> Iterable[Sandbox]:
        yield Sandbox(
            connector="shop",
            summary="A shop",
            make=lambda base_url, today: Shop(),
            settings={"key": "sandbox-key", "shop_ids": ["7", "8"]},
        )


class Following:
    def __init__(self) -> None:
        self.events: list[str] = []

    @penstock.hookimpl
    def penstock_event(self, event: Mapping[str, Any]) -> None:
        self.events.append(event["event"])


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(Shop()) as running:
        yield running


class Here:
    """A directory with a configuration, and the command run in it."""

    def __init__(self, folder: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.server = server
        self.capsys = capsys
        self.following = Following()
        self.out = self.err = ""
        self.configure(server, ["7"])

    def configure(self, server: Server, shops: list[str]) -> None:
        text = f"""
[source.shop]
base_url = "{server.base_url}"
key = {{ env = "SHOP_KEY" }}
shop_ids = {json.dumps(shops)}
retries = 0

[sink.files]
kind = "jsonl"
path = "data"

[pipeline.daily]
source = "shop"
sink = "files"
"""
        (self.folder / "penstock.toml").write_text(text)

    def __call__(self, *arguments: str, code: int = 0) -> str:
        environ = {"SHOP_KEY": "sesame-open"}
        found = main(list(arguments), plugins=[ShopPlugin(), penstock_plugins, self.following], environ=environ)
        self.out, self.err = self.capsys.readouterr()
        assert found == code, self.err
        return self.out


@pytest.fixture
def here(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(tmp_path, server, capsys)


def days(number: int) -> tuple[str, str]:
    """``--since`` of a window of so many days up to yesterday."""
    return ("--since", str(TODAY - timedelta(days=number)))


# --- listing --------------------------------------------------------------------------------------------------------


def test_connectors_lists_what_is_installed(here: Here) -> None:
    """
    Connectors, sinks with what ``--to`` takes, broken plugins.
    """
    found = json.loads(here("connectors", "--json"))

    assert found["connectors"] == [
        {"name": "shop", "summary": "Sales of a shop", "distribution": "connector-shop", "version": "", "sandbox": True}
    ]
    assert {"jsonl:DIR", "csv:DIR", "-"} <= {sink["to"] for sink in found["sinks"]}
    assert found["broken"] == []
    assert "Sales of a shop" in here("connectors")


def test_streams_lists_fields_without_a_configuration(here: Here) -> None:
    """
    Name, kind, key, partition, when final, and every field with type, unit and marks.
    """
    (here.folder / "penstock.toml").unlink()

    sales, items, later = json.loads(here("streams", "shop", "--json"))["streams"]

    assert (sales["kind"], sales["key"], sales["partition"]) == ("report", ["id"], ["shop_id", "report_date"])
    assert sales["final"] == "after 2 days"
    assert [field["name"] for field in sales["fields"]] == [
        "shop_id",
        "report_date",
        "id",
        "price",
        "price_amount",
        "buyer",
    ]
    amount = sales["fields"][4]
    assert (amount["type"], amount["unit"], amount["additive"], amount["member"]) == ("decimal", "USD", True, None)
    assert sales["fields"][5]["personal"] is True
    assert (items["final"], items["partition"], items["on_by_default"]) == ("never", [], True)
    assert (later["not_built"], later["on_by_default"]) == ("the provider works on it", False)
    text = here("streams", "shop")
    assert "price_amount" in text
    assert "the provider works on it" in text


# --- init -----------------------------------------------------------------------------------------------------------


def test_what_init_prints_loads_again(here: Here, tmp_path: Path) -> None:
    """
    With the secret in the environment and what is open filled in, the printed configuration is complete, and also with
    every default written out.
    """
    (here.folder / "penstock.toml").unlink()
    text = here("init", "shop").replace('"..."', '"filled in"')
    every_key = re.sub(r"^# (\w+ = |\[)", r"\1", text, flags=re.M)
    every_key = re.sub(
        r"^(ca_file|streams|exclude_streams) = .*$", "", every_key, flags=re.M
    )  # name things that are not here
    registry = Registry([ShopPlugin(), penstock_plugins])

    for name, one in (("as_printed.toml", text), ("every_key.toml", every_key)):
        (tmp_path / name).write_text(one)
        config = load(tmp_path / name, (), {"SHOP_KEY": "sesame-open"})
        settings = config.source("shop", registry).settings
        assert settings.key == Secret("sesame-open")
        assert settings.page_size == 100
        assert config.pipeline("daily").sink == "files"
        assert config.sink_for("files", registry).kind.name == "jsonl"
    assert settings.open_for == OpenFor(3)
    assert settings.retries == 5


def test_init_writes_several_sources_into_one_file(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Several connectors share a pipeline; what is appended later repeats no section, and the file stays valid.
    """
    (here.folder / "penstock.toml").unlink()
    text = here("init", "shop", "shop")
    assert tomllib.loads(text)["pipeline"]["daily"]["source"] == "shop"
    assert text.startswith("#:schema ./penstock.schema.json\n")
    assert '# path = "data.duckdb"' in text
    postgres = text.partition('\n# [sink.postgres]\n# kind = "postgres"\n')[2]
    assert "\n# required, secret: " in postgres
    (here.folder / "penstock.toml").write_text(text)

    more = here("init", "shop")

    both = tomllib.loads(text + "\n" + more)
    assert both["source"]["shop_2"]["connector"] == "shop"
    assert '# To read it every day, add "shop_2" to the key source of [pipeline.daily].' in more


def test_init_marks_what_is_required_and_secret() -> None:
    """
    Required keys stand open, all others behind ``#`` with their default; the help is the comment.
    """
    text = "\n".join(source_lines(SHOP))

    assert '# required, secret: the shop\'s key\nkey = { env = "SHOP_KEY" }' in text
    assert '# required: the shops to read\nshop_ids = ["..."]' in text
    assert "# sales on a page\n# page_size = 100\n" in text
    assert set(tomllib.loads(text)["source"]["shop"]) == {"key", "shop_ids"}


def test_init_distinguishes_an_example_from_a_default() -> None:
    """
    What a connector declares as its limits is the default of the keys that change them.
    """
    text = "\n".join(source_lines(evolve(SHOP, limits=Limits(requests_per_second=4.0, concurrency=3))))

    assert "\n# requests_per_second = 4.0\n" in text
    assert "\n# concurrency = 3\n" in text
    assert "\n# poll_first_s = 5.0  # an example\n" in text
    assert "\n# retries = 5\n" in text
    assert "\n# requests_per_second = 1.0  # an example\n" in "\n".join(source_lines(SHOP))


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        'a "quoted" \\ \n line',
        "\x7f\x01é",
        5,
        1.5,
        True,
        ["a", 1],
        {"a b": {"c": ["d"]}},
        {},
        date(2026, 1, 31),
    ],
    ids=repr,
)
def test_values_are_written_as_toml_reads_them(value: object) -> None:
    """
    What is printed reads back equal.
    """
    assert tomllib.loads(f"value = {toml_value(value)}")["value"] == value


# --- check, plan, run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("buyer", 0, ""),
        ("sales.buyer", 0, ""),
        ("buyr", 2, "exclude: 'buyr' is no column of shop. Did you mean \"buyer\"?"),
        ("sale.buyer", 2, 'Did you mean "sales.buyer"?'),
        ("items.buyer", 2, "exclude: 'items.buyer' is no column of shop."),
    ],
)
def test_a_column_to_leave_out_must_exist(here: Here, name: str, code: int, said: str) -> None:
    """
    A name that is misspelt would leave nothing out, and personal data would be delivered unsaid.
    """
    here("plan", "shop", "--set", f'source.shop.exclude=["{name}"]', "--to", "jsonl:data", *days(1), code=code)

    assert said in here.err


@pytest.mark.parametrize("verb", ["check", "plan", "run"])
@pytest.mark.parametrize(
    ("setting", "said"),
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
def test_every_verb_refuses_what_no_run_could_do(
    here: Here, server: Server, verb: str, setting: str, said: str
) -> None:
    """
    Settings that the reading itself would fail at are told when the source is configured, before anything is asked.
    """
    wanted = () if verb == "check" else ("--to", "jsonl:data", *days(1))

    here(verb, "shop", "--set", f"source.shop.{setting}", *wanted, code=2)

    assert said in here.err
    assert server.requests == []


def test_a_key_of_a_stream_that_is_not_read_may_be_left_out(here: Here) -> None:
    """
    What is left out is a matter of the streams that are read.
    """
    here("run", "shop", "--set", "source.shop.exclude=shop_id", "--streams", "items", "--to", "jsonl:data")

    assert "3 records" in here.err


def test_check_says_what_was_seen(here: Here) -> None:
    """
    One request, one line, nothing recorded.
    """
    assert "credentials work" in here("check", "shop")
    assert not (here.folder / "data").exists()


def test_a_run_delivers_and_the_next_reads_only_what_is_open(here: Here, server: Server) -> None:
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
    before = len(server.requests)
    here("run", "daily", *days(5))
    assert len(server.requests) - before < 6


def test_plan_asks_nobody_and_gives_reasons(here: Here, server: Server) -> None:
    """
    The partitions a run would fetch; what was delivered and is final is not among them.
    """
    before = json.loads(here("plan", "daily", *days(5), "--json"))["partitions"]
    assert server.requests == []
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


def test_plan_shows_days_in_a_row_in_one_line(here: Here, server: Server) -> None:
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
    here.configure(server, [str(number) for number in range(20, 26)])
    assert re.search(rf"shop\.sales +\(6\) +{first} to {last} +missing +30\n", here("plan", "daily", *days(5)))
    assert re.search(rf"shop\.sales +25 +{first} to {last} +missing +5\n", here("plan", "daily", *days(5), "-v"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name what to read: the pipeline daily, or the source shop with --to, such as --to jsonl:data"),
        (["odd"], "penstock.toml: pipeline.odd.sink 'filez': expected a sink of penstock.toml (files), "),
        (["daily", "--to", "filez"], "--to 'filez': expected a sink of penstock.toml (files), "),
        (
            ["stray"],
            "penstock.toml: no source or pipeline 'shoop', nor a connector of that name. Did you mean \"shop\"?",
        ),
    ],
    ids=["nothing", "unknown sink of a pipeline", "unknown --to", "unknown source of a pipeline"],
)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_what_cannot_be_read_is_told_in_a_sentence(here: Here, verb: str, arguments: list[str], said: str) -> None:
    """
    Where the wrong word stands, and what would have been right.
    """
    with (here.folder / "penstock.toml").open("a") as file:
        file.write('[pipeline.odd]\nsource = "shop"\nsink = "filez"\n')
        file.write('[pipeline.stray]\nsource = "shoop"\nsink = "files"\n')
    said = said.replace("the pipeline daily", "the pipeline daily or odd or stray")
    said = said.replace(" with --to, such as --to jsonl:data", "") if verb == "plan" else said

    here(verb, *arguments, code=2)

    assert said in here.err
    assert len(here.err.splitlines()) == 1


def test_a_source_without_a_sink_is_told_what_to_write(here: Here) -> None:
    """
    ``run SOURCE`` names the option that is missing.
    """
    here("run", "shop", code=2)
    assert "shop is a source: name its sink, such as `penstock run shop --to jsonl:data`" in here.err


def test_stdout_has_nothing_but_data(here: Here) -> None:
    """
    ``--to -`` writes JSON lines, each with its stream when there are several.
    """
    lines = [json.loads(line) for line in here("run", "shop", "--to", "-", *days(1)).splitlines()]

    assert {line["_stream"] for line in lines} == {"sales", "items"}
    assert len(lines) == 5


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


def test_a_failed_partition_is_exit_1_and_said_once(here: Here, server: Server) -> None:
    """
    The rest is delivered; the failure is named with its partition.
    """
    here.configure(server, ["7", "500"])

    here("run", "daily", *days(1), code=1)

    assert here.err.count(f"shop.sales[shop_id=500, report_date={YESTERDAY}]: failed:") == 1
    assert "2 of 3 partitions delivered, 1 failed" in here.err


def test_one_reason_is_told_once(here: Here, server: Server) -> None:
    """
    What many partitions fail of word for word is told of the first, and how many more there were; the report and the
    JSON log name each.
    """
    here.configure(server, ["401"])

    here("run", "daily", *days(4), "--streams", "sales", "--report", "report.json", "-q", code=3)

    first, more = here.err.splitlines()
    assert f"shop.sales[shop_id=401, report_date={TODAY - timedelta(days=4)}]: failed: " in first
    assert "shop.sales: 3 more partitions failed for the same reason" in more
    assert len(json.loads((here.folder / "report.json").read_text())["errors"]) == 4


def test_a_reason_is_the_same_whichever_request_it_names(here: Here, server: Server) -> None:
    """
    A provider that cannot be reached is one reason, though each partition requested another address.
    """
    here.configure(server, ["7"])
    nobody = "source.shop.base_url=http://127.0.0.1:9"

    here("run", "daily", *days(4), "--streams", "sales", "--set", nobody, "-q", code=1)

    assert [line.count("failed") for line in here.err.splitlines()] == [1, 1]
    assert "3 more partitions failed for the same reason" in here.err


def test_a_failure_names_its_partition_once(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A message that begins with its own place is not put behind it again.
    """
    part = {"source": "shop", "stream": "sales", "partition": {"shop_id": "7"}}
    with following(Lines(), progress=False) as follow:
        follow({"event": "partition_failed", **part, "error": "X", "message": "sales[shop_id=7]: 2 of 3 arrived"})
        follow({"event": "note", "source": "shop", "message": "shop.sales: no JSON; reading sales[shop_id=7] again"})

    failed, note = capsys.readouterr().err.splitlines()
    assert failed.endswith(" shop.sales[shop_id=7]: failed: 2 of 3 arrived")
    assert note.endswith(" shop.sales: no JSON; reading sales[shop_id=7] again")


def test_a_day_whose_rows_moved_and_whose_sums_did_not() -> None:
    """
    What a restatement says is never empty: without other numbers, the rows that came, went and changed.
    """
    moved = {"rows": [3, 3], "sums": {}, "came": 1, "went": 1, "changed": 0}

    assert restated(moved) == " (restated: 1 came, 1 went)"
    assert restated({**moved, "rows": [3, 4]}) == " (restated: 3 -> 4 rows)"


def test_a_run_whose_reader_had_enough_says_so() -> None:
    """
    ``| head`` is no failure, and what was left out is no delivery either.
    """
    report = RunReport(run_id="r", output_closed=True)
    report.count("shop", "sales", planned=12, delivered=2, records=24, requests=2)

    assert report.exit_code == 0
    assert report.summary_line.startswith(
        "closed: the reader of standard output closed it, 24 records, 2 of 12 partitions delivered, 2 requests"
    )


def test_only_a_retry_that_comes_is_announced(here: Here, server: Server) -> None:
    """
    What the last attempt brought is told by the partition that failed, and by nothing else; the URL stands there once.
    """
    here.configure(server, ["503"])
    here("--set", "source.shop.retries=1", "--set", "source.shop.retry_first_s=0.01", "run", "daily", *days(1), code=1)

    announced = [line for line in here.err.splitlines() if "WARNING" in line]
    assert len(announced) == 1
    assert "; again" in announced[0]
    assert announced[0].count("GET /sales?") == 1
    assert "http://" not in announced[0]
    assert "1 retry," in here.err


def retry(**facts: Any) -> dict[str, Any]:
    request = "GET https://api.example.com/v1/sales?shop=7&from%5Bday%5D=2026-03-01&token=***&columns=" + "x" * 80
    said = {
        "message": f"Shop answered {request} with HTTP 503",
        "error": "ServerError",
        "pause_s": 1.5,
        "renewed": False,
    }
    return {"event": "retry", "source": "shop", "stream": None, "request": request, **said, **facts}


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            retry(),
            "shop: Shop answered GET /v1/sales?shop=7&from[day]=2026-03-01&token=***&columns=xxxxxxxxxxxxx… with "
            "HTTP 503; again in 1.5 s",
        ),
        (
            retry(request="GET https://api.example.com", message="it was lost."),
            "shop: GET /: it was lost; again in 1.5 s",
        ),
        (
            retry(stream="sales", request="GET https://api.example.com/v1", message="it was lost.", pause_s=0.0),
            "shop.sales: GET /v1: it was lost; again at once",
        ),
        (
            retry(
                request="GET https://api.example.com/v1",
                message="Shop refused the token (HTTP 401); check username and password.",
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
    A request is named without its host and the tail of its parameters, and a token that is renewed asks nobody to
    check anything. With ``--debug`` the URL is whole.
    """
    assert in_words(event) == line
    assert "https://api.example.com" in str(in_words(event, full_urls=True))


class ForgetfulPlugin(ShopPlugin):
    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        return [
            evolve(one, accounts=lambda settings: settings.shops) if one.account else one
            for one in super().penstock_record_streams(source)
        ]


def test_a_connector_that_fails_while_it_plans_is_named(here: Here) -> None:
    """
    With what went wrong, who is to be told, and how to see more.
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


def test_a_name_or_a_file_that_is_meant_otherwise_is_guessed(here: Here) -> None:
    """
    A source that nobody knows is not one that merely delivered nothing; a file is a target behind its format's name.
    """
    here("status", "shpo", code=2)
    assert "no source or pipeline 'shpo' is known here. Did you mean \"shop\"?" in here.err
    here("status", "shop")
    here("run", "shop", "--to", "sales.jsonl.gz", code=2)
    assert 'or - for stdout. Did you mean "jsonl:sales.jsonl.gz"?' in here.err


def test_a_stream_that_a_sinks_settings_misspell_is_reported(here: Here) -> None:
    """
    Before the sink is opened; what any source of the file has may be named.
    """
    with (here.folder / "penstock.toml").open("a") as file:
        file.write(
            '[sink.house]\nkind = "postgres"\ndsn = "host=nowhere.invalid"\ntable = { salse = "a", items = "b" }\n'
        )

    here("run", "shop", "--streams", "sales", "--to", "house", code=2)

    assert "sink.house.table: 'salse' is no stream of any source here. Did you mean \"sales\"? There are " in here.err


def test_quiet_says_nothing_of_a_good_run(here: Here) -> None:
    """
    ``-q`` is for cron: silence means that all is delivered.
    """
    here("-q", "run", "daily", *days(2))
    assert (here.out, here.err) == ("", "")


@pytest.mark.parametrize("options", [(), ("-v",), ("--log-format", "json")], ids=" ".join)
def test_a_run_goes_on_when_nobody_reads_what_it_says(
    here: Here, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    ``penstock run ... 2>&1 | head -1``: the rows are delivered all the same.
    """
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as unread:
        monkeypatch.setattr("sys.stderr", unread)
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


def test_bars_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A bar per stream with partitions and records; failures above them.
    """
    with following(Lines(), progress=True) as follow:
        follow({"event": "planned", "source": "shop", "stream": "sales", "partitions": 2, "final": 0})
        part = {"source": "shop", "stream": "sales", "partition": {"day": "2026-01-31"}}
        follow({"event": "partition_delivered", **part, "records": 1234})
        follow({"event": "partition_failed", **part, "error": "X", "message": "no [luck]"})

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


def test_a_parked_source_is_shown_as_such(bars: Bars) -> None:
    """
    Its bars neither count down nor look as if they went on, and the time left is that of the others.
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
                bars({"event": "partition_failed", **place, "partition": {}, "error": "X", "message": "no luck"})
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
    With the rows of streams that travel with another and have no bar.
    """
    place = {"source": "crm", "stream": "leads"}
    bars({"event": "planned", **place, "partitions": 1, "final": 0})
    bars({"event": "partition_delivered", **place, "partition": {}, "records": 10, "derived": {"lead_data": 30}})

    lines = shown(bars)

    assert lines[0].startswith("40 records, ")
    assert "10 records" in lines[1]


def test_bars_show_what_is_waited_for(bars: Bars) -> None:
    """
    Reports that the provider makes, and a pause before a retry, for as long as they last.
    """
    place = {"source": "shop", "stream": "sales"}
    bars({"event": "planned", **place, "partitions": 2, "final": 0})
    bars({"event": "stream_started", **place})
    bars({"event": "report_waiting", **place})
    again = {"request": "GET https://api.example/a", "message": "HTTP 429", "error": "ThrottledError", "renewed": False}
    bars({"event": "retry", **place, **again, "pause_s": 30.0})

    assert "1 report pending" in shown(bars)[1]
    assert re.match("waits before a retry: shop for (30|29) s", shown(bars)[-1])

    bars({"event": "report_ready", **place})
    bars({"event": "retry", **place, **again, "pause_s": 0.5})

    assert len(shown(bars)) == 2
    assert "pending" not in shown(bars)[1]


def test_the_first_signal_stops_and_the_second_kills() -> None:
    """
    The clock is told, so that the run ends cleanly; from then on the signal has its deadly default; after the run
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


# --- what the ledger knows ------------------------------------------------------------------------------------------


def test_status_counts_final_open_missing_and_failed(here: Here, server: Server) -> None:
    """
    Per stream and account, from the targets last used; a gap between delivered days is missing.
    """
    here.configure(server, ["7", "500"])
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
    here.configure(here.server, ["7", "500"])
    here("run", "daily", *days(3), code=1)
    wide = here(*command)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    narrow = re.sub(r"\x1b\[[\d;]*m", "", here(*command))

    assert max(map(len, narrow.splitlines())) <= columns < max(map(len, wide.splitlines()))
    assert set(wide.split()) <= set(narrow.split())


def test_a_table_that_does_not_fit_is_printed_in_blocks(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    No cell is cut on a narrow terminal: an amount without its last digit would be another amount.
    """
    here("run", "daily", *days(2))
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    narrow = here("status", "--totals", "--daily")

    assert f"account       7\nperiod        {YESTERDAY}\nrows          2\nprice_amount  1.75\n" in narrow
    assert "Not divided by days, so left out: shop.items" in " ".join(narrow.split())


def test_a_long_name_is_a_line_above_its_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Where only the widest column does not fit beside the others, the table stays one; amounts have their points below
    each other.
    """
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    one, other = (f"1a8cc42a-5a09-5f9c-93db-3fc5ee99379{digit}" for digit in (1, 2))
    amounts = [
        (one, "2026-09", 9, Decimal("2020.5")),
        (one, "2026-10", 81, Decimal("7.25")),
        (other, "2026-10", 1, None),
    ]

    print_table(["account", "period", "rows", "spend"], amounts)

    printed = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert [line.rstrip() for line in printed.splitlines()] == [
        "account",
        "  period   rows    spend",
        one,
        "  2026-09     9  2020.50",
        "  2026-10    81     7.25",
        other,
        "  2026-10     1",
    ]


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

    _print_sources(result, NOW, verbose=False)
    printed = [" ".join(line.split()) for line in here.capsys.readouterr().out.splitlines()]
    _print_sources(result, NOW, verbose=True)
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
    With the streams, the accounts and the days; of several targets, each has a heading.
    """
    one = Problem(
        source="shop", stream="sales", account={"shop_id": "7"}, kind="failed", count=2, last_read=NOW, reason="refused"
    )
    dated = evolve(one, first_day=date(2026, 11, 1), last_day=date(2026, 11, 2))
    parked = Problem(source="mall", kind="parked", count=1, last_read=None, reason="a wait until 18:00")

    _print_problems({"files": [dated, evolve(one, stream="items", count=1), parked], "lake": [one]}, NOW)

    assert capsys.readouterr().out.splitlines() == [
        "target files",
        "shop: 3 failed in sales, items of 7, 2026-11-01 to 2026-11-02, last read just now: refused",
        "mall: parked, never read: a wait until 18:00",
        "",
        "target lake",
        "shop.sales: 2 failed of 7, last read just now: refused",
    ]


NOW = datetime(2026, 11, 28, 6, 40, tzinfo=UTC)


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


def test_rows_are_deleted_only_on_demand(here: Here) -> None:
    """
    Without --yes, and nobody to ask, nothing is deleted.
    """
    here("run", "daily", *days(2))

    here("forget", "shop", "sales", "--rows", "--accounts", "7", code=2)
    assert "--rows deletes the rows of shop.sales: 2 partitions in files. Add --yes to confirm that" in here.err
    assert here("forget", "shop", "sales", "--rows", "--accounts", "7", "--yes") == (
        "files: 2 partitions of shop.sales deleted and forgotten\n"
    )
    assert list((here.folder / "data" / "shop" / "sales").rglob("data.jsonl")) == []


def test_a_report_that_cannot_be_written_is_no_usage_error(here: Here) -> None:
    """
    After delivery: the error, and exit code 1 for a run that was good. A device is written to and stays a device.
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


def test_an_option_of_another_command_is_named(here: Here) -> None:
    """
    A mistaken option is answered with the command of a plugin that takes it, where no other command does.
    """
    here("status", "--html", "status.html", code=2)
    assert "No such option '--html'. `penstock page` takes it. See: penstock status --help" in here.err
    here("forget", "--dry-run", code=2)
    assert "No such option '--dry-run'. See: penstock forget --help" in here.err


def test_long_output_is_paged_on_a_terminal(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    As the terminal would get it; what fits is printed.
    """
    paged: list[str] = []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("click.echo_via_pager", paged.append)

    monkeypatch.setenv("LINES", "200")
    printed = here("streams", "shop")
    monkeypatch.setenv("LINES", "10")
    assert here("streams", "shop") == ""

    assert paged == [printed]
    assert "shop_id" in printed


def test_streams_can_be_searched(here: Here) -> None:
    """
    By a stream's name or a part of it, or by a text in any name or description.
    """
    assert [one["name"] for one in json.loads(here("streams", "shop", "sal", "--json"))["streams"]] == ["sales"]
    found = json.loads(here("streams", "shop", "--search", "CALLED", "--json"))["streams"]
    assert [one["name"] for one in found] == ["items", "later"]
    assert "nothing of shop has 'zebra' in it" in here("streams", "shop", "--search", "zebra")
    here("streams", "shop", "slaes", code=2)
    assert 'Did you mean "sales"?' in here.err


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("run ", {"daily", "shop"}),
        ("run d", {"daily"}),
        ("run daily --to ", {"files", "jsonl:", "csv:"}),
        ("run shop --streams sales,", {"sales,sales", "sales,items"}),
        ("run daily --streams shop.", {"shop.sales", "shop.items"}),
        ("run --streams sales,sh", {"sales,shop.sales"}),
        ("run daily --exclude-streams sa", {"sales"}),
        ("streams shop sa", {"sales"}),
        ("forget ", {"shop"}),
        ("forget shop sa", {"sales"}),
        ("verify d", {"daily"}),
        ("runs d", {"daily"}),
        ("act sh", {"shop"}),
        ("sandbox sh", {"shop"}),
        ("sta", {"status"}),
    ],
)
def test_a_shell_completes_names(here: Here, monkeypatch: pytest.MonkeyPatch, line: str, offered: set[str]) -> None:
    """
    Commands, sources, pipelines, streams and sinks of the configuration at hand.
    """
    assert offered <= completions(here, monkeypatch, line)


def test_a_shell_completes_the_streams_of_the_named_source(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    And all of the configuration where none is named yet.
    """
    assert "sales" in completions(here, monkeypatch, "run --streams ")
    assert "sales" in completions(here, monkeypatch, "run shop --streams ")
    assert "sales" not in completions(here, monkeypatch, "run another --streams ")


def completions(here: Here, monkeypatch: pytest.MonkeyPatch, line: str) -> set[str]:
    """What bash offers behind a line that begins with penstock."""
    monkeypatch.setenv("_PENSTOCK_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"penstock {line}")
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" "))))
    with pytest.raises(SystemExit):
        main([], plugins=[ShopPlugin(), penstock_plugins], environ={})
    return {one.partition(",")[2] for one in here.capsys.readouterr().out.splitlines()}


def test_completion_prints_a_script(here: Here) -> None:
    """
    For the shell that is named, with the line that installs it; without a name, for $SHELL.
    """
    assert here("completion", "bash").startswith('# eval "$(penstock completion bash)"')
    assert "_PENSTOCK_COMPLETE=zsh_complete" in here("completion", "zsh")
    assert 'string split "," ' not in here("completion", "fish"), "a value may have a comma"
    here("completion", code=2)


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


def test_the_schema_holds_what_the_configuration_may(here: Here) -> None:
    """
    What init prints is valid, filled in; a wrong key, a wrong type and a missing one are not.
    """
    validator = jsonschema.Draft7Validator(json.loads(here("schema")))
    validator.check_schema(validator.schema)
    good = tomllib.loads((here.folder / "penstock.toml").read_text())
    good["pipeline"]["daily"]["notify"] = [{"url": {"env": "HOOK"}, "on": ["failed"]}]
    (here.folder / "penstock.toml").unlink()

    assert list(validator.iter_errors(good)) == []
    assert list(validator.iter_errors(tomllib.loads(here("init", "shop")))) == []
    for section, change in (
        ("source", {"shop": {**good["source"]["shop"], "kye": "x"}}),
        ("source", {"shop": {**good["source"]["shop"], "page_size": "ten"}}),
        ("source", {"shop": {"key": "x"}}),
        ("source", {"mall": good["source"]["shop"]}),
        ("pipeline", {"daily": {"source": "shop"}}),
        ("sink", {"files": {"kind": "jsonl"}}),
    ):
        assert list(validator.iter_errors({**good, section: change})), change


def test_runs_are_listed_with_their_reasons(here: Here, server: Server) -> None:
    """
    Newest first; one by its id with its whole report.
    """
    here("run", "daily", *days(2))
    here.configure(server, ["7", "500"])
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


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        ("plan daily", "partitions"),
        ("streams shop", ""),
        ("status", ""),
        ("status --totals", ""),
        ("status --problems", ""),
        ("runs", "runs"),
        ("changes --since 2000-01-01", "changes"),
        ("verify", "differences"),
        ("rejected list", "rejected"),
        ("rejected show", "rejected"),
    ],
)
def test_every_list_is_a_table_for_a_spreadsheet(here: Here, words: str, listed: str) -> None:
    """
    CSV with a header, also of an empty list, and as many rows as the JSON has.
    """
    here("run", "daily", *days(2))

    header, *rows = csv.reader(here(*words.split(), "--csv").splitlines())

    assert len(set(header)) == len(header) > 3
    assert all(len(row) == len(header) for row in rows)
    if listed:
        assert len(rows) == len(json.loads(here(*words.split(), "--json"))[listed])
    here(*words.split(), "--csv", "--json", code=2)


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


def test_changes_are_rows_before_and_after(here: Here, server: Server) -> None:
    """
    One row for each measure that changed, as a table, CSV or JSON.
    """
    here("run", "daily", *days(1))
    server.app = lambda request: Shop()(evolve(request, target=request.target.replace("shop=7", "shop=13")))
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

    _print_changes([one, *same])

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
    assert re.search(r"^shop.sales\naccount .*\n7 +\d{4}-\d\d +\d +\d.\d\d\n", here("status", "--totals"))
    assert re.search(rf"\n7 +{YESTERDAY} +2 +1.75\n", here("status", "--totals", "--daily"))
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


def test_a_reason_without_its_request_is_a_sentence() -> None:
    """
    The text by which equal failures are counted together has no gap where the request was.
    """
    message = "Shop answered GET http://127.0.0.1/sales?day=1 with HTTP 500"
    assert without_place(message) == "Shop answered with HTTP 500"


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


def test_accounts_that_nothing_has_are_no_good_news(here: Here, server: Server) -> None:
    """
    A mistyped account has no problems, no totals and no differences: each command states that it saw none.
    """
    here("run", "daily", *days(1))

    here("status", "--problems", "--accounts", "77", code=2)
    assert "--accounts: no account here matches 77" in here.err
    assert here("status", "--totals", "--accounts", "77") == "nothing was delivered of these days and accounts\n"
    assert here("verify", "--accounts", "77").startswith("nothing was compared")


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
    With -q, too, where another source of the pipeline was delivered: else nothing names the one that was left.
    """
    report = RunReport(run_id="r", **{what: {"shop": "another run writes shop"}})

    session = Session()
    session.quiet = True
    summarise(session, RunResult.of(report))

    assert re.fullmatch(r"penstock: shop (is parked|was not read): another run writes shop\n", capsys.readouterr().err)


def test_the_name_of_a_connector_is_answered_with_its_sources(here: Here) -> None:
    """
    Where the sources of a connector have names of their own.
    """
    text = (here.folder / "penstock.toml").read_text().replace("[source.shop]", '[source.shop_us]\nconnector = "shop"')
    (here.folder / "penstock.toml").write_text(text.replace('source = "shop"', 'source = "shop_us"'))

    here("forget", "shop", "sales", *days(1), code=2)
    assert "shop is a connector; name a source of it: shop_us" in here.err


def test_forget_makes_days_missing_again(here: Here) -> None:
    """
    Only the days named; the next plan holds them.
    """
    here("run", "daily", *days(9))
    first = str(TODAY - timedelta(days=9))

    assert "files: 2 partitions of shop.sales forgotten" in here(
        "forget", "shop", "sales", "--since", first, "--until", str(TODAY - timedelta(days=8))
    )

    parts = json.loads(here("plan", "shop", *days(9), "--json"))["partitions"]
    assert [part["partition"]["report_date"] for part in parts if part["reason"] == "missing"] == [
        first,
        str(TODAY - timedelta(days=8)),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["sale", "--since", "2026-01-01", "--until", "2026-01-02"], 'Did you mean "sales"?', id="stream"),
        pytest.param(["nosuch"], "no shop.nosuch was delivered yet. There is items, sales;", id="no stream"),
        pytest.param(["sales"], "sales is divided by days: name them", id="days"),
        pytest.param(["sales", "--since", "2026-01-02", "--until", "2026-01-01"], "is after", id="order"),
    ],
)
def test_forget_is_exact_about_what(here: Here, arguments: list[str], said: str) -> None:
    """
    Nothing is forgotten by a slip.
    """
    here("run", "daily", *days(2))

    here("forget", "shop", *arguments, code=2)
    assert said in here.err


def test_all_streams_are_forgotten_for_some_days(here: Here) -> None:
    """
    Without a stream: all that have days; the others are named and left, also with --rows.
    """
    here("run", "daily", *days(2))
    window = (*days(2), "--until", str(TODAY))
    here("forget", "shop", code=2)
    assert "sales is divided by days: name them" in here.err

    assert here("forget", "shop", *window) == "files: 2 partitions of shop.sales forgotten\n"
    assert "left as it is: shop.items is not divided by days" in here.err
    here("run", "daily", *days(2))
    assert here("forget", "shop", "--rows", "--yes", *window) == (
        "files: 2 partitions of shop.sales deleted and forgotten\n"
    )
    assert list((here.folder / "data" / "shop" / "items").rglob("data.jsonl")) != []


def test_a_target_that_is_not_used_any_more_is_forgotten(here: Here) -> None:
    """
    status does not look at it again; its files stay. One that was never used is refused.
    """
    here("run", "shop", "--to", "jsonl:old", *days(1))
    here("run", "daily", *days(1))
    used = json.loads((here.folder / ".penstock" / "targets.json").read_text())["targets"]
    (old,) = [one for one in used if one.endswith("old")]
    assert old != "jsonl:old", "it is remembered by its whole path"

    assert "What lies there was not touched" in here("forget", "--target", "jsonl:old")

    assert "old" not in here("status")
    assert list((here.folder / "old").rglob("data.jsonl")) != []
    here("forget", "--target", old, code=2)
    assert "was used from this configuration: " in here.err
    here("forget", code=2)
    assert "name the source" in here.err


def test_personal_data_is_erased_only_on_demand(here: Here) -> None:
    """
    Not while the source delivers it; without --yes, and nobody to ask, not either. Days and accounts are refused.
    """
    here("run", "daily", *days(2))
    here("forget", "shop", "--personal", "--yes", code=2)
    assert "Set include_personal = false in [source.shop] first" in here.err
    here("forget", "shop", "--personal", "--accounts", "7", code=2)
    config = here.folder / "penstock.toml"
    config.write_text(config.read_text().replace("retries = 0", "retries = 0\ninclude_personal = false"))

    here("forget", "shop", "sales", "--personal", code=2)
    assert "in sales.buyer, sales._extra: 2 partitions of shop.sales in files. Add --yes to confirm that" in here.err
    assert here("forget", "shop", "--personal", "--yes").splitlines() == [
        "files: personal data erased in 0 rows of shop.items (1 partition)",
        "files: personal data erased in 2 rows of shop.sales (2 partitions)",
    ]


def test_forget_waits_for_no_run(here: Here) -> None:
    """
    While a run holds any of the targets, nothing is forgotten in any of them.
    """
    here("run", "shop", "--to", "jsonl:one", *days(9))
    here("run", "shop", "--to", "csv:two", *days(9))
    kind = Registry([penstock_plugins]).sink("jsonl")
    running = kind.open(kind.parse("jsonl:one")).open("shop", "the-run")
    first = str(TODAY - timedelta(days=9))
    before = here("plan", "shop", "--to", "csv:two", *days(9))

    here("forget", "shop", "sales", "--since", first, "--until", first, code=6)

    running.close()
    assert f"another run writes shop to {here.folder / 'one'} (process" in here.err
    assert here("plan", "shop", "--to", "csv:two", *days(9)) == before


def test_rejected_records_are_counted_and_shown(here: Here, server: Server) -> None:
    """
    ``list`` by reason, ``show`` with the raw record.
    """
    here.configure(server, ["13"])
    here("run", "daily", *days(2), code=5)

    (one,) = json.loads(here("rejected", "list", "--json"))["rejected"]
    shown = json.loads(here("rejected", "show", "--json"))["rejected"]

    assert (one["count"], one["stream"]) == (2, "sales")
    assert len(shown) == 2
    assert json.loads(shown[0]["raw"]) == {"id": "2", "paid": 12.5}
    assert cut("a" * 1000) == "a" * 1000
    assert cut("a" * 1001) == "a" * 1000 + "… (1,001 characters; --json shows all)"
    assert "price" in here("rejected", "list")
    assert "shop.sales[shop_id=13, report_date=" in here("rejected", "show")
    assert '{"id":"2","paid":12.50}' in here.out


@pytest.mark.parametrize(
    ("reasons", "kinds"),
    [
        (["'n/a' is no number", "'1 is no 2' is no number", "'12' is no number"], 1),
        (["'1' is no decimal", "'1' is no number"], 2),
        (["the member 'id' is missing; there is Id", "the member 'id' is missing; there is uid"], 2),
        (["expected a number, got an object", "it is null"], 2),
    ],
)
def test_reasons_of_one_kind_are_counted_together(reasons: list[str], kinds: int) -> None:
    """
    Whatever the value was.
    """
    assert len(set(map(kind_of, reasons))) == kinds


def test_what_is_set_aside_is_reported_also_quietly(here: Here, server: Server) -> None:
    """
    One line with the number, the place and the command, also with ``-q``; the exit code is 5, unless it is allowed.
    """
    here.configure(server, ["13"])
    line = "shop.sales: 2 records set aside. `penstock rejected list` shows why"

    here("-q", "run", "daily", *days(2), code=5)
    assert here.err == f"penstock: {line}\n"

    here("run", "daily", *days(2), "--full", "--allow-rejected", "2")
    assert line in here.err
    here("run", "daily", *days(2), "--full", "--allow-rejected", "1", code=5)
    here("run", "daily", *days(2), "--full", "--allow-rejected", "some", code=2)
    assert "allow_rejected: expected true, a number of records, or a share such as" in here.err


def test_a_pipeline_allows_records_to_be_set_aside(here: Here, server: Server) -> None:
    """
    ``allow_rejected`` of the pipeline holds for its runs. A value that is no number or share is a named problem.
    """
    here.configure(server, ["13"])
    file = here.folder / "penstock.toml"
    text = file.read_text()

    file.write_text(text.replace("[pipeline.daily]", '[pipeline.daily]\nallow_rejected = "100%"'))
    here("run", "daily", *days(2))
    file.write_text(text.replace("[pipeline.daily]", "[pipeline.daily]\nallow_rejected = -1"))
    here("run", "daily", *days(2), "--full", code=2)
    assert "pipeline.daily.allow_rejected: expected true, a number of records" in here.err


def test_nothing_used_yet_is_reported(here: Here) -> None:
    """
    Without any target, ``status`` of an unknown place says what to give.
    """
    (here.folder / "penstock.toml").unlink()
    here("status", code=2)
    assert "no target was used from this configuration yet; name one with --to. There is no penstock.toml" in here.err
    assert "nothing was delivered yet" in here("status", "--to", "jsonl:elsewhere")


def test_a_place_that_took_nothing_is_not_remembered(here: Here) -> None:
    """
    A run that could not open its target leaves no trace of it: plan and status look where something was delivered.
    """
    (here.folder / "taken").write_text("a file")
    here("run", "shop", "--to", "jsonl:good", *days(1))

    here("run", "shop", "--to", "jsonl:taken", *days(1), code=2)

    assert "good" in here("status")
    assert "taken" not in here.out


def test_targets_are_remembered_without_passwords(tmp_path: Path) -> None:
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


# --- imitations -----------------------------------------------------------------------------------------------------


def test_demo_runs_every_imitation(here: Here) -> None:
    """
    No configuration, no credentials: data in ./penstock-demo, a summary, and what to do next.
    """
    (here.folder / "penstock.toml").unlink()

    out = here("demo")

    assert re.search(r"shop +sales +60 +0 +120 +60", out)
    assert "penstock init shop > penstock.toml" in out
    lines = [line.replace("  penstock", "  .venv/bin/penstock") for line in out.partition("Next:")[2].splitlines()]
    assert max(map(len, lines)) <= 80, "a terminal would break a word"
    assert "notice" not in here.err
    assert len(list((here.folder / "penstock-demo").rglob("data.jsonl"))) == 61
    assert not (here.folder / ".penstock").exists()


def test_what_the_demo_says_next_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The bare name only where it is found as such and is the same; else the way that was taken.
    """
    command = tmp_path / "bin" / "penstock"
    command.parent.mkdir()
    command.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))

    assert as_typed(command) == str(command)
    assert as_typed(Path("__main__.py")) == "penstock"
    monkeypatch.setenv("PATH", str(command.parent))
    assert as_typed(command) == "penstock"


def test_sandbox_names_the_faults(here: Here) -> None:
    """
    ``--faults list`` says what may go wrong; an unknown one is refused before anything is served.
    """
    assert "throttled" in here("sandbox", "shop", "--faults", "list")
    here("sandbox", "shop", "--faults", "nonsense", code=2)
    assert "no fault is named nonsense" in here.err
