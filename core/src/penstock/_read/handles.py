"""
The reports on demand of a source that are under way, each known by the request for its state.
"""

from attrs import define, field

from penstock.ledger_interface import PendingReport
from penstock.model import Request


@define(eq=False, repr=False)
class Handles:
    """
    The reports of a source that are under way in this run, by the request for their state: each is the report of one
    submission. If a provider named one report for two, rows of one would be delivered as those of the other.
    """

    _reports: dict[object, PendingReport] = field(factory=dict, init=False)  # by the identity of the poll
    _polls: dict[str, object] = field(factory=dict, init=False)  # by submission
    _shared: set[object] = field(factory=set, init=False)

    def claim(self, poll: Request, report: PendingReport) -> PendingReport | None:
        """Record a report. Returns the report of another submission that has the same poll, if there is one."""
        other = self._reports.setdefault(poll.identity, report)
        if other.request == report.request:
            self._polls[report.request] = poll.identity
            return None
        self._shared.add(poll.identity)
        return other

    def is_shared(self, poll: Request) -> bool:
        """Whether the responses to several submissions name the report of this poll."""
        return poll.identity in self._shared

    def release(self, report: PendingReport) -> None:
        """Forget a report that was delivered or dropped."""
        self._reports.pop(self._polls.pop(report.request, None), None)
