"""
The filters that Convertr documents for each collection, and their conversion to query parameters.

Source: the ``hydra:search`` template in the sample answer of each collection (names); the documentation of API
Platform, the framework whose conventions the answers show, for the meaning of ``[]``, ``[after]`` and ``order[...]``.
"""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

_BOUNDS = ("before", "strictly_before", "after", "strictly_after")


def _times(*members: str) -> tuple[str, ...]:
    """``before`` and ``after`` include their time, the strict ones do not."""
    return tuple(f"{member}[{bound}]" for member in members for bound in _BOUNDS)


def _or_list(*members: str) -> tuple[str, ...]:
    """A filter on exactly this value, or with ``[]`` on any of several."""
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
        "name",
        "idName",
        "status[]",
        "advertiser.name",
        "campaignManager",
        "accountManager",
        *_times("createdTs", "updatedTs", "startTs", "endTs"),
        *_orders("id", "name", "startTs", "endTs", "advertiser.name", "country.id", "country.iso"),
        *_orders(*_LEAD_COUNTS, *_EVENTS, "statistics.activePublishers", "statistics.totalSales", *_REVENUES),
    ),
    "campaign_publishers": (
        *_or_list("id", "campaign.id", "publisher.id", "publisherApplication.id", "publisherApplication.status"),
        *_or_list("currentContractStatus"),
        "campaign.name",
        "campaign.status[]",
        "publisher.name",
        "latest",
        *_times("createdTs", "updatedTs", "startTs", "endTs"),
        *_orders("id", "publisher.id", "publisher.name", "publisherApplication.id", "publisherApplication.status"),
        *_orders("campaign.id", "campaign.name", *_LEAD_COUNTS, *_EVENTS),
    ),
    "campaign_processr_jobs": (
        *_or_list("id", "campaign.id", "processrJob.processrJobCategory.id", "processrJob.id"),
        "processrJob.processrJobCategory.name",
        "shownOnCampaign",
        "alwaysDeliver",
        "grouped",
        *_times("updatedTs"),
        *_orders("id"),
    ),
}

# A list may be written under the bare name as well: ``status = ["Active"]`` is sent as ``status[]=Active``.
NAMES: Mapping[str, tuple[str, ...]] = {
    stream: tuple(dict.fromkeys((*names, *(name.removesuffix("[]") for name in names))))
    for stream, names in DOCUMENTED.items()
}


def problems(settings: Any, stream: str, name: str, value: Any) -> Iterator[str]:
    """The problems of one filter: values that cannot be sent, and bounds on the member that cuts the days."""
    bare, many = name.removesuffix("[]"), isinstance(value, (list, tuple))
    if stream == "leads" and name.partition("[")[0] == settings.cursor_field:
        yield f"the days of the run decide {settings.cursor_field}; use start, --since and --until"
    elif many and not value:
        yield "an empty list filters nothing; leave it out"
    elif many and f"{bare}[]" not in DOCUMENTED[stream]:
        yield "takes one value, found a list"
    elif not many and name not in DOCUMENTED[stream]:
        yield f'takes a list; write "{bare}[]"'
    else:
        yield from (problem for item in (value if many else (value,)) for problem in _unsendable(name, item))


def parameters(filters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The query parameters of a stream's filters, in the configured order; a list becomes one ``name[]`` each."""
    for name, value in filters.items():
        if isinstance(value, (list, tuple)):
            yield from ((f"{name.removesuffix('[]')}[]", _text(item)) for item in value)
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _unsendable(name: str, value: Any) -> Iterator[str]:
    if name.endswith(tuple(f"Ts[{bound}]" for bound in _BOUNDS)):
        # A bare date is midnight to the server, so "before" that date would lose the day.
        try:
            time = value if isinstance(value, date) else datetime.fromisoformat(value)
        except (TypeError, ValueError):
            time = None
        if not isinstance(time, datetime) or time.tzinfo is None:
            yield f"expected a time with its offset such as 2026-03-01T00:00:00+00:00, found {value!s}"
    elif not isinstance(value, (str, int, float, Decimal)):
        yield f"expected a text, a number or true/false, found {value!r}"
    elif name.startswith("order[") and value not in ("asc", "desc"):
        yield f'expected "asc" or "desc", found {value!r}'
