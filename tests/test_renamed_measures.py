"""
A measure that the provider renamed: its column is null in every record, and a run reports it.
"""

import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import penstock_plugins
import pytest
import time_machine
from command_in_process import main
from penstock import (
    Envelope,
    Project,
    RejectedRecordsError,
    ReportFile,
    RunResult,
    SandboxRequest,
    Stream,
    column,
    derived,
    record,
)
from penstock.sandbox.server import serve
from penstock_plugins.integrations.dlt import deliveries
from penstock_plugins.integrations.state_ledger import StateLedger
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow


@record()
class Spend:
    id: str
    spend: Decimal | None = column(additive=True)
    price: str | None = None
    price_amount: Decimal | None = derived(of="price", scale=-2, additive=True)
    clicks: int | None = column(additive=True)


@record()
class Renamed(Spend):
    spend: Decimal | None = column(member="spend_usd", additive=True)


def a_shop(folder: Path, answer: Any, **stream: Any) -> ScriptedProvider:
    given: dict[str, Any] = {
        "record": Spend,
        "kind": "report",
        "key": "id",
        "day": "day",
        "path": "/spend",
        "params": {"day": "{since}"},
        "envelope": Envelope(items="data"),
        **stream,
    }
    return ScriptedProvider(folder=folder, streams=[Stream(name="spend", summary="", **given)], answer=answer)


BEFORE = {"id": "1", "spend": "2.50", "price": "300"}


def of_days(**later: Any) -> Any:
    """What the provider sends: until June 15 as declared, then ``later``."""

    def answer(request: SandboxRequest) -> Any:
        return {"data": [BEFORE if request.params["day"] < "2026-06-16" else {"id": "1", **later}]}

    return answer


LOST = "shop.spend: no record has {} any more, and members that no column reads are {}. If one of them is meant"


@pytest.mark.parametrize(
    ("later", "line"),
    [
        ({"spend_usd": "2.50", "price": "300"}, LOST.format("spend", "spend_usd")),
        ({"spend": "2.50", "cpc": "300"}, LOST.format("price_amount", "cpc")),
        ({"spend": None, "price": "300", "note": "x"}, None),
        ({"spend": "2.50", "price": "300", "note": "x"}, None),
        ({"price": "300"}, None),
    ],
    ids=["renamed", "source of a derived one", "null", "only another member", "missing alone"],
)
def test_a_measure_that_earlier_days_have_ends_the_run_with_5(
    later: dict[str, Any], line: str | None, tmp_path: Path
) -> None:
    """
    A run ends with 5 where a measure that earlier days have is missing from every record, and unknown members are there
    instead. The rows are delivered.
    """
    shop = a_shop(tmp_path, of_days(**later))
    assert shop.run(until="2026-06-15").exit_code == 0

    report = shop.run(since="2026-06-16")
    allowed = shop.run(since="2026-06-16", allow_rejected=True)

    assert report.exit_code == (0 if line is None else 5)
    assert allowed.exit_code == 0
    assert len(shop.rows("spend")) == 3
    assert (RunResult.of(report).missing_measures_line or "").startswith(line or "")
    assert (RunResult.of(report).missing_measures_line is None) == (line is None)
    lost = report.as_dict()["sources"]["shop"]["streams"]["spend"].get("lost")
    assert (lost is None) == (line is None)


def test_days_of_a_renamed_measure_are_read_again_when_the_column_is_mended(tmp_path: Path) -> None:
    """
    The days are final, and those before them are not read again.
    """
    shop = a_shop(tmp_path, of_days(spend_usd="2.50", price="300"), open_for=0)
    shop.run()

    mended = a_shop(tmp_path, of_days(spend_usd="2.50", price="300"), open_for=0, record=Renamed)
    mended.sink = shop.sink
    report: Any = mended.run(since="2026-06-16")

    assert report.exit_code == 0, RunResult.of(report).missing_measures_line
    assert [row["spend"] for row in mended.rows("spend")] == ["2.50"] * 3


