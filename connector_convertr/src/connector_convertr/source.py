"""
The provider: authentication, judgement of answers, and limits.
"""

from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlencode

from attrs import frozen
from penstock import (
    Answer,
    AuthenticationError,
    Authenticator,
    Connector,
    Grant,
    Limits,
    Refusal,
    Request,
    Response,
    Secret,
    Slice,
    StatusRule,
    Throttle,
    Unavailable,
    Verdict,
    mask_always,
)
from penstock_plugins.tokens import Bearer, GrantedToken, ParamTokens

from connector_convertr.config import ConvertrSettings

# --- assumptions: the provider's pages do not state these ------------------------------------------------------------

# Stated are 3000 requests in five minutes (another edition of the page: 3800) over all that the enterprise runs, and
# fewer than ten at once as an advice; half of the pace is left to others.
LIMITS = Limits(requests_per_second=5.0, concurrency=2, cool_down_s=60.0)

# The largest page; the server may silently send fewer.
PAGE_SIZE = 100

# A lead that is updated during the read would shift the pages behind it, so windows end in the past; what was still
# being written then is found by the next window, which reaches back.
LAG = timedelta(minutes=5)
LOOKBACK = timedelta(minutes=10)

# The framework's newer versions drop the prefix; without JSON-LD the body is the array itself, and states no total.
ITEMS = ("hydra:member", "member", "")
TOTALS = ("hydra:totalItems", "totalItems")
NEXT = ("hydra:view.hydra:next", "view.next")

# The name of the token's parameter in the query of older editions.
_PARAM = "access_token"


# --- authentication -------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Login(GrantedToken):
    """
    The login of either generation. The answer states that the password has expired; its token is then
    accepted nowhere.

    Source: the provider's public pages on the login (current: ``/api/login``, 60 minutes; older: ``/oauth/v2/token``).
    """

    def read_grant(self, response: Response) -> Grant:
        if response.status == 404:
            raise AuthenticationError(
                f"{self.provider} has no {self.login.url} (HTTP 404); check enterprise or base_url, and set "
                'login_style to the other of "current" and "oauth" (which needs client_id and client_secret).'
            )
        answer = response.members() or {}
        for name in ("access_token", "refresh_token", "client_secret"):
            if isinstance(answer.get(name), str):
                mask_always(answer[name])
        if answer.get("password_expired") is True:
            raise AuthenticationError(
                f"{self.provider} accepted the login and states that the password has expired; set a new one in "
                "Convertr, then change password."
            )
        return super().read_grant(response)


def authenticator(settings: ConvertrSettings) -> Authenticator:
    bearer = settings.auth_style == "bearer"
    if settings.access_token is not None:
        return Bearer(token=settings.access_token) if bearer else ParamTokens(params={_PARAM: settings.access_token})
    return Login(
        provider="Convertr",
        login=_login(settings),
        header="Authorization" if bearer else None,
        prefix="Bearer ",
        param=None if bearer else _PARAM,
        advice="check username and password"
        + (", client_id and client_secret" if settings.login_style == "oauth" else ""),
    )


def _login(settings: ConvertrSettings) -> Request:
    form = {"username": settings.username or "", "password": _reveal(settings.password)}
    path = "/api/login"
    if settings.login_style == "oauth":
        path = "/oauth/v2/token"
        client = {"client_id": settings.client_id or "", "client_secret": _reveal(settings.client_secret)}
        form = {"grant_type": "password", **client, **form}
    return Request(
        method="POST",
        url=settings.url(path),
        headers=(("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")),
        body=urlencode(form).encode(),
    )


def _reveal(secret: Secret | None) -> str:
    return secret.reveal() if secret is not None else ""


# --- responses ------------------------------------------------------------------------------------------------------

# Source: the provider's public pages and their client's tests; 403 as an expired password is inferred. The limit of
# 429 counts over the last five minutes; a Retry-After, if there is one, states how much is left.
STATUSES: Mapping[int, StatusRule] = {
    **dict.fromkeys((400, 422), Refusal("Check filters and cursor_field.")),
    401: Refusal(
        "The token was refused. Check username and password, or get a new access_token.",
        AuthenticationError,
        renew=True,
    ),
    403: Refusal(
        "This user may not read it. The password may have expired (the login states it as password_expired); else ask "
        "the enterprise's administrator for the permission.",
        AuthenticationError,
    ),
    404: Refusal("Check enterprise or base_url."),
    429: Throttle("Lower requests_per_second or concurrency."),
}

# Both spellings of this framework, and that of OAuth.
REASON = (
    "hydra:description",
    "detail",
    "description",
    "error_description",
    "message",
    "hydra:title",
    "title",
    "error.message",
    "error.description",
    "error",
)


def judge(response: Response, answer: Answer | None) -> Verdict | None:
    """The error in a body with a good status; only for bodies without the envelope."""
    return judge_detail(response, answer) if answer is None or answer.problem is not None else None


def judge_detail(response: Response, answer: Answer | None) -> Verdict | None:
    """The error in place of a single object. The envelope alone would accept any object."""
    if response.status >= 300 or not _is_error(response):
        return None
    seen = f"Convertr answered an error with HTTP {response.status}: {response.reason(REASON)}"
    return Unavailable().verdict(seen)


def _is_error(response: Response) -> bool:
    kind = str((response.members() or {}).get("@type", "")).rpartition(":")[2]
    return kind in ("Error", "ConstraintViolationList")


# --- the connector --------------------------------------------------------------------------------------------------


def check(settings: ConvertrSettings, slice_: Slice) -> Request:
    """One campaign: the cheapest read that proves token and permission."""
    return Request(url=settings.url("/api/v4/campaigns"), params=(("itemsPerPage", "1"), ("page", "1")))


CONNECTOR = Connector(
    name="convertr",
    title="Convertr",
    summary="Leads, campaigns, publishers and jobs of a Convertr enterprise",
    settings=ConvertrSettings,
    authenticator=authenticator,
    # With plain application/json this kind of server answers bare arrays, without the total.
    headers={"Accept": "application/ld+json"},
    judge=judge,
    statuses=STATUSES,
    reason=REASON,
    limits=LIMITS,
    check=check,
    streams="connector_convertr.streams:STREAMS",
    sandbox="connector_convertr.sandbox:SANDBOX",
)
