"""
A guessed column, the record class of a sample, and the patterns of names by which columns are guessed.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from attrs import field, frozen

from penstock_plugins.scaffold.code import literal

MONEY = re.compile(
    r"(^|_)(price|amount|cost|costs|revenue|spend|spent|fees?|commission|payout|balance|budget|bid|cp[acmliv]|e_?cpm|"
    r"earnings?|salary|value|sales_amount|order_value|gross|net|tax|vat|subtotal|discount|refund|turnover|"
    r"preis|betrag|kosten|ausgaben|umsatz|provision|verguetung|montant|prix|depenses?|ingresos|gastos?|coste|importe)(_|$)"
)
RATE = re.compile(
    r"(^|_)(cp[acmliv]|e_?cpm|ctr|cvr|rate|ratio|avg|average|bid|budget|balance|percent\w*|position)(_|$)"
)
COUNT = re.compile(
    r"(^|_)(clicks|impressions|conversions|views|installs|leads|orders|sales|applies|applications|quantity|visits|"
    r"sessions|hires|klicks|impressionen|clics|impresiones)$"
)
ID = re.compile(r"(^|_)(id|uuid|guid|key|code|reference|ref|number)$")
TIME = re.compile(
    r"(^|_)(at|time|date|day|timestamp|ts|on|created|updated|modified|epoch|unix)(_(ms|millis|milliseconds|s|seconds|utc))?$"
)
STATE = re.compile(r"(^|_)(status|state|stage|phase)$")  # what a provider changes: never a part of a key

# Codes that a column of currencies has; others are recognised by the column's name.
CURRENCIES = re.compile(
    "AED|ARS|AUD|BGN|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|HKD|HUF|IDR|ILS|INR|ISK|JPY|KRW|MXN|MYR|NOK|NZD|PEN|"
    "PHP|PLN|RON|RSD|RUB|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)

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


def singular_of(name: str) -> str:
    """The name of one of the records of a stream: ``entry`` of ``entries``, ``click`` of ``clicks``."""
    if name.endswith("ies"):
        return f"{name[:-3]}y"
    return name[:-1] if name.endswith("s") and not name.endswith("ss") and name != "s" else name


def are_currencies(values: Iterable[Any]) -> bool:
    present = [value for value in values if value not in (None, "")]
    return bool(present) and all(isinstance(value, str) and CURRENCIES.fullmatch(value) for value in present)
