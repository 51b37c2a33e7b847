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
from typing import Any, Literal

from attrs import evolve, field, frozen
from penstock import NUMBER_FORMATS, UsageError, camel, snake

from penstock_plugins.scaffold.code import literal
from penstock_plugins.scaffold.sample import Record, Sample, is_personal, is_secret

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([.,]\d+)?\s*(?P<zone>Z|z|UTC|[+-]\d\d(:?\d\d)?)?")
_INTEGER = re.compile(r"-?(0|[1-9]\d*)")
_DECIMAL = re.compile(r"-?\d+\.\d+")
_FORMATS = ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d", "%Y%m%d", "%m/%d/%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d %b %Y")
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
    columns: list[Guess] = []
    values = {member: [record.get(member) for record in sample.records] for member in sample.members}
    currencies = [member for member in sample.members if re.search(r"(^|_)currency(_code)?$", snake(member))]
    currencies += [member for member in sample.members if _are_currencies(values[member])]
    number_format = _number_format(values.values())
    for member in sample.members:
        column = _column(member, values[member], is_csv=sample.format == "csv", number_format=number_format)
        column = evolve(column, within=sample.within if member in sample.inner else "")
        beside = [name for name in currencies if (name in sample.inner) == (member in sample.inner)]
        is_amount = _MONEY.search(column.name) or re.search(r"(^|_)total$", column.name)
        if column.call == "column" and column.type == "Decimal" and is_amount and beside:
            kept = {name: value for name, value in column.options.items() if name != "additive"}
            notes = tuple(note for note in column.notes if not note.startswith("money;"))
            options = {"currency": beside[0], **_rate_option(column.name), **kept}
            column = evolve(column, call="money", path=member, options=options, notes=notes)
        name = _free_name(column.name, columns)
        if (camel(name) if is_camel else name) != member and column.call != "money":
            column = evolve(column, options={"member": member, **column.options})
        elif column.call == "money" and not column.path:
            column = evolve(column, path=member)
        columns.append(evolve(column, name=name))
    days = _named(columns, [day])[0] if day else _day(columns) if report else None
    chosen = tuple(column.name for column in _named(columns, key)) or _key(columns, sample.records, stream, days)
    guessed_key = not key and bool(chosen)
    for at, column in enumerate(columns):
        if column.name in chosen:
            notes = (*column.notes, "part of the key") if guessed_key else column.notes
            columns[at] = evolve(column, nullable=False, notes=notes)
        elif days is not None and column.name == days.name and not day:
            columns[at] = evolve(column, notes=(*column.notes, "the day of a record"))
    scalars = tuple(column.name for column in columns if column.type != "Json" and column.call != "secret")
    return Guesses(
        columns=tuple(columns),
        camel=is_camel,
        key=chosen,
        hashed=() if chosen else scalars,
        day=next((column for column in columns if days is not None and column.name == days.name), None),
    )


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
    known = [value for value in values if value not in (None, "")]
    return bool(known) and all(isinstance(value, str) and _CURRENCIES.fullmatch(value) for value in known)


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
    known = [value for value in values if value is not None and not _is_blank(value)]
    guess = evolve(guess, nullable=len(known) < len(values))
    if not known:
        return evolve(guess, nullable=True, notes=("empty in every record of the sample",))
    guess = _typed(guess, known, is_csv=is_csv, number_format=number_format)
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
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return evolve(guess, type="bool")
    if kinds == {dict}:
        return _infer_objects(guess, values)
    if kinds <= {int, Decimal}:
        return _infer_numbers(guess, values)
    if kinds == {str}:
        return _infer_texts(guess, values, is_csv=is_csv, number_format=number_format)
    if kinds == {str, int}:
        return evolve(guess, notes=("text and numbers",))
    return evolve(guess, type="Json")


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


