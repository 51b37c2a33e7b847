"""
The rules by which texts of a sample are days, times, numbers or words: a table, of which the first that fits decides.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from attrs import evolve
from penstock import NUMBER_FORMATS

from penstock_plugins.scaffold.guess import COUNT, ID, MONEY, TIME, Guess, Kind

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_CLOCK = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([.,]\d+)?\s*"
_ZONE = r"(Z|z|UTC|[+-]\d\d(:?\d\d)?)"
_INTEGER = re.compile(r"-?(0|[1-9]\d*)")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)|-?\d+\.\d+")
_AMBIGUOUS = re.compile(r"\d+/(0?[1-9]|1[0-2])/.*")  # the second number may be a month

# Numbers in text: of each of NUMBER_FORMATS the separators of thousands and of decimals, as patterns.
_SEPARATORS = {"1,234.5": (",", r"\."), "1.234,5": (r"\.", ","), "1 234,5": (" ", ","), "1'234.5": ("'", r"\.")}


def format_of_numbers(columns: Iterable[Sequence[Any]]) -> str:
    """
    The format of all numbers of the sample, if one number has separators of thousands and of decimals; else "". In a
    sample with such a format ``2.264`` is no decimal number.
    """
    texts = [_digits(value) for values in columns for value in values if isinstance(value, str) and len(value) < 40]
    for format_, (thousands, point) in _SEPARATORS.items():
        clear = re.compile(rf"\d{{1,3}}({thousands}\d{{3}})+{point}\d+")
        if any(clear.fullmatch(text) for text in texts):
            return format_
    return ""


def _digits(value: str) -> str:
    """A number without sign, brackets and currency; a text of anything else stays one."""
    return re.sub(r"^[-+(]?\s?([$€£¥]|[A-Z]{3}\b)?\s?[-+]?|\s?([$€£¥%]|\b[A-Z]{3})?[-)]?$", "", value.strip())


class _TextRule(NamedTuple):
    """
    A rule for a member whose values are texts: its column has ``type``, ``options`` and ``notes`` if every value
    matches ``values`` and has the ``format`` of a day or a time, and if its name contains ``name``. ``reduced``: what
    of a value must match. ``csv``: the rule is for CSV only.
    """

    type: Kind
    values: "re.Pattern[str] | None" = None
    format: str = ""
    name: "re.Pattern[str] | None" = None
    csv: bool = False
    reduced: Callable[[str], str] = str
    options: Mapping[str, Any] = MappingProxyType({})
    notes: tuple[str, ...] = ()

    def fits(self, name: str, values: Sequence[str], *, is_csv: bool) -> bool:
        return (
            (is_csv or not self.csv)
            and (self.name is None or self.name.search(name) is not None)
            and (self.values is None or all(map(self.values.fullmatch, map(self.reduced, values))))
            and (not self.format or all(_has_format(value, self.format) for value in values))
        )


def _day_rule(format_: str, **more: Any) -> _TextRule:
    return _TextRule("date", format=format_, options={"format": format_}, **more)


def _time_rule(format_: str, **more: Any) -> _TextRule:
    return _TextRule("datetime", format=format_, options={"format": format_, "zone": "naive"}, **more)


_UNSURE = ("month or day first?",)

# The first rule that fits decides; then those of ``_number_rules``, then those of ``_OTHER_NUMBERS``.
_DAYS_AND_WORDS = (
    _TextRule("date", values=_DATE),
    _TextRule("datetime", values=re.compile(_CLOCK + _ZONE)),
    _TextRule("datetime", values=re.compile(_CLOCK), options={"zone": "naive"}),
    _TextRule("str", values=re.compile(f"{_CLOCK}{_ZONE}?")),  # some with a zone, some without
    _day_rule("%m/%d/%Y", values=_AMBIGUOUS, notes=_UNSURE),
    _day_rule("%m/%d/%Y"),
    _day_rule("%d/%m/%Y", notes=_UNSURE),
    _day_rule("%d.%m.%Y"),
    _day_rule("%Y/%m/%d"),
    _day_rule("%Y%m%d", name=TIME),
    _time_rule("%m/%d/%Y %H:%M:%S", values=_AMBIGUOUS, notes=_UNSURE),
    _time_rule("%m/%d/%Y %H:%M:%S"),
    _time_rule("%d.%m.%Y %H:%M"),
    _day_rule("%d %b %Y"),
    _TextRule("str", name=ID),
    _TextRule("bool", values=re.compile("(?i)true|false")),
    _TextRule("Decimal", values=_INTEGER, name=MONEY),
    _TextRule("int", values=_INTEGER, csv=True),
    _TextRule("int", values=_INTEGER, name=COUNT),
    _TextRule("str", values=_INTEGER),
)


def _number_rules(format_: str) -> tuple[_TextRule, ...]:
    """The rules for numbers in the format of the sample."""
    thousands, point = _SEPARATORS[format_]
    whole = rf"\d{{1,3}}({thousands}\d{{3}})+|\d+"
    rule = _TextRule("Decimal", reduced=_digits, options={"number": format_}, notes=_WRITTEN)
    number = rule._replace(values=re.compile(rf"({whole})({point}\d+)?"))
    return (number._replace(name=MONEY), rule._replace(type="int", values=re.compile(whole)), number)


def _without_signs(value: str) -> str:
    """A number for people without currency and signs; an id such as ``txn_3Mx`` as it is."""
    if "_" in value or len(re.findall(r"[^\W\d]+", value)) > 1:
        return value
    return re.sub(r"[^\d.,' ]", "", value).strip()


_WRITTEN = ("how numbers are written",)
_AMOUNT_OR_COUNT = re.compile(f"{MONEY.pattern}|{COUNT.pattern}")

# A guess between two readings of a number for people keeps the text.
_OTHER_NUMBERS = (
    _TextRule("Decimal", values=_NUMBER),
    *(
        _TextRule(
            "Decimal",
            values=re.compile(pattern),
            name=_AMOUNT_OR_COUNT,
            reduced=_without_signs,
            options={"number": format_},
            notes=_WRITTEN,
        )
        for format_, pattern in zip(
            NUMBER_FORMATS[:2], (r"\d{1,3}(,\d{3})*(\.\d{1,2})?", r"\d{1,3}(\.\d{3})*(,\d{1,2})?"), strict=True
        )
    ),
)


def infer_texts(guess: Guess, values: Sequence[str], *, is_csv: bool, number_format: str) -> Guess:
    for rule in (*_DAYS_AND_WORDS, *(_number_rules(number_format) if number_format else ()), *_OTHER_NUMBERS):
        if rule.fits(guess.name, values, is_csv=is_csv):
            return evolve(guess, type=rule.type, options=dict(rule.options), notes=rule.notes)
    return guess


def _has_format(value: str, format_: str) -> bool:
    try:
        datetime.strptime(value, format_)  # noqa: DTZ007  only whether it fits
    except ValueError:
        return False
    return True
