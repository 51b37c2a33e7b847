"""
Loops of attempts at requests, without a source.
"""

from typing import Any

from penstock._fetch.auth import Signer
from penstock._fetch.limits import RateLimit, RetryBudget
from penstock._fetch.retry import RetryLoop
from penstock.model import Request, Response
from penstock.protocols import Exchange, Unsigned
from penstock.testing.clock import Clock
from policies import a_policy


def no_login(request: Request) -> Response:
    raise AssertionError("an unsigned request needs no login")


def a_retry_loop(send: Exchange, clock: Clock, **parts: Any) -> RetryLoop:
    """A loop that sends with ``send``, unsigned and without a limit of its rate; ``parts`` replace its fields."""
    usual = {
        "signer": Signer(Unsigned(), no_login, clock),
        "policy": a_policy(),
        "rate_limit": RateLimit(clock),
        "budget": RetryBudget(),
    }
    return RetryLoop(send=send, clock=clock, **usual | parts)
