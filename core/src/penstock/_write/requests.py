"""
Writes as values: parameters of a row to typed values, values to requests, a response to receipts.

This module sends nothing. A write counts as done or as refused only if the response states it; otherwise its outcome is
unknown.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from attrs import evolve, frozen

from penstock._fetch.verdict import status_judge
from penstock.actions import Action, Field, MostValues, Values
from penstock.connector import Connector
from penstock.errors import AuthenticationError, PenstockError, RefusedError, ServerError
from penstock.model import Receipt, ReceiptStatus, Request, Response, exact_json, fill_path, flag, reason_in
from penstock.names import nearest
from penstock.protocols import Accept, Refusal, Refuse, Retry, Skip, StatusRule, Throttle, Unavailable, Verdict
from penstock.redact import mask

# An answer is kept with its receipts up to this size.
KEPT_ANSWER_BYTES = 256 * 1024

_UNSURE = "It may have been carried out."

BODY = "body"  # the parameter that is a whole body, or one object of it


_DIGITS = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)  # Decimal would take 1_000 as well


# --- parameters -----------------------------------------------------------------------------------------------------


def typed(action: Action, parameters: Mapping[str, Any], *, text: bool = False) -> dict[str, Any]:
    """
    A row's parameters by field name, each of its field's type; nulls are absent.

    The names in ``parameters`` are those of fields, or the provider's. ``text``: every value is text (of a command line
    or a CSV file) without a type; none is absent. Raises ValueError with all problems.
    """
    known = _spellings(action)
    found: dict[str, Any] = {}
    wrong: list[str] = []
    for spelling, value in parameters.items():
        name = known[spelling].name if spelling in known else spelling
        if name not in known and not (name == BODY and _takes_body(action)):
            near = nearest(spelling, known)
            meant = f"; did you mean {near}?" if near is not None else ""
            wrong.append(f"{spelling} is no parameter of {action.name}{meant}")
            continue
        if value is None or (text and value == ""):
            continue
        if name in found:
            wrong.append(f"{name} is given twice, in two spellings")
            continue
        try:
            found[name] = _converted(known[name], value, text) if name in known else _body_of(action, value, text)
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    if wrong:
        raise ValueError("; ".join(wrong))
    return found


def validated(action: Action, settings: Any, values: Values) -> dict[str, Any]:
    """
    ``values`` in the order of the declaration. Raises ValueError if one is missing, or if ``prepare`` refuses them.
    """
    free_body = BODY in values and _takes_body(action)
    if free_body and any(field.place == "body" and field.name in values for field in action.fields):
        raise ValueError(f"{BODY} is the whole body: no other member of it beside it")
    _complete([field for field in action.fields if not (free_body and field.place == "body")], values)
    action.prepare(settings, values)
    order = [field.name for field in action.fields if field.name in values]
    return {name: values[name] for name in (*order, *(name for name in values if name not in order))}


def _complete(fields: Iterable[Field], values: Values) -> None:
    missing = [field for field in fields if field.required and field.name not in values]
    if missing:
        names = [f"{field.name} ({field.description})" if field.description else field.name for field in missing]
        raise ValueError(f"missing: {', '.join(names)}")


def _takes_body(action: Action) -> bool:
    """Whether the action takes the parameter ``body``, in addition to or in place of single members."""
    return action.bulk or action.open_body


def _spellings(action: Action) -> dict[str, Field]:
    return {spelling: field for field in action.fields for spelling in (*field.aliases, field.member, field.name)}


def _body_of(action: Action, value: Any, text: bool) -> Any:
    """The parameter ``body`` of a row: an object, or for a body that is a list, a list of objects."""
    value = _json(value) if text else value
    objects = [value] if isinstance(value, dict) else value
    if action.bulk:
        if not isinstance(objects, list) or not objects or not all(isinstance(one, dict) for one in objects):
            raise ValueError("expected a list of objects")
        return [_body_object(action, one) for one in objects]
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return _body_object(action, value)


def _body_object(action: Action, members: Mapping[str, Any]) -> dict[str, Any]:
    """One object of the body, by the provider's member names; unknown ones only if the action's body is open."""
    fields = tuple(field for field in action.fields if field.place == "body")
    own = evolve(action, fields=fields, rows_per_request=1, open_body=False)
    known = _spellings(own)
    extra = {name: value for name, value in members.items() if name not in known}
    if extra and not action.open_body:
        listed = ", ".join(field.member for field in fields)
        raise ValueError(f"{', '.join(extra)} is no member of it; there are {listed}")
    values = typed(own, {name: value for name, value in members.items() if name in known})
    _complete(fields, values)
    return _members(own, values) | extra


def _converted(field: Field, value: Any, text: bool) -> Any:
    if field.repeated:
        several = _json(value) if text and isinstance(value, str) and value.lstrip().startswith("[") else value
        several = several if isinstance(several, list) else [several]
        if not several:
            raise ValueError("expected at least one")
        return [_one(field, one, text) for one in several]
    return _one(field, value, text)


def _one(field: Field, value: Any, text: bool) -> Any:
    made = _TYPES[field.type](value, text)
    if field.choices and made not in field.choices:
        raise ValueError(f"found {_shown(made)}, expected one of {', '.join(field.choices)}")
    if field.place == "path" and made == "":
        raise ValueError("is empty")
    if field.place == "header" and not (str(made).isascii() and str(made).isprintable()):
        raise ValueError("holds signs that a header cannot carry")
    return made


def _text(value: Any, text: bool) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"found {_shown(value)}, expected text")


def _integer(value: Any, text: bool) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return value
    raise ValueError(f"found {_shown(value)}, expected an integer")


def _number(value: Any, text: bool) -> int | Decimal:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        with contextlib.suppress(InvalidOperation):  # an exponent beyond all bounds
            value = Decimal(value.strip())
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool) and Decimal(value).is_finite():
        return value
    raise ValueError(f"found {_shown(value)}, expected a number")


def _boolean(value: Any, text: bool) -> bool:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if isinstance(value, bool):
        return value
    raise ValueError(f"found {_shown(value)}, expected true or false")


def _object(value: Any, text: bool) -> dict[str, Any]:
    value = _json(value) if isinstance(value, str) else value
    if isinstance(value, dict):
        return value
    raise ValueError(f'found {_shown(value)}, expected an object such as {{"name": "value"}}')


def _list(value: Any, text: bool) -> list[Any]:
    value = _json(value) if isinstance(value, str) else value
    if isinstance(value, list):
        return value
    raise ValueError(f'found {_shown(value)}, expected a list such as ["a", "b"]')


def _any(value: Any, text: bool) -> Any:
    return _json(value) if text else value


_TYPES: dict[str, Callable[[Any, bool], Any]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "object": _object,
    "list": _list,
    "json": _any,
}


def _json(text: Any) -> Any:
    try:
        return exact_json(str(text))
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None


def _shown(value: Any) -> str:
    text = mask(json.dumps(value, default=str, ensure_ascii=False))
    return text if len(text) <= 60 else f"{text[:59]}…"


# --- requests -------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Row:
    """One input row, ready to be sent: its 0-based number and its values."""

    number: int
    values: Values


@frozen(kw_only=True)
class WriteRequest:
    """The rows of one request."""

    rows: tuple[Row, ...]
    request: Request

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(row.number for row in self.rows)

    @property
    def values(self) -> tuple[Values, ...]:
        return tuple(row.values for row in self.rows)


def place(action: Action, settings: Any) -> tuple[str, str]:
    """Method and path template of an action, for these settings."""
    return action.endpoint(settings) if action.endpoint is not None else (action.method, action.path)


def destination(action: Action, settings: Any) -> str:
    """The address of an action for these settings, its row's values still names in braces, without a query."""
    return str(settings.base_url).rstrip("/") + place(action, settings)[1].partition("?")[0]


