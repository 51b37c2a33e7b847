"""
The provider: how its requests are authenticated, how its answers are judged, what it allows.
"""

from urllib.parse import urlencode

from attrs import frozen
from penstock import (
    Answer,
    AuthenticationError,
    Authenticator,
    Connector,
    Grant,
    Limits,
    Refuse,
    RefusedError,
    Request,
    Response,
    Retry,
    Secret,
    ServerError,
    Skip,
    Slice,
    ThrottledError,
    Verdict,
    mask,
)
from penstock_plugins.tokens import GrantedToken, HeaderTokens, ParamTokens

from connector_convertr.config import ConvertrSettings

# With plain application/json this kind of server answers bare arrays, without the total.
ACCEPT = ("Accept", "application/ld+json")

_PARAM = "access_token"


# --- authentication -------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Login(GrantedToken):
    """
    The login of either generation. The answer says when the password has expired: it still carries a token then,
    which nothing accepts.

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
                Secret(answer[name])  # known to the masking from here on
        if answer.get("password_expired") is True:
            raise AuthenticationError(
                f"{self.provider} accepted the login and says that the password has expired; set a new one in "
                "Convertr, then change password."
            )
        return super().read_grant(response)


def authenticator(settings: ConvertrSettings) -> Authenticator:
    bearer = settings.auth_style == "bearer"
    if settings.access_token is not None:
        token = settings.access_token
        if bearer:
            return HeaderTokens(headers={"Authorization": Secret(f"Bearer {token.reveal()}")})
        return ParamTokens(params={_PARAM: token})
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
        url=settings.base_url + path,
        headers=(("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")),
        body=urlencode(form).encode(),
    )


def _reveal(secret: Secret | None) -> str:
    return secret.reveal() if secret is not None else ""


# --- judging --------------------------------------------------------------------------------------------------------


def judge(response: Response, answer: Answer | None) -> Verdict | None:
    """
    By status; the body only gives the reason. A 401 is first taken for an expired token.

    Source: statuses from the provider's public pages and their client's tests; 403 as expired password is inferred.
    """
    status = response.status
    if 200 <= status < 300:
        return _error_despite_success(response) if answer is None or answer.problem is not None else None
    seen = f"HTTP {status}: {reason(response)}"
    if status == 401:
        refused = f"Convertr refused the token ({seen}); check username and password, or get a new access_token."
        return Retry(AuthenticationError(refused), renew=True)
    if status == 403:
        return Refuse(
            AuthenticationError(
                f"Convertr does not let this user read ({seen}); the password may have expired (the login says so as "
                "password_expired), else ask the enterprise's administrator for the permission."
            )
        )
    if status == 404:
        return Refuse(RefusedError(f"Convertr knows no such address ({seen}); check enterprise or base_url."))
    if status == 429:
        # The limit counts over the last five minutes; a Retry-After, where there is one, says how much is left.
        asked = f"Convertr says that too much was asked ({seen}); lower requests_per_second or concurrency."
        return Retry(ThrottledError(asked), throttle=True)
    if 400 <= status < 500 and status not in (408, 425):
        return Refuse(RefusedError(f"Convertr refused the request ({seen}); check filters and cursor_field."))
    return None


def judge_detail(response: Response, answer: Answer | None) -> Verdict | None:
    """A single object that is gone (deleted since its collection was read) is no failure."""
    if response.status == 404:
        return Skip(f"HTTP 404: {reason(response)}")
    return _error_despite_success(response) if response.status < 300 else None


def _error_despite_success(response: Response) -> Retry | None:
    kind = str((response.members() or {}).get("@type", "")).rpartition(":")[2]
    if kind not in ("Error", "ConstraintViolationList"):
        return None
    return Retry(ServerError(f"Convertr answered an error with HTTP {response.status}: {reason(response)}"))


_REASONS = (
    *("hydra:description", "detail", "description", "error_description", "message"),
    *("hydra:title", "title", "error"),
)


def reason(response: Response) -> str:
    """
    What an error body says, in either spelling of this framework or in OAuth's; else the start of the body.
    """
    members = response.members() or {}
    nested = members.get("error")
    said = [value for name in _REASONS if isinstance(value := members.get(name), str) and value.strip()]
    if not said and isinstance(nested, dict):
        said = [str(nested[name]) for name in ("message", "description") if nested.get(name)]
    text = mask(" ".join(said[0].split())) if said else response.text(200)
    return (text if len(text) <= 300 else text[:299] + "…") or "no reason given"


# --- the connector --------------------------------------------------------------------------------------------------


def check(settings: ConvertrSettings, slice_: Slice) -> Request:
    """One campaign: the cheapest read that proves token and permission."""
    return Request(
        url=f"{settings.base_url}/api/v4/campaigns", params=(("itemsPerPage", "1"), ("page", "1")), headers=(ACCEPT,)
    )


CONNECTOR = Connector(
    name="convertr",
    title="Convertr",
    summary="Leads, campaigns, publishers and jobs of a Convertr enterprise",
    settings=ConvertrSettings,
    authenticator=authenticator,
    judge=judge,
    # Allowed are 3000 requests in five minutes (another edition of the page: 3800) over all that the enterprise runs,
    # and fewer than ten at once is advised; half of the pace is left to others.
    limits=Limits(requests_per_second=5.0, concurrency=2, cool_down_s=60.0),
    check=check,
    streams="connector_convertr.streams:STREAMS",
    sandbox="connector_convertr.sandbox:SANDBOX",
)
