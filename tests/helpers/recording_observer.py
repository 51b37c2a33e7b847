"""
What a request reports while it is retried, kept in a list.
"""

from attrs import define, field
from penstock._fetch.retry import FailedAttempt, Observer
from penstock.model import Response


@define(eq=False)
class RecordingObserver(Observer):
    """``events``, in their order: ("sending",), ("attempted", status, seconds), ("retried", the error's class)."""

    events: list[tuple[object, ...]] = field(factory=list, init=False)
    retries: list[FailedAttempt] = field(factory=list, init=False)

    def sending(self) -> None:
        self.events.append(("sending",))

    def attempted(self, response: Response | None, seconds: float) -> None:
        self.events.append(("attempted", response.status if response else None, round(seconds, 6)))

    def retried(self, failed: FailedAttempt) -> None:
        self.events.append(("retried", type(failed.error)))
        self.retries.append(failed)
