"""
What a provider's response to a write means to its rows.

A write counts as done or as refused only if the response states it; otherwise its outcome is unknown.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from attrs import frozen

from penstock._fetch.verdict import status_judge
from penstock.actions import Action, ActionJudge, Values
from penstock.connector import Connector
from penstock.envelope import ERROR_MEMBERS, OUTCOME_MEMBERS, stated
from penstock.errors import AuthenticationError, PenstockError, RefusedError, ServerError, check_returned
from penstock.model import Receipt, ReceiptStatus, Response, flag, reason_in
from penstock.redact import clip
from penstock.verdicts import VERDICTS, Accept, Refusal, Refuse, Retry, Skip, StatusRule, Throttle, Unavailable, Verdict

MAX_ANSWER_BYTES = 256 * 1024  # of a response, with its receipts

_UNSURE = "It may have been carried out."


def outcome_of(
    connector: Connector, action: Action, response: Response, rows: Sequence[Values]
) -> Sequence[Receipt] | Retry | Refuse:
    """
    The outcome of a response: a receipt for each row (``row``: its place in the request); Retry if nothing was captured
    and the request may be repeated; Refuse if no row of this job can be sent.

    In this order: judge and statuses of the action, those of the connector, the HTTP status and the body.
    """
    judged = _verdict_or_receipts(connector, action, response, rows)
    if isinstance(judged, Accept):
        return _receipts_of(_by_body(connector, action, response), rows, response)
    return _receipts_of(judged, rows, response) if isinstance(judged, (Skip, Refuse, Retry)) else judged


def _verdict_or_receipts(
    connector: Connector, action: Action, response: Response, rows: Sequence[Values]
) -> Verdict | Sequence[Receipt]:
    """What the first judge or rule makes of a response; Accept: the body is not looked at yet."""
    if action.judge is not None:
        judged = _checked_receipts(action.judge, action.judge(response, rows), len(rows))
        if judged is not None:
            return judged
    by_action, by_connector, by_default = (
        status_judge(connector.title, table, connector.reason, action.name)
        for table in (action.statuses, connector.statuses, _STATUSES)
    )
    for judge in (by_action, connector.judge, by_connector, by_default):
        if judge is not None:
            verdict: Verdict | None = check_returned(judge, judge(response, None), Verdict | None, VERDICTS)
            if verdict is not None:
                return verdict
    return _by_class(connector, f"{connector.title} answered {action.name} with HTTP", response)


def _receipts_of(
    verdict: "_Done | Skip | Refuse | Retry", rows: Sequence[Values], response: Response
) -> Sequence[Receipt] | Retry | Refuse:
    """The receipts that follow from a verdict on all rows; the verdict where it is none on the rows."""
    match verdict:
        case _Done(reason):
            return same_receipts(rows, "done", reason, _stored_answer(response))
        case Skip(reason):
            return same_receipts(rows, "refused", reason)
        case Refuse(RefusedError() as error):
            return same_receipts(rows, "refused", str(error), _stored_answer(response))
        case Retry(error, throttle=False, renew=False, correct_clock=False):
            return same_receipts(rows, "unknown", str(error), _stored_answer(response))
    return verdict


def _checked_receipts(judge: ActionJudge, returned: Any, rows: int) -> Sequence[Receipt] | Verdict | None:
    """What the judge of an action returned. Raises PluginError for receipts that are not one for each row."""
    are_complete = isinstance(returned, Sequence) and sorted(
        receipt.row if isinstance(receipt, Receipt) else -1 for receipt in returned
    ) == list(range(rows))
    expected = Sequence if are_complete else Verdict | None
    write = f"None, a verdict, or one Receipt for each of the {rows} rows (row=0, 1, ...)"
    checked: Sequence[Receipt] | Verdict | None = check_returned(judge, returned, expected, write)
    return checked


@frozen
class _Done:
    """The provider states that it was carried out, for this reason."""

    reason: str = ""


_CREDENTIALS = "The credentials were refused: check those of this source."

# What a status means to a write where neither the action nor the connector has a judge or a rule for it.
_STATUSES: Mapping[int, StatusRule] = {
    207: Unavailable(f"Each of its parts has an outcome, which no judge of the action reads. {_UNSURE}"),
    401: Refusal(_CREDENTIALS, AuthenticationError, renew=True),  # a token may have ended before its time
    403: Refusal(_CREDENTIALS, AuthenticationError),
    **dict.fromkeys((425, 429), Throttle("Too many requests: lower requests_per_second.")),
    **dict.fromkeys((301, 307, 308), Refusal("It points elsewhere, and a write is not sent on; check base_url.")),
    408: Unavailable(_UNSURE),
}


def _by_class(connector: Connector, answered: str, response: Response) -> Verdict:
    """
    The meaning of a status without a rule. 302 and 303 may follow a write that was carried out; 5xx do not state it.
    """
    if 200 <= response.status < 300:
        return Accept()
    words = response.reason(connector.reason)
    text = f"{answered} {response.status}" + (f": {words}" if words else "")
    if 400 <= response.status < 500:
        return Refuse(RefusedError(text))
    return Unavailable(_UNSURE).verdict(text)


def _by_body(connector: Connector, action: Action, response: Response) -> _Done | Retry | Refuse:
    """The outcome of a response with a good status: done, unless the body states an error or is unreadable."""
    provider = connector.title
    if response.status == 204:
        return _Done()
    answer = response.json(exact=True)
    if answer is None and response.status == 202:
        return _Done("accepted (HTTP 202), to be carried out later")
    if answer is None:
        body_text = response.text(80) or "an empty body"
        return Retry(
            ServerError(f"{provider} answered {action.name} with HTTP {response.status}, but no JSON: {body_text}")
        )
    if answer is False:
        return Refuse(RefusedError(f"{provider} states false"))
    text = f"{provider} answered {action.name} with HTTP {response.status} and"
    if _has_failed_part(action, answer):
        return Retry(ServerError(f"{text} a part that failed: {response.text(200)}; others may have been carried out"))
    if not isinstance(answer, dict):
        return _Done()
    reason = reason_in(answer, (*connector.reason, "message", "errorMessage", "error", "body"), 300)
    outcomes = {name: stated(name, answer[name]) for name in OUTCOME_MEMBERS if name in answer}
    refused = next((name for name, success in outcomes.items() if success is False), None)
    if refused is not None:
        error = f"{provider} states {refused} {json.dumps(answer[refused], default=str)}"
        error = f"{error}: {reason}" if reason else error
        code = flag(answer[refused])
        if isinstance(code, int) and code >= 500:
            return Retry(ServerError(error))
        return Refuse(RefusedError(error))
    warned = not action.bulk and any(outcomes.values())
    unclear = next((name for name in (*outcomes, *ERROR_MEMBERS) if _contradicts(name, answer, outcomes, warned)), None)
    if unclear is None:
        return _Done(reason)
    words = reason or clip(json.dumps(answer[unclear], default=str), 100)
    return Retry(ServerError(f"{text} {unclear}: {words}; it may have been carried out"))


def _has_failed_part(action: Action, answer: Any) -> bool:
    """
    Whether an element of a list states a failure, or the object in ``result``; of several rows, also an element of a
    list in a member that is not for errors.
    """
    members = answer if isinstance(answer, dict) else {"": answer}
    if any(_fails(value) for name, value in members.items() if name.lower() == "result" and isinstance(value, dict)):
        return True
    if isinstance(answer, dict) and not action.bulk:
        return False
    lists = [value for name, value in members.items() if isinstance(value, list) and name not in ERROR_MEMBERS]
    return any(
        element is False or (isinstance(element, dict) and _fails(element))
        for elements in lists
        for element in elements
    )


def _fails(element: Mapping[str, Any]) -> bool:
    names = (name for name in (*OUTCOME_MEMBERS, *ERROR_MEMBERS) if element.get(name) is not None)
    return any(stated(name, element[name]) is False for name in names)


def _contradicts(
    name: str, answer: Mapping[str, Any], outcomes: Mapping[str, bool | None], errors_are_warnings: bool
) -> bool:
    """
    Whether a member of a body does not agree with its good status, so that one of them is not about this write. In
    ``errors`` beside a member that states success there are warnings, unless several rows share the request.
    """
    if name in outcomes:
        return outcomes[name] is None and isinstance(flag(answer[name]), (int, Decimal))  # a code that is neither
    if name not in answer or (name.lower() == "errors" and errors_are_warnings):
        return False
    return stated(name, answer[name]) is False


def same_receipts(rows: Sequence[object], status: ReceiptStatus, reason: str, answer: Any = None) -> Sequence[Receipt]:
    """The same receipt for each row of a request, by the row's place in it."""
    return [Receipt(row=number, status=status, reason=reason, answer=answer) for number in range(len(rows))]


def _stored_answer(response: Response) -> Any:
    """The body's JSON, to be stored with the receipts; None if it is no JSON or too large."""
    return response.json(exact=True) if len(response.body) <= MAX_ANSWER_BYTES else None


def one_line(error: PenstockError) -> str:
    """An error as the reason of a receipt: one line."""
    return " ".join(str(error).split())
