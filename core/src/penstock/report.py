"""
The run report: what became of every partition, as one value that is written, shown and turned into an exit code.
"""

import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import define, field

from penstock.redact import mask_json


@define
class StreamCounts:
    """One stream's counts in one run. ``seconds`` is the time from its first request to its last delivery."""

    planned: int = 0
    delivered: int = 0
    failed: int = 0
    final: int = 0  # nothing was to be done
    requests: int = 0
    retries: int = 0
    bytes: int = 0
    records: int = 0
    promised: int | None = None
    rejected: int = 0
    repeated: int = 0
    truncated: int = 0
    unknown_members: set[str] = field(factory=set)
    restated: list[dict[str, Any]] = field(factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "partitions": {
                "planned": self.planned,
                "delivered": self.delivered,
                "failed": self.failed,
                "skipped": self.final,  # the word that programs know
            },
            "requests": self.requests,
            "retries": self.retries,
            "bytes": self.bytes,
            "records": self.records,
            "promised": self.promised,
            "rejected": self.rejected,
            "repeated": self.repeated,
            "truncated": self.truncated,
            "unknown_members": sorted(self.unknown_members),
            "restated": self.restated,
            "seconds": round(self.seconds, 3),
        }


@define
class RunReport:
    """
    Everything a run has to say. Counters are added to from fetching threads, hence the lock.
    """

    run_id: str
    strict: bool = False
    seconds: float = 0.0
    streams: dict[tuple[str, str], StreamCounts] = field(factory=dict)
    errors: list[dict[str, Any]] = field(factory=list)
    exceptions: list[BaseException] = field(factory=list, repr=False)  # what ``errors`` was made from
    notices: list[str] = field(factory=list)
    refused: bool = False  # credentials
    deadline: bool = False
    interrupted: bool = False
    output_closed: bool = False  # whoever read stdout had enough: the end of the run, and no fault
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    STATUS: ClassVar[Mapping[int, str]] = {
        0: "delivered",
        1: "failed",
        3: "refused",
        4: "deadline",
        5: "rejected",
        130: "interrupted",
    }

    def stream(self, source: str, stream: str) -> StreamCounts:
        """The counts of one stream, zeros at first."""
        return self.streams.setdefault((source, stream), StreamCounts())

    def count(self, source: str, stream: str, **amounts: int) -> None:
        """Add to counters of a stream, each by its name; from any thread."""
        with self._lock:
            counts = self.stream(source, stream)
            for name, amount in amounts.items():
                setattr(counts, name, getattr(counts, name) + amount)

    def error(self, source: str, stream: str | None, partition: Mapping[str, str] | None, error: BaseException) -> None:
        """Note what failed; ``partition`` None: no single one."""
        self.exceptions.append(error)
        self.errors.append(
            {
                "source": source,
                "stream": stream,
                "partition": dict(partition) if partition is not None else None,
                "error": type(error).__name__,
                "message": str(error),
            }
        )

    @property
    def exit_code(self) -> int:
        """The first that applies of 130, 3, 1, 4, 5; else 0."""
        counts = self.streams.values()
        if self.interrupted:
            return 130
        if self.refused:
            return 3
        if self.errors or any(one.failed or one.truncated for one in counts):
            return 1
        if self.deadline:
            return 4
        if self.strict and any(one.rejected or one.unknown_members for one in counts):
            return 5
        return 0

    @property
    def status(self) -> str:
        """The exit code as a word."""
        return "closed" if self.output_closed and not self.exit_code else self.STATUS[self.exit_code]

    def total(self, name: str) -> int:
        """The sum of one counter over all streams."""
        return sum(getattr(one, name) or 0 for one in self.streams.values())

    @property
    def summary_line(self) -> str:
        """The run in one line: what was delivered, and whatever else there is to say."""
        parts = ["whoever read standard output closed it"] if self.output_closed else []
        parts += [
            _counted(self.total("records"), "record"),
            f"{self.total('delivered')} of {_counted(self.total('planned'), 'partition')} delivered",
        ]
        if self.total("final"):
            parts.append(f"{self.total('final')} final")
        told = ("failed", "rejected", "repeated", "truncated")
        parts.extend(f"{self.total(name)} {name}" for name in told if self.total(name))
        if retries := self.total("retries"):
            parts.append(f"{retries} retr{'y' if retries == 1 else 'ies'}")
        unknown = sorted({name for one in self.streams.values() for name in one.unknown_members})
        if unknown:
            parts.append(f"unknown members {', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}")
        if self.deadline:
            parts.append("deadline reached, the next run goes on")
        return f"{self.status}: {', '.join(parts)}, {_counted(self.total('requests'), 'request')}, {self.seconds:.1f} s"

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-like data, masked."""
        sources: dict[str, Any] = {}
        for (source, stream), counts in self.streams.items():
            sources.setdefault(source, {"streams": {}})["streams"][stream] = counts.as_dict()
        whole = {
            "run_id": self.run_id,
            "status": self.status,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "sources": sources,
            "errors": self.errors,
            "notices": self.notices,
        }
        masked: dict[str, Any] = mask_json(whole)
        return masked


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
