"""
How long a report is waited for, and what one that is lost is called.
"""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from penstock._fetch.scheduler import Call, Outcome, Pause
from penstock._read.reports import Lost, Reports, accepted, submission_text
from penstock.connector import SourceSettings, Stream
from penstock.errors import RefusedError, ReportError
from penstock.model import Request
from penstock.protocols import Refuse
from penstock.sinks import PendingReport
from penstock.testing import FakeClock, a_response

REFUSAL = RefusedError("nothing is at this address; correct base_url")


def refused() -> Outcome:
    call = Call(request=Request(url="https://api.example.com/reports/1"), read=None)
    return Outcome(call=call, response=a_response(b"", status=404), verdict=Refuse(REFUSAL))


def test_a_report_that_expired_is_no_wrong_address() -> None:
    """
    The provider's refusal of a page says what to do about an address; of an expired report that would mislead.
    """
    with pytest.raises(Lost) as lost:
        accepted(refused(), lambda response: True)

    assert str(lost.value) == "the report expired while it was read (HTTP 404)"
    assert isinstance(lost.value.error, ReportError)
    assert "base_url" not in str(lost.value.error)


def test_another_refusal_is_told_as_it_is() -> None:
    """
    Where no report is read that could have expired.
    """
    with pytest.raises(RefusedError) as told:
        accepted(refused(), lambda response: False)

    assert told.value is REFUSAL


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
    fetch: Any = SimpleNamespace(stream=stream, fingerprint="f", partitions=())
    source: Any = SimpleNamespace(name="s", settings=SourceSettings(base_url="https://api.example.com"))
    ledger: Any = SimpleNamespace(pending=lambda source, stream: (pending,))
    nothing: Any = None
    reports = Reports(
        source=source,
        fetch=fetch,
        poller=nothing,
        read=nothing,
        ledger=ledger,
        clock=FakeClock(now),
        on_note=lambda text: None,
    )

    assert next(reports.finished(submission)) == Pause(2.0)
