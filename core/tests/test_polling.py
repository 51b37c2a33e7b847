"""
What a report that is lost is called.
"""

import pytest
from penstock.engine import Call, Outcome
from penstock.errors import RefusedError, ReportError
from penstock.model import Request
from penstock.parts import Refuse
from penstock.polling import Lost, accepted
from penstock.testing import a_response

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
