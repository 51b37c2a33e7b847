"""
How long a report is polled, and the error of one that expired.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from configured_source import a_source
from penstock._fetch.call import Call, CallResult, Pause, with_response
from penstock._plan.plan import PlannedSlice
from penstock._read.on_demand import ReportClaims, ReportExpiredError, ReportsOnDemand, submission_text
from penstock._run_report.log import RunLog
from penstock._run_report.report import RunReport
from penstock.connector import Stream
from penstock.envelope import Envelope
from penstock.errors import InconsistentReadError, RefusedError, ReportError
from penstock.events import ignore
from penstock.ledger_interface import PendingReport
from penstock.model import Partition, Request, Response, Slice
from penstock.protocols import Ready, Waiting
from penstock.settings import SourceSettings
from penstock.testing import FakeClock, a_response
from penstock.verdicts import Accept, Refuse

REFUSAL = RefusedError("nothing is at this address; correct base_url")


def test_a_report_that_expired_is_no_wrong_address() -> None:
    """
    The provider's refusal of a page is about a wrong address; for an expired report that would mislead.
    """
    lost = ReportExpiredError(a_response(b"", status=404))

    assert isinstance(lost, InconsistentReadError)
    assert str(lost) == "the report expired while it was read (HTTP 404)"
    assert isinstance(lost.when_repeated(6), ReportError)
    assert "It was read 6 times, after its state was requested again each time. Nothing was replaced" in str(
        lost.when_repeated(6)
    )


def test_a_call_without_an_answer_raises_its_error() -> None:
    """
    An answer is handed on whatever the verdict; the error of a request without a response is raised.
    """
    call = Call(request=Request(url="https://api.example.com/reports/1"), envelope=None)
    refused = CallResult(call=call, response=a_response(b"", status=404), verdict=Refuse(REFUSAL))

    assert with_response(refused) is refused
    with pytest.raises(RefusedError):
        with_response(CallResult(call=call, error=REFUSAL))


NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SUBMISSION = Request(method="POST", url="https://api.example.com/reports")


def reports_with(poller: Any, submitted_at: datetime, *, first_s: float = 2.0) -> ReportsOnDemand:
    """A report under way, to be adopted; nothing is requested."""
    stream = Stream(name="clicks", summary="", kind="snapshot", record=object, poll_first_s=first_s)
    pending = PendingReport(
        source="s",
        stream="clicks",
        handle="1",
        request=submission_text(SUBMISSION),
        partitions=(),
        submitted_at=submitted_at,
        fingerprint="f",
    )
    source = a_source(stream, settings=SourceSettings(base_url="https://api.example.com"))
    planned = PlannedSlice(
        stream=stream,
        partitions=(Partition("clicks"),),
        reasons=("snapshot",),
        slice=Slice(now=NOW),
        source=source,
        fingerprint="f",
    )
    return ReportsOnDemand(
        source=source,
        planned=planned,
        poller=poller,
        envelope=Envelope(),
        ledger=None,
        clock=FakeClock(NOW),
        adoptable={pending.request: pending},
        claims=ReportClaims(),
        log=RunLog("s", RunReport(run_id="r1"), ignore),
    )


class ReadyAtOnce:
    """A poller that takes every answer for the finished report."""

    def poll(self, submitted: Request, handle: str) -> Request:
        return Request(url=f"https://api.example.com/reports/{handle}")

    def state(self, response: Response, age_s: float) -> Ready:
        return Ready()


def test_a_report_of_a_clock_that_was_ahead_is_submitted_anew() -> None:
    """
    The age of a report that was submitted tomorrow is not known: neither whether newer rows were delivered since, nor
    how long it may be polled. The clocks of two machines may differ by some minutes.
    """
    (submission,) = next(reports_with(ReadyAtOnce(), NOW + timedelta(days=1)).wait_until_ready(SUBMISSION))  # type: ignore[misc]

    assert submission.submits
    assert next(reports_with(ReadyAtOnce(), NOW + timedelta(minutes=4)).wait_until_ready(SUBMISSION)) == Pause(2.0)


class NeverReady(ReadyAtOnce):
    """A poller whose report is never ready."""

    def state(self, response: Response, age_s: float) -> Waiting:  # type: ignore[override]
        return Waiting()


class SetBackClock(FakeClock):
    """A clock that is set back to the same time of day after every pause."""

    passed_s = 0.0

    def monotonic(self) -> float:
        return self.passed_s


def polled_to_the_end(reports: ReportsOnDemand, clock: SetBackClock) -> None:
    """Answer each poll, and let the pauses between them pass, up to 1000 steps."""
    steps = reports.wait_until_ready(SUBMISSION)
    step = next(steps)
    for _ in range(1000):
        if isinstance(step, Pause):
            clock.passed_s += step.seconds
            step = next(steps)
        else:
            step = steps.send(CallResult(call=step[0], response=a_response(b"{}"), verdict=Accept()))


def test_a_clock_that_is_set_back_moves_no_deadline() -> None:
    """
    Polling ends after the time that passed, also where the time of day stands still.
    """
    reports = reports_with(NeverReady(), NOW - timedelta(seconds=2))
    clock = reports.clock = SetBackClock(NOW)

    with pytest.raises(ReportError, match="was not ready"):
        polled_to_the_end(reports, clock)

    assert clock.passed_s == pytest.approx(1800, rel=0.1)


def test_a_poll_that_is_answered_with_202_waits() -> None:
    """
    A poll that is answered with 202 waits whatever the poller makes of the body: an empty one is no report without
    records.
    """
    steps = reports_with(ReadyAtOnce(), NOW - timedelta(seconds=2)).wait_until_ready(SUBMISSION)

    (poll,) = next(steps)  # type: ignore[misc]
    waits = steps.send(CallResult(call=poll, response=a_response(b"", status=202), verdict=Accept()))
    assert waits == Pause(3.0)
    (again,) = next(steps)  # type: ignore[misc]
    with pytest.raises(StopIteration) as finished:
        steps.send(CallResult(call=again, response=a_response({"data": []}), verdict=Accept()))
    assert finished.value.value[1] == Ready()


def test_a_first_poll_that_is_made_at_once_is_followed_by_pauses() -> None:
    """
    A stream whose first poll needs no pause does not poll without end: its second poll comes after a pause.
    """
    steps = reports_with(NeverReady(), NOW, first_s=0).wait_until_ready(SUBMISSION)

    (poll,) = next(steps)  # type: ignore[misc]
    pause = steps.send(CallResult(call=poll, response=a_response(b"{}"), verdict=Accept()))
    assert isinstance(pause, Pause)
    assert pause.seconds > 0
