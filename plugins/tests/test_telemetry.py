"""
What follows a run for monitoring: spans of OpenTelemetry, and the text file for Prometheus' node exporter.
"""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import penstock_plugins
import pytest
from attrs import frozen
from penstock import (
    Connector,
    ConnectorPlugin,
    Envelope,
    OpenFor,
    Project,
    SandboxRequest,
    SandboxResponse,
    SourceSettings,
    Stream,
    added,
    column,
    record,
    setting,
)
from penstock.sandbox.server import Server, serve
from penstock_plugins import telemetry
from penstock_plugins.telemetry.textfile import last_success, rendered, write

pytestmark = pytest.mark.slow


@frozen(kw_only=True)
class ShopSettings(SourceSettings):
    base_url: str = setting("http://127.0.0.1", help="where it answers")
    shop_ids: tuple[str, ...] = setting(("7", "8"), help="the shops")


@record(kind="report", key="id", account="shop_id", day="day")
class Sale:
    shop_id: str = added(description="the shop of the request")
    day: date = added(description="the day of the request")
    id: str
    price: Decimal = column(unit="USD", additive=True)


SALES = Stream(
    name="sales",
    summary="Every sale",
    record=Sale,
    accounts=lambda settings: settings.shop_ids,
    path="/shops/{account}/sales",
    params={"day": "{since}", "key": "not-in-a-span"},
    envelope=Envelope(items="sales", total="total"),
    open_for=OpenFor(3),
)
SHOP = ConnectorPlugin(
    Connector(name="shop", summary="Sales of shops", settings=ShopSettings, streams=[SALES]),
)
DAYS: dict[str, Any] = {"since": date(2026, 3, 18), "until": date(2026, 3, 19)}


def body_of(shop: str, day: str, total: int = 2) -> bytes:
    rows = [{"id": f"{shop}-{day}-{number}", "price": "1.10"} for number in (1, 2)]
    return json.dumps({"sales": rows, "total": total}).encode()


class Shop:
    """Two sales a day. Shop 8 states a wrong number on the last day; its first answer is busy."""

    def __init__(self) -> None:
        self.busy = True

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        name, day = request.path.split("/")[2], request.params["day"]
        if name == "8" and self.busy:
            self.busy = False
            return SandboxResponse(status=503)
        total = 3 if (name, day) == ("8", "2026-03-19") else 2
        return SandboxResponse(body=body_of(name, day, total))


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(Shop()) as running:
        yield running


def project_of(server: Server, folder: Path, **more: Any) -> Project:
    source = {"base_url": server.base_url, "retries": 1, "retry_first_s": 0.01, **more}
    return Project(
        {
            "source": {"shop": {"connector": "shop", **source}},
            "sink": {"files": {"kind": "jsonl", "path": str(folder)}},
        },
        plugins=(SHOP, penstock_plugins),
        environ={},
    )


# --- spans ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The exporter that receives every span of this test."""
    trace = pytest.importorskip("opentelemetry.trace", reason="needs OpenTelemetry: the dependency group telemetry")
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs OpenTelemetry: the dependency group telemetry")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def named(spans: Any, name: str) -> list[Any]:
    return [span for span in spans.get_finished_spans() if span.name == name]


REQUEST = "GET /shops/{shop_id}/sales"


def test_a_run_is_a_tree_of_spans(server: Server, tmp_path: Path, spans: Any) -> None:
    """
    Run, stream, partition, request, each within its parent, with counts and outcomes; every span ends with the run.
    """
    result = project_of(server, tmp_path).run("shop", to="files", **DAYS)

    (run,), (stream,) = named(spans, "penstock.run"), named(spans, "penstock.stream")
    partitions, requests = named(spans, "penstock.partition"), named(spans, REQUEST)
    assert len(spans.get_finished_spans()) == 2 + len(partitions) + len(requests)
    assert dict(run.attributes) == {
        "penstock.run_id": result.run_id,
        "penstock.sources": ("shop",),
        "penstock.status": "failed",
        "penstock.exit_code": 1,
    }
    assert (run.parent, stream.parent.span_id) == (None, run.context.span_id)
    assert stream.attributes["penstock.delivered"] == 3
    assert stream.attributes["penstock.failed"] == 1
    assert stream.attributes["penstock.requests"] == len(requests)
    (retry,) = stream.events
    assert (retry.name, retry.attributes["penstock.error"]) == ("retry", "ServerError")
    by_day = {
        (one.attributes["penstock.partition.shop_id"], one.attributes["penstock.partition.day"]): one
        for one in partitions
    }
    assert len(by_day) == len(partitions) == 4
    assert {one.parent.span_id for one in partitions} == {stream.context.span_id}
    assert by_day["7", "2026-03-18"].attributes["penstock.records"] == 2
    failed = by_day["8", "2026-03-19"]
    assert failed.attributes["error.type"] == "CountMismatchError"
    assert [not one.status.is_ok and one is not failed for one in partitions] == [False] * 4
    assert {one.parent.span_id for one in requests} == {one.context.span_id for one in partitions}
    for one in spans.get_finished_spans():
        assert run.start_time <= one.start_time <= one.end_time <= run.end_time


