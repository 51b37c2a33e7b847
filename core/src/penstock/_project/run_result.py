"""
The result of ``run``: a frozen value with the exit code of the equivalent command.
"""

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from penstock._run_report.lines import missing_measures_line, rejected_line, summary_line, truncated_line
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

    ``truncated_line``: how many partitions a ceiling of the provider cut, and where; None without any.

    ``missing_measures_line``: the measures that no record has any more, although earlier readings have them; None
    without any.

    ``target_notices``: those of ``notices`` that state what a target found when it was opened, such as rows that are
    missing.

    ``undelivered_notifications``: a message for each receiver of ``notify`` that did not take the result; also in
    ``notices``.

    ``error``: the error that prevented the run from starting, such as another run's lock; None for a run that started.
    """

    exit_code: int
    status: str
    run_id: str | None
    report: Mapping[str, Any] = field(repr=False)
    notices: tuple[str, ...] = ()
    target_notices: tuple[str, ...] = ()
    summary: str = ""
    rejected_line: str | None = None
    truncated_line: str | None = None
    missing_measures_line: str | None = None
    undelivered_notifications: tuple[str, ...] = ()
    error: PenstockError | None = None

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
            summary=summary_line(report),
            rejected_line=rejected_line(report),
            truncated_line=truncated_line(report),
            missing_measures_line=missing_measures_line(report),
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
            error=error,
        )