def built(action: Action, settings: Any, rows: Sequence[Values]) -> Request:
    """
    The one request for these rows, unsigned. ValueError where the values cannot be written as JSON.

    Rows of one request differ only in what the action lets them differ in.
    """
    first = rows[0]
    method, path = place(action, settings)
    url = settings.base_url.rstrip("/") + fill_path(path, first)
    params: list[tuple[str, str]] = []
    headers: list[tuple[str, str]] = []
    for field in action.fields:
        several = [first.get(field.name)]
        if field.repeated:
            several = [one for row in rows for one in row.get(field.name, ())]
        pairs = [(field.member, _written(one)) for one in several if one is not None]
        if field.place == "query":
            params += pairs
        elif field.place == "header":
            headers += pairs
    request = Request(method=method, url=url, params=tuple(params), headers=tuple(headers), is_write=True)
    body = _body(action, rows)
    if body is None:
        return request
    return evolve(request, body=_encoded(body), headers=(*headers, ("Content-Type", "application/json")))


def _body(action: Action, rows: Sequence[Values]) -> Any:
    whole = next((field for field in action.fields if field.place == "whole_body"), None)
    if whole is not None:
        return rows[0].get(whole.name)
    if action.bulk:
        return [part for row in rows for part in (row[BODY] if BODY in row else [_members(action, row)])]
    if BODY in rows[0]:
        return rows[0][BODY]
    has_body = any(field.place == "body" for field in action.fields) or action.open_body
    return _members(action, rows[0]) if has_body else None


