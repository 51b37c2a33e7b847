"""
The event of a request: what it was for, and its URL without anything that only one request has.
"""

import pytest
from penstock import Partition, Request, Secret
from penstock._fetch.call import Call
from penstock._fetch.read_operation import url_template
from penstock.errors import TransportError
from penstock.model import Answer, Response
from penstock.testing import FakeClock, ScriptedExchange, a_response
from penstock.verdicts import Accept
from policies import a_policy
from recording_operation import RecordingOperation
from retry_loops import a_retry_loop

PARTITION = Partition("clicks", (("account_id", "north/7"), ("day", "2026-03-01")))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.example/v2/clicks", "https://api.example/v2/clicks"),
        ("https://api.example/accounts/north%2F7/clicks", "https://api.example/accounts/{account_id}/clicks"),
        ("https://api.example:8443/days/2026-03-01/", "https://api.example:8443/days/{day}/"),
        ("https://api.example/reports/8f3a-17/rows.json", "https://api.example/reports/{id}/rows.json"),
        ("https://api.example/get_clicks?token=abc", "https://api.example/get_clicks"),
        ("https://user:pass@api.example/a#b", "https://api.example/a"),
        ("https://api.example/sesame-open/x", "https://api.example/***/x"),
    ],
)
def test_a_url_is_a_kind_of_request(url: str, expected: str) -> None:
    """
    The URL of an event is without the query, with names for the partition's values and other ids, and masked.
    """
    secret = Secret("sesame-open")
    assert url_template(Call(request=Request(url=url), decoder=None, partitions=(PARTITION,))) == expected
    assert secret


def test_each_attempt_ends_once() -> None:
    """
    Each attempt ends once, with its response or without one, and its time, before the pause that follows.
    """
    clock = FakeClock()
    operation = RecordingOperation(Request(url="http://localhost/"), lambda response: (Accept(), Answer()))

    def reset(request: Request) -> Response:
        clock.sleep(0.25)
        raise TransportError("the connection was reset")

    def answer(request: Request) -> Response:
        clock.sleep(0.5)
        return a_response({})

    a_retry_loop(ScriptedExchange([reset, answer]), clock, policy=a_policy(retries=2)).run(operation)

    assert operation.events == [
        ("sending",),
        ("attempted", None, 0.25),
        ("retried", TransportError),
        ("sending",),
        ("attempted", 200, 0.5),
    ]
