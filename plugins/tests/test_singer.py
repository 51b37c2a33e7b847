"""
``penstock singer``: what a Singer target receives, without a target. The real ones are in test_integrations.py.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import make_dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import penstock_plugins
import pytest
import time_machine
from attrs import define, evolve
from command_in_process import main
from penstock import (
    Batch,
    Column,
    Layout,
    LedgerEntry,
    Partition,
    PendingReport,
    Project,
    SandboxRequest,
    SandboxResponse,
)
from penstock.sandbox.server import Server
from penstock.testing.conformance import QUICK
from penstock_plugins.integrations.message_run import MessageSink
from penstock_plugins.integrations.messages import Texts
from penstock_plugins.integrations.singer_messages import SingerMessages
from penstock_plugins.integrations.state_ledger import MAX_REPORTS, StateLedger
from providers import CONVERTR, JOVEO, TALROO, TARGETCIRCLE, TODAY, Provider, bag, then
from python_calls import calls_of
from shop_commands import PrintingPlugin

import connector_talroo

pytestmark = pytest.mark.slow

Message = dict[str, Any]
FINAL, OPEN = TODAY - timedelta(days=5), TODAY - timedelta(days=2)  # Talroo's days stay open for three days


@define
class Tap:
    """A source whose keys are in a ``--config``, served by its imitation."""

    folder: Path
    provider: Provider
    server: Server
    app: Any
    captured: Callable[[], tuple[bytes, bytes]]
    plugins: Sequence[Any] | None = None  # None: those that are installed
    errors: str = ""

    def __call__(self, *words: str, code: int = 0, **more: Any) -> list[Message]:
        """
        The messages of one run. ``more``: keys of the configuration, and ``catalog`` and ``state`` as JSON-like data.
        """
        files = {name: more.pop(name) for name in ("catalog", "state") if name in more}
        since = TODAY - timedelta(days=6)
        start = {} if "start" in more else {"start": since.isoformat()}
        files["config"] = {**self.provider.settings, **QUICK, **start, **more, "base_url": self.server.base_url}
        options: list[str] = []
        for name, value in files.items():
            path = self.folder / f"{name}.json"
            path.write_text(json.dumps(value, default=str))
            options += [f"--{name}", str(path)]
        with time_machine.travel(then().now(), tick=True):
            found = main(["singer", self.provider.name, *options, *words], plugins=self.plugins)
        printed, errors = self.captured()
        self.errors = errors.decode()
        assert found == code, self.errors
        if {"--discover", "--about"} & set(words):
            return [json.loads(printed)]
        return [json.loads(line, parse_float=Decimal) for line in printed.splitlines()]

    def truth(self, stream: str, values: tuple[str, ...]) -> list[dict[str, Any]]:
        return self.provider.truth(self.app, stream, values)


@pytest.fixture
def tap(request: pytest.FixtureRequest, tmp_path: Path, capfdbinary: Any) -> Iterator[Tap]:
    provider: Provider = getattr(request, "param", TALROO)
    with provider.served() as (server, app):
        yield Tap(tmp_path, provider, server, app, capfdbinary.readouterr)


def of(messages: list[Message], kind: str, stream: str | None = None) -> list[Message]:
    return [one for one in messages if one["type"] == kind and stream in (None, one.get("stream"))]


def records(messages: list[Message], stream: str) -> list[dict[str, Any]]:
    return [one["record"] for one in of(messages, "RECORD", stream)]


def last_state(messages: list[Message]) -> Message:
    state: Message = of(messages, "STATE")[-1]["value"]
    return state


def days_in(state: Message, stream: str) -> set[tuple[str, str]]:
    """(account, day) of every final day that a state has."""
    found = set()
    for account, known in state["bookmarks"].get(stream, {}).get("accounts", {}).items():
        for text in known["final"]:
            first, last = map(date.fromisoformat, text.split("/"))
            days = range((last - first).days + 1)
            found |= {(account, (first + timedelta(days=day)).isoformat()) for day in days}
    return found


def day_and_account(row: dict[str, Any]) -> tuple[str, str]:
    return (row["advertiser_id"], row["report_date"])


def test_a_catalog_states_keys_columns_and_what_is_automatic(tap: Tap) -> None:
    """
    A key holds the partition's columns, is automatic, and the schema is one that loaders take.
    """
    (catalog,) = tap("--discover")

    (clicks,) = catalog["streams"]
    metadata = {tuple(one["breadcrumb"]): one["metadata"] for one in clicks["metadata"]}
    assert clicks["tap_stream_id"] == "clicks"
    assert clicks["key_properties"] == ["advertiser_id", "report_date", "click_id"]
    assert clicks["replication_key"] == "report_date"
    assert metadata[()]["forced-replication-method"] == "INCREMENTAL"
    assert {name[1] for name, one in metadata.items() if one["inclusion"] == "automatic"} == {*clicks["key_properties"]}
    properties = clicks["schema"]["properties"]
    assert properties["price_amount"]["type"] == ["null", "number"]
    assert properties["report_date"]["format"] == "date"
    assert "format" not in properties["time"], "a time without a stated zone is no date-time"


@pytest.mark.parametrize("tap", [CONVERTR], indirect=True)
@pytest.mark.parametrize("words", [(), ("--nested", "text", "--decimals", "text")], ids=["as they are", "texts"])
def test_the_catalog_has_the_schemas_of_a_run(tap: Tap, words: tuple[str, ...]) -> None:
    """
    The catalog has the schemas of a run, also where nested values and decimals are texts.
    """
    (catalog,) = tap("--discover", *words)
    found = {one["stream"]: one["schema"] for one in catalog["streams"]}

    written = {one["stream"]: one["schema"] for one in of(tap(*words), "SCHEMA")}

    assert written == {stream: found[stream] for stream in written} != {}


def test_every_row_arrives_once_with_its_digits(tap: Tap) -> None:
    """
    SCHEMA and the former state come first, then the rows that the provider has, with the digits of their amounts.
    """
    messages = tap()

    assert [one["type"] for one in messages[:2]] == ["SCHEMA", "STATE"]
    assert messages[1]["value"] == {"bookmarks": {"clicks": {}}}
    assert messages[-1]["type"] == "STATE"
    rows = records(messages, "clicks")
    parts = TALROO.parts(tap.app, [TODAY - timedelta(days=back) for back in range(6, 0, -1)])
    assert bag(rows) == bag(row for stream, values in parts for row in tap.truth(stream, values))
    key = messages[0]["key_properties"]
    assert len({tuple(row[name] for name in key) for row in rows}) == len(rows) > 20
    assert all(str(row["price_amount"]) == str(Decimal(row["price"]).scaleb(-2)) for row in rows if row["price_amount"])
    assert {one["time_extracted"][-1] for one in of(messages, "RECORD")} == {"Z"}
    assert "Jobs2CareersDemo" not in tap.errors + json.dumps(messages, default=str)


def test_decimals_may_be_text(tap: Tap) -> None:
    """
    For a target that makes a float of a number, a decimal is a text with a format of its own.
    """
    messages = tap("--decimals", "text")

    assert messages[0]["schema"]["properties"]["price_amount"] == {
        "type": ["null", "string"],
        "format": "x-singer.decimal",
        "description": "what is paid (USD)",
    }
    amounts = [row["price_amount"] for row in records(messages, "clicks")]
    assert any(isinstance(one, str) for one in amounts)
    assert not any(isinstance(one, Decimal) for one in amounts)


def test_nested_text_leaves_the_rows_of_the_batch_as_they_are() -> None:
    """
    The lines hold JSON text in place of nested values; others that read the batch get the values.
    """
    layout = Layout(source="shop", stream="sales", kind="snapshot", columns=(Column(name="tags", type="json"),))
    batch = Batch(layout=layout, rows=[make_dataclass("Row", ["tags"])(["a"])])

    assert Texts(nested=True).lines(batch) == b'{"tags":"[\\"a\\"]"}\n'

    assert batch.rows[0].tags == ["a"]


def test_a_state_follows_the_rows_that_it_covers(tap: Tap) -> None:
    """
    At each STATE, every row of its final days was written before; an open day is in none.
    """
    written: dict[tuple[str, str], int] = {}
    covered: set[tuple[str, str]] = set()
    for one in tap():
        if one["type"] == "RECORD":
            place = day_and_account(one["record"])
            written[place] = written.get(place, 0) + 1
        elif one["type"] == "STATE":
            for account, day in days_in(one["value"], "clicks"):
                covered.add((account, day))
                assert written.get((account, day), 0) == len(tap.truth("clicks", (account, day)))
                assert day < OPEN.isoformat()
    assert len({day for _, day in covered}) > 1


def test_the_next_run_reads_open_days_only(tap: Tap) -> None:
    """
    With the state of the run before, final days are not read; the rows of open days come again as they are now.
    """
    state = last_state(tap())
    tap.app.restate(OPEN)
    tap.app.restate(FINAL)

    messages = tap(state=state)

    rows = records(messages, "clicks")
    days = {row["report_date"] for row in rows}
    assert OPEN.isoformat() in days
    assert FINAL.isoformat() not in days
    assert bag(row for row in rows if row["report_date"] == OPEN.isoformat()) == bag(
        row for advertiser in tap.app.advertisers for row in tap.truth("clicks", (advertiser, OPEN.isoformat()))
    )
    assert messages[1]["value"] == state, "the former state is repeated before the first record"
    assert last_state(messages) == state


def test_a_day_that_closes_later_is_read_again(tap: Tap) -> None:
    """
    With a longer restatement period than that of the run before, days that were final are open.
    """
    state = last_state(tap())

    days = {row["report_date"] for row in records(tap(state=state, open_for="30 days"), "clicks")}

    assert FINAL.isoformat() in days


def test_columns_and_streams_are_selected_by_metadata(tap: Tap) -> None:
    """
    A column that is not selected is in no message, a key stays; without a selected stream nothing is written.
    """
    (catalog,) = tap("--discover")
    for one in catalog["streams"][0]["metadata"]:
        if one["breadcrumb"] and one["breadcrumb"][1] in ("ip", "url", "click_id"):
            one["metadata"]["selected"] = False

    messages = tap(catalog=catalog)

    columns = set(messages[0]["schema"]["properties"])
    assert {"ip", "url"} & columns == set()
    assert "click_id" in columns
    assert all(set(row) <= columns for row in records(messages, "clicks"))
    catalog["streams"][0]["metadata"][0]["metadata"]["selected"] = False
    assert tap(catalog=catalog) == []


@pytest.mark.parametrize("tap", [CONVERTR], indirect=True)
def test_a_derived_stream_selected_later_is_read_from_the_start(tap: Tap) -> None:
    """
    Days that are final for a stream are not final for one that is derived from it and was not selected then.
    """
    (catalog,) = tap("--discover")

    def selecting(*names: str) -> Message:
        for entry in catalog["streams"]:
            entry["metadata"][0]["metadata"]["selected"] = entry["stream"] in names
        return {"catalog": catalog}

    first = tap(**selecting("leads"))
    again = tap(state=last_state(first), **selecting("leads"))
    both = tap(state=last_state(first), **selecting("leads", "lead_data"))

    assert {one["stream"] for one in of(first, "RECORD")} == {"leads"}
    assert len(of(again, "RECORD", "leads")) < len(of(first, "RECORD", "leads"))
    assert len(of(both, "RECORD", "leads")) == len(of(first, "RECORD", "leads"))
    assert len(of(both, "RECORD", "lead_data")) > 0
    assert of(both, "SCHEMA", "lead_data")[0]["key_properties"] == ["lead_id", "at_id"]


def test_a_partition_that_fails_is_in_no_state(tap: Tap) -> None:
    """
    The run exits 1, no row of a failed day is written, and the next run with its state reads that day.
    """
    tap.app.overstate(FINAL)
    messages = tap(code=1)

    places = {day_and_account(row) for row in records(messages, "clicks")}
    assert not any(day == FINAL.isoformat() for _, day in places)
    assert not any(day == FINAL.isoformat() for _, day in days_in(last_state(messages), "clicks"))
    assert "CountMismatch" in tap.errors or "states" in tap.errors
    tap.app.overstate(FINAL, 0)
    assert FINAL.isoformat() in {row["report_date"] for row in records(tap(state=last_state(messages)), "clicks")}


@pytest.mark.parametrize("tap", [TARGETCIRCLE], indirect=True)
def test_a_snapshot_that_was_read_whole_activates_its_version(tap: Tap) -> None:
    """
    Every record of a full table carries the version, which is activated after the last of them; not after a failure,
    and never for a report.
    """
    messages = tap(start=TODAY.isoformat())

    for stream in ("offers", "offer_details", "trades"):
        (activated,) = of(messages, "ACTIVATE_VERSION", stream)
        own = of(messages, "RECORD", stream)
        assert {one["version"] for one in own} == {activated["version"]}
        assert messages.index(own[-1]) < messages.index(activated)
    assert of(messages, "ACTIVATE_VERSION", "clicks") == []
    assert not any("version" in one for one in of(messages, "RECORD", "clicks"))

    tap.app.fail_next(SandboxResponse(status=400, body=b"{}"), times=1, on="/trades")
    messages = tap(start=TODAY.isoformat(), code=1)
    assert of(messages, "ACTIVATE_VERSION", "trades") == []
    assert len(of(messages, "ACTIVATE_VERSION", "offers")) == 1


def test_a_signal_ends_the_run_with_the_state_of_its_complete_days(tap: Tap) -> None:
    """
    SIGTERM in the middle: exit code 130, the last line is a state, and a run that goes on from it completes the rows.
    """
    answer, count = tap.server.app, iter(range(100))

    def interrupting(request: SandboxRequest) -> SandboxResponse:
        if next(count) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return answer(request)

    tap.server.app = interrupting
    first = tap(code=130, concurrency=1)
    tap.server.app = answer
    assert first[-1]["type"] == "STATE"
    rest = tap(state=last_state(first))

    found = {json.dumps(row, default=str, sort_keys=True) for row in records(first + rest, "clicks")}
    assert 0 < len(records(first, "clicks")) < len(found)
    assert found == {json.dumps(row, default=str, sort_keys=True) for row in records(tap(), "clicks")}


@pytest.mark.parametrize("tap", [JOVEO], indirect=True)
def test_a_report_under_way_is_adopted_by_the_next_run(tap: Tap) -> None:
    """
    A tap that is ended while it waits for reports has them in its state: the next one submits none of them again, and
    delivers every row. Afterwards no report is in the state, and credentials never are.
    """
    answer, polls = tap.server.app, iter(range(100))

    def ending(request: SandboxRequest) -> SandboxResponse:
        if request.path.endswith("/status") and next(polls) == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return answer(request)

    catalog = {"streams": [{"tap_stream_id": "stats", "metadata": [], "selected": True}]}
    tap.server.app, tap.app.polls_until_ready = ending, 10**9
    first = tap(code=130, catalog=catalog, concurrency=1)
    tap.server.app, tap.app.polls_until_ready = answer, 1
    submitted = len(tap.app.submissions)
    reports = last_state(first)["bookmarks"]["stats"]["reports"]

    assert of(first, "RECORD") == []
    assert len(reports) == submitted > 0
    assert not [name for name in JOVEO.secrets if str(tap.provider.settings[name]) in json.dumps(reports)]
    rest = tap(state=last_state(first), catalog=catalog)
    assert len(tap.app.submissions) == len(tap.app.clients), "one report per client, whichever run submitted it"
    assert "reports" not in last_state(rest)["bookmarks"]["stats"]
    days = [TODAY - timedelta(days=back) for back in range(6, 0, -1)]
    truth = [row for key in JOVEO.parts(tap.app, days) if key[0] == "stats" for row in tap.truth(*key)]
    assert bag(records(rest, "stats")) == bag(truth)
    assert truth


def test_a_catalog_has_nothing_that_a_plugin_prints(tap: Tap) -> None:
    """
    A line that code of a connector prints goes to stderr: the catalog is one value of JSON.
    """
    tap.plugins = [connector_talroo.plugin, penstock_plugins, PrintingPlugin()]

    assert "streams" in tap("--discover")[0]
    assert "printed" in tap.errors


def test_credentials_and_capabilities(tap: Tap) -> None:
    """
    ``--test`` makes one request and prints no message; ``--about`` needs no configuration and shows secrets as such.
    """
    assert tap("--test") == []
    assert "credentials work" in tap.errors
    tap("--test", code=3, customer_secret="74686973206973206e6f74206974")
    (about,) = tap("--about", "--format=json")
    assert {"catalog", "discover", "state"} <= set(about["capabilities"])
    assert about["settings"]["properties"]["customer_secret"]["writeOnly"] is True
    assert "customer_secret" in about["settings"]["required"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"state": {"bookmarks": 3}}, "expected an object of JSON under bookmarks, found int"),
        ({"state": {"bookmarks": {"clicks": {"accounts": {"2112": 17}}}}}, "not one that penstock wrote"),
        ({"state": {"bookmarks": {"clicks": {"reports": [{"handle": "r1"}]}}}}, "not one that penstock wrote"),
        ({"catalog": {"streams": [{"stream": "tocks", "metadata": [], "selected": True}]}}, "'tocks'"),
        ({"catalog": {"flows": []}}, "expected what --discover prints"),
        ({"advertiser": "2112"}, "unknown key"),
        ({"start": "yesterday"}, "source.talroo.start"),
    ],
    ids=["no bookmarks", "state", "report", "stream", "catalog", "key", "value"],
)
def test_a_mistake_is_named_on_stderr(tap: Tap, more: dict[str, Any], message: str) -> None:
    """
    Exit code 2, one line of reason, and no message that a target would read.
    """
    assert tap(code=2, **more) == []
    assert message in tap.errors
    assert "Traceback" not in tap.errors


# --- the state ------------------------------------------------------------------------------------------------------


def talroo_ledger() -> StateLedger:
    project = Project({"source": {"talroo": dict(TALROO.settings)}}, environ={})
    return StateLedger(project.layouts("talroo"), ["clicks"], lambda: None)


def delivered(day: date, *, account: str = "2112", fingerprint: str = "f", reader_version: str = "") -> LedgerEntry:
    closed = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=4)
    return LedgerEntry(
        source="talroo",
        partition=Partition("clicks", (("advertiser_id", account), ("report_date", day.isoformat()))),
        state="delivered",
        run_id="r",
        read_at=closed + timedelta(hours=1),
        open_until=closed,
        fingerprint=fingerprint,
        reader_version=reader_version,
    )


def test_a_year_of_days_is_one_range() -> None:
    """
    The state of an account does not grow with its days; a day with rejected records stands alone, since a later
    version may read them.
    """
    ledger, first = talroo_ledger(), date(2025, 1, 1)
    for number in range(365):
        ledger.deliver(delivered(first + timedelta(days=number), reader_version="v1" if number == 100 else ""))

    state = ledger.state("clicks")

    assert list(state["accounts"]["2112"]["final"].values()) == [[345600, ""], [345600, "v1"], [345600, ""]]
    loaded = talroo_ledger()
    loaded.load({"clicks": json.loads(json.dumps(state))})
    assert loaded.state("clicks") == state
    entries = loaded.entries("talroo", "clicks", since=first + timedelta(days=99), accounts=["2112"])
    assert len(entries) == 266
    assert {entry.reader_version for entry in entries.values()} == {"", "v1"}
    assert all(entry.is_final for entry in entries.values())


def test_a_day_that_is_open_again_leaves_the_state() -> None:
    """
    Other settings, or a reading before the close, take a day out of the state.
    """
    ledger, day = talroo_ledger(), date(2026, 1, 1)
    ledger.deliver(delivered(day))
    ledger.deliver(delivered(day + timedelta(days=1), fingerprint="g"))
    assert list(ledger.state("clicks")["accounts"]["2112"]["final"]) == ["2026-01-02/2026-01-02"]

    ledger.deliver(evolve(delivered(day + timedelta(days=1), fingerprint="g"), open_until=None))
    assert ledger.state("clicks")["accounts"]["2112"]["final"] == {}


def test_an_account_costs_the_same_in_a_large_state() -> None:
    """
    The state is made as often as it may be written, not after each delivery.
    """

    def calls(accounts: int) -> int:
        messages: list[bytes] = []
        sink = MessageSink(SingerMessages(1), talroo_ledger(), messages.append)
        entries = [delivered(date(2026, 1, 1), account=f"account-{number}") for number in range(accounts)]
        cost = calls_of(lambda: [sink.committed(entry) for entry in entries])
        assert messages
        return cost

    calls(2)
    few, more, most = calls(100), calls(200), calls(400)

    assert most - more < 3 * (more - few)


def test_days_of_changes_after_one_that_is_read_again_leave_the_state() -> None:
    """
    Rows of an older day overwrite newer ones at the target: the days after it are final when they were read once more.
    """
    ledger, days = talroo_ledger(), [date(2026, 1, day) for day in (1, 2, 3)]
    for day in (*days, days[1]):
        ledger.deliver(evolve(delivered(day), kind="changes"))
    assert list(ledger.state("clicks")["accounts"]["2112"]["final"]) == ["2026-01-01/2026-01-02"]

    ledger.deliver(evolve(delivered(days[2]), kind="changes"))
    assert list(ledger.state("clicks")["accounts"]["2112"]["final"]) == ["2026-01-01/2026-01-03"]


def test_reports_under_way_are_kept_as_they_are_and_bounded() -> None:
    """
    A report with its days comes back from a state as it was submitted. Of many, the newest are in the state.
    """
    ledger, first = talroo_ledger(), datetime(2026, 1, 1, 3, tzinfo=UTC)
    partitions = tuple(delivered(date(2026, 1, day)).partition for day in (1, 2, 3, 5))
    reports = [
        PendingReport(
            source="talroo",
            stream="clicks",
            handle=f"r{number}",
            request="[]",
            partitions=partitions,
            submitted_at=first + timedelta(seconds=number),
            fingerprint="f",
        )
        for number in range(MAX_REPORTS + 2)
    ]
    for report in reports:
        ledger.submit(report)
    ledger.drop(reports[-1])

    loaded = talroo_ledger()
    loaded.load({"clicks": json.loads(json.dumps(ledger.state("clicks"), sort_keys=True))})
    assert loaded.pending("talroo", "clicks") == tuple(reports[2:-1])
    assert loaded.state("clicks") == ledger.state("clicks")
