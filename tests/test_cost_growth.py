"""
How costs grow, with partitions and with columns: calls of Python functions are counted, nothing is timed.
"""

import gc
import sys
import traceback
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import penstock_plugins
import pytest
from attrs import define
from configured_source import a_source
from decoding import compiled_stream
from penstock import (
    Batch,
    Column,
    Connector,
    Envelope,
    Event,
    ForbiddenError,
    Layout,
    ParkedError,
    Partition,
    Project,
    Request,
    Response,
    SandboxRequest,
    SandboxResponse,
    Slice,
    SourceSettings,
    Stream,
    hookimpl,
    record,
)
from penstock._config.config import load
from penstock._config.source import ConfiguredSource
from penstock._fetch import scheduler
from penstock._fetch.client import SourceClient
from penstock._fetch.limits import Parking, RetryBudget
from penstock._plan.dependencies import Dependencies
from penstock._plan.plan import PlannedSlice
from penstock._run.refusals import Refusals
from penstock._run_report.log import RunLog
from penstock.sandbox.server import serve
from penstock.testing import FakeClock
from python_calls import calls_of

pytestmark = pytest.mark.slow

FEW, MORE = 64, 192  # one group of partitions, and three
MAX_CALLS = 690  # of a partition; 680 alone, 685 beside other tests, with Python 3.11 and urllib3 2.8
FIRST = date(2025, 1, 1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@record()
class Sale:
    """A sale."""

    id: int
    city: str | None


class DailyPlugin:
    """A stream with a request for each day."""

    @hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        yield Connector(name="daily", summary="sales by day", settings=SourceSettings)

    @hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        def requests(settings: Any, slice_: Any) -> list[Request]:
            return [Request(url=f"{settings.base_url}/sales", params=[("day", str(slice_.since))])]

        if source == "daily":
            yield Stream(
                name="sales",
                summary="sales",
                record=Sale,
                kind="report",
                key="id",
                day="day",
                requests=requests,
                envelope=Envelope(items="sales", total="total"),
            )


@define(eq=False)
class ShopsPlugin:
    """A stream with a request for each account."""

    accounts: Sequence[str]

    @hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        yield Connector(name="shops", summary="sales by shop", settings=SourceSettings)

    @hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        if source == "shops":
            yield Stream(
                name="sales",
                summary="sales",
                record=Sale,
                kind="report",
                key="id",
                account="shop",
                accounts=lambda settings: self.accounts,
                day="day",
                path="/sales",
                params={"shop": "{account}"},
                envelope=Envelope(items="sales", total="total"),
            )


def answer(request: SandboxRequest) -> SandboxResponse:
    return SandboxResponse(body=b'{"sales": [{"id": 1, "city": "K\xc3\xb6ln"}, {"id": 2, "city": null}], "total": 2}')


def test_a_small_partition_costs_a_bounded_number_of_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Work that can be done once per run, stream or group of commits is not done for each partition.
    """
    # Groups are full, however slow this machine is.
    monkeypatch.setattr(scheduler, "SOON_S", 60.0)
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)  # else each event is a span, too
    with serve(answer) as server:
        project = Project(
            {"source": {"daily": {"base_url": server.base_url, "start": FIRST, "concurrency": 1}}},
            plugins=[penstock_plugins, DailyPlugin()],
            environ={},
        )

        def calls(name: str, days: int) -> int:
            def once() -> None:
                until = FIRST + timedelta(days=days - 1)
                result = project.run("daily", to=f"jsonl:{tmp_path / name}", since=FIRST, until=until)
                assert result.exit_code == 0, result.errors

            return calls_of(once)

        calls("first", 2)  # compiles and imports all
        few, more = calls("few", FEW), calls("more", MORE)

    assert (more - few) / (MORE - FEW) < MAX_CALLS


def test_a_column_costs_the_same_in_a_wide_record() -> None:
    """
    To prepare a stream takes time in proportion to its columns.
    """

    def calls(columns: int) -> int:
        members = {"id": int, **{f"column_{number}": str | None for number in range(columns)}}
        wide = record()(
            type("Wide", (), {"__annotations__": members, "__doc__": "A wide record.", "__module__": __name__})
        )
        stream = Stream(name="wide", summary="wide", record=wide, kind="snapshot", key="id", requests=lambda *_: [])
        return calls_of(lambda: compiled_stream(stream))

    calls(2)
    few, more, most = calls(50), calls(100), calls(200)

    assert most - more < 3 * (more - few)


def test_the_schema_of_a_parquet_file_is_made_once() -> None:
    """
    The next file of a stream, such as that of a further partition, costs the same with few columns and with many.
    """
    pytest.importorskip("pyarrow", reason="needs the extra arrow")
    from penstock_plugins.files.parquet import Parquet

    def calls(columns: int) -> int:
        declared = tuple(Column(name=f"column_{number}", type="text") for number in range(columns))
        layout = Layout(source="shop", stream="wide", kind="report", columns=declared)
        Parquet().encoder(layout).begin()
        return calls_of(lambda: Parquet().encoder(layout))

    assert calls(10) == calls(40)


def test_a_day_of_a_child_costs_the_same_among_many_days() -> None:
    """
    To request a child by its parent's rows of one day, the rows of other days are not looked at.
    """

    def calls(days: int) -> int:
        parent = Stream(
            name="orders", summary="orders", record=Sale, kind="report", key="id", day="day", path="/orders"
        )
        source = a_source(parent)
        dependencies = Dependencies(source, [parent])
        window = [FIRST + timedelta(days=number) for number in range(days)]
        for day in window:
            planned = a_slice(source, parent, None, day)
            batch = Batch(layout=None, rows=[Sale(id=1, city=None)])
            dependencies.add_rows(planned, planned.partitions[0], ["id"], batch)
        return calls_of(lambda: [dependencies.rows(("orders", None), [day]) for day in window])

    few, more, most = calls(20), calls(40), calls(80)

    assert most - more < 3 * (more - few)


def test_the_response_that_refused_an_account_is_released(tmp_path: Path) -> None:
    """
    A run remembers which accounts are forbidden, without the responses that stated it.
    """
    accounts = [f"a{number}" for number in range(40)]

    def refused(request: SandboxRequest) -> SandboxResponse:
        return answer(request) if "a0&" in f"{request.target}&" else SandboxResponse(status=403, body=b"not yours")

    def count_responses(event: Event) -> None:
        if event["event"] == "run_finished":
            gc.collect()
            kept.append(sum(isinstance(value, Response) for value in gc.get_objects()))

    kept: list[int] = []
    with serve(refused) as server:
        project = Project(
            {"source": {"shops": {"base_url": server.base_url, "start": FIRST, "concurrency": 1}}},
            plugins=[penstock_plugins, ShopsPlugin(accounts)],
            environ={},
        )
        result = project.run("shops", to=f"jsonl:{tmp_path}", since=FIRST, until=FIRST, on_event=count_responses)

    assert len(result.errors) == 39
    assert kept < [len(result.errors) // 2]


def test_an_error_that_is_kept_has_the_same_traceback_each_time() -> None:
    """
    What a parked source raises for each slice does not collect the frames of all former times.
    """
    parking = Parking()
    parking.park(ParkedError("the daily quota is used up", NOW))

    def frames() -> int:
        with pytest.raises(ParkedError, match="daily quota") as raised:
            parking.check()
        return len(list(traceback.walk_tb(raised.value.__traceback__)))

    assert frames() == frames() == frames()


def test_an_account_that_is_forbidden_costs_the_same_among_many() -> None:
    """
    Accounts that the provider refuses, while it accepts others with the same credentials, are not counted again and
    again.
    """

    def calls(accounts: int) -> int:
        stream = Stream(name="sales", summary="", record=Sale, kind="snapshot", key="id", account="shop", path="/")
        source = a_source(stream)
        client = SourceClient(source, RunLog.without_run(source.name), clock=FakeClock(NOW), retry_budget=RetryBudget())
        client.working_credentials.add(None)
        refusals = Refusals(source, client)
        slices = [a_slice(source, stream, str(account), None) for account in range(accounts)]

        def add_all() -> None:
            for planned in slices:
                refusals.add(planned, ForbiddenError("HTTP 403", ""))

        return calls_of(add_all)

    few, more, most = calls(20), calls(40), calls(80)

    assert most - more < 3 * (more - few)


def test_a_source_that_is_checked_costs_the_same_among_many() -> None:
    """
    To check a source of a pipeline, the sections of the others are not looked at.
    """

    def calls(sources: int) -> int:
        names = [f"shop-{number}" for number in range(sources)]
        sections = {name: {"connector": "daily", "base_url": "http://127.0.0.1:1"} for name in names}
        pipeline = {"source": names, "sink": "-"}
        project = Project(
            {"source": sections, "pipeline": {"all": pipeline}},
            plugins=[penstock_plugins, DailyPlugin()],
            environ={},
        )

        def once() -> None:
            assert project.check("all").exit_code == 0

        return calls_of(once)

    calls(2)
    few, more, most = calls(40), calls(80), calls(160)

    assert most - more < 2.2 * (more - few)


def test_a_further_look_at_a_source_costs_the_same_among_many() -> None:
    """
    The sections of others are searched once, such as for names that only variables of the environment state.
    """

    def calls(sources: int) -> int:
        sections = {
            f"shop-{number}": {"connector": "daily", "base_url": "http://127.0.0.1:1"} for number in range(sources)
        }
        project = Project({"source": sections}, plugins=[penstock_plugins, DailyPlugin()], environ={})
        project.layouts("shop-1")
        return calls_of(lambda: project.layouts("shop-1"))

    few, many = calls(40), calls(160)

    assert many - few < 120 / 2


@pytest.mark.parametrize("name", ["SHOP_{}__BASE_URL", "SHOP__ACCOUNTS__A_{}__API_KEY"], ids=["source", "account"])
def test_a_variable_of_the_environment_costs_the_same_among_many(name: str) -> None:
    """
    The section that a variable sets a key of is found without a look at each of the others.
    """

    def calls(variables: int) -> int:
        environ = {f"PENSTOCK_SOURCE__{name.format(number)}": "x" for number in range(variables)}
        return calls_of(lambda: load({}, environ=environ))

    calls(2)
    few, more, most = calls(20), calls(40), calls(80)

    assert most - more < 2.2 * (more - few)


def a_slice(source: ConfiguredSource, stream: Stream, account: str | None, day: date | None) -> PlannedSlice:
    """A slice of one partition."""
    values = ((stream.account or "", account),) if account is not None else (("day", str(day)),)
    return PlannedSlice(
        stream=stream,
        partitions=(Partition(stream.name, values),),
        reasons=("missing",),
        slice=Slice(now=NOW, account=account, days=() if day is None else (day,)),
        source=source,
        fingerprint="",
    )