def test_a_request_shows_its_kind_and_nothing_of_its_values(server: Server, tmp_path: Path, spans: Any) -> None:
    """
    The path as a template, the status and the size; no query. The provider receives no header of a trace.
    """
    project_of(server, tmp_path).run("shop", to="files", **DAYS)

    requests = named(spans, REQUEST)
    (busy,) = [one for one in requests if one.attributes["http.response.status_code"] == 503]
    assert busy.attributes["error.type"] == "503"
    assert dict(requests[-1].attributes) == {
        "penstock.source": "shop",
        "penstock.stream": "sales",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.template": "/shops/{shop_id}/sales",
        "server.address": "127.0.0.1",
        "penstock.response.bytes": len(body_of("7", "2026-03-18")),  # the same for each shop and day
    }
    shown = "".join(one.to_json() for one in spans.get_finished_spans())
    assert "not-in-a-span" not in shown
    assert server.base_url not in shown
    assert "with HTTP 503" in shown
    names = {name for request in server.requests for name in request.headers}
    assert names & {"traceparent", "tracestate", "baggage"} == set()


def test_runs_side_by_side_have_spans_of_their_own(server: Server, tmp_path: Path, spans: Any) -> None:
    """
    Two runs of one process: each partition is in the tree of its own run.
    """
    projects = [project_of(server, tmp_path / str(number), shop_ids=[str(number)]) for number in (1, 2)]

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda one: one.run("shop", to="files", **DAYS), projects))

    runs = {one.context.span_id: one.attributes["penstock.run_id"] for one in named(spans, "penstock.run")}
    streams = {one.context.span_id: runs[one.parent.span_id] for one in named(spans, "penstock.stream")}
    found = {
        (streams[one.parent.span_id], one.attributes["penstock.partition.shop_id"])
        for one in named(spans, "penstock.partition")
    }
    assert found == {(results[0].run_id, "1"), (results[1].run_id, "2")}


