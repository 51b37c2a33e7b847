"""
The one write: report a usage event. The answer's ``code`` is the outcome; its HTTP status is 200 also for failures.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve
from penstock import (
    Action,
    BrokenBodyError,
    Field,
    MostValues,
    Receipt,
    ReceiptStatus,
    Refuse,
    RefusedError,
    Response,
    Retry,
    ServerError,
    Values,
    Verdict,
    flag,
)

from connector_sensis.config import SensisSettings
from connector_sensis.source import WRONG_KEY, judge as of_gateway

# No limit is documented: a page of search results has 20 by default, and some proxies cut URLs at 2,000 characters.
MAX_IDS = 20
MAX_URL = 2000

# From the page Reporting Usage Events. The list may be incomplete: another name is sent, with a warning.
EVENTS = (
    "appearance",
    "viewDetails",
    "addToContacts",
    "addToFavourites",
    "dial",
    "getDirections",
    "printBusinessDetails",
    "sendEmail",
    "sendToFriend",
    "sendToMobile",
)

_KEPT = ("code", "message", "validationErrors", "validationWarnings")
_INDEX = re.compile(r"\bids?\s*\[\s*(\d{1,3})\s*\]")


def prepare(settings: SensisSettings, values: Values) -> None:
    """Raises ValueError for values that the document rules out, and for events without a content that they need."""
    ids = values["id"]
    if not all(id_.strip() for id_ in ids):
        raise ValueError("id: is empty")
    if "content" in values and len(ids) > 1:
        raise ValueError(f"content: expected exactly one id, found {len(ids)}")
    event = values["event_name"]
    if event in settings.events_requiring_content and not str(values.get("content", "")).strip():
        raise ValueError(
            f"content: is missing, and {event} needs it; events_requiring_content of the source lists "
            "the events that need it"
        )
    try:
        ipaddress.ip_address(values["user_ip"])
    except ValueError:
        raise ValueError(f"user_ip: found {values['user_ip']!r}, expected an IP address") from None


def judge(response: Response, rows: Sequence[Values]) -> Sequence[Receipt] | Verdict | None:
    """
    200: captured. 206: some ids are invalid, the others were captured. 400: nothing was captured.

    The connector's judge and statuses decide what the gateway answers itself. Source: the table of codes.
    """
    body = response.json(exact=True)
    code = flag(body.get("code")) if isinstance(body, dict) else None
    if not isinstance(body, dict) or isinstance(code, bool) or not isinstance(code, int):
        if 200 <= response.status < 300:
            seen = response.text(80) or "an empty body"
            return Retry(BrokenBodyError(f"Sensis answered HTTP {response.status} without a code: {seen}"))
        return None
    if response.status >= 300 and (response.status != 400 or code != 400):
        return None
    kept = {name: body[name] for name in _KEPT if name in body}
    words = reason(body)
    if code == 200:
        return [Receipt(row=number, status="done", reason=warned(row, words)) for number, row in enumerate(rows)]
    if code == 206:
        return partial_receipts(rows, _texts(body, "validationErrors"), words, kept)
    if code in (401, 403):  # the gateway's status, here in the body
        seen = f"Sensis states code {code}: {words}"
        return of_gateway(evolve(response, status=code), None) or WRONG_KEY.verdict(seen)
    if 400 <= code < 500:
        return [Receipt(row=row, status="refused", reason=words, answer=kept) for row in range(len(rows))]
    if code >= 500:
        return Retry(ServerError(f"Sensis states code {code}: {words}"))
    return Refuse(RefusedError(f"Sensis states code {code}, which its document does not list: {words}"))


def partial_receipts(
    rows: Sequence[Values], errors: Sequence[str], words: str, kept: Mapping[str, Any]
) -> Sequence[Receipt]:
    """
    A receipt for each row after a 206, by the ids that the errors name.

    Without a name it is unknown which ids were captured, so every row is unknown: sending one again could count it
    twice.
    """
    ids = [id_ for row in rows for id_ in row["id"]]
    failed = failed_ids(errors, ids)
    if not failed:
        words = f"some ids are invalid, and the answer names none of them: {words}"
        return [Receipt(row=row, status="unknown", reason=words, answer=kept) for row in range(len(rows))]
    receipts = []
    place = 0
    for number, row in enumerate(rows):
        own = range(place, place + len(row["id"]))
        place += len(row["id"])
        bad = [ids[at] for at in own if at in failed]
        if not bad:
            receipts.append(Receipt(row=number, status="done", reason=warned(row)))
            continue
        seen = f"not captured: {', '.join(bad)} ({words})"
        status: ReceiptStatus = "refused" if len(bad) == len(own) else "partial"
        receipts.append(Receipt(row=number, status=status, reason=seen, answer=kept))
    return receipts


def warned(row: Values, words: str = "") -> str:
    """The provider's reason, and a warning for an event that is not documented: it may not be counted."""
    event = row["event_name"]
    ours = "" if event in EVENTS else f"warning: {event} is not a documented event_name"
    return "; ".join(filter(None, (words, ours)))


