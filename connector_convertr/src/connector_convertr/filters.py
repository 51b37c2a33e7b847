"""
The filters that Convertr documents for each collection, and how a configured one becomes query parameters.

Source: the ``hydra:search`` template in the sample answer of each collection (names); what ``[]``, ``[after]`` and
``order[...]`` mean is from the documentation of API Platform, the framework whose conventions the answers show.
"""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

_BOUNDS = ("before", "strictly_before", "after", "strictly_after")


def _times(*members: str) -> tuple[str, ...]:
    """``before`` and ``after`` include their moment, the strict ones do not."""
    return tuple(f"{member}[{bound}]" for member in members for bound in _BOUNDS)


def _or_list(*members: str) -> tuple[str, ...]:
    """Exactly this value, or with ``[]`` any of several."""
    return tuple(name for member in members for name in (member, f"{member}[]"))


def _orders(*members: str) -> tuple[str, ...]:
    return tuple(f"order[{member}]" for member in members)


_LEAD_COUNTS = tuple(
    f"statistics.{kind}Leads" for kind in ("invalid", "valid", "caution", "held", "processing", "billable")
)
_EVENTS = ("statistics.impressions", "statistics.conversions", "statistics.clicks")
_REVENUES = ("statistics.campaignRevenue.revenue", "statistics.campaignRevenue.baseCurrencyRevenue")

DOCUMENTED: Mapping[str, tuple[str, ...]] = {
    "leads": (*_or_list("id", "campaign.id"), "email", *_orders("id"), *_times("createdTs", "updatedTs")),
    "campaigns": (
        *_or_list("id", "campaignProcessrJobs.processrJob.id", "campaignPublishers.publisher.id", "advertiser.id"),
        *_or_list("country.id", "country.iso"),
        *("name", "idName", "status[]", "advertiser.name", "campaignManager", "accountManager"),
        *_times("createdTs", "updatedTs", "startTs", "endTs"),
        *_orders("id", "name", "startTs", "endTs", "advertiser.name", "country.id", "country.iso"),
        *_orders(*_LEAD_COUNTS, *_EVENTS, "statistics.activePublishers", "statistics.totalSales", *_REVENUES),
    ),
    "campaign_publishers": (
        *_or_list("id", "campaign.id", "publisher.id", "publisherApplication.id", "publisherApplication.status"),
        *_or_list("currentContractStatus"),
        *("campaign.name", "campaign.status[]", "publisher.name", "latest"),
        *_times("createdTs", "updatedTs", "startTs", "endTs"),
        *_orders("id", "publisher.id", "publisher.name", "publisherApplication.id", "publisherApplication.status"),
        *_orders("campaign.id", "campaign.name", *_LEAD_COUNTS, *_EVENTS),
    ),
    "campaign_processr_jobs": (
        *_or_list("id", "campaign.id", "processrJob.processrJobCategory.id", "processrJob.id"),
        *("processrJob.processrJobCategory.name", "shownOnCampaign", "alwaysDeliver", "grouped"),
        *_times("updatedTs"),
        *_orders("id"),
    ),
}

Filters = Mapping[str, Mapping[str, Any]]


def problems(filters: Filters, cursor: str) -> Iterator[str]:
    """
    What is wrong with the configured ``filters``, one text each: unknown streams and names, values that cannot be
    sent, and bounds on ``cursor``, the member whose window the planned days already decide.
    """
    for stream, table in filters.items():
        if stream not in DOCUMENTED:
            yield f"{stream}: no stream with filters has this name{_nearest(stream, DOCUMENTED)}"
            continue
        if not isinstance(table, Mapping):
            yield f"{stream}: wanted a table of names and values, found {table!r}"
            continue
        for name, value in table.items():
            yield from (f'{stream}."{name}": {reason}' for reason in _wrong(stream, name, value, cursor))


def _wrong(stream: str, name: str, value: Any, cursor: str) -> Iterator[str]:
    """What is wrong with one filter of a stream."""
    documented, many = DOCUMENTED[stream], _is_list(value)
    if name not in documented and not (many and f"{name}[]" in documented):
        yield f"Convertr documents no such filter{_nearest(name, documented)}"
    elif stream == "leads" and name.partition("[")[0] == cursor:
        yield f"the days asked for already decide {cursor}; use start, --since and --until"
    elif many and not value:
        yield "an empty list filters nothing; leave it out"
    elif many and not name.endswith("[]") and f"{name}[]" not in documented:
        yield "takes one value, found a list"
    else:
        for one in value if many else (value,):
            yield from _unsendable(name, one)


def parameters(filters: Filters, stream: str) -> Iterator[tuple[str, str]]:
    """The query parameters of ``stream``'s filters, in the configured order; a list becomes one ``name[]`` each."""
    for name, value in filters.get(stream, {}).items():
        if _is_list(value):
            several = name if name.endswith("[]") else f"{name}[]"
            yield from ((several, _text(one)) for one in value)
        else:
            yield name, _text(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _unsendable(name: str, value: Any) -> Iterator[str]:
    if name.endswith(tuple(f"Ts[{bound}]" for bound in _BOUNDS)):
        # A bare date is midnight to the server, so "before" that date would lose the day.
        try:
            moment = value if isinstance(value, date) else datetime.fromisoformat(value)
        except (TypeError, ValueError):
            moment = None
        if not isinstance(moment, datetime) or moment.tzinfo is None:
            yield f"wanted a moment with its offset such as 2026-03-01T00:00:00+00:00, found {value!s}"
    elif not isinstance(value, (str, int, float, Decimal)):
        yield f"wanted a text, a number or true/false, found {value!r}"
    elif name.startswith("order[") and value not in ("asc", "desc"):
        yield f'wanted "asc" or "desc", found {value!r}'


def _nearest(name: str, known: Any) -> str:
    found = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else f"; known are {', '.join(sorted(known))}"
