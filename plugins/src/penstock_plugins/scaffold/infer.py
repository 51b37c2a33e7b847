"""
The record class of a sample: columns with types, key and day, guessed from names and values.

A guess that a person must confirm carries a note, which becomes a comment ``# review: ...`` behind its column.
"""

import keyword
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import combinations
from typing import Any

from attrs import evolve
from penstock import UsageError, camel, snake

from penstock_plugins.scaffold.guess import (
    COUNT,
    CURRENCIES,
    ID,
    MONEY,
    RATE,
    STATE,
    TIME,
    Guess,
    Guesses,
    Kind,
    are_currencies,
    singular_of,
)
from penstock_plugins.scaffold.personal import is_personal, is_secret
from penstock_plugins.scaffold.sample import Record, Sample
from penstock_plugins.scaffold.text_rules import format_of_numbers, infer_texts

_NULLS = ("--", "-", "N/A", "n/a", "NULL", "null", "0000-00-00")
_EPOCH_S, _EPOCH_MS = range(10**9, 4 * 10**9), range(10**12, 4 * 10**12)

# Names that a class body of columns would take away from its own annotations and calls.
_TAKEN = {
    *keyword.kwlist,
    "self",  # of the constructor
    "str",
    "int",
    "bool",
    "datetime",
    "decimal",
    "json",
    "added",
    "column",
    "derived",
    "money",
    "personal",
    "record",
    "row_key",
    "secret",
}


def guess_columns(
    sample: Sample, stream: str, *, report: bool, key: Sequence[str] = (), day: str | None = None
) -> Guesses:
    """
    The columns of a sample, its key and, of a report, the column of its day. ``key`` and ``day`` name the user's own
    choice, by column or member. Raises UsageError for a name that is none of the sample's, and for a key that several
    records of the sample have.
    """
    is_camel = sum(camel(snake(member)) == member for member in sample.members) > sum(
        snake(member) == member for member in sample.members
    )
    columns = _columns(sample, is_camel=is_camel)
    day_column = _named(columns, [day])[0] if day else _day(columns) if report else None
    named = _named(columns, key)
    _check_key(named, sample.records, day_column)
    chosen = tuple(column.name for column in named) or _key(columns, sample.records, stream, day_column)
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
    currencies += [member for member in sample.members if are_currencies(values[member])]
    number_format = format_of_numbers(values.values())
    columns: list[Guess] = []
    for member in sample.members:
        column = _column(member, values[member], is_csv=sample.format == "csv", number_format=number_format)
        column = evolve(column, within=sample.within if member in sample.inner else "")
        beside = [name for name in currencies if (name in sample.inner) == (member in sample.inner)]
        column = _with_whole_note(_with_currency(column, beside), values[member])
        columns.append(_with_member(column, columns, is_camel=is_camel))
    return columns


def _with_currency(column: Guess, currencies: Sequence[str]) -> Guess:
    """An amount as money in the currency beside it."""
    is_amount = MONEY.search(column.name) or re.search(r"(^|_)total$", column.name)
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


def _with_whole_note(column: Guess, values: Sequence[Any]) -> Guess:
    """A note to amounts that are whole numbers: as many cents would be invoiced a hundredfold."""
    present = [str(value) for value in values if value is not None and not _is_blank(value)]
    if column.type != "Decimal" or not MONEY.search(column.name):
        return column
    if not present or any(re.search(r"[^\d+-]", text) for text in present):
        return column
    return evolve(column, notes=(*column.notes, "cents, or the like? then add derived(of=..., scale=-2)"))


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
    return {"additive": False} if RATE.search(name) else {}


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
    if guess.call == "column" and is_personal(member) and not COUNT.search(name):
        return evolve(guess, call="personal")
    if guess.call == "column" and guess.type in ("int", "Decimal"):
        return _summed(guess)
    return guess


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and (not value.strip() or value in _NULLS)


