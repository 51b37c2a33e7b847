"""
Conversion of values to the type of their column: one by one, and all values of a column at once.

A value that fits without loss is converted (a number's digits for a text column, digits in text for a number column).
Any other value is refused with a reason. Values of the declared type do not pass through this module. Whole columns are
converted by C code of Python and msgspec, without a Python statement per value.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from functools import lru_cache
from types import NoneType
from typing import Annotated, Any

import msgspec
from attrs import frozen
from msgspec import Meta, ValidationError

from penstock.records import EPOCHS, Column, ColumnType
from penstock.redact import clip

LARGEST_EXPONENT = 308
"""Numbers with more digits before or after the point are refused: written out, they could fill the memory."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATETIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(?:[.,](\d+))?\s*(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+", re.ASCII)  # 1.000 is one or a thousand
_DIGITS = re.compile(r"[+-]?\d{1,400}", re.ASCII)
# A number of JSON, and +1, 1. and .5. Decimal would take 1_000 as well.
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_TRUE_FALSE = {"true": True, "1": True, "false": False, "0": False}


FIRST_MILLISECONDS = 10**11
"""A time since 1970 of the format "epoch" is in seconds below this (the year 5138), else in milliseconds."""


class MisfitError(ValueError):
    """
    The value does not fit its column; the text is the reason. The value itself is at most in what follows ``, got``:
    before it, all values that misfit alike have the same text.
    """


Misfits = dict[int, str]
"""Index of a row -> the reason why its value does not fit the column."""


@frozen(eq=False, repr=False)
class NoObject:
    """The value found in place of the object that should contain a column's value."""

    value: Any


def coerce(column: Column, value: Any) -> Any:
    """
    ``value`` (plain JSON with exact decimals, or already of the column's type) as the column's type, or None.

    Blank text is null for every column but text and json. Raises MisfitError.
    """
    if value is None or (type(value) is _TAKEN_AS_IT_IS.get(column.type) and not column.null):
        return value
    if isinstance(value, NoObject):
        member = column.path[-1] if column.path else column.member
        raise MisfitError(f"expected an object with the member {member!r}, got {_kind(value.value)}")
    if isinstance(value, str) and column.null and value.strip() in column.null:
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
        raise _misfit(f"a valid {column.type}", value) from None


_TAKEN_AS_IT_IS: dict[ColumnType, type] = {"text": str, "integer": int, "boolean": bool, "date": date}


