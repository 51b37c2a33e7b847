"""
The usual road costs no call of a Python function per record: counted from the socket to the target, not timed.

A stream is read twice, in as many pages, with 1,000 records more on each page the second time. Calls of functions (and
resumptions of generators) are counted in all threads. What is done once per page or column does not change the count;
one call per record would add 3,000.
"""

import json
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import penstock_plugins
import pytest
from attrs import define, evolve
from connector_run import ConfiguredSource, configured, layouts_of, read, sink_at
from penstock import (
    Batch,
    Connector,
    Envelope,
    Json,
    Project,
    Request,
    SandboxApp,
    SandboxRequest,
    SandboxResponse,
    Slice,
    SourceSettings,
    Stream,
    added,
    column,
    derived,
    hookimpl,
    named,
    personal,
    record,
)
from penstock.sandbox.server import serve
from penstock_plugins.integrations.message_run import MessageSink
from penstock_plugins.integrations.singer_messages import SingerMessages
from penstock_plugins.integrations.state_ledger import StateLedger
from python_calls import calls_of

pytestmark = pytest.mark.slow

FEW, MORE = 1000, 2000  # records a page
PAGES = 3
SLACK = 1000  # calls by which two runs may differ: threads wake in another order
DAY = date(2026, 3, 1)


@record(members="camel")
class Sale:
    """Flat, with every type of column, renamed members, exact money, a nullable and a personal column."""

    sale_id: str
    amount: str
    amount_exact: Decimal = derived(of="amount", scale=-2, unit="USD", additive=True)
    commission: Decimal | None = column(additive=True)
    sold_at: datetime
    seen_at: datetime | None = column(zone="naive")
    clicks: int
    valid: bool
    first_day: date
    ip: str | None = personal()
    report_date: date | None = added()


@record()
class Lead:
    """Nested parts, kept as they are."""

    id: int
    campaign: Json
    fields: Json = None


def sale(number: int) -> dict[str, Any]:
    return {
        "saleId": f"s{number}",
        "amount": str(100 + number % 50),
        "commission": None if number % 10 else 1.25,
        "soldAt": "2026-03-01T10:00:00Z",
        "seenAt": "2026-03-01T10:00:00",
        "clicks": number,
        "valid": number % 2 == 0,
        "firstDay": "2026-02-01",
        "ip": None if number % 3 else "198.51.100.7",
    }


def lead(number: int) -> dict[str, Any]:
    fields = [{"name": "city", "value": "Köln"}, {"name": "consent", "value": None}]
    return {"id": number, "campaign": {"id": number % 7, "name": "Q1"}, "fields": None if number % 5 else fields}


def _sales(settings: SourceSettings, slice_: Slice) -> list[Request]:
    return [Request(url=f"{settings.base_url}/sales")]


def _leads(settings: SourceSettings, slice_: Slice) -> list[Request]:
    return [Request(url=f"{settings.base_url}/leads")]


_PAGED: dict[str, Any] = {
    "summary": "",
    "envelope": Envelope(items="data", total="total"),
    "paginator": named("page_number", size_param="size", size=FEW),
}
STREAMS = (
    Stream(name="sales", record=Sale, kind="report", key="sale_id", day="report_date", requests=_sales, **_PAGED),
    Stream(name="leads", record=Lead, kind="snapshot", key="id", requests=_leads, **_PAGED),
)


@define(eq=False)
class ShopPlugin:
    size: int = FEW

    @hookimpl
    def penstock_sources(self) -> list[Connector]:
        return [Connector(name="shop", summary="", settings=SourceSettings)]

    @hookimpl
    def penstock_record_streams(self, source: str) -> list[Stream]:
        return self.streams() if source == "shop" else []

    def streams(self) -> list[Stream]:
        """With pages of this size."""
        return [evolve(one, paginator=named("page_number", size_param="size", size=self.size)) for one in STREAMS]


class PlodderPlugin:
    """Does once per record what could be done once per batch."""

    @hookimpl
    def penstock_batch(self, batch: Batch) -> Batch:
        return evolve(batch, rows=list(map(_same, batch.rows)))