def _members(action: Action, values: Values) -> dict[str, Any]:
    return {
        field.member: values[field.name] for field in action.fields if field.place == "body" and field.name in values
    }


def _written(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.Encoder(decimal_format="number").encode(value)
    except (TypeError, OverflowError, RecursionError, UnicodeEncodeError, msgspec.MsgspecError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None


def packed(
    action: Action, settings: Any, rows: Iterable[Row], *, length: Callable[[Request], int]
) -> Iterator[WriteRequest | Receipt]:
    """
    The rows in requests, in the order of their first rows; a receipt for a row that no request can carry.

    ``length``: characters of a request's URL as sent.
    """
    for group in _batches(action, rows) if action.bulk else ([row] for row in rows):
        try:
            request = built(action, settings, [row.values for row in group])
        except ValueError as error:
            if len(group) > 1:  # one of them cannot be written: each alone
                for row in group:
                    yield from packed(action, settings, [row], length=length)
            else:
                yield Receipt(row=group[0].number, status="refused", reason=str(error))
            continue
        problem = _beyond(action.most_values, group[0].values, length(request)) if action.most_values else ""
        if problem:
            yield Receipt(row=group[0].number, status="refused", reason=problem)
        else:
            yield WriteRequest(rows=tuple(group), request=request)


def _batches(action: Action, rows: Iterable[Row]) -> Iterable[list[Row]]:
    """Group the rows of an action whose body is a list: rows that share all else, up to ``rows_per_request``."""
    inside = {field.name for field in action.fields if field.place == "body"} | {BODY}
    batches: list[list[Row]] = []
    open_batches: dict[str, tuple[list[Row], int]] = {}
    for row in rows:
        key = json.dumps([pair for pair in row.values.items() if pair[0] not in inside], default=str)
        size = len(row.values.get(BODY, ("one",)))
        batch, count = open_batches.get(key, ([], action.rows_per_request))
        if count + size > action.rows_per_request:
            batch, count = [], 0
            batches.append(batch)
        batch.append(row)
        open_batches[key] = batch, count + size
    return batches


def _beyond(limits: MostValues, values: Values, length: int) -> str:
    several = values.get(limits.field, ())
    if len(several) > limits.most:
        return f"{limits.field}: {len(several)} in one row, at most {limits.most} fit one request; split the row"
    if len(set(several)) < len(several):
        return f"{limits.field}: the same value twice in one row"
    if length > limits.most_url:
        return f"its URL would have {length} characters, more than {limits.most_url}; split the row"
    return ""


# --- answers --------------------------------------------------------------------------------------------------------


def decided(
    connector: Connector, action: Action, response: Response, rows: Sequence[Values]
) -> Sequence[Receipt] | Retry | Refuse:
    """
    The outcome of a response: a receipt for each row (``row``: its place in the request); Retry if nothing was captured
    and the request may be repeated; Refuse if no row of this job can be sent.

    In this order: judge and statuses of the action, those of the connector, the HTTP status and the body.
    """
    seen = f"{connector.title} answered {action.name} with HTTP"
    own, theirs, usual = (
        status_judge(seen, table, connector.reason) for table in (action.statuses, connector.statuses, _STATUSES)
    )
    meaning: Sequence[Receipt] | Verdict | _Done | None = None
    if action.judge is not None:
        meaning = action.judge(response, rows)
    for judge in (own, connector.judge, theirs, usual):
        if meaning is None and judge is not None:
            meaning = judge(response, None)
    if meaning is None:
        meaning = _by_class(connector, seen, response)
    if isinstance(meaning, Accept):
        meaning = _by_body(connector, action, response)
    if isinstance(meaning, _Done):
        return _all(rows, "done", meaning.reason, _kept(response))
    if isinstance(meaning, Skip):
        return _all(rows, "refused", meaning.reason)
    if isinstance(meaning, Refuse):
        if not isinstance(meaning.error, RefusedError):
            return meaning
        return _all(rows, "refused", str(meaning.error), _kept(response))
    if isinstance(meaning, Retry):
        if meaning.throttle or meaning.renew or meaning.correct_clock:
            return meaning
        return _all(rows, "unknown", str(meaning.error), _kept(response))
    return meaning


@frozen
class _Done:
    """The provider states that it was captured, for this reason."""

    reason: str = ""


# What a status means to a write where neither the action nor the connector has a judge or a rule for it.
_STATUSES: Mapping[int, StatusRule] = {
    **dict.fromkeys(
        (401, 403), Refusal("The credentials were refused: check those of this source.", AuthenticationError)
    ),
    **dict.fromkeys((425, 429), Throttle("Too many requests: lower requests_per_second.")),
    **dict.fromkeys((301, 307, 308), Refusal("It points elsewhere, and a write is not sent on; check base_url.")),
    408: Unavailable(_UNSURE),
}


def _by_class(connector: Connector, seen: str, response: Response) -> Verdict:
    """
    The meaning of a status without a rule. 302 and 303 may follow a write that was carried out; 5xx do not state it.
    """
    if 200 <= response.status < 300:
        return Accept()
    words = response.reason(connector.reason)
    found = f"{seen} {response.status}" + (f": {words}" if words else "")
    if 400 <= response.status < 500:
        return Refuse(RefusedError(found))
    return Unavailable(_UNSURE).verdict(found)


def _by_body(connector: Connector, action: Action, response: Response) -> _Done | Retry | Refuse:
    """The outcome of a response with a good status: done, unless the body states an error or is unreadable."""
    provider = connector.title
    if response.status == 204:
        return _Done()
    answer = response.json(exact=True)
    if answer is None and response.status == 202:
        return _Done("accepted (HTTP 202), to be carried out later")
    if answer is None:
        what = response.text(80) or "an empty body"
        return Retry(ServerError(f"{provider} answered {action.name} with HTTP {response.status}, but no JSON: {what}"))
    if answer is False:
        return Refuse(RefusedError(f"{provider} states false"))
    if not isinstance(answer, dict):
        return _Done()
    reason = reason_in(answer, (*connector.reason, "message", "errorMessage", "error", "body"), 300)
    flags = {name: flag(answer[name]) for name in ("success", "result", "failure", "statusCode") if name in answer}
    code = flags.get("statusCode")
    bad_code = isinstance(code, int) and not isinstance(code, bool) and not 200 <= code < 300
    refused = next(
        (name for name in ("success", "result") if name in flags and (flags[name] is False or flags[name] is None)),
        "failure" if flags.get("failure") is True else "statusCode" if bad_code else None,
    )
    if refused is None:
        error = next((name for name in ("errorMessage", "errors", "error") if answer.get(name)), None)
        if error is None or flags:
            return _Done(reason)
        # A good status with an error in the body: one of them is not about this write.
        seen = f"{provider} answered {action.name} with HTTP {response.status} and {error}"
        return Retry(ServerError(f"{seen}: {reason}; it may have been carried out"))
    text = f"{provider} states {refused} {json.dumps(answer[refused], default=str)}" + (f": {reason}" if reason else "")
    if bad_code and isinstance(code, int) and code >= 500:
        return Retry(ServerError(text))
    return Refuse(RefusedError(text))


def _all(rows: Sequence[Values], status: ReceiptStatus, reason: str, answer: Any = None) -> Sequence[Receipt]:
    return [Receipt(row=number, status=status, reason=reason, answer=answer) for number in range(len(rows))]


def _kept(response: Response) -> Any:
    """The body's JSON, to be stored with the receipts; None if it is no JSON or too large."""
    return response.json(exact=True) if len(response.body) <= KEPT_ANSWER_BYTES else None


def one_line(error: PenstockError) -> str:
    """An error as the reason of a receipt: one line."""
    return " ".join(str(error).split())
