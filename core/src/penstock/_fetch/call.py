"""
The values between a task and the threads that fetch: a call and its result.
"""

from collections.abc import Callable, Generator
from datetime import datetime
from typing import NamedTuple, TypeVar

from attrs import frozen

from penstock.connector import Stream
from penstock.model import Answer, Partition, Request, Response
from penstock.protocols import BodyDecoder
from penstock.verdicts import Accept, Refuse, Skip, Verdict


class Call(NamedTuple):
    """
    One request for a fetching thread to make. ``decoder`` finds the items in its body; None where there are none.

    ``stream``: the stream whose judge comes first and whose counters count it; None: no stream. ``lenient``: a refused
    or unreadable response is returned instead of raised (submissions and polls). ``digest``: also compute a digest
    of the items, to detect a repeated page. ``submits``: it submits a report, whose id is in the response; where the
    run ends meanwhile, the response is waited for.
    """

    request: Request
    decoder: BodyDecoder | None
    stream: Stream | None = None
    lenient: bool = False
    digest: bool = False
    account: str | None = None  # whose credentials sign it, where accounts have their own
    partitions: tuple[Partition, ...] = ()  # that its response is for
    submits: bool = False


class Answered(NamedTuple):
    """
    The result of a call with a final verdict on its response. ``sent_at``: when the last attempt to submit a report was
    sent; None: of another call, or not known, as from a recording.
    """

    call: Call
    response: Response
    verdict: Accept | Refuse | Skip
    answer: Answer = Answer()
    digest: int | None = None
    sent_at: datetime | None = None


class Failed(NamedTuple):
    """The result of a call that failed: its error after all retries, and the last response, if there was one."""

    call: Call
    error: BaseException
    response: Response | None = None


CallResult = Answered | Failed


def answered(result: CallResult | None) -> Answered:
    """The result of a call. Raises the error of one that failed."""
    assert result is not None
    if isinstance(result, Failed):
        raise result.error
    return result


JudgeCall = Callable[[Call, Response], tuple[Verdict, Answer]]
"""The verdict on a response to a call, and the answer in its body."""


@frozen
class Pause:
    """Yielded by a task: resume it after so many seconds."""

    seconds: float


Step = tuple[Call, ...] | Pause

_T = TypeVar("_T")
Steps = Generator[Step, CallResult | None, _T]
"""
The steps of a task, or some of them: it yields calls to make, and is resumed with the result of the first call that it
has none of. No calls (an empty tuple): it only waits for the next result. After a Pause it is resumed with None.
"""
