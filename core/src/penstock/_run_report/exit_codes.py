"""
The exit code of a run: which one applies, and the word for each.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock._run_report.report import RunReport

STATUS: Mapping[int, str] = {
    0: "delivered",
    1: "failed",
    3: "refused",
    4: "deadline",
    5: "rejected",
    6: "locked",
    130: "interrupted",
}


def exit_code_of(report: "RunReport") -> int:
    """The first that applies of 130, 3, 1, 4, 6, 5; else 0."""
    counts = report.streams.values()
    if report.interrupted:
        return 130
    if report.refused or report.forbidden - report.accepted:
        return 3
    if report.errors or any(count.failed or count.truncated for count in counts):
        return 1
    if report.deadline or report.parked:
        return 4
    if report.locked:
        return 6
    if not report.allowed.covers(report.rejected_or_unread, report.fetched):
        return 5
    if report.allowed.share != 1 and any(count.missing_measures for count in counts):
        return 5
    if report.allowed.strict and any(count.unknown_members for count in counts):
        return 5
    return 0
