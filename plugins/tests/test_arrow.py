"""
Records as Arrow columns: every type, what does not fit, and a reading as a stream.
"""

import importlib
import json
import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import penstock_plugins
import pytest
from attrs import evolve
from penstock import (
    Column,
    Connector,
    ConnectorPlugin,
    CountMismatchError,
    Envelope,
    Json,
    OpenFor,
    Project,
    RejectedRecordsError,
    Request,
    SandboxRequest,
    SandboxResponse,
    SinkError,
    Slice,
    SourceSettings,
    Stream,
    UsageError,
    added,
    column,
    record,
)
from penstock.sandbox.server import serve
from penstock.testing import FakeClock
from penstock.testing.sinks import CLICKS, HOSTILE, click, rows_of

pytestmark = pytest.mark.slow

pa = pytest.importorskip("pyarrow", reason="needs the extra arrow")
ColumnMisfitError, Columns = (
    getattr(importlib.import_module("penstock_plugins.arrow.columns"), name)
    for name in ("ColumnMisfitError", "Columns")
)

LAST = date(2026, 3, 9)


# --- columns ----------------------------------------------------------------------------------------------------------


def test_every_type_has_its_arrow_type() -> None:
    """
    Exact decimals, days, times with the zone that the provider states, nested values as text.
    """
    schema = Columns.of(CLICKS).schema
    types = {one.name: str(one.type) for one in schema}

    assert types == {
        "advertiser_id": "string",
        "report_date": "date32[day]",
        "click_id": "string",
        "url": "string",
        "job_id": "int64",
        "price": "decimal128(38, 9)",
        "paid": "bool",
        "clicked_at": "timestamp[us]",
        "seen_at": "timestamp[us, tz=UTC]",
        "offer": "string",
        "_extra": "string",
    }
    assert schema.field("price").metadata == {b"unit": b"USD", b"additive": b"true"}
    assert schema.field("url").metadata[b"description"] == b"Where it led"
    assert schema.metadata[b"penstock.key"] == b"click_id"


def test_hostile_values_come_back_as_they_were() -> None:
    """
    Each value that fits its type is read back equal; null and an empty text stay distinct.
    """
    fitting = [row for row in HOSTILE if row["job_id"] != 2**70]
    found = Columns.of(CLICKS).batch(rows_of(CLICKS, fitting)).to_pylist()

    for row, back in zip(fitting, found, strict=True):
        for name in ("offer", "_extra"):
            text = back.pop(name)
            assert (None if text is None else json.loads(text)) == row.get(name)
        assert back == {name: row[name] for name in back}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param({"job_id": 2**63}, "job_id: 9223372036854775808 is beyond 64 bits", id="integer"),
        pytest.param({"price": Decimal("0.1234567891")}, "price: 0.1234567891 does not fit decimal128", id="digits"),
        pytest.param({"price": Decimal(10) ** 29}, "does not fit decimal128", id="large"),
        pytest.param({"job_id": 1.5}, "job_id: 1.5 is no integer", id="float"),
        pytest.param({"report_date": datetime(2026, 3, 1, 23, tzinfo=UTC)}, "report_date: .* is no date", id="time"),
        pytest.param({"url": 5}, "url: ", id="number"),
    ],
)
def test_a_value_that_arrow_cannot_hold_raises(values: dict[str, Any], reason: str) -> None:
    """
    Nothing is rounded or cut: the row and the column are named.
    """
    rows = rows_of(CLICKS, [click(1), click(2, **values), click(3, url=None, job_id=None, price=None)])

    with pytest.raises(ColumnMisfitError, match=reason) as caught:
        Columns.of(CLICKS).batch(rows)

    assert list(caught.value.misfits) == [1]


@pytest.mark.parametrize("price", ["0.100000000000", "-0.123456789", "99999999999999999999999999999.999999999", "1E+5"])
def test_a_value_that_arrow_can_hold_is_exact(price: str) -> None:
    """
    Trailing zeros beyond the scale are no digits.
    """
    batch = Columns.of(CLICKS).batch(rows_of(CLICKS, [click(1, price=Decimal(price))]))

    assert batch.column("price").to_pylist() == [Decimal(price)]


def test_a_column_declares_its_scale() -> None:
    """
    ``decimal_scale`` of the column, else that of the caller.
    """
    declared = Column(name="rate", type="decimal", decimal_scale=12)
    layout = evolve(CLICKS, columns=(declared, Column(name="price", type="decimal")))

    assert [str(one) for one in Columns.of(layout, 18).schema.types] == ["decimal128(38, 12)", "decimal128(38, 18)"]


def test_a_scale_is_of_a_decimal() -> None:
    """
    Another column, or a scale that no decimal has, is a mistake of the record class.
    """

    class Wrong:
        clicks: int = column(decimal_scale=2)

    with pytest.raises(TypeError, match="decimal_scale is of a Decimal"):
        record()(Wrong)


# --- a reading --------------------------------------------------------------------------------------------------------


@record()
class Sale:
    shop_id: str = added()
    day: date = added()
    id: str
    price: Decimal
    lines: Json = None


def requests(settings: SourceSettings, slice_: Slice) -> Iterable[Request]:
    yield Request(url=f"{settings.base_url}/sales", params=(("shop", slice_.account or ""), ("day", str(slice_.since))))


