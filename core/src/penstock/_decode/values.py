"""
Conversion of all values of a column at once, by C code of Python and msgspec, without a Python statement per value.
"""

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from types import NoneType
from typing import Annotated, Any

import msgspec
from msgspec import Meta, ValidationError

from penstock._decode.coerce import LARGEST_EXPONENT, MisfitError, Misfits, coerce
from penstock.records import Column

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


def converted(column: Column, values: list[Any]) -> tuple[list[Any], Misfits]:
    """
    The values as the column's type (the same list if they are of that type), null in place of those that do not fit;
    and why these do not.
    """
    convert = _distinct if _has_form(column) else _CONVERT.get(column.type, _distinct)
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
        return all_bounded(values)
    if types <= {str}:
        return all_bounded(exact_all(values))
    if types <= {int, Decimal}:
        return all_bounded(list(map(Decimal, values)))
    raise TypeError("numbers of several kinds")


def all_bounded(numbers: list[Decimal]) -> list[Decimal]:
    """The numbers, if each can be written out; else ValueError."""
    exponents = set(map(Decimal.adjusted, numbers))
    most, least = max(exponents, default=0), min(exponents, default=0)
    if not (all(map(Decimal.is_finite, numbers)) and -LARGEST_EXPONENT <= least <= most <= LARGEST_EXPONENT):
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


def whole_all(texts: list[str]) -> list[Decimal]:
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


_CONVERT: dict[str, Callable[[Column, list[Any]], list[Any]]] = {"decimal": _decimals, "datetime": _moments}