def _summed(guess: Guess) -> Guess:
    is_money = guess.type == "Decimal" and MONEY.search(guess.name) is not None
    if not is_money and not COUNT.search(guess.name):
        return guess
    additive = {} if RATE.search(guess.name) else {"additive": True}
    last = guess.name.rpartition("_")[2].upper()
    unit = {"unit": last} if is_money and CURRENCIES.fullmatch(last) else {}
    notes = ('money; add its currency, unit="USD"',) if is_money and not unit and "number" not in guess.options else ()
    return evolve(guess, options={**guess.options, **unit, **additive}, notes=(*guess.notes, *notes))


def _typed(guess: Guess, values: Sequence[Any], *, is_csv: bool, number_format: str) -> Guess:
    """The column with the type that fits all values."""
    kinds = frozenset(map(type, values))
    if kinds == {dict}:
        return _infer_objects(guess, values)
    if kinds == {str}:
        return infer_texts(guess, values, is_csv=is_csv, number_format=number_format)
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
    codes = sorted(member for member in members if are_currencies(value.get(member) for value in values))
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
        if TIME.search(guess.name) and all(value in span for value in values):
            return evolve(guess, type="datetime", options={"format": format_}, notes=("a time, in UTC",))
    is_money = MONEY.search(guess.name) and not ID.search(guess.name)
    return evolve(guess, type="Decimal" if is_money else "int")


def _day(columns: Sequence[Guess]) -> Guess | None:
    """The day of a report's records: a day before a time, a name like one before any other."""
    times = [column for column in columns if column.type in ("date", "datetime") and not column.nullable]
    order: list[Callable[[Guess], bool]] = [
        lambda column: column.type == "date" and column.name in ("day", "report_date", "report_day"),
        lambda column: column.type == "date" and TIME.search(column.name) is not None,
        lambda column: column.type == "date",
        lambda column: re.search(r"(^|_)(created|occurred|clicked|time|date)(_|$)", column.name) is not None,
        lambda column: True,
    ]
    return next((column for fits in order for column in times if fits(column)), None)


def _key(columns: Sequence[Guess], records: Sequence[Record], stream: str, day: Guess | None) -> tuple[str, ...]:
    """The fewest columns that identify a record of the sample (within its day), ids first; none if there are none."""
    candidates = [
        column
        for column in columns
        if column.type in ("str", "int", "date")
        and not column.nullable
        and not column.options.get("additive")
        and column.call == "column"
        and column is not day
        and not RATE.search(column.name)
        and not STATE.search(column.name)
        and not are_currencies(record.get(column.member) for record in records)
    ]

    def rank(guess: Guess) -> int:
        if guess.name in ("id", f"{singular_of(stream)}_id", "uuid"):
            return 0
        return 1 if ID.search(guess.name) else 2 if guess.type == "str" else 3

    candidates.sort(key=rank)
    is_daily = day is not None and day.type == "date"  # then a name identifies a record of a day
    alone = [candidate for candidate in candidates if rank(candidate) < (3 if is_daily else 2)]
    several = candidates[:8] if len(records) > 1 else []
    for count in (1, 2, 3):
        for chosen in combinations(alone if count == 1 else several, count):
            if len({_identity(record, chosen, day) for record in records}) == len(records):
                return tuple(column.name for column in chosen)
    return ()


def _check_key(key: Sequence[Guess], records: Sequence[Record], day: Guess | None) -> None:
    """Raises UsageError if records of the sample with other values have the same key (within their day)."""
    first: dict[tuple[str, ...], Record] = {}
    for record in records if key else ():
        if first.setdefault(_identity(record, key, day), record) != record:
            text = ", ".join(f"{column.name} {record.get(column.member)}" for column in key)
            names = ",".join(column.name for column in key)
            raise UsageError(
                f"--key {names}: records of the sample with other values have the same key, such as {text}; a table "
                "keeps one of them. Name more columns, or none"
            )


def _identity(record: Record, key: Iterable[Guess], day: Guess | None) -> tuple[str, ...]:
    return (_day_text(record, day), *(str(record.get(column.member)) for column in key))


def _day_text(record: Record, day: Guess | None) -> str:
    """The day of a record as far as it shows in the text."""
    return "" if day is None else str(record.get(day.member))[:10]
