"""
The provider Talroo: the signature of its requests, and the meaning of its responses.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from attrs import evolve, field, frozen
from penstock import (
    MASK,
    Answer,
    AuthenticationError,
    BrokenBodyError,
    Connector,
    Grant,
    Limits,
    OpenFor,
    Refusal,
    Request,
    Response,
    Retry,
    Slice,
    Throttle,
    Unavailable,
    Unsigned,
    Verdict,
    clip,
    encode_query,
    fill,
)

from connector_talroo.config import TalrooSettings

# --- assumptions: the document does not state these -----------------------------------------------------------------

# "too many requests" exists, its number is not stated: one request at a time, one a second, and a pause of a minute
# after that message (less if throttle_wait_s is less).
LIMITS = Limits(requests_per_second=1.0, concurrency=1, cool_down_s=60.0)

# Networks of this kind withdraw and reprice clicks for some days.
OPEN_FOR = OpenFor(3)

# A range of days is allowed. A day bounds the size of a response and the cost of a failed one.
DAYS_PER_REQUEST = 1

# --- requests -------------------------------------------------------------------------------------------------------


def click_report(settings: TalrooSettings, advertiser_id: str, start: date, end: date) -> Request:
    """
    The report of the days ``start`` to ``end``, both included, unsigned.

    Parameters are in the order of the provider's example and sample code; whether another is accepted is unknown. Both
    dates are always sent; whether absent ones are part of what is signed is unknown too.

    Source: Reporting API, ``get_clicks``; that it is a GET is inferred.
    """
    return Request(
        url=settings.base_url,
        params=(
            ("customer_reference", settings.customer_reference),
            ("advertiser_id", advertiser_id),
            ("action", "get_clicks"),
            ("start", start.isoformat()),
            ("end", end.isoformat()),
        ),
        masked=("customer_reference", "ticket"),
    )


def check(settings: TalrooSettings, slice_: Slice) -> Request:
    """Yesterday of the first advertiser: the cheapest request there is, and reading records nothing."""
    yesterday = slice_.now.astimezone(ZoneInfo(settings.timezone)).date() - timedelta(days=1)
    return click_report(settings, settings.advertiser_ids[0], yesterday, yesterday)


# --- authentication -------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Ticket(Unsigned):
    """
    A signature over the query, made for each attempt with that attempt's time.

    ``timestamp`` (milliseconds since 1970) follows ``action``. The query is signed as it is sent, byte for byte; the
    ticket, HMAC-SHA256 in lower-case hex, follows as the last parameter and is not part of it.

    Source: Reporting API, authentication and its sample code (jQuery's ``param``, CryptoJS' ``HmacSHA256``).
    """

    key: bytes = field(repr=False)

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        stamped = _stamped(request, now)
        return evolve(stamped, params=(*stamped.params, ("ticket", self.ticket(encode_query(stamped.params)))))

    def ticket(self, query: str) -> str:
        """The signature of a query string."""
        return hmac.new(self.key, query.encode("ascii"), hashlib.sha256).hexdigest()

    def explain(self, request: Request, now: datetime) -> str:
        """The string that is signed, the customer's reference masked."""
        params = _stamped(request, now).params
        return "&".join(
            f"{name}={MASK if name in request.masked else encode_query([(name, value)]).partition('=')[2]}"
            for name, value in params
        )


def _stamped(request: Request, now: datetime) -> Request:
    timestamp = ("timestamp", fill("{now:epoch_ms}", {"now": now}))
    bare = [pair for pair in request.params if pair[0] not in ("timestamp", "ticket")]
    place = [name for name, _ in bare].index("action") + 1
    return evolve(request, params=(*bare[:place], timestamp, *bare[place:]))


# --- responses ------------------------------------------------------------------------------------------------------

_DEFECT = Refusal("This connector sends what is documented, so the API changed, or the connector has a defect.")

