"""
Patterns of the names of columns: money, rates, counts, ids, times and states; and the codes of currencies.
"""

import re
from collections.abc import Iterable
from typing import Any

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


def are_currencies(values: Iterable[Any]) -> bool:
    present = [value for value in values if value not in (None, "")]
    return bool(present) and all(isinstance(value, str) and CURRENCIES.fullmatch(value) for value in present)