SALES = Stream(
    name="sales",
    summary="What was sold",
    record=Sale,
    kind="report",
    key="id",
    account="shop_id",
    accounts=lambda settings: ("7", "8"),
    day="day",
    requests=requests,
    envelope=Envelope(items="sales", total="total"),
    open_for=OpenFor(30),
)


class Shop:
    """Two sales a day and shop; ``change`` alters an answer before it is sent."""

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.change: Any = lambda day, answer: answer

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        query = dict(pair.split("=") for pair in request.query.split("&"))
        self.requested.append(query["day"])
        name = f"{query['shop']}-{query['day']}"
        sales = [{"id": f"{name}-{n}", "price": 0.10, "lines": [{"sku": "a", "tax": 1.10}]} for n in (1, 2)]
        return SandboxResponse(body=json.dumps(self.change(query["day"], {"sales": sales, "total": 2})).encode())


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def project(shop: Shop) -> Iterator[Project]:
    connector = Connector(name="shop", summary="", settings=SourceSettings, streams=[SALES])
    with serve(shop) as server:
        source = {"base_url": server.base_url, "retries": 0, "retry_first_s": 0.01}
        yield Project(
            {"source": {"shop": source}},
            plugins=[ConnectorPlugin(connector), penstock_plugins],
            environ={},
            clock=partial(FakeClock, datetime(2026, 3, 10, 8, tzinfo=UTC)),
        )


def reads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("read ")]


def test_a_reading_is_a_stream(project: Project) -> None:
    """
    A typed, exact table; on each use the records are read anew.
    """
    records = project.read("shop", "sales", since=LAST, until=LAST)

    first, second = pa.table(records), pa.table(records)

    assert first.sort_by("id").to_pylist() == second.sort_by("id").to_pylist()
    assert first.sort_by("id").slice(0, 1).to_pylist() == [
        {
            "shop_id": "7",
            "day": LAST,
            "id": "7-2026-03-09-1",
            "price": Decimal("0.1"),
            "lines": '[{"sku": "a", "tax": 1.1}]',
            "_extra": None,
        }
    ]
    assert (first.num_rows, records.error) == (4, None)
    assert next(iter(records)).rows[0].lines == [{"sku": "a", "tax": Decimal("1.1")}]


def test_nothing_is_read_before_it_is_consumed(project: Project, shop: Shop) -> None:
    """
    The schema costs no request; a stream that is released early ends its requests and its thread.
    """
    stream = pa.RecordBatchReader.from_stream(project.read("shop", "sales", since="-60d", until=LAST))

    assert ("price" in stream.schema.names, shop.requested) == (True, [])
    stream.read_next_batch()
    stream.close()
    del stream

    assert reads() == []
    assert 0 < len(shop.requested) < 60


def test_another_thread_may_consume_it(project: Project) -> None:
    """
    The thread that opens the stream need not be the one that reads it.
    """
    stream = pa.RecordBatchReader.from_stream(project.read("shop", "sales", since=LAST, until=LAST))
    found: list[Any] = []

    thread = threading.Thread(target=lambda: found.append(stream.read_all()))
    thread.start()
    thread.join()

    assert found[0].num_rows == 4


def test_a_partition_whose_counts_differ_raises(project: Project, shop: Shop) -> None:
    """
    The consumer raises with the text of the error; the reading keeps the error itself.
    """
    shop.change = lambda day, answer: {**answer, "total": 3} if day == "2026-03-08" else answer
    records = project.read("shop", "sales", since="-3d", until=LAST)

    with pytest.raises(pa.ArrowException, match="states 3 records and 2 arrived"):
        pa.table(records)

    assert isinstance(records.error, CountMismatchError)
    assert reads() == []
    shop.change = lambda day, answer: answer
    assert pa.table(records).num_rows == 12
    assert records.error is None


def test_a_record_that_cannot_be_decoded_raises(project: Project, shop: Shop) -> None:
    """
    A record that cannot be decoded raises after the last batch, unless the caller allows it.
    """
    shop.change = lambda day, answer: {**answer, "sales": [{"id": None, "price": 1}, answer["sales"][1]]}
    records = project.read("shop", "sales", since=LAST, until=LAST)

    with pytest.raises(pa.ArrowException, match="could not be decoded"):
        pa.table(records)

    assert isinstance(records.error, RejectedRecordsError)
    assert pa.table(project.read("shop", "sales", since=LAST, until=LAST, allow_rejected=True)).num_rows == 2


def test_a_value_that_does_not_fit_raises(project: Project, shop: Shop) -> None:
    """
    The error names stream, column, value and remedy; with more digits after the point the value is read.
    """
    sale = {"id": "1", "price": 0.12345678912345}
    shop.change = lambda day, answer: {"sales": [sale], "total": 1}
    records = project.read("shop", "sales", since=LAST, until=LAST, accounts=["7"])

    with pytest.raises(pa.ArrowException, match=r"shop\.sales: price: 0\.12345678912345 does not fit .*decimal_scale"):
        pa.table(records)

    assert isinstance(records.error, SinkError)
    assert reads() == []
    found = records.encode("arrow", decimal_scale=18).read_all()
    assert found.column("price").to_pylist() == [Decimal("0.12345678912345")]


def test_without_pyarrow_the_error_names_the_extra(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nothing is read, and the message is what to install.
    """
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in [name for name in sys.modules if name.startswith("penstock_plugins.arrow")]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(UsageError, match=r"of the extra arrow of penstock-plugins\. Run: pip install"):
        project.read("shop", "sales", since=LAST, until=LAST).__arrow_c_stream__()