def test_opentelemetry_is_not_loaded_by_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A run does not load OpenTelemetry where the process has not: no exporter could receive a span.
    """
    for name in ("opentelemetry.trace", "penstock_plugins.telemetry.open_telemetry"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    telemetry.follow({"event": "run_started", "run_id": "a", "sources": ["shop"]})

    assert {"opentelemetry.trace", "penstock_plugins.telemetry.open_telemetry"} & sys.modules.keys() == set()


# --- the text file ----------------------------------------------------------------------------------------------------


def test_the_end_of_a_run_is_a_file(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    One for each source, in the format of Prometheus, for all users to read; nothing else is left in the directory.
    """
    folder = tmp_path / "metrics"
    folder.mkdir()
    monkeypatch.setenv(telemetry.METRICS_DIR, str(folder))

    project_of(server, tmp_path / "data").run("shop", to="files", **DAYS)

    (file,) = folder.iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == ("penstock_shop.prom", 0o644)
    lines = file.read_text().splitlines()
    line = r'# (HELP|TYPE) penstock_[a-z_]+ .+|penstock_[a-z_]+\{[a-z]+="\w+"(,[a-z]+="\w+")*\} [0-9.]+'
    assert [one for one in lines if not re.fullmatch(line, one)] == []
    assert 'penstock_last_run_success{source="shop"} 0' in lines
    assert 'penstock_last_run_partitions{source="shop",stream="sales",state="delivered"} 3' in lines
    assert 'penstock_last_run_records{source="shop",stream="sales"} 6' in lines
    assert 'penstock_last_run_retries{source="shop",stream="sales"} 1' in lines
    names = [one.split()[2] for one in lines if one.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert "penstock_last_success_timestamp_seconds" not in names  # there was none


def test_a_source_that_cannot_be_used_has_a_text_file_too(tmp_path: Path) -> None:
    """
    Its last run was none that succeeded, and the time of the last success stays.
    """
    write(tmp_path, a_report())
    succeeded = last_success(tmp_path / "penstock_shop.prom")

    write(tmp_path, a_report(errors=[{"source": "shop", "message": "no secret"}], sources={}))

    lines = (tmp_path / "penstock_shop.prom").read_text().splitlines()
    assert 'penstock_last_run_success{source="shop"} 0' in lines
    assert last_success(tmp_path / "penstock_shop.prom") == succeeded
    assert not [line for line in lines if "stream=" in line]


def a_report(**more: Any) -> dict[str, Any]:
    counts = {
        "partitions": {"planned": 2, "delivered": 2, "failed": 0, "skipped": 5},
        **dict.fromkeys(("requests", "retries", "bytes", "records", "rejected", "unread_values", "truncated"), 0),
        "restated": [{}, {}],
        "seconds": 1.5,
    }
    found = {"status": "delivered", "seconds": 2.0, "errors": [], "sources": {"shop": {"streams": {"sales": counts}}}}
    return {**found, **more}


def test_a_failed_run_keeps_the_time_of_the_last_success(tmp_path: Path) -> None:
    """
    The time of the last success in the file of a failed run is that of the file before, for an alert on its age; a
    damaged file has none.
    """
    good = a_report()
    streams = good["sources"]["shop"]["streams"]
    file = tmp_path / "penstock_shop.prom"
    file.write_text(rendered(good, "shop", streams, 1772000000.5, None))
    assert last_success(file) == 1772000000.5

    write(tmp_path, a_report(errors=[{"source": "shop", "message": "refused"}]))

    assert last_success(file) == 1772000000.5
    assert 'penstock_last_run_success{source="shop"} 0' in file.read_text()
    file.write_bytes(b"\xff")
    assert last_success(file) is None
    assert last_success(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("more", "well"),
    [
        ({}, 1),
        ({"errors": [{"source": "other", "message": "refused"}]}, 1),
        ({"errors": [{"source": "shop", "message": "refused"}]}, 0),
        ({"status": "deadline"}, 0),
        ({"status": "interrupted"}, 0),
        ({"parked": {"shop": "a wait until 18:00"}}, 0),
        ({"parked": {"other": "a wait until 18:00"}}, 1),
    ],
)
def test_the_success_of_a_source_is_its_own(more: dict[str, Any], well: int) -> None:
    """
    A failure of another source of the run does not count.
    """
    report = a_report(**more)
    text = rendered(report, "shop", report["sources"]["shop"]["streams"], 1772000000.0, None)
    assert f'penstock_last_run_success{{source="shop"}} {well}\n' in text
    assert 'penstock_last_run_restated{source="shop",stream="sales"} 2\n' in text


def test_a_directory_that_is_gone_fails_no_run(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A missing directory for metrics is logged, with what to do; the run ends as it would have.
    """
    monkeypatch.setenv(telemetry.METRICS_DIR, str(tmp_path / "absent"))

    result = project_of(server, tmp_path / "data", shop_ids=["7"]).run("shop", to="files", **DAYS)

    assert result.exit_code == 0
    assert f"PENSTOCK_METRICS_DIR {tmp_path / 'absent'}: no metrics were written: No such file" in caplog.text
    assert "penstock_event failed" not in caplog.text


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_the_end_of_a_run_and_of_a_job_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The report counts it by source and stream; a job of ``act`` is counted by the outcome of its rows.
    """
    metrics = pytest.importorskip("opentelemetry.metrics", reason="needs OpenTelemetry: the dependency group telemetry")
    sdk = pytest.importorskip("opentelemetry.sdk.metrics", reason="needs OpenTelemetry: the dependency group telemetry")
    reader = importlib.import_module("opentelemetry.sdk.metrics.export").InMemoryMetricReader()
    monkeypatch.setattr(metrics, "get_meter", sdk.MeterProvider([reader]).get_meter)
    module = importlib.import_module("penstock_plugins.telemetry.open_telemetry")

    report = a_report(event="run_finished")
    report["sources"]["shop"]["streams"]["sales"]["records"] = 7

    module.count(report)
    module.count({"event": "act_finished", "source": "shop", "action": "sell", "counts": {"accepted": 2, "refused": 1}})

    (resource,) = reader.get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    found = {metric.name: metric.data.data_points for metric in scope.metrics}
    (records,) = found["penstock.records"]
    assert records.value == 7
    assert dict(records.attributes) == {"penstock.source": "shop", "penstock.stream": "sales"}
    states = {point.attributes["penstock.state"]: point.value for point in found["penstock.partitions"]}
    assert states == {"delivered": 2, "failed": 0}
    (seconds,) = found["penstock.run.duration"]
    assert (seconds.count, seconds.sum) == (1, 2.0)
    rows = {point.attributes["penstock.status"]: point.value for point in found["penstock.act.rows"]}
    assert rows == {"accepted": 2, "refused": 1}
