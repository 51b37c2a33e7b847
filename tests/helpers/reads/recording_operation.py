"""
A read that keeps what it reports while it is retried.
"""

from collections.abc import Callable

from attrs import define, field
from penstock._fetch.retry import REPEATED_AFTER, FailedAttempt, Operation
from penstock.errors import PenstockError
from penstock.model import Answer, Request, Response
from penstock.verdicts import Retry, Verdict

Judged = tuple[Response, Verdict, Answer]


@define(eq=False)
class RecordingOperation(Operation[Judged]):
    """``events``, in their order: ("sending",), ("attempted", status, seconds), ("retried", the error's class)."""

    request: Request
    judged: Callable[[Response], tuple[Verdict, Answer]]
    events: list[tuple[object, ...]] = field(factory=list, init=False)
    retries: list[FailedAttempt] = field(factory=list, init=False)

    def on_send(self) -> None:
        self.events.append(("sending",))

    def on_attempt(self, response: Response | None, seconds: float) -> None:
        self.events.append(("attempted", response.status if response else None, round(seconds, 6)))

    def judge(self, response: Response) -> tuple[Verdict, Judged]:
        verdict, answer = self.judged(response)
        return verdict, (response, verdict, answer)

    def on_no_response(self, error: PenstockError) -> Retry:
        if isinstance(error, REPEATED_AFTER):
            return Retry(error)
        raise error

    def on_retry(self, failed: FailedAttempt) -> None:
        self.events.append(("retried", type(failed.error)))
        self.retries.append(failed)