def _infer_numbers(guess: Guess, values: Sequence[Any]) -> Guess:
    if all(isinstance(value, int) for value in values):
        for format_, span in (("epoch_s", _EPOCH_S), ("epoch_ms", _EPOCH_MS)):
            if _TIME.search(guess.name) and all(value in span for value in values):
                return evolve(guess, type="datetime", options={"format": format_}, notes=("a time, in UTC",))
        is_money = _MONEY.search(guess.name) and not _ID.search(guess.name)
        return evolve(guess, type="Decimal" if is_money else "int")
    return evolve(guess, type="Decimal")


def _infer_texts(guess: Guess, values: Sequence[str], *, is_csv: bool, number_format: str) -> Guess:
    def all_are(pattern: "re.Pattern[str]") -> bool:
        return all(pattern.fullmatch(value) for value in values)

    if all_are(_DATE):
        return evolve(guess, type="date")
    if all_are(_DATETIME):
        zoned = [match["zone"] is not None for value in values if (match := _DATETIME.fullmatch(value))]
        if all(zoned):
            return evolve(guess, type="datetime")
        return evolve(guess, type="datetime", options={"zone": "naive"}) if not any(zoned) else guess
    for format_ in _FORMATS:
        if all(_has_format(value, format_) for value in values) and (format_ != "%Y%m%d" or _TIME.search(guess.name)):
            timed = "%H" in format_
            unsure = format_.startswith(("%m/", "%d/")) and all(
                int(re.split("[/ ]", value)[1]) <= 12 for value in values
            )
            options = {"format": format_, **({"zone": "naive"} if timed else {})}
            notes = ("month or day first?",) if unsure else ()
            return evolve(guess, type="datetime" if timed else "date", options=options, notes=notes)
    if _ID.search(guess.name):
        return guess
    if all_are(re.compile("(?i)true|false")):
        return evolve(guess, type="bool")
    if number_format and not all_are(_INTEGER) and (numbers := _infer_format(guess, values, number_format)) is not None:
        return numbers
    numeric = all(_INTEGER.fullmatch(value) or _DECIMAL.fullmatch(value) for value in values)
    if numeric and (_MONEY.search(guess.name) or not all_are(_INTEGER)):
        return evolve(guess, type="Decimal")
    if numeric and (is_csv or _COUNT.search(guess.name)):
        return evolve(guess, type="int")
    if _MONEY.search(guess.name) or _COUNT.search(guess.name):
        return _infer_spelled_numbers(guess, values)
    return guess


def _has_format(value: str, format_: str) -> bool:
    try:
        datetime.strptime(value, format_)  # noqa: DTZ007  only whether it fits
    except ValueError:
        return False
    return True


def _infer_format(guess: Guess, values: Sequence[str], format_: str) -> Guess | None:
    """Numbers in the form of the sample; None where the values are none."""
    thousands, point = _SEPARATORS[format_]
    whole = rf"\d{{1,3}}({thousands}\d{{3}})+|\d+"
    if not all(re.fullmatch(rf"({whole})({point}\d+)?", _digits(value)) for value in values):
        return None
    is_whole = all(re.fullmatch(whole, _digits(value)) for value in values) and not _MONEY.search(guess.name)
    notes = ("how numbers are written",)
    return evolve(guess, type="int" if is_whole else "Decimal", options={"number": format_}, notes=notes)


def _infer_spelled_numbers(guess: Guess, values: Sequence[str]) -> Guess:
    """Numbers for people: separators, currency signs. A guess between two readings keeps the text."""
    digits = [re.sub(r"[^\d.,' ]", "", value).strip() for value in values]
    for format_, pattern in zip(
        NUMBER_FORMATS[:2], (r"\d{1,3}(,\d{3})*(\.\d{1,2})?", r"\d{1,3}(\.\d{3})*(,\d{1,2})?"), strict=True
    ):
        if all(re.fullmatch(pattern, text) for text in digits) and all(re.search(r"\d", text) for text in digits):
            return evolve(guess, type="Decimal", options={"number": format_}, notes=("how numbers are written",))
    return guess


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
