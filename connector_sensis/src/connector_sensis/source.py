"""
Sensis as a whole: its key, and what an answer of the gateway before it means.
"""

import re

from penstock import (
    Answer,
    AuthenticationError,
    Authenticator,
    Connector,
    Limits,
    ProviderError,
    Refuse,
    Response,
    Retry,
    ThrottledError,
    Verdict,
)

from connector_sensis.config import SensisSettings

# A pause after "over queries per second" without a Retry-After: the limit is one a second.
QPS_WAIT_S = 2.0

_OVER_QPS = re.compile(r"OVER_QPS|over\s+(?:the\s+)?(?:queries|qps)", re.I)
_OVER_RATE = re.compile(r"OVER_RATE|OVER_QUOTA|over\s+(?:the\s+)?(?:rate|quota)|(?:rate|quota)[\w ]* exceeded", re.I)


def authenticator(settings: SensisSettings) -> Authenticator:
    """The key travels in the query, so a request is never shown with it."""
    from penstock_plugins.tokens import ParamTokens

    return ParamTokens(params={"key": settings.key})


def judge(response: Response, answer: Answer | None) -> Verdict | None:
    """
    What the gateway says with a status of its own; an event was captured by none of these.

    403 stands for a missing key, a wrong one, and too many requests: told apart by ``X-Mashery-Error-Code`` and the
    text. Source: the gateway's published error codes; that Sensis runs behind it is inferred.
    """
    status = response.status
    said = " ".join(filter(None, (response.header("x-mashery-error-code"), response.text(200))))
    if status == 403 and _OVER_QPS.search(said):
        error = ThrottledError(f"Sensis: too many requests a second ({said}); lower requests_per_second")
        wait_s = None if response.header("retry-after") else QPS_WAIT_S
        return Retry(error, wait_s=wait_s, throttle=True)
    if status == 403 and _OVER_RATE.search(said):
        return Refuse(
            ThrottledError(
                f"Sensis: the key's quota is used up ({said}); a test key has 250 requests a day. Go on when there is "
                "a new one, with --resume."
            )
        )
    if status in (401, 403):
        return Refuse(
            AuthenticationError(
                f"Sensis refused the key (HTTP {status}: {said}). Check key, and that it is one of this environment: "
                "those of test and prod differ."
            )
        )
    if status in (404, 596):
        return Refuse(
            ProviderError(
                f"Sensis serves nothing at this address (HTTP {status}: {said}); check base_url, version and "
                "environment. The service may have been retired."
            )
        )
    return None


CONNECTOR = Connector(
    name="sensis",
    title="Sensis",
    summary="usage events of Yellow and White Pages listings, sent to the Sensis API",
    settings=SensisSettings,
    authenticator=authenticator,
    judge=judge,
    limits=Limits(requests_per_second=1.0, concurrency=1),  # of a test key: one a second, or 250 a day
    actions="connector_sensis.actions:ACTIONS",
    sandbox="connector_sensis.sandbox:SANDBOX",
)