# Source: Reporting API, error codes; what to do about each is inferred.
MESSAGES: Mapping[str, Refusal | Throttle | Unavailable] = {
    "server is busy": Unavailable(),
    "too many requests": Throttle(),
    "missing required params": _DEFECT,
    "format error": _DEFECT,
    "date format error": _DEFECT,
    "not found": Refusal(
        "This customer has no such advertiser, or base_url has a wrong path. Check advertiser_ids: each must be in the "
        "advertiser_id tag of jobs in the feed."
    ),
    "invalid date range": Refusal(
        "The day is before the previous two full calendar months, or in the future. Check start, and this host's clock."
    ),
}
UNDOCUMENTED = Refusal("This message is not documented. If it does not state what to change, ask Talroo.")


def judge(response: Response, answer: Answer | None) -> Verdict | None:
    """
    ``status`` in the body: 1 is good, 0 comes with a ``message``. The HTTP status decides only if the body has neither.
    """
    # No envelope reads the body of `penstock check`; a body that is no JSON object has no members.
    head = answer.head if answer is not None and "status" in answer.head else response.members()
    status = _status(head)
    if status == "1" or (status != "0" and not 200 <= response.status < 300):
        return None
    if status != "0":
        fault = "that is no JSON object" if head is None else "whose status is neither 1 nor 0"
        return Retry(
            BrokenBodyError(
                f"Talroo answered HTTP {response.status} with a body {fault} (cut, or not Talroo's?); it begins: "
                f"{response.text(100)!r}. If this persists, base_url is wrong or the API changed."
            )
        )
    message = str((head or {}).get("message") or "").strip()
    seen = f"Talroo answered HTTP {response.status} with status 0 and the message {clip(message, 200)!r}"
    if message.lower() == "unauthorized request":
        advice = f"The ticket was refused; {_clocks(response)}."
        return Retry(AuthenticationError(seen, advice), correct_clock=True)
    rule = MESSAGES.get(message.lower())
    if rule is None and (response.status == 429 or response.status >= 500):
        return None
    return (rule or UNDOCUMENTED).verdict(seen)


def states_its_total(response: Response, answer: Answer | None) -> Verdict | None:
    """
    A report states ``total_clicks``: without it an empty report could be a cut one.
    """
    if answer is None or answer.problem is not None or answer.total is not None or _status(answer.head) != "1":
        return None
    return Retry(
        BrokenBodyError(
            f"Talroo sent a report without total_clicks (HTTP {response.status}), so it may not be whole. "
            "It was not delivered. If this persists, the API changed."
        )
    )


def _clocks(response: Response) -> str:
    """The advice for a refused ticket. If the clocks differ, the core signs once more with the provider's time."""
    theirs = response.date
    if theirs is None:
        return "check customer_reference, customer_secret and secret_encoding, and this host's clock"
    ahead_s = round((theirs - response.received_at).total_seconds())
    if abs(ahead_s) <= 60:
        return "the two clocks agree, so check customer_reference, customer_secret and secret_encoding"
    return (
        f"its clock is {abs(ahead_s)} s {'ahead of' if ahead_s > 0 else 'behind'} this host's, and one ticket with its "
        "time was tried. Correct this host's clock; if that does not help, check customer_reference and customer_secret"
    )


def _status(head: Mapping[str, Any] | None) -> str | None:
    """``1`` or ``"1"`` as text; None without a status."""
    status = None if head is None else head.get("status")
    return None if status is None else str(status).strip()


# --- the connector --------------------------------------------------------------------------------------------------

CONNECTOR = Connector(
    name="talroo",
    title="Talroo",
    summary="Click reports of the advertisers of a Talroo customer",
    settings=TalrooSettings,
    authenticator=lambda settings: Ticket(key=settings.key()),
    judge=judge,
    limits=LIMITS,
    check=check,
    streams="connector_talroo.streams:STREAMS",
    sandbox="connector_talroo.sandbox:SANDBOX",
)
