"""
How long a report is polled, and the error of one that expired.
"""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from penstock._fetch.scheduler import Call, Outcome, Pause
from penstock._read.reports import ReportLostError, Reports, answered, submission_text
from penstock.connector import SourceSettings, Stream
from penstock.errors import InconsistentReadError, RefusedError, ReportError
from penstock.model import Request
from penstock.protocols import Refuse
from penstock.sinks import PendingReport
from penstock.testing import FakeClock, a_response

REFUSAL = RefusedError("nothing is at this address; correct base_url")


def test_a_report_that_expired_is_no_wrong_address() -> None:
    """
    The provider's refusal of a page is about a wrong address; for an expired report that would mislead.
    """
    lost = ReportLostError(a_response(b"", status=404))

    assert isinstance(lost, InconsistentReadError)
    assert str(lost) == "the report expired while it was read (HTTP 404)"
    assert isinstance(lost.standing, ReportError)
    assert "again each time it was made anew" in str(lost.standing)


def test_a_call_without_an_answer_raises_its_error() -> None:
    """
    An answer is handed on whatever the verdict; the error of a request that was not answered is raised.
    """
    call = Call(request=Request(url="https://api.example.com/reports/1"), read=None)
    refused = Outcome(call=call, response=a_response(b"", status=404), verdict=Refuse(REFUSAL))

    assert answered(refused) is refused
    with pytest.raises(RefusedError):
        answered(Outcome(call=call, error=REFUSAL))


def test_a_report_of_a_clock_that_was_ahead_is_not_waited_for() -> None:
    """
    A report that was submitted tomorrow, as another clock has it, is asked for after the first pause all the same.
    """
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    submission = Request(method="POST", url="https://api.example.com/reports")
    stream = Stream(name="clicks", summary="", kind="snapshot", record=object, poll_first_s=2.0)
    pending = PendingReport(
        source="s",
        stream="clicks",
        handle="1",
        request=submission_text(submission),
        partitions=(),
        submitted_at=now + timedelta(days=1),
        fingerprint="f",
    )
    planned: Any = SimpleNamespace(stream=stream, fingerprint="f", partitions=())
    source: Any = SimpleNamespace(name="s", settings=SourceSettings(base_url="https://api.example.com"))
    nothing: Any = None
    reports = Reports(
        source=source,
        planned=planned,
        poller=nothing,
        read=nothing,
        ledger=None,
        clock=FakeClock(now),
        adoptable={pending.request: pending},
        on_note=lambda text: None,
    )

    assert next(reports.finished(submission)) == Pause(2.0)
