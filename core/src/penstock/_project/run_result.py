"""
The results of ``run`` and ``plan``: frozen values with the exit code of the equivalent command.
"""

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from penstock._plan.plan import PlannedPartition
from penstock._run_report.report import RunReport
from penstock.errors import PenstockError

Outcome = Literal["success", "retry", "skip", "failure"]
_OUTCOMES: Mapping[int, Outcome] = {0: "success", 1: "retry", 4: "retry", 6: "skip"}


@frozen(kw_only=True, eq=False)
class RunResult:
    """
    The result of a run. ``report`` is the content of ``--report``, masked; ``errors`` are its errors, each a mapping
    with ``source``, ``stream``, ``partition``, ``request``, ``error`` (the class's name), ``reason`` and ``message``.

    ``rejected_line``: how many records were rejected and values not read, and where; None without any.

    ``lost``: the measures that no record has any more, although earlier readings have them; None without any.

    ``target_notices``: those of ``notices`` that state what a target found when it was opened, such as rows that are
    missing.

    ``unsent``: a message for each receiver of ``notify`` that did not take the result; also in ``notices``.

    ``reason``: the error that prevented the run from starting, such as another run's lock; None for a run that started.
    """

    exit_code: int
    status: str
    run_id: str | None
    report: Mapping[str, Any] = field(repr=False)
    notices: tuple[str, ...] = ()
    target_notices: tuple[str, ...] = ()
    summary: str = ""
    rejected_line: str | None = None
    truncated: str | None = None
    lost: str | None = None
    unsent: tuple[str, ...] = ()
    reason: PenstockError | None = None

    @property
    def errors(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(self.report["errors"])

    @property
    def outcome(self) -> Outcome:
        """
        For the task of a scheduler. ``retry``: partitions failed, the deadline was reached, or the provider's quota is
        used up; another run reads only what is missing. ``skip``: another run writes the same. ``failure``: another try
        changes nothing (credentials, configuration, rejected records, a run that was stopped).
        """
        return _OUTCOMES.get(self.exit_code, "failure")

    @classmethod
    def of(cls, report: RunReport) -> "RunResult":
        return cls(
            exit_code=report.exit_code,
            status=report.status,
            run_id=report.run_id,
            report=report.as_dict(),
            notices=tuple(report.notices),
            target_notices=tuple(report.target_notices),
            summary=report.summary_line,
            rejected_line=report.rejected_line,
            truncated=report.truncated_line,
            lost=report.missing_measures_line,
        )

    @classmethod
    def not_started(cls, error: PenstockError) -> "RunResult":
        """The result of a run that an error prevented."""
        run_error = {"source": None, "stream": None, "partition": None, "request": None, "error": type(error).__name__}
        report: dict[str, Any] = {
            "run_id": None,
            "status": "not started",
            "exit_code": error.exit_code,
            "seconds": 0.0,
            "sources": {},
            "errors": [{**run_error, "reason": error.without_place, "message": str(error)}],
        }
        return cls(
            exit_code=error.exit_code,
            status="not started",
            run_id=None,
            report=report,
            summary=f"not started: {error}",
            reason=error,
        )


@frozen(kw_only=True, eq=False)
class PlanResult:
    """
    The partitions that a run would fetch, in the order of the sources, streams, accounts and days.

    ``waiting``: a line for each stream whose partitions are known only after another stream was read. ``final``: the
    number of partitions that need no reading. ``exact``: whether a run makes just the requests counted here (retries
    and a login apart), or at least these. ``pace``: requests per second by source, where
    one is set. ``target`` None: no target was used yet, so everything counts as missing.
    """

    partitions: tuple[PlannedPartition, ...]
    waiting: tuple[str, ...] = ()
    final: int = 0
    exact: bool = False
    pace: Mapping[str, float] = field(factory=dict)
    target: str | None = None
    notices: tuple[str, ...] = ()
    exit_code: int = 0

    @property
    def requests(self) -> int:
        """The requests of all partitions whose number is known."""
        return sum(self.requests_of.values())

    @property
    def requests_of(self) -> dict[str, int]:
        """Requests by source."""
        requests: dict[str, int] = {}
        for partition in self.partitions:
            requests[partition.source] = requests.get(partition.source, 0) + (partition.requests or 0)
        return requests

    @property
    def shards(self) -> dict[tuple[int, str], tuple[int, int]]:
        """The partitions and requests of a plan for shards, by shard and source. A shard without work is left out."""
        by_shard: dict[tuple[int, str], tuple[int, int]] = {}
        for partition in self.partitions:
            if partition.shard is not None:
                count, requests = by_shard.get((partition.shard, partition.source), (0, 0))
                by_shard[partition.shard, partition.source] = (count + 1, requests + (partition.requests or 0))
        return dict(sorted(by_shard.items()))

    @property
    def seconds(self) -> float | None:
        """The time that the requests take at least at the sources' pace, side by side; None where no pace is set."""
        times = [count / self.pace[name] for name, count in self.requests_of.items() if name in self.pace]
        return max(times, default=None)
