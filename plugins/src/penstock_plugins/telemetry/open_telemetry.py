"""
The spans of a run, and the counts of finished runs as metrics of OpenTelemetry.

The spans are the run, its streams, their partitions, and each attempt of a request.

A span of a request has the method, the URL as a kind of request (see ``docs/hooks.md``), the status and the size: no
query, no body, no header. Nothing is added to the request itself, so no trace continues at the provider.

A request for one partition is a child of its span, which begins with the first of its requests; one for several
partitions, and a login, are children of the stream's or of the run's.
"""

import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import define, field
from opentelemetry import metrics, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from penstock import Event
from penstock.events import (
    PartitionDelivered,
    PartitionFailed,
    RequestEnded,
    RequestRetried,
    RunFinished,
    StreamStarted,
)

SECOND_NS = 1_000_000_000

OfStream = StreamStarted | RequestEnded | RequestRetried | PartitionDelivered | PartitionFailed
Stream = tuple[str, str]
Partition = tuple[str, str, tuple[str, ...]]


@define(eq=False, repr=False)
class RunSpans:
    """The open spans of one run. Called with one event at a time."""

    tracer: trace.Tracer
    run: Span
    streams: dict[Stream, Span] = field(factory=dict)
    partitions: dict[Partition, Span] = field(factory=dict)

    def follow(self, event: Event) -> None:
        match event["event"]:
            case "stream_started":
                self.stream(event)
            case "request":
                self.request(event)
            case "retry":
                retry = _known(event, "error", "pause_s", "renewed")
                self.parent(event).add_event("retry", {**retry, "penstock.message": without_url(event["reason"])})
            case "partition_delivered":
                span = self.partition(event, event["partition"], time.time_ns())
                span.set_attributes(_known(event, "records", "rejected", "unread_values"))
                span.set_attribute("penstock.restated", "restated" in event)
                self.end(event)
            case "partition_failed" if event["partition"] is not None:
                self.partition(event, event["partition"], time.time_ns())
                self.end(event)

    def parent(self, event: OfStream) -> Span:
        """The span of an event's stream; without a stream, of the run."""
        return self.stream(event) if event["stream"] else self.run

    def stream(self, event: OfStream) -> Span:
        key = (event["source"], event["stream"] or "")
        if key not in self.streams:
            self.streams[key] = self._start("penstock.stream", self.run, _place(event), None)
        return self.streams[key]

    def partition(self, event: OfStream, values: Mapping[str, str], began_ns: int) -> Span:
        key = _key(event, values)
        if key not in self.partitions:
            partition_values = {f"penstock.partition.{column}": value for column, value in values.items()}
            attributes = {**_place(event), **partition_values}
            self.partitions[key] = self._start("penstock.partition", self.stream(event), attributes, began_ns)
        return self.partitions[key]

    def request(self, event: RequestEnded) -> None:
        ended_ns = time.time_ns()
        began_ns = ended_ns - int(event["seconds"] * SECOND_NS)
        for_partitions = [self.partition(event, values, began_ns) for values in event["partitions"]]
        parent = for_partitions[0] if len(for_partitions) == 1 else self.parent(event)
        url = urlsplit(event["url"])
        attributes = {
            **_place(event),
            "http.request.method": event["method"],
            "url.template": url.path or "/",
            "server.address": url.hostname or "",
            "penstock.response.bytes": event["bytes"],
        }
        if event["status"] is not None:
            attributes["http.response.status_code"] = event["status"]
        name = f"{event['method']} {url.path or '/'}"
        span = self._start(name, parent, attributes, began_ns, kind=SpanKind.CLIENT)
        if event["status"] is None or event["status"] >= 400:
            span.set_attribute("error.type", str(event["status"] or "no_response"))
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended_ns)

    def end(self, event: PartitionDelivered | PartitionFailed) -> None:
        """End a partition's span."""
        span = self.partitions.pop(_key(event, event["partition"] or {}), None)
        if span is None:  # it failed before its first request
            return
        if event["event"] == "partition_failed":
            span.set_attribute("error.type", event["error"])
            span.set_status(Status(StatusCode.ERROR, without_url(event["reason"])))
        span.end()

    def finish(self, event: RunFinished) -> None:
        """End everything: the report gives the streams their counts, and the run its exit code."""
        for span in self.partitions.values():  # left over by a deadline or a signal
            span.end()
        for (source, stream), span in self.streams.items():
            counts = event["sources"].get(source, {}).get("streams", {}).get(stream)
            if counts is not None:
                span.set_attributes(_known(counts["partitions"], "planned", "delivered", "failed", "skipped"))
                span.set_attributes(_known(counts, "requests", "retries", "bytes", "records", "rejected", "truncated"))
                if counts["partitions"]["failed"] or counts["truncated"]:
                    span.set_status(Status(StatusCode.ERROR))
            span.end()
        self.run.set_attributes(_known(event, "status", "exit_code"))
        if event["exit_code"] not in (0, 5):
            self.run.set_status(Status(StatusCode.ERROR, event["status"]))
        self.run.end()

    def _start(
        self,
        name: str,
        parent: Span,
        attributes: Mapping[str, Any],
        began_ns: int | None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        context = trace.set_span_in_context(parent)
        return self.tracer.start_span(name, context, kind=kind, attributes=dict(attributes), start_time=began_ns)


def without_url(message: str) -> str:
    """An error's message without the URLs in it, which have the values of one request."""
    return re.sub(r"\b(?:[A-Z]{3,7} )?https?://\S+", "the request", message)


def _key(event: OfStream, values: Mapping[str, str]) -> Partition:
    return (event["source"], event["stream"] or "", tuple(values.values()))


def _place(event: OfStream) -> dict[str, str]:
    source = {"penstock.source": event["source"]}
    return {**source, "penstock.stream": event["stream"]} if event["stream"] else source


def _known(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {f"penstock.{name}": values[name] for name in names if values.get(name) is not None}


_open_runs: dict[str, RunSpans] = {}  # of this process, by id


def follow_spans(event: Event) -> None:
    """Take one event; those of ``penstock act``, and of a run that began before OpenTelemetry, have no span."""
    run_id = event.get("run_id", "")
    if event["event"] == "run_started":
        tracer = trace.get_tracer("penstock")
        attributes = {"penstock.run_id": run_id, "penstock.sources": list(event["sources"])}
        _open_runs[run_id] = RunSpans(tracer, tracer.start_span("penstock.run", attributes=attributes))
    elif event["event"] == "run_finished" and run_id in _open_runs:
        _open_runs.pop(run_id).finish(event)
    elif run_id in _open_runs:
        _open_runs[run_id].follow(event)


# --- metrics ----------------------------------------------------------------------------------------------------------

OF_STREAM = {
    "records": "Rows that runs wrote.",
    "rejected": "Records that runs rejected.",
    "requests": "Requests of runs.",
    "retries": "Retries of runs.",
    "bytes": "Bytes received, decompressed.",
}
STATES = ("delivered", "failed")


def count(event: Event) -> None:
    """
    Count the results of a finished run, or of a finished ``penstock act``, once, from its report: nothing is added to a
    request or a partition.
    """
    meter = metrics.get_meter("penstock")
    if event["event"] == "run_finished":
        for source, source_report in event["sources"].items():
            for stream, counts in source_report["streams"].items():
                place = {"penstock.source": source, "penstock.stream": stream}
                for name, text in OF_STREAM.items():
                    meter.create_counter(f"penstock.{name}", description=text).add(counts[name], place)
                partitions = meter.create_counter("penstock.partitions", description="Partitions of runs, by outcome.")
                for state in STATES:
                    partitions.add(counts["partitions"][state], {**place, "penstock.state": state})
        seconds = meter.create_histogram("penstock.run.duration", unit="s", description="Seconds that runs took.")
        seconds.record(event["seconds"], {"penstock.status": event["status"]})
    elif event["event"] == "act_finished":
        rows = meter.create_counter("penstock.act.rows", description="Rows sent to providers, by outcome.")
        place = {"penstock.source": event["source"], "penstock.action": event["action"]}
        for status, number in event["counts"].items():
            rows.add(number, {**place, "penstock.status": status})
