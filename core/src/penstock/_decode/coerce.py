"""
One value on the slow road: what a column makes of a value that is not of its type.

What fits without loss is taken (a number's digits for a text column, digits in text for a number column); what would
lose something is refused with a reason. Nothing here is called for a record that arrives as declared.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from penstock.records import Column
from penstock.redact import clip

LARGEST_EXPONENT = 308
"""Numbers of more digits before or after the point are refused: written out they would fill the memory."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATETIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(?:[.,](\d+))?\s*(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?")
_DIGITS = re.compile(r"[+-]?\d{1,400}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)  # of JSON, and +1, 1. and .5
_TRUE_FALSE = {"true": True, "1": True, "false": False, "0": False}


class MisfitError(ValueError):
    """The value does not fit its column; the text says why."""


def coerce(column: Column, value: Any) -> Any:
    """
    ``value`` (plain JSON with exact decimals, or already of the column's type) as the column's type, or None.

    Blank text is null for every column but text and json. Raises MisfitError.
    """
    if value is None:
        return None
    if column.type == "json":
        return value
    if isinstance(value, str) and column.type != "text":
        value = value.strip()
        if not value:
            return None
    try:
        return _COERCE[column.type](column, value)
    except (ValueError, InvalidOperation, OverflowError) as error:
        if isinstance(error, MisfitError):
            raise
        raise MisfitError(f"{_shown(value)} is no {column.type}") from None


def _text(column: Column, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return str(value)
    raise MisfitError(f"expected text, got {_kind(value)}")


def _integer(column: Column, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    number = exact(value)
    if number != number.to_integral_value():
        raise MisfitError(f"{_shown(value)} is no whole number")
    return int(number)


def _decimal(column: Column, value: Any) -> Decimal:
    return exact(value)


def exact(value: Any) -> Decimal:
    """
    The number in a text, an int or a Decimal, exactly. Raises MisfitError when it cannot be written out, or when the
    text is not plain: Python takes ``1_000`` and the digits of every script, and money is not to be guessed.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise MisfitError(f"expected a number, got {_kind(value)}")
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        raise MisfitError(f"{_shown(value)} is no number")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise MisfitError(f"{_shown(value)} is no number") from None
    if not bounded(number):
        raise MisfitError(f"{_shown(value)} is no finite number of at most {LARGEST_EXPONENT} digits")
    return number


def whole(value: Any, of: str) -> Decimal:
    """The number in a text without point and exponent, or in an int; raises MisfitError. ``of`` is what it counts."""
    if isinstance(value, (str, Decimal)) and not _DIGITS.fullmatch(str(value).strip()):
        exact(value)  # what is no number at all is told as such
        raise MisfitError(f"{_shown(value)} is no whole number of {of}")
    return exact(value)


def bounded(number: Decimal) -> bool:
    """Whether the number is finite and can be written out."""
    return number.is_finite() and abs(number.adjusted()) <= LARGEST_EXPONENT


def _boolean(column: Column, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = _TRUE_FALSE.get(str(value).lower()) if isinstance(value, (str, int)) else None
    if known is None:
        raise MisfitError(f"{_shown(value)} is neither true nor false")
    return known


def _date(column: Column, value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and column.format and (day := spelled_day(value, column.format)) is not None:
        return day
    if isinstance(value, str) and _DATE.fullmatch(value):
        return date.fromisoformat(value)
    if column.format and not (isinstance(value, datetime) or _DATETIME.fullmatch(str(value))):
        raise MisfitError(f"{_shown(value)} is no day {column.format}")
    moment = value if isinstance(value, datetime) else _moment(value)
    if moment.time() != time() or (moment.tzinfo is not None and moment.utcoffset() != UTC.utcoffset(None)):
        raise MisfitError(f"{_shown(value)} is no date: it has a time, or a zone other than UTC")
    return moment.date()


@lru_cache(maxsize=4096)  # a report repeats few days many times
def spelled_day(text: str, form: str) -> date | None:
    """The day in a text of this form (of ``strptime``); None where it is of another."""
    try:
        return datetime.strptime(text, form).date()  # noqa: DTZ007  a day, in whatever zone
    except ValueError:
        return None


def _datetime(column: Column, value: Any) -> datetime:
    naive = column.zone == "naive"
    if naive and isinstance(value, str) and _DATE.fullmatch(value):
        return datetime.combine(date.fromisoformat(value), time())  # a day without its time is its start
    moment = value if isinstance(value, datetime) else _moment(value)
    if naive and moment.tzinfo is not None:
        raise MisfitError(f"{_shown(value)} has a zone, and the column has none")
    if not naive and moment.tzinfo is None:
        raise MisfitError(f"{_shown(value)} has no zone, and the column needs one")
    return moment


def _moment(value: Any) -> datetime:
    found = _DATETIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise MisfitError(f"{_shown(value)} is no date and time")
    day, minute, second, fraction, zone = found.groups(default="")
    if fraction.rstrip("0")[6:]:
        raise MisfitError(f"{_shown(value)} is finer than a microsecond")
    zone = "+00:00" if zone.upper() in ("Z", "UTC") else zone
    return datetime.fromisoformat(f"{day}T{minute}{second or ':00'}.{fraction[:6].ljust(6, '0')}{zone}")


_COERCE: dict[str, Callable[[Column, Any], Any]] = {
    "text": _text,
    "integer": _integer,
    "decimal": _decimal,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, Decimal)):
        return "a number"
    names: dict[Any, str] = {str: "text", dict: "an object", list: "an array"}
    return names.get(type(value), type(value).__name__)


def _shown(value: Any) -> str:
    return _kind(value) if isinstance(value, (dict, list)) else repr(clip(str(value), 60))


# --- days -----------------------------------------------------------------------------------------------------------


def days_of(values: list[Any], zone: tzinfo) -> list[date | None]:
    """The days of dates, times (aware ones taken to ``zone``) or texts that begin with a date."""
    if set(map(type, values)) <= {date, type(None)}:
        return values
    return [_day(value, zone) for value in values]


def _day(value: Any, zone: tzinfo) -> date | None:
    if isinstance(value, datetime):
        return (value if value.tzinfo is None else value.astimezone(zone)).date()
    if isinstance(value, str):
        try:
            return date.fromisoformat(value[:10])
        except ValueError:
            return None
    return value if isinstance(value, date) else None
