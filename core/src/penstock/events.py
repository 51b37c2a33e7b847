"""
The events of a run, as ``penstock_event``, ``on_event`` and ``--log-format json`` receive them.

An event is a dict. Its ``event`` names its kind; each kind has a class here, whose docstring is its row in
docs/hooks.md.
"""

from collections.abc import Callable
from typing import Any, Literal, NotRequired, TypedDict


class _OfRun(TypedDict):
    run_id: NotRequired[str]  # added to every event of a run when it is passed on


class _OfSource(_OfRun):
    source: str


class RunStarted(_OfRun):
    """The run begins: ``sources``."""

    event: Literal["run_started"]
    sources: list[str]


class Planned(_OfSource):
    """A stream is planned: ``source``, ``stream``, ``partitions`` (to read), ``final``."""

    event: Literal["planned"]
    stream: str
    partitions: int
    final: int


class StreamStarted(_OfSource):
    """The first request of a stream follows: ``source``, ``stream``."""

    event: Literal["stream_started"]
    stream: str


class RequestEnded(_OfSource):
    """
    An attempt of a request ended: ``source``, ``stream`` (null: of a login), ``partitions`` that it is for,
    ``method``, ``url`` (without its query, with `{account_id}` and `{id}` for values), ``status`` (null: there was no
    response), ``bytes`` (decompressed), ``seconds``.
    """

    event: Literal["request"]
    stream: str | None
    partitions: list[dict[str, str]]
    method: str
    url: str
    status: int | None
    bytes: int
    seconds: float


class ReportWaiting(_OfSource):
    """The wait for one report on demand begins: ``source``, ``stream``."""

    event: Literal["report_waiting"]
    stream: str


class ReportReady(_OfSource):
    """The wait for one report is over, however it ended: ``source``, ``stream``."""

    event: Literal["report_ready"]
    stream: str


class RequestRetried(_OfSource):
    """
    A request is repeated: ``source``, ``stream`` (null: of a login, or of a write), ``request``, ``error``, ``reason``,
    ``seen`` (the reason without advice), ``message``, ``pause_s``, ``renewed`` (with a new token or a corrected clock,
    so without a pause).
    """

    event: Literal["retry"]
    stream: str | None
    request: str
    error: str
    reason: str
    seen: str
    message: str
    pause_s: float
    renewed: bool


class Note(_OfSource):
    """No failure: ``source``, ``message``; ``parked`` (true) where the source is left for a later run."""

    event: Literal["note"]
    message: str
    parked: NotRequired[bool]


class PartitionDelivered(_OfSource):
    """
    A partition is committed: ``source``, ``stream``, ``partition``, ``records``, ``rejected``, ``unread_values``;
    ``derived`` (rows by stream) of the derived streams; ``restated`` if it is a day of a `report` that was
    delivered before, and the provider restated it.
    """

    event: Literal["partition_delivered"]
    stream: str
    partition: dict[str, str]
    records: int
    rejected: int
    unread_values: int
    derived: NotRequired[dict[str, int]]
    restated: NotRequired[dict[str, Any]]


class ReportedError(_OfSource):
    """An error of a run, as the report and the event have it. ``run_id``: of the event only."""

    stream: str | None
    partition: dict[str, str] | None
    error: str
    reason: str
    request: str | None
    message: str


class PartitionFailed(ReportedError):
    """
    A partition failed: ``source``, ``stream``, ``partition`` (of an error of a whole stream or source: null),
    ``request`` (null: not known), ``error``, ``reason`` (equal for one cause in many places), ``message`` (the reason
    with its place).
    """

    event: Literal["partition_failed"]


class Defect(_OfSource):
    """An unforeseen error of a connector or of penstock: ``source``, ``message``, ``trace``."""

    event: Literal["defect"]
    message: str
    trace: str


class ReportMembers(TypedDict):
    """The report of a run."""

    run_id: str
    status: str
    exit_code: int
    seconds: float
    sources: dict[str, Any]
    errors: list[ReportedError]
    notices: list[str]
    parked: NotRequired[dict[str, str]]
    locked: NotRequired[dict[str, str]]


class RunFinished(ReportMembers):
    """The run is over: everything that [the report](results.md#the-report) has."""

    event: Literal["run_finished"]


class ActStarted(_OfSource):
    """The first request of `act` follows: ``source``, ``action``."""

    event: Literal["act_started"]
    action: str


class ActFinished(_OfSource):
    """
    The last request of `act` ended: ``source``, ``action``, ``counts`` (rows by status), ``not_sent``, ``exit_code``.
    """

    event: Literal["act_finished"]
    action: str
    counts: dict[str, int]
    not_sent: int
    exit_code: int


class Notice(_OfRun):
    """A notice of the call: ``message``. `on_event` receives it, and no plugin."""

    event: Literal["notice"]
    message: str


Event = (
    RunStarted
    | Planned
    | StreamStarted
    | RequestEnded
    | ReportWaiting
    | ReportReady
    | RequestRetried
    | Note
    | PartitionDelivered
    | PartitionFailed
    | Defect
    | RunFinished
    | ActStarted
    | ActFinished
    | Notice
)
"""A mapping: ``event`` is its kind, ``run_id`` the run; docs/hooks.md lists the other members of each kind."""

OnEvent = Callable[[Event], None]
"""Called from the threads of a run, one call at a time."""


def ignore(event: Event) -> None:
    """The callback that ignores events."""