def _text(column: Column, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return digits_of(value)
    raise MisfitError(f"expected text, got {_kind(value)}")


def _integer(column: Column, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and column.number:
        value = plain_number(value, column.number)
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, str) and _THOUSANDS.fullmatch(value):
        advice = ", which may be thousands or a fraction: declare the column's number format"
        raise _misfit("a number of one meaning", value, advice)
    number = exact(value)
    if number != number.to_integral_value():
        raise _misfit("a whole number", value)
    return int(number)


def _decimal(column: Column, value: Any) -> Decimal:
    return exact(plain_number(value, column.number) if isinstance(value, str) and column.number else value)


def plain_number(text: str, format_: str) -> str:
    """The number in ``text``, written as ``format_`` (of ``NUMBER_FORMATS``), in plain digits. Raises MisfitError."""
    number = re.sub(r"[\u00a0\u202f]", " ", text).strip()
    negative = number.startswith("(") and number.endswith(")")
    number = "".join(sign for sign in number.strip("()") if unicodedata.category(sign) != "Sc").strip()
    number = number.replace("\u2212", "-")
    if number[-1:] in ("-", "+"):
        number = number[-1] + number[:-1].strip()
    sign = number[:1] if number[:1] in ("-", "+") else ""
    digits = number.removeprefix(sign).strip()
    if _number_pattern(format_).fullmatch(digits) is None or (negative and sign):
        raise _misfit(f"a number such as {format_}", text)
    thousands, point = _separators(format_)
    plain = digits.replace(thousands, "") if thousands else digits
    return ("-" if negative else sign) + plain.replace(point, ".")


def _separators(format_: str) -> tuple[str, str]:
    """The separators of thousands (may be empty) and of decimals."""
    return (format_[1] if not format_[1].isdigit() else ""), format_[-2]


@lru_cache
def _number_pattern(format_: str) -> "re.Pattern[str]":
    thousands, point = map(re.escape, _separators(format_))
    grouped = rf"\d{{1,3}}(?:{thousands}\d{{2,3}})*{thousands}\d{{3}}|" if thousands else ""
    return re.compile(rf"(?:{grouped}\d+)(?:{point}\d*)?|{point}\d+", re.ASCII)


def exact(value: Any) -> Decimal:
    """
    The number in a text, an int or a Decimal, exactly.

    Raises MisfitError if it cannot be written out, or if the text is not plain: Python accepts ``1_000`` and the digits
    of every script, which are ambiguous for money.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise MisfitError(f"expected a number, got {_kind(value)}")
    if isinstance(value, str) and not NUMBER.fullmatch(value.strip()):
        raise _misfit("a number", value)
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise _misfit("a number", value) from None
    if not is_bounded(number):
        raise _misfit(f"a finite number of at most {LARGEST_EXPONENT} digits", value)
    return number


def digits_of(number: int | Decimal) -> str:
    """A number as text without an exponent, which ``str`` writes for 0.0000001 and 1e3; as it is if too long."""
    return format(number, "f") if isinstance(number, Decimal) and is_bounded(number) else str(number)


def whole_number(value: Any, of: str) -> Decimal:
    """The number in a text without point and exponent, or in an int; raises MisfitError. ``of``: its unit."""
    if isinstance(value, (str, Decimal)) and not _DIGITS.fullmatch(str(value).strip()):
        exact(value)  # raises with a message of its own for a value that is no number
        raise _misfit(f"a whole number of {of}", value)
    return exact(value)


def is_bounded(number: Decimal) -> bool:
    """Whether the number is finite and can be written out."""
    return number.is_finite() and abs(number.adjusted()) <= LARGEST_EXPONENT


def _boolean(column: Column, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower() if isinstance(value, (str, int)) else ""
    if word in map(str.lower, column.true):
        return True
    if word in map(str.lower, column.false):
        return False
    truth = _TRUE_FALSE.get(word)
    if truth is None:
        raise _misfit("true or false", value)
    return truth


def _date(column: Column, value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and column.format and (written := moment_in(value, column.format)) is not None:
        return written.date()
    if isinstance(value, str) and _DATE.fullmatch(value):
        return date.fromisoformat(value)
    if column.format and not (isinstance(value, datetime) or _DATETIME.fullmatch(str(value))):
        raise _misfit(f"a day {column.format}", value)
    moment = value if isinstance(value, datetime) else _moment(value)
    if moment.time() != time() or (moment.tzinfo is not None and moment.utcoffset() != UTC.utcoffset(None)):
        raise _misfit("a date without a time, and without a zone other than UTC", value)
    return moment.date()


def _datetime(column: Column, value: Any) -> datetime:
    if column.format in EPOCHS:
        return since_epoch(exact(value), column.format)
    naive = column.zone == "naive"
    if isinstance(value, str) and column.format and (written := moment_in(value, column.format)) is not None:
        return written
    if naive and isinstance(value, str) and _DATE.fullmatch(value):
        return datetime.combine(date.fromisoformat(value), time())  # a day without its time is its start
    moment = value if isinstance(value, datetime) else _moment(value)
    if naive and moment.tzinfo is not None:
        raise _misfit("a time without a zone, as the column has none", value)
    if not naive and moment.tzinfo is None:
        raise _misfit("a time with a zone, as the column needs one", value)
    return moment


@lru_cache(maxsize=4096)  # a report repeats few days many times
def moment_in(text: str, format_: str) -> datetime | None:
    """The day or time in a text of this format (of ``strptime``); None for a text of another format."""
    try:
        return datetime.strptime(text, format_)  # noqa: DTZ007  of a time, the format has a zone where the column has
    except ValueError:
        return None


def since_epoch(number: Decimal, format_: str) -> datetime:
    """The time in UTC for seconds or milliseconds since 1970. Digits finer than a microsecond are cut."""
    if format_ == "epoch":
        format_ = "epoch_s" if abs(number) < FIRST_MILLISECONDS else "epoch_ms"
    micros = number.scaleb(6 if format_ == "epoch_s" else 3).to_integral_value(ROUND_FLOOR)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(micros))


def _moment(value: Any) -> datetime:
    match = _DATETIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        digits = isinstance(value, str) and re.fullmatch(r"\d{9,16}", value.strip())
        counted = '; if it counts from 1970, declare format="epoch_ms", or "epoch_s"' if digits else ""
        raise _misfit("a date and time", value, counted)
    day, minute, second, fraction, zone = match.groups(default="")
    zone = "+00:00" if zone.upper() in ("Z", "UTC") else zone
    return datetime.fromisoformat(f"{day}T{minute}{second or ':00'}.{fraction[:6].ljust(6, '0')}{zone}")


_COERCE: dict[ColumnType, Callable[[Column, Any], Any]] = {
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


def _misfit(expected: str, value: Any, advice: str = "") -> MisfitError:
    return MisfitError(f"expected {expected}, got {_quoted(value)}{advice}")


def _quoted(value: Any) -> str:
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


# --- whole columns -------------------------------------------------------------------------------------------------


# A text of at most 26 signs has no fraction finer than a microsecond: 2026-01-31T23:59:59.999999
MICROSECOND_SIGNS = 26

_FINER = re.compile(r"(\d\d:\d\d:\d\d\.\d{6})\d+")


def is_converted(column: Column) -> bool:
    """Whether the values of this column are decoded as they are, and then converted by this module."""
    return column.type in ("decimal", "datetime") or bool(column.path) or _has_form(column)


def _has_form(column: Column) -> bool:
    """Whether its values are written in a format that C code does not parse."""
    return bool(column.format or column.null or column.true or column.false or column.number)


def reason_of_null(column: Column) -> str:
    """Why a required column has no value. A nested member that is missing and one that is null are alike."""
    return "it is missing or null" if column.path else "it is null"


def converter_of(column: Column) -> "Converter":
    """What converts all values of a column at once."""
    return _distinct if _has_form(column) else _CONVERT.get(column.type, _distinct)


def converted(column: Column, values: list[Any], convert: "Converter") -> tuple[list[Any], Misfits]:
    """
    The values as the column's type (the same list if they are of that type), null in place of those that do not fit;
    and why these do not. ``convert``: of :func:`converter_of`.
    """
    try:
        return convert(column, values), {}
    except (MisfitError, TypeError, ValueError, InvalidOperation, ValidationError):
        return _one_at_a_time(column, values)


def _one_at_a_time(column: Column, values: list[Any]) -> tuple[list[Any], Misfits]:
    typed: list[Any] = []
    misfits: Misfits = {}
    for index, value in enumerate(values):
        try:
            typed.append(coerce(column, value))
            if typed[-1] is None and not column.nullable:
                misfits[index] = reason_of_null(column)
        except MisfitError as misfit:
            typed.append(None)
            misfits[index] = str(misfit)
    return typed, misfits


def _decimals(column: Column, values: list[Any]) -> list[Any]:
    types = set(map(type, values))
    if NoneType in types and column.nullable:
        present = [value for value in values if value is not None]
        typed = _decimals(column, present)
        numbers = iter(typed)
        return values if typed is present else [None if value is None else next(numbers) for value in values]
    if types <= {Decimal}:
        return check_bounds(values)
    if types <= {str}:
        return check_bounds(exact_all(values))
    if types <= {int, Decimal}:
        return check_bounds(list(map(Decimal, values)))
    raise TypeError("numbers of several kinds")


def check_bounds(numbers: list[Decimal]) -> list[Decimal]:
    """The same numbers. Raises ValueError unless each can be written out."""
    exponents = set(map(Decimal.adjusted, numbers))
    largest, least = max(exponents, default=0), min(exponents, default=0)
    if not (all(map(Decimal.is_finite, numbers)) and -LARGEST_EXPONENT <= least <= largest <= LARGEST_EXPONENT):
        raise ValueError("beyond all bounds")
    return numbers


def exact_all(texts: list[str]) -> list[Decimal]:
    """
    The numbers in texts at once, not bounded. Raises TypeError, ValueError or InvalidOperation unless all are plain
    texts with a number.
    """
    joined = "".join(texts)
    if not joined.isascii() or "_" in joined:
        raise ValueError("not plain")
    return list(map(Decimal, texts))


def whole_numbers(texts: list[str]) -> list[Decimal]:
    """Like :func:`exact_all`, of digits only."""
    joined = "".join(texts)
    if not (joined.isascii() and joined.isdigit()):
        raise ValueError("not digits only")
    return list(map(Decimal, texts))


def _moments(column: Column, values: list[Any]) -> list[Any]:
    texts = list(filter(None, values))
    if max(map(len, texts), default=0) > MICROSECOND_SIGNS:
        # Cut, never rounded: a nanosecond before midnight is of the day before.
        values = [value and _FINER.sub(r"\1", value) for value in values]
    moment = Annotated[datetime, Meta(tz=column.zone == "aware")]
    return msgspec.convert(values, list[moment | None] if column.nullable else list[moment])


def _distinct(column: Column, values: list[Any]) -> list[Any]:
    """Convert each distinct value once: a report has few days in many rows."""
    if column.type == "json":
        return values
    keys = list(zip(map(type, values), values, strict=True))  # True and 1 are equal, and not the same
    typed = {key: coerce(column, key[1]) for key in set(keys)}
    if not column.nullable and None in typed.values():
        raise MisfitError(reason_of_null(column))
    return list(map(typed.__getitem__, keys))


Converter = Callable[[Column, list[Any]], list[Any]]

_CONVERT: dict[str, Converter] = {"decimal": _decimals, "datetime": _moments}