def test_a_measure_that_was_never_there_is_no_loss(tmp_path: Path) -> None:
    """
    Reports whose columns nobody documents declare more than they have. One of a similar name is noted, once.
    """
    shop = a_shop(tmp_path, lambda request: {"data": [{"id": "1", "spent": "2.50", "conversions": 4}]})

    report = shop.run()

    assert report.exit_code == 0
    assert [one for one in shop.notes if "no record has" in one] == [
        "spend: no record has spend; there is spent, which no column reads"
    ]


def test_a_column_of_a_report_file_is_missed_too(tmp_path: Path) -> None:
    """
    A header row that has another name in its place.
    """

    def answer(request: SandboxRequest) -> Any:
        name = "spend" if request.params["day"] < "2026-06-16" else "cost"
        return f"id,{name}\n1,2.50\n".encode()

    shop = a_shop(tmp_path, answer, envelope=ReportFile())

    report = shop.run()

    assert report.exit_code == 5
    assert RunResult.of(report).missing_measures_line is not None
    assert RunResult.of(report).missing_measures_line.startswith(LOST.format("spend", "cost"))


def test_days_that_come_in_another_order_are_compared_too(tmp_path: Path) -> None:
    """
    In the first run, the day after the change is committed before those that still have the measure.
    """
    of_day = of_days(spend_usd="2.50", price="300")

    def answer(request: SandboxRequest) -> Any:
        if request.params["day"] < "2026-06-16":
            assert committed.wait(timeout=30)
        return of_day(request)

    committed = threading.Event()
    shop = a_shop(tmp_path, answer)
    shop.on_event = lambda event: committed.set() if event["event"] == "partition_delivered" else None

    report = shop.run(concurrency=3)

    assert report.exit_code == 5
    assert (RunResult.of(report).missing_measures_line or "").startswith(LOST.format("spend", "spend_usd"))


def test_a_measure_that_came_later_is_no_loss_of_earlier_days(tmp_path: Path) -> None:
    """
    The order in which the days of a run are read does not matter.
    """

    def answer(request: SandboxRequest) -> Any:
        old = request.params["day"] < "2026-06-12"
        return {"data": [{"id": "1", "price": "300", **({"x": 1} if old else {"spend": "2.50"})}]}

    assert a_shop(tmp_path, answer).run(since="2026-06-10").exit_code == 0


def test_days_that_one_request_covers_are_one_reading(tmp_path: Path) -> None:
    """
    A measure that some of their records have is there.
    """

    @record()
    class Dated(Spend):
        date: str

    rows = [{**BEFORE, "date": "2026-06-14"}, {"id": "1", "date": "2026-06-15", "spend_usd": "1"}]
    shop = a_shop(
        tmp_path,
        lambda request: {"data": rows},
        record=Dated,
        day_of="date",
        params={"since": "{since}", "until": "{until}"},
        days_per_request=3,
    )

    assert shop.run().exit_code == 0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[ScriptedProvider, dict[str, Any]]]:
    """A shop that renames a measure within the window, and its configuration."""
    shop = a_shop(tmp_path, of_days(spend_usd="2.50", price="300"))
    with serve(shop) as server:
        yield shop, {"base_url": server.base_url}


def test_a_singer_run_names_the_missing_measure(served: tuple[ScriptedProvider, dict[str, Any]], capfd: Any) -> None:
    """
    On stderr, as a run does: it ends with 5 and nothing else states why.
    """
    shop, source = served
    config = shop.folder / "config.json"
    config.write_text(json.dumps({**source, "start": "2026-06-14"}))

    with time_machine.travel(shop.now):
        assert main(["singer", "shop", "--config", str(config)], plugins=[shop, penstock_plugins]) == 5

    assert LOST.format("spend", "spend_usd") in capfd.readouterr().err


def test_a_dlt_run_names_the_missing_measure(served: tuple[ScriptedProvider, dict[str, Any]]) -> None:
    """
    In the error after the last partition.
    """
    shop, source = served
    project = Project({"source": {"shop": source}}, plugins=[shop, penstock_plugins], environ={})
    ledger = StateLedger(project.layouts("shop"), ["spend"])

    with (
        time_machine.travel(shop.now),
        pytest.raises(RejectedRecordsError, match=r"^shop\.spend: no record has spend any more"),
    ):
        list(deliveries(project, "shop", ledger, since="2026-06-14", until="2026-06-16"))
