"""
The record class of a sample: columns with types, key and day, guessed from names and values.

A guess that a person must confirm carries a note, which becomes a comment ``# review: ...`` behind its column.
"""

import keyword
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import combinations
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from attrs import evolve, field, frozen
from penstock import NUMBER_FORMATS, UsageError, camel, snake

from penstock_plugins.scaffold.code import literal
from penstock_plugins.scaffold.sample import Record, Sample, is_personal, is_secret

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_CLOCK = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([.,]\d+)?\s*"
_ZONE = r"(Z|z|UTC|[+-]\d\d(:?\d\d)?)"
_INTEGER = re.compile(r"-?(0|[1-9]\d*)")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)|-?\d+\.\d+")
_AMBIGUOUS = re.compile(r"\d+/(0?[1-9]|1[0-2])/.*")  # the second number may be a month
_NULLS = ("--", "-", "N/A", "n/a", "NULL", "null", "0000-00-00")

_MONEY = re.compile(
    r"(^|_)(price|amount|cost|costs|revenue|spend|spent|fees?|commission|payout|balance|budget|bid|cp[acmliv]|e_?cpm|"
    r"earnings?|salary|value|sales_amount|order_value|gross|net|tax|vat|subtotal|discount|refund|turnover|"
    r"preis|betrag|kosten|ausgaben|umsatz|provision|verguetung|montant|prix|depenses?|ingresos|gastos?|coste|importe)(_|$)"
)
_RATE = re.compile(
    r"(^|_)(cp[acmliv]|e_?cpm|ctr|cvr|rate|ratio|avg|average|bid|budget|balance|percent\w*|position)(_|$)"
)
_COUNT = re.compile(
    r"(^|_)(clicks|impressions|conversions|views|installs|leads|orders|sales|applies|applications|quantity|visits|"
    r"sessions|hires|klicks|impressionen|clics|impresiones)$"
)
_ID = re.compile(r"(^|_)(id|uuid|guid|key|code|reference|ref|number)$")
_TIME = re.compile(
    r"(^|_)(at|time|date|day|timestamp|ts|on|created|updated|modified|epoch|unix)(_(ms|millis|milliseconds|s|seconds|utc))?$"
)
_STATE = re.compile(r"(^|_)(status|state|stage|phase)$")  # what a provider changes: never a part of a key
# Numbers in text: of each of NUMBER_FORMATS the separators of thousands and of decimals, as patterns.
_SEPARATORS = {"1,234.5": (",", r"\."), "1.234,5": (r"\.", ","), "1 234,5": (" ", ","), "1'234.5": ("'", r"\.")}
# Codes that a column of currencies has; others are recognised by the column's name.
_CURRENCIES = re.compile(
    "AED|ARS|AUD|BGN|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|HKD|HUF|IDR|ILS|INR|ISK|JPY|KRW|MXN|MYR|NOK|NZD|PEN|"
    "PHP|PLN|RON|RSD|RUB|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)
_EPOCH_S, _EPOCH_MS = range(10**9, 4 * 10**9), range(10**12, 4 * 10**12)

# Names that a class body of columns would take away from its own annotations and calls.
_TAKEN = {
    *keyword.kwlist,
    *("str", "int", "bool", "datetime", "decimal", "json"),
    *("added", "column", "derived", "money", "personal", "record", "row_key", "secret"),
}

Kind = Literal["str", "int", "Decimal", "bool", "date", "datetime", "Json"]


@frozen(kw_only=True)
class Guess:
    """One column: its name, type, options, and what is to be reviewed."""

    name: str
    member: str
    type: Kind
    call: str = "column"  # the function that declares it, with its arguments
    path: str = ""
    options: Mapping[str, Any] = field(factory=dict)
    nullable: bool = False
    notes: tuple[str, ...] = ()
    within: str = ""  # the object of each record that has the member

    @property
    def format(self) -> str:
        """The form of a day or a time, as ``column(format=...)`` takes it."""
        return str(self.options.get("format", ""))

    def line(self) -> str:
        """Its line in the record class."""
        path, options = self.path, dict(self.options)
        if self.within and self.call == "money":
            path = f"{self.within}.{path or self.member}"
            options |= {"currency": f"{self.within}.{options['currency']}"} if "currency" in options else {}
        elif self.within:
            options = {"path": f"{self.within}.{options.pop('member', self.member)}", **options}
        named = [f"{name}={literal(value)}" for name, value in options.items()]
        arguments = ", ".join([*([literal(path)] if path else []), *named])
        default = f"{self.call}({arguments})" if arguments or self.call != "column" else ""
        if self.type == "Json" and not default:
            default = "None"
        annotation = f"{self.name}: {self.type}{' | None' if self.nullable and self.type != 'Json' else ''}"
        notes = f"  # review: {'; '.join(self.notes)}" if self.notes else ""
        return annotation + (f" = {default}" if default else "") + notes


@frozen(kw_only=True)
class Guesses:
    """The record class of a sample. ``key`` are columns; none: the rows get a hash of ``hashed``."""

    columns: tuple[Guess, ...]
    camel: bool
    key: tuple[str, ...]
    hashed: tuple[str, ...]
    day: Guess | None

    def column(self, name: str) -> Guess:
        return next(column for column in self.columns if column.name == name)


def guess_columns(
    sample: Sample, stream: str, *, report: bool, key: Sequence[str] = (), day: str | None = None
) -> Guesses:
    """
    The columns of a sample, its key and, of a report, the column of its day. ``key`` and ``day`` name the user's own
    choice, by column or member. Raises UsageError for a name that is none of the sample's.
    """
    is_camel = sum(camel(snake(member)) == member for member in sample.members) > sum(
        snake(member) == member for member in sample.members
    )
    columns = _columns(sample, is_camel=is_camel)
    day_column = _named(columns, [day])[0] if day else _day(columns) if report else None
    chosen = tuple(column.name for column in _named(columns, key)) or _key(columns, sample.records, stream, day_column)
    for at, column in enumerate(columns):
        if column.name in chosen:
            notes = column.notes if key else (*column.notes, "part of the key")
            columns[at] = evolve(column, nullable=False, notes=notes)
        elif day_column is not None and column.name == day_column.name and not day:
            columns[at] = evolve(column, notes=(*column.notes, "the day of a record"))
    scalars = tuple(column.name for column in columns if column.type != "Json" and column.call != "secret")
    return Guesses(
        columns=tuple(columns),
        camel=is_camel,
        key=chosen,
        hashed=() if chosen else scalars,
        day=next((column for column in columns if day_column is not None and column.name == day_column.name), None),
    )


def _columns(sample: Sample, *, is_camel: bool) -> list[Guess]:
    """A column of each member of the sample, in their order."""
    values = {member: [record.get(member) for record in sample.records] for member in sample.members}
    currencies = [member for member in sample.members if re.search(r"(^|_)currency(_code)?$", snake(member))]
    currencies += [member for member in sample.members if _are_currencies(values[member])]
    number_format = _number_format(values.values())
    columns: list[Guess] = []
    for member in sample.members:
        column = _column(member, values[member], is_csv=sample.format == "csv", number_format=number_format)
        column = evolve(column, within=sample.within if member in sample.inner else "")
        beside = [name for name in currencies if (name in sample.inner) == (member in sample.inner)]
        columns.append(_with_member(_with_currency(column, beside), columns, is_camel=is_camel))
    return columns


def _with_currency(column: Guess, currencies: Sequence[str]) -> Guess:
    """An amount as money in the currency beside it."""
    is_amount = _MONEY.search(column.name) or re.search(r"(^|_)total$", column.name)
    if column.call != "column" or column.type != "Decimal" or not is_amount or not currencies:
        return column
    options = {name: value for name, value in column.options.items() if name != "additive"}
    return evolve(
        column,
        call="money",
        path=column.member,
        options={"currency": currencies[0], **_rate_option(column.name), **options},
        notes=tuple(note for note in column.notes if not note.startswith("money;")),
    )


def _with_member(column: Guess, former: Sequence[Guess], *, is_camel: bool) -> Guess:
    """The column under a free name, with its member where that does not follow from the name."""
    name = _free_name(column.name, former)
    if column.call == "money":
        return evolve(column, name=name, path=column.path or column.member)
    if (camel(name) if is_camel else name) != column.member:
        return evolve(column, name=name, options={"member": column.member, **column.options})
    return evolve(column, name=name)


def _rate_option(name: str) -> dict[str, bool]:
    """The option of an amount that must not be summed."""
    return {"additive": False} if _RATE.search(name) else {}


def _free_name(name: str, columns: Iterable[Guess]) -> str:
    """A column's name that is no word of Python's, no type, and not taken."""
    if name == "date":
        name = "day"
    if name in _TAKEN:
        name += "_value"
    taken = {column.name for column in columns}
    return next(free for free in (name, *(f"{name}_{number}" for number in range(2, 1000))) if free not in taken)


def _named(columns: Sequence[Guess], names: Sequence[str | None]) -> list[Guess]:
    named = []
    for name in names:
        column = next((column for column in columns if name in (column.name, column.member)), None)
        if column is None:
            raise UsageError(f"the sample has no member {name!r}. There are {', '.join(c.name for c in columns)}")
        named.append(column)
    return named


# --- one column -----------------------------------------------------------------------------------------------------


def _are_currencies(values: Iterable[Any]) -> bool:
    present = [value for value in values if value not in (None, "")]
    return bool(present) and all(isinstance(value, str) and _CURRENCIES.fullmatch(value) for value in present)


def _number_format(columns: Iterable[Sequence[Any]]) -> str:
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


def _column(member: str, values: Sequence[Any], *, is_csv: bool, number_format: str) -> Guess:
    name = snake(member)
    guess = Guess(name=name, member=member, type="str")
    blanks = {value for value in values if isinstance(value, str) and value in _NULLS}
    present = [value for value in values if value is not None and not _is_blank(value)]
    guess = evolve(guess, nullable=len(present) < len(values))
    if not present:
        return evolve(guess, nullable=True, notes=("empty in every record of the sample",))
    guess = _typed(guess, present, is_csv=is_csv, number_format=number_format)
    if blanks and guess.type not in ("str", "Json"):
        guess = evolve(guess, options={**guess.options, "null": tuple(sorted(blanks))})
    elif any(isinstance(value, str) and value == "" for value in values) and guess.type == "str" and not is_csv:
        guess = evolve(guess, nullable=any(value is None for value in values))
    if guess.type == "str" and is_secret(member):
        return evolve(guess, call="secret", notes=("never delivered",))
    if guess.call == "column" and is_personal(member) and not _COUNT.search(name):
        return evolve(guess, call="personal")
    if guess.call == "column" and guess.type in ("int", "Decimal"):
        return _summed(guess)
    return guess


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and (not value.strip() or value in _NULLS)


def _summed(guess: Guess) -> Guess:
    is_money = guess.type == "Decimal" and _MONEY.search(guess.name) is not None
    if not is_money and not _COUNT.search(guess.name):
        return guess
    additive = {} if _RATE.search(guess.name) else {"additive": True}
    notes = ('money; add its currency, unit="USD"',) if is_money and "number" not in guess.options else ()
    return evolve(guess, options={**guess.options, **additive}, notes=(*guess.notes, *notes))


def _typed(guess: Guess, values: Sequence[Any], *, is_csv: bool, number_format: str) -> Guess:
    """The column with the type that fits all values."""
    kinds = frozenset(map(type, values))
    if kinds == {dict}:
        return _infer_objects(guess, values)
    if kinds == {str}:
        return _infer_texts(guess, values, is_csv=is_csv, number_format=number_format)
    if kinds == {int}:
        return _infer_integers(guess, values)
    type_, notes = _TYPES_OF_VALUES.get(kinds, ("Json", ()))
    return evolve(guess, type=type_, notes=notes)


# The types of a member's values in a sample -> the type of the column, and what is to be reviewed.
_TYPES_OF_VALUES: Mapping[frozenset[type], tuple[Kind, tuple[str, ...]]] = {
    frozenset({bool}): ("bool", ()),
    frozenset({Decimal}): ("Decimal", ()),
    frozenset({int, Decimal}): ("Decimal", ()),
    frozenset({str, int}): ("str", ("text and numbers",)),
}


def _infer_objects(guess: Guess, values: Sequence[dict[str, Any]], at: str = "") -> Guess:
    """An amount with its currency, also where it alone is in further objects, else a nested value."""
    at = at or guess.member
    members = {member for value in values for member in value}
    if len(members) == 1 and all(isinstance(inner, dict) for value in values for inner in value.values()):
        (inner,) = members
        return _infer_objects(guess, [value[inner] for value in values if inner in value], f"{at}.{inner}")
    amount = next((member for member in ("value", "amount") if member in members), None)
    codes = sorted(member for member in members if _are_currencies(value.get(member) for value in values))
    currency = next(
        (member for member in ("currency", "currencyCode", "currency_code", *codes) if member in members), None
    )
    if amount is None or currency is None:
        return evolve(guess, type="Json")
    path = "" if at == guess.member else at
    if (amount, currency) == ("value", "currency"):
        return evolve(guess, type="Decimal", call="money", path=path, options=_rate_option(guess.name))
    options = {"currency": f"{at}.{currency}", **_rate_option(guess.name)}
    return evolve(guess, type="Decimal", call="money", path=f"{at}.{amount}", options=options)


def _infer_integers(guess: Guess, values: Sequence[int]) -> Guess:
    for format_, span in (("epoch_s", _EPOCH_S), ("epoch_ms", _EPOCH_MS)):
        if _TIME.search(guess.name) and all(value in span for value in values):
            return evolve(guess, type="datetime", options={"format": format_}, notes=("a time, in UTC",))
    is_money = _MONEY.search(guess.name) and not _ID.search(guess.name)
    return evolve(guess, type="Decimal" if is_money else "int")


# --- texts ----------------------------------------------------------------------------------------------------------


class _TextRule(NamedTuple):
    """
    A rule for a member whose values are texts: its column has ``type``, ``options`` and ``notes`` if every value
    matches ``values`` and has the ``format`` of a day or a time, and if its name contains ``name``. ``part``: what of a
    value must match. ``csv``: the rule is for CSV only.
    """

    type: Kind
    values: "re.Pattern[str] | None" = None
    format: str = ""
    name: "re.Pattern[str] | None" = None
    csv: bool = False
    part: Callable[[str], str] = str
    options: Mapping[str, Any] = MappingProxyType({})
    notes: tuple[str, ...] = ()

    def fits(self, name: str, values: Sequence[str], *, is_csv: bool) -> bool:
        return (
            (is_csv or not self.csv)
            and (self.name is None or self.name.search(name) is not None)
            and (self.values is None or all(map(self.values.fullmatch, map(self.part, values))))
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
    _day_rule("%Y%m%d", name=_TIME),
    _time_rule("%m/%d/%Y %H:%M:%S", values=_AMBIGUOUS, notes=_UNSURE),
    _time_rule("%m/%d/%Y %H:%M:%S"),
    _time_rule("%d.%m.%Y %H:%M"),
    _day_rule("%d %b %Y"),
    _TextRule("str", name=_ID),
    _TextRule("bool", values=re.compile("(?i)true|false")),
    _TextRule("Decimal", values=_INTEGER, name=_MONEY),
    _TextRule("int", values=_INTEGER, csv=True),
    _TextRule("int", values=_INTEGER, name=_COUNT),
    _TextRule("str", values=_INTEGER),
)


def _number_rules(format_: str) -> tuple[_TextRule, ...]:
    """The rules for numbers in the format of the sample."""
    thousands, point = _SEPARATORS[format_]
    whole = rf"\d{{1,3}}({thousands}\d{{3}})+|\d+"
    rule = _TextRule("Decimal", part=_digits, options={"number": format_}, notes=_WRITTEN)
    number = rule._replace(values=re.compile(rf"({whole})({point}\d+)?"))
    return (number._replace(name=_MONEY), rule._replace(type="int", values=re.compile(whole)), number)


def _without_signs(value: str) -> str:
    """A number for people without currency and signs."""
    return re.sub(r"[^\d.,' ]", "", value).strip()


_WRITTEN = ("how numbers are written",)
_AMOUNT_OR_COUNT = re.compile(f"{_MONEY.pattern}|{_COUNT.pattern}")
# A guess between two readings of a number for people keeps the text.
_OTHER_NUMBERS = (
    _TextRule("Decimal", values=_NUMBER),
    *(
        _TextRule(
            "Decimal",
            values=re.compile(pattern),
            name=_AMOUNT_OR_COUNT,
            part=_without_signs,
            options={"number": format_},
            notes=_WRITTEN,
        )
        for format_, pattern in zip(
            NUMBER_FORMATS[:2], (r"\d{1,3}(,\d{3})*(\.\d{1,2})?", r"\d{1,3}(\.\d{3})*(,\d{1,2})?"), strict=True
        )
    ),
)


def _infer_texts(guess: Guess, values: Sequence[str], *, is_csv: bool, number_format: str) -> Guess:
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


# --- key and day ----------------------------------------------------------------------------------------------------


def _day(columns: Sequence[Guess]) -> Guess | None:
    """The day of a report's records: a day before a time, a name like one before any other."""
    times = [column for column in columns if column.type in ("date", "datetime") and not column.nullable]
    order: list[Callable[[Guess], bool]] = [
        lambda column: column.type == "date" and column.name in ("day", "report_date", "report_day"),
        lambda column: column.type == "date" and _TIME.search(column.name) is not None,
        lambda column: column.type == "date",
        lambda column: re.search(r"(^|_)(created|occurred|clicked|time|date)(_|$)", column.name) is not None,
        lambda column: True,
    ]
    return next((column for fits in order for column in times if fits(column)), None)


def _key(columns: Sequence[Guess], records: Sequence[Record], stream: str, day: Guess | None) -> tuple[str, ...]:
    """The fewest columns that identify a record of the sample (within its day), ids first; none if there are none."""
    singular = re.sub(r"ies$", "y", stream) if stream.endswith("ies") else stream.rstrip("s")
    candidates = [
        column
        for column in columns
        if column.type in ("str", "int", "date")
        and not column.nullable
        and not column.options.get("additive")
        and column.call == "column"
        and column is not day
        and not _RATE.search(column.name)
        and not _STATE.search(column.name)
        and not _are_currencies(record.get(column.member) for record in records)
    ]

    def rank(guess: Guess) -> int:
        if guess.name in ("id", f"{singular}_id", "uuid"):
            return 0
        return 1 if _ID.search(guess.name) else 2 if guess.type == "str" else 3

    candidates.sort(key=rank)
    is_daily = day is not None and day.type == "date"  # then a name identifies a record of a day
    alone = [candidate for candidate in candidates if rank(candidate) < (3 if is_daily else 2)]
    several = candidates[:8] if len(records) > 1 else []
    for count in (1, 2, 3):
        for chosen in combinations(alone if count == 1 else several, count):
            identities = {
                (_day_text(record, day), *(str(record.get(column.member)) for column in chosen)) for record in records
            }
            if len(identities) == len(records):
                return tuple(column.name for column in chosen)
    return ()


def _day_text(record: Record, day: Guess | None) -> str:
    """The day of a record as far as it shows in the text."""
    return "" if day is None else str(record.get(day.member))[:10]
