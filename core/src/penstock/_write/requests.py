"""
Rows of typed values to requests. Nothing is sent here.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from attrs import evolve, frozen

from penstock._decode.conversion import digits_of
from penstock._write.parameters import BODY, members_of
from penstock.actions import Action, MostValues, Values
from penstock.model import EXACT_JSON, Receipt, Request
from penstock.templates import fill_path


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


def endpoint_of(action: Action, settings: Any) -> tuple[str, str]:
    """Method and path template of an action, for these settings."""
    return action.endpoint(settings) if action.endpoint is not None else (action.method, action.path)


def destination(action: Action, settings: Any) -> str:
    """The address of an action for these settings, its row's values still names in braces, without a query."""
    return str(settings.base_url).rstrip("/") + endpoint_of(action, settings)[1].partition("?")[0]


def build_request(action: Action, settings: Any, rows: Sequence[Values]) -> Request:
    """
    The one request for these rows, unsigned. ValueError where the values cannot be written as JSON.

    Rows of one request differ only in what the action lets them differ in.
    """
    first = rows[0]
    method, path = endpoint_of(action, settings)
    url = settings.base_url.rstrip("/") + fill_path(path, first)
    params: list[tuple[str, str]] = []
    headers: list[tuple[str, str]] = []
    for field in action.fields:
        values = [first.get(field.name)]
        if field.repeated:
            values = [value for row in rows for value in row.get(field.name, ())]
        pairs = [(field.member, _written(value)) for value in values if value is not None]
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
    whole_body = next((field for field in action.fields if field.place == "whole_body"), None)
    if whole_body is not None:
        return rows[0].get(whole_body.name)
    if action.bulk:
        elements = [element for row in rows for element in (row[BODY] if BODY in row else [members_of(action, row)])]
        return {action.rows_member: elements} if action.rows_member else elements
    if BODY in rows[0]:
        return rows[0][BODY]
    has_body = any(field.place == "body" for field in action.fields) or action.open_body
    return members_of(action, rows[0]) if has_body else None


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return digits_of(value) if isinstance(value, Decimal) else str(value)


def _encoded(value: Any) -> bytes:
    try:
        return EXACT_JSON.encode(value)
    except (TypeError, OverflowError, RecursionError, UnicodeEncodeError, msgspec.MsgspecError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None


def pack_rows(
    action: Action, settings: Any, rows: Iterable[Row], *, length: Callable[[Request], int]
) -> Iterator[WriteRequest | Receipt]:
    """
    The rows in requests, in the order of their first rows; a receipt for a row that no request can carry.

    ``length``: characters of a request's URL as sent.
    """
    for group in _batches(action, rows) if action.bulk else ([row] for row in rows):
        try:
            request = build_request(action, settings, [row.values for row in group])
        except ValueError as error:
            if len(group) > 1:  # one of them cannot be written: each alone
                for row in group:
                    yield from pack_rows(action, settings, [row], length=length)
            else:
                yield Receipt(row=group[0].number, status="refused", reason=str(error))
            continue
        problem = ""
        if action.most_values is not None:
            problem = _beyond(action.most_values, group[0].values, length(request))
        elif action.bulk and (objects := len(group[0].values.get(BODY, ()))) > action.rows_per_request:
            problem = f"{BODY}: {objects} in one row, at most {action.rows_per_request} fit one request; split the row"
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
    field_values = values.get(limits.field, ())
    if len(field_values) > limits.most:
        return f"{limits.field}: {len(field_values)} in one row, at most {limits.most} fit one request; split the row"
    if len(set(field_values)) < len(field_values):
        return f"{limits.field}: the same value twice in one row"
    if length > limits.most_url:
        return f"its URL would have {length} characters, more than {limits.most_url}; split the row"
    return ""
