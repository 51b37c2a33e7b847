"""
The run report: the result of every partition. It is written as JSON, and gives the exit code.
"""

import threading
from collections.abc import Mapping
from typing import Any

import msgspec
from attrs import asdict, define, evolve, field, fields

from penstock._config.pipeline import NONE_ALLOWED, Allowance
from penstock.errors import DeadlineReachedError, OutputClosedError, ParkedError, PenstockError, StoppedError
from penstock.events import ReportedError, ReportMembers
from penstock.model import Partition
from penstock.redact import mask, mask_json

STATUS: Mapping[int, str] = {
    0: "delivered",
    1: "failed",
    3: "refused",
    4: "deadline",
    5: "rejected",
    6: "locked",
    130: "interrupted",
}
"""The exit codes of a run, and the word for each."""


# A provider changes no more records of a stream than one of these while they are read; beyond, its key is suspected.
CHANGED_RECORDS = 10
CHANGED_SHARE = 0.01

_PUBLISHED = (
    "requests",
    "retries",
    "bytes",
    "records",
    "promised",
    "rejected",
    "unread_values",
    "repeated",
    "truncated",
)


@define(eq=False, repr=False)
class StreamCounts:
    """One stream's counts in one run. ``seconds`` is the time from its first request to its last delivery."""

    planned: int = 0
    delivered: int = 0
    failed: int = 0
    final: int = 0  # not read again
    carried: int = 0  # of those delivered, the ones that came with the stream from which this one is derived
    requests: int = 0
    retries: int = 0
    bytes: int = 0
    records: int = 0
    promised: int | None = None
    rejected: int = 0
    unread_values: int = 0
    unread_example: str = ""  # path and reason of the first
    repeated: int = 0
    replaced: int = 0  # of those repeated, by a later record of the same reading with the same key and other values
    replaced_example: str = ""  # the key of the first
    truncated: int = 0
    unknown_members: set[str] = field(factory=set)
    # Measure that no record has any more -> unknown members.
    missing_measures: dict[str, tuple[str, ...]] = field(factory=dict)
    restated: list[dict[str, Any]] = field(factory=list)
    seconds: float = 0.0

    def add(self, other: "StreamCounts") -> None:
        """Add the counts of another process that read a part of the stream."""
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.promised is not None:
            self.promised = (self.promised or 0) + other.promised
        self.unread_example = self.unread_example or other.unread_example
        self.replaced_example = self.replaced_example or other.replaced_example
        self.unknown_members |= other.unknown_members
        self.missing_measures.update(other.missing_measures)
        self.restated += other.restated
        self.seconds = max(self.seconds, other.seconds)

    @property
    def fetched(self) -> int:
        """The records of all delivered partitions as they were fetched: written, rejected or repeated."""
        return self.records + self.rejected + self.repeated

    @property
    def has_ambiguous_key(self) -> bool:
        """Whether more records of one key with other values came than a provider changes during a reading."""
        return self.replaced > max(CHANGED_RECORDS, CHANGED_SHARE * self.fetched)

    def as_dict(self) -> dict[str, Any]:
        missing = {name: list(members) for name, members in self.missing_measures.items()}
        return {
            "partitions": {
                "planned": self.planned,
                "delivered": self.delivered,
                "failed": self.failed,
                "skipped": self.final,  # the name in the published format
            },
            **{name: getattr(self, name) for name in _PUBLISHED},
            "unknown_members": sorted(self.unknown_members),
            **({"lost": missing} if missing else {}),  # the name in the published format
            "restated": self.restated,
            "seconds": round(self.seconds, 3),
        }


_SUMMED = tuple(counter.name for counter in fields(StreamCounts) if counter.type is int)

Credentials = tuple[str, str | None]
"""A source, and the account that has credentials of its own; None: the source's."""

_CREDENTIALS = ("refused", "forbidden", "working_credentials")
_FLAGS = ("deadline", "stopped", "output_closed")


