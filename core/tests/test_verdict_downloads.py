"""
The judge of an answer that no token was sent for.
"""

from datetime import UTC, datetime

import pytest
from penstock._fetch.call import Call
from penstock._fetch.verdict import judge_response
from penstock.errors import RefusedError
from penstock.model import Answer, Request, Response
from penstock.verdicts import Refuse, Retry


@pytest.mark.parametrize(("credentials", "verdict"), [(True, Retry), (False, Refuse)], ids=["signed", "download"])
def test_a_new_token_is_tried_only_where_one_is_sent(credentials: bool, verdict: type) -> None:
    """
    A refused download carries no token: a new one cannot help, and the poller decides whether the link expired.
    """

    def judge(response: Response, answer: Answer | None) -> Retry:
        return Retry(RefusedError("no right"), renew=True)

    output, _ = judge_response(
        "provider",
        Call(Request(url="https://provider.example/file", credentials=credentials), decoder=None),
        Response(status=403, received_at=datetime(2026, 3, 1, tzinfo=UTC)),
        [judge],
    )

    assert type(output) is verdict
