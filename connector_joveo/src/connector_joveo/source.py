"""
The provider Joveo: its credentials, the meaning of its responses, its limits.
"""

from collections.abc import Mapping
from typing import Any

from penstock import (
    Answer,
    AuthenticationError,
    Authenticator,
    Connector,
    Limits,
    Refusal,
    Refuse,
    RefusedError,
    Request,
    Response,
    Skip,
    Slice,
    StatusRule,
    Unavailable,
    Verdict,
)
from penstock_plugins.tokens import GrantedToken

from connector_joveo.config import JoveoSettings
from connector_joveo.endpoints import CLIENT_HEADER, endpoint
from connector_joveo.paging import ProbedPages, UncertainPages

# --- assumptions: Joveo's page does not state these (paths: endpoints.py) -------------------------------------------

LIMITS = Limits(requests_per_second=2.0, concurrency=4)  # no limit is stated; this is polite

# The number of the first page is stated for jobs only, and the general text contradicts it. The most records of a page
# are not stated, nor whether a page may be short before the last one.
PAGES = UncertainPages(size=100)
JOB_PAGES = ProbedPages(size=1000, ceiling=10_000)

# Members by which a body states a failure under any status, beside those that mean one anywhere (error, ...), and those
# that may give the reason.
FLAGS = ("success", "result", "statusCode")
REASON = ("message", "errorMessage", "error", "body")

# Where the id of a report is, in this order: the page shows a submission that answers NO_CONTENT and a poll that takes
# a task id, and not where the one gives the other.
ID_HEADERS = ("task-?id", "^(?!x-amz).*request-?id")  # Amazon's gateway gives every request an id
ID_MEMBERS = ("taskId", "task_id", "reportId", "report_id", "id", "result")
LINK_MEMBERS = ("location", "url", "reportUrl", "downloadUrl", "link")

# States of a report. SUCCESS, NO_RECORDS_FOUND and FAILED are stated. Any other state means under way, with a note.
FAILED = frozenset({"FAILED", "FAILURE", "ERROR", "CANCELLED", "EXPIRED"})
UNDER_WAY = frozenset(
    {
        "ACCEPTED",
        "CREATED",
        "INITIATED",
        "IN_PROGRESS",
        "NEW",
        "PENDING",
        "PROCESSING",
        "QUEUED",
        "RUNNING",
        "SCHEDULED",
        "STARTED",
        "SUBMITTED",
    }
)

# A report may be unknown to the server that answers the poll for as long as this after its submission.
UNKNOWN_AT_FIRST_S = 60.0

# The page gives no limit to a list of candidates.
CANDIDATES_PER_REQUEST = 100

# --- requests -------------------------------------------------------------------------------------------------------


def joveo_request(
    settings: JoveoSettings, operation: str, *, client: str | None = None, body: Any = None, **path: Any
) -> Request:
    """
    The request of an operation; ``client`` is in its path or header, and on every record as ``client_id``.
    """
    method, template = endpoint(settings.endpoints, operation)
    url = settings.url(template, client_id=client, **path)
    stamped = {} if client is None else {"client_id": client}
    headers = ((CLIENT_HEADER[operation], client),) if client is not None and operation in CLIENT_HEADER else ()
    if body is None:
        return Request(method=method, url=url, headers=headers, columns=stamped)
    return Request.json(method, url, body, headers=headers, columns=stamped)


def check(settings: JoveoSettings, slice_: Slice) -> Request:
    """One client of the list: every key may read it, and it takes both credentials."""
    return joveo_request(settings, "clients").with_param("page", "1").with_param("limit", "1")


def authenticator(settings: JoveoSettings) -> Authenticator:
    """
    Bare, the token of a day in ``x-authorization-key``; ``x-api-key`` is on every call.

    Source: operation 1 and the section on authentication; that no ``Bearer`` precedes the token is inferred.
    """
    method, path = endpoint(settings.endpoints, "token")
    login = Request.json(method, settings.url(path), {"client_id": settings.api_client_id.reveal()})
    return GrantedToken(
        provider="Joveo",
        login=login,
        header="x-authorization-key",
        advice="check api_key and api_client_id, and that base_url is the environment they were issued for",
        address="base_url, and endpoints.token, since Joveo's paths are not public",
    )


# --- responses ------------------------------------------------------------------------------------------------------


def statuses(operation: str = "", chosen_by: str = "", *, detail: bool = False) -> Mapping[int, StatusRule]:
    """
    The meaning of 403 and 404 for an operation. Source: the table of status codes.

    403: the token expired (Joveo does not answer 401), or the keys have no right; one new token decides. ``chosen_by``:
    the setting that selects the data, which a refusal then concerns, in place of the credentials. 404: the object does
    not exist. That is no failure of a ``detail``, but one of a listing, since a wrong path looks the same.
    """
    expired = "The token ran out or, if a new one does not help, these keys have no right to"
    place = f"endpoints.{operation}" if operation else "endpoints"
    return {
        403: Refusal(
            f"{expired} this data, or its id is wrong. Check {chosen_by}, or ask Joveo for the right.", renew=True
        )
        if chosen_by
        else Refusal(
            f"{expired} this operation. Ask Joveo for the right, and check that base_url is right.",
            AuthenticationError,
            renew=True,
        ),
        404: Skip(f"Joveo has no such {operation} (HTTP 404)")
        if detail
        else Refusal(
            "Either it does not exist any more, or Joveo serves it elsewhere: its paths are not public, correct it "
            f"under {place}."
        ),
    }


STATUSES: Mapping[int, StatusRule] = {
    401: Refusal(
        "The API key was refused. Check api_key, and that base_url is the environment it was issued for.",
        AuthenticationError,
    ),
    **statuses(),
}


def judge(response: Response, answer: Answer | None) -> Verdict | None:
    """
    A body that contradicts its good status, by ``success``, ``result`` or ``statusCode``.

    Source: operations 53, 57 to 59.
    """
    if not 200 <= response.status < 300:
        return None
    head = _flags(response, answer)
    code = head.get("statusCode")
    bad_code = isinstance(code, int) and not isinstance(code, bool) and code != 200
    refused = [name for name in ("success", "result") if head.get(name) is False]
    if not refused and not bad_code:
        return None
    flag = f"{refused[0]} false" if refused else f"statusCode {code}"
    seen = f"Joveo answered HTTP {response.status}, but the body states {flag}: {response.reason(REASON)}".rstrip(": .")
    return Unavailable().verdict(seen) if isinstance(code, int) and code >= 500 else Refuse(RefusedError(f"{seen}."))


def _flags(response: Response, answer: Answer | None) -> Mapping[str, Any]:
    """The members that may state a failure: those that the envelope read, else those of a small object."""
    if answer is not None and answer.head:
        return answer.head
    return response.members() or {} if len(response.body) <= 65536 else {}


# --- the connector --------------------------------------------------------------------------------------------------

CONNECTOR = Connector(
    name="joveo",
    title="Joveo",
    summary="clients, campaigns, jobs, postings and stats of the Joveo programmatic job-ad platform",
    settings=JoveoSettings,
    authenticator=authenticator,
    headers={"x-api-key": "{api_key}"},
    judge=judge,
    statuses=STATUSES,
    reason=REASON,
    limits=LIMITS,
    check=check,
    streams="connector_joveo.streams:STREAMS",
    actions="connector_joveo.actions:ACTIONS",
    sandbox="connector_joveo.sandbox:SANDBOX",
)