def _same(row: Any) -> Any:
    return row


def provider(size: int) -> SandboxApp:
    """Answers with pages of ``size`` records, made before anything is counted."""
    bodies = {}
    for path, one in (("/sales", sale), ("/leads", lead)):
        for page in range(PAGES):
            records = [one(page * size + number) for number in range(size)]
            bodies[path, str(page + 1)] = json.dumps({"total": PAGES * size, "data": records}).encode()

    def answer(request: SandboxRequest) -> SandboxResponse:
        requested = dict(pair.partition("=")[::2] for pair in request.query.split("&"))
        return SandboxResponse(body=bodies[request.path, requested.get("page", "1")])

    return answer


def calls(size: int, stream: str, to: str, plugins: tuple[object, ...] = ()) -> int:
    """The calls of one run that reads the stream in pages of this size, after one that compiled and imported all."""
    with serve(provider(size)) as server:
        settings = SourceSettings(base_url=server.base_url, start=DAY, concurrency=1)
        source = configured("shop", settings, plugins=[penstock_plugins, ShopPlugin(size), *plugins])

        def once() -> None:
            sink = _messages(source, stream) if to == "singer" else sink_at(to)
            report = read(source, sink, stream, until=DAY, full=True)
            assert report.exit_code == 0, report.errors
            assert report.as_dict()["sources"]["shop"]["streams"][stream]["records"] == PAGES * size

        once()
        return calls_of(once)


NEEDS_ARROW = pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs the extra arrow")


def _messages(source: ConfiguredSource, stream: str) -> MessageSink:
    """The sink of ``penstock singer``, whose output goes nowhere."""
    return MessageSink(SingerMessages(1), StateLedger(layouts_of(source, [stream]), [stream]), lambda content: None)


@pytest.fixture(params=["jsonl", "csv", "singer", pytest.param("parquet", marks=NEEDS_ARROW), "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """
    A fresh target of files under each name, messages, or a database whose days the second run replaces.
    """
    if request.param != "postgresql":
        yield lambda name: "singer" if request.param == "singer" else f"{request.param}:{tmp_path / name}"
        return
    from postgres_server import server

    with server().database() as dsn:
        yield lambda name: dsn


@pytest.mark.parametrize("stream", ["sales", "leads"])
def test_no_python_function_is_called_per_record(stream: str, target: Callable[[str], str]) -> None:
    """
    Twice the records on as many pages are read, checked, counted and written with the same number of calls.
    """
    few, more = (calls(size, stream, target(name)) for size, name in ((FEW, "few"), (MORE, "more")))

    assert more - few < SLACK


def calls_of_a_reading(size: int, stream: str) -> int:
    """The calls of one reading as an Arrow table, after one that compiled and imported all."""
    import pyarrow

    plugins = [penstock_plugins, ShopPlugin(size)]
    with serve(provider(size)) as server:
        source = {"base_url": server.base_url, "start": DAY, "concurrency": 1}
        project = Project({"source": {"shop": source}}, plugins=plugins, environ={})
        records = project.read("shop", stream, since=DAY, until=DAY)

        def once() -> None:
            assert pyarrow.table(records).num_rows == PAGES * size

        once()
        return calls_of(once)


@NEEDS_ARROW
@pytest.mark.parametrize("stream", ["sales", "leads"])
def test_no_python_function_is_called_per_record_of_a_table(stream: str) -> None:
    """
    No Python function is called per record of a read whose batches an Arrow library takes.
    """
    few, more = (calls_of_a_reading(size, stream) for size in (FEW, MORE))

    assert more - few < SLACK


def test_a_call_per_record_would_be_seen(tmp_path: Path) -> None:
    """
    A plugin that calls a function for each record makes the count grow with the records.
    """
    few, more = (calls(size, "sales", f"jsonl:{tmp_path / str(size)}", (PlodderPlugin(),)) for size in (FEW, MORE))

    assert more - few > PAGES * (MORE - FEW) - SLACK