@define(eq=False, repr=False)
class RunReport:
    """
    The result of a run. Fetching threads add to the counters, hence the lock.
    """

    run_id: str
    allowed: Allowance = NONE_ALLOWED
    seconds: float = 0.0
    streams: dict[tuple[str, str], StreamCounts] = field(factory=dict)
    errors: list[ReportedError] = field(factory=list)
    first_error: PenstockError | None = field(default=None, repr=False)  # of this process, for a caller that raises it
    notices: list[str] = field(factory=list)
    target_notices: list[str] = field(factory=list)  # of the notices, those of the targets: rows that are missing
    refused: set[Credentials] = field(factory=set)
    forbidden: set[Credentials] = field(factory=set)  # the provider answered 403 to an account
    working_credentials: set[Credentials] = field(factory=set)
    deadline: bool = False
    parked: dict[str, str] = field(factory=dict)  # source -> why nothing more was requested from it
    stopped: bool = False  # before its end; see ``interrupted``
    locked: dict[str, str] = field(factory=dict)  # source -> the other run that holds its lock, and reads it
    output_closed: bool = False  # the reader of stdout closed it: the end of the run, and no fault
    _noticed: set[str] = field(factory=set, init=False, repr=False)  # the notices
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def stream(self, source: str, stream: str) -> StreamCounts:
        """The counts of one stream, zeros at first."""
        if (counts := self.streams.get((source, stream))) is None:
            counts = self.streams[source, stream] = StreamCounts()
        return counts

    def count(self, source: str, stream: str, **amounts: int) -> None:
        """Add to counters of a stream, each by its name; from any thread."""
        with self._lock:
            counts = self.streams.get((source, stream)) or self.stream(source, stream)
            for name, amount in amounts.items():
                setattr(counts, name, getattr(counts, name) + amount)

    def add_notices(self, *texts: str) -> None:
        """Add notices, which the person who started the run sees at its end, each text once."""
        unnoticed = dict.fromkeys(text for text in texts if text not in self._noticed)
        self._noticed.update(unnoticed)
        self.notices += unnoticed

    def add_target_notices(self, *texts: str) -> None:
        """Add notices about what a target found when it was opened."""
        self.add_notices(*texts)
        self.target_notices += [text for text in texts if text not in self.target_notices]

    def record_error(
        self, source: str, stream: str | None, partition: Mapping[str, str] | None, error: PenstockError
    ) -> ReportedError:
        """
        Record an error, and return its entry: ``reason`` is equal for one cause in many places, ``message`` has the
        place, too. ``partition`` None: it belongs to no single partition.
        """
        place = None if stream is None else Partition(stream, tuple((partition or {}).items()))
        error = error.at(source=source, partition=place)
        entry: ReportedError = {
            "source": source,
            "stream": stream,
            "partition": dict(partition) if partition is not None else None,
            "error": type(error).__name__,
            "reason": error.without_place,
            "request": None if error.request is None else mask(str(error.request)),
            "message": str(error),
        }
        self.first_error = self.first_error or error
        self.errors.append(entry)
        return entry

    def end_by(self, error: BaseException, source: str = "") -> bool:
        """
        Record what ended the run, or its reads of one source, before they were complete. False: it ends neither, and is
        a failure.
        """
        match error:
            case OutputClosedError():
                self.output_closed = True
            case StoppedError():
                self.stopped = True
            case DeadlineReachedError():
                self.deadline = True
            case ParkedError():
                self.parked.setdefault(source, str(error))
            case GeneratorExit():
                pass  # the generator of a read was closed: what ended the run is recorded by another call
            case _:
                return False
        return True

    def as_data(self) -> dict[str, Any]:
        """The report of one process of a divided run, as JSON-like data for :meth:`merge`."""
        return {
            "streams": [
                [*key, {**asdict(counts), "unknown_members": sorted(counts.unknown_members)}]
                for key, counts in self.streams.items()
            ],
            "errors": self.errors,
            "notices": self.notices,
            "target_notices": self.target_notices,
            **{name: list(getattr(self, name)) for name in _CREDENTIALS},
            "parked": self.parked,
            "locked": self.locked,
            **{name: getattr(self, name) for name in _FLAGS},
        }

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add the report of one process to that of the run."""
        for source, stream, added in other["streams"]:
            self.stream(source, stream).add(msgspec.convert(added, StreamCounts))
        self.errors += [error for error in other["errors"] if error["partition"] or error not in self.errors]
        self.add_notices(*other["notices"])
        self.add_target_notices(*other["target_notices"])
        for name in _CREDENTIALS:
            getattr(self, name).update(map(tuple, other[name]))
        self.parked.update(other["parked"])
        self.locked.update(other["locked"])
        for name in _FLAGS:
            setattr(self, name, getattr(self, name) or other[name])

    def of_source(self, source: str) -> "RunReport":
        """The part of one source, with an exit code of its own."""

        def of_this_source(credentials: set[Credentials]) -> set[Credentials]:
            return {credential for credential in credentials if credential[0] == source}

        return evolve(
            self,
            streams={key: counts for key, counts in self.streams.items() if key[0] == source},
            errors=[error for error in self.errors if error["source"] == source],
            first_error=None,
            notices=[],
            target_notices=[],
            refused=of_this_source(self.refused),
            forbidden=of_this_source(self.forbidden),
            working_credentials=of_this_source(self.working_credentials),
            parked={name: why for name, why in self.parked.items() if name == source},
            locked={},
            stopped=self.interrupted,
            output_closed=False,
        )

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped from outside: one whose output was closed stops itself."""
        return self.stopped and not self.output_closed

    @property
    def exit_code(self) -> int:
        """The first that applies of 130, 3, 1, 4, 6, 5; else 0."""
        counts = self.streams.values()
        if self.interrupted:
            return 130
        if self.refused or self.forbidden - self.working_credentials:
            return 3
        if self.errors or any(count.failed or count.truncated for count in counts):
            return 1
        if self.deadline or self.parked:
            return 4
        if self.locked:
            return 6
        if not self.allowed.covers(self.rejected_or_unread, self.fetched):
            return 5
        if self.allowed.share != 1 and any(count.missing_measures for count in counts):
            return 5
        if self.allowed.strict and any(count.unknown_members for count in counts):
            return 5
        return 0

    @property
    def rejected_or_unread(self) -> int:
        """Rejected records, and values not read, over all streams."""
        return self.total("rejected") + self.total("unread_values")

    @property
    def fetched(self) -> int:
        """See :attr:`StreamCounts.fetched`, of all streams."""
        return self.total("fetched")

    @property
    def status(self) -> str:
        """The exit code as a word; 4 is a deadline, or a source that was parked."""
        if self.exit_code == 4 and not self.deadline:
            return "parked"
        return "closed" if self.output_closed and not self.exit_code else STATUS[self.exit_code]

    def total(self, name: str) -> int:
        """The sum of one counter over all streams."""
        return sum(getattr(stream, name) or 0 for stream in self.streams.values())

    def as_dict(self) -> ReportMembers:
        """The report as JSON-like data, masked."""
        sources: dict[str, Any] = {}
        for (source, stream), counts in self.streams.items():
            sources.setdefault(source, {"streams": {}})["streams"][stream] = counts.as_dict()
        report: ReportMembers = {
            "run_id": self.run_id,
            "status": self.status,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "sources": sources,
            "errors": self.errors,
            "notices": self.notices,
        }
        if self.parked:
            report["parked"] = self.parked
        if self.locked:
            report["locked"] = self.locked
        masked: ReportMembers = mask_json(report)
        return masked
