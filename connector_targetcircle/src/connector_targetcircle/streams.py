"""
The seven streams: three reports, the offers, and the streams below offers and trades.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, timedelta
from functools import partial
from typing import Any
from urllib.parse import unquote

from attrs import frozen
from penstock import (
    ConfigError,
    Envelope,
    Page,
    Parent,
    ProviderError,
    Refusal,
    Request,
    SinglePage,
    Skip,
    Slice,
    Stream,
)

from connector_targetcircle import records
from connector_targetcircle.config import FILTERS, TargetCircleSettings
from connector_targetcircle.source import (
    CLICKS_OPEN,
    LIMIT,
    PAGES,
    POLLS,
    TRANSACTIONS_OPEN,
    WRONG_INVENTORY,
    ReportPage,
    Reports,
    judge_body,
    judge_report,
)

WRONG_FORM = Refusal(
    "It may require the ad inventory in another form: try another codes_inventory_field (id, name or slug)."
)


@frozen
class OneFullList(SinglePage):
    """A list without pages: it ends at ``LIMIT``, so exactly that many rows may mean that there are more."""

    def first(self, request: Request) -> Request:
        return request.with_param("limit", str(LIMIT))

    def reached_ceiling(self, page: Page) -> bool:
        return page.count == LIMIT


# --- reports --------------------------------------------------------------------------------------------------------


def submission(stream: str, settings: TargetCircleSettings, slice_: Slice) -> Request:
    """The request for a report: unused options are sent as null, as in the document's examples."""
    required = period(settings, slice_) | ({"currency": settings.currency} if stream == "transactions" else {})
    options = dict.fromkeys(FILTERS[stream]) | dict(settings.filters.get(stream, {}))
    return Request.json("POST", settings.url(f"/{stream}"), {**required, **options, "limit": LIMIT})


def period(settings: TargetCircleSettings, slice_: Slice) -> dict[str, str]:
    """
    ``from`` and ``to`` of a slice that has days: its first and its last second, in UTC; or the midnight after it, whose
    rows another slice has, too.

    The document's examples end in 23:59:59, so ``to`` is taken to be included; times have no fractions there, so
    nothing lies between that second and the next day.
    """
    if slice_.start is None or slice_.end is None:
        return {}
    short_of_midnight = timedelta(seconds=1 if settings.period_end == "second" else 0)
    first, last = slice_.start.astimezone(UTC), slice_.end.astimezone(UTC) - short_of_midnight
    return {"from": f"{first:%Y-%m-%dT%H:%M:%SZ}", "to": f"{last:%Y-%m-%dT%H:%M:%SZ}"}


# --- offers and the streams below them ------------------------------------------------------------------------------


def offers(settings: TargetCircleSettings, slice_: Slice) -> Request:
    return Request(url=settings.url("/offers"), params=tuple(settings.filters.get("offers", {}).items()))


def slug_of_trade(row: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """
    The slug of a trade's offer: the last segment of ``offer.href`` (``/api/offers/691a1d``). Nothing for a trade
    without an offer; an offer without a link cannot be requested: an error.
    """
    offer = row["offer"]
    if offer is None:
        return
    href = offer.get("href") if isinstance(offer, Mapping) else None
    slug = unquote(href.partition("?")[0].rstrip("/").rpartition("/")[2]) if isinstance(href, str) else ""
    if not slug:
        raise ProviderError(
            f"a trade has an offer without a link in href: {str(offer)[:80]}",
            "Nothing was replaced. Report it to Target Circle; if the member has another name, the API changed.",
        )
    yield {"offer_slug": slug}


def details(settings: TargetCircleSettings, slice_: Slice) -> Request:
    """One offer by its slug. The slug is stamped, so that a response with another offer is rejected."""
    slug = slice_.parent["offer_slug"]
    return Request(url=settings.url("/offers/{slug}", slug=slug), columns={"slug": slug})


def codes(settings: TargetCircleSettings, slice_: Slice) -> Request:
    """Raises ConfigError where the inventory has no such field (offers, as documented, have no slug)."""
    inventory = slice_.parent[f"ad_inventory_{settings.codes_inventory_field}"]
    if inventory is None:
        raise ConfigError(
            f"codes_inventory_field is {settings.codes_inventory_field!r}, but Target Circle's offers name none for ad "
            f"inventory {slice_.parent['ad_inventory_id']}; use id or name."
        )
    offer = slice_.parent["id"]
    return Request(
        url=settings.url("/codes"),
        params=(
            ("offerId", str(offer)),
            ("adInventory", str(inventory)),
            *settings.filters.get("codes", {}).items(),
        ),
        columns={"offer_id": offer, "ad_inventory": str(inventory)},
    )


report = partial(
    Stream,
    envelope=ReportPage(),
    poller=lambda settings: Reports(base_url=settings.base_url, period_end=settings.period_end),
    paginator=PAGES,
    judge=judge_report,
    **POLLS,
)
of_days = partial(report, kind="report", key="row_key", day="report_date", inexact_bounds=True)
by_slug = partial(
    Stream,
    kind="snapshot",
    parent=Parent(stream="trades", columns=("offer",), links=slug_of_trade),
    judge=judge_body,
    statuses={404: Skip("Target Circle has no offer of this slug any more")},  # trades name offers that are gone
)

STREAMS = (
    of_days(
        name="transactions",
        summary="conversions with status and commission, in the configured currency",
        record=records.Transaction,
        day_of="saved",
        days_per_request=7,
        open_for=TRANSACTIONS_OPEN,
        requests=partial(submission, "transactions"),
    ),
    of_days(
        name="clicks",
        summary="clicks on the publisher's links",
        record=records.Click,
        day_of="click_date",
        open_for=CLICKS_OPEN,
        requests=partial(submission, "clicks"),
    ),
    report(
        name="trades",
        summary="agreements between ad inventories and offers, with prices",
        record=records.Trade,
        kind="snapshot",
        key="id",
        requests=partial(submission, "trades"),
    ),
    Stream(
        name="offers",
        summary="offers as each ad inventory sees them, at most 1000",
        record=records.Offer,
        kind="snapshot",
        key=("ad_inventory_id", "id"),
        requests=offers,
        envelope=Envelope(
            items="data",
            within="offers",
            stamps={"ad_inventory_id": "id", "ad_inventory_name": "name", "ad_inventory_slug": "slug"},
        ),
        paginator=OneFullList(),
        judge=judge_body,
    ),
    by_slug(
        name="offer_details",
        summary="the offers that trades name, one by one",
        record=records.OfferDetails,
        key="slug",
        envelope=Envelope(single=True),
        requests=details,
    ),
    by_slug(
        name="offer_ads",
        summary="banners and texts of the offers that trades name",
        record=records.OfferAd,
        key=("offer_slug", "slug"),
        path="/offers/{offer_slug}/ads",
    ),
    Stream(
        name="codes",
        summary="tracking codes, for each offer on each ad inventory",
        record=records.Code,
        kind="snapshot",
        key=("offer_id", "ad_inventory", "id"),
        parent=Parent(stream="offers", columns=("ad_inventory_id", "ad_inventory_name", "ad_inventory_slug", "id")),
        requests=codes,
        envelope=Envelope(items="data"),
        paginator=OneFullList(),
        judge=judge_body,
        statuses=dict.fromkeys(WRONG_INVENTORY, WRONG_FORM),
    ),
)