def failed_ids(errors: Sequence[str], ids: Sequence[str]) -> set[int]:
    """
    The indices of the ids that the errors name, by their text or as ``id[1]``.

    An index in brackets counts from 0, or from 1 if one of them would otherwise exceed the last id. Empty if an error
    names no id that was sent.
    """
    indices = [int(index) for text in errors for index in _INDEX.findall(text) if index not in ids]
    shift = 1 if indices and max(indices) == len(ids) and 0 not in indices else 0
    failed: set[int] = set()
    for text in errors:
        places = {int(index) - shift for index in _INDEX.findall(text) if index not in ids}
        # A short id could be a word of the error, so its text is looked for only where no index is given.
        places = places or {at for at, id_ in enumerate(ids) if _holds(text, id_)}
        places &= set(range(len(ids)))
        if not places:
            return set()
        failed |= places
    return failed


def _holds(text: str, id_: str) -> bool:
    """Whether ``text`` contains this id as a whole word."""
    return re.search(rf"(?<![\w+/=-]){re.escape(id_)}(?![\w+/=-])", text) is not None


def reason(body: Mapping[str, Any]) -> str:
    """The provider's reason: errors, else the message; then warnings."""
    errors = _texts(body, "validationErrors")
    message = str(body.get("message") or "")
    words = errors or ([message] if message and message != "OK" else [])
    warnings = [f"warning: {text}" for text in _texts(body, "validationWarnings")]
    return "; ".join([*words, *warnings])


def _texts(body: Mapping[str, Any], member: str) -> list[str]:
    texts = body.get(member)
    texts = texts if isinstance(texts, list) else [] if texts is None else [texts]
    return [" ".join(str(text).split()) for text in texts]


ACTIONS = (
    Action(
        name="report_event",
        summary="report that users saw or used listings",
        method="GET",
        path="/{version}/{environment}/report/{event_name}",
        endpoint=lambda settings: (
            settings.method,
            f"/{settings.version}/{settings.environment}/report/{{event_name}}",
        ),
        fields=(
            Field(
                name="event_name",
                member="eventName",
                place="path",
                required=True,
                description=", ".join(EVENTS),
            ),
            Field(
                name="user_ip",
                member="userIp",
                place="query",
                required=True,
                description="address of the application's user",
            ),
            Field(
                name="id",
                place="query",
                required=True,
                repeated=True,
                aliases=("listing_ids",),
                description="reportingId of the listing, from a search answer",
            ),
            Field(name="user_agent", member="userAgent", place="query", description="the user's browser"),
            Field(
                name="user_session_id",
                member="userSessionId",
                place="query",
                description="stable for each user; a hash will do",
            ),
            Field(
                name="content",
                place="query",
                description="with exactly one id; dial needs it (the number) and sendEmail (the address)",
            ),
        ),
        most_values=MostValues(field="id", most=MAX_IDS, most_url=MAX_URL),
        prepare=prepare,
        judge=judge,
        # There is no key by which the provider could recognise a repeated event.
        repeatable=False,
    ),
)
"""Source: the pages Report and Reporting Usage Events."""
