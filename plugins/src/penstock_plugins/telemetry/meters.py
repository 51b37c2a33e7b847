"""
The counts of finished runs, and of finished jobs of ``penstock act``, as metrics of OpenTelemetry.

They are counted once, at the end, from the report: nothing is added to a request or a partition.
"""

from opentelemetry import metrics
from penstock import Event

OF_STREAM = {
    "records": "Rows that runs wrote.",
    "rejected": "Records that runs rejected.",
    "requests": "Requests of runs.",
    "retries": "Retries of runs.",
    "bytes": "Bytes received, decompressed.",
}
STATES = ("delivered", "failed")


def follow(event: Event) -> None:
    """Take one event; those of an end are counted."""
    meter = metrics.get_meter("penstock")
    if event["event"] == "run_finished":
        for source, of_source in event["sources"].items():
            for stream, counts in of_source["streams"].items():
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
        for status, count in event["counts"].items():
            rows.add(count, {**place, "penstock.status": status})
