"""
The result of the last run of each source as a text file for the collector ``textfile`` of Prometheus' node exporter.

``DIR/penstock_SOURCE.prom`` is replaced whole at the end of each run of the source, and can be read by all users, since
the exporter is another one. It holds names of sources and streams, and numbers.
"""

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from penstock.commands.process import write_whole
from penstock.events import RunFinished

PREFIX = "penstock_last_run_"
SUCCESS = "penstock_last_success_timestamp_seconds"

OF_SOURCE = {
    SUCCESS: "When a run last delivered all that it read of the source.",
    f"{PREFIX}timestamp_seconds": "When the last run of the source ended.",
    f"{PREFIX}success": "1 if the last run delivered all that it read of the source, else 0.",
    f"{PREFIX}seconds": "How long the last run took.",
}
OF_PARTITIONS = "Partitions of the last run, by what became of them."
OF_STREAM = {
    "records": "Rows that the last run wrote.",
    "rejected": "Records that the last run rejected.",
    "unread_values": "Values that the last run could not read.",
    "truncated": "Partitions of which the provider listed no more.",
    "restated": "Delivered days that the last run found changed.",
    "requests": "Requests of the last run.",
    "retries": "Retries of the last run.",
    "bytes": "Bytes received in the last run, decompressed.",
    "reading_seconds": "Seconds from the first request of the stream to its last delivery.",
}


def write(folder: Path, event: RunFinished) -> None:
    """Write the file of each source of a finished run, also of one that failed as a whole. Raises OSError."""
    streams_by_source: dict[str, Mapping[str, Any]] = {error["source"]: {} for error in event["errors"]}
    streams_by_source |= {source: source_report["streams"] for source, source_report in event["sources"].items()}
    for source, streams in streams_by_source.items():
        file = folder / f"penstock_{source}.prom"
        text = rendered(event, source, streams, round(time.time(), 3), last_success(file))
        write_whole(file, text, mode=0o644)


def last_success(file: Path) -> float | None:
    """The time of the last success in a file that an earlier run wrote; None without one."""
    try:
        match = re.search(rf"^{SUCCESS}{{.*}} ([0-9.]+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return None
    return float(match[1]) if match else None


def rendered(event: RunFinished, source: str, streams: Mapping[str, Any], now: float, succeeded: float | None) -> str:
    """The file of one source. ``now``, ``succeeded``: seconds since 1970."""
    well = is_well(event, source, streams)
    values = {
        SUCCESS: now if well else succeeded,
        f"{PREFIX}timestamp_seconds": now,
        f"{PREFIX}success": int(well),
        f"{PREFIX}seconds": event["seconds"],
    }
    lines = []
    for name, text in OF_SOURCE.items():
        if values[name] is not None:
            lines += [*head(name, text), f"{name}{labels(source=source)} {values[name]}"]
    lines += head(f"{PREFIX}partitions", OF_PARTITIONS)
    for stream, counts in streams.items():
        for state, count in counts["partitions"].items():
            lines.append(f"{PREFIX}partitions{labels(source=source, stream=stream, state=state)} {count}")
    for name, text in OF_STREAM.items():
        lines += head(PREFIX + name, text)
        lines += [
            f"{PREFIX}{name}{labels(source=source, stream=stream)} {value_of(counts, name)}"
            for stream, counts in streams.items()
        ]
    return "\n".join([*lines, ""])


def is_well(event: RunFinished, source: str, streams: Mapping[str, Any]) -> bool:
    """Whether a run delivered all that it read of a source, and was not ended early."""
    if event["status"] in ("deadline", "interrupted") or source in event.get("parked", {}):
        return False
    failed = any(counts["partitions"]["failed"] or counts["truncated"] for counts in streams.values())
    return not failed and not any(error["source"] == source for error in event["errors"])


def value_of(counts: Mapping[str, Any], name: str) -> float:
    value = counts["seconds" if name == "reading_seconds" else name]
    return len(value) if isinstance(value, list) else value


def head(name: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} gauge"


def labels(**values: str) -> str:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in values.items()) + "}"
