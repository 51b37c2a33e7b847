"""
The provider Sensis: its key, and the meaning of its gateway's answers.
"""

import re
from collections.abc import Mapping

from penstock import (
    Answer,
    AuthenticationError,
    Authenticator,
    Connector,
    Limits,
    ProviderError,
    Refusal,
    Response,
    StatusRule,
    Throttle,
    ThrottledError,
    Verdict,
)
from penstock_plugins.tokens import ParamTokens

from connector_sensis.config import SensisSettings

# --- assumptions: the document does not state these -----------------------------------------------------------------

# Sensis runs behind a known gateway, whose published error codes these are. It answers 403 for a missing key, a wrong
# one and too many requests; ``X-Mashery-Error-Code`` and the text distinguish them.
OVER_QPS = re.compile(r"OVER_QPS|over\s+(?:the\s+)?(?:queries|qps)", re.I)
OVER_RATE = re.compile(r"OVER_RATE|OVER_QUOTA|over\s+(?:the\s+)?(?:rate|quota)|(?:rate|quota)[\w ]* exceeded", re.I)

# A pause after "over queries per second" without a Retry-After: the limit is one a second.
QPS_WAIT_S = 2.0

# --- the connector --------------------------------------------------------------------------------------------------


def authenticator(settings: SensisSettings) -> Authenticator:
    """The key is sent in the query, and is masked wherever a request is shown."""
    return ParamTokens(params={"key": settings.key})


WRONG_KEY = Refusal(
    "The key was refused. Check key, and that it is one of this environment: those of test and prod differ.",
    AuthenticationError,
)
NO_SERVICE = Refusal("Check base_url, version and environment. The service may have been retired.", ProviderError)
QUOTA_USED_UP = Refusal(
    "The key's quota is used up; a test key has 250 requests a day. Go on when there is a new one, with --resume.",
    ThrottledError,
)

# The gateway's own statuses; it captures an event under none of them.
STATUSES: Mapping[int, StatusRule] = {401: WRONG_KEY, 403: WRONG_KEY, 404: NO_SERVICE, 596: NO_SERVICE}


def judge(response: Response, answer: Answer | None) -> Verdict | None:
    """Distinguish a 403 for too many requests from one for a wrong key."""
    reason = " ".join(filter(None, (response.header("x-mashery-error-code"), response.text(200))))
    seen = f"Sensis answered HTTP {response.status}: {reason}"
    if response.status == 403 and OVER_QPS.search(reason):
        wait_s = None if response.header("retry-after") else QPS_WAIT_S
        return Throttle(wait_s=wait_s).verdict(seen)
    if response.status == 403 and OVER_RATE.search(reason):
        return (Throttle(QUOTA_USED_UP.advice) if response.header("retry-after") else QUOTA_USED_UP).verdict(seen)
    return None


CONNECTOR = Connector(
    name="sensis",
    title="Sensis",
    summary="usage events of Yellow and White Pages listings, sent to the Sensis API",
    settings=SensisSettings,
    authenticator=authenticator,
    judge=judge,
    statuses=STATUSES,
    limits=Limits(requests_per_second=1.0, concurrency=1),  # of a test key: one a second, or 250 a day
    actions="connector_sensis.actions:ACTIONS",
    sandbox="connector_sensis.sandbox:SANDBOX",
)
